/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KVMI_KVM_IOCTLS_H
#define KVMI_KVM_IOCTLS_H

/*
 * The ioctls that connect a VM with a tool.  They are in linux/kvm.h of a kernel
 * that has introspection; this is for building with the headers of another.
 */

#include <linux/kvm.h>

#ifndef KVM_CAP_INTROSPECTION
#define KVM_CAP_INTROSPECTION 1000

struct kvm_introspection_hook {
	__s32 fd;
	__u32 padding;
	__u8 uuid[16];
};

struct kvm_introspection_feature {
	__u32 allow;
	__s32 id;
};

#define KVM_INTROSPECTION_HOOK		_IOW(KVMIO, 0xc8, struct kvm_introspection_hook)
#define KVM_INTROSPECTION_UNHOOK	_IO(KVMIO, 0xc9)
#define KVM_INTROSPECTION_COMMAND	_IOW(KVMIO, 0xca, struct kvm_introspection_feature)
#define KVM_INTROSPECTION_EVENT		_IOW(KVMIO, 0xcb, struct kvm_introspection_feature)
#define KVM_INTROSPECTION_PREUNHOOK	_IO(KVMIO, 0xcc)
#endif

#endif /* KVMI_KVM_IOCTLS_H */
