// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM introspection: exceptions that the tool injects
 *
 * KVMI_VCPU_INJECT_EXCEPTION leaves the exception here.  Each time the vCPU is
 * about to enter the guest it is queued for delivery, unless the guest is owed
 * another one; what is going to be delivered is noted, and the guest entered
 * for just that.  Once the guest has been entered, the event TRAP says what
 * was delivered, before any other event.  If KVM_RUN comes back before that,
 * the VMM can see and change what is queued, so it is looked at anew.
 *
 * vcpui->inject belongs to the vCPU's thread, no lock needed.
 */

#include <uapi/linux/kvm_para.h>
#include "kvmi_int.h"

static bool kvmi_is_injecting(struct kvm_vcpu_introspection *vcpui)
{
	/* With TRAP sent, the next exception may come. */
	return vcpui->inject.state == KVMI_INJECT_QUEUED ||
	       (vcpui->inject.state == KVMI_INJECT_DELIVERED &&
		!kvmi_is_event_under_way(vcpui, KVMI_VCPU_EVENT_TRAP));
}

/**
 * kvmi_cmd_vcpu_inject_exception - carry out KVMI_VCPU_INJECT_EXCEPTION
 * @req: the request
 *
 * Return: as kvmi_reply().
 */
int kvmi_cmd_vcpu_inject_exception(const struct kvmi_request *req)
{
	struct kvm_vcpu_introspection *vcpui = req->vcpu->kvmi;
	const struct kvmi_vcpu_inject_exception *cmd = req->fixed;
	int err = 0;
	int r;

	if (!kvmi_is_event_allowed(req->kvmi, KVMI_VCPU_EVENT_TRAP))
		err = -KVM_EPERM;
	else if (!kvmi_arch_is_valid_exception(req->vcpu, cmd))
		err = -KVM_EINVAL;
	else if (kvmi_is_injecting(vcpui) || kvmi_is_singlestepping(vcpui))
		err = -KVM_EBUSY;
	else if (kvmi_arch_vcpu_is_away(req->vcpu))
		err = -KVM_EAGAIN;

	/* If the reply is interrupted, the command is going to be served anew. */
	r = kvmi_reply(req, err, NULL, 0);
	if (!err && !r) {
		vcpui->inject.exception = *cmd;
		vcpui->inject.entering = false;
		vcpui->inject.state = KVMI_INJECT_QUEUED;
	}

	return r;
}

/**
 * kvmi_inject_enter - see to what the guest is going to get
 * @vcpu: the vCPU, on its thread, about to enter the guest
 * @vcpui: its introspection
 */
void kvmi_inject_enter(struct kvm_vcpu *vcpu,
		       struct kvm_vcpu_introspection *vcpui)
{
	struct kvmi_inject *inject = &vcpui->inject;
	struct kvmi_arch_insn insn;

	if (inject->state != KVMI_INJECT_QUEUED)
		return;

	if (inject->unfinished && kvmi_arch_is_redelivering_exception(vcpu))
		return;
	inject->unfinished = false;

	kvmi_arch_get_insn(vcpu, &insn);
	inject->stamp = insn.stamp;
	inject->entering = kvmi_arch_inject_exception(vcpu, &inject->exception,
						      &inject->trap);
}

/**
 * kvmi_inject_left - has the guest got it?
 * @vcpu: the vCPU, on its thread, not about to enter the guest
 * @vcpui: its introspection
 */
void kvmi_inject_left(struct kvm_vcpu *vcpu,
		      struct kvm_vcpu_introspection *vcpui)
{
	struct kvmi_inject *inject = &vcpui->inject;
	struct kvmi_arch_insn insn;

	if (inject->state != KVMI_INJECT_QUEUED || !inject->entering)
		return;

	inject->entering = false;
	kvmi_arch_get_insn(vcpu, &insn);
	if (inject->stamp == insn.stamp)
		return;

	inject->state = KVMI_INJECT_DELIVERED;
	inject->unfinished = kvmi_arch_is_redelivering_exception(vcpu);
	kvm_make_request(KVM_REQ_INTROSPECTION, vcpu);
}

/**
 * kvmi_inject_has_work - does an exception of the tool's wait for delivery?
 * @vcpui: the vCPU, on its thread
 */
bool kvmi_inject_has_work(struct kvm_vcpu_introspection *vcpui)
{
	return !kvmi_is_dead(vcpui->kvmi) &&
	       vcpui->inject.state == KVMI_INJECT_QUEUED;
}

/**
 * kvmi_inject_is_entering - is the guest entered for an exception, no more?
 * @vcpu: the vCPU, on its thread, in a kvm->srcu section
 *
 * Or for something else that has to be delivered before.
 */
bool kvmi_inject_is_entering(struct kvm_vcpu *vcpu)
{
	struct kvm_vcpu_introspection *vcpui = kvmi_vcpu(vcpu);

	return vcpui && vcpui->inject.state == KVMI_INJECT_QUEUED &&
	       (vcpui->inject.entering || kvmi_arch_vcpu_is_delivering(vcpu));
}

/**
 * kvmi_trap_resolve - report the exception that the guest has got
 * @vcpu: the vCPU, on its thread, in a kvm->srcu section, left meanwhile
 * @vcpui: its introspection
 *
 * Return: 1 to go on with the guest, 0 to exit to user space, or -EINTR.
 */
int kvmi_trap_resolve(struct kvm_vcpu *vcpu,
		      struct kvm_vcpu_introspection *vcpui)
{
	bool sent = kvmi_is_event_under_way(vcpui, KVMI_VCPU_EVENT_TRAP);
	struct kvmi_inject *inject = &vcpui->inject;
	int action = KVMI_EVENT_ACTION_CONTINUE;

	if (!sent && inject->state != KVMI_INJECT_DELIVERED)
		return 1;

	/* The VMM may have changed its mind since the command. */
	if (sent || kvmi_is_event_allowed(vcpui->kvmi, KVMI_VCPU_EVENT_TRAP))
		action = kvmi_vcpu_event(vcpu, KVMI_VCPU_EVENT_TRAP,
					 BIT(KVMI_EVENT_ACTION_CONTINUE) |
					 BIT(KVMI_EVENT_ACTION_CRASH),
					 &inject->trap, sizeof(inject->trap));
	if (action < 0)
		return action;

	/* The tool may have come up with another one meanwhile. */
	if (inject->state == KVMI_INJECT_DELIVERED)
		inject->state = KVMI_INJECT_NONE;

	return action == KVMI_EVENT_ACTION_CRASH ? kvmi_vcpu_crash(vcpu) : 1;
}
