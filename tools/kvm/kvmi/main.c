// SPDX-License-Identifier: GPL-2.0
/* kvmi: watch and restrict virtual machines through KVM introspection. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"
#include "failure.h"
#include "parse.h"

static const struct verb {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *doc;
} verbs[] = {
	{ "listen", cmd_listen, "wait for VMs and hold their connections" },
	{ "hook", cmd_hook, "connect a VM of a running VMM to a tool" },
	{ "unhook", cmd_unhook, "disconnect it" },
	{ "list", cmd_list, "list the connected VMs" },
	{ "info", cmd_info, "show what is known about a connected VM" },
	{ "regs", cmd_regs, "show the registers of its vCPUs" },
	{ "cr", cmd_cr, "show control registers, or have writes to them reported" },
	{ "msr", cmd_msr, "show MSRs, or have writes to them reported" },
	{ "read", cmd_read, "print its memory" },
	{ "write", cmd_write, "write its memory" },
	{ "translate", cmd_translate, "tell where a virtual address lies" },
	{ "dump", cmd_dump, "write its memory and registers into an ELF core" },
	{ "pause", cmd_pause, "have vCPUs stand still" },
	{ "resume", cmd_resume, "let them run on" },
	{ "step", cmd_step, "execute single instructions" },
	{ "break", cmd_break, "print each time that the guest executes something" },
	{ "protect", cmd_protect, "say what the guest may do with its memory" },
	{ "watch", cmd_watch, "print the guest's events" },
};

static void usage(FILE *to)
{
	size_t i;

	fprintf(to, "usage: kvmi VERB [OPTION]...\n\n"
		"Watch and restrict virtual machines through KVM introspection.\n\n");
	for (i = 0; i < ARRAY_SIZE(verbs); i++)
		fprintf(to, "  %-10s%s\n", verbs[i].name, verbs[i].doc);
	fprintf(to, "\n\"kvmi VERB --help\" tells more about a verb; kvmi --version is the version.\n"
		"Exit status: 0 success, 1 failure, 2 wrong usage, 3 not found, 4 denied,\n"
		"5 taken already, 6 no answer in time, 7 the VM or the VMM went away.\n");
}

/* What could not be printed has not been told, whatever was done. */
static int end(int status)
{
	if (!fflush(stdout) && !ferror(stdout))
		return status;
	if (!status || errno != EPIPE)
		fprintf(stderr, "kvmi: writing the output failed: %s\n", strerror(errno));
	return status ? status : KVMI_EXIT_FAILED;
}

int main(int argc, char **argv)
{
	static char name[64];
	size_t i;

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc < 2) {
		usage(stderr);
		return KVMI_EXIT_USAGE;
	}
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")) {
		usage(stdout);
		return end(0);
	}
	if (!strcmp(argv[1], "--version") || !strcmp(argv[1], "-V")) {
		puts(KVMI_VERSION_TEXT);
		return end(0);
	}
	for (i = 0; i < ARRAY_SIZE(verbs); i++) {
		if (strcmp(argv[1], verbs[i].name))
			continue;
		/* So that the help says how it is called. */
		snprintf(name, sizeof(name), "kvmi %s", verbs[i].name);
		argv[1] = name;
		return end(verbs[i].run(argc - 1, argv + 1));
	}
	fprintf(stderr, "kvmi: \"%s\" is not a verb; kvmi --help lists them\n", argv[1]);
	return KVMI_EXIT_USAGE;
}
