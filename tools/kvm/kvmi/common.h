/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KVMI_COMMON_H
#define KVMI_COMMON_H

/* What the verbs share: options, ways to report, the verbs themselves. */

#include <argp.h>
#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>

struct common_options {
	bool json;
	const char *control;	/* where the listener is */
	const char *vm;		/* which of its VMs, NULL for the only one */
};

/*
 * Children for a verb's argp, which passes a struct common_options on as the
 * input of the first: the options of all verbs, and those of all that ask the
 * listener.
 */
extern const struct argp_child output_children[];
extern const struct argp_child client_children[];

/*
 * Parse a verb's options; exits with KVMI_EXIT_USAGE where they are wrong.  An
 * option that failure() has a text about is refused with option_failed().
 */
void parse_options(const struct argp *argp, int argc, char **argv, void *input);
__attribute__((noreturn))
void option_failed(const struct argp_state *state);

/* The control socket to use; NULL if neither option nor environment says. */
const char *control_path(const struct common_options *options);

/* Report failure() and return @status. */
int report_failure(const struct common_options *options, int status);

/* JSON: addresses are strings, as numbers of 64 bits are not for everybody. */
void json_add_hex(struct json_object *object, const char *name, uint64_t value);
void json_add_string(struct json_object *object, const char *name, const char *value);
void json_add_int(struct json_object *object, const char *name, int64_t value);
void json_add_bool(struct json_object *object, const char *name, bool value);
bool json_get_u64(struct json_object *object, const char *name, uint64_t *value);
const char *json_get_string(struct json_object *object, const char *name);
int64_t json_get_int(struct json_object *object, const char *name);
bool json_get_bool(struct json_object *object, const char *name);
/* Print one line, and free the object. */
void json_print(struct json_object *object);

int cmd_break(int argc, char **argv);
int cmd_cr(int argc, char **argv);
int cmd_dump(int argc, char **argv);
int cmd_hook(int argc, char **argv);
int cmd_info(int argc, char **argv);
int cmd_list(int argc, char **argv);
int cmd_listen(int argc, char **argv);
int cmd_msr(int argc, char **argv);
int cmd_pause(int argc, char **argv);
int cmd_protect(int argc, char **argv);
int cmd_read(int argc, char **argv);
int cmd_regs(int argc, char **argv);
int cmd_resume(int argc, char **argv);
int cmd_step(int argc, char **argv);
int cmd_translate(int argc, char **argv);
int cmd_unhook(int argc, char **argv);
int cmd_watch(int argc, char **argv);
int cmd_write(int argc, char **argv);

#define KVMI_VERSION_TEXT	"kvmi 0.1.0"

#endif /* KVMI_COMMON_H */
