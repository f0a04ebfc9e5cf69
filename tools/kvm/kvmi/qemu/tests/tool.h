/* SPDX-License-Identifier: GPL-2.0 */
#ifndef QEMU_TEST_TOOL_H
#define QEMU_TEST_TOOL_H

/*
 * An introspection tool, in threads of its own: takes every VM that connects,
 * restricts what it is told to restrict, lets every access go on and counts.
 */

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include <kvmi/libkvmi.h>

#define TOOL_MAX_PAGES	256
#define TOOL_MAX_ANSWER	200
#define TOOL_BREAKPOINT	0xcc

struct tool {
	/* what it does; may be changed while it runs */
	atomic_bool arms;		/* restricts pages, enables events */
	atomic_bool lets_go;		/* when it is told to, or was */
	atomic_int dawdles;		/* for so many ms before that */
	atomic_bool answers;		/* the VMM's hello */
	const __u8 *cookie_hash;
	__u32 odd_answer;		/* the size of one, if it is not as it should be */
	__u64 pages[TOOL_MAX_PAGES];	/* gpas that lose write access */
	int nr_pages;
	__u64 patch;			/* gpa of the byte for which it puts a breakpoint */
	unsigned short vsock_port;	/* listens there instead of on a path */

	/* what it has seen */
	atomic_int greeted;		/* hellos answered */
	atomic_int hooked;		/* VMs that answered a command */
	atomic_int armed;
	atomic_int events;		/* page faults */
	atomic_int told;		/* to let go */
	atomic_int gone;		/* connections that ended */
	int patched;			/* the byte that was there before */
	struct kvmi_hello hello;	/* the last */

	pthread_mutex_t lock;
	struct kvmi_dom *dom;		/* the last VM's, under lock */
	struct kvmi_listener *listener;
	int listen_fd;
	atomic_bool stopping;
	atomic_int nr_threads;
	pthread_t thread;
};

/* Starts with all counters at 0. */
bool tool_start(struct tool *tool, const char *path);
/* Ends like a tool that is killed: without a word. */
void tool_stop(struct tool *tool);

/* The result of checking a command or an event of the last VM. */
int tool_check(struct tool *tool, bool event, int id);
/* A byte of the last VM's memory, or an error. */
int tool_peek(struct tool *tool, __u64 gpa);
/* Have the tool restrict pages of the last VM now. */
bool tool_arm(struct tool *tool);

#endif /* QEMU_TEST_TOOL_H */
