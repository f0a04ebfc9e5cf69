// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM introspection: the commands with which a tool reads and writes the state
 * of a vCPU and learns about the VM, and that cause no events of their own.
 */
#include "test_util.h"
#include "kvm_util.h"
#include "kselftest_harness.h"
#include "kvmi_util.h"

/* So many commands may wait for a vCPU. */
#define MAX_QUEUED	1024

FIXTURE(cmd)
{
	struct kvmi_env env;
	struct kvmi_runner *r;
	volatile uint64_t *stop;	/* what the spinning guest looks at */
};

FIXTURE_SETUP(cmd)
{
	kvmi_env_create(&self->env, 1);
	kvmi_env_hook(&self->env);
	self->r = &self->env.run[0];
	self->stop = kvmi_hva(&self->env, 0, 0);
}

FIXTURE_TEARDOWN(cmd)
{
	*self->stop = 1;
	kvmi_env_destroy(&self->env);
}

/* Has the vCPU wait in a pause. */
static void pause_vcpu(struct kvmi_env *env, struct kvmi_event *ev)
{
	TEST_ASSERT_EQ(__kvmi_pause_vcpu(&env->tool, 0, false), 0);
	kvmi_wait_event(&env->tool, KVMI_VCPU_EVENT_PAUSE, ev);
}

static void get_registers(struct kvmi_env *env, struct kvm_regs *regs)
{
	struct kvmi_vcpu_get_registers_reply rpl;
	struct kvmi_vcpu_get_registers req = { };
	int err;

	err = __kvmi_vcpu_cmd(env, 0, KVMI_VCPU_GET_REGISTERS, &req,
			      sizeof(req), &rpl, sizeof(rpl));
	TEST_ASSERT_EQ(err, 0);
	*regs = rpl.regs;
}

/* Has the vCPU go round in kvmi_insn_spin(). */
static void start_spinning(struct kvmi_env *env, volatile uint64_t *stop)
{
	struct kvm_regs regs;

	*stop = 0;
	kvmi_runner_do(&env->run[0], kvmi_insn_spin, KVMI_TEST_GVA, 1);
	do {
		get_registers(env, &regs);
	} while (regs.rip <= (uint64_t)kvmi_insn_spin ||
		 regs.rip > (uint64_t)kvmi_insn_spin + 16);
}

static int set_registers(struct kvmi_env *env, const struct kvm_regs *regs,
			 size_t size)
{
	return __kvmi_vcpu_cmd(env, 0, KVMI_VCPU_SET_REGISTERS, regs, size,
			       NULL, 0);
}

/* ---- every vCPU command ---- */

static const struct {
	uint16_t id;
	uint16_t req_size, rpl_size;
} vcpu_cmds[] = {
	{ KVMI_VCPU_GET_INFO, 0, 8 },
	{ KVMI_VCPU_CONTROL_EVENTS, 8, 0 },
	{ KVMI_VCPU_GET_REGISTERS, 8, 472 },
	{ KVMI_VCPU_SET_REGISTERS, 144, 0 },
	{ KVMI_VCPU_GET_CPUID, 8, 16 },
	{ KVMI_VCPU_CONTROL_CR, 8, 0 },
	{ KVMI_VCPU_INJECT_EXCEPTION, 16, 0 },
	{ KVMI_VCPU_GET_XCR, 8, 8 },
	{ KVMI_VCPU_GET_XSAVE, 0, 4096 },
	{ KVMI_VCPU_SET_XSAVE, 4096, 0 },
	{ KVMI_VCPU_GET_MTRR_TYPE, 8, 8 },
	{ KVMI_VCPU_CONTROL_MSR, 8, 0 },
	{ KVMI_VCPU_CONTROL_SINGLESTEP, 8, 0 },
	{ KVMI_VCPU_TRANSLATE_GVA, 8, 8 },
};

/* What all of them refuse is refused at once, wherever the vCPU is. */
TEST_F_TIMEOUT(cmd, vcpu_header, KVMI_TEST_TIMEOUT)
{
	static const struct kvmi_vcpu_hdr bad[] = {
		{ .vcpu = 1 }, { .vcpu = 0xffff },
		{ .padding1 = 1 }, { .padding1 = 0x8000 },
		{ .padding2 = 1 }, { .padding2 = 0x80000000 },
	};
	struct kvmi_tool *tool = &self->env.tool;
	uint8_t msg[sizeof(bad[0]) + 4096] = { };
	int i, j;

	for (i = 0; i < ARRAY_SIZE(vcpu_cmds); i++) {
		for (j = 0; j < ARRAY_SIZE(bad); j++) {
			int err;

			memcpy(msg, &bad[j], sizeof(bad[j]));
			err = __kvmi_cmd(tool, vcpu_cmds[i].id, msg,
					 sizeof(bad[j]) + vcpu_cmds[i].req_size,
					 NULL, 0);
			TEST_ASSERT(err == -KVM_EINVAL,
				    "command %u, header %d: error %d",
				    vcpu_cmds[i].id, j, err);
		}
	}
	kvmi_alive(tool);
}

/* A vCPU that the guest has not started serves nobody, and says so at once. */
TEST_F_TIMEOUT(cmd, not_started, KVMI_TEST_TIMEOUT)
{
	struct kvm_mp_state uninit = { .mp_state = KVM_MP_STATE_UNINITIALIZED };
	struct kvm_mp_state runnable = { .mp_state = KVM_MP_STATE_RUNNABLE };
	struct kvmi_tool *tool = &self->env.tool;
	uint8_t msg[sizeof(struct kvmi_vcpu_hdr) + 4096] = { };
	struct kvmi_vcpu_hdr *hdr = (void *)msg;
	struct kvmi_event ev;
	int i, err;

	vcpu_mp_state_set(self->r->vcpu, &uninit);
	for (i = 0; i < ARRAY_SIZE(vcpu_cmds); i++) {
		err = __kvmi_cmd(tool, vcpu_cmds[i].id, msg,
				 sizeof(*hdr) + vcpu_cmds[i].req_size, NULL, 0);
		TEST_ASSERT(err == -KVM_EAGAIN, "command %u: error %d",
			    vcpu_cmds[i].id, err);

		/* What is wrong in any case is told first. */
		hdr->padding1 = 1;
		err = __kvmi_cmd(tool, vcpu_cmds[i].id, msg,
				 sizeof(*hdr) + vcpu_cmds[i].req_size, NULL, 0);
		TEST_ASSERT(err == -KVM_EINVAL, "command %u: error %d",
			    vcpu_cmds[i].id, err);
		hdr->padding1 = 0;
	}
	for (i = 0; i < 2; i++)
		TEST_ASSERT_EQ(__kvmi_pause_vcpu(tool, 0, i), -KVM_EAGAIN);

	vcpu_mp_state_set(self->r->vcpu, &runnable);
	kvmi_runner_do(self->r, kvmi_insn_nop, 0, 0);
	kvmi_runner_wait(self->r);
	if (kvmi_poll_event(tool, &ev, 0))
		TEST_FAIL("unwanted event %u", ev.event);
	kvmi_alive(tool);
}

/*
 * Commands wait for a vCPU that is not in KVM_RUN, but not any number of them.
 * The one that is too many gets its error first, the others are carried out.
 */
TEST_F_TIMEOUT(cmd, too_many, KVMI_TEST_TIMEOUT)
{
	struct kvmi_tool *tool = &self->env.tool;
	struct kvmi_vcpu_get_info_reply rpl;
	uint32_t seq[MAX_QUEUED + 1];
	int i, round;

	for (round = 0; round < 2; round++) {
		for (i = 0; i <= MAX_QUEUED; i++)
			seq[i] = kvmi_vcpu_send(tool, 0, KVMI_VCPU_GET_INFO,
						NULL, 0);
		TEST_ASSERT_EQ(__kvmi_recv_reply(tool, KVMI_VCPU_GET_INFO,
						 seq[MAX_QUEUED], NULL, 0),
			       -KVM_EBUSY);

		kvmi_runner_do(self->r, kvmi_insn_nop, 0, 0);
		for (i = 0; i < MAX_QUEUED; i++)
			TEST_ASSERT_EQ(__kvmi_recv_reply(tool,
							 KVMI_VCPU_GET_INFO,
							 seq[i], &rpl,
							 sizeof(rpl)), 0);
		kvmi_runner_wait(self->r);
	}
}

/*
 * The state of SMM is not the guest's.  The VMM may put a vCPU there while an
 * event waits; other commands go on as ever.
 */
TEST_F_TIMEOUT(cmd, away, KVMI_TEST_TIMEOUT)
{
	static const uint16_t refused[] = {
		KVMI_VCPU_GET_REGISTERS, KVMI_VCPU_SET_REGISTERS,
		KVMI_VCPU_INJECT_EXCEPTION, KVMI_VCPU_TRANSLATE_GVA,
	};
	struct kvmi_env *env = &self->env;
	struct kvm_vcpu_events events;
	struct kvmi_vcpu_get_info_reply rpl;
	uint8_t req[144] = { UD_VECTOR };
	struct kvmi_event ev;
	int i, err, smm;

	if (!kvm_has_cap(KVM_CAP_X86_SMM))
		SKIP(return, "no system management mode");

	start_spinning(env, self->stop);
	pause_vcpu(env, &ev);
	for (smm = 1; smm >= 0; smm--) {
		kvmi_runner_kick(self->r);
		kvmi_runner_wait_exit(self->r);
		TEST_ASSERT_EQ(self->r->err, EINTR);
		vcpu_events_get(self->r->vcpu, &events);
		events.flags = KVM_VCPUEVENT_VALID_SMM;
		events.smi.smm = smm;
		vcpu_events_set(self->r->vcpu, &events);
		kvmi_runner_go(self->r);

		for (i = 0; smm && i < ARRAY_SIZE(refused); i++) {
			req[0] = refused[i] == KVMI_VCPU_INJECT_EXCEPTION ?
				 UD_VECTOR : 0;
			err = __kvmi_vcpu_cmd(env, 0, refused[i], req,
					      sizeof(req), NULL, 0);
			TEST_ASSERT(err == -KVM_EAGAIN, "command %u: error %d",
				    refused[i], err);
		}
		TEST_ASSERT_EQ(__kvmi_vcpu_cmd(env, 0, KVMI_VCPU_GET_INFO, NULL,
					       0, &rpl, sizeof(rpl)), 0);
	}

	/* It was not set, nor anything injected. */
	*self->stop = 1;
	kvmi_reply(&env->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	TEST_ASSERT(kvmi_runner_wait(self->r) > 0, "no loop");
	kvmi_no_event(&env->tool);
}

/* A request that is longer than need be is as good as any. */
TEST_F_TIMEOUT(cmd, long_requests, KVMI_TEST_TIMEOUT)
{
	uint8_t rpl[4096], req[4096 + 100] = { };
	int i, err;

	for (i = 0; i < ARRAY_SIZE(vcpu_cmds); i++) {
		if (!vcpu_cmds[i].rpl_size)
			continue;
		memset(req + vcpu_cmds[i].req_size, 0xff, 100);
		err = __kvmi_vcpu_cmd(&self->env, 0, vcpu_cmds[i].id, req,
				      vcpu_cmds[i].req_size + 100, rpl,
				      vcpu_cmds[i].rpl_size);
		TEST_ASSERT(!err, "command %u: error %d", vcpu_cmds[i].id, err);
		memset(req, 0, sizeof(req));
	}
}

/* A request that is accepted, with as few bytes of 0 as possible. */
static void fill_request(uint16_t id, void *req)
{
	memset(req, 0, 64);

	switch (id) {
	case KVMI_VM_CHECK_COMMAND:
	case KVMI_VM_CHECK_EVENT:
	case KVMI_VCPU_CONTROL_EVENTS:
		/* an id that is known to all of them */
		*(uint16_t *)req = KVMI_VCPU_EVENT_PF;
		if (id == KVMI_VCPU_CONTROL_EVENTS)
			((struct kvmi_vcpu_control_events *)req)->enable = 1;
		break;
	case KVMI_VM_CONTROL_EVENTS:
		((struct kvmi_vm_control_events *)req)->enable = 1;
		break;
	case KVMI_VM_READ_PHYSICAL:
	case KVMI_VM_WRITE_PHYSICAL:
		*(struct kvmi_vm_read_physical *)req =
			(struct kvmi_vm_read_physical){
				.gpa = KVMI_TEST_GPA, .size = 8,
			};
		break;
	case KVMI_VM_CONTROL_CLEANUP:
		*(uint8_t *)req = 1;
		break;
	case KVMI_VCPU_GET_CPUID:
		((struct kvmi_vcpu_get_cpuid *)req)->function = 0x80000001;
		break;
	case KVMI_VCPU_CONTROL_CR:
		*(struct kvmi_vcpu_control_cr *)req =
			(struct kvmi_vcpu_control_cr){ .cr = 3, .enable = 1 };
		break;
	case KVMI_VCPU_CONTROL_MSR:
		*(struct kvmi_vcpu_control_msr *)req =
			(struct kvmi_vcpu_control_msr){ .enable = 1,
							.msr = MSR_LSTAR };
		break;
	case KVMI_VCPU_GET_MTRR_TYPE:
		*(uint64_t *)req = 0x12345678;
		break;
	case KVMI_VCPU_TRANSLATE_GVA:
		*(uint64_t *)req = kvmi_gva(1, 0);
		break;
	}
}

static int any_cmd(struct kvmi_env *env, uint16_t id, const void *req,
		   size_t size, void *rpl, size_t rpl_size)
{
	return id & 1 ? __kvmi_vcpu_cmd(env, 0, id, req, size, rpl, rpl_size) :
			__kvmi_cmd(&env->tool, id, req, size, rpl, rpl_size);
}

/* Every byte of padding is looked at. */
TEST_F_TIMEOUT(cmd, padding, KVMI_TEST_TIMEOUT)
{
	static const struct {
		uint16_t id;
		uint8_t size, from, to;
	} cmds[] = {
		{ KVMI_VM_CHECK_COMMAND, 8, 2, 8 },
		{ KVMI_VM_CHECK_EVENT, 8, 2, 8 },
		{ KVMI_VM_CONTROL_EVENTS, 8, 3, 8 },
		{ KVMI_VM_READ_PHYSICAL, 16, 10, 16 },
		{ KVMI_VM_WRITE_PHYSICAL, 24, 10, 16 },
		{ KVMI_VM_PAUSE_VCPU, 8, 3, 8 },
		{ KVMI_VM_SET_PAGE_ACCESS, 8, 2, 8 },
		{ KVMI_VM_CONTROL_CLEANUP, 8, 1, 8 },
		{ KVMI_VCPU_CONTROL_EVENTS, 8, 4, 8 },
		{ KVMI_VCPU_GET_REGISTERS, 8, 2, 8 },
		{ KVMI_VCPU_CONTROL_CR, 8, 2, 8 },
		{ KVMI_VCPU_INJECT_EXCEPTION, 16, 1, 4 },
		{ KVMI_VCPU_GET_XCR, 8, 1, 8 },
		{ KVMI_VCPU_CONTROL_MSR, 8, 1, 4 },
		{ KVMI_VCPU_CONTROL_SINGLESTEP, 8, 1, 8 },
	};
	struct kvmi_env *env = &self->env;
	uint8_t req[64];
	int i, pos, err;

	for (i = 0; i < ARRAY_SIZE(cmds); i++) {
		for (pos = cmds[i].from; pos < cmds[i].to; pos++) {
			fill_request(cmds[i].id, req);
			req[pos] = pos & 1 ? 0x80 : 1;
			err = any_cmd(env, cmds[i].id, req, cmds[i].size, NULL,
				      0);
			TEST_ASSERT(err == -KVM_EINVAL,
				    "command %u, byte %d: error %d", cmds[i].id,
				    pos, err);
		}
	}

	/* Neither was anything enabled, nor is there a pause or an exception. */
	kvmi_runner_do(self->r, kvmi_insn_nop, 0, 0);
	kvmi_runner_wait(self->r);
	kvmi_no_event(&env->tool);
	kvmi_alive(&env->tool);
}

/* Cut anywhere, a request is what it would be with bytes of 0 at its end. */
TEST_F_TIMEOUT(cmd, short_requests, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	uint8_t req[64], zero[64], rpl[512], want[512];
	int i, size, err, want_err;

	for (i = 0; i < ARRAY_SIZE(vcpu_cmds); i++) {
		const uint16_t id = vcpu_cmds[i].id;
		const size_t rpl_size = vcpu_cmds[i].rpl_size;

		/* one has to happen at most once, others have arrays */
		if (id == KVMI_VCPU_INJECT_EXCEPTION ||
		    vcpu_cmds[i].req_size > sizeof(req) ||
		    rpl_size > sizeof(rpl))
			continue;

		fill_request(id, req);
		for (size = 0; size <= vcpu_cmds[i].req_size; size++) {
			memset(zero, 0, sizeof(zero));
			memcpy(zero, req, size);
			memset(want, 0, sizeof(want));
			want_err = any_cmd(env, id, zero, vcpu_cmds[i].req_size,
					   want, rpl_size);
			memset(rpl, 0, sizeof(rpl));
			err = any_cmd(env, id, req, size, rpl, rpl_size);
			TEST_ASSERT(err == want_err,
				    "command %u of %d bytes: error %d, want %d",
				    id, size, err, want_err);
			/* the vCPU has run in between */
			if (id != KVMI_VCPU_GET_REGISTERS)
				TEST_ASSERT(!memcmp(rpl, want, rpl_size),
					    "command %u of %d bytes: other reply",
					    id, size);
		}
	}
	kvmi_alive(&env->tool);
}

/* Except for those whose registers must be there, all of them. */
TEST_F_TIMEOUT(cmd, short_registers, KVMI_TEST_TIMEOUT)
{
	static const uint16_t cmds[][2] = {
		{ KVMI_VCPU_SET_REGISTERS, 144 },
		{ KVMI_VCPU_SET_XSAVE, 4096 },
	};
	struct kvmi_env *env = &self->env;
	uint8_t req[4096] = { };
	int i, size;

	for (i = 0; i < ARRAY_SIZE(cmds); i++)
		for (size = 0; size < cmds[i][1]; size = size * 2 + 1)
			TEST_ASSERT_EQ(any_cmd(env, cmds[i][0], req, size, NULL,
					       0), -KVM_EINVAL);
	TEST_ASSERT_EQ(any_cmd(env, KVMI_VCPU_SET_REGISTERS, req, 143, NULL, 0),
		       -KVM_EINVAL);
	kvmi_alive(&env->tool);
}

/* Nor has the number of the vCPU to be there: it is 0 then. */
TEST_F_TIMEOUT(cmd, short_header, KVMI_TEST_TIMEOUT)
{
	struct kvmi_tool *tool = &self->env.tool;
	struct kvmi_vcpu_hdr hdr = { .vcpu = 0x0101 };
	struct kvmi_vcpu_get_info_reply rpl;
	uint32_t seq;
	int size;

	/* half a number is one */
	TEST_ASSERT_EQ(__kvmi_cmd(tool, KVMI_VCPU_GET_INFO, &hdr, 1, NULL, 0),
		       -KVM_EINVAL);
	memset(&hdr, 0, sizeof(hdr));
	for (size = 0; size < sizeof(hdr); size++) {
		seq = kvmi_send(tool, KVMI_VCPU_GET_INFO, &hdr, size);
		/* queued by then */
		kvmi_alive(tool);
		kvmi_runner_do(self->r, kvmi_insn_nop, 0, 0);
		TEST_ASSERT_EQ(__kvmi_recv_reply(tool, KVMI_VCPU_GET_INFO, seq,
						 &rpl, sizeof(rpl)), 0);
		kvmi_runner_wait(self->r);
	}
}

/* ---- GET_INFO ---- */

static uint64_t get_tsc_speed(struct kvmi_env *env)
{
	struct kvmi_vcpu_get_info_reply rpl;
	int err;

	err = __kvmi_vcpu_cmd(env, 0, KVMI_VCPU_GET_INFO, NULL, 0, &rpl,
			      sizeof(rpl));
	TEST_ASSERT_EQ(err, 0);

	return rpl.tsc_speed;
}

TEST_F_TIMEOUT(cmd, get_info, KVMI_TEST_TIMEOUT)
{
	bool has_control = kvm_has_cap(KVM_CAP_TSC_CONTROL);
	unsigned long khz;

	khz = __vcpu_ioctl(self->r->vcpu, KVM_GET_TSC_KHZ, NULL);
	TEST_ASSERT_EQ(get_tsc_speed(&self->env),
		       has_control ? 1000 * khz : 0);

	if (!has_control)
		return;

	vcpu_ioctl(self->r->vcpu, KVM_SET_TSC_KHZ, (void *)(khz / 2));
	TEST_ASSERT_EQ(get_tsc_speed(&self->env), 1000 * (khz / 2));
}

/* ---- SET_REGISTERS ---- */

TEST_F_TIMEOUT(cmd, set_registers, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvm_regs regs, now;
	struct kvmi_event ev;

	start_spinning(env, self->stop);
	pause_vcpu(env, &ev);

	/* Its first instruction is a return, with this as the result. */
	regs = ev.common.arch.regs;
	regs.rip = (uint64_t)kvmi_insn_nop;
	regs.rax = 0x1122334455667788ull;
	TEST_ASSERT_EQ(set_registers(env, &regs, sizeof(regs)), 0);

	/* They are set when the event ends, and not before. */
	get_registers(env, &now);
	TEST_ASSERT(!memcmp(&now, &ev.common.arch.regs, sizeof(now)),
		    "registers set with the event under way");
	kvmi_reply(&env->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	TEST_ASSERT_EQ(kvmi_runner_wait(self->r), 0x1122334455667788ull);
}

/* What is sent after the reply comes too late, even if it is served with it. */
TEST_F_TIMEOUT(cmd, set_registers_late, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_event ev;
	struct kvm_regs regs;
	uint32_t seq[3];
	int i;

	start_spinning(env, self->stop);
	pause_vcpu(env, &ev);
	kvmi_runner_kick(self->r);
	kvmi_runner_wait_exit(self->r);
	TEST_ASSERT_EQ(self->r->err, EINTR);

	regs = ev.common.arch.regs;
	regs.rip = (uint64_t)kvmi_insn_nop;
	for (i = 0; i < 3; i++) {
		if (i == 2)
			kvmi_reply(&env->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
		regs.rax = 0x1000 + i;
		seq[i] = kvmi_vcpu_send(&env->tool, 0, KVMI_VCPU_SET_REGISTERS,
					&regs, sizeof(regs));
	}
	/* All of this is read by now. */
	kvmi_alive(&env->tool);

	kvmi_runner_go(self->r);
	for (i = 0; i < 3; i++)
		TEST_ASSERT_EQ(__kvmi_recv_reply(&env->tool,
						 KVMI_VCPU_SET_REGISTERS,
						 seq[i], NULL, 0),
			       i < 2 ? 0 : -KVM_EOPNOTSUPP);
	TEST_ASSERT_EQ(kvmi_runner_wait(self->r), 0x1001);
}

/* Each of them gets there. */
TEST_F_TIMEOUT(cmd, set_all_registers, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvm_regs regs, old;
	struct kvmi_event ev;
	uint64_t *reg;
	int i;

	start_spinning(env, self->stop);
	pause_vcpu(env, &ev);
	old = ev.common.arch.regs;

	regs = old;
	reg = (uint64_t *)&regs;
	for (i = 0; i < 16; i++)
		reg[i] = 0x0101010101010101ull * (i + 1);
	regs.rip = (uint64_t)kvmi_insn_hlt_at;
	/* bit 1 always reads as 1 */
	regs.rflags = (~old.rflags & 0x200) | 0xcd5;
	TEST_ASSERT_EQ(set_registers(env, &regs, sizeof(regs)), 0);

	/* The next event comes before the guest executes anything. */
	TEST_ASSERT_EQ(__kvmi_pause_vcpu(&env->tool, 0, false), 0);
	kvmi_reply(&env->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	kvmi_wait_event(&env->tool, KVMI_VCPU_EVENT_PAUSE, &ev);
	regs.rflags |= 2;
	TEST_ASSERT(!memcmp(&regs, &ev.common.arch.regs, sizeof(regs)),
		    "not all registers are as they were set");

	TEST_ASSERT_EQ(set_registers(env, &old, sizeof(old)), 0);
	*self->stop = 1;
	kvmi_reply(&env->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	TEST_ASSERT(kvmi_runner_wait(self->r) > 0, "no loop");
}

TEST_F_TIMEOUT(cmd, set_registers_last_wins, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_event ev;
	struct kvm_regs regs;
	int i;

	start_spinning(env, self->stop);
	pause_vcpu(env, &ev);
	regs = ev.common.arch.regs;
	regs.rip = (uint64_t)kvmi_insn_nop;
	for (i = 1; i <= 5; i++) {
		regs.rax = i;
		TEST_ASSERT_EQ(set_registers(env, &regs, sizeof(regs)), 0);
	}
	/* more than the registers are ignored, fewer refused */
	TEST_ASSERT_EQ(set_registers(env, &regs, sizeof(regs) - 1),
		       -KVM_EINVAL);
	TEST_ASSERT_EQ(set_registers(env, &regs, 0), -KVM_EINVAL);
	kvmi_reply(&env->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	TEST_ASSERT_EQ(kvmi_runner_wait(self->r), 5);
}

/* They are for one event. */
TEST_F_TIMEOUT(cmd, set_registers_once, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_event ev;
	struct kvm_regs regs;

	start_spinning(env, self->stop);
	pause_vcpu(env, &ev);
	regs = ev.common.arch.regs;
	regs.rip = (uint64_t)kvmi_insn_nop;
	TEST_ASSERT_EQ(set_registers(env, &regs, sizeof(regs)), 0);
	kvmi_reply(&env->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	kvmi_runner_wait(self->r);

	start_spinning(env, self->stop);
	pause_vcpu(env, &ev);
	kvmi_reply(&env->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	TEST_ASSERT(!kvmi_runner_poll(self->r, KVMI_QUIET_MS),
		    "the loop has ended");
	*self->stop = 1;
	TEST_ASSERT(kvmi_runner_wait(self->r) > 0, "no loop");
}

TEST_F_TIMEOUT(cmd, set_registers_without_event, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvm_regs regs;

	start_spinning(env, self->stop);
	get_registers(env, &regs);
	regs.rip = (uint64_t)kvmi_insn_nop;
	TEST_ASSERT_EQ(set_registers(env, &regs, sizeof(regs)),
		       -KVM_EOPNOTSUPP);
	/* The size is looked at first. */
	TEST_ASSERT_EQ(set_registers(env, &regs, sizeof(regs) - 1),
		       -KVM_EINVAL);
	TEST_ASSERT(!kvmi_runner_poll(self->r, KVMI_QUIET_MS),
		    "the loop has ended");
	*self->stop = 1;
	kvmi_runner_wait(self->r);
}

/* KVM_RUN comes back in between, and the VMM looks. */
TEST_F_TIMEOUT(cmd, set_registers_signal, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvm_regs regs, vmm;
	struct kvmi_event ev;

	start_spinning(env, self->stop);
	pause_vcpu(env, &ev);
	regs = ev.common.arch.regs;
	regs.rip = (uint64_t)kvmi_insn_nop;
	regs.rax = 99;
	TEST_ASSERT_EQ(set_registers(env, &regs, sizeof(regs)), 0);

	kvmi_runner_kick(self->r);
	kvmi_runner_wait_exit(self->r);
	TEST_ASSERT_EQ(self->r->err, EINTR);
	vcpu_regs_get(self->r->vcpu, &vmm);
	TEST_ASSERT_EQ(vmm.rip, ev.common.arch.regs.rip);

	kvmi_runner_go(self->r);
	kvmi_reply(&env->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	TEST_ASSERT_EQ(kvmi_runner_wait(self->r), 99);
}

/* Without a reply nothing is set. */
TEST_F_TIMEOUT(cmd, set_registers_tool_gone, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_event ev;
	struct kvm_regs regs;

	start_spinning(env, self->stop);
	pause_vcpu(env, &ev);
	regs = ev.common.arch.regs;
	regs.rip = (uint64_t)kvmi_insn_nop;
	TEST_ASSERT_EQ(set_registers(env, &regs, sizeof(regs)), 0);
	kvmi_tool_close(&env->tool);
	TEST_ASSERT(!kvmi_runner_poll(self->r, KVMI_QUIET_MS),
		    "the loop has ended");
	*self->stop = 1;
	TEST_ASSERT(kvmi_runner_wait(self->r) > 0, "no loop");
}

struct pf_case {
	uint8_t action;
	uint64_t rip, rdi, rsi;		/* 0: as it is */
	unsigned int nr;
};

static uint8_t pf_handler(struct kvmi_env *env, const struct kvmi_event *ev,
			  void *arg)
{
	struct kvm_regs regs = ev->common.arch.regs;
	struct pf_case *c = arg;

	TEST_ASSERT_EQ(ev->event, KVMI_VCPU_EVENT_PF);
	TEST_ASSERT_EQ(regs.rip, (uint64_t)kvmi_insn_write);
	if (c->rip)
		regs.rip = c->rip;
	if (c->rdi)
		regs.rdi = c->rdi;
	if (c->rsi)
		regs.rsi = c->rsi;
	TEST_ASSERT_EQ(set_registers(env, &regs, sizeof(regs)), 0);

	return c->action;
}

/* The action refers to the registers as the tool has set them. */
TEST_F_TIMEOUT(cmd, set_registers_page_fault, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	uint64_t *page1 = kvmi_hva(env, 1, 0), *page2 = kvmi_hva(env, 2, 0);
	struct pf_case c;

	kvmi_control_event(env, 0, KVMI_VCPU_EVENT_PF, true);
	kvmi_set_page_access(&env->tool, kvmi_gpa(1, 0), KVMI_PAGE_ACCESS_R);

#define WRITE(...) ({							\
	*page1 = *page2 = 0;						\
	c = (struct pf_case){ __VA_ARGS__ };				\
	kvmi_env_access(env, 0, kvmi_insn_write, kvmi_gva(1, 0), 1,	\
			pf_handler, &c, NULL);				\
})
	/* elsewhere: the write is not made, whatever the action */
	TEST_ASSERT_EQ(WRITE(KVMI_EVENT_ACTION_CONTINUE,
			     .rip = (uint64_t)kvmi_insn_nop), 1);
	TEST_ASSERT_EQ(*page1, 0);
	TEST_ASSERT_EQ(WRITE(KVMI_EVENT_ACTION_RETRY,
			     .rip = (uint64_t)kvmi_insn_nop), 1);
	TEST_ASSERT_EQ(*page1, 0);

	/* the same instruction with another value */
	TEST_ASSERT_EQ(WRITE(KVMI_EVENT_ACTION_CONTINUE, .rsi = 77), 1);
	TEST_ASSERT_EQ(*page1, 77);

	/* with another address */
	TEST_ASSERT_EQ(WRITE(KVMI_EVENT_ACTION_CONTINUE,
			     .rdi = kvmi_gva(2, 0)), 1);
	TEST_ASSERT_EQ(*page1, 0);
	TEST_ASSERT_EQ(*page2, 1);
	TEST_ASSERT_EQ(WRITE(KVMI_EVENT_ACTION_RETRY,
			     .rdi = kvmi_gva(2, 0)), 1);
	TEST_ASSERT_EQ(*page1, 0);
	TEST_ASSERT_EQ(*page2, 1);
#undef WRITE
}

/* ---- GET_CPUID ---- */

static int get_cpuid(struct kvmi_env *env, uint32_t function, uint32_t index,
		     struct kvmi_vcpu_get_cpuid_reply *rpl)
{
	struct kvmi_vcpu_get_cpuid req = {
		.function = function, .index = index,
	};

	return __kvmi_vcpu_cmd(env, 0, KVMI_VCPU_GET_CPUID, &req, sizeof(req),
			       rpl, sizeof(*rpl));
}

TEST_F_TIMEOUT(cmd, get_cpuid, KVMI_TEST_TIMEOUT)
{
	struct kvmi_vcpu_get_cpuid_reply rpl;
	struct kvm_vcpu *vcpu = self->r->vcpu;
	struct kvmi_env *env = &self->env;
	uint32_t max_index = 0;
	int i;

	vcpu_ioctl(vcpu, KVM_GET_CPUID2, vcpu->cpuid);
	TEST_ASSERT(vcpu->cpuid->nent > 10, "%u entries", vcpu->cpuid->nent);
	for (i = 0; i < vcpu->cpuid->nent; i++) {
		struct kvm_cpuid_entry2 *e = &vcpu->cpuid->entries[i];
		bool indexed = e->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
		uint32_t want[] = { e->eax, e->ebx, e->ecx, e->edx };

		TEST_ASSERT_EQ(get_cpuid(env, e->function, e->index, &rpl), 0);
		TEST_ASSERT(!memcmp(&rpl, want, sizeof(want)),
			    "CPUID %#x.%#x", e->function, e->index);
		if (indexed) {
			max_index = max(max_index, e->index);
			continue;
		}
		/* A leaf without subleafs has the same in all of them. */
		TEST_ASSERT_EQ(get_cpuid(env, e->function, 0xffffffff, &rpl),
			       0);
		TEST_ASSERT(!memcmp(&rpl, want, sizeof(want)),
			    "CPUID %#x.%#x", e->function, 0xffffffff);
	}
	TEST_ASSERT_EQ(get_cpuid(env, 0x12345678, 0, &rpl), -KVM_ENOENT);
	TEST_ASSERT_EQ(get_cpuid(env, 0xffffffff, 0, &rpl), -KVM_ENOENT);
	/* in the extended state leaf all subleafs count */
	TEST_ASSERT_EQ(get_cpuid(env, 0xd, max_index + 1000, &rpl),
		       -KVM_ENOENT);
	TEST_ASSERT_EQ(get_cpuid(env, 0xd, 0xffffffff, &rpl), -KVM_ENOENT);
}

/* ---- GET_XCR ---- */

TEST_F_TIMEOUT(cmd, get_xcr, KVMI_TEST_TIMEOUT)
{
	struct kvmi_vcpu_get_xcr_reply rpl;
	struct kvmi_vcpu_get_xcr req = { };
	struct kvmi_env *env = &self->env;
	struct kvm_xcrs xcrs;
	int i;

#define GET_XCR()	__kvmi_vcpu_cmd(env, 0, KVMI_VCPU_GET_XCR, &req,	\
					sizeof(req), &rpl, sizeof(rpl))
	TEST_ASSERT_EQ(GET_XCR(), 0);
	if (kvm_has_cap(KVM_CAP_XCRS)) {
		vcpu_xcrs_get(self->r->vcpu, &xcrs);
		TEST_ASSERT_EQ(rpl.value, xcrs.xcrs[0].value);

		/* as reset leaves it */
		xcrs.xcrs[0].value = 1;
		vcpu_xcrs_set(self->r->vcpu, &xcrs);
		TEST_ASSERT_EQ(GET_XCR(), 0);
		TEST_ASSERT_EQ(rpl.value, 1);
	}

	for (i = 1; i < 256; i += 127) {
		req.xcr = i;
		TEST_ASSERT_EQ(GET_XCR(), -KVM_EINVAL);
	}
	req.xcr = 0;
	for (i = 0; i < ARRAY_SIZE(req.padding); i++) {
		req.padding[i] = 1;
		TEST_ASSERT_EQ(GET_XCR(), -KVM_EINVAL);
		req.padding[i] = 0;
	}
	TEST_ASSERT_EQ(GET_XCR(), 0);
#undef GET_XCR
}

/* ---- GET_XSAVE, SET_XSAVE ---- */

#define XSAVE_MXCSR	(24 / 4)	/* in 32-bit words */
#define XSAVE_XMM0	(160 / 4)
#define XSAVE_XSTATE_BV	(512 / 4)
#define XSAVE_XCOMP_BV	(520 / 4)

static void get_xsave(struct kvmi_env *env, struct kvm_xsave *xsave)
{
	int err = __kvmi_vcpu_cmd(env, 0, KVMI_VCPU_GET_XSAVE, NULL, 0, xsave,
				  4096);

	TEST_ASSERT_EQ(err, 0);
}

static int set_xsave(struct kvmi_env *env, const struct kvm_xsave *xsave,
		     size_t size)
{
	return __kvmi_vcpu_cmd(env, 0, KVMI_VCPU_SET_XSAVE, xsave, size, NULL,
			       0);
}

/* The same as the VMM gets when the guest is not running. */
TEST_F_TIMEOUT(cmd, get_xsave, KVMI_TEST_TIMEOUT)
{
	struct kvm_xsave tool, vmm;
	struct kvmi_env *env = &self->env;
	int i;

	for (i = 0; i < 4; i++)
		((uint32_t *)kvmi_hva(env, 1, 0))[i] = 0x1000 + i;
	*self->stop = 1;
	kvmi_runner_do(self->r, kvmi_insn_sse_hold, kvmi_gva(1, 0),
		       KVMI_TEST_GVA);
	kvmi_runner_wait(self->r);

	get_xsave(env, &tool);
	vcpu_xsave_get(self->r->vcpu, &vmm);
	TEST_ASSERT(!memcmp(&tool, &vmm, 4096), "not as KVM_GET_XSAVE");
	for (i = 0; i < 4; i++)
		TEST_ASSERT_EQ(tool.region[XSAVE_XMM0 + i], 0x1000 + i);
}

/* What the guest has in its registers, it sees changed. */
TEST_F_TIMEOUT(cmd, set_xsave, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	uint32_t *mem = kvmi_hva(env, 1, 0);
	struct kvm_xsave xsave, again;
	int i, round;

	for (i = 0; i < 4; i++)
		mem[i] = 0x2000 + i;
	*self->stop = 0;
	kvmi_runner_do(self->r, kvmi_insn_sse_hold, kvmi_gva(1, 0),
		       KVMI_TEST_GVA);
	/* until it has loaded the register */
	do {
		get_xsave(env, &xsave);
	} while (xsave.region[XSAVE_XMM0] != 0x2000);

	for (round = 0; round < 10; round++) {
		for (i = 0; i < 4; i++) {
			TEST_ASSERT_EQ(xsave.region[XSAVE_XMM0 + i],
				       0x2000 + round * 0x100 + i);
			xsave.region[XSAVE_XMM0 + i] += 0x100;
		}
		TEST_ASSERT_EQ(set_xsave(env, &xsave, 4096), 0);
		get_xsave(env, &again);
		TEST_ASSERT(!memcmp(&xsave, &again, 4096),
			    "not as it was set, round %d", round);
	}

	*self->stop = 1;
	kvmi_runner_wait(self->r);
	for (i = 0; i < 4; i++)
		TEST_ASSERT_EQ(mem[i], 0x2000 + 10 * 0x100 + i);
}

TEST_F_TIMEOUT(cmd, set_xsave_errors, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvm_xsave good, bad, after;
	bool has_xsave = kvm_has_cap(KVM_CAP_XCRS);

	get_xsave(env, &good);
	TEST_ASSERT_EQ(set_xsave(env, &good, 4095), -KVM_EINVAL);
	TEST_ASSERT_EQ(set_xsave(env, &good, 0), -KVM_EINVAL);

	/* reserved bits, in a component that is not in its initial state */
	bad = good;
	bad.region[XSAVE_MXCSR] = 0xffffffff;
	bad.region[XSAVE_XSTATE_BV] |= 3;
	TEST_ASSERT_EQ(set_xsave(env, &bad, 4096), -KVM_EINVAL);
	if (has_xsave) {
		/* a component that there is not, and never will be */
		bad = good;
		bad.region[XSAVE_XSTATE_BV + 1] |= 0x80000000;
		TEST_ASSERT_EQ(set_xsave(env, &bad, 4096), -KVM_EINVAL);
		bad = good;
		bad.region[XSAVE_XCOMP_BV + 1] |= 0x80000000;
		TEST_ASSERT_EQ(set_xsave(env, &bad, 4096), -KVM_EINVAL);
	}

	get_xsave(env, &after);
	TEST_ASSERT(!memcmp(&good, &after, 4096),
		    "a refused request has changed the state");
	TEST_ASSERT_EQ(set_xsave(env, &good, 4096), 0);
}

/* ---- TRANSLATE_GVA ---- */

static uint64_t translate(struct kvmi_env *env, uint64_t gva)
{
	struct kvmi_vcpu_translate_gva req = { .gva = gva };
	struct kvmi_vcpu_translate_gva_reply rpl;
	int err;

	err = __kvmi_vcpu_cmd(env, 0, KVMI_VCPU_TRANSLATE_GVA, &req,
			      sizeof(req), &rpl, sizeof(rpl));
	TEST_ASSERT_EQ(err, 0);

	return rpl.gpa;
}

TEST_F_TIMEOUT(cmd, translate_gva, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	uint64_t *pte;
	int i;

	/* let the library set the vCPU up */
	kvmi_runner_do(self->r, kvmi_insn_nop, 0, 0);
	kvmi_runner_wait(self->r);

	for (i = 0; i < KVMI_TEST_PAGES; i++)
		TEST_ASSERT_EQ(translate(env, kvmi_gva(i, i * 255)),
			       kvmi_gpa(i, i * 255));
	TEST_ASSERT_EQ(translate(env, (uint64_t)kvmi_insn_nop),
		       addr_gva2gpa(env->vm, (uint64_t)kvmi_insn_nop));
	/* whether or not there is memory behind it */
	TEST_ASSERT_EQ(translate(env, KVMI_MMIO_GVA + 8), KVMI_NO_MEM_GPA + 8);

	TEST_ASSERT_EQ(translate(env, kvmi_gva(KVMI_TEST_PAGES, 0)), ~0ull);
	TEST_ASSERT_EQ(translate(env, 0x7000000000ull), ~0ull);
	/* the same bits as a valid address, and others that must not be set */
	TEST_ASSERT_EQ(translate(env, kvmi_gva(0, 0) | 1ull << 63), ~0ull);
	TEST_ASSERT_EQ(translate(env, kvmi_gva(0, 0) | 0xffffull << 48), ~0ull);
	TEST_ASSERT_EQ(translate(env, ~0ull), ~0ull);

	/* The guest's rights do not matter, what its page tables map does. */
	pte = vm_get_page_table_entry(env->vm, kvmi_gva(3, 0));
	*pte &= ~PTE_WRITABLE_MASK;
	TEST_ASSERT_EQ(translate(env, kvmi_gva(3, 7)), kvmi_gpa(3, 7));
	*pte &= ~PTE_PRESENT_MASK;
	TEST_ASSERT_EQ(translate(env, kvmi_gva(3, 7)), ~0ull);

	/* nor do restrictions */
	kvmi_set_page_access(&env->tool, kvmi_gpa(4, 0), 0);
	TEST_ASSERT_EQ(translate(env, kvmi_gva(4, 8)), kvmi_gpa(4, 8));
}

/* Without paging, addresses are physical ones; they have 32 bits then. */
TEST_F_TIMEOUT(cmd, translate_gva_real_mode, KVMI_TEST_TIMEOUT)
{
	struct kvm_vcpu *vcpu = self->r->vcpu;
	struct kvmi_env *env = &self->env;
	struct kvm_sregs sregs, old;
	struct kvm_mp_state mp = { .mp_state = KVM_MP_STATE_HALTED };
	struct kvm_regs regs;

	vcpu_sregs_get(vcpu, &old);
	sregs = old;
	sregs.cr0 &= ~(X86_CR0_PG | X86_CR0_PE);
	sregs.efer = 0;
	sregs.cr4 = 0;
	sregs.cs.l = 0;
	vcpu_sregs_set(vcpu, &sregs);
	vcpu_regs_get(vcpu, &regs);
	regs.rflags = 2;
	vcpu_regs_set(vcpu, &regs);
	/* It executes nothing. */
	vcpu_mp_state_set(vcpu, &mp);
	kvmi_runner_go(self->r);

	TEST_ASSERT_EQ(translate(env, 0), 0);
	TEST_ASSERT_EQ(translate(env, 0xfee01234), 0xfee01234);
	TEST_ASSERT_EQ(translate(env, 0x100000000ull), ~0ull);

	kvmi_runner_kick(self->r);
	kvmi_runner_wait_exit(self->r);
}

/* ---- CONTROL_CLEANUP ---- */

static int control_cleanup(struct kvmi_env *env,
			   struct kvmi_vm_control_cleanup req)
{
	return __kvmi_cmd(&env->tool, KVMI_VM_CONTROL_CLEANUP, &req,
			  sizeof(req), NULL, 0);
}

TEST_F_TIMEOUT(cmd, control_cleanup, KVMI_TEST_TIMEOUT)
{
	struct kvmi_vm_control_cleanup req = { };
	struct kvmi_env *env = &self->env;
	int i;

	for (i = 0; i < 4; i++) {
		req.enable = i & 1;
		TEST_ASSERT_EQ(control_cleanup(env, req), 0);
	}
	for (i = 2; i < 256; i++) {
		req.enable = i;
		TEST_ASSERT_EQ(control_cleanup(env, req), -KVM_EINVAL);
	}
	req.enable = 1;
	for (i = 0; i < ARRAY_SIZE(req.padding); i++) {
		req.padding[i] = 0x80;
		TEST_ASSERT_EQ(control_cleanup(env, req), -KVM_EINVAL);
		req.padding[i] = 0;
	}
	TEST_ASSERT_EQ(control_cleanup(env, req), 0);
}

/* ---- GET_MAX_GFN ---- */

static uint64_t get_max_gfn(struct kvmi_env *env)
{
	struct kvmi_vm_get_max_gfn_reply rpl;

	kvmi_cmd(&env->tool, KVMI_VM_GET_MAX_GFN, NULL, 0, &rpl, sizeof(rpl));

	return rpl.gfn;
}

TEST_F_TIMEOUT(cmd, get_max_gfn, KVMI_TEST_TIMEOUT)
{
	const uint64_t top = KVMI_TEST_GPA / PAGE_SIZE + KVMI_TEST_PAGES;
	const uint32_t slot = KVMI_TEST_SLOT + 1;
	struct kvm_vm *vm = self->env.vm;
	struct kvmi_env *env = &self->env;
	void *mem = env->hva;

	TEST_ASSERT_EQ(get_max_gfn(env), top);

	vm_set_user_memory_region(vm, slot, 0, 0x100000000ull, 2 * PAGE_SIZE,
				  mem);
	TEST_ASSERT_EQ(get_max_gfn(env), 0x100002);

	/* moved */
	vm_set_user_memory_region(vm, slot, 0, 0x300000000ull, 2 * PAGE_SIZE,
				  mem);
	TEST_ASSERT_EQ(get_max_gfn(env), 0x300002);

	/* one below does not matter */
	vm_set_user_memory_region(vm, slot + 1, 0, 0x200000000ull, PAGE_SIZE,
				  mem);
	TEST_ASSERT_EQ(get_max_gfn(env), 0x300002);

	vm_set_user_memory_region(vm, slot, 0, 0, 0, NULL);
	TEST_ASSERT_EQ(get_max_gfn(env), 0x200001);
	vm_set_user_memory_region(vm, slot + 1, 0, 0, 0, NULL);
	TEST_ASSERT_EQ(get_max_gfn(env), top);

	/* ROM is not RAM */
	if (kvm_has_cap(KVM_CAP_READONLY_MEM)) {
		vm_set_user_memory_region(vm, slot, KVM_MEM_READONLY,
					  0x100000000ull, PAGE_SIZE, mem);
		TEST_ASSERT_EQ(get_max_gfn(env), top);
	}

	/* SMM's memory is not the guest's */
	if (kvm_check_cap(KVM_CAP_MULTI_ADDRESS_SPACE) > 1) {
		vm_set_user_memory_region(vm, 1 << 16 | slot, 0,
					  0x100000000ull, PAGE_SIZE, mem);
		TEST_ASSERT_EQ(get_max_gfn(env), top);
	}
}

int main(int argc, char *argv[])
{
	TEST_REQUIRE(kvmi_supported());

	return test_harness_run(argc, argv);
}
