// SPDX-License-Identifier: GPL-2.0
/*
 * Serves any number of VMs in one thread, with the library's own event loop:
 * prints who comes and goes and lets everything happen, until COUNT have gone.
 *
 *	vms SOCKET COUNT
 */

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

#include <kvmi/libkvmi.h>

struct state {
	struct kvmi_loop *loop;
	int left;
};

/*
 * Without this event the VMM lets go and does not ask. It hooks the VM first,
 * and allows things then: be patient, for a second.
 */
static int ask_before_unhook(struct kvmi_dom *dom)
{
	int err, tries = 0;

	do {
		err = kvmi_vm_control_events(dom, KVMI_VM_EVENT_UNHOOK, true);
	} while (err == -EPERM && ++tries < 100 && poll(NULL, 0, 10) == 0);
	return err;
}

static void connected(struct kvmi_dom *dom, void *data)
{
	const char *name = kvmi_dom_hello(dom)->name;

	(void)data;
	if (ask_before_unhook(dom))
		printf("%s will not ask before it lets go: %s\n", name, kvmi_error());
	printf("%s has come\n", name);
	fflush(stdout);
}

static void event(struct kvmi_dom *dom, const struct kvmi_event *ev, void *data)
{
	(void)data;
	printf("%s: %s\n", kvmi_dom_hello(dom)->name, kvmi_event_name(ev->id));
	fflush(stdout);
	if (ev->id == KVMI_VM_EVENT_UNHOOK)
		kvmi_dom_shutdown(dom);
	else
		kvmi_event_reply(dom, ev, KVMI_EVENT_ACTION_CONTINUE);
}

static void gone(struct kvmi_dom *dom, int err, void *data)
{
	struct state *state = data;

	(void)err;
	printf("%s has gone: %s\n", kvmi_dom_hello(dom)->name, kvmi_error());
	fflush(stdout);
	if (!--state->left)
		kvmi_loop_stop(state->loop);
}

static void refused(int err, void *data)
{
	(void)err;
	(void)data;
	printf("refused: %s\n", kvmi_error());
}

int main(int argc, char **argv)
{
	const struct kvmi_loop_handlers handlers = {
		.connected = connected,
		.event = event,
		.gone = gone,
		.refused = refused,
	};
	struct kvmi_listener *listener = NULL;
	struct state state = { 0 };
	int err;

	if (argc < 3) {
		fprintf(stderr, "usage: vms SOCKET COUNT\n");
		return 2;
	}
	state.left = atoi(argv[2]);
	err = kvmi_listener_open(argv[1], &listener);
	if (!err)
		err = kvmi_loop_new(&state.loop);
	if (!err)
		err = kvmi_loop_add_listener(state.loop, listener, NULL, &handlers, &state);
	if (!err) {
		printf("listening\n");
		fflush(stdout);
		err = kvmi_loop_run(state.loop);
	}
	if (err)
		fprintf(stderr, "vms: %s\n", kvmi_error());
	kvmi_loop_free(state.loop);
	kvmi_listener_close(listener);
	return err ? 1 : 0;
}
