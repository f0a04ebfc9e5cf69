/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef __KVM_X86_KVMI_DECODE_H
#define __KVM_X86_KVMI_DECODE_H

#include <asm/insn.h>
#include "kvmi.h"

/* The tables of opcodes, with the numbers that VEX, EVEX and XOP have for them */
enum kvmi_opcode_map {
	MAP_ONE_BYTE,
	MAP_0F,
	MAP_0F38,
	MAP_0F3A,
	MAP_FP16 = 5,
	MAP_FP16_FMA,
	MAP_XOP8 = 8,
	MAP_XOP9,
	MAP_XOPA,
};

/* The largest vector register */
#define KVMI_MAX_VEC_BYTES	64

/**
 * struct kvmi_decoder - an instruction, as far as it has been looked at
 * @vcpu: the vCPU whose instruction it is
 * @bytes: its first @fetched bytes, of which @pos have been used
 * @fetched: see @bytes
 * @pos: see @bytes
 * @failed: it cannot be decoded
 * @vague: an operand is larger than what is accessed, and begins elsewhere
 * @is_64bit: the vCPU executes 64-bit code
 * @is_16bit: it executes 16-bit code
 * @has_vex: it has a VEX, EVEX or XOP prefix
 * @has_evex: it has an EVEX prefix
 * @is_broadcast: one element of its operand is used for all
 * @rep: the last of the prefixes 0xf2 and 0xf3, or what stands for it in VEX and
 *	EVEX, or 0
 * @has_66: it has the prefix 0x66, or what stands for it
 * @rex: the bits W, R, X and B, as in a REX prefix
 * @op_bytes: size of its operands
 * @ad_bytes: size of its addresses
 * @vec_bytes: size of its vectors
 * @vec_reg: the vector register that VEX has room for
 * @mask_reg: the mask register that EVEX has room for, 0 is none
 * @vec_index: the bit of EVEX for the number of a register with addresses
 * @seg: the segment register that a prefix names, or -1
 * @map: the table of opcodes which @op belongs to
 * @op: its opcode
 * @modrm: its ModRM byte, if it has one
 * @nr_operands: how many of @operands there are
 * @operands: what it accesses
 */
struct kvmi_decoder {
	struct kvm_vcpu *vcpu;
	u8 bytes[MAX_INSN_SIZE];
	u8 fetched;
	u8 pos;
	bool failed;
	bool vague;

	bool is_64bit;
	bool is_16bit;
	bool has_vex;
	bool has_evex;
	bool is_broadcast;
	u8 rep;
	bool has_66;
	u8 rex;
	u8 op_bytes;
	u8 ad_bytes;
	u8 vec_bytes;
	u8 vec_reg;
	u8 mask_reg;
	u8 vec_index;
	int seg;
	enum kvmi_opcode_map map;
	u8 op;
	u8 modrm;

	u8 nr_operands;
	/* Only @nr_operands of them have a meaning. */
	struct kvmi_operand operands[KVMI_MAX_OPERANDS];
};

#define REX_B		BIT(0)
#define REX_X		BIT(1)
#define REX_R		BIT(2)
#define REX_W		BIT(3)

static inline u8 kvmi_modrm_ext(const struct kvmi_decoder *d)
{
	return X86_MODRM_REG(d->modrm);
}

static inline bool kvmi_modrm_is_reg(const struct kvmi_decoder *d)
{
	return X86_MODRM_MOD(d->modrm) == 3;
}

/* The numbers of the registers that ModRM names, with what REX has of them */
static inline u8 kvmi_modrm_reg_nr(const struct kvmi_decoder *d)
{
	return X86_MODRM_REG(d->modrm) | (d->rex & REX_R ? 8 : 0);
}

static inline u8 kvmi_modrm_rm_nr(const struct kvmi_decoder *d)
{
	return X86_MODRM_RM(d->modrm) | (d->rex & REX_B ? 8 : 0);
}

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
#define FRAME		BIT(11)	/* several places of the stack */
#define MAYBE		BIT(12)	/* less than that, or nothing, or not always */

/* kvmi_decode.c */
s64 kvmi_next_number(struct kvmi_decoder *d, u8 size);
u64 kvmi_reg(const struct kvmi_decoder *d, int reg);
int kvmi_operand_seg(const struct kvmi_decoder *d, int seg);
struct kvmi_operand *kvmi_add_operand(struct kvmi_decoder *d, int seg, u64 ea,
				      u16 size, u8 access);
struct kvmi_operand *kvmi_add_linear(struct kvmi_decoder *d, gva_t gva,
				     u16 size, u8 access);
gva_t kvmi_stack_gva(const struct kvmi_decoder *d, int reg, s64 disp);
struct kvmi_operand *kvmi_add_stack(struct kvmi_decoder *d, int reg, s64 disp,
				    u16 size, u8 access);

/* kvmi_decode_ops.c */
u16 kvmi_accesses(const struct kvmi_decoder *d);
bool kvmi_has_modrm(const struct kvmi_decoder *d);
bool kvmi_is_string(const struct kvmi_decoder *d);
bool kvmi_is_empty_string(const struct kvmi_decoder *d);
bool kvmi_is_short_near(const struct kvmi_decoder *d);
u8 kvmi_immediate_bytes(const struct kvmi_decoder *d);
u8 kvmi_stack_bytes(const struct kvmi_decoder *d);
u8 kvmi_gpr_bytes(const struct kvmi_decoder *d);
u16 kvmi_memory_bytes(const struct kvmi_decoder *d);

/* kvmi_decode_vec.c */
bool kvmi_is_gather(const struct kvmi_decoder *d);
bool kvmi_is_tile(const struct kvmi_decoder *d);
u16 kvmi_vec_operand_bytes(const struct kvmi_decoder *d);
u8 kvmi_vec_disp_scale(const struct kvmi_decoder *d);
void kvmi_add_vec_operand(struct kvmi_decoder *d, int seg, u64 ea, u16 size,
			  u8 access);
void kvmi_add_gather(struct kvmi_decoder *d, int seg, u64 ea, u8 index,
		     u8 scale, u8 access);
void kvmi_decode_maskmov(struct kvmi_decoder *d);

/* kvmi_decode_tables.c */
void kvmi_decode_tables(struct kvmi_decoder *d);
void kvmi_decode_delivery(struct kvmi_decoder *d);

#endif /* __KVM_X86_KVMI_DECODE_H */
