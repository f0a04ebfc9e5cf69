// SPDX-License-Identifier: GPL-2.0
/* What a VMM, or somebody in its place, says before KVM has the socket. */

#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <kvmi/libkvmi.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct kvmi_auth auth = { .key = "secret", .key_size = 6 };
	struct kvmi_hello hello = { .name = "fuzz" };
	struct kvmi_greeting *greeting;
	const void *proof;
	size_t proof_size;
	int sv[2];

	if (!size || size > 10000)
		return 0;
	auth.flags = data[0] & 1 ? KVMI_AUTH_MUTUAL : 0;
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, sv))
		return 0;
	if (send(sv[0], data + 1, size - 1, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)size - 1) {
		shutdown(sv[0], SHUT_WR);
		kvmi_handshake_tool_auth(sv[1], data[0] & 2 ? &auth : NULL, &hello, 100);
	}
	close(sv[0]);
	close(sv[1]);
	if (!kvmi_greeting_new(&hello, data[0] & 2 ? &auth : NULL, &greeting)) {
		kvmi_greeting_answer(greeting, data + 1, size - 1, &proof, &proof_size);
		kvmi_greeting_free(greeting);
	}
	return 0;
}
