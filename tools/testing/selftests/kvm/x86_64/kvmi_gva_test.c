// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM introspection: the linear address in an event.  Not all hardware tells
 * it; KVM finds it out from the instruction, if it leaves no doubt.
 *
 * All restrictions are lifted as the events come, so it is the CPU that makes
 * the accesses, whatever the emulator knows.
 */
#include "test_util.h"
#include "kvm_util.h"
#include "kselftest_harness.h"
#include "kvmi_util.h"

#define R	KVMI_PAGE_ACCESS_R
#define W	KVMI_PAGE_ACCESS_W
#define X	KVMI_PAGE_ACCESS_X
#define RW	(R | W)

/*
 * The test pages can be seen in three places.  %rdi is A, %rsi is B in the
 * code below.
 */
#define A		0x10000003340ull
#define B		0x10000006540ull
#define CROSSING	0x10000004ffcull
#define CODE		0x10000009100ull
#define ALIAS		0x10000000000ull
#define LOW		(-KVMI_TEST_GVA + 0x70000000ull)

#define X86_FEATURE_AVX		KVM_X86_CPU_FEATURE(0x1, 0, ECX, 28)
#define X86_FEATURE_AVX2	KVM_X86_CPU_FEATURE(0x7, 0, EBX, 5)

/* Of the GDT: 32-bit segments for code and stack */
#define SEL_CODE32	0x70
#define SEL_DATA32	0x78

struct row {
	const char *name;
	kvmi_insn insn;
	const char *at, *end;
	/* what is accessed, and how */
	struct {
		uint64_t gva;
		uint8_t access;
	} want[2];
	/* AMD leaves it open, for the two look the same or for KVM's sake */
	bool open;
	bool avx, avx2;
	/* how far from there the first access may be */
	unsigned int len;
};

#define FUNC(name, before, insn, after)					\
	asm(".pushsection .text\n"					\
	    ".type gva_" #name ", @function\n"				\
	    "gva_" #name ": " before "\n"				\
	    "gva_" #name "_at: " insn "\n"				\
	    "gva_" #name "_end: " after "\n"				\
	    "ret\n"							\
	    ".popsection\n");						\
	uint64_t gva_##name(uint64_t gva, uint64_t val, uint64_t arg);	\
	extern char gva_##name##_at[], gva_##name##_end[];

#define ROW(name, before, insn, after, ...)				\
	FUNC(name, before, insn, after)

/* In a 32-bit code segment: there and back again */
#define ROW32(name, before, insn, ...)					\
	FUNC(name,							\
	     "mov %ss, %r9d\n"						\
	     "mov %rsp, %r8\n"						\
	     "mov %rbx, %r10\n"						\
	     "push $0x70\n"						\
	     "push $3f\n"						\
	     "mov $0x78, %eax\n"					\
	     "mov %eax, %ss\n"						\
	     "lretq\n"							\
	     ".code32\n"						\
	     "3: " before, insn,					\
	     "ljmp $8, $4f\n"						\
	     ".code64\n"						\
	     "4: mov %r9d, %ss\n"					\
	     "mov %r8, %rsp\n"						\
	     "mov %r10, %rbx\n")

#include "kvmi_gva_rows.h"

#undef ROW
#undef ROW32
#define ROW(n, before, insn_, after, ...)				\
	{ .name = #n, .insn = gva_##n, .at = gva_##n##_at,		\
	  .end = gva_##n##_end, .want = __VA_ARGS__ },
#define ROW32(n, before, insn_, ...)	ROW(n, before, insn_, "", __VA_ARGS__)

static const struct row rows[] = {
#include "kvmi_gva_rows.h"
};

/* Addresses that count from the end of the instruction: 0 is in their place. */
static const struct rip_row {
	const char *name;
	uint8_t len;
	uint8_t disp;
	uint8_t access;
	uint8_t bytes[15];
	bool avx;
} rip_rows[] = {
	{ "mov", 7, 3, R, { 0x48, 0x8b, 0x05 } },
	{ "add imm32", 10, 2, RW, { 0x81, 0x05 } },
	{ "add imm16", 9, 3, RW, { 0x66, 0x81, 0x05 } },
	{ "add imm8", 7, 2, RW, { 0x80, 0x05 } },
	{ "add imm8 to 64 bits", 8, 3, RW, { 0x48, 0x83, 0x05 } },
	{ "imul imm32", 10, 2, R, { 0x69, 0x05 } },
	{ "imul imm8", 7, 2, R, { 0x6b, 0x05 } },
	{ "mov imm8", 7, 2, W, { 0xc6, 0x05 } },
	{ "mov imm32 to 64 bits", 11, 3, W, { 0x48, 0xc7, 0x05 } },
	{ "shl imm8", 7, 2, RW, { 0xc1, 0x25 } },
	{ "shl by one", 6, 2, RW, { 0xd1, 0x25 } },
	{ "test imm8", 7, 2, R, { 0xf6, 0x05 } },
	{ "test imm32", 10, 2, R, { 0xf7, 0x05 } },
	{ "not", 6, 2, RW, { 0xf7, 0x15 } },
	{ "bt imm8", 8, 3, R, { 0x0f, 0xba, 0x25 } },
	{ "movzx", 7, 3, R, { 0x0f, 0xb6, 0x05 } },
	{ "pshufd", 9, 4, R, { 0x66, 0x0f, 0x70, 0x05 } },
	{ "pextrd", 10, 5, W, { 0x66, 0x0f, 0x3a, 0x16, 0x05 } },
	{ "pshufb", 9, 5, R, { 0x66, 0x0f, 0x38, 0x00, 0x05 } },
	{ "vmovdqa", 8, 4, R, { 0xc5, 0xf9, 0x6f, 0x05 }, true },
	{ "vpextrd", 10, 5, W, { 0xc4, 0xe3, 0x79, 0x16, 0x05 }, true },
};

FIXTURE(gva)
{
	struct kvmi_env env;
	bool avx, avx2;
};

/* The three regions differ in what is above this. */
static uint64_t to_gpa(uint64_t gva)
{
	return KVMI_TEST_GPA + gva % (KVMI_TEST_PAGES * PAGE_SIZE);
}

static uint64_t *to_hva(struct kvmi_env *env, uint64_t gva)
{
	return env->hva + (to_gpa(gva) - KVMI_TEST_GPA);
}

FIXTURE_SETUP(gva)
{
	struct kvmi_env *env = &self->env;
	struct kvm_xcrs xcrs = { .nr_xcrs = 1 };
	struct kvm_vcpu *vcpu;
	struct kvm_sregs sregs;
	uint64_t *gdt;

	kvmi_env_create(env, 1);
	vcpu = env->run[0].vcpu;
	virt_map(env->vm, KVMI_TEST_GVA + ALIAS, KVMI_TEST_GPA, KVMI_TEST_PAGES);
	virt_map(env->vm, KVMI_TEST_GVA + LOW, KVMI_TEST_GPA, KVMI_TEST_PAGES);
	gdt = addr_gva2hva(env->vm, env->vm->arch.gdt);
	gdt[SEL_CODE32 / 8] = 0x00cf9b000000ffff;
	gdt[SEL_DATA32 / 8] = 0x00cf93000000ffff;

	self->avx = kvm_cpu_has(X86_FEATURE_AVX);
	self->avx2 = kvm_cpu_has(X86_FEATURE_AVX2);
	vcpu_sregs_get(vcpu, &sregs);
	sregs.fs.base = A - 0x100;
	sregs.gs.base = A;
	if (self->avx)
		sregs.cr4 |= X86_CR4_OSXSAVE;
	vcpu_sregs_set(vcpu, &sregs);
	if (self->avx) {
		xcrs.xcrs[0].value = 7;
		vcpu_xcrs_set(vcpu, &xcrs);
	}

	kvmi_env_hook(env);
	kvmi_control_event(env, 0, KVMI_VCPU_EVENT_PF, true);
}

FIXTURE_TEARDOWN(gva)
{
	kvmi_env_destroy(&self->env);
}

struct lift {
	struct kvmi_recs recs;
	uint8_t access[KVMI_TEST_PAGES];
};

static uint8_t lift(struct kvmi_env *env, const struct kvmi_event *ev,
		    void *arg)
{
	struct lift *l = arg;
	uint64_t page = (ev->pf.gpa - KVMI_TEST_GPA) / PAGE_SIZE;

	TEST_ASSERT(page < KVMI_TEST_PAGES, "gpa %#llx", ev->pf.gpa);
	kvmi_record(env, ev, &l->recs);
	l->access[page] |= ev->pf.access == W ? RW : ev->pf.access;
	kvmi_set_page_access(&env->tool, kvmi_gpa(page, 0), l->access[page]);

	return KVMI_EVENT_ACTION_RETRY;
}

static void restrict_page(struct kvmi_env *env, struct lift *l, uint64_t gva,
			  uint8_t access)
{
	uint64_t page = (to_gpa(gva) - KVMI_TEST_GPA) / PAGE_SIZE;

	l->access[page] = access;
	kvmi_set_page_access(&env->tool, kvmi_gpa(page, 0), access);
}

static void lift_all(struct kvmi_env *env)
{
	unsigned int page;

	for (page = 0; page < KVMI_TEST_PAGES; page++)
		kvmi_set_page_access(&env->tool, kvmi_gpa(page, 0),
				     KVMI_ACCESS_ALL);
}

/* Which of the accesses is this event about? */
static int find_want(const struct row *row, const struct kvmi_event *ev,
		     uint8_t access)
{
	bool may_be_open = row->open && host_cpu_is_amd && kvm_is_tdp_enabled();
	int i;

	for (i = 0; i < ARRAY_SIZE(row->want); i++) {
		uint64_t distance = ev->pf.gpa - to_gpa(row->want[i].gva);

		if ((row->want[i].access & ev->pf.access & ~access) &&
		    distance <= row->len &&
		    (row->want[i].gva + distance == ev->pf.gva ||
		     (may_be_open && ev->pf.gva == ~0ull)))
			return i;
	}

	TEST_FAIL("%s: gpa %#llx gva %#llx access %u rip %#llx, instruction at %p",
		  row->name, ev->pf.gpa, ev->pf.gva, ev->pf.access,
		  ev->common.arch.regs.rip, row->at);
	return -1;
}

/* Is there another access that looks the same, or comes when all is lifted? */
static bool is_hidden(const struct row *row, int i)
{
	return to_gpa(row->want[0].gva) / PAGE_SIZE ==
	       to_gpa(row->want[1].gva) / PAGE_SIZE &&
	       row->want[0].access == row->want[1].access;
}

static void check_row(struct kvmi_env *env, const struct row *row,
		      uint8_t access)
{
	struct lift l = { };
	bool seen[2] = { };
	unsigned int i, writes = 0;

	for (i = 0; i < ARRAY_SIZE(row->want); i++)
		writes |= row->want[i].access & ~access;
	if (!writes)
		return;

	memset(l.access, KVMI_ACCESS_ALL, sizeof(l.access));
	*to_hva(env, A) = (uint64_t)row->end;
	*to_hva(env, B) = (uint64_t)row->end;
	for (i = 0; i < ARRAY_SIZE(row->want); i++)
		if (row->want[i].access)
			restrict_page(env, &l, row->want[i].gva, access);

	kvmi_env_access(env, 0, row->insn, A, B, lift, &l, NULL);

	for (i = 0; i < l.recs.nr; i++) {
		TEST_ASSERT(l.recs.ev[i].common.arch.regs.rip ==
			    (uint64_t)row->at, "%s: rip %#llx, want %p",
			    row->name, l.recs.ev[i].common.arch.regs.rip,
			    row->at);
		seen[find_want(row, &l.recs.ev[i], access)] = true;
	}
	TEST_ASSERT(l.recs.nr, "%s: no event", row->name);
	for (i = 0; i < ARRAY_SIZE(row->want); i++)
		TEST_ASSERT(seen[i] || !(row->want[i].access & ~access) ||
			    is_hidden(row, i), "%s: nothing of gva %#lx",
			    row->name, row->want[i].gva);
	lift_all(env);
}

TEST_F_TIMEOUT(gva, instructions, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	int i;

	for (i = 0; i < ARRAY_SIZE(rows); i++) {
		if ((rows[i].avx && !self->avx) ||
		    (rows[i].avx2 && !self->avx2))
			continue;
		check_row(env, &rows[i], X);
		check_row(env, &rows[i], R | X);
	}
}

static void check_rip_row(struct kvmi_env *env, const struct rip_row *row,
			  uint64_t rip)
{
	uint8_t *code = (void *)to_hva(env, rip);
	int32_t disp = A - (rip + row->len);
	struct lift l = { };
	unsigned int i;

	memcpy(code, row->bytes, row->len);
	memcpy(code + row->disp, &disp, sizeof(disp));
	code[row->len] = 0xc3;

	memset(l.access, KVMI_ACCESS_ALL, sizeof(l.access));
	restrict_page(env, &l, A, X);
	kvmi_env_access(env, 0, kvmi_insn_exec, rip, 0, lift, &l, NULL);
	TEST_ASSERT(l.recs.nr, "%s: no event", row->name);
	for (i = 0; i < l.recs.nr; i++)
		TEST_ASSERT(l.recs.ev[i].pf.gva == A &&
			    l.recs.ev[i].pf.gpa == to_gpa(A) &&
			    (l.recs.ev[i].pf.access & row->access) &&
			    l.recs.ev[i].common.arch.regs.rip == rip,
			    "%s: gpa %#llx gva %#llx access %u", row->name,
			    l.recs.ev[i].pf.gpa, l.recs.ev[i].pf.gva,
			    l.recs.ev[i].pf.access);
	lift_all(env);
}

TEST_F_TIMEOUT(gva, rip_relative, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	int i;

	for (i = 0; i < ARRAY_SIZE(rip_rows); i++) {
		if (rip_rows[i].avx && !self->avx)
			continue;
		check_rip_row(env, &rip_rows[i], CODE);
		/* with its last byte in the next page */
		check_rip_row(env, &rip_rows[i], (CODE / PAGE_SIZE + 1) *
			      PAGE_SIZE - rip_rows[i].len + 1);
	}
}

/* To look at the instruction, and at the guest's tables, is no access. */
TEST_F_TIMEOUT(gva, leaves_no_trace, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct lift l = { };
	uint64_t *pte[2], gva = A + ALIAS;
	int i;

	if (!kvm_is_tdp_enabled())
		SKIP(return, "shadow paging follows the guest's page tables");

	/* a load, and the page it is from can be seen twice */
	pte[0] = vm_get_page_table_entry(env->vm, A);
	pte[1] = vm_get_page_table_entry(env->vm, gva);
	env->run[0].req->flush = 1;
	for (i = 0; i < 2; i++)
		*pte[i] &= ~0x60ull;
	memset(l.access, KVMI_ACCESS_ALL, sizeof(l.access));
	restrict_page(env, &l, A, X);
	kvmi_env_access(env, 0, kvmi_insn_read, A, 0, lift, &l, NULL);
	TEST_ASSERT_EQ(l.recs.nr, 1);
	TEST_ASSERT_EQ(l.recs.ev[0].pf.gva, A);
	TEST_ASSERT_EQ(*pte[0] & 0x60, 0x20);
	TEST_ASSERT_EQ(*pte[1] & 0x60, 0);
}

int main(int argc, char **argv)
{
	TEST_REQUIRE(kvmi_supported());

	return test_harness_run(argc, argv);
}
