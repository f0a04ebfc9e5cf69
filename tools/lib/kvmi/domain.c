// SPDX-License-Identifier: GPL-2.0
/*
 * A connected VM: sending messages, telling replies from events, and sharing
 * one socket between threads.
 */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "internal.h"

#define NSEC_PER_SEC	1000000000ULL

/* --- the end of a connection ----------------------------------------------- */

/*
 * What is queued does not make the socket readable, so a second descriptor does
 * it for those who poll: readable while there is something to be taken without
 * the socket.
 */
static void update_poll_fd(struct kvmi_dom *dom)
{
	bool set = dom->nr_events || dom->broken;
	eventfd_t value;

	if (dom->poll_fd < 0 || set == dom->queue_set)
		return;
	if (set ? eventfd_write(dom->queue_fd, 1) : eventfd_read(dom->queue_fd, &value))
		return;
	dom->queue_set = set;
}

/* Note why the connection ends, end it, and let everybody know. */
__attribute__((format(printf, 3, 4)))
static int dom_break(struct kvmi_dom *dom, int err, const char *fmt, ...)
{
	va_list ap;

	if (!dom->broken) {
		dom->broken = err;
		va_start(ap, fmt);
		vsnprintf(dom->why, sizeof(dom->why), fmt, ap);
		va_end(ap);
		shutdown(dom->fd, SHUT_RDWR);
		update_poll_fd(dom);
	}
	pthread_cond_broadcast(&dom->wake);
	return dom->broken;
}

static int dom_broken(const struct kvmi_dom *dom)
{
	return kvmi_fail(dom->broken, "%s", dom->why);
}

/* --- receiving -------------------------------------------------------------- */

static int take_event(struct kvmi_dom *dom, const struct kvmi_msg_hdr *hdr,
		      const __u8 *payload)
{
	struct kvmi_raw_event *raw;
	char why[128];

	if (kvmi_event_check(hdr, payload, why, sizeof(why)))
		return dom_break(dom, -EPROTO, "%s", why);
	if (dom->nr_events == KVMI_MAX_QUEUED_EVENTS)
		return dom_break(dom, -EPROTO,
				 "%d events came without an answer to any",
				 KVMI_MAX_QUEUED_EVENTS);
	raw = malloc(sizeof(*raw) + hdr->size);
	if (!raw)
		return dom_break(dom, -ENOMEM, "out of memory for an event");
	raw->hdr = *hdr;
	memcpy(raw->payload, payload, hdr->size);
	STAILQ_INSERT_TAIL(&dom->events, raw, entry);
	dom->nr_events++;
	update_poll_fd(dom);
	return 0;
}

static bool take_late_reply(struct kvmi_dom *dom, const struct kvmi_msg_hdr *hdr)
{
	unsigned int i;

	for (i = 0; i < dom->nr_late; i++) {
		if (dom->late[i].id != hdr->id || dom->late[i].seq != hdr->seq)
			continue;
		dom->late[i] = dom->late[--dom->nr_late];
		return true;
	}
	return false;
}

static int take_reply(struct kvmi_dom *dom, const struct kvmi_msg_hdr *hdr,
		      const __u8 *payload)
{
	struct kvmi_error_code ec;
	struct kvmi_command *cmd;
	size_t size;

	if (hdr->size < sizeof(ec))
		return dom_break(dom, -EPROTO,
				 "reply to %s: size %u has no room for an error code",
				 kvmi_message_name(hdr->id), hdr->size);

	TAILQ_FOREACH(cmd, &dom->commands, entry)
		if (cmd->seq == hdr->seq && cmd->id == hdr->id)
			break;
	if (!cmd) {
		if (take_late_reply(dom, hdr))
			return 0;
		return dom_break(dom, -EPROTO,
				 "reply to %s, seq %u: no such command is under way",
				 kvmi_message_name(hdr->id), hdr->seq);
	}

	memcpy(&ec, payload, sizeof(ec));
	cmd->err = kvmi_errno_of_kvm(ec.err);
	if (cmd->err) {
		cmd->reply_size = 0;
	} else {
		/* A newer kernel may say more than we know of. */
		size = MIN(hdr->size - sizeof(ec), cmd->reply_size);
		if (size)
			memcpy(cmd->reply, payload + sizeof(ec), size);
		cmd->reply_size = size;
	}
	cmd->done = true;
	TAILQ_REMOVE(&dom->commands, cmd, entry);
	return 0;
}

/* Cut what has been received into messages. */
static int take_messages(struct kvmi_dom *dom)
{
	struct kvmi_msg_hdr hdr;
	size_t off = 0;
	int err = 0;

	while (!err && dom->rx_len - off >= sizeof(hdr)) {
		const __u8 *payload = dom->rx + off + sizeof(hdr);

		memcpy(&hdr, dom->rx + off, sizeof(hdr));
		if (dom->rx_len - off - sizeof(hdr) < hdr.size)
			break;
		if (hdr.id == KVMI_VM_EVENT || hdr.id == KVMI_VCPU_EVENT)
			err = take_event(dom, &hdr, payload);
		else
			err = take_reply(dom, &hdr, payload);
		off += sizeof(hdr) + hdr.size;
	}
	if (off) {
		dom->rx_len -= off;
		memmove(dom->rx, dom->rx + off, dom->rx_len);
		pthread_cond_broadcast(&dom->wake);
	}
	return err;
}

/* Read what is there, without waiting; the buffer holds any one message. */
static int dom_receive(struct kvmi_dom *dom)
{
	ssize_t n;
	int err;

	for (;;) {
		n = recv(dom->fd, dom->rx + dom->rx_len,
			 sizeof(dom->rx) - dom->rx_len, MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return 0;
		if (n < 0 && errno != ECONNRESET)
			return dom_break(dom, -errno, "recv: %s", strerror(errno));
		if (n <= 0)
			return dom_break(dom, -ECONNRESET,
					 "the VM has gone or was unhooked (the connection has ended)");
		dom->rx_len += n;
		err = take_messages(dom);
		if (err)
			return err;
	}
}

/* --- waiting ---------------------------------------------------------------- */

static void wait_for_wake(struct kvmi_dom *dom, __u64 deadline)
{
	struct timespec ts;

	if (deadline == UINT64_MAX) {
		pthread_cond_wait(&dom->wake, &dom->lock);
		return;
	}
	ts.tv_sec = deadline / NSEC_PER_SEC;
	ts.tv_nsec = deadline % NSEC_PER_SEC;
	pthread_cond_timedwait(&dom->wake, &dom->lock, &ts);
}

/*
 * Sleep until something has come or, with @out, something can be sent.  Only
 * one thread at a time reads; a second one that wants to send polls for that
 * alone, and a second one that wants to receive is woken by the first.
 */
static int dom_wait(struct kvmi_dom *dom, bool out, __u64 deadline)
{
	struct pollfd pfd = { .fd = dom->fd };
	bool reader = !dom->reading;
	int n;

	if (!kvmi_time_left(deadline))
		return -ETIMEDOUT;
	if (!reader && !out) {
		wait_for_wake(dom, deadline);
		return dom->broken;
	}

	pfd.events = (reader ? POLLIN : 0) | (out ? POLLOUT : 0);
	if (reader)
		dom->reading = true;
	pthread_mutex_unlock(&dom->lock);
	n = poll(&pfd, 1, kvmi_time_left(deadline));
	if (n < 0)
		n = -errno;
	pthread_mutex_lock(&dom->lock);
	if (reader) {
		dom->reading = false;
		pthread_cond_broadcast(&dom->wake);
	}

	if (dom->broken)
		return dom->broken;
	if (n < 0 && n != -EINTR)
		return dom_break(dom, n, "poll: %s", strerror(-n));
	if (reader && n > 0 && (pfd.revents & (POLLIN | POLLHUP | POLLERR)))
		return dom_receive(dom);
	return 0;
}

/* --- sending ---------------------------------------------------------------- */

static int dom_send(struct kvmi_dom *dom, const __u8 *msg, size_t size,
		    __u64 deadline)
{
	size_t off = 0;
	ssize_t n;
	int err = 0;

	while (dom->sending && !dom->broken) {
		if (!kvmi_time_left(deadline))
			return kvmi_fail(-ETIMEDOUT, "timeout before sending");
		wait_for_wake(dom, deadline);
	}
	if (dom->broken)
		return dom_broken(dom);

	dom->sending = true;
	while (off < size) {
		n = send(dom->fd, msg + off, size - off,
			 MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n >= 0) {
			off += n;
			continue;
		}
		if (errno == EINTR)
			continue;
		if (errno == EPIPE || errno == ECONNRESET) {
			/* What the kernel said last is still worth having. */
			dom_receive(dom);
			err = dom_break(dom, -ECONNRESET,
					"the VM has gone or was unhooked (the connection has ended)");
			break;
		}
		if (errno != EAGAIN) {
			err = dom_break(dom, -errno, "send: %s", strerror(errno));
			break;
		}
		/* Go on receiving, or both sides could wait for each other. */
		err = dom_wait(dom, true, deadline);
		if (err == -ETIMEDOUT && off)
			err = dom_break(dom, -ETIMEDOUT,
					"timeout in the middle of a message");
		if (err)
			break;
	}
	dom->sending = false;
	pthread_cond_broadcast(&dom->wake);
	if (dom->broken)
		return dom_broken(dom);
	return err ? kvmi_fail(err, "timeout before sending") : 0;
}

/* Send a message to which no reply comes. */
int kvmi_send(struct kvmi_dom *dom, const void *msg, size_t size,
	      __u64 deadline)
{
	int err;

	pthread_mutex_lock(&dom->lock);
	err = dom->broken ? dom_broken(dom) : dom_send(dom, msg, size, deadline);
	pthread_mutex_unlock(&dom->lock);
	return err;
}

/* --- commands --------------------------------------------------------------- */

static __u32 next_seq(struct kvmi_dom *dom)
{
	const struct kvmi_command *cmd;
	unsigned int i;

again:
	dom->seq++;
	/* Numbers come back only after 2^32, and few are in use: the oldest first. */
	cmd = TAILQ_FIRST(&dom->commands);
	if (cmd && dom->seq - cmd->seq > UINT32_MAX / 2) {
		TAILQ_FOREACH(cmd, &dom->commands, entry)
			if (cmd->seq == dom->seq)
				goto again;
	}
	for (i = 0; i < dom->nr_late; i++)
		if (dom->late[i].seq == dom->seq)
			goto again;
	return dom->seq;
}

/* Wait for the replies; called with the lock held and @cmds on the list. */
static int wait_replies(struct kvmi_dom *dom, struct kvmi_command *cmds,
			unsigned int n, __u64 deadline)
{
	unsigned int i = 0;
	int err = 0;

	for (;;) {
		while (i < n && cmds[i].done)
			i++;
		if (i == n)
			return 0;
		if (!err)
			err = dom->broken;
		if (err)
			break;
		err = dom_wait(dom, false, deadline);
	}
	for (; i < n; i++) {
		if (cmds[i].done)
			continue;
		TAILQ_REMOVE(&dom->commands, &cmds[i], entry);
		dom->late[dom->nr_late].id = cmds[i].id;
		dom->late[dom->nr_late].seq = cmds[i].seq;
		dom->nr_late++;
	}
	if (dom->broken)
		return dom_broken(dom);
	return kvmi_fail(err, "no reply in %d ms", dom->timeout_ms);
}

/*
 * Send @n commands, the messages of which stand in @msgs one behind the other,
 * and wait for all replies.  An error is one of the connection: what KVM has
 * answered to each stands in @cmds.
 */
int kvmi_run_commands(struct kvmi_dom *dom, struct kvmi_command *cmds,
		      unsigned int n, __u8 *msgs, size_t size)
{
	struct kvmi_msg_hdr hdr;
	__u64 deadline;
	__u8 *p = msgs;
	unsigned int i;
	int err;

	pthread_mutex_lock(&dom->lock);
	deadline = kvmi_deadline(dom->timeout_ms);
	if (dom->broken) {
		err = dom_broken(dom);
		goto unlock;
	}
	/* Every command under way may become one that is given up on. */
	if (dom->nr_late + dom->nr_commands + n > KVMI_MAX_LATE_REPLIES) {
		err = kvmi_fail(-EBUSY, "%u commands wait for a reply already",
				dom->nr_late + dom->nr_commands);
		goto unlock;
	}
	for (i = 0; i < n; i++) {
		cmds[i].seq = next_seq(dom);
		memcpy(&hdr, p, sizeof(hdr));
		hdr.seq = cmds[i].seq;
		memcpy(p, &hdr, sizeof(hdr));
		p += sizeof(hdr) + hdr.size;
		TAILQ_INSERT_TAIL(&dom->commands, &cmds[i], entry);
	}
	dom->nr_commands += n;
	err = dom_send(dom, msgs, size, deadline);
	if (!err)
		err = wait_replies(dom, cmds, n, deadline);
	else
		for (i = 0; i < n; i++)
			if (!cmds[i].done)
				TAILQ_REMOVE(&dom->commands, &cmds[i], entry);
	dom->nr_commands -= n;
unlock:
	pthread_mutex_unlock(&dom->lock);
	return err;
}

/* What KVM answered, as one of our errors. */
int kvmi_check_reply(const struct kvmi_command *cmd, size_t reply_min)
{
	if (cmd->err)
		return kvmi_fail(cmd->err, "%s: %s", kvmi_message_name(cmd->id),
				 kvmi_reason_of_kvm(cmd->err));
	if (cmd->reply_size < reply_min)
		return kvmi_fail(-EPROTO,
				 "%s: the reply has %zu bytes of data, at least %zu are needed",
				 kvmi_message_name(cmd->id), cmd->reply_size,
				 reply_min);
	return 0;
}

/* Send a command made of @req and @data and wait for its reply. */
int kvmi_command_any(struct kvmi_dom *dom, __u16 id, const void *req,
		     size_t req_size, const void *data, size_t data_size,
		     void *reply, size_t room, size_t *size)
{
	__u8 msg[sizeof(struct kvmi_msg_hdr) + KVMI_MAX_PAYLOAD];
	struct kvmi_command cmd = {
		.id = id,
		.reply = reply,
		.reply_size = room,
	};
	struct kvmi_msg_hdr hdr = { .id = id };
	int err;

	if (req_size > KVMI_MAX_PAYLOAD || data_size > KVMI_MAX_PAYLOAD - req_size)
		return kvmi_fail(-EMSGSIZE, "%s: %zu bytes are more than %d",
				 kvmi_message_name(id), req_size + data_size,
				 KVMI_MAX_PAYLOAD);
	if (room)
		memset(reply, 0, room);
	hdr.size = req_size + data_size;
	memcpy(msg, &hdr, sizeof(hdr));
	if (req_size)
		memcpy(msg + sizeof(hdr), req, req_size);
	if (data_size)
		memcpy(msg + sizeof(hdr) + req_size, data, data_size);

	err = kvmi_run_commands(dom, &cmd, 1, msg, sizeof(hdr) + hdr.size);
	if (err)
		return kvmi_fail_prefix(err, "%s: ", kvmi_message_name(id));
	*size = cmd.reply_size;
	return kvmi_check_reply(&cmd, 0);
}

/*
 * The same for a reply of which @reply_min bytes are needed and @reply_max
 * wanted; what does not come is zeroed.
 */
int kvmi_command2(struct kvmi_dom *dom, __u16 id, const void *req,
		  size_t req_size, const void *data, size_t data_size,
		  void *reply, size_t reply_min, size_t reply_max)
{
	struct kvmi_command got = { .id = id };
	int err;

	err = kvmi_command_any(dom, id, req, req_size, data, data_size, reply,
			       reply_max, &got.reply_size);
	return err ? err : kvmi_check_reply(&got, reply_min);
}

int kvmi_command(struct kvmi_dom *dom, __u16 id, const void *req,
		 size_t req_size, void *reply, size_t reply_min,
		 size_t reply_max)
{
	return kvmi_command2(dom, id, req, req_size, NULL, 0, reply, reply_min,
			     reply_max);
}

/**
 * kvmi_dom_command - send any command, also one that this library does not know
 * @dom: the domain
 * @id: the message id; KVMI_VCPU_EVENT and KVMI_VM_EVENT are no commands
 * @req: what follows the header; for a vCPU's starts with struct kvmi_vcpu_hdr
 * @req_size: its size
 * @reply: where to put what follows the error code of the reply
 * @room: how much fits there; the rest is zeroed, and more is dropped
 * @size: how much has come, at most @room
 *
 * Return: 0 or a negated errno.
 */
int kvmi_dom_command(struct kvmi_dom *dom, __u16 id, const void *req,
		     size_t req_size, void *reply, size_t room, size_t *size)
{
	size_t got;
	int err;

	if (id == KVMI_VM_EVENT || id == KVMI_VCPU_EVENT)
		return kvmi_fail(-EINVAL, "%s: is not a command",
				 kvmi_message_name(id));
	err = kvmi_command_any(dom, id, req, req_size, NULL, 0, reply, room, &got);
	if (!err && size)
		*size = got;
	return err;
}

/* --- events ----------------------------------------------------------------- */

/* Take the oldest event: 1, 0 when @deadline passed, or a negated errno. */
int kvmi_wait_event(struct kvmi_dom *dom, __u64 deadline,
		    struct kvmi_raw_event **raw)
{
	bool timeout = false;
	int ret = 0;

	pthread_mutex_lock(&dom->lock);
	for (;;) {
		*raw = STAILQ_FIRST(&dom->events);
		if (*raw) {
			STAILQ_REMOVE_HEAD(&dom->events, entry);
			dom->nr_events--;
			update_poll_fd(dom);
			ret = 1;
			break;
		}
		if (dom->broken) {
			ret = dom_broken(dom);
			break;
		}
		if (timeout)
			break;
		/* Even without time left, look once at what has come. */
		if (!kvmi_time_left(deadline) && !dom->reading) {
			timeout = true;
			dom_receive(dom);
			continue;
		}
		timeout = dom_wait(dom, false, deadline) == -ETIMEDOUT;
	}
	pthread_mutex_unlock(&dom->lock);
	return ret;
}

/* --- opening and closing ----------------------------------------------------- */

static int init_locks(struct kvmi_dom *dom)
{
	pthread_condattr_t attr;
	int err;

	err = pthread_condattr_init(&attr);
	if (err)
		return -err;
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	err = pthread_cond_init(&dom->wake, &attr);
	pthread_condattr_destroy(&attr);
	if (err)
		return -err;
	err = pthread_mutex_init(&dom->lock, NULL);
	if (err) {
		pthread_cond_destroy(&dom->wake);
		return -err;
	}
	err = pthread_mutex_init(&dom->access_lock, NULL);
	if (err) {
		pthread_mutex_destroy(&dom->lock);
		pthread_cond_destroy(&dom->wake);
	}
	return -err;
}

/**
 * kvmi_dom_open - start to speak the protocol on a connection
 * @fd: the connected socket, the handshake done; belongs to the domain from
 *	here on, also when this fails
 * @hello: what the VMM said in the handshake, or NULL
 * @dom: the new domain
 *
 * Return: 0 or a negated errno.
 */
int kvmi_dom_open(int fd, const struct kvmi_hello *hello, struct kvmi_dom **dom)
{
	struct kvmi_dom *d;
	int err;

	d = calloc(1, sizeof(*d));
	err = d ? init_locks(d) : -ENOMEM;
	if (err) {
		close(fd);
		free(d);
		return kvmi_fail(err, "new domain: %s", strerror(-err));
	}
	d->fd = fd;
	d->poll_fd = -1;
	d->queue_fd = -1;
	if (hello)
		d->hello = *hello;
	d->timeout_ms = KVMI_DEFAULT_TIMEOUT;
	d->no_exec = KVMI_NO_PAGE;
	TAILQ_INIT(&d->commands);
	STAILQ_INIT(&d->events);
	*dom = d;
	return 0;
}

/**
 * kvmi_dom_shutdown - end the connection
 * @dom: the domain
 *
 * KVM lets every vCPU run on and lifts all restrictions.  Whoever waits in a
 * function of this library gets -ESHUTDOWN.  Events that have come already can
 * still be taken.
 */
void kvmi_dom_shutdown(struct kvmi_dom *dom)
{
	pthread_mutex_lock(&dom->lock);
	dom_break(dom, -ESHUTDOWN, "the connection was shut down");
	pthread_mutex_unlock(&dom->lock);
}

/**
 * kvmi_dom_close - end the connection and free the domain
 * @dom: the domain, or NULL
 *
 * No other thread may be using the domain any more: kvmi_dom_shutdown() makes
 * them stop.
 */
void kvmi_dom_close(struct kvmi_dom *dom)
{
	struct kvmi_raw_event *raw;

	if (!dom)
		return;
	while ((raw = STAILQ_FIRST(&dom->events))) {
		STAILQ_REMOVE_HEAD(&dom->events, entry);
		free(raw);
	}
	close(dom->fd);
	if (dom->poll_fd >= 0)
		close(dom->poll_fd);
	if (dom->queue_fd >= 0)
		close(dom->queue_fd);
	pthread_mutex_destroy(&dom->access_lock);
	pthread_mutex_destroy(&dom->lock);
	pthread_cond_destroy(&dom->wake);
	free(dom);
}

/**
 * kvmi_dom_set_timeout - how long commands wait for their reply
 * @dom: the domain
 * @timeout_ms: milliseconds, or -1 for ever
 *
 * A command to a vCPU is carried out when that vCPU is about to run, so one
 * that the VMM keeps stopped does not answer.
 */
void kvmi_dom_set_timeout(struct kvmi_dom *dom, int timeout_ms)
{
	pthread_mutex_lock(&dom->lock);
	dom->timeout_ms = timeout_ms;
	pthread_mutex_unlock(&dom->lock);
}

/**
 * kvmi_dom_hello - what the VMM said in the handshake
 * @dom: the domain
 */
const struct kvmi_hello *kvmi_dom_hello(const struct kvmi_dom *dom)
{
	return &dom->hello;
}

/**
 * kvmi_dom_fd - the socket itself
 * @dom: the domain
 *
 * To ask it for its peer's credentials, for example.  It is not what to wait
 * on: kvmi_dom_poll_fd() is.
 */
int kvmi_dom_fd(const struct kvmi_dom *dom)
{
	return dom->fd;
}

static int open_poll_fd(struct kvmi_dom *dom)
{
	struct epoll_event ev = { .events = EPOLLIN };
	int poll_fd, queue_fd;

	poll_fd = epoll_create1(EPOLL_CLOEXEC);
	queue_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (poll_fd < 0 || queue_fd < 0 ||
	    epoll_ctl(poll_fd, EPOLL_CTL_ADD, dom->fd, &ev) ||
	    epoll_ctl(poll_fd, EPOLL_CTL_ADD, queue_fd, &ev)) {
		int err = kvmi_fail(-errno, "a descriptor to poll: %s",
				    strerror(errno));

		if (poll_fd >= 0)
			close(poll_fd);
		if (queue_fd >= 0)
			close(queue_fd);
		return err;
	}
	dom->queue_fd = queue_fd;
	dom->poll_fd = poll_fd;
	update_poll_fd(dom);
	return 0;
}

/**
 * kvmi_dom_poll_fd - a descriptor to wait on together with others
 * @dom: the domain
 *
 * It is readable when kvmi_event_next() with a timeout of 0 has something to
 * do: take an event, also one that came while a command waited for its reply,
 * or tell of the end of the connection.  That can turn out to be nothing, when
 * another thread was faster.  It is the library's to close, and serves select(),
 * poll() and epoll alike; nothing else is to be done with it.
 *
 * Return: a descriptor, or a negated errno.
 */
int kvmi_dom_poll_fd(struct kvmi_dom *dom)
{
	int err = 0;

	pthread_mutex_lock(&dom->lock);
	if (dom->poll_fd < 0)
		err = open_poll_fd(dom);
	pthread_mutex_unlock(&dom->lock);
	return err ? err : dom->poll_fd;
}
