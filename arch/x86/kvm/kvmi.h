/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef __KVM_X86_KVMI_H
#define __KVM_X86_KVMI_H

/*
 * KVM introspection: what KVM's x86 code calls.
 *
 * Each call costs a patched-out jump while no VM of the host is hooked.
 */

#include <linux/kvm_host.h>
#include <linux/kvmi_host.h>
#include <uapi/linux/kvmi.h>

struct kvm_mmu_page;
struct kvm_page_fault;

#ifdef CONFIG_KVM_INTROSPECTION

u64 __kvmi_restrict_spte(struct kvm *kvm, struct kvm_mmu_page *sp,
			 const struct kvm_memory_slot *slot, gfn_t gfn,
			 u64 spte);
int __kvmi_max_mapping_level(struct kvm *kvm,
			     const struct kvm_memory_slot *slot, gfn_t gfn,
			     int max_level);
bool __kvmi_handle_page_fault(struct kvm_vcpu *vcpu,
			      struct kvm_page_fault *fault);
bool __kvmi_emulator_access(struct kvm_vcpu *vcpu, gva_t gva,
			    unsigned int bytes, u64 pferr, u8 access);
bool __kvmi_emulator_gpa(struct kvm_vcpu *vcpu, gva_t gva, gpa_t gpa,
			 u8 access);
u8 kvmi_hw_denied(u8 denied);
bool kvmi_pf_is_pending(struct kvm_vcpu *vcpu);
bool kvmi_pf_is_relaxing(struct kvm_vcpu *vcpu);
bool kvmi_inject_is_entering(struct kvm_vcpu *vcpu);

/* Take from a new SPTE what the tool has taken from the page. */
static inline u64 kvmi_restrict_spte(struct kvm *kvm, struct kvm_mmu_page *sp,
				     const struct kvm_memory_slot *slot,
				     gfn_t gfn, u64 spte)
{
	return kvmi_hooked() ? __kvmi_restrict_spte(kvm, sp, slot, gfn, spte) :
			       spte;
}

/* A mapping must not cover both restricted and other pages. */
static inline int kvmi_max_mapping_level(struct kvm *kvm,
					 const struct kvm_memory_slot *slot,
					 gfn_t gfn, int max_level)
{
	return kvmi_hooked() ?
	       __kvmi_max_mapping_level(kvm, slot, gfn, max_level) : max_level;
}

/*
 * Is a page fault there because of a restriction?  Then it needs nothing but
 * RET_PF_RETRY: the rest is done before the guest is entered again.
 */
static inline bool kvmi_handle_page_fault(struct kvm_vcpu *vcpu,
					  struct kvm_page_fault *fault)
{
	return kvmi_hooked() && __kvmi_handle_page_fault(vcpu, fault);
}

/* Must the emulator give up the instruction because of this access? */
static inline bool kvmi_emulator_access(struct kvm_vcpu *vcpu, gva_t gva,
					unsigned int bytes, u64 pferr,
					u8 access)
{
	return kvmi_hooked() &&
	       __kvmi_emulator_access(vcpu, gva, bytes, pferr, access);
}

/* The same, where the address has been translated. */
static inline bool kvmi_emulator_gpa(struct kvm_vcpu *vcpu, gva_t gva,
				     gpa_t gpa, u8 access)
{
	return kvmi_hooked() && __kvmi_emulator_gpa(vcpu, gva, gpa, access);
}

/* Did the emulator give up the instruction? */
static inline bool kvmi_emulation_stopped(struct kvm_vcpu *vcpu)
{
	return kvmi_hooked() && kvmi_pf_is_pending(vcpu);
}

/* Must the guest be left before it has executed an instruction? */
static inline bool kvmi_needs_immediate_exit(struct kvm_vcpu *vcpu)
{
	return kvmi_hooked() &&
	       (kvmi_pf_is_relaxing(vcpu) || kvmi_inject_is_entering(vcpu));
}

#else /* CONFIG_KVM_INTROSPECTION */

static inline u64 kvmi_restrict_spte(struct kvm *kvm, struct kvm_mmu_page *sp,
				     const struct kvm_memory_slot *slot,
				     gfn_t gfn, u64 spte)
{
	return spte;
}

static inline int kvmi_max_mapping_level(struct kvm *kvm,
					 const struct kvm_memory_slot *slot,
					 gfn_t gfn, int max_level)
{
	return max_level;
}

static inline bool kvmi_handle_page_fault(struct kvm_vcpu *vcpu,
					  struct kvm_page_fault *fault)
{
	return false;
}

static inline bool kvmi_emulator_access(struct kvm_vcpu *vcpu, gva_t gva,
					unsigned int bytes, u64 pferr,
					u8 access)
{
	return false;
}

static inline bool kvmi_emulator_gpa(struct kvm_vcpu *vcpu, gva_t gva,
				     gpa_t gpa, u8 access)
{
	return false;
}

static inline bool kvmi_emulation_stopped(struct kvm_vcpu *vcpu)
{
	return false;
}

static inline bool kvmi_needs_immediate_exit(struct kvm_vcpu *vcpu)
{
	return false;
}

#endif /* CONFIG_KVM_INTROSPECTION */

#endif /* __KVM_X86_KVMI_H */
