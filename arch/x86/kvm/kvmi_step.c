// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM introspection on x86: having a vCPU execute one instruction
 *
 * A step is over (kvmi_arch_step_is_over()) when the instruction has been
 * executed, by the CPU or by KVM, or has raised an exception and that has been
 * delivered: RIP is at the first instruction of its handler then.  To deliver
 * an interrupt that was on its way is a step as well.  Exits that neither
 * execute nor deliver anything do not count; the step goes on.  If the vCPU is
 * moved elsewhere, by the VMM, an INIT or a task switch, the step has failed.
 *
 * Three places tell:
 *
 *   kvmi_step_enter(), _leave()	called by the vendor's code around each
 *					stay in the guest.  What the CPU needs
 *					is set up and taken back between them,
 *					so the rest of KVM never sees it.
 *   kvmi_step_emulated()		KVM has executed an instruction,
 *   kvmi_step_halted()			and it was HLT.
 *   kvmi_arch_step_is_over()		looks whether RIP has moved otherwise.
 *
 * VMX has the monitor trap flag for it.  An exit caused by it follows an
 * instruction or the delivery of an event, comes before any other exit, and
 * leaves the guest's own traps pending in the VMCS, and that of a VMM which steps
 * as well: vmx_kvmi_monitor_trap() takes them from there.  SVM has nothing but TF, which
 * belongs to the guest: see svm/kvmi_step.c.
 *
 * Interrupts, NMIs and SMIs are held back while a vCPU is stepped, except for
 * a halted one, which has nothing else to do.  A step does not follow the vCPU
 * into L2 or SMM: it is over when the vCPU is back.
 *
 * vcpu->arch.kvmi_step belongs to whoever holds the vCPU's mutex, its thread
 * as a rule.
 */

#include <linux/kvmi_arch.h>
#include <linux/moduleparam.h>
#include "irq.h"
#include "kvm_cache_regs.h"
#include "kvmi.h"
#include "smm.h"
#include "x86.h"

/*
 * An emulator of SVM under this KVM may get the trap wrong that ends a step:
 * Bochs before 3.0 hands the guest's #DB to the host.
 */
static bool __read_mostly introspection_step = true;
module_param(introspection_step, bool, 0444);

/* Does the vCPU do something that is not stepped, although it is on? */
static bool kvmi_is_vcpu_elsewhere(struct kvm_vcpu *vcpu)
{
	return is_guest_mode(vcpu) || is_smm(vcpu);
}

static bool kvmi_can_step_now(struct kvm_vcpu *vcpu)
{
	return READ_ONCE(vcpu->arch.kvmi_step.on) &&
	       !kvmi_is_vcpu_elsewhere(vcpu);
}

/**
 * kvmi_arch_step_is_supported - can this CPU step, and is it to?
 */
bool kvmi_arch_step_is_supported(void)
{
	return kvm_caps.can_step && introspection_step;
}

/* A vCPU that is stepped must run into all hooks until it is not any more. */
static void kvmi_step_switch(struct kvm_vcpu *vcpu, bool on)
{
	if (on)
		static_branch_inc(&kvmi_hooked_key);
	WRITE_ONCE(vcpu->arch.kvmi_step.on, on);
	if (!on)
		static_branch_dec(&kvmi_hooked_key);
}

/*
 * Look again for what was held back, and whether the APIC is to be emulated: a
 * virtual one would not hold back anything.
 */
static void kvmi_look_at_events(struct kvm_vcpu *vcpu)
{
	kvm_make_request(KVM_REQ_APICV_UPDATE, vcpu);
	kvm_make_request(KVM_REQ_EVENT, vcpu);
}

/**
 * kvmi_arch_step_control - before the guest is entered: step, or do not
 * @vcpu: the vCPU, on its thread, in a kvm->srcu section
 * @on: which of them
 */
void kvmi_arch_step_control(struct kvm_vcpu *vcpu, bool on)
{
	struct kvmi_step *step = &vcpu->arch.kvmi_step;

	if (step->on == on)
		return;

	step->let_in = vcpu->arch.mp_state == KVM_MP_STATE_HALTED;

	kvmi_step_switch(vcpu, on);
	kvmi_arch_step_next(vcpu);
	kvmi_look_at_events(vcpu);
}

/**
 * kvmi_arch_native_begin - the CPU is to carry out the instruction at RIP
 * @vcpu: the vCPU, on its thread; the caller has it stepped
 *
 * However often the vCPU leaves the guest until then, it is one attempt.
 */
void kvmi_arch_native_begin(struct kvm_vcpu *vcpu)
{
	struct kvmi_step *step = &vcpu->arch.kvmi_step;

	step->stamp = step->exits;
	step->native = true;
}

/* Is there an event that the guest would get now, were it not stepped? */
static bool kvmi_is_event_due(struct kvm_vcpu *vcpu)
{
	if (kvmi_arch_vcpu_is_delivering(vcpu) || vcpu->arch.nmi_pending ||
	    kvm_test_request(KVM_REQ_NMI, vcpu))
		return true;

#ifdef CONFIG_KVM_SMM
	if (vcpu->arch.smi_pending || kvm_test_request(KVM_REQ_SMI, vcpu))
		return true;
#endif

	return kvm_cpu_has_injectable_intr(vcpu) &&
	       kvm_x86_call(interrupt_allowed)(vcpu, false) > 0;
}

/**
 * kvmi_arch_native_goes_on - it has done one element of a string: do the next
 * @vcpu: the vCPU, on its thread; a step is over
 *
 * Return: false if that was the last, or if an interrupt is to come first.
 */
bool kvmi_arch_native_goes_on(struct kvm_vcpu *vcpu)
{
	struct kvmi_step *step = &vcpu->arch.kvmi_step;

	if (!step->done || !kvm_is_linear_rip(vcpu, step->rip) ||
	    kvmi_is_event_due(vcpu) || !kvmi_insn_goes_on(vcpu))
		return false;

	kvmi_arch_step_next(vcpu);

	return true;
}

/**
 * kvmi_arch_native_end - it has, or will not
 * @vcpu: the vCPU, its mutex held
 */
void kvmi_arch_native_end(struct kvm_vcpu *vcpu)
{
	vcpu->arch.kvmi_step.native = false;
}

/**
 * kvmi_arch_step_stop - no vCPU is stepped any more
 * @kvm: the VM, not hooked any more
 *
 * A vCPU in KVM_RUN sees to it itself.
 */
void kvmi_arch_step_stop(struct kvm *kvm)
{
	struct kvm_vcpu *vcpu;
	unsigned long i;

	kvm_for_each_vcpu(i, vcpu, kvm) {
		if (!mutex_trylock(&vcpu->mutex))
			continue;
		kvmi_arch_native_end(vcpu);
		kvmi_arch_own_root_end(vcpu);
		if (vcpu->arch.kvmi_step.on) {
			kvmi_step_switch(vcpu, false);
			kvmi_look_at_events(vcpu);
		}
		mutex_unlock(&vcpu->mutex);
	}
}

/**
 * kvmi_arch_step_next - a step begins with the instruction at RIP
 * @vcpu: the vCPU, on its thread
 */
void kvmi_arch_step_next(struct kvm_vcpu *vcpu)
{
	struct kvmi_step *step = &vcpu->arch.kvmi_step;

	step->done = kvmi_is_vcpu_elsewhere(vcpu);
	step->rip = kvm_get_linear_rip(vcpu);
}

/**
 * kvmi_arch_step_is_over - is there something to say about a step?
 * @vcpu: the vCPU, on its thread
 * @failed: if so, was the instruction not executed?
 */
bool kvmi_arch_step_is_over(struct kvm_vcpu *vcpu, bool *failed)
{
	struct kvmi_step *step = &vcpu->arch.kvmi_step;

	if (!kvmi_can_step_now(vcpu))
		return false;

	*failed = !step->done;

	return step->done || (!kvm_is_linear_rip(vcpu, step->rip) &&
			      !kvmi_arch_vcpu_is_delivering(vcpu));
}

/**
 * kvmi_arch_step_has_left - has a step taken the vCPU to where nothing is stepped?
 * @vcpu: the vCPU, on its thread
 *
 * To L2, and it is over; there is just nobody to hear of it yet.
 */
bool kvmi_arch_step_has_left(struct kvm_vcpu *vcpu)
{
	return vcpu->arch.kvmi_step.done && kvmi_is_vcpu_elsewhere(vcpu);
}

/**
 * __kvmi_holds_events - must interrupts wait until the vCPU is not stepped?
 * @vcpu: the vCPU, from any thread
 */
bool __kvmi_holds_events(struct kvm_vcpu *vcpu)
{
	return kvmi_can_step_now(vcpu) && !vcpu->arch.kvmi_step.let_in;
}

/**
 * __kvmi_step_enter - is the guest entered for a step?
 * @vcpu: the vCPU, on its thread, interrupts off
 */
bool __kvmi_step_enter(struct kvm_vcpu *vcpu)
{
	struct kvmi_step *step = &vcpu->arch.kvmi_step;

	step->armed = !step->done && kvmi_can_step_now(vcpu);

	return step->armed;
}
EXPORT_SYMBOL_GPL(__kvmi_step_enter);

/**
 * kvmi_step_leave - the guest was entered for a step and left
 * @vcpu: the vCPU, on its thread, interrupts off
 * @done: Is that because of the step?
 */
void kvmi_step_leave(struct kvm_vcpu *vcpu, bool done)
{
	struct kvmi_step *step = &vcpu->arch.kvmi_step;

	step->armed = false;
	if (done)
		__kvmi_step_emulated(vcpu);
}
EXPORT_SYMBOL_GPL(kvmi_step_leave);

/**
 * __kvmi_step_emulated - an instruction was executed
 * @vcpu: the vCPU, on its thread
 */
void __kvmi_step_emulated(struct kvm_vcpu *vcpu)
{
	struct kvmi_step *step = &vcpu->arch.kvmi_step;

	if (step->done || !kvmi_can_step_now(vcpu))
		return;

	step->done = true;
	step->let_in = false;
	kvm_make_request(KVM_REQ_INTROSPECTION, vcpu);
	/* KVM emulates several in a row until there are events to look for. */
	kvm_make_request(KVM_REQ_EVENT, vcpu);
}
EXPORT_SYMBOL_GPL(__kvmi_step_emulated);
