// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM introspection on x86: what an instruction accesses
 *
 * It is looked at for two reasons.  AMD's nested paging tells no linear address
 * of an access that faulted.  The instruction does: its operands are computed,
 * and the one that leads to the guest-physical address of the fault, exact to
 * the byte, is it.  If two of them do, or if it is not known what the instruction
 * accesses, the address is not known.
 *
 * And a page may have to permit more to the CPU than the tool has allowed, so
 * that there would be no fault (kvmi_pf.c).
 *
 * So this has to know all accesses of an instruction to memory or nothing.
 * Not known are those that access descriptor tables, that gather or scatter,
 * or that nobody uses.  Nor is code that is not 32-bit or 64-bit, and uses
 * addresses accordingly.  For the second reason, they have to be certain, too:
 * neither up to a mask nor to what a table of opcodes does not tell.
 *
 * KVM's emulator is of no use for it.  It knows a third of the instructions,
 * and it has a state, which must not be disturbed.
 *
 * Addresses are translated as for reading.  That sets accessed bits, as the CPU
 * may do at any time, but never a dirty bit.
 *
 * On the thread of the vCPU, in a kvm->srcu section.
 */

#include <linux/kvmi_arch.h>
#include <asm/insn.h>
#include "kvm_cache_regs.h"
#include "kvmi.h"
#include "mmu.h"
#include "x86.h"

/* What an instruction accesses */
#define MEM_R		BIT(0)	/* the operand of its ModRM byte */
#define MEM_W		BIT(1)
#define MEM_RW		(MEM_R | MEM_W)
#define PUSH		BIT(2)	/* below the top of the stack, writes */
#define POP		BIT(3)	/* the top of the stack, reads */
#define LEAVE		BIT(4)	/* the stack at RBP, reads */
#define SI_R		BIT(5)	/* at RSI */
#define DI_R		BIT(6)	/* at RDI, in ES */
#define DI_W		BIT(7)
#define ABS_R		BIT(8)	/* an address in the instruction */
#define ABS_W		BIT(9)
#define XLAT_R		BIT(10)	/* at RBX + AL */
#define MAYBE		BIT(11)	/* one of them only, or only sometimes */

/* More than this cannot be accessed by an operand whose size is not known. */
#define MAX_OPERAND	KVMI_MAX_OPERAND_SIZE

/* The encoding of the opcode, and the numbers that VEX has for three of them */
enum kvmi_opcode_map {
	MAP_ONE_BYTE,
	MAP_0F,
	MAP_0F38,
	MAP_0F3A,
};

/**
 * struct kvmi_decoder - an instruction, as far as it has been looked at
 * @vcpu: the vCPU whose instruction it is
 * @bytes: its first @fetched bytes, of which @pos have been used
 * @fetched: see @bytes
 * @pos: see @bytes
 * @failed: it cannot be decoded
 * @is_64bit: the vCPU executes 64-bit code
 * @has_vex: it has a VEX prefix
 * @has_evex: it has an EVEX prefix
 * @is_masked: it leaves out what a mask register says
 * @rep: the last of the prefixes 0xf2 and 0xf3, or what stands for it in VEX and
 *	EVEX, or 0
 * @rex: the bits W, R, X and B, as in a REX prefix
 * @op_bytes: size of its operands
 * @ad_bytes: size of its addresses
 * @seg: the segment register that a prefix names, or -1
 * @map: the table of opcodes which @op belongs to
 * @op: its opcode
 * @modrm: its ModRM byte, if it has one
 * @certain: it makes each access that it is said to make
 * @nr_operands: how many of @operands there are
 * @operands: what it accesses
 */
struct kvmi_decoder {
	struct kvm_vcpu *vcpu;
	u8 bytes[MAX_INSN_SIZE];
	u8 fetched;
	u8 pos;
	bool failed;

	bool is_64bit;
	bool has_vex;
	bool has_evex;
	bool is_masked;
	u8 rep;
	u8 rex;
	u8 op_bytes;
	u8 ad_bytes;
	int seg;
	enum kvmi_opcode_map map;
	u8 op;
	u8 modrm;
	bool certain;

	u8 nr_operands;
	struct kvmi_operand operands[KVMI_MAX_OPERANDS];
};

#define REX_B		BIT(0)
#define REX_X		BIT(1)
#define REX_R		BIT(2)
#define REX_W		BIT(3)

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

/* A little-endian number with a sign */
static s64 kvmi_next_number(struct kvmi_decoder *d, u8 size)
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
	case 0x26:
		d->seg = VCPU_SREG_ES;
		return true;
	case 0x2e:
		d->seg = VCPU_SREG_CS;
		return true;
	case 0x36:
		d->seg = VCPU_SREG_SS;
		return true;
	case 0x3e:
		d->seg = VCPU_SREG_DS;
		return true;
	case 0x64:
		d->seg = VCPU_SREG_FS;
		return true;
	case 0x65:
		d->seg = VCPU_SREG_GS;
		return true;
	case 0x66:
		d->op_bytes = 2;
		return true;
	case 0x67:
		d->ad_bytes = d->is_64bit ? 4 : 2;
		return true;
	case 0xf2 ... 0xf3:
		d->rep = byte;
		return true;
	case 0xf0:
		return true;
	}

	return false;
}

/* What a VEX or EVEX prefix has instead of the prefixes 0x66, 0xf3 and 0xf2 */
static void kvmi_decode_pp(struct kvmi_decoder *d, u8 byte)
{
	static const u8 reps[] = { 0, 0, 0xf3, 0xf2 };

	d->rep = reps[byte & 3];
}

/* VEX (0xc5, 0xc4) and EVEX (0x62) have what REX has, but inverted. */
static void kvmi_decode_vex(struct kvmi_decoder *d, u8 prefix)
{
	u8 byte = kvmi_next_byte(d);

	d->has_vex = true;
	d->has_evex = prefix == 0x62;
	d->map = MAP_0F;
	d->rex = 0;

	/* Outside of 64-bit mode, these are LDS, LES and BOUND. */
	if (!d->is_64bit && X86_MODRM_MOD(byte) != 3)
		d->failed = true;

	if (prefix != 0xc5) {
		if (!X86_VEX_X(byte))
			d->rex |= REX_X;
		if (!X86_VEX_B(byte))
			d->rex |= REX_B;
		d->map = byte & (d->has_evex ? 0x7 : 0x1f);
		if (d->map == MAP_ONE_BYTE || d->map > MAP_0F3A)
			d->failed = true;
		byte = kvmi_next_byte(d);
	}
	kvmi_decode_pp(d, byte);
	if (d->has_evex)
		d->is_masked = kvmi_next_byte(d) & 7;

	d->op = kvmi_next_byte(d);
}

static void kvmi_decode_opcode(struct kvmi_decoder *d)
{
	u8 byte = kvmi_next_byte(d);

	while (!d->failed && kvmi_is_prefix(d, byte))
		byte = kvmi_next_byte(d);

	if (d->is_64bit && (byte & 0xf0) == 0x40) {
		d->rex = byte & 0xf;
		byte = kvmi_next_byte(d);
	}
	if (d->rex & REX_W)
		d->op_bytes = 8;

	switch (byte) {
	case 0x62:
	case 0xc4 ... 0xc5:
		kvmi_decode_vex(d, byte);
		return;
	case 0x0f:
		d->map = MAP_0F;
		byte = kvmi_next_byte(d);
		if (byte == 0x38 || byte == 0x3a) {
			d->map = byte == 0x38 ? MAP_0F38 : MAP_0F3A;
			byte = kvmi_next_byte(d);
		}
	}

	d->op = byte;
}

/* ---- what an instruction accesses; 0 if that is not known ---- */

static u16 kvmi_fpu_accesses(const struct kvmi_decoder *d)
{
	static const u8 stores[] = {
		[0xd9 & 7] = BIT(2) | BIT(3) | BIT(6) | BIT(7),
		[0xdb & 7] = BIT(1) | BIT(2) | BIT(3) | BIT(7),
		[0xdd & 7] = BIT(1) | BIT(2) | BIT(3) | BIT(6) | BIT(7),
		[0xdf & 7] = BIT(1) | BIT(2) | BIT(3) | BIT(6) | BIT(7),
	};

	return stores[d->op & 7] & BIT(X86_MODRM_REG(d->modrm)) ? MEM_W : MEM_R;
}

static u16 kvmi_one_byte_accesses(const struct kvmi_decoder *d)
{
	u8 ext = X86_MODRM_REG(d->modrm);

	switch (d->op) {
	case 0x00 ... 0x3f:
		if ((d->op & 7) >= 4)
			return 0;
		/* CMP, and what has a register as its destination */
		return d->op >= 0x38 || (d->op & 2) ? MEM_R : MEM_RW;
	case 0x50 ... 0x57:
	case 0x68:
	case 0x6a:
	case 0x9c:
	case 0xe8:
		return PUSH;
	case 0x58 ... 0x5f:
	case 0x9d:
	case 0xc2 ... 0xc3:
		return POP;
	case 0x63:
		return d->is_64bit ? MEM_R : 0;
	case 0x80 ... 0x83:
		return ext == 7 ? MEM_R : MEM_RW;
	case 0x69:
	case 0x6b:
	case 0x84 ... 0x85:
	case 0x8a ... 0x8b:
		return MEM_R;
	case 0x86 ... 0x87:
	case 0xc0 ... 0xc1:
	case 0xd0 ... 0xd3:
		return MEM_RW;
	case 0xd8 ... 0xdf:
		return kvmi_fpu_accesses(d);
	case 0x88 ... 0x89:
	case 0x8c:
		return MEM_W;
	case 0x8f:
		return ext ? 0 : POP | MEM_W;
	case 0xa0 ... 0xa1:
		return ABS_R;
	case 0xa2 ... 0xa3:
		return ABS_W;
	case 0xa4 ... 0xa5:
		return SI_R | DI_W;
	case 0xa6 ... 0xa7:
		return SI_R | DI_R;
	case 0xaa ... 0xab:
		return DI_W;
	case 0xac ... 0xad:
		return SI_R;
	case 0xae ... 0xaf:
		return DI_R;
	case 0xc6 ... 0xc7:
		return ext ? 0 : MEM_W;
	case 0xc9:
		return LEAVE;
	case 0xd7:
		return XLAT_R;
	case 0xf6 ... 0xf7:
		return ext == 2 || ext == 3 ? MEM_RW : MEM_R;
	case 0xfe:
		return ext < 2 ? MEM_RW : 0;
	case 0xff:
		if (ext < 2)
			return MEM_RW;
		if (ext == 2 || ext == 6)
			return MEM_R | PUSH;
		return ext == 4 ? MEM_R : 0;
	}

	return 0;
}

static u16 kvmi_0f_accesses(const struct kvmi_decoder *d)
{
	u8 ext = X86_MODRM_REG(d->modrm);

	switch (d->op) {
	case 0x00:		/* SLDT, STR */
		return ext < 2 ? MEM_W : 0;
	case 0x01:		/* SGDT, SIDT, LGDT, LIDT, SMSW, LMSW */
		if (ext == 2 || ext == 3 || ext == 6)
			return MEM_R;
		return ext < 5 ? MEM_W : 0;
	case 0x0f:		/* 3DNow! */
	case 0x40 ... 0x4f:
	case 0xa3:
	case 0xaf:
	case 0xb6 ... 0xb8:
	case 0xbc ... 0xbf:
		return MEM_R;
	case 0x90 ... 0x9f:
		return d->has_vex ? MEM_RW | MAYBE : MEM_W;	/* KMOV */
	case 0xa0:
	case 0xa8:
		return PUSH;
	case 0xba:
		return ext == 4 ? MEM_R : MEM_RW;
	case 0xae:		/* of the FPU's whole state, and CLFLUSH */
		if (ext == 0 || ext == 3)
			return MEM_W;
		return ext < 3 ? MEM_R : MEM_RW | MAYBE;
	case 0xc7:		/* CMPXCHG8B, CMPXCHG16B, XRSTORS, XSAVEC, XSAVES */
		if (ext == 1)
			return MEM_RW;
		return ext >= 3 && ext <= 5 ? MEM_RW | MAYBE : 0;
	case 0x11:		/* stores of registers */
	case 0x13:
	case 0x17:
	case 0x29:
	case 0x2b:
	case 0x7f:
	case 0xc3:
	case 0xd6:
	case 0xe7:
		return MEM_W;
	case 0x7e:
		return d->rep == 0xf3 ? MEM_R : MEM_W;
	case 0xa4 ... 0xa5:
	case 0xab ... 0xad:
	case 0xb0 ... 0xb1:
	case 0xb3:
	case 0xbb:
	case 0xc0 ... 0xc1:
		return MEM_RW;
	case 0x10:
	case 0x12:
	case 0x14 ... 0x16:
	case 0x28:
	case 0x2a:
	case 0x2c ... 0x2f:
	case 0x50 ... 0x76:
	case 0x7a ... 0x7d:
	case 0xc2:
	case 0xc4:
	case 0xc6:
	case 0xd0 ... 0xd5:
	case 0xd8 ... 0xe6:
	case 0xe8 ... 0xf6:
	case 0xf8 ... 0xfe:
		return MEM_R;
	}

	return 0;
}

static u16 kvmi_0f38_accesses(const struct kvmi_decoder *d)
{
	switch (d->op) {
	case 0x80 ... 0x82:	/* INVEPT and the like */
		return d->has_vex ? MEM_RW | MAYBE : 0;
	case 0x4b:		/* tiles */
	case 0x90 ... 0x93:	/* gathering */
	case 0xa0 ... 0xa3:	/* scattering */
		return d->has_vex ? 0 : MEM_R;
	case 0xc6 ... 0xc7:	/* gathering ahead */
		return d->has_evex ? 0 : MEM_R;
	case 0xf8:		/* MOVDIR64B and the like: two operands */
		return 0;
	case 0x2c ... 0x2f:	/* what a mask says */
	case 0x8c:
	case 0x8e:
		return d->has_vex ? MEM_RW | MAYBE : MEM_R;
	case 0xf1:		/* MOVBE, CRC32 */
		return d->rep == 0xf2 ? MEM_R : MEM_W;
	case 0xf9:		/* MOVDIRI */
		return MEM_W;
	case 0x49:		/* configuration of tiles */
	case 0xe0 ... 0xef:
	case 0xfa ... 0xff:
		return MEM_RW | MAYBE;
	}

	/* Some of EVEX store what they convert or compress. */
	return d->has_evex ? MEM_RW | MAYBE : MEM_R;
}

static u16 kvmi_0f3a_accesses(const struct kvmi_decoder *d)
{
	switch (d->op) {
	case 0x14 ... 0x17:	/* PEXTR */
	case 0x19:		/* VEXTRACT */
	case 0x1b:
	case 0x1d:		/* VCVTPS2PH */
	case 0x39:
	case 0x3b:
		return MEM_W;
	}

	return MEM_R;
}

static bool kvmi_is_string(const struct kvmi_decoder *d)
{
	return d->map == MAP_ONE_BYTE &&
	       ((d->op >= 0xa4 && d->op <= 0xa7) ||
		(d->op >= 0xaa && d->op <= 0xaf));
}

/* Is it a string instruction that has no element left? */
static bool kvmi_is_empty_string(const struct kvmi_decoder *d)
{
	u64 count = kvm_register_read_raw(d->vcpu, VCPU_REGS_RCX);

	if (d->ad_bytes < 8)
		count &= BIT_ULL(8 * d->ad_bytes) - 1;

	return d->rep && kvmi_is_string(d) && !count;
}

static u16 kvmi_accesses(const struct kvmi_decoder *d)
{
	u16 accesses = 0;

	switch (d->map) {
	case MAP_ONE_BYTE:
		accesses = kvmi_one_byte_accesses(d);
		break;
	case MAP_0F:
		accesses = kvmi_0f_accesses(d);
		break;
	case MAP_0F38:
		accesses = kvmi_0f38_accesses(d);
		break;
	case MAP_0F3A:
		accesses = kvmi_0f3a_accesses(d);
		break;
	}

	if (d->is_masked || kvmi_is_empty_string(d))
		accesses |= MAYBE;

	return accesses;
}

/* Those that have no ModRM byte do not mind that their next is looked at. */
static bool kvmi_has_modrm(const struct kvmi_decoder *d)
{
	switch (d->map) {
	case MAP_ONE_BYTE:
		switch (d->op) {
		case 0x00 ... 0x3f:
			return (d->op & 7) < 4;
		case 0x63:
		case 0x69:
		case 0x6b:
		case 0x80 ... 0x8f:
		case 0xc0 ... 0xc1:
		case 0xc6 ... 0xc7:
		case 0xd0 ... 0xd3:
		case 0xd8 ... 0xdf:
		case 0xf6 ... 0xf7:
		case 0xfe ... 0xff:
			return true;
		}
		return false;
	case MAP_0F:
		return d->op != 0xa0 && d->op != 0xa8;
	default:
		return true;
	}
}

/* How many bytes of an immediate operand follow those of the memory operand */
static u8 kvmi_immediate_bytes(const struct kvmi_decoder *d)
{
	bool is_test = X86_MODRM_REG(d->modrm) < 2;
	u8 full = min_t(u8, d->op_bytes, 4);

	switch (d->map) {
	case MAP_ONE_BYTE:
		switch (d->op) {
		case 0x6b:
		case 0x80:
		case 0x82 ... 0x83:
		case 0xc0 ... 0xc1:
		case 0xc6:
			return 1;
		case 0x69:
		case 0x81:
		case 0xc7:
			return full;
		case 0xf6:
			return is_test ? 1 : 0;
		case 0xf7:
			return is_test ? full : 0;
		}
		return 0;
	case MAP_0F:
		switch (d->op) {
		case 0x0f:
		case 0x70 ... 0x73:
		case 0xa4:
		case 0xac:
		case 0xba:
		case 0xc2:
		case 0xc4 ... 0xc6:
			return 1;
		}
		return 0;
	case MAP_0F3A:
		return 1;
	default:
		return 0;
	}
}

/* ---- the addresses ---- */

static void kvmi_add_operand(struct kvmi_decoder *d, int seg, u64 ea, u8 size,
			     u8 access)
{
	struct kvmi_operand *operand = &d->operands[d->nr_operands++];

	if (d->ad_bytes == 4)
		ea = (u32)ea;
	if (!d->is_64bit || seg == VCPU_SREG_FS || seg == VCPU_SREG_GS)
		ea += kvm_x86_call(get_segment_base)(d->vcpu, seg);
	if (!d->is_64bit)
		ea = (u32)ea;

	operand->gva = ea;
	operand->size = size;
	operand->access = access;
}

/* In a segment that a prefix can replace */
static int kvmi_operand_seg(const struct kvmi_decoder *d, int seg)
{
	return d->seg < 0 ? seg : d->seg;
}

/* The whole of it: what the address has to be cut to is cut later. */
static u64 kvmi_reg(const struct kvmi_decoder *d, int reg)
{
	return kvm_register_read_raw(d->vcpu, reg);
}

static u8 kvmi_stack_bytes(const struct kvmi_decoder *d)
{
	if (d->op_bytes == 2)
		return 2;

	return d->is_64bit ? 8 : 4;
}

/* Of those that read their operand and write to it, the others stay in the dark. */
static u8 kvmi_0f_memory_bytes(const struct kvmi_decoder *d)
{
	if (d->has_vex)
		return MAX_OPERAND;

	switch (d->op) {
	case 0xb0:
	case 0xc0:
		return 1;
	case 0xa3 ... 0xa5:
	case 0xab ... 0xad:
	case 0xb1:
	case 0xb3:
	case 0xba ... 0xbb:
	case 0xc1:
		return d->op_bytes;
	case 0xc7:		/* CMPXCHG8B, CMPXCHG16B */
		if (X86_MODRM_REG(d->modrm) == 1)
			return d->rex & REX_W ? 16 : 8;
		break;
	}

	return MAX_OPERAND;
}

/* The size in the instruction's own terms, or the most that it can be. */
static u8 kvmi_memory_bytes(const struct kvmi_decoder *d, u16 accesses)
{
	if (accesses & (PUSH | POP))
		return kvmi_stack_bytes(d);
	if (d->map == MAP_0F)
		return kvmi_0f_memory_bytes(d);
	if (d->map != MAP_ONE_BYTE || (d->op & 0xf8) == 0xd8)
		return MAX_OPERAND;

	switch (d->op) {
	case 0x63:		/* MOVSXD */
		return 4;
	case 0x8c:		/* a segment register */
		return 2;
	case 0xff:		/* near JMP */
		return X86_MODRM_REG(d->modrm) == 4 ? kvmi_stack_bytes(d) :
						      d->op_bytes;
	}

	return d->op & 1 ? d->op_bytes : 1;
}

static void kvmi_decode_memory(struct kvmi_decoder *d, u16 accesses)
{
	u8 mod = X86_MODRM_MOD(d->modrm);
	u8 rm = X86_MODRM_RM(d->modrm);
	int base = rm | (d->rex & REX_B ? 8 : 0);
	bool rip_relative = false;
	s64 disp;
	u64 ea = 0;

	if (mod == 3)
		return;
	/* 16-bit addressing is another world. */
	if (d->ad_bytes == 2)
		d->failed = true;

	if (rm == 4) {
		u8 sib = kvmi_next_byte(d);
		int index = X86_SIB_INDEX(sib) | (d->rex & REX_X ? 8 : 0);

		if (index != VCPU_REGS_RSP)
			ea = kvmi_reg(d, index) << X86_SIB_SCALE(sib);
		base = X86_SIB_BASE(sib) | (d->rex & REX_B ? 8 : 0);
	}
	if (mod == 0 && (base & 7) == 5) {
		rip_relative = rm == 5 && d->is_64bit;
		base = -1;
		mod = 2;
	}

	disp = mod ? kvmi_next_number(d, mod == 1 ? 1 : 4) : 0;
	/* EVEX has it in units of something. */
	if (d->has_evex && mod == 1 && disp)
		d->failed = true;
	ea += disp;

	if (base >= 0)
		ea += kvmi_reg(d, base);
	if (base == VCPU_REGS_RSP && (accesses & POP))
		ea += kvmi_stack_bytes(d);
	if (rip_relative)
		ea += kvm_rip_read(d->vcpu) + d->pos + kvmi_immediate_bytes(d);

	/* BT and its relatives go far away from their operand. */
	if (d->map == MAP_0F && !d->has_vex &&
	    (d->op == 0xa3 || d->op == 0xab || d->op == 0xb3 || d->op == 0xbb)) {
		int reg = X86_MODRM_REG(d->modrm) | (d->rex & REX_R ? 8 : 0);
		s64 bit = sign_extend64(kvmi_reg(d, reg), 8 * d->op_bytes - 1);

		ea += (bit >> (ilog2(d->op_bytes) + 3)) * d->op_bytes;
	}

	kvmi_add_operand(d, kvmi_operand_seg(d, base == VCPU_REGS_RSP ||
						base == VCPU_REGS_RBP ?
						VCPU_SREG_SS : VCPU_SREG_DS),
			 ea, kvmi_memory_bytes(d, accesses),
			 (accesses & MEM_R ? KVMI_PAGE_ACCESS_R : 0) |
			 (accesses & MEM_W ? KVMI_PAGE_ACCESS_W : 0));
}

static void kvmi_decode_stack(struct kvmi_decoder *d, u16 accesses)
{
	u8 size = kvmi_stack_bytes(d);
	u8 ad_bytes = d->ad_bytes;
	struct kvm_segment ss;
	u64 ea;

	/* Near calls and returns with this prefix differ between vendors. */
	if (size == 2 && (d->op == 0xe8 || d->op == 0xc2 || d->op == 0xc3 ||
			  (d->op == 0xff && X86_MODRM_REG(d->modrm) == 2)))
		d->failed = true;

	d->ad_bytes = 8;
	if (!d->is_64bit) {
		kvm_get_segment(d->vcpu, &ss, VCPU_SREG_SS);
		if (!ss.db)
			d->failed = true;
		d->ad_bytes = 4;
	}

	ea = kvmi_reg(d, accesses & LEAVE ? VCPU_REGS_RBP : VCPU_REGS_RSP);
	if (accesses & PUSH)
		ea -= size;
	kvmi_add_operand(d, VCPU_SREG_SS, ea, size, accesses & PUSH ?
			 KVMI_PAGE_ACCESS_W : KVMI_PAGE_ACCESS_R);
	d->ad_bytes = ad_bytes;
}

static void kvmi_decode_string(struct kvmi_decoder *d, u16 accesses)
{
	u8 size = d->op & 1 ? d->op_bytes : 1;

	if (d->ad_bytes == 2)
		d->failed = true;

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
	if (d->ad_bytes == 2)
		d->failed = true;

	kvmi_add_operand(d, kvmi_operand_seg(d, VCPU_SREG_DS), ea, size,
			 accesses & ABS_W ? KVMI_PAGE_ACCESS_W :
					    KVMI_PAGE_ACCESS_R);
}

static bool kvmi_decode(struct kvmi_decoder *d, struct kvm_vcpu *vcpu)
{
	u16 accesses;
	int db, l;

	memset(d, 0, sizeof(*d));
	d->vcpu = vcpu;
	d->seg = -1;
	d->is_64bit = is_64_bit_mode(vcpu);
	kvm_x86_call(get_cs_db_l_bits)(vcpu, &db, &l);
	if (!d->is_64bit && !(db && is_protmode(vcpu)))
		return false;
	d->op_bytes = 4;
	d->ad_bytes = d->is_64bit ? 8 : 4;

	kvmi_decode_opcode(d);
	if (kvmi_has_modrm(d))
		d->modrm = kvmi_next_byte(d);

	accesses = d->failed ? 0 : kvmi_accesses(d);
	d->certain = !(accesses & MAYBE);
	if (accesses & MEM_RW)
		kvmi_decode_memory(d, accesses);
	if (accesses & (PUSH | POP | LEAVE))
		kvmi_decode_stack(d, accesses);
	if (accesses & (SI_R | DI_R | DI_W))
		kvmi_decode_string(d, accesses);
	if (accesses & (ABS_R | ABS_W | XLAT_R))
		kvmi_decode_direct(d, accesses);

	return !d->failed;
}

/* Where an operand is at @gpa: there it begins, or enters its second page. */
static gva_t kvmi_operand_gva(const struct kvmi_decoder *d,
			      const struct kvmi_operand *operand, gpa_t gpa)
{
	gva_t gva = operand->gva;

	if (offset_in_page(gva) != offset_in_page(gpa)) {
		gva = ALIGN(gva, PAGE_SIZE);
		if (offset_in_page(gpa) || gva - operand->gva >= operand->size)
			return KVMI_NO_GVA;
		if (!d->is_64bit)
			gva = (u32)gva;
	}

	return kvmi_translate(d->vcpu, gva, 0) == gpa ? gva : KVMI_NO_GVA;
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

	if (!kvmi_decode(&d, vcpu))
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

/**
 * kvmi_insn_operands - what does the instruction at RIP access?
 * @vcpu: the vCPU; nothing is being delivered to it
 * @operands: filled with what is certain; at least KVMI_MAX_OPERANDS
 *
 * Return: how many there are, 0 if it is not known.
 */
unsigned int kvmi_insn_operands(struct kvm_vcpu *vcpu,
				struct kvmi_operand *operands)
{
	struct kvmi_decoder d;

	if (!kvmi_decode(&d, vcpu) || !d.certain)
		return 0;

	memcpy(operands, d.operands, d.nr_operands * sizeof(*operands));

	return d.nr_operands;
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
