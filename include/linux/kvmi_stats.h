/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef __KVMI_STATS_H
#define __KVMI_STATS_H

/*
 * KVM introspection: its counters among KVM's statistics
 *
 * They are at the end of the generic ones, and nothing at all without
 * CONFIG_KVM_INTROSPECTION.  A vCPU's are written by its thread; of the VM's,
 * the commands are counted by the session's, the event under kvm->kvmi.lock.
 */

#include <linux/types.h>

#ifdef CONFIG_KVM_INTROSPECTION

struct kvmi_vm_stat {
	u64 vm_commands;
	u64 event_unhook;
};

struct kvmi_vcpu_stat {
	u64 vcpu_commands;
	/* how often the thread has begun to wait for the tool */
	u64 waits;
	/* events that were sent, in the order of their ids */
	union {
		struct {
			u64 event_pause;
			u64 event_hypercall;
			u64 event_breakpoint;
			u64 event_cr;
			u64 event_trap;
			u64 event_xsetbv;
			u64 event_descriptor;
			u64 event_msr;
			u64 event_pf;
			u64 event_singlestep;
		};
		u64 events[10];
	};
};

#define KVMI_STATS_DESC(type, stat)					\
	{								\
		STATS_DESC_COMMON(KVM_STATS_TYPE_CUMULATIVE,		\
				  KVM_STATS_UNIT_NONE,			\
				  KVM_STATS_BASE_POW10, 0, 1, 0),	\
		.offset = offsetof(type, generic.kvmi.stat),		\
		.name = "kvmi_" #stat,					\
	}
#define KVMI_VM_STATS_DESC(stat)	KVMI_STATS_DESC(struct kvm_vm_stat, stat)
#define KVMI_VCPU_STATS_DESC(stat)	KVMI_STATS_DESC(struct kvm_vcpu_stat, stat)

/* These follow others in a list, hence the comma in front. */
#define KVMI_VM_STATS()							\
	, KVMI_VM_STATS_DESC(vm_commands)				\
	, KVMI_VM_STATS_DESC(event_unhook)

#define KVMI_VCPU_STATS()						\
	, KVMI_VCPU_STATS_DESC(vcpu_commands)				\
	, KVMI_VCPU_STATS_DESC(waits)					\
	, KVMI_VCPU_STATS_DESC(event_pause)				\
	, KVMI_VCPU_STATS_DESC(event_hypercall)				\
	, KVMI_VCPU_STATS_DESC(event_breakpoint)			\
	, KVMI_VCPU_STATS_DESC(event_cr)				\
	, KVMI_VCPU_STATS_DESC(event_trap)				\
	, KVMI_VCPU_STATS_DESC(event_xsetbv)				\
	, KVMI_VCPU_STATS_DESC(event_descriptor)			\
	, KVMI_VCPU_STATS_DESC(event_msr)				\
	, KVMI_VCPU_STATS_DESC(event_pf)				\
	, KVMI_VCPU_STATS_DESC(event_singlestep)

#else /* CONFIG_KVM_INTROSPECTION */

struct kvmi_vm_stat {
};

struct kvmi_vcpu_stat {
};

#define KVMI_VM_STATS()
#define KVMI_VCPU_STATS()

#endif /* CONFIG_KVM_INTROSPECTION */

#endif /* __KVMI_STATS_H */
