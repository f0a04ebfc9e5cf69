// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM introspection: the tool reads and writes guest memory.
 */
#include <poll.h>
#include <sys/syscall.h>
#include <linux/userfaultfd.h>

#include "test_util.h"
#include "kvm_util.h"
#include "kselftest_harness.h"
#include "asm/barrier.h"
#include "kvmi_util.h"

FIXTURE(mem)
{
	struct kvmi_env env;
};

FIXTURE_SETUP(mem)
{
	kvmi_env_create(&self->env, 1);
	kvmi_env_hook(&self->env);
}

FIXTURE_TEARDOWN(mem)
{
	kvmi_env_destroy(&self->env);
}

static void fill(struct kvmi_env *env, uint8_t seed)
{
	uint8_t *p = env->hva;
	int i;

	for (i = 0; i < KVMI_TEST_PAGES * PAGE_SIZE; i++)
		p[i] = seed + i * 7 + (i >> 12);
}

/* offset in the page, size */
static const uint16_t ranges[][2] = {
	{ 0, 1 }, { 0, 8 }, { 0, PAGE_SIZE }, { 1, 1 }, { 3, 13 },
	{ 0x7ff, 2 }, { 1, PAGE_SIZE - 1 }, { PAGE_SIZE - 1, 1 },
	{ PAGE_SIZE - 2, 2 }, { 0x800, 0x800 },
};

TEST_F_TIMEOUT(mem, read, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	uint8_t buf[PAGE_SIZE + 1];
	int page, i;

	fill(env, 1);
	for (page = 0; page < KVMI_TEST_PAGES; page++) {
		for (i = 0; i < ARRAY_SIZE(ranges); i++) {
			uint16_t off = ranges[i][0], size = ranges[i][1];

			memset(buf, 0x55, sizeof(buf));
			TEST_ASSERT_EQ(__kvmi_read_physical(&env->tool,
							    kvmi_gpa(page, off),
							    size, buf), 0);
			TEST_ASSERT(!memcmp(buf, kvmi_hva(env, page, off), size),
				    "page %d offset %u size %u", page, off, size);
			TEST_ASSERT_EQ(buf[size], 0x55);
		}
	}
}

TEST_F_TIMEOUT(mem, write, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	uint8_t buf[PAGE_SIZE], *copy;
	const size_t total = KVMI_TEST_PAGES * PAGE_SIZE;
	int page, i;

	fill(env, 2);
	copy = malloc(total);
	memcpy(copy, env->hva, total);

	for (page = 0; page < KVMI_TEST_PAGES; page++) {
		for (i = 0; i < ARRAY_SIZE(ranges); i++) {
			uint16_t off = ranges[i][0], size = ranges[i][1];

			memset(buf, 0x80 + page * 8 + i, size);
			TEST_ASSERT_EQ(__kvmi_write_physical(&env->tool,
							     kvmi_gpa(page, off),
							     size, buf), 0);
			memcpy(copy + page * PAGE_SIZE + off, buf, size);
		}
		/* All of it, and nothing beside it. */
		TEST_ASSERT(!memcmp(env->hva, copy, total), "page %d", page);
	}
	free(copy);
}

/* The guest and the tool see the same memory. */
TEST_F_TIMEOUT(mem, guest, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_runner *r = &env->run[0];
	uint64_t val = 0x1122334455667788;

	kvmi_runner_do(r, kvmi_insn_write, kvmi_gva(3, 16), val);
	kvmi_runner_wait(r);
	val = 0;
	TEST_ASSERT_EQ(__kvmi_read_physical(&env->tool, kvmi_gpa(3, 16), 8,
					    &val), 0);
	TEST_ASSERT_EQ(val, 0x1122334455667788);

	val = 0x99aabbccddeeff00;
	TEST_ASSERT_EQ(__kvmi_write_physical(&env->tool, kvmi_gpa(3, 16), 8,
					     &val), 0);
	kvmi_runner_do(r, kvmi_insn_read, kvmi_gva(3, 16), 0);
	TEST_ASSERT_EQ(kvmi_runner_wait(r), val);
}

static int read_raw(struct kvmi_env *env, struct kvmi_vm_read_physical req)
{
	uint8_t buf[PAGE_SIZE];

	return __kvmi_cmd(&env->tool, KVMI_VM_READ_PHYSICAL, &req, sizeof(req),
			  buf, req.size);
}

/* Its request begins as a read's does. */
static int write_raw(struct kvmi_env *env, struct kvmi_vm_read_physical req)
{
	struct {
		struct kvmi_vm_read_physical req;
		uint8_t data[PAGE_SIZE + 16];
	} buf = { .req = req };

	memset(buf.data, 0xee, sizeof(buf.data));
	return __kvmi_cmd(&env->tool, KVMI_VM_WRITE_PHYSICAL, &buf, sizeof(buf),
			  NULL, 0);
}

#define READ(...)	read_raw(env, (struct kvmi_vm_read_physical){ __VA_ARGS__ })
#define WRITE(...)	write_raw(env, (struct kvmi_vm_read_physical){ __VA_ARGS__ })

#define BOTH(err, ...)							\
do {									\
	TEST_ASSERT_EQ(READ(__VA_ARGS__), err);				\
	TEST_ASSERT_EQ(WRITE(__VA_ARGS__), err);			\
} while (0)

TEST_F_TIMEOUT(mem, bad_requests, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	const uint64_t gpa = KVMI_TEST_GPA;
	uint8_t *copy = malloc(KVMI_TEST_PAGES * PAGE_SIZE);

	fill(env, 3);
	memcpy(copy, env->hva, KVMI_TEST_PAGES * PAGE_SIZE);

	/* size, alone and with the address */
	BOTH(-KVM_EINVAL, .gpa = gpa, .size = 0);
	BOTH(-KVM_EINVAL, .gpa = gpa, .size = PAGE_SIZE + 1);
	BOTH(-KVM_EINVAL, .gpa = gpa, .size = 0xffff);
	BOTH(-KVM_EINVAL, .gpa = gpa + 1, .size = PAGE_SIZE);
	BOTH(-KVM_EINVAL, .gpa = gpa + PAGE_SIZE - 1, .size = 2);
	BOTH(-KVM_EINVAL, .gpa = ~0ull, .size = 2);

	/* padding */
	BOTH(-KVM_EINVAL, .gpa = gpa, .size = 8, .padding1 = 1);
	BOTH(-KVM_EINVAL, .gpa = gpa, .size = 8, .padding2 = 1);
	BOTH(-KVM_EINVAL, .gpa = gpa, .size = 8, .padding2 = 0x80000000);

	/* no such page */
	BOTH(-KVM_ENOENT, .gpa = KVMI_NO_MEM_GPA, .size = 8);
	BOTH(-KVM_ENOENT, .gpa = gpa - 1, .size = 1);
	BOTH(-KVM_ENOENT, .gpa = gpa + KVMI_TEST_PAGES * PAGE_SIZE, .size = 1);
	BOTH(-KVM_ENOENT, .gpa = ~0ull, .size = 1);
	BOTH(-KVM_ENOENT, .gpa = 1ull << 52, .size = 1);
	BOTH(-KVM_ENOENT, .gpa = 1ull << 63, .size = PAGE_SIZE);

	TEST_ASSERT(!memcmp(env->hva, copy, KVMI_TEST_PAGES * PAGE_SIZE),
		    "a refused write has written");
	free(copy);

	/* The connection does not mind. */
	BOTH(0, .gpa = gpa, .size = 8);
	BOTH(0, .gpa = gpa + (KVMI_TEST_PAGES - 1) * PAGE_SIZE, .size = PAGE_SIZE);
}

/* Memory that the VMM has taken away from its own address space */
TEST_F_TIMEOUT(mem, unmapped, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	void *hole = kvmi_hva(env, 2, 0);

	TEST_ASSERT(!munmap(hole, PAGE_SIZE), "munmap()");
	BOTH(-KVM_ENOENT, .gpa = kvmi_gpa(2, 0), .size = 8);
	BOTH(0, .gpa = kvmi_gpa(1, 0), .size = 8);
	BOTH(0, .gpa = kvmi_gpa(3, 0), .size = 8);

	TEST_ASSERT(mmap(hole, PAGE_SIZE, PROT_READ,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == hole,
		    "mmap()");
	TEST_ASSERT_EQ(READ(.gpa = kvmi_gpa(2, 0), .size = 8), 0);
	TEST_ASSERT_EQ(WRITE(.gpa = kvmi_gpa(2, 0), .size = 8), -KVM_ENOENT);
	TEST_ASSERT_EQ(*(uint64_t *)hole, 0);

	TEST_ASSERT(!mprotect(hole, PAGE_SIZE, PROT_READ | PROT_WRITE),
		    "mprotect()");
	BOTH(0, .gpa = kvmi_gpa(2, 0), .size = 8);
}

/* Less data than announced: an error, and the connection lives. */
TEST_F_TIMEOUT(mem, short_write, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct {
		struct kvmi_vm_write_physical req;
		uint8_t data[64];
	} buf = { .req = { .gpa = KVMI_TEST_GPA, .size = 64 } };
	uint64_t *mem = kvmi_hva(env, 0, 0);
	int len;

	memset(buf.data, 0x5a, sizeof(buf.data));
	*mem = 0;
	for (len = 0; len < sizeof(buf.data); len += 21)
		TEST_ASSERT_EQ(__kvmi_cmd(&env->tool, KVMI_VM_WRITE_PHYSICAL,
					  &buf, sizeof(buf.req) + len, NULL, 0),
			       -KVM_EINVAL);
	TEST_ASSERT_EQ(*mem, 0);
	TEST_ASSERT_EQ(__kvmi_cmd(&env->tool, KVMI_VM_WRITE_PHYSICAL, &buf,
				  sizeof(buf), NULL, 0), 0);
	TEST_ASSERT_EQ(*mem, 0x5a5a5a5a5a5a5a5a);
}

/* The tool's writes are the guest's as far as live migration is concerned. */
TEST_F_TIMEOUT(mem, dirty_log, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	uint64_t bitmap;	/* KVMI_TEST_PAGES is not more than 64 */
	uint8_t buf[PAGE_SIZE] = { };
	int pass;

	/* Once with the page mapped writable in the guest, once without. */
	for (pass = 0; pass < 2; pass++) {
		if (pass) {
			kvmi_runner_do(&env->run[0], kvmi_insn_write,
				       kvmi_gva(5, 0), 1);
			kvmi_runner_wait(&env->run[0]);
		}

		vm_mem_region_set_flags(env->vm, KVMI_TEST_SLOT,
					KVM_MEM_LOG_DIRTY_PAGES);
		kvm_vm_get_dirty_log(env->vm, KVMI_TEST_SLOT, &bitmap);

		TEST_ASSERT_EQ(READ(.gpa = kvmi_gpa(2, 0), .size = 8), 0);
		kvm_vm_get_dirty_log(env->vm, KVMI_TEST_SLOT, &bitmap);
		TEST_ASSERT_EQ(bitmap, 0);

		TEST_ASSERT_EQ(__kvmi_write_physical(&env->tool,
						     kvmi_gpa(5, 100), 1, buf),
			       0);
		TEST_ASSERT_EQ(__kvmi_write_physical(&env->tool, kvmi_gpa(15, 0),
						     PAGE_SIZE, buf), 0);
		/* refused */
		TEST_ASSERT_EQ(__kvmi_write_physical(&env->tool, kvmi_gpa(7, 1),
						     PAGE_SIZE, buf),
			       -KVM_EINVAL);
		kvm_vm_get_dirty_log(env->vm, KVMI_TEST_SLOT, &bitmap);
		TEST_ASSERT_EQ(bitmap, 1 << 5 | 1 << 15);

		kvm_vm_get_dirty_log(env->vm, KVMI_TEST_SLOT, &bitmap);
		TEST_ASSERT_EQ(bitmap, 0);
		vm_mem_region_set_flags(env->vm, KVMI_TEST_SLOT, 0);
	}
}

/* Restrictions are for the guest. */
TEST_F_TIMEOUT(mem, restricted, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	uint64_t val = 0xabcd, got = 0;
	int access;

	kvmi_control_event(env, 0, KVMI_VCPU_EVENT_PF, true);
	for (access = 0; access <= KVMI_ACCESS_ALL; access++) {
		kvmi_set_page_access(&env->tool, kvmi_gpa(1, 0), access);
		val++;
		TEST_ASSERT_EQ(__kvmi_write_physical(&env->tool, kvmi_gpa(1, 8),
						     8, &val), 0);
		TEST_ASSERT_EQ(__kvmi_read_physical(&env->tool, kvmi_gpa(1, 8),
						    8, &got), 0);
		TEST_ASSERT_EQ(got, val);
		TEST_ASSERT_EQ(*(uint64_t *)kvmi_hva(env, 1, 8), val);
	}
	kvmi_no_event(&env->tool);
}

/* What is read-only for the guest, as ROM is, can only be read. */
TEST_F_TIMEOUT(mem, readonly_slot, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	uint64_t *data = kvmi_hva(env, 2, 0);
	uint64_t old;

	fill(env, 4);
	vm_set_user_memory_region(env->vm, KVMI_TEST_SLOT, 0, KVMI_TEST_GPA, 0,
				  env->hva);
	vm_set_user_memory_region(env->vm, KVMI_TEST_SLOT, KVM_MEM_READONLY,
				  KVMI_TEST_GPA, KVMI_TEST_PAGES * PAGE_SIZE,
				  env->hva);
	TEST_ASSERT_EQ(READ(.gpa = kvmi_gpa(2, 0), .size = 8), 0);
	old = *data;
	TEST_ASSERT_EQ(WRITE(.gpa = kvmi_gpa(2, 0), .size = 8), -KVM_ENOENT);
	TEST_ASSERT_EQ(*data, old);
}

/* ---- the dirty ring ---- */

#define RING_ENTRIES	1024
#define RING_SLOT	KVMI_TEST_SLOT	/* of address space 0 */

FIXTURE(ring)
{
	struct kvmi_env env;
	/* what has been taken from the rings */
	uint32_t next[2];
	unsigned int dirtied[KVMI_TEST_PAGES];
};

FIXTURE_SETUP(ring)
{
	struct kvmi_env *env = &self->env;
	int i;

	if (!kvm_has_cap(KVM_CAP_DIRTY_LOG_RING))
		SKIP(return, "no dirty ring");

	kvmi_env_create(env, 0);
	vm_enable_dirty_ring(env->vm,
			     RING_ENTRIES * sizeof(struct kvm_dirty_gfn));
	for (i = 0; i < 2; i++)
		kvmi_env_add_vcpu(env, i);
	kvmi_env_hook(env);
	vm_mem_region_set_flags(env->vm, KVMI_TEST_SLOT,
				KVM_MEM_LOG_DIRTY_PAGES);
}

FIXTURE_TEARDOWN(ring)
{
	kvmi_env_destroy(&self->env);
}

/* Takes all that is in the rings, and counts it. */
static unsigned int harvest(FIXTURE_DATA(ring) * self)
{
	unsigned int nr = 0;
	int i;

	memset(self->dirtied, 0, sizeof(self->dirtied));
	for (i = 0; i < 2; i++) {
		struct kvm_dirty_gfn *ring, *entry;

		ring = vcpu_map_dirty_ring(self->env.run[i].vcpu);
		for (;;) {
			entry = &ring[self->next[i] % RING_ENTRIES];
			/* pairs with smp_wmb() in kvm_dirty_ring_push() */
			if (smp_load_acquire(&entry->flags) !=
			    KVM_DIRTY_GFN_F_DIRTY)
				break;
			TEST_ASSERT_EQ(entry->slot, RING_SLOT);
			TEST_ASSERT(entry->offset < KVMI_TEST_PAGES,
				    "page %llu", entry->offset);
			self->dirtied[entry->offset]++;
			/* pairs with smp_load_acquire() in kvm_dirty_gfn_harvested() */
			smp_store_release(&entry->flags, KVM_DIRTY_GFN_F_RESET);
			self->next[i]++;
			nr++;
		}
	}
	TEST_ASSERT_EQ(kvm_vm_reset_dirty_ring(self->env.vm), nr);

	return nr;
}

static int ring_write(FIXTURE_DATA(ring) * self, unsigned int page,
		      uint64_t val)
{
	return __kvmi_write_physical(&self->env.tool, kvmi_gpa(page, 8),
				     sizeof(val), &val);
}

/* It is reported wherever the vCPUs are. */
static void check_ring(FIXTURE_DATA(ring) * self, unsigned int page)
{
	struct kvmi_env *env = &self->env;
	uint64_t val = 0x1000 + page;
	uint64_t got;

	TEST_ASSERT_EQ(ring_write(self, page, val), 0);
	TEST_ASSERT_EQ(*(uint64_t *)kvmi_hva(env, page, 8), val);
	TEST_ASSERT_EQ(harvest(self), 1);
	TEST_ASSERT_EQ(self->dirtied[page], 1);

	TEST_ASSERT_EQ(__kvmi_read_physical(&env->tool, kvmi_gpa(page, 8), 8,
					    &got), 0);
	TEST_ASSERT_EQ(__kvmi_write_physical(&env->tool, kvmi_gpa(page, 1),
					     PAGE_SIZE, env->hva), -KVM_EINVAL);
	TEST_ASSERT_EQ(harvest(self), 0);
}

TEST_F_TIMEOUT(ring, reported, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_runner *r = &env->run[0];
	struct kvmi_event ev;

	check_ring(self, 3);

	/* in the guest */
	kvmi_runner_do(r, kvmi_insn_spin, kvmi_gva(0, 0), 1);
	check_ring(self, 4);
	*(volatile uint64_t *)kvmi_hva(env, 0, 0) = 1;
	kvmi_runner_wait(r);
	harvest(self);

	/* waiting: it is this thread that reads what the tool sends */
	TEST_ASSERT_EQ(__kvmi_pause_vcpu(&env->tool, 0, false), 0);
	kvmi_runner_do(r, kvmi_insn_nop, 0, 0);
	kvmi_wait_event(&env->tool, KVMI_VCPU_EVENT_PAUSE, &ev);
	check_ring(self, 5);
	kvmi_reply(&env->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	kvmi_runner_wait(r);

	/* no log, no entry */
	vm_mem_region_set_flags(env->vm, KVMI_TEST_SLOT, 0);
	TEST_ASSERT_EQ(ring_write(self, 6, 1), 0);
	TEST_ASSERT_EQ(harvest(self), 0);
}

/* What cannot be reported is not written; the guest has to stop as well. */
TEST_F_TIMEOUT(ring, full, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	unsigned int nr = 0;
	int i, err;

	while (!(err = ring_write(self, 7, nr)))
		TEST_ASSERT(++nr < 2 * RING_ENTRIES, "never full");
	TEST_ASSERT_EQ(err, -KVM_EBUSY);
	TEST_ASSERT_EQ(*(uint64_t *)kvmi_hva(env, 7, 8), nr - 1);

	for (i = 0; i < 2; i++) {
		kvmi_runner_do(&env->run[i], kvmi_insn_nop, 0, 0);
		kvmi_runner_wait_exit(&env->run[i]);
		TEST_ASSERT_EQ(env->run[i].vcpu->run->exit_reason,
			       KVM_EXIT_DIRTY_RING_FULL);
	}
	TEST_ASSERT_EQ(harvest(self), nr);
	TEST_ASSERT_EQ(self->dirtied[7], nr);

	check_ring(self, 8);
	for (i = 0; i < 2; i++) {
		kvmi_runner_go(&env->run[i]);
		kvmi_runner_wait(&env->run[i]);
	}
}

/* The guest writes while the tool does: nothing is lost. */
TEST_F_TIMEOUT(ring, both_write, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_runner *r = &env->run[0];
	int round, page;

	for (round = 0; round < 50; round++) {
		r->req->arg = 8 * PAGE_SIZE / sizeof(uint64_t);
		kvmi_runner_do(r, kvmi_insn_stos, kvmi_gva(0, 0), round);
		for (page = 8; page < KVMI_TEST_PAGES; page++)
			TEST_ASSERT_EQ(ring_write(self, page, round), 0);
		kvmi_runner_wait(r);

		TEST_ASSERT_EQ(harvest(self), KVMI_TEST_PAGES);
		for (page = 0; page < KVMI_TEST_PAGES; page++)
			TEST_ASSERT_EQ(self->dirtied[page], 1);
	}
}

/* ---- memory that is not there yet ---- */

FIXTURE(missing)
{
	struct kvmi_env env;
	int uffd;
	uint8_t page[PAGE_SIZE];
};

FIXTURE_SETUP(missing)
{
	struct kvmi_env *env = &self->env;
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_MISSING };
	struct uffdio_api api = { .api = UFFD_API };

	self->uffd = syscall(__NR_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	if (self->uffd < 0)
		SKIP(return, "userfaultfd(): errno %d", errno);

	kvmi_env_create(env, 1);
	kvmi_env_hook(env);
	memset(self->page, 0x3c, sizeof(self->page));

	TEST_ASSERT(!ioctl(self->uffd, UFFDIO_API, &api), "UFFDIO_API");
	reg.range.start = (uintptr_t)env->hva;
	reg.range.len = KVMI_TEST_PAGES * PAGE_SIZE;
	TEST_ASSERT(!ioctl(self->uffd, UFFDIO_REGISTER, &reg),
		    "UFFDIO_REGISTER");
}

FIXTURE_TEARDOWN(missing)
{
	close(self->uffd);
	kvmi_env_destroy(&self->env);
}

/* Waits until somebody waits for the page at @hva. */
static void wait_missing(int uffd, void *hva)
{
	struct pollfd pfd = { .fd = uffd, .events = POLLIN };
	struct uffd_msg msg;

	TEST_ASSERT(poll(&pfd, 1, KVMI_TIMEOUT_MS) == 1, "no page was missed");
	TEST_ASSERT(read(uffd, &msg, sizeof(msg)) == sizeof(msg), "read()");
	TEST_ASSERT_EQ(msg.event, UFFD_EVENT_PAGEFAULT);
	TEST_ASSERT_EQ(align_down(msg.arg.pagefault.address, PAGE_SIZE),
		       (uintptr_t)hva);
}

static void provide(int uffd, void *hva, void *page)
{
	struct uffdio_copy copy = {
		.dst = (uintptr_t)hva, .src = (uintptr_t)page, .len = PAGE_SIZE,
	};
	int r = ioctl(uffd, UFFDIO_COPY, &copy);

	TEST_ASSERT(!r, __KVM_IOCTL_ERROR("UFFDIO_COPY", r));
}

static uint32_t send_read(struct kvmi_env *env, uint64_t gpa)
{
	struct kvmi_vm_read_physical req = { .gpa = gpa, .size = 8 };

	return kvmi_send(&env->tool, KVMI_VM_READ_PHYSICAL, &req, sizeof(req));
}

static uint32_t send_write(struct kvmi_env *env, uint64_t gpa)
{
	struct {
		struct kvmi_vm_write_physical req;
		uint8_t data[8];
	} req = { .req = { .gpa = gpa, .size = 8 }, .data = "abcdefg" };

	return kvmi_send(&env->tool, KVMI_VM_WRITE_PHYSICAL, &req, sizeof(req));
}

TEST_F_TIMEOUT(missing, provided, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	uint64_t val = 0;
	uint32_t seq;

	seq = send_read(env, kvmi_gpa(4, 0));
	wait_missing(self->uffd, kvmi_hva(env, 4, 0));
	kvmi_no_event(&env->tool);
	provide(self->uffd, kvmi_hva(env, 4, 0), self->page);
	TEST_ASSERT_EQ(__kvmi_recv_reply(&env->tool, KVMI_VM_READ_PHYSICAL, seq,
					 &val, 8), 0);
	TEST_ASSERT_EQ(val, 0x3c3c3c3c3c3c3c3c);

	seq = send_write(env, kvmi_gpa(5, 0));
	wait_missing(self->uffd, kvmi_hva(env, 5, 0));
	provide(self->uffd, kvmi_hva(env, 5, 0), self->page);
	TEST_ASSERT_EQ(__kvmi_recv_reply(&env->tool, KVMI_VM_WRITE_PHYSICAL,
					 seq, NULL, 0), 0);
	TEST_ASSERT(!memcmp(kvmi_hva(env, 5, 0), "abcdefg", 8), "not written");
}

/* The VM goes on while the tool waits for its page. */
static void update_memslots(void *arg)
{
	struct kvmi_env *env = arg;
	const uint64_t gpa = KVMI_TEST_GPA + 0x10000000;
	const uint32_t slot = KVMI_TEST_SLOT + 1;
	uint64_t bitmap;
	int i;

	for (i = 0; i < 3; i++) {
		vm_userspace_mem_region_add(env->vm, VM_MEM_SRC_ANONYMOUS, gpa,
					    slot, 4, 0);
		vm_mem_region_set_flags(env->vm, KVMI_TEST_SLOT,
					KVM_MEM_LOG_DIRTY_PAGES);
		kvm_vm_get_dirty_log(env->vm, KVMI_TEST_SLOT, &bitmap);
		vm_mem_region_set_flags(env->vm, KVMI_TEST_SLOT, 0);
		vm_mem_region_delete(env->vm, slot);
	}
}

TEST_F_TIMEOUT(missing, memslot_update, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	uint64_t val = 0;
	uint32_t seq;

	seq = send_read(env, kvmi_gpa(4, 0));
	wait_missing(self->uffd, kvmi_hva(env, 4, 0));

	kvmi_must_return("a memslot update", update_memslots, env);
	kvmi_runner_do(&env->run[0], kvmi_insn_nop, 0, 0);
	kvmi_runner_wait(&env->run[0]);

	provide(self->uffd, kvmi_hva(env, 4, 0), self->page);
	TEST_ASSERT_EQ(__kvmi_recv_reply(&env->tool, KVMI_VM_READ_PHYSICAL, seq,
					 &val, 8), 0);
	TEST_ASSERT_EQ(val, 0x3c3c3c3c3c3c3c3c);
}

static void unhook(void *arg)
{
	struct kvmi_env *env = arg;

	vm_kvmi_unhook(env->vm);
}

static void rehook(void *arg)
{
	struct kvmi_env *env = arg;

	kvmi_env_hook(env);
}

static void destroy(void *arg)
{
	struct kvmi_env *env = arg;

	kvm_vm_release(env->vm);
}

/* Every way to end a session ends the wait, too. */
TEST_F_TIMEOUT(missing, unhook, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	int i;

	for (i = 0; i < 2; i++) {
		if (i)
			send_write(env, kvmi_gpa(5, 0));
		else
			send_read(env, kvmi_gpa(4, 0));
		wait_missing(self->uffd, kvmi_hva(env, 4 + i, 0));
		kvmi_must_return("UNHOOK", unhook, env);
		kvmi_wait_closed(&env->tool);
		kvmi_tool_close(&env->tool);
		kvmi_env_hook(env);
		kvmi_alive(&env->tool);
	}
}

TEST_F_TIMEOUT(missing, tool_gone, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;

	send_read(env, kvmi_gpa(4, 0));
	wait_missing(self->uffd, kvmi_hva(env, 4, 0));
	kvmi_tool_close(&env->tool);
	kvmi_must_return("UNHOOK", unhook, env);

	kvmi_env_hook(env);
	send_write(env, kvmi_gpa(5, 0));
	wait_missing(self->uffd, kvmi_hva(env, 5, 0));
	kvmi_tool_close(&env->tool);
	kvmi_must_return("HOOK", rehook, env);
	kvmi_alive(&env->tool);
}

TEST_F_TIMEOUT(missing, vm_gone, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;

	send_read(env, kvmi_gpa(4, 0));
	wait_missing(self->uffd, kvmi_hva(env, 4, 0));

	/* Only the VM goes; its memory stays mapped, and missing. */
	kvmi_runner_stop(&env->run[0]);
	env->nr_vcpus = 0;
	kvmi_must_return("the VM's end", destroy, env);
	kvmi_wait_closed(&env->tool);

	kvmi_env_create(env, 1);
}

int main(int argc, char *argv[])
{
	TEST_REQUIRE(kvmi_supported());

	return test_harness_run(argc, argv);
}
