// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM introspection: the tool's access to guest memory
 *
 * The tool sees what a device sees: memory of the first address space, whatever
 * restrictions there are, through the VMM's mapping of it.
 *
 * Faulting in the VMM's page may take for ever, so it is done with no lock
 * that the VMM may need and can be interrupted (kvmi_hangup_work()).  The
 * copying itself is done in a kvm->srcu section, once it is certain that the
 * memslot is still the one that led to the page.
 */

#include <linux/highmem.h>
#include <linux/kvm_dirty_ring.h>
#include <linux/sched/mm.h>
#include <uapi/linux/kvm_para.h>
#include "kvmi_int.h"

static bool kvmi_is_valid_range(gpa_t gpa, size_t size)
{
	return size && offset_in_page(gpa) + size <= PAGE_SIZE;
}

static unsigned long kvmi_gfn_to_hva(struct kvm *kvm, gfn_t gfn, bool write)
{
	return write ? gfn_to_hva(kvm, gfn) :
		       gfn_to_hva_prot(kvm, gfn, NULL);
}

/*
 * Get the page of the VMM that backs a guest page, with a reference.  Returns
 * 0 or a negated KVM_E* code.
 */
static int kvmi_get_page(struct kvm *kvm, gfn_t gfn, bool write,
			 unsigned long *hva, struct page **page)
{
	unsigned int flags = FOLL_INTERRUPTIBLE | (write ? FOLL_WRITE : 0);
	int locked = 1;
	int idx;
	long r;

	idx = srcu_read_lock(&kvm->srcu);
	*hva = kvmi_gfn_to_hva(kvm, gfn, write);
	srcu_read_unlock(&kvm->srcu, idx);

	if (kvm_is_error_hva(*hva) || !mmget_not_zero(kvm->mm))
		return -KVM_ENOENT;

	mmap_read_lock(kvm->mm);
	r = get_user_pages_remote(kvm->mm, *hva, 1, flags, page, &locked);
	if (locked)
		mmap_read_unlock(kvm->mm);
	mmput(kvm->mm);

	if (r == 1)
		return 0;

	return r == -ENOMEM ? -KVM_ENOMEM : -KVM_ENOENT;
}

/*
 * mark_page_dirty() wants the thread of a vCPU, for its dirty ring.  Here any
 * thread reports what it has written, in any ring that is not full.
 */
static void kvmi_mark_dirty(struct kvm_memory_slot *slot, gfn_t gfn,
			    struct kvm_vcpu *vcpu)
{
	gfn_t offset = gfn - slot->base_gfn;

	if (vcpu)
		kvm_dirty_ring_push(vcpu, slot->as_id << 16 | slot->id, offset);
	else if (slot->dirty_bitmap)
		set_bit_le(offset, slot->dirty_bitmap);
}

/*
 * Between the limit and the end of a ring is room for what comes together
 * while its vCPU is on its way out of KVM_RUN; one entry more, too.
 */
static struct kvm_vcpu *kvmi_find_dirty_ring(struct kvm *kvm)
{
	struct kvm_vcpu *vcpu;
	unsigned long i;

	kvm_for_each_vcpu(i, vcpu, kvm) {
		struct kvm_dirty_ring *ring = &vcpu->dirty_ring;

		if (READ_ONCE(ring->dirty_index) - READ_ONCE(ring->reset_index) <
		    ring->soft_limit)
			return vcpu;
	}

	return NULL;
}

/* In a kvm->srcu section, in which @slot has led to @page. */
static int kvmi_write_page(struct kvm *kvm, struct kvm_memory_slot *slot,
			   gpa_t gpa, struct page *page, void *buf, size_t size)
{
	struct kvm_vcpu *vcpu = NULL;

	if (kvm->dirty_ring_size && kvm_slot_dirty_track_enabled(slot) &&
	    !slot->dirty_bitmap) {
		vcpu = kvmi_find_dirty_ring(kvm);
		if (!vcpu)
			return -KVM_EBUSY;
	}

	memcpy_to_page(page, offset_in_page(gpa), buf, size);
	set_page_dirty_lock(page);
	kvmi_mark_dirty(slot, gpa_to_gfn(gpa), vcpu);

	return 0;
}

/* Access memory within one page. */
static int kvmi_access_memory(struct kvm *kvm, gpa_t gpa, void *buf,
			      size_t size, bool write)
{
	gfn_t gfn = gpa_to_gfn(gpa);
	struct page *page;
	unsigned long hva;
	bool same;
	int err;
	int idx;

	do {
		err = kvmi_get_page(kvm, gfn, write, &hva, &page);
		if (err)
			return err;

		idx = srcu_read_lock(&kvm->srcu);
		same = kvmi_gfn_to_hva(kvm, gfn, write) == hva;
		if (same && write)
			err = kvmi_write_page(kvm, gfn_to_memslot(kvm, gfn),
					      gpa, page, buf, size);
		else if (same)
			memcpy_from_page(buf, page, offset_in_page(gpa), size);
		srcu_read_unlock(&kvm->srcu, idx);
		put_page(page);
	} while (!same);

	return err;
}

/**
 * kvmi_cmd_vm_read_physical - carry out KVMI_VM_READ_PHYSICAL
 * @req: the request
 *
 * Return: as kvmi_reply().
 */
int kvmi_cmd_vm_read_physical(const struct kvmi_request *req)
{
	const struct kvmi_vm_read_physical *cmd = req->fixed;
	void *buf;
	int err;

	if (cmd->padding1 || cmd->padding2 ||
	    !kvmi_is_valid_range(cmd->gpa, cmd->size))
		return kvmi_reply(req, -KVM_EINVAL, NULL, 0);

	buf = kmalloc(cmd->size, GFP_KERNEL_ACCOUNT);
	if (!buf)
		return kvmi_reply(req, -KVM_ENOMEM, NULL, 0);

	err = kvmi_access_memory(req->kvmi->kvm, cmd->gpa, buf, cmd->size, false);
	err = kvmi_reply(req, err, buf, cmd->size);
	kfree(buf);

	return err;
}

/**
 * kvmi_cmd_vm_write_physical - carry out KVMI_VM_WRITE_PHYSICAL
 * @req: the request
 *
 * Return: as kvmi_reply().
 */
int kvmi_cmd_vm_write_physical(const struct kvmi_request *req)
{
	const struct kvmi_vm_write_physical *cmd = req->fixed;
	int err = -KVM_EINVAL;

	if (!cmd->padding1 && !cmd->padding2 &&
	    kvmi_is_valid_range(cmd->gpa, cmd->size) && cmd->size <= req->size)
		err = kvmi_access_memory(req->kvmi->kvm, cmd->gpa,
					 (void *)req->data, cmd->size, true);

	return kvmi_reply(req, err, NULL, 0);
}
