// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM introspection: what the CPU does to the guest's page tables where these
 * are in restricted pages.  By itself it is nobody's business, and has to be
 * exact; a tool can ask to hear of it.
 */
#include "test_util.h"
#include "kvm_util.h"
#include "kselftest_harness.h"
#include "kvmi_util.h"

#define R	KVMI_PAGE_ACCESS_R
#define W	KVMI_PAGE_ACCESS_W
#define X	KVMI_PAGE_ACCESS_X

#define CONTINUE	KVMI_EVENT_ACTION_CONTINUE
#define RETRY		KVMI_EVENT_ACTION_RETRY
#define CRASH		KVMI_EVENT_ACTION_CRASH

#define DATA	0x40
#define CODE	0x840
#define OP_RET	0xc3

#define PTE_A	(1ull << 5)
#define PTE_D	(1ull << 6)

/* The page that the accesses are made to */
#define PAGE	4

/* The same, mapped as a large page; and where the guest sees its page table */
#define LARGE_GVA	(KVMI_TEST_GVA + 0x10000000000ull)
#define TABLE_GVA	(KVMI_MMIO_GVA + PAGE_SIZE)

struct access {
	const char *name;
	kvmi_insn insn;
	unsigned int offset;
	bool write;
};

static const struct access accesses[] = {
	{ "read", kvmi_insn_read, DATA },
	{ "write", kvmi_insn_write, DATA, true },
	{ "exec", kvmi_insn_exec, CODE },
	{ "locked read-modify-write", kvmi_insn_xadd, DATA, true },
	{ "read that is not emulated", kvmi_insn_sse_add, DATA },
	{ "write that is not emulated", kvmi_insn_sse_write, DATA, true },
};

FIXTURE(walk)
{
	struct kvmi_env env;
	/* the entries that map the page, by their level */
	uint64_t *entry[PG_LEVEL_512G + 1];
	uint64_t *large;
};

static uint64_t *find_entry(struct kvmi_env *env, uint64_t gva, int level)
{
	return __vm_get_page_table_entry(env->vm, gva, &level);
}

FIXTURE_SETUP(walk)
{
	struct kvmi_env *env = &self->env;
	int level;

	kvmi_env_create(env, 1);
	memset(kvmi_hva(env, PAGE, PAGE_SIZE / 2), OP_RET, PAGE_SIZE / 2);

	for (level = PG_LEVEL_4K; level <= PG_LEVEL_512G; level++)
		self->entry[level] = find_entry(env, kvmi_gva(PAGE, 0), level);
	__virt_pg_map(env->vm, LARGE_GVA, KVMI_TEST_GPA, PG_LEVEL_2M);
	self->large = find_entry(env, LARGE_GVA, PG_LEVEL_2M);

	kvmi_env_hook(env);
	kvmi_control_event(env, 0, KVMI_VCPU_EVENT_PF, true);
	env->run[0].req->flush = 1;
}

FIXTURE_TEARDOWN(walk)
{
	kvmi_env_destroy(&self->env);
}

static int control_walks(struct kvmi_env *env, bool enable, uint8_t flags)
{
	struct kvmi_vcpu_control_events req = {
		.event_id = KVMI_VCPU_EVENT_PF,
		.enable = enable,
		.flags = flags,
	};

	return __kvmi_vcpu_cmd(env, 0, KVMI_VCPU_CONTROL_EVENTS, &req,
			       sizeof(req), NULL, 0);
}

static uint64_t table_gpa(struct kvmi_env *env, uint64_t *entry)
{
	return addr_hva2gpa(env->vm, entry);
}

static void set_table(struct kvmi_env *env, uint64_t *entry, uint8_t access)
{
	kvmi_set_page_access(&env->tool, table_gpa(env, entry), access);
}

/* KVM follows what the guest does to its page tables, not what we do. */
#define SHADOW	"with shadow paging, it is KVM that walks"

/*
 * One access with the accessed and dirty bits of @leaf, and the accessed bit
 * of @upper, clear.  Afterwards they are as the CPU sets them, and memory is.
 */
static void do_access(struct kvmi_env *env, const struct access *a,
		      uint64_t gva, uint64_t *leaf, uint64_t *upper,
		      struct kvmi_recs *recs)
{
	uint64_t *data = kvmi_hva(env, PAGE, DATA);
	uint64_t want = a->write ? PTE_A | PTE_D : PTE_A;
	uint64_t result, upper_bits = *upper & PTE_D;

	data[0] = 0x111;
	data[1] = 0;
	*leaf &= ~(PTE_A | PTE_D);
	*upper &= ~PTE_A;

	recs->nr = 0;
	kvmi_env_access(env, 0, a->insn, gva + a->offset, 0x222, kvmi_record,
			recs, &result);

	TEST_ASSERT((*leaf & (PTE_A | PTE_D)) == want, "%s: %#lx", a->name,
		    *leaf);
	if (upper != leaf)
		TEST_ASSERT((*upper & (PTE_A | PTE_D)) == (PTE_A | upper_bits),
			    "%s: %#lx above it", a->name, *upper);
	TEST_ASSERT_EQ(data[0], a->insn == kvmi_insn_xadd ? 0x333 :
				a->write ? 0x222 : 0x111);
	if (a->insn == kvmi_insn_read || a->insn == kvmi_insn_xadd)
		TEST_ASSERT_EQ(result, 0x111);
	if (a->insn == kvmi_insn_sse_add)
		TEST_ASSERT_EQ(result, 0x333);
}

static bool can_do(struct kvmi_env *env, const struct access *a)
{
	return a->insn != kvmi_insn_sse_add || kvmi_can_step(&env->tool);
}

/* ---- without an event ---- */

/* Each level, each restriction: all goes on as without. */
TEST_F_TIMEOUT(walk, silent, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_recs recs = { .action = CONTINUE };
	int level, access, i;

	if (!kvm_is_tdp_enabled())
		SKIP(return, SHADOW);

	for (level = PG_LEVEL_4K; level <= PG_LEVEL_512G; level++) {
		uint64_t *entry = self->entry[level];

		/* The top level is the code's as well, all of it. */
		if (level == PG_LEVEL_512G && !kvmi_can_step(&env->tool))
			continue;

		for (access = 0; access <= KVMI_ACCESS_ALL; access++) {
			set_table(env, entry, access);
			for (i = 0; i < ARRAY_SIZE(accesses); i++) {
				if (!can_do(env, &accesses[i]))
					continue;
				do_access(env, &accesses[i], kvmi_gva(PAGE, 0),
					  self->entry[PG_LEVEL_4K], entry,
					  &recs);
				TEST_ASSERT(!recs.nr, "level %d access %d: %s: %u events",
					    level, access, accesses[i].name,
					    recs.nr);
			}
		}
	}
}

TEST_F_TIMEOUT(walk, silent_large, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_recs recs = { .action = CONTINUE };
	int access, i;

	if (!kvm_is_tdp_enabled())
		SKIP(return, SHADOW);

	for (access = 0; access <= KVMI_ACCESS_ALL; access++) {
		set_table(env, self->large, access);
		for (i = 0; i < ARRAY_SIZE(accesses); i++) {
			if (!can_do(env, &accesses[i]))
				continue;
			do_access(env, &accesses[i],
				  LARGE_GVA + PAGE * PAGE_SIZE, self->large,
				  self->large, &recs);
			TEST_ASSERT(!recs.nr, "access %d: %s: %u events",
				    access, accesses[i].name, recs.nr);
		}
	}
}

/* The emulator walks for itself; it has to set the same bits. */
TEST_F_TIMEOUT(walk, emulator, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_recs recs = { .action = CONTINUE };
	uint64_t *leaf = self->entry[PG_LEVEL_4K];

	if (!kvm_is_tdp_enabled())
		SKIP(return, SHADOW);
	if (!is_forced_emulation_enabled)
		SKIP(return, "kvm.force_emulation_prefix is off");

	set_table(env, leaf, 0);
	*leaf &= ~(PTE_A | PTE_D);
	*(uint64_t *)kvmi_hva(env, PAGE, DATA) = 3;
	kvmi_env_access(env, 0, kvmi_insn_fep_add, kvmi_gva(PAGE, DATA), 4,
			kvmi_record, &recs, NULL);
	TEST_ASSERT(!recs.nr, "%u events", recs.nr);
	TEST_ASSERT_EQ(*leaf & (PTE_A | PTE_D), PTE_A | PTE_D);
	TEST_ASSERT_EQ(*(uint64_t *)kvmi_hva(env, PAGE, DATA), 7);
}

static void skip_ud(struct ex_regs *regs)
{
	regs->rip += 2;
	regs->rax = 0x600d;
}

/* The CPU walks to the stack that it pushes an exception's frame onto. */
TEST_F_TIMEOUT(walk, delivery, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	uint64_t *leaf = self->entry[PG_LEVEL_4K];
	uint64_t top = kvmi_gva(PAGE, 0x400);
	int access, walks;

	if (!kvm_is_tdp_enabled())
		SKIP(return, SHADOW);
	/* What cannot be stepped is emulated, and that is no way to deliver. */
	if (!kvmi_can_step(&env->tool))
		SKIP(return, "the CPU cannot step");

	vm_install_exception_handler(env->vm, UD_VECTOR, skip_ud);
	for (walks = 0; walks < 2; walks++) {
		TEST_ASSERT_EQ(control_walks(env, true,
					     walks ? KVMI_PF_WALK : 0), 0);
		for (access = 0; access <= KVMI_ACCESS_ALL; access++) {
			bool denied = (access & (R | W)) != (R | W);
			struct kvmi_recs recs = { .action = CONTINUE };
			const struct kvmi_event *ev = recs.ev;
			uint64_t result;

			set_table(env, leaf, access);
			*leaf &= ~(PTE_A | PTE_D);
			kvmi_env_access(env, 0, kvmi_insn_ud_stack, top, 0,
					kvmi_record, &recs, &result);
			TEST_ASSERT_EQ(result, 0x600d);
			TEST_ASSERT_EQ(*leaf & (PTE_A | PTE_D), PTE_A | PTE_D);

			/* The handler walks there again to go back. */
			TEST_ASSERT(walks && denied ? recs.nr : !recs.nr,
				    "access %d: %u events", access, recs.nr);
			if (!recs.nr)
				continue;
			TEST_ASSERT_EQ(ev->pf.flags, KVMI_PF_WALK);
			TEST_ASSERT_EQ(ev->pf.gpa, table_gpa(env, leaf));
			TEST_ASSERT(host_cpu_is_amd ? ev->pf.gva == ~0ull :
				    ev->pf.gva < top && ev->pf.gva >= top - 0x40,
				    "gva %#llx", ev->pf.gva);
		}
	}
}

/* The least that it takes; the host's interrupts cause exits, too. */
static unsigned int exits_of(FIXTURE_DATA(walk) * self, const struct access *a,
			     uint8_t table, uint64_t bits)
{
	struct kvmi_env *env = &self->env;
	struct kvm_vcpu *vcpu = env->run[0].vcpu;
	struct kvmi_recs recs = { .action = CONTINUE };
	uint64_t *leaf = self->entry[PG_LEVEL_4K];
	unsigned int i, least = ~0;

	for (i = 0; i < 10; i++) {
		uint64_t exits;

		set_table(env, leaf, table);
		*leaf = (*leaf & ~(PTE_A | PTE_D)) | bits;
		/* KVM maps what it has not mapped yet. */
		kvmi_env_access(env, 0, a->insn, kvmi_gva(PAGE, a->offset), 1,
				kvmi_record, &recs, NULL);
		*leaf = (*leaf & ~(PTE_A | PTE_D)) | bits;
		exits = kvmi_nr_exits(vcpu);
		kvmi_env_access(env, 0, a->insn, kvmi_gva(PAGE, a->offset), 1,
				kvmi_record, &recs, NULL);
		exits = kvmi_nr_exits(vcpu) - exits;
		least = min_t(unsigned int, least, exits);
	}

	return least;
}

/* Does KVM carry out the instruction, which may end with the first exit? */
static bool is_emulated(struct kvmi_env *env, const struct access *a)
{
	return !kvmi_can_step(&env->tool) || (a->insn != kvmi_insn_sse_add &&
					      a->insn != kvmi_insn_sse_write);
}

/*
 * What a walk costs.  The CPU always writes to the table, unless it is Intel's
 * and EPT has no accessed and dirty bits: then it does if there is one to set.
 *
 * If the CPU carries out the instruction, its own translation has to permit the
 * walk first, and then there is the step.  All else is mapped there already.
 */
TEST_F_TIMEOUT(walk, exits, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	bool always = host_cpu_is_amd || get_kvm_intel_param_bool("eptad");
	/* Only the TDP MMU keeps what is mapped in the vCPU's own translation. */
	unsigned int most = get_kvm_param_bool("tdp_mmu") ? 5 : 16;
	int i, set;

	if (!kvm_is_tdp_enabled())
		SKIP(return, SHADOW);

	for (i = 0; i < ARRAY_SIZE(accesses); i++) {
		const struct access *a = &accesses[i];

		if (!can_do(env, a))
			continue;

		for (set = 0; set < 2; set++) {
			uint64_t bits = set ? PTE_A | PTE_D : 0;
			unsigned int base, exits;

			base = exits_of(self, a, KVMI_ACCESS_ALL, bits);
			exits = exits_of(self, a, R | X, bits) - base;
			ksft_print_msg("%s, bits %s: %u + %u exits\n", a->name,
				       set ? "set" : "clear", base, exits);
			if (set && !always)
				TEST_ASSERT(!exits, "%u exits", exits);
			else if (always && is_emulated(env, a))
				TEST_ASSERT(exits == 1, "%u exits", exits);
			else
				TEST_ASSERT(exits < most, "%u exits", exits);
		}
	}
}

/* ---- with an event ---- */

TEST_F_TIMEOUT(walk, control, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_get_version_reply version;
	int err;

	kvmi_cmd(&env->tool, KVMI_GET_VERSION, NULL, 0, &version,
		 sizeof(version));
	err = version.features.pf_walk ? 0 : -KVM_EINVAL;

	TEST_ASSERT_EQ(control_walks(env, true, KVMI_PF_WALK), err);
	TEST_ASSERT_EQ(control_walks(env, true, KVMI_PF_WALK), err);
	TEST_ASSERT_EQ(control_walks(env, false, KVMI_PF_WALK), -KVM_EINVAL);
	TEST_ASSERT_EQ(control_walks(env, false, 0), 0);
}

/* Who writes to a table: the CPU does so always, or when it has a bit to set. */
static void check_walk(const struct kvmi_event *ev, uint64_t gpa, uint8_t table,
		       uint64_t gva, uint64_t rip)
{
	TEST_ASSERT_EQ(ev->pf.flags, KVMI_PF_WALK);
	TEST_ASSERT_EQ(ev->pf.padding2, 0);
	TEST_ASSERT_EQ(ev->pf.padding3, 0);
	TEST_ASSERT(ev->pf.gpa == gpa, "gpa %#llx, want %#lx", ev->pf.gpa, gpa);
	TEST_ASSERT(ev->pf.access == R || ev->pf.access == W, "access %u",
		    ev->pf.access);
	TEST_ASSERT(!(ev->pf.access & table), "access %u is permitted",
		    ev->pf.access);
	TEST_ASSERT_EQ(ev->pf.gva, host_cpu_is_amd ? ~0ull : gva);
	TEST_ASSERT(ev->common.arch.regs.rip == rip, "rip %#llx, want %#lx",
		    ev->common.arch.regs.rip, rip);
}

static uint64_t access_rip(const struct access *a, uint64_t gva)
{
	return a->insn == kvmi_insn_exec ? gva :
	       a->insn == kvmi_insn_sse_add ? (uint64_t)kvmi_insn_sse_add_at :
	       a->insn == kvmi_insn_sse_write ?
			(uint64_t)kvmi_insn_sse_write_at : (uint64_t)a->insn;
}

/*
 * One event for each instruction and table.  The accessed bits are set anew,
 * so the CPU has to write in any case.
 */
TEST_F_TIMEOUT(walk, reported, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_recs recs = { .action = CONTINUE };
	int level, access, i;

	if (!kvm_is_tdp_enabled())
		SKIP(return, SHADOW);

	TEST_ASSERT_EQ(control_walks(env, true, KVMI_PF_WALK), 0);

	for (level = PG_LEVEL_4K; level <= PG_LEVEL_1G; level++) {
		uint64_t *entry = self->entry[level];

		for (access = 0; access <= KVMI_ACCESS_ALL; access++) {
			set_table(env, entry, access);
			for (i = 0; i < ARRAY_SIZE(accesses); i++) {
				const struct access *a = &accesses[i];
				uint64_t gva = kvmi_gva(PAGE, a->offset);

				if (!can_do(env, a))
					continue;
				do_access(env, a, kvmi_gva(PAGE, 0),
					  self->entry[PG_LEVEL_4K], entry,
					  &recs);
				TEST_ASSERT(recs.nr == ((access & (R | W)) != (R | W)),
					    "level %d access %d: %s: %u events",
					    level, access, a->name, recs.nr);
				if (recs.nr)
					check_walk(recs.ev,
						   table_gpa(env, entry),
						   access, gva,
						   access_rip(a, gva));
			}
		}
		set_table(env, entry, KVMI_ACCESS_ALL);
	}
}

/* All levels at once, from the top; then the page itself. */
TEST_F_TIMEOUT(walk, order, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_recs recs = { .action = CONTINUE };
	const struct access *a = &accesses[1];
	int level, i;

	if (!kvm_is_tdp_enabled())
		SKIP(return, SHADOW);
	if (!kvmi_can_step(&env->tool))
		SKIP(return, "the CPU cannot step");

	TEST_ASSERT_EQ(control_walks(env, true, KVMI_PF_WALK), 0);
	for (level = PG_LEVEL_4K; level <= PG_LEVEL_1G; level++)
		set_table(env, self->entry[level], X);
	kvmi_set_page_access(&env->tool, kvmi_gpa(PAGE, 0), R);

	do_access(env, a, kvmi_gva(PAGE, 0), self->entry[PG_LEVEL_4K],
		  self->entry[PG_LEVEL_2M], &recs);
	TEST_ASSERT(recs.nr == 4, "%u events", recs.nr);
	for (i = 0, level = PG_LEVEL_1G; level >= PG_LEVEL_4K; i++, level--)
		check_walk(&recs.ev[i], table_gpa(env, self->entry[level]), X,
			   kvmi_gva(PAGE, DATA), (uint64_t)a->insn);
	TEST_ASSERT_EQ(recs.ev[3].pf.flags, 0);
	TEST_ASSERT_EQ(recs.ev[3].pf.access, W);
	TEST_ASSERT_EQ(recs.ev[3].pf.gpa, kvmi_gpa(PAGE, DATA));

	/* And not any more */
	TEST_ASSERT_EQ(control_walks(env, true, 0), 0);
	do_access(env, a, kvmi_gva(PAGE, 0), self->entry[PG_LEVEL_4K],
		  self->entry[PG_LEVEL_2M], &recs);
	TEST_ASSERT(recs.nr == 1, "%u events", recs.nr);
	TEST_ASSERT_EQ(recs.ev[0].pf.flags, 0);
	TEST_ASSERT_EQ(recs.ev[0].pf.gpa, kvmi_gpa(PAGE, DATA));
}

/*
 * What one instruction was let do is not let to the next: the CPU carries out
 * both, and the second makes the access again after another one.
 */
TEST_F_TIMEOUT(walk, next_insn, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_recs recs = { .action = CONTINUE };
	int i;

	if (!kvm_is_tdp_enabled())
		SKIP(return, SHADOW);
	if (!kvmi_can_step(&env->tool))
		SKIP(return, "the CPU cannot step");

	TEST_ASSERT_EQ(control_walks(env, true, KVMI_PF_WALK), 0);
	kvmi_set_page_access(&env->tool, kvmi_gpa(PAGE, 0), R | X);
	kvmi_set_page_access(&env->tool, kvmi_gpa(PAGE + 1, 0), 0);
	env->run[0].req->arg = 1;

	for (i = 0; i < 3; i++) {
		recs.nr = 0;
		kvmi_env_access(env, 0, kvmi_insn_write, kvmi_gva(PAGE, DATA),
				i, kvmi_record, &recs, NULL);
		TEST_ASSERT(recs.nr == 1, "%u events", recs.nr);

		recs.nr = 0;
		kvmi_env_access(env, 0, kvmi_insn_movs,
				kvmi_gva(PAGE + 1, DATA), kvmi_gva(PAGE, DATA),
				kvmi_record, &recs, NULL);
		TEST_ASSERT(recs.nr == 2, "%u events", recs.nr);
		TEST_ASSERT_EQ(recs.ev[0].pf.gpa, kvmi_gpa(PAGE + 1, DATA));
		TEST_ASSERT_EQ(recs.ev[0].pf.access, R);
		TEST_ASSERT_EQ(recs.ev[1].pf.gpa, kvmi_gpa(PAGE, DATA));
		TEST_ASSERT_EQ(recs.ev[1].pf.access, W);
	}
}

/* The guest's own access to a table is its own, with or without events. */
TEST_F_TIMEOUT(walk, own_access, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_recs recs = { .action = CONTINUE };
	uint64_t *leaf = self->entry[PG_LEVEL_4K];
	uint64_t gpa, gva;

	if (!kvm_is_tdp_enabled())
		SKIP(return, SHADOW);

	TEST_ASSERT_EQ(control_walks(env, true, KVMI_PF_WALK), 0);
	gpa = table_gpa(env, leaf);
	virt_map(env->vm, TABLE_GVA, gpa & ~(PAGE_SIZE - 1ull), 1);
	gva = TABLE_GVA + gpa % PAGE_SIZE;
	/* No table on the way there is restricted. */
	set_table(env, leaf, R | X);
	kvmi_env_access(env, 0, kvmi_insn_write, gva, *leaf, kvmi_record, &recs,
			NULL);
	TEST_ASSERT(recs.nr == 1, "%u events", recs.nr);
	TEST_ASSERT_EQ(recs.ev[0].pf.flags, 0);
	TEST_ASSERT_EQ(recs.ev[0].pf.access, W);
	TEST_ASSERT_EQ(recs.ev[0].pf.gpa, gpa);
	TEST_ASSERT(kvmi_gva_valid(&recs.ev[0], gva), "gva %#llx",
		    recs.ev[0].pf.gva);
}

/* One of the test pages is the page table that maps it. */
#define SELF_PAGE	5
#define SELF_ENTRY	0x900	/* maps nothing that is used */

static const struct access self_accesses[] = {
	{ "read", kvmi_insn_read, SELF_ENTRY },
	{ "write", kvmi_insn_write, SELF_ENTRY, true },
	{ "read that is not emulated", kvmi_insn_sse_add, SELF_ENTRY },
	{ "write that is not emulated", kvmi_insn_sse_write, SELF_ENTRY, true },
	{ "masked write", kvmi_insn_maskmov, SELF_ENTRY, true },
	{ "read of a descriptor", kvmi_insn_lar, SELF_ENTRY },
	{ "read of a gate", kvmi_insn_int_n, SELF_ENTRY },
};

#define SELF_SELECTOR	4	/* the first one of the LDT */
#define SELF_VECTOR	0x30	/* the one that kvmi_insn_int_n raises */

/* An LDT, and an IDT without all of its other vectors */
static void set_self_tables(struct kvmi_env *env)
{
	struct kvm_vcpu *vcpu = env->run[0].vcpu;
	struct kvm_sregs sregs;

	vcpu_sregs_get(vcpu, &sregs);
	sregs.ldt.base = kvmi_gva(SELF_PAGE, SELF_ENTRY);
	sregs.ldt.limit = 7;
	sregs.ldt.type = 2;
	sregs.ldt.present = 1;
	sregs.ldt.unusable = 0;
	sregs.idt.base = kvmi_gva(SELF_PAGE, SELF_ENTRY) - 16 * SELF_VECTOR;
	sregs.idt.limit = 16 * (SELF_VECTOR + 1) - 1;
	vcpu_sregs_set(vcpu, &sregs);
}

/* What @insn looks for there; it reads the first half only. */
static void set_self_entry(struct kvmi_env *env, uint64_t *entry, kvmi_insn insn)
{
	const uint64_t handler = (uint64_t)kvmi_insn_int_n_at;
	struct kvm_sregs sregs;

	vcpu_sregs_get(env->run[0].vcpu, &sregs);
	entry[0] = 0x00cf93000000ffff;
	entry[1] = 0;
	if (insn != kvmi_insn_int_n)
		return;

	entry[0] = (handler & 0xffff) | sregs.cs.selector << 16 | 0x8eull << 40 |
		   (handler & 0xffff0000) << 32;
	entry[1] = handler >> 32;
}

/*
 * Neither does the walk that goes through the same table hide it: the CPU has to
 * be let write to that.
 */
TEST_F_TIMEOUT(walk, own_access_to_own_table, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	uint64_t *leaf = find_entry(env, kvmi_gva(SELF_PAGE, 0), PG_LEVEL_4K);
	uint64_t table = table_gpa(env, leaf) & ~(PAGE_SIZE - 1ull);
	int i, walks;

	if (!kvm_is_tdp_enabled())
		SKIP(return, SHADOW);
	if (!kvmi_can_step(&env->tool))
		SKIP(return, "the CPU cannot step");

	*leaf = (*leaf & ~PHYSICAL_PAGE_MASK) | table;
	set_self_tables(env);
	for (i = 0; i < 2 * ARRAY_SIZE(self_accesses); i++) {
		const struct access *a = &self_accesses[i / 2];
		uint8_t access = a->write ? W : R;
		struct kvmi_recs recs = { .action = CONTINUE };
		const struct kvmi_event *own;

		walks = i % 2;
		TEST_ASSERT_EQ(control_walks(env, true, walks ? KVMI_PF_WALK : 0), 0);
		set_self_entry(env, addr_gpa2hva(env->vm, table + SELF_ENTRY),
			       a->insn);
		set_table(env, leaf, R | W | X);
		set_table(env, leaf, a->write ? R | X : X);
		kvmi_env_access(env, 0, a->insn, kvmi_gva(SELF_PAGE, SELF_ENTRY),
				SELF_SELECTOR, kvmi_record, &recs, NULL);
		TEST_ASSERT(recs.nr == walks + 1, "%s: %u events", a->name,
			    recs.nr);
		if (walks)
			TEST_ASSERT_EQ(recs.ev[0].pf.flags, KVMI_PF_WALK);
		own = &recs.ev[walks];
		TEST_ASSERT_EQ(own->pf.flags, 0);
		TEST_ASSERT_EQ(own->pf.access, access);
		TEST_ASSERT_EQ(own->pf.gpa, table + SELF_ENTRY);
		TEST_ASSERT(kvmi_gva_valid(own, kvmi_gva(SELF_PAGE, SELF_ENTRY)),
			    "%s: gva %#llx", a->name, own->pf.gva);
	}
}

/* A string is one instruction, although the CPU steps through it. */
TEST_F_TIMEOUT(walk, string, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	const unsigned int n = 3 * PAGE_SIZE / 2 / 8;
	uint64_t *from = kvmi_hva(env, PAGE, 0);
	uint64_t *to = kvmi_hva(env, PAGE + 3, 0);
	struct kvmi_recs recs = { .action = CONTINUE };
	unsigned int i, nr_walks = 0, nr[KVMI_TEST_PAGES] = {};
	uint64_t left;

	if (!kvm_is_tdp_enabled())
		SKIP(return, SHADOW);
	if (!kvmi_can_step(&env->tool))
		SKIP(return, "the CPU cannot step");

	for (i = 0; i < n; i++) {
		from[i] = i * 3;
		to[i] = 0;
	}
	TEST_ASSERT_EQ(control_walks(env, true, KVMI_PF_WALK), 0);
	set_table(env, self->entry[PG_LEVEL_4K], X);
	for (i = 0; i < 2; i++) {
		kvmi_set_page_access(&env->tool, kvmi_gpa(PAGE + i, 0), W | X);
		kvmi_set_page_access(&env->tool, kvmi_gpa(PAGE + 3 + i, 0), R | X);
	}

	env->run[0].req->arg = n;
	kvmi_env_access(env, 0, kvmi_insn_movs, kvmi_gva(PAGE, 0),
			kvmi_gva(PAGE + 3, 0), kvmi_record, &recs, &left);

	TEST_ASSERT_EQ(left, 0);
	for (i = 0; i < n; i++)
		TEST_ASSERT(to[i] == i * 3, "element %u: %#lx", i, to[i]);
	/* each page and the table once, if no interrupt came between */
	for (i = 0; i < recs.nr; i++) {
		const struct kvmi_event *ev = &recs.ev[i];

		if (ev->pf.flags)
			nr_walks++;
		else
			nr[(ev->pf.gpa - KVMI_TEST_GPA) / PAGE_SIZE]++;
	}
	for (i = 0; i < 2; i++) {
		TEST_ASSERT(nr[PAGE + i] >= 1 && nr[PAGE + 3 + i] >= 1,
			    "page %u: %u and %u events", i, nr[PAGE + i],
			    nr[PAGE + 3 + i]);
		TEST_ASSERT(nr[PAGE + i] < 10 && nr[PAGE + 3 + i] < 10,
			    "page %u: %u and %u events", i, nr[PAGE + i],
			    nr[PAGE + 3 + i]);
	}
	TEST_ASSERT(nr_walks >= 1 && nr_walks < 10, "%u walks", nr_walks);
}

struct lift {
	struct kvmi_recs recs;
	uint64_t *entry;
};

static uint8_t lift(struct kvmi_env *env, const struct kvmi_event *ev,
		    void *arg)
{
	struct lift *l = arg;

	kvmi_record(env, ev, &l->recs);
	if (l->recs.nr == 3)
		set_table(env, l->entry, KVMI_ACCESS_ALL);

	return RETRY;
}

/* RETRY walks again: in vain, until the restriction is gone. */
TEST_F_TIMEOUT(walk, retry, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct lift l = { .entry = self->entry[PG_LEVEL_4K] };
	uint64_t result;
	unsigned int i;

	if (!kvm_is_tdp_enabled())
		SKIP(return, SHADOW);

	TEST_ASSERT_EQ(control_walks(env, true, KVMI_PF_WALK), 0);
	*(uint64_t *)kvmi_hva(env, PAGE, DATA) = 0x77;
	*l.entry &= ~(PTE_A | PTE_D);
	set_table(env, l.entry, R | X);
	kvmi_env_access(env, 0, kvmi_insn_read, kvmi_gva(PAGE, DATA), 0, lift,
			&l, &result);
	TEST_ASSERT(l.recs.nr == 3, "%u events", l.recs.nr);
	for (i = 0; i < 3; i++)
		check_walk(&l.recs.ev[i], table_gpa(env, l.entry), R | X,
			   kvmi_gva(PAGE, DATA), (uint64_t)kvmi_insn_read);
	TEST_ASSERT_EQ(result, 0x77);
	TEST_ASSERT_EQ(*l.entry & (PTE_A | PTE_D), PTE_A);
}

TEST_F_TIMEOUT(walk, crash, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_runner *r = &env->run[0];
	struct kvmi_event ev;

	if (!kvm_is_tdp_enabled())
		SKIP(return, SHADOW);

	TEST_ASSERT_EQ(control_walks(env, true, KVMI_PF_WALK), 0);
	*self->entry[PG_LEVEL_4K] &= ~PTE_A;
	set_table(env, self->entry[PG_LEVEL_4K], X);
	kvmi_runner_do(r, kvmi_insn_read, kvmi_gva(PAGE, DATA), 0);
	kvmi_wait_event(&env->tool, KVMI_VCPU_EVENT_PF, &ev);
	TEST_ASSERT_EQ(ev.pf.flags, KVMI_PF_WALK);
	kvmi_reply(&env->tool, &ev, CRASH);
	kvmi_runner_wait_exit(r);
	TEST_ASSERT_EQ(r->ret, 0);
	TEST_ASSERT_KVM_EXIT_REASON(r->vcpu, KVM_EXIT_SHUTDOWN);
	TEST_ASSERT(!(*self->entry[PG_LEVEL_4K] & PTE_A), "accessed");
}

int main(int argc, char **argv)
{
	TEST_REQUIRE(kvmi_supported());

	return test_harness_run(argc, argv);
}
