// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM introspection on x86: a translation of one vCPU's own
 *
 * What the tool lets one vCPU do for once, no other vCPU may do meanwhile.  So
 * that vCPU is given a root of the TDP MMU for itself: one whose role has a
 * number in kvmi_own.  KVM fills it as it fills the root that all vCPUs share,
 * and zaps what has to be zapped in all roots alike.  The one difference is
 * made where SPTEs are (kvmi_mmu.c): those in a vCPU's own root permit what
 * kvmi_pf_relaxed() says.
 *
 * A number belongs to one vCPU at a time; kvm->arch.kvmi_own_roots, atomic bit
 * operations only, has those that are taken.  When the vCPU is done
 * everything in its root is zapped, so whoever takes the number next finds the
 * root empty.  The root itself stays until the VM's roots are invalidated.
 *
 * The TLB is flushed whenever a root is loaded, on the CPU that the vCPU is
 * on, and when a vCPU moves to another CPU.  Nobody else ever uses the own
 * root, hence nothing has to be flushed when it is zapped.
 *
 * vcpu->arch.kvmi_step.own_root belongs to whoever holds the vCPU's mutex.
 *
 * Shadow paging shares the shadow pages of a VM between roots: there is no
 * own root with it.
 */

#include <linux/kvmi_arch.h>
#include "kvmi.h"
#include "mmu.h"
#include "mmu/mmu_internal.h"
#include "mmu/spte.h"
#include "mmu/tdp_iter.h"
#include "mmu/tdp_mmu.h"
#include "smm.h"

/* The bits of the role that are left, 0 is the root that all use. */
#define KVMI_NR_OWN_ROOTS	32

static u8 kvmi_take_own_root(struct kvm *kvm)
{
	unsigned long n;

	for (n = 1; n < KVMI_NR_OWN_ROOTS; n++)
		if (!test_and_set_bit_lock(n, &kvm->arch.kvmi_own_roots))
			return n;

	return 0;
}

static void kvmi_zap_root(struct kvm *kvm, struct kvm_mmu_page *root)
{
	int i;

	for (i = 0; i < SPTE_ENT_PER_PAGE; i++) {
		u64 spte = kvm_tdp_mmu_read_spte((tdp_ptep_t)&root->spt[i]);

		if (is_shadow_present_pte(spte) &&
		    !is_last_spte(spte, root->role.level))
			kvm_tdp_mmu_zap_sp(kvm, spte_to_child_sp(spte));
	}
}

static void kvmi_zap_own_root(struct kvm *kvm, u8 n)
{
	struct kvm_mmu_page *root;

	/* Held for writing, it keeps the list of roots from changing, too. */
	write_lock(&kvm->mmu_lock);
	rcu_read_lock();
	list_for_each_entry(root, &kvm->arch.tdp_mmu_roots, link)
		if (root->role.kvmi_own == n)
			kvmi_zap_root(kvm, root);
	rcu_read_unlock();
	write_unlock(&kvm->mmu_lock);
}

/* The root is loaded before the guest is entered. */
static void kvmi_switch_root(struct kvm_vcpu *vcpu, u8 n)
{
	struct kvm_mmu *mmu = &vcpu->arch.root_mmu;

	vcpu->arch.kvmi_step.own_root = n;
	kvm_mmu_free_roots(vcpu->kvm, mmu, KVM_MMU_ROOT_CURRENT);
	mmu->root_role.kvmi_own = n;
}

/**
 * kvmi_arch_has_own_root - does the vCPU have a translation of its own?
 * @vcpu: the vCPU, on its thread
 */
bool kvmi_arch_has_own_root(struct kvm_vcpu *vcpu)
{
	return kvmi_own_root(vcpu);
}

/**
 * kvmi_arch_own_root_begin - give the vCPU a translation of its own
 * @vcpu: the vCPU, loaded, on its thread
 *
 * Return: false if there is none to be had.
 */
bool kvmi_arch_own_root_begin(struct kvm_vcpu *vcpu)
{
	u8 n;

	if (kvmi_own_root(vcpu))
		return true;

	if (!tdp_mmu_enabled || is_guest_mode(vcpu) || is_smm(vcpu))
		return false;

	n = kvmi_take_own_root(vcpu->kvm);
	if (!n)
		return false;

	/* The vCPU must see to it that this ends, hooked or not. */
	static_branch_inc(&kvmi_hooked_key);
	kvmi_switch_root(vcpu, n);

	return true;
}

/**
 * kvmi_arch_own_root_end - have the vCPU use the translation that all use
 * @vcpu: the vCPU, its mutex held
 */
void kvmi_arch_own_root_end(struct kvm_vcpu *vcpu)
{
	struct kvm *kvm = vcpu->kvm;
	u8 n = kvmi_own_root(vcpu);

	if (!n)
		return;

	kvmi_switch_root(vcpu, 0);
	kvmi_zap_own_root(kvm, n);
	clear_bit_unlock(n, &kvm->arch.kvmi_own_roots);
	static_branch_dec(&kvmi_hooked_key);
}
