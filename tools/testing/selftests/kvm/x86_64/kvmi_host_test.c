// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM introspection: what the host's CPU, or its administrator, does not offer
 * is announced, refused with an error that says so, and not needed.
 *
 * What KVM says is compared with the CPU's own word.
 */
#include <fcntl.h>

#include "test_util.h"
#include "kvm_util.h"
#include "kselftest_harness.h"
#include "kvmi_util.h"

#define MSR_VMX_PROCBASED_CTLS	0x482
#define MSR_VMX_PROCBASED_CTLS2	0x48b

/* what may be 1 is in the upper half */
#define MAY_TRAP_MONITOR	BIT_ULL(32 + 27)
#define MAY_HAVE_CTLS2		BIT_ULL(32 + 31)
#define MAY_EXIT_DESC		BIT_ULL(32 + 2)

FIXTURE(host)
{
	struct kvmi_env env;
	bool can_step;
	bool can_exit_desc;
};

static uint64_t host_msr(uint32_t msr)
{
	int fd = open("/dev/cpu/0/msr", O_RDONLY | O_CLOEXEC);
	uint64_t value;

	TEST_ASSERT(fd >= 0, "/dev/cpu/0/msr: errno %d", errno);
	TEST_ASSERT(pread(fd, &value, sizeof(value), msr) == sizeof(value),
		    "MSR %#x", msr);
	close(fd);

	return value;
}

FIXTURE_SETUP(host)
{
	uint64_t ctls;

	if (!host_cpu_is_amd && access("/dev/cpu/0/msr", R_OK))
		SKIP(return, "the host's MSRs cannot be read (CONFIG_X86_MSR)");

	self->can_step = true;
	self->can_exit_desc = true;
	if (!host_cpu_is_amd) {
		ctls = host_msr(MSR_VMX_PROCBASED_CTLS);
		self->can_step = ctls & MAY_TRAP_MONITOR;
		self->can_exit_desc = (ctls & MAY_HAVE_CTLS2) &&
				      (host_msr(MSR_VMX_PROCBASED_CTLS2) &
				       MAY_EXIT_DESC);
	}
	if (!get_kvm_param_bool("introspection_step"))
		self->can_step = false;

	kvmi_env_create(&self->env, 2);
	kvmi_env_hook(&self->env);
}

FIXTURE_TEARDOWN(host)
{
	kvmi_env_destroy(&self->env);
}

TEST_F_TIMEOUT(host, features, KVMI_TEST_TIMEOUT)
{
	struct kvmi_get_version_reply rpl;
	int i;

	kvmi_cmd(&self->env.tool, KVMI_GET_VERSION, NULL, 0, &rpl, sizeof(rpl));
	TEST_ASSERT_EQ(rpl.features.singlestep, self->can_step);
	TEST_ASSERT_EQ(rpl.features.pf_walk, kvm_is_tdp_enabled());
	TEST_ASSERT_EQ(rpl.features.max_gfn, 1);
	for (i = 0; i < ARRAY_SIZE(rpl.features.padding); i++)
		TEST_ASSERT_EQ(rpl.features.padding[i], 0);
}

/* ---- KVMI_VCPU_CONTROL_SINGLESTEP ---- */

static int control_step(struct kvmi_env *env, uint8_t enable, uint8_t padding)
{
	struct kvmi_vcpu_control_singlestep req = {
		.enable = enable, .padding = { [6] = padding },
	};

	return __kvmi_vcpu_cmd(env, 0, KVMI_VCPU_CONTROL_SINGLESTEP, &req,
			       sizeof(req), NULL, 0);
}

TEST_F_TIMEOUT(host, singlestep, KVMI_TEST_TIMEOUT)
{
	const int err = self->can_step ? 0 : -KVM_EOPNOTSUPP;
	struct kvmi_env *env = &self->env;
	struct kvmi_event ev;
	int i;

	/* What is wrong anywhere is told first. */
	vm_kvmi_allow_event(env->vm, KVMI_VCPU_EVENT_SINGLESTEP, 0);
	TEST_ASSERT_EQ(control_step(env, 0, 0), -KVM_EPERM);
	vm_kvmi_allow_event(env->vm, KVMI_VCPU_EVENT_SINGLESTEP, 1);
	TEST_ASSERT_EQ(control_step(env, 2, 0), -KVM_EINVAL);
	TEST_ASSERT_EQ(control_step(env, 1, 1), -KVM_EINVAL);

	for (i = 0; i < 3; i++)
		TEST_ASSERT_EQ(control_step(env, 0, 0), err);

	if (self->can_step)
		return;

	/* It is refused, and nothing is stepped. */
	TEST_ASSERT_EQ(control_step(env, 1, 0), err);
	kvmi_runner_do(&env->run[0], kvmi_insn_nop, 0, 0);
	kvmi_runner_wait(&env->run[0]);
	TEST_ASSERT(!kvmi_poll_event(&env->tool, &ev, 0), "unwanted event");
}

/* With no step, the emulator carries out what the tool has allowed. */
TEST_F_TIMEOUT(host, continue, KVMI_TEST_TIMEOUT)
{
	struct kvmi_recs recs = { .action = KVMI_EVENT_ACTION_CONTINUE };
	uint64_t *data = kvmi_hva(&self->env, 1, 0);
	struct kvmi_env *env = &self->env;
	uint64_t result;
	int i;

	kvmi_control_event(env, 0, KVMI_VCPU_EVENT_PF, true);
	kvmi_set_page_access(&env->tool, kvmi_gpa(1, 0), 0);

	for (i = 1; i < 10; i++) {
		recs.nr = 0;
		TEST_ASSERT_EQ(kvmi_env_access(env, 0, kvmi_insn_write,
					       kvmi_gva(1, 0), i, kvmi_record,
					       &recs, NULL), 1);
		TEST_ASSERT_EQ(recs.ev[0].pf.access, KVMI_PAGE_ACCESS_W);
		TEST_ASSERT_EQ(*data, i);

		recs.nr = 0;
		TEST_ASSERT_EQ(kvmi_env_access(env, 0, kvmi_insn_xadd,
					       kvmi_gva(1, 0), 100, kvmi_record,
					       &recs, &result), 2);
		TEST_ASSERT_EQ(result, i);
		TEST_ASSERT_EQ(*data, i + 100);
	}

	/* The other vCPU has no events; it makes the access all the same. */
	TEST_ASSERT_EQ(kvmi_env_access(env, 1, kvmi_insn_read, kvmi_gva(1, 0),
				       0, NULL, NULL, &result), 0);
	TEST_ASSERT_EQ(result, *data);
}

/* ---- KVMI_VCPU_EVENT_DESCRIPTOR ---- */

static uint64_t guest_sgdt(uint64_t gva, uint64_t val, uint64_t arg)
{
	return get_gdt().address;
}

TEST_F_TIMEOUT(host, descriptor, KVMI_TEST_TIMEOUT)
{
	const int err = self->can_exit_desc ? 0 : -KVM_EOPNOTSUPP;
	const uint16_t id = KVMI_VCPU_EVENT_DESCRIPTOR;
	struct kvmi_env *env = &self->env;
	struct kvmi_runner *r = &env->run[0];
	struct kvmi_event ev;
	struct kvm_sregs sregs;

	vm_kvmi_allow_event(env->vm, id, 0);
	TEST_ASSERT_EQ(__kvmi_control_event(env, 0, id, true), -KVM_EPERM);
	vm_kvmi_allow_event(env->vm, id, 1);

	/* There is no harm in not wanting it. */
	TEST_ASSERT_EQ(__kvmi_control_event(env, 0, id, false), 0);
	TEST_ASSERT_EQ(__kvmi_control_event(env, 0, id, true), err);

	kvmi_runner_do(r, guest_sgdt, 0, 0);
	if (self->can_exit_desc) {
		kvmi_wait_event(&env->tool, id, &ev);
		kvmi_reply(&env->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	}
	vcpu_sregs_get(env->run[1].vcpu, &sregs);
	TEST_ASSERT_EQ(kvmi_runner_wait(r), sregs.gdt.base);
	TEST_ASSERT(!kvmi_poll_event(&env->tool, &ev, 0), "unwanted event");

	TEST_ASSERT_EQ(__kvmi_control_event(env, 0, id, false), 0);
	kvmi_runner_do(r, guest_sgdt, 0, 0);
	TEST_ASSERT_EQ(kvmi_runner_wait(r), sregs.gdt.base);
}

int main(int argc, char *argv[])
{
	TEST_REQUIRE(kvmi_supported());

	return test_harness_run(argc, argv);
}
