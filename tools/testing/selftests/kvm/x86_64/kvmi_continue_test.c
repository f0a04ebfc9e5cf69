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
 * The instructions are executed in a child process, all in one VM; if one of
 * them ends the child, another goes on with the next.
 */
#include <sys/mman.h>
#include <sys/wait.h>
#include <poll.h>

#include "test_util.h"
#include "kvm_util.h"
#include "kselftest.h"
#include "kvmi_util.h"

#define R	KVMI_PAGE_ACCESS_R
#define W	KVMI_PAGE_ACCESS_W
#define X	KVMI_PAGE_ACCESS_X
#define RW	(R | W)

/* The test pages */
#define PAGE_A		1	/* and the next: operand A */
#define PAGE_B		4	/* and the next: operand B */
#define PAGE_S		7	/* and the next: the stack */
#define PAGE_C		9	/* and the next: the code */
#define PAGE_EXIT	11	/* where the code jumps to in the end */
#define PAGE_G		12	/* the GDT */
#define PAGE_RO		13	/* read-only for the guest */
#define PAGE_D		15	/* there is nothing behind it */
#define NOWHERE		kvmi_gva(KVMI_TEST_PAGES, 0)

#define A_OFF		0x340
#define A_ADDR		"0x10000001340"
#define B_OFF		0x540
#define C_OFF		0x100
#define D_OFF		0xff8
#define S_OFF		0x800

kvm_static_assert(KVMI_TEST_GVA + PAGE_A * PAGE_SIZE + A_OFF == 0x10000001340);

/* The GDT: the library's first three descriptors, and these */
#define SEL_DATA_NEW	"0x28"	/* not accessed yet */
#define SEL_ABSENT	"0x38"
#define SEL_LDT		"0x40"
#define SEL_TSS_NEW	"0x50"
#define SEL_CODE	0x8
#define SEL_DATA	0x10
#define SEL_STACK_NEW	0x28
#define SEL_CODE_NEW	0x30
#define SEL_GATE	0x60
#define SEL_NOTHING	0x7f8

#define FAULT(vector)	((vector) + 1)
#define NO_FAULT	0

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
	CPU_XSAVEOPT, CPU_XSAVEC,
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
#undef CPU
};

struct setup;

struct row {
	const char *name;
	const char *code, *code_end;

	/* What the code does to the pages; all that are named are restricted. */
	uint8_t a, a1, b, b1, s, s1, c, c1, g, d;
	/* It makes no access although it looks as if. */
	bool quiet;
	/* Which of the accesses it makes is the CPU's business. */
	bool lax;
	/* An instruction is executed several times. */
	bool loops;
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

	/* FAULT(the exception that it raises) */
	uint16_t fault;
	/* The VMM puts the segment registers right afterwards. */
	bool sregs;
	/* Not by KVM's emulator */
	bool native;
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
	/* an exception */
	uint64_t fault;
	uint64_t error_code;
	uint64_t fault_rip;
	uint64_t fault_cs;
	uint64_t fault_rflags;
	uint64_t cr2;
};

#define XSTATE_SIZE	4096
#define XSTATE_BV	512

struct state row_in, row_out;
uint8_t row_in_x[XSTATE_SIZE] __aligned(64);
uint8_t row_out_x[XSTATE_SIZE] __aligned(64);
uint64_t row_own_rsp;
uint32_t row_xmask;	/* 0 if there is no XSAVE */
extern char row_done[];
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
	"popfq\n\t"
	"mov row_in+4*8(%rip), %rsp\n\t"
	"jmp *row_in+17*8(%rip)\n"
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
	"ret\n\t"
	".popsection");

kvm_static_assert(offsetof(struct state, rflags) == 16 * 8);
kvm_static_assert(offsetof(struct state, rip) == 17 * 8);
kvm_static_assert(offsetof(struct state, sel) == 18 * 8);

/* On a stack of its own; what the row has in its registers must not change. */
__attribute__((target("general-regs-only")))
static void guest_fault(struct ex_regs *regs)
{
	__GUEST_ASSERT(regs->rip >= KVMI_TEST_GVA && regs->rip <= NOWHERE,
		       "exception %lu at %#lx, error code %#lx", regs->vector,
		       regs->rip, regs->error_code);
	row_out.fault = FAULT(regs->vector);
	row_out.error_code = regs->error_code;
	row_out.fault_rip = regs->rip;
	row_out.fault_cs = regs->cs;
	row_out.fault_rflags = regs->rflags;
	if (regs->vector == PF_VECTOR)
		asm volatile("mov %%cr2, %0" : "=r"(row_out.cr2));
	regs->rip = (uint64_t)row_done;
}

/* ---- the VMM ---- */

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
	far_pointer(s->a, 0x1234, SEL_GATE);
}

PREP(a_fs)
{
	far_pointer(s->a, 0x12345678, SEL_DATA);
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
	((uint64_t *)s->s)[1] = SEL_CODE;
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
	iret_frame(s, SEL_CODE, SEL_DATA);
}

/* to segments that nobody has loaded yet */
PREP(stack_iret_new)
{
	iret_frame(s, SEL_CODE_NEW, SEL_STACK_NEW);
}

PREP(stack_iret_bad)
{
	iret_frame(s, SEL_NOTHING, SEL_DATA);
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
static uint8_t gdt[PAGE_SIZE];
static struct kvm_regs regs;	/* at the guest's beginning */
static bool can_step, is_qemu;

static uint64_t *guest_ptr(void *sym)
{
	return addr_gva2hva(env.vm, (vm_vaddr_t)sym);
}

static void init_gdt(void)
{
	struct desc64 *desc;
	uint64_t *entry = (void *)gdt;

	memcpy(gdt, addr_gva2hva(env.vm, env.vm->arch.gdt), PAGE_SIZE);
	entry[2] = 0x00cf93000000ffff;
	entry[5] = 0x00cf92000000ffff;
	entry[6] = 0x00af9a000000ffff;
	entry[7] = 0x00cf12000000ffff;
	/* LDT: empty */
	entry[8] = 0x0000820000000fff;
	entry[9] = 0;
	/* the same TSS as before, but not busy */
	memcpy(&entry[10], &entry[3], 16);
	desc = (void *)&entry[10];
	desc->type = 9;
	/* a gate to the end of the row */
	entry[12] = ((uint64_t)row_done & 0xffff) | SEL_CODE << 16 |
		    0x8c00ull << 32 | ((uint64_t)row_done & 0xffff0000) << 32;
	entry[13] = (uint64_t)row_done >> 32;
}

/* Exceptions get a stack of their own. */
static void init_idt(void)
{
	vm_vaddr_t stack = vm_vaddr_alloc(env.vm, 2 * PAGE_SIZE,
					  KVM_UTIL_MIN_VADDR);
	struct idt_entry *idt = addr_gva2hva(env.vm, env.vm->arch.idt);
	uint64_t *ist1 = addr_gva2hva(env.vm, env.vm->arch.tss) + 36;
	int i;

	*ist1 = stack + 2 * PAGE_SIZE;
	for (i = 0; i < 256; i++)
		idt[i].ist = 1;

	vm_install_exception_handler(env.vm, DE_VECTOR, guest_fault);
	vm_install_exception_handler(env.vm, UD_VECTOR, guest_fault);
	vm_install_exception_handler(env.vm, NP_VECTOR, guest_fault);
	vm_install_exception_handler(env.vm, SS_VECTOR, guest_fault);
	vm_install_exception_handler(env.vm, GP_VECTOR, guest_fault);
	vm_install_exception_handler(env.vm, PF_VECTOR, guest_fault);
	vm_install_exception_handler(env.vm, MF_VECTOR, guest_fault);
	vm_install_exception_handler(env.vm, AC_VECTOR, guest_fault);
	vm_install_exception_handler(env.vm, XM_VECTOR, guest_fault);
	vm_install_exception_handler(env.vm, 0x80, guest_fault);
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
	init_idt();
	init_gdt();
	memcpy(kvmi_hva(&env, PAGE_G, 0), gdt, PAGE_SIZE);
	vcpu_sregs_get(vcpu, &sregs);
	/* With a stack segment of 32 bits, as guests have it; QEMU looks at it. */
	sregs.ss = sregs.ds;
	sregs.ss.db = 1;
	sregs.gdt.base = kvmi_gva(PAGE_G, 0);
	sregs.cr0 |= X86_CR0_WP | X86_CR0_MP;
	sregs.cr4 |= X86_CR4_OSXMMEXCPT;
	if (mask)
		sregs.cr4 |= X86_CR4_OSXSAVE;
	vcpu_sregs_set(vcpu, &sregs);
	if (mask)
		set_xcr0(vcpu, mask);
	*__vm_get_page_table_entry(env.vm, kvmi_gva(PAGE_RO, 0), &level) &=
		~PTE_WRITABLE_MASK;

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
	uint8_t *p = gva2hva(end);
	uint64_t done = (uint64_t)row_done;

	memcpy(gva2hva(code_gva(row)), row->code, row->code_end - row->code);
	p[0] = 0xe9;
	memcpy(p + 1, &rel, 4);

	/* jmp *0(%rip) */
	p = gva2hva(out);
	memcpy(p, "\xff\x25\0\0\0", 6);
	memcpy(p + 6, &done, 8);
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
	guest_in->rflags = flags;
	guest_in->rip = code_gva(row);
}

/* What is in the pages to begin with */
static uint8_t pattern[KVMI_TEST_PAGES * PAGE_SIZE];

static void init_pattern(void)
{
	unsigned int i;

	for (i = 0; i < sizeof(pattern); i++)
		pattern[i] = (i * 0x9e3779b1u) >> 19;
	memcpy(pattern + PAGE_G * PAGE_SIZE, gdt, PAGE_SIZE);
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

/* Executes the row; false if that came to no good end. */
static bool run(const struct row *row, uint64_t flags, struct outcome *o)
{
	struct kvmi_runner *r = &env.run[0];
	struct kvm_run *kvm_run = r->vcpu->run;
	struct kvmi_event ev;

	init(row, flags);
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
	if (row->sregs)
		vcpu_sregs_set(r->vcpu, &sregs);

	o->state = *guest_out;
	memcpy(o->xstate, guest_out_x, XSTATE_SIZE);
	memcpy(o->pages, env.hva, sizeof(o->pages));
	/* What a component that is in its initial state is called, depends. */
	memset(o->xstate + XSTATE_BV, 0, 8);

	return true;
}

/* Restricts all pages that the row names. */
static void restrict_pages(const struct row *row, const struct restriction *r)
{
	struct {
		struct kvmi_vm_set_page_access req;
		struct kvmi_page_access_entry entries[10];
	} msg = { 0 };
	const struct {
		uint8_t page, what;
	} pages[] = {
		{ PAGE_A, row->a }, { PAGE_A + 1, row->a1 },
		{ PAGE_B, row->b }, { PAGE_B + 1, row->b1 },
		{ PAGE_S, row->s }, { PAGE_S + 1, row->s1 },
		{ PAGE_C, row->c }, { PAGE_C + 1, row->c1 },
		{ PAGE_G, row->g }, { PAGE_D, row->d },
	};
	int i, n = 0;

	for (i = 0; i < ARRAY_SIZE(pages); i++) {
		if (!pages[i].what)
			continue;
		msg.entries[n].gpa = kvmi_gpa(pages[i].page, 0);
		msg.entries[n].access = KVMI_ACCESS_ALL;
		if (r)
			msg.entries[n].access &=
				~(pages[i].what & X ? r->code : r->data);
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
	uint8_t what;

	switch (page) {
	case PAGE_A:
		what = row->a;
		break;
	case PAGE_A + 1:
		what = row->a1;
		break;
	case PAGE_B:
		what = row->b;
		break;
	case PAGE_B + 1:
		what = row->b1;
		break;
	case PAGE_S:
		what = row->s;
		break;
	case PAGE_S + 1:
		what = row->s1;
		break;
	case PAGE_C:
		what = row->c;
		break;
	case PAGE_C + 1:
		what = row->c1;
		break;
	case PAGE_G:
		what = row->g;
		break;
	case PAGE_D:
		what = row->d;
		break;
	default:
		what = 0;
	}
	if (row->quiet)
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

static void check_events(const struct row *row, const struct restriction *r)
{
	uint8_t seen[KVMI_TEST_PAGES] = {};
	unsigned int i, j, page;

	for (i = 0; i < got.nr_events; i++) {
		const struct kvmi_event *ev = &got.events[i];
		uint64_t rip = ev->common.arch.regs.rip;
		uint64_t gva = ev->pf.gpa - KVMI_TEST_GPA + KVMI_TEST_GVA;

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
		if (row->delivery)
			continue;
		if (rip < code_gva(row) || rip > code_end(row))
			FAIL("rip %#lx", rip);
		for (j = 0; j < i && !row->loops; j++)
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
	COMPARE(error_code);
	COMPARE(fault_rip);
	COMPARE(fault_cs);
	/* RF is set in the frame; but not by QEMU. */
	if (is_qemu)
		COMPARE(fault_rflags & ~BIT(16));
	else
		COMPARE(fault_rflags);
	COMPARE(cr2);
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
		  unsigned int flags)
{
	const struct outcome *w = &want[flags];

	if (verbose)
		printf("# %s: %s, flags %#lx\n", row->name, r->name,
		       all_flags[flags]);
	if (run(row, all_flags[flags], &got)) {
		compare_states(&w->state, &got.state);
		compare("fpu at", w->xstate, got.xstate, XSTATE_SIZE);
		compare("memory at", w->pages, got.pages, sizeof(got.pages));
		check_events(row, r);
	}
	if (result.code == KSFT_FAIL)
		FAIL("(%s, flags %#lx)", r->name, all_flags[flags]);
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

		wrong = !run(row, all_flags[i], w) ||
			state->fault != row->fault ||
			!(state->gpr[RSP] >> 32) ||
			((row->g & W) && !memcmp(table, gdt, PAGE_SIZE)) ||
			((row->d & W) && state->fault == FAULT(PF_VECTOR) &&
			 !(state->error_code & PFERR_WRITE_MASK));
		if (wrong)
			break;

		/* This takes the right to write from all pages. */
		vm_mem_region_set_flags(env.vm, KVMI_TEST_SLOT, logging);
		if (run(row, all_flags[i], &got)) {
			compare_states(state, &got.state);
			compare("memory at", w->pages, got.pages,
				sizeof(got.pages));
		}
		vm_mem_region_set_flags(env.vm, KVMI_TEST_SLOT, 0);
		wrong = result.code == KSFT_FAIL;
	}
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
		if (!run(row, all_flags[i], &want[i])) {
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
	for (i = 0; i < ARRAY_SIZE(restrictions); i++) {
		restrict_pages(row, &restrictions[i]);
		check(row, &restrictions[i], i % NR_FLAGS);
		if (!i && result.code == KSFT_PASS)
			check(row, &restrictions[i], 1);
		if (result.code != KSFT_PASS)
			break;
	}
	restrict_pages(row, NULL);
}

/* ---- all rows ---- */

static bool is_selected(const struct row *row, int argc, char *argv[])
{
	bool any = false;
	int i;

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
	init_pattern();
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

int main(int argc, char *argv[])
{
	int i, n = 0, fds[2] = { -1, -1 };
	pid_t child = -1;

	TEST_REQUIRE(kvmi_supported());
	verbose = argc > 1 && !strcmp(argv[1], "-v");

	for (i = 0; i < ARRAY_SIZE(rows); i++)
		n += is_selected(&rows[i], argc, argv);
	ksft_print_header();
	ksft_set_plan(n);

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
		ksft_test_result_code(result.code, rows[i].name,
				      result.text[0] ? "%s" : NULL,
				      result.text);
	}
	if (child >= 0)
		waitpid(child, NULL, 0);
	ksft_finished();
}
