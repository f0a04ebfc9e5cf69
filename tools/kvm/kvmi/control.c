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
#define REQUEST_MAX	(1 << 16)
#define MAX_RANGES	1024

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

/* --- watching ---------------------------------------------------------------------- */

static struct json_object *event_object(const struct vm_event *e)
{
	struct json_object *o = json_object_new_object();
	char text[64], access[ACCESS_TEXT_SIZE];
	struct tm tm;
	size_t len;

	gmtime_r(&e->time.tv_sec, &tm);
	len = strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(text + len, sizeof(text) - len, ".%06ldZ", e->time.tv_nsec / 1000);
	json_add_string(o, "event", "pf");
	json_add_string(o, "time", text);
	json_add_int(o, "vcpu", e->vcpu);
	json_add_hex(o, "rip", e->rip);
	/* All ones stands for "not known". */
	if (e->gva == UINT64_MAX)
		json_object_object_add(o, "gva", NULL);
	else
		json_add_hex(o, "gva", e->gva);
	json_add_hex(o, "gpa", e->gpa);
	json_add_string(o, "access", format_access(e->access, access));
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

/* Until the watcher's end, or until the client's: that is when he hangs up. */
static void send_events(struct client *c, struct vm *vm, struct watcher *w)
{
	struct pollfd pfd[2] = {
		{ .fd = c->fd, .events = POLLIN | POLLRDHUP },
		{ .fd = w->wake_fd, .events = POLLIN },
	};
	struct json_object *end;
	struct vm_event event;
	bool ended;
	uint64_t wakes;

	for (;;) {
		while (vm_next_event(vm, w, &event, &ended))
			if (line_send(c->fd, event_object(&event)))
				return;
		if (ended)
			break;
		if (poll(pfd, 2, -1) < 0 && errno != EINTR)
			return;
		if (pfd[0].revents)
			return;
		if (pfd[1].revents && read(w->wake_fd, &wakes, sizeof(wakes)) < 0 &&
		    errno != EAGAIN)
			return;
	}
	end = json_object_new_object();
	json_add_string(end, "end", w->why[0] ? w->why : "count");
	json_add_int(end, "events", w->seen);
	json_add_int(end, "lost", w->lost);
	json_add_bool(end, "gone", w->why[0]);
	line_send(c->fd, end);
}

static int do_watch(struct client *c, struct json_object *request,
		    struct json_object **reply)
{
	struct watcher *w;
	struct vm *vm;
	int err;

	w = calloc(1, sizeof(*w));
	if (!w)
		return fail(KVMI_EXIT_FAILED, "out of memory");
	w->once = json_get_bool(request, "once");
	w->count = json_get_int(request, "count");
	err = parse_action(json_get_string(request, "action"), &w->action);
	if (!err)
		err = get_vm(c, request, &vm);
	if (err)
		goto free;
	err = vm_watch(vm, w);
	if (!err) {
		vm_describe(vm, *reply);
		if (!line_send(c->fd, *reply))
			send_events(c, vm, w);
		*reply = NULL;
		vm_unwatch(vm, w);
	}
	vm_put(vm);
free:
	free(w);
	return err;
}

/* --- clients ------------------------------------------------------------------------ */

/* Sends the reply, which is an error if there is one; -1 if nobody hears it. */
static int serve_request(struct client *c, struct json_object *request)
{
	struct json_object *reply = json_object_new_object();
	const char *cmd = json_get_string(request, "cmd");
	int err;

	if (!cmd)
		err = fail(KVMI_EXIT_USAGE, "cmd is missing");
	else if (!strcmp(cmd, "info"))
		err = do_info(c, request, reply);
	else if (!strcmp(cmd, "protect"))
		err = do_protect(c, request, reply);
	else if (!strcmp(cmd, "watch"))
		err = do_watch(c, request, &reply);
	else
		err = fail(KVMI_EXIT_USAGE, "cmd \"%s\" is not known", cmd);
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
