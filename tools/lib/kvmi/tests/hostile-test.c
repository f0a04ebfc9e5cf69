// SPDX-License-Identifier: GPL-2.0
/*
 * A peer that breaks the protocol: the library neither hangs nor reads or
 * writes where it must not, says what was wrong, and stays unusable after.
 */

#include <errno.h>
#include <kvmi/libkvmi.h>
#include <sys/socket.h>

#include "peer.h"
#include "tap.h"

static struct peer peer;

static struct kvmi_dom *open_dom(peer_filter filter, void *data)
{
	struct kvmi_dom *dom;

	must(!kvmi_dom_open(peer_start(&peer, filter, data), NULL, &dom));
	return dom;
}

static void close_dom(struct kvmi_dom *dom)
{
	kvmi_dom_close(dom);
	peer_stop(&peer);
}

/* Bytes that come where an event is expected. */
static const struct bad_event {
	const char *what;
	const char *text;
	uint16_t id, size, event, common;
} bad_events[] = {
	{ "a VM event without an id", "size 4 has no room for an event id", 0, 4, 0, 0 },
	{ "a vCPU event without an id", "size 0 has no room", 1, 0, 0, 0 },
	{ "a vCPU event without state", "KVMI_VCPU_EVENT_PF: size 16", 1, 16, 17, 0 },
	{ "a vCPU event one byte short", "size 551", 1, 551, 1, 544 },
	{ "a common part that is too short", "kvmi_vcpu_event.size 543", 1, 576, 17, 543 },
	{ "a common part of size 0", "kvmi_vcpu_event.size 0", 1, 576, 17, 0 },
	{ "a common part beyond the message", "kvmi_vcpu_event.size 569", 1, 576, 17, 569 },
	{ "a huge common part", "kvmi_vcpu_event.size 65535", 1, 576, 17, 65535 },
	{ "a PF event without its own part", "KVMI_VCPU_EVENT_PF: 0 bytes of its own where 24", 1, 552, 17, 544 },
	{ "a PF event with half its own part", "12 bytes of its own", 1, 564, 17, 544 },
	{ "an MSR event one byte short", "KVMI_VCPU_EVENT_MSR: 23 bytes", 1, 575, 15, 544 },
	{ "a reply nobody waits for", "KVMI_VM_GET_INFO, seq 0: no such command", 8, 8, 0, 0 },
	{ "a reply to an unknown command", "message 4711", 4711, 24, 0, 0 },
	{ "a reply without an error code", "size 7 has no room for an error code", 8, 7, 0, 0 },
};

static void test_bad_events(void)
{
	uint8_t buf[8 + 65535];
	struct kvmi_event ev;
	struct kvmi_dom *dom;
	unsigned int i;

	for (i = 0; i < sizeof(bad_events) / sizeof(bad_events[0]); i++) {
		const struct bad_event *b = &bad_events[i];

		dom = open_dom(NULL, NULL);
		memset(buf, 0, sizeof(buf));
		put16(buf, b->id);
		put16(buf + 2, b->size);
		put16(buf + 8, b->event);
		put16(buf + 16, b->common);
		peer_send_raw(peer.fd, buf, 8 + b->size);
		is_num(kvmi_event_next(dom, &ev, 5000), -EPROTO, "%s", b->what);
		has_text(kvmi_error(), b->text, "is named");
		is_num(kvmi_event_next(dom, &ev, 5000), -EPROTO, "the connection has ended");
		close_dom(dom);
	}
}

/* Answers to GET_REGISTERS with something wrong in them. */
static bool wrong_registers(struct peer *p, const struct peer_msg *msg)
{
	uint8_t buf[472 + 32] = { 0 };

	if (msg->id != 7)
		return false;
	put32(buf + 464, 2);
	put32(buf + 472, 0x10);
	put32(buf + 488, 0x11);
	switch (*(int *)p->data) {
	case 0:
		put32(buf + 464, 0xffffffff);
		break;
	case 1:
		put32(buf + 488, 0x12);
		break;
	case 2:
		peer_reply(p->fd, msg, 0, buf, sizeof(buf) - 1);
		return true;
	case 3:
		peer_reply(p->fd, msg, 0, buf, 0);
		return true;
	}
	peer_reply(p->fd, msg, 0, buf, sizeof(buf));
	return true;
}

static void test_bad_replies(void)
{
	static const char * const texts[] = {
		"msrs.nmsrs 4294967295 where 2", "msrs.entries[1].index 0x12",
		"503 bytes of data, at least 504", "0 bytes of data",
	};
	struct kvm_msr_entry msrs[2] = { { .index = 0x10 }, { .index = 0x11 } };
	struct kvmi_registers regs;
	struct kvmi_dom *dom;
	int i;

	for (i = 0; i < 4; i++) {
		dom = open_dom(wrong_registers, &i);
		is_num(kvmi_vcpu_get_registers(dom, 0, &regs, msrs, 2), -EPROTO,
		       "wrong registers, %d", i);
		has_text(kvmi_error(), texts[i], "is named");
		close_dom(dom);
	}
}

/* Less data than was asked for, and the right reply in a wrong wrapping. */
static bool wrong_read(struct peer *p, const struct peer_msg *msg)
{
	static uint8_t buf[65536 - 16];
	struct peer_msg other;

	if (msg->id != 12)
		return false;
	switch (*(int *)p->data) {
	case 0:
		peer_reply(p->fd, msg, 0, buf, 99);
		break;
	case 1:
		/* More than any message may have, to overflow what is behind. */
		memset(buf, 0xff, sizeof(buf));
		peer_reply(p->fd, msg, 0, buf, sizeof(buf) - 8);
		break;
	case 2:
		other = *msg;
		other.seq++;
		peer_reply(p->fd, &other, 0, buf, 100);
		break;
	case 3:
		other = *msg;
		other.id = 14;
		peer_reply(p->fd, &other, 0, buf, 100);
		break;
	case 4:
		/* Half a message, and then the end. */
		put16(buf, 12);
		put16(buf + 2, 100);
		put32(buf + 4, msg->seq);
		peer_send_raw(p->fd, buf, 50);
		shutdown(p->fd, SHUT_RDWR);
		break;
	case 5:
		/* An error and data together: there is no data then. */
		put16(buf, 12);
		put16(buf + 2, 108);
		put32(buf + 4, msg->seq);
		put32(buf + 8, -2);
		peer_send_raw(p->fd, buf, 116);
		break;
	}
	return true;
}

static void test_bad_reads(void)
{
	static const struct {
		const char *what, *text;
		int err;
	} cases[] = {
		{ "too little data", "99 bytes of data, at least 100", -EPROTO },
		{ "far too much data", "", 0 },
		{ "another seq", "no such command is under way", -EPROTO },
		{ "another id", "KVMI_VM_WRITE_PHYSICAL", -EPROTO },
		{ "half a message", "the VM has gone", -ECONNRESET },
		{ "error with data", "KVM_ENOENT", -ENOENT },
	};
	struct kvmi_dom *dom;
	uint8_t buf[116];
	int i, err;

	for (i = 0; i < 6; i++) {
		dom = open_dom(wrong_read, &i);
		memset(buf, 0xaa, sizeof(buf));
		err = kvmi_vm_read_physical(dom, 0, buf, 100);
		is_num(err, cases[i].err, "%s", cases[i].what);
		if (err)
			has_text(kvmi_error(), cases[i].text, "is named");
		ok(buf[100] == 0xaa && buf[115] == 0xaa,
		   "nothing was written behind the buffer");
		close_dom(dom);
	}
}

static bool silent(struct peer *p, const struct peer_msg *msg)
{
	(void)p;
	(void)msg;
	return true;
}

/* Send events for ever before the reply: bounded by the queue's length. */
static bool endless(struct peer *p, const struct peer_msg *msg)
{
	uint8_t buf[8 + 576];
	unsigned int i;

	(void)msg;
	for (i = 0; i < 5000; i++)
		peer_send_raw(p->fd, buf, peer_pf_event(buf, i, 0, 0, 0, 1, 0));
	return true;
}

static void test_silence(void)
{
	struct kvmi_vm_get_info_reply info;
	struct kvmi_dom *dom = open_dom(silent, NULL);
	unsigned int i, busy = 0;
	int err;

	kvmi_dom_set_timeout(dom, 1);
	for (i = 0; i < 1024 + 16; i++) {
		err = kvmi_vm_get_info(dom, &info);
		if (err == -EBUSY)
			busy++;
		else
			must(err == -ETIMEDOUT);
	}
	is_num(busy, 16, "at most 1024 commands are given up on");
	close_dom(dom);

	dom = open_dom(endless, NULL);
	is_num(kvmi_vm_get_info(dom, &info), -EPROTO, "events that nobody can take any more");
	has_text(kvmi_error(), "4097 events came without an answer", "is named");
	close_dom(dom);
}

/* Noise, some of it shaped like messages; the seed makes it repeatable. */
static bool noise(struct peer *p, const struct peer_msg *msg)
{
	unsigned int *seed = p->data;
	uint8_t buf[1024];
	unsigned int i, n = 1 + rand_r(seed) % 4;

	while (n--) {
		size_t size = rand_r(seed) % (sizeof(buf) - 8);

		for (i = 0; i < sizeof(buf); i++)
			buf[i] = rand_r(seed) % 4 ? 0 : rand_r(seed);
		if (rand_r(seed) % 8) {
			put16(buf, rand_r(seed) % 2 ? msg->id : rand_r(seed) % 32);
			put16(buf + 2, rand_r(seed) % 8 ? size : (size_t)rand_r(seed));
			put32(buf + 4, rand_r(seed) % 4 ? msg->seq : (uint32_t)rand_r(seed));
		}
		if (rand_r(seed) % 2)
			put16(buf + 16, rand_r(seed) % 2 ? 544 : rand_r(seed) % 600);
		peer_send_raw(p->fd, buf, 8 + size);
	}
	return true;
}

static void test_noise(void)
{
	unsigned int round, seed, answered = 0, refused = 0;
	struct kvm_msr_entry msrs[2] = { 0 };
	struct kvmi_registers regs;
	struct kvmi_event ev;
	struct kvmi_dom *dom;
	uint8_t buf[300];
	int i, err;

	for (round = 0; round < 2000; round++) {
		seed = round;
		dom = open_dom(noise, &seed);
		kvmi_dom_set_timeout(dom, 5);
		for (i = 0; i < 3; i++) {
			err = kvmi_vm_read_physical(dom, 0x1000, buf, sizeof(buf));
			answered += !err;
			refused += err == -EPROTO;
			err = kvmi_vcpu_get_registers(dom, 0, &regs, msrs, 2);
			answered += !err;
			refused += err == -EPROTO;
			while (kvmi_event_next(dom, &ev, 0) == 1)
				kvmi_event_reply(dom, &ev, 0);
		}
		close_dom(dom);
	}
	diag("noise: %u answered, %u refused", answered, refused);
	ok(refused > 1000, "2000 connections of noise");
}

int main(void)
{
	tap_start(240);
	test_bad_events();
	test_bad_replies();
	test_bad_reads();
	test_silence();
	test_noise();
	return tap_done();
}
