// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM introspection on SVM: what the hardware intercepts for the tool
 *
 * In vmcb01, which belongs to L1; from there recalc_intercepts() carries what
 * concerns L2, too, into vmcb02.
 */

#include "kvmi.h"
#include "svm.h"

static void svm_kvmi_assign(struct vcpu_svm *svm, int bit, bool enable)
{
	if (enable)
		svm_set_intercept(svm, bit);
	else
		svm_clr_intercept(svm, bit);
}

/**
 * svm_kvmi_update_intercepts - intercept what the tool wants, besides #BP
 * @vcpu: the vCPU, one that has or had something intercepted
 *
 * CR0 needs nothing: the selective intercept finds all but TS and MP.  CR4 and
 * most MSRs are intercepted anyway.
 */
void svm_kvmi_update_intercepts(struct kvm_vcpu *vcpu)
{
	struct vcpu_svm *svm = to_svm(vcpu);
	int bit;

	/* With shadow paging KVM needs all of CR3. */
	if (npt_enabled)
		svm_kvmi_assign(svm, INTERCEPT_CR3_WRITE,
				kvmi_intercepts_cr(vcpu, 3));

	for (bit = INTERCEPT_STORE_IDTR; bit <= INTERCEPT_LOAD_TR; bit++)
		svm_kvmi_assign(svm, bit, kvmi_intercepts_desc(vcpu));
}

/**
 * svm_kvmi_clear_l2_intercepts - do not intercept in L2 what the tool wants
 * @svm: the vCPU, in L2
 * @control: what is intercepted for KVM and the tool
 *
 * No event is for L2, and with nested paging KVM does not know CR3 there.
 */
void svm_kvmi_clear_l2_intercepts(struct vcpu_svm *svm,
				  struct vmcb_control_area *control)
{
	int bit;

	if (npt_enabled)
		vmcb_clr_intercept(control, INTERCEPT_CR3_WRITE);

	for (bit = INTERCEPT_STORE_IDTR; bit <= INTERCEPT_LOAD_TR; bit++)
		vmcb_clr_intercept(control, bit);

	if (!(svm->vcpu.guest_debug & KVM_GUESTDBG_USE_SW_BP))
		vmcb_clr_intercept(control,
				   INTERCEPT_EXCEPTION_OFFSET + BP_VECTOR);
}
