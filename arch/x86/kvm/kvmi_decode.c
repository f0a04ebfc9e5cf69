// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM introspection on x86: what an instruction accesses
 *
 * It is looked at for two reasons.  AMD's nested paging tells no linear address
 * of an access that faulted.  The instruction does: its operands are computed,
 * and the one that leads to the guest-physical address of the fault, to its
 * first byte unless it is large, is it.  If two of them do, the address is not
 * known.
 *
 * And a page may have to permit more to the CPU than the tool has allowed, so
 * that there would be no fault (kvmi_pf.c).
 *
 * Both need all that an instruction accesses, so what is in doubt belongs to it:
 * more than it accesses can be said here, less cannot, but for the little that
 * kvmi.rst names ("Going on").  An operand is too long where the opcode does not
 * tell its size at once, and is there although a mask may leave it out
 * (kvmi_decode_vec.c).  What the CPU accesses on behalf of the instruction, such as
 * descriptors, is in kvmi_decode_tables.c, and what opcodes mean in
 * kvmi_decode_ops.c.
 *
 * KVM's emulator is of no use for it.  It knows a third of the instructions,
 * and it has a state, which must not be disturbed.
 *
 * Addresses are translated as for reading here.  That sets accessed bits, as the
 * CPU may do at any time, but never a dirty bit.
 *
 * On the thread of the vCPU, in a kvm->srcu section.
 */

#include <linux/kvmi_arch.h>
#include "kvm_cache_regs.h"
#include "kvmi_decode.h"
#include "mmu.h"
#include "x86.h"

/* Where XSAVE notes what it has saved, and looks for that, too */
#define XSAVE_HEADER_AT	512

/* ---- the bytes of the instruction ---- */

static unsigned int kvmi_fetch_in_page(struct kvm_vcpu *vcpu, u8 *bytes,
				       unsigned int done)
{
	gva_t gva = kvm_get_linear_rip(vcpu) + done;
	unsigned int n = min_t(unsigned int, MAX_INSN_SIZE - done,
			       PAGE_SIZE - offset_in_page(gva));
	gpa_t gpa = n ? kvmi_translate(vcpu, gva, PFERR_FETCH_MASK) :
			INVALID_GPA;

	if (gpa == INVALID_GPA ||
	    kvm_vcpu_read_guest_page(vcpu, gpa_to_gfn(gpa), bytes + done,
				     offset_in_page(gpa), n))
		return 0;

	return n;
}

/**
 * kvmi_fetch_insn - read the bytes at RIP, as far as there are any
 * @vcpu: the vCPU, on its thread, in a kvm->srcu section
 * @bytes: where to, MAX_INSN_SIZE bytes
 *
 * Return: how many there are, which need not belong to one instruction.
 */
unsigned int kvmi_fetch_insn(struct kvm_vcpu *vcpu, u8 *bytes)
{
	unsigned int n = kvmi_fetch_in_page(vcpu, bytes, 0);

	return n ? n + kvmi_fetch_in_page(vcpu, bytes, n) : 0;
}
EXPORT_SYMBOL_GPL(kvmi_fetch_insn);

/* Does not touch the next page before it is known to be needed. */
static void kvmi_fetch_more(struct kvmi_decoder *d)
{
	unsigned int n = kvmi_fetch_in_page(d->vcpu, d->bytes, d->fetched);

	if (!n)
		d->failed = true;
	d->fetched += n;
}

static u8 kvmi_next_byte(struct kvmi_decoder *d)
{
	if (!d->failed && d->pos == d->fetched)
		kvmi_fetch_more(d);

	return d->failed ? 0 : d->bytes[d->pos++];
}

/* Not used up by that */
static u8 kvmi_peek_byte(struct kvmi_decoder *d)
{
	u8 byte = kvmi_next_byte(d);

	if (!d->failed)
		d->pos--;

	return byte;
}

/**
 * kvmi_next_number - take a little-endian number with a sign
 * @d: the instruction
 * @size: its size in bytes
 */
s64 kvmi_next_number(struct kvmi_decoder *d, u8 size)
{
	u64 val = 0;
	u8 i;

	for (i = 0; i < size; i++)
		val |= (u64)kvmi_next_byte(d) << (8 * i);

	return sign_extend64(val, 8 * size - 1);
}

/* ---- prefixes and the opcode ---- */

static bool kvmi_is_prefix(struct kvmi_decoder *d, u8 byte)
{
	switch (byte) {
	case 0x26:		/* ES, CS, SS and DS, which 64-bit code has no use for */
	case 0x2e:
	case 0x36:
	case 0x3e:
		if (!d->is_64bit)
			d->seg = VCPU_SREG_ES + (byte >> 3 & 3);
		return true;
	case 0x64:
		d->seg = VCPU_SREG_FS;
		return true;
	case 0x65:
		d->seg = VCPU_SREG_GS;
		return true;
	case 0x66:
		d->has_66 = true;
		d->op_bytes = d->is_16bit ? 4 : 2;
		return true;
	case 0x67:
		d->ad_bytes = d->is_64bit || d->is_16bit ? 4 : 2;
		return true;
	case 0xf2 ... 0xf3:
		d->rep = byte;
		return true;
	case 0xf0:
		return true;
	}

	return false;
}

/* Outside of 64-bit mode, these are LDS, LES, BOUND and POP as well. */
static bool kvmi_is_vex(struct kvmi_decoder *d, u8 byte)
{
	u8 next;

	switch (byte) {
	case 0x62:
	case 0xc4 ... 0xc5:
		return d->is_64bit || X86_MODRM_MOD(kvmi_peek_byte(d)) == 3;
	case 0x8f:
		next = kvmi_peek_byte(d);
		return X86_VEX3_M(next) >= MAP_XOP8 && X86_VEX3_M(next) <= MAP_XOPA;
	}

	return false;
}

/* What there is instead of the prefixes 0x66, 0xf3 and 0xf2 */
static void kvmi_decode_pp(struct kvmi_decoder *d, u8 byte)
{
	static const u8 reps[] = { 0, 0, 0xf3, 0xf2 };

	d->has_66 = X86_VEX_P(byte) == 1;
	d->rep = reps[X86_VEX_P(byte)];
}

static void kvmi_decode_evex(struct kvmi_decoder *d, u8 byte)
{
	u8 length = byte >> 5 & 3;

	d->has_evex = true;
	d->mask_reg = byte & 7;
	d->vec_index = byte & BIT(3) ? 0 : 16;
	d->is_broadcast = byte & BIT(4);
	d->vec_bytes = min(16 << length, KVMI_MAX_VEC_BYTES);
}

/* VEX (0xc5, 0xc4), EVEX (0x62) and XOP (0x8f) have what REX has, but inverted. */
static void kvmi_decode_vex(struct kvmi_decoder *d, u8 prefix)
{
	u8 byte = kvmi_next_byte(d);

	d->has_vex = true;
	d->map = MAP_0F;
	d->rex = 0;

	if (prefix != 0xc5) {
		if (!X86_VEX_X(byte))
			d->rex |= REX_X;
		if (!X86_VEX_B(byte))
			d->rex |= REX_B;
		d->map = prefix == 0x62 ? X86_EVEX_M(byte) : X86_VEX3_M(byte);
		byte = kvmi_next_byte(d);
		if (X86_VEX_W(byte))
			d->rex |= REX_W;
	}
	d->op_bytes = d->is_64bit && (d->rex & REX_W) ? 8 : 4;
	d->vec_reg = ~X86_VEX_V(byte) & 0xf;
	d->vec_bytes = X86_VEX_L(byte) ? 32 : 16;
	kvmi_decode_pp(d, byte);
	if (prefix == 0x62)
		kvmi_decode_evex(d, kvmi_next_byte(d));
	/* There are eight registers only. */
	if (!d->is_64bit) {
		d->rex &= REX_W;
		d->vec_reg &= 7;
		d->vec_index = 0;
	}

	d->op = kvmi_next_byte(d);
}

/* Return: the first byte that is no prefix.  REX counts as the last one only. */
static u8 kvmi_decode_prefixes(struct kvmi_decoder *d)
{
	u8 byte = kvmi_next_byte(d);

	while (!d->failed) {
		if (kvmi_is_prefix(d, byte))
			d->rex = 0;
		else if (d->is_64bit && (byte & 0xf0) == 0x40)
			d->rex = byte & 0xf;
		else
			break;
		byte = kvmi_next_byte(d);
	}

	return byte;
}

static void kvmi_decode_opcode(struct kvmi_decoder *d)
{
	u8 byte = kvmi_decode_prefixes(d);

	if (d->rex & REX_W)
		d->op_bytes = 8;

	if (kvmi_is_vex(d, byte)) {
		kvmi_decode_vex(d, byte);
		return;
	}

	if (byte == 0x0f) {
		d->map = MAP_0F;
		byte = kvmi_next_byte(d);
		if (byte == 0x38 || byte == 0x3a) {
			d->map = byte == 0x38 ? MAP_0F38 : MAP_0F3A;
			byte = kvmi_next_byte(d);
		}
	}

	d->op = byte;
}

/* ---- the addresses ---- */

/**
 * kvmi_add_linear - note an operand, or what is like one
 * @d: the instruction
 * @gva: its linear address
 * @size: its size in bytes
 * @access: how it is accessed, in KVMI_PAGE_ACCESS_* terms
 *
 * Return: the operand, which is one that the instruction certainly has.
 */
struct kvmi_operand *kvmi_add_linear(struct kvmi_decoder *d, gva_t gva,
				     u16 size, u8 access)
{
	struct kvmi_operand *operand;

	if (WARN_ON_ONCE(d->nr_operands == KVMI_MAX_OPERANDS))
		d->nr_operands--;

	operand = &d->operands[d->nr_operands++];
	operand->gva = d->is_64bit ? gva : (u32)gva;
	operand->size = size;
	operand->access = access;
	operand->certain = true;
	operand->implicit = false;

	return operand;
}

static gva_t kvmi_linear(const struct kvmi_decoder *d, int seg, u64 ea,
			 u8 ad_bytes)
{
	if (ad_bytes < 8)
		ea &= BIT_ULL(8 * ad_bytes) - 1;
	if (!d->is_64bit || seg == VCPU_SREG_FS || seg == VCPU_SREG_GS)
		ea += kvm_x86_call(get_segment_base)(d->vcpu, seg);

	return ea;
}

/**
 * kvmi_add_operand - the same, somewhere in a segment
 * @d: the instruction
 * @seg: the segment register
 * @ea: where, if the instruction had addresses of 64 bits
 * @size: its size in bytes
 * @access: how it is accessed, in KVMI_PAGE_ACCESS_* terms
 */
struct kvmi_operand *kvmi_add_operand(struct kvmi_decoder *d, int seg, u64 ea,
				      u16 size, u8 access)
{
	return kvmi_add_linear(d, kvmi_linear(d, seg, ea, d->ad_bytes), size,
			       access);
}

/* The size of addresses on the stack */
static u8 kvmi_stack_ad_bytes(const struct kvmi_decoder *d)
{
	struct kvm_segment ss;

	if (d->is_64bit)
		return 8;

	kvm_get_segment(d->vcpu, &ss, VCPU_SREG_SS);

	return ss.db ? 4 : 2;
}

/**
 * kvmi_stack_gva - a linear address on the stack
 * @d: the instruction
 * @reg: the register that points to it, VCPU_REGS_RSP or VCPU_REGS_RBP
 * @disp: the distance from there, in bytes
 */
gva_t kvmi_stack_gva(const struct kvmi_decoder *d, int reg, s64 disp)
{
	return kvmi_linear(d, VCPU_SREG_SS, kvmi_reg(d, reg) + disp,
			   kvmi_stack_ad_bytes(d));
}

/**
 * kvmi_add_stack - an operand on the stack
 * @d: the instruction
 * @reg: the register that points to it, VCPU_REGS_RSP or VCPU_REGS_RBP
 * @disp: the distance from there, in bytes
 * @size: its size in bytes
 * @access: how it is accessed, in KVMI_PAGE_ACCESS_* terms
 *
 * Return: the operand, the first part of it if it begins anew at 0.
 */
struct kvmi_operand *kvmi_add_stack(struct kvmi_decoder *d, int reg, s64 disp,
				    u16 size, u8 access)
{
	u64 ea = kvmi_reg(d, reg) + disp;
	u8 ad_bytes = kvmi_stack_ad_bytes(d);
	struct kvmi_operand *operand;
	u32 left;

	operand = kvmi_add_linear(d, kvmi_linear(d, VCPU_SREG_SS, ea, ad_bytes),
				  size, access);
	left = SZ_64K - (u16)ea;
	if (ad_bytes == 2 && left < size) {
		operand->size = left;
		kvmi_add_linear(d, kvmi_linear(d, VCPU_SREG_SS, 0, ad_bytes),
				size - left, access);
	}

	return operand;
}

/**
 * kvmi_operand_seg - the segment of an operand, which a prefix can replace
 * @d: the instruction
 * @seg: the segment register without a prefix
 */
int kvmi_operand_seg(const struct kvmi_decoder *d, int seg)
{
	return d->seg < 0 ? seg : d->seg;
}

/**
 * kvmi_reg - a general register, all of it: what has to be cut is cut later
 * @d: the instruction
 * @reg: its number
 */
u64 kvmi_reg(const struct kvmi_decoder *d, int reg)
{
	return kvm_register_read_raw(d->vcpu, reg);
}

/**
 * struct kvmi_address - what a ModRM byte and what follows it say
 * @ea: the sum of base and displacement, and of the index if that is just a
 *	register
 * @seg: the segment register without a prefix
 * @index: the register with the index, as the encoding has it
 * @scale: what the index is shifted by
 * @span: how many bytes the address may be larger than @ea
 */
struct kvmi_address {
	u64 ea;
	int seg;
	u8 index;
	u8 scale;
	u16 span;
};

/* EVEX has a short displacement in units of what is accessed. */
static void kvmi_add_disp(struct kvmi_decoder *d, struct kvmi_address *addr,
			  u8 mod, s64 disp)
{
	u8 scale = d->has_evex && mod == 1 ? kvmi_vec_disp_scale(d) : 1;

	if (scale || !disp) {
		addr->ea += disp * scale;
		return;
	}

	d->vague = true;
	addr->span = abs(disp) * 63;
	addr->ea += min(disp, disp * 64);
}

static void kvmi_decode_address16(struct kvmi_decoder *d,
				  struct kvmi_address *addr)
{
	static const u8 bases[] = {
		VCPU_REGS_RBX, VCPU_REGS_RBX, VCPU_REGS_RBP, VCPU_REGS_RBP,
		VCPU_REGS_RSI, VCPU_REGS_RDI, VCPU_REGS_RBP, VCPU_REGS_RBX,
	};
	static const u8 indexes[] = { VCPU_REGS_RSI, VCPU_REGS_RDI };
	u8 mod = X86_MODRM_MOD(d->modrm);
	u8 rm = X86_MODRM_RM(d->modrm);

	if (mod == 0 && rm == 6) {
		addr->ea = kvmi_next_number(d, 2);
		return;
	}

	if (bases[rm] == VCPU_REGS_RBP)
		addr->seg = VCPU_SREG_SS;
	addr->ea = kvmi_reg(d, bases[rm]);
	if (rm < 4)
		addr->ea += kvmi_reg(d, indexes[rm & 1]);
	if (mod)
		kvmi_add_disp(d, addr, mod, kvmi_next_number(d, mod));
}

static void kvmi_decode_address(struct kvmi_decoder *d, u16 accesses,
				struct kvmi_address *addr)
{
	u8 mod = X86_MODRM_MOD(d->modrm);
	u8 rm = X86_MODRM_RM(d->modrm);
	int base = kvmi_modrm_rm_nr(d);
	bool rip_relative = false;

	if (rm == 4) {
		u8 sib = kvmi_next_byte(d);

		addr->index = X86_SIB_INDEX(sib) | (d->rex & REX_X ? 8 : 0);
		addr->scale = X86_SIB_SCALE(sib);
		if (addr->index != VCPU_REGS_RSP && !kvmi_is_gather(d) &&
		    !kvmi_is_tile(d))
			addr->ea = kvmi_reg(d, addr->index) << addr->scale;
		base = X86_SIB_BASE(sib) | (d->rex & REX_B ? 8 : 0);
	}
	if (mod == 0 && (base & 7) == 5) {
		rip_relative = rm == 5 && d->is_64bit;
		base = -1;
		mod = 2;
	}

	if (mod)
		kvmi_add_disp(d, addr, mod, kvmi_next_number(d, mod == 1 ? 1 : 4));
	if (base >= 0)
		addr->ea += kvmi_reg(d, base);
	if (base == VCPU_REGS_RSP && (accesses & POP))
		addr->ea += kvmi_stack_bytes(d);
	if (rip_relative)
		addr->ea += kvm_rip_read(d->vcpu) + d->pos +
			    kvmi_immediate_bytes(d);
	if (base == VCPU_REGS_RSP || base == VCPU_REGS_RBP)
		addr->seg = VCPU_SREG_SS;
}

/* BT and its relatives with a register go far away from their operand. */
static s64 kvmi_bit_offset(const struct kvmi_decoder *d)
{
	s64 bit;

	if (d->map != MAP_0F || d->has_vex ||
	    (d->op != 0xa3 && d->op != 0xab && d->op != 0xb3 && d->op != 0xbb))
		return 0;

	bit = sign_extend64(kvmi_reg(d, kvmi_modrm_reg_nr(d)), 8 * d->op_bytes - 1);

	return (bit >> (ilog2(d->op_bytes) + 3)) * d->op_bytes;
}

static bool kvmi_reads_xsave_header(const struct kvmi_decoder *d, u16 accesses)
{
	return d->map == MAP_0F && d->op == 0xae && (accesses & MAYBE) &&
	       (accesses & MEM_W);
}

static void kvmi_decode_memory(struct kvmi_decoder *d, u16 accesses)
{
	struct kvmi_address addr = { .seg = VCPU_SREG_DS };
	u8 access = (accesses & MEM_R ? KVMI_PAGE_ACCESS_R : 0) |
		    (accesses & MEM_W ? KVMI_PAGE_ACCESS_W : 0);
	struct kvmi_operand *operand;
	int seg;

	if (kvmi_modrm_is_reg(d))
		return;

	if (d->ad_bytes == 2)
		kvmi_decode_address16(d, &addr);
	else
		kvmi_decode_address(d, accesses, &addr);
	addr.ea += kvmi_bit_offset(d);
	seg = kvmi_operand_seg(d, addr.seg);

	if (kvmi_is_gather(d) || kvmi_is_tile(d)) {
		kvmi_add_gather(d, seg, addr.ea, addr.index, addr.scale, access);
		return;
	}
	if (d->has_vex) {
		kvmi_add_vec_operand(d, seg, addr.ea,
				     kvmi_memory_bytes(d) + addr.span, access);
		return;
	}

	if (kvmi_is_short_near(d))
		d->vague = true;
	operand = kvmi_add_operand(d, seg, addr.ea, kvmi_memory_bytes(d), access);
	operand->certain = !(accesses & MAYBE) && !d->vague;
	if (kvmi_reads_xsave_header(d, accesses))
		kvmi_add_linear(d, operand->gva + XSAVE_HEADER_AT, 8,
				KVMI_PAGE_ACCESS_R | KVMI_PAGE_ACCESS_W)->certain = false;
	/* MOVDIR64B, ENQCMD: the destination is in a register. */
	if (d->map == MAP_0F38 && d->op == 0xf8)
		kvmi_add_operand(d, VCPU_SREG_ES,
				 kvmi_reg(d, kvmi_modrm_reg_nr(d)), 64,
				 KVMI_PAGE_ACCESS_W);
}

static void kvmi_decode_stack(struct kvmi_decoder *d, u16 accesses)
{
	u8 size = kvmi_stack_bytes(d);
	struct kvmi_operand *operand;

	if (kvmi_is_short_near(d)) {
		d->vague = true;
		size = 8;
	}

	if (accesses & PUSH)
		operand = kvmi_add_stack(d, VCPU_REGS_RSP, -size, size,
					 KVMI_PAGE_ACCESS_W);
	else
		operand = kvmi_add_stack(d, accesses & LEAVE ? VCPU_REGS_RBP :
							       VCPU_REGS_RSP,
					 0, size, KVMI_PAGE_ACCESS_R);
	operand->certain = !d->vague;
}

/* PUSHA, POPA and ENTER, which copies pointers to the frames around its own */
static void kvmi_decode_frame(struct kvmi_decoder *d)
{
	u8 size = kvmi_stack_bytes(d);
	u16 room;
	u8 level;

	switch (d->op) {
	case 0x60:
		kvmi_add_stack(d, VCPU_REGS_RSP, -8 * size, 8 * size,
			       KVMI_PAGE_ACCESS_W);
		return;
	case 0x61:
		kvmi_add_stack(d, VCPU_REGS_RSP, 0, 8 * size, KVMI_PAGE_ACCESS_R);
		return;
	}

	room = (u16)kvmi_next_number(d, 2);
	level = kvmi_next_byte(d) & 0x1f;
	if (level > 1)
		kvmi_add_stack(d, VCPU_REGS_RBP, -(level - 1) * size,
			       (level - 1) * size, KVMI_PAGE_ACCESS_R);
	kvmi_add_stack(d, VCPU_REGS_RSP, -(level + 1) * size, (level + 1) * size,
		       KVMI_PAGE_ACCESS_W);
	/* It makes sure that the new top of the stack could be written to. */
	if (room)
		kvmi_add_stack(d, VCPU_REGS_RSP, -(level + 1) * size - room, size,
			       KVMI_PAGE_ACCESS_W)->certain = false;
}

/* MONITOR and its like read what they are to watch, CLZERO clears a cache line. */
static void kvmi_decode_monitor(struct kvmi_decoder *d)
{
	struct kvmi_operand *operand;
	int seg;

	if (d->map != MAP_0F || d->has_vex || !kvmi_modrm_is_reg(d))
		return;

	seg = kvmi_operand_seg(d, VCPU_SREG_DS);
	if (d->op == 0xae && d->rep == 0xf3 && kvmi_modrm_ext(d) == 6) {
		/* UMONITOR: in any register */
		kvmi_add_operand(d, seg, kvmi_reg(d, kvmi_modrm_rm_nr(d)), 1,
				 KVMI_PAGE_ACCESS_R);
	} else if (d->op == 0x01 && (d->modrm == 0xc8 || d->modrm == 0xfa)) {
		kvmi_add_operand(d, seg, kvmi_reg(d, VCPU_REGS_RAX), 1,
				 KVMI_PAGE_ACCESS_R);
	} else if (d->op == 0x01 && d->modrm == 0xfc) {
		operand = kvmi_add_operand(d, seg, kvmi_reg(d, VCPU_REGS_RAX), 64,
					   KVMI_PAGE_ACCESS_W);
		operand->gva = ALIGN_DOWN(operand->gva, 64);
	}
}

static void kvmi_decode_string(struct kvmi_decoder *d, u16 accesses)
{
	/* INS and OUTS have no form with 64 bits. */
	u8 size = !(d->op & 1) ? 1 : d->op < 0x70 ? min_t(u8, d->op_bytes, 4) :
						    d->op_bytes;

	if (accesses & SI_R)
		kvmi_add_operand(d, kvmi_operand_seg(d, VCPU_SREG_DS),
				 kvmi_reg(d, VCPU_REGS_RSI), size,
				 KVMI_PAGE_ACCESS_R);
	if (accesses & (DI_R | DI_W))
		kvmi_add_operand(d, VCPU_SREG_ES, kvmi_reg(d, VCPU_REGS_RDI),
				 size, accesses & DI_W ? KVMI_PAGE_ACCESS_W :
							 KVMI_PAGE_ACCESS_R);
}

static void kvmi_decode_direct(struct kvmi_decoder *d, u16 accesses)
{
	u8 size = d->op & 1 ? d->op_bytes : 1;
	u64 ea;

	if (accesses & XLAT_R) {
		ea = kvmi_reg(d, VCPU_REGS_RBX) + (u8)kvmi_reg(d, VCPU_REGS_RAX);
		size = 1;
	} else {
		ea = kvmi_next_number(d, d->ad_bytes);
	}

	kvmi_add_operand(d, kvmi_operand_seg(d, VCPU_SREG_DS), ea, size,
			 accesses & ABS_W ? KVMI_PAGE_ACCESS_W :
					    KVMI_PAGE_ACCESS_R);
}

static void kvmi_decode_mode(struct kvmi_decoder *d)
{
	int db, l;

	kvm_x86_call(get_cs_db_l_bits)(d->vcpu, &db, &l);
	d->is_64bit = is_64_bit_mode(d->vcpu);
	d->is_16bit = !d->is_64bit && !db;
	d->op_bytes = d->is_16bit ? 2 : 4;
	d->ad_bytes = d->is_64bit ? 8 : d->op_bytes;
	d->vec_bytes = 16;
}

static void kvmi_decode_begin(struct kvmi_decoder *d, struct kvm_vcpu *vcpu)
{
	memset(d, 0, offsetof(struct kvmi_decoder, operands));
	d->vcpu = vcpu;
	d->seg = -1;
	kvmi_decode_mode(d);
}

static bool kvmi_decode(struct kvmi_decoder *d, struct kvm_vcpu *vcpu)
{
	u16 accesses;

	kvmi_decode_begin(d, vcpu);
	kvmi_decode_opcode(d);
	if (kvmi_has_modrm(d))
		d->modrm = kvmi_next_byte(d);

	accesses = d->failed ? 0 : kvmi_accesses(d);
	/* In the order of the accesses */
	if (accesses & (POP | LEAVE))
		kvmi_decode_stack(d, accesses);
	if (accesses & MEM_RW)
		kvmi_decode_memory(d, accesses);
	if (accesses & PUSH)
		kvmi_decode_stack(d, accesses);
	if (accesses & FRAME)
		kvmi_decode_frame(d);
	if (accesses & (SI_R | DI_R | DI_W))
		kvmi_decode_string(d, accesses);
	if (accesses & (ABS_R | ABS_W | XLAT_R))
		kvmi_decode_direct(d, accesses);
	kvmi_decode_monitor(d);
	kvmi_decode_maskmov(d);
	kvmi_decode_tables(d);

	return !d->failed;
}

/*
 * Can the CPU tell this distance from its beginning of an operand?  What is large
 * is accessed in parts.  Else it is the beginning, also that in a second page.
 */
static bool kvmi_is_told_at(const struct kvmi_operand *operand,
			    unsigned int distance)
{
	return !distance || operand->size > sizeof(u64) || operand->implicit ||
	       !offset_in_page(operand->gva + distance);
}

/* Where an operand is at @gpa, if the fault can be its */
static gva_t kvmi_operand_gva(const struct kvmi_decoder *d,
			      const struct kvmi_operand *operand, gpa_t gpa)
{
	u64 pferr = operand->implicit ? PFERR_IMPLICIT_ACCESS : 0;
	unsigned int distance = offset_in_page(gpa - operand->gva);

	for ( ; distance < operand->size; distance += PAGE_SIZE) {
		gva_t gva = operand->gva + distance;

		if (!d->is_64bit && !operand->implicit)
			gva = (u32)gva;
		if (kvmi_is_told_at(operand, distance) &&
		    kvmi_translate(d->vcpu, gva, pferr) == gpa)
			return gva;
	}

	return KVMI_NO_GVA;
}

/**
 * kvmi_insn_gva - which linear address does the instruction at RIP access?
 * @vcpu: the vCPU; nothing is being delivered to it
 * @gpa: what it accesses, the address in the guest's memory
 * @access: how, KVMI_PAGE_ACCESS_R or _W
 *
 * Return: the address, or KVMI_NO_GVA.
 */
gva_t kvmi_insn_gva(struct kvm_vcpu *vcpu, gpa_t gpa, u8 access)
{
	gva_t gva, found = KVMI_NO_GVA;
	struct kvmi_decoder d;
	u8 i;

	if (!kvmi_decode(&d, vcpu) || d.vague)
		return KVMI_NO_GVA;

	for (i = 0; i < d.nr_operands; i++) {
		if (!(d.operands[i].access & access))
			continue;

		gva = kvmi_operand_gva(&d, &d.operands[i], gpa);
		if (gva == KVMI_NO_GVA || gva == found)
			continue;
		if (found != KVMI_NO_GVA)
			return KVMI_NO_GVA;
		found = gva;
	}

	return found;
}

static unsigned int kvmi_copy_operands(const struct kvmi_decoder *d,
				       struct kvmi_operand *operands)
{
	u8 i;

	for (i = 0; i < d->nr_operands; i++) {
		operands[i] = d->operands[i];
		operands[i].vague = d->vague;
	}

	return d->nr_operands;
}

/**
 * kvmi_insn_operands - what does the instruction at RIP access, at most?
 * @vcpu: the vCPU; nothing is being delivered to it
 * @operands: filled with it; at least KVMI_MAX_OPERANDS
 *
 * Return: how many there are.  Of an instruction that the guest cannot fetch,
 * there is nothing to tell.
 */
unsigned int kvmi_insn_operands(struct kvm_vcpu *vcpu,
				struct kvmi_operand *operands)
{
	struct kvmi_decoder d;

	return kvmi_decode(&d, vcpu) ? kvmi_copy_operands(&d, operands) : 0;
}

/**
 * kvmi_delivery_operands - what does the CPU access to deliver, at most?
 * @vcpu: the vCPU; an interrupt or exception is being delivered to it
 * @operands: filled with it; at least KVMI_MAX_OPERANDS
 *
 * Return: how many there are.
 */
unsigned int kvmi_delivery_operands(struct kvm_vcpu *vcpu,
				    struct kvmi_operand *operands)
{
	struct kvmi_decoder d;

	kvmi_decode_begin(&d, vcpu);
	kvmi_decode_delivery(&d);

	return kvmi_copy_operands(&d, operands);
}

/**
 * kvmi_insn_goes_on - is the instruction at RIP a string with elements left?
 * @vcpu: the vCPU; nothing is being delivered to it
 */
bool kvmi_insn_goes_on(struct kvm_vcpu *vcpu)
{
	struct kvmi_decoder d;

	return kvmi_decode(&d, vcpu) && d.rep && kvmi_is_string(&d) &&
	       !kvmi_is_empty_string(&d);
}
