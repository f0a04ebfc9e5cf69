// SPDX-License-Identifier: GPL-2.0
/* kvmi list: which VMs are connected. */

#include <inttypes.h>
#include <stdio.h>

#include "verb.h"

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct common_options *o = state->input;

	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = o;
		return 0;
	case ARGP_KEY_ARG:
		argp_error(state, "\"%s\" is too much", arg);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp argp = {
	.parser = parse,
	.doc = "List the VMs that are connected to \"kvmi listen\".",
	.children = client_children,
};

static void print(struct json_object *reply)
{
	struct json_object *list, *o;
	size_t i;

	printf("%4s  %-10s %5s %8s  %-36s  %s\n", "VM", "STATE", "VCPUS", "PID", "UUID", "NAME");
	if (!json_object_object_get_ex(reply, "vms", &list))
		return;
	for (i = 0; i < json_object_array_length(list); i++) {
		o = json_object_array_get_idx(list, i);
		printf("%4" PRId64 "  %-10s %5" PRId64 " %8" PRId64 "  %-36s  %s\n",
		       json_get_int(o, "vm"), json_get_string(o, "state"),
		       json_get_int(o, "vcpus"), json_get_int(o, "pid"),
		       json_get_string(o, "uuid"), json_get_string(o, "name"));
	}
}

int cmd_list(int argc, char **argv)
{
	struct common_options o = { 0 };

	parse_options(&argp, argc, argv, &o);
	return verb_ask(&o, client_request(&o, "list"), print);
}
