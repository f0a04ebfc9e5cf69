/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KVMI_VM_INTERNAL_H
#define KVMI_VM_INTERNAL_H

/* A connected VM, for the files that serve it; everybody else has vm.h. */

#include "vm.h"

enum vm_state {
	VM_CONNECTING,			/* until we know what we may do */
	VM_READY,
	VM_GONE,
};

enum pf_state {
	PF_OFF,
	PF_ON,
	PF_ASKED,			/* the vCPU will switch it on when it runs */
	PF_NOT_YET,			/* the guest has not started this vCPU */
};

/*
 * Something that vCPUs are to report, also those that come later.  Several can
 * wish for the same.
 */
enum wish_kind {
	WISH_EVENT,
	WISH_CR,
	WISH_MSR,
};

struct wish {
	enum wish_kind kind;
	uint32_t arg;			/* event id, CR number or MSR */
	unsigned int refs;
	uint32_t done;			/* the vCPUs below this one have it */
};

#define MAX_WISHES	64

struct vm {
	LIST_ENTRY(vm) entry;
	struct vms *vms;
	unsigned int number;
	unsigned int refs;		/* under vms->lock */
	pid_t pid;			/* of the VMM, as the socket knows it */
	struct kvmi_hello hello;
	char uuid[UUID_TEXT_SIZE];
	struct kvmi_dom *dom;
	pthread_t keeper;

	pthread_mutex_t lock;
	pthread_cond_t changed;
	enum vm_state state;
	char why[FAILURE_SIZE];		/* it has gone, or cannot be used */
	int why_status;
	struct kvmi_get_version_reply version;
	uint64_t commands;		/* allowed ones, a bit per id */
	uint64_t events;
	uint32_t vcpu_count;
	bool want_pf;			/* page-fault events on all vCPUs */
	bool pf_tried;			/* by the keeper, at least once */
	char pf_why[FAILURE_SIZE];	/* ... and why that failed */
	int pf_status;
	uint8_t *pf;			/* enum pf_state per vCPU */
	uint32_t nr_pf;
	LIST_HEAD(, watcher) watchers;
	uint64_t nr_events;
	uint64_t nr_unwatched;
	unsigned int nr_wishes;		/* changes under both locks */
	struct vcpu_set held;		/* are not to go on by themselves */
	bool letting_go;		/* the VMM has asked for that */

	struct kvmi_debug *debug;	/* has a lock of its own */

	/* What all vCPUs are to report.  Taken without @lock. */
	pthread_mutex_t wish_lock;
	struct wish wishes[MAX_WISHES];

	/* Page access: the map is what the kernel has.  Taken without @lock. */
	pthread_mutex_t access_lock;
	struct access_map access;
};

/* A failure of the library as one of ours. */
int fail_kvmi(int err);
/* The same, with the VM's name in front. */
int fail_vm(const struct vm *vm, int err);
/* Is a command allowed?  Tells before half the work is done. */
int check_allowed(struct vm *vm, uint16_t id);
int check_event_allowed(struct vm *vm, uint16_t id);
/* @data is the struct vm. */
int read_guest(void *data, uint64_t gpa, void *buf, size_t size);
void vm_deadline(struct timespec *ts, unsigned int ms);

/* vm-debug.c: an event for the debugger; false if it is none. */
bool vm_debug_event(struct vm *vm, const struct kvmi_event *ev);
/* For kvmi_debug_on_restore(): @data is the struct vm. */
int vm_restore_page(void *data, uint16_t vcpu, __u64 gpa);
/* Make the wishes of vCPUs that have come, too; in the keeper. */
void vm_grant_wishes(struct vm *vm);

/* vm.c: tell the watchers that this is for; whether there is one. */
bool vm_tell(struct vm *vm, struct vm_event *event);

#endif /* KVMI_VM_INTERNAL_H */
