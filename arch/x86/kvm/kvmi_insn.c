// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM introspection on x86: the instructions that the tool is asked about
 *
 * They are found in two places: in the handlers of exits, and in KVM's
 * instruction emulator, at the point where it lets L1 intercept an instruction
 * of L2.  Both give up the instruction before it had any effect, see
 * virt/kvm/introspection/insn.c.  It is completed the way it was begun:
 *
 *   a write of a control register		here, by kvmi_complete_cr()
 *   WRMSR, XSETBV			by the function that had given it up
 *   INT3				#BP is queued, or the VMM gets its exit
 *   the hypercall			here, by kvmi_complete_hypercall()
 *   anything found by the emulator	by the emulator
 *
 * The instructions that access descriptor-table registers always go to the
 * emulator.
 *
 * What L2 does, and what is done in SMM, is not reported.
 *
 * All of this runs on the thread of the vCPU, in a kvm->srcu section.
 */

#include <linux/kvmi_arch.h>
#include <asm/fpu/xcr.h>
#include <uapi/linux/kvm_para.h>
#include "kvm_cache_regs.h"
#include "kvm_emulate.h"
#include "kvmi.h"
#include "lapic.h"
#include "mmu.h"
#include "smm.h"
#include "x86.h"

#define KVMI_CONTINUE_OR_CRASH	(BIT(KVMI_EVENT_ACTION_CONTINUE) | \
				 BIT(KVMI_EVENT_ACTION_CRASH))
#define KVMI_ANY_ACTION		(KVMI_CONTINUE_OR_CRASH | \
				 BIT(KVMI_EVENT_ACTION_RETRY))

static bool kvmi_wants_insn(struct kvm_vcpu *vcpu, u16 id)
{
	return !is_guest_mode(vcpu) && !is_smm(vcpu) &&
	       kvmi_is_event_enabled(vcpu, id);
}

/**
 * __kvmi_emulates_for_tool - has the emulator to ask about instructions?
 * @vcpu: the vCPU
 *
 * Return: true if it has to call kvmi_emulator_intercept().
 */
bool __kvmi_emulates_for_tool(struct kvm_vcpu *vcpu)
{
	return !is_guest_mode(vcpu) && !is_smm(vcpu) &&
	       (vcpu->kvmi_intercepts ||
		kvmi_is_event_enabled(vcpu, KVMI_VCPU_EVENT_XSETBV));
}

static int kvmi_complete_emulation(struct kvm_vcpu *vcpu)
{
	return kvmi_emulate_insn(vcpu);
}

/* ---- control registers ---- */

static int kvmi_set_cr(struct kvm_vcpu *vcpu, int cr, u64 val)
{
	if (!is_64_bit_mode(vcpu))
		val = (u32)val;

	switch (cr) {
	case 0:
		return kvm_set_cr0(vcpu, val);
	case 3:
		return kvm_set_cr3(vcpu, val);
	default:
		return kvm_set_cr4(vcpu, val);
	}
}

static u64 kvmi_read_cr(struct kvm_vcpu *vcpu, int cr)
{
	switch (cr) {
	case 0:
		return kvm_read_cr0(vcpu);
	case 3:
		return kvm_read_cr3(vcpu);
	default:
		return kvm_read_cr4(vcpu);
	}
}

/*
 * What KVM can intercept without too many exits: not all bits of CR0, whoever
 * carries out the write.
 */
static u64 kvmi_cr0_ignored(void)
{
	/* As the selective intercept has it */
	if (boot_cpu_has(X86_FEATURE_SVM))
		return X86_CR0_TS | X86_CR0_MP;

	return X86_CR0_TS;
}

/* Not all of what is written to CR3 is kept there. */
static bool kvmi_is_cr_changed(struct kvm_vcpu *vcpu, int cr, u64 old, u64 val)
{
	u64 ignored = 0;

	if (cr == 0)
		ignored = kvmi_cr0_ignored();
	if (cr == 3 && kvm_is_cr4_bit_set(vcpu, X86_CR4_PCIDE))
		ignored = X86_CR3_PCID_NOFLUSH;

	return (old ^ val) & ~ignored;
}

static bool kvmi_raise_cr(struct kvm_vcpu *vcpu, int cr, u64 val,
			  int (*complete)(struct kvm_vcpu *vcpu))
{
	u64 old = kvmi_read_cr(vcpu, cr);
	struct kvmi_insn_event event = {
		.id = KVMI_VCPU_EVENT_CR,
		.actions = KVMI_CONTINUE_OR_CRASH,
		.size = sizeof(struct kvmi_vcpu_event_cr),
		.reply_size = sizeof(struct kvmi_vcpu_event_cr_reply),
		.data = { cr, old, val },
		.value = val,
		.complete = complete,
	};

	if (!kvmi_wants_insn(vcpu, KVMI_VCPU_EVENT_CR) ||
	    !kvmi_is_cr_changed(vcpu, cr, old, val))
		return false;

	kvmi_insn_raise(vcpu, &event);
	return true;
}

static int __kvmi_complete_cr(struct kvm_vcpu *vcpu, int cr)
{
	u64 val;

	/* Can only have become untrue with the VMM's doing. */
	if (!kvmi_insn_answer(vcpu, KVMI_VCPU_EVENT_CR, cr, &val))
		return 1;

	return kvm_complete_insn_gp(vcpu, kvmi_set_cr(vcpu, cr, val));
}

static int kvmi_complete_cr0(struct kvm_vcpu *vcpu)
{
	return __kvmi_complete_cr(vcpu, 0);
}

static int kvmi_complete_cr3(struct kvm_vcpu *vcpu)
{
	return __kvmi_complete_cr(vcpu, 3);
}

static int kvmi_complete_cr4(struct kvm_vcpu *vcpu)
{
	return __kvmi_complete_cr(vcpu, 4);
}

/**
 * __kvmi_write_cr - the guest writes a control register
 * @vcpu: the vCPU
 * @cr: 0, 3 or 4, and selected
 * @val: the value
 *
 * Return: true if the instruction is given up, to ask the tool first.
 */
bool __kvmi_write_cr(struct kvm_vcpu *vcpu, int cr, unsigned long val)
{
	return kvmi_raise_cr(vcpu, cr, val, cr == 0 ? kvmi_complete_cr0 :
					    cr == 3 ? kvmi_complete_cr3 :
						      kvmi_complete_cr4);
}
EXPORT_SYMBOL_GPL(__kvmi_write_cr);

/**
 * __kvmi_set_emulated_cr - write the tool's value, if it has replied one
 * @vcpu: the vCPU
 * @cr: the register that the emulator is about to write
 * @err: set to the outcome of the write
 *
 * Return: false if the emulator is to write the guest's value.
 */
bool __kvmi_set_emulated_cr(struct kvm_vcpu *vcpu, int cr, int *err)
{
	u64 val;

	if (!kvmi_insn_answer(vcpu, KVMI_VCPU_EVENT_CR, cr, &val))
		return false;

	*err = kvmi_set_cr(vcpu, cr, val);
	return true;
}

/* ---- MSRs ---- */

/* There is no old value, and each write does something. */
static bool kvmi_is_write_only_msr(struct kvm_vcpu *vcpu, u32 msr)
{
	switch (msr) {
	case APIC_BASE_MSR + (APIC_EOI >> 4):
	case APIC_BASE_MSR + (APIC_SELF_IPI >> 4):
		return lapic_in_kernel(vcpu) && apic_x2apic_mode(vcpu->arch.apic);
	case MSR_IA32_PRED_CMD:
	case MSR_IA32_FLUSH_CMD:
		return true;
	default:
		return false;
	}
}

/* What the guest is going to replace; false if there is no such MSR. */
static bool kvmi_get_old_msr(struct kvm_vcpu *vcpu, u32 msr, u64 *old,
			     bool *write_only)
{
	*write_only = kvmi_is_write_only_msr(vcpu, msr);

	return *write_only || !__kvm_get_msr(vcpu, msr, old, true);
}

static bool kvmi_raise_msr(struct kvm_vcpu *vcpu, u32 msr, u64 data,
			   int (*complete)(struct kvm_vcpu *vcpu))
{
	struct kvmi_insn_event event = {
		.id = KVMI_VCPU_EVENT_MSR,
		.actions = KVMI_CONTINUE_OR_CRASH,
		.size = sizeof(struct kvmi_vcpu_event_msr),
		.reply_size = sizeof(struct kvmi_vcpu_event_msr_reply),
		.data = { msr, 0, data },
		.value = data,
		.complete = complete,
	};
	bool write_only;

	if (!kvmi_wants_insn(vcpu, KVMI_VCPU_EVENT_MSR) ||
	    !kvmi_get_old_msr(vcpu, msr, &event.data[1], &write_only) ||
	    (event.data[1] == data && !write_only))
		return false;

	kvmi_insn_raise(vcpu, &event);
	return true;
}

/**
 * __kvmi_wrmsr - the guest executes WRMSR
 * @vcpu: the vCPU
 * @msr: the MSR
 * @data: the value, replaced by the tool's if it has replied
 *
 * Return: true if the instruction is given up, to ask the tool first.
 */
bool __kvmi_wrmsr(struct kvm_vcpu *vcpu, u32 msr, u64 *data)
{
	return !kvmi_insn_answer(vcpu, KVMI_VCPU_EVENT_MSR, msr, data) &&
	       kvmi_intercepts_msr(vcpu, msr) &&
	       kvmi_raise_msr(vcpu, msr, *data, kvm_emulate_wrmsr);
}

/**
 * __kvmi_emulated_msr - what the emulator is to write to an MSR
 * @vcpu: the vCPU
 * @msr: the MSR
 * @data: what the guest wants
 *
 * Return: the tool's value if it has replied, or else @data.
 */
u64 __kvmi_emulated_msr(struct kvm_vcpu *vcpu, u32 msr, u64 data)
{
	kvmi_insn_answer(vcpu, KVMI_VCPU_EVENT_MSR, msr, &data);

	return data;
}

/* ---- XSETBV ---- */

static bool kvmi_raise_xsetbv(struct kvm_vcpu *vcpu, u32 xcr, u64 val,
			      int (*complete)(struct kvm_vcpu *vcpu))
{
	struct kvmi_insn_event event = {
		.id = KVMI_VCPU_EVENT_XSETBV,
		.actions = KVMI_CONTINUE_OR_CRASH,
		.size = sizeof(struct kvmi_vcpu_event_xsetbv),
		.data = { xcr, vcpu->arch.xcr0, val },
		.complete = complete,
	};
	u64 unused;

	/* There is no other register. */
	if (xcr != XCR_XFEATURE_ENABLED_MASK || val == vcpu->arch.xcr0 ||
	    kvm_x86_call(get_cpl)(vcpu) ||
	    !kvmi_wants_insn(vcpu, KVMI_VCPU_EVENT_XSETBV) ||
	    kvmi_insn_answer(vcpu, KVMI_VCPU_EVENT_XSETBV, xcr, &unused))
		return false;

	kvmi_insn_raise(vcpu, &event);
	return true;
}

/**
 * __kvmi_xsetbv - the guest executes XSETBV
 * @vcpu: the vCPU
 * @xcr: the register
 * @val: the value
 *
 * Return: true if the instruction is given up, to ask the tool first.
 */
bool __kvmi_xsetbv(struct kvm_vcpu *vcpu, u32 xcr, u64 val)
{
	return kvmi_raise_xsetbv(vcpu, xcr, val, kvm_emulate_xsetbv);
}

/* ---- the hypercall ---- */

static bool kvmi_is_hypercall(struct kvm_vcpu *vcpu)
{
	if (is_64_bit_hypercall(vcpu))
		return kvm_rax_read(vcpu) == KVM_HC_XEN_HVM_OP &&
		       kvm_rdi_read(vcpu) == KVM_HC_XEN_HVM_OP_GUEST_REQUEST_VM_EVENT &&
		       !kvm_rsi_read(vcpu);

	return (u32)kvm_rax_read(vcpu) == KVM_HC_XEN_HVM_OP &&
	       (u32)kvm_rbx_read(vcpu) == KVM_HC_XEN_HVM_OP_GUEST_REQUEST_VM_EVENT &&
	       !(u32)kvm_rcx_read(vcpu);
}

static int kvmi_complete_hypercall(struct kvm_vcpu *vcpu)
{
	kvm_rax_write(vcpu, 0);
	++vcpu->stat.hypercalls;

	return kvm_skip_emulated_instruction(vcpu);
}

/**
 * __kvmi_hypercall - the guest makes a hypercall
 * @vcpu: the vCPU
 *
 * Return: true if it is one for the tool, which is asked first.
 */
bool __kvmi_hypercall(struct kvm_vcpu *vcpu)
{
	static const struct kvmi_insn_event event = {
		.id = KVMI_VCPU_EVENT_HYPERCALL,
		.actions = KVMI_CONTINUE_OR_CRASH,
		.complete = kvmi_complete_hypercall,
	};

	if (!kvmi_is_hypercall(vcpu) ||
	    !kvmi_wants_insn(vcpu, KVMI_VCPU_EVENT_HYPERCALL))
		return false;

	kvmi_insn_raise(vcpu, &event);
	return true;
}

/* ---- breakpoints ---- */

/* What would have been done without a tool */
static int kvmi_complete_breakpoint(struct kvm_vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;

	if (vcpu->guest_debug & KVM_GUESTDBG_USE_SW_BP) {
		run->exit_reason = KVM_EXIT_DEBUG;
		run->debug.arch.pc = kvm_get_linear_rip(vcpu);
		run->debug.arch.exception = BP_VECTOR;
		return 0;
	}

	kvm_queue_exception(vcpu, BP_VECTOR);
	return 1;
}

static u64 kvmi_rip_gpa(struct kvm_vcpu *vcpu)
{
	struct kvm_mmu *mmu = vcpu->arch.walk_mmu;
	u64 access = PFERR_FETCH_MASK;

	if (kvm_x86_call(get_cpl)(vcpu) == 3)
		access |= PFERR_USER_MASK;

	return mmu->gva_to_gpa(vcpu, mmu, kvm_get_linear_rip(vcpu), access,
			       NULL);
}

/* The length of INT3: the CPU need not tell. */
static u8 kvmi_insn_len(struct kvm_vcpu *vcpu)
{
	struct x86_emulate_ctxt *ctxt = vcpu->arch.emulate_ctxt;

	if (x86_decode_emulated_instruction(vcpu, EMULTYPE_SKIP, NULL, 0) !=
	    EMULATION_OK)
		return 1;

	return ctxt->fetch.ptr - ctxt->fetch.data;
}

/**
 * __kvmi_breakpoint - the guest has come to an intercepted INT3
 * @vcpu: the vCPU
 * @insn_len: the length of the instruction, or 0 if that is not known
 *
 * Return: false if it is for the VMM alone; else all is done, or will be.
 */
bool __kvmi_breakpoint(struct kvm_vcpu *vcpu, u32 insn_len)
{
	struct kvmi_vcpu_event_breakpoint *bp;
	struct kvmi_insn_event event = {
		.id = KVMI_VCPU_EVENT_BREAKPOINT,
		.actions = KVMI_ANY_ACTION,
		.size = sizeof(*bp),
		.complete = kvmi_complete_breakpoint,
	};

	if (!kvmi_wants_insn(vcpu, KVMI_VCPU_EVENT_BREAKPOINT)) {
		if (vcpu->guest_debug & KVM_GUESTDBG_USE_SW_BP)
			return false;
		kvm_queue_exception(vcpu, BP_VECTOR);
		return true;
	}

	bp = (void *)event.data;
	bp->gpa = kvmi_rip_gpa(vcpu);
	bp->insn_len = insn_len ?: kvmi_insn_len(vcpu);
	kvmi_insn_raise(vcpu, &event);
	return true;
}
EXPORT_SYMBOL_GPL(__kvmi_breakpoint);

/* ---- the emulator ---- */

static bool kvmi_raise_desc(struct kvm_vcpu *vcpu, u8 descriptor, bool write)
{
	struct kvmi_vcpu_event_descriptor *desc;
	struct kvmi_insn_event event = {
		.id = KVMI_VCPU_EVENT_DESCRIPTOR,
		.actions = KVMI_ANY_ACTION,
		.size = sizeof(*desc),
		.complete = kvmi_complete_emulation,
	};
	u64 unused;

	desc = (void *)event.data;
	desc->descriptor = descriptor;
	desc->write = write;

	if (!kvmi_wants_insn(vcpu, KVMI_VCPU_EVENT_DESCRIPTOR) ||
	    kvmi_insn_answer(vcpu, KVMI_VCPU_EVENT_DESCRIPTOR, event.data[0],
			     &unused))
		return false;

	kvmi_insn_raise(vcpu, &event);
	return true;
}

static bool kvmi_emulator_cr(struct kvm_vcpu *vcpu, int cr, u64 val)
{
	u64 unused;

	return kvmi_intercepts_cr(vcpu, cr) &&
	       !kvmi_insn_answer(vcpu, KVMI_VCPU_EVENT_CR, cr, &unused) &&
	       kvmi_raise_cr(vcpu, cr, val, kvmi_complete_emulation);
}

static bool kvmi_emulator_msr(struct kvm_vcpu *vcpu, u32 msr, u64 data)
{
	u64 unused;

	return kvmi_intercepts_msr(vcpu, msr) &&
	       !kvmi_insn_answer(vcpu, KVMI_VCPU_EVENT_MSR, msr, &unused) &&
	       kvmi_raise_msr(vcpu, msr, data, kvmi_complete_emulation);
}

static bool kvmi_gives_up(struct kvm_vcpu *vcpu,
			  const struct x86_instruction_info *info)
{
	u64 cr0;

	switch (info->intercept) {
	case x86_intercept_cr_write:
		return kvmi_emulator_cr(vcpu, info->modrm_reg,
					is_64_bit_mode(vcpu) ?
					info->src_val : (u32)info->src_val);
	case x86_intercept_clts:
		return kvmi_emulator_cr(vcpu, 0, kvm_read_cr0_bits(vcpu, ~X86_CR0_TS));
	case x86_intercept_lmsw:
		cr0 = kvm_read_cr0_bits(vcpu, ~0xeul);
		return kvmi_emulator_cr(vcpu, 0, cr0 | (info->src_val & 0xf));
	case x86_intercept_wrmsr:
		return kvmi_emulator_msr(vcpu, kvm_rcx_read(vcpu),
					 kvm_read_edx_eax(vcpu));
	case x86_intercept_xsetbv:
		return kvmi_raise_xsetbv(vcpu, kvm_rcx_read(vcpu),
					 kvm_read_edx_eax(vcpu),
					 kvmi_complete_emulation);
	case x86_intercept_sidt:
		return kvmi_raise_desc(vcpu, KVMI_DESC_IDTR, false);
	case x86_intercept_sgdt:
		return kvmi_raise_desc(vcpu, KVMI_DESC_GDTR, false);
	case x86_intercept_sldt:
		return kvmi_raise_desc(vcpu, KVMI_DESC_LDTR, false);
	case x86_intercept_str:
		return kvmi_raise_desc(vcpu, KVMI_DESC_TR, false);
	case x86_intercept_lidt:
		return kvmi_raise_desc(vcpu, KVMI_DESC_IDTR, true);
	case x86_intercept_lgdt:
		return kvmi_raise_desc(vcpu, KVMI_DESC_GDTR, true);
	case x86_intercept_lldt:
		return kvmi_raise_desc(vcpu, KVMI_DESC_LDTR, true);
	case x86_intercept_ltr:
		return kvmi_raise_desc(vcpu, KVMI_DESC_TR, true);
	default:
		return false;
	}
}

/**
 * kvmi_emulator_intercept - does the emulator have to give up an instruction?
 * @vcpu: the vCPU
 * @info: the instruction
 * @stage: how far it has got
 *
 * The last stage is the one where the operands are known.
 *
 * Return: X86EMUL_CONTINUE or X86EMUL_INTERCEPTED.
 */
int kvmi_emulator_intercept(struct kvm_vcpu *vcpu,
			    const struct x86_instruction_info *info,
			    enum x86_intercept_stage stage)
{
	if (stage != X86_ICPT_POST_MEMACCESS || !kvmi_gives_up(vcpu, info))
		return X86EMUL_CONTINUE;

	/* What was read from a device is not read again. */
	kvmi_give_up_insn(vcpu, 0);

	return X86EMUL_INTERCEPTED;
}
