// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM introspection: the tool may do what the VMM allows it, and nothing else.
 */
#include "test_util.h"
#include "kvm_util.h"
#include "kselftest_harness.h"
#include "kvmi_util.h"

/* Always allowed */
static const uint16_t basic_commands[] = {
	KVMI_GET_VERSION, KVMI_VM_CHECK_COMMAND, KVMI_VM_CHECK_EVENT,
};

static const uint16_t vm_commands[] = {
	KVMI_VM_GET_INFO, KVMI_VM_CONTROL_EVENTS, KVMI_VM_READ_PHYSICAL,
	KVMI_VM_WRITE_PHYSICAL, KVMI_VM_PAUSE_VCPU, KVMI_VM_CONTROL_CLEANUP,
	KVMI_VM_SET_PAGE_ACCESS, KVMI_VM_GET_MAX_GFN,
};

static const uint16_t vcpu_commands[] = {
	KVMI_VCPU_GET_INFO, KVMI_VCPU_CONTROL_EVENTS, KVMI_VCPU_GET_REGISTERS,
	KVMI_VCPU_SET_REGISTERS, KVMI_VCPU_GET_CPUID, KVMI_VCPU_GET_XCR,
	KVMI_VCPU_GET_XSAVE, KVMI_VCPU_SET_XSAVE, KVMI_VCPU_GET_MTRR_TYPE,
	KVMI_VCPU_TRANSLATE_GVA, KVMI_VCPU_INJECT_EXCEPTION,
	KVMI_VCPU_CONTROL_CR, KVMI_VCPU_CONTROL_MSR,
	KVMI_VCPU_CONTROL_SINGLESTEP,
};

static const uint16_t events[] = {
	KVMI_VM_EVENT_UNHOOK, KVMI_VCPU_EVENT_PAUSE, KVMI_VCPU_EVENT_HYPERCALL,
	KVMI_VCPU_EVENT_BREAKPOINT, KVMI_VCPU_EVENT_CR, KVMI_VCPU_EVENT_TRAP,
	KVMI_VCPU_EVENT_XSETBV, KVMI_VCPU_EVENT_DESCRIPTOR,
	KVMI_VCPU_EVENT_MSR, KVMI_VCPU_EVENT_PF, KVMI_VCPU_EVENT_SINGLESTEP,
};

FIXTURE(allow)
{
	struct kvmi_env env;
};

/* Hooked, with nothing allowed yet. */
FIXTURE_SETUP(allow)
{
	struct kvmi_env *env = &self->env;
	int tool_fd, kernel_fd;

	kvmi_env_create(env, 1);
	kvmi_socketpair(&tool_fd, &kernel_fd);
	kvmi_tool_init(&env->tool, tool_fd);
	vm_kvmi_hook(env->vm, kernel_fd);
	close(kernel_fd);
}

FIXTURE_TEARDOWN(allow)
{
	kvmi_env_destroy(&self->env);
}

static int check_command(struct kvmi_env *env, uint16_t id)
{
	struct kvmi_vm_check_command req = { .id = id };

	return __kvmi_cmd(&env->tool, KVMI_VM_CHECK_COMMAND, &req, sizeof(req),
			  NULL, 0);
}

static int check_event(struct kvmi_env *env, uint16_t id)
{
	struct kvmi_vm_check_event req = { .id = id };

	return __kvmi_cmd(&env->tool, KVMI_VM_CHECK_EVENT, &req, sizeof(req),
			  NULL, 0);
}

/*
 * A request that fails for no reason but a missing permission, or else in a
 * way that shows that it was looked at, which is a success as well.
 */
static int try_command(struct kvmi_env *env, uint16_t id)
{
	struct kvmi_vm_get_info_reply info;
	char byte, rpl[4096];
	int err;

	switch (id) {
	case KVMI_VM_GET_INFO:
		return __kvmi_cmd(&env->tool, id, NULL, 0, &info, sizeof(info));
	case KVMI_VM_CONTROL_EVENTS: {
		struct kvmi_vm_control_events req = {
			.event_id = KVMI_VM_EVENT_UNHOOK, .enable = 0,
		};

		return __kvmi_cmd(&env->tool, id, &req, sizeof(req), NULL, 0);
	}
	case KVMI_VM_READ_PHYSICAL:
		return __kvmi_read_physical(&env->tool, KVMI_TEST_GPA, 1, &byte);
	case KVMI_VM_WRITE_PHYSICAL:
		return __kvmi_write_physical(&env->tool, KVMI_TEST_GPA, 1, "");
	case KVMI_VM_PAUSE_VCPU:
		return __kvmi_pause_vcpu(&env->tool, 0, false);
	case KVMI_VM_SET_PAGE_ACCESS:
		return __kvmi_set_page_access(&env->tool, KVMI_TEST_GPA,
					      KVMI_ACCESS_ALL);
	case KVMI_VM_CONTROL_CLEANUP:
		return __kvmi_cmd(&env->tool, id, "\1", 1, NULL, 0);
	case KVMI_VM_GET_MAX_GFN:
		return __kvmi_cmd(&env->tool, id, NULL, 0, rpl, 8);
	case KVMI_VCPU_GET_INFO:
	case KVMI_VCPU_GET_XCR:
	case KVMI_VCPU_GET_MTRR_TYPE:
	case KVMI_VCPU_TRANSLATE_GVA:
		return __kvmi_vcpu_cmd(env, 0, id, NULL, 0, rpl, 8);
	case KVMI_VCPU_GET_CPUID:
		return __kvmi_vcpu_cmd(env, 0, id, NULL, 0, rpl, 16);
	case KVMI_VCPU_GET_XSAVE:
		return __kvmi_vcpu_cmd(env, 0, id, NULL, 0, rpl, 4096);
	case KVMI_VCPU_INJECT_EXCEPTION:
		/* an NMI, which is none */
		err = __kvmi_vcpu_cmd(env, 0, id, "\2", 1, NULL, 0);
		return err == -KVM_EINVAL ? 0 : err;
	case KVMI_VCPU_CONTROL_CR:
	case KVMI_VCPU_CONTROL_MSR:
		return __kvmi_vcpu_cmd(env, 0, id, NULL, 0, NULL, 0);
	case KVMI_VCPU_CONTROL_SINGLESTEP:
		/* neither on nor off */
		err = __kvmi_vcpu_cmd(env, 0, id, "\2", 1, NULL, 0);
		return err == -KVM_EINVAL ? 0 : err;
	case KVMI_VCPU_SET_REGISTERS:
	case KVMI_VCPU_SET_XSAVE:
		err = __kvmi_vcpu_cmd(env, 0, id, NULL, 0, NULL, 0);
		return err == -KVM_EINVAL ? 0 : err;
	case KVMI_VCPU_CONTROL_EVENTS:
		return __kvmi_control_event(env, 0, KVMI_VCPU_EVENT_PF, false);
	case KVMI_VCPU_GET_REGISTERS: {
		struct kvmi_vcpu_get_registers req = { };
		struct kvmi_vcpu_get_registers_reply rpl;

		return __kvmi_vcpu_cmd(env, 0, id, &req, sizeof(req), &rpl,
				       sizeof(rpl));
	}
	default:
		TEST_FAIL("command %u", id);
	}
}

static void expect_command(struct kvmi_env *env, uint16_t id, bool allowed)
{
	int want = allowed ? 0 : -KVM_EPERM, err;

	err = check_command(env, id);
	TEST_ASSERT(err == want, "CHECK_COMMAND(%u): %d, want %d", id, err,
		    want);

	/* The pause would have to be answered. */
	if (allowed && id == KVMI_VM_PAUSE_VCPU)
		return;

	err = try_command(env, id);
	TEST_ASSERT(err == want, "command %u: %d, want %d", id, err, want);
}

static void expect_all_commands(struct kvmi_env *env, bool allowed)
{
	int i;

	kvmi_alive(&env->tool);
	for (i = 0; i < ARRAY_SIZE(basic_commands); i++)
		TEST_ASSERT_EQ(check_command(env, basic_commands[i]), 0);
	for (i = 0; i < ARRAY_SIZE(vm_commands); i++)
		expect_command(env, vm_commands[i], allowed);
	for (i = 0; i < ARRAY_SIZE(vcpu_commands); i++)
		expect_command(env, vcpu_commands[i], allowed);
}

static void expect_all_events(struct kvmi_env *env, bool allowed)
{
	int i, err, want = allowed ? 0 : -KVM_EPERM;

	for (i = 0; i < ARRAY_SIZE(events); i++) {
		err = check_event(env, events[i]);
		TEST_ASSERT(err == want, "CHECK_EVENT(%u): %d, want %d",
			    events[i], err, want);
	}
}

TEST_F_TIMEOUT(allow, nothing_by_default, KVMI_TEST_TIMEOUT)
{
	expect_all_commands(&self->env, false);
	expect_all_events(&self->env, false);
}

TEST_F_TIMEOUT(allow, all_commands, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	int i;

	/* Some commands need the permission for an event as well. */
	vm_kvmi_allow_event(env->vm, -1, 1);

	for (i = 0; i < 2; i++) {
		vm_kvmi_allow_command(env->vm, -1, 1);
		expect_all_commands(env, true);
		vm_kvmi_allow_command(env->vm, -1, 0);
		expect_all_commands(env, false);
		expect_all_events(env, true);
	}
}

TEST_F_TIMEOUT(allow, all_events, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	int i;

	for (i = 0; i < 2; i++) {
		vm_kvmi_allow_event(env->vm, -1, 1);
		expect_all_events(env, true);
		expect_all_commands(env, false);
		vm_kvmi_allow_event(env->vm, -1, 0);
		expect_all_events(env, false);
	}
}

static void one_by_one(struct kvmi_env *env, const uint16_t *ids, int nr)
{
	int i, j;

	for (i = 0; i < nr; i++) {
		vm_kvmi_allow_command(env->vm, ids[i], 1);
		vm_kvmi_allow_command(env->vm, ids[i], 1);
		for (j = 0; j < nr; j++)
			expect_command(env, ids[j], i == j);
		vm_kvmi_allow_command(env->vm, ids[i], 0);
		vm_kvmi_allow_command(env->vm, ids[i], 0);
		expect_command(env, ids[i], false);
	}
}

TEST_F_TIMEOUT(allow, command_by_command, KVMI_TEST_TIMEOUT)
{
	vm_kvmi_allow_event(self->env.vm, -1, 1);
	one_by_one(&self->env, vm_commands, ARRAY_SIZE(vm_commands));
	one_by_one(&self->env, vcpu_commands, ARRAY_SIZE(vcpu_commands));
}

TEST_F_TIMEOUT(allow, event_by_event, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	int i, j;

	for (i = 0; i < ARRAY_SIZE(events); i++) {
		vm_kvmi_allow_event(env->vm, events[i], 1);
		for (j = 0; j < ARRAY_SIZE(events); j++)
			TEST_ASSERT_EQ(check_event(env, events[j]),
				       i == j ? 0 : -KVM_EPERM);
		vm_kvmi_allow_event(env->vm, events[i], 0);
		TEST_ASSERT_EQ(check_event(env, events[i]), -KVM_EPERM);
	}
}

TEST_F_TIMEOUT(allow, always_allowed, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	int i;

	for (i = 0; i < ARRAY_SIZE(basic_commands); i++) {
		TEST_ASSERT_ERRNO(__vm_kvmi_allow_command(env->vm,
							  basic_commands[i], 0),
				  EPERM);
		TEST_ASSERT_EQ(__vm_kvmi_allow_command(env->vm,
						       basic_commands[i], 1), 0);
	}
	vm_kvmi_allow_command(env->vm, -1, 0);
	expect_all_commands(env, false);
}

TEST_F_TIMEOUT(allow, bad_ids, KVMI_TEST_TIMEOUT)
{
	static const int32_t ids[] = {
		-2, INT32_MIN, INT32_MAX, 0x10000, 0x10002, 200,
		511, 513, 514, 0x10000 + KVMI_VM_GET_MAX_GFN,
	};
	struct kvmi_env *env = &self->env;
	int i;

	for (i = 0; i < ARRAY_SIZE(ids); i++) {
		TEST_ASSERT_ERRNO(__vm_kvmi_allow_command(env->vm, ids[i], 1),
				  EINVAL);
		TEST_ASSERT_ERRNO(__vm_kvmi_allow_command(env->vm, ids[i], 0),
				  EINVAL);
		TEST_ASSERT_ERRNO(__vm_kvmi_allow_event(env->vm, ids[i], 1),
				  EINVAL);
		TEST_ASSERT_ERRNO(__vm_kvmi_allow_event(env->vm, ids[i], 0),
				  EINVAL);
	}
	/* between UNHOOK, 0, and what may once follow it */
	TEST_ASSERT_ERRNO(__vm_kvmi_allow_event(env->vm, 2, 1), EINVAL);

	expect_all_events(env, false);
}

TEST_F_TIMEOUT(allow, bad_allow, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	static const uint32_t values[] = { 2, 0x100, 0xffffffff };
	int i;

	for (i = 0; i < ARRAY_SIZE(values); i++) {
		TEST_ASSERT_ERRNO(__vm_kvmi_allow_command(env->vm, -1,
							  values[i]), EINVAL);
		TEST_ASSERT_ERRNO(__vm_kvmi_allow_command(env->vm,
							  KVMI_GET_VERSION,
							  values[i]), EINVAL);
		TEST_ASSERT_ERRNO(__vm_kvmi_allow_command(env->vm,
							  KVMI_VM_GET_INFO,
							  values[i]), EINVAL);
		TEST_ASSERT_ERRNO(__vm_kvmi_allow_event(env->vm, -1,
							values[i]), EINVAL);
		TEST_ASSERT_ERRNO(__vm_kvmi_allow_event(env->vm,
							KVMI_VCPU_EVENT_PF,
							values[i]), EINVAL);
	}
	expect_all_commands(env, false);
	expect_all_events(env, false);
}

/* The arguments are checked first, the session after them. */
TEST_F_TIMEOUT(allow, not_hooked, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;

	kvmi_env_unhook(env);

	TEST_ASSERT_ERRNO(__vm_kvmi_allow_command(env->vm, -1, 1), EFAULT);
	TEST_ASSERT_ERRNO(__vm_kvmi_allow_command(env->vm, KVMI_VM_GET_INFO, 1),
			  EFAULT);
	TEST_ASSERT_ERRNO(__vm_kvmi_allow_event(env->vm, -1, 1), EFAULT);
	TEST_ASSERT_ERRNO(__vm_kvmi_allow_event(env->vm, KVMI_VCPU_EVENT_PF, 1),
			  EFAULT);
	TEST_ASSERT_ERRNO(__vm_kvmi_allow_command(env->vm, -2, 1), EINVAL);
	TEST_ASSERT_ERRNO(__vm_kvmi_allow_command(env->vm, -1, 2), EINVAL);
	TEST_ASSERT_ERRNO(__vm_kvmi_allow_command(env->vm, KVMI_GET_VERSION, 0),
			  EPERM);
	TEST_ASSERT_ERRNO(__vm_kvmi_allow_event(env->vm, -2, 1), EINVAL);
	TEST_ASSERT_ERRNO(__vm_kvmi_allow_event(env->vm, -1, 2), EINVAL);
}

/* Permissions belong to the session. */
TEST_F_TIMEOUT(allow, new_session, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	int tool_fd, kernel_fd;

	vm_kvmi_allow_command(env->vm, -1, 1);
	vm_kvmi_allow_event(env->vm, -1, 1);
	kvmi_env_unhook(env);

	kvmi_socketpair(&tool_fd, &kernel_fd);
	kvmi_tool_init(&env->tool, tool_fd);
	vm_kvmi_hook(env->vm, kernel_fd);
	close(kernel_fd);
	expect_all_commands(env, false);
	expect_all_events(env, false);
}

TEST_F_TIMEOUT(allow, command_needs_event, KVMI_TEST_TIMEOUT)
{
	struct kvmi_vm_control_events req = {
		.event_id = KVMI_VM_EVENT_UNHOOK, .enable = 1,
	};
	struct kvmi_vcpu_inject_exception exception = { .nr = UD_VECTOR };
	struct kvmi_vcpu_control_singlestep step = { .enable = 1 };
	struct kvmi_env *env = &self->env;
	int i, enable, err;

	vm_kvmi_allow_command(env->vm, -1, 1);

	TEST_ASSERT_EQ(__kvmi_pause_vcpu(&env->tool, 0, false), -KVM_EPERM);
	TEST_ASSERT_EQ(__kvmi_pause_vcpu(&env->tool, 0, true), -KVM_EPERM);
	/* whether it is to be enabled or disabled */
	for (i = 0; i < ARRAY_SIZE(events); i++) {
		if (events[i] == KVMI_VM_EVENT_UNHOOK)
			continue;
		for (enable = 0; enable < 2; enable++) {
			err = __kvmi_control_event(env, 0, events[i], enable);
			TEST_ASSERT(err == -KVM_EPERM, "event %u: %d",
				    events[i], err);
		}
	}
	TEST_ASSERT_EQ(__kvmi_vcpu_cmd(env, 0, KVMI_VCPU_INJECT_EXCEPTION,
				       &exception, sizeof(exception), NULL, 0),
		       -KVM_EPERM);
	TEST_ASSERT_EQ(__kvmi_vcpu_cmd(env, 0, KVMI_VCPU_CONTROL_SINGLESTEP,
				       &step, sizeof(step), NULL, 0),
		       -KVM_EPERM);
	TEST_ASSERT_EQ(__kvmi_cmd(&env->tool, KVMI_VM_CONTROL_EVENTS, &req,
				  sizeof(req), NULL, 0), -KVM_EPERM);

	/* No pause is pending from the refused commands. */
	kvmi_runner_do(&env->run[0], kvmi_insn_nop, 0, 0);
	kvmi_runner_wait(&env->run[0]);
	kvmi_no_event(&env->tool);
}

/* Disallowing an event that the tool has enabled disables it, for good. */
TEST_F_TIMEOUT(allow, enabled_event_disallowed, KVMI_TEST_TIMEOUT)
{
	struct kvmi_vm_control_events req = {
		.event_id = KVMI_VM_EVENT_UNHOOK, .enable = 1,
	};
	struct kvmi_recs recs = { .action = KVMI_EVENT_ACTION_CONTINUE };
	struct kvmi_env *env = &self->env;
	unsigned int nr;

	vm_kvmi_allow_command(env->vm, -1, 1);
	vm_kvmi_allow_event(env->vm, -1, 1);
	kvmi_cmd(&env->tool, KVMI_VM_CONTROL_EVENTS, &req, sizeof(req), NULL, 0);
	kvmi_control_event(env, 0, KVMI_VCPU_EVENT_PF, true);
	kvmi_set_page_access(&env->tool, KVMI_TEST_GPA, KVMI_PAGE_ACCESS_R);

	nr = kvmi_env_access(env, 0, kvmi_insn_write, KVMI_TEST_GVA, 1,
			     kvmi_record, &recs, NULL);
	TEST_ASSERT_EQ(nr, 1);

	vm_kvmi_allow_event(env->vm, KVMI_VCPU_EVENT_PF, 0);
	vm_kvmi_allow_event(env->vm, KVMI_VM_EVENT_UNHOOK, 0);
	nr = kvmi_env_access(env, 0, kvmi_insn_write, KVMI_TEST_GVA, 2,
			     kvmi_record, &recs, NULL);
	TEST_ASSERT_EQ(nr, 0);
	TEST_ASSERT_ERRNO(__vm_kvmi_preunhook(env->vm), ENOENT);

	/* Allowed again is not enabled again. */
	vm_kvmi_allow_event(env->vm, -1, 1);
	nr = kvmi_env_access(env, 0, kvmi_insn_write, KVMI_TEST_GVA, 3,
			     kvmi_record, &recs, NULL);
	TEST_ASSERT_EQ(nr, 0);
	TEST_ASSERT_ERRNO(__vm_kvmi_preunhook(env->vm), ENOENT);

	kvmi_control_event(env, 0, KVMI_VCPU_EVENT_PF, true);
	nr = kvmi_env_access(env, 0, kvmi_insn_write, KVMI_TEST_GVA, 4,
			     kvmi_record, &recs, NULL);
	TEST_ASSERT_EQ(nr, 1);
	TEST_ASSERT_EQ(*(uint64_t *)kvmi_hva(env, 0, 0), 4);
	kvmi_no_event(&env->tool);
}

int main(int argc, char *argv[])
{
	TEST_REQUIRE(kvmi_supported());

	return test_harness_run(argc, argv);
}
