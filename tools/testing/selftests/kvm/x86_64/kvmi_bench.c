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

#define BENCH_N		200
#define BENCH_WARM_UP	10

#define BENCH_MEM_SLOT	20
#define BENCH_MEM_GPA	0x100000000ull
#define BENCH_MEM_GVA	0x20000000000ull
#define BENCH_MEM_PAGES	100000
#define BENCH_BATCH	511

#define DATA_PAGE	0
#define CODE_PAGE	1
#define OP_RET		0xc3
#define CR3_PWT		BIT(3)

#define R	KVMI_PAGE_ACCESS_R
#define W	KVMI_PAGE_ACCESS_W
#define X	KVMI_PAGE_ACCESS_X

/* How many events the tool is to answer with RETRY before it continues. */
static unsigned int *nr_retries;

/* A line for programs: what, tab, how much */
static void report(const char *what, unsigned long figure)
{
	printf("%s\t%lu\n", what, figure);
}

/* ---- guest ---- */

/* Does something @val times, and returns what it took. */
#define GUEST_LOOP(name, ...)						\
static uint64_t guest_##name(uint64_t gva, uint64_t val, uint64_t arg)	\
{									\
	uint64_t start = rdtsc();					\
	uint64_t i;							\
									\
	for (i = 0; i < val; i++)					\
		__VA_ARGS__;						\
									\
	return rdtsc() - start;						\
}

#define INVLPG	"invlpg (%0)\n\t"
#define STORE	"mov %1, (%0)"
/* KVM has the CPU execute it. */
#define SSE_STORE	"movups %%xmm0, (%0)"

GUEST_LOOP(writes, asm volatile(STORE :: "r"(gva), "r"(i) : "memory"))
GUEST_LOOP(sse_writes, asm volatile(SSE_STORE :: "r"(gva) : "memory"))
GUEST_LOOP(reads, READ_ONCE(*(uint64_t *)gva))
GUEST_LOOP(calls, ((void (*)(void))gva)())

/* Each with a page walk */
GUEST_LOOP(walks, asm volatile(INVLPG STORE
			       :: "r"(gva), "r"(i) : "memory"))
GUEST_LOOP(sse_walks, asm volatile(INVLPG SSE_STORE
				   :: "r"(gva) : "memory"))

/* A page after the other */
GUEST_LOOP(touches, asm volatile(STORE :: "r"(gva + i * PAGE_SIZE), "r"(i)
				 : "memory"))

GUEST_LOOP(int3s, asm volatile("int3"))
/* What is written already is not worth an event. */
GUEST_LOOP(cr3_writes, asm volatile("mov %0, %%cr3"
				    :: "r"(get_cr3() ^ CR3_PWT) : "memory"))
GUEST_LOOP(msr_writes, wrmsr(MSR_LSTAR, i + 1))

/* Two instructions for each of @val */
static uint64_t guest_steps(uint64_t gva, uint64_t val, uint64_t arg)
{
	uint64_t start = rdtsc();

	asm volatile("1: dec %0\n\t"
		     "jnz 1b" : "+r"(val));

	return rdtsc() - start;
}

static void skip_int3(struct ex_regs *regs)
{
}

/* ---- the tool ---- */

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

/* No more elaborate than needed.  Events come in one piece. */
static void answer_events(int fd)
{
	struct {
		struct kvmi_msg_hdr hdr;
		struct kvmi_event_hdr ehdr;
		struct kvmi_vcpu_event common;
		union {
			struct kvmi_vcpu_event_cr cr;
			struct kvmi_vcpu_event_msr msr;
			struct kvmi_vcpu_event_pf pf;
		};
	} ev;
	struct {
		struct kvmi_msg_hdr hdr;
		struct kvmi_vcpu_hdr vcpu;
		struct kvmi_vcpu_event_reply reply;
		uint64_t value;
	} reply = { .hdr.id = KVMI_VCPU_EVENT };
	size_t size;

	for (;;) {
		if (recv(fd, &ev, sizeof(ev), 0) <= 0)
			exit(0);

		size = sizeof(reply);
		if (ev.ehdr.event == KVMI_VCPU_EVENT_CR)
			reply.value = ev.cr.new_value;
		else if (ev.ehdr.event == KVMI_VCPU_EVENT_MSR)
			reply.value = ev.msr.new_value;
		else
			size = offsetof(typeof(reply), value);

		reply.hdr.seq = ev.hdr.seq;
		reply.hdr.size = size - sizeof(reply.hdr);
		reply.reply.event = ev.ehdr.event;
		reply.reply.action = KVMI_EVENT_ACTION_CONTINUE;
		if (*nr_retries) {
			--*nr_retries;
			reply.reply.action = KVMI_EVENT_ACTION_RETRY;
		}
		TEST_ASSERT_EQ(send(fd, &reply, size, 0), size);
	}
}

/* ---- the VMM ---- */

/* The other end of the VMM's own channel. */
static void *echo_thread(void *arg)
{
	int fd = *(int *)arg;
	char c;

	while (recv(fd, &c, 1, 0) == 1)
		TEST_ASSERT_EQ(send(fd, &c, 1, 0), 1);

	return NULL;
}

/* Runs the vCPU in this thread until the guest has done it @n times. */
static uint64_t run_loop(struct kvmi_env *env, kvmi_insn loop, uint64_t gva,
			 uint64_t n, int echo_fd)
{
	struct kvmi_guest_req *req = env->run[0].req;
	struct kvm_vcpu *vcpu = env->run[0].vcpu;
	uint64_t done = req->done;
	struct ucall uc;
	char c = 0;

	req->insn = loop;
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

	run_loop(env, guest_writes, KVMI_MMIO_GVA, BENCH_WARM_UP, fd[0]);
	ticks = run_loop(env, guest_writes, KVMI_MMIO_GVA, BENCH_N, fd[0]);
	report("event carried by the VMM, instructions", ticks / BENCH_N);

	shutdown(fd[0], SHUT_RDWR);
	pthread_join(thread, NULL);
	close(fd[0]);
	close(fd[1]);
}

/* What KVM does for each page that the guest accesses for the first time */
static void bench_violation(struct kvmi_env *env)
{
	size_t size = (BENCH_WARM_UP + BENCH_N) * PAGE_SIZE;
	uint64_t gva = BENCH_MEM_GVA;
	uint64_t ticks;

	memset(addr_gpa2hva(env->vm, BENCH_MEM_GPA), 1, size);
	virt_map(env->vm, gva, BENCH_MEM_GPA, size / PAGE_SIZE);

	run_loop(env, guest_touches, gva, BENCH_WARM_UP, -1);
	gva += BENCH_WARM_UP * PAGE_SIZE;
	ticks = run_loop(env, guest_touches, gva, BENCH_N, -1);
	report("EPT or NPT violation, no tool, instructions", ticks / BENCH_N);
}

/* ---- events ---- */

struct bench {
	const char *what;
	kvmi_insn loop;
	void (*prepare)(struct kvmi_env *env);
	bool retry;
	bool step;	/* the CPU has to be able to */
	bool unserved;	/* the last command of @prepare */
	unsigned int events;	/* for each time that the guest does it */
};

static void prepare_pf(struct kvmi_env *env)
{
	kvmi_control_event(env, 0, KVMI_VCPU_EVENT_PF, true);
	kvmi_set_page_access(&env->tool, kvmi_gpa(DATA_PAGE, 0), R);
}

static void prepare_bp(struct kvmi_env *env)
{
	kvmi_control_event(env, 0, KVMI_VCPU_EVENT_BREAKPOINT, true);
}

static void prepare_cr3(struct kvmi_env *env)
{
	struct kvmi_vcpu_control_cr req = { .cr = 3, .enable = 1 };

	kvmi_control_event(env, 0, KVMI_VCPU_EVENT_CR, true);
	TEST_ASSERT_EQ(__kvmi_vcpu_cmd(env, 0, KVMI_VCPU_CONTROL_CR, &req,
				       sizeof(req), NULL, 0), 0);
}

static void prepare_msr(struct kvmi_env *env)
{
	struct kvmi_vcpu_control_msr req = { .msr = MSR_LSTAR, .enable = 1 };

	kvmi_control_event(env, 0, KVMI_VCPU_EVENT_MSR, true);
	TEST_ASSERT_EQ(__kvmi_vcpu_cmd(env, 0, KVMI_VCPU_CONTROL_MSR, &req,
				       sizeof(req), NULL, 0), 0);
}

/* Once this is served, the vCPU does not come back without an answer. */
static void prepare_step(struct kvmi_env *env)
{
	struct kvmi_vcpu_control_singlestep req = { .enable = 1 };

	kvmi_vcpu_send(&env->tool, 0, KVMI_VCPU_CONTROL_SINGLESTEP, &req,
		       sizeof(req));
}

static void prepare_walk(struct kvmi_env *env)
{
	uint64_t *pte = vm_get_page_table_entry(env->vm,
						kvmi_gva(DATA_PAGE, 0));

	kvmi_set_page_access(&env->tool, addr_hva2gpa(env->vm, pte), R | X);
}

static void prepare_reported_walk(struct kvmi_env *env)
{
	struct kvmi_vcpu_control_events req = {
		.event_id = KVMI_VCPU_EVENT_PF,
		.enable = 1,
		.flags = KVMI_PF_WALK,
	};

	prepare_walk(env);
	TEST_ASSERT_EQ(__kvmi_vcpu_cmd(env, 0, KVMI_VCPU_CONTROL_EVENTS, &req,
				       sizeof(req), NULL, 0), 0);
}

static const struct bench benches[] = {
	{ "page-fault event, CONTINUE, emulated", guest_writes, prepare_pf },
	{ "page-fault event, CONTINUE, by the CPU", guest_sse_writes,
	  prepare_pf, .step = true },
	{ "page-fault event, RETRY", guest_writes, prepare_pf, .retry = true },
	{ "breakpoint event, RETRY", guest_int3s, prepare_bp, .retry = true },
	{ "CR3 event, CONTINUE", guest_cr3_writes, prepare_cr3 },
	{ "MSR event, CONTINUE", guest_msr_writes, prepare_msr },
	{ "single-step event, CONTINUE", guest_steps, prepare_step,
	  .step = true, .unserved = true, .events = 2 },
	{ "restricted page walk, no event, emulated", guest_walks,
	  prepare_walk },
	{ "restricted page walk, no event, by the CPU", guest_sse_walks,
	  prepare_walk, .step = true },
	{ "restricted page walk, event, CONTINUE, by the CPU", guest_walks,
	  prepare_reported_walk, .step = true },
	{ "restricted page walk, event, RETRY", guest_walks,
	  prepare_reported_walk, .retry = true },
};

static void tool_process(int fd, const struct bench *b)
{
	char reply[sizeof(struct kvmi_msg_hdr) + sizeof(struct kvmi_error_code)];

	if (b->unserved)
		read_full(fd, reply, sizeof(reply));
	answer_events(fd);
}

static uint64_t run_bench(struct kvmi_env *env, const struct bench *b)
{
	uint64_t gva = kvmi_gva(DATA_PAGE, 0);
	uint64_t one;

	run_loop(env, b->loop, gva, BENCH_WARM_UP, -1);
	if (!b->retry)
		return run_loop(env, b->loop, gva, BENCH_N, -1);

	one = run_loop(env, b->loop, gva, 1, -1);
	*nr_retries = BENCH_N;
	one = run_loop(env, b->loop, gva, 1, -1) - one;
	TEST_ASSERT_EQ(*nr_retries, 0);

	return one;
}

static void bench_event(struct kvmi_env *env, const struct bench *b)
{
	char what[80];
	int status;
	pid_t pid;

	kvmi_env_hook(env);
	if (!b->step || kvmi_can_step(&env->tool)) {
		b->prepare(env);
		pid = fork();
		if (!pid)
			tool_process(env->tool.fd, b);

		snprintf(what, sizeof(what), "%s, instructions", b->what);
		report(what, run_bench(env, b) / BENCH_N / (b->events ?: 1));
		shutdown(env->tool.fd, SHUT_RDWR);
		waitpid(pid, &status, 0);
	}
	kvmi_env_unhook(env);
}

/* ---- accesses that are not restricted ---- */

static uint64_t exits_of(struct kvmi_env *env, kvmi_insn loop, uint64_t gva,
			 uint64_t n)
{
	uint64_t exits = kvmi_nr_exits(env->run[0].vcpu);

	run_loop(env, loop, gva, n, -1);

	return kvmi_nr_exits(env->run[0].vcpu) - exits;
}

static void bench_exits(struct kvmi_env *env, const char *name, kvmi_insn loop,
			unsigned int page, uint8_t access)
{
	uint64_t gva = kvmi_gva(page, 0);
	char what[80];
	uint64_t none;

	kvmi_set_page_access(&env->tool, kvmi_gpa(page, 0), access);
	/* KVM maps what it has not mapped yet. */
	run_loop(env, loop, gva, BENCH_WARM_UP, -1);
	none = exits_of(env, loop, gva, 0);
	snprintf(what, sizeof(what), "%u %s: exits", BENCH_N, name);
	report(what, exits_of(env, loop, gva, BENCH_N) - none);
	kvmi_set_page_access(&env->tool, kvmi_gpa(page, 0), KVMI_ACCESS_ALL);
}

static void bench_unrestricted(struct kvmi_env *env)
{
	kvmi_env_hook(env);
	kvmi_control_event(env, 0, KVMI_VCPU_EVENT_PF, true);
	bench_exits(env, "reads of a page without W", guest_reads, DATA_PAGE,
		    R | X);
	bench_exits(env, "writes to a page without X", guest_writes, DATA_PAGE,
		    R | W);
	bench_exits(env, "calls of a page without R and W", guest_calls,
		    CODE_PAGE, X);
	kvmi_env_unhook(env);
}

/* ---- memory, and the command ---- */

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
	int i;

	TEST_REQUIRE(kvmi_supported());

	nr_retries = mmap(NULL, sizeof(*nr_retries), PROT_READ | PROT_WRITE,
			  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	TEST_ASSERT(nr_retries != MAP_FAILED, "mmap");

	kvmi_env_create(&env, 1);
	vm_install_exception_handler(env.vm, BP_VECTOR, skip_int3);
	memset(kvmi_hva(&env, CODE_PAGE, 0), OP_RET, PAGE_SIZE);
	vm_userspace_mem_region_add(env.vm, VM_MEM_SRC_ANONYMOUS, BENCH_MEM_GPA,
				    BENCH_MEM_SLOT, BENCH_MEM_PAGES, 0);

	bench_vmm(&env);
	bench_violation(&env);
	for (i = 0; i < ARRAY_SIZE(benches); i++)
		bench_event(&env, &benches[i]);
	bench_unrestricted(&env);

	kvmi_env_hook(&env);
	bench_memory(&env, 1);
	bench_memory(&env, 64);
	kvmi_env_destroy(&env);

	return 0;
}
