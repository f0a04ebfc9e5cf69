// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM introspection: how a VMM connects a tool with its VM, and every way in
 * which that can fail.
 */
#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "test_util.h"
#include "kvm_util.h"
#include "kselftest_harness.h"
#include "kvmi_util.h"

/* ---- with the module parameter off ---- */

FIXTURE(off)
{
	struct kvm_vm *vm;
	int err;
};

FIXTURE_SETUP(off)
{
	if (kvmi_supported())
		SKIP(return, "introspection is on");

	self->vm = vm_create_barebones();

	/* Without CONFIG_KVM_INTROSPECTION KVM does not know the ioctls. */
	self->err = access("/sys/module/kvm/parameters/introspection", F_OK) ?
		    ENOTTY : EPERM;
}

FIXTURE_TEARDOWN(off)
{
	kvm_vm_free(self->vm);
}

TEST_F_TIMEOUT(off, refused, KVMI_TEST_TIMEOUT)
{
	int tool_fd, kernel_fd, pass;

	kvmi_socketpair(&tool_fd, &kernel_fd);

	TEST_ASSERT_EQ(kvm_check_cap(KVM_CAP_INTROSPECTION), 0);

	for (pass = 0; pass < 2; pass++) {
		TEST_ASSERT_ERRNO(__vm_kvmi_hook(self->vm, kernel_fd),
				  self->err);
		/* The parameter is looked at first, before the arguments. */
		TEST_ASSERT_ERRNO(__vm_kvmi_hook(self->vm, -1), self->err);
		TEST_ASSERT_ERRNO(ioctl(self->vm->fd, KVM_INTROSPECTION_HOOK,
					NULL), self->err);
		TEST_ASSERT_ERRNO(__vm_kvmi_unhook(self->vm), self->err);
		TEST_ASSERT_ERRNO(__vm_kvmi_preunhook(self->vm), self->err);
		TEST_ASSERT_ERRNO(__vm_kvmi_allow_command(self->vm, -1, 1),
				  self->err);
		TEST_ASSERT_ERRNO(__vm_kvmi_allow_event(self->vm, -1, 1),
				  self->err);
	}
}

/* ---- with the module parameter on ---- */

FIXTURE(hook)
{
	struct kvmi_env env;
	int tool_fd, kernel_fd;
};

FIXTURE_SETUP(hook)
{
	if (!kvmi_supported())
		SKIP(return, "introspection is off (kvm.introspection=1 enables it)");

	kvmi_env_create(&self->env, 1);
	kvmi_socketpair(&self->tool_fd, &self->kernel_fd);
	kvmi_tool_init(&self->env.tool, self->tool_fd);
}

FIXTURE_TEARDOWN(hook)
{
	close(self->kernel_fd);
	kvmi_env_destroy(&self->env);
}

static int hook_raw(struct kvm_vm *vm, int fd, uint32_t padding)
{
	struct kvm_introspection_hook hook = { .fd = fd, .padding = padding };

	memset(hook.uuid, 0xab, sizeof(hook.uuid));
	return __vm_ioctl(vm, KVM_INTROSPECTION_HOOK, &hook);
}

TEST_F_TIMEOUT(hook, capability, KVMI_TEST_TIMEOUT)
{
	TEST_ASSERT_EQ(kvm_check_cap(KVM_CAP_INTROSPECTION), KVMI_VERSION);
	TEST_ASSERT_EQ(vm_check_cap(self->env.vm, KVM_CAP_INTROSPECTION),
		       KVMI_VERSION);
}

TEST_F_TIMEOUT(hook, hook_and_unhook, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	int i;

	vm_kvmi_hook(env->vm, self->kernel_fd);
	kvmi_alive(&env->tool);

	vm_kvmi_unhook(env->vm);
	kvmi_wait_closed(&env->tool);

	/* UNHOOK succeeds whether there is something to unhook or not. */
	for (i = 0; i < 3; i++)
		vm_kvmi_unhook(env->vm);

	kvmi_runner_do(&env->run[0], kvmi_insn_nop, 0, 0);
	kvmi_runner_wait(&env->run[0]);
}

TEST_F_TIMEOUT(hook, never_hooked, KVMI_TEST_TIMEOUT)
{
	vm_kvmi_unhook(self->env.vm);
	vm_kvmi_unhook(self->env.vm);
	TEST_ASSERT_ERRNO(__vm_kvmi_preunhook(self->env.vm), EFAULT);
}

/* The kernel holds the socket, not the VMM's file descriptor. */
TEST_F_TIMEOUT(hook, descriptor_closed, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;

	vm_kvmi_hook(env->vm, self->kernel_fd);
	close(self->kernel_fd);
	kvmi_alive(&env->tool);

	vm_kvmi_unhook(env->vm);
	kvmi_wait_closed(&env->tool);
	self->kernel_fd = -1;
}

TEST_F_TIMEOUT(hook, uuid_is_informational, KVMI_TEST_TIMEOUT)
{
	int r = hook_raw(self->env.vm, self->kernel_fd, 0);

	TEST_ASSERT(!r, __KVM_IOCTL_ERROR("KVM_INTROSPECTION_HOOK", r));
	kvmi_alive(&self->env.tool);
}

TEST_F_TIMEOUT(hook, bad_pointer, KVMI_TEST_TIMEOUT)
{
	struct kvm_vm *vm = self->env.vm;

	TEST_ASSERT_ERRNO(ioctl(vm->fd, KVM_INTROSPECTION_HOOK, NULL), EFAULT);
	vm_kvmi_hook(vm, self->kernel_fd);
	TEST_ASSERT_ERRNO(ioctl(vm->fd, KVM_INTROSPECTION_HOOK, NULL), EFAULT);
	TEST_ASSERT_ERRNO(ioctl(vm->fd, KVM_INTROSPECTION_COMMAND, NULL),
			  EFAULT);
	TEST_ASSERT_ERRNO(ioctl(vm->fd, KVM_INTROSPECTION_EVENT, NULL), EFAULT);
	kvmi_alive(&self->env.tool);
}

TEST_F_TIMEOUT(hook, bad_padding, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;

	TEST_ASSERT_ERRNO(hook_raw(env->vm, self->kernel_fd, 1), EINVAL);
	TEST_ASSERT_ERRNO(hook_raw(env->vm, self->kernel_fd, 0x80000000),
			  EINVAL);
	/* Nothing was hooked, */
	TEST_ASSERT_ERRNO(__vm_kvmi_preunhook(env->vm), EFAULT);
	/* and padding is looked at before the VM's state is. */
	vm_kvmi_hook(env->vm, self->kernel_fd);
	TEST_ASSERT_ERRNO(hook_raw(env->vm, self->kernel_fd, 1), EINVAL);
	kvmi_alive(&env->tool);
}

/*
 * A failed HOOK leaves nothing behind: the next one succeeds, although no
 * vCPU has run in between.
 */
TEST_F_TIMEOUT(hook, bad_descriptor, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	int null_fd = open("/dev/null", O_RDWR);
	int event_fd = eventfd(0, 0);

	TEST_ASSERT(null_fd >= 0 && event_fd >= 0, "open()");

	TEST_ASSERT_ERRNO(__vm_kvmi_hook(env->vm, -1), EINVAL);
	TEST_ASSERT_ERRNO(__vm_kvmi_hook(env->vm, 0x7fffffff), EINVAL);
	TEST_ASSERT_ERRNO(__vm_kvmi_hook(env->vm, null_fd), EINVAL);
	TEST_ASSERT_ERRNO(__vm_kvmi_hook(env->vm, event_fd), EINVAL);
	TEST_ASSERT_ERRNO(__vm_kvmi_hook(env->vm, env->vm->fd), EINVAL);
	TEST_ASSERT_ERRNO(__vm_kvmi_preunhook(env->vm), EFAULT);
	TEST_ASSERT_ERRNO(__vm_kvmi_allow_command(env->vm, -1, 1), EFAULT);

	vm_kvmi_hook(env->vm, self->kernel_fd);
	kvmi_alive(&env->tool);
	close(null_fd);
	close(event_fd);
}

TEST_F_TIMEOUT(hook, already_hooked, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	int tool_fd, kernel_fd;

	vm_kvmi_hook(env->vm, self->kernel_fd);

	/* Neither the same socket nor another; the session goes on. */
	TEST_ASSERT_ERRNO(__vm_kvmi_hook(env->vm, self->kernel_fd), EEXIST);
	kvmi_socketpair(&tool_fd, &kernel_fd);
	TEST_ASSERT_ERRNO(__vm_kvmi_hook(env->vm, kernel_fd), EEXIST);
	kvmi_alive(&env->tool);

	/* After UNHOOK it works, without the vCPU running in between. */
	vm_kvmi_unhook(env->vm);
	vm_kvmi_hook(env->vm, kernel_fd);
	kvmi_wait_closed(&env->tool);
	kvmi_tool_close(&env->tool);
	kvmi_tool_init(&env->tool, tool_fd);
	kvmi_alive(&env->tool);
	close(kernel_fd);
}

/* KVM does not see into this VM's memory, so nobody else does through it. */
TEST_F_TIMEOUT(hook, private_memory, KVMI_TEST_TIMEOUT)
{
	struct kvm_vm *vm;

	if (!(kvm_check_cap(KVM_CAP_VM_TYPES) & BIT(KVM_X86_SW_PROTECTED_VM)))
		SKIP(return, "no VMs with private memory: CONFIG_KVM_SW_PROTECTED_VM is off");

	vm = vm_create_barebones_type(KVM_X86_SW_PROTECTED_VM);
	TEST_ASSERT_ERRNO(__vm_kvmi_hook(vm, self->kernel_fd), EOPNOTSUPP);
	/* before the descriptor is looked at, but not before the rest */
	TEST_ASSERT_ERRNO(__vm_kvmi_hook(vm, -1), EOPNOTSUPP);
	TEST_ASSERT_ERRNO(hook_raw(vm, self->kernel_fd, 1), EINVAL);

	/* Nothing is left of it. */
	TEST_ASSERT_ERRNO(__vm_kvmi_preunhook(vm), EFAULT);
	TEST_ASSERT_ERRNO(__vm_kvmi_allow_command(vm, -1, 1), EFAULT);
	vm_kvmi_unhook(vm);
	kvm_vm_free(vm);

	vm_kvmi_hook(self->env.vm, self->kernel_fd);
	kvmi_alive(&self->env.tool);
}

/* A socket, but none that is a stream */
TEST_F_TIMEOUT(hook, bad_socket, KVMI_TEST_TIMEOUT)
{
	static const int types[] = { SOCK_DGRAM, SOCK_SEQPACKET };
	struct kvmi_env *env = &self->env;
	int i, fds[2];

	for (i = 0; i < ARRAY_SIZE(types); i++) {
		TEST_ASSERT(!socketpair(AF_UNIX, types[i], 0, fds),
			    "socketpair()");
		TEST_ASSERT_ERRNO(__vm_kvmi_hook(env->vm, fds[0]), EINVAL);
		TEST_ASSERT_ERRNO(__vm_kvmi_preunhook(env->vm), EFAULT);
		close(fds[0]);
		close(fds[1]);
	}

	vm_kvmi_hook(env->vm, self->kernel_fd);
	kvmi_alive(&env->tool);
}

/* A stream socket that leads nowhere: the session is over as it begins. */
TEST_F_TIMEOUT(hook, not_connected, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int i, fd;

	for (i = 0; i < 2; i++) {
		fd = socket(AF_UNIX, SOCK_STREAM, 0);
		TEST_ASSERT(fd >= 0, "socket()");
		/* an address that the kernel chooses, for one that listens */
		if (i)
			TEST_ASSERT(!bind(fd, (void *)&addr,
					  sizeof(addr.sun_family)) &&
				    !listen(fd, 1), "listen()");
		vm_kvmi_hook(env->vm, fd);
		kvmi_runner_do(&env->run[0], kvmi_insn_nop, 0, 0);
		kvmi_runner_wait(&env->run[0]);
		vm_kvmi_unhook(env->vm);
		close(fd);
	}

	vm_kvmi_hook(env->vm, self->kernel_fd);
	kvmi_alive(&env->tool);
}

/* Two VMs, each of which is the other's tool, until one of them is unhooked. */
TEST_F_TIMEOUT(hook, both_ends, KVMI_TEST_TIMEOUT)
{
	struct kvmi_msg_hdr hdr = { .id = KVMI_GET_VERSION };
	struct kvmi_env *env = &self->env;
	struct kvm_vm *vm = vm_create_barebones();
	int fds[2];

	TEST_ASSERT(!socketpair(AF_UNIX, SOCK_STREAM, 0, fds), "socketpair()");
	vm_kvmi_hook(env->vm, fds[0]);
	vm_kvmi_hook(vm, fds[1]);
	/* A reply is a command with the same id. */
	TEST_ASSERT(send(fds[0], &hdr, sizeof(hdr), 0) == sizeof(hdr), "send()");
	kvmi_runner_do(&env->run[0], kvmi_insn_nop, 0, 0);
	kvmi_runner_wait(&env->run[0]);
	usleep(20000);

	vm_kvmi_unhook(env->vm);
	vm_kvmi_unhook(vm);
	close(fds[0]);
	close(fds[1]);

	vm_kvmi_hook(env->vm, self->kernel_fd);
	kvmi_alive(&env->tool);
	kvm_vm_free(vm);
}

/* One connection for two VMs: either may take a message; they end together. */
TEST_F_TIMEOUT(hook, same_socket, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvm_vm *vm = vm_create_barebones();
	int i;

	vm_kvmi_hook(env->vm, self->kernel_fd);
	vm_kvmi_hook(vm, self->kernel_fd);
	for (i = 0; i < 100; i++)
		kvmi_alive(&env->tool);
	vm_kvmi_unhook(vm);
	kvmi_wait_closed(&env->tool);
	kvm_vm_free(vm);

	kvmi_tool_close(&env->tool);
	close(self->kernel_fd);
	kvmi_socketpair(&self->tool_fd, &self->kernel_fd);
	kvmi_tool_init(&env->tool, self->tool_fd);
	vm_kvmi_hook(env->vm, self->kernel_fd);
	kvmi_alive(&env->tool);
}

/* Nothing is out of band; that it is not there makes nobody wait for it. */
TEST_F_TIMEOUT(hook, out_of_band, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	char c = 1;
	int i;

	vm_kvmi_hook(env->vm, self->kernel_fd);
	if (send(self->tool_fd, &c, 1, MSG_OOB | MSG_NOSIGNAL) < 0)
		SKIP(return, "no out-of-band data (CONFIG_AF_UNIX_OOB)");

	for (i = 0; i < 10; i++) {
		kvmi_alive(&env->tool);
		TEST_ASSERT_EQ(send(self->tool_fd, &c, 1, MSG_OOB), 1);
		/* The VMM has better not read, but can. */
		if (i & 1)
			recv(self->kernel_fd, &c, 1, MSG_OOB | MSG_DONTWAIT);
	}
	kvmi_alive(&env->tool);
}

/*
 * What the VMM has set up for its own dealings with the tool does not harm:
 * the end of its patience is not the session's.
 */
TEST_F_TIMEOUT(hook, socket_options, KVMI_TEST_TIMEOUT)
{
	struct timeval tv = { .tv_usec = 10000 };
	struct kvmi_env *env = &self->env;
	struct kvmi_msg_hdr hdr = { .id = KVMI_VM_GET_INFO };
	struct kvmi_vm_get_info_reply rpl;
	const int size = 4096, nr = 400;
	int i;

	TEST_ASSERT(!fcntl(self->kernel_fd, F_SETFL, O_NONBLOCK), "fcntl()");
	TEST_ASSERT(!setsockopt(self->kernel_fd, SOL_SOCKET, SO_SNDTIMEO, &tv,
				sizeof(tv)), "SO_SNDTIMEO");
	TEST_ASSERT(!setsockopt(self->kernel_fd, SOL_SOCKET, SO_RCVTIMEO, &tv,
				sizeof(tv)), "SO_RCVTIMEO");
	TEST_ASSERT(!setsockopt(self->kernel_fd, SOL_SOCKET, SO_RCVLOWAT, &size,
				sizeof(size)), "SO_RCVLOWAT");
	TEST_ASSERT(!setsockopt(self->kernel_fd, SOL_SOCKET, SO_SNDBUF, &size,
				sizeof(size)), "SO_SNDBUF");
	vm_kvmi_hook(env->vm, self->kernel_fd);
	vm_kvmi_allow_command(env->vm, -1, 1);

	/* more replies than there is room for, read much later */
	for (i = 0; i < nr; i++) {
		hdr.seq = i;
		kvmi_write(&env->tool, &hdr, sizeof(hdr));
		if (i == nr / 4)
			usleep(200000);
		if (i >= nr / 4)
			TEST_ASSERT_EQ(__kvmi_recv_reply(&env->tool,
							 KVMI_VM_GET_INFO,
							 i - nr / 4, &rpl,
							 sizeof(rpl)), 0);
	}
	for (i = nr - nr / 4; i < nr; i++)
		TEST_ASSERT_EQ(__kvmi_recv_reply(&env->tool, KVMI_VM_GET_INFO,
						 i, &rpl, sizeof(rpl)), 0);
	kvmi_alive(&env->tool);
}

/* There is nobody to introspect yet, but a VM. */
TEST_F_TIMEOUT(hook, no_vcpus, KVMI_TEST_TIMEOUT)
{
	struct kvmi_vcpu_hdr hdr = { };
	struct kvmi_vm_get_info_reply rpl;
	struct kvmi_env env;

	kvmi_env_create(&env, 0);
	kvmi_env_hook(&env);
	kvmi_cmd(&env.tool, KVMI_VM_GET_INFO, NULL, 0, &rpl, sizeof(rpl));
	TEST_ASSERT_EQ(rpl.vcpu_count, 0);
	TEST_ASSERT_EQ(__kvmi_cmd(&env.tool, KVMI_VCPU_GET_INFO, &hdr,
				  sizeof(hdr), NULL, 0), -KVM_EINVAL);
	TEST_ASSERT_EQ(__kvmi_pause_vcpu(&env.tool, 0, true), -KVM_EINVAL);
	kvmi_set_page_access(&env.tool, kvmi_gpa(0, 0), KVMI_PAGE_ACCESS_R);
	vm_kvmi_allow_event(env.vm, -1, 0);
	kvmi_env_unhook(&env);
	kvmi_env_destroy(&env);
}

/* The tool has gone: the next one does not have to wait for the VMM's UNHOOK. */
TEST_F_TIMEOUT(hook, tool_gone, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	int i;

	vm_kvmi_hook(env->vm, self->kernel_fd);
	close(self->kernel_fd);
	kvmi_alive(&env->tool);

	for (i = 0; i < 10; i++) {
		kvmi_tool_close(&env->tool);
		kvmi_socketpair(&self->tool_fd, &self->kernel_fd);
		kvmi_tool_init(&env->tool, self->tool_fd);
		vm_kvmi_hook(env->vm, self->kernel_fd);
		close(self->kernel_fd);
		kvmi_alive(&env->tool);
		TEST_ASSERT_ERRNO(__vm_kvmi_allow_command(env->vm, 2, 0),
				  EPERM);
	}
	self->kernel_fd = -1;

	/* A gone tool makes UNHOOK a formality. */
	kvmi_tool_close(&env->tool);
	vm_kvmi_unhook(env->vm);
	vm_kvmi_unhook(env->vm);
}

/* Each VM has a session of its own. */
TEST_F_TIMEOUT(hook, two_vms, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env, other;

	kvmi_env_create(&other, 2);
	kvmi_env_hook(&other);
	vm_kvmi_hook(env->vm, self->kernel_fd);

	kvmi_alive(&env->tool);
	kvmi_alive(&other.tool);
	vm_kvmi_unhook(env->vm);
	kvmi_wait_closed(&env->tool);
	kvmi_alive(&other.tool);

	kvmi_env_destroy(&other);
}

/* One socket, two VMs: whatever happens to the messages, nothing else may. */
TEST_F_TIMEOUT(hook, vm_destroyed_hooked, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	int i;

	for (i = 0; i < 10; i++) {
		struct kvm_vm *vm = vm_create_barebones();
		struct kvmi_tool tool;
		int tool_fd, kernel_fd;

		kvmi_socketpair(&tool_fd, &kernel_fd);
		kvmi_tool_init(&tool, tool_fd);
		vm_kvmi_hook(vm, kernel_fd);
		close(kernel_fd);
		kvmi_alive(&tool);
		kvm_vm_free(vm);
		kvmi_wait_closed(&tool);
		kvmi_tool_close(&tool);
	}

	vm_kvmi_hook(env->vm, self->kernel_fd);
	kvmi_alive(&env->tool);
}

static void send_fd(int sock, const void *data, size_t size, int fd)
{
	struct iovec iov = { .iov_base = (void *)data, .iov_len = size };
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(sizeof(fd))];
	} control = { };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.buf,
		.msg_controllen = sizeof(control.buf),
	};
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);

	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(sizeof(fd));
	memcpy(CMSG_DATA(cmsg), &fd, sizeof(fd));
	TEST_ASSERT_EQ(sendmsg(sock, &msg, MSG_NOSIGNAL), (ssize_t)size);
}

/* A VM does not live for ever because its session was sent the VM itself. */
TEST_F_TIMEOUT(hook, vm_in_flight, KVMI_TEST_TIMEOUT)
{
	struct kvmi_msg_hdr hdr = { .id = KVMI_GET_VERSION, .seq = 1 };
	struct kvmi_get_version_reply version;
	struct kvm_vm *vm = vm_create_barebones();

	vm_kvmi_hook(vm, self->kernel_fd);
	close(self->kernel_fd);
	self->kernel_fd = -1;
	send_fd(self->tool_fd, &hdr, sizeof(hdr), vm->fd);
	TEST_ASSERT_EQ(__kvmi_recv_reply(&self->env.tool, hdr.id, hdr.seq,
					 &version, sizeof(version)), 0);

	/* The next one stays where it is: it is only half of a header. */
	send_fd(self->tool_fd, &hdr, sizeof(hdr) / 2, vm->fd);
	kvm_vm_free(vm);
	kvmi_wait_closed(&self->env.tool);
}

/* ---- UNHOOK's announcement ---- */

static void control_unhook_event(struct kvmi_tool *tool, bool enable)
{
	struct kvmi_vm_control_events req = {
		.event_id = KVMI_VM_EVENT_UNHOOK, .enable = enable,
	};

	kvmi_cmd(tool, KVMI_VM_CONTROL_EVENTS, &req, sizeof(req), NULL, 0);
}

TEST_F_TIMEOUT(hook, preunhook, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_event first, second;

	TEST_ASSERT_ERRNO(__vm_kvmi_preunhook(env->vm), EFAULT);

	vm_kvmi_hook(env->vm, self->kernel_fd);
	close(self->kernel_fd);
	self->kernel_fd = -1;
	vm_kvmi_allow_command(env->vm, -1, 1);
	vm_kvmi_allow_event(env->vm, -1, 1);

	/* Off by default */
	TEST_ASSERT_ERRNO(__vm_kvmi_preunhook(env->vm), ENOENT);
	kvmi_no_event(&env->tool);

	control_unhook_event(&env->tool, true);
	TEST_ASSERT_EQ(__vm_kvmi_preunhook(env->vm), 0);
	kvmi_wait_event(&env->tool, KVMI_VM_EVENT_UNHOOK, &first);
	/* What was not sent does not count. */
	TEST_ASSERT_EQ(first.seq, 1);

	/* It does not end anything by itself, and can be repeated. */
	kvmi_alive(&env->tool);
	TEST_ASSERT_EQ(__vm_kvmi_preunhook(env->vm), 0);
	kvmi_wait_event(&env->tool, KVMI_VM_EVENT_UNHOOK, &second);
	TEST_ASSERT_EQ(second.seq, first.seq + 1);

	control_unhook_event(&env->tool, false);
	TEST_ASSERT_ERRNO(__vm_kvmi_preunhook(env->vm), ENOENT);
	kvmi_no_event(&env->tool);

	vm_kvmi_unhook(env->vm);
	kvmi_wait_closed(&env->tool);
	TEST_ASSERT_ERRNO(__vm_kvmi_preunhook(env->vm), EFAULT);
}

/* The first event of a session has number 1. */
TEST_F_TIMEOUT(hook, event_sequence, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_event ev;

	vm_kvmi_hook(env->vm, self->kernel_fd);
	vm_kvmi_allow_command(env->vm, -1, 1);
	vm_kvmi_allow_event(env->vm, -1, 1);
	control_unhook_event(&env->tool, true);
	TEST_ASSERT_EQ(__vm_kvmi_preunhook(env->vm), 0);
	kvmi_wait_event(&env->tool, KVMI_VM_EVENT_UNHOOK, &ev);
	TEST_ASSERT_EQ(ev.seq, 1);
}

static void preunhook_refused(void *arg)
{
	struct kvmi_env *env = arg;

	TEST_ASSERT_ERRNO(__vm_kvmi_preunhook(env->vm), ENOENT);
}

/* PREUNHOOK with nobody there to read the event */
TEST_F_TIMEOUT(hook, preunhook_tool_gone, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	int i, r;

	vm_kvmi_hook(env->vm, self->kernel_fd);
	close(self->kernel_fd);
	self->kernel_fd = -1;
	vm_kvmi_allow_command(env->vm, -1, 1);
	vm_kvmi_allow_event(env->vm, -1, 1);
	control_unhook_event(&env->tool, true);
	kvmi_tool_close(&env->tool);

	for (i = 0; i < 3; i++) {
		errno = 0;
		r = __vm_kvmi_preunhook(env->vm);
		/* not sent, or the session is known to be over already */
		TEST_ASSERT(r == -1 && (errno == ENOENT || errno == EFAULT),
			    "PREUNHOOK: %d, errno %d", r, errno);
	}
	vm_kvmi_unhook(env->vm);
}

/* PREUNHOOK with a tool that is there and does not read: the VMM must not wait. */
TEST_F_TIMEOUT(hook, preunhook_deaf, KVMI_TEST_TIMEOUT)
{
	struct kvmi_msg_hdr hdr = { .id = KVMI_VM_GET_INFO };
	struct kvmi_env *env = &self->env;
	struct pollfd pfd = { .fd = self->tool_fd, .events = POLLOUT };
	int i;

	vm_kvmi_hook(env->vm, self->kernel_fd);
	vm_kvmi_allow_command(env->vm, -1, 1);
	vm_kvmi_allow_event(env->vm, -1, 1);
	control_unhook_event(&env->tool, true);

	/* commands, until the replies fill the way back and nobody takes more */
	fcntl(self->tool_fd, F_SETFL, O_NONBLOCK);
	for (i = 0; i < 1000000; i++) {
		if (send(self->tool_fd, &hdr, sizeof(hdr), MSG_NOSIGNAL) > 0)
			continue;
		TEST_ASSERT_EQ(errno, EAGAIN);
		if (!poll(&pfd, 1, 1000))
			break;
	}

	kvmi_must_return("PREUNHOOK", preunhook_refused, env);
	vm_kvmi_unhook(env->vm);
}

TEST_HARNESS_MAIN
