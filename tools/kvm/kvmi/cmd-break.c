// SPDX-License-Identifier: GPL-2.0
/* kvmi break: see each time that the guest executes something. */

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "verb.h"

#define MAX_ADDRESSES	64

struct break_options {
	struct common_options common;
	long vcpu;
	long count;
	long timeout;
	const char *symbols_path;
	struct symbols *symbols;
	const char *where[MAX_ADDRESSES];
	unsigned int n;
	uint64_t hits[MAX_ADDRESSES];
	uint64_t address[MAX_ADDRESSES];
};

enum {
	OPT_TIMEOUT = 0x200,
};

static const struct argp_option options[] = {
	SYMBOLS_OPTION("; WHERE can then be NAME[+OFFSET]"),
	VCPU_OPTION("Whose page tables tell where WHERE is (default: 0); all vCPUs stop there"),
	{ .name = "count", .key = 'n', .arg = "N", .doc = "End after N hits" },
	{ .name = "timeout", .key = OPT_TIMEOUT, .arg = "SECONDS",
	  .doc = "End with status 6 if no hit comes for so long" },
	{ 0 }
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct break_options *o = state->input;

	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = &o->common;
		return 0;
	case OPT_VCPU:
		parse_vcpu(state, arg, &o->vcpu);
		return 0;
	case 's':
		o->symbols_path = arg;
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
		if (o->n == MAX_ADDRESSES)
			argp_error(state, "more than %d of WHERE", MAX_ADDRESSES);
		else
			o->where[o->n++] = arg;
		return 0;
	case ARGP_KEY_END:
		if (!o->n)
			argp_error(state, "WHERE is missing");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp argp = {
	.options = options,
	.parser = parse,
	.args_doc = "WHERE...",
	.doc = "Set breakpoints in the guest and print each hit; the guest goes on by itself.\v"
	       "WHERE is a guest virtual address, or a symbol.  The breakpoints are gone when the command ends.",
	.children = client_children,
};

static void print_summary(const struct break_options *o)
{
	unsigned int i;

	for (i = 0; i < o->n; i++)
		printf("%" PRIu64 " hits of %s\n", o->hits[i], o->where[i]);
}

static void print(struct json_object *line, void *data)
{
	struct break_options *o = data;
	const char *gpa = json_get_string(line, "gpa");
	char name[300] = "";
	uint64_t rip = 0;
	unsigned int i;

	if (json_get_string(line, "end")) {
		print_summary(o);
		return;
	}
	if (!json_get_string(line, "event")) {
		fprintf(stderr, "%u breakpoints in VM %" PRId64 " (%s)\n", o->n,
			json_get_int(line, "vm"), json_get_string(line, "name"));
		return;
	}
	json_get_u64(line, "rip", &rip);
	for (i = 0; i < o->n; i++)
		o->hits[i] += o->address[i] == rip;
	if (o->symbols)
		symbols_name(o->symbols, rip, name, sizeof(name));
	printf("hit vcpu %" PRId64 " rip %s gpa %s%s%s\n", json_get_int(line, "vcpu"),
	       json_get_string(line, "rip"), gpa ? gpa : "-", *name ? " " : "", name);
}

int cmd_break(int argc, char **argv)
{
	struct break_options o = { .vcpu = -1 };
	struct json_object *request, *list, *a;
	unsigned int i;
	int err;

	parse_options(&argp, argc, argv, &o);
	err = verb_symbols(&o.common, o.symbols_path, &o.symbols);
	list = json_object_new_array();
	for (i = 0; !err && i < o.n; i++) {
		err = verb_address(o.symbols, o.where[i], &o.address[i]);
		a = json_object_new_object();
		json_add_hex(a, "gva", o.address[i]);
		json_object_array_add(list, a);
	}
	if (err) {
		json_object_put(list);
		symbols_free(o.symbols);
		return report_failure(&o.common, err);
	}
	request = client_request(&o.common, "break");
	json_object_object_add(request, "addresses", list);
	if (o.count)
		json_add_int(request, "count", o.count);
	if (o.vcpu >= 0)
		json_add_int(request, "vcpu", o.vcpu);
	err = verb_stream(&o.common, request, -1, o.timeout, print, &o);
	symbols_free(o.symbols);
	return err;
}
