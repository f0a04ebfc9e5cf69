// SPDX-License-Identifier: GPL-2.0
/* An introspection tool for the tests of QEMU's introspection object. */

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <linux/vm_sockets.h>
#include <time.h>
#include <unistd.h>

#include "tool.h"

#define HANDSHAKE_MS	5000
#define TICK_MS		50

struct session {
	struct tool *tool;
	int fd;
};

static long long now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000LL + ts.tv_nsec / 1000000;
}

static void pause_ms(int ms)
{
	const struct timespec ts = { .tv_nsec = ms * 1000000L };

	nanosleep(&ts, NULL);
}

static int set_access(struct tool *tool, struct kvmi_dom *dom, __u8 access)
{
	struct kvmi_page_access_entry entries[TOOL_MAX_PAGES];
	int i;

	memset(entries, 0, sizeof(entries));
	for (i = 0; i < tool->nr_pages; i++) {
		entries[i].gpa = tool->pages[i];
		entries[i].access = access;
	}
	return kvmi_vm_set_page_access(dom, entries, tool->nr_pages, NULL);
}

/* Puts the byte in and returns the one that was there, or -1. */
static int swap_byte(struct kvmi_dom *dom, __u64 gpa, __u8 byte)
{
	__u8 old;

	if (kvmi_vm_read_physical(dom, gpa, &old, 1) ||
	    kvmi_vm_write_physical(dom, gpa, &byte, 1))
		return -1;
	return old;
}

static bool arm(struct tool *tool, struct kvmi_dom *dom)
{
	if (tool->patch)
		tool->patched = swap_byte(dom, tool->patch, TOOL_BREAKPOINT);
	if ((tool->patch && tool->patched < 0) ||
	    kvmi_vcpu_control_events(dom, 0, KVMI_VCPU_EVENT_PF, true) ||
	    set_access(tool, dom, KVMI_PAGE_ACCESS_R | KVMI_PAGE_ACCESS_X)) {
		printf("# tool: arm: %s\n", kvmi_error());
		return false;
	}
	tool->armed++;
	return true;
}

static void let_go(struct tool *tool, struct kvmi_dom *dom)
{
	const __u8 all = KVMI_PAGE_ACCESS_R | KVMI_PAGE_ACCESS_W | KVMI_PAGE_ACCESS_X;

	set_access(tool, dom, all);
	if (tool->patched >= 0)
		swap_byte(dom, tool->patch, tool->patched);
}

/* KVM may be asked before QEMU has allowed what is asked for. */
static int want_unhook_event(struct kvmi_dom *dom)
{
	int err, tries = 40;

	do {
		err = kvmi_vm_control_events(dom, KVMI_VM_EVENT_UNHOOK, true);
		if (err == -EPERM)
			pause_ms(TICK_MS);
	} while (err == -EPERM && --tries);
	return err;
}

/* Until the connection ends, by either side. */
static void serve(struct tool *tool, struct kvmi_dom *dom)
{
	struct kvmi_event ev;
	long long told = 0;
	int err;

	while (!tool->stopping) {
		if (told && tool->lets_go && now_ms() >= told + tool->dawdles) {
			let_go(tool, dom);
			return;
		}
		err = kvmi_event_next(dom, &ev, TICK_MS);
		if (!err)
			continue;
		if (err < 0)
			return;
		if (ev.id == KVMI_VM_EVENT_UNHOOK) {
			tool->told++;
			told = now_ms();
		} else if (ev.id & 1) {
			tool->events += ev.id == KVMI_VCPU_EVENT_PF;
			kvmi_event_reply(dom, &ev, KVMI_EVENT_ACTION_CONTINUE);
		}
	}
}

static void *arm_thread(void *arg)
{
	struct tool *tool = arg;

	tool_arm(tool);
	return NULL;
}

/* An answer of any size, to which no key belongs. */
static int answer_oddly(int fd, __u32 size)
{
	__u8 buf[TOOL_MAX_ANSWER] = { 0 };
	size_t n = size;

	if (recv(fd, buf, KVMI_HELLO_SIZE, MSG_WAITALL) != KVMI_HELLO_SIZE)
		return -1;
	memset(buf, 0, sizeof(buf));
	memcpy(buf, &size, sizeof(size));
	if (n < sizeof(size) || n > sizeof(buf))
		n = sizeof(size);
	return send(fd, buf, n, MSG_NOSIGNAL) == (ssize_t)n ? 0 : -1;
}

static int greet(struct tool *tool, int fd, struct kvmi_hello *hello)
{
	memset(hello, 0, sizeof(*hello));
	if (tool->odd_answer)
		return answer_oddly(fd, tool->odd_answer);
	return kvmi_handshake_tool(fd, tool->cookie_hash, hello, HANDSHAKE_MS);
}

static void *session_thread(void *arg)
{
	struct session *session = arg;
	struct tool *tool = session->tool;
	struct kvmi_get_version_reply version;
	struct kvmi_dom *dom = NULL;
	struct kvmi_hello hello;
	pthread_t armer;
	bool arming = false;

	if (!tool->answers) {
		while (!tool->stopping && !tool->answers)
			pause_ms(TICK_MS);
		goto out;
	}
	if (greet(tool, session->fd, &hello))
		goto out;
	tool->hello = hello;
	tool->patched = -1;
	tool->greeted++;
	if (kvmi_dom_open(session->fd, &hello, &dom))
		goto out;
	session->fd = -1;
	if (kvmi_get_version(dom, &version) || want_unhook_event(dom)) {
		printf("# tool: %s\n", kvmi_error());
		goto out;
	}
	pthread_mutex_lock(&tool->lock);
	tool->dom = dom;
	pthread_mutex_unlock(&tool->lock);
	tool->hooked++;
	/* A vCPU answers only once its events are taken. */
	if (tool->arms)
		arming = !pthread_create(&armer, NULL, arm_thread, tool);
	serve(tool, dom);
	kvmi_dom_shutdown(dom);
	if (arming)
		pthread_join(armer, NULL);
out:
	pthread_mutex_lock(&tool->lock);
	if (tool->dom == dom)
		tool->dom = NULL;
	pthread_mutex_unlock(&tool->lock);
	if (dom) {
		kvmi_dom_close(dom);
		tool->gone++;
	}
	if (session->fd >= 0)
		close(session->fd);
	free(session);
	tool->nr_threads--;
	return NULL;
}

static int accept_vmm(struct tool *tool)
{
	if (tool->listener)
		return kvmi_listener_accept(tool->listener);
	return accept4(tool->listen_fd, NULL, NULL, SOCK_CLOEXEC);
}

static void *listen_thread(void *arg)
{
	struct tool *tool = arg;
	struct pollfd pfd = { .fd = tool->listen_fd, .events = POLLIN };
	struct session *session;
	pthread_t thread;
	int fd;

	while (!tool->stopping) {
		if (poll(&pfd, 1, TICK_MS) <= 0)
			continue;
		fd = accept_vmm(tool);
		if (fd < 0)
			continue;
		session = malloc(sizeof(*session));
		*session = (struct session) { .tool = tool, .fd = fd };
		tool->nr_threads++;
		pthread_create(&thread, NULL, session_thread, session);
		pthread_detach(thread);
	}
	return NULL;
}

static int listen_vsock(unsigned int port)
{
	struct sockaddr_vm addr = {
		.svm_family = AF_VSOCK,
		.svm_cid = VMADDR_CID_ANY,
		.svm_port = port,
	};
	int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd >= 0 && (bind(fd, (struct sockaddr *)&addr, sizeof(addr)) || listen(fd, 5))) {
		close(fd);
		return -1;
	}
	return fd;
}

bool tool_start(struct tool *tool, const char *path)
{
	tool->greeted = 0;
	tool->hooked = 0;
	tool->armed = 0;
	tool->events = 0;
	tool->told = 0;
	tool->gone = 0;
	tool->patched = -1;
	tool->dom = NULL;
	tool->listener = NULL;
	tool->stopping = false;
	pthread_mutex_init(&tool->lock, NULL);
	if (tool->vsock_port) {
		tool->listen_fd = listen_vsock(tool->vsock_port);
		if (tool->listen_fd < 0) {
			printf("# tool: vsock: %s\n", strerror(errno));
			return false;
		}
	} else {
		unlink(path);
		if (kvmi_listener_open(path, &tool->listener)) {
			printf("# tool: %s\n", kvmi_error());
			return false;
		}
		tool->listen_fd = kvmi_listener_fd(tool->listener);
	}
	return !pthread_create(&tool->thread, NULL, listen_thread, tool);
}

void tool_stop(struct tool *tool)
{
	tool->stopping = true;
	pthread_join(tool->thread, NULL);
	while (tool->nr_threads)
		pause_ms(10);
	if (tool->listener)
		kvmi_listener_close(tool->listener);
	else
		close(tool->listen_fd);
	pthread_mutex_destroy(&tool->lock);
}

int tool_check(struct tool *tool, bool event, int id)
{
	int err = -ENOTCONN;

	pthread_mutex_lock(&tool->lock);
	if (tool->dom)
		err = event ? kvmi_vm_check_event(tool->dom, id) :
			      kvmi_vm_check_command(tool->dom, id);
	pthread_mutex_unlock(&tool->lock);
	return err;
}

int tool_peek(struct tool *tool, __u64 gpa)
{
	int err = -ENOTCONN;
	__u8 byte;

	pthread_mutex_lock(&tool->lock);
	if (tool->dom)
		err = kvmi_vm_read_physical(tool->dom, gpa, &byte, 1);
	pthread_mutex_unlock(&tool->lock);
	return err ? err : byte;
}

bool tool_arm(struct tool *tool)
{
	bool good = false;

	pthread_mutex_lock(&tool->lock);
	if (tool->dom)
		good = arm(tool, tool->dom);
	pthread_mutex_unlock(&tool->lock);
	return good;
}
