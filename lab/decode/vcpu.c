// SPDX-License-Identifier: GPL-2.0
/*
 * The vCPU whose instructions are looked at.
 *
 * Its registers, segments and vectors are all different, and far apart.  Its memory is
 * identity-mapped and holds nothing but the instruction, or noise.
 */

#include "decode.h"

#define CODE_SIZE	MAX_INSN_SIZE

unsigned int stub_warnings;
bool stub_vecs_taken;
bool stub_is_amd = true;

static struct fpstate fpstate;
static struct kvm_vcpu the_vcpu = {
	.arch.guest_fpu.fpstate = &fpstate,
};

struct kvm_vcpu *const vcpu = &the_vcpu;
static u8 code[CODE_SIZE];
static bool has_noise;

static u64 noise(u64 n)
{
	return (n + 1) * 0x9e3779b97f4a7c15ULL >> 24;
}

/* With noise, some pages are not there. */
gpa_t kvmi_translate(struct kvm_vcpu *v, gva_t gva, u64 pferr)
{
	bool is_first_of_code = gva / PAGE_SIZE == v->rip / PAGE_SIZE;

	(void)pferr;
	if (has_noise && !is_first_of_code && noise(gva / PAGE_SIZE) % 8 == 0)
		return INVALID_GPA;

	return gva;
}

int kvm_vcpu_read_guest_page(struct kvm_vcpu *v, gfn_t gfn, void *data,
			     int offset, int len)
{
	u8 *to = data;
	int i;

	if (offset < 0 || len <= 0 || offset + len > (int)PAGE_SIZE)
		abort();

	for (i = 0; i < len; i++) {
		gpa_t gpa = gfn * PAGE_SIZE + offset + i;

		if (gpa >= v->rip && gpa - v->rip < CODE_SIZE)
			to[i] = code[gpa - v->rip];
		else
			to[i] = has_noise ? noise(gpa) : 0;
	}

	return 0;
}

void set_code(const u8 *bytes, size_t size)
{
	memset(code, 0x90, sizeof(code));
	memcpy(code, bytes, min(size, sizeof(code)));
}

/* All negative, and of a value that tells which one it is */
static u32 vec_dword(unsigned int nr, unsigned int i)
{
	return 0x80000000 | nr << 20 | i << 12;
}

/**
 * vec_element - what a vector register holds, with its sign
 * @nr: the register
 * @element: the number of the element
 * @size: the size of elements, 4 or 8
 */
u64 vec_element(unsigned int nr, unsigned int element, u8 size)
{
	if (size == 4)
		return (s64)(s32)vec_dword(nr, element);

	return vec_dword(nr, 2 * element) |
	       (u64)vec_dword(nr, 2 * element + 1) << 32;
}

static void set_vecs(void)
{
	struct xregs_state *xsave = &fpstate.regs.xsave;
	u64 masks[8] = { 0, ~0ULL, 0x5a5a5a5a5a5a5a5aULL };
	u32 dwords[16];
	unsigned int nr, i;

	fpstate.xfeatures = ~0ULL;
	for (nr = 0; nr < 32; nr++) {
		for (i = 0; i < 16; i++)
			dwords[i] = vec_dword(nr, i);
		if (nr < 16) {
			memcpy(xsave->features[XFEATURE_SSE] + 16 * nr, dwords, 16);
			memcpy(xsave->features[XFEATURE_YMM] + 16 * nr, dwords + 4, 16);
			memcpy(xsave->features[XFEATURE_ZMM_Hi256] + 32 * nr, dwords + 8, 32);
		} else {
			memcpy(xsave->features[XFEATURE_Hi16_ZMM] + 64 * (nr - 16), dwords, 64);
		}
	}
	memcpy(xsave->features[XFEATURE_OPMASK], masks, sizeof(masks));
}

/**
 * set_vcpu - the vCPU whose registers everybody knows
 * @mode: 64, 32 or 16
 *
 * No selector leads to a descriptor.
 */
void set_vcpu(int mode)
{
	unsigned int i;

	vcpu->mode = mode;
	vcpu->is_protmode = true;
	vcpu->is_long_mode = mode == 64;
	vcpu->rip = mode == 16 ? 0x4000 : 0x400000;
	for (i = 0; i < NR_STUB_REGS; i++)
		vcpu->regs[i] = 0x0804000001000800ULL * (i + 1);
	/* AL is 0, and so are the numbers of ports. */
	vcpu->regs[VCPU_REGS_RDX] &= ~0xffULL;
	for (i = 0; i < NR_STUB_SREGS; i++) {
		vcpu->sregs[i].base = 0x10000000 * (i + 1);
		vcpu->sregs[i].limit = ~0;
		vcpu->sregs[i].db = mode != 16;
		vcpu->sregs[i].unusable = i >= VCPU_SREG_TR;
	}
	set_vecs();
}

/**
 * randomize_vcpu - any vCPU, in a guest with any memory
 * @next: the source of it
 */
void randomize_vcpu(u64 (*next)(void))
{
	static const u8 modes[] = { 64, 32, 16 };
	u8 *xsave = (u8 *)&fpstate.regs.xsave;
	unsigned int i;

	has_noise = true;
	vcpu->mode = modes[next() % ARRAY_SIZE(modes)];
	vcpu->is_protmode = vcpu->mode != 16 || next() & 1;
	vcpu->is_long_mode = vcpu->mode == 64 || (vcpu->is_protmode && next() & 1);
	vcpu->cpl = next() & 3;
	/* often at the end of a page */
	vcpu->rip = next() & 1 ? 0x400ff8 : next();
	vcpu->rflags = next();
	for (i = 0; i < NR_STUB_REGS; i++)
		vcpu->regs[i] = next() >> (next() & 1 ? 0 : 48);
	for (i = 0; i < NR_STUB_SREGS; i++) {
		vcpu->sregs[i].base = next() >> (next() & 1 ? 0 : 32);
		vcpu->sregs[i].limit = next();
		vcpu->sregs[i].type = next() & 0xf;
		vcpu->sregs[i].db = next() & 1;
		vcpu->sregs[i].unusable = next() & 1;
	}
	vcpu->gdt.size = next();
	vcpu->idt.size = next();
	vcpu->gdt.address = next();
	vcpu->idt.address = next();
	vcpu->arch.exception.pending = next() & 1;
	vcpu->arch.exception.vector = next();
	vcpu->arch.nmi_injected = next() & 1;
	vcpu->arch.interrupt.injected = next() & 1;
	vcpu->arch.interrupt.nr = next();
	vcpu->arch.xcr0 = next();
	vcpu->arch.ia32_xss = next();
	fpstate.xfeatures = next();
	for (i = 0; i < 8; i++)
		xsave[next() % sizeof(fpstate.regs.xsave)] = next();
	stub_is_amd = next() & 1;
}
