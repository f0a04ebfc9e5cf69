/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the tests of KVM introspection share: the VMM's ioctls, the tool's end
 * of the connection, vCPU threads that do one guest access at a time, and a
 * VM with all three put together.
 */
#ifndef SELFTEST_KVM_KVMI_UTIL_H
#define SELFTEST_KVM_KVMI_UTIL_H

#include <errno.h>
#include <pthread.h>
#include <linux/kvmi.h>
#include <linux/kvm_para.h>

#include "kvm_util.h"
#include "kvmi_insn.h"
#include "processor.h"
#include "ucall_common.h"

/*
 * Every wait for something that must come ends with a failure after
 * KVMI_TIMEOUT_MS; machines without virtualization hardware run these tests in
 * an emulator, hence the patience.  KVMI_QUIET_MS is how long a test listens
 * for something that must not come.
 */
#define KVMI_TIMEOUT_MS		60000
#define KVMI_QUIET_MS		150

/* For TEST_F_TIMEOUT(), in seconds: KVMI_TIMEOUT_MS has to fire first. */
#define KVMI_TEST_TIMEOUT	300

#define KVMI_MAX_MSG_SIZE	8184

/* ---- the VMM's ioctls; those with underscores return -1 and set errno ---- */

static inline int __vm_kvmi_hook(struct kvm_vm *vm, int fd)
{
	struct kvm_introspection_hook hook = { .fd = fd };

	return __vm_ioctl(vm, KVM_INTROSPECTION_HOOK, &hook);
}

static inline void vm_kvmi_hook(struct kvm_vm *vm, int fd)
{
	struct kvm_introspection_hook hook = { .fd = fd };

	vm_ioctl(vm, KVM_INTROSPECTION_HOOK, &hook);
}

static inline int __vm_kvmi_unhook(struct kvm_vm *vm)
{
	return __vm_ioctl(vm, KVM_INTROSPECTION_UNHOOK, NULL);
}

static inline void vm_kvmi_unhook(struct kvm_vm *vm)
{
	vm_ioctl(vm, KVM_INTROSPECTION_UNHOOK, NULL);
}

static inline int __vm_kvmi_preunhook(struct kvm_vm *vm)
{
	return __vm_ioctl(vm, KVM_INTROSPECTION_PREUNHOOK, NULL);
}

static inline int __vm_kvmi_allow_command(struct kvm_vm *vm, int32_t id,
					  uint32_t allow)
{
	struct kvm_introspection_feature feature = { .allow = allow, .id = id };

	return __vm_ioctl(vm, KVM_INTROSPECTION_COMMAND, &feature);
}

static inline void vm_kvmi_allow_command(struct kvm_vm *vm, int32_t id,
					 uint32_t allow)
{
	struct kvm_introspection_feature feature = { .allow = allow, .id = id };

	vm_ioctl(vm, KVM_INTROSPECTION_COMMAND, &feature);
}

static inline int __vm_kvmi_allow_event(struct kvm_vm *vm, int32_t id,
					uint32_t allow)
{
	struct kvm_introspection_feature feature = { .allow = allow, .id = id };

	return __vm_ioctl(vm, KVM_INTROSPECTION_EVENT, &feature);
}

static inline void vm_kvmi_allow_event(struct kvm_vm *vm, int32_t id,
				       uint32_t allow)
{
	struct kvm_introspection_feature feature = { .allow = allow, .id = id };

	vm_ioctl(vm, KVM_INTROSPECTION_EVENT, &feature);
}

/* @expr, an ioctl's result, is -1 with errno @err. */
#define TEST_ASSERT_ERRNO(expr, err)					\
do {									\
	int __r, __e;							\
									\
	errno = 0;							\
	__r = (expr);							\
	__e = errno;							\
	errno = 0; /* test_assert() would take EACCES for a skip */	\
	TEST_ASSERT(__r == -1 && __e == (err),				\
		    "%s: got %d, errno %d, want -1, errno %d",		\
		    #expr, __r, __e, (err));				\
} while (0)

/* ---- the tool's end of the connection ---- */

struct kvmi_msg {
	struct kvmi_msg_hdr hdr;
	uint8_t data[KVMI_MAX_MSG_SIZE];
};

/* A KVMI_VM_EVENT or KVMI_VCPU_EVENT, taken apart and checked. */
struct kvmi_event {
	uint32_t seq;
	uint16_t event;
	uint16_t vcpu;
	struct kvmi_vcpu_event common;
	struct kvmi_vcpu_event_pf pf;
	struct kvmi_vcpu_event_trap trap;
	/* what is particular to the other events */
	union {
		struct kvmi_vcpu_event_breakpoint bp;
		struct kvmi_vcpu_event_cr cr;
		struct kvmi_vcpu_event_xsetbv xsetbv;
		struct kvmi_vcpu_event_descriptor desc;
		struct kvmi_vcpu_event_msr msr;
		struct kvmi_vcpu_event_singlestep singlestep;
	};
};

struct kvmi_queued_msg {
	struct kvmi_queued_msg *next;
	struct kvmi_msg msg;
};

struct kvmi_tool {
	int fd;
	uint32_t seq;
	/* events that came while the reply to a command was awaited */
	struct kvmi_queued_msg *first, **last;
};

void kvmi_socketpair(int *tool_fd, int *kernel_fd);
void kvmi_tool_init(struct kvmi_tool *tool, int fd);
void kvmi_tool_close(struct kvmi_tool *tool);

int __kvmi_write(struct kvmi_tool *tool, const void *buf, size_t size);
void kvmi_write(struct kvmi_tool *tool, const void *buf, size_t size);
uint32_t kvmi_send(struct kvmi_tool *tool, uint16_t id, const void *data,
		   size_t size);
uint32_t kvmi_vcpu_send(struct kvmi_tool *tool, uint16_t vcpu, uint16_t id,
			const void *data, size_t size);

enum kvmi_recv { KVMI_RECV_TIMEOUT, KVMI_RECV_CLOSED, KVMI_RECV_MSG };
enum kvmi_recv kvmi_recv(struct kvmi_tool *tool, struct kvmi_msg *msg,
			 int timeout_ms);

/* Replies: 0 or -KVM_E*.  On success exactly @size bytes must follow. */
int __kvmi_recv_reply(struct kvmi_tool *tool, uint16_t id, uint32_t seq,
		      void *data, size_t size);
int __kvmi_cmd(struct kvmi_tool *tool, uint16_t id, const void *req,
	       size_t req_size, void *rpl, size_t rpl_size);
void kvmi_cmd(struct kvmi_tool *tool, uint16_t id, const void *req,
	      size_t req_size, void *rpl, size_t rpl_size);

bool kvmi_poll_event(struct kvmi_tool *tool, struct kvmi_event *ev,
		     int timeout_ms);
void kvmi_wait_event(struct kvmi_tool *tool, uint16_t event,
		     struct kvmi_event *ev);
void kvmi_no_event(struct kvmi_tool *tool);
void kvmi_wait_closed(struct kvmi_tool *tool);
void kvmi_alive(struct kvmi_tool *tool);

void kvmi_reply(struct kvmi_tool *tool, const struct kvmi_event *ev,
		uint8_t action);
/* With the data that CR and MSR events take, @size bytes of it */
void kvmi_reply_value(struct kvmi_tool *tool, const struct kvmi_event *ev,
		      uint8_t action, uint64_t value, size_t size);

int __kvmi_set_page_access(struct kvmi_tool *tool, uint64_t gpa,
			   uint8_t access);
void kvmi_set_page_access(struct kvmi_tool *tool, uint64_t gpa,
			  uint8_t access);
int __kvmi_read_physical(struct kvmi_tool *tool, uint64_t gpa, uint16_t size,
			 void *data);
int __kvmi_write_physical(struct kvmi_tool *tool, uint64_t gpa, uint16_t size,
			  const void *data);
int __kvmi_pause_vcpu(struct kvmi_tool *tool, uint16_t vcpu, bool wait);

/* Can KVM have a vCPU execute one instruction? */
bool kvmi_can_step(struct kvmi_tool *tool);

/* ---- what the guest does ---- */

/* In a page that the guest and the test share, one for each vCPU. */
struct kvmi_guest_req {
	kvmi_insn insn;
	uint64_t gva;
	uint64_t val;
	uint64_t arg;
	uint64_t flush;		/* invlpg @gva first */
	uint64_t result;
	uint64_t done;		/* how many requests were carried out */
};

void kvmi_guest_main(volatile struct kvmi_guest_req *req);

/* ---- a guest of the guest's (L2), one at a time ---- */

bool kvmi_can_nest(void);
/* Where the guest (L1) is to find what the CPU needs for it */
vm_vaddr_t kvmi_alloc_l2(struct kvm_vm *vm);
/* For L1.  Those that enter L2 tell whether it was VMCALL that it left with. */
void kvmi_l2_prepare(uint64_t gva, uint64_t l2);
bool kvmi_l2_launch(uint64_t gva);
/* Behind the instruction, three bytes with SVM, that it left with */
bool kvmi_l2_resume(uint64_t gva);

/* ---- a thread in KVM_RUN ---- */

struct kvmi_runner {
	struct kvm_vcpu *vcpu;
	struct kvmi_guest_req *req;
	pthread_t thread;
	int go_fd, done_fd;
	bool running;

	/* how the last run ended */
	int ret, err;
	struct ucall uc;

	/* KVM_EXIT_MMIO and KVM_EXIT_IO other than a ucall, answered here */
	unsigned int nr_io, io_bytes;
	uint64_t io_data;
};

void kvmi_runner_start(struct kvmi_runner *r, struct kvm_vcpu *vcpu,
		       struct kvmi_guest_req *req);
void kvmi_runner_stop(struct kvmi_runner *r);
/* Back into KVM_RUN, until it comes back with something for the test. */
void kvmi_runner_go(struct kvmi_runner *r);
/* The same, for one request. */
void kvmi_runner_do(struct kvmi_runner *r, kvmi_insn insn, uint64_t gva,
		    uint64_t val);
bool kvmi_runner_poll(struct kvmi_runner *r, int timeout_ms);
/* Waits for KVM_RUN to come back at all. */
void kvmi_runner_wait_exit(struct kvmi_runner *r);
/* Waits for the request to be carried out; returns the guest's result. */
uint64_t kvmi_runner_wait(struct kvmi_runner *r);
/* Interrupts KVM_RUN with a signal. */
void kvmi_runner_kick(struct kvmi_runner *r);

/* A statistic of the vCPU, which must not be in KVM_RUN now */
uint64_t kvmi_vcpu_stat(struct kvm_vcpu *vcpu, const char *name);

/* How often it has left the guest */
uint64_t kvmi_nr_exits(struct kvm_vcpu *vcpu);

/* ---- all of it together ---- */

/*
 * The test pages: a memslot of their own, and a place in the guest's address
 * space whose page tables nothing else uses, down from the top level.
 */
#define KVMI_TEST_SLOT		10
#define KVMI_TEST_GPA		0x40000000ull
#define KVMI_TEST_GVA		0x10000000000ull
#define KVMI_TEST_PAGES		16

/* Neither memory nor device */
#define KVMI_NO_MEM_GPA		0x7f0000000ull
#define KVMI_MMIO_GVA		(KVMI_TEST_GVA + 0x8000000000ull)

#define KVMI_ACCESS_ALL	(KVMI_PAGE_ACCESS_R | KVMI_PAGE_ACCESS_W | \
			 KVMI_PAGE_ACCESS_X)

#define KVMI_MAX_VCPUS	40

struct kvmi_env {
	struct kvm_vm *vm;
	unsigned int nr_vcpus;
	struct kvmi_runner run[KVMI_MAX_VCPUS];
	struct kvmi_tool tool;
	bool hooked;
	void *hva;		/* of the test pages */
};

static inline uint64_t kvmi_gva(unsigned int page, unsigned int offset)
{
	return KVMI_TEST_GVA + page * PAGE_SIZE + offset;
}

static inline uint64_t kvmi_gpa(unsigned int page, unsigned int offset)
{
	return KVMI_TEST_GPA + page * PAGE_SIZE + offset;
}

static inline void *kvmi_hva(struct kvmi_env *env, unsigned int page,
			     unsigned int offset)
{
	return env->hva + page * PAGE_SIZE + offset;
}

bool kvmi_supported(void);

void kvmi_env_create(struct kvmi_env *env, unsigned int nr_vcpus);
void kvmi_env_add_vcpu(struct kvmi_env *env, uint32_t vcpu_id);
void kvmi_env_destroy(struct kvmi_env *env);
/* Connects a tool that is allowed everything. */
void kvmi_env_hook(struct kvmi_env *env);
/* The same, through a connection that is there already */
void kvmi_env_hook_fds(struct kvmi_env *env, int tool_fd, int kernel_fd);
void kvmi_env_unhook(struct kvmi_env *env);

/*
 * Is INT3 intercepted if KVM says so?  Found out by the VMM, before the VM is
 * hooked; the guest has to have a handler for #BP.
 */
bool kvmi_is_int3_intercepted(struct kvmi_env *env);
#define KVMI_INT3_IGNORED \
	"the machine ignores the INT3 intercept (QEMU's TCG does)"

/*
 * Does a guest that has its interrupts off leave the processor when the host
 * wants it?  Found out without introspection.
 */
bool kvmi_is_masked_guest_left(void);
#define KVMI_MASKED_GUEST_STAYS \
	"no interrupt ends the stay of a guest that has them off (in Bochs' VMX, unless patched)"

/*
 * Commands to a vCPU are carried out by its thread: if it is not in KVM_RUN,
 * send it there.
 */
int __kvmi_vcpu_cmd(struct kvmi_env *env, unsigned int vcpu, uint16_t id,
		    const void *req, size_t req_size, void *rpl,
		    size_t rpl_size);
int __kvmi_control_event(struct kvmi_env *env, unsigned int vcpu,
			 uint16_t event, bool enable);
void kvmi_control_event(struct kvmi_env *env, unsigned int vcpu,
			uint16_t event, bool enable);

/*
 * One guest access, all its events answered by @handler.  Returns their
 * number, and in @result what the guest got.
 */
typedef uint8_t (*kvmi_handler)(struct kvmi_env *env,
				const struct kvmi_event *ev, void *arg);
unsigned int kvmi_env_access(struct kvmi_env *env, unsigned int vcpu,
			     kvmi_insn insn, uint64_t gva, uint64_t val,
			     kvmi_handler handler, void *arg,
			     uint64_t *result);

/* A handler's collection of page-fault events */
#define KVMI_MAX_RECS	64

struct kvmi_recs {
	uint8_t action;
	unsigned int nr;
	struct kvmi_event ev[KVMI_MAX_RECS];
};

uint8_t kvmi_record(struct kvmi_env *env, const struct kvmi_event *ev,
		    void *recs);

/* Is @ev's gva what the ABI promises for an access to @gva? */
bool kvmi_gva_valid(const struct kvmi_event *ev, uint64_t gva);

/* Runs @fn in a thread of its own, and fails if it does not come back. */
void kvmi_must_return(const char *what, void (*fn)(void *arg), void *arg);

#endif /* SELFTEST_KVM_KVMI_UTIL_H */
