// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM introspection: the commands and the event that concern the whole VM,
 * except for those about memory (physmem.c, access.c)
 *
 * The commands run on the session's thread, under rx_lock.
 */

#include <uapi/linux/kvm_para.h>
#include <trace/events/kvmi.h>
#include "kvmi_int.h"

/* v12 lets 1002 of them wait: "more than 1001" was its test. */
#define KVMI_MAX_PAUSE_REQUESTS	1001

/**
 * kvmi_cmd_get_version - carry out KVMI_GET_VERSION
 * @req: the request
 *
 * Return: as kvmi_reply().
 */
int kvmi_cmd_get_version(const struct kvmi_request *req)
{
	struct kvmi_get_version_reply rpl = {
		.version = KVMI_VERSION,
		.max_msg_size = KVMI_MAX_MSG_SIZE,
	};

	kvmi_arch_get_features(&rpl.features);

	return kvmi_reply(req, 0, &rpl, sizeof(rpl));
}

/**
 * kvmi_cmd_vm_check_command - carry out KVMI_VM_CHECK_COMMAND
 * @req: the request
 *
 * Return: as kvmi_reply().
 */
int kvmi_cmd_vm_check_command(const struct kvmi_request *req)
{
	const struct kvmi_vm_check_command *cmd = req->fixed;
	int err = 0;

	if (cmd->padding1 || cmd->padding2)
		err = -KVM_EINVAL;
	else if (!kvmi_is_known_command(cmd->id))
		err = -KVM_ENOENT;
	else if (!kvmi_is_command_allowed(req->kvmi, cmd->id))
		err = -KVM_EPERM;

	return kvmi_reply(req, err, NULL, 0);
}

/**
 * kvmi_cmd_vm_check_event - carry out KVMI_VM_CHECK_EVENT
 * @req: the request
 *
 * Return: as kvmi_reply().
 */
int kvmi_cmd_vm_check_event(const struct kvmi_request *req)
{
	const struct kvmi_vm_check_event *cmd = req->fixed;
	int err = 0;

	if (cmd->padding1 || cmd->padding2)
		err = -KVM_EINVAL;
	else if (!kvmi_is_known_event(cmd->id))
		err = -KVM_ENOENT;
	else if (!kvmi_is_event_allowed(req->kvmi, cmd->id))
		err = -KVM_EPERM;

	return kvmi_reply(req, err, NULL, 0);
}

/**
 * kvmi_cmd_vm_get_info - carry out KVMI_VM_GET_INFO
 * @req: the request
 *
 * Return: as kvmi_reply().
 */
int kvmi_cmd_vm_get_info(const struct kvmi_request *req)
{
	struct kvmi_vm_get_info_reply rpl = {
		.vcpu_count = atomic_read(&req->kvmi->kvm->online_vcpus),
	};

	return kvmi_reply(req, 0, &rpl, sizeof(rpl));
}

/**
 * kvmi_cmd_vm_control_events - carry out KVMI_VM_CONTROL_EVENTS
 * @req: the request
 *
 * Return: as kvmi_reply().
 */
int kvmi_cmd_vm_control_events(const struct kvmi_request *req)
{
	const struct kvmi_vm_control_events *cmd = req->fixed;
	struct kvm_introspection *kvmi = req->kvmi;
	int err = 0;

	if (cmd->padding1 || cmd->padding2 || cmd->enable > 1)
		err = -KVM_EINVAL;
	else if (kvmi_is_vcpu_id(cmd->event_id) ||
		 !kvmi_is_known_event(cmd->event_id))
		err = -KVM_EINVAL;
	else if (!kvmi_is_event_allowed(kvmi, cmd->event_id))
		err = -KVM_EPERM;
	else
		kvmi_enable_event(kvmi, kvmi->vm_events, cmd->event_id,
				  cmd->enable);

	return kvmi_reply(req, err, NULL, 0);
}

/* Counts a request unless there are too many. */
static bool kvmi_add_pause_request(struct kvm_vcpu_introspection *vcpui)
{
	return atomic_add_unless(&vcpui->pause_requests, 1,
				 KVMI_MAX_PAUSE_REQUESTS + 1);
}

static int kvmi_pause_vcpu(struct kvm_introspection *kvmi, u16 index, bool wait)
{
	struct kvm *kvm = kvmi->kvm;
	DECLARE_BITMAP(mask, KVM_MAX_VCPUS) = { };
	struct kvm_vcpu *vcpu;

	if (index >= atomic_read(&kvm->online_vcpus))
		return -KVM_EINVAL;

	vcpu = kvm_get_vcpu(kvm, index);
	if (!kvmi_arch_vcpu_can_be_introspected(vcpu))
		return -KVM_EAGAIN;

	if (!kvmi_add_pause_request(vcpu->kvmi))
		return -KVM_EBUSY;

	kvmi_vcpu_kick(vcpu);

	/* The request is made already, what matters is to wait for the IPI. */
	if (wait) {
		__set_bit(index, mask);
		kvm_make_vcpus_request_mask(kvm, KVM_REQ_INTROSPECTION |
					    KVM_REQUEST_WAIT, mask);
	}

	return 0;
}

/**
 * kvmi_cmd_vm_pause_vcpu - carry out KVMI_VM_PAUSE_VCPU
 * @req: the request
 *
 * Return: as kvmi_reply().
 */
int kvmi_cmd_vm_pause_vcpu(const struct kvmi_request *req)
{
	const struct kvmi_vm_pause_vcpu *cmd = req->fixed;
	int err;

	if (cmd->padding1 || cmd->padding2 || cmd->wait > 1)
		err = -KVM_EINVAL;
	else if (!kvmi_is_event_allowed(req->kvmi, KVMI_VCPU_EVENT_PAUSE))
		err = -KVM_EPERM;
	else
		err = kvmi_pause_vcpu(req->kvmi, cmd->vcpu, cmd->wait);

	return kvmi_reply(req, err, NULL, 0);
}

/**
 * kvmi_cmd_vm_control_cleanup - carry out KVMI_VM_CONTROL_CLEANUP
 * @req: the request
 *
 * Return: as kvmi_reply().
 */
int kvmi_cmd_vm_control_cleanup(const struct kvmi_request *req)
{
	const struct kvmi_vm_control_cleanup *cmd = req->fixed;
	int err = 0;

	if (cmd->enable > 1 ||
	    memchr_inv(cmd->padding, 0, sizeof(cmd->padding)))
		err = -KVM_EINVAL;
	else
		WRITE_ONCE(req->kvmi->restore_on_unhook, cmd->enable);

	return kvmi_reply(req, err, NULL, 0);
}

/* ROM, and what KVM has for itself, do not count. */
static gfn_t kvmi_get_max_gfn(struct kvm *kvm)
{
	struct kvm_memory_slot *slot;
	gfn_t max = 0;
	int idx, bkt;

	idx = srcu_read_lock(&kvm->srcu);
	kvm_for_each_memslot(slot, bkt, kvm_memslots(kvm))
		if (slot->id < KVM_USER_MEM_SLOTS &&
		    !(slot->flags & (KVM_MEM_READONLY | KVM_MEMSLOT_INVALID)))
			max = max(max, slot->base_gfn + slot->npages);
	srcu_read_unlock(&kvm->srcu, idx);

	return max;
}

/**
 * kvmi_cmd_vm_get_max_gfn - carry out KVMI_VM_GET_MAX_GFN
 * @req: the request
 *
 * Return: as kvmi_reply().
 */
int kvmi_cmd_vm_get_max_gfn(const struct kvmi_request *req)
{
	struct kvmi_vm_get_max_gfn_reply rpl = {
		.gfn = kvmi_get_max_gfn(req->kvmi->kvm),
	};

	return kvmi_reply(req, 0, &rpl, sizeof(rpl));
}

/**
 * kvmi_vm_event_unhook - ask the tool to take its hooks out and to leave
 * @kvmi: the session
 *
 * A tool that does not read has it wait a moment, not longer.
 *
 * Return: 0, or -ENOENT if the tool does not want that event or cannot get it.
 */
int kvmi_vm_event_unhook(struct kvm_introspection *kvmi)
{
	struct kvmi_event_hdr ev = { .event = KVMI_VM_EVENT_UNHOOK };
	struct kvmi_msg_hdr hdr = {
		.id = KVMI_VM_EVENT,
		.size = sizeof(ev),
	};
	struct kvec vec[] = {
		{ .iov_base = &hdr, .iov_len = sizeof(hdr) },
		{ .iov_base = &ev, .iov_len = sizeof(ev) },
	};

	if (!test_bit(KVMI_VM_EVENT_UNHOOK, kvmi->vm_events))
		return -ENOENT;

	hdr.seq = kvmi_get_seq(kvmi);
	if (!kvmi_sock_try_send(kvmi, vec, ARRAY_SIZE(vec),
				sizeof(hdr) + sizeof(ev))) {
		kvmi_put_seq(kvmi, hdr.seq);
		return -ENOENT;
	}

	kvmi->kvm->stat.generic.kvmi.event_unhook++;
	trace_kvmi_event(-1, KVMI_VM_EVENT_UNHOOK, hdr.seq);
	return 0;
}
