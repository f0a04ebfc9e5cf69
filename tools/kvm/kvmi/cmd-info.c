// SPDX-License-Identifier: GPL-2.0
/* kvmi info: what is known about a VM, and where its kernel is. */

#include <inttypes.h>
#include <stdio.h>

#include "verb.h"

struct info_options {
	struct common_options common;
	bool kernel;
};

static const struct argp_option options[] = {
	{ .name = "kernel", .key = 'k',
	  .doc = "Also find the text of the guest's kernel, by reading its page tables" },
	{ 0 }
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct info_options *o = state->input;

	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = &o->common;
		return 0;
	case 'k':
		o->kernel = true;
		return 0;
	case ARGP_KEY_ARG:
		argp_error(state, "\"%s\" is too much", arg);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp argp = {
	.options = options,
	.parser = parse,
	.doc = "Show what is known about a VM that is connected to \"kvmi listen\".",
	.children = client_children,
};

static void print_names(struct json_object *info, const char *name, const char *title)
{
	struct json_object *list;
	size_t i, n;

	if (!json_object_object_get_ex(info, name, &list))
		return;
	n = json_object_array_length(list);
	printf("%-20s%s\n", title, n ? "" : "none");
	for (i = 0; i < n; i++)
		printf("  %s\n", json_object_get_string(json_object_array_get_idx(list, i)));
}

static void print_hex(struct json_object *o, const char *name)
{
	const char *text = json_get_string(o, name);

	printf(" %s %s", name, text ? text : "?");
}

static void print_registers(struct json_object *info)
{
	const char *error = json_get_string(info, "registers_error");
	struct json_object *r;

	if (error)
		printf("%-20s%s\n", "vCPU 0:", error);
	if (!json_object_object_get_ex(info, "registers", &r))
		return;
	printf("%-20s%" PRId64 "-bit mode, privilege level %" PRId64 "\n", "vCPU 0:",
	       json_get_int(r, "mode") * 8, json_get_int(r, "cpl"));
	printf(" ");
	print_hex(r, "rip");
	print_hex(r, "rsp");
	print_hex(r, "rflags");
	printf("\n ");
	print_hex(r, "cr0");
	print_hex(r, "cr3");
	print_hex(r, "cr4");
	print_hex(r, "efer");
	print_hex(r, "lstar");
	printf("\n");
}

static void print_kernel(struct json_object *info)
{
	struct json_object *k, *list, *e;
	uint64_t gva, gpa, size;
	char text[32];
	size_t i;

	if (!json_object_object_get_ex(info, "kernel", &k))
		return;
	if (json_get_u64(k, "size", &size))
		printf("%-20s%s..%s, %s\n", "kernel text:", json_get_string(k, "start"),
		       json_get_string(k, "end"), format_size(size, text, sizeof(text)));
	if (json_object_object_get_ex(k, "extents", &list))
		for (i = 0; i < json_object_array_length(list); i++) {
			e = json_object_array_get_idx(list, i);
			if (json_get_u64(e, "gva", &gva) && json_get_u64(e, "gpa", &gpa) &&
			    json_get_u64(e, "size", &size))
				printf("  gva 0x%" PRIx64 " is gpa 0x%" PRIx64 "+0x%" PRIx64 "\n",
				       gva, gpa, size);
		}
	printf("%-20sgva %s", "system call entry:", json_get_string(k, "entry_gva"));
	if (json_get_u64(k, "entry_gpa", &gpa))
		printf(" gpa 0x%" PRIx64, gpa);
	printf("\n");
}

static void print_features(struct json_object *info)
{
	struct json_object *features;
	bool any = false;

	printf("%-20s", "features:");
	if (json_object_object_get_ex(info, "features", &features)) {
		json_object_object_foreach(features, name, value) {
			if (!json_object_get_boolean(value))
				continue;
			printf("%s%s", any ? ", " : "", name);
			any = true;
		}
	}
	printf("%s\n", any ? "" : "none");
}

static void print_info(struct json_object *info)
{
	uint64_t max_gfn;

	printf("%-20s%" PRId64 "\n", "VM:", json_get_int(info, "vm"));
	printf("%-20s%s\n", "name:", json_get_string(info, "name"));
	printf("%-20s%s\n", "UUID:", json_get_string(info, "uuid"));
	printf("%-20s%" PRId64 "\n", "VMM's process:", json_get_int(info, "pid"));
	printf("%-20s%s\n", "highest gpa:", json_get_string(info, "max_gpa"));
	printf("%-20s%" PRId64 ", messages up to %" PRId64 " bytes\n", "protocol version:",
	       json_get_int(info, "version"), json_get_int(info, "max_msg_size"));
	if (json_get_u64(info, "max_gfn", &max_gfn))
		printf("%-20sgpa 0x%" PRIx64 "\n", "end of RAM:", max_gfn << 12);
	print_features(info);
	printf("%-20s%" PRId64 "\n", "vCPUs:", json_get_int(info, "vcpus"));
	printf("%-20s%" PRId64 "\n", "restricted pages:", json_get_int(info, "restricted_pages"));
	printf("%-20s%" PRId64 " (%" PRId64 " unwatched)\n", "page-fault events:",
	       json_get_int(info, "page_fault_events"),
	       json_get_int(info, "unwatched_events"));
	print_registers(info);
	print_kernel(info);
	print_names(info, "commands", "allowed commands:");
	print_names(info, "allowed_events", "allowed events:");
}

int cmd_info(int argc, char **argv)
{
	struct info_options o = { 0 };
	struct json_object *request;

	parse_options(&argp, argc, argv, &o);
	request = client_request(&o.common, "info");
	json_add_bool(request, "kernel", o.kernel);
	return verb_ask(&o.common, request, print_info);
}
