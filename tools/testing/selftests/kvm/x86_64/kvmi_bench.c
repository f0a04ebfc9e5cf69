// SPDX-License-Identifier: GPL-2.0-only
/*
 * What an introspection event costs, in ticks of the guest's TSC from access
 * to access, and what a page restriction costs in memory.  Where the TSC
 * counts instructions, as in some emulators, the figures are exact; elsewhere
 * only their ratios within one run mean something.
 *
 * The tool is another process.  For comparison, the same is done without help
 * from the kernel: the VMM gets an exit for an access to a device and passes
 * it on to another thread.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kvmi_util.h"

#define BENCH_ACCESSES	200
#define BENCH_RETRIES	200

#define BENCH_MEM_SLOT	20
#define BENCH_MEM_GPA	0x100000000ull
#define BENCH_MEM_PAGES	100000
#define BENCH_BATCH	511

/* How many events the tool is to answer with RETRY before it continues. */
static unsigned int *nr_retries;

/* A line for programs: what, tab, how much */
static void report(const char *what, unsigned long figure)
{
	printf("%s\t%lu\n", what, figure);
}

static uint64_t guest_writes(uint64_t gva, uint64_t val, uint64_t arg)
{
	volatile uint64_t *p = (void *)gva;
	uint64_t start = rdtsc();
	uint64_t i;

	for (i = 0; i < val; i++)
		*p = i;

	return rdtsc() - start;
}

static void read_full(int fd, void *buf, size_t size)
{
	while (size) {
		ssize_t n = recv(fd, buf, size, 0);

		if (n <= 0)
			exit(0);
		buf += n;
		size -= n;
	}
}

/* The tool, no more elaborate than needed.  Events come in one piece. */
static void tool_process(int fd)
{
	struct kvmi_msg msg;
	struct {
		struct kvmi_msg_hdr hdr;
		struct kvmi_vcpu_hdr vcpu;
		struct kvmi_vcpu_event_reply reply;
	} reply = {
		.hdr.id = KVMI_VCPU_EVENT,
		.hdr.size = sizeof(reply) - sizeof(reply.hdr),
		.reply.event = KVMI_VCPU_EVENT_PF,
	};

	for (;;) {
		if (recv(fd, &msg, sizeof(msg), 0) <= 0)
			exit(0);

		reply.hdr.seq = msg.hdr.seq;
		reply.reply.action = KVMI_EVENT_ACTION_CONTINUE;
		if (*nr_retries) {
			--*nr_retries;
			reply.reply.action = KVMI_EVENT_ACTION_RETRY;
		}
		TEST_ASSERT_EQ(send(fd, &reply, sizeof(reply), 0),
			       sizeof(reply));
	}
}

/* The other end of the VMM's own channel. */
static void *echo_thread(void *arg)
{
	int fd = *(int *)arg;
	char c;

	while (recv(fd, &c, 1, 0) == 1)
		TEST_ASSERT_EQ(send(fd, &c, 1, 0), 1);

	return NULL;
}

/* Runs the vCPU in this thread until the guest has done its accesses. */
static uint64_t run_writes(struct kvmi_env *env, uint64_t gva, uint64_t n,
			   int echo_fd)
{
	struct kvmi_guest_req *req = env->run[0].req;
	struct kvm_vcpu *vcpu = env->run[0].vcpu;
	uint64_t done = req->done;
	struct ucall uc;
	char c = 0;

	req->insn = guest_writes;
	req->gva = gva;
	req->val = n;

	for (;;) {
		vcpu_run(vcpu);
		if (vcpu->run->exit_reason != KVM_EXIT_MMIO)
			break;
		TEST_ASSERT_EQ(send(echo_fd, &c, 1, 0), 1);
		read_full(echo_fd, &c, 1);
	}
	TEST_ASSERT_EQ(get_ucall(vcpu, &uc), UCALL_SYNC);
	TEST_ASSERT_EQ(req->done, done + 1);

	return req->result;
}

static void bench_vmm(struct kvmi_env *env)
{
	pthread_t thread;
	uint64_t ticks;
	int fd[2];

	TEST_ASSERT(!socketpair(AF_UNIX, SOCK_STREAM, 0, fd), "socketpair");
	pthread_create(&thread, NULL, echo_thread, &fd[1]);

	run_writes(env, KVMI_MMIO_GVA, 10, fd[0]);
	ticks = run_writes(env, KVMI_MMIO_GVA, BENCH_ACCESSES, fd[0]);
	report("event carried by the VMM, instructions",
	       ticks / BENCH_ACCESSES);

	shutdown(fd[0], SHUT_RDWR);
	pthread_join(thread, NULL);
	close(fd[0]);
	close(fd[1]);
}

static void bench_events(struct kvmi_env *env)
{
	uint64_t one, ticks;
	int status;
	pid_t pid;

	kvmi_control_event(env, 0, KVMI_VCPU_EVENT_PF, true);
	kvmi_set_page_access(&env->tool, kvmi_gpa(0, 0), KVMI_PAGE_ACCESS_R);

	pid = fork();
	if (!pid)
		tool_process(env->tool.fd);

	run_writes(env, kvmi_gva(0, 0), 10, -1);
	ticks = run_writes(env, kvmi_gva(0, 0), BENCH_ACCESSES, -1);
	report("page-fault event answered CONTINUE, instructions",
	       ticks / BENCH_ACCESSES);

	one = run_writes(env, kvmi_gva(0, 0), 1, -1);
	*nr_retries = BENCH_RETRIES;
	ticks = run_writes(env, kvmi_gva(0, 0), 1, -1);
	TEST_ASSERT_EQ(*nr_retries, 0);
	report("page-fault event answered RETRY, instructions",
	       (ticks - one) / BENCH_RETRIES);

	kvmi_env_unhook(env);
	waitpid(pid, &status, 0);
}

/* Memory in use by the kernel's slab allocator, in bytes. */
static unsigned long slab_bytes(void)
{
	unsigned long kib = 0;
	char line[128];
	FILE *f;

	f = fopen("/proc/meminfo", "r");
	TEST_ASSERT(f, "/proc/meminfo");
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "Slab: %lu", &kib) == 1)
			break;
	fclose(f);
	TEST_ASSERT(kib, "no Slab in /proc/meminfo");

	return kib * 1024;
}

/* Restrict every @step'th page of the large memslot.  Returns what it took. */
static uint64_t restrict_pages(struct kvmi_env *env, unsigned int step,
			       uint8_t access)
{
	uint64_t start, ticks = 0;
	struct {
		struct kvmi_vm_set_page_access hdr;
		struct kvmi_page_access_entry e[BENCH_BATCH];
	} req = { };
	unsigned int i, n = 0;

	for (i = 0; i < BENCH_MEM_PAGES; i += step) {
		req.e[n].gpa = BENCH_MEM_GPA + (uint64_t)i * PAGE_SIZE;
		req.e[n].access = access;
		if (++n < BENCH_BATCH && i + step < BENCH_MEM_PAGES)
			continue;

		req.hdr.count = n;
		start = rdtsc();
		kvmi_cmd(&env->tool, KVMI_VM_SET_PAGE_ACCESS, &req,
			 sizeof(req.hdr) + n * sizeof(req.e[0]), NULL, 0);
		ticks += rdtsc() - start;
		n = 0;
	}

	return ticks;
}

static void bench_memory(struct kvmi_env *env, unsigned int step)
{
	unsigned int n = DIV_ROUND_UP(BENCH_MEM_PAGES, step);
	unsigned long before, after;
	uint64_t ticks;
	char what[80];

	before = slab_bytes();
	ticks = restrict_pages(env, step, KVMI_PAGE_ACCESS_R);
	after = slab_bytes();

	snprintf(what, sizeof(what), "%u pages, one in %u: bytes per page", n,
		 step);
	report(what, (after - before) / n);
	snprintf(what, sizeof(what), "%u pages, one in %u: instructions per page",
		 n, step);
	report(what, ticks / n);

	restrict_pages(env, step, KVMI_ACCESS_ALL);
}

int main(void)
{
	struct kvmi_env env;

	TEST_REQUIRE(kvmi_supported());

	nr_retries = mmap(NULL, sizeof(*nr_retries), PROT_READ | PROT_WRITE,
			  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	TEST_ASSERT(nr_retries != MAP_FAILED, "mmap");

	kvmi_env_create(&env, 1);
	vm_userspace_mem_region_add(env.vm, VM_MEM_SRC_ANONYMOUS, BENCH_MEM_GPA,
				    BENCH_MEM_SLOT, BENCH_MEM_PAGES, 0);

	bench_vmm(&env);
	kvmi_env_hook(&env);
	bench_events(&env);

	kvmi_env_hook(&env);
	bench_memory(&env, 1);
	bench_memory(&env, 64);
	kvmi_env_destroy(&env);

	return 0;
}
