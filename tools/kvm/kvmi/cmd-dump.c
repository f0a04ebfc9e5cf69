// SPDX-License-Identifier: GPL-2.0
/* kvmi dump: an ELF core of a guest. */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "verb.h"

#define BAR_WIDTH	40

struct dump_options {
	struct common_options common;
	const char *file;
	uint64_t max_gpa;
	bool live;
	bool force;
	bool bar;			/* one is on the screen */
};

enum {
	OPT_LIVE = 0x200,
	OPT_MAX_GPA,
};

static const struct argp_option options[] = {
	{ .name = "live", .key = OPT_LIVE,
	  .doc = "Let the guest run meanwhile; what is written is of no single moment then" },
	{ .name = "max-gpa", .key = OPT_MAX_GPA, .arg = "GPA",
	  .doc = "The highest address to look at (default: where the memory ends)" },
	{ .name = "force", .key = 'f', .doc = "Overwrite FILE if it exists" },
	{ 0 }
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct dump_options *o = state->input;

	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = &o->common;
		return 0;
	case OPT_LIVE:
		o->live = true;
		return 0;
	case OPT_MAX_GPA:
		o->max_gpa = parse_address(state, arg);
		return 0;
	case 'f':
		o->force = true;
		return 0;
	case ARGP_KEY_ARG:
		if (o->file)
			argp_error(state, "\"%s\" is too much", arg);
		o->file = arg;
		return 0;
	case ARGP_KEY_END:
		if (!o->file)
			argp_error(state, "FILE is missing");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp argp = {
	.options = options,
	.parser = parse,
	.args_doc = "FILE",
	.doc = "Write the guest's memory and registers into an ELF core.\v"
	       "The guest stands still meanwhile.  Where it has no memory, or zeros, the file has holes.",
	.children = client_children,
};

static void print_bar(struct dump_options *o, uint64_t done, uint64_t total)
{
	int n = total ? done * BAR_WIDTH / total : 0;
	char bar[BAR_WIDTH + 1];

	if (!isatty(STDERR_FILENO))
		return;
	memset(bar, ' ', BAR_WIDTH);
	memset(bar, '#', n);
	bar[BAR_WIDTH] = '\0';
	fprintf(stderr, "\r[%s] %3d%%", bar, total ? (int)(done * 100 / total) : 0);
	o->bar = true;
}

static void print(struct json_object *line, void *data)
{
	char memory[32], written[32];
	struct dump_options *o = data;

	if (!json_get_string(line, "end")) {
		print_bar(o, json_get_int(line, "done"), json_get_int(line, "total"));
		return;
	}
	if (o->bar)
		fprintf(stderr, "\n");
	printf("%s: %s of guest memory in %" PRId64 " pieces, %s written, %" PRId64 " kernel mappings\n",
	       o->file, format_size(json_get_int(line, "memory"), memory, sizeof(memory)),
	       json_get_int(line, "ranges"),
	       format_size(json_get_int(line, "written"), written, sizeof(written)),
	       json_get_int(line, "mappings"));
}

/* Only a file is replaced, and only if that is wanted. */
static int check_file(const struct dump_options *o)
{
	struct stat st;

	if (lstat(o->file, &st))
		return errno == ENOENT ? 0 : fail(status_of_errno(-errno), "%s: %s", o->file,
						  strerror(errno));
	if (!S_ISREG(st.st_mode))
		return fail(KVMI_EXIT_BUSY, "%s: is there, and not a file", o->file);
	if (!o->force)
		return fail(KVMI_EXIT_BUSY, "%s: is there already; --force overwrites it", o->file);
	return 0;
}

/* The dump is whole: have it take the place of what was there. */
static int move_file(const struct dump_options *o, const char *from)
{
	int err = check_file(o);

	if (!err && rename(from, o->file))
		err = fail(status_of_errno(-errno), "%s: %s", o->file, strerror(errno));
	return err;
}

int cmd_dump(int argc, char **argv)
{
	struct dump_options o = { 0 };
	struct json_object *request;
	char *part = NULL;
	int err, fd = -1;

	parse_options(&argp, argc, argv, &o);
	err = check_file(&o);
	if (!err && asprintf(&part, "%s.XXXXXX", o.file) < 0)
		err = fail(KVMI_EXIT_FAILED, "out of memory");
	if (!err) {
		/* For its user alone. */
		fd = mkostemp(part, O_CLOEXEC);
		if (fd < 0)
			err = fail(status_of_errno(-errno), "%s: %s", o.file, strerror(errno));
	}
	if (err) {
		free(part);
		return report_failure(&o.common, err);
	}
	request = client_request(&o.common, "dump");
	json_add_bool(request, "live", o.live);
	if (o.max_gpa)
		json_add_hex(request, "max_gpa", o.max_gpa);
	err = verb_stream(&o.common, request, fd, 0, print, &o);
	if (!err) {
		err = move_file(&o, part);
		if (err)
			report_failure(&o.common, err);
	}
	/* Half a dump is none. */
	if (err)
		unlink(part);
	close(fd);
	free(part);
	return err;
}
