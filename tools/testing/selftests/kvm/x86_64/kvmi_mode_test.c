// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM introspection: guests that are not 64-bit kernels.  What the events of
 * such a guest say, how an instruction goes on that the CPU has to execute, and
 * the hypercall, which any program in it may execute.
 */
#include "test_util.h"
#include "kvm_util.h"
#include "kselftest_harness.h"
#include "kvmi_util.h"

#define CONTINUE	KVMI_EVENT_ACTION_CONTINUE

/* The guest's own tables, which map the test pages where they are */
#define PML4_PAGE	4
#define PDPT_PAGE	5
#define PD_PAGE		6
#define PD32_PAGE	7
#define CODE_PAGE	8
#define DATA_PAGE	9
#define CODE_GPA	(KVMI_TEST_GPA + CODE_PAGE * PAGE_SIZE)
#define DATA_GPA	(KVMI_TEST_GPA + DATA_PAGE * PAGE_SIZE)

#define ENTRY_FLAGS	0x7ull		/* present, writable, for users */
#define ENTRY_PRESENT	0x1ull
#define ENTRY_LARGE	0x80ull

#define CODE_SEGMENT	11
#define DATA_SEGMENT	3
#define SELECTOR(n)	((n) << 3)

FIXTURE(mode)
{
	struct kvmi_env env;
	struct kvmi_runner *r;
};

FIXTURE_VARIANT(mode)
{
	uint8_t mode;		/* as the events have it */
	uint8_t cpl;
	bool lma;
	bool pg;
	bool pae;
	bool real;
};

FIXTURE_VARIANT_ADD(mode, long_kernel) { .mode = 8, .lma = true, .pg = true };
FIXTURE_VARIANT_ADD(mode, long_user) {
	.mode = 8, .cpl = 3, .lma = true, .pg = true,
};
FIXTURE_VARIANT_ADD(mode, compat_kernel) { .mode = 4, .lma = true, .pg = true };
FIXTURE_VARIANT_ADD(mode, compat_user) {
	.mode = 4, .cpl = 3, .lma = true, .pg = true,
};
FIXTURE_VARIANT_ADD(mode, pae_kernel) { .mode = 4, .pg = true, .pae = true };
FIXTURE_VARIANT_ADD(mode, pae_user) {
	.mode = 4, .cpl = 3, .pg = true, .pae = true,
};
FIXTURE_VARIANT_ADD(mode, paging32_kernel) { .mode = 4, .pg = true };
FIXTURE_VARIANT_ADD(mode, paging32_user) { .mode = 4, .cpl = 3, .pg = true };
FIXTURE_VARIANT_ADD(mode, protected_kernel) { .mode = 4 };
FIXTURE_VARIANT_ADD(mode, protected_user) { .mode = 4, .cpl = 3 };
FIXTURE_VARIANT_ADD(mode, protected16_kernel) { .mode = 2 };
FIXTURE_VARIANT_ADD(mode, protected16_user) { .mode = 2, .cpl = 3 };
FIXTURE_VARIANT_ADD(mode, real) { .mode = 2, .real = true };

static void set_segment(const FIXTURE_VARIANT(mode) * v, struct kvm_segment *seg,
			int n, uint8_t type)
{
	memset(seg, 0, sizeof(*seg));
	seg->present = 1;
	seg->s = 1;
	seg->type = type;
	seg->limit = 0xffffffff;
	seg->g = 1;
	seg->dpl = v->cpl;
	seg->selector = SELECTOR(n) | v->cpl;
	if (type == CODE_SEGMENT) {
		seg->l = v->mode == 8;
		seg->db = v->mode == 4;
	} else {
		seg->db = v->mode != 2;
	}
	if (v->mode == 2) {
		/* the low part of the address is in RIP and the like */
		seg->base = KVMI_TEST_GPA;
		seg->limit = 0xffff;
		seg->g = 0;
	}
	if (v->real) {
		seg->selector = 0;
		seg->type = DATA_SEGMENT;
	}
}

/* At CODE_GPA, with paging that maps the test pages to themselves, or none */
static void set_mode(FIXTURE_DATA(mode) * self, const FIXTURE_VARIANT(mode) * v)
{
	struct kvmi_env *env = &self->env;
	uint64_t *pml4 = kvmi_hva(env, PML4_PAGE, 0);
	uint64_t *pdpt = kvmi_hva(env, PDPT_PAGE, 0);
	uint64_t *pd = kvmi_hva(env, PD_PAGE, 0);
	uint32_t *pd32 = kvmi_hva(env, PD32_PAGE, 0);
	struct kvm_sregs sregs;
	struct kvm_segment data;

	pml4[0] = kvmi_gpa(PDPT_PAGE, 0) | ENTRY_FLAGS;
	pdpt[KVMI_TEST_GPA >> 30] = kvmi_gpa(PD_PAGE, 0) | ENTRY_FLAGS;
	pd[0] = KVMI_TEST_GPA | ENTRY_FLAGS | ENTRY_LARGE;
	pd32[KVMI_TEST_GPA >> 22] = KVMI_TEST_GPA | ENTRY_FLAGS | ENTRY_LARGE;
	/* permissions are reserved there */
	if (v->pae)
		pdpt[KVMI_TEST_GPA >> 30] = kvmi_gpa(PD_PAGE, 0) | ENTRY_PRESENT;

	vcpu_sregs_get(self->r->vcpu, &sregs);
	set_segment(v, &sregs.cs, 1, CODE_SEGMENT);
	set_segment(v, &data, 2, DATA_SEGMENT);
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = data;
	sregs.cr3 = kvmi_gpa(PML4_PAGE, 0);
	if (!v->lma) {
		sregs.efer &= ~(EFER_LME | EFER_LMA);
		sregs.cr3 = kvmi_gpa(v->pae ? PDPT_PAGE : PD32_PAGE, 0);
		sregs.cr4 |= X86_CR4_PSE;
		if (!v->pae)
			sregs.cr4 &= ~X86_CR4_PAE;
	}
	if (!v->pg)
		sregs.cr0 &= ~X86_CR0_PG;
	if (v->real)
		sregs.cr0 &= ~X86_CR0_PE;
	vcpu_sregs_set(self->r->vcpu, &sregs);
}

FIXTURE_SETUP(mode)
{
	struct kvmi_env *env = &self->env;

	kvmi_env_create(env, 1);
	self->r = &env->run[0];
	kvmi_env_hook(env);
	set_mode(self, variant);
}

FIXTURE_TEARDOWN(mode)
{
	kvmi_env_destroy(&self->env);
}

/* The base of a segment is 0 except in 16-bit modes. */
static uint64_t addr(const FIXTURE_VARIANT(mode) * v, uint64_t gpa)
{
	return v->mode == 2 ? gpa - KVMI_TEST_GPA : gpa;
}

/* Runs @code, which a jump to itself follows. */
static void start(FIXTURE_DATA(mode) * self, const FIXTURE_VARIANT(mode) * v,
		  const char *code, size_t len)
{
	uint8_t *p = kvmi_hva(&self->env, CODE_PAGE, 0);
	struct kvm_regs regs = {
		.rip = addr(v, CODE_GPA),
		.rsp = addr(v, DATA_GPA + PAGE_SIZE),
		.rflags = 2,
		/* the hypercall's */
		.rax = KVM_HC_XEN_HVM_OP,
	};

	memcpy(p, code, len);
	memcpy(p + len, "\xeb\xfe", 2);

	if (v->mode == 8) {
		regs.rdi = KVM_HC_XEN_HVM_OP_GUEST_REQUEST_VM_EVENT;
		/* the other convention does not apply */
		regs.rcx = 1;
	} else {
		regs.rbx = KVM_HC_XEN_HVM_OP_GUEST_REQUEST_VM_EVENT;
		regs.rsi = 1;
	}
	vcpu_regs_set(self->r->vcpu, &regs);
	kvmi_runner_go(self->r);
}

/* Until the guest is at the jump */
static void wait_end(FIXTURE_DATA(mode) * self, const FIXTURE_VARIANT(mode) * v,
		     size_t len, struct kvm_regs *regs)
{
	int i;

	for (i = 0; i < KVMI_TIMEOUT_MS / 10; i++) {
		usleep(10000);
		if (self->r->running) {
			kvmi_runner_kick(self->r);
			kvmi_runner_wait_exit(self->r);
		}
		TEST_ASSERT(self->r->ret == -1 && self->r->err == EINTR,
			    "exit %u", self->r->vcpu->run->exit_reason);
		vcpu_regs_get(self->r->vcpu, regs);
		if (regs->rip == addr(v, CODE_GPA) + len)
			return;
		kvmi_runner_go(self->r);
	}
	TEST_FAIL("rip is still %#llx", regs->rip);
}

#define VMCALL		"\x0f\x01\xc1"
#define VMMCALL		"\x0f\x01\xd9"
#define CALL_LEN	3

static void test_hypercall(FIXTURE_DATA(mode) * self,
			   const FIXTURE_VARIANT(mode) * v, const char *code)
{
	struct kvmi_env *env = &self->env;
	struct kvm_regs regs;
	struct kvmi_event ev;
	int i;

	for (i = 0; i < 2; i++) {
		start(self, v, code, CALL_LEN);
		kvmi_wait_event(&env->tool, KVMI_VCPU_EVENT_HYPERCALL, &ev);
		TEST_ASSERT_EQ(ev.common.arch.mode, v->mode);
		TEST_ASSERT_EQ(ev.common.arch.sregs.ss.dpl, v->cpl);
		TEST_ASSERT_EQ(ev.common.arch.regs.rip, addr(v, CODE_GPA));
		/* A signal makes no difference. */
		kvmi_runner_kick(self->r);
		kvmi_runner_wait_exit(self->r);
		kvmi_runner_go(self->r);
		kvmi_reply(&env->tool, &ev, CONTINUE);
		wait_end(self, v, CALL_LEN, &regs);
		TEST_ASSERT_EQ(regs.rax, 0);
		kvmi_no_event(&env->tool);
	}
}

/* From the kernel and from programs, of all sizes */
TEST_F_TIMEOUT(mode, hypercall, KVMI_TEST_TIMEOUT)
{
	const char *code = host_cpu_is_amd ? VMMCALL : VMCALL;
	struct kvmi_vcpu_control_events req = {
		.event_id = KVMI_VCPU_EVENT_HYPERCALL, .enable = 1,
	};
	struct kvm_regs regs;

	/* There is nobody who would answer it. */
	start(self, variant, code, CALL_LEN);
	wait_end(self, variant, CALL_LEN, &regs);
	TEST_ASSERT(regs.rax, "the hypercall succeeds");

	kvmi_runner_go(self->r);
	TEST_ASSERT_EQ(__kvmi_vcpu_cmd(&self->env, 0, KVMI_VCPU_CONTROL_EVENTS,
				       &req, sizeof(req), NULL, 0), 0);
	kvmi_runner_kick(self->r);
	kvmi_runner_wait_exit(self->r);

	test_hypercall(self, variant, code);
}

static void vcpu_control(FIXTURE_DATA(mode) * self, uint16_t event)
{
	struct kvmi_vcpu_control_events req = {
		.event_id = event, .enable = 1,
	};

	/* It jumps while it serves the command. */
	memcpy(kvmi_hva(&self->env, CODE_PAGE, 0), "\xeb\xfe", 2);
	kvmi_runner_go(self->r);
	TEST_ASSERT_EQ(__kvmi_vcpu_cmd(&self->env, 0, KVMI_VCPU_CONTROL_EVENTS,
				       &req, sizeof(req), NULL, 0), 0);
	kvmi_runner_kick(self->r);
	kvmi_runner_wait_exit(self->r);
}

/* A store, and the addresses that the event has */
TEST_F_TIMEOUT(mode, page_fault, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	const uint64_t top = DATA_GPA + PAGE_SIZE;
	/* push %ax; 16 bits in all modes but 16-bit ones, where it takes none */
	const char *code = variant->mode == 2 ? "\x50\x90" : "\x66\x50";
	uint16_t *data = kvmi_hva(env, DATA_PAGE, PAGE_SIZE - 2);
	struct kvm_regs regs;
	struct kvmi_event ev;

	start(self, variant, "", 0);
	wait_end(self, variant, 0, &regs);
	vcpu_control(self, KVMI_VCPU_EVENT_PF);
	kvmi_set_page_access(&env->tool, DATA_GPA, KVMI_PAGE_ACCESS_R);

	start(self, variant, code, 2);
	kvmi_wait_event(&env->tool, KVMI_VCPU_EVENT_PF, &ev);
	TEST_ASSERT_EQ(ev.common.arch.mode, variant->mode);
	TEST_ASSERT_EQ(ev.pf.access, KVMI_PAGE_ACCESS_W);
	TEST_ASSERT_EQ(ev.pf.gpa, top - 2);
	TEST_ASSERT(kvmi_gva_valid(&ev, top - 2), "gva %#llx", ev.pf.gva);
	kvmi_reply(&env->tool, &ev, CONTINUE);
	wait_end(self, variant, 2, &regs);
	TEST_ASSERT_EQ(*data, KVM_HC_XEN_HVM_OP);
	kvmi_no_event(&env->tool);
}

/* Of these, KVM can emulate none that accesses memory. */
TEST_F_TIMEOUT(mode, native, KVMI_TEST_TIMEOUT)
{
	/* fildll (%rdi), fchs, fistpll (%rdi); with %edi or %bx in other modes */
	const char code[] = { 0xdf, 0x2f, 0xd9, 0xe0, 0xdf, 0x3f };
	const uint8_t access[] = { KVMI_PAGE_ACCESS_R, KVMI_PAGE_ACCESS_W };
	struct kvmi_env *env = &self->env;
	int64_t *data = kvmi_hva(env, DATA_PAGE, 0);
	const int64_t val = 0x123456789abcdll;
	unsigned int i, round;
	struct kvm_regs regs;
	struct kvmi_event ev;

	if (!kvmi_can_step(&env->tool))
		SKIP(return, "needs a step, and the machine cannot");

	start(self, variant, "", 0);
	wait_end(self, variant, 0, &regs);
	vcpu_control(self, KVMI_VCPU_EVENT_PF);
	kvmi_set_page_access(&env->tool, DATA_GPA, 0);

	for (round = 0; round < 3; round++) {
		*data = val + round;
		memcpy(kvmi_hva(env, CODE_PAGE, 0), code, sizeof(code));
		memcpy(kvmi_hva(env, CODE_PAGE, sizeof(code)), "\xeb\xfe", 2);
		regs.rip = addr(variant, CODE_GPA);
		regs.rdi = addr(variant, DATA_GPA);
		regs.rbx = addr(variant, DATA_GPA);
		vcpu_regs_set(self->r->vcpu, &regs);
		kvmi_runner_go(self->r);

		for (i = 0; i < ARRAY_SIZE(access); i++) {
			kvmi_wait_event(&env->tool, KVMI_VCPU_EVENT_PF, &ev);
			TEST_ASSERT_EQ(ev.common.arch.mode, variant->mode);
			TEST_ASSERT_EQ(ev.pf.access, access[i]);
			TEST_ASSERT_EQ(ev.pf.gpa, DATA_GPA);
			kvmi_reply(&env->tool, &ev, CONTINUE);
		}
		wait_end(self, variant, sizeof(code), &regs);
		TEST_ASSERT_EQ(*data, -(val + round));
		kvmi_no_event(&env->tool);
	}
}

/*
 * What is in a page that must be neither read nor executed: the hardware may not
 * be able to let the one and not the other.
 */
struct own_insn {
	const char *code;
	uint8_t len;
	/* what it reads, in the page with the code */
	uint16_t at;
	bool in_protected, in_32bit;
};

#define OWN_DATA	0x80
#define OWN_GDT		0x400
#define OWN_STACK	0x200

static const struct own_insn own_insns[] = {
	/* fld1 */
	{ "\xd9\xe8", 2, 0 },
	/* fildll (%rdi) and 16(%rdi), with %edi or %bx in other modes */
	{ "\xdf\x2f", 2, OWN_DATA },
	{ "\xdf\x6f\x10", 3, OWN_DATA + 16 },
	/* fildll (%rdx), with %edx; (%bp,%si) in 16-bit modes */
	{ "\xdf\x2a", 2, OWN_DATA + 32 },
	/* fstp %st */
	{ "\xdd\xd8", 2, 0 },
	/* lar %eax, %eax */
	{ "\x0f\x02\xc0", 3, OWN_GDT + SELECTOR(1), .in_protected = true },
	/* popa */
	{ "\x61", 1, OWN_STACK, .in_32bit = true },
};

static bool has_insn(const FIXTURE_VARIANT(mode) * v, const struct own_insn *insn)
{
	return !(insn->in_protected && v->real) &&
	       !(insn->in_32bit && v->mode == 8);
}

/* Returns how long the code is. */
static size_t start_own(FIXTURE_DATA(mode) * self, const FIXTURE_VARIANT(mode) * v)
{
	struct kvmi_env *env = &self->env;
	uint64_t *gdt = kvmi_hva(env, CODE_PAGE, OWN_GDT);
	struct kvm_sregs sregs;
	struct kvm_regs regs;
	size_t len = 0;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(own_insns); i++) {
		if (!has_insn(v, &own_insns[i]))
			continue;
		memcpy(kvmi_hva(env, CODE_PAGE, len), own_insns[i].code,
		       own_insns[i].len);
		len += own_insns[i].len;
	}
	memcpy(kvmi_hva(env, CODE_PAGE, len), "\xeb\xfe", 2);

	gdt[1] = 0x00cf93000000ffff;
	vcpu_sregs_get(self->r->vcpu, &sregs);
	sregs.gdt.base = CODE_GPA + OWN_GDT;
	sregs.gdt.limit = 0x1f;
	vcpu_sregs_set(self->r->vcpu, &sregs);

	vcpu_regs_get(self->r->vcpu, &regs);
	regs.rip = addr(v, CODE_GPA);
	regs.rsp = addr(v, CODE_GPA + OWN_STACK);
	regs.rdi = addr(v, CODE_GPA + OWN_DATA);
	regs.rbx = regs.rdi;
	regs.rdx = regs.rdi + 32;
	regs.rbp = regs.rdi;
	regs.rsi = 32;
	regs.rax = SELECTOR(1);
	vcpu_regs_set(self->r->vcpu, &regs);
	kvmi_runner_go(self->r);

	return len;
}

TEST_F_TIMEOUT(mode, own_code, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	uint64_t rip = addr(variant, CODE_GPA);
	struct kvm_regs regs;
	struct kvmi_event ev;
	unsigned int i;
	size_t len;

	if (!kvmi_can_step(&env->tool))
		SKIP(return, "needs a step, and the machine cannot");

	start(self, variant, "", 0);
	wait_end(self, variant, 0, &regs);
	vcpu_control(self, KVMI_VCPU_EVENT_PF);
	kvmi_set_page_access(&env->tool, CODE_GPA, KVMI_PAGE_ACCESS_W);

	len = start_own(self, variant);
	for (i = 0; i < ARRAY_SIZE(own_insns); i++) {
		const struct own_insn *insn = &own_insns[i];

		if (!has_insn(variant, insn))
			continue;
		kvmi_wait_event(&env->tool, KVMI_VCPU_EVENT_PF, &ev);
		TEST_ASSERT_EQ(ev.common.arch.regs.rip, rip);
		TEST_ASSERT_EQ(ev.pf.access, KVMI_PAGE_ACCESS_X);
		kvmi_reply(&env->tool, &ev, CONTINUE);
		if (insn->at) {
			kvmi_wait_event(&env->tool, KVMI_VCPU_EVENT_PF, &ev);
			TEST_ASSERT_EQ(ev.common.arch.regs.rip, rip);
			TEST_ASSERT_EQ(ev.pf.access, KVMI_PAGE_ACCESS_R);
			TEST_ASSERT_EQ(ev.pf.gpa, CODE_GPA + insn->at);
			TEST_ASSERT(kvmi_gva_valid(&ev, ev.pf.gpa), "gva %#llx",
				    ev.pf.gva);
			kvmi_reply(&env->tool, &ev, CONTINUE);
		}
		rip += insn->len;
	}

	kvmi_wait_event(&env->tool, KVMI_VCPU_EVENT_PF, &ev);
	TEST_ASSERT_EQ(ev.common.arch.regs.rip, rip);
	kvmi_set_page_access(&env->tool, CODE_GPA, KVMI_ACCESS_ALL);
	kvmi_reply(&env->tool, &ev, KVMI_EVENT_ACTION_RETRY);
	wait_end(self, variant, len, &regs);
	kvmi_no_event(&env->tool);
}

/* POP SS, which there is in some modes only, is not hidden, nor what follows. */
FIXTURE(real_mode)
{
	FIXTURE_DATA(mode) mode;
};

static const FIXTURE_VARIANT(mode) real_mode = { .mode = 2, .real = true };

FIXTURE_SETUP(real_mode)
{
	kvmi_env_create(&self->mode.env, 1);
	self->mode.r = &self->mode.env.run[0];
	kvmi_env_hook(&self->mode.env);
	set_mode(&self->mode, &real_mode);
}

FIXTURE_TEARDOWN(real_mode)
{
	kvmi_env_destroy(&self->mode.env);
}

TEST_F_TIMEOUT(real_mode, pop_ss, KVMI_TEST_TIMEOUT)
{
	/* push %ss; pop %ss; mov DATA_GPA, %ax */
	static const char code[] = "\x16\x17\xa1\x00\x90";
	const size_t len = sizeof(code) - 1;
	struct kvmi_env *env = &self->mode.env;
	struct kvm_regs regs;
	struct kvmi_event ev;
	int i;

	start(&self->mode, &real_mode, "", 0);
	wait_end(&self->mode, &real_mode, 0, &regs);
	vcpu_control(&self->mode, KVMI_VCPU_EVENT_PF);
	kvmi_set_page_access(&env->tool, DATA_GPA,
			     KVMI_PAGE_ACCESS_W | KVMI_PAGE_ACCESS_X);

	start(&self->mode, &real_mode, code, len);
	for (i = 1; i <= 2; i++) {
		kvmi_wait_event(&env->tool, KVMI_VCPU_EVENT_PF, &ev);
		TEST_ASSERT_EQ(ev.pf.access, KVMI_PAGE_ACCESS_R);
		TEST_ASSERT_EQ(ev.common.arch.regs.rip,
			       addr(&real_mode, CODE_GPA) + i);
		kvmi_reply(&env->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	}
	wait_end(&self->mode, &real_mode, len, &regs);
	kvmi_no_event(&env->tool);
}

int main(int argc, char *argv[])
{
	TEST_REQUIRE(kvmi_supported());
	if (!kvmi_is_masked_guest_left())
		ksft_exit_skip(KVMI_MASKED_GUEST_STAYS "\n");

	return test_harness_run(argc, argv);
}
