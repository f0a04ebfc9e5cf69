// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM introspection on x86: a translation of one vCPU's own
 *
 * What the tool lets one vCPU do for once, no other vCPU may do meanwhile.  So
 * that vCPU is given a root for itself: one whose role has a number in kvmi_own.
 * KVM fills it as it fills the root that all vCPUs share, and zaps what has to
 * be zapped in all roots alike.  The one difference is made where SPTEs are
 * (kvmi_mmu.c): those in a vCPU's own root permit what kvmi_pf_relaxed() says.
 *
 * A number belongs to one vCPU at a time; kvm->arch.kvmi_own_roots, atomic bit
 * operations only, has those that are taken.  When the vCPU is done, the SPTEs
 * that permit more than others are zapped.  What is left is the same for all:
 * whoever takes the number next goes on with it, and need not have its code, its
 * stack and its page tables mapped again for each instruction.  It goes when the
 * VM is unhooked, or its roots are invalidated.
 *
 * With shadow paging, and with nested paging without the TDP MMU, KVM looks shadow
 * pages up by gfn and role, to use them wherever they fit, and a page inherits its
 * parent's role.  So the number keeps all pages below an own root apart from those
 * of others.  Such a page may outlive its last parent, and would be found by the
 * next one with its number: all pages with the number are zapped at the end,
 * wherever they hang.  Roots may be put aside for when the guest is back at their
 * CR3, so none is kept, neither at the beginning nor at the end.
 *
 * What KVM does about guest page tables, it does by gfn in all of their shadow
 * pages: to protect them from writes, to let them run out of sync, to zap what
 * a write has changed.  Only the vCPU that uses a page syncs it, and that is
 * done whenever a root is loaded.  So what a guest changes while one of its
 * vCPUs has an own root is seen by all.
 *
 * The TLB is flushed whenever a root is loaded, on the CPU that the vCPU is
 * on, and when a vCPU moves to another CPU.  Nobody else ever uses the own
 * root, hence nothing has to be flushed when it is zapped.
 *
 * vcpu->arch.kvmi_step.own_root belongs to whoever holds the vCPU's mutex.
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

static void kvmi_zap_tdp_mmu_roots(struct kvm *kvm, u8 n)
{
	struct kvm_mmu_page *root;

	rcu_read_lock();
	list_for_each_entry(root, &kvm->arch.tdp_mmu_roots, link)
		if (root->role.kvmi_own == n)
			kvmi_zap_root(kvm, root);
	rcu_read_unlock();
}

static void kvmi_zap_own_root(struct kvm *kvm, u8 n)
{
	/* Held for writing, it keeps the list of roots from changing, too. */
	write_lock(&kvm->mmu_lock);
	if (tdp_mmu_enabled)
		kvmi_zap_tdp_mmu_roots(kvm, n);
	else
		kvm_mmu_zap_own_pages(kvm, n);
	write_unlock(&kvm->mmu_lock);
}

/**
 * kvmi_zap_own_roots - free what is kept for the next vCPU with its own root
 * @kvm: the VM, not hooked any more
 *
 * Not for a vCPU that has an own root still: it may be in the guest with it, and
 * frees all of it when it is done.
 */
void kvmi_zap_own_roots(struct kvm *kvm)
{
	u8 n;

	if (!tdp_mmu_enabled)
		return;

	for (n = 1; n < KVMI_NR_OWN_ROOTS; n++) {
		if (test_and_set_bit_lock(n, &kvm->arch.kvmi_own_roots))
			continue;
		kvmi_zap_own_root(kvm, n);
		clear_bit_unlock(n, &kvm->arch.kvmi_own_roots);
		cond_resched();
	}
}

/**
 * kvmi_relax_own - what a SPTE of a vCPU's own permits more than others
 * @vcpu: the vCPU, on its thread
 * @gfn: the page
 */
u8 kvmi_relax_own(struct kvm_vcpu *vcpu, gfn_t gfn)
{
	struct kvmi_step *step = &vcpu->arch.kvmi_step;
	u8 relaxed = kvmi_pf_relaxed(vcpu, gfn);

	if (!relaxed || step->nr_relaxed > KVMI_NR_RELAXED)
		return relaxed;

	if (step->nr_relaxed < KVMI_NR_RELAXED)
		step->relaxed[step->nr_relaxed] = gfn;
	step->nr_relaxed++;

	return relaxed;
}

static void kvmi_zap_relaxed(struct kvm_vcpu *vcpu, u8 n)
{
	struct kvmi_step *step = &vcpu->arch.kvmi_step;
	struct kvm *kvm = vcpu->kvm;
	u8 i;

	/* Without a session nobody takes the number again. */
	if (!tdp_mmu_enabled || step->nr_relaxed > KVMI_NR_RELAXED ||
	    !rcu_access_pointer(kvm->kvmi.session)) {
		kvmi_zap_own_root(kvm, n);
	} else if (step->nr_relaxed) {
		write_lock(&kvm->mmu_lock);
		for (i = 0; i < step->nr_relaxed; i++)
			kvm_tdp_mmu_zap_own(kvm, n, step->relaxed[i]);
		write_unlock(&kvm->mmu_lock);
	}
	step->nr_relaxed = 0;
}

/* The root is loaded before the guest is entered. */
static void kvmi_switch_root(struct kvm_vcpu *vcpu, u8 n)
{
	struct kvm_mmu *mmu = &vcpu->arch.root_mmu;

	vcpu->arch.kvmi_step.own_root = n;
	kvm_mmu_free_roots(vcpu->kvm, mmu, KVM_MMU_ROOTS_ALL);
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
 * There are no restrictions for L2, nor in SMM, so it needs none there.
 *
 * Return: false if it needs one and all are taken.
 */
bool kvmi_arch_own_root_begin(struct kvm_vcpu *vcpu)
{
	u8 n;

	if (kvmi_own_root(vcpu) || is_guest_mode(vcpu) || is_smm(vcpu))
		return true;

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
	kvmi_zap_relaxed(vcpu, n);
	clear_bit_unlock(n, &kvm->arch.kvmi_own_roots);
	static_branch_dec(&kvmi_hooked_key);
}
