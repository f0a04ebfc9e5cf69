// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM introspection: the socket that connects a session with its tool
 *
 * The VMM hands over a connected stream socket; its file stays referenced as
 * long as the session.  Reading is never done blocking: the wait queue of the
 * socket has an entry of ours, which wakes whoever is to read (recv.c).
 *
 * Writing is done by the thread that has something to say and blocks while
 * the tool is slow or memory short.  A message must not be cut by another one, hence tx_lock;
 * a unix socket takes a message of our size whole or not at all, so that
 * vCPUs need not wait for each other there.  It is a semaphore, for the VMM's
 * PREUNHOOK does not wait longer than a moment, for its turn and then for room.
 *
 * A tool that has sent the reply to an event usually sleeps in recv() by the
 * time the reply is read here.  To free the buffer of the reply would wake it
 * up, to be told that there is room to send more, and to find nothing to read.
 * So the buffer lives until the next message has woken the tool anyway.
 *
 * kvmi_kill() may be called by anybody who can sleep, more than once.
 */

#include <linux/file.h>
#include <linux/sched/signal.h>
#include <net/sock.h>
#include <net/tcp_states.h>
#include "kvmi_int.h"

/* How long a message waits that the VMM's ioctl sends */
#define KVMI_TRY_SEND_TIMEOUT	HZ

static __poll_t kvmi_sock_poll(struct kvm_introspection *kvmi)
{
	return vfs_poll(kvmi->sock->file, NULL);
}

/**
 * kvmi_sock_readable - is there something to read, the end included?
 * @kvmi: the session
 */
bool kvmi_sock_readable(struct kvm_introspection *kvmi)
{
	struct sock *sk = kvmi->sock->sk;

	/* What poll() looks at, for the usual socket in its usual state. */
	if (sk->sk_family == AF_UNIX && !READ_ONCE(sk->sk_shutdown) &&
	    READ_ONCE(sk->sk_state) == TCP_ESTABLISHED)
		return !skb_queue_empty_lockless(&sk->sk_receive_queue);

	return kvmi_sock_poll(kvmi) & (EPOLLIN | EPOLLRDHUP | EPOLLHUP);
}

/**
 * kvmi_sock_is_hung_up - has the tool closed its end?
 * @kvmi: the session; its thread may not have noticed yet
 */
bool kvmi_sock_is_hung_up(struct kvm_introspection *kvmi)
{
	__poll_t closed = EPOLLHUP;

	/* The others cannot tell that from a tool which only stopped sending. */
	if (kvmi->sock->sk->sk_family != AF_UNIX)
		closed |= EPOLLRDHUP;

	return kvmi_sock_poll(kvmi) & closed;
}

/*
 * The thread may be asleep in a page fault of the VMM's memory, perhaps for
 * ever (userfaultfd).  Nobody is interested in the outcome any more.
 */
static void kvmi_hangup_work(struct work_struct *work)
{
	struct kvm_introspection *kvmi =
		container_of(work, struct kvm_introspection, hangup_work);

	if (kvmi_sock_is_hung_up(kvmi))
		send_sig(SIGKILL, kvmi->thread, 1);

	kvmi_recv_kick_thread(kvmi);
}

/* Runs in the context of whoever changed the socket, interrupts disabled. */
static int kvmi_sock_wakeup(wait_queue_entry_t *wait, unsigned int mode,
			    int sync, void *key)
{
	struct kvm_introspection *kvmi =
		container_of(wait, struct kvm_introspection, sock_wait);
	__poll_t flags = key_to_poll(key);

	/* A change of state comes without flags. */
	if (!flags || (flags & (EPOLLHUP | EPOLLRDHUP | EPOLLERR)))
		schedule_work(&kvmi->hangup_work);

	if (flags & EPOLLIN)
		kvmi_recv_kick(kvmi);

	return 0;
}

static void kvmi_sock_enqueue(struct file *file, wait_queue_head_t *wqh,
			      poll_table *pt)
{
	struct kvm_introspection *kvmi =
		container_of(pt, struct kvm_introspection, sock_poll);

	if (kvmi->sock_wqh)
		return;

	kvmi->sock_wqh = wqh;
	add_wait_queue(wqh, &kvmi->sock_wait);
}

/**
 * kvmi_sock_open - take a file descriptor of the VMM as the session's socket
 * @kvmi: the session
 * @fd: a stream socket
 *
 * Return: 0, or -EINVAL if @fd is no stream socket.
 */
int kvmi_sock_open(struct kvm_introspection *kvmi, int fd)
{
	struct socket *sock;
	int err;

	sock = sockfd_lookup(fd, &err);
	if (!sock)
		return -EINVAL;

	if (sock->type != SOCK_STREAM) {
		sockfd_put(sock);
		return -EINVAL;
	}

	sema_init(&kvmi->tx_lock, 1);
	INIT_WORK(&kvmi->hangup_work, kvmi_hangup_work);
	init_waitqueue_func_entry(&kvmi->sock_wait, kvmi_sock_wakeup);
	kvmi->sock = sock;

	return 0;
}

/**
 * kvmi_sock_watch - have the readers woken from now on
 * @kvmi: the session, its thread running
 */
void kvmi_sock_watch(struct kvm_introspection *kvmi)
{
	init_poll_funcptr(&kvmi->sock_poll, kvmi_sock_enqueue);
	vfs_poll(kvmi->sock->file, &kvmi->sock_poll);

	/* What came before the entry was queued woke nobody. */
	kvmi_recv_kick_thread(kvmi);
}

/**
 * kvmi_sock_unwatch - nobody is woken any more
 * @kvmi: the session, its thread still running
 */
void kvmi_sock_unwatch(struct kvm_introspection *kvmi)
{
	if (kvmi->sock_wqh)
		remove_wait_queue(kvmi->sock_wqh, &kvmi->sock_wait);
	cancel_work_sync(&kvmi->hangup_work);
}

/**
 * kvmi_sock_close - drop the socket
 * @kvmi: the session, not in use any more
 */
void kvmi_sock_close(struct kvm_introspection *kvmi)
{
	kvmi_sock_free_spent(kvmi);
	if (kvmi->sock)
		sockfd_put(kvmi->sock);
}

/**
 * kvmi_sock_free_spent - free what was read from a unix socket
 * @kvmi: the session
 */
void kvmi_sock_free_spent(struct kvm_introspection *kvmi)
{
	if (READ_ONCE(kvmi->rx_spent))
		consume_skb(xchg(&kvmi->rx_spent, NULL));
}

/*
 * Keep the next buffer in the queue from being freed when it is read.  Only a
 * small one: what it takes from the tool's send buffer must never be what the
 * tool waits for.
 */
static void kvmi_sock_keep_spent(struct kvm_introspection *kvmi)
{
	struct sock *sk = kvmi->sock->sk;
	struct sk_buff *skb;

	if (sk->sk_family != AF_UNIX)
		return;

	spin_lock(&sk->sk_receive_queue.lock);
	skb = skb_peek(&sk->sk_receive_queue);
	/* A unix socket is writable as long as a quarter of its buffer is used. */
	if (skb && skb->truesize * 4 < SOCK_MIN_SNDBUF)
		skb_get(skb);
	else
		skb = NULL;
	spin_unlock(&sk->sk_receive_queue.lock);

	if (skb)
		consume_skb(xchg(&kvmi->rx_spent, skb));
}

/**
 * kvmi_sock_recv - read what there is, without waiting
 * @kvmi: the session
 * @buf: where to
 * @size: how much at the most, in bytes
 *
 * Return: the number of bytes, 0 at the end, or a negative errno; -EAGAIN if
 * there is nothing yet.
 */
int kvmi_sock_recv(struct kvm_introspection *kvmi, void *buf, size_t size)
{
	struct kvec vec = { .iov_base = buf, .iov_len = size };
	struct msghdr msg = { };

	kvmi_sock_keep_spent(kvmi);

	return kernel_recvmsg(kvmi->sock, &msg, &vec, 1, size, MSG_DONTWAIT);
}

/*
 * A unix stream socket queues up to half of its send buffer (less 64 bytes)
 * in one piece; see unix_stream_sendmsg().  If the largest message fits, no
 * message is ever cut and the senders need no lock.
 */
static bool kvmi_sock_sends_whole(struct kvm_introspection *kvmi)
{
	struct sock *sk = kvmi->sock->sk;

	return sk->sk_family == AF_UNIX &&
	       (READ_ONCE(sk->sk_sndbuf) >> 1) - 64 >=
	       KVMI_MAX_MSG_SIZE + sizeof(struct kvmi_msg_hdr);
}

/*
 * Send some more of a message without waiting.  Returns 1 at its end, 0 if
 * there is no room now, or a negative errno.
 */
static int kvmi_sock_send_some(struct kvm_introspection *kvmi,
			       struct msghdr *msg)
{
	int r;

	while (msg_data_left(msg)) {
		r = sock_sendmsg(kvmi->sock, msg);
		if (r <= 0)
			return r == -EAGAIN ? 0 : r ?: -EPIPE;
	}

	return 1;
}

/**
 * kvmi_sock_try_send - send one message, if that takes but little waiting
 * @kvmi: the session
 * @vec: its parts
 * @n: how many parts
 * @size: how many bytes in all
 *
 * A tool that reads makes room soon, and whoever is sending finishes soon.
 *
 * Return: whether it was sent.
 */
bool kvmi_sock_try_send(struct kvm_introspection *kvmi, struct kvec *vec,
			size_t n, size_t size)
{
	struct msghdr msg = { .msg_flags = MSG_NOSIGNAL | MSG_DONTWAIT };
	unsigned long end = jiffies + KVMI_TRY_SEND_TIMEOUT;
	int r = 0;

	iov_iter_kvec(&msg.msg_iter, ITER_SOURCE, vec, n, size);

	if (down_timeout(&kvmi->tx_lock, KVMI_TRY_SEND_TIMEOUT))
		return false;

	while (!kvmi_is_dead(kvmi)) {
		r = kvmi_sock_send_some(kvmi, &msg);
		if (r || time_after(jiffies, end) ||
		    fatal_signal_pending(current))
			break;
		schedule_timeout_killable(1);
	}

	/* A message that was begun has to be finished. */
	if (r <= 0 && msg_data_left(&msg) < size)
		kvmi_kill(kvmi, NULL);
	up(&kvmi->tx_lock);
	kvmi_sock_free_spent(kvmi);

	return r > 0;
}

/*
 * What follows from @r, the errno of an attempt to send.  Returns 0 to make
 * another one in a while, or the errno to give up with.
 */
static int kvmi_sock_after_failure(struct kvm_introspection *kvmi, int r,
				   bool begun)
{
	/*
	 * When memory is short, or the VMM has set a timeout for its own use of
	 * the socket, the tool is no worse than a slow one.
	 */
	if ((r == -ENOBUFS || r == -ENOMEM || r == -EAGAIN) &&
	    signal_pending(current))
		r = -EINTR;

	switch (r) {
	case -EINTR:
	case -ERESTARTSYS:
		/*
		 * Harmless as long as nothing is on the wire.  A message that
		 * was begun must be finished, or the tool would take the next
		 * one for its rest.
		 */
		if (!begun || fatal_signal_pending(current))
			return r;
		break;
	case -ENOBUFS:
	case -ENOMEM:
	case -EAGAIN:
		break;
	default:
		return r ? r : -EPIPE;
	}

	if (kvmi_is_dead(kvmi))
		return -EPIPE;

	schedule_timeout_uninterruptible(1);

	return 0;
}

static int kvmi_sock_send_all(struct kvm_introspection *kvmi,
			      struct kvec *vec, size_t n, size_t size)
{
	struct msghdr msg = { .msg_flags = MSG_NOSIGNAL };
	size_t sent = 0;
	int r;

	iov_iter_kvec(&msg.msg_iter, ITER_SOURCE, vec, n, size);

	while (sent < size) {
		r = sock_sendmsg(kvmi->sock, &msg);
		if (r > 0) {
			sent += r;
			continue;
		}
		r = kvmi_sock_after_failure(kvmi, r, sent);
		if (r)
			return r;
	}

	return 0;
}

/**
 * kvmi_sock_send - send one message
 * @kvmi: the session
 * @vec: its parts
 * @n: how many parts
 * @size: how many bytes in all
 *
 * Blocks while the tool does not read, or there is no memory for the message.
 *
 * Return: 0; -EINTR if a signal came before anything was sent, which leaves
 * the connection as it was; another negative errno if the connection is lost.
 */
int kvmi_sock_send(struct kvm_introspection *kvmi, struct kvec *vec,
		   size_t n, size_t size)
{
	bool locked = !kvmi_sock_sends_whole(kvmi);
	int r;

	if (locked && down_interruptible(&kvmi->tx_lock))
		return -EINTR;

	r = kvmi_is_dead(kvmi) ? -EPIPE :
				 kvmi_sock_send_all(kvmi, vec, n, size);
	kvmi_sock_free_spent(kvmi);

	if (locked)
		up(&kvmi->tx_lock);

	return r == -ERESTARTSYS ? -EINTR : r;
}

/**
 * kvmi_kill - the connection is of no use any more
 * @kvmi: the session
 * @why: what the tool did wrong, for the kernel log; NULL if nothing
 *
 * Everybody who waits for the tool is released.  The thread of the session
 * lifts what the tool had restricted.
 */
void kvmi_kill(struct kvm_introspection *kvmi, const char *why)
{
	struct kvm_vcpu *vcpu;
	unsigned long i;

	if (test_and_set_bit(KVMI_DEAD, &kvmi->flags))
		return;

	if (why)
		pr_warn_ratelimited("%pU: connection closed: %s\n",
				    &kvmi->uuid, why);

	kernel_sock_shutdown(kvmi->sock, SHUT_RDWR);

	kvm_for_each_vcpu(i, vcpu, kvmi->kvm)
		kvmi_vcpu_kick(vcpu);
	kvmi_recv_kick_thread(kvmi);
}
