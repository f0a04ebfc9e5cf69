/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KVMI_FAILURE_H
#define KVMI_FAILURE_H

/*
 * Functions of the command that can fail return 0 or the exit status that the
 * failure deserves, and leave a text behind.
 */
enum {
	KVMI_EXIT_OK = 0,
	KVMI_EXIT_FAILED = 1,	/* none of the below */
	KVMI_EXIT_USAGE = 2,	/* the command line is wrong */
	KVMI_EXIT_NOT_FOUND = 3,/* no such process, VM, socket or listener */
	KVMI_EXIT_DENIED = 4,	/* no permission, or introspection is disabled */
	KVMI_EXIT_BUSY = 5,	/* already hooked, traced, or taken */
	KVMI_EXIT_TIMEOUT = 6,	/* the other side did not answer in time */
	KVMI_EXIT_GONE = 7,	/* the VM or the VMM went away meanwhile */
};

/* Store the text of a failure and return its exit status. */
int fail(int status, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* The text that fail() stored last in this thread. */
const char *failure(void);

/* For the way out of a failure that can itself fail: keep the first text. */
#define FAILURE_SIZE	1024

void save_failure(char why[FAILURE_SIZE]);
int restore_failure(int status, const char why[FAILURE_SIZE]);

/* The status that goes with a negated errno of libkvmi. */
int status_of_errno(int err);

#endif /* KVMI_FAILURE_H */
