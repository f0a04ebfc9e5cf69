// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM introspection: while one vCPU is let through to a restricted page, none
 * of the others gets through unseen.
 *
 * One vCPU executes instructions on a page, or has exceptions delivered by way
 * of it, and all its events are answered with CONTINUE.  Another uses the same
 * page all the while and counts how often: it has to be reported just as often.
 *
 * Nor does anyone see an access half done, or get in between the two halves of one
 * that is locked: another vCPU, or the VMM, which uses that page without asking.
 *
 * And how more vCPUs go on at a time than KVM has translations for.
 */
#include <pthread.h>

#include "test_util.h"
#include "kvm_util.h"
#include "kselftest_harness.h"
#include "kvmi_util.h"
#include "svm_util.h"
#include "vmx.h"

#define R	KVMI_PAGE_ACCESS_R
#define W	KVMI_PAGE_ACCESS_W
#define X	KVMI_PAGE_ACCESS_X

#define PAGE		3	/* the restricted one */
#define STOP_PAGE	5
#define PML4_PAGE	8

/* In the restricted page: what either vCPU uses, and code */
#define DATA_0		0x100
#define DATA_1		0x800
/* 8 bytes of it are in the next page. */
#define DATA_CROSS	(PAGE_SIZE - 4)
#define CODE_0		0xa00
#define CODE_1		0xc00
#define CODE_CR3	0xe00

/* The stack that grows down to what the first vCPU uses */
#define STACK_TOP	0x7f0

#define ROUNDS		40
/* Exceptions, whose handler uses the page as well if it is the stack */
#define DELIVERIES	12
/* The other vCPU's, at the least */
#define MIN_ACCESSES	20

/* ---- in the guest ---- */

/* Of the first vCPU: @val rounds on the data at @gva */
KVMI_INSN(emulated);
KVMI_INSN(native);
/* ... or of the code at @gva */
KVMI_INSN(code);
extern char native_code[], native_code_end[];
/* The same, with code that changes CR3: to @arg, and back the next time. */
KVMI_INSN(switch);
extern char cr3_code[], cr3_code_end[];

/* Reads 8 bytes at @gva, and KVM cannot emulate it. */
KVMI_INSN(fild);

/*
 * Of the second: until what is at @val is not 0; return how often.  Interrupts
 * are on, see kvmi_insn_spin.
 */
KVMI_INSN(hammer_read);
KVMI_INSN(hammer_write);
KVMI_INSN(hammer_exec);

/* @val times, 0 and all ones by turns to @gva */
KVMI_INSN(store2);
KVMI_INSN(store4);
KVMI_INSN(store8);
/* ... or from there; return how often it was neither */
KVMI_INSN(load2);
KVMI_INSN(load4);
KVMI_INSN(load8);

/* @val times, add 1 to what is at @gva; the first by way of the carry flag */
KVMI_INSN(lock_adc);
KVMI_INSN(lock_inc);
/* @val times, return the sum of what was at @gva, and leave 0 there */
KVMI_INSN(xchg);

asm(".pushsection .text\n"
	"kvmi_insn_emulated:\n"
	"1: addq $1, (%rdi)\n\t"
	"movq %rsi, 8(%rdi)\n\t"
	"movq 8(%rdi), %rax\n\t"
	"lock xaddq %rax, 16(%rdi)\n\t"
	"dec %rsi\n\t"
	"jnz 1b\n\t"
	"ret\n"
	"kvmi_insn_native:\n\t"
	"mov $1, %eax\n\t"
	"movd %eax, %xmm1\n"
	"1: paddd (%rdi), %xmm1\n\t"
	"movd %xmm1, 8(%rdi)\n\t"
	"fildl 8(%rdi)\n\t"
	"fistpll 16(%rdi)\n\t"
	"dec %rsi\n\t"
	"jnz 1b\n\t"
	"ret\n"
	"kvmi_insn_code:\n"
	"1: call *%rdi\n\t"
	"dec %rsi\n\t"
	"jnz 1b\n\t"
	"ret\n"
	"native_code:\n\t"
	"paddd %xmm1, %xmm2\n\t"
	"ret\n"
	"native_code_end:\n"
	"kvmi_insn_switch:\n\t"
	"mov %cr3, %r8\n"
	"1: call *%rdi\n\t"
	"xchg %rdx, %r8\n\t"
	"dec %rsi\n\t"
	"jnz 1b\n\t"
	"ret\n"
	"cr3_code:\n\t"
	"mov %rdx, %cr3\n\t"
	"ret\n"
	"cr3_code_end:\n"
	"kvmi_insn_fild:\n\t"
	"fildll (%rdi)\n\t"
	"push %rax\n\t"
	"fistpll (%rsp)\n\t"
	"pop %rax\n\t"
	"ret\n"
	"kvmi_insn_hammer_read:\n\t"
	"xor %eax, %eax\n\t"
	"sti\n"
	"1: movq (%rdi), %rcx\n\t"
	"inc %rax\n\t"
	"cmpq $0, (%rsi)\n\t"
	"je 1b\n\t"
	"cli\n\t"
	"ret\n"
	"kvmi_insn_hammer_write:\n\t"
	"xor %eax, %eax\n\t"
	"sti\n"
	"1: inc %rax\n\t"
	"movq %rax, (%rdi)\n\t"
	"cmpq $0, (%rsi)\n\t"
	"je 1b\n\t"
	"cli\n\t"
	"ret\n"
	"kvmi_insn_hammer_exec:\n\t"
	"xor %eax, %eax\n\t"
	"sti\n"
	"1: call *%rdi\n\t"
	"inc %rax\n\t"
	"cmpq $0, (%rsi)\n\t"
	"je 1b\n\t"
	"cli\n\t"
	"ret\n"
	".popsection");

#define STORES(bytes, reg)				\
	"kvmi_insn_store" #bytes ":\n\t"		\
	"xor %eax, %eax\n"				\
	"1: not %rax\n\t"				\
	"mov %" #reg ", (%rdi)\n\t"			\
	"dec %rsi\n\t"					\
	"jnz 1b\n\t"					\
	"ret\n"

/* 1 more than what it has read is 0 or 1. */
#define LOADS(bytes, reg)				\
	"kvmi_insn_load" #bytes ":\n\t"		\
	"xor %eax, %eax\n"				\
	"1: mov (%rdi), %" #reg "\n\t"			\
	"inc %" #reg "\n\t"				\
	"cmp $1, %" #reg "\n\t"			\
	"seta %dl\n\t"					\
	"movzbl %dl, %edx\n\t"				\
	"add %rdx, %rax\n\t"				\
	"dec %rsi\n\t"					\
	"jnz 1b\n\t"					\
	"ret\n"

asm(".pushsection .text\n"
	STORES(2, ax) STORES(4, eax) STORES(8, rax)
	LOADS(2, cx) LOADS(4, ecx) LOADS(8, rcx)
	"kvmi_insn_lock_adc:\n"
	"1: stc\n\t"
	"lock adcq $0, (%rdi)\n\t"
	"dec %rsi\n\t"
	"jnz 1b\n\t"
	"ret\n"
	"kvmi_insn_lock_inc:\n"
	"1: lock incq (%rdi)\n\t"
	"dec %rsi\n\t"
	"jnz 1b\n\t"
	"ret\n"
	"kvmi_insn_xchg:\n\t"
	"xor %eax, %eax\n"
	"1: xor %ecx, %ecx\n\t"
	"xchg %rcx, (%rdi)\n\t"
	"add %rcx, %rax\n\t"
	"dec %rsi\n\t"
	"jnz 1b\n\t"
	"ret\n"
	".popsection");

/* ---- the VMM and the tool ---- */

FIXTURE(smp)
{
	struct kvmi_env env;
	bool can_step;
};

FIXTURE_SETUP(smp)
{
	struct kvmi_env *env = &self->env;

	kvmi_env_create(env, 2);
	memcpy(kvmi_hva(env, PAGE, CODE_0), native_code,
	       native_code_end - native_code);
	memcpy(kvmi_hva(env, PAGE, CODE_CR3), cr3_code,
	       cr3_code_end - cr3_code);
	/* ret */
	memset(kvmi_hva(env, PAGE, CODE_1), 0xc3, 16);
	kvmi_env_hook(env);
	kvmi_control_event(env, 0, KVMI_VCPU_EVENT_PF, true);
	kvmi_control_event(env, 1, KVMI_VCPU_EVENT_PF, true);
	self->can_step = kvmi_can_step(&env->tool);

	/* all that there is, by way of another page */
	memcpy(kvmi_hva(env, PML4_PAGE, 0),
	       addr_gpa2hva(env->vm, env->vm->pgd), PAGE_SIZE);
	env->run[0].req->arg = kvmi_gpa(PML4_PAGE, 0);
}

FIXTURE_TEARDOWN(smp)
{
	kvmi_env_destroy(&self->env);
}

struct counts {
	/* for each vCPU: events for reading, writing, executing */
	unsigned int r[2], w[2], x[2];
};

static void count(struct counts *c, const struct kvmi_event *ev)
{
	unsigned int page = (ev->pf.gpa - KVMI_TEST_GPA) / PAGE_SIZE;

	TEST_ASSERT_EQ(ev->event, KVMI_VCPU_EVENT_PF);
	TEST_ASSERT(page == PAGE || page == PAGE + 1, "gpa %#llx", ev->pf.gpa);
	switch (ev->pf.access) {
	case R:
		c->r[ev->vcpu]++;
		break;
	case W:
		c->w[ev->vcpu]++;
		break;
	case X:
		c->x[ev->vcpu]++;
		break;
	}
}

/* Answers events until vCPU @vcpu has finished, or has made @nr accesses. */
static void answer(struct kvmi_env *env, struct counts *c, unsigned int vcpu,
		   unsigned int nr)
{
	struct kvmi_event ev;
	unsigned int idle = 0;

	for (;;) {
		if (nr ? c->r[vcpu] + c->w[vcpu] + c->x[vcpu] >= nr :
			 kvmi_runner_poll(&env->run[vcpu], 0))
			return;
		if (kvmi_poll_event(&env->tool, &ev, 20)) {
			count(c, &ev);
			kvmi_reply(&env->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
			idle = 0;
			continue;
		}
		TEST_ASSERT(++idle < KVMI_TIMEOUT_MS / 20, "neither event nor end");
	}
}

static void check_exit(struct kvmi_runner *r)
{
	TEST_ASSERT(!r->ret && r->uc.cmd == UCALL_SYNC,
		    "KVM_RUN: %d, errno %d, exit %u (%s)", r->ret, r->err,
		    r->vcpu->run->exit_reason,
		    exit_reason_str(r->vcpu->run->exit_reason));
}

struct form {
	kvmi_insn insn;
	unsigned int offset;
	/* how often it is executed by itself, instead of some rounds at once */
	unsigned int times;
	/* how often each round reads, writes and executes the page */
	unsigned int r, w, x;
};

/*
 * Has the first vCPU execute @f while the other does @hammer, with @access left
 * to the page.  Returns how often the other did.
 */
static uint64_t run(struct kvmi_env *env, uint8_t access, const struct form *f,
		    kvmi_insn hammer, unsigned int hammer_offset,
		    struct counts *c)
{
	volatile uint64_t *stop = kvmi_hva(env, STOP_PAGE, 0);
	struct kvmi_runner *r = env->run;
	unsigned int i;

	memset(c, 0, sizeof(*c));
	*stop = 0;
	kvmi_set_page_access(&env->tool, kvmi_gpa(PAGE, 0), access);
	kvmi_runner_do(&r[1], hammer, kvmi_gva(PAGE, hammer_offset),
		       kvmi_gva(STOP_PAGE, 0));
	/* both at once, not one after the other */
	answer(env, c, 1, 1);
	for (i = 0; i < max(f->times, 1u); i++) {
		kvmi_runner_do(&r[0], f->insn, kvmi_gva(PAGE, f->offset),
			       ROUNDS);
		answer(env, c, 0, 0);
		check_exit(&r[0]);
	}
	answer(env, c, 1, MIN_ACCESSES);
	*stop = 1;
	answer(env, c, 1, 0);
	check_exit(&r[1]);
	kvmi_no_event(&env->tool);

	return r[1].req->result;
}

/* ---- the tests ---- */

static const struct form emulated = {
	.insn = kvmi_insn_emulated, .offset = DATA_0, .r = 3, .w = 3,
};

static const struct form native = {
	.insn = kvmi_insn_native, .offset = DATA_0, .r = 2, .w = 2,
};

static const struct form code = {
	.insn = kvmi_insn_code, .offset = CODE_0, .x = 2,
};

/* It ends with the CR3 that it begins with. */
static_assert(ROUNDS % 2 == 0);
static const struct form switches = {
	.insn = kvmi_insn_switch, .offset = CODE_CR3, .x = 2,
};

/* The IDT is read, or a frame pushed; then the handler goes on with the stack. */
static const struct form idt = {
	.insn = kvmi_insn_ud, .times = DELIVERIES,
};

static const struct form stack = {
	.insn = kvmi_insn_ud_stack, .offset = STACK_TOP, .times = DELIVERIES,
};

/* Of the second vCPU: is each of its accesses reported? */
static void check_other(struct kvmi_env *env, uint8_t access,
			const struct form *f, kvmi_insn hammer, struct counts *c)
{
	bool reads = hammer == kvmi_insn_hammer_read;
	bool writes = hammer == kvmi_insn_hammer_write;
	bool execs = hammer == kvmi_insn_hammer_exec;
	uint64_t nr;

	nr = run(env, access, f, hammer, execs ? CODE_1 : DATA_1, c);

	TEST_ASSERT(c->r[1] == (reads && !(access & R) ? nr : 0) &&
		    c->w[1] == (writes && !(access & W) ? nr : 0) &&
		    c->x[1] == (execs && !(access & X) ? nr : 0),
		    "access %u: %lu times, reported %u R %u W %u X", access,
		    nr, c->r[1], c->w[1], c->x[1]);
	TEST_ASSERT(nr >= MIN_ACCESSES, "only %lu times", nr);
	if (writes)
		TEST_ASSERT_EQ(*(uint64_t *)kvmi_hva(env, PAGE, DATA_1), nr);
}

static void check(struct kvmi_env *env, uint8_t access, const struct form *f,
		  kvmi_insn hammer)
{
	struct counts c;

	check_other(env, access, f, hammer, &c);
	TEST_ASSERT(c.r[0] == (access & R ? 0 : ROUNDS * f->r) &&
		    c.w[0] == (access & W ? 0 : ROUNDS * f->w) &&
		    c.x[0] == (access & X ? 0 : ROUNDS * f->x),
		    "access %u: reported %u R %u W %u X of the first vCPU",
		    access, c.r[0], c.w[0], c.x[0]);
}

#define CANNOT_STEP	"needs a step, and the machine cannot"

/* The other vCPU's accesses have to be of a kind that is restricted. */
TEST_F_TIMEOUT(smp, emulated_and_reads, KVMI_TEST_TIMEOUT)
{
	check(&self->env, 0, &emulated, kvmi_insn_hammer_read);
	check(&self->env, W | X, &emulated, kvmi_insn_hammer_read);
}

TEST_F_TIMEOUT(smp, emulated_and_writes, KVMI_TEST_TIMEOUT)
{
	check(&self->env, 0, &emulated, kvmi_insn_hammer_write);
	check(&self->env, R | X, &emulated, kvmi_insn_hammer_write);
}

TEST_F_TIMEOUT(smp, emulated_and_fetches, KVMI_TEST_TIMEOUT)
{
	check(&self->env, 0, &emulated, kvmi_insn_hammer_exec);
}

TEST_F_TIMEOUT(smp, native_and_reads, KVMI_TEST_TIMEOUT)
{
	if (!self->can_step)
		SKIP(return, CANNOT_STEP);

	check(&self->env, 0, &native, kvmi_insn_hammer_read);
	check(&self->env, W | X, &native, kvmi_insn_hammer_read);
}

TEST_F_TIMEOUT(smp, native_and_writes, KVMI_TEST_TIMEOUT)
{
	if (!self->can_step)
		SKIP(return, CANNOT_STEP);

	check(&self->env, 0, &native, kvmi_insn_hammer_write);
	check(&self->env, R | X, &native, kvmi_insn_hammer_write);
}

TEST_F_TIMEOUT(smp, native_and_fetches, KVMI_TEST_TIMEOUT)
{
	if (!self->can_step)
		SKIP(return, CANNOT_STEP);

	check(&self->env, 0, &native, kvmi_insn_hammer_exec);
	check(&self->env, 0, &code, kvmi_insn_hammer_exec);
	check(&self->env, R | W, &code, kvmi_insn_hammer_exec);
}

TEST_F_TIMEOUT(smp, native_code_and_writes, KVMI_TEST_TIMEOUT)
{
	if (!self->can_step)
		SKIP(return, CANNOT_STEP);

	check(&self->env, 0, &code, kvmi_insn_hammer_write);
}

/* What the step began with is not what the vCPU has to be taken off again. */
TEST_F_TIMEOUT(smp, cr3_and_fetches, KVMI_TEST_TIMEOUT)
{
	if (!self->can_step)
		SKIP(return, CANNOT_STEP);

	check(&self->env, 0, &switches, kvmi_insn_hammer_exec);
	check(&self->env, R | W, &switches, kvmi_insn_hammer_exec);
}

static void skip_ud(struct ex_regs *regs)
{
	regs->rip += 2;
}

/* A copy of the IDT, the unused end of which has what the second vCPU uses */
static void set_idt(struct kvmi_env *env)
{
	struct kvm_sregs sregs;

	vcpu_sregs_get(env->run[0].vcpu, &sregs);
	memcpy(kvmi_hva(env, PAGE, 0),
	       addr_gva2hva(env->vm, sregs.idt.base), DATA_1);
	sregs.idt.base = kvmi_gva(PAGE, 0);
	sregs.idt.limit = DATA_1 - 1;
	vcpu_sregs_set(env->run[0].vcpu, &sregs);
}

static void check_delivery(struct kvmi_env *env, uint8_t access,
			   const struct form *f, kvmi_insn hammer)
{
	struct counts c;

	check_other(env, access, f, hammer, &c);
	TEST_ASSERT(f == &idt ? c.r[0] >= DELIVERIES && !c.w[0] :
				c.w[0] >= DELIVERIES,
		    "access %u: reported %u R %u W of the first vCPU", access,
		    c.r[0], c.w[0]);
	TEST_ASSERT_EQ(c.x[0], 0);
}

TEST_F_TIMEOUT(smp, idt_and_reads, KVMI_TEST_TIMEOUT)
{
	vm_install_exception_handler(self->env.vm, UD_VECTOR, skip_ud);
	set_idt(&self->env);
	check_delivery(&self->env, W | X, &idt, kvmi_insn_hammer_read);
}

TEST_F_TIMEOUT(smp, idt_and_writes, KVMI_TEST_TIMEOUT)
{
	vm_install_exception_handler(self->env.vm, UD_VECTOR, skip_ud);
	set_idt(&self->env);
	check_delivery(&self->env, 0, &idt, kvmi_insn_hammer_write);
}

TEST_F_TIMEOUT(smp, idt_and_fetches, KVMI_TEST_TIMEOUT)
{
	vm_install_exception_handler(self->env.vm, UD_VECTOR, skip_ud);
	set_idt(&self->env);
	check_delivery(&self->env, 0, &idt, kvmi_insn_hammer_exec);
}

TEST_F_TIMEOUT(smp, stack_and_reads, KVMI_TEST_TIMEOUT)
{
	vm_install_exception_handler(self->env.vm, UD_VECTOR, skip_ud);
	check_delivery(&self->env, 0, &stack, kvmi_insn_hammer_read);
}

TEST_F_TIMEOUT(smp, stack_and_writes, KVMI_TEST_TIMEOUT)
{
	vm_install_exception_handler(self->env.vm, UD_VECTOR, skip_ud);
	check_delivery(&self->env, R | X, &stack, kvmi_insn_hammer_write);
}

/* ---- more vCPUs than translations ---- */

#define TRANSLATIONS	31
#define MANY		(TRANSLATIONS + 2)

#define CROSSED_PAGE	7

FIXTURE(many)
{
	struct kvmi_env env;
	struct kvmi_event first[MANY], second[MANY];
	bool has_second[MANY];
};

FIXTURE_SETUP(many)
{
	struct kvmi_env *env = &self->env;
	unsigned int i;

	kvmi_env_create(env, MANY);
	kvmi_env_hook(env);
	for (i = 0; i < MANY; i++)
		kvmi_control_event(env, i, KVMI_VCPU_EVENT_PF, true);
}

FIXTURE_TEARDOWN(many)
{
	kvmi_env_destroy(&self->env);
}

static void wait_second(FIXTURE_DATA(many) * self, unsigned int i)
{
	struct kvmi_event *ev = &self->second[i];

	kvmi_wait_event(&self->env.tool, KVMI_VCPU_EVENT_PF, ev);
	TEST_ASSERT(!self->has_second[ev->vcpu], "vCPU %u: a third event",
		    ev->vcpu);
	self->has_second[ev->vcpu] = true;
}

/*
 * Each vCPU is in the middle of an instruction, with one of two pages allowed.
 * Those that are too many are not in the guest, but serve the tool and the VMM.
 */
TEST_F_TIMEOUT(many, wait, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	uint64_t *data = kvmi_hva(env, CROSSED_PAGE - 1, PAGE_SIZE - 4);
	unsigned int i;

	if (!kvmi_can_step(&env->tool))
		SKIP(return, CANNOT_STEP);

	*data = 0x123456789abcull;
	kvmi_set_page_access(&env->tool, kvmi_gpa(CROSSED_PAGE - 1, 0), W | X);
	kvmi_set_page_access(&env->tool, kvmi_gpa(CROSSED_PAGE, 0), W | X);

	for (i = 0; i < MANY; i++)
		kvmi_runner_do(&env->run[i], kvmi_insn_fild,
			       kvmi_gva(CROSSED_PAGE - 1, PAGE_SIZE - 4), 0);
	for (i = 0; i < MANY; i++)
		kvmi_wait_event(&env->tool, KVMI_VCPU_EVENT_PF,
				&self->first[i]);
	for (i = 0; i < MANY; i++)
		kvmi_reply(&env->tool, &self->first[i],
			   KVMI_EVENT_ACTION_CONTINUE);

	for (i = 0; i < TRANSLATIONS; i++)
		wait_second(self, i);
	kvmi_no_event(&env->tool);
	for (i = 0; i < MANY; i++) {
		if (self->has_second[i])
			continue;
		kvmi_control_event(env, i, KVMI_VCPU_EVENT_PF, true);
		kvmi_runner_kick(&env->run[i]);
		kvmi_runner_wait_exit(&env->run[i]);
		TEST_ASSERT(env->run[i].ret == -1 && env->run[i].err == EINTR,
			    "vCPU %u: KVM_RUN: %d, errno %d", i,
			    env->run[i].ret, env->run[i].err);
		kvmi_runner_go(&env->run[i]);
	}

	for (i = 0; i < MANY; i++) {
		if (i >= TRANSLATIONS)
			wait_second(self, i);
		kvmi_reply(&env->tool, &self->second[i],
			   KVMI_EVENT_ACTION_CONTINUE);
	}
	for (i = 0; i < MANY; i++)
		TEST_ASSERT_EQ(kvmi_runner_wait(&env->run[i]), *data);
	kvmi_no_event(&env->tool);
}

/* The vCPU is between the two accesses of its instruction when this is back. */
static void begin_crossing(FIXTURE_DATA(many) * self, unsigned int i)
{
	struct kvmi_env *env = &self->env;

	kvmi_runner_do(&env->run[i], kvmi_insn_fild,
		       kvmi_gva(CROSSED_PAGE - 1, PAGE_SIZE - 4), 0);
	kvmi_wait_event(&env->tool, KVMI_VCPU_EVENT_PF, &self->first[i]);
	kvmi_reply(&env->tool, &self->first[i], KVMI_EVENT_ACTION_CONTINUE);
	kvmi_wait_event(&env->tool, KVMI_VCPU_EVENT_PF, &self->second[i]);
	TEST_ASSERT_EQ(self->second[i].vcpu, i);
}

static volatile uint64_t *const l2_runs = (void *)KVMI_TEST_GVA;
static volatile uint64_t *const l2_stops = (void *)KVMI_TEST_GVA + 8;

static void l2_main(void)
{
	*l2_runs = 1;
	while (!*l2_stops)
		cpu_relax();
	vmcall();
}

static uint64_t l1_main(uint64_t gva, uint64_t val, uint64_t arg)
{
	kvmi_l2_prepare(gva, (uint64_t)l2_main);
	GUEST_SYNC(1);

	return kvmi_l2_launch(gva);
}

/* Where L2 is entered, and what is around */
static void set_entry_access(struct kvmi_env *env, uint8_t access)
{
	uint64_t fn = host_cpu_is_amd ? (uint64_t)run_guest :
					(uint64_t)kvmi_l2_launch;
	int i;

	for (i = -1; i <= 1; i++)
		kvmi_set_page_access(&env->tool,
				     addr_gva2gpa(env->vm, fn + i * PAGE_SIZE) &
				     ~(PAGE_SIZE - 1ull), access);
}

/* The CPU carries out what enters L2; while it is there, that is done. */
static void enter_l2(struct kvmi_env *env, struct kvmi_runner *r, uint64_t gva)
{
	volatile uint64_t *runs = kvmi_hva(env, 0, 0);
	struct kvmi_event ev;
	unsigned int idle;

	kvmi_runner_do(r, l1_main, gva, 0);
	kvmi_runner_wait(r);
	set_entry_access(env, R | W);
	kvmi_runner_go(r);
	for (idle = 0; !*runs; idle++) {
		TEST_ASSERT(idle < KVMI_TIMEOUT_MS / 20, "L2 does not run");
		if (!kvmi_poll_event(&env->tool, &ev, 20))
			continue;
		TEST_ASSERT_EQ(ev.pf.access, X);
		kvmi_reply(&env->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
		idle = 0;
	}
	set_entry_access(env, R | W | X);
}

TEST_F_TIMEOUT(many, none_in_l2, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	uint64_t *data = kvmi_hva(env, CROSSED_PAGE - 1, PAGE_SIZE - 4);
	const unsigned int nested = TRANSLATIONS - 1, last = TRANSLATIONS;
	unsigned int i;

	if (!kvmi_can_step(&env->tool))
		SKIP(return, CANNOT_STEP);
	if (!kvm_cpu_has(X86_FEATURE_SVM) && !kvm_cpu_has(X86_FEATURE_VMX))
		SKIP(return, "no guests in guests");

	*data = 0x123456789abcull;
	kvmi_set_page_access(&env->tool, kvmi_gpa(CROSSED_PAGE - 1, 0), W | X);
	kvmi_set_page_access(&env->tool, kvmi_gpa(CROSSED_PAGE, 0), W | X);
	for (i = 0; i < nested; i++)
		begin_crossing(self, i);
	enter_l2(env, &env->run[nested], kvmi_alloc_l2(env->vm));
	begin_crossing(self, last);

	for (i = 0; i <= last; i++) {
		if (i == nested)
			continue;
		kvmi_reply(&env->tool, &self->second[i],
			   KVMI_EVENT_ACTION_CONTINUE);
		TEST_ASSERT_EQ(kvmi_runner_wait(&env->run[i]), *data);
	}
	*(uint64_t *)kvmi_hva(env, 0, 8) = 1;
	TEST_ASSERT_EQ(kvmi_runner_wait(&env->run[nested]), 1);
	kvmi_no_event(&env->tool);
}

/* ---- accesses that cannot be divided ---- */

#define MANY_ROUNDS	150

/* The VMM uses the page as well, as fast as it can. */
struct hammer {
	void (*fn)(struct hammer *h);
	void *data;
	unsigned int size;
	unsigned int pause;
	bool stop;
	/* how often it did what it does, and what it found */
	uint64_t nr, found;
	pthread_t thread;
};

static uint64_t load(const void *p, unsigned int size)
{
	switch (size) {
	case 2:
		return READ_ONCE(*(const uint16_t *)p);
	case 4:
		return READ_ONCE(*(const uint32_t *)p);
	default:
		return READ_ONCE(*(const uint64_t *)p);
	}
}

static void store(void *p, unsigned int size, uint64_t val)
{
	switch (size) {
	case 2:
		WRITE_ONCE(*(uint16_t *)p, val);
		break;
	case 4:
		WRITE_ONCE(*(uint32_t *)p, val);
		break;
	default:
		WRITE_ONCE(*(uint64_t *)p, val);
	}
}

static void hammer_load(struct hammer *h)
{
	const uint64_t ones = ~0ull >> (64 - 8 * h->size);
	uint64_t val = load(h->data, h->size);

	if (val && val != ones)
		h->found++;
}

static void hammer_store(struct hammer *h)
{
	store(h->data, h->size, 0);
	store(h->data, h->size, ~0ull);
}

static void hammer_inc(struct hammer *h)
{
	unsigned int i;

	/* The compiler would not know how to do that to what is not aligned. */
	asm volatile("lock incq (%0)" :: "r"(h->data) : "cc", "memory");
	for (i = 0; i < h->pause; i++)
		asm volatile("pause");
}

static void *hammer_thread(void *arg)
{
	struct hammer *h = arg;

	while (!READ_ONCE(h->stop)) {
		h->fn(h);
		WRITE_ONCE(h->nr, h->nr + 1);
	}

	return NULL;
}

static void start_hammer(struct hammer *h)
{
	TEST_ASSERT(!pthread_create(&h->thread, NULL, hammer_thread, h),
		    "pthread_create()");
	while (!READ_ONCE(h->nr))
		usleep(1000);
}

static void stop_hammer(struct hammer *h)
{
	WRITE_ONCE(h->stop, true);
	pthread_join(h->thread, NULL);
}

/* vCPU 0 executes @insn on @offset, the page and the next with @access left. */
static uint64_t run_hammered(struct kvmi_env *env, uint8_t access,
			     kvmi_insn insn, unsigned int offset,
			     struct hammer *h, struct counts *c)
{
	struct kvmi_runner *r = &env->run[0];

	memset(c, 0, sizeof(*c));
	h->data = kvmi_hva(env, PAGE, offset);
	store(h->data, 8, 0);
	kvmi_set_page_access(&env->tool, kvmi_gpa(PAGE, 0), access);
	kvmi_set_page_access(&env->tool, kvmi_gpa(PAGE + 1, 0), access);

	start_hammer(h);
	kvmi_runner_do(r, insn, kvmi_gva(PAGE, offset), MANY_ROUNDS);
	answer(env, c, 0, 0);
	stop_hammer(h);
	check_exit(r);
	kvmi_no_event(&env->tool);

	return r->req->result;
}

static void check_store(struct kvmi_env *env, kvmi_insn insn, unsigned int size)
{
	struct hammer h = { .fn = hammer_load, .size = size };
	struct counts c;

	run_hammered(env, R | X, insn, DATA_0, &h, &c);
	TEST_ASSERT_EQ(c.w[0], MANY_ROUNDS);
	TEST_ASSERT(!h.found, "%u bytes: of %u stores, a part was seen %lu times",
		    size, MANY_ROUNDS, h.found);
}

static void check_load(struct kvmi_env *env, kvmi_insn insn, unsigned int size)
{
	struct hammer h = { .fn = hammer_store, .size = size };
	struct counts c;
	uint64_t found;

	found = run_hammered(env, W | X, insn, DATA_0, &h, &c);
	TEST_ASSERT_EQ(c.r[0], MANY_ROUNDS);
	TEST_ASSERT(!found, "%u bytes: of %u loads, %lu saw a part of a store",
		    size, MANY_ROUNDS, found);
}

TEST_F_TIMEOUT(smp, whole_stores, KVMI_TEST_TIMEOUT)
{
	check_store(&self->env, kvmi_insn_store8, 8);
	check_store(&self->env, kvmi_insn_store4, 4);
	check_store(&self->env, kvmi_insn_store2, 2);
}

TEST_F_TIMEOUT(smp, whole_loads, KVMI_TEST_TIMEOUT)
{
	check_load(&self->env, kvmi_insn_load8, 8);
	check_load(&self->env, kvmi_insn_load4, 4);
	check_load(&self->env, kvmi_insn_load2, 2);
}

/* Nothing gets lost, and each access is reported once, in one page or two. */
static void check_locked(struct kvmi_env *env, uint8_t access, kvmi_insn insn,
			 unsigned int offset, unsigned int pause)
{
	unsigned int nr = offset == DATA_CROSS ? 2 * MANY_ROUNDS : MANY_ROUNDS;
	struct hammer h = { .fn = hammer_inc, .pause = pause };
	struct counts c;
	uint64_t sum;

	sum = run_hammered(env, access, insn, offset, &h, &c);
	if (insn == kvmi_insn_xchg)
		TEST_ASSERT_EQ(sum + load(h.data, 8), h.nr);
	else
		TEST_ASSERT_EQ(load(h.data, 8), MANY_ROUNDS + h.nr);
	TEST_ASSERT(c.r[0] == (access & R ? 0 : nr) &&
		    c.w[0] == (access & W ? 0 : nr),
		    "access %u: %u rounds, reported %u R %u W", access,
		    MANY_ROUNDS, c.r[0], c.w[0]);
}

TEST_F_TIMEOUT(smp, locked, KVMI_TEST_TIMEOUT)
{
	/* The emulator must find a moment between two of them, the CPU not. */
	unsigned int pause = self->can_step ? 0 : 500;

	check_locked(&self->env, R | X, kvmi_insn_lock_inc, DATA_0, pause);
	check_locked(&self->env, R | X, kvmi_insn_lock_adc, DATA_0, pause);
	check_locked(&self->env, R | X, kvmi_insn_xchg, DATA_0, pause);
	check_locked(&self->env, 0, kvmi_insn_lock_adc, DATA_0, pause);
}

TEST_F_TIMEOUT(smp, locked_cross, KVMI_TEST_TIMEOUT)
{
	if (!self->can_step)
		SKIP(return, CANNOT_STEP);

	check_locked(&self->env, R | X, kvmi_insn_lock_inc, DATA_CROSS, 0);
	check_locked(&self->env, R | X, kvmi_insn_xchg, DATA_CROSS, 0);
	check_locked(&self->env, 0, kvmi_insn_lock_inc, DATA_CROSS, 0);
}

int main(int argc, char *argv[])
{
	TEST_REQUIRE(kvmi_supported());

	return test_harness_run(argc, argv);
}
