// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM introspection: the vCPU commands that are the same everywhere
 *
 * They run on the vCPU's thread; see vcpu.c.
 */

#include <uapi/linux/kvm_para.h>
#include "kvmi_int.h"

static void kvmi_enable_event(struct kvm_introspection *kvmi,
			      struct kvm_vcpu_introspection *vcpui,
			      u16 id, bool enable)
{
	assign_bit(id, vcpui->events, enable);
	/*
	 * Order the setting before the check: the VMM disallows the event
	 * first and then disables it, see kvmi_allow_events().
	 */
	smp_mb__after_atomic();
	if (!kvmi_is_event_allowed(kvmi, id))
		clear_bit(id, vcpui->events);
}

int kvmi_cmd_vcpu_control_events(const struct kvmi_request *req)
{
	struct kvm_vcpu_introspection *vcpui = req->vcpu->kvmi;
	const struct kvmi_vcpu_control_events *cmd = req->fixed;
	int err = 0;

	if (cmd->padding1 || cmd->padding2 || cmd->enable > 1)
		err = -KVM_EINVAL;
	else if (!kvmi_is_vcpu_id(cmd->event_id) ||
		 !kvmi_is_known_event(cmd->event_id))
		err = -KVM_EINVAL;
	else if (!kvmi_is_event_allowed(req->kvmi, cmd->event_id))
		err = -KVM_EPERM;
	else
		kvmi_enable_event(req->kvmi, vcpui, cmd->event_id, cmd->enable);

	return kvmi_reply(req, err, NULL, 0);
}
