// SPDX-License-Identifier: GPL-2.0
/* Commands that concern one vCPU; it carries them out itself. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

/* How many MSRs fit in the reply, which is what limits them. */
#define MAX_MSRS							\
	((KVMI_MAX_PAYLOAD - sizeof(struct kvmi_error_code) -		\
	  sizeof(struct kvmi_vcpu_get_registers_reply)) /		\
	 sizeof(struct kvm_msr_entry))

/**
 * kvmi_vcpu_control_events - enable or disable an event for one vCPU
 * @dom: the domain
 * @vcpu: the vCPU
 * @event_id: KVMI_VCPU_EVENT_*
 * @enable: which of the two
 *
 * Return: 0 or a negated errno; -EAGAIN if the guest has not started this vCPU.
 */
int kvmi_vcpu_control_events(struct kvmi_dom *dom, __u16 vcpu, __u16 event_id,
			     bool enable)
{
	struct {
		struct kvmi_vcpu_hdr hdr;
		struct kvmi_vcpu_control_events cmd;
	} req = {
		.hdr = { .vcpu = vcpu },
		.cmd = { .event_id = event_id, .enable = enable },
	};
	int err;

	err = kvmi_command(dom, KVMI_VCPU_CONTROL_EVENTS, &req, sizeof(req),
			   NULL, 0, 0);
	if (err)
		kvmi_fail_prefix(err, "vCPU %u, %s: ", vcpu,
				 kvmi_event_name(event_id));
	return err;
}

static int check_msrs(const struct kvmi_vcpu_get_registers_reply *reply,
		      const struct kvm_msr_entry *got,
		      const struct kvm_msr_entry *wanted, unsigned int nmsrs)
{
	unsigned int i;

	if (reply->msrs.nmsrs != nmsrs)
		return kvmi_fail(-EPROTO, "%s: msrs.nmsrs %u where %u were asked for",
				 kvmi_message_name(KVMI_VCPU_GET_REGISTERS),
				 reply->msrs.nmsrs, nmsrs);
	for (i = 0; i < nmsrs; i++)
		if (got[i].index != wanted[i].index)
			return kvmi_fail(-EPROTO,
					 "%s: msrs.entries[%u].index 0x%x where 0x%x was asked for",
					 kvmi_message_name(KVMI_VCPU_GET_REGISTERS),
					 i, got[i].index, wanted[i].index);
	return 0;
}

/**
 * kvmi_vcpu_get_registers - read registers of a vCPU
 * @dom: the domain
 * @vcpu: the vCPU
 * @registers: general and special registers
 * @msrs: which MSRs (.index), and where their values go (.data)
 * @nmsrs: how many
 *
 * Return: 0 or a negated errno; -EAGAIN if the guest has not started this vCPU.
 */
int kvmi_vcpu_get_registers(struct kvmi_dom *dom, __u16 vcpu,
			    struct kvmi_registers *registers,
			    struct kvm_msr_entry *msrs, unsigned int nmsrs)
{
	struct {
		struct kvmi_vcpu_hdr hdr;
		struct kvmi_vcpu_get_registers cmd;
		__u32 msrs_idx[MAX_MSRS];
	} req = {
		.hdr = { .vcpu = vcpu },
		.cmd = { .nmsrs = nmsrs },
	};
	struct {
		struct kvmi_vcpu_get_registers_reply head;
		struct kvm_msr_entry entries[MAX_MSRS];
	} reply;
	size_t reply_size = sizeof(reply.head) + nmsrs * sizeof(reply.entries[0]);
	unsigned int i;
	int err;

	if (nmsrs > MAX_MSRS)
		return kvmi_fail(-EINVAL, "%s: nmsrs %u is more than %zu",
				 kvmi_message_name(KVMI_VCPU_GET_REGISTERS),
				 nmsrs, MAX_MSRS);
	for (i = 0; i < nmsrs; i++)
		req.msrs_idx[i] = msrs[i].index;

	err = kvmi_command(dom, KVMI_VCPU_GET_REGISTERS, &req,
			   offsetof(typeof(req), msrs_idx[nmsrs]), &reply,
			   reply_size, reply_size);
	if (!err)
		err = check_msrs(&reply.head, reply.entries, msrs, nmsrs);
	if (err)
		return kvmi_fail_prefix(err, "vCPU %u: ", vcpu);

	registers->mode = reply.head.mode;
	registers->regs = reply.head.regs;
	registers->sregs = reply.head.sregs;
	for (i = 0; i < nmsrs; i++)
		msrs[i].data = reply.entries[i].data;
	return 0;
}
