// SPDX-License-Identifier: GPL-2.0
/*
 * All opcodes of all maps, with what makes a difference to what they access: the
 * prefixes, what extends the opcode in ModRM, the length of vectors, broadcasts and
 * masks; and all forms of an operand.
 */

#include "decode.h"

static struct slot *slots;
static size_t nr_slots, room;

/* One that is being put together */
static struct slot slot;
static unsigned int len;

static void put(u8 byte)
{
	if (len == 13)
		abort();
	slot.bytes[len++] = byte;
}

/*
 * objdump takes a row of prefixes for a part of the next instruction, which so ends
 * where the slot does, whatever length it gave to the one before.
 */
static void end_slot(void)
{
	for (; len < SLOT_SIZE; len++)
		slot.bytes[len] = len % 8 == 7 ? 0x90 : 0x66;

	if (nr_slots == room) {
		room = room ? 2 * room : 65536;
		slots = realloc(slots, room * sizeof(*slots));
		if (!slots)
			abort();
	}
	slots[nr_slots++] = slot;
	len = 0;
}

/**
 * struct form - a form of the operand
 * @modrm: the ModRM byte
 * @tail: the SIB byte and the displacement
 * @size: size of @tail
 */
struct form {
	u8 modrm;
	u8 tail[5];
	u8 size;
};

/* With addresses of 32 or 64 bits: RSI, RBP; RSP, RCX * 8 and RBP + RAX; ... */
static const struct form forms[] = {
	{ 0x46, { 0x07 }, 1 },				/* RSI + 7 */
	{ 0x46, { 0xfd }, 1 },				/* RSI - 3 */
	{ 0x4c, { 0xcf, 0x07 }, 2 },			/* RDI + RCX * 8 + 7 */
	{ 0x05, { 0x10, 0x20, 0, 0 }, 4 },		/* RIP + 0x2010, or 0x2010 */
	{ 0xc6, {}, 0 },				/* RSI itself */
	/* These say nothing new about EVEX and the like. */
	{ 0x45, { 0x08 }, 1 },				/* RBP + 8 */
	{ 0x84, { 0x24, 0x01, 0x02, 0, 0x80 }, 5 },	/* RSP + 0x80000201 */
	{ 0x04, { 0x8d, 0x01, 0x02, 0, 0x80 }, 5 },	/* RCX * 4 + 0x80000201 */
};

/* With addresses of 16 bits */
static const struct form forms16[] = {
	{ 0x46, { 0x07 }, 1 },				/* BP + 7 */
	{ 0x44, { 0xfd }, 1 },				/* SI - 3 */
	{ 0x41, { 0x10 }, 1 },				/* BX + DI + 0x10 */
	{ 0x06, { 0x10, 0x20 }, 2 },			/* 0x2010 */
	{ 0xc6, {}, 0 },				/* SI itself */
	{ 0x42, { 0x08 }, 1 },				/* BP + SI + 8 */
	{ 0x80, { 0x02, 0x80 }, 2 },			/* BX + SI + 0x8002 */
	{ 0x47, { 0x07 }, 1 },				/* BX + 7 */
};

#define NR_FORMS	ARRAY_SIZE(forms)
#define NR_MAIN_FORMS	5
#define FORM_RSI	0
#define FORM_INDEX	2

static void put_operand(int ad_bits, unsigned int i, u8 ext)
{
	const struct form *form = ad_bits == 16 ? &forms16[i] : &forms[i];
	u8 j;

	put(form->modrm | ext << 3);
	for (j = 0; j < form->size; j++)
		put(form->tail[j]);
	/* An immediate operand may follow: 1 is no length of an instruction. */
	put(1);
	end_slot();
}

/* ---- without VEX ---- */

enum map { ONE_BYTE, MAP_TWO, MAP_38, MAP_3A, NR_MAPS };

static bool is_prefix(int mode, u8 op)
{
	switch (op) {
	case 0x0f:
	case 0x26:
	case 0x2e:
	case 0x36:
	case 0x3e:
	case 0x64 ... 0x67:
	case 0x9b:		/* WAIT, which objdump takes for one of some */
	case 0xf0:
	case 0xf2 ... 0xf3:
		return true;
	case 0x40 ... 0x4f:
		return mode == 64;
	}

	return false;
}

static bool is_no_opcode(int mode, enum map map, u8 op)
{
	return map == ONE_BYTE ? is_prefix(mode, op) :
	       map == MAP_TWO && (op == 0x38 || op == 0x3a);
}

static void put_opcode(enum map map, u8 op)
{
	if (map != ONE_BYTE)
		put(0x0f);
	if (map == MAP_38 || map == MAP_3A)
		put(map == MAP_38 ? 0x38 : 0x3a);
	put(op);
}

static void add_opcode(const u8 *prefixes, enum map map, u8 op, int ad_bits,
		       unsigned int nr_forms)
{
	unsigned int ext, form, i;

	for (ext = 0; ext < 8; ext++) {
		for (form = 0; form < nr_forms; form++) {
			for (i = 0; i < 3; i++)
				if (prefixes[i])
					put(prefixes[i]);
			put_opcode(map, op);
			put_operand(ad_bits, form, ext);
		}
	}
}

/* All opcodes, behind these prefixes: 0 is none */
static void add_opcodes(int mode, const u8 *prefixes, int ad_bits,
			unsigned int nr_forms)
{
	unsigned int map, op;

	for (map = ONE_BYTE; map < NR_MAPS; map++)
		for (op = 0; op < 256; op++)
			if (!is_no_opcode(mode, map, op))
				add_opcode(prefixes, map, op, ad_bits, nr_forms);
}

static void add_legacy(int mode)
{
	static const u8 reps[] = { 0, 0x66, 0xf3, 0xf2 };
	static const u8 rexes[] = { 0, 0x48, 0x43 };
	static const u8 segs[] = { 0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65 };
	unsigned int i, j;

	for (i = 0; i < ARRAY_SIZE(reps); i++) {
		for (j = 0; j < (mode == 64 ? ARRAY_SIZE(rexes) : 1); j++) {
			const u8 prefixes[] = { reps[i], rexes[j], 0 };
			bool is_main = !reps[i] && !rexes[j];

			add_opcodes(mode, prefixes, mode,
				    is_main ? NR_FORMS : NR_MAIN_FORMS);
		}
	}
	for (i = 0; i < ARRAY_SIZE(segs); i++) {
		const u8 prefixes[] = { segs[i], 0, 0 };

		add_opcodes(mode, prefixes, mode, 1);
	}

	/* other addresses, with and without other operands */
	for (i = 0; i < 2; i++) {
		const u8 prefixes[] = { 0x67, reps[i], 0 };

		add_opcodes(mode, prefixes, mode == 32 ? 16 : 32,
			    i ? 1 : NR_FORMS);
	}
	if (mode == 64) {
		const u8 prefixes[] = { 0x66, 0xf2, 0x48 };

		add_opcodes(mode, prefixes, mode, 1);
	}
}

/* ---- VEX, XOP and EVEX ---- */

/*
 * The register that is not in ModRM is 0 in all of them: some have none, and all bits
 * set is what stands for that, too.  That in ModRM is 1, unless it extends the opcode.
 */
#define VEX_REG		1

static bool is_group(unsigned int map, u8 op)
{
	switch (map) {
	case 1:
		return (op >= 0x71 && op <= 0x73) || op == 0xae;
	case 2:
		return op == 0xf3 || op == 0xc6 || op == 0xc7;
	case 9:
	case 10:
		return op < 0x20;
	}

	return false;
}

static void add_vex_insn(int mode, u8 prefix, unsigned int map, u8 last, u8 op)
{
	unsigned int form, ext;

	for (form = 0; form < NR_MAIN_FORMS; form++) {
		for (ext = 0; ext < 8; ext++) {
			if (ext != VEX_REG && !is_group(map, op))
				continue;
			put(prefix);
			if (prefix == 0xc5) {
				put(last | 0x80);
			} else {
				put(0xe0 | map);
				put(last);
			}
			put(op);
			put_operand(mode, form, ext);
		}
	}
}

static void add_vex(int mode)
{
	unsigned int map, bits, op;

	/* W, L and the two bits for a prefix */
	for (bits = 0; bits < 16; bits++) {
		u8 last = (bits & 8) << 4 | 0x78 | (bits & 7);

		for (op = 0; op < 256; op++) {
			for (map = 1; map <= 3; map++)
				add_vex_insn(mode, 0xc4, map, last, op);
			if (!(bits & 8))
				add_vex_insn(mode, 0xc5, 1, last, op);
			if (bits & 3)
				continue;
			for (map = 8; map <= 10; map++)
				add_vex_insn(mode, 0x8f, map, last, op);
		}
	}
}

static void add_evex_insn(int mode, u8 first, u8 second, u8 third, u8 op,
			  unsigned int form)
{
	unsigned int ext, map = first & 7;

	for (ext = 0; ext < 8; ext++) {
		if (ext != VEX_REG && !is_group(map, op))
			continue;
		put(0x62);
		put(first);
		put(second);
		put(third);
		put(op);
		put_operand(mode, form, ext);
	}
}

static void add_evex_insns(int mode, u8 first, u8 second, u8 third, u8 op)
{
	bool is_gather = (first & 7) == 2 && ((op >= 0x90 && op <= 0x93) ||
				      (op >= 0xa0 && op <= 0xa3));
	unsigned int form;

	for (form = 0; form < NR_MAIN_FORMS; form++)
		if (mode == 64 || form < 3)
			add_evex_insn(mode, first, second, third, op, form);
	/* a mask that has all bits */
	add_evex_insn(mode, first, second, third | 1, op, FORM_RSI);
	/* registers from 8 on, with addresses */
	if (mode == 64)
		add_evex_insn(mode, first & ~0x60, second, third, op, FORM_INDEX);
	if (!is_gather)
		return;

	/* all of it, or what a mask says; and an index from 16 on */
	add_evex_insn(mode, first, second, third | 1, op, FORM_INDEX);
	add_evex_insn(mode, first, second, third | 2, op, FORM_INDEX);
	if (mode == 64)
		add_evex_insn(mode, first, second, (third | 1) & ~8, op, FORM_INDEX);
}

static void add_evex(int mode)
{
	static const u8 maps[] = { 1, 2, 3, 5, 6 };
	unsigned int i, bits, op;

	/* W, the two bits for a prefix, that for a broadcast, and three lengths */
	for (bits = 0; bits < 3 * 16; bits++) {
		u8 second = (bits & 4) << 5 | 0x7c | (bits & 3);
		u8 third = (bits & 0x38) << 1 | 8;

		for (i = 0; i < ARRAY_SIZE(maps); i++)
			for (op = 0; op < 256; op++)
				add_evex_insns(mode, 0xf0 | maps[i], second, third, op);
	}
}

/**
 * list_encodings - make all encodings
 * @mode: 64, 32 or 16: the kind of code
 * @list: set to them
 *
 * Return: how many there are.
 */
size_t list_encodings(int mode, struct slot **list)
{
	add_legacy(mode);
	add_vex(mode);
	add_evex(mode);
	*list = slots;

	return nr_slots;
}
