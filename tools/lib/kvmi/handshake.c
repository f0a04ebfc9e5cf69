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
 * Either side may send more than this, which the other ignores.
 */

#include <endian.h>
#include <errno.h>
#include <poll.h>
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
};

struct answer_wire {
	__u32 struct_size;
	__u8 cookie_hash[KVMI_COOKIE_HASH_SIZE];
};

_Static_assert(sizeof(struct hello_wire) == KVMI_HELLO_SIZE, "layout");
_Static_assert(offsetof(struct hello_wire, max_gpa) == KVMI_HELLO_MIN_SIZE, "layout");
_Static_assert(sizeof(struct answer_wire) == KVMI_HELLO_ANSWER_SIZE, "layout");

static int wait_for(int fd, short events, __u64 deadline, const char *what)
{
	struct pollfd pfd = { .fd = fd, .events = events };
	int n;

	do {
		n = poll(&pfd, 1, kvmi_time_left(deadline));
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return kvmi_fail(-errno, "handshake: poll: %s", strerror(errno));
	if (!n)
		return kvmi_fail(-ETIMEDOUT, "handshake: timeout while %s", what);
	return 0;
}

static int recv_all(int fd, void *buf, size_t size, __u64 deadline)
{
	size_t got = 0;
	ssize_t n;
	int err;

	while (got < size) {
		n = recv(fd, (__u8 *)buf + got, size - got, MSG_DONTWAIT);
		if (n > 0) {
			got += n;
			continue;
		}
		if (!n)
			return kvmi_fail(-ECONNRESET,
					 "handshake: the VMM closed the connection");
		if (errno == EINTR)
			continue;
		if (errno != EAGAIN)
			return kvmi_fail(-errno, "handshake: recv: %s",
					 strerror(errno));
		err = wait_for(fd, POLLIN, deadline, "waiting for the VMM's hello");
		if (err)
			return err;
	}
	return 0;
}

static int send_all(int fd, const void *buf, size_t size, __u64 deadline)
{
	size_t put = 0;
	ssize_t n;
	int err;

	while (put < size) {
		n = send(fd, (const __u8 *)buf + put, size - put,
			 MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n >= 0) {
			put += n;
			continue;
		}
		if (errno == EINTR)
			continue;
		if (errno != EAGAIN)
			return kvmi_fail(-errno, "handshake: send: %s",
					 strerror(errno));
		err = wait_for(fd, POLLOUT, deadline, "sending the answer");
		if (err)
			return err;
	}
	return 0;
}

/* Take what the VMM sends beyond the struct that we know. */
static int recv_rest(int fd, size_t size, __u64 deadline)
{
	__u8 buf[256];
	size_t n;
	int err;

	while (size) {
		n = MIN(size, sizeof(buf));
		err = recv_all(fd, buf, n, deadline);
		if (err)
			return err;
		size -= n;
	}
	return 0;
}

/**
 * kvmi_handshake_tool - hear the VMM's hello and answer it
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
	struct answer_wire answer = {
		.struct_size = htole32(sizeof(answer)),
	};
	struct hello_wire wire = { 0 };
	__u64 deadline = kvmi_deadline(timeout_ms);
	size_t size, known;
	int err;

	err = recv_all(fd, &wire.struct_size, sizeof(wire.struct_size), deadline);
	if (err)
		return err;
	size = le32toh(wire.struct_size);
	if (size < KVMI_HELLO_MIN_SIZE || size > KVMI_HELLO_MAX_SIZE)
		return kvmi_fail(-EPROTO,
				 "handshake: struct_size %zu is not within %d..%d",
				 size, KVMI_HELLO_MIN_SIZE, KVMI_HELLO_MAX_SIZE);

	known = MIN(size, sizeof(wire));
	err = recv_all(fd, wire.uuid, known - sizeof(wire.struct_size), deadline);
	if (err)
		return err;
	err = recv_rest(fd, size - known, deadline);
	if (err)
		return err;
	/* Half a max_gpa is none. */
	if (known < sizeof(wire))
		wire.max_gpa = 0;

	memcpy(hello->uuid, wire.uuid, sizeof(hello->uuid));
	hello->start_time = le64toh(wire.start_time);
	memcpy(hello->name, wire.name, sizeof(hello->name));
	hello->name[sizeof(hello->name) - 1] = '\0';
	hello->max_gpa = le64toh(wire.max_gpa);

	if (cookie_hash)
		memcpy(answer.cookie_hash, cookie_hash, sizeof(answer.cookie_hash));
	return send_all(fd, &answer, sizeof(answer), deadline);
}

/**
 * kvmi_hello_pack - the bytes with which a VMM says hello
 * @hello: what is to be said
 * @buf: where to
 *
 * For what acts in a VMM's place.
 */
void kvmi_hello_pack(const struct kvmi_hello *hello, __u8 buf[KVMI_HELLO_SIZE])
{
	struct hello_wire wire = {
		.struct_size = htole32(sizeof(wire)),
		.start_time = htole64(hello->start_time),
		.max_gpa = htole64(hello->max_gpa),
	};

	memcpy(wire.uuid, hello->uuid, sizeof(wire.uuid));
	memcpy(wire.name, hello->name, sizeof(wire.name));
	wire.name[sizeof(wire.name) - 1] = '\0';
	memcpy(buf, &wire, sizeof(wire));
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
