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
#include <asm/debugreg.h>
#include <uapi/linux/kvmi.h>
#include "kvm_emulate.h"

/* A linear address that is not known */
#define KVMI_NO_GVA	(~(gva_t)0)

/* The MSR bitmaps of both vendors cover twice as many. */
#define KVMI_NUM_MSRS	0x2000

struct kvm_mmu_page;
struct kvm_page_fault;

#ifdef CONFIG_KVM_INTROSPECTION

/* The most that one instruction has in memory: as many as it can gather */
#define KVMI_MAX_OPERANDS	16

/**
 * struct kvmi_operand - a place in memory that an instruction accesses
 * @gva: its linear address
 * @size: its size in bytes, or the most that it can be
 * @access: how, in KVMI_PAGE_ACCESS_* terms
 * @certain: all of it is accessed at once, unless the guest faults
 * @implicit: it is the CPU's doing, which may do it at any privilege level
 * @vague: it begins elsewhere
 */
struct kvmi_operand {
	gva_t gva;
	u16 size;
	u8 access;
	bool certain;
	bool implicit;
	bool vague;
};

u64 __kvmi_restrict_spte(struct kvm_vcpu *vcpu, struct kvm_mmu_page *sp,
			 const struct kvm_memory_slot *slot, gfn_t gfn,
			 u64 spte);
int __kvmi_max_mapping_level(struct kvm *kvm,
			     const struct kvm_memory_slot *slot, gfn_t gfn,
			     int max_level);
bool __kvmi_handle_page_fault(struct kvm_vcpu *vcpu,
			      struct kvm_page_fault *fault);
bool __kvmi_emulator_access(struct kvm_vcpu *vcpu, gva_t gva,
			    unsigned int bytes, u64 pferr, u8 access);
bool __kvmi_emulator_pages(struct kvm_vcpu *vcpu, gva_t gva,
			   unsigned int bytes, u64 pferr, u8 access);
bool __kvmi_emulator_write_faults(struct kvm_vcpu *vcpu, gva_t gva,
				  unsigned int bytes,
				  struct x86_exception *exception);
bool __kvmi_emulator_gpa(struct kvm_vcpu *vcpu, gva_t gva, gpa_t gpa,
			 u8 access);
u8 kvmi_relax_own(struct kvm_vcpu *vcpu, gfn_t gfn);
void kvmi_zap_own_roots(struct kvm *kvm);
void kvmi_look_at_delivery(struct kvm_vcpu *vcpu);
u8 kvmi_hw_denied(u8 denied, u8 relaxed);
gpa_t kvmi_translate(struct kvm_vcpu *vcpu, gva_t gva, u64 pferr);
unsigned int kvmi_fetch_insn(struct kvm_vcpu *vcpu, u8 *bytes);
gva_t kvmi_insn_gva(struct kvm_vcpu *vcpu, gpa_t gpa, u8 access);
unsigned int kvmi_insn_operands(struct kvm_vcpu *vcpu,
				struct kvmi_operand *operands);
unsigned int kvmi_delivery_operands(struct kvm_vcpu *vcpu,
				    struct kvmi_operand *operands);
bool kvmi_insn_goes_on(struct kvm_vcpu *vcpu);
bool kvmi_is_alignment_checked(struct kvm_vcpu *vcpu);
bool kvmi_must_emulate(const struct x86_emulate_ctxt *ctxt);
bool kvmi_can_emulate(struct kvm_vcpu *vcpu);
int kvmi_emulate_insn(struct kvm_vcpu *vcpu);
void kvmi_give_up_insn(struct kvm_vcpu *vcpu, u8 access);
bool kvmi_pf_is_pending(struct kvm_vcpu *vcpu);
bool kvmi_pf_is_relaxing(struct kvm_vcpu *vcpu);
bool kvmi_inject_is_entering(struct kvm_vcpu *vcpu);
bool __kvmi_holds_events(struct kvm_vcpu *vcpu);
bool __kvmi_step_enter(struct kvm_vcpu *vcpu);
void kvmi_step_leave(struct kvm_vcpu *vcpu, bool done);
void __kvmi_step_emulated(struct kvm_vcpu *vcpu);

/**
 * struct kvmi_intercepts - what one vCPU intercepts for the tool
 * @drop: their session has ended, the vCPU has to lift them
 * @bp: #BP
 * @desc: the instructions that access descriptor-table registers
 * @cr: mask of the control registers whose writes are intercepted
 * @msr: whether writes of the MSRs in @msrs are
 * @cr_events: whether the tool wants to hear of the registers in @cr_selected
 * @cr_selected: mask of control registers
 * @msrs: MSRs from 0 and from 0xc0000000 on
 *
 * Exists from the first time that something is intercepted until all of it is
 * lifted.  Only the thread of the vCPU changes it, @drop excepted.
 */
struct kvmi_intercepts {
	bool drop;
	bool bp;
	bool desc;
	bool msr;
	bool cr_events;
	u8 cr;
	u8 cr_selected;
	DECLARE_BITMAP(msrs, 2 * KVMI_NUM_MSRS);
};

void __kvmi_refresh_intercepts(struct kvm_vcpu *vcpu);
bool __kvmi_intercepts_msr(struct kvm_vcpu *vcpu, u32 msr);
bool __kvmi_write_cr(struct kvm_vcpu *vcpu, int cr, unsigned long val);
bool __kvmi_set_emulated_cr(struct kvm_vcpu *vcpu, int cr, int *err);
bool __kvmi_wrmsr(struct kvm_vcpu *vcpu, u32 msr, u64 *data);
u64 __kvmi_emulated_msr(struct kvm_vcpu *vcpu, u32 msr, u64 data);
bool __kvmi_xsetbv(struct kvm_vcpu *vcpu, u32 xcr, u64 val);
bool __kvmi_hypercall(struct kvm_vcpu *vcpu);
bool __kvmi_breakpoint(struct kvm_vcpu *vcpu, u32 insn_len);
bool __kvmi_emulates_for_tool(struct kvm_vcpu *vcpu);
int kvmi_emulator_intercept(struct kvm_vcpu *vcpu,
			    const struct x86_instruction_info *info,
			    enum x86_intercept_stage stage);

/* Does anything that belongs to the tool have to be looked at? */
static inline struct kvmi_intercepts *kvmi_intercepts(struct kvm_vcpu *vcpu)
{
	return kvmi_hooked() ? vcpu->kvmi_intercepts : NULL;
}

static inline bool kvmi_intercepts_bp(struct kvm_vcpu *vcpu)
{
	struct kvmi_intercepts *icpt = kvmi_intercepts(vcpu);

	return icpt && icpt->bp;
}

static inline bool kvmi_intercepts_desc(struct kvm_vcpu *vcpu)
{
	struct kvmi_intercepts *icpt = kvmi_intercepts(vcpu);

	return icpt && icpt->desc;
}

static inline bool kvmi_intercepts_cr(struct kvm_vcpu *vcpu, int cr)
{
	struct kvmi_intercepts *icpt = kvmi_intercepts(vcpu);

	return icpt && (icpt->cr & BIT(cr));
}

/* The hardware's state may not be what it was. */
static inline void kvmi_refresh_intercepts(struct kvm_vcpu *vcpu)
{
	if (kvmi_intercepts(vcpu))
		__kvmi_refresh_intercepts(vcpu);
}

/* Writes of it, for the MSR bitmaps */
static inline bool kvmi_intercepts_msr(struct kvm_vcpu *vcpu, u32 msr)
{
	struct kvmi_intercepts *icpt = kvmi_intercepts(vcpu);

	return icpt && icpt->msr && __kvmi_intercepts_msr(vcpu, msr);
}

/*
 * The following are asked before an instruction has had any effect.  If they
 * return true it is given up: the rest is done before the guest is entered
 * again.
 */

/* A write of a control register */
static inline bool kvmi_write_cr(struct kvm_vcpu *vcpu, int cr,
				 unsigned long val)
{
	return kvmi_intercepts_cr(vcpu, cr) && __kvmi_write_cr(vcpu, cr, val);
}

/* WRMSR; @data is what to write if it returns false. */
static inline bool kvmi_wrmsr(struct kvm_vcpu *vcpu, u32 msr, u64 *data)
{
	return kvmi_hooked() && __kvmi_wrmsr(vcpu, msr, data);
}

static inline bool kvmi_xsetbv(struct kvm_vcpu *vcpu, u32 xcr, u64 val)
{
	return kvmi_hooked() && __kvmi_xsetbv(vcpu, xcr, val);
}

static inline bool kvmi_hypercall(struct kvm_vcpu *vcpu)
{
	return kvmi_hooked() && __kvmi_hypercall(vcpu);
}

/* INT3, unless nobody but the VMM wants it; @insn_len is 0 if not known */
static inline bool kvmi_breakpoint(struct kvm_vcpu *vcpu, u32 insn_len)
{
	return kvmi_intercepts_bp(vcpu) && __kvmi_breakpoint(vcpu, insn_len);
}

/* Does the emulator have to ask kvmi_emulator_intercept()? */
static inline bool kvmi_emulates_for_tool(struct kvm_vcpu *vcpu)
{
	return kvmi_hooked() && __kvmi_emulates_for_tool(vcpu);
}

/* Has the emulator to write the tool's value?  Then @err tells how that went. */
static inline bool kvmi_set_emulated_cr(struct kvm_vcpu *vcpu, int cr, int *err)
{
	return kvmi_hooked() && __kvmi_set_emulated_cr(vcpu, cr, err);
}

/* What the emulator writes to an MSR: the tool's value, if there is one. */
static inline u64 kvmi_emulated_msr(struct kvm_vcpu *vcpu, u32 msr, u64 data)
{
	return kvmi_hooked() ? __kvmi_emulated_msr(vcpu, msr, data) : data;
}

/* Take from a new SPTE what the tool has taken from the page. */
static inline u64 kvmi_restrict_spte(struct kvm_vcpu *vcpu,
				     struct kvm_mmu_page *sp,
				     const struct kvm_memory_slot *slot,
				     gfn_t gfn, u64 spte)
{
	return kvmi_hooked() ? __kvmi_restrict_spte(vcpu, sp, slot, gfn, spte) :
			       spte;
}

/* The number of the vCPU's own root, 0 if it uses the one that all use. */
static inline u8 kvmi_own_root(struct kvm_vcpu *vcpu)
{
	return vcpu->arch.kvmi_step.own_root;
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

/* The same, where kvmi_emulator_gpa() follows for each page */
static inline bool kvmi_emulator_pages(struct kvm_vcpu *vcpu, gva_t gva,
				       unsigned int bytes, u64 pferr,
				       u8 access)
{
	return kvmi_hooked() &&
	       __kvmi_emulator_pages(vcpu, gva, bytes, pferr, access);
}

/* Does the guest get a page fault of one of the pages that are written to? */
static inline bool kvmi_emulator_write_faults(struct kvm_vcpu *vcpu, gva_t gva,
					      unsigned int bytes,
					      struct x86_exception *exception)
{
	return kvmi_hooked() &&
	       __kvmi_emulator_write_faults(vcpu, gva, bytes, exception);
}

/* The same as kvmi_emulator_access(), where the address has been translated. */
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

/* The vCPU has been in the guest, and what it could not deliver is queued again. */
static inline void kvmi_count_exit(struct kvm_vcpu *vcpu)
{
	if (!kvmi_hooked())
		return;

	vcpu->arch.kvmi_step.exits++;
	if (kvmi_own_root(vcpu))
		kvmi_look_at_delivery(vcpu);
}

/* Is breakpoint @i enabled by @dr7, and not for an instruction? */
static inline bool kvmi_is_data_breakpoint(unsigned long dr7, int i)
{
	return ((dr7 >> (i * DR_ENABLE_SIZE)) & 3) &&
	       ((dr7 >> (DR_CONTROL_SHIFT + i * DR_CONTROL_SIZE)) & 3);
}

/* Does the vCPU execute one instruction at a time? */
static inline bool kvmi_is_stepped(struct kvm_vcpu *vcpu)
{
	return kvmi_hooked() && READ_ONCE(vcpu->arch.kvmi_step.on);
}

/* Must interrupts, NMIs and SMIs wait? */
static inline bool kvmi_holds_events(struct kvm_vcpu *vcpu)
{
	return kvmi_hooked() && __kvmi_holds_events(vcpu);
}

/* Is the guest to be entered for one instruction, or one event? */
static inline bool kvmi_step_enter(struct kvm_vcpu *vcpu)
{
	return kvmi_hooked() && __kvmi_step_enter(vcpu);
}

/* Was it?  Then kvmi_step_leave() is to be called. */
static inline bool kvmi_is_step_armed(struct kvm_vcpu *vcpu)
{
	return kvmi_hooked() && vcpu->arch.kvmi_step.armed;
}

/* KVM has executed an instruction of the guest's. */
static inline void kvmi_step_emulated(struct kvm_vcpu *vcpu)
{
	if (kvmi_hooked())
		__kvmi_step_emulated(vcpu);
}

/* It was HLT or the like, and only an interrupt can end that. */
static inline void kvmi_step_halted(struct kvm_vcpu *vcpu)
{
	if (kvmi_hooked())
		vcpu->arch.kvmi_step.let_in = true;
}

#else /* CONFIG_KVM_INTROSPECTION */

static inline struct kvmi_intercepts *kvmi_intercepts(struct kvm_vcpu *vcpu)
{
	return NULL;
}

static inline bool kvmi_intercepts_bp(struct kvm_vcpu *vcpu)
{
	return false;
}

static inline bool kvmi_intercepts_desc(struct kvm_vcpu *vcpu)
{
	return false;
}

static inline bool kvmi_intercepts_cr(struct kvm_vcpu *vcpu, int cr)
{
	return false;
}

static inline void kvmi_refresh_intercepts(struct kvm_vcpu *vcpu) { }

static inline bool kvmi_intercepts_msr(struct kvm_vcpu *vcpu, u32 msr)
{
	return false;
}

static inline bool kvmi_write_cr(struct kvm_vcpu *vcpu, int cr,
				 unsigned long val)
{
	return false;
}

static inline bool kvmi_wrmsr(struct kvm_vcpu *vcpu, u32 msr, u64 *data)
{
	return false;
}

static inline bool kvmi_xsetbv(struct kvm_vcpu *vcpu, u32 xcr, u64 val)
{
	return false;
}

static inline bool kvmi_hypercall(struct kvm_vcpu *vcpu)
{
	return false;
}

static inline bool kvmi_breakpoint(struct kvm_vcpu *vcpu, u32 insn_len)
{
	return false;
}

static inline bool kvmi_emulates_for_tool(struct kvm_vcpu *vcpu)
{
	return false;
}

static inline int
kvmi_emulator_intercept(struct kvm_vcpu *vcpu,
			const struct x86_instruction_info *info,
			enum x86_intercept_stage stage)
{
	return 0;
}

static inline bool kvmi_set_emulated_cr(struct kvm_vcpu *vcpu, int cr, int *err)
{
	return false;
}

static inline u64 kvmi_emulated_msr(struct kvm_vcpu *vcpu, u32 msr, u64 data)
{
	return data;
}

static inline u64 kvmi_restrict_spte(struct kvm_vcpu *vcpu,
				     struct kvm_mmu_page *sp,
				     const struct kvm_memory_slot *slot,
				     gfn_t gfn, u64 spte)
{
	return spte;
}

static inline u8 kvmi_own_root(struct kvm_vcpu *vcpu)
{
	return 0;
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

static inline bool kvmi_emulator_pages(struct kvm_vcpu *vcpu, gva_t gva,
				       unsigned int bytes, u64 pferr,
				       u8 access)
{
	return false;
}

static inline bool kvmi_emulator_write_faults(struct kvm_vcpu *vcpu, gva_t gva,
					      unsigned int bytes,
					      struct x86_exception *exception)
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

static inline void kvmi_count_exit(struct kvm_vcpu *vcpu) { }

static inline bool kvmi_is_stepped(struct kvm_vcpu *vcpu)
{
	return false;
}

static inline bool kvmi_holds_events(struct kvm_vcpu *vcpu)
{
	return false;
}

static inline bool kvmi_step_enter(struct kvm_vcpu *vcpu)
{
	return false;
}

static inline bool kvmi_is_step_armed(struct kvm_vcpu *vcpu)
{
	return false;
}

static inline void kvmi_step_leave(struct kvm_vcpu *vcpu, bool done) { }

static inline void kvmi_step_emulated(struct kvm_vcpu *vcpu) { }

static inline void kvmi_step_halted(struct kvm_vcpu *vcpu) { }

#endif /* CONFIG_KVM_INTROSPECTION */

#endif /* __KVM_X86_KVMI_H */
