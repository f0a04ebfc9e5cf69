// SPDX-License-Identifier: GPL-2.0
/* The handshake, with VMMs old and new, slow, silent and hostile. */

#include <errno.h>
#include <kvmi/libkvmi.h>
#include <pthread.h>
#include <sys/socket.h>
#include <time.h>

#include "peer.h"
#include "tap.h"

static int sv[2];

static void open_pair(void)
{
	must(!socketpair(AF_UNIX, SOCK_STREAM, 0, sv));
}

static void close_pair(void)
{
	close(sv[0]);
	close(sv[1]);
}

/* A hello as it stands in the protocol's description. */
static void hello_bytes(uint8_t *buf, size_t size)
{
	size_t i;

	memset(buf, 0xcc, size);
	put32(buf, size);
	for (i = 0; i < 16; i++)
		buf[4 + i] = i;
	put32(buf + 20, 0);
	put64(buf + 24, 1700000000);
	memset(buf + 32, 0, 64);
	strcpy((char *)buf + 32, "guest");
	if (size >= 104)
		put64(buf + 96, 0x13fffffff);
}

static void test_good(size_t size)
{
	static const uint8_t uuid[16] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11,
					  12, 13, 14, 15 };
	uint8_t buf[KVMI_HELLO_MAX_SIZE + 4], answer[64];
	struct kvmi_hello hello;

	open_pair();
	hello_bytes(buf, size);
	put32(buf + size, 0x12345678);	/* what comes next is not the handshake's */
	must(send(sv[0], buf, size + 4, 0) == (ssize_t)size + 4);
	is_num(kvmi_handshake_tool(sv[1], NULL, &hello, 1000), 0,
	       "hello of %zu bytes", size);
	ok(!memcmp(hello.uuid, uuid, 16), "uuid");
	is_num(hello.start_time, 1700000000, "start time");
	ok(!strcmp(hello.name, "guest"), "name");
	is_num(hello.max_gpa, size >= 104 ? 0x13fffffff : 0, "max_gpa");
	is_num(recv(sv[0], answer, sizeof(answer), MSG_DONTWAIT), 24, "answer");
	is_num(get32(answer), 24, "its struct_size");
	ok(get64(answer + 4) == 0 && get64(answer + 12) == 0 && get32(answer + 20) == 0,
	   "no cookie");
	is_num(recv(sv[1], answer, sizeof(answer), MSG_DONTWAIT), 4,
	       "what follows is left where it is");
	close_pair();
}

static void test_bad_size(uint32_t size)
{
	struct kvmi_hello hello;
	uint8_t buf[4];

	open_pair();
	put32(buf, size);
	must(send(sv[0], buf, 4, 0) == 4);
	is_num(kvmi_handshake_tool(sv[1], NULL, &hello, 1000), -EPROTO,
	       "struct_size %u", size);
	has_text(kvmi_error(), "struct_size", "is named");
	is_num(recv(sv[0], buf, sizeof(buf), MSG_DONTWAIT), -1, "and not answered");
	close_pair();
}

static void test_cookie(void)
{
	static const uint8_t cookie[20] = "12345678901234567890";
	uint8_t buf[104], answer[24];
	struct kvmi_hello hello;

	open_pair();
	hello_bytes(buf, sizeof(buf));
	memset(buf + 32, 'x', 64);	/* no terminating NUL */
	must(send(sv[0], buf, sizeof(buf), 0) == sizeof(buf));
	is_num(kvmi_handshake_tool(sv[1], cookie, &hello, 1000), 0, "with a cookie");
	is_num(strlen(hello.name), 63, "an unterminated name is cut");
	must(recv(sv[0], answer, 24, MSG_DONTWAIT) == 24);
	ok(!memcmp(answer + 4, cookie, 20), "the cookie");
	close_pair();
}

static void *drip(void *arg)
{
	const struct timespec pause = { .tv_nsec = 1000 * 1000 };
	uint8_t buf[104];
	unsigned int i;

	(void)arg;
	hello_bytes(buf, sizeof(buf));
	for (i = 0; i < sizeof(buf); i++) {
		if (send(sv[0], buf + i, 1, MSG_NOSIGNAL) != 1)
			break;
		nanosleep(&pause, NULL);
	}
	return NULL;
}

static void test_slow(void)
{
	struct kvmi_hello hello;
	pthread_t thread;

	open_pair();
	must(!pthread_create(&thread, NULL, drip, NULL));
	is_num(kvmi_handshake_tool(sv[1], NULL, &hello, 10000), 0, "byte by byte");
	ok(!strcmp(hello.name, "guest"), "name");
	must(!pthread_join(thread, NULL));
	close_pair();

	/* Dripping does not prolong the time it may take in all. */
	open_pair();
	must(!pthread_create(&thread, NULL, drip, NULL));
	is_num(kvmi_handshake_tool(sv[1], NULL, &hello, 30), -ETIMEDOUT,
	       "byte by byte, too slow");
	close(sv[1]);
	must(!pthread_join(thread, NULL));
	close(sv[0]);

	open_pair();
	is_num(kvmi_handshake_tool(sv[1], NULL, &hello, 50), -ETIMEDOUT, "silence");
	has_text(kvmi_error(), "waiting for the VMM's hello", "is named");
	close_pair();
}

static void test_end(void)
{
	struct kvmi_hello hello;
	uint8_t buf[104];

	open_pair();
	hello_bytes(buf, sizeof(buf));
	must(send(sv[0], buf, 50, 0) == 50);
	shutdown(sv[0], SHUT_WR);
	is_num(kvmi_handshake_tool(sv[1], NULL, &hello, 1000), -ECONNRESET,
	       "half a hello");
	close_pair();
}

static void test_pack(void)
{
	struct kvmi_hello hello = { .start_time = 1700000000,
				    .max_gpa = 0x13fffffff, .name = "guest" };
	uint8_t got[104], want[104];
	unsigned int i;

	for (i = 0; i < 16; i++)
		hello.uuid[i] = i;
	hello_bytes(want, sizeof(want));
	kvmi_hello_pack(&hello, got);
	ok(!memcmp(got, want, sizeof(got)), "a packed hello");
	memset(hello.name, 'x', sizeof(hello.name));
	kvmi_hello_pack(&hello, got);
	is_num(got[95], 0, "its name is always terminated");

	is_num(kvmi_hello_check_answer_size(24), 20, "answer of 24 bytes");
	is_num(kvmi_hello_check_answer_size(100), 96, "answer of 100 bytes");
	is_num(kvmi_hello_check_answer_size(23), -EPROTO, "answer of 23 bytes");
	is_num(kvmi_hello_check_answer_size(0xffffffff), -EPROTO, "answer of 4 GiB");
}

int main(void)
{
	tap_start(60);
	test_good(96);
	test_good(100);
	test_good(104);
	test_good(128);
	test_good(KVMI_HELLO_MAX_SIZE);
	test_bad_size(0);
	test_bad_size(95);
	test_bad_size(KVMI_HELLO_MAX_SIZE + 1);
	test_bad_size(0xffffffff);
	test_cookie();
	test_slow();
	test_end();
	test_pack();
	return tap_done();
}
