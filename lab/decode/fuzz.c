// SPDX-License-Identifier: GPL-2.0
/*
 * Random instructions, on random vCPUs, of which nothing is expected but that the
 * decoder comes to an end, warns of nothing, and stays in its memory, which is what
 * the compiler's sanitizers look after.
 */

#include <stdio.h>
#include "decode.h"

static u64 state;

static u64 next_random(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;

	return state * 0x2545f4914f6cdd1dULL >> 8 | state << 56;
}

/* Half of them begin with what is rare and leads far. */
static void random_code(u8 *bytes)
{
	static const u8 begins[] = {
		0x0f, 0x62, 0x62, 0x66, 0x67, 0x8f, 0x9a, 0xc4, 0xc5, 0xc8, 0xca, 0xcd,
		0xcf, 0xf2, 0xf3, 0xff,
	};
	unsigned int i;

	for (i = 0; i < MAX_INSN_SIZE; i++)
		bytes[i] = next_random();
	if (next_random() & 1)
		bytes[0] = begins[next_random() % ARRAY_SIZE(begins)];
	/* a map that there is, and the bits that have to be set */
	if (bytes[0] == 0x62 && next_random() & 1) {
		bytes[1] = (bytes[1] & 0xf0) | next_random() % 7;
		bytes[2] |= 4;
	}
}

static bool is_wrong(const struct kvmi_operand *operands, unsigned int nr)
{
	unsigned int i;

	if (nr > KVMI_MAX_OPERANDS || stub_warnings || stub_vecs_taken)
		return true;

	for (i = 0; i < nr; i++)
		if (!operands[i].size || !operands[i].access ||
		    operands[i].access & ~(KVMI_PAGE_ACCESS_R | KVMI_PAGE_ACCESS_W))
			return true;

	return false;
}

/**
 * fuzz - decode random instructions
 * @seed: what makes them; not 0
 * @count: how many
 *
 * Return: the status for the program to end with.
 */
int fuzz(u64 seed, unsigned long count)
{
	struct kvmi_operand operands[KVMI_MAX_OPERANDS];
	u8 bytes[MAX_INSN_SIZE];
	unsigned int nr, most = 0;
	unsigned long n;

	state = seed;
	for (n = 0; n < count; n++) {
		/* a new vCPU takes longer than an instruction */
		if (n % 8 == 0)
			randomize_vcpu(next_random);
		random_code(bytes);
		set_code(bytes, sizeof(bytes));

		nr = kvmi_insn_operands(vcpu, operands);
		most = max(most, nr);
		if (is_wrong(operands, nr))
			break;
		if (nr)
			kvmi_insn_gva(vcpu, operands[0].gva, operands[0].access);
		kvmi_insn_goes_on(vcpu);
		nr = kvmi_delivery_operands(vcpu, operands);
		if (is_wrong(operands, nr))
			break;
	}
	if (n == count) {
		printf("%lu instructions, at most %u operands\n", n, most);
		return 0;
	}

	printf("instruction %lu, %d-bit: %u operands, %u warnings:", n, vcpu->mode,
	       nr, stub_warnings);
	for (n = 0; n < sizeof(bytes); n++)
		printf(" %02x", bytes[n]);
	putchar('\n');

	return 1;
}
