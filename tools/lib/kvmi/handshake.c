// SPDX-License-Identifier: GPL-2.0
/*
 * The handshake: before the VMM gives the socket to KVM, it and the tool
 * exchange one message each.  KVM takes no part in it; the layout is the one
 * that QEMU's introspection object uses.  All fields are little endian:
 *
 *	VMM to tool			tool to VMM
 *	  0  u32  struct size		  0  u32  struct size
 *	  4  u8   uuid[16]		  4  u8   cookie_hash[20]
 *	 20  u32  padding
 *	 24  s64  start time, s
 *	 32  char name[64]
 *	 96  u64  highest gpa
 *
 * Either side may send more than this, which the other ignores.  The cookie
 * hash is the SHA-1 of a key that both have: whoever hears it once can repeat
 * it.  So a VMM can offer more, by sending more:
 *
 *	104  u8   magic[8]		 24  u8   magic[8]
 *	112  u8   nonce[32]		 32  u8   nonce[32]
 *					 64  u8   mac[32]
 * and then, VMM to tool:
 *	  0  u32  struct size (40)
 *	  4  u32  padding
 *	  8  u8   mac[32]
 *
 * A tool that has the key and is offered this answers in kind, with a cookie
 * hash of zeros.  The MACs are HMAC-SHA-256 under the key, of a text that says
 * whose it is ("KVMI tool", "KVMI VMM", the final NUL included), of the hello as
 * it was sent, and of the answer as far as it stands before the MAC (the tool's)
 * or all of it (the VMM's).
 */

#include <endian.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "internal.h"

struct hello_wire {
	__u32 struct_size;
	__u8 uuid[16];
	__u32 padding;
	__s64 start_time;
	char name[KVMI_HELLO_NAME_SIZE];
	__u64 max_gpa;
	/* From here on an offer of the longer form. */
	__u8 magic[8];
	__u8 nonce[KVMI_NONCE_SIZE];
};

struct answer_wire {
	__u32 struct_size;
	__u8 cookie_hash[KVMI_COOKIE_HASH_SIZE];
	/* From here on the longer form. */
	__u8 magic[8];
	__u8 nonce[KVMI_NONCE_SIZE];
	__u8 mac[KVMI_MAC_SIZE];
};

struct proof_wire {
	__u32 struct_size;
	__u32 padding;
	__u8 mac[KVMI_MAC_SIZE];
};

#define HELLO_AUTH_SIZE		144
#define ANSWER_AUTH_SIZE	96
#define PROOF_SIZE		40

_Static_assert(sizeof(struct hello_wire) == HELLO_AUTH_SIZE, "layout");
_Static_assert(offsetof(struct hello_wire, magic) == KVMI_HELLO_SIZE, "layout");
_Static_assert(offsetof(struct hello_wire, max_gpa) == KVMI_HELLO_MIN_SIZE, "layout");
_Static_assert(offsetof(struct answer_wire, magic) == KVMI_HELLO_ANSWER_SIZE, "layout");
_Static_assert(offsetof(struct answer_wire, mac) == 64, "layout");
_Static_assert(sizeof(struct answer_wire) == ANSWER_AUTH_SIZE, "layout");
_Static_assert(sizeof(struct proof_wire) == PROOF_SIZE, "layout");

static const __u8 auth_magic[8] = "KVMI-MAC";
static const char tool_label[] = "KVMI tool";
static const char vmm_label[] = "KVMI VMM";

/* --- the tool's side ------------------------------------------------------- */

enum handshake_state {
	WANT_HELLO_SIZE,
	WANT_HELLO,
	SEND_ANSWER,
	WANT_PROOF_SIZE,
	WANT_PROOF,
	DONE,
};

struct kvmi_handshake {
	int fd;
	enum handshake_state state;
	struct kvmi_auth auth;
	bool has_key;
	bool fixed_cookie;
	bool mutual;			/* both sides prove that they have the key */
	__u8 cookie_hash[KVMI_COOKIE_HASH_SIZE];
	struct kvmi_hello hello;
	__u8 in[KVMI_HELLO_MAX_SIZE];	/* the hello, as it came */
	size_t in_size;
	size_t got;			/* of what is wanted now */
	struct answer_wire answer;
	size_t answer_size;
	size_t sent;
	struct proof_wire proof;
	size_t proof_size;
};

static struct kvmi_handshake *new_handshake(int fd, const struct kvmi_auth *auth)
{
	struct kvmi_handshake *h = calloc(1, sizeof(*h));

	if (!h) {
		kvmi_fail(-ENOMEM, "handshake: out of memory");
		return NULL;
	}
	h->fd = fd;
	if (auth) {
		h->auth = *auth;
		h->has_key = true;
	}
	return h;
}

/**
 * kvmi_handshake_new - begin to hear a VMM's hello
 * @fd: the connected socket, which stays the caller's
 * @auth: the key, or NULL if there is none; the key's bytes have to stay where
 *	they are until kvmi_handshake_free()
 * @handshake: the handshake
 *
 * For those who must not wait; kvmi_handshake_tool_auth() is for the others.
 *
 * Return: 0 or a negated errno.
 */
int kvmi_handshake_new(int fd, const struct kvmi_auth *auth,
		       struct kvmi_handshake **handshake)
{
	int err = kvmi_auth_check(auth);

	if (err)
		return err;
	*handshake = new_handshake(fd, auth);
	return *handshake ? 0 : -ENOMEM;
}

/**
 * kvmi_handshake_free - free a handshake, finished or not
 * @handshake: the handshake, or NULL
 */
void kvmi_handshake_free(struct kvmi_handshake *handshake)
{
	free(handshake);
}

/**
 * kvmi_handshake_hello - what the VMM said
 * @handshake: a handshake that is complete
 */
const struct kvmi_hello *kvmi_handshake_hello(const struct kvmi_handshake *handshake)
{
	return &handshake->hello;
}

/**
 * kvmi_handshake_is_mutual - have both sides proved that they have the key?
 * @handshake: a handshake that is complete
 */
bool kvmi_handshake_is_mutual(const struct kvmi_handshake *handshake)
{
	return handshake->mutual;
}

/* Receive until @size bytes are there: 1, 0 if some are missing, or an error. */
static int receive(struct kvmi_handshake *h, void *buf, size_t size)
{
	ssize_t n;

	while (h->got < size) {
		n = recv(h->fd, (__u8 *)buf + h->got, size - h->got, MSG_DONTWAIT);
		if (n > 0) {
			h->got += n;
			continue;
		}
		if (!n || errno == ECONNRESET)
			return kvmi_fail(-ECONNRESET,
					 "handshake: the VMM closed the connection");
		if (errno == EINTR)
			continue;
		if (errno != EAGAIN)
			return kvmi_fail(-errno, "handshake: recv: %s",
					 strerror(errno));
		return 0;
	}
	return 1;
}

static int take_hello_size(struct kvmi_handshake *h)
{
	__u32 size;

	memcpy(&size, h->in, sizeof(size));
	h->in_size = le32toh(size);
	if (h->in_size < KVMI_HELLO_MIN_SIZE || h->in_size > KVMI_HELLO_MAX_SIZE)
		return kvmi_fail(-EPROTO,
				 "handshake: struct_size %zu is not within %d..%d",
				 h->in_size, KVMI_HELLO_MIN_SIZE, KVMI_HELLO_MAX_SIZE);
	return 0;
}

/* Read the hello, and decide on the form of the answer. */
static int take_hello(struct kvmi_handshake *h)
{
	struct answer_wire *answer = &h->answer;
	struct hello_wire wire = { 0 };
	bool offered;

	memcpy(&wire, h->in, MIN(h->in_size, sizeof(wire)));
	/* Half a max_gpa is none. */
	if (h->in_size < KVMI_HELLO_SIZE)
		wire.max_gpa = 0;
	offered = h->in_size >= sizeof(wire) &&
		  !memcmp(wire.magic, auth_magic, sizeof(auth_magic));

	memcpy(h->hello.uuid, wire.uuid, sizeof(h->hello.uuid));
	h->hello.start_time = le64toh(wire.start_time);
	memcpy(h->hello.name, wire.name, sizeof(h->hello.name));
	h->hello.name[sizeof(h->hello.name) - 1] = '\0';
	h->hello.max_gpa = le64toh(wire.max_gpa);

	h->answer_size = KVMI_HELLO_ANSWER_SIZE;
	if (h->fixed_cookie) {
		memcpy(answer->cookie_hash, h->cookie_hash, sizeof(h->cookie_hash));
	} else if (h->has_key && offered) {
		int err = kvmi_auth_nonce(answer->nonce);

		if (err)
			return err;
		h->mutual = true;
		h->answer_size = sizeof(*answer);
		memcpy(answer->magic, auth_magic, sizeof(auth_magic));
	} else if (h->has_key && h->auth.flags & KVMI_AUTH_MUTUAL) {
		return kvmi_fail(-EACCES,
				 "handshake: the VMM does not offer to prove that it has the key");
	} else if (h->has_key) {
		kvmi_auth_cookie(&h->auth, answer->cookie_hash);
	}
	answer->struct_size = htole32(h->answer_size);
	if (h->mutual)
		kvmi_auth_mac(&h->auth, tool_label, h->in, h->in_size, answer,
			      offsetof(struct answer_wire, mac), answer->mac);
	return 0;
}

/* 1, 0 if some has to wait, or an error. */
static int send_answer(struct kvmi_handshake *h)
{
	ssize_t n;

	while (h->sent < h->answer_size) {
		n = send(h->fd, (const __u8 *)&h->answer + h->sent,
			 h->answer_size - h->sent, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n >= 0) {
			h->sent += n;
			continue;
		}
		if (errno == EINTR)
			continue;
		if (errno == EAGAIN)
			return 0;
		return kvmi_fail(errno == EPIPE ? -ECONNRESET : -errno,
				 "handshake: send: %s", strerror(errno));
	}
	return 1;
}

static int take_proof(struct kvmi_handshake *h)
{
	__u8 mac[KVMI_MAC_SIZE];

	kvmi_auth_mac(&h->auth, vmm_label, h->in, h->in_size, &h->answer,
		      sizeof(h->answer), mac);
	if (!kvmi_auth_equal(mac, h->proof.mac, sizeof(mac)))
		return kvmi_fail(-EACCES, "handshake: the VMM does not have the key");
	return 0;
}

/**
 * kvmi_handshake_step - go on as far as that is possible without waiting
 * @handshake: the handshake
 *
 * Return: 1 when it is complete, 0 when there is to be waited for
 * kvmi_handshake_events(), or a negated errno: -ECONNRESET, -EPROTO if what came
 * cannot be right, -EACCES if the VMM has not proved what it has to.
 */
int kvmi_handshake_step(struct kvmi_handshake *handshake)
{
	struct kvmi_handshake *h = handshake;
	int ret;

	for (;;) {
		switch (h->state) {
		case WANT_HELLO_SIZE:
			ret = receive(h, h->in, sizeof(__u32));
			if (ret > 0)
				ret = take_hello_size(h) ?: 1;
			break;
		case WANT_HELLO:
			ret = receive(h, h->in, h->in_size);
			if (ret > 0)
				ret = take_hello(h) ?: 1;
			break;
		case SEND_ANSWER:
			ret = send_answer(h);
			if (ret > 0) {
				h->got = 0;
				if (!h->mutual)
					h->state = DONE - 1;
			}
			break;
		case WANT_PROOF_SIZE:
			ret = receive(h, &h->proof, sizeof(__u32));
			if (ret > 0 && le32toh(h->proof.struct_size) != PROOF_SIZE)
				ret = kvmi_fail(-EPROTO,
						"handshake: the proof's struct_size %u is not %d",
						le32toh(h->proof.struct_size),
						PROOF_SIZE);
			break;
		case WANT_PROOF:
			ret = receive(h, &h->proof, sizeof(h->proof));
			if (ret > 0)
				ret = take_proof(h) ?: 1;
			break;
		default:
			return 1;
		}
		if (ret <= 0)
			return ret;
		h->state++;
	}
}

/**
 * kvmi_handshake_events - what poll() is to wait for before the next step
 * @handshake: the handshake
 */
short kvmi_handshake_events(const struct kvmi_handshake *handshake)
{
	return handshake->state == SEND_ANSWER ? POLLOUT : POLLIN;
}

static int run(struct kvmi_handshake *h, int timeout_ms)
{
	__u64 deadline = kvmi_deadline(timeout_ms);
	struct pollfd pfd = { .fd = h->fd };
	int n, ret;

	while (!(ret = kvmi_handshake_step(h))) {
		pfd.events = kvmi_handshake_events(h);
		do {
			n = poll(&pfd, 1, kvmi_time_left(deadline));
		} while (n < 0 && errno == EINTR);
		if (n < 0)
			return kvmi_fail(-errno, "handshake: poll: %s", strerror(errno));
		if (!n)
			return kvmi_fail(-ETIMEDOUT, "handshake: timeout while %s",
					 h->state == SEND_ANSWER ? "sending the answer" :
					 h->state > SEND_ANSWER ? "waiting for the VMM's proof" :
					 "waiting for the VMM's hello");
	}
	return ret < 0 ? ret : 0;
}

/**
 * kvmi_handshake_tool_auth - hear the VMM's hello and answer it
 * @fd: the connected socket
 * @auth: the key, or NULL if there is none
 * @hello: what the VMM said
 * @timeout_ms: for all of it
 *
 * Return: 0 or a negated errno: -ETIMEDOUT, -ECONNRESET, -EPROTO if what came
 * cannot be right, -EACCES if the VMM has not proved what it has to.
 */
int kvmi_handshake_tool_auth(int fd, const struct kvmi_auth *auth,
			     struct kvmi_hello *hello, int timeout_ms)
{
	struct kvmi_handshake *h;
	int err;

	err = kvmi_handshake_new(fd, auth, &h);
	if (err)
		return err;
	err = run(h, timeout_ms);
	*hello = h->hello;
	free(h);
	return err;
}

/**
 * kvmi_handshake_tool - the same with a hash instead of a key
 * @fd: the connected socket
 * @cookie_hash: the KVMI_COOKIE_HASH_SIZE bytes of SHA-1 of the secret that
 *	VMM and tool share; NULL if there is none, which sends zeros
 * @hello: what the VMM said
 * @timeout_ms: for all of it
 *
 * Return: 0 or a negated errno: -ETIMEDOUT, -ECONNRESET, -EPROTO if the
 * hello cannot be one.
 */
int kvmi_handshake_tool(int fd, const __u8 *cookie_hash,
			struct kvmi_hello *hello, int timeout_ms)
{
	struct kvmi_handshake *h = new_handshake(fd, NULL);
	int err;

	if (!h)
		return -ENOMEM;
	if (cookie_hash) {
		h->fixed_cookie = true;
		memcpy(h->cookie_hash, cookie_hash, sizeof(h->cookie_hash));
	}
	err = run(h, timeout_ms);
	*hello = h->hello;
	free(h);
	return err;
}

/* --- the VMM's side, for what acts in its place ------------------------------ */

static void pack(const struct kvmi_hello *hello, size_t size, struct hello_wire *wire)
{
	memset(wire, 0, sizeof(*wire));
	wire->struct_size = htole32(size);
	wire->start_time = htole64(hello->start_time);
	wire->max_gpa = htole64(hello->max_gpa);
	memcpy(wire->uuid, hello->uuid, sizeof(wire->uuid));
	memcpy(wire->name, hello->name, sizeof(wire->name));
	wire->name[sizeof(wire->name) - 1] = '\0';
}

/**
 * kvmi_hello_pack - the bytes with which a VMM that has no key says hello
 * @hello: what is to be said
 * @buf: where to
 */
void kvmi_hello_pack(const struct kvmi_hello *hello, __u8 buf[KVMI_HELLO_SIZE])
{
	struct hello_wire wire;

	pack(hello, KVMI_HELLO_SIZE, &wire);
	memcpy(buf, &wire, KVMI_HELLO_SIZE);
}

/**
 * kvmi_hello_check_answer_size - can the tool's answer have this size?
 * @size: its first four bytes, as they came
 *
 * Return: how many more bytes follow, or -EPROTO.
 */
int kvmi_hello_check_answer_size(__u32 size)
{
	size = le32toh(size);
	if (size < KVMI_HELLO_ANSWER_SIZE || size > KVMI_HELLO_MAX_SIZE)
		return kvmi_fail(-EPROTO,
				 "handshake: the tool's struct_size %u is not within %d..%d",
				 size, KVMI_HELLO_ANSWER_SIZE, KVMI_HELLO_MAX_SIZE);
	return size - sizeof(size);
}

struct kvmi_greeting {
	struct kvmi_auth auth;
	bool has_key;
	struct hello_wire hello;
	size_t hello_size;
	struct proof_wire proof;
};

/**
 * kvmi_greeting_new - prepare to say hello in a VMM's place
 * @hello: what is to be said
 * @auth: the key, which is then offered to be proved; or NULL
 * @greeting: the greeting
 *
 * Return: 0 or a negated errno.
 */
int kvmi_greeting_new(const struct kvmi_hello *hello, const struct kvmi_auth *auth,
		      struct kvmi_greeting **greeting)
{
	struct kvmi_greeting *g;
	int err;

	err = kvmi_auth_check(auth);
	if (err)
		return err;
	g = calloc(1, sizeof(*g));
	if (!g)
		return kvmi_fail(-ENOMEM, "handshake: out of memory");
	g->hello_size = auth ? HELLO_AUTH_SIZE : KVMI_HELLO_SIZE;
	pack(hello, g->hello_size, &g->hello);
	if (auth) {
		g->auth = *auth;
		g->has_key = true;
		memcpy(g->hello.magic, auth_magic, sizeof(auth_magic));
		err = kvmi_auth_nonce(g->hello.nonce);
		if (err) {
			free(g);
			return err;
		}
	}
	*greeting = g;
	return 0;
}

/**
 * kvmi_greeting_free - free a greeting
 * @greeting: the greeting, or NULL
 */
void kvmi_greeting_free(struct kvmi_greeting *greeting)
{
	free(greeting);
}

/**
 * kvmi_greeting_hello - the bytes to send first
 * @greeting: the greeting
 * @size: how many, at most KVMI_HELLO_MAX_SIZE
 */
const void *kvmi_greeting_hello(const struct kvmi_greeting *greeting, size_t *size)
{
	*size = greeting->hello_size;
	return &greeting->hello;
}

/**
 * kvmi_greeting_answer - is the tool's answer right?
 * @greeting: the greeting
 * @answer: the answer, its first four bytes included
 * @size: its size
 * @proof: bytes to send in return
 * @proof_size: how many; there may be none
 *
 * Return: 0 or a negated errno: -EPROTO, -EACCES if the tool does not have the
 * key.
 */
int kvmi_greeting_answer(struct kvmi_greeting *greeting, const void *answer,
			 size_t size, const void **proof, size_t *proof_size)
{
	struct answer_wire wire = { 0 };
	__u8 mac[KVMI_MAC_SIZE];
	int err;

	*proof = NULL;
	*proof_size = 0;
	memcpy(&wire, answer, MIN(size, sizeof(wire)));
	err = kvmi_hello_check_answer_size(wire.struct_size);
	if (err < 0)
		return err;
	if (size != le32toh(wire.struct_size))
		return kvmi_fail(-EPROTO,
				 "handshake: the tool's struct_size %u, where %zu bytes came",
				 le32toh(wire.struct_size), size);
	if (!greeting->has_key)
		return 0;

	if (size >= sizeof(wire) &&
	    !memcmp(wire.magic, auth_magic, sizeof(auth_magic))) {
		kvmi_auth_mac(&greeting->auth, tool_label, &greeting->hello,
			      greeting->hello_size, answer,
			      offsetof(struct answer_wire, mac), mac);
		if (!kvmi_auth_equal(mac, wire.mac, sizeof(mac)))
			return kvmi_fail(-EACCES,
					 "handshake: the tool does not have the key");
		greeting->proof.struct_size = htole32(sizeof(greeting->proof));
		kvmi_auth_mac(&greeting->auth, vmm_label, &greeting->hello,
			      greeting->hello_size, answer, sizeof(wire),
			      greeting->proof.mac);
		*proof = &greeting->proof;
		*proof_size = sizeof(greeting->proof);
		return 0;
	}
	if (greeting->auth.flags & KVMI_AUTH_MUTUAL)
		return kvmi_fail(-EACCES,
				 "handshake: the tool does not prove that it has the key");
	kvmi_auth_cookie(&greeting->auth, mac);
	if (!kvmi_auth_equal(mac, wire.cookie_hash, sizeof(wire.cookie_hash)))
		return kvmi_fail(-EACCES, "handshake: the tool does not have the key");
	return 0;
}
