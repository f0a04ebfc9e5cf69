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
	long vcpu;
	struct json_object *events;
	uint64_t gpa_start, gpa_end;
	bool summary;
};

enum {
	OPT_ONCE = 256,
	OPT_TIMEOUT,
	OPT_WATCH_VCPU,
	OPT_GPA,
	OPT_SUMMARY,
};

static const struct argp_option options[] = {
	{ .name = "event", .key = 'e', .arg = "KIND[,KIND...]",
	  .doc = "Which events: pf (default), breakpoint, cr, msr, xsetbv, descriptor, hypercall, trap" },
	{ .name = "vcpu", .key = OPT_WATCH_VCPU, .arg = "N", .doc = "Only events of this vCPU" },
	{ .name = "gpa", .key = OPT_GPA, .arg = "GPA[+LEN]",
	  .doc = "Of the events that have an address only those in this range" },
	{ .name = "summary", .key = OPT_SUMMARY,
	  .doc = "Print counts at the end, not the events themselves" },
	{ .name = "action", .key = 'a', .arg = "ACTION",
	  .doc = "How to answer: continue (the access happens; default), retry (it is tried again), crash (the VM is shut down)" },
	{ .name = "once", .key = OPT_ONCE,
	  .doc = "Lift what a page's event was about and answer retry, so that each page gives one event per kind of access" },
	{ .name = "count", .key = 'n', .arg = "N", .doc = "End after N events" },
	{ .name = "timeout", .key = OPT_TIMEOUT, .arg = "SECONDS",
	  .doc = "End with status 6 if no event comes for so long" },
	{ 0 }
};

static void add_events(struct watch_options *o, const char *arg, struct argp_state *state)
{
	static const char * const kinds[] = {
		"pf", "breakpoint", "cr", "msr", "xsetbv", "descriptor", "hypercall", "trap",
	};
	const char *p = arg;
	size_t len, i;

	if (!o->events)
		o->events = json_object_new_array();
	for (;; p += len + 1) {
		len = strcspn(p, ",");
		for (i = 0; i < ARRAY_SIZE(kinds); i++)
			if (strlen(kinds[i]) == len && !memcmp(kinds[i], p, len))
				break;
		if (i == ARRAY_SIZE(kinds))
			argp_error(state, "--event: \"%.*s\" is no kind of event", (int)len, p);
		else
			json_object_array_add(o->events, json_object_new_string(kinds[i]));
		if (!p[len])
			return;
	}
}

/* GPA[+LEN], to the byte. */
static void parse_gpas(struct watch_options *o, const char *arg, struct argp_state *state)
{
	const char *plus = strchrnul(arg, '+');
	char start[32];
	uint64_t size = 1;

	snprintf(start, sizeof(start), "%.*s", (int)(plus - arg), arg);
	if (!parse_u64(start, &o->gpa_start) || (*plus && !parse_u64(plus + 1, &size)) ||
	    !size || o->gpa_start + (size - 1) < o->gpa_start)
		argp_error(state, "--gpa: \"%s\" is not GPA[+LEN]", arg);
	o->gpa_end = o->gpa_start + (size - 1);
}

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
	case 'e':
		add_events(o, arg, state);
		return 0;
	case OPT_WATCH_VCPU:
		if (!parse_int(arg, 0, UINT16_MAX, &o->vcpu))
			argp_error(state, "--vcpu: \"%s\" is not within 0..%d", arg, UINT16_MAX);
		return 0;
	case OPT_GPA:
		parse_gpas(o, arg, state);
		return 0;
	case OPT_SUMMARY:
		o->summary = true;
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

static const struct argp argp = {
	.options = options,
	.parser = parse,
	.doc = "Print one line for each event of a VM: time, vCPU, rip, what happened, action.\v"
	       "Several watchers may look on, but only one may decide (--once, or an action other than continue).",
	.children = client_children,
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

static void print_field(struct json_object *e, const char *name)
{
	struct json_object *value;

	if (!json_object_object_get_ex(e, name, &value))
		return;
	printf(" %s %s", name, value ? json_object_get_string(value) : "-");
}

static void print_event(struct json_object *e)
{
	static const char * const fields[] = {
		"gva", "gpa", "access", "cr", "xcr", "msr", "old", "new", "descriptor",
		"write", "vector", "error_code", "address",
	};
	const char *note = json_get_string(e, "note"), *kind = or_none(json_get_string(e, "event"));
	char time_text[48];
	size_t i;

	format_time(or_none(json_get_string(e, "time")), time_text, sizeof(time_text));
	printf("%s vcpu %" PRId64, time_text, json_get_int(e, "vcpu"));
	if (strcmp(kind, "pf"))
		printf(" %s", kind);
	print_field(e, "rip");
	for (i = 0; i < ARRAY_SIZE(fields); i++)
		print_field(e, fields[i]);
	printf(" action %s%s%s%s\n", or_none(json_get_string(e, "action")),
	       json_get_bool(e, "lifted") ? " lifted" : "",
	       note ? " " : "", note ? note : "");
	fflush(stdout);
}

/* What came, by kind; not among the events, where these are printed. */
static void print_counts(FILE *to, struct json_object *end)
{
	struct json_object *counts;

	fprintf(to, "%" PRId64 " events\n", json_get_int(end, "events"));
	if (!json_object_object_get_ex(end, "counts", &counts))
		return;
	json_object_object_foreach(counts, kind, n)
		fprintf(to, "  %-12s%" PRId64 "\n", kind, json_object_get_int64(n));
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
			if (!o->common.json)
				print_counts(o->summary ? stdout : stderr, line);
			err = handle_end(o, line);
			if (o->common.json)
				json_print(line);
			else
				json_object_put(line);
			return err;
		}
		if (o->summary) {
			json_object_put(line);
		} else if (o->common.json) {
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
	struct watch_options o = { .vcpu = -1 };
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
		if (o.vcpu >= 0)
			json_add_int(request, "vcpu", o.vcpu);
		if (o.events)
			json_object_object_add(request, "events", o.events);
		if (o.gpa_end) {
			json_add_hex(request, "gpa_start", o.gpa_start);
			json_add_hex(request, "gpa_end", o.gpa_end);
		}
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
		client_end_on_signal(&client);
	}
	if (!err)
		err = print_events(&client, &o);
	if (err)
		err = report_failure(&o.common, err);
	client_close(&client);
	return err;
}
