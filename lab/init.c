// SPDX-License-Identifier: GPL-2.0
/*
 * The first process of the lab's machine: it sets up what programs expect of
 * a Linux system, runs the one command that lab/run was given and carries its
 * output and its exit status out of the machine, each on a channel of its own
 * and byte for byte.
 *
 * The channels are virtio ports where the emulator has them and serial ports
 * where it does not (the environment variable lab_io, from the kernel's
 * command line, says which). The command writes into pipes and never to the
 * channel itself, so that it behaves the same in front of either.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#define ARGV_FILE	"/lab/.argv"
#define ARGV_MAX	(128 * 1024)
#define ARRAY_SIZE(x)	(sizeof(x) / sizeof((x)[0]))
#define PIPE_SIZE	(64 * 1024)	/* what a pipe holds unless told otherwise */

enum { CH_OUT, CH_ERR, CH_CTL, NR_CH };

static const char * const virtio_ports[NR_CH] = {
	"/dev/vport0p1", "/dev/vport0p2", "/dev/vport0p3",
};

static const char * const serial_ports[NR_CH] = {
	"/dev/ttyS1", "/dev/ttyS2", "/dev/ttyS3",
};

static int channel[NR_CH] = { -1, -1, -1 };
static int sigchld_pipe[2];

/* Say it on the console and stop: lab/run reads there that the set-up failed. */
static void __attribute__((noreturn, format(printf, 1, 2)))
fail(const char *fmt, ...)
{
	char msg[512];
	va_list ap;
	int n, fd;

	n = snprintf(msg, sizeof(msg), "<2>lab: init failed: ");
	va_start(ap, fmt);
	n += vsnprintf(msg + n, sizeof(msg) - n, fmt, ap);
	va_end(ap);
	if (n >= (int)sizeof(msg))
		n = sizeof(msg) - 1;

	fd = open("/dev/kmsg", O_WRONLY);
	if (fd < 0 || write(fd, msg, n) != n)
		write(STDERR_FILENO, msg, n);
	for (;;)
		pause();
}

static const struct {
	const char *source, *target, *type, *options;
	mode_t mode;
	int needed;
} mounts[] = {
	{ "proc",	"/proc",		"proc",		NULL,		0555, 1 },
	{ "sysfs",	"/sys",			"sysfs",	NULL,		0555, 1 },
	{ "devtmpfs",	"/dev",			"devtmpfs",	NULL,		0755, 1 },
	{ "devpts",	"/dev/pts",		"devpts",	NULL,		0755, 0 },
	{ "tmpfs",	"/dev/shm",		"tmpfs",	"mode=1777",	01777, 1 },
	{ "tmpfs",	"/tmp",			"tmpfs",	"mode=1777",	01777, 1 },
	{ "tmpfs",	"/run",			"tmpfs",	"mode=0755",	0755, 1 },
	{ "hugetlbfs",	"/dev/hugepages",	"hugetlbfs",	NULL,		0755, 0 },
	{ "debugfs",	"/sys/kernel/debug",	"debugfs",	NULL,		0700, 0 },
	{ "tracefs",	"/sys/kernel/tracing",	"tracefs",	NULL,		0700, 0 },
};

static void mount_all(void)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(mounts); i++) {
		mkdir(mounts[i].target, mounts[i].mode);
		if (mount(mounts[i].source, mounts[i].target, mounts[i].type, 0,
			  mounts[i].options) && mounts[i].needed)
			fail("mount %s: %s", mounts[i].target, strerror(errno));
	}
}

static void loopback_up(void)
{
	struct ifreq ifr = { .ifr_name = "lo" };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return;
	if (!ioctl(fd, SIOCGIFFLAGS, &ifr)) {
		ifr.ifr_flags |= IFF_UP;
		ioctl(fd, SIOCSIFFLAGS, &ifr);
	}
	close(fd);
}

/* A virtio port comes some time after the driver: wait for it. */
static int open_port(const char *path)
{
	int fd, tries;

	for (tries = 0; tries < 1000; tries++) {
		fd = open(path, O_WRONLY | O_NOCTTY | O_CLOEXEC);
		if (fd >= 0)
			return fd;
		if (errno != ENOENT && errno != ENXIO && errno != ENODEV)
			break;
		usleep(5000);
	}
	fail("%s: %s", path, strerror(errno));
}

static void open_channels(void)
{
	const char *io = getenv("lab_io");
	int serial = io && !strcmp(io, "serial");
	struct termios tio;
	int i;

	for (i = 0; i < NR_CH; i++) {
		channel[i] = open_port(serial ? serial_ports[i] : virtio_ports[i]);
		if (!serial)
			continue;
		if (tcgetattr(channel[i], &tio))
			fail("%s: %s", serial_ports[i], strerror(errno));
		cfmakeraw(&tio);
		tio.c_cflag |= CLOCAL;
		cfsetspeed(&tio, B115200);
		if (tcsetattr(channel[i], TCSANOW, &tio))
			fail("%s: %s", serial_ports[i], strerror(errno));
	}
}

static void send_all(int ch, const char *buf, size_t len)
{
	while (len) {
		ssize_t n = write(channel[ch], buf, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			fail("channel %d: %s", ch, strerror(errno));
		buf += n;
		len -= n;
	}
}

/* The command and its arguments, each ended by a NUL. */
static char **read_argv(void)
{
	static char buf[ARGV_MAX + 1];
	static char *argv[ARGV_MAX / 2 + 1];
	size_t len = 0, argc = 0;
	char *p;
	int fd;

	fd = open(ARGV_FILE, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		fail("%s: %s", ARGV_FILE, strerror(errno));
	for (;;) {
		ssize_t n = read(fd, buf + len, ARGV_MAX - len);

		if (n < 0)
			fail("%s: %s", ARGV_FILE, strerror(errno));
		if (!n)
			break;
		len += n;
	}
	close(fd);
	if (!len || len == ARGV_MAX)
		fail("%s: no command, or one too long", ARGV_FILE);
	for (p = buf; p < buf + len; p += strlen(p) + 1)
		argv[argc++] = p;
	return argv;
}

static void on_sigchld(int sig)
{
	int saved = errno;

	(void)sig;
	/* full means a wake-up is on its way already */
	if (write(sigchld_pipe[1], "", 1) < 0)
		errno = saved;
	errno = saved;
}

static pid_t start(char **argv, int out, int err)
{
	pid_t pid = fork();
	int null;

	if (pid < 0)
		fail("fork: %s", strerror(errno));
	if (pid)
		return pid;

	signal(SIGCHLD, SIG_DFL);
	setsid();
	null = open("/dev/null", O_RDONLY);
	dup2(null, STDIN_FILENO);
	dup2(out, STDOUT_FILENO);
	dup2(err, STDERR_FILENO);
	if (null > STDERR_FILENO)
		close(null);
	if (chdir("/lab"))
		fail("/lab: %s", strerror(errno));
	execvp(argv[0], argv);
	dprintf(STDERR_FILENO, "lab: %s: %s\n", argv[0], strerror(errno));
	_exit(errno == ENOENT ? 127 : 126);
}

/*
 * Carry over what the pipe holds now, and not more: a process that the command
 * left behind may write without end. False when there will be no more.
 */
static int relay(int fd, int ch)
{
	char buf[PIPE_SIZE];
	size_t done = 0;
	ssize_t n;

	while (done < PIPE_SIZE) {
		n = read(fd, buf, sizeof(buf));
		if (n > 0) {
			send_all(ch, buf, n);
			done += n;
		} else if (!n) {
			return 0;
		} else if (errno == EAGAIN) {
			return 1;
		} else if (errno != EINTR) {
			fail("pipe: %s", strerror(errno));
		}
	}
	return 1;
}

static int run(char **argv)
{
	struct pollfd pfd[NR_CH];
	int out[2], err[2], status = -1, dead = 0;
	struct sigaction sa = { .sa_handler = on_sigchld, .sa_flags = SA_RESTART };
	char drop[64];
	pid_t pid, child;
	int st;

	if (pipe2(out, O_CLOEXEC) || pipe2(err, O_CLOEXEC) ||
	    pipe2(sigchld_pipe, O_CLOEXEC | O_NONBLOCK))
		fail("pipe: %s", strerror(errno));
	sigaction(SIGCHLD, &sa, NULL);

	child = start(argv, out[1], err[1]);
	close(out[1]);
	close(err[1]);
	fcntl(out[0], F_SETFL, O_NONBLOCK);
	fcntl(err[0], F_SETFL, O_NONBLOCK);

	pfd[0] = (struct pollfd){ .fd = out[0], .events = POLLIN };
	pfd[1] = (struct pollfd){ .fd = err[0], .events = POLLIN };
	pfd[2] = (struct pollfd){ .fd = sigchld_pipe[0], .events = POLLIN };

	while (!dead) {
		if (poll(pfd, NR_CH, -1) < 0 && errno != EINTR)
			fail("poll: %s", strerror(errno));
		while (read(sigchld_pipe[0], drop, sizeof(drop)) > 0)
			;
		while ((pid = waitpid(-1, &st, WNOHANG)) > 0) {
			if (pid == child) {
				dead = 1;
				status = st;
			}
		}
		/* what it wrote before it ended is in the pipes by now */
		if (pfd[0].fd >= 0 && !relay(out[0], CH_OUT))
			pfd[0].fd = -1;
		if (pfd[1].fd >= 0 && !relay(err[0], CH_ERR))
			pfd[1].fd = -1;
	}

	if (WIFSIGNALED(status))
		return 128 + WTERMSIG(status);
	return WEXITSTATUS(status);
}

int main(void)
{
	char line[64];
	int rc, fd, n;

	mount_all();
	/* the kernel opened /dev/console only if the initramfs had one */
	fd = open("/dev/console", O_RDWR | O_NOCTTY);
	if (fd >= 0) {
		for (n = 0; n < 3; n++)
			dup2(fd, n);
		if (fd > 2)
			close(fd);
	}
	loopback_up();
	setenv("PATH", "/bin:/sbin:/usr/bin:/usr/sbin:/lab", 1);
	setenv("HOME", "/root", 1);
	setenv("TERM", "dumb", 1);
	open_channels();

	rc = run(read_argv());

	/*
	 * Whatever the command left running ends here and is waited for: a
	 * report that its end provokes in the kernel still belongs to the run.
	 */
	kill(-1, SIGKILL);
	while (waitpid(-1, NULL, 0) > 0 || errno == EINTR)
		;

	tcdrain(channel[CH_OUT]);
	tcdrain(channel[CH_ERR]);

	/* on the console after all that the kernel had to say */
	fd = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);
	if (fd >= 0) {
		dprintf(fd, "<2>lab: the command ended with status %d\n", rc);
		close(fd);
	}

	n = snprintf(line, sizeof(line), "exit %d\n", rc);
	send_all(CH_CTL, line, n);
	tcdrain(channel[CH_CTL]);

	/* lab/run turns the machine off */
	for (;;)
		pause();
}
