// SPDX-License-Identifier: GPL-2.0
/*
 * kvmi hook: have a running VMM connect a VM of its own to a tool.
 *
 * The VMM's thread is stopped twice, each time for some system calls that do
 * not sleep: to connect and say hello, and, when the tool has answered, to give
 * the connection to KVM.  While the tool makes up its mind the VMM runs, so one
 * that never answers does no harm.
 */

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <kvmi/libkvmi.h>

#include "common.h"
#include "failure.h"
#include "key.h"
#include "kvm-ioctls.h"
#include "parse.h"
#include "vmm.h"

#define DEFAULT_TIMEOUT		10	/* s */

struct hook_options {
	struct common_options common;
	const char *socket;
	const char *name;
	const char *uuid_text;
	uint8_t uuid[16];
	uint64_t max_gpa;
	bool max_gpa_given;
	long pid;
	long vm;
	long timeout;
	const char *key_file;
	bool mutual;
	struct kvmi_auth auth;
};

enum {
	OPT_VM = 256,
	OPT_NAME,
	OPT_UUID,
	OPT_MAX_GPA,
	OPT_TIMEOUT,
	OPT_KEY_FILE,
	OPT_MUTUAL,
};

static const struct argp_option options[] = {
	{ .name = "pid", .key = 'p', .arg = "PID", .doc = "The VMM's process" },
	{ .name = "socket", .key = 's', .arg = "PATH",
	  .doc = "The unix socket on which the tool listens" },
	{ .name = "vm", .key = OPT_VM, .arg = "N",
	  .doc = "Which of the VMM's VMs, counted from 1; needed if it has several" },
	{ .name = "name", .key = OPT_NAME, .arg = "NAME",
	  .doc = "The VM's name for the tool (default: the process' name and id)" },
	{ .name = "uuid", .key = OPT_UUID, .arg = "UUID",
	  .doc = "The VM's UUID for the tool (default: made from boot, process and file)" },
	{ .name = "max-gpa", .key = OPT_MAX_GPA, .arg = "GPA",
	  .doc = "The highest guest physical address, if the tool wants to know (default: the highest that this CPU has)" },
	{ .name = "timeout", .key = OPT_TIMEOUT, .arg = "SECONDS",
	  .doc = "How long to wait for the tool's answer (default: 10)" },
	{ .name = "key-file", .key = OPT_KEY_FILE, .arg = "FILE",
	  .doc = "Have the tool prove that it has this key, and offer to prove that we have it" },
	{ .name = "mutual", .key = OPT_MUTUAL, .doc = "Refuse a tool that only knows the key's hash" },
	{ 0 }
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct hook_options *o = state->input;

	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = &o->common;
		return 0;
	case 'p':
		if (!parse_int(arg, 1, INT_MAX, &o->pid))
			argp_error(state, "--pid: \"%s\" is not a process id", arg);
		return 0;
	case 's':
		o->socket = arg;
		return 0;
	case OPT_VM:
		if (!parse_int(arg, 1, INT_MAX, &o->vm))
			argp_error(state, "--vm: \"%s\" is not a number from 1 on", arg);
		return 0;
	case OPT_NAME:
		if (strlen(arg) >= KVMI_HELLO_NAME_SIZE)
			argp_error(state, "--name: more than %d characters",
				   KVMI_HELLO_NAME_SIZE - 1);
		o->name = arg;
		return 0;
	case OPT_UUID:
		if (!parse_uuid(arg, o->uuid))
			argp_error(state, "--uuid: \"%s\" is not a UUID", arg);
		o->uuid_text = arg;
		return 0;
	case OPT_MAX_GPA:
		if (!parse_u64(arg, &o->max_gpa))
			argp_error(state, "--max-gpa: \"%s\" is not a number", arg);
		o->max_gpa_given = true;
		return 0;
	case OPT_TIMEOUT:
		if (!parse_int(arg, 1, 3600, &o->timeout))
			argp_error(state, "--timeout: \"%s\" is not within 1..3600", arg);
		return 0;
	case OPT_KEY_FILE:
		o->key_file = arg;
		return 0;
	case OPT_MUTUAL:
		o->mutual = true;
		return 0;
	case ARGP_KEY_ARG:
		argp_error(state, "\"%s\" is too much", arg);
		return 0;
	case ARGP_KEY_END:
		if (o->mutual && !o->key_file)
			argp_error(state, "--mutual needs --key-file");
		if (!o->pid)
			argp_error(state, "--pid is missing");
		if (!o->socket)
			argp_error(state, "--socket is missing");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp argp = {
	.options = options,
	.parser = parse,
	.args_doc = "--pid PID --socket PATH",
	.doc = "Connect a VM of a running VMM to an introspection tool.\v"
	       "The VMM needs to know nothing of it.  One of its threads is stopped for a moment, connects to the tool's socket, says hello and gives the connection to KVM.",
	.children = output_children,
};

/* --- the socket ---------------------------------------------------------------------- */

/*
 * The VMM connects, so it is the VMM's view of the path that counts.  Seeing
 * another socket there is an error that only this can tell.
 */
static int check_socket(const struct vmm *vmm, const char *path, char *full)
{
	char seen[PATH_MAX + 32];
	struct stat ours, theirs;

	if (!realpath(path, full) || stat(full, &ours)) {
		if (errno == ENOENT)
			return fail(KVMI_EXIT_NOT_FOUND,
				    "%s: there is no such socket; the tool is not listening",
				    path);
		return fail(status_of_errno(-errno), "%s: %s", path, strerror(errno));
	}
	if (!S_ISSOCK(ours.st_mode))
		return fail(KVMI_EXIT_NOT_FOUND, "%s: is not a socket", path);
	if (strlen(full) >= sizeof(((struct sockaddr_un *)0)->sun_path))
		return fail(KVMI_EXIT_FAILED,
			    "%s: the path of a unix socket has at most %zu characters",
			    full, sizeof(((struct sockaddr_un *)0)->sun_path) - 1);
	snprintf(seen, sizeof(seen), "/proc/%d/root%s", vmm->pid, full);
	if (stat(seen, &theirs) || ours.st_dev != theirs.st_dev ||
	    ours.st_ino != theirs.st_ino)
		return fail(KVMI_EXIT_NOT_FOUND,
			    "%s: process %d (%s) does not see it there (it has another root directory or mount namespace)",
			    full, vmm->pid, vmm->comm);
	return 0;
}

static int fail_connect(const struct vmm *vmm, const char *path, int err)
{
	switch (err) {
	case ECONNREFUSED:
	case ENOENT:
		return fail(KVMI_EXIT_NOT_FOUND, "%s: the tool is not listening", path);
	case EACCES:
	case EPERM:
		return fail(KVMI_EXIT_DENIED,
			    "%s: process %d (%s) has no permission to connect; the socket must be its user's",
			    path, vmm->pid, vmm->comm);
	case EAGAIN:
		return fail(KVMI_EXIT_BUSY,
			    "%s: too many connections wait for the tool already", path);
	default:
		return fail(KVMI_EXIT_FAILED, "%s: process %d (%s): connect: %s",
			    path, vmm->pid, vmm->comm, strerror(err));
	}
}

/* While stopped: make the socket, connect, say hello. */
static int connect_and_greet(struct vmm *vmm, const char *path,
			     const struct kvmi_greeting *greeting, long *sock)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	const void *bytes;
	size_t size;
	struct inject *inj = vmm->inj;
	long ret;
	int err;

	err = vmm_check_introspection(vmm);
	if (err)
		return err;
	err = inject_call(inj, &ret, SYS_socket, AF_UNIX,
			  SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, 0, 0, 0);
	if (err)
		return err;
	if (ret < 0)
		return fail(KVMI_EXIT_FAILED, "process %d (%s): socket: %s",
			    vmm->pid, vmm->comm, strerror(-ret));
	*sock = ret;

	memcpy(addr.sun_path, path, strlen(path) + 1);
	err = inject_write(inj, 0, &addr, sizeof(addr));
	if (!err)
		err = inject_call(inj, &ret, SYS_connect, *sock,
				  inject_data(inj, 0), sizeof(addr), 0, 0, 0);
	if (err)
		return err;
	if (ret < 0)
		return fail_connect(vmm, path, -ret);

	bytes = kvmi_greeting_hello(greeting, &size);
	err = inject_write(inj, 0, bytes, size);
	if (!err)
		err = inject_call(inj, &ret, SYS_sendto, *sock,
				  inject_data(inj, 0), size,
				  MSG_NOSIGNAL | MSG_DONTWAIT, 0, 0);
	if (err)
		return err;
	if (ret == -EPIPE || ret == -ECONNRESET)
		return fail(KVMI_EXIT_GONE, "%s: the tool closed the connection", path);
	if (ret != (long)size)
		return fail(KVMI_EXIT_FAILED, "%s: process %d (%s): send: %s", path,
			    vmm->pid, vmm->comm, ret < 0 ? strerror(-ret) : "incomplete");
	return 0;
}

/* While stopped.  Keeps the text of the failure that led here, if any. */
static void close_socket(struct vmm *vmm, long sock)
{
	char why[FAILURE_SIZE];
	long ret = 0;
	int err;

	save_failure(why);
	err = inject_call(vmm->inj, &ret, SYS_close, sock, 0, 0, 0, 0, 0);
	if (err != KVMI_EXIT_GONE && (err || ret))
		fprintf(stderr, "kvmi: process %d (%s) keeps file %ld open\n",
			vmm->pid, vmm->comm, sock);
	restore_failure(err, why);
}

static bool still_ours(const struct vmm *vmm, long sock, int dup)
{
	char path[64], link[64], want[64];
	struct stat st;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/fd/%ld", vmm->pid, sock);
	n = readlink(path, link, sizeof(link) - 1);
	if (n < 0 || fstat(dup, &st))
		return false;
	link[n] = '\0';
	snprintf(want, sizeof(want), "socket:[%lu]", (unsigned long)st.st_ino);
	return !strcmp(link, want);
}

/* --- the tool's answer ------------------------------------------------------------------ */

static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000ULL + ts.tv_nsec / 1000000;
}

/*
 * Is the tool's answer there, all of it?  Looks without taking anything.
 * Returns 0 with @size, or -1 for not yet.
 */
static int peek_answer(int dup, const char *path, __u8 buf[KVMI_HELLO_MAX_SIZE], size_t *size)
{
	__u32 claimed;
	ssize_t n;
	int rest;

	n = recv(dup, buf, KVMI_HELLO_MAX_SIZE, MSG_PEEK | MSG_DONTWAIT);
	if (!n || (n < 0 && errno == ECONNRESET))
		return fail(KVMI_EXIT_GONE,
			    "%s: the tool closed the connection instead of answering",
			    path);
	if (n < (ssize_t)sizeof(claimed))
		return -1;
	memcpy(&claimed, buf, sizeof(claimed));
	rest = kvmi_hello_check_answer_size(claimed);
	if (rest < 0)
		return fail(KVMI_EXIT_FAILED, "%s: %s", path, kvmi_error());
	*size = sizeof(claimed) + rest;
	return (size_t)n < *size ? -1 : 0;
}

/* The VMM runs meanwhile. */
static int wait_answer(const struct vmm *vmm, int pidfd, int dup, const char *path,
		       unsigned int timeout, __u8 buf[KVMI_HELLO_MAX_SIZE], size_t *size)
{
	uint64_t deadline = now_ms() + timeout * 1000ULL, now;
	const struct timespec pause = { .tv_nsec = 2 * 1000 * 1000 };
	struct pollfd pfd[2] = {
		{ .fd = dup, .events = POLLIN },
		{ .fd = pidfd, .events = POLLIN },
	};
	int err;

	for (;;) {
		err = peek_answer(dup, path, buf, size);
		if (err >= 0)
			return err;
		now = now_ms();
		if (now >= deadline)
			return fail(KVMI_EXIT_TIMEOUT,
				    "%s: the tool did not answer within %u s", path,
				    timeout);
		if (poll(pfd, 2, deadline - now) < 0 && errno != EINTR)
			return fail(KVMI_EXIT_FAILED, "poll: %s", strerror(errno));
		if (pfd[1].revents)
			return fail(KVMI_EXIT_GONE, "process %d (%s) was killed meanwhile",
				    vmm->pid, vmm->comm);
		/* There is something, but not all of it: do not spin. */
		if (pfd[0].revents)
			nanosleep(&pause, NULL);
	}
}

/* Is the answer right?  What there is to be proved in return is sent from here. */
static int check_answer(struct kvmi_greeting *greeting, int dup, const char *path,
			const __u8 *answer, size_t size)
{
	const void *proof;
	size_t proof_size;
	int err;

	err = kvmi_greeting_answer(greeting, answer, size, &proof, &proof_size);
	if (err)
		return fail(status_of_errno(err), "%s: %s", path, kvmi_error());
	if (proof_size && send(dup, proof, proof_size, MSG_NOSIGNAL | MSG_DONTWAIT) !=
	    (ssize_t)proof_size)
		return fail(KVMI_EXIT_GONE, "%s: the tool closed the connection", path);
	return 0;
}

/* While stopped: take the answer out of the socket. */
static int take_answer(struct vmm *vmm, long sock, const char *path, size_t size)
{
	size_t n;
	long ret;
	int err;

	while (size) {
		n = size < INJECT_DATA_SIZE ? size : INJECT_DATA_SIZE;
		err = inject_call(vmm->inj, &ret, SYS_recvfrom, sock,
				  inject_data(vmm->inj, 0), n, MSG_DONTWAIT, 0, 0);
		if (err)
			return err;
		if (ret <= 0)
			return fail(KVMI_EXIT_GONE, "%s: the tool closed the connection",
				    path);
		size -= ret;
	}
	return 0;
}

/* --- giving it to KVM ---------------------------------------------------------------------- */

static int fail_hook(const struct vmm *vmm, const char *what, int err)
{
	switch (err) {
	case EPERM:
	case ENOTTY:
		return fail_introspection_off();
	case EEXIST:
		return fail(KVMI_EXIT_BUSY,
			    "the VM (file %d of process %d, %s) is hooked already",
			    vmm->fd, vmm->pid, vmm->comm);
	default:
		return fail(KVMI_EXIT_FAILED, "file %d of process %d (%s): %s: %s",
			    vmm->fd, vmm->pid, vmm->comm, what, strerror(err));
	}
}

/* While stopped: HOOK, and allow everything. */
static int give_to_kvm(struct vmm *vmm, long sock, const uint8_t uuid[16])
{
	struct kvm_introspection_hook hook = { .fd = sock };
	const struct kvm_introspection_feature all = { .allow = 1, .id = -1 };
	long ret, ignored;
	int err;

	memcpy(hook.uuid, uuid, sizeof(hook.uuid));
	err = vmm_ioctl_struct(vmm, &ret, KVM_INTROSPECTION_HOOK, &hook, sizeof(hook));
	if (err)
		return err;
	if (ret < 0)
		return fail_hook(vmm, "KVM_INTROSPECTION_HOOK", -ret);

	err = vmm_ioctl_struct(vmm, &ret, KVM_INTROSPECTION_COMMAND, &all, sizeof(all));
	if (!err && ret < 0)
		err = fail_hook(vmm, "KVM_INTROSPECTION_COMMAND", -ret);
	if (!err) {
		err = vmm_ioctl_struct(vmm, &ret, KVM_INTROSPECTION_EVENT, &all,
				       sizeof(all));
		if (!err && ret < 0)
			err = fail_hook(vmm, "KVM_INTROSPECTION_EVENT", -ret);
	}
	if (err && err != KVMI_EXIT_GONE) {
		char why[FAILURE_SIZE];

		save_failure(why);
		vmm_ioctl(vmm, &ignored, KVM_INTROSPECTION_UNHOOK, 0);
		restore_failure(err, why);
	}
	return err;
}

/* --- all together ----------------------------------------------------------------------------- */

/* Resume after @err: its text stays unless the VMM has gone. */
static int resume_after(struct vmm *vmm, int err)
{
	char why[FAILURE_SIZE];
	int resume_err;

	save_failure(why);
	resume_err = vmm_resume(vmm);
	if (!err || resume_err == KVMI_EXIT_GONE)
		return resume_err;
	return restore_failure(err, why);
}

/*
 * The VMM is connected and runs.  Wait for the tool's answer, then have the VMM
 * give the connection to KVM, or close it if that is not to be.
 */
static int hook_connected(struct vmm *vmm, int pidfd, long sock, const char *path,
			  const struct hook_options *o, struct kvmi_greeting *greeting,
			  const uint8_t uuid[16])
{
	static __u8 answer[KVMI_HELLO_MAX_SIZE];
	char why[FAILURE_SIZE];
	size_t size = 0;
	int dup, err, stop_err;

	/* A descriptor of our own for the VMM's socket, to wait on. */
	dup = syscall(SYS_pidfd_getfd, pidfd, (int)sock, 0);
	if (dup < 0)
		err = fail(errno == ESRCH ? KVMI_EXIT_GONE : KVMI_EXIT_FAILED,
			   "process %d (%s): pidfd_getfd: %s", vmm->pid, vmm->comm,
			   strerror(errno));
	else
		err = wait_answer(vmm, pidfd, dup, path, o->timeout, answer, &size);
	if (!err)
		err = check_answer(greeting, dup, path, answer, size);

	save_failure(why);
	stop_err = vmm_stop(vmm);
	if (stop_err) {
		err = err ? restore_failure(err, why) : stop_err;
		goto out;
	}
	if (err)
		restore_failure(err, why);
	if (dup >= 0 && !still_ours(vmm, sock, dup)) {
		err = fail(KVMI_EXIT_FAILED,
			   "process %d (%s) has closed the connection by itself",
			   vmm->pid, vmm->comm);
	} else {
		if (!err)
			err = take_answer(vmm, sock, path, size);
		if (!err)
			err = give_to_kvm(vmm, sock, uuid);
		/* Hooked or not: KVM has a reference of its own. */
		close_socket(vmm, sock);
	}
	err = resume_after(vmm, err);
out:
	if (dup >= 0)
		close(dup);
	return err;
}

/* The highest guest physical address that the CPU can have. */
static uint64_t highest_gpa(void)
{
	unsigned int bits = 0;
	char line[256];
	FILE *f;

	f = fopen("/proc/cpuinfo", "re");
	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "address sizes : %u bits physical", &bits) == 1)
			break;
	if (f)
		fclose(f);
	return bits && bits < 64 ? (1ULL << bits) - 1 : UINT64_MAX;
}

static int hook(struct vmm *vmm, const struct hook_options *o,
		const struct kvmi_hello *hello)
{
	struct kvmi_greeting *greeting;
	char path[PATH_MAX];
	long sock = -1;
	int pidfd, err;

	err = check_socket(vmm, o->socket, path);
	if (err)
		return err;
	if (kvmi_greeting_new(hello, o->key_file ? &o->auth : NULL, &greeting))
		return fail(KVMI_EXIT_FAILED, "%s", kvmi_error());
	pidfd = syscall(SYS_pidfd_open, vmm->pid, 0);
	if (pidfd < 0) {
		kvmi_greeting_free(greeting);
		return fail(errno == ESRCH ? KVMI_EXIT_GONE : KVMI_EXIT_FAILED,
			    "process %d (%s): pidfd_open: %s", vmm->pid, vmm->comm,
			    strerror(errno));
	}
	err = vmm_stop(vmm);
	if (!err) {
		err = connect_and_greet(vmm, path, greeting, &sock);
		if (err && sock >= 0)
			close_socket(vmm, sock);
		err = resume_after(vmm, err);
	}
	if (!err)
		err = hook_connected(vmm, pidfd, sock, path, o, greeting, hello->uuid);
	kvmi_greeting_free(greeting);
	close(pidfd);
	return err;
}

int cmd_hook(int argc, char **argv)
{
	struct hook_options o = { .timeout = DEFAULT_TIMEOUT };
	struct kvmi_hello hello = { 0 };
	char uuid[UUID_TEXT_SIZE];
	struct json_object *out;
	struct vmm vmm;
	int err;

	parse_options(&argp, argc, argv, &o);
	if (o.key_file) {
		err = key_load(o.key_file, o.mutual, &o.auth);
		if (err)
			return report_failure(&o.common, err);
	}

	err = vmm_open(&vmm, o.pid, o.vm);
	if (err)
		return report_failure(&o.common, err);
	if (o.name)
		snprintf(hello.name, sizeof(hello.name), "%s", o.name);
	else
		snprintf(hello.name, sizeof(hello.name), "%s-%d", vmm.comm, vmm.pid);
	if (o.uuid_text)
		memcpy(hello.uuid, o.uuid, sizeof(hello.uuid));
	else
		vmm_default_uuid(&vmm, hello.uuid);
	hello.start_time = vmm.start_time;
	hello.max_gpa = o.max_gpa_given ? o.max_gpa : highest_gpa();

	err = hook(&vmm, &o, &hello);
	if (err) {
		err = report_failure(&o.common, err);
	} else if (o.common.json) {
		out = json_object_new_object();
		json_add_bool(out, "hooked", true);
		json_add_int(out, "pid", vmm.pid);
		json_add_int(out, "file", vmm.fd);
		json_add_string(out, "name", hello.name);
		json_add_string(out, "uuid", format_uuid(hello.uuid, uuid));
		json_add_string(out, "socket", o.socket);
		json_print(out);
	} else {
		printf("hooked VM %s (file %d of process %d) to %s\n", hello.name,
		       vmm.fd, vmm.pid, o.socket);
	}
	vmm_close(&vmm);
	return err;
}
