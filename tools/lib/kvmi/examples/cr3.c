// SPDX-License-Identifier: GPL-2.0
/*
 * Waits for one VM and prints the first writes to CR3 of its first vCPU: a guest
 * that changes from one process to another.
 *
 *	cr3 SOCKET [COUNT]
 */

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

#include <kvmi/libkvmi.h>

static int die(const char *what)
{
	fprintf(stderr, "cr3: %s: %s\n", what, kvmi_error());
	return 1;
}

int main(int argc, char **argv)
{
	int count = argc > 2 ? atoi(argv[2]) : 10;
	struct kvmi_listener *listener;
	struct kvmi_hello hello;
	struct kvmi_event event;
	struct kvmi_dom *dom;
	struct pollfd pfd = { .events = POLLIN };
	int fd, err, tries = 0;

	if (argc < 2) {
		fprintf(stderr, "usage: cr3 SOCKET [COUNT]\n");
		return 2;
	}
	if (kvmi_listener_open(argv[1], &listener))
		return die("listening");
	printf("listening\n");
	fflush(stdout);
	pfd.fd = kvmi_listener_fd(listener);
	poll(&pfd, 1, -1);
	fd = kvmi_listener_accept(listener);
	if (fd < 0)
		return die("accepting");
	if (kvmi_handshake_tool_auth(fd, NULL, &hello, 10000))
		return die("handshake");
	if (kvmi_dom_open(fd, &hello, &dom))
		return die("opening");
	printf("VM %s\n", hello.name);

	/* The VMM hooks the VM first, and allows things then: be patient, for 10 s. */
	do {
		poll(NULL, 0, 10);
		err = kvmi_vm_check_event(dom, KVMI_VCPU_EVENT_CR);
	} while (err == -EPERM && ++tries < 1000);
	if (err || kvmi_vcpu_control_cr(dom, 0, 3, true) ||
	    kvmi_vcpu_control_events(dom, 0, KVMI_VCPU_EVENT_CR, true))
		return die("CR3");
	/* From here on no write is missed. */
	printf("waiting\n");
	fflush(stdout);
	while (count > 0) {
		err = kvmi_event_next(dom, &event, 30000);
		if (err != 1) {
			if (err)
				return die("waiting for an event");
			fprintf(stderr, "cr3: no write to CR3 for 30 s\n");
			return 1;
		}
		if (event.id != KVMI_VCPU_EVENT_CR) {
			kvmi_event_reply(dom, &event, KVMI_EVENT_ACTION_CONTINUE);
			continue;
		}
		printf("CR3 0x%llx, was 0x%llx\n", event.cr.new_value, event.cr.old_value);
		count--;
		if (kvmi_event_reply_value(dom, &event, event.cr.new_value))
			return die("answering");
	}
	/* This lifts all that we have asked for. */
	kvmi_dom_close(dom);
	kvmi_listener_close(listener);
	return count > 0;
}
