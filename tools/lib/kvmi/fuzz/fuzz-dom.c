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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void take_events(struct kvmi_dom *dom)
{
	struct kvmi_event event, again;
	static uint8_t raw[KVMI_EVENT_MAX_SIZE];
	size_t len;
	int i;

	for (i = 0; i < 8 && kvmi_event_next(dom, &event, 0) == 1; i++) {
		kvmi_event_name(event.id);
		kvmi_event_reply(dom, &event, KVMI_EVENT_ACTION_RETRY);
	}
	if (kvmi_event_next_raw(dom, raw, sizeof(raw), &len, 0) == 1)
		kvmi_event_parse(raw, len, &again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct kvm_msr_entry msrs[2] = { { .index = 0x10 }, { .index = 0x11 } };
	struct kvmi_get_version_reply version;
	struct kvmi_registers regs;
	struct kvmi_event event;
	struct kvmi_batch *batch;
	struct kvmi_dom *dom;
	uint8_t page[4096];
	int sv[2], room = 1 << 20;

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
	kvmi_get_version(dom, &version);
	take_events(dom);
	kvmi_vcpu_get_registers(dom, 0, &regs, msrs, 2);
	if (!kvmi_batch_new(dom, &batch)) {
		kvmi_batch_read_physical(batch, 0x1000, page, sizeof(page));
		kvmi_batch_read_physical(batch, 0x2000, page, 100);
		kvmi_batch_run(batch);
		kvmi_batch_result(batch, 1);
		kvmi_batch_free(batch);
	}
	take_events(dom);
out:
	kvmi_dom_close(dom);
	close(sv[0]);
	return 0;
}
