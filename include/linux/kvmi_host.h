/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef __KVMI_HOST_H
#define __KVMI_HOST_H

/*
 * KVM introspection: what the rest of KVM sees of it.
 *
 * Everything here compiles to nothing without CONFIG_KVM_INTROSPECTION and
 * hides behind a static key, off until the first VM is hooked, with it.
 */

#include <linux/types.h>

struct kvm;
struct kvm_vcpu;

#ifdef CONFIG_KVM_INTROSPECTION

#include <linux/jump_label.h>
#include <linux/mutex.h>
#include <linux/xarray.h>

struct kvm_introspection;
struct kvm_vcpu_introspection;

/**
 * struct kvmi_vm - the introspection state that a VM has all its life
 * @lock: serialises the introspection ioctls of the VM; taken outside
 *	kvm->lock and kvm->slots_lock
 * @session: the connection with a tool, NULL unless hooked; written under
 *	@lock, read in a kvm->srcu section
 * @access: gfn to page restrictions, see virt/kvm/introspection/access.c
 * @hidden: the guest's memory is encrypted, there is nothing to be seen; under
 *	kvm->lock
 */
struct kvmi_vm {
	struct mutex lock;		/* ioctls, one at a time */
	struct kvm_introspection __rcu *session;
	struct xarray access;
	bool hidden;
};

DECLARE_STATIC_KEY_FALSE(kvmi_hooked_key);

/* Is any VM of this host hooked?  Guards each call from a path that pays. */
static inline bool kvmi_hooked(void)
{
	return static_branch_unlikely(&kvmi_hooked_key);
}

void kvmi_create_vm(struct kvm *kvm);
void kvmi_destroy_vm(struct kvm *kvm);
int kvmi_create_vcpu(struct kvm_vcpu *vcpu);
void kvmi_destroy_vcpu(struct kvm_vcpu *vcpu);
bool kvmi_hide_vm(struct kvm *kvm);
void kvmi_reveal_vm(struct kvm *kvm);
int kvmi_check_extension(void);
int kvmi_vm_ioctl(struct kvm *kvm, unsigned int ioctl, void __user *argp);

bool __kvmi_vcpu_has_work(struct kvm_vcpu *vcpu);
int kvmi_vcpu_do_work(struct kvm_vcpu *vcpu);

/* Must kvmi_vcpu_do_work() run before this vCPU (re-)enters the guest? */
static inline bool kvmi_vcpu_has_work(struct kvm_vcpu *vcpu)
{
	return kvmi_hooked() && __kvmi_vcpu_has_work(vcpu);
}

#else /* CONFIG_KVM_INTROSPECTION */

static inline bool kvmi_hooked(void) { return false; }
static inline void kvmi_create_vm(struct kvm *kvm) { }
static inline void kvmi_destroy_vm(struct kvm *kvm) { }
static inline int kvmi_create_vcpu(struct kvm_vcpu *vcpu) { return 0; }
static inline void kvmi_destroy_vcpu(struct kvm_vcpu *vcpu) { }
static inline bool kvmi_hide_vm(struct kvm *kvm) { return true; }
static inline void kvmi_reveal_vm(struct kvm *kvm) { }
static inline bool kvmi_vcpu_has_work(struct kvm_vcpu *vcpu) { return false; }
static inline int kvmi_vcpu_do_work(struct kvm_vcpu *vcpu) { return 1; }

#endif /* CONFIG_KVM_INTROSPECTION */

#endif /* __KVMI_HOST_H */
