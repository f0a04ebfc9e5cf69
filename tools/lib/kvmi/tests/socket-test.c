// SPDX-License-Identifier: GPL-2.0
/* The listening socket: whose it is, who may connect, what is never removed. */

#include <errno.h>
#include <fcntl.h>
#include <kvmi/libkvmi.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "tap.h"

static char dir[] = "/tmp/kvmi-socket-test.XXXXXX";
static char path[64];

static int connect_to(const char *p)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	strncpy(addr.sun_path, p, sizeof(addr.sun_path) - 1);
	if (!connect(fd, (struct sockaddr *)&addr, sizeof(addr)))
		return fd;
	close(fd);
	return -errno;
}

/* What a tool that was killed leaves behind. */
static void make_stale(const char *p)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	strncpy(addr.sun_path, p, sizeof(addr.sun_path) - 1);
	must(!bind(fd, (struct sockaddr *)&addr, sizeof(addr)));
	close(fd);
}

static void test_mode(mode_t mask)
{
	struct kvmi_listener *l;
	struct stat st;
	mode_t old = umask(mask);
	int err, fd, peer;

	err = kvmi_listener_open(path, &l);
	umask(old);
	must(is_num(err, 0, "listen with umask %03o", mask));
	must(!lstat(path, &st));
	ok(S_ISSOCK(st.st_mode), "is a socket");
	is_num(st.st_mode & 0777, 0600, "mode 0600");
	is_num(kvmi_listener_accept(l), -EAGAIN, "nobody there yet");
	peer = connect_to(path);
	ok(peer >= 0, "connect");
	fd = kvmi_listener_accept(l);
	ok(fd >= 0, "accept");
	ok(fcntl(fd, F_GETFD) & FD_CLOEXEC, "not inherited over exec");
	close(fd);
	close(peer);
	kvmi_listener_close(l);
	is_num(lstat(path, &st), -1, "removed at the end");
}

static void test_foreign(void)
{
	struct kvmi_listener *l, *l2;
	char target[80];
	struct stat st;
	int fd;

	fd = open(path, O_CREAT | O_WRONLY, 0644);
	must(fd >= 0 && write(fd, "precious", 8) == 8);
	close(fd);
	is_num(kvmi_listener_open(path, &l), -EEXIST, "a file is in the way");
	has_text(kvmi_error(), "exists and is not a socket", "is named");
	must(!stat(path, &st));
	is_num(st.st_size, 8, "the file is untouched");
	unlink(path);

	must(!mkdir(path, 0755));
	is_num(kvmi_listener_open(path, &l), -EEXIST, "a directory is in the way");
	must(!rmdir(path));

	/* A link to a stale socket: neither of the two is ours to remove. */
	snprintf(target, sizeof(target), "%s/target", dir);
	make_stale(target);
	must(!symlink(target, path));
	is_num(kvmi_listener_open(path, &l), -EEXIST, "a symbolic link is in the way");
	ok(!lstat(path, &st) && S_ISLNK(st.st_mode), "the link is still there");
	ok(!lstat(target, &st) && S_ISSOCK(st.st_mode), "so is its target");
	unlink(target);
	is_num(kvmi_listener_open(path, &l), -EEXIST, "a link to nowhere");
	is_num(lstat(target, &st), -1, "is not followed");
	unlink(path);

	make_stale(path);
	is_num(kvmi_listener_open(path, &l), 0, "a stale socket is replaced");
	is_num(kvmi_listener_open(path, &l2), -EADDRINUSE, "one in use is not");
	has_text(kvmi_error(), "somebody listens there already", "is named");
	fd = connect_to(path);
	ok(fd >= 0, "the first listener still works");
	close(fd);

	/* Somebody else puts something in our place. */
	unlink(path);
	make_stale(path);
	kvmi_listener_close(l);
	is_num(lstat(path, &st), 0, "what is not ours any more is left");
	unlink(path);

	if (geteuid()) {
		tap_skip("a socket of another user: needs root");
	} else {
		make_stale(path);
		must(!chown(path, 12345, 12345));
		is_num(kvmi_listener_open(path, &l), -EEXIST, "a socket of another user");
		unlink(path);
	}
}

static void test_names(void)
{
	struct kvmi_listener *l;
	char longname[200];
	int lock;

	memset(longname, 'x', sizeof(longname) - 1);
	longname[0] = '/';
	longname[sizeof(longname) - 1] = '\0';
	is_num(kvmi_listener_open(longname, &l), -ENAMETOOLONG, "a path that is too long");
	has_text(kvmi_error(), "at most 107", "says what is possible");
	is_num(kvmi_listener_open("", &l), -EINVAL, "no path");
	is_num(kvmi_listener_open("/tmp/", &l), -EISDIR, "a directory's name");
	is_num(kvmi_listener_open("/nowhere/x", &l), -ENOENT, "no such directory");
	has_text(kvmi_error(), "/nowhere: No such file", "is named");

	must(!chdir(dir));
	is_num(kvmi_listener_open("relative", &l), 0, "a relative path");
	kvmi_listener_close(l);

	lock = open(dir, O_RDONLY);
	must(!flock(lock, LOCK_EX));
	is_num(kvmi_listener_open(path, &l), -EBUSY, "the directory stays locked");
	close(lock);
}

int main(void)
{
	tap_start(60);
	must(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/sock", dir);
	test_mode(0);
	test_mode(022);
	test_mode(077);
	test_foreign();
	test_names();
	rmdir(dir);
	return tap_done();
}
