// SPDX-License-Identifier: GPL-2.0
/*
 * Many threads on one connection: each gets its own replies, events go on
 * meanwhile, and nobody waits for anybody for ever.
 */

#include <errno.h>
#include <kvmi/libkvmi.h>
#include <pthread.h>
#include <sys/socket.h>
#include <time.h>

#include "peer.h"
#include "tap.h"

#define THREADS	8
#define ROUNDS	300
#define EVENTS	2000

static struct peer peer;
static struct kvmi_dom *dom;
static pthread_mutex_t held_lock = PTHREAD_MUTEX_INITIALIZER;

/* Answer vCPU commands two by two in the other order, as a kernel may. */
static bool out_of_order(struct peer *p, const struct peer_msg *msg)
{
	static struct peer_msg held;
	static bool have;
	bool done = true;

	if (msg->id != 5)
		return false;
	pthread_mutex_lock(&held_lock);
	if (!have) {
		held = *msg;
		have = true;
	} else {
		peer_reply(p->fd, msg, get16(msg->data) ? -22 : 0, NULL, 0);
		peer_reply(p->fd, &held, get16(held.data) ? -22 : 0, NULL, 0);
		have = false;
	}
	pthread_mutex_unlock(&held_lock);
	return done;
}

static void *reader(void *arg)
{
	unsigned long me = (unsigned long)arg, bad = 0;
	uint8_t buf[64];
	unsigned int i, j;

	for (i = 0; i < ROUNDS; i++) {
		uint64_t gpa = (me * 5 + i % 3) * 4096 + i % 64;

		if (kvmi_vm_read_physical(dom, gpa, buf, sizeof(buf))) {
			bad++;
			continue;
		}
		for (j = 0; j < sizeof(buf); j++)
			bad += buf[j] != (uint8_t)((gpa + j) * 7 + (gpa + j) / 4096);
	}
	return (void *)bad;
}

static void *controller(void *arg)
{
	unsigned long me = (unsigned long)arg, bad = 0;
	unsigned int i;
	int err;

	/* An even number of these threads, so that every command has its pair. */
	for (i = 0; i < ROUNDS; i++) {
		err = kvmi_vcpu_control_events(dom, me & 1, 17, true);
		bad += err != (me & 1 ? -EINVAL : 0);
	}
	return (void *)bad;
}

static void *event_taker(void *arg)
{
	unsigned long n = 0;
	struct kvmi_event ev;

	(void)arg;
	while (n < EVENTS && kvmi_event_next(dom, &ev, 20000) == 1) {
		if (ev.seq != n + 1 || ev.pf.gpa != n)
			break;
		if (kvmi_event_reply(dom, &ev, KVMI_EVENT_ACTION_CONTINUE))
			break;
		n++;
	}
	return (void *)n;
}

static void test_mixed(void)
{
	pthread_t readers[THREADS], controllers[2], taker;
	uint8_t ev[8 + 576];
	unsigned long bad = 0, i;
	void *ret;

	must(!kvmi_dom_open(peer_start(&peer, out_of_order, NULL), NULL, &dom));
	must(!pthread_create(&taker, NULL, event_taker, NULL));
	for (i = 0; i < THREADS; i++)
		must(!pthread_create(&readers[i], NULL, reader, (void *)i));
	for (i = 0; i < 2; i++)
		must(!pthread_create(&controllers[i], NULL, controller, (void *)i));
	for (i = 0; i < EVENTS; i++)
		peer_send_raw(peer.fd, ev, peer_pf_event(ev, i + 1, 0, 0, i, 2, 0));

	for (i = 0; i < THREADS; i++) {
		must(!pthread_join(readers[i], &ret));
		bad += (unsigned long)ret;
	}
	is_num(bad, 0, "%d threads read what they asked for", THREADS);
	bad = 0;
	for (i = 0; i < 2; i++) {
		must(!pthread_join(controllers[i], &ret));
		bad += (unsigned long)ret;
	}
	is_num(bad, 0, "replies out of order reach whom they are for");
	must(!pthread_join(taker, &ret));
	is_num((unsigned long)ret, EVENTS, "all events came meanwhile, in order");
	kvmi_dom_close(dom);
	peer_stop(&peer);
	is_num(peer.answers, EVENTS, "all answers arrived");
}

static void *wait_event(void *arg)
{
	struct kvmi_event ev;

	(void)arg;
	return (void *)(long)kvmi_event_next(dom, &ev, -1);
}

static bool ignore(struct peer *p, const struct peer_msg *msg)
{
	(void)p;
	(void)msg;
	return true;
}

static void *wait_info(void *arg)
{
	struct kvmi_vm_get_info_reply info;

	(void)arg;
	return (void *)(long)kvmi_vm_get_info(dom, &info);
}

static void test_shutdown(void)
{
	const struct timespec pause = { .tv_nsec = 100 * 1000 * 1000 };
	pthread_t threads[6];
	unsigned int i;
	void *ret;

	must(!kvmi_dom_open(peer_start(&peer, ignore, NULL), NULL, &dom));
	for (i = 0; i < 6; i++)
		must(!pthread_create(&threads[i], NULL,
				     i & 1 ? wait_event : wait_info, NULL));
	nanosleep(&pause, NULL);
	kvmi_dom_shutdown(dom);
	for (i = 0; i < 6; i++) {
		must(!pthread_join(threads[i], &ret));
		is_num((long)ret, -ESHUTDOWN, "thread %u is told of the end", i);
	}
	kvmi_dom_close(dom);
	peer_stop(&peer);
}

/*
 * The peer sends without reading until its own socket is full, as a kernel's
 * receiving thread would while it answers, and the tool sends meanwhile: the
 * library has to go on receiving for this to end.
 */
static int full_fd;

static void *full_peer(void *arg)
{
	struct peer_msg *msg = malloc(sizeof(*msg));
	static uint8_t data[4096];
	uint8_t hdr[8], ev[8 + 576];
	unsigned int i, n = 0;
	size_t got;

	(void)arg;
	must(msg);
	for (i = 0; i < 3000; i++)
		peer_send_raw(full_fd, ev, peer_pf_event(ev, i, 0, 0, i, 2, 0));
	for (n = 0; n < 200; n++) {
		must(recv(full_fd, hdr, 8, MSG_WAITALL) == 8);
		msg->id = get16(hdr);
		msg->seq = get32(hdr + 4);
		got = get16(hdr + 2);
		must(recv(full_fd, msg->data, got, MSG_WAITALL) == (ssize_t)got);
		peer_reply(full_fd, msg, 0, data, msg->id == 12 ? 4096 : 0);
	}
	free(msg);
	return NULL;
}

static void *full_writer(void *arg)
{
	static uint8_t buf[4096];
	unsigned long bad = 0;
	unsigned int i;

	(void)arg;
	for (i = 0; i < 25; i++)
		bad += !!kvmi_vm_write_physical(dom, 0, buf, sizeof(buf));
	return (void *)bad;
}

static void test_full_sockets(void)
{
	int sv[2], small = 4096, i;
	pthread_t p, writers[8];
	unsigned long bad = 0;
	void *ret;

	must(!socketpair(AF_UNIX, SOCK_STREAM, 0, sv));
	for (i = 0; i < 2; i++)
		must(!setsockopt(sv[i], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)));
	full_fd = sv[0];
	must(!kvmi_dom_open(sv[1], NULL, &dom));
	must(!pthread_create(&p, NULL, full_peer, NULL));
	for (i = 0; i < 8; i++)
		must(!pthread_create(&writers[i], NULL, full_writer, NULL));
	for (i = 0; i < 8; i++) {
		must(!pthread_join(writers[i], &ret));
		bad += (unsigned long)ret;
	}
	is_num(bad, 0, "commands get through full sockets");
	must(!pthread_join(p, NULL));
	kvmi_dom_close(dom);
	close(full_fd);
}

int main(void)
{
	tap_start(120);
	test_mixed();
	test_shutdown();
	test_full_sockets();
	return tap_done();
}
