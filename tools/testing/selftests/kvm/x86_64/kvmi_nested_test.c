// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM introspection: a guest that runs a guest of its own.  While that is
 * running, nobody gets its state for that of the guest which is introspected.
 */
#include "test_util.h"
#include "kvm_util.h"
#include "kselftest_harness.h"
#include "kvmi_util.h"
#include "svm_util.h"
#include "vmx.h"

static volatile uint64_t *const stop = (void *)KVMI_TEST_GVA;
static volatile uint64_t *const l2_runs = (void *)KVMI_TEST_GVA + 8;

/* Where L2 says what it got, and what the tool restricts */
#define L2_GVA		(KVMI_TEST_GVA + PAGE_SIZE)
#define L2_PAGE		1

#define L2_LSTAR	0x12345678ull
#define L2_PATTERN	0x1212ull

static void flip_cr0(uint64_t bit)
{
	asm volatile("mov %0, %%cr0" :: "r"(get_cr0() ^ bit) : "memory");
}

/* Found by L1: with VMX, CPUID would end the stay in L2. */
static bool has_xsave;

/* So does XSETBV, and L1 keeps no register for L2, see vmcall(). */
static void l2_xsetbv(uint64_t val)
{
	uint32_t eax = val, edx = val >> 32, ecx = 0;

	asm volatile("push %%rbp; xsetbv; pop %%rbp"
		     : "+a"(eax), "+d"(edx), "+c"(ecx)
		     :: "rbx", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12",
			"r13", "r14", "r15", "memory");
}

/* Each of what the tool may want to hear of, had L1 done it */
static void l2_do_all(void)
{
	volatile uint64_t *mem = (void *)L2_GVA;
	struct desc_ptr dt;
	uint16_t sel;

	flip_cr0(X86_CR0_WP);
	flip_cr0(X86_CR0_WP);
	set_cr4(get_cr4() ^ X86_CR4_TSD);
	set_cr4(get_cr4() ^ X86_CR4_TSD);
	asm volatile("mov %0, %%cr3" :: "r"(get_cr3() ^ BIT(3)) : "memory");
	asm volatile("mov %0, %%cr3" :: "r"(get_cr3() ^ BIT(3)) : "memory");
	wrmsr(MSR_LSTAR, L2_LSTAR);
	wrmsr(MSR_KERNEL_GS_BASE, L2_LSTAR);
	asm volatile("sgdt %0" : "=m"(dt));
	asm volatile("sidt %0" : "=m"(dt));
	asm volatile("lidt %0" :: "m"(dt));
	asm volatile("str %0" : "=m"(sel));
	if (has_xsave) {
		set_cr4(get_cr4() | X86_CR4_OSXSAVE);
		l2_xsetbv(xgetbv(0) ^ 2);
		l2_xsetbv(xgetbv(0) ^ 2);
	}
	asm volatile("int3");
	mem[0] = L2_PATTERN;
	mem[1] = mem[0];
}

static void l2_events(void)
{
	*l2_runs = 1;
	while (!*stop)
		cpu_relax();
	l2_do_all();
	vmcall();
}

static void handle_bp(struct ex_regs *regs)
{
	((volatile uint64_t *)L2_GVA)[2]++;
}

static void l2_main(void)
{
	*l2_runs = 1;
	while (!*stop)
		cpu_relax();
	vmcall();
	/* entered once more, it stays here */
	for (;;)
		vmcall();
}

/* Counts how often it is entered. */
static void l2_count(void)
{
	for (;;) {
		++*l2_runs;
		vmcall();
	}
}

/* Enters L2 twice, and in vain with a state that the CPU does not accept. */
static uint64_t l1_enter(uint64_t gva, uint64_t val, uint64_t arg)
{
	struct svm_test_data *svm = (void *)gva;
	bool called;

	kvmi_l2_prepare(gva, val);
	GUEST_SYNC(1);
	called = kvmi_l2_launch(gva);
	called &= kvmi_l2_resume(gva);
	if (host_cpu_is_amd)
		svm->vmcb->control.asid = 0;
	else
		vmwrite(GUEST_CR0, 0);

	return called && !kvmi_l2_resume(gva);
}

/* @val is what L2 executes. */
static uint64_t l1_main(uint64_t gva, uint64_t val, uint64_t arg)
{
	bool called;

	has_xsave = this_cpu_has(X86_FEATURE_XSAVE);
	kvmi_l2_prepare(gva, val);
	/* An empty one: what L2 does to MSRs is no exit to L1. */
	if (!host_cpu_is_amd)
		vmwrite(CPU_BASED_VM_EXEC_CONTROL,
			vmreadz(CPU_BASED_VM_EXEC_CONTROL) |
			CPU_BASED_USE_MSR_BITMAPS);
	called = kvmi_l2_launch(gva);
	while (!host_cpu_is_amd &&
	       vmreadz(VM_EXIT_REASON) == EXIT_REASON_XSETBV)
		called = kvmi_l2_resume(gva);

	return called;
}

FIXTURE(nested)
{
	struct kvmi_env env;
	struct kvmi_runner *r;
	volatile uint64_t *stop, *l2_runs;
	vm_vaddr_t gva;
};

static void answer(FIXTURE_DATA(nested) * self, struct kvmi_event *ev)
{
	struct kvmi_tool *tool = &self->env.tool;

	if (ev->event == KVMI_VCPU_EVENT_CR)
		kvmi_reply_value(tool, ev, KVMI_EVENT_ACTION_CONTINUE,
				 ev->cr.new_value, 8);
	else if (ev->event == KVMI_VCPU_EVENT_MSR)
		kvmi_reply_value(tool, ev, KVMI_EVENT_ACTION_CONTINUE,
				 ev->msr.new_value, 8);
	else
		kvmi_reply(tool, ev, KVMI_EVENT_ACTION_CONTINUE);
}

/* Events that come before L2 runs are L1's. */
static void start_l2(FIXTURE_DATA(nested) * self, void (*l2)(void))
{
	struct kvmi_event ev;
	int i;

	*self->stop = 0;
	*self->l2_runs = 0;
	kvmi_runner_do(self->r, l1_main, self->gva, (uint64_t)l2);
	for (i = 0; !*self->l2_runs && i < KVMI_TIMEOUT_MS; i++)
		if (kvmi_poll_event(&self->env.tool, &ev, 1))
			answer(self, &ev);
	TEST_ASSERT(*self->l2_runs, "the guest does not run its guest");
}

FIXTURE_SETUP(nested)
{
	struct kvmi_env *env = &self->env;

	if (!kvmi_can_nest())
		SKIP(return, "no nested virtualization");

	kvmi_env_create(env, 1);
	kvmi_env_hook(env);
	self->r = &env->run[0];
	self->stop = kvmi_hva(env, 0, 0);
	self->l2_runs = kvmi_hva(env, 0, 8);

	vm_install_exception_handler(env->vm, BP_VECTOR, handle_bp);
	self->gva = kvmi_alloc_l2(env->vm);
}

FIXTURE_TEARDOWN(nested)
{
	if (!self->r)
		return;
	*self->stop = 1;
	kvmi_env_destroy(&self->env);
}

static int get_registers(struct kvmi_env *env,
			 struct kvmi_vcpu_get_registers_reply *rpl)
{
	struct kvmi_vcpu_get_registers req = { };

	return __kvmi_vcpu_cmd(env, 0, KVMI_VCPU_GET_REGISTERS, &req,
			       sizeof(req), rpl, sizeof(*rpl));
}

TEST_F_TIMEOUT(nested, commands, KVMI_TEST_TIMEOUT)
{
	struct kvmi_vcpu_inject_exception exception = { .nr = UD_VECTOR };
	struct kvmi_vcpu_translate_gva gva = { .gva = KVMI_TEST_GVA };
	struct kvmi_vcpu_get_registers_reply regs;
	struct kvmi_vcpu_translate_gva_reply gpa;
	struct kvmi_vcpu_get_xcr_reply xcr;
	struct kvmi_vcpu_get_xcr req = { };
	struct kvmi_env *env = &self->env;

	start_l2(self, l2_main);
	TEST_ASSERT_EQ(get_registers(env, &regs), -KVM_EAGAIN);
	TEST_ASSERT_EQ(__kvmi_vcpu_cmd(env, 0, KVMI_VCPU_TRANSLATE_GVA, &gva,
				       sizeof(gva), &gpa, sizeof(gpa)),
		       -KVM_EAGAIN);
	TEST_ASSERT_EQ(__kvmi_vcpu_cmd(env, 0, KVMI_VCPU_INJECT_EXCEPTION,
				       &exception, sizeof(exception), NULL, 0),
		       -KVM_EAGAIN);
	/* what both share */
	TEST_ASSERT_EQ(__kvmi_vcpu_cmd(env, 0, KVMI_VCPU_GET_XCR, &req,
				       sizeof(req), &xcr, sizeof(xcr)), 0);

	*self->stop = 1;
	TEST_ASSERT_EQ(kvmi_runner_wait(self->r), 1);
	TEST_ASSERT_EQ(get_registers(env, &regs), 0);
}

/* The pause comes with the exit to the guest that is introspected. */
TEST_F_TIMEOUT(nested, pause, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_event ev;
	uint64_t rip;
	int i;

	start_l2(self, l2_main);
	for (i = 0; i < 3; i++)
		TEST_ASSERT_EQ(__kvmi_pause_vcpu(&env->tool, 0, i & 1), 0);
	kvmi_no_event(&env->tool);
	TEST_ASSERT(!kvmi_runner_poll(self->r, 0), "not running");

	*self->stop = 1;
	for (i = 0; i < 3; i++) {
		kvmi_wait_event(&env->tool, KVMI_VCPU_EVENT_PAUSE, &ev);
		rip = ev.common.arch.regs.rip;
		TEST_ASSERT(rip < (uint64_t)l2_main ||
			    rip > (uint64_t)l2_main + 64,
			    "rip %#lx is in the guest's guest", rip);
		kvmi_reply(&env->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	}
	TEST_ASSERT_EQ(kvmi_runner_wait(self->r), 1);
	kvmi_no_event(&env->tool);
}

/* What is put off does not outlive the session. */
TEST_F_TIMEOUT(nested, unhook, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;

	start_l2(self, l2_main);
	TEST_ASSERT_EQ(__kvmi_pause_vcpu(&env->tool, 0, false), 0);
	kvmi_env_unhook(env);
	kvmi_env_hook(env);
	*self->stop = 1;
	TEST_ASSERT_EQ(kvmi_runner_wait(self->r), 1);
	kvmi_no_event(&env->tool);
}

/* ---- events ---- */

static void control(FIXTURE_DATA(nested) * self, uint16_t id, const void *req,
		    size_t size)
{
	TEST_ASSERT_EQ(__kvmi_vcpu_cmd(&self->env, 0, id, req, size, NULL, 0),
		       0);
}

static void arm_all(FIXTURE_DATA(nested) * self)
{
	static const uint32_t msrs[] = { MSR_LSTAR, MSR_KERNEL_GS_BASE };
	static const uint8_t crs[] = { 0, 3, 4 };
	static const uint16_t events[] = {
		KVMI_VCPU_EVENT_HYPERCALL, KVMI_VCPU_EVENT_BREAKPOINT,
		KVMI_VCPU_EVENT_CR, KVMI_VCPU_EVENT_XSETBV,
		KVMI_VCPU_EVENT_MSR, KVMI_VCPU_EVENT_PF,
	};
	struct kvmi_env *env = &self->env;
	int i, err;

	for (i = 0; i < ARRAY_SIZE(crs); i++) {
		struct kvmi_vcpu_control_cr req = { .cr = crs[i], .enable = 1 };

		control(self, KVMI_VCPU_CONTROL_CR, &req, sizeof(req));
	}
	for (i = 0; i < ARRAY_SIZE(msrs); i++) {
		struct kvmi_vcpu_control_msr req = {
			.msr = msrs[i], .enable = 1,
		};

		control(self, KVMI_VCPU_CONTROL_MSR, &req, sizeof(req));
	}
	for (i = 0; i < ARRAY_SIZE(events); i++)
		kvmi_control_event(env, 0, events[i], true);
	err = __kvmi_control_event(env, 0, KVMI_VCPU_EVENT_DESCRIPTOR, true);
	TEST_ASSERT(!err || err == -KVM_EOPNOTSUPP, "DESCRIPTOR: %d", err);
	kvmi_set_page_access(&env->tool, kvmi_gpa(L2_PAGE, 0), 0);
}

static uint64_t l1_wrmsr(uint64_t msr, uint64_t val, uint64_t arg)
{
	wrmsr(msr, val);

	return rdmsr(msr);
}

static uint64_t l1_write_cr3(uint64_t gva, uint64_t val, uint64_t arg)
{
	asm volatile("mov %0, %%cr3" :: "r"(get_cr3() ^ BIT(3)) : "memory");

	return 1;
}

static uint64_t l1_write_cr4(uint64_t gva, uint64_t val, uint64_t arg)
{
	set_cr4(get_cr4() ^ X86_CR4_TSD);

	return 1;
}

/* An event for the guest itself, answered with CONTINUE */
static void check_event(FIXTURE_DATA(nested) * self, uint16_t id,
			kvmi_insn insn, uint64_t gva, uint64_t val)
{
	struct kvmi_event ev;

	kvmi_runner_do(self->r, insn, gva, val);
	kvmi_wait_event(&self->env.tool, id, &ev);
	answer(self, &ev);
	kvmi_runner_wait(self->r);
	kvmi_no_event(&self->env.tool);
}

static void test_events(FIXTURE_DATA(nested) * self, bool before)
{
	volatile uint64_t *mem = kvmi_hva(&self->env, L2_PAGE, 0);
	struct kvmi_env *env = &self->env;

	if (before)
		arm_all(self);
	start_l2(self, l2_events);
	if (!before)
		arm_all(self);
	kvmi_no_event(&env->tool);

	*self->stop = 1;
	TEST_ASSERT_EQ(kvmi_runner_wait(self->r), 1);
	kvmi_no_event(&env->tool);
	TEST_ASSERT_EQ(mem[0], L2_PATTERN);
	TEST_ASSERT_EQ(mem[1], L2_PATTERN);
	TEST_ASSERT_EQ(mem[2], 1);

	/* For the guest itself, all is as the tool wants it. */
	check_event(self, KVMI_VCPU_EVENT_MSR, l1_wrmsr, MSR_LSTAR, 0x1000);
	check_event(self, KVMI_VCPU_EVENT_MSR, l1_wrmsr, MSR_KERNEL_GS_BASE,
		    0x1000);
	check_event(self, KVMI_VCPU_EVENT_CR, l1_write_cr3, 0, 0);
	check_event(self, KVMI_VCPU_EVENT_CR, l1_write_cr4, 0, 0);
	check_event(self, KVMI_VCPU_EVENT_PF, kvmi_insn_read,
		    kvmi_gva(L2_PAGE, 0), 0);
}

/* What L2 does is no event of the VM's. */
TEST_F_TIMEOUT(nested, events_before, KVMI_TEST_TIMEOUT)
{
	test_events(self, true);
}

/* Nor if the tool makes up its mind while it runs. */
TEST_F_TIMEOUT(nested, events_meanwhile, KVMI_TEST_TIMEOUT)
{
	test_events(self, false);
}

/* All that L2 does is one step at the most. */
TEST_F_TIMEOUT(nested, singlestep, KVMI_TEST_TIMEOUT)
{
	struct kvmi_vcpu_control_singlestep req = { .enable = 1 };
	struct kvmi_env *env = &self->env;
	struct kvmi_event ev;
	uint64_t rip;
	int i;

	if (!kvmi_can_step(&env->tool))
		SKIP(return, "the machine cannot step");

	start_l2(self, l2_main);
	control(self, KVMI_VCPU_CONTROL_SINGLESTEP, &req, sizeof(req));
	kvmi_no_event(&env->tool);
	*self->stop = 1;
	for (i = 0; i < 10; i++) {
		kvmi_wait_event(&env->tool, KVMI_VCPU_EVENT_SINGLESTEP, &ev);
		rip = ev.common.arch.regs.rip;
		TEST_ASSERT(rip < (uint64_t)l2_main ||
			    rip > (uint64_t)l2_main + 64,
			    "rip %#lx is in the guest's guest", rip);
		if (i == 9) {
			req.enable = 0;
			control(self, KVMI_VCPU_CONTROL_SINGLESTEP, &req,
				sizeof(req));
		}
		kvmi_reply(&env->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	}
	TEST_ASSERT_EQ(kvmi_runner_wait(self->r), 1);
	kvmi_no_event(&env->tool);
}

/* To enter L2 is a step like others, whatever comes of it. */
TEST_F_TIMEOUT(nested, singlestep_enter, KVMI_TEST_TIMEOUT)
{
	struct kvmi_vcpu_control_singlestep req = { .enable = 1 };
	struct kvmi_env *env = &self->env;
	uint64_t runs = 0, entries = 0;
	struct kvmi_event ev;
	unsigned int idle;
	uint32_t seq;

	if (!kvmi_can_step(&env->tool))
		SKIP(return, "the machine cannot step");

	*self->l2_runs = 0;
	kvmi_runner_do(self->r, l1_enter, self->gva, (uint64_t)l2_count);
	kvmi_runner_wait(self->r);

	seq = kvmi_vcpu_send(&env->tool, 0, KVMI_VCPU_CONTROL_SINGLESTEP, &req,
			     sizeof(req));
	/* Now it is queued. */
	kvmi_alive(&env->tool);
	kvmi_runner_go(self->r);
	TEST_ASSERT_EQ(__kvmi_recv_reply(&env->tool,
					 KVMI_VCPU_CONTROL_SINGLESTEP, seq,
					 NULL, 0), 0);

	for (idle = 0; !kvmi_runner_poll(self->r, 0); idle++) {
		TEST_ASSERT(idle < KVMI_TIMEOUT_MS / 20, "no step");
		if (!kvmi_poll_event(&env->tool, &ev, 20))
			continue;
		TEST_ASSERT_EQ(ev.event, KVMI_VCPU_EVENT_SINGLESTEP);
		TEST_ASSERT(!ev.singlestep.failed,
			    "the step to %#llx has failed, L2 has run %lu times",
			    ev.common.arch.regs.rip, *self->l2_runs);
		entries += *self->l2_runs != runs;
		runs = *self->l2_runs;
		kvmi_reply(&env->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
		idle = 0;
	}
	TEST_ASSERT_EQ(self->r->req->result, 1);
	TEST_ASSERT_EQ(self->r->req->done, 1);
	TEST_ASSERT_EQ(entries, 2);
	kvmi_no_event(&env->tool);
}

int main(int argc, char *argv[])
{
	TEST_REQUIRE(kvmi_supported());
	if (!kvmi_is_masked_guest_left())
		ksft_exit_skip(KVMI_MASKED_GUEST_STAYS "\n");

	return test_harness_run(argc, argv);
}
