// SPDX-License-Identifier: GPL-2.0
/* Asking a listener over its control socket. */

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "client.h"
#include "control.h"
#include "failure.h"

int client_open(struct control_client *client, const struct common_options *options)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	const char *path = control_path(options);
	int err;

	memset(client, 0, sizeof(*client));
	client->fd = -1;
	client->in.passed_fd = -1;
	if (!path)
		return fail(KVMI_EXIT_USAGE,
			    "--control is missing, and neither $KVMI_CONTROL nor $XDG_RUNTIME_DIR is set");
	if (strlen(path) >= sizeof(addr.sun_path))
		return fail(KVMI_EXIT_USAGE,
			    "%s: the path of a unix socket has at most %zu characters",
			    path, sizeof(addr.sun_path) - 1);
	strcpy(addr.sun_path, path);
	client->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (client->fd < 0)
		return fail(KVMI_EXIT_FAILED, "socket: %s", strerror(errno));
	if (!connect(client->fd, (struct sockaddr *)&addr, sizeof(addr))) {
		client->in.fd = client->fd;
		client->in.passed_fd = -1;
		return 0;
	}
	err = errno;
	close(client->fd);
	client->fd = -1;
	if (err == ENOENT || err == ECONNREFUSED)
		return fail(KVMI_EXIT_NOT_FOUND,
			    "%s: no listener is there; start \"kvmi listen\"", path);
	return fail(status_of_errno(-err), "%s: %s", path, strerror(err));
}

void client_close(struct control_client *client)
{
	if (client->fd >= 0)
		close(client->fd);
	line_reader_free(&client->in);
}

static int stream_fd = -1;

static void end_stream(int sig)
{
	(void)sig;
	shutdown(stream_fd, SHUT_WR);
}

void client_end_on_signal(struct control_client *client)
{
	/* Once: who is impatient sends it a second time. */
	struct sigaction sa = { .sa_handler = end_stream, .sa_flags = SA_RESETHAND | SA_RESTART };

	stream_fd = client->fd;
	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGHUP, &sa, NULL);
}

struct json_object *client_request(const struct common_options *options, const char *cmd)
{
	struct json_object *request = json_object_new_object();

	json_add_string(request, "cmd", cmd);
	if (options->vm)
		json_add_string(request, "vm", options->vm);
	return request;
}

int client_next(struct control_client *client, struct json_object **line)
{
	int err;

	err = line_read(&client->in, CONTROL_LINE_MAX, line);
	if (err < 0)
		return fail(KVMI_EXIT_GONE, "the listener has ended");
	if (err == KVMI_EXIT_TIMEOUT)
		return err;
	return err ? fail(err, "the listener's answer: %s", failure()) : 0;
}

int client_ask(struct control_client *client, struct json_object *request,
	       struct json_object **reply)
{
	const char *error;
	int err, status;

	if (line_send(client->fd, request))
		return fail(KVMI_EXIT_GONE, "the listener has ended");
	err = client_next(client, reply);
	if (err)
		return err;
	error = json_get_string(*reply, "error");
	if (!error)
		return 0;
	status = json_get_int(*reply, "status");
	err = fail(status > 0 && status < 128 ? status : KVMI_EXIT_FAILED, "%s", error);
	json_object_put(*reply);
	*reply = NULL;
	return err;
}
