// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM introspection: who reads the tool's messages, and when
 *
 * Messages take effect in the order in which they were sent.  They are read
 * by whoever is best placed: while a vCPU waits for the reply to its event,
 * the vCPU itself, so that an event costs two thread switches; else the
 * session's thread.  rx_lock makes sure it is one at a time.  A reader takes
 * messages as long as they concern vCPUs (they are quick to hand out).  A
 * command to the VM may sleep: it is the thread's, and nothing behind it is
 * read before it is done.
 *
 * No wake-up is lost: a reader that leaves checks, after it has dropped
 * rx_lock, whether there is more, and wakes a successor (kvmi_recv_leave()).
 *
 * The thread lives from HOOK to UNHOOK.  When the connection is lost it
 * lifts the tool's restrictions and waits to be stopped.
 */

#include <linux/cgroup.h>
#include <linux/kthread.h>
#include <linux/memcontrol.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include "kvmi_int.h"

#define KVMI_RX_BUF_SIZE	(sizeof(struct kvmi_msg_hdr) + KVMI_MAX_MSG_SIZE)

/**
 * kvmi_recv_kick_thread - have the session's thread look after its duties
 * @kvmi: the session
 *
 * Any context.
 */
void kvmi_recv_kick_thread(struct kvm_introspection *kvmi)
{
	WRITE_ONCE(kvmi->thread_kicked, true);
	/* rcuwait_wake_up() has the barrier that orders the two. */
	rcuwait_wake_up(&kvmi->thread_wait);
}

/**
 * kvmi_recv_kick - have the socket read
 * @kvmi: the session
 *
 * Any context.
 */
void kvmi_recv_kick(struct kvm_introspection *kvmi)
{
	unsigned long i = find_first_bit(kvmi->waiting, KVM_MAX_VCPUS);

	/*
	 * The vCPU may be leaving: if it does not read any more, it has not
	 * checked yet for what is left; see kvmi_recv_leave().
	 */
	if (i < KVM_MAX_VCPUS)
		kvmi_vcpu_kick(kvm_get_vcpu(kvmi->kvm, i));
	else
		kvmi_recv_kick_thread(kvmi);
}

/* The message at the start of the buffer, if it is there in full. */
static const struct kvmi_msg_hdr *kvmi_rx_front(struct kvm_introspection *kvmi)
{
	const struct kvmi_msg_hdr *hdr = (void *)kvmi->rx_buf;

	lockdep_assert_held(&kvmi->rx_lock);

	if (kvmi->rx_have < sizeof(*hdr))
		return NULL;

	if (hdr->size > KVMI_MAX_MSG_SIZE) {
		kvmi_kill(kvmi, "message larger than max_msg_size");
		return NULL;
	}

	return kvmi->rx_have < sizeof(*hdr) + hdr->size ? NULL : hdr;
}

static void kvmi_rx_consume(struct kvm_introspection *kvmi,
			    const struct kvmi_msg_hdr *hdr)
{
	size_t size = sizeof(*hdr) + hdr->size;

	lockdep_assert_held(&kvmi->rx_lock);

	kvmi->rx_have -= size;
	memmove(kvmi->rx_buf, kvmi->rx_buf + size, kvmi->rx_have);
}

/* Returns false when there is nothing to read for now, or never again. */
static bool kvmi_rx_fill(struct kvm_introspection *kvmi)
{
	int n;

	lockdep_assert_held(&kvmi->rx_lock);

	n = kvmi_sock_recv(kvmi, kvmi->rx_buf + kvmi->rx_have,
			   KVMI_RX_BUF_SIZE - kvmi->rx_have);
	if (n > 0) {
		kvmi->rx_have += n;
		return true;
	}

	if (n != -EAGAIN)
		kvmi_kill(kvmi, n || !kvmi->rx_have ? NULL :
						      "truncated message");

	return false;
}

/* Returns false if the message has to be left to the thread. */
static bool kvmi_rx_handle(struct kvm_introspection *kvmi,
			   const struct kvmi_msg_hdr *hdr,
			   struct kvm_vcpu *self)
{
	if (!kvmi_is_vcpu_id(hdr->id)) {
		if (self)
			return false;
		kvmi_dispatch_vm(kvmi, hdr, hdr + 1);
	} else if (kvmi_dispatch_vcpu(kvmi, hdr, hdr + 1)) {
		return false;
	}

	kvmi_rx_consume(kvmi, hdr);
	return true;
}

/* A vCPU stops reading when it has its reply, or something else to do. */
static bool kvmi_recv_is_satisfied(struct kvm_vcpu *self)
{
	return self && (kvmi_vcpu_has_reply(self->kvmi) ||
			signal_pending(current));
}

/**
 * kvmi_recv - read and hand out messages until there are none
 * @kvmi: the session
 * @self: the vCPU that waits for an event reply, and is content with that;
 *	NULL for the thread
 *
 * Never blocks for the tool.
 */
void kvmi_recv(struct kvm_introspection *kvmi, struct kvm_vcpu *self)
{
	const struct kvmi_msg_hdr *hdr;
	bool mine = true;

	/* If somebody reads already, he looks again after unlocking. */
	do {
		if (!mutex_trylock(&kvmi->rx_lock))
			return;

		while (mine && !kvmi_is_dead(kvmi) &&
		       !kvmi_recv_is_satisfied(self)) {
			cond_resched();
			hdr = kvmi_rx_front(kvmi);
			if (hdr)
				mine = kvmi_rx_handle(kvmi, hdr, self);
			else if (!kvmi_rx_fill(kvmi))
				break;
		}

		mutex_unlock(&kvmi->rx_lock);

		if (!mine) {
			kvmi_recv_kick_thread(kvmi);
			return;
		}

		/*
		 * Order the unlocking before the check, against the
		 * mutex_trylock() of somebody woken for new data.
		 */
		smp_mb();
	} while (!kvmi_is_dead(kvmi) && !kvmi_recv_is_satisfied(self) &&
		 kvmi_sock_readable(kvmi));
}

/**
 * kvmi_recv_has_more - is there anything to read?
 * @kvmi: the session
 *
 * Cheaper than to try in vain.
 */
bool kvmi_recv_has_more(struct kvm_introspection *kvmi)
{
	return READ_ONCE(kvmi->rx_have) || kvmi_sock_readable(kvmi);
}

/**
 * kvmi_recv_leave - a vCPU does not wait, hence does not read, any more
 * @kvmi: the session
 * @vcpu: the vCPU, that did wait
 */
void kvmi_recv_leave(struct kvm_introspection *kvmi, struct kvm_vcpu *vcpu)
{
	clear_bit(vcpu->vcpu_idx, kvmi->waiting);
	/*
	 * Order the clearing before the check: who put data there either saw
	 * the bit clear and woke somebody else, or its data are seen here.
	 */
	smp_mb__after_atomic();

	if (kvmi_recv_has_more(kvmi))
		kvmi_recv_kick(kvmi);
}

static bool kvmi_recv_must_work(struct kvm_introspection *kvmi)
{
	return xchg(&kvmi->thread_kicked, false) || kthread_should_stop();
}

/*
 * Nobody is going to read what is still in the socket's queue.  It may hold
 * file descriptors, this VM's among them, which would never be freed then.
 */
static void kvmi_recv_drain(struct kvm_introspection *kvmi)
{
	mutex_lock(&kvmi->rx_lock);
	while (kvmi_sock_recv(kvmi, kvmi->rx_buf, KVMI_RX_BUF_SIZE) > 0)
		cond_resched();
	kvmi_sock_free_spent(kvmi);
	kvmi->rx_have = 0;
	mutex_unlock(&kvmi->rx_lock);
}

static int kvmi_recv_thread(void *data)
{
	struct kvm_introspection *kvmi = data;
	struct mem_cgroup *memcg, *old;

	/* To be interrupted in a page fault, see kvmi_hangup_work(). */
	allow_kernel_signal(SIGKILL);

	/* The VMM pays for what its tool has the kernel allocate. */
	memcg = get_mem_cgroup_from_mm(kvmi->kvm->mm);
	old = set_active_memcg(memcg);

	while (!kthread_should_stop()) {
		if (!kvmi_is_dead(kvmi)) {
			kvmi_recv(kvmi, NULL);
		} else if (!kvmi->thread_done) {
			kvmi_access_lift_all(kvmi->kvm);
			kvmi_recv_drain(kvmi);
			kvmi->thread_done = true;
		}

		if (kvmi_is_dead(kvmi) && !kvmi->thread_done)
			continue;

		rcuwait_wait_event(&kvmi->thread_wait,
				   kvmi_recv_must_work(kvmi), TASK_IDLE);
	}

	set_active_memcg(old);
	mem_cgroup_put(memcg);

	return 0;
}

/**
 * kvmi_recv_create - create the session's thread, but do not let it run yet
 * @kvmi: the session; its socket is open
 *
 * Return: 0 or -ENOMEM.
 */
int kvmi_recv_create(struct kvm_introspection *kvmi)
{
	struct task_struct *thread;

	mutex_init(&kvmi->rx_lock);
	rcuwait_init(&kvmi->thread_wait);

	kvmi->rx_buf = kmalloc(KVMI_RX_BUF_SIZE, GFP_KERNEL_ACCOUNT);
	if (!kvmi->rx_buf)
		return -ENOMEM;

	thread = kthread_create(kvmi_recv_thread, kvmi, "kvmi-%d",
				task_pid_nr(current));
	/* Too many threads are as bad; who was killed will never know. */
	if (IS_ERR(thread))
		return -ENOMEM;

	kvmi->thread = thread;

	return 0;
}

/**
 * kvmi_recv_start - let the session's thread run
 * @kvmi: the session, to be seen by all
 */
void kvmi_recv_start(struct kvm_introspection *kvmi)
{
	kvmi_sock_watch(kvmi);
	wake_up_process(kvmi->thread);
}

/**
 * kvmi_recv_cancel - undo kvmi_recv_create()
 * @kvmi: the session, that nobody has seen
 */
void kvmi_recv_cancel(struct kvm_introspection *kvmi)
{
	kthread_stop(kvmi->thread);
}

/**
 * kvmi_recv_stop - stop the session's thread, its restrictions lifted
 * @kvmi: the session, killed
 */
void kvmi_recv_stop(struct kvm_introspection *kvmi)
{
	kvmi_sock_unwatch(kvmi);
	send_sig(SIGKILL, kvmi->thread, 1);
	kthread_stop(kvmi->thread);
	if (!kvmi->thread_done)
		kvmi_access_lift_all(kvmi->kvm);
}
