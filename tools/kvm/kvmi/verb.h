/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KVMI_VERB_H
#define KVMI_VERB_H

/* For verbs that ask the listener one thing, or have it stream lines. */

#include "client.h"
#include "common.h"
#include "failure.h"
#include "parse.h"
#include "symbols.h"

/* --vcpu N, in o->vcpu, -1 where it is missing. */
#define OPT_VCPU	0x100

#define VCPU_OPTION(text)	{ .name = "vcpu", .key = OPT_VCPU, .arg = "N", .doc = text }

/* --symbols FILE; @text says what that is good for. */
#define SYMBOLS_OPTION(text)						\
	{ .name = "symbols", .key = 's', .arg = "FILE",			\
	  .doc = "The guest kernel's System.map or vmlinux" text }

void parse_vcpu(struct argp_state *state, const char *arg, long *vcpu);
/* A guest virtual or physical address, or it is refused. */
uint64_t parse_address(struct argp_state *state, const char *arg);

/*
 * Ask, and print the reply: as JSON, or with @print.  Returns the exit status,
 * everything reported.
 */
int verb_ask(const struct common_options *options, struct json_object *request,
	     void (*print)(struct json_object *reply));
/* Ask for something and do no more with the failure than to return it. */
int verb_get(const struct common_options *options, struct json_object *request,
	     struct json_object **reply);
/*
 * Ask, and print what comes until there is "end", with @print, which may be
 * given @data; @timeout is in seconds, 0 for none.
 */
int verb_stream(const struct common_options *options, struct json_object *request,
		int passed_fd, long timeout,
		void (*print)(struct json_object *line, void *data), void *data);

/* Open --symbols and fit it to the guest; 0 without it. */
int verb_symbols(const struct common_options *options, const char *path,
		 struct symbols **symbols);
/* "NAME[+OFFSET]" with symbols, or a number. */
int verb_address(const struct symbols *symbols, const char *text, uint64_t *address);

#endif /* KVMI_VERB_H */
