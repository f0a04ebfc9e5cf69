// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM introspection: a restriction belongs to a guest page number, not to the
 * memslot that happens to be there.
 */
#include "test_util.h"
#include "kvm_util.h"
#include "kselftest_harness.h"
#include "kvmi_util.h"

#define R	KVMI_PAGE_ACCESS_R
#define W	KVMI_PAGE_ACCESS_W
#define X	KVMI_PAGE_ACCESS_X

#define SIZE	(KVMI_TEST_PAGES * PAGE_SIZE)

/* where the memslot is moved to, and how the guest sees that place */
#define OTHER_GPA	(KVMI_TEST_GPA + 0x1000000)
#define OTHER_GVA	(KVMI_TEST_GVA + 0x1000000)

FIXTURE(memslot)
{
	struct kvmi_env env;
};

FIXTURE_SETUP(memslot)
{
	struct kvmi_env *env = &self->env;
	int i;

	kvmi_env_create(env, 2);
	virt_map(env->vm, OTHER_GVA, OTHER_GPA, 2 * KVMI_TEST_PAGES);
	kvmi_env_hook(env);
	for (i = 0; i < 2; i++)
		kvmi_control_event(env, i, KVMI_VCPU_EVENT_PF, true);
}

FIXTURE_TEARDOWN(memslot)
{
	kvmi_env_destroy(&self->env);
}

static void delete_slot(struct kvmi_env *env)
{
	vm_set_user_memory_region(env->vm, KVMI_TEST_SLOT, 0, KVMI_TEST_GPA, 0,
				  env->hva);
}

static void create_slot(struct kvmi_env *env, uint64_t gpa)
{
	vm_set_user_memory_region(env->vm, KVMI_TEST_SLOT, 0, gpa, SIZE,
				  env->hva);
}

/* Moving is a slot's creation where it exists already. */
#define move_slot	create_slot

/* One write, with @nr events for @gpa. */
static void write_expect(struct kvmi_env *env, unsigned int vcpu, uint64_t gva,
			 uint64_t gpa, unsigned int nr)
{
	struct kvmi_recs recs = { .action = KVMI_EVENT_ACTION_CONTINUE };
	static uint64_t val = 0x10000;

	kvmi_env_access(env, vcpu, kvmi_insn_write, gva, ++val, kvmi_record,
			&recs, NULL);
	TEST_ASSERT(recs.nr == nr, "gva %#lx: %u events, want %u", gva, recs.nr,
		    nr);
	if (nr)
		TEST_ASSERT(recs.ev[0].pf.gpa == gpa &&
			    recs.ev[0].pf.access == W &&
			    kvmi_gva_valid(&recs.ev[0], gva),
			    "gpa %#llx gva %#llx access %u, want %#lx %#lx",
			    recs.ev[0].pf.gpa, recs.ev[0].pf.gva,
			    recs.ev[0].pf.access, gpa, gva);
}

static void write_page(struct kvmi_env *env, unsigned int page, unsigned int nr)
{
	write_expect(env, 0, kvmi_gva(page, 8), kvmi_gpa(page, 8), nr);
	write_expect(env, 1, kvmi_gva(page, 16), kvmi_gpa(page, 16), nr);
}

TEST_F_TIMEOUT(memslot, removed_and_added, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	int i;

	kvmi_set_page_access(&env->tool, kvmi_gpa(2, 0), R);
	kvmi_set_page_access(&env->tool, kvmi_gpa(3, 0), R);
	for (i = 0; i < 3; i++) {
		write_page(env, 2, 1);
		write_page(env, 4, 0);
		delete_slot(env);
		create_slot(env, KVMI_TEST_GPA);
		write_page(env, 2, 1);
		write_page(env, 4, 0);
		write_page(env, 3, 1);
	}

	kvmi_set_page_access(&env->tool, kvmi_gpa(2, 0), KVMI_ACCESS_ALL);
	delete_slot(env);
	create_slot(env, KVMI_TEST_GPA);
	write_page(env, 2, 0);
	write_page(env, 3, 1);
}

/* The pages are not there to be restricted, and the guest sees a device. */
TEST_F_TIMEOUT(memslot, removed, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_runner *r = &env->run[0];

	kvmi_set_page_access(&env->tool, kvmi_gpa(2, 0), R);
	delete_slot(env);
	TEST_ASSERT_EQ(__kvmi_set_page_access(&env->tool, kvmi_gpa(3, 0), R),
		       -KVM_EINVAL);

	kvmi_runner_do(r, kvmi_insn_write, kvmi_gva(2, 0), 0x77);
	kvmi_runner_wait(r);
	TEST_ASSERT_EQ(r->nr_io, 1);
	TEST_ASSERT_EQ(r->io_data, 0x77);
	kvmi_no_event(&env->tool);

	create_slot(env, KVMI_TEST_GPA);
	write_page(env, 2, 1);
	write_page(env, 3, 0);
}

/* A smaller slot, without the restricted page, and a larger one again */
TEST_F_TIMEOUT(memslot, resized, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;

	kvmi_set_page_access(&env->tool, kvmi_gpa(8, 0), R);
	delete_slot(env);
	vm_set_user_memory_region(env->vm, KVMI_TEST_SLOT, 0, KVMI_TEST_GPA,
				  8 * PAGE_SIZE, env->hva);
	write_page(env, 7, 0);
	delete_slot(env);
	create_slot(env, KVMI_TEST_GPA);
	write_page(env, 8, 1);
}

/* Two slots where there was one, with another number for each */
TEST_F_TIMEOUT(memslot, split, KVMI_TEST_TIMEOUT)
{
	const unsigned int slot = KVMI_TEST_SLOT + 1;
	struct kvmi_env *env = &self->env;

	kvmi_set_page_access(&env->tool, kvmi_gpa(7, 0), R);
	kvmi_set_page_access(&env->tool, kvmi_gpa(8, 0), R);
	delete_slot(env);
	vm_set_user_memory_region(env->vm, slot, 0, kvmi_gpa(8, 0),
				  SIZE - 8 * PAGE_SIZE, kvmi_hva(env, 8, 0));
	vm_set_user_memory_region(env->vm, slot + 1, 0, KVMI_TEST_GPA,
				  8 * PAGE_SIZE, env->hva);
	write_page(env, 6, 0);
	write_page(env, 7, 1);
	write_page(env, 8, 1);
	write_page(env, 9, 0);

	vm_set_user_memory_region(env->vm, slot, 0, kvmi_gpa(8, 0), 0,
				  kvmi_hva(env, 8, 0));
	vm_set_user_memory_region(env->vm, slot + 1, 0, KVMI_TEST_GPA, 0,
				  env->hva);
	create_slot(env, KVMI_TEST_GPA);
}

TEST_F_TIMEOUT(memslot, moved, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	int i;

	kvmi_set_page_access(&env->tool, kvmi_gpa(2, 0), R);
	for (i = 0; i < 3; i++) {
		write_page(env, 2, 1);
		/* Elsewhere, the same memory is not restricted, */
		move_slot(env, OTHER_GPA);
		write_expect(env, 0, OTHER_GVA + 2 * PAGE_SIZE, 0, 0);
		write_expect(env, 1, OTHER_GVA + 2 * PAGE_SIZE, 0, 0);
		/* and here again it is. */
		move_slot(env, KVMI_TEST_GPA);
	}
	write_page(env, 2, 1);

	/* The tool restricts the new place, as well. */
	move_slot(env, OTHER_GPA);
	kvmi_set_page_access(&env->tool, OTHER_GPA + 5 * PAGE_SIZE, R);
	TEST_ASSERT_EQ(__kvmi_set_page_access(&env->tool, kvmi_gpa(5, 0), R),
		       -KVM_EINVAL);
	write_expect(env, 0, OTHER_GVA + 5 * PAGE_SIZE,
		     OTHER_GPA + 5 * PAGE_SIZE, 1);
	move_slot(env, KVMI_TEST_GPA);
	write_page(env, 5, 0);
	write_page(env, 2, 1);
}

/* Moved by less than its size: another page comes under the restriction. */
TEST_F_TIMEOUT(memslot, moved_by_pages, KVMI_TEST_TIMEOUT)
{
	const uint64_t gpa = OTHER_GPA + KVMI_TEST_PAGES * PAGE_SIZE;
	const uint64_t gva = OTHER_GVA + KVMI_TEST_PAGES * PAGE_SIZE;
	struct kvmi_env *env = &self->env;
	int i, page;

	move_slot(env, gpa);
	kvmi_set_page_access(&env->tool, gpa, R);
	for (i = 0; i < 6; i++) {
		/* Now the gfn is i pages into the slot, */
		move_slot(env, gpa - i * PAGE_SIZE);
		for (page = 0; page < 8; page++) {
			uint64_t off = (page - i) * PAGE_SIZE;

			*(uint64_t *)kvmi_hva(env, page, 0) = 0;
			write_expect(env, 0, gva + off, gpa + off, page == i);
			/* as the memory that was written shows. */
			TEST_ASSERT(*(uint64_t *)kvmi_hva(env, page, 0),
				    "page %d not written", page);
		}
	}
}

TEST_F_TIMEOUT(memslot, flags, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	uint64_t bitmap;
	int i;

	kvmi_set_page_access(&env->tool, kvmi_gpa(2, 0), R);
	write_page(env, 2, 1);
	write_page(env, 3, 0);
	for (i = 0; i < 3; i++) {
		vm_mem_region_set_flags(env->vm, KVMI_TEST_SLOT,
					KVM_MEM_LOG_DIRTY_PAGES);
		kvm_vm_get_dirty_log(env->vm, KVMI_TEST_SLOT, &bitmap);
		write_page(env, 2, 1);
		write_page(env, 3, 0);
		kvm_vm_get_dirty_log(env->vm, KVMI_TEST_SLOT, &bitmap);
		/* Both are written to, one way or the other. */
		TEST_ASSERT_EQ(bitmap, 1 << 2 | 1 << 3);

		/* Write-protected anew by the log, and still restricted */
		write_page(env, 2, 1);
		write_page(env, 3, 0);
		vm_mem_region_set_flags(env->vm, KVMI_TEST_SLOT, 0);
		write_page(env, 2, 1);
		write_page(env, 3, 0);
	}

	/* Restricted and released while the log is on */
	vm_mem_region_set_flags(env->vm, KVMI_TEST_SLOT,
				KVM_MEM_LOG_DIRTY_PAGES);
	kvmi_set_page_access(&env->tool, kvmi_gpa(2, 0), KVMI_ACCESS_ALL);
	kvmi_set_page_access(&env->tool, kvmi_gpa(4, 0), R);
	kvm_vm_get_dirty_log(env->vm, KVMI_TEST_SLOT, &bitmap);
	write_page(env, 2, 0);
	write_page(env, 4, 1);
	kvm_vm_get_dirty_log(env->vm, KVMI_TEST_SLOT, &bitmap);
	TEST_ASSERT_EQ(bitmap, 1 << 2 | 1 << 4);
	vm_mem_region_set_flags(env->vm, KVMI_TEST_SLOT, 0);
	write_page(env, 2, 0);
	write_page(env, 4, 1);
}

/* ---- while an event waits for its answer ---- */

static void update_others(void *arg)
{
	struct kvmi_env *env = arg;
	uint64_t bitmap;
	int i;

	for (i = 0; i < 5; i++) {
		vm_userspace_mem_region_add(env->vm, VM_MEM_SRC_ANONYMOUS,
					    OTHER_GPA, KVMI_TEST_SLOT + 1, 8, 0);
		vm_mem_region_set_flags(env->vm, KVMI_TEST_SLOT,
					KVM_MEM_LOG_DIRTY_PAGES);
		kvm_vm_get_dirty_log(env->vm, KVMI_TEST_SLOT, &bitmap);
		vm_mem_region_set_flags(env->vm, KVMI_TEST_SLOT, 0);
		vm_mem_region_delete(env->vm, KVMI_TEST_SLOT + 1);
	}
}

static void replace_slot(void *arg)
{
	delete_slot(arg);
	create_slot(arg, KVMI_TEST_GPA);
}

static void delete_only(void *arg)
{
	delete_slot(arg);
}

static void wait_for_write(struct kvmi_env *env, struct kvmi_event *ev)
{
	kvmi_set_page_access(&env->tool, kvmi_gpa(2, 0), R);
	kvmi_runner_do(&env->run[0], kvmi_insn_write, kvmi_gva(2, 8), 0xabc);
	kvmi_wait_event(&env->tool, KVMI_VCPU_EVENT_PF, ev);
}

TEST_F_TIMEOUT(memslot, updates_while_waiting, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_event ev;
	int i;

	for (i = 0; i < 2; i++) {
		wait_for_write(env, &ev);
		kvmi_must_return("an update of other memslots", update_others,
				 env);
		kvmi_must_return("the memslot's replacement", replace_slot, env);
		TEST_ASSERT(!kvmi_runner_poll(&env->run[0], 0), "gone on");
		write_expect(env, 1, kvmi_gva(2, 16), kvmi_gpa(2, 16), 1);

		kvmi_reply(&env->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
		kvmi_runner_wait(&env->run[0]);
		TEST_ASSERT_EQ(*(uint64_t *)kvmi_hva(env, 2, 8), 0xabc);
		kvmi_no_event(&env->tool);
	}
}

/* When the answer comes, the page has gone: the write is a device's. */
TEST_F_TIMEOUT(memslot, removed_while_waiting, KVMI_TEST_TIMEOUT)
{
	static const uint8_t actions[] = {
		KVMI_EVENT_ACTION_CONTINUE, KVMI_EVENT_ACTION_RETRY,
	};
	struct kvmi_env *env = &self->env;
	struct kvmi_runner *r = &env->run[0];
	struct kvmi_event ev;
	int i;

	for (i = 0; i < ARRAY_SIZE(actions); i++) {
		r->nr_io = r->io_data = 0;
		*(uint64_t *)kvmi_hva(env, 2, 8) = 1;
		wait_for_write(env, &ev);
		kvmi_must_return("the memslot's removal", delete_only, env);
		kvmi_reply(&env->tool, &ev, actions[i]);
		kvmi_runner_wait(r);
		TEST_ASSERT_EQ(r->nr_io, 1);
		TEST_ASSERT_EQ(r->io_data, 0xabc);
		TEST_ASSERT_EQ(*(uint64_t *)kvmi_hva(env, 2, 8), 1);
		create_slot(env, KVMI_TEST_GPA);
	}
	kvmi_no_event(&env->tool);
}

/* A guest that keeps writing while its memory comes and goes */
TEST_F_TIMEOUT(memslot, updates_while_running, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_runner *r = &env->run[0];
	struct kvmi_event ev;
	int i;

	*(uint64_t *)kvmi_hva(env, 5, 0) = 0;
	kvmi_runner_do(r, kvmi_insn_spin, kvmi_gva(5, 0), 1);
	for (i = 0; i < 20; i++) {
		kvmi_set_page_access(&env->tool, kvmi_gpa(2, 0), i & 1 ? R : X);
		move_slot(env, OTHER_GPA);
		/* What the guest reads in between is a device's answer, 0. */
		move_slot(env, KVMI_TEST_GPA);
		write_expect(env, 1, kvmi_gva(2, 0), kvmi_gpa(2, 0), 1);
	}
	kvmi_set_page_access(&env->tool, kvmi_gpa(5, 0), W | X);
	kvmi_wait_event(&env->tool, KVMI_VCPU_EVENT_PF, &ev);
	TEST_ASSERT(ev.vcpu == 0 && ev.pf.gpa == kvmi_gpa(5, 0), "vcpu %u gpa %#llx",
		    ev.vcpu, ev.pf.gpa);
	*(uint64_t *)kvmi_hva(env, 5, 0) = 1;
	kvmi_reply(&env->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	kvmi_runner_wait(r);
}

int main(int argc, char *argv[])
{
	TEST_REQUIRE(kvmi_supported());

	return test_harness_run(argc, argv);
}
