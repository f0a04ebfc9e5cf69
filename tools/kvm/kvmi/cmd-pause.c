// SPDX-License-Identifier: GPL-2.0
/* kvmi pause, kvmi resume: have vCPUs stand still; kvmi step: and move on a bit. */

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>

#include "verb.h"

struct pause_options {
	struct common_options common;
	long vcpu;
	long count;
	const char *symbols_path;
	struct symbols *symbols;
};

static const struct argp_option pause_options[] = {
	VCPU_OPTION("Only this vCPU, not all of them"),
	{ 0 }
};

static const struct argp_option step_options[] = {
	VCPU_OPTION("This vCPU (default: 0)"),
	{ .name = "count", .key = 'n', .arg = "N", .doc = "So many instructions (default: 1)" },
	SYMBOLS_OPTION(", to name addresses"),
	{ 0 }
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct pause_options *o = state->input;

	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = &o->common;
		return 0;
	case OPT_VCPU:
		parse_vcpu(state, arg, &o->vcpu);
		return 0;
	case 'n':
		if (!parse_int(arg, 1, INT_MAX, &o->count))
			argp_error(state, "--count: \"%s\" is not a number from 1 on", arg);
		return 0;
	case 's':
		o->symbols_path = arg;
		return 0;
	case ARGP_KEY_ARG:
		argp_error(state, "\"%s\" is too much", arg);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp pause_argp = {
	.options = pause_options,
	.parser = parse,
	.doc = "Have the vCPUs of a VM stand still, until \"kvmi resume\".",
	.children = client_children,
};

static const struct argp resume_argp = {
	.options = pause_options,
	.parser = parse,
	.doc = "Let vCPUs run on that \"kvmi pause\" has stopped.",
	.children = client_children,
};

static const struct argp step_argp = {
	.options = step_options,
	.parser = parse,
	.doc = "Have a vCPU execute single instructions, and print where it is after each.\v"
	       "A vCPU that ran before runs on afterwards; one that was paused stays so.",
	.children = client_children,
};

static void print_list(struct json_object *reply, const char *name, const char *title)
{
	struct json_object *list;
	size_t i;

	if (!json_object_object_get_ex(reply, name, &list))
		return;
	printf("%s:", title);
	for (i = 0; i < json_object_array_length(list); i++)
		printf(" %d", json_object_get_int(json_object_array_get_idx(list, i)));
	printf("%s\n", i ? "" : " none");
}

static void print(struct json_object *reply)
{
	print_list(reply, "paused", "paused vCPUs");
	print_list(reply, "later_vcpus", "paused when they run again");
	print_list(reply, "resumed", "resumed vCPUs");
}

static int run(const char *cmd, const struct argp *argp, int argc, char **argv)
{
	struct pause_options o = { .vcpu = -1 };
	struct json_object *request;

	parse_options(argp, argc, argv, &o);
	request = client_request(&o.common, cmd);
	if (o.vcpu >= 0)
		json_add_int(request, "vcpu", o.vcpu);
	return verb_ask(&o.common, request, print);
}

int cmd_pause(int argc, char **argv)
{
	return run("pause", &pause_argp, argc, argv);
}

int cmd_resume(int argc, char **argv)
{
	return run("resume", &resume_argp, argc, argv);
}

static void print_step(struct json_object *line, void *data)
{
	struct pause_options *o = data;
	char name[300] = "";
	uint64_t rip;

	if (!json_get_string(line, "event"))
		return;
	if (o->symbols && json_get_u64(line, "rip", &rip))
		symbols_name(o->symbols, rip, name, sizeof(name));
	printf("%" PRId64 " vcpu %" PRId64 " rip %s%s%s%s\n", json_get_int(line, "step"),
	       json_get_int(line, "vcpu"), json_get_string(line, "rip"), *name ? " " : "", name,
	       json_get_string(line, "event")[0] == 'b' ? " breakpoint" : "");
}

int cmd_step(int argc, char **argv)
{
	struct pause_options o = { .vcpu = 0, .count = 1 };
	struct json_object *request;
	int err;

	parse_options(&step_argp, argc, argv, &o);
	err = verb_symbols(&o.common, o.symbols_path, &o.symbols);
	if (err)
		return report_failure(&o.common, err);
	request = client_request(&o.common, "step");
	json_add_int(request, "vcpu", o.vcpu);
	json_add_int(request, "count", o.count);
	err = verb_stream(&o.common, request, -1, 0, print_step, &o);
	symbols_free(o.symbols);
	return err;
}
