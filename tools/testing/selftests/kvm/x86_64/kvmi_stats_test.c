// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM introspection: what it counts, in KVM's binary statistics and in the
 * files of debugfs that kvm_stat reads.
 */
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "test_util.h"
#include "kvm_util.h"
#include "kselftest_harness.h"
#include "kvmi_util.h"

#define DEBUGFS		"/sys/kernel/debug"

static const char *const vm_names[] = {
	"kvmi_vm_commands", "kvmi_event_unhook",
};

static const char *const vcpu_names[] = {
	"kvmi_vcpu_commands", "kvmi_waits", "kvmi_event_pause",
	"kvmi_event_hypercall", "kvmi_event_breakpoint", "kvmi_event_cr",
	"kvmi_event_trap", "kvmi_event_xsetbv", "kvmi_event_descriptor",
	"kvmi_event_msr", "kvmi_event_pf", "kvmi_event_singlestep",
};

FIXTURE(stats)
{
	struct kvmi_env env;
	/* KVM gives out those of a vCPU only while it is not in KVM_RUN. */
	int vm_fd, vcpu_fd[2];
};

static void stats_create(FIXTURE_DATA(stats) * self)
{
	int i;

	kvmi_env_create(&self->env, 2);
	self->vm_fd = vm_get_stats_fd(self->env.vm);
	for (i = 0; i < 2; i++)
		self->vcpu_fd[i] = vcpu_get_stats_fd(self->env.run[i].vcpu);
	kvmi_env_hook(&self->env);
}

static void stats_destroy(FIXTURE_DATA(stats) * self)
{
	close(self->vm_fd);
	close(self->vcpu_fd[0]);
	close(self->vcpu_fd[1]);
	kvmi_env_destroy(&self->env);
}

FIXTURE_SETUP(stats)
{
	stats_create(self);
}

FIXTURE_TEARDOWN(stats)
{
	stats_destroy(self);
}

static uint64_t get_stat(int fd, const char *name)
{
	struct kvm_stats_header header;
	struct kvm_stats_desc *descs;
	uint64_t value = 0;
	int i;

	read_stats_header(fd, &header);
	descs = read_stats_descriptors(fd, &header);
	for (i = 0; i < header.num_desc; i++) {
		struct kvm_stats_desc *desc;

		desc = get_stats_descriptor(descs, i, &header);
		if (strcmp(desc->name, name))
			continue;
		TEST_ASSERT_EQ(desc->size, 1);
		TEST_ASSERT_EQ(desc->flags & KVM_STATS_TYPE_MASK,
			       KVM_STATS_TYPE_CUMULATIVE);
		read_stat_data(fd, &header, desc, &value, 1);
		break;
	}
	TEST_ASSERT(i < header.num_desc, "no counter %s", name);
	free(descs);

	return value;
}

static uint64_t vm_stat(FIXTURE_DATA(stats) * self, const char *name)
{
	return get_stat(self->vm_fd, name);
}

static uint64_t vcpu_stat(FIXTURE_DATA(stats) * self, int vcpu,
			  const char *name)
{
	return get_stat(self->vcpu_fd[vcpu], name);
}

TEST_F_TIMEOUT(stats, start_at_zero, KVMI_TEST_TIMEOUT)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(vm_names); i++)
		TEST_ASSERT_EQ(vm_stat(self, vm_names[i]), 0);
	for (i = 0; i < ARRAY_SIZE(vcpu_names); i++)
		TEST_ASSERT_EQ(vcpu_stat(self, 0, vcpu_names[i]), 0);
}

TEST_F_TIMEOUT(stats, commands, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	int i;

	for (i = 1; i <= 5; i++) {
		kvmi_alive(&env->tool);
		TEST_ASSERT_EQ(vm_stat(self, "kvmi_vm_commands"), i);
	}
	/* one that fails is one, one that there is not is none */
	TEST_ASSERT_EQ(__kvmi_read_physical(&env->tool, 0, 0, NULL),
		       -KVM_EINVAL);
	TEST_ASSERT_EQ(__kvmi_cmd(&env->tool, 0xffff, NULL, 0, NULL, 0),
		       -KVM_ENOSYS);
	TEST_ASSERT_EQ(vm_stat(self, "kvmi_vm_commands"), 6);

	for (i = 1; i <= 5; i++) {
		kvmi_control_event(env, 1, KVMI_VCPU_EVENT_PF, true);
		TEST_ASSERT_EQ(vcpu_stat(self, 1, "kvmi_vcpu_commands"), i);
	}
	TEST_ASSERT_EQ(vcpu_stat(self, 0, "kvmi_vcpu_commands"), 0);
	TEST_ASSERT_EQ(vm_stat(self, "kvmi_vm_commands"), 6);
}

TEST_F_TIMEOUT(stats, events, KVMI_TEST_TIMEOUT)
{
	struct kvmi_recs recs = { .action = KVMI_EVENT_ACTION_CONTINUE };
	struct kvmi_vm_control_events unhook = {
		.event_id = KVMI_VM_EVENT_UNHOOK, .enable = 1,
	};
	struct kvmi_env *env = &self->env;
	struct kvmi_event ev;
	int i;

	kvmi_control_event(env, 0, KVMI_VCPU_EVENT_PF, true);
	kvmi_set_page_access(&env->tool, KVMI_TEST_GPA, KVMI_PAGE_ACCESS_R);
	for (i = 1; i <= 3; i++) {
		kvmi_env_access(env, 0, kvmi_insn_write, KVMI_TEST_GVA, i,
				kvmi_record, &recs, NULL);
		TEST_ASSERT_EQ(vcpu_stat(self, 0, "kvmi_event_pf"), i);
		TEST_ASSERT_EQ(vcpu_stat(self, 0, "kvmi_waits"), i);
	}

	TEST_ASSERT_EQ(__kvmi_pause_vcpu(&env->tool, 0, false), 0);
	kvmi_runner_do(&env->run[0], kvmi_insn_nop, 0, 0);
	kvmi_wait_event(&env->tool, KVMI_VCPU_EVENT_PAUSE, &ev);
	TEST_ASSERT_EQ(vcpu_stat(self, 0, "kvmi_event_pause"), 1);
	/* interrupted, it waits a second time, for the same event */
	kvmi_runner_kick(&env->run[0]);
	kvmi_runner_wait_exit(&env->run[0]);
	kvmi_runner_go(&env->run[0]);
	kvmi_reply(&env->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	kvmi_runner_wait(&env->run[0]);
	TEST_ASSERT_EQ(vcpu_stat(self, 0, "kvmi_event_pause"), 1);
	TEST_ASSERT_EQ(vcpu_stat(self, 0, "kvmi_waits"), 5);
	TEST_ASSERT_EQ(vcpu_stat(self, 0, "kvmi_event_pf"), 3);

	/* Nothing else has happened, and nothing at all to the other vCPU. */
	for (i = 3; i < ARRAY_SIZE(vcpu_names); i++)
		if (strcmp(vcpu_names[i], "kvmi_event_pf"))
			TEST_ASSERT_EQ(vcpu_stat(self, 0, vcpu_names[i]), 0);
	for (i = 0; i < ARRAY_SIZE(vcpu_names); i++)
		TEST_ASSERT_EQ(vcpu_stat(self, 1, vcpu_names[i]), 0);

	TEST_ASSERT_ERRNO(__vm_kvmi_preunhook(env->vm), ENOENT);
	TEST_ASSERT_EQ(vm_stat(self, "kvmi_event_unhook"), 0);
	kvmi_cmd(&env->tool, KVMI_VM_CONTROL_EVENTS, &unhook, sizeof(unhook),
		 NULL, 0);
	TEST_ASSERT_EQ(__vm_kvmi_preunhook(env->vm), 0);
	TEST_ASSERT_EQ(vm_stat(self, "kvmi_event_unhook"), 1);
}

/* What happened stays counted. */
TEST_F_TIMEOUT(stats, next_session, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;

	kvmi_alive(&env->tool);
	kvmi_env_unhook(env);
	TEST_ASSERT_EQ(vm_stat(self, "kvmi_vm_commands"), 1);
	kvmi_env_hook(env);
	kvmi_alive(&env->tool);
	TEST_ASSERT_EQ(vm_stat(self, "kvmi_vm_commands"), 2);
}

static bool has_debugfs(void)
{
	mkdir(DEBUGFS, 0700);
	mount("debugfs", DEBUGFS, "debugfs", 0, NULL);

	return !access(DEBUGFS "/kvm", F_OK);
}

#define NO_DEBUGFS	"no " DEBUGFS "/kvm"

/* kvm_stat takes the names of the counters from these files. */
TEST_F_TIMEOUT(stats, kvm_stat, KVMI_TEST_TIMEOUT)
{
	const char *const *lists[] = { vm_names, vcpu_names };
	const int nr[] = { ARRAY_SIZE(vm_names), ARRAY_SIZE(vcpu_names) };
	char path[128], buf[32];
	int i, j, fd, n;

	if (!has_debugfs())
		SKIP(return, NO_DEBUGFS);

	kvmi_alive(&self->env.tool);
	for (i = 0; i < 2; i++) {
		for (j = 0; j < nr[i]; j++) {
			snprintf(path, sizeof(path), DEBUGFS "/kvm/%s",
				 lists[i][j]);
			fd = open(path, O_RDONLY);
			TEST_ASSERT(fd >= 0, "%s: errno %d", path, errno);
			n = read(fd, buf, sizeof(buf) - 1);
			TEST_ASSERT(n > 0, "%s: read %d", path, n);
			buf[n] = 0;
			if (!strcmp(lists[i][j], "kvmi_vm_commands"))
				TEST_ASSERT(atoi(buf) >= 1, "%s: %s", path, buf);
			close(fd);
		}
	}
}

/* Root may clear any of the counters whenever it likes. */
static void clear_exits(void)
{
	int fd = open(DEBUGFS "/kvm/exits", O_WRONLY);

	TEST_ASSERT(fd >= 0, "exits: errno %d", errno);
	TEST_ASSERT_EQ(write(fd, "0", 1), 1);
	close(fd);
}

/* The instruction that an event waits for is not taken for another one. */
TEST_F_TIMEOUT(stats, clear_in_event, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_event ev;

	if (!has_debugfs())
		SKIP(return, NO_DEBUGFS);

	kvmi_control_event(env, 0, KVMI_VCPU_EVENT_PF, true);
	kvmi_set_page_access(&env->tool, KVMI_TEST_GPA, KVMI_PAGE_ACCESS_R);
	kvmi_runner_do(&env->run[0], kvmi_insn_write, KVMI_TEST_GVA, 1);
	kvmi_wait_event(&env->tool, KVMI_VCPU_EVENT_PF, &ev);
	clear_exits();
	kvmi_reply(&env->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	kvmi_no_event(&env->tool);
	kvmi_runner_wait(&env->run[0]);
}

/*
 * Nor is one taken for an earlier one at the same address, which the tool has let
 * make the same accesses, if there have been as many exits again.
 */
TEST_F_TIMEOUT(stats, clear_between, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_recs recs;
	int i;

	if (!has_debugfs())
		SKIP(return, NO_DEBUGFS);

	kvmi_control_event(env, 0, KVMI_VCPU_EVENT_PF, true);
	kvmi_set_page_access(&env->tool, kvmi_gpa(1, 0), 0);
	kvmi_set_page_access(&env->tool, kvmi_gpa(2, 0), 0);
	for (i = 0; i < 20; i++) {
		memset(&recs, 0, sizeof(recs));
		recs.action = KVMI_EVENT_ACTION_CONTINUE;
		clear_exits();
		env->run[0].req->arg = 1;
		kvmi_env_access(env, 0, kvmi_insn_movs, kvmi_gva(1, 0),
				kvmi_gva(2, 0), kvmi_record, &recs, NULL);
		TEST_ASSERT(recs.nr == 2, "round %d: %u events", i, recs.nr);
	}
}

/* No PAUSE: in QEMU's TCG the trap after it does not come. */
static uint64_t guest_wait(uint64_t gva, uint64_t val, uint64_t arg)
{
	volatile uint64_t *mem = (void *)gva;

	while (!*mem)
		;

	return 0;
}

static void *clear_always(void *stop)
{
	while (!READ_ONCE(*(bool *)stop))
		clear_exits();

	return NULL;
}

static void control_singlestep(struct kvmi_env *env, bool enable)
{
	struct kvmi_vcpu_control_singlestep req = { .enable = enable };

	TEST_ASSERT_EQ(__kvmi_vcpu_cmd(env, 0, KVMI_VCPU_CONTROL_SINGLESTEP,
				       &req, sizeof(req), NULL, 0), 0);
}

/* What stops the guest after each instruction stays unseen by it. */
TEST_F_TIMEOUT(stats, clear_in_steps, KVMI_TEST_TIMEOUT)
{
	volatile uint64_t *mem = kvmi_hva(&self->env, 1, 0);
	struct kvmi_env *env = &self->env;
	struct kvmi_event ev;
	bool stop = false;
	pthread_t thread;
	int i;

	if (!has_debugfs())
		SKIP(return, NO_DEBUGFS);
	if (!kvmi_can_step(&env->tool))
		SKIP(return, "the machine cannot step");

	kvmi_runner_do(&env->run[0], guest_wait, kvmi_gva(1, 0), 0);
	control_singlestep(env, true);
	TEST_ASSERT_EQ(pthread_create(&thread, NULL, clear_always, &stop), 0);
	for (i = 0; i < 500; i++) {
		kvmi_wait_event(&env->tool, KVMI_VCPU_EVENT_SINGLESTEP, &ev);
		TEST_ASSERT(!ev.singlestep.failed, "step %d has failed", i);
		kvmi_reply(&env->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	}
	WRITE_ONCE(stop, true);
	pthread_join(thread, NULL);

	kvmi_wait_event(&env->tool, KVMI_VCPU_EVENT_SINGLESTEP, &ev);
	control_singlestep(env, false);
	kvmi_reply(&env->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	*mem = 1;
	kvmi_runner_wait(&env->run[0]);
}

/*
 * For a look from outside: has each counter count something else, prints the
 * binary statistics, and runs @command while the VM is there.
 */
static int run_beside(FIXTURE_DATA(stats) * self, const char *command)
{
	struct kvmi_recs recs = { .action = KVMI_EVENT_ACTION_CONTINUE };
	struct kvmi_env *env = &self->env;
	struct kvmi_event ev;
	int i, status;

	stats_create(self);
	kvmi_control_event(env, 0, KVMI_VCPU_EVENT_PF, true);
	kvmi_set_page_access(&env->tool, KVMI_TEST_GPA, KVMI_PAGE_ACCESS_R);
	for (i = 0; i < 3; i++)
		kvmi_env_access(env, 0, kvmi_insn_write, KVMI_TEST_GVA, i,
				kvmi_record, &recs, NULL);
	for (i = 0; i < 2; i++) {
		TEST_ASSERT_EQ(__kvmi_pause_vcpu(&env->tool, 0, false), 0);
		kvmi_runner_do(&env->run[0], kvmi_insn_nop, 0, 0);
		kvmi_wait_event(&env->tool, KVMI_VCPU_EVENT_PAUSE, &ev);
		kvmi_reply(&env->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
		kvmi_runner_wait(&env->run[0]);
	}

	for (i = 0; i < ARRAY_SIZE(vm_names); i++)
		printf("%s %lu\n", vm_names[i], vm_stat(self, vm_names[i]));
	for (i = 0; i < ARRAY_SIZE(vcpu_names); i++)
		printf("%s %lu\n", vcpu_names[i],
		       vcpu_stat(self, 0, vcpu_names[i]) +
		       vcpu_stat(self, 1, vcpu_names[i]));
	fflush(stdout);

	status = system(command);
	stats_destroy(self);

	return status ? EXIT_FAILURE : EXIT_SUCCESS;
}

int main(int argc, char *argv[])
{
	FIXTURE_DATA(stats) beside;

	TEST_REQUIRE(kvmi_supported());

	if (argc == 3 && !strcmp(argv[1], "--beside"))
		return run_beside(&beside, argv[2]);

	return test_harness_run(argc, argv);
}
