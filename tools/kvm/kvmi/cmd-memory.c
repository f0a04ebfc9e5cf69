// SPDX-License-Identifier: GPL-2.0
/* kvmi read, kvmi write, kvmi translate: guest memory by either kind of address. */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "verb.h"

#define CHUNK		(32 << 10)	/* read or written by one request */
#define DEFAULT_SIZE	256
#define LINE		16

struct memory_options {
	struct common_options common;
	long vcpu;
	const char *symbols;
	const char *address;
	const char *length;
	const char *hex;
	bool physical;
	bool raw;
};

static const struct argp_option read_options[] = {
	VCPU_OPTION("As this vCPU sees it (default: 0)"),
	{ .name = "phys", .key = 'p', .doc = "ADDRESS is guest physical" },
	SYMBOLS_OPTION("; ADDRESS can then be NAME[+OFFSET]"),
	{ .name = "raw", .key = 'r', .doc = "The bytes as they are, to standard output" },
	{ 0 }
};

static const struct argp_option write_options[] = {
	VCPU_OPTION("As this vCPU sees it (default: 0)"),
	{ .name = "phys", .key = 'p', .doc = "ADDRESS is guest physical" },
	SYMBOLS_OPTION("; ADDRESS can then be NAME[+OFFSET]"),
	{ 0 }
};

static const struct argp_option translate_options[] = {
	VCPU_OPTION("As this vCPU sees it (default: 0)"),
	SYMBOLS_OPTION("; ADDRESS can then be NAME[+OFFSET]"),
	{ 0 }
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct memory_options *o = state->input;

	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = &o->common;
		return 0;
	case OPT_VCPU:
		parse_vcpu(state, arg, &o->vcpu);
		return 0;
	case 'p':
		o->physical = true;
		return 0;
	case 'r':
		o->raw = true;
		return 0;
	case 's':
		o->symbols = arg;
		return 0;
	case ARGP_KEY_ARG:
		if (!o->address)
			o->address = arg;
		else if (!o->length)
			o->length = arg;
		else
			argp_error(state, "\"%s\" is too much", arg);
		return 0;
	case ARGP_KEY_END:
		if (!o->address)
			argp_error(state, "ADDRESS is missing");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp read_argp = {
	.options = read_options,
	.parser = parse,
	.args_doc = "ADDRESS [LENGTH]",
	.doc = "Print guest memory (256 bytes, if no LENGTH is given).",
	.children = client_children,
};

static const struct argp write_argp = {
	.options = write_options,
	.parser = parse,
	.args_doc = "ADDRESS [BYTES]",
	.doc = "Write guest memory: BYTES in hexadecimal, as in 90cc; or standard input.",
	.children = client_children,
};

static const struct argp translate_argp = {
	.options = translate_options,
	.parser = parse,
	.args_doc = "ADDRESS",
	.doc = "Tell which guest physical address a guest virtual one is at.",
	.children = client_children,
};

/* The rest of the command line, which may need the guest to be asked. */
static int get_address(const struct memory_options *o, uint64_t *address)
{
	struct symbols *symbols;
	int err;

	err = verb_symbols(&o->common, o->symbols, &symbols);
	if (!err)
		err = verb_address(symbols, o->address, address);
	symbols_free(symbols);
	return err;
}

static struct json_object *memory_request(const struct memory_options *o, const char *cmd,
					  uint64_t address)
{
	struct json_object *request = client_request(&o->common, cmd);

	json_add_hex(request, o->physical ? "gpa" : "gva", address);
	if (!o->physical && o->vcpu >= 0)
		json_add_int(request, "vcpu", o->vcpu);
	return request;
}

static void print_lines(uint64_t address, const uint8_t *buf, size_t size)
{
	size_t i, j;

	for (i = 0; i < size; i += LINE) {
		printf("%016" PRIx64 " ", address + i);
		for (j = i; j < i + LINE; j++)
			if (j < size)
				printf(" %02x", buf[j]);
			else
				printf("   ");
		printf("  ");
		for (j = i; j < i + LINE && j < size; j++)
			putchar(buf[j] >= ' ' && buf[j] < 0x7f ? buf[j] : '.');
		printf("\n");
	}
}

static int read_chunk(const struct memory_options *o, struct control_client *client,
		      uint64_t address, size_t size)
{
	struct json_object *request = memory_request(o, "read", address), *reply;
	uint8_t buf[CHUNK];
	const char *text;
	int err;

	json_add_int(request, "size", size);
	err = client_ask(client, request, &reply);
	if (err)
		return err;
	text = json_get_string(reply, "data");
	if (!text || !parse_hex(text, buf, size)) {
		err = fail(KVMI_EXIT_FAILED, "the listener's answer has no data");
	} else if (o->raw) {
		fwrite(buf, 1, size, stdout);
	} else if (o->common.json) {
		json_add_hex(reply, o->physical ? "gpa" : "gva", address);
		json_add_int(reply, "size", size);
		json_print(json_object_get(reply));
	} else {
		print_lines(address, buf, size);
	}
	json_object_put(reply);
	if (!err && (fflush(stdout) || ferror(stdout)))
		err = fail(KVMI_EXIT_FAILED, "writing the output failed");
	return err;
}

int cmd_read(int argc, char **argv)
{
	struct memory_options o = { .vcpu = -1 };
	struct control_client client;
	uint64_t address, size = DEFAULT_SIZE, n;
	int err = 0;

	parse_options(&read_argp, argc, argv, &o);
	if (o.length && (!parse_u64(o.length, &size) || !size))
		err = fail(KVMI_EXIT_USAGE, "LENGTH: \"%s\" is not a number from 1 on", o.length);
	if (!err && o.raw && o.common.json)
		err = fail(KVMI_EXIT_USAGE, "--raw and --json do not go together");
	if (!err)
		err = get_address(&o, &address);
	if (err)
		return report_failure(&o.common, err);
	err = client_open(&client, &o.common);
	if (o.raw)
		setvbuf(stdout, NULL, _IOFBF, CHUNK);
	for (; !err && size; size -= n, address += n) {
		n = size < CHUNK ? size : CHUNK;
		err = read_chunk(&o, &client, address, n);
	}
	client_close(&client);
	return err ? report_failure(&o.common, err) : 0;
}

static int write_chunk(const struct memory_options *o, struct control_client *client,
		       uint64_t address, const char *hex)
{
	struct json_object *request = memory_request(o, "write", address), *reply;
	int err;

	json_add_string(request, "data", hex);
	err = client_ask(client, request, &reply);
	if (!err)
		json_object_put(reply);
	return err;
}

static int write_input(const struct memory_options *o, struct control_client *client,
		       uint64_t address, uint64_t *written)
{
	char text[2 * CHUNK + 1];
	uint8_t buf[CHUNK];
	size_t n;
	int err = 0;

	while (!err && (n = fread(buf, 1, sizeof(buf), stdin))) {
		format_hex(buf, n, text);
		err = write_chunk(o, client, address + *written, text);
		*written += err ? 0 : n;
	}
	if (!err && ferror(stdin))
		err = fail(KVMI_EXIT_FAILED, "standard input: %s", strerror(errno));
	return err;
}

int cmd_write(int argc, char **argv)
{
	struct memory_options o = { .vcpu = -1 };
	uint64_t address, written = 0;
	struct control_client client;
	uint8_t buf[CHUNK];
	int err = 0;

	parse_options(&write_argp, argc, argv, &o);
	/* What would be the length is the bytes here. */
	if (o.length && (!*o.length || strlen(o.length) / 2 > sizeof(buf) ||
			 !parse_hex(o.length, buf, strlen(o.length) / 2)))
		err = fail(KVMI_EXIT_USAGE, "BYTES: \"%s\" is not in hexadecimal, two digits each",
			   o.length);
	if (!err)
		err = get_address(&o, &address);
	if (err)
		return report_failure(&o.common, err);
	err = client_open(&client, &o.common);
	if (!err && o.length) {
		err = write_chunk(&o, &client, address, o.length);
		written = err ? 0 : strlen(o.length) / 2;
	} else if (!err) {
		err = write_input(&o, &client, address, &written);
	}
	client_close(&client);
	if (err)
		return report_failure(&o.common, err);
	if (o.common.json) {
		struct json_object *out = json_object_new_object();

		json_add_hex(out, o.physical ? "gpa" : "gva", address);
		json_add_int(out, "size", written);
		json_print(out);
	} else {
		printf("%" PRIu64 " bytes written\n", written);
	}
	return 0;
}

static void print_translation(struct json_object *reply)
{
	const char *gpa = json_get_string(reply, "gpa");

	printf("gva %s is %s%s\n", json_get_string(reply, "gva"), gpa ? "gpa " : "not mapped",
	       gpa ? gpa : "");
}

int cmd_translate(int argc, char **argv)
{
	struct memory_options o = { .vcpu = -1 };
	struct json_object *reply;
	uint64_t address;
	int err = 0;

	parse_options(&translate_argp, argc, argv, &o);
	if (o.length)
		err = fail(KVMI_EXIT_USAGE, "\"%s\" is too much", o.length);
	if (!err)
		err = get_address(&o, &address);
	if (!err)
		err = verb_get(&o.common, memory_request(&o, "translate", address), &reply);
	if (err)
		return report_failure(&o.common, err);
	if (!json_get_string(reply, "gpa"))
		err = KVMI_EXIT_NOT_FOUND;
	if (o.common.json) {
		json_print(reply);
	} else {
		print_translation(reply);
		json_object_put(reply);
	}
	return err;
}
