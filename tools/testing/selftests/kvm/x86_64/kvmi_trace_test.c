// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM introspection: its trace events, as tracefs has them.
 */
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "test_util.h"
#include "kvm_util.h"
#include "kselftest_harness.h"
#include "kvmi_util.h"

#define TRACEFS		"/sys/kernel/tracing"
#define EVENTS		TRACEFS "/events/kvmi"

FIXTURE(trace)
{
	struct kvmi_env env;
	char buf[65536];
};

static void write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_TRUNC);

	TEST_ASSERT(fd >= 0, "%s: errno %d", path, errno);
	TEST_ASSERT(write(fd, text, strlen(text)) == strlen(text),
		    "%s: errno %d", path, errno);
	close(fd);
}

FIXTURE_SETUP(trace)
{
	mkdir(TRACEFS, 0700);
	mount("tracefs", TRACEFS, "tracefs", 0, NULL);
	if (access(TRACEFS "/events", F_OK))
		SKIP(return, "no " TRACEFS "/events");

	kvmi_env_create(&self->env, 2);
	kvmi_env_hook(&self->env);
	write_file(TRACEFS "/trace", "");
	write_file(EVENTS "/enable", "1");
	write_file(TRACEFS "/tracing_on", "1");
}

FIXTURE_TEARDOWN(trace)
{
	write_file(EVENTS "/enable", "0");
	kvmi_env_destroy(&self->env);
}

static void read_trace(FIXTURE_DATA(trace) * self)
{
	int fd = open(TRACEFS "/trace", O_RDONLY);
	size_t have = 0;
	ssize_t n;

	TEST_ASSERT(fd >= 0, "trace: errno %d", errno);
	while ((n = read(fd, self->buf + have,
			 sizeof(self->buf) - 1 - have)) > 0)
		have += n;
	self->buf[have] = 0;
	close(fd);
}

/* How often is @line there? */
static unsigned int count(FIXTURE_DATA(trace) * self, const char *line)
{
	const size_t len = strlen(line);
	const char *p = self->buf;
	unsigned int nr = 0;

	while ((p = strstr(p, line))) {
		p += len;
		nr += *p == '\n';
	}

	return nr;
}

static void expect(FIXTURE_DATA(trace) * self, unsigned int nr,
		   const char *fmt, ...)
{
	char line[128];
	va_list args;
	int i;

	va_start(args, fmt);
	vsnprintf(line, sizeof(line), fmt, args);
	va_end(args);

	/* The other side may have been traced after the message was here. */
	for (i = 0; i < 1000; i++) {
		read_trace(self);
		if (count(self, line) == nr)
			return;
		usleep(10000);
	}
	TEST_FAIL("'%s': %u times, want %u", line, count(self, line), nr);
}

TEST_F_TIMEOUT(trace, commands, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_vm_get_info_reply info;
	uint64_t page[2];

	kvmi_cmd(&env->tool, KVMI_VM_GET_INFO, NULL, 0, &info, sizeof(info));
	expect(self, 1, "kvmi_command: vcpu -1 id 8 seq %u size 0",
	       env->tool.seq);
	expect(self, 1, "kvmi_reply: vcpu -1 id 8 seq %u err 0 size 16",
	       env->tool.seq);

	TEST_ASSERT_EQ(__kvmi_read_physical(&env->tool, KVMI_NO_MEM_GPA,
					    sizeof(page), page), -KVM_ENOENT);
	expect(self, 1, "kvmi_command: vcpu -1 id 12 seq %u size 16",
	       env->tool.seq);
	expect(self, 1, "kvmi_reply: vcpu -1 id 12 seq %u err -2 size 0",
	       env->tool.seq);

	/* There is no such command, yet it is answered. */
	TEST_ASSERT_EQ(__kvmi_cmd(&env->tool, 0xffff, NULL, 0, NULL, 0),
		       -KVM_ENOSYS);
	expect(self, 1, "kvmi_reply: vcpu -1 id 65535 seq %u err -1000 size 0",
	       env->tool.seq);

	kvmi_control_event(env, 1, KVMI_VCPU_EVENT_PF, true);
	expect(self, 1, "kvmi_command: vcpu 1 id 5 seq %u size 16",
	       env->tool.seq);
	expect(self, 1, "kvmi_reply: vcpu 1 id 5 seq %u err 0 size 0",
	       env->tool.seq);
}

TEST_F_TIMEOUT(trace, events, KVMI_TEST_TIMEOUT)
{
	struct kvmi_vm_control_events unhook = {
		.event_id = KVMI_VM_EVENT_UNHOOK, .enable = 1,
	};
	struct kvmi_env *env = &self->env;
	struct kvmi_runner *r = &env->run[1];
	struct kvmi_event ev;

	kvmi_control_event(env, 1, KVMI_VCPU_EVENT_PF, true);
	kvmi_set_page_access(&env->tool, KVMI_TEST_GPA, KVMI_PAGE_ACCESS_R);
	kvmi_runner_do(r, kvmi_insn_write, KVMI_TEST_GVA, 1);
	kvmi_wait_event(&env->tool, KVMI_VCPU_EVENT_PF, &ev);
	expect(self, 1, "kvmi_event: vcpu 1 event 17 seq %u", ev.seq);
	kvmi_reply(&env->tool, &ev, KVMI_EVENT_ACTION_RETRY);
	expect(self, 1, "kvmi_action: vcpu 1 event 17 seq %u action RETRY",
	       ev.seq);
	kvmi_wait_event(&env->tool, KVMI_VCPU_EVENT_PF, &ev);

	/* a signal in between makes no difference */
	kvmi_runner_kick(r);
	kvmi_runner_wait_exit(r);
	kvmi_runner_go(r);
	kvmi_reply(&env->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	kvmi_runner_wait(r);
	expect(self, 1, "kvmi_event: vcpu 1 event 17 seq %u", ev.seq);
	expect(self, 1, "kvmi_action: vcpu 1 event 17 seq %u action CONTINUE",
	       ev.seq);

	TEST_ASSERT_EQ(__kvmi_pause_vcpu(&env->tool, 1, false), 0);
	kvmi_runner_do(r, kvmi_insn_nop, 0, 0);
	kvmi_wait_event(&env->tool, KVMI_VCPU_EVENT_PAUSE, &ev);
	kvmi_reply(&env->tool, &ev, KVMI_EVENT_ACTION_CRASH);
	kvmi_runner_wait_exit(r);
	expect(self, 1, "kvmi_action: vcpu 1 event 1 seq %u action CRASH",
	       ev.seq);

	kvmi_cmd(&env->tool, KVMI_VM_CONTROL_EVENTS, &unhook, sizeof(unhook),
		 NULL, 0);
	TEST_ASSERT_EQ(__vm_kvmi_preunhook(env->vm), 0);
	kvmi_wait_event(&env->tool, KVMI_VM_EVENT_UNHOOK, &ev);
	expect(self, 1, "kvmi_event: vcpu -1 event 0 seq %u", ev.seq);
}

/* The tool goes, and the vCPU goes on. */
TEST_F_TIMEOUT(trace, tool_gone, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_event ev;

	TEST_ASSERT_EQ(__kvmi_pause_vcpu(&env->tool, 0, false), 0);
	kvmi_runner_do(&env->run[0], kvmi_insn_nop, 0, 0);
	kvmi_wait_event(&env->tool, KVMI_VCPU_EVENT_PAUSE, &ev);
	kvmi_tool_close(&env->tool);
	kvmi_runner_wait(&env->run[0]);
	expect(self, 1, "kvmi_action: vcpu 0 event 1 seq %u action CONTINUE",
	       ev.seq);
}

int main(int argc, char *argv[])
{
	TEST_REQUIRE(kvmi_supported());

	return test_harness_run(argc, argv);
}
