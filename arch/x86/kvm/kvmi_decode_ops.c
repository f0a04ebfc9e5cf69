// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM introspection on x86: the opcodes, and what is known of each
 *
 * Does it have an operand in memory, is that read or written, and how large is it
 * (SDM vol. 2, APM vol. 3 to 5)?  An opcode that is not found here has nothing in
 * memory, or is not valid.  Vectors have their sizes in kvmi_decode_vec.c.
 *
 * Nothing but registers and what has been decoded is looked at.
 */

#include <linux/kvm_host.h>
#include "cpuid.h"
#include "kvm_cache_regs.h"
#include "kvmi_decode.h"

/* ---- what is accessed ---- */

static u16 kvmi_fpu_accesses(const struct kvmi_decoder *d)
{
	static const u8 stores[] = {
		[0xd9 & 7] = BIT(2) | BIT(3) | BIT(6) | BIT(7),
		[0xdb & 7] = BIT(1) | BIT(2) | BIT(3) | BIT(7),
		[0xdd & 7] = BIT(1) | BIT(2) | BIT(3) | BIT(6) | BIT(7),
		[0xdf & 7] = BIT(1) | BIT(2) | BIT(3) | BIT(6) | BIT(7),
	};

	return stores[d->op & 7] & BIT(kvmi_modrm_ext(d)) ? MEM_W : MEM_R;
}

static u16 kvmi_one_byte_accesses(const struct kvmi_decoder *d)
{
	u8 ext = kvmi_modrm_ext(d);

	switch (d->op) {
	case 0x06:		/* PUSH of a segment register */
	case 0x0e:
	case 0x16:
	case 0x1e:
		return d->is_64bit ? 0 : PUSH;
	case 0x07:		/* POP of a segment register */
	case 0x17:
	case 0x1f:
		return d->is_64bit ? 0 : POP;
	case 0x00 ... 0x05:
	case 0x08 ... 0x0d:
	case 0x10 ... 0x15:
	case 0x18 ... 0x1d:
	case 0x20 ... 0x3f:
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
	case 0x60 ... 0x61:	/* PUSHA, POPA */
		return d->is_64bit ? 0 : FRAME;
	case 0x63:		/* MOVSXD, ARPL */
		if (!d->is_64bit)
			return MEM_RW;
		return d->op_bytes == 2 ? MEM_R | MAYBE : MEM_R;
	case 0x6c ... 0x6d:	/* INS, OUTS */
		return DI_W;
	case 0x6e ... 0x6f:
		return SI_R;
	case 0x80 ... 0x83:
		return ext == 7 ? MEM_R : MEM_RW;
	case 0x62:		/* BOUND, LES, LDS: in parts */
	case 0xc4 ... 0xc5:
		return MEM_R | MAYBE;
	case 0x69:
	case 0x6b:
	case 0x84 ... 0x85:
	case 0x8a ... 0x8b:
	case 0x8e:		/* to a segment register */
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
	case 0xc8:		/* ENTER */
		return FRAME;
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
		/* A far pointer is read in parts. */
		return ext == 4 ? MEM_R : ext < 6 ? MEM_R | MAYBE : 0;
	}

	return 0;
}

/* The state of FPU and vector registers, caches, and a few more */
static u16 kvmi_state_accesses(const struct kvmi_decoder *d)
{
	switch (kvmi_modrm_ext(d)) {
	case 0:			/* FXSAVE, STMXCSR */
	case 3:
		return MEM_W;
	case 4:			/* XSAVE, PTWRITE */
		return d->rep == 0xf3 ? MEM_R : MEM_W | MAYBE;
	case 5:			/* XRSTOR */
		return MEM_R | MAYBE;
	case 6:			/* XSAVEOPT, CLWB, CLRSSBSY */
		if (d->rep == 0xf3)
			return MEM_RW;
		return d->has_66 ? MEM_R : MEM_W | MAYBE;
	}

	/* FXRSTOR, LDMXCSR, CLFLUSH */
	return MEM_R;
}

static u16 kvmi_0f_accesses(const struct kvmi_decoder *d)
{
	u8 ext = kvmi_modrm_ext(d);

	switch (d->op) {
	case 0x00:		/* SLDT, STR, LLDT, LTR, VERR, VERW */
		if (ext == 6)	/* LKGS */
			return d->rep == 0xf2 ? MEM_R : 0;
		return ext < 2 ? MEM_W : ext < 6 ? MEM_R : 0;
	case 0x01:		/* SGDT, SIDT, LGDT, LIDT, SMSW, RSTORSSP, LMSW */
		if (ext == 2 || ext == 3 || ext == 6)
			return MEM_R;
		if (ext == 5)
			return d->rep == 0xf3 ? MEM_RW : 0;
		return ext < 5 ? MEM_W : 0;
	case 0x1a:		/* BNDMOV, which may be a NOP */
		return d->has_66 && !d->rep ? MEM_R | MAYBE : 0;
	case 0x1b:
		return d->has_66 && !d->rep ? MEM_W | MAYBE : 0;
	case 0x02 ... 0x03:	/* LAR, LSL */
	case 0x0f:		/* 3DNow! */
	case 0x40 ... 0x4f:
	case 0xa3:
	case 0xaf:
	case 0xb6 ... 0xb8:
	case 0xbc ... 0xbf:
		return MEM_R;
	case 0x60 ... 0x62:	/* PUNPCKL, half of a register of MMX */
	case 0xb2:		/* LSS, LFS, LGS */
	case 0xb4 ... 0xb5:
		return MEM_R | MAYBE;
	case 0x78:		/* VMREAD, or a conversion */
		return d->has_evex ? MEM_R : MEM_W;
	case 0x90 ... 0x9f:	/* KMOV, SETcc */
		return d->has_vex && d->op == 0x90 ? MEM_R : MEM_W;
	case 0xa0:
	case 0xa8:
		return PUSH;
	case 0xa1:
	case 0xa9:
		return POP;
	case 0xba:
		return ext < 4 ? 0 : ext == 4 ? MEM_R : MEM_RW;
	case 0xae:
		return kvmi_state_accesses(d);
	case 0xc7:
		if (ext == 1)	/* CMPXCHG8B, CMPXCHG16B */
			return MEM_RW;
		if (ext == 4 || ext == 5)	/* XSAVEC, XSAVES */
			return MEM_W | MAYBE;
		/* XRSTORS, VMPTRLD and its like, VMPTRST */
		return ext == 3 ? MEM_R | MAYBE : ext == 6 ? MEM_R : ext == 7 ? MEM_W : 0;
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
	case 0x50 ... 0x5f:
	case 0x63 ... 0x76:
	case 0x79 ... 0x7d:
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

/* Of the instructions with EVEX, those that store what they convert or compress */
static bool kvmi_is_evex_store(const struct kvmi_decoder *d)
{
	switch (d->op) {
	case 0x10 ... 0x15:
	case 0x20 ... 0x25:
	case 0x30 ... 0x35:
		return d->rep == 0xf3;
	case 0x63:
	case 0x8a ... 0x8b:
		return true;
	}

	return false;
}

static u16 kvmi_0f38_accesses(const struct kvmi_decoder *d)
{
	if (d->has_evex && kvmi_is_evex_store(d))
		return MEM_W;

	switch (d->op) {
	case 0x2e ... 0x2f:	/* VMASKMOV, VPMASKMOV */
	case 0x8e:
	case 0xa0 ... 0xa3:	/* scattering */
		return d->has_evex || (d->has_vex && d->op < 0xa0) ? MEM_W : MEM_R;
	case 0xc6 ... 0xc7:	/* gathering and scattering ahead */
		return d->has_evex ? 0 : MEM_R;
	case 0x49:		/* STTILECFG, LDTILECFG */
		return d->has_66 ? MEM_W : MEM_R;
	case 0x4b:		/* TILESTORED, TILELOADD */
		return d->rep == 0xf3 ? MEM_W : MEM_R;
	case 0xe0 ... 0xef:	/* CMPccXADD */
		return d->has_vex ? MEM_RW : MEM_R;
	case 0xf1:		/* MOVBE, CRC32 */
		return d->rep == 0xf2 ? MEM_R : MEM_W;
	case 0xf5 ... 0xf6:	/* WRUSS, WRSS; otherwise ADCX and others */
		if (d->has_vex || d->rep)
			return MEM_R;
		return d->has_66 == (d->op == 0xf5) ? MEM_W : MEM_R;
	case 0xf9:		/* MOVDIRI */
		return MEM_W;
	case 0xfc:		/* AADD and its like */
		return MEM_RW;
	}

	return MEM_R;
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

static u16 kvmi_fp16_accesses(const struct kvmi_decoder *d)
{
	return d->op == 0x11 || d->op == 0x7e ? MEM_W : MEM_R;
}

/**
 * kvmi_is_string - is it MOVS or one of its like, which step through memory?
 * @d: the instruction
 */
bool kvmi_is_string(const struct kvmi_decoder *d)
{
	return d->map == MAP_ONE_BYTE &&
	       ((d->op >= 0xa4 && d->op <= 0xa7) ||
		(d->op >= 0xaa && d->op <= 0xaf));
}

/**
 * kvmi_is_empty_string - is it one that has no element left?
 * @d: the instruction
 */
bool kvmi_is_empty_string(const struct kvmi_decoder *d)
{
	u64 count = kvm_register_read_raw(d->vcpu, VCPU_REGS_RCX);

	if (d->ad_bytes < 8)
		count &= BIT_ULL(8 * d->ad_bytes) - 1;

	return d->rep && kvmi_is_string(d) && !count;
}

/**
 * kvmi_accesses - what does it access, apart from tables?
 * @d: the instruction, its opcode and ModRM byte known
 *
 * Return: a combination of MEM_R and so on.
 */
u16 kvmi_accesses(const struct kvmi_decoder *d)
{
	if (kvmi_is_empty_string(d))
		return 0;

	switch (d->map) {
	case MAP_ONE_BYTE:
		return kvmi_one_byte_accesses(d);
	case MAP_0F:
		return kvmi_0f_accesses(d);
	case MAP_0F38:
		return kvmi_0f38_accesses(d);
	case MAP_0F3A:
		return kvmi_0f3a_accesses(d);
	case MAP_FP16:
		return kvmi_fp16_accesses(d);
	case MAP_FP16_FMA:
	case MAP_XOP8 ... MAP_XOPA:
		return MEM_R;
	}

	return 0;
}

static bool kvmi_one_byte_has_modrm(const struct kvmi_decoder *d)
{
	switch (d->op) {
	case 0x00 ... 0x3f:
		return (d->op & 7) < 4;
	case 0x62 ... 0x63:
	case 0x69:
	case 0x6b:
	case 0x80 ... 0x8f:
	case 0xc0 ... 0xc1:
	case 0xc4 ... 0xc7:
	case 0xd0 ... 0xd3:
	case 0xd8 ... 0xdf:
	case 0xf6 ... 0xf7:
	case 0xfe ... 0xff:
		return true;
	}

	return false;
}

/* What is not valid may have one or not. */
static bool kvmi_0f_has_modrm(const struct kvmi_decoder *d)
{
	switch (d->op) {
	case 0x05 ... 0x0b:
	case 0x0e:
	case 0x30 ... 0x37:	/* WRMSR and so on */
	case 0x77:		/* EMMS */
	case 0x80 ... 0x8f:	/* Jcc */
	case 0xa0 ... 0xa2:
	case 0xa8 ... 0xaa:
	case 0xc8 ... 0xcf:	/* BSWAP */
		return false;
	}

	return true;
}

/**
 * kvmi_has_modrm - is there a ModRM byte?
 * @d: the instruction, its opcode known
 */
bool kvmi_has_modrm(const struct kvmi_decoder *d)
{
	switch (d->map) {
	case MAP_ONE_BYTE:
		return kvmi_one_byte_has_modrm(d);
	case MAP_0F:
		return kvmi_0f_has_modrm(d);
	default:
		return true;
	}
}

/**
 * kvmi_immediate_bytes - how many bytes follow those of the memory operand?
 * @d: the instruction, its opcode and ModRM byte known
 */
u8 kvmi_immediate_bytes(const struct kvmi_decoder *d)
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
	case MAP_XOP8:
		return 1;
	case MAP_XOPA:
		return 4;
	default:
		return 0;
	}
}

/* ---- how large it is ---- */

/**
 * kvmi_stack_bytes - how much the instruction pushes or pops at a time
 * @d: the instruction
 */
u8 kvmi_stack_bytes(const struct kvmi_decoder *d)
{
	return d->is_64bit && d->op_bytes != 2 ? 8 : d->op_bytes;
}

/**
 * kvmi_gpr_bytes - the size of a general register, where 0x66 means something else
 * @d: the instruction
 */
u8 kvmi_gpr_bytes(const struct kvmi_decoder *d)
{
	return d->is_64bit && (d->rex & REX_W) ? 8 : 4;
}

static u16 kvmi_fpu_bytes(const struct kvmi_decoder *d)
{
	u8 ext = kvmi_modrm_ext(d);

	switch (d->op) {
	case 0xd9:
		if (ext == 4 || ext == 6)	/* FLDENV, FNSTENV */
			return d->op_bytes == 2 ? 14 : 28;
		return ext > 4 ? 2 : 4;
	case 0xdb:
		return ext > 4 ? 10 : 4;
	case 0xdd:
		if (ext == 4 || ext == 6)	/* FRSTOR, FNSAVE */
			return d->op_bytes == 2 ? 94 : 108;
		return ext == 7 ? 2 : 8;
	case 0xdf:
		return ext < 4 ? 2 : ext & 1 ? 8 : 10;
	case 0xdc:
		return 8;
	case 0xde:
		return 2;
	}

	return 4;
}

/**
 * kvmi_is_short_near - do vendors differ about it?
 * @d: the instruction
 *
 * Near calls, jumps and returns in 64-bit code with the prefix 0x66.
 */
bool kvmi_is_short_near(const struct kvmi_decoder *d)
{
	return d->is_64bit && d->op_bytes == 2 && d->map == MAP_ONE_BYTE &&
	       (d->op == 0xe8 || d->op == 0xc2 || d->op == 0xc3 ||
		(d->op == 0xff && (kvmi_modrm_ext(d) == 2 || kvmi_modrm_ext(d) == 4)));
}

static u16 kvmi_one_byte_bytes(const struct kvmi_decoder *d)
{
	u8 ext = kvmi_modrm_ext(d);

	switch (d->op) {
	case 0x62:		/* BOUND */
		return 2 * d->op_bytes;
	case 0x63:		/* MOVSXD, ARPL */
		return d->is_64bit ? 4 : 2;
	case 0x8c:		/* a segment register */
	case 0x8e:
		return 2;
	case 0xc4 ... 0xc5:	/* LES, LDS */
		return d->op_bytes + 2;
	case 0xd8 ... 0xdf:
		return kvmi_fpu_bytes(d);
	case 0xff:
		if (ext == 3 || ext == 5)
			return d->op_bytes + 2;
		if (kvmi_is_short_near(d))
			return 8;
		/* near CALL and JMP, PUSH */
		return ext >= 2 ? kvmi_stack_bytes(d) : d->op_bytes;
	case 0x8f:		/* POP */
		return kvmi_stack_bytes(d);
	}

	return d->op & 1 ? d->op_bytes : 1;
}

/*
 * The most that it can be: RAX and RDX choose what is saved or restored.  XRSTORS
 * finds in memory where that is.
 */
static u16 kvmi_xsave_bytes(const struct kvmi_decoder *d)
{
	struct kvm_vcpu *vcpu = d->vcpu;
	u64 mask = vcpu->arch.xcr0 | vcpu->arch.ia32_xss;

	if (d->op != 0xc7 || kvmi_modrm_ext(d) != 3)
		mask &= (u32)kvmi_reg(d, VCPU_REGS_RAX) |
			kvmi_reg(d, VCPU_REGS_RDX) << 32;

	return xstate_required_size(mask, d->op == 0xc7);
}

static u16 kvmi_state_bytes(const struct kvmi_decoder *d)
{
	switch (kvmi_modrm_ext(d)) {
	case 0 ... 1:		/* FXSAVE, FXRSTOR */
		return 512;
	case 2 ... 3:		/* LDMXCSR, STMXCSR */
		return 4;
	case 4:			/* PTWRITE */
		return d->rep ? kvmi_gpr_bytes(d) : kvmi_xsave_bytes(d);
	case 5:
		return kvmi_xsave_bytes(d);
	case 6:
		return d->rep ? 8 : d->has_66 ? 1 : kvmi_xsave_bytes(d);
	}

	return 1;
}

/* KMOV has it in W and in its prefix. */
static u16 kvmi_kmov_bytes(const struct kvmi_decoder *d)
{
	if (d->rex & REX_W)
		return d->has_66 ? 4 : 8;

	return d->has_66 ? 1 : 2;
}

static u16 kvmi_0f_bytes(const struct kvmi_decoder *d)
{
	u8 ext = kvmi_modrm_ext(d);

	switch (d->op) {
	case 0x00:
	case 0x02 ... 0x03:
	case 0xb7:
	case 0xbf:
		return 2;
	case 0x01:		/* SGDT and so on */
		return ext < 4 ? (d->is_64bit ? 10 : 6) : ext == 5 ? 8 : 2;
	case 0x1a ... 0x1b:	/* BNDMOV */
		return d->is_64bit ? 16 : 8;
	case 0x90 ... 0x9f:
		return d->has_vex ? kvmi_kmov_bytes(d) : 1;
	case 0xae:
		return kvmi_state_bytes(d);
	case 0xb0:
	case 0xb6:
	case 0xbe:
	case 0xc0:
		return 1;
	case 0xb2:		/* LSS, LFS, LGS */
	case 0xb4 ... 0xb5:
		return d->op_bytes + 2;
	case 0x40 ... 0x4f:
		return d->has_vex ? 1 : d->op_bytes;
	case 0xa3 ... 0xad:
	case 0xaf:
	case 0xb1:
	case 0xb3:
	case 0xb8 ... 0xbd:
	case 0xc1:
		return d->op_bytes;
	case 0xc3:		/* MOVNTI */
		return kvmi_gpr_bytes(d);
	case 0xc7:
		if (ext >= 3 && ext <= 5)
			return kvmi_xsave_bytes(d);
		return ext == 1 && (d->rex & REX_W) ? 16 : 8;
	}

	return kvmi_vec_operand_bytes(d);
}

/**
 * kvmi_memory_bytes - the size of its memory operand, or the most that it can be
 * @d: the instruction, its opcode and ModRM byte known
 */
u16 kvmi_memory_bytes(const struct kvmi_decoder *d)
{
	switch (d->map) {
	case MAP_ONE_BYTE:
		return kvmi_one_byte_bytes(d);
	case MAP_0F:
		return kvmi_0f_bytes(d);
	default:
		return kvmi_vec_operand_bytes(d);
	}
}
