// SPDX-License-Identifier: GPL-2.0
/* The control socket, on which "kvmi listen" serves the other verbs. */

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "common.h"
#include "control.h"
#include "failure.h"
#include "line.h"

#define MAX_CLIENTS	64
#define REQUEST_MAX	(1 << 18)
#define MAX_RANGES	1024
#define MAX_DATA	(64 << 10)	/* read or written by one request */
#define MAX_MSRS	256

struct client {
	LIST_ENTRY(client) entry;
	struct control *control;
	struct line_reader in;
	int fd;
};

struct control {
	struct kvmi_listener *listener;
	struct vms *vms;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	LIST_HEAD(, client) clients;
	unsigned int nr_clients;
};

/* --- requests --------------------------------------------------------------------- */

static int get_vm(struct client *c, struct json_object *request, struct vm **vm)
{
	return vm_get(c->control->vms, json_get_string(request, "vm"), vm);
}

static int do_info(struct client *c, struct json_object *request,
		   struct json_object *reply)
{
	struct vm *vm;
	int err;

	err = get_vm(c, request, &vm);
	if (err)
		return err;
	err = vm_info(vm, json_get_bool(request, "kernel"), reply);
	vm_put(vm);
	return err;
}

static int parse_request_range(struct json_object *o, struct page_range *range,
			       uint8_t *access)
{
	const char *text = json_get_string(o, "access");

	if (!json_get_u64(o, "gfn", &range->gfn))
		return fail(KVMI_EXIT_USAGE, "protect: ranges: gfn is missing");
	if (!json_get_u64(o, "count", &range->count) || !range->count)
		return fail(KVMI_EXIT_USAGE, "protect: ranges: count is missing");
	if (range->gfn > UINT64_MAX >> PAGE_SHIFT ||
	    range->count - 1 > (UINT64_MAX >> PAGE_SHIFT) - range->gfn)
		return fail(KVMI_EXIT_USAGE, "protect: ranges: gfn + count is beyond 64 bits");
	if (!text)
		return fail(KVMI_EXIT_USAGE, "protect: ranges: access is missing");
	return parse_access(text, access);
}

static int do_protect(struct client *c, struct json_object *request,
		      struct json_object *reply)
{
	struct page_range ranges[MAX_RANGES];
	uint8_t access[MAX_RANGES];
	struct json_object *list;
	size_t i, n;
	struct vm *vm;
	int err;

	if (!json_object_object_get_ex(request, "ranges", &list) ||
	    !json_object_is_type(list, json_type_array) ||
	    !json_object_array_length(list))
		return fail(KVMI_EXIT_USAGE, "protect: ranges are missing");
	n = json_object_array_length(list);
	if (n > MAX_RANGES)
		return fail(KVMI_EXIT_USAGE, "protect: more than %d ranges", MAX_RANGES);
	for (i = 0; i < n; i++) {
		err = parse_request_range(json_object_array_get_idx(list, i),
					  &ranges[i], &access[i]);
		if (err)
			return err;
	}
	err = get_vm(c, request, &vm);
	if (err)
		return err;
	vm_describe(vm, reply);
	err = vm_protect(vm, ranges, access, n, reply);
	vm_put(vm);
	return err;
}

/* "vcpu": a number, or -1 where it is missing. */
static int get_vcpu(struct json_object *request, int *vcpu)
{
	struct json_object *value;
	int64_t n;

	*vcpu = -1;
	if (!json_object_object_get_ex(request, "vcpu", &value))
		return 0;
	n = json_object_get_int64(value);
	if (!json_object_is_type(value, json_type_int) || n < 0 || n > UINT16_MAX)
		return fail(KVMI_EXIT_USAGE, "vcpu is not within 0..%d", UINT16_MAX);
	*vcpu = n;
	return 0;
}

/* A request's VM and vCPU. */
static int get_target(struct client *c, struct json_object *request, struct vm **vm,
		      int *vcpu)
{
	int err = get_vcpu(request, vcpu);

	return err ? err : get_vm(c, request, vm);
}

static int get_numbers(struct json_object *request, const char *name, uint32_t *numbers,
		       unsigned int max, unsigned int *n)
{
	struct json_object *list, *o;
	unsigned int i;

	*n = 0;
	if (!json_object_object_get_ex(request, name, &list))
		return 0;
	if (!json_object_is_type(list, json_type_array) ||
	    json_object_array_length(list) > max)
		return fail(KVMI_EXIT_USAGE, "%s is not a list of up to %u", name, max);
	*n = json_object_array_length(list);
	for (i = 0; i < *n; i++) {
		o = json_object_array_get_idx(list, i);
		if (!json_object_is_type(o, json_type_int) ||
		    json_object_get_int64(o) < 0 || json_object_get_int64(o) > UINT32_MAX)
			return fail(KVMI_EXIT_USAGE, "%s: not a number of 32 bits", name);
		numbers[i] = json_object_get_int64(o);
	}
	return 0;
}

static int do_list(struct client *c, struct json_object *request,
		   struct json_object *reply)
{
	vms_list(c->control->vms, json_get_string(request, "vm"), reply);
	return 0;
}

static int do_regs(struct client *c, struct json_object *request,
		   struct json_object *reply)
{
	uint32_t msrs[MAX_MSRS];
	unsigned int n;
	struct vm *vm;
	int err, vcpu;

	err = get_numbers(request, "msrs", msrs, MAX_MSRS, &n);
	if (!err)
		err = get_target(c, request, &vm, &vcpu);
	if (err)
		return err;
	err = vm_regs(vm, vcpu, msrs, n, reply);
	vm_put(vm);
	return err;
}

static int do_translate(struct client *c, struct json_object *request,
			struct json_object *reply)
{
	uint64_t gva, gpa;
	struct vm *vm;
	int err, vcpu;

	if (!json_get_u64(request, "gva", &gva))
		return fail(KVMI_EXIT_USAGE, "translate: gva is missing");
	err = get_target(c, request, &vm, &vcpu);
	if (err)
		return err;
	vcpu = vcpu < 0 ? 0 : vcpu;
	err = vm_translate(vm, vcpu, gva, &gpa);
	vm_describe(vm, reply);
	json_add_int(reply, "vcpu", vcpu);
	json_add_hex(reply, "gva", gva);
	if (!err && gpa == KVMI_NO_ADDRESS)
		json_object_object_add(reply, "gpa", NULL);
	else if (!err)
		json_add_hex(reply, "gpa", gpa);
	vm_put(vm);
	return err;
}

/* "gpa", or "gva" as "vcpu" (0 where it is missing) sees it. */
static int get_address(struct json_object *request, const char *what, uint64_t *address,
		       int *vcpu)
{
	if (json_get_u64(request, "gva", address)) {
		*vcpu = *vcpu < 0 ? 0 : *vcpu;
		return 0;
	}
	*vcpu = -1;
	if (json_get_u64(request, "gpa", address))
		return 0;
	return fail(KVMI_EXIT_USAGE, "%s: gpa or gva is missing", what);
}

static int do_read(struct client *c, struct json_object *request,
		   struct json_object *reply)
{
	int64_t size = json_get_int(request, "size");
	uint64_t address;
	struct vm *vm;
	char *text;
	uint8_t *buf;
	int err, vcpu;

	if (size < 1 || size > MAX_DATA)
		return fail(KVMI_EXIT_USAGE, "read: size is not within 1..%d", MAX_DATA);
	err = get_vcpu(request, &vcpu);
	if (!err)
		err = get_address(request, "read", &address, &vcpu);
	if (!err)
		err = get_vm(c, request, &vm);
	if (err)
		return err;
	buf = malloc(size);
	text = malloc(2 * size + 1);
	if (!buf || !text)
		err = fail(KVMI_EXIT_FAILED, "out of memory");
	if (!err)
		err = vm_read(vm, vcpu, address, buf, size);
	if (!err) {
		format_hex(buf, size, text);
		json_add_string(reply, "data", text);
	}
	free(buf);
	free(text);
	vm_put(vm);
	return err;
}

static int do_write(struct client *c, struct json_object *request,
		    struct json_object *reply)
{
	const char *text = json_get_string(request, "data");
	uint64_t address;
	struct vm *vm;
	uint8_t *buf;
	size_t size;
	int err, vcpu;

	if (!text)
		return fail(KVMI_EXIT_USAGE, "write: data is missing");
	err = get_vcpu(request, &vcpu);
	if (!err)
		err = get_address(request, "write", &address, &vcpu);
	if (err)
		return err;
	size = strlen(text) / 2;
	buf = malloc(size + 1);
	if (!buf)
		return fail(KVMI_EXIT_FAILED, "out of memory");
	if (!size || size > MAX_DATA || !parse_hex(text, buf, size))
		err = fail(KVMI_EXIT_USAGE, "write: data is not 1..%d bytes in hexadecimal",
			   MAX_DATA);
	if (!err)
		err = get_vm(c, request, &vm);
	if (!err) {
		err = vm_write(vm, vcpu, address, buf, size);
		json_add_int(reply, "size", size);
		vm_put(vm);
	}
	free(buf);
	return err;
}

static int do_track(struct client *c, struct json_object *request,
		    struct json_object *reply)
{
	bool on = json_get_bool(request, "on"), msr = json_get_bool(request, "msr");
	uint32_t numbers[MAX_MSRS];
	unsigned int i, n;
	struct vm *vm;
	int err;

	err = get_numbers(request, "numbers", numbers, MAX_MSRS, &n);
	if (!err)
		err = get_vm(c, request, &vm);
	if (err)
		return err;
	vm_describe(vm, reply);
	for (i = 0; !err && i < n; i++)
		err = vm_track(vm, msr, numbers[i], on);
	/* All of it or nothing. */
	if (err && on && i > 1) {
		char why[FAILURE_SIZE];

		save_failure(why);
		for (n = 0; n + 1 < i; n++)
			vm_track(vm, msr, numbers[n], false);
		restore_failure(err, why);
	}
	vm_put(vm);
	return err;
}

static int do_pause(struct client *c, struct json_object *request,
		    struct json_object *reply)
{
	bool resume = !strcmp(json_get_string(request, "cmd"), "resume");
	struct vm *vm;
	int err, vcpu;

	err = get_target(c, request, &vm, &vcpu);
	if (err)
		return err;
	vm_describe(vm, reply);
	err = resume ? vm_resume(vm, vcpu, reply) : vm_pause(vm, vcpu, reply);
	vm_put(vm);
	return err;
}

static struct json_object *step_object(const struct kvmi_event *event, uint64_t n)
{
	struct json_object *o = json_object_new_object();

	json_add_string(o, "event", event->id == KVMI_VCPU_EVENT_BREAKPOINT ? "breakpoint" :
			"step");
	json_add_int(o, "step", n);
	json_add_int(o, "vcpu", event->vcpu);
	json_add_hex(o, "rip", event->arch.regs.rip);
	json_add_hex(o, "rsp", event->arch.regs.rsp);
	json_add_hex(o, "rax", event->arch.regs.rax);
	json_add_hex(o, "rflags", event->arch.regs.rflags);
	return o;
}

/* The client's first signal is that it ends its side, and still listens. */
static bool has_had_enough(const struct client *c)
{
	struct pollfd pfd = { .fd = c->fd, .events = POLLRDHUP };

	return poll(&pfd, 1, 0) > 0;
}

/* A line per instruction, and then one with "end". */
static int do_step(struct client *c, struct json_object *request,
		   struct json_object **reply)
{
	uint64_t count = json_get_int(request, "count"), i;
	struct json_object *scrap = json_object_new_object();
	bool was_paused, enough = false;
	struct kvmi_event event;
	struct vm *vm;
	int err, vcpu;

	err = get_target(c, request, &vm, &vcpu);
	if (err) {
		json_object_put(scrap);
		return err;
	}
	vcpu = vcpu < 0 ? 0 : vcpu;
	was_paused = vm_is_paused(vm, vcpu);
	if (!was_paused)
		err = vm_pause(vm, vcpu, scrap);
	for (i = 0; !err && i < count; i++) {
		enough = i && has_had_enough(c);
		if (enough)
			break;
		err = vm_step(vm, vcpu, &event);
		if (!err && i == 0) {
			vm_describe(vm, *reply);
			json_add_int(*reply, "vcpu", vcpu);
			if (line_send(c->fd, *reply))
				i = count;
			*reply = NULL;
		}
		if (!err && i < count && line_send(c->fd, step_object(&event, i + 1)))
			break;
	}
	if (!was_paused) {
		char why[FAILURE_SIZE];

		save_failure(why);
		vm_resume(vm, vcpu, scrap);
		restore_failure(0, why);
	}
	vm_put(vm);
	json_object_put(scrap);
	if (!*reply) {
		struct json_object *end = json_object_new_object();

		json_add_string(end, "end", err ? failure() : enough ? "interrupted" : "count");
		json_add_int(end, "steps", i > count ? count : i);
		json_add_int(end, "status", err);
		line_send(c->fd, end);
	}
	return err;
}

struct dump_state {
	struct client *c;
	unsigned int percent;
	bool started;
};

static int send_progress(void *data, uint64_t done, uint64_t total, uint64_t bytes)
{
	struct dump_state *state = data;
	unsigned int percent = done * 100 / total;
	struct json_object *o;

	if (has_had_enough(state->c))
		return fail(KVMI_EXIT_FAILED, "dump: interrupted");
	if (state->started && percent == state->percent)
		return 0;
	state->started = true;
	state->percent = percent;
	o = json_object_new_object();
	json_add_string(o, "event", "progress");
	json_add_int(o, "done", done);
	json_add_int(o, "total", total);
	json_add_int(o, "written", bytes);
	/* Nobody to write it for. */
	return line_send(state->c->fd, o) ? fail(KVMI_EXIT_GONE, "the client has gone") : 0;
}

/* Lines of progress, and then the reply with "end". */
static int do_dump(struct client *c, struct json_object *request,
		   struct json_object *reply)
{
	bool live = json_get_bool(request, "live");
	struct dump_state state = { .c = c };
	struct vcpu_set paused;
	uint64_t max_gpa = 0;
	struct vm *vm;
	int err;

	if (c->in.passed_fd < 0)
		return fail(KVMI_EXIT_USAGE, "dump: no file was passed");
	json_get_u64(request, "max_gpa", &max_gpa);
	err = get_vm(c, request, &vm);
	if (err)
		return err;
	if (!live)
		err = vm_pause_all(vm, &paused);
	if (!err) {
		json_add_string(reply, "end", "done");
		vm_describe(vm, reply);
		err = vm_dump(vm, c->in.passed_fd, max_gpa, send_progress, &state, reply);
	}
	if (!live) {
		char why[FAILURE_SIZE];

		save_failure(why);
		vm_resume_all_but(vm, &paused);
		restore_failure(err, why);
	}
	vm_put(vm);
	return err;
}

/* --- watching ---------------------------------------------------------------------- */

static const struct {
	uint16_t id;
	const char *name;
} event_kinds[] = {
	{ KVMI_VCPU_EVENT_PF, "pf" },
	{ KVMI_VCPU_EVENT_BREAKPOINT, "breakpoint" },
	{ KVMI_VCPU_EVENT_CR, "cr" },
	{ KVMI_VCPU_EVENT_MSR, "msr" },
	{ KVMI_VCPU_EVENT_XSETBV, "xsetbv" },
	{ KVMI_VCPU_EVENT_DESCRIPTOR, "descriptor" },
	{ KVMI_VCPU_EVENT_HYPERCALL, "hypercall" },
	{ KVMI_VCPU_EVENT_TRAP, "trap" },
};

static const char *kind_name(uint16_t id)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(event_kinds); i++)
		if (event_kinds[i].id == id)
			return event_kinds[i].name;
	return "?";
}

static void add_address(struct json_object *o, const char *name, uint64_t address)
{
	/* All ones stands for "not known". */
	if (address == KVMI_NO_ADDRESS)
		json_object_object_add(o, name, NULL);
	else
		json_add_hex(o, name, address);
}

/* What only events of this kind have. */
static void add_details(struct json_object *o, const struct vm_event *e)
{
	static const char * const tables[] = { "?", "idtr", "gdtr", "ldtr", "tr" };
	char access[ACCESS_TEXT_SIZE];

	switch (e->id) {
	case KVMI_VCPU_EVENT_PF:
		add_address(o, "gva", e->gva);
		add_address(o, "gpa", e->gpa);
		json_add_string(o, "access", format_access(e->access, access));
		break;
	case KVMI_VCPU_EVENT_BREAKPOINT:
		add_address(o, "gva", e->gva);
		add_address(o, "gpa", e->gpa);
		break;
	case KVMI_VCPU_EVENT_CR:
	case KVMI_VCPU_EVENT_XSETBV:
		json_add_int(o, e->id == KVMI_VCPU_EVENT_CR ? "cr" : "xcr", e->number);
		json_add_hex(o, "old", e->old_value);
		json_add_hex(o, "new", e->new_value);
		break;
	case KVMI_VCPU_EVENT_MSR:
		json_add_hex(o, "msr", e->number);
		json_add_hex(o, "old", e->old_value);
		json_add_hex(o, "new", e->new_value);
		break;
	case KVMI_VCPU_EVENT_DESCRIPTOR:
		json_add_string(o, "descriptor",
				e->number < ARRAY_SIZE(tables) ? tables[e->number] : "?");
		json_add_bool(o, "write", e->new_value);
		break;
	case KVMI_VCPU_EVENT_TRAP:
		json_add_int(o, "vector", e->number);
		json_add_hex(o, "error_code", e->old_value);
		json_add_hex(o, "address", e->new_value);
		break;
	}
}

static struct json_object *event_object(const struct vm_event *e)
{
	struct json_object *o = json_object_new_object();
	struct tm tm;
	char text[64];
	size_t len;

	gmtime_r(&e->time.tv_sec, &tm);
	len = strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(text + len, sizeof(text) - len, ".%06ldZ", e->time.tv_nsec / 1000);
	json_add_string(o, "event", kind_name(e->id));
	json_add_string(o, "time", text);
	json_add_int(o, "vcpu", e->vcpu);
	json_add_hex(o, "rip", e->rip);
	add_details(o, e);
	json_add_string(o, "action", action_name(e->action));
	if (e->lifted)
		json_add_bool(o, "lifted", true);
	if (e->note[0])
		json_add_string(o, "note", e->note);
	return o;
}

static int parse_action(const char *text, uint8_t *action)
{
	for (*action = 0; *action < 3; ++*action)
		if (!text || !strcmp(text, action_name(*action)))
			return 0;
	return fail(KVMI_EXIT_USAGE, "watch: action \"%s\" is not continue, retry or crash",
		    text);
}

/*
 * Until the watcher's end, or until the client's: that is when he hangs up.
 * Returns the last line, for when all is undone; NULL if nobody would hear it.
 */
static struct json_object *send_events(struct client *c, struct vm *vm, struct watcher *w)
{
	struct pollfd pfd[2] = {
		{ .fd = c->fd, .events = POLLIN | POLLRDHUP },
		{ .fd = w->wake_fd, .events = POLLIN },
	};
	struct json_object *end, *counts;
	const char *why = "count";
	struct vm_event event;
	bool ended;
	uint64_t wakes;
	size_t i;

	for (;;) {
		while (vm_next_event(vm, w, &event, &ended))
			if (line_send(c->fd, event_object(&event)))
				return NULL;
		if (ended)
			break;
		if (poll(pfd, 2, -1) < 0 && errno != EINTR)
			return NULL;
		/* He has had enough, and may still hear how much it was. */
		if (pfd[0].revents) {
			why = "interrupted";
			break;
		}
		if (pfd[1].revents && read(w->wake_fd, &wakes, sizeof(wakes)) < 0 &&
		    errno != EAGAIN)
			return NULL;
	}
	end = json_object_new_object();
	json_add_string(end, "end", w->why[0] ? w->why : why);
	json_add_int(end, "events", w->seen);
	json_add_int(end, "lost", w->lost);
	json_add_bool(end, "gone", w->why[0]);
	counts = json_object_new_object();
	for (i = 0; i < ARRAY_SIZE(event_kinds); i++)
		if (w->counts[event_kinds[i].id])
			json_add_int(counts, event_kinds[i].name,
				     w->counts[event_kinds[i].id]);
	json_object_object_add(end, "counts", counts);
	return end;
}

static int get_kinds(struct json_object *request, uint32_t *kinds)
{
	struct json_object *list;
	const char *name;
	size_t i, j;

	*kinds = 1U << KVMI_VCPU_EVENT_PF;
	if (!json_object_object_get_ex(request, "events", &list))
		return 0;
	*kinds = 0;
	if (!json_object_is_type(list, json_type_array))
		return fail(KVMI_EXIT_USAGE, "events is not a list");
	for (i = 0; i < json_object_array_length(list); i++) {
		name = json_object_get_string(json_object_array_get_idx(list, i));
		for (j = 0; j < ARRAY_SIZE(event_kinds); j++)
			if (name && !strcmp(name, event_kinds[j].name))
				break;
		if (j == ARRAY_SIZE(event_kinds))
			return fail(KVMI_EXIT_USAGE, "events: \"%s\" is not known", name);
		*kinds |= 1U << event_kinds[j].id;
	}
	return 0;
}

/* All of them, or none. */
static int want_events(struct vm *vm, uint32_t kinds, bool on)
{
	char why[FAILURE_SIZE];
	unsigned int id, done;
	int err = 0;

	for (id = 0; id < 32 && !err; id++)
		if (kinds & (1U << id))
			err = vm_want_event(vm, id, on);
	if (!err || !on)
		return err;
	save_failure(why);
	for (done = 0; done + 1 < id; done++)
		if (kinds & (1U << done))
			vm_want_event(vm, done, false);
	return restore_failure(err, why);
}

static struct watcher *new_watcher(void)
{
	struct watcher *w = calloc(1, sizeof(*w));

	if (!w)
		fail(KVMI_EXIT_FAILED, "out of memory");
	else
		w->vcpu = -1;
	return w;
}

/* Send the reply, and then events, until either side has enough. */
static int stream(struct client *c, struct vm *vm, struct watcher *w,
		  struct json_object **reply, struct json_object **end)
{
	int err = vm_watch(vm, w);

	if (err)
		return err;
	vm_describe(vm, *reply);
	if (!line_send(c->fd, *reply))
		*end = send_events(c, vm, w);
	*reply = NULL;
	vm_unwatch(vm, w);
	return 0;
}

static void send_end(struct client *c, struct json_object *end)
{
	if (end)
		line_send(c->fd, end);
}

static int do_watch(struct client *c, struct json_object *request,
		    struct json_object **reply)
{
	struct json_object *end = NULL;
	struct watcher *w = new_watcher();
	struct vm *vm = NULL;
	int err;

	if (!w)
		return KVMI_EXIT_FAILED;
	w->once = json_get_bool(request, "once");
	w->count = json_get_int(request, "count");
	json_get_u64(request, "gpa_start", &w->gpa_start);
	json_get_u64(request, "gpa_end", &w->gpa_end);
	err = parse_action(json_get_string(request, "action"), &w->action);
	if (!err)
		err = get_kinds(request, &w->kinds);
	if (!err)
		err = get_target(c, request, &vm, &w->vcpu);
	if (!err)
		err = want_events(vm, w->kinds, true);
	if (!err) {
		err = stream(c, vm, w, reply, &end);
		want_events(vm, w->kinds, false);
		send_end(c, end);
	}
	if (vm)
		vm_put(vm);
	free(w);
	return err;
}

/* A watcher of some breakpoints, which are there as long as he is. */
static int do_break(struct client *c, struct json_object *request,
		    struct json_object **reply)
{
	const uint32_t kinds = 1U << KVMI_VCPU_EVENT_BREAKPOINT;
	struct json_object *list, *end = NULL;
	struct watcher *w;
	struct vm *vm;
	uint64_t gva;
	size_t i, n;
	int err, vcpu;

	if (!json_object_object_get_ex(request, "addresses", &list) ||
	    !json_object_is_type(list, json_type_array))
		return fail(KVMI_EXIT_USAGE, "break: addresses are missing");
	n = json_object_array_length(list);
	if (!n || n > WATCHER_GPAS)
		return fail(KVMI_EXIT_USAGE, "break: not 1..%d addresses", WATCHER_GPAS);
	err = get_target(c, request, &vm, &vcpu);
	if (err)
		return err;
	vcpu = vcpu < 0 ? 0 : vcpu;
	w = new_watcher();
	if (!w) {
		vm_put(vm);
		return KVMI_EXIT_FAILED;
	}
	w->kinds = kinds;
	w->count = json_get_int(request, "count");
	for (i = 0; !err && i < n; i++) {
		struct json_object *o = json_object_array_get_idx(list, i);

		if (!json_get_u64(o, "gva", &gva))
			err = fail(KVMI_EXIT_USAGE, "break: gva is missing");
		if (!err)
			err = vm_translate(vm, vcpu, gva, &w->gpas[i]);
		if (!err && w->gpas[i] == KVMI_NO_ADDRESS)
			err = fail(KVMI_EXIT_NOT_FOUND,
				   "gva 0x%" PRIx64 " is not mapped on vCPU %d", gva, vcpu);
	}
	w->nr_gpas = n;
	if (!err)
		err = want_events(vm, kinds, true);
	if (!err) {
		for (i = 0; !err && i < n; i++)
			err = vm_break(vm, w->gpas[i]);
		/* The one that failed is not in place. */
		n = err ? i - 1 : n;
		if (!err)
			err = stream(c, vm, w, reply, &end);
		vm_remove_breaks(vm, w->gpas, n, err);
		want_events(vm, kinds, false);
		/* Whoever hears this finds the guest without them. */
		send_end(c, end);
	}
	vm_put(vm);
	free(w);
	return err;
}

/* --- clients ------------------------------------------------------------------------ */

static const struct {
	const char *name;
	int (*serve)(struct client *c, struct json_object *request,
		     struct json_object *reply);
	/* Takes the reply, and sets it to NULL, if it has sent it. */
	int (*stream)(struct client *c, struct json_object *request,
		      struct json_object **reply);
} commands[] = {
	{ "break", .stream = do_break },
	{ "dump", .serve = do_dump },
	{ "info", .serve = do_info },
	{ "list", .serve = do_list },
	{ "pause", .serve = do_pause },
	{ "protect", .serve = do_protect },
	{ "read", .serve = do_read },
	{ "regs", .serve = do_regs },
	{ "resume", .serve = do_pause },
	{ "step", .stream = do_step },
	{ "track", .serve = do_track },
	{ "translate", .serve = do_translate },
	{ "watch", .stream = do_watch },
	{ "write", .serve = do_write },
};

/* Sends the reply, which is an error if there is one; -1 if nobody hears it. */
static int serve_request(struct client *c, struct json_object *request)
{
	struct json_object *reply = json_object_new_object();
	const char *cmd = json_get_string(request, "cmd");
	size_t i;
	int err;

	for (i = 0; cmd && i < ARRAY_SIZE(commands); i++)
		if (!strcmp(cmd, commands[i].name))
			break;
	if (!cmd)
		err = fail(KVMI_EXIT_USAGE, "cmd is missing");
	else if (i == ARRAY_SIZE(commands))
		err = fail(KVMI_EXIT_USAGE, "cmd \"%s\" is not known", cmd);
	else if (commands[i].serve)
		err = commands[i].serve(c, request, reply);
	else
		err = commands[i].stream(c, request, &reply);
	if (!reply)
		return -1;
	if (err) {
		json_object_put(reply);
		reply = json_object_new_object();
		json_add_string(reply, "error", failure());
		json_add_int(reply, "status", err);
	}
	return line_send(c->fd, reply);
}

static void serve(struct client *c)
{
	struct json_object *request, *reply;
	int err;

	for (;;) {
		err = line_read(&c->in, REQUEST_MAX, &request);
		if (err < 0)
			return;
		if (err) {
			reply = json_object_new_object();
			json_add_string(reply, "error", failure());
			json_add_int(reply, "status", err);
			line_send(c->fd, reply);
			return;
		}
		err = serve_request(c, request);
		json_object_put(request);
		if (err)
			return;
	}
}

static void *client_thread(void *arg)
{
	struct client *c = arg;
	struct control *control = c->control;

	serve(c);
	pthread_mutex_lock(&control->lock);
	LIST_REMOVE(c, entry);
	control->nr_clients--;
	pthread_cond_broadcast(&control->changed);
	pthread_mutex_unlock(&control->lock);
	line_reader_free(&c->in);
	close(c->fd);
	free(c);
	return NULL;
}

void control_accept(struct control *control)
{
	pthread_attr_t attr;
	pthread_t thread;
	struct client *c;
	int fd, err;

	fd = kvmi_listener_accept(control->listener);
	if (fd < 0)
		return;
	c = calloc(1, sizeof(*c));
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_mutex_lock(&control->lock);
	if (!c || control->nr_clients >= MAX_CLIENTS) {
		err = EAGAIN;
	} else {
		c->control = control;
		c->fd = fd;
		c->in.fd = fd;
		c->in.passed_fd = -1;
		LIST_INSERT_HEAD(&control->clients, c, entry);
		control->nr_clients++;
		err = pthread_create(&thread, &attr, client_thread, c);
		if (err) {
			LIST_REMOVE(c, entry);
			control->nr_clients--;
		}
	}
	pthread_mutex_unlock(&control->lock);
	pthread_attr_destroy(&attr);
	if (err) {
		fprintf(stderr, "kvmi: a client was turned away: %s\n", strerror(err));
		free(c);
		close(fd);
	}
}

int control_open(const char *path, struct vms *vms, struct control **control)
{
	struct control *c = calloc(1, sizeof(*c));
	int err;

	if (!c)
		return fail(KVMI_EXIT_FAILED, "out of memory");
	err = kvmi_listener_open(path, &c->listener);
	if (err) {
		free(c);
		return fail(status_of_errno(err), "%s", kvmi_error());
	}
	c->vms = vms;
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->changed, NULL);
	LIST_INIT(&c->clients);
	*control = c;
	return 0;
}

int control_fd(const struct control *control)
{
	return kvmi_listener_fd(control->listener);
}

/* Call this after vms_shutdown(), which ends what clients may be waiting for. */
void control_close(struct control *control)
{
	struct client *c;

	if (!control)
		return;
	kvmi_listener_close(control->listener);
	pthread_mutex_lock(&control->lock);
	LIST_FOREACH(c, &control->clients, entry)
		shutdown(c->fd, SHUT_RDWR);
	while (control->nr_clients)
		pthread_cond_wait(&control->changed, &control->lock);
	pthread_mutex_unlock(&control->lock);
	pthread_mutex_destroy(&control->lock);
	pthread_cond_destroy(&control->changed);
	free(control);
}
