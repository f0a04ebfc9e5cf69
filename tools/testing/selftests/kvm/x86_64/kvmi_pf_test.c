// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM introspection: page access restrictions and the events for accesses that
 * violate them.
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

/* Each page holds data in its first half and code in its second. */
#define DATA	0x40
#define CODE	0x840
#define OP_RET	0xc3

/* The plain kinds of access, for all combinations of restrictions */
struct access {
	const char *name;
	kvmi_insn insn;
	unsigned int offset;
	uint8_t needs;
};

static const struct access accesses[] = {
	{ "read", kvmi_insn_read, DATA, R },
	{ "write", kvmi_insn_write, DATA, W },
	{ "read-modify-write", kvmi_insn_add, DATA, R | W },
	{ "locked read-modify-write", kvmi_insn_xadd, DATA, R | W },
	{ "exec", kvmi_insn_exec, CODE, X },
};

static void init_page(struct kvmi_env *env, unsigned int page)
{
	memset(kvmi_hva(env, page, 0), 0, PAGE_SIZE / 2);
	memset(kvmi_hva(env, page, PAGE_SIZE / 2), OP_RET, PAGE_SIZE / 2);
}

static uint64_t *data_at(struct kvmi_env *env, unsigned int page,
			 unsigned int offset)
{
	return kvmi_hva(env, page, offset);
}

FIXTURE(pf)
{
	struct kvmi_env env;
};

FIXTURE_SETUP(pf)
{
	struct kvmi_env *env = &self->env;
	int i;

	kvmi_env_create(env, 2);
	for (i = 0; i < KVMI_TEST_PAGES; i++)
		init_page(env, i);
	kvmi_env_hook(env);
	kvmi_control_event(env, 0, KVMI_VCPU_EVENT_PF, true);
	kvmi_control_event(env, 1, KVMI_VCPU_EVENT_PF, true);
}

FIXTURE_TEARDOWN(pf)
{
	kvmi_env_destroy(&self->env);
}

static void set_access(struct kvmi_env *env, unsigned int page, uint8_t access)
{
	kvmi_set_page_access(&env->tool, kvmi_gpa(page, 0), access);
}

/* One access without an event; returns the guest's result. */
static uint64_t silent(struct kvmi_env *env, unsigned int vcpu, kvmi_insn insn,
		       uint64_t gva, uint64_t val)
{
	struct kvmi_recs recs = { .action = CONTINUE };
	uint64_t result;
	unsigned int nr;

	nr = kvmi_env_access(env, vcpu, insn, gva, val, kvmi_record, &recs,
			     &result);
	TEST_ASSERT(!nr, "%u unwanted events, first: gpa %#llx access %u rip %#llx",
		    nr, recs.ev[0].pf.gpa, recs.ev[0].pf.access,
		    recs.ev[0].common.arch.regs.rip);

	return result;
}

/* @ev reports @access at offset @offset of test page @page, by @rip. */
static void check_event(const struct kvmi_event *ev, uint8_t access,
			unsigned int page, unsigned int offset, uint64_t rip)
{
	TEST_ASSERT_EQ(ev->pf.flags, 0);
	TEST_ASSERT(ev->pf.access == access, "access %u, want %u",
		    ev->pf.access, access);
	TEST_ASSERT(ev->pf.gpa == kvmi_gpa(page, offset),
		    "gpa %#llx, want %#lx (access %u)", ev->pf.gpa,
		    kvmi_gpa(page, offset), access);
	TEST_ASSERT(kvmi_gva_valid(ev, kvmi_gva(page, offset)),
		    "gva %#llx, want %#lx (access %u)", ev->pf.gva,
		    kvmi_gva(page, offset), access);
	TEST_ASSERT(ev->common.arch.regs.rip == rip,
		    "rip %#llx, want %#lx (access %u)",
		    ev->common.arch.regs.rip, rip, access);
}

/* Counts the events for each kind of access. */
static void count(const struct kvmi_recs *recs, unsigned int nr[3])
{
	unsigned int i;

	memset(nr, 0, 3 * sizeof(*nr));
	for (i = 0; i < recs->nr; i++)
		nr[recs->ev[i].pf.access == R ? 0 :
		   recs->ev[i].pf.access == W ? 1 : 2]++;
}

static uint64_t access_rip(const struct access *a, unsigned int page)
{
	return a->insn == kvmi_insn_exec ? kvmi_gva(page, a->offset) :
					   (uint64_t)a->insn;
}

/* The access was made, and once. */
static void check_done_at(struct kvmi_env *env, const struct access *a,
			  unsigned int page, unsigned int offset, uint64_t old,
			  uint64_t val, uint64_t result)
{
	uint64_t now = *data_at(env, page, offset);
	uint64_t want = a->insn == kvmi_insn_write ? val :
			a->needs == (R | W) ? old + val : old;

	if (a->insn != kvmi_insn_exec)
		TEST_ASSERT(now == want, "%s: memory %#lx, want %#lx", a->name,
			    now, want);
	if (a->insn == kvmi_insn_read || a->insn == kvmi_insn_xadd)
		TEST_ASSERT(result == old, "%s: got %#lx, want %#lx", a->name,
			    result, old);
}

static void check_done(struct kvmi_env *env, const struct access *a,
		       unsigned int page, uint64_t old, uint64_t val,
		       uint64_t result)
{
	check_done_at(env, a, page, a->offset, old, val, result);
}

/* ---- CONTINUE ---- */

/*
 * Every kind of access to a page with every combination of restrictions: one
 * event for each bit that is needed and missing, none for others.
 */
TEST_F_TIMEOUT(pf, continue, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	const unsigned int page = 3;
	unsigned int access, i, j;

	for (access = 0; access <= KVMI_ACCESS_ALL; access++) {
		set_access(env, page, access);

		/* twice: the page may be mapped differently afterwards */
		for (i = 0; i < 2 * ARRAY_SIZE(accesses); i++) {
			const struct access *a = &accesses[i / 2];
			uint8_t missing = a->needs & ~access;
			struct kvmi_recs recs = { .action = CONTINUE };
			uint64_t old = 0x1000 + i, val = 0x20 + i, result;
			unsigned int nr[3];

			if (a->insn != kvmi_insn_exec)
				*data_at(env, page, a->offset) = old;
			kvmi_env_access(env, 0, a->insn,
					kvmi_gva(page, a->offset), val,
					kvmi_record, &recs, &result);
			count(&recs, nr);
			TEST_ASSERT(nr[0] == !!(missing & R) &&
				    nr[1] == !!(missing & W) &&
				    nr[2] == !!(missing & X),
				    "page access %u, %s: %u R %u W %u X events",
				    access, a->name, nr[0], nr[1], nr[2]);
			for (j = 0; j < recs.nr; j++)
				check_event(&recs.ev[j], recs.ev[j].pf.access,
					    page, a->offset,
					    access_rip(a, page));
			check_done(env, a, page, old, val, result);
		}

		/* The neighbours are not concerned. */
		silent(env, 0, kvmi_insn_add, kvmi_gva(page - 1, DATA), 1);
		silent(env, 0, kvmi_insn_exec, kvmi_gva(page + 1, CODE), 0);
		silent(env, 1, kvmi_insn_add, kvmi_gva(page + 1, 0), 1);
	}

	/* 7 forgets the page. */
	for (i = 0; i < ARRAY_SIZE(accesses); i++)
		silent(env, 0, accesses[i].insn,
		       kvmi_gva(page, accesses[i].offset), 0);
	kvmi_no_event(&env->tool);
}

/* ---- RETRY ---- */

struct lift {
	struct kvmi_recs recs;
	unsigned int page;
	uint8_t access;		/* the page's, as the tool has set it */
	bool all;		/* lift everything, or only what was missed */
	unsigned int retries;	/* in vain, first */
};

static uint8_t lift_and_retry(struct kvmi_env *env, const struct kvmi_event *ev,
			      void *arg)
{
	struct lift *l = arg;

	kvmi_record(env, ev, &l->recs);
	if (l->retries) {
		l->retries--;
		return RETRY;
	}

	TEST_ASSERT(!(l->access & ev->pf.access), "event for allowed access %u",
		    ev->pf.access);
	l->access |= l->all ? KVMI_ACCESS_ALL : ev->pf.access;
	set_access(env, l->page, l->access);

	return RETRY;
}

/* The tool lifts the restriction, and the instruction starts over. */
TEST_F_TIMEOUT(pf, retry, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	const unsigned int page = 5;
	unsigned int access, i, j, all;

	for (access = 0; access <= KVMI_ACCESS_ALL; access++) {
		for (i = 0; i < 2 * ARRAY_SIZE(accesses); i++) {
			const struct access *a = &accesses[i / 2];
			uint8_t missing = a->needs & ~access;
			struct lift l = { .page = page, .access = access };
			uint64_t old = 0x2000 + i, val = 0x40 + i, result;
			unsigned int nr[3], want;

			all = i & 1;
			l.all = all;
			set_access(env, page, access);
			if (a->insn != kvmi_insn_exec)
				*data_at(env, page, a->offset) = old;
			kvmi_env_access(env, 0, a->insn,
					kvmi_gva(page, a->offset), val,
					lift_and_retry, &l, &result);

			count(&l.recs, nr);
			want = all ? !!missing : __builtin_popcount(missing);
			TEST_ASSERT(l.recs.nr == want &&
				    nr[0] <= !!(missing & R) &&
				    nr[1] <= !!(missing & W) &&
				    nr[2] <= !!(missing & X),
				    "page access %u, %s, all %u: %u R %u W %u X events",
				    access, a->name, all, nr[0], nr[1], nr[2]);
			for (j = 0; j < l.recs.nr; j++)
				check_event(&l.recs.ev[j],
					    l.recs.ev[j].pf.access, page,
					    a->offset, access_rip(a, page));
			check_done(env, a, page, old, val, result);
		}
		set_access(env, page, KVMI_ACCESS_ALL);
	}
	kvmi_no_event(&env->tool);
}

/* Without the tool doing anything about it, the same happens again. */
TEST_F_TIMEOUT(pf, retry_in_vain, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	const unsigned int page = 5;
	unsigned int i, j;

	for (i = 0; i < ARRAY_SIZE(accesses); i++) {
		const struct access *a = &accesses[i];
		struct lift l = { .page = page, .all = true, .retries = 5 };
		uint64_t result;

		set_access(env, page, 0);
		if (a->insn != kvmi_insn_exec)
			*data_at(env, page, a->offset) = 100;
		kvmi_env_access(env, 0, a->insn, kvmi_gva(page, a->offset), 1,
				lift_and_retry, &l, &result);
		TEST_ASSERT(l.recs.nr == 6, "%s: %u events", a->name, l.recs.nr);
		for (j = 0; j < 6; j++)
			check_event(&l.recs.ev[j], l.recs.ev[0].pf.access, page,
				    a->offset, access_rip(a, page));
		check_done(env, a, page, 100, 1, result);
	}
}

/* No emulator is needed for RETRY. */
TEST_F_TIMEOUT(pf, retry_any_instruction, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct lift l = { .page = 1, .retries = 2 };
	uint64_t result;

	data_at(env, 1, DATA)[0] = 1000;
	data_at(env, 1, DATA)[1] = 0;
	set_access(env, 1, 0);
	kvmi_env_access(env, 0, kvmi_insn_sse_add, kvmi_gva(1, DATA), 23,
			lift_and_retry, &l, &result);
	TEST_ASSERT_EQ(l.recs.nr, 3);
	check_event(&l.recs.ev[2], R, 1, DATA, (uint64_t)kvmi_insn_sse_add_at);
	TEST_ASSERT_EQ(result, 1023);
}

/* ---- CRASH ---- */

TEST_F_TIMEOUT(pf, crash, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_runner *r = &env->run[0];
	const unsigned int page = 2;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(accesses); i++) {
		const struct access *a = &accesses[i];
		struct kvmi_event ev;
		struct kvm_regs regs;
		uint64_t done = r->req->done;
		bool exec = a->insn == kvmi_insn_exec;

		if (!exec)
			*data_at(env, page, a->offset) = 100;
		set_access(env, page, 0);
		kvmi_runner_do(r, a->insn, kvmi_gva(page, a->offset), 1);
		kvmi_wait_event(&env->tool, KVMI_VCPU_EVENT_PF, &ev);
		kvmi_reply(&env->tool, &ev, CRASH);
		kvmi_runner_wait_exit(r);

		/* The VM's ordinary end; the access has not been made. */
		TEST_ASSERT_EQ(r->ret, 0);
		TEST_ASSERT_KVM_EXIT_REASON(r->vcpu, KVM_EXIT_SHUTDOWN);
		TEST_ASSERT_EQ(r->req->done, done);
		if (!exec)
			TEST_ASSERT_EQ(*data_at(env, page, a->offset), 100);
		vcpu_regs_get(r->vcpu, &regs);
		TEST_ASSERT_EQ(regs.rip, access_rip(a, page));
		TEST_ASSERT(!memcmp(&regs, &ev.common.arch.regs, sizeof(regs)),
			    "registers have changed");
		kvmi_no_event(&env->tool);
		silent(env, 1, kvmi_insn_nop, 0, 0);

		/* A VMM that goes on all the same gets where it was. */
		kvmi_runner_go(r);
		kvmi_wait_event(&env->tool, KVMI_VCPU_EVENT_PF, &ev);
		set_access(env, page, KVMI_ACCESS_ALL);
		kvmi_reply(&env->tool, &ev, RETRY);
		kvmi_runner_wait(r);
		check_done(env, a, page, 100, 1, r->req->result);
	}
}

/* In the middle of what KVM emulates for an earlier CONTINUE */
static uint8_t crash_second(struct kvmi_env *env, const struct kvmi_event *ev,
			    void *arg)
{
	unsigned int *nr = arg;

	return (*nr)++ ? CRASH : CONTINUE;
}

TEST_F_TIMEOUT(pf, crash_while_emulating, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_runner *r = &env->run[0];
	uint64_t old = 0x0102030405060708;
	struct kvmi_event ev;
	unsigned int nr = 0;
	struct kvm_regs regs;

	*data_at(env, 2, DATA) = old;
	set_access(env, 2, 0);
	kvmi_runner_do(r, kvmi_insn_add, kvmi_gva(2, DATA), 1);
	do {
		kvmi_wait_event(&env->tool, KVMI_VCPU_EVENT_PF, &ev);
		kvmi_reply(&env->tool, &ev, crash_second(env, &ev, &nr));
	} while (nr < 2);

	kvmi_runner_wait_exit(r);
	TEST_ASSERT_EQ(r->ret, 0);
	TEST_ASSERT_KVM_EXIT_REASON(r->vcpu, KVM_EXIT_SHUTDOWN);
	TEST_ASSERT_EQ(*data_at(env, 2, DATA), old);
	vcpu_regs_get(r->vcpu, &regs);
	TEST_ASSERT_EQ(regs.rip, (uint64_t)kvmi_insn_add);
	kvmi_no_event(&env->tool);
}

/* ---- accesses to more than one place ---- */

TEST_F_TIMEOUT(pf, page_crossing, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	const unsigned int offset = PAGE_SIZE - 4;
	unsigned int which, i, j;

	/* 1: the first page is restricted, 2: the second, 3: both */
	for (which = 1; which <= 3; which++) {
		set_access(env, 6, which & 1 ? 0 : KVMI_ACCESS_ALL);
		set_access(env, 7, which & 2 ? 0 : KVMI_ACCESS_ALL);

		for (i = 0; i < ARRAY_SIZE(accesses); i++) {
			const struct access *a = &accesses[i];
			struct kvmi_recs recs = { .action = CONTINUE };
			uint64_t old = 0x1122334455667788, result;
			unsigned int nr[2][3] = { };
			unsigned int want[2] = { which & 1, which >> 1 };

			if (a->insn == kvmi_insn_exec)
				continue;

			memcpy(data_at(env, 6, offset), &old, sizeof(old));
			kvmi_env_access(env, 0, a->insn, kvmi_gva(6, offset), 3,
					kvmi_record, &recs, &result);
			for (j = 0; j < recs.nr; j++) {
				const struct kvmi_event *ev = &recs.ev[j];
				bool second = ev->pf.gpa >= kvmi_gpa(7, 0);

				check_event(ev, ev->pf.access, 6 + second,
					    second ? 0 : offset,
					    (uint64_t)a->insn);
				nr[second][ev->pf.access == R ? 0 : 1]++;
			}
			for (j = 0; j < 2; j++)
				TEST_ASSERT(nr[j][0] == want[j] * !!(a->needs & R) &&
					    nr[j][1] == want[j] * !!(a->needs & W),
					    "restricted %u, %s, page %u: %u R %u W events",
					    which, a->name, j, nr[j][0],
					    nr[j][1]);
			check_done_at(env, a, 6, offset, old, 3, result);
		}
	}
}

/* The same, with the tool lifting one restriction after the other */
static uint8_t lift_faulting_page(struct kvmi_env *env,
				  const struct kvmi_event *ev, void *arg)
{
	kvmi_record(env, ev, arg);
	kvmi_set_page_access(&env->tool, ev->pf.gpa, KVMI_ACCESS_ALL);

	return RETRY;
}

TEST_F_TIMEOUT(pf, page_crossing_retry, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	const unsigned int offset = PAGE_SIZE - 3;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(accesses); i++) {
		const struct access *a = &accesses[i];
		struct kvmi_recs recs = { };
		uint64_t old = 0x1122334455667788, result;

		if (a->insn == kvmi_insn_exec)
			continue;

		set_access(env, 6, 0);
		set_access(env, 7, 0);
		memcpy(data_at(env, 6, offset), &old, sizeof(old));
		kvmi_env_access(env, 0, a->insn, kvmi_gva(6, offset), 3,
				lift_faulting_page, &recs, &result);
		TEST_ASSERT(recs.nr == 2, "%s: %u events", a->name, recs.nr);
		TEST_ASSERT(recs.ev[0].pf.gpa >> PAGE_SHIFT !=
			    recs.ev[1].pf.gpa >> PAGE_SHIFT,
			    "%s: the same page twice", a->name);
		check_done_at(env, a, 6, offset, old, 3, result);
	}
}

/* An instruction that begins in one page and ends in the next */
TEST_F_TIMEOUT(pf, exec_crossing, KVMI_TEST_TIMEOUT)
{
	/* mov $0x1122334455667788, %rax; ret */
	static const uint8_t code[] = {
		0x48, 0xb8, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11,
		OP_RET,
	};
	const unsigned int offset = PAGE_SIZE - 5;
	struct kvmi_env *env = &self->env;
	unsigned int which, i, first, second;

	memcpy(kvmi_hva(env, 8, offset), code, sizeof(code));

	for (which = 1; which <= 3; which++) {
		struct kvmi_recs recs = { .action = CONTINUE };
		uint64_t rip = kvmi_gva(8, offset), result;

		set_access(env, 8, which & 1 ? R | W : KVMI_ACCESS_ALL);
		set_access(env, 9, which & 2 ? R | W : KVMI_ACCESS_ALL);
		kvmi_env_access(env, 0, kvmi_insn_exec, rip, 0, kvmi_record,
				&recs, &result);
		TEST_ASSERT_EQ(result, 0x1122334455667788);

		/* the ret in the second page makes an event of its own */
		first = second = 0;
		for (i = 0; i < recs.nr; i++) {
			const struct kvmi_event *ev = &recs.ev[i];

			if (ev->pf.gpa < kvmi_gpa(9, 0)) {
				check_event(ev, X, 8, offset, rip);
				first++;
			} else if (ev->common.arch.regs.rip == rip) {
				check_event(ev, X, 9, 0, rip);
				second++;
			} else {
				check_event(ev, X, 9, 5, kvmi_gva(9, 5));
			}
		}
		TEST_ASSERT(first == (which & 1) && second == which >> 1 &&
			    recs.nr == first + 2 * second,
			    "restricted %u: %u + %u of %u events", which, first,
			    second, recs.nr);
	}
}

/*
 * What one instruction does to one page in one way is reported once, with the
 * address of the first access.
 */
TEST_F_TIMEOUT(pf, string_store, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_recs recs = { .action = CONTINUE };
	const unsigned int offset = PAGE_SIZE - 16;
	uint64_t result;
	unsigned int i;

	/* two stores before the boundary, three after it */
	env->run[0].req->arg = 5;
	set_access(env, 2, R | X);
	set_access(env, 3, R | X);
	kvmi_env_access(env, 0, kvmi_insn_stos, kvmi_gva(2, offset), 0xabcdef,
			kvmi_record, &recs, &result);
	TEST_ASSERT_EQ(result, 0);
	TEST_ASSERT(recs.nr == 2, "%u events", recs.nr);
	check_event(&recs.ev[0], W, 2, offset, (uint64_t)kvmi_insn_stos_at);
	check_event(&recs.ev[1], W, 3, 0, (uint64_t)kvmi_insn_stos_at);
	for (i = 0; i < 5; i++)
		TEST_ASSERT_EQ(*data_at(env, 2, offset + 8 * i), 0xabcdef);
	TEST_ASSERT_EQ(*data_at(env, 2, offset - 8), 0xc3c3c3c3c3c3c3c3);
	TEST_ASSERT_EQ(*data_at(env, 2, offset + 8 * i), 0);
}

TEST_F_TIMEOUT(pf, string_copy, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_recs recs = { .action = CONTINUE };
	uint64_t result;
	unsigned int i;

	for (i = 0; i < 3; i++)
		data_at(env, 2, DATA)[i] = i + 1;
	env->run[0].req->arg = 3;
	set_access(env, 2, W);
	set_access(env, 4, R);
	kvmi_env_access(env, 0, kvmi_insn_movs, kvmi_gva(2, DATA),
			kvmi_gva(4, DATA), kvmi_record, &recs, &result);
	TEST_ASSERT_EQ(result, 0);
	TEST_ASSERT(recs.nr == 2, "%u events", recs.nr);
	check_event(&recs.ev[0], R, 2, DATA, (uint64_t)kvmi_insn_movs_at);
	check_event(&recs.ev[1], W, 4, DATA, (uint64_t)kvmi_insn_movs_at);
	for (i = 0; i < 3; i++)
		TEST_ASSERT_EQ(data_at(env, 4, DATA)[i], i + 1);
}

TEST_F_TIMEOUT(pf, stack, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_recs recs = { .action = CONTINUE };
	uint64_t result;

	set_access(env, 2, R);
	kvmi_env_access(env, 0, kvmi_insn_push, kvmi_gva(2, DATA), 0x123,
			kvmi_record, &recs, &result);
	TEST_ASSERT_EQ(recs.nr, 1);
	check_event(&recs.ev[0], W, 2, DATA - 8, (uint64_t)kvmi_insn_push_at);
	TEST_ASSERT_EQ(*data_at(env, 2, DATA - 8), 0x123);
	TEST_ASSERT_EQ(result, kvmi_gva(2, DATA - 8));

	/* call: a write, then the fetch at the target, then ret's read */
	memset(&recs, 0, sizeof(recs));
	set_access(env, 2, 0);
	set_access(env, 4, R | W);
	kvmi_env_access(env, 0, kvmi_insn_call, kvmi_gva(2, DATA),
			kvmi_gva(4, CODE), kvmi_record, &recs, &result);
	TEST_ASSERT(recs.nr == 3, "%u events", recs.nr);
	check_event(&recs.ev[0], W, 2, DATA - 8, (uint64_t)kvmi_insn_call_at);
	check_event(&recs.ev[1], X, 4, CODE, kvmi_gva(4, CODE));
	check_event(&recs.ev[2], R, 2, DATA - 8, kvmi_gva(4, CODE));
	TEST_ASSERT_EQ(result, kvmi_gva(2, DATA));
}

TEST_F_TIMEOUT(pf, cmpxchg, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	unsigned int equal, nr[3];
	uint64_t result;

	set_access(env, 2, 0);
	for (equal = 0; equal < 2; equal++) {
		struct kvmi_recs recs = { .action = CONTINUE };

		*data_at(env, 2, DATA) = 5;
		env->run[0].req->arg = equal ? 5 : 6;
		kvmi_env_access(env, 0, kvmi_insn_cmpxchg, kvmi_gva(2, DATA), 9,
				kvmi_record, &recs, &result);
		count(&recs, nr);
		/* A locked cmpxchg writes in any case. */
		TEST_ASSERT(nr[0] == 1 && nr[1] == 1 && !nr[2],
			    "equal %u: %u R %u W %u X events", equal, nr[0],
			    nr[1], nr[2]);
		TEST_ASSERT_EQ(result, 5);
		TEST_ASSERT_EQ(*data_at(env, 2, DATA), equal ? 9 : 5);
	}
}

TEST_F_TIMEOUT(pf, wide, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_recs recs = { .action = CONTINUE };
	uint64_t result;

	set_access(env, 2, 0);
	data_at(env, 2, DATA)[0] = 0x77;
	kvmi_env_access(env, 0, kvmi_insn_sse_read, kvmi_gva(2, DATA), 0,
			kvmi_record, &recs, &result);
	TEST_ASSERT_EQ(recs.nr, 1);
	check_event(&recs.ev[0], R, 2, DATA, (uint64_t)kvmi_insn_sse_read);
	TEST_ASSERT_EQ(result, 0x77);

	recs.nr = 0;
	kvmi_env_access(env, 0, kvmi_insn_sse_write, kvmi_gva(2, DATA), 0x88,
			kvmi_record, &recs, &result);
	TEST_ASSERT_EQ(recs.nr, 1);
	check_event(&recs.ev[0], W, 2, DATA, (uint64_t)kvmi_insn_sse_write_at);
	TEST_ASSERT_EQ(data_at(env, 2, DATA)[0], 0x88);
	TEST_ASSERT_EQ(data_at(env, 2, DATA)[1], 0x88);
}

/* ---- accesses that KVM makes for the guest ---- */

/*
 * Device memory is emulated; the other operand of the instruction is then
 * accessed by KVM.  Coming back from user space it must not be reported again.
 */
TEST_F_TIMEOUT(pf, mmio, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_runner *r = &env->run[0];
	struct kvmi_recs recs = { .action = CONTINUE };

	set_access(env, 2, 0);

	r->io_data = 0x5a;
	kvmi_env_access(env, 0, kvmi_insn_movsb, KVMI_MMIO_GVA,
			kvmi_gva(2, DATA), kvmi_record, &recs, NULL);
	TEST_ASSERT_EQ(r->nr_io, 1);
	TEST_ASSERT(recs.nr == 1, "%u events", recs.nr);
	check_event(&recs.ev[0], W, 2, DATA, (uint64_t)kvmi_insn_movsb_at);
	TEST_ASSERT_EQ(*(uint8_t *)kvmi_hva(env, 2, DATA), 0x5a);

	*(uint8_t *)kvmi_hva(env, 2, DATA) = 0xa5;
	r->nr_io = recs.nr = 0;
	kvmi_env_access(env, 0, kvmi_insn_movsb, kvmi_gva(2, DATA),
			KVMI_MMIO_GVA, kvmi_record, &recs, NULL);
	TEST_ASSERT_EQ(r->nr_io, 1);
	TEST_ASSERT_EQ(r->io_data, 0xa5);
	TEST_ASSERT(recs.nr == 1, "%u events", recs.nr);
	check_event(&recs.ev[0], R, 2, DATA, (uint64_t)kvmi_insn_movsb_at);
}

/* The event waits longer than the vCPU's thread stays. */
TEST_F_TIMEOUT(pf, mmio_signal, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_runner *r = &env->run[0];
	struct kvmi_event ev;
	struct kvm_regs regs;
	int i;

	set_access(env, 2, R | X);
	r->io_data = 0x5a;
	kvmi_runner_do(r, kvmi_insn_movsb, KVMI_MMIO_GVA, kvmi_gva(2, DATA));
	kvmi_wait_event(&env->tool, KVMI_VCPU_EVENT_PF, &ev);
	check_event(&ev, W, 2, DATA, (uint64_t)kvmi_insn_movsb_at);
	r->io_data = 0xbad;
	for (i = 0; i < 2; i++) {
		kvmi_runner_kick(r);
		kvmi_runner_wait_exit(r);
		TEST_ASSERT_EQ(r->err, EINTR);
		vcpu_regs_get(r->vcpu, &regs);
		TEST_ASSERT(!memcmp(&regs, &ev.common.arch.regs, sizeof(regs)),
			    "registers");
		vcpu_regs_set(r->vcpu, &regs);
		kvmi_runner_go(r);
	}
	kvmi_reply(&env->tool, &ev, CONTINUE);
	kvmi_runner_wait(r);
	TEST_ASSERT_EQ(r->nr_io, 1);
	TEST_ASSERT_EQ(*(uint8_t *)kvmi_hva(env, 2, DATA), 0x5a);
	kvmi_no_event(&env->tool);
}

/* Strings from and to a port: each byte once, each page reported once. */
TEST_F_TIMEOUT(pf, port_io, KVMI_TEST_TIMEOUT)
{
	const unsigned int offset = PAGE_SIZE - 3, n = 8;
	struct kvmi_env *env = &self->env;
	struct kvmi_runner *r = &env->run[0];
	struct kvmi_recs recs = { .action = CONTINUE };
	uint64_t val = 0x8877665544332211;

	r->req->arg = n;
	r->io_data = val;
	set_access(env, 2, R | X);
	set_access(env, 3, R | X);
	kvmi_env_access(env, 0, kvmi_insn_ins, kvmi_gva(2, offset), 0,
			kvmi_record, &recs, NULL);
	TEST_ASSERT(!memcmp(kvmi_hva(env, 2, offset), &val, n), "wrong data");
	TEST_ASSERT(r->io_bytes == n, "%u bytes read from the port",
		    r->io_bytes);
	TEST_ASSERT(recs.nr == 2, "%u events", recs.nr);
	check_event(&recs.ev[0], W, 2, offset, (uint64_t)kvmi_insn_ins_at);
	check_event(&recs.ev[1], W, 3, 0, (uint64_t)kvmi_insn_ins_at);

	r->io_bytes = recs.nr = 0;
	set_access(env, 2, W | X);
	set_access(env, 3, W | X);
	kvmi_env_access(env, 0, kvmi_insn_outs, kvmi_gva(2, offset), 0,
			kvmi_record, &recs, NULL);
	TEST_ASSERT(r->io_bytes == n, "%u bytes written to the port",
		    r->io_bytes);
	TEST_ASSERT(recs.nr >= 2, "%u events", recs.nr);
	check_event(&recs.ev[0], R, 2, offset, (uint64_t)kvmi_insn_outs_at);
}

/* As above, with the answer RETRY: the instruction starts over. */
TEST_F_TIMEOUT(pf, mmio_retry, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_runner *r = &env->run[0];
	struct lift l = { .page = 2, .retries = 2 };

	set_access(env, 2, 0);
	r->io_data = 0x5a;
	kvmi_env_access(env, 0, kvmi_insn_movsb, KVMI_MMIO_GVA,
			kvmi_gva(2, DATA), lift_and_retry, &l, NULL);
	TEST_ASSERT(l.recs.nr == 3, "%u events", l.recs.nr);
	TEST_ASSERT_EQ(*(uint8_t *)kvmi_hva(env, 2, DATA), 0x5a);

	memset(&l, 0, sizeof(l));
	l.page = 2;
	l.retries = 2;
	r->nr_io = 0;
	set_access(env, 2, 0);
	*(uint8_t *)kvmi_hva(env, 2, DATA) = 0xa5;
	kvmi_env_access(env, 0, kvmi_insn_movsb, kvmi_gva(2, DATA),
			KVMI_MMIO_GVA, lift_and_retry, &l, NULL);
	TEST_ASSERT(l.recs.nr == 3, "%u events", l.recs.nr);
	/* The device has seen one write. */
	TEST_ASSERT_EQ(r->nr_io, 1);
	TEST_ASSERT_EQ(r->io_data, 0xa5);
}

/* An instruction in a page without X that KVM has to emulate anyhow */
TEST_F_TIMEOUT(pf, exec_mmio, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_runner *r = &env->run[0];
	struct kvmi_recs recs = { .action = CONTINUE };
	uint64_t result;

	/* mov (%rsi), %al; ret */
	memcpy(kvmi_hva(env, 2, CODE), "\x8a\x06\xc3", 3);
	set_access(env, 2, R | W);
	r->io_data = 0x42;
	kvmi_env_access(env, 0, kvmi_insn_exec, kvmi_gva(2, CODE),
			KVMI_MMIO_GVA, kvmi_record, &recs, &result);
	TEST_ASSERT_EQ(r->nr_io, 1);
	TEST_ASSERT_EQ(result & 0xff, 0x42);
	TEST_ASSERT(recs.nr == 2, "%u events", recs.nr);
	check_event(&recs.ev[0], X, 2, CODE, kvmi_gva(2, CODE));
	check_event(&recs.ev[1], X, 2, CODE + 2, kvmi_gva(2, CODE + 2));
}

/* An instruction that KVM emulates from its fetch on */
TEST_F_TIMEOUT(pf, forced_emulation, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	unsigned int access, nr[3];

	if (!kvm_is_forced_emulation_enabled())
		SKIP(return, "kvm.force_emulation_prefix is off");

	for (access = 0; access <= KVMI_ACCESS_ALL; access++) {
		struct kvmi_recs recs = { .action = CONTINUE };

		set_access(env, 2, access);
		*data_at(env, 2, DATA) = 7;
		kvmi_env_access(env, 0, kvmi_insn_fep_add, kvmi_gva(2, DATA), 5,
				kvmi_record, &recs, NULL);
		count(&recs, nr);
		TEST_ASSERT(nr[0] == !(access & R) && nr[1] == !(access & W) &&
			    !nr[2], "page access %u: %u R %u W %u X events",
			    access, nr[0], nr[1], nr[2]);
		TEST_ASSERT_EQ(*data_at(env, 2, DATA), 12);
	}
}

/* ---- exceptions and descriptor tables ---- */

static void skip_ud(struct ex_regs *regs)
{
	regs->rip += 2;
	regs->rax = 0x600d;
}

/* Gives vCPU 0 a copy of the IDT in a test page. */
static void move_idt(struct kvmi_env *env, unsigned int page)
{
	struct kvmi_runner *r = &env->run[0];
	struct kvm_sregs sregs;

	vm_install_exception_handler(env->vm, UD_VECTOR, skip_ud);
	vcpu_sregs_get(r->vcpu, &sregs);
	memcpy(kvmi_hva(env, page, 0), addr_gva2hva(env->vm, sregs.idt.base),
	       PAGE_SIZE);
	sregs.idt.base = kvmi_gva(page, 0);
	vcpu_sregs_set(r->vcpu, &sregs);

	TEST_ASSERT_EQ(silent(env, 0, kvmi_insn_ud, 0, 0), 0x600d);
}

static void check_idt_event(const struct kvmi_event *ev, unsigned int page)
{
	const unsigned int gate = UD_VECTOR * sizeof(struct idt_entry);

	TEST_ASSERT(ev->pf.access == R && ev->pf.gpa >= kvmi_gpa(page, gate) &&
		    ev->pf.gpa < kvmi_gpa(page, gate + 16),
		    "gpa %#llx access %u", ev->pf.gpa, ev->pf.access);
}

/* The CPU reads the IDT in a restricted page when it delivers an exception. */
TEST_F_TIMEOUT(pf, exception_retry, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	uint64_t result;
	int i;

	move_idt(env, 10);
	for (i = 0; i < 3; i++) {
		struct lift l = { .page = 10, .retries = i };

		set_access(env, 10, 0);
		kvmi_env_access(env, 0, kvmi_insn_ud, 0, 0, lift_and_retry, &l,
				&result);
		TEST_ASSERT_EQ(result, 0x600d);
		TEST_ASSERT(l.recs.nr == 1 + i, "%u events", l.recs.nr);
		check_idt_event(&l.recs.ev[0], 10);
	}
}

TEST_F_TIMEOUT(pf, exception_continue, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	uint64_t result;
	int i;

	move_idt(env, 10);
	set_access(env, 10, W | X);
	for (i = 0; i < 3; i++) {
		struct kvmi_recs recs = { .action = CONTINUE };

		kvmi_env_access(env, 0, kvmi_insn_ud, 0, 0, kvmi_record, &recs,
				&result);
		TEST_ASSERT_EQ(result, 0x600d);
		TEST_ASSERT(recs.nr >= 1, "no event for the IDT's reading");
		check_idt_event(&recs.ev[0], 10);
	}
}

/* It pushes the exception's frame onto a stack in a restricted page. */
TEST_F_TIMEOUT(pf, exception_stack, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	uint64_t result;
	int i;

	vm_install_exception_handler(env->vm, UD_VECTOR, skip_ud);
	for (i = 0; i < 3; i++) {
		struct lift l = { .page = 11, .access = R | X, .retries = i };

		set_access(env, 11, R | X);
		kvmi_env_access(env, 0, kvmi_insn_ud_stack, kvmi_gva(11, 0x400),
				0, lift_and_retry, &l, &result);
		TEST_ASSERT_EQ(result, 0x600d);
		TEST_ASSERT(l.recs.nr == 1 + i, "%u events", l.recs.nr);
		TEST_ASSERT(l.recs.ev[0].pf.access == W &&
			    l.recs.ev[0].pf.gpa < kvmi_gpa(11, 0x400) &&
			    l.recs.ev[0].pf.gpa >= kvmi_gpa(11, 0x3c0),
			    "gpa %#llx access %u", l.recs.ev[0].pf.gpa,
			    l.recs.ev[0].pf.access);
	}
}

/* A stack in the page with the TSS: the CPU reads the pointer to it, and pushes. */
#define TSS_PAGE	11
#define TSS_IST1	36
#define UD_IST_BITS	(1ull << 32)
#define GATE_IS_TRAP	(1ull << 40)
#define FLAGS_IF	BIT(9)

static void set_tss(struct kvmi_env *env)
{
	const uint64_t stack = kvmi_gva(TSS_PAGE, 0x800);
	struct kvm_vcpu *vcpu = env->run[0].vcpu;
	struct kvm_sregs sregs;
	uint64_t *gate;

	vcpu_sregs_get(vcpu, &sregs);
	sregs.tr.base = kvmi_gva(TSS_PAGE, 0);
	sregs.tr.limit = 0x67;
	vcpu_sregs_set(vcpu, &sregs);
	memcpy(kvmi_hva(env, TSS_PAGE, TSS_IST1), &stack, sizeof(stack));
	gate = addr_gva2hva(env->vm, sregs.idt.base + 16 * UD_VECTOR);
	*gate |= UD_IST_BITS;
}

struct delivery {
	struct kvmi_recs recs;
	unsigned int retry;	/* the event that is answered so */
	unsigned int last;	/* the one after which the page is not restricted */
};

static uint8_t answer_delivery(struct kvmi_env *env, const struct kvmi_event *ev,
			       void *arg)
{
	struct delivery *d = arg;

	kvmi_record(env, ev, &d->recs);
	if (d->recs.nr == d->last)
		set_access(env, TSS_PAGE, KVMI_ACCESS_ALL);

	return d->recs.nr == d->retry ? RETRY : CONTINUE;
}

/* RETRY begins the delivery again; what was let do before is not any more. */
TEST_F_TIMEOUT(pf, delivery_again, KVMI_TEST_TIMEOUT)
{
	static const uint8_t want[2][4] = { { R, W }, { R, W, R, W } };
	struct kvmi_env *env = &self->env;
	uint64_t result;
	unsigned int i, j;

	vm_install_exception_handler(env->vm, UD_VECTOR, skip_ud);
	set_tss(env);
	for (i = 0; i < 2; i++) {
		struct delivery d = { .retry = i ? 2 : 0, .last = i ? 4 : 2 };

		set_access(env, TSS_PAGE, X);
		kvmi_env_access(env, 0, kvmi_insn_ud, 0, 0, answer_delivery, &d,
				&result);
		TEST_ASSERT_EQ(result, 0x600d);
		TEST_ASSERT(d.recs.nr == d.last, "%u events", d.recs.nr);
		for (j = 0; j < d.last; j++)
			TEST_ASSERT(d.recs.ev[j].pf.access == want[i][j],
				    "event %u: access %u", j,
				    d.recs.ev[j].pf.access);
	}
}

/* Behind the TSS: movups (%rsi), %xmm0; ret */
#define TSS_CODE	0x400
static const uint8_t tss_code[] = { 0x0f, 0x10, 0x06, 0xc3 };

static void stay(struct ex_regs *regs)
{
}

static void queue_ud(struct kvmi_runner *r)
{
	struct kvm_vcpu_events events;

	vcpu_events_get(r->vcpu, &events);
	TEST_ASSERT(!events.exception.injected, "there is one already");
	events.exception.injected = 1;
	events.exception.nr = UD_VECTOR;
	events.exception.has_error_code = 0;
	vcpu_events_set(r->vcpu, &events);
}

/* The VMM has an exception delivered while the tool thinks. */
static void inject_ud(struct kvmi_runner *r)
{
	kvmi_runner_kick(r);
	kvmi_runner_wait_exit(r);
	TEST_ASSERT_EQ(r->err, EINTR);
	queue_ud(r);
	kvmi_runner_go(r);
}

/* The tool does. */
static void let_tool_inject_ud(struct kvmi_env *env)
{
	struct kvmi_vcpu_inject_exception req = { .nr = UD_VECTOR };

	TEST_ASSERT_EQ(__kvmi_vcpu_cmd(env, 0, KVMI_VCPU_INJECT_EXCEPTION, &req,
				       sizeof(req), NULL, 0), 0);
}

/* What that accesses is its own, and so is the answer to each event. */
static void check_delivery_between(struct kvmi_env *env, bool by_tool)
{
	static const struct {
		unsigned int page;
		uint8_t access;
	} want[] = {
		/* code and operand; the exception */
		{ TSS_PAGE, X }, { 4, R }, { TSS_PAGE, R },
		/* once more, and the return */
		{ TSS_PAGE, X }, { 4, R }, { TSS_PAGE, X },
	};
	struct kvmi_runner *r = &env->run[0];
	struct kvmi_event ev;
	unsigned int i;

	vm_install_exception_handler(env->vm, UD_VECTOR, stay);
	set_tss(env);
	memcpy(kvmi_hva(env, TSS_PAGE, TSS_CODE), tss_code, sizeof(tss_code));
	set_access(env, TSS_PAGE, W);
	set_access(env, 4, X);
	kvmi_runner_do(r, kvmi_insn_exec, kvmi_gva(TSS_PAGE, TSS_CODE),
		       kvmi_gva(4, 0));

	for (i = 0; i < ARRAY_SIZE(want); i++) {
		kvmi_wait_event(&env->tool, KVMI_VCPU_EVENT_PF, &ev);
		TEST_ASSERT(ev.pf.gpa / PAGE_SIZE == kvmi_gpa(want[i].page, 0) / PAGE_SIZE &&
			    ev.pf.access == want[i].access,
			    "event %u: gpa %#llx access %u", i, ev.pf.gpa,
			    ev.pf.access);
		TEST_ASSERT(ev.common.arch.regs.rip == kvmi_gva(TSS_PAGE, TSS_CODE) +
						       (i == 5 ? 3 : 0),
			    "event %u: rip %#llx", i, ev.common.arch.regs.rip);
		if (i == 1 && by_tool)
			let_tool_inject_ud(env);
		else if (i == 1)
			inject_ud(r);
		/* The handler's return reads the frame that is in that page. */
		if (i == 2)
			set_access(env, TSS_PAGE, R | W);
		kvmi_reply(&env->tool, &ev, CONTINUE);
		if (i == 2 && by_tool) {
			kvmi_wait_event(&env->tool, KVMI_VCPU_EVENT_TRAP, &ev);
			TEST_ASSERT_EQ(ev.trap.nr, UD_VECTOR);
			kvmi_reply(&env->tool, &ev, CONTINUE);
		}
	}
	kvmi_runner_wait(r);
	kvmi_no_event(&env->tool);
}

TEST_F_TIMEOUT(pf, delivery_between, KVMI_TEST_TIMEOUT)
{
	if (!kvmi_can_step(&self->env.tool))
		SKIP(return, "the CPU cannot step");
	check_delivery_between(&self->env, false);
}

TEST_F_TIMEOUT(pf, delivery_injected, KVMI_TEST_TIMEOUT)
{
	if (!kvmi_can_step(&self->env.tool))
		SKIP(return, "the CPU cannot step");
	check_delivery_between(&self->env, true);
}

/* Without a PIC of KVM's, the VMM can be told when the guest takes interrupts. */
static void create_without_pic(struct kvmi_env *env)
{
	kvmi_env_create(env, 0);
	kvm_vm_release(env->vm);
	env->vm->has_irqchip = false;
	kvm_vm_restart(env->vm);
	kvmi_env_add_vcpu(env, 0);
	kvmi_env_hook(env);
	kvmi_control_event(env, 0, KVMI_VCPU_EVENT_PF, true);
}

/* Interrupts are on before and in the handler. */
static void set_trap_gate(struct kvmi_env *env, uint8_t vector)
{
	struct kvm_vcpu *vcpu = env->run[0].vcpu;
	struct kvm_sregs sregs;
	struct kvm_regs regs;
	uint64_t *gate;

	vcpu_sregs_get(vcpu, &sregs);
	gate = addr_gva2hva(env->vm, sregs.idt.base + 16 * vector);
	*gate |= GATE_IS_TRAP;

	vcpu_regs_get(vcpu, &regs);
	regs.rflags |= FLAGS_IF;
	vcpu_regs_set(vcpu, &regs);
}

static void wait_tss_event(struct kvmi_env *env, uint8_t access, struct kvmi_event *ev)
{
	kvmi_wait_event(&env->tool, KVMI_VCPU_EVENT_PF, ev);
	TEST_ASSERT_EQ(ev->pf.gpa / PAGE_SIZE, kvmi_gpa(TSS_PAGE, 0) / PAGE_SIZE);
	TEST_ASSERT_EQ(ev->pf.access, access);
}

#define UD_PAGE		6
static const uint8_t ud_code[] = { 0x0f, 0x0b };

/* What one exception was let do is not let to another right behind it. */
static void check_delivery_behind(bool is_native)
{
	struct kvmi_event ev;
	struct kvmi_runner *r;
	struct kvmi_env env;

	create_without_pic(&env);
	r = &env.run[0];
	vm_install_exception_handler(env.vm, UD_VECTOR, skip_ud);
	set_tss(&env);
	set_trap_gate(&env, UD_VECTOR);
	memcpy(kvmi_hva(&env, UD_PAGE, 0), ud_code, sizeof(ud_code));
	set_access(&env, TSS_PAGE, X);
	if (is_native)
		set_access(&env, UD_PAGE, R | W);

	kvmi_runner_do(r, kvmi_insn_exec, kvmi_gva(UD_PAGE, 0), 0);
	if (is_native) {
		kvmi_wait_event(&env.tool, KVMI_VCPU_EVENT_PF, &ev);
		TEST_ASSERT_EQ(ev.pf.gpa, kvmi_gpa(UD_PAGE, 0));
		kvmi_reply(&env.tool, &ev, CONTINUE);
	}
	wait_tss_event(&env, R, &ev);
	kvmi_reply(&env.tool, &ev, CONTINUE);
	wait_tss_event(&env, W, &ev);
	r->vcpu->run->request_interrupt_window = 1;
	kvmi_reply(&env.tool, &ev, CONTINUE);

	kvmi_runner_wait_exit(r);
	TEST_ASSERT_EQ(r->vcpu->run->exit_reason, KVM_EXIT_IRQ_WINDOW_OPEN);
	r->vcpu->run->request_interrupt_window = 0;
	queue_ud(r);

	kvmi_runner_go(r);
	wait_tss_event(&env, R, &ev);
	kvmi_reply(&env.tool, &ev, CRASH);
	kvmi_runner_wait_exit(r);
	TEST_ASSERT_EQ(r->vcpu->run->exit_reason, KVM_EXIT_SHUTDOWN);
	kvmi_env_destroy(&env);
}

TEST_F_TIMEOUT(pf, delivery_behind, KVMI_TEST_TIMEOUT)
{
	check_delivery_behind(false);
}

/* Nor is what the instruction behind the first was let do. */
TEST_F_TIMEOUT(pf, delivery_behind_native, KVMI_TEST_TIMEOUT)
{
	if (!kvmi_can_step(&self->env.tool))
		SKIP(return, "the CPU cannot step");
	check_delivery_behind(true);
}

TEST_F_TIMEOUT(pf, segment_load, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_runner *r = &env->run[0];
	struct kvm_sregs sregs;
	unsigned int i;

	vcpu_sregs_get(r->vcpu, &sregs);
	memcpy(kvmi_hva(env, 10, 0), addr_gva2hva(env->vm, sregs.gdt.base),
	       PAGE_SIZE);
	sregs.gdt.base = kvmi_gva(10, 0);
	vcpu_sregs_set(r->vcpu, &sregs);

	for (i = 0; i < 2; i++) {
		struct lift l = { .page = 10, .access = W | X, .retries = 1 };

		l.recs.action = CONTINUE;
		set_access(env, 10, W | X);
		kvmi_env_access(env, 0, kvmi_insn_ds, 0, 0,
				i ? kvmi_record : lift_and_retry, &l, NULL);
		TEST_ASSERT(l.recs.nr >= 1, "no event for the GDT's reading");
		TEST_ASSERT_EQ(l.recs.ev[0].pf.access, R);
		TEST_ASSERT_EQ(l.recs.ev[0].pf.gpa & ~7ull,
			       kvmi_gpa(10, sregs.ds.selector & ~7));
	}
}

/* ---- guest page tables ---- */

#define PTE_A	(1ull << 5)
#define PTE_D	(1ull << 6)

/* Where the guest sees the page table that maps the test pages */
#define TABLE_GVA	(KVMI_MMIO_GVA + PAGE_SIZE)

static uint64_t map_table(struct kvmi_env *env, const uint64_t *pte)
{
	uint64_t gpa = addr_hva2gpa(env->vm, (void *)pte);
	uint64_t offset = gpa % PAGE_SIZE;

	virt_map(env->vm, TABLE_GVA, gpa - offset, 1);
	return TABLE_GVA + offset;
}

/*
 * Clears the accessed and dirty bits of @pte, which the guest sees at @gva.
 * Shadow paging has to see the guest do it, hence without restrictions.
 */
static void clear_ad(struct kvmi_env *env, uint64_t *pte, uint64_t gva)
{
	uint64_t clean = *pte & ~(PTE_A | PTE_D);

	if (kvm_is_tdp_enabled()) {
		*pte = clean;
		return;
	}

	kvmi_set_page_access(&env->tool, addr_hva2gpa(env->vm, pte),
			     KVMI_ACCESS_ALL);
	silent(env, 0, kvmi_insn_write, gva, clean);
}

/*
 * What the CPU does to translate an address is not the guest's access: no
 * event, and the guest goes on as ever, accessed and dirty bits included.
 */
TEST_F_TIMEOUT(pf, page_tables, KVMI_TEST_TIMEOUT)
{
	static const struct {
		kvmi_insn insn;
		unsigned int offset;
		uint64_t bits;
	} steps[] = {
		{ kvmi_insn_read, DATA, PTE_A },
		{ kvmi_insn_write, DATA, PTE_A | PTE_D },
		{ kvmi_insn_exec, CODE, PTE_A },
		{ kvmi_insn_xadd, DATA, PTE_A | PTE_D },
	};
	struct kvmi_env *env = &self->env;
	const unsigned int page = 4;
	unsigned int level, access, i;
	uint64_t *pte, pte_gva;

	pte = vm_get_page_table_entry(env->vm, kvmi_gva(page, 0));
	pte_gva = map_table(env, pte);
	env->run[0].req->flush = 1;

	for (level = PG_LEVEL_4K; level <= PG_LEVEL_1G; level++) {
		int l = level;
		uint64_t *entry = level == PG_LEVEL_4K ? pte :
			__vm_get_page_table_entry(env->vm, kvmi_gva(page, 0),
						  &l);
		uint64_t gpa = addr_hva2gpa(env->vm, entry);

		for (access = 0; access <= KVMI_ACCESS_ALL; access++) {
			*data_at(env, page, DATA) = 0x111;

			for (i = 0; i < ARRAY_SIZE(steps); i++) {
				clear_ad(env, pte, pte_gva);
				kvmi_set_page_access(&env->tool, gpa, access);
				silent(env, 0, steps[i].insn,
				       kvmi_gva(page, steps[i].offset), 0x222);
				TEST_ASSERT((*pte & (PTE_A | PTE_D)) ==
					    steps[i].bits,
					    "level %u access %u step %u: %#lx",
					    level, access, i, *pte);
				TEST_ASSERT(*entry & PTE_A, "level %u: %#lx",
					    level, *entry);
			}
			TEST_ASSERT_EQ(*data_at(env, page, DATA), 0x444);
		}
	}
	kvmi_no_event(&env->tool);
}

/* Both the page and its page table are restricted. */
TEST_F_TIMEOUT(pf, page_and_its_table, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	const unsigned int page = 4;
	uint64_t *pte, pte_gva, gpa;
	int access, i;

	pte = vm_get_page_table_entry(env->vm, kvmi_gva(page, 0));
	pte_gva = map_table(env, pte);
	gpa = addr_hva2gpa(env->vm, pte);
	env->run[0].req->flush = 1;

	set_access(env, page, 0);
	for (access = 0; access <= KVMI_ACCESS_ALL; access++) {
		for (i = 0; i < ARRAY_SIZE(accesses); i++) {
			const struct access *a = &accesses[i];
			struct kvmi_recs recs = { .action = CONTINUE };
			uint64_t result;
			unsigned int nr[3];

			if (a->insn != kvmi_insn_exec)
				*data_at(env, page, a->offset) = 50;
			clear_ad(env, pte, pte_gva);
			kvmi_set_page_access(&env->tool, gpa, access);
			kvmi_env_access(env, 0, a->insn,
					kvmi_gva(page, a->offset), 2,
					kvmi_record, &recs, &result);
			count(&recs, nr);
			TEST_ASSERT(nr[0] == !!(a->needs & R) &&
				    nr[1] == !!(a->needs & W) &&
				    nr[2] == !!(a->needs & X),
				    "table access %d, %s: %u R %u W %u X events",
				    access, a->name, nr[0], nr[1], nr[2]);
			while (recs.nr--)
				check_event(&recs.ev[recs.nr],
					    recs.ev[recs.nr].pf.access, page,
					    a->offset, access_rip(a, page));
			check_done(env, a, page, 50, 2, result);
			TEST_ASSERT(*pte & PTE_A, "not accessed");
			if (a->needs & W)
				TEST_ASSERT(*pte & PTE_D, "not dirty");
		}
	}
}

/* The guest's own accesses to its tables are accesses like any others. */
TEST_F_TIMEOUT(pf, page_table_written, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_recs recs = { .action = CONTINUE };
	uint64_t *pte, gpa, gva, entry, result;
	struct kvmi_event *ev = recs.ev;

	pte = vm_get_page_table_entry(env->vm, kvmi_gva(4, 0));
	gpa = addr_hva2gpa(env->vm, pte);
	gva = map_table(env, pte);

	*data_at(env, 4, DATA) = 0x44;
	*data_at(env, 5, DATA) = 0x55;
	env->run[0].req->flush = 1;
	kvmi_set_page_access(&env->tool, gpa, X);
	TEST_ASSERT_EQ(silent(env, 0, kvmi_insn_read, kvmi_gva(4, DATA), 0),
		       0x44);

	entry = (*pte & ~(uint64_t)(PTE_A | PTE_D)) + PAGE_SIZE;
	kvmi_env_access(env, 0, kvmi_insn_write, gva, entry, kvmi_record, &recs,
			NULL);
	TEST_ASSERT(recs.nr == 1, "%u events", recs.nr);
	TEST_ASSERT(ev->pf.gpa == gpa && ev->pf.access == W &&
		    kvmi_gva_valid(ev, gva), "gpa %#llx gva %#llx access %u",
		    ev->pf.gpa, ev->pf.gva, ev->pf.access);
	TEST_ASSERT_EQ(*pte, entry);
	TEST_ASSERT_EQ(silent(env, 0, kvmi_insn_read, kvmi_gva(4, DATA), 0),
		       0x55);

	recs.nr = 0;
	kvmi_env_access(env, 0, kvmi_insn_read, gva, 0, kvmi_record, &recs,
			&result);
	TEST_ASSERT(recs.nr == 1, "%u events", recs.nr);
	TEST_ASSERT(ev->pf.gpa == gpa && ev->pf.access == R,
		    "gpa %#llx access %u", ev->pf.gpa, ev->pf.access);
	TEST_ASSERT_EQ(result, entry | PTE_A);
}

/* ---- what is reported, and when ---- */

TEST_F_TIMEOUT(pf, event_contents, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_runner *r = &env->run[1];
	struct kvmi_vcpu_get_registers req = { };
	struct kvmi_vcpu_get_registers_reply rpl;
	struct kvmi_event ev, again;
	struct kvm_sregs sregs;
	struct kvm_regs regs;

	set_access(env, 2, R);
	kvmi_runner_do(r, kvmi_insn_write, kvmi_gva(2, DATA), 0xfeed);
	kvmi_wait_event(&env->tool, KVMI_VCPU_EVENT_PF, &ev);
	TEST_ASSERT_EQ(ev.vcpu, 1);
	check_event(&ev, W, 2, DATA, (uint64_t)kvmi_insn_write);
	TEST_ASSERT_EQ(ev.common.arch.mode, 8);
	TEST_ASSERT_EQ(ev.common.arch.regs.rdi, kvmi_gva(2, DATA));
	TEST_ASSERT_EQ(ev.common.arch.regs.rsi, 0xfeed);
	TEST_ASSERT_EQ(ev.common.arch.sregs.cr3, env->vm->pgd);

	/* The vCPU answers questions while it waits. */
	TEST_ASSERT_EQ(__kvmi_vcpu_cmd(env, 1, KVMI_VCPU_GET_REGISTERS, &req,
				       sizeof(req), &rpl, sizeof(rpl)), 0);
	TEST_ASSERT(!memcmp(&rpl.regs, &ev.common.arch.regs, sizeof(rpl.regs)),
		    "GET_REGISTERS differs from the event");

	/* So it does to the VMM, after a signal; the event is the same one. */
	kvmi_runner_kick(r);
	kvmi_runner_wait_exit(r);
	TEST_ASSERT_EQ(r->err, EINTR);
	vcpu_regs_get(r->vcpu, &regs);
	vcpu_sregs_get(r->vcpu, &sregs);
	TEST_ASSERT(!memcmp(&regs, &ev.common.arch.regs, sizeof(regs)),
		    "KVM_GET_REGS differs from the event");
	TEST_ASSERT(!memcmp(&sregs, &ev.common.arch.sregs, sizeof(sregs)),
		    "KVM_GET_SREGS differs from the event");
	kvmi_no_event(&env->tool);

	kvmi_runner_go(r);
	TEST_ASSERT(!kvmi_runner_poll(r, KVMI_QUIET_MS), "event forgotten");
	kvmi_no_event(&env->tool);
	kvmi_reply(&env->tool, &ev, CONTINUE);
	kvmi_runner_wait(r);
	TEST_ASSERT(!kvmi_poll_event(&env->tool, &again, KVMI_QUIET_MS),
		    "event repeated");
	TEST_ASSERT_EQ(*data_at(env, 2, DATA), 0xfeed);
}

/* Signals, with each action and each kind of access, answered early or late */
TEST_F_TIMEOUT(pf, signal, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_runner *r = &env->run[0];
	unsigned int i, action, early;

	for (i = 0; i < ARRAY_SIZE(accesses); i++) {
		const struct access *a = &accesses[i];

		for (action = CONTINUE; action <= CRASH; action++) {
			for (early = 0; early < 2; early++) {
				bool exec = a->insn == kvmi_insn_exec;
				uint8_t bit = exec ? X : a->needs & W ? W : R;
				struct kvmi_event ev;

				if (!exec)
					*data_at(env, 2, a->offset) = 70;
				/* one event per access */
				set_access(env, 2, KVMI_ACCESS_ALL & ~bit);
				kvmi_runner_do(r, a->insn,
					       kvmi_gva(2, a->offset), 1);
				kvmi_wait_event(&env->tool, KVMI_VCPU_EVENT_PF,
						&ev);
				kvmi_runner_kick(r);
				kvmi_runner_wait_exit(r);
				TEST_ASSERT(r->ret == -1 && r->err == EINTR,
					    "KVM_RUN: %d, errno %d", r->ret,
					    r->err);
				if (!early)
					kvmi_runner_go(r);
				if (action == RETRY)
					set_access(env, 2, KVMI_ACCESS_ALL);
				kvmi_reply(&env->tool, &ev, action);
				if (early) {
					/* let it get there */
					kvmi_alive(&env->tool);
					kvmi_runner_go(r);
				}

				if (action == CRASH) {
					kvmi_runner_wait_exit(r);
					TEST_ASSERT_EQ(r->ret, 0);
					TEST_ASSERT_KVM_EXIT_REASON(r->vcpu,
							KVM_EXIT_SHUTDOWN);
					set_access(env, 2, KVMI_ACCESS_ALL);
					kvmi_runner_go(r);
				}
				kvmi_runner_wait(r);
				check_done(env, a, 2, 70, 1, r->req->result);
			}
		}
	}
	kvmi_no_event(&env->tool);
}

/* While the vCPU is away with its event unanswered, the VMM moves it on. */
TEST_F_TIMEOUT(pf, moved_on, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_runner *r = &env->run[0];
	struct kvmi_event ev;
	struct kvm_regs regs;

	*data_at(env, 2, DATA) = 1;
	set_access(env, 2, R);
	kvmi_runner_do(r, kvmi_insn_write, kvmi_gva(2, DATA), 99);
	kvmi_wait_event(&env->tool, KVMI_VCPU_EVENT_PF, &ev);
	kvmi_runner_kick(r);
	kvmi_runner_wait_exit(r);

	/* over the 3 bytes of the mov */
	vcpu_regs_get(r->vcpu, &regs);
	TEST_ASSERT_EQ(regs.rip, (uint64_t)kvmi_insn_write);
	regs.rip += 3;
	vcpu_regs_set(r->vcpu, &regs);
	kvmi_reply(&env->tool, &ev, CONTINUE);
	kvmi_alive(&env->tool);
	kvmi_runner_go(r);
	kvmi_runner_wait(r);
	TEST_ASSERT_EQ(*data_at(env, 2, DATA), 1);

	/* Now to an instruction that KVM cannot, and need not, emulate */
	data_at(env, 3, DATA)[0] = 1000;
	kvmi_runner_do(r, kvmi_insn_write, kvmi_gva(2, DATA), 99);
	kvmi_wait_event(&env->tool, KVMI_VCPU_EVENT_PF, &ev);
	kvmi_runner_kick(r);
	kvmi_runner_wait_exit(r);
	vcpu_regs_get(r->vcpu, &regs);
	regs.rip = (uint64_t)kvmi_insn_sse_add;
	regs.rdi = kvmi_gva(3, DATA);
	regs.rsi = 23;
	vcpu_regs_set(r->vcpu, &regs);
	kvmi_reply(&env->tool, &ev, CONTINUE);
	kvmi_alive(&env->tool);
	kvmi_runner_go(r);
	TEST_ASSERT_EQ(kvmi_runner_wait(r), 1023);
	TEST_ASSERT_EQ(*data_at(env, 2, DATA), 1);

	/* The answer was for that access, and no other. */
	kvmi_runner_do(r, kvmi_insn_write, kvmi_gva(2, DATA), 100);
	kvmi_wait_event(&env->tool, KVMI_VCPU_EVENT_PF, &ev);
	kvmi_reply(&env->tool, &ev, CONTINUE);
	kvmi_runner_wait(r);
	TEST_ASSERT_EQ(*data_at(env, 2, DATA), 100);
}

/* Not enabled, no event; the access is made. */
TEST_F_TIMEOUT(pf, disabled, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	unsigned int access, i;

	kvmi_control_event(env, 0, KVMI_VCPU_EVENT_PF, false);
	for (access = 0; access <= KVMI_ACCESS_ALL; access++) {
		set_access(env, 2, access);
		for (i = 0; i < ARRAY_SIZE(accesses); i++) {
			const struct access *a = &accesses[i];
			uint64_t result;

			if (a->insn != kvmi_insn_exec)
				*data_at(env, 2, a->offset) = 30;
			result = silent(env, 0, a->insn, kvmi_gva(2, a->offset),
					4);
			check_done(env, a, 2, 30, 4, result);
		}
	}

	/* each vCPU for itself */
	set_access(env, 2, 0);
	silent(env, 0, kvmi_insn_read, kvmi_gva(2, DATA), 0);
	for (i = 0; i < 2; i++) {
		struct kvmi_recs recs = { .action = CONTINUE };

		kvmi_env_access(env, 1, kvmi_insn_read, kvmi_gva(2, DATA), 0,
				kvmi_record, &recs, NULL);
		TEST_ASSERT_EQ(recs.nr, 1);
	}
}

TEST_F_TIMEOUT(pf, disabled_while_waiting, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_runner *r = &env->run[0];
	struct kvmi_event ev;
	unsigned int i;

	for (i = 0; i < 3; i++) {
		set_access(env, 2, 0);
		kvmi_runner_do(r, kvmi_insn_add, kvmi_gva(2, DATA), 1);
		kvmi_wait_event(&env->tool, KVMI_VCPU_EVENT_PF, &ev);
		*data_at(env, 2, DATA) = 10;

		if (i == 0)	/* by the tool */
			kvmi_control_event(env, 0, KVMI_VCPU_EVENT_PF, false);
		else if (i == 1)	/* by the VMM */
			vm_kvmi_allow_event(env->vm, KVMI_VCPU_EVENT_PF, 0);
		else		/* the restriction */
			set_access(env, 2, KVMI_ACCESS_ALL);

		/* It waits for its answer all the same. */
		TEST_ASSERT(!kvmi_runner_poll(r, KVMI_QUIET_MS), "gone on");
		kvmi_reply(&env->tool, &ev, CONTINUE);
		kvmi_runner_wait(r);
		TEST_ASSERT_EQ(*data_at(env, 2, DATA), 11);
		silent(env, 0, kvmi_insn_read, kvmi_gva(2, DATA), 0);

		vm_kvmi_allow_event(env->vm, KVMI_VCPU_EVENT_PF, 1);
		kvmi_control_event(env, 0, KVMI_VCPU_EVENT_PF, true);
	}
	kvmi_no_event(&env->tool);
}

/* What the guest is allowed already must not stay allowed. */
TEST_F_TIMEOUT(pf, restricted_while_running, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_runner *r = &env->run[0];
	struct kvmi_event ev;
	int i;

	for (i = 0; i < 5; i++) {
		*data_at(env, 2, DATA) = 0;
		kvmi_runner_do(r, kvmi_insn_spin, kvmi_gva(2, DATA), 1);
		usleep(20000);
		set_access(env, 2, W | X);
		kvmi_wait_event(&env->tool, KVMI_VCPU_EVENT_PF, &ev);
		TEST_ASSERT(ev.pf.access == R && ev.pf.gpa == kvmi_gpa(2, DATA),
			    "gpa %#llx access %u", ev.pf.gpa, ev.pf.access);
		*data_at(env, 2, DATA) = 1;
		set_access(env, 2, KVMI_ACCESS_ALL);
		kvmi_reply(&env->tool, &ev, RETRY);
		kvmi_runner_wait(r);
	}
}

/* With the reply, the restriction is in force on all CPUs. */
TEST_F_TIMEOUT(pf, restricted_at_once, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	volatile uint64_t *counter = data_at(env, 2, DATA);
	struct kvmi_runner *r = &env->run[0];
	uint64_t before, after;
	struct kvmi_event ev;
	int i;

	for (i = 0; i < 10; i++) {
		*data_at(env, 3, DATA) = 0;
		*counter = 0;
		kvmi_runner_do(r, kvmi_insn_count, kvmi_gva(2, DATA),
			       kvmi_gva(3, DATA));
		while (!*counter)
			usleep(1000);

		set_access(env, 2, R | X);
		before = *counter;
		usleep(3000);
		after = *counter;
		TEST_ASSERT(before == after, "counting on: from %lu to %lu",
			    before, after);

		kvmi_wait_event(&env->tool, KVMI_VCPU_EVENT_PF, &ev);
		check_event(&ev, W, 2, DATA, (uint64_t)kvmi_insn_count_at);
		*data_at(env, 3, DATA) = 1;
		set_access(env, 2, KVMI_ACCESS_ALL);
		kvmi_reply(&env->tool, &ev, RETRY);
		kvmi_runner_wait(r);
		TEST_ASSERT_EQ(*counter, after + 1);
	}
}

/* ---- two vCPUs ---- */

TEST_F_TIMEOUT(pf, same_page, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	unsigned int round;

	for (round = 0; round < 8; round++) {
		uint8_t action = round & 1 ? RETRY : CONTINUE;
		bool reverse = round & 2, same_word = round & 4;
		struct kvmi_event ev[2], first;
		unsigned int i;

		*data_at(env, 2, DATA) = 0;
		*data_at(env, 2, DATA + 8) = 0;
		/* one event for each add */
		set_access(env, 2, R | X);
		for (i = 0; i < 2; i++)
			kvmi_runner_do(&env->run[i], kvmi_insn_xadd,
				       kvmi_gva(2, DATA + (same_word ? 0 : 8 * i)),
				       i + 1);

		/* Both come, although none is answered. */
		for (i = 0; i < 2; i++) {
			kvmi_wait_event(&env->tool, KVMI_VCPU_EVENT_PF, &first);
			ev[first.vcpu] = first;
		}
		for (i = 0; i < 2; i++) {
			TEST_ASSERT_EQ(ev[i].vcpu, i);
			check_event(&ev[i], W, 2,
				    DATA + (same_word ? 0 : 8 * i),
				    (uint64_t)kvmi_insn_xadd);
		}
		TEST_ASSERT(ev[0].seq != ev[1].seq, "one number for two events");

		if (action == RETRY)
			set_access(env, 2, KVMI_ACCESS_ALL);
		for (i = 0; i < 2; i++) {
			unsigned int vcpu = reverse ? 1 - i : i;

			kvmi_reply(&env->tool, &ev[vcpu], action);
			kvmi_runner_wait(&env->run[vcpu]);
			if (!i)
				TEST_ASSERT(!kvmi_runner_poll(&env->run[1 - vcpu],
							      10),
					    "answer taken by the wrong vCPU");
		}
		TEST_ASSERT_EQ(*data_at(env, 2, DATA), same_word ? 3 : 1);
		TEST_ASSERT_EQ(*data_at(env, 2, DATA + 8), same_word ? 0 : 2);
		kvmi_no_event(&env->tool);
	}
}

/* One waits, the other does not care. */
TEST_F_TIMEOUT(pf, other_vcpu_runs, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_event ev;
	unsigned int i;

	set_access(env, 2, R | X);
	kvmi_runner_do(&env->run[0], kvmi_insn_write, kvmi_gva(2, DATA), 1);
	kvmi_wait_event(&env->tool, KVMI_VCPU_EVENT_PF, &ev);

	for (i = 0; i < 20; i++) {
		struct kvmi_recs recs = { .action = CONTINUE };

		silent(env, 1, kvmi_insn_read, kvmi_gva(2, DATA), 0);
		silent(env, 1, kvmi_insn_write, kvmi_gva(3, DATA), i);
		kvmi_env_access(env, 1, kvmi_insn_write, kvmi_gva(2, DATA + 8),
				i, kvmi_record, &recs, NULL);
		TEST_ASSERT_EQ(recs.nr, 1);
		set_access(env, 5, i & 1 ? R : KVMI_ACCESS_ALL);
	}

	kvmi_reply(&env->tool, &ev, CONTINUE);
	kvmi_runner_wait(&env->run[0]);
}

/* ---- bad actions ---- */

TEST_F_TIMEOUT(pf, unknown_action, KVMI_TEST_TIMEOUT)
{
	static const uint8_t actions[] = { 3, 4, 77, 255 };
	struct kvmi_env *env = &self->env;
	struct kvmi_event ev;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(actions); i++) {
		set_access(env, 2, 0);
		*data_at(env, 2, DATA) = 0;
		kvmi_runner_do(&env->run[0], kvmi_insn_write, kvmi_gva(2, DATA),
			       i + 1);
		kvmi_wait_event(&env->tool, KVMI_VCPU_EVENT_PF, &ev);
		kvmi_reply(&env->tool, &ev, actions[i]);
		kvmi_wait_closed(&env->tool);

		/* The guest goes on, without restrictions. */
		kvmi_runner_wait(&env->run[0]);
		TEST_ASSERT_EQ(*data_at(env, 2, DATA), i + 1);
		kvmi_runner_do(&env->run[0], kvmi_insn_add, kvmi_gva(2, DATA),
			       1);
		kvmi_runner_wait(&env->run[0]);

		kvmi_env_unhook(env);
		kvmi_env_hook(env);
		kvmi_control_event(env, 0, KVMI_VCPU_EVENT_PF, true);
		silent(env, 0, kvmi_insn_add, kvmi_gva(2, DATA), 1);
	}
}

/* ---- SET_PAGE_ACCESS ---- */

#define MAX_ENTRIES	511

struct set_page_access {
	struct kvmi_vm_set_page_access req;
	struct kvmi_page_access_entry entry[MAX_ENTRIES];
};

static int set_entries(struct kvmi_env *env, struct set_page_access *req,
		       unsigned int nr)
{
	req->req.count = nr;
	return __kvmi_cmd(&env->tool, KVMI_VM_SET_PAGE_ACCESS, req,
			  sizeof(req->req) + nr * sizeof(req->entry[0]), NULL,
			  0);
}

TEST_F_TIMEOUT(pf, set_page_access_errors, KVMI_TEST_TIMEOUT)
{
	static const struct kvmi_page_access_entry bad[] = {
		{ .gpa = KVMI_TEST_GPA, .access = 8 },
		{ .gpa = KVMI_TEST_GPA, .access = 0xff },
		{ .gpa = KVMI_TEST_GPA, .access = 0x80 | R },
		{ .gpa = KVMI_TEST_GPA, .access = R, .padding[0] = 1 },
		{ .gpa = KVMI_TEST_GPA, .access = R, .padding[3] = 1 },
		{ .gpa = KVMI_TEST_GPA, .access = R, .padding[6] = 1 },
		{ .gpa = KVMI_NO_MEM_GPA, .access = R },
		{ .gpa = KVMI_TEST_GPA - 1, .access = R },
		{ .gpa = KVMI_TEST_GPA + KVMI_TEST_PAGES * PAGE_SIZE,
		  .access = R },
		{ .gpa = ~0ull, .access = R },
		{ .gpa = 1ull << 52, .access = R },
		{ .gpa = 1ull << 63 | KVMI_TEST_GPA, .access = R },
	};
	static struct set_page_access req;
	struct kvmi_env *env = &self->env;
	unsigned int i, pos;

	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		/* alone, and as one of four of which it spoils all */
		memset(&req, 0, sizeof(req));
		req.entry[0] = bad[i];
		TEST_ASSERT(set_entries(env, &req, 1) == -KVM_EINVAL,
			    "entry %u accepted", i);

		for (pos = 0; pos < 4; pos++) {
			unsigned int j;

			memset(&req, 0, sizeof(req));
			for (j = 0; j < 4; j++) {
				req.entry[j].gpa = kvmi_gpa(j, 0);
				req.entry[j].access = 0;
			}
			req.entry[pos] = bad[i];
			TEST_ASSERT(set_entries(env, &req, 4) == -KVM_EINVAL,
				    "entry %u accepted at %u", i, pos);
		}
	}
	for (i = 0; i < 4; i++)
		silent(env, 0, kvmi_insn_add, kvmi_gva(i, DATA), 1);

	/* padding of the request, even with nothing in it */
	memset(&req, 0, sizeof(req));
	req.req.padding1 = 1;
	TEST_ASSERT_EQ(set_entries(env, &req, 0), -KVM_EINVAL);
	req.req.padding1 = 0;
	req.req.padding2 = 1;
	TEST_ASSERT_EQ(set_entries(env, &req, 0), -KVM_EINVAL);
	req.req.padding2 = 0;
	TEST_ASSERT_EQ(set_entries(env, &req, 0), 0);
	kvmi_alive(&env->tool);
}

/* Fewer entries than announced: an error, and the connection lives. */
TEST_F_TIMEOUT(pf, set_page_access_short, KVMI_TEST_TIMEOUT)
{
	static struct set_page_access req;
	struct kvmi_env *env = &self->env;
	unsigned int i;
	struct {
		uint16_t count;
		size_t size;
	} bad[] = {
		{ 1, sizeof(req.req) },
		{ 1, sizeof(req.req) + sizeof(req.entry[0]) - 1 },
		{ 3, sizeof(req.req) + 2 * sizeof(req.entry[0]) },
		{ MAX_ENTRIES + 1, sizeof(req) },
		{ 0xffff, sizeof(req) },
		{ 1, 2 },
	};

	for (i = 0; i < MAX_ENTRIES; i++)
		req.entry[i].gpa = kvmi_gpa(i % KVMI_TEST_PAGES, 0);

	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		req.req.count = bad[i].count;
		TEST_ASSERT(__kvmi_cmd(&env->tool, KVMI_VM_SET_PAGE_ACCESS,
				       &req, bad[i].size, NULL, 0) ==
			    -KVM_EINVAL, "%u entries in %zu bytes",
			    bad[i].count, bad[i].size);
	}
	for (i = 0; i < KVMI_TEST_PAGES; i++)
		silent(env, 0, kvmi_insn_add, kvmi_gva(i, DATA), 1);
	kvmi_alive(&env->tool);
}

TEST_F_TIMEOUT(pf, set_page_access_batch, KVMI_TEST_TIMEOUT)
{
	static struct set_page_access req;
	struct kvmi_env *env = &self->env;
	unsigned int i;

	/* As many as fit: every page many times; the last word counts. */
	for (i = 0; i < MAX_ENTRIES; i++) {
		req.entry[i].gpa = kvmi_gpa(i % KVMI_TEST_PAGES, i);
		req.entry[i].access =
			i >= MAX_ENTRIES - KVMI_TEST_PAGES ? R | X : X;
	}
	TEST_ASSERT_EQ(set_entries(env, &req, MAX_ENTRIES), 0);

	for (i = 0; i < KVMI_TEST_PAGES; i++) {
		struct kvmi_recs recs = { .action = CONTINUE };

		silent(env, 0, kvmi_insn_read, kvmi_gva(i, DATA), 0);
		silent(env, 1, kvmi_insn_exec, kvmi_gva(i, CODE), 0);
		kvmi_env_access(env, 0, kvmi_insn_write, kvmi_gva(i, DATA), 1,
				kvmi_record, &recs, NULL);
		TEST_ASSERT(recs.nr == 1, "page %u: %u events", i, recs.nr);
		check_event(&recs.ev[0], W, i, DATA, (uint64_t)kvmi_insn_write);
	}

	/* and all of them back */
	for (i = 0; i < KVMI_TEST_PAGES; i++)
		req.entry[i].access = KVMI_ACCESS_ALL;
	TEST_ASSERT_EQ(set_entries(env, &req, KVMI_TEST_PAGES), 0);
	for (i = 0; i < KVMI_TEST_PAGES; i++)
		silent(env, 0, kvmi_insn_add, kvmi_gva(i, DATA), 1);
}

/* One restriction after the other on the same page, none of which lasts */
TEST_F_TIMEOUT(pf, changes, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	unsigned int from, to, i;

	for (from = 0; from <= KVMI_ACCESS_ALL; from++) {
		for (to = 0; to <= KVMI_ACCESS_ALL; to++) {
			set_access(env, 2, from);
			set_access(env, 2, to);
			for (i = 0; i < ARRAY_SIZE(accesses); i++) {
				const struct access *a = &accesses[i];
				struct kvmi_recs recs = { .action = CONTINUE };
				uint8_t missing = a->needs & ~to;

				kvmi_env_access(env, 0, a->insn,
						kvmi_gva(2, a->offset), 0,
						kvmi_record, &recs, NULL);
				TEST_ASSERT(recs.nr == __builtin_popcount(missing),
					    "from %u to %u, %s: %u events",
					    from, to, a->name, recs.nr);
			}
		}
	}
}

int main(int argc, char *argv[])
{
	TEST_REQUIRE(kvmi_supported());

	return test_harness_run(argc, argv);
}
