// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM introspection: the vCPU commands that are the same everywhere
 *
 * They run on the vCPU's thread; see vcpu.c.
 */

#include <uapi/linux/kvm_para.h>
#include "kvmi_int.h"

/* There is but one, for one event, and not on all hosts. */
static bool
kvmi_are_event_flags_valid(const struct kvmi_vcpu_control_events *cmd)
{
	return !cmd->flags ||
	       (cmd->flags == KVMI_PF_WALK && cmd->enable &&
		cmd->event_id == KVMI_VCPU_EVENT_PF &&
		kvmi_arch_reports_walks());
}

/**
 * kvmi_cmd_vcpu_control_events - carry out KVMI_VCPU_CONTROL_EVENTS
 * @req: the request
 *
 * Return: as kvmi_reply().
 */
int kvmi_cmd_vcpu_control_events(const struct kvmi_request *req)
{
	struct kvm_vcpu_introspection *vcpui = req->vcpu->kvmi;
	const struct kvmi_vcpu_control_events *cmd = req->fixed;
	int err = 0;

	if (cmd->padding2 || cmd->enable > 1 ||
	    !kvmi_are_event_flags_valid(cmd))
		err = -KVM_EINVAL;
	else if (!kvmi_is_vcpu_id(cmd->event_id) ||
		 !kvmi_is_known_event(cmd->event_id))
		err = -KVM_EINVAL;
	else if (!kvmi_is_event_allowed(req->kvmi, cmd->event_id))
		err = -KVM_EPERM;
	else
		err = kvmi_arch_control_event(req->vcpu, cmd->event_id,
					      cmd->enable);
	if (!err && cmd->event_id != KVMI_VCPU_EVENT_SINGLESTEP)
		kvmi_enable_event(req->kvmi, vcpui->events, cmd->event_id,
				  cmd->enable);
	if (!err && cmd->event_id == KVMI_VCPU_EVENT_PF)
		vcpui->pf_walks = cmd->flags & KVMI_PF_WALK;

	return kvmi_reply(req, err, NULL, 0);
}

/**
 * kvmi_cmd_vcpu_set_registers - carry out KVMI_VCPU_SET_REGISTERS
 * @req: the request
 *
 * A vCPU goes on with the registers that it is given when its event ends.
 *
 * Return: as kvmi_reply().
 */
int kvmi_cmd_vcpu_set_registers(const struct kvmi_request *req)
{
	struct kvm_vcpu_introspection *vcpui = req->vcpu->kvmi;
	int err = 0;

	if (req->size < sizeof(vcpui->regs)) {
		err = -KVM_EINVAL;
	} else if (!kvmi_vcpu_awaits_reply(vcpui)) {
		err = -KVM_EOPNOTSUPP;
	} else if (kvmi_arch_vcpu_is_away(req->vcpu)) {
		err = -KVM_EAGAIN;
	} else {
		memcpy(&vcpui->regs, req->data, sizeof(vcpui->regs));
		vcpui->set_regs = true;
	}

	return kvmi_reply(req, err, NULL, 0);
}

/**
 * kvmi_cmd_vcpu_translate_gva - carry out KVMI_VCPU_TRANSLATE_GVA
 * @req: the request
 *
 * Return: as kvmi_reply().
 */
int kvmi_cmd_vcpu_translate_gva(const struct kvmi_request *req)
{
	const struct kvmi_vcpu_translate_gva *cmd = req->fixed;
	struct kvmi_vcpu_translate_gva_reply rpl = { };
	int err = 0;

	if (kvmi_arch_vcpu_is_away(req->vcpu))
		err = -KVM_EAGAIN;
	else
		rpl.gpa = kvmi_arch_translate_gva(req->vcpu, cmd->gva);

	return kvmi_reply(req, err, &rpl, sizeof(rpl));
}
