// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM introspection: the ioctls, and the life of a session
 *
 * A session begins with KVM_INTROSPECTION_HOOK and ends with
 * KVM_INTROSPECTION_UNHOOK, with the VM, or with the next HOOK once its tool
 * has gone.  kvm->kvmi.lock serialises all that.  The static key is on while
 * any VM of the host has a session.
 */

#include <linux/module.h>
#include <linux/uaccess.h>
#include "kvmi_int.h"

static bool enable_introspection;
module_param_named(introspection, enable_introspection, bool, 0444);
MODULE_PARM_DESC(introspection, "Let a tool watch and control VMs (default: off)");

DEFINE_STATIC_KEY_FALSE(kvmi_hooked_key);
EXPORT_SYMBOL_GPL(kvmi_hooked_key);

/* No VMM can take these away from its tool. */
static const u16 kvmi_always_allowed[] = {
	KVMI_GET_VERSION,
	KVMI_VM_CHECK_COMMAND,
	KVMI_VM_CHECK_EVENT,
};

/**
 * kvmi_create_vm - prepare a new VM for introspection
 * @kvm: the VM, nobody else knows it yet
 */
void kvmi_create_vm(struct kvm *kvm)
{
	mutex_init(&kvm->kvmi.lock);
	xa_init_flags(&kvm->kvmi.access, XA_FLAGS_ACCOUNT);
}

/**
 * kvmi_hide_vm - the memory of a VM is about to be encrypted
 * @kvm: the VM; kvm->lock is held
 *
 * Return: false if a tool is looking into the VM, which must not go on then.
 */
bool kvmi_hide_vm(struct kvm *kvm)
{
	lockdep_assert_held(&kvm->lock);

	if (rcu_access_pointer(kvm->kvmi.session))
		return false;
	kvm->kvmi.hidden = true;

	return true;
}
EXPORT_SYMBOL_GPL(kvmi_hide_vm);

/**
 * kvmi_reveal_vm - it is not encrypted after all
 * @kvm: the VM; kvm->lock is held since kvmi_hide_vm()
 */
void kvmi_reveal_vm(struct kvm *kvm)
{
	lockdep_assert_held(&kvm->lock);

	kvm->kvmi.hidden = false;
}
EXPORT_SYMBOL_GPL(kvmi_reveal_vm);

/**
 * kvmi_check_extension - the value of KVM_CAP_INTROSPECTION
 */
int kvmi_check_extension(void)
{
	return enable_introspection ? KVMI_VERSION : 0;
}

static struct kvm_introspection *kvmi_session(struct kvm *kvm)
{
	return rcu_dereference_protected(kvm->kvmi.session,
					 lockdep_is_held(&kvm->kvmi.lock));
}

/**
 * kvmi_create_vcpu - have a new vCPU introspected if its VM is
 * @vcpu: the vCPU, complete but not visible yet
 *
 * Under kvm->lock.
 */
int kvmi_create_vcpu(struct kvm_vcpu *vcpu)
{
	struct kvm_introspection *kvmi;

	lockdep_assert_held(&vcpu->kvm->lock);

	/* Set under kvm->lock, and nobody clears it before that is dropped. */
	kvmi = rcu_dereference_protected(vcpu->kvm->kvmi.session,
					 lockdep_is_held(&vcpu->kvm->lock));
	if (!kvmi)
		return 0;

	vcpu->kvmi = kvmi_vcpu_alloc(kvmi);

	return vcpu->kvmi ? 0 : -ENOMEM;
}

/**
 * kvmi_destroy_vcpu - undo kvmi_create_vcpu() for a vCPU that was never seen
 * @vcpu: the vCPU
 */
void kvmi_destroy_vcpu(struct kvm_vcpu *vcpu)
{
	kvmi_vcpu_free(vcpu->kvmi);
	vcpu->kvmi = NULL;
}

static void kvmi_free_vcpus(struct kvm *kvm, bool restore)
{
	struct kvm_vcpu *vcpu;
	unsigned long i;

	kvm_for_each_vcpu(i, vcpu, kvm) {
		kvmi_destroy_vcpu(vcpu);
		/*
		 * With the static key off, no vCPU looks at its request; one
		 * that has something left to lift keeps the key on.
		 */
		if (!kvmi_arch_drop_intercepts(vcpu, restore))
			kvm_clear_request(KVM_REQ_INTROSPECTION, vcpu);
	}
}

/* Nobody has seen the session, or nobody will see it any more. */
static void kvmi_free_session(struct kvm_introspection *kvmi)
{
	kvmi_sock_close(kvmi);
	kfree(kvmi->rx_buf);
	cleanup_srcu_struct(&kvmi->srcu);
	kfree(kvmi);
}

static struct kvm_introspection *
kvmi_alloc_session(struct kvm *kvm, const struct kvm_introspection_hook *hook)
{
	struct kvm_introspection *kvmi;
	int i;

	kvmi = kzalloc(sizeof(*kvmi), GFP_KERNEL_ACCOUNT);
	if (!kvmi)
		return NULL;

	if (init_srcu_struct(&kvmi->srcu)) {
		kfree(kvmi);
		return NULL;
	}

	kvmi->kvm = kvm;
	kvmi->restore_on_unhook = true;
	memcpy(&kvmi->uuid, hook->uuid, sizeof(kvmi->uuid));
	for (i = 0; i < ARRAY_SIZE(kvmi_always_allowed); i++)
		set_bit(kvmi_always_allowed[i], kvmi->cmd_allowed);

	return kvmi;
}

/*
 * End the session: no vCPU waits for its tool and nothing is restricted on
 * its behalf any more.
 */
static void kvmi_unhook(struct kvm *kvm)
{
	struct kvm_introspection *kvmi = kvmi_session(kvm);

	if (!kvmi)
		return;

	kvmi_kill(kvmi, NULL);
	kvmi_recv_stop(kvmi);

	mutex_lock(&kvm->lock);
	rcu_assign_pointer(kvm->kvmi.session, NULL);
	mutex_unlock(&kvm->lock);

	/* First nobody can find it, then nobody has it. */
	synchronize_srcu(&kvm->srcu);
	synchronize_srcu(&kvmi->srcu);

	kvmi_free_vcpus(kvm, kvmi->restore_on_unhook);
	kvmi_arch_unhook(kvm);
	static_branch_dec(&kvmi_hooked_key);
	kvmi_free_session(kvmi);
}

/* Make the session visible to the vCPUs, those to come included. */
static int kvmi_publish(struct kvm *kvm, struct kvm_introspection *kvmi)
{
	struct kvm_vcpu *vcpu;
	unsigned long i;

	mutex_lock(&kvm->lock);

	if (kvm->kvmi.hidden) {
		mutex_unlock(&kvm->lock);
		return -EOPNOTSUPP;
	}

	kvm_for_each_vcpu(i, vcpu, kvm) {
		vcpu->kvmi = kvmi_vcpu_alloc(kvmi);
		if (!vcpu->kvmi) {
			kvmi_free_vcpus(kvm, false);
			mutex_unlock(&kvm->lock);
			return -ENOMEM;
		}
	}
	rcu_assign_pointer(kvm->kvmi.session, kvmi);

	mutex_unlock(&kvm->lock);

	return 0;
}

static int kvmi_hook(struct kvm *kvm, const struct kvm_introspection_hook *hook)
{
	struct kvm_introspection *kvmi = kvmi_session(kvm);
	int r;

	if (kvmi && !kvmi_is_dead(kvmi) && !kvmi_sock_is_hung_up(kvmi))
		return -EEXIST;
	kvmi_unhook(kvm);

	r = kvmi_arch_hook(kvm);
	if (r)
		return r;

	r = -ENOMEM;
	kvmi = kvmi_alloc_session(kvm, hook);
	if (!kvmi)
		goto out_unhook;

	r = kvmi_sock_open(kvmi, hook->fd);
	if (r)
		goto out_free;

	r = kvmi_recv_create(kvmi);
	if (r)
		goto out_free;

	static_branch_inc(&kvmi_hooked_key);

	r = kvmi_publish(kvm, kvmi);
	if (r)
		goto out_dec;

	/* The tool may send commands from here on; nothing can fail any more. */
	kvmi_recv_start(kvmi);

	return 0;

out_dec:
	static_branch_dec(&kvmi_hooked_key);
	kvmi_recv_cancel(kvmi);
out_free:
	kvmi_free_session(kvmi);
out_unhook:
	kvmi_arch_unhook(kvm);
	return r;
}

static int kvmi_ioctl_hook(struct kvm *kvm, void __user *argp)
{
	struct kvm_introspection_hook hook;
	int r;

	if (copy_from_user(&hook, argp, sizeof(hook)))
		return -EFAULT;
	if (hook.padding)
		return -EINVAL;

	mutex_lock(&kvm->kvmi.lock);
	r = kvmi_hook(kvm, &hook);
	mutex_unlock(&kvm->kvmi.lock);

	return r;
}

static int kvmi_ioctl_unhook(struct kvm *kvm)
{
	mutex_lock(&kvm->kvmi.lock);
	kvmi_unhook(kvm);
	mutex_unlock(&kvm->kvmi.lock);

	return 0;
}

static int kvmi_ioctl_preunhook(struct kvm *kvm)
{
	struct kvm_introspection *kvmi;
	int r = -EFAULT;

	mutex_lock(&kvm->kvmi.lock);
	kvmi = kvmi_session(kvm);
	if (kvmi)
		r = kvmi_vm_event_unhook(kvmi);
	mutex_unlock(&kvm->kvmi.lock);

	return r;
}

static bool kvmi_is_always_allowed(u16 id)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(kvmi_always_allowed); i++)
		if (kvmi_always_allowed[i] == id)
			return true;

	return false;
}

static void kvmi_allow_command(struct kvm_introspection *kvmi, u16 id,
			       bool allow)
{
	int bit = kvmi_command_bit(id);

	if (bit >= 0 && (allow || !kvmi_is_always_allowed(id)))
		assign_bit(bit, kvmi->cmd_allowed, allow);
}

static void kvmi_allow_commands(struct kvm_introspection *kvmi, s32 id,
				bool allow)
{
	u16 i;

	if (id >= 0) {
		kvmi_allow_command(kvmi, id, allow);
		return;
	}

	for (i = 0; i < KVMI_NUM_COMMANDS; i++)
		kvmi_allow_command(kvmi, i, allow);
	for (i = KVMI_FIRST_EXT_COMMAND; i < KVMI_NEXT_VM_EXT_MESSAGE; i++)
		kvmi_allow_command(kvmi, i, allow);
}

/* What is not allowed is not enabled either. */
static void kvmi_allow_event(struct kvm_introspection *kvmi, u16 id,
			     bool allow)
{
	struct kvm_vcpu *vcpu;
	unsigned long i;

	assign_bit(id, kvmi->event_allowed, allow);
	if (allow)
		return;

	/* Pairs with kvmi_enable_event() */
	smp_mb__after_atomic();
	clear_bit(id, kvmi->vm_events);
	kvm_for_each_vcpu(i, vcpu, kvmi->kvm) {
		clear_bit(id, vcpu->kvmi->events);
		if (id == KVMI_VCPU_EVENT_PAUSE)
			atomic_set(&vcpu->kvmi->pause_requests, 0);
		/* The vCPU need not intercept what it is about any more. */
		WRITE_ONCE(vcpu->kvmi->events_disallowed, true);
		kvmi_vcpu_kick(vcpu);
	}
}

static void kvmi_allow_events(struct kvm_introspection *kvmi, s32 id,
			      bool allow)
{
	u16 i;

	if (id >= 0) {
		kvmi_allow_event(kvmi, id, allow);
		return;
	}

	for (i = 0; i < KVMI_NUM_EVENTS; i++)
		kvmi_allow_event(kvmi, i, allow);
}

static bool kvmi_is_valid_feature(unsigned int ioctl, s32 id)
{
	if (id == -1)
		return true;
	if (id < 0 || id > U16_MAX)
		return false;

	return ioctl == KVM_INTROSPECTION_COMMAND ? kvmi_command_bit(id) >= 0 :
						    kvmi_is_known_event(id);
}

static int kvmi_ioctl_feature(struct kvm *kvm, unsigned int ioctl,
			      void __user *argp)
{
	bool is_command = ioctl == KVM_INTROSPECTION_COMMAND;
	struct kvm_introspection_feature feat;
	struct kvm_introspection *kvmi;
	int r = 0;

	if (copy_from_user(&feat, argp, sizeof(feat)))
		return -EFAULT;
	if (feat.allow > 1 || !kvmi_is_valid_feature(ioctl, feat.id))
		return -EINVAL;
	if (is_command && !feat.allow && feat.id >= 0 &&
	    kvmi_is_always_allowed(feat.id))
		return -EPERM;

	mutex_lock(&kvm->kvmi.lock);
	kvmi = kvmi_session(kvm);
	if (!kvmi)
		r = -EFAULT;
	else if (is_command)
		kvmi_allow_commands(kvmi, feat.id, feat.allow);
	else
		kvmi_allow_events(kvmi, feat.id, feat.allow);
	mutex_unlock(&kvm->kvmi.lock);

	return r;
}

/**
 * kvmi_vm_ioctl - the ioctls of a VM that concern introspection
 * @kvm: the VM
 * @ioctl: KVM_INTROSPECTION_*
 * @argp: its argument
 */
int kvmi_vm_ioctl(struct kvm *kvm, unsigned int ioctl, void __user *argp)
{
	if (!enable_introspection)
		return -EPERM;

	switch (ioctl) {
	case KVM_INTROSPECTION_HOOK:
		return kvmi_ioctl_hook(kvm, argp);
	case KVM_INTROSPECTION_UNHOOK:
		return kvmi_ioctl_unhook(kvm);
	case KVM_INTROSPECTION_PREUNHOOK:
		return kvmi_ioctl_preunhook(kvm);
	default:
		return kvmi_ioctl_feature(kvm, ioctl, argp);
	}
}

/**
 * kvmi_destroy_vm - the VM is about to go
 * @kvm: the VM, nobody uses it any more
 */
void kvmi_destroy_vm(struct kvm *kvm)
{
	struct kvm_vcpu *vcpu;
	unsigned long i;

	mutex_lock(&kvm->kvmi.lock);
	kvmi_unhook(kvm);
	kvm_for_each_vcpu(i, vcpu, kvm)
		kvmi_arch_free_intercepts(vcpu);
	kvmi_arch_step_stop(kvm);
	mutex_unlock(&kvm->kvmi.lock);
}
