// SPDX-License-Identifier: GPL-2.0
/* What the verbs share. */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common.h"
#include "failure.h"

/* --- options --------------------------------------------------------------------- */

static error_t parse_common(int key, char *arg, struct argp_state *state)
{
	struct common_options *options = state->input;

	switch (key) {
	case 'j':
		options->json = true;
		return 0;
	case 'c':
		options->control = arg;
		return 0;
	case 'v':
		options->vm = arg;
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp_option output_options[] = {
	{ .name = "json", .key = 'j', .doc = "Print JSON, one object per line" },
	{ 0 }
};

static const struct argp output_argp = {
	.options = output_options,
	.parser = parse_common,
};

const struct argp_child output_children[] = {
	{ .argp = &output_argp },
	{ 0 }
};

static const struct argp_option client_options[] = {
	{ .name = "json", .key = 'j', .doc = "Print JSON, one object per line" },
	{ .name = "control", .key = 'c', .arg = "PATH",
	  .doc = "The control socket of \"kvmi listen\" (default: $KVMI_CONTROL, or kvmi.ctl in /run or $XDG_RUNTIME_DIR)" },
	{ .name = "vm", .key = 'v', .arg = "VM",
	  .doc = "Which VM, by number, name or UUID; needed if the listener has several" },
	{ 0 }
};

static const struct argp client_argp = {
	.options = client_options,
	.parser = parse_common,
};

const struct argp_child client_children[] = {
	{ .argp = &client_argp },
	{ 0 }
};

void parse_options(const struct argp *argp, int argc, char **argv, void *input)
{
	argp_err_exit_status = KVMI_EXIT_USAGE;
	if (argp_parse(argp, argc, argv, 0, NULL, input))
		exit(KVMI_EXIT_USAGE);
}

void option_failed(const struct argp_state *state)
{
	argp_error(state, "%s", failure());
	exit(KVMI_EXIT_USAGE);
}

const char *control_path(const struct common_options *options)
{
	static char path[128];
	const char *dir;

	if (options->control)
		return *options->control ? options->control : NULL;
	dir = getenv("KVMI_CONTROL");
	if (dir && *dir)
		return dir;
	dir = geteuid() ? getenv("XDG_RUNTIME_DIR") : "/run";
	if (!dir || !*dir ||
	    snprintf(path, sizeof(path), "%s/kvmi.ctl", dir) >= (int)sizeof(path))
		return NULL;
	return path;
}

int report_failure(const struct common_options *options, int status)
{
	struct json_object *object;

	if (options->json) {
		object = json_object_new_object();
		json_add_string(object, "error", failure());
		json_add_int(object, "status", status);
		json_print(object);
	} else {
		fflush(stdout);
		fprintf(stderr, "kvmi: %s\n", failure());
	}
	return status;
}

/* --- JSON --------------------------------------------------------------------------- */

void json_add_hex(struct json_object *object, const char *name, uint64_t value)
{
	char text[24];

	snprintf(text, sizeof(text), "0x%" PRIx64, value);
	json_add_string(object, name, text);
}

void json_add_string(struct json_object *object, const char *name, const char *value)
{
	json_object_object_add(object, name, json_object_new_string(value));
}

void json_add_int(struct json_object *object, const char *name, int64_t value)
{
	json_object_object_add(object, name, json_object_new_int64(value));
}

void json_add_bool(struct json_object *object, const char *name, bool value)
{
	json_object_object_add(object, name, json_object_new_boolean(value));
}

bool json_get_u64(struct json_object *object, const char *name, uint64_t *value)
{
	const char *text = json_get_string(object, name);
	char *end;

	if (!text)
		return false;
	errno = 0;
	*value = strtoull(text, &end, 16);
	return !errno && end != text && !*end;
}

/* NULL if there is no such string; it lives as long as the object. */
const char *json_get_string(struct json_object *object, const char *name)
{
	struct json_object *value;

	if (!json_object_object_get_ex(object, name, &value) ||
	    !json_object_is_type(value, json_type_string))
		return NULL;
	return json_object_get_string(value);
}

int64_t json_get_int(struct json_object *object, const char *name)
{
	struct json_object *value;

	if (!json_object_object_get_ex(object, name, &value) ||
	    !json_object_is_type(value, json_type_int))
		return 0;
	return json_object_get_int64(value);
}

bool json_get_bool(struct json_object *object, const char *name)
{
	struct json_object *value;

	return json_object_object_get_ex(object, name, &value) &&
	       json_object_is_type(value, json_type_boolean) &&
	       json_object_get_boolean(value);
}

void json_print(struct json_object *object)
{
	puts(json_object_to_json_string_ext(object, JSON_C_TO_STRING_PLAIN |
					    JSON_C_TO_STRING_NOSLASHESCAPE));
	fflush(stdout);
	json_object_put(object);
}
