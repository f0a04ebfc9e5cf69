// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM introspection on x86: what the emulator knows exactly of an instruction
 *
 * To have the CPU execute an instruction costs about ten times as much as to
 * emulate it (kvmi_root.c, kvmi_step.c).  So what guests do all the time is
 * emulated: moves, arithmetic, stacks and strings.  The list has what the
 * table of instructions in the selftests (kvmi_continue_test) compares with
 * the CPU's own doing, no more.
 *
 * The emulator decodes more than it knows.  It takes VEX, EVEX and XOP prefixes
 * for the instructions which they are outside of 64-bit mode, TZCNT and LZCNT for
 * BSF and BSR, and a prefix for DS for one that counts in 64-bit mode.
 *
 * Besides, what it knows depends on where and when.  It has no atomic access across
 * two pages, looks at no breakpoints for data, and a string traps in the end only.
 *
 * MOV to SS and POP SS are the other way round.  SVM steps by TF, whose trap comes
 * after the next instruction then: what that one accesses would go unreported.  So
 * they must be emulated, whatever the emulator does not look at.
 */

#include <linux/cache.h>
#include <linux/kvm_host.h>
#include "kvm_emulate.h"
#include "kvmi.h"
#include "x86.h"

static bool kvmi_is_group_exact(const struct x86_emulate_ctxt *ctxt)
{
	u8 ext = (ctxt->modrm >> 3) & 7;

	switch (ctxt->b) {
	case 0x8f:		/* POP; XOP if not 0 */
	case 0xc6:		/* MOV; XABORT and others if not 0 */
	case 0xc7:
		return ext == 0;
	case 0xfe:		/* INC, DEC */
		return ext <= 1;
	case 0xff:		/* INC, DEC, near CALL and JMP, PUSH */
		return ext <= 2 || ext == 4 || ext == 6;
	}

	return true;
}

static bool kvmi_is_one_byte_exact(const struct x86_emulate_ctxt *ctxt)
{
	switch (ctxt->b) {
	case 0x00 ... 0x3f:	/* arithmetic with ModRM */
		return (ctxt->b & 7) < 4;
	case 0x50 ... 0x5f:	/* PUSH and POP */
	case 0x63:		/* MOVSXD */
	case 0x68 ... 0x6b:	/* PUSH and IMUL with an immediate */
	case 0x6c ... 0x6f:	/* INS and OUTS, which are emulated anyway */
	case 0x80 ... 0x81:
	case 0x83:
	case 0x84 ... 0x8b:	/* TEST, XCHG and MOV */
	case 0x8f:
	case 0xa0 ... 0xa7:	/* MOV, MOVS and CMPS */
	case 0xaa ... 0xaf:	/* STOS, LODS and SCAS */
	case 0xc0 ... 0xc1:	/* shifts and rotations */
	case 0xc2 ... 0xc3:	/* near RET */
	case 0xc6 ... 0xc7:
	case 0xc9:		/* LEAVE */
	case 0xd0 ... 0xd3:	/* shifts and rotations */
	case 0xe8:		/* near CALL */
	case 0xf6 ... 0xf7:	/* TEST, NOT, NEG, MUL and DIV */
	case 0xfe ... 0xff:
		return kvmi_is_group_exact(ctxt);
	}

	/* 0x63 is ARPL outside of 64-bit mode: as good. */
	return false;
}

static bool kvmi_is_two_byte_exact(const struct x86_emulate_ctxt *ctxt)
{
	/* With one of these, most are other instructions. */
	if (ctxt->rep_prefix)
		return false;

	switch (ctxt->b) {
	case 0x40 ... 0x4f:	/* CMOVcc */
	case 0x90 ... 0x9f:	/* SETcc */
	case 0xa3 ... 0xa5:	/* BT, SHLD */
	case 0xab ... 0xad:	/* BTS, SHRD */
	case 0xaf:		/* IMUL */
	case 0xb0 ... 0xb1:	/* CMPXCHG */
	case 0xb3:		/* BTR */
	case 0xb6 ... 0xb7:	/* MOVZX */
	case 0xba ... 0xbb:	/* BT and others with an immediate, BTC */
	case 0xbe ... 0xbf:	/* MOVSX */
	case 0xc0 ... 0xc1:	/* XADD */
		return true;
	}

	return false;
}

/* Does the emulator know all that the CPU would do? */
static bool kvmi_emulator_is_exact(const struct x86_emulate_ctxt *ctxt)
{
	switch (ctxt->opcode_len) {
	case 1:
		return kvmi_is_one_byte_exact(ctxt);
	case 2:
		return kvmi_is_two_byte_exact(ctxt);
	}

	return false;
}

static gva_t kvmi_emulator_gva(struct kvm_vcpu *vcpu, const struct operand *op)
{
	gva_t gva = op->addr.mem.ea;

	if (is_64_bit_mode(vcpu) && op->addr.mem.seg < VCPU_SREG_FS)
		return gva;

	gva += get_segment_base(vcpu, op->addr.mem.seg);

	return is_64_bit_mode(vcpu) ? gva : (u32)gva;
}

static bool kvmi_is_insn_locked(const struct x86_emulate_ctxt *ctxt)
{
	/* XCHG is always. */
	return ctxt->dst.type == OP_MEM &&
	       (ctxt->lock_prefix ||
		(ctxt->opcode_len == 1 && (ctxt->b == 0x86 || ctxt->b == 0x87)));
}

/* See emulator_cmpxchg_emulated(), which makes a plain write of it. */
static bool kvmi_is_lock_split(struct kvm_vcpu *vcpu,
			       const struct x86_emulate_ctxt *ctxt)
{
	unsigned long size = boot_cpu_has(X86_FEATURE_SPLIT_LOCK_DETECT) ?
			     cache_line_size() : PAGE_SIZE;
	gva_t gva;

	if (!kvmi_is_insn_locked(ctxt))
		return false;

	gva = kvmi_emulator_gva(vcpu, &ctxt->dst);

	return (gva & (size - 1)) + ctxt->dst.bytes > size;
}

/* Has the guest, or the VMM in its place, a breakpoint for data? */
static bool kvmi_has_data_breakpoint(struct kvm_vcpu *vcpu)
{
	unsigned long dr7 = vcpu->guest_debug & KVM_GUESTDBG_USE_HW_BP ?
			    vcpu->arch.guest_debug_dr7 : vcpu->arch.dr7;
	int i;

	if (likely(!(dr7 & DR7_BP_EN_MASK)))
		return false;

	for (i = 0; i < KVM_NR_DB_REGS; i++)
		if (kvmi_is_data_breakpoint(dr7, i))
			return true;

	return false;
}

/**
 * kvmi_is_alignment_checked - does an access that is not aligned raise #AC?
 * @vcpu: the vCPU, on its thread
 */
bool kvmi_is_alignment_checked(struct kvm_vcpu *vcpu)
{
	return (kvm_get_rflags(vcpu) & X86_EFLAGS_AC) &&
	       kvm_is_cr0_bit_set(vcpu, X86_CR0_AM) &&
	       kvm_x86_call(get_cpl)(vcpu) == 3;
}

/* To the CPU, a prefix for ES, CS, SS or DS does not undo one for FS or GS. */
static bool kvmi_is_segment_lost(const struct x86_emulate_ctxt *ctxt)
{
	const u8 *byte;
	int seg = -1;

	if (ctxt->mode != X86EMUL_MODE_PROT64)
		return false;

	for (byte = ctxt->fetch.data; byte < ctxt->fetch.ptr; byte++) {
		switch (*byte) {
		case 0x64 ... 0x65:
			seg = *byte == 0x64 ? VCPU_SREG_FS : VCPU_SREG_GS;
			continue;
		case 0x26:
		case 0x2e:
		case 0x36:
		case 0x3e:
		case 0x40 ... 0x4f:
		case 0x66 ... 0x67:
		case 0xf0:
		case 0xf2 ... 0xf3:
			continue;
		}
		break;
	}

	return seg >= 0 && ctxt->seg_override != seg;
}

static bool kvmi_is_string_stepped(struct kvm_vcpu *vcpu,
				   const struct x86_emulate_ctxt *ctxt)
{
	return ctxt->rep_prefix &&
	       (ctxt->tf || (vcpu->guest_debug & KVM_GUESTDBG_SINGLESTEP));
}

/**
 * kvmi_must_emulate - does stepping take one instruction too many?
 * @ctxt: an instruction, decoded
 */
bool kvmi_must_emulate(const struct x86_emulate_ctxt *ctxt)
{
	if (!boot_cpu_has(X86_FEATURE_SVM))
		return false;

	return ctxt->opcode_len == 1 &&
	       (ctxt->b == 0x17 ||
		(ctxt->b == 0x8e && ((ctxt->modrm >> 3) & 7) == VCPU_SREG_SS));
}

/**
 * kvmi_can_emulate - does the emulator do all that the CPU would do now?
 * @vcpu: the vCPU, on its thread, the instruction at RIP decoded
 */
bool kvmi_can_emulate(struct kvm_vcpu *vcpu)
{
	const struct x86_emulate_ctxt *ctxt = vcpu->arch.emulate_ctxt;

	return kvmi_emulator_is_exact(ctxt) &&
	       !kvmi_is_segment_lost(ctxt) &&
	       !kvmi_is_lock_split(vcpu, ctxt) &&
	       !kvmi_has_data_breakpoint(vcpu) &&
	       !kvmi_is_alignment_checked(vcpu) &&
	       !kvmi_is_string_stepped(vcpu, ctxt);
}
