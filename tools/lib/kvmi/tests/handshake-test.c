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

/* --- keys ----------------------------------------------------------------------- */

static const char secret[] = "an example of a key";
/* Of it: printf 'an example of a key' | sha1sum */
static const uint8_t secret_sha1[20] = {
	0x55, 0xa9, 0xb9, 0x8b, 0x48, 0x3d, 0x46, 0x31, 0x16, 0x4a,
	0xce, 0x8a, 0xf7, 0x27, 0x6d, 0x8b, 0xfe, 0xb7, 0xe0, 0x27,
};

static struct kvmi_auth key(const char *text, unsigned int flags)
{
	struct kvmi_auth auth = { .key = text, .key_size = strlen(text), .flags = flags };

	return auth;
}

static void test_key_old_vmm(void)
{
	struct kvmi_auth plain = key(secret, 0), mutual = key(secret, KVMI_AUTH_MUTUAL);
	struct kvmi_auth empty = key("", 0), odd = key(secret, 0x10);
	uint8_t buf[104], answer[200];
	struct kvmi_hello hello;

	open_pair();
	hello_bytes(buf, sizeof(buf));
	must(send(sv[0], buf, sizeof(buf), 0) == sizeof(buf));
	is_num(kvmi_handshake_tool_auth(sv[1], &plain, &hello, 1000), 0,
	       "a key, and a VMM that knows only the old form");
	is_num(recv(sv[0], answer, sizeof(answer), MSG_DONTWAIT), 24, "short answer");
	ok(!memcmp(answer + 4, secret_sha1, 20), "with the SHA-1 of the key");

	must(send(sv[0], buf, sizeof(buf), 0) == sizeof(buf));
	is_num(kvmi_handshake_tool_auth(sv[1], &mutual, &hello, 1000), -EACCES,
	       "the same where both must prove");
	has_text(kvmi_error(), "does not offer to prove", "is named");
	is_num(recv(sv[0], answer, sizeof(answer), MSG_DONTWAIT), -1, "and not answered");
	is_num(kvmi_handshake_tool_auth(sv[1], &empty, &hello, 1000), -EINVAL, "an empty key");
	is_num(kvmi_handshake_tool_auth(sv[1], &odd, &hello, 1000), -EINVAL, "an unknown flag");
	close_pair();
}

struct vmm {
	struct kvmi_auth auth;
	bool has_key;
	void (*meddle)(uint8_t *answer, uint8_t *proof);
	int err;
	size_t answer_size;
	uint8_t answer[4096];
};

/* What acts in the VMM's place. */
static void *vmm_thread(void *arg)
{
	struct kvmi_hello hello = { .name = "guest", .max_gpa = 0xfff };
	struct kvmi_greeting *g;
	struct vmm *vmm = arg;
	const void *bytes;
	uint8_t proof[64];
	size_t size;
	ssize_t n;

	must(!kvmi_greeting_new(&hello, vmm->has_key ? &vmm->auth : NULL, &g));
	bytes = kvmi_greeting_hello(g, &size);
	must(send(sv[0], bytes, size, MSG_NOSIGNAL) == (ssize_t)size);
	n = recv(sv[0], vmm->answer, 24, MSG_WAITALL);
	if (n == 24) {
		vmm->answer_size = get32(vmm->answer);
		if (vmm->answer_size > 24)
			n += recv(sv[0], vmm->answer + 24, vmm->answer_size - 24, MSG_WAITALL);
		if (vmm->meddle)
			vmm->meddle(vmm->answer, NULL);
		vmm->err = kvmi_greeting_answer(g, vmm->answer, n, &bytes, &size);
		if (!vmm->err && size) {
			memcpy(proof, bytes, size);
			if (vmm->meddle)
				vmm->meddle(NULL, proof);
			must(send(sv[0], proof, size, MSG_NOSIGNAL) == (ssize_t)size);
		}
	} else {
		vmm->err = -ECONNRESET;
	}
	if (vmm->err)
		shutdown(sv[0], SHUT_RDWR);
	kvmi_greeting_free(g);
	return NULL;
}

static int shake(struct kvmi_auth *tool, struct vmm *vmm, struct kvmi_hello *hello)
{
	pthread_t thread;
	int ret;

	open_pair();
	must(!pthread_create(&thread, NULL, vmm_thread, vmm));
	ret = kvmi_handshake_tool_auth(sv[1], tool, hello, 5000);
	shutdown(sv[1], SHUT_RDWR);
	must(!pthread_join(thread, NULL));
	close_pair();
	return ret;
}

static void test_mutual(void)
{
	struct vmm vmm = { .auth = key(secret, KVMI_AUTH_MUTUAL), .has_key = true }, again = vmm;
	struct kvmi_auth tool = key(secret, KVMI_AUTH_MUTUAL);
	struct kvmi_hello hello;
	static const uint8_t none[20];

	is_num(shake(&tool, &vmm, &hello), 0, "both have the key");
	is_num(vmm.err, 0, "and both know it");
	ok(!strcmp(hello.name, "guest") && hello.max_gpa == 0xfff, "the hello is the same");
	is_num(vmm.answer_size, 96, "the long answer");
	ok(!memcmp(vmm.answer + 4, none, 20), "does not give the key's hash away");
	is_num(shake(&tool, &again, &hello), 0, "once more");
	ok(memcmp(vmm.answer + 32, again.answer + 32, 32), "another nonce");
	ok(memcmp(vmm.answer + 64, again.answer + 64, 32), "another MAC");
}

static void test_wrong_keys(void)
{
	struct kvmi_auth tool = key("another", 0), none_tool = key(secret, KVMI_AUTH_MUTUAL);
	struct vmm vmm = { .auth = key(secret, 0), .has_key = true };
	struct vmm strict = { .auth = key(secret, KVMI_AUTH_MUTUAL), .has_key = true };
	struct vmm bare = { .has_key = false };
	struct kvmi_hello hello;

	is_num(shake(&tool, &vmm, &hello), -ECONNRESET, "a tool with the wrong key");
	is_num(vmm.err, -EACCES, "is found out by the VMM");
	is_num(shake(NULL, &vmm, &hello), 0, "a tool without a key");
	is_num(vmm.err, -EACCES, "is found out by the VMM");
	is_num(shake(NULL, &strict, &hello), 0, "the same, and the VMM wants a proof");
	is_num(strict.err, -EACCES, "is found out");
	is_num(shake(&none_tool, &bare, &hello), -EACCES, "a VMM without a key");
}

static void flip_answer(uint8_t *answer, uint8_t *proof)
{
	(void)proof;
	if (answer)
		answer[40] ^= 1;
}

static void flip_proof(uint8_t *answer, uint8_t *proof)
{
	(void)answer;
	if (proof)
		proof[39] ^= 0x80;
}

static void long_proof(uint8_t *answer, uint8_t *proof)
{
	(void)answer;
	if (proof)
		put32(proof, 4096);
}

/* Sends the VMM the first form, as somebody in between would. */
static void downgrade(uint8_t *answer, uint8_t *proof)
{
	(void)proof;
	if (!answer)
		return;
	memset(answer + 24, 0, 72);
	memcpy(answer + 4, secret_sha1, 20);
}

static void test_meddling(void)
{
	struct kvmi_auth tool = key(secret, 0);
	struct vmm vmm = { .auth = key(secret, KVMI_AUTH_MUTUAL), .has_key = true };
	struct kvmi_hello hello;

	vmm.meddle = flip_answer;
	is_num(shake(&tool, &vmm, &hello), -ECONNRESET, "a bit of the answer changes");
	is_num(vmm.err, -EACCES, "the VMM notices");
	vmm.meddle = flip_proof;
	is_num(shake(&tool, &vmm, &hello), -EACCES, "a bit of the proof changes");
	has_text(kvmi_error(), "the VMM does not have the key", "the tool notices");
	vmm.meddle = long_proof;
	is_num(shake(&tool, &vmm, &hello), -EPROTO, "a proof of 4096 bytes");
	vmm.meddle = downgrade;
	is_num(shake(&tool, &vmm, &hello), -ECONNRESET, "the old form instead of the new");
	is_num(vmm.err, -EACCES, "the VMM does not take it");
}

/* A MAC worked out by other means, so that the layout is the described one. */
static void test_mac_bytes(void)
{
	uint8_t hello_wire[144] = { 144 }, answer[96] = { 96 };
	struct kvmi_auth auth = key(secret, KVMI_AUTH_MUTUAL);
	static const char program[] =
		"import hmac,sys\n"
		"d=sys.stdin.buffer.read()\n"
		"m=hmac.new(b'an example of a key',b'KVMI tool\\0'+d[:144]+d[144:208],'sha256').digest()\n"
		"sys.exit(m!=d[208:240])\n";
	struct kvmi_handshake *h;
	char command[512];
	FILE *python;

	if (system("python3 -c '' 2> /dev/null")) {
		tap_skip("no python3 to work out a MAC");
		return;
	}
	open_pair();
	memcpy(hello_wire + 104, "KVMI-MAC", 8);
	memset(hello_wire + 112, 0x5a, 32);
	must(send(sv[0], hello_wire, sizeof(hello_wire), 0) == sizeof(hello_wire));
	must(!kvmi_handshake_new(sv[1], &auth, &h));
	is_num(kvmi_handshake_step(h), 0, "the tool answers and waits for a proof");
	is_num(kvmi_handshake_events(h), 1, "which it has to read");
	must(recv(sv[0], answer, sizeof(answer), MSG_DONTWAIT) == sizeof(answer));
	ok(!memcmp(answer + 24, "KVMI-MAC", 8), "magic");
	snprintf(command, sizeof(command), "python3 -c \"%s\"", program);
	python = popen(command, "w");
	must(python);
	fwrite(hello_wire, 1, sizeof(hello_wire), python);
	fwrite(answer, 1, sizeof(answer), python);
	is_num(pclose(python), 0, "the MAC is HMAC-SHA-256 of what the description says");
	kvmi_handshake_free(h);
	close_pair();
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
	test_key_old_vmm();
	test_mutual();
	test_wrong_keys();
	test_meddling();
	test_mac_bytes();
	return tap_done();
}
