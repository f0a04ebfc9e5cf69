// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM introspection: a guest with system management mode, which has an address
 * space of its own.  What is set for the normal one has no effect there, nor is
 * it lost.
 */
#include "test_util.h"
#include "kvm_util.h"
#include "kselftest_harness.h"
#include "kvmi_util.h"

#define CONTINUE	KVMI_EVENT_ACTION_CONTINUE
#define DONE		0xd07eull

/*
 * SMRAM lies where the test pages are in the normal address space.  All other
 * memory is the same in both.
 */
#define SMRAM_GPA	KVMI_TEST_GPA
#define SMRAM_SIZE	(KVMI_TEST_PAGES * PAGE_SIZE)
#define SMM_SLOT(n)	(1 << 16 | (n))

#define HANDLER		0x8000
#define ENTERED		0x9000	/* the handler sets it */
#define GO_ON		0x9100	/* and waits for this one */
#define STORE		0x33445566u

/* Before the state that is saved at the end of SMRAM */
#define SMRAM_PAGE	0

FIXTURE(smm)
{
	struct kvmi_env env;
	struct kvmi_runner *r;
	uint8_t *smram;
	/* in both address spaces, and mapped in the guest */
	vm_vaddr_t shared_gva;
	vm_paddr_t shared_gpa;
	volatile uint64_t *shared;
};

static uint64_t guest_plain(uint64_t gva, uint64_t val, uint64_t arg)
{
	return DONE;
}

static uint8_t *emit(uint8_t *p, const char *code, size_t len)
{
	memcpy(p, code, len);

	return p + len;
}

static uint8_t *emit32(uint8_t *p, uint32_t val)
{
	memcpy(p, &val, sizeof(val));

	return p + sizeof(val);
}

#define EMIT(code)	(p = emit(p, code, sizeof(code) - 1))

/* movl $STORE, @gpa: no paging, and flat data segments */
static uint8_t *emit_store(uint8_t *p, uint32_t gpa)
{
	EMIT("\x67\x66\xc7\x05");

	return emit32(emit32(p, gpa), STORE);
}

/* 16-bit code */
static void write_handler(FIXTURE_DATA(smm) * self)
{
	uint8_t *p = self->smram + HANDLER;

	/* incl %cs:ENTERED */
	EMIT("\x2e\x66\xff\x06\x00\x90");
	/* 1: cmpb $0, %cs:GO_ON; je 1b */
	EMIT("\x2e\x80\x3e\x00\x91\x00\x74\xf8");

	p = emit_store(p, SMRAM_GPA + SMRAM_PAGE * PAGE_SIZE);
	p = emit_store(p, self->shared_gpa);

	/* mov $MSR_LSTAR, %ecx; mov $STORE, %eax; xor %edx, %edx; wrmsr */
	EMIT("\x66\xb9");
	p = emit32(p, MSR_LSTAR);
	EMIT("\x66\xb8");
	p = emit32(p, STORE);
	EMIT("\x66\x31\xd2\x0f\x30");

	/* sgdt %cs:0x9200; mov %cr4, %eax; or $TSD, %eax; mov %eax, %cr4 */
	EMIT("\x2e\x0f\x01\x06\x00\x92");
	EMIT("\x0f\x20\xe0\x66\x83\xc8\x04\x0f\x22\xe0");

	/* rsm */
	EMIT("\x0f\xaa");
}

FIXTURE_SETUP(smm)
{
	struct kvmi_env *env = &self->env;
	struct userspace_mem_region *region;

	if (!kvm_has_cap(KVM_CAP_X86_SMM))
		SKIP(return, "KVM has no SMM");

	kvmi_env_create(env, 1);
	self->r = &env->run[0];

	self->shared_gva = vm_vaddr_alloc_page(env->vm);
	self->shared_gpa = addr_gva2gpa(env->vm, self->shared_gva);
	self->shared = addr_gva2hva(env->vm, self->shared_gva);
	region = memslot2region(env->vm, 0);
	TEST_ASSERT(self->shared_gpa < region->region.memory_size,
		    "shared page at %#lx", self->shared_gpa);

	self->smram = mmap(NULL, SMRAM_SIZE, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	TEST_ASSERT(self->smram != MAP_FAILED, "mmap()");
	vm_set_user_memory_region(env->vm, SMM_SLOT(0), 0, 0,
				  region->region.memory_size,
				  addr_gpa2hva(env->vm, 0));
	vm_set_user_memory_region(env->vm, SMM_SLOT(1), 0, SMRAM_GPA,
				  SMRAM_SIZE, self->smram);
	write_handler(self);
	vcpu_set_msr(self->r->vcpu, MSR_IA32_SMBASE, SMRAM_GPA);

	kvmi_env_hook(env);
	kvmi_control_event(env, 0, KVMI_VCPU_EVENT_PF, true);
}

FIXTURE_TEARDOWN(smm)
{
	if (!self->smram)
		return;
	self->smram[GO_ON] = 1;
	kvmi_env_destroy(&self->env);
	munmap(self->smram, SMRAM_SIZE);
}

static uint32_t *in_smram(FIXTURE_DATA(smm) * self, unsigned int offset)
{
	return (void *)self->smram + offset;
}

static void inject_smi(FIXTURE_DATA(smm) * self)
{
	struct kvm_vcpu_events events;

	vcpu_events_get(self->r->vcpu, &events);
	events.smi.pending = 1;
	events.flags |= KVM_VCPUEVENT_VALID_SMM;
	vcpu_events_set(self->r->vcpu, &events);
}

static void wait_entered(FIXTURE_DATA(smm) * self, uint32_t nr)
{
	volatile uint32_t *entered = in_smram(self, ENTERED);
	int i;

	for (i = 0; *entered != nr && i < KVMI_TIMEOUT_MS; i++)
		usleep(1000);
	TEST_ASSERT_EQ(*entered, nr);
}

/* Into the handler, that waits there. */
static void enter_smm(FIXTURE_DATA(smm) * self)
{
	uint32_t before = *in_smram(self, ENTERED);

	*(volatile uint8_t *)(self->smram + GO_ON) = 0;
	inject_smi(self);
	kvmi_runner_do(self->r, guest_plain, 0, 0);
	wait_entered(self, before + 1);
}

/* The handler stores, and the guest goes on. */
static void leave_smm(FIXTURE_DATA(smm) * self)
{
	*(volatile uint8_t *)(self->smram + GO_ON) = 1;
	TEST_ASSERT_EQ(kvmi_runner_wait(self->r), DONE);
	TEST_ASSERT_EQ(*in_smram(self, SMRAM_PAGE * PAGE_SIZE), STORE);
	TEST_ASSERT_EQ((uint32_t)*self->shared, STORE);
}

static void restrict_both(FIXTURE_DATA(smm) * self, uint8_t access)
{
	kvmi_set_page_access(&self->env.tool, kvmi_gpa(SMRAM_PAGE, 0), access);
	kvmi_set_page_access(&self->env.tool, self->shared_gpa, access);
}

/* The guest itself is restricted, in both pages. */
static void check_restricted(FIXTURE_DATA(smm) * self, bool want)
{
	const uint64_t gvas[] = { kvmi_gva(SMRAM_PAGE, 0), self->shared_gva };
	const uint64_t gpas[] = { kvmi_gpa(SMRAM_PAGE, 0), self->shared_gpa };
	int i;

	for (i = 0; i < 2; i++) {
		struct kvmi_recs recs = { .action = CONTINUE };

		kvmi_env_access(&self->env, 0, kvmi_insn_write, gvas[i], i + 1,
				kvmi_record, &recs, NULL);
		TEST_ASSERT_EQ(recs.nr, want);
		if (want)
			TEST_ASSERT_EQ(recs.ev[0].pf.gpa, gpas[i]);
	}
	TEST_ASSERT_EQ(*(uint64_t *)kvmi_hva(&self->env, SMRAM_PAGE, 0), 1);
	TEST_ASSERT_EQ(*self->shared, 2);
}

TEST_F_TIMEOUT(smm, page_access, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	int i;

	for (i = 0; i < 3; i++) {
		restrict_both(self, i == 2 ? 0 : KVMI_PAGE_ACCESS_R);
		/* mapped in the normal address space the first time or not */
		if (i)
			check_restricted(self, true);

		*self->shared = 0;
		memset(self->smram, 0, PAGE_SIZE);
		enter_smm(self);
		leave_smm(self);
		kvmi_no_event(&env->tool);
		TEST_ASSERT(*(uint32_t *)kvmi_hva(env, SMRAM_PAGE, 0) != STORE,
			    "SMM has written to normal memory");

		check_restricted(self, true);
		restrict_both(self, KVMI_ACCESS_ALL);
		check_restricted(self, false);
	}
}

/* Set, and lifted, while the only vCPU is in SMM */
TEST_F_TIMEOUT(smm, changed_in_smm, KVMI_TEST_TIMEOUT)
{
	check_restricted(self, false);
	enter_smm(self);
	restrict_both(self, KVMI_PAGE_ACCESS_R);
	leave_smm(self);
	check_restricted(self, true);

	enter_smm(self);
	restrict_both(self, KVMI_ACCESS_ALL);
	leave_smm(self);
	check_restricted(self, false);
	kvmi_no_event(&self->env.tool);
}

/* The tool's own accesses go to normal memory, wherever the vCPU is. */
TEST_F_TIMEOUT(smm, physical, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	uint64_t *normal = kvmi_hva(env, 3, 0);
	uint32_t *smram = in_smram(self, 3 * PAGE_SIZE);
	uint64_t val, got;

	*normal = 0x1111;
	*smram = 0x2222;
	enter_smm(self);
	TEST_ASSERT_EQ(__kvmi_read_physical(&env->tool, kvmi_gpa(3, 0), 8,
					    &got), 0);
	TEST_ASSERT_EQ(got, 0x1111);
	val = 0x3333;
	TEST_ASSERT_EQ(__kvmi_write_physical(&env->tool, kvmi_gpa(3, 0), 8,
					     &val), 0);
	TEST_ASSERT_EQ(*normal, 0x3333);
	TEST_ASSERT_EQ(*smram, 0x2222);
	leave_smm(self);
}

/* Memory that there is in SMM only does not exist for the tool. */
TEST_F_TIMEOUT(smm, smram_only, KVMI_TEST_TIMEOUT)
{
	const uint64_t gpa = 0x58000000;
	struct kvmi_env *env = &self->env;
	uint64_t max_before, max_after, got;

	kvmi_cmd(&env->tool, KVMI_VM_GET_MAX_GFN, NULL, 0, &max_before,
		 sizeof(max_before));
	vm_set_user_memory_region(env->vm, SMM_SLOT(2), 0, gpa, PAGE_SIZE,
				  self->smram + 4 * PAGE_SIZE);
	TEST_ASSERT_EQ(__kvmi_set_page_access(&env->tool, gpa, 0), -KVM_EINVAL);
	TEST_ASSERT_EQ(__kvmi_read_physical(&env->tool, gpa, 8, &got),
		       -KVM_ENOENT);
	kvmi_cmd(&env->tool, KVMI_VM_GET_MAX_GFN, NULL, 0, &max_after,
		 sizeof(max_after));
	TEST_ASSERT_EQ(max_before, max_after);
}

/* No event tells of what is done in SMM. */
TEST_F_TIMEOUT(smm, instructions, KVMI_TEST_TIMEOUT)
{
	struct kvmi_vcpu_control_msr msr = { .msr = MSR_LSTAR, .enable = 1 };
	struct kvmi_vcpu_control_cr cr = { .enable = 1 };
	struct kvmi_env *env = &self->env;
	int i, err;

	for (i = 0; i < 3; i++) {
		cr.cr = i ? i + 2 : 0;
		TEST_ASSERT_EQ(__kvmi_vcpu_cmd(env, 0, KVMI_VCPU_CONTROL_CR,
					       &cr, sizeof(cr), NULL, 0), 0);
	}
	TEST_ASSERT_EQ(__kvmi_vcpu_cmd(env, 0, KVMI_VCPU_CONTROL_MSR, &msr,
				       sizeof(msr), NULL, 0), 0);
	kvmi_control_event(env, 0, KVMI_VCPU_EVENT_CR, true);
	kvmi_control_event(env, 0, KVMI_VCPU_EVENT_MSR, true);
	err = __kvmi_control_event(env, 0, KVMI_VCPU_EVENT_DESCRIPTOR, true);
	TEST_ASSERT(!err || err == -KVM_EOPNOTSUPP, "DESCRIPTOR: %d", err);

	vcpu_set_msr(self->r->vcpu, MSR_LSTAR, 0);
	for (i = 0; i < 2; i++) {
		enter_smm(self);
		leave_smm(self);
		kvmi_no_event(&env->tool);
		TEST_ASSERT_EQ(vcpu_get_msr(self->r->vcpu, MSR_LSTAR), STORE);
	}
}

static int get_registers(FIXTURE_DATA(smm) * self,
			 struct kvmi_vcpu_get_registers_reply *rpl)
{
	struct kvmi_vcpu_get_registers req = { };

	return __kvmi_vcpu_cmd(&self->env, 0, KVMI_VCPU_GET_REGISTERS, &req,
			       sizeof(req), rpl, sizeof(*rpl));
}

/* The tool never takes the registers of SMM for the guest's. */
TEST_F_TIMEOUT(smm, registers, KVMI_TEST_TIMEOUT)
{
	struct kvmi_vcpu_inject_exception exception = { .nr = UD_VECTOR };
	struct kvmi_vcpu_translate_gva gva = { .gva = KVMI_TEST_GVA };
	struct kvmi_vcpu_translate_gva_reply gpa;
	struct kvmi_vcpu_get_registers_reply regs;
	struct kvmi_env *env = &self->env;
	struct kvmi_event ev;
	int i;

	enter_smm(self);
	TEST_ASSERT_EQ(get_registers(self, &regs), -KVM_EAGAIN);
	TEST_ASSERT_EQ(__kvmi_vcpu_cmd(env, 0, KVMI_VCPU_TRANSLATE_GVA, &gva,
				       sizeof(gva), &gpa, sizeof(gpa)),
		       -KVM_EAGAIN);
	TEST_ASSERT_EQ(__kvmi_vcpu_cmd(env, 0, KVMI_VCPU_INJECT_EXCEPTION,
				       &exception, sizeof(exception), NULL, 0),
		       -KVM_EAGAIN);
	for (i = 0; i < 2; i++)
		TEST_ASSERT_EQ(__kvmi_pause_vcpu(&env->tool, 0, i), 0);
	kvmi_no_event(&env->tool);

	*(volatile uint8_t *)(self->smram + GO_ON) = 1;
	for (i = 0; i < 2; i++) {
		kvmi_wait_event(&env->tool, KVMI_VCPU_EVENT_PAUSE, &ev);
		TEST_ASSERT_EQ(ev.common.arch.mode, 8);
		TEST_ASSERT(ev.common.arch.sregs.cs.base != SMRAM_GPA,
			    "registers of SMM");
		TEST_ASSERT_EQ(get_registers(self, &regs), 0);
		kvmi_reply(&env->tool, &ev, CONTINUE);
	}
	TEST_ASSERT_EQ(kvmi_runner_wait(self->r), DONE);
	kvmi_no_event(&env->tool);
}

/* It comes while an event waits: first one, then the other. */
TEST_F_TIMEOUT(smm, while_waiting, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_event ev;

	*(volatile uint8_t *)(self->smram + GO_ON) = 1;
	kvmi_set_page_access(&env->tool, kvmi_gpa(2, 0), KVMI_PAGE_ACCESS_R);
	kvmi_runner_do(self->r, kvmi_insn_write, kvmi_gva(2, 0), DONE);
	kvmi_wait_event(&env->tool, KVMI_VCPU_EVENT_PF, &ev);

	kvmi_runner_kick(self->r);
	kvmi_runner_wait_exit(self->r);
	TEST_ASSERT_EQ(self->r->err, EINTR);
	inject_smi(self);
	kvmi_runner_go(self->r);
	kvmi_no_event(&env->tool);
	TEST_ASSERT_EQ(*in_smram(self, ENTERED), 0);

	kvmi_reply(&env->tool, &ev, CONTINUE);
	kvmi_runner_wait(self->r);
	TEST_ASSERT_EQ(*in_smram(self, ENTERED), 1);
	TEST_ASSERT_EQ(*(uint64_t *)kvmi_hva(env, 2, 0), DONE);
	kvmi_no_event(&env->tool);
}

int main(int argc, char *argv[])
{
	TEST_REQUIRE(kvmi_supported());
	if (!kvmi_is_masked_guest_left())
		ksft_exit_skip(KVMI_MASKED_GUEST_STAYS "\n");

	return test_harness_run(argc, argv);
}
