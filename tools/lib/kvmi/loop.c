// SPDX-License-Identifier: GPL-2.0
/*
 * An event loop: listeners, the handshakes of those who connect, and any number
 * of VMs, served by one thread, which never waits for a single one of them.
 *
 * A source that ends while events are being handed out may still be named by
 * one that is yet to come, so it is only marked, and freed at the end of the
 * round.
 */

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "internal.h"

#define ROUND_SOURCES		32	/* taken from epoll at once */
#define DOM_EVENTS		64	/* of one VM, before the next one's turn */
#define HANDSHAKE_TIMEOUT_MS	10000
#define MAX_HANDSHAKES		64

enum source_kind {
	SOURCE_STOP,
	SOURCE_LISTENER,
	SOURCE_HANDSHAKE,
	SOURCE_DOM,
};

struct source {
	LIST_ENTRY(source) entry;
	enum source_kind kind;
	bool dead;
	const struct kvmi_loop_handlers *handlers;
	void *data;
	struct kvmi_listener *listener;
	struct kvmi_auth auth;
	bool has_key;
	struct kvmi_handshake *handshake;
	short events;			/* what the handshake waits for */
	__u64 deadline;
	int fd;
	struct kvmi_dom *dom;
	bool owns_dom;
};

struct kvmi_loop {
	int epoll_fd;
	struct source stop;
	LIST_HEAD(, source) sources;
	unsigned int nr_handshakes;
	bool some_dead;
	bool stopping;
};

static int watch(struct kvmi_loop *loop, int op, int fd, short events, struct source *s)
{
	struct epoll_event ev = {
		.events = events & POLLOUT ? EPOLLOUT : EPOLLIN,
		.data.ptr = s,
	};

	if (epoll_ctl(loop->epoll_fd, op, fd, &ev))
		return kvmi_fail(-errno, "loop: epoll_ctl: %s", strerror(errno));
	return 0;
}

/**
 * kvmi_loop_new - make an event loop
 * @loop: the loop
 *
 * Return: 0 or a negated errno.
 */
int kvmi_loop_new(struct kvmi_loop **loop)
{
	struct kvmi_loop *l = calloc(1, sizeof(*l));
	int err;

	if (!l)
		return kvmi_fail(-ENOMEM, "loop: out of memory");
	LIST_INIT(&l->sources);
	l->stop.kind = SOURCE_STOP;
	l->stop.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	l->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (l->stop.fd < 0 || l->epoll_fd < 0)
		err = kvmi_fail(-errno, "loop: %s", strerror(errno));
	else
		err = watch(l, EPOLL_CTL_ADD, l->stop.fd, POLLIN, &l->stop);
	if (err) {
		kvmi_loop_free(l);
		return err;
	}
	*loop = l;
	return 0;
}

static void free_source(struct kvmi_loop *loop, struct source *s)
{
	LIST_REMOVE(s, entry);
	if (s->handshake) {
		loop->nr_handshakes--;
		kvmi_handshake_free(s->handshake);
	}
	if (s->fd >= 0)
		close(s->fd);
	if (s->owns_dom)
		kvmi_dom_close(s->dom);
	free(s);
}

/* No more events from it; called in the loop's thread. */
static void kill_source(struct kvmi_loop *loop, struct source *s, int fd)
{
	epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
	s->dead = true;
	loop->some_dead = true;
}

static void bury(struct kvmi_loop *loop)
{
	struct source *s, *next;

	if (!loop->some_dead)
		return;
	loop->some_dead = false;
	for (s = LIST_FIRST(&loop->sources); s; s = next) {
		next = LIST_NEXT(s, entry);
		if (s->dead)
			free_source(loop, s);
	}
}

/**
 * kvmi_loop_free - free a loop
 * @loop: the loop, which is not running; or NULL
 *
 * Closes the domains that the loop has opened itself, without a word to their
 * handlers.  Listeners and domains that were added stay as they are.
 */
void kvmi_loop_free(struct kvmi_loop *loop)
{
	struct source *s;

	if (!loop)
		return;
	while ((s = LIST_FIRST(&loop->sources)))
		free_source(loop, s);
	if (loop->epoll_fd >= 0)
		close(loop->epoll_fd);
	if (loop->stop.fd >= 0)
		close(loop->stop.fd);
	free(loop);
}

static struct source *add_source(struct kvmi_loop *loop, enum source_kind kind,
				 const struct kvmi_loop_handlers *handlers, void *data)
{
	struct source *s = calloc(1, sizeof(*s));

	if (!s) {
		kvmi_fail(-ENOMEM, "loop: out of memory");
		return NULL;
	}
	s->kind = kind;
	s->handlers = handlers;
	s->data = data;
	s->fd = -1;
	LIST_INSERT_HEAD(&loop->sources, s, entry);
	return s;
}

/**
 * kvmi_loop_add_listener - serve those who connect to a listener
 * @loop: the loop
 * @listener: the listener, which stays the caller's
 * @auth: the key for the handshakes, or NULL; its bytes have to stay where they
 *	are
 * @handlers: what to call; has to stay where it is
 * @data: passed on to the handlers
 *
 * Return: 0 or a negated errno.
 */
int kvmi_loop_add_listener(struct kvmi_loop *loop, struct kvmi_listener *listener,
			   const struct kvmi_auth *auth,
			   const struct kvmi_loop_handlers *handlers, void *data)
{
	struct source *s;
	int err;

	err = kvmi_auth_check(auth);
	if (err)
		return err;
	s = add_source(loop, SOURCE_LISTENER, handlers, data);
	if (!s)
		return -ENOMEM;
	s->listener = listener;
	if (auth) {
		s->auth = *auth;
		s->has_key = true;
	}
	err = watch(loop, EPOLL_CTL_ADD, kvmi_listener_fd(listener), POLLIN, s);
	if (err)
		free_source(loop, s);
	return err;
}

static struct source *add_dom(struct kvmi_loop *loop, struct kvmi_dom *dom,
			      const struct kvmi_loop_handlers *handlers, void *data)
{
	struct source *s;
	int fd;

	fd = kvmi_dom_poll_fd(dom);
	if (fd < 0)
		return NULL;
	s = add_source(loop, SOURCE_DOM, handlers, data);
	if (!s)
		return NULL;
	s->dom = dom;
	if (watch(loop, EPOLL_CTL_ADD, fd, POLLIN, s)) {
		free_source(loop, s);
		return NULL;
	}
	return s;
}

/**
 * kvmi_loop_add_dom - hand out the events of a domain
 * @loop: the loop
 * @dom: the domain, which stays the caller's
 * @handlers: what to call; has to stay where it is
 * @data: passed on to the handlers
 *
 * Return: 0 or a negated errno.
 */
int kvmi_loop_add_dom(struct kvmi_loop *loop, struct kvmi_dom *dom,
		      const struct kvmi_loop_handlers *handlers, void *data)
{
	if (!add_dom(loop, dom, handlers, data))
		return kvmi_fail_prefix(-ENOMEM, "loop: a domain: ");
	return 0;
}

/**
 * kvmi_loop_remove_dom - have no more to do with a domain
 * @loop: the loop
 * @dom: the domain; belongs to the caller from here on
 *
 * In the loop's thread only, its handlers included.
 *
 * Return: 0, or -ENOENT if the loop does not serve it.
 */
int kvmi_loop_remove_dom(struct kvmi_loop *loop, struct kvmi_dom *dom)
{
	struct source *s;

	LIST_FOREACH(s, &loop->sources, entry) {
		if (s->kind != SOURCE_DOM || s->dom != dom || s->dead)
			continue;
		s->owns_dom = false;
		kill_source(loop, s, kvmi_dom_poll_fd(dom));
		return 0;
	}
	return kvmi_fail(-ENOENT, "loop: serves no such domain");
}

/* --- what happens ------------------------------------------------------------- */

static void refuse(struct kvmi_loop *loop, struct source *s, int err)
{
	kill_source(loop, s, s->fd);
	if (s->handlers->refused)
		s->handlers->refused(err, s->data);
}

static void handshake_done(struct kvmi_loop *loop, struct source *s)
{
	const struct kvmi_loop_handlers *handlers = s->handlers;
	struct kvmi_hello hello = *kvmi_handshake_hello(s->handshake);
	struct source *dom_source;
	struct kvmi_dom *dom;
	int err, fd = s->fd;

	kill_source(loop, s, fd);
	s->fd = -1;
	err = kvmi_dom_open(fd, &hello, &dom);
	if (err) {
		if (handlers->refused)
			handlers->refused(err, s->data);
		return;
	}
	dom_source = add_dom(loop, dom, handlers, s->data);
	if (!dom_source) {
		if (handlers->refused)
			handlers->refused(-ENOMEM, s->data);
		kvmi_dom_close(dom);
		return;
	}
	dom_source->owns_dom = true;
	if (handlers->connected)
		handlers->connected(dom, s->data);
}

static void step_handshake(struct kvmi_loop *loop, struct source *s)
{
	short events;
	int ret;

	ret = kvmi_handshake_step(s->handshake);
	if (ret > 0) {
		handshake_done(loop, s);
		return;
	}
	if (ret < 0) {
		refuse(loop, s, ret);
		return;
	}
	events = kvmi_handshake_events(s->handshake);
	if (events == s->events)
		return;
	s->events = events;
	ret = watch(loop, EPOLL_CTL_MOD, s->fd, events, s);
	if (ret)
		refuse(loop, s, ret);
}

static void accept_one(struct kvmi_loop *loop, struct source *l)
{
	struct source *s;
	int fd, err;

	fd = kvmi_listener_accept(l->listener);
	if (fd == -EAGAIN)
		return;
	if (fd < 0) {
		if (l->handlers->refused)
			l->handlers->refused(fd, l->data);
		return;
	}
	if (loop->nr_handshakes >= MAX_HANDSHAKES) {
		close(fd);
		err = kvmi_fail(-EBUSY, "%d handshakes are under way already",
				MAX_HANDSHAKES);
		if (l->handlers->refused)
			l->handlers->refused(err, l->data);
		return;
	}
	s = add_source(loop, SOURCE_HANDSHAKE, l->handlers, l->data);
	if (!s) {
		close(fd);
		return;
	}
	s->fd = fd;
	s->events = POLLIN;
	s->deadline = kvmi_deadline(HANDSHAKE_TIMEOUT_MS);
	err = kvmi_handshake_new(fd, l->has_key ? &l->auth : NULL, &s->handshake);
	if (!err) {
		loop->nr_handshakes++;
		err = watch(loop, EPOLL_CTL_ADD, fd, POLLIN, s);
	}
	if (err)
		refuse(loop, s, err);
}

static void serve_dom(struct kvmi_loop *loop, struct source *s)
{
	const struct kvmi_loop_handlers *handlers = s->handlers;
	struct kvmi_event event;
	unsigned int i;
	int ret = 1;

	for (i = 0; i < DOM_EVENTS && !s->dead; i++) {
		ret = kvmi_event_next(s->dom, &event, 0);
		if (ret <= 0)
			break;
		handlers->event(s->dom, &event, s->data);
	}
	if (s->dead || ret >= 0)
		return;
	kill_source(loop, s, kvmi_dom_poll_fd(s->dom));
	if (handlers->gone)
		handlers->gone(s->dom, ret, s->data);
}

/* How long until the next handshake has taken too long; ends those that have. */
static int next_timeout(struct kvmi_loop *loop, int timeout_ms)
{
	struct source *s;
	int left;

	LIST_FOREACH(s, &loop->sources, entry) {
		if (s->kind != SOURCE_HANDSHAKE || s->dead)
			continue;
		left = kvmi_time_left(s->deadline);
		if (!left)
			refuse(loop, s, kvmi_fail(-ETIMEDOUT, "handshake: timeout"));
		else if (timeout_ms < 0 || left < timeout_ms)
			timeout_ms = left;
	}
	bury(loop);
	return timeout_ms;
}

/**
 * kvmi_loop_dispatch - handle what there is to handle
 * @loop: the loop
 * @timeout_ms: how long to wait for something: 0 not at all, -1 for ever
 *
 * Return: how many sources had something, 0 if none, or a negated errno;
 * -ESHUTDOWN when kvmi_loop_stop() has been called.
 */
int kvmi_loop_dispatch(struct kvmi_loop *loop, int timeout_ms)
{
	struct epoll_event evs[ROUND_SOURCES];
	struct source *s;
	eventfd_t value;
	int i, n;

	timeout_ms = next_timeout(loop, timeout_ms);
	n = epoll_wait(loop->epoll_fd, evs, ROUND_SOURCES, timeout_ms);
	if (n < 0 && errno != EINTR)
		return kvmi_fail(-errno, "loop: epoll_wait: %s", strerror(errno));
	for (i = 0; i < n; i++) {
		s = evs[i].data.ptr;
		if (s->dead)
			continue;
		switch (s->kind) {
		case SOURCE_STOP:
			eventfd_read(s->fd, &value);
			loop->stopping = true;
			break;
		case SOURCE_LISTENER:
			accept_one(loop, s);
			break;
		case SOURCE_HANDSHAKE:
			step_handshake(loop, s);
			break;
		case SOURCE_DOM:
			serve_dom(loop, s);
			break;
		}
	}
	bury(loop);
	if (loop->stopping) {
		loop->stopping = false;
		return kvmi_fail(-ESHUTDOWN, "loop: was stopped");
	}
	return n < 0 ? 0 : n;
}

/**
 * kvmi_loop_run - handle all that comes, until kvmi_loop_stop()
 * @loop: the loop
 *
 * Return: 0 or a negated errno.
 */
int kvmi_loop_run(struct kvmi_loop *loop)
{
	int ret;

	do {
		ret = kvmi_loop_dispatch(loop, -1);
	} while (ret >= 0);
	return ret == -ESHUTDOWN ? 0 : ret;
}

/**
 * kvmi_loop_stop - have kvmi_loop_run() return
 * @loop: the loop
 *
 * From any thread, and from a signal handler.
 */
void kvmi_loop_stop(struct kvmi_loop *loop)
{
	eventfd_write(loop->stop.fd, 1);
}

/**
 * kvmi_loop_fd - a descriptor to wait on in a loop of one's own
 * @loop: the loop
 *
 * When it is readable call kvmi_loop_dispatch() with a timeout of 0; do so once
 * in ten seconds in any case, for handshakes that take too long.
 */
int kvmi_loop_fd(const struct kvmi_loop *loop)
{
	return loop->epoll_fd;
}
