// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM introspection: stopping a vCPU, looking at it, and letting it go on; and
 * the rules for answers to events.
 */
#include "test_util.h"
#include "kvm_util.h"
#include "kselftest_harness.h"
#include "kvmi_util.h"

/* how many pauses may be outstanding for one vCPU */
#define MAX_PAUSES	1002

FIXTURE(pause)
{
	struct kvmi_env env;
	volatile uint64_t *stop;	/* what kvmi_insn_spin() looks at */
};

FIXTURE_SETUP(pause)
{
	kvmi_env_create(&self->env, 2);
	kvmi_env_hook(&self->env);
	self->stop = kvmi_hva(&self->env, 0, 0);
}

FIXTURE_TEARDOWN(pause)
{
	*self->stop = 1;
	kvmi_env_destroy(&self->env);
}

static void start_spinning(struct kvmi_runner *r, volatile uint64_t *stop)
{
	*stop = 0;
	kvmi_runner_do(r, kvmi_insn_spin, KVMI_TEST_GVA, 1);
	/* long enough to be in the guest */
	usleep(20000);
}

static void pause_vcpu(struct kvmi_env *env, uint16_t vcpu, bool wait)
{
	int err = __kvmi_pause_vcpu(&env->tool, vcpu, wait);

	TEST_ASSERT(!err, "PAUSE_VCPU(%u, %d): error %d", vcpu, wait, err);
}

static void wait_pause(struct kvmi_env *env, uint16_t vcpu,
		       struct kvmi_event *ev)
{
	kvmi_wait_event(&env->tool, KVMI_VCPU_EVENT_PAUSE, ev);
	TEST_ASSERT_EQ(ev->vcpu, vcpu);
}

static void run_nop(struct kvmi_runner *r)
{
	kvmi_runner_do(r, kvmi_insn_nop, 0, 0);
	kvmi_runner_wait(r);
}

/* ---- PAUSE_VCPU ---- */

static bool is_in_spin(const struct kvmi_event *ev)
{
	return ev->common.arch.regs.rip >= (uint64_t)kvmi_insn_spin &&
	       ev->common.arch.regs.rip < (uint64_t)kvmi_insn_spin + 32;
}

TEST_F_TIMEOUT(pause, running, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_runner *r = &env->run[0];
	struct kvmi_event ev;
	int wait, i;

	for (wait = 0; wait < 2; wait++) {
		start_spinning(r, self->stop);
		pause_vcpu(env, 0, wait);
		wait_pause(env, 0, &ev);

		/* It stands still, in the loop once it has got there. */
		for (i = 0; !is_in_spin(&ev); i++) {
			TEST_ASSERT(i < 1000, "rip %#llx",
				    ev.common.arch.regs.rip);
			kvmi_reply(&env->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
			usleep(10000);
			pause_vcpu(env, 0, wait);
			wait_pause(env, 0, &ev);
		}
		*self->stop = 1;
		TEST_ASSERT(!kvmi_runner_poll(r, KVMI_QUIET_MS),
			    "vCPU has gone on with the event unanswered");
		kvmi_reply(&env->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
		TEST_ASSERT(kvmi_runner_wait(r) > 0, "no loop");
		kvmi_no_event(&env->tool);
	}
}

/* A vCPU in the VMM's hands pauses when it comes back. */
TEST_F_TIMEOUT(pause, in_user_space, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_runner *r = &env->run[0];
	struct kvmi_event ev;
	int wait;

	for (wait = 0; wait < 2; wait++) {
		uint64_t done = r->req->done;

		pause_vcpu(env, 0, wait);
		kvmi_no_event(&env->tool);

		kvmi_runner_do(r, kvmi_insn_nop, 0, 0);
		wait_pause(env, 0, &ev);
		TEST_ASSERT(!kvmi_runner_poll(r, KVMI_QUIET_MS), "not paused");
		/* before the guest has executed anything */
		TEST_ASSERT_EQ(r->req->done, done);
		kvmi_reply(&env->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
		kvmi_runner_wait(r);
		TEST_ASSERT_EQ(r->req->done, done + 1);
		kvmi_no_event(&env->tool);
	}
}

/* What is outstanding when the VMM disallows the event does not come. */
TEST_F_TIMEOUT(pause, disallowed, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_runner *r = &env->run[0];
	struct kvmi_event ev;
	int i;

	for (i = 0; i < 5; i++)
		pause_vcpu(env, 0, false);
	vm_kvmi_allow_event(env->vm, KVMI_VCPU_EVENT_PAUSE, 0);
	kvmi_runner_do(r, kvmi_insn_nop, 0, 0);
	kvmi_no_event(&env->tool);
	kvmi_runner_wait(r);

	/* nor when it is allowed again */
	vm_kvmi_allow_event(env->vm, KVMI_VCPU_EVENT_PAUSE, 1);
	kvmi_runner_do(r, kvmi_insn_nop, 0, 0);
	kvmi_runner_wait(r);
	kvmi_no_event(&env->tool);

	/* One that is under way stays. */
	for (i = 0; i < 3; i++)
		pause_vcpu(env, 0, false);
	kvmi_runner_do(r, kvmi_insn_nop, 0, 0);
	wait_pause(env, 0, &ev);
	vm_kvmi_allow_event(env->vm, KVMI_VCPU_EVENT_PAUSE, 0);
	TEST_ASSERT(!kvmi_runner_poll(r, KVMI_QUIET_MS), "not paused");
	kvmi_reply(&env->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	kvmi_runner_wait(r);
	kvmi_no_event(&env->tool);
}

TEST_F_TIMEOUT(pause, halted, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_runner *r = &env->run[0];
	struct kvmi_event ev;
	int i;

	kvmi_runner_do(r, kvmi_insn_hlt, 0, 0);
	usleep(50000);

	for (i = 0; i < 4; i++) {
		pause_vcpu(env, 0, i & 1);
		wait_pause(env, 0, &ev);
		kvmi_reply(&env->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
		/* and it is halted still */
		TEST_ASSERT(!kvmi_runner_poll(r, KVMI_QUIET_MS),
			    "a pause has ended the halt");
		TEST_ASSERT_EQ(r->req->done, 0);
	}

	kvmi_runner_kick(r);
	kvmi_runner_wait_exit(r);
	TEST_ASSERT_EQ(r->err, EINTR);
}

/* A halted vCPU carries out commands without a pause. */
TEST_F_TIMEOUT(pause, halted_commands, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_runner *r = &env->run[0];
	struct kvmi_vcpu_get_registers req = { };
	struct kvmi_vcpu_get_registers_reply rpl;
	int i;

	kvmi_runner_do(r, kvmi_insn_hlt, 0, 0);
	usleep(50000);

	for (i = 0; i < 5; i++) {
		TEST_ASSERT_EQ(__kvmi_vcpu_cmd(env, 0, KVMI_VCPU_GET_REGISTERS,
					       &req, sizeof(req), &rpl,
					       sizeof(rpl)), 0);
		TEST_ASSERT_EQ(rpl.regs.rip, (uint64_t)kvmi_insn_hlt_at + 1);
		TEST_ASSERT(!kvmi_runner_poll(r, 10), "halt ended");
	}

	kvmi_runner_kick(r);
	kvmi_runner_wait_exit(r);
	TEST_ASSERT_EQ(r->err, EINTR);
}

/* Each command is good for one event. */
TEST_F_TIMEOUT(pause, many, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_runner *r = &env->run[0];
	uint32_t last_seq = 0;
	struct kvmi_event ev;
	int i;

	start_spinning(r, self->stop);
	for (i = 0; i < 20; i++)
		pause_vcpu(env, 0, i & 1);
	for (i = 0; i < 20; i++) {
		wait_pause(env, 0, &ev);
		TEST_ASSERT(ev.seq > last_seq, "seq %u after %u", ev.seq,
			    last_seq);
		last_seq = ev.seq;
		/* one at a time */
		if (i < 3)
			kvmi_no_event(&env->tool);
		kvmi_reply(&env->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	}
	kvmi_no_event(&env->tool);
	*self->stop = 1;
	kvmi_runner_wait(r);
}

TEST_F_TIMEOUT(pause, too_many, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_runner *r = &env->run[0];
	struct kvmi_event ev;
	int i, nr = 0, err;

	while (!(err = __kvmi_pause_vcpu(&env->tool, 0, false)))
		TEST_ASSERT(++nr < 10000, "pauses without end");
	TEST_ASSERT_EQ(err, -KVM_EBUSY);
	TEST_ASSERT_EQ(nr, MAX_PAUSES);
	TEST_ASSERT_EQ(__kvmi_pause_vcpu(&env->tool, 0, true), -KVM_EBUSY);

	/* The other vCPU has a count of its own. */
	pause_vcpu(env, 1, false);

	kvmi_runner_do(r, kvmi_insn_nop, 0, 0);
	for (i = 0; i < nr; i++) {
		wait_pause(env, 0, &ev);
		/* The event has made room for one more. */
		if (!i) {
			pause_vcpu(env, 0, false);
			nr++;
		}
		kvmi_reply(&env->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	}
	kvmi_runner_wait(r);
	kvmi_no_event(&env->tool);
}

TEST_F_TIMEOUT(pause, both_vcpus, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_event ev[2];
	int i;

	start_spinning(&env->run[0], self->stop);
	start_spinning(&env->run[1], self->stop);
	pause_vcpu(env, 1, true);
	wait_pause(env, 1, &ev[1]);
	pause_vcpu(env, 0, true);
	wait_pause(env, 0, &ev[0]);
	TEST_ASSERT(ev[0].seq != ev[1].seq, "one number for two events");

	*self->stop = 1;
	kvmi_reply(&env->tool, &ev[0], KVMI_EVENT_ACTION_CONTINUE);
	kvmi_runner_wait(&env->run[0]);
	TEST_ASSERT(!kvmi_runner_poll(&env->run[1], KVMI_QUIET_MS),
		    "vCPU 1 let go by the answer to vCPU 0");
	kvmi_reply(&env->tool, &ev[1], KVMI_EVENT_ACTION_CONTINUE);
	kvmi_runner_wait(&env->run[1]);

	for (i = 0; i < 2; i++)
		run_nop(&env->run[i]);
}

TEST_F_TIMEOUT(pause, bad_requests, KVMI_TEST_TIMEOUT)
{
	struct kvmi_tool *tool = &self->env.tool;
	static const struct kvmi_vm_pause_vcpu reqs[] = {
		{ .wait = 2 },
		{ .wait = 0xff },
		{ .padding1 = 1 },
		{ .padding2 = 1 },
		{ .padding2 = 0x80000000 },
		{ .vcpu = 2 },
		{ .vcpu = 0xffff },
	};
	int i;

	for (i = 0; i < ARRAY_SIZE(reqs); i++) {
		int err = __kvmi_cmd(tool, KVMI_VM_PAUSE_VCPU, &reqs[i],
				     sizeof(reqs[i]), NULL, 0);

		TEST_ASSERT(err == -KVM_EINVAL, "request %d: %d", i, err);
	}

	/* None of them has paused anything. */
	run_nop(&self->env.run[0]);
	run_nop(&self->env.run[1]);
	kvmi_no_event(tool);
}

/* vCPUs are numbered in the order of their creation, whatever their ids. */
TEST_F_TIMEOUT(pause, index_is_not_id, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_event ev;

	kvmi_env_add_vcpu(env, 7);

	TEST_ASSERT_EQ(__kvmi_pause_vcpu(&env->tool, 7, false), -KVM_EINVAL);
	TEST_ASSERT_EQ(__kvmi_pause_vcpu(&env->tool, 3, false), -KVM_EINVAL);
	pause_vcpu(env, 2, false);

	kvmi_runner_do(&env->run[2], kvmi_insn_nop, 0, 0);
	wait_pause(env, 2, &ev);
	kvmi_reply(&env->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	kvmi_runner_wait(&env->run[2]);
}

static void add_vcpu(void *arg)
{
	kvmi_env_add_vcpu(arg, 3);
}

/* A vCPU can be created while others wait, and is introspected, too. */
TEST_F_TIMEOUT(pause, vcpu_created_later, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_vm_get_info_reply info;
	struct kvmi_event ev, ev2;
	struct kvmi_recs recs = { .action = KVMI_EVENT_ACTION_CONTINUE };
	unsigned int nr;

	start_spinning(&env->run[0], self->stop);
	pause_vcpu(env, 0, true);
	wait_pause(env, 0, &ev);

	kvmi_must_return("KVM_CREATE_VCPU", add_vcpu, env);
	kvmi_cmd(&env->tool, KVMI_VM_GET_INFO, NULL, 0, &info, sizeof(info));
	TEST_ASSERT_EQ(info.vcpu_count, 3);

	pause_vcpu(env, 2, false);
	kvmi_runner_do(&env->run[2], kvmi_insn_nop, 0, 0);
	wait_pause(env, 2, &ev2);
	kvmi_reply(&env->tool, &ev2, KVMI_EVENT_ACTION_CONTINUE);
	kvmi_runner_wait(&env->run[2]);

	kvmi_control_event(env, 2, KVMI_VCPU_EVENT_PF, true);
	kvmi_set_page_access(&env->tool, kvmi_gpa(1, 0), KVMI_PAGE_ACCESS_R);
	nr = kvmi_env_access(env, 2, kvmi_insn_write, kvmi_gva(1, 0), 5,
			     kvmi_record, &recs, NULL);
	TEST_ASSERT_EQ(nr, 1);
	TEST_ASSERT_EQ(recs.ev[0].vcpu, 2);

	*self->stop = 1;
	kvmi_reply(&env->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	kvmi_runner_wait(&env->run[0]);
}

/* A signal brings the thread out, and the event waits for its return. */
TEST_F_TIMEOUT(pause, signal, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_runner *r = &env->run[0];
	struct kvmi_event ev;
	struct kvm_regs regs;
	int answer_early;

	for (answer_early = 0; answer_early < 2; answer_early++) {
		int i;

		start_spinning(r, self->stop);
		pause_vcpu(env, 0, true);
		wait_pause(env, 0, &ev);

		for (i = 0; i < 3; i++) {
			kvmi_runner_kick(r);
			kvmi_runner_wait_exit(r);
			TEST_ASSERT(r->ret == -1 && r->err == EINTR,
				    "KVM_RUN: %d, errno %d", r->ret, r->err);
			/* The VMM can look at the vCPU now. */
			vcpu_regs_get(r->vcpu, &regs);
			TEST_ASSERT(!memcmp(&regs, &ev.common.arch.regs,
					    sizeof(regs)), "registers");
			kvmi_no_event(&env->tool);
			if (answer_early)
				break;
			kvmi_runner_go(r);
			TEST_ASSERT(!kvmi_runner_poll(r, KVMI_QUIET_MS),
				    "the pause is over");
			kvmi_no_event(&env->tool);
		}

		*self->stop = 1;
		kvmi_reply(&env->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
		if (answer_early) {
			usleep(20000);
			kvmi_runner_go(r);
		}
		kvmi_runner_wait(r);
		kvmi_no_event(&env->tool);
	}
}

/* No pause gets lost in an exit to the VMM, whenever it comes. */
TEST_F_TIMEOUT(pause, mmio_exits, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_runner *r = &env->run[0];
	struct kvmi_event ev;
	int i;

	r->io_data = 0;
	kvmi_runner_do(r, kvmi_insn_spin, KVMI_MMIO_GVA, 1);
	for (i = 0; i < 50; i++) {
		pause_vcpu(env, 0, i & 1);
		wait_pause(env, 0, &ev);
		kvmi_reply(&env->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	}
	kvmi_no_event(&env->tool);
	r->io_data = 1;
	kvmi_runner_wait(r);
	TEST_ASSERT(r->nr_io > 1, "%u exits", r->nr_io);
}

/*
 * A vCPU that the VMM resets while its event waits takes the answer, and no
 * command until it is started again.
 */
TEST_F_TIMEOUT(pause, reset, KVMI_TEST_TIMEOUT)
{
	struct kvm_mp_state uninit = { .mp_state = KVM_MP_STATE_UNINITIALIZED };
	struct kvm_mp_state runnable = { .mp_state = KVM_MP_STATE_RUNNABLE };
	struct kvmi_vcpu_get_registers req = { };
	struct kvmi_env *env = &self->env;
	struct kvmi_runner *r = &env->run[1];
	struct kvmi_event ev;
	uint32_t seq;

	start_spinning(r, self->stop);
	pause_vcpu(env, 1, true);
	wait_pause(env, 1, &ev);
	kvmi_runner_kick(r);
	kvmi_runner_wait_exit(r);
	TEST_ASSERT_EQ(r->err, EINTR);

	vcpu_mp_state_set(r->vcpu, &uninit);
	seq = kvmi_vcpu_send(&env->tool, 1, KVMI_VCPU_GET_REGISTERS, &req,
			     sizeof(req));
	TEST_ASSERT_EQ(__kvmi_recv_reply(&env->tool, KVMI_VCPU_GET_REGISTERS,
					 seq, NULL, 0), -KVM_EAGAIN);
	kvmi_reply(&env->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	kvmi_alive(&env->tool);

	vcpu_mp_state_set(r->vcpu, &runnable);
	*self->stop = 1;
	kvmi_runner_go(r);
	kvmi_runner_wait(r);
	kvmi_no_event(&env->tool);
	kvmi_alive(&env->tool);
}

/* ---- answers ---- */

static void get_paused(struct kvmi_env *env, volatile uint64_t *stop,
		       struct kvmi_event *ev)
{
	start_spinning(&env->run[0], stop);
	pause_vcpu(env, 0, true);
	wait_pause(env, 0, ev);
	*stop = 1;
}

TEST_F_TIMEOUT(pause, crash, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_runner *r = &env->run[0];
	struct kvmi_event ev;
	struct kvm_regs regs;

	get_paused(env, self->stop, &ev);
	kvmi_reply(&env->tool, &ev, KVMI_EVENT_ACTION_CRASH);
	kvmi_runner_wait_exit(r);
	TEST_ASSERT_EQ(r->ret, 0);
	TEST_ASSERT_KVM_EXIT_REASON(r->vcpu, KVM_EXIT_SHUTDOWN);
	TEST_ASSERT_EQ(r->req->done, 0);
	vcpu_regs_get(r->vcpu, &regs);
	TEST_ASSERT(!memcmp(&regs, &ev.common.arch.regs, sizeof(regs)),
		    "the guest has gone on");

	/* The other vCPU is the VMM's to stop. */
	run_nop(&env->run[1]);
	kvmi_alive(&env->tool);
}

/* PAUSE knows CONTINUE and CRASH; the answer counts as CONTINUE. */
TEST_F_TIMEOUT(pause, unsupported_action, KVMI_TEST_TIMEOUT)
{
	static const uint8_t actions[] = { KVMI_EVENT_ACTION_RETRY, 3, 255 };
	struct kvmi_env *env = &self->env;
	struct kvmi_event ev;
	int i;

	for (i = 0; i < ARRAY_SIZE(actions); i++) {
		get_paused(env, self->stop, &ev);
		kvmi_reply(&env->tool, &ev, actions[i]);
		kvmi_wait_closed(&env->tool);
		kvmi_runner_wait(&env->run[0]);
		kvmi_env_unhook(env);
		kvmi_env_hook(env);
		/* With a new session, nothing is left of the old. */
		run_nop(&env->run[0]);
		kvmi_no_event(&env->tool);
	}
}

struct raw_reply {
	struct kvmi_msg_hdr hdr;
	struct kvmi_vcpu_hdr vcpu;
	struct kvmi_vcpu_event_reply reply;
	uint8_t more[64];
};

FIXTURE(reply)
{
	struct kvmi_env env;
	volatile uint64_t *stop;
};

FIXTURE_SETUP(reply)
{
	kvmi_env_create(&self->env, 2);
	kvmi_env_hook(&self->env);
	self->stop = kvmi_hva(&self->env, 0, 0);
}

FIXTURE_TEARDOWN(reply)
{
	*self->stop = 1;
	kvmi_env_destroy(&self->env);
}

FIXTURE_VARIANT(reply)
{
	int size;		/* 0: the right one */
	int seq;		/* added to the right one */
	uint16_t vcpu;
	uint16_t vcpu_padding1;
	uint32_t vcpu_padding2;
	uint16_t padding1;
	uint32_t padding2;
	bool good;
};

FIXTURE_VARIANT_ADD(reply, good) { .good = true };
FIXTURE_VARIANT_ADD(reply, seq_before) { .seq = -1 };
FIXTURE_VARIANT_ADD(reply, seq_after) { .seq = 1 };
FIXTURE_VARIANT_ADD(reply, empty) { .size = -1 };
FIXTURE_VARIANT_ADD(reply, no_action) { .size = 8 };
FIXTURE_VARIANT_ADD(reply, short_action) { .size = 15 };
FIXTURE_VARIANT_ADD(reply, one_byte_long) { .size = 17 };
FIXTURE_VARIANT_ADD(reply, with_data) { .size = 24 };
FIXTURE_VARIANT_ADD(reply, vcpu_padding1) { .vcpu_padding1 = 1 };
FIXTURE_VARIANT_ADD(reply, vcpu_padding2) { .vcpu_padding2 = 1 };
FIXTURE_VARIANT_ADD(reply, padding1) { .padding1 = 1 };
FIXTURE_VARIANT_ADD(reply, padding2) { .padding2 = 1 };
FIXTURE_VARIANT_ADD(reply, other_vcpu) { .vcpu = 1 };
FIXTURE_VARIANT_ADD(reply, no_vcpu) { .vcpu = 2 };

/*
 * A malformed answer ends the session; the guest goes on as if there had been
 * no tool.
 */
TEST_F_TIMEOUT(reply, pause, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct raw_reply msg = { };
	struct kvmi_event ev;

	get_paused(env, self->stop, &ev);

	msg.hdr.id = KVMI_VCPU_EVENT;
	msg.hdr.size = !variant->size ? 16 : variant->size < 0 ? 0 :
		       variant->size;
	msg.hdr.seq = ev.seq + variant->seq;
	msg.vcpu.vcpu = variant->vcpu;
	msg.vcpu.padding1 = variant->vcpu_padding1;
	msg.vcpu.padding2 = variant->vcpu_padding2;
	msg.reply.action = KVMI_EVENT_ACTION_CONTINUE;
	msg.reply.event = KVMI_VCPU_EVENT_PAUSE;
	msg.reply.padding1 = variant->padding1;
	msg.reply.padding2 = variant->padding2;
	kvmi_write(&env->tool, &msg, sizeof(msg.hdr) + msg.hdr.size);

	if (variant->good)
		kvmi_alive(&env->tool);
	else
		kvmi_wait_closed(&env->tool);
	kvmi_runner_wait(&env->run[0]);
	run_nop(&env->run[0]);
	run_nop(&env->run[1]);

	kvmi_env_unhook(env);
	kvmi_env_hook(env);
	kvmi_alive(&env->tool);
}

/* An answer that nobody waits for */
TEST_F_TIMEOUT(pause, unasked_reply, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_event ev = { .seq = 1, .event = KVMI_VCPU_EVENT_PAUSE };

	kvmi_alive(&env->tool);
	kvmi_reply(&env->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	run_nop(&env->run[0]);
	kvmi_wait_closed(&env->tool);
	run_nop(&env->run[0]);
}

/* A second answer to the same event */
TEST_F_TIMEOUT(pause, double_reply, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_event ev;

	get_paused(env, self->stop, &ev);
	kvmi_reply(&env->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	kvmi_runner_wait(&env->run[0]);
	kvmi_alive(&env->tool);
	kvmi_reply(&env->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	run_nop(&env->run[0]);
	kvmi_wait_closed(&env->tool);
	run_nop(&env->run[0]);
}

/* ---- vCPU commands ---- */

#define MAX_MSRS	481

static int get_registers(struct kvmi_env *env, unsigned int vcpu,
			 const uint32_t *msrs, unsigned int nmsrs,
			 struct kvmi_vcpu_get_registers_reply *rpl,
			 struct kvm_msr_entry *entries)
{
	size_t size = sizeof(*rpl) + nmsrs * sizeof(*entries);
	struct {
		struct kvmi_vcpu_get_registers req;
		uint32_t msrs[1024];
	} req = { .req = { .nmsrs = nmsrs } };
	uint8_t *buf = malloc(size);
	int err;

	memcpy(req.msrs, msrs, nmsrs * sizeof(*msrs));
	err = __kvmi_vcpu_cmd(env, vcpu, KVMI_VCPU_GET_REGISTERS, &req,
			      sizeof(req.req) + nmsrs * sizeof(*msrs), buf,
			      size);
	if (!err) {
		memcpy(rpl, buf, sizeof(*rpl));
		memcpy(entries, buf + sizeof(*rpl), nmsrs * sizeof(*entries));
	}
	free(buf);

	return err;
}

TEST_F_TIMEOUT(pause, get_registers, KVMI_TEST_TIMEOUT)
{
	static const uint32_t msrs[] = {
		MSR_EFER, MSR_LSTAR, MSR_STAR, MSR_IA32_CR_PAT, MSR_LSTAR,
		MSR_IA32_SYSENTER_EIP, MSR_KERNEL_GS_BASE,
	};
	struct kvm_msr_entry entries[ARRAY_SIZE(msrs)];
	struct kvmi_env *env = &self->env;
	struct kvmi_runner *r = &env->run[0];
	struct kvm_vcpu *vcpu = r->vcpu;
	struct kvmi_vcpu_get_registers_reply rpl;
	struct kvmi_vcpu_event_arch *arch;
	struct kvmi_event ev;
	struct kvm_sregs sregs;
	struct kvm_regs regs;
	int i;

	vcpu_set_msr(vcpu, MSR_LSTAR, 0xffffffff81234560ull);
	vcpu_set_msr(vcpu, MSR_STAR, 0x0023001000000000ull);
	vcpu_set_msr(vcpu, MSR_CSTAR, 0xffffffff80000010ull);
	vcpu_set_msr(vcpu, MSR_KERNEL_GS_BASE, 0xffff888000001000ull);
	/* AMD keeps 32 bits of these. */
	vcpu_set_msr(vcpu, MSR_IA32_SYSENTER_CS, 0x10);
	vcpu_set_msr(vcpu, MSR_IA32_SYSENTER_ESP, 0xaabb0000);
	vcpu_set_msr(vcpu, MSR_IA32_SYSENTER_EIP, 0x81aabbcc);

	get_paused(env, self->stop, &ev);
	arch = &ev.common.arch;
	TEST_ASSERT_EQ(get_registers(env, 0, msrs, ARRAY_SIZE(msrs), &rpl,
				     entries), 0);
	/* again, without MSRs */
	TEST_ASSERT_EQ(get_registers(env, 0, NULL, 0, &rpl, NULL), 0);
	TEST_ASSERT_EQ(rpl.msrs.nmsrs, 0);
	TEST_ASSERT_EQ(get_registers(env, 0, msrs, ARRAY_SIZE(msrs), &rpl,
				     entries), 0);

	/* Let the VMM have a look. */
	kvmi_runner_kick(r);
	kvmi_runner_wait_exit(r);
	vcpu_regs_get(r->vcpu, &regs);
	vcpu_sregs_get(r->vcpu, &sregs);

	TEST_ASSERT_EQ(rpl.mode, 8);
	TEST_ASSERT_EQ(rpl.padding, 0);
	TEST_ASSERT(!memcmp(&rpl.regs, &regs, sizeof(regs)), "regs");
	TEST_ASSERT(!memcmp(&rpl.sregs, &sregs, sizeof(sregs)), "sregs");
	TEST_ASSERT_EQ(rpl.msrs.nmsrs, ARRAY_SIZE(msrs));
	TEST_ASSERT_EQ(rpl.msrs.pad, 0);
	for (i = 0; i < ARRAY_SIZE(msrs); i++) {
		TEST_ASSERT_EQ(entries[i].index, msrs[i]);
		TEST_ASSERT_EQ(entries[i].reserved, 0);
		TEST_ASSERT_EQ(entries[i].data,
			       vcpu_get_msr(r->vcpu, msrs[i]));
	}

	/* The event has told the same. */
	TEST_ASSERT_EQ(arch->mode, 8);
	TEST_ASSERT(!memcmp(&arch->regs, &regs, sizeof(regs)), "event: regs");
	TEST_ASSERT(!memcmp(&arch->sregs, &sregs, sizeof(sregs)),
		    "event: sregs");
#define MSR(field, msr)							\
	TEST_ASSERT_EQ(arch->msrs.field, vcpu_get_msr(r->vcpu, msr))
	MSR(sysenter_cs, MSR_IA32_SYSENTER_CS);
	MSR(sysenter_esp, MSR_IA32_SYSENTER_ESP);
	MSR(sysenter_eip, MSR_IA32_SYSENTER_EIP);
	MSR(efer, MSR_EFER);
	MSR(star, MSR_STAR);
	MSR(lstar, MSR_LSTAR);
	MSR(cstar, MSR_CSTAR);
	MSR(pat, MSR_IA32_CR_PAT);
	MSR(shadow_gs, MSR_KERNEL_GS_BASE);
#undef MSR
	TEST_ASSERT_EQ(arch->msrs.star, 0x0023001000000000ull);

	kvmi_runner_go(r);
	kvmi_reply(&env->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	kvmi_runner_wait(r);
}

/* Of a vCPU that was not told to stop */
TEST_F_TIMEOUT(pause, get_registers_running, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_vcpu_get_registers_reply rpl;
	int i;

	start_spinning(&env->run[1], self->stop);
	for (i = 0; i < 10; i++) {
		TEST_ASSERT_EQ(get_registers(env, 1, NULL, 0, &rpl, NULL), 0);
		TEST_ASSERT(rpl.regs.rip >= (uint64_t)kvmi_insn_spin &&
			    rpl.regs.rip < (uint64_t)kvmi_insn_spin + 32,
			    "rip %#llx", rpl.regs.rip);
	}
	*self->stop = 1;
	kvmi_runner_wait(&env->run[1]);
}

TEST_F_TIMEOUT(pause, get_registers_limits, KVMI_TEST_TIMEOUT)
{
	struct kvm_msr_entry entries[MAX_MSRS + 1];
	struct kvmi_env *env = &self->env;
	struct kvmi_vcpu_get_registers_reply rpl;
	uint32_t msrs[MAX_MSRS + 1];
	struct {
		struct kvmi_vcpu_get_registers req;
		uint32_t msrs[4];
	} req = { .req = { .nmsrs = 4 } };
	int i;

	for (i = 0; i < ARRAY_SIZE(msrs); i++)
		msrs[i] = i & 1 ? MSR_EFER : MSR_LSTAR;

	TEST_ASSERT_EQ(get_registers(env, 0, msrs, MAX_MSRS, &rpl, entries), 0);
	TEST_ASSERT_EQ(rpl.msrs.nmsrs, MAX_MSRS);
	TEST_ASSERT_EQ(entries[MAX_MSRS - 1].index, MSR_LSTAR);
	TEST_ASSERT_EQ(entries[MAX_MSRS - 2].index, MSR_EFER);
	TEST_ASSERT_EQ(entries[MAX_MSRS - 2].data,
		       vcpu_get_msr(env->run[0].vcpu, MSR_EFER));
	TEST_ASSERT_EQ(get_registers(env, 0, msrs, MAX_MSRS + 1, &rpl, entries),
		       -KVM_EINVAL);

	/* one bad index among good ones */
	msrs[3] = 0x4fffffff;
	TEST_ASSERT_EQ(get_registers(env, 0, msrs, 3, &rpl, entries), 0);
	TEST_ASSERT_EQ(get_registers(env, 0, msrs, 6, &rpl, entries),
		       -KVM_EINVAL);

	/* fewer indices than announced */
	for (i = 0; i < 4; i++)
		req.msrs[i] = MSR_EFER;
	TEST_ASSERT_EQ(__kvmi_vcpu_cmd(env, 0, KVMI_VCPU_GET_REGISTERS, &req,
				       sizeof(req) - 4, NULL, 0), -KVM_EINVAL);
	TEST_ASSERT_EQ(__kvmi_vcpu_cmd(env, 0, KVMI_VCPU_GET_REGISTERS, &req,
				       sizeof(req) - 1, NULL, 0), -KVM_EINVAL);
	req.req.nmsrs = 0xffff;
	TEST_ASSERT_EQ(__kvmi_vcpu_cmd(env, 0, KVMI_VCPU_GET_REGISTERS, &req,
				       sizeof(req), NULL, 0), -KVM_EINVAL);

	/* padding */
	req.req.nmsrs = 1;
	req.req.padding1 = 1;
	TEST_ASSERT_EQ(__kvmi_vcpu_cmd(env, 0, KVMI_VCPU_GET_REGISTERS, &req,
				       sizeof(req), NULL, 0), -KVM_EINVAL);
	req.req.padding1 = 0;
	req.req.padding2 = 1;
	TEST_ASSERT_EQ(__kvmi_vcpu_cmd(env, 0, KVMI_VCPU_GET_REGISTERS, &req,
				       sizeof(req), NULL, 0), -KVM_EINVAL);
	kvmi_alive(&env->tool);
}

TEST_F_TIMEOUT(pause, control_events, KVMI_TEST_TIMEOUT)
{
	static const struct {
		struct kvmi_vcpu_control_events req;
		int err;
	} reqs[] = {
		{ { .event_id = KVMI_VCPU_EVENT_PF, .enable = 1 }, 0 },
		{ { .event_id = KVMI_VCPU_EVENT_PF, .enable = 1 }, 0 },
		{ { .event_id = KVMI_VCPU_EVENT_PF, .enable = 0 }, 0 },
		{ { .event_id = KVMI_VCPU_EVENT_PAUSE, .enable = 1 }, 0 },
		{ { .event_id = KVMI_VCPU_EVENT_PAUSE, .enable = 0 }, 0 },
		{ { .event_id = KVMI_VCPU_EVENT_PF, .enable = 2 }, -KVM_EINVAL },
		{ { .event_id = KVMI_VCPU_EVENT_PF, .enable = 0xff },
		  -KVM_EINVAL },
		{ { .event_id = KVMI_VCPU_EVENT_PF, .padding1 = 1 },
		  -KVM_EINVAL },
		{ { .event_id = KVMI_VCPU_EVENT_PF, .enable = 1,
		    .flags = 2 }, -KVM_EINVAL },
		{ { .event_id = KVMI_VCPU_EVENT_PF, .enable = 1,
		    .flags = 0x80 | KVMI_PF_WALK }, -KVM_EINVAL },
		{ { .event_id = KVMI_VCPU_EVENT_CR, .enable = 1,
		    .flags = KVMI_PF_WALK }, -KVM_EINVAL },
		{ { .event_id = KVMI_VCPU_EVENT_PAUSE, .padding1 = 1 },
		  -KVM_EINVAL },
		{ { .event_id = KVMI_VCPU_EVENT_PF, .padding2 = 1 },
		  -KVM_EINVAL },
		{ { .event_id = KVMI_VM_EVENT_UNHOOK }, -KVM_EINVAL },
		{ { .event_id = 2 }, -KVM_EINVAL },
		{ { .event_id = 21 }, -KVM_EINVAL },
		{ { .event_id = 0xffff }, -KVM_EINVAL },
	};
	struct kvmi_env *env = &self->env;
	struct kvmi_event ev;
	int i;

	for (i = 0; i < ARRAY_SIZE(reqs); i++) {
		int err = __kvmi_vcpu_cmd(env, 0, KVMI_VCPU_CONTROL_EVENTS,
					  &reqs[i].req, sizeof(reqs[i].req),
					  NULL, 0);

		TEST_ASSERT(err == reqs[i].err, "request %d: %d", i, err);
	}

	/* PAUSE cannot be turned off. */
	pause_vcpu(env, 0, false);
	kvmi_runner_do(&env->run[0], kvmi_insn_nop, 0, 0);
	wait_pause(env, 0, &ev);
	kvmi_reply(&env->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	kvmi_runner_wait(&env->run[0]);
}

/* These errors are found before the vCPU is asked. */
TEST_F_TIMEOUT(pause, vcpu_command_errors, KVMI_TEST_TIMEOUT)
{
	struct kvm_mp_state uninit = { .mp_state = KVM_MP_STATE_UNINITIALIZED };
	struct kvm_mp_state runnable = { .mp_state = KVM_MP_STATE_RUNNABLE };
	struct kvmi_env *env = &self->env;
	struct kvmi_tool *tool = &env->tool;
	static const struct {
		struct kvmi_vcpu_hdr hdr;
	} reqs[] = {
		{ { .vcpu = 2 } }, { { .vcpu = 0xffff } },
		{ { .padding1 = 1 } }, { { .padding2 = 1 } },
		{ { .padding2 = 0x80000000 } },
	};
	static const uint16_t cmds[] = {
		KVMI_VCPU_GET_REGISTERS, KVMI_VCPU_CONTROL_EVENTS,
	};
	struct kvmi_vcpu_hdr hdr = { .vcpu = 1 };
	struct kvmi_vcpu_get_registers_reply rpl;
	int i, j;

	for (i = 0; i < ARRAY_SIZE(cmds); i++) {
		for (j = 0; j < ARRAY_SIZE(reqs); j++) {
			int err = __kvmi_cmd(tool, cmds[i], &reqs[j],
					     sizeof(reqs[j]), NULL, 0);

			TEST_ASSERT(err == -KVM_EINVAL, "request %d: %d", j,
				    err);
		}
	}

	/* The guest has not started this vCPU. */
	vcpu_mp_state_set(env->run[1].vcpu, &uninit);
	TEST_ASSERT_EQ(__kvmi_cmd(tool, KVMI_VCPU_GET_REGISTERS, &hdr,
				  sizeof(hdr), NULL, 0), -KVM_EAGAIN);
	vcpu_mp_state_set(env->run[1].vcpu, &runnable);
	TEST_ASSERT_EQ(get_registers(env, 1, NULL, 0, &rpl, NULL), 0);
}

/* Commands for one vCPU are carried out in their order. */
TEST_F_TIMEOUT(pause, vcpu_command_order, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_tool *tool = &env->tool;
	struct kvmi_vcpu_get_registers_reply rpl;
	struct kvmi_vcpu_get_registers req = { };
	uint32_t seq[32];
	int i;

	/* sent while the vCPU is in user space, where it does not listen */
	for (i = 0; i < ARRAY_SIZE(seq); i++)
		seq[i] = kvmi_vcpu_send(tool, 0, KVMI_VCPU_GET_REGISTERS, &req,
					sizeof(req));
	kvmi_alive(tool);
	kvmi_no_event(tool);

	kvmi_runner_do(&env->run[0], kvmi_insn_nop, 0, 0);
	for (i = 0; i < ARRAY_SIZE(seq); i++)
		TEST_ASSERT_EQ(__kvmi_recv_reply(tool, KVMI_VCPU_GET_REGISTERS,
						 seq[i], &rpl, sizeof(rpl)), 0);
	kvmi_runner_wait(&env->run[0]);
}

/* Commands that no vCPU has come for yet do not outlive the session. */
TEST_F_TIMEOUT(pause, pending_at_unhook, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_vcpu_get_registers req = { };
	int i, gone;

	for (gone = 0; gone < 2; gone++) {
		for (i = 0; i < 8; i++) {
			kvmi_vcpu_send(&env->tool, i & 1,
				       KVMI_VCPU_GET_REGISTERS, &req,
				       sizeof(req));
			pause_vcpu(env, i & 1, false);
		}
		kvmi_alive(&env->tool);
		if (gone)
			kvmi_tool_close(&env->tool);
		else
			kvmi_env_unhook(env);
		kvmi_env_hook(env);
		run_nop(&env->run[0]);
		run_nop(&env->run[1]);
		kvmi_no_event(&env->tool);
		kvmi_alive(&env->tool);
	}
}

int main(int argc, char *argv[])
{
	TEST_REQUIRE(kvmi_supported());

	return test_harness_run(argc, argv);
}
