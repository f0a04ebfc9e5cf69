// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM introspection on x86: what the CPU accesses on behalf of an instruction
 *
 * That is the descriptor of a segment, which may lead through a gate to another
 * one, the gates of interrupts, the stacks that the TSS has for both, and the
 * bit in a descriptor that says that it was used (SDM vol. 3, chapters 3 and 6;
 * APM vol. 2, chapters 4 and 8).  An exception that the instruction raises is not
 * one of its accesses; the same is looked up when it is delivered.  Task switches
 * are KVM's own.
 *
 * What there is depends on selectors, which are read from where the instruction
 * is going to read them.  Checks are left out.  Where the instruction faults
 * before, less is accessed than is said here.
 */

#include <linux/kvmi_arch.h>
#include <asm/desc_defs.h>
#include "kvm_cache_regs.h"
#include "kvmi_decode.h"
#include "x86.h"

#define SELECTOR_IN_LDT		BIT(2)

#define DESC_TYPE(desc)		((desc) >> 40 & 0xf)
#define DESC_IS_SEGMENT(desc)	((desc) & BIT_ULL(44))
#define DESC_ACCESSED		BIT_ULL(40)
#define DESC_DPL(desc)		((desc) >> 45 & 3)
#define DESC_BASE(desc)		((u32)(((desc) >> 16 & 0xffffff) | \
				       ((desc) >> 32 & 0xff000000)))
/* Of a gate */
#define GATE_SELECTOR(desc)	((u16)((desc) >> 16))
#define GATE_IST(desc)		((desc) >> 32 & 7)

enum kvmi_mark {
	MARK_NONE,
	/* The CPU notes that the segment was used ... */
	MARK_ACCESSED,
	/* ... or that the TSS is. */
	MARK_BUSY,
};

/* ---- what the guest has in memory ---- */

static bool kvmi_read_guest(const struct kvmi_decoder *d, gva_t gva, void *to,
			    unsigned int size, u64 pferr)
{
	while (size) {
		unsigned int n = min_t(unsigned int, size,
				       PAGE_SIZE - offset_in_page(gva));
		gpa_t gpa = kvmi_translate(d->vcpu, gva, pferr);

		if (gpa == INVALID_GPA ||
		    kvm_vcpu_read_guest_page(d->vcpu, gpa_to_gfn(gpa), to,
					     offset_in_page(gpa), n))
			return false;
		gva += n;
		to += n;
		size -= n;
	}

	return true;
}

/* The selector that is part of an operand; a null one if it cannot be read */
static u16 kvmi_operand_selector(const struct kvmi_decoder *d,
				 const struct kvmi_operand *operand, u8 offset)
{
	u16 sel = 0;

	kvmi_read_guest(d, operand->gva + offset, &sel, sizeof(sel), 0);

	return sel;
}

/* The operand of ModRM is the first if there is one. */
static u16 kvmi_modrm_selector(const struct kvmi_decoder *d)
{
	if (kvmi_modrm_is_reg(d))
		return kvmi_reg(d, X86_MODRM_RM(d->modrm) |
				   (d->rex & REX_B ? 8 : 0));

	return kvmi_operand_selector(d, &d->operands[0], 0);
}

static bool kvmi_is_long_mode(const struct kvmi_decoder *d)
{
	return is_long_mode(d->vcpu);
}

static void kvmi_add_implicit(struct kvmi_decoder *d, gva_t gva, u16 size,
			      u8 access)
{
	struct kvmi_operand *operand = kvmi_add_linear(d, gva, size, access);

	/* Of code of 32 bits, too, the kernel can be one of 64. */
	if (kvmi_is_long_mode(d))
		operand->gva = gva;
	operand->implicit = true;
	operand->certain = false;
}

/* ---- descriptors ---- */

static gva_t kvmi_descriptor_gva(const struct kvmi_decoder *d, u16 sel)
{
	struct kvm_segment ldt;
	struct desc_ptr gdt;

	if (sel & SELECTOR_IN_LDT) {
		kvm_get_segment(d->vcpu, &ldt, VCPU_SREG_LDTR);
		return ldt.unusable || (sel | 7) > ldt.limit ?
		       KVMI_NO_GVA : ldt.base + (sel & ~7);
	}

	kvm_x86_call(get_gdt)(d->vcpu, &gdt);

	return (sel | 7) > gdt.size ? KVMI_NO_GVA : gdt.address + (sel & ~7);
}

static bool kvmi_is_marked(u64 desc, enum kvmi_mark mark)
{
	switch (mark) {
	case MARK_ACCESSED:
		return DESC_IS_SEGMENT(desc) && !(desc & DESC_ACCESSED);
	case MARK_BUSY:
		return true;
	default:
		return false;
	}
}

/* Return: the descriptor, its first eight bytes, or 0 if there is none. */
static u64 kvmi_add_descriptor(struct kvmi_decoder *d, u16 sel,
			       enum kvmi_mark mark)
{
	u8 access = KVMI_PAGE_ACCESS_R;
	u64 desc = 0;
	gva_t gva;
	u8 size;

	/* A null selector */
	if (sel < 4)
		return 0;

	gva = kvmi_descriptor_gva(d, sel);
	if (gva == KVMI_NO_GVA ||
	    !kvmi_read_guest(d, gva, &desc, sizeof(desc), PFERR_IMPLICIT_ACCESS))
		return 0;

	if (kvmi_is_marked(desc, mark))
		access |= KVMI_PAGE_ACCESS_W;
	size = kvmi_is_long_mode(d) && !DESC_IS_SEGMENT(desc) ? 16 : 8;
	kvmi_add_implicit(d, gva, size, access);

	return desc;
}

/* ---- other stacks ---- */

/* The base of a segment is 0 in long mode, whatever its descriptor says. */
static gva_t kvmi_stack_base(struct kvmi_decoder *d, gva_t tss_ss)
{
	u16 sel = 0;
	u64 desc;

	kvmi_read_guest(d, tss_ss, &sel, sizeof(sel), PFERR_IMPLICIT_ACCESS);
	desc = kvmi_add_descriptor(d, sel, MARK_ACCESSED);

	return DESC_BASE(desc);
}

/* The TSS has a stack at @offset, and @size bytes are pushed there. */
static void kvmi_add_tss_stack(struct kvmi_decoder *d, u16 offset, u16 size,
			       bool is_aligned)
{
	bool is_long = kvmi_is_long_mode(d);
	struct kvm_segment tss;
	u64 top = 0;

	kvm_get_segment(d->vcpu, &tss, VCPU_SREG_TR);
	kvmi_add_implicit(d, tss.base + offset, 8, KVMI_PAGE_ACCESS_R);
	if (!kvmi_read_guest(d, tss.base + offset, &top, is_long ? 8 : 4,
			     PFERR_IMPLICIT_ACCESS))
		return;

	if (!is_long)
		top += kvmi_stack_base(d, tss.base + offset + 4);
	if (is_aligned)
		top = ALIGN_DOWN(top, 16);
	kvmi_add_implicit(d, top - size, size, KVMI_PAGE_ACCESS_W);
}

/* ---- far jumps, calls and returns ---- */

static void kvmi_add_far_target(struct kvmi_decoder *d, u16 sel, bool is_call)
{
	u64 gate = kvmi_add_descriptor(d, sel, MARK_ACCESSED);
	u64 code;

	/* A call gate of 16 bits is 4, one of 32 or 64 bits is 12. */
	if (!gate || DESC_IS_SEGMENT(gate) || (DESC_TYPE(gate) & 7) != 4)
		return;

	code = kvmi_add_descriptor(d, GATE_SELECTOR(gate), MARK_ACCESSED);
	if (is_call && code && DESC_DPL(code) < kvm_x86_call(get_cpl)(d->vcpu))
		kvmi_add_tss_stack(d, 4 + 8 * DESC_DPL(code),
				   kvmi_is_long_mode(d) ? 4 * 8 : 4 * 4 + 31 * 4,
				   false);
}

static void kvmi_decode_far_call(struct kvmi_decoder *d, u16 sel)
{
	u8 size = kvmi_is_long_mode(d) ? 8 : 4;

	kvmi_add_far_target(d, sel, true);
	/* A gate decides how much. */
	kvmi_add_stack(d, VCPU_REGS_RSP, -2 * size, 2 * size,
		       KVMI_PAGE_ACCESS_W)->certain = false;
}

/* AMD has no offsets of 64 bits in memory, and ignores the prefix for that. */
static void kvmi_decode_far_mem(struct kvmi_decoder *d, bool is_call)
{
	u8 offset = d->op_bytes;
	u16 sel;

	if (kvmi_modrm_is_reg(d))
		return;

	if (offset == 8 && boot_cpu_has(X86_FEATURE_SVM))
		offset = 4;
	sel = kvmi_operand_selector(d, &d->operands[0], offset);
	if (is_call)
		kvmi_decode_far_call(d, sel);
	else
		kvmi_add_far_target(d, sel, false);
}

static void kvmi_decode_far_imm(struct kvmi_decoder *d, bool is_call)
{
	u16 sel;

	if (d->is_64bit)
		return;

	kvmi_next_number(d, d->op_bytes);
	sel = kvmi_next_number(d, 2);
	if (is_call)
		kvmi_decode_far_call(d, sel);
	else
		kvmi_add_far_target(d, sel, false);
}

/* Offset and selector, and for a return to less privilege the same of a stack */
static void kvmi_decode_far_ret(struct kvmi_decoder *d, u16 release)
{
	u8 size = d->op_bytes;
	struct kvmi_operand *operand;
	u16 sel;

	operand = kvmi_add_stack(d, VCPU_REGS_RSP, 0, 2 * size,
				 KVMI_PAGE_ACCESS_R);
	sel = kvmi_operand_selector(d, operand, size);
	kvmi_add_descriptor(d, sel, MARK_ACCESSED);
	if ((sel & 3) <= kvm_x86_call(get_cpl)(d->vcpu))
		return;

	operand = kvmi_add_stack(d, VCPU_REGS_RSP, 2 * size + release, 2 * size,
				 KVMI_PAGE_ACCESS_R);
	kvmi_add_descriptor(d, kvmi_operand_selector(d, operand, size),
			    MARK_ACCESSED);
}

static void kvmi_decode_iret(struct kvmi_decoder *d)
{
	u8 size = d->op_bytes;
	struct kvmi_operand *operand;
	bool has_stack;
	u16 sel;

	operand = kvmi_add_stack(d, VCPU_REGS_RSP, 0, 3 * size,
				 KVMI_PAGE_ACCESS_R);
	sel = kvmi_operand_selector(d, operand, size);
	has_stack = d->is_64bit || (sel & 3) > kvm_x86_call(get_cpl)(d->vcpu);
	kvmi_add_descriptor(d, sel, MARK_ACCESSED);
	if (!has_stack)
		return;

	operand = kvmi_add_stack(d, VCPU_REGS_RSP, 3 * size, 2 * size,
				 KVMI_PAGE_ACCESS_R);
	kvmi_add_descriptor(d, kvmi_operand_selector(d, operand, size),
			    MARK_ACCESSED);
}

/* ---- interrupts and exceptions ---- */

static bool kvmi_has_descriptors(const struct kvmi_decoder *d)
{
	return is_protmode(d->vcpu) &&
	       !(kvm_get_rflags(d->vcpu) & X86_EFLAGS_VM);
}

/*
 * An error code, flags, code segment and offset, and for another stack the same of
 * the old one; of the virtual 8086 mode all segments.
 */
static void kvmi_add_int_frame(struct kvmi_decoder *d, u64 gate, u64 code)
{
	u8 dpl = DESC_DPL(code);
	u16 size = 6 * 8;

	if (!kvmi_is_long_mode(d)) {
		if (dpl < kvm_x86_call(get_cpl)(d->vcpu))
			kvmi_add_tss_stack(d, 4 + 8 * dpl, 10 * 4, false);
		else
			kvmi_add_stack(d, VCPU_REGS_RSP, -4 * 4, 4 * 4,
				       KVMI_PAGE_ACCESS_W)->certain = false;
		return;
	}

	if (GATE_IST(gate))
		kvmi_add_tss_stack(d, 36 + 8 * (GATE_IST(gate) - 1), size, true);
	else if (dpl < kvm_x86_call(get_cpl)(d->vcpu))
		kvmi_add_tss_stack(d, 4 + 8 * dpl, size, true);
	else
		kvmi_add_implicit(d, ALIGN_DOWN(kvmi_reg(d, VCPU_REGS_RSP), 16) -
				     size, size, KVMI_PAGE_ACCESS_W);
}

static void kvmi_add_int(struct kvmi_decoder *d, u8 vector)
{
	u8 size = !kvmi_has_descriptors(d) ? 4 : kvmi_is_long_mode(d) ? 16 : 8;
	struct desc_ptr idt;
	u64 gate = 0;
	u64 code;
	gva_t gva;

	kvm_x86_call(get_idt)(d->vcpu, &idt);
	if ((vector + 1) * size - 1 > idt.size)
		return;

	gva = idt.address + vector * size;
	kvmi_add_implicit(d, gva, size, KVMI_PAGE_ACCESS_R);
	if (!kvmi_has_descriptors(d)) {
		kvmi_add_stack(d, VCPU_REGS_RSP, -3 * 2, 3 * 2,
			       KVMI_PAGE_ACCESS_W)->certain = false;
		return;
	}

	if (!kvmi_read_guest(d, gva, &gate, sizeof(gate), PFERR_IMPLICIT_ACCESS))
		return;

	code = kvmi_add_descriptor(d, GATE_SELECTOR(gate), MARK_ACCESSED);
	if (code)
		kvmi_add_int_frame(d, gate, code);
}

/* SVM does not step these; KVM injects them (svm/kvmi_step.c). */
static void kvmi_decode_int(struct kvmi_decoder *d, u8 vector)
{
	if (!boot_cpu_has(X86_FEATURE_SVM))
		kvmi_add_int(d, vector);
}

/**
 * kvmi_decode_delivery - note what the CPU accesses to deliver what is on its way
 * @d: no instruction; only its vCPU and what that executes is known
 */
void kvmi_decode_delivery(struct kvmi_decoder *d)
{
	struct kvm_vcpu *vcpu = d->vcpu;

	if (vcpu->arch.exception.injected || vcpu->arch.exception.pending)
		kvmi_add_int(d, vcpu->arch.exception.vector);
	else if (vcpu->arch.nmi_injected)
		kvmi_add_int(d, NMI_VECTOR);
	else if (vcpu->arch.interrupt.injected)
		kvmi_add_int(d, vcpu->arch.interrupt.nr);
}

/* ---- real mode ---- */

/* There is a table of vectors, but none of descriptors. */
static void kvmi_decode_real_mode(struct kvmi_decoder *d)
{
	u8 size = d->op_bytes;

	if (d->map != MAP_ONE_BYTE)
		return;

	switch (d->op) {
	case 0x9a:		/* far CALL */
		kvmi_add_stack(d, VCPU_REGS_RSP, -2 * size, 2 * size,
			       KVMI_PAGE_ACCESS_W);
		return;
	case 0xff:
		if (kvmi_modrm_ext(d) == 3 && !kvmi_modrm_is_reg(d))
			kvmi_add_stack(d, VCPU_REGS_RSP, -2 * size, 2 * size,
				       KVMI_PAGE_ACCESS_W);
		return;
	case 0xca ... 0xcb:	/* far RET */
		kvmi_add_stack(d, VCPU_REGS_RSP, 0, 2 * size, KVMI_PAGE_ACCESS_R);
		return;
	case 0xcf:		/* IRET */
		kvmi_add_stack(d, VCPU_REGS_RSP, 0, 3 * size, KVMI_PAGE_ACCESS_R);
		return;
	case 0xcd:		/* INT n */
		kvmi_decode_int(d, kvmi_next_number(d, 1));
		return;
	}
}

/* ---- all of it ---- */

static void kvmi_decode_one_byte_tables(struct kvmi_decoder *d)
{
	u8 ext = kvmi_modrm_ext(d);

	switch (d->op) {
	case 0x07:		/* POP of a segment register */
	case 0x17:
	case 0x1f:
		if (!d->is_64bit)
			kvmi_add_descriptor(d, kvmi_operand_selector(d, &d->operands[0], 0),
					    MARK_ACCESSED);
		return;
	case 0x8e:		/* MOV to a segment register */
		kvmi_add_descriptor(d, kvmi_modrm_selector(d), MARK_ACCESSED);
		return;
	case 0xc4 ... 0xc5:	/* LES, LDS */
		if (!kvmi_modrm_is_reg(d))
			kvmi_add_descriptor(d, kvmi_operand_selector(d, &d->operands[0],
								     d->op_bytes),
					    MARK_ACCESSED);
		return;
	case 0x9a:
		kvmi_decode_far_imm(d, true);
		return;
	case 0xea:
		kvmi_decode_far_imm(d, false);
		return;
	case 0xff:
		if (ext == 3 || ext == 5)
			kvmi_decode_far_mem(d, ext == 3);
		return;
	case 0xca:
		kvmi_decode_far_ret(d, kvmi_next_number(d, 2));
		return;
	case 0xcb:
		kvmi_decode_far_ret(d, 0);
		return;
	case 0xcc:		/* INT3 */
		kvmi_decode_int(d, BP_VECTOR);
		return;
	case 0xcd:
		kvmi_decode_int(d, kvmi_next_number(d, 1));
		return;
	case 0xce:		/* INTO */
		if (!d->is_64bit && (kvm_get_rflags(d->vcpu) & X86_EFLAGS_OF))
			kvmi_decode_int(d, OF_VECTOR);
		return;
	case 0xcf:
		kvmi_decode_iret(d);
		return;
	}
}

static void kvmi_decode_0f_tables(struct kvmi_decoder *d)
{
	u8 ext = kvmi_modrm_ext(d);

	switch (d->op) {
	case 0x00:		/* LLDT, LTR, VERR, VERW */
		if (ext >= 2 && ext <= 5)
			kvmi_add_descriptor(d, kvmi_modrm_selector(d),
					    ext == 3 ? MARK_BUSY : MARK_NONE);
		return;
	case 0x02 ... 0x03:	/* LAR, LSL */
		kvmi_add_descriptor(d, kvmi_modrm_selector(d), MARK_NONE);
		return;
	case 0xa1:		/* POP of a segment register */
	case 0xa9:
		kvmi_add_descriptor(d, kvmi_operand_selector(d, &d->operands[0], 0),
				    MARK_ACCESSED);
		return;
	case 0xb2:		/* LSS, LFS, LGS */
	case 0xb4 ... 0xb5:
		if (!kvmi_modrm_is_reg(d))
			kvmi_add_descriptor(d, kvmi_operand_selector(d, &d->operands[0],
								     d->op_bytes),
					    MARK_ACCESSED);
		return;
	}
}

/**
 * kvmi_decode_tables - note what the CPU accesses besides operands
 * @d: the instruction, its operands noted
 */
void kvmi_decode_tables(struct kvmi_decoder *d)
{
	if (d->failed || d->has_vex)
		return;

	if (!kvmi_has_descriptors(d))
		kvmi_decode_real_mode(d);
	else if (d->map == MAP_ONE_BYTE)
		kvmi_decode_one_byte_tables(d);
	else if (d->map == MAP_0F)
		kvmi_decode_0f_tables(d);
}
