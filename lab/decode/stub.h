/* SPDX-License-Identifier: GPL-2.0 */
#ifndef __LAB_DECODE_STUB_H
#define __LAB_DECODE_STUB_H

/*
 * What arch/x86/kvm/kvmi_decode*.c need of the kernel, for a program.
 *
 * lab/checks/decode has all headers that those files include lead to this one,
 * but for kvmi_decode.h, which is the kernel's, and kvmi.h, of which it takes
 * what they need.  A vCPU is here a structure that says what the functions
 * answer; vcpu.c has one.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int32_t s32;
typedef int64_t s64;
typedef u64 gva_t, gpa_t, gfn_t;

/* ---- the kernel's library ---- */

#define BIT(n)			(1UL << (n))
#define BIT_ULL(n)		(1ULL << (n))
#define GENMASK_ULL(h, l)	((~0ULL << (l)) & (~0ULL >> (63 - (h))))
#define PAGE_SIZE		4096UL
#define SZ_64K			0x10000
#define offset_in_page(p)	((unsigned long)(p) & (PAGE_SIZE - 1))
#define ARRAY_SIZE(a)		(sizeof(a) / sizeof((a)[0]))
#define ALIGN_DOWN(x, a)	((x) & ~((__typeof__(x))(a) - 1))
#define DIV_ROUND_UP(n, d)	(((n) + (d) - 1) / (d))
#define min_t(type, a, b)	((type)(a) < (type)(b) ? (type)(a) : (type)(b))
#define max_t(type, a, b)	((type)(a) > (type)(b) ? (type)(a) : (type)(b))
#define min(a, b)		((a) < (b) ? (a) : (b))
#define max(a, b)		((a) > (b) ? (a) : (b))
#define hweight64(x)		__builtin_popcountll(x)
#define ilog2(x)		(63 - __builtin_clzll(x))
#define EXPORT_SYMBOL_GPL(x)	struct kvm_vcpu

static inline s64 sign_extend64(u64 value, int index)
{
	u8 shift = 63 - index;

	return (s64)(value << shift) >> shift;
}

extern unsigned int stub_warnings;
#define WARN_ON_ONCE(cond)	({ bool c_ = (cond); stub_warnings += c_; c_; })

/* ---- x86 ---- */

#define MAX_INSN_SIZE		15

#define X86_MODRM_MOD(b)	((b) >> 6 & 3)
#define X86_MODRM_REG(b)	((b) >> 3 & 7)
#define X86_MODRM_RM(b)		((b) & 7)
#define X86_SIB_SCALE(b)	((b) >> 6 & 3)
#define X86_SIB_INDEX(b)	((b) >> 3 & 7)
#define X86_SIB_BASE(b)		((b) & 7)
#define X86_VEX_W(b)		((b) & 0x80)
#define X86_VEX_X(b)		((b) & 0x40)
#define X86_VEX_B(b)		((b) & 0x20)
#define X86_VEX_L(b)		((b) & 0x04)
#define X86_VEX_P(b)		((b) & 3)
#define X86_VEX_V(b)		((b) >> 3 & 0xf)
#define X86_VEX3_M(b)		((b) & 0x1f)
#define X86_EVEX_M(b)		((b) & 7)

#define X86_EFLAGS_OF		BIT(11)
#define X86_EFLAGS_IOPL		(3UL << 12)
#define X86_EFLAGS_IOPL_BIT	12
#define X86_EFLAGS_VM		BIT(17)

#define BP_VECTOR		3
#define OF_VECTOR		4
#define NMI_VECTOR		2

#define PFERR_FETCH_MASK	BIT_ULL(4)
#define PFERR_IMPLICIT_ACCESS	BIT_ULL(48)

struct desc_ptr {
	u16 size;
	u64 address;
};

/* ---- vector registers ---- */

#define XFEATURE_SSE		1
#define XFEATURE_YMM		2
#define XFEATURE_OPMASK		5
#define XFEATURE_ZMM_Hi256	6
#define XFEATURE_Hi16_ZMM	7
#define NR_XFEATURES		8

/* Of each feature, what it has, as XSAVE would store it. */
struct xregs_state {
	u8 features[NR_XFEATURES][1024];
};

struct fpstate {
	u64 xfeatures;
	union {
		struct {
			u8 xmm_space[256];
		} fxsave;
		struct xregs_state xsave;
	} regs;
};

struct fpu_guest {
	struct fpstate *fpstate;
};

static inline void *get_xsave_addr(struct xregs_state *xsave, int xfeature)
{
	return xsave->features[xfeature];
}

/* Are the guest's registers out of the CPU, so that they may be looked at? */
extern bool stub_vecs_taken;

static inline void fpu_swap_kvm_fpstate(struct fpu_guest *fpu, bool enter)
{
	if (enter != stub_vecs_taken || !fpu->fpstate)
		abort();
	stub_vecs_taken = !enter;
}

/* ---- KVM ---- */

#define INVALID_GPA		(~(gpa_t)0)
#define gpa_to_gfn(gpa)		((gpa) / PAGE_SIZE)

#define KVMI_PAGE_ACCESS_R	BIT(0)
#define KVMI_PAGE_ACCESS_W	BIT(1)

enum kvm_reg {
	VCPU_REGS_RAX, VCPU_REGS_RCX, VCPU_REGS_RDX, VCPU_REGS_RBX,
	VCPU_REGS_RSP, VCPU_REGS_RBP, VCPU_REGS_RSI, VCPU_REGS_RDI,
	NR_STUB_REGS = 16
};

enum {
	VCPU_SREG_ES, VCPU_SREG_CS, VCPU_SREG_SS, VCPU_SREG_DS,
	VCPU_SREG_FS, VCPU_SREG_GS, VCPU_SREG_TR, VCPU_SREG_LDTR,
	NR_STUB_SREGS
};

struct kvm_segment {
	u64 base;
	u32 limit;
	u8 type;
	bool db;
	bool unusable;
};

/**
 * struct kvm_vcpu - what is to be known of a vCPU
 * @mode: 64, 32 or 16: the code that it executes
 * @is_protmode: whether it is in protected mode
 * @is_long_mode: whether its kernel is one of 64 bits
 * @cpl: its privilege level
 * @rip: its RIP, which is linear
 * @rflags: its flags
 * @regs: its general registers
 * @sregs: its segment registers
 * @gdt: its GDT
 * @idt: its IDT
 * @arch: what is looked at in struct kvm_vcpu_arch
 */
struct kvm_vcpu {
	int mode;
	bool is_protmode;
	bool is_long_mode;
	u8 cpl;
	u64 rip;
	unsigned long rflags;
	u64 regs[NR_STUB_REGS];
	struct kvm_segment sregs[NR_STUB_SREGS];
	struct desc_ptr gdt;
	struct desc_ptr idt;

	struct {
		struct fpu_guest guest_fpu;
		u64 xcr0;
		u64 ia32_xss;
		bool nmi_injected;
		struct {
			bool injected;
			bool pending;
			u8 vector;
		} exception;
		struct {
			bool injected;
			u8 nr;
		} interrupt;
	} arch;
};

/* The memory of its guest, in vcpu.c */
gpa_t kvmi_translate(struct kvm_vcpu *vcpu, gva_t gva, u64 pferr);
int kvm_vcpu_read_guest_page(struct kvm_vcpu *vcpu, gfn_t gfn, void *data,
			     int offset, int len);

/* The host's processor */
#define X86_FEATURE_XSAVE	1
#define X86_FEATURE_SVM		2
extern bool stub_is_amd;
#define boot_cpu_has(feature)	((feature) == X86_FEATURE_XSAVE || stub_is_amd)

static inline u32 xstate_required_size(u64 xfeatures, bool compacted)
{
	return 576 + (compacted ? 8 : 16) * hweight64(xfeatures);
}

static inline u64 kvm_register_read_raw(struct kvm_vcpu *vcpu, int reg)
{
	if (reg < 0 || reg >= NR_STUB_REGS)
		abort();

	return vcpu->regs[reg];
}

static inline u64 kvm_rip_read(struct kvm_vcpu *vcpu)
{
	return vcpu->rip;
}

static inline u64 kvm_get_linear_rip(struct kvm_vcpu *vcpu)
{
	return vcpu->rip;
}

static inline unsigned long kvm_get_rflags(struct kvm_vcpu *vcpu)
{
	return vcpu->rflags;
}

static inline bool is_64_bit_mode(struct kvm_vcpu *vcpu)
{
	return vcpu->mode == 64;
}

static inline bool is_long_mode(struct kvm_vcpu *vcpu)
{
	return vcpu->is_long_mode;
}

static inline bool is_protmode(struct kvm_vcpu *vcpu)
{
	return vcpu->is_protmode;
}

static inline void kvm_get_segment(struct kvm_vcpu *vcpu,
				   struct kvm_segment *var, int seg)
{
	*var = vcpu->sregs[seg];
}

#define kvm_x86_call(func)	stub_##func

static inline void stub_get_cs_db_l_bits(struct kvm_vcpu *vcpu, int *db, int *l)
{
	*db = vcpu->mode == 32;
	*l = vcpu->mode == 64;
}

static inline u64 stub_get_segment_base(struct kvm_vcpu *vcpu, int seg)
{
	return vcpu->sregs[seg].base;
}

static inline int stub_get_cpl(struct kvm_vcpu *vcpu)
{
	return vcpu->cpl;
}

static inline void stub_get_gdt(struct kvm_vcpu *vcpu, struct desc_ptr *dt)
{
	*dt = vcpu->gdt;
}

static inline void stub_get_idt(struct kvm_vcpu *vcpu, struct desc_ptr *dt)
{
	*dt = vcpu->idt;
}

#endif /* __LAB_DECODE_STUB_H */
