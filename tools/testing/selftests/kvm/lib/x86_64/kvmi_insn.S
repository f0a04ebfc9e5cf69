/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Guest code for the tests of KVM introspection, one instruction under test in
 * each function.  See kvmi_insn.h for what they do.
 */

.macro FUNC name:req
.globl kvmi_insn_\name
.type kvmi_insn_\name, @function
kvmi_insn_\name:
.endm

/* The instruction under test, where it is not the function's first */
.macro AT name:req
.globl kvmi_insn_\name\()_at
kvmi_insn_\name\()_at:
.endm

.text

FUNC nop
	ret

FUNC read
	mov (%rdi), %rax
	ret

FUNC write
	mov %rsi, (%rdi)
	ret

FUNC add
	add %rsi, (%rdi)
	ret

FUNC xadd
	lock xadd %rsi, (%rdi)
	mov %rsi, %rax
	ret

FUNC exec
	jmp *%rdi

FUNC hlt
	cli
AT hlt
	hlt
	ret

/*
 * With interrupts on, although none will come: in the SVM of Bochs the host's
 * interrupts have no effect on a guest that has them off.
 */
FUNC spin
	xor %eax, %eax
	sti
1:	inc %rax
	pause
	cmp %rsi, (%rdi)
	jne 1b
	cli
	ret

FUNC count
	sti
1:
AT count
	incq (%rdi)
	pause
	cmpq $0, (%rsi)
	je 1b
	cli
	ret

FUNC stos
	mov %rdx, %rcx
	mov %rsi, %rax
AT stos
	rep stosq
	mov %rcx, %rax
	ret

FUNC movs
	mov %rdx, %rcx
	xchg %rsi, %rdi
AT movs
	rep movsq
	mov %rcx, %rax
	ret

FUNC movsb
	xchg %rsi, %rdi
AT movsb
	movsb
	ret

FUNC ins
	mov %rdx, %rcx
	mov $0x2000, %edx
AT ins
	rep insb
	ret

FUNC outs
	mov %rdx, %rcx
	mov $0x2000, %edx
	mov %rdi, %rsi
AT outs
	rep outsb
	ret

FUNC push
	xchg %rsp, %rdi
AT push
	push %rsi
	xchg %rsp, %rdi
	mov %rdi, %rax
	ret

FUNC call
	push %rbx
	mov %rsp, %rbx
	mov %rdi, %rsp
AT call
	call *%rsi
	mov %rsp, %rax
	mov %rbx, %rsp
	pop %rbx
	ret

FUNC cmpxchg
	mov %rdx, %rax
AT cmpxchg
	lock cmpxchg %rsi, (%rdi)
	ret

FUNC sse_read
	movups (%rdi), %xmm0
	movq %xmm0, %rax
	ret

FUNC sse_write
	movq %rsi, %xmm0
	punpcklqdq %xmm0, %xmm0
AT sse_write
	movups %xmm0, (%rdi)
	ret

FUNC sse_add
	movq %rsi, %xmm0
AT sse_add
	paddq (%rdi), %xmm0
	movq %xmm0, %rax
	ret

FUNC maskmov
	movq %rsi, %xmm0
	pcmpeqd %xmm1, %xmm1
AT maskmov
	maskmovdqu %xmm1, %xmm0
	ret

FUNC lar
	lar %esi, %eax
	ret

FUNC int_n
	int $0x30
	ret
	/* where the IDT leads to */
AT int_n
	mov $0x600d, %eax
	iretq

FUNC sse_hold
	movups (%rdi), %xmm0
	sti
1:	pause
	cmpq $0, (%rsi)
	je 1b
	cli
	movups %xmm0, (%rdi)
	ret

FUNC ud
	xor %eax, %eax
	ud2
	ret

FUNC ud_stack
	xor %eax, %eax
	xchg %rsp, %rdi
	ud2
	xchg %rsp, %rdi
	ret

FUNC ds
	mov %ds, %eax
	mov %eax, %ds
	ret

FUNC int3
	xor %eax, %eax
AT int3
	int3
	ret

FUNC fep_add
	ud2
	.ascii "kvm"
	add %rsi, (%rdi)
	ret

.section .note.GNU-stack, "", %progbits
