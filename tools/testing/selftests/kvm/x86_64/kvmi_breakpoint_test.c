// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM introspection: breakpoints, those of the tool, of the VMM and of the
 * guest itself.
 */
#include "test_util.h"
#include "kvm_util.h"
#include "kselftest_harness.h"
#include "kvmi_util.h"

#define CONTINUE	KVMI_EVENT_ACTION_CONTINUE
#define RETRY		KVMI_EVENT_ACTION_RETRY
#define CRASH		KVMI_EVENT_ACTION_CRASH

/* what the guest's handler leaves behind */
#define HANDLED		0xb9ull
#define HANDLED_AT_INT3	0xbbull

/*
 * The same for an exception that KVM delivers.  The SVM of Bochs does so with
 * the address of INT3 itself, where the CPU's nRIP is asked for.
 */
static uint64_t delivered = HANDLED;

#define LOOPS		1000

#define OP_NOP		0x90
#define OP_INT3		0xcc

static uint64_t guest_loop_int3(uint64_t gva, uint64_t val, uint64_t arg)
{
	int i;

	for (i = 0; i < LOOPS; i++)
		if (!kvmi_insn_int3(0, 0, 0))
			return 0;

	return 1;
}

static void handle_bp(struct ex_regs *regs)
{
	bool at_int3 = regs->rip == (uint64_t)kvmi_insn_int3_at;

	regs->rip += at_int3;
	regs->rax = at_int3 ? HANDLED_AT_INT3 : HANDLED;
}

FIXTURE(breakpoint)
{
	struct kvmi_env env;
};

FIXTURE_SETUP(breakpoint)
{
	kvmi_env_create(&self->env, 1);
	vm_install_exception_handler(self->env.vm, BP_VECTOR, handle_bp);
	/* KVM has to deliver it if a page on the way is not mapped yet. */
	kvmi_runner_do(&self->env.run[0], kvmi_insn_int3, 0, 0);
	kvmi_runner_wait(&self->env.run[0]);
	kvmi_env_hook(&self->env);
}

FIXTURE_TEARDOWN(breakpoint)
{
	kvmi_env_destroy(&self->env);
}

static void start(struct kvmi_env *env)
{
	kvmi_runner_do(&env->run[0], kvmi_insn_int3, 0, 0);
}

static uint64_t run(struct kvmi_env *env)
{
	struct kvmi_event ev;
	uint64_t result;

	start(env);
	result = kvmi_runner_wait(&env->run[0]);
	if (env->tool.fd >= 0)
		if (kvmi_poll_event(&env->tool, &ev, 0))
			TEST_FAIL("unwanted event %u", ev.event);

	return result;
}

static void enable(struct kvmi_env *env, bool enable)
{
	kvmi_control_event(env, 0, KVMI_VCPU_EVENT_BREAKPOINT, enable);
}

static void wait_bp(struct kvmi_env *env, struct kvmi_event *ev)
{
	uint64_t rip = (uint64_t)kvmi_insn_int3_at;

	kvmi_wait_event(&env->tool, KVMI_VCPU_EVENT_BREAKPOINT, ev);
	TEST_ASSERT_EQ(ev->common.arch.regs.rip, rip);
	TEST_ASSERT_EQ(ev->bp.gpa, addr_gva2gpa(env->vm, rip));
	TEST_ASSERT_EQ(ev->bp.insn_len, 1);
}

/* The VMM has its own. */
static void vmm_debug(struct kvmi_env *env, uint32_t control)
{
	struct kvm_guest_debug debug = { .control = control };

	vcpu_guest_debug_set(env->run[0].vcpu, &debug);
}

static void check_vmm_debug(struct kvmi_env *env)
{
	struct kvmi_runner *r = &env->run[0];
	struct kvm_run *run = r->vcpu->run;

	kvmi_runner_wait_exit(r);
	TEST_ASSERT_EQ(run->exit_reason, KVM_EXIT_DEBUG);
	TEST_ASSERT_EQ(run->debug.arch.exception, BP_VECTOR);
	TEST_ASSERT_EQ(run->debug.arch.pc, (uint64_t)kvmi_insn_int3_at);
}

#define VMM_BP	(KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_SW_BP)

/*
 * The guest gets what the VMM did not know.  It is delivered to the guest at
 * the next KVM_RUN, with debugging on or off.
 */
static void vmm_inject(struct kvmi_env *env, uint32_t control)
{
	struct kvmi_runner *r = &env->run[0];

	vmm_debug(env, KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_INJECT_BP | control);
	kvmi_runner_go(r);
	TEST_ASSERT_EQ(kvmi_runner_wait(r), delivered);
}

TEST_F_TIMEOUT(breakpoint, continue, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_event ev;
	int i;

	TEST_ASSERT_EQ(run(env), HANDLED);
	for (i = 0; i < 3; i++) {
		enable(env, true);
		start(env);
		wait_bp(env, &ev);
		kvmi_reply(&env->tool, &ev, CONTINUE);
		TEST_ASSERT_EQ(kvmi_runner_wait(&env->run[0]), delivered);
		kvmi_no_event(&env->tool);
		enable(env, false);
		TEST_ASSERT_EQ(run(env), HANDLED);
	}
}

/* The tool takes its breakpoint out, and the instruction is another one. */
TEST_F_TIMEOUT(breakpoint, retry, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	uint8_t nop = OP_NOP, int3 = OP_INT3;
	struct kvmi_event ev;

	enable(env, true);
	start(env);
	wait_bp(env, &ev);
	kvmi_reply(&env->tool, &ev, RETRY);
	wait_bp(env, &ev);
	TEST_ASSERT_EQ(__kvmi_write_physical(&env->tool, ev.bp.gpa, 1, &nop),
		       0);
	kvmi_reply(&env->tool, &ev, RETRY);
	TEST_ASSERT_EQ(kvmi_runner_wait(&env->run[0]), 0);
	kvmi_no_event(&env->tool);
	TEST_ASSERT_EQ(__kvmi_write_physical(&env->tool, ev.bp.gpa, 1, &int3),
		       0);
}

/* Or it has the guest go on behind it. */
TEST_F_TIMEOUT(breakpoint, skip, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvm_regs regs;
	struct kvmi_event ev;
	int i;

	enable(env, true);
	for (i = 0; i < 2; i++) {
		start(env);
		wait_bp(env, &ev);
		regs = ev.common.arch.regs;
		regs.rip += ev.bp.insn_len;
		regs.rax = 0x77;
		TEST_ASSERT_EQ(__kvmi_vcpu_cmd(env, 0, KVMI_VCPU_SET_REGISTERS,
					       &regs, sizeof(regs), NULL, 0),
			       0);
		/* CONTINUE is about an instruction where it is not any more */
		kvmi_reply(&env->tool, &ev, i ? CONTINUE : RETRY);
		TEST_ASSERT_EQ(kvmi_runner_wait(&env->run[0]), 0x77);
	}
}

TEST_F_TIMEOUT(breakpoint, crash, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_runner *r = &env->run[0];
	struct kvm_regs regs;
	struct kvmi_event ev;

	enable(env, true);
	start(env);
	wait_bp(env, &ev);
	kvmi_reply(&env->tool, &ev, CRASH);
	kvmi_runner_wait_exit(r);
	TEST_ASSERT_EQ(r->vcpu->run->exit_reason, KVM_EXIT_SHUTDOWN);
	vcpu_regs_get(r->vcpu, &regs);
	TEST_ASSERT_EQ(regs.rip, (uint64_t)kvmi_insn_int3_at);
}

TEST_F_TIMEOUT(breakpoint, signal, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_runner *r = &env->run[0];
	struct kvm_vcpu_events events;
	struct kvmi_event ev;
	struct kvm_regs regs;
	int i;

	enable(env, true);
	start(env);
	wait_bp(env, &ev);
	for (i = 0; i < 3; i++) {
		kvmi_runner_kick(r);
		kvmi_runner_wait_exit(r);
		TEST_ASSERT_EQ(r->err, EINTR);
		vcpu_regs_get(r->vcpu, &regs);
		vcpu_regs_set(r->vcpu, &regs);
		vcpu_events_get(r->vcpu, &events);
		vcpu_events_set(r->vcpu, &events);
		kvmi_runner_go(r);
		kvmi_no_event(&env->tool);
	}
	kvmi_reply(&env->tool, &ev, CONTINUE);
	TEST_ASSERT_EQ(kvmi_runner_wait(r), delivered);
	kvmi_no_event(&env->tool);
}

/* Neither takes the other's away. */
TEST_F_TIMEOUT(breakpoint, vmm, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_event ev;
	uint8_t nop = OP_NOP, int3 = OP_INT3;

	/* the VMM alone */
	vmm_debug(env, VMM_BP);
	start(env);
	check_vmm_debug(env);
	vmm_inject(env, 0);

	/* Both: the tool first, then the VMM. */
	vmm_debug(env, VMM_BP);
	enable(env, true);
	start(env);
	wait_bp(env, &ev);
	kvmi_reply(&env->tool, &ev, CONTINUE);
	check_vmm_debug(env);
	vmm_inject(env, KVM_GUESTDBG_USE_SW_BP);

	/* The VMM has nothing to do with what was the tool's. */
	start(env);
	wait_bp(env, &ev);
	TEST_ASSERT_EQ(__kvmi_write_physical(&env->tool, ev.bp.gpa, 1, &nop),
		       0);
	kvmi_reply(&env->tool, &ev, RETRY);
	TEST_ASSERT_EQ(kvmi_runner_wait(&env->run[0]), 0);
	TEST_ASSERT_EQ(__kvmi_write_physical(&env->tool, ev.bp.gpa, 1, &int3),
		       0);

	/* The VMM stops. */
	vmm_debug(env, 0);
	start(env);
	wait_bp(env, &ev);
	kvmi_reply(&env->tool, &ev, CONTINUE);
	TEST_ASSERT_EQ(kvmi_runner_wait(&env->run[0]), delivered);

	/* The VMM starts again, the tool stops. */
	vmm_debug(env, VMM_BP);
	enable(env, false);
	start(env);
	check_vmm_debug(env);
	vmm_inject(env, KVM_GUESTDBG_USE_SW_BP);

	/* The same with a tool that goes. */
	enable(env, true);
	start(env);
	wait_bp(env, &ev);
	kvmi_tool_close(&env->tool);
	check_vmm_debug(env);
	vmm_inject(env, KVM_GUESTDBG_USE_SW_BP);
	start(env);
	check_vmm_debug(env);
	vmm_inject(env, 0);
	vmm_debug(env, 0);
	TEST_ASSERT_EQ(run(env), HANDLED);
}

static bool is_intercepted(struct kvmi_env *env)
{
	uint64_t before = kvmi_nr_exits(env->run[0].vcpu), exits;

	kvmi_runner_do(&env->run[0], guest_loop_int3, 0, 0);
	TEST_ASSERT_EQ(kvmi_runner_wait(&env->run[0]), 1);
	exits = kvmi_nr_exits(env->run[0].vcpu) - before;
	TEST_ASSERT(exits < LOOPS / 2 || exits >= LOOPS, "%lu exits", exits);

	return exits >= LOOPS;
}

/* What is left of it when the session ends */
TEST_F_TIMEOUT(breakpoint, cleanup, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_vm_control_cleanup req = { };
	struct kvmi_event ev;

	TEST_ASSERT(!is_intercepted(env), "intercepted from the beginning");

	/* An event that waits, of a tool that dies: the guest gets its #BP. */
	enable(env, true);
	start(env);
	wait_bp(env, &ev);
	kvmi_env_unhook(env);
	TEST_ASSERT_EQ(kvmi_runner_wait(&env->run[0]), delivered);
	TEST_ASSERT(!is_intercepted(env), "not restored");

	kvmi_env_hook(env);
	enable(env, true);
	kvmi_cmd(&env->tool, KVMI_VM_CONTROL_CLEANUP, &req, sizeof(req), NULL,
		 0);
	kvmi_env_unhook(env);
	TEST_ASSERT(is_intercepted(env), "not kept");

	/* The next one disables what it has not enabled itself. */
	kvmi_env_hook(env);
	TEST_ASSERT(is_intercepted(env), "not kept for the next session");
	enable(env, false);
	TEST_ASSERT(!is_intercepted(env), "still intercepted");

	enable(env, true);
	vm_kvmi_allow_event(env->vm, KVMI_VCPU_EVENT_BREAKPOINT, 0);
	TEST_ASSERT_EQ(run(env), HANDLED);
	TEST_ASSERT(!is_intercepted(env), "intercepted though not allowed");
}

/* Seen without any introspection: QEMU's TCG does not honour the intercept. */
static bool is_int3_intercepted(void)
{
	struct kvmi_env env;
	bool intercepted;

	kvmi_env_create(&env, 1);
	vm_install_exception_handler(env.vm, BP_VECTOR, handle_bp);
	vmm_debug(&env, VMM_BP);
	start(&env);
	kvmi_runner_wait_exit(&env.run[0]);
	intercepted = env.run[0].vcpu->run->exit_reason == KVM_EXIT_DEBUG;
	if (intercepted) {
		vmm_debug(&env, KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_INJECT_BP);
		kvmi_runner_go(&env.run[0]);
		delivered = kvmi_runner_wait(&env.run[0]);
	}
	kvmi_env_destroy(&env);

	return intercepted;
}

int main(int argc, char *argv[])
{
	TEST_REQUIRE(kvmi_supported());
	if (!is_int3_intercepted())
		ksft_exit_skip("the machine ignores the INT3 intercept (QEMU's TCG does)\n");

	return test_harness_run(argc, argv);
}
