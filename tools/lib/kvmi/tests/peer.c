// SPDX-License-Identifier: GPL-2.0
/* A peer that speaks the kernel's side of the protocol, as far as it is told. */

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "peer.h"

void put16(uint8_t *p, uint16_t v)
{
	memcpy(p, &v, sizeof(v));
}

void put32(uint8_t *p, uint32_t v)
{
	memcpy(p, &v, sizeof(v));
}

void put64(uint8_t *p, uint64_t v)
{
	memcpy(p, &v, sizeof(v));
}

uint16_t get16(const uint8_t *p)
{
	uint16_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

uint32_t get32(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

uint64_t get64(const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static bool recv_all(int fd, void *buf, size_t size)
{
	uint8_t *p = buf;
	ssize_t n;

	while (size) {
		n = recv(fd, p, size, 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		p += n;
		size -= n;
	}
	return true;
}

/* The tool may have gone: then nobody needs it any more. */
void peer_send_raw(int fd, const void *buf, size_t size)
{
	const uint8_t *p = buf;
	ssize_t n;

	while (size) {
		n = send(fd, p, size, MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return;
		p += n;
		size -= n;
	}
}

void peer_send(int fd, uint16_t id, uint32_t seq, const void *data, size_t size)
{
	uint8_t buf[PEER_MAX_MSG];

	put16(buf, id);
	put16(buf + 2, size);
	put32(buf + 4, seq);
	if (size)
		memcpy(buf + 8, data, size);
	peer_send_raw(fd, buf, 8 + size);
}

void peer_reply(int fd, const struct peer_msg *msg, int32_t err,
		const void *data, size_t size)
{
	uint8_t buf[8 + 65536];

	if (err)
		size = 0;
	put32(buf, err);
	put32(buf + 4, 0);
	if (size)
		memcpy(buf + 8, data, size);
	peer_send(fd, msg->id, msg->seq, buf, 8 + size);
}

size_t peer_pf_event(uint8_t *buf, uint32_t seq, uint16_t vcpu, uint64_t gva,
		     uint64_t gpa, uint8_t access, uint64_t rip)
{
	memset(buf, 0, 8 + 576);
	put16(buf, 1);
	put16(buf + 2, 576);
	put32(buf + 4, seq);
	put16(buf + 8, 17);
	put16(buf + 16, 544);
	put16(buf + 18, vcpu);
	buf[24] = 8;
	put64(buf + 32 + 16 * 8, rip);
	put64(buf + 560, gva);
	put64(buf + 568, gpa);
	buf[576] = access;
	return 8 + 576;
}

static void handle_memory(struct peer *peer, const struct peer_msg *msg)
{
	uint64_t gpa = get64(msg->data);
	uint16_t size = get16(msg->data + 8);
	int err = 0;

	if (!size || (gpa & 4095) + size > 4096)
		err = -22;
	else if (gpa >= sizeof(peer->memory))
		err = -2;
	if (err) {
		peer_reply(peer->fd, msg, err, NULL, 0);
	} else if (msg->id == 12) {
		peer_reply(peer->fd, msg, 0, peer->memory + gpa, size);
	} else {
		memcpy(peer->memory + gpa, msg->data + 16, size);
		peer_reply(peer->fd, msg, 0, NULL, 0);
	}
}

static void handle_access(struct peer *peer, const struct peer_msg *msg)
{
	uint16_t i, count = get16(msg->data);
	const uint8_t *e;

	peer->access_messages++;
	for (i = 0; i < count; i++) {
		e = msg->data + 8 + 16 * i;
		if (get64(e) >= sizeof(peer->memory) || e[8] > 7) {
			peer_reply(peer->fd, msg, -22, NULL, 0);
			return;
		}
	}
	for (i = 0; i < count; i++) {
		e = msg->data + 8 + 16 * i;
		peer->access[get64(e) / 4096] = e[8];
	}
	peer_reply(peer->fd, msg, 0, NULL, 0);
}

static void handle_registers(struct peer *peer, const struct peer_msg *msg)
{
	uint8_t buf[472 + 481 * 16] = { 0 };
	uint16_t i, n = get16(msg->data + 8);

	put32(buf, 8);
	for (i = 0; i < 18; i++)
		put64(buf + 8 + 8 * i, 0x1000 + i);
	put64(buf + 152 + 240, 0x123000);	/* cr3 */
	put32(buf + 464, n);
	for (i = 0; i < n; i++) {
		put32(buf + 472 + 16 * i, get32(msg->data + 16 + 4 * i));
		put64(buf + 480 + 16 * i, 0xabcd0000 + i);
	}
	peer_reply(peer->fd, msg, 0, buf, 472 + 16 * n);
}

static void handle_xsave(struct peer *peer, const struct peer_msg *msg)
{
	static const uint8_t area[4096];

	peer_reply(peer->fd, msg, 0, area, sizeof(area));
}

static void handle(struct peer *peer, const struct peer_msg *msg)
{
	uint8_t buf[16] = { 0 };
	uint16_t vcpu = get16(msg->data);

	switch (msg->id) {
	case 1:
		peer->last_answer = *msg;
		__atomic_add_fetch(&peer->answers, 1, __ATOMIC_RELEASE);
		break;
	case 2:
		put32(buf, 1);
		put32(buf + 4, 8184);
		buf[8] = 1;
		buf[9] = 1;
		buf[10] = 1;
		peer_reply(peer->fd, msg, 0, buf, 16);
		break;
	case 4:
	case 6:
		/* 0x100 stands for what is unknown, 0x101 for what is not allowed */
		peer_reply(peer->fd, msg, get16(msg->data) == 0x100 ? -2 :
			   get16(msg->data) == 0x101 ? -1 : 0, NULL, 0);
		break;
	case 8:
		put32(buf, PEER_VCPUS);
		peer_reply(peer->fd, msg, 0, buf, 16);
		break;
	case 12:
	case 14:
		handle_memory(peer, msg);
		break;
	case 10:
	case 16:
		peer_reply(peer->fd, msg, 0, NULL, 0);
		break;
	case 20:
		handle_access(peer, msg);
		break;
	case 11:
		peer_reply(peer->fd, msg, 0, buf, 16);
		break;
	case 19:
		handle_xsave(peer, msg);
		break;
	case 512:
		put64(buf, sizeof(peer->memory) / 4096);
		peer_reply(peer->fd, msg, 0, buf, 8);
		break;
	case 5:
		if (vcpu < PEER_VCPUS && get16(msg->data + 8) < 32) {
			peer->enabled[vcpu][get16(msg->data + 8)] = msg->data[10];
			peer_reply(peer->fd, msg, 0, NULL, 0);
		} else {
			peer_reply(peer->fd, msg, -22, NULL, 0);
		}
		break;
	case 7:
		handle_registers(peer, msg);
		break;
	default:
		peer_reply(peer->fd, msg, -1000, NULL, 0);
	}
}

static void *serve(void *arg)
{
	struct peer *peer = arg;
	struct peer_msg *msg = calloc(1, sizeof(*msg));
	uint8_t hdr[8];

	while (msg && recv_all(peer->fd, hdr, sizeof(hdr))) {
		/* What a message is too short for reads as zeros. */
		memset(msg->data, 0, msg->size);
		msg->id = get16(hdr);
		msg->size = get16(hdr + 2);
		msg->seq = get32(hdr + 4);
		if (!recv_all(peer->fd, msg->data, msg->size))
			break;
		peer->messages++;
		memcpy(&peer->last, msg, offsetof(struct peer_msg, data) + msg->size);
		if (!peer->filter || !peer->filter(peer, msg))
			handle(peer, msg);
	}
	free(msg);
	return NULL;
}

void peer_init(struct peer *peer, int fd, peer_filter filter, void *data)
{
	size_t i;

	memset(peer, 0, sizeof(*peer));
	for (i = 0; i < sizeof(peer->memory); i++)
		peer->memory[i] = i * 7 + i / 4096;
	memset(peer->access, 7, sizeof(peer->access));
	peer->fd = fd;
	peer->filter = filter;
	peer->data = data;
}

void peer_run(struct peer *peer)
{
	if (pthread_create(&peer->thread, NULL, serve, peer)) {
		perror("pthread_create");
		exit(1);
	}
}

int peer_start(struct peer *peer, peer_filter filter, void *data)
{
	int sv[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv)) {
		perror("socketpair");
		exit(1);
	}
	peer_init(peer, sv[0], filter, data);
	peer_run(peer);
	return sv[1];
}

void peer_stop(struct peer *peer)
{
	shutdown(peer->fd, SHUT_RDWR);
	pthread_join(peer->thread, NULL);
	close(peer->fd);
}
