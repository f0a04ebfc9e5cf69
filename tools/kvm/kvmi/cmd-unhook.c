// SPDX-License-Identifier: GPL-2.0
/*
 * kvmi unhook: have a running VMM disconnect a VM from its tool.
 *
 * A tool that has asked for it is told first and gets some time to undo what it
 * did to the guest.  The VMM runs meanwhile.
 */

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "common.h"
#include "failure.h"
#include "kvm-ioctls.h"
#include "parse.h"
#include "vmm.h"

#define DEFAULT_GRACE_MS	500

struct unhook_options {
	struct common_options common;
	long pid;
	long vm;
	long grace;
};

enum {
	OPT_VM = 256,
	OPT_GRACE,
};

static const struct argp_option options[] = {
	{ .name = "pid", .key = 'p', .arg = "PID", .doc = "The VMM's process" },
	{ .name = "vm", .key = OPT_VM, .arg = "N",
	  .doc = "Which of the VMM's VMs, counted from 1; needed if it has several" },
	{ .name = "grace", .key = OPT_GRACE, .arg = "MS",
	  .doc = "How long a tool that wants to be told may go on, in milliseconds (default: 500)" },
	{ 0 }
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct unhook_options *o = state->input;

	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = &o->common;
		return 0;
	case 'p':
		if (!parse_int(arg, 1, INT_MAX, &o->pid))
			argp_error(state, "--pid: \"%s\" is not a process id", arg);
		return 0;
	case OPT_VM:
		if (!parse_int(arg, 1, INT_MAX, &o->vm))
			argp_error(state, "--vm: \"%s\" is not a number from 1 on", arg);
		return 0;
	case OPT_GRACE:
		if (!parse_int(arg, 0, 600000, &o->grace))
			argp_error(state, "--grace: \"%s\" is not within 0..600000", arg);
		return 0;
	case ARGP_KEY_ARG:
		argp_error(state, "\"%s\" is too much", arg);
		return 0;
	case ARGP_KEY_END:
		if (!o->pid)
			argp_error(state, "--pid is missing");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp argp = {
	.options = options,
	.parser = parse,
	.args_doc = "--pid PID",
	.doc = "Disconnect a VM of a running VMM from its introspection tool.\v"
	       "The guest runs on, without restrictions.",
	.children = output_children,
};

/* Stop, one ioctl, resume. */
static int one_ioctl(struct vmm *vmm, unsigned long request, long *ret)
{
	char why[FAILURE_SIZE];
	int err, resume_err;

	err = vmm_stop(vmm);
	if (err)
		return err;
	err = vmm_ioctl(vmm, ret, request, 0);
	save_failure(why);
	resume_err = vmm_resume(vmm);
	return err ? restore_failure(err, why) : resume_err;
}

static int unhook(struct vmm *vmm, const struct unhook_options *o, bool *hooked,
		  bool *told)
{
	struct timespec grace = {
		.tv_sec = o->grace / 1000,
		.tv_nsec = o->grace % 1000 * 1000000L,
	};
	long ret;
	int err;

	err = one_ioctl(vmm, KVM_INTROSPECTION_PREUNHOOK, &ret);
	if (err)
		return err;
	if (ret == -EPERM || ret == -ENOTTY)
		return fail_introspection_off();
	*hooked = ret != -EFAULT;
	*told = !ret;
	if (*told)
		nanosleep(&grace, NULL);

	err = one_ioctl(vmm, KVM_INTROSPECTION_UNHOOK, &ret);
	if (!err && ret)
		err = fail(KVMI_EXIT_FAILED, "file %d of process %d (%s): KVM_INTROSPECTION_UNHOOK: %s",
			   vmm->fd, vmm->pid, vmm->comm, strerror(-ret));
	return err;
}

int cmd_unhook(int argc, char **argv)
{
	struct unhook_options o = { .grace = DEFAULT_GRACE_MS };
	bool hooked = false, told = false;
	struct json_object *out;
	struct vmm vmm;
	int err;

	parse_options(&argp, argc, argv, &o);

	err = vmm_open(&vmm, o.pid, o.vm);
	if (err)
		return report_failure(&o.common, err);
	err = unhook(&vmm, &o, &hooked, &told);
	if (err) {
		err = report_failure(&o.common, err);
	} else if (o.common.json) {
		out = json_object_new_object();
		json_add_bool(out, "unhooked", true);
		json_add_int(out, "pid", vmm.pid);
		json_add_int(out, "file", vmm.fd);
		json_add_bool(out, "was_hooked", hooked);
		json_add_bool(out, "tool_told", told);
		json_print(out);
	} else {
		printf("%s VM (file %d of process %d)%s\n",
		       hooked ? "unhooked" : "was not hooked:", vmm.fd, vmm.pid,
		       told ? ", after telling the tool" : "");
	}
	vmm_close(&vmm);
	return err;
}
