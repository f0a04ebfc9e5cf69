// SPDX-License-Identifier: GPL-2.0
/*
 * Is the processor that the lab emulates one that KVM's guests can rely on?  Guests
 * of a few bytes, and no introspection.  Each test is for something that was wrong
 * in an emulator and is mended by a patch of the lab's.
 *
 * usage: emulator-test interrupts COUNT SPIN
 *	An interrupt that KVM injects comes once, and none while the guest has
 *	interrupts disabled.
 *	COUNT	how many interrupts
 *	SPIN	for how many rounds of a loop the guest handles each, without an exit
 *
 *        emulator-test breakpoints COUNT
 *	A guest's breakpoints are those that its own DR7 enables, whoever wrote it.
 *	COUNT	how often they change
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#define VECTOR		0x20
#define DB_VECTOR	1
#define MSI_ADDRESS	0xfee00000	/* to the APIC with ID 0 */
#define APIC_SPIV	0xf0
#define PORT		0x10
#define MEM_SIZE	0x3000
#define CODE		0x1000
#define HANDLER		0x1100
#define COUNTERS	0x2000	/* u32: begun, nested */
#define DATA		0x2010
#define ELSEWHERE	0x2020
#define STACK		0x3000

#define DR7_NONE	0x400ul
#define DR7_WRITE	0xd0402ul	/* four bytes at DR0 are written */
#define DR7_EXEC	0x402ul

struct guest {
	int vm;
	int vcpu;
	struct kvm_run *run;
	uint8_t *mem;
};

/* How a guest begins.  All of its code is 16-bit. */
struct program {
	const uint8_t *code;
	size_t code_size;
	const uint8_t *handler;
	size_t handler_size;
	int vector;
	struct kvm_regs regs;
};

static int xioctl(int fd, unsigned long request, const char *name, void *arg)
{
	int r = ioctl(fd, request, arg);

	if (r < 0)
		err(1, "%s", name);
	return r;
}
#define IOCTL(fd, request, arg) xioctl(fd, request, #request, (void *)(arg))

static unsigned int number(const char *s)
{
	char *end;
	unsigned long n = strtoul(s, &end, 0);

	if (!n || n > UINT32_MAX || *end)
		errx(2, "'%s' is not a positive number", s);
	return n;
}

static void *xmmap(size_t size, int flags, int fd)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | flags, fd, 0);

	if (p == MAP_FAILED)
		err(1, "mmap");
	return p;
}

static void setup_memory(struct guest *guest, const struct program *program)
{
	struct kvm_userspace_memory_region region = { .memory_size = MEM_SIZE };
	uint16_t *ivt;

	guest->mem = xmmap(MEM_SIZE, MAP_ANONYMOUS, -1);
	region.userspace_addr = (uintptr_t)guest->mem;
	IOCTL(guest->vm, KVM_SET_USER_MEMORY_REGION, &region);

	ivt = (void *)guest->mem;
	ivt[program->vector * 2] = HANDLER;
	memcpy(guest->mem + CODE, program->code, program->code_size);
	memcpy(guest->mem + HANDLER, program->handler, program->handler_size);
}

static void setup_vcpu(struct guest *guest, const struct program *program)
{
	struct kvm_regs regs = program->regs;
	struct kvm_sregs sregs;

	IOCTL(guest->vcpu, KVM_GET_SREGS, &sregs);
	sregs.cs.base = sregs.cs.selector = 0;
	sregs.ds.base = sregs.ds.selector = 0;
	sregs.ss.base = sregs.ss.selector = 0;
	IOCTL(guest->vcpu, KVM_SET_SREGS, &sregs);
	regs.rip = CODE;
	regs.rsp = STACK;
	regs.rflags = 2;
	IOCTL(guest->vcpu, KVM_SET_REGS, &regs);
}

static void setup(struct guest *guest, const struct program *program)
{
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	if (kvm < 0)
		err(1, "/dev/kvm");
	guest->vm = IOCTL(kvm, KVM_CREATE_VM, 0);
	setup_memory(guest, program);
	IOCTL(guest->vm, KVM_CREATE_IRQCHIP, 0);
	guest->vcpu = IOCTL(guest->vm, KVM_CREATE_VCPU, 0);
	setup_vcpu(guest, program);
	guest->run = xmmap(IOCTL(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), 0, guest->vcpu);
}

static void run_to_port(struct guest *guest)
{
	struct kvm_run *run = guest->run;

	IOCTL(guest->vcpu, KVM_RUN, 0);
	if (run->exit_reason != KVM_EXIT_IO || run->io.port != PORT)
		errx(1, "exit %u, the guest was to get to its port", run->exit_reason);
}

static uint32_t counter(const struct guest *guest, int i)
{
	return ((volatile uint32_t *)(guest->mem + COUNTERS))[i];
}

/* ---- interrupts ---- */

/* Has an interrupt made pending at OUT and injected behind STI. */
static const uint8_t interrupts_code[] = {
	0xfa,				/* 1: cli */
	0xe6, PORT,			/* out %al, $PORT */
	0xfb,				/* sti */
	0x90,				/* nop */
	0xeb, 0xf9,			/* jmp 1b */
};

/* EBX is 0 outside of the handler, ECX the rounds that it takes. */
static const uint8_t interrupts_handler[] = {
	0x66, 0xff, 0x06, 0x00, 0x20,	/* incl COUNTERS */
	0x66, 0x01, 0x1e, 0x04, 0x20,	/* add %ebx, COUNTERS + 4 */
	0xb3, 0x01,			/* mov $1, %bl */
	0x66, 0x51,			/* push %ecx */
	0x66, 0x49,			/* 1: dec %ecx */
	0x75, 0xfc,			/* jnz 1b */
	0x66, 0x59,			/* pop %ecx */
	0x30, 0xdb,			/* xor %bl, %bl */
	0xcf,				/* iret */
};

/* What is in service is not any more. */
static void reset_apic(struct guest *guest)
{
	struct kvm_lapic_state apic = { };
	uint32_t enabled = 0x1ff;

	IOCTL(guest->vcpu, KVM_SET_LAPIC, &apic);
	memcpy(apic.regs + APIC_SPIV, &enabled, sizeof(enabled));
	IOCTL(guest->vcpu, KVM_SET_LAPIC, &apic);
}

static int test_interrupts(unsigned int count, unsigned int spin)
{
	const struct program program = {
		.code = interrupts_code, .code_size = sizeof(interrupts_code),
		.handler = interrupts_handler, .handler_size = sizeof(interrupts_handler),
		.vector = VECTOR, .regs = { .rcx = spin },
	};
	struct kvm_msi msi = { .address_lo = MSI_ADDRESS, .data = VECTOR };
	struct guest guest;
	unsigned int i;

	/* The guest is at its OUT again when it has handled what was injected before. */
	setup(&guest, &program);
	run_to_port(&guest);
	for (i = 0; i < count; i++) {
		reset_apic(&guest);
		if (!IOCTL(guest.vm, KVM_SIGNAL_MSI, &msi))
			errx(1, "KVM takes no interrupt");
		run_to_port(&guest);
	}

	printf("%u interrupts injected, %u delivered, %u of them in the handler\n",
	       count, counter(&guest, 0), counter(&guest, 1));
	return counter(&guest, 0) != count || counter(&guest, 1);
}

/* ---- breakpoints ---- */

/* EAX is for DR7, EDX for DR0. */
static const uint8_t breakpoints_code[] = {
	0xe6, PORT,			/* 1: out %al, $PORT */
	0x85, 0xc0,			/* test %ax, %ax */
	0x74, 0x06,			/* jz 2f */
	0x0f, 0x23, 0xc2,		/* mov %edx, %dr0 */
	0x0f, 0x23, 0xf8,		/* mov %eax, %dr7 */
	0x66, 0xa3, DATA & 0xff, DATA >> 8, /* 2: mov %eax, DATA */
	0xeb, 0xee,			/* jmp 1b */
};

static const uint8_t breakpoints_handler[] = {
	0x66, 0xff, 0x06, 0x00, 0x20,	/* incl COUNTERS */
	0xcf,				/* iret */
};

/* run_watched: lets the guest write once.  How many breakpoints does it hit? */
static unsigned int run_watched(struct guest *guest)
{
	uint32_t before = counter(guest, 0);

	run_to_port(guest);
	return counter(guest, 0) - before;
}

static unsigned int run_with_given(struct guest *guest, uint64_t dr7, uint64_t dr0)
{
	struct kvm_debugregs dbg = { .db = { dr0 }, .dr6 = 0xffff0ff0, .dr7 = dr7 };
	struct kvm_regs regs;

	IOCTL(guest->vcpu, KVM_SET_DEBUGREGS, &dbg);
	IOCTL(guest->vcpu, KVM_GET_REGS, &regs);
	regs.rax = 0;
	IOCTL(guest->vcpu, KVM_SET_REGS, &regs);
	return run_watched(guest);
}

static unsigned int run_with_own(struct guest *guest, uint64_t dr7, uint64_t dr0)
{
	struct kvm_regs regs;

	IOCTL(guest->vcpu, KVM_GET_REGS, &regs);
	regs.rax = dr7;
	regs.rdx = dr0;
	IOCTL(guest->vcpu, KVM_SET_REGS, &regs);
	return run_watched(guest);
}

static int test_breakpoints(unsigned int count)
{
	const struct program program = {
		.code = breakpoints_code, .code_size = sizeof(breakpoints_code),
		.handler = breakpoints_handler, .handler_size = sizeof(breakpoints_handler),
		.vector = DB_VECTOR,
	};
	/* A type follows another, and what the guest sets what the VMM does. */
	static const struct {
		unsigned int (*run)(struct guest *guest, uint64_t dr7, uint64_t dr0);
		const char *who;
		uint64_t dr7, dr0;
		unsigned int hits;
	} steps[] = {
		{ run_with_own, "guest", DR7_WRITE, DATA, 1 },
		{ run_with_given, "VMM", DR7_NONE, DATA, 0 },
		{ run_with_own, "guest", DR7_EXEC, ELSEWHERE, 0 },
		{ run_with_given, "VMM", DR7_WRITE, DATA, 1 },
		{ run_with_own, "guest", DR7_NONE, DATA, 0 },
		{ run_with_given, "VMM", DR7_WRITE, ELSEWHERE, 0 },
		{ run_with_own, "guest", DR7_WRITE, DATA, 1 },
		{ run_with_given, "VMM", DR7_EXEC, ELSEWHERE, 0 },
	};
	unsigned int i, wrong = 0;
	struct guest guest;

	setup(&guest, &program);
	run_to_port(&guest);
	for (i = 0; i < count; i++) {
		typeof(*steps) *step = &steps[i % (sizeof(steps) / sizeof(steps[0]))];
		unsigned int hits = step->run(&guest, step->dr7, step->dr0);

		if (hits == step->hits)
			continue;
		printf("%u: the %s sets DR7 %#lx, DR0 %#lx: %u hits, want %u\n", i,
		       step->who, step->dr7, step->dr0, hits, step->hits);
		wrong++;
	}

	printf("%u changes of DR7, %u of them wrong\n", count, wrong);
	return !!wrong;
}

int main(int argc, char *argv[])
{
	if (argc == 4 && !strcmp(argv[1], "interrupts"))
		return test_interrupts(number(argv[2]), number(argv[3]));
	if (argc == 3 && !strcmp(argv[1], "breakpoints"))
		return test_breakpoints(number(argv[2]));
	errx(2, "usage: emulator-test interrupts COUNT SPIN | breakpoints COUNT");
}
