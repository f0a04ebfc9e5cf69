/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef __KVMI_ARCH_H
#define __KVMI_ARCH_H

/*
 * KVM introspection: the contract between the generic core, in
 * virt/kvm/introspection, and the architecture's part.
 */

#include <linux/kvm_host.h>
#include <linux/kvmi_host.h>
#include <uapi/linux/kvmi.h>

struct kvm_introspection;

/**
 * struct kvmi_request - a command being served
 * @kvmi: the session it came from
 * @vcpu: the vCPU that it is for, NULL for a VM command
 * @hdr: its header
 * @fixed: its fixed part, as long as the table of commands says; what the
 *	tool did not send reads as 0
 * @data: all that follows @fixed
 * @size: bytes at @data
 */
struct kvmi_request {
	struct kvm_introspection *kvmi;
	struct kvm_vcpu *vcpu;
	const struct kvmi_msg_hdr *hdr;
	const void *fixed;
	const void *data;
	size_t size;
};

/* The most that may follow the header of a message, in bytes */
#define KVMI_MAX_MSG_SIZE	(8192 - sizeof(struct kvmi_msg_hdr))

/* What the core offers to the architecture */

int kvmi_reply(const struct kvmi_request *req, int err,
	       const void *data, size_t size);

u8 kvmi_access_denied(struct kvm *kvm, gfn_t gfn);
bool kvmi_access_restricted_in(struct kvm *kvm, gfn_t start, gfn_t npages);

/**
 * enum kvmi_pf_cause - why an access was given up
 * @KVMI_PF_SILENT: it is none of the tool's business
 * @KVMI_PF_BY_GUEST: the guest's own, which the tool is to hear of
 * @KVMI_PF_BY_WALK: the CPU's own, to its guest's page tables; the same
 */
enum kvmi_pf_cause {
	KVMI_PF_SILENT,
	KVMI_PF_BY_GUEST,
	KVMI_PF_BY_WALK,
};

/* Something that is so or not of a page */
typedef bool (*kvmi_pf_page_fn)(struct kvm_vcpu *vcpu, gfn_t gfn, bool arg);

void kvmi_pf_raise(struct kvm_vcpu *vcpu, gva_t gva, gpa_t gpa, u8 access,
		   enum kvmi_pf_cause cause, bool delivering);
bool kvmi_pf_wants_walks(struct kvm_vcpu *vcpu);
bool kvmi_pf_is_allowed(struct kvm_vcpu *vcpu, gfn_t gfn, u8 access,
			bool delivering);
u8 kvmi_pf_relaxed(struct kvm_vcpu *vcpu, gfn_t gfn);
bool kvmi_pf_any_relaxed(struct kvm_vcpu *vcpu, kvmi_pf_page_fn fn, bool arg);
bool kvmi_pf_is_pending(struct kvm_vcpu *vcpu);
bool kvmi_pf_is_relaxing(struct kvm_vcpu *vcpu);
bool kvmi_inject_is_entering(struct kvm_vcpu *vcpu);

/**
 * struct kvmi_insn_event - what the tool is to be told about an instruction
 * @id: the event
 * @actions: mask of the actions that the tool may choose from
 * @size: bytes at @data
 * @reply_size: how much the reply may be longer than others: 0, or as long as
 *	@value
 * @data: what is particular to the event
 * @value: what the instruction writes; replaced by the tool's reply, if that
 *	has a value
 * @complete: carries out the instruction; returns 1 to go on with the guest,
 *	0 to exit to user space, or a negative errno
 */
struct kvmi_insn_event {
	u16 id;
	u8 actions;
	u8 size;
	u8 reply_size;
	u64 data[3];
	u64 value;
	int (*complete)(struct kvm_vcpu *vcpu);
};

bool kvmi_is_event_enabled(struct kvm_vcpu *vcpu, u16 id);
void kvmi_insn_raise(struct kvm_vcpu *vcpu,
		     const struct kvmi_insn_event *event);
bool kvmi_insn_is_pending(struct kvm_vcpu *vcpu);
bool kvmi_insn_answer(struct kvm_vcpu *vcpu, u16 id, u64 key, u64 *value);

/* What the core asks of the architecture */

/**
 * struct kvmi_arch_insn - an attempt to execute one instruction
 * @stamp: differs once the vCPU has been in the guest
 * @ip: address of the instruction
 */
struct kvmi_arch_insn {
	u64 stamp;
	unsigned long ip;
};

/* Returned by kvmi_arch_pf_continue() */
#define KVMI_GO_ON_NATIVELY	2

int kvmi_arch_hook(struct kvm *kvm);
void kvmi_arch_unhook(struct kvm *kvm);
bool kvmi_arch_vcpu_can_be_introspected(struct kvm_vcpu *vcpu);
void kvmi_arch_fill_event(struct kvm_vcpu *vcpu,
			  struct kvmi_vcpu_event_arch *ev);
void kvmi_arch_get_features(struct kvmi_features *features);
void kvmi_arch_set_regs(struct kvm_vcpu *vcpu, struct kvm_regs *regs);
gpa_t kvmi_arch_translate_gva(struct kvm_vcpu *vcpu, gva_t gva);
bool kvmi_arch_vcpu_is_away(struct kvm_vcpu *vcpu);
int kvmi_arch_cmd_vcpu_get_info(const struct kvmi_request *req);
int kvmi_arch_cmd_vcpu_get_registers(const struct kvmi_request *req);
int kvmi_arch_cmd_vcpu_get_cpuid(const struct kvmi_request *req);
int kvmi_arch_cmd_vcpu_get_xcr(const struct kvmi_request *req);
int kvmi_arch_cmd_vcpu_get_xsave(const struct kvmi_request *req);
int kvmi_arch_cmd_vcpu_set_xsave(const struct kvmi_request *req);
int kvmi_arch_cmd_vcpu_get_mtrr_type(const struct kvmi_request *req);

bool kvmi_arch_is_valid_exception(struct kvm_vcpu *vcpu,
				  const struct kvmi_vcpu_inject_exception *exception);
bool kvmi_arch_is_redelivering_exception(struct kvm_vcpu *vcpu);
bool kvmi_arch_inject_exception(struct kvm_vcpu *vcpu,
				const struct kvmi_vcpu_inject_exception *exception,
				struct kvmi_vcpu_event_trap *trap);

bool kvmi_arch_zap_gfns(struct kvm *kvm, struct kvm_memory_slot *slot,
			gfn_t start, gfn_t end, bool may_yield);
gfn_t kvmi_arch_mapping_size(struct kvm *kvm, struct kvm_memory_slot *slot,
			     gfn_t gfn);

bool kvmi_arch_step_is_supported(void);
void kvmi_arch_step_control(struct kvm_vcpu *vcpu, bool on);
void kvmi_arch_step_next(struct kvm_vcpu *vcpu);
bool kvmi_arch_step_is_over(struct kvm_vcpu *vcpu, bool *failed);
bool kvmi_arch_step_has_left(struct kvm_vcpu *vcpu);
void kvmi_arch_step_stop(struct kvm *kvm);

void kvmi_arch_get_insn(struct kvm_vcpu *vcpu, struct kvmi_arch_insn *insn);
int kvmi_arch_pf_continue(struct kvm_vcpu *vcpu);
void kvmi_arch_native_begin(struct kvm_vcpu *vcpu);
bool kvmi_arch_native_goes_on(struct kvm_vcpu *vcpu);
void kvmi_arch_native_end(struct kvm_vcpu *vcpu);
void kvmi_arch_pf_unseen(struct kvm_vcpu *vcpu);
bool kvmi_arch_has_own_root(struct kvm_vcpu *vcpu);
bool kvmi_arch_own_root_begin(struct kvm_vcpu *vcpu);
void kvmi_arch_own_root_end(struct kvm_vcpu *vcpu);
bool kvmi_arch_vcpu_is_delivering(struct kvm_vcpu *vcpu);
bool kvmi_arch_has_delivered(struct kvm_vcpu *vcpu);
bool kvmi_arch_reports_walks(void);

int kvmi_arch_control_event(struct kvm_vcpu *vcpu, u16 id, bool enable);
bool kvmi_arch_end_intercepts(struct kvm_vcpu *vcpu);
bool kvmi_arch_drop_intercepts(struct kvm_vcpu *vcpu, bool restore);
void kvmi_arch_lift_intercepts(struct kvm_vcpu *vcpu);
void kvmi_arch_free_intercepts(struct kvm_vcpu *vcpu);
int kvmi_arch_cmd_vcpu_control_cr(const struct kvmi_request *req);
int kvmi_arch_cmd_vcpu_control_msr(const struct kvmi_request *req);

#endif /* __KVMI_ARCH_H */
