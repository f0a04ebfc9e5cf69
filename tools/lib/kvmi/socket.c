// SPDX-License-Identifier: GPL-2.0
/* The socket on which a tool waits for the VMMs: a unix socket, or vsock. */

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

/* Wants struct sockaddr to be known. */
#include <linux/vm_sockets.h>

#include "internal.h"

#define LISTEN_BACKLOG		64
#define DIR_LOCK_TRIES		200
#define DIR_LOCK_PAUSE_NS	(10 * 1000 * 1000)

struct kvmi_listener {
	int fd;
	int dir_fd;		/* the directory of the socket, for its removal */
	dev_t dev;		/* which inode is ours */
	ino_t ino;
	char name[NAME_MAX + 1];
	char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
};

/*
 * Whoever makes or removes a socket in the directory holds this lock, so that
 * nobody takes for stale, and removes, what another has just made.
 */
static int lock_dir(int dir_fd, const char *path)
{
	const struct timespec pause = { .tv_nsec = DIR_LOCK_PAUSE_NS };
	int i;

	for (i = 0; i < DIR_LOCK_TRIES; i++) {
		if (!flock(dir_fd, LOCK_EX | LOCK_NB))
			return 0;
		if (errno != EWOULDBLOCK && errno != EINTR)
			return kvmi_fail(-errno, "%s: locking its directory: %s",
					 path, strerror(errno));
		nanosleep(&pause, NULL);
	}
	return kvmi_fail(-EBUSY, "%s: its directory stays locked", path);
}

static void unlock_dir(int dir_fd)
{
	flock(dir_fd, LOCK_UN);
}

static int split_path(const char *path, struct kvmi_listener *l)
{
	char dir[sizeof(l->path)] = ".";
	const char *slash, *name = path;
	size_t len = strlen(path);

	if (!len)
		return kvmi_fail(-EINVAL, "the path of the socket is empty");
	if (len >= sizeof(l->path))
		return kvmi_fail(-ENAMETOOLONG,
				 "%s: the path of a unix socket has at most %zu characters",
				 path, sizeof(l->path) - 1);
	strcpy(l->path, path);

	slash = strrchr(path, '/');
	if (slash) {
		name = slash + 1;
		len = slash - path;
		memcpy(dir, path, len ? len : 1);
		dir[len ? len : 1] = '\0';
	}
	if (!*name || !strcmp(name, ".") || !strcmp(name, ".."))
		return kvmi_fail(-EISDIR, "%s: is not the name of a socket", path);
	strcpy(l->name, name);

	l->dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (l->dir_fd < 0)
		return kvmi_fail(-errno, "%s: %s: %s", path, dir, strerror(errno));
	return 0;
}

/*
 * Something is there.  Remove it if it is a socket of our own user on which
 * nobody listens any more, as a killed tool leaves it behind; leave everything
 * else alone.
 */
static int remove_stale(struct kvmi_listener *l, const struct sockaddr_un *addr)
{
	struct stat st;
	int fd, err;

	if (fstatat(l->dir_fd, l->name, &st, AT_SYMLINK_NOFOLLOW))
		return errno == ENOENT ? 0 :
		       kvmi_fail(-errno, "%s: %s", l->path, strerror(errno));
	if (!S_ISSOCK(st.st_mode))
		return kvmi_fail(-EEXIST, "%s: exists and is not a socket", l->path);
	if (st.st_uid != geteuid())
		return kvmi_fail(-EEXIST, "%s: is a socket of another user", l->path);

	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return kvmi_fail(-errno, "socket: %s", strerror(errno));
	err = connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) ? errno : 0;
	close(fd);
	if (err != ECONNREFUSED)
		return kvmi_fail(-EADDRINUSE, "%s: somebody listens there already",
				 l->path);
	if (unlinkat(l->dir_fd, l->name, 0) && errno != ENOENT)
		return kvmi_fail(-errno, "%s: removing the old socket: %s",
				 l->path, strerror(errno));
	return 0;
}

static int bind_socket(struct kvmi_listener *l)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	struct stat st;
	int err;

	strcpy(addr.sun_path, l->path);

	/* The inode is made with the mode of the socket: no window, no umask. */
	if (fchmod(l->fd, 0600))
		return kvmi_fail(-errno, "%s: fchmod: %s", l->path, strerror(errno));

	/* bind() follows no symbolic link and never takes what exists. */
	err = bind(l->fd, (struct sockaddr *)&addr, sizeof(addr)) ? -errno : 0;
	if (err == -EADDRINUSE) {
		err = remove_stale(l, &addr);
		if (err)
			return err;
		err = bind(l->fd, (struct sockaddr *)&addr, sizeof(addr)) ? -errno : 0;
	}
	if (err)
		return kvmi_fail(err, "%s: bind: %s", l->path, strerror(-err));

	if (fstatat(l->dir_fd, l->name, &st, AT_SYMLINK_NOFOLLOW))
		return kvmi_fail(-errno, "%s: has gone again: %s", l->path,
				 strerror(errno));
	l->dev = st.st_dev;
	l->ino = st.st_ino;

	if (listen(l->fd, LISTEN_BACKLOG))
		return kvmi_fail(-errno, "%s: listen: %s", l->path, strerror(errno));
	return 0;
}

/**
 * kvmi_listener_open - make a unix socket and listen on it
 * @path: where; only the own user can connect (mode 0600)
 * @listener: the new listener
 *
 * A socket that a tool of the same user left behind is replaced.  Anything
 * else that exists at @path, a symbolic link included, is left alone and is an
 * error.
 *
 * Return: 0 or a negated errno, -EADDRINUSE if somebody listens there already,
 * -EEXIST if what is there is not ours to remove.
 */
int kvmi_listener_open(const char *path, struct kvmi_listener **listener)
{
	struct kvmi_listener *l;
	int err;

	l = calloc(1, sizeof(*l));
	if (!l)
		return kvmi_fail(-ENOMEM, "%s: out of memory", path);
	l->dir_fd = -1;
	l->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (l->fd < 0) {
		err = kvmi_fail(-errno, "socket: %s", strerror(errno));
		goto fail;
	}
	err = split_path(path, l);
	if (err)
		goto fail;
	err = lock_dir(l->dir_fd, path);
	if (err)
		goto fail;
	err = bind_socket(l);
	unlock_dir(l->dir_fd);
	if (err)
		goto fail;
	*listener = l;
	return 0;

fail:
	kvmi_listener_close(l);
	return err;
}

/**
 * kvmi_listener_open_vsock - listen for VMMs that run on another machine
 * @cid: as which context to listen: VMADDR_CID_ANY for all that this machine is
 * @port: the port, or VMADDR_PORT_ANY
 * @listener: the new listener
 *
 * A VMM on the host connects so to a tool in a guest.  Anybody on that host can
 * connect: use a key.
 *
 * Return: 0 or a negated errno, -EADDRINUSE if somebody listens there already,
 * -EAFNOSUPPORT if there is no vsock.
 */
int kvmi_listener_open_vsock(unsigned int cid, unsigned int port,
			     struct kvmi_listener **listener)
{
	struct sockaddr_vm addr = {
		.svm_family = AF_VSOCK,
		.svm_cid = cid,
		.svm_port = port,
	};
	struct kvmi_listener *l;
	int err = 0;

	l = calloc(1, sizeof(*l));
	if (!l)
		return kvmi_fail(-ENOMEM, "vsock port %u: out of memory", port);
	l->dir_fd = -1;
	snprintf(l->path, sizeof(l->path), "vsock port %u", port);
	l->fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (l->fd < 0)
		err = kvmi_fail(-errno, "%s: socket: %s", l->path, strerror(errno));
	else if (bind(l->fd, (struct sockaddr *)&addr, sizeof(addr)))
		err = kvmi_fail(-errno, "%s: bind: %s", l->path, strerror(errno));
	else if (listen(l->fd, LISTEN_BACKLOG))
		err = kvmi_fail(-errno, "%s: listen: %s", l->path, strerror(errno));
	if (err) {
		kvmi_listener_close(l);
		return err;
	}
	*listener = l;
	return 0;
}

/**
 * kvmi_listener_fd - the descriptor to poll() for incoming connections
 * @listener: the listener
 */
int kvmi_listener_fd(const struct kvmi_listener *listener)
{
	return listener->fd;
}

/**
 * kvmi_listener_accept - take the next connection
 * @listener: the listener
 *
 * Does not wait: use poll() on kvmi_listener_fd().
 *
 * Return: a socket, or a negated errno; -EAGAIN if there is none at present.
 */
int kvmi_listener_accept(struct kvmi_listener *listener)
{
	int fd;

	do {
		fd = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC);
	} while (fd < 0 && (errno == EINTR || errno == ECONNABORTED));
	if (fd < 0)
		return kvmi_fail(-errno, "%s: accept: %s", listener->path,
				 strerror(errno));
	return fd;
}

/**
 * kvmi_listener_close - stop listening
 * @listener: the listener, or NULL
 *
 * Removes the socket from the file system if it is still the one that
 * kvmi_listener_open() made.
 */
void kvmi_listener_close(struct kvmi_listener *listener)
{
	struct stat st;

	if (!listener)
		return;
	if (listener->ino && !lock_dir(listener->dir_fd, listener->path)) {
		if (!fstatat(listener->dir_fd, listener->name, &st,
			     AT_SYMLINK_NOFOLLOW) &&
		    st.st_dev == listener->dev && st.st_ino == listener->ino)
			unlinkat(listener->dir_fd, listener->name, 0);
		unlock_dir(listener->dir_fd);
	}
	if (listener->dir_fd >= 0)
		close(listener->dir_fd);
	if (listener->fd >= 0)
		close(listener->fd);
	free(listener);
}
