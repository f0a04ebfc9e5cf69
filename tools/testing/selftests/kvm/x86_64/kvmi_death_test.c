// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM introspection: either side may go at any moment, and the other lives on:
 * a guest without its tool as if there had never been one, a tool without its
 * guest with nothing but a closed connection.
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "test_util.h"
#include "kvm_util.h"
#include "kselftest_harness.h"
#include "kvmi_util.h"

#define R	KVMI_PAGE_ACCESS_R
#define W	KVMI_PAGE_ACCESS_W
#define X	KVMI_PAGE_ACCESS_X

static void wait_child(pid_t pid)
{
	int status, i;
	pid_t p;

	/* Not waitpid() alone: what if it cannot be killed? */
	for (i = 0; i < KVMI_TIMEOUT_MS / 10; i++) {
		p = waitpid(pid, &status, WNOHANG);
		TEST_ASSERT(p >= 0, __KVM_SYSCALL_ERROR("waitpid()", p));
		if (p)
			return;
		usleep(10000);
	}
	TEST_FAIL("process %d does not end", pid);
}

static void kill_child(pid_t pid)
{
	kill(pid, SIGKILL);
	wait_child(pid);
}

/* ---- the tool goes ---- */

FIXTURE(tool)
{
	struct kvmi_env env;
	pid_t child;
};

FIXTURE_VARIANT(tool)
{
	bool kill;
};

/* The tool closes its socket, */
FIXTURE_VARIANT_ADD(tool, closed) { .kill = false };
/* or, living in a process of its own, is killed. */
FIXTURE_VARIANT_ADD(tool, killed) { .kill = true };

FIXTURE_SETUP(tool)
{
	struct kvmi_env *env = &self->env;
	int i;

	kvmi_env_create(env, 2);
	kvmi_env_hook(env);
	for (i = 0; i < 2; i++)
		kvmi_control_event(env, i, KVMI_VCPU_EVENT_PF, true);
}

FIXTURE_TEARDOWN(tool)
{
	kvmi_env_destroy(&self->env);
}

/*
 * In the killed variant a child holds the socket, too; from then on it is the
 * child's death that closes it.
 */
static void end_tool(struct kvmi_env *env, bool by_kill)
{
	pid_t pid;

	if (!by_kill) {
		kvmi_tool_close(&env->tool);
		return;
	}

	pid = fork();
	TEST_ASSERT(pid >= 0, __KVM_SYSCALL_ERROR("fork()", pid));
	if (!pid) {
		for (;;)
			pause();
	}
	kvmi_tool_close(&env->tool);
	kill_child(pid);
}

/* Nothing is left that the guest could notice. */
static void guest_is_free(struct kvmi_env *env)
{
	unsigned int i, page;

	for (i = 0; i < env->nr_vcpus; i++) {
		for (page = 0; page < 4; page++) {
			*(uint64_t *)kvmi_hva(env, page, 0) = page;
			kvmi_runner_do(&env->run[i], kvmi_insn_add,
				       kvmi_gva(page, 0), 1);
			kvmi_runner_wait(&env->run[i]);
			TEST_ASSERT_EQ(*(uint64_t *)kvmi_hva(env, page, 0),
				       page + 1);
		}
	}
}

/* A new tool finds nothing of the old one's. */
static void next_tool(struct kvmi_env *env)
{
	struct kvmi_recs recs = { .action = KVMI_EVENT_ACTION_CONTINUE };
	unsigned int i;

	kvmi_env_hook(env);
	for (i = 0; i < env->nr_vcpus; i++) {
		kvmi_control_event(env, i, KVMI_VCPU_EVENT_PF, true);
		kvmi_env_access(env, i, kvmi_insn_add, kvmi_gva(2, 0), 1,
				kvmi_record, &recs, NULL);
		TEST_ASSERT(!recs.nr, "a restriction is left");
	}
	kvmi_set_page_access(&env->tool, kvmi_gpa(2, 0), R | X);
	for (i = 0; i < env->nr_vcpus; i++)
		kvmi_env_access(env, i, kvmi_insn_write, kvmi_gva(2, 0), 1,
				kvmi_record, &recs, NULL);
	TEST_ASSERT_EQ(recs.nr, env->nr_vcpus);
}

TEST_F_TIMEOUT(tool, idle, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;

	kvmi_set_page_access(&env->tool, kvmi_gpa(2, 0), 0);
	end_tool(env, variant->kill);
	guest_is_free(env);
	next_tool(env);
}

TEST_F_TIMEOUT(tool, pf_pending, KVMI_TEST_TIMEOUT)
{
	static const kvmi_insn insns[] = {
		kvmi_insn_read, kvmi_insn_write, kvmi_insn_xadd, kvmi_insn_exec,
	};
	struct kvmi_env *env = &self->env;
	struct kvmi_event ev;
	int i;

	for (i = 0; i < ARRAY_SIZE(insns); i++) {
		*(uint64_t *)kvmi_hva(env, 2, 8) = 1;
		*(uint8_t *)kvmi_hva(env, 2, 0x100) = 0xc3; /* ret */
		kvmi_set_page_access(&env->tool, kvmi_gpa(2, 0), 0);
		kvmi_runner_do(&env->run[0], insns[i],
			       kvmi_gva(2, insns[i] == kvmi_insn_exec ? 0x100 : 8),
			       5);
		kvmi_wait_event(&env->tool, KVMI_VCPU_EVENT_PF, &ev);

		end_tool(env, variant->kill);
		kvmi_runner_wait(&env->run[0]);
		TEST_ASSERT_EQ(*(uint64_t *)kvmi_hva(env, 2, 8),
			       insns[i] == kvmi_insn_write ? 5 :
			       insns[i] == kvmi_insn_xadd ? 6 : 1);
		guest_is_free(env);
		next_tool(env);
	}
}

/* Both vCPUs wait, in different kinds of event. */
TEST_F_TIMEOUT(tool, two_pending, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	volatile uint64_t *stop = kvmi_hva(env, 0, 0);
	struct kvmi_event ev;

	*stop = 0;
	kvmi_runner_do(&env->run[1], kvmi_insn_spin, kvmi_gva(0, 0), 1);
	kvmi_set_page_access(&env->tool, kvmi_gpa(2, 0), 0);
	kvmi_runner_do(&env->run[0], kvmi_insn_write, kvmi_gva(2, 8), 5);
	kvmi_wait_event(&env->tool, KVMI_VCPU_EVENT_PF, &ev);
	TEST_ASSERT_EQ(__kvmi_pause_vcpu(&env->tool, 1, true), 0);
	kvmi_wait_event(&env->tool, KVMI_VCPU_EVENT_PAUSE, &ev);
	*stop = 1;

	end_tool(env, variant->kill);
	kvmi_runner_wait(&env->run[0]);
	kvmi_runner_wait(&env->run[1]);
	guest_is_free(env);
	next_tool(env);
}

/* The vCPU's thread is in user space, its event unanswered. */
TEST_F_TIMEOUT(tool, pending_in_user_space, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_runner *r = &env->run[0];
	struct kvmi_event ev;

	kvmi_set_page_access(&env->tool, kvmi_gpa(2, 0), R);
	kvmi_runner_do(r, kvmi_insn_xadd, kvmi_gva(2, 8), 5);
	kvmi_wait_event(&env->tool, KVMI_VCPU_EVENT_PF, &ev);
	kvmi_runner_kick(r);
	kvmi_runner_wait_exit(r);
	TEST_ASSERT_EQ(r->err, EINTR);

	*(uint64_t *)kvmi_hva(env, 2, 8) = 1;
	end_tool(env, variant->kill);
	/* A new session does not inherit the old one's question. */
	kvmi_env_hook(env);
	kvmi_runner_go(r);
	kvmi_runner_wait(r);
	TEST_ASSERT_EQ(*(uint64_t *)kvmi_hva(env, 2, 8), 6);
	kvmi_no_event(&env->tool);
	kvmi_env_unhook(env);
	next_tool(env);
}

/* A halted vCPU with a pause pending */
TEST_F_TIMEOUT(tool, halted, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_runner *r = &env->run[0];
	struct kvmi_event ev;

	kvmi_runner_do(r, kvmi_insn_hlt, 0, 0);
	TEST_ASSERT_EQ(__kvmi_pause_vcpu(&env->tool, 0, true), 0);
	kvmi_wait_event(&env->tool, KVMI_VCPU_EVENT_PAUSE, &ev);
	end_tool(env, variant->kill);
	kvmi_env_hook(env);
	kvmi_alive(&env->tool);
	TEST_ASSERT(!kvmi_runner_poll(r, KVMI_QUIET_MS), "halt ended");

	kvmi_runner_kick(r);
	kvmi_runner_wait_exit(r);
	TEST_ASSERT_EQ(r->err, EINTR);
}

/* Half a message written; commands not read; replies not read */
TEST_F_TIMEOUT(tool, in_mid_sentence, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_vcpu_get_registers req = { };
	int i, what;

	for (what = 0; what < 4; what++) {
		kvmi_set_page_access(&env->tool, kvmi_gpa(2, 0), 0);

		for (i = 0; i < 50; i++) {
			switch (what) {
			case 0:
				kvmi_send(&env->tool, KVMI_GET_VERSION, NULL, 0);
				break;
			case 1:
				kvmi_vcpu_send(&env->tool, i & 1,
					       KVMI_VCPU_GET_REGISTERS, &req,
					       sizeof(req));
				break;
			case 2: {
				struct kvmi_vm_pause_vcpu pause = {
					.vcpu = i & 1, .wait = 1,
				};

				kvmi_send(&env->tool, KVMI_VM_PAUSE_VCPU, &pause,
					  sizeof(pause));
				break;
			}
			}
		}
		if (what == 3) {
			struct kvmi_msg_hdr hdr = {
				.id = KVMI_VM_WRITE_PHYSICAL, .size = 4000,
			};

			kvmi_write(&env->tool, &hdr, sizeof(hdr));
		}

		end_tool(env, variant->kill);
		guest_is_free(env);
		next_tool(env);
	}
}

/*
 * A tool that does not read: the kernel's messages have nowhere to go.  The
 * VMM must be able to end this.
 */
static void unhook(void *arg)
{
	struct kvmi_env *env = arg;

	vm_kvmi_unhook(env->vm);
}

TEST_F_TIMEOUT(tool, deaf, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_msg_hdr hdr = { .id = KVMI_VM_GET_INFO };
	struct pollfd pfd = { .fd = env->tool.fd, .events = POLLOUT };
	int i;

	/* until nobody takes them any more */
	fcntl(env->tool.fd, F_SETFL, O_NONBLOCK);
	for (i = 0; i < 1000000; i++) {
		if (send(env->tool.fd, &hdr, sizeof(hdr), MSG_NOSIGNAL) > 0)
			continue;
		TEST_ASSERT_EQ(errno, EAGAIN);
		if (!poll(&pfd, 1, 1000))
			break;
	}

	if (variant->kill)
		end_tool(env, true);
	kvmi_must_return("UNHOOK", unhook, env);
	kvmi_tool_close(&env->tool);
	guest_is_free(env);
	next_tool(env);
}

/* The last word of a tool counts, if it came before the end. */
TEST_F_TIMEOUT(tool, crash_and_go, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_runner *r = &env->run[0];
	struct kvmi_event ev;

	*(uint64_t *)kvmi_hva(env, 2, 8) = 1;
	kvmi_set_page_access(&env->tool, kvmi_gpa(2, 0), R | X);
	kvmi_runner_do(r, kvmi_insn_xadd, kvmi_gva(2, 8), 5);
	kvmi_wait_event(&env->tool, KVMI_VCPU_EVENT_PF, &ev);
	kvmi_reply(&env->tool, &ev, KVMI_EVENT_ACTION_CRASH);
	end_tool(env, variant->kill);

	kvmi_runner_wait_exit(r);
	TEST_ASSERT_EQ(r->ret, 0);
	TEST_ASSERT_KVM_EXIT_REASON(r->vcpu, KVM_EXIT_SHUTDOWN);
	TEST_ASSERT_EQ(*(uint64_t *)kvmi_hva(env, 2, 8), 1);
}

/*
 * A vCPU whose event waits reads what the tool floods it with, and answers it
 * although nobody takes the answers.  It comes back at a signal all the same.
 */
TEST_F_TIMEOUT(tool, flood_and_signal, KVMI_TEST_TIMEOUT)
{
	struct kvmi_vcpu_control_events req = {
		.event_id = KVMI_VCPU_EVENT_PF, .enable = 1,
	};
	struct kvmi_env *env = &self->env;
	struct kvmi_runner *r = &env->run[0];
	struct pollfd pfd = { .fd = env->tool.fd, .events = POLLOUT };
	struct {
		struct kvmi_msg_hdr hdr;
		struct kvmi_vcpu_hdr vcpu;
		struct kvmi_vcpu_control_events req;
	} msg = {
		.hdr = {
			.id = KVMI_VCPU_CONTROL_EVENTS,
			.size = sizeof(msg) - sizeof(msg.hdr),
		},
		.req = req,
	};
	struct kvmi_event ev;
	int i;

	kvmi_set_page_access(&env->tool, kvmi_gpa(2, 0), R | X);
	kvmi_runner_do(r, kvmi_insn_xadd, kvmi_gva(2, 8), 5);
	kvmi_wait_event(&env->tool, KVMI_VCPU_EVENT_PF, &ev);

	fcntl(env->tool.fd, F_SETFL, O_NONBLOCK);
	for (i = 0; i < 1000000; i++) {
		if (send(env->tool.fd, &msg, sizeof(msg), MSG_NOSIGNAL) > 0)
			continue;
		TEST_ASSERT_EQ(errno, EAGAIN);
		if (!poll(&pfd, 1, 1000))
			break;
	}

	for (i = 0; i < 3; i++) {
		kvmi_runner_kick(r);
		kvmi_runner_wait_exit(r);
		TEST_ASSERT(r->ret == -1 && r->err == EINTR,
			    "KVM_RUN: %d, errno %d", r->ret, r->err);
		kvmi_runner_go(r);
		usleep(20000);
	}

	end_tool(env, variant->kill);
	kvmi_runner_wait(r);
	guest_is_free(env);
	next_tool(env);
}

/* A guest in full flight */
TEST_F_TIMEOUT(tool, under_load, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	volatile uint64_t *stop = kvmi_hva(env, 2, 0);
	struct kvmi_event ev;
	int round, i;

	for (round = 0; round < 6; round++) {
		*stop = 0;
		kvmi_set_page_access(&env->tool, kvmi_gpa(2, 0), 0);
		for (i = 0; i < 2; i++)
			kvmi_runner_do(&env->run[i], kvmi_insn_spin,
				       kvmi_gva(2, 0), 1);
		for (i = 0; i < 20 + round; i++) {
			kvmi_wait_event(&env->tool, KVMI_VCPU_EVENT_PF, &ev);
			kvmi_reply(&env->tool, &ev,
				   i & 2 ? KVMI_EVENT_ACTION_CONTINUE :
					   KVMI_EVENT_ACTION_RETRY);
		}
		/* right after an answer, or a little later */
		if (round & 1)
			usleep(500 * round);
		end_tool(env, variant->kill);
		*stop = 1;
		for (i = 0; i < 2; i++)
			kvmi_runner_wait(&env->run[i]);
		guest_is_free(env);
		next_tool(env);
	}
}

/* ---- the VMM ends it ---- */

TEST_F_TIMEOUT(tool, unhook_pf_pending, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_event ev;
	int i;

	for (i = 0; i < 3; i++) {
		*(uint64_t *)kvmi_hva(env, 2, 8) = 1;
		kvmi_set_page_access(&env->tool, kvmi_gpa(2, 0), R | X);
		kvmi_runner_do(&env->run[0], kvmi_insn_xadd, kvmi_gva(2, 8), 5);
		kvmi_wait_event(&env->tool, KVMI_VCPU_EVENT_PF, &ev);

		kvmi_must_return("UNHOOK", unhook, env);
		kvmi_runner_wait(&env->run[0]);
		TEST_ASSERT_EQ(*(uint64_t *)kvmi_hva(env, 2, 8), 6);
		kvmi_wait_closed(&env->tool);
		kvmi_tool_close(&env->tool);
		guest_is_free(env);
		next_tool(env);
	}
}

/* ---- the VM goes ---- */

struct vmm {
	struct kvmi_tool tool;
	int kernel_fd;
	int ctl[2];	/* the test's end, and that of the VMM's process */
};

FIXTURE(vm)
{
	struct vmm vmm;
};

FIXTURE_VARIANT(vm)
{
	bool kill;
};

FIXTURE_VARIANT_ADD(vm, exits) { .kill = false };
FIXTURE_VARIANT_ADD(vm, killed) { .kill = true };

FIXTURE_SETUP(vm)
{
	int fd;

	kvmi_socketpair(&fd, &self->vmm.kernel_fd);
	kvmi_tool_init(&self->vmm.tool, fd);
	TEST_ASSERT(!socketpair(AF_UNIX, SOCK_SEQPACKET, 0, self->vmm.ctl),
		    "socketpair()");
}

FIXTURE_TEARDOWN(vm)
{
	kvmi_tool_close(&self->vmm.tool);
	close(self->vmm.ctl[0]);
}

enum vmm_state {
	VMM_IDLE,	/* no vCPU has ever run */
	VMM_SPIN,	/* one runs */
	VMM_WRITE,	/* one writes to page 2 */
	VMM_BOTH,	/* two write to page 2 */
	VMM_AWAY,	/* one has written, and is back with a signal */
};

/*
 * A VMM in a process of its own, that does what it is told to, and then exits
 * when told so.
 */
static void vmm_main(struct vmm *vmm, enum vmm_state state)
{
	struct kvmi_env env;
	char c;

	close(vmm->tool.fd);
	close(vmm->ctl[0]);

	kvmi_env_create(&env, 2);
	vm_kvmi_hook(env.vm, vmm->kernel_fd);
	close(vmm->kernel_fd);
	vm_kvmi_allow_command(env.vm, -1, 1);
	vm_kvmi_allow_event(env.vm, -1, 1);
	*(uint64_t *)kvmi_hva(&env, 0, 0) = 0;

	if (state != VMM_IDLE) {
		/* for CONTROL_EVENTS */
		kvmi_runner_do(&env.run[0], kvmi_insn_spin, kvmi_gva(0, 0), 1);
		kvmi_runner_do(&env.run[1], kvmi_insn_spin, kvmi_gva(0, 0), 1);
	}
	TEST_ASSERT(send(vmm->ctl[1], "h", 1, 0) == 1, "send()");

	TEST_ASSERT(recv(vmm->ctl[1], &c, 1, 0) == 1, "recv()");
	if (state >= VMM_WRITE) {
		*(uint64_t *)kvmi_hva(&env, 0, 0) = 1;
		kvmi_runner_wait(&env.run[0]);
		kvmi_runner_wait(&env.run[1]);
		kvmi_runner_do(&env.run[0], kvmi_insn_write, kvmi_gva(2, 8), 5);
		if (state == VMM_BOTH)
			kvmi_runner_do(&env.run[1], kvmi_insn_write,
				       kvmi_gva(2, 16), 5);
	}
	TEST_ASSERT(send(vmm->ctl[1], "w", 1, 0) == 1, "send()");

	TEST_ASSERT(recv(vmm->ctl[1], &c, 1, 0) == 1, "recv()");
	if (state == VMM_AWAY) {
		kvmi_runner_kick(&env.run[0]);
		kvmi_runner_wait_exit(&env.run[0]);
	}
	TEST_ASSERT(send(vmm->ctl[1], "a", 1, 0) == 1, "send()");

	/* The end: all at once, as if by exit(). */
	TEST_ASSERT(recv(vmm->ctl[1], &c, 1, 0) == 1, "recv()");
	_exit(0);
}

static void tell(struct vmm *vmm, char c)
{
	TEST_ASSERT(send(vmm->ctl[0], &c, 1, MSG_NOSIGNAL) == 1,
		    "the VMM's process has failed");
}

static void told(struct vmm *vmm, char want)
{
	struct pollfd pfd = { .fd = vmm->ctl[0], .events = POLLIN };
	char c;

	TEST_ASSERT(poll(&pfd, 1, KVMI_TIMEOUT_MS) == 1, "no sign of the VMM");
	TEST_ASSERT(recv(vmm->ctl[0], &c, 1, 0) == 1 && c == want,
		    "the VMM's process has failed");
}

static void enable_pf(struct vmm *vmm, uint16_t vcpu)
{
	struct kvmi_vcpu_control_events req = {
		.event_id = KVMI_VCPU_EVENT_PF, .enable = 1,
	};
	uint32_t seq = kvmi_vcpu_send(&vmm->tool, vcpu,
				      KVMI_VCPU_CONTROL_EVENTS, &req,
				      sizeof(req));

	TEST_ASSERT_EQ(__kvmi_recv_reply(&vmm->tool, KVMI_VCPU_CONTROL_EVENTS,
					 seq, NULL, 0), 0);
}

static void vm_dies(struct vmm *vmm, enum vmm_state state, bool by_kill)
{
	struct kvmi_event ev;
	unsigned int nr = state == VMM_BOTH ? 2 : state >= VMM_WRITE ? 1 : 0;
	pid_t pid = fork();

	TEST_ASSERT(pid >= 0, __KVM_SYSCALL_ERROR("fork()", pid));
	if (!pid)
		vmm_main(vmm, state);
	close(vmm->kernel_fd);
	close(vmm->ctl[1]);

	told(vmm, 'h');
	kvmi_alive(&vmm->tool);
	if (state != VMM_IDLE) {
		enable_pf(vmm, 0);
		enable_pf(vmm, 1);
	}
	kvmi_set_page_access(&vmm->tool, kvmi_gpa(2, 0), R | X);
	tell(vmm, 'w');
	told(vmm, 'w');
	while (nr--)
		kvmi_wait_event(&vmm->tool, KVMI_VCPU_EVENT_PF, &ev);
	tell(vmm, 'a');
	told(vmm, 'a');
	kvmi_alive(&vmm->tool);

	if (by_kill)
		kill(pid, SIGKILL);
	else
		tell(vmm, 'x');
	/* The tool holds on to its end; that must not keep the VM alive. */
	wait_child(pid);
	kvmi_wait_closed(&vmm->tool);
	TEST_ASSERT(__kvmi_write(&vmm->tool, "12345678", 8) == -1 &&
		    errno == EPIPE, "errno %d", errno);
}

TEST_F_TIMEOUT(vm, idle, KVMI_TEST_TIMEOUT)
{
	vm_dies(&self->vmm, VMM_IDLE, variant->kill);
}

TEST_F_TIMEOUT(vm, running, KVMI_TEST_TIMEOUT)
{
	vm_dies(&self->vmm, VMM_SPIN, variant->kill);
}

TEST_F_TIMEOUT(vm, pf_pending, KVMI_TEST_TIMEOUT)
{
	vm_dies(&self->vmm, VMM_WRITE, variant->kill);
}

TEST_F_TIMEOUT(vm, two_pending, KVMI_TEST_TIMEOUT)
{
	vm_dies(&self->vmm, VMM_BOTH, variant->kill);
}

TEST_F_TIMEOUT(vm, pending_in_user_space, KVMI_TEST_TIMEOUT)
{
	vm_dies(&self->vmm, VMM_AWAY, variant->kill);
}

int main(int argc, char *argv[])
{
	TEST_REQUIRE(kvmi_supported());

	return test_harness_run(argc, argv);
}
