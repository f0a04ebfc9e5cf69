// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM introspection: CONTINUE lets the guest execute any instruction.
 *
 * kvmi_continue_rows.h has a table of instructions.  Each of them is executed
 * without restrictions first.  Then the pages that it uses are restricted in
 * various ways, all events are answered with CONTINUE, and what it leaves
 * behind (memory, registers, flags, the state of FPU and vector units, an
 * exception) has to be the same.  The events have to be those for the accesses
 * that the table says, each once.
 *
 * All that is legal there is done in the guest's user mode, too, in a VM of its
 * own whose test pages are the user's, except for those of the kernel: the
 * stack for exceptions, the TSS, GDT and IDT, and where SYSCALL leads to.
 *
 * In one run an NMI, or for user mode an interrupt, is on its way while the tool
 * thinks about the first event.
 *
 * The instructions are executed in a child process, all in one VM; if one of
 * them ends the child, another goes on with the next.
 */
#include <sys/mman.h>
#include <sys/wait.h>
#include <poll.h>

#include "test_util.h"
#include "kvm_util.h"
#include "kselftest.h"
#include "apic.h"
#include "kvmi_util.h"

#define R	KVMI_PAGE_ACCESS_R
#define W	KVMI_PAGE_ACCESS_W
#define X	KVMI_PAGE_ACCESS_X
#define RW	(R | W)

/* The test pages */
#define PAGE_H		0	/* where SYSCALL leads to */
#define PAGE_A		1	/* and the next: operand A */
#define PAGE_K		3	/* the kernel's stacks, for exceptions and RSP0 */
#define PAGE_B		4	/* and the next: operand B */
#define PAGE_T		6	/* the TSS */
#define PAGE_S		7	/* and the next: the stack */
#define PAGE_C		9	/* and the next: the code */
#define PAGE_EXIT	11	/* where the code jumps to in the end, and user mode begins */
#define PAGE_G		12	/* the GDT */
#define PAGE_RO		13	/* read-only for the guest */
#define PAGE_I		14	/* the IDT */
#define PAGE_D		15	/* there is nothing behind it */
#define NOWHERE		kvmi_gva(KVMI_TEST_PAGES, 0)

#define A_OFF		0x340
#define A_ADDR		"0x10000001340"
#define B_OFF		0x540
#define C_OFF		0x100
#define C_LDT_OFF	0xc00
#define D_OFF		0xff8
#define S_OFF		0x800
#define K_IST_OFF	0x800
#define K_RSP0_OFF	0xc00
#define T_CODE_OFF	0x400	/* behind the TSS */
#define T_IST_OFF	0x800

kvm_static_assert(KVMI_TEST_GVA + PAGE_A * PAGE_SIZE + A_OFF == 0x10000001340);
/* Is in row_nmi, too */
kvm_static_assert(KVMI_TEST_GVA + PAGE_A * PAGE_SIZE == 0x10000001000);

/* The GDT: the library's first three descriptors, and these */
#define SEL_DATA_NEW	"0x28"	/* not accessed yet */
#define SEL_ABSENT	"0x38"
#define SEL_LDT		"0x40"
#define SEL_TSS_NEW	"0x50"
#define SEL_LDT_A	"0xa0"	/* at operand A, 16 bytes */
#define SEL_LDT_C	"0xb0"	/* behind the code, 16 bytes */
#define SEL_OF_LDT	"0x4"
#define SEL_CODE_LDT	0xc
#define SEL_UDATA_NEW	"0x93"
#define SEL_UABSENT	"0x9b"
#define SEL_CODE	0x8
#define SEL_DATA	0x10
#define SEL_STACK_NEW	0x28
#define SEL_CODE_NEW	0x30
#define SEL_GATE	0x60
#define SEL_SYSRET	0x6b	/* what SYSRET counts from */
#define SEL_UDATA	0x73
#define SEL_UCODE	0x7b
#define SEL_UGATE	0x83
#define SEL_NOTHING	0x7f8

#define FAULT(vector)	((vector) + 1)
#define NO_FAULT	0

/* Interrupts for the guest itself */
#define INT_IST		0x80
#define INT_RSP0	0x82
#define INT_BAD_STACK	0x83
#define INT_IN_TSS	0x84
/* and one from outside */
#define INT_OUTSIDE	0x40

/* A call of the kernel is no exception, but ends in the same way. */
#define BY_GATE		0x101

/* For code that wants a constant at 8: */
#define CONST256(type, vals)	"jmp 9f; 8: " type " " vals "; 9: nop"
#define MASK256		CONST256(".long", "-1, 0, -1, -1, 0, 0, -1, 0")
#define INDEX256	CONST256(".long", "0, 1, 0x400, 0x401, 0xc00, 0xc01, 5, 0x405")
#define INDEX256Q	CONST256(".quad", "0, 0x200, 0x600, 1")
#define INDEX256_BAD	CONST256(".long", "0, 1, 0x3c00, 2, 3, 4, 5, 6")

/* ---- the table ---- */

enum cpu {
	CPU_ANY,
	CPU_MOVBE, CPU_MOVDIRI, CPU_MOVDIR64B, CPU_CX16, CPU_POPCNT, CPU_BMI1,
	CPU_BMI2, CPU_LZCNT, CPU_ADX, CPU_CLFLUSHOPT, CPU_CLWB, CPU_SSE3,
	CPU_SSSE3, CPU_SSE4_1, CPU_SSE4_2, CPU_AES, CPU_PCLMUL, CPU_AVX,
	CPU_AVX2, CPU_F16C, CPU_FMA, CPU_FMA4, CPU_XOP, CPU_AVX512F, CPU_XSAVE,
	CPU_XSAVEOPT, CPU_XSAVEC, CPU_SMEP, CPU_SMAP,
};

static const struct {
	const char *name;
	struct kvm_x86_cpu_feature feature;
} cpu_features[] = {
#define CPU(id, fn, gpr, nr, ...)						\
	[CPU_##id] = { #id, { .function = fn, .reg = KVM_CPUID_##gpr,	\
			      .bit = nr, ##__VA_ARGS__ } }
	CPU(MOVBE, 1, ECX, 22),
	CPU(MOVDIRI, 7, ECX, 27),
	CPU(MOVDIR64B, 7, ECX, 28),
	CPU(CX16, 1, ECX, 13),
	CPU(POPCNT, 1, ECX, 23),
	CPU(BMI1, 7, EBX, 3),
	CPU(BMI2, 7, EBX, 8),
	CPU(LZCNT, 0x80000001, ECX, 5),
	CPU(ADX, 7, EBX, 19),
	CPU(CLFLUSHOPT, 7, EBX, 23),
	CPU(CLWB, 7, EBX, 24),
	CPU(SSE3, 1, ECX, 0),
	CPU(SSSE3, 1, ECX, 9),
	CPU(SSE4_1, 1, ECX, 19),
	CPU(SSE4_2, 1, ECX, 20),
	CPU(AES, 1, ECX, 25),
	CPU(PCLMUL, 1, ECX, 1),
	CPU(AVX, 1, ECX, 28),
	CPU(AVX2, 7, EBX, 5),
	CPU(F16C, 1, ECX, 29),
	CPU(FMA, 1, ECX, 12),
	CPU(FMA4, 0x80000001, ECX, 16),
	CPU(XOP, 0x80000001, ECX, 11),
	CPU(AVX512F, 7, EBX, 16),
	CPU(XSAVE, 1, ECX, 26),
	CPU(XSAVEOPT, 0xd, EAX, 0, .index = 1),
	CPU(XSAVEC, 0xd, EAX, 1, .index = 1),
	CPU(SMEP, 7, EBX, 7),
	CPU(SMAP, 7, EBX, 20),
#undef CPU
};

/* Where the code is executed */
enum ring {
	RING_ANY,
	RING_0,
	RING_3,
	/* where there is user mode, but it begins in the kernel */
	RING_0_TO_3,
};

struct setup;

struct row {
	const char *name;
	const char *code, *code_end;

	/* What the code does to the pages; all that are named are restricted. */
	uint8_t a, a1, b, b1, s, s1, c, c1, g, d, h, k, t, i;
	/* It makes no access to an operand although it looks as if. */
	bool quiet;
	/* Which of the accesses it makes is the CPU's business. */
	bool lax;
	/* An instruction is executed several times. */
	bool loops;
	/* An NMI or interrupt may come half-way. */
	bool breaks;
	/* NMIs and interrupts wait for the instruction behind it. */
	bool shadow;
	/* It ends in the kernel, in a system call. */
	bool calls;
	/* There are events while the exception is delivered, and after it. */
	bool delivery;

	/* The operands' offsets in their pages, if not the usual ones */
	uint16_t a_off, b_off, s_off;
	/* The access to A begins there ... */
	int16_t a_delta;
	/* ... or anywhere within that distance. */
	uint16_t len;
	/* How many bytes of the code come before the second page of code */
	uint8_t split;

	/* What operand A is, if it matters */
	uint64_t val;
	uint8_t val_size;
	void (*prep)(const struct setup *s);

	enum ring ring;
	/* It is executed where it was compiled to, not in a test page ... */
	bool in_text;
	/* ... or in the page with the TSS. */
	bool in_tss;
	/* Bits of CR4 that are set for it */
	uint64_t cr4;
	/* FAULT(the exception that it raises), or BY_GATE */
	uint16_t fault;
	/* The VMM puts the segment registers right afterwards. */
	bool sregs;
	/* Not by KVM's emulator */
	bool native;
	/* A prefix for a segment has to have no effect. */
	bool segment;
	/* What is wrong with it in QEMU, see is_qemu_wrong() */
	const char *qemu;
	enum cpu cpu;
};

/* The code first */
#define ROW(name, insns, ...)				\
	extern const char row_##name[], row_##name##_end[];	\
	asm(".pushsection .text\n"			\
	    "row_" #name ": " insns "\n"		\
	    "row_" #name "_end:\n"			\
	    ".popsection");
#include "kvmi_continue_rows.h"
#undef ROW

/* What a preparation needs to know */
struct setup {
	struct kvmi_env *env;
	const struct row *row;
	void *a, *b, *s;
	uint64_t end;		/* of the code, for the guest */
	uint64_t s_gva;
};

#define PREP(name)	\
	static void prep_##name(const struct setup *s)

/* ---- in the guest ---- */

enum { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, NR_GPRS = 16 };

struct state {
	uint64_t gpr[NR_GPRS];
	uint64_t rflags;
	uint64_t rip;
	uint64_t sel[6];
	/* an exception, whose frame is in PAGE_K */
	uint64_t fault;
	uint64_t cr2;
	uint64_t dr6;
};

#define XSTATE_SIZE	4096
#define XSTATE_BV	512

struct state row_in, row_out;
uint8_t row_in_x[XSTATE_SIZE] __aligned(64);
uint8_t row_out_x[XSTATE_SIZE] __aligned(64);
uint64_t row_own_rsp;
uint64_t row_enter_user;	/* where, or 0 */
uint64_t row_nmis;
uint32_t row_xmask;	/* 0 if there is no XSAVE */
extern char row_done[], row_gate[], row_syscall[], row_nmi[], row_nmi_end[];
extern char row_stubs[], row_user[], row_user_end[];
extern char row_user_enter[], row_user_in[];
KVMI_INSN(row);

/* Without a register to spare, and with no use of the stack in the end */
asm(".pushsection .text\n"
	"kvmi_insn_row:\n\t"
	"push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n\t"
	"mov %rsp, row_own_rsp(%rip)\n\t"
	"mov row_xmask(%rip), %eax\n\t"
	"xor %edx, %edx\n\t"
	"test %eax, %eax\n\t"
	"jz 1f\n\t"
	"xrstor64 row_in_x(%rip)\n\t"
	"jmp 2f\n"
	"1: fxrstor64 row_in_x(%rip)\n"
	"2: pushq row_in+16*8(%rip)\n\t"
	"mov row_in+0*8(%rip), %rax\n\t"
	"mov row_in+1*8(%rip), %rcx\n\t"
	"mov row_in+2*8(%rip), %rdx\n\t"
	"mov row_in+3*8(%rip), %rbx\n\t"
	"mov row_in+5*8(%rip), %rbp\n\t"
	"mov row_in+6*8(%rip), %rsi\n\t"
	"mov row_in+7*8(%rip), %rdi\n\t"
	"mov row_in+8*8(%rip), %r8\n\t"
	"mov row_in+9*8(%rip), %r9\n\t"
	"mov row_in+10*8(%rip), %r10\n\t"
	"mov row_in+11*8(%rip), %r11\n\t"
	"mov row_in+12*8(%rip), %r12\n\t"
	"mov row_in+13*8(%rip), %r13\n\t"
	"mov row_in+14*8(%rip), %r14\n\t"
	"mov row_in+15*8(%rip), %r15\n\t"
	"cmpq $0, row_enter_user(%rip)\n\t"
	"jne 3f\n\t"
	"popfq\n\t"
	"mov row_in+4*8(%rip), %rsp\n\t"
	"jmp *row_in+17*8(%rip)\n"
	"3: pop %r11\n\t"
	"mov row_enter_user(%rip), %rcx\n\t"
	"mov row_in+4*8(%rip), %rsp\n\t"
	"sysretq\n"

	/* The CPU, or the kernel of the guest, has pushed all that matters. */
	"row_trap:\n\t"
	"mov %rax, row_out+0*8(%rip)\n\t"
	"mov %cr2, %rax\n\t"
	"mov %rax, row_out+25*8(%rip)\n\t"
	"cmpq $2, row_out+24*8(%rip)\n\t"
	"jne 4f\n\t"
	"mov %dr6, %rax\n\t"
	"mov %rax, row_out+26*8(%rip)\n\t"
	"mov $0xffff0ff0, %eax\n\t"
	"mov %rax, %dr6\n\t"
	"mov $0x400, %eax\n\t"
	"mov %rax, %dr7\n"
	"4: mov row_out+0*8(%rip), %rax\n"

	"row_syscall:\n"
	"row_done:\n\t"
	"mov %rax, row_out+0*8(%rip)\n\t"
	"mov %rcx, row_out+1*8(%rip)\n\t"
	"mov %rdx, row_out+2*8(%rip)\n\t"
	"mov %rbx, row_out+3*8(%rip)\n\t"
	"mov %rsp, row_out+4*8(%rip)\n\t"
	"mov %rbp, row_out+5*8(%rip)\n\t"
	"mov %rsi, row_out+6*8(%rip)\n\t"
	"mov %rdi, row_out+7*8(%rip)\n\t"
	"mov %r8, row_out+8*8(%rip)\n\t"
	"mov %r9, row_out+9*8(%rip)\n\t"
	"mov %r10, row_out+10*8(%rip)\n\t"
	"mov %r11, row_out+11*8(%rip)\n\t"
	"mov %r12, row_out+12*8(%rip)\n\t"
	"mov %r13, row_out+13*8(%rip)\n\t"
	"mov %r14, row_out+14*8(%rip)\n\t"
	"mov %r15, row_out+15*8(%rip)\n\t"
	"mov row_own_rsp(%rip), %rsp\n\t"
	"pushfq\n\t"
	"popq row_out+16*8(%rip)\n\t"
	"pushq $2\n\t"
	"popfq\n\t"
	"mov %ds, row_out+18*8(%rip)\n\t"
	"mov %es, row_out+19*8(%rip)\n\t"
	"mov %fs, row_out+20*8(%rip)\n\t"
	"mov %gs, row_out+21*8(%rip)\n\t"
	"mov %ss, row_out+22*8(%rip)\n\t"
	"mov %cs, row_out+23*8(%rip)\n\t"
	"mov row_xmask(%rip), %eax\n\t"
	"xor %edx, %edx\n\t"
	"test %eax, %eax\n\t"
	"jz 1f\n\t"
	"xsave64 row_out_x(%rip)\n\t"
	"jmp 2f\n"
	"1: fxsave64 row_out_x(%rip)\n"
	"2: fninit\n\t"
	"pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx\n\t"
	"xor %eax, %eax\n\t"
	"ret\n"

	/*
	 * What the IDT leads to.  No use of the stack, which may be restricted,
	 * nor of the GDT: the frame stays for the test to look at.
	 */
	".balign 16\n"
	"row_stubs:\n\t"
	".set row_vector, 0\n\t"
	".rept 256\n\t"
	".balign 16\n\t"
	"movq $row_vector + 1, row_out+24*8(%rip)\n\t"
	"jmp row_trap\n\t"
	".set row_vector, row_vector + 1\n\t"
	".endr\n"
	"row_gate:\n\t"
	"movq $0x101, row_out+24*8(%rip)\n\t"
	"jmp row_trap\n"

	/* NMI and interrupt: a user of operand A's page */
	"row_nmi:\n\t"
	"push %rax\n\t"
	"movabsb 0x10000001000, %al\n\t"
	"pop %rax\n\t"
	"incq row_nmis(%rip)\n\t"
	"iretq\n"
	"row_nmi_end:\n"

	/* For PAGE_EXIT: SYSCALL and SYSRET have no use for the stack either. */
	".balign 16\n"
	"row_user:\n\t"
	"mov %rcx, 5f(%rip)\n\t"
	"mov %r11, 6f(%rip)\n\t"
	"syscall\n"
	"row_user_enter:\n\t"
	"mov 7f(%rip), %rcx\n\t"
	"mov 8f(%rip), %r11\n\t"
	"jmp *9f(%rip)\n"
	".balign 8\n"
	"5: .quad 0\n"
	"6: .quad 0\n"
	"row_user_in:\n"
	"7: .quad 0\n"
	"8: .quad 0\n"
	"9: .quad 0\n"
	"row_user_end:\n\t"
	".popsection");

kvm_static_assert(offsetof(struct state, rflags) == 16 * 8);
kvm_static_assert(offsetof(struct state, rip) == 17 * 8);
kvm_static_assert(offsetof(struct state, sel) == 18 * 8);
kvm_static_assert(offsetof(struct state, fault) == 24 * 8);
kvm_static_assert(offsetof(struct state, cr2) == 25 * 8);
kvm_static_assert(offsetof(struct state, dr6) == 26 * 8);
kvm_static_assert(BY_GATE == 0x101);

/* ---- the VMM ---- */

/* The VM has user mode. */
static bool user;

static uint16_t code_sel(void)
{
	return user ? SEL_UCODE : SEL_CODE;
}

static uint16_t data_sel(void)
{
	return user ? SEL_UDATA : SEL_DATA;
}

PREP(a_end)
{
	*(uint64_t *)s->a = s->end;
}

PREP(a_nowhere)
{
	*(uint64_t *)s->a = NOWHERE;
}

static void far_pointer(void *p, uint32_t offset, uint16_t sel)
{
	memcpy(p, &offset, 4);
	memcpy(p + 4, &sel, 2);
}

PREP(a_far)
{
	far_pointer(s->a, (uint64_t)row_done, SEL_CODE);
}

PREP(a_far_bad)
{
	far_pointer(s->a, (uint64_t)row_done, SEL_DATA);
}

PREP(a_gate)
{
	far_pointer(s->a, 0x1234, user ? SEL_UGATE : SEL_GATE);
}

PREP(a_fs)
{
	far_pointer(s->a, 0x12345678, data_sel());
}

static void dtr(void *p, const struct kvm_dtable *table)
{
	uint64_t base = table->base;

	memcpy(p, &table->limit, 2);
	memcpy(p + 2, &base, 8);
}

static struct kvm_sregs sregs;

PREP(a_gdtr)
{
	dtr(s->a, &sregs.gdt);
}

PREP(a_idtr)
{
	dtr(s->a, &sregs.idt);
}

PREP(a_msw)
{
	*(uint16_t *)s->a = sregs.cr0;
}

PREP(a_zero)
{
	memset(s->a, 0, 1024);
}

PREP(a_fenv)
{
	const uint32_t env[] = { 0xffff037f, 0xffff0000, 0xffff5555, 0, 0, 0, 0 };

	memcpy(s->a, env, sizeof(env));
}

PREP(a_snan)
{
	const uint32_t vals[] = { 0x3f800000, 0x7fa00000, 0x40000000, 0 };

	memcpy(s->a, vals, sizeof(vals));
}

static uint8_t *guest_in_x;

PREP(a_xstate)
{
	int i;

	memcpy(s->a, guest_in_x, min_t(int, s->row->len, 1024));
	/* the XMM registers */
	for (i = 160; i < 160 + 256; i++)
		((uint8_t *)s->a)[i] ^= 0x5a;
}

PREP(alike)
{
	memcpy(s->b, s->a, 64);
	((uint8_t *)s->b)[30] ^= 1;
}

PREP(stack_null)
{
	*(uint64_t *)s->s = 0;
}

PREP(stack_flags)
{
	/* all but TF, IF, NT and RF */
	*(uint64_t *)s->s = 0x240cd7;
}

PREP(stack_end)
{
	*(uint64_t *)s->s = s->end;
}

PREP(stack_nowhere)
{
	*(uint64_t *)s->s = NOWHERE;
}

PREP(stack_far)
{
	((uint64_t *)s->s)[0] = s->end;
	((uint64_t *)s->s)[1] = code_sel();
}

PREP(stack_far32)
{
	((uint32_t *)s->s)[0] = (uint64_t)row_done;
	((uint32_t *)s->s)[1] = SEL_CODE;
}

PREP(stack_far_bad)
{
	((uint64_t *)s->s)[0] = s->end;
	((uint64_t *)s->s)[1] = SEL_DATA;
}

static void iret_frame(const struct setup *s, uint16_t cs, uint16_t ss)
{
	uint64_t *frame = s->s;

	frame[0] = s->end;
	frame[1] = cs;
	frame[2] = 0x8d7;
	frame[3] = s->s_gva + 0x100;
	frame[4] = ss;
}

PREP(stack_iret)
{
	iret_frame(s, code_sel(), data_sel());
}

/* to segments that nobody has loaded yet */
PREP(stack_iret_new)
{
	iret_frame(s, SEL_CODE_NEW, SEL_STACK_NEW);
}

PREP(stack_iret_bad)
{
	iret_frame(s, SEL_NOTHING, data_sel());
}

/* A segment for data and one for code */
PREP(code_ldt)
{
	uint64_t *ldt = kvmi_hva(s->env, PAGE_C, C_LDT_OFF);

	ldt[0] = 0x00cf93000000ffff;
	ldt[1] = 0x00af9b000000ffff;
}

PREP(code_ldt_new)
{
	*(uint64_t *)kvmi_hva(s->env, PAGE_C, C_LDT_OFF) = 0x00cf92000000ffff;
}

PREP(code_ldt_far)
{
	prep_code_ldt(s);
	far_pointer(s->a, (uint64_t)row_done, SEL_CODE_LDT);
	((uint64_t *)s->s)[0] = s->end;
	((uint64_t *)s->s)[1] = SEL_CODE_LDT;
}

PREP(code_ldt_iret)
{
	prep_code_ldt(s);
	iret_frame(s, SEL_CODE_LDT, SEL_DATA);
}

static void no_stack(const struct setup *s, int vector)
{
	uint64_t *desc = kvmi_hva(s->env, PAGE_I, 16 * vector);

	*desc |= 3ull << 32;
}

PREP(de_stack)
{
	no_stack(s, DE_VECTOR);
}

PREP(pf_stack)
{
	no_stack(s, PF_VECTOR);
}

/* The table */
#define ROW(id, insns, ...)					\
	{ .name = #id, .code = row_##id, .code_end = row_##id##_end, ##__VA_ARGS__ },
static const struct row rows[] = {
#include "kvmi_continue_rows.h"
};

static bool verbose;

/* ---- one VM ---- */

static struct kvmi_env env;
static struct state *guest_in, *guest_out;
static uint8_t *guest_out_x;
static uint8_t gdt[PAGE_SIZE], idt[PAGE_SIZE], tss[PAGE_SIZE];
static struct kvm_regs regs;	/* at the guest's beginning */
static bool can_step, is_qemu;

static uint64_t *guest_ptr(void *sym)
{
	return addr_gva2hva(env.vm, (vm_vaddr_t)sym);
}

static void init_gate(uint64_t *desc, uint64_t target, uint8_t type_dpl)
{
	desc[0] = (target & 0xffff) | SEL_CODE << 16 | (uint64_t)type_dpl << 40 |
		  (target & 0xffff0000) << 32;
	desc[1] = target >> 32;
}

static void init_system_desc(uint64_t *entry, uint64_t base, uint16_t limit,
			     uint8_t type)
{
	entry[0] = limit | (base & 0xffffff) << 16 | (uint64_t)type << 40 |
		   (base >> 24 & 0xff) << 56;
	entry[1] = base >> 32;
}

static void init_gdt(void)
{
	uint64_t *entry = (void *)gdt;

	memcpy(gdt, addr_gva2hva(env.vm, env.vm->arch.gdt), PAGE_SIZE);
	entry[2] = 0x00cf93000000ffff;
	/* the TSS, which is busy */
	init_system_desc(&entry[3], kvmi_gva(PAGE_T, 0), 0x67, 0x8b);
	entry[5] = 0x00cf92000000ffff;
	entry[6] = 0x00af9a000000ffff;
	entry[7] = 0x00cf12000000ffff;
	/* LDT: empty */
	init_system_desc(&entry[8], 0, 0xfff, 0x82);
	/* the same TSS, but not busy */
	init_system_desc(&entry[10], kvmi_gva(PAGE_T, 0), 0x67, 0x89);
	/* a gate to the end of the row */
	init_gate(&entry[12], (uint64_t)row_done, 0x8c);
	entry[14] = 0x00cff3000000ffff;
	entry[15] = 0x00affb000000ffff;
	init_gate(&entry[16], (uint64_t)row_gate, 0xec);
	entry[18] = 0x00cff2000000ffff;
	entry[19] = 0x00cf72000000ffff;
	init_system_desc(&entry[20], kvmi_gva(PAGE_A, A_OFF), 0xf, 0x82);
	init_system_desc(&entry[22], kvmi_gva(PAGE_C, C_LDT_OFF), 0xf, 0x82);
}

static uint64_t alloc_stack(void)
{
	return vm_vaddr_alloc(env.vm, 2 * PAGE_SIZE, KVM_UTIL_MIN_VADDR) +
	       2 * PAGE_SIZE;
}

/* Exceptions get a stack of their own, and so do NMIs. */
static void init_tss(void)
{
	uint64_t rsp0 = kvmi_gva(PAGE_K, K_RSP0_OFF);
	uint64_t ist[] = { kvmi_gva(PAGE_K, K_IST_OFF), alloc_stack(), NOWHERE + 64,
			   kvmi_gva(PAGE_T, T_IST_OFF) };

	memcpy(tss + 4, &rsp0, 8);
	memcpy(tss + 36, ist, sizeof(ist));
	/* no map of ports */
	tss[102] = 0x68;
}

static void init_idt(void)
{
	uint64_t *desc = (void *)idt;
	int i;

	for (i = 0; i < 256; i++) {
		uint8_t ist = 1, dpl = 0;
		uint64_t handler = (uint64_t)row_stubs + 16 * i;

		switch (i) {
		case NMI_VECTOR:
		case INT_OUTSIDE:
			handler = (uint64_t)row_nmi;
			ist = 2;
			break;
		case INT_BAD_STACK:
			dpl = 3;
			ist = 3;
			break;
		case INT_RSP0:
			dpl = 3;
			ist = 0;
			break;
		case INT_IN_TSS:
			dpl = 3;
			ist = 4;
			break;
		case BP_VECTOR:
		case INT_IST:
			dpl = 3;
			break;
		}
		init_gate(&desc[2 * i], handler, 0x8e | dpl << 5);
		desc[2 * i] |= (uint64_t)ist << 32;
	}
}

static struct kvm_lapic_state apic;

/* KVM does not find an APIC that nobody has ever touched. */
static void init_apic(struct kvm_vcpu *vcpu)
{
	vcpu_ioctl(vcpu, KVM_GET_LAPIC, &apic);
	*(uint32_t *)&apic.regs[APIC_SPIV] |= APIC_SPIV_APIC_ENABLED;
	vcpu_ioctl(vcpu, KVM_SET_LAPIC, &apic);
}

/* The test pages, except for the kernel's, are the user's. */
static void init_user_pages(void)
{
	static const uint8_t kernel[] = { PAGE_H, PAGE_K, PAGE_T, PAGE_G, PAGE_I };
	unsigned int page, i;
	int level;

	for (level = PG_LEVEL_2M; level <= PG_LEVEL_512G; level++)
		*__vm_get_page_table_entry(env.vm, KVMI_TEST_GVA, &level) |=
			PTE_USER_MASK;
	level = PG_LEVEL_4K;
	for (page = 0; page < KVMI_TEST_PAGES; page++)
		*__vm_get_page_table_entry(env.vm, kvmi_gva(page, 0), &level) |=
			PTE_USER_MASK;
	for (i = 0; i < ARRAY_SIZE(kernel); i++)
		*__vm_get_page_table_entry(env.vm, kvmi_gva(kernel[i], 0), &level) &=
			~PTE_USER_MASK;
}

static void init_syscall(struct kvm_vcpu *vcpu)
{
	vcpu_set_msr(vcpu, MSR_STAR,
		     (uint64_t)SEL_SYSRET << 48 | (uint64_t)SEL_CODE << 32);
	vcpu_set_msr(vcpu, MSR_LSTAR, kvmi_gva(PAGE_H, 0));
	/* All of them: QEMU clears CF and its like in any case. */
	vcpu_set_msr(vcpu, MSR_SYSCALL_MASK, 0x47fd5);
}

static void init_xstate(uint32_t mask)
{
	static const uint16_t exps[] = { 0x3fff, 0xc000, 0x4001, 0x3fe0 };
	uint8_t *x = guest_in_x;
	int i;

	memset(x, 0, XSTATE_SIZE);
	*(uint16_t *)x = 0x37f;
	x[4] = 0x0f;	/* four registers are in use */
	*(uint32_t *)(x + 24) = 0x1f80;
	for (i = 0; i < 4; i++) {
		*(uint64_t *)(x + 32 + 16 * i) = 0xc90fdaa22168c235 + i;
		*(uint16_t *)(x + 40 + 16 * i) = exps[i];
	}
	for (i = 160; i < 160 + 256; i++)
		x[i] = i * 37 ^ i >> 3;
	if (!mask)
		return;
	*(uint64_t *)(x + XSTATE_BV) = mask;
	for (i = 576; i < XSTATE_SIZE; i++)
		x[i] = i * 53 ^ i >> 4;
}

static bool is_tcg(void)
{
	uint32_t eax, ebx, ecx, edx;

	cpuid(0x40000000, &eax, &ebx, &ecx, &edx);

	return !memcmp(&ebx, "TCGT", 4);
}

/* The guest's XSETBV would not do: QEMU executes it without telling KVM. */
static void set_xcr0(struct kvm_vcpu *vcpu, uint64_t val)
{
	struct kvm_xcrs xcrs = {
		.nr_xcrs = 1,
		.xcrs = { { .xcr = 0, .value = val } },
	};

	vcpu_xcrs_set(vcpu, &xcrs);
}

/* What is in the pages to begin with */
static uint8_t pattern[KVMI_TEST_PAGES * PAGE_SIZE];

/* jmp *0(%rip) */
static void put_jmp(uint8_t *p, const void *target)
{
	uint64_t addr = (uint64_t)target;

	memcpy(p, "\xff\x25\0\0\0", 6);
	memcpy(p + 6, &addr, 8);
}

static void init_pattern(void)
{
	unsigned int i;

	for (i = 0; i < sizeof(pattern); i++)
		pattern[i] = (i * 0x9e3779b1u) >> 19;
	memcpy(pattern + PAGE_G * PAGE_SIZE, gdt, PAGE_SIZE);
	memcpy(pattern + PAGE_I * PAGE_SIZE, idt, PAGE_SIZE);
	memcpy(pattern + PAGE_T * PAGE_SIZE, tss, PAGE_SIZE);
	put_jmp(pattern + PAGE_H * PAGE_SIZE, row_syscall);
	if (user)
		memcpy(pattern + PAGE_EXIT * PAGE_SIZE, row_user,
		       row_user_end - row_user);
	else
		put_jmp(pattern + PAGE_EXIT * PAGE_SIZE, row_done);
}

static void create(void)
{
	const uint64_t wanted = XFEATURE_MASK_FP | XFEATURE_MASK_SSE |
				XFEATURE_MASK_YMM | XFEATURE_MASK_AVX512;
	struct kvm_vcpu *vcpu;
	uint32_t mask = 0;
	int level = PG_LEVEL_4K;

	kvmi_env_create(&env, 1);
	vcpu = env.run[0].vcpu;
	vcpu_regs_get(vcpu, &regs);
	guest_in = (void *)guest_ptr(&row_in);
	guest_out = (void *)guest_ptr(&row_out);
	guest_in_x = (void *)guest_ptr(row_in_x);
	guest_out_x = (void *)guest_ptr(row_out_x);

	if (kvm_cpu_has(X86_FEATURE_XSAVE))
		mask = kvm_cpu_property(X86_PROPERTY_SUPPORTED_XCR0_LO) & wanted;
	*(uint32_t *)guest_ptr(&row_xmask) = mask;
	init_xstate(mask);
	init_gdt();
	init_tss();
	init_idt();
	init_pattern();
	memcpy(env.hva, pattern, sizeof(pattern));
	vcpu_sregs_get(vcpu, &sregs);
	/* With a stack segment of 32 bits, as guests have it; QEMU looks at it. */
	sregs.ss = sregs.ds;
	sregs.ss.db = 1;
	if (user) {
		sregs.ds.selector = SEL_UDATA;
		sregs.ds.dpl = 3;
		sregs.es = sregs.ds;
		sregs.gs = sregs.ds;
	}
	sregs.gdt.base = kvmi_gva(PAGE_G, 0);
	sregs.idt.base = kvmi_gva(PAGE_I, 0);
	sregs.tr.base = kvmi_gva(PAGE_T, 0);
	sregs.efer |= EFER_SCE;
	sregs.cr0 |= X86_CR0_WP | X86_CR0_MP | X86_CR0_AM;
	sregs.cr4 |= X86_CR4_OSXMMEXCPT;
	if (mask)
		sregs.cr4 |= X86_CR4_OSXSAVE;
	vcpu_sregs_set(vcpu, &sregs);
	if (mask)
		set_xcr0(vcpu, mask);
	*__vm_get_page_table_entry(env.vm, kvmi_gva(PAGE_RO, 0), &level) &=
		~PTE_WRITABLE_MASK;

	init_apic(vcpu);
	if (user) {
		init_user_pages();
		init_syscall(vcpu);
	}

	kvmi_env_hook(&env);
	kvmi_control_event(&env, 0, KVMI_VCPU_EVENT_PF, true);
	can_step = kvmi_can_step(&env.tool);
	is_qemu = is_tcg();
}

/* ---- one row ---- */

#define MAX_EVENTS	64
#define NR_FLAGS	2

static const uint64_t all_flags[NR_FLAGS] = { 0x2, 0x8d7 };

/* What is taken from the pages with data, and from those with code */
struct restriction {
	const char *name;
	uint8_t data, code;
};

static const struct restriction restrictions[] = {
	{ "nothing allowed", R | W | X, R | W | X },
	{ "no writing", W, X },
	{ "no reading", R, RW },
};

struct outcome {
	struct state state;
	uint8_t xstate[XSTATE_SIZE];
	uint8_t pages[KVMI_TEST_PAGES * PAGE_SIZE];
	uint64_t nmis;
	unsigned int nr_events;
	struct kvmi_event events[MAX_EVENTS];
};

static struct outcome want[NR_FLAGS], got;

struct result {
	int code;
	char text[400];
};

static struct result result;

#define FAIL(fmt, ...)							\
do {									\
	size_t __n = strlen(result.text);				\
									\
	result.code = KSFT_FAIL;					\
	snprintf(result.text + __n, sizeof(result.text) - __n,		\
		 "%s" fmt, __n ? "; " : "", ##__VA_ARGS__);		\
} while (0)

static uint64_t code_gva(const struct row *row)
{
	if (row->in_text)
		return (uint64_t)row->code;
	if (row->in_tss)
		return kvmi_gva(PAGE_T, T_CODE_OFF);
	if (row->split)
		return kvmi_gva(PAGE_C + 1, 0) - row->split;

	return kvmi_gva(row->c1 ? PAGE_C + 1 : PAGE_C, C_OFF);
}

static uint64_t code_end(const struct row *row)
{
	return code_gva(row) + (row->code_end - row->code);
}

static uint8_t *gva2hva(uint64_t gva)
{
	return env.hva + (gva - KVMI_TEST_GVA);
}

static uint64_t a_gva(const struct row *row)
{
	return kvmi_gva(PAGE_A, row->a_off ?: A_OFF);
}

static uint64_t b_gva(const struct row *row)
{
	return kvmi_gva(PAGE_B, row->b_off ?: B_OFF);
}

static uint64_t s_gva(const struct row *row)
{
	return kvmi_gva(PAGE_S, row->s_off ?: S_OFF);
}

static void init_code(const struct row *row)
{
	uint64_t end = code_end(row), out = kvmi_gva(PAGE_EXIT, 0);
	int32_t rel = out - (end + 5);
	uint8_t *p;

	if (row->in_text)
		return;

	p = gva2hva(end);
	memcpy(gva2hva(code_gva(row)), row->code, row->code_end - row->code);
	p[0] = 0xe9;
	memcpy(p + 1, &rel, 4);
}

/* Where user mode begins, RCX, R11 and RIP get what they are to be. */
static void init_user(const struct row *row)
{
	uint64_t *in = kvmi_hva(&env, PAGE_EXIT, row_user_in - row_user);

	if (!user || row->ring == RING_0_TO_3) {
		*guest_ptr(&row_enter_user) = 0;
		return;
	}

	*guest_ptr(&row_enter_user) = kvmi_gva(PAGE_EXIT,
					       row_user_enter - row_user);
	in[0] = guest_in->gpr[RCX];
	in[1] = guest_in->gpr[11];
	in[2] = guest_in->rip;
}

/*
 * Does an NMI that waits come while the row is looked at?  On AMD, KVM steps the
 * guest to see the end of a shadow; in Bochs that takes until later.
 */
static bool nmi_comes_soon(const struct row *row)
{
	return !row->shadow || !host_cpu_is_amd || is_qemu;
}

/*
 * Does the row run with interrupts on, and get one instead of an NMI?  Stock QEMU
 * delivers an interrupt twice now and then, but not an NMI.
 */
static bool has_irqs(const struct row *row)
{
	return user && !is_qemu && row->ring != RING_0_TO_3;
}

static void init_regs(const struct row *row, uint64_t flags)
{
	uint64_t *gpr = guest_in->gpr;
	int i;

	for (i = 12; i < NR_GPRS; i++)
		gpr[i] = 0x0123456789abcdef * i;
	gpr[RAX] = 0x8182838485868788;
	gpr[RCX] = 5;
	gpr[RDX] = 0x1122334455667788;
	gpr[RBX] = 0xffeeddccbbaa9988;
	gpr[RDI] = a_gva(row);
	gpr[RSI] = b_gva(row);
	gpr[RSP] = s_gva(row);
	gpr[RBP] = s_gva(row) + 0x40;
	gpr[8] = NOWHERE;
	gpr[9] = kvmi_gva(PAGE_RO, 0x100);
	gpr[10] = 0x8000000000000000;
	gpr[11] = kvmi_gva(PAGE_D, D_OFF);
	guest_in->rflags = flags | (has_irqs(row) ? BIT(9) : 0);
	guest_in->rip = code_gva(row);
}

static void init(const struct row *row, uint64_t flags)
{
	struct setup s = {
		.env = &env,
		.row = row,
		.a = gva2hva(a_gva(row)),
		.b = gva2hva(b_gva(row)),
		.s = gva2hva(s_gva(row)),
		.end = code_end(row),
		.s_gva = s_gva(row),
	};
	const uint64_t val[2] = { row->val };

	memcpy(env.hva, pattern, sizeof(pattern));
	init_code(row);
	init_regs(row, flags);
	init_user(row);
	*guest_ptr(&row_nmis) = 0;
	memcpy(s.a, val, row->val_size);
	if (row->prep)
		row->prep(&s);
	memset(guest_out, 0, sizeof(*guest_out));
	memset(guest_out_x, 0, XSTATE_SIZE);
}

static void recover(void)
{
	struct kvm_vcpu *vcpu = env.run[0].vcpu;

	vcpu_sregs_set(vcpu, &sregs);
	/* This forgets a pending exception, too. */
	vcpu_regs_set(vcpu, &regs);
}

static void send_nmi(const struct row *row)
{
	struct kvm_msi msi = {
		.address_lo = APIC_DEFAULT_GPA,
		.data = has_irqs(row) ? INT_OUTSIDE : APIC_DM_NMI,
	};
	int r = __vm_ioctl(env.vm, KVM_SIGNAL_MSI, &msi);

	TEST_ASSERT(r == 1, KVM_IOCTL_ERROR(KVM_SIGNAL_MSI, r));
}

static void prepare_sregs(const struct row *row)
{
	struct kvm_sregs changed = sregs;

	if (!row->cr4)
		return;

	changed.cr4 |= row->cr4;
	vcpu_sregs_set(env.run[0].vcpu, &changed);
}

/*
 * The row has ended before the handler did, or it was never called.  Nobody tells
 * the APIC of the end of an interrupt either.
 */
static void forget_nmi(void)
{
	struct kvm_vcpu_events events;

	vcpu_events_get(env.run[0].vcpu, &events);
	events.nmi.masked = 0;
	events.nmi.pending = 0;
	events.flags |= KVM_VCPUEVENT_VALID_NMI_PENDING;
	vcpu_events_set(env.run[0].vcpu, &events);
	vcpu_ioctl(env.run[0].vcpu, KVM_SET_LAPIC, &apic);
}

static bool has_error_code(uint64_t vector)
{
	return vector == DF_VECTOR ||
	       (vector >= TS_VECTOR && vector <= PF_VECTOR) ||
	       vector == AC_VECTOR;
}

/* Where the handler has found its stack, or NULL */
static uint64_t *exception_frame(struct outcome *o)
{
	uint64_t rsp = o->state.gpr[RSP];

	if (!o->state.fault || o->state.fault > FAULT(255) ||
	    rsp < kvmi_gva(PAGE_K, 0) || rsp >= kvmi_gva(PAGE_K + 1, 0))
		return NULL;

	return (void *)o->pages + (rsp - KVMI_TEST_GVA);
}

/* RF is set in an exception's frame; but not by QEMU. */
static void hide_rf(struct outcome *o)
{
	uint64_t *frame = exception_frame(o);

	if (frame)
		frame[has_error_code(o->state.fault - 1) + 2] &= ~BIT(16);
}

/*
 * Executes the row; false if that came to no good end.  With @nmi, an NMI or an
 * interrupt comes before the first event is answered.
 */
static bool run(const struct row *row, uint64_t flags, struct outcome *o, bool nmi)
{
	struct kvmi_runner *r = &env.run[0];
	struct kvm_run *kvm_run = r->vcpu->run;
	struct kvmi_event ev;

	init(row, flags);
	prepare_sregs(row);
	o->nr_events = 0;
	kvmi_runner_do(r, kvmi_insn_row, 0, 0);
	for (;;) {
		struct pollfd pfd[] = {
			{ .fd = env.tool.fd, .events = POLLIN },
			{ .fd = r->done_fd, .events = POLLIN },
		};
		int ret = poll(pfd, 2, KVMI_TIMEOUT_MS);

		TEST_ASSERT(ret > 0, "%s: neither event nor end", row->name);
		if (!pfd[0].revents)
			break;
		TEST_ASSERT(kvmi_poll_event(&env.tool, &ev, 0), "no event");
		if (verbose)
			printf("# %s: gpa %#llx gva %#llx access %u rip %#llx\n",
			       row->name, ev.pf.gpa, ev.pf.gva, ev.pf.access,
			       ev.common.arch.regs.rip);
		/* Endless: the vCPU is not to be in the way of the next row. */
		if (o->nr_events == MAX_EVENTS) {
			kvmi_reply(&env.tool, &ev, KVMI_EVENT_ACTION_CRASH);
			continue;
		}
		if (nmi && !o->nr_events)
			send_nmi(row);
		o->events[o->nr_events++] = ev;
		kvmi_reply(&env.tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	}

	kvmi_runner_wait_exit(r);
	if (r->ret || r->uc.cmd != UCALL_SYNC) {
		if (o->nr_events == MAX_EVENTS)
			FAIL("endless events, gpa %#llx access %u rip %#llx",
			     ev.pf.gpa, ev.pf.access, ev.common.arch.regs.rip);
		else if (r->ret)
			FAIL("KVM_RUN: errno %d", r->err);
		else
			FAIL("%s, suberror %u after %u events",
			     exit_reason_str(kvm_run->exit_reason),
			     kvm_run->exit_reason == KVM_EXIT_INTERNAL_ERROR ?
			     kvm_run->internal.suberror : 0, o->nr_events);
		recover();
		return false;
	}
	/* After an exception from user mode, or one with QEMU, there is no SS. */
	if (row->sregs || row->cr4 || row->fault)
		vcpu_sregs_set(r->vcpu, &sregs);

	o->state = *guest_out;
	o->nmis = *guest_ptr(&row_nmis);
	if (nmi)
		forget_nmi();
	memcpy(o->xstate, guest_out_x, XSTATE_SIZE);
	memcpy(o->pages, env.hva, sizeof(o->pages));
	/* What a component that is in its initial state is called, depends. */
	memset(o->xstate + XSTATE_BV, 0, 8);
	if (is_qemu)
		hide_rf(o);

	return true;
}

/* What the row does to @page */
static uint8_t accesses(const struct row *row, unsigned int page)
{
	switch (page) {
	case PAGE_H:
		return row->h;
	case PAGE_A:
		return row->a;
	case PAGE_A + 1:
		return row->a1;
	case PAGE_K:
		return row->k;
	case PAGE_B:
		return row->b;
	case PAGE_B + 1:
		return row->b1;
	case PAGE_T:
		return row->t;
	case PAGE_S:
		return row->s;
	case PAGE_S + 1:
		return row->s1;
	case PAGE_C:
		return row->c;
	case PAGE_C + 1:
		return row->c1;
	case PAGE_G:
		return row->g;
	case PAGE_I:
		return row->i;
	case PAGE_D:
		return row->d;
	}

	return 0;
}

/* Restricts all pages that the row names. */
static void restrict_pages(const struct row *row, const struct restriction *r)
{
	struct {
		struct kvmi_vm_set_page_access req;
		struct kvmi_page_access_entry entries[KVMI_TEST_PAGES];
	} msg = { 0 };
	int i, n = 0;

	for (i = 0; i < KVMI_TEST_PAGES; i++) {
		uint8_t what = accesses(row, i);

		if (!what)
			continue;
		msg.entries[n].gpa = kvmi_gpa(i, 0);
		msg.entries[n].access = KVMI_ACCESS_ALL;
		if (r)
			msg.entries[n].access &= ~(what & X ? r->code : r->data);
		n++;
	}
	msg.req.count = n;
	kvmi_cmd(&env.tool, KVMI_VM_SET_PAGE_ACCESS, &msg,
		 sizeof(msg.req) + n * sizeof(msg.entries[0]), NULL, 0);
}

/* What the row does to @page, of what is restricted */
static uint8_t expected(const struct row *row, const struct restriction *r,
			unsigned int page)
{
	uint8_t what = accesses(row, page);

	if (row->quiet && page <= PAGE_B + 1 && page != PAGE_K)
		return 0;

	return what & (what & X ? r->code : r->data);
}

/* Could an access of the row begin at @gva? */
static bool is_at_operand(const struct row *row, uint64_t gva, uint8_t access,
			  uint64_t rip)
{
	unsigned int page = (gva - KVMI_TEST_GVA) / PAGE_SIZE;
	uint64_t operand;
	uint64_t len = 0;

	switch (page) {
	case PAGE_A:
	case PAGE_A + 1:
		operand = a_gva(row) + row->a_delta;
		len = row->len;
		break;
	case PAGE_B:
	case PAGE_B + 1:
		operand = b_gva(row);
		len = row->len;
		break;
	case PAGE_C:
	case PAGE_C + 1:
		operand = rip;
		if (access != X)
			return true;
		break;
	case PAGE_S:
	case PAGE_S + 1:
		operand = s_gva(row);
		len = 0x80;
		break;
	default:
		return true;
	}
	if (len)
		return gva + len >= operand && gva < operand + len;

	/* Where it enters the next page, if not where it begins. */
	return gva == operand ||
	       gva == (operand / PAGE_SIZE + 1) * PAGE_SIZE;
}

static bool is_in_nmi(const struct kvmi_event *ev)
{
	uint64_t rip = ev->common.arch.regs.rip;

	return rip >= (uint64_t)row_nmi && rip < (uint64_t)row_nmi_end;
}

/*
 * The restrictions hold for the handler, whatever was allowed to the instruction
 * that it comes before or after.  An interrupt waits for the end of the kernel's
 * work (an exception, a system call), which the row does not see.
 */
static void check_nmi_events(const struct row *row, const struct restriction *r)
{
	bool restricted = accesses(row, PAGE_A) &&
			  ((accesses(row, PAGE_A) & X ? r->code : r->data) & R);
	unsigned int i, n = 0;

	for (i = 0; i < got.nr_events; i++) {
		if (!is_in_nmi(&got.events[i]))
			continue;
		if (got.events[i].pf.gpa == kvmi_gpa(PAGE_A, 0) &&
		    got.events[i].pf.access == R)
			n++;
	}
	if (got.nmis != 1 &&
	    !(has_irqs(row) && (row->fault || row->calls) && !got.nmis))
		FAIL("%lu NMIs or interrupts, want 1", got.nmis);
	if (n != got.nmis * restricted)
		FAIL("%u events of the handler", n);
}

static bool is_rip_of_row(const struct row *row, uint64_t rip, unsigned int page)
{
	if (page == PAGE_H)
		return rip == kvmi_gva(PAGE_H, 0);

	return rip >= code_gva(row) && rip <= code_end(row);
}

static bool is_table(unsigned int page)
{
	return page == PAGE_T || page == PAGE_G || page == PAGE_I;
}

static void check_events(const struct row *row, const struct restriction *r, bool nmi)
{
	uint8_t seen[KVMI_TEST_PAGES] = {};
	unsigned int i, j, page;

	for (i = 0; i < got.nr_events; i++) {
		const struct kvmi_event *ev = &got.events[i];
		uint64_t rip = ev->common.arch.regs.rip;
		uint64_t gva = ev->pf.gpa - KVMI_TEST_GPA + KVMI_TEST_GVA;

		if (is_in_nmi(ev))
			continue;
		page = (ev->pf.gpa - KVMI_TEST_GPA) / PAGE_SIZE;
		if (ev->event != KVMI_VCPU_EVENT_PF || page >= KVMI_TEST_PAGES) {
			FAIL("event %u, gpa %#llx", ev->event, ev->pf.gpa);
			return;
		}
		if (!(expected(row, r, page) & ev->pf.access))
			FAIL("event without access: page %u access %u rip %#lx",
			     page, ev->pf.access, rip);
		seen[page] |= ev->pf.access;
		if (!kvmi_gva_valid(ev, gva))
			FAIL("gva %#llx for gpa %#llx", ev->pf.gva, ev->pf.gpa);
		if (!is_at_operand(row, gva, ev->pf.access, rip))
			FAIL("gpa %#llx access %u, not the operand's",
			     ev->pf.gpa, ev->pf.access);
		/* To get to the handler, the CPU uses them, too. */
		if (row->delivery || (nmi && is_table(page)))
			continue;
		if (!is_rip_of_row(row, rip, page))
			FAIL("rip %#lx", rip);
		for (j = 0; j < i && !row->loops && !(nmi && row->breaks); j++)
			if (got.events[j].common.arch.regs.rip == rip &&
			    got.events[j].pf.access == ev->pf.access &&
			    got.events[j].pf.gpa / PAGE_SIZE == ev->pf.gpa / PAGE_SIZE)
				FAIL("twice: page %u access %u", page,
				     ev->pf.access);
	}
	for (page = 0; page < KVMI_TEST_PAGES; page++)
		if (!row->lax && expected(row, r, page) & ~seen[page])
			FAIL("missed: page %u access %u", page,
			     expected(row, r, page) & ~seen[page]);
}

static void compare(const char *what, const void *w, const void *g, size_t size)
{
	const uint8_t *w8 = w, *g8 = g;
	size_t i;

	if (!memcmp(w, g, size))
		return;

	for (i = 0; i < size; i++) {
		if (w8[i] == g8[i])
			continue;
		i &= ~7;
		FAIL("%s %#zx: %#lx, want %#lx", what, i, *(uint64_t *)(g + i),
		     *(uint64_t *)(w + i));
		return;
	}
}

static void compare_states(const struct state *w, const struct state *g)
{
	int i;

#define COMPARE(field)							\
do {									\
	if ((w->field) != (g->field))					\
		FAIL(#field " %#lx, want %#lx", g->field, w->field);	\
} while (0)
	COMPARE(fault);
	COMPARE(cr2);
	COMPARE(dr6);
	/* ADOX, with QEMU, leaves something in reserved bits. */
	if (is_qemu)
		COMPARE(rflags & 0x247fd7);
	else
		COMPARE(rflags);
	for (i = 0; i < ARRAY_SIZE(w->gpr); i++)
		if (w->gpr[i] != g->gpr[i])
			FAIL("register %d %#lx, want %#lx", i, g->gpr[i],
			     w->gpr[i]);
	for (i = 0; i < ARRAY_SIZE(w->sel); i++)
		if (w->sel[i] != g->sel[i])
			FAIL("selector %d %#lx, want %#lx", i, g->sel[i],
			     w->sel[i]);
#undef COMPARE
}

static void check(const struct row *row, const struct restriction *r,
		  unsigned int flags, bool nmi)
{
	const struct outcome *w = &want[flags];

	if (verbose)
		printf("# %s: %s, flags %#lx%s\n", row->name, r->name,
		       all_flags[flags], nmi ? ", NMI" : "");
	if (run(row, all_flags[flags], &got, nmi)) {
		compare_states(&w->state, &got.state);
		compare("fpu at", w->xstate, got.xstate, XSTATE_SIZE);
		compare("memory at", w->pages, got.pages, sizeof(got.pages));
		check_events(row, r, nmi);
		if (nmi)
			check_nmi_events(row, r);
	}
	if (result.code == KSFT_FAIL)
		FAIL("(%s, flags %#lx%s)", r->name, all_flags[flags],
		     nmi ? ", NMI" : "");
}

static void test_restrictions(const struct row *row)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(restrictions); i++) {
		restrict_pages(row, &restrictions[i]);
		check(row, &restrictions[i], i % NR_FLAGS, false);
		if (!i && result.code == KSFT_PASS)
			check(row, &restrictions[i], 1, false);
		/* The handler uses a page of the user's, which SMAP forbids. */
		if (!i && result.code == KSFT_PASS && got.nr_events && !row->cr4 &&
		    nmi_comes_soon(row))
			check(row, &restrictions[i], 0, true);
		if (result.code != KSFT_PASS)
			break;
	}
	restrict_pages(row, NULL);
}

static const struct row *find_row(const char *name)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(rows); i++)
		if (!strcmp(rows[i].name, name))
			return &rows[i];

	TEST_FAIL("there is no row %s", name);
}

/* Does the CPU mind a breakpoint that KVM has it enter the guest with? */
static bool takes_breakpoints(void)
{
	const struct row *store = find_row("movl_store");
	struct kvm_vcpu *vcpu = env.run[0].vcpu;
	struct kvm_debugregs none, dbg;
	bool taken;

	vcpu_ioctl(vcpu, KVM_GET_DEBUGREGS, &none);
	dbg = none;
	dbg.db[0] = a_gva(store);
	dbg.dr7 = 0xd0402;	/* 4 bytes, written to */
	vcpu_ioctl(vcpu, KVM_SET_DEBUGREGS, &dbg);
	taken = !run(store, all_flags[0], &got, false) ||
		got.state.fault == FAULT(DB_VECTOR);
	vcpu_ioctl(vcpu, KVM_SET_DEBUGREGS, &none);
	/* The row that it hits in expects no exception, see run(). */
	vcpu_sregs_set(vcpu, &sregs);

	return taken;
}

/* Does the CPU leave out prefixes for DS and the like? */
static bool heeds_segments(void)
{
	const struct row *load = find_row("mov_fs_ds");
	uint64_t val;

	memcpy(&val, pattern + PAGE_A * PAGE_SIZE + A_OFF + load->a_delta, sizeof(val));

	return run(load, all_flags[0], &got, false) && got.state.gpr[RAX] == val;
}

/*
 * Is there something wrong with it indeed?  The tool is not involved, for
 * nothing is restricted: either it shows in what the instruction does, or it
 * does when KVM has it begin anew after a fault that is KVM's own business.
 */
static bool is_qemu_wrong(const struct row *row)
{
	const uint32_t logging = KVM_MEM_LOG_DIRTY_PAGES;
	bool wrong = false;
	int i;

	for (i = 0; i < NR_FLAGS && !wrong; i++) {
		struct outcome *w = &want[i];
		const void *table = w->pages + PAGE_G * PAGE_SIZE;
		const struct state *state = &w->state;

		wrong = !run(row, all_flags[i], w, false) ||
			state->fault != row->fault ||
			!(state->gpr[RSP] >> 32) ||
			((row->g & W) && !memcmp(table, gdt, PAGE_SIZE)) ||
			((row->d & W) && state->fault == FAULT(PF_VECTOR) &&
			 exception_frame(w) &&
			 !(*exception_frame(w) & PFERR_WRITE_MASK));
		if (wrong)
			break;

		/* This takes the right to write from all pages. */
		vm_mem_region_set_flags(env.vm, KVMI_TEST_SLOT, logging);
		if (run(row, all_flags[i], &got, false)) {
			compare_states(state, &got.state);
			compare("memory at", w->pages, got.pages,
				sizeof(got.pages));
		}
		vm_mem_region_set_flags(env.vm, KVMI_TEST_SLOT, 0);
		wrong = result.code == KSFT_FAIL;
	}
	if (!wrong && row->fault == FAULT(DB_VECTOR))
		wrong = !takes_breakpoints();
	if (!wrong && row->segment)
		wrong = !heeds_segments();
	result.code = KSFT_PASS;
	result.text[0] = 0;

	return wrong;
}

static void test_row(const struct row *row)
{
	unsigned int i;

	result.code = KSFT_PASS;
	result.text[0] = 0;

	if (row->cpu != CPU_ANY &&
	    !kvm_cpu_has(cpu_features[row->cpu].feature)) {
		result.code = KSFT_SKIP;
		snprintf(result.text, sizeof(result.text), "the CPU has no %s",
			 cpu_features[row->cpu].name);
		return;
	}
	if (row->qemu && is_qemu && is_qemu_wrong(row)) {
		result.code = KSFT_SKIP;
		snprintf(result.text, sizeof(result.text), "QEMU %s",
			 row->qemu);
		return;
	}
	if (row->native && !can_step) {
		result.code = KSFT_SKIP;
		strcpy(result.text, "needs a step, and the machine cannot");
		return;
	}

	for (i = 0; i < NR_FLAGS; i++) {
		if (!run(row, all_flags[i], &want[i], false)) {
			FAIL("(without introspection)");
			return;
		}
		if (want[i].nr_events)
			FAIL("%u events without a restriction",
			     want[i].nr_events);
		if (want[i].state.fault != row->fault)
			FAIL("the CPU raises %ld, not %d",
			     want[i].state.fault - 1, row->fault - 1);
	}
	test_restrictions(row);
}

/* ---- all rows ---- */

static bool is_selected(const struct row *row, int argc, char *argv[])
{
	bool any = false;
	int i;

	if (user ? row->ring == RING_0 : row->ring >= RING_3)
		return false;

	for (i = 1; i < argc; i++) {
		if (argv[i][0] == '-')
			continue;
		any = true;
		if (!strcmp(row->name, argv[i]))
			return true;
	}

	return !any;
}

/* The child: the rows from @first on, their results into @fd */
static void run_rows(int fd, int first, int argc, char *argv[])
{
	int i;

	create();
	for (i = first; i < ARRAY_SIZE(rows); i++) {
		if (!is_selected(&rows[i], argc, argv))
			continue;
		test_row(&rows[i]);
		if (write(fd, &result, sizeof(result)) != sizeof(result))
			break;
	}
	kvmi_env_destroy(&env);
	exit(0);
}

static void report(const struct row *row)
{
	char name[80];

	snprintf(name, sizeof(name), "%s%s", row->name, user ? ":user" : "");
	ksft_test_result_code(result.code, name, result.text[0] ? "%s" : NULL,
			      result.text);
}

/* All rows, in the kernel or in user mode */
static void test_rows(int argc, char *argv[])
{
	int i, fds[2] = { -1, -1 };
	pid_t child = -1;

	for (i = 0; i < ARRAY_SIZE(rows); i++) {
		int status = 0;

		if (!is_selected(&rows[i], argc, argv))
			continue;
		if (child < 0) {
			TEST_ASSERT(!pipe(fds), "pipe()");
			fflush(stdout);
			child = fork();
			TEST_ASSERT(child >= 0, "fork()");
			if (!child) {
				close(fds[0]);
				run_rows(fds[1], i, argc, argv);
			}
			close(fds[1]);
		}
		if (read(fds[0], &result, sizeof(result)) != sizeof(result)) {
			waitpid(child, &status, 0);
			result.code = KSFT_FAIL;
			snprintf(result.text, sizeof(result.text),
				 "the process has ended, status %#x", status);
			close(fds[0]);
			child = -1;
		}
		report(&rows[i]);
	}
	if (child < 0)
		return;
	waitpid(child, NULL, 0);
	close(fds[0]);
}

int main(int argc, char *argv[])
{
	int i, n = 0;

	TEST_REQUIRE(kvmi_supported());
	verbose = argc > 1 && !strcmp(argv[1], "-v");

	for (i = 0; i < 2 * ARRAY_SIZE(rows); i++) {
		user = i >= ARRAY_SIZE(rows);
		n += is_selected(&rows[i % ARRAY_SIZE(rows)], argc, argv);
	}
	ksft_print_header();
	ksft_set_plan(n);

	user = false;
	test_rows(argc, argv);
	user = true;
	test_rows(argc, argv);
	ksft_finished();
}
