/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KVMI_INJECT_ARCH_H
#define KVMI_INJECT_ARCH_H

/* What inject.c needs to know about the CPU; inject-x86.c provides it. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/user.h>

#define INJECT_XSTATE_MAX	16384

/* Instructions that the process has already, found in its code. */
struct inject_code {
	uint64_t syscall;	/* a system call instruction ... */
	unsigned int pops;	/* ... then this many pops, and a return */
	bool returns;		/* or neither of them is known */
	uint64_t sigreturn;	/* the C library's return from a signal, or 0 */
};

/* The state of the stopped thread. */
struct inject_state {
	struct user_regs_struct regs;
	uint64_t sigmask;
	uint8_t xstate[INJECT_XSTATE_MAX];
	size_t xstate_size;
	bool xsave;		/* the format of @xstate, or else FXSAVE's */
};

/* Look for usable code in a piece of the process' text. */
void inject_arch_scan(struct inject_code *code, uint64_t addr,
		      const uint8_t *text, size_t size);
bool inject_arch_code_complete(const struct inject_code *code);
/* Is the code still there? */
bool inject_arch_code_valid(const struct inject_code *code, int mem_fd);

int inject_arch_get_state(pid_t tid, struct inject_state *state);
bool inject_arch_in_rseq(pid_t tid, const struct inject_state *state, int mem_fd);

/* How much memory a way back takes, and where its parts are. */
size_t inject_arch_frame_size(const struct inject_state *state);
/* Build it for the address @addr; returns the stack pointer to use. */
uint64_t inject_arch_build_frame(const struct inject_state *state,
				 const struct inject_code *code,
				 uint64_t addr, uint8_t *frame);

/* The lowest address below the stack pointer that the thread still uses. */
uint64_t inject_arch_stack_end(const struct inject_state *state);
uint64_t inject_arch_sp(const struct inject_state *state);

/* Set up a system call; @sp is 0 to leave the stack pointer as it is. */
int inject_arch_set_call(pid_t tid, const struct inject_state *state,
			 const struct inject_code *code, uint64_t sp, long nr,
			 const uint64_t args[6]);
int inject_arch_get_result(pid_t tid, long *ret);
/* Give the thread its registers back. */
int inject_arch_restore(pid_t tid, const struct inject_state *state,
			bool again);
/* Did the stop end a system call that has to be called again by us? */
bool inject_arch_call_again(const struct inject_state *state);

/* Suits a thread that is in this system call? See inject.c. */
bool inject_arch_is_kvm_run(long nr, uint64_t a1);
bool inject_arch_is_fragile(long nr);

#endif /* KVMI_INJECT_ARCH_H */
