// SPDX-License-Identifier: GPL-2.0
/* The VMs that are connected to a listener; see vm.h. */

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common.h"
#include "guest-pt.h"
#include "vm-internal.h"

#define MAX_VMS			256
#define HANDSHAKE_TIMEOUT_MS	10000
#define HOOK_TIMEOUT_MS		30000	/* from the handshake to KVM's first answer */
#define ALLOW_TIMEOUT_MS	2000	/* from there to the VMM's permissions */
#define SHUTDOWN_TIMEOUT_MS	2000	/* for the threads to end */
#define ALLOW_PAUSE_MS		20
#define COMMAND_TIMEOUT_MS	5000
#define READY_TIMEOUT_S		45
#define KEEPER_PERIOD_MS	500	/* how often to look for new vCPUs */
#define FINISH_TIMEOUT_MS	1000	/* to take breakpoints out of the guest */
#define ENABLE_TIMEOUT_S	6	/* for a request to wait for the keeper */
#define MAX_PROTECT_PAGES	(4ULL << 20)

#define MSR_LSTAR		0xc0000082

/* --- reporting ------------------------------------------------------------------ */

void vms_say(struct vms *vms, struct json_object *object, const char *fmt, ...)
{
	va_list ap;

	if (vms->json) {
		json_print(object);
		return;
	}
	json_object_put(object);
	flockfile(stdout);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
	fflush(stdout);
	funlockfile(stdout);
}

static struct json_object *vm_object(const struct vm *vm, const char *what)
{
	struct json_object *o = json_object_new_object();

	json_add_string(o, "event", what);
	json_add_int(o, "vm", vm->number);
	json_add_string(o, "name", vm->hello.name);
	json_add_string(o, "uuid", vm->uuid);
	return o;
}

static void say_connected(struct vm *vm)
{
	struct json_object *o = vm_object(vm, "connected");

	json_add_int(o, "pid", vm->pid);
	json_add_int(o, "version", vm->version.version);
	json_add_int(o, "vcpus", vm->vcpu_count);
	vms_say(vm->vms, o, "VM %u connected: %s, uuid %s, process %d, protocol version %u, %u vCPU%s",
		vm->number, vm->hello.name, vm->uuid, vm->pid, vm->version.version,
		vm->vcpu_count, vm->vcpu_count == 1 ? "" : "s");
}

static void say_gone(struct vm *vm, const char *why)
{
	struct json_object *o = vm_object(vm, "gone");

	json_add_string(o, "why", why);
	json_add_int(o, "events", vm->nr_events);
	vms_say(vm->vms, o, "VM %u gone: %s (%" PRIu64 " events)", vm->number, why,
		vm->nr_events);
}

const char *action_name(uint8_t action)
{
	static const char * const names[] = { "continue", "retry", "crash" };

	return action < 3 ? names[action] : "?";
}

int fail_kvmi(int err)
{
	return fail(status_of_errno(err), "%s", kvmi_error());
}

int fail_vm(const struct vm *vm, int err)
{
	return fail(status_of_errno(err), "VM %u (%s): %s", vm->number,
		    vm->hello.name, kvmi_error());
}

/* --- waiting --------------------------------------------------------------------- */

void vm_deadline(struct timespec *ts, unsigned int ms)
{
	clock_gettime(CLOCK_MONOTONIC, ts);
	ts->tv_sec += ms / 1000;
	ts->tv_nsec += ms % 1000 * 1000000L;
	if (ts->tv_nsec >= 1000000000L) {
		ts->tv_sec++;
		ts->tv_nsec -= 1000000000L;
	}
}

static void init_cond(pthread_cond_t *cond)
{
	pthread_condattr_t attr;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(cond, &attr);
	pthread_condattr_destroy(&attr);
}

/* --- the keeper -------------------------------------------------------------------- */

/* Without these the verbs of this command can do little. */
static const uint16_t wanted_commands[] = {
	KVMI_VM_GET_INFO, KVMI_VM_CONTROL_EVENTS, KVMI_VM_READ_PHYSICAL,
	KVMI_VM_SET_PAGE_ACCESS, KVMI_VCPU_CONTROL_EVENTS,
	KVMI_VCPU_GET_REGISTERS,
};

static const uint16_t wanted_events[] = {
	KVMI_VM_EVENT_UNHOOK, KVMI_VCPU_EVENT_PF,
};

/* 0, -EPERM if some are not allowed, or another error. */
static int check_wanted(struct vm *vm)
{
	size_t i;
	int err = 0;

	for (i = 0; i < ARRAY_SIZE(wanted_commands) && !err; i++)
		err = kvmi_vm_check_command(vm->dom, wanted_commands[i]);
	for (i = 0; i < ARRAY_SIZE(wanted_events) && !err; i++)
		err = kvmi_vm_check_event(vm->dom, wanted_events[i]);
	return err;
}

static int list_allowed(struct vm *vm)
{
	unsigned int id;
	int err;

	for (id = KVMI_GET_VERSION; id < KVMI_NEXT_VCPU_MESSAGE; id++) {
		err = kvmi_vm_check_command(vm->dom, id);
		if (!err)
			vm->commands |= 1ULL << id;
		else if (err != -EPERM && err != -ENOENT)
			return err;
	}
	for (id = 0; id < KVMI_NEXT_VCPU_EVENT; id++) {
		err = kvmi_vm_check_event(vm->dom, id);
		if (!err)
			vm->events |= 1ULL << id;
		else if (err != -EPERM && err != -ENOENT)
			return err;
	}
	return 0;
}

/*
 * The VMM hooks the VM and only then allows commands and events, so what is not
 * allowed at first may be so soon.
 */
static int get_acquainted(struct vm *vm)
{
	const struct timespec pause = { .tv_nsec = ALLOW_PAUSE_MS * 1000000L };
	struct kvmi_vm_get_info_reply info;
	int err, waited = 0;

	kvmi_dom_set_timeout(vm->dom, HOOK_TIMEOUT_MS);
	err = kvmi_get_version(vm->dom, &vm->version);
	kvmi_dom_set_timeout(vm->dom, COMMAND_TIMEOUT_MS);
	if (err == -ETIMEDOUT)
		return fail(KVMI_EXIT_TIMEOUT, "the VMM did not hook the VM within %d s",
			    HOOK_TIMEOUT_MS / 1000);
	if (err)
		return fail_kvmi(err);
	if (vm->version.version != KVMI_VERSION)
		return fail(KVMI_EXIT_FAILED, "protocol version %u where %u is known",
			    vm->version.version, KVMI_VERSION);

	while ((err = check_wanted(vm)) == -EPERM && waited < ALLOW_TIMEOUT_MS) {
		nanosleep(&pause, NULL);
		waited += ALLOW_PAUSE_MS;
	}
	if (err && err != -EPERM && err != -ENOENT)
		return fail_kvmi(err);
	err = list_allowed(vm);
	if (!err && vm->commands & (1ULL << KVMI_VM_GET_INFO)) {
		err = kvmi_vm_get_info(vm->dom, &info);
		if (!err)
			vm->vcpu_count = info.vcpu_count;
	}
	/* So that the VMM can ask us to let go. */
	if (!err && vm->commands & (1ULL << KVMI_VM_CONTROL_EVENTS) &&
	    vm->events & (1ULL << KVMI_VM_EVENT_UNHOOK))
		err = kvmi_vm_control_events(vm->dom, KVMI_VM_EVENT_UNHOOK, true);
	return err ? fail_kvmi(err) : 0;
}

static int grow_pf(struct vm *vm, uint32_t count)
{
	uint8_t *pf;

	if (count <= vm->nr_pf)
		return 0;
	if (count > UINT16_MAX + 1)
		return fail(KVMI_EXIT_FAILED, "%u vCPUs are more than there can be", count);
	pthread_mutex_lock(&vm->lock);
	pf = realloc(vm->pf, count);
	if (pf) {
		memset(pf + vm->nr_pf, PF_OFF, count - vm->nr_pf);
		vm->pf = pf;
		vm->nr_pf = count;
	}
	vm->vcpu_count = count;
	pthread_mutex_unlock(&vm->lock);
	return pf ? 0 : fail(KVMI_EXIT_FAILED, "out of memory");
}

/* Have all vCPUs report page faults, as far as they exist by now. */
static int enable_pf(struct vm *vm)
{
	struct kvmi_vm_get_info_reply info;
	enum pf_state state;
	uint32_t i;
	int err;

	err = kvmi_vm_get_info(vm->dom, &info);
	if (err)
		return fail_kvmi(err);
	err = grow_pf(vm, info.vcpu_count);
	if (err)
		return err;
	for (i = 0; i < vm->nr_pf; i++) {
		if (vm->pf[i] == PF_ON || vm->pf[i] == PF_ASKED)
			continue;
		err = kvmi_vcpu_control_events(vm->dom, i, KVMI_VCPU_EVENT_PF, true);
		switch (err) {
		case 0:
			state = PF_ON;
			break;
		case -ETIMEDOUT:
			/* It carries the command out before it runs again. */
			state = PF_ASKED;
			break;
		case -EAGAIN:
			state = PF_NOT_YET;
			break;
		default:
			return fail_kvmi(err);
		}
		pthread_mutex_lock(&vm->lock);
		vm->pf[i] = state;
		pthread_mutex_unlock(&vm->lock);
	}
	return 0;
}

static void set_failed(struct vm *vm, int status)
{
	pthread_mutex_lock(&vm->lock);
	if (!vm->why[0]) {
		vm->why_status = status;
		save_failure(vm->why);
	}
	pthread_mutex_unlock(&vm->lock);
	kvmi_dom_shutdown(vm->dom);
}

/* Sleep, unless there is something else to do; called with vm->lock held. */
static void wait_for_change(struct vm *vm, unsigned int ms)
{
	struct timespec end;

	vm_deadline(&end, ms);
	while (vm->state == VM_READY && !vm->letting_go &&
	       !pthread_cond_timedwait(&vm->changed, &vm->lock, &end))
		;
}

static void *keeper_thread(void *arg)
{
	struct vm *vm = arg;
	int err;

	err = get_acquainted(vm);
	if (err) {
		set_failed(vm, err);
		return NULL;
	}
	say_connected(vm);

	pthread_mutex_lock(&vm->lock);
	if (vm->state == VM_CONNECTING)
		vm->state = VM_READY;
	pthread_cond_broadcast(&vm->changed);
	while (vm->state == VM_READY) {
		if (vm->letting_go) {
			pthread_mutex_unlock(&vm->lock);
			kvmi_debug_finish(vm->debug, FINISH_TIMEOUT_MS);
			kvmi_dom_shutdown(vm->dom);
			return NULL;
		}
		if (!vm->want_pf && vm->nr_wishes) {
			pthread_mutex_unlock(&vm->lock);
			vm_grant_wishes(vm);
			pthread_mutex_lock(&vm->lock);
			wait_for_change(vm, KEEPER_PERIOD_MS);
			continue;
		}
		if (!vm->want_pf) {
			pthread_cond_wait(&vm->changed, &vm->lock);
			continue;
		}
		pthread_mutex_unlock(&vm->lock);
		err = enable_pf(vm);
		vm_grant_wishes(vm);
		pthread_mutex_lock(&vm->lock);
		vm->pf_status = err;
		if (err)
			save_failure(vm->pf_why);
		vm->pf_tried = true;
		pthread_cond_broadcast(&vm->changed);
		wait_for_change(vm, KEEPER_PERIOD_MS);
	}
	pthread_mutex_unlock(&vm->lock);
	return NULL;
}

/* --- events ---------------------------------------------------------------------- */

/* Called with vm->lock held. */
static void wake_watcher(struct watcher *w)
{
	const uint64_t one = 1;

	if (write(w->wake_fd, &one, sizeof(one)) < 0 && errno != EAGAIN)
		perror("kvmi: eventfd");
}

static bool decides(const struct watcher *w)
{
	return w->once || w->action != KVMI_EVENT_ACTION_CONTINUE;
}

static bool is_wanted(const struct watcher *w, const struct vm_event *event)
{
	unsigned int i;

	if (w->ended || !(w->kinds & (1U << event->id)))
		return false;
	if (w->vcpu >= 0 && w->vcpu != event->vcpu)
		return false;
	if (event->gpa != KVMI_NO_ADDRESS && w->gpa_end &&
	    (event->gpa < w->gpa_start || event->gpa > w->gpa_end))
		return false;
	for (i = 0; i < w->nr_gpas; i++)
		if (w->gpas[i] == event->gpa)
			return true;
	return !w->nr_gpas;
}

/* Called with vm->lock held. */
static void tell_watchers(struct vm *vm, const struct vm_event *event)
{
	struct watcher *w;

	LIST_FOREACH(w, &vm->watchers, entry) {
		if (!is_wanted(w, event))
			continue;
		if (w->head - w->tail == WATCHER_EVENTS)
			w->lost++;
		else
			w->ring[w->head++ % WATCHER_EVENTS] = *event;
		w->counts[event->id]++;
		if (++w->seen == w->count)
			w->ended = true;
		wake_watcher(w);
	}
}

bool vm_tell(struct vm *vm, struct vm_event *event)
{
	struct watcher *w;
	bool wanted = false;

	clock_gettime(CLOCK_REALTIME, &event->time);
	pthread_mutex_lock(&vm->lock);
	LIST_FOREACH(w, &vm->watchers, entry)
		wanted |= is_wanted(w, event);
	tell_watchers(vm, event);
	pthread_mutex_unlock(&vm->lock);
	return wanted;
}

/* Give the page back the right that the guest lacked. */
static int lift(struct vm *vm, uint64_t gpa, uint8_t bits)
{
	struct kvmi_page_access_entry entry = { .gpa = gpa & ~(PAGE_SIZE - 1) };
	uint64_t gfn = gpa >> PAGE_SHIFT;
	int err = 0;

	pthread_mutex_lock(&vm->access_lock);
	entry.access = access_map_get(&vm->access, gfn);
	/* Another vCPU may have come here just before. */
	if ((entry.access & bits) != bits) {
		entry.access |= bits;
		err = kvmi_vm_set_page_access(vm->dom, &entry, 1, NULL);
		if (!err)
			access_map_set(&vm->access, gfn, entry.access);
	}
	pthread_mutex_unlock(&vm->access_lock);
	return err;
}

static void handle_pf(struct vm *vm, const struct kvmi_event *ev)
{
	struct vm_event event = {
		.id = ev->id,
		.vcpu = ev->vcpu,
		.rip = ev->arch.regs.rip,
		.gva = ev->pf.gva,
		.gpa = ev->pf.gpa,
		.access = ev->pf.access,
		.action = KVMI_EVENT_ACTION_CONTINUE,
	};
	bool once = false, watched = false;
	struct watcher *w;

	clock_gettime(CLOCK_REALTIME, &event.time);
	pthread_mutex_lock(&vm->lock);
	vm->nr_events++;
	LIST_FOREACH(w, &vm->watchers, entry) {
		if (!is_wanted(w, &event))
			continue;
		watched = true;
		if (decides(w)) {
			event.action = w->action;
			once = w->once;
		}
	}
	if (!watched)
		vm->nr_unwatched++;
	pthread_mutex_unlock(&vm->lock);

	if (once) {
		if (!lift(vm, event.gpa, event.access)) {
			event.lifted = true;
			event.action = KVMI_EVENT_ACTION_RETRY;
		} else {
			event.action = KVMI_EVENT_ACTION_CONTINUE;
			snprintf(event.note, sizeof(event.note), "not lifted: %s",
				 kvmi_error());
		}
	}
	/* If this fails the connection has ended, which the next call tells. */
	kvmi_event_reply(vm->dom, ev, event.action);

	pthread_mutex_lock(&vm->lock);
	tell_watchers(vm, &event);
	pthread_mutex_unlock(&vm->lock);
}

static void set_values(struct vm_event *event, uint64_t number, uint64_t old_value,
		       uint64_t new_value)
{
	event->number = number;
	event->old_value = old_value;
	event->new_value = new_value;
}

/* What is told, and let happen. */
static void handle_other(struct vm *vm, const struct kvmi_event *ev)
{
	struct vm_event event = {
		.id = ev->id,
		.vcpu = ev->vcpu,
		.rip = ev->arch.regs.rip,
		.gva = KVMI_NO_ADDRESS,
		.gpa = KVMI_NO_ADDRESS,
	};

	switch (ev->id) {
	case KVMI_VCPU_EVENT_CR:
		set_values(&event, ev->cr.cr, ev->cr.old_value, ev->cr.new_value);
		break;
	case KVMI_VCPU_EVENT_MSR:
		set_values(&event, ev->msr.msr, ev->msr.old_value, ev->msr.new_value);
		break;
	case KVMI_VCPU_EVENT_XSETBV:
		set_values(&event, ev->xsetbv.xcr, ev->xsetbv.old_value, ev->xsetbv.new_value);
		break;
	case KVMI_VCPU_EVENT_DESCRIPTOR:
		set_values(&event, ev->descriptor.descriptor, 0, ev->descriptor.write);
		break;
	case KVMI_VCPU_EVENT_TRAP:
		set_values(&event, ev->trap.nr, ev->trap.error_code, ev->trap.address);
		break;
	case KVMI_VCPU_EVENT_BREAKPOINT:
		event.gpa = ev->breakpoint.gpa;
		event.gva = ev->arch.regs.rip;
		break;
	}
	if (ev->id == KVMI_VCPU_EVENT_CR || ev->id == KVMI_VCPU_EVENT_MSR)
		kvmi_event_reply_value(vm->dom, ev, event.new_value);
	else
		kvmi_event_reply(vm->dom, ev, KVMI_EVENT_ACTION_CONTINUE);
	vm_tell(vm, &event);
}

/* Until the connection ends; leaves the reason in failure(). */
static int handle_events(struct vm *vm)
{
	struct kvmi_event ev;
	int ret;

	for (;;) {
		ret = kvmi_event_next(vm->dom, &ev, -1);
		if (ret < 0 && vm->letting_go)
			return fail(KVMI_EXIT_GONE, vm->vms->stopping ?
				    "the listener ends" : "the VMM asked to let it go");
		if (ret < 0)
			return fail_kvmi(ret);
		if (ev.id == KVMI_VM_EVENT_UNHOOK) {
			/* The keeper does, when the guest is as it was. */
			pthread_mutex_lock(&vm->lock);
			vm->letting_go = true;
			pthread_cond_broadcast(&vm->changed);
			pthread_mutex_unlock(&vm->lock);
			continue;
		}
		if (vm_debug_event(vm, &ev))
			continue;
		if (ev.id == KVMI_VCPU_EVENT_PF)
			handle_pf(vm, &ev);
		else if (ev.id & 1)
			handle_other(vm, &ev);
	}
}

/* --- coming and going --------------------------------------------------------------- */

void vms_init(struct vms *vms, bool json)
{
	memset(vms, 0, sizeof(*vms));
	pthread_mutex_init(&vms->lock, NULL);
	init_cond(&vms->changed);
	LIST_INIT(&vms->list);
	vms->next_number = 1;
	vms->json = json;
}

static void free_vm(struct vm *vm)
{
	kvmi_debug_free(vm->debug);
	kvmi_dom_close(vm->dom);
	access_map_free(&vm->access);
	free(vm->pf);
	pthread_mutex_destroy(&vm->lock);
	pthread_mutex_destroy(&vm->access_lock);
	pthread_mutex_destroy(&vm->wish_lock);
	pthread_cond_destroy(&vm->changed);
	free(vm);
}

void vm_put(struct vm *vm)
{
	struct vms *vms = vm->vms;
	bool last;

	pthread_mutex_lock(&vms->lock);
	last = !--vm->refs;
	pthread_mutex_unlock(&vms->lock);
	if (last)
		free_vm(vm);
}

static struct vm *new_vm(struct vms *vms, int fd, const struct kvmi_hello *hello)
{
	struct ucred cred = { 0 };
	socklen_t len = sizeof(cred);
	struct vm *vm;

	vm = calloc(1, sizeof(*vm));
	if (!vm) {
		close(fd);
		return NULL;
	}
	if (!getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len))
		vm->pid = cred.pid;
	if (kvmi_dom_open(fd, hello, &vm->dom)) {
		free(vm);
		return NULL;
	}
	if (kvmi_debug_new(vm->dom, &vm->debug)) {
		kvmi_dom_close(vm->dom);
		free(vm);
		return NULL;
	}
	kvmi_debug_on_restore(vm->debug, vm_restore_page, vm);
	vm->vms = vms;
	vm->refs = 1;
	vm->hello = *hello;
	make_printable(vm->hello.name);
	format_uuid(hello->uuid, vm->uuid);
	pthread_mutex_init(&vm->lock, NULL);
	pthread_mutex_init(&vm->access_lock, NULL);
	pthread_mutex_init(&vm->wish_lock, NULL);
	init_cond(&vm->changed);
	LIST_INIT(&vm->watchers);
	return vm;
}

/* Everybody who has to do with it learns that the VM has gone. */
static void vm_end(struct vm *vm, int status)
{
	struct watcher *w;

	pthread_mutex_lock(&vm->vms->lock);
	LIST_REMOVE(vm, entry);
	pthread_cond_broadcast(&vm->vms->changed);
	pthread_mutex_unlock(&vm->vms->lock);

	pthread_mutex_lock(&vm->lock);
	vm->state = VM_GONE;
	if (!vm->why[0]) {
		vm->why_status = status;
		save_failure(vm->why);
	}
	LIST_FOREACH(w, &vm->watchers, entry) {
		if (!w->ended)
			memcpy(w->why, vm->why, sizeof(w->why));
		w->ended = true;
		wake_watcher(w);
	}
	pthread_cond_broadcast(&vm->changed);
	pthread_mutex_unlock(&vm->lock);

	kvmi_dom_shutdown(vm->dom);
	pthread_join(vm->keeper, NULL);
	say_gone(vm, vm->why);
}

static void serve_vm(struct vms *vms, int fd)
{
	struct kvmi_hello hello;
	struct vm *vm;
	int err;

	err = kvmi_handshake_tool_auth(fd, vms->auth, &hello, HANDSHAKE_TIMEOUT_MS);
	if (err) {
		struct json_object *o = json_object_new_object();

		json_add_string(o, "event", "refused");
		json_add_string(o, "why", kvmi_error());
		vms_say(vms, o, "connection refused: %s", kvmi_error());
		close(fd);
		return;
	}
	vm = new_vm(vms, fd, &hello);
	if (!vm) {
		fprintf(stderr, "kvmi: out of memory for a VM\n");
		return;
	}

	pthread_mutex_lock(&vms->lock);
	vm->number = vms->next_number++;
	if (vms->stopping)
		kvmi_dom_shutdown(vm->dom);
	LIST_INSERT_HEAD(&vms->list, vm, entry);
	pthread_cond_broadcast(&vms->changed);
	pthread_mutex_unlock(&vms->lock);

	err = pthread_create(&vm->keeper, NULL, keeper_thread, vm);
	if (err) {
		fprintf(stderr, "kvmi: VM %u: new thread: %s\n", vm->number, strerror(err));
		pthread_mutex_lock(&vms->lock);
		LIST_REMOVE(vm, entry);
		pthread_mutex_unlock(&vms->lock);
	} else {
		vm_end(vm, handle_events(vm));
	}
	vm_put(vm);
}

struct connection {
	struct vms *vms;
	int fd;
};

static void *vm_thread(void *arg)
{
	struct connection *c = arg;
	struct vms *vms = c->vms;

	serve_vm(vms, c->fd);
	free(c);
	pthread_mutex_lock(&vms->lock);
	vms->nr_threads--;
	pthread_cond_broadcast(&vms->changed);
	pthread_mutex_unlock(&vms->lock);
	return NULL;
}

void vms_accept(struct vms *vms, int fd)
{
	struct connection *c = malloc(sizeof(*c));
	pthread_attr_t attr;
	pthread_t thread;
	int err = 0;

	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_mutex_lock(&vms->lock);
	if (!c || vms->nr_threads >= MAX_VMS) {
		err = EAGAIN;
	} else {
		c->vms = vms;
		c->fd = fd;
		err = pthread_create(&thread, &attr, vm_thread, c);
		if (!err)
			vms->nr_threads++;
	}
	pthread_mutex_unlock(&vms->lock);
	pthread_attr_destroy(&attr);
	if (err) {
		fprintf(stderr, "kvmi: a VM was turned away: %s\n", strerror(err));
		free(c);
		close(fd);
	}
}

void vms_shutdown(struct vms *vms)
{
	struct timespec end;
	struct vm *vm;

	vm_deadline(&end, SHUTDOWN_TIMEOUT_MS);
	pthread_mutex_lock(&vms->lock);
	vms->stopping = true;
	LIST_FOREACH(vm, &vms->list, entry) {
		/* The keeper ends one that is in use, once the guest is as it was. */
		pthread_mutex_lock(&vm->lock);
		vm->letting_go = true;
		pthread_cond_broadcast(&vm->changed);
		if (vm->state != VM_READY)
			kvmi_dom_shutdown(vm->dom);
		pthread_mutex_unlock(&vm->lock);
	}
	while (vms->nr_threads &&
	       !pthread_cond_timedwait(&vms->changed, &vms->lock, &end))
		;
	pthread_mutex_unlock(&vms->lock);
}

/* --- finding a VM -------------------------------------------------------------------- */

static bool is_selected(const struct vm *vm, const char *selector)
{
	long number;

	if (!selector)
		return true;
	if (parse_int(selector, 1, UINT32_MAX, &number) && vm->number == number)
		return true;
	return !strcmp(selector, vm->hello.name) || !strcasecmp(selector, vm->uuid);
}

/* Called with vms->lock held. */
static int find_vm(struct vms *vms, const char *selector, struct vm **found)
{
	char list[512] = "";
	struct vm *vm;
	size_t len, n = 0, all = 0;

	LIST_FOREACH(vm, &vms->list, entry) {
		len = strlen(list);
		snprintf(list + len, sizeof(list) - len, "%s%u (%s, %s)",
			 all++ ? ", " : "", vm->number, vm->hello.name, vm->uuid);
		if (is_selected(vm, selector)) {
			*found = vm;
			n++;
		}
	}
	if (n == 1)
		return 0;
	if (!all)
		return fail(KVMI_EXIT_NOT_FOUND, "no VM is connected");
	if (!n)
		return fail(KVMI_EXIT_NOT_FOUND, "--vm %s: there is no such VM, only %s",
			    selector, list);
	if (selector)
		return fail(KVMI_EXIT_USAGE, "--vm %s: several VMs are called so: %s",
			    selector, list);
	return fail(KVMI_EXIT_USAGE,
		    "several VMs are connected, choose one with --vm: %s", list);
}

int vm_get(struct vms *vms, const char *selector, struct vm **found)
{
	struct timespec end;
	struct vm *vm = NULL;
	int err;

	pthread_mutex_lock(&vms->lock);
	err = find_vm(vms, selector, &vm);
	if (!err)
		vm->refs++;
	pthread_mutex_unlock(&vms->lock);
	if (err)
		return err;

	vm_deadline(&end, READY_TIMEOUT_S * 1000);
	pthread_mutex_lock(&vm->lock);
	while (vm->state == VM_CONNECTING &&
	       !pthread_cond_timedwait(&vm->changed, &vm->lock, &end))
		;
	if (vm->state == VM_CONNECTING)
		err = fail(KVMI_EXIT_TIMEOUT, "VM %u (%s) is still connecting",
			   vm->number, vm->hello.name);
	else if (vm->state == VM_GONE)
		err = fail(KVMI_EXIT_GONE, "VM %u (%s): %s", vm->number,
			   vm->hello.name, vm->why);
	pthread_mutex_unlock(&vm->lock);
	if (err)
		vm_put(vm);
	else
		*found = vm;
	return err;
}

int check_allowed(struct vm *vm, uint16_t id)
{
	if (vm->commands & (1ULL << id))
		return 0;
	return fail(KVMI_EXIT_DENIED, "VM %u (%s): the VMM does not allow %s",
		    vm->number, vm->hello.name, kvmi_message_name(id));
}

int check_event_allowed(struct vm *vm, uint16_t id)
{
	if (vm->events & (1ULL << id))
		return 0;
	return fail(KVMI_EXIT_DENIED, "VM %u (%s): the VMM does not allow %s",
		    vm->number, vm->hello.name, kvmi_event_name(id));
}

/* --- info ----------------------------------------------------------------------------- */

void vm_describe(struct vm *vm, struct json_object *out)
{
	json_add_int(out, "vm", vm->number);
	json_add_string(out, "name", vm->hello.name);
	json_add_string(out, "uuid", vm->uuid);
	json_add_int(out, "pid", vm->pid);
}

void vms_list(struct vms *vms, const char *selector, struct json_object *out)
{
	struct json_object *list = json_object_new_array(), *o;
	struct vm *vm;

	pthread_mutex_lock(&vms->lock);
	LIST_FOREACH(vm, &vms->list, entry) {
		if (!is_selected(vm, selector))
			continue;
		o = json_object_new_object();
		vm_describe(vm, o);
		pthread_mutex_lock(&vm->lock);
		json_add_string(o, "state", vm->state == VM_READY ? "ready" :
				vm->state == VM_GONE ? "gone" : "connecting");
		json_add_int(o, "vcpus", vm->vcpu_count);
		pthread_mutex_unlock(&vm->lock);
		/* The newest stands first in our list. */
		json_object_array_put_idx(list, json_object_array_length(list), o);
	}
	pthread_mutex_unlock(&vms->lock);
	json_object_object_add(out, "vms", list);
}

static struct json_object *names_of(uint64_t bits, const char *(*name)(unsigned int))
{
	struct json_object *list = json_object_new_array();
	unsigned int id;

	for (id = 0; id < 64; id++)
		if (bits & (1ULL << id))
			json_object_array_add(list, json_object_new_string(name(id)));
	return list;
}

static void add_registers(struct json_object *out, const struct kvmi_registers *r,
			  uint64_t lstar)
{
	struct json_object *o = json_object_new_object();

	json_add_int(o, "vcpu", 0);
	json_add_int(o, "mode", r->mode);
	json_add_int(o, "cpl", r->sregs.ss.dpl);
	json_add_hex(o, "rip", r->regs.rip);
	json_add_hex(o, "rsp", r->regs.rsp);
	json_add_hex(o, "rflags", r->regs.rflags);
	json_add_hex(o, "cr0", r->sregs.cr0);
	json_add_hex(o, "cr3", r->sregs.cr3);
	json_add_hex(o, "cr4", r->sregs.cr4);
	json_add_hex(o, "efer", r->sregs.efer);
	json_add_hex(o, "lstar", lstar);
	json_object_object_add(out, "registers", o);
}

int read_guest(void *data, uint64_t gpa, void *buf, size_t size)
{
	struct vm *vm = data;
	int err;

	err = kvmi_vm_read_physical(vm->dom, gpa, buf, size);
	return err ? fail_kvmi(err) : 0;
}

static int add_kernel(struct vm *vm, struct json_object *out,
		      const struct kvmi_registers *r, uint64_t lstar)
{
	struct json_object *kernel, *list, *e;
	struct guest_text text;
	struct guest_mapping m;
	struct guest_pt *pt;
	size_t i;
	int err;

	if (!lstar)
		return fail(KVMI_EXIT_FAILED,
			    "VM %u (%s): the guest has not set up system calls yet (MSR LSTAR is 0)",
			    vm->number, vm->hello.name);
	pt = malloc(sizeof(*pt));
	if (!pt)
		return fail(KVMI_EXIT_FAILED, "out of memory");
	err = guest_pt_init(pt, read_guest, vm, r->sregs.cr0, r->sregs.cr3,
			    r->sregs.cr4, r->sregs.efer);
	if (!err)
		err = guest_pt_find_text(pt, lstar, &text);
	if (err) {
		free(pt);
		return fail(err, "VM %u (%s): kernel text: %s", vm->number,
			    vm->hello.name, failure());
	}

	kernel = json_object_new_object();
	json_add_hex(kernel, "start", text.start);
	json_add_hex(kernel, "end", text.end);
	json_add_hex(kernel, "size", text.end - text.start);
	list = json_object_new_array();
	for (i = 0; i < text.nr_extents; i++) {
		e = json_object_new_object();
		json_add_hex(e, "gva", text.extents[i].gva);
		json_add_hex(e, "gpa", text.extents[i].gpa);
		json_add_hex(e, "size", text.extents[i].size);
		json_object_array_add(list, e);
	}
	json_object_object_add(kernel, "extents", list);
	json_add_hex(kernel, "entry_gva", lstar);
	err = guest_pt_walk(pt, lstar, &m);
	if (!err && m.present)
		json_add_hex(kernel, "entry_gpa", m.gpa + (lstar - m.gva));
	json_object_object_add(out, "kernel", kernel);
	guest_text_free(&text);
	free(pt);
	return err;
}

int vm_info(struct vm *vm, bool kernel, struct json_object *out)
{
	struct kvm_msr_entry lstar = { .index = MSR_LSTAR };
	struct kvmi_vm_get_info_reply info;
	struct kvmi_registers r;
	struct json_object *o, *commands;
	__u64 max_gfn;
	int err;

	vm_describe(vm, out);
	json_add_int(out, "start_time", vm->hello.start_time);
	json_add_hex(out, "max_gpa", vm->hello.max_gpa);
	json_add_int(out, "version", vm->version.version);
	json_add_int(out, "max_msg_size", vm->version.max_msg_size);
	o = json_object_new_object();
	json_add_bool(o, "singlestep", vm->version.features.singlestep);
	json_add_bool(o, "max_gfn", vm->version.features.max_gfn);
	json_add_bool(o, "pf_walk", vm->version.features.pf_walk);
	json_object_object_add(out, "features", o);
	commands = names_of(vm->commands, kvmi_message_name);
	json_object_object_add(out, "commands", commands);
	json_object_object_add(out, "allowed_events", names_of(vm->events, kvmi_event_name));

	if (!kvmi_vm_get_info(vm->dom, &info))
		json_add_int(out, "vcpus", info.vcpu_count);
	/* Of no use to who may not have it, and no reason to fail. */
	if (vm->version.features.max_gfn && !kvmi_vm_get_max_gfn(vm->dom, &max_gfn)) {
		json_add_hex(out, "max_gfn", max_gfn);
		json_object_array_add(commands, json_object_new_string(
				      kvmi_message_name(KVMI_VM_GET_MAX_GFN)));
	}

	pthread_mutex_lock(&vm->access_lock);
	json_add_int(out, "restricted_pages", vm->access.count);
	pthread_mutex_unlock(&vm->access_lock);
	pthread_mutex_lock(&vm->lock);
	json_add_int(out, "page_fault_events", vm->nr_events);
	json_add_int(out, "unwatched_events", vm->nr_unwatched);
	pthread_mutex_unlock(&vm->lock);

	err = kvmi_vcpu_get_registers(vm->dom, 0, &r, &lstar, 1);
	if (!err)
		add_registers(out, &r, lstar.data);
	else
		json_add_string(out, "registers_error", kvmi_error());
	if (!kernel)
		return err == -ECONNRESET || err == -ESHUTDOWN ? fail_kvmi(err) : 0;
	if (err)
		return fail(status_of_errno(err), "VM %u (%s): %s", vm->number,
			    vm->hello.name, kvmi_error());
	return add_kernel(vm, out, &r, lstar.data);
}

/* --- protect ---------------------------------------------------------------------------- */

/* Have the keeper switch page-fault events on, as far as that is possible now. */
static int start_pf(struct vm *vm, struct json_object *out)
{
	struct json_object *later = NULL;
	struct timespec end;
	uint32_t i;
	int err = 0;

	vm_deadline(&end, ENABLE_TIMEOUT_S * 1000);
	pthread_mutex_lock(&vm->lock);
	vm->want_pf = true;
	pthread_cond_broadcast(&vm->changed);
	while (vm->state == VM_READY && !vm->pf_tried &&
	       !pthread_cond_timedwait(&vm->changed, &vm->lock, &end))
		;
	if (vm->why[0])
		err = fail(vm->why_status, "VM %u (%s): %s", vm->number,
			   vm->hello.name, vm->why);
	else if (vm->pf_status)
		err = fail(vm->pf_status, "VM %u (%s): %s", vm->number,
			   vm->hello.name, vm->pf_why);
	for (i = 0; !err && i < vm->nr_pf; i++) {
		if (vm->pf[i] == PF_ON)
			continue;
		if (!later)
			later = json_object_new_array();
		json_object_array_add(later, json_object_new_int(i));
	}
	pthread_mutex_unlock(&vm->lock);
	if (later)
		json_object_object_add(out, "later_vcpus", later);
	return err;
}

/* KVM refuses a whole message for one page: say which. */
static int fail_protect(struct vm *vm, const struct kvmi_page_access_entry *entries,
			size_t first, size_t n, int err)
{
	char why[FAILURE_SIZE];
	uint8_t byte;
	size_t i;

	snprintf(why, sizeof(why), "%s", kvmi_error());
	for (i = first; err == -EINVAL && i < n && i < first + 511; i++)
		if (kvmi_vm_read_physical(vm->dom, entries[i].gpa, &byte, 1) == -ENOENT)
			return fail(KVMI_EXIT_FAILED,
				    "VM %u (%s): gpa 0x%llx is not guest memory",
				    vm->number, vm->hello.name,
				    (unsigned long long)entries[i].gpa);
	return fail(status_of_errno(err), "VM %u (%s): %s", vm->number,
		    vm->hello.name, why);
}

/* All or nothing; called with access_lock held. */
static int set_access(struct vm *vm, struct kvmi_page_access_entry *entries, size_t n)
{
	char why[FAILURE_SIZE];
	size_t i, done;
	int err;

	if (!access_map_reserve(&vm->access, n))
		return fail(KVMI_EXIT_FAILED, "out of memory");
	err = kvmi_vm_set_page_access(vm->dom, entries, n, &done);
	if (!err) {
		for (i = 0; i < n; i++)
			access_map_set(&vm->access, entries[i].gpa >> PAGE_SHIFT,
				       entries[i].access);
		return 0;
	}
	err = fail_protect(vm, entries, done, n, err);
	if (!done)
		return err;
	/* Some messages came through: undo them. */
	save_failure(why);
	for (i = 0; i < done; i++)
		entries[i].access = access_map_get(&vm->access,
						   entries[i].gpa >> PAGE_SHIFT);
	if (kvmi_vm_set_page_access(vm->dom, entries, done, NULL))
		return fail(err, "%.*s; and %zu pages keep the new access: %s",
			    FAILURE_SIZE / 2, why, done, kvmi_error());
	return restore_failure(err, why);
}

int vm_protect(struct vm *vm, const struct page_range *ranges,
	       const uint8_t *access, size_t n, struct json_object *out)
{
	struct kvmi_page_access_entry *entries;
	uint64_t j, total = 0;
	bool restricts = false;
	size_t i, at = 0;
	int err;

	err = check_allowed(vm, KVMI_VM_SET_PAGE_ACCESS);
	if (err)
		return err;
	for (i = 0; i < n; i++) {
		/* Both are far from overflow, see parse_range() and below. */
		total += ranges[i].count;
		restricts |= access[i] != ACCESS_ALL;
		if (ranges[i].count > MAX_PROTECT_PAGES || total > MAX_PROTECT_PAGES)
			return fail(KVMI_EXIT_FAILED,
				    "more than %llu pages at once are too many",
				    MAX_PROTECT_PAGES);
	}
	if (restricts) {
		err = check_allowed(vm, KVMI_VCPU_CONTROL_EVENTS);
		if (!err)
			err = check_allowed(vm, KVMI_VM_GET_INFO);
		if (!err)
			err = check_event_allowed(vm, KVMI_VCPU_EVENT_PF);
		/* First the events, so that none is missed. */
		if (!err)
			err = start_pf(vm, out);
		if (err)
			return err;
	}

	entries = calloc(total, sizeof(*entries));
	if (!entries)
		return fail(KVMI_EXIT_FAILED, "out of memory");
	for (i = 0; i < n; i++)
		for (j = 0; j < ranges[i].count; j++, at++) {
			entries[at].gpa = (ranges[i].gfn + j) << PAGE_SHIFT;
			entries[at].access = access[i];
		}
	pthread_mutex_lock(&vm->access_lock);
	err = set_access(vm, entries, total);
	json_add_int(out, "pages", total);
	json_add_int(out, "restricted_pages", vm->access.count);
	pthread_mutex_unlock(&vm->access_lock);
	free(entries);
	return err;
}

/* --- watch -------------------------------------------------------------------------------- */

int vm_watch(struct vm *vm, struct watcher *watcher)
{
	struct watcher *w;
	int err = 0;

	watcher->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (watcher->wake_fd < 0)
		return fail(KVMI_EXIT_FAILED, "eventfd: %s", strerror(errno));
	pthread_mutex_lock(&vm->lock);
	LIST_FOREACH(w, &vm->watchers, entry)
		if (!w->ended && decides(w) && decides(watcher))
			err = fail(KVMI_EXIT_BUSY,
				   "VM %u (%s): another watcher decides about its events already",
				   vm->number, vm->hello.name);
	if (!err && vm->state == VM_GONE)
		err = fail(KVMI_EXIT_GONE, "VM %u (%s): %s", vm->number,
			   vm->hello.name, vm->why);
	if (!err)
		LIST_INSERT_HEAD(&vm->watchers, watcher, entry);
	pthread_mutex_unlock(&vm->lock);
	if (err)
		close(watcher->wake_fd);
	return err;
}

void vm_unwatch(struct vm *vm, struct watcher *watcher)
{
	pthread_mutex_lock(&vm->lock);
	LIST_REMOVE(watcher, entry);
	pthread_mutex_unlock(&vm->lock);
	close(watcher->wake_fd);
}

bool vm_next_event(struct vm *vm, struct watcher *watcher, struct vm_event *event,
		   bool *ended)
{
	bool found;

	pthread_mutex_lock(&vm->lock);
	found = watcher->head != watcher->tail;
	if (found)
		*event = watcher->ring[watcher->tail++ % WATCHER_EVENTS];
	*ended = watcher->ended;
	pthread_mutex_unlock(&vm->lock);
	return found;
}
