// SPDX-License-Identifier: GPL-2.0
/* Commands that concern the VM as a whole. */

#include <errno.h>
#include <string.h>

#include "internal.h"

/* How many entries one KVMI_VM_SET_PAGE_ACCESS can carry. */
#define MAX_ACCESS_ENTRIES						\
	((KVMI_MAX_PAYLOAD - sizeof(struct kvmi_vm_set_page_access)) /	\
	 sizeof(struct kvmi_page_access_entry))

#define PAGE_ACCESS_RWX	(KVMI_PAGE_ACCESS_R | KVMI_PAGE_ACCESS_W | KVMI_PAGE_ACCESS_X)

/**
 * kvmi_get_version - protocol version and features of the other side
 * @dom: the domain
 * @reply: the answer
 *
 * Always allowed.  Return: 0 or a negated errno.
 */
int kvmi_get_version(struct kvmi_dom *dom, struct kvmi_get_version_reply *reply)
{
	/* The first two fields are as old as the protocol, features are not. */
	return kvmi_command(dom, KVMI_GET_VERSION, NULL, 0, reply,
			    offsetof(struct kvmi_get_version_reply, features),
			    sizeof(*reply));
}

/**
 * kvmi_vm_check_command - can a command be used?
 * @dom: the domain
 * @id: the command
 *
 * Always allowed.
 *
 * Return: 0 if so, -ENOENT if the kernel does not know it, -EPERM if the VMM
 * has not allowed it, or another negated errno.
 */
int kvmi_vm_check_command(struct kvmi_dom *dom, __u16 id)
{
	struct kvmi_vm_check_command req = { .id = id };
	int err;

	err = kvmi_command(dom, KVMI_VM_CHECK_COMMAND, &req, sizeof(req), NULL,
			   0, 0);
	if (err)
		kvmi_fail_prefix(err, "%s: ", kvmi_message_name(id));
	return err;
}

/**
 * kvmi_vm_check_event - can an event be had?
 * @dom: the domain
 * @id: the event
 *
 * Always allowed.
 *
 * Return: as kvmi_vm_check_command().
 */
int kvmi_vm_check_event(struct kvmi_dom *dom, __u16 id)
{
	struct kvmi_vm_check_event req = { .id = id };
	int err;

	err = kvmi_command(dom, KVMI_VM_CHECK_EVENT, &req, sizeof(req), NULL,
			   0, 0);
	if (err)
		kvmi_fail_prefix(err, "%s: ", kvmi_event_name(id));
	return err;
}

/**
 * kvmi_vm_get_info - how many vCPUs are there?
 * @dom: the domain
 * @reply: the answer
 *
 * Return: 0 or a negated errno.
 */
int kvmi_vm_get_info(struct kvmi_dom *dom, struct kvmi_vm_get_info_reply *reply)
{
	return kvmi_command(dom, KVMI_VM_GET_INFO, NULL, 0, reply,
			    sizeof(reply->vcpu_count), sizeof(*reply));
}

/**
 * kvmi_vm_get_max_gfn - where does the guest's memory end?
 * @dom: the domain
 * @gfn: the number of the page that follows the last page of RAM
 *
 * Beyond version 1 of the protocol: known if kvmi_get_version() has told of the
 * feature max_gfn.
 *
 * Return: 0 or a negated errno; -ENOSYS if the kernel does not know it.
 */
int kvmi_vm_get_max_gfn(struct kvmi_dom *dom, __u64 *gfn)
{
	struct kvmi_vm_get_max_gfn_reply reply;
	int err;

	err = kvmi_command(dom, KVMI_VM_GET_MAX_GFN, NULL, 0, &reply,
			   sizeof(reply), sizeof(reply));
	if (!err)
		*gfn = reply.gfn;
	return err;
}

/**
 * kvmi_vm_control_events - enable or disable an event that concerns the VM
 * @dom: the domain
 * @event_id: KVMI_VM_EVENT_UNHOOK
 * @enable: which of the two
 *
 * Return: 0 or a negated errno.
 */
int kvmi_vm_control_events(struct kvmi_dom *dom, __u16 event_id, bool enable)
{
	struct kvmi_vm_control_events req = {
		.event_id = event_id,
		.enable = enable,
	};
	int err;

	err = kvmi_command(dom, KVMI_VM_CONTROL_EVENTS, &req, sizeof(req), NULL,
			   0, 0);
	if (err)
		kvmi_fail_prefix(err, "%s: ", kvmi_event_name(event_id));
	return err;
}

/**
 * kvmi_vm_control_cleanup - what happens to interceptions at the end
 * @dom: the domain
 * @enable: they are given back when the connection ends (the default); or they
 *	stay, for a tool that connects again
 *
 * Return: 0 or a negated errno.
 */
int kvmi_vm_control_cleanup(struct kvmi_dom *dom, bool enable)
{
	struct kvmi_vm_control_cleanup req = { .enable = enable };

	return kvmi_command(dom, KVMI_VM_CONTROL_CLEANUP, &req, sizeof(req),
			    NULL, 0, 0);
}

static int check_range(__u16 id, __u64 gpa, size_t size)
{
	if (size && gpa + (size - 1) < gpa)
		return kvmi_fail(-EINVAL,
				 "%s: gpa 0x%llx + size 0x%zx is beyond 64 bits",
				 kvmi_message_name(id), (unsigned long long)gpa,
				 size);
	return 0;
}

/* How much of a range lies in its first page, which is all a message takes. */
static size_t in_first_page(__u64 gpa, size_t size)
{
	return MIN(size, KVMI_PAGE_SIZE - (gpa & ~KVMI_PAGE_MASK));
}

/**
 * kvmi_vm_read_physical - read guest memory
 * @dom: the domain
 * @gpa: guest physical address
 * @buf: where to
 * @size: how many bytes
 *
 * Return: 0 or a negated errno; -ENOENT if the guest has no memory there, and
 * kvmi_error() tells at which page.  What lies before that page has been read.
 */
int kvmi_vm_read_physical(struct kvmi_dom *dom, __u64 gpa, void *buf, size_t size)
{
	__u8 *to = buf;
	int err;

	err = check_range(KVMI_VM_READ_PHYSICAL, gpa, size);
	while (!err && size) {
		size_t n = in_first_page(gpa, size);
		struct kvmi_vm_read_physical req = { .gpa = gpa, .size = n };

		err = kvmi_command(dom, KVMI_VM_READ_PHYSICAL, &req, sizeof(req),
				   to, n, n);
		if (err)
			return kvmi_fail_prefix(err, "gpa 0x%llx, size 0x%zx: ",
						(unsigned long long)gpa, n);
		gpa += n;
		to += n;
		size -= n;
	}
	return err;
}

/**
 * kvmi_vm_write_physical - write guest memory
 * @dom: the domain
 * @gpa: guest physical address
 * @buf: where from
 * @size: how many bytes
 *
 * Return: 0 or a negated errno; -ENOENT if the guest has no memory there, and
 * kvmi_error() tells at which page.  What lies before that page has been
 * written.
 */
int kvmi_vm_write_physical(struct kvmi_dom *dom, __u64 gpa, const void *buf,
			   size_t size)
{
	const __u8 *from = buf;
	int err;

	err = check_range(KVMI_VM_WRITE_PHYSICAL, gpa, size);
	while (!err && size) {
		size_t n = in_first_page(gpa, size);
		struct kvmi_vm_write_physical req = { .gpa = gpa, .size = n };

		err = kvmi_command2(dom, KVMI_VM_WRITE_PHYSICAL, &req,
				    sizeof(req), from, n, NULL, 0, 0);
		if (err)
			return kvmi_fail_prefix(err, "gpa 0x%llx, size 0x%zx: ",
						(unsigned long long)gpa, n);
		gpa += n;
		from += n;
		size -= n;
	}
	return err;
}

/**
 * kvmi_vm_pause_vcpu - have a vCPU stop and report KVMI_VCPU_EVENT_PAUSE
 * @dom: the domain
 * @vcpu: the vCPU
 * @wait: return only when it has left guest mode
 *
 * Return: 0 or a negated errno; -EBUSY if too many are under way.
 */
int kvmi_vm_pause_vcpu(struct kvmi_dom *dom, __u16 vcpu, bool wait)
{
	struct kvmi_vm_pause_vcpu req = { .vcpu = vcpu, .wait = wait };
	int err;

	err = kvmi_command(dom, KVMI_VM_PAUSE_VCPU, &req, sizeof(req), NULL, 0,
			   0);
	if (err)
		kvmi_fail_prefix(err, "vCPU %u: ", vcpu);
	return err;
}

static int check_entries(const struct kvmi_page_access_entry *entries,
			 size_t count)
{
	unsigned int j;
	size_t i;

	for (i = 0; i < count; i++) {
		if (entries[i].access & ~PAGE_ACCESS_RWX)
			return kvmi_fail(-EINVAL,
					 "%s: entries[%zu].access 0x%x has unknown bits",
					 kvmi_message_name(KVMI_VM_SET_PAGE_ACCESS),
					 i, entries[i].access);
		for (j = 0; j < sizeof(entries[i].padding); j++)
			if (entries[i].padding[j])
				return kvmi_fail(-EINVAL,
						 "%s: entries[%zu].padding is not zero",
						 kvmi_message_name(KVMI_VM_SET_PAGE_ACCESS),
						 i);
	}
	return 0;
}

/* One message; called with dom->access_lock held. */
static int send_entries(struct kvmi_dom *dom,
			const struct kvmi_page_access_entry *entries, size_t n)
{
	struct kvmi_vm_set_page_access req = { .count = n };
	struct kvmi_page_access_entry changed[MAX_ACCESS_ENTRIES];
	size_t i;

	for (i = 0; i < n && entries[i].gpa != dom->no_exec; i++)
		;
	if (i < n) {
		memcpy(changed, entries, n * sizeof(*entries));
		for (; i < n; i++)
			if (changed[i].gpa == dom->no_exec)
				changed[i].access &= ~KVMI_PAGE_ACCESS_X;
		entries = changed;
	}
	return kvmi_command2(dom, KVMI_VM_SET_PAGE_ACCESS, &req, sizeof(req),
			     entries, n * sizeof(*entries), NULL, 0, 0);
}

/* Forbid that a page is executed, until kvmi_end_no_exec() and the next setting. */
int kvmi_start_no_exec(struct kvmi_dom *dom, __u64 gpa)
{
	const struct kvmi_page_access_entry entry = {
		.gpa = gpa,
		.access = KVMI_PAGE_ACCESS_R | KVMI_PAGE_ACCESS_W,
	};
	int err;

	pthread_mutex_lock(&dom->access_lock);
	dom->no_exec = gpa;
	err = send_entries(dom, &entry, 1);
	if (err)
		dom->no_exec = KVMI_NO_PAGE;
	pthread_mutex_unlock(&dom->access_lock);
	return err;
}

void kvmi_end_no_exec(struct kvmi_dom *dom)
{
	pthread_mutex_lock(&dom->access_lock);
	dom->no_exec = KVMI_NO_PAGE;
	pthread_mutex_unlock(&dom->access_lock);
}

/**
 * kvmi_vm_set_page_access - say what the guest may do with pages
 * @dom: the domain
 * @entries: the pages and the KVMI_PAGE_ACCESS_* bits that remain allowed
 * @count: how many
 * @done: if not NULL, how many entries took effect
 *
 * A message holds 511 entries, so more take several; each message takes effect
 * as a whole or not at all.
 *
 * Return: 0 or a negated errno; -EINVAL also if a page is not guest memory.
 */
int kvmi_vm_set_page_access(struct kvmi_dom *dom,
			    const struct kvmi_page_access_entry *entries,
			    size_t count, size_t *done)
{
	size_t first = 0;
	int err;

	if (done)
		*done = 0;
	err = check_entries(entries, count);
	while (!err && first < count) {
		size_t n = MIN(count - first, MAX_ACCESS_ENTRIES);

		pthread_mutex_lock(&dom->access_lock);
		err = send_entries(dom, entries + first, n);
		pthread_mutex_unlock(&dom->access_lock);
		if (err)
			return kvmi_fail_prefix(err,
						"entries[%zu..%zu], gpa 0x%llx..0x%llx: ",
						first, first + n - 1,
						(unsigned long long)entries[first].gpa,
						(unsigned long long)entries[first + n - 1].gpa);
		first += n;
		if (done)
			*done = first;
	}
	return err;
}
