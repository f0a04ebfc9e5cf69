// SPDX-License-Identifier: GPL-2.0
/* Every command and event against an honest peer, down to the bytes sent. */

#include <errno.h>
#include <kvmi/libkvmi.h>

#include "peer.h"
#include "tap.h"

static struct peer peer;

static struct kvmi_dom *open_dom(peer_filter filter, void *data)
{
	struct kvmi_dom *dom;

	must(!kvmi_dom_open(peer_start(&peer, filter, data), NULL, &dom));
	return dom;
}

static void close_dom(struct kvmi_dom *dom)
{
	kvmi_dom_close(dom);
	peer_stop(&peer);
}

static bool zero(const uint8_t *p, size_t n)
{
	while (n--)
		if (*p++)
			return false;
	return true;
}

static void test_version(void)
{
	struct kvmi_get_version_reply reply;
	struct kvmi_dom *dom = open_dom(NULL, NULL);

	is_num(kvmi_get_version(dom, &reply), 0, "GET_VERSION");
	is_num(reply.version, 1, "version");
	is_num(reply.max_msg_size, 8184, "max_msg_size");
	is_num(reply.features.singlestep, 1, "features.singlestep");
	is_num(reply.features.max_gfn, 1, "features.max_gfn");
	is_num(reply.features.pf_walk, 1, "features.pf_walk");
	is_num(peer.last.id, 2, "message id");
	is_num(peer.last.size, 0, "request has no payload");
	close_dom(dom);
}

static void test_checks(void)
{
	struct kvmi_dom *dom = open_dom(NULL, NULL);

	is_num(kvmi_vm_check_command(dom, 20), 0, "CHECK_COMMAND: allowed");
	ok(peer.last.id == 4 && peer.last.size == 8 &&
	   get16(peer.last.data) == 20 && zero(peer.last.data + 2, 6),
	   "CHECK_COMMAND: bytes");
	is_num(kvmi_vm_check_command(dom, 0x100), -ENOENT, "CHECK_COMMAND: unknown");
	is_num(kvmi_vm_check_command(dom, 0x101), -EPERM, "CHECK_COMMAND: not allowed");
	has_text(kvmi_error(), "message 257: KVMI_VM_CHECK_COMMAND: not allowed by the VMM (KVM_EPERM)",
		 "the text names the message and KVM's code");
	is_num(kvmi_vm_check_event(dom, 17), 0, "CHECK_EVENT: allowed");
	ok(peer.last.id == 6 && peer.last.size == 8 &&
	   get16(peer.last.data) == 17 && zero(peer.last.data + 2, 6),
	   "CHECK_EVENT: bytes");
	is_num(kvmi_vm_check_event(dom, 0x101), -EPERM, "CHECK_EVENT: not allowed");
	close_dom(dom);
}

static void test_info(void)
{
	struct kvmi_vm_get_info_reply reply;
	__u64 gfn = 0;
	struct kvmi_dom *dom = open_dom(NULL, NULL);

	is_num(kvmi_vm_get_info(dom, &reply), 0, "GET_INFO");
	is_num(reply.vcpu_count, PEER_VCPUS, "vcpu_count");
	is_num(kvmi_vm_get_max_gfn(dom, &gfn), 0, "GET_MAX_GFN");
	is_num(gfn, sizeof(peer.memory) / 4096, "gfn");
	ok(peer.last.id == 512 && !peer.last.size, "bytes");
	close_dom(dom);
}

static void test_control(void)
{
	struct kvmi_dom *dom = open_dom(NULL, NULL);

	is_num(kvmi_vm_control_events(dom, 0, true), 0, "VM_CONTROL_EVENTS");
	ok(peer.last.id == 10 && peer.last.size == 8 &&
	   get16(peer.last.data) == 0 && peer.last.data[2] == 1 &&
	   zero(peer.last.data + 3, 5), "VM_CONTROL_EVENTS: bytes");
	is_num(kvmi_vcpu_control_events(dom, 2, 17, true), 0, "VCPU_CONTROL_EVENTS");
	ok(peer.last.id == 5 && peer.last.size == 16 &&
	   get16(peer.last.data) == 2 && zero(peer.last.data + 2, 6) &&
	   get16(peer.last.data + 8) == 17 && peer.last.data[10] == 1 &&
	   zero(peer.last.data + 11, 5), "VCPU_CONTROL_EVENTS: bytes");
	is_num(kvmi_vcpu_control_pf(dom, 2, true, KVMI_PF_WALK), 0, "with a flag");
	ok(peer.last.id == 5 && peer.last.size == 16 &&
	   get16(peer.last.data + 8) == 17 && peer.last.data[10] == 1 &&
	   peer.last.data[11] == 1 && zero(peer.last.data + 12, 4),
	   "VCPU_CONTROL_EVENTS with a flag: bytes");
	is_num(kvmi_vcpu_control_events(dom, 99, 17, true), -EINVAL,
	       "VCPU_CONTROL_EVENTS: no such vCPU");
	has_text(kvmi_error(), "vCPU 99, KVMI_VCPU_EVENT_PF: KVMI_VCPU_CONTROL_EVENTS: invalid argument",
		 "the text names vCPU, event and message");
	is_num(kvmi_vm_pause_vcpu(dom, 3, true), 0, "PAUSE_VCPU");
	ok(peer.last.id == 16 && peer.last.size == 8 &&
	   get16(peer.last.data) == 3 && peer.last.data[2] == 1 &&
	   zero(peer.last.data + 3, 5), "PAUSE_VCPU: bytes");
	close_dom(dom);
}

static void test_memory(void)
{
	static uint8_t buf[PEER_PAGES * 4096], want[PEER_PAGES * 4096];
	struct kvmi_dom *dom = open_dom(NULL, NULL);
	unsigned int before;

	memcpy(want, peer.memory, sizeof(want));
	is_num(kvmi_vm_read_physical(dom, 0x1ffe, buf, 1), 0, "read one byte");
	ok(peer.last.id == 12 && peer.last.size == 16 &&
	   get64(peer.last.data) == 0x1ffe && get16(peer.last.data + 8) == 1 &&
	   zero(peer.last.data + 10, 6), "READ_PHYSICAL: bytes");
	ok(buf[0] == want[0x1ffe], "the byte");

	before = peer.messages;
	memset(buf, 0, sizeof(buf));
	is_num(kvmi_vm_read_physical(dom, 0x1ffe, buf, 4 + 4096), 0,
	       "read over three pages");
	is_num(peer.messages - before, 3, "in three messages");
	ok(!memcmp(buf, want + 0x1ffe, 4 + 4096), "the bytes");
	is_num(kvmi_vm_read_physical(dom, 0, buf, sizeof(buf)), 0, "read all");
	ok(!memcmp(buf, want, sizeof(want)), "all bytes");

	before = peer.messages;
	is_num(kvmi_vm_read_physical(dom, 0x10, buf, 0), 0, "read nothing");
	is_num(peer.messages - before, 0, "without a message");

	is_num(kvmi_vm_read_physical(dom, sizeof(want) - 16, buf, 32), -ENOENT,
	       "read beyond the memory");
	has_text(kvmi_error(), "gpa 0x40000, size 0x10: KVMI_VM_READ_PHYSICAL",
		 "the text names the page at fault");
	is_num(kvmi_vm_read_physical(dom, ~0ULL, buf, 2), -EINVAL,
	       "read over the end of the address space");
	is_num(kvmi_vm_read_physical(dom, ~0ULL, buf, 1), -ENOENT,
	       "the last byte of the address space can be asked for");

	memset(buf, 0x5a, sizeof(buf));
	is_num(kvmi_vm_write_physical(dom, 0x2ff0, buf, 32), 0,
	       "write over two pages");
	memset(want + 0x2ff0, 0x5a, 32);
	ok(!memcmp(peer.memory, want, sizeof(want)), "those 32 bytes, no others");
	ok(peer.last.id == 14 && peer.last.size == 16 + 16 &&
	   get64(peer.last.data) == 0x3000 && get16(peer.last.data + 8) == 16 &&
	   zero(peer.last.data + 10, 6) && peer.last.data[16] == 0x5a,
	   "WRITE_PHYSICAL: bytes");
	is_num(kvmi_vm_write_physical(dom, sizeof(want), buf, 1), -ENOENT,
	       "write beyond the memory");
	close_dom(dom);
}

static void test_access(void)
{
	struct kvmi_page_access_entry e[1200] = { 0 };
	struct kvmi_dom *dom = open_dom(NULL, NULL);
	unsigned int before, i;
	size_t done;

	e[0].gpa = 0x5000;
	e[0].access = KVMI_PAGE_ACCESS_R | KVMI_PAGE_ACCESS_X;
	is_num(kvmi_vm_set_page_access(dom, e, 1, &done), 0, "SET_PAGE_ACCESS");
	is_num(done, 1, "one done");
	is_num(peer.access[5], 5, "r-x is 5");
	ok(peer.last.id == 20 && peer.last.size == 8 + 16 &&
	   get16(peer.last.data) == 1 && zero(peer.last.data + 2, 6) &&
	   get64(peer.last.data + 8) == 0x5000 && peer.last.data[16] == 5 &&
	   zero(peer.last.data + 17, 7), "SET_PAGE_ACCESS: bytes");

	for (i = 0; i < 1200; i++) {
		e[i].gpa = (i % PEER_PAGES) * 4096;
		e[i].access = 1;
	}
	before = peer.access_messages;
	is_num(kvmi_vm_set_page_access(dom, e, 1200, &done), 0, "1200 entries");
	is_num(peer.access_messages - before, 3, "in three messages");
	is_num(get16(peer.last.data), 1200 - 2 * 511, "511 fit in one");
	is_num(done, 1200, "all done");

	e[600].gpa = 1ULL << 40;
	is_num(kvmi_vm_set_page_access(dom, e, 1200, &done), -EINVAL,
	       "an entry that KVM refuses");
	is_num(done, 511, "the message before it took effect");
	has_text(kvmi_error(), "entries[511..1021]", "the text names the entries");

	before = peer.messages;
	e[3].access = 8;
	is_num(kvmi_vm_set_page_access(dom, e, 4, NULL), -EINVAL, "unknown access bit");
	has_text(kvmi_error(), "entries[3].access 0x8", "the text names the field");
	e[3].access = 0;
	e[2].padding[6] = 1;
	is_num(kvmi_vm_set_page_access(dom, e, 4, NULL), -EINVAL, "padding");
	has_text(kvmi_error(), "entries[2].padding", "the text names the field");
	is_num(kvmi_vm_set_page_access(dom, e, 0, &done), 0, "no entries");
	is_num(peer.messages - before, 0, "nothing was sent for these three");
	close_dom(dom);
}

static void test_registers(void)
{
	struct kvm_msr_entry msrs[482] = { { .index = 0xc0000082 }, { .index = 0xc0000080 } };
	struct kvmi_registers regs;
	struct kvmi_dom *dom = open_dom(NULL, NULL);

	is_num(kvmi_vcpu_get_registers(dom, 1, &regs, msrs, 2), 0, "GET_REGISTERS");
	ok(peer.last.id == 7 && peer.last.size == 16 + 8 &&
	   get16(peer.last.data) == 1 && zero(peer.last.data + 2, 6) &&
	   get16(peer.last.data + 8) == 2 && zero(peer.last.data + 10, 6) &&
	   get32(peer.last.data + 16) == 0xc0000082 &&
	   get32(peer.last.data + 20) == 0xc0000080, "GET_REGISTERS: bytes");
	is_num(regs.mode, 8, "mode");
	is_num(regs.regs.rax, 0x1000, "rax");
	is_num(regs.regs.rip, 0x1010, "rip");
	is_num(regs.sregs.cr3, 0x123000, "cr3");
	ok(msrs[0].data == 0xabcd0000 && msrs[1].data == 0xabcd0001, "MSRs");
	is_num(kvmi_vcpu_get_registers(dom, 1, &regs, NULL, 0), 0, "no MSRs");
	is_num(kvmi_vcpu_get_registers(dom, 1, &regs, msrs, 481), 0, "481 MSRs");
	is_num(kvmi_vcpu_get_registers(dom, 1, &regs, msrs, 482), -EINVAL, "482 MSRs");
	close_dom(dom);
}

static bool fail_all(struct peer *p, const struct peer_msg *msg)
{
	peer_reply(p->fd, msg, *(int *)p->data, NULL, 0);
	return true;
}

static void test_errors(void)
{
	static const struct {
		int kvm, err;
		const char *name;
	} errors[] = {
		{ -1, -EPERM, "KVM_EPERM" }, { -2, -ENOENT, "KVM_ENOENT" },
		{ -7, -E2BIG, "KVM_E2BIG" }, { -11, -EAGAIN, "KVM_EAGAIN" },
		{ -12, -ENOMEM, "KVM_ENOMEM" }, { -14, -EFAULT, "KVM_EFAULT" },
		{ -16, -EBUSY, "KVM_EBUSY" }, { -22, -EINVAL, "KVM_EINVAL" },
		{ -95, -EOPNOTSUPP, "KVM_EOPNOTSUPP" },
		{ -1000, -ENOSYS, "KVM_ENOSYS" }, { -4711, -EPROTO, "not part of" },
		{ 1, -EPROTO, "not part of" },
	};
	struct kvmi_vm_get_info_reply reply;
	struct kvmi_dom *dom;
	unsigned int i;
	int err;

	for (i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
		err = errors[i].kvm;
		dom = open_dom(fail_all, &err);
		is_num(kvmi_vm_get_info(dom, &reply), errors[i].err,
		       "kernel's error %d", err);
		has_text(kvmi_error(), errors[i].name, "its name");
		close_dom(dom);
	}
}

/* A reply of another length than version 1 has it. */
static bool long_reply(struct peer *p, const struct peer_msg *msg)
{
	uint8_t buf[64];

	memset(buf, 0xee, sizeof(buf));
	put32(buf, 3);
	peer_reply(p->fd, msg, 0, buf, *(size_t *)p->data);
	return true;
}

static void test_lengths(void)
{
	struct kvmi_vm_get_info_reply info;
	struct kvmi_get_version_reply version;
	struct kvmi_dom *dom;
	size_t size;

	size = 64;
	dom = open_dom(long_reply, &size);
	is_num(kvmi_vm_get_info(dom, &info), 0, "a longer reply is taken");
	is_num(info.vcpu_count, 3, "what is known of it");
	is_num(kvmi_vm_get_info(dom, &info), 0, "the rest does not disturb the next");
	size = 8;
	is_num(kvmi_get_version(dom, &version), 0, "a version reply without features");
	is_num(version.features.singlestep, 0, "no feature then");
	size = 7;
	is_num(kvmi_get_version(dom, &version), -EPROTO, "one that is too short");
	has_text(kvmi_error(), "KVMI_GET_VERSION: the reply has 7 bytes",
		 "the text says how short");
	size = 8;
	is_num(kvmi_get_version(dom, &version), 0, "the connection lives");
	close_dom(dom);
}

static bool event_first(struct peer *p, const struct peer_msg *msg)
{
	uint8_t ev[8 + 576];
	unsigned int i;

	if (msg->id != 8)
		return false;
	for (i = 0; i < 3; i++)
		peer_send_raw(p->fd, ev,
			      peer_pf_event(ev, 10 + i, i, ~0ULL, 0x4000 + i,
					    2, 0xffffffff81000000 + i));
	return false;
}

static void test_events(void)
{
	static const uint8_t unhook[16] = { 0, 0, 8, 0, 9, 0, 0, 0 };
	struct kvmi_vm_get_info_reply info;
	struct kvmi_event ev, dummy;
	struct kvmi_dom *dom = open_dom(event_first, NULL);
	uint8_t longer[8 + 576 + 32];
	unsigned int i;

	is_num(kvmi_event_next(dom, &ev, 0), 0, "no event, no waiting");
	is_num(kvmi_event_next(dom, &ev, 50), 0, "no event within 50 ms");
	is_num(kvmi_vm_get_info(dom, &info), 0, "a reply after three events");
	for (i = 0; i < 3; i++) {
		is_num(kvmi_event_next(dom, &ev, 0), 1, "event %u was kept", i);
		ok(ev.id == KVMI_VCPU_EVENT_PF && ev.vcpu == i &&
		   ev.seq == 10 + i && ev.pf.gpa == 0x4000 + i &&
		   ev.pf.gva == ~0ULL && ev.pf.access == KVMI_PAGE_ACCESS_W &&
		   ev.arch.mode == 8 && ev.arch.regs.rip == 0xffffffff81000000 + i,
		   "event %u is right", i);
		is_num(kvmi_event_reply(dom, &ev, KVMI_EVENT_ACTION_RETRY), 0,
		       "answer %u", i);
	}
	is_num(kvmi_vm_get_info(dom, &info), 0, "a command after the answers");
	is_num(peer.answers, 3, "three answers came");
	ok(peer.last_answer.id == 1 && peer.last_answer.size == 16 &&
	   peer.last_answer.seq == 12 && get16(peer.last_answer.data) == 2 &&
	   zero(peer.last_answer.data + 2, 6) && peer.last_answer.data[8] == 1 &&
	   peer.last_answer.data[9] == 17 && zero(peer.last_answer.data + 10, 6),
	   "answer: bytes");
	for (i = 0; i < 3; i++)
		must(kvmi_event_next(dom, &dummy, 1000) == 1);

	/* The common part has grown, and so has the event's own. */
	peer_pf_event(longer, 77, 1, 0x1234, 0x5678, 4, 0x9999);
	put16(longer + 2, 576 + 32);
	put16(longer + 16, 544 + 16);
	memmove(longer + 576, longer + 560, 24);
	memset(longer + 560, 0xdd, 16);
	memset(longer + 600, 0xdd, 16);
	peer_send_raw(peer.fd, longer, sizeof(longer));
	is_num(kvmi_event_next(dom, &ev, 1000), 1, "a longer event");
	ok(ev.pf.gva == 0x1234 && ev.pf.gpa == 0x5678 && ev.pf.access == 4,
	   "its own part is found behind the common one");

	is_num(kvmi_event_reply_data(dom, &ev, 0, &(uint64_t){ 0x42 }, 8), 0,
	       "an answer with data");
	must(!kvmi_vm_get_info(dom, &info));
	ok(peer.last_answer.size == 24 && get64(peer.last_answer.data + 16) == 0x42,
	   "the data follows");
	for (i = 0; i < 3; i++)
		must(kvmi_event_next(dom, &dummy, 1000) == 1);

	peer_send_raw(peer.fd, unhook, sizeof(unhook));
	is_num(kvmi_event_next(dom, &ev, 1000), 1, "the UNHOOK event");
	ok(ev.id == KVMI_VM_EVENT_UNHOOK && ev.seq == 9, "is right");
	is_num(kvmi_event_reply(dom, &ev, 0), -EINVAL, "it takes no answer");
	close_dom(dom);
}

static bool no_reply_to_info(struct peer *p, const struct peer_msg *msg)
{
	struct peer_msg *held = p->data;

	if (msg->id != 8 || held->id)
		return false;
	*held = *msg;
	return true;
}

static void test_late_reply(void)
{
	static struct peer_msg held;
	struct kvmi_get_version_reply version;
	struct kvmi_vm_get_info_reply info;
	struct kvmi_dom *dom = open_dom(no_reply_to_info, &held);
	uint8_t data[16] = { 4 };

	kvmi_dom_set_timeout(dom, 100);
	is_num(kvmi_vm_get_info(dom, &info), -ETIMEDOUT, "no reply in time");
	has_text(kvmi_error(), "KVMI_VM_GET_INFO: no reply in 100 ms", "text");
	kvmi_dom_set_timeout(dom, 10000);
	is_num(kvmi_get_version(dom, &version), 0, "the next command works");
	peer_reply(peer.fd, &held, 0, data, sizeof(data));
	is_num(kvmi_get_version(dom, &version), 0, "the late reply does no harm");
	peer_reply(peer.fd, &held, 0, data, sizeof(data));
	is_num(kvmi_get_version(dom, &version), -EPROTO, "but comes only once");
	has_text(kvmi_error(), "no such command is under way", "text");
	close_dom(dom);
}

static void test_end(void)
{
	struct kvmi_vm_get_info_reply info;
	struct kvmi_event ev;
	struct kvmi_dom *dom = open_dom(NULL, NULL);
	uint8_t buf[8 + 576];

	peer_send_raw(peer.fd, buf, peer_pf_event(buf, 1, 0, 0, 0, 1, 0));
	peer_stop(&peer);
	is_num(kvmi_vm_get_info(dom, &info), -ECONNRESET, "the VM has gone: command");
	has_text(kvmi_error(), "KVMI_VM_GET_INFO: the VM has gone", "text");
	is_num(kvmi_event_next(dom, &ev, -1), 1, "an event that came before");
	is_num(kvmi_event_next(dom, &ev, -1), -ECONNRESET, "the VM has gone: event");
	is_num(kvmi_event_reply(dom, &ev, 0), -ECONNRESET, "the VM has gone: answer");
	kvmi_dom_close(dom);

	dom = open_dom(NULL, NULL);
	kvmi_dom_shutdown(dom);
	is_num(kvmi_vm_get_info(dom, &info), -ESHUTDOWN, "shut down: command");
	is_num(kvmi_event_next(dom, &ev, -1), -ESHUTDOWN, "shut down: event");
	close_dom(dom);
}

static void test_names(void)
{
	ok(!strcmp(kvmi_message_name(12), "KVMI_VM_READ_PHYSICAL"), "name of message 12");
	ok(!strcmp(kvmi_message_name(29), "KVMI_VCPU_TRANSLATE_GVA"), "name of message 29");
	ok(!strcmp(kvmi_message_name(4711), "message 4711"), "name of message 4711");
	ok(!strcmp(kvmi_event_name(17), "KVMI_VCPU_EVENT_PF"), "name of event 17");
	ok(!strcmp(kvmi_event_name(0), "KVMI_VM_EVENT_UNHOOK"), "name of event 0");
	ok(!strcmp(kvmi_event_name(21), "event 21"), "name of event 21");
}

int main(void)
{
	tap_start(60);
	test_version();
	test_checks();
	test_info();
	test_control();
	test_memory();
	test_access();
	test_registers();
	test_errors();
	test_lengths();
	test_events();
	test_late_reply();
	test_end();
	test_names();
	return tap_done();
}
