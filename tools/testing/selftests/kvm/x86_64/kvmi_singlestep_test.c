// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM introspection: stepping a vCPU, which the guest must not notice.
 *
 * What a piece of guest code leaves behind (memory, the frames that exceptions
 * push, flags, DR6) is compared with what it leaves behind when nobody steps
 * the vCPU.
 *
 * What the emulators cannot do: QEMU's TCG has neither ICEBP nor DR7.GD and ends a
 * REP with one more round; as Debian 12 has it, it takes no breakpoints from the
 * VMCB's DR7 either.
 */
#include "test_util.h"
#include "kvm_util.h"
#include "kselftest_harness.h"
#include "kvmi_util.h"
#include "apic.h"

#define FLAGS_CF		BIT(0)
#define FLAGS_ZF		BIT(6)
#define FLAGS_ARITH		0x8d5ull
#define FLAGS_TF		BIT(8)
#define FLAGS_IF		BIT(9)
#define FLAGS_RF		BIT(16)
#define KERNEL_CS		0x8
#define APIC_SELF_IPI		0x3f0
#define DR6_INIT		0xffff0ff0ull
#define DR6_B0			BIT(0)
#define DR7_INIT		0x400ull
#define DR7_L0			BIT(0)
#define DR7_GD			BIT(13)
#define DR7_EXEC0		(DR7_INIT | DR7_L0)
#define DR7_WRITE0		(DR7_INIT | DR7_L0 | 1ull << 16 | 3ull << 18)
#define DR7_ACCESS0		(DR7_INIT | DR7_L0 | 3ull << 16 | 3ull << 18)
#define INT_VECTOR		0x80
#define IRQ_VECTOR		0x40

/* The guest's pages for results, code and stack of CPL 3 */
#define RESULT_PAGE		0
#define USER_CODE_PAGE		1
#define USER_STACK_PAGE		2
#define DATA_PAGE		3

/* Enough for any piece of code here */
#define MAX_STEPS		20000

/* ---- in the guest ---- */

struct guest_frame {
	uint64_t vector;
	uint64_t error_code;
	uint64_t rip;
	uint64_t cs;
	uint64_t rflags;
	uint64_t cr2;
	uint64_t dr6;
};

struct guest_results {
	uint64_t val[32];
	uint64_t nr_frames;
	struct guest_frame frame[32];
};

static struct guest_results *results;
/* what a handler adds to RIP; after how many #DB it clears TF */
static uint64_t skip, nr_traps;
/* a breakpoint in DR0 that is for an instruction: the handler steps over it */
static uint64_t is_exec_bp;
static uint64_t nr_irqs;

static uint64_t get_dr6(void)
{
	uint64_t val;

	asm volatile("mov %%dr6, %0" : "=r"(val));
	return val;
}

static void set_dr6(uint64_t val)
{
	asm volatile("mov %0, %%dr6" :: "r"(val));
}

static void set_dr0(void *addr)
{
	asm volatile("mov %0, %%dr0" :: "r"(addr));
}

static void set_dr7(uint64_t val)
{
	asm volatile("mov %0, %%dr7" :: "r"(val) : "memory");
}

static void record(struct ex_regs *regs)
{
	struct guest_frame *f = &results->frame[results->nr_frames++ % 32];

	f->vector = regs->vector;
	f->error_code = regs->error_code;
	f->rip = regs->rip;
	f->cs = regs->cs;
	f->rflags = regs->rflags;
	if (f->vector == PF_VECTOR)
		asm volatile("mov %%cr2, %0" : "=r"(f->cr2));
	f->dr6 = get_dr6();
}

static void guest_fault(struct ex_regs *regs)
{
	record(regs);
	regs->rip += skip;
}

static void guest_trap(struct ex_regs *regs)
{
	record(regs);
}

static void guest_db(struct ex_regs *regs)
{
	record(regs);
	if (is_exec_bp && (get_dr6() & DR6_B0))
		regs->rflags |= FLAGS_RF;
	set_dr6(DR6_INIT);
	if (--nr_traps == 0)
		regs->rflags &= ~FLAGS_TF;
}

static void guest_irq(struct ex_regs *regs)
{
	nr_irqs++;
	record(regs);
	x2apic_write_reg(APIC_EOI, 0);
}

static void guest_begin(uint64_t gva)
{
	results = (void *)gva;
	skip = 0;
	nr_traps = 1;
	is_exec_bp = 0;
	set_dr6(DR6_INIT);
}

static uint64_t guest_plain(uint64_t gva, uint64_t val, uint64_t arg)
{
	uint64_t a = 1, b = 2;

	guest_begin(gva);
	asm volatile("nop\n\t"
		     "add %0, %1\n\t"
		     "imul $7, %1, %0\n\t"
		     "push %0\n\t"
		     "pop %1\n\t"
		     "mov $5, %%ecx\n"
		     "1: dec %%ecx\n\t"
		     "jnz 1b\n\t"
		     "movq %0, %%xmm0\n\t"
		     "paddq %%xmm0, %%xmm0\n\t"
		     "movq %%xmm0, %0"
		     : "+r"(a), "+r"(b) :: "rcx", "cc", "xmm0");
	results->val[0] = a;
	results->val[1] = b;
	return a + b;
}

static uint64_t guest_pushf(uint64_t gva, uint64_t val, uint64_t arg)
{
	guest_begin(gva);
	asm volatile("xor %%eax, %%eax\n\t"
		     "stc\n\t"
		     "pushfq\n\t"
		     "popq %0\n\t"
		     "pushfw\n\t"
		     "popw %1\n\t"
		     "std\n\t"
		     "pushfq\n\t"
		     "cld\n\t"
		     "popq %2"
		     : "=m"(results->val[0]), "=m"(results->val[1]),
		       "=m"(results->val[2]) :: "rax", "cc", "memory");
	return 0;
}

static uint64_t guest_popf(uint64_t gva, uint64_t val, uint64_t arg)
{
	guest_begin(gva);
	asm volatile("pushq $0x8d7\n\t"
		     "popfq\n\t"
		     "pushfq\n\t"
		     "popq %0\n\t"
		     "pushq $0x2\n\t"
		     "popfq\n\t"
		     "pushfq\n\t"
		     "popq %1\n\t"
		     "pushw $0x46\n\t"
		     "popfw\n\t"
		     "pushfq\n\t"
		     "popq %2"
		     : "=m"(results->val[0]), "=m"(results->val[1]),
		       "=m"(results->val[2]) :: "cc", "memory");
	return 0;
}

/* TF set by POPF: the guest's own single-step traps */
static uint64_t guest_own_tf(uint64_t gva, uint64_t val, uint64_t arg)
{
	guest_begin(gva);
	nr_traps = 6;
	asm volatile("pushfq\n\t"
		     "orq $0x100, (%%rsp)\n\t"
		     "popfq\n\t"
		     "nop\n\t"
		     "pushfq\n\t"
		     "popq %0\n\t"
		     "inc %%eax\n\t"
		     "cpuid\n\t"
		     "movq $1, %1\n\t"
		     "pushfq\n\t"
		     "popq %2"
		     : "=m"(results->val[0]), "=m"(results->val[1]),
		       "=m"(results->val[2])
		     :: "rax", "rbx", "rcx", "rdx", "cc", "memory");
	return 0;
}

/* ... and cleared by it */
static uint64_t guest_own_tf_popf(uint64_t gva, uint64_t val, uint64_t arg)
{
	guest_begin(gva);
	nr_traps = 100;
	asm volatile("pushfq\n\t"
		     "pushfq\n\t"
		     "orq $0x100, (%%rsp)\n\t"
		     "popfq\n\t"
		     "popfq\n\t"
		     "pushfq\n\t"
		     "popq %0"
		     : "=m"(results->val[0]) :: "cc", "memory");
	return 0;
}

static void do_iret(uint64_t flags)
{
	asm volatile("mov %%rsp, %%rcx\n\t"
		     "mov %%ss, %%eax\n\t"
		     "push %%rax\n\t"
		     "push %%rcx\n\t"
		     "pushfq\n\t"
		     "orq %1, (%%rsp)\n\t"
		     "mov %%cs, %%eax\n\t"
		     "push %%rax\n\t"
		     "lea 1f(%%rip), %%rax\n\t"
		     "push %%rax\n\t"
		     "iretq\n"
		     "1: nop\n\t"
		     "nop\n\t"
		     "pushfq\n\t"
		     "popq %0"
		     : "=m"(results->val[0]) : "r"(flags)
		     : "rax", "rcx", "cc", "memory");
}

static uint64_t guest_iret(uint64_t gva, uint64_t val, uint64_t arg)
{
	guest_begin(gva);
	do_iret(FLAGS_CF);
	return 0;
}

static uint64_t guest_iret_tf(uint64_t gva, uint64_t val, uint64_t arg)
{
	guest_begin(gva);
	nr_traps = 2;
	do_iret(FLAGS_TF);
	return 0;
}

static uint64_t guest_int_n(uint64_t gva, uint64_t val, uint64_t arg)
{
	guest_begin(gva);
	asm volatile("stc; int $0x80; nop" ::: "cc", "memory");
	return 0;
}

static uint64_t guest_int3(uint64_t gva, uint64_t val, uint64_t arg)
{
	guest_begin(gva);
	asm volatile("clc; int3; nop" ::: "cc", "memory");
	return 0;
}

static uint64_t guest_exceptions(uint64_t gva, uint64_t val, uint64_t arg)
{
	uint64_t *nowhere = (void *)(KVMI_TEST_GVA + 0x4000000000ull + 0x123);

	guest_begin(gva);
	skip = 2;
	asm volatile("ud2; nop" ::: "memory");
	/* div %ecx */
	asm volatile("xor %%ecx, %%ecx; .byte 0xf7, 0xf1; nop"
		     ::: "rax", "rcx", "rdx", "cc", "memory");
	skip = 3;
	/* movq (%rax), %rax, not mapped and not canonical */
	asm volatile(".byte 0x48, 0x8b, 0x00; nop" : "+a"(nowhere) :: "memory");
	results->val[0] = (uint64_t)nowhere;
	nowhere = (void *)0x8000000000000000ull;
	asm volatile(".byte 0x48, 0x8b, 0x00; nop" : "+a"(nowhere) :: "memory");
	skip = 2;
	/* mov %eax, %ds */
	asm volatile(".byte 0x8e, 0xd8; nop" :: "a"(0xf8) : "memory");
	return 0;
}

/* An exception while TF is the guest's */
static uint64_t guest_own_tf_exception(uint64_t gva, uint64_t val, uint64_t arg)
{
	guest_begin(gva);
	skip = 2;
	nr_traps = 4;
	asm volatile("pushfq\n\t"
		     "orq $0x100, (%%rsp)\n\t"
		     "popfq\n\t"
		     "nop\n\t"
		     "ud2\n\t"
		     "nop\n\t"
		     "int $0x80\n\t"
		     "nop\n\t"
		     "nop\n\t"
		     "nop" ::: "cc", "memory");
	return 0;
}

/* What is in DR6 by the guest's will stays there. */
static uint64_t guest_dr6(uint64_t gva, uint64_t val, uint64_t arg)
{
	guest_begin(gva);
	set_dr6(DR6_INIT | 0x4000);
	asm volatile("nop" ::: "memory");
	results->val[0] = get_dr6();
	set_dr6(DR6_INIT);
	asm volatile("nop" ::: "memory");
	results->val[1] = get_dr6();
	return 0;
}

/* The guest's breakpoints for data: hit by some instructions, not by others */
static void do_data(uint64_t flags)
{
	uint32_t *data = (uint32_t *)&results->val[16];

	asm volatile("pushfq\n\t"
		     "orq %[flags], (%%rsp)\n\t"
		     "popfq\n\t"
		     "movl $1, (%[data])\n\t"
		     "nop\n\t"
		     "movl $2, 4(%[data])\n\t"
		     "incl (%[data])\n\t"
		     "movl (%[data]), %%eax\n\t"
		     "nop\n\t"
		     "movb $5, 3(%[data])\n\t"
		     "nop\n\t"
		     "nop"
		     :: [data]"r"(data), [flags]"r"(flags)
		     : "rax", "cc", "memory");
}

static uint64_t guest_data_write(uint64_t gva, uint64_t val, uint64_t arg)
{
	guest_begin(gva);
	set_dr0(&results->val[16]);
	set_dr7(DR7_WRITE0);
	do_data(0);
	set_dr7(DR7_INIT);
	return results->nr_frames;
}

static uint64_t guest_data_access(uint64_t gva, uint64_t val, uint64_t arg)
{
	guest_begin(gva);
	set_dr0(&results->val[16]);
	set_dr7(DR7_ACCESS0);
	do_data(0);
	set_dr7(DR7_INIT);
	return results->nr_frames;
}

/* An instruction may have both kinds of trap. */
static uint64_t guest_data_own_tf(uint64_t gva, uint64_t val, uint64_t arg)
{
	guest_begin(gva);
	nr_traps = 8;
	set_dr0(&results->val[16]);
	set_dr7(DR7_WRITE0);
	do_data(FLAGS_TF);
	set_dr7(DR7_INIT);
	return results->nr_frames;
}

/* In the middle of a string instruction */
static uint64_t guest_data_string(uint64_t gva, uint64_t val, uint64_t arg)
{
	void *to;
	uint64_t n = 12;

	guest_begin(gva);
	to = &results->val[15];
	set_dr0(&results->val[16]);
	set_dr7(DR7_WRITE0);
	asm volatile("rep stosb; nop; nop"
		     : "+D"(to), "+c"(n) : "a"(0x5a) : "memory");
	set_dr7(DR7_INIT);
	results->val[0] = n;
	return results->nr_frames;
}

/* A breakpoint for an instruction is a fault: it comes before that. */
extern char exec_bp[];

static uint64_t guest_exec_bp(uint64_t gva, uint64_t val, uint64_t arg)
{
	uint64_t n = 0;

	guest_begin(gva);
	is_exec_bp = 1;
	set_dr0(exec_bp);
	set_dr7(DR7_EXEC0);
	asm volatile("mov $3, %%ecx\n"
		     "1: nop\n"
		     "exec_bp: inc %0\n\t"
		     "dec %%ecx\n\t"
		     "jnz 1b" : "+r"(n) :: "rcx", "cc", "memory");
	set_dr7(DR7_INIT);
	results->val[0] = n;
	return results->nr_frames;
}

/* A string instruction traps after each of its steps. */
static uint64_t guest_own_tf_string(uint64_t gva, uint64_t val, uint64_t arg)
{
	void *to;
	uint64_t n = 5;

	guest_begin(gva);
	nr_traps = 7;
	to = (void *)(gva + DATA_PAGE * PAGE_SIZE);
	asm volatile("pushfq\n\t"
		     "orq $0x100, (%%rsp)\n\t"
		     "popfq\n\t"
		     "rep stosb\n\t"
		     "nop\n\t"
		     "nop"
		     : "+D"(to), "+c"(n) : "a"(0x5a) : "cc", "memory");
	return results->nr_frames;
}

/* Nothing traps after MOV to SS. */
static void do_load_ss(uint64_t flags)
{
	uint64_t *data = &results->val[16];

	asm volatile("mov %%ss, 8(%[data])\n\t"
		     "pushfq\n\t"
		     "orq %[flags], (%%rsp)\n\t"
		     "popfq\n\t"
		     "mov 8(%[data]), %%ss\n\t"
		     "mov (%[data]), %%rax\n\t"
		     "nop\n\t"
		     "mov 8(%[data]), %%ss\n\t"
		     "movups (%[data]), %%xmm0\n\t"
		     "nop\n\t"
		     "nop"
		     :: [data]"r"(data), [flags]"r"(flags)
		     : "rax", "xmm0", "cc", "memory");
}

static uint64_t guest_load_ss(uint64_t gva, uint64_t val, uint64_t arg)
{
	guest_begin(gva);
	do_load_ss(0);
	return results->nr_frames;
}

static uint64_t guest_load_ss_own_tf(uint64_t gva, uint64_t val, uint64_t arg)
{
	guest_begin(gva);
	nr_traps = 4;
	do_load_ss(FLAGS_TF);
	return results->nr_frames;
}

/* Those that the VMM has set for it */
static uint64_t guest_data_given(uint64_t gva, uint64_t val, uint64_t arg)
{
	guest_begin(gva);
	do_data(0);
	return results->nr_frames;
}

/* The guest guards its debug registers. */
static uint64_t guest_dr_guard(uint64_t gva, uint64_t val, uint64_t arg)
{
	guest_begin(gva);
	set_dr7(DR7_INIT | DR7_GD);
	asm volatile("nop" ::: "memory");
	results->val[0] = get_dr6();
	asm volatile("mov %%dr7, %0" : "=r"(results->val[1]));
	set_dr7(DR7_INIT);
	return results->nr_frames;
}

static uint64_t guest_icebp(uint64_t gva, uint64_t val, uint64_t arg)
{
	guest_begin(gva);
	/* if it is #UD instead */
	skip = 1;
	asm volatile("stc; .byte 0xf1; nop; nop" ::: "cc", "memory");
	return results->frame[0].vector;
}

static uint64_t guest_icebp_own_tf(uint64_t gva, uint64_t val, uint64_t arg)
{
	guest_begin(gva);
	nr_traps = 4;
	skip = 1;
	asm volatile("pushfq\n\t"
		     "orq $0x100, (%%rsp)\n\t"
		     "popfq\n\t"
		     "nop\n\t"
		     ".byte 0xf1\n\t"
		     "nop\n\t"
		     "nop\n\t"
		     "nop\n\t"
		     "nop" ::: "cc", "memory");
	return results->frame[1].vector;
}

static uint64_t guest_shadows(uint64_t gva, uint64_t val, uint64_t arg)
{
	guest_begin(gva);
	asm volatile("mov %%ss, %%eax\n\t"
		     "mov %%eax, %%ss\n\t"
		     "pushfq\n\t"
		     "popq %0\n\t"
		     "mov %%eax, %%ss\n\t"
		     "inc %%rax\n\t"
		     "sti\n\t"
		     "nop\n\t"
		     "pushfq\n\t"
		     "cli\n\t"
		     "popq %1\n\t"
		     : "=m"(results->val[0]), "=m"(results->val[1])
		     :: "rax", "cc", "memory");
	return 0;
}

/* Instructions that KVM executes, or that exit to the VMM */
static uint64_t guest_emulated(uint64_t gva, uint64_t val, uint64_t arg)
{
	uint32_t eax = 0, ebx, ecx = 0, edx;
	uint64_t port;

	guest_begin(gva);
	cpuid(0, &eax, &ebx, &ecx, &edx);
	results->val[0] = ebx;
	asm volatile("in %%dx, %%al" : "=a"(port) : "d"(0x2000), "a"(0));
	results->val[1] = port;
	asm volatile("out %%al, %%dx" :: "d"(0x2000), "a"(1));
	results->val[2] = READ_ONCE(*(uint64_t *)KVMI_MMIO_GVA);
	WRITE_ONCE(*(uint64_t *)KVMI_MMIO_GVA, 5);
	results->val[3] = rdmsr(MSR_STAR);
	wrmsr(MSR_STAR, 0x23001000000000ull);
	results->val[4] = rdmsr(MSR_STAR);
	wrmsr(MSR_STAR, results->val[3]);
	set_cr4(get_cr4());
	asm volatile("pushfq; popq %0" : "=m"(results->val[5]) :: "memory");
	return 0;
}

static uint64_t guest_strings(uint64_t gva, uint64_t val, uint64_t arg)
{
	uint8_t *data = (void *)(gva + DATA_PAGE * PAGE_SIZE);
	void *to = data + 64, *from = data;
	uint64_t n = 20;

	guest_begin(gva);
	asm volatile("rep stosb" : "+D"(from), "+c"(n) : "a"(0x5a) : "memory");
	from = data;
	n = 20;
	asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n) :: "memory");
	results->val[0] = *(uint64_t *)(data + 76);
	return n;
}

/* SYSRET to CPL 3, which looks at its flags and comes back by SYSCALL. */
extern char user_code[], user_code_end[];

asm(".pushsection .text\n"
	"user_code:\n\t"
	"nop\n\t"
	"pushfq\n\t"
	"popq %rax\n\t"
	"stc\n\t"
	"syscall\n"
	"user_code_end:\n"
	".popsection");

static uint64_t guest_syscall(uint64_t gva, uint64_t val, uint64_t arg)
{
	uint64_t rax, r11, flags;

	guest_begin(gva);
	nr_traps = 3;
	wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SCE);
	wrmsr(MSR_STAR, (uint64_t)(0x18 | 3) << 48 |
			(uint64_t)KERNEL_CS << 32);
	wrmsr(MSR_SYSCALL_MASK, FLAGS_TF | FLAGS_IF | FLAGS_CF);
	asm volatile("lea 1f(%%rip), %%rax\n\t"
		     "mov %%rax, %%rdx\n\t"
		     "shr $32, %%rdx\n\t"
		     "mov %[lstar], %%ecx\n\t"
		     "wrmsr\n\t"
		     "mov %%rsp, %%r8\n\t"
		     "mov %[stack], %%rsp\n\t"
		     "mov %[code], %%rcx\n\t"
		     "mov %[flags], %%r11\n\t"
		     "sysretq\n"
		     "1: mov %%r8, %%rsp\n\t"
		     "pushfq\n\t"
		     "popq %%rdx\n\t"
		     "mov %%r11, %%rcx"
		     : "=&a"(rax), "=&c"(r11), "=&d"(flags)
		     : [lstar]"i"(MSR_LSTAR), [code]"r"(kvmi_gva(USER_CODE_PAGE, 0)),
		       [stack]"r"(kvmi_gva(USER_STACK_PAGE + 1, 0)),
		       [flags]"r"(2ull | FLAGS_ZF)
		     : "r8", "r11", "cc", "memory");
	results->val[0] = rax;
	results->val[1] = r11;
	/* In QEMU, SYSCALL loses the arithmetic flags. */
	results->val[2] = flags & ~FLAGS_ARITH;
	return 0;
}

/* ---- the VMM and the tool ---- */

static bool can_step;

static void make_user(struct kvm_vm *vm, uint64_t gva)
{
	int level;

	for (level = PG_LEVEL_512G; level >= PG_LEVEL_4K; level--) {
		int l = level;

		*__vm_get_page_table_entry(vm, gva, &l) |= PTE_USER_MASK;
	}
}

static void create(struct kvmi_env *env)
{
	struct kvmi_get_version_reply version;
	struct kvm_vm *vm;

	kvmi_env_create(env, 2);
	vm = env->vm;
	make_user(vm, kvmi_gva(USER_CODE_PAGE, 0));
	make_user(vm, kvmi_gva(USER_STACK_PAGE, 0));
	vm_install_exception_handler(vm, DB_VECTOR, guest_db);
	vm_install_exception_handler(vm, BP_VECTOR, guest_trap);
	vm_install_exception_handler(vm, INT_VECTOR, guest_trap);
	vm_install_exception_handler(vm, IRQ_VECTOR, guest_irq);
	vm_install_exception_handler(vm, UD_VECTOR, guest_fault);
	vm_install_exception_handler(vm, DE_VECTOR, guest_fault);
	vm_install_exception_handler(vm, GP_VECTOR, guest_fault);
	vm_install_exception_handler(vm, PF_VECTOR, guest_fault);
	memcpy(kvmi_hva(env, USER_CODE_PAGE, 0), user_code,
	       user_code_end - user_code);
	kvmi_env_hook(env);
	kvmi_cmd(&env->tool, KVMI_GET_VERSION, NULL, 0, &version,
		 sizeof(version));
	can_step = version.features.singlestep;
}

FIXTURE(command)
{
	struct kvmi_env env;
};

FIXTURE_SETUP(command)
{
	create(&self->env);
}

FIXTURE_TEARDOWN(command)
{
	kvmi_env_destroy(&self->env);
}

FIXTURE(singlestep)
{
	struct kvmi_env env;
};

FIXTURE_SETUP(singlestep)
{
	create(&self->env);
	if (!can_step)
		SKIP(return, "no single-step: no monitor trap flag, or kvm.introspection_step is off");
}

FIXTURE_TEARDOWN(singlestep)
{
	kvmi_env_destroy(&self->env);
}

static int __control(struct kvmi_env *env, unsigned int vcpu, uint8_t enable)
{
	struct kvmi_vcpu_control_singlestep req = { .enable = enable };

	return __kvmi_vcpu_cmd(env, vcpu, KVMI_VCPU_CONTROL_SINGLESTEP, &req,
			       sizeof(req), NULL, 0);
}

/* To a vCPU that waits for the answer to its event */
static void control(struct kvmi_env *env, unsigned int vcpu, uint8_t enable)
{
	TEST_ASSERT_EQ(__control(env, vcpu, enable), 0);
}

struct steps {
	unsigned int nr;
	unsigned int failed;
	uint64_t rip[MAX_STEPS];
};

static struct steps steps;

/* Answers steps until the vCPU comes back from KVM_RUN. */
static void answer_steps(struct kvmi_env *env, unsigned int vcpu,
			 struct steps *s)
{
	struct kvmi_runner *r = &env->run[vcpu];
	struct kvmi_event ev;
	unsigned int idle = 0;

	s->nr = 0;
	s->failed = 0;
	for (;;) {
		if (kvmi_poll_event(&env->tool, &ev, 20)) {
			TEST_ASSERT_EQ(ev.event, KVMI_VCPU_EVENT_SINGLESTEP);
			TEST_ASSERT_EQ(ev.vcpu, vcpu);
			TEST_ASSERT(s->nr < MAX_STEPS, "steps without end");
			s->failed += ev.singlestep.failed;
			s->rip[s->nr++] = ev.common.arch.regs.rip;
			kvmi_reply(&env->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
			idle = 0;
			continue;
		}
		if (kvmi_runner_poll(r, 0))
			return;
		TEST_ASSERT(++idle < KVMI_TIMEOUT_MS / 20, "neither step nor end");
	}
}

/* Queues the command, for when the vCPU is in KVM_RUN; returns its number. */
static uint32_t send_control(struct kvmi_env *env, unsigned int vcpu,
			     uint8_t enable)
{
	struct kvmi_vcpu_control_singlestep req = { .enable = enable };
	uint32_t seq;

	seq = kvmi_vcpu_send(&env->tool, vcpu, KVMI_VCPU_CONTROL_SINGLESTEP,
			     &req, sizeof(req));
	/* The next command is served after this one has been queued. */
	kvmi_alive(&env->tool);

	return seq;
}

static void wait_control(struct kvmi_env *env, uint32_t seq)
{
	TEST_ASSERT_EQ(__kvmi_recv_reply(&env->tool,
					 KVMI_VCPU_CONTROL_SINGLESTEP, seq,
					 NULL, 0), 0);
}

static void clear_pages(struct kvmi_env *env)
{
	memset(kvmi_hva(env, RESULT_PAGE, 0), 0, PAGE_SIZE);
	memset(kvmi_hva(env, USER_STACK_PAGE, 0), 0, PAGE_SIZE);
	memset(kvmi_hva(env, DATA_PAGE, 0), 0, PAGE_SIZE);
}

static uint64_t request_result(struct kvmi_runner *r)
{
	TEST_ASSERT(!r->ret && r->uc.cmd == UCALL_SYNC,
		    "KVM_RUN: %d, errno %d, exit %u", r->ret, r->err,
		    r->vcpu->run->exit_reason);

	return r->req->result;
}

static uint64_t run_stepped(struct kvmi_env *env, unsigned int vcpu,
			    kvmi_insn insn, struct steps *s)
{
	struct kvmi_runner *r = &env->run[vcpu];
	uint32_t seq = send_control(env, vcpu, 1);
	uint64_t result;

	kvmi_runner_do(r, insn, KVMI_TEST_GVA, 0);
	wait_control(env, seq);
	answer_steps(env, vcpu, s);
	result = request_result(r);

	seq = send_control(env, vcpu, 0);
	kvmi_runner_do(r, kvmi_insn_nop, 0, 0);
	wait_control(env, seq);
	kvmi_runner_wait(r);
	kvmi_no_event(&env->tool);

	return result;
}

static uint64_t run_plain(struct kvmi_env *env, unsigned int vcpu,
			  kvmi_insn insn)
{
	struct kvmi_runner *r = &env->run[vcpu];

	kvmi_runner_do(r, insn, KVMI_TEST_GVA, 0);

	return kvmi_runner_wait(r);
}

static void compare(const struct guest_results *want,
		    const struct guest_results *got)
{
	unsigned int i;

	TEST_ASSERT_EQ(got->nr_frames, want->nr_frames);
	for (i = 0; i < ARRAY_SIZE(want->val); i++)
		TEST_ASSERT(got->val[i] == want->val[i],
			    "value %u: %#lx, want %#lx", i, got->val[i],
			    want->val[i]);
	for (i = 0; i < ARRAY_SIZE(want->frame); i++) {
		const struct guest_frame *g = &got->frame[i];
		const struct guest_frame *w = &want->frame[i];

		TEST_ASSERT(!memcmp(g, w, sizeof(*g)),
			    "frame %u: vector %lu error %#lx rip %#lx rflags %#lx cr2 %#lx dr6 %#lx,\n"
			    "want vector %lu error %#lx rip %#lx rflags %#lx cr2 %#lx dr6 %#lx",
			    i, g->vector, g->error_code, g->rip, g->rflags,
			    g->cr2, g->dr6, w->vector, w->error_code, w->rip,
			    w->rflags, w->cr2, w->dr6);
	}
}

/* Leaves what it leaves behind the same behind when it is stepped? */
static void check_invisible(struct kvmi_env *env, kvmi_insn insn)
{
	static uint8_t want[KVMI_TEST_PAGES * PAGE_SIZE];
	void *got = kvmi_hva(env, 0, 0);
	uint64_t result;

	clear_pages(env);
	result = run_plain(env, 0, insn);
	memcpy(want, got, sizeof(want));
	kvmi_no_event(&env->tool);

	clear_pages(env);
	TEST_ASSERT_EQ(run_stepped(env, 0, insn, &steps), result);
	compare((void *)want, got);
	TEST_ASSERT(!memcmp(want, got, sizeof(want)), "memory differs");
	TEST_ASSERT(steps.nr > 10, "%u steps", steps.nr);
	TEST_ASSERT_EQ(steps.failed, 0);

	/* and nothing of it is left */
	clear_pages(env);
	TEST_ASSERT_EQ(run_plain(env, 0, insn), result);
	compare((void *)want, got);
}

TEST_F_TIMEOUT(singlestep, unseen_plain, KVMI_TEST_TIMEOUT)
{
	check_invisible(&self->env, guest_plain);
}

TEST_F_TIMEOUT(singlestep, unseen_pushf, KVMI_TEST_TIMEOUT)
{
	check_invisible(&self->env, guest_pushf);
}

TEST_F_TIMEOUT(singlestep, unseen_popf, KVMI_TEST_TIMEOUT)
{
	check_invisible(&self->env, guest_popf);
}

TEST_F_TIMEOUT(singlestep, unseen_own_tf, KVMI_TEST_TIMEOUT)
{
	check_invisible(&self->env, guest_own_tf);
}

TEST_F_TIMEOUT(singlestep, unseen_own_tf_popf, KVMI_TEST_TIMEOUT)
{
	check_invisible(&self->env, guest_own_tf_popf);
}

TEST_F_TIMEOUT(singlestep, unseen_iret, KVMI_TEST_TIMEOUT)
{
	check_invisible(&self->env, guest_iret);
}

TEST_F_TIMEOUT(singlestep, unseen_iret_tf, KVMI_TEST_TIMEOUT)
{
	check_invisible(&self->env, guest_iret_tf);
}

TEST_F_TIMEOUT(singlestep, unseen_int_n, KVMI_TEST_TIMEOUT)
{
	check_invisible(&self->env, guest_int_n);
}

TEST_F_TIMEOUT(singlestep, unseen_int3, KVMI_TEST_TIMEOUT)
{
	check_invisible(&self->env, guest_int3);
}

TEST_F_TIMEOUT(singlestep, unseen_exceptions, KVMI_TEST_TIMEOUT)
{
	check_invisible(&self->env, guest_exceptions);
}

TEST_F_TIMEOUT(singlestep, unseen_own_tf_exception, KVMI_TEST_TIMEOUT)
{
	check_invisible(&self->env, guest_own_tf_exception);
}

TEST_F_TIMEOUT(singlestep, unseen_dr6, KVMI_TEST_TIMEOUT)
{
	check_invisible(&self->env, guest_dr6);
}

/*
 * The guest's own breakpoints, so many.  Does the machine take those that are
 * in DR7 already when the guest is entered, with nobody stepping it?
 */
static bool check_breakpoints(struct kvmi_env *env, kvmi_insn insn, uint64_t nr)
{
	struct kvm_vcpu *vcpu = env->run[0].vcpu;
	struct kvm_debugregs dbg;
	uint64_t got;

	/* once, for KVM may do the guest's first moves to DR itself */
	run_plain(env, 0, guest_dr6);
	vcpu_ioctl(vcpu, KVM_GET_DEBUGREGS, &dbg);
	dbg.db[0] = KVMI_TEST_GVA + offsetof(struct guest_results, val[16]);
	dbg.dr7 = DR7_WRITE0;
	vcpu_ioctl(vcpu, KVM_SET_DEBUGREGS, &dbg);
	clear_pages(env);
	got = run_plain(env, 0, guest_data_given);
	if (got && insn == guest_data_given)
		check_invisible(env, insn);
	dbg.dr7 = DR7_INIT;
	vcpu_ioctl(vcpu, KVM_SET_DEBUGREGS, &dbg);
	if (!got)
		return false;
	TEST_ASSERT_EQ(got, 3);

	clear_pages(env);
	if (insn != guest_data_given) {
		TEST_ASSERT_EQ(run_plain(env, 0, insn), nr);
		check_invisible(env, insn);
	}

	return true;
}

#define NO_BREAKPOINTS	"the machine takes no breakpoints from the VMCB (QEMU's TCG does not)"
#define NO_DR_GUARD	"the machine has no DR7.GD (QEMU's TCG has none)"
#define ANOTHER_ROUND	"the machine ends a REP with one more round (QEMU's TCG does)"
#define NO_ICEBP	"the machine has no ICEBP (QEMU's TCG has none)"

TEST_F_TIMEOUT(singlestep, unseen_data_given, KVMI_TEST_TIMEOUT)
{
	if (!check_breakpoints(&self->env, guest_data_given, 3))
		SKIP(return, NO_BREAKPOINTS);
}

TEST_F_TIMEOUT(singlestep, unseen_data_write, KVMI_TEST_TIMEOUT)
{
	if (!check_breakpoints(&self->env, guest_data_write, 3))
		SKIP(return, NO_BREAKPOINTS);
}

TEST_F_TIMEOUT(singlestep, unseen_data_access, KVMI_TEST_TIMEOUT)
{
	if (!check_breakpoints(&self->env, guest_data_access, 4))
		SKIP(return, NO_BREAKPOINTS);
}

TEST_F_TIMEOUT(singlestep, unseen_data_own_tf, KVMI_TEST_TIMEOUT)
{
	if (!check_breakpoints(&self->env, guest_data_own_tf, 8))
		SKIP(return, NO_BREAKPOINTS);
}

/* Is a string instruction over when it traps for the last time? */
static bool ends_strings(struct kvmi_env *env)
{
	const struct guest_results *r = kvmi_hva(env, 0, 0);

	clear_pages(env);
	TEST_ASSERT_EQ(run_plain(env, 0, guest_data_string), 4);

	return r->frame[3].rip != r->frame[2].rip;
}

TEST_F_TIMEOUT(singlestep, unseen_data_string, KVMI_TEST_TIMEOUT)
{
	if (!ends_strings(&self->env))
		SKIP(return, ANOTHER_ROUND);
	if (!check_breakpoints(&self->env, guest_data_string, 4))
		SKIP(return, NO_BREAKPOINTS);
}

TEST_F_TIMEOUT(singlestep, unseen_exec_bp, KVMI_TEST_TIMEOUT)
{
	if (!check_breakpoints(&self->env, guest_exec_bp, 3))
		SKIP(return, NO_BREAKPOINTS);
}

/* What not all machines have: such a one returns something else than @want. */
static bool check_if_known(struct kvmi_env *env, kvmi_insn insn, uint64_t want)
{
	clear_pages(env);
	if (run_plain(env, 0, insn) != want)
		return false;
	check_invisible(env, insn);

	return true;
}

TEST_F_TIMEOUT(singlestep, unseen_dr_guard, KVMI_TEST_TIMEOUT)
{
	/* once, for KVM may do the guest's first moves to DR itself */
	run_plain(&self->env, 0, guest_dr6);
	if (!check_if_known(&self->env, guest_dr_guard, 1))
		SKIP(return, NO_DR_GUARD);
}

TEST_F_TIMEOUT(singlestep, unseen_icebp, KVMI_TEST_TIMEOUT)
{
	if (!check_if_known(&self->env, guest_icebp, DB_VECTOR))
		SKIP(return, NO_ICEBP);
}

TEST_F_TIMEOUT(singlestep, unseen_icebp_own_tf, KVMI_TEST_TIMEOUT)
{
	if (!check_if_known(&self->env, guest_icebp_own_tf, DB_VECTOR))
		SKIP(return, NO_ICEBP);
}

TEST_F_TIMEOUT(singlestep, unseen_shadows, KVMI_TEST_TIMEOUT)
{
	check_invisible(&self->env, guest_shadows);
}

TEST_F_TIMEOUT(singlestep, unseen_emulated, KVMI_TEST_TIMEOUT)
{
	check_invisible(&self->env, guest_emulated);
}

TEST_F_TIMEOUT(singlestep, unseen_strings, KVMI_TEST_TIMEOUT)
{
	check_invisible(&self->env, guest_strings);
}

TEST_F_TIMEOUT(singlestep, unseen_syscall, KVMI_TEST_TIMEOUT)
{
	check_invisible(&self->env, guest_syscall);
}

/* ---- page faults, answered with CONTINUE ---- */

static uint8_t go_on(struct kvmi_env *env, const struct kvmi_event *ev,
		     void *arg)
{
	TEST_ASSERT_EQ(ev->event, KVMI_VCPU_EVENT_PF);

	return KVMI_EVENT_ACTION_CONTINUE;
}

static void set_access(struct kvmi_env *env, unsigned int page, uint8_t access)
{
	kvmi_set_page_access(&env->tool, kvmi_gpa(page, 0), access);
}

#define NO_WRITING	(KVMI_ACCESS_ALL & ~KVMI_PAGE_ACCESS_W)
#define NO_READING	(KVMI_ACCESS_ALL & ~KVMI_PAGE_ACCESS_R)

/*
 * The pages that the guest's instructions access, and that its handlers have their
 * results in, are restricted: is it the same to the guest?
 */
static void check_restricted(struct kvmi_env *env, kvmi_insn insn, uint64_t nr)
{
	static const uint8_t accesses[] = { NO_WRITING, NO_READING, 0 };
	static uint8_t want[KVMI_TEST_PAGES * PAGE_SIZE];
	void *got = kvmi_hva(env, 0, 0);
	uint64_t result;
	int i;

	clear_pages(env);
	TEST_ASSERT_EQ(run_plain(env, 0, insn), nr);
	memcpy(want, got, sizeof(want));

	kvmi_control_event(env, 0, KVMI_VCPU_EVENT_PF, 1);
	for (i = 0; i < ARRAY_SIZE(accesses); i++) {
		clear_pages(env);
		set_access(env, RESULT_PAGE, accesses[i]);
		set_access(env, DATA_PAGE, accesses[i]);
		TEST_ASSERT(kvmi_env_access(env, 0, insn, KVMI_TEST_GVA, 0,
					    go_on, NULL, &result) > 0,
			    "the pages are not restricted");
		set_access(env, RESULT_PAGE, KVMI_ACCESS_ALL);
		set_access(env, DATA_PAGE, KVMI_ACCESS_ALL);
		TEST_ASSERT(result == nr, "access %u: %lu, want %lu",
			    accesses[i], result, nr);
		compare((void *)want, got);
		TEST_ASSERT(!memcmp(want, got, sizeof(want)), "memory differs");
	}
	kvmi_control_event(env, 0, KVMI_VCPU_EVENT_PF, 0);
}

/* The same with the guest's breakpoints for data, if the machine has any */
static bool check_restricted_data(struct kvmi_env *env, kvmi_insn insn, uint64_t nr)
{
	if (!check_breakpoints(env, insn, nr))
		return false;

	check_restricted(env, insn, nr);

	return true;
}

TEST_F_TIMEOUT(singlestep, continue_data_write, KVMI_TEST_TIMEOUT)
{
	if (!check_restricted_data(&self->env, guest_data_write, 3))
		SKIP(return, NO_BREAKPOINTS);
}

TEST_F_TIMEOUT(singlestep, continue_data_access, KVMI_TEST_TIMEOUT)
{
	if (!check_restricted_data(&self->env, guest_data_access, 4))
		SKIP(return, NO_BREAKPOINTS);
}

TEST_F_TIMEOUT(singlestep, continue_data_own_tf, KVMI_TEST_TIMEOUT)
{
	if (!check_restricted_data(&self->env, guest_data_own_tf, 8))
		SKIP(return, NO_BREAKPOINTS);
}

TEST_F_TIMEOUT(singlestep, continue_data_string, KVMI_TEST_TIMEOUT)
{
	if (!ends_strings(&self->env))
		SKIP(return, ANOTHER_ROUND);
	if (!check_restricted_data(&self->env, guest_data_string, 4))
		SKIP(return, NO_BREAKPOINTS);
}

TEST_F_TIMEOUT(singlestep, continue_own_tf_string, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;

	check_restricted(env, guest_own_tf_string, 7);

	/* It does not read what it writes to. */
	kvmi_control_event(env, 0, KVMI_VCPU_EVENT_PF, 1);
	set_access(env, DATA_PAGE, NO_WRITING);
	TEST_ASSERT_EQ(kvmi_env_access(env, 0, guest_own_tf_string, KVMI_TEST_GVA,
				       0, go_on, NULL, NULL), 5);
	set_access(env, DATA_PAGE, NO_READING);
	TEST_ASSERT_EQ(kvmi_env_access(env, 0, guest_own_tf_string, KVMI_TEST_GVA,
				       0, go_on, NULL, NULL), 0);
}

TEST_F_TIMEOUT(singlestep, continue_load_ss, KVMI_TEST_TIMEOUT)
{
	check_restricted(&self->env, guest_load_ss, 0);
}

TEST_F_TIMEOUT(singlestep, continue_load_ss_own_tf, KVMI_TEST_TIMEOUT)
{
	check_restricted(&self->env, guest_load_ss_own_tf, 4);
}

/* The VMM's breakpoint for data: KVM_RUN ends with it, restricted or not. */
static unsigned int count_debug_exits(struct kvmi_env *env, kvmi_insn insn)
{
	struct kvmi_runner *r = &env->run[0];
	struct kvmi_event ev;
	unsigned int nr = 0, idle = 0;

	kvmi_runner_do(r, insn, KVMI_TEST_GVA, 1);
	for (;;) {
		if (kvmi_poll_event(&env->tool, &ev, 20)) {
			TEST_ASSERT_EQ(ev.event, KVMI_VCPU_EVENT_PF);
			kvmi_reply(&env->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
			idle = 0;
		} else if (kvmi_runner_poll(r, 0)) {
			if (r->ret || r->vcpu->run->exit_reason != KVM_EXIT_DEBUG)
				break;
			TEST_ASSERT(r->vcpu->run->debug.arch.dr6 & DR6_B0,
				    "dr6 %#llx", r->vcpu->run->debug.arch.dr6);
			nr++;
			idle = 0;
			kvmi_runner_go(r);
		} else {
			TEST_ASSERT(++idle < KVMI_TIMEOUT_MS / 20,
				    "neither event nor exit");
		}
	}
	request_result(r);

	return nr;
}

TEST_F_TIMEOUT(singlestep, continue_vmm_breakpoint, KVMI_TEST_TIMEOUT)
{
	struct kvm_guest_debug dbg = {
		.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP,
		.arch.debugreg = { [0] = KVMI_TEST_GVA, [7] = DR7_WRITE0 },
	};
	struct kvmi_env *env = &self->env;
	unsigned int nr;

	vcpu_ioctl(env->run[0].vcpu, KVM_SET_GUEST_DEBUG, &dbg);
	nr = count_debug_exits(env, kvmi_insn_write);
	if (nr) {
		TEST_ASSERT_EQ(nr, 1);
		kvmi_control_event(env, 0, KVMI_VCPU_EVENT_PF, 1);
		set_access(env, RESULT_PAGE, NO_WRITING);
		TEST_ASSERT_EQ(count_debug_exits(env, kvmi_insn_write), 1);
	}
	dbg.control = 0;
	vcpu_ioctl(env->run[0].vcpu, KVM_SET_GUEST_DEBUG, &dbg);
	if (!nr)
		SKIP(return, NO_BREAKPOINTS);
}

/*
 * In the page that is restricted, of code or data: each instruction makes one
 * access.
 */
extern char ss_code[], ss_code_end[];
#define NR_SS_CODE	7

asm(".pushsection .text\n"
	"ss_code:\n\t"
	"mov %ss, %eax\n\t"
	"mov %eax, %ss\n\t"
	"nop\n\t"
	"mov %eax, %ss\n\t"
	"movaps %xmm0, %xmm0\n\t"
	"nop\n\t"
	"ret\n"
	"ss_code_end:\n"
	".popsection");

static uint64_t guest_ss_data(uint64_t gva, uint64_t val, uint64_t arg)
{
	asm volatile("mov 8(%0), %%ss\n\t"
		     "mov (%0), %%rax\n\t"
		     "mov 8(%0), %%ss\n\t"
		     "movups (%0), %%xmm0"
		     :: "r"(gva) : "rax", "xmm0", "memory");
	return 0;
}

static void check_each(struct kvmi_env *env, kvmi_insn insn, uint64_t gva,
		       uint8_t access, unsigned int nr)
{
	struct kvmi_recs recs = { .action = KVMI_EVENT_ACTION_CONTINUE };
	unsigned int i;

	kvmi_set_page_access(&env->tool, gva - KVMI_TEST_GVA + KVMI_TEST_GPA,
			     KVMI_ACCESS_ALL & ~access);
	kvmi_env_access(env, 0, insn, gva, 0, kvmi_record, &recs, NULL);
	for (i = 0; i < recs.nr; i++)
		TEST_ASSERT_EQ(recs.ev[i].pf.access, access);
	TEST_ASSERT(recs.nr == nr, "access %u: %u events, want %u", access,
		    recs.nr, nr);
}

/* What follows MOV to SS is reported as well. */
TEST_F_TIMEOUT(singlestep, continue_after_ss, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	uint64_t *data = kvmi_hva(env, DATA_PAGE, 0);
	struct kvm_sregs sregs;

	kvmi_control_event(env, 0, KVMI_VCPU_EVENT_PF, 1);
	vcpu_sregs_get(env->run[0].vcpu, &sregs);
	data[1] = sregs.ss.selector;
	check_each(env, guest_ss_data, kvmi_gva(DATA_PAGE, 0),
		   KVMI_PAGE_ACCESS_R, 4);
	memcpy(kvmi_hva(env, USER_CODE_PAGE, 0), ss_code, ss_code_end - ss_code);
	check_each(env, kvmi_insn_exec, kvmi_gva(USER_CODE_PAGE, 0),
		   KVMI_PAGE_ACCESS_X, NR_SS_CODE);
}

/* ---- the command ---- */

TEST_F_TIMEOUT(command, bad_requests, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_vcpu_control_singlestep req = { .enable = 2 };
	int i;

	TEST_ASSERT_EQ(__kvmi_vcpu_cmd(env, 0, KVMI_VCPU_CONTROL_SINGLESTEP,
				       &req, sizeof(req), NULL, 0),
		       -KVM_EINVAL);
	for (i = 0; i < ARRAY_SIZE(req.padding); i++) {
		memset(&req, 0, sizeof(req));
		req.padding[i] = 1;
		TEST_ASSERT_EQ(__kvmi_vcpu_cmd(env, 0,
					       KVMI_VCPU_CONTROL_SINGLESTEP,
					       &req, sizeof(req), NULL, 0),
			       -KVM_EINVAL);
	}

	/* It is the event that has to be allowed, before anything else. */
	vm_kvmi_allow_event(env->vm, KVMI_VCPU_EVENT_SINGLESTEP, 0);
	req.enable = 2;
	TEST_ASSERT_EQ(__kvmi_vcpu_cmd(env, 0, KVMI_VCPU_CONTROL_SINGLESTEP,
				       &req, sizeof(req), NULL, 0),
		       -KVM_EPERM);
	vm_kvmi_allow_event(env->vm, KVMI_VCPU_EVENT_SINGLESTEP, 1);

	/* A request without its end is one for 0. */
	memset(&req, 0, sizeof(req));
	TEST_ASSERT_EQ(__kvmi_vcpu_cmd(env, 0, KVMI_VCPU_CONTROL_SINGLESTEP,
				       NULL, 0, NULL, 0),
		       can_step ? 0 : -KVM_EOPNOTSUPP);
	/* CONTROL_EVENTS neither starts nor stops anything. */
	kvmi_control_event(env, 0, KVMI_VCPU_EVENT_SINGLESTEP, 1);
	run_plain(env, 0, guest_plain);
	kvmi_no_event(&env->tool);
}

KVMI_INSN(seq);
extern char seq_start[], seq_1[], seq_2[], seq_3[], seq_4[], seq_end[];

asm(".pushsection .text\n"
	".globl kvmi_insn_seq\n"
	"kvmi_insn_seq:\n"
	"seq_start: nop\n"
	"seq_1: xor %eax, %eax\n"
	"seq_2: jmp 1f\n\t"
	"ud2\n"
	"1:\n"
	"seq_3: pushfq\n"
	"seq_4: pop %rax\n"
	"seq_end: ret\n"
	".popsection");

/* Each instruction is reported once, in order, where it ends. */
TEST_F_TIMEOUT(singlestep, sequence, KVMI_TEST_TIMEOUT)
{
	static char * const want[] = {
		seq_start, seq_1, seq_2, seq_3, seq_4, seq_end,
	};
	struct kvmi_env *env = &self->env;
	uint64_t flags;
	unsigned int i, j;

	flags = run_stepped(env, 0, kvmi_insn_seq, &steps);
	TEST_ASSERT(!(flags & FLAGS_TF), "flags %#lx", flags);
	for (i = 0; i < steps.nr && steps.rip[i] != (uint64_t)seq_start; i++)
		;
	for (j = 0; j < ARRAY_SIZE(want); j++)
		TEST_ASSERT(steps.rip[i + j] == (uint64_t)want[j],
			    "step %u: %#lx, want %#lx", j, steps.rip[i + j],
			    (uint64_t)want[j]);
}

/* What an event says of the registers is without the step as well. */
TEST_F_TIMEOUT(singlestep, registers, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_runner *r = &env->run[0];
	uint32_t seq = send_control(env, 0, 1);
	struct kvm_debugregs dbg;
	struct kvmi_event ev;
	int i;

	kvmi_runner_do(r, guest_plain, KVMI_TEST_GVA, 0);
	wait_control(env, seq);
	for (i = 0; i < 30; i++) {
		kvmi_wait_event(&env->tool, KVMI_VCPU_EVENT_SINGLESTEP, &ev);
		TEST_ASSERT(!(ev.common.arch.regs.rflags & FLAGS_TF),
			    "rflags %#llx", ev.common.arch.regs.rflags);
		kvmi_reply(&env->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	}
	kvmi_wait_event(&env->tool, KVMI_VCPU_EVENT_SINGLESTEP, &ev);
	control(env, 0, 0);
	kvmi_reply(&env->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	kvmi_runner_wait(r);
	kvmi_no_event(&env->tool);
	vcpu_ioctl(r->vcpu, KVM_GET_DEBUGREGS, &dbg);
	TEST_ASSERT_EQ(dbg.dr6, DR6_INIT);
}

static void begin_steps(struct kvmi_env *env, unsigned int vcpu,
			kvmi_insn insn, struct kvmi_event *ev)
{
	uint32_t seq = send_control(env, vcpu, 1);

	kvmi_runner_do(&env->run[vcpu], insn, KVMI_TEST_GVA, 0);
	wait_control(env, seq);
	kvmi_wait_event(&env->tool, KVMI_VCPU_EVENT_SINGLESTEP, ev);
	kvmi_reply(&env->tool, ev, KVMI_EVENT_ACTION_CONTINUE);
	kvmi_wait_event(&env->tool, KVMI_VCPU_EVENT_SINGLESTEP, ev);
}

/* Stopped while an event waits: no other one comes. */
TEST_F_TIMEOUT(singlestep, stop_while_waiting, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_vcpu_inject_exception inject = { .nr = UD_VECTOR };
	struct kvmi_event ev;
	int i;

	for (i = 0; i < 2; i++) {
		clear_pages(env);
		begin_steps(env, 0, guest_pushf, &ev);
		/* The tool may not inject anything meanwhile. */
		TEST_ASSERT_EQ(__kvmi_vcpu_cmd(env, 0,
					       KVMI_VCPU_INJECT_EXCEPTION, &inject,
					       sizeof(inject), NULL, 0),
			       -KVM_EBUSY);
		if (i)
			vm_kvmi_allow_event(env->vm, KVMI_VCPU_EVENT_SINGLESTEP,
					    0);
		else
			control(env, 0, 0);
		TEST_ASSERT(!kvmi_runner_poll(&env->run[0], KVMI_QUIET_MS),
			    "not waiting for the answer");
		kvmi_reply(&env->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
		kvmi_runner_wait(&env->run[0]);
		kvmi_no_event(&env->tool);
		kvmi_alive(&env->tool);
	}
}

/* The tool goes, or the VMM parts with it: the guest lives on. */
TEST_F_TIMEOUT(singlestep, tool_gone, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct guest_results *got = kvmi_hva(env, RESULT_PAGE, 0);
	struct guest_results want;
	struct kvmi_event ev;
	int i;

	clear_pages(env);
	run_plain(env, 0, guest_own_tf);
	want = *got;

	for (i = 0; i < 3; i++) {
		clear_pages(env);
		begin_steps(env, 0, guest_own_tf, &ev);
		switch (i) {
		case 0:
			kvmi_env_unhook(env);
			break;
		case 1:
			kvmi_tool_close(&env->tool);
			break;
		case 2:
			/* between two events, or nearly so */
			kvmi_reply(&env->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
			kvmi_tool_close(&env->tool);
			break;
		}
		kvmi_runner_wait(&env->run[0]);
		compare(&want, got);
		kvmi_env_hook(env);
		run_plain(env, 0, guest_plain);
		kvmi_no_event(&env->tool);
	}
}

/* A signal ends KVM_RUN, not the event. */
TEST_F_TIMEOUT(singlestep, signal, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_runner *r = &env->run[0];
	struct kvmi_event ev, next;
	struct kvm_vcpu_events events;
	struct kvm_regs regs;

	begin_steps(env, 0, guest_plain, &ev);
	kvmi_runner_kick(r);
	kvmi_runner_wait_exit(r);
	TEST_ASSERT_EQ(r->err, EINTR);
	vcpu_regs_get(r->vcpu, &regs);
	TEST_ASSERT_EQ(regs.rip, ev.common.arch.regs.rip);
	TEST_ASSERT(!(regs.rflags & FLAGS_TF), "rflags %#llx", regs.rflags);
	vcpu_events_get(r->vcpu, &events);
	vcpu_events_set(r->vcpu, &events);

	kvmi_runner_go(r);
	kvmi_no_event(&env->tool);
	kvmi_reply(&env->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	kvmi_wait_event(&env->tool, KVMI_VCPU_EVENT_SINGLESTEP, &next);
	TEST_ASSERT(next.common.arch.regs.rip != ev.common.arch.regs.rip,
		    "the same step again");
	control(env, 0, 0);

	/* Stopped and interrupted, it waits for its answer still. */
	kvmi_runner_kick(r);
	kvmi_runner_wait_exit(r);
	TEST_ASSERT_EQ(r->err, EINTR);
	kvmi_runner_go(r);
	TEST_ASSERT(!kvmi_runner_poll(r, KVMI_QUIET_MS), "not waiting");
	kvmi_reply(&env->tool, &next, KVMI_EVENT_ACTION_CONTINUE);
	kvmi_runner_wait(r);
	kvmi_no_event(&env->tool);
}

TEST_F_TIMEOUT(singlestep, crash, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_runner *r = &env->run[0];
	struct kvmi_event ev;

	begin_steps(env, 0, guest_plain, &ev);
	kvmi_reply(&env->tool, &ev, KVMI_EVENT_ACTION_CRASH);
	kvmi_runner_wait_exit(r);
	TEST_ASSERT_EQ(r->ret, 0);
	TEST_ASSERT_EQ(r->vcpu->run->exit_reason, KVM_EXIT_SHUTDOWN);
}

/* RETRY is not for this event. */
TEST_F_TIMEOUT(singlestep, retry, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_event ev;

	begin_steps(env, 0, guest_plain, &ev);
	kvmi_reply(&env->tool, &ev, KVMI_EVENT_ACTION_RETRY);
	kvmi_wait_closed(&env->tool);
	kvmi_runner_wait(&env->run[0]);
}

/* One vCPU is stepped, the other is not; then both are. */
TEST_F_TIMEOUT(singlestep, two_vcpus, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_event ev;
	bool seen[2] = { };
	uint32_t seq;
	int i;

	begin_steps(env, 0, guest_plain, &ev);
	for (i = 0; i < 10; i++)
		run_plain(env, 1, kvmi_insn_nop);
	kvmi_no_event(&env->tool);
	kvmi_reply(&env->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);

	seq = send_control(env, 1, 1);
	kvmi_runner_do(&env->run[1], kvmi_insn_seq, KVMI_TEST_GVA, 0);
	wait_control(env, seq);
	for (i = 0; i < 200 && !(seen[0] && seen[1]); i++) {
		kvmi_wait_event(&env->tool, KVMI_VCPU_EVENT_SINGLESTEP, &ev);
		seen[ev.vcpu] = true;
		kvmi_reply(&env->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	}
	TEST_ASSERT(seen[0] && seen[1], "one of them is not stepped");
	kvmi_tool_close(&env->tool);
	kvmi_runner_wait(&env->run[0]);
	kvmi_runner_wait(&env->run[1]);
}

/* ---- interrupts ---- */

static uint64_t guest_self_ipi(uint64_t gva, uint64_t val, uint64_t arg)
{
	guest_begin(gva);
	nr_irqs = 0;
	x2apic_enable();
	x2apic_write_reg(APIC_SPIV, APIC_SPIV_APIC_ENABLED | 0xff);
	asm volatile("sti; nop" ::: "memory");
	x2apic_write_reg(APIC_SELF_IPI, IRQ_VECTOR);
	asm volatile("nop; nop; nop; nop" ::: "memory");
	results->val[0] = nr_irqs;
	asm volatile("nop" ::: "memory");
	asm volatile("cli" ::: "memory");

	return nr_irqs;
}

/* An interrupt waits until the vCPU is not stepped any more, and is not lost. */
TEST_F_TIMEOUT(singlestep, interrupt, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct guest_results *got = kvmi_hva(env, RESULT_PAGE, 0);
	struct kvmi_runner *r = &env->run[0];
	struct kvmi_event ev;
	bool stopped = false;
	uint32_t seq;
	int i;

	clear_pages(env);
	TEST_ASSERT_EQ(run_plain(env, 0, guest_self_ipi), 1);
	TEST_ASSERT_EQ(got->val[0], 1);

	clear_pages(env);
	seq = send_control(env, 0, 1);
	kvmi_runner_do(r, guest_self_ipi, KVMI_TEST_GVA, 0);
	wait_control(env, seq);
	got->val[0] = ~0ull;
	for (i = 0; i < MAX_STEPS && !stopped; i++) {
		kvmi_wait_event(&env->tool, KVMI_VCPU_EVENT_SINGLESTEP, &ev);
		/* The guest has looked, and it sleeps with interrupts on. */
		if (!got->val[0]) {
			TEST_ASSERT(ev.common.arch.regs.rflags & FLAGS_IF,
				    "interrupts off");
			TEST_ASSERT_EQ(got->nr_frames, 0);
			control(env, 0, 0);
			stopped = true;
		}
		kvmi_reply(&env->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	}
	TEST_ASSERT(stopped, "it never got there");
	TEST_ASSERT_EQ(kvmi_runner_wait(r), 1);
	TEST_ASSERT_EQ(got->nr_frames, 1);
	TEST_ASSERT(!(got->frame[0].rflags & FLAGS_TF), "rflags %#lx",
		    got->frame[0].rflags);
}

extern char trap_and_irq_next[];

static uint64_t guest_trap_and_irq(uint64_t gva, uint64_t val, uint64_t arg)
{
	guest_begin(gva);
	nr_irqs = 0;
	x2apic_enable();
	x2apic_write_reg(APIC_SPIV, APIC_SPIV_APIC_ENABLED | 0xff);
	asm volatile("sti; nop" ::: "memory");
	x2apic_write_reg(APIC_SELF_IPI, IRQ_VECTOR);
	asm volatile("pushfq\n\t"
		     "orq $0x100, (%%rsp)\n\t"
		     "popfq\n\t"
		     "nop\n"
		     "trap_and_irq_next: nop\n\t"
		     "nop\n\t"
		     "cli" ::: "memory", "cc");

	return nr_irqs;
}

/*
 * The trap of an instruction comes before an interrupt that waits, at the end of
 * a step as ever.
 */
TEST_F_TIMEOUT(singlestep, trap_and_interrupt, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct guest_results *got = kvmi_hva(env, RESULT_PAGE, 0);
	const uint64_t next = (uint64_t)trap_and_irq_next;
	struct kvmi_runner *r = &env->run[0];
	struct kvmi_event ev;
	uint32_t seq;
	int i;

	clear_pages(env);
	seq = send_control(env, 0, 1);
	kvmi_runner_do(r, guest_trap_and_irq, KVMI_TEST_GVA, 0);
	wait_control(env, seq);
	for (i = 0; i < MAX_STEPS; i++) {
		kvmi_wait_event(&env->tool, KVMI_VCPU_EVENT_SINGLESTEP, &ev);
		if (ev.common.arch.regs.rip == next)
			break;
		kvmi_reply(&env->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	}
	TEST_ASSERT(i < MAX_STEPS, "it never got there");
	TEST_ASSERT_EQ(got->nr_frames, 0);
	control(env, 0, 0);
	kvmi_reply(&env->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);

	TEST_ASSERT_EQ(kvmi_runner_wait(r), 1);
	TEST_ASSERT_EQ(got->nr_frames, 2);
	TEST_ASSERT_EQ(got->frame[0].vector, DB_VECTOR);
	TEST_ASSERT(got->frame[0].rip == next, "rip %#lx, want %#lx",
		    got->frame[0].rip, next);
	TEST_ASSERT_EQ(got->frame[1].vector, IRQ_VECTOR);
}

static uint64_t guest_halt(uint64_t gva, uint64_t val, uint64_t arg)
{
	guest_begin(gva);
	nr_irqs = 0;
	x2apic_enable();
	x2apic_write_reg(APIC_SPIV, APIC_SPIV_APIC_ENABLED | 0xff);
	x2apic_write_reg(APIC_SELF_IPI, IRQ_VECTOR);
	asm volatile("sti; hlt" ::: "memory");
	results->val[0] = nr_irqs;
	asm volatile("cli" ::: "memory");

	return nr_irqs;
}

/* A halt ends with the interrupt that it waits for, not without. */
TEST_F_TIMEOUT(singlestep, halt, KVMI_TEST_TIMEOUT)
{
	check_invisible(&self->env, guest_halt);
}

/* ---- the VMM ---- */

/* The VMM moves the vCPU before the instruction was executed. */
TEST_F_TIMEOUT(singlestep, failed, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_runner *r = &env->run[0];
	struct kvm_regs regs;
	struct kvmi_event ev;

	begin_steps(env, 0, kvmi_insn_seq, &ev);
	while (ev.common.arch.regs.rip != (uint64_t)seq_1) {
		kvmi_reply(&env->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
		kvmi_wait_event(&env->tool, KVMI_VCPU_EVENT_SINGLESTEP, &ev);
		TEST_ASSERT_EQ(ev.singlestep.failed, 0);
	}
	TEST_ASSERT_EQ(__kvmi_pause_vcpu(&env->tool, 0, false), 0);
	kvmi_reply(&env->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	kvmi_wait_event(&env->tool, KVMI_VCPU_EVENT_PAUSE, &ev);
	kvmi_runner_kick(r);
	kvmi_runner_wait_exit(r);
	vcpu_regs_get(r->vcpu, &regs);
	TEST_ASSERT_EQ(regs.rip, (uint64_t)seq_1);
	regs.rip = (uint64_t)seq_3;
	vcpu_regs_set(r->vcpu, &regs);
	kvmi_runner_go(r);
	kvmi_reply(&env->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	kvmi_wait_event(&env->tool, KVMI_VCPU_EVENT_SINGLESTEP, &ev);
	TEST_ASSERT_EQ(ev.singlestep.failed, 1);
	TEST_ASSERT_EQ(ev.common.arch.regs.rip, (uint64_t)seq_3);
	kvmi_reply(&env->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	kvmi_wait_event(&env->tool, KVMI_VCPU_EVENT_SINGLESTEP, &ev);
	TEST_ASSERT_EQ(ev.singlestep.failed, 0);
	TEST_ASSERT_EQ(ev.common.arch.regs.rip, (uint64_t)seq_4);
	control(env, 0, 0);
	kvmi_reply(&env->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	kvmi_runner_wait(r);
}

/* The VMM steps the vCPU too: each gets its own. */
TEST_F_TIMEOUT(singlestep, guest_debug, KVMI_TEST_TIMEOUT)
{
	struct kvm_guest_debug dbg = {
		.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP,
	};
	struct kvmi_env *env = &self->env;
	struct kvmi_runner *r = &env->run[0];
	unsigned int nr_vmm = 0, nr_tool = 0;
	struct kvm_regs regs;
	struct kvmi_event ev;
	bool in_seq = false;

	begin_steps(env, 0, kvmi_insn_seq, &ev);
	while (ev.common.arch.regs.rip != (uint64_t)seq_start) {
		kvmi_reply(&env->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
		kvmi_wait_event(&env->tool, KVMI_VCPU_EVENT_SINGLESTEP, &ev);
	}
	kvmi_runner_kick(r);
	kvmi_runner_wait_exit(r);
	vcpu_ioctl(r->vcpu, KVM_SET_GUEST_DEBUG, &dbg);
	kvmi_runner_go(r);
	kvmi_reply(&env->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);

	while (!in_seq) {
		if (kvmi_poll_event(&env->tool, &ev, 20)) {
			TEST_ASSERT_EQ(ev.event, KVMI_VCPU_EVENT_SINGLESTEP);
			nr_tool++;
			in_seq = ev.common.arch.regs.rip == (uint64_t)seq_end;
			kvmi_reply(&env->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
		} else if (kvmi_runner_poll(r, 0)) {
			TEST_ASSERT_EQ(r->vcpu->run->exit_reason,
				       KVM_EXIT_DEBUG);
			nr_vmm++;
			vcpu_ioctl(r->vcpu, KVM_SET_GUEST_DEBUG, &dbg);
			kvmi_runner_go(r);
		}
		TEST_ASSERT(nr_tool < 100 && nr_vmm < 100, "steps without end");
	}
	TEST_ASSERT_EQ(nr_tool, 5);
	TEST_ASSERT(nr_vmm >= 4, "%u steps of the VMM's", nr_vmm);

	/* The VMM gives up, then the tool. */
	kvmi_runner_kick(r);
	kvmi_runner_wait_exit(r);
	dbg.control = 0;
	vcpu_ioctl(r->vcpu, KVM_SET_GUEST_DEBUG, &dbg);
	kvmi_tool_close(&env->tool);
	/* The signal may have come too late for that exit. */
	do {
		kvmi_runner_go(r);
		kvmi_runner_wait_exit(r);
	} while (r->ret && r->err == EINTR);
	/* Of the VMM's steps, KVM lets the guest see TF: not in the result. */
	request_result(r);
	vcpu_regs_get(r->vcpu, &regs);
	TEST_ASSERT(!(regs.rflags & FLAGS_TF), "TF is left");
}

int main(int argc, char *argv[])
{
	TEST_REQUIRE(kvmi_supported());

	return test_harness_run(argc, argv);
}
