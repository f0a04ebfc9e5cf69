// SPDX-License-Identifier: GPL-2.0
/*
 * Records what the kernel's side of a session says, for the fuzzers to start
 * from.
 *
 *	record DIRECTORY		the kernel is a peer of the tests
 *	record DIRECTORY SOCKET		a VMM brings it; a line on the standard
 *					input says that all commands are allowed
 */

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <kvmi/libkvmi.h>

#include "peer.h"
#include "session.h"
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

/* The VMM's VM, its handshake done; the VMM may still have to allow things. */
static int real_kernel(const char *path)
{
	struct pollfd pfd = { .events = POLLIN };
	struct kvmi_listener *listener;
	struct kvmi_hello hello;
	int fd, c;

	must(!kvmi_listener_open(path, &listener));
	printf("listening\n");
	fflush(stdout);
	pfd.fd = kvmi_listener_fd(listener);
	must(poll(&pfd, 1, 60000) == 1);
	fd = kvmi_listener_accept(listener);
	must(fd >= 0);
	must(!kvmi_handshake_tool(fd, NULL, &hello, 10000));
	kvmi_listener_close(listener);
	do {
		c = getchar();
	} while (c != '\n' && c != EOF);
	return fd;
}

int main(int argc, char **argv)
{
	static struct peer peer;
	uint8_t hello[KVMI_HELLO_SIZE + 1] = { 0 }, event[8 + 576];
	struct kvmi_hello h = { .name = "recorded", .max_gpa = 0xfffff };
	bool real = argc == 3;
	pthread_t threads[2];
	struct kvmi_dom *dom;
	char path[4096];
	int sv[2], fds[2];

	if (argc != 2 && !real) {
		fprintf(stderr, "usage: record DIRECTORY [SOCKET]\n");
		return 2;
	}
	snprintf(path, sizeof(path), "%s/session", argv[1]);
	out = fopen(path, "w");
	must(out);
	fds[0] = real ? real_kernel(argv[2]) : peer_start(&peer, NULL, NULL);
	must(!socketpair(AF_UNIX, SOCK_STREAM, 0, sv));
	fds[1] = sv[0];
	must(!pthread_create(&threads[0], NULL, relay, fds));
	must(!pthread_create(&threads[1], NULL, hand_on, fds));
	must(!kvmi_dom_open(sv[1], NULL, &dom));
	if (!real)
		peer_send_raw(peer.fd, event, peer_pf_event(event, 1, 0, 0x1000, 0x2000, 2, 0x3000));
	must(!session(dom, 5000));
	kvmi_dom_close(dom);
	if (!real)
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
