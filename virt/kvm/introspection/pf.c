// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM introspection: from an access that breaks a restriction to its outcome
 *
 * The architecture finds such an access in two places: in the fault that the
 * hardware raised, or in KVM's instruction emulator.  In both it gives up the
 * instruction before that had any effect, and calls kvmi_pf_raise().  The rest
 * is done from vcpu_run(), with no lock held (kvmi_pf_resolve()): the event,
 * and then, on CONTINUE, the access is noted as allowed and the instruction
 * started again.  If it makes another access that breaks a restriction, it is
 * given up and started again once more.  So each access is reported once, and
 * RETRY needs nothing but to enter the guest again.
 *
 * What the emulator does exactly as the CPU would, it does (the architecture
 * knows).  All else goes on natively: the vCPU executes that one instruction
 * as a step, with a translation of its own in which the pages permit what was
 * allowed, and nobody else can use them meanwhile.  The order of its events is
 * then that in which the CPU makes the accesses; but what it would not fault on,
 * as the page has to permit more than was allowed, is asked for before.  A CPU
 * that cannot step leaves all of it to the emulator.
 *
 * An access that nobody wants to hear of, but that the mapping cannot permit,
 * takes the same way without the event.  So do the CPU's accesses to its
 * guest's page tables, unless the tool wants to hear of these, too.  Then all
 * instructions go on natively: the emulator does not tell of its walks.
 *
 * When the hardware was delivering an interrupt or exception to the guest,
 * there is no instruction: until the vCPU has delivered it, the page permits the
 * access, in a translation of the vCPU's own, too.  It enters the guest for just
 * that.  What the CPU would not fault on is asked for before here as well.
 *
 * The translations are few.  A vCPU that gets none does not enter the guest,
 * but tries again with every tick of the clock: it is for others, and for their
 * tool and VMM, to be done first.
 *
 * vcpui->pf belongs to the vCPU's thread, no lock needed.
 */

#include "kvmi_int.h"

/* ---- what may be done to which pages ---- */

static void kvmi_pf_forget(struct kvmi_pf_pages *pages)
{
	pages->nr = 0;
	pages->next = 0;
}

static struct kvmi_pf_page *kvmi_pf_find(struct kvmi_pf_pages *pages, gfn_t gfn)
{
	u8 i;

	for (i = 0; i < pages->nr; i++)
		if (pages->page[i].gfn == gfn)
			return &pages->page[i];

	return NULL;
}

/* What gathers from more pages than there is room for makes progress. */
static struct kvmi_pf_page *kvmi_pf_add(struct kvmi_pf_pages *pages, gfn_t gfn)
{
	struct kvmi_pf_page *page = &pages->page[pages->next];

	page->gfn = gfn;
	page->reported = 0;
	page->relaxed = 0;
	pages->next = (pages->next + 1) % ARRAY_SIZE(pages->page);
	pages->nr = min_t(u8, pages->nr + 1, ARRAY_SIZE(pages->page));

	return page;
}

static void kvmi_pf_let(struct kvmi_pf_pages *pages, const struct kvmi_pf *pf)
{
	gfn_t gfn = gpa_to_gfn(pf->gpa);
	struct kvmi_pf_page *page;

	page = kvmi_pf_find(pages, gfn) ?: kvmi_pf_add(pages, gfn);
	page->relaxed |= pf->access;
	if (pf->cause == KVMI_PF_BY_GUEST)
		page->reported |= pf->access;
}

static u8 kvmi_pf_reported(struct kvmi_pf_pages *pages, gfn_t gfn)
{
	struct kvmi_pf_page *page = kvmi_pf_find(pages, gfn);

	return page ? page->reported : 0;
}

static u8 kvmi_pf_lets(struct kvmi_pf_pages *pages, gfn_t gfn)
{
	struct kvmi_pf_page *page = kvmi_pf_find(pages, gfn);

	return page ? page->relaxed : 0;
}

/* ---- an access that breaks a restriction ---- */

/**
 * kvmi_pf_native_faulted - is an exception on its way instead of a step's end?
 * @vcpu: the vCPU, on its thread
 * @pf: its accesses that break a restriction
 */
bool kvmi_pf_native_faulted(struct kvm_vcpu *vcpu, const struct kvmi_pf *pf)
{
	return pf->native && kvmi_arch_vcpu_is_delivering(vcpu);
}

/* The pages stay open until the exception is delivered, wherever RIP is. */
static bool kvmi_pf_is_native_open(struct kvm_vcpu *vcpu, const struct kvmi_pf *pf)
{
	return pf->native && (kvmi_is_at_insn(vcpu, &pf->insn) ||
			      kvmi_arch_vcpu_is_delivering(vcpu));
}

static void kvmi_pf_set_insn(struct kvm_vcpu *vcpu, struct kvmi_pf *pf)
{
	if (kvmi_is_at_insn(vcpu, &pf->insn))
		return;

	if (!kvmi_pf_native_faulted(vcpu, pf))
		kvmi_pf_forget(&pf->insn_may);
	kvmi_arch_get_insn(vcpu, &pf->insn);
}

/**
 * kvmi_pf_raise - an access was given up because of a restriction
 * @vcpu: the vCPU, on its thread, in a kvm->srcu section
 * @gva: the linear address, ~0 if it is not known for certain
 * @gpa: the guest-physical address
 * @access: the kind of access, one KVMI_PAGE_ACCESS_* bit
 * @cause: whose access it is, and whether the tool is to hear of it
 * @delivering: it belongs to the delivery of an interrupt or exception
 *
 * The caller enters the guest again, or so it thinks.
 */
void kvmi_pf_raise(struct kvm_vcpu *vcpu, gva_t gva, gpa_t gpa, u8 access,
		   enum kvmi_pf_cause cause, bool delivering)
{
	struct kvm_vcpu_introspection *vcpui = kvmi_vcpu(vcpu);
	struct kvmi_pf *pf;

	/* Unhooked meanwhile: the restrictions are gone. */
	if (!vcpui)
		return;

	pf = &vcpui->pf;
	kvmi_pf_set_insn(vcpu, pf);
	pf->gva = gva;
	pf->gpa = gpa;
	pf->access = access;
	pf->cause = cause;
	pf->delivering = delivering;
	pf->pending = true;

	kvm_make_request(KVM_REQ_INTROSPECTION, vcpu);
}

/**
 * kvmi_pf_wants_walks - is the tool to hear of page walks?
 * @vcpu: the vCPU, on its thread, in a kvm->srcu section
 */
bool kvmi_pf_wants_walks(struct kvm_vcpu *vcpu)
{
	struct kvm_vcpu_introspection *vcpui = kvmi_vcpu(vcpu);

	return vcpui && vcpui->pf_walks &&
	       kvmi_is_event_enabled(vcpu, KVMI_VCPU_EVENT_PF);
}

/**
 * kvmi_pf_is_pending - was the current instruction given up?
 * @vcpu: the vCPU, on its thread, in a kvm->srcu section
 */
bool kvmi_pf_is_pending(struct kvm_vcpu *vcpu)
{
	struct kvm_vcpu_introspection *vcpui = kvmi_vcpu(vcpu);

	return vcpui && vcpui->pf.pending;
}

/**
 * kvmi_pf_is_allowed - has the tool let the current instruction do this?
 * @vcpu: the vCPU, on its thread, in a kvm->srcu section
 * @gfn: the page
 * @access: the kind of access, one KVMI_PAGE_ACCESS_* bit
 * @delivering: it is not the instruction, but the delivery of something
 */
bool kvmi_pf_is_allowed(struct kvm_vcpu *vcpu, gfn_t gfn, u8 access,
			bool delivering)
{
	struct kvm_vcpu_introspection *vcpui = kvmi_vcpu(vcpu);
	struct kvmi_pf *pf;

	if (!vcpui)
		return false;

	pf = &vcpui->pf;
	if (delivering)
		return kvmi_pf_reported(&pf->delivery_may, gfn) & access;

	return kvmi_is_at_insn(vcpu, &pf->insn) &&
	       (kvmi_pf_reported(&pf->insn_may, gfn) & access);
}

/**
 * kvmi_pf_relaxed - what a page permits to a vCPU with a translation of its own
 * @vcpu: the vCPU, on its thread, in a kvm->srcu section
 * @gfn: the page
 *
 * Return: KVMI_PAGE_ACCESS_* bits that are not to be enforced.
 */
u8 kvmi_pf_relaxed(struct kvm_vcpu *vcpu, gfn_t gfn)
{
	struct kvm_vcpu_introspection *vcpui = kvmi_vcpu(vcpu);
	struct kvmi_pf *pf;
	u8 relaxed;

	if (!vcpui)
		return 0;

	pf = &vcpui->pf;
	relaxed = kvmi_pf_lets(&pf->delivery_may, gfn);
	if (kvmi_pf_is_native_open(vcpu, pf))
		relaxed |= kvmi_pf_lets(&pf->insn_may, gfn);

	return relaxed;
}

static bool kvmi_pf_any(struct kvm_vcpu *vcpu, const struct kvmi_pf_pages *pages,
			kvmi_pf_page_fn fn, bool arg)
{
	u8 i;

	for (i = 0; i < pages->nr; i++)
		if (fn(vcpu, pages->page[i].gfn, arg))
			return true;

	return false;
}

/**
 * kvmi_pf_any_relaxed - is this so for one of the pages of kvmi_pf_relaxed()?
 * @vcpu: the vCPU, on its thread, in a kvm->srcu section
 * @fn: what says so of a page
 * @arg: given to it
 */
bool kvmi_pf_any_relaxed(struct kvm_vcpu *vcpu, kvmi_pf_page_fn fn, bool arg)
{
	struct kvm_vcpu_introspection *vcpui = kvmi_vcpu(vcpu);
	struct kvmi_pf *pf;

	if (!vcpui)
		return false;

	pf = &vcpui->pf;
	return kvmi_pf_any(vcpu, &pf->delivery_may, fn, arg) ||
	       (kvmi_pf_is_native_open(vcpu, pf) &&
		kvmi_pf_any(vcpu, &pf->insn_may, fn, arg));
}

/**
 * kvmi_pf_is_relaxing - are there pages to relax on behalf of this vCPU?
 * @vcpu: the vCPU, on its thread, in a kvm->srcu section
 */
bool kvmi_pf_is_relaxing(struct kvm_vcpu *vcpu)
{
	struct kvm_vcpu_introspection *vcpui = kvmi_vcpu(vcpu);

	return vcpui && vcpui->pf.delivery_may.nr;
}

static void kvmi_pf_end_native(struct kvm_vcpu *vcpu, struct kvmi_pf *pf)
{
	pf->native = false;
	kvmi_arch_native_end(vcpu);
}

/*
 * What the instruction was let do is not let to the delivery of its exception.
 * One access after the other, that of the instruction first.
 */
static void kvmi_pf_look_at_delivery(struct kvm_vcpu *vcpu,
				     const struct kvmi_pf *pf)
{
	if (kvmi_pf_native_faulted(vcpu, pf) && !pf->pending)
		kvmi_arch_pf_unseen(vcpu);
}

/*
 * The CPU steps through a string, but to the tool that is one instruction, if it
 * does not want to see the steps.
 */
static void kvmi_pf_look_at_native(struct kvm_vcpu *vcpu,
				   struct kvm_vcpu_introspection *vcpui)
{
	bool failed;

	if (!vcpui->pf.native)
		return;

	if (kvmi_arch_step_has_left(vcpu)) {
		kvmi_pf_end_native(vcpu, &vcpui->pf);
		return;
	}

	if (!kvmi_arch_step_is_over(vcpu, &failed)) {
		kvmi_pf_look_at_delivery(vcpu, &vcpui->pf);
		return;
	}

	if (failed || kvmi_is_singlestepping(vcpui) ||
	    !kvmi_arch_native_goes_on(vcpu))
		kvmi_pf_end_native(vcpu, &vcpui->pf);
	else
		kvmi_arch_pf_unseen(vcpu);
}

/**
 * kvmi_pf_enter - right before the guest is entered
 * @vcpu: the vCPU, on its thread, in a kvm->srcu section
 * @vcpui: its introspection
 *
 * Gives the vCPU a translation of its own if it needs one.  An exception that the
 * tool injects has been queued since kvmi_pf_left().
 */
void kvmi_pf_enter(struct kvm_vcpu *vcpu,
		   struct kvm_vcpu_introspection *vcpui)
{
	struct kvmi_pf *pf = &vcpui->pf;

	kvmi_pf_look_at_delivery(vcpu, pf);

	if ((!pf->native && !pf->delivery_may.nr) || kvmi_arch_own_root_begin(vcpu))
		return;

	/* This keeps it out of the guest, and brings it back here. */
	kvm_make_request(KVM_REQ_INTROSPECTION, vcpu);
	schedule_timeout_interruptible(1);
}

/**
 * kvmi_pf_left - the guest was left: who is done with its own translation?
 * @vcpu: the vCPU, on its thread, in a kvm->srcu section
 * @vcpui: its introspection
 *
 * Pages stay relaxed until what they were relaxed for is delivered.
 */
void kvmi_pf_left(struct kvm_vcpu *vcpu,
		  struct kvm_vcpu_introspection *vcpui)
{
	struct kvmi_pf *pf = &vcpui->pf;
	bool was_native = pf->native;
	bool had_pages = pf->delivery_may.nr;
	bool has_pages;

	/* What is on its way now may be something else, which the VMM has queued. */
	if (kvmi_arch_has_delivered(vcpu) || !kvmi_arch_vcpu_is_delivering(vcpu))
		kvmi_pf_forget(&pf->delivery_may);

	kvmi_pf_look_at_native(vcpu, vcpui);

	has_pages = pf->delivery_may.nr;
	/* Whichever of the two goes on, it does without the pages of the other. */
	if (was_native != pf->native || had_pages != has_pages ||
	    (!pf->native && !has_pages))
		kvmi_arch_own_root_end(vcpu);
}

/*
 * Start the instruction or delivery again.  With a translation of its own, it finds
 * nothing of what it was allowed so far: it would not fault again.
 */
static int kvmi_pf_retry(struct kvm_vcpu *vcpu, struct kvmi_pf *pf)
{
	if (!pf->native && !pf->delivery_may.nr)
		return 1;

	if (pf->native)
		kvmi_pf_end_native(vcpu, pf);
	kvmi_pf_forget(&pf->insn_may);
	kvmi_pf_forget(&pf->delivery_may);
	kvmi_arch_own_root_end(vcpu);

	return 1;
}

/* Does what made the access worth an event still hold? */
static bool kvmi_pf_is_current(struct kvm_vcpu *vcpu,
			       struct kvm_vcpu_introspection *vcpui)
{
	struct kvmi_pf *pf = &vcpui->pf;

	return kvmi_is_event_enabled(vcpu, KVMI_VCPU_EVENT_PF) &&
	       (pf->cause != KVMI_PF_BY_WALK || vcpui->pf_walks) &&
	       kvmi_is_at_insn(vcpu, &pf->insn) &&
	       (kvmi_access_denied(vcpu->kvm, gpa_to_gfn(pf->gpa)) & pf->access);
}

static int kvmi_pf_event(struct kvm_vcpu *vcpu, struct kvmi_pf *pf)
{
	struct kvmi_vcpu_event_pf ev = {
		.gva = pf->gva,
		.gpa = pf->gpa,
		.access = pf->access,
		.flags = pf->cause == KVMI_PF_BY_WALK ? KVMI_PF_WALK : 0,
	};

	return kvmi_vcpu_event(vcpu, KVMI_VCPU_EVENT_PF,
			       BIT(KVMI_EVENT_ACTION_CONTINUE) |
			       BIT(KVMI_EVENT_ACTION_RETRY) |
			       BIT(KVMI_EVENT_ACTION_CRASH),
			       &ev, sizeof(ev));
}

static int kvmi_pf_continue(struct kvm_vcpu *vcpu, struct kvmi_pf *pf)
{
	int r;

	/*
	 * The tool or the VMM may have moved the vCPU elsewhere while the
	 * event waited.
	 */
	if (!kvmi_is_at_insn(vcpu, &pf->insn))
		return 1;

	/*
	 * If the VMM has queued an interrupt since, that is delivered first
	 * and the access tried again.
	 */
	if (kvmi_arch_vcpu_is_delivering(vcpu)) {
		if (pf->delivering)
			kvmi_pf_let(&pf->delivery_may, pf);
		kvmi_arch_pf_unseen(vcpu);
		return 1;
	}

	kvmi_pf_let(&pf->insn_may, pf);

	if (!pf->native) {
		r = kvmi_arch_pf_continue(vcpu);
		if (r != KVMI_GO_ON_NATIVELY)
			return r;
		kvmi_arch_native_begin(vcpu);
		pf->native = true;
	}
	kvmi_arch_pf_unseen(vcpu);

	return 1;
}

/**
 * kvmi_pf_resolve - report an access that breaks a restriction
 * @vcpu: the vCPU, on its thread, in a kvm->srcu section, left meanwhile
 * @vcpui: its introspection
 *
 * Return: 1 to go on with the guest, 0 to exit to user space, or -EINTR.
 */
int kvmi_pf_resolve(struct kvm_vcpu *vcpu,
		    struct kvm_vcpu_introspection *vcpui)
{
	struct kvmi_pf *pf = &vcpui->pf;
	bool sent = kvmi_is_event_under_way(vcpui, KVMI_VCPU_EVENT_PF);
	int action = KVMI_EVENT_ACTION_CONTINUE;

	if (!pf->pending)
		return 1;

	if (pf->cause != KVMI_PF_SILENT) {
		if (!sent && !kvmi_pf_is_current(vcpu, vcpui))
			action = KVMI_EVENT_ACTION_RETRY;
		else
			action = kvmi_pf_event(vcpu, pf);
	}
	if (action < 0)
		return action;

	/* Whatever the instruction does next may be pending again. */
	pf->pending = false;

	/* The last word of a tool that has gone since counts, too. */
	if (action == KVMI_EVENT_ACTION_CRASH)
		return kvmi_vcpu_crash(vcpu);

	if (action == KVMI_EVENT_ACTION_RETRY)
		return kvmi_pf_retry(vcpu, pf);

	/* Without a tool there are no restrictions. */
	return kvmi_is_dead(vcpui->kvmi) ? 1 : kvmi_pf_continue(vcpu, pf);
}
