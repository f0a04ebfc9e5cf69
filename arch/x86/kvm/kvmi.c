// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM introspection on x86: the state of a vCPU, as the tool gets it
 *
 * Everything here runs on the thread of the vCPU, with the vCPU loaded, except
 * for the functions that hook and unhook a VM.
 */

#include <linux/kvmi_arch.h>
#include <uapi/linux/kvm_para.h>
#include "kvm_cache_regs.h"
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

void kvmi_arch_unhook(struct kvm *kvm)
{
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

void kvmi_arch_get_features(struct kvmi_features *features)
{
}

static unsigned int kvmi_get_mode(const struct kvm_sregs *sregs)
{
	if ((sregs->efer & EFER_LMA) && sregs->cs.l)
		return 8;

	return sregs->cs.db ? 4 : 2;
}

static u64 kvmi_get_msr(struct kvm_vcpu *vcpu, u32 index)
{
	u64 value = 0;

	__kvm_get_msr(vcpu, index, &value, true);

	return value;
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
	ev->msrs.efer = kvmi_get_msr(vcpu, MSR_EFER);
	ev->msrs.star = kvmi_get_msr(vcpu, MSR_STAR);
	ev->msrs.lstar = kvmi_get_msr(vcpu, MSR_LSTAR);
	ev->msrs.cstar = kvmi_get_msr(vcpu, MSR_CSTAR);
	ev->msrs.pat = kvmi_get_msr(vcpu, MSR_IA32_CR_PAT);
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

	rpl = kzalloc(size, GFP_KERNEL_ACCOUNT);
	if (!rpl)
		return kvmi_reply(req, -KVM_ENOMEM, NULL, 0);

	rpl->msrs.nmsrs = cmd->nmsrs;
	err = kvmi_get_registers(req->vcpu, req->data, rpl);
	err = kvmi_reply(req, err, rpl, size);
	kfree(rpl);

	return err;
}
