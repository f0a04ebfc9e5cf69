// SPDX-License-Identifier: GPL-2.0
/*
 * Have another process carry out system calls; see inject.h.
 *
 * No signal is used for it and none is lost: stops come from PTRACE_INTERRUPT
 * and from system call tracing, all signals are blocked while the thread is in
 * foreign hands, and those that were about to be delivered are delivered first.
 */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "failure.h"
#include "inject.h"
#include "inject-arch.h"

#define STOP_TIMEOUT_MS		3000	/* for a thread to stop */
#define CALL_TIMEOUT_MS		30000	/* for an injected call to end */
#define RSEQ_TRIES		1000
#define TEXT_MAX		(64 << 20)	/* how much of a mapping is searched */

#define SYSCALL_STOP		(SIGTRAP | 0x80)
#define ALIGN_DOWN(x, a)	((x) & ~((uint64_t)(a) - 1))
#define ALIGN_UP(x, a)		ALIGN_DOWN((x) + (a) - 1, a)

struct inject {
	pid_t pid;
	struct inject_options options;
	int mem_fd;
	struct inject_code code;
	uint64_t stack_start, stack_end;	/* the main thread's stack */

	/* While stopped: */
	pid_t tid;			/* 0 if not stopped */
	bool gone;			/* the process died meanwhile */
	bool running;			/* in a call that did not end in time */
	struct inject_state state;
	bool on_stack;
	uint64_t area;			/* the memory in use, 0 if none yet */
	size_t area_size;
	size_t data_offset;		/* of the data room therein */
	uint8_t *saved;			/* what was on the stack there */
	uint64_t sp;			/* way back prepared: stack pointer, or 0 */
	bool in_call;			/* registers are not the thread's own */
	sigset_t old_mask;		/* ours */
};

/* --- what /proc says ---------------------------------------------------------- */

static FILE *proc_open(pid_t pid, pid_t tid, const char *name)
{
	char path[64];

	if (tid)
		snprintf(path, sizeof(path), "/proc/%d/task/%d/%s", pid, tid, name);
	else
		snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
	return fopen(path, "re");
}

/* The value of a line "NAME:\tVALUE" of a thread's status. */
static bool proc_status(pid_t pid, pid_t tid, const char *name, char *value,
			size_t size)
{
	size_t len = strlen(name);
	char line[256];
	bool found = false;
	FILE *f;

	f = proc_open(pid, tid, "status");
	if (!f)
		return false;
	while (!found && fgets(line, sizeof(line), f)) {
		if (strncmp(line, name, len) || line[len] != ':')
			continue;
		line[strcspn(line, "\n")] = '\0';
		snprintf(value, size, "%s", line + len + 1 + strspn(line + len + 1, "\t "));
		found = true;
	}
	fclose(f);
	return found;
}

static uint64_t proc_status_hex(pid_t pid, pid_t tid, const char *name)
{
	char value[64];

	if (!proc_status(pid, tid, name, value, sizeof(value)))
		return 0;
	return strtoull(value, NULL, 16);
}

static char thread_state(pid_t pid, pid_t tid)
{
	char value[64];

	if (!proc_status(pid, tid, "State", value, sizeof(value)))
		return 'X';
	return value[0];
}

static int check_process(pid_t pid)
{
	char value[64];

	if (pid <= 0)
		return fail(KVMI_EXIT_NOT_FOUND, "there is no process %d", pid);
	if (!proc_status(pid, 0, "Tgid", value, sizeof(value)))
		return fail(KVMI_EXIT_NOT_FOUND, "there is no process %d", pid);
	if (atoi(value) != pid)
		return fail(KVMI_EXIT_NOT_FOUND,
			    "%d is a thread of process %s, not a process", pid, value);
	if (pid == getpid())
		return fail(KVMI_EXIT_NOT_FOUND, "process %d is this one", pid);
	if (thread_state(pid, 0) == 'Z')
		return fail(KVMI_EXIT_GONE, "process %d has exited", pid);
	return 0;
}

static int fail_permission(pid_t pid, const char *what, int err)
{
	char value[64] = "0", scope[8] = "0";
	FILE *f;

	if (err == ESRCH || err == ENOENT)
		return fail(KVMI_EXIT_GONE, "process %d has gone", pid);
	if (err != EPERM && err != EACCES)
		return fail(KVMI_EXIT_FAILED, "process %d: %s: %s", pid, what,
			    strerror(err));
	if (proc_status(pid, 0, "TracerPid", value, sizeof(value)) && atoi(value))
		return fail(KVMI_EXIT_BUSY,
			    "process %d is being traced by process %s", pid, value);
	f = fopen("/proc/sys/kernel/yama/ptrace_scope", "re");
	if (f) {
		if (!fgets(scope, sizeof(scope), f))
			scope[0] = '0';
		fclose(f);
	}
	if (geteuid() && atoi(scope) > 0)
		return fail(KVMI_EXIT_DENIED,
			    "no permission to trace process %d (%s): kernel.yama.ptrace_scope is %d, so root is needed",
			    pid, what, atoi(scope));
	return fail(KVMI_EXIT_DENIED,
		    "no permission to trace process %d (%s): it takes its own user, or root",
		    pid, what);
}

/* Search one mapping for code that can be used. */
static void scan_mapping(struct inject *inj, uint64_t start, uint64_t end)
{
	size_t size = end - start;
	uint8_t *text;
	ssize_t n;

	if (size > TEXT_MAX)
		size = TEXT_MAX;
	text = malloc(size);
	if (!text)
		return;
	n = pread(inj->mem_fd, text, size, start);
	if (n > 0)
		inject_arch_scan(&inj->code, start, text, n);
	free(text);
}

/*
 * Find a system call instruction in code that nobody changes: the vDSO, or a
 * file mapped read-only.  Nothing is written to the process' code.
 */
static int scan_process(struct inject *inj)
{
	unsigned long start, end, inode;
	char line[512], perms[8], name[256];
	FILE *f;
	int n;

	f = proc_open(inj->pid, 0, "maps");
	if (!f)
		return fail_permission(inj->pid, "maps", errno);
	while (fgets(line, sizeof(line), f)) {
		name[0] = '\0';
		n = sscanf(line, "%lx-%lx %7s %*s %*s %lu %255s", &start, &end,
			   perms, &inode, name);
		if (n < 4)
			continue;
		if (perms[0] != 'r' || perms[1] != '-' || perms[2] != 'x')
			continue;
		if (!inode && strcmp(name, "[vdso]"))
			continue;
		if (!inject_arch_code_complete(&inj->code))
			scan_mapping(inj, start, end);
	}
	fclose(f);
	if (!inj->code.syscall)
		return fail(KVMI_EXIT_FAILED,
			    "process %d has no system call instruction in its read-only code",
			    inj->pid);
	return 0;
}

/* Where the main thread's stack is at present; it grows downwards. */
static void find_stack(struct inject *inj)
{
	unsigned long start, end;
	char line[512];
	FILE *f;

	inj->stack_start = 0;
	inj->stack_end = 0;
	f = proc_open(inj->pid, 0, "maps");
	if (!f)
		return;
	while (fgets(line, sizeof(line), f)) {
		if (!strstr(line, " [stack]\n") ||
		    sscanf(line, "%lx-%lx", &start, &end) != 2)
			continue;
		inj->stack_start = start;
		inj->stack_end = end;
	}
	fclose(f);
}

/**
 * inject_open - get ready to inject system calls into a process
 * @pid: the process
 * @options: NULL for the usual
 * @inj: what the other functions take
 *
 * Does not disturb the process.
 */
int inject_open(pid_t pid, const struct inject_options *options,
		struct inject **inj)
{
	struct inject *i;
	char path[64];
	int err;

	err = check_process(pid);
	if (err)
		return err;
	i = calloc(1, sizeof(*i));
	if (!i)
		return fail(KVMI_EXIT_FAILED, "out of memory");
	i->pid = pid;
	if (options)
		i->options = *options;
	snprintf(path, sizeof(path), "/proc/%d/mem", pid);
	i->mem_fd = open(path, O_RDWR | O_CLOEXEC);
	if (i->mem_fd < 0)
		err = fail_permission(pid, "mem", errno);
	else
		err = scan_process(i);
	if (err) {
		inject_close(i);
		return err;
	}
	*inj = i;
	return 0;
}

/**
 * inject_close - free everything
 * @inj: not stopped any more, or NULL
 */
void inject_close(struct inject *inj)
{
	if (!inj)
		return;
	if (inj->mem_fd >= 0)
		close(inj->mem_fd);
	free(inj->saved);
	free(inj);
}

/* --- choosing a thread ---------------------------------------------------------- */

/*
 * How well a thread suits; less is better, negative not at all.  Best is one
 * that sleeps in a system call which the kernel restarts without a trace.  A
 * vCPU thread comes last, because a stop makes KVM_RUN return to the VMM.
 */
static int rate_thread(pid_t pid, pid_t tid)
{
	unsigned long nr, a0, a1;
	char line[256] = "";
	int rank;
	FILE *f;

	switch (thread_state(pid, tid)) {
	case 'D':
		rank = 40;
		break;
	case 'X':
	case 'Z':
		return -1;
	default:
		rank = 0;
	}

	f = proc_open(pid, tid, "syscall");
	if (f) {
		if (!fgets(line, sizeof(line), f))
			line[0] = '\0';
		fclose(f);
	}
	if (sscanf(line, "%lu %lx %lx", &nr, &a0, &a1) == 3 && (long)nr >= 0) {
		if (inject_arch_is_kvm_run(nr, a1))
			rank += 20;
		else if (inject_arch_is_fragile(nr))
			rank += 10;
	} else if (strncmp(line, "-1 ", 3)) {
		/* Running, perhaps in a guest. */
		rank += 15;
	}
	return tid == pid ? rank : rank + 5;
}

struct candidate {
	pid_t tid;
	int rank;
};

static int by_rank(const void *a, const void *b)
{
	const struct candidate *x = a, *y = b;

	return x->rank != y->rank ? x->rank - y->rank : x->tid - y->tid;
}

static int list_threads(pid_t pid, struct candidate **list, size_t *count)
{
	struct candidate *c = NULL, *more;
	struct dirent *e;
	char path[64];
	size_t n = 0;
	int rank;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	dir = opendir(path);
	if (!dir)
		return fail_permission(pid, "task", errno);
	while ((e = readdir(dir))) {
		pid_t tid = atoi(e->d_name);

		if (tid <= 0)
			continue;
		rank = rate_thread(pid, tid);
		if (rank < 0)
			continue;
		more = realloc(c, (n + 1) * sizeof(*c));
		if (!more)
			break;
		c = more;
		c[n].tid = tid;
		c[n++].rank = rank;
	}
	closedir(dir);
	if (!n)
		return fail(KVMI_EXIT_GONE, "process %d has exited", pid);
	qsort(c, n, sizeof(*c), by_rank);
	*list = c;
	*count = n;
	return 0;
}

/* --- waiting for stops ------------------------------------------------------------ */

static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000ULL + ts.tv_nsec / 1000000;
}

static int fail_gone(struct inject *inj, int status)
{
	inj->gone = true;
	if (WIFSIGNALED(status))
		return fail(KVMI_EXIT_GONE,
			    "process %d was killed meanwhile (signal %d, %s)",
			    inj->pid, WTERMSIG(status), strsignal(WTERMSIG(status)));
	return fail(KVMI_EXIT_GONE, "process %d exited meanwhile", inj->pid);
}

static bool process_died(pid_t pid)
{
	char state = thread_state(pid, 0);

	return state == 'X' || state == 'Z';
}

/* The wait status of the next stop of @tid. */
static int wait_stop(struct inject *inj, pid_t tid, uint64_t deadline,
		     int *status)
{
	const struct timespec pause = { .tv_nsec = 200 * 1000 };
	pid_t got;

	for (;;) {
		got = waitpid(tid, status, __WALL | WNOHANG);
		if (got == tid) {
			if (WIFSTOPPED(*status))
				return 0;
			return fail_gone(inj, *status);
		}
		if (got < 0 && errno == ECHILD) {
			inj->gone = true;
			return fail(KVMI_EXIT_GONE, "process %d has gone", inj->pid);
		}
		if (now_ms() >= deadline)
			return fail(KVMI_EXIT_TIMEOUT,
				    "thread %d of process %d does not stop (state %c)",
				    tid, inj->pid, thread_state(inj->pid, tid));
		nanosleep(&pause, NULL);
	}
}

static bool is_event_stop(int status)
{
	return status >> 16 == PTRACE_EVENT_STOP;
}

static bool is_syscall_stop(int status)
{
	return status >> 8 == SYSCALL_STOP;
}

static int resume_with(struct inject *inj, pid_t tid, int request, long sig)
{
	if (!ptrace(request, tid, NULL, sig))
		return 0;
	if (errno == ESRCH) {
		int status = 0;

		/* Killed under our hands, perhaps with the status still to come. */
		if (waitpid(tid, &status, __WALL | WNOHANG) == tid &&
		    !WIFSTOPPED(status))
			return fail_gone(inj, status);
		inj->gone = true;
		return fail(KVMI_EXIT_GONE, "process %d was killed meanwhile", inj->pid);
	}
	return fail(KVMI_EXIT_FAILED, "thread %d: cannot resume it: %s", tid,
		    strerror(errno));
}

/*
 * Run until the stop that PTRACE_INTERRUPT asks for.  It happens where signals
 * are delivered, and only there does the kernel restart system calls.  Signals
 * on their way are passed on.
 */
static int wait_event_stop(struct inject *inj, pid_t tid)
{
	uint64_t deadline = now_ms() + STOP_TIMEOUT_MS;
	int status, err, sig;

	for (;;) {
		err = wait_stop(inj, tid, deadline, &status);
		if (err)
			return err;
		if (is_event_stop(status))
			return 0;
		sig = is_syscall_stop(status) || status >> 16 ? 0 : WSTOPSIG(status);
		err = resume_with(inj, tid, PTRACE_CONT, sig);
		if (err)
			return err;
	}
}

/* Run until the next system call stop. */
static int wait_syscall_stop(struct inject *inj, uint64_t deadline)
{
	int status, err, sig = 0;

	for (;;) {
		err = resume_with(inj, inj->tid, PTRACE_SYSCALL, sig);
		if (err)
			return err;
		inj->running = true;
		err = wait_stop(inj, inj->tid, deadline, &status);
		if (err)
			return err;
		inj->running = false;
		if (is_syscall_stop(status))
			return 0;
		sig = status >> 16 ? 0 : WSTOPSIG(status);
		/* Blocked signals do not come here; SIGSTOP and faults do. */
		if (sig && sig != SIGSTOP)
			return fail(KVMI_EXIT_FAILED,
				    "thread %d got signal %d (%s) in an injected system call",
				    inj->tid, sig, strsignal(sig));
	}
}

/* --- stopping --------------------------------------------------------------------- */

static int seize(struct inject *inj, pid_t tid)
{
	uint64_t options = PTRACE_O_TRACESYSGOOD;
	char mode[8] = "0";

	/*
	 * A filter could kill the process for a call that it never makes by
	 * itself, so it has to be off for the injected ones.
	 */
	if (proc_status(inj->pid, tid, "Seccomp", mode, sizeof(mode)) && atoi(mode))
		options |= PTRACE_O_SUSPEND_SECCOMP;
	if (!ptrace(PTRACE_SEIZE, tid, NULL, options))
		return 0;
	if (!(options & PTRACE_O_SUSPEND_SECCOMP) || errno == ESRCH)
		return fail_permission(inj->pid, "ptrace", errno);
	return fail(KVMI_EXIT_DENIED,
		    "process %d runs under a seccomp filter, which cannot be suspended: it takes CAP_SYS_ADMIN and a kernel with CONFIG_CHECKPOINT_RESTORE",
		    inj->pid);
}

/* Run the seized thread until it is at a good place to be stopped. */
static int interrupt_thread(struct inject *inj, pid_t tid)
{
	const struct timespec pause = { .tv_nsec = 100 * 1000 };
	int tries, err;

	for (tries = 0; tries < RSEQ_TRIES; tries++) {
		if (ptrace(PTRACE_INTERRUPT, tid, NULL, NULL) && errno != ESRCH)
			return fail(KVMI_EXIT_FAILED,
				    "thread %d: PTRACE_INTERRUPT: %s", tid,
				    strerror(errno));
		err = wait_event_stop(inj, tid);
		if (!err)
			err = inject_arch_get_state(tid, &inj->state);
		if (err)
			return err;
		if (!inject_arch_in_rseq(tid, &inj->state, inj->mem_fd))
			return 0;
		err = resume_with(inj, tid, PTRACE_CONT, 0);
		if (err)
			return err;
		nanosleep(&pause, NULL);
	}
	return fail(KVMI_EXIT_TIMEOUT,
		    "thread %d of process %d does not leave its restartable sequence",
		    tid, inj->pid);
}

/* Stop one thread: 0, or a failure after which it is as it was. */
static int stop_thread(struct inject *inj, pid_t tid)
{
	int err;

	err = seize(inj, tid);
	if (err)
		return err;
	err = interrupt_thread(inj, tid);
	/*
	 * One that does not stop cannot be detached; it is when we exit.  The
	 * others are at a stop.
	 */
	if (err && !inj->gone)
		ptrace(PTRACE_DETACH, tid, NULL, NULL);
	return err;
}

/* --- memory ------------------------------------------------------------------------ */

static int mem_write(struct inject *inj, uint64_t addr, const void *buf, size_t size)
{
	if (pwrite(inj->mem_fd, buf, size, addr) == (ssize_t)size)
		return 0;
	if (process_died(inj->pid))
		inj->gone = true;
	return fail(inj->gone ? KVMI_EXIT_GONE : KVMI_EXIT_FAILED,
		    "process %d: writing its memory at 0x%" PRIx64 ": %s",
		    inj->pid, addr, strerror(errno));
}

static int mem_read(struct inject *inj, uint64_t addr, void *buf, size_t size)
{
	if (pread(inj->mem_fd, buf, size, addr) == (ssize_t)size)
		return 0;
	if (process_died(inj->pid))
		inj->gone = true;
	return fail(inj->gone ? KVMI_EXIT_GONE : KVMI_EXIT_FAILED,
		    "process %d: reading its memory at 0x%" PRIx64 ": %s",
		    inj->pid, addr, strerror(errno));
}

/* The frame for the way back comes first, then the data room. */
static void layout_area(struct inject *inj)
{
	inj->data_offset = ALIGN_UP(inject_arch_frame_size(&inj->state), 64);
	inj->area_size = inj->data_offset + INJECT_DATA_SIZE;
}

static int build_way_back(struct inject *inj)
{
	size_t size = ALIGN_UP(inject_arch_frame_size(&inj->state), 64);
	uint8_t *frame;
	uint64_t sp;
	int err;

	if (!inject_arch_code_complete(&inj->code))
		return 0;
	frame = aligned_alloc(64, size);
	if (!frame)
		return fail(KVMI_EXIT_FAILED, "out of memory");
	memset(frame, 0, size);
	sp = inject_arch_build_frame(&inj->state, &inj->code, inj->area, frame);
	err = mem_write(inj, inj->area, frame, size);
	free(frame);
	if (!err)
		inj->sp = sp;
	return err;
}

/* The area is on the main thread's stack, below what the thread uses. */
static int take_stack(struct inject *inj)
{
	int err;

	inj->area = ALIGN_DOWN(inject_arch_stack_end(&inj->state) -
			       inj->area_size, 64);
	free(inj->saved);
	inj->saved = malloc(inj->area_size);
	if (!inj->saved)
		return fail(KVMI_EXIT_FAILED, "out of memory");
	err = mem_read(inj, inj->area, inj->saved, inj->area_size);
	if (err)
		inj->area = 0;
	else
		err = build_way_back(inj);
	return err;
}

/*
 * Only of the main thread's stack, which /proc names, is it certain that what
 * lies below the stack pointer is free: others may be small and dense, as
 * goroutines' are.
 */
static bool stack_has_room(struct inject *inj)
{
	uint64_t sp = inject_arch_sp(&inj->state);

	return !inj->options.own_memory &&
	       sp > inj->stack_start && sp <= inj->stack_end &&
	       inject_arch_stack_end(&inj->state) - inj->stack_start >
	       inj->area_size + 64;
}

/* --- calls ------------------------------------------------------------------------- */

static bool is_restart(long ret)
{
	/* ERESTARTSYS, ERESTARTNOINTR, ERESTARTNOHAND, ERESTART_RESTARTBLOCK */
	return ret == -512 || ret == -513 || ret == -514 || ret == -516;
}

static int do_call(struct inject *inj, long *ret, long nr, const uint64_t args[6])
{
	uint64_t deadline = now_ms() + CALL_TIMEOUT_MS;
	uint64_t all = ~0ULL;
	int err;

	err = inject_arch_set_call(inj->tid, &inj->state, &inj->code, inj->sp,
				   nr, args);
	if (err) {
		inj->gone = err == KVMI_EXIT_GONE;
		return err;
	}
	/* Only now, when the way back restores the mask too. */
	if (!inj->in_call &&
	    ptrace(PTRACE_SETSIGMASK, inj->tid, sizeof(all), &all))
		err = fail(KVMI_EXIT_FAILED, "thread %d: PTRACE_SETSIGMASK: %s",
			   inj->tid, strerror(errno));
	inj->in_call = true;
	while (!err) {
		err = wait_syscall_stop(inj, deadline);	/* entry */
		if (!err)
			err = wait_syscall_stop(inj, deadline);	/* exit */
		if (!err)
			err = inject_arch_get_result(inj->tid, ret);
		/* A SIGSTOP came between; the kernel enters it once more. */
		if (!err && !is_restart(*ret))
			return 0;
	}
	if (err == KVMI_EXIT_GONE)
		inj->gone = true;
	return err;
}

/**
 * inject_call - have the stopped thread carry out a system call
 * @inj: stopped
 * @ret: what it returned, errors as negated errno
 * @nr: the system call
 * @a0: its first argument
 * @a1: second
 * @a2: third
 * @a3: fourth
 * @a4: fifth
 * @a5: sixth
 *
 * A call must not sleep for long: the thread is stopped all the while.
 */
int inject_call(struct inject *inj, long *ret, long nr, uint64_t a0,
		uint64_t a1, uint64_t a2, uint64_t a3, uint64_t a4, uint64_t a5)
{
	const uint64_t args[6] = { a0, a1, a2, a3, a4, a5 };

	if (!inj->tid)
		return fail(KVMI_EXIT_FAILED, "process %d is not stopped", inj->pid);
	return do_call(inj, ret, nr, args);
}

/* Have the thread map memory; for this one call there is no way back yet. */
static int map_area(struct inject *inj)
{
	size_t size = ALIGN_UP(inj->area_size, sysconf(_SC_PAGESIZE));
	const uint64_t args[6] = { 0, size, PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0 };
	long ret;
	int err;

	err = do_call(inj, &ret, __NR_mmap, args);
	if (err)
		return err;
	if (ret < 0)
		return fail(KVMI_EXIT_FAILED, "process %d: mmap: %s", inj->pid,
			    strerror(-ret));
	inj->area = ret;
	return build_way_back(inj);
}

static int unmap_area(struct inject *inj)
{
	const uint64_t args[6] = { inj->area,
		ALIGN_UP(inj->area_size, sysconf(_SC_PAGESIZE)) };
	long ret;
	int err;

	/* The way back goes with it. */
	inj->sp = 0;
	err = do_call(inj, &ret, __NR_munmap, args);
	if (!err && ret < 0)
		err = fail(KVMI_EXIT_FAILED, "process %d: munmap: %s",
			   inj->pid, strerror(-ret));
	return err;
}

static void block_signals(struct inject *inj)
{
	sigset_t all;

	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, &inj->old_mask);
}

/**
 * inject_stop - stop a thread of the process
 * @inj: not stopped
 *
 * Until inject_resume() this thread blocks signals, so that no key stroke ends
 * it half-way.
 */
int inject_stop(struct inject *inj)
{
	struct candidate one = { .tid = inj->options.tid };
	struct candidate *list = &one;
	size_t i, count = 1;
	int err = 0;

	if (!inj->options.tid) {
		err = list_threads(inj->pid, &list, &count);
		if (err)
			return err;
	}
	find_stack(inj);

	block_signals(inj);
	inj->gone = false;
	for (i = 0; i < count; i++) {
		err = stop_thread(inj, list[i].tid);
		if (!err)
			inj->tid = list[i].tid;
		/* If only this thread has exited, take the next. */
		if (err != KVMI_EXIT_GONE || process_died(inj->pid))
			break;
		inj->gone = false;
	}
	if (list != &one)
		free(list);
	if (err) {
		sigprocmask(SIG_SETMASK, &inj->old_mask, NULL);
		return err;
	}

	inj->area = 0;
	inj->sp = 0;
	inj->in_call = false;
	inj->running = false;
	layout_area(inj);
	inj->on_stack = stack_has_room(inj);
	if (!inject_arch_code_valid(&inj->code, inj->mem_fd))
		err = fail(KVMI_EXIT_FAILED,
			   "process %d has changed its code meanwhile", inj->pid);
	else if (inj->on_stack)
		err = take_stack(inj);
	else
		err = map_area(inj);
	if (err) {
		char why[FAILURE_SIZE];

		save_failure(why);
		inject_resume(inj);
		restore_failure(err, why);
	}
	return err;
}

/* Take the thread from an injected call to a stop where calls are restarted. */
static int leave_call(struct inject *inj)
{
	int err = 0;

	if (ptrace(PTRACE_INTERRUPT, inj->tid, NULL, NULL))
		return fail(KVMI_EXIT_FAILED, "thread %d: PTRACE_INTERRUPT: %s",
			    inj->tid, strerror(errno));
	if (!inj->running)
		err = resume_with(inj, inj->tid, PTRACE_CONT, 0);
	if (!err)
		err = wait_event_stop(inj, inj->tid);
	if (!err)
		inj->running = false;
	return err;
}

static int restore_registers(struct inject *inj)
{
	uint64_t pending;
	int err;

	if (ptrace(PTRACE_SETSIGMASK, inj->tid, sizeof(inj->state.sigmask),
		   &inj->state.sigmask)) {
		inj->gone = errno == ESRCH;
		return fail(inj->gone ? KVMI_EXIT_GONE : KVMI_EXIT_FAILED,
			    "thread %d: PTRACE_SETSIGMASK: %s", inj->tid,
			    strerror(errno));
	}
	pending = proc_status_hex(inj->pid, inj->tid, "SigPnd") |
		  proc_status_hex(inj->pid, inj->tid, "ShdPnd");
	err = inject_arch_restore(inj->tid, &inj->state,
				  !(pending & ~inj->state.sigmask) &&
				  inject_arch_call_again(&inj->state));
	if (err == KVMI_EXIT_GONE)
		inj->gone = true;
	if (!err)
		inj->in_call = false;
	return err;
}

/*
 * The thread is at the end of an injected call, or in one that did not end.
 * Give it back what it had.  Where that fails, only its own way back is left.
 */
static int restore(struct inject *inj)
{
	int err, unmap_err = 0;

	/* A call that did not end must, before others can be made. */
	if (inj->running) {
		err = leave_call(inj);
		if (err)
			return err;
	}
	if (inj->area && !inj->on_stack)
		unmap_err = unmap_area(inj);
	if (inj->gone)
		return unmap_err;
	if (inj->in_call) {
		err = leave_call(inj);
		if (!err)
			err = restore_registers(inj);
		if (err)
			return err;
	}
	/* The way back is not needed any more, so what was there can return. */
	if (inj->area && inj->on_stack) {
		err = mem_write(inj, inj->area, inj->saved, inj->area_size);
		if (err)
			return err;
	}
	return unmap_err;
}

/**
 * inject_resume - give the stopped thread its state back and let it go on
 * @inj: stopped, also after a failure of inject_call()
 */
int inject_resume(struct inject *inj)
{
	int err = 0;

	if (!inj->tid)
		return 0;
	if (!inj->gone)
		err = restore(inj);
	if (!inj->gone && ptrace(PTRACE_DETACH, inj->tid, NULL, NULL)) {
		if (errno == ESRCH || process_died(inj->pid)) {
			inj->gone = true;
			err = fail(KVMI_EXIT_GONE, "process %d was killed meanwhile",
				   inj->pid);
		} else {
			err = fail(KVMI_EXIT_FAILED, "thread %d: PTRACE_DETACH: %s",
				   inj->tid, strerror(errno));
		}
	}
	inj->tid = 0;
	sigprocmask(SIG_SETMASK, &inj->old_mask, NULL);
	return err;
}

pid_t inject_tid(const struct inject *inj)
{
	return inj->tid;
}

uint64_t inject_data(const struct inject *inj, size_t offset)
{
	return inj->area + inj->data_offset + offset;
}

static int check_data(const struct inject *inj, size_t offset, size_t size)
{
	if (!inj->tid || offset > INJECT_DATA_SIZE ||
	    size > INJECT_DATA_SIZE - offset)
		return fail(KVMI_EXIT_FAILED,
			    "%zu bytes at %zu are not within the data room",
			    size, offset);
	return 0;
}

/**
 * inject_write - put data where injected calls can read it
 * @inj: stopped
 * @offset: within the data room of INJECT_DATA_SIZE bytes
 * @buf: the data
 * @size: its size
 */
int inject_write(struct inject *inj, size_t offset, const void *buf, size_t size)
{
	int err = check_data(inj, offset, size);

	return err ? err : mem_write(inj, inject_data(inj, offset), buf, size);
}

/**
 * inject_read - take the data that injected calls have written
 * @inj: stopped
 * @offset: within the data room of INJECT_DATA_SIZE bytes
 * @buf: where to
 * @size: how much
 */
int inject_read(struct inject *inj, size_t offset, void *buf, size_t size)
{
	int err = check_data(inj, offset, size);

	return err ? err : mem_read(inj, inject_data(inj, offset), buf, size);
}
