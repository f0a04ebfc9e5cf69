// SPDX-License-Identifier: GPL-2.0
/*
 * What the lab's machine does with interrupts that KVM injects: a guest that takes
 * its time to handle them gets each of them once, and none while it has interrupts
 * disabled. No introspection takes part in it.
 *
 * usage: irq-once COUNT SPIN
 *	COUNT	how many interrupts
 *	SPIN	for how many rounds of a loop the guest handles each, without an exit
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
#define MSI_ADDRESS	0xfee00000	/* to the APIC with ID 0 */
#define APIC_SPIV	0xf0
#define PORT		0x10
#define MEM_SIZE	0x3000
#define CODE		0x1000
#define HANDLER		0x1100
#define COUNTERS	0x2000	/* u32: begun, nested */
#define STACK		0x3000

/* 16-bit code: has an interrupt made pending at OUT and injected behind STI */
static const uint8_t code[] = {
	0xfa,				/* 1: cli */
	0xe6, PORT,			/* out %al, $PORT */
	0xfb,				/* sti */
	0x90,				/* nop */
	0xeb, 0xf9,			/* jmp 1b */
};

/* EBX is 0 outside of the handler, ECX the rounds that it takes. */
static const uint8_t handler[] = {
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

static void setup_memory(int vm, uint8_t *mem)
{
	struct kvm_userspace_memory_region region = {
		.memory_size = MEM_SIZE, .userspace_addr = (uintptr_t)mem,
	};
	uint16_t *ivt = (void *)mem;

	IOCTL(vm, KVM_SET_USER_MEMORY_REGION, &region);
	ivt[VECTOR * 2] = HANDLER;
	memcpy(mem + CODE, code, sizeof(code));
	memcpy(mem + HANDLER, handler, sizeof(handler));
}

/* What is in service is not any more. */
static void reset_apic(int vcpu)
{
	struct kvm_lapic_state apic = { };
	uint32_t enabled = 0x1ff;

	IOCTL(vcpu, KVM_SET_LAPIC, &apic);
	memcpy(apic.regs + APIC_SPIV, &enabled, sizeof(enabled));
	IOCTL(vcpu, KVM_SET_LAPIC, &apic);
}

static void setup_vcpu(int vcpu, unsigned int spin)
{
	struct kvm_regs regs = {
		.rip = CODE, .rsp = STACK, .rcx = spin, .rflags = 2,
	};
	struct kvm_sregs sregs;

	IOCTL(vcpu, KVM_GET_SREGS, &sregs);
	sregs.cs.base = sregs.cs.selector = 0;
	sregs.ds.base = sregs.ds.selector = 0;
	sregs.ss.base = sregs.ss.selector = 0;
	IOCTL(vcpu, KVM_SET_SREGS, &sregs);
	IOCTL(vcpu, KVM_SET_REGS, &regs);
}

int main(int argc, char *argv[])
{
	struct kvm_msi msi = { .address_lo = MSI_ADDRESS, .data = VECTOR };
	unsigned int count, spin, i;
	int kvm, vm, vcpu, size;
	volatile uint32_t *seen;
	struct kvm_run *run;
	uint8_t *mem;

	if (argc != 3)
		errx(2, "usage: irq-once COUNT SPIN");
	count = number(argv[1]);
	spin = number(argv[2]);

	kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (kvm < 0)
		err(1, "/dev/kvm");
	vm = IOCTL(kvm, KVM_CREATE_VM, 0);
	mem = mmap(NULL, MEM_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (mem == MAP_FAILED)
		err(1, "mmap");
	setup_memory(vm, mem);
	IOCTL(vm, KVM_CREATE_IRQCHIP, 0);
	vcpu = IOCTL(vm, KVM_CREATE_VCPU, 0);
	setup_vcpu(vcpu, spin);
	size = IOCTL(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	run = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	if (run == MAP_FAILED)
		err(1, "mmap");

	/* The guest is at its OUT again when it has handled what was injected before. */
	for (i = 0; ; i++) {
		IOCTL(vcpu, KVM_RUN, 0);
		if (run->exit_reason != KVM_EXIT_IO || run->io.port != PORT)
			errx(1, "exit %u after %u interrupts", run->exit_reason, i);
		if (i == count)
			break;
		reset_apic(vcpu);
		if (!IOCTL(vm, KVM_SIGNAL_MSI, &msi))
			errx(1, "KVM takes no interrupt");
	}

	seen = (volatile uint32_t *)(mem + COUNTERS);
	printf("%u interrupts injected, %u delivered, %u of them in the handler\n",
	       count, seen[0], seen[1]);
	return seen[0] != count || seen[1];
}
