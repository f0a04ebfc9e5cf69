// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM introspection: memory is short.
 *
 * The kernel's fault injection has the n-th allocation of one task fail, for
 * n = 1, 2 and so on until the task gets along with fewer.  Whatever was to be
 * done then has either failed with the error that there is for it, and left
 * nothing behind, or it was done.
 */
#include <dirent.h>
#include <fcntl.h>
#include <sys/mman.h>

#include "test_util.h"
#include "kvm_util.h"
#include "kselftest_harness.h"
#include "kvmi_util.h"

#define FAILSLAB	"/sys/kernel/debug/failslab"
#define THREADS_MAX	"/proc/sys/kernel/threads-max"

#define KTHREADD	2

/* Nothing that is tested here takes as many. */
#define MAX_ALLOCS	1000

#define BIG_SLOT	11
#define BIG_GPA		0x50000000ull
#define BIG_PAGES	1024

FIXTURE(nomem)
{
	struct kvmi_env env;
	int tool_fd, kernel_fd;
};

static void write_file(const char *path, const char *fmt, ...)
{
	char text[32];
	va_list ap;
	int fd, n;

	va_start(ap, fmt);
	n = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	TEST_ASSERT(fd >= 0, "%s: errno %d", path, errno);
	TEST_ASSERT(write(fd, text, n) == n, "%s: errno %d", path, errno);
	close(fd);
}

static unsigned long read_file(const char *path)
{
	char text[32] = { };
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	TEST_ASSERT(fd >= 0, "%s: errno %d", path, errno);
	TEST_ASSERT(read(fd, text, sizeof(text) - 1) > 0, "%s: errno %d", path,
		    errno);
	close(fd);

	return strtoul(text, NULL, 0);
}

/* ---- a task whose allocations fail ---- */

static int open_fail_nth(pid_t tid)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/fail-nth", tid);
	fd = open(path, O_RDWR | O_CLOEXEC);
	TEST_ASSERT(fd >= 0, "%s: errno %d", path, errno);

	return fd;
}

static void fail_nth(int fd, unsigned int n)
{
	char text[16];
	int size = snprintf(text, sizeof(text), "%u", n);

	TEST_ASSERT(n < MAX_ALLOCS, "no end of allocations");
	TEST_ASSERT(pwrite(fd, text, size, 0) == size, "fail-nth: errno %d",
		    errno);
}

/* Has there been the allocation that was to fail?  The others do not. */
static bool has_failed(int fd)
{
	char text[16] = { };
	bool failed;

	TEST_ASSERT(pread(fd, text, sizeof(text) - 1, 0) > 0, "fail-nth");
	failed = !strtoul(text, NULL, 0);
	fail_nth(fd, 0);

	return failed;
}

/* The task of the kernel's that belongs to the session of this process */
static pid_t session_thread(void)
{
	char want[16], comm[16], path[300];
	struct dirent *entry;
	pid_t pid = 0;
	DIR *dir;

	snprintf(want, sizeof(want), "kvmi-%d", getpid());
	dir = opendir("/proc");
	TEST_ASSERT(dir, "/proc: errno %d", errno);
	while (!pid && (entry = readdir(dir))) {
		FILE *file;

		snprintf(path, sizeof(path), "/proc/%s/comm", entry->d_name);
		file = fopen(path, "re");
		if (!file)
			continue;
		if (fscanf(file, "%15s", comm) == 1 && !strcmp(comm, want))
			pid = atoi(entry->d_name);
		fclose(file);
	}
	closedir(dir);
	TEST_ASSERT(pid, "no %s", want);

	return pid;
}

/* The thread of the only vCPU */
static pid_t vcpu_thread(void)
{
	DIR *dir = opendir("/proc/self/task");
	struct dirent *entry;
	pid_t tid = 0;

	TEST_ASSERT(dir, "/proc/self/task: errno %d", errno);
	while (!tid && (entry = readdir(dir))) {
		tid = atoi(entry->d_name);
		if (tid == getpid())
			tid = 0;
	}
	closedir(dir);
	TEST_ASSERT(tid, "no second thread");

	return tid;
}

/* Until the task waits for something */
static void wait_asleep(pid_t tid)
{
	char path[64], state;
	int tries;

	snprintf(path, sizeof(path), "/proc/%d/stat", tid);
	for (tries = 0; tries < KVMI_TIMEOUT_MS; tries++) {
		FILE *file = fopen(path, "re");

		TEST_ASSERT(file, "%s: errno %d", path, errno);
		TEST_ASSERT(fscanf(file, "%*d (%*[^)]) %c", &state) == 1,
			    "no state in %s", path);
		fclose(file);
		if (state == 'S' || state == 'I')
			return;
		usleep(1000);
	}
	TEST_FAIL("%s: in state %c", path, state);
}

/*
 * Until the vCPU waits and the session's thread has nothing to do: from then on
 * it is the vCPU's thread that reads what is for the vCPU.
 */
static void wait_for_reader(void)
{
	wait_asleep(vcpu_thread());
	wait_asleep(session_thread());
}

static void guest_ud(struct ex_regs *regs)
{
}

static bool can_fail(void)
{
	return !access(FAILSLAB, F_OK);
}

#define NO_FAILURES	"the kernel cannot make allocations fail (CONFIG_FAILSLAB)"

static void create(struct kvmi_env *env)
{
	/* those that can sleep, too; and do not tell of each */
	write_file(FAILSLAB "/ignore-gfp-wait", "N");
	write_file(FAILSLAB "/verbose", "0");

	kvmi_env_create(env, 1);
	vm_install_exception_handler(env->vm, UD_VECTOR, guest_ud);
	kvmi_runner_do(&env->run[0], kvmi_insn_nop, 0, 0);
	kvmi_runner_wait(&env->run[0]);
}

static void destroy(struct kvmi_env *env)
{
	kvmi_env_destroy(env);
	write_file(FAILSLAB "/ignore-gfp-wait", "Y");
	write_file(FAILSLAB "/verbose", "2");
}

FIXTURE_SETUP(nomem)
{
	if (!can_fail())
		SKIP(return, NO_FAILURES);

	create(&self->env);
	self->kernel_fd = -1;
}

FIXTURE_TEARDOWN(nomem)
{
	if (self->kernel_fd >= 0)
		close(self->kernel_fd);
	destroy(&self->env);
}

/* The guest goes on, and nobody hears of it. */
static void check_guest(struct kvmi_env *env)
{
	TEST_ASSERT_EQ(kvmi_env_access(env, 0, kvmi_insn_write,
				       kvmi_gva(0, 0), 1, NULL, NULL, NULL), 0);
}

/* ---- HOOK ---- */

static void connect_tool(FIXTURE_DATA(nomem) * self)
{
	if (self->kernel_fd >= 0) {
		close(self->kernel_fd);
		kvmi_tool_close(&self->env.tool);
	}
	kvmi_socketpair(&self->tool_fd, &self->kernel_fd);
	kvmi_tool_init(&self->env.tool, self->tool_fd);
}

/* Nothing remains, not even of the connection. */
static void check_not_hooked(struct kvmi_env *env)
{
	struct kvmi_msg msg;

	TEST_ASSERT_ERRNO(__vm_kvmi_preunhook(env->vm), EFAULT);
	TEST_ASSERT_ERRNO(__vm_kvmi_allow_command(env->vm, -1, 1), EFAULT);
	TEST_ASSERT_EQ(kvmi_recv(&env->tool, &msg, 0), KVMI_RECV_TIMEOUT);
	kvmi_runner_do(&env->run[0], kvmi_insn_nop, 0, 0);
	kvmi_runner_wait(&env->run[0]);
}

/* The same socket does for the next attempt. */
static void check_hook(FIXTURE_DATA(nomem) * self, pid_t task, int want)
{
	struct kvmi_env *env = &self->env;
	int fd = open_fail_nth(task);
	int r, err, failures = 0;
	bool failed;
	unsigned int n;

	connect_tool(self);
	for (n = 1;; n++) {
		fail_nth(fd, n);
		r = __vm_kvmi_hook(env->vm, self->kernel_fd);
		err = errno;
		failed = has_failed(fd);
		if (!r) {
			kvmi_alive(&env->tool);
			check_guest(env);
			if (!failed)
				break;
			/* It was nothing that mattered. */
			vm_kvmi_unhook(env->vm);
			connect_tool(self);
			continue;
		}

		TEST_ASSERT(failed && r == -1 && err == ENOMEM,
			    "HOOK, allocation %u: %d, errno %d", n, r, err);
		failures++;
		check_not_hooked(env);
	}
	TEST_ASSERT(failures >= want, "%d failures", failures);
	close(fd);
}

TEST_F_TIMEOUT(nomem, hook, KVMI_TEST_TIMEOUT)
{
	/* the session, two vCPU's parts of it, a buffer, a thread */
	kvmi_env_add_vcpu(&self->env, 1);
	check_hook(self, getpid(), 5);
}

/* The thread is made by another. */
TEST_F_TIMEOUT(nomem, hook_thread, KVMI_TEST_TIMEOUT)
{
	check_hook(self, KTHREADD, 2);
}

/* It is not for lack of memory only that there may be no thread. */
TEST_F_TIMEOUT(nomem, hook_too_many_threads, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	unsigned long max = read_file(THREADS_MAX);
	int r, err;

	connect_tool(self);
	write_file(THREADS_MAX, "1");
	r = __vm_kvmi_hook(env->vm, self->kernel_fd);
	err = errno;
	write_file(THREADS_MAX, "%lu", max);
	TEST_ASSERT(r == -1 && err == ENOMEM, "HOOK: %d, errno %d", r, err);
	check_not_hooked(env);

	vm_kvmi_hook(env->vm, self->kernel_fd);
	kvmi_alive(&env->tool);
	check_guest(env);
}

/* ---- a vCPU for a VM that is hooked ---- */

static uint32_t vcpu_count(struct kvmi_tool *tool)
{
	struct kvmi_vm_get_info_reply rpl;

	kvmi_cmd(tool, KVMI_VM_GET_INFO, NULL, 0, &rpl, sizeof(rpl));

	return rpl.vcpu_count;
}

TEST_F_TIMEOUT(nomem, create_vcpu, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_vcpu_hdr hdr = { };
	int fd = open_fail_nth(getpid());
	int err, vcpu_fd, failures = 0;
	unsigned long id = 1;
	bool failed;
	unsigned int n;

	kvmi_env_hook(env);
	for (n = 1;; n++) {
		fail_nth(fd, n);
		vcpu_fd = ioctl(env->vm->fd, KVM_CREATE_VCPU, id);
		err = errno;
		failed = has_failed(fd);
		TEST_ASSERT(vcpu_fd >= 0 || (failed && err == ENOMEM),
			    "allocation %u: %d, errno %d", n, vcpu_fd, err);
		if (vcpu_fd >= 0) {
			close(vcpu_fd);
			id++;
		} else {
			failures++;
		}
		TEST_ASSERT_EQ(vcpu_count(&env->tool), id);

		/* Either there is all of it or nothing. */
		hdr.vcpu = id - 1;
		if (hdr.vcpu)
			TEST_ASSERT_EQ(__kvmi_cmd(&env->tool,
						  KVMI_VCPU_GET_INFO, &hdr,
						  sizeof(hdr), NULL, 0),
				       -KVM_EAGAIN);
		hdr.vcpu = id;
		TEST_ASSERT_EQ(__kvmi_cmd(&env->tool, KVMI_VCPU_GET_INFO, &hdr,
					  sizeof(hdr), NULL, 0), -KVM_EINVAL);
		vm_kvmi_allow_event(env->vm, KVMI_VCPU_EVENT_PF, 0);
		vm_kvmi_allow_event(env->vm, KVMI_VCPU_EVENT_PF, 1);

		if (!failed)
			break;
	}
	TEST_ASSERT(failures > 3, "%d failures", failures);

	check_guest(env);
	kvmi_env_unhook(env);
	kvmi_env_hook(env);
	kvmi_alive(&env->tool);
	close(fd);
}

/* ---- VM commands ---- */

static int cmd_with_failure(struct kvmi_env *env, int fd, unsigned int n,
			    uint16_t id, const void *req, size_t size,
			    size_t rpl_size, bool *failed)
{
	uint8_t rpl[64];
	int err;

	fail_nth(fd, n);
	err = __kvmi_cmd(&env->tool, id, req, size, rpl, rpl_size);
	*failed = has_failed(fd);
	TEST_ASSERT(!err || (*failed && err == -KVM_ENOMEM),
		    "command %u, allocation %u: error %d", id, n, err);

	return err;
}

/* @may_fail: it needs memory for more than its reply. */
static void check_vm_cmd(struct kvmi_env *env, int fd, uint16_t id,
			 const void *req, size_t size, size_t rpl_size,
			 bool may_fail)
{
	int failures = 0, faults = 0;
	unsigned int n;
	bool failed;

	for (n = 1;; n++) {
		if (cmd_with_failure(env, fd, n, id, req, size, rpl_size,
				     &failed))
			failures++;
		if (!failed)
			break;
		faults++;
		kvmi_alive(&env->tool);
	}
	TEST_ASSERT(faults, "command %u needs no memory", id);
	TEST_ASSERT(!failures == !may_fail, "command %u: %d failures of %d", id,
		    failures, faults);
}

TEST_F_TIMEOUT(nomem, vm_commands, KVMI_TEST_TIMEOUT)
{
	struct kvmi_vm_check_command check = { .id = KVMI_VM_CHECK_EVENT };
	struct kvmi_vm_check_event check_event = { };
	struct kvmi_vm_control_events events = { .enable = 1 };
	struct kvmi_vm_control_cleanup cleanup = { .enable = 1 };
	struct kvmi_vm_pause_vcpu pause = { };
	struct kvmi_vm_read_physical read = {
		.gpa = KVMI_TEST_GPA, .size = 8,
	};
	struct {
		struct kvmi_vm_write_physical req;
		uint64_t data;
	} write = { .req = { .gpa = KVMI_TEST_GPA, .size = 8 } };
	struct {
		struct kvmi_vm_set_page_access req;
		struct kvmi_page_access_entry entry;
	} access = {
		.req = { .count = 1 },
		.entry = { .gpa = KVMI_TEST_GPA, .access = KVMI_ACCESS_ALL },
	};
	struct kvmi_env *env = &self->env;
	struct kvmi_event ev;
	int fd, pauses = 0;
	bool failed = true;
	unsigned int n;

	kvmi_env_hook(env);
	fd = open_fail_nth(session_thread());

	check_vm_cmd(env, fd, KVMI_GET_VERSION, NULL, 0, 16, false);
	check_vm_cmd(env, fd, KVMI_VM_CHECK_COMMAND, &check, sizeof(check), 0,
		     false);
	check_vm_cmd(env, fd, KVMI_VM_CHECK_EVENT, &check_event,
		     sizeof(check_event), 0, false);
	check_vm_cmd(env, fd, KVMI_VM_GET_INFO, NULL, 0, 16, false);
	check_vm_cmd(env, fd, KVMI_VM_CONTROL_EVENTS, &events, sizeof(events),
		     0, false);
	check_vm_cmd(env, fd, KVMI_VM_CONTROL_CLEANUP, &cleanup,
		     sizeof(cleanup), 0, false);
	check_vm_cmd(env, fd, KVMI_VM_GET_MAX_GFN, NULL, 0, 8, false);
	check_vm_cmd(env, fd, KVMI_VM_READ_PHYSICAL, &read, sizeof(read), 8,
		     true);
	check_vm_cmd(env, fd, KVMI_VM_WRITE_PHYSICAL, &write, sizeof(write), 0,
		     false);
	check_vm_cmd(env, fd, KVMI_VM_SET_PAGE_ACCESS, &access, sizeof(access),
		     0, false);

	/* There is a pause for each that was successful. */
	for (n = 1; failed; n++)
		pauses += !cmd_with_failure(env, fd, n, KVMI_VM_PAUSE_VCPU,
					    &pause, sizeof(pause), 0, &failed);
	kvmi_runner_do(&env->run[0], kvmi_insn_nop, 0, 0);
	while (pauses--) {
		kvmi_wait_event(&env->tool, KVMI_VCPU_EVENT_PAUSE, &ev);
		kvmi_reply(&env->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	}
	kvmi_runner_wait(&env->run[0]);
	kvmi_no_event(&env->tool);
	close(fd);
}

/* A page that the VMM has not touched yet needs memory to be there. */
TEST_F_TIMEOUT(nomem, new_page, KVMI_TEST_TIMEOUT)
{
	struct {
		struct kvmi_vm_write_physical req;
		uint64_t data;
	} write = {
		.req = { .gpa = BIG_GPA, .size = 8 },
		.data = 0x1122334455667788ull,
	};
	struct kvmi_env *env = &self->env;
	int fd, failures = 0;
	uint64_t *page;
	unsigned int n;
	bool failed;

	/* a mapping with no neighbours, so that nothing of it exists yet */
	page = mmap(NULL, 3 * PAGE_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS,
		    -1, 0);
	TEST_ASSERT(page != MAP_FAILED, "mmap()");
	page = (void *)page + PAGE_SIZE;
	TEST_ASSERT(!mprotect(page, PAGE_SIZE, PROT_READ | PROT_WRITE),
		    "mprotect()");
	vm_set_user_memory_region(env->vm, BIG_SLOT, 0, BIG_GPA, PAGE_SIZE,
				  page);
	kvmi_env_hook(env);
	fd = open_fail_nth(session_thread());

	for (n = 1;; n++) {
		if (cmd_with_failure(env, fd, n, KVMI_VM_WRITE_PHYSICAL, &write,
				     sizeof(write), 0, &failed))
			failures++;
		if (!failed)
			break;
		kvmi_alive(&env->tool);
	}
	TEST_ASSERT(failures, "a new page needs no memory");
	TEST_ASSERT_EQ(*page, write.data);
	close(fd);
	vm_set_user_memory_region(env->vm, BIG_SLOT, 0, BIG_GPA, 0, NULL);
}

/* ---- SET_PAGE_ACCESS ---- */

/*
 * To record a restriction takes more than one attempt to allocate, so one
 * failure is none.  Here two in a row fail, behind the first @space bytes that
 * the session's thread gets.
 */
static void fail_twice_after(unsigned int space)
{
	write_file(FAILSLAB "/space", "%u", space);
	write_file(FAILSLAB "/times", "2");
}

static bool have_all_failed(void)
{
	return !read_file(FAILSLAB "/times");
}

static bool has_any_failed(void)
{
	return read_file(FAILSLAB "/times") != 2;
}

#define NR_FAR	4

/* Pages that are recorded far from each other */
static uint64_t far_gpa(int i)
{
	return BIG_GPA + i * (BIG_PAGES / NR_FAR) * PAGE_SIZE;
}

static unsigned int write_events(struct kvmi_env *env, uint64_t gva)
{
	struct kvmi_recs recs = { .action = KVMI_EVENT_ACTION_CONTINUE };

	return kvmi_env_access(env, 0, kvmi_insn_write, gva, 1, kvmi_record,
			       &recs, NULL);
}

TEST_F_TIMEOUT(nomem, set_page_access, KVMI_TEST_TIMEOUT)
{
	const uint64_t big_gva = KVMI_TEST_GVA + 0x40000000ull;
	struct {
		struct kvmi_vm_set_page_access req;
		struct kvmi_page_access_entry entries[NR_FAR + 2];
	} req = { .req = { .count = NR_FAR + 2 } };
	struct kvmi_env *env = &self->env;
	unsigned int space = 1;
	char path[64];
	int i, err, failures = 0;

	vm_userspace_mem_region_add(env->vm, VM_MEM_SRC_ANONYMOUS, BIG_GPA,
				    BIG_SLOT, BIG_PAGES, 0);
	virt_map(env->vm, big_gva, BIG_GPA, BIG_PAGES);
	kvmi_env_hook(env);
	kvmi_control_event(env, 0, KVMI_VCPU_EVENT_PF, true);
	kvmi_set_page_access(&env->tool, kvmi_gpa(1, 0), KVMI_PAGE_ACCESS_R);
	kvmi_set_page_access(&env->tool, kvmi_gpa(2, 0), KVMI_PAGE_ACCESS_R);

	/* restricts new ones, lifts one, and changes another */
	for (i = 0; i < NR_FAR; i++)
		req.entries[i] = (struct kvmi_page_access_entry){
			.gpa = far_gpa(i), .access = KVMI_PAGE_ACCESS_R,
		};
	req.entries[i++] = (struct kvmi_page_access_entry){
		.gpa = kvmi_gpa(1, 0), .access = KVMI_ACCESS_ALL,
	};
	req.entries[i] = (struct kvmi_page_access_entry){
		.gpa = kvmi_gpa(2, 0), .access = KVMI_PAGE_ACCESS_W,
	};

	snprintf(path, sizeof(path), "/proc/%d/make-it-fail", session_thread());
	write_file(FAILSLAB "/task-filter", "Y");
	write_file(FAILSLAB "/probability", "100");
	for (;; space += 100) {
		fail_twice_after(space);
		write_file(path, "1");
		err = __kvmi_cmd(&env->tool, KVMI_VM_SET_PAGE_ACCESS, &req,
				 sizeof(req), NULL, 0);
		write_file(path, "0");
		TEST_ASSERT(!err || (err == -KVM_ENOMEM && have_all_failed()),
			    "error %d, space %u", err, space);
		if (!err && !has_any_failed())
			break;

		/* either all of it or nothing */
		for (i = 0; i < NR_FAR; i++)
			TEST_ASSERT_EQ(write_events(env, big_gva + far_gpa(i) -
						    BIG_GPA), !err);
		TEST_ASSERT_EQ(write_events(env, kvmi_gva(1, 0)), !!err);
		TEST_ASSERT_EQ(write_events(env, kvmi_gva(2, 0)), !!err);
		failures += !!err;
	}
	write_file(FAILSLAB "/probability", "0");
	write_file(FAILSLAB "/task-filter", "N");
	write_file(FAILSLAB "/times", "1");

	/* a leaf for each, at least */
	TEST_ASSERT(failures >= NR_FAR, "%d failures", failures);
	for (i = 0; i < NR_FAR; i++)
		TEST_ASSERT_EQ(write_events(env, big_gva + far_gpa(i) -
					    BIG_GPA), 1);
	TEST_ASSERT_EQ(write_events(env, kvmi_gva(1, 0)), 0);
	TEST_ASSERT_EQ(write_events(env, kvmi_gva(2, 0)), 0);
}

/* ---- vCPU commands ---- */

static void pause_vcpu(struct kvmi_env *env, struct kvmi_event *ev)
{
	TEST_ASSERT_EQ(__kvmi_pause_vcpu(&env->tool, 0, false), 0);
	kvmi_runner_do(&env->run[0], kvmi_insn_nop, 0, 0);
	kvmi_wait_event(&env->tool, KVMI_VCPU_EVENT_PAUSE, ev);
	wait_for_reader();
}

static void resume_vcpu(struct kvmi_env *env, const struct kvmi_event *ev)
{
	kvmi_reply(&env->tool, ev, KVMI_EVENT_ACTION_CONTINUE);
	kvmi_runner_wait(&env->run[0]);
}

static int vcpu_cmd_with_failure(struct kvmi_env *env, int fd, unsigned int n,
				 uint16_t id, const void *req, size_t size,
				 size_t rpl_size, bool *failed)
{
	uint8_t rpl[4096];
	int err;

	fail_nth(fd, n);
	err = __kvmi_vcpu_cmd(env, 0, id, req, size, rpl, rpl_size);
	*failed = has_failed(fd);
	TEST_ASSERT(!err || err == -KVM_EBUSY ||
		    (*failed && err == -KVM_ENOMEM),
		    "command %u, allocation %u: error %d", id, n, err);

	return err;
}

/* @want: how many failures there are at least, the reply's not included */
static void check_vcpu_cmd(struct kvmi_env *env, int fd, uint16_t id,
			   const void *req, size_t size, size_t rpl_size,
			   int want)
{
	int err, failures = 0;
	unsigned int n;
	bool failed, done = false;

	for (n = 1;; n++) {
		err = vcpu_cmd_with_failure(env, fd, n, id, req, size, rpl_size,
					    &failed);
		/* The tool's exception waits for delivery. */
		if (err == -KVM_EBUSY)
			TEST_ASSERT(done && id == KVMI_VCPU_INJECT_EXCEPTION,
				    "command %u: busy", id);
		failures += err == -KVM_ENOMEM;
		done |= !err;
		if (!failed)
			break;
		kvmi_alive(&env->tool);
		wait_for_reader();
	}
	TEST_ASSERT(done, "command %u is never successful", id);
	TEST_ASSERT(failures >= want, "command %u: %d failures, want %d", id,
		    failures, want);
}

TEST_F_TIMEOUT(nomem, vcpu_commands, KVMI_TEST_TIMEOUT)
{
	struct kvmi_vcpu_control_events events = {
		.event_id = KVMI_VCPU_EVENT_PF, .enable = 1,
	};
	struct kvmi_vcpu_inject_exception inject = { .nr = UD_VECTOR };
	struct kvmi_vcpu_control_cr cr = { .cr = 3, .enable = 1 };
	struct kvmi_vcpu_control_msr msr = { .msr = MSR_LSTAR, .enable = 1 };
	struct kvmi_vcpu_get_registers get_regs = { };
	struct kvmi_env *env = &self->env;
	struct kvmi_event ev, trap;
	uint8_t zero[16] = { };
	uint8_t xsave[4096];
	int fd, err;

	kvmi_env_hook(env);
	fd = open_fail_nth(vcpu_thread());
	pause_vcpu(env, &ev);
	err = __kvmi_vcpu_cmd(env, 0, KVMI_VCPU_GET_XSAVE, NULL, 0, xsave,
			      sizeof(xsave));
	TEST_ASSERT_EQ(err, 0);

	check_vcpu_cmd(env, fd, KVMI_VCPU_GET_INFO, NULL, 0, 8, 1);
	check_vcpu_cmd(env, fd, KVMI_VCPU_CONTROL_EVENTS, &events,
		       sizeof(events), 0, 1);
	check_vcpu_cmd(env, fd, KVMI_VCPU_GET_REGISTERS, &get_regs,
		       sizeof(get_regs), 472, 2);
	check_vcpu_cmd(env, fd, KVMI_VCPU_SET_REGISTERS, &ev.common.arch.regs,
		       sizeof(ev.common.arch.regs), 0, 1);
	check_vcpu_cmd(env, fd, KVMI_VCPU_GET_CPUID, zero, 8, 16, 1);
	check_vcpu_cmd(env, fd, KVMI_VCPU_GET_XCR, zero, 8, 8, 1);
	check_vcpu_cmd(env, fd, KVMI_VCPU_GET_XSAVE, NULL, 0, 4096, 2);
	check_vcpu_cmd(env, fd, KVMI_VCPU_SET_XSAVE, xsave, sizeof(xsave), 0,
		       2);
	check_vcpu_cmd(env, fd, KVMI_VCPU_GET_MTRR_TYPE, zero, 8, 8, 1);
	check_vcpu_cmd(env, fd, KVMI_VCPU_TRANSLATE_GVA, zero, 8, 8, 1);
	check_vcpu_cmd(env, fd, KVMI_VCPU_CONTROL_CR, &cr, sizeof(cr), 0, 2);
	/* It uses what that one has allocated. */
	check_vcpu_cmd(env, fd, KVMI_VCPU_CONTROL_MSR, &msr, sizeof(msr), 0, 1);
	check_vcpu_cmd(env, fd, KVMI_VCPU_INJECT_EXCEPTION, &inject,
		       sizeof(inject), 0, 1);

	kvmi_reply(&env->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	kvmi_wait_event(&env->tool, KVMI_VCPU_EVENT_TRAP, &trap);
	TEST_ASSERT_EQ(trap.trap.nr, UD_VECTOR);
	resume_vcpu(env, &trap);
	check_guest(env);
	kvmi_no_event(&env->tool);
	close(fd);
}

/* If the vCPU does not wait, somebody else queues the command. */
TEST_F_TIMEOUT(nomem, queue, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	int fd;

	kvmi_env_hook(env);
	fd = open_fail_nth(session_thread());
	check_vcpu_cmd(env, fd, KVMI_VCPU_GET_INFO, NULL, 0, 8, 1);
	close(fd);
}

/* ---- what is intercepted ---- */

FIXTURE(intercept)
{
	struct kvmi_env env;
};

struct request {
	uint16_t id;
	union {
		struct kvmi_vcpu_control_events events;
		struct kvmi_vcpu_control_cr cr;
		struct kvmi_vcpu_control_msr msr;
	};
};

FIXTURE_VARIANT(intercept)
{
	uint16_t event;
	kvmi_insn insn;
	struct request reqs[2];
	int nr_reqs;
};

static uint64_t guest_cr4(uint64_t gva, uint64_t val, uint64_t arg)
{
	set_cr4(get_cr4() ^ X86_CR4_TSD);

	return 0;
}

static uint64_t guest_wrmsr(uint64_t gva, uint64_t val, uint64_t arg)
{
	wrmsr(MSR_KERNEL_GS_BASE, rdmsr(MSR_KERNEL_GS_BASE) ^ 0x1000);

	return 0;
}

static uint64_t guest_sgdt(uint64_t gva, uint64_t val, uint64_t arg)
{
	return get_gdt().size;
}

#define SELECT_CR4	{ .id = KVMI_VCPU_CONTROL_CR,			\
			  .cr = { .cr = 4, .enable = 1 } }
#define SELECT_MSR	{ .id = KVMI_VCPU_CONTROL_MSR,			\
			  .msr = { .msr = MSR_KERNEL_GS_BASE, .enable = 1 } }
#define ENABLE(id_)	{ .id = KVMI_VCPU_CONTROL_EVENTS,		\
			  .events = { .event_id = (id_), .enable = 1 } }

FIXTURE_VARIANT_ADD(intercept, cr_selected) {
	.event = KVMI_VCPU_EVENT_CR, .insn = guest_cr4,
	.reqs = { SELECT_CR4, ENABLE(KVMI_VCPU_EVENT_CR) }, .nr_reqs = 2,
};

FIXTURE_VARIANT_ADD(intercept, cr_enabled) {
	.event = KVMI_VCPU_EVENT_CR, .insn = guest_cr4,
	.reqs = { ENABLE(KVMI_VCPU_EVENT_CR), SELECT_CR4 }, .nr_reqs = 2,
};

FIXTURE_VARIANT_ADD(intercept, msr_selected) {
	.event = KVMI_VCPU_EVENT_MSR, .insn = guest_wrmsr,
	.reqs = { SELECT_MSR, ENABLE(KVMI_VCPU_EVENT_MSR) }, .nr_reqs = 2,
};

FIXTURE_VARIANT_ADD(intercept, msr_enabled) {
	.event = KVMI_VCPU_EVENT_MSR, .insn = guest_wrmsr,
	.reqs = { ENABLE(KVMI_VCPU_EVENT_MSR), SELECT_MSR }, .nr_reqs = 2,
};

FIXTURE_VARIANT_ADD(intercept, descriptor) {
	.event = KVMI_VCPU_EVENT_DESCRIPTOR, .insn = guest_sgdt,
	.reqs = { ENABLE(KVMI_VCPU_EVENT_DESCRIPTOR) }, .nr_reqs = 1,
};

FIXTURE_SETUP(intercept)
{
	if (!can_fail())
		SKIP(return, NO_FAILURES);

	create(&self->env);
	kvmi_env_hook(&self->env);
}

FIXTURE_TEARDOWN(intercept)
{
	destroy(&self->env);
}

/* The first of them that is successful needs memory; nothing is half done. */
TEST_F_TIMEOUT(intercept, first, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	struct kvmi_runner *r = &env->run[0];
	int err, i, failures = 0;
	struct kvmi_event ev;
	unsigned int n;
	bool failed;
	int fd = open_fail_nth(vcpu_thread());

	for (i = 0; i < variant->nr_reqs; i++) {
		for (n = 1, err = -KVM_ENOMEM; err; n++) {
			pause_vcpu(env, &ev);
			fail_nth(fd, n);
			err = __kvmi_vcpu_cmd(env, 0, variant->reqs[i].id,
					      &variant->reqs[i].events, 8, NULL,
					      0);
			failed = has_failed(fd);
			resume_vcpu(env, &ev);
			if (err == -KVM_EOPNOTSUPP &&
			    variant->event == KVMI_VCPU_EVENT_DESCRIPTOR)
				SKIP(return, "the CPU cannot intercept them");
			TEST_ASSERT(!err || (failed && err == -KVM_ENOMEM),
				    "request %d, allocation %u: error %d", i, n,
				    err);
			if (!err && i == variant->nr_reqs - 1)
				break;
			failures += !!err;
			kvmi_runner_do(r, variant->insn, 0, 0);
			kvmi_runner_wait(r);
		}
	}
	TEST_ASSERT(failures > variant->nr_reqs, "%d failures", failures);

	kvmi_runner_do(r, variant->insn, 0, 0);
	kvmi_wait_event(&env->tool, variant->event, &ev);
	if (variant->event == KVMI_VCPU_EVENT_DESCRIPTOR)
		kvmi_reply(&env->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
	else
		kvmi_reply_value(&env->tool, &ev, KVMI_EVENT_ACTION_CONTINUE,
				 variant->event == KVMI_VCPU_EVENT_CR ?
				 ev.cr.new_value : ev.msr.new_value, 8);
	kvmi_runner_wait(r);
	close(fd);
}

/* ---- events ---- */

#define PF_PAGE		1
#define DONE_PAGE	2
#define GO_PAGE		3

/*
 * The VMM itself needs memory when the guest has come to its end: that is put
 * off until it has been told that the access is made.
 */
static void guest_wait(void)
{
	*(volatile uint64_t *)kvmi_gva(DONE_PAGE, 0) = 1;
	while (!*(volatile uint64_t *)kvmi_gva(GO_PAGE, 0))
		;
}

static uint64_t guest_write(uint64_t gva, uint64_t val, uint64_t arg)
{
	kvmi_insn_write(gva, val, arg);
	guest_wait();

	return val;
}

static uint64_t guest_sse_add(uint64_t gva, uint64_t val, uint64_t arg)
{
	uint64_t sum = kvmi_insn_sse_add(gva, val, arg);

	guest_wait();

	return sum;
}

/*
 * Makes one access with allocation @n of the vCPU's thread failing, and expects
 * the event in any case.  KVM may need memory for the access itself; then
 * KVM_RUN fails, and goes on the next time.
 */
static bool access_with_failure(struct kvmi_env *env, int fd, unsigned int n,
				kvmi_insn insn, uint64_t val, uint64_t want)
{
	volatile uint64_t *done = kvmi_hva(env, DONE_PAGE, 0);
	volatile uint64_t *go = kvmi_hva(env, GO_PAGE, 0);
	struct kvmi_runner *r = &env->run[0];
	int events = 0, failures = 0;
	struct kvmi_event ev;
	bool failed;

	*done = 0;
	*go = 0;
	fail_nth(fd, n);
	kvmi_runner_do(r, insn, kvmi_gva(PF_PAGE, 0), val);
	while (!*done) {
		if (kvmi_poll_event(&env->tool, &ev, 1)) {
			TEST_ASSERT_EQ(ev.event, KVMI_VCPU_EVENT_PF);
			TEST_ASSERT_EQ(ev.pf.gpa, kvmi_gpa(PF_PAGE, 0));
			events++;
			kvmi_reply(&env->tool, &ev, KVMI_EVENT_ACTION_CONTINUE);
		}
		if (kvmi_runner_poll(r, 1)) {
			TEST_ASSERT(r->ret == -1 && r->err == ENOMEM,
				    "allocation %u: KVM_RUN %d, errno %d", n,
				    r->ret, r->err);
			failures++;
			kvmi_runner_go(r);
		}
	}
	failed = has_failed(fd);
	TEST_ASSERT(events == 1, "allocation %u: %d events", n, events);
	TEST_ASSERT(failures <= failed, "allocation %u: KVM_RUN fails", n);

	*go = 1;
	TEST_ASSERT_EQ(kvmi_runner_wait(r), want);

	return failed;
}

TEST_F_TIMEOUT(nomem, page_fault, KVMI_TEST_TIMEOUT)
{
	struct kvmi_env *env = &self->env;
	uint64_t *data = kvmi_hva(env, PF_PAGE, 0);
	unsigned int n;
	int fd;

	kvmi_env_hook(env);
	kvmi_control_event(env, 0, KVMI_VCPU_EVENT_PF, true);
	kvmi_set_page_access(&env->tool, kvmi_gpa(PF_PAGE, 0), 0);
	fd = open_fail_nth(vcpu_thread());

	for (n = 1; access_with_failure(env, fd, n, guest_write, n, n); n++) {
		TEST_ASSERT_EQ(*data, n);
		kvmi_alive(&env->tool);
	}
	TEST_ASSERT(n > 2, "an event needs no memory");

	/* one that the CPU carries out, if it can */
	if (!kvmi_can_step(&env->tool))
		return;
	*data = 5;
	for (n = 1; access_with_failure(env, fd, n, guest_sse_add, 7, 12); n++)
		kvmi_alive(&env->tool);
	TEST_ASSERT(n > 2, "an event needs no memory");
	close(fd);
}

/* The VMM asks the tool to leave: it does or does not hear of it. */
TEST_F_TIMEOUT(nomem, preunhook, KVMI_TEST_TIMEOUT)
{
	struct kvmi_vm_control_events req = { .enable = 1 };
	struct kvmi_env *env = &self->env;
	int r, err, failures = 0;
	struct kvmi_event ev;
	unsigned int n;
	bool failed;
	int fd;

	kvmi_env_hook(env);
	kvmi_cmd(&env->tool, KVMI_VM_CONTROL_EVENTS, &req, sizeof(req), NULL, 0);
	fd = open_fail_nth(getpid());
	for (n = 1;; n++) {
		fail_nth(fd, n);
		r = __vm_kvmi_preunhook(env->vm);
		err = errno;
		failed = has_failed(fd);
		TEST_ASSERT(!r || (failed && err == ENOENT),
			    "allocation %u: %d, errno %d", n, r, err);
		failures += !!r;
		if (!r)
			kvmi_wait_event(&env->tool, KVMI_VM_EVENT_UNHOOK, &ev);
		if (!failed)
			break;
		kvmi_alive(&env->tool);
	}
	TEST_ASSERT(failures, "the event needs no memory");
	kvmi_no_event(&env->tool);
	close(fd);
}

int main(int argc, char *argv[])
{
	TEST_REQUIRE(kvmi_supported());

	return test_harness_run(argc, argv);
}
