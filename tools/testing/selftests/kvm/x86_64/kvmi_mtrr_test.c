// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM introspection: the memory type that KVMI_VCPU_GET_MTRR_TYPE finds in the
 * guest's MTRRs, for all of the fixed ranges, the edges of the variable ones,
 * and every way in which these can overlap.
 *
 * The model below is made from the tables of the architecture: it has a list
 * of the fixed ranges, and a set of the types of all ranges that match.
 */
#include "test_util.h"
#include "kvm_util.h"
#include "kselftest_harness.h"
#include "kvmi_util.h"

#define UC	0
#define WC	1
#define WT	4
#define WP	5
#define WB	6

#define MTRR_PHYSBASE(n)	(0x200 + 2 * (n))
#define MTRR_PHYSMASK(n)	(0x201 + 2 * (n))
#define MTRR_DEF_TYPE		0x2ff
#define DEF_TYPE_E		0x800
#define DEF_TYPE_FE		0x400
#define PHYSMASK_V		0x800
#define NR_VAR			8

#define FEATURE_MTRR		KVM_X86_CPU_FEATURE(0x1, 0, EDX, 12)

/* of KVM's queue for a vCPU, with some to spare */
#define BATCH			900

static const uint8_t types[] = { UC, WC, WT, WP, WB };

/* SDM vol. 3, "Address Mapping for Fixed-Range MTRRs" */
static const struct {
	uint32_t msr, start, size;
} fixed[] = {
	{ 0x250, 0x00000, 0x10000 },
	{ 0x258, 0x80000, 0x4000 }, { 0x259, 0xa0000, 0x4000 },
	{ 0x268, 0xc0000, 0x1000 }, { 0x269, 0xc8000, 0x1000 },
	{ 0x26a, 0xd0000, 0x1000 }, { 0x26b, 0xd8000, 0x1000 },
	{ 0x26c, 0xe0000, 0x1000 }, { 0x26d, 0xe8000, 0x1000 },
	{ 0x26e, 0xf0000, 0x1000 }, { 0x26f, 0xf8000, 0x1000 },
};

struct mtrrs {
	uint64_t def_type;
	uint64_t fixed[ARRAY_SIZE(fixed)];
	uint64_t base[NR_VAR], mask[NR_VAR];
};

FIXTURE(mtrr)
{
	struct kvmi_env env;
	struct kvm_vcpu *vcpu;
	struct mtrrs m;
	uint64_t random;
	unsigned int pa_bits;

	unsigned int nr;
	struct {
		uint64_t gpa;
		uint32_t seq;
	} asked[BATCH];
};

static void stop(FIXTURE_DATA(mtrr) *self)
{
	struct kvmi_runner *r = &self->env.run[0];

	kvmi_runner_kick(r);
	kvmi_runner_wait_exit(r);
	TEST_ASSERT(r->ret && r->err == EINTR, "KVM_RUN: %d, errno %d", r->ret,
		    r->err);
}

FIXTURE_SETUP(mtrr)
{
	kvmi_env_create(&self->env, 1);
	kvmi_env_hook(&self->env);
	self->vcpu = self->env.run[0].vcpu;
	self->pa_bits = vcpu_get_cpuid_entry(self->vcpu, 0x80000008)->eax & 0xff;
	self->random = 1;

	/* A halted vCPU answers, and can be taken out at any time. */
	kvmi_runner_do(&self->env.run[0], kvmi_insn_hlt, 0, 0);
	stop(self);
}

FIXTURE_TEARDOWN(mtrr)
{
	kvmi_env_destroy(&self->env);
}

/* ---- the model ---- */

static uint8_t model(const struct mtrrs *m, uint64_t gpa)
{
	unsigned int seen = 0, i, j;

	if (!(m->def_type & DEF_TYPE_E))
		return UC;

	if (m->def_type & DEF_TYPE_FE) {
		for (i = 0; i < ARRAY_SIZE(fixed); i++) {
			for (j = 0; j < 8; j++) {
				uint64_t start = fixed[i].start +
						 j * fixed[i].size;

				if (gpa >= start &&
				    gpa < start + fixed[i].size)
					return m->fixed[i] >> 8 * j;
			}
		}
	}

	for (i = 0; i < NR_VAR; i++) {
		uint64_t mask = m->mask[i] & ~0xfffull;

		if ((m->mask[i] & PHYSMASK_V) &&
		    (gpa & mask) == (m->base[i] & mask))
			seen |= 1 << (m->base[i] & 0xff);
	}

	switch (seen) {
	case 0:
		return m->def_type & 0xff;
	case 1 << WC:
		return WC;
	case 1 << WT:
	case 1 << WT | 1 << WB:
		return WT;
	case 1 << WP:
		return WP;
	case 1 << WB:
		return WB;
	default:
		return UC;
	}
}

/* ---- asking ---- */

static void set_mtrrs(FIXTURE_DATA(mtrr) *self)
{
	struct mtrrs *m = &self->m;
	int i;

	vcpu_set_msr(self->vcpu, MTRR_DEF_TYPE, m->def_type);
	for (i = 0; i < ARRAY_SIZE(fixed); i++)
		vcpu_set_msr(self->vcpu, fixed[i].msr, m->fixed[i]);
	for (i = 0; i < NR_VAR; i++) {
		vcpu_set_msr(self->vcpu, MTRR_PHYSBASE(i), m->base[i]);
		vcpu_set_msr(self->vcpu, MTRR_PHYSMASK(i), m->mask[i]);
	}
}

/* Has the vCPU answer all that was asked. */
static void collect(FIXTURE_DATA(mtrr) *self)
{
	struct kvmi_vcpu_get_mtrr_type_reply rpl;
	struct kvmi_env *env = &self->env;
	unsigned int i, err;

	kvmi_runner_go(&env->run[0]);
	for (i = 0; i < self->nr; i++) {
		uint64_t gpa = self->asked[i].gpa;
		uint8_t want = model(&self->m, gpa);

		err = __kvmi_recv_reply(&env->tool, KVMI_VCPU_GET_MTRR_TYPE,
					self->asked[i].seq, &rpl, sizeof(rpl));
		TEST_ASSERT(!err, "%#lx: error %d", gpa, err);
		TEST_ASSERT(rpl.type == want,
			    "%#lx: type %u, want %u (default %#lx)", gpa,
			    rpl.type, want, self->m.def_type);
		TEST_ASSERT(!memcmp(rpl.padding, "\0\0\0\0\0\0\0", 7),
			    "padding");
	}
	stop(self);
	self->nr = 0;
}

static void ask(FIXTURE_DATA(mtrr) *self, uint64_t gpa)
{
	struct kvmi_vcpu_get_mtrr_type req = {
		.gpa = gpa & ((1ull << self->pa_bits) - 1),
	};

	if (self->nr == BATCH)
		collect(self);
	self->asked[self->nr].gpa = req.gpa;
	self->asked[self->nr++].seq =
		kvmi_vcpu_send(&self->env.tool, 0, KVMI_VCPU_GET_MTRR_TYPE,
			       &req, sizeof(req));
}

/* The next number, and a good mixture of it */
static uint64_t rnd(FIXTURE_DATA(mtrr) *self)
{
	self->random = self->random * 6364136223846793005ull +
		       1442695040888963407ull;

	return self->random >> 33 ^ self->random << 13;
}

static uint8_t rnd_type(FIXTURE_DATA(mtrr) *self)
{
	return types[rnd(self) % ARRAY_SIZE(types)];
}

static void set_range(FIXTURE_DATA(mtrr) *self, int i, uint64_t base,
		      uint64_t size, uint8_t type)
{
	uint64_t pa_mask = (1ull << self->pa_bits) - 1;

	self->m.base[i] = (base & pa_mask & ~0xfffull) | type;
	self->m.mask[i] = (~(size - 1) & pa_mask) | PHYSMASK_V;
}

/* ---- the tests ---- */

TEST_F_TIMEOUT(mtrr, at_reset, KVMI_TEST_TIMEOUT)
{
	ask(self, 0);
	ask(self, 0xfffff);
	ask(self, 0x100000);
	ask(self, ~0ull);
	collect(self);
}

/* Every page of the first megabyte, with all settings of the enable bits. */
TEST_F_TIMEOUT(mtrr, fixed_ranges, KVMI_TEST_TIMEOUT)
{
	static const uint64_t enable[] = {
		DEF_TYPE_E | DEF_TYPE_FE, DEF_TYPE_E, DEF_TYPE_FE, 0,
	};
	struct mtrrs *m = &self->m;
	uint64_t gpa;
	int e, i, j;

	for (e = 0; e < ARRAY_SIZE(enable); e++) {
		memset(m, 0, sizeof(*m));
		m->def_type = enable[e] | WB;
		for (i = 0; i < ARRAY_SIZE(fixed); i++)
			for (j = 0; j < 8; j++)
				m->fixed[i] |= (uint64_t)
					types[(i * 3 + j) % 5] << 8 * j;
		/* The fixed ranges win over this one. */
		set_range(self, 0, 0, 0x200000, WC);
		set_mtrrs(self);

		for (gpa = 0; gpa < 0x101000; gpa += 0x1000) {
			ask(self, gpa);
			ask(self, gpa + 0xfff);
		}
		ask(self, 0x1fffff);
		ask(self, 0x200000);
		collect(self);
	}
}

/* All sets of types that up to three ranges can have, over each default. */
TEST_F_TIMEOUT(mtrr, overlaps, KVMI_TEST_TIMEOUT)
{
	const uint64_t base = 0x80000000;
	struct mtrrs *m = &self->m;
	int a, b, c, d = 0;

	for (a = 0; a < 5; a++) {
		for (b = 0; b < 5; b++) {
			for (c = 0; c < 5; c++) {
				memset(m, 0, sizeof(*m));
				m->def_type = DEF_TYPE_E | types[d++ % 5];
				set_range(self, a, base, 0x400000, types[a]);
				set_range(self, 6, base, 0x200000, types[b]);
				set_range(self, 7, base, 0x100000, types[c]);
				set_mtrrs(self);
				ask(self, base - 1);
				ask(self, base);
				ask(self, base + 0xfffff);
				ask(self, base + 0x100000);
				ask(self, base + 0x1fffff);
				ask(self, base + 0x200000);
				ask(self, base + 0x3fffff);
				ask(self, base + 0x400000);
				collect(self);
			}
		}
	}
}

/* A range that is not valid does not count, nor one with a mask of holes more. */
TEST_F_TIMEOUT(mtrr, random, KVMI_TEST_TIMEOUT)
{
	struct mtrrs *m = &self->m;
	int round, i, j;

	for (round = 0; round < 60; round++) {
		memset(m, 0, sizeof(*m));
		m->def_type = DEF_TYPE_E | rnd_type(self) |
			      (rnd(self) & DEF_TYPE_FE);
		for (i = 0; i < ARRAY_SIZE(fixed); i++)
			for (j = 0; j < 8; j++)
				m->fixed[i] |= (uint64_t)rnd_type(self) << 8 * j;
		for (i = 0; i < NR_VAR; i++) {
			unsigned int bits = 12 + rnd(self) % (self->pa_bits - 12);

			set_range(self, i, rnd(self) & -(1ull << bits),
				  1ull << bits, rnd_type(self));
			if (!(rnd(self) % 4))
				m->mask[i] &= ~PHYSMASK_V;
			if (!(rnd(self) % 4))
				m->mask[i] &= ~((rnd(self) & rnd(self)) << 12);
		}
		set_mtrrs(self);

		for (i = 0; i < NR_VAR; i++) {
			uint64_t base = m->base[i] & ~0xfffull;
			uint64_t size = -(m->mask[i] & ~0xfffull);

			size &= (1ull << self->pa_bits) - 1;
			ask(self, base - 1);
			ask(self, base);
			ask(self, base + size / 2);
			ask(self, base + size - 1);
			ask(self, base + size);
			ask(self, (base & (m->mask[i] & ~0xfffull)) |
				  (rnd(self) & ~m->mask[i]));
		}
		for (i = 0; i < 10; i++)
			ask(self, rnd(self) << (rnd(self) % 32));
		collect(self);
	}
}

/* A guest without MTRRs has its memory cached. */
TEST_F_TIMEOUT(mtrr, no_mtrrs, KVMI_TEST_TIMEOUT)
{
	struct kvmi_vcpu_get_mtrr_type req = { .gpa = 0x100000 };
	struct kvmi_vcpu_get_mtrr_type_reply rpl;

	/* CPUID is for good once a vCPU has run. */
	kvmi_env_add_vcpu(&self->env, 1);
	vcpu_clear_cpuid_feature(self->env.run[1].vcpu, FEATURE_MTRR);
	TEST_ASSERT_EQ(__kvmi_vcpu_cmd(&self->env, 1, KVMI_VCPU_GET_MTRR_TYPE,
				       &req, sizeof(req), &rpl, sizeof(rpl)),
		       0);
	TEST_ASSERT_EQ(rpl.type, WB);
}

/* An address that the guest's processor does not have */
TEST_F_TIMEOUT(mtrr, beyond_physical, KVMI_TEST_TIMEOUT)
{
	struct kvmi_vcpu_get_mtrr_type_reply rpl;
	unsigned int bit;

	kvmi_runner_go(&self->env.run[0]);
	for (bit = self->pa_bits - 1; bit < 64; bit++) {
		struct kvmi_vcpu_get_mtrr_type req = { .gpa = 1ull << bit };
		int err;

		err = __kvmi_vcpu_cmd(&self->env, 0, KVMI_VCPU_GET_MTRR_TYPE,
				      &req, sizeof(req), &rpl, sizeof(rpl));
		TEST_ASSERT(err == (bit < self->pa_bits ? 0 : -KVM_EINVAL),
			    "bit %u: error %d", bit, err);
	}
}

int main(int argc, char *argv[])
{
	TEST_REQUIRE(kvmi_supported());

	return test_harness_run(argc, argv);
}
