// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the tests of KVM introspection share.
 */
#include <poll.h>
#include <signal.h>
#include <time.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include "test_util.h"
#include "kvm_util.h"
#include "processor.h"
#include "svm_util.h"
#include "vmx.h"
#include "kvmi_util.h"

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000ll + ts.tv_nsec / 1000000;
}

/* ---- the tool's end of the connection ---- */

void kvmi_socketpair(int *tool_fd, int *kernel_fd)
{
	int fds[2], r;

	r = socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds);
	TEST_ASSERT(!r, __KVM_SYSCALL_ERROR("socketpair()", r));

	*tool_fd = fds[0];
	*kernel_fd = fds[1];
}

void kvmi_tool_init(struct kvmi_tool *tool, int fd)
{
	memset(tool, 0, sizeof(*tool));
	tool->fd = fd;
	tool->seq = 0x1000;
	tool->last = &tool->first;
}

/* Closing the socket is how a tool says good-bye. */
void kvmi_tool_close(struct kvmi_tool *tool)
{
	struct kvmi_queued_msg *msg;

	while ((msg = tool->first)) {
		tool->first = msg->next;
		free(msg);
	}
	tool->last = &tool->first;

	if (tool->fd >= 0)
		close(tool->fd);
	tool->fd = -1;
}

int __kvmi_write(struct kvmi_tool *tool, const void *buf, size_t size)
{
	while (size) {
		ssize_t n = send(tool->fd, buf, size, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		buf += n;
		size -= n;
	}

	return 0;
}

void kvmi_write(struct kvmi_tool *tool, const void *buf, size_t size)
{
	int r = __kvmi_write(tool, buf, size);

	TEST_ASSERT(!r, __KVM_SYSCALL_ERROR("send()", r));
}

/* Sends a message and returns its sequence number. */
uint32_t kvmi_send(struct kvmi_tool *tool, uint16_t id, const void *data,
		   size_t size)
{
	struct kvmi_msg msg = {
		.hdr = { .id = id, .size = size, .seq = ++tool->seq },
	};

	TEST_ASSERT(size <= sizeof(msg.data), "message of %zu bytes", size);
	if (size)
		memcpy(msg.data, data, size);
	kvmi_write(tool, &msg, sizeof(msg.hdr) + size);

	return msg.hdr.seq;
}

uint32_t kvmi_vcpu_send(struct kvmi_tool *tool, uint16_t vcpu, uint16_t id,
			const void *data, size_t size)
{
	struct {
		struct kvmi_vcpu_hdr hdr;
		uint8_t data[KVMI_MAX_MSG_SIZE - sizeof(struct kvmi_vcpu_hdr)];
	} req = { .hdr = { .vcpu = vcpu } };

	TEST_ASSERT(size <= sizeof(req.data), "vCPU message of %zu bytes", size);
	if (size)
		memcpy(req.data, data, size);

	return kvmi_send(tool, id, &req, sizeof(req.hdr) + size);
}

/* Reads exactly @size bytes, or says why it did not get even one. */
static enum kvmi_recv recv_all(struct kvmi_tool *tool, void *buf, size_t size,
			       int timeout_ms)
{
	int64_t end = now_ms() + timeout_ms;
	size_t got = 0;

	while (got < size) {
		struct pollfd pfd = { .fd = tool->fd, .events = POLLIN };
		int64_t left = end - now_ms();
		ssize_t n;
		int r;

		r = poll(&pfd, 1, left > 0 ? left : 0);
		if (r < 0 && errno == EINTR)
			continue;
		TEST_ASSERT(r >= 0, __KVM_SYSCALL_ERROR("poll()", r));
		if (!r) {
			TEST_ASSERT(!got, "message cut off after %zu bytes of %zu",
				    got, size);
			return KVMI_RECV_TIMEOUT;
		}

		n = recv(tool->fd, buf + got, size - got, 0);
		if (n < 0 && errno == EINTR)
			continue;
		/* closed with a message of ours still unread: ECONNRESET */
		if (!n || (n < 0 && errno == ECONNRESET)) {
			TEST_ASSERT(!got, "closed after %zu bytes of %zu",
				    got, size);
			return KVMI_RECV_CLOSED;
		}
		TEST_ASSERT(n > 0, __KVM_SYSCALL_ERROR("recv()", (int)n));
		got += n;
	}

	return KVMI_RECV_MSG;
}

enum kvmi_recv kvmi_recv(struct kvmi_tool *tool, struct kvmi_msg *msg,
			 int timeout_ms)
{
	enum kvmi_recv r;

	r = recv_all(tool, &msg->hdr, sizeof(msg->hdr), timeout_ms);
	if (r != KVMI_RECV_MSG)
		return r;

	TEST_ASSERT(msg->hdr.size <= sizeof(msg->data),
		    "message %u: size %u", msg->hdr.id, msg->hdr.size);

	r = recv_all(tool, msg->data, msg->hdr.size, KVMI_TIMEOUT_MS);
	TEST_ASSERT(r == KVMI_RECV_MSG, "message %u without its %u bytes",
		    msg->hdr.id, msg->hdr.size);

	return KVMI_RECV_MSG;
}

static bool is_event(const struct kvmi_msg *msg)
{
	return msg->hdr.id == KVMI_VM_EVENT || msg->hdr.id == KVMI_VCPU_EVENT;
}

static void queue_msg(struct kvmi_tool *tool, const struct kvmi_msg *msg)
{
	struct kvmi_queued_msg *q = malloc(sizeof(*q));

	TEST_ASSERT(q, "out of memory");
	q->next = NULL;
	q->msg = *msg;
	*tool->last = q;
	tool->last = &q->next;
}

static bool dequeue_msg(struct kvmi_tool *tool, struct kvmi_msg *msg)
{
	struct kvmi_queued_msg *q = tool->first;

	if (!q)
		return false;

	*msg = q->msg;
	tool->first = q->next;
	if (!tool->first)
		tool->last = &tool->first;
	free(q);

	return true;
}

static int parse_reply(const struct kvmi_msg *msg, uint16_t id, uint32_t seq,
		       void *data, size_t size)
{
	const struct kvmi_error_code *ec = (const void *)msg->data;

	TEST_ASSERT(msg->hdr.id == id && msg->hdr.seq == seq,
		    "reply {id %u, seq %u} to {id %u, seq %u}",
		    msg->hdr.id, msg->hdr.seq, id, seq);
	TEST_ASSERT(msg->hdr.size >= sizeof(*ec), "reply to %u of %u bytes",
		    id, msg->hdr.size);
	TEST_ASSERT(!ec->padding, "reply to %u: padding %#x", id, ec->padding);
	TEST_ASSERT(ec->err <= 0, "reply to %u: error %d", id, ec->err);

	if (ec->err) {
		TEST_ASSERT(msg->hdr.size == sizeof(*ec),
			    "reply to %u: error %d and yet %u bytes",
			    id, ec->err, msg->hdr.size);
		return ec->err;
	}

	TEST_ASSERT(msg->hdr.size == sizeof(*ec) + size,
		    "reply to %u of %u bytes, want %zu", id, msg->hdr.size,
		    sizeof(*ec) + size);
	if (size)
		memcpy(data, msg->data + sizeof(*ec), size);

	return 0;
}

int __kvmi_recv_reply(struct kvmi_tool *tool, uint16_t id, uint32_t seq,
		      void *data, size_t size)
{
	struct kvmi_msg msg;
	enum kvmi_recv r;

	for (;;) {
		r = kvmi_recv(tool, &msg, KVMI_TIMEOUT_MS);
		TEST_ASSERT(r == KVMI_RECV_MSG, "%s before the reply to %u",
			    r == KVMI_RECV_CLOSED ? "closed" : "timed out", id);
		if (!is_event(&msg))
			break;
		queue_msg(tool, &msg);
	}

	return parse_reply(&msg, id, seq, data, size);
}

int __kvmi_cmd(struct kvmi_tool *tool, uint16_t id, const void *req,
	       size_t req_size, void *rpl, size_t rpl_size)
{
	uint32_t seq = kvmi_send(tool, id, req, req_size);

	return __kvmi_recv_reply(tool, id, seq, rpl, rpl_size);
}

void kvmi_cmd(struct kvmi_tool *tool, uint16_t id, const void *req,
	      size_t req_size, void *rpl, size_t rpl_size)
{
	int err = __kvmi_cmd(tool, id, req, req_size, rpl, rpl_size);

	TEST_ASSERT(!err, "command %u: error %d", id, err);
}

static size_t event_specific_size(uint16_t event)
{
	switch (event) {
	case KVMI_VCPU_EVENT_PAUSE:
		return 0;
	case KVMI_VCPU_EVENT_TRAP:
		return sizeof(struct kvmi_vcpu_event_trap);
	case KVMI_VCPU_EVENT_PF:
		return sizeof(struct kvmi_vcpu_event_pf);
	case KVMI_VCPU_EVENT_HYPERCALL:
		return 0;
	case KVMI_VCPU_EVENT_BREAKPOINT:
		return sizeof(struct kvmi_vcpu_event_breakpoint);
	case KVMI_VCPU_EVENT_CR:
		return sizeof(struct kvmi_vcpu_event_cr);
	case KVMI_VCPU_EVENT_XSETBV:
		return sizeof(struct kvmi_vcpu_event_xsetbv);
	case KVMI_VCPU_EVENT_DESCRIPTOR:
		return sizeof(struct kvmi_vcpu_event_descriptor);
	case KVMI_VCPU_EVENT_MSR:
		return sizeof(struct kvmi_vcpu_event_msr);
	case KVMI_VCPU_EVENT_SINGLESTEP:
		return sizeof(struct kvmi_vcpu_event_singlestep);
	default:
		TEST_FAIL("unexpected event %u", event);
	}
}

static bool is_zero(const uint8_t *padding, size_t size)
{
	size_t i;

	for (i = 0; i < size; i++)
		if (padding[i])
			return false;

	return true;
}

/* The events that are about an instruction */
static void parse_insn_event(const void *data, struct kvmi_event *ev)
{
	bool padding = false;

	switch (ev->event) {
	case KVMI_VCPU_EVENT_BREAKPOINT:
		memcpy(&ev->bp, data, sizeof(ev->bp));
		padding = !is_zero(ev->bp.padding, sizeof(ev->bp.padding));
		break;
	case KVMI_VCPU_EVENT_CR:
		memcpy(&ev->cr, data, sizeof(ev->cr));
		padding = !is_zero(ev->cr.padding, sizeof(ev->cr.padding));
		break;
	case KVMI_VCPU_EVENT_XSETBV:
		memcpy(&ev->xsetbv, data, sizeof(ev->xsetbv));
		padding = !is_zero(ev->xsetbv.padding,
				   sizeof(ev->xsetbv.padding));
		break;
	case KVMI_VCPU_EVENT_DESCRIPTOR:
		memcpy(&ev->desc, data, sizeof(ev->desc));
		padding = !is_zero(ev->desc.padding, sizeof(ev->desc.padding));
		break;
	case KVMI_VCPU_EVENT_MSR:
		memcpy(&ev->msr, data, sizeof(ev->msr));
		padding = ev->msr.padding;
		break;
	}
	TEST_ASSERT(!padding, "event %u: padding", ev->event);
}

/* Whatever the test is about, an event has to be well formed. */
static void parse_event(const struct kvmi_msg *msg, struct kvmi_event *ev)
{
	const struct kvmi_event_hdr *hdr = (const void *)msg->data;
	size_t size;
	int i;

	TEST_ASSERT(is_event(msg), "message %u, want an event", msg->hdr.id);

	memset(ev, 0, sizeof(*ev));
	ev->seq = msg->hdr.seq;
	ev->event = hdr->event;

	TEST_ASSERT(msg->hdr.size >= sizeof(*hdr), "event of %u bytes",
		    msg->hdr.size);
	TEST_ASSERT(!hdr->padding[0] && !hdr->padding[1] && !hdr->padding[2],
		    "event %u: header padding", ev->event);

	if (msg->hdr.id == KVMI_VM_EVENT) {
		TEST_ASSERT(ev->event == KVMI_VM_EVENT_UNHOOK,
			    "unexpected VM event %u", ev->event);
		TEST_ASSERT(msg->hdr.size == sizeof(*hdr),
			    "UNHOOK event of %u bytes", msg->hdr.size);
		return;
	}

	size = event_specific_size(ev->event);
	TEST_ASSERT(msg->hdr.size == sizeof(*hdr) + sizeof(ev->common) + size,
		    "event %u of %u bytes", ev->event, msg->hdr.size);

	memcpy(&ev->common, hdr + 1, sizeof(ev->common));
	TEST_ASSERT(ev->common.size == sizeof(ev->common),
		    "event %u: common part of %u bytes", ev->event,
		    ev->common.size);
	TEST_ASSERT(!ev->common.padding, "event %u: padding", ev->event);
	for (i = 0; i < ARRAY_SIZE(ev->common.arch.padding); i++)
		TEST_ASSERT(!ev->common.arch.padding[i],
			    "event %u: arch padding", ev->event);
	ev->vcpu = ev->common.vcpu;

	if (ev->event == KVMI_VCPU_EVENT_TRAP) {
		memcpy(&ev->trap, (void *)(hdr + 1) + sizeof(ev->common),
		       sizeof(ev->trap));
		TEST_ASSERT(!ev->trap.padding1 && !ev->trap.padding2,
			    "TRAP event: padding");
	}
	parse_insn_event((void *)(hdr + 1) + sizeof(ev->common), ev);
	if (ev->event == KVMI_VCPU_EVENT_SINGLESTEP) {
		memcpy(&ev->singlestep, (void *)(hdr + 1) + sizeof(ev->common),
		       sizeof(ev->singlestep));
		TEST_ASSERT(ev->singlestep.failed <= 1, "SINGLESTEP: failed %u",
			    ev->singlestep.failed);
		for (i = 0; i < ARRAY_SIZE(ev->singlestep.padding); i++)
			TEST_ASSERT(!ev->singlestep.padding[i],
				    "SINGLESTEP: padding");
	}

	if (ev->event == KVMI_VCPU_EVENT_PF) {
		memcpy(&ev->pf, (void *)(hdr + 1) + sizeof(ev->common),
		       sizeof(ev->pf));
		TEST_ASSERT(!(ev->pf.flags & ~KVMI_PF_WALK) &&
			    !ev->pf.padding2 &&
			    !ev->pf.padding3, "PF event: padding");
		TEST_ASSERT(ev->pf.access == KVMI_PAGE_ACCESS_R ||
			    ev->pf.access == KVMI_PAGE_ACCESS_W ||
			    ev->pf.access == KVMI_PAGE_ACCESS_X,
			    "PF event: access %#x, want exactly one bit",
			    ev->pf.access);
	}
}

/* Is there an event?  Anything else that comes is a failure. */
bool kvmi_poll_event(struct kvmi_tool *tool, struct kvmi_event *ev,
		     int timeout_ms)
{
	struct kvmi_msg msg;

	if (!dequeue_msg(tool, &msg)) {
		enum kvmi_recv r = kvmi_recv(tool, &msg, timeout_ms);

		TEST_ASSERT(r != KVMI_RECV_CLOSED, "connection closed");
		if (r == KVMI_RECV_TIMEOUT)
			return false;
	}

	parse_event(&msg, ev);
	return true;
}

void kvmi_wait_event(struct kvmi_tool *tool, uint16_t event,
		     struct kvmi_event *ev)
{
	bool r = kvmi_poll_event(tool, ev, KVMI_TIMEOUT_MS);

	TEST_ASSERT(r, "no event came, want %u", event);
	TEST_ASSERT(ev->event == event, "event %u, want %u", ev->event, event);
}

void kvmi_no_event(struct kvmi_tool *tool)
{
	struct kvmi_event ev;
	bool r = kvmi_poll_event(tool, &ev, KVMI_QUIET_MS);

	TEST_ASSERT(!r, "unwanted event %u of vCPU %u, gpa %#llx access %u rip %#llx",
		    ev.event, ev.vcpu, ev.pf.gpa, ev.pf.access,
		    ev.common.arch.regs.rip);
}

/* Events may still be on their way, replies may not. */
void kvmi_wait_closed(struct kvmi_tool *tool)
{
	struct kvmi_msg msg;
	enum kvmi_recv r;

	while (dequeue_msg(tool, &msg))
		;
	do {
		r = kvmi_recv(tool, &msg, KVMI_TIMEOUT_MS);
		TEST_ASSERT(r != KVMI_RECV_TIMEOUT,
			    "connection still open, want it closed");
		if (r == KVMI_RECV_MSG)
			TEST_ASSERT(is_event(&msg), "message %u, want the end",
				    msg.hdr.id);
	} while (r != KVMI_RECV_CLOSED);
}

/* The connection works. */
void kvmi_alive(struct kvmi_tool *tool)
{
	struct kvmi_get_version_reply rpl;

	kvmi_cmd(tool, KVMI_GET_VERSION, NULL, 0, &rpl, sizeof(rpl));
	TEST_ASSERT_EQ(rpl.version, KVMI_VERSION);
}

void kvmi_reply(struct kvmi_tool *tool, const struct kvmi_event *ev,
		uint8_t action)
{
	struct {
		struct kvmi_msg_hdr hdr;
		struct kvmi_vcpu_hdr vcpu;
		struct kvmi_vcpu_event_reply reply;
	} msg = {
		.hdr = {
			.id = KVMI_VCPU_EVENT,
			.size = sizeof(msg) - sizeof(msg.hdr),
			.seq = ev->seq,
		},
		.vcpu = { .vcpu = ev->vcpu },
		.reply = { .action = action, .event = ev->event },
	};

	kvmi_write(tool, &msg, sizeof(msg));
}

void kvmi_reply_value(struct kvmi_tool *tool, const struct kvmi_event *ev,
		      uint8_t action, uint64_t value, size_t size)
{
	struct {
		struct kvmi_msg_hdr hdr;
		struct kvmi_vcpu_hdr vcpu;
		struct kvmi_vcpu_event_reply reply;
		uint64_t value[2];
	} msg = {
		.hdr = {
			.id = KVMI_VCPU_EVENT,
			.size = sizeof(msg.vcpu) + sizeof(msg.reply) + size,
			.seq = ev->seq,
		},
		.vcpu = { .vcpu = ev->vcpu },
		.reply = { .action = action, .event = ev->event },
		.value = { value },
	};

	kvmi_write(tool, &msg, sizeof(msg.hdr) + msg.hdr.size);
}

int __kvmi_set_page_access(struct kvmi_tool *tool, uint64_t gpa,
			   uint8_t access)
{
	struct {
		struct kvmi_vm_set_page_access req;
		struct kvmi_page_access_entry entry;
	} req = {
		.req = { .count = 1 },
		.entry = { .gpa = gpa, .access = access },
	};

	return __kvmi_cmd(tool, KVMI_VM_SET_PAGE_ACCESS, &req, sizeof(req),
			  NULL, 0);
}

void kvmi_set_page_access(struct kvmi_tool *tool, uint64_t gpa,
			  uint8_t access)
{
	int err = __kvmi_set_page_access(tool, gpa, access);

	TEST_ASSERT(!err, "SET_PAGE_ACCESS(%#lx, %u): error %d", gpa, access,
		    err);
}

int __kvmi_read_physical(struct kvmi_tool *tool, uint64_t gpa, uint16_t size,
			 void *data)
{
	struct kvmi_vm_read_physical req = { .gpa = gpa, .size = size };

	return __kvmi_cmd(tool, KVMI_VM_READ_PHYSICAL, &req, sizeof(req), data,
			  size);
}

int __kvmi_write_physical(struct kvmi_tool *tool, uint64_t gpa, uint16_t size,
			  const void *data)
{
	struct kvmi_vm_write_physical *req;
	int err;

	req = calloc(1, sizeof(*req) + size);
	TEST_ASSERT(req, "out of memory");
	req->gpa = gpa;
	req->size = size;
	if (size)
		memcpy(req->data, data, size);

	err = __kvmi_cmd(tool, KVMI_VM_WRITE_PHYSICAL, req, sizeof(*req) + size,
			 NULL, 0);
	free(req);

	return err;
}

int __kvmi_pause_vcpu(struct kvmi_tool *tool, uint16_t vcpu, bool wait)
{
	struct kvmi_vm_pause_vcpu req = { .vcpu = vcpu, .wait = wait };

	return __kvmi_cmd(tool, KVMI_VM_PAUSE_VCPU, &req, sizeof(req), NULL, 0);
}

bool kvmi_can_step(struct kvmi_tool *tool)
{
	struct kvmi_get_version_reply version;

	kvmi_cmd(tool, KVMI_GET_VERSION, NULL, 0, &version, sizeof(version));

	return version.features.singlestep;
}

/* ---- what the guest does ---- */

void kvmi_guest_main(volatile struct kvmi_guest_req *req)
{
	for (;;) {
		if (req->flush)
			asm volatile("invlpg (%0)" :: "r"(req->gva) : "memory");
		req->result = req->insn(req->gva, req->val, req->arg);
		req->done++;
		GUEST_SYNC(req->done);
	}
}

/* ---- a guest of the guest's ---- */

bool kvmi_can_nest(void)
{
	return kvm_cpu_has(X86_FEATURE_SVM) || kvm_cpu_has(X86_FEATURE_VMX);
}

vm_vaddr_t kvmi_alloc_l2(struct kvm_vm *vm)
{
	vm_vaddr_t gva;

	if (host_cpu_is_amd)
		vcpu_alloc_svm(vm, &gva);
	else
		vcpu_alloc_vmx(vm, &gva);

	return gva;
}

void kvmi_l2_prepare(uint64_t gva, uint64_t l2)
{
	static unsigned long stack[64];
	struct vmx_pages *vmx = (void *)gva;

	if (host_cpu_is_amd) {
		generic_svm_setup((void *)gva, (void *)l2,
				  &stack[ARRAY_SIZE(stack)]);
		return;
	}

	GUEST_ASSERT(prepare_for_vmx_operation(vmx));
	GUEST_ASSERT(load_vmcs(vmx));
	prepare_vmcs(vmx, (void *)l2, &stack[ARRAY_SIZE(stack)]);
}

static bool run_l2(uint64_t gva, bool resume)
{
	struct svm_test_data *svm = (void *)gva;

	if (host_cpu_is_amd) {
		run_guest(svm->vmcb, svm->vmcb_gpa);

		return svm->vmcb->control.exit_code == SVM_EXIT_VMMCALL;
	}

	GUEST_ASSERT(!(resume ? vmresume() : vmlaunch()));

	return vmreadz(VM_EXIT_REASON) == EXIT_REASON_VMCALL;
}

bool kvmi_l2_launch(uint64_t gva)
{
	return run_l2(gva, false);
}

bool kvmi_l2_resume(uint64_t gva)
{
	struct svm_test_data *svm = (void *)gva;

	if (host_cpu_is_amd)
		svm->vmcb->save.rip += 3;
	else
		vmwrite(GUEST_RIP, vmreadz(GUEST_RIP) +
				   vmreadz(VM_EXIT_INSTRUCTION_LEN));

	return run_l2(gva, true);
}

/* ---- a thread in KVM_RUN ---- */

#define RUNNER_GO	1ull
#define RUNNER_QUIT	0x100000000ull

static __thread struct kvm_run *this_run;

/*
 * The signal may come when the thread is about to enter KVM_RUN; then this
 * brings it out again.
 */
static void runner_sig(int sig)
{
	if (this_run)
		this_run->immediate_exit = 1;
}

static void runner_io(struct kvmi_runner *r)
{
	struct kvm_run *run = r->vcpu->run;
	size_t size, i;
	uint8_t *data;
	bool in;

	if (run->exit_reason == KVM_EXIT_MMIO) {
		data = run->mmio.data;
		size = run->mmio.len;
		in = !run->mmio.is_write;
	} else {
		data = (uint8_t *)run + run->io.data_offset;
		size = run->io.size * run->io.count;
		in = run->io.direction == KVM_EXIT_IO_IN;
	}

	r->nr_io++;
	if (in) {
		/* a port goes on where it was, over and over again */
		size_t pos = run->exit_reason == KVM_EXIT_IO ? r->io_bytes : 0;

		for (i = 0; i < size; i++)
			data[i] = r->io_data >> ((pos + i) % 8 * 8);
	} else {
		r->io_data = 0;
		memcpy(&r->io_data, data, min(size, sizeof(r->io_data)));
	}
	r->io_bytes += size;
}

static void runner_run(struct kvmi_runner *r)
{
	struct kvm_run *run = r->vcpu->run;

	memset(&r->uc, 0, sizeof(r->uc));
	for (;;) {
		r->ret = __vcpu_run(r->vcpu);
		r->err = r->ret ? errno : 0;
		if (r->ret) {
			run->immediate_exit = 0;
			return;
		}
		if (get_ucall(r->vcpu, &r->uc) != UCALL_NONE)
			return;
		if (run->exit_reason != KVM_EXIT_MMIO &&
		    run->exit_reason != KVM_EXIT_IO)
			return;
		runner_io(r);
	}
}

static void *runner_main(void *arg)
{
	struct kvmi_runner *r = arg;
	eventfd_t val;

	this_run = r->vcpu->run;

	for (;;) {
		if (eventfd_read(r->go_fd, &val)) {
			TEST_ASSERT(errno == EINTR, "eventfd_read()");
			continue;
		}
		if (val >= RUNNER_QUIT)
			break;
		runner_run(r);
		eventfd_write(r->done_fd, 1);
	}

	this_run = NULL;
	return NULL;
}

void kvmi_runner_start(struct kvmi_runner *r, struct kvm_vcpu *vcpu,
		       struct kvmi_guest_req *req)
{
	struct sigaction sa = { .sa_handler = runner_sig };
	int ret;

	memset(r, 0, sizeof(*r));
	r->vcpu = vcpu;
	r->req = req;
	r->go_fd = eventfd(0, EFD_CLOEXEC);
	r->done_fd = eventfd(0, EFD_CLOEXEC);
	TEST_ASSERT(r->go_fd >= 0 && r->done_fd >= 0, "eventfd()");

	sigaction(SIGUSR1, &sa, NULL);
	ret = pthread_create(&r->thread, NULL, runner_main, r);
	TEST_ASSERT(!ret, "pthread_create(): %d", ret);
}

void kvmi_runner_go(struct kvmi_runner *r)
{
	TEST_ASSERT(!r->running, "vCPU is running");
	r->running = true;
	eventfd_write(r->go_fd, RUNNER_GO);
}

void kvmi_runner_do(struct kvmi_runner *r, kvmi_insn insn, uint64_t gva,
		    uint64_t val)
{
	TEST_ASSERT(!r->running, "vCPU is running");
	r->req->insn = insn;
	r->req->gva = gva;
	r->req->val = val;
	kvmi_runner_go(r);
}

bool kvmi_runner_poll(struct kvmi_runner *r, int timeout_ms)
{
	struct pollfd pfd = { .fd = r->done_fd, .events = POLLIN };
	int64_t end = now_ms() + timeout_ms;
	eventfd_t val;
	int ret;

	TEST_ASSERT(r->running, "vCPU is not running");
	do {
		int64_t left = end - now_ms();

		ret = poll(&pfd, 1, left > 0 ? left : 0);
	} while (ret < 0 && errno == EINTR);
	if (!ret)
		return false;

	eventfd_read(r->done_fd, &val);
	r->running = false;
	if (r->uc.cmd == UCALL_ABORT)
		REPORT_GUEST_ASSERT(r->uc);

	return true;
}

void kvmi_runner_wait_exit(struct kvmi_runner *r)
{
	bool ret = kvmi_runner_poll(r, KVMI_TIMEOUT_MS);

	TEST_ASSERT(ret, "vCPU %u still in KVM_RUN", r->vcpu->id);
}

uint64_t kvmi_runner_wait(struct kvmi_runner *r)
{
	kvmi_runner_wait_exit(r);
	TEST_ASSERT(!r->ret, "KVM_RUN: errno %d", r->err);
	TEST_ASSERT(r->uc.cmd == UCALL_SYNC,
		    "KVM_RUN: exit %u (%s), want the guest's ucall",
		    r->vcpu->run->exit_reason,
		    exit_reason_str(r->vcpu->run->exit_reason));

	return r->req->result;
}

void kvmi_runner_kick(struct kvmi_runner *r)
{
	pthread_kill(r->thread, SIGUSR1);
}

uint64_t kvmi_vcpu_stat(struct kvm_vcpu *vcpu, const char *name)
{
	int fd = vcpu_get_stats_fd(vcpu);
	struct kvm_stats_header header;
	struct kvm_stats_desc *descs;
	uint64_t value = 0;
	bool found = false;
	int i;

	read_stats_header(fd, &header);
	descs = read_stats_descriptors(fd, &header);
	for (i = 0; i < header.num_desc; i++) {
		struct kvm_stats_desc *desc =
			get_stats_descriptor(descs, i, &header);

		if (strcmp(desc->name, name))
			continue;
		read_stat_data(fd, &header, desc, &value, 1);
		found = true;
	}
	TEST_ASSERT(found, "no statistic %s", name);
	free(descs);
	close(fd);

	return value;
}

uint64_t kvmi_nr_exits(struct kvm_vcpu *vcpu)
{
	return kvmi_vcpu_stat(vcpu, "exits");
}

void kvmi_runner_stop(struct kvmi_runner *r)
{
	if (!r->vcpu)
		return;

	if (r->running) {
		kvmi_runner_kick(r);
		kvmi_runner_wait_exit(r);
	}
	eventfd_write(r->go_fd, RUNNER_QUIT);
	pthread_join(r->thread, NULL);
	close(r->go_fd);
	close(r->done_fd);
	r->vcpu = NULL;
}

/* ---- all of it together ---- */

bool kvmi_supported(void)
{
	return kvm_has_cap(KVM_CAP_INTROSPECTION);
}

void kvmi_env_add_vcpu(struct kvmi_env *env, uint32_t vcpu_id)
{
	struct kvm_vcpu *vcpu;
	vm_vaddr_t req;

	TEST_ASSERT(env->nr_vcpus < KVMI_MAX_VCPUS, "too many vCPUs");

	vcpu = vm_vcpu_add(env->vm, vcpu_id, kvmi_guest_main);
	req = vm_vaddr_alloc_page(env->vm);
	vcpu_args_set(vcpu, 1, req);
	kvmi_runner_start(&env->run[env->nr_vcpus++], vcpu,
			  addr_gva2hva(env->vm, req));
}

void kvmi_env_create(struct kvmi_env *env, unsigned int nr_vcpus)
{
	struct kvm_vm *vm;
	unsigned int i;

	memset(env, 0, sizeof(*env));
	kvmi_tool_init(&env->tool, -1);

	vm = __vm_create(VM_SHAPE_DEFAULT, KVMI_MAX_VCPUS, 512);
	env->vm = vm;
	vm_userspace_mem_region_add(vm, VM_MEM_SRC_ANONYMOUS, KVMI_TEST_GPA,
				    KVMI_TEST_SLOT, KVMI_TEST_PAGES, 0);
	virt_map(vm, KVMI_TEST_GVA, KVMI_TEST_GPA, KVMI_TEST_PAGES);
	virt_map(vm, KVMI_MMIO_GVA, KVMI_NO_MEM_GPA, 1);
	env->hva = addr_gpa2hva(vm, KVMI_TEST_GPA);

	for (i = 0; i < nr_vcpus; i++)
		kvmi_env_add_vcpu(env, i);
}

void kvmi_env_destroy(struct kvmi_env *env)
{
	unsigned int i;

	/* also answers whatever event a vCPU may be waiting in */
	kvmi_tool_close(&env->tool);
	for (i = 0; i < env->nr_vcpus; i++)
		kvmi_runner_stop(&env->run[i]);
	kvm_vm_free(env->vm);
}

void kvmi_env_hook_fds(struct kvmi_env *env, int tool_fd, int kernel_fd)
{
	kvmi_tool_init(&env->tool, tool_fd);
	vm_kvmi_hook(env->vm, kernel_fd);
	close(kernel_fd);
	env->hooked = true;

	vm_kvmi_allow_command(env->vm, -1, 1);
	vm_kvmi_allow_event(env->vm, -1, 1);
}

void kvmi_env_hook(struct kvmi_env *env)
{
	int tool_fd, kernel_fd;

	kvmi_socketpair(&tool_fd, &kernel_fd);
	kvmi_env_hook_fds(env, tool_fd, kernel_fd);
}

void kvmi_env_unhook(struct kvmi_env *env)
{
	vm_kvmi_unhook(env->vm);
	kvmi_tool_close(&env->tool);
	env->hooked = false;
}

bool kvmi_is_int3_intercepted(struct kvmi_env *env)
{
	struct kvm_guest_debug debug = {
		.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_SW_BP,
	};
	struct kvmi_runner *r = &env->run[0];
	bool intercepted;

	vcpu_guest_debug_set(r->vcpu, &debug);
	kvmi_runner_do(r, kvmi_insn_int3, 0, 0);
	kvmi_runner_wait_exit(r);
	intercepted = r->vcpu->run->exit_reason == KVM_EXIT_DEBUG;
	debug.control = 0;
	vcpu_guest_debug_set(r->vcpu, &debug);
	if (intercepted) {
		kvmi_runner_go(r);
		kvmi_runner_wait(r);
	}

	return intercepted;
}

/* With PAUSE, it might be left for that. */
static uint64_t guest_masked(uint64_t gva, uint64_t val, uint64_t arg)
{
	volatile uint64_t *mem = (void *)gva;

	for (mem[1] = 1; !mem[0];)
		;

	return 0;
}

bool kvmi_is_masked_guest_left(void)
{
	volatile uint64_t *mem;
	struct kvmi_runner *r;
	struct kvmi_env env;
	bool left;
	int i;

	kvmi_env_create(&env, 1);
	r = &env.run[0];
	mem = kvmi_hva(&env, 0, 0);
	kvmi_runner_do(r, guest_masked, kvmi_gva(0, 0), 0);
	for (i = 0; !mem[1] && i < KVMI_TIMEOUT_MS; i++)
		usleep(1000);
	TEST_ASSERT(mem[1], "the guest does not run");

	/* Less than what the host takes for a processor that is lost */
	kvmi_runner_kick(r);
	left = kvmi_runner_poll(r, KVMI_TIMEOUT_MS / 6);
	mem[0] = 1;
	if (!left)
		kvmi_runner_wait_exit(r);
	kvmi_env_destroy(&env);

	return left;
}

int __kvmi_vcpu_cmd(struct kvmi_env *env, unsigned int vcpu, uint16_t id,
		    const void *req, size_t req_size, void *rpl,
		    size_t rpl_size)
{
	struct kvmi_runner *r = &env->run[vcpu];
	struct kvmi_tool *tool = &env->tool;
	int64_t end = now_ms() + KVMI_TIMEOUT_MS;
	bool was_running = r->running;
	enum kvmi_recv ret;
	struct kvmi_msg msg;
	uint32_t seq;

	seq = kvmi_vcpu_send(tool, vcpu, id, req, req_size);

	for (;;) {
		/*
		 * The command may reach the vCPU after the guest has come back
		 * already, so send it in again and again.
		 */
		if (!was_running && !r->running)
			kvmi_runner_do(r, kvmi_insn_nop, 0, 0);

		ret = kvmi_recv(tool, &msg, was_running ? KVMI_TIMEOUT_MS : 10);
		TEST_ASSERT(ret != KVMI_RECV_CLOSED,
			    "closed before the reply to %u", id);
		if (ret == KVMI_RECV_MSG) {
			if (!is_event(&msg))
				break;
			queue_msg(tool, &msg);
		}
		TEST_ASSERT(now_ms() < end, "no reply to %u", id);
		if (!was_running)
			kvmi_runner_poll(r, 0);
	}

	if (!was_running && r->running)
		kvmi_runner_wait(r);

	return parse_reply(&msg, id, seq, rpl, rpl_size);
}

int __kvmi_control_event(struct kvmi_env *env, unsigned int vcpu,
			 uint16_t event, bool enable)
{
	struct kvmi_vcpu_control_events req = {
		.event_id = event, .enable = enable,
	};

	return __kvmi_vcpu_cmd(env, vcpu, KVMI_VCPU_CONTROL_EVENTS, &req,
			       sizeof(req), NULL, 0);
}

void kvmi_control_event(struct kvmi_env *env, unsigned int vcpu,
			uint16_t event, bool enable)
{
	int err = __kvmi_control_event(env, vcpu, event, enable);

	TEST_ASSERT(!err, "CONTROL_EVENTS(%u, %d) of vCPU %u: error %d", event,
		    enable, vcpu, err);
}

unsigned int kvmi_env_access(struct kvmi_env *env, unsigned int vcpu,
			     kvmi_insn insn, uint64_t gva, uint64_t val,
			     kvmi_handler handler, void *arg,
			     uint64_t *result)
{
	struct kvmi_runner *r = &env->run[vcpu];
	unsigned int nr = 0;
	struct kvmi_event ev;

	kvmi_runner_do(r, insn, gva, val);

	for (;;) {
		struct pollfd pfd[] = {
			{ .fd = env->tool.fd, .events = POLLIN },
			{ .fd = r->done_fd, .events = POLLIN },
		};
		int ret;

		/* The vCPU does not come back with an event unanswered. */
		ret = poll(pfd, 2, KVMI_TIMEOUT_MS);
		TEST_ASSERT(ret > 0, "neither event nor end of the access: %d",
			    ret);
		if (pfd[0].revents) {
			TEST_ASSERT(kvmi_poll_event(&env->tool, &ev, 0),
				    "no event");
			TEST_ASSERT(ev.vcpu == vcpu, "event of vCPU %u, want %u",
				    ev.vcpu, vcpu);
			nr++;
			kvmi_reply(&env->tool, &ev, handler(env, &ev, arg));
			continue;
		}
		break;
	}

	kvmi_runner_wait(r);
	if (result)
		*result = r->req->result;

	return nr;
}

uint8_t kvmi_record(struct kvmi_env *env, const struct kvmi_event *ev,
		    void *arg)
{
	struct kvmi_recs *recs = arg;

	TEST_ASSERT(ev->event == KVMI_VCPU_EVENT_PF, "event %u, want PF",
		    ev->event);
	TEST_ASSERT(recs->nr < KVMI_MAX_RECS,
		    "endless events: gpa %#llx access %u rip %#llx",
		    ev->pf.gpa, ev->pf.access, ev->common.arch.regs.rip);
	recs->ev[recs->nr++] = *ev;

	return recs->action;
}

/*
 * With nested paging, AMD's hardware does not tell the linear address; then
 * KVM must say so if it does not know it from elsewhere.
 */
bool kvmi_gva_valid(const struct kvmi_event *ev, uint64_t gva)
{
	if (ev->pf.gva == gva)
		return true;

	return host_cpu_is_amd && kvm_is_tdp_enabled() && ev->pf.gva == ~0ull;
}

struct must_return {
	void (*fn)(void *arg);
	void *arg;
};

static void *must_return_main(void *arg)
{
	struct must_return *m = arg;

	m->fn(m->arg);
	return NULL;
}

void kvmi_must_return(const char *what, void (*fn)(void *arg), void *arg)
{
	struct must_return m = { .fn = fn, .arg = arg };
	struct timespec end;
	pthread_t thread;
	int r;

	r = pthread_create(&thread, NULL, must_return_main, &m);
	TEST_ASSERT(!r, "pthread_create(): %d", r);

	clock_gettime(CLOCK_REALTIME, &end);
	end.tv_sec += KVMI_TIMEOUT_MS / 1000;
	r = pthread_timedjoin_np(thread, NULL, &end);
	TEST_ASSERT(!r, "%s does not return", what);
}
