// SPDX-License-Identifier: GPL-2.0
/*
 * System calls injected into processes in every state that a VMM's thread can
 * be in.  Each target checks by itself that nothing happened to it.
 */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>

#include "../failure.h"
#include "../inject.h"
#include "tap.h"

/* What test and target share. */
static struct shared {
	volatile int ready;
	volatile int done;		/* the target has got its result */
	volatile long ret;
	volatile int err;
	volatile long ms;		/* how long that took */
	volatile int handled;		/* signal handlers run */
	volatile int damage;		/* a register or a byte has changed */
	volatile uint64_t rounds;
	volatile int stop;
	volatile uint64_t other[4];	/* what other threads count */
} *shared;

static int pipe_fd[2];
static pid_t child;

static uint64_t now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000ULL + ts.tv_nsec / 1000;
}

static void sleep_ms(unsigned int ms)
{
	const struct timespec ts = { .tv_sec = ms / 1000,
				     .tv_nsec = ms % 1000 * 1000000L };

	nanosleep(&ts, NULL);
}

/* --- targets ----------------------------------------------------------------- */

static void on_signal(int sig)
{
	(void)sig;
	shared->handled++;
}

static void handle(int sig, int flags)
{
	struct sigaction sa = { .sa_handler = on_signal, .sa_flags = flags };

	sigaction(sig, &sa, NULL);
}

#define BLOCKING(call)							\
	do {								\
		uint64_t __start = now_us();				\
		shared->ready = 1;					\
		errno = 0;						\
		shared->ret = (call);					\
		shared->err = errno;					\
		shared->ms = (now_us() - __start) / 1000;		\
		shared->done = 1;					\
	} while (0)

static void target_read(void)
{
	char c = 0;

	BLOCKING(read(pipe_fd[0], &c, 1));
	shared->ret = shared->ret == 1 ? c : -1;
}

static void target_read_handler(void)
{
	handle(SIGUSR1, 0);
	target_read();
}

static void target_read_restart(void)
{
	handle(SIGUSR1, SA_RESTART);
	target_read();
}

static void target_poll(void)
{
	struct pollfd pfd = { .fd = pipe_fd[0], .events = POLLIN };

	BLOCKING(poll(&pfd, 1, 600));
}

static void target_poll_forever(void)
{
	struct pollfd pfd = { .fd = pipe_fd[0], .events = POLLIN };

	BLOCKING(poll(&pfd, 1, -1));
}

static void target_nanosleep(void)
{
	const struct timespec ts = { .tv_nsec = 600 * 1000000L };

	BLOCKING(nanosleep(&ts, NULL));
}

static void target_futex(void)
{
	static int word;

	BLOCKING(syscall(SYS_futex, &word, FUTEX_WAIT, 0, NULL, NULL, 0));
}

static void target_futex_timeout(void)
{
	static int word;
	const struct timespec ts = { .tv_nsec = 600 * 1000000L };

	BLOCKING(syscall(SYS_futex, &word, FUTEX_WAIT, 0, &ts, NULL, 0));
}

static void target_sigtimedwait(void)
{
	const struct timespec ts = { .tv_sec = 60 };
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	BLOCKING(sigtimedwait(&set, NULL, &ts));
}

static void target_sigsuspend(void)
{
	sigset_t set;

	handle(SIGUSR1, 0);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	sigemptyset(&set);
	BLOCKING(sigsuspend(&set));
}

static int epoll_of_pipe(void)
{
	struct epoll_event ev = { .events = EPOLLIN };
	int fd = epoll_create1(0);

	epoll_ctl(fd, EPOLL_CTL_ADD, pipe_fd[0], &ev);
	return fd;
}

static void target_epoll(void)
{
	struct epoll_event ev;
	int fd = epoll_of_pipe();

	BLOCKING(epoll_wait(fd, &ev, 1, -1));
}

/* Blocked but for the duration of the call, as event loops have it. */
static void target_epoll_pwait(void)
{
	struct epoll_event ev;
	sigset_t set, none;
	int fd = epoll_of_pipe();

	handle(SIGUSR1, 0);
	sigemptyset(&none);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	BLOCKING(epoll_pwait(fd, &ev, 1, -1, &none));
}

static void target_ppoll(void)
{
	struct pollfd pfd = { .fd = pipe_fd[0], .events = POLLIN };
	sigset_t set, none;

	handle(SIGUSR1, 0);
	sigemptyset(&none);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	BLOCKING(ppoll(&pfd, 1, NULL, &none));
}

static void target_recv_timeout(void)
{
	const struct timeval tv = { .tv_sec = 30 };
	int sv[2];
	char c;

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, sv) ||
	    setsockopt(sv[0], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)))
		_exit(1);
	handle(SIGUSR1, 0);
	BLOCKING(recv(sv[0], &c, 1, 0));
}

/*
 * Spin with a value of its own in every register that a program can use, the
 * stack's red zone included, and look whether they are all still there.
 */
static void target_spin(void)
{
	static uint64_t red[2] = { 0x1122334455667788, 0x99aabbccddeeff00 };
	uint64_t bad = 0, rounds = 0;

	shared->ready = 1;
	asm volatile(
		"push %%rbp\n\t"
		"push %%rbx\n\t"
		"sub $256, %%rsp\n\t"
		/* in the red zone */
		"mov 0(%[red]), %%rax\n\t"
		"mov %%rax, -120(%%rsp)\n\t"
		"mov 8(%[red]), %%rax\n\t"
		"mov %%rax, -8(%%rsp)\n\t"
		"movq %[shared], %%xmm15\n\t"
		"movq %%xmm15, %%r15\n\t"
		"mov $0x0101, %%rbx\n\t"
		"mov $0x0202, %%rcx\n\t"
		"mov $0x0303, %%rdx\n\t"
		"mov $0x0404, %%rsi\n\t"
		"mov $0x0505, %%rdi\n\t"
		"mov $0x0606, %%rbp\n\t"
		"mov $0x0808, %%r8\n\t"
		"mov $0x0909, %%r9\n\t"
		"mov $0x1010, %%r10\n\t"
		"mov $0x1111, %%r11\n\t"
		"mov $0x1212, %%r12\n\t"
		"mov $0x1313, %%r13\n\t"
		"xor %%r14, %%r14\n\t"
		"movq %%rbx, %%xmm0\n\t"
		"movq %%rcx, %%xmm7\n\t"
		"std\n"
		"1:\n\t"
		"inc %%r14\n\t"
		"mov %%r14, %c[rounds](%%r15)\n\t"
		"cmp $0x0101, %%rbx\n\t jne 2f\n\t"
		"cmp $0x0202, %%rcx\n\t jne 2f\n\t"
		"cmp $0x0303, %%rdx\n\t jne 2f\n\t"
		"cmp $0x0404, %%rsi\n\t jne 2f\n\t"
		"cmp $0x0505, %%rdi\n\t jne 2f\n\t"
		"cmp $0x0606, %%rbp\n\t jne 2f\n\t"
		"cmp $0x0808, %%r8\n\t jne 2f\n\t"
		"cmp $0x0909, %%r9\n\t jne 2f\n\t"
		"cmp $0x1010, %%r10\n\t jne 2f\n\t"
		"cmp $0x1111, %%r11\n\t jne 2f\n\t"
		"cmp $0x1212, %%r12\n\t jne 2f\n\t"
		"cmp $0x1313, %%r13\n\t jne 2f\n\t"
		"movq %%xmm0, %%rax\n\t"
		"cmp %%rax, %%rbx\n\t jne 2f\n\t"
		"movq %%xmm7, %%rax\n\t"
		"cmp %%rax, %%rcx\n\t jne 2f\n\t"
		"movq %%xmm15, %%rax\n\t"
		"cmp %%rax, %%r15\n\t jne 2f\n\t"
		"mov $0x55667788, %%eax\n\t"
		"cmp %%eax, -120(%%rsp)\n\t jne 2f\n\t"
		"mov $0xddeeff00, %%eax\n\t"
		"cmp %%eax, -8(%%rsp)\n\t jne 2f\n\t"
		/* the direction flag, without a push into the red zone */
		"lea -256(%%rsp), %%rsp\n\t"
		"pushfq\n\t"
		"pop %%rax\n\t"
		"lea 256(%%rsp), %%rsp\n\t"
		"test $0x400, %%eax\n\t jz 2f\n\t"
		"cmpl $0, %c[stop](%%r15)\n\t je 1b\n\t"
		"xor %%eax, %%eax\n\t"
		"jmp 3f\n"
		"2:\n\t"
		"mov $1, %%eax\n"
		"3:\n\t"
		"cld\n\t"
		"add $256, %%rsp\n\t"
		"pop %%rbx\n\t"
		"pop %%rbp\n\t"
		"mov %%r14, %%rcx\n"
		: "=&a" (bad), "=&c" (rounds)
		: [red] "D" (red), [shared] "S" (shared),
		  [rounds] "i" (offsetof(struct shared, rounds)),
		  [stop] "i" (offsetof(struct shared, stop))
		: "rdx", "r8", "r9", "r10", "r11", "r12", "r13",
		  "r14", "r15", "xmm0", "xmm7", "xmm15", "memory", "cc");
	shared->damage = bad;
	shared->ret = rounds;
	shared->done = 1;
}

/* The same for the upper halves of the wide registers. */
__attribute__((target("avx")))
static void target_spin_avx(void)
{
	static const uint64_t want[4] = { 1, 2, 3, 0xdeadbeefcafef00d };
	uint64_t got[4];
	unsigned int i;

	asm volatile("vmovdqu %0, %%ymm5" : : "m" (want) : "xmm5");
	shared->ready = 1;
	while (!shared->stop) {
		asm volatile("vmovdqu %%ymm5, %0" : "=m" (got));
		for (i = 0; i < 4; i++)
			if (got[i] != want[i])
				shared->damage = 1;
		shared->rounds++;
	}
	shared->done = 1;
}

static void blocking_handler(int sig)
{
	char c;

	(void)sig;
	shared->ready = 1;
	shared->ret = read(pipe_fd[0], &c, 1) == 1 ? c : -1;
	shared->handled++;
}

/* In a signal handler, on a stack of its own. */
static void target_handler(void)
{
	struct sigaction sa = { .sa_handler = blocking_handler, .sa_flags = SA_ONSTACK };
	stack_t ss = { .ss_size = 65536 }, now;

	ss.ss_sp = malloc(ss.ss_size);
	sigaltstack(&ss, NULL);
	sigaction(SIGUSR1, &sa, NULL);
	raise(SIGUSR1);
	sigaltstack(NULL, &now);
	shared->damage = now.ss_sp != ss.ss_sp || now.ss_size != ss.ss_size ||
			 now.ss_flags;
	shared->done = 1;
}

static void target_pending(void)
{
	sigset_t set, got, mask;
	char c;

	handle(SIGUSR2, 0);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	sigaddset(&set, SIGRTMIN + 3);
	sigprocmask(SIG_BLOCK, &set, NULL);
	raise(SIGUSR2);
	shared->ready = 1;
	shared->ret = read(pipe_fd[0], &c, 1);
	sigpending(&got);
	sigprocmask(SIG_SETMASK, NULL, &mask);
	shared->damage = !sigismember(&got, SIGUSR2) || shared->handled ||
			 memcmp(&mask, &set, 8);
	shared->done = 1;
}

static void *count(void *arg)
{
	volatile uint64_t *counter = arg;

	while (!shared->stop)
		(*counter)++;
	return NULL;
}

static void target_threads(void)
{
	pthread_t threads[4];
	int i;

	for (i = 0; i < 4; i++)
		pthread_create(&threads[i], NULL, count, (void *)&shared->other[i]);
	shared->ready = 1;
	for (i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	shared->done = 1;
}

static void *read_in_thread(void *arg)
{
	(void)arg;
	target_read();
	return NULL;
}

static void target_main_exited(void)
{
	pthread_t thread;

	pthread_create(&thread, NULL, read_in_thread, NULL);
	pthread_exit(NULL);
}

/* A filter that kills for socket(), as strict VMMs have it. */
static void target_seccomp(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_socket, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { .len = 4, .filter = code };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog)) {
		shared->ret = -1;
		shared->ready = 1;
		pause();
	}
	target_read();
	/* The filter is in force again: this kills. */
	syscall(__NR_socket, AF_UNIX, SOCK_STREAM, 0);
}

/* --- the test's side ------------------------------------------------------------ */

static void spawn(void (*target)(void))
{
	memset(shared, 0, sizeof(*shared));
	must(!pipe(pipe_fd));
	child = fork();
	must(child >= 0);
	if (!child) {
		alarm(120);
		target();
		fflush(NULL);
		_exit(0);
	}
	while (!shared->ready)
		sched_yield();
}

static int reap(void)
{
	int status = -1;

	must(waitpid(child, &status, 0) == child);
	close(pipe_fd[0]);
	close(pipe_fd[1]);
	return status;
}

static void await_done(void)
{
	unsigned int i;

	for (i = 0; i < 10000 && !shared->done; i++)
		sleep_ms(1);
	ok(shared->done, "the target went on");
}

static void proc_line(const char *name, char *line, size_t size)
{
	char path[64];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/%s", child, name);
	f = fopen(path, "r");
	line[0] = '\0';
	if (f) {
		if (fgets(line, size, f))
			line[strcspn(line, "\n")] = '\0';
		fclose(f);
	}
}

/* Until its main thread sleeps in a system call; on a busy machine that takes. */
static void await_sleep(void)
{
	char line[256];
	unsigned int i;

	for (i = 0; i < 2000; i++) {
		proc_line("syscall", line, sizeof(line));
		if (line[0] >= '0' && line[0] <= '9')
			return;
		sleep_ms(5);
	}
	must(!"the target sleeps");
}

/* All that can be seen of a process from outside. */
struct snapshot {
	char fds[4096];
	char maps[65536];
	char status[1024];		/* the lines about signals */
	char call[256];
	uint8_t stack[16384];		/* below and above the stack pointer */
	ssize_t stack_size;
};

static void read_file(const char *name, char *to, size_t size)
{
	char path[64];
	ssize_t n, off = 0;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/%s", child, name);
	fd = open(path, O_RDONLY);
	while (fd >= 0 && (n = read(fd, to + off, size - 1 - off)) > 0)
		off += n;
	to[off] = '\0';
	if (fd >= 0)
		close(fd);
}

/* @asleep: it is to sleep in a system call. */
static void snap(struct snapshot *s, bool asleep)
{
	char path[64], status[4096], *line;
	unsigned long sp = 0;
	struct dirent *e;
	DIR *dir;
	int fd;

	memset(s, 0, sizeof(*s));
	if (asleep)
		await_sleep();
	snprintf(path, sizeof(path), "/proc/%d/fd", child);
	dir = opendir(path);
	while (dir && (e = readdir(dir))) {
		strncat(s->fds, e->d_name, sizeof(s->fds) - strlen(s->fds) - 1);
		strncat(s->fds, " ", sizeof(s->fds) - strlen(s->fds) - 1);
	}
	if (dir)
		closedir(dir);
	read_file("maps", s->maps, sizeof(s->maps));
	read_file("status", status, sizeof(status));
	for (line = strtok(status, "\n"); line; line = strtok(NULL, "\n"))
		if ((!strncmp(line, "Sig", 3) && line[3] != 'Q') ||
		    !strncmp(line, "Shd", 3) ||
		    !strncmp(line, "TracerPid", 9)) {
			strncat(s->status, line, sizeof(s->status) - strlen(s->status) - 1);
			strncat(s->status, "\n", sizeof(s->status) - strlen(s->status) - 1);
		}
	proc_line("syscall", s->call, sizeof(s->call));
	line = strrchr(s->call, ' ');
	if (line) {
		while (line > s->call && line[-1] != ' ')
			line--;
		sp = strtoul(line, NULL, 16);
	}
	snprintf(path, sizeof(path), "/proc/%d/mem", child);
	fd = open(path, O_RDONLY);
	s->stack_size = pread(fd, s->stack, sizeof(s->stack), (sp & ~4095UL) - 12288);
	if (s->stack_size < 0)
		s->stack_size = 0;
	close(fd);
}

/* @call: is it still in the very same system call, to the argument? */
static void compare(const struct snapshot *a, const struct snapshot *b, bool call)
{
	if (!ok(!strcmp(a->fds, b->fds), "same files open"))
		diag("%s / %s", a->fds, b->fds);
	if (!ok(!strcmp(a->maps, b->maps), "same memory mapped"))
		diag("before:\n%s\nafter:\n%s", a->maps, b->maps);
	if (!ok(!strcmp(a->status, b->status), "same signals blocked, pending, handled"))
		diag("%s / %s", a->status, b->status);
	if (!call)
		return;
	if (!ok(!strcmp(a->call, b->call), "in the same system call, same stack pointer and rip"))
		diag("%s / %s", a->call, b->call);
	ok(a->stack_size > 0 && a->stack_size == b->stack_size &&
	   !memcmp(a->stack, b->stack, a->stack_size), "same %zd bytes of stack",
	   a->stack_size);
}

/* What the injector is for: connect to somebody and speak with him. */
static bool exercise(struct inject *inj)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	socklen_t len = sizeof(addr);
	char buf[64] = "";
	struct ucred cred;
	bool good = true;
	int lfd, fd = -1;
	long ret, sock;

	/* An abstract address, picked by the kernel. */
	lfd = socket(AF_UNIX, SOCK_STREAM, 0);
	must(!bind(lfd, (struct sockaddr *)&addr, sizeof(sa_family_t)));
	must(!listen(lfd, 1));
	must(!getsockname(lfd, (struct sockaddr *)&addr, &len));

#define CALL(...) (inject_call(inj, &ret, __VA_ARGS__) == 0)
#define CHECK(cond)							\
	do {								\
		if (good && !(cond)) {					\
			good = false;					\
			diag("%s:%d: %s: %ld, %s", __FILE__, __LINE__,	\
			     #cond, ret, failure());			\
		}							\
	} while (0)

	ret = 0;
	CHECK(CALL(SYS_getpid, 0, 0, 0, 0, 0, 0) && ret == child);
	CHECK(CALL(SYS_gettid, 0, 0, 0, 0, 0, 0) && ret == inject_tid(inj));
	CHECK(CALL(SYS_socket, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, 0, 0, 0) && ret >= 0);
	sock = ret;
	CHECK(!inject_write(inj, 0, &addr, len));
	CHECK(CALL(SYS_connect, sock, inject_data(inj, 0), len, 0, 0, 0) && ret == 0);
	if (good)
		fd = accept(lfd, NULL, NULL);
	CHECK(fd >= 0);
	len = sizeof(cred);
	CHECK(!getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) && cred.pid == child);
	CHECK(!inject_write(inj, 100, "hello", 5));
	CHECK(CALL(SYS_sendto, sock, inject_data(inj, 100), 5, MSG_NOSIGNAL, 0, 0) && ret == 5);
	CHECK(recv(fd, buf, sizeof(buf), 0) == 5 && !strcmp(buf, "hello"));
	CHECK(send(fd, "answer", 6, 0) == 6);
	CHECK(CALL(SYS_recvfrom, sock, inject_data(inj, 200), 64, MSG_DONTWAIT, 0, 0) && ret == 6);
	memset(buf, 0, sizeof(buf));
	CHECK(!inject_read(inj, 200, buf, 6) && !strcmp(buf, "answer"));
	CHECK(CALL(SYS_recvfrom, sock, inject_data(inj, 200), 64, MSG_DONTWAIT, 0, 0) && ret == -EAGAIN);
	CHECK(CALL(SYS_close, sock, 0, 0, 0, 0, 0) && ret == 0);
	CHECK(CALL(SYS_close, sock, 0, 0, 0, 0, 0) && ret == -EBADF);
	close(fd);
	close(lfd);
	return good;
}

static bool stop_and_exercise(const struct inject_options *options)
{
	struct inject *inj;
	bool good;

	if (inject_open(child, options, &inj) || inject_stop(inj)) {
		diag("%s", failure());
		return false;
	}
	good = exercise(inj);
	if (inject_resume(inj)) {
		diag("%s", failure());
		good = false;
	}
	inject_close(inj);
	return good;
}

static const struct inject_options on_stack = { 0 };
static const struct inject_options own_memory = { .own_memory = true };

static const struct blocked {
	const char *name;
	void (*target)(void);
	char wake;		/* p: a byte in the pipe, u: SIGUSR1, t: time, k: kill */
	long ret;
	int err;
	bool same_call;		/* else it is restart_syscall() after the stop */
} blocked[] = {
	{ "read", target_read, 'p', 'x', 0, true },
	{ "poll", target_poll_forever, 'p', 1, 0, false },
	{ "poll with a timeout", target_poll, 't', 0, 0, false },
	{ "nanosleep", target_nanosleep, 't', 0, 0, false },
	{ "futex", target_futex, 'k', 0, 0, true },
	{ "futex with a timeout", target_futex_timeout, 't', -1, ETIMEDOUT, false },
	{ "sigtimedwait", target_sigtimedwait, 'u', SIGUSR1, 0, true },
	{ "sigsuspend", target_sigsuspend, 'u', -1, EINTR, true },
	{ "epoll_wait", target_epoll, 'p', 1, 0, true },
	{ "epoll_pwait", target_epoll_pwait, 'p', 1, 0, true },
	{ "epoll_pwait, ended by a signal", target_epoll_pwait, 'u', -1, EINTR, true },
	{ "ppoll", target_ppoll, 'p', 1, 0, true },
	{ "ppoll, ended by a signal", target_ppoll, 'u', -1, EINTR, true },
	{ "recv with SO_RCVTIMEO", target_recv_timeout, 'u', -1, EINTR, true },
};

static void test_blocked_one(const struct blocked *b,
			     const struct inject_options *options)
{
	static struct snapshot before, after;
	int i;

	diag("blocked in %s%s", b->name, options->own_memory ? ", own memory" : "");
	spawn(b->target);
	snap(&before, true);
	for (i = 0; i < 5; i++)
		if (!stop_and_exercise(options))
			break;
	is_num(i, 5, "%s: five times", b->name);
	sleep_ms(20);
	snap(&after, true);
	compare(&before, &after, b->same_call);
	ok(!shared->done, "it still waits");

	switch (b->wake) {
	case 'p':
		must(write(pipe_fd[1], "x", 1) == 1);
		break;
	case 'u':
		kill(child, SIGUSR1);
		break;
	case 'k':
		kill(child, SIGKILL);
		reap();
		return;
	}
	await_done();
	is_num(shared->ret, b->ret, "%s returned what it should", b->name);
	if (b->ret < 0)
		is_num(shared->err, b->err, "and errno");
	if (b->wake == 't' && !ok(shared->ms >= 595 && shared->ms < 900,
				  "its timeout was not prolonged"))
		diag("%ld ms", shared->ms);
	is_num(reap(), 0, "and ended well");
}

static void test_blocked(void)
{
	unsigned int i;

	for (i = 0; i < sizeof(blocked) / sizeof(blocked[0]); i++) {
		test_blocked_one(&blocked[i], &on_stack);
		test_blocked_one(&blocked[i], &own_memory);
	}
}

static void test_spin_one(void (*target)(void), const struct inject_options *options)
{
	static struct snapshot before, after;
	uint64_t rounds;
	int i;

	spawn(target);
	snap(&before, false);
	for (i = 0; i < 100; i++)
		if (!stop_and_exercise(options))
			break;
	is_num(i, 100, "while it computes, 100 times");
	snap(&after, false);
	compare(&before, &after, false);
	rounds = shared->rounds;
	sleep_ms(50);
	ok(shared->rounds > rounds, "it goes on computing");
	shared->stop = 1;
	await_done();
	is_num(shared->damage, 0, "all registers kept their values");
	is_num(reap(), 0, "and ended well");
}

static void test_spin(void)
{
	diag("computing");
	test_spin_one(target_spin, &on_stack);
	test_spin_one(target_spin, &own_memory);
	if (__builtin_cpu_supports("avx"))
		test_spin_one(target_spin_avx, &on_stack);
	else
		tap_skip("wide registers: this CPU has none");
}

static void test_handler(void)
{
	static struct snapshot before, after;

	diag("in a signal handler");
	spawn(target_handler);
	snap(&before, true);
	ok(stop_and_exercise(&on_stack), "in a signal handler on its own stack");
	sleep_ms(20);
	snap(&after, true);
	compare(&before, &after, true);
	must(write(pipe_fd[1], "h", 1) == 1);
	await_done();
	is_num(shared->ret, 'h', "the handler's read");
	is_num(shared->handled, 1, "the handler returned");
	is_num(shared->damage, 0, "the alternate stack is as it was");
	is_num(reap(), 0, "and ended well");
}

static void test_pending(void)
{
	static struct snapshot before, after;

	diag("a blocked signal pending");
	spawn(target_pending);
	snap(&before, true);
	ok(stop_and_exercise(&on_stack), "with a blocked signal pending");
	snap(&after, true);
	compare(&before, &after, true);
	must(write(pipe_fd[1], "x", 1) == 1);
	await_done();
	is_num(shared->damage, 0, "it is still pending and not handled");
	is_num(reap(), 0, "and ended well");
}

/* Signals that come while the thread is in our hands. */
static void test_signal_meanwhile(void (*target)(void), const char *name,
				  bool restarts)
{
	struct inject *inj;
	bool good;

	diag("a signal meanwhile, %s", name);
	spawn(target);
	await_sleep();
	must(!inject_open(child, NULL, &inj));
	ok(inject_stop(inj) == 0, "stop");
	kill(child, SIGUSR1);
	good = exercise(inj);
	is_num(shared->handled, 0, "%s: no handler runs in between", name);
	good &= !inject_resume(inj);
	ok(good, "and all calls worked");
	inject_close(inj);
	sleep_ms(100);
	is_num(shared->handled, 1, "the handler runs after, once");
	if (restarts) {
		ok(!shared->done, "and the call was restarted");
		must(write(pipe_fd[1], "x", 1) == 1);
		await_done();
		is_num(shared->ret, 'x', "and ends as usual");
	} else {
		await_done();
		is_num(shared->ret, -1, "and the call");
		is_num(shared->err, EINTR, "returned EINTR");
	}
	is_num(reap(), 0, "and ended well");
}

/* A signal is on its way already when the stop is asked for. */
static void test_signal_before(void)
{
	int i, handled = 0, good = 0;

	diag("a signal on its way");
	for (i = 0; i < 50; i++) {
		spawn(target_read_restart);
		kill(child, SIGUSR1);
		good += stop_and_exercise(i & 1 ? &own_memory : &on_stack);
		must(write(pipe_fd[1], "x", 1) == 1);
		while (!shared->done)
			sched_yield();
		handled += shared->handled == 1 && shared->ret == 'x';
		must(reap() == 0);
	}
	is_num(good, 50, "a signal just before the stop, 50 times");
	is_num(handled, 50, "handled once each, and the call restarted");
}

static void test_threads(void)
{
	struct inject_options one = { 0 };
	uint64_t before[4], after[4];
	struct inject *inj;
	struct dirent *e;
	char path[64];
	int i, ran = 0, n = 0, good = 0;
	DIR *dir;

	diag("several threads");
	spawn(target_threads);
	await_sleep();
	must(!inject_open(child, NULL, &inj));
	ok(!inject_stop(inj), "one thread of five");
	is_num(inject_tid(inj), child, "the one that sleeps");
	for (i = 0; i < 4; i++)
		before[i] = shared->other[i];
	sleep_ms(200);
	for (i = 0; i < 4; i++)
		after[i] = shared->other[i];
	for (i = 0; i < 4; i++)
		ran += after[i] > before[i];
	is_num(ran, 4, "the others run on");
	ok(exercise(inj), "calls");
	ok(!inject_resume(inj), "resume");
	inject_close(inj);

	/* Each of them, also those without a stack that can be trusted. */
	snprintf(path, sizeof(path), "/proc/%d/task", child);
	dir = opendir(path);
	must(dir);
	while ((e = readdir(dir))) {
		one.tid = atoi(e->d_name);
		if (!one.tid)
			continue;
		n++;
		good += stop_and_exercise(&one);
	}
	closedir(dir);
	is_num(good, n, "each of %d threads", n);
	shared->stop = 1;
	await_done();
	is_num(reap(), 0, "and ended well");

	spawn(target_main_exited);
	ok(!inject_open(child, NULL, &inj) ? !inject_stop(inj) && exercise(inj) && !inject_resume(inj) :
	   strstr(failure(), "has exited") != NULL,
	   "main thread exited: works or says so");
	must(write(pipe_fd[1], "x", 1) == 1);
	await_done();
	reap();
}

static void test_stopped(void)
{
	char state[256];
	int status;

	diag("stopped by job control");
	spawn(target_read);
	await_sleep();
	kill(child, SIGSTOP);
	must(waitpid(child, &status, WUNTRACED) == child && WIFSTOPPED(status));
	ok(stop_and_exercise(&on_stack), "in a stopped process");
	sleep_ms(50);
	proc_line("stat", state, sizeof(state));
	has_text(state, ") T ", "it is still stopped");
	kill(child, SIGCONT);
	must(write(pipe_fd[1], "x", 1) == 1);
	await_done();
	is_num(shared->ret, 'x', "and goes on when continued");
	is_num(reap(), 0, "and ended well");
}

/* SIGSTOP cannot be blocked: it comes in the middle of an injected call. */
static void test_stop_meanwhile(void)
{
	struct inject *inj;
	char buf[8] = "", state[256];
	int status;
	long ret, sv[2] = { -1, -1 };
	int fds[2] = { -1, -1 };
	pid_t helper;

	diag("stopped in an injected call");
	spawn(target_read);
	await_sleep();
	must(!inject_open(child, NULL, &inj));
	must(!inject_stop(inj));
	ok(!inject_call(inj, &ret, SYS_pipe2, inject_data(inj, 0), O_CLOEXEC, 0, 0, 0, 0) &&
	   !ret, "pipe");
	must(!inject_read(inj, 0, fds, sizeof(fds)));
	sv[0] = fds[0];
	sv[1] = fds[1];
	helper = fork();
	must(helper >= 0);
	if (!helper) {
		char path[64];
		int fd;

		sleep_ms(100);
		kill(child, SIGSTOP);
		sleep_ms(100);
		snprintf(path, sizeof(path), "/proc/%d/fd/%ld", child, sv[1]);
		fd = open(path, O_WRONLY);
		if (fd < 0 || write(fd, "abc", 3) != 3)
			_exit(1);
		_exit(0);
	}
	ok(!inject_call(inj, &ret, SYS_read, sv[0], inject_data(inj, 64), 8, 0, 0, 0) &&
	   ret == 3, "a call that SIGSTOP comes into ends all the same");
	must(!inject_read(inj, 64, buf, 3));
	ok(!strcmp(buf, "abc"), "with its data");
	inject_call(inj, &ret, SYS_close, sv[0], 0, 0, 0, 0, 0);
	inject_call(inj, &ret, SYS_close, sv[1], 0, 0, 0, 0, 0);
	ok(!inject_resume(inj), "resume");
	inject_close(inj);
	must(waitpid(helper, &status, 0) == helper && !status);
	sleep_ms(50);
	proc_line("stat", state, sizeof(state));
	has_text(state, ") T ", "the process is stopped now");
	kill(child, SIGCONT);
	must(write(pipe_fd[1], "x", 1) == 1);
	await_done();
	is_num(shared->ret, 'x', "and goes on when continued");
	is_num(reap(), 0, "and ended well");
}

static void test_killed(void)
{
	struct inject *inj;
	long ret;
	int i, status;

	diag("target killed");
	for (i = 0; i < 2; i++) {
		spawn(i ? target_spin : target_read);
		must(!inject_open(child, NULL, &inj));
		must(!inject_stop(inj));
		kill(child, SIGKILL);
		is_num(inject_call(inj, &ret, SYS_getpid, 0, 0, 0, 0, 0, 0),
		       KVMI_EXIT_GONE, "killed between stop and call");
		has_text(failure(), "killed meanwhile", "is named");
		inject_resume(inj);
		inject_close(inj);
		waitpid(child, &status, __WALL);
		close(pipe_fd[0]);
		close(pipe_fd[1]);
	}

	spawn(target_read);
	must(!inject_open(child, NULL, &inj));
	must(!inject_stop(inj));
	must(!inject_call(inj, &ret, SYS_getpid, 0, 0, 0, 0, 0, 0));
	kill(child, SIGKILL);
	is_num(inject_resume(inj), KVMI_EXIT_GONE, "killed before resume");
	inject_close(inj);
	waitpid(child, &status, __WALL);
	close(pipe_fd[0]);
	close(pipe_fd[1]);
}

/*
 * The injector is killed at any moment.  The target has to find its way back by
 * itself, without a change in any register.
 */
static void test_injector_killed(void (*target)(void), const char *name, int rounds)
{
	int i, j, alive = 0, status, died_working = 0;
	unsigned int seed = 42;
	uint64_t before;
	pid_t injector;

	diag("injector killed: %s", name);
	spawn(target);
	for (i = 0; i < rounds; i++) {
		injector = fork();
		must(injector >= 0);
		if (!injector) {
			struct inject *inj;
			long ret;

			if (inject_open(child, NULL, &inj))
				_exit(2);
			for (;;) {
				if (inject_stop(inj))
					_exit(3);
				inject_call(inj, &ret, SYS_getpid, 0, 0, 0, 0, 0, 0);
				inject_call(inj, &ret, SYS_getppid, 0, 0, 0, 0, 0, 0);
				if (inject_resume(inj))
					_exit(4);
			}
		}
		usleep(2000 + rand_r(&seed) % 8000);
		kill(injector, SIGKILL);
		must(waitpid(injector, &status, 0) == injector);
		died_working += WIFSIGNALED(status);
		if (kill(child, 0) || waitpid(child, &status, WNOHANG))
			break;
		if (target == target_read) {
			alive++;
			continue;
		}
		before = shared->rounds;
		for (j = 0; j < 10000 && shared->rounds < before + 1000; j++)
			usleep(100);
		if (j == 10000)
			break;
		alive++;
	}
	is_num(alive, rounds, "%s survives %d killed injectors", name, rounds);
	is_num(died_working, rounds, "which were all at work");
	if (target == target_read)
		must(write(pipe_fd[1], "x", 1) == 1);
	shared->stop = 1;
	await_done();
	is_num(shared->damage, 0, "no register has changed");
	if (target == target_read)
		is_num(shared->ret, 'x', "its read was restarted");
	is_num(reap(), 0, "and ended well");
}

static void test_seccomp(void)
{
	struct inject *inj;
	int err, status;

	diag("seccomp");
	spawn(target_seccomp);
	if (shared->ret == -1) {
		tap_skip("this kernel has no seccomp filters");
		kill(child, SIGKILL);
		reap();
		return;
	}
	must(!inject_open(child, NULL, &inj));
	err = inject_stop(inj);
	if (err) {
		is_num(err, KVMI_EXIT_DENIED, "a filter that cannot be suspended is respected");
		has_text(failure(), "seccomp", "is named");
	} else {
		ok(exercise(inj), "a call that the filter would kill for");
		ok(!inject_resume(inj), "resume");
	}
	inject_close(inj);
	must(write(pipe_fd[1], "x", 1) == 1);
	await_done();
	is_num(shared->ret, 'x', "the process lives");
	status = reap();
	ok(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS,
	   "until its filter kills it for a call of its own");
}

/* Refusals, with a text each. */
static void test_errors(void)
{
	struct inject *inj;
	int status, p[2];
	char c;
	pid_t pid;

	diag("errors");
	is_num(inject_open(0x3fffffff, NULL, &inj), KVMI_EXIT_NOT_FOUND, "no such process");
	has_text(failure(), "there is no process 1073741823", "is named");
	is_num(inject_open(-1, NULL, &inj), KVMI_EXIT_NOT_FOUND, "a negative pid");
	is_num(inject_open(getpid(), NULL, &inj), KVMI_EXIT_NOT_FOUND, "itself");

	child = fork();
	must(child >= 0);
	if (!child)
		_exit(0);
	sleep_ms(50);
	is_num(inject_open(child, NULL, &inj), KVMI_EXIT_GONE, "a zombie");
	has_text(failure(), "has exited", "is named");
	waitpid(child, &status, 0);

	/* Somebody else traces it. */
	spawn(target_read);
	must(!pipe(p));
	pid = fork();
	must(pid >= 0);
	if (!pid) {
		c = ptrace(PTRACE_SEIZE, child, NULL, NULL) ? 'e' : 'k';
		if (write(p[1], &c, 1) == 1)
			pause();
		_exit(1);
	}
	must(read(p[0], &c, 1) == 1 && c == 'k');
	must(!inject_open(child, NULL, &inj));
	is_num(inject_stop(inj), KVMI_EXIT_BUSY, "traced by another process");
	has_text(failure(), "is being traced by process", "is named");
	inject_close(inj);
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);

	if (geteuid()) {
		tap_skip("a process of another user: needs root");
	} else {
		pid = fork();
		must(pid >= 0);
		if (!pid) {
			if (setgid(65534) || setuid(65534))
				_exit(99);
			status = inject_open(child, NULL, &inj);
			_exit(strstr(failure(), "no permission to trace") ? status : 98);
		}
		waitpid(pid, &status, 0);
		is_num(WEXITSTATUS(status), KVMI_EXIT_DENIED, "a process of another user");
	}
	must(!inject_open(child, NULL, &inj));
	must(!inject_stop(inj));
	is_num(inject_write(inj, INJECT_DATA_SIZE - 4, &status, 5), KVMI_EXIT_FAILED,
	       "beyond the data room");
	is_num(inject_write(inj, INJECT_DATA_SIZE - 4, &status, 4), 0, "just within it");
	must(!inject_resume(inj));
	inject_close(inj);
	must(write(pipe_fd[1], "x", 1) == 1);
	await_done();
	is_num(reap(), 0, "none of this disturbed it");
}

int main(void)
{
	tap_start(300);
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	must(shared != MAP_FAILED);

	test_errors();
	test_blocked();
	test_spin();
	test_handler();
	test_pending();
	test_signal_meanwhile(target_read_handler, "read", false);
	test_signal_meanwhile(target_read_restart, "read with SA_RESTART", true);
	test_signal_meanwhile(target_ppoll, "ppoll", false);
	test_signal_meanwhile(target_epoll_pwait, "epoll_pwait", false);
	test_signal_before();
	test_threads();
	test_stopped();
	test_stop_meanwhile();
	test_killed();
	test_injector_killed(target_spin, "computing", 300);
	test_injector_killed(target_read, "in read", 300);
	if (__builtin_cpu_supports("avx"))
		test_injector_killed(target_spin_avx, "wide registers", 300);
	test_seccomp();
	return tap_done();
}
