// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM introspection: exceptions that the tool injects, and the event that
 * tells what the guest has got.
 */
#include <sys/ioctl.h>

#include "test_util.h"
#include "kvm_util.h"
#include "kselftest_harness.h"
#include "kvmi_util.h"

/* What the guest has got, in the page that the test shares with it. */
struct seen {
	uint64_t nr;		/* how many */
	uint64_t vector, error_code, rip, cr2;
};

#define SEEN_GVA	(KVMI_TEST_GVA + PAGE_SIZE)

/* The vectors that can be delivered in 64-bit mode, BP apart. */
static const uint8_t vectors[] = {
	DE_VECTOR, DB_VECTOR, UD_VECTOR, NM_VECTOR, DF_VECTOR, TS_VECTOR,
	NP_VECTOR, SS_VECTOR, GP_VECTOR, PF_VECTOR, MF_VECTOR, AC_VECTOR,
	MC_VECTOR, XM_VECTOR,
};

static void guest_handler(struct ex_regs *regs)
{
	volatile struct seen *seen = (void *)SEEN_GVA;
	uint64_t cr2;

	asm volatile("mov %%cr2, %0" : "=r"(cr2));
	seen->vector = regs->vector;
	seen->error_code = regs->error_code;
	seen->rip = regs->rip;
	seen->cr2 = cr2;
	seen->nr++;
}

FIXTURE(inject)
{
	struct kvmi_env env;
	struct kvmi_runner *r;
	volatile uint64_t *stop;
	volatile struct seen *seen;
};

FIXTURE_SETUP(inject)
{
	struct kvmi_env *env = &self->env;
	int i;

	kvmi_env_create(env, 1);
	for (i = 0; i < ARRAY_SIZE(vectors); i++)
		vm_install_exception_handler(env->vm, vectors[i], guest_handler);
	vm_install_exception_handler(env->vm, BP_VECTOR, guest_handler);
	kvmi_env_hook(env);
	self->r = &env->run[0];
	self->stop = kvmi_hva(env, 0, 0);
	self->seen = kvmi_hva(env, 1, 0);
}

FIXTURE_TEARDOWN(inject)
{
	*self->stop = 1;
	kvmi_env_destroy(&self->env);
}

static bool has_error_code(uint8_t nr)
{
	switch (nr) {
	case DF_VECTOR: case TS_VECTOR: case NP_VECTOR: case SS_VECTOR:
	case GP_VECTOR: case PF_VECTOR: case AC_VECTOR:
		return true;
	default:
		return false;
	}
}

static int inject(struct kvmi_env *env, struct kvmi_vcpu_inject_exception req)
{
	return __kvmi_vcpu_cmd(env, 0, KVMI_VCPU_INJECT_EXCEPTION, &req,
			       sizeof(req), NULL, 0);
}

#define INJECT(env, ...) \
	inject(env, (struct kvmi_vcpu_inject_exception){ __VA_ARGS__ })

static void start_spinning(FIXTURE_DATA(inject) *self)
{
	struct kvmi_vcpu_get_registers_reply rpl;
	struct kvmi_vcpu_get_registers req = { };
	int err;

	*self->stop = 0;
	kvmi_runner_do(self->r, kvmi_insn_spin, KVMI_TEST_GVA, 1);
	do {
		err = __kvmi_vcpu_cmd(&self->env, 0, KVMI_VCPU_GET_REGISTERS,
				      &req, sizeof(req), &rpl, sizeof(rpl));
		TEST_ASSERT_EQ(err, 0);
	} while (rpl.regs.rip <= (uint64_t)kvmi_insn_spin ||
		 rpl.regs.rip > (uint64_t)kvmi_insn_spin + 16);
}

static void stop_spinning(FIXTURE_DATA(inject) *self)
{
	*self->stop = 1;
	TEST_ASSERT(kvmi_runner_wait(self->r) > 0, "no loop");
}

static void pause_vcpu(struct kvmi_env *env, struct kvmi_event *ev)
{
	TEST_ASSERT_EQ(__kvmi_pause_vcpu(&env->tool, 0, false), 0);
	kvmi_wait_event(&env->tool, KVMI_VCPU_EVENT_PAUSE, ev);
}

static void resume(struct kvmi_env *env, const struct kvmi_event *ev)
{
	kvmi_reply(&env->tool, ev, KVMI_EVENT_ACTION_CONTINUE);
}

static void wait_trap(struct kvmi_env *env, struct kvmi_event *ev, uint8_t nr,
		      uint32_t error_code, uint64_t address)
{
	kvmi_wait_event(&env->tool, KVMI_VCPU_EVENT_TRAP, ev);
	TEST_ASSERT_EQ(ev->vcpu, 0);
	TEST_ASSERT_EQ(ev->trap.nr, nr);
	TEST_ASSERT_EQ(ev->trap.error_code, error_code);
	TEST_ASSERT_EQ(ev->trap.address, address);
}

static void wait_seen(FIXTURE_DATA(inject) *self, uint64_t nr)
{
	int i;

	for (i = 0; self->seen->nr < nr && i < KVMI_TIMEOUT_MS; i++)
		usleep(1000);
	TEST_ASSERT_EQ(self->seen->nr, nr);
}

/* ---- what the machine can do ---- */

/*
 * The VMM injects, and with that KVM's own code: what it cannot do in this
 * machine the tool cannot either.  The SVM of Bochs has the guest see the
 * host's CR2, and does not know where an INT3 ends that is injected.
 *
 * Returns how many exceptions the guest has seen.
 */
static uint64_t vmm_inject(FIXTURE_DATA(inject) * self, uint8_t nr,
			   uint64_t rip, uint64_t cr2)
{
	struct kvm_mp_state awake = { .mp_state = KVM_MP_STATE_RUNNABLE };
	struct kvm_vcpu *vcpu = self->r->vcpu;
	struct kvm_vcpu_events events;
	struct kvm_regs regs, old;
	struct kvm_sregs sregs;
	uint64_t n;
	int i;

	vcpu_regs_get(vcpu, &old);
	vcpu_sregs_get(vcpu, &sregs);
	sregs.cr2 = cr2;
	vcpu_sregs_set(vcpu, &sregs);
	regs = old;
	regs.rip = rip;
	vcpu_regs_set(vcpu, &regs);
	vcpu_events_get(vcpu, &events);
	events.exception.injected = 1;
	events.exception.nr = nr;
	events.exception.has_error_code = has_error_code(nr);
	vcpu_events_set(vcpu, &events);

	/* Where the handler returns to it halts. */
	kvmi_runner_go(self->r);
	for (i = 0; !self->seen->nr && i < KVMI_TIMEOUT_MS; i++)
		usleep(1000);
	usleep(1000);
	kvmi_runner_kick(self->r);
	kvmi_runner_wait_exit(self->r);
	vcpu_regs_set(vcpu, &old);
	vcpu_mp_state_set(vcpu, &awake);
	n = self->seen->nr;
	self->seen->nr = 0;

	return n;
}

static bool cr2_works(FIXTURE_DATA(inject) * self)
{
	if (!host_cpu_is_amd)
		return true;

	vmm_inject(self, PF_VECTOR, (uint64_t)kvmi_insn_hlt_at, 0x123000);

	return self->seen->cr2 == 0x123000;
}

static bool soft_exceptions_work(FIXTURE_DATA(inject) * self)
{
	uint8_t *code = kvmi_hva(&self->env, 3, 0);

	if (!host_cpu_is_amd)
		return true;

	code[0] = 0xcc;		/* int3 */
	code[1] = 0xf4;		/* hlt */

	/* If it comes twice, the first one has returned to the INT3. */
	return vmm_inject(self, BP_VECTOR, kvmi_gva(3, 0), 0) == 1 &&
	       self->seen->rip == kvmi_gva(3, 1);
}

/* ---- what is injected ---- */

/* With each event and without; the guest goes on where it was. */
TEST_F_TIMEOUT(inject, every_exception, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	bool has_cr2 = cr2_works(self);
	uint64_t n = 0;
	struct kvmi_event ev;
	int i;

	start_spinning(self);
	for (i = 0; i < ARRAY_SIZE(vectors); i++) {
		uint8_t nr = vectors[i];
		uint32_t code = has_error_code(nr) ? 0x1230 + i : 0;
		uint64_t cr2 = nr == PF_VECTOR ? 0x123456789000ull + i : 0;
		uint64_t rip;

		pause_vcpu(env, &ev);
		rip = ev.common.arch.regs.rip;
		/* An error code that the exception does not have is ignored. */
		TEST_ASSERT_EQ(INJECT(env, .nr = nr, .error_code = code ?: 0x77,
				      .address = 0x123456789000ull + i), 0);
		resume(env, &ev);
		wait_trap(env, &ev, nr, code, cr2);
		resume(env, &ev);

		wait_seen(self, ++n);
		TEST_ASSERT_EQ(self->seen->vector, nr);
		TEST_ASSERT_EQ(self->seen->error_code, code);
		TEST_ASSERT_EQ(self->seen->rip, rip);
		if (nr == PF_VECTOR && has_cr2)
			TEST_ASSERT_EQ(self->seen->cr2, cr2);
	}
	stop_spinning(self);
	kvmi_no_event(&env->tool);
	TEST_ASSERT_EQ(self->seen->nr, n);
}

TEST_F_TIMEOUT(inject, running, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_event ev;
	int i;

	start_spinning(self);
	for (i = 1; i <= 20; i++) {
		/* The event needs not be enabled, and cannot be disabled. */
		if (i > 10)
			kvmi_control_event(env, 0, KVMI_VCPU_EVENT_TRAP,
					   i & 1);
		TEST_ASSERT_EQ(INJECT(env, .nr = GP_VECTOR, .error_code = i), 0);
		wait_trap(env, &ev, GP_VECTOR, i, 0);
		resume(env, &ev);
		wait_seen(self, i);
		TEST_ASSERT_EQ(self->seen->error_code, i);
	}
	stop_spinning(self);
	kvmi_no_event(&env->tool);
}

/* The guest has not executed anything of its handler yet. */
TEST_F_TIMEOUT(inject, trap_comes_first, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_event ev;

	start_spinning(self);
	pause_vcpu(env, &ev);
	TEST_ASSERT_EQ(INJECT(env, .nr = UD_VECTOR), 0);
	/* more of these come after it */
	TEST_ASSERT_EQ(__kvmi_pause_vcpu(&env->tool, 0, false), 0);
	resume(env, &ev);
	kvmi_wait_event(&env->tool, KVMI_VCPU_EVENT_PAUSE, &ev);
	TEST_ASSERT_EQ(self->seen->nr, 0);
	resume(env, &ev);
	wait_trap(env, &ev, UD_VECTOR, 0, 0);
	TEST_ASSERT_EQ(__kvmi_pause_vcpu(&env->tool, 0, false), 0);
	TEST_ASSERT(!kvmi_runner_poll(self->r, KVMI_QUIET_MS), "not waiting");
	resume(env, &ev);
	kvmi_wait_event(&env->tool, KVMI_VCPU_EVENT_PAUSE, &ev);
	resume(env, &ev);
	wait_seen(self, 1);
	stop_spinning(self);
}

TEST_F_TIMEOUT(inject, halted, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_event ev;

	kvmi_runner_do(self->r, kvmi_insn_hlt, 0, 0);
	usleep(50000);
	TEST_ASSERT_EQ(INJECT(env, .nr = UD_VECTOR), 0);
	wait_trap(env, &ev, UD_VECTOR, 0, 0);
	resume(env, &ev);
	/* It does not go back to sleep. */
	kvmi_runner_wait(self->r);
	TEST_ASSERT_EQ(self->seen->nr, 1);
	TEST_ASSERT_EQ(self->seen->rip, (uint64_t)kvmi_insn_hlt_at + 1);
}

/* Before the vCPU has ever run, and before its first instruction. */
TEST_F_TIMEOUT(inject, never_run, KVMI_TEST_TIMEOUT)
{
	struct kvmi_vcpu_inject_exception req = { .nr = UD_VECTOR };
	struct kvmi_env *env = &self->env;
	struct kvmi_event ev;
	uint32_t seq;

	seq = kvmi_vcpu_send(&env->tool, 0, KVMI_VCPU_INJECT_EXCEPTION, &req,
			     sizeof(req));
	kvmi_alive(&env->tool);
	kvmi_runner_do(self->r, kvmi_insn_nop, 0, 0);
	TEST_ASSERT_EQ(__kvmi_recv_reply(&env->tool, KVMI_VCPU_INJECT_EXCEPTION,
					 seq, NULL, 0), 0);
	wait_trap(env, &ev, UD_VECTOR, 0, 0);
	TEST_ASSERT_EQ(self->r->req->done, 0);
	resume(env, &ev);
	kvmi_runner_wait(self->r);
	TEST_ASSERT_EQ(self->seen->nr, 1);
	TEST_ASSERT_EQ(self->seen->rip, (uint64_t)kvmi_guest_main);
}

/* A tool that wants a page from the guest: it has it faulted in. */
TEST_F_TIMEOUT(inject, page_fault_event, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	const uint64_t gva = kvmi_gva(2, 8);
	struct kvmi_event ev;

	if (!cr2_works(self))
		SKIP(return, "the machine's SVM has the guest see the host's CR2");

	kvmi_control_event(env, 0, KVMI_VCPU_EVENT_PF, true);
	kvmi_set_page_access(&env->tool, kvmi_gpa(2, 0), KVMI_PAGE_ACCESS_R);

	kvmi_runner_do(self->r, kvmi_insn_write, gva, 5);
	kvmi_wait_event(&env->tool, KVMI_VCPU_EVENT_PF, &ev);
	TEST_ASSERT_EQ(INJECT(env, .nr = PF_VECTOR, .error_code = 6,
			      .address = gva), 0);
	kvmi_reply(&env->tool, &ev, KVMI_EVENT_ACTION_RETRY);
	wait_trap(env, &ev, PF_VECTOR, 6, gva);
	TEST_ASSERT_EQ(*(uint64_t *)kvmi_hva(env, 2, 8), 0);
	resume(env, &ev);
	/* The handler returns to the same instruction. */
	kvmi_wait_event(&env->tool, KVMI_VCPU_EVENT_PF, &ev);
	TEST_ASSERT_EQ(self->seen->nr, 1);
	TEST_ASSERT_EQ(self->seen->rip, (uint64_t)kvmi_insn_write);
	TEST_ASSERT_EQ(self->seen->cr2, gva);

	/* After CONTINUE it comes before the next one. */
	TEST_ASSERT_EQ(INJECT(env, .nr = UD_VECTOR), 0);
	resume(env, &ev);
	wait_trap(env, &ev, UD_VECTOR, 0, 0);
	TEST_ASSERT_EQ(*(uint64_t *)kvmi_hva(env, 2, 8), 5);
	resume(env, &ev);
	kvmi_runner_wait(self->r);
	TEST_ASSERT_EQ(self->seen->nr, 2);
	TEST_ASSERT_EQ(self->seen->rip, (uint64_t)kvmi_insn_write + 3);
}

/* At an instruction of one byte, of which the vCPU has executed nothing */
static void check_breakpoint(FIXTURE_DATA(inject) * self, uint8_t insn)
{
	struct kvmi_env *env = &self->env;
	uint8_t *code = kvmi_hva(env, 2, 0);
	struct kvmi_event ev;

	code[0] = insn;
	code[1] = 0xc3;		/* ret */
	kvmi_control_event(env, 0, KVMI_VCPU_EVENT_PF, true);
	kvmi_set_page_access(&env->tool, kvmi_gpa(2, 0),
			     KVMI_PAGE_ACCESS_R | KVMI_PAGE_ACCESS_W);

	kvmi_runner_do(self->r, kvmi_insn_exec, kvmi_gva(2, 0), 0);
	kvmi_wait_event(&env->tool, KVMI_VCPU_EVENT_PF, &ev);
	TEST_ASSERT_EQ(ev.common.arch.regs.rip, kvmi_gva(2, 0));
	TEST_ASSERT_EQ(INJECT(env, .nr = BP_VECTOR), 0);
	kvmi_set_page_access(&env->tool, kvmi_gpa(2, 0), KVMI_ACCESS_ALL);
	kvmi_reply(&env->tool, &ev, KVMI_EVENT_ACTION_RETRY);
	wait_trap(env, &ev, BP_VECTOR, 0, 0);
	resume(env, &ev);
	kvmi_runner_wait(self->r);
	TEST_ASSERT_EQ(self->seen->nr, 1);
	TEST_ASSERT_EQ(self->seen->vector, BP_VECTOR);
	TEST_ASSERT_EQ(self->seen->rip, kvmi_gva(2, 1));
}

#define NO_SOFT_EXCEPTIONS	"the machine's SVM injects INT3 as a fault"

/* A breakpoint's return address is behind the instruction. */
TEST_F_TIMEOUT(inject, breakpoint, KVMI_TEST_TIMEOUT)
{
	if (!soft_exceptions_work(self))
		SKIP(return, NO_SOFT_EXCEPTIONS);

	check_breakpoint(self, 0xcc);		/* int3 */
}

/*
 * The address is behind where INT3 would be, whatever is there: a debugger may
 * have put it into the code of one vCPU only.
 */
TEST_F_TIMEOUT(inject, breakpoint_without_int3, KVMI_TEST_TIMEOUT)
{
	if (!soft_exceptions_work(self))
		SKIP(return, NO_SOFT_EXCEPTIONS);

	check_breakpoint(self, 0x90);		/* nop */
}

/* KVM has executed another instruction since the vCPU was in the guest. */
TEST_F_TIMEOUT(inject, breakpoint_after_insn, KVMI_TEST_TIMEOUT)
{
	static const uint8_t insns[] = {
		0xb9, 0x02, 0x01, 0x00, 0xc0,	/* mov $0xc0000102, %ecx */
		0xb8, 0x00, 0x10, 0x00, 0x00,	/* mov $0x1000, %eax */
		0x31, 0xd2,			/* xor %edx, %edx */
		0x0f, 0x30,			/* wrmsr */
		0xcc,				/* int3 */
		0xc3,				/* ret */
	};
	struct kvmi_vcpu_control_msr req = {
		.msr = MSR_KERNEL_GS_BASE, .enable = 1,
	};
	struct kvmi_env *env = &self->env;
	struct kvmi_event ev;

	if (!soft_exceptions_work(self))
		SKIP(return, NO_SOFT_EXCEPTIONS);

	memcpy(kvmi_hva(env, 2, 0), insns, sizeof(insns));
	TEST_ASSERT_EQ(__kvmi_vcpu_cmd(env, 0, KVMI_VCPU_CONTROL_MSR, &req,
				       sizeof(req), NULL, 0), 0);
	kvmi_control_event(env, 0, KVMI_VCPU_EVENT_MSR, true);

	kvmi_runner_do(self->r, kvmi_insn_exec, kvmi_gva(2, 0), 0);
	kvmi_wait_event(&env->tool, KVMI_VCPU_EVENT_MSR, &ev);
	TEST_ASSERT_EQ(INJECT(env, .nr = BP_VECTOR), 0);
	kvmi_reply_value(&env->tool, &ev, KVMI_EVENT_ACTION_CONTINUE, 0x1000, 8);
	wait_trap(env, &ev, BP_VECTOR, 0, 0);
	resume(env, &ev);
	kvmi_runner_wait(self->r);
	TEST_ASSERT_EQ(self->seen->nr, 1);
	TEST_ASSERT_EQ(self->seen->vector, BP_VECTOR);
	TEST_ASSERT_EQ(self->seen->rip, kvmi_gva(2, sizeof(insns) - 1));
}

/* ---- what is not ---- */

TEST_F_TIMEOUT(inject, bad_requests, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	int nr, i;

	start_spinning(self);
	for (nr = 0; nr < 256; nr++) {
		bool valid = nr == BP_VECTOR;

		for (i = 0; i < ARRAY_SIZE(vectors); i++)
			valid |= vectors[i] == nr;
		if (!valid)
			TEST_ASSERT(INJECT(env, .nr = nr) == -KVM_EINVAL,
				    "vector %d", nr);
		else if (has_error_code(nr))
			TEST_ASSERT(INJECT(env, .nr = nr, .error_code = 0x10000)
				    == -KVM_EINVAL, "vector %d", nr);
	}
	TEST_ASSERT_EQ(INJECT(env, .nr = GP_VECTOR, .error_code = 0x80000000),
		       -KVM_EINVAL);
	TEST_ASSERT_EQ(INJECT(env, .nr = UD_VECTOR, .padding1 = 1), -KVM_EINVAL);
	TEST_ASSERT_EQ(INJECT(env, .nr = UD_VECTOR, .padding2 = 1), -KVM_EINVAL);
	kvmi_no_event(&env->tool);
	stop_spinning(self);
	TEST_ASSERT_EQ(self->seen->nr, 0);
}

/* The permission is looked at before anything else. */
TEST_F_TIMEOUT(inject, not_allowed, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_event ev;

	start_spinning(self);
	vm_kvmi_allow_event(env->vm, KVMI_VCPU_EVENT_TRAP, 0);
	TEST_ASSERT_EQ(INJECT(env, .nr = UD_VECTOR), -KVM_EPERM);
	TEST_ASSERT_EQ(INJECT(env, .nr = 2, .padding1 = 1), -KVM_EPERM);
	kvmi_no_event(&env->tool);
	TEST_ASSERT_EQ(self->seen->nr, 0);

	/* Disallowed since: no event, but the guest gets what it is due. */
	vm_kvmi_allow_event(env->vm, KVMI_VCPU_EVENT_TRAP, 1);
	pause_vcpu(env, &ev);
	TEST_ASSERT_EQ(INJECT(env, .nr = UD_VECTOR), 0);
	vm_kvmi_allow_event(env->vm, KVMI_VCPU_EVENT_TRAP, 0);
	resume(env, &ev);
	wait_seen(self, 1);
	kvmi_no_event(&env->tool);

	vm_kvmi_allow_event(env->vm, KVMI_VCPU_EVENT_TRAP, 1);
	TEST_ASSERT_EQ(INJECT(env, .nr = UD_VECTOR), 0);
	wait_trap(env, &ev, UD_VECTOR, 0, 0);
	resume(env, &ev);
	wait_seen(self, 2);
	stop_spinning(self);
}

/* One at a time; the next one as soon as the event has come. */
TEST_F_TIMEOUT(inject, busy, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_event ev;
	int i;

	start_spinning(self);
	pause_vcpu(env, &ev);
	TEST_ASSERT_EQ(INJECT(env, .nr = UD_VECTOR), 0);
	TEST_ASSERT_EQ(INJECT(env, .nr = UD_VECTOR), -KVM_EBUSY);
	TEST_ASSERT_EQ(INJECT(env, .nr = GP_VECTOR), -KVM_EBUSY);
	/* invalid stays invalid */
	TEST_ASSERT_EQ(INJECT(env, .nr = 2), -KVM_EINVAL);
	resume(env, &ev);

	for (i = 0; i < 5; i++) {
		wait_trap(env, &ev, UD_VECTOR, 0, 0);
		if (i == 4)
			break;
		TEST_ASSERT_EQ(INJECT(env, .nr = UD_VECTOR), 0);
		TEST_ASSERT_EQ(INJECT(env, .nr = UD_VECTOR), -KVM_EBUSY);
		resume(env, &ev);
	}
	resume(env, &ev);
	wait_seen(self, 5);
	stop_spinning(self);
	kvmi_no_event(&env->tool);
}

/* What the VMM has for the guest comes first, and the tool is told so. */
TEST_F_TIMEOUT(inject, overridden, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvm_vcpu_events events;
	struct kvmi_event ev;

	start_spinning(self);
	pause_vcpu(env, &ev);
	TEST_ASSERT_EQ(INJECT(env, .nr = PF_VECTOR, .error_code = 2,
			      .address = 0x5000), 0);
	kvmi_runner_kick(self->r);
	kvmi_runner_wait_exit(self->r);
	TEST_ASSERT_EQ(self->r->err, EINTR);

	/* Nothing of it is to be seen yet. */
	vcpu_events_get(self->r->vcpu, &events);
	TEST_ASSERT(!events.exception.injected && !events.exception.pending,
		    "an exception before the reply");
	events.exception.injected = 1;
	events.exception.nr = GP_VECTOR;
	events.exception.has_error_code = 1;
	events.exception.error_code = 0x4321;
	vcpu_events_set(self->r->vcpu, &events);

	kvmi_runner_go(self->r);
	resume(env, &ev);
	wait_trap(env, &ev, GP_VECTOR, 0x4321, 0);
	TEST_ASSERT_EQ(INJECT(env, .nr = PF_VECTOR, .error_code = 2,
			      .address = 0x5000), 0);
	resume(env, &ev);
	wait_trap(env, &ev, PF_VECTOR, 2, 0x5000);
	resume(env, &ev);
	wait_seen(self, 2);
	stop_spinning(self);
}

/* ---- interruptions ---- */

/* Signals come at any moment; each exception is delivered and told once. */
TEST_F_TIMEOUT(inject, signals, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvm_vcpu_events events;
	struct kvmi_event ev;
	int i, j;

	start_spinning(self);
	for (i = 1; i <= 20; i++) {
		pause_vcpu(env, &ev);
		TEST_ASSERT_EQ(INJECT(env, .nr = GP_VECTOR, .error_code = i), 0);
		resume(env, &ev);
		for (j = 0; j < 3; j++) {
			usleep(i * 10);
			kvmi_runner_kick(self->r);
			kvmi_runner_wait_exit(self->r);
			TEST_ASSERT_EQ(self->r->err, EINTR);
			/* as a VMM does that saves and loads a vCPU */
			vcpu_events_get(self->r->vcpu, &events);
			vcpu_events_set(self->r->vcpu, &events);
			kvmi_runner_go(self->r);
		}
		wait_trap(env, &ev, GP_VECTOR, i, 0);
		kvmi_runner_kick(self->r);
		kvmi_runner_wait_exit(self->r);
		TEST_ASSERT_EQ(self->r->err, EINTR);
		kvmi_runner_go(self->r);
		resume(env, &ev);
		wait_seen(self, i);
		TEST_ASSERT_EQ(self->seen->error_code, i);
	}
	stop_spinning(self);
	kvmi_no_event(&env->tool);
	TEST_ASSERT_EQ(self->seen->nr, 20);
}

/* How many replies without data there is room for, if nobody reads them */
static unsigned int count_room(struct kvmi_env *env)
{
	struct kvmi_vcpu_control_events req = {
		.event_id = KVMI_VCPU_EVENT_TRAP, .enable = 1,
	};
	enum { NR = 800, SIZE = 16 };
	uint32_t seq[NR];
	int room, last = -1, i;

	for (i = 0; i < NR; i++) {
		/* The queue for commands is smaller than that for replies. */
		if (i % 50 == 49)
			usleep(50000);
		seq[i] = kvmi_vcpu_send(&env->tool, 0, KVMI_VCPU_CONTROL_EVENTS,
					&req, sizeof(req));
	}
	for (;;) {
		ioctl(env->tool.fd, FIONREAD, &room);
		if (room == last)
			break;
		last = room;
		usleep(500000);
	}
	TEST_ASSERT(room < NR * SIZE, "all replies fit");
	for (i = 0; i < NR; i++)
		TEST_ASSERT_EQ(__kvmi_recv_reply(&env->tool,
						 KVMI_VCPU_CONTROL_EVENTS,
						 seq[i], NULL, 0), 0);

	return room / SIZE;
}

/* The reply to the command is what the signals interrupt. */
TEST_F_TIMEOUT(inject, reply_interrupted, KVMI_TEST_TIMEOUT)
{
	struct kvmi_vcpu_inject_exception inject = { .nr = UD_VECTOR };
	struct kvmi_vcpu_control_events req = {
		.event_id = KVMI_VCPU_EVENT_TRAP, .enable = 1,
	};
	struct kvmi_env *env = &self->env;
	uint32_t seq[1024], last;
	struct kvmi_event ev;
	unsigned int room, i;
	int have = 0;
	uint64_t nr = 0, count;

	start_spinning(self);
	pause_vcpu(env, &ev);
	room = count_room(env);
	for (i = 0; i < room; i++)
		seq[i] = kvmi_vcpu_send(&env->tool, 0, KVMI_VCPU_CONTROL_EVENTS,
					&req, sizeof(req));
	last = kvmi_vcpu_send(&env->tool, 0, KVMI_VCPU_INJECT_EXCEPTION,
			      &inject, sizeof(inject));
	for (i = 0; have < room * 16 && i < KVMI_TIMEOUT_MS / 10; i++) {
		usleep(10000);
		ioctl(env->tool.fd, FIONREAD, &have);
	}
	TEST_ASSERT_EQ(have, room * 16);

	for (i = 0; i < 3; i++) {
		usleep(20000);
		kvmi_runner_kick(self->r);
		kvmi_runner_wait_exit(self->r);
		TEST_ASSERT_EQ(self->r->err, EINTR);
		/* It is one command, however often it is begun. */
		count = kvmi_vcpu_stat(self->r->vcpu, "kvmi_vcpu_commands");
		if (i)
			TEST_ASSERT_EQ(count, nr);
		nr = count;
		kvmi_runner_go(self->r);
	}

	for (i = 0; i < room; i++)
		TEST_ASSERT_EQ(__kvmi_recv_reply(&env->tool,
						 KVMI_VCPU_CONTROL_EVENTS,
						 seq[i], NULL, 0), 0);
	TEST_ASSERT_EQ(__kvmi_recv_reply(&env->tool, KVMI_VCPU_INJECT_EXCEPTION,
					 last, NULL, 0), 0);
	resume(env, &ev);
	wait_trap(env, &ev, UD_VECTOR, 0, 0);
	resume(env, &ev);
	wait_seen(self, 1);
	stop_spinning(self);
	kvmi_no_event(&env->tool);
	TEST_ASSERT_EQ(self->seen->nr, 1);
}

TEST_F_TIMEOUT(inject, tool_gone, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_event ev;

	start_spinning(self);
	pause_vcpu(env, &ev);
	TEST_ASSERT_EQ(INJECT(env, .nr = UD_VECTOR), 0);
	kvmi_tool_close(&env->tool);
	stop_spinning(self);
	TEST_ASSERT_EQ(self->seen->nr, 0);

	/* with TRAP waiting */
	kvmi_env_hook(env);
	start_spinning(self);
	TEST_ASSERT_EQ(INJECT(env, .nr = UD_VECTOR), 0);
	wait_trap(env, &ev, UD_VECTOR, 0, 0);
	kvmi_tool_close(&env->tool);
	wait_seen(self, 1);
	stop_spinning(self);
}

TEST_F_TIMEOUT(inject, crash, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_event ev;

	start_spinning(self);
	TEST_ASSERT_EQ(INJECT(env, .nr = UD_VECTOR), 0);
	wait_trap(env, &ev, UD_VECTOR, 0, 0);
	kvmi_reply(&env->tool, &ev, KVMI_EVENT_ACTION_CRASH);
	kvmi_runner_wait_exit(self->r);
	TEST_ASSERT_EQ(self->r->ret, 0);
	TEST_ASSERT_EQ(self->r->vcpu->run->exit_reason, KVM_EXIT_SHUTDOWN);
}

TEST_F_TIMEOUT(inject, no_retry, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_event ev;

	start_spinning(self);
	TEST_ASSERT_EQ(INJECT(env, .nr = UD_VECTOR), 0);
	wait_trap(env, &ev, UD_VECTOR, 0, 0);
	kvmi_reply(&env->tool, &ev, KVMI_EVENT_ACTION_RETRY);
	kvmi_wait_closed(&env->tool);
	wait_seen(self, 1);
	stop_spinning(self);
}

int main(int argc, char *argv[])
{
	TEST_REQUIRE(kvmi_supported());

	return test_harness_run(argc, argv);
}
