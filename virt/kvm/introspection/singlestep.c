// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM introspection: telling the tool of each instruction that a vCPU executes
 *
 * The architecture steps the vCPU and knows when a step is over.  From the
 * command to the reply that the tool gives to the last event, the vCPU is
 * stepped as long as KVMI_VCPU_EVENT_SINGLESTEP is set in vcpui->events.  The
 * tool cannot set it otherwise; the VMM clears it by disallowing the event.
 */

#include <uapi/linux/kvm_para.h>
#include "kvmi_int.h"

/**
 * kvmi_is_singlestepping - is the vCPU to be stepped?
 * @vcpui: the vCPU
 */
bool kvmi_is_singlestepping(struct kvm_vcpu_introspection *vcpui)
{
	return !kvmi_is_dead(vcpui->kvmi) &&
	       test_bit(KVMI_VCPU_EVENT_SINGLESTEP, vcpui->events);
}

/**
 * kvmi_cmd_vcpu_control_singlestep - carry out KVMI_VCPU_CONTROL_SINGLESTEP
 * @req: the request
 *
 * Return: as kvmi_reply().
 */
int kvmi_cmd_vcpu_control_singlestep(const struct kvmi_request *req)
{
	const struct kvmi_vcpu_control_singlestep *cmd = req->fixed;
	int err = 0;

	if (!kvmi_is_event_allowed(req->kvmi, KVMI_VCPU_EVENT_SINGLESTEP))
		err = -KVM_EPERM;
	else if (cmd->enable > 1 ||
		 memchr_inv(cmd->padding, 0, sizeof(cmd->padding)))
		err = -KVM_EINVAL;
	else if (!kvmi_arch_step_is_supported())
		err = -KVM_EOPNOTSUPP;
	else
		kvmi_enable_event(req->kvmi, req->vcpu->kvmi->events,
				  KVMI_VCPU_EVENT_SINGLESTEP, cmd->enable);

	return kvmi_reply(req, err, NULL, 0);
}

/**
 * kvmi_singlestep_resolve - report a step that is over
 * @vcpu: the vCPU, on its thread, in a kvm->srcu section, left meanwhile
 * @vcpui: its introspection
 *
 * Return: 1 to go on with the guest, 0 to exit to user space, or -EINTR.
 */
int kvmi_singlestep_resolve(struct kvm_vcpu *vcpu,
			    struct kvm_vcpu_introspection *vcpui)
{
	bool sent = kvmi_is_event_under_way(vcpui, KVMI_VCPU_EVENT_SINGLESTEP);
	struct kvmi_vcpu_event_singlestep ev = { };
	bool failed = false;
	int action;

	if (!sent && (!kvmi_is_singlestepping(vcpui) ||
		      !kvmi_arch_step_is_over(vcpu, &failed)))
		return 1;

	ev.failed = failed;
	action = kvmi_vcpu_event(vcpu, KVMI_VCPU_EVENT_SINGLESTEP,
				 BIT(KVMI_EVENT_ACTION_CONTINUE) |
				 BIT(KVMI_EVENT_ACTION_CRASH),
				 &ev, sizeof(ev));
	if (action < 0)
		return action;

	kvmi_arch_step_next(vcpu);

	return action == KVMI_EVENT_ACTION_CRASH ? kvmi_vcpu_crash(vcpu) : 1;
}
