// SPDX-License-Identifier: GPL-2.0
/*
 * Runs the kernel's decoder of instructions (arch/x86/kvm/kvmi_decode*.c) in a program:
 * to compare it with objdump, with random instructions, or to see what it says about
 * some.
 */

#include <stdio.h>
#include "decode.h"

static int usage(FILE *to)
{
	fputs("usage: decode list MODE\n"
	      "       decode compare MODE\n"
	      "       decode fuzz SEED COUNT\n"
	      "       decode show\n"
	      "\n"
	      "MODE is 64, 32 or 16. 'list' writes encodings of all instructions;\n"
	      "'compare' reads what objdump -M intel has made of that. 'show' reads lines\n"
	      "'MODE BYTES', as '64 488b0425', and prints the operands in memory.\n", to);

	return to == stderr;
}

static int list(int mode)
{
	struct slot *slots;
	size_t n = list_encodings(mode, &slots);

	if (fwrite(slots, sizeof(*slots), n, stdout) != n || fflush(stdout)) {
		perror("decode");
		return 1;
	}

	return 0;
}

static int show(void)
{
	struct kvmi_operand operands[KVMI_MAX_OPERANDS];
	unsigned int n, i;
	char line[256];

	while (fgets(line, sizeof(line), stdin)) {
		u8 bytes[MAX_INSN_SIZE];
		char hex[2 * MAX_INSN_SIZE + 1];
		int mode;

		if (sscanf(line, "%d %30[0-9a-fA-F]", &mode, hex) != 2)
			return usage(stderr);
		for (n = 0; n < strlen(hex) / 2; n++)
			if (sscanf(hex + 2 * n, "%2hhx", &bytes[n]) != 1)
				return usage(stderr);
		set_vcpu(mode);
		set_code(bytes, n);

		n = kvmi_insn_operands(vcpu, operands);
		printf("%s: %u", hex, n);
		for (i = 0; i < n; i++)
			printf(", %#llx+%u %s%s%s%s",
			       (unsigned long long)operands[i].gva, operands[i].size,
			       operands[i].access & KVMI_PAGE_ACCESS_R ? "r" : "",
			       operands[i].access & KVMI_PAGE_ACCESS_W ? "w" : "",
			       operands[i].certain ? "" : " perhaps",
			       operands[i].vague ? " somewhere" : "");
		printf("\n");
	}

	return 0;
}

int main(int argc, char **argv)
{
	const char *verb = argc > 1 ? argv[1] : "";

	if (argc == 3 && !strcmp(verb, "list"))
		return list(atoi(argv[2]));
	if (argc == 3 && !strcmp(verb, "compare"))
		return compare(atoi(argv[2]));
	if (argc == 4 && !strcmp(verb, "fuzz"))
		return fuzz(strtoull(argv[2], NULL, 0), strtoul(argv[3], NULL, 0));
	if (argc == 2 && !strcmp(verb, "show"))
		return show();

	return usage(!strcmp(verb, "--help") || !strcmp(verb, "-h") ? stdout : stderr);
}
