// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM introspection: framing of the messages, and the commands with which a
 * tool finds out what it is connected to.
 */
#include <sys/socket.h>

#include "test_util.h"
#include "kvm_util.h"
#include "kselftest_harness.h"
#include "kvmi_util.h"

#define NO_SUCH_ID	0xffff

FIXTURE(version)
{
	struct kvmi_env env;
};

FIXTURE_SETUP(version)
{
	kvmi_env_create(&self->env, 2);
	kvmi_env_hook(&self->env);
}

FIXTURE_TEARDOWN(version)
{
	kvmi_env_destroy(&self->env);
}

TEST_F_TIMEOUT(version, get_version, KVMI_TEST_TIMEOUT)
{
	struct kvmi_get_version_reply rpl;

	kvmi_cmd(&self->env.tool, KVMI_GET_VERSION, NULL, 0, &rpl, sizeof(rpl));
	TEST_ASSERT_EQ(rpl.version, KVMI_VERSION);
	TEST_ASSERT_EQ(rpl.version, kvm_check_cap(KVM_CAP_INTROSPECTION));
	TEST_ASSERT_EQ(rpl.max_msg_size, 8184);
	TEST_ASSERT(rpl.features.singlestep <= 1, "features.singlestep %u",
		    rpl.features.singlestep);
	TEST_ASSERT_EQ(rpl.features.max_gfn, 1);
	TEST_ASSERT_EQ(rpl.features.pf_walk, kvm_is_tdp_enabled());
}

TEST_F_TIMEOUT(version, get_info, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_vm_get_info_reply rpl;
	int i;

	for (i = 2; i <= 3; i++) {
		memset(&rpl, 0xff, sizeof(rpl));
		kvmi_cmd(&env->tool, KVMI_VM_GET_INFO, NULL, 0, &rpl,
			 sizeof(rpl));
		TEST_ASSERT_EQ(rpl.vcpu_count, i);
		TEST_ASSERT(!rpl.padding[0] && !rpl.padding[1] &&
			    !rpl.padding[2], "padding");
		kvmi_env_add_vcpu(env, i);
	}
}

/* ---- CHECK_COMMAND and CHECK_EVENT ---- */

static int check(struct kvmi_tool *tool, uint16_t cmd, uint16_t id,
		 uint16_t padding1, uint32_t padding2)
{
	struct kvmi_vm_check_command req = {
		.id = id, .padding1 = padding1, .padding2 = padding2,
	};

	return __kvmi_cmd(tool, cmd, &req, sizeof(req), NULL, 0);
}

TEST_F_TIMEOUT(version, check_command, KVMI_TEST_TIMEOUT)
{
	static const uint16_t known[] = {
		KVMI_GET_VERSION, KVMI_VM_CHECK_COMMAND, KVMI_VM_CHECK_EVENT,
		KVMI_VM_GET_INFO, KVMI_VM_CONTROL_EVENTS,
		KVMI_VM_READ_PHYSICAL, KVMI_VM_WRITE_PHYSICAL,
		KVMI_VM_PAUSE_VCPU, KVMI_VM_CONTROL_CLEANUP,
		KVMI_VM_SET_PAGE_ACCESS, KVMI_VM_GET_MAX_GFN,
		KVMI_VCPU_GET_INFO, KVMI_VCPU_CONTROL_EVENTS,
		KVMI_VCPU_GET_REGISTERS, KVMI_VCPU_SET_REGISTERS,
		KVMI_VCPU_GET_CPUID, KVMI_VCPU_INJECT_EXCEPTION,
		KVMI_VCPU_GET_XCR, KVMI_VCPU_GET_XSAVE,
		KVMI_VCPU_SET_XSAVE, KVMI_VCPU_GET_MTRR_TYPE,
		KVMI_VCPU_TRANSLATE_GVA, KVMI_VCPU_CONTROL_SINGLESTEP,
	};
	/* The two event messages are no commands. */
	static const uint16_t unknown[] = {
		KVMI_VM_EVENT, KVMI_VCPU_EVENT, 22, 31, 64, 510, 511, 513, 514,
		0x7ffe, NO_SUCH_ID,
	};
	struct kvmi_tool *tool = &self->env.tool;
	int i;

	for (i = 0; i < ARRAY_SIZE(known); i++)
		TEST_ASSERT(!check(tool, KVMI_VM_CHECK_COMMAND, known[i], 0, 0),
			    "command %u", known[i]);
	for (i = 0; i < ARRAY_SIZE(unknown); i++)
		TEST_ASSERT(check(tool, KVMI_VM_CHECK_COMMAND, unknown[i], 0,
				  0) == -KVM_ENOENT, "command %u", unknown[i]);
}

TEST_F_TIMEOUT(version, check_event, KVMI_TEST_TIMEOUT)
{
	static const uint16_t known[] = {
		KVMI_VM_EVENT_UNHOOK, KVMI_VCPU_EVENT_PAUSE,
		KVMI_VCPU_EVENT_TRAP, KVMI_VCPU_EVENT_PF,
		KVMI_VCPU_EVENT_SINGLESTEP,
	};
	static const uint16_t unknown[] = {
		2, 4, 21, 63, 0x7ffe, NO_SUCH_ID,
	};
	struct kvmi_tool *tool = &self->env.tool;
	int i;

	for (i = 0; i < ARRAY_SIZE(known); i++)
		TEST_ASSERT(!check(tool, KVMI_VM_CHECK_EVENT, known[i], 0, 0),
			    "event %u", known[i]);
	for (i = 0; i < ARRAY_SIZE(unknown); i++)
		TEST_ASSERT(check(tool, KVMI_VM_CHECK_EVENT, unknown[i], 0,
				  0) == -KVM_ENOENT, "event %u", unknown[i]);
}

TEST_F_TIMEOUT(version, check_padding, KVMI_TEST_TIMEOUT)
{
	static const uint16_t cmds[] = {
		KVMI_VM_CHECK_COMMAND, KVMI_VM_CHECK_EVENT,
	};
	struct kvmi_tool *tool = &self->env.tool;
	int i;

	for (i = 0; i < ARRAY_SIZE(cmds); i++) {
		/* an id that both know */
		const uint16_t id = KVMI_VCPU_EVENT_PF;

		TEST_ASSERT_EQ(check(tool, cmds[i], id, 1, 0), -KVM_EINVAL);
		TEST_ASSERT_EQ(check(tool, cmds[i], id, 0x8000, 0),
			       -KVM_EINVAL);
		TEST_ASSERT_EQ(check(tool, cmds[i], id, 0, 1), -KVM_EINVAL);
		TEST_ASSERT_EQ(check(tool, cmds[i], id, 0, 0x80000000),
			       -KVM_EINVAL);
		TEST_ASSERT_EQ(check(tool, cmds[i], NO_SUCH_ID, 1, 0),
			       -KVM_EINVAL);
	}
	kvmi_alive(tool);
}

/* ---- CONTROL_EVENTS ---- */

static int control(struct kvmi_tool *tool, struct kvmi_vm_control_events req)
{
	return __kvmi_cmd(tool, KVMI_VM_CONTROL_EVENTS, &req, sizeof(req),
			  NULL, 0);
}

TEST_F_TIMEOUT(version, vm_control_events, KVMI_TEST_TIMEOUT)
{
	struct kvmi_tool *tool = &self->env.tool;
	int i;

#define CONTROL(...)	control(tool, (struct kvmi_vm_control_events){ __VA_ARGS__ })
	for (i = 0; i < 2; i++) {
		TEST_ASSERT_EQ(CONTROL(.enable = 1), 0);
		TEST_ASSERT_EQ(CONTROL(.enable = 1), 0);
		TEST_ASSERT_EQ(CONTROL(.enable = 0), 0);
	}
	TEST_ASSERT_EQ(CONTROL(.enable = 2), -KVM_EINVAL);
	TEST_ASSERT_EQ(CONTROL(.enable = 0xff), -KVM_EINVAL);
	TEST_ASSERT_EQ(CONTROL(.padding1 = 1), -KVM_EINVAL);
	TEST_ASSERT_EQ(CONTROL(.padding2 = 1), -KVM_EINVAL);
	/* unknown, or of a vCPU */
	TEST_ASSERT_EQ(CONTROL(.event_id = 2), -KVM_EINVAL);
	TEST_ASSERT_EQ(CONTROL(.event_id = NO_SUCH_ID), -KVM_EINVAL);
	TEST_ASSERT_EQ(CONTROL(.event_id = KVMI_VCPU_EVENT_PF), -KVM_EINVAL);
	TEST_ASSERT_EQ(CONTROL(.event_id = KVMI_VCPU_EVENT_PAUSE), -KVM_EINVAL);

	vm_kvmi_allow_event(self->env.vm, KVMI_VM_EVENT_UNHOOK, 0);
	TEST_ASSERT_EQ(CONTROL(.enable = 1), -KVM_EPERM);
	/* A refused request has changed nothing. */
	TEST_ASSERT_ERRNO(__vm_kvmi_preunhook(self->env.vm), ENOENT);
#undef CONTROL
}

/* ---- framing ---- */

TEST_F_TIMEOUT(version, unknown_ids, KVMI_TEST_TIMEOUT)
{
	/* one between the commands, beyond both kinds, of days gone by */
	static const uint16_t ids[] = {
		22, 24, 31, 33, 100, 101, 510, 511, 513, 514, 0x4000, 0x4001,
		NO_SUCH_ID - 1, NO_SUCH_ID,
	};
	struct kvmi_tool *tool = &self->env.tool;
	uint8_t data[64] = { };
	int i;

	for (i = 0; i < ARRAY_SIZE(ids); i++) {
		int err;

		err = __kvmi_cmd(tool, ids[i], NULL, 0, NULL, 0);
		TEST_ASSERT(err == -KVM_ENOSYS, "message %u: %d", ids[i], err);
		err = __kvmi_cmd(tool, ids[i], data, sizeof(data), NULL, 0);
		TEST_ASSERT(err == -KVM_ENOSYS, "message %u: %d", ids[i], err);
	}
	/* Permissions have no say in it. */
	vm_kvmi_allow_command(self->env.vm, -1, 0);
	TEST_ASSERT_EQ(__kvmi_cmd(tool, NO_SUCH_ID, NULL, 0, NULL, 0),
		       -KVM_ENOSYS);
	kvmi_alive(tool);
}

/* What a short request leaves out is taken for 0. */
TEST_F_TIMEOUT(version, short_requests, KVMI_TEST_TIMEOUT)
{
	const uint16_t id = KVMI_VCPU_EVENT_PF;
	struct kvmi_tool *tool = &self->env.tool;
	const uint8_t page_access[8] = { };

	/* UNHOOK */
	TEST_ASSERT_EQ(__kvmi_cmd(tool, KVMI_VM_CHECK_EVENT, NULL, 0, NULL, 0),
		       0);
	/* the event message */
	TEST_ASSERT_EQ(__kvmi_cmd(tool, KVMI_VM_CHECK_COMMAND, NULL, 0, NULL,
				  0), -KVM_ENOENT);
	TEST_ASSERT_EQ(__kvmi_cmd(tool, KVMI_VM_CHECK_EVENT, &id, 2, NULL, 0),
		       0);
	/* PF's low byte only; it happens to be all of it */
	TEST_ASSERT_EQ(__kvmi_cmd(tool, KVMI_VM_CHECK_EVENT, &id, 1, NULL, 0),
		       0);
	/* disables UNHOOK */
	TEST_ASSERT_EQ(__kvmi_cmd(tool, KVMI_VM_CONTROL_EVENTS, NULL, 0, NULL,
				  0), 0);
	/* no bytes of page 0 */
	TEST_ASSERT_EQ(__kvmi_cmd(tool, KVMI_VM_READ_PHYSICAL, NULL, 0, NULL,
				  0), -KVM_EINVAL);
	TEST_ASSERT_EQ(__kvmi_cmd(tool, KVMI_VM_WRITE_PHYSICAL, NULL, 0, NULL,
				  0), -KVM_EINVAL);
	/* no entries; the doubtful case of not even a count must not kill */
	TEST_ASSERT_EQ(__kvmi_cmd(tool, KVMI_VM_SET_PAGE_ACCESS, page_access, 8,
				  NULL, 0), 0);
	__kvmi_cmd(tool, KVMI_VM_SET_PAGE_ACCESS, NULL, 0, NULL, 0);
	kvmi_alive(tool);

	/* vCPU 0, no wait */
	TEST_ASSERT_EQ(__kvmi_cmd(tool, KVMI_VM_PAUSE_VCPU, NULL, 0, NULL, 0),
		       0);
}

/* The memory behind a short request must not be that of an earlier one. */
TEST_F_TIMEOUT(version, no_stale_data, KVMI_TEST_TIMEOUT)
{
	struct kvmi_tool *tool = &self->env.tool;
	uint8_t junk[256];
	int i;

	memset(junk, 0xff, sizeof(junk));
	for (i = 0; i < 20; i++) {
		TEST_ASSERT_EQ(__kvmi_cmd(tool, NO_SUCH_ID, junk, sizeof(junk),
					  NULL, 0), -KVM_ENOSYS);
		TEST_ASSERT_EQ(__kvmi_cmd(tool, KVMI_VM_CHECK_EVENT, NULL, 0,
					  NULL, 0), 0);
		TEST_ASSERT_EQ(__kvmi_cmd(tool, KVMI_VM_CONTROL_EVENTS, NULL, 0,
					  NULL, 0), 0);
	}
}

/* More than a command needs is ignored. */
TEST_F_TIMEOUT(version, long_requests, KVMI_TEST_TIMEOUT)
{
	struct kvmi_tool *tool = &self->env.tool;
	struct kvmi_vm_get_info_reply info;
	struct kvmi_get_version_reply ver;
	uint8_t data[KVMI_MAX_MSG_SIZE];
	uint8_t page[16];

	memset(data, 0xff, sizeof(data));
	kvmi_cmd(tool, KVMI_GET_VERSION, data, 1, &ver, sizeof(ver));
	kvmi_cmd(tool, KVMI_GET_VERSION, data, 100, &ver, sizeof(ver));
	kvmi_cmd(tool, KVMI_GET_VERSION, data, sizeof(data), &ver, sizeof(ver));
	TEST_ASSERT_EQ(ver.version, KVMI_VERSION);
	kvmi_cmd(tool, KVMI_VM_GET_INFO, data, sizeof(data), &info,
		 sizeof(info));
	TEST_ASSERT_EQ(info.vcpu_count, 2);

	*(struct kvmi_vm_check_event *)data =
		(struct kvmi_vm_check_event){ .id = KVMI_VCPU_EVENT_PF };
	TEST_ASSERT_EQ(__kvmi_cmd(tool, KVMI_VM_CHECK_EVENT, data, sizeof(data),
				  NULL, 0), 0);

	memset(kvmi_hva(&self->env, 0, 0), 0x77, sizeof(page));
	*(struct kvmi_vm_read_physical *)data =
		(struct kvmi_vm_read_physical){ .gpa = KVMI_TEST_GPA,
						.size = sizeof(page) };
	kvmi_cmd(tool, KVMI_VM_READ_PHYSICAL, data, 1000, page, sizeof(page));
	TEST_ASSERT_EQ(page[15], 0x77);
}

/* A header that cannot be true ends the connection. */
TEST_F_TIMEOUT(version, oversize, KVMI_TEST_TIMEOUT)
{
	struct kvmi_msg_hdr hdr = {
		.id = KVMI_GET_VERSION, .size = KVMI_MAX_MSG_SIZE + 1,
	};

	kvmi_write(&self->env.tool, &hdr, sizeof(hdr));
	kvmi_wait_closed(&self->env.tool);
	vm_kvmi_unhook(self->env.vm);
}

TEST_F_TIMEOUT(version, oversize_vcpu_message, KVMI_TEST_TIMEOUT)
{
	struct kvmi_msg_hdr hdr = {
		.id = KVMI_VCPU_GET_REGISTERS, .size = 0xffff,
	};

	kvmi_write(&self->env.tool, &hdr, sizeof(hdr));
	kvmi_wait_closed(&self->env.tool);
}

TEST_F_TIMEOUT(version, sequence_numbers, KVMI_TEST_TIMEOUT)
{
	static const uint32_t seqs[] = {
		0, 1, 0xffffffff, 0x80000000, 7, 7, 0x12345678,
	};
	struct kvmi_tool *tool = &self->env.tool;
	struct kvmi_get_version_reply ver;
	int i;

	/* They are the tool's, and come back as they are. */
	for (i = 0; i < ARRAY_SIZE(seqs); i++) {
		tool->seq = seqs[i] - 1;
		kvmi_cmd(tool, KVMI_GET_VERSION, NULL, 0, &ver, sizeof(ver));
		TEST_ASSERT_EQ(tool->seq, seqs[i]);
	}
}

/* Many messages in one write, answered in their order. */
TEST_F_TIMEOUT(version, batch, KVMI_TEST_TIMEOUT)
{
	struct kvmi_tool *tool = &self->env.tool;
	struct {
		struct kvmi_msg_hdr ver;
		struct kvmi_msg_hdr check;
		struct kvmi_vm_check_event event;
		struct kvmi_msg_hdr bad;
		uint8_t data[24];
		struct kvmi_msg_hdr info;
	} batch[50] = { };
	struct kvmi_vm_get_info_reply info;
	struct kvmi_get_version_reply ver;
	int i;

	for (i = 0; i < ARRAY_SIZE(batch); i++) {
		batch[i].ver.id = KVMI_GET_VERSION;
		batch[i].ver.seq = 4 * i;
		batch[i].check.id = KVMI_VM_CHECK_EVENT;
		batch[i].check.size = sizeof(batch[i].event);
		batch[i].check.seq = 4 * i + 1;
		batch[i].event.id = KVMI_VCPU_EVENT_PF;
		batch[i].bad.id = NO_SUCH_ID;
		batch[i].bad.size = sizeof(batch[i].data);
		batch[i].bad.seq = 4 * i + 2;
		batch[i].info.id = KVMI_VM_GET_INFO;
		batch[i].info.seq = 4 * i + 3;
	}
	kvmi_write(tool, batch, sizeof(batch));

	for (i = 0; i < ARRAY_SIZE(batch); i++) {
		TEST_ASSERT_EQ(__kvmi_recv_reply(tool, KVMI_GET_VERSION, 4 * i,
						 &ver, sizeof(ver)), 0);
		TEST_ASSERT_EQ(__kvmi_recv_reply(tool, KVMI_VM_CHECK_EVENT,
						 4 * i + 1, NULL, 0), 0);
		TEST_ASSERT_EQ(__kvmi_recv_reply(tool, NO_SUCH_ID, 4 * i + 2,
						 NULL, 0), -KVM_ENOSYS);
		TEST_ASSERT_EQ(__kvmi_recv_reply(tool, KVMI_VM_GET_INFO,
						 4 * i + 3, &info,
						 sizeof(info)), 0);
		TEST_ASSERT_EQ(info.vcpu_count, 2);
	}
}

/* One message in many writes */
TEST_F_TIMEOUT(version, byte_by_byte, KVMI_TEST_TIMEOUT)
{
	struct kvmi_tool *tool = &self->env.tool;
	struct {
		struct kvmi_msg_hdr hdr;
		struct kvmi_vm_check_event req;
	} msg = {
		.hdr = {
			.id = KVMI_VM_CHECK_EVENT,
			.size = sizeof(msg.req),
			.seq = 0x01020304,
		},
		.req = { .id = KVMI_VCPU_EVENT_PF },
	};
	int i;

	for (i = 0; i < sizeof(msg); i++) {
		kvmi_write(tool, (uint8_t *)&msg + i, 1);
		usleep(1000);
	}
	TEST_ASSERT_EQ(__kvmi_recv_reply(tool, KVMI_VM_CHECK_EVENT, msg.hdr.seq,
					 NULL, 0), 0);
}

/* The tool leaves in the middle of a message. */
TEST_F_TIMEOUT(version, cut_off, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct {
		struct kvmi_msg_hdr hdr;
		uint8_t data[100];
	} msg = { .hdr = { .id = KVMI_GET_VERSION, .size = 100 } };
	int len;

	for (len = 1; len < sizeof(msg); len += 7) {
		kvmi_write(&env->tool, &msg, len);
		kvmi_env_unhook(env);
		kvmi_env_hook(env);
		kvmi_write(&env->tool, &msg, len);
		kvmi_tool_close(&env->tool);
		kvmi_env_hook(env);
		kvmi_alive(&env->tool);
	}
}

/* The tool stops writing, but still reads. */
TEST_F_TIMEOUT(version, half_closed, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;

	kvmi_alive(&env->tool);
	shutdown(env->tool.fd, SHUT_WR);
	kvmi_wait_closed(&env->tool);
	vm_kvmi_unhook(env->vm);
}

int main(int argc, char *argv[])
{
	TEST_REQUIRE(kvmi_supported());

	return test_harness_run(argc, argv);
}
