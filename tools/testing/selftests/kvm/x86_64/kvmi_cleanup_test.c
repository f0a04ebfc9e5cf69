// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM introspection: what is left of a session when it ends, of each thing
 * that a tool can have KVM intercept, stop or restrict, with
 * KVMI_VM_CONTROL_CLEANUP on and off, and whichever way the session ends.
 */
#include "test_util.h"
#include "kvm_util.h"
#include "kselftest_harness.h"
#include "kvmi_util.h"

#define CONTINUE	KVMI_EVENT_ACTION_CONTINUE

/*
 * So many instructions cause less exits than FEW_EXITS, unless each causes
 * one.  Even, so that what is switched back and forth is as it was.
 */
#define LOOPS		1000
#define FEW_EXITS	(LOOPS / 2)

/* ---- guest: val times the instruction, then whether that had its effect ---- */

static uint64_t guest_cr0(uint64_t gva, uint64_t val, uint64_t arg)
{
	uint64_t want = get_cr0();
	uint64_t i;

	for (i = 0; i < val; i++) {
		want ^= X86_CR0_WP;
		asm volatile("mov %0, %%cr0" :: "r"(want) : "memory");
	}
	/* every write sets ET */
	return ((get_cr0() ^ want) & ~X86_CR0_ET) == 0;
}

static uint64_t guest_cr3(uint64_t gva, uint64_t val, uint64_t arg)
{
	uint64_t want = get_cr3();
	uint64_t i;

	for (i = 0; i < val; i++) {
		want ^= BIT(3);
		asm volatile("mov %0, %%cr3" :: "r"(want) : "memory");
	}
	return get_cr3() == want;
}

static uint64_t guest_cr4(uint64_t gva, uint64_t val, uint64_t arg)
{
	uint64_t want = get_cr4();
	uint64_t i;

	for (i = 0; i < val; i++) {
		want ^= X86_CR4_PGE;
		asm volatile("mov %0, %%cr4" :: "r"(want) : "memory");
	}
	return get_cr4() == want;
}

static uint64_t guest_msr(uint64_t gva, uint64_t val, uint64_t arg)
{
	uint64_t want = rdmsr(MSR_KERNEL_GS_BASE);
	uint64_t i;

	for (i = 0; i < val; i++) {
		want ^= 0x1000;
		wrmsr(MSR_KERNEL_GS_BASE, want);
	}
	return rdmsr(MSR_KERNEL_GS_BASE) == want;
}

static uint64_t guest_sgdt(uint64_t gva, uint64_t val, uint64_t arg)
{
	struct desc_ptr dt = { };
	uint64_t i;

	for (i = 0; i < val; i++)
		asm volatile("sgdt %0" : "=m"(dt));
	return dt.address != 0;
}

static uint64_t nr_int3;

static void handle_bp(struct ex_regs *regs)
{
	nr_int3++;
	/* Bochs' SVM has a #BP that KVM delivers return to INT3 itself. */
	regs->rip += regs->rip == (uint64_t)kvmi_insn_int3_at;
}

static uint64_t guest_int3(uint64_t gva, uint64_t val, uint64_t arg)
{
	uint64_t i, before = nr_int3;

	for (i = 0; i < val; i++)
		kvmi_insn_int3(0, 0, 0);
	return nr_int3 - before == val;
}

static uint64_t guest_nops(uint64_t gva, uint64_t val, uint64_t arg)
{
	uint64_t i;

	for (i = 0; i < val; i++)
		asm volatile("nop");
	return 1;
}

static uint64_t guest_write(uint64_t gva, uint64_t val, uint64_t arg)
{
	volatile uint64_t *data = (uint64_t *)gva;
	uint64_t i;

	for (i = 0; i < val; i++)
		*data = i + 1;
	return *data == val;
}

/* ---- what a tool has done to the vCPU or the VM ---- */

static void control_cr(struct kvmi_env *env, uint8_t cr)
{
	struct kvmi_vcpu_control_cr req = { .cr = cr, .enable = 1 };

	TEST_ASSERT_EQ(__kvmi_vcpu_cmd(env, 0, KVMI_VCPU_CONTROL_CR, &req,
				       sizeof(req), NULL, 0), 0);
}

static void select_cr0(struct kvmi_env *env)
{
	control_cr(env, 0);
}

static void select_cr3(struct kvmi_env *env)
{
	control_cr(env, 3);
}

static void select_cr4(struct kvmi_env *env)
{
	control_cr(env, 4);
}

static void select_msr(struct kvmi_env *env)
{
	struct kvmi_vcpu_control_msr req = {
		.msr = MSR_KERNEL_GS_BASE, .enable = 1,
	};

	TEST_ASSERT_EQ(__kvmi_vcpu_cmd(env, 0, KVMI_VCPU_CONTROL_MSR, &req,
				       sizeof(req), NULL, 0), 0);
}

static void select_page(struct kvmi_env *env)
{
	kvmi_set_page_access(&env->tool, kvmi_gpa(1, 0), KVMI_PAGE_ACCESS_R);
}

FIXTURE(cleanup)
{
	struct kvmi_env env;
	/* With shadow paging or SVM, KVM wants some of this for itself. */
	bool baseline;
};

FIXTURE_VARIANT(cleanup)
{
	uint16_t event;
	kvmi_insn insn;
	/* what is to be selected besides enabling the event */
	void (*select)(struct kvmi_env *env);
	/* What is stopped or lifted in any case, is not kept. */
	bool never_kept;
};

FIXTURE_VARIANT_ADD(cleanup, cr0) {
	.event = KVMI_VCPU_EVENT_CR, .insn = guest_cr0, .select = select_cr0,
};

FIXTURE_VARIANT_ADD(cleanup, cr3) {
	.event = KVMI_VCPU_EVENT_CR, .insn = guest_cr3, .select = select_cr3,
};

FIXTURE_VARIANT_ADD(cleanup, cr4) {
	.event = KVMI_VCPU_EVENT_CR, .insn = guest_cr4, .select = select_cr4,
};

FIXTURE_VARIANT_ADD(cleanup, msr) {
	.event = KVMI_VCPU_EVENT_MSR, .insn = guest_msr, .select = select_msr,
};

FIXTURE_VARIANT_ADD(cleanup, descriptor) {
	.event = KVMI_VCPU_EVENT_DESCRIPTOR, .insn = guest_sgdt,
};

FIXTURE_VARIANT_ADD(cleanup, breakpoint) {
	.event = KVMI_VCPU_EVENT_BREAKPOINT, .insn = guest_int3,
};

FIXTURE_VARIANT_ADD(cleanup, singlestep) {
	.event = KVMI_VCPU_EVENT_SINGLESTEP, .insn = guest_nops,
	.never_kept = true,
};

FIXTURE_VARIANT_ADD(cleanup, page_access) {
	.event = KVMI_VCPU_EVENT_PF, .insn = guest_write,
	.select = select_page, .never_kept = true,
};

static void start(struct kvmi_env *env, kvmi_insn insn, uint64_t times)
{
	kvmi_runner_do(&env->run[0], insn, kvmi_gva(1, 0), times);
}

/* Without an event */
static void run(struct kvmi_env *env, kvmi_insn insn, uint64_t times)
{
	struct kvmi_event ev;

	start(env, insn, times);
	TEST_ASSERT_EQ(kvmi_runner_wait(&env->run[0]), 1);
	/* It would have come before the guest went on. */
	if (env->tool.fd >= 0)
		if (kvmi_poll_event(&env->tool, &ev, 0))
			TEST_FAIL("unwanted event %u", ev.event);
}

static bool is_intercepted(struct kvmi_env *env, kvmi_insn insn)
{
	struct kvm_vcpu *vcpu = env->run[0].vcpu;
	uint64_t before, exits;

	/* once more, for pages that are not mapped yet */
	run(env, insn, LOOPS);
	before = kvmi_nr_exits(vcpu);
	run(env, insn, LOOPS);
	exits = kvmi_nr_exits(vcpu) - before;

	TEST_ASSERT(exits < FEW_EXITS || exits >= LOOPS,
		    "%lu exits in %d instructions", exits, LOOPS);

	return exits >= LOOPS;
}

FIXTURE_SETUP(cleanup)
{
	struct kvmi_env *env = &self->env;

	kvmi_env_create(env, 1);
	vm_install_exception_handler(env->vm, BP_VECTOR, handle_bp);
	if (variant->event == KVMI_VCPU_EVENT_BREAKPOINT &&
	    !kvmi_is_int3_intercepted(env))
		SKIP(return, KVMI_INT3_IGNORED);

	/* CR0.ET may not be set yet, but every write sets it. */
	run(env, guest_cr0, 2);
	self->baseline = is_intercepted(env, variant->insn);

	kvmi_env_hook(env);
	if (variant->event == KVMI_VCPU_EVENT_SINGLESTEP &&
	    !kvmi_can_step(&env->tool))
		SKIP(return, "no single-step: no monitor trap flag, or kvm.introspection_step is off");
	if (variant->event == KVMI_VCPU_EVENT_DESCRIPTOR &&
	    __kvmi_control_event(env, 0, variant->event, true))
		SKIP(return, "the CPU cannot intercept them");
	kvmi_env_unhook(env);
}

FIXTURE_TEARDOWN(cleanup)
{
	kvmi_env_destroy(&self->env);
}

static void control_cleanup(struct kvmi_env *env, uint8_t enable)
{
	struct kvmi_vm_control_cleanup req = { .enable = enable };

	kvmi_cmd(&env->tool, KVMI_VM_CONTROL_CLEANUP, &req, sizeof(req), NULL,
		 0);
}

/* To a vCPU that carries it out when the guest is about to run. */
static void start_stepping(struct kvmi_env *env)
{
	struct kvmi_vcpu_control_singlestep req = { .enable = 1 };
	struct kvmi_tool *tool = &env->tool;
	uint32_t seq;

	seq = kvmi_vcpu_send(tool, 0, KVMI_VCPU_CONTROL_SINGLESTEP, &req,
			     sizeof(req));
	/* The next command is served after this one has been queued. */
	kvmi_alive(tool);
	start(env, guest_nops, LOOPS);
	TEST_ASSERT_EQ(__kvmi_recv_reply(tool, KVMI_VCPU_CONTROL_SINGLESTEP,
					 seq, NULL, 0), 0);
}

/* The guest gets its way. */
static void reply(struct kvmi_env *env, const struct kvmi_event *ev)
{
	switch (ev->event) {
	case KVMI_VCPU_EVENT_CR:
		kvmi_reply_value(&env->tool, ev, CONTINUE, ev->cr.new_value, 8);
		break;
	case KVMI_VCPU_EVENT_MSR:
		kvmi_reply_value(&env->tool, ev, CONTINUE, ev->msr.new_value,
				 8);
		break;
	default:
		kvmi_reply(&env->tool, ev, CONTINUE);
	}
}

/* With the event enabled, and whatever belongs to it selected: it comes. */
static void cause_event(struct kvmi_env *env, uint16_t event, kvmi_insn insn,
			struct kvmi_event *ev)
{
	if (event == KVMI_VCPU_EVENT_SINGLESTEP)
		start_stepping(env);
	else
		start(env, insn, 1);
	kvmi_wait_event(&env->tool, event, ev);
}

/* The ways in which a session ends */
enum end {
	END_UNHOOK,		/* the VMM ends it */
	END_CLOSED,		/* the tool goes, and nobody does anything */
	END_NEXT,		/* the tool goes, and the VMM has another one */
	END_LEFT,		/* the VMM asks the tool to go */
	NR_ENDS,
};

static void end_session(struct kvmi_env *env, enum end end)
{
	struct kvmi_vm_control_events req = {
		.event_id = KVMI_VM_EVENT_UNHOOK, .enable = 1,
	};
	struct kvmi_event ev;

	switch (end) {
	case END_UNHOOK:
		kvmi_env_unhook(env);
		break;
	case END_CLOSED:
		kvmi_tool_close(&env->tool);
		env->hooked = false;
		break;
	case END_NEXT:
		kvmi_tool_close(&env->tool);
		kvmi_env_hook(env);
		break;
	case END_LEFT:
		kvmi_cmd(&env->tool, KVMI_VM_CONTROL_EVENTS, &req, sizeof(req),
			 NULL, 0);
		TEST_ASSERT_EQ(__vm_kvmi_preunhook(env->vm), 0);
		/* A vCPU that is stepped may have come to its next step. */
		do {
			TEST_ASSERT(kvmi_poll_event(&env->tool, &ev,
						    KVMI_TIMEOUT_MS),
				    "no event");
		} while (ev.event == KVMI_VCPU_EVENT_SINGLESTEP);
		TEST_ASSERT_EQ(ev.event, KVMI_VM_EVENT_UNHOOK);
		kvmi_tool_close(&env->tool);
		kvmi_env_unhook(env);
		break;
	default:
		TEST_FAIL("end %u", end);
	}
}

/* A register that shares its event with others is not selected for them. */
static void check_others(struct kvmi_env *env, kvmi_insn insn)
{
	static const kvmi_insn crs[] = { guest_cr0, guest_cr3, guest_cr4 };
	int i;

	for (i = 0; i < ARRAY_SIZE(crs); i++)
		if (crs[i] != insn)
			run(env, crs[i], 2);
}

/*
 * One session, ended with an event under way or without, and what the next one
 * finds.
 */
static void check_end(FIXTURE_DATA(cleanup) *self,
		      const FIXTURE_VARIANT(cleanup) *variant, bool restore,
		      enum end end, bool waiting)
{
	const bool kept = !restore && !variant->never_kept;
	const bool want = kept || self->baseline;
	struct kvmi_env *env = &self->env;
	kvmi_insn insn = variant->insn;
	struct kvmi_event ev;

	TEST_ASSERT_EQ(is_intercepted(env, insn), self->baseline);
	kvmi_env_hook(env);
	TEST_ASSERT_EQ(is_intercepted(env, insn), self->baseline);

	/* The last word counts, and comes after the rest or before it. */
	control_cleanup(env, !restore);
	if (waiting)
		control_cleanup(env, restore);
	kvmi_control_event(env, 0, variant->event, true);
	if (variant->select)
		variant->select(env);
	if (!waiting)
		control_cleanup(env, restore);

	cause_event(env, variant->event, insn, &ev);
	if (!waiting) {
		reply(env, &ev);
		if (variant->event != KVMI_VCPU_EVENT_SINGLESTEP)
			TEST_ASSERT_EQ(kvmi_runner_wait(&env->run[0]), 1);
	}
	end_session(env, end);
	/* What waited goes on; with no session there is no event. */
	if (env->run[0].running)
		TEST_ASSERT_EQ(kvmi_runner_wait(&env->run[0]), 1);
	TEST_ASSERT(is_intercepted(env, insn) == want,
		    "end %u, waiting %d: intercepted %d", end, waiting, !want);

	if (!env->hooked)
		kvmi_env_hook(env);
	TEST_ASSERT(is_intercepted(env, insn) == want,
		    "end %u, waiting %d: intercepted %d in the next session",
		    end, waiting, !want);

	/* Enabled again, it comes if nothing else is needed, or was kept. */
	kvmi_control_event(env, 0, variant->event, true);
	if (variant->select || variant->never_kept) {
		check_others(env, insn);
		if (kept) {
			cause_event(env, variant->event, insn, &ev);
			reply(env, &ev);
			TEST_ASSERT_EQ(kvmi_runner_wait(&env->run[0]), 1);
		} else {
			run(env, insn, 2);
		}
	}

	/* The next session has its own idea of cleanup. */
	kvmi_env_unhook(env);
	TEST_ASSERT(is_intercepted(env, insn) == self->baseline,
		    "end %u, waiting %d: intercepted after the next session",
		    end, waiting);
}

static void check_all_ends(FIXTURE_DATA(cleanup) *self,
			   const FIXTURE_VARIANT(cleanup) *variant,
			   bool restore)
{
	enum end end;
	int waiting;

	for (end = 0; end < NR_ENDS; end++)
		for (waiting = 0; waiting < 2; waiting++)
			check_end(self, variant, restore, end, waiting);
}

TEST_F_TIMEOUT(cleanup, on, KVMI_TEST_TIMEOUT)
{
	check_all_ends(self, variant, true);
}

TEST_F_TIMEOUT(cleanup, off, KVMI_TEST_TIMEOUT)
{
	check_all_ends(self, variant, false);
}

int main(int argc, char *argv[])
{
	TEST_REQUIRE(kvmi_supported());

	return test_harness_run(argc, argv);
}
