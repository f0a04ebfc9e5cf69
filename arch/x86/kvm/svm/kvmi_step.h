/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef __SVM_KVMI_STEP_H
#define __SVM_KVMI_STEP_H

#include <linux/kvm_types.h>
#include <asm/svm.h>

/* Instructions that are executed with some help */
enum svm_step_native {
	SVM_STEP_NONE,
	SVM_STEP_LOADS_FLAGS,
	SVM_STEP_SYSRET,
};

/**
 * struct svm_kvmi_step - what svm_step_leave() has to put back, and more
 * @intercepts: those of KVM itself
 * @rip: where the guest was entered
 * @efer: the guest's
 * @r11: the guest's
 * @vnmi_pending: an NMI to be delivered by the CPU
 * @tf: the guest's, or that of KVM_SET_GUEST_DEBUG
 * @injects: an event is injected, nothing is executed
 * @hides_db: the #DB is not the guest's
 * @native: the instruction at @native_rip, known from the last exit
 * @native_rip: linear address
 * @exits: what that of struct kvmi_step is going to be, to know the exit by
 */
struct svm_kvmi_step {
	u32 intercepts[MAX_INTERCEPT];
	u64 rip;
	u64 efer;
	unsigned long r11;
	u32 vnmi_pending;
	bool tf;
	bool injects;
	bool hides_db;
	enum svm_step_native native;
	unsigned long native_rip;
	u64 exits;
};

struct kvm_vcpu;

#ifdef CONFIG_KVM_INTROSPECTION

bool svm_step_enter(struct kvm_vcpu *vcpu);
bool svm_step_leave(struct kvm_vcpu *vcpu);
bool svm_step_handle_exit(struct kvm_vcpu *vcpu, u64 exit_code, int *r);

#else /* CONFIG_KVM_INTROSPECTION */

static inline bool svm_step_enter(struct kvm_vcpu *vcpu)
{
	return false;
}

static inline bool svm_step_leave(struct kvm_vcpu *vcpu)
{
	return false;
}

static inline bool svm_step_handle_exit(struct kvm_vcpu *vcpu, u64 exit_code,
					int *r)
{
	return false;
}

#endif /* CONFIG_KVM_INTROSPECTION */

#endif /* __SVM_KVMI_STEP_H */
