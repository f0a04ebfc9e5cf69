// SPDX-License-Identifier: GPL-2.0
/*
 * The event loop and the descriptors to poll: several VMs in one thread, VMs
 * that come back, and connections that come to nothing.
 */

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <kvmi/libkvmi.h>

#include <linux/vm_sockets.h>

#include "peer.h"
#include "tap.h"

#define VMS	3

static char path[108];

static struct seen {
	struct kvmi_loop *loop;
	struct kvmi_dom *dom[8];
	char name[8][64];
	unsigned int connected, gone, refused, events;
	unsigned int stop_at;		/* so many ends */
	int refused_err, gone_err;
	uint64_t gpas;
} seen;

static void maybe_stop(void)
{
	if (seen.gone + seen.refused == seen.stop_at)
		kvmi_loop_stop(seen.loop);
}

static void connected(struct kvmi_dom *dom, void *data)
{
	struct seen *s = data;

	strcpy(s->name[s->connected], kvmi_dom_hello(dom)->name);
	s->dom[s->connected++] = dom;
}

static void event(struct kvmi_dom *dom, const struct kvmi_event *ev, void *data)
{
	struct kvmi_get_version_reply version;
	struct seen *s = data;

	/* Commands can be sent from here. */
	must(!kvmi_get_version(dom, &version));
	s->events++;
	s->gpas += ev->pf.gpa;
	must(!kvmi_event_reply(dom, ev, KVMI_EVENT_ACTION_RETRY));
}

static void gone(struct kvmi_dom *dom, int err, void *data)
{
	struct seen *s = data;

	(void)dom;
	s->gone++;
	s->gone_err = err;
	maybe_stop();
}

static void refused(int err, void *data)
{
	struct seen *s = data;

	s->refused++;
	s->refused_err = err;
	maybe_stop();
}

static const struct kvmi_loop_handlers handlers = {
	.connected = connected,
	.event = event,
	.gone = gone,
	.refused = refused,
};

static int dial(void)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strcpy(addr.sun_path, path);
	must(!connect(fd, (struct sockaddr *)&addr, sizeof(addr)));
	return fd;
}

static void greet(int fd, const char *name)
{
	struct kvmi_hello hello = { .max_gpa = 0xffff };
	uint8_t bytes[KVMI_HELLO_SIZE], answer[24];

	strcpy(hello.name, name);
	kvmi_hello_pack(&hello, bytes);
	must(send(fd, bytes, sizeof(bytes), MSG_NOSIGNAL) == sizeof(bytes));
	must(recv(fd, answer, sizeof(answer), MSG_WAITALL) == sizeof(answer));
}

/* A VM that faults 100 times and is answered each time; then it hangs up. */
static void *vm(void *arg)
{
	struct peer *peer = calloc(1, sizeof(*peer));
	long number = (long)arg, i;
	uint8_t buf[8 + 576];
	char name[16];
	int fd = dial();

	must(peer);
	snprintf(name, sizeof(name), "vm%ld", number);
	greet(fd, name);
	peer_init(peer, fd, NULL, NULL);
	peer_run(peer);
	for (i = 1; i <= 100; i++) {
		peer_send_raw(fd, buf, peer_pf_event(buf, i, 0, 0, number * 4096, 2, 0));
		while (__atomic_load_n(&peer->answers, __ATOMIC_ACQUIRE) < i)
			usleep(100);
	}
	peer_stop(peer);
	free(peer);
	return NULL;
}

static void test_loop(void)
{
	struct kvmi_listener *listener;
	pthread_t threads[VMS];
	unsigned int round;
	long i;

	must(!kvmi_listener_open(path, &listener));
	memset(&seen, 0, sizeof(seen));
	is_num(kvmi_loop_new(&seen.loop), 0, "a loop");
	is_num(kvmi_loop_add_listener(seen.loop, listener, NULL, &handlers, &seen), 0,
	       "with a listener");
	is_num(kvmi_loop_dispatch(seen.loop, 0), 0, "nothing to do yet");
	/* The second round are the same VMs, come back. */
	for (round = 1; round <= 2; round++) {
		seen.stop_at = round * VMS;
		for (i = 0; i < VMS; i++)
			must(!pthread_create(&threads[i], NULL, vm, (void *)(i + 1)));
		is_num(kvmi_loop_run(seen.loop), 0, "%d VMs at once", VMS);
		for (i = 0; i < VMS; i++)
			must(!pthread_join(threads[i], NULL));
		is_num(seen.connected, round * VMS, "all connected");
		is_num(seen.gone, round * VMS, "all gone");
		is_num(seen.gone_err, -ECONNRESET, "because they hung up");
		is_num(seen.events, round * VMS * 100, "all events were handled");
		is_num(seen.gpas, round * 100 * 4096 * (1 + 2 + 3), "each with its data");
	}
	kvmi_loop_free(seen.loop);
	kvmi_listener_close(listener);
}

/* A connection that says nothing keeps nobody waiting. */
static void test_refused(void)
{
	struct kvmi_auth auth = { .key = "k", .key_size = 1, .flags = KVMI_AUTH_MUTUAL };
	struct kvmi_listener *listener;
	struct pollfd pfd = { .events = POLLIN };
	uint8_t bytes[KVMI_HELLO_SIZE] = { 1 };
	int silent, bad, i;

	must(!kvmi_listener_open(path, &listener));
	memset(&seen, 0, sizeof(seen));
	seen.stop_at = 99;
	must(!kvmi_loop_new(&seen.loop));
	must(!kvmi_loop_add_listener(seen.loop, listener, &auth, &handlers, &seen));
	pfd.fd = kvmi_loop_fd(seen.loop);
	is_num(poll(&pfd, 1, 0), 0, "the loop's descriptor is quiet");
	silent = dial();
	is_num(poll(&pfd, 1, 1000), 1, "and readable when there is something to do");
	bad = dial();
	must(send(bad, bytes, 4, 0) == 4);
	for (i = 0; i < 10 && !seen.refused; i++)
		must(kvmi_loop_dispatch(seen.loop, 100) >= 0);
	is_num(seen.refused, 1, "a hello that cannot be one");
	is_num(seen.refused_err, -EPROTO, "is refused");
	close(bad);

	bad = dial();
	memset(bytes, 0, sizeof(bytes));
	put32(bytes, sizeof(bytes));
	must(send(bad, bytes, sizeof(bytes), 0) == sizeof(bytes));
	for (i = 0; i < 10 && seen.refused < 2; i++)
		must(kvmi_loop_dispatch(seen.loop, 100) >= 0);
	is_num(seen.refused_err, -EACCES, "and so is one that proves nothing");
	is_num(recv(bad, bytes, 1, 0), 0, "and hung up on");
	close(bad);
	is_num(seen.connected, 0, "nobody was connected");
	kvmi_loop_stop(seen.loop);
	is_num(kvmi_loop_dispatch(seen.loop, 1000), -ESHUTDOWN, "stopped");
	kvmi_loop_free(seen.loop);
	is_num(recv(silent, bytes, 1, 0), 0, "the silent one is hung up on at the end");
	close(silent);
	kvmi_listener_close(listener);
}

static struct kvmi_dom *removed;

static void remove_it(struct kvmi_dom *dom, const struct kvmi_event *ev, void *data)
{
	struct seen *s = data;

	s->events++;
	must(!kvmi_event_reply(dom, ev, 0));
	must(!kvmi_loop_remove_dom(s->loop, dom));
	removed = dom;
}

static void test_remove(void)
{
	const struct kvmi_loop_handlers h = { .event = remove_it };
	uint8_t buf[8 + 576];
	struct kvmi_event ev;
	struct kvmi_dom *dom;
	struct peer peer;

	memset(&seen, 0, sizeof(seen));
	must(!kvmi_loop_new(&seen.loop));
	must(!kvmi_dom_open(peer_start(&peer, NULL, NULL), NULL, &dom));
	is_num(kvmi_loop_add_dom(seen.loop, dom, &h, &seen), 0, "a domain by itself");
	peer_send_raw(peer.fd, buf, peer_pf_event(buf, 1, 0, 0, 0, 1, 0));
	peer_send_raw(peer.fd, buf, peer_pf_event(buf, 2, 1, 0, 0, 1, 0));
	is_num(kvmi_loop_dispatch(seen.loop, 1000), 1, "has an event");
	is_num(seen.events, 1, "which was handed out");
	ok(removed == dom, "and the handler took the domain away");
	is_num(kvmi_loop_dispatch(seen.loop, 0), 0, "nothing more comes");
	is_num(kvmi_event_next(dom, &ev, 1000), 1, "the other event is still there");
	is_num(kvmi_loop_remove_dom(seen.loop, dom), -ENOENT, "the loop knows it no longer");
	kvmi_loop_free(seen.loop);
	kvmi_dom_close(dom);
	peer_stop(&peer);
}

/* An event comes first, then the reply. */
static bool event_first(struct peer *p, const struct peer_msg *msg)
{
	uint8_t buf[8 + 576];

	(void)msg;
	peer_send_raw(p->fd, buf, peer_pf_event(buf, 1, 0, 0, 0, 1, 0));
	return false;
}

static void test_poll_fd(void)
{
	struct kvmi_vm_get_info_reply info;
	struct pollfd pfd = { .events = POLLIN };
	uint8_t msg[KVMI_EVENT_MAX_SIZE];
	struct kvmi_event ev;
	struct kvmi_dom *dom;
	struct peer peer;
	size_t size;

	must(!kvmi_dom_open(peer_start(&peer, event_first, NULL), NULL, &dom));
	pfd.fd = kvmi_dom_poll_fd(dom);
	ok(pfd.fd >= 0, "a descriptor to poll");
	is_num(kvmi_dom_poll_fd(dom), pfd.fd, "is always the same");
	is_num(poll(&pfd, 1, 0), 0, "quiet");
	must(!kvmi_vm_get_info(dom, &info));
	is_num(poll(&pfd, 1, 0), 1, "an event that came before a reply makes it readable");
	is_num(kvmi_event_next_raw(dom, msg, 100, &size, 0), -EMSGSIZE, "100 bytes for it");
	is_num(poll(&pfd, 1, 0), 0, "quiet again");
	must(!kvmi_vm_get_info(dom, &info));
	is_num(kvmi_event_next_raw(dom, msg, sizeof(msg), &size, 0), 1, "an event as it came");
	is_num(size, 8 + 576, "its size");
	is_num(kvmi_event_parse(msg, size, &ev), 0, "is parsed");
	ok(ev.id == 17 && ev.seq == 1 && ev.pf.access == 1, "into the same");
	is_num(kvmi_event_parse(msg, size - 1, &ev), -EPROTO, "a byte too few");
	put16(msg, 8);
	is_num(kvmi_event_parse(msg, size, &ev), -EPROTO, "not an event");
	is_num(kvmi_event_parse(msg, 7, &ev), -EPROTO, "not a message");
	is_num(kvmi_event_reply_value(dom, &ev, 1), -EINVAL, "a page fault takes no value");
	kvmi_dom_shutdown(dom);
	is_num(poll(&pfd, 1, 0), 1, "the end makes it readable");
	is_num(kvmi_event_next(dom, &ev, 0), -ESHUTDOWN, "and is told");
	is_num(poll(&pfd, 1, 0), 1, "for ever");
	kvmi_dom_close(dom);
	peer_stop(&peer);
}

static void test_vsock(void)
{
	struct sockaddr_vm addr = { .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_LOCAL };
	struct sockaddr_vm bound;
	socklen_t len = sizeof(bound);
	struct kvmi_listener *l, *l2;
	struct kvmi_hello hello;
	uint8_t bytes[KVMI_HELLO_SIZE] = { 0 };
	int err, fd, got;

	err = kvmi_listener_open_vsock(VMADDR_CID_ANY, VMADDR_PORT_ANY, &l);
	if (err == -EAFNOSUPPORT || err == -EADDRNOTAVAIL || err == -ENODEV) {
		tap_skip("vsock: %s", kvmi_error());
		return;
	}
	is_num(err, 0, "a vsock listener");
	must(!getsockname(kvmi_listener_fd(l), (struct sockaddr *)&bound, &len));
	is_num(kvmi_listener_open_vsock(VMADDR_CID_ANY, bound.svm_port, &l2), -EADDRINUSE,
	       "a second one on the same port");
	has_text(kvmi_error(), "vsock port", "is named");
	addr.svm_port = bound.svm_port;
	fd = socket(AF_VSOCK, SOCK_STREAM, 0);
	if (connect(fd, (struct sockaddr *)&addr, sizeof(addr))) {
		tap_skip("vsock to this machine itself: %s", strerror(errno));
	} else {
		put32(bytes, sizeof(bytes));
		strcpy((char *)bytes + 32, "far");
		must(send(fd, bytes, sizeof(bytes), 0) == sizeof(bytes));
		got = kvmi_listener_accept(l);
		is_num(kvmi_handshake_tool(got, NULL, &hello, 1000), 0, "a handshake over vsock");
		ok(!strcmp(hello.name, "far"), "name");
		close(got);
	}
	close(fd);
	kvmi_listener_close(l);
}

int main(void)
{
	char dir[] = "/tmp/kvmi-loop.XXXXXX";

	tap_start(60);
	must(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/socket", dir);
	test_loop();
	test_refused();
	test_remove();
	test_poll_fd();
	test_vsock();
	rmdir(dir);
	return tap_done();
}
