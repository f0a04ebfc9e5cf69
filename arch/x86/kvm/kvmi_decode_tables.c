// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM introspection on x86: what the CPU accesses on behalf of an instruction
 *
 * That is the descriptor of a segment, which may lead through a gate to another
 * one, the gates of interrupts, the stacks that the TSS has for both, its map of
 * ports, and the bit in a descriptor that says that it was used (SDM vol. 3,
 * chapters 3 and 6; APM vol. 2, chapters 4 and 8).  An exception that the
 * instruction raises is not one of its accesses; the same is looked up when it is
 * delivered.  Task switches are KVM's own.
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
/* Of code */
#define DESC_CONFORMING		BIT_ULL(42)
/* Of a gate */
#define GATE_SELECTOR(desc)	((u16)((desc) >> 16))
#define GATE_IST(desc)		((desc) >> 32 & 7)
#define GATE_PARAMS(desc)	((desc) >> 32 & 0x1f)
#define GATE_TASK		5

#define TSS_IS_32BIT		BIT(3)	/* of its type */
#define TSS_MAP_AT		102

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

/* A selector; a null one if it cannot be read */
static u16 kvmi_read_selector(const struct kvmi_decoder *d, gva_t gva)
{
	u16 sel = 0;

	kvmi_read_guest(d, gva, &sel, sizeof(sel), 0);

	return sel;
}

/* The selector that is part of an operand */
static u16 kvmi_operand_selector(const struct kvmi_decoder *d,
				 const struct kvmi_operand *operand, u8 offset)
{
	return kvmi_read_selector(d, operand->gva + offset);
}

/* The operand of ModRM is the first if there is one. */
static u16 kvmi_modrm_selector(const struct kvmi_decoder *d)
{
	if (kvmi_modrm_is_reg(d))
		return kvmi_reg(d, kvmi_modrm_rm_nr(d));

	return kvmi_operand_selector(d, &d->operands[0], 0);
}

static bool kvmi_is_long_mode(const struct kvmi_decoder *d)
{
	return is_long_mode(d->vcpu);
}

static int kvmi_cpl(const struct kvmi_decoder *d)
{
	struct kvm_vcpu *vcpu = d->vcpu;

	return kvm_x86_call(get_cpl)(vcpu);
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

static u32 kvmi_descriptor_base(u64 desc)
{
	return (desc >> 16 & 0xffffff) | (desc >> 32 & 0xff000000);
}

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

/* Below @top, which the TSS has somewhere */
static void kvmi_add_tss_frame(struct kvmi_decoder *d, gva_t top, u16 size)
{
	kvmi_add_implicit(d, top - size, size, KVMI_PAGE_ACCESS_W);
}

/* One of the stacks that an interrupt in long mode can have */
static void kvmi_add_ist_stack(struct kvmi_decoder *d, u8 ist, u16 size)
{
	struct kvm_segment tss;
	u64 top = 0;
	gva_t gva;

	kvm_get_segment(d->vcpu, &tss, VCPU_SREG_TR);
	gva = tss.base + 36 + 8 * (ist - 1);
	kvmi_add_implicit(d, gva, 8, KVMI_PAGE_ACCESS_R);
	if (kvmi_read_guest(d, gva, &top, 8, PFERR_IMPLICIT_ACCESS))
		kvmi_add_tss_frame(d, ALIGN_DOWN(top, 16), size);
}

/* Pointer and, outside of long mode, selector of the stack of a privilege level */
static void kvmi_add_inner_stack(struct kvmi_decoder *d, u8 dpl, u16 size,
				 bool is_aligned)
{
	struct kvm_segment tss;
	u8 half = 8;
	u64 top = 0;
	gva_t gva;
	u16 sel;

	kvm_get_segment(d->vcpu, &tss, VCPU_SREG_TR);
	if (!kvmi_is_long_mode(d))
		half = tss.type & TSS_IS_32BIT ? 4 : 2;
	gva = half == 2 ? tss.base + 2 + 4 * dpl : tss.base + 4 + 8 * dpl;

	kvmi_add_implicit(d, gva, half == 8 ? 8 : 2 * half, KVMI_PAGE_ACCESS_R);
	if (!kvmi_read_guest(d, gva, &top, half, PFERR_IMPLICIT_ACCESS))
		return;

	if (half < 8) {
		sel = 0;
		kvmi_read_guest(d, gva + half, &sel, 2, PFERR_IMPLICIT_ACCESS);
		top += kvmi_descriptor_base(kvmi_add_descriptor(d, sel,
								MARK_ACCESSED));
	}
	kvmi_add_tss_frame(d, is_aligned ? ALIGN_DOWN(top, 16) : top, size);
}

/* ---- far jumps, calls and returns ---- */

/* Does code with this descriptor have the stack of its own privilege level? */
static bool kvmi_has_inner_stack(const struct kvmi_decoder *d, u64 code)
{
	return !(code & DESC_CONFORMING) &&
	       DESC_DPL(code) < kvmi_cpl(d);
}

/* Old stack, parameters that are copied from there, and where to return to */
static void kvmi_add_gate_stack(struct kvmi_decoder *d, u64 gate, u64 code)
{
	u16 params;
	u8 size;

	if (kvmi_is_long_mode(d)) {
		kvmi_add_inner_stack(d, DESC_DPL(code), 4 * 8, false);
		return;
	}

	size = DESC_TYPE(gate) & 8 ? 4 : 2;
	params = GATE_PARAMS(gate) * size;
	if (params)
		kvmi_add_stack(d, VCPU_REGS_RSP, 0, params,
			       KVMI_PAGE_ACCESS_R)->certain = false;
	kvmi_add_inner_stack(d, DESC_DPL(code), 4 * size + params, false);
}

static void kvmi_add_far_target(struct kvmi_decoder *d, u16 sel, bool is_call)
{
	u64 gate = kvmi_add_descriptor(d, sel, MARK_ACCESSED);
	u64 code;

	/* A call gate of 16 bits is 4, one of 32 or 64 bits is 12. */
	if (!gate || DESC_IS_SEGMENT(gate) || (DESC_TYPE(gate) & 7) != 4)
		return;

	code = kvmi_add_descriptor(d, GATE_SELECTOR(gate), MARK_ACCESSED);
	if (is_call && code && kvmi_has_inner_stack(d, code))
		kvmi_add_gate_stack(d, gate, code);
}

/* AMD has no offsets of 64 bits in memory, and ignores the prefix for that. */
static u16 kvmi_far_selector(const struct kvmi_decoder *d)
{
	u8 offset = d->op_bytes;

	if (offset == 8 && boot_cpu_has(X86_FEATURE_SVM))
		offset = 4;

	return kvmi_operand_selector(d, &d->operands[0], offset);
}

static void kvmi_decode_far(struct kvmi_decoder *d, u16 sel, bool is_call)
{
	u8 size = kvmi_is_long_mode(d) ? 8 : 4;

	kvmi_add_far_target(d, sel, is_call);
	/* A gate decides how much. */
	if (is_call)
		kvmi_add_stack(d, VCPU_REGS_RSP, -2 * size, 2 * size,
			       KVMI_PAGE_ACCESS_W)->certain = false;
}

static void kvmi_decode_far_mem(struct kvmi_decoder *d, bool is_call)
{
	if (!kvmi_modrm_is_reg(d))
		kvmi_decode_far(d, kvmi_far_selector(d), is_call);
}

static void kvmi_decode_far_imm(struct kvmi_decoder *d, bool is_call)
{
	if (d->is_64bit)
		return;

	kvmi_next_number(d, d->op_bytes);
	kvmi_decode_far(d, kvmi_next_number(d, 2), is_call);
}

/* In parts, of which some may be left out */
static void kvmi_add_popped(struct kvmi_decoder *d, u32 disp, u16 size)
{
	kvmi_add_stack(d, VCPU_REGS_RSP, disp, size, KVMI_PAGE_ACCESS_R)->certain = false;
}

/* A selector behind something else of the same size, and its descriptor */
static u16 kvmi_add_popped_selector(struct kvmi_decoder *d, u32 disp)
{
	u16 sel = kvmi_read_selector(d, kvmi_stack_gva(d, VCPU_REGS_RSP,
						       disp + d->op_bytes));

	kvmi_add_descriptor(d, sel, MARK_ACCESSED);

	return sel;
}

/* Offset and selector, and for a return to less privilege the same of a stack */
static void kvmi_decode_far_ret(struct kvmi_decoder *d, u16 release)
{
	u8 size = d->op_bytes;
	u32 old_stack = 2 * size + release;

	kvmi_add_popped(d, 0, 2 * size);
	if ((kvmi_add_popped_selector(d, 0) & 3) <= kvmi_cpl(d))
		return;

	kvmi_add_popped(d, old_stack, 2 * size);
	kvmi_add_popped_selector(d, old_stack);
}

/* Return: does the kernel return to the virtual 8086 mode? */
static bool kvmi_pops_vm86(const struct kvmi_decoder *d)
{
	u32 flags = 0;

	if (kvmi_is_long_mode(d) || d->op_bytes != 4 ||
	    kvmi_cpl(d))
		return false;

	kvmi_read_guest(d, kvmi_stack_gva(d, VCPU_REGS_RSP, 2 * 4), &flags,
			sizeof(flags), 0);

	return flags & X86_EFLAGS_VM;
}

static void kvmi_decode_iret(struct kvmi_decoder *d)
{
	u8 size = d->op_bytes;
	u16 sel;

	kvmi_add_popped(d, 0, 3 * size);
	if (kvmi_pops_vm86(d)) {
		kvmi_add_popped(d, 3 * size, 6 * size);
		return;
	}

	sel = kvmi_add_popped_selector(d, 0);
	if (!d->is_64bit && (sel & 3) <= kvmi_cpl(d))
		return;

	kvmi_add_popped(d, 3 * size, 2 * size);
	kvmi_add_popped_selector(d, 3 * size);
}

/* ---- interrupts and exceptions ---- */

/* Are selectors those of descriptors? */
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
	u16 size = 6 * 8;

	if (!kvmi_is_long_mode(d)) {
		if (kvmi_has_inner_stack(d, code))
			kvmi_add_inner_stack(d, DESC_DPL(code), 10 * 4, false);
		else
			kvmi_add_stack(d, VCPU_REGS_RSP, -4 * 4, 4 * 4,
				       KVMI_PAGE_ACCESS_W)->certain = false;
		return;
	}

	if (GATE_IST(gate))
		kvmi_add_ist_stack(d, GATE_IST(gate), size);
	else if (kvmi_has_inner_stack(d, code))
		kvmi_add_inner_stack(d, DESC_DPL(code), size, true);
	else
		kvmi_add_linear(d, ALIGN_DOWN(kvmi_reg(d, VCPU_REGS_RSP), 16) - size,
				size, KVMI_PAGE_ACCESS_W)->certain = false;
}

static void kvmi_add_int(struct kvmi_decoder *d, u8 vector)
{
	bool has_gates = is_protmode(d->vcpu);
	u8 size = !has_gates ? 4 : kvmi_is_long_mode(d) ? 16 : 8;
	struct desc_ptr idt;
	u64 gate = 0;
	u64 code;
	gva_t gva;

	kvm_x86_call(get_idt)(d->vcpu, &idt);
	if ((vector + 1) * size - 1 > idt.size)
		return;

	gva = idt.address + vector * size;
	kvmi_add_implicit(d, gva, size, KVMI_PAGE_ACCESS_R);
	if (!has_gates) {
		kvmi_add_stack(d, VCPU_REGS_RSP, -3 * 2, 3 * 2,
			       KVMI_PAGE_ACCESS_W)->certain = false;
		return;
	}

	if (!kvmi_read_guest(d, gva, &gate, sizeof(gate), PFERR_IMPLICIT_ACCESS) ||
	    DESC_TYPE(gate) == GATE_TASK)
		return;

	code = kvmi_add_descriptor(d, GATE_SELECTOR(gate), MARK_ACCESSED);
	if (code)
		kvmi_add_int_frame(d, gate, code);
}

/* Return: is it INT n, INT3 or INTO, and with what number? */
static bool kvmi_int_vector(struct kvmi_decoder *d, u8 *vector)
{
	if (d->map != MAP_ONE_BYTE)
		return false;

	switch (d->op) {
	case 0xcc:
		*vector = BP_VECTOR;
		return true;
	case 0xcd:
		*vector = kvmi_next_number(d, 1);
		return true;
	case 0xce:
		*vector = OF_VECTOR;
		return !d->is_64bit && (kvm_get_rflags(d->vcpu) & X86_EFLAGS_OF);
	}

	return false;
}

/* SVM does not step these; KVM injects them (svm/kvmi_step.c). */
static void kvmi_decode_int(struct kvmi_decoder *d)
{
	u8 vector;

	if (!boot_cpu_has(X86_FEATURE_SVM) && kvmi_int_vector(d, &vector))
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

/* There is a table of vectors, but none of descriptors; also virtual 8086 mode. */
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
	}
}

/* ---- ports ---- */

static bool kvmi_port(struct kvmi_decoder *d, u16 *port)
{
	if (d->map != MAP_ONE_BYTE)
		return false;

	switch (d->op) {
	case 0xe4 ... 0xe7:
		*port = (u8)kvmi_next_number(d, 1);
		return true;
	case 0x6c ... 0x6f:
	case 0xec ... 0xef:
		*port = kvmi_reg(d, VCPU_REGS_RDX);
		return true;
	}

	return false;
}

/* Those that may not use all ports have a map in the TSS. */
static bool kvmi_has_port_map(const struct kvmi_decoder *d)
{
	unsigned long flags = kvm_get_rflags(d->vcpu);

	return is_protmode(d->vcpu) &&
	       ((flags & X86_EFLAGS_VM) || kvmi_cpl(d) >
		(flags & X86_EFLAGS_IOPL) >> X86_EFLAGS_IOPL_BIT);
}

static void kvmi_decode_ports(struct kvmi_decoder *d)
{
	struct kvm_segment tss;
	u16 port, map = 0;

	if (!kvmi_port(d, &port) || !kvmi_has_port_map(d))
		return;

	kvm_get_segment(d->vcpu, &tss, VCPU_SREG_TR);
	kvmi_add_implicit(d, tss.base + TSS_MAP_AT, 2, KVMI_PAGE_ACCESS_R);
	if (kvmi_read_guest(d, tss.base + TSS_MAP_AT, &map, 2, PFERR_IMPLICIT_ACCESS))
		kvmi_add_implicit(d, tss.base + map + port / 8, 2, KVMI_PAGE_ACCESS_R);
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
			kvmi_add_descriptor(d, kvmi_far_selector(d), MARK_ACCESSED);
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
		if (ext == 6 && d->rep == 0xf2)	/* LKGS */
			kvmi_add_descriptor(d, kvmi_modrm_selector(d), MARK_ACCESSED);
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
			kvmi_add_descriptor(d, kvmi_far_selector(d), MARK_ACCESSED);
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

	kvmi_decode_ports(d);
	kvmi_decode_int(d);
	if (!kvmi_has_descriptors(d))
		kvmi_decode_real_mode(d);
	else if (d->map == MAP_ONE_BYTE)
		kvmi_decode_one_byte_tables(d);
	else if (d->map == MAP_0F)
		kvmi_decode_0f_tables(d);
}
