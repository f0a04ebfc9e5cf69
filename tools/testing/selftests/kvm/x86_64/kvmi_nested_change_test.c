// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM introspection: what the tool, or the end of its session, changes while a
 * guest of the guest's own (L2) runs.  It concerns the guest that is
 * introspected (L1), and takes effect there; L2 must not notice.
 *
 * L2 exits to the VMM again and again.  What was sent to the vCPU meanwhile is
 * served when it comes back, and that is in L2.
 */
#include "test_util.h"
#include "kvm_util.h"
#include "kselftest_harness.h"
#include "kvmi_util.h"
#include "vmx.h"

/* How often the guest does what is counted, and when that is not an exit each */
#define ROUNDS		64
#define FEW		(ROUNDS / 2)

static volatile uint64_t *const stop = (void *)KVMI_TEST_GVA;
static volatile uint64_t *const nr_bp = (void *)KVMI_TEST_GVA + 8;
static volatile uint64_t *const apic_page_gpa = (void *)KVMI_TEST_GVA + 16;

static void write_cr3(void)
{
	asm volatile("mov %0, %%cr3" :: "r"(get_cr3() ^ BIT(3)) : "memory");
}

/* ---- L2 ---- */

static void l2_main(void)
{
	do {
		GUEST_SYNC(1);
	} while (!*stop);
	vmcall();
}

static void l2_cr3(void)
{
	int i;

	do {
		GUEST_SYNC(1);
		for (i = 0; i < ROUNDS; i++)
			write_cr3();
	} while (!*stop);
	vmcall();
}

/* ---- L1: @val is what L2 executes ---- */

static uint64_t l1_main(uint64_t gva, uint64_t val, uint64_t arg)
{
	kvmi_l2_prepare(gva, val);

	return kvmi_l2_launch(gva);
}

/* L2 has an x2APIC, L1 has not. */
static uint64_t l1_vmx_x2apic(uint64_t gva, uint64_t val, uint64_t arg)
{
	kvmi_l2_prepare(gva, val);
	GUEST_ASSERT(!vmwrite(VIRTUAL_APIC_PAGE_ADDR, *apic_page_gpa));
	GUEST_ASSERT(!vmwrite(CPU_BASED_VM_EXEC_CONTROL,
			      vmreadz(CPU_BASED_VM_EXEC_CONTROL) |
			      CPU_BASED_ACTIVATE_SECONDARY_CONTROLS |
			      CPU_BASED_TPR_SHADOW));
	GUEST_ASSERT(!vmwrite(SECONDARY_VM_EXEC_CONTROL,
			      SECONDARY_EXEC_VIRTUALIZE_X2APIC_MODE));

	return kvmi_l2_launch(gva);
}

/* What a tool may have intercepted, and KVM does not */
static uint64_t l1_do_all(uint64_t gva, uint64_t val, uint64_t arg)
{
	struct desc_ptr dt;
	int i;

	for (i = 0; i < ROUNDS; i++) {
		asm volatile("int3");
		write_cr3();
		asm volatile("sgdt %0" : "=m"(dt));
	}

	return *nr_bp;
}

/* Returns how often that was refused. */
static uint64_t l1_read_tpr(uint64_t gva, uint64_t val, uint64_t arg)
{
	uint64_t refused = 0, tpr;
	int i;

	for (i = 0; i < ROUNDS; i++)
		refused += rdmsr_safe(APIC_BASE_MSR + (APIC_TASKPRI >> 4),
				      &tpr) == GP_VECTOR;

	return refused;
}

static void handle_bp(struct ex_regs *regs)
{
	++*nr_bp;
}

/* ---- the test ---- */

FIXTURE(change)
{
	struct kvmi_env env;
	struct kvmi_runner *r;
	volatile uint64_t *stop, *nr_bp;
	vm_vaddr_t gva;
};

FIXTURE_SETUP(change)
{
	struct kvmi_env *env = &self->env;

	if (!kvmi_can_nest())
		SKIP(return, "no nested virtualization");

	kvmi_env_create(env, 1);
	kvmi_env_hook(env);
	self->r = &env->run[0];
	self->stop = kvmi_hva(env, 0, 0);
	self->nr_bp = kvmi_hva(env, 0, 8);
	*(uint64_t *)kvmi_hva(env, 0, 16) = kvmi_gpa(1, 0);

	vm_install_exception_handler(env->vm, BP_VECTOR, handle_bp);
	self->gva = kvmi_alloc_l2(env->vm);
}

FIXTURE_TEARDOWN(change)
{
	if (self->r)
		kvmi_env_destroy(&self->env);
}

static void answer(FIXTURE_DATA(change) * self, struct kvmi_event *ev)
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

/* Until the guest, or its guest, exits to the VMM; returns the result. */
static uint64_t wait_exit(FIXTURE_DATA(change) * self)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_event ev;
	int i;

	for (i = 0; env->hooked && i < KVMI_TIMEOUT_MS / 10; i++) {
		if (kvmi_runner_poll(self->r, 5))
			break;
		if (kvmi_poll_event(&env->tool, &ev, 5))
			answer(self, &ev);
	}
	if (self->r->running)
		return kvmi_runner_wait(self->r);
	TEST_ASSERT(!self->r->ret && self->r->uc.cmd == UCALL_SYNC,
		    "KVM_RUN: %d, errno %d, exit %u", self->r->ret,
		    self->r->err, self->r->vcpu->run->exit_reason);

	return self->r->req->result;
}

static void start_l2(FIXTURE_DATA(change) * self, kvmi_insn l1, void (*l2)(void))
{
	*self->stop = 0;
	kvmi_runner_do(self->r, l1, self->gva, (uint64_t)l2);
	wait_exit(self);
	TEST_ASSERT_EQ(self->r->uc.args[1], 1);
}

/* From one exit of L2 to the next */
static void go_on(FIXTURE_DATA(change) * self)
{
	kvmi_runner_go(self->r);
	wait_exit(self);
}

static void stop_l2(FIXTURE_DATA(change) * self)
{
	*self->stop = 1;
	kvmi_runner_go(self->r);
	TEST_ASSERT_EQ(wait_exit(self), 1);
}

/* Has it served in L2, if that runs. */
static void cmd(FIXTURE_DATA(change) * self, uint16_t id, const void *req,
		size_t size, bool in_l2)
{
	struct kvmi_env *env = &self->env;
	uint32_t seq;

	if (!in_l2) {
		TEST_ASSERT_EQ(__kvmi_vcpu_cmd(env, 0, id, req, size, NULL, 0),
			       0);
		return;
	}

	seq = kvmi_vcpu_send(&env->tool, 0, id, req, size);
	/* Now it is queued. */
	kvmi_alive(&env->tool);
	kvmi_runner_go(self->r);
	TEST_ASSERT_EQ(__kvmi_recv_reply(&env->tool, id, seq, NULL, 0), 0);
	wait_exit(self);
}

static void control_event(FIXTURE_DATA(change) * self, uint16_t event,
			  bool enable, bool in_l2)
{
	struct kvmi_vcpu_control_events req = {
		.event_id = event, .enable = enable,
	};

	cmd(self, KVMI_VCPU_CONTROL_EVENTS, &req, sizeof(req), in_l2);
}

static void control_cr(FIXTURE_DATA(change) * self, uint8_t cr, bool enable,
		       bool in_l2)
{
	struct kvmi_vcpu_control_cr req = { .cr = cr, .enable = enable };

	cmd(self, KVMI_VCPU_CONTROL_CR, &req, sizeof(req), in_l2);
}

static void control_msr(FIXTURE_DATA(change) * self, uint32_t msr, bool enable,
			bool in_l2)
{
	struct kvmi_vcpu_control_msr req = { .msr = msr, .enable = enable };

	cmd(self, KVMI_VCPU_CONTROL_MSR, &req, sizeof(req), in_l2);
}

/* Has L1 do something; returns how many exits that took. */
static uint64_t count_exits(FIXTURE_DATA(change) * self, kvmi_insn insn,
			    uint64_t *result)
{
	uint64_t exits = kvmi_nr_exits(self->r->vcpu);

	kvmi_runner_do(self->r, insn, 0, 0);
	*result = wait_exit(self);

	return kvmi_nr_exits(self->r->vcpu) - exits;
}

/* With shadow paging KVM needs all of CR3, and reports no walks. */
static bool has_tdp(FIXTURE_DATA(change) * self)
{
	struct kvmi_get_version_reply version;

	kvmi_cmd(&self->env.tool, KVMI_GET_VERSION, NULL, 0, &version,
		 sizeof(version));

	return version.features.pf_walk;
}

/* ---- control registers in L2 ---- */

static void check_l2_cr3(FIXTURE_DATA(change) * self)
{
	uint64_t exits = kvmi_nr_exits(self->r->vcpu);

	go_on(self);
	exits = kvmi_nr_exits(self->r->vcpu) - exits;
	TEST_ASSERT(exits < FEW, "%d writes of CR3 in L2: %lu exits", ROUNDS,
		    exits);
}

/* What the tool wants of CR3 does not make L2 exit. */
TEST_F_TIMEOUT(change, l2_cr3, KVMI_TEST_TIMEOUT)
{
	if (!has_tdp(self))
		SKIP(return, "with shadow paging KVM needs all of CR3");

	control_cr(self, 3, true, false);
	control_event(self, KVMI_VCPU_EVENT_CR, true, false);
	start_l2(self, l1_main, l2_cr3);
	check_l2_cr3(self);
	control_cr(self, 3, false, true);
	check_l2_cr3(self);
	control_cr(self, 3, true, true);
	check_l2_cr3(self);
	stop_l2(self);
	kvmi_no_event(&self->env.tool);
}

/* ---- what is lifted for L1 ---- */

static void arm_all(FIXTURE_DATA(change) * self)
{
	static const uint8_t crs[] = { 0, 3, 4 };
	struct kvmi_env *env = &self->env;
	int i, err;

	for (i = 0; i < ARRAY_SIZE(crs); i++)
		control_cr(self, crs[i], true, false);
	control_msr(self, MSR_LSTAR, true, false);
	control_event(self, KVMI_VCPU_EVENT_BREAKPOINT, true, false);
	control_event(self, KVMI_VCPU_EVENT_CR, true, false);
	control_event(self, KVMI_VCPU_EVENT_MSR, true, false);
	err = __kvmi_control_event(env, 0, KVMI_VCPU_EVENT_DESCRIPTOR, true);
	TEST_ASSERT(!err || err == -KVM_EOPNOTSUPP, "DESCRIPTOR: %d", err);
}

static void disable_all(FIXTURE_DATA(change) * self)
{
	control_event(self, KVMI_VCPU_EVENT_BREAKPOINT, false, true);
	control_event(self, KVMI_VCPU_EVENT_CR, false, true);
	control_event(self, KVMI_VCPU_EVENT_MSR, false, true);
	control_event(self, KVMI_VCPU_EVENT_DESCRIPTOR, false, true);
}

static void unhook(FIXTURE_DATA(change) * self)
{
	kvmi_env_unhook(&self->env);
	go_on(self);
}

static void close_tool(FIXTURE_DATA(change) * self)
{
	kvmi_tool_close(&self->env.tool);
	self->env.hooked = false;
	go_on(self);
}

static void disallow_all(FIXTURE_DATA(change) * self)
{
	vm_kvmi_allow_event(self->env.vm, -1, 0);
	go_on(self);
}

/* Nothing is intercepted any more, neither in L2 nor afterwards. */
static void test_lift(FIXTURE_DATA(change) * self,
		      void (*end)(FIXTURE_DATA(change) *self))
{
	uint64_t exits, nr;
	bool tdp = has_tdp(self);

	arm_all(self);
	start_l2(self, l1_main, l2_main);
	end(self);
	go_on(self);
	stop_l2(self);

	exits = count_exits(self, l1_do_all, &nr);
	TEST_ASSERT_EQ(nr, ROUNDS);
	if (tdp)
		TEST_ASSERT(exits < FEW, "%d rounds: %lu exits", ROUNDS, exits);
	if (self->env.hooked)
		kvmi_no_event(&self->env.tool);
}

TEST_F_TIMEOUT(change, disabled, KVMI_TEST_TIMEOUT)
{
	test_lift(self, disable_all);
}

TEST_F_TIMEOUT(change, disallowed, KVMI_TEST_TIMEOUT)
{
	test_lift(self, disallow_all);
}

TEST_F_TIMEOUT(change, unhooked, KVMI_TEST_TIMEOUT)
{
	test_lift(self, unhook);
}

TEST_F_TIMEOUT(change, closed, KVMI_TEST_TIMEOUT)
{
	test_lift(self, close_tool);
}

/* ---- MSRs ---- */

/*
 * L1 does not use its x2APIC, L2 does.  Selecting MSRs meanwhile must not let
 * L1 get at the one of the host.
 */
TEST_F_TIMEOUT(change, x2apic_stays_closed, KVMI_TEST_TIMEOUT)
{
	uint64_t exits, refused;

	if (!kvm_cpu_has(X86_FEATURE_VMX) ||
	    !((kvm_get_feature_msr(MSR_IA32_VMX_PROCBASED_CTLS2) >> 32) &
	      SECONDARY_EXEC_VIRTUALIZE_X2APIC_MODE))
		SKIP(return, "L2 has no x2APIC of its own");

	exits = count_exits(self, l1_read_tpr, &refused);
	TEST_ASSERT_EQ(refused, ROUNDS);
	TEST_ASSERT(exits >= ROUNDS, "%lu exits at first", exits);

	control_event(self, KVMI_VCPU_EVENT_MSR, true, false);
	control_msr(self, MSR_LSTAR, true, false);
	start_l2(self, l1_vmx_x2apic, l2_main);
	control_msr(self, MSR_STAR, true, true);
	control_msr(self, MSR_STAR, false, true);
	stop_l2(self);

	exits = count_exits(self, l1_read_tpr, &refused);
	TEST_ASSERT_EQ(refused, ROUNDS);
	TEST_ASSERT(exits >= ROUNDS, "%lu exits for %d accesses", exits, ROUNDS);
}

int main(int argc, char *argv[])
{
	TEST_REQUIRE(kvmi_supported());

	return test_harness_run(argc, argv);
}
