/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What a tool asks in a session: the same requests in the same order where the
 * answers are recorded and where a fuzzer gives them, as an answer is known by
 * its number.
 */
#ifndef KVMI_FUZZ_SESSION_H
#define KVMI_FUZZ_SESSION_H

#include <kvmi/libkvmi.h>

static inline int session_events(struct kvmi_dom *dom, int wait_ms)
{
	struct kvmi_event event;
	int i;

	for (i = 0; i < 8 && kvmi_event_next(dom, &event, wait_ms) == 1; i++) {
		kvmi_event_name(event.id);
		kvmi_event_reply(dom, &event, event.id == KVMI_VCPU_EVENT_PF ?
				 KVMI_EVENT_ACTION_RETRY : KVMI_EVENT_ACTION_CONTINUE);
		wait_ms = 0;
	}
	return i;
}

/**
 * session() - ask a VM this and that
 * @dom: the VM
 * @wait_ms: how long to wait for an event, which VM_PAUSE_VCPU brings
 *
 * Goes on after a request that fails: a fuzzer wants to see the next one.
 *
 * Return: how many requests failed.
 */
static inline int session(struct kvmi_dom *dom, int wait_ms)
{
	struct kvm_msr_entry msrs[2] = { { .index = 0x10 }, { .index = 0x174 } };
	struct kvmi_vcpu_get_cpuid_reply cpuid;
	struct kvmi_get_version_reply version;
	struct kvmi_vm_get_info_reply info;
	static __u8 xsave[KVMI_XSAVE_SIZE];
	struct kvmi_registers regs;
	struct kvmi_batch *batch;
	__u8 page[4096];
	int failed = 0;

	failed += !!kvmi_get_version(dom, &version);
	failed += !!kvmi_vm_get_info(dom, &info);
	failed += !!kvmi_vm_pause_vcpu(dom, 0, false);
	failed += !session_events(dom, wait_ms);
	failed += !!kvmi_vcpu_get_registers(dom, 0, &regs, msrs, 2);
	failed += !!kvmi_vcpu_get_cpuid(dom, 0, 0, 0, &cpuid);
	failed += !!kvmi_vcpu_get_xsave(dom, 0, xsave);
	if (!kvmi_batch_new(dom, &batch)) {
		failed += kvmi_batch_read_physical(batch, 0x1000, page, sizeof(page)) != 0;
		failed += kvmi_batch_read_physical(batch, 0x2000, page, 100) != 1;
		failed += !!kvmi_batch_run(batch);
		failed += !!kvmi_batch_result(batch, 1);
		kvmi_batch_free(batch);
	} else {
		failed++;
	}
	return failed;
}

#endif /* KVMI_FUZZ_SESSION_H */
