// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM introspection on x86: page restrictions in the page tables of KVM
 *
 * Restrictions act on the mappings that KVM makes for L1 in its normal address
 * space, in the TDP MMU and in shadow pages alike.  They are looked up when a
 * mapping is made (mmu_lock held) and nothing about them is kept in the page
 * tables; when they change, the mappings are zapped (access.c).
 *
 * Not every combination can be expressed.  kvmi_hw_denied() says what is
 * denied in addition; such accesses fault as well, and are carried out without
 * an event (kvmi_pf.c).
 */

#include <linux/kvmi_arch.h>
#include "kvmi.h"
#include "mmu/mmu_internal.h"
#include "mmu/spte.h"
#include "mmu/tdp_mmu.h"

/* Can a mapping permit execution but not reading?  See kvm_mmu_set_ept_masks(). */
static bool kvmi_hw_has_exec_only(void)
{
	return !(shadow_present_mask & PT_PRESENT_MASK);
}

/* What goes with reading where reading is denied */
static u8 kvmi_hw_needs_reading(void)
{
	return kvmi_hw_has_exec_only() ? KVMI_PAGE_ACCESS_W :
	       KVMI_PAGE_ACCESS_W | KVMI_PAGE_ACCESS_X;
}

/**
 * kvmi_hw_denied - what mappings of a page do not permit
 * @denied: what the tool has taken from it
 * @relaxed: what it has given back to the one vCPU that uses the mapping
 *
 * EPT has no writing without reading (SDM vol. 3, "EPT Misconfigurations"),
 * nor execution without reading unless the CPU says so.  NPT and shadow paging
 * have nothing without reading (APM vol. 2, "Nested Paging").
 *
 * Return: what is denied still and the least that has to go with it, or, as
 * far as @relaxed could not be permitted then, without that.
 */
u8 kvmi_hw_denied(u8 denied, u8 relaxed)
{
	denied &= ~relaxed;
	if (!(denied & KVMI_PAGE_ACCESS_R))
		return denied;

	if (relaxed & kvmi_hw_needs_reading())
		return denied & ~KVMI_PAGE_ACCESS_R;

	return denied | kvmi_hw_needs_reading();
}

/**
 * __kvmi_restrict_spte - take from a leaf SPTE what its page must not permit
 * @vcpu: the vCPU that it is made for
 * @sp: the shadow page it goes to
 * @slot: the memslot of the page
 * @gfn: the page
 * @spte: the SPTE
 *
 * The SPTE stays a present one to KVM, even if nothing is left to the guest.
 * The lowest bit is "present" in NPT and legacy page tables, "read" in EPT.
 *
 * Return: the SPTE without these permissions.
 */
u64 __kvmi_restrict_spte(struct kvm_vcpu *vcpu, struct kvm_mmu_page *sp,
			 const struct kvm_memory_slot *slot, gfn_t gfn,
			 u64 spte)
{
	struct kvm *kvm = vcpu->kvm;
	u8 denied, relaxed;

	lockdep_assert_held(&kvm->mmu_lock);

	if (slot->as_id || sp->role.guest_mode)
		return spte;

	denied = kvmi_access_denied(kvm, gfn);
	if (denied) {
		relaxed = sp->role.kvmi_own ? kvmi_relax_own(vcpu, gfn) : 0;
		denied = kvmi_hw_denied(denied, relaxed);
	}

	if (denied & KVMI_PAGE_ACCESS_R)
		spte &= ~PT_PRESENT_MASK;
	if (denied & KVMI_PAGE_ACCESS_W)
		spte &= ~(PT_WRITABLE_MASK | shadow_mmu_writable_mask);
	if (denied & KVMI_PAGE_ACCESS_X) {
		spte &= ~shadow_x_mask;
		spte |= shadow_nx_mask;
	}

	return spte;
}

/**
 * __kvmi_max_mapping_level - how large a mapping may be
 * @kvm: the VM
 * @slot: the memslot of the page
 * @gfn: the page
 * @max_level: as large as it may be otherwise
 *
 * Return: the largest level at which nothing in the mapping is restricted, or
 * PG_LEVEL_4K.
 */
int __kvmi_max_mapping_level(struct kvm *kvm,
			     const struct kvm_memory_slot *slot, gfn_t gfn,
			     int max_level)
{
	if (slot->as_id)
		return max_level;

	for ( ; max_level > PG_LEVEL_4K; max_level--) {
		gfn_t size = KVM_PAGES_PER_HPAGE(max_level);

		if (!kvmi_access_restricted_in(kvm, ALIGN_DOWN(gfn, size), size))
			break;
	}

	return max_level;
}

/**
 * kvmi_arch_mapping_size - how large a mapping could be
 * @kvm: the VM
 * @slot: the memslot of the page
 * @gfn: the page
 *
 * Return: the number of pages.
 */
gfn_t kvmi_arch_mapping_size(struct kvm *kvm, struct kvm_memory_slot *slot,
			     gfn_t gfn)
{
	return KVM_PAGES_PER_HPAGE(kvm_mmu_max_mapping_level(kvm, slot, gfn,
							     PG_LEVEL_NUM));
}

/**
 * kvmi_arch_zap_gfns - remove all mappings of a range of pages
 * @kvm: the VM; slots_lock and, for writing, mmu_lock are held
 * @slot: the memslot of the pages
 * @start: the first page
 * @end: behind the last page
 * @may_yield: mmu_lock may be dropped meanwhile
 *
 * Return: whether the TLBs have to be flushed before mmu_lock is dropped.
 */
bool kvmi_arch_zap_gfns(struct kvm *kvm, struct kvm_memory_slot *slot,
			gfn_t start, gfn_t end, bool may_yield)
{
	struct kvm_gfn_range range = {
		.slot = slot,
		.start = start,
		.end = end,
		.may_block = may_yield,
	};

	return kvm_unmap_gfn_range(kvm, &range);
}
