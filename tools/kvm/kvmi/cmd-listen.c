// SPDX-License-Identifier: GPL-2.0
/* kvmi listen: wait for VMs, hold their connections, serve the other verbs. */

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "common.h"
#include "control.h"
#include "failure.h"
#include "key.h"
#include "vm.h"

struct listen_options {
	struct common_options common;
	const char *socket;
	const char *key_file;
	bool mutual;
};

static const struct argp_option options[] = {
	{ .name = "socket", .key = 's', .arg = "PATH",
	  .doc = "The unix socket to which VMMs connect; is created, for its user alone" },
	{ .name = "control", .key = 'c', .arg = "PATH",
	  .doc = "The unix socket for the other verbs (default: $KVMI_CONTROL, or kvmi.ctl in /run or $XDG_RUNTIME_DIR)" },
	{ .name = "key-file", .key = 'k', .arg = "FILE",
	  .doc = "Prove to VMMs that we have this key, and have those prove it that offer to" },
	{ .name = "mutual", .key = 'm', .doc = "Refuse VMMs that do not prove that they have the key" },
	{ 0 }
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct listen_options *o = state->input;

	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = &o->common;
		return 0;
	case 's':
		o->socket = arg;
		return 0;
	case 'c':
		o->common.control = arg;
		return 0;
	case 'k':
		o->key_file = arg;
		return 0;
	case 'm':
		o->mutual = true;
		return 0;
	case ARGP_KEY_ARG:
		argp_error(state, "\"%s\" is too much", arg);
		return 0;
	case ARGP_KEY_END:
		if (!o->socket)
			argp_error(state, "--socket is missing");
		if (o->mutual && !o->key_file)
			argp_error(state, "--mutual needs --key-file");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp argp = {
	.options = options,
	.parser = parse,
	.args_doc = "--socket PATH",
	.doc = "Wait for VMs to be introspected and hold their connections.\v"
	       "Runs until it is interrupted.  Events that nobody watches are answered with \"continue\", so no guest waits.  When it ends, all guests run on without restrictions.",
	.children = output_children,
};

static void say_listening(struct vms *vms, const char *socket, const char *control)
{
	struct json_object *o = json_object_new_object();

	json_add_string(o, "event", "listening");
	json_add_string(o, "socket", socket);
	json_add_string(o, "control", control);
	vms_say(vms, o, "listening on %s (control: %s)", socket, control);
}

static int run(struct vms *vms, struct kvmi_listener *listener,
	       struct control *control, int signals)
{
	struct pollfd pfd[3] = {
		{ .fd = kvmi_listener_fd(listener), .events = POLLIN },
		{ .fd = control_fd(control), .events = POLLIN },
		{ .fd = signals, .events = POLLIN },
	};
	int fd;

	for (;;) {
		if (poll(pfd, ARRAY_SIZE(pfd), -1) < 0 && errno != EINTR)
			return fail(KVMI_EXIT_FAILED, "poll: %s", strerror(errno));
		if (pfd[2].revents)
			return 0;
		if (pfd[0].revents) {
			fd = kvmi_listener_accept(listener);
			if (fd >= 0)
				vms_accept(vms, fd);
			else if (fd != -EAGAIN)
				return fail(KVMI_EXIT_FAILED, "%s", kvmi_error());
		}
		if (pfd[1].revents)
			control_accept(control);
	}
}

int cmd_listen(int argc, char **argv)
{
	struct listen_options o = { 0 };
	struct kvmi_listener *listener = NULL;
	struct control *control = NULL;
	const char *control_socket;
	int err = 0, signals = -1;
	struct kvmi_auth auth;
	struct vms vms;
	sigset_t set;

	parse_options(&argp, argc, argv, &o);
	control_socket = control_path(&o.common);
	if (!control_socket)
		err = fail(KVMI_EXIT_USAGE,
			   "--control is missing, and neither $KVMI_CONTROL nor $XDG_RUNTIME_DIR is set");

	/* Before any thread starts, as they inherit the mask. */
	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	if (!err) {
		signals = signalfd(-1, &set, SFD_CLOEXEC);
		if (signals < 0)
			err = fail(KVMI_EXIT_FAILED, "signalfd: %s", strerror(errno));
	}

	vms_init(&vms, o.common.json);
	if (!err && o.key_file) {
		err = key_load(o.key_file, o.mutual, &auth);
		vms.auth = &auth;
	}
	if (!err) {
		err = kvmi_listener_open(o.socket, &listener);
		if (err)
			err = fail(status_of_errno(err), "%s", kvmi_error());
	}
	if (!err)
		err = control_open(control_socket, &vms, &control);
	if (!err) {
		say_listening(&vms, o.socket, control_socket);
		err = run(&vms, listener, control, signals);
	}

	vms_shutdown(&vms);
	control_close(control);
	kvmi_listener_close(listener);
	return err ? report_failure(&o.common, err) : 0;
}
