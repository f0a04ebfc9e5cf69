// SPDX-License-Identifier: GPL-2.0
/* kvmi watch: see the guest's page-fault events, and decide about them. */

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "client.h"
#include "failure.h"
#include "parse.h"

struct watch_options {
	struct common_options common;
	const char *action;
	bool once;
	long count;
	long timeout;
};

enum {
	OPT_ONCE = 256,
	OPT_TIMEOUT,
};

static const struct argp_option options[] = {
	{ .name = "action", .key = 'a', .arg = "ACTION",
	  .doc = "How to answer: continue (the access happens; default), retry (it is tried again), crash (the VM is shut down)" },
	{ .name = "once", .key = OPT_ONCE,
	  .doc = "Lift what a page's event was about and answer retry, so that each page gives one event per kind of access" },
	{ .name = "count", .key = 'n', .arg = "N", .doc = "End after N events" },
	{ .name = "timeout", .key = OPT_TIMEOUT, .arg = "SECONDS",
	  .doc = "End with status 6 if no event comes for so long" },
	{ 0 }
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct watch_options *o = state->input;

	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = &o->common;
		return 0;
	case 'a':
		if (strcmp(arg, "continue") && strcmp(arg, "retry") && strcmp(arg, "crash"))
			argp_error(state, "--action: \"%s\" is not continue, retry or crash", arg);
		o->action = arg;
		return 0;
	case OPT_ONCE:
		o->once = true;
		return 0;
	case 'n':
		if (!parse_int(arg, 1, LONG_MAX, &o->count))
			argp_error(state, "--count: \"%s\" is not a number from 1 on", arg);
		return 0;
	case OPT_TIMEOUT:
		if (!parse_int(arg, 1, 1000000, &o->timeout))
			argp_error(state, "--timeout: \"%s\" is not within 1..1000000", arg);
		return 0;
	case ARGP_KEY_ARG:
		argp_error(state, "\"%s\" is too much", arg);
		return 0;
	case ARGP_KEY_END:
		if (o->once && o->action && strcmp(o->action, "retry"))
			argp_error(state, "--once answers retry, so --action %s does not go with it",
				   o->action);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp_child children[] = {
	{ .argp = &client_argp },
	{ 0 }
};

static const struct argp argp = {
	.options = options,
	.parser = parse,
	.doc = "Print one line for each page-fault event of a VM: time, vCPU, rip, gva, gpa, access, action.\v"
	       "Several watchers may look on, but only one may decide (--once, or an action other than continue).",
	.children = children,
};

/* "2025-01-02T03:04:05.678901Z" as local time of the day. */
static void format_time(const char *iso, char *text, size_t size)
{
	struct tm tm = { 0 };
	const char *rest;
	time_t t;

	rest = strptime(iso, "%Y-%m-%dT%H:%M:%S", &tm);
	t = rest ? timegm(&tm) : 0;
	if (!rest || !localtime_r(&t, &tm)) {
		snprintf(text, size, "%s", iso);
		return;
	}
	size_t len = strftime(text, size, "%H:%M:%S", &tm);

	snprintf(text + len, size - len, "%.*s", (int)strcspn(rest, "Z"), rest);
}

static const char *or_none(const char *text)
{
	return text ? text : "-";
}

static void print_event(struct json_object *e)
{
	const char *note = json_get_string(e, "note");
	char time_text[48];

	format_time(or_none(json_get_string(e, "time")), time_text, sizeof(time_text));
	printf("%s vcpu %" PRId64 " rip %s gva %s gpa %s access %s action %s%s%s%s\n",
	       time_text, json_get_int(e, "vcpu"), or_none(json_get_string(e, "rip")),
	       or_none(json_get_string(e, "gva")), or_none(json_get_string(e, "gpa")),
	       or_none(json_get_string(e, "access")),
	       or_none(json_get_string(e, "action")),
	       json_get_bool(e, "lifted") ? " lifted" : "",
	       note ? " " : "", note ? note : "");
	fflush(stdout);
}

static int set_timeout(struct control_client *client, long seconds)
{
	const struct timeval tv = { .tv_sec = seconds };

	if (!seconds)
		return 0;
	if (setsockopt(client->fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)))
		return fail(KVMI_EXIT_FAILED, "setting a timeout failed");
	return 0;
}

/* The last line: 0 if that is what was asked for. */
static int handle_end(const struct watch_options *o, struct json_object *end)
{
	int64_t lost = json_get_int(end, "lost");
	bool gone = json_get_bool(end, "gone");

	if (lost && !o->common.json)
		fprintf(stderr, "kvmi: %" PRId64 " events were not printed, they came too fast\n",
			lost);
	if (!gone)
		return 0;
	fail(KVMI_EXIT_GONE, "%s", or_none(json_get_string(end, "end")));
	/* Without a count there is no other end. */
	if (o->count)
		return KVMI_EXIT_GONE;
	if (!o->common.json)
		fprintf(stderr, "kvmi: %s\n", failure());
	return 0;
}

static int print_events(struct control_client *client, const struct watch_options *o)
{
	struct json_object *line;
	int err;

	for (;;) {
		err = client_next(client, &line);
		if (err == KVMI_EXIT_TIMEOUT)
			return fail(err, "no event came for %ld s", o->timeout);
		if (err)
			return err;
		if (json_get_string(line, "end")) {
			err = handle_end(o, line);
			if (o->common.json)
				json_print(line);
			else
				json_object_put(line);
			return err;
		}
		if (o->common.json) {
			json_print(line);
		} else {
			print_event(line);
			json_object_put(line);
		}
		if (ferror(stdout))
			return fail(KVMI_EXIT_FAILED, "writing the output failed");
	}
}

int cmd_watch(int argc, char **argv)
{
	struct watch_options o = { 0 };
	struct json_object *request, *reply;
	struct control_client client;
	int err;

	parse_options(&argp, argc, argv, &o);
	err = client_open(&client, &o.common);
	if (!err) {
		request = client_request(&o.common, "watch");
		if (o.action)
			json_add_string(request, "action", o.action);
		json_add_bool(request, "once", o.once);
		json_add_int(request, "count", o.count);
		err = client_ask(&client, request, &reply);
	}
	if (!err) {
		if (o.common.json) {
			json_add_string(reply, "event", "watching");
			json_print(reply);
		} else {
			fprintf(stderr, "watching VM %" PRId64 " (%s)\n",
				json_get_int(reply, "vm"), json_get_string(reply, "name"));
			json_object_put(reply);
		}
		err = set_timeout(&client, o.timeout);
	}
	if (!err)
		err = print_events(&client, &o);
	if (err)
		err = report_failure(&o.common, err);
	client_close(&client);
	return err;
}
