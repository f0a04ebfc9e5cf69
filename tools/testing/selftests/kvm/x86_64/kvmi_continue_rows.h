/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * KVM introspection: the instructions that are answered with CONTINUE.
 *
 *	ROW(name, "code", fields of struct row)
 *
 * The file is included twice, see kvmi_continue_test.c: for the code, and for
 * the table.  The fields are explained there, at struct row.
 *
 * In the code, %rdi points to operand A and %rsi to operand B, %rsp to the
 * stack.  See init_regs() for the other registers.
 */

/* ---- MOV and its relatives ---- */

#define FS_BASE(base)	"mov $0xc0000100, %ecx; mov $" base ", %eax; xor %edx, %edx; wrmsr; "
#define LAST_SEG	"lets the last prefix for a segment count"

ROW(movb_load, "movb (%rdi), %al", .a = R)
ROW(movb_load_high, "movb (%rdi), %ch", .a = R)
ROW(movw_load, "movw (%rdi), %ax", .a = R)
ROW(movl_load, "movl (%rdi), %eax", .a = R)
ROW(movq_load, "movq (%rdi), %rax", .a = R)
ROW(movb_store, "movb %al, (%rdi)", .a = W)
ROW(movb_store_high, "movb %bh, (%rdi)", .a = W)
ROW(movw_store, "movw %ax, (%rdi)", .a = W)
ROW(movl_store, "movl %eax, (%rdi)", .a = W)
ROW(movq_store, "movq %rax, (%rdi)", .a = W)
ROW(movb_imm, "movb $0x12, (%rdi)", .a = W)
ROW(movw_imm, "movw $0x1234, (%rdi)", .a = W)
ROW(movl_imm, "movl $0x12345678, (%rdi)", .a = W)
ROW(movq_imm, "movq $-0x12345678, (%rdi)", .a = W)
ROW(movzbw, "movzbw (%rdi), %ax", .a = R)
ROW(movzbl, "movzbl (%rdi), %eax", .a = R)
ROW(movzwq, "movzwq (%rdi), %rax", .a = R)
ROW(movsbw, "movsbw (%rdi), %ax", .a = R)
ROW(movsbq, "movsbq (%rdi), %rax", .a = R)
ROW(movswl, "movswl (%rdi), %eax", .a = R)
ROW(movslq, "movslq (%rdi), %rax", .a = R)
ROW(moffs_loadb, "movabsb " A_ADDR ", %al", .a = R)
ROW(moffs_loadl, "movabsl " A_ADDR ", %eax", .a = R)
ROW(moffs_loadq, "movabsq " A_ADDR ", %rax", .a = R)
ROW(moffs_storeb, "movabsb %al, " A_ADDR, .a = W)
ROW(moffs_storew, "movabsw %ax, " A_ADDR, .a = W)
ROW(moffs_storeq, "movabsq %rax, " A_ADDR, .a = W)
ROW(movbew_load, "movbew (%rdi), %ax", .a = R, .cpu = CPU_MOVBE)
ROW(movbel_load, "movbel (%rdi), %eax", .a = R, .cpu = CPU_MOVBE)
ROW(movbeq_load, "movbeq (%rdi), %rax", .a = R, .cpu = CPU_MOVBE)
ROW(movbew_store, "movbew %ax, (%rdi)", .a = W, .cpu = CPU_MOVBE)
ROW(movbel_store, "movbel %eax, (%rdi)", .a = W, .cpu = CPU_MOVBE)
ROW(movbeq_store, "movbeq %rax, (%rdi)", .a = W, .cpu = CPU_MOVBE)
ROW(movntil, "movntil %eax, (%rdi)", .a = W)
ROW(movntiq, "movntiq %rax, (%rdi)", .a = W)
ROW(movdiri, "movdiri %rax, (%rdi)", .a = W, .cpu = CPU_MOVDIRI, .native = true)
ROW(movdir64b, "movdir64b (%rsi), %rdi", .a = W, .b = R, .cpu = CPU_MOVDIR64B, .native = true)
ROW(mov_sreg_store, "movw %ds, (%rdi)", .a = W)
ROW(mov_sreg_load, "movw (%rdi), %es", .a = R, .val_size = 2, .sregs = true)
ROW(mov_index, "movq -16(%rdi,%rcx,4), %rax", .a = R, .a_delta = 4)
ROW(mov_gs, "movq %gs:(%rdi), %rax", .a = R)
/* The last prefix is for DS, which does not count. */
ROW(mov_fs_ds, FS_BASE("0x40") ".byte 0x64, 0x3e; movq (%rdi), %rax", .a = R, .a_delta = 0x40,
	.segment = true, .qemu = LAST_SEG, .sregs = true, .native = true, .ring = RING_0)
ROW(add_fs_ds, FS_BASE("0x40") ".byte 0x3e, 0x64, 0x2e; addq %rax, (%rdi)", .a = RW, .a_delta = 0x40,
	.segment = true, .qemu = LAST_SEG, .sregs = true, .native = true, .ring = RING_0)
ROW(movss_fs_ds, FS_BASE("0x40") ".byte 0x64, 0x36; movss (%rdi), %xmm1", .a = R, .a_delta = 0x40,
	.segment = true, .qemu = LAST_SEG, .sregs = true, .native = true, .ring = RING_0)
ROW(mov_fs_last, FS_BASE("0x40") ".byte 0x3e, 0x64; movq (%rdi), %rax", .a = R, .a_delta = 0x40,
	.sregs = true, .ring = RING_0)
ROW(xchgb, "xchgb %al, (%rdi)", .a = RW)
ROW(xchgw, "xchgw %ax, (%rdi)", .a = RW)
ROW(xchgl, "xchgl %eax, (%rdi)", .a = RW)
ROW(xchgq, "xchgq %rax, (%rdi)", .a = RW)
ROW(xchgq_lock, "lock xchgq %rax, (%rdi)", .a = RW)
ROW(xlat, "mov %rdi, %rbx; mov $3, %al; xlat", .a = R, .a_delta = 3)

/* across two pages */
ROW(movw_load_cross, "movw (%rdi), %ax", .a = R, .a1 = R, .a_off = 0xfff)
ROW(movq_load_cross, "movq (%rdi), %rax", .a = R, .a1 = R, .a_off = 0xffd)
ROW(movq_load_cross_first, "movq (%rdi), %rax", .a = R, .a_off = 0xffd)
ROW(movq_load_cross_last, "movq (%rdi), %rax", .a1 = R, .a_off = 0xffd)
ROW(movw_store_cross, "movw %ax, (%rdi)", .a = W, .a1 = W, .a_off = 0xfff)
ROW(movl_store_cross, "movl %eax, (%rdi)", .a = W, .a1 = W, .a_off = 0xffe)
ROW(movq_store_cross, "movq %rax, (%rdi)", .a = W, .a1 = W, .a_off = 0xffb)
ROW(movq_store_cross_first, "movq %rax, (%rdi)", .a = W, .a_off = 0xffb)
ROW(movq_store_cross_last, "movq %rax, (%rdi)", .a1 = W, .a_off = 0xffb)
ROW(addq_cross, "addq %rax, (%rdi)", .a = RW, .a1 = RW, .a_off = 0xffc)
ROW(xaddq_lock_cross, "lock xaddq %rax, (%rdi)", .a = RW, .a1 = RW, .a_off = 0xffc)

/* ---- the stack ---- */

ROW(push, "push %rbx", .s = W)
ROW(pushw, "pushw %bx", .s = W)
ROW(push_imm8, "push $-5", .s = W)
ROW(push_imm32, "push $-0x12345678", .s = W)
ROW(pushw_imm, "pushw $0x1234", .s = W)
ROW(push_rsp, "push %rsp", .s = W)
ROW(push_fs, "push %fs", .s = W)
ROW(push_mem, "pushq (%rdi)", .a = R, .s = W)
ROW(pushw_mem, "pushw (%rdi)", .a = R, .s = W)
ROW(push_mem_of_stack, "pushq 16(%rsp)", .s = RW)
ROW(push_cross, "push %rbx", .s = W, .s1 = W, .s_off = 0x1004)
ROW(pop, "pop %rbx", .s = R)
ROW(popw, "popw %bx", .s = R)
ROW(pop_rsp, "pop %rsp", .s = R)
ROW(pop_mem, "popq (%rdi)", .a = W, .s = R)
ROW(popw_mem, "popw (%rdi)", .a = W, .s = R)
ROW(pop_mem_of_stack, "popq 16(%rsp)", .s = RW)
ROW(pop_cross, "pop %rbx", .s = R, .s1 = R, .s_off = 0xffc)
ROW(pop_fs, "pop %fs", .s = R, .prep = prep_stack_null, .sregs = true)
ROW(pushf, "stc; pushfq", .s = W)
ROW(pushfw, "pushfw", .s = W)
ROW(popf, "popfq", .s = R, .prep = prep_stack_flags)
ROW(popfw, "popfw", .s = R, .prep = prep_stack_flags)
ROW(enter, "enter $32, $0", .s = W)
ROW(enter_1, "enter $32, $1", .s = W, .native = true)
/* Without write-only pages, reading goes along with writing: no event for it. */
ROW(enter_3, "enter $32, $3", .s = RW, .lax = true, .native = true)
ROW(leave, "leave", .s = R)
ROW(call, "call 1f; 1: nop", .s = W)
ROW(call_reg, "lea 1f(%rip), %rax; call *%rax; nop; 1: nop", .s = W)
ROW(call_mem, "call *(%rdi)", .a = R, .s = W, .prep = prep_a_end)
ROW(jmp_mem, "jmp *(%rdi)", .a = R, .prep = prep_a_end)
ROW(ret, "ret", .s = R, .prep = prep_stack_end)
ROW(ret_imm, "ret $16", .s = R, .prep = prep_stack_end)
ROW(call_cross, "call 1f; 1: nop", .s = W, .s1 = W, .s_off = 0x1004)

/* ---- far transfers ---- */

ROW(ljmp_mem, "ljmp *(%rdi)", .a = R, .prep = prep_a_far, .len = 6, .ring = RING_0)
ROW(lcall_mem, "lcall *(%rdi)", .a = R, .s = W, .prep = prep_a_far, .len = 6,
	.qemu = "has 32 bits of RSP only", .ring = RING_0)
ROW(lret, "lret", .s = R, .prep = prep_stack_far32, .qemu = "has 32 bits of RSP only",
	.ring = RING_0)
ROW(lretq, "lretq", .s = R, .prep = prep_stack_far)
ROW(lretq_imm, "lretq $8", .s = R, .prep = prep_stack_far)
ROW(iretq, "iretq", .s = R, .prep = prep_stack_iret, .native = true)
ROW(ljmp_gdt, "ljmp *(%rdi)", .g = R, .prep = prep_a_far, .len = 6, .ring = RING_0)
ROW(lcall_gdt, "lcall *(%rdi)", .g = R, .prep = prep_a_far, .len = 6,
	.qemu = "has 32 bits of RSP only", .ring = RING_0)
ROW(lretq_gdt, "lretq", .g = R, .prep = prep_stack_far)
ROW(iretq_gdt, "iretq", .s = R, .g = R, .prep = prep_stack_iret, .native = true)
ROW(iretq_gdt_accessed, "iretq", .s = R, .g = RW, .prep = prep_stack_iret_new, .native = true,
	.sregs = true, .qemu = "does not set the accessed bit", .ring = RING_0)
ROW(lcall_gate, "lcall *(%rdi)", .a = R, .s = W, .g = R, .prep = prep_a_gate, .len = 6,
	.native = true, .ring = RING_0)
ROW(int_n, "int $0x80", .c = X, .fault = FAULT(0x80), .native = true)

/* ---- segments and tables ---- */

ROW(mov_ds, "mov $0x10, %eax; mov %eax, %ds", .g = R, .ring = RING_0)
ROW(mov_ss, "mov $0x10, %eax; mov %eax, %ss", .g = R, .shadow = true,
	.ring = RING_0)
ROW(mov_ds_accessed, "mov $" SEL_DATA_NEW ", %eax; mov %eax, %ds", .g = RW, .sregs = true,
	.ring = RING_0)
ROW(mov_fs_accessed, "mov $" SEL_DATA_NEW ", %eax; mov %eax, %fs", .g = RW, .sregs = true,
	.ring = RING_0)
ROW(mov_ds_mem, "movw (%rdi), %ds", .a = R, .g = R, .val = 0x10, .val_size = 2, .ring = RING_0)
ROW(pop_gs_gdt, "pushq $0x10; pop %gs", .g = R, .ring = RING_0)
ROW(lfsl, "lfsl (%rdi), %eax", .a = R, .g = R, .prep = prep_a_fs, .len = 6, .sregs = true)
ROW(lgsl, "lgsl (%rdi), %eax", .a = R, .prep = prep_a_fs, .len = 6, .sregs = true)
ROW(lssl, "lssl (%rdi), %eax", .a = R, .g = R, .prep = prep_a_fs, .len = 6, .sregs = true)
ROW(mov_ss_mem, "movw (%rdi), %ss", .a = R, .g = R, .val = 0x10, .val_size = 2, .shadow = true,
	.ring = RING_0)
ROW(mov_ss_accessed, "mov $" SEL_DATA_NEW ", %eax; mov %eax, %ss", .g = RW, .sregs = true,
	.shadow = true, .ring = RING_0)
ROW(mov_ss_null, "movw (%rdi), %ss", .a = R, .val_size = 2, .sregs = true, .shadow = true,
	.ring = RING_0)
ROW(mov_ss_code, "mov $0x10, %eax; mov %eax, %ss; mov %eax, %ecx", .c = X, .ring = RING_0)
ROW(ltr, "mov $" SEL_TSS_NEW ", %eax; ltr %ax", .g = RW, .sregs = true, .ring = RING_0)
ROW(lldt, "mov $" SEL_LDT ", %eax; lldt %ax", .g = R, .sregs = true, .ring = RING_0)
ROW(lldt_mem, "lldt (%rdi)", .a = R, .val_size = 2, .sregs = true, .ring = RING_0)
ROW(lar, "mov $0x10, %ecx; lar %ecx, %eax", .g = R, .native = true)
ROW(lsl, "mov $0x10, %ecx; lsl %ecx, %eax", .g = R, .native = true)
ROW(lar_mem, "lar (%rdi), %eax", .a = R, .g = R, .val = 0x10, .val_size = 2, .native = true)
ROW(verr_mem, "verr (%rdi)", .a = R, .g = R, .val = 0x10, .val_size = 2, .native = true)
ROW(verw, "mov $0x10, %ecx; verw %cx", .g = R, .native = true)
ROW(sgdt, "sgdt (%rdi)", .a = W, .len = 10)
ROW(sidt, "sidt (%rdi)", .a = W, .len = 10)
ROW(sgdt_cross, "sgdt (%rdi)", .a = W, .a1 = W, .a_off = 0xffc, .len = 10)
ROW(lgdt, "lgdt (%rdi)", .a = R, .prep = prep_a_gdtr, .len = 10, .ring = RING_0)
ROW(lidt, "lidt (%rdi)", .a = R, .prep = prep_a_idtr, .len = 10, .ring = RING_0)
ROW(str, "str (%rdi)", .a = W)
ROW(sldt, "sldt (%rdi)", .a = W)
ROW(smsw, "smsw (%rdi)", .a = W)
ROW(lmsw, "lmsw (%rdi)", .a = R, .prep = prep_a_msw, .ring = RING_0)

/* ---- strings ---- */

ROW(movsb, "movsb", .a = W, .b = R)
ROW(movsw, "movsw", .a = W, .b = R)
ROW(movsl, "movsl", .a = W, .b = R)
ROW(movsq, "movsq", .a = W, .b = R)
ROW(movsq_down, "std; movsq", .a = W, .b = R)
ROW(movsq_cross, "movsq", .a = W, .a1 = W, .b = R, .b1 = R, .a_off = 0xffd, .b_off = 0xffa)
ROW(movsq_same, "lea 64(%rdi), %rsi; movsq", .a = RW, .len = 72)
ROW(rep_movsb, "mov $33, %ecx; rep movsb", .a = W, .b = R)
ROW(rep_movsw, "mov $17, %ecx; rep movsw", .a = W, .b = R)
ROW(rep_movsl, "mov $17, %ecx; rep movsl", .a = W, .b = R)
ROW(rep_movsq, "mov $17, %ecx; rep movsq", .a = W, .b = R)
ROW(rep_movsb_down, "mov $33, %ecx; std; rep movsb", .a = W, .b = R)
ROW(rep_movsb_cross, "mov $48, %ecx; rep movsb", .a = W, .a1 = W, .b = R, .b1 = R,
	.a_off = 0xff0, .b_off = 0xfe8)
ROW(rep_movsq_cross, "mov $9, %ecx; rep movsq", .a = W, .a1 = W, .b = R, .b1 = R,
	.a_off = 0xff5, .b_off = 0xfe3)
ROW(rep_movsq_cross_down, "mov $9, %ecx; std; rep movsq", .a = W, .a1 = W, .b = R, .b1 = R,
	.a_off = 0x1014, .b_off = 0x1020, .len = 128)
ROW(rep_movsb_overlap, "lea 1(%rdi), %rsi; xchg %rsi, %rdi; mov $20, %ecx; rep movsb", .a = RW,
	.len = 32)
ROW(rep_movsb_none, "xor %ecx, %ecx; rep movsb", .a = W, .b = R, .quiet = true)
ROW(rep_movsb_ecx, "mov $5, %ecx; bts $40, %rcx; mov $7, %ecx; rep movsb", .a = W, .b = R)
ROW(stosb, "stosb", .a = W)
ROW(stosw, "stosw", .a = W)
ROW(stosl_down, "std; stosl", .a = W)
ROW(stosq, "stosq", .a = W)
ROW(rep_stosb, "mov $100, %ecx; rep stosb", .a = W)
ROW(rep_stosq, "mov $20, %ecx; rep stosq", .a = W)
ROW(rep_stosq_cross, "mov $20, %ecx; rep stosq", .a = W, .a1 = W, .a_off = 0xfb3)
ROW(rep_stosl_cross_down, "mov $20, %ecx; std; rep stosl", .a = W, .a1 = W, .a_off = 0x1010,
	.len = 128)
ROW(lodsb, "lodsb", .b = R)
ROW(lodsw, "lodsw", .b = R)
ROW(lodsl, "lodsl", .b = R)
ROW(lodsq_down, "std; lodsq", .b = R)
ROW(rep_lodsb, "mov $9, %ecx; rep lodsb", .b = R)
ROW(rep_lodsw_cross, "mov $9, %ecx; rep lodsw", .b = R, .b1 = R, .b_off = 0xff7)
ROW(cmpsb, "cmpsb", .a = R, .b = R)
ROW(cmpsw, "cmpsw", .a = R, .b = R)
ROW(cmpsq_down, "std; cmpsq", .a = R, .b = R)
ROW(repe_cmpsb, "mov $40, %ecx; repe cmpsb", .a = R, .b = R, .prep = prep_alike)
ROW(repe_cmpsl_all, "mov $5, %ecx; repe cmpsl", .a = R, .b = R, .prep = prep_alike)
ROW(repne_cmpsb, "mov $40, %ecx; repne cmpsb", .a = R, .b = R)
ROW(repe_cmpsb_cross, "mov $40, %ecx; repe cmpsb", .a = R, .a1 = R, .b = R, .b1 = R,
	.a_off = 0xff3, .b_off = 0xff5, .prep = prep_alike)
ROW(scasb, "scasb", .a = R)
ROW(scasl, "scasl", .a = R)
ROW(scasq_down, "std; scasq", .a = R)
ROW(repne_scasb, "mov $60, %ecx; xor %eax, %eax; repne scasb", .a = R)
ROW(repne_scasb_cross, "mov $60, %ecx; mov $0x3ff, %eax; repne scasb", .a = R, .a1 = R,
	.a_off = 0xfe0)
ROW(repe_scasw, "mov $60, %ecx; repe scasw", .a = R)

/* ---- arithmetic and logic ---- */

ROW(addb, "addb %al, (%rdi)", .a = RW)
ROW(addw, "addw %ax, (%rdi)", .a = RW)
ROW(addl, "addl %eax, (%rdi)", .a = RW)
ROW(addq, "addq %rax, (%rdi)", .a = RW)
ROW(addq_load, "addq (%rdi), %rax", .a = R)
ROW(addl_imm8, "addl $-3, (%rdi)", .a = RW)
ROW(addq_imm32, "addq $-0x12345678, (%rdi)", .a = RW)
ROW(addq_lock, "lock addq %rax, (%rdi)", .a = RW)
ROW(orb_lock, "lock orb %al, (%rdi)", .a = RW)
ROW(orl_load, "orl (%rdi), %eax", .a = R)
ROW(adcl, "adcl %eax, (%rdi)", .a = RW)
ROW(adcq_load, "adcq (%rdi), %rax", .a = R)
ROW(adcb_lock, "lock adcb $0x7f, (%rdi)", .a = RW)
ROW(sbbw, "sbbw %ax, (%rdi)", .a = RW)
ROW(sbbl_load, "sbbl (%rdi), %eax", .a = R)
ROW(sbbq_lock, "lock sbbq %rax, (%rdi)", .a = RW)
ROW(andw_lock, "lock andw $0x0ff0, (%rdi)", .a = RW)
ROW(andq, "andq %rax, (%rdi)", .a = RW)
ROW(subl_lock, "lock subl %eax, (%rdi)", .a = RW)
ROW(subq_load, "subq (%rdi), %rax", .a = R)
ROW(xorq_lock, "lock xorq %rax, (%rdi)", .a = RW)
ROW(xorb, "xorb $0xff, (%rdi)", .a = RW)
ROW(cmpb, "cmpb %al, (%rdi)", .a = R)
ROW(cmpq_load, "cmpq (%rdi), %rax", .a = R)
ROW(cmpl_imm, "cmpl $0x12345678, (%rdi)", .a = R)
ROW(testb, "testb %al, (%rdi)", .a = R)
ROW(testl_imm, "testl $0x12345678, (%rdi)", .a = R)
ROW(testq, "testq %rax, (%rdi)", .a = R)
ROW(incb, "incb (%rdi)", .a = RW)
ROW(incq_lock, "lock incq (%rdi)", .a = RW)
ROW(decw, "decw (%rdi)", .a = RW)
ROW(decl_lock, "lock decl (%rdi)", .a = RW)
ROW(negl, "negl (%rdi)", .a = RW)
ROW(negq_lock, "lock negq (%rdi)", .a = RW)
ROW(notb, "notb (%rdi)", .a = RW)
ROW(notq_lock, "lock notq (%rdi)", .a = RW)
ROW(shlb_1, "shlb (%rdi)", .a = RW)
ROW(shlq_cl, "shlq %cl, (%rdi)", .a = RW)
ROW(shll_cl_0, "xor %ecx, %ecx; shll %cl, (%rdi)", .a = RW)
ROW(shrw_imm, "shrw $3, (%rdi)", .a = RW)
ROW(shrq_imm, "shrq $61, (%rdi)", .a = RW)
ROW(sarl_cl, "sarl %cl, (%rdi)", .a = RW)
ROW(sarb_1, "sarb (%rdi)", .a = RW)
ROW(rolb_cl, "rolb %cl, (%rdi)", .a = RW)
ROW(rolq_1, "rolq (%rdi)", .a = RW)
ROW(rorl_imm, "rorl $7, (%rdi)", .a = RW)
ROW(rclw_1, "rclw (%rdi)", .a = RW, .qemu = "changes CF before the store")
ROW(rclq_cl, "rclq %cl, (%rdi)", .a = RW, .qemu = "changes CF before the store")
ROW(rcrb_imm, "rcrb $3, (%rdi)", .a = RW, .qemu = "changes CF before the store")
ROW(rcrl_1, "rcrl (%rdi)", .a = RW, .qemu = "changes CF before the store")
ROW(shldw_imm, "shldw $5, %ax, (%rdi)", .a = RW)
ROW(shldq_cl, "shldq %cl, %rax, (%rdi)", .a = RW)
ROW(shrdl_cl, "shrdl %cl, %eax, (%rdi)", .a = RW)
ROW(shrdq_imm, "shrdq $44, %rax, (%rdi)", .a = RW)
ROW(mulb, "mulb (%rdi)", .a = R)
ROW(mulw, "mulw (%rdi)", .a = R)
ROW(mull, "mull (%rdi)", .a = R)
ROW(mulq, "mulq (%rdi)", .a = R)
ROW(imulb, "imulb (%rdi)", .a = R)
ROW(imulq, "imulq (%rdi)", .a = R)
ROW(imull_2, "imull (%rdi), %eax", .a = R)
ROW(imulq_2, "imulq (%rdi), %rax", .a = R)
ROW(imulw_3, "imulw $0x123, (%rdi), %ax", .a = R)
ROW(imulq_3, "imulq $-7, (%rdi), %rax", .a = R)
ROW(divb, "movw $0x1234, %ax; divb (%rdi)", .a = R, .val = 0x77, .val_size = 1)
ROW(divl, "mov $3, %edx; divl (%rdi)", .a = R, .val = 0x12345, .val_size = 4)
ROW(divq, "mov $3, %edx; divq (%rdi)", .a = R, .val = 0x123456789ab, .val_size = 8)
ROW(idivw, "mov $-1, %edx; idivw (%rdi)", .a = R, .val = 0xff77, .val_size = 2)
ROW(idivq, "cqto; idivq (%rdi)", .a = R, .val = -12345, .val_size = 8)
ROW(setc, "setc (%rdi)", .a = W)
ROW(setg, "setg (%rdi)", .a = W)
ROW(setnp, "setnp (%rdi)", .a = W)
ROW(cmovc, "cmovcq (%rdi), %rax", .a = R)
ROW(cmovnzl, "cmovnzl (%rdi), %eax", .a = R)
ROW(cmovsw, "cmovsw (%rdi), %ax", .a = R)
ROW(cmovlel, "cmovlel (%rdi), %eax", .a = R)

/* ---- compare and exchange ---- */

ROW(cmpxchgb, "mov $0x5a, %al; cmpxchgb %dl, (%rdi)", .a = RW, .val = 0x5a, .val_size = 1)
ROW(cmpxchgw_ne, "cmpxchgw %dx, (%rdi)", .a = RW)
ROW(cmpxchgl, "mov $0x12345678, %eax; cmpxchgl %edx, (%rdi)", .a = RW, .val = 0x12345678,
	.val_size = 4)
ROW(cmpxchgl_ne, "cmpxchgl %edx, (%rdi)", .a = RW)
ROW(cmpxchgq_lock, "mov $0x12345678, %eax; lock cmpxchgq %rdx, (%rdi)", .a = RW,
	.val = 0x12345678, .val_size = 8)
ROW(cmpxchgq_lock_ne, "lock cmpxchgq %rdx, (%rdi)", .a = RW)
ROW(cmpxchgq_lock_cross, "mov $0x12345678, %eax; lock cmpxchgq %rdx, (%rdi)", .a = RW, .a1 = RW,
	.a_off = 0xffc, .val = 0x12345678, .val_size = 8)
ROW(cmpxchg8b, "mov $0x12345678, %eax; mov $0, %edx; cmpxchg8b (%rdi)", .a = RW,
	.val = 0x12345678, .val_size = 8)
ROW(cmpxchg8b_ne, "cmpxchg8b (%rdi)", .a = RW)
ROW(cmpxchg8b_lock, "mov $0x12345678, %eax; mov $0, %edx; lock cmpxchg8b (%rdi)", .a = RW,
	.val = 0x12345678, .val_size = 8)
ROW(cmpxchg16b, "mov $0x12345678, %eax; mov $0, %edx; cmpxchg16b (%rdi)", .a = RW,
	.val = 0x12345678, .val_size = 16, .cpu = CPU_CX16, .native = true)
ROW(cmpxchg16b_ne, "cmpxchg16b (%rdi)", .a = RW, .cpu = CPU_CX16, .native = true)
ROW(cmpxchg16b_lock, "mov $0x12345678, %eax; mov $0, %edx; lock cmpxchg16b (%rdi)", .a = RW,
	.val = 0x12345678, .val_size = 16, .cpu = CPU_CX16, .native = true)
ROW(xaddb, "xaddb %al, (%rdi)", .a = RW)
ROW(xaddw_lock, "lock xaddw %ax, (%rdi)", .a = RW)
ROW(xaddl, "xaddl %eax, (%rdi)", .a = RW)
ROW(xaddq_lock, "lock xaddq %rax, (%rdi)", .a = RW)

/* ---- bits ---- */

ROW(btl_imm, "btl $5, (%rdi)", .a = R)
ROW(btq_reg, "mov $1000, %eax; btq %rax, (%rdi)", .a = R, .a_delta = 120)
ROW(btw_reg, "mov $-100, %eax; btw %ax, (%rdi)", .a = R, .a_delta = -14)
ROW(btsl_imm_lock, "lock btsl $30, (%rdi)", .a = RW)
ROW(btsq_reg, "mov $-17, %rax; btsq %rax, (%rdi)", .a = RW, .a_delta = -8)
ROW(btsl_reg_lock, "mov $333, %eax; lock btsl %eax, (%rdi)", .a = RW, .a_delta = 40)
ROW(btrq_imm, "btrq $44, (%rdi)", .a = RW)
ROW(btrw_reg_lock, "mov $77, %eax; lock btrw %ax, (%rdi)", .a = RW, .a_delta = 8)
ROW(btcl_imm, "btcl $3, (%rdi)", .a = RW)
ROW(btcq_reg_lock, "mov $-200, %rax; lock btcq %rax, (%rdi)", .a = RW, .a_delta = -32)
ROW(btcq_reg_other_page, "mov $0x8000, %eax; btcq %rax, (%rdi)", .a1 = RW, .a_off = 8,
	.a_delta = 0x1000)
ROW(bsfq, "bsfq (%rdi), %rax", .a = R)
ROW(bsfq_zero, "bsfq (%rdi), %rax", .a = R, .val_size = 8)
ROW(bsrl, "bsrl (%rdi), %eax", .a = R)
ROW(popcntq, "popcntq (%rdi), %rax", .a = R, .cpu = CPU_POPCNT, .native = true)
ROW(tzcntl, "tzcntl (%rdi), %eax", .a = R, .cpu = CPU_BMI1, .native = true)
ROW(tzcntq_zero, "tzcntq (%rdi), %rax", .a = R, .val_size = 8, .cpu = CPU_BMI1, .native = true)
ROW(lzcntl, "lzcntl (%rdi), %eax", .a = R, .cpu = CPU_LZCNT, .native = true)
ROW(lzcntq_zero, "lzcntq (%rdi), %rax", .a = R, .val_size = 8, .cpu = CPU_LZCNT, .native = true)
ROW(crc32b, "crc32b (%rdi), %eax", .a = R, .cpu = CPU_SSE4_2, .native = true)
ROW(crc32q, "crc32q (%rdi), %rax", .a = R, .cpu = CPU_SSE4_2, .native = true)
ROW(adcxq, "adcxq (%rdi), %rax", .a = R, .cpu = CPU_ADX, .native = true)
ROW(adoxl, "adoxl (%rdi), %eax", .a = R, .cpu = CPU_ADX, .native = true)
ROW(andnq, "andnq (%rdi), %rax, %rdx", .a = R, .cpu = CPU_BMI1, .native = true)
ROW(bextrl, "bextrl %ecx, (%rdi), %eax", .a = R, .cpu = CPU_BMI1, .native = true)
ROW(mulxq, "mulxq (%rdi), %rax, %rbx", .a = R, .cpu = CPU_BMI2, .native = true)
ROW(pdepq, "pdepq (%rdi), %rax, %rbx", .a = R, .cpu = CPU_BMI2, .native = true)
ROW(rorxl, "rorxl $5, (%rdi), %eax", .a = R, .cpu = CPU_BMI2, .native = true)
ROW(sarxq, "sarxq %rcx, (%rdi), %rax", .a = R, .cpu = CPU_BMI2, .native = true)

/* ---- no access, or hardly one ---- */

ROW(lea, "leaq 8(%rdi,%rcx,8), %rax", .a = RW, .quiet = true)
ROW(nopl, "nopl (%rdi)", .a = RW, .quiet = true)
ROW(prefetcht0, "prefetcht0 (%rdi)", .a = R, .quiet = true)
ROW(prefetchnta, "prefetchnta (%rdi)", .a = R, .quiet = true)
ROW(prefetchw, "prefetchw (%rdi)", .a = RW, .quiet = true)
ROW(clflush, "clflush (%rdi)", .a = R, .lax = true)
ROW(clflushopt, "clflushopt (%rdi)", .a = R, .lax = true, .cpu = CPU_CLFLUSHOPT)
ROW(clwb, "clwb (%rdi)", .a = R, .lax = true, .cpu = CPU_CLWB, .native = true)
ROW(invlpg, "invlpg (%rdi)", .a = RW, .quiet = true, .ring = RING_0)

/* ---- MMX and SSE ---- */

ROW(movq_mm_load, "movq (%rdi), %mm1", .a = R)
ROW(movq_mm_store, "movq %mm1, (%rdi)", .a = W)
ROW(movntq, "movntq %mm1, (%rdi)", .a = W, .native = true)
ROW(paddw_mm, "paddw (%rdi), %mm1", .a = R, .native = true)
ROW(maskmovq, "pcmpeqb %mm2, %mm2; maskmovq %mm2, %mm1", .a = W, .native = true)
ROW(movaps_load, "movaps (%rdi), %xmm1", .a = R)
ROW(movaps_store, "movaps %xmm1, (%rdi)", .a = W)
ROW(movapd_load, "movapd (%rdi), %xmm9", .a = R)
ROW(movups_load, "movups 1(%rdi), %xmm1", .a = R, .a_delta = 1)
ROW(movups_store, "movups %xmm1, 1(%rdi)", .a = W, .a_delta = 1)
ROW(movupd_store, "movupd %xmm10, (%rdi)", .a = W)
ROW(movups_load_cross, "movups (%rdi), %xmm1", .a = R, .a1 = R, .a_off = 0xff9)
ROW(movups_store_cross, "movups %xmm1, (%rdi)", .a = W, .a1 = W, .a_off = 0xff9)
ROW(movdqa_load, "movdqa (%rdi), %xmm1", .a = R)
ROW(movdqa_store, "movdqa %xmm1, (%rdi)", .a = W)
ROW(movdqu_load, "movdqu 3(%rdi), %xmm1", .a = R, .a_delta = 3)
ROW(movdqu_store, "movdqu %xmm1, 3(%rdi)", .a = W, .a_delta = 3)
ROW(movntdq, "movntdq %xmm1, (%rdi)", .a = W)
ROW(movntps, "movntps %xmm1, (%rdi)", .a = W)
ROW(movntpd, "movntpd %xmm1, (%rdi)", .a = W)
ROW(movntdqa, "movntdqa (%rdi), %xmm1", .a = R, .cpu = CPU_SSE4_1, .native = true)
ROW(lddqu, "lddqu (%rdi), %xmm1", .a = R, .cpu = CPU_SSE3, .native = true)
ROW(movss_load, "movss (%rdi), %xmm1", .a = R, .native = true)
ROW(movss_store, "movss %xmm1, (%rdi)", .a = W, .native = true)
ROW(movsd_load, "movsd (%rdi), %xmm1", .a = R, .native = true)
ROW(movsd_store, "movsd %xmm1, (%rdi)", .a = W, .native = true)
ROW(movlps_store, "movlps %xmm1, (%rdi)", .a = W, .native = true)
ROW(movhps_load, "movhps (%rdi), %xmm1", .a = R, .native = true)
ROW(movd_load, "movd (%rdi), %xmm1", .a = R, .native = true)
ROW(movd_store, "movd %xmm1, (%rdi)", .a = W, .native = true)
ROW(movq_load_x, "movq (%rdi), %xmm1", .a = R, .native = true)
ROW(movq_store_x, "movq %xmm1, (%rdi)", .a = W, .native = true)
ROW(paddd, "paddd (%rdi), %xmm1", .a = R, .native = true)
ROW(pxor, "pxor (%rdi), %xmm1", .a = R, .native = true)
ROW(pshufd, "pshufd $0x1b, (%rdi), %xmm1", .a = R, .native = true)
ROW(pshufb, "pshufb (%rdi), %xmm1", .a = R, .cpu = CPU_SSSE3, .native = true)
ROW(palignr, "palignr $5, (%rdi), %xmm1", .a = R, .cpu = CPU_SSSE3, .native = true)
ROW(addps, "addps (%rdi), %xmm1", .a = R, .native = true)
ROW(mulpd, "mulpd (%rdi), %xmm1", .a = R, .native = true)
ROW(sqrtsd, "sqrtsd (%rdi), %xmm1", .a = R, .native = true)
ROW(cvtsi2sdl, "cvtsi2sdl (%rdi), %xmm1", .a = R, .native = true)
ROW(cvttsd2si, "cvttsd2siq (%rdi), %rax", .a = R, .native = true)
ROW(ucomisd, "ucomisd (%rdi), %xmm1", .a = R, .native = true)
ROW(pinsrw, "pinsrw $3, (%rdi), %xmm1", .a = R, .native = true)
ROW(pextrb, "pextrb $3, %xmm1, (%rdi)", .a = W, .cpu = CPU_SSE4_1, .native = true)
ROW(pextrq, "pextrq $1, %xmm1, (%rdi)", .a = W, .cpu = CPU_SSE4_1, .native = true)
ROW(insertps, "insertps $0x10, (%rdi), %xmm1", .a = R, .cpu = CPU_SSE4_1, .native = true)
ROW(pmovzxbw, "pmovzxbw (%rdi), %xmm1", .a = R, .cpu = CPU_SSE4_1, .native = true)
ROW(ptest, "ptest (%rdi), %xmm1", .a = R, .cpu = CPU_SSE4_1, .native = true)
ROW(pcmpistri, "pcmpistri $0x18, (%rdi), %xmm1", .a = R, .cpu = CPU_SSE4_2, .native = true)
ROW(pcmpestrm, "mov $9, %eax; mov $7, %edx; pcmpestrm $0x40, (%rdi), %xmm1", .a = R,
	.cpu = CPU_SSE4_2, .native = true)
ROW(maskmovdqu, "pcmpeqb %xmm2, %xmm2; maskmovdqu %xmm2, %xmm1", .a = W, .native = true)
ROW(paddd_cross, "movups (%rdi), %xmm2; paddd %xmm2, %xmm1; movups %xmm1, (%rdi)", .a = RW,
	.a1 = RW, .a_off = 0xff3)
ROW(aesenc, "aesenc (%rdi), %xmm1", .a = R, .cpu = CPU_AES, .native = true)
ROW(pclmulqdq, "pclmulqdq $0x11, (%rdi), %xmm1", .a = R, .cpu = CPU_PCLMUL, .native = true)
ROW(ldmxcsr, "ldmxcsr (%rdi)", .a = R, .val = 0x5f80, .val_size = 4, .native = true)
ROW(stmxcsr, "stmxcsr (%rdi)", .a = W, .native = true)

/* ---- AVX and what came after it ---- */

ROW(vmovdqu_load, "vmovdqu (%rdi), %ymm1", .a = R, .cpu = CPU_AVX, .native = true)
ROW(vmovdqu_store, "vmovdqu %ymm1, (%rdi)", .a = W, .cpu = CPU_AVX, .native = true)
ROW(vmovdqu_load_cross, "vmovdqu (%rdi), %ymm1", .a = R, .a1 = R, .a_off = 0xff0,
	.cpu = CPU_AVX, .native = true)
ROW(vmovdqu_store_cross, "vmovdqu %ymm1, (%rdi)", .a = W, .a1 = W, .a_off = 0xfed,
	.cpu = CPU_AVX, .native = true)
ROW(vmovaps_x, "vmovaps (%rdi), %xmm1", .a = R, .cpu = CPU_AVX, .native = true)
ROW(vmovss, "vmovss (%rdi), %xmm1", .a = R, .cpu = CPU_AVX, .native = true)
ROW(vmovntdq, "vmovntdq %ymm1, (%rdi)", .a = W, .cpu = CPU_AVX, .native = true)
ROW(vaddps, "vaddps (%rdi), %ymm1, %ymm2", .a = R, .cpu = CPU_AVX, .native = true)
ROW(vbroadcastss, "vbroadcastss (%rdi), %ymm1", .a = R, .cpu = CPU_AVX, .native = true)
ROW(vbroadcastf128, "vbroadcastf128 (%rdi), %ymm1", .a = R, .cpu = CPU_AVX, .native = true)
ROW(vinsertf128, "vinsertf128 $1, (%rdi), %ymm1, %ymm2", .a = R, .cpu = CPU_AVX, .native = true)
ROW(vextractf128, "vextractf128 $1, %ymm1, (%rdi)", .a = W, .cpu = CPU_AVX, .native = true)
ROW(vptest, "vptest (%rdi), %ymm1", .a = R, .cpu = CPU_AVX, .native = true)
ROW(vmaskmovps_load, "vmovups 8f(%rip), %ymm3; vmaskmovps (%rdi), %ymm3, %ymm1; " MASK256,
	.a = R, .len = 32, .cpu = CPU_AVX, .native = true)
ROW(vmaskmovps_store, "vmovups 8f(%rip), %ymm3; vmaskmovps %ymm1, %ymm3, (%rdi); " MASK256,
	.a = W, .len = 32, .cpu = CPU_AVX, .native = true)
ROW(vmaskmovps_none, "vxorps %ymm3, %ymm3, %ymm3; vmaskmovps %ymm1, %ymm3, (%rdi)",
	.a = W, .quiet = true, .cpu = CPU_AVX)
ROW(vcvtph2ps, "vcvtph2ps (%rdi), %ymm1", .a = R, .cpu = CPU_F16C, .native = true)
ROW(vfmadd231pd, "vfmadd231pd (%rdi), %ymm1, %ymm2", .a = R, .cpu = CPU_FMA, .native = true)
ROW(vpaddd, "vpaddd (%rdi), %ymm1, %ymm2", .a = R, .cpu = CPU_AVX2, .native = true)
ROW(vpbroadcastd, "vpbroadcastd (%rdi), %ymm1", .a = R, .cpu = CPU_AVX2, .native = true)
ROW(vinserti128, "vinserti128 $1, (%rdi), %ymm1, %ymm2", .a = R, .cpu = CPU_AVX2, .native = true)
ROW(vpmaskmovd_load, "vmovups 8f(%rip), %ymm3; vpmaskmovd (%rdi), %ymm3, %ymm1; " MASK256,
	.a = R, .len = 32, .cpu = CPU_AVX2, .native = true)
ROW(vpmaskmovq_store, "vmovups 8f(%rip), %ymm3; vpmaskmovq %ymm1, %ymm3, (%rdi); " MASK256,
	.a = W, .len = 32, .cpu = CPU_AVX2, .native = true)
ROW(vpgatherdd, "vmovups 8f(%rip), %ymm3; vpcmpeqd %ymm4, %ymm4, %ymm4; "
	"vpgatherdd %ymm4, (%rdi,%ymm3,4), %ymm1; " INDEX256,
	.a = R, .a1 = R, .b = R, .len = 8192, .cpu = CPU_AVX2, .native = true)
ROW(vpgatherqq, "vmovups 8f(%rip), %ymm3; vpcmpeqd %ymm4, %ymm4, %ymm4; "
	"vpgatherqq %ymm4, (%rdi,%ymm3,8), %ymm1; " INDEX256Q,
	.a = R, .a1 = R, .b = R, .len = 8192, .cpu = CPU_AVX2, .native = true)
ROW(vpgatherdd_none, "vpxor %ymm3, %ymm3, %ymm3; vpxor %ymm4, %ymm4, %ymm4; "
	"vpgatherdd %ymm4, (%rdi,%ymm3,4), %ymm1",
	.a = R, .quiet = true, .cpu = CPU_AVX2)
ROW(vmovdqu64_load, "vmovdqu64 (%rdi), %zmm1", .a = R, .cpu = CPU_AVX512F, .native = true)
ROW(vmovdqu64_store, "vmovdqu64 %zmm1, (%rdi)", .a = W, .cpu = CPU_AVX512F, .native = true)
ROW(vmovdqu32_mask, "vmovdqu32 %zmm1, (%rdi){%k1}", .a = W, .len = 64, .cpu = CPU_AVX512F,
	.native = true)
ROW(vpaddd_bcst, "vpaddd (%rdi){1to16}, %zmm1, %zmm2{%k1}{z}", .a = R, .cpu = CPU_AVX512F,
	.native = true)
ROW(vpscatterdd, "vpxord %zmm3, %zmm3, %zmm3; vmovups 8f(%rip), %ymm3; kxnorw %k2, %k2, %k2; "
	"vpscatterdd %zmm1, (%rdi,%zmm3,4){%k2}; " INDEX256,
	.a = W, .a1 = W, .b = W, .len = 8192, .cpu = CPU_AVX512F, .native = true)
ROW(vpgatherdd_z, "vpxord %zmm3, %zmm3, %zmm3; vmovups 8f(%rip), %ymm3; kxnorw %k2, %k2, %k2; "
	"vpgatherdd (%rdi,%zmm3,4), %zmm1{%k2}; " INDEX256,
	.a = R, .a1 = R, .b = R, .len = 8192, .cpu = CPU_AVX512F, .native = true)
ROW(vpcompressd, "vpcompressd %zmm1, (%rdi){%k1}", .a = W, .len = 64, .cpu = CPU_AVX512F,
	.native = true)
ROW(kmovw_load, "kmovw (%rdi), %k3", .a = R, .cpu = CPU_AVX512F, .native = true)
ROW(kmovw_store, "kmovw %k1, (%rdi)", .a = W, .cpu = CPU_AVX512F, .native = true)
ROW(vfmaddps_fma4, "vfmaddps %xmm3, (%rdi), %xmm1, %xmm2", .a = R, .cpu = CPU_FMA4,
	.native = true)
ROW(vprotb_xop, "vprotb $3, (%rdi), %xmm1", .a = R, .cpu = CPU_XOP, .native = true)
ROW(vphaddbw_xop, "vphaddbw (%rdi), %xmm1", .a = R, .cpu = CPU_XOP, .native = true)

/* ---- x87 ---- */

ROW(flds, "flds (%rdi)", .a = R, .native = true)
ROW(fldl, "fldl (%rdi)", .a = R, .native = true)
ROW(fldt, "fldt (%rdi)", .a = R, .len = 10, .native = true)
ROW(fsts, "fsts (%rdi)", .a = W, .native = true)
ROW(fstpl, "fstpl (%rdi)", .a = W, .native = true)
ROW(fstpt, "fstpt (%rdi)", .a = W, .len = 10, .native = true)
ROW(fstpt_cross, "fstpt (%rdi)", .a = W, .a1 = W, .a_off = 0xffb, .len = 10, .native = true)
ROW(filds, "filds (%rdi)", .a = R, .native = true)
ROW(fildll, "fildll (%rdi)", .a = R, .native = true)
ROW(fistl, "fistl (%rdi)", .a = W, .native = true)
ROW(fistpll, "fistpll (%rdi)", .a = W, .native = true)
ROW(fisttpl, "fisttpl (%rdi)", .a = W, .cpu = CPU_SSE3, .native = true)
ROW(fbstp, "fbstp (%rdi)", .a = W, .len = 10, .native = true)
ROW(fadds, "fadds (%rdi)", .a = R, .native = true)
ROW(fmull, "fmull (%rdi)", .a = R, .native = true)
ROW(ficoml, "ficoml (%rdi)", .a = R, .native = true)
ROW(fnstcw, "fnstcw (%rdi)", .a = W)
ROW(fldcw, "fldcw (%rdi)", .a = R, .val = 0x27f, .val_size = 2, .native = true)
ROW(fnstsw, "fnstsw (%rdi)", .a = W)
ROW(fnstenv, "fnstenv (%rdi)", .a = W, .len = 28, .native = true)
ROW(fldenv, "fldenv (%rdi)", .a = R, .len = 28, .prep = prep_a_fenv, .native = true)
ROW(fnsave, "fnsave (%rdi)", .a = W, .len = 108, .native = true)
ROW(frstor, "frstor (%rdi)", .a = R, .len = 108, .prep = prep_a_fenv, .native = true)

/* ---- whole states ---- */

ROW(fxsave, "fxsave (%rdi)", .a = W, .len = 512, .native = true)
ROW(fxsave64, "fxsave64 (%rdi)", .a = W, .len = 512, .native = true)
ROW(fxsave64_cross, "fxsave64 (%rdi)", .a = W, .a1 = W, .a_off = 0xf80, .len = 512, .native = true)
ROW(fxrstor, "fxrstor (%rdi)", .a = R, .len = 512, .prep = prep_a_xstate, .native = true)
ROW(fxrstor64, "fxrstor64 (%rdi)", .a = R, .len = 512, .prep = prep_a_xstate, .native = true)
ROW(fxrstor64_cross, "fxrstor64 (%rdi)", .a = R, .a1 = R, .a_off = 0xf80, .len = 512,
	.prep = prep_a_xstate, .native = true)
ROW(xsave, "mov $7, %eax; xor %edx, %edx; xsave (%rdi)", .a = RW, .lax = true, .len = 1024,
	.prep = prep_a_zero, .cpu = CPU_XSAVE, .native = true)
ROW(xsave64_cross, "mov $7, %eax; xor %edx, %edx; xsave64 (%rdi)", .a = RW, .a1 = RW,
	.lax = true, .a_off = 0xe80, .len = 1024, .prep = prep_a_zero, .cpu = CPU_XSAVE,
	.native = true)
ROW(xsaveopt, "mov $3, %eax; xor %edx, %edx; xsaveopt64 (%rdi)", .a = RW, .lax = true,
	.len = 1024, .prep = prep_a_zero, .cpu = CPU_XSAVEOPT, .native = true)
ROW(xsavec, "mov $7, %eax; xor %edx, %edx; xsavec64 (%rdi)", .a = RW, .lax = true,
	.len = 1024, .prep = prep_a_zero, .cpu = CPU_XSAVEC, .native = true)
ROW(xrstor, "mov $7, %eax; xor %edx, %edx; xrstor64 (%rdi)", .a = R, .len = 1024,
	.prep = prep_a_xstate, .cpu = CPU_XSAVE, .native = true)

/* ---- restricted code ---- */

#define OWN_DATA	"jmp 2f; .balign 8; 1: .fill 8, 8, 0x4142434445464748; 2: nop"
#define LLDT_C		"mov $" SEL_LDT_C ", %eax; lldt %ax; "

ROW(code_nop, "nop", .c = X)
ROW(code_alu, "add %rbx, %rax; imul %rax, %rdx; rol $7, %rdx", .c = X)
ROW(code_branch, "mov $3, %ecx; 1: loop 1b; jc 2f; nop; 2: nop", .c = X, .loops = true)
ROW(code_flags, "stc; lahf; cmc; sahf; std; cld", .c = X)
ROW(code_load, "movq (%rdi), %rax", .a = R, .c = X)
ROW(code_store, "movq %rax, (%rdi)", .a = W, .c = X)
ROW(code_push, "push %rbx", .s = W, .c = X)
ROW(code_call, "call 1f; 1: nop", .s = W, .c = X)
ROW(code_ret, "ret", .s = R, .c = X, .prep = prep_stack_end)
ROW(code_movs, "movsq", .a = W, .b = R, .c = X)
/* With RCX at 0, KVM has the guest fetch it once more. */
ROW(code_rep_movs, "mov $9, %ecx; rep movsb", .a = W, .b = R, .c = X, .breaks = true)
ROW(code_own_data, "incl 1f(%rip); jmp 2f; 1: .long 0x1234; 2: nop", .c = RW | X)
/* ... of which the page that permits to fetch or to write would not tell */
ROW(code_own_movups_load, "movups 1f(%rip), %xmm1; jmp 2f; 1: .quad 1, 2; 2: nop",
	.c = R | X, .native = true)
ROW(code_own_movups_store, "movups %xmm1, 1f(%rip); jmp 2f; 1: .quad 1, 2; 2: nop",
	.c = W | X, .native = true)
ROW(code_own_cmpxchg16b, "cmpxchg16b 1f(%rip); jmp 2f; .skip 6; 1: .quad 1, 2; 2: nop",
	.c = RW | X, .cpu = CPU_CX16, .native = true)
ROW(code_own_fpu, "fldl 1f(%rip); fstps 1f(%rip); jmp 2f; 1: .quad 1, 2; 2: nop",
	.c = RW | X, .native = true)
ROW(code_own_movd_store, "movd %xmm1, 1f(%rip); jmp 2f; 1: .quad 1, 2; 2: nop",
	.c = W | X, .native = true)
ROW(code_own_movq_load, "movq 1f(%rip), %xmm1; jmp 2f; 1: .quad 1, 2; 2: nop",
	.c = R | X, .native = true)
ROW(code_own_vmovups_load, "vmovups 1f(%rip), %ymm1; jmp 2f; 1: .quad 1, 2, 3, 4; 2: nop",
	.c = R | X, .cpu = CPU_AVX, .native = true)
ROW(code_own_vextract, "vextractf128 $1, %ymm1, 1f(%rip); jmp 2f; 1: .quad 1, 2; 2: nop",
	.c = W | X, .cpu = CPU_AVX, .native = true)
ROW(code_own_push, "lea 1f+8(%rip), %rsp; pushfq; jmp 2f; 1: .quad 1, 2; 2: nop",
	.c = W | X)
/* ... whatever it is that the instruction reads there */
ROW(code_own_gather, "lea 1f(%rip), %rbx; vpxor %ymm3, %ymm3, %ymm3; "
	"vpcmpeqd %ymm4, %ymm4, %ymm4; vpgatherdd %ymm4, (%rbx,%ymm3,4), %ymm1; "
	OWN_DATA, .c = R | X, .cpu = CPU_AVX2, .native = true)
ROW(code_own_gather_some, "lea 1f(%rip), %rax; sub %rdi, %rax; vmovq %rax, %xmm3; "
	"vpcmpeqd %xmm4, %xmm4, %xmm4; vpgatherqq %xmm4, (%rdi,%xmm3), %xmm1; " OWN_DATA,
	.a = R, .c = R | X, .cpu = CPU_AVX2, .native = true)
ROW(code_own_gather_masked, "lea 1f(%rip), %rax; sub %rdi, %rax; vmovq %rax, %xmm3; "
	"vpcmpeqd %xmm4, %xmm4, %xmm4; vpslldq $8, %xmm4, %xmm4; "
	"vpgatherqq %xmm4, (%rdi,%xmm3), %xmm1; " OWN_DATA,
	.a = R, .c = X, .cpu = CPU_AVX2, .native = true)
ROW(code_own_gather_back, "lea 1f+64(%rip), %rbx; mov $-16, %eax; vmovd %eax, %xmm3; "
	"vpbroadcastd %xmm3, %ymm3; vpcmpeqd %ymm4, %ymm4, %ymm4; "
	"vpgatherdd %ymm4, (%rbx,%ymm3,4), %ymm1; " OWN_DATA,
	.c = R | X, .cpu = CPU_AVX2, .native = true)
ROW(code_own_maskmov, "vpcmpeqd %xmm3, %xmm3, %xmm3; vpmaskmovd 1f(%rip), %xmm3, %xmm1; "
	OWN_DATA, .c = R | X, .cpu = CPU_AVX2, .native = true)
ROW(code_own_maskmov_last, "vpcmpeqd %xmm3, %xmm3, %xmm3; vpslldq $12, %xmm3, %xmm3; "
	"lea 1f(%rip), %rbx; and $-4096, %rbx; vmaskmovps -12(%rbx), %xmm3, %xmm1; 1: nop",
	.c = R | X, .cpu = CPU_AVX2, .native = true)
ROW(code_own_maskmov_first, "vpcmpeqd %xmm3, %xmm3, %xmm3; vpsrldq $4, %xmm3, %xmm3; "
	"lea 1f(%rip), %rbx; and $-4096, %rbx; vmaskmovps -12(%rbx), %xmm3, %xmm1; 1: nop",
	.c = X, .cpu = CPU_AVX2, .native = true)
ROW(code_own_maskmov_none, "vpxor %xmm3, %xmm3, %xmm3; vpmaskmovd 1f(%rip), %xmm3, %xmm1; "
	OWN_DATA, .c = X, .cpu = CPU_AVX2, .native = true)
ROW(code_own_maskmovdqu, "pcmpeqb %xmm2, %xmm2; lea 1f(%rip), %rdi; "
	"maskmovdqu %xmm2, %xmm1; " OWN_DATA, .c = W | X, .native = true)
ROW(code_own_vmovdqu32_mask, "kxnorw %k1, %k1, %k1; vmovdqu32 1f(%rip), %zmm1{%k1}; "
	OWN_DATA, .c = R | X, .cpu = CPU_AVX512F, .native = true)
ROW(code_own_vmovdqu32_none, "kxorw %k1, %k1, %k1; vmovdqu32 1f(%rip), %zmm1{%k1}; "
	OWN_DATA, .c = X, .cpu = CPU_AVX512F, .native = true)
ROW(code_own_kmov, "kmovw 1f(%rip), %k3; " OWN_DATA, .c = R | X, .cpu = CPU_AVX512F,
	.native = true)
ROW(code_own_xop, "vprotb $3, 1f(%rip), %xmm1; " OWN_DATA, .c = R | X, .cpu = CPU_XOP,
	.native = true)
ROW(code_own_fma4, "vfmaddps %xmm3, 1f(%rip), %xmm1, %xmm2; " OWN_DATA, .c = R | X,
	.cpu = CPU_FMA4, .native = true)
ROW(code_own_ldmxcsr, "ldmxcsr 1f(%rip); jmp 2f; 1: .long 0x5f80; 2: nop", .c = R | X,
	.native = true)
ROW(code_own_clflush, "clflush 1f(%rip); " OWN_DATA, .c = R | X, .lax = true, .native = true)
/* Not canonical: #GP comes first. */
ROW(code_own_gp, "movups (%r10), %xmm1", .c = X, .fault = FAULT(GP_VECTOR), .native = true)
ROW(code_own_vec_ends, "lea 1f(%rip), %rbx; and $-4096, %rbx; vmovups -16(%rbx), %ymm1; 1: nop",
	.c = R | X, .cpu = CPU_AVX, .native = true)
ROW(code_own_vec_before, "lea 1f(%rip), %rbx; and $-4096, %rbx; movups -16(%rbx), %xmm1; "
	"movss -4(%rbx), %xmm2; cvtps2pd -8(%rbx), %xmm3; cvtsi2sdq -8(%rbx), %xmm4; "
	"fldl -8(%rbx); 1: nop", .c = X, .native = true)
ROW(code_own_float_ends, "lea 1f(%rip), %rbx; and $-4096, %rbx; fldt -9(%rbx); 1: nop",
	.c = R | X, .native = true)
/* A prefix makes of REX another one, which has no effect. */
ROW(code_own_rex, ".byte 0x48, 0xf3, 0x0f, 0x10, 0x05; .long 1f - . - 4; " OWN_DATA,
	.c = R | X, .native = true)
ROW(code_own_fs_ds, FS_BASE("0x10000") "lea 1f-0x10000(%rip), %rbx; "
	".byte 0x64, 0x3e; movss (%rbx), %xmm1; " OWN_DATA, .c = R | X, .segment = true,
	.qemu = LAST_SEG, .sregs = true, .native = true, .ring = RING_0)
ROW(code_own_selector, LLDT_C "mov $" SEL_OF_LDT ", %eax; mov %eax, %fs", .c = R | X,
	.prep = prep_code_ldt, .sregs = true, .native = true, .ring = RING_0)
ROW(code_own_selector_accessed, LLDT_C "mov $" SEL_OF_LDT ", %eax; mov %eax, %fs", .c = RW | X,
	.prep = prep_code_ldt_new, .sregs = true, .native = true, .ring = RING_0)
ROW(code_own_selector_mem, LLDT_C "lgsl (%rdi), %eax", .a = R, .c = R | X,
	.prep = prep_code_ldt_far, .len = 6, .sregs = true, .native = true, .ring = RING_0)
ROW(code_own_selector_pop, LLDT_C "pushq $" SEL_OF_LDT "; pop %fs", .c = R | X,
	.prep = prep_code_ldt, .sregs = true, .native = true, .ring = RING_0)
ROW(code_own_lar, LLDT_C "mov $" SEL_OF_LDT ", %ecx; lar %ecx, %eax", .c = R | X,
	.prep = prep_code_ldt, .sregs = true, .native = true, .ring = RING_0)
ROW(code_own_verr, LLDT_C "mov $" SEL_OF_LDT ", %ecx; verr %cx", .c = R | X,
	.prep = prep_code_ldt, .sregs = true, .native = true, .ring = RING_0)
ROW(code_own_ljmp, LLDT_C "ljmp *(%rdi)", .a = R, .c = R | X, .prep = prep_code_ldt_far,
	.len = 6, .sregs = true, .native = true, .ring = RING_0)
ROW(code_own_lretq, LLDT_C "lretq", .s = R, .c = R | X, .prep = prep_code_ldt_far,
	.sregs = true, .native = true, .ring = RING_0)
ROW(code_own_iretq, LLDT_C "iretq", .s = R, .c = R | X, .prep = prep_code_ldt_iret,
	.sregs = true, .native = true, .ring = RING_0)
ROW(code_selector, "mov $0x10, %eax; mov %eax, %fs", .c = X, .g = R, .sregs = true,
	.native = true, .ring = RING_0)
ROW(code_cpuid, "xor %eax, %eax; xor %ecx, %ecx; cpuid", .c = X)
ROW(code_mov_cr3, "mov %cr3, %rax", .c = X, .ring = RING_0)
ROW(code_rdmsr, "mov $0xc0000080, %ecx; rdmsr", .c = X, .ring = RING_0)
ROW(code_xgetbv, "xor %ecx, %ecx; xgetbv", .c = X, .cpu = CPU_XSAVE, .native = true)
ROW(code_mfence, "mfence", .c = X, .native = true)
ROW(code_pause, "pause", .c = X)
ROW(code_endbr, "endbr64", .c = X, .native = true)
ROW(code_paddd_reg, "paddd %xmm2, %xmm1", .c = X, .native = true)
ROW(code_movaps_reg, "movaps %xmm2, %xmm1", .c = X)
ROW(code_vaddps_reg, "vaddps %ymm1, %ymm2, %ymm3", .c = X, .cpu = CPU_AVX, .native = true)
ROW(code_fadd_reg, "fadd %st(1), %st", .c = X, .native = true)
ROW(code_iretq, "iretq", .s = R, .c = X, .prep = prep_stack_iret, .native = true)
ROW(code_split, "movabs $0x123456789abcdef0, %rax", .c = X, .c1 = X, .split = 4)
ROW(code_split_first, "movabs $0x123456789abcdef0, %rax", .c = X, .split = 1)
ROW(code_split_last, "movabs $0x123456789abcdef0, %rax", .c1 = X, .split = 9)
ROW(code_split_store, "movl $0x12345678, 0x10(%rdi)", .a = W, .c = X, .c1 = X, .split = 3,
	.a_delta = 0x10)
ROW(code_split_push, "pushq $0x12345678", .s = W, .c = X, .c1 = X, .split = 2)
ROW(code_split_vmovdqu, "vmovdqu %ymm1, 0x100(%rdi)", .a = W, .c = X, .c1 = X, .split = 3,
	.a_delta = 0x100, .cpu = CPU_AVX, .native = true)
ROW(code_split_paddd, "paddd 0x100(%rdi), %xmm1", .a = R, .c = X, .c1 = X, .split = 3,
	.a_delta = 0x100, .native = true)

/* ---- exceptions ---- */

ROW(fault_ud, "ud2", .c = X, .fault = FAULT(UD_VECTOR), .native = true)
ROW(fault_divb, "divb (%rdi)", .a = R, .val_size = 1, .fault = FAULT(DE_VECTOR))
ROW(fault_divq, "divq (%rdi)", .a = R, .val_size = 8, .fault = FAULT(DE_VECTOR))
ROW(fault_idivl_big, "mov $0x80000000, %edx; idivl (%rdi)", .a = R, .val = 1, .val_size = 4,
	.fault = FAULT(DE_VECTOR))
ROW(fault_movaps, "movaps 1(%rdi), %xmm1", .a = R, .quiet = true, .fault = FAULT(GP_VECTOR))
ROW(fault_movdqa_store, "movdqa %xmm1, 8(%rdi)", .a = W, .quiet = true, .fault = FAULT(GP_VECTOR))
ROW(fault_paddd, "paddd 1(%rdi), %xmm1", .a = R, .quiet = true, .fault = FAULT(GP_VECTOR))
ROW(fault_noncanonical, "movq (%rdi), %rax; movq %rax, (%r10)", .a = R, .fault = FAULT(GP_VECTOR))
ROW(fault_selector, "movw (%rdi), %ds", .a = R, .val = 0x7f8, .val_size = 2,
	.fault = FAULT(GP_VECTOR))
ROW(fault_ss_nothing, "movw (%rdi), %ss", .a = R, .val = 0x7f8, .val_size = 2,
	.fault = FAULT(GP_VECTOR), .ring = RING_0)
ROW(fault_ss_code, "movw (%rdi), %ss", .a = R, .val = SEL_CODE, .val_size = 2,
	.fault = FAULT(GP_VECTOR), .ring = RING_0)
ROW(fault_ss_rpl, "movw (%rdi), %ss", .a = R, .val = 0x13, .val_size = 2,
	.fault = FAULT(GP_VECTOR), .ring = RING_0)
ROW(fault_ss_absent, "movw (%rdi), %ss", .a = R, .val = 0x38, .val_size = 2,
	.fault = FAULT(SS_VECTOR), .ring = RING_0)
ROW(fault_lss_nothing, "lssl (%rdi), %eax", .a = R, .val = 0x7f800001234, .val_size = 8,
	.len = 6, .fault = FAULT(GP_VECTOR), .ring = RING_0)
ROW(fault_selector_gdt, "mov $" SEL_ABSENT ", %eax; mov %eax, %ds", .g = R, .delivery = true,
	.fault = FAULT(NP_VECTOR), .native = true, .ring = RING_0)
ROW(fault_movs_dst, "mov %r8, %rdi; movsq", .b = R, .fault = FAULT(PF_VECTOR))
ROW(fault_movs_src, "mov %r8, %rsi; movsq", .a = W, .quiet = true, .fault = FAULT(PF_VECTOR))
ROW(fault_movs_ro, "mov %r9, %rdi; movsl", .b = R, .fault = FAULT(PF_VECTOR))
ROW(fault_rep_movs, "mov $20, %ecx; mov %r11, %rdi; rep movsb", .b = R, .d = W,
	.fault = FAULT(PF_VECTOR))
ROW(fault_rep_movs_src, "mov $20, %ecx; mov %r11, %rsi; rep movsb", .a = W, .d = R,
	.fault = FAULT(PF_VECTOR))
ROW(fault_rep_stos, "mov $3, %ecx; mov %r11, %rdi; rep stosl", .d = W, .fault = FAULT(PF_VECTOR))
ROW(push_mem_last, "mov %r8, %rsp; pushq 8(%rdi)", .a = R, .a_delta = 8, .d = W)
ROW(fault_push_mem_stack, "lea 64(%r8), %rsp; pushq (%rdi)", .a = R, .fault = FAULT(PF_VECTOR))
ROW(fault_pop_mem, "popq (%r8)", .s = R, .fault = FAULT(PF_VECTOR))
ROW(fault_call_mem, "lea 64(%r8), %rsp; call *(%rdi)", .a = R, .prep = prep_a_end,
	.fault = FAULT(PF_VECTOR))
ROW(fault_cmpxchg_ro, "mov (%rdi), %rax; lock cmpxchg %rdx, (%r9)", .a = R,
	.fault = FAULT(PF_VECTOR))
ROW(fault_jmp_mem, "jmp *(%rdi)", .a = R, .prep = prep_a_nowhere, .fault = FAULT(PF_VECTOR))
ROW(fault_ret, "ret", .s = R, .prep = prep_stack_nowhere, .fault = FAULT(PF_VECTOR))
ROW(fault_load_cross, "movq 4(%r11), %rax", .d = R, .lax = true, .fault = FAULT(PF_VECTOR))
ROW(fault_store_cross, "movq %rax, 4(%r11)", .d = W, .lax = true, .fault = FAULT(PF_VECTOR))
ROW(fault_push_cross, "lea 12(%r11), %rsp; push %rax", .d = W, .lax = true,
	.fault = FAULT(PF_VECTOR))
ROW(fault_addq_cross, "addq %rax, 4(%r11)", .d = RW, .lax = true, .fault = FAULT(PF_VECTOR),
	.qemu = "takes the write for a read")
ROW(fault_vmovdqu_store_cross, "vmovdqu %ymm1, -8(%r11)", .d = W, .lax = true,
	.fault = FAULT(PF_VECTOR), .cpu = CPU_AVX, .native = true)
ROW(fault_fwait, "fldcw (%rdi); fldz; fdivr %st(1), %st; fwait", .a = R, .c = X, .val = 0x37b,
	.val_size = 2, .fault = FAULT(MF_VECTOR), .native = true)
ROW(fault_lretq, "lretq", .s = R, .prep = prep_stack_far_bad, .fault = FAULT(GP_VECTOR))
ROW(fault_iretq, "iretq", .s = R, .prep = prep_stack_iret_bad, .fault = FAULT(GP_VECTOR),
	.native = true)
ROW(fault_ljmp, "ljmp *(%rdi)", .a = R, .len = 6, .prep = prep_a_far_bad, .fault = FAULT(GP_VECTOR))
ROW(fault_ldmxcsr, "ldmxcsr (%rdi)", .a = R, .val = 0xffff0000, .val_size = 4,
	.qemu = "does not check the value",
	.fault = FAULT(GP_VECTOR), .native = true)
ROW(fault_divps, "ldmxcsr 8f(%rip); xorps %xmm2, %xmm2; movaps (%rdi), %xmm1; "
	"divps %xmm2, %xmm1; jmp 9f; 8: .long 0; 9: nop", .a = R,
	.fault = FAULT(XM_VECTOR), .qemu = "raises no SIMD exceptions")
ROW(fault_addps, "ldmxcsr 8f(%rip); addps (%rdi), %xmm1; jmp 9f; 8: .long 0; 9: nop", .a = R,
	.prep = prep_a_snan, .fault = FAULT(XM_VECTOR), .qemu = "raises no SIMD exceptions",
	.native = true)
ROW(fault_xrstor, "mov $7, %eax; xor %edx, %edx; xrstor64 (%rdi)", .a = R, .len = 1024,
	.fault = FAULT(GP_VECTOR), .cpu = CPU_XSAVE, .native = true)
ROW(fault_cmpxchg16b, "cmpxchg16b 8(%rdi)", .a = RW, .quiet = true, .fault = FAULT(GP_VECTOR),
	.cpu = CPU_CX16)
ROW(fault_vmovaps, "vmovaps 8(%rdi), %ymm1", .a = R, .quiet = true, .fault = FAULT(GP_VECTOR),
	.cpu = CPU_AVX)
ROW(fault_vpgatherdd, "vmovups 8f(%rip), %ymm3; vpcmpeqd %ymm4, %ymm4, %ymm4; "
	"vpgatherdd %ymm4, (%rdi,%ymm3,4), %ymm1; " INDEX256_BAD,
	.a = R, .len = 8192, .fault = FAULT(PF_VECTOR), .cpu = CPU_AVX2, .native = true)

/* ---- delivery: the stack, TSS, IDT and GDT that the CPU uses for it ---- */

#define TABLES	.k = W, .t = R, .i = R, .g = R
#define NO_NRIP	"does not tell where INT n ends"

ROW(int_stack, "int $0x80", .k = W, .fault = FAULT(INT_IST), .native = true)
ROW(int_tss, "int $0x80", .t = R, .fault = FAULT(INT_IST), .native = true)
ROW(int_idt, "int $0x80", .i = R, .fault = FAULT(INT_IST), .native = true)
ROW(int_gdt, "int $0x80", .g = R, .fault = FAULT(INT_IST), .native = true)
ROW(int_tables, "int $0x80", .c = X, TABLES, .fault = FAULT(INT_IST), .native = true)
ROW(int_same_stack, "int $0x82", .s = W, .i = R, .g = R, .fault = FAULT(INT_RSP0), .native = true,
	.ring = RING_0)
ROW(int_rsp0, "int $0x82", TABLES, .fault = FAULT(INT_RSP0), .native = true, .ring = RING_3)
ROW(int_stack_in_tss, "int $0x84", .t = RW, .i = R, .fault = FAULT(INT_IN_TSS), .native = true)
ROW(int_stack_in_tss_code, "int $0x84", .c = X, .t = RW, .i = R, .fault = FAULT(INT_IN_TSS),
	.native = true)
ROW(int_gate_dpl, "int $0x20", TABLES, .fault = FAULT(GP_VECTOR), .native = true, .ring = RING_3,
	.delivery = true, .qemu = NO_NRIP)
/* Nested: the stack for it is not there. */
ROW(int_bad_stack, "int $0x83", TABLES, .fault = FAULT(PF_VECTOR), .native = true,
	.delivery = true, .qemu = NO_NRIP)
/* What the instruction was let do is not let to the delivery of its exception. */
ROW(tss_code_ud, "ud2", .t = R | X, .in_tss = true, .fault = FAULT(UD_VECTOR), .native = true,
	.ring = RING_0)
ROW(tss_code_pf, "movups (%r8), %xmm1", .t = R | X, .in_tss = true, .fault = FAULT(PF_VECTOR),
	.native = true, .ring = RING_0)
ROW(tss_code_store_pf, "movups %xmm1, (%r9)", .k = W, .t = R | X, .i = R, .g = R, .in_tss = true,
	.fault = FAULT(PF_VECTOR), .native = true, .ring = RING_0)
ROW(tss_code_div, "divb (%rdi)", .a = R, .t = R | X, .in_tss = true, .val_size = 1,
	.fault = FAULT(DE_VECTOR), .ring = RING_0)
ROW(tss_code_int, "int $0x80", .t = R | X, .in_tss = true, .fault = FAULT(INT_IST),
	.native = true, .ring = RING_0)
ROW(tss_code_int_stack, "int $0x84", .t = RW | X, .in_tss = true, .fault = FAULT(INT_IN_TSS),
	.native = true, .ring = RING_0)
ROW(tss_code_icebp, ".byte 0xf1", .t = R | X, .in_tss = true, .fault = FAULT(DB_VECTOR),
	.native = true, .ring = RING_0, .qemu = "does not know ICEBP")
ROW(int3_tables, "int3", TABLES, .fault = FAULT(BP_VECTOR), .native = true)
ROW(int3_code, "int3", .c = X, TABLES, .fault = FAULT(BP_VECTOR), .native = true)
ROW(icebp_code, ".byte 0xf1", .c = X, TABLES, .fault = FAULT(DB_VECTOR), .native = true,
	.qemu = "does not know ICEBP")
ROW(ud_stack, "ud2", .k = W, .fault = FAULT(UD_VECTOR), .native = true)
ROW(ud_tables, "ud2", TABLES, .fault = FAULT(UD_VECTOR), .native = true)
ROW(ud_code, "ud2", .c = X, TABLES, .fault = FAULT(UD_VECTOR), .native = true)
ROW(div_stack, "divb (%rdi)", .a = R, .k = W, .val_size = 1, .fault = FAULT(DE_VECTOR))
ROW(div_tables, "divb (%rdi)", .a = R, TABLES, .val_size = 1, .fault = FAULT(DE_VECTOR))
ROW(div_code, "divb (%rdi)", .a = R, .c = X, TABLES, .val_size = 1, .fault = FAULT(DE_VECTOR))
ROW(gp_tables, "movq (%r10), %rax", TABLES, .fault = FAULT(GP_VECTOR))
ROW(gp_code, "movq (%r10), %rax", .c = X, TABLES, .fault = FAULT(GP_VECTOR))
ROW(pf_stack, "movq (%r8), %rax", .k = W, .fault = FAULT(PF_VECTOR))
ROW(pf_tss, "movq (%r8), %rax", .t = R, .fault = FAULT(PF_VECTOR))
ROW(pf_idt, "movq (%r8), %rax", .i = R, .fault = FAULT(PF_VECTOR))
ROW(pf_tables, "movq %rax, (%r8)", TABLES, .fault = FAULT(PF_VECTOR))
ROW(pf_code, "movq %rax, (%r8)", .c = X, TABLES, .fault = FAULT(PF_VECTOR))
ROW(pf_movs, "mov %r8, %rdi; movsq", .b = R, TABLES, .fault = FAULT(PF_VECTOR))
ROW(pf_paddd, "paddd (%rdi), %xmm1; movss %xmm1, (%r8)", .a = R, .c = X, TABLES,
	.fault = FAULT(PF_VECTOR), .native = true)
/* Nested again: #PF after #DE, and #DF instead of a second #PF */
ROW(div_bad_stack, "divb (%rdi)", .a = R, .c = X, TABLES, .val_size = 1, .prep = prep_de_stack,
	.fault = FAULT(PF_VECTOR), .delivery = true)
ROW(pf_bad_stack, "movq (%r8), %rax", .c = X, TABLES, .prep = prep_pf_stack,
	.fault = FAULT(DF_VECTOR), .delivery = true)

/* ---- between user mode and kernel ---- */

ROW(user_selector, "mov $0x73, %eax; mov %eax, %ds", .g = R, .sregs = true, .ring = RING_3)
ROW(user_selector_accessed, "mov $" SEL_UDATA_NEW ", %eax; mov %eax, %fs", .g = RW, .sregs = true,
	.ring = RING_3)
ROW(user_selector_mem, "movw (%rdi), %es", .a = R, .g = R, .val = 0x73, .val_size = 2,
	.sregs = true, .ring = RING_3)
ROW(user_selector_pop, "pushq $0x73; pop %gs", .g = R, .sregs = true, .ring = RING_3)
ROW(user_selector_absent, "mov $" SEL_UABSENT ", %eax; mov %eax, %ds", TABLES, .delivery = true,
	.fault = FAULT(NP_VECTOR), .native = true, .ring = RING_3)
ROW(user_privileged, "mov (%rdi), %rax; hlt", .a = R, .c = X, TABLES, .fault = FAULT(GP_VECTOR),
	.native = true, .ring = RING_3)
ROW(user_call_gate, "lcall *(%rdi)", .a = R, .k = W, .t = R, .g = R, .prep = prep_a_gate, .len = 6,
	.fault = BY_GATE, .native = true, .ring = RING_3)
ROW(user_call_gate_stack, "lcall *(%rdi)", .k = W, .prep = prep_a_gate, .len = 6,
	.fault = BY_GATE, .native = true, .ring = RING_3)
ROW(user_call_gate_code, "lcall *(%rdi)", .a = R, .c = X, .k = W, .t = R, .g = R,
	.prep = prep_a_gate, .len = 6, .fault = BY_GATE, .native = true, .ring = RING_3)
/* The code that all of user mode ends with, in the kernel's own page */
ROW(user_syscall_target, "syscall", .h = R | X, .calls = true, .native = true, .ring = RING_3)
ROW(user_syscall_code, "syscall", .c = X, .calls = true, .native = true, .ring = RING_3)
ROW(user_syscall_both, "syscall", .c = X, .h = R | X, .calls = true, .native = true, .ring = RING_3)
ROW(user_sysret_code, "lea 1f(%rip), %rcx; mov $2, %r11d; sysretq; 1: nop", .c = X,
	.native = true, .ring = RING_0_TO_3)
ROW(user_sysret_target, "lea 1f(%rip), %rcx; mov $2, %r11d; sysretq; 1: nop", .c1 = X, .split = 16,
	.native = true, .ring = RING_0_TO_3)
ROW(user_iretq, "iretq", .s = R, .prep = prep_stack_iret, .native = true, .ring = RING_0_TO_3)
ROW(user_iretq_gdt, "iretq", .s = R, .g = R, .prep = prep_stack_iret, .native = true,
	.ring = RING_0_TO_3)
ROW(user_iretq_code, "iretq; 1: nop", .s = R, .c = X, .g = R, .prep = prep_stack_iret,
	.native = true, .ring = RING_0_TO_3)

/* A page of the kernel's: the guest's own #PF comes first. */
#define H_ADDR	"0x10000000100"
ROW(user_reads_kernel, "movabsq " H_ADDR ", %rax", .h = R, .quiet = true, TABLES,
	.fault = FAULT(PF_VECTOR), .ring = RING_3)
ROW(user_writes_kernel, "movabsq %rax, " H_ADDR, .h = W, .quiet = true, TABLES,
	.fault = FAULT(PF_VECTOR), .ring = RING_3)
ROW(user_movs_kernel, "movabs $" H_ADDR ", %rdi; movsq", .b = R,
	.fault = FAULT(PF_VECTOR), .ring = RING_3)
ROW(user_push_kernel, "movabs $" H_ADDR ", %rsp; pushq (%rdi)", .a = R,
	.fault = FAULT(PF_VECTOR), .ring = RING_3)
ROW(user_paddd_kernel, "movabs $" H_ADDR ", %rax; paddd (%rdi), %xmm1; paddd (%rax), %xmm1",
	.a = R, .fault = FAULT(PF_VECTOR), .native = true, .ring = RING_3)
ROW(user_jmp_kernel, "movabs $" H_ADDR ", %rax; jmp *%rax", .c = X,
	.fault = FAULT(PF_VECTOR), .native = true, .ring = RING_3)

/* SMAP and SMEP: a page of the user's, which the kernel must not use */
ROW(smap_load, "movq (%rdi), %rax", .a = R, .quiet = true, TABLES, .fault = FAULT(PF_VECTOR),
	.cr4 = X86_CR4_SMAP, .cpu = CPU_SMAP, .ring = RING_0_TO_3)
ROW(smap_store, "movq %rax, (%rdi)", .a = W, .quiet = true, TABLES, .fault = FAULT(PF_VECTOR),
	.cr4 = X86_CR4_SMAP, .cpu = CPU_SMAP, .ring = RING_0_TO_3)
ROW(smap_movs, "movsq", .a = W, .b = R, .quiet = true, .fault = FAULT(PF_VECTOR),
	.cr4 = X86_CR4_SMAP, .cpu = CPU_SMAP, .ring = RING_0_TO_3)
ROW(smap_stac_load, "stac; movq (%rdi), %rax", .a = R,
	.cr4 = X86_CR4_SMAP, .cpu = CPU_SMAP, .ring = RING_0_TO_3)
ROW(smap_stac_movs, "stac; movsq; paddd 8(%rsi), %xmm1", .a = W, .b = R, .len = 24,
	.native = true, .cr4 = X86_CR4_SMAP, .cpu = CPU_SMAP, .ring = RING_0_TO_3)
ROW(smep_jmp, "jmp *%rdi", .a = X, .quiet = true, TABLES, .fault = FAULT(PF_VECTOR),
	.in_text = true, .delivery = true, .cr4 = X86_CR4_SMEP, .cpu = CPU_SMEP, .ring = RING_0_TO_3)

/* ---- alignment checks, in user mode only ---- */

#define AC_ON	"pushfq; orl $0x40000, (%rsp); popfq; "
#define NO_AC	"has no alignment checks"

ROW(ac_aligned, AC_ON "movq (%rdi), %rax; movl %eax, 4(%rdi)", .a = RW, .len = 8, .ring = RING_3)
ROW(ac_load, AC_ON "movl 1(%rdi), %eax", .a = R, .quiet = true, .fault = FAULT(AC_VECTOR),
	.qemu = NO_AC, .ring = RING_3)
ROW(ac_load_code, AC_ON "movl 1(%rdi), %eax", .a = R, .quiet = true, .c = X,
	.fault = FAULT(AC_VECTOR), .qemu = NO_AC, .native = true, .ring = RING_3)
ROW(ac_store, AC_ON "movw %ax, 1(%rdi)", .a = W, .quiet = true, .fault = FAULT(AC_VECTOR),
	.qemu = NO_AC, .ring = RING_3)
ROW(ac_store_code, AC_ON "movw %ax, 1(%rdi)", .a = W, .quiet = true, .c = X,
	.fault = FAULT(AC_VECTOR), .qemu = NO_AC, .native = true, .ring = RING_3)
ROW(ac_add_code, AC_ON "addq %rax, 4(%rdi)", .a = RW, .quiet = true, .c = X, TABLES,
	.fault = FAULT(AC_VECTOR), .qemu = NO_AC, .native = true, .ring = RING_3)
ROW(ac_movs_dst, AC_ON "inc %rdi; movsq", .b = R, .fault = FAULT(AC_VECTOR),
	.qemu = NO_AC, .native = true, .ring = RING_3)
ROW(ac_movs_src, AC_ON "inc %rsi; movsq", .a = W, .b = R, .quiet = true,
	.fault = FAULT(AC_VECTOR), .qemu = NO_AC, .ring = RING_3)
ROW(ac_push_mem, AC_ON "lea -3(%rsp), %rsp; pushq (%rdi)", .a = R, .fault = FAULT(AC_VECTOR),
	.qemu = NO_AC, .native = true, .ring = RING_3)
ROW(ac_pop_mem, AC_ON "inc %rdi; popq (%rdi)", .s = RW, .fault = FAULT(AC_VECTOR),
	.qemu = NO_AC, .native = true, .ring = RING_3)
ROW(ac_call_mem, AC_ON "lea 12(%rsp), %rsp; call *(%rdi)", .a = R, .prep = prep_a_end,
	.fault = FAULT(AC_VECTOR), .qemu = NO_AC, .native = true, .ring = RING_3)

/* ---- the guest's own debugging ---- */

#define TF_ON	"pushfq; orl $0x100, (%rsp); popfq; "
/* DR7: what is written to the four bytes at (%rdi), or what is accessed there */
#define DR7_WRITE	"mov %rdi, %dr0; mov $0xd0402, %eax; mov %rax, %dr7; "
#define DR7_ACCESS	"mov %rdi, %dr0; mov $0xf0402, %eax; mov %rax, %dr7; "

#define INEXACT		"has inexact watchpoints"

ROW(tf_store, TF_ON "movl %ebx, (%rdi); nop", .a = W, .fault = FAULT(DB_VECTOR))
ROW(tf_movs, TF_ON "movsq; nop", .a = W, .b = R, .fault = FAULT(DB_VECTOR))
ROW(tf_movss, TF_ON "movss %xmm1, (%rdi); nop", .a = W, .fault = FAULT(DB_VECTOR), .native = true)
ROW(tf_code, TF_ON "movss %xmm1, (%rdi); nop", .a = W, .c = X, TABLES, .fault = FAULT(DB_VECTOR),
	.native = true)
ROW(watch_store, DR7_WRITE "movl %ebx, (%rdi); nop", .a = W, .fault = FAULT(DB_VECTOR),
	.native = true, .qemu = INEXACT, .ring = RING_0)
ROW(watch_load, DR7_ACCESS "movl (%rdi), %ebx; nop", .a = R, .fault = FAULT(DB_VECTOR),
	.native = true, .qemu = INEXACT, .ring = RING_0)
ROW(watch_movs, DR7_WRITE "movsl; nop", .a = W, .b = R, .fault = FAULT(DB_VECTOR),
	.native = true, .qemu = INEXACT, .ring = RING_0)
ROW(watch_stos, DR7_WRITE "stosl; nop", .a = W, .fault = FAULT(DB_VECTOR),
	.native = true, .qemu = INEXACT, .ring = RING_0)
ROW(watch_push, DR7_ACCESS "pushq (%rdi); nop", .a = R, .s = W, .fault = FAULT(DB_VECTOR),
	.native = true, .qemu = INEXACT, .ring = RING_0)
ROW(watch_movss, DR7_WRITE "movss %xmm1, (%rdi); nop", .a = W, .fault = FAULT(DB_VECTOR),
	.native = true, .qemu = INEXACT, .ring = RING_0)
ROW(watch_code, DR7_WRITE "movl %ebx, (%rdi); nop", .a = W, .c = X, .fault = FAULT(DB_VECTOR),
	.native = true, .qemu = INEXACT, .ring = RING_0)

/* ---- an LDT in a restricted page ---- */

ROW(ldt_selector, "mov $" SEL_LDT_A ", %eax; lldt %ax; mov $" SEL_OF_LDT ", %eax; mov %eax, %fs",
	.a = R, .val = 0x00cf93000000ffff, .val_size = 8, .sregs = true, .ring = RING_0)
ROW(ldt_selector_accessed, "mov $" SEL_LDT_A ", %eax; lldt %ax; mov $" SEL_OF_LDT ", %eax; "
	"mov %eax, %fs", .a = RW, .val = 0x00cf92000000ffff, .val_size = 8, .len = 8, .sregs = true,
	.ring = RING_0)

#undef FS_BASE
#undef LAST_SEG
#undef OWN_DATA
#undef LLDT_C
#undef TABLES
#undef NO_NRIP
#undef H_ADDR
#undef AC_ON
#undef NO_AC
#undef TF_ON
#undef INEXACT
#undef DR7_WRITE
#undef DR7_ACCESS
