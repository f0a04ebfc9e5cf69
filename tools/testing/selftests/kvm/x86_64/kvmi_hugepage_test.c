// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM introspection: restricting one 4K page costs the large mapping that it
 * is in, and no other, and only for as long as the restriction lasts.
 */
#include "test_util.h"
#include "kvm_util.h"
#include "kselftest_harness.h"
#include "kvmi_util.h"

#define R	KVMI_PAGE_ACCESS_R
#define W	KVMI_PAGE_ACCESS_W
#define X	KVMI_PAGE_ACCESS_X

#define NR_HUGE		8
#define HUGE_SIZE	PG_SIZE_2M
#define HUGE_SLOT	(KVMI_TEST_SLOT + 1)
#define HUGE_GPA	0x80000000ull
#define HUGE_GVA	(KVMI_TEST_GVA + 0x80000000ull)

#define NR_HUGEPAGES_FILE \
	"/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"

FIXTURE(hugepage)
{
	struct kvmi_env env;
	void *hva;
	long old_nr_hugepages;
};

FIXTURE_VARIANT(hugepage)
{
	enum vm_mem_backing_src_type src;
};

FIXTURE_VARIANT_ADD(hugepage, thp) { .src = VM_MEM_SRC_ANONYMOUS_THP };
FIXTURE_VARIANT_ADD(hugepage, hugetlb) {
	.src = VM_MEM_SRC_ANONYMOUS_HUGETLB_2MB
};

static long read_long(const char *path)
{
	FILE *f = fopen(path, "r");
	long val = -1;

	if (!f)
		return -1;
	if (fscanf(f, "%ld", &val) != 1)
		val = -1;
	fclose(f);

	return val;
}

static void write_long(const char *path, long val)
{
	FILE *f = fopen(path, "w");

	if (!f)
		return;
	fprintf(f, "%ld", val);
	fclose(f);
}

/* How much of [@hva, @hva + @size) do huge pages back? */
static size_t thp_backed(void *hva, size_t size)
{
	unsigned long start, end, kb;
	size_t total = 0;
	bool inside = false;
	char line[256];
	FILE *f = fopen("/proc/self/smaps", "r");

	TEST_ASSERT(f, "smaps");
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			inside = start < (unsigned long)hva + size &&
				 end > (unsigned long)hva;
		else if (inside && sscanf(line, "AnonHugePages: %lu", &kb) == 1)
			total += kb * 1024;
	}
	fclose(f);

	return total;
}

static uint64_t nr_2m(struct kvmi_env *env)
{
	return vm_get_stat(env->vm, "pages_2m");
}

static uint64_t touch(struct kvmi_env *env, unsigned int huge,
		      unsigned int small, uint64_t val)
{
	struct kvmi_recs recs = { .action = KVMI_EVENT_ACTION_CONTINUE };

	kvmi_env_access(env, 0, kvmi_insn_add,
			HUGE_GVA + huge * HUGE_SIZE + small * PAGE_SIZE, val,
			kvmi_record, &recs, NULL);

	return recs.nr;
}

static void touch_all(struct kvmi_env *env)
{
	int i;

	for (i = 0; i < NR_HUGE; i++)
		TEST_ASSERT_EQ(touch(env, i, 0, 1), 0);
}

static void expect_2m(struct kvmi_env *env, unsigned int want, const char *when)
{
	uint64_t nr = nr_2m(env);

	TEST_ASSERT(nr == want, "%s: %lu pages of 2M, want %u", when, nr, want);
}

FIXTURE_SETUP(hugepage)
{
	struct kvmi_env *env = &self->env;
	const size_t size = NR_HUGE * HUGE_SIZE;

	self->old_nr_hugepages = -1;
	if (variant->src == VM_MEM_SRC_ANONYMOUS_THP) {
		if (!thp_configured())
			SKIP(return, "no transparent huge pages in this kernel");
	} else {
		self->old_nr_hugepages = read_long(NR_HUGEPAGES_FILE);
		write_long(NR_HUGEPAGES_FILE,
			   self->old_nr_hugepages + NR_HUGE);
		if (self->old_nr_hugepages < 0)
			SKIP(return, "no 2M pages in this kernel");
		if (read_long(NR_HUGEPAGES_FILE) <
		    self->old_nr_hugepages + NR_HUGE) {
			write_long(NR_HUGEPAGES_FILE, self->old_nr_hugepages);
			SKIP(return, "no memory for %u pages of 2M", NR_HUGE);
		}
	}

	kvmi_env_create(env, 2);
	vm_userspace_mem_region_add(env->vm, variant->src, HUGE_GPA, HUGE_SLOT,
				    size / PAGE_SIZE, 0);
	self->hva = addr_gpa2hva(env->vm, HUGE_GPA);
	/* Shadow paging has large pages where the guest has. */
	virt_map_level(env->vm, HUGE_GVA, HUGE_GPA, size, PG_LEVEL_2M);
	memset(self->hva, 0, size);
	if (variant->src == VM_MEM_SRC_ANONYMOUS_THP &&
	    thp_backed(self->hva, size) < size)
		SKIP(return, "the kernel has not provided transparent huge pages");

	kvmi_env_hook(env);
	kvmi_control_event(env, 0, KVMI_VCPU_EVENT_PF, true);
	kvmi_control_event(env, 1, KVMI_VCPU_EVENT_PF, true);

	TEST_ASSERT_EQ(nr_2m(env), 0);
	touch_all(env);
	expect_2m(env, NR_HUGE, "before any restriction");
}

FIXTURE_TEARDOWN(hugepage)
{
	kvmi_env_destroy(&self->env);
	if (self->old_nr_hugepages >= 0)
		write_long(NR_HUGEPAGES_FILE, self->old_nr_hugepages);
}

static void restrict_page(struct kvmi_env *env, unsigned int huge,
			  unsigned int small, uint8_t access)
{
	kvmi_set_page_access(&env->tool,
			     HUGE_GPA + huge * HUGE_SIZE + small * PAGE_SIZE,
			     access);
}

TEST_F_TIMEOUT(hugepage, one_page, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	unsigned int access, small;

	for (access = 0; access < KVMI_ACCESS_ALL; access++) {
		restrict_page(env, 3, 77, access);
		/* This one large page is lost, the others stay mapped. */
		expect_2m(env, NR_HUGE - 1, "restricted");
		touch_all(env);
		expect_2m(env, NR_HUGE - 1, "restricted and touched");

		/* Its neighbours work, in small pages. */
		for (small = 0; small < 512; small += 73)
			TEST_ASSERT_EQ(touch(env, 3, small, 1), 0);
		TEST_ASSERT_EQ(touch(env, 3, 76, 1), 0);
		TEST_ASSERT_EQ(touch(env, 3, 78, 1), 0);
		TEST_ASSERT_EQ(touch(env, 3, 77, 1),
			       !(access & R) + !(access & W));
		TEST_ASSERT(vm_get_stat(env->vm, "pages_4k") > 0, "no 4K page");
		expect_2m(env, NR_HUGE - 1, "with small pages");

		restrict_page(env, 3, 77, KVMI_ACCESS_ALL);
		TEST_ASSERT_EQ(touch(env, 3, 77, 1), 0);
		TEST_ASSERT_EQ(touch(env, 3, 5, 1), 0);
		expect_2m(env, NR_HUGE, "regained");
	}
}

/* The first access after a restriction goes to a page that is mapped small. */
TEST_F_TIMEOUT(hugepage, regained_by_neighbour, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;

	restrict_page(env, 2, 0, R | X);
	touch(env, 2, 1, 1);
	touch(env, 2, 0, 1);
	expect_2m(env, NR_HUGE - 1, "restricted");
	restrict_page(env, 2, 0, KVMI_ACCESS_ALL);
	touch(env, 2, 1, 1);
	expect_2m(env, NR_HUGE, "regained");
	TEST_ASSERT_EQ(touch(env, 2, 300, 1), 0);
	TEST_ASSERT_EQ(touch(env, 2, 0, 1), 0);
	TEST_ASSERT_EQ(touch(env, 2, 1, 1), 0);
	expect_2m(env, NR_HUGE, "all touched");
}

/* Several restrictions in one range: the last to go brings it back. */
TEST_F_TIMEOUT(hugepage, last_restriction, KVMI_TEST_TIMEOUT)
{
	static const unsigned int pages[] = { 0, 1, 255, 511 };
	struct kvmi_env *env = &self->env;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(pages); i++) {
		restrict_page(env, 5, pages[i], R);
		restrict_page(env, 5, pages[i], R | X);
	}
	expect_2m(env, NR_HUGE - 1, "restricted");

	for (i = 0; i < ARRAY_SIZE(pages); i++) {
		TEST_ASSERT_EQ(touch(env, 5, pages[i], 1), 1);
		TEST_ASSERT_EQ(touch(env, 5, 100, 1), 0);
		expect_2m(env, NR_HUGE - 1, "restricted and touched");
		restrict_page(env, 5, pages[i], KVMI_ACCESS_ALL);
		restrict_page(env, 5, pages[i], KVMI_ACCESS_ALL);
		TEST_ASSERT_EQ(touch(env, 5, pages[i], 1), 0);
	}
	TEST_ASSERT_EQ(touch(env, 5, 100, 1), 0);
	expect_2m(env, NR_HUGE, "regained");
}

/* At the seam of two large pages */
TEST_F_TIMEOUT(hugepage, each_range_for_itself, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;

	restrict_page(env, 1, 511, R);
	expect_2m(env, NR_HUGE - 1, "end of one");
	restrict_page(env, 2, 0, R);
	expect_2m(env, NR_HUGE - 2, "and start of the next");
	restrict_page(env, 1, 511, KVMI_ACCESS_ALL);
	TEST_ASSERT_EQ(touch(env, 1, 511, 1), 0);
	TEST_ASSERT_EQ(touch(env, 2, 0, 1), 1);
	expect_2m(env, NR_HUGE - 1, "one back");
	restrict_page(env, 2, 0, KVMI_ACCESS_ALL);
	TEST_ASSERT_EQ(touch(env, 2, 0, 1), 0);
	expect_2m(env, NR_HUGE, "both back");
}

/*
 * A memslot that comes with a restriction in it is mapped as large as possible
 * everywhere else, and so is one that is moved away from the restriction.
 */
TEST_F_TIMEOUT(hugepage, memslot_replaced, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	int i;

	restrict_page(env, 0, 0, R);
	expect_2m(env, NR_HUGE - 1, "restricted");
	for (i = 0; i < 2; i++) {
		vm_set_user_memory_region(env->vm, HUGE_SLOT, 0, HUGE_GPA, 0,
					  self->hva);
		expect_2m(env, 0, "without the slot");
		vm_set_user_memory_region(env->vm, HUGE_SLOT, 0, HUGE_GPA,
					  NR_HUGE * HUGE_SIZE, self->hva);
		TEST_ASSERT_EQ(touch(env, 0, 0, 1), 1);
		TEST_ASSERT_EQ(touch(env, 0, 1, 1), 0);
		for (int j = 1; j < NR_HUGE; j++)
			TEST_ASSERT_EQ(touch(env, j, 0, 1), 0);
		expect_2m(env, NR_HUGE - 1, "with the slot again");
	}

	restrict_page(env, 0, 0, KVMI_ACCESS_ALL);
	TEST_ASSERT_EQ(touch(env, 0, 0, 1), 0);
	expect_2m(env, NR_HUGE, "regained");
}

/* The tool's end, not only its good will, brings them back. */
TEST_F_TIMEOUT(hugepage, tool_gone, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	int i;

	for (i = 0; i < 2; i++) {
		restrict_page(env, 4, 9, 0);
		restrict_page(env, 6, 9, R);
		expect_2m(env, NR_HUGE - 2, "restricted");
		/* Have small pages where the large ones were. */
		TEST_ASSERT_EQ(touch(env, 4, 8, 1), 0);
		TEST_ASSERT_EQ(touch(env, 6, 8, 1), 0);
		TEST_ASSERT_EQ(touch(env, 6, 9, 1), 1);
		expect_2m(env, NR_HUGE - 2, "restricted and touched");
		if (i)
			vm_kvmi_unhook(env->vm);
		kvmi_tool_close(&env->tool);
		/* HOOK waits for the old session's end. */
		kvmi_env_hook(env);
		kvmi_control_event(env, 0, KVMI_VCPU_EVENT_PF, true);
		TEST_ASSERT_EQ(touch(env, 4, 8, 1), 0);
		TEST_ASSERT_EQ(touch(env, 6, 8, 1), 0);
		expect_2m(env, NR_HUGE, "regained");
		TEST_ASSERT_EQ(touch(env, 4, 9, 1), 0);
		TEST_ASSERT_EQ(touch(env, 6, 9, 1), 0);
	}
}

int main(int argc, char *argv[])
{
	TEST_REQUIRE(kvmi_supported());

	return test_harness_run(argc, argv);
}
