// SPDX-License-Identifier: GPL-2.0
/*
 * The commands that read and control vCPUs, down to the bytes, and batches of
 * commands.
 */

#include <errno.h>
#include <sys/socket.h>
#include <kvmi/libkvmi.h>

#include "peer.h"
#include "tap.h"

static struct peer peer;
static struct kvmi_dom *dom;

static bool zero(const uint8_t *p, size_t n)
{
	while (n--)
		if (*p++)
			return false;
	return true;
}

/* KVM's side of the commands under test: sizes and offsets as on the wire. */
static bool serve(struct peer *p, const struct peer_msg *msg)
{
	static uint8_t xsave[4096];
	uint8_t buf[4096] = { 0 };
	const uint8_t *data = msg->data + 8;	/* behind kvmi_vcpu_hdr */
	unsigned int i;

	if (msg->id & 1 && msg->id != 1 && get16(msg->data) >= PEER_VCPUS) {
		peer_reply(p->fd, msg, -22, NULL, 0);
		return true;
	}
	switch (msg->id) {
	case 3:
		put64(buf, 2400000000ULL);
		peer_reply(p->fd, msg, 0, buf, 8);
		return true;
	case 9:
		/* vCPU 1 waits for no answer */
		peer_reply(p->fd, msg, get16(msg->data) == 1 ? -95 : 0, NULL, 0);
		return true;
	case 11:
		if (get32(data) == 0x99) {
			peer_reply(p->fd, msg, -2, NULL, 0);
			return true;
		}
		for (i = 0; i < 4; i++)
			put32(buf + 4 * i, get32(data) + get32(data + 4) + i);
		peer_reply(p->fd, msg, 0, buf, 16);
		return true;
	case 13:
		peer_reply(p->fd, msg, data[0] == 2 ? -22 : 0, NULL, 0);
		return true;
	case 15:
		peer_reply(p->fd, msg, data[0] == 9 ? -16 : 0, NULL, 0);
		return true;
	case 17:
		put64(buf, 0xe7);
		peer_reply(p->fd, msg, data[0] ? -22 : 0, buf, 8);
		return true;
	case 19:
		for (i = 0; i < sizeof(buf); i++)
			buf[i] = i * 3;
		peer_reply(p->fd, msg, 0, buf, sizeof(buf));
		return true;
	case 21:
		memcpy(xsave, data, sizeof(xsave));
		peer_reply(p->fd, msg, msg->size == 8 + 4096 ? 0 : -22, NULL, 0);
		return true;
	case 23:
		buf[0] = get64(data) < 0x100000 ? 0 : 6;
		peer_reply(p->fd, msg, 0, buf, 8);
		return true;
	case 25:
		peer_reply(p->fd, msg, get32(data + 4) == 0x4000 ? -22 : 0, NULL, 0);
		return true;
	case 27:
		peer_reply(p->fd, msg, get16(msg->data) == 3 ? -95 : 0, NULL, 0);
		return true;
	case 29:
		put64(buf, get64(data) == 0xdead ? ~0ULL : get64(data) & 0xffffff);
		peer_reply(p->fd, msg, 0, buf, 8);
		return true;
	case 18:
		peer_reply(p->fd, msg, 0, NULL, 0);
		return true;
	}
	return false;
}

static void start(peer_filter filter)
{
	must(!kvmi_dom_open(peer_start(&peer, filter, NULL), NULL, &dom));
}

static void stop(void)
{
	kvmi_dom_close(dom);
	peer_stop(&peer);
}

/* Has the message that came last this id, vCPU and size (without the header)? */
static bool sent(uint16_t id, uint16_t vcpu, uint16_t size)
{
	return peer.last.id == id && peer.last.size == size &&
	       get16(peer.last.data) == vcpu && zero(peer.last.data + 2, 6);
}

static void test_reading(void)
{
	struct kvmi_vcpu_get_info_reply info;
	struct kvmi_vcpu_get_cpuid_reply cpuid;
	uint8_t area[4096], type = 99;
	const uint8_t *data = peer.last.data + 8;
	__u64 value = 0;
	bool same = true;
	unsigned int i;

	is_num(kvmi_vcpu_get_info(dom, 2, &info), 0, "GET_INFO");
	is_num(info.tsc_speed, 2400000000LL, "tsc_speed");
	ok(sent(3, 2, 8), "bytes");
	is_num(kvmi_vcpu_get_info(dom, 77, &info), -EINVAL, "GET_INFO: no such vCPU");
	has_text(kvmi_error(), "vCPU 77: KVMI_VCPU_GET_INFO: invalid argument", "is named");

	is_num(kvmi_vcpu_get_cpuid(dom, 1, 0x80000001, 7, &cpuid), 0, "GET_CPUID");
	ok(sent(11, 1, 16) && get32(data) == 0x80000001 && get32(data + 4) == 7, "bytes");
	ok(cpuid.eax == 0x80000008 && cpuid.ebx == 0x80000009 &&
	   cpuid.ecx == 0x8000000a && cpuid.edx == 0x8000000b, "registers in order");
	is_num(kvmi_vcpu_get_cpuid(dom, 1, 0x99, 0, &cpuid), -ENOENT, "no such leaf");
	has_text(kvmi_error(), "function 0x99, index 0x0: vCPU 1: KVMI_VCPU_GET_CPUID",
		 "is named");

	is_num(kvmi_vcpu_get_xcr(dom, 0, 0, &value), 0, "GET_XCR");
	is_num(value, 0xe7, "value");
	ok(sent(17, 0, 16) && zero(data, 8), "bytes");
	is_num(kvmi_vcpu_get_xcr(dom, 0, 1, &value), -EINVAL, "XCR1");
	has_text(kvmi_error(), "XCR1: vCPU 0", "is named");

	is_num(kvmi_vcpu_get_xsave(dom, 3, area), 0, "GET_XSAVE");
	ok(sent(19, 3, 8), "bytes");
	for (i = 0; i < sizeof(area); i++)
		same &= area[i] == (uint8_t)(i * 3);
	ok(same, "all 4096 of the area");

	is_num(kvmi_vcpu_get_mtrr_type(dom, 0, 0x1234567, &type), 0, "GET_MTRR_TYPE");
	is_num(type, 6, "type");
	ok(sent(23, 0, 16) && get64(data) == 0x1234567, "bytes");

	is_num(kvmi_vcpu_translate_gva(dom, 1, 0xffffffff81234567, &value), 0,
	       "TRANSLATE_GVA");
	is_num(value, 0x234567, "gpa");
	ok(sent(29, 1, 16) && get64(data) == 0xffffffff81234567, "bytes");
	is_num(kvmi_vcpu_translate_gva(dom, 1, 0xdead, &value), 0, "not mapped");
	ok(value == KVMI_NO_ADDRESS, "has no gpa");
}

static void test_controlling(void)
{
	const uint8_t *data = peer.last.data + 8;
	struct kvm_regs regs = { 0 };
	uint8_t area[4096];
	unsigned int i;

	regs.rax = 0x1111;
	regs.r15 = 0x2222;
	regs.rip = 0x3333;
	regs.rflags = 0x202;
	is_num(kvmi_vcpu_set_registers(dom, 0, &regs), 0, "SET_REGISTERS");
	ok(sent(9, 0, 8 + 144) && get64(data) == 0x1111 && get64(data + 8) == 0 &&
	   get64(data + 15 * 8) == 0x2222 && get64(data + 16 * 8) == 0x3333 &&
	   get64(data + 17 * 8) == 0x202, "bytes");
	is_num(kvmi_vcpu_set_registers(dom, 1, &regs), -EOPNOTSUPP,
	       "SET_REGISTERS outside of an event");

	is_num(kvmi_vcpu_control_cr(dom, 2, 4, true), 0, "CONTROL_CR");
	ok(sent(13, 2, 16) && data[0] == 4 && data[1] == 1 && zero(data + 2, 6), "bytes");
	is_num(kvmi_vcpu_control_cr(dom, 2, 2, true), -EINVAL, "CR2");
	has_text(kvmi_error(), "CR2: vCPU 2: KVMI_VCPU_CONTROL_CR", "is named");

	is_num(kvmi_vcpu_control_msr(dom, 1, 0xc0000082, true), 0, "CONTROL_MSR");
	ok(sent(25, 1, 16) && data[0] == 1 && zero(data + 1, 3) &&
	   get32(data + 4) == 0xc0000082, "bytes");
	is_num(kvmi_vcpu_control_msr(dom, 1, 0x4000, false), -EINVAL, "MSR out of range");
	ok(data[0] == 0, "enable is 0 on the wire");
	has_text(kvmi_error(), "MSR 0x4000: vCPU 1: KVMI_VCPU_CONTROL_MSR", "is named");

	is_num(kvmi_vcpu_control_singlestep(dom, 0, true), 0, "CONTROL_SINGLESTEP");
	ok(sent(27, 0, 16) && data[0] == 1 && zero(data + 1, 7), "bytes");
	is_num(kvmi_vcpu_control_singlestep(dom, 3, true), -EOPNOTSUPP,
	       "a host without single-step");

	is_num(kvmi_vcpu_inject_exception(dom, 0, 14, 0x6, 0x7fff12345000), 0,
	       "INJECT_EXCEPTION");
	ok(sent(15, 0, 24) && data[0] == 14 && zero(data + 1, 3) && get32(data + 4) == 6 &&
	   get64(data + 8) == 0x7fff12345000, "bytes");
	is_num(kvmi_vcpu_inject_exception(dom, 0, 9, 0, 0), -EBUSY, "another is under way");
	has_text(kvmi_error(), "vector 9: vCPU 0", "is named");

	for (i = 0; i < sizeof(area); i++)
		area[i] = i * 5;
	is_num(kvmi_vcpu_set_xsave(dom, 1, area), 0, "SET_XSAVE");
	ok(sent(21, 1, 8 + 4096) && !memcmp(data, area, sizeof(area)), "bytes");

	is_num(kvmi_vm_control_cleanup(dom, false), 0, "CONTROL_CLEANUP");
	ok(peer.last.id == 18 && peer.last.size == 8 && zero(peer.last.data, 8), "bytes");
	is_num(kvmi_vm_control_cleanup(dom, true), 0, "CONTROL_CLEANUP, on");
	ok(peer.last.data[0] == 1 && zero(peer.last.data + 1, 7), "bytes");
}

static void test_any(void)
{
	uint8_t reply[64];
	size_t size = 99;

	is_num(kvmi_dom_command(dom, 8, NULL, 0, reply, sizeof(reply), &size), 0,
	       "a command by its number");
	is_num(size, 16, "size of its reply");
	is_num(get32(reply), PEER_VCPUS, "its reply");
	is_num(kvmi_dom_command(dom, 8, NULL, 0, reply, 2, &size), 0, "with little room");
	is_num(size, 2, "the rest is dropped");
	is_num(kvmi_dom_command(dom, 600, reply, 8, NULL, 0, NULL), -ENOSYS,
	       "one that the kernel does not know");
	has_text(kvmi_error(), "message 600: unknown to the kernel (KVM_ENOSYS)", "is named");
	is_num(kvmi_dom_command(dom, 1, reply, 8, NULL, 0, NULL), -EINVAL,
	       "an event is no command");
	is_num(kvmi_dom_command(dom, 8, reply, 9000, NULL, 0, NULL), -EMSGSIZE,
	       "one that is too long");
}

static void test_batch(void)
{
	static uint8_t pages[PEER_PAGES][4096], byte[8];
	unsigned int i, good = 0, before;
	struct kvmi_batch *batch;

	must(!kvmi_batch_new(dom, &batch));
	is_num(kvmi_batch_run(batch), 0, "an empty batch");
	for (i = 0; i < PEER_PAGES; i++)
		must(kvmi_batch_read_physical(batch, i * 4096, pages[i], 4096) == (int)i);
	is_num(kvmi_batch_run(batch), 0, "a batch of %d reads", PEER_PAGES);
	ok(!memcmp(pages, peer.memory, sizeof(pages)), "reads all");
	memset(pages, 0, sizeof(pages));
	is_num(kvmi_batch_run(batch), 0, "the same again");
	ok(!memcmp(pages, peer.memory, sizeof(pages)), "reads all again");

	/* Replies in order, an error in the middle. */
	kvmi_batch_reset(batch);
	memset(byte, 0, sizeof(byte));
	must(kvmi_batch_write_physical(batch, 0x1000, "abcd", 4) == 0);
	must(kvmi_batch_read_physical(batch, PEER_PAGES * 4096, byte, 8) == 1);
	must(kvmi_batch_read_physical(batch, 0x1000, byte, 8) == 2);
	is_num(kvmi_batch_run(batch), -ENOENT, "a batch with an error in it");
	has_text(kvmi_error(), "command 1 of a batch: KVMI_VM_READ_PHYSICAL: no such thing",
		 "is named");
	is_num(kvmi_batch_result(batch, 0), 0, "result of the first");
	is_num(kvmi_batch_result(batch, 1), -ENOENT, "result of the second");
	is_num(kvmi_batch_result(batch, 2), 0, "result of the third");
	is_num(kvmi_batch_result(batch, 3), -EINVAL, "there is no fourth");
	is_num(kvmi_batch_reply_size(batch, 2), 8, "size of the third's reply");
	is_num(kvmi_batch_reply_size(batch, 1), 0, "the second has none");
	ok(!memcmp(byte, "abcd", 4), "what the first wrote the third reads");

	/* More than fit in a window, and all kinds. */
	kvmi_batch_reset(batch);
	before = peer.messages;
	for (i = 0; i < 300; i++) {
		kvmi_batch_control_events(batch, i % PEER_VCPUS, 17, true);
		kvmi_batch_control_cr(batch, i % PEER_VCPUS, 3, true);
		kvmi_batch_control_msr(batch, i % PEER_VCPUS, 0x174, true);
		kvmi_batch_control_singlestep(batch, 0, false);
		kvmi_batch_pause_vcpu(batch, i % PEER_VCPUS, true);
	}
	is_num(kvmi_batch_run(batch), 0, "1500 commands");
	for (i = 0; i < 1500; i++)
		good += !kvmi_batch_result(batch, i);
	is_num(good, 1500, "all answered");
	is_num(peer.messages - before, 1500, "each sent once");
	is_num(kvmi_batch_add(batch, 1, NULL, 0, NULL, 0, 0), -EINVAL, "an event is no command");
	kvmi_batch_free(batch);
	kvmi_batch_free(NULL);
}

/* Answers the first ten commands, and then no more. */
static bool ten(struct peer *p, const struct peer_msg *msg)
{
	(void)msg;
	return p->messages > 10;
}

/* Answers the first ten, and hangs up. */
static bool ten_and_gone(struct peer *p, const struct peer_msg *msg)
{
	(void)msg;
	if (p->messages <= 10)
		return false;
	shutdown(p->fd, SHUT_RDWR);
	return true;
}

static void test_batch_end(peer_filter filter, int want, const char *name)
{
	static uint8_t pages[40][4096];
	unsigned int i, good = 0, bad = 0;
	struct kvmi_batch *batch;

	start(filter);
	kvmi_dom_set_timeout(dom, 100);
	must(!kvmi_batch_new(dom, &batch));
	for (i = 0; i < 40; i++)
		kvmi_batch_read_physical(batch, i * 4096, pages[i], 4096);
	is_num(kvmi_batch_run(batch), want, "%s", name);
	for (i = 0; i < 40; i++) {
		good += !kvmi_batch_result(batch, i);
		bad += kvmi_batch_result(batch, i) == want;
	}
	is_num(good, 10, "ten commands were answered");
	is_num(bad, 30, "the others know that they were not");
	kvmi_batch_free(batch);
	stop();
}

int main(void)
{
	tap_start(60);
	start(serve);
	test_reading();
	test_controlling();
	test_any();
	test_batch();
	stop();
	test_batch_end(ten, -ETIMEDOUT, "a batch that is not answered in time");
	test_batch_end(ten_and_gone, -ECONNRESET, "a batch, and the VM goes away");
	return tap_done();
}
