// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM introspection: the vCPU commands that are the same everywhere
 *
 * They run on the vCPU's thread; see vcpu.c.
 */

#include <uapi/linux/kvm_para.h>
#include "kvmi_int.h"

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
		kvmi_enable_event(req->kvmi, vcpui->events, cmd->event_id,
				  cmd->enable);

	return kvmi_reply(req, err, NULL, 0);
}
