/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KVMI_VMM_H
#define KVMI_VMM_H

/* A running VMM, seen from outside: its VMs, and ioctls on them. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "inject.h"

struct vmm {
	pid_t pid;
	char comm[32];			/* the name of the process */
	int64_t start_time;		/* seconds since the epoch */
	uint64_t start_ticks;		/* as /proc has it, since boot */
	int *vm_fds;			/* one per VM */
	size_t nr_vms;
	int fd;				/* of the VM that was chosen */
	struct inject *inj;
};

/* Find the VMs of a process and choose one; @number is 1..., or 0 for the only one. */
int vmm_open(struct vmm *vmm, pid_t pid, unsigned int number);
void vmm_close(struct vmm *vmm);

int vmm_stop(struct vmm *vmm);
int vmm_resume(struct vmm *vmm);
/* An ioctl on the VM, while stopped; negated errno in @ret is no failure. */
int vmm_ioctl(struct vmm *vmm, long *ret, unsigned long request, uint64_t arg);
int vmm_ioctl_struct(struct vmm *vmm, long *ret, unsigned long request,
		     const void *arg, size_t size);
/* Is there introspection, and is it switched on? */
int vmm_check_introspection(struct vmm *vmm);
int fail_introspection_off(void);

void vmm_default_uuid(const struct vmm *vmm, uint8_t uuid[16]);

#endif /* KVMI_VMM_H */
