// SPDX-License-Identifier: GPL-2.0
/*
 * What a kernel says, to libFuzzer's liking: the input is sent to a domain that
 * asks it things.  Nothing that comes may make the library read or write where it
 * must not, wait for ever, or lose memory.
 */

#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <kvmi/libkvmi.h>

#include "session.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t raw[KVMI_EVENT_MAX_SIZE];
	struct kvmi_event event;
	struct kvmi_dom *dom;
	int sv[2], room = 1 << 20;
	size_t len;

	/* A message alone, without a connection around it. */
	kvmi_event_parse(data, size, &event);

	if (size > 200000 || socketpair(AF_UNIX, SOCK_STREAM, 0, sv))
		return 0;
	setsockopt(sv[0], SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
	if (kvmi_dom_open(sv[1], NULL, &dom)) {
		close(sv[0]);
		return 0;
	}
	kvmi_dom_set_timeout(dom, 0);
	if (send(sv[0], data, size, MSG_DONTWAIT | MSG_NOSIGNAL) != (ssize_t)size)
		goto out;
	shutdown(sv[0], SHUT_WR);
	kvmi_dom_set_timeout(dom, 100);
	session(dom, 0);
	if (kvmi_event_next_raw(dom, raw, sizeof(raw), &len, 0) == 1)
		kvmi_event_parse(raw, len, &event);
	session_events(dom, 0);
out:
	kvmi_dom_close(dom);
	close(sv[0]);
	return 0;
}
