// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM introspection on x86: finding the accesses that break a restriction
 *
 * There are two places.  A fault tells which page was accessed and how, which
 * is all that an event needs; the guest's page-table walks are told apart, and
 * not reported unless the tool wants to hear of them.  The instruction emulator
 * asks before each access of its own, but not before those of its walks.
 * What is found goes to kvmi_pf_raise(); see virt/kvm/introspection/pf.c for
 * the rest.
 *
 * Accesses made by L2, in SMM, by devices or by the VMM are not covered, nor
 * are those that KVM makes itself to switch tasks and to deliver an interrupt
 * in real mode: half-way, these cannot be given up.
 *
 * All of this runs on the thread of the vCPU, in a kvm->srcu section.
 */

#include <linux/kvmi_arch.h>
#include <linux/sched/signal.h>
#include <asm/insn.h>
#include "kvm_cache_regs.h"
#include "kvm_emulate.h"
#include "kvmi.h"
#include "mmu.h"
#include "mmu/mmu_internal.h"
#include "smm.h"
#include "x86.h"

/* Do restrictions concern what the vCPU does at the moment? */
static bool kvmi_is_vcpu_restricted(struct kvm_vcpu *vcpu)
{
	return !is_guest_mode(vcpu) && !is_smm(vcpu);
}

/**
 * kvmi_translate - translate an address as the guest would at the moment
 * @vcpu: the vCPU
 * @gva: a linear address
 * @pferr: what for, in PFERR_* terms; KVM sees to PFERR_USER_MASK
 *
 * Return: the guest-physical address, or INVALID_GPA.
 */
gpa_t kvmi_translate(struct kvm_vcpu *vcpu, gva_t gva, u64 pferr)
{
	struct kvm_mmu *mmu = vcpu->arch.walk_mmu;

	if (!(pferr & PFERR_IMPLICIT_ACCESS) &&
	    kvm_x86_call(get_cpl)(vcpu) == 3)
		pferr |= PFERR_USER_MASK;

	return mmu->gva_to_gpa(vcpu, mmu, gva, pferr, NULL);
}

static bool kvmi_gva_is_in_gfn(struct kvm_vcpu *vcpu, gva_t gva, gfn_t gfn)
{
	gpa_t gpa = kvmi_translate(vcpu, gva, PFERR_FETCH_MASK);

	return gpa != INVALID_GPA && gpa_to_gfn(gpa) == gfn;
}

/* Where a fetch faulted: at RIP, or where the instruction enters a new page. */
static gva_t kvmi_fetch_gva(struct kvm_vcpu *vcpu, gfn_t gfn)
{
	gva_t rip = kvm_get_linear_rip(vcpu);
	gva_t next = ALIGN_DOWN(rip, PAGE_SIZE) + PAGE_SIZE;

	if (kvmi_gva_is_in_gfn(vcpu, rip, gfn))
		return rip;
	if (next - rip < MAX_INSN_SIZE && kvmi_gva_is_in_gfn(vcpu, next, gfn))
		return next;

	return KVMI_NO_GVA;
}

/* Did the CPU fault while it read or updated the guest's page tables? */
static bool kvmi_is_page_walk(struct kvm_page_fault *fault)
{
	return fault->is_tdp && (fault->error_code & PFERR_GUEST_PAGE_MASK);
}

static u8 kvmi_fault_access(struct kvm_page_fault *fault)
{
	if (fault->exec)
		return KVMI_PAGE_ACCESS_X;

	return fault->write ? KVMI_PAGE_ACCESS_W : KVMI_PAGE_ACCESS_R;
}

/*
 * With shadow paging the fault is on a linear address.  VMX tells the address
 * of an access that it has translated.  SVM does not: CR2 is the guest's.  It
 * takes a look at the instruction, if it is the instruction that accesses.
 */
static gva_t kvmi_fault_gva(struct kvm_vcpu *vcpu, struct kvm_page_fault *fault)
{
	if (!fault->is_tdp)
		return fault->addr;

	if (kvm_x86_ops.get_fault_gva)
		return fault->error_code & PFERR_GUEST_FINAL_MASK ?
		       kvm_x86_call(get_fault_gva)(vcpu) : KVMI_NO_GVA;

	if (fault->exec)
		return kvmi_fetch_gva(vcpu, fault->gfn);

	return kvmi_arch_vcpu_is_delivering(vcpu) ? KVMI_NO_GVA :
	       kvmi_insn_gva(vcpu, fault->addr, kvmi_fault_access(fault));
}

/*
 * A walk that writes reads as well, but faults once.  Return what to tell of
 * it, 0 if nothing of that is denied.
 */
static u8 kvmi_walk_access(struct kvm_page_fault *fault, u8 denied)
{
	if (fault->write && (denied & KVMI_PAGE_ACCESS_W))
		return KVMI_PAGE_ACCESS_W;

	return denied & KVMI_PAGE_ACCESS_R;
}

/* VMX tells which address it was about to translate. */
static gva_t kvmi_walk_gva(struct kvm_vcpu *vcpu)
{
	return kvm_x86_ops.get_fault_gva ? kvm_x86_call(get_fault_gva)(vcpu) :
					   KVMI_NO_GVA;
}

/**
 * kvmi_arch_reports_walks - does this host tell page walks from other accesses?
 *
 * With shadow paging, it is KVM that walks.
 */
bool kvmi_arch_reports_walks(void)
{
	return tdp_enabled;
}

/**
 * __kvmi_handle_page_fault - is a page fault due to a restriction?
 * @vcpu: the vCPU
 * @fault: the fault, its gfn and memslot known
 *
 * A fault on a restricted page that its mapping would permit is an ordinary
 * one: the page is not mapped yet.
 *
 * Return: true if the fault needs no other handling than to try again.
 */
bool __kvmi_handle_page_fault(struct kvm_vcpu *vcpu,
			      struct kvm_page_fault *fault)
{
	u8 access = kvmi_fault_access(fault);
	gva_t gva = KVMI_NO_GVA;
	u8 denied, relaxed;
	enum kvmi_pf_cause cause = KVMI_PF_SILENT;

	if (fault->prefetch || fault->rsvd || !fault->slot ||
	    (fault->slot->flags & KVM_MEMSLOT_INVALID) ||
	    !kvmi_is_vcpu_restricted(vcpu))
		return false;

	denied = kvmi_access_denied(vcpu->kvm, fault->gfn);
	if (!denied)
		return false;

	relaxed = kvmi_own_root(vcpu) ? kvmi_pf_relaxed(vcpu, fault->gfn) : 0;
	if (!(kvmi_hw_denied(denied, relaxed) & access))
		return false;

	/* What the emulator last did is of no use to this instruction. */
	vcpu->arch.emulate_ctxt->given_up = false;

	if (kvmi_is_page_walk(fault)) {
		u8 walk_access = kvmi_walk_access(fault, denied);

		if (walk_access && kvmi_pf_wants_walks(vcpu)) {
			cause = KVMI_PF_BY_WALK;
			access = walk_access;
			gva = kvmi_walk_gva(vcpu);
		}
	} else if ((denied & access) &&
		   kvmi_is_event_enabled(vcpu, KVMI_VCPU_EVENT_PF)) {
		cause = KVMI_PF_BY_GUEST;
		gva = kvmi_fault_gva(vcpu, fault);
	}

	kvmi_pf_raise(vcpu, gva,
		      gfn_to_gpa(fault->gfn) | offset_in_page(fault->addr),
		      access, cause, kvmi_arch_vcpu_is_delivering(vcpu));

	return true;
}

static bool kvmi_has_read_mmio(struct kvm_vcpu *vcpu)
{
	return vcpu->mmio_nr_fragments && !vcpu->mmio_is_write;
}

/**
 * kvmi_give_up_insn - the emulator leaves an instruction, to begin it anew
 * @vcpu: the vCPU
 * @access: the kind of access that it is given up for, or 0
 *
 * It is started again from the beginning, but what it has read from a device
 * must not be read twice.
 */
void kvmi_give_up_insn(struct kvm_vcpu *vcpu, u8 access)
{
	struct x86_emulate_ctxt *ctxt = vcpu->arch.emulate_ctxt;
	struct read_cache *io = &ctxt->io_read;
	unsigned long taken = ctxt->dst.bytes *
			      (ctxt->dst.type == OP_MEM_STR ? ctxt->dst.count : 1);

	ctxt->given_up = io->end ||
			 (ctxt->mem_read.end && kvmi_has_read_mmio(vcpu));

	/* INS takes its data out of the cache before it writes them. */
	if (access == KVMI_PAGE_ACCESS_W && taken <= io->pos)
		io->pos -= taken;

	/* The registers are as they were before the instruction. */
	vcpu->arch.emulate_regs_need_sync_to_vcpu = false;
}

/*
 * Start an instruction again with the data it has read from a device, unless
 * it is not the same any more: the guest can change it meanwhile.
 */
static int kvmi_restart_insn(struct kvm_vcpu *vcpu)
{
	struct x86_emulate_ctxt *ctxt = vcpu->arch.emulate_ctxt;
	const enum x86emul_mode mode = ctxt->mode;
	const size_t len = ctxt->fetch.ptr - ctxt->fetch.data;
	unsigned long mem_end = ctxt->mem_read.end;
	unsigned long io_pos = ctxt->io_read.pos;
	unsigned long io_end = ctxt->io_read.end;
	u8 bytes[sizeof(ctxt->fetch.data)];

	memcpy(bytes, ctxt->fetch.data, sizeof(bytes));

	/* This leaves the data alone, and forgets how much there is. */
	if (x86_decode_emulated_instruction(vcpu, 0, NULL, 0) != EMULATION_OK)
		return kvm_emulate_instruction(vcpu, 0);

	if (ctxt->mode == mode && ctxt->fetch.ptr - ctxt->fetch.data == len &&
	    !memcmp(bytes, ctxt->fetch.data, len)) {
		ctxt->mem_read.end = mem_end;
		ctxt->io_read.pos = io_pos;
		ctxt->io_read.end = io_end;
	}

	return kvm_emulate_instruction(vcpu, EMULTYPE_NO_DECODE);
}

static bool kvmi_is_emulator_restricted(struct kvm_vcpu *vcpu)
{
	return vcpu->arch.emulate_ctxt->is_insn &&
	       kvmi_is_vcpu_restricted(vcpu) &&
	       kvmi_is_event_enabled(vcpu, KVMI_VCPU_EVENT_PF);
}

static bool kvmi_emulator_access_gpa(struct kvm_vcpu *vcpu, gva_t gva,
				     gpa_t gpa, u8 access)
{
	gfn_t gfn = gpa_to_gfn(gpa);

	if (!(kvmi_access_denied(vcpu->kvm, gfn) & access) ||
	    !kvm_vcpu_gfn_to_memslot(vcpu, gfn) ||
	    kvmi_pf_is_allowed(vcpu, gfn, access, false))
		return false;

	/* An interrupt that the VMM has queued meanwhile is not what accesses. */
	kvmi_give_up_insn(vcpu, access);
	kvmi_pf_raise(vcpu, gva, gpa, access, KVMI_PF_BY_GUEST, false);
	return true;
}

/**
 * __kvmi_emulator_access - does the emulator have to give up the instruction?
 * @vcpu: the vCPU
 * @gva: the linear address that the emulator is going to access
 * @bytes: how much of it, in bytes
 * @pferr: how, in PFERR_* terms
 * @access: how, in KVMI_PAGE_ACCESS_* terms
 *
 * Looks at all pages of the access before the first is touched, so that an
 * instruction which is given up has had no effect.
 */
bool __kvmi_emulator_access(struct kvm_vcpu *vcpu, gva_t gva,
			    unsigned int bytes, u64 pferr, u8 access)
{
	if (!kvmi_is_emulator_restricted(vcpu))
		return false;

	while (bytes) {
		unsigned int n = min_t(unsigned int, bytes,
				       PAGE_SIZE - offset_in_page(gva));
		gpa_t gpa = kvmi_translate(vcpu, gva, pferr);

		/* The guest's own page fault comes first. */
		if (gpa == INVALID_GPA)
			return false;
		if (kvmi_emulator_access_gpa(vcpu, gva, gpa, access))
			return true;

		gva += n;
		bytes -= n;
	}

	return false;
}

/**
 * __kvmi_emulator_pages - the same, if __kvmi_emulator_gpa() is asked later
 * @vcpu: the vCPU
 * @gva: the linear address that the emulator is going to access
 * @bytes: how much of it, in bytes
 * @pferr: how, in PFERR_* terms
 * @access: how, in KVMI_PAGE_ACCESS_* terms
 *
 * That is early enough for a single page, and saves to translate the address
 * twice.  But then it is not known any more whether the instruction has read
 * from a device.
 */
bool __kvmi_emulator_pages(struct kvm_vcpu *vcpu, gva_t gva,
			   unsigned int bytes, u64 pferr, u8 access)
{
	if (offset_in_page(gva) + bytes <= PAGE_SIZE && !kvmi_has_read_mmio(vcpu))
		return false;

	return __kvmi_emulator_access(vcpu, gva, bytes, pferr, access);
}

/**
 * __kvmi_emulator_write_faults - does the guest's own page fault come first?
 * @vcpu: the vCPU
 * @gva: the linear address that the emulator is going to write to
 * @bytes: how much, at most two pages
 * @exception: set to the fault if there is one
 *
 * The emulator writes page by page.  The CPU looks at both before it writes:
 * a store that faults has not written anything.
 */
bool __kvmi_emulator_write_faults(struct kvm_vcpu *vcpu, gva_t gva,
				  unsigned int bytes,
				  struct x86_exception *exception)
{
	struct kvm_mmu *mmu = vcpu->arch.walk_mmu;
	gva_t last = gva + bytes - 1;
	u64 pferr = PFERR_WRITE_MASK;

	if (!kvmi_is_vcpu_restricted(vcpu))
		return false;

	if (kvm_x86_call(get_cpl)(vcpu) == 3)
		pferr |= PFERR_USER_MASK;
	if (!is_64_bit_mode(vcpu))
		last = (u32)last;

	return mmu->gva_to_gpa(vcpu, mmu, gva, pferr, exception) == INVALID_GPA ||
	       mmu->gva_to_gpa(vcpu, mmu, ALIGN_DOWN(last, PAGE_SIZE), pferr,
			       exception) == INVALID_GPA;
}

/**
 * __kvmi_emulator_gpa - does it have to, once it knows where the access goes?
 * @vcpu: the vCPU
 * @gva: the linear address that the emulator is going to access
 * @gpa: the guest-physical address it was translated to
 * @access: how, in KVMI_PAGE_ACCESS_* terms
 *
 * The guest may have changed its page tables since the first look.
 */
bool __kvmi_emulator_gpa(struct kvm_vcpu *vcpu, gva_t gva, gpa_t gpa, u8 access)
{
	return kvmi_is_emulator_restricted(vcpu) &&
	       kvmi_emulator_access_gpa(vcpu, gva, gpa, access);
}

/**
 * kvmi_arch_get_insn - note where a vCPU is
 * @vcpu: the vCPU, on its thread
 * @insn: set to what tells this attempt to execute an instruction from others
 */
void kvmi_arch_get_insn(struct kvm_vcpu *vcpu, struct kvmi_arch_insn *insn)
{
	struct kvmi_step *step = &vcpu->arch.kvmi_step;

	insn->stamp = step->native ? step->stamp : step->exits;
	insn->ip = kvm_rip_read(vcpu);
}

/**
 * kvmi_arch_vcpu_is_delivering - is an interrupt or exception on its way?
 * @vcpu: the vCPU
 *
 * Then the instruction at RIP has not begun and must not be emulated.
 */
bool kvmi_arch_vcpu_is_delivering(struct kvm_vcpu *vcpu)
{
	return kvm_event_needs_reinjection(vcpu) ||
	       kvm_is_exception_pending(vcpu);
}

/**
 * kvmi_look_at_delivery - has what was on its way been delivered?
 * @vcpu: the vCPU, with a translation of its own, just out of the guest
 */
void kvmi_look_at_delivery(struct kvm_vcpu *vcpu)
{
	if (!kvmi_arch_vcpu_is_delivering(vcpu))
		vcpu->arch.kvmi_step.delivered = true;
}

/**
 * kvmi_arch_has_delivered - has it, at some exit since this was last asked?
 * @vcpu: the vCPU, on its thread
 *
 * What is on its way now is something else then.  Known of a vCPU with a
 * translation of its own.
 */
bool kvmi_arch_has_delivered(struct kvm_vcpu *vcpu)
{
	bool delivered = vcpu->arch.kvmi_step.delivered;

	vcpu->arch.kvmi_step.delivered = false;

	return delivered;
}

/**
 * kvmi_emulate_insn - have the emulator carry out the instruction at RIP
 * @vcpu: the vCPU
 *
 * Return: 1 to go on, 0 to exit to user space.
 */
int kvmi_emulate_insn(struct kvm_vcpu *vcpu)
{
	if (vcpu->arch.emulate_ctxt->given_up)
		return kvmi_restart_insn(vcpu);

	return kvm_emulate_instruction(vcpu, 0);
}

/* How often the emulator tries what others write to as well */
#define KVMI_MAX_TRIES	100

/*
 * The emulator stops in the middle of a string, before it has seen that it is
 * at the end, and in the middle of a locked access if somebody else has written
 * meanwhile.  To go on in the guest would make an access again which the tool
 * has heard of.
 */
static int kvmi_emulate_whole(struct kvm_vcpu *vcpu, int emulation_type)
{
	struct x86_emulate_ctxt *ctxt = vcpu->arch.emulate_ctxt;
	unsigned long rip = kvm_rip_read(vcpu);
	unsigned int contended = 0;
	int r;

	for (;;) {
		ctxt->contended = false;
		r = kvm_emulate_instruction(vcpu, emulation_type);

		if (ctxt->contended ? ++contended == KVMI_MAX_TRIES :
				      !ctxt->rep_prefix)
			return r;
		if (r != 1 || kvm_rip_read(vcpu) != rip ||
		    kvmi_pf_is_pending(vcpu) ||
		    kvmi_arch_vcpu_is_delivering(vcpu) ||
		    kvm_test_request(KVM_REQ_EVENT, vcpu) ||
		    kvm_test_request(KVM_REQ_INTROSPECTION, vcpu) ||
		    signal_pending(current))
			return r;

		cond_resched();
		emulation_type = 0;
	}
}

/* What the vCPU's own mapping of a page permits although the tool denies it */
static u8 kvmi_unseen_access(struct kvm_vcpu *vcpu, gfn_t gfn)
{
	u8 denied = kvmi_access_denied(vcpu->kvm, gfn);

	return denied ? denied & ~kvmi_hw_denied(denied,
						 kvmi_pf_relaxed(vcpu, gfn)) : 0;
}

/*
 * One such access, out of @access, that the instruction or the delivery has not
 * been let make yet; 0 if there is none
 */
static u8 kvmi_next_unseen(struct kvm_vcpu *vcpu, gfn_t gfn, u8 access,
			   bool delivering)
{
	u8 unseen = access & kvmi_unseen_access(vcpu, gfn);

	for (access = KVMI_PAGE_ACCESS_R; access <= unseen; access <<= 1)
		if ((access & unseen) &&
		    !kvmi_pf_is_allowed(vcpu, gfn, access, delivering))
			return access;

	return 0;
}

static bool kvmi_may_go_unseen(struct kvm_vcpu *vcpu, gfn_t gfn, bool delivering)
{
	return kvmi_next_unseen(vcpu, gfn, KVMI_PAGE_ACCESS_R |
				KVMI_PAGE_ACCESS_W | KVMI_PAGE_ACCESS_X, delivering);
}

static bool kvmi_raise_unseen_gpa(struct kvm_vcpu *vcpu, gva_t gva, gpa_t gpa,
				  u8 access)
{
	bool delivering = kvmi_arch_vcpu_is_delivering(vcpu);
	gfn_t gfn = gpa_to_gfn(gpa);

	if (!kvm_vcpu_gfn_to_memslot(vcpu, gfn))
		return false;

	access = kvmi_next_unseen(vcpu, gfn, access, delivering);
	if (access)
		kvmi_pf_raise(vcpu, gva, gpa, access, KVMI_PF_BY_GUEST, delivering);

	return access;
}

/*
 * As a write only if it is certain: this sets dirty bits.  Whether the guest may
 * write there is left open else.
 */
static gpa_t kvmi_operand_gpa(struct kvm_vcpu *vcpu,
			      const struct kvmi_operand *operand, gva_t gva)
{
	u64 pferr = 0;

	if (operand->certain && (operand->access & KVMI_PAGE_ACCESS_W))
		pferr |= PFERR_WRITE_MASK;
	if (operand->implicit)
		pferr |= PFERR_IMPLICIT_ACCESS;

	if (is_long_mode(vcpu) &&
	    !__is_canonical_address(gva, vcpu_virt_addr_bits(vcpu)))
		return INVALID_GPA;

	return kvmi_translate(vcpu, gva, pferr);
}

/* Some bits of a pointer may belong to the guest's programs (LAM). */
static gva_t kvmi_untagged_gva(struct kvm_vcpu *vcpu,
			       const struct kvmi_operand *operand)
{
	if (operand->implicit || !kvm_x86_ops.get_untagged_addr)
		return operand->gva;

	return kvm_x86_call(get_untagged_addr)(vcpu, operand->gva, 0);
}

/* #AC, of what has such a size that it has to be aligned */
static bool kvmi_is_misaligned(struct kvm_vcpu *vcpu,
			       const struct kvmi_operand *operand)
{
	return operand->size <= sizeof(u64) && is_power_of_2(operand->size) &&
	       !IS_ALIGNED(operand->gva, operand->size) &&
	       kvmi_is_alignment_checked(vcpu);
}

enum kvmi_unseen {
	/* Nothing to tell of the operand */
	KVMI_UNSEEN_NONE,
	/* An access has been raised. */
	KVMI_UNSEEN_RAISED,
	/* The guest faults, and accesses nothing else. */
	KVMI_UNSEEN_FAULT,
};

static enum kvmi_unseen
kvmi_raise_unseen_operand(struct kvm_vcpu *vcpu,
			  const struct kvmi_operand *operand)
{
	gva_t gva = kvmi_untagged_gva(vcpu, operand);
	unsigned int size = operand->size;

	if (operand->certain && kvmi_is_misaligned(vcpu, operand))
		return KVMI_UNSEEN_FAULT;

	while (size) {
		unsigned int n = min_t(unsigned int, size,
				       PAGE_SIZE - offset_in_page(gva));
		gpa_t gpa = kvmi_operand_gpa(vcpu, operand, gva);

		if (gpa == INVALID_GPA && operand->certain)
			return KVMI_UNSEEN_FAULT;
		if (gpa != INVALID_GPA &&
		    kvmi_raise_unseen_gpa(vcpu, operand->vague ? KVMI_NO_GVA : gva,
					  gpa, operand->access))
			return KVMI_UNSEEN_RAISED;

		gva += n;
		size -= n;
		if (!is_64_bit_mode(vcpu) && !operand->implicit)
			gva = (u32)gva;
	}

	return KVMI_UNSEEN_NONE;
}

/**
 * kvmi_arch_pf_unseen - raise an access that the CPU is to make and not to tell
 * @vcpu: the vCPU, with a translation of its own, on its thread, in a kvm->srcu
 *	section
 *
 * A page that permits to write permits to read, and so on (kvmi_hw_denied()).  An
 * operand in such a page, or in a page table that the CPU had to be let write to
 * for its walk, causes no fault.  Nor does what is used to deliver an interrupt or
 * exception.
 */
void kvmi_arch_pf_unseen(struct kvm_vcpu *vcpu)
{
	bool delivering = kvmi_arch_vcpu_is_delivering(vcpu);
	struct kvmi_operand operands[KVMI_MAX_OPERANDS];
	unsigned int i, n;

	if (!kvmi_is_vcpu_restricted(vcpu) ||
	    !kvmi_is_event_enabled(vcpu, KVMI_VCPU_EVENT_PF) ||
	    !kvmi_pf_any_relaxed(vcpu, kvmi_may_go_unseen, delivering))
		return;

	n = delivering ? kvmi_delivery_operands(vcpu, operands) :
			 kvmi_insn_operands(vcpu, operands);
	for (i = 0; i < n; i++)
		if (kvmi_raise_unseen_operand(vcpu, &operands[i]) != KVMI_UNSEEN_NONE)
			return;
}

/**
 * kvmi_arch_pf_continue - carry out the instruction at RIP
 * @vcpu: the vCPU
 *
 * What has read from a device is the emulator's anyway.
 *
 * Return: 1 to go on, 0 to exit to user space, KVMI_GO_ON_NATIVELY if the CPU
 * is to carry it out.
 */
int kvmi_arch_pf_continue(struct kvm_vcpu *vcpu)
{
	struct x86_emulate_ctxt *ctxt = vcpu->arch.emulate_ctxt;
	int r;

	if (ctxt->given_up)
		return kvmi_restart_insn(vcpu);
	if (!kvmi_arch_step_is_supported())
		return kvmi_emulate_whole(vcpu, 0);

	r = x86_decode_emulated_instruction(vcpu, 0, NULL, 0);
	if (kvmi_pf_is_pending(vcpu))
		return 1;

	if (r == EMULATION_OK && kvmi_must_emulate(ctxt)) {
		/* The guest's own trap comes after the next one, too. */
		ctxt->tf = false;
		return kvmi_emulate_whole(vcpu, EMULTYPE_NO_DECODE);
	}

	if (r == EMULATION_OK && kvmi_can_emulate(vcpu) &&
	    !kvmi_pf_wants_walks(vcpu)) {
		r = kvmi_emulate_whole(vcpu, EMULTYPE_NO_DECODE);
		if (!ctxt->contended)
			return r;
		/* The CPU gets it done. */
	}

	return KVMI_GO_ON_NATIVELY;
}
