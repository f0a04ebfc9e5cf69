// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM introspection on x86: delivering an exception on behalf of the tool
 *
 * KVM takes it as its own, so VMX and SVM do the rest alike.  What one of them
 * would refuse when the guest is entered is refused on both, before.
 *
 * On the thread of the vCPU.
 */

#include <linux/kvmi_arch.h>
#include "kvm_cache_regs.h"
#include "smm.h"
#include "x86.h"

/* Of the reserved vectors, some are exceptions of one vendor only. */
#define KVMI_EXCEPTIONS							\
	(BIT(DE_VECTOR) | BIT(DB_VECTOR) | BIT(BP_VECTOR) |		\
	 BIT(OF_VECTOR) | BIT(BR_VECTOR) | BIT(UD_VECTOR) |		\
	 BIT(NM_VECTOR) | BIT(DF_VECTOR) | BIT(TS_VECTOR) |		\
	 BIT(NP_VECTOR) | BIT(SS_VECTOR) | BIT(GP_VECTOR) |		\
	 BIT(PF_VECTOR) | BIT(MF_VECTOR) | BIT(AC_VECTOR) |		\
	 BIT(MC_VECTOR) | BIT(XM_VECTOR))

/* No instruction raises them in 64-bit mode, so SVM does not deliver them. */
#define KVMI_EXCEPTIONS_NOT_64BIT	(BIT(OF_VECTOR) | BIT(BR_VECTOR))

/* VMX knows no more, nor is any defined. */
#define KVMI_ERROR_CODE_MASK	0xffff

/* INT3 and INTO: the return address of a trap is behind the instruction. */
#define KVMI_SOFT_EXCEPTION_LEN	1

/**
 * kvmi_arch_is_valid_exception - can the exception be delivered to the guest?
 * @vcpu: the vCPU
 * @exception: the exception as the tool wants it
 */
bool kvmi_arch_is_valid_exception(struct kvm_vcpu *vcpu,
				  const struct kvmi_vcpu_inject_exception *exception)
{
	unsigned long vectors = KVMI_EXCEPTIONS;

	if (exception->padding1 || exception->padding2)
		return false;

	if (is_64_bit_mode(vcpu))
		vectors &= ~KVMI_EXCEPTIONS_NOT_64BIT;
	if (exception->nr >= BITS_PER_LONG || !(vectors & BIT(exception->nr)))
		return false;

	return !x86_exception_has_error_code(exception->nr) ||
	       !(exception->error_code & ~KVMI_ERROR_CODE_MASK);
}

static void kvmi_queue_exception(struct kvm_vcpu *vcpu,
				 const struct kvmi_vcpu_inject_exception *exception)
{
	u8 nr = exception->nr;

	if (!x86_exception_has_error_code(nr)) {
		if (kvm_exception_is_soft(nr))
			vcpu->arch.event_exit_inst_len = KVMI_SOFT_EXCEPTION_LEN;
		kvm_queue_exception(vcpu, nr);
		return;
	}

	kvm_queue_exception_e(vcpu, nr, exception->error_code);
	if (nr == PF_VECTOR) {
		/* CR2 is written when the exception is delivered. */
		vcpu->arch.exception.has_payload = true;
		vcpu->arch.exception.payload = exception->address;
	}
}

/* L2 and SMM have states of their own, and a reset vCPU has none. */
static bool kvmi_can_inject(struct kvm_vcpu *vcpu)
{
	return !is_guest_mode(vcpu) && !is_smm(vcpu) &&
	       (vcpu->arch.mp_state == KVM_MP_STATE_RUNNABLE ||
		vcpu->arch.mp_state == KVM_MP_STATE_HALTED);
}

/* What the guest will see of an exception that is queued for it */
static void kvmi_fill_trap(struct kvm_vcpu *vcpu,
			   struct kvmi_vcpu_event_trap *trap)
{
	const struct kvm_queued_exception *ex = &vcpu->arch.exception;

	memset(trap, 0, sizeof(*trap));
	trap->nr = ex->vector;
	/* There are none in real mode. */
	if (ex->has_error_code && is_protmode(vcpu))
		trap->error_code = ex->error_code;
	if (ex->vector == PF_VECTOR)
		trap->address = ex->has_payload ? ex->payload : vcpu->arch.cr2;
}

/**
 * kvmi_arch_is_redelivering_exception - was a delivery broken off?
 * @vcpu: the vCPU
 */
bool kvmi_arch_is_redelivering_exception(struct kvm_vcpu *vcpu)
{
	return vcpu->arch.exception.injected;
}

/**
 * kvmi_arch_inject_exception - have the guest get an exception
 * @vcpu: the vCPU, about to enter the guest
 * @exception: the exception, valid
 * @trap: what the guest is going to get, this one or one that came first
 *
 * An interrupt whose delivery was broken off is finished before.
 *
 * Return: true if the guest gets an exception when it is entered.
 */
bool kvmi_arch_inject_exception(struct kvm_vcpu *vcpu,
				const struct kvmi_vcpu_inject_exception *exception,
				struct kvmi_vcpu_event_trap *trap)
{
	if (!kvmi_can_inject(vcpu))
		return false;

	if (!vcpu->arch.exception.pending && !vcpu->arch.exception.injected) {
		if (kvm_event_needs_reinjection(vcpu))
			return false;
		kvmi_queue_exception(vcpu, exception);
	}

	kvmi_fill_trap(vcpu, trap);

	return true;
}
