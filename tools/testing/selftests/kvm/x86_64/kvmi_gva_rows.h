/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The instructions of kvmi_gva_test: each a
 *
 *	ROW(name, "code before", "instruction", "code after", fields of struct row)
 *
 * or ROW32(), without code after it, for 32-bit code.  The file is included
 * twice, for the code and for the table.  Fields from .want on, which has no
 * name.  %rdi is A in the beginning and %rsi is B.
 */

ROW(load, "", "mov (%rdi), %rax", "", {{ A, R }})
ROW(store, "", "mov %rdx, (%rdi)", "", {{ A, W }})
ROW(store_byte, "", "mov %dl, (%rdi)", "", {{ A, W }})
ROW(store_imm, "", "movl $7, (%rdi)", "", {{ A, W }})
ROW(disp8, "sub $0x20, %rdi", "mov 0x20(%rdi), %rax", "",
	{{ A, R }})
ROW(disp8_negative, "add $0x20, %rdi", "mov %al, -0x20(%rdi)",
	"", {{ A, W }})
ROW(disp32, "sub $0x12345, %rdi", "mov 0x12345(%rdi), %rax", "",
	{{ A, R }})
ROW(index, "mov $-2, %rcx", "mov 0x10(%rdi,%rcx,8), %rax", "",
	{{ A, R }})
ROW(index_high, "mov $4, %r9; sub $4, %rdi",
	"mov (%rdi,%r9), %rax", "", {{ A, R }})
ROW(no_base, "mov %rdi, %rcx; sub $64, %rcx",
	"mov 64(,%rcx,1), %rax", "", {{ A, R }})
ROW(base_r11, "mov %rdi, %r11", "mov (%r11), %rax", "",
	{{ A, R }})
ROW(base_r12, "mov %r12, %r8; mov %rdi, %r12",
	"mov (%r12), %rax", "mov %r8, %r12", {{ A, R }})
ROW(base_r13, "mov %r13, %r8; mov %rdi, %r13",
	"mov (%r13), %rax", "mov %r8, %r13", {{ A, R }})
ROW(fs, "", "mov %fs:0x100, %rax", "", {{ A, R }})
ROW(gs, "mov $8, %ecx", "movb $1, %gs:-8(%rcx)", "", {{ A, W }})
ROW(rex_ignored, "", ".byte 0x48; movss (%rdi), %xmm0", "", {{ A, R }})
ROW(addr32, "mov $0x70003340, %ecx; bts $40, %rcx",
	"mov (%ecx), %eax", "", {{ A + LOW, R }})
ROW(absolute, "", "movabs 0x10000003340, %rax", "", {{ A, R }})
ROW(absolute_store, "", "movabs %al, 0x10000003340", "",
	{{ A, W }})
ROW(add, "", "add %rdx, (%rdi)", "", {{ A, RW }})
ROW(add_load, "", "add (%rdi), %rdx", "", {{ A, R }})
ROW(cmp, "", "cmp %rdx, (%rdi)", "", {{ A, R }})
ROW(test_imm, "", "testb $1, (%rdi)", "", {{ A, R }})
ROW(not, "", "notl (%rdi)", "", {{ A, RW }})
ROW(inc, "", "incw (%rdi)", "", {{ A, RW }})
ROW(mul, "", "mull (%rdi)", "", {{ A, R }})
ROW(imul, "", "imul $9, (%rdi), %rax", "", {{ A, R }})
ROW(shl, "", "shlq $3, (%rdi)", "", {{ A, RW }})
ROW(xchg, "", "xchg %rdx, (%rdi)", "", {{ A, RW }})
ROW(xadd, "", "lock xadd %rdx, (%rdi)", "", {{ A, RW }})
ROW(cmpxchg, "", "lock cmpxchg %rdx, (%rdi)", "", {{ A, RW }})
ROW(cmpxchg16b, "mov %rbx, %r8", "lock cmpxchg16b (%rdi)",
	"mov %r8, %rbx", {{ A, RW }})
ROW(movzx, "", "movzbl (%rdi), %eax", "", {{ A, R }})
ROW(movsxd, "", "movslq (%rdi), %rax", "", {{ A, R }})
ROW(cmov, "", "cmovne (%rdi), %rax", "", {{ A, R }})
ROW(setcc, "", "sete (%rdi)", "", {{ A, W }})
ROW(bt, "mov $-129, %rcx; add $24, %rdi", "bt %rcx, (%rdi)", "",
	{{ A, R }})
ROW(btsl, "mov $-33, %ecx; add $8, %rdi", "btsl %ecx, (%rdi)", "",
	{{ A, RW }})
ROW(bt_imm, "", "btq $63, (%rdi)", "", {{ A, R }})
ROW(xlat, "mov %rbx, %r8; lea -0x41(%rdi), %rbx; mov $0x3341, %eax",
	"xlat", "mov %r8, %rbx", {{ A, R }})
ROW(mov_from_ds, "", "mov %ds, (%rdi)", "", {{ A, W }})
ROW(fld, "", "fldl (%rdi)", "fstp %st(0)", {{ A, R }})
ROW(sgdt, "", "sgdt (%rdi)", "", {{ A, W }})

ROW(push, "mov %rsp, %r8; lea 8(%rdi), %rsp", "push %rdx",
	"mov %r8, %rsp", {{ A, W }})
ROW(push_imm, "mov %rsp, %r8; lea 8(%rdi), %rsp", "push $1",
	"mov %r8, %rsp", {{ A, W }})
ROW(pushw, "mov %rsp, %r8; lea 2(%rdi), %rsp", "pushw %dx",
	"mov %r8, %rsp", {{ A, W }})
ROW(pushf, "mov %rsp, %r8; lea 8(%rdi), %rsp", "pushfq",
	"mov %r8, %rsp", {{ A, W }})
ROW(push_mem, "mov %rsp, %r8; lea 8(%rdi), %rsp", "push (%rsi)",
	"mov %r8, %rsp", {{ B, R }, { A, W }})
ROW(pushw_mem, "mov %rsp, %r8; lea 2(%rdi), %rsp", "pushw (%rsi)",
	"mov %r8, %rsp", {{ B, R }, { A, W }})
ROW(pop, "mov %rsp, %r8; mov %rdi, %rsp", "pop %rdx",
	"mov %r8, %rsp", {{ A, R }})
ROW(pop_mem, "mov %rsp, %r8; mov %rdi, %rsp", "pop (%rsi)",
	"mov %r8, %rsp", {{ A, R }, { B, W }})
ROW(pop_stack, "mov %rsp, %r8; mov %rdi, %rsp", "pop 8(%rsp)",
	"mov %r8, %rsp", {{ A, R }, { A + 16, W }})
ROW(call, "mov %rsp, %r8; lea 8(%rdi), %rsp", "call gva_call_end",
	"mov %r8, %rsp", {{ A, W }})
ROW(call_mem, "mov %rsp, %r8; lea 8(%rdi), %rsp",
	"call *(%rsi)", "mov %r8, %rsp", {{ B, R }, { A, W }})
ROW(ret, "mov %rsp, %r8; mov %rdi, %rsp", "ret",
	"mov %r8, %rsp", {{ A, R }})
ROW(leave, "mov %rsp, %r8; mov %rbp, %r9; mov %rdi, %rbp",
	"leave", "mov %r8, %rsp; mov %r9, %rbp", {{ A, R }})
ROW(enter, "mov %rsp, %r8; mov %rbp, %r9; lea 8(%rdi), %rsp",
	"enter $0, $0", "mov %r8, %rsp; mov %r9, %rbp", {{ A, W }})

ROW(lar_mem, "", "lar (%rdi), %eax", "", {{ A, R }})
ROW(verr_mem, "", "verr (%rdi)", "", {{ A, R }})

ROW(movs, "xchg %rsi, %rdi", "movsq", "", {{ A, R }, { B, W }})
ROW(rep_movs, "xchg %rsi, %rdi; mov $4, %ecx", "rep movsb", "",
	{{ A, R }, { B, W }})
ROW(movs_fs, "mov $0x100, %esi", "movsb %fs:(%rsi), %es:(%rdi)",
	"", {{ A, RW }})
ROW(cmps, "", "cmpsl", "", {{ B, R }, { A, R }})
ROW(stos, "", "stosl", "", {{ A, W }})
ROW(lods, "", "lodsw", "", {{ B, R }})
ROW(scas, "", "scasb", "", {{ A, R }})

ROW(movups, "", "movups (%rdi), %xmm0", "", {{ A, R }})
ROW(movaps_store, "", "movaps %xmm0, (%rdi)", "", {{ A, W }})
ROW(paddq, "", "paddq (%rdi), %xmm0", "", {{ A, R }})
ROW(pshufd, "", "pshufd $7, (%rdi), %xmm0", "", {{ A, R }})
ROW(pshufb, "", "pshufb (%rdi), %xmm0", "", {{ A, R }})
ROW(pextrd, "", "pextrd $1, %xmm0, (%rdi)", "", {{ A, W }})
ROW(movnti, "", "movnti %rdx, (%rdi)", "", {{ A, W }})
ROW(fxsave, "", "fxsave (%rdi)", "", {{ A, W }})
ROW(vmovdqu, "", "vmovdqu (%rdi), %ymm0", "", {{ A, R }},
	.avx = true)
ROW(vmovdqu_store, "mov $2, %r9d; sub $0x10, %rdi",
	"vmovdqu %xmm0, (%rdi,%r9,8)", "", {{ A, W }}, .avx = true)
ROW(vpaddd, "mov %rdi, %r10", "vpaddd (%r10), %xmm1, %xmm2", "",
	{{ A, R }}, .avx = true)
ROW(vaddps, "", "vaddps (%rdi), %ymm1, %ymm2", "", {{ A, R }},
	.avx = true)
ROW(vpextrd, "", "vpextrd $1, %xmm0, (%rdi)", "", {{ A, W }},
	.avx = true)

ROW(vcvtps2pd, "", "vcvtps2pd (%rdi), %ymm0", "", {{ A, R }}, .avx = true)
ROW(xsave, "xor %eax, %eax; xor %edx, %edx; sub $512, %rdi", "xsave (%rdi)", "",
	{{ A, RW }}, .avx = true)

/* up to a mask, and one by one, in any order */
ROW(maskmovdqu, "pcmpeqb %xmm2, %xmm2", "maskmovdqu %xmm2, %xmm0", "", {{ A, W }},
	.len = 15)
ROW(vmaskmov, "vpcmpeqd %xmm2, %xmm2, %xmm2", "vmaskmovps (%rdi), %xmm2, %xmm0", "",
	{{ A, R }}, .avx = true, .len = 15)
ROW(vpgatherdd, "vpxor %xmm1, %xmm1, %xmm1; vpcmpeqd %ymm2, %ymm2, %ymm2",
	"vpgatherdd %ymm2, (%rdi,%ymm1,4), %ymm0", "", {{ A, R }}, .avx2 = true)
ROW(vpgatherqq, "sub %rdi, %rsi; vmovq %rsi, %xmm1; vpcmpeqd %xmm2, %xmm2, %xmm2",
	"vpgatherqq %xmm2, (%rdi,%xmm1), %xmm0", "", {{ B, R }, { A, R }}, .avx2 = true)
ROW(vpgatherdq, "mov $-2, %eax; vmovd %eax, %xmm1; vpcmpeqd %xmm2, %xmm2, %xmm2; "
	"vpsrldq $8, %xmm2, %xmm2", "vpgatherdq %xmm2, 16(%rdi,%xmm1,8), %xmm0", "",
	{{ A, R }}, .avx2 = true)

/* two ways to the same memory */
ROW(alias, "bts $41, %rdi; btr $40, %rdi", "mov (%rdi), %rax", "",
	{{ A + ALIAS, R }})
ROW(alias_low, "mov $0x70003340, %edi", "mov %eax, (%rdi)", "",
	{{ A + LOW, W }})
ROW(alias_movs, "mov %rdi, %rsi; bts $41, %rdi; btr $40, %rdi",
	"movsq", "", {{ A, R }, { A + ALIAS, W }})
ROW(alias_cmps, "mov %rdi, %rsi; bts $41, %rdi; btr $40, %rdi",
	"cmpsq", "", {{ A, R }, { A + ALIAS, R }}, .open = true)
ROW(alias_cmps_near, "lea 1(%rdi), %rsi; bts $41, %rdi; "
	"btr $40, %rdi", "cmpsb", "",
	{{ A + 1, R }, { A + ALIAS, R }})
ROW(alias_same, "mov %rdi, %rsi", "cmpsq", "", {{ A, R }})
ROW(alias_push, "mov %rsp, %r8; lea 8(%rdi), %rsp; mov %rdi, %rsi; "
	"bts $41, %rsi; btr $40, %rsi", "push (%rsi)",
	"mov %r8, %rsp", {{ A + ALIAS, R }, { A, W }})

/* Where it enters the second page, the first is not restricted */
ROW(cross_load, "movabs $0x10000004ffc, %rdi", "mov (%rdi), %rax",
	"", {{ CROSSING + 4, R }})
ROW(cross_store, "movabs $0x20000004ffc, %rdi",
	"movups %xmm0, (%rdi)", "", {{ CROSSING + ALIAS + 4, W }})
ROW(cross_push, "mov %rsp, %r8; movabs $0x10000005004, %rsp",
	"push %rdx", "mov %r8, %rsp", {{ CROSSING + 4, W }})

ROW32(load32, "mov $0x70003340, %ebx", "mov (%ebx), %eax",
	{{ A + LOW, R }})
ROW32(disp32_32, "", "mov %al, 0x70003340", {{ A + LOW, W }})
ROW32(modrm32, "", "addl $1, 0x70003340", {{ A + LOW, RW }})
ROW32(index32, "mov $0x38000000, %ecx; mov $-4, %eax",
	"mov 0x3344(%eax,%ecx,2), %dx", {{ A + LOW, R }})
ROW32(push32, "mov $0x70003344, %esp", "push %edx",
	{{ A + LOW, W }})
ROW32(pop32, "mov $0x70003340, %esp", "pop %edx",
	{{ A + LOW, R }})
ROW32(movs32, "mov $0x70003340, %esi; mov $0x70006540, %edi",
	"movsb", {{ A + LOW, R }, { B + LOW, W }})
ROW32(inc32, "mov $0x70003340, %edi", "incl (%edi)",
	{{ A + LOW, RW }})
