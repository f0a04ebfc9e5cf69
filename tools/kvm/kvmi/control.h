/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KVMI_CONTROL_H
#define KVMI_CONTROL_H

/*
 * The control socket, on which "kvmi listen" serves the other verbs.
 *
 * Both sides send JSON objects, one per line.  A request has "cmd" and, where
 * it concerns a VM, "vm" (number, name or UUID, if there are several):
 *
 *	{"cmd": "info", "kernel": true}
 *	{"cmd": "protect", "ranges": [{"gfn": "0x1000", "count": "0x10",
 *					"access": "r-x"}]}
 *	{"cmd": "watch", "action": "continue", "once": false, "count": 0}
 *
 * The reply has the result, or "error" (a text) and "status" (an exit status).
 * After the reply to "watch" come events, a line each, and at the end of them
 * a line with "end".
 */

#include "vm.h"

/* No line is longer. */
#define CONTROL_LINE_MAX	(1 << 20)

struct control;

int control_open(const char *path, struct vms *vms, struct control **control);
int control_fd(const struct control *control);
/* Somebody wants to connect: serve him in a thread of his own. */
void control_accept(struct control *control);
void control_close(struct control *control);

#endif /* KVMI_CONTROL_H */
