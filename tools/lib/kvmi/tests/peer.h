/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KVMI_TESTS_PEER_H
#define KVMI_TESTS_PEER_H

/*
 * The other side of the socket, played by the test.  Sizes, offsets and ids
 * stand here as numbers, as the protocol's description has them, so that a
 * mistake in the headers does not go unseen.
 */

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PEER_PAGES	64
#define PEER_VCPUS	4
#define PEER_MAX_MSG	(8 + 65535)

/* One received message. */
struct peer_msg {
	uint16_t id;
	uint16_t size;
	uint32_t seq;
	uint8_t data[65536];
};

struct peer;
/* Return true if the message needs no more work. */
typedef bool (*peer_filter)(struct peer *peer, const struct peer_msg *msg);

struct peer {
	int fd;
	pthread_t thread;
	peer_filter filter;		/* sees every message first */
	void *data;			/* for the filter */

	/* What the honest peer keeps. */
	uint8_t memory[PEER_PAGES * 4096];
	uint8_t access[PEER_PAGES];
	uint8_t enabled[PEER_VCPUS][32];
	unsigned int messages;
	unsigned int access_messages;
	unsigned int answers;
	struct peer_msg last;		/* the last message that came */
	struct peer_msg last_answer;	/* the last answer to an event */
};

/* Get ready to serve @fd, then serve it in a thread. */
void peer_init(struct peer *peer, int fd, peer_filter filter, void *data);
void peer_run(struct peer *peer);
/* Both, for one end of a new pair of sockets; returns the other. */
int peer_start(struct peer *peer, peer_filter filter, void *data);
/* Close the peer's end and wait for its thread. */
void peer_stop(struct peer *peer);

void peer_send_raw(int fd, const void *buf, size_t size);
void peer_send(int fd, uint16_t id, uint32_t seq, const void *data, size_t size);
void peer_reply(int fd, const struct peer_msg *msg, int32_t err,
		const void *data, size_t size);
/* The 576 bytes + 8 of a page-fault event. */
size_t peer_pf_event(uint8_t *buf, uint32_t seq, uint16_t vcpu, uint64_t gva,
		     uint64_t gpa, uint8_t access, uint64_t rip);

void put16(uint8_t *p, uint16_t v);
void put32(uint8_t *p, uint32_t v);
void put64(uint8_t *p, uint64_t v);
uint16_t get16(const uint8_t *p);
uint32_t get32(const uint8_t *p);
uint64_t get64(const uint8_t *p);

#endif /* KVMI_TESTS_PEER_H */
