// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM introspection: from a message to the function that serves it
 *
 * The tables below are the list of commands.  A new one is a line here
 * and a function in the file of its concern.
 *
 * VM commands are served by the session's thread, under rx_lock.  vCPU
 * commands are checked by whoever read them, under rx_lock, and served on the
 * thread of the vCPU, in order (vcpu.c).  Each gets exactly one reply.
 */

#include <linux/nospec.h>
#include <uapi/linux/kvm_para.h>
#include "kvmi_int.h"

#define CREATE_TRACE_POINTS
#include <trace/events/kvmi.h>

/* Index in the tables below and in the ABI: even and odd ids count alike. */
#define KVMI_ID_INDEX(id)	((id) >> 1)

#define KVMI_CMD(id, fn, size)	[KVMI_ID_INDEX(id)] = { fn, size }

static const struct kvmi_command kvmi_vm_commands[] = {
	KVMI_CMD(KVMI_GET_VERSION, kvmi_cmd_get_version, 0),
	KVMI_CMD(KVMI_VM_CHECK_COMMAND, kvmi_cmd_vm_check_command,
		 sizeof(struct kvmi_vm_check_command)),
	KVMI_CMD(KVMI_VM_CHECK_EVENT, kvmi_cmd_vm_check_event,
		 sizeof(struct kvmi_vm_check_event)),
	KVMI_CMD(KVMI_VM_GET_INFO, kvmi_cmd_vm_get_info, 0),
	KVMI_CMD(KVMI_VM_CONTROL_EVENTS, kvmi_cmd_vm_control_events,
		 sizeof(struct kvmi_vm_control_events)),
	KVMI_CMD(KVMI_VM_READ_PHYSICAL, kvmi_cmd_vm_read_physical,
		 sizeof(struct kvmi_vm_read_physical)),
	KVMI_CMD(KVMI_VM_WRITE_PHYSICAL, kvmi_cmd_vm_write_physical,
		 sizeof(struct kvmi_vm_write_physical)),
	KVMI_CMD(KVMI_VM_PAUSE_VCPU, kvmi_cmd_vm_pause_vcpu,
		 sizeof(struct kvmi_vm_pause_vcpu)),
	KVMI_CMD(KVMI_VM_CONTROL_CLEANUP, kvmi_cmd_vm_control_cleanup,
		 sizeof(struct kvmi_vm_control_cleanup)),
	KVMI_CMD(KVMI_VM_SET_PAGE_ACCESS, kvmi_cmd_vm_set_page_access,
		 sizeof(struct kvmi_vm_set_page_access)),
};

/* Beyond version 1; the index counts from KVMI_EXT_MESSAGE_BASE on. */
static const struct kvmi_command kvmi_vm_ext_commands[] = {
	KVMI_CMD(KVMI_VM_GET_MAX_GFN - KVMI_FIRST_EXT_COMMAND,
		 kvmi_cmd_vm_get_max_gfn, 0),
};

static const struct kvmi_command kvmi_vcpu_commands[] = {
	KVMI_CMD(KVMI_VCPU_GET_INFO, kvmi_arch_cmd_vcpu_get_info, 0),
	KVMI_CMD(KVMI_VCPU_CONTROL_EVENTS, kvmi_cmd_vcpu_control_events,
		 sizeof(struct kvmi_vcpu_control_events)),
	KVMI_CMD(KVMI_VCPU_GET_REGISTERS, kvmi_arch_cmd_vcpu_get_registers,
		 sizeof(struct kvmi_vcpu_get_registers)),
	KVMI_CMD(KVMI_VCPU_SET_REGISTERS, kvmi_cmd_vcpu_set_registers, 0),
	KVMI_CMD(KVMI_VCPU_GET_CPUID, kvmi_arch_cmd_vcpu_get_cpuid,
		 sizeof(struct kvmi_vcpu_get_cpuid)),
	KVMI_CMD(KVMI_VCPU_INJECT_EXCEPTION, kvmi_cmd_vcpu_inject_exception,
		 sizeof(struct kvmi_vcpu_inject_exception)),
	KVMI_CMD(KVMI_VCPU_GET_XCR, kvmi_arch_cmd_vcpu_get_xcr,
		 sizeof(struct kvmi_vcpu_get_xcr)),
	KVMI_CMD(KVMI_VCPU_GET_XSAVE, kvmi_arch_cmd_vcpu_get_xsave, 0),
	KVMI_CMD(KVMI_VCPU_SET_XSAVE, kvmi_arch_cmd_vcpu_set_xsave, 0),
	KVMI_CMD(KVMI_VCPU_GET_MTRR_TYPE, kvmi_arch_cmd_vcpu_get_mtrr_type,
		 sizeof(struct kvmi_vcpu_get_mtrr_type)),
	KVMI_CMD(KVMI_VCPU_TRANSLATE_GVA, kvmi_cmd_vcpu_translate_gva,
		 sizeof(struct kvmi_vcpu_translate_gva)),
	KVMI_CMD(KVMI_VCPU_CONTROL_CR, kvmi_arch_cmd_vcpu_control_cr,
		 sizeof(struct kvmi_vcpu_control_cr)),
	KVMI_CMD(KVMI_VCPU_CONTROL_MSR, kvmi_arch_cmd_vcpu_control_msr,
		 sizeof(struct kvmi_vcpu_control_msr)),
	KVMI_CMD(KVMI_VCPU_CONTROL_SINGLESTEP, kvmi_cmd_vcpu_control_singlestep,
		 sizeof(struct kvmi_vcpu_control_singlestep)),
};

/* Events that this kernel can send. */
static const u16 kvmi_events[] = {
	KVMI_VM_EVENT_UNHOOK,
	KVMI_VCPU_EVENT_PAUSE,
	KVMI_VCPU_EVENT_HYPERCALL,
	KVMI_VCPU_EVENT_BREAKPOINT,
	KVMI_VCPU_EVENT_CR,
	KVMI_VCPU_EVENT_TRAP,
	KVMI_VCPU_EVENT_XSETBV,
	KVMI_VCPU_EVENT_DESCRIPTOR,
	KVMI_VCPU_EVENT_MSR,
	KVMI_VCPU_EVENT_PF,
	KVMI_VCPU_EVENT_SINGLESTEP,
};

static const struct kvmi_command *kvmi_find_command(u16 id)
{
	const struct kvmi_command *table = kvmi_vm_commands;
	size_t n = ARRAY_SIZE(kvmi_vm_commands);
	u16 index = KVMI_ID_INDEX(id);

	if (kvmi_is_vcpu_id(id)) {
		table = kvmi_vcpu_commands;
		n = ARRAY_SIZE(kvmi_vcpu_commands);
	} else if (index >= KVMI_EXT_MESSAGE_BASE) {
		table = kvmi_vm_ext_commands;
		n = ARRAY_SIZE(kvmi_vm_ext_commands);
		index -= KVMI_EXT_MESSAGE_BASE;
	}

	if (index >= n)
		return NULL;

	index = array_index_nospec(index, n);
	return table[index].fn ? &table[index] : NULL;
}

/**
 * kvmi_is_known_command - does this kernel serve the command?
 * @id: any id; those of the events are no commands
 */
bool kvmi_is_known_command(u16 id)
{
	return kvmi_find_command(id);
}

/**
 * kvmi_is_known_event - can this kernel send the event?
 * @id: any id
 */
bool kvmi_is_known_event(u16 id)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(kvmi_events); i++)
		if (kvmi_events[i] == id)
			return true;

	return false;
}

/**
 * kvmi_is_command_allowed - has the VMM allowed the command?
 * @kvmi: the session
 * @id: a known command
 */
bool kvmi_is_command_allowed(struct kvm_introspection *kvmi, u16 id)
{
	int bit = kvmi_command_bit(id);

	return bit >= 0 && test_bit(bit, kvmi->cmd_allowed);
}

/**
 * kvmi_command_bit - where a command is in kvm_introspection.cmd_allowed
 * @id: any id
 *
 * Return: the bit, or -1 if no command can have that id.  In the range of
 * version 1 each has one, whether or not this kernel serves it.
 */
int kvmi_command_bit(u16 id)
{
	if (id < KVMI_NUM_COMMANDS)
		return array_index_nospec(id, KVMI_NUM_COMMANDS);

	return kvmi_is_known_command(id) ?
	       KVMI_NUM_COMMANDS + id - KVMI_FIRST_EXT_COMMAND : -1;
}

/**
 * kvmi_is_event_allowed - has the VMM allowed the event?
 * @kvmi: the session
 * @id: a known event
 */
bool kvmi_is_event_allowed(struct kvm_introspection *kvmi, u16 id)
{
	return id < KVMI_NUM_EVENTS && test_bit(id, kvmi->event_allowed);
}

/**
 * kvmi_enable_event - carry out the tool's wish to get an event, or not to
 * @kvmi: the session
 * @enabled: bitmap of the events that are enabled, of the VM or of a vCPU
 * @id: a known event, allowed a moment ago
 * @enable: the wish
 */
void kvmi_enable_event(struct kvm_introspection *kvmi, unsigned long *enabled,
		       u16 id, bool enable)
{
	assign_bit(id, enabled, enable);
	/*
	 * Order the setting before the check: the VMM disallows the event
	 * first and then disables it, see kvmi_allow_events().
	 */
	smp_mb__after_atomic();
	if (!kvmi_is_event_allowed(kvmi, id))
		clear_bit(id, enabled);
}

/* @vcpu is the vCPU on whose thread this is, if it is on one. */
static int kvmi_send_reply(struct kvm_introspection *kvmi,
			   const struct kvm_vcpu *vcpu,
			   const struct kvmi_msg_hdr *req, int err,
			   const void *data, size_t size)
{
	struct kvmi_error_code ec = { .err = err };
	struct kvmi_msg_hdr hdr = {
		.id = req->id,
		.seq = req->seq,
		.size = sizeof(ec) + size,
	};
	struct kvec vec[] = {
		{ .iov_base = &hdr, .iov_len = sizeof(hdr) },
		{ .iov_base = &ec, .iov_len = sizeof(ec) },
		{ .iov_base = (void *)data, .iov_len = size },
	};
	int r;

	r = kvmi_sock_send(kvmi, vec, size ? 3 : 2, sizeof(hdr) + hdr.size);
	if (r && r != -EINTR)
		kvmi_kill(kvmi, NULL);
	if (!r)
		trace_kvmi_reply(vcpu ? vcpu->vcpu_idx : -1, req->id, req->seq,
				 err, size);

	return r;
}

/**
 * kvmi_reply - answer a command
 * @req: the command
 * @err: 0 or a negated KVM_E* code
 * @data: what follows the error code if that is 0
 * @size: bytes at @data
 *
 * Return: 0; -EINTR if nothing was sent because a signal is pending, the
 * command then has to be served again; another negative errno if there is
 * nobody left to answer.
 */
int kvmi_reply(const struct kvmi_request *req, int err,
	       const void *data, size_t size)
{
	int r;

	/* A slow tool must not keep the VMM from changing memslots. */
	if (req->vcpu)
		kvm_vcpu_srcu_read_unlock(req->vcpu);
	r = kvmi_send_reply(req->kvmi, req->vcpu, req->hdr, err, data,
			    err ? 0 : size);
	if (req->vcpu)
		kvm_vcpu_srcu_read_lock(req->vcpu);

	return r;
}

static void kvmi_count_command(struct kvm_introspection *kvmi,
			       struct kvm_vcpu *vcpu,
			       const struct kvmi_msg_hdr *hdr)
{
	trace_kvmi_command(vcpu ? vcpu->vcpu_idx : -1, hdr->id, hdr->seq,
			   hdr->size);
	if (vcpu)
		vcpu->stat.generic.kvmi.vcpu_commands++;
	else
		kvmi->kvm->stat.generic.kvmi.vm_commands++;
}

static int kvmi_serve(struct kvm_introspection *kvmi, struct kvm_vcpu *vcpu,
		      const struct kvmi_command *cmd,
		      const struct kvmi_msg_hdr *hdr,
		      const void *payload, size_t size)
{
	u8 fixed[KVMI_MAX_FIXED_SIZE] __aligned(8) = { };
	size_t n = min_t(size_t, cmd->fixed_size, size);
	struct kvmi_request req = {
		.kvmi = kvmi,
		.vcpu = vcpu,
		.hdr = hdr,
		.fixed = fixed,
		.data = payload + n,
		.size = size - n,
	};

	memcpy(fixed, payload, n);

	return cmd->fn(&req);
}

/**
 * kvmi_dispatch_vm - serve a VM command
 * @kvmi: the session
 * @hdr: the header of the message
 * @payload: the rest of it
 *
 * On the session's thread.
 */
void kvmi_dispatch_vm(struct kvm_introspection *kvmi,
		      const struct kvmi_msg_hdr *hdr, const void *payload)
{
	const struct kvmi_command *cmd = kvmi_find_command(hdr->id);

	if (!cmd) {
		kvmi_send_reply(kvmi, NULL, hdr, -KVM_ENOSYS, NULL, 0);
	} else if (!kvmi_is_command_allowed(kvmi, hdr->id)) {
		kvmi_send_reply(kvmi, NULL, hdr, -KVM_EPERM, NULL, 0);
	} else {
		kvmi_count_command(kvmi, NULL, hdr);
		kvmi_serve(kvmi, NULL, cmd, hdr, payload, hdr->size);
	}
}

/* Finds the vCPU that a message is for, or says what is wrong. */
static int kvmi_get_target(struct kvm_introspection *kvmi,
			   const struct kvmi_msg_hdr *hdr, const void *payload,
			   struct kvm_vcpu **target)
{
	struct kvmi_vcpu_hdr vhdr = { };

	memcpy(&vhdr, payload, min_t(size_t, hdr->size, sizeof(vhdr)));

	if (vhdr.padding1 || vhdr.padding2)
		return -KVM_EINVAL;

	if (vhdr.vcpu >= atomic_read(&kvmi->kvm->online_vcpus))
		return -KVM_EINVAL;

	*target = kvm_get_vcpu(kvmi->kvm, vhdr.vcpu);
	return 0;
}

/* A reply that cannot be understood leaves its vCPU without an answer. */
static void kvmi_dispatch_event_reply(struct kvm_introspection *kvmi,
				      const struct kvmi_msg_hdr *hdr,
				      const void *payload)
{
	struct kvm_vcpu *vcpu;
	const char *error;

	if (kvmi_get_target(kvmi, hdr, payload, &vcpu))
		error = "event reply for an invalid vCPU or with padding";
	else
		error = kvmi_vcpu_take_reply(vcpu, hdr, payload);

	if (error)
		kvmi_kill(kvmi, error);
}

/**
 * kvmi_dispatch_vcpu - hand a message to the vCPU that it is for
 * @kvmi: the session
 * @hdr: the header of the message
 * @payload: the rest of it
 *
 * On the thread of the session or of a vCPU, perhaps another one.  Errors are
 * answered at once, the rest is queued.
 *
 * Return: 0, or -EINTR if it has to be done again, by another thread.
 */
int kvmi_dispatch_vcpu(struct kvm_introspection *kvmi,
		       const struct kvmi_msg_hdr *hdr, const void *payload)
{
	struct kvm_vcpu *vcpu;
	int err;

	if (hdr->id == KVMI_VCPU_EVENT) {
		kvmi_dispatch_event_reply(kvmi, hdr, payload);
		return 0;
	}

	if (!kvmi_is_known_command(hdr->id))
		err = -KVM_ENOSYS;
	else if (!kvmi_is_command_allowed(kvmi, hdr->id))
		err = -KVM_EPERM;
	else
		err = kvmi_get_target(kvmi, hdr, payload, &vcpu);

	if (!err && !kvmi_arch_vcpu_can_be_introspected(vcpu))
		err = -KVM_EAGAIN;
	if (!err)
		err = kvmi_vcpu_add_job(vcpu, hdr, payload);

	return err &&
	       kvmi_send_reply(kvmi, NULL, hdr, err, NULL, 0) == -EINTR ?
	       -EINTR : 0;
}

/**
 * kvmi_dispatch_job - serve a vCPU command
 * @kvmi: the session
 * @vcpu: the vCPU, on its thread
 * @job: the command, as it was queued
 *
 * Return: as kvmi_reply().
 */
int kvmi_dispatch_job(struct kvm_introspection *kvmi, struct kvm_vcpu *vcpu,
		      const struct kvmi_job *job)
{
	size_t skip = min_t(size_t, job->hdr.size, sizeof(struct kvmi_vcpu_hdr));

	if (!job->interrupted)
		kvmi_count_command(kvmi, vcpu, &job->hdr);

	return kvmi_serve(kvmi, vcpu, kvmi_find_command(job->hdr.id),
			  &job->hdr, job->payload + skip, job->hdr.size - skip);
}
