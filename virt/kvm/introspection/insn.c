// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM introspection: an instruction waits for what the tool says about it
 *
 * The architecture intercepts the instruction, in the handler of an exit or in
 * KVM's instruction emulator, and gives it up before it had any effect:
 * kvmi_insn_raise() notes what there is to tell, and how to complete the
 * instruction.  The rest is done from vcpu_run(), with no lock held
 * (kvmi_insn_resolve()): the event, and then, on CONTINUE, the completion.  On
 * RETRY, or if the tool does not want the event any more, the guest is just
 * entered again and makes another attempt.
 *
 * The completion may start the instruction again, with the emulator or the
 * function that had intercepted it.  Until it comes to an end kvmi_insn_answer()
 * tells that it has been reported already, and what the tool replied.
 *
 * vcpui->insn belongs to the vCPU's thread, no lock needed.
 */

#include "kvmi_int.h"

/**
 * kvmi_insn_raise - an instruction was given up, to ask the tool about it
 * @vcpu: the vCPU, on its thread, in a kvm->srcu section
 * @event: what to tell, and how to complete the instruction
 *
 * The caller enters the guest again, or so it thinks.
 */
void kvmi_insn_raise(struct kvm_vcpu *vcpu, const struct kvmi_insn_event *event)
{
	struct kvm_vcpu_introspection *vcpui = kvmi_vcpu(vcpu);
	struct kvmi_insn *insn;

	/* Unhooked meanwhile: nothing is intercepted any more. */
	if (!vcpui)
		return;

	insn = &vcpui->insn;
	insn->event = *event;
	kvmi_arch_get_insn(vcpu, &insn->at);
	insn->answered = false;
	insn->pending = true;

	kvm_make_request(KVM_REQ_INTROSPECTION, vcpu);
}

/**
 * kvmi_insn_is_pending - was the current instruction given up?
 * @vcpu: the vCPU, on its thread, in a kvm->srcu section
 */
bool kvmi_insn_is_pending(struct kvm_vcpu *vcpu)
{
	struct kvm_vcpu_introspection *vcpui = kvmi_vcpu(vcpu);

	return vcpui && vcpui->insn.pending;
}

/**
 * kvmi_insn_answer - has the tool answered about the current instruction?
 * @vcpu: the vCPU, on its thread, in a kvm->srcu section
 * @id: the event that there would be
 * @key: the first eight bytes of what is particular to it
 * @value: set to what the instruction is to write, if it has
 */
bool kvmi_insn_answer(struct kvm_vcpu *vcpu, u16 id, u64 key, u64 *value)
{
	struct kvm_vcpu_introspection *vcpui = kvmi_vcpu(vcpu);
	struct kvmi_insn *insn;

	if (!vcpui)
		return false;

	insn = &vcpui->insn;
	if (!insn->answered || insn->event.id != id ||
	    insn->event.data[0] != key || !kvmi_is_at_insn(vcpu, &insn->at))
		return false;

	*value = insn->event.value;
	return true;
}

static int kvmi_insn_complete(struct kvm_vcpu *vcpu,
			      struct kvm_vcpu_introspection *vcpui)
{
	struct kvmi_insn *insn = &vcpui->insn;
	int r;

	/*
	 * The tool or the VMM may have moved the vCPU elsewhere while the
	 * event waited.  What the VMM wants to be delivered comes first, the
	 * instruction is begun again afterwards.
	 */
	if (!kvmi_is_at_insn(vcpu, &insn->at) ||
	    kvmi_arch_vcpu_is_delivering(vcpu))
		return 1;

	insn->answered = true;
	r = insn->event.complete(vcpu);

	/* It is not at its end when it was given up for another reason. */
	if (r > 0 && !vcpui->pf.pending && !insn->pending)
		insn->answered = false;

	return r;
}

/**
 * kvmi_insn_resolve - ask the tool about an instruction, and complete it
 * @vcpu: the vCPU, on its thread, in a kvm->srcu section, left meanwhile
 * @vcpui: its introspection
 *
 * Return: 1 to go on with the guest, 0 to exit to user space, or a negative
 * errno, -EINTR among them.
 */
int kvmi_insn_resolve(struct kvm_vcpu *vcpu,
		      struct kvm_vcpu_introspection *vcpui)
{
	struct kvmi_insn *insn = &vcpui->insn;
	const struct kvmi_insn_event *event = &insn->event;
	int action;

	if (!insn->pending) {
		if (!vcpui->pf.pending)
			insn->answered = false;
		return 1;
	}

	if (!kvmi_is_event_under_way(vcpui, event->id) &&
	    (!kvmi_is_event_enabled(vcpu, event->id) ||
	     !kvmi_is_at_insn(vcpu, &insn->at))) {
		insn->pending = false;
		return 1;
	}

	action = kvmi_vcpu_event_value(vcpu, event->id, event->actions,
				       event->data, event->size,
				       event->reply_size, &insn->event.value);
	if (action < 0)
		return action;

	insn->pending = false;

	if (action == KVMI_EVENT_ACTION_CRASH)
		return kvmi_vcpu_crash(vcpu);
	if (action == KVMI_EVENT_ACTION_RETRY)
		return 1;

	return kvmi_insn_complete(vcpu, vcpui);
}
