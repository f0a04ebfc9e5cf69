// SPDX-License-Identifier: GPL-2.0
/*
 * kvmi regs: all registers of vCPUs; kvmi cr and kvmi msr: those of one kind,
 * and whether the guest's writes to them are reported.
 */

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "verb.h"

struct regs_options {
	struct common_options common;
	long vcpu;
	struct json_object *msrs;
	struct json_object *numbers;	/* of what is to be reported, or not */
	bool msr;			/* the verb is msr, not cr */
	int track;			/* 1: on, -1: off, 0: just show */
};

enum {
	OPT_ON = 0x200,
	OPT_OFF,
};

static const struct argp_option regs_options[] = {
	VCPU_OPTION("Only this vCPU, not all of them"),
	{ .name = "msr", .key = 'm', .arg = "MSR", .doc = "This MSR, too; can be given several times" },
	{ 0 }
};

static const struct argp_option track_options[] = {
	VCPU_OPTION("Show only this vCPU, not all of them"),
	{ .name = "on", .key = OPT_ON, .doc = "Have the guest's writes reported, on all vCPUs" },
	{ .name = "off", .key = OPT_OFF, .doc = "Have them reported no more" },
	{ 0 }
};

static void add_number(struct argp_state *state, struct json_object *list, const char *arg,
		       const char *what)
{
	uint64_t n;

	if (!parse_u64(arg, &n) || n > UINT32_MAX)
		argp_error(state, "\"%s\" is not %s", arg, what);
	else
		json_object_array_add(list, json_object_new_int64(n));
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct regs_options *o = state->input;

	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = &o->common;
		return 0;
	case OPT_VCPU:
		parse_vcpu(state, arg, &o->vcpu);
		return 0;
	case 'm':
		add_number(state, o->msrs, arg, "an MSR");
		return 0;
	case OPT_ON:
	case OPT_OFF:
		o->track = key == OPT_ON ? 1 : -1;
		return 0;
	case ARGP_KEY_ARG:
		if (!o->numbers)
			argp_error(state, "\"%s\" is too much", arg);
		else if (o->msr)
			add_number(state, o->numbers, arg, "an MSR");
		else if (!strcmp(arg, "0") || !strcmp(arg, "3") || !strcmp(arg, "4"))
			add_number(state, o->numbers, arg, "0, 3 or 4");
		else
			argp_error(state, "\"%s\" is not 0, 3 or 4", arg);
		return 0;
	case ARGP_KEY_END:
		if (o->numbers && (o->track || o->msr) && !json_object_array_length(o->numbers))
			argp_error(state, "%s is missing", o->msr ? "MSR" : "CR");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp regs_argp = {
	.options = regs_options,
	.parser = parse,
	.doc = "Show the registers of the vCPUs of a VM.",
	.children = client_children,
};

static const struct argp cr_argp = {
	.options = track_options,
	.parser = parse,
	.args_doc = "[CR...]",
	.doc = "Show control registers, or have the guest's writes to CR0, CR3 or CR4 reported.\v"
	       "\"kvmi watch --event cr\" prints what is reported.",
	.children = client_children,
};

static const struct argp msr_argp = {
	.options = track_options,
	.parser = parse,
	.args_doc = "MSR...",
	.doc = "Show MSRs, or have the guest's writes to them reported.\v"
	       "\"kvmi watch --event msr\" prints what is reported.",
	.children = client_children,
};

static const char *text_of(struct json_object *o, const char *name)
{
	const char *text = json_get_string(o, name);

	return text ? text : "?";
}

static void print_row(struct json_object *o, const char * const *names)
{
	for (; *names; names++)
		printf("  %6s %-18s", *names, text_of(o, *names));
	printf("\n");
}

static void print_segment(struct json_object *o, const char *name)
{
	struct json_object *s;

	if (!json_object_object_get_ex(o, name, &s))
		return;
	printf("  %6s", name);
	if (json_object_object_get_ex(s, "selector", NULL))
		printf(" 0x%04" PRIx64, json_get_int(s, "selector"));
	printf(" base %s limit %s\n", text_of(s, "base"), text_of(s, "limit"));
}

static void print_msrs(struct json_object *o)
{
	struct json_object *list, *m;
	size_t i;

	if (!json_object_object_get_ex(o, "msrs", &list))
		return;
	for (i = 0; i < json_object_array_length(list); i++) {
		m = json_object_array_get_idx(list, i);
		printf("  MSR %s %s\n", text_of(m, "msr"), text_of(m, "value"));
	}
}

static const char * const cr_names[] = { "cr0", "cr2", "cr3", "cr4", "cr8", NULL };

static void print_all(struct json_object *o)
{
	static const char * const rows[][5] = {
		{ "rax", "rbx", "rcx", "rdx" }, { "rsi", "rdi", "rsp", "rbp" },
		{ "r8", "r9", "r10", "r11" }, { "r12", "r13", "r14", "r15" },
		{ "rip", "rflags" }, { "efer", "apic_base" },
	};
	static const char * const segments[] = {
		"cs", "ds", "es", "fs", "gs", "ss", "tr", "ldt", "gdt", "idt",
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(rows); i++)
		print_row(o, rows[i]);
	print_row(o, cr_names);
	for (i = 0; i < ARRAY_SIZE(segments); i++)
		print_segment(o, segments[i]);
}

static void print_vcpus(struct json_object *reply, void (*print)(struct json_object *o))
{
	struct json_object *list, *o;
	size_t i;

	if (!json_object_object_get_ex(reply, "vcpus", &list))
		return;
	for (i = 0; i < json_object_array_length(list); i++) {
		o = json_object_array_get_idx(list, i);
		if (json_get_string(o, "error")) {
			printf("vCPU %" PRId64 ": %s\n", json_get_int(o, "vcpu"),
			       json_get_string(o, "error"));
			continue;
		}
		printf("vCPU %" PRId64 ": %" PRId64 "-bit mode, privilege level %" PRId64 "\n",
		       json_get_int(o, "vcpu"), json_get_int(o, "mode") * 8,
		       json_get_int(o, "cpl"));
		if (print)
			print(o);
		print_msrs(o);
	}
}

static void print_regs(struct json_object *reply)
{
	print_vcpus(reply, print_all);
}

static void print_crs(struct json_object *o)
{
	print_row(o, cr_names);
}

static void print_cr(struct json_object *reply)
{
	print_vcpus(reply, print_crs);
}

static void print_msr(struct json_object *reply)
{
	print_vcpus(reply, NULL);
}

static void print_tracked(struct json_object *reply)
{
	printf("done for VM %" PRId64 " (%s)\n", json_get_int(reply, "vm"),
	       json_get_string(reply, "name"));
}

static int show(struct regs_options *o, struct json_object *msrs,
		void (*print)(struct json_object *reply))
{
	struct json_object *request = client_request(&o->common, "regs");

	if (o->vcpu >= 0)
		json_add_int(request, "vcpu", o->vcpu);
	json_object_object_add(request, "msrs", json_object_get(msrs));
	return verb_ask(&o->common, request, print);
}

static int track(struct regs_options *o)
{
	struct json_object *request = client_request(&o->common, "track");

	json_add_bool(request, "msr", o->msr);
	json_add_bool(request, "on", o->track > 0);
	json_object_object_add(request, "numbers", json_object_get(o->numbers));
	return verb_ask(&o->common, request, print_tracked);
}

int cmd_regs(int argc, char **argv)
{
	struct regs_options o = { .vcpu = -1, .msrs = json_object_new_array() };
	int err;

	parse_options(&regs_argp, argc, argv, &o);
	err = show(&o, o.msrs, print_regs);
	json_object_put(o.msrs);
	return err;
}

int cmd_cr(int argc, char **argv)
{
	struct regs_options o = { .vcpu = -1, .numbers = json_object_new_array() };
	struct json_object *none = json_object_new_array();
	int err;

	parse_options(&cr_argp, argc, argv, &o);
	err = o.track ? track(&o) : show(&o, none, print_cr);
	json_object_put(none);
	json_object_put(o.numbers);
	return err;
}

int cmd_msr(int argc, char **argv)
{
	struct regs_options o = { .vcpu = -1, .numbers = json_object_new_array(), .msr = true };
	int err;

	parse_options(&msr_argp, argc, argv, &o);
	err = o.track ? track(&o) : show(&o, o.numbers, print_msr);
	json_object_put(o.numbers);
	return err;
}
