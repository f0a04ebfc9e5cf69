// SPDX-License-Identifier: GPL-2.0
/*
 * Registers, memory by virtual address, and vCPUs that stand still, step and
 * run into breakpoints.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"
#include "guest-pt.h"
#include "vm-internal.h"

#define STOP_TIMEOUT_MS		5000	/* for a vCPU to stand still, or to step */

/* --- registers ----------------------------------------------------------------- */

static void add_segment(struct json_object *out, const char *name,
			const struct kvm_segment *s)
{
	struct json_object *o = json_object_new_object();

	json_add_int(o, "selector", s->selector);
	json_add_hex(o, "base", s->base);
	json_add_hex(o, "limit", s->limit);
	json_add_int(o, "dpl", s->dpl);
	json_object_object_add(out, name, o);
}

static void add_table(struct json_object *out, const char *name,
		      const struct kvm_dtable *t)
{
	struct json_object *o = json_object_new_object();

	json_add_hex(o, "base", t->base);
	json_add_hex(o, "limit", t->limit);
	json_object_object_add(out, name, o);
}

static void add_regs(struct json_object *o, const struct kvmi_registers *r)
{
	const struct kvm_sregs *s = &r->sregs;

	json_add_int(o, "mode", r->mode);
	json_add_int(o, "cpl", s->ss.dpl);
	json_add_hex(o, "rax", r->regs.rax);
	json_add_hex(o, "rbx", r->regs.rbx);
	json_add_hex(o, "rcx", r->regs.rcx);
	json_add_hex(o, "rdx", r->regs.rdx);
	json_add_hex(o, "rsi", r->regs.rsi);
	json_add_hex(o, "rdi", r->regs.rdi);
	json_add_hex(o, "rsp", r->regs.rsp);
	json_add_hex(o, "rbp", r->regs.rbp);
	json_add_hex(o, "r8", r->regs.r8);
	json_add_hex(o, "r9", r->regs.r9);
	json_add_hex(o, "r10", r->regs.r10);
	json_add_hex(o, "r11", r->regs.r11);
	json_add_hex(o, "r12", r->regs.r12);
	json_add_hex(o, "r13", r->regs.r13);
	json_add_hex(o, "r14", r->regs.r14);
	json_add_hex(o, "r15", r->regs.r15);
	json_add_hex(o, "rip", r->regs.rip);
	json_add_hex(o, "rflags", r->regs.rflags);
	json_add_hex(o, "cr0", s->cr0);
	json_add_hex(o, "cr2", s->cr2);
	json_add_hex(o, "cr3", s->cr3);
	json_add_hex(o, "cr4", s->cr4);
	json_add_hex(o, "cr8", s->cr8);
	json_add_hex(o, "efer", s->efer);
	json_add_hex(o, "apic_base", s->apic_base);
	add_segment(o, "cs", &s->cs);
	add_segment(o, "ds", &s->ds);
	add_segment(o, "es", &s->es);
	add_segment(o, "fs", &s->fs);
	add_segment(o, "gs", &s->gs);
	add_segment(o, "ss", &s->ss);
	add_segment(o, "tr", &s->tr);
	add_segment(o, "ldt", &s->ldt);
	add_table(o, "gdt", &s->gdt);
	add_table(o, "idt", &s->idt);
}

static int add_vcpu(struct vm *vm, uint16_t vcpu, const uint32_t *msrs,
		    unsigned int nmsrs, struct json_object *list)
{
	struct json_object *o, *values, *value;
	struct kvm_msr_entry *entries;
	struct kvmi_registers r;
	unsigned int i;
	int err;

	entries = calloc(nmsrs + 1, sizeof(*entries));
	if (!entries)
		return fail(KVMI_EXIT_FAILED, "out of memory");
	for (i = 0; i < nmsrs; i++)
		entries[i].index = msrs[i];
	err = kvmi_vcpu_get_registers(vm->dom, vcpu, &r, entries, nmsrs);
	if (err && err != -EAGAIN) {
		free(entries);
		return fail_vm(vm, err);
	}
	o = json_object_new_object();
	json_add_int(o, "vcpu", vcpu);
	if (err) {
		json_add_string(o, "error", kvmi_error());
	} else {
		add_regs(o, &r);
		values = json_object_new_array();
		for (i = 0; i < nmsrs; i++) {
			value = json_object_new_object();
			json_add_hex(value, "msr", entries[i].index);
			json_add_hex(value, "value", entries[i].data);
			json_object_array_add(values, value);
		}
		json_object_object_add(o, "msrs", values);
	}
	json_object_array_add(list, o);
	free(entries);
	return 0;
}

/* Those that are meant: from *first on, below *end. */
static int vcpu_range(struct vm *vm, int vcpu, uint32_t *first, uint32_t *end)
{
	struct kvmi_vm_get_info_reply info;
	int err;

	*first = *end = 0;
	err = kvmi_vm_get_info(vm->dom, &info);
	if (err)
		return fail_vm(vm, err);
	if (vcpu >= (int64_t)info.vcpu_count)
		return fail(KVMI_EXIT_NOT_FOUND, "VM %u (%s): there is no vCPU %d, only %u of them",
			    vm->number, vm->hello.name, vcpu, info.vcpu_count);
	*first = vcpu < 0 ? 0 : vcpu;
	*end = vcpu < 0 ? info.vcpu_count : (uint32_t)vcpu + 1;
	return 0;
}

int vm_regs(struct vm *vm, int vcpu, const uint32_t *msrs, unsigned int nmsrs,
	    struct json_object *out)
{
	struct json_object *list;
	uint32_t i, end;
	int err;

	err = check_allowed(vm, KVMI_VCPU_GET_REGISTERS);
	if (!err)
		err = vcpu_range(vm, vcpu, &i, &end);
	if (err)
		return err;
	vm_describe(vm, out);
	list = json_object_new_array();
	json_object_object_add(out, "vcpus", list);
	for (; !err && i < end; i++)
		err = add_vcpu(vm, i, msrs, nmsrs, list);
	return err;
}

/* --- memory ------------------------------------------------------------------------ */

/* By the guest's page tables, where KVM is not to be asked. */
static int walk(struct vm *vm, uint16_t vcpu, uint64_t gva, uint64_t *gpa)
{
	struct kvmi_registers r;
	struct guest_mapping m;
	struct guest_pt *pt;
	int err;

	err = kvmi_vcpu_get_registers(vm->dom, vcpu, &r, NULL, 0);
	if (err)
		return fail_vm(vm, err);
	pt = malloc(sizeof(*pt));
	if (!pt)
		return fail(KVMI_EXIT_FAILED, "out of memory");
	err = guest_pt_init(pt, read_guest, vm, r.sregs.cr0, r.sregs.cr3, r.sregs.cr4,
			    r.sregs.efer);
	if (!err)
		err = guest_pt_walk(pt, gva, &m);
	if (!err)
		*gpa = m.present ? m.gpa + (gva - m.gva) : KVMI_NO_ADDRESS;
	free(pt);
	return err;
}

int vm_translate(struct vm *vm, uint16_t vcpu, uint64_t gva, uint64_t *gpa)
{
	__u64 where;
	int err;

	if (!(vm->commands & (1ULL << KVMI_VCPU_TRANSLATE_GVA)))
		return walk(vm, vcpu, gva, gpa);
	err = kvmi_vcpu_translate_gva(vm->dom, vcpu, gva, &where);
	*gpa = where;
	return err ? fail_vm(vm, err) : 0;
}

/* Page by page, as they lie apart. */
static int access_virtual(struct vm *vm, uint16_t vcpu, uint64_t gva, void *buf,
			  size_t size, bool write)
{
	uint8_t *p = buf;
	uint64_t gpa;
	size_t n;
	int err;

	while (size) {
		n = PAGE_SIZE - (gva & (PAGE_SIZE - 1));
		if (n > size)
			n = size;
		err = vm_translate(vm, vcpu, gva, &gpa);
		if (err)
			return err;
		if (gpa == KVMI_NO_ADDRESS)
			return fail(KVMI_EXIT_NOT_FOUND,
				    "VM %u (%s): gva 0x%llx is not mapped on vCPU %u",
				    vm->number, vm->hello.name, (unsigned long long)gva, vcpu);
		err = write ? kvmi_vm_write_physical(vm->dom, gpa, p, n) :
			      kvmi_vm_read_physical(vm->dom, gpa, p, n);
		if (err)
			return fail_vm(vm, err);
		gva += n;
		p += n;
		size -= n;
	}
	return 0;
}

int vm_read(struct vm *vm, int vcpu, uint64_t address, void *buf, size_t size)
{
	int err;

	err = check_allowed(vm, KVMI_VM_READ_PHYSICAL);
	if (err)
		return err;
	if (vcpu >= 0)
		return access_virtual(vm, vcpu, address, buf, size, false);
	err = kvmi_vm_read_physical(vm->dom, address, buf, size);
	return err ? fail_vm(vm, err) : 0;
}

int vm_write(struct vm *vm, int vcpu, uint64_t address, const void *buf, size_t size)
{
	int err;

	err = check_allowed(vm, KVMI_VM_WRITE_PHYSICAL);
	if (err)
		return err;
	if (vcpu >= 0)
		return access_virtual(vm, vcpu, address, (void *)buf, size, true);
	err = kvmi_vm_write_physical(vm->dom, address, buf, size);
	return err ? fail_vm(vm, err) : 0;
}

/* --- what is to be reported ---------------------------------------------------------- */

static int grant(struct vm *vm, const struct wish *wish, uint16_t vcpu, bool on)
{
	switch (wish->kind) {
	case WISH_CR:
		return kvmi_vcpu_control_cr(vm->dom, vcpu, wish->arg, on);
	case WISH_MSR:
		return kvmi_vcpu_control_msr(vm->dom, vcpu, wish->arg, on);
	default:
		return kvmi_vcpu_control_events(vm->dom, vcpu, wish->arg, on);
	}
}

/* All vCPUs from wish->done on that the guest has started. */
static int grant_all(struct vm *vm, struct wish *wish)
{
	struct kvmi_vm_get_info_reply info;
	int err;

	err = kvmi_vm_get_info(vm->dom, &info);
	if (err)
		return err;
	while (wish->done < info.vcpu_count) {
		err = grant(vm, wish, wish->done, true);
		/* Those behind it have not been started either; later. */
		if (err == -EAGAIN)
			return 0;
		/* It carries the command out before it runs again. */
		if (err && err != -ETIMEDOUT)
			return err;
		wish->done++;
	}
	return 0;
}

void vm_grant_wishes(struct vm *vm)
{
	unsigned int i;

	pthread_mutex_lock(&vm->wish_lock);
	for (i = 0; i < vm->nr_wishes; i++)
		if (vm->wishes[i].refs)
			grant_all(vm, &vm->wishes[i]);
	pthread_mutex_unlock(&vm->wish_lock);
}

static int make_wish(struct vm *vm, enum wish_kind kind, uint32_t arg)
{
	struct wish *w = NULL;
	unsigned int i;
	int err;

	for (i = 0; i < vm->nr_wishes; i++)
		if (vm->wishes[i].refs && vm->wishes[i].kind == kind &&
		    vm->wishes[i].arg == arg)
			w = &vm->wishes[i];
	if (w) {
		w->refs++;
		return 0;
	}
	for (i = 0; i < vm->nr_wishes && vm->wishes[i].refs; i++)
		;
	if (i == MAX_WISHES)
		return fail(KVMI_EXIT_FAILED, "VM %u (%s): more than %d things to report",
			    vm->number, vm->hello.name, MAX_WISHES);
	w = &vm->wishes[i];
	*w = (struct wish) { .kind = kind, .arg = arg, .refs = 1 };
	err = grant_all(vm, w);
	if (err) {
		w->refs = 0;
		return fail_vm(vm, err);
	}
	if (i == vm->nr_wishes) {
		pthread_mutex_lock(&vm->lock);
		vm->nr_wishes++;
		pthread_cond_broadcast(&vm->changed);
		pthread_mutex_unlock(&vm->lock);
	}
	return 0;
}

static int drop_wish(struct vm *vm, enum wish_kind kind, uint32_t arg)
{
	unsigned int i, vcpu;
	struct wish *w;
	int err = 0, ret;

	for (i = 0; i < vm->nr_wishes; i++) {
		w = &vm->wishes[i];
		if (!w->refs || w->kind != kind || w->arg != arg)
			continue;
		if (--w->refs)
			return 0;
		for (vcpu = 0; vcpu < w->done; vcpu++) {
			ret = grant(vm, w, vcpu, false);
			if (ret && ret != -ETIMEDOUT)
				err = ret;
		}
		return err ? fail_vm(vm, err) : 0;
	}
	return fail(KVMI_EXIT_NOT_FOUND, "VM %u (%s): that is not reported anyway",
		    vm->number, vm->hello.name);
}

static int wish(struct vm *vm, enum wish_kind kind, uint32_t arg, bool on)
{
	int err;

	pthread_mutex_lock(&vm->wish_lock);
	err = on ? make_wish(vm, kind, arg) : drop_wish(vm, kind, arg);
	pthread_mutex_unlock(&vm->wish_lock);
	return err;
}

/* Come by themselves, when something was done that leads to them. */
static bool is_consequence(uint16_t id)
{
	return id == KVMI_VCPU_EVENT_PAUSE || id == KVMI_VCPU_EVENT_TRAP ||
	       id == KVMI_VCPU_EVENT_SINGLESTEP;
}

int vm_want_event(struct vm *vm, uint16_t id, bool on)
{
	int err;

	/* Page faults are what "protect" switches on, for good. */
	if (id == KVMI_VCPU_EVENT_PF || is_consequence(id))
		return 0;
	err = check_allowed(vm, KVMI_VCPU_CONTROL_EVENTS);
	if (!err)
		err = check_event_allowed(vm, id);
	return err ? err : wish(vm, WISH_EVENT, id, on);
}

int vm_track(struct vm *vm, bool msr, uint32_t number, bool on)
{
	int err;

	err = check_allowed(vm, msr ? KVMI_VCPU_CONTROL_MSR : KVMI_VCPU_CONTROL_CR);
	if (!err)
		err = vm_want_event(vm, msr ? KVMI_VCPU_EVENT_MSR : KVMI_VCPU_EVENT_CR, on);
	if (err)
		return err;
	err = wish(vm, msr ? WISH_MSR : WISH_CR, number, on);
	if (err && on)
		wish(vm, WISH_EVENT, msr ? KVMI_VCPU_EVENT_MSR : KVMI_VCPU_EVENT_CR, false);
	return err;
}

/* --- standing still ----------------------------------------------------------------- */

static void tell_hit(struct vm *vm, const struct kvmi_event *ev)
{
	struct vm_event event = {
		.id = ev->id,
		.vcpu = ev->vcpu,
		.rip = ev->arch.regs.rip,
		.gva = ev->arch.regs.rip,
		.gpa = ev->breakpoint.gpa,
	};

	vm_tell(vm, &event);
}

static bool is_in(const struct vcpu_set *set, uint16_t vcpu)
{
	return set->bits[vcpu / 64] & (1ULL << (vcpu % 64));
}

/* A vCPU that somebody steps stays where it is. */
static bool is_held(struct vm *vm, uint16_t vcpu)
{
	bool held;

	pthread_mutex_lock(&vm->lock);
	held = is_in(&vm->held, vcpu);
	pthread_mutex_unlock(&vm->lock);
	return held;
}

static void hold(struct vm *vm, uint16_t vcpu, bool on)
{
	pthread_mutex_lock(&vm->lock);
	if (on)
		vm->held.bits[vcpu / 64] |= 1ULL << (vcpu % 64);
	else
		vm->held.bits[vcpu / 64] &= ~(1ULL << (vcpu % 64));
	pthread_mutex_unlock(&vm->lock);
}

bool vm_debug_event(struct vm *vm, const struct kvmi_event *ev)
{
	int ret = kvmi_debug_event(vm->debug, ev);

	switch (ret) {
	case KVMI_DEBUG_FOREIGN:
		return false;
	case KVMI_DEBUG_HIT:
		tell_hit(vm, ev);
		if (!is_held(vm, ev->vcpu))
			ret = kvmi_debug_continue(vm->debug, ev->vcpu);
		/* Somebody may have let it go meanwhile. */
		if (ret == -ENOENT)
			ret = KVMI_DEBUG_HANDLED;
		break;
	}
	if (ret < 0)
		fprintf(stderr, "kvmi: VM %u (%s): vCPU %u: %s\n", vm->number,
			vm->hello.name, ev->vcpu, kvmi_error());
	pthread_mutex_lock(&vm->lock);
	pthread_cond_broadcast(&vm->changed);
	pthread_mutex_unlock(&vm->lock);
	return true;
}

/* Wait until it does; 0, or a failure. */
static int wait_stopped(struct vm *vm, uint16_t vcpu, struct kvmi_event *event)
{
	struct timespec end;
	int err = 0;

	vm_deadline(&end, STOP_TIMEOUT_MS);
	pthread_mutex_lock(&vm->lock);
	while (!err && vm->state == VM_READY &&
	       !kvmi_debug_waiting(vm->debug, vcpu, event))
		if (pthread_cond_timedwait(&vm->changed, &vm->lock, &end))
			err = fail(KVMI_EXIT_TIMEOUT,
				   "VM %u (%s): vCPU %u did not come to it within %d s (does the VMM let it run?)",
				   vm->number, vm->hello.name, vcpu, STOP_TIMEOUT_MS / 1000);
	if (!err && vm->state != VM_READY)
		err = fail(KVMI_EXIT_GONE, "VM %u (%s): has gone", vm->number, vm->hello.name);
	pthread_mutex_unlock(&vm->lock);
	return err;
}

int vm_pause(struct vm *vm, int vcpu, struct json_object *out)
{
	struct json_object *list = json_object_new_array(), *later = NULL;
	uint32_t i, end, first;
	int err;

	json_object_object_add(out, "paused", list);
	err = check_allowed(vm, KVMI_VM_PAUSE_VCPU);
	if (!err)
		err = check_event_allowed(vm, KVMI_VCPU_EVENT_PAUSE);
	if (!err)
		err = vcpu_range(vm, vcpu, &first, &end);
	if (err)
		return err;
	for (i = first; i < end; i++) {
		hold(vm, i, true);
		err = kvmi_debug_pause(vm->debug, i);
		/* It is what was asked for, or it has not been started. */
		if (err && err != -EBUSY && err != -EAGAIN)
			return fail_vm(vm, err);
		if (err == -EAGAIN)
			continue;
		if (wait_stopped(vm, i, NULL)) {
			if (!later)
				later = json_object_new_array();
			json_object_array_add(later, json_object_new_int(i));
		} else {
			json_object_array_add(list, json_object_new_int(i));
		}
	}
	if (later)
		json_object_object_add(out, "later_vcpus", later);
	return 0;
}

int vm_resume(struct vm *vm, int vcpu, struct json_object *out)
{
	struct json_object *list = json_object_new_array();
	uint32_t i, end, first;
	int err;

	json_object_object_add(out, "resumed", list);
	err = vcpu_range(vm, vcpu, &first, &end);
	if (err)
		return err;
	for (i = first; i < end; i++) {
		hold(vm, i, false);
		err = kvmi_debug_continue(vm->debug, i);
		if (err && err != -ENOENT)
			return fail_vm(vm, err);
		if (!err)
			json_object_array_add(list, json_object_new_int(i));
	}
	if (!json_object_array_length(list))
		return fail(KVMI_EXIT_NOT_FOUND, "VM %u (%s): no vCPU is paused",
			    vm->number, vm->hello.name);
	return 0;
}

int vm_pause_all(struct vm *vm, struct vcpu_set *kept)
{
	struct json_object *scrap = json_object_new_object();
	int err;

	pthread_mutex_lock(&vm->lock);
	*kept = vm->held;
	pthread_mutex_unlock(&vm->lock);
	err = vm_pause(vm, -1, scrap);
	json_object_put(scrap);
	return err;
}

void vm_resume_all_but(struct vm *vm, const struct vcpu_set *kept)
{
	uint32_t i, end;

	if (vcpu_range(vm, -1, &i, &end))
		return;
	for (; i < end; i++) {
		if (is_in(kept, i))
			continue;
		hold(vm, i, false);
		kvmi_debug_continue(vm->debug, i);
	}
}

int vm_step(struct vm *vm, uint16_t vcpu, struct kvmi_event *event)
{
	int err;

	err = check_allowed(vm, KVMI_VCPU_CONTROL_SINGLESTEP);
	if (!err)
		err = check_event_allowed(vm, KVMI_VCPU_EVENT_SINGLESTEP);
	if (err)
		return err;
	err = kvmi_debug_step(vm->debug, vcpu);
	if (err)
		return fail_vm(vm, err);
	return wait_stopped(vm, vcpu, event);
}

static int check_all_allowed(struct vm *vm, const uint16_t *ids)
{
	int err = 0;

	while (!err && *ids)
		err = check_allowed(vm, *ids++);
	return err;
}

int vm_restore_page(void *data, uint16_t vcpu, __u64 gpa)
{
	struct kvmi_page_access_entry entry = { .gpa = gpa };
	struct vm *vm = data;
	int err, ret;
	bool on;

	pthread_mutex_lock(&vm->access_lock);
	entry.access = access_map_get(&vm->access, gpa >> PAGE_SHIFT);
	err = kvmi_vm_set_page_access(vm->dom, &entry, 1, NULL);
	pthread_mutex_unlock(&vm->access_lock);

	/*
	 * Somebody may begin to want them meanwhile.  Not under vm->lock: who has
	 * that may wait for the debugger, and the debugger waits for this.
	 */
	do {
		on = __atomic_load_n(&vm->want_pf, __ATOMIC_SEQ_CST);
		ret = kvmi_vcpu_control_events(vm->dom, vcpu, KVMI_VCPU_EVENT_PF, on);
	} while (!ret && on != __atomic_load_n(&vm->want_pf, __ATOMIC_SEQ_CST));
	return err ? err : ret;
}

int vm_break(struct vm *vm, uint64_t gpa)
{
	static const uint16_t always[] = {
		KVMI_VM_READ_PHYSICAL, KVMI_VM_WRITE_PHYSICAL, KVMI_VM_PAUSE_VCPU,
		KVMI_VM_GET_INFO, 0
	};
	static const uint16_t by_step[] = { KVMI_VCPU_CONTROL_SINGLESTEP, 0 };
	static const uint16_t by_emulation[] = {
		KVMI_VM_SET_PAGE_ACCESS, KVMI_VCPU_CONTROL_EVENTS,
		KVMI_VCPU_SET_REGISTERS, 0
	};
	bool steps = vm->version.features.singlestep;
	int err;

	err = check_all_allowed(vm, always);
	if (!err)
		err = check_all_allowed(vm, steps ? by_step : by_emulation);
	if (!err)
		err = check_event_allowed(vm, KVMI_VCPU_EVENT_PAUSE);
	if (!err)
		err = check_event_allowed(vm, steps ? KVMI_VCPU_EVENT_SINGLESTEP :
					  KVMI_VCPU_EVENT_PF);
	if (err)
		return err;
	err = kvmi_debug_insert(vm->debug, gpa);
	return err ? fail_vm(vm, err) : 0;
}

int vm_unbreak(struct vm *vm, uint64_t gpa)
{
	int err = kvmi_debug_remove(vm->debug, gpa);

	return err ? fail_vm(vm, err) : 0;
}

bool vm_is_paused(struct vm *vm, uint16_t vcpu)
{
	return is_held(vm, vcpu) && kvmi_debug_waiting(vm->debug, vcpu, NULL);
}

/* Keeps the failure that led here, if any. */
void vm_remove_breaks(struct vm *vm, const uint64_t *gpas, size_t n, int err)
{
	char why[FAILURE_SIZE];
	size_t i;

	save_failure(why);
	for (i = 0; i < n; i++)
		if (vm_unbreak(vm, gpas[i]) && vm->state == VM_READY)
			fprintf(stderr, "kvmi: gpa 0x%llx: %s\n",
				(unsigned long long)gpas[i], failure());
	restore_failure(err, why);
}
