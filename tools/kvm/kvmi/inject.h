/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KVMI_INJECT_H
#define KVMI_INJECT_H

/*
 * Have another process carry out system calls.
 *
 *	inject_open(pid, NULL, &inj);
 *	inject_stop(inj);
 *	inject_call(inj, &ret, __NR_..., ...);
 *	inject_resume(inj);
 *	inject_close(inj);
 *
 * One thread of the process is stopped with ptrace; all others run on.  After
 * inject_resume() that thread goes on as if nothing had been: with the same
 * registers, signal mask and memory, in the system call that it was in, which
 * the kernel restarts as it does after any stop.
 *
 * Should the tracer be killed between inject_stop() and inject_resume(), the
 * thread finishes the system call that it is in and then finds its way back by
 * itself: while it is in foreign hands its stack pointer is at a signal frame
 * that holds its own state, and what follows the system call instruction used
 * is a return to the C library's sigreturn.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct inject;

struct inject_options {
	pid_t tid;		/* this thread, not the one that suits best */
	bool own_memory;	/* map memory for the work, leave the stack alone */
};

/* Room in the process for what system calls read and write. */
#define INJECT_DATA_SIZE	2048

int inject_open(pid_t pid, const struct inject_options *options,
		struct inject **inj);
void inject_close(struct inject *inj);

int inject_stop(struct inject *inj);
int inject_resume(struct inject *inj);

/* The thread that is stopped, and where its data room is. */
pid_t inject_tid(const struct inject *inj);
uint64_t inject_data(const struct inject *inj, size_t offset);

int inject_write(struct inject *inj, size_t offset, const void *buf, size_t size);
int inject_read(struct inject *inj, size_t offset, void *buf, size_t size);

/* @ret is what the kernel returned: negated errnos are no failure here. */
int inject_call(struct inject *inj, long *ret, long nr, uint64_t a0,
		uint64_t a1, uint64_t a2, uint64_t a3, uint64_t a4, uint64_t a5);

#endif /* KVMI_INJECT_H */
