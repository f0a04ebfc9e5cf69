// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM introspection: the layout of everything that crosses the socket, and of
 * the ioctls' arguments, is what tools are built with.  The numbers below are
 * the interface's, not the headers'.
 */
#include <stddef.h>

#include "test_util.h"
#include "kvm_util.h"
#include "kselftest_harness.h"
#include "kvmi_util.h"

struct layout {
	const char *name;
	size_t have[2], want[2];	/* offset or alignment, and size */
};

#define STRUCT(type, size, align)					\
	{ "struct " #type,						\
	  { _Alignof(struct type), sizeof(struct type) }, { align, size } }

#define FIELD(type, field, offset, size)				\
	{ #type "." #field,						\
	  { offsetof(struct type, field),				\
	    sizeof(((struct type *)0)->field) }, { offset, size } }

#define FLEX(type, field, offset)					\
	{ #type "." #field "[]",					\
	  { offsetof(struct type, field), 0 }, { offset, 0 } }

static int check_layouts(const struct layout *l, size_t nr)
{
	int bad = 0;

	for (; nr--; l++) {
		if (!memcmp(l->have, l->want, sizeof(l->have)))
			continue;
		ksft_print_msg("%s: at/align %zu size %zu, want %zu and %zu\n",
			       l->name, l->have[0], l->have[1], l->want[0],
			       l->want[1]);
		bad++;
	}

	return bad;
}

static const struct layout generic[] = {
	STRUCT(kvmi_msg_hdr, 8, 4),
	FIELD(kvmi_msg_hdr, id, 0, 2),
	FIELD(kvmi_msg_hdr, size, 2, 2),
	FIELD(kvmi_msg_hdr, seq, 4, 4),

	STRUCT(kvmi_error_code, 8, 4),
	FIELD(kvmi_error_code, err, 0, 4),
	FIELD(kvmi_error_code, padding, 4, 4),

	STRUCT(kvmi_get_version_reply, 16, 4),
	FIELD(kvmi_get_version_reply, version, 0, 4),
	FIELD(kvmi_get_version_reply, max_msg_size, 4, 4),
	FIELD(kvmi_get_version_reply, features, 8, 8),

	STRUCT(kvmi_vm_check_command, 8, 4),
	FIELD(kvmi_vm_check_command, id, 0, 2),
	FIELD(kvmi_vm_check_command, padding1, 2, 2),
	FIELD(kvmi_vm_check_command, padding2, 4, 4),

	STRUCT(kvmi_vm_check_event, 8, 4),
	FIELD(kvmi_vm_check_event, id, 0, 2),
	FIELD(kvmi_vm_check_event, padding1, 2, 2),
	FIELD(kvmi_vm_check_event, padding2, 4, 4),

	STRUCT(kvmi_vm_get_info_reply, 16, 4),
	FIELD(kvmi_vm_get_info_reply, vcpu_count, 0, 4),
	FIELD(kvmi_vm_get_info_reply, padding, 4, 12),

	STRUCT(kvmi_event_hdr, 8, 2),
	FIELD(kvmi_event_hdr, event, 0, 2),
	FIELD(kvmi_event_hdr, padding, 2, 6),

	STRUCT(kvmi_vm_control_events, 8, 4),
	FIELD(kvmi_vm_control_events, event_id, 0, 2),
	FIELD(kvmi_vm_control_events, enable, 2, 1),
	FIELD(kvmi_vm_control_events, padding1, 3, 1),
	FIELD(kvmi_vm_control_events, padding2, 4, 4),

	STRUCT(kvmi_vm_read_physical, 16, 8),
	FIELD(kvmi_vm_read_physical, gpa, 0, 8),
	FIELD(kvmi_vm_read_physical, size, 8, 2),
	FIELD(kvmi_vm_read_physical, padding1, 10, 2),
	FIELD(kvmi_vm_read_physical, padding2, 12, 4),

	STRUCT(kvmi_vm_write_physical, 16, 8),
	FIELD(kvmi_vm_write_physical, gpa, 0, 8),
	FIELD(kvmi_vm_write_physical, size, 8, 2),
	FIELD(kvmi_vm_write_physical, padding1, 10, 2),
	FIELD(kvmi_vm_write_physical, padding2, 12, 4),
	FLEX(kvmi_vm_write_physical, data, 16),

	STRUCT(kvmi_vcpu_hdr, 8, 4),
	FIELD(kvmi_vcpu_hdr, vcpu, 0, 2),
	FIELD(kvmi_vcpu_hdr, padding1, 2, 2),
	FIELD(kvmi_vcpu_hdr, padding2, 4, 4),

	STRUCT(kvmi_vm_pause_vcpu, 8, 4),
	FIELD(kvmi_vm_pause_vcpu, vcpu, 0, 2),
	FIELD(kvmi_vm_pause_vcpu, wait, 2, 1),
	FIELD(kvmi_vm_pause_vcpu, padding1, 3, 1),
	FIELD(kvmi_vm_pause_vcpu, padding2, 4, 4),

	STRUCT(kvmi_vcpu_event, 544, 8),
	FIELD(kvmi_vcpu_event, size, 0, 2),
	FIELD(kvmi_vcpu_event, vcpu, 2, 2),
	FIELD(kvmi_vcpu_event, padding, 4, 4),
	FIELD(kvmi_vcpu_event, arch, 8, 536),

	STRUCT(kvmi_vcpu_event_reply, 8, 4),
	FIELD(kvmi_vcpu_event_reply, action, 0, 1),
	FIELD(kvmi_vcpu_event_reply, event, 1, 1),
	FIELD(kvmi_vcpu_event_reply, padding1, 2, 2),
	FIELD(kvmi_vcpu_event_reply, padding2, 4, 4),

	STRUCT(kvmi_vcpu_control_events, 8, 4),
	FIELD(kvmi_vcpu_control_events, event_id, 0, 2),
	FIELD(kvmi_vcpu_control_events, enable, 2, 1),
	FIELD(kvmi_vcpu_control_events, flags, 3, 1),
	FIELD(kvmi_vcpu_control_events, padding1, 3, 1),
	FIELD(kvmi_vcpu_control_events, padding2, 4, 4),

	STRUCT(kvmi_vcpu_event_breakpoint, 16, 8),
	FIELD(kvmi_vcpu_event_breakpoint, gpa, 0, 8),
	FIELD(kvmi_vcpu_event_breakpoint, insn_len, 8, 1),
	FIELD(kvmi_vcpu_event_breakpoint, padding, 9, 7),

	STRUCT(kvmi_vm_control_cleanup, 8, 1),
	FIELD(kvmi_vm_control_cleanup, enable, 0, 1),
	FIELD(kvmi_vm_control_cleanup, padding, 1, 7),

	STRUCT(kvmi_page_access_entry, 16, 8),
	FIELD(kvmi_page_access_entry, gpa, 0, 8),
	FIELD(kvmi_page_access_entry, access, 8, 1),
	FIELD(kvmi_page_access_entry, padding, 9, 7),

	STRUCT(kvmi_vm_set_page_access, 8, 8),
	FIELD(kvmi_vm_set_page_access, count, 0, 2),
	FIELD(kvmi_vm_set_page_access, padding1, 2, 2),
	FIELD(kvmi_vm_set_page_access, padding2, 4, 4),
	FLEX(kvmi_vm_set_page_access, entries, 8),

	STRUCT(kvmi_vcpu_event_pf, 24, 8),
	FIELD(kvmi_vcpu_event_pf, gva, 0, 8),
	FIELD(kvmi_vcpu_event_pf, gpa, 8, 8),
	FIELD(kvmi_vcpu_event_pf, access, 16, 1),
	FIELD(kvmi_vcpu_event_pf, flags, 17, 1),
	FIELD(kvmi_vcpu_event_pf, padding1, 17, 1),
	FIELD(kvmi_vcpu_event_pf, padding2, 18, 2),
	FIELD(kvmi_vcpu_event_pf, padding3, 20, 4),

	STRUCT(kvmi_vcpu_control_singlestep, 8, 1),
	FIELD(kvmi_vcpu_control_singlestep, enable, 0, 1),
	FIELD(kvmi_vcpu_control_singlestep, padding, 1, 7),

	STRUCT(kvmi_vcpu_event_singlestep, 8, 1),
	FIELD(kvmi_vcpu_event_singlestep, failed, 0, 1),
	FIELD(kvmi_vcpu_event_singlestep, padding, 1, 7),

	STRUCT(kvmi_vcpu_translate_gva, 8, 8),
	FIELD(kvmi_vcpu_translate_gva, gva, 0, 8),

	STRUCT(kvmi_vcpu_translate_gva_reply, 8, 8),
	FIELD(kvmi_vcpu_translate_gva_reply, gpa, 0, 8),
};

static const struct layout x86[] = {
	STRUCT(kvmi_vcpu_get_info_reply, 8, 8),
	FIELD(kvmi_vcpu_get_info_reply, tsc_speed, 0, 8),

	STRUCT(kvmi_vcpu_event_arch, 536, 8),
	FIELD(kvmi_vcpu_event_arch, mode, 0, 1),
	FIELD(kvmi_vcpu_event_arch, padding, 1, 7),
	FIELD(kvmi_vcpu_event_arch, regs, 8, 144),
	FIELD(kvmi_vcpu_event_arch, sregs, 152, 312),
	FIELD(kvmi_vcpu_event_arch, msrs, 464, 72),
	FIELD(kvmi_vcpu_event_arch, msrs.sysenter_cs, 464, 8),
	FIELD(kvmi_vcpu_event_arch, msrs.sysenter_esp, 472, 8),
	FIELD(kvmi_vcpu_event_arch, msrs.sysenter_eip, 480, 8),
	FIELD(kvmi_vcpu_event_arch, msrs.efer, 488, 8),
	FIELD(kvmi_vcpu_event_arch, msrs.star, 496, 8),
	FIELD(kvmi_vcpu_event_arch, msrs.lstar, 504, 8),
	FIELD(kvmi_vcpu_event_arch, msrs.cstar, 512, 8),
	FIELD(kvmi_vcpu_event_arch, msrs.pat, 520, 8),
	FIELD(kvmi_vcpu_event_arch, msrs.shadow_gs, 528, 8),

	STRUCT(kvmi_vcpu_get_registers, 8, 4),
	FIELD(kvmi_vcpu_get_registers, nmsrs, 0, 2),
	FIELD(kvmi_vcpu_get_registers, padding1, 2, 2),
	FIELD(kvmi_vcpu_get_registers, padding2, 4, 4),
	FLEX(kvmi_vcpu_get_registers, msrs_idx, 8),

	STRUCT(kvmi_vcpu_get_registers_reply, 472, 8),
	FIELD(kvmi_vcpu_get_registers_reply, mode, 0, 4),
	FIELD(kvmi_vcpu_get_registers_reply, padding, 4, 4),
	FIELD(kvmi_vcpu_get_registers_reply, regs, 8, 144),
	FIELD(kvmi_vcpu_get_registers_reply, sregs, 152, 312),
	FIELD(kvmi_vcpu_get_registers_reply, msrs, 464, 8),

	STRUCT(kvmi_vcpu_get_cpuid, 8, 4),
	FIELD(kvmi_vcpu_get_cpuid, function, 0, 4),
	FIELD(kvmi_vcpu_get_cpuid, index, 4, 4),

	STRUCT(kvmi_vcpu_get_cpuid_reply, 16, 4),
	FIELD(kvmi_vcpu_get_cpuid_reply, eax, 0, 4),
	FIELD(kvmi_vcpu_get_cpuid_reply, ebx, 4, 4),
	FIELD(kvmi_vcpu_get_cpuid_reply, ecx, 8, 4),
	FIELD(kvmi_vcpu_get_cpuid_reply, edx, 12, 4),

	STRUCT(kvmi_vcpu_control_cr, 8, 4),
	FIELD(kvmi_vcpu_control_cr, cr, 0, 1),
	FIELD(kvmi_vcpu_control_cr, enable, 1, 1),
	FIELD(kvmi_vcpu_control_cr, padding1, 2, 2),
	FIELD(kvmi_vcpu_control_cr, padding2, 4, 4),

	STRUCT(kvmi_vcpu_event_cr, 24, 8),
	FIELD(kvmi_vcpu_event_cr, cr, 0, 1),
	FIELD(kvmi_vcpu_event_cr, padding, 1, 7),
	FIELD(kvmi_vcpu_event_cr, old_value, 8, 8),
	FIELD(kvmi_vcpu_event_cr, new_value, 16, 8),

	STRUCT(kvmi_vcpu_event_cr_reply, 8, 8),
	FIELD(kvmi_vcpu_event_cr_reply, new_val, 0, 8),

	STRUCT(kvmi_vcpu_event_trap, 16, 8),
	FIELD(kvmi_vcpu_event_trap, nr, 0, 1),
	FIELD(kvmi_vcpu_event_trap, padding1, 1, 1),
	FIELD(kvmi_vcpu_event_trap, padding2, 2, 2),
	FIELD(kvmi_vcpu_event_trap, error_code, 4, 4),
	FIELD(kvmi_vcpu_event_trap, address, 8, 8),

	STRUCT(kvmi_vcpu_inject_exception, 16, 8),
	FIELD(kvmi_vcpu_inject_exception, nr, 0, 1),
	FIELD(kvmi_vcpu_inject_exception, padding1, 1, 1),
	FIELD(kvmi_vcpu_inject_exception, padding2, 2, 2),
	FIELD(kvmi_vcpu_inject_exception, error_code, 4, 4),
	FIELD(kvmi_vcpu_inject_exception, address, 8, 8),

	STRUCT(kvmi_vcpu_event_xsetbv, 24, 8),
	FIELD(kvmi_vcpu_event_xsetbv, xcr, 0, 1),
	FIELD(kvmi_vcpu_event_xsetbv, padding, 1, 7),
	FIELD(kvmi_vcpu_event_xsetbv, old_value, 8, 8),
	FIELD(kvmi_vcpu_event_xsetbv, new_value, 16, 8),

	STRUCT(kvmi_vcpu_get_xcr, 8, 1),
	FIELD(kvmi_vcpu_get_xcr, xcr, 0, 1),
	FIELD(kvmi_vcpu_get_xcr, padding, 1, 7),

	STRUCT(kvmi_vcpu_get_xcr_reply, 8, 8),
	FIELD(kvmi_vcpu_get_xcr_reply, value, 0, 8),

	STRUCT(kvmi_vcpu_get_xsave_reply, 4096, 4),
	FIELD(kvmi_vcpu_get_xsave_reply, xsave, 0, 4096),

	STRUCT(kvmi_vcpu_set_xsave, 4096, 4),
	FIELD(kvmi_vcpu_set_xsave, xsave, 0, 4096),

	STRUCT(kvmi_vcpu_get_mtrr_type, 8, 8),
	FIELD(kvmi_vcpu_get_mtrr_type, gpa, 0, 8),

	STRUCT(kvmi_vcpu_get_mtrr_type_reply, 8, 1),
	FIELD(kvmi_vcpu_get_mtrr_type_reply, type, 0, 1),
	FIELD(kvmi_vcpu_get_mtrr_type_reply, padding, 1, 7),

	STRUCT(kvmi_vcpu_event_descriptor, 8, 1),
	FIELD(kvmi_vcpu_event_descriptor, descriptor, 0, 1),
	FIELD(kvmi_vcpu_event_descriptor, write, 1, 1),
	FIELD(kvmi_vcpu_event_descriptor, padding, 2, 6),

	STRUCT(kvmi_vcpu_control_msr, 8, 4),
	FIELD(kvmi_vcpu_control_msr, enable, 0, 1),
	FIELD(kvmi_vcpu_control_msr, padding1, 1, 1),
	FIELD(kvmi_vcpu_control_msr, padding2, 2, 2),
	FIELD(kvmi_vcpu_control_msr, msr, 4, 4),

	STRUCT(kvmi_vcpu_event_msr, 24, 8),
	FIELD(kvmi_vcpu_event_msr, msr, 0, 4),
	FIELD(kvmi_vcpu_event_msr, padding, 4, 4),
	FIELD(kvmi_vcpu_event_msr, old_value, 8, 8),
	FIELD(kvmi_vcpu_event_msr, new_value, 16, 8),

	STRUCT(kvmi_vcpu_event_msr_reply, 8, 8),
	FIELD(kvmi_vcpu_event_msr_reply, new_val, 0, 8),

	STRUCT(kvmi_features, 8, 1),
	FIELD(kvmi_features, singlestep, 0, 1),
	FIELD(kvmi_features, max_gfn, 1, 1),
	FIELD(kvmi_features, pf_walk, 2, 1),
};

/* Beyond version 1 */
static const struct layout ext[] = {
	STRUCT(kvmi_vm_get_max_gfn_reply, 8, 8),
	FIELD(kvmi_vm_get_max_gfn_reply, gfn, 0, 8),
};

/* What the messages contain of KVM's own interface. */
static const struct layout kvm[] = {
	STRUCT(kvm_regs, 144, 8),
	FIELD(kvm_regs, rax, 0, 8),
	FIELD(kvm_regs, rbx, 8, 8),
	FIELD(kvm_regs, rcx, 16, 8),
	FIELD(kvm_regs, rdx, 24, 8),
	FIELD(kvm_regs, rsi, 32, 8),
	FIELD(kvm_regs, rdi, 40, 8),
	FIELD(kvm_regs, rsp, 48, 8),
	FIELD(kvm_regs, rbp, 56, 8),
	FIELD(kvm_regs, r8, 64, 8),
	FIELD(kvm_regs, r15, 120, 8),
	FIELD(kvm_regs, rip, 128, 8),
	FIELD(kvm_regs, rflags, 136, 8),

	STRUCT(kvm_sregs, 312, 8),
	FIELD(kvm_sregs, cs, 0, 24),
	FIELD(kvm_sregs, ds, 24, 24),
	FIELD(kvm_sregs, es, 48, 24),
	FIELD(kvm_sregs, fs, 72, 24),
	FIELD(kvm_sregs, gs, 96, 24),
	FIELD(kvm_sregs, ss, 120, 24),
	FIELD(kvm_sregs, tr, 144, 24),
	FIELD(kvm_sregs, ldt, 168, 24),
	FIELD(kvm_sregs, gdt, 192, 16),
	FIELD(kvm_sregs, idt, 208, 16),
	FIELD(kvm_sregs, cr0, 224, 8),
	FIELD(kvm_sregs, cr2, 232, 8),
	FIELD(kvm_sregs, cr3, 240, 8),
	FIELD(kvm_sregs, cr4, 248, 8),
	FIELD(kvm_sregs, cr8, 256, 8),
	FIELD(kvm_sregs, efer, 264, 8),
	FIELD(kvm_sregs, apic_base, 272, 8),
	FIELD(kvm_sregs, interrupt_bitmap, 280, 32),

	STRUCT(kvm_msr_entry, 16, 8),
	FIELD(kvm_msr_entry, index, 0, 4),
	FIELD(kvm_msr_entry, reserved, 4, 4),
	FIELD(kvm_msr_entry, data, 8, 8),

	STRUCT(kvm_introspection_hook, 24, 4),
	FIELD(kvm_introspection_hook, fd, 0, 4),
	FIELD(kvm_introspection_hook, padding, 4, 4),
	FIELD(kvm_introspection_hook, uuid, 8, 16),

	STRUCT(kvm_introspection_feature, 8, 4),
	FIELD(kvm_introspection_feature, allow, 0, 4),
	FIELD(kvm_introspection_feature, id, 4, 4),
};

TEST(generic_structs)
{
	EXPECT_EQ(check_layouts(generic, ARRAY_SIZE(generic)), 0);
}

TEST(x86_structs)
{
	EXPECT_EQ(check_layouts(x86, ARRAY_SIZE(x86)), 0);
}

TEST(extensions)
{
	EXPECT_EQ(check_layouts(ext, ARRAY_SIZE(ext)), 0);
}

TEST(kvm_structs)
{
	EXPECT_EQ(check_layouts(kvm, ARRAY_SIZE(kvm)), 0);
}

/* Offsets from the start of the message */
TEST(messages)
{
	struct {
		struct kvmi_msg_hdr hdr;
		struct kvmi_event_hdr event;
		struct kvmi_vcpu_event common;
		struct kvmi_vcpu_event_pf pf;
	} *event = NULL;
	struct {
		struct kvmi_msg_hdr hdr;
		struct kvmi_vcpu_hdr vcpu;
		struct kvmi_vcpu_event_reply reply;
	} *reply = NULL;

	EXPECT_EQ((size_t)&event->event, 8);
	EXPECT_EQ((size_t)&event->common, 16);
	EXPECT_EQ((size_t)&event->common.vcpu, 18);
	EXPECT_EQ((size_t)&event->common.arch.mode, 24);
	EXPECT_EQ((size_t)&event->common.arch.regs, 32);
	EXPECT_EQ((size_t)&event->common.arch.sregs, 176);
	EXPECT_EQ((size_t)&event->common.arch.msrs, 488);
	EXPECT_EQ((size_t)&event->pf, 560);
	EXPECT_EQ(sizeof(*event) - 8, 576);
	EXPECT_EQ(sizeof(*event) - sizeof(event->pf) - 8, 552);
	EXPECT_EQ((size_t)&reply->reply, 16);
	EXPECT_EQ(sizeof(*reply), 24);
}

struct number {
	const char *name;
	unsigned long have, want;
};

#define NUMBER(name, want)	{ #name, name, want }

static const struct number numbers[] = {
	NUMBER(KVMI_VERSION, 1),

	NUMBER(KVMI_VM_EVENT, 0),
	NUMBER(KVMI_GET_VERSION, 2),
	NUMBER(KVMI_VM_CHECK_COMMAND, 4),
	NUMBER(KVMI_VM_CHECK_EVENT, 6),
	NUMBER(KVMI_VM_GET_INFO, 8),
	NUMBER(KVMI_VM_CONTROL_EVENTS, 10),
	NUMBER(KVMI_VM_READ_PHYSICAL, 12),
	NUMBER(KVMI_VM_WRITE_PHYSICAL, 14),
	NUMBER(KVMI_VM_PAUSE_VCPU, 16),
	NUMBER(KVMI_VM_CONTROL_CLEANUP, 18),
	NUMBER(KVMI_VM_SET_PAGE_ACCESS, 20),
	NUMBER(KVMI_NEXT_VM_MESSAGE, 21),

	NUMBER(KVMI_VCPU_EVENT, 1),
	NUMBER(KVMI_VCPU_GET_INFO, 3),
	NUMBER(KVMI_VCPU_CONTROL_EVENTS, 5),
	NUMBER(KVMI_VCPU_GET_REGISTERS, 7),
	NUMBER(KVMI_VCPU_SET_REGISTERS, 9),
	NUMBER(KVMI_VCPU_GET_CPUID, 11),
	NUMBER(KVMI_VCPU_CONTROL_CR, 13),
	NUMBER(KVMI_VCPU_INJECT_EXCEPTION, 15),
	NUMBER(KVMI_VCPU_GET_XCR, 17),
	NUMBER(KVMI_VCPU_GET_XSAVE, 19),
	NUMBER(KVMI_VCPU_SET_XSAVE, 21),
	NUMBER(KVMI_VCPU_GET_MTRR_TYPE, 23),
	NUMBER(KVMI_VCPU_CONTROL_MSR, 25),
	NUMBER(KVMI_VCPU_CONTROL_SINGLESTEP, 27),
	NUMBER(KVMI_VCPU_TRANSLATE_GVA, 29),
	NUMBER(KVMI_NEXT_VCPU_MESSAGE, 30),

	NUMBER(KVMI_VM_EVENT_UNHOOK, 0),
	NUMBER(KVMI_NEXT_VM_EVENT, 1),
	NUMBER(KVMI_VCPU_EVENT_PAUSE, 1),
	NUMBER(KVMI_VCPU_EVENT_HYPERCALL, 3),
	NUMBER(KVMI_VCPU_EVENT_BREAKPOINT, 5),
	NUMBER(KVMI_VCPU_EVENT_CR, 7),
	NUMBER(KVMI_VCPU_EVENT_TRAP, 9),
	NUMBER(KVMI_VCPU_EVENT_XSETBV, 11),
	NUMBER(KVMI_VCPU_EVENT_DESCRIPTOR, 13),
	NUMBER(KVMI_VCPU_EVENT_MSR, 15),
	NUMBER(KVMI_VCPU_EVENT_PF, 17),
	NUMBER(KVMI_VCPU_EVENT_SINGLESTEP, 19),
	NUMBER(KVMI_NEXT_VCPU_EVENT, 20),

	NUMBER(KVMI_VM_GET_MAX_GFN, 512),

	NUMBER(KVMI_EVENT_ACTION_CONTINUE, 0),
	NUMBER(KVMI_EVENT_ACTION_RETRY, 1),
	NUMBER(KVMI_EVENT_ACTION_CRASH, 2),

	NUMBER(KVMI_PAGE_ACCESS_R, 1),
	NUMBER(KVMI_PAGE_ACCESS_W, 2),
	NUMBER(KVMI_PAGE_ACCESS_X, 4),

	NUMBER(KVMI_DESC_IDTR, 1),
	NUMBER(KVMI_DESC_GDTR, 2),
	NUMBER(KVMI_DESC_LDTR, 3),
	NUMBER(KVMI_DESC_TR, 4),

	NUMBER(KVM_EPERM, 1),
	NUMBER(KVM_ENOENT, 2),
	NUMBER(KVM_E2BIG, 7),
	NUMBER(KVM_EAGAIN, 11),
	NUMBER(KVM_ENOMEM, 12),
	NUMBER(KVM_EFAULT, 14),
	NUMBER(KVM_EBUSY, 16),
	NUMBER(KVM_EINVAL, 22),
	NUMBER(KVM_EOPNOTSUPP, 95),
	NUMBER(KVM_ENOSYS, 1000),

	NUMBER(KVM_CAP_INTROSPECTION, 1000),
	NUMBER(KVM_INTROSPECTION_HOOK, 0x4018aec8),
	NUMBER(KVM_INTROSPECTION_UNHOOK, 0xaec9),
	NUMBER(KVM_INTROSPECTION_COMMAND, 0x4008aeca),
	NUMBER(KVM_INTROSPECTION_EVENT, 0x4008aecb),
	NUMBER(KVM_INTROSPECTION_PREUNHOOK, 0xaecc),
};

TEST(constants)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(numbers); i++) {
		const struct number *n = &numbers[i];

		if (n->have != n->want)
			ksft_print_msg("%s: %#lx, want %#lx\n", n->name, n->have,
				       n->want);
		EXPECT_EQ(n->have, n->want);
	}
}

TEST_HARNESS_MAIN
