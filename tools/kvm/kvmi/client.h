/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KVMI_CLIENT_H
#define KVMI_CLIENT_H

/* Asking a listener over its control socket. */

#include "common.h"
#include "line.h"

struct control_client {
	struct line_reader in;
	int fd;
};

int client_open(struct control_client *client, const struct common_options *options);
void client_close(struct control_client *client);
/* A request for @options->vm; fill in the rest. */
struct json_object *client_request(const struct common_options *options, const char *cmd);
/* Send the request, which is freed, and get the reply; a refusal is a failure. */
int client_ask(struct control_client *client, struct json_object *request,
	       struct json_object **reply);
/*
 * On a signal that would end the process, end the stream instead: the listener
 * then sends its last line.
 */
void client_end_on_signal(struct control_client *client);
/* The next line of a stream. */
int client_next(struct control_client *client, struct json_object **line);

#endif /* KVMI_CLIENT_H */
