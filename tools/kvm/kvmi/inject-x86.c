// SPDX-License-Identifier: GPL-2.0
/* x86-64's part of the injection of system calls. */

#include <asm/sigcontext.h>
#include <cpuid.h>
#include <elf.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/rseq.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "failure.h"
#include "inject-arch.h"

#ifndef __x86_64__
#error only x86-64 is supported
#endif

#define USER_CS_64		0x33
#define RED_ZONE		128

/* asm/ucontext.h does not go together with the C library's */
#define UC_FP_XSTATE		1
#define UC_SIGCONTEXT_SS	2
#define UC_STRICT_RESTORE_SS	4

#define KVM_RUN_IOCTL		0xae80
#define MAX_POPS		8

/* What the kernel returns inside of itself for "restart this system call". */
#define ERESTARTSYS		512
#define ERESTARTNOINTR		513
#define ERESTARTNOHAND		514
#define ERESTART_RESTARTBLOCK	516

/* A thread that ptrace() does not find any more, although stopped, was killed. */
static int fail_ptrace(pid_t tid, const char *request)
{
	if (errno == ESRCH)
		return fail(KVMI_EXIT_GONE, "thread %d was killed meanwhile", tid);
	return fail(KVMI_EXIT_FAILED, "thread %d: %s: %s", tid, request,
		    strerror(errno));
}

/* --- code --------------------------------------------------------------------- */

static const uint8_t insn_syscall[] = { 0x0f, 0x05 };

/* mov $15, %rax; syscall */
static const uint8_t insn_sigreturn[] = { 0x48, 0xc7, 0xc0, 15, 0, 0, 0, 0x0f, 0x05 };
/* mov $15, %eax; syscall */
static const uint8_t insn_sigreturn_short[] = { 0xb8, 15, 0, 0, 0, 0x0f, 0x05 };

/* How many registers are popped before the return, or -1 if none follows. */
static int pops_before_ret(const uint8_t *p, const uint8_t *end)
{
	int pops = 0;

	while (p < end && pops <= MAX_POPS) {
		if (*p == 0xc3)
			return pops;
		if (*p == 0x41)
			p++;
		/* pop %rsp would not be counted, it would be obeyed */
		if (p >= end || *p < 0x58 || *p > 0x5f ||
		    (*p == 0x5c && p[-1] != 0x41))
			return -1;
		p++;
		pops++;
	}
	return -1;
}

static uint64_t find(uint64_t addr, const uint8_t *text, size_t size,
		     const uint8_t *what, size_t what_size)
{
	const uint8_t *p = memmem(text, size, what, what_size);

	return p ? addr + (p - text) : 0;
}

void inject_arch_scan(struct inject_code *code, uint64_t addr,
		      const uint8_t *text, size_t size)
{
	const uint8_t *p = text, *end = text + size;
	int pops;

	if (!code->sigreturn)
		code->sigreturn = find(addr, text, size, insn_sigreturn,
				       sizeof(insn_sigreturn));
	if (!code->sigreturn)
		code->sigreturn = find(addr, text, size, insn_sigreturn_short,
				       sizeof(insn_sigreturn_short));

	while (!code->returns &&
	       (p = memmem(p, end - p, insn_syscall, sizeof(insn_syscall)))) {
		pops = pops_before_ret(p + sizeof(insn_syscall), end);
		if (pops >= 0 || !code->syscall)
			code->syscall = addr + (p - text);
		if (pops >= 0) {
			code->pops = pops;
			code->returns = true;
		}
		p += sizeof(insn_syscall);
	}
}

bool inject_arch_code_complete(const struct inject_code *code)
{
	return code->returns && code->sigreturn;
}

bool inject_arch_code_valid(const struct inject_code *code, int mem_fd)
{
	uint8_t buf[2 + 2 * MAX_POPS + 1];
	uint8_t sig[sizeof(insn_sigreturn)];
	ssize_t n;

	n = pread(mem_fd, buf, sizeof(buf), code->syscall);
	if (n < (ssize_t)sizeof(insn_syscall) ||
	    memcmp(buf, insn_syscall, sizeof(insn_syscall)))
		return false;
	if (!inject_arch_code_complete(code))
		return true;
	if (pops_before_ret(buf + sizeof(insn_syscall), buf + n) != (int)code->pops)
		return false;
	n = pread(mem_fd, sig, sizeof(sig), code->sigreturn);
	return n == (ssize_t)sizeof(sig) &&
	       (!memcmp(sig, insn_sigreturn, sizeof(insn_sigreturn)) ||
		!memcmp(sig, insn_sigreturn_short, sizeof(insn_sigreturn_short)));
}

/* --- state -------------------------------------------------------------------- */

static int get_xstate(pid_t tid, struct inject_state *state)
{
	struct iovec iov = {
		.iov_base = state->xstate,
		.iov_len = sizeof(state->xstate),
	};

	state->xsave = true;
	if (!ptrace(PTRACE_GETREGSET, tid, NT_X86_XSTATE, &iov)) {
		state->xstate_size = iov.iov_len;
		return 0;
	}
	if (errno != ENODEV && errno != EINVAL)
		return fail_ptrace(tid, "PTRACE_GETREGSET");
	state->xsave = false;
	state->xstate_size = sizeof(struct user_fpregs_struct);
	if (ptrace(PTRACE_GETFPREGS, tid, NULL, state->xstate))
		return fail_ptrace(tid, "PTRACE_GETFPREGS");
	return 0;
}

int inject_arch_get_state(pid_t tid, struct inject_state *state)
{
	if (ptrace(PTRACE_GETREGS, tid, NULL, &state->regs))
		return fail_ptrace(tid, "PTRACE_GETREGS");
	if (state->regs.cs != USER_CS_64)
		return fail(KVMI_EXIT_FAILED,
			    "thread %d does not run 64-bit code (cs is 0x%llx)",
			    tid, (unsigned long long)state->regs.cs);
	if (ptrace(PTRACE_GETSIGMASK, tid, sizeof(state->sigmask),
		   &state->sigmask))
		return fail_ptrace(tid, "PTRACE_GETSIGMASK");
	return get_xstate(tid, state);
}

/*
 * A restartable sequence that is left for other code is not aborted any more,
 * so a thread must not be taken out of one.
 */
bool inject_arch_in_rseq(pid_t tid, const struct inject_state *state, int mem_fd)
{
	struct __ptrace_rseq_configuration conf;
	uint64_t cs;

	if ((long)state->regs.orig_rax >= 0)
		return false;
	if (ptrace(PTRACE_GET_RSEQ_CONFIGURATION, tid, sizeof(conf), &conf) !=
	    sizeof(conf) || !conf.rseq_abi_pointer)
		return false;
	return pread(mem_fd, &cs, sizeof(cs),
		     conf.rseq_abi_pointer + offsetof(struct rseq, rseq_cs)) ==
	       sizeof(cs) && cs;
}

uint64_t inject_arch_sp(const struct inject_state *state)
{
	return state->regs.rsp;
}

uint64_t inject_arch_stack_end(const struct inject_state *state)
{
	return state->regs.rsp - RED_ZONE;
}

/* --- the way back --------------------------------------------------------------- */

/* The signal frame as the kernel lays it out, for rt_sigreturn. */
struct frame {
	uint64_t pops[MAX_POPS];
	uint64_t ret;
	uint64_t uc_flags;
	uint64_t uc_link;
	uint64_t ss_sp;
	uint64_t ss_flags;
	uint64_t ss_size;
	struct sigcontext mc;
	uint64_t sigmask;
	uint8_t siginfo[128];
	/* What XRSTOR takes has to be aligned; the kernel copies nothing. */
	uint8_t xstate[] __attribute__((aligned(64)));
};

_Static_assert(offsetof(struct frame, sigmask) - offsetof(struct frame, uc_flags) == 296,
	       "layout of struct ucontext");

#define XSTATE_BV_OFFSET	512
#define XSTATE_HEADER_END	576
#define XFEATURE_FP_SSE		3ULL

/* Where the last component ends that is not in its initial state. */
static size_t xstate_used(const struct inject_state *state, uint64_t *features)
{
	unsigned int eax, ebx, ecx, edx, i;
	size_t end = XSTATE_HEADER_END;

	memcpy(features, state->xstate + XSTATE_BV_OFFSET, sizeof(*features));
	for (i = 2; i < 63; i++) {
		if (!(*features & (1ULL << i)))
			continue;
		__cpuid_count(0xd, i, eax, ebx, ecx, edx);
		if (ebx + eax > end)
			end = ebx + eax;
	}
	*features |= XFEATURE_FP_SSE;
	return end < state->xstate_size ? end : state->xstate_size;
}

size_t inject_arch_frame_size(const struct inject_state *state)
{
	return sizeof(struct frame) + state->xstate_size + FP_XSTATE_MAGIC2_SIZE;
}

static void build_xstate(const struct inject_state *state, uint8_t *to)
{
	struct _fpx_sw_bytes sw = { 0 };
	const uint32_t magic2 = FP_XSTATE_MAGIC2;
	uint64_t features;
	size_t size;

	memcpy(to, state->xstate, state->xstate_size);
	if (!state->xsave)
		return;
	size = xstate_used(state, &features);
	sw.magic1 = FP_XSTATE_MAGIC1;
	sw.extended_size = size + FP_XSTATE_MAGIC2_SIZE;
	sw.xfeatures = features;
	sw.xstate_size = size;
	memcpy(to + offsetof(struct _fpstate_64, sw_reserved), &sw, sizeof(sw));
	memcpy(to + size, &magic2, sizeof(magic2));
}

uint64_t inject_arch_build_frame(const struct inject_state *state,
				 const struct inject_code *code,
				 uint64_t addr, uint8_t *where)
{
	const struct user_regs_struct *r = &state->regs;
	struct frame *f = (struct frame *)where;

	memset(f, 0, sizeof(*f));
	f->ret = code->sigreturn;
	f->uc_flags = UC_FP_XSTATE | UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS;
	/* Flags that cannot be: the alternate stack stays what it is. */
	f->ss_flags = 0x7fffffff;
	f->sigmask = state->sigmask;

	f->mc.r8 = r->r8;
	f->mc.r9 = r->r9;
	f->mc.r10 = r->r10;
	f->mc.r11 = r->r11;
	f->mc.r12 = r->r12;
	f->mc.r13 = r->r13;
	f->mc.r14 = r->r14;
	f->mc.r15 = r->r15;
	f->mc.rdi = r->rdi;
	f->mc.rsi = r->rsi;
	f->mc.rbp = r->rbp;
	f->mc.rbx = r->rbx;
	f->mc.rdx = r->rdx;
	f->mc.rax = r->rax;
	f->mc.rcx = r->rcx;
	f->mc.rsp = r->rsp;
	f->mc.rip = r->rip;
	f->mc.eflags = r->eflags;
	f->mc.cs = r->cs;
	f->mc.ss = r->ss;

	/*
	 * A return from a signal restarts no system call, so do it here.  One
	 * that is restarted by its own means can only be interrupted.
	 */
	if ((long)r->orig_rax >= 0) {
		switch (-(long)r->rax) {
		case ERESTARTSYS:
		case ERESTARTNOINTR:
		case ERESTARTNOHAND:
			f->mc.rax = r->orig_rax;
			f->mc.rip -= sizeof(insn_syscall);
			break;
		case ERESTART_RESTARTBLOCK:
			f->mc.rax = -EINTR;
			break;
		}
	}

	build_xstate(state, f->xstate);
	f->mc.fpstate = (void *)(addr + offsetof(struct frame, xstate));

	/* The return pops @ret, and sigreturn expects that to be popped. */
	return addr + offsetof(struct frame, ret) - 8 * code->pops;
}

/* --- calls ---------------------------------------------------------------------- */

int inject_arch_set_call(pid_t tid, const struct inject_state *state,
			 const struct inject_code *code, uint64_t sp, long nr,
			 const uint64_t args[6])
{
	struct user_regs_struct regs = state->regs;

	regs.rip = code->syscall;
	if (sp)
		regs.rsp = sp;
	/* Not in a system call: otherwise the kernel would restart the old one. */
	regs.orig_rax = -1;
	regs.rax = nr;
	regs.rdi = args[0];
	regs.rsi = args[1];
	regs.rdx = args[2];
	regs.r10 = args[3];
	regs.r8 = args[4];
	regs.r9 = args[5];
	if (ptrace(PTRACE_SETREGS, tid, NULL, &regs))
		return fail_ptrace(tid, "PTRACE_SETREGS");
	return 0;
}

int inject_arch_get_result(pid_t tid, long *ret)
{
	struct user_regs_struct regs;

	if (ptrace(PTRACE_GETREGS, tid, NULL, &regs))
		return fail_ptrace(tid, "PTRACE_GETREGS");
	*ret = regs.rax;
	return 0;
}

/*
 * Most system calls that a stop interrupts are restarted by the kernel.  A few
 * return EINTR instead, which a program that handles no signals need not be
 * prepared for.  Those among them that have done nothing when they return EINTR
 * can be called again, if no signal is the reason.  (A timeout starts afresh.)
 */
static const unsigned short again[] = {
	__NR_epoll_wait,
	__NR_epoll_pwait,
#ifdef __NR_epoll_pwait2
	__NR_epoll_pwait2,
#endif
	__NR_rt_sigtimedwait,
	__NR_io_getevents,
	__NR_io_pgetevents,
	__NR_io_uring_enter,
	__NR_semop,
	__NR_semtimedop,
	__NR_read,
	__NR_readv,
	__NR_write,
	__NR_writev,
	__NR_recvfrom,
	__NR_recvmsg,
	__NR_sendto,
	__NR_sendmsg,
	__NR_accept,
	__NR_accept4,
};

bool inject_arch_is_kvm_run(long nr, uint64_t a1)
{
	return nr == __NR_ioctl && a1 == KVM_RUN_IOCTL;
}

bool inject_arch_call_again(const struct inject_state *state)
{
	const struct user_regs_struct *r = &state->regs;
	size_t i;

	if ((long)r->orig_rax < 0 || (long)r->rax != -EINTR)
		return false;
	if (inject_arch_is_kvm_run(r->orig_rax, r->rsi))
		return true;
	for (i = 0; i < sizeof(again) / sizeof(again[0]); i++)
		if (r->orig_rax == again[i])
			return true;
	return false;
}

/* System calls that should rather not be interrupted. */
bool inject_arch_is_fragile(long nr)
{
	switch (nr) {
	case __NR_connect:
	case __NR_close:
	case __NR_vfork:
	case __NR_clone:
	case __NR_ioctl:
		return true;
	default:
		return false;
	}
}

int inject_arch_restore(pid_t tid, const struct inject_state *state,
			bool call_again)
{
	struct user_regs_struct regs = state->regs;

	if (call_again) {
		regs.rax = regs.orig_rax;
		regs.orig_rax = -1;
		regs.rip -= sizeof(insn_syscall);
	}
	if (ptrace(PTRACE_SETREGS, tid, NULL, &regs))
		return fail_ptrace(tid, "PTRACE_SETREGS");
	return 0;
}
