// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM introspection: what a vCPU's own thread does for the tool
 *
 * It serves the commands that were queued for it, sends events and waits for
 * the replies.  It does so between two stays in the guest, from vcpu_run(),
 * with no lock held: hooks elsewhere in KVM only note what there is to do
 * and set KVM_REQ_INTROSPECTION.
 *
 * A vCPU has one event under way at the most.  A signal makes KVM_RUN return
 * while it waits; the event stays under way and the next KVM_RUN takes up the
 * waiting, so neither guest nor tool notice.
 *
 * vcpui->lock protects vcpui->jobs and vcpui->ev.  Whoever reads a message
 * writes there; only the vCPU's thread takes from there.
 */

#include <linux/entry-kvm.h>
#include <linux/sched/signal.h>
#include <uapi/linux/kvm_para.h>
#include <trace/events/kvmi.h>
#include "kvmi_int.h"

/**
 * kvmi_vcpu_alloc - what a vCPU has as long as its session
 * @kvmi: the session
 *
 * Return: NULL if there is not enough memory.
 */
struct kvm_vcpu_introspection *kvmi_vcpu_alloc(struct kvm_introspection *kvmi)
{
	struct kvm_vcpu_introspection *vcpui;

	vcpui = kzalloc(sizeof(*vcpui), GFP_KERNEL_ACCOUNT);
	if (!vcpui)
		return NULL;

	vcpui->kvmi = kvmi;
	rcuwait_init(&vcpui->wait);
	spin_lock_init(&vcpui->lock);
	INIT_LIST_HEAD(&vcpui->jobs);

	return vcpui;
}

/**
 * kvmi_vcpu_free - free it, and the commands that still wait in it
 * @vcpui: of a vCPU that nobody looks at any more, or NULL
 */
void kvmi_vcpu_free(struct kvm_vcpu_introspection *vcpui)
{
	struct kvmi_job *job, *next;

	if (!vcpui)
		return;

	list_for_each_entry_safe(job, next, &vcpui->jobs, link)
		kfree(job);
	kfree(vcpui);
}

/**
 * kvmi_vcpu_kick - have a vCPU see what there is to do
 * @vcpu: the vCPU; its session exists
 *
 * Wherever its thread is: in the guest, halted or waiting for the tool.  Any
 * context.
 */
void kvmi_vcpu_kick(struct kvm_vcpu *vcpu)
{
	struct kvm_vcpu_introspection *vcpui = vcpu->kvmi;

	WRITE_ONCE(vcpui->kicked, true);
	/* rcuwait_wake_up() has the barrier that orders the two. */
	if (rcuwait_wake_up(&vcpui->wait))
		return;

	kvm_make_request(KVM_REQ_INTROSPECTION, vcpu);
	kvm_make_request(KVM_REQ_UNBLOCK, vcpu);
	kvm_vcpu_kick(vcpu);
}

/**
 * kvmi_is_event_enabled - does the tool want an event of this vCPU?
 * @vcpu: the vCPU, on its thread, in a kvm->srcu section
 * @id: the event
 */
bool kvmi_is_event_enabled(struct kvm_vcpu *vcpu, u16 id)
{
	struct kvm_vcpu_introspection *vcpui = kvmi_vcpu(vcpu);

	return vcpui && !kvmi_is_dead(vcpui->kvmi) &&
	       test_bit(id, vcpui->events);
}

/**
 * kvmi_vcpu_add_job - queue a command for a vCPU
 * @vcpu: the vCPU
 * @hdr: the command's header
 * @payload: the rest of the command
 *
 * Return: 0 or a negated KVM_E* code.
 */
int kvmi_vcpu_add_job(struct kvm_vcpu *vcpu, const struct kvmi_msg_hdr *hdr,
		      const void *payload)
{
	struct kvm_vcpu_introspection *vcpui = vcpu->kvmi;
	struct kvmi_job *job;

	job = kmalloc(struct_size(job, payload, hdr->size), GFP_KERNEL_ACCOUNT);
	if (!job)
		return -KVM_ENOMEM;

	job->interrupted = false;
	job->hdr = *hdr;
	memcpy(job->payload, payload, hdr->size);

	spin_lock(&vcpui->lock);
	if (vcpui->nr_jobs >= KVMI_MAX_JOBS) {
		spin_unlock(&vcpui->lock);
		kfree(job);
		return -KVM_EBUSY;
	}
	vcpui->nr_jobs++;
	list_add_tail(&job->link, &vcpui->jobs);
	spin_unlock(&vcpui->lock);

	kvmi_vcpu_kick(vcpu);

	return 0;
}

static struct kvmi_job *kvmi_first_job(struct kvm_vcpu_introspection *vcpui)
{
	struct kvmi_job *job;

	spin_lock(&vcpui->lock);
	job = list_first_entry_or_null(&vcpui->jobs, typeof(*job), link);
	spin_unlock(&vcpui->lock);

	return job;
}

/*
 * In a kvm->srcu section, which the commands leave while they reply.
 * Returns 0, or -EINTR if a signal has to be dealt with first.
 */
static int kvmi_run_jobs(struct kvm_vcpu *vcpu,
			 struct kvm_vcpu_introspection *vcpui)
{
	struct kvmi_job *job;

	while (!kvmi_is_dead(vcpui->kvmi) && (job = kvmi_first_job(vcpui))) {
		if (kvmi_dispatch_job(vcpui->kvmi, vcpu, job) == -EINTR) {
			job->interrupted = true;
			return -EINTR;
		}

		spin_lock(&vcpui->lock);
		list_del(&job->link);
		vcpui->nr_jobs--;
		if (vcpui->ev.nr_jobs)
			vcpui->ev.nr_jobs--;
		spin_unlock(&vcpui->lock);
		kfree(job);

		if (signal_pending(current))
			return -EINTR;
		cond_resched();
	}

	return 0;
}

/**
 * kvmi_vcpu_take_reply - record the tool's reply to the event of a vCPU
 * @vcpu: the vCPU
 * @hdr: the header of the reply
 * @payload: the rest of the reply
 *
 * Return: NULL, or what is wrong with the reply.
 */
const char *kvmi_vcpu_take_reply(struct kvm_vcpu *vcpu,
				 const struct kvmi_msg_hdr *hdr,
				 const void *payload)
{
	struct kvm_vcpu_introspection *vcpui = vcpu->kvmi;
	const size_t fixed = sizeof(struct kvmi_vcpu_hdr) +
			     sizeof(struct kvmi_vcpu_event_reply);
	const struct kvmi_vcpu_event_reply *rpl =
		payload + sizeof(struct kvmi_vcpu_hdr);
	const char *error = NULL;

	if (hdr->size < fixed)
		return "event reply too short";
	if (rpl->padding1 || rpl->padding2)
		return "event reply with padding that is not zero";

	spin_lock(&vcpui->lock);
	if (vcpui->ev.state != KVMI_EV_SENT) {
		error = "event reply for a vCPU that waits for none";
	} else if (vcpui->ev.seq != hdr->seq) {
		error = "event reply with a wrong sequence number";
	} else if (hdr->size - fixed > vcpui->ev.reply_size) {
		error = "event reply too long";
	} else {
		memcpy(vcpui->ev.reply, payload + fixed, hdr->size - fixed);
		vcpui->ev.action = rpl->action;
		vcpui->ev.nr_jobs = vcpui->nr_jobs;
		/* Pairs with kvmi_vcpu_has_reply() */
		smp_store_release(&vcpui->ev.state, KVMI_EV_REPLIED);
	}
	spin_unlock(&vcpui->lock);

	if (!error && vcpu != kvm_get_running_vcpu())
		kvmi_vcpu_kick(vcpu);

	return error;
}

/**
 * kvmi_vcpu_awaits_reply - was the current command sent before the reply?
 * @vcpui: the vCPU, on its thread, which serves a command
 *
 * Return: true if there is an event under way, and the tool sent the reply to
 * it after the command if at all.
 */
bool kvmi_vcpu_awaits_reply(struct kvm_vcpu_introspection *vcpui)
{
	bool awaits;

	spin_lock(&vcpui->lock);
	awaits = vcpui->ev.state == KVMI_EV_SENT || vcpui->ev.nr_jobs;
	spin_unlock(&vcpui->lock);

	return awaits;
}

/**
 * kvmi_vcpu_has_reply - is the event under way replied to?
 * @vcpui: the vCPU, on its thread
 */
bool kvmi_vcpu_has_reply(struct kvm_vcpu_introspection *vcpui)
{
	/* Pairs with kvmi_vcpu_take_reply() */
	return smp_load_acquire(&vcpui->ev.state) == KVMI_EV_REPLIED;
}

static void kvmi_start_event(struct kvm_vcpu_introspection *vcpui, u16 id,
			     u8 reply_size)
{
	spin_lock(&vcpui->lock);
	memset(&vcpui->ev, 0, sizeof(vcpui->ev));
	vcpui->ev.id = id;
	vcpui->ev.seq = kvmi_get_seq(vcpui->kvmi);
	vcpui->ev.reply_size = reply_size;
	vcpui->ev.state = KVMI_EV_SENT;
	spin_unlock(&vcpui->lock);

	vcpui->set_regs = false;
}

static void kvmi_end_event(struct kvm_vcpu_introspection *vcpui)
{
	spin_lock(&vcpui->lock);
	vcpui->ev.state = KVMI_EV_NONE;
	vcpui->ev.nr_jobs = 0;
	spin_unlock(&vcpui->lock);
}

static int kvmi_send_event(struct kvm_vcpu *vcpu,
			   struct kvm_vcpu_introspection *vcpui,
			   const void *data, size_t size)
{
	struct {
		struct kvmi_msg_hdr hdr;
		struct kvmi_event_hdr ehdr;
		struct kvmi_vcpu_event common;
	} msg = {
		.hdr.id = KVMI_VCPU_EVENT,
		.hdr.seq = vcpui->ev.seq,
		.hdr.size = sizeof(msg) - sizeof(msg.hdr) + size,
		.ehdr.event = vcpui->ev.id,
		.common.size = sizeof(msg.common),
		.common.vcpu = vcpu->vcpu_idx,
	};
	struct kvec vec[] = {
		{ .iov_base = &msg, .iov_len = sizeof(msg) },
		{ .iov_base = (void *)data, .iov_len = size },
	};

	kvmi_arch_fill_event(vcpu, &msg.common.arch);

	return kvmi_sock_send(vcpui->kvmi, vec, size ? 2 : 1,
			      sizeof(msg) + size);
}

static bool kvmi_must_wake(struct kvm_vcpu_introspection *vcpui)
{
	return xchg(&vcpui->kicked, false) || signal_pending(current);
}

static void kvmi_start_reading(struct kvm_vcpu *vcpu,
			       struct kvm_introspection *kvmi)
{
	set_bit(vcpu->vcpu_idx, kvmi->waiting);
	/* Order the setting before the look at the socket. */
	smp_mb__after_atomic();
}

/* Replies may block for as long as the tool does not read: let others read. */
static int kvmi_run_jobs_while_waiting(struct kvm_vcpu *vcpu,
				       struct kvm_vcpu_introspection *vcpui)
{
	int r;

	if (!kvmi_first_job(vcpui))
		return 0;

	kvmi_recv_leave(vcpui->kvmi, vcpu);
	kvm_vcpu_srcu_read_lock(vcpu);
	r = kvmi_run_jobs(vcpu, vcpui);
	kvm_vcpu_srcu_read_unlock(vcpu);
	kvmi_start_reading(vcpu, vcpui->kvmi);

	/* What came meanwhile is looked at before anybody sleeps. */
	WRITE_ONCE(vcpui->kicked, true);

	return r;
}

/*
 * Outside of any kvm->srcu section.  Returns 0 when there is a reply or never
 * will be, else -EINTR.
 */
static int kvmi_wait_for_reply(struct kvm_vcpu *vcpu,
			       struct kvm_vcpu_introspection *vcpui)
{
	struct kvm_introspection *kvmi = vcpui->kvmi;
	bool replied;
	int r;

	kvmi_start_reading(vcpu, kvmi);
	vcpu->stat.generic.kvmi.waits++;

	for (;;) {
		if (kvmi_recv_has_more(kvmi))
			kvmi_recv(kvmi, vcpu);

		/* Commands sent before the reply take effect before it. */
		replied = kvmi_vcpu_has_reply(vcpui);
		r = kvmi_run_jobs_while_waiting(vcpu, vcpui);

		if (r || replied || kvmi_is_dead(kvmi))
			break;
		if (signal_pending(current)) {
			r = -EINTR;
			break;
		}

		rcuwait_wait_event(&vcpui->wait, kvmi_must_wake(vcpui),
				   TASK_INTERRUPTIBLE);
	}

	kvmi_recv_leave(kvmi, vcpu);

	return r;
}

static void kvmi_count_event(struct kvm_vcpu *vcpu, u16 id)
{
	struct kvmi_vcpu_stat *stat = &vcpu->stat.generic.kvmi;

	if (!WARN_ON_ONCE(id / 2 >= ARRAY_SIZE(stat->events)))
		stat->events[id / 2]++;
	trace_kvmi_event(vcpu->vcpu_idx, id, vcpu->kvmi->ev.seq);
}

/* Returns 0, or -EINTR if a signal came first. */
static int kvmi_deliver_event(struct kvm_vcpu *vcpu,
			      struct kvm_vcpu_introspection *vcpui, u16 id,
			      const void *data, size_t size, u8 reply_size)
{
	int r;

	if (vcpui->ev.state == KVMI_EV_NONE) {
		kvmi_start_event(vcpui, id, reply_size);
		r = kvmi_send_event(vcpu, vcpui, data, size);
		if (r == -EINTR) {
			kvmi_end_event(vcpui);
			kvmi_put_seq(vcpui->kvmi, vcpui->ev.seq);
			return r;
		}
		if (r)
			kvmi_kill(vcpui->kvmi, NULL);
		else
			kvmi_count_event(vcpu, id);
	}

	return kvmi_wait_for_reply(vcpu, vcpui);
}

static int __kvmi_vcpu_event(struct kvm_vcpu *vcpu, u16 id,
			     unsigned long actions, const void *data,
			     size_t size, u8 reply_size)
{
	struct kvm_vcpu_introspection *vcpui = vcpu->kvmi;
	int action = KVMI_EVENT_ACTION_CONTINUE;
	int r;

	kvm_vcpu_srcu_read_unlock(vcpu);
	r = kvmi_deliver_event(vcpu, vcpui, id, data, size, reply_size);
	/*
	 * A thread that has slept has work to do before it enters the guest, and
	 * would find that out when it has prepared for it.  Signals can wait.
	 */
	if (!r && !signal_pending(current))
		xfer_to_guest_mode_handle_work(vcpu);
	kvm_vcpu_srcu_read_lock(vcpu);
	if (r == -EINTR)
		return r;

	if (kvmi_vcpu_has_reply(vcpui)) {
		if (vcpui->ev.action < BITS_PER_LONG &&
		    (actions & BIT(vcpui->ev.action))) {
			action = vcpui->ev.action;
			vcpui->ev.replied = true;
		} else {
			pr_warn_ratelimited("%pU: action %u is not supported by event %u\n",
					    &vcpui->kvmi->uuid,
					    vcpui->ev.action, id);
			kvmi_kill(vcpui->kvmi, "unsupported action");
		}
		/* What the action refers to may be another instruction now. */
		if (vcpui->set_regs)
			kvmi_arch_set_regs(vcpu, &vcpui->regs);
	}

	trace_kvmi_action(vcpu->vcpu_idx, vcpui->ev.id, vcpui->ev.seq, action);
	kvmi_end_event(vcpui);

	return action;
}

/**
 * kvmi_vcpu_event - send an event, unless it is sent already, and wait
 * @vcpu: the vCPU, on its thread; its kvm->srcu section is left meanwhile
 * @id: the event; the one under way if there is one
 * @actions: mask of the actions that the tool may choose from
 * @data: what is particular to the event
 * @size: bytes at @data
 *
 * Return: the tool's KVMI_EVENT_ACTION_*, CONTINUE if there is no tool any
 * more; or -EINTR if a signal is pending, it is to be called again then.
 */
int kvmi_vcpu_event(struct kvm_vcpu *vcpu, u16 id, unsigned long actions,
		    const void *data, size_t size)
{
	return __kvmi_vcpu_event(vcpu, id, actions, data, size, 0);
}

/**
 * kvmi_vcpu_event_value - send an event whose reply has a value, and wait
 * @vcpu: the vCPU, on its thread; its kvm->srcu section is left meanwhile
 * @id: the event; the one under way if there is one
 * @actions: mask of the actions that the tool may choose from
 * @data: what is particular to the event
 * @size: bytes at @data
 * @reply_size: bytes that the value may have in the reply, or 0
 * @value: replaced by the value in the reply, if the event has one and there
 *	is a reply
 *
 * Return: as kvmi_vcpu_event().
 */
int kvmi_vcpu_event_value(struct kvm_vcpu *vcpu, u16 id, unsigned long actions,
			  const void *data, size_t size, u8 reply_size,
			  u64 *value)
{
	struct kvm_vcpu_introspection *vcpui = vcpu->kvmi;
	int action;

	action = __kvmi_vcpu_event(vcpu, id, actions, data, size, reply_size);
	if (action < 0)
		return action;

	/* The event has ended, but what came with its reply is still there. */
	if (vcpui->ev.replied && vcpui->ev.reply_size)
		memcpy(value, vcpui->ev.reply, sizeof(*value));

	return action;
}

/**
 * kvmi_vcpu_crash - carry out the action CRASH
 * @vcpu: the vCPU, on its thread
 *
 * Return: what vcpu_run() is to return.
 */
int kvmi_vcpu_crash(struct kvm_vcpu *vcpu)
{
	vcpu->run->exit_reason = KVM_EXIT_SHUTDOWN;

	return 0;
}

static int kvmi_pause_event(struct kvm_vcpu *vcpu)
{
	int action;

	action = kvmi_vcpu_event(vcpu, KVMI_VCPU_EVENT_PAUSE,
				 BIT(KVMI_EVENT_ACTION_CONTINUE) |
				 BIT(KVMI_EVENT_ACTION_CRASH), NULL, 0);
	if (action == KVMI_EVENT_ACTION_CRASH)
		return kvmi_vcpu_crash(vcpu);

	return action < 0 ? action : 1;
}

/*
 * Not if the VMM does not allow it any more; nor would the event have the
 * registers of the guest that it is about while the vCPU is away.
 */
static bool kvmi_can_pause(struct kvm_vcpu *vcpu,
			   struct kvm_vcpu_introspection *vcpui)
{
	return atomic_read(&vcpui->pause_requests) &&
	       kvmi_is_event_allowed(vcpui->kvmi, KVMI_VCPU_EVENT_PAUSE) &&
	       !kvmi_is_dead(vcpui->kvmi) && !kvmi_arch_vcpu_is_away(vcpu);
}

/* Returns 1 to go on, 0 to exit to user space, or -EINTR. */
static int kvmi_serve_vcpu(struct kvm_vcpu *vcpu,
			   struct kvm_vcpu_introspection *vcpui)
{
	int r;

	/* Before any other event; none is under way if this one is due. */
	r = kvmi_trap_resolve(vcpu, vcpui);
	if (r <= 0)
		return r;

	/* A pause that a signal interrupted comes first; then it is last. */
	if (kvmi_is_event_under_way(vcpui, KVMI_VCPU_EVENT_PAUSE)) {
		r = kvmi_pause_event(vcpu);
		if (r <= 0)
			return r;
	}

	r = kvmi_run_jobs(vcpu, vcpui);
	if (r)
		return r;

	r = kvmi_pf_resolve(vcpu, vcpui);
	if (r <= 0)
		return r;

	r = kvmi_insn_resolve(vcpu, vcpui);
	if (r <= 0)
		return r;

	r = kvmi_singlestep_resolve(vcpu, vcpui);
	if (r <= 0)
		return r;

	while (kvmi_can_pause(vcpu, vcpui) &&
	       atomic_add_unless(&vcpui->pause_requests, -1, 0)) {
		r = kvmi_pause_event(vcpu);
		if (r == -EINTR && vcpui->ev.state == KVMI_EV_NONE)
			atomic_inc(&vcpui->pause_requests);
		if (r <= 0)
			return r;
	}

	return 1;
}

/**
 * __kvmi_vcpu_has_work - must kvmi_vcpu_do_work() run before the guest?
 * @vcpu: the vCPU, on its thread, in a kvm->srcu section
 */
bool __kvmi_vcpu_has_work(struct kvm_vcpu *vcpu)
{
	struct kvm_vcpu_introspection *vcpui = kvmi_vcpu(vcpu);
	bool failed;

	if (kvm_test_request(KVM_REQ_INTROSPECTION, vcpu) ||
	    kvmi_arch_step_is_over(vcpu, &failed))
		return true;

	/* Unhooked while it was in the guest with a translation of its own? */
	if (!vcpui)
		return kvmi_arch_has_own_root(vcpu);

	return vcpui->pf.delivery_may.nr || kvmi_pf_native_faulted(vcpu, &vcpui->pf) ||
	       kvmi_inject_has_work(vcpui) || kvmi_can_pause(vcpu, vcpui);
}

/*
 * Nothing stays intercepted for events that the VMM does not allow any more,
 * nor for a tool that has gone.
 */
static void kvmi_update_intercepts(struct kvm_vcpu *vcpu,
				   struct kvm_vcpu_introspection *vcpui)
{
	u16 id;

	if (kvmi_is_dead(vcpui->kvmi)) {
		if (READ_ONCE(vcpui->kvmi->restore_on_unhook))
			kvmi_arch_lift_intercepts(vcpu);
		return;
	}

	if (!xchg(&vcpui->events_disallowed, false))
		return;

	for (id = 0; id < KVMI_NUM_EVENTS; id++)
		if (kvmi_is_vcpu_id(id) && !test_bit(id, vcpui->events))
			kvmi_arch_control_event(vcpu, id, false);
}

/*
 * There is no session any more.  A request that is left behind would keep the
 * vCPU from entering the guest once the static key is off.
 */
static void kvmi_end_work(struct kvm_vcpu *vcpu)
{
	kvm_clear_request(KVM_REQ_INTROSPECTION, vcpu);
	/* Order each clearing before the look at what could be requested. */
	smp_mb__after_atomic();

	if (kvmi_arch_end_intercepts(vcpu)) {
		kvm_clear_request(KVM_REQ_INTROSPECTION, vcpu);
		/* As above. */
		smp_mb__after_atomic();
	}

	/* Unless there is a new one, which may have requested something. */
	if (kvmi_vcpu(vcpu))
		kvm_make_request(KVM_REQ_INTROSPECTION, vcpu);
}

/**
 * kvmi_vcpu_do_work - do what the tool wants of this vCPU
 * @vcpu: the vCPU, loaded, in a kvm->srcu section which is left meanwhile
 *
 * Return: 1 to go on with the guest, 0 to exit to user space, or -EINTR.
 */
int kvmi_vcpu_do_work(struct kvm_vcpu *vcpu)
{
	struct kvm_vcpu_introspection *vcpui;
	struct kvm_introspection *kvmi;
	bool failed;
	int r = 1;
	int idx;

	vcpui = kvmi_vcpu(vcpu);
	if (!vcpui) {
		kvmi_arch_native_end(vcpu);
		kvmi_arch_own_root_end(vcpu);
		kvmi_arch_step_control(vcpu, false);
		kvmi_end_work(vcpu);
		return 1;
	}

	kvmi = vcpui->kvmi;
	idx = srcu_read_lock(&kvmi->srcu);

	/* Those of an earlier session */
	kvmi_arch_end_intercepts(vcpu);

	kvmi_pf_left(vcpu, vcpui);
	kvmi_inject_left(vcpu, vcpui);
	/* One that was put off is due when the vCPU is back from its guest. */
	if (kvmi_can_pause(vcpu, vcpui))
		kvm_make_request(KVM_REQ_INTROSPECTION, vcpu);

	if (kvmi_arch_step_is_over(vcpu, &failed))
		kvm_make_request(KVM_REQ_INTROSPECTION, vcpu);

	while (r > 0 && kvm_check_request(KVM_REQ_INTROSPECTION, vcpu)) {
		r = kvmi_serve_vcpu(vcpu, vcpui);
		/* What is left undone is taken up again at the next KVM_RUN. */
		if (r <= 0)
			kvm_make_request(KVM_REQ_INTROSPECTION, vcpu);
		if (r == -EINTR) {
			vcpu->run->exit_reason = KVM_EXIT_INTR;
			++vcpu->stat.signal_exits;
		}
	}

	kvmi_arch_step_control(vcpu, vcpui->pf.native ||
				     kvmi_is_singlestepping(vcpui));
	if (r > 0) {
		kvmi_update_intercepts(vcpu, vcpui);
		if (!kvmi_is_dead(kvmi))
			kvmi_inject_enter(vcpu, vcpui);
		kvmi_pf_enter(vcpu, vcpui);
	}

	srcu_read_unlock(&kvmi->srcu, idx);

	return r;
}
