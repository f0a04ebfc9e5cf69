// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM introspection: which accesses to which guest pages are restricted
 *
 * kvm->kvmi.access maps a gfn to the kinds of access that the tool has taken
 * away, in the entry itself.  A gfn that is not there is not restricted.  The
 * restriction is the gfn's, not the memslot's: nothing has to be done when a
 * memslot comes, goes or moves, except that a gfn must be in one for the tool
 * to restrict it.  Restrictions concern the normal address space (as_id 0).
 *
 * Written under kvm->slots_lock and with mmu_lock held for writing, read under
 * RCU.  Whoever maps a page asks for its restrictions with mmu_lock held, at
 * least for reading; whoever changes them zaps the mappings before mmu_lock is
 * dropped.  So no mapping outlives the restrictions it was made for, except in
 * a TLB until the flush at the end of the change.
 *
 * What is on record holds for all vCPUs.  What the tool lets one of them do for
 * once is up to the translation that this one has for itself (pf.c).
 */

#include <linux/unaligned.h>
#include <uapi/linux/kvm_para.h>
#include "kvmi_int.h"
#include "../kvm_mm.h"

/* Entries changed between two looks at whether somebody wants the lock. */
#define KVMI_ACCESS_BATCH	64

/* Pages, as many as a large mapping has, that are zapped without a pause. */
#define KVMI_ZAP_AT_ONCE	512

/**
 * kvmi_access_denied - what the tool has taken away from a page
 * @kvm: the VM
 * @gfn: the page
 *
 * Return: KVMI_PAGE_ACCESS_* bits, 0 for a page that is not restricted.
 */
u8 kvmi_access_denied(struct kvm *kvm, gfn_t gfn)
{
	void *entry;

	if (xa_empty(&kvm->kvmi.access))
		return 0;

	entry = xa_load(&kvm->kvmi.access, gfn);

	return entry ? xa_to_value(entry) : 0;
}

/**
 * kvmi_access_restricted_in - is any page of a range restricted?
 * @kvm: the VM
 * @start: the first page
 * @npages: how many there are
 */
bool kvmi_access_restricted_in(struct kvm *kvm, gfn_t start, gfn_t npages)
{
	unsigned long index = start;

	if (xa_empty(&kvm->kvmi.access))
		return false;

	return xa_find(&kvm->kvmi.access, &index, start + npages - 1,
		       XA_PRESENT);
}

/* Mappings to be zapped, collected as long as they are neighbours. */
struct kvmi_zap {
	struct kvm *kvm;
	struct kvm_memory_slot *slot;
	gfn_t start;
	gfn_t end;
	bool flush;
	unsigned int batch;
};

static void kvmi_zap_flush_now(struct kvmi_zap *zap)
{
	if (zap->flush)
		kvm_flush_remote_tlbs(zap->kvm);
	zap->flush = false;
}

static void kvmi_zap_now(struct kvmi_zap *zap)
{
	bool may_yield = zap->end - zap->start > KVMI_ZAP_AT_ONCE;

	if (!zap->slot)
		return;

	/* What is zapped must be flushed before mmu_lock is dropped. */
	if (may_yield)
		kvmi_zap_flush_now(zap);

	zap->flush |= kvmi_arch_zap_gfns(zap->kvm, zap->slot, zap->start,
					 zap->end, may_yield);
	zap->slot = NULL;
}

static void kvmi_zap_add(struct kvmi_zap *zap, struct kvm_memory_slot *slot,
			 gfn_t start, gfn_t end)
{
	if (zap->slot != slot || start > zap->end || end < zap->start) {
		kvmi_zap_now(zap);
		zap->slot = slot;
		zap->start = start;
		zap->end = end;
	}

	zap->start = min(zap->start, start);
	zap->end = max(zap->end, end);
}

static void kvmi_zap_flush(struct kvmi_zap *zap)
{
	kvmi_zap_now(zap);
	kvmi_zap_flush_now(zap);
}

/* Let others have mmu_lock, once in a while. */
static void kvmi_zap_yield(struct kvmi_zap *zap)
{
	if (++zap->batch % KVMI_ACCESS_BATCH || !need_resched())
		return;

	kvmi_zap_flush(zap);
	KVM_MMU_UNLOCK(zap->kvm);
	cond_resched();
	KVM_MMU_LOCK(zap->kvm);
}

/*
 * The mappings to be zapped when the restrictions of @gfn have changed: if
 * there are none left, all that keep a large page from being mapped there.
 */
static void kvmi_zap_range(struct kvm *kvm, struct kvm_memory_slot *slot,
			   gfn_t gfn, gfn_t *start, gfn_t *end)
{
	gfn_t size = 1;

	if (!kvmi_access_restricted_in(kvm, gfn, 1))
		size = kvmi_arch_mapping_size(kvm, slot, gfn);

	*start = max(ALIGN_DOWN(gfn, size), slot->base_gfn);
	*end = min(ALIGN_DOWN(gfn, size) + size, slot->base_gfn + slot->npages);
}

static void kvmi_zap_changed(struct kvmi_zap *zap, gfn_t gfn)
{
	struct kvm_memory_slot *slot = zap->slot;
	gfn_t start, end;

	if (slot && gfn >= zap->start && gfn < zap->end)
		return;

	slot = gfn_to_memslot(zap->kvm, gfn);
	if (!slot)
		return;

	kvmi_zap_range(zap->kvm, slot, gfn, &start, &end);
	kvmi_zap_add(zap, slot, start, end);
}

/* The same, where a restriction was recorded: often behind the last one. */
static void kvmi_zap_restricted(struct kvmi_zap *zap, gfn_t gfn)
{
	struct kvm_memory_slot *slot = zap->slot;

	if (slot && gfn == zap->end && gfn < slot->base_gfn + slot->npages)
		zap->end++;
	else
		kvmi_zap_changed(zap, gfn);
}

static bool kvmi_are_valid_entries(struct kvm *kvm,
				   const struct kvmi_page_access_entry *e, u16 n)
{
	struct kvm_memory_slot *slot = NULL;
	gfn_t gfn;
	u16 i;

	BUILD_BUG_ON(offsetofend(typeof(*e), access) !=
		     offsetof(typeof(*e), padding));

	for (i = 0; i < n; i++) {
		gfn = gpa_to_gfn(e[i].gpa);
		if (!slot || gfn < slot->base_gfn ||
		    gfn >= slot->base_gfn + slot->npages)
			slot = gfn_to_memslot(kvm, gfn);

		/* With padding that is not zero, it is a larger number. */
		if (!kvm_is_visible_memslot(slot) ||
		    get_unaligned_le64(&e[i].access) > KVMI_PAGE_ACCESS_ALL)
			return false;
	}

	return true;
}

/* What is recorded of a page; mostly the one looked at before is next to it. */
static void *kvmi_access_seek(struct xa_state *xas, gfn_t gfn)
{
	if (xas_valid(xas) && gfn == xas->xa_index + 1)
		return xas_next(xas);

	xas_set(xas, gfn);

	return xas_load(xas);
}

/* The first page, alone, needs no node. */
static bool kvmi_access_share_node(gfn_t a, gfn_t b)
{
	return a && a >> XA_CHUNK_SHIFT == b >> XA_CHUNK_SHIFT;
}

/*
 * Make sure that recording the entries needs no memory; lifting never does.  A
 * place that is reserved keeps its node, which has room for its neighbours.
 */
static int kvmi_access_reserve(struct kvm *kvm,
			       const struct kvmi_page_access_entry *e, u16 n)
{
	XA_STATE(xas, &kvm->kvmi.access, 0);
	gfn_t gfn, reserved = 0;
	u16 i = 0;

	do {
		xas_lock(&xas);
		for (; i < n; i++) {
			gfn = gpa_to_gfn(e[i].gpa);
			if (e[i].access == KVMI_PAGE_ACCESS_ALL ||
			    kvmi_access_share_node(reserved, gfn) ||
			    kvmi_access_seek(&xas, gfn))
				continue;
			xas_store(&xas, XA_ZERO_ENTRY);
			if (xas_error(&xas))
				break;
			reserved = gfn;
		}
		xas_unlock(&xas);
	} while (xas_nomem(&xas, GFP_KERNEL));

	if (i == n)
		return 0;

	while (i--)
		xa_release(&kvm->kvmi.access, gpa_to_gfn(e[i].gpa));

	return -KVM_ENOMEM;
}

static void kvmi_access_record(struct kvm *kvm,
			       const struct kvmi_page_access_entry *e, u16 n)
{
	XA_STATE(xas, &kvm->kvmi.access, 0);
	unsigned long old, new;
	void *entry;
	u16 i;

	xas_lock(&xas);
	for (i = 0; i < n; i++) {
		entry = kvmi_access_seek(&xas, gpa_to_gfn(e[i].gpa));
		old = xa_is_value(entry) ? xa_to_value(entry) : 0;
		new = ~e[i].access & KVMI_PAGE_ACCESS_ALL;
		/* There is room: an entry, or the reserved place of one. */
		if (new != old)
			xas_store(&xas, xa_mk_value(new));
	}
	xas_unlock(&xas);
}

static void kvmi_access_forget_if_free(struct kvm *kvm, gfn_t gfn)
{
	if (!kvmi_access_denied(kvm, gfn))
		xa_erase(&kvm->kvmi.access, gfn);
}

static int kvmi_set_page_access(struct kvm *kvm,
				const struct kvmi_page_access_entry *e, u16 n)
{
	struct kvmi_zap zap = { .kvm = kvm };
	int err;
	u16 i;

	mutex_lock(&kvm->slots_lock);

	err = kvmi_are_valid_entries(kvm, e, n) ?
	      kvmi_access_reserve(kvm, e, n) : -KVM_EINVAL;
	if (err)
		goto out_unlock;

	KVM_MMU_LOCK(kvm);

	/* A gfn may be there twice: the last entry counts. */
	kvmi_access_record(kvm, e, n);

	/* First what may allow large mappings again. */
	for (i = 0; i < n; i++)
		if (e[i].access == KVMI_PAGE_ACCESS_ALL)
			kvmi_access_forget_if_free(kvm, gpa_to_gfn(e[i].gpa));
	for (i = 0; i < n; i++) {
		if (e[i].access != KVMI_PAGE_ACCESS_ALL)
			continue;
		kvmi_zap_changed(&zap, gpa_to_gfn(e[i].gpa));
		kvmi_zap_yield(&zap);
	}
	for (i = 0; i < n; i++) {
		if (e[i].access == KVMI_PAGE_ACCESS_ALL)
			continue;
		kvmi_zap_restricted(&zap, gpa_to_gfn(e[i].gpa));
		kvmi_zap_yield(&zap);
	}
	kvmi_zap_flush(&zap);

	KVM_MMU_UNLOCK(kvm);

out_unlock:
	mutex_unlock(&kvm->slots_lock);

	return err;
}

/**
 * kvmi_cmd_vm_set_page_access - carry out KVMI_VM_SET_PAGE_ACCESS
 * @req: the request
 *
 * Return: as kvmi_reply().
 */
int kvmi_cmd_vm_set_page_access(const struct kvmi_request *req)
{
	const struct kvmi_vm_set_page_access *cmd = req->fixed;
	int err = -KVM_EINVAL;

	if (!cmd->padding1 && !cmd->padding2 &&
	    cmd->count * sizeof(cmd->entries[0]) <= req->size)
		err = kvmi_set_page_access(req->kvmi->kvm, req->data,
					   cmd->count);

	return kvmi_reply(req, err, NULL, 0);
}

/**
 * kvmi_access_lift_all - forget every restriction
 * @kvm: the VM; its session is dead
 */
void kvmi_access_lift_all(struct kvm *kvm)
{
	struct kvmi_zap zap = { .kvm = kvm };
	unsigned long gfn;
	void *entry;

	mutex_lock(&kvm->slots_lock);
	KVM_MMU_LOCK(kvm);

	xa_for_each(&kvm->kvmi.access, gfn, entry) {
		xa_erase(&kvm->kvmi.access, gfn);
		kvmi_zap_changed(&zap, gfn);
		kvmi_zap_yield(&zap);
	}
	kvmi_zap_flush(&zap);

	KVM_MMU_UNLOCK(kvm);
	mutex_unlock(&kvm->slots_lock);
}
