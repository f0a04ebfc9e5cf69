// SPDX-License-Identifier: GPL-2.0
/*
 * Records what the kernel's side of some sessions says, for the fuzzers to start
 * from: record DIRECTORY
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <kvmi/libkvmi.h>

#include "peer.h"
#include "tap.h"

static FILE *out;

/* Between the peer and the library: hands on what either says, and keeps the one. */
static void *relay(void *arg)
{
	int *fds = arg;
	uint8_t buf[4096];
	ssize_t n;

	while ((n = recv(fds[0], buf, sizeof(buf), 0)) > 0) {
		fwrite(buf, 1, n, out);
		send(fds[1], buf, n, MSG_NOSIGNAL);
	}
	shutdown(fds[1], SHUT_WR);
	return NULL;
}

static void *hand_on(void *arg)
{
	int *fds = arg;
	uint8_t buf[4096];
	ssize_t n;

	while ((n = recv(fds[1], buf, sizeof(buf), 0)) > 0)
		send(fds[0], buf, n, MSG_NOSIGNAL);
	shutdown(fds[0], SHUT_WR);
	return NULL;
}

static void session(struct kvmi_dom *dom, struct peer *peer)
{
	struct kvm_msr_entry msrs[2] = { { .index = 0x10 }, { .index = 0x11 } };
	struct kvmi_get_version_reply version;
	uint8_t event[8 + 576], page[4096];
	struct kvmi_registers regs;
	struct kvmi_batch *batch;
	struct kvmi_event ev;

	/* The same requests in the same order as the fuzzer has. */
	must(!kvmi_get_version(dom, &version));
	peer_send_raw(peer->fd, event, peer_pf_event(event, 1, 0, 0x1000, 0x2000, 2, 0x3000));
	must(kvmi_event_next(dom, &ev, 5000) == 1);
	must(!kvmi_event_reply(dom, &ev, 0));
	must(!kvmi_vcpu_get_registers(dom, 0, &regs, msrs, 2));
	must(!kvmi_batch_new(dom, &batch));
	must(kvmi_batch_read_physical(batch, 0x1000, page, sizeof(page)) == 0);
	must(kvmi_batch_read_physical(batch, 0x2000, page, 100) == 1);
	must(!kvmi_batch_run(batch));
	kvmi_batch_free(batch);
}

int main(int argc, char **argv)
{
	static struct peer peer;
	pthread_t threads[2];
	struct kvmi_dom *dom;
	char path[4096];
	uint8_t hello[KVMI_HELLO_SIZE + 1] = { 0 };
	struct kvmi_hello h = { .name = "recorded", .max_gpa = 0xfffff };
	int sv[2], fds[2];

	if (argc != 2)
		return 2;
	snprintf(path, sizeof(path), "%s/session", argv[1]);
	out = fopen(path, "w");
	must(out);
	fds[0] = peer_start(&peer, NULL, NULL);
	must(!socketpair(AF_UNIX, SOCK_STREAM, 0, sv));
	fds[1] = sv[0];
	must(!pthread_create(&threads[0], NULL, relay, fds));
	must(!pthread_create(&threads[1], NULL, hand_on, fds));
	must(!kvmi_dom_open(sv[1], NULL, &dom));
	session(dom, &peer);
	kvmi_dom_close(dom);
	peer_stop(&peer);
	must(!pthread_join(threads[0], NULL));
	must(!pthread_join(threads[1], NULL));
	must(!fclose(out));

	kvmi_hello_pack(&h, hello + 1);
	snprintf(path, sizeof(path), "%s/hello", argv[1]);
	out = fopen(path, "w");
	must(out && fwrite(hello, 1, sizeof(hello), out) == sizeof(hello) && !fclose(out));
	return 0;
}
