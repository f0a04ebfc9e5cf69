// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM introspection: while one vCPU is let through to a restricted page, none
 * of the others gets through unseen.
 *
 * One vCPU executes instructions on a page, all its events are answered with
 * CONTINUE.  Another uses the same page all the while and counts how often: it
 * has to be reported just as often.
 *
 * Nor does anyone see an access half done, or get in between the two halves of one
 * that is locked: another vCPU, or the VMM, which uses that page without asking.
 */
#include <pthread.h>

#include "test_util.h"
#include "kvm_util.h"
#include "kselftest_harness.h"
#include "kvmi_util.h"

#define R	KVMI_PAGE_ACCESS_R
#define W	KVMI_PAGE_ACCESS_W
#define X	KVMI_PAGE_ACCESS_X

#define PAGE		3	/* the restricted one */
#define STOP_PAGE	5

/* In the restricted page: what either vCPU uses, and code */
#define DATA_0		0x100
#define DATA_1		0x800
/* 8 bytes of it are in the next page. */
#define DATA_CROSS	(PAGE_SIZE - 4)
#define CODE_0		0xa00
#define CODE_1		0xc00

#define ROUNDS		40
/* The other vCPU's, at the least */
#define MIN_ACCESSES	20

/* ---- in the guest ---- */

/* Of the first vCPU: @val rounds on the data at @gva */
KVMI_INSN(emulated);
KVMI_INSN(native);
/* ... or of the code at @gva */
KVMI_INSN(code);
extern char native_code[], native_code_end[];

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
	/* ret */
	memset(kvmi_hva(env, PAGE, CODE_1), 0xc3, 16);
	kvmi_env_hook(env);
	kvmi_control_event(env, 0, KVMI_VCPU_EVENT_PF, true);
	kvmi_control_event(env, 1, KVMI_VCPU_EVENT_PF, true);
	self->can_step = kvmi_can_step(&env->tool);
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

/*
 * Has the first vCPU execute @insn on what is at @offset while the other does
 * @hammer, with @access left to the page.  Returns how often the other did.
 */
static uint64_t run(struct kvmi_env *env, uint8_t access, kvmi_insn insn,
		    unsigned int offset, kvmi_insn hammer,
		    unsigned int hammer_offset, struct counts *c)
{
	volatile uint64_t *stop = kvmi_hva(env, STOP_PAGE, 0);
	struct kvmi_runner *r = env->run;

	memset(c, 0, sizeof(*c));
	*stop = 0;
	kvmi_set_page_access(&env->tool, kvmi_gpa(PAGE, 0), access);
	kvmi_runner_do(&r[1], hammer, kvmi_gva(PAGE, hammer_offset),
		       kvmi_gva(STOP_PAGE, 0));
	/* both at once, not one after the other */
	answer(env, c, 1, 1);
	kvmi_runner_do(&r[0], insn, kvmi_gva(PAGE, offset), ROUNDS);
	answer(env, c, 0, 0);
	check_exit(&r[0]);
	answer(env, c, 1, MIN_ACCESSES);
	*stop = 1;
	answer(env, c, 1, 0);
	check_exit(&r[1]);
	kvmi_no_event(&env->tool);

	return r[1].req->result;
}

/* ---- the tests ---- */

struct form {
	kvmi_insn insn;
	unsigned int offset;
	/* how often each round reads, writes and executes the page */
	unsigned int r, w, x;
};

static const struct form emulated = {
	.insn = kvmi_insn_emulated, .offset = DATA_0, .r = 3, .w = 3,
};

static const struct form native = {
	.insn = kvmi_insn_native, .offset = DATA_0, .r = 2, .w = 2,
};

static const struct form code = {
	.insn = kvmi_insn_code, .offset = CODE_0, .x = 2,
};

static void check(struct kvmi_env *env, uint8_t access, const struct form *f,
		  kvmi_insn hammer)
{
	bool reads = hammer == kvmi_insn_hammer_read;
	bool writes = hammer == kvmi_insn_hammer_write;
	bool execs = hammer == kvmi_insn_hammer_exec;
	struct counts c;
	uint64_t nr;

	nr = run(env, access, f->insn, f->offset, hammer,
		 execs ? CODE_1 : DATA_1, &c);

	TEST_ASSERT(c.r[1] == (reads && !(access & R) ? nr : 0) &&
		    c.w[1] == (writes && !(access & W) ? nr : 0) &&
		    c.x[1] == (execs && !(access & X) ? nr : 0),
		    "access %u: %lu times, reported %u R %u W %u X", access,
		    nr, c.r[1], c.w[1], c.x[1]);
	TEST_ASSERT(nr >= MIN_ACCESSES, "only %lu times", nr);
	if (writes)
		TEST_ASSERT_EQ(*(uint64_t *)kvmi_hva(env, PAGE, DATA_1), nr);

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
