// SPDX-License-Identifier: GPL-2.0
/* kvmi protect: say what the guest may do with pages of its memory. */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "verb.h"

struct protect_options {
	struct common_options common;
	struct json_object *ranges;
	struct json_object *range;	/* waits for its access */
};

/*
 * "--x" and its like are not meant as options, but argp would take them for
 * such: hide them behind a character that no operand starts with.
 */
#define HIDDEN	'='

static void hide_access(int argc, char **argv)
{
	uint8_t access;
	char *hidden;
	int i;

	for (i = 1; i < argc; i++) {
		if (argv[i][0] != '-' || parse_access(argv[i], &access))
			continue;
		if (asprintf(&hidden, "%c%s", HIDDEN, argv[i]) >= 0)
			argv[i] = hidden;
	}
}

static void parse_operand(struct protect_options *o, const char *arg,
			  struct argp_state *state)
{
	struct page_range range;
	uint8_t access;

	if (*arg == HIDDEN)
		arg++;
	if (o->range) {
		if (parse_access(arg, &access))
			option_failed(state);
		json_add_string(o->range, "access", arg);
		json_object_array_add(o->ranges, o->range);
		o->range = NULL;
		return;
	}
	if (parse_range(arg, &range))
		option_failed(state);
	o->range = json_object_new_object();
	json_add_hex(o->range, "gfn", range.gfn);
	json_add_hex(o->range, "count", range.count);
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct protect_options *o = state->input;

	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = &o->common;
		return 0;
	case ARGP_KEY_ARG:
		parse_operand(o, arg, state);
		return 0;
	case ARGP_KEY_END:
		if (o->range)
			argp_error(state, "the last GPA has no ACCESS");
		if (!json_object_array_length(o->ranges))
			argp_error(state, "GPA and ACCESS are missing");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp argp = {
	.parser = parse,
	.args_doc = "GPA[+LEN] ACCESS [GPA[+LEN] ACCESS]...",
	.doc = "Say what the guest may do with pages of its memory.\v"
	       "All pages that GPA[+LEN] touches are meant; numbers can be hexadecimal (0x...) and end in k, M or G.  ACCESS is what remains allowed: three characters as in \"r-x\"; \"rwx\" lifts all restrictions.  Either all of it takes effect or nothing.",
	.children = client_children,
};

static void print_result(struct json_object *reply)
{
	struct json_object *later;
	size_t i;

	printf("%" PRId64 " pages set, %" PRId64 " pages of VM %" PRId64 " (%s) are restricted\n",
	       json_get_int(reply, "pages"), json_get_int(reply, "restricted_pages"),
	       json_get_int(reply, "vm"), json_get_string(reply, "name"));
	if (!json_object_object_get_ex(reply, "later_vcpus", &later))
		return;
	printf("vCPUs that report only when they start:");
	for (i = 0; i < json_object_array_length(later); i++)
		printf(" %d", json_object_get_int(json_object_array_get_idx(later, i)));
	printf("\n");
}

int cmd_protect(int argc, char **argv)
{
	struct protect_options o = { .ranges = json_object_new_array() };
	struct json_object *request;

	hide_access(argc, argv);
	parse_options(&argp, argc, argv, &o);
	request = client_request(&o.common, "protect");
	json_object_object_add(request, "ranges", o.ranges);
	return verb_ask(&o.common, request, print_result);
}
