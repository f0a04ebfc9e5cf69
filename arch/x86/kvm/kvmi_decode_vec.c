// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM introspection on x86: what vector instructions access
 *
 * The size of a vector's place in memory depends on the opcode.  What is said
 * here is exact, or else the size of the register.  EVEX has a displacement in
 * units of that size, so an operand whose size is not exact is somewhere in a
 * wider range.
 *
 * Some leave elements of their vectors out, as a mask says, or have an address
 * for each.  These are looked up in the guest's registers.  What other
 * instructions with EVEX do with a mask is not: moves that have no bit in it access
 * nothing, and all else does all of its operand, as some do in any case.
 *
 * The guest's registers are in the CPU while the vCPU is in KVM_RUN; to look at
 * them, they are taken out and put back.  Few instructions need that.
 */

#include <linux/bitops.h>
#include <linux/kvmi_arch.h>
#include <asm/fpu/api.h>
#include <asm/fpu/xstate.h>
#include "kvmi_decode.h"

/* A vector register; what is not in use in it is 0. */
union kvmi_vec {
	u8 bytes[KVMI_MAX_VEC_BYTES];
	s32 dwords[KVMI_MAX_VEC_BYTES / 4];
	s64 qwords[KVMI_MAX_VEC_BYTES / 8];
};

/* ---- the registers ---- */

static const void *kvmi_xstate(struct kvm_vcpu *vcpu, int xfeature)
{
	struct fpstate *fpstate = vcpu->arch.guest_fpu.fpstate;

	/* Without XSAVE, there is nothing but this. */
	if (!boot_cpu_has(X86_FEATURE_XSAVE))
		return xfeature == XFEATURE_SSE ?
		       fpstate->regs.fxsave.xmm_space : NULL;

	return fpstate->xfeatures & BIT_ULL(xfeature) ?
	       get_xsave_addr(&fpstate->regs.xsave, xfeature) : NULL;
}

static void kvmi_copy_xstate(struct kvm_vcpu *vcpu, int xfeature, void *to,
			     unsigned int nr, unsigned int size)
{
	const void *xstate = kvmi_xstate(vcpu, xfeature);

	if (xstate)
		memcpy(to, xstate + nr * size, size);
}

static void kvmi_copy_vec(struct kvm_vcpu *vcpu, unsigned int nr,
			  union kvmi_vec *vec)
{
	memset(vec, 0, sizeof(*vec));
	if (nr >= 16) {
		kvmi_copy_xstate(vcpu, XFEATURE_Hi16_ZMM, vec, nr - 16, 64);
		return;
	}

	kvmi_copy_xstate(vcpu, XFEATURE_SSE, vec->bytes, nr, 16);
	kvmi_copy_xstate(vcpu, XFEATURE_YMM, vec->bytes + 16, nr, 16);
	kvmi_copy_xstate(vcpu, XFEATURE_ZMM_Hi256, vec->bytes + 32, nr, 32);
}

static u64 kvmi_copy_mask_reg(struct kvm_vcpu *vcpu, unsigned int nr)
{
	u64 mask = 0;

	kvmi_copy_xstate(vcpu, XFEATURE_OPMASK, &mask, nr, sizeof(mask));

	return mask;
}

/* Between the two, the registers can be copied. */
static void kvmi_take_vecs(struct kvm_vcpu *vcpu)
{
	fpu_swap_kvm_fpstate(&vcpu->arch.guest_fpu, false);
}

static void kvmi_put_vecs(struct kvm_vcpu *vcpu)
{
	fpu_swap_kvm_fpstate(&vcpu->arch.guest_fpu, true);
}

static void kvmi_get_vec(struct kvm_vcpu *vcpu, unsigned int nr,
			 union kvmi_vec *vec)
{
	kvmi_take_vecs(vcpu);
	kvmi_copy_vec(vcpu, nr, vec);
	kvmi_put_vecs(vcpu);
}

static u64 kvmi_get_mask_reg(struct kvm_vcpu *vcpu, unsigned int nr)
{
	u64 mask;

	kvmi_take_vecs(vcpu);
	mask = kvmi_copy_mask_reg(vcpu, nr);
	kvmi_put_vecs(vcpu);

	return mask;
}

/* A bit for each element: its sign */
static u64 kvmi_signs(const union kvmi_vec *vec, unsigned int nr, u8 size)
{
	u64 signs = 0;
	unsigned int i;

	for (i = 0; i < nr; i++)
		if (vec->bytes[(i + 1) * size - 1] & BIT(7))
			signs |= BIT_ULL(i);

	return signs;
}

/* ---- how much memory an operand is ---- */

static bool kvmi_is_wide(const struct kvmi_decoder *d)
{
	return d->rex & REX_W;
}

static u8 kvmi_element_bytes(const struct kvmi_decoder *d)
{
	return kvmi_is_wide(d) ? 8 : 4;
}

/* A register of 64 bits, if no prefix says otherwise */
static bool kvmi_is_mmx(const struct kvmi_decoder *d)
{
	return !d->has_vex && !d->has_66 && !d->rep;
}

/* A number, if the prefix says so, or a vector */
static u8 kvmi_float_bytes(const struct kvmi_decoder *d)
{
	return d->rep == 0xf3 ? 4 : d->rep == 0xf2 ? 8 : d->vec_bytes;
}

/* EVEX: conversions between elements of 32 and 64 bits, in either direction */
static u8 kvmi_evex_conversion_bytes(const struct kvmi_decoder *d)
{
	bool is_between_sizes = d->op == 0x7a || d->op == 0xe6 ?
				d->rep == 0xf3 || d->has_66 : d->has_66;

	if (d->op == 0x7b && d->rep)
		return kvmi_gpr_bytes(d);
	if (d->op < 0x7a && d->rep)
		return kvmi_float_bytes(d);
	if (d->op == 0xe6 && d->rep != 0xf3)
		return d->vec_bytes;

	return is_between_sizes && !kvmi_is_wide(d) ? d->vec_bytes / 2 :
						      d->vec_bytes;
}

static u8 kvmi_0f_vec_bytes(const struct kvmi_decoder *d)
{
	u8 full = d->vec_bytes;

	switch (d->op) {
	case 0x10 ... 0x11:
	case 0x2b:
	case 0x51 ... 0x59:
	case 0x5c ... 0x5f:
	case 0xc2:
		return kvmi_float_bytes(d);
	case 0x12 ... 0x13:	/* halves, or MOVDDUP and its like */
	case 0x16 ... 0x17:
		return d->rep && !(d->rep == 0xf2 && full == 16) ? full : 8;
	case 0x2a:		/* from integers */
		return d->rep ? kvmi_gpr_bytes(d) : 8;
	case 0x2c ... 0x2d:	/* to integers */
		return d->rep || d->has_66 ? kvmi_float_bytes(d) : 8;
	case 0x2e ... 0x2f:	/* comparing numbers */
		return d->has_66 ? 8 : 4;
	case 0x5a:		/* between floats */
		return d->rep || d->has_66 ? kvmi_float_bytes(d) : full / 2;
	case 0x6e:		/* MOVD, MOVQ */
	case 0x7e:
		return d->rep ? 8 : kvmi_gpr_bytes(d);
	case 0x78 ... 0x7b:	/* conversions; VMREAD and VMWRITE */
		return d->has_evex ? kvmi_evex_conversion_bytes(d) :
				     d->is_64bit ? 8 : 4;
	case 0xc4:		/* PINSRW */
		return 2;
	case 0xd1 ... 0xd3:	/* shifts by a number */
	case 0xe1 ... 0xe2:
	case 0xf1 ... 0xf3:
		return kvmi_is_mmx(d) ? 8 : 16;
	case 0xd6:		/* MOVQ */
		return 8;
	case 0xe6:		/* conversions of doubles */
		if (d->has_evex)
			return kvmi_evex_conversion_bytes(d);
		return d->rep == 0xf3 ? full / 2 : full;
	case 0x14 ... 0x15:	/* without a prefix, SSE's all the same */
	case 0x28 ... 0x29:
	case 0x5b:
	case 0x7c ... 0x7d:
	case 0xc6:
		return full;
	}

	return kvmi_is_mmx(d) ? 8 : full;
}

/* What has wider elements in the register than in memory */
static u8 kvmi_widened_bytes(const struct kvmi_decoder *d)
{
	static const u8 factors[] = { 2, 4, 8, 2, 4, 2, 1, 1 };

	return d->vec_bytes / factors[d->op & 7];
}

static u8 kvmi_0f38_vec_bytes(const struct kvmi_decoder *d)
{
	switch (d->op) {
	case 0x10 ... 0x12:
	case 0x14 ... 0x15:
		return d->rep == 0xf3 ? kvmi_widened_bytes(d) : d->vec_bytes;
	case 0x13:		/* and VCVTPH2PS */
		return d->vec_bytes / 2;
	case 0x20 ... 0x25:	/* PMOVSX, PMOVZX */
	case 0x30 ... 0x35:
		return kvmi_widened_bytes(d);
	case 0x18:		/* broadcasts */
	case 0x58:
		return 4;
	case 0x19:
	case 0x59:
		return 8;
	case 0x1a:
	case 0x5a:
	case 0x80 ... 0x82:	/* INVEPT and its like */
		return 16;
	case 0x1b:
	case 0x5b:
		return 32;
	case 0x78:
		return 1;
	case 0x79:
		return 2;
	case 0x49:		/* configuration of tiles */
	case 0xd8:		/* keys */
	case 0xf8:		/* MOVDIR64B, ENQCMD */
		return 64;
	case 0xdc ... 0xdf:
		return d->rep == 0xf3 ? 64 : d->vec_bytes;
	case 0x52 ... 0x53:	/* VP4DPWSSD */
		return d->rep == 0xf2 ? 16 : d->vec_bytes;
	case 0x2d:		/* numbers, with EVEX */
	case 0x43:
	case 0x4d:
	case 0x4f:
		return d->has_evex ? kvmi_element_bytes(d) : d->vec_bytes;
	case 0xc8 ... 0xca:	/* SHA; also VEXP2 and its like */
	case 0xcc:
		return d->has_evex ? d->vec_bytes : 16;
	case 0xcb:
	case 0xcd:
		return d->has_evex ? kvmi_element_bytes(d) : 16;
	case 0x9a:
	case 0xaa:
		return d->rep == 0xf2 ? 16 : d->vec_bytes;
	case 0x9b:
	case 0xab:
		return d->rep == 0xf2 ? 16 : kvmi_element_bytes(d);
	case 0x99:		/* numbers, multiplied and added */
	case 0x9d:
	case 0x9f:
	case 0xa9:
	case 0xad:
	case 0xaf:
	case 0xb9:
	case 0xbb:
	case 0xbd:
	case 0xbf:
	case 0xe0 ... 0xef:	/* CMPccXADD */
		return kvmi_element_bytes(d);
	case 0xf0:		/* MOVBE, CRC32 */
		return d->rep == 0xf2 ? 1 : d->op_bytes;
	case 0xf1:
		return d->op_bytes;
	case 0xf2 ... 0xf7:	/* of general registers */
	case 0xf9 ... 0xff:
		return kvmi_gpr_bytes(d);
	}

	return kvmi_is_mmx(d) ? 8 : d->vec_bytes;
}

/* A number of 16, 32 or 64 bits */
static u8 kvmi_number_bytes(const struct kvmi_decoder *d)
{
	return d->has_66 ? kvmi_element_bytes(d) : 2;
}

static u8 kvmi_0f3a_vec_bytes(const struct kvmi_decoder *d)
{
	switch (d->op) {
	case 0x14:		/* PEXTR, PINSR */
	case 0x20:
		return 1;
	case 0x15:
		return 2;
	case 0x16:
	case 0x22:
	case 0xf0:		/* RORX */
		return kvmi_gpr_bytes(d);
	case 0x0a:		/* ROUNDSS, VRNDSCALESH */
		return d->has_evex && !d->has_66 ? 2 : 4;
	case 0xcc:		/* SHA1RNDS4 */
		return 16;
	case 0x17:		/* EXTRACTPS, INSERTPS */
	case 0x21:
		return 4;
	case 0x0b:
		return 8;
	case 0x18 ... 0x19:	/* halves and quarters */
	case 0x38 ... 0x39:
		return 16;
	case 0x1a ... 0x1b:
	case 0x3a ... 0x3b:
		return 32;
	case 0x1d:		/* VCVTPS2PH */
		return d->vec_bytes / 2;
	case 0x27:		/* numbers, with EVEX */
	case 0x51:
	case 0x55:
	case 0x57:
	case 0x67:
		return d->has_evex ? kvmi_number_bytes(d) : d->vec_bytes;
	case 0xc2:		/* VCMPPH, VCMPSH */
		return d->rep ? 2 : d->vec_bytes;
	}

	return kvmi_is_mmx(d) ? 8 : d->vec_bytes;
}

/* Exactly, or 0 if that is not known */
static u8 kvmi_exact_vec_bytes(const struct kvmi_decoder *d)
{
	switch (d->map) {
	case MAP_0F:
		return kvmi_0f_vec_bytes(d);
	case MAP_0F38:
		return kvmi_0f38_vec_bytes(d);
	case MAP_0F3A:
		return kvmi_0f3a_vec_bytes(d);
	default:
		return 0;
	}
}

/**
 * kvmi_vec_operand_bytes - how much memory the operand is, at most
 * @d: the instruction, not of the table MAP_ONE_BYTE
 */
u16 kvmi_vec_operand_bytes(const struct kvmi_decoder *d)
{
	if (d->is_broadcast)
		return kvmi_element_bytes(d);

	return kvmi_exact_vec_bytes(d) ?: d->vec_bytes;
}

/* VCOMPRESS and VEXPAND: as many elements as the mask has bits, without gaps */
static bool kvmi_is_packed(const struct kvmi_decoder *d)
{
	return d->has_evex && d->map == MAP_0F38 &&
	       (d->op == 0x62 || d->op == 0x63 ||
		(d->op >= 0x88 && d->op <= 0x8b));
}

static u8 kvmi_packed_bytes(const struct kvmi_decoder *d)
{
	if (d->op >= 0x88)
		return kvmi_element_bytes(d);

	return kvmi_is_wide(d) ? 2 : 1;
}

static bool kvmi_is_fp16(const struct kvmi_decoder *d)
{
	return d->map >= MAP_FP16 || (d->map == MAP_0F3A && !d->has_66);
}

/**
 * kvmi_vec_disp_scale - what a short displacement is multiplied by
 * @d: the instruction, with EVEX
 *
 * Return: the factor, 0 if it is not known.
 */
u8 kvmi_vec_disp_scale(const struct kvmi_decoder *d)
{
	if (kvmi_is_gather(d))
		return kvmi_element_bytes(d);
	if (kvmi_is_packed(d))
		return kvmi_packed_bytes(d);
	if (d->is_broadcast)
		return kvmi_is_fp16(d) ? 0 : kvmi_element_bytes(d);

	return kvmi_exact_vec_bytes(d);
}

/* ---- which elements there are ---- */

/*
 * An operand of @nr elements, less the page in which all are left out.  Where in
 * the other one the first access is, depends on the CPU.
 */
static void kvmi_add_elements(struct kvmi_decoder *d, int seg, u64 ea,
			      unsigned int nr, u8 size, u64 mask, u8 access)
{
	struct kvmi_operand *operand;
	unsigned int in_page;

	if (!mask)
		return;

	operand = kvmi_add_operand(d, seg, ea, nr * size, access);
	in_page = PAGE_SIZE - offset_in_page(operand->gva);
	if (in_page >= operand->size)
		return;

	if (!(mask & (BIT_ULL(DIV_ROUND_UP(in_page, size)) - 1))) {
		operand->gva += in_page;
		operand->size -= in_page;
	} else if (!(mask >> (in_page / size))) {
		operand->size = in_page;
	}
}

/* VMASKMOV and VPMASKMOV; the two have their sizes in different places. */
static bool kvmi_is_vex_masked(const struct kvmi_decoder *d)
{
	return !d->has_evex && d->map == MAP_0F38 &&
	       ((d->op >= 0x2c && d->op <= 0x2f) || d->op == 0x8c || d->op == 0x8e);
}

static u8 kvmi_masked_bytes(const struct kvmi_decoder *d)
{
	if (d->op < 0x80)
		return d->op & 1 ? 8 : 4;

	return kvmi_element_bytes(d);
}

static void kvmi_add_vex_masked(struct kvmi_decoder *d, int seg, u64 ea,
				u8 access)
{
	u8 size = kvmi_masked_bytes(d);
	unsigned int nr = d->vec_bytes / size;
	union kvmi_vec vec;

	kvmi_get_vec(d->vcpu, d->vec_reg, &vec);
	kvmi_add_elements(d, seg, ea, nr, size, kvmi_signs(&vec, nr, size), access);
}

/* Does it access nothing if its mask has no bit?  Loads as operands may. */
static bool kvmi_heeds_mask(const struct kvmi_decoder *d, u8 access)
{
	if (access & KVMI_PAGE_ACCESS_W || kvmi_is_packed(d))
		return true;

	return d->map == MAP_0F && (d->op == 0x10 || d->op == 0x28 || d->op == 0x6f);
}

static void kvmi_add_evex_masked(struct kvmi_decoder *d, int seg, u64 ea,
				 u16 size, u8 access)
{
	u64 mask = kvmi_get_mask_reg(d->vcpu, d->mask_reg);
	u8 element;

	if (kvmi_is_packed(d) && !d->vague) {
		element = kvmi_packed_bytes(d);
		mask &= GENMASK_ULL(d->vec_bytes / element - 1, 0);
		size = hweight64(mask) * element;
	}
	if (mask || !kvmi_heeds_mask(d, access))
		kvmi_add_operand(d, seg, ea, size, access)->certain = false;
}

/**
 * kvmi_add_vec_operand - note the operand of an instruction with VEX or EVEX
 * @d: the instruction
 * @seg: the segment register
 * @ea: where, if the instruction had addresses of 64 bits
 * @size: its size in bytes, if there were no mask
 * @access: how it is accessed, in KVMI_PAGE_ACCESS_* terms
 */
void kvmi_add_vec_operand(struct kvmi_decoder *d, int seg, u64 ea, u16 size,
			  u8 access)
{
	if (kvmi_is_vex_masked(d))
		kvmi_add_vex_masked(d, seg, ea, access);
	else if (d->mask_reg)
		kvmi_add_evex_masked(d, seg, ea, size, access);
	else
		kvmi_add_operand(d, seg, ea, size, access)->certain = !d->vague;
}

/**
 * kvmi_decode_maskmov - MASKMOVQ and MASKMOVDQU store at RDI what a mask says
 * @d: the instruction, or another one
 */
void kvmi_decode_maskmov(struct kvmi_decoder *d)
{
	union kvmi_vec vec;
	int seg;
	u64 ea;

	if (d->map != MAP_0F || d->op != 0xf7 || !kvmi_modrm_is_reg(d))
		return;

	seg = kvmi_operand_seg(d, VCPU_SREG_DS);
	ea = kvmi_reg(d, VCPU_REGS_RDI);
	if (kvmi_is_mmx(d)) {
		kvmi_add_operand(d, seg, ea, 8, KVMI_PAGE_ACCESS_W)->certain = false;
		return;
	}

	kvmi_get_vec(d->vcpu, kvmi_modrm_rm_nr(d), &vec);
	kvmi_add_elements(d, seg, ea, 16, 1, kvmi_signs(&vec, 16, 1),
			  KVMI_PAGE_ACCESS_W);
}

/* ---- elements with an address each ---- */

/**
 * kvmi_is_gather - does the instruction gather or scatter?
 * @d: the instruction
 */
bool kvmi_is_gather(const struct kvmi_decoder *d)
{
	if (!d->has_vex || d->map != MAP_0F38)
		return false;

	return (d->op >= 0x90 && d->op <= 0x93) ||
	       (d->has_evex && d->op >= 0xa0 && d->op <= 0xa3);
}

/**
 * kvmi_is_tile - does it load or store a tile, row by row?
 * @d: the instruction
 */
bool kvmi_is_tile(const struct kvmi_decoder *d)
{
	return d->has_vex && !d->has_evex && d->map == MAP_0F38 && d->op == 0x4b;
}

/* A tile has up to 16 rows of up to 64 bytes, and an index that is their distance. */
static void kvmi_add_tile(struct kvmi_decoder *d, int seg, u64 ea, u8 index,
			  u8 scale, u8 access)
{
	u64 stride = index == VCPU_REGS_RSP ? 0 : kvmi_reg(d, index) << scale;
	unsigned int i;

	d->vague = true;
	for (i = 0; i < 16; i++)
		kvmi_add_operand(d, seg, ea + i * stride, 64, access)->certain = false;
}

static u64 kvmi_gather_mask(const struct kvmi_decoder *d, unsigned int nr)
{
	union kvmi_vec vec;

	if (d->has_evex)
		return d->mask_reg ? kvmi_copy_mask_reg(d->vcpu, d->mask_reg) : 0;

	kvmi_copy_vec(d->vcpu, d->vec_reg, &vec);

	return kvmi_signs(&vec, nr, kvmi_element_bytes(d));
}

/**
 * kvmi_add_gather - note what is gathered, scattered, or belongs to a tile
 * @d: the instruction
 * @seg: the segment register
 * @ea: its base, if the instruction had addresses of 64 bits
 * @index: the register with the index, but for a bit that EVEX has
 * @scale: what the index is shifted by
 * @access: how it is accessed, in KVMI_PAGE_ACCESS_* terms
 *
 * One that was given up in the middle has cleared the mask of what was done.
 */
void kvmi_add_gather(struct kvmi_decoder *d, int seg, u64 ea, u8 index,
		     u8 scale, u8 access)
{
	u8 size = kvmi_element_bytes(d);
	bool has_qwords = d->op & 1;
	unsigned int i, nr = d->vec_bytes / (has_qwords ? 8 : size);
	union kvmi_vec vec;
	u64 mask;

	if (kvmi_is_tile(d)) {
		kvmi_add_tile(d, seg, ea, index, scale, access);
		return;
	}

	kvmi_take_vecs(d->vcpu);
	mask = kvmi_gather_mask(d, nr);
	kvmi_copy_vec(d->vcpu, index | d->vec_index, &vec);
	kvmi_put_vecs(d->vcpu);

	/* If one faults, others behind it may have been accessed. */
	for (i = 0; i < nr; i++) {
		u64 offset = has_qwords ? vec.qwords[i] : vec.dwords[i];

		if (mask & BIT_ULL(i))
			kvmi_add_operand(d, seg, ea + (offset << scale), size,
					 access)->certain = false;
	}
}
