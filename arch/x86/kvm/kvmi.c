// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM introspection on x86: the state of a vCPU, as the tool gets it
 *
 * Everything here runs on the thread of the vCPU, with the vCPU loaded, except
 * for the functions that hook and unhook a VM.
 */

#include <linux/kvmi_arch.h>
#include <asm/fpu/api.h>
#include <asm/fpu/xcr.h>
#include <uapi/linux/kvm_para.h>
#include "cpuid.h"
#include "kvm_cache_regs.h"
#include "kvmi.h"
#include "mmu.h"
#include "smm.h"
#include "x86.h"

/**
 * kvmi_arch_hook - a VM is about to be hooked
 * @kvm: the VM
 *
 * Return: 0, or -EOPNOTSUPP if KVM cannot see into the VM.
 */
int kvmi_arch_hook(struct kvm *kvm)
{
	if (kvm_arch_has_private_mem(kvm) || kvm->arch.has_protected_state)
		return -EOPNOTSUPP;

	return 0;
}

/**
 * kvmi_arch_unhook - a session has ended, or came to nothing
 * @kvm: the VM; kvm->kvmi.lock is held
 */
void kvmi_arch_unhook(struct kvm *kvm)
{
	kvmi_arch_step_stop(kvm);
	kvmi_zap_own_roots(kvm);
}

/**
 * kvmi_arch_vcpu_can_be_introspected - has the vCPU been started?
 * @vcpu: the vCPU, from any thread
 *
 * One that waits for its INIT and SIPI does not serve anybody.
 */
bool kvmi_arch_vcpu_can_be_introspected(struct kvm_vcpu *vcpu)
{
	return READ_ONCE(vcpu->arch.mp_state) != KVM_MP_STATE_UNINITIALIZED;
}

/**
 * kvmi_arch_get_features - say what this host can do
 * @features: all zero, to be filled in
 */
void kvmi_arch_get_features(struct kvmi_features *features)
{
	features->max_gfn = 1;
	features->singlestep = kvmi_arch_step_is_supported();
	features->pf_walk = kvmi_arch_reports_walks();
}

static unsigned int kvmi_get_mode(const struct kvm_sregs *sregs)
{
	if ((sregs->efer & EFER_LMA) && sregs->cs.l)
		return 8;

	return sregs->cs.db ? 4 : 2;
}

/* Of those MSRs that every vCPU has. */
static u64 kvmi_get_msr(struct kvm_vcpu *vcpu, u32 index)
{
	struct msr_data msr = { .index = index, .host_initiated = true };

	kvm_x86_call(get_msr)(vcpu, &msr);

	return msr.data;
}

/**
 * kvmi_arch_fill_event - the x86 part of what is common to all vCPU events
 * @vcpu: the vCPU
 * @ev: where to, zeroed
 */
void kvmi_arch_fill_event(struct kvm_vcpu *vcpu,
			  struct kvmi_vcpu_event_arch *ev)
{
	kvm_get_regs(vcpu, &ev->regs);
	kvm_get_sregs(vcpu, &ev->sregs);
	ev->mode = kvmi_get_mode(&ev->sregs);

	ev->msrs.sysenter_cs = kvmi_get_msr(vcpu, MSR_IA32_SYSENTER_CS);
	ev->msrs.sysenter_esp = kvmi_get_msr(vcpu, MSR_IA32_SYSENTER_ESP);
	ev->msrs.sysenter_eip = kvmi_get_msr(vcpu, MSR_IA32_SYSENTER_EIP);
	ev->msrs.efer = vcpu->arch.efer;
	ev->msrs.star = kvmi_get_msr(vcpu, MSR_STAR);
	ev->msrs.lstar = kvmi_get_msr(vcpu, MSR_LSTAR);
	ev->msrs.cstar = kvmi_get_msr(vcpu, MSR_CSTAR);
	ev->msrs.pat = vcpu->arch.pat;
	ev->msrs.shadow_gs = kvmi_get_msr(vcpu, MSR_KERNEL_GS_BASE);
}

/* Returns 0 or a negated KVM_E* code. */
static int kvmi_get_registers(struct kvm_vcpu *vcpu, const u32 *indices,
			      struct kvmi_vcpu_get_registers_reply *rpl)
{
	u32 i;

	kvm_get_regs(vcpu, &rpl->regs);
	kvm_get_sregs(vcpu, &rpl->sregs);
	rpl->mode = kvmi_get_mode(&rpl->sregs);

	for (i = 0; i < rpl->msrs.nmsrs; i++) {
		struct kvm_msr_entry *entry = &rpl->msrs.entries[i];

		entry->index = indices[i];
		if (__kvm_get_msr(vcpu, entry->index, &entry->data, true))
			return -KVM_EINVAL;
	}

	return 0;
}

/**
 * kvmi_arch_cmd_vcpu_get_registers - carry out KVMI_VCPU_GET_REGISTERS
 * @req: the request
 *
 * Return: as kvmi_reply().
 */
int kvmi_arch_cmd_vcpu_get_registers(const struct kvmi_request *req)
{
	const struct kvmi_vcpu_get_registers *cmd = req->fixed;
	struct kvmi_vcpu_get_registers_reply *rpl;
	size_t size;
	int err;

	size = struct_size(rpl, msrs.entries, cmd->nmsrs);

	if (cmd->padding1 || cmd->padding2 ||
	    cmd->nmsrs * sizeof(cmd->msrs_idx[0]) > req->size ||
	    size + sizeof(struct kvmi_error_code) > KVMI_MAX_MSG_SIZE)
		return kvmi_reply(req, -KVM_EINVAL, NULL, 0);
	if (kvmi_arch_vcpu_is_away(req->vcpu))
		return kvmi_reply(req, -KVM_EAGAIN, NULL, 0);

	rpl = kzalloc(size, GFP_KERNEL_ACCOUNT);
	if (!rpl)
		return kvmi_reply(req, -KVM_ENOMEM, NULL, 0);

	rpl->msrs.nmsrs = cmd->nmsrs;
	err = kvmi_get_registers(req->vcpu, req->data, rpl);
	err = kvmi_reply(req, err, rpl, size);
	kfree(rpl);

	return err;
}

/**
 * kvmi_arch_vcpu_is_away - does the vCPU do something of no concern?
 * @vcpu: the vCPU
 *
 * In a guest of the guest's own, or in system management mode with its own
 * memory, most of the state is not that of the VM being introspected.
 */
bool kvmi_arch_vcpu_is_away(struct kvm_vcpu *vcpu)
{
	return is_guest_mode(vcpu) || is_smm(vcpu);
}

/**
 * kvmi_arch_set_regs - set the registers that KVM_SET_REGS sets
 * @vcpu: the vCPU
 * @regs: their values
 *
 * An exception that waits to be delivered is not the tool's to drop.
 */
void kvmi_arch_set_regs(struct kvm_vcpu *vcpu, struct kvm_regs *regs)
{
	bool pending = vcpu->arch.exception.pending;
	bool vmexit_pending = vcpu->arch.exception_vmexit.pending;

	/* In the shadow of STI, VMX wants TF and the trap that waits to agree. */
	if ((kvm_get_rflags(vcpu) ^ regs->rflags) & X86_EFLAGS_TF)
		kvm_x86_call(set_interrupt_shadow)(vcpu, 0);

	kvm_set_regs(vcpu, regs);
	vcpu->arch.exception.pending = pending;
	vcpu->arch.exception_vmexit.pending = vmexit_pending;

	/* What the emulator has read was for the old registers. */
	vcpu->arch.emulate_ctxt->given_up = false;
}

/**
 * kvmi_arch_translate_gva - translate as the guest's kernel would
 * @vcpu: the vCPU, not away
 * @gva: the linear address
 *
 * Return: the guest-physical address, INVALID_GPA if there is none.
 */
gpa_t kvmi_arch_translate_gva(struct kvm_vcpu *vcpu, gva_t gva)
{
	/* The page walk does not look at these bits. */
	if (is_long_mode(vcpu) ? is_noncanonical_address(gva, vcpu, 0) :
				 upper_32_bits(gva))
		return INVALID_GPA;

	return kvm_mmu_gva_to_gpa_system(vcpu, gva, NULL);
}

/**
 * kvmi_arch_cmd_vcpu_get_info - carry out KVMI_VCPU_GET_INFO
 * @req: the request
 *
 * Return: as kvmi_reply().
 */
int kvmi_arch_cmd_vcpu_get_info(const struct kvmi_request *req)
{
	struct kvmi_vcpu_get_info_reply rpl = { };

	if (kvm_caps.has_tsc_control)
		rpl.tsc_speed = 1000ull * req->vcpu->arch.virtual_tsc_khz;

	return kvmi_reply(req, 0, &rpl, sizeof(rpl));
}

/**
 * kvmi_arch_cmd_vcpu_get_cpuid - carry out KVMI_VCPU_GET_CPUID
 * @req: the request
 *
 * Return: as kvmi_reply().
 */
int kvmi_arch_cmd_vcpu_get_cpuid(const struct kvmi_request *req)
{
	const struct kvmi_vcpu_get_cpuid *cmd = req->fixed;
	struct kvmi_vcpu_get_cpuid_reply rpl = { };
	const struct kvm_cpuid_entry2 *entry;

	entry = kvm_find_cpuid_entry_index(req->vcpu, cmd->function,
					   cmd->index);
	if (!entry)
		return kvmi_reply(req, -KVM_ENOENT, NULL, 0);

	rpl.eax = entry->eax;
	rpl.ebx = entry->ebx;
	rpl.ecx = entry->ecx;
	rpl.edx = entry->edx;

	return kvmi_reply(req, 0, &rpl, sizeof(rpl));
}

/**
 * kvmi_arch_cmd_vcpu_get_xcr - carry out KVMI_VCPU_GET_XCR
 * @req: the request
 *
 * Return: as kvmi_reply().
 */
int kvmi_arch_cmd_vcpu_get_xcr(const struct kvmi_request *req)
{
	const struct kvmi_vcpu_get_xcr *cmd = req->fixed;
	struct kvmi_vcpu_get_xcr_reply rpl = {
		.value = req->vcpu->arch.xcr0,
	};
	int err = 0;

	if (cmd->xcr != XCR_XFEATURE_ENABLED_MASK ||
	    memchr_inv(cmd->padding, 0, sizeof(cmd->padding)))
		err = -KVM_EINVAL;

	return kvmi_reply(req, err, &rpl, sizeof(rpl));
}

/* As large as the vCPU's state; KVMI_VCPU_GET_XSAVE has room for the start. */
static size_t kvmi_xsave_size(struct kvm_vcpu *vcpu)
{
	return max_t(size_t, vcpu->arch.guest_fpu.uabi_size,
		     sizeof(struct kvm_xsave));
}

/* The state is in the registers of the CPU while the thread is in KVM_RUN. */
static int kvmi_get_xsave(struct kvm_vcpu *vcpu, void *buf, size_t size)
{
	int r;

	fpu_swap_kvm_fpstate(&vcpu->arch.guest_fpu, false);
	r = kvm_vcpu_ioctl_x86_get_xsave2(vcpu, buf, size);
	fpu_swap_kvm_fpstate(&vcpu->arch.guest_fpu, true);

	return r;
}

static int kvmi_set_xsave(struct kvm_vcpu *vcpu, struct kvm_xsave *xsave)
{
	int r;

	fpu_swap_kvm_fpstate(&vcpu->arch.guest_fpu, false);
	r = kvm_vcpu_ioctl_x86_set_xsave(vcpu, xsave);
	fpu_swap_kvm_fpstate(&vcpu->arch.guest_fpu, true);

	return r;
}

/**
 * kvmi_arch_cmd_vcpu_get_xsave - carry out KVMI_VCPU_GET_XSAVE
 * @req: the request
 *
 * Return: as kvmi_reply().
 */
int kvmi_arch_cmd_vcpu_get_xsave(const struct kvmi_request *req)
{
	struct kvmi_vcpu_get_xsave_reply *rpl;
	int err = 0;

	rpl = kzalloc(sizeof(*rpl), GFP_KERNEL_ACCOUNT);
	if (!rpl)
		return kvmi_reply(req, -KVM_ENOMEM, NULL, 0);

	if (kvmi_get_xsave(req->vcpu, &rpl->xsave, sizeof(rpl->xsave)))
		err = -KVM_EINVAL;
	err = kvmi_reply(req, err, rpl, sizeof(*rpl));
	kfree(rpl);

	return err;
}

/**
 * kvmi_arch_cmd_vcpu_set_xsave - carry out KVMI_VCPU_SET_XSAVE
 * @req: the request
 *
 * What does not fit into the message stays as it is.
 *
 * Return: as kvmi_reply().
 */
int kvmi_arch_cmd_vcpu_set_xsave(const struct kvmi_request *req)
{
	const struct kvmi_vcpu_set_xsave *cmd = req->data;
	struct kvm_xsave *xsave;
	int err = 0;
	size_t size;

	if (req->size < sizeof(*cmd))
		return kvmi_reply(req, -KVM_EINVAL, NULL, 0);

	size = kvmi_xsave_size(req->vcpu);
	xsave = kzalloc(size, GFP_KERNEL_ACCOUNT);
	if (!xsave)
		return kvmi_reply(req, -KVM_ENOMEM, NULL, 0);

	if (kvmi_get_xsave(req->vcpu, xsave, size)) {
		err = -KVM_EINVAL;
	} else {
		memcpy(xsave, &cmd->xsave, sizeof(cmd->xsave));
		if (kvmi_set_xsave(req->vcpu, xsave))
			err = -KVM_EINVAL;
	}
	kfree(xsave);

	return kvmi_reply(req, err, NULL, 0);
}
