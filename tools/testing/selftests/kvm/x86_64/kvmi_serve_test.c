// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM introspection: vCPU commands are served wherever the vCPU is, many of
 * them to many vCPUs at a time, and each gets its own reply.
 */
#include "test_util.h"
#include "kvm_util.h"
#include "kselftest_harness.h"
#include "kvmi_util.h"

#define NR_VCPUS	3

/* Commands that read, for they are the same at any time. */
static const struct {
	uint16_t id;
	uint16_t req_size, rpl_size;
} cmds[] = {
	{ KVMI_VCPU_GET_INFO, 0, 8 },
	{ KVMI_VCPU_GET_REGISTERS, 8, 472 },
	{ KVMI_VCPU_GET_CPUID, 8, 16 },
	{ KVMI_VCPU_GET_XCR, 8, 8 },
	{ KVMI_VCPU_GET_XSAVE, 0, 4096 },
	{ KVMI_VCPU_GET_MTRR_TYPE, 8, 8 },
	{ KVMI_VCPU_TRANSLATE_GVA, 8, 8 },
};

FIXTURE(serve)
{
	struct kvmi_env env;
	volatile uint64_t *stop;
};

FIXTURE_SETUP(serve)
{
	kvmi_env_create(&self->env, NR_VCPUS);
	kvmi_env_hook(&self->env);
	self->stop = kvmi_hva(&self->env, 0, 0);
}

FIXTURE_TEARDOWN(serve)
{
	*self->stop = 1;
	kvmi_env_destroy(&self->env);
}

static uint32_t send_cmd(struct kvmi_env *env, uint16_t vcpu, int i)
{
	static const uint8_t req[16];

	return kvmi_vcpu_send(&env->tool, vcpu, cmds[i].id, req,
			      cmds[i].req_size);
}

/* All of the commands, one after the other, on a vCPU that is in KVM_RUN */
static void serve_all(struct kvmi_env *env, uint16_t vcpu)
{
	uint8_t rpl[4096];
	int i, err;

	for (i = 0; i < ARRAY_SIZE(cmds); i++) {
		uint32_t seq = send_cmd(env, vcpu, i);

		err = __kvmi_recv_reply(&env->tool, cmds[i].id, seq, rpl,
					cmds[i].rpl_size);
		TEST_ASSERT(!err, "command %u: error %d", cmds[i].id, err);
	}
}

static void start_spinning(FIXTURE_DATA(serve) * self, int vcpu)
{
	*self->stop = 0;
	kvmi_runner_do(&self->env.run[vcpu], kvmi_insn_spin, KVMI_TEST_GVA, 1);
	usleep(20000);
}

/* ---- wherever the vCPU is ---- */

TEST_F_TIMEOUT(serve, running, KVMI_TEST_TIMEOUT)
{
	int i;

	start_spinning(self, 0);
	for (i = 0; i < 5; i++)
		serve_all(&self->env, 0);
	TEST_ASSERT(!kvmi_runner_poll(&self->env.run[0], 0), "the loop ended");
	*self->stop = 1;
	kvmi_runner_wait(&self->env.run[0]);
}

TEST_F_TIMEOUT(serve, halted, KVMI_TEST_TIMEOUT)
{
	struct kvmi_runner *r = &self->env.run[0];
	int i;

	kvmi_runner_do(r, kvmi_insn_hlt, 0, 0);
	usleep(20000);
	for (i = 0; i < 5; i++)
		serve_all(&self->env, 0);
	TEST_ASSERT(!kvmi_runner_poll(r, 0), "the halt ended");
	kvmi_runner_kick(r);
	kvmi_runner_wait_exit(r);
	TEST_ASSERT_EQ(r->err, EINTR);
}

TEST_F_TIMEOUT(serve, waiting_for_reply, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_event ev;
	int i;

	kvmi_control_event(env, 0, KVMI_VCPU_EVENT_PF, true);
	kvmi_set_page_access(&env->tool, kvmi_gpa(1, 0), KVMI_PAGE_ACCESS_R);
	kvmi_runner_do(&env->run[0], kvmi_insn_write, kvmi_gva(1, 0), 3);
	kvmi_wait_event(&env->tool, KVMI_VCPU_EVENT_PF, &ev);
	for (i = 0; i < 5; i++) {
		serve_all(env, 0);
		/* and after a signal */
		kvmi_runner_kick(&env->run[0]);
		kvmi_runner_wait_exit(&env->run[0]);
		TEST_ASSERT_EQ(env->run[0].err, EINTR);
		kvmi_runner_go(&env->run[0]);
	}
	TEST_ASSERT_EQ(*(uint64_t *)kvmi_hva(env, 1, 0), 0);
	kvmi_reply(&env->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	kvmi_runner_wait(&env->run[0]);
	TEST_ASSERT_EQ(*(uint64_t *)kvmi_hva(env, 1, 0), 3);
	kvmi_no_event(&env->tool);
}

/* Sent before KVM_RUN has ever been called, and served before the guest runs. */
TEST_F_TIMEOUT(serve, never_run, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_vcpu_get_registers_reply rpl;
	uint32_t seq[ARRAY_SIZE(cmds)];
	uint8_t data[4096];
	int i, err;

	for (i = 0; i < ARRAY_SIZE(cmds); i++)
		seq[i] = send_cmd(env, 2, i);
	kvmi_alive(&env->tool);

	kvmi_runner_do(&env->run[2], kvmi_insn_nop, 0, 0);
	for (i = 0; i < ARRAY_SIZE(cmds); i++) {
		err = __kvmi_recv_reply(&env->tool, cmds[i].id, seq[i], data,
					cmds[i].rpl_size);
		TEST_ASSERT(!err, "command %u: error %d", cmds[i].id, err);
		if (cmds[i].id != KVMI_VCPU_GET_REGISTERS)
			continue;
		memcpy(&rpl, data, sizeof(rpl));
		TEST_ASSERT_EQ(rpl.regs.rip, (uint64_t)kvmi_guest_main);
	}
	kvmi_runner_wait(&env->run[2]);
}

/* ---- many at a time ---- */

/*
 * Each vCPU is somewhere else: in the guest, halted, in an event.  The replies
 * of one come in the order of its commands, between those of the others.
 */
TEST_F_TIMEOUT(serve, in_flight, KVMI_TEST_TIMEOUT)
{
	enum { ROUNDS = 5, NR = ROUNDS * ARRAY_SIZE(cmds) };
	struct kvmi_env *env = &self->env;
	struct {
		uint16_t id;
		uint32_t seq;
		uint32_t size;
	} sent[NR_VCPUS][NR];
	unsigned int got[NR_VCPUS] = { }, total = 0, n, v, i;
	struct kvmi_event ev;
	struct kvmi_msg msg;

	TEST_ASSERT_EQ(__kvmi_pause_vcpu(&env->tool, 2, false), 0);
	kvmi_runner_do(&env->run[2], kvmi_insn_nop, 0, 0);
	kvmi_wait_event(&env->tool, KVMI_VCPU_EVENT_PAUSE, &ev);
	kvmi_runner_do(&env->run[1], kvmi_insn_hlt, 0, 0);
	start_spinning(self, 0);

	for (n = 0; n < NR; n++) {
		for (v = 0; v < NR_VCPUS; v++) {
			i = (n + v) % ARRAY_SIZE(cmds);
			sent[v][n].id = cmds[i].id;
			sent[v][n].size = cmds[i].rpl_size;
			sent[v][n].seq = send_cmd(env, v, i);
		}
		/* A reply of the VM's fits in anywhere. */
		if (n % 10 == 9)
			kvmi_send(&env->tool, KVMI_GET_VERSION, NULL, 0);
	}

	while (total < NR_VCPUS * NR + NR / 10) {
		const struct kvmi_error_code *ec = (void *)msg.data;

		TEST_ASSERT(kvmi_recv(&env->tool, &msg, KVMI_TIMEOUT_MS) ==
			    KVMI_RECV_MSG, "%u replies of %u", total,
			    NR_VCPUS * NR + NR / 10);
		TEST_ASSERT(!ec->err, "message %u: error %d", msg.hdr.id,
			    ec->err);
		total++;
		if (msg.hdr.id == KVMI_GET_VERSION)
			continue;

		for (v = 0; v < NR_VCPUS; v++)
			if (got[v] < NR &&
			    sent[v][got[v]].seq == msg.hdr.seq)
				break;
		TEST_ASSERT(v < NR_VCPUS, "seq %u is out of order",
			    msg.hdr.seq);
		TEST_ASSERT_EQ(msg.hdr.id, sent[v][got[v]].id);
		TEST_ASSERT_EQ(msg.hdr.size, sizeof(*ec) + sent[v][got[v]].size);
		got[v]++;
	}

	kvmi_reply(&env->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	kvmi_runner_wait(&env->run[2]);
	*self->stop = 1;
	kvmi_runner_wait(&env->run[0]);
	kvmi_runner_kick(&env->run[1]);
	kvmi_runner_wait_exit(&env->run[1]);
	kvmi_alive(&env->tool);
}

int main(int argc, char *argv[])
{
	TEST_REQUIRE(kvmi_supported());

	return test_harness_run(argc, argv);
}
