// SPDX-License-Identifier: GPL-2.0
/* For verbs that ask the listener; see verb.h. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "verb.h"

#define MSR_LSTAR	0xc0000082

void parse_vcpu(struct argp_state *state, const char *arg, long *vcpu)
{
	if (!parse_int(arg, 0, UINT16_MAX, vcpu))
		argp_error(state, "--vcpu: \"%s\" is not within 0..%d", arg, UINT16_MAX);
}

uint64_t parse_address(struct argp_state *state, const char *arg)
{
	uint64_t address = 0;

	if (!parse_u64(arg, &address))
		argp_error(state, "\"%s\" is not an address", arg);
	return address;
}

int verb_get(const struct common_options *options, struct json_object *request,
	     struct json_object **reply)
{
	struct control_client client;
	int err;

	err = client_open(&client, options);
	if (err)
		json_object_put(request);
	else
		err = client_ask(&client, request, reply);
	client_close(&client);
	return err;
}

int verb_ask(const struct common_options *options, struct json_object *request,
	     void (*print)(struct json_object *reply))
{
	struct json_object *reply;
	int err;

	err = verb_get(options, request, &reply);
	if (err)
		return report_failure(options, err);
	if (options->json) {
		json_print(reply);
	} else {
		print(reply);
		json_object_put(reply);
	}
	return 0;
}

static int print_lines(struct control_client *client, const struct common_options *options,
		       long timeout, void (*print)(struct json_object *line, void *data),
		       void *data)
{
	struct json_object *line;
	int err, status;
	bool end;

	for (;;) {
		err = client_next(client, &line);
		if (err == KVMI_EXIT_TIMEOUT)
			return fail(err, "nothing came for %ld s", timeout);
		if (err)
			return err;
		if (json_get_string(line, "error")) {
			status = json_get_int(line, "status");
			err = fail(status > 0 && status < 128 ? status : KVMI_EXIT_FAILED,
				   "%s", json_get_string(line, "error"));
			json_object_put(line);
			return err;
		}
		end = json_get_string(line, "end");
		status = 0;
		if (end && json_get_bool(line, "gone"))
			status = fail(KVMI_EXIT_GONE, "%s", json_get_string(line, "end"));
		else if (end && json_get_int(line, "status"))
			status = fail(json_get_int(line, "status"), "%s",
				      json_get_string(line, "end"));
		if (options->json) {
			json_print(line);
		} else {
			print(line, data);
			json_object_put(line);
			fflush(stdout);
		}
		if (end)
			return status;
		if (ferror(stdout))
			return fail(KVMI_EXIT_FAILED, "writing the output failed");
	}
}

int verb_stream(const struct common_options *options, struct json_object *request,
		int passed_fd, long timeout,
		void (*print)(struct json_object *line, void *data), void *data)
{
	const struct timeval tv = { .tv_sec = timeout };
	struct control_client client;
	int err;

	err = client_open(&client, options);
	if (err)
		json_object_put(request);
	else if (line_send_fd(client.fd, request, passed_fd))
		err = fail(KVMI_EXIT_GONE, "the listener has ended");
	if (!err && timeout &&
	    setsockopt(client.fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)))
		err = fail(KVMI_EXIT_FAILED, "setting a timeout failed");
	if (!err) {
		client_end_on_signal(&client);
		err = print_lines(&client, options, timeout, print, data);
	}
	client_close(&client);
	return err ? report_failure(options, err) : 0;
}

/* Where the guest's system calls enter, as one of its vCPUs has it. */
static int get_lstar(const struct common_options *options, uint64_t *lstar)
{
	struct json_object *request = client_request(options, "regs"), *reply, *list, *o;
	int err;

	list = json_object_new_array();
	json_object_array_add(list, json_object_new_int64(MSR_LSTAR));
	json_object_object_add(request, "msrs", list);
	json_add_int(request, "vcpu", 0);
	err = verb_get(options, request, &reply);
	if (err)
		return err;
	*lstar = 0;
	if (json_object_object_get_ex(reply, "vcpus", &list)) {
		o = json_object_array_get_idx(list, 0);
		if (o && json_object_object_get_ex(o, "msrs", &list)) {
			o = json_object_array_get_idx(list, 0);
			if (o)
				json_get_u64(o, "value", lstar);
		}
	}
	json_object_put(reply);
	return 0;
}

int verb_symbols(const struct common_options *options, const char *path,
		 struct symbols **symbols)
{
	uint64_t lstar;
	int err;

	*symbols = NULL;
	if (!path)
		return 0;
	err = symbols_open(path, symbols);
	if (!err)
		err = get_lstar(options, &lstar);
	if (!err)
		err = symbols_relocate(*symbols, lstar);
	if (err && *symbols) {
		symbols_free(*symbols);
		*symbols = NULL;
	}
	return err;
}

int verb_address(const struct symbols *symbols, const char *text, uint64_t *address)
{
	uint64_t offset = 0;
	char name[256];
	const char *plus;

	if (parse_u64(text, address))
		return 0;
	if (!symbols)
		return fail(KVMI_EXIT_USAGE, "\"%s\" is not a number; a name needs --symbols",
			    text);
	plus = strchr(text, '+');
	if (plus && !parse_u64(plus + 1, &offset))
		return fail(KVMI_EXIT_USAGE, "\"%s\": \"%s\" is not a number", text, plus + 1);
	snprintf(name, sizeof(name), "%.*s", plus ? (int)(plus - text) : (int)strlen(text), text);
	if (!symbols_find(symbols, name, address))
		return fail(KVMI_EXIT_NOT_FOUND, "\"%s\": there is no such symbol", name);
	*address += offset;
	return 0;
}
