// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM introspection: instructions that wait for the tool.
 */
#include "test_util.h"
#include "kvm_util.h"
#include "kselftest_harness.h"
#include "apic.h"
#include "kvmi_util.h"

#define CONTINUE	KVMI_EVENT_ACTION_CONTINUE
#define RETRY		KVMI_EVENT_ACTION_RETRY
#define CRASH		KVMI_EVENT_ACTION_CRASH

/* What guest functions return instead of a value, with the vector */
#define FAULT(vector)	(0xfa17000000000000ull | (vector))

/* So many instructions cause less exits than this, unless each causes one. */
#define LOOPS		1000
#define FEW_EXITS	(LOOPS / 2)

#define FILTERED_MSR	MSR_LSTAR

#ifndef APIC_SELF_IPI
#define APIC_SELF_IPI	0x3f0
#endif

/* ---- guest ---- */

#define WRITE_CR(cr, val)	\
	kvm_asm_safe("mov %[v], %%cr" #cr, [v] "r"(val))
/* kvm_asm_safe_fep() does without the prefix. */
#define WRITE_CR_FEP(cr, val)	\
	kvm_asm_safe_ec_fep("mov %[v], %%cr" #cr, ec, [v] "r"(val))

static uint64_t read_cr(uint64_t cr)
{
	return cr == 0 ? get_cr0() : cr == 3 ? get_cr3() : get_cr4();
}

static uint64_t guest_write_cr(uint64_t cr, uint64_t val, uint64_t arg)
{
	uint8_t vector = cr == 0 ? WRITE_CR(0, val) :
			 cr == 3 ? WRITE_CR(3, val) : WRITE_CR(4, val);

	return vector ? FAULT(vector) : read_cr(cr);
}

static uint64_t guest_write_cr_fep(uint64_t cr, uint64_t val, uint64_t arg)
{
	uint64_t ec;
	uint8_t vector = cr == 0 ? WRITE_CR_FEP(0, val) :
			 cr == 3 ? WRITE_CR_FEP(3, val) : WRITE_CR_FEP(4, val);

	return vector ? FAULT(vector) : read_cr(cr);
}

/* TS alone: set, cleared, set and cleared */
#define CHANGE_TS(prefix)						\
do {									\
	uint64_t cr0 = get_cr0() & ~X86_CR0_TS;				\
									\
	asm volatile(prefix "mov %0, %%cr0\n\t"				\
		     prefix "mov %1, %%cr0\n\t"				\
		     prefix "mov %0, %%cr0\n\t"				\
		     prefix "clts"					\
		     :: "r"(cr0 | X86_CR0_TS), "r"(cr0));		\
} while (0)

static uint64_t guest_change_ts(uint64_t cr, uint64_t val, uint64_t arg)
{
	CHANGE_TS("");

	return get_cr0();
}

static uint64_t guest_change_ts_fep(uint64_t cr, uint64_t val, uint64_t arg)
{
	CHANGE_TS(KVM_FEP);

	return get_cr0();
}

static uint64_t guest_read_cr(uint64_t cr, uint64_t val, uint64_t arg)
{
	return read_cr(cr);
}

static uint64_t guest_loop_cr3(uint64_t gva, uint64_t val, uint64_t arg)
{
	uint64_t cr3 = get_cr3();
	int i;

	for (i = 0; i < LOOPS; i++)
		asm volatile("mov %0, %%cr3" :: "r"(cr3) : "memory");

	return get_cr3() == cr3;
}

static uint64_t guest_wrmsr(uint64_t msr, uint64_t val, uint64_t arg)
{
	uint8_t vector = wrmsr_safe(msr, val);

	return vector ? FAULT(vector) : rdmsr(msr);
}

/* One of the instructions, as the descriptor and the direction say */
static uint64_t guest_desc(uint64_t desc, uint64_t write, uint64_t arg)
{
	struct desc_ptr dt = { };
	uint16_t sel = 0;
	uint8_t vector;

	switch (desc << 1 | write) {
	case KVMI_DESC_GDTR << 1:
		asm volatile("sgdt %0" : "=m"(dt));
		return dt.address;
	case KVMI_DESC_IDTR << 1:
		asm volatile("sidt %0" : "=m"(dt));
		return dt.address;
	case KVMI_DESC_LDTR << 1:
		asm volatile("sldt %0" : "=m"(sel));
		return sel;
	case KVMI_DESC_TR << 1:
		asm volatile("str %0" : "=m"(sel));
		return sel;
	case KVMI_DESC_GDTR << 1 | 1:
		asm volatile("sgdt %0" : "=m"(dt));
		asm volatile("lgdt %0" :: "m"(dt));
		return dt.address;
	case KVMI_DESC_IDTR << 1 | 1:
		asm volatile("sidt %0" : "=m"(dt));
		asm volatile("lidt %0" :: "m"(dt));
		return dt.address;
	case KVMI_DESC_LDTR << 1 | 1:
		asm volatile("lldt %0" :: "r"(sel));
		return 0;
	default:
		/* no task can have the null selector */
		vector = kvm_asm_safe("ltr %[s]", [s] "r"(sel));
		return FAULT(vector);
	}
}

static uint64_t guest_loop_sgdt(uint64_t gva, uint64_t val, uint64_t arg)
{
	struct desc_ptr dt;
	int i;

	for (i = 0; i < LOOPS; i++)
		asm volatile("sgdt %0" : "=m"(dt));

	return 1;
}

static uint64_t guest_xsetbv(uint64_t xcr, uint64_t val, uint64_t arg)
{
	uint8_t vector;

	set_cr4(get_cr4() | X86_CR4_OSXSAVE);
	vector = xsetbv_safe(xcr, val);

	return vector ? FAULT(vector) : xgetbv(0);
}

static uint64_t guest_xsetbv_fep(uint64_t xcr, uint64_t val, uint64_t arg)
{
	uint64_t ec;
	uint8_t vector;

	set_cr4(get_cr4() | X86_CR4_OSXSAVE);
	vector = kvm_asm_safe_ec_fep("xsetbv", ec, "a"((uint32_t)val), "d"(0),
				     "c"((uint32_t)xcr));

	return vector ? FAULT(vector) : val;
}

static uint64_t guest_xcr0(uint64_t gva, uint64_t val, uint64_t arg)
{
	set_cr4(get_cr4() | X86_CR4_OSXSAVE);

	return xgetbv(0);
}

static uint64_t guest_loop_xsetbv(uint64_t gva, uint64_t val, uint64_t arg)
{
	int i;

	set_cr4(get_cr4() | X86_CR4_OSXSAVE);
	for (i = 0; i < LOOPS; i++)
		xsetbv(0, 1);

	return 1;
}

static uint64_t guest_hypercall(uint64_t nr, uint64_t op, uint64_t arg)
{
	uint64_t ret;

	if (host_cpu_is_amd)
		asm volatile("vmmcall" : "=a"(ret)
			     : "a"(nr), "D"(op), "S"(arg) : "memory");
	else
		asm volatile("vmcall" : "=a"(ret)
			     : "a"(nr), "D"(op), "S"(arg) : "memory");

	return ret;
}

static uint64_t guest_x2apic_icr(uint64_t gva, uint64_t val, uint64_t arg)
{
	uint8_t vector;

	x2apic_enable();
	vector = wrmsr_safe(APIC_BASE_MSR + (APIC_ICR >> 4), val);

	return vector ? FAULT(vector) : 1;
}

/* In x2APIC mode; the value that is there afterwards, where it can be read */
static uint64_t guest_x2apic(uint64_t msr, uint64_t val, uint64_t read)
{
	uint8_t vector;

	x2apic_enable();
	vector = wrmsr_safe(msr, val);
	if (vector)
		return FAULT(vector);

	return read ? rdmsr(msr) : 0;
}

/* ---- test ---- */

FIXTURE(intercept)
{
	struct kvmi_env env;
};

FIXTURE_SETUP(intercept)
{
	kvmi_env_create(&self->env, 1);
	kvmi_env_hook(&self->env);
}

FIXTURE_TEARDOWN(intercept)
{
	kvmi_env_destroy(&self->env);
}

static void start(struct kvmi_env *env, kvmi_insn insn, uint64_t gva,
		  uint64_t val, uint64_t arg)
{
	env->run[0].req->arg = arg;
	kvmi_runner_do(&env->run[0], insn, gva, val);
}

/* Without an event */
static uint64_t run(struct kvmi_env *env, kvmi_insn insn, uint64_t gva,
		    uint64_t val, uint64_t arg)
{
	struct kvmi_event ev;
	uint64_t result;

	start(env, insn, gva, val, arg);
	result = kvmi_runner_wait(&env->run[0]);
	/* It would have come before the guest went on. */
	if (env->tool.fd >= 0)
		if (kvmi_poll_event(&env->tool, &ev, 0))
			TEST_FAIL("unwanted event %u", ev.event);

	return result;
}

static int __control_cr(struct kvmi_env *env, uint8_t cr, uint8_t enable)
{
	struct kvmi_vcpu_control_cr req = { .cr = cr, .enable = enable };

	return __kvmi_vcpu_cmd(env, 0, KVMI_VCPU_CONTROL_CR, &req, sizeof(req),
			       NULL, 0);
}

static void control_cr(struct kvmi_env *env, uint8_t cr, uint8_t enable)
{
	TEST_ASSERT_EQ(__control_cr(env, cr, enable), 0);
}

static int __control_msr(struct kvmi_env *env, uint32_t msr, uint8_t enable)
{
	struct kvmi_vcpu_control_msr req = { .msr = msr, .enable = enable };

	return __kvmi_vcpu_cmd(env, 0, KVMI_VCPU_CONTROL_MSR, &req, sizeof(req),
			       NULL, 0);
}

static void control_msr(struct kvmi_env *env, uint32_t msr, uint8_t enable)
{
	TEST_ASSERT_EQ(__control_msr(env, msr, enable), 0);
}

/* Does each of the guest's instructions cause an exit? */
static bool is_intercepted(struct kvmi_env *env, kvmi_insn loop, uint64_t gva)
{
	uint64_t before, exits;

	/* once more, for pages that are not mapped yet */
	TEST_ASSERT_EQ(run(env, loop, gva, 0, 0), 1);
	before = kvmi_nr_exits(env->run[0].vcpu);
	TEST_ASSERT_EQ(run(env, loop, gva, 0, 0), 1);
	exits = kvmi_nr_exits(env->run[0].vcpu) - before;

	TEST_ASSERT(exits < FEW_EXITS || exits >= LOOPS,
		    "%lu exits in %d instructions", exits, LOOPS);

	return exits >= LOOPS;
}

/* With shadow paging, KVM needs all writes of CR3 for itself. */
static void check_cr3_intercepted(struct kvmi_env *env, bool want)
{
	TEST_ASSERT(is_intercepted(env, guest_loop_cr3, 0) ==
		    (want || !kvm_is_tdp_enabled()), "CR3: want %d", want);
}

/* ---- CR ---- */

static uint64_t other_cr(uint8_t cr, uint64_t val)
{
	return val ^ (cr == 0 ? X86_CR0_WP : cr == 3 ? BIT(3) : X86_CR4_PGE);
}

static const uint8_t crs[] = { 0, 3, 4 };

/* The register; CR0.ET may not be set yet, but every write sets it. */
static uint64_t get_cr(struct kvmi_env *env, uint8_t cr)
{
	uint64_t val = run(env, guest_read_cr, cr, 0, 0);

	if (cr == 0)
		val |= X86_CR0_ET;

	return run(env, guest_write_cr, cr, val, 0);
}

static void wait_cr(struct kvmi_env *env, uint8_t cr, uint64_t old,
		    uint64_t val, struct kvmi_event *ev)
{
	kvmi_wait_event(&env->tool, KVMI_VCPU_EVENT_CR, ev);
	TEST_ASSERT_EQ(ev->cr.cr, cr);
	TEST_ASSERT_EQ(ev->cr.old_value, old);
	TEST_ASSERT_EQ(ev->cr.new_value, val);

	/* The vCPU has still the old value. */
	TEST_ASSERT_EQ(cr == 0 ? ev->common.arch.sregs.cr0 :
		       cr == 3 ? ev->common.arch.sregs.cr3 :
				 ev->common.arch.sregs.cr4, old);
}

static void reply_value(struct kvmi_env *env, const struct kvmi_event *ev,
			uint64_t value)
{
	kvmi_reply_value(&env->tool, ev, CONTINUE, value, sizeof(value));
}

static void test_cr(struct kvmi_env *env, kvmi_insn write, uint8_t cr)
{
	uint64_t old = get_cr(env, cr);
	uint64_t val = other_cr(cr, old);
	struct kvmi_event ev;

	/* selected or enabled is not enough */
	TEST_ASSERT_EQ(run(env, write, cr, val, 0), val);
	TEST_ASSERT_EQ(run(env, write, cr, old, 0), old);
	control_cr(env, cr, 1);
	TEST_ASSERT_EQ(run(env, write, cr, val, 0), val);
	TEST_ASSERT_EQ(run(env, write, cr, old, 0), old);
	control_cr(env, cr, 0);
	kvmi_control_event(env, 0, KVMI_VCPU_EVENT_CR, true);
	TEST_ASSERT_EQ(run(env, write, cr, val, 0), val);
	TEST_ASSERT_EQ(run(env, write, cr, old, 0), old);

	control_cr(env, cr, 1);
	/* nothing changes */
	TEST_ASSERT_EQ(run(env, write, cr, old, 0), old);

	/* as the guest wants */
	start(env, write, cr, val, 0);
	wait_cr(env, cr, old, val, &ev);
	reply_value(env, &ev, val);
	TEST_ASSERT_EQ(kvmi_runner_wait(&env->run[0]), val);

	/* the other way round, but the tool does not want it */
	start(env, write, cr, old, 0);
	wait_cr(env, cr, val, old, &ev);
	reply_value(env, &ev, val);
	TEST_ASSERT_EQ(kvmi_runner_wait(&env->run[0]), val);

	/* the tool has another value */
	start(env, write, cr, val | (cr == 0 ? X86_CR0_AM :
				     cr == 3 ? BIT(4) : X86_CR4_TSD), 0);
	kvmi_wait_event(&env->tool, KVMI_VCPU_EVENT_CR, &ev);
	reply_value(env, &ev, old);
	TEST_ASSERT_EQ(kvmi_runner_wait(&env->run[0]), old);
	kvmi_no_event(&env->tool);

	control_cr(env, cr, 0);
	TEST_ASSERT_EQ(run(env, write, cr, val, 0), val);
	TEST_ASSERT_EQ(run(env, write, cr, old, 0), old);
	kvmi_control_event(env, 0, KVMI_VCPU_EVENT_CR, false);
}

TEST_F_TIMEOUT(intercept, cr, KVMI_TEST_TIMEOUT)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(crs); i++)
		test_cr(&self->env, guest_write_cr, crs[i]);
}

/* The same, when KVM's emulator comes upon the instruction */
TEST_F_TIMEOUT(intercept, cr_emulated, KVMI_TEST_TIMEOUT)
{
	int i;

	if (!is_forced_emulation_enabled)
		SKIP(return, "kvm.force_emulation_prefix is off");

	for (i = 0; i < ARRAY_SIZE(crs); i++)
		test_cr(&self->env, guest_write_cr_fep, crs[i]);
}

/* It is changed too often, and says too little, to be reported. */
TEST_F_TIMEOUT(intercept, cr0_ts, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	uint64_t cr0 = get_cr(env, 0) & ~X86_CR0_TS;

	control_cr(env, 0, 1);
	kvmi_control_event(env, 0, KVMI_VCPU_EVENT_CR, true);
	TEST_ASSERT_EQ(run(env, guest_change_ts, 0, 0, 0), cr0);
	kvmi_no_event(&env->tool);

	if (!is_forced_emulation_enabled)
		SKIP(return, "kvm.force_emulation_prefix is off");
	TEST_ASSERT_EQ(run(env, guest_change_ts_fep, 0, 0, 0), cr0);
	kvmi_no_event(&env->tool);
}

/* One register does not stand for another. */
TEST_F_TIMEOUT(intercept, cr_others, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	int i, j;

	kvmi_control_event(env, 0, KVMI_VCPU_EVENT_CR, true);
	for (i = 0; i < ARRAY_SIZE(crs); i++) {
		control_cr(env, crs[i], 1);
		for (j = 0; j < ARRAY_SIZE(crs); j++) {
			uint64_t old, val;

			if (i == j)
				continue;
			old = get_cr(env, crs[j]);
			val = other_cr(crs[j], old);
			TEST_ASSERT_EQ(run(env, guest_write_cr, crs[j], val, 0),
				       val);
			TEST_ASSERT_EQ(run(env, guest_write_cr, crs[j], old, 0),
				       old);
		}
		control_cr(env, crs[i], 0);
	}
}

/* The guest gets what the CPU has for a value like the tool's. */
TEST_F_TIMEOUT(intercept, cr_reserved, KVMI_TEST_TIMEOUT)
{
	static const struct {
		uint8_t cr;
		uint64_t set, clear;
	} bad[] = {
		{ 4, BIT(31), 0 },
		{ 4, 0, X86_CR4_PAE },
		{ 4, ~0ull, 0 },
		{ 0, BIT(63), 0 },
		{ 0, 0, X86_CR0_PE },
		{ 3, BIT(62), 0 },
	};
	struct kvmi_env *env = &self->env;
	struct kvmi_event ev;
	int i;

	kvmi_control_event(env, 0, KVMI_VCPU_EVENT_CR, true);
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		uint8_t cr = bad[i].cr;
		uint64_t old = get_cr(env, cr);
		uint64_t val = other_cr(cr, old), result;

		control_cr(env, cr, 1);
		start(env, guest_write_cr, cr, val, 0);
		wait_cr(env, cr, old, val, &ev);
		reply_value(env, &ev, (val | bad[i].set) & ~bad[i].clear);
		result = kvmi_runner_wait(&env->run[0]);
		TEST_ASSERT(result == FAULT(GP_VECTOR), "value %d: %#lx", i,
			    result);
		TEST_ASSERT_EQ(run(env, guest_read_cr, cr, 0, 0), old);
		control_cr(env, cr, 0);
	}

	/* What is missing in a reply is 0. */
	control_cr(env, 4, 1);
	for (i = 0; i < 8; i += 4) {
		uint64_t old = run(env, guest_read_cr, 4, 0, 0);

		start(env, guest_write_cr, 4, other_cr(4, old), 0);
		kvmi_wait_event(&env->tool, KVMI_VCPU_EVENT_CR, &ev);
		kvmi_reply_value(&env->tool, &ev, CONTINUE,
				 i ? other_cr(4, old) : 0, i);
		TEST_ASSERT_EQ(kvmi_runner_wait(&env->run[0]),
			       i ? other_cr(4, old) : FAULT(GP_VECTOR));
	}
}

TEST_F_TIMEOUT(intercept, cr_errors, KVMI_TEST_TIMEOUT)
{
	struct kvmi_vcpu_control_cr pad1 = { .cr = 4, .padding1 = 1 };
	struct kvmi_vcpu_control_cr pad2 = { .cr = 4, .padding2 = 1 };
	struct kvmi_env *env = &self->env;
	int cr;

	for (cr = 0; cr < 256; cr++)
		TEST_ASSERT_EQ(__control_cr(env, cr, 1),
			       cr == 0 || cr == 3 || cr == 4 ? 0 : -KVM_EINVAL);
	TEST_ASSERT_EQ(__control_cr(env, 0, 2), -KVM_EINVAL);
	TEST_ASSERT_EQ(__kvmi_vcpu_cmd(env, 0, KVMI_VCPU_CONTROL_CR, &pad1,
				       sizeof(pad1), NULL, 0), -KVM_EINVAL);
	TEST_ASSERT_EQ(__kvmi_vcpu_cmd(env, 0, KVMI_VCPU_CONTROL_CR, &pad2,
				       sizeof(pad2), NULL, 0), -KVM_EINVAL);
}

/* An action that the event does not have ends the session, nothing else. */
TEST_F_TIMEOUT(intercept, cr_retry, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	uint64_t old = run(env, guest_read_cr, 3, 0, 0);
	struct kvmi_event ev;

	kvmi_control_event(env, 0, KVMI_VCPU_EVENT_CR, true);
	control_cr(env, 3, 1);
	start(env, guest_write_cr, 3, old ^ BIT(3), 0);
	wait_cr(env, 3, old, old ^ BIT(3), &ev);
	kvmi_reply_value(&env->tool, &ev, RETRY, old, sizeof(old));
	TEST_ASSERT_EQ(kvmi_runner_wait(&env->run[0]), old ^ BIT(3));
	kvmi_wait_closed(&env->tool);
}

static void check_crash(struct kvmi_env *env, const struct kvmi_event *ev)
{
	struct kvmi_runner *r = &env->run[0];
	struct kvm_regs regs;

	kvmi_reply(&env->tool, ev, CRASH);
	kvmi_runner_wait_exit(r);
	TEST_ASSERT_EQ(r->ret, 0);
	TEST_ASSERT_EQ(r->vcpu->run->exit_reason, KVM_EXIT_SHUTDOWN);

	/* The instruction has not been executed. */
	vcpu_regs_get(r->vcpu, &regs);
	TEST_ASSERT(!memcmp(&regs, &ev->common.arch.regs, sizeof(regs)),
		    "registers have changed");
}

TEST_F_TIMEOUT(intercept, cr_crash, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	uint64_t old = run(env, guest_read_cr, 4, 0, 0);
	struct kvm_sregs sregs;
	struct kvmi_event ev;

	kvmi_control_event(env, 0, KVMI_VCPU_EVENT_CR, true);
	control_cr(env, 4, 1);
	start(env, guest_write_cr, 4, other_cr(4, old), 0);
	wait_cr(env, 4, old, other_cr(4, old), &ev);
	check_crash(env, &ev);
	vcpu_sregs_get(env->run[0].vcpu, &sregs);
	TEST_ASSERT_EQ(sregs.cr4, old);
}

/* The VMM may have KVM_RUN back, and neither guest nor tool notice. */
static void interrupt(struct kvmi_env *env)
{
	struct kvmi_runner *r = &env->run[0];
	struct kvm_vcpu_events events;
	struct kvm_sregs sregs;
	struct kvm_regs regs;
	int i;

	for (i = 0; i < 3; i++) {
		kvmi_runner_kick(r);
		kvmi_runner_wait_exit(r);
		TEST_ASSERT_EQ(r->err, EINTR);
		vcpu_regs_get(r->vcpu, &regs);
		vcpu_regs_set(r->vcpu, &regs);
		vcpu_sregs_get(r->vcpu, &sregs);
		vcpu_sregs_set(r->vcpu, &sregs);
		vcpu_events_get(r->vcpu, &events);
		vcpu_events_set(r->vcpu, &events);
		kvmi_runner_go(r);
		kvmi_no_event(&env->tool);
	}
}

TEST_F_TIMEOUT(intercept, cr_signal, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	uint64_t old = run(env, guest_read_cr, 3, 0, 0);
	struct kvmi_event ev;

	kvmi_control_event(env, 0, KVMI_VCPU_EVENT_CR, true);
	control_cr(env, 3, 1);
	start(env, guest_write_cr, 3, old ^ BIT(3), 0);
	wait_cr(env, 3, old, old ^ BIT(3), &ev);
	interrupt(env);
	reply_value(env, &ev, old ^ BIT(4));
	TEST_ASSERT_EQ(kvmi_runner_wait(&env->run[0]), old ^ BIT(4));
	kvmi_no_event(&env->tool);
}

/* An event that waits is not lost, and there is none afterwards. */
TEST_F_TIMEOUT(intercept, cr_disable, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	uint64_t old = run(env, guest_read_cr, 3, 0, 0);
	struct kvmi_event ev;
	int i;

	for (i = 0; i < 3; i++) {
		kvmi_control_event(env, 0, KVMI_VCPU_EVENT_CR, true);
		control_cr(env, 3, 1);
		start(env, guest_write_cr, 3, old ^ BIT(3), 0);
		wait_cr(env, 3, old, old ^ BIT(3), &ev);
		if (i == 0)
			control_cr(env, 3, 0);
		else if (i == 1)
			kvmi_control_event(env, 0, KVMI_VCPU_EVENT_CR, false);
		else
			vm_kvmi_allow_event(env->vm, KVMI_VCPU_EVENT_CR, 0);
		reply_value(env, &ev, old ^ BIT(4));
		TEST_ASSERT_EQ(kvmi_runner_wait(&env->run[0]), old ^ BIT(4));
		TEST_ASSERT_EQ(run(env, guest_write_cr, 3, old, 0), old);
		check_cr3_intercepted(env, false);
	}
}

/* The guest gets its way, or the tool's last word counts. */
TEST_F_TIMEOUT(intercept, cr_gone, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	uint64_t old = run(env, guest_read_cr, 3, 0, 0);
	struct kvmi_event ev;
	int i;

	for (i = 0; i < 3; i++) {
		if (!env->hooked)
			kvmi_env_hook(env);
		kvmi_control_event(env, 0, KVMI_VCPU_EVENT_CR, true);
		control_cr(env, 3, 1);
		check_cr3_intercepted(env, true);
		start(env, guest_write_cr, 3, old ^ BIT(3), 0);
		wait_cr(env, 3, old, old ^ BIT(3), &ev);
		if (i == 2)
			reply_value(env, &ev, old ^ BIT(4));
		if (i == 1)
			kvmi_env_unhook(env);
		else
			kvmi_tool_close(&env->tool);
		env->hooked = false;
		TEST_ASSERT_EQ(kvmi_runner_wait(&env->run[0]),
			       i == 2 ? old ^ BIT(4) : old ^ BIT(3));
		TEST_ASSERT_EQ(run(env, guest_write_cr, 3, old, 0), old);
		check_cr3_intercepted(env, false);
	}
}

/* ---- MSR ---- */

/* those that KVM leaves to the guest, on one vendor or both, and others */
static const uint32_t msrs[] = {
	MSR_KERNEL_GS_BASE, MSR_LSTAR, MSR_IA32_SYSENTER_EIP, MSR_IA32_CR_PAT,
	MSR_IA32_SYSENTER_CS, MSR_FS_BASE,
};

static uint64_t msr_value(uint32_t msr, int i)
{
	switch (msr) {
	case MSR_IA32_CR_PAT:
		return 0x0007040600070403ull + i;
	case MSR_IA32_SYSENTER_CS:
		return 0x10 + i * 8;
	default:
		/* of SYSENTER_EIP, AMD has 32 bits */
		return 0x12340000 + i * 0x10;
	}
}

static void wait_msr(struct kvmi_env *env, uint32_t msr, uint64_t old,
		     uint64_t val, struct kvmi_event *ev)
{
	kvmi_wait_event(&env->tool, KVMI_VCPU_EVENT_MSR, ev);
	TEST_ASSERT_EQ(ev->msr.msr, msr);
	TEST_ASSERT_EQ(ev->msr.old_value, old);
	TEST_ASSERT_EQ(ev->msr.new_value, val);
}

TEST_F_TIMEOUT(intercept, msr, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_event ev;
	int i, j;

	for (i = 0; i < ARRAY_SIZE(msrs); i++) {
		uint32_t msr = msrs[i];
		uint64_t a = msr_value(msr, 1), b = msr_value(msr, 2);
		uint64_t c = msr_value(msr, 3);

		TEST_ASSERT_EQ(run(env, guest_wrmsr, msr, a, 0), a);
		control_msr(env, msr, 1);
		TEST_ASSERT_EQ(run(env, guest_wrmsr, msr, b, 0), b);
		kvmi_control_event(env, 0, KVMI_VCPU_EVENT_MSR, true);
		/* no change */
		TEST_ASSERT_EQ(run(env, guest_wrmsr, msr, b, 0), b);

		start(env, guest_wrmsr, msr, a, 0);
		wait_msr(env, msr, b, a, &ev);
		reply_value(env, &ev, a);
		TEST_ASSERT_EQ(kvmi_runner_wait(&env->run[0]), a);

		/* blocked, and replaced */
		start(env, guest_wrmsr, msr, b, 0);
		wait_msr(env, msr, a, b, &ev);
		reply_value(env, &ev, a);
		TEST_ASSERT_EQ(kvmi_runner_wait(&env->run[0]), a);
		start(env, guest_wrmsr, msr, b, 0);
		wait_msr(env, msr, a, b, &ev);
		reply_value(env, &ev, c);
		TEST_ASSERT_EQ(kvmi_runner_wait(&env->run[0]), c);

		/* of others nothing is heard */
		for (j = 0; j < ARRAY_SIZE(msrs); j++)
			if (j != i)
				run(env, guest_wrmsr, msrs[j],
				    msr_value(msrs[j], j), 0);

		/* nor of the VMM */
		vcpu_set_msr(env->run[0].vcpu, msr, b);
		kvmi_no_event(&env->tool);
		TEST_ASSERT_EQ(run(env, guest_wrmsr, msr, b, 0), b);

		control_msr(env, msr, 0);
		TEST_ASSERT_EQ(run(env, guest_wrmsr, msr, a, 0), a);
		kvmi_control_event(env, 0, KVMI_VCPU_EVENT_MSR, false);
	}
}

TEST_F_TIMEOUT(intercept, msr_faults, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_event ev;

	kvmi_control_event(env, 0, KVMI_VCPU_EVENT_MSR, true);
	control_msr(env, MSR_LSTAR, 1);
	TEST_ASSERT_EQ(run(env, guest_wrmsr, MSR_LSTAR, 0, 0), 0);

	start(env, guest_wrmsr, MSR_LSTAR, 0x1000, 0);
	wait_msr(env, MSR_LSTAR, 0, 0x1000, &ev);
	/* not canonical */
	reply_value(env, &ev, BIT(62));
	TEST_ASSERT_EQ(kvmi_runner_wait(&env->run[0]), FAULT(GP_VECTOR));

	/* the other way round */
	start(env, guest_wrmsr, MSR_LSTAR, BIT(62), 0);
	wait_msr(env, MSR_LSTAR, 0, BIT(62), &ev);
	reply_value(env, &ev, 0x2000);
	TEST_ASSERT_EQ(kvmi_runner_wait(&env->run[0]), 0x2000);

	/* a register that there is not */
	control_msr(env, 0x1fff, 1);
	TEST_ASSERT_EQ(run(env, guest_wrmsr, 0x1fff, 1, 0), FAULT(GP_VECTOR));

	start(env, guest_wrmsr, MSR_LSTAR, 0x3000, 0);
	wait_msr(env, MSR_LSTAR, 0x2000, 0x3000, &ev);
	interrupt(env);
	check_crash(env, &ev);
	TEST_ASSERT_EQ(vcpu_get_msr(env->run[0].vcpu, MSR_LSTAR), 0x2000);
}

TEST_F_TIMEOUT(intercept, msr_errors, KVMI_TEST_TIMEOUT)
{
	static const struct {
		struct kvmi_vcpu_control_msr req;
		int err;
	} reqs[] = {
		{ { .msr = 0, .enable = 1 }, 0 },
		{ { .msr = 0x1fff, .enable = 1 }, 0 },
		{ { .msr = 0xc0000000, .enable = 1 }, 0 },
		{ { .msr = 0xc0001fff, .enable = 1 }, 0 },
		{ { .msr = 0x2000, .enable = 1 }, -KVM_EINVAL },
		{ { .msr = 0xbfffffff, .enable = 1 }, -KVM_EINVAL },
		{ { .msr = 0xc0002000, .enable = 1 }, -KVM_EINVAL },
		{ { .msr = 0xffffffff, .enable = 0 }, -KVM_EINVAL },
		{ { .msr = 0x40000000, .enable = 0 }, -KVM_EINVAL },
		{ { .msr = MSR_LSTAR, .enable = 2 }, -KVM_EINVAL },
		{ { .msr = MSR_LSTAR, .padding1 = 1 }, -KVM_EINVAL },
		{ { .msr = MSR_LSTAR, .padding2 = 1 }, -KVM_EINVAL },
	};
	struct kvmi_env *env = &self->env;
	int i;

	for (i = 0; i < ARRAY_SIZE(reqs); i++) {
		int err = __kvmi_vcpu_cmd(env, 0, KVMI_VCPU_CONTROL_MSR,
					  &reqs[i].req, sizeof(reqs[i].req),
					  NULL, 0);

		TEST_ASSERT(err == reqs[i].err, "request %d: %d", i, err);
	}
}

/* What is missing of the value in the reply is 0. */
TEST_F_TIMEOUT(intercept, msr_short_reply, KVMI_TEST_TIMEOUT)
{
	const uint64_t val = 0x1122334455667788ull & ~(0xffffull << 48);
	struct kvmi_env *env = &self->env;
	struct kvmi_event ev;
	size_t size;

	kvmi_control_event(env, 0, KVMI_VCPU_EVENT_MSR, true);
	control_msr(env, MSR_LSTAR, 1);
	for (size = 0; size <= sizeof(val); size++) {
		uint64_t want = size == sizeof(val) ? val :
				val & (BIT_ULL(size * 8) - 1);

		/* canonical, as LSTAR has to be */
		if (want & BIT_ULL(47))
			continue;
		start(env, guest_wrmsr, MSR_LSTAR, 0x1000 + size, 0);
		kvmi_wait_event(&env->tool, KVMI_VCPU_EVENT_MSR, &ev);
		kvmi_reply_value(&env->tool, &ev, CONTINUE, val, size);
		TEST_ASSERT_EQ(kvmi_runner_wait(&env->run[0]), want);
	}
	kvmi_alive(&env->tool);
}

/* Nor is it the guest's: a CR4 of 0 is none in 64-bit mode. */
TEST_F_TIMEOUT(intercept, cr_short_reply, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	uint64_t old = get_cr(env, 4), val = other_cr(4, old);
	struct kvmi_event ev;

	kvmi_control_event(env, 0, KVMI_VCPU_EVENT_CR, true);
	control_cr(env, 4, 1);
	start(env, guest_write_cr, 4, val, 0);
	wait_cr(env, 4, old, val, &ev);
	kvmi_reply_value(&env->tool, &ev, CONTINUE, val, 0);
	TEST_ASSERT_EQ(kvmi_runner_wait(&env->run[0]), FAULT(GP_VECTOR));

	/* All that this one sets is in these. */
	start(env, guest_write_cr, 4, val, 0);
	wait_cr(env, 4, old, val, &ev);
	kvmi_reply_value(&env->tool, &ev, CONTINUE, val, 4);
	TEST_ASSERT_EQ(kvmi_runner_wait(&env->run[0]), val);
	kvmi_alive(&env->tool);
}

/* The VMM wants writes of one MSR for itself. */
static void set_filter(struct kvmi_env *env, bool on)
{
	static uint8_t deny[1];
	struct kvm_msr_filter filter = {
		.flags = KVM_MSR_FILTER_DEFAULT_ALLOW,
		.ranges[0] = {
			.flags = KVM_MSR_FILTER_WRITE,
			.nmsrs = on,
			.base = FILTERED_MSR,
			.bitmap = on ? deny : NULL,
		},
	};

	vm_ioctl(env->vm, KVM_X86_SET_MSR_FILTER, &filter);
}

/* It gets them, with this value. */
static void check_filtered(struct kvmi_env *env, uint64_t data)
{
	struct kvmi_runner *r = &env->run[0];
	struct kvm_run *run = r->vcpu->run;

	kvmi_runner_wait_exit(r);
	TEST_ASSERT_EQ(run->exit_reason, KVM_EXIT_X86_WRMSR);
	TEST_ASSERT_EQ(run->msr.index, FILTERED_MSR);
	TEST_ASSERT_EQ(run->msr.data, data);
	run->msr.error = 0;
	kvmi_runner_go(r);
	kvmi_runner_wait(r);
}

TEST_F_TIMEOUT(intercept, msr_filter, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_event ev;

	vm_enable_cap(env->vm, KVM_CAP_X86_USER_SPACE_MSR,
		      KVM_MSR_EXIT_REASON_FILTER);
	TEST_ASSERT_EQ(run(env, guest_wrmsr, FILTERED_MSR, 0x1000, 0), 0x1000);

	/* The VMM was first. */
	set_filter(env, true);
	TEST_ASSERT_EQ(__control_msr(env, FILTERED_MSR, 1), -KVM_EPERM);
	TEST_ASSERT_EQ(__control_msr(env, FILTERED_MSR, 0), 0);
	kvmi_control_event(env, 0, KVMI_VCPU_EVENT_MSR, true);
	start(env, guest_wrmsr, FILTERED_MSR, 0x2000, 0);
	check_filtered(env, 0x2000);
	set_filter(env, false);

	/* The tool was first: both get what they want. */
	control_msr(env, FILTERED_MSR, 1);
	set_filter(env, true);
	start(env, guest_wrmsr, FILTERED_MSR, 0x2000, 0);
	wait_msr(env, FILTERED_MSR, 0x1000, 0x2000, &ev);
	reply_value(env, &ev, 0x3000);
	check_filtered(env, 0x3000);

	/* The VMM does not want it any more, the tool does. */
	set_filter(env, false);
	start(env, guest_wrmsr, FILTERED_MSR, 0x2000, 0);
	wait_msr(env, FILTERED_MSR, 0x1000, 0x2000, &ev);
	reply_value(env, &ev, 0x4000);
	TEST_ASSERT_EQ(kvmi_runner_wait(&env->run[0]), 0x4000);

	/* The tool goes, the VMM stays. */
	set_filter(env, true);
	kvmi_env_unhook(env);
	start(env, guest_wrmsr, FILTERED_MSR, 0x5000, 0);
	check_filtered(env, 0x5000);

	set_filter(env, false);
	TEST_ASSERT_EQ(run(env, guest_wrmsr, FILTERED_MSR, 0x6000, 0), 0x6000);
}

/* There is a short cut for this one. */
TEST_F_TIMEOUT(intercept, msr_fastpath, KVMI_TEST_TIMEOUT)
{
	const uint32_t msr = APIC_BASE_MSR + (APIC_ICR >> 4);
	struct kvmi_env *env = &self->env;
	/* to a vCPU that there is not */
	const uint64_t icr = (5ull << 32) | APIC_DM_FIXED | 0x40;
	struct kvmi_event ev;

	if (!kvm_cpu_has(X86_FEATURE_X2APIC))
		SKIP(return, "the CPU has no x2APIC");

	kvmi_control_event(env, 0, KVMI_VCPU_EVENT_MSR, true);
	TEST_ASSERT_EQ(run(env, guest_x2apic_icr, 0, icr, 0), 1);
	control_msr(env, msr, 1);
	start(env, guest_x2apic_icr, 0, icr + 1, 0);
	wait_msr(env, msr, icr, icr + 1, &ev);
	reply_value(env, &ev, icr + 2);
	TEST_ASSERT_EQ(kvmi_runner_wait(&env->run[0]), 1);
	TEST_ASSERT_EQ(vcpu_get_msr(env->run[0].vcpu, msr), icr + 2);
}

/*
 * Some writes of these the CPU may be left to carry out: of TPR, EOI, SELF_IPI
 * and ICR.
 */
TEST_F_TIMEOUT(intercept, msr_x2apic, KVMI_TEST_TIMEOUT)
{
	static const struct {
		uint32_t reg;
		bool write_only;
		uint64_t vals[3];
	} regs[] = {
		{ APIC_TASKPRI, false, { 0x10, 0x20, 0x30 } },
		{ APIC_SPIV, false, { 0x1ff, 0x1fe, 0x1fd } },
		{ APIC_LVTT, false, { 0x10040, 0x10041, 0x10042 } },
		{ APIC_TDCR, false, { 0x1, 0x2, 0x3 } },
		/* their vectors are masked, IF is 0 */
		{ APIC_EOI, true, { 0, 0, 0 } },
		{ APIC_SELF_IPI, true, { 0x41, 0x42, 0x43 } },
	};
	struct kvmi_env *env = &self->env;
	struct kvmi_event ev;
	int i, j, when;

	if (!kvm_cpu_has(X86_FEATURE_X2APIC))
		SKIP(return, "the CPU has no x2APIC");

	for (i = 0; i < ARRAY_SIZE(regs); i++) {
		const uint32_t msr = APIC_BASE_MSR + (regs[i].reg >> 4);
		const bool read = !regs[i].write_only;
		const uint64_t *vals = regs[i].vals;

		/* The first time the mode is entered with the MSR selected. */
		for (when = i ? 1 : 0; when < 2; when++) {
			if (when)
				run(env, guest_x2apic, msr, vals[0], read);
			kvmi_control_event(env, 0, KVMI_VCPU_EVENT_MSR, true);
			control_msr(env, msr, 1);
			if (!when) {
				start(env, guest_x2apic, msr, vals[0], read);
				wait_msr(env, msr, 0, vals[0], &ev);
				reply_value(env, &ev, vals[0]);
				TEST_ASSERT_EQ(kvmi_runner_wait(&env->run[0]),
					       vals[0]);
			}
			for (j = 0; j < 3; j++) {
				start(env, guest_x2apic, msr, vals[1], read);
				wait_msr(env, msr, read ? vals[0] : 0, vals[1],
					 &ev);
				reply_value(env, &ev, vals[2]);
				TEST_ASSERT_EQ(kvmi_runner_wait(&env->run[0]),
					       read ? vals[2] : 0);

				start(env, guest_x2apic, msr, vals[0], read);
				wait_msr(env, msr, read ? vals[2] : 0, vals[0],
					 &ev);
				reply_value(env, &ev, vals[0]);
				TEST_ASSERT_EQ(kvmi_runner_wait(&env->run[0]),
					       read ? vals[0] : 0);
			}

			control_msr(env, msr, 0);
			run(env, guest_x2apic, msr, vals[1], read);
			run(env, guest_x2apic, msr, vals[0], read);
			kvmi_control_event(env, 0, KVMI_VCPU_EVENT_MSR, false);
		}
	}
}

/* ---- DESCRIPTOR ---- */

static bool has_descriptor(struct kvmi_env *env)
{
	int err = __kvmi_control_event(env, 0, KVMI_VCPU_EVENT_DESCRIPTOR,
				       true);

	TEST_ASSERT(!err || err == -KVM_EOPNOTSUPP, "DESCRIPTOR: %d", err);

	return !err;
}

static void wait_desc(struct kvmi_env *env, uint8_t desc, uint8_t write,
		      struct kvmi_event *ev)
{
	kvmi_wait_event(&env->tool, KVMI_VCPU_EVENT_DESCRIPTOR, ev);
	TEST_ASSERT_EQ(ev->desc.descriptor, desc);
	TEST_ASSERT_EQ(ev->desc.write, write);
}

TEST_F_TIMEOUT(intercept, descriptor, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_event ev;
	int desc, write;

	for (desc = KVMI_DESC_IDTR; desc <= KVMI_DESC_TR; desc++) {
		for (write = 0; write < 2; write++) {
			uint64_t want = run(env, guest_desc, desc, write, 0);
			/* these read the register first */
			bool reads = write && desc <= KVMI_DESC_GDTR;
			uint64_t result;

			if (!has_descriptor(env))
				SKIP(return, "the CPU cannot intercept them");

			start(env, guest_desc, desc, write, 0);
			if (reads) {
				wait_desc(env, desc, 0, &ev);
				kvmi_reply(&env->tool, &ev, CONTINUE);
			}
			wait_desc(env, desc, write, &ev);
			interrupt(env);
			kvmi_reply(&env->tool, &ev, CONTINUE);
			result = kvmi_runner_wait(&env->run[0]);
			/* QEMU's TCG loads TR with what no CPU does. */
			if (desc == KVMI_DESC_TR && write)
				want = FAULT(GP_VECTOR);
			TEST_ASSERT_EQ(result, want);

			/* again and again, until the tool has enough */
			start(env, guest_desc, desc, write, 0);
			wait_desc(env, desc, reads ? 0 : write, &ev);
			kvmi_reply(&env->tool, &ev, RETRY);
			wait_desc(env, desc, reads ? 0 : write, &ev);
			kvmi_control_event(env, 0, KVMI_VCPU_EVENT_DESCRIPTOR,
					   false);
			kvmi_reply(&env->tool, &ev, RETRY);
			result = kvmi_runner_wait(&env->run[0]);
			if (desc != KVMI_DESC_TR || !write)
				TEST_ASSERT_EQ(result, want);
			kvmi_no_event(&env->tool);
		}
	}

	TEST_ASSERT(has_descriptor(env), "no longer supported");
	start(env, guest_desc, KVMI_DESC_TR, 0, 0);
	wait_desc(env, KVMI_DESC_TR, 0, &ev);
	check_crash(env, &ev);
}

/* With UMIP, KVM may need these exits for itself. */
TEST_F_TIMEOUT(intercept, descriptor_umip, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_event ev;
	uint64_t cr4;
	bool before;

	if (!kvm_cpu_has(X86_FEATURE_UMIP))
		SKIP(return, "the CPU has no UMIP");
	cr4 = run(env, guest_read_cr, 4, 0, 0) | X86_CR4_UMIP;
	TEST_ASSERT_EQ(run(env, guest_write_cr, 4, cr4, 0), cr4);
	before = is_intercepted(env, guest_loop_sgdt, 0);

	if (!has_descriptor(env))
		SKIP(return, "the CPU cannot intercept them");
	start(env, guest_desc, KVMI_DESC_TR, 0, 0);
	wait_desc(env, KVMI_DESC_TR, 0, &ev);
	kvmi_reply(&env->tool, &ev, CONTINUE);
	kvmi_runner_wait(&env->run[0]);
	/* the guest's own change of mind does not concern the tool */
	cr4 &= ~X86_CR4_UMIP;
	TEST_ASSERT_EQ(run(env, guest_write_cr, 4, cr4, 0), cr4);
	start(env, guest_desc, KVMI_DESC_TR, 0, 0);
	wait_desc(env, KVMI_DESC_TR, 0, &ev);
	kvmi_reply(&env->tool, &ev, CONTINUE);
	kvmi_runner_wait(&env->run[0]);

	kvmi_control_event(env, 0, KVMI_VCPU_EVENT_DESCRIPTOR, false);
	TEST_ASSERT(!is_intercepted(env, guest_loop_sgdt, 0),
		    "still intercepted");
	cr4 |= X86_CR4_UMIP;
	TEST_ASSERT_EQ(run(env, guest_write_cr, 4, cr4, 0), cr4);
	TEST_ASSERT_EQ(is_intercepted(env, guest_loop_sgdt, 0), before);
}

/* ---- XSETBV ---- */

static void test_xsetbv(struct kvmi_env *env, kvmi_insn xsetbv)
{
	struct kvmi_event ev;
	int i;

	TEST_ASSERT_EQ(run(env, xsetbv, 0, 1, 0), 1);
	kvmi_control_event(env, 0, KVMI_VCPU_EVENT_XSETBV, true);
	TEST_ASSERT_EQ(run(env, xsetbv, 0, 1, 0), 1);
	/* no such register */
	TEST_ASSERT_EQ(run(env, xsetbv, 7, 1, 0), FAULT(GP_VECTOR));

	for (i = 0; i < 2; i++) {
		uint64_t old = i ? 3 : 1, val = i ? 1 : 3;

		start(env, xsetbv, 0, val, 0);
		kvmi_wait_event(&env->tool, KVMI_VCPU_EVENT_XSETBV, &ev);
		TEST_ASSERT_EQ(ev.xsetbv.xcr, 0);
		TEST_ASSERT_EQ(ev.xsetbv.old_value, old);
		TEST_ASSERT_EQ(ev.xsetbv.new_value, val);
		interrupt(env);
		kvmi_reply(&env->tool, &ev, CONTINUE);
		TEST_ASSERT_EQ(kvmi_runner_wait(&env->run[0]), val);
		kvmi_no_event(&env->tool);
	}

	start(env, xsetbv, 0, 3, 0);
	kvmi_wait_event(&env->tool, KVMI_VCPU_EVENT_XSETBV, &ev);
	check_crash(env, &ev);
}

TEST_F_TIMEOUT(intercept, xsetbv, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;

	if (!kvm_cpu_has(X86_FEATURE_XSAVE))
		SKIP(return, "the CPU has no XSETBV");
	/* KVM always wants to know. */
	if (!is_intercepted(env, guest_loop_xsetbv, 0))
		SKIP(return, "the machine ignores the XSETBV intercept (QEMU's TCG does)");

	test_xsetbv(env, guest_xsetbv);
}

TEST_F_TIMEOUT(intercept, xsetbv_emulated, KVMI_TEST_TIMEOUT)
{
	if (!kvm_cpu_has(X86_FEATURE_XSAVE))
		SKIP(return, "the CPU has no XSETBV");
	if (!is_forced_emulation_enabled)
		SKIP(return, "kvm.force_emulation_prefix is off");

	test_xsetbv(&self->env, guest_xsetbv_fep);
}

/* ---- HYPERCALL ---- */

#define HC	KVM_HC_XEN_HVM_OP
#define HC_OP	KVM_HC_XEN_HVM_OP_GUEST_REQUEST_VM_EVENT

TEST_F_TIMEOUT(intercept, hypercall, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_event ev;

	TEST_ASSERT_EQ(run(env, guest_hypercall, HC, HC_OP, 0), -KVM_ENOSYS);

	kvmi_control_event(env, 0, KVMI_VCPU_EVENT_HYPERCALL, true);
	TEST_ASSERT_EQ(run(env, guest_hypercall, HC, HC_OP, 1), -KVM_ENOSYS);
	TEST_ASSERT_EQ(run(env, guest_hypercall, HC, HC_OP + 1, 0),
		       -KVM_ENOSYS);
	TEST_ASSERT_EQ(run(env, guest_hypercall, HC + 1, HC_OP, 0),
		       -KVM_ENOSYS);

	start(env, guest_hypercall, HC, HC_OP, 0);
	kvmi_wait_event(&env->tool, KVMI_VCPU_EVENT_HYPERCALL, &ev);
	TEST_ASSERT_EQ(ev.common.arch.regs.rdi, HC_OP);
	interrupt(env);
	kvmi_reply(&env->tool, &ev, CONTINUE);
	TEST_ASSERT_EQ(kvmi_runner_wait(&env->run[0]), 0);
	kvmi_no_event(&env->tool);

	start(env, guest_hypercall, HC, HC_OP, 0);
	kvmi_wait_event(&env->tool, KVMI_VCPU_EVENT_HYPERCALL, &ev);
	check_crash(env, &ev);
}

/* ---- replies that are none ---- */

/* The guest does what the event is about, and gets what it wants. */
static void do_event(struct kvmi_env *env, uint16_t event, uint64_t *want)
{
	uint64_t old;

	switch (event) {
	case KVMI_VCPU_EVENT_CR:
		old = get_cr(env, 3);
		control_cr(env, 3, 1);
		*want = other_cr(3, old);
		start(env, guest_write_cr, 3, *want, 0);
		break;
	case KVMI_VCPU_EVENT_MSR:
		old = run(env, guest_wrmsr, MSR_LSTAR, 0x1000, 0);
		control_msr(env, MSR_LSTAR, 1);
		*want = old ^ 0x3000;
		start(env, guest_wrmsr, MSR_LSTAR, *want, 0);
		break;
	case KVMI_VCPU_EVENT_DESCRIPTOR:
		*want = 0;
		start(env, guest_desc, KVMI_DESC_LDTR, 0, 0);
		break;
	case KVMI_VCPU_EVENT_HYPERCALL:
		*want = 0;
		start(env, guest_hypercall, HC, HC_OP, 0);
		break;
	case KVMI_VCPU_EVENT_XSETBV:
		old = run(env, guest_xcr0, 0, 0, 0);
		*want = old ^ 2;
		start(env, is_forced_emulation_enabled ? guest_xsetbv_fep :
							 guest_xsetbv,
		      0, *want, 0);
		break;
	default:
		TEST_FAIL("event %u", event);
	}
}

/* Such a reply ends the session, and the guest goes on without the tool. */
static void check_bad_reply(struct kvmi_env *env, uint16_t event,
			    uint8_t action, size_t size)
{
	struct kvmi_event ev;
	uint64_t want;

	kvmi_control_event(env, 0, event, true);
	do_event(env, event, &want);
	kvmi_wait_event(&env->tool, event, &ev);
	kvmi_reply_value(&env->tool, &ev, action, 0, size);
	TEST_ASSERT_EQ(kvmi_runner_wait(&env->run[0]), want);
	kvmi_wait_closed(&env->tool);

	kvmi_env_unhook(env);
	kvmi_env_hook(env);
}

static void check_bad_replies(struct kvmi_env *env, uint16_t event,
			      size_t data_size, bool has_retry)
{
	if (!has_retry)
		check_bad_reply(env, event, RETRY, data_size);
	check_bad_reply(env, event, CRASH + 1, data_size);
	check_bad_reply(env, event, 0xff, data_size);
	/* more data than the event takes */
	check_bad_reply(env, event, CONTINUE, data_size + 1);
	check_bad_reply(env, event, CONTINUE, data_size + 8);
}

TEST_F_TIMEOUT(intercept, cr_bad_replies, KVMI_TEST_TIMEOUT)
{
	check_bad_replies(&self->env, KVMI_VCPU_EVENT_CR, 8, false);
}

TEST_F_TIMEOUT(intercept, msr_bad_replies, KVMI_TEST_TIMEOUT)
{
	check_bad_replies(&self->env, KVMI_VCPU_EVENT_MSR, 8, false);
}

TEST_F_TIMEOUT(intercept, descriptor_bad_replies, KVMI_TEST_TIMEOUT)
{
	if (!has_descriptor(&self->env))
		SKIP(return, "the CPU cannot intercept them");

	check_bad_replies(&self->env, KVMI_VCPU_EVENT_DESCRIPTOR, 0, true);
}

TEST_F_TIMEOUT(intercept, hypercall_bad_replies, KVMI_TEST_TIMEOUT)
{
	check_bad_replies(&self->env, KVMI_VCPU_EVENT_HYPERCALL, 0, false);
}

TEST_F_TIMEOUT(intercept, xsetbv_bad_replies, KVMI_TEST_TIMEOUT)
{
	if (!kvm_cpu_has(X86_FEATURE_XSAVE))
		SKIP(return, "the CPU has no XSETBV");
	if (!is_forced_emulation_enabled &&
	    !is_intercepted(&self->env, guest_loop_xsetbv, 0))
		SKIP(return, "the machine ignores the XSETBV intercept (QEMU's TCG does)");

	check_bad_replies(&self->env, KVMI_VCPU_EVENT_XSETBV, 0, false);
}

int main(int argc, char *argv[])
{
	TEST_REQUIRE(kvmi_supported());

	return test_harness_run(argc, argv);
}
