// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM introspection on VMX: what the hardware intercepts for the tool, and
 * the end of a step
 *
 * In vmcs01, which belongs to L1.  A change that is made while L2 runs takes
 * effect with the next nested exit.
 */

#include "kvmi.h"
#include "vmx.h"
#include "nested.h"
#include "x86_ops.h"

/* Of the pending debug exceptions: one of the breakpoints is enabled. */
#define PENDING_DBG_ENABLED_BP	BIT(12)

/*
 * Without unrestricted guest, KVM intercepts all of CR3 while the guest does
 * not use paging: vmx_set_cr0() sees to that.
 */
static void vmx_kvmi_update_cr3(struct kvm_vcpu *vcpu)
{
	struct vcpu_vmx *vmx = to_vmx(vcpu);

	if (!enable_ept || (!enable_unrestricted_guest && !is_paging(vcpu)))
		return;

	if (kvmi_intercepts_cr(vcpu, 3)) {
		/* From here on, vcpu->arch.cr3 is taken for up to date. */
		kvm_read_cr3(vcpu);
		exec_controls_setbit(vmx, CPU_BASED_CR3_LOAD_EXITING);
	} else {
		exec_controls_clearbit(vmx, CPU_BASED_CR3_LOAD_EXITING);
	}
}

/*
 * What the guest owns, it changes without an exit.  CR0.TS stays its own:
 * KVM does not expect CLTS.
 */
static void vmx_kvmi_update_cr0(struct kvm_vcpu *vcpu)
{
	unsigned long cr0 = kvm_read_cr0(vcpu);
	unsigned long owned = vmx_l1_guest_owned_cr0_bits();

	if (kvmi_intercepts_cr(vcpu, 0))
		owned &= X86_CR0_TS;

	if (vmcs_readl(CR0_GUEST_HOST_MASK) == ~owned &&
	    vcpu->arch.cr0_guest_owned_bits == owned)
		return;

	vcpu->arch.cr0_guest_owned_bits = owned;
	vmcs_writel(CR0_GUEST_HOST_MASK, ~owned);
	/* The guest reads what it does not own from the read shadow. */
	vmx_set_cr0(vcpu, cr0);
}

static void vmx_kvmi_update_cr4(struct kvm_vcpu *vcpu)
{
	unsigned long owned = vcpu->arch.cr4_guest_owned_bits;
	unsigned long cr4 = kvm_read_cr4(vcpu);

	set_cr4_guest_host_mask(to_vmx(vcpu));
	if (vcpu->arch.cr4_guest_owned_bits != owned)
		vmx_set_cr4(vcpu, cr4);
}

static void vmx_kvmi_update_desc(struct kvm_vcpu *vcpu)
{
	struct vcpu_vmx *vmx = to_vmx(vcpu);

	if (!(vmcs_config.cpu_based_2nd_exec_ctrl & SECONDARY_EXEC_DESC))
		return;

	if (kvmi_intercepts_desc(vcpu) ||
	    (vmx_umip_emulated() && kvm_is_cr4_bit_set(vcpu, X86_CR4_UMIP)))
		secondary_exec_controls_setbit(vmx, SECONDARY_EXEC_DESC);
	else
		secondary_exec_controls_clearbit(vmx, SECONDARY_EXEC_DESC);
}

/**
 * vmx_kvmi_monitor_trap - a step is over
 * @vcpu: the vCPU
 *
 * The traps of the guest, or of a VMM that steps it, wait in the VMCS.  They would
 * be lost if an interrupt or exception was injected now (SDM vol. 3, "Delivery of
 * Pending Debug Exceptions after VM Entry").  So go on as if the trap had caused
 * the exit.  In an interrupt shadow nothing is injected, and there it may have to
 * wait for the next instruction.
 *
 * Return: 1 to go on with the guest, 0 to exit to user space.
 */
int vmx_kvmi_monitor_trap(struct kvm_vcpu *vcpu)
{
	const unsigned long debugged = KVM_GUESTDBG_SINGLESTEP |
				       KVM_GUESTDBG_USE_HW_BP;
	unsigned long traps = vmcs_readl(GUEST_PENDING_DBG_EXCEPTIONS);
	struct kvm_run *run = vcpu->run;

	if (!(traps & (DR6_BS | PENDING_DBG_ENABLED_BP)) ||
	    vmx_get_interrupt_shadow(vcpu))
		return 1;

	vmcs_writel(GUEST_PENDING_DBG_EXCEPTIONS, 0);
	traps &= ~PENDING_DBG_ENABLED_BP;
	if (!(vcpu->guest_debug & debugged)) {
		kvm_queue_exception_p(vcpu, DB_VECTOR, traps);
		return 1;
	}

	run->exit_reason = KVM_EXIT_DEBUG;
	run->debug.arch.exception = DB_VECTOR;
	run->debug.arch.pc = kvm_get_linear_rip(vcpu);
	run->debug.arch.dr6 = traps | DR6_ACTIVE_LOW;
	run->debug.arch.dr7 = vmcs_readl(GUEST_DR7);

	return 0;
}

/**
 * vmx_kvmi_update_intercepts - intercept what the tool wants, besides #BP
 * @vcpu: the vCPU, one that has or had something intercepted
 */
void vmx_kvmi_update_intercepts(struct kvm_vcpu *vcpu)
{
	/* nested_vmx_vmexit() comes here again, with the state of L1. */
	if (is_guest_mode(vcpu)) {
		to_vmx(vcpu)->nested.update_vmcs01_kvmi = true;
		return;
	}

	vmx_kvmi_update_cr3(vcpu);
	vmx_kvmi_update_cr0(vcpu);
	vmx_kvmi_update_cr4(vcpu);
	vmx_kvmi_update_desc(vcpu);
}

/**
 * vmx_kvmi_left_l2 - do for L1 what was put off while L2 ran
 * @vcpu: the vCPU, back in L1
 *
 * Even if there is nothing to intercept any more: it may have been to lift it all.
 */
void vmx_kvmi_left_l2(struct kvm_vcpu *vcpu)
{
	bool *put_off = &to_vmx(vcpu)->nested.update_vmcs01_kvmi;

	if (*put_off || kvmi_intercepts(vcpu))
		__kvmi_refresh_intercepts(vcpu);
	*put_off = false;
}
