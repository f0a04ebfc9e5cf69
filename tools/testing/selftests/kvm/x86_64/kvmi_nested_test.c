// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM introspection: a guest that runs a guest of its own.  While that is
 * running, nobody gets its state for that of the guest which is introspected.
 */
#include "test_util.h"
#include "kvm_util.h"
#include "kselftest_harness.h"
#include "kvmi_util.h"
#include "svm_util.h"
#include "vmx.h"

#define L2_STACK_SIZE	64

static volatile uint64_t *const stop = (void *)KVMI_TEST_GVA;
static volatile uint64_t *const l2_runs = (void *)KVMI_TEST_GVA + 8;

static void l2_main(void)
{
	*l2_runs = 1;
	while (!*stop)
		cpu_relax();
	vmcall();
	/* entered once more, it stays here */
	for (;;)
		vmcall();
}

static uint64_t l1_svm(uint64_t gva, uint64_t val, uint64_t arg)
{
	unsigned long stack[L2_STACK_SIZE];
	struct svm_test_data *svm = (void *)gva;

	generic_svm_setup(svm, l2_main, &stack[L2_STACK_SIZE]);
	run_guest(svm->vmcb, svm->vmcb_gpa);

	return svm->vmcb->control.exit_code == SVM_EXIT_VMMCALL;
}

static uint64_t l1_vmx(uint64_t gva, uint64_t val, uint64_t arg)
{
	unsigned long stack[L2_STACK_SIZE];
	struct vmx_pages *vmx = (void *)gva;

	GUEST_ASSERT(prepare_for_vmx_operation(vmx));
	GUEST_ASSERT(load_vmcs(vmx));
	prepare_vmcs(vmx, l2_main, &stack[L2_STACK_SIZE]);
	GUEST_ASSERT(!vmlaunch());

	return vmreadz(VM_EXIT_REASON) == EXIT_REASON_VMCALL;
}

FIXTURE(nested)
{
	struct kvmi_env env;
	struct kvmi_runner *r;
	volatile uint64_t *stop, *l2_runs;
};

FIXTURE_SETUP(nested)
{
	struct kvmi_env *env = &self->env;
	kvmi_insn l1 = host_cpu_is_amd ? l1_svm : l1_vmx;
	vm_vaddr_t gva;
	int i;

	if (!kvm_cpu_has(X86_FEATURE_SVM) && !kvm_cpu_has(X86_FEATURE_VMX))
		SKIP(return, "no nested virtualization");

	kvmi_env_create(env, 1);
	kvmi_env_hook(env);
	self->r = &env->run[0];
	self->stop = kvmi_hva(env, 0, 0);
	self->l2_runs = kvmi_hva(env, 0, 8);

	if (host_cpu_is_amd)
		vcpu_alloc_svm(env->vm, &gva);
	else
		vcpu_alloc_vmx(env->vm, &gva);
	kvmi_runner_do(self->r, l1, gva, 0);
	for (i = 0; !*self->l2_runs && i < KVMI_TIMEOUT_MS; i++)
		usleep(1000);
	TEST_ASSERT(*self->l2_runs, "the guest does not run its guest");
}

FIXTURE_TEARDOWN(nested)
{
	if (self->stop)
		*self->stop = 1;
	if (self->r)
		kvmi_env_destroy(&self->env);
}

static int get_registers(struct kvmi_env *env,
			 struct kvmi_vcpu_get_registers_reply *rpl)
{
	struct kvmi_vcpu_get_registers req = { };

	return __kvmi_vcpu_cmd(env, 0, KVMI_VCPU_GET_REGISTERS, &req,
			       sizeof(req), rpl, sizeof(*rpl));
}

TEST_F_TIMEOUT(nested, commands, KVMI_TEST_TIMEOUT)
{
	struct kvmi_vcpu_inject_exception exception = { .nr = UD_VECTOR };
	struct kvmi_vcpu_translate_gva gva = { .gva = KVMI_TEST_GVA };
	struct kvmi_vcpu_get_registers_reply regs;
	struct kvmi_vcpu_translate_gva_reply gpa;
	struct kvmi_vcpu_get_xcr_reply xcr;
	struct kvmi_vcpu_get_xcr req = { };
	struct kvmi_env *env = &self->env;

	TEST_ASSERT_EQ(get_registers(env, &regs), -KVM_EAGAIN);
	TEST_ASSERT_EQ(__kvmi_vcpu_cmd(env, 0, KVMI_VCPU_TRANSLATE_GVA, &gva,
				       sizeof(gva), &gpa, sizeof(gpa)),
		       -KVM_EAGAIN);
	TEST_ASSERT_EQ(__kvmi_vcpu_cmd(env, 0, KVMI_VCPU_INJECT_EXCEPTION,
				       &exception, sizeof(exception), NULL, 0),
		       -KVM_EAGAIN);
	/* what both share */
	TEST_ASSERT_EQ(__kvmi_vcpu_cmd(env, 0, KVMI_VCPU_GET_XCR, &req,
				       sizeof(req), &xcr, sizeof(xcr)), 0);

	*self->stop = 1;
	TEST_ASSERT_EQ(kvmi_runner_wait(self->r), 1);
	TEST_ASSERT_EQ(get_registers(env, &regs), 0);
}

/* The pause comes with the exit to the guest that is introspected. */
TEST_F_TIMEOUT(nested, pause, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_event ev;
	uint64_t rip;
	int i;

	for (i = 0; i < 3; i++)
		TEST_ASSERT_EQ(__kvmi_pause_vcpu(&env->tool, 0, i & 1), 0);
	kvmi_no_event(&env->tool);
	TEST_ASSERT(!kvmi_runner_poll(self->r, 0), "not running");

	*self->stop = 1;
	for (i = 0; i < 3; i++) {
		kvmi_wait_event(&env->tool, KVMI_VCPU_EVENT_PAUSE, &ev);
		rip = ev.common.arch.regs.rip;
		TEST_ASSERT(rip < (uint64_t)l2_main ||
			    rip > (uint64_t)l2_main + 64,
			    "rip %#lx is in the guest's guest", rip);
		kvmi_reply(&env->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	}
	TEST_ASSERT_EQ(kvmi_runner_wait(self->r), 1);
	kvmi_no_event(&env->tool);
}

/* What is put off does not outlive the session. */
TEST_F_TIMEOUT(nested, unhook, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;

	TEST_ASSERT_EQ(__kvmi_pause_vcpu(&env->tool, 0, false), 0);
	kvmi_env_unhook(env);
	kvmi_env_hook(env);
	*self->stop = 1;
	TEST_ASSERT_EQ(kvmi_runner_wait(self->r), 1);
	kvmi_no_event(&env->tool);
}

int main(int argc, char *argv[])
{
	TEST_REQUIRE(kvmi_supported());

	return test_harness_run(argc, argv);
}
