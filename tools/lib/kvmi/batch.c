// SPDX-License-Identifier: GPL-2.0
/*
 * Batches: many commands with one wait.  A batch belongs to the thread that
 * fills and runs it; other threads can use the domain meanwhile.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

struct batch_item {
	size_t offset;			/* of its message in @msgs */
	size_t reply_min;
	size_t reply_max;
};

struct kvmi_batch {
	struct kvmi_dom *dom;
	struct kvmi_command *cmds;
	struct batch_item *items;
	unsigned int n;
	unsigned int room;		/* of both arrays */
	__u8 *msgs;
	size_t size;
	size_t msgs_room;
};

/**
 * kvmi_batch_new - make an empty batch
 * @dom: the domain for which it is
 * @batch: the batch
 *
 * Return: 0 or a negated errno.
 */
int kvmi_batch_new(struct kvmi_dom *dom, struct kvmi_batch **batch)
{
	struct kvmi_batch *b = calloc(1, sizeof(*b));

	if (!b)
		return kvmi_fail(-ENOMEM, "out of memory for a batch");
	b->dom = dom;
	*batch = b;
	return 0;
}

/**
 * kvmi_batch_free - free a batch
 * @batch: the batch, or NULL
 */
void kvmi_batch_free(struct kvmi_batch *batch)
{
	if (!batch)
		return;
	free(batch->cmds);
	free(batch->items);
	free(batch->msgs);
	free(batch);
}

/**
 * kvmi_batch_reset - empty a batch, to fill it again
 * @batch: the batch
 */
void kvmi_batch_reset(struct kvmi_batch *batch)
{
	batch->n = 0;
	batch->size = 0;
}

static bool grow(void **array, size_t count, size_t size)
{
	void *bigger = reallocarray(*array, count, size);

	if (bigger)
		*array = bigger;
	return bigger;
}

static bool reserve(struct kvmi_batch *b, size_t size)
{
	size_t room;

	if (b->n == b->room) {
		room = b->room ? b->room * 2 : 16;
		if (!grow((void **)&b->cmds, room, sizeof(*b->cmds)) ||
		    !grow((void **)&b->items, room, sizeof(*b->items)))
			return false;
		b->room = room;
	}
	if (b->msgs_room - b->size < size) {
		room = b->msgs_room * 2 + size;
		if (!grow((void **)&b->msgs, room, 1))
			return false;
		b->msgs_room = room;
	}
	return true;
}

static int add(struct kvmi_batch *b, __u16 id, const void *req, size_t req_size,
	       const void *data, size_t data_size, void *reply, size_t reply_min,
	       size_t reply_max)
{
	struct kvmi_msg_hdr hdr = { .id = id };
	__u8 *p;

	if (req_size > KVMI_MAX_PAYLOAD || data_size > KVMI_MAX_PAYLOAD - req_size)
		return kvmi_fail(-EMSGSIZE, "%s: %zu bytes are more than %d",
				 kvmi_message_name(id), req_size + data_size,
				 KVMI_MAX_PAYLOAD);
	hdr.size = req_size + data_size;
	if (!reserve(b, sizeof(hdr) + hdr.size))
		return kvmi_fail(-ENOMEM, "%s: out of memory for a batch",
				 kvmi_message_name(id));
	b->cmds[b->n] = (struct kvmi_command) { .id = id, .reply = reply };
	b->items[b->n] = (struct batch_item) {
		.offset = b->size,
		.reply_min = reply_min,
		.reply_max = reply_max,
	};
	p = b->msgs + b->size;
	memcpy(p, &hdr, sizeof(hdr));
	if (req_size)
		memcpy(p + sizeof(hdr), req, req_size);
	if (data_size)
		memcpy(p + sizeof(hdr) + req_size, data, data_size);
	b->size += sizeof(hdr) + hdr.size;
	return b->n++;
}

/**
 * kvmi_batch_add - have a batch hold one more command, of any kind
 * @batch: the batch
 * @id: the message id
 * @req: what follows the header; for a vCPU's starts with struct kvmi_vcpu_hdr.
 *	Copied: needed no longer than the call
 * @req_size: its size
 * @reply: where to put the data of the reply when the batch runs
 * @reply_min: how much of it is needed
 * @reply_max: how much fits there
 *
 * Return: the command's number in the batch, from 0 on, or a negated errno.
 */
int kvmi_batch_add(struct kvmi_batch *batch, __u16 id, const void *req,
		   size_t req_size, void *reply, size_t reply_min,
		   size_t reply_max)
{
	if (id == KVMI_VM_EVENT || id == KVMI_VCPU_EVENT)
		return kvmi_fail(-EINVAL, "%s: is not a command",
				 kvmi_message_name(id));
	return add(batch, id, req, req_size, NULL, 0, reply, reply_min, reply_max);
}

static int add_vcpu(struct kvmi_batch *b, __u16 id, __u16 vcpu, const void *req,
		    size_t req_size)
{
	struct kvmi_vcpu_hdr hdr = { .vcpu = vcpu };

	return add(b, id, &hdr, sizeof(hdr), req, req_size, NULL, 0, 0);
}

/**
 * kvmi_batch_read_physical - add a KVMI_VM_READ_PHYSICAL
 * @batch: the batch
 * @gpa: guest physical address
 * @buf: where to, when the batch runs
 * @size: how many bytes, within one page
 *
 * Return: the command's number, or a negated errno.
 */
int kvmi_batch_read_physical(struct kvmi_batch *batch, __u64 gpa, void *buf,
			     __u16 size)
{
	struct kvmi_vm_read_physical req = { .gpa = gpa, .size = size };

	return add(batch, KVMI_VM_READ_PHYSICAL, &req, sizeof(req), NULL, 0, buf,
		   size, size);
}

/**
 * kvmi_batch_write_physical - add a KVMI_VM_WRITE_PHYSICAL
 * @batch: the batch
 * @gpa: guest physical address
 * @buf: what to write; copied
 * @size: how many bytes, within one page
 *
 * Return: the command's number, or a negated errno.
 */
int kvmi_batch_write_physical(struct kvmi_batch *batch, __u64 gpa,
			      const void *buf, __u16 size)
{
	struct kvmi_vm_write_physical req = { .gpa = gpa, .size = size };

	return add(batch, KVMI_VM_WRITE_PHYSICAL, &req, sizeof(req), buf, size,
		   NULL, 0, 0);
}

/**
 * kvmi_batch_pause_vcpu - add a KVMI_VM_PAUSE_VCPU
 * @batch: the batch
 * @vcpu: the vCPU
 * @wait: as for kvmi_vm_pause_vcpu()
 *
 * Return: the command's number, or a negated errno.
 */
int kvmi_batch_pause_vcpu(struct kvmi_batch *batch, __u16 vcpu, bool wait)
{
	struct kvmi_vm_pause_vcpu req = { .vcpu = vcpu, .wait = wait };

	return add(batch, KVMI_VM_PAUSE_VCPU, &req, sizeof(req), NULL, 0, NULL, 0,
		   0);
}

/**
 * kvmi_batch_control_events - add a KVMI_VCPU_CONTROL_EVENTS
 * @batch: the batch
 * @vcpu: the vCPU
 * @event_id: KVMI_VCPU_EVENT_*
 * @enable: whether the event is to come
 *
 * Return: the command's number, or a negated errno.
 */
int kvmi_batch_control_events(struct kvmi_batch *batch, __u16 vcpu,
			      __u16 event_id, bool enable)
{
	struct kvmi_vcpu_control_events req = {
		.event_id = event_id,
		.enable = enable,
	};

	return add_vcpu(batch, KVMI_VCPU_CONTROL_EVENTS, vcpu, &req, sizeof(req));
}

/**
 * kvmi_batch_control_cr - add a KVMI_VCPU_CONTROL_CR
 * @batch: the batch
 * @vcpu: the vCPU
 * @cr: 0, 3 or 4
 * @enable: whether writes are to be reported
 *
 * Return: the command's number, or a negated errno.
 */
int kvmi_batch_control_cr(struct kvmi_batch *batch, __u16 vcpu, __u8 cr,
			  bool enable)
{
	struct kvmi_vcpu_control_cr req = { .cr = cr, .enable = enable };

	return add_vcpu(batch, KVMI_VCPU_CONTROL_CR, vcpu, &req, sizeof(req));
}

/**
 * kvmi_batch_control_msr - add a KVMI_VCPU_CONTROL_MSR
 * @batch: the batch
 * @vcpu: the vCPU
 * @msr: which
 * @enable: whether writes are to be reported
 *
 * Return: the command's number, or a negated errno.
 */
int kvmi_batch_control_msr(struct kvmi_batch *batch, __u16 vcpu, __u32 msr,
			   bool enable)
{
	struct kvmi_vcpu_control_msr req = { .msr = msr, .enable = enable };

	return add_vcpu(batch, KVMI_VCPU_CONTROL_MSR, vcpu, &req, sizeof(req));
}

/**
 * kvmi_batch_control_singlestep - add a KVMI_VCPU_CONTROL_SINGLESTEP
 * @batch: the batch
 * @vcpu: the vCPU
 * @enable: whether instructions are to be reported
 *
 * Return: the command's number, or a negated errno.
 */
int kvmi_batch_control_singlestep(struct kvmi_batch *batch, __u16 vcpu,
				  bool enable)
{
	struct kvmi_vcpu_control_singlestep req = { .enable = enable };

	return add_vcpu(batch, KVMI_VCPU_CONTROL_SINGLESTEP, vcpu, &req,
			sizeof(req));
}

/**
 * kvmi_batch_run - send all commands of a batch and wait for their replies
 * @batch: the batch; it keeps its commands, and can be run again
 *
 * The kernel carries out the VM's commands in the order of the batch; each vCPU
 * does so with its own; no order holds between them.  One that fails does not
 * keep the others from being carried out.
 *
 * Return: 0 if all succeeded, or the error of the first one that did not, and
 * kvmi_error() tells of it.  kvmi_batch_result() tells of each.
 */
int kvmi_batch_run(struct kvmi_batch *batch)
{
	unsigned int first, n, i;
	size_t start, end;
	int err = 0;

	for (i = 0; i < batch->n; i++) {
		batch->cmds[i].done = false;
		batch->cmds[i].err = -ECANCELED;
		batch->cmds[i].reply_size = batch->items[i].reply_max;
		if (batch->items[i].reply_max)
			memset(batch->cmds[i].reply, 0, batch->items[i].reply_max);
	}
	for (first = 0; !err && first < batch->n; first += n) {
		n = MIN(batch->n - first, KVMI_BATCH_WINDOW);
		start = batch->items[first].offset;
		end = first + n < batch->n ? batch->items[first + n].offset :
		      batch->size;
		err = kvmi_run_commands(batch->dom, batch->cmds + first, n,
					batch->msgs + start, end - start);
	}
	if (err)
		kvmi_fail_prefix(err, "a batch of %u commands: ", batch->n);
	for (i = 0; i < batch->n; i++) {
		struct kvmi_command *cmd = &batch->cmds[i];

		if (!cmd->done) {
			cmd->err = err;
			cmd->reply_size = 0;
		} else if (!err) {
			err = kvmi_check_reply(cmd, batch->items[i].reply_min);
			if (err)
				kvmi_fail_prefix(err, "command %u of a batch: ", i);
		}
	}
	return err;
}

/**
 * kvmi_batch_result - how one command of a batch that was run went
 * @batch: the batch
 * @i: the command's number
 *
 * Return: 0 or a negated errno.
 */
int kvmi_batch_result(const struct kvmi_batch *batch, unsigned int i)
{
	if (i >= batch->n)
		return kvmi_fail(-EINVAL, "command %u of a batch of %u", i, batch->n);
	if (!batch->cmds[i].done)
		return kvmi_fail(batch->cmds[i].err, "%s: was not answered",
				 kvmi_message_name(batch->cmds[i].id));
	return kvmi_check_reply(&batch->cmds[i], batch->items[i].reply_min);
}

/**
 * kvmi_batch_reply_size - how much data one command of a batch was answered with
 * @batch: the batch
 * @i: the command's number
 */
size_t kvmi_batch_reply_size(const struct kvmi_batch *batch, unsigned int i)
{
	return i < batch->n ? batch->cmds[i].reply_size : 0;
}
