/* SPDX-License-Identifier: GPL-2.0-only */
#if !defined(_TRACE_KVMI_H) || defined(TRACE_HEADER_MULTI_READ)
#define _TRACE_KVMI_H

#include <linux/tracepoint.h>

#undef TRACE_SYSTEM
#define TRACE_SYSTEM kvmi

/*
 * KVM introspection: each message that crosses the socket.  What concerns the
 * whole VM has the vCPU number -1.  "event" and "id" are the protocol's.
 */

#define kvmi_trace_actions						\
	{ 0, "CONTINUE" },						\
	{ 1, "RETRY" },							\
	{ 2, "CRASH" }

/* A command is about to be carried out. */
TRACE_EVENT(kvmi_command,
	TP_PROTO(int vcpu, __u16 id, __u32 seq, __u16 size),
	TP_ARGS(vcpu, id, seq, size),

	TP_STRUCT__entry(
		__field(int,	vcpu)
		__field(__u16,	id)
		__field(__u32,	seq)
		__field(__u16,	size)
	),

	TP_fast_assign(
		__entry->vcpu	= vcpu;
		__entry->id	= id;
		__entry->seq	= seq;
		__entry->size	= size;
	),

	TP_printk("vcpu %d id %u seq %u size %u", __entry->vcpu, __entry->id,
		  __entry->seq, __entry->size)
);

/* The reply to a command was sent, an error by itself included. */
TRACE_EVENT(kvmi_reply,
	TP_PROTO(int vcpu, __u16 id, __u32 seq, int err, __u16 size),
	TP_ARGS(vcpu, id, seq, err, size),

	TP_STRUCT__entry(
		__field(int,	vcpu)
		__field(__u16,	id)
		__field(__u32,	seq)
		__field(int,	err)
		__field(__u16,	size)
	),

	TP_fast_assign(
		__entry->vcpu	= vcpu;
		__entry->id	= id;
		__entry->seq	= seq;
		__entry->err	= err;
		__entry->size	= size;
	),

	TP_printk("vcpu %d id %u seq %u err %d size %u", __entry->vcpu,
		  __entry->id, __entry->seq, __entry->err, __entry->size)
);

/* An event was sent. */
TRACE_EVENT(kvmi_event,
	TP_PROTO(int vcpu, __u16 event, __u32 seq),
	TP_ARGS(vcpu, event, seq),

	TP_STRUCT__entry(
		__field(int,	vcpu)
		__field(__u16,	event)
		__field(__u32,	seq)
	),

	TP_fast_assign(
		__entry->vcpu	= vcpu;
		__entry->event	= event;
		__entry->seq	= seq;
	),

	TP_printk("vcpu %d event %u seq %u", __entry->vcpu, __entry->event,
		  __entry->seq)
);

/* The vCPU goes on, as the tool has replied or as if it had. */
TRACE_EVENT(kvmi_action,
	TP_PROTO(int vcpu, __u16 event, __u32 seq, __u8 action),
	TP_ARGS(vcpu, event, seq, action),

	TP_STRUCT__entry(
		__field(int,	vcpu)
		__field(__u16,	event)
		__field(__u32,	seq)
		__field(__u8,	action)
	),

	TP_fast_assign(
		__entry->vcpu	= vcpu;
		__entry->event	= event;
		__entry->seq	= seq;
		__entry->action	= action;
	),

	TP_printk("vcpu %d event %u seq %u action %s", __entry->vcpu,
		  __entry->event, __entry->seq,
		  __print_symbolic(__entry->action, kvmi_trace_actions))
);

#endif /* _TRACE_KVMI_H */

/* This part must be outside protection */
#include <trace/define_trace.h>
