// SPDX-License-Identifier: GPL-2.0
/*
 * Compares what the decoder says with what objdump does, in Intel's syntax.
 *
 * Each operand in memory that objdump names has to be one of the decoder's: at the
 * same linear address, not smaller, and accessed in the same way.  It may be larger
 * only where that is known (is_too_large_known()).  What else the decoder names has to
 * be what that instruction accesses without saying so.
 *
 * objdump says neither how an operand is accessed nor, of some, how large it is: the
 * tables below do.
 */

#include <ctype.h>
#include <stdio.h>
#include "decode.h"

#define R	KVMI_PAGE_ACCESS_R
#define W	KVMI_PAGE_ACCESS_W

/* ---- what is known about instructions ---- */

/* In these tables, names that end in '*' stand for all that begin so. */
static bool is_named(const char *name, const char *const *names)
{
	for (; *names; names++) {
		size_t n = strlen(*names) - 1;

		if ((*names)[n] == '*' ? !strncmp(name, *names, n) : !strcmp(name, *names))
			return true;
	}

	return false;
}

/* Name an operand in memory and do not access it */
static const char *const no_access[] = {
	"lea", "nop", "ud0", "ud1", "invlpg", "prefetch*", "cldemote",
	"vgatherpf*", "vscatterpf*",
	/* These look at bounds, or for them in tables, which the decoder does not. */
	"bndc*", "bndmk", "bndldx", "bndstx",
	NULL
};

/* Have their operand in memory first, and do not write to it */
static const char *const first_is_read[] = {
	"aesdecwide*", "aesencwide*", "bt", "call*", "clflush*", "clwb", "cmp",
	"cmps", "div", "fadd", "fbld", "fcom", "fcomp", "fdiv", "fdivr", "fiadd",
	"ficom", "ficomp", "fidiv", "fidivr", "fild", "fimul", "fisub", "fisubr", "fld",
	"fldcw", "fldenv*", "fmul", "frstor*", "fsub", "fsubr", "fxrstor*", "idiv",
	"imul", "jmp*", "ldmxcsr", "ldtilecfg", "lgdt*", "lidt*", "lldt", "lmsw",
	"ltr", "mul", "ptwrite", "push*", "test", "verr", "verw", "vldmxcsr",
	"vmclear", "vmptrld", "vmxon", "xlat", "xrstor*",
	NULL
};

/* Have it first and write to it without having read it */
static const char *const first_is_written[] = {
	"bndmov", "extractps", "fbstp", "fist*", "fnsave*", "fnst*", "fst*", "fxsave*",
	"ins", "kmov*", "mov*", "pextr*", "pop*", "set*", "sgdt*", "sidt*",
	"sldt", "smsw", "stmxcsr", "stos", "str", "sttilecfg", "tilestored", "v*",
	"wrss*", "wruss*", "xsave*",
	NULL
};

/* All others have it first and read and write, or have it later and read. */
static u8 expected_access(const char *name, bool is_first)
{
	if (!is_first || is_named(name, first_is_read))
		return R;

	return is_named(name, first_is_written) ? W : R | W;
}

/**
 * struct implicit - what an instruction accesses without saying so
 * @name: its name
 * @where: it ends (PUSHED) or begins (POPPED) where RSP points to, or begins where
 *	another register does, or one that ModRM names (ANYWHERE)
 * @access: how it is accessed
 * @count: how many times the size of what is pushed there is at least, or 0 if
 *	@size is the size in bytes
 * @size: see @count
 */
struct implicit {
	const char *name;
	enum { PUSHED, POPPED, AT_RBP, AT_RDI, AT_RAX, ANYWHERE } where;
	u8 access;
	u8 count;
	u8 size;
};

static const struct implicit implicits[] = {
	{ "push", PUSHED, W, 1 },
	{ "pushf", PUSHED, W, 1 },
	{ "pusha", PUSHED, W, 8 },
	{ "call", PUSHED, W, 1 },
	{ "enter", PUSHED, W, 1 },
	{ "pop", POPPED, R, 1 },
	{ "popf", POPPED, R, 1 },
	{ "popa", POPPED, R, 8 },
	{ "ret", POPPED, R, 1 },
	{ "retf", POPPED, R, 2 },
	{ "iret", POPPED, R, 3 },
	{ "leave", AT_RBP, R, 1 },
	{ "maskmovq", AT_RDI, W, 0, 8 },
	{ "maskmovdqu", AT_RDI, W, 0, 16 },
	{ "vmaskmovdqu", AT_RDI, W, 0, 16 },
	{ "monitor", AT_RAX, R, 0, 1 },
	{ "monitorx", AT_RAX, R, 0, 1 },
	{ "clzero", AT_RAX, W, 0, 64 },
	{ "umonitor", ANYWHERE, R, 0, 1 },
};

static const struct implicit *find_implicit(const char *name)
{
	size_t i, len = strlen(name);

	for (i = 0; i < ARRAY_SIZE(implicits); i++)
		if (!strcmp(implicits[i].name, name))
			return &implicits[i];

	/* A letter for the size may follow. */
	if (!strchr("wdq", name[len - 1]))
		return NULL;
	for (i = 0; i < ARRAY_SIZE(implicits); i++)
		if (strlen(implicits[i].name) == len - 1 &&
		    !memcmp(implicits[i].name, name, len - 1))
			return &implicits[i];

	return NULL;
}

/* Have more than one operand in memory: the other is in a register, or a header */
static const char *const have_more[] = {
	"enqcmd*", "movdir64b", "xsave", "xsave64", "xsaveopt*", NULL
};

/* Sizes that objdump does not print, in code of 64, 32 and, if different, 16 bits */
static const struct {
	const char *name;
	u16 size, size32, size16;
} sizes[] = {
	{ "aesdec128kl", 48, 48 },
	{ "aesdec256kl", 64, 64 },
	{ "aesdecwide128kl", 48, 48 },
	{ "aesdecwide256kl", 64, 64 },
	{ "aesenc128kl", 48, 48 },
	{ "aesenc256kl", 64, 64 },
	{ "aesencwide128kl", 48, 48 },
	{ "aesencwide256kl", 64, 64 },
	{ "bndmov", 16, 8 },
	{ "enqcmd", 64, 64 },
	{ "enqcmds", 64, 64 },
	{ "fldenv", 28, 28, 14 },
	{ "fldenvw", 14, 14 },
	{ "fldenvd", 28, 28 },
	{ "fnsave", 108, 108, 94 },
	{ "fnsavew", 94, 94 },
	{ "fnsaved", 108, 108 },
	{ "fnstenv", 28, 28, 14 },
	{ "fnstenvw", 14, 14 },
	{ "fnstenvd", 28, 28 },
	{ "frstor", 108, 108, 94 },
	{ "frstorw", 94, 94 },
	{ "frstord", 108, 108 },
	{ "fxrstor", 512, 512 },
	{ "fxrstor64", 512, 512 },
	{ "fxsave", 512, 512 },
	{ "fxsave64", 512, 512 },
	{ "ldtilecfg", 64, 64 },
	{ "lgdt", 10, 6 },
	{ "lgdtd", 6, 6 },
	{ "lgdtw", 6, 6 },
	{ "lidt", 10, 6 },
	{ "lidtd", 6, 6 },
	{ "lidtw", 6, 6 },
	{ "invept", 16, 16 },
	{ "invpcid", 16, 16 },
	{ "invvpid", 16, 16 },
	{ "movdir64b", 64, 64 },
	{ "sgdt", 10, 6 },
	{ "sgdtd", 6, 6 },
	{ "sgdtw", 6, 6 },
	{ "sidt", 10, 6 },
	{ "sidtd", 6, 6 },
	{ "sidtw", 6, 6 },
	{ "sttilecfg", 64, 64 },
	{ "wrssd", 4, 4 },
	{ "wrssq", 8, 8 },
	{ "wrussd", 4, 4 },
	{ "wrussq", 8, 8 },
	/* RDX and RAX choose the rest. */
	{ "xrstor*", 576, 576 },
	{ "xsave*", 576, 576 },
};

/* ---- reading objdump's words ---- */

/**
 * struct memory - an operand in memory
 * @seg: its segment
 * @base: its address in there, the index left out; all of it
 * @index: the index, scaled
 * @vec: the vector register that is the index, or -1
 * @vec_bytes: its size
 * @scale: what its elements are multiplied by
 * @size: its size, 0 if that is not printed
 * @ad_bits: size of its address
 * @is_first: whether it is the first operand
 * @has_rsp: whether it is where RSP points to, which POP changes before
 */
struct memory {
	int seg;
	u64 base;
	u64 index;
	int vec;
	u8 vec_bytes;
	u8 scale;
	u16 size;
	u8 ad_bits;
	bool is_first;
	bool has_rsp;
};

/**
 * struct insn - an instruction
 * @bytes: its bytes, and more
 * @text: what objdump says
 * @name: its name, without prefixes
 * @operands: its operands, as text
 * @nr_operands: how many there are
 * @mem: those of them in memory
 * @nr_mem: how many there are
 */
struct insn {
	const u8 *bytes;
	const char *text;
	char name[32];
	char operands[6][80];
	unsigned int nr_operands;
	struct memory mem[2];
	unsigned int nr_mem;
};

/* Return: the number of the register, or -1.  @bits: its size */
static int find_reg(const char *name, size_t len, u8 *bits)
{
	static const char *const regs[] = {
		"ax", "cx", "dx", "bx", "sp", "bp", "si", "di",
	};
	char digits[4] = "";
	int i, nr;

	*bits = len && name[0] == 'r' ? 64 : len && name[0] == 'e' ? 32 : 16;
	if (len - (*bits != 16) == 2)
		for (i = 0; i < 8; i++)
			if (!memcmp(name + (*bits != 16), regs[i], 2))
				return i;
	if (len < 2 || len > 4 || name[0] != 'r' || !isdigit((u8)name[1]))
		return -1;

	memcpy(digits, name + 1, len - 1);
	nr = atoi(digits);
	if (name[len - 1] == 'd')
		*bits = 32;
	else if (name[len - 1] == 'w')
		*bits = 16;

	return nr;
}

static int find_seg(const char *name)
{
	static const char *const segs[] = { "es:", "cs:", "ss:", "ds:", "fs:", "gs:" };
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(segs); i++)
		if (!strncmp(name, segs[i], 3))
			return i;

	return -1;
}

/* One of what is added up: a register, with a scale, or a number */
static bool parse_term(const char *term, size_t len, bool is_negative,
		       struct memory *mem)
{
	static const char *const none[] = { "riz", "eiz" };
	const char *star = memchr(term, '*', len);
	size_t name_len = star ? (size_t)(star - term) : len;
	u8 scale = star ? atoi(star + 1) : 1;
	u8 bits;
	int reg;

	if (!memcmp(term, "0x", 2)) {
		u64 number = strtoull(term, NULL, 16);

		mem->base += is_negative ? -number : number;
		return true;
	}
	if (len > 4 && !memcmp(term + 1, "mm", 2)) {
		mem->vec = atoi(term + 3);
		mem->vec_bytes = *term == 'x' ? 16 : *term == 'y' ? 32 : 64;
		mem->scale = scale;
		return true;
	}
	if (name_len == 3 && (!memcmp(term, none[0], 3) || !memcmp(term, none[1], 3)))
		return true;

	reg = find_reg(term, name_len, &bits);
	if (reg < 0)
		return false;
	mem->ad_bits = bits;
	if (star) {
		mem->index = vcpu->regs[reg] * scale;
		return true;
	}
	mem->base += vcpu->regs[reg];
	if (reg == VCPU_REGS_RSP || reg == VCPU_REGS_RBP)
		mem->seg = VCPU_SREG_SS;
	mem->has_rsp |= reg == VCPU_REGS_RSP;

	return true;
}

/* What is in brackets, or an address */
static bool parse_address(const char *text, u64 rip_target, struct memory *mem)
{
	bool is_negative = false;

	if (*text != '[') {
		mem->base = strtoull(text, NULL, 16);
		return *text == '0';
	}
	text++;
	if (!memcmp(text + 1, "ip", 2)) {
		mem->base = rip_target;
		return true;
	}

	while (*text && *text != ']') {
		size_t len = strcspn(text, "+-]");

		if (!parse_term(text, len, is_negative, mem))
			return false;
		text += len;
		is_negative = *text == '-';
		if (*text == '+' || *text == '-')
			text++;
	}

	return *text == ']';
}

static u16 parse_size(const char **text)
{
	static const struct {
		const char *word;
		u16 size;
	} words[] = {
		{ "BYTE", 1 }, { "WORD", 2 }, { "DWORD", 4 }, { "FWORD", 6 },
		{ "QWORD", 8 }, { "TBYTE", 10 }, { "OWORD", 16 }, { "XMMWORD", 16 },
		{ "YMMWORD", 32 }, { "ZMMWORD", 64 },
	};
	size_t len = strcspn(*text, " ");
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(words); i++) {
		if (len == strlen(words[i].word) && !memcmp(*text, words[i].word, len) &&
		    (!memcmp(*text + len, " PTR ", 5) || !memcmp(*text + len, " BCST ", 6))) {
			*text += len + (memcmp(*text + len, " PTR ", 5) ? 6 : 5);
			return words[i].size;
		}
	}

	return 0;
}

/* Return: false if it is an operand in memory that cannot be understood. */
static bool parse_operand(struct insn *insn, unsigned int i, u64 rip_target)
{
	const char *text = insn->operands[i];
	struct memory mem = { .vec = -1, .is_first = !i };
	int seg;

	/* if no register says otherwise */
	mem.ad_bits = insn->bytes[0] != 0x67 ? vcpu->mode : vcpu->mode == 32 ? 16 : 32;

	mem.size = parse_size(&text);
	seg = find_seg(text);
	if (seg >= 0)
		text += 3;
	if (seg < 0 && *text != '[')
		return !mem.size;
	if (insn->nr_mem == ARRAY_SIZE(insn->mem))
		return false;

	mem.seg = VCPU_SREG_DS;
	if (!parse_address(text, rip_target, &mem))
		return false;
	if (seg >= 0)
		mem.seg = seg;
	/* which is the prefix for that segment as well */
	if (!strncmp(insn->text, "notrack ", 8))
		mem.seg = VCPU_SREG_DS;
	insn->mem[insn->nr_mem++] = mem;

	return true;
}

/* Words before the name */
static const char *const prefix_words[] = {
	"addr16", "addr32", "bnd", "cs", "data16", "data32", "ds", "es", "fs", "gs",
	"lock", "notrack", "rep", "repnz", "repz", "rex*", "ss", "xacquire", "xrelease", "{evex}",
	"{vex}", NULL
};

/* Return: whether it is an instruction at all. */
static bool parse_insn(struct insn *insn, u64 slot_address)
{
	const char *text = insn->text, *comment = strchr(text, '#');
	u64 rip_target = 0;
	char *name = insn->name;
	size_t len, rest;

	insn->nr_operands = 0;
	insn->nr_mem = 0;
	if (strstr(text, "(bad)") || strstr(text, "{bad") || strstr(text, ".byte"))
		return false;
	/* where that would be if the slot were where the vCPU's code is */
	if (comment)
		rip_target = strtoull(comment + 1, NULL, 16) - slot_address + vcpu->rip;

	do {
		text += strspn(text, " ");
		len = strcspn(text, " #\n");
		if (!len || len >= sizeof(insn->name))
			return false;
		memcpy(name, text, len);
		name[len] = '\0';
		text += len;
	} while (is_named(name, prefix_words));

	text += strspn(text, " ");
	while (*text && *text != '\n' && *text != '#') {
		char *operand = insn->operands[insn->nr_operands];

		rest = strcspn(text, ",\n#");
		len = rest;
		if (insn->nr_operands == ARRAY_SIZE(insn->operands) ||
		    len >= sizeof(insn->operands[0]))
			return false;
		memcpy(operand, text, len);
		operand[len] = '\0';
		while (len && operand[len - 1] == ' ')
			operand[--len] = '\0';
		insn->nr_operands++;
		text += rest;
		text += *text == ',';
	}

	for (len = 0; len < insn->nr_operands; len++) {
		if (!parse_operand(insn, len, rip_target)) {
			fprintf(stderr, "not understood: %s", insn->text);
			return false;
		}
	}

	return true;
}

/* Registers with vectors, by size */
static u8 vec_reg_bytes(const char *name)
{
	return !strncmp(name, "xmm", 3) ? 16 : !strncmp(name, "ymm", 3) ? 32 :
	       !strncmp(name, "zmm", 3) ? 64 : 0;
}

/* Return: 0 if it is none. */
static u8 reg_bytes(const char *name)
{
	u8 bits;

	if (strlen(name) == 2 && name[1] == 'l')
		return 1;
	if (find_reg(name, strlen(name), &bits) >= 0)
		return bits / 8;

	return vec_reg_bytes(name);
}

static u16 unprinted_size(const struct insn *insn)
{
	static const char *const has_reg_size[] = {
		"lddqu", "mov", "movabs", "vlddqu", NULL
	};
	const char *name = insn->name;
	size_t i;

	/* whose other operand is a register of that size */
	if (is_named(name, has_reg_size) && insn->nr_operands == 2)
		return reg_bytes(insn->operands[0]) ?: reg_bytes(insn->operands[1]);

	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		const char *const names[] = { sizes[i].name, NULL };

		if (!is_named(name, names))
			continue;
		if (vcpu->mode == 16 && sizes[i].size16)
			return sizes[i].size16;

		return vcpu->mode == 64 ? sizes[i].size : sizes[i].size32;
	}

	return 0;
}

/* ---- comparing ---- */

static struct kvmi_operand operands[KVMI_MAX_OPERANDS];
static bool is_matched[KVMI_MAX_OPERANDS];
static unsigned int nr_operands;

static u64 linear(int seg, u64 ea, u8 ad_bits)
{
	if (ad_bits < 64)
		ea &= BIT_ULL(ad_bits) - 1;
	if (vcpu->mode != 64)
		return (u32)(ea + vcpu->sregs[seg].base);

	return seg == VCPU_SREG_FS || seg == VCPU_SREG_GS ?
	       ea + vcpu->sregs[seg].base : ea;
}

/* BT and its relatives with a register */
static u64 bit_offset(const struct insn *insn, u8 size)
{
	static const char *const names[] = { "bt", "btc", "btr", "bts", NULL };
	const char *operand = insn->operands[1];
	u8 bits;
	int reg;

	if (!is_named(insn->name, names) || insn->nr_operands != 2)
		return 0;
	reg = find_reg(operand, strlen(operand), &bits);
	if (reg < 0)
		return 0;

	return (sign_extend64(vcpu->regs[reg], bits - 1) >> (ilog2(size) + 3)) * size;
}

static bool is_prefix(u8 byte)
{
	switch (byte) {
	case 0x26:
	case 0x2e:
	case 0x36:
	case 0x3e:
	case 0x64 ... 0x67:
	case 0xf2 ... 0xf3:
		return true;
	case 0x40 ... 0x4f:
		return vcpu->mode == 64;
	}

	return false;
}

static bool has_66(const struct insn *insn)
{
	const u8 *byte;

	for (byte = insn->bytes; is_prefix(*byte); byte++)
		if (*byte == 0x66)
			return true;

	return false;
}

static const u8 *behind_prefixes(const struct insn *insn)
{
	const u8 *byte = insn->bytes;

	while (is_prefix(*byte))
		byte++;

	return byte;
}

static bool is_fp16(const struct insn *insn)
{
	const u8 *bytes = behind_prefixes(insn);

	return bytes[0] == 0x62 && (bytes[1] & 7) >= 5 && strcmp(insn->name, "bound");
}

static bool is_xop(const struct insn *insn)
{
	return behind_prefixes(insn)[0] == 0x8f && strncmp(insn->name, "pop", 3);
}

/* Where the decoder may say more than what is accessed */
static bool is_too_large_known(const struct insn *insn)
{
	static const char *const names[] = {
		/* Near ones with the prefix 0x66 in 64-bit mode have 2 or 8 bytes. */
		"call", "jmp",
		/* Far ones, and these, with REX.W have 6 bytes for AMD and 10 for Intel. */
		"lfs", "lgs", "lss",
		/* The prefix 0x66 together with REX.W */
		"fldenvw", "fnsavew", "fnstenvw", "frstorw",
		/* MMX: the CPU may read all of the register's size. */
		"punpcklbw", "punpckldq", "punpcklwd",
		/* FMA4, numbers: of AMD's family 15h alone */
		"vfmadds*", "vfmsubs*", "vfnmadds*", "vfnmsubs*",
		/* It is either this or 64, and a vector's size is not much. */
		"aesdec*", "aesenc*", "vbcstne*",
		NULL
	};

	/* FP16 has a vector's size for all it does, and so has AMD's family 15h. */
	if (is_fp16(insn) || is_xop(insn))
		return true;
	/* The decoder does not know which ones have elements of 16 bits. */
	if (strstr(insn->text, " BCST "))
		return true;

	return is_named(insn->name, names);
}

/* Return: what is wrong, or NULL. */
static const char *compare_place(const struct insn *insn, const struct memory *mem,
				 u64 ea, u16 size)
{
	u8 access = expected_access(insn->name, mem->is_first);
	u64 gva = linear(mem->seg, ea, mem->ad_bits);
	const char *wrong = "missed, or at another address";
	unsigned int i;

	for (i = 0; i < nr_operands; i++) {
		const struct kvmi_operand *operand = &operands[i];
		u64 distance = gva - operand->gva;

		if (distance && (!operand->vague || distance >= operand->size))
			continue;
		if (operand->size - distance < size) {
			wrong = "too small";
			continue;
		}
		if (operand->access != access) {
			wrong = "accessed in another way";
			continue;
		}
		if (size && operand->size > size &&
		    !is_too_large_known(insn)) {
			wrong = "too large";
			continue;
		}
		is_matched[i] = true;
		return NULL;
	}

	return wrong;
}

static const char *compare_gather(const struct insn *insn, const struct memory *mem)
{
	const char *kind = strstr(insn->name, "gather") ?: strstr(insn->name, "scatter");
	u8 data = vec_reg_bytes(insn->operands[mem->is_first]);
	bool is_partial = strstr(insn->text, "{k2}");
	unsigned int i, nr, expected = 0;
	const char *wrong;
	u8 index_size;

	if (!kind || !data || !mem->size)
		return "not understood";
	/* [v]gather, an optional p, then the size of the index: d or q */
	kind += strcspn(kind, "r") + 1;
	kind += *kind == 'p';
	index_size = *kind == 'q' ? 8 : 4;
	nr = min(mem->vec_bytes / index_size, data / mem->size);

	for (i = 0; i < nr; i++) {
		u64 index = vec_element(mem->vec, i, index_size) * mem->scale;

		if (is_partial && !(0x5a5aU & BIT(i)))
			continue;
		wrong = compare_place(insn, mem, mem->base + index, mem->size);
		if (wrong)
			return wrong;
		expected++;
	}

	return nr_operands == expected ? NULL : "more elements than there are";
}

static const char *compare_tile(const struct insn *insn, const struct memory *mem)
{
	const char *wrong = NULL;
	unsigned int i;

	for (i = 0; i < 16 && !wrong; i++)
		wrong = compare_place(insn, mem, mem->base + i * mem->index, 64);

	return wrong;
}

/*
 * MPX has no addresses of 32 bits in 64-bit mode, and of the prefixes 0x66 and 0xf2 heeds
 * the latter; no compiler uses that.
 */
static bool is_not_compared(const struct insn *insn)
{
	return !strncmp(insn->name, "bnd", 3) &&
	       (insn->bytes[0] == 0x67 || insn->bytes[1] == 0xf2);
}

static const char *compare_mem(const struct insn *insn, const struct memory *mem)
{
	u16 size = mem->size ?: unprinted_size(insn);
	u64 ea = mem->base + mem->index;

	if (is_named(insn->name, no_access))
		return nr_operands ? "it accesses nothing" : NULL;
	if (mem->vec >= 0)
		return compare_gather(insn, mem);
	if (!strncmp(insn->name, "tile", 4))
		return compare_tile(insn, mem);
	if (!size)
		return "of unknown size";

	ea += bit_offset(insn, size);
	if (!strncmp(insn->name, "pop", 3) && mem->has_rsp)
		ea += size;

	return compare_place(insn, mem, ea, size);
}

/* How much is pushed at a time, at least */
static u8 stack_bytes(const struct insn *insn)
{
	if (vcpu->mode == 64 && !has_66(insn))
		return strncmp(insn->name, "retf", 4) && strncmp(insn->name, "iret", 4) ?
		       8 : 4;

	return has_66(insn) == (vcpu->mode == 16) ? 4 : 2;
}

/* In any segment, and with addresses of any size */
static bool is_at_reg(const struct kvmi_operand *operand, int reg)
{
	unsigned int seg, ad_bits;

	for (seg = 0; seg <= VCPU_SREG_GS; seg++)
		for (ad_bits = 16; ad_bits <= 64; ad_bits *= 2)
			if (operand->gva == linear(seg, vcpu->regs[reg], ad_bits))
				return true;

	return false;
}

static bool is_at(const struct kvmi_operand *operand, const struct implicit *implicit,
		  u8 stack_bits)
{
	switch (implicit->where) {
	case PUSHED:
		return operand->gva + operand->size ==
		       linear(VCPU_SREG_SS, vcpu->regs[VCPU_REGS_RSP], stack_bits);
	case POPPED:
		return operand->gva ==
		       linear(VCPU_SREG_SS, vcpu->regs[VCPU_REGS_RSP], stack_bits);
	case AT_RBP:
		return operand->gva ==
		       linear(VCPU_SREG_SS, vcpu->regs[VCPU_REGS_RBP], stack_bits);
	case AT_RDI:
		return is_at_reg(operand, VCPU_REGS_RDI);
	case AT_RAX:
		return is_at_reg(operand, VCPU_REGS_RAX);
	default:
		return true;
	}
}

/* What the instruction accesses without saying so has to be there. */
static const char *compare_implicit(const struct insn *insn)
{
	const struct implicit *implicit = find_implicit(insn->name);
	unsigned int i;
	u16 size;

	if (!implicit)
		return NULL;

	size = implicit->count ? implicit->count * stack_bytes(insn) : implicit->size;
	for (i = 0; i < nr_operands; i++)
		if (operands[i].access == implicit->access && operands[i].size >= size &&
		    is_at(&operands[i], implicit, vcpu->mode))
			return NULL;

	return "what it accesses without saying so is missing";
}

static const char *compare_rest(const struct insn *insn)
{
	unsigned int i;

	if (find_implicit(insn->name) || is_named(insn->name, have_more))
		return NULL;

	for (i = 0; i < nr_operands; i++)
		if (!is_matched[i])
			return "nothing is known of that";

	return NULL;
}

static const char *compare_insn(const struct insn *insn)
{
	const char *wrong = NULL;
	unsigned int i;

	set_code(insn->bytes, MAX_INSN_SIZE);
	memset(is_matched, 0, sizeof(is_matched));
	nr_operands = kvmi_insn_operands(vcpu, operands);
	if (stub_warnings || nr_operands > KVMI_MAX_OPERANDS) {
		nr_operands = 0;
		return "a warning, or too many operands";
	}
	if (is_not_compared(insn))
		return NULL;

	for (i = 0; i < insn->nr_mem && !wrong; i++)
		wrong = compare_mem(insn, &insn->mem[i]);
	if (!wrong)
		wrong = compare_implicit(insn);

	return wrong ?: compare_rest(insn);
}

static void report(const struct insn *insn, const char *wrong)
{
	unsigned int i;

	printf("%s: %.*s:", wrong, (int)strcspn(insn->text, "\n"), insn->text);
	for (i = 0; i < 13; i++)
		printf(" %02x", insn->bytes[i]);
	printf(":");
	for (i = 0; i < nr_operands; i++)
		printf(" %#llx+%u %s%s%s", (unsigned long long)operands[i].gva,
		       operands[i].size, operands[i].access & R ? "r" : "",
		       operands[i].access & W ? "w" : "",
		       operands[i].vague ? " somewhere" : "");
	printf("%s\n", nr_operands ? "" : " nothing");
}

/* A few of the same kind are enough. */
static bool is_often(const char *name, const char *wrong)
{
	static struct {
		char name[32];
		const char *wrong;
		unsigned int count;
	} seen[512];
	static unsigned int nr;
	unsigned int i;

	for (i = 0; i < nr; i++)
		if (seen[i].wrong == wrong && !strcmp(seen[i].name, name))
			return ++seen[i].count > 2;
	if (nr == ARRAY_SIZE(seen))
		return true;
	strcpy(seen[nr].name, name);
	seen[nr].wrong = wrong;
	seen[nr++].count = 1;

	return false;
}

/**
 * compare - compare all encodings with objdump's output
 * @mode: 64, 32 or 16: the kind of code
 *
 * Return: the status for the program to end with.
 */
int compare(int mode)
{
	unsigned int nr_insns = 0, nr_mem = 0, nr_wrong = 0;
	size_t nr_slots, next = 0;
	struct slot *slots;
	char line[512];

	set_vcpu(mode);
	nr_slots = list_encodings(mode, &slots);

	while (fgets(line, sizeof(line), stdin)) {
		char *colon = strchr(line, ':');
		struct insn insn;
		const char *wrong;
		u64 address;

		if (!colon || colon[1] != '\t')
			continue;
		address = strtoull(line, NULL, 16);
		if (address != next * SLOT_SIZE)
			continue;
		if (next == nr_slots)
			break;

		insn.bytes = slots[next++].bytes;
		insn.text = colon + 2;
		if (!parse_insn(&insn, address))
			continue;
		nr_insns++;
		nr_mem += !!insn.nr_mem;
		wrong = compare_insn(&insn);
		if (!wrong)
			continue;
		nr_wrong++;
		if (!is_often(insn.name, wrong))
			report(&insn, wrong);
	}
	printf("%d-bit: %zu encodings, %u instructions, %u with operands in memory, %u wrong\n",
	       mode, nr_slots, nr_insns, nr_mem, nr_wrong);
	if (next != nr_slots) {
		printf("objdump's output has only the first %zu\n", next);
		return 1;
	}

	return nr_wrong || nr_mem < nr_slots / 8;
}
