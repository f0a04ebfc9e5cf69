// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM introspection: sessions over each kind of stream socket.  Over TCP and
 * vsock a message may be sent in pieces, and must not be cut by another; with
 * buffers as small as here it is in pieces more often than not.
 */
#include <fcntl.h>
#include <poll.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <linux/vm_sockets.h>

#include "test_util.h"
#include "kvm_util.h"
#include "kselftest_harness.h"
#include "kvmi_util.h"

#define R	KVMI_PAGE_ACCESS_R
#define X	KVMI_PAGE_ACCESS_X

#define NR_VCPUS	2

FIXTURE(sock)
{
	struct kvmi_env env;
	volatile uint64_t *stop;
};

FIXTURE_VARIANT(sock)
{
	int family;
	int buf_size;
};

FIXTURE_VARIANT_ADD(sock, unix) { .family = AF_UNIX };
/* too small for a message to be sent whole */
FIXTURE_VARIANT_ADD(sock, unix_small) { .family = AF_UNIX, .buf_size = 4096 };
FIXTURE_VARIANT_ADD(sock, tcp) { .family = AF_INET, .buf_size = 8192 };
FIXTURE_VARIANT_ADD(sock, vsock) { .family = AF_VSOCK };

static void set_size(int fd, int opt, int size)
{
	int r;

	if (!size)
		return;
	r = setsockopt(fd, SOL_SOCKET, opt, &size, sizeof(size));
	TEST_ASSERT(!r, __KVM_SYSCALL_ERROR("setsockopt()", r));
}

static socklen_t get_address(int family, void *buf)
{
	struct sockaddr_in in = {
		.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	struct sockaddr_vm vm = {
		.svm_family = AF_VSOCK,
		.svm_cid = VMADDR_CID_LOCAL,
		.svm_port = VMADDR_PORT_ANY,
	};

	if (family == AF_INET) {
		memcpy(buf, &in, sizeof(in));
		return sizeof(in);
	}
	memcpy(buf, &vm, sizeof(vm));
	return sizeof(vm);
}

/* Returns false if there is no loopback of that family. */
static bool connect_pair(int family, int size, int *tool_fd, int *kernel_fd)
{
	struct sockaddr_storage addr;
	socklen_t len;
	int l;

	if (family == AF_UNIX) {
		kvmi_socketpair(tool_fd, kernel_fd);
		set_size(*kernel_fd, SO_SNDBUF, size);
		return true;
	}

	len = get_address(family, &addr);
	l = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (l < 0)
		return false;
	set_size(l, SO_SNDBUF, size);
	*tool_fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	TEST_ASSERT(*tool_fd >= 0, __KVM_SYSCALL_ERROR("socket()", *tool_fd));
	set_size(*tool_fd, SO_RCVBUF, size);

	if (bind(l, (void *)&addr, len) || listen(l, 1) ||
	    getsockname(l, (void *)&addr, &len) ||
	    connect(*tool_fd, (void *)&addr, len)) {
		close(l);
		close(*tool_fd);
		return false;
	}
	*kernel_fd = accept(l, NULL, NULL);
	TEST_ASSERT(*kernel_fd >= 0, __KVM_SYSCALL_ERROR("accept()", *kernel_fd));
	close(l);

	return true;
}

static bool hook(struct kvmi_env *env, const FIXTURE_VARIANT(sock) *variant)
{
	struct kvmi_vm_control_events req = {
		.event_id = KVMI_VM_EVENT_UNHOOK, .enable = 1,
	};
	int tool_fd, kernel_fd;

	if (!connect_pair(variant->family, variant->buf_size, &tool_fd,
			  &kernel_fd))
		return false;

	kvmi_env_hook_fds(env, tool_fd, kernel_fd);
	kvmi_cmd(&env->tool, KVMI_VM_CONTROL_EVENTS, &req, sizeof(req), NULL, 0);
	return true;
}

FIXTURE_SETUP(sock)
{
	struct kvmi_env *env = &self->env;

	kvmi_env_create(env, NR_VCPUS);
	self->stop = kvmi_hva(env, 0, 0);
	if (!hook(env, variant))
		SKIP(return, "no loopback");
}

FIXTURE_TEARDOWN(sock)
{
	*self->stop = 1;
	kvmi_env_destroy(&self->env);
}

/* ---- a session ---- */

/* Each vCPU has a word of its own, all in one page. */
#define WORD(vcpu)	(8 + 64 * (vcpu))

static void start_event(struct kvmi_env *env, unsigned int vcpu,
			struct kvmi_event *ev)
{
	*(uint64_t *)kvmi_hva(env, 2, WORD(vcpu)) = 1;
	kvmi_control_event(env, vcpu, KVMI_VCPU_EVENT_PF, true);
	kvmi_set_page_access(&env->tool, kvmi_gpa(2, 0), R | X);
	kvmi_runner_do(&env->run[vcpu], kvmi_insn_xadd, kvmi_gva(2, WORD(vcpu)),
		       5);
	kvmi_wait_event(&env->tool, KVMI_VCPU_EVENT_PF, ev);
	TEST_ASSERT_EQ(ev->vcpu, vcpu);
}

TEST_F_TIMEOUT(sock, session, KVMI_TEST_TIMEOUT)
{
	struct kvmi_msg_hdr hdr = { .id = KVMI_VM_GET_INFO, .seq = 7 };
	struct kvmi_vm_get_info_reply info;
	struct kvmi_env *env = &self->env;
	uint8_t page[PAGE_SIZE], xsave[4096];
	struct kvmi_event ev;
	unsigned int i;

	memset(kvmi_hva(env, 1, 0), 0x5a, PAGE_SIZE);
	for (i = 0; i < NR_VCPUS; i++) {
		start_event(env, i, &ev);
		TEST_ASSERT_EQ(__kvmi_read_physical(&env->tool, kvmi_gpa(1, 0),
						    PAGE_SIZE, page), 0);
		TEST_ASSERT_EQ(page[PAGE_SIZE - 1], 0x5a);
		TEST_ASSERT_EQ(__kvmi_vcpu_cmd(env, i, KVMI_VCPU_GET_XSAVE,
					       NULL, 0, xsave, sizeof(xsave)), 0);
		kvmi_reply(&env->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
		kvmi_runner_wait(&env->run[i]);
		TEST_ASSERT_EQ(*(uint64_t *)kvmi_hva(env, 2, WORD(i)), 6);
	}

	/* byte by byte */
	for (i = 0; i < sizeof(hdr); i++) {
		kvmi_write(&env->tool, (uint8_t *)&hdr + i, 1);
		usleep(1000);
	}
	TEST_ASSERT_EQ(__kvmi_recv_reply(&env->tool, hdr.id, hdr.seq, &info,
					 sizeof(info)), 0);
	TEST_ASSERT_EQ(info.vcpu_count, NR_VCPUS);

	vm_kvmi_unhook(env->vm);
	kvmi_wait_closed(&env->tool);
	kvmi_tool_close(&env->tool);
	TEST_ASSERT(hook(env, variant), "not again");
	kvmi_alive(&env->tool);
}

/* ---- much at a time ---- */

#define NR_CMDS		40

/* What a signal has interrupted; a vCPU that is not run serves no commands. */
static void go_on(struct kvmi_env *env)
{
	unsigned int i;

	for (i = 0; i < NR_VCPUS; i++) {
		struct kvmi_runner *r = &env->run[i];

		if (!r->running || !kvmi_runner_poll(r, 0))
			continue;
		TEST_ASSERT(r->ret == -1 && r->err == EINTR,
			    "KVM_RUN: %d, errno %d", r->ret, r->err);
		kvmi_runner_go(r);
	}
}

/*
 * The replies of both vCPUs and of the VM are larger than what can be sent at
 * once, and the tool reads none of them for a while.  Signals come meanwhile.
 * Nevertheless each arrives in one piece.
 */
TEST_F_TIMEOUT(sock, flood, KVMI_TEST_TIMEOUT)
{
	struct kvmi_vm_read_physical read = {
		.gpa = kvmi_gpa(1, 0), .size = PAGE_SIZE,
	};
	uint32_t first[NR_VCPUS + 1], got[NR_VCPUS + 1] = { }, total, i, j;
	struct kvmi_env *env = &self->env;
	uint32_t seq[NR_VCPUS + 1][NR_CMDS];
	struct kvmi_event ev[NR_VCPUS];
	struct kvmi_msg msg;

	memset(kvmi_hva(env, 1, 0), 0x5a, PAGE_SIZE);
	for (i = 0; i < NR_VCPUS; i++)
		start_event(env, i, &ev[i]);

	for (j = 0; j < NR_CMDS; j++) {
		for (i = 0; i < NR_VCPUS; i++)
			seq[i][j] = kvmi_vcpu_send(&env->tool, i,
						   KVMI_VCPU_GET_XSAVE, NULL, 0);
		seq[i][j] = kvmi_send(&env->tool, KVMI_VM_READ_PHYSICAL, &read,
				      sizeof(read));
	}
	for (i = 0; i < NR_VCPUS; i++) {
		first[i] = 0;
		usleep(50000);
		kvmi_runner_kick(&env->run[i]);
	}

	for (total = 0; total < (NR_VCPUS + 1) * NR_CMDS; total++) {
		while (kvmi_recv(&env->tool, &msg, 10) != KVMI_RECV_MSG) {
			TEST_ASSERT(first[0]++ < KVMI_TIMEOUT_MS / 10,
				    "%u replies", total);
			go_on(env);
		}
		for (i = 0; i <= NR_VCPUS; i++)
			if (got[i] < NR_CMDS && seq[i][got[i]] == msg.hdr.seq)
				break;
		TEST_ASSERT(i <= NR_VCPUS, "seq %u is out of order",
			    msg.hdr.seq);
		TEST_ASSERT_EQ(msg.hdr.size, sizeof(struct kvmi_error_code) +
			       (i < NR_VCPUS ? 4096 : PAGE_SIZE));
		if (i == NR_VCPUS)
			TEST_ASSERT_EQ(msg.data[msg.hdr.size - 1], 0x5a);
		got[i]++;
		go_on(env);
	}

	for (i = 0; i < NR_VCPUS; i++)
		kvmi_reply(&env->tool, &ev[i], KVMI_EVENT_ACTION_CONTINUE);
	for (i = 0; i < NR_VCPUS; i++) {
		kvmi_runner_wait_exit(&env->run[i]);
		/* The signal may have come just now. */
		if (env->run[i].err == EINTR) {
			kvmi_runner_go(&env->run[i]);
			kvmi_runner_wait(&env->run[i]);
		}
		TEST_ASSERT_EQ(*(uint64_t *)kvmi_hva(env, 2, WORD(i)), 6);
	}
	kvmi_alive(&env->tool);
}

/* Commands, the replies of which do not fit anywhere; returns how many. */
static unsigned int fill(struct kvmi_env *env)
{
	struct {
		struct kvmi_msg_hdr hdr;
		struct kvmi_vm_read_physical req;
	} msg = {
		.hdr = { .id = KVMI_VM_READ_PHYSICAL, .size = sizeof(msg.req) },
		.req = { .gpa = kvmi_gpa(1, 0), .size = PAGE_SIZE },
	};
	struct pollfd pfd = { .fd = env->tool.fd, .events = POLLIN };
	unsigned int i;

	for (i = 0; i < 150; i++)
		kvmi_write(&env->tool, &msg, sizeof(msg));
	TEST_ASSERT(poll(&pfd, 1, KVMI_TIMEOUT_MS) == 1, "no reply");
	usleep(200000);

	return i;
}

/* Reads all replies, and takes the event that is between them. */
static void drain(struct kvmi_env *env, unsigned int nr, uint16_t id,
		  struct kvmi_msg *ev)
{
	unsigned int events = 0;
	struct kvmi_msg msg;

	while (nr || !events) {
		TEST_ASSERT(kvmi_recv(&env->tool, &msg, KVMI_TIMEOUT_MS) ==
			    KVMI_RECV_MSG, "%u replies to come, %u events", nr,
			    events);
		if (msg.hdr.id == KVMI_VM_READ_PHYSICAL) {
			nr--;
			continue;
		}
		TEST_ASSERT_EQ(msg.hdr.id, id);
		*ev = msg;
		events++;
	}
	TEST_ASSERT_EQ(events, 1);
}

/* An event that cannot be sent for a while: signals neither lose nor count it. */
TEST_F_TIMEOUT(sock, event_interrupted, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_runner *r = &env->run[0];
	struct kvmi_event ev = { .event = KVMI_VCPU_EVENT_PF };
	unsigned int nr, i;
	struct kvmi_msg msg;

	*(uint64_t *)kvmi_hva(env, 2, 8) = 1;
	kvmi_control_event(env, 0, KVMI_VCPU_EVENT_PF, true);
	kvmi_set_page_access(&env->tool, kvmi_gpa(2, 0), R | X);
	nr = fill(env);
	kvmi_runner_do(r, kvmi_insn_xadd, kvmi_gva(2, WORD(0)), 5);
	for (i = 0; i < 5; i++) {
		usleep(20000);
		kvmi_runner_kick(r);
		kvmi_runner_wait_exit(r);
		TEST_ASSERT(r->ret == -1 && r->err == EINTR,
			    "KVM_RUN: %d, errno %d", r->ret, r->err);
		kvmi_runner_go(r);
	}
	drain(env, nr, KVMI_VCPU_EVENT, &msg);
	TEST_ASSERT_EQ(msg.hdr.seq, 1);
	ev.seq = msg.hdr.seq;
	kvmi_reply(&env->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	kvmi_runner_wait(r);
	TEST_ASSERT_EQ(*(uint64_t *)kvmi_hva(env, 2, 8), 6);
}

/* ---- PREUNHOOK ---- */

struct preunhook {
	struct kvm_vm *vm;
	unsigned int nr, failed;
	volatile bool done;
};

static void *preunhook(void *arg)
{
	struct preunhook *p = arg;
	unsigned int i;

	for (i = 0; i < p->nr; i++)
		p->failed += !!__vm_kvmi_preunhook(p->vm);
	p->done = true;

	return NULL;
}

/* The tool reads, if not just now. */
TEST_F_TIMEOUT(sock, preunhook_full, KVMI_TEST_TIMEOUT)
{
	struct preunhook p = { .vm = self->env.vm, .nr = 1 };
	struct kvmi_env *env = &self->env;
	struct kvmi_msg msg;
	pthread_t thread;
	unsigned int nr;

	nr = fill(env);
	pthread_create(&thread, NULL, preunhook, &p);
	usleep(50000);
	drain(env, nr, KVMI_VM_EVENT, &msg);
	pthread_join(thread, NULL);
	TEST_ASSERT_EQ(p.failed, 0);
	TEST_ASSERT_EQ(msg.hdr.seq, 1);
}

/* A vCPU, too, has something to say all the time. */
TEST_F_TIMEOUT(sock, preunhook_busy, KVMI_TEST_TIMEOUT)
{
	struct preunhook p = { .vm = self->env.vm, .nr = 1000 };
	struct kvmi_env *env = &self->env;
	unsigned int nr[2] = { }, seq = 0;
	struct kvmi_event ev;
	pthread_t thread;

	kvmi_control_event(env, 0, KVMI_VCPU_EVENT_PF, true);
	kvmi_set_page_access(&env->tool, kvmi_gpa(0, 0), 0);
	*self->stop = 0;
	kvmi_runner_do(&env->run[0], kvmi_insn_spin, KVMI_TEST_GVA, 1);
	kvmi_wait_event(&env->tool, KVMI_VCPU_EVENT_PF, &ev);
	kvmi_reply(&env->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);

	pthread_create(&thread, NULL, preunhook, &p);
	/* until it has sent all, or failed to, and the vCPU has its say */
	for (;;) {
		bool done = p.done;

		if (!kvmi_poll_event(&env->tool, &ev, 1000)) {
			TEST_ASSERT(seq++ < KVMI_TIMEOUT_MS / 1000,
				    "%u + %u events", nr[0], nr[1]);
			continue;
		}
		nr[ev.event == KVMI_VCPU_EVENT_PF]++;
		if (ev.event != KVMI_VCPU_EVENT_PF)
			continue;
		if (done && nr[0] + p.failed >= p.nr)
			break;
		kvmi_reply(&env->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	}
	pthread_join(thread, NULL);
	TEST_ASSERT(!p.failed, "%u of %u failed, between %u events", p.failed,
		    p.nr, nr[1]);
	TEST_ASSERT_EQ(nr[0], p.nr);

	*self->stop = 1;
	kvmi_set_page_access(&env->tool, kvmi_gpa(0, 0), KVMI_ACCESS_ALL);
	kvmi_reply(&env->tool, &ev, KVMI_EVENT_ACTION_RETRY);
	kvmi_runner_wait(&env->run[0]);
}

/* ---- the tool goes ---- */

/* Nothing is restricted any more, and there can be a next tool. */
static void check_gone(struct kvmi_env *env,
		       const FIXTURE_VARIANT(sock) *variant)
{
	kvmi_runner_do(&env->run[1], kvmi_insn_xadd, kvmi_gva(2, WORD(0)), 5);
	kvmi_runner_wait(&env->run[1]);
	TEST_ASSERT_EQ(*(uint64_t *)kvmi_hva(env, 2, 8), 11);
	TEST_ASSERT(hook(env, variant), "no next tool");
	kvmi_alive(&env->tool);
}

TEST_F_TIMEOUT(sock, tool_gone, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_event ev;

	start_event(env, 0, &ev);
	kvmi_tool_close(&env->tool);
	kvmi_runner_wait(&env->run[0]);
	TEST_ASSERT_EQ(*(uint64_t *)kvmi_hva(env, 2, 8), 6);
	check_gone(env, variant);
}

/* with much on its way to it */
TEST_F_TIMEOUT(sock, tool_gone_full, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_event ev;

	start_event(env, 0, &ev);
	fill(env);
	kvmi_tool_close(&env->tool);
	kvmi_runner_wait(&env->run[0]);
	TEST_ASSERT_EQ(*(uint64_t *)kvmi_hva(env, 2, 8), 6);
	check_gone(env, variant);
}

/* A tool that stops sending has gone, unless it can be told from one that has. */
TEST_F_TIMEOUT(sock, tool_stops_sending, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_event ev;

	start_event(env, 0, &ev);
	shutdown(env->tool.fd, SHUT_WR);
	kvmi_wait_closed(&env->tool);
	kvmi_tool_close(&env->tool);
	kvmi_runner_wait(&env->run[0]);
	TEST_ASSERT_EQ(*(uint64_t *)kvmi_hva(env, 2, 8), 6);
	check_gone(env, variant);
}

int main(int argc, char *argv[])
{
	TEST_REQUIRE(kvmi_supported());

	return test_harness_run(argc, argv);
}
