/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KVMI_VM_H
#define KVMI_VM_H

/*
 * The VMs that are connected to a listener.
 *
 * Each has two threads: one takes its events and answers them, whatever else
 * goes on, so that the guest never waits for us longer than it must; the other,
 * the keeper, finds out what the VM allows, and switches events on for vCPUs as
 * they come.  Commands are sent from whichever thread wants them.
 */

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <time.h>

#include <json-c/json.h>
#include <kvmi/libkvmi.h>

#include "access-map.h"
#include "failure.h"
#include "parse.h"

struct vm;

/* What a watcher is told about an event. */
struct vm_event {
	struct timespec time;
	uint16_t id;			/* KVMI_VCPU_EVENT_* */
	uint16_t vcpu;
	uint64_t rip;
	uint64_t gva;
	uint64_t gpa;
	uint32_t number;		/* of the register, vector or table */
	uint64_t old_value;
	uint64_t new_value;
	uint8_t access;
	uint8_t action;			/* KVMI_EVENT_ACTION_*, as answered */
	bool lifted;			/* by a watcher with @once */
	char note[160];			/* why the action is not the wanted one */
};

#define WATCHER_EVENTS	1024
#define WATCHER_GPAS	64

/*
 * Somebody who wants to see events.  What cannot be kept for him is counted as
 * lost: it is he who has to be quick, not the guest to be slow.
 */
struct watcher {
	LIST_ENTRY(watcher) entry;
	uint8_t action;			/* what to answer */
	bool once;			/* lift what was violated, then RETRY */
	uint64_t count;			/* end after so many events; 0: never */
	uint32_t kinds;			/* a bit for each event id */
	int vcpu;			/* or -1 for all */
	uint64_t gpa_start, gpa_end;	/* the last one; 0: all */
	uint64_t gpas[WATCHER_GPAS];	/* or just these */
	unsigned int nr_gpas;

	int wake_fd;			/* readable when there is something */
	uint64_t seen;
	uint64_t lost;
	uint64_t counts[32];		/* by event id */
	unsigned int head, tail;	/* of the ring */
	struct vm_event ring[WATCHER_EVENTS];
	bool ended;			/* no more events will come ... */
	char why[FAILURE_SIZE];		/* ... because of this, if not the count */
};

/* All VMs of a listener. */
struct vms {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	LIST_HEAD(, vm) list;
	unsigned int nr_threads;	/* that serve VMs */
	unsigned int next_number;
	const struct kvmi_auth *auth;	/* for handshakes, or NULL */
	bool json;			/* how to report on stdout */
	bool stopping;
};

void vms_init(struct vms *vms, bool json);
/* Take a connection; it belongs to a new thread from here on. */
void vms_accept(struct vms *vms, int fd);
void vms_shutdown(struct vms *vms);
/* Print one line for those who watch the listener itself. */
void vms_say(struct vms *vms, struct json_object *object, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* The VM that is meant, once it is ready; NULL selects the only one. */
int vm_get(struct vms *vms, const char *selector, struct vm **vm);
void vm_put(struct vm *vm);

void vm_describe(struct vm *vm, struct json_object *out);
int vm_info(struct vm *vm, bool kernel, struct json_object *out);
int vm_protect(struct vm *vm, const struct page_range *ranges,
	       const uint8_t *access, size_t n, struct json_object *out);

/* All, or those that @selector is about. */
void vms_list(struct vms *vms, const char *selector, struct json_object *out);

/* vm-debug.c; @vcpu is -1 where all are meant. */
int vm_regs(struct vm *vm, int vcpu, const uint32_t *msrs, unsigned int nmsrs,
	    struct json_object *out);
int vm_translate(struct vm *vm, uint16_t vcpu, uint64_t gva, uint64_t *gpa);
int vm_read(struct vm *vm, int vcpu, uint64_t address, void *buf, size_t size);
int vm_write(struct vm *vm, int vcpu, uint64_t address, const void *buf, size_t size);
int vm_want_event(struct vm *vm, uint16_t id, bool on);
int vm_track(struct vm *vm, bool msr, uint32_t number, bool on);
int vm_pause(struct vm *vm, int vcpu, struct json_object *out);
int vm_resume(struct vm *vm, int vcpu, struct json_object *out);

/* Some of a VM's vCPUs. */
struct vcpu_set {
	uint64_t bits[1024];
};

/* For a while: those in @kept were to stand still already, and are to go on so. */
int vm_pause_all(struct vm *vm, struct vcpu_set *kept);
void vm_resume_all_but(struct vm *vm, const struct vcpu_set *kept);
/* One instruction; @event is the vCPU's state behind it. */
int vm_step(struct vm *vm, uint16_t vcpu, struct kvmi_event *event);
int vm_break(struct vm *vm, uint64_t gpa);
int vm_unbreak(struct vm *vm, uint64_t gpa);
bool vm_is_paused(struct vm *vm, uint16_t vcpu);
void vm_remove_breaks(struct vm *vm, const uint64_t *gpas, size_t n, int err);

/* vm-dump.c */
typedef int (*dump_progress)(void *data, uint64_t done, uint64_t total, uint64_t bytes);

int vm_dump(struct vm *vm, int fd, uint64_t max_gpa, dump_progress progress, void *data,
	    struct json_object *out);

int vm_watch(struct vm *vm, struct watcher *watcher);
void vm_unwatch(struct vm *vm, struct watcher *watcher);
/* The next event, or false if there is none now; @ended says if that is the end. */
bool vm_next_event(struct vm *vm, struct watcher *watcher, struct vm_event *event,
		   bool *ended);

const char *action_name(uint8_t action);

#endif /* KVMI_VM_H */
