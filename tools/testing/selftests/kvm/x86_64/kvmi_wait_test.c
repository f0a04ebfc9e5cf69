// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM introspection: what goes on while an event waits for the tool's answer,
 * tried with each kind of event.
 */
#include "test_util.h"
#include "kvm_util.h"
#include "kselftest_harness.h"
#include "kvmi_util.h"

#define CONTINUE	KVMI_EVENT_ACTION_CONTINUE

#define HANDLED		0x4a4dull
#define PLAIN		0x91a1ull
#define MOVED		0x5eedull
#define WRITTEN		0x3717ull

/* The page that a PF event is about, and others that the test looks at */
#define PF_PAGE		0
#define MOVED_PAGE	1
#define STATE_PAGE	2

#define SPARE_SLOT	20
#define SPARE_GPA	0x60000000ull

/* ---- guest ---- */

static uint64_t guest_plain(uint64_t gva, uint64_t val, uint64_t arg)
{
	return PLAIN;
}

static uint64_t guest_hypercall(uint64_t gva, uint64_t val, uint64_t arg)
{
	uint64_t ret;

	if (host_cpu_is_amd)
		asm volatile("vmmcall" : "=a"(ret)
			     : "a"(KVM_HC_XEN_HVM_OP), "S"(0ull),
			       "D"(KVM_HC_XEN_HVM_OP_GUEST_REQUEST_VM_EVENT)
			     : "memory");
	else
		asm volatile("vmcall" : "=a"(ret)
			     : "a"(KVM_HC_XEN_HVM_OP), "S"(0ull),
			       "D"(KVM_HC_XEN_HVM_OP_GUEST_REQUEST_VM_EVENT)
			     : "memory");

	return ret;
}

/* There and back: a test may ask for it more than once. */
static uint64_t guest_cr4(uint64_t gva, uint64_t val, uint64_t arg)
{
	set_cr4(get_cr4() ^ X86_CR4_TSD);

	return get_cr4() & X86_CR4_TSD;
}

static uint64_t guest_lstar(uint64_t gva, uint64_t val, uint64_t arg)
{
	wrmsr(MSR_LSTAR, val);

	return rdmsr(MSR_LSTAR);
}

static uint64_t guest_sgdt(uint64_t gva, uint64_t val, uint64_t arg)
{
	struct desc_ptr dt = { };

	asm volatile("sgdt %0" : "=m"(dt));

	return !!dt.address;
}

/* With KVM's emulator: not every machine intercepts the instruction. */
static uint64_t guest_xsetbv(uint64_t gva, uint64_t val, uint64_t arg)
{
	uint64_t ec;

	set_cr4(get_cr4() | X86_CR4_OSXSAVE);
	return kvm_asm_safe_ec_fep("xsetbv", ec, "a"((uint32_t)val), "d"(0),
				   "c"(0)) ? ~0ull : xgetbv(0);
}

static uint64_t guest_write(uint64_t gva, uint64_t val, uint64_t arg)
{
	*(volatile uint64_t *)gva = val;

	return PLAIN;
}

/* Where the VMM may send the vCPU */
static void guest_moved(void)
{
	*(volatile uint64_t *)kvmi_gva(MOVED_PAGE, 0) = MOVED;
	GUEST_SYNC(MOVED);
	for (;;)
		;
}

static void handle_bp(struct ex_regs *regs)
{
	/* Some deliver it with the address of INT3 itself. */
	regs->rip += regs->rip == (uint64_t)kvmi_insn_int3_at;
	regs->rax = HANDLED;
}

static void handle_ud(struct ex_regs *regs)
{
	(*(volatile uint64_t *)kvmi_gva(STATE_PAGE, 0))++;
}

/* ---- the kinds of events ---- */

FIXTURE(wait)
{
	struct kvmi_env env;
	struct kvmi_runner *r;
	uint64_t want;		/* the guest's result */
	struct kvmi_event ev;
};

FIXTURE_VARIANT(wait)
{
	uint16_t id;
};

static void pause_vcpu(FIXTURE_DATA(wait) * self)
{
	TEST_ASSERT_EQ(__kvmi_pause_vcpu(&self->env.tool, 0, false), 0);
}

static void wait_pause(FIXTURE_DATA(wait) * self)
{
	kvmi_wait_event(&self->env.tool, KVMI_VCPU_EVENT_PAUSE, &self->ev);
}

static void vcpu_cmd(FIXTURE_DATA(wait) * self, uint16_t id, const void *req,
		     size_t size)
{
	TEST_ASSERT_EQ(__kvmi_vcpu_cmd(&self->env, 0, id, req, size, NULL, 0),
		       0);
}

static void control_singlestep(FIXTURE_DATA(wait) * self, uint8_t enable)
{
	struct kvmi_vcpu_control_singlestep req = { .enable = enable };

	vcpu_cmd(self, KVMI_VCPU_CONTROL_SINGLESTEP, &req, sizeof(req));
}

static void control_cr4(FIXTURE_DATA(wait) * self, uint8_t enable)
{
	struct kvmi_vcpu_control_cr req = { .cr = 4, .enable = enable };

	vcpu_cmd(self, KVMI_VCPU_CONTROL_CR, &req, sizeof(req));
}

static void control_lstar(FIXTURE_DATA(wait) * self, uint8_t enable)
{
	struct kvmi_vcpu_control_msr req = {
		.msr = MSR_LSTAR, .enable = enable,
	};

	vcpu_cmd(self, KVMI_VCPU_CONTROL_MSR, &req, sizeof(req));
}

/* Has the tool to enable it? */
static bool is_controlled(uint16_t id)
{
	return id != KVMI_VCPU_EVENT_PAUSE && id != KVMI_VCPU_EVENT_TRAP &&
	       id != KVMI_VCPU_EVENT_SINGLESTEP;
}

static int arm(FIXTURE_DATA(wait) * self, uint16_t id)
{
	int err;

	if (is_controlled(id)) {
		err = __kvmi_control_event(&self->env, 0, id, true);
		if (err)
			return err;
	}
	if (id == KVMI_VCPU_EVENT_CR)
		control_cr4(self, 1);
	if (id == KVMI_VCPU_EVENT_MSR)
		control_lstar(self, 1);
	if (id == KVMI_VCPU_EVENT_PF)
		kvmi_set_page_access(&self->env.tool, kvmi_gpa(PF_PAGE, 0),
				     KVMI_PAGE_ACCESS_R);

	return 0;
}

/* The same work for the guest each time, but with another value. */
static void start(FIXTURE_DATA(wait) * self, uint16_t id)
{
	struct kvmi_runner *r = self->r;
	uint64_t val = self->want;

	switch (id) {
	case KVMI_VCPU_EVENT_HYPERCALL:
		self->want = 0;
		kvmi_runner_do(r, guest_hypercall, 0, 0);
		break;
	case KVMI_VCPU_EVENT_BREAKPOINT:
		self->want = HANDLED;
		kvmi_runner_do(r, kvmi_insn_int3, 0, 0);
		break;
	case KVMI_VCPU_EVENT_CR:
		self->want ^= X86_CR4_TSD;
		kvmi_runner_do(r, guest_cr4, 0, 0);
		break;
	case KVMI_VCPU_EVENT_XSETBV:
		self->want = val == 3 ? 1 : 3;
		kvmi_runner_do(r, guest_xsetbv, 0, self->want);
		break;
	case KVMI_VCPU_EVENT_DESCRIPTOR:
		self->want = 1;
		kvmi_runner_do(r, guest_sgdt, 0, 0);
		break;
	case KVMI_VCPU_EVENT_MSR:
		self->want = val == WRITTEN ? WRITTEN + 1 : WRITTEN;
		kvmi_runner_do(r, guest_lstar, 0, self->want);
		break;
	case KVMI_VCPU_EVENT_PF:
		self->want = PLAIN;
		kvmi_runner_do(r, guest_write, kvmi_gva(PF_PAGE, 0), WRITTEN);
		break;
	default:
		self->want = PLAIN;
		kvmi_runner_do(r, guest_plain, 0, 0);
		break;
	}
}

/* Until the event waits */
static void begin(FIXTURE_DATA(wait) * self, uint16_t id)
{
	struct kvmi_vcpu_inject_exception exception = { .nr = UD_VECTOR };
	struct kvmi_tool *tool = &self->env.tool;

	switch (id) {
	case KVMI_VCPU_EVENT_PAUSE:
	case KVMI_VCPU_EVENT_TRAP:
	case KVMI_VCPU_EVENT_SINGLESTEP:
		pause_vcpu(self);
		start(self, id);
		wait_pause(self);
		if (id == KVMI_VCPU_EVENT_PAUSE)
			return;
		if (id == KVMI_VCPU_EVENT_TRAP)
			vcpu_cmd(self, KVMI_VCPU_INJECT_EXCEPTION, &exception,
				 sizeof(exception));
		else
			control_singlestep(self, 1);
		kvmi_reply(tool, &self->ev, CONTINUE);
		kvmi_wait_event(tool, id, &self->ev);
		return;
	}

	start(self, id);
	kvmi_wait_event(tool, id, &self->ev);
}

/* The tool lets the guest go on; it is through with stepping then. */
static void answer(FIXTURE_DATA(wait) * self)
{
	struct kvmi_event *ev = &self->ev;

	if (ev->event == KVMI_VCPU_EVENT_SINGLESTEP)
		control_singlestep(self, 0);

	if (ev->event == KVMI_VCPU_EVENT_CR)
		kvmi_reply_value(&self->env.tool, ev, CONTINUE,
				 ev->cr.new_value, 8);
	else if (ev->event == KVMI_VCPU_EVENT_MSR)
		kvmi_reply_value(&self->env.tool, ev, CONTINUE,
				 ev->msr.new_value, 8);
	else
		kvmi_reply(&self->env.tool, ev, CONTINUE);
}

static uint64_t nr_ud(FIXTURE_DATA(wait) * self)
{
	return *(volatile uint64_t *)kvmi_hva(&self->env, STATE_PAGE, 0);
}

/* Nobody asks for the event; nobody is there to answer the hypercall. */
static void run_without_event(FIXTURE_DATA(wait) * self, uint16_t id)
{
	start(self, id);
	if (id == KVMI_VCPU_EVENT_HYPERCALL)
		self->want = -KVM_ENOSYS;
	TEST_ASSERT_EQ(kvmi_runner_wait(self->r), self->want);
}

/* The guest has done what it was about to do, once. */
static void check_done(FIXTURE_DATA(wait) * self, uint16_t id, uint64_t uds)
{
	TEST_ASSERT_EQ(kvmi_runner_wait(self->r), self->want);
	if (id == KVMI_VCPU_EVENT_PF)
		TEST_ASSERT_EQ(*(uint64_t *)kvmi_hva(&self->env, PF_PAGE, 0),
			       WRITTEN);
	TEST_ASSERT_EQ(nr_ud(self),
		       uds + (id == KVMI_VCPU_EVENT_TRAP));
}

FIXTURE_SETUP(wait)
{
	struct kvmi_env *env = &self->env;

	self->r = &env->run[0];
	if (variant->id == KVMI_VCPU_EVENT_XSETBV) {
		if (!kvm_cpu_has(X86_FEATURE_XSAVE))
			SKIP(return, "the CPU has no XSETBV");
		if (!is_forced_emulation_enabled)
			SKIP(return, "kvm.force_emulation_prefix is off");
	}

	kvmi_env_create(env, 1);
	vm_install_exception_handler(env->vm, BP_VECTOR, handle_bp);
	vm_install_exception_handler(env->vm, UD_VECTOR, handle_ud);
	if (variant->id == KVMI_VCPU_EVENT_BREAKPOINT &&
	    !kvmi_is_int3_intercepted(env))
		SKIP(return, KVMI_INT3_IGNORED);
	kvmi_env_hook(env);

	if (variant->id == KVMI_VCPU_EVENT_SINGLESTEP &&
	    !kvmi_can_step(&env->tool))
		SKIP(return, "the machine cannot step");
	if (variant->id == KVMI_VCPU_EVENT_BREAKPOINT) {
		/* KVM has to deliver it if a page on the way is not mapped. */
		kvmi_runner_do(self->r, kvmi_insn_int3, 0, 0);
		kvmi_runner_wait(self->r);
	}
	if (arm(self, variant->id)) {
		TEST_ASSERT_EQ(variant->id, KVMI_VCPU_EVENT_DESCRIPTOR);
		SKIP(return, "the CPU cannot intercept them");
	}
}

FIXTURE_TEARDOWN(wait)
{
	if (self->env.vm)
		kvmi_env_destroy(&self->env);
}

FIXTURE_VARIANT_ADD(wait, pause) { .id = KVMI_VCPU_EVENT_PAUSE };
FIXTURE_VARIANT_ADD(wait, hypercall) { .id = KVMI_VCPU_EVENT_HYPERCALL };
FIXTURE_VARIANT_ADD(wait, breakpoint) { .id = KVMI_VCPU_EVENT_BREAKPOINT };
FIXTURE_VARIANT_ADD(wait, cr) { .id = KVMI_VCPU_EVENT_CR };
FIXTURE_VARIANT_ADD(wait, trap) { .id = KVMI_VCPU_EVENT_TRAP };
FIXTURE_VARIANT_ADD(wait, xsetbv) { .id = KVMI_VCPU_EVENT_XSETBV };
FIXTURE_VARIANT_ADD(wait, descriptor) { .id = KVMI_VCPU_EVENT_DESCRIPTOR };
FIXTURE_VARIANT_ADD(wait, msr) { .id = KVMI_VCPU_EVENT_MSR };
FIXTURE_VARIANT_ADD(wait, pf) { .id = KVMI_VCPU_EVENT_PF };
FIXTURE_VARIANT_ADD(wait, singlestep) { .id = KVMI_VCPU_EVENT_SINGLESTEP };

/* ---- the VMM ---- */

static void interrupt(FIXTURE_DATA(wait) * self)
{
	kvmi_runner_kick(self->r);
	kvmi_runner_wait_exit(self->r);
	TEST_ASSERT_EQ(self->r->ret, -1);
	TEST_ASSERT_EQ(self->r->err, EINTR);
}

/* It saves and restores the vCPU, and neither guest nor tool notice. */
TEST_F_TIMEOUT(wait, state, KVMI_TEST_TIMEOUT)
{
	struct kvmi_vcpu_get_registers req = { };
	struct kvmi_vcpu_get_registers_reply rpl;
	struct kvmi_env *env = &self->env;
	uint64_t uds = nr_ud(self);
	struct kvm_x86_state *state;
	struct kvm_regs regs;
	int i;

	begin(self, variant->id);
	for (i = 0; i < 3; i++) {
		interrupt(self);

		/* This has a KVM_RUN in it, that comes back at once. */
		state = vcpu_save_state(self->r->vcpu);
		TEST_ASSERT(!memcmp(&state->regs, &self->ev.common.arch.regs,
				    sizeof(state->regs)),
			    "the VMM sees other registers than the tool");
		vcpu_load_state(self->r->vcpu, state);
		kvm_x86_state_cleanup(state);

		kvmi_runner_go(self->r);
		kvmi_no_event(&env->tool);
	}

	/* What it changes, the tool sees. */
	interrupt(self);
	vcpu_regs_get(self->r->vcpu, &regs);
	regs.r15 ^= 0x1234;
	vcpu_regs_set(self->r->vcpu, &regs);
	kvmi_runner_go(self->r);
	TEST_ASSERT_EQ(__kvmi_vcpu_cmd(env, 0, KVMI_VCPU_GET_REGISTERS, &req,
				       sizeof(req), &rpl, sizeof(rpl)), 0);
	TEST_ASSERT_EQ(rpl.regs.r15, regs.r15);
	TEST_ASSERT_EQ(rpl.regs.rip, regs.rip);
	interrupt(self);
	regs.r15 ^= 0x1234;
	vcpu_regs_set(self->r->vcpu, &regs);
	kvmi_runner_go(self->r);

	answer(self);
	check_done(self, variant->id, uds);
	kvmi_no_event(&env->tool);
}

static uint64_t vcpu_cr4(struct kvm_vcpu *vcpu, struct kvm_sregs *sregs)
{
	vcpu_sregs_get(vcpu, sregs);

	/* guest_xsetbv() sets this one. */
	return sregs->cr4 & ~X86_CR4_OSXSAVE;
}

/* It sends the vCPU elsewhere: an answer does not concern what is there. */
TEST_F_TIMEOUT(wait, moved, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	uint64_t lstar = vcpu_get_msr(self->r->vcpu, MSR_LSTAR);
	struct kvm_sregs sregs;
	struct kvm_regs regs;
	uint64_t cr4;

	cr4 = vcpu_cr4(self->r->vcpu, &sregs);
	begin(self, variant->id);
	interrupt(self);
	vcpu_regs_get(self->r->vcpu, &regs);
	regs.rip = (uint64_t)guest_moved;
	/* as after a call */
	regs.rsp = ((regs.rsp - 256) & ~0xfull) - 8;
	vcpu_regs_set(self->r->vcpu, &regs);
	kvmi_runner_go(self->r);
	kvmi_no_event(&env->tool);

	answer(self);
	kvmi_runner_wait_exit(self->r);
	TEST_ASSERT_EQ(self->r->uc.cmd, UCALL_SYNC);
	TEST_ASSERT_EQ(*(uint64_t *)kvmi_hva(env, MOVED_PAGE, 0), MOVED);

	/* The instruction has not been carried out. */
	TEST_ASSERT_EQ(vcpu_cr4(self->r->vcpu, &sregs), cr4);
	TEST_ASSERT_EQ(vcpu_get_msr(self->r->vcpu, MSR_LSTAR), lstar);
	TEST_ASSERT_EQ(*(uint64_t *)kvmi_hva(env, PF_PAGE, 0), 0);
	kvmi_no_event(&env->tool);
}

static void change_memslots(void *arg)
{
	struct kvm_vm *vm = arg;
	void *mem;
	int i;

	mem = mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	TEST_ASSERT(mem != MAP_FAILED, "mmap()");
	for (i = 0; i < 3; i++) {
		vm_set_user_memory_region(vm, SPARE_SLOT, 0, SPARE_GPA,
					  PAGE_SIZE, mem);
		vm_set_user_memory_region(vm, SPARE_SLOT, 0, SPARE_GPA, 0, mem);
	}
	munmap(mem, PAGE_SIZE);
}

/* Nothing that the VMM does has to wait with the vCPU. */
TEST_F_TIMEOUT(wait, not_locked, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	uint64_t uds = nr_ud(self);
	struct kvm_regs regs;

	begin(self, variant->id);
	kvmi_must_return("KVM_SET_USER_MEMORY_REGION", change_memslots,
			 env->vm);
	kvmi_env_add_vcpu(env, 1);
	vcpu_regs_get(env->run[1].vcpu, &regs);
	kvmi_runner_do(&env->run[1], guest_plain, 0, 0);
	TEST_ASSERT_EQ(kvmi_runner_wait(&env->run[1]), PLAIN);
	TEST_ASSERT(!kvmi_runner_poll(self->r, 0), "it did not wait");

	answer(self);
	check_done(self, variant->id, uds);
}

/* ---- the tool ---- */

/* It has what it wants of a vCPU that waits. */
TEST_F_TIMEOUT(wait, commands, KVMI_TEST_TIMEOUT)
{
	struct kvmi_vcpu_get_registers req = { };
	struct kvmi_vcpu_get_registers_reply rpl;
	struct kvmi_vcpu_translate_gva_reply gpa;
	struct kvmi_vcpu_translate_gva gva;
	struct kvmi_env *env = &self->env;
	uint64_t uds = nr_ud(self);
	int i;

	begin(self, variant->id);
	for (i = 0; i < 3; i++) {
		TEST_ASSERT_EQ(__kvmi_vcpu_cmd(env, 0, KVMI_VCPU_GET_REGISTERS,
					       &req, sizeof(req), &rpl,
					       sizeof(rpl)), 0);
		TEST_ASSERT(!memcmp(&rpl.regs, &self->ev.common.arch.regs,
				    sizeof(rpl.regs)), "other registers");
		TEST_ASSERT(!memcmp(&rpl.sregs, &self->ev.common.arch.sregs,
				    sizeof(rpl.sregs)), "other registers");
		TEST_ASSERT_EQ(rpl.mode, self->ev.common.arch.mode);
		TEST_ASSERT_EQ(__kvmi_vcpu_cmd(env, 0, KVMI_VCPU_SET_REGISTERS,
					       &rpl.regs, sizeof(rpl.regs),
					       NULL, 0), 0);
		gva.gva = rpl.regs.rip;
		TEST_ASSERT_EQ(__kvmi_vcpu_cmd(env, 0, KVMI_VCPU_TRANSLATE_GVA,
					       &gva, sizeof(gva), &gpa,
					       sizeof(gpa)), 0);
		TEST_ASSERT_EQ(gpa.gpa, addr_gva2gpa(env->vm, gva.gva));
	}

	answer(self);
	check_done(self, variant->id, uds);
	kvmi_no_event(&env->tool);
}

/* The tool, or the VMM, does not want the event any more. */
static void stop_events(FIXTURE_DATA(wait) * self, uint16_t id, bool by_tool)
{
	if (!by_tool)
		vm_kvmi_allow_event(self->env.vm, id, 0);
	else if (is_controlled(id))
		kvmi_control_event(&self->env, 0, id, false);
	else if (id == KVMI_VCPU_EVENT_SINGLESTEP)
		control_singlestep(self, 0);
}

static void test_disabled(FIXTURE_DATA(wait) * self, uint16_t id, bool by_tool)
{
	struct kvmi_env *env = &self->env;
	uint64_t uds = nr_ud(self);
	int i;

	begin(self, id);
	stop_events(self, id, by_tool);
	kvmi_no_event(&env->tool);
	TEST_ASSERT(!kvmi_runner_poll(self->r, 0), "the event is lost");

	/* Nobody can allow stepping once more, so answer() is not for it. */
	if (id == KVMI_VCPU_EVENT_SINGLESTEP)
		kvmi_reply(&env->tool, &self->ev, CONTINUE);
	else
		answer(self);
	check_done(self, id, uds);

	for (i = 0; i < 2; i++)
		run_without_event(self, id);
	kvmi_no_event(&env->tool);
	kvmi_alive(&env->tool);
}

TEST_F_TIMEOUT(wait, disabled, KVMI_TEST_TIMEOUT)
{
	test_disabled(self, variant->id, true);
}

TEST_F_TIMEOUT(wait, disallowed, KVMI_TEST_TIMEOUT)
{
	test_disabled(self, variant->id, false);
}

/* ---- the end of the session ---- */

static void test_end(FIXTURE_DATA(wait) * self, uint16_t id, bool unhook)
{
	struct kvmi_env *env = &self->env;
	uint64_t uds = nr_ud(self);
	int i;

	begin(self, id);
	/* two pauses have come true by then, and one has not */
	if (id != KVMI_VCPU_EVENT_PAUSE)
		pause_vcpu(self);
	if (unhook)
		kvmi_env_unhook(env);
	else
		kvmi_tool_close(&env->tool);
	check_done(self, id, uds);

	for (i = 0; i < 2; i++)
		run_without_event(self, id);

	/* Nothing is left of it for the next tool. */
	kvmi_env_hook(env);
	run_without_event(self, id);
	kvmi_no_event(&env->tool);

	arm(self, id);
	begin(self, id);
	answer(self);
	TEST_ASSERT_EQ(kvmi_runner_wait(self->r), self->want);
}

TEST_F_TIMEOUT(wait, unhooked, KVMI_TEST_TIMEOUT)
{
	test_end(self, variant->id, true);
}

TEST_F_TIMEOUT(wait, closed, KVMI_TEST_TIMEOUT)
{
	test_end(self, variant->id, false);
}

/* The VMM is interrupted, and the tool gone when it comes back. */
TEST_F_TIMEOUT(wait, closed_while_interrupted, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	uint64_t uds = nr_ud(self);

	begin(self, variant->id);
	interrupt(self);
	kvmi_tool_close(&env->tool);
	kvmi_runner_go(self->r);
	check_done(self, variant->id, uds);
}

/* The vCPU goes no further, whatever the event. */
TEST_F_TIMEOUT(wait, crash, KVMI_TEST_TIMEOUT)
{
	struct kvm_regs regs;

	begin(self, variant->id);
	kvmi_reply(&self->env.tool, &self->ev, KVMI_EVENT_ACTION_CRASH);
	kvmi_runner_wait_exit(self->r);
	TEST_ASSERT_EQ(self->r->ret, 0);
	TEST_ASSERT_EQ(self->r->vcpu->run->exit_reason, KVM_EXIT_SHUTDOWN);
	vcpu_regs_get(self->r->vcpu, &regs);
	TEST_ASSERT(!memcmp(&regs, &self->ev.common.arch.regs, sizeof(regs)),
		    "registers have changed");
	TEST_ASSERT_EQ(*(uint64_t *)kvmi_hva(&self->env, PF_PAGE, 0), 0);
}

/* ---- answers that are none ---- */

static bool has_retry(uint16_t id)
{
	return id == KVMI_VCPU_EVENT_BREAKPOINT ||
	       id == KVMI_VCPU_EVENT_DESCRIPTOR || id == KVMI_VCPU_EVENT_PF;
}

static size_t value_size(uint16_t id)
{
	return id == KVMI_VCPU_EVENT_CR || id == KVMI_VCPU_EVENT_MSR ? 8 : 0;
}

/* Such an answer ends the session, and the guest goes on without the tool. */
static void test_bad_answer(FIXTURE_DATA(wait) * self, uint16_t id,
			    uint8_t action, size_t size)
{
	struct kvmi_env *env = &self->env;
	uint64_t uds = nr_ud(self);

	begin(self, id);
	kvmi_reply_value(&env->tool, &self->ev, action, 0, size);
	check_done(self, id, uds);
	kvmi_wait_closed(&env->tool);

	kvmi_env_unhook(env);
	kvmi_env_hook(env);
	arm(self, id);
}

TEST_F_TIMEOUT(wait, bad_action, KVMI_TEST_TIMEOUT)
{
	static const uint8_t actions[] = { KVMI_EVENT_ACTION_CRASH + 1, 8, 63,
					   64, 0x80, 0xff };
	const uint16_t id = variant->id;
	int i;

	if (!has_retry(id))
		test_bad_answer(self, id, KVMI_EVENT_ACTION_RETRY,
				value_size(id));
	for (i = 0; i < ARRAY_SIZE(actions); i++)
		test_bad_answer(self, id, actions[i], value_size(id));
}

/* With more data than the event takes */
TEST_F_TIMEOUT(wait, long_answer, KVMI_TEST_TIMEOUT)
{
	const uint16_t id = variant->id;

	test_bad_answer(self, id, CONTINUE, value_size(id) + 1);
	test_bad_answer(self, id, CONTINUE, value_size(id) + 8);
	test_bad_answer(self, id, KVMI_EVENT_ACTION_CRASH, value_size(id) + 8);
}

int main(int argc, char *argv[])
{
	TEST_REQUIRE(kvmi_supported());

	return test_harness_run(argc, argv);
}
