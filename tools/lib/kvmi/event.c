// SPDX-License-Identifier: GPL-2.0
/* Events: checking what comes, giving it a type, answering it. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

/* The event-specific struct of each event, as long as version 1 has it. */
static const struct {
	__u16 id;
	__u16 size;
} event_sizes[] = {
	{ KVMI_VCPU_EVENT_PAUSE, 0 },
	{ KVMI_VCPU_EVENT_HYPERCALL, 0 },
	{ KVMI_VCPU_EVENT_BREAKPOINT, sizeof(struct kvmi_vcpu_event_breakpoint) },
	{ KVMI_VCPU_EVENT_CR, sizeof(struct kvmi_vcpu_event_cr) },
	{ KVMI_VCPU_EVENT_TRAP, sizeof(struct kvmi_vcpu_event_trap) },
	{ KVMI_VCPU_EVENT_XSETBV, sizeof(struct kvmi_vcpu_event_xsetbv) },
	{ KVMI_VCPU_EVENT_DESCRIPTOR, sizeof(struct kvmi_vcpu_event_descriptor) },
	{ KVMI_VCPU_EVENT_MSR, sizeof(struct kvmi_vcpu_event_msr) },
	{ KVMI_VCPU_EVENT_PF, sizeof(struct kvmi_vcpu_event_pf) },
	{ KVMI_VCPU_EVENT_SINGLESTEP, sizeof(struct kvmi_vcpu_event_singlestep) },
};

static size_t event_size(__u16 id)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(event_sizes); i++)
		if (event_sizes[i].id == id)
			return event_sizes[i].size;
	return 0;
}

/*
 * Can this be an event?  The parts that follow the common one stand at the
 * offset that the common part gives as its own size, so that it can grow.
 */
int kvmi_event_check(const struct kvmi_msg_hdr *hdr, const __u8 *payload,
		     char *why, size_t why_size)
{
	struct kvmi_vcpu_event common;
	struct kvmi_event_hdr eh;
	size_t rest;

	if (hdr->size < sizeof(eh)) {
		snprintf(why, why_size, "%s: size %u has no room for an event id",
			 kvmi_message_name(hdr->id), hdr->size);
		return -EPROTO;
	}
	memcpy(&eh, payload, sizeof(eh));
	if (hdr->id == KVMI_VM_EVENT)
		return 0;

	rest = hdr->size - sizeof(eh);
	if (rest < sizeof(common)) {
		snprintf(why, why_size, "%s: size %u has no room for a vCPU's state",
			 kvmi_event_name(eh.event), hdr->size);
		return -EPROTO;
	}
	memcpy(&common, payload + sizeof(eh), sizeof(common));
	if (common.size < sizeof(common) || common.size > rest) {
		snprintf(why, why_size,
			 "%s: kvmi_vcpu_event.size %u is not within %zu..%zu",
			 kvmi_event_name(eh.event), common.size, sizeof(common),
			 rest);
		return -EPROTO;
	}
	if (rest - common.size < event_size(eh.event)) {
		snprintf(why, why_size,
			 "%s: %zu bytes of its own where %zu are needed",
			 kvmi_event_name(eh.event), rest - common.size,
			 event_size(eh.event));
		return -EPROTO;
	}
	return 0;
}

/* Only for what kvmi_event_check() has let pass. */
static void parse_event(const struct kvmi_msg_hdr *hdr, const __u8 *p,
			struct kvmi_event *event)
{
	struct kvmi_vcpu_event common;
	struct kvmi_event_hdr eh;

	memset(event, 0, sizeof(*event));
	memcpy(&eh, p, sizeof(eh));
	event->id = eh.event;
	event->seq = hdr->seq;
	if (hdr->id == KVMI_VM_EVENT)
		return;

	p += sizeof(eh);
	memcpy(&common, p, sizeof(common));
	event->vcpu = common.vcpu;
	event->arch = common.arch;
	/* All members of the union start at the same place. */
	memcpy(&event->pf, p + common.size, event_size(eh.event));
}

/**
 * kvmi_event_next - wait for the next event
 * @dom: the domain
 * @event: the event
 * @timeout_ms: how long to wait: 0 not at all, -1 for ever
 *
 * The vCPU stands still until kvmi_event_reply() has been called for it.  Only
 * KVMI_VM_EVENT_UNHOOK wants no answer; it asks the tool to close the domain.
 *
 * Return: 1 if there is an event, 0 if none came in time, or a negated errno.
 */
int kvmi_event_next(struct kvmi_dom *dom, struct kvmi_event *event,
		    int timeout_ms)
{
	struct kvmi_raw_event *raw;
	int ret;

	ret = kvmi_wait_event(dom, kvmi_deadline(timeout_ms), &raw);
	if (ret <= 0)
		return ret;
	parse_event(&raw->hdr, raw->payload, event);
	free(raw);
	return 1;
}

/**
 * kvmi_event_next_raw - wait for the next event, and take it as it came
 * @dom: the domain
 * @buf: where to put the message, its header included
 * @room: how much fits there; KVMI_EVENT_MAX_SIZE does for all
 * @size: its size
 * @timeout_ms: as for kvmi_event_next()
 *
 * For those who hand events on, or know more of them than this library does.
 *
 * Return: as kvmi_event_next(); -EMSGSIZE if @room was too little, and then the
 * event is lost for this caller, but its vCPU still waits.
 */
int kvmi_event_next_raw(struct kvmi_dom *dom, void *buf, size_t room,
			size_t *size, int timeout_ms)
{
	struct kvmi_raw_event *raw;
	size_t all;
	int ret;

	ret = kvmi_wait_event(dom, kvmi_deadline(timeout_ms), &raw);
	if (ret <= 0)
		return ret;
	all = sizeof(raw->hdr) + raw->hdr.size;
	if (all > room) {
		ret = kvmi_fail(-EMSGSIZE, "an event of %zu bytes, where %zu fit",
				all, room);
	} else {
		memcpy(buf, &raw->hdr, sizeof(raw->hdr));
		memcpy((__u8 *)buf + sizeof(raw->hdr), raw->payload, raw->hdr.size);
		*size = all;
	}
	free(raw);
	return ret;
}

/**
 * kvmi_event_parse - give a type to a message that holds an event
 * @buf: the message, its header included
 * @size: its size
 * @event: the event
 *
 * Return: 0, or -EPROTO if it is no event; kvmi_error() says why.
 */
int kvmi_event_parse(const void *buf, size_t size, struct kvmi_event *event)
{
	struct kvmi_msg_hdr hdr;
	const __u8 *p = buf;
	char why[128];

	if (size < sizeof(hdr))
		return kvmi_fail(-EPROTO, "%zu bytes have no room for a header", size);
	memcpy(&hdr, p, sizeof(hdr));
	if (hdr.size != size - sizeof(hdr))
		return kvmi_fail(-EPROTO, "%s: size %u where %zu bytes follow",
				 kvmi_message_name(hdr.id), hdr.size,
				 size - sizeof(hdr));
	if (hdr.id != KVMI_VM_EVENT && hdr.id != KVMI_VCPU_EVENT)
		return kvmi_fail(-EPROTO, "%s: is not an event",
				 kvmi_message_name(hdr.id));
	if (kvmi_event_check(&hdr, p + sizeof(hdr), why, sizeof(why)))
		return kvmi_fail(-EPROTO, "%s", why);
	parse_event(&hdr, p + sizeof(hdr), event);
	return 0;
}

/**
 * kvmi_event_reply - answer an event
 * @dom: the domain
 * @event: the event
 * @action: KVMI_EVENT_ACTION_*
 *
 * Return: 0 or a negated errno.
 */
int kvmi_event_reply(struct kvmi_dom *dom, const struct kvmi_event *event,
		     __u8 action)
{
	return kvmi_event_reply_data(dom, event, action, NULL, 0);
}

/**
 * kvmi_event_reply_data - answer an event whose answer carries data
 * @dom: the domain
 * @event: the event
 * @action: KVMI_EVENT_ACTION_*
 * @data: struct kvmi_vcpu_event_cr_reply or struct kvmi_vcpu_event_msr_reply
 * @size: its size; a value that is not sent counts as 0
 *
 * Return: 0 or a negated errno.
 */
int kvmi_event_reply_data(struct kvmi_dom *dom, const struct kvmi_event *event,
			  __u8 action, const void *data, size_t size)
{
	struct {
		struct kvmi_msg_hdr hdr;
		struct kvmi_vcpu_hdr vcpu;
		struct kvmi_vcpu_event_reply reply;
		__u8 data[64];
	} msg = {
		.hdr = {
			.id = KVMI_VCPU_EVENT,
			.seq = event->seq,
			.size = sizeof(msg.vcpu) + sizeof(msg.reply) + size,
		},
		.vcpu = { .vcpu = event->vcpu },
		.reply = { .action = action, .event = event->id },
	};
	int err;

	if (!(event->id & 1))
		return kvmi_fail(-EINVAL, "%s: wants no answer",
				 kvmi_event_name(event->id));
	if (size > sizeof(msg.data))
		return kvmi_fail(-EMSGSIZE, "answer to %s: %zu bytes of data are more than %zu",
				 kvmi_event_name(event->id), size,
				 sizeof(msg.data));
	if (size)
		memcpy(msg.data, data, size);
	err = kvmi_send(dom, &msg, sizeof(msg.hdr) + msg.hdr.size,
			kvmi_deadline(KVMI_DEFAULT_TIMEOUT));
	if (err)
		kvmi_fail_prefix(err, "answer to %s: ", kvmi_event_name(event->id));
	return err;
}

/**
 * kvmi_event_reply_value - let a write to a register happen
 * @dom: the domain
 * @event: a KVMI_VCPU_EVENT_CR or KVMI_VCPU_EVENT_MSR
 * @value: what the register gets: the event's new_value as the guest wants it,
 *	its old_value to have the write go nowhere, or something else
 *
 * Return: 0 or a negated errno.
 */
int kvmi_event_reply_value(struct kvmi_dom *dom, const struct kvmi_event *event,
			   __u64 value)
{
	struct kvmi_vcpu_event_cr_reply reply = { .new_val = value };

	_Static_assert(sizeof(struct kvmi_vcpu_event_msr_reply) == sizeof(reply),
		       "both are one value");
	if (event->id != KVMI_VCPU_EVENT_CR && event->id != KVMI_VCPU_EVENT_MSR)
		return kvmi_fail(-EINVAL, "answer to %s: it takes no value",
				 kvmi_event_name(event->id));
	return kvmi_event_reply_data(dom, event, KVMI_EVENT_ACTION_CONTINUE,
				     &reply, sizeof(reply));
}
