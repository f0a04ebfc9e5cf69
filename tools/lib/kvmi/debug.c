// SPDX-License-Identifier: GPL-2.0
/*
 * Breakpoints in guest memory, single steps, and vCPUs that stand still: what a
 * debugger needs, on top of the protocol's commands and events.
 *
 * A breakpoint is the instruction INT3 (one byte, so that no CPU ever sees half
 * of it) at a guest physical address.  To get past one, the byte has to be the
 * guest's own for the length of one instruction; and as all vCPUs share their
 * memory, none may run meanwhile but the one that steps, or a hit would be lost:
 *
 *	have all others pause, and wait until they are out of guest mode: what
 *	they do next is to report KVMI_VCPU_EVENT_PAUSE, and that is not answered
 *	put the byte back, switch single-stepping on, and answer RETRY to the hit
 *	KVMI_VCPU_EVENT_SINGLESTEP: put INT3 in place, switch stepping off, go on
 *	answer the pauses
 *
 * A vCPU that hits a breakpoint meanwhile, or had done so, waits for its turn.
 * One that is in user space reports its pause when it runs again, which may be
 * long after; that pause is then answered at once.
 *
 * Where the host cannot single-step (VMX without the monitor trap flag), KVM's
 * instruction emulator makes that one step.  It does so for an access that a
 * restriction forbids and the tool allows, and executing the breakpoint's page
 * is made to be one:
 *
 *	KVMI_VCPU_EVENT_BREAKPOINT: the others pause, the byte is back, the page
 *	must not be executed, interrupts are off; RETRY
 *	KVMI_VCPU_EVENT_PF, of the fetch: interrupts are as they were, page faults
 *	are not reported, a pause is asked for; CONTINUE
 *	KVMI_VCPU_EVENT_PAUSE, before it enters the guest again: INT3, the page
 *	and page faults are put back, go on
 *
 * So the vCPU never enters the guest in between, and cannot end up in a handler
 * that waits for one of those that are held.  If the instruction has raised an
 * exception, or is a string instruction that is not through, then it is hit
 * once more.
 *
 * One mutex covers all of it; it is held while commands are sent.  These are
 * answered by vCPUs that wait for an answer to an event, or by none, so that no
 * vCPU that waits for us is waited for.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "internal.h"

#define INT3			0xcc
#define STEP_TRIES		1000	/* exits that come in before one step is made */
#define NSEC_PER_SEC		1000000000ULL
#define INSN_STI		0xfb
#define RFLAGS_IF		(1ULL << 9)

enum wait_reason {
	RUNS,
	WAITS_HIT,
	WAITS_STEPPED,
	WAITS_PAUSED,			/* for kvmi_debug_continue() */
	WAITS_TURN,			/* for another vCPU's step to end */
};

enum step_way {
	STEP_NATIVE,
	STEP_TO_FETCH,			/* emulated, waits for the fault */
	STEP_TO_PAUSE,			/* emulated, waits for the pause */
};

struct debug_vcpu {
	enum wait_reason why;
	struct kvmi_event event;	/* the one that it waits for an answer to */
	unsigned int our_pauses;	/* asked for, not reported yet */
	unsigned int user_pauses;
	bool pause_later;		/* the user's, after the step */
	bool wants_go;			/* kvmi_debug_continue(), not its turn yet */
	bool wants_step;
};

struct breakpoint {
	LIST_ENTRY(breakpoint) entry;
	__u64 gpa;
	__u8 byte;			/* what the guest has there */
	unsigned int refs;
};

struct kvmi_debug {
	struct kvmi_dom *dom;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	LIST_HEAD(, breakpoint) breakpoints;
	struct debug_vcpu *vcpus;
	unsigned int nr_vcpus;

	/* The step that is under way. */
	int stepping;			/* the vCPU, -1 for none */
	bool user_step;			/* that is all it is to do */
	struct breakpoint *lifted;	/* not in place meanwhile */
	__u64 rip;
	unsigned int tries;
	enum step_way way;
	__u64 fetch_gpa;		/* emulated: where the instruction is */
	bool irqs_off;			/* ... and that is our doing */

	int (*restore)(void *data, __u16 vcpu, __u64 gpa);
	void *restore_data;
};

/* --- vCPUs and breakpoints ---------------------------------------------------- */

static struct debug_vcpu *get_vcpu(struct kvmi_debug *d, __u16 vcpu)
{
	struct debug_vcpu *vcpus;
	unsigned int n = vcpu + 1;

	if (n > d->nr_vcpus) {
		vcpus = reallocarray(d->vcpus, n, sizeof(*vcpus));
		if (!vcpus) {
			kvmi_fail(-ENOMEM, "vCPU %u: out of memory", vcpu);
			return NULL;
		}
		memset(vcpus + d->nr_vcpus, 0, (n - d->nr_vcpus) * sizeof(*vcpus));
		d->vcpus = vcpus;
		d->nr_vcpus = n;
	}
	return &d->vcpus[vcpu];
}

static struct breakpoint *find_breakpoint(struct kvmi_debug *d, __u64 gpa)
{
	struct breakpoint *bp;

	LIST_FOREACH(bp, &d->breakpoints, entry)
		if (bp->gpa == gpa)
			return bp;
	return NULL;
}

static int put_byte(struct kvmi_debug *d, __u64 gpa, __u8 byte)
{
	return kvmi_vm_write_physical(d->dom, gpa, &byte, 1);
}

/* --- going on ------------------------------------------------------------------ */

static int answer(struct kvmi_debug *d, struct debug_vcpu *v, __u8 action)
{
	v->why = RUNS;
	v->wants_go = false;
	v->wants_step = false;
	return kvmi_event_reply(d->dom, &v->event, action);
}

/* What has waited only for the end of a step goes on. */
static int release_pauses(struct kvmi_debug *d)
{
	unsigned int i;
	int err = 0, ret;

	for (i = 0; i < d->nr_vcpus; i++) {
		if (d->vcpus[i].why != WAITS_TURN)
			continue;
		ret = answer(d, &d->vcpus[i], KVMI_EVENT_ACTION_CONTINUE);
		if (!err)
			err = ret;
	}
	return err;
}

/* Have nobody but @vcpu run, and its neighbours report when they would. */
static int stop_others(struct kvmi_debug *d, __u16 vcpu)
{
	struct kvmi_vm_get_info_reply info;
	struct debug_vcpu *v;
	unsigned int i;
	int err;

	err = kvmi_vm_get_info(d->dom, &info);
	if (err)
		return err;
	if (info.vcpu_count > UINT16_MAX + 1U)
		return kvmi_fail(-EPROTO, "%u vCPUs are more than there can be",
				 info.vcpu_count);
	for (i = 0; i < info.vcpu_count; i++) {
		v = get_vcpu(d, i);
		if (!v)
			return -ENOMEM;
		/* One whose pause has not come yet is held by that. */
		if (i == vcpu || v->why != RUNS || v->our_pauses)
			continue;
		v->our_pauses++;
		err = kvmi_vm_pause_vcpu(d->dom, i, true);
		if (err)
			v->our_pauses--;
		/* One that the guest has not started does not run. */
		if (err && err != -EAGAIN)
			return err;
	}
	return 0;
}

/* Have page and page faults be as the tool wants them. */
static int end_emulated(struct kvmi_debug *d, __u16 vcpu)
{
	struct kvmi_page_access_entry entry = {
		.gpa = d->fetch_gpa & KVMI_PAGE_MASK,
		.access = KVMI_PAGE_ACCESS_R | KVMI_PAGE_ACCESS_W | KVMI_PAGE_ACCESS_X,
	};
	int err, ret;

	d->way = STEP_NATIVE;
	d->irqs_off = false;
	kvmi_end_no_exec(d->dom);
	if (d->restore)
		return d->restore(d->restore_data, vcpu, entry.gpa);
	err = kvmi_vm_set_page_access(d->dom, &entry, 1, NULL);
	ret = kvmi_vcpu_control_events(d->dom, vcpu, KVMI_VCPU_EVENT_PF, false);
	return err ? err : ret;
}

/*
 * Right behind STI interrupts are off for the length of an instruction anyway,
 * and a CPU does not enter a guest that claims this with IF clear.
 */
static bool is_behind_sti(struct kvmi_debug *d, __u64 gpa)
{
	__u8 byte;

	return gpa & ~KVMI_PAGE_MASK &&
	       !kvmi_vm_read_physical(d->dom, gpa - 1, &byte, 1) && byte == INSN_STI;
}

/* The same without single-stepping; the others pause, the byte is in place. */
static int start_emulated(struct kvmi_debug *d, __u16 vcpu, __u64 gpa)
{
	struct kvm_regs regs = d->vcpus[vcpu].event.arch.regs;
	int err;

	d->way = STEP_TO_FETCH;
	d->fetch_gpa = gpa;
	err = kvmi_vcpu_control_events(d->dom, vcpu, KVMI_VCPU_EVENT_PF, true);
	if (!err)
		err = kvmi_start_no_exec(d->dom, gpa & KVMI_PAGE_MASK);
	if (!err && regs.rflags & RFLAGS_IF && !is_behind_sti(d, gpa)) {
		regs.rflags &= ~RFLAGS_IF;
		err = kvmi_vcpu_set_registers(d->dom, vcpu, &regs);
		d->irqs_off = !err;
	}
	if (err)
		kvmi_fail_prefix(err, "the host cannot single-step, so by emulation: ");
	return err;
}

/* Have a vCPU that waits make one step, with the breakpoint there out of the way. */
static int start_step(struct kvmi_debug *d, __u16 vcpu, bool user_step)
{
	struct debug_vcpu *v = &d->vcpus[vcpu];
	struct breakpoint *bp = NULL;
	int err;

	if (v->event.id == KVMI_VCPU_EVENT_BREAKPOINT)
		bp = find_breakpoint(d, v->event.breakpoint.gpa);
	d->stepping = vcpu;
	d->user_step = user_step;
	d->rip = v->event.arch.regs.rip;
	d->tries = 0;
	err = bp ? stop_others(d, vcpu) : 0;
	v = &d->vcpus[vcpu];		/* the array may have grown */
	if (!err && bp) {
		err = put_byte(d, bp->gpa, bp->byte);
		if (!err)
			d->lifted = bp;
	}
	if (!err)
		err = kvmi_vcpu_control_singlestep(d->dom, vcpu, true);
	if (err == -EOPNOTSUPP && d->lifted && !user_step)
		err = start_emulated(d, vcpu, bp->gpa);
	if (!err) {
		err = answer(d, v, v->event.id == KVMI_VCPU_EVENT_BREAKPOINT ?
			     KVMI_EVENT_ACTION_RETRY : KVMI_EVENT_ACTION_CONTINUE);
		return err;
	}
	/* Leave nothing behind, and the vCPU waiting as it was. */
	kvmi_fail_prefix(err, "vCPU %u: getting past rip 0x%llx: ", vcpu,
			 (unsigned long long)d->rip);
	if (d->lifted && put_byte(d, bp->gpa, INT3))
		kvmi_fail_prefix(err, "the breakpoint is lost, ");
	if (d->way != STEP_NATIVE)
		end_emulated(d, vcpu);
	d->lifted = NULL;
	d->stepping = -1;
	release_pauses(d);
	return err;
}

/* Let a vCPU go that waits, over the breakpoint that it may stand on. */
static int go_on(struct kvmi_debug *d, __u16 vcpu)
{
	struct debug_vcpu *v = &d->vcpus[vcpu];

	if (v->why != WAITS_HIT)
		return answer(d, v, KVMI_EVENT_ACTION_CONTINUE);
	/* Removed meanwhile: what is there now is the guest's own. */
	if (!find_breakpoint(d, v->event.breakpoint.gpa))
		return answer(d, v, KVMI_EVENT_ACTION_RETRY);
	return start_step(d, vcpu, false);
}

/* Whose turn is it? */
static int next_turn(struct kvmi_debug *d)
{
	unsigned int i;
	int err = 0;

	for (i = 0; i < d->nr_vcpus && d->stepping < 0 && !err; i++) {
		if (d->vcpus[i].wants_step)
			err = start_step(d, i, true);
		else if (d->vcpus[i].wants_go)
			err = go_on(d, i);
	}
	if (d->stepping < 0) {
		int ret = release_pauses(d);

		if (!err)
			err = ret;
	}
	pthread_cond_broadcast(&d->changed);
	return err;
}

/* The step is made: back to where it was before. */
static int finish_step(struct kvmi_debug *d)
{
	__u16 vcpu = d->stepping;
	int err = 0, ret;

	if (d->lifted)
		err = put_byte(d, d->lifted->gpa, INT3);
	d->lifted = NULL;
	if (d->way == STEP_NATIVE)
		ret = kvmi_vcpu_control_singlestep(d->dom, vcpu, false);
	else
		ret = end_emulated(d, vcpu);
	d->stepping = -1;
	if (!err)
		err = ret;
	if (d->vcpus[vcpu].pause_later) {
		d->vcpus[vcpu].pause_later = false;
		ret = kvmi_vm_pause_vcpu(d->dom, vcpu, false);
		if (!err)
			err = ret;
	}
	return err;
}

/* --- events --------------------------------------------------------------------- */

static int on_breakpoint(struct kvmi_debug *d, struct debug_vcpu *v,
			 const struct kvmi_event *event)
{
	__u64 gpa = event->breakpoint.gpa;
	struct breakpoint *bp = find_breakpoint(d, gpa);
	__u8 byte;
	int err;

	/* While it steps over one of ours that has replaced the guest's own INT3. */
	if (bp && bp == d->lifted && event->vcpu == d->stepping)
		return KVMI_DEBUG_FOREIGN;
	if (bp) {
		v->event = *event;
		v->why = WAITS_HIT;
		/* A step can end on the breakpoint where it began. */
		if (event->vcpu != d->stepping)
			return KVMI_DEBUG_HIT;
		err = finish_step(d);
		if (!err)
			err = next_turn(d);
		return err ? err : KVMI_DEBUG_HIT;
	}
	/* One that was removed after this vCPU ran into it? */
	err = kvmi_vm_read_physical(d->dom, gpa, &byte, 1);
	if (err == -ENOENT || (!err && byte == INT3))
		return KVMI_DEBUG_FOREIGN;
	if (!err)
		err = kvmi_event_reply(d->dom, event, KVMI_EVENT_ACTION_RETRY);
	return err ? err : KVMI_DEBUG_HANDLED;
}

/* The step is made; whoever asked for no more than that waits. */
static int end_step(struct kvmi_debug *d, struct debug_vcpu *v,
		    const struct kvmi_event *event)
{
	bool user_step = d->user_step;
	int err, ret;

	err = finish_step(d);
	v->event = *event;
	v->why = WAITS_STEPPED;
	if (!user_step) {
		ret = answer(d, v, KVMI_EVENT_ACTION_CONTINUE);
		if (!err)
			err = ret;
	}
	ret = next_turn(d);
	if (!err)
		err = ret;
	if (err)
		return err;
	return user_step ? KVMI_DEBUG_STEPPED : KVMI_DEBUG_HANDLED;
}

static int on_step(struct kvmi_debug *d, struct debug_vcpu *v,
		   const struct kvmi_event *event)
{
	int err;

	if (event->vcpu != d->stepping)
		return KVMI_DEBUG_FOREIGN;
	/* Something else came first, and the instruction has not been executed. */
	if (event->singlestep.failed && event->arch.regs.rip == d->rip &&
	    d->tries++ < STEP_TRIES) {
		err = kvmi_event_reply(d->dom, event, KVMI_EVENT_ACTION_CONTINUE);
		return err ? err : KVMI_DEBUG_HANDLED;
	}
	return end_step(d, v, event);
}

/* The fetch that is to be emulated? */
static int on_pf(struct kvmi_debug *d, struct debug_vcpu *v,
		 const struct kvmi_event *event)
{
	struct kvm_regs regs = event->arch.regs;
	int err = 0;

	if (event->vcpu != d->stepping || d->way == STEP_NATIVE ||
	    event->pf.access != KVMI_PAGE_ACCESS_X ||
	    (event->pf.gpa & KVMI_PAGE_MASK) != (d->fetch_gpa & KVMI_PAGE_MASK))
		return KVMI_DEBUG_FOREIGN;
	if (regs.rip == d->rip) {
		v->our_pauses++;
		err = kvmi_vm_pause_vcpu(d->dom, event->vcpu, false);
		if (err)
			v->our_pauses--;
		if (!err && d->irqs_off) {
			regs.rflags |= RFLAGS_IF;
			err = kvmi_vcpu_set_registers(d->dom, event->vcpu, &regs);
		}
		if (!err)
			err = kvmi_vcpu_control_events(d->dom, event->vcpu,
						       KVMI_VCPU_EVENT_PF, false);
		if (!err)
			d->way = STEP_TO_PAUSE;
	}
	/* Otherwise an NMI came first, whose handler is on the same page. */
	if (!err)
		err = kvmi_event_reply(d->dom, event, KVMI_EVENT_ACTION_CONTINUE);
	return err ? err : KVMI_DEBUG_HANDLED;
}

static int on_pause(struct kvmi_debug *d, struct debug_vcpu *v,
		    const struct kvmi_event *event)
{
	int err = 0;

	if (v->our_pauses) {
		v->our_pauses--;
		if (d->stepping == event->vcpu && d->way == STEP_TO_PAUSE)
			return end_step(d, v, event);
		v->event = *event;
		v->why = WAITS_TURN;
		/* The one that steps may have been asked before its turn came. */
		if (d->stepping < 0 || d->stepping == event->vcpu)
			err = answer(d, v, KVMI_EVENT_ACTION_CONTINUE);
		pthread_cond_broadcast(&d->changed);
		return err ? err : KVMI_DEBUG_HANDLED;
	}
	if (!v->user_pauses)
		return KVMI_DEBUG_FOREIGN;
	/* In the middle of a step all others would wait, too: after it. */
	if (d->stepping == event->vcpu) {
		v->pause_later = true;
		err = kvmi_event_reply(d->dom, event, KVMI_EVENT_ACTION_CONTINUE);
		return err ? err : KVMI_DEBUG_HANDLED;
	}
	v->user_pauses--;
	v->event = *event;
	v->why = WAITS_PAUSED;
	pthread_cond_broadcast(&d->changed);
	return KVMI_DEBUG_PAUSED;
}

/**
 * kvmi_debug_event - see whether an event is the debugger's
 * @debug: the debugger
 * @event: any event of the domain
 *
 * Give it all events of the kinds BREAKPOINT, SINGLESTEP, PAUSE and PF.  The
 * first has to be enabled on all vCPUs before breakpoints are inserted.
 *
 * Return: an enum kvmi_debug_result, or a negated errno.
 */
int kvmi_debug_event(struct kvmi_debug *debug, const struct kvmi_event *event)
{
	int (*handle)(struct kvmi_debug *d, struct debug_vcpu *v,
		      const struct kvmi_event *event);
	struct debug_vcpu *v;
	int ret;

	switch (event->id) {
	case KVMI_VCPU_EVENT_BREAKPOINT:
		handle = on_breakpoint;
		break;
	case KVMI_VCPU_EVENT_SINGLESTEP:
		handle = on_step;
		break;
	case KVMI_VCPU_EVENT_PAUSE:
		handle = on_pause;
		break;
	case KVMI_VCPU_EVENT_PF:
		handle = on_pf;
		break;
	default:
		return KVMI_DEBUG_FOREIGN;
	}
	pthread_mutex_lock(&debug->lock);
	v = get_vcpu(debug, event->vcpu);
	ret = v ? handle(debug, v, event) : -ENOMEM;
	pthread_mutex_unlock(&debug->lock);
	return ret;
}

/* --- what a debugger asks for ------------------------------------------------------ */

/**
 * kvmi_debug_new - make a debugger for a domain
 * @dom: the domain; one debugger is enough for it
 * @debug: the debugger
 *
 * Return: 0 or a negated errno.
 */
int kvmi_debug_new(struct kvmi_dom *dom, struct kvmi_debug **debug)
{
	struct kvmi_debug *d = calloc(1, sizeof(*d));
	pthread_condattr_t attr;

	if (!d)
		return kvmi_fail(-ENOMEM, "out of memory for a debugger");
	d->dom = dom;
	d->stepping = -1;
	LIST_INIT(&d->breakpoints);
	pthread_mutex_init(&d->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&d->changed, &attr);
	pthread_condattr_destroy(&attr);
	*debug = d;
	return 0;
}

/**
 * kvmi_debug_free - free a debugger
 * @debug: the debugger, or NULL
 *
 * Changes nothing in the guest: kvmi_debug_finish() does.
 */
void kvmi_debug_free(struct kvmi_debug *debug)
{
	struct breakpoint *bp;

	if (!debug)
		return;
	while ((bp = LIST_FIRST(&debug->breakpoints))) {
		LIST_REMOVE(bp, entry);
		free(bp);
	}
	pthread_cond_destroy(&debug->changed);
	pthread_mutex_destroy(&debug->lock);
	free(debug->vcpus);
	free(debug);
}

/**
 * kvmi_debug_on_restore - for a tool that restricts pages, too
 * @debug: the debugger
 * @restore: called with @data after a vCPU has got past a breakpoint on a host
 *	that cannot single-step: it is to set the access of the page at @gpa
 *	(kvmi_vm_set_page_access()), and whether page faults of that vCPU are
 *	reported, to what the tool wants; returns 0 or a negated errno
 * @data: see there
 *
 * Without it the page can be accessed in all ways then, and the vCPU reports no
 * page faults.  @restore must not call the debugger.
 */
void kvmi_debug_on_restore(struct kvmi_debug *debug,
			   int (*restore)(void *data, __u16 vcpu, __u64 gpa),
			   void *data)
{
	pthread_mutex_lock(&debug->lock);
	debug->restore = restore;
	debug->restore_data = data;
	pthread_mutex_unlock(&debug->lock);
}

static int insert(struct kvmi_debug *d, __u64 gpa)
{
	struct breakpoint *bp = find_breakpoint(d, gpa);
	int err;

	if (bp) {
		bp->refs++;
		return 0;
	}
	bp = calloc(1, sizeof(*bp));
	if (!bp)
		return kvmi_fail(-ENOMEM, "out of memory for a breakpoint");
	bp->gpa = gpa;
	bp->refs = 1;
	err = kvmi_vm_read_physical(d->dom, gpa, &bp->byte, 1);
	/* First, so that a hit finds it. */
	LIST_INSERT_HEAD(&d->breakpoints, bp, entry);
	if (!err)
		err = put_byte(d, gpa, INT3);
	if (err) {
		LIST_REMOVE(bp, entry);
		free(bp);
	}
	return err;
}

/**
 * kvmi_debug_insert - have the guest stop where it executes something
 * @debug: the debugger
 * @gpa: the guest physical address of the first byte of an instruction
 *
 * Inserted twice, it has to be removed twice.
 *
 * Return: 0 or a negated errno; -ENOENT if the guest has no memory there.
 */
int kvmi_debug_insert(struct kvmi_debug *debug, __u64 gpa)
{
	int err;

	pthread_mutex_lock(&debug->lock);
	err = insert(debug, gpa);
	pthread_mutex_unlock(&debug->lock);
	return err;
}

static int remove_breakpoint(struct kvmi_debug *d, struct breakpoint *bp)
{
	int err = 0;

	/* While it is lifted what is there is the guest's own already. */
	if (bp == d->lifted)
		d->lifted = NULL;
	else
		err = put_byte(d, bp->gpa, bp->byte);
	LIST_REMOVE(bp, entry);
	free(bp);
	return err;
}

/**
 * kvmi_debug_remove - take a breakpoint away
 * @debug: the debugger
 * @gpa: where it is
 *
 * A vCPU that waits there still waits for kvmi_debug_continue().
 *
 * Return: 0 or a negated errno; -ENOENT if there is none.
 */
int kvmi_debug_remove(struct kvmi_debug *debug, __u64 gpa)
{
	struct breakpoint *bp;
	int err = 0;

	pthread_mutex_lock(&debug->lock);
	bp = find_breakpoint(debug, gpa);
	if (!bp)
		err = kvmi_fail(-ENOENT, "gpa 0x%llx: there is no breakpoint",
				(unsigned long long)gpa);
	else if (!--bp->refs)
		err = remove_breakpoint(debug, bp);
	pthread_mutex_unlock(&debug->lock);
	return err;
}

/**
 * kvmi_debug_pause - have a vCPU stop
 * @debug: the debugger
 * @vcpu: the vCPU
 *
 * It executes nothing more when this returns.  kvmi_debug_event() tells
 * KVMI_DEBUG_PAUSED when it waits, which for a vCPU that the VMM has busy
 * elsewhere can take long.
 *
 * Return: 0 or a negated errno; -EBUSY if it waits already, or will.
 */
int kvmi_debug_pause(struct kvmi_debug *debug, __u16 vcpu)
{
	struct debug_vcpu *v;
	int err = -ENOMEM;

	pthread_mutex_lock(&debug->lock);
	v = get_vcpu(debug, vcpu);
	if (v && ((v->why != RUNS && v->why != WAITS_TURN) || v->user_pauses)) {
		err = kvmi_fail(-EBUSY, "vCPU %u: is stopped already", vcpu);
	} else if (v) {
		v->user_pauses++;
		err = kvmi_vm_pause_vcpu(debug->dom, vcpu, true);
		if (err)
			v->user_pauses--;
	}
	pthread_mutex_unlock(&debug->lock);
	return err;
}

/* A vCPU that waits for the user, or NULL. */
static struct debug_vcpu *waiting_vcpu(struct kvmi_debug *d, __u16 vcpu)
{
	struct debug_vcpu *v = vcpu < d->nr_vcpus ? &d->vcpus[vcpu] : NULL;

	if (v && v->why != RUNS && v->why != WAITS_TURN && !v->wants_go && !v->wants_step)
		return v;
	kvmi_fail(-ENOENT, "vCPU %u: is not stopped", vcpu);
	return NULL;
}

/* For one step or for good, when it is its turn. */
static int let_go(struct kvmi_debug *d, __u16 vcpu, bool step)
{
	struct debug_vcpu *v;
	int err = 0;

	pthread_mutex_lock(&d->lock);
	v = waiting_vcpu(d, vcpu);
	if (!v)
		err = -ENOENT;
	else if (d->stepping < 0 || !(step || v->why == WAITS_HIT))
		err = step ? start_step(d, vcpu, true) : go_on(d, vcpu);
	else if (step)
		v->wants_step = true;
	else
		v->wants_go = true;
	pthread_mutex_unlock(&d->lock);
	return err;
}

/**
 * kvmi_debug_step - have a vCPU that waits execute one instruction
 * @debug: the debugger
 * @vcpu: the vCPU
 *
 * KVMI_DEBUG_STEPPED follows.
 *
 * Return: 0 or a negated errno; -ENOENT if it does not wait, -EOPNOTSUPP if the
 * host cannot single-step.
 */
int kvmi_debug_step(struct kvmi_debug *debug, __u16 vcpu)
{
	return let_go(debug, vcpu, true);
}

/**
 * kvmi_debug_continue - let a vCPU go on that waits
 * @debug: the debugger
 * @vcpu: the vCPU
 *
 * If it stands on a breakpoint it gets past it, and no other vCPU does so
 * unseen.  On a host that cannot single-step KVM emulates the instruction that
 * is there, which it has to know; if the instruction does not come to its end
 * because of an exception, or repeats itself, it is hit once more; and what
 * kvmi_vcpu_set_registers() has said since the hit is lost.
 *
 * Return: 0 or a negated errno; -ENOENT if it does not wait.
 */
int kvmi_debug_continue(struct kvmi_debug *debug, __u16 vcpu)
{
	return let_go(debug, vcpu, false);
}

/**
 * kvmi_debug_waiting - does a vCPU wait for kvmi_debug_continue()?
 * @debug: the debugger
 * @vcpu: the vCPU
 * @event: the event that it reported, with its registers; can be NULL
 *
 * Return: 1 if so, 0 if not.
 */
int kvmi_debug_waiting(struct kvmi_debug *debug, __u16 vcpu, struct kvmi_event *event)
{
	struct debug_vcpu *v;

	pthread_mutex_lock(&debug->lock);
	v = waiting_vcpu(debug, vcpu);
	if (v && event)
		*event = v->event;
	pthread_mutex_unlock(&debug->lock);
	return v ? 1 : 0;
}

static bool is_quiet(const struct kvmi_debug *d)
{
	unsigned int i;

	if (d->stepping >= 0)
		return false;
	for (i = 0; i < d->nr_vcpus; i++)
		if (d->vcpus[i].our_pauses)
			return false;
	return true;
}

/**
 * kvmi_debug_finish - have the guest be as if there had been no debugger
 * @debug: the debugger
 * @timeout_ms: how long to wait for vCPUs
 *
 * Removes all breakpoints and lets all vCPUs go on, and waits until each has
 * told of the breakpoint that it may have run into just before: if the
 * connection ended then, KVM would give that INT3 to the guest, which does not
 * know of it.  Another thread has to go on with kvmi_debug_event() meanwhile.
 *
 * Return: 0 or a negated errno; -ETIMEDOUT if some vCPU did not run, which does
 * no harm if the VMM has stopped it.
 */
int kvmi_debug_finish(struct kvmi_debug *debug, int timeout_ms)
{
	__u64 deadline = kvmi_deadline(timeout_ms);
	struct breakpoint *bp, *next;
	struct timespec ts;
	bool had_some;
	unsigned int i;
	int err = 0, ret;

	ts.tv_sec = deadline / NSEC_PER_SEC;
	ts.tv_nsec = deadline % NSEC_PER_SEC;
	pthread_mutex_lock(&debug->lock);
	had_some = !LIST_EMPTY(&debug->breakpoints);
	for (bp = LIST_FIRST(&debug->breakpoints); bp; bp = next) {
		next = LIST_NEXT(bp, entry);
		ret = remove_breakpoint(debug, bp);
		if (!err)
			err = ret;
	}
	for (i = 0; i < debug->nr_vcpus; i++) {
		struct debug_vcpu *v = &debug->vcpus[i];

		if (v->why == RUNS || v->why == WAITS_TURN)
			continue;
		ret = answer(debug, v, v->why == WAITS_HIT ? KVMI_EVENT_ACTION_RETRY :
			     KVMI_EVENT_ACTION_CONTINUE);
		if (!err)
			err = ret;
	}
	/* All that each one has to tell comes before its pause. */
	if (had_some && !err)
		err = stop_others(debug, UINT16_MAX);
	while (!err && !is_quiet(debug))
		if (pthread_cond_timedwait(&debug->changed, &debug->lock, &ts))
			err = kvmi_fail(-ETIMEDOUT, "a vCPU did not run in %d ms",
					timeout_ms);
	pthread_mutex_unlock(&debug->lock);
	return err;
}
