// SPDX-License-Identifier: GPL-2.0
/* Commands that concern one vCPU; it carries them out itself. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

/* How many MSRs fit in the reply, which is what limits them. */
#define MAX_MSRS							\
	((KVMI_MAX_PAYLOAD - sizeof(struct kvmi_error_code) -		\
	  sizeof(struct kvmi_vcpu_get_registers_reply)) /		\
	 sizeof(struct kvm_msr_entry))

/* A command to one vCPU; the text of an error names it. */
static int vcpu_command(struct kvmi_dom *dom, __u16 id, __u16 vcpu,
			const void *req, size_t req_size, void *reply,
			size_t reply_size)
{
	struct kvmi_vcpu_hdr hdr = { .vcpu = vcpu };
	int err;

	err = kvmi_command2(dom, id, &hdr, sizeof(hdr), req, req_size, reply,
			    reply_size, reply_size);
	if (err)
		kvmi_fail_prefix(err, "vCPU %u: ", vcpu);
	return err;
}

/**
 * kvmi_vcpu_get_info - what the architecture tells about a vCPU
 * @dom: the domain
 * @vcpu: the vCPU
 * @reply: the answer; tsc_speed is in Hz, 0 if the CPU cannot scale its TSC
 *
 * Return: 0 or a negated errno; -EAGAIN if the guest has not started this vCPU.
 * So do all functions of this group.
 */
int kvmi_vcpu_get_info(struct kvmi_dom *dom, __u16 vcpu,
		       struct kvmi_vcpu_get_info_reply *reply)
{
	return vcpu_command(dom, KVMI_VCPU_GET_INFO, vcpu, NULL, 0, reply,
			    sizeof(*reply));
}

static int control_event(struct kvmi_dom *dom, __u16 vcpu, __u16 event_id,
			 bool enable, __u8 flags)
{
	struct {
		struct kvmi_vcpu_hdr hdr;
		struct kvmi_vcpu_control_events cmd;
	} req = {
		.hdr = { .vcpu = vcpu },
		.cmd = { .event_id = event_id, .enable = enable, .flags = flags },
	};
	int err;

	err = kvmi_command(dom, KVMI_VCPU_CONTROL_EVENTS, &req, sizeof(req),
			   NULL, 0, 0);
	if (err)
		kvmi_fail_prefix(err, "vCPU %u, %s: ", vcpu,
				 kvmi_event_name(event_id));
	return err;
}

/**
 * kvmi_vcpu_control_events - enable or disable an event for one vCPU
 * @dom: the domain
 * @vcpu: the vCPU
 * @event_id: KVMI_VCPU_EVENT_*
 * @enable: which of the two
 *
 * Return: 0 or a negated errno; -EAGAIN if the guest has not started this vCPU.
 */
int kvmi_vcpu_control_events(struct kvmi_dom *dom, __u16 vcpu, __u16 event_id,
			     bool enable)
{
	return control_event(dom, vcpu, event_id, enable, 0);
}

/**
 * kvmi_vcpu_control_pf - enable or disable KVMI_VCPU_EVENT_PF, with flags
 * @dom: the domain
 * @vcpu: the vCPU
 * @enable: which of the two
 * @flags: to enable, KVMI_PF_WALK if page walks are to cause events as well;
 *	the kernel must have the feature pf_walk for it.  Else 0.
 *
 * Return: as kvmi_vcpu_control_events().
 */
int kvmi_vcpu_control_pf(struct kvmi_dom *dom, __u16 vcpu, bool enable,
			 __u8 flags)
{
	return control_event(dom, vcpu, KVMI_VCPU_EVENT_PF, enable, flags);
}

static int check_msrs(const struct kvmi_vcpu_get_registers_reply *reply,
		      const struct kvm_msr_entry *got,
		      const struct kvm_msr_entry *wanted, unsigned int nmsrs)
{
	unsigned int i;

	if (reply->msrs.nmsrs != nmsrs)
		return kvmi_fail(-EPROTO, "%s: msrs.nmsrs %u where %u were asked for",
				 kvmi_message_name(KVMI_VCPU_GET_REGISTERS),
				 reply->msrs.nmsrs, nmsrs);
	for (i = 0; i < nmsrs; i++)
		if (got[i].index != wanted[i].index)
			return kvmi_fail(-EPROTO,
					 "%s: msrs.entries[%u].index 0x%x where 0x%x was asked for",
					 kvmi_message_name(KVMI_VCPU_GET_REGISTERS),
					 i, got[i].index, wanted[i].index);
	return 0;
}

/**
 * kvmi_vcpu_get_registers - read registers of a vCPU
 * @dom: the domain
 * @vcpu: the vCPU
 * @registers: general and special registers
 * @msrs: which MSRs (.index), and where their values go (.data)
 * @nmsrs: how many
 *
 * Return: 0 or a negated errno; -EAGAIN if the guest has not started this vCPU.
 */
int kvmi_vcpu_get_registers(struct kvmi_dom *dom, __u16 vcpu,
			    struct kvmi_registers *registers,
			    struct kvm_msr_entry *msrs, unsigned int nmsrs)
{
	struct {
		struct kvmi_vcpu_hdr hdr;
		struct kvmi_vcpu_get_registers cmd;
		__u32 msrs_idx[MAX_MSRS];
	} req = {
		.hdr = { .vcpu = vcpu },
		.cmd = { .nmsrs = nmsrs },
	};
	struct {
		struct kvmi_vcpu_get_registers_reply head;
		struct kvm_msr_entry entries[MAX_MSRS];
	} reply;
	size_t reply_size = sizeof(reply.head) + nmsrs * sizeof(reply.entries[0]);
	unsigned int i;
	int err;

	if (nmsrs > MAX_MSRS)
		return kvmi_fail(-EINVAL, "%s: nmsrs %u is more than %zu",
				 kvmi_message_name(KVMI_VCPU_GET_REGISTERS),
				 nmsrs, MAX_MSRS);
	for (i = 0; i < nmsrs; i++)
		req.msrs_idx[i] = msrs[i].index;

	err = kvmi_command(dom, KVMI_VCPU_GET_REGISTERS, &req,
			   offsetof(typeof(req), msrs_idx[nmsrs]), &reply,
			   reply_size, reply_size);
	if (!err)
		err = check_msrs(&reply.head, reply.entries, msrs, nmsrs);
	if (err)
		return kvmi_fail_prefix(err, "vCPU %u: ", vcpu);

	registers->mode = reply.head.mode;
	registers->regs = reply.head.regs;
	registers->sregs = reply.head.sregs;
	for (i = 0; i < nmsrs; i++)
		msrs[i].data = reply.entries[i].data;
	return 0;
}

/**
 * kvmi_vcpu_set_registers - change general registers of a vCPU
 * @dom: the domain
 * @vcpu: the vCPU, which must be waiting for the answer to an event
 * @regs: all of the general registers, rip and rflags; they take effect with
 *	that answer, and of several calls the last counts
 *
 * Return: 0 or a negated errno; -EOPNOTSUPP if the vCPU waits for no answer.
 */
int kvmi_vcpu_set_registers(struct kvmi_dom *dom, __u16 vcpu,
			    const struct kvm_regs *regs)
{
	return vcpu_command(dom, KVMI_VCPU_SET_REGISTERS, vcpu, regs,
			    sizeof(*regs), NULL, 0);
}

/**
 * kvmi_vcpu_get_cpuid - a leaf of what CPUID tells the guest
 * @dom: the domain
 * @vcpu: the vCPU
 * @function: EAX
 * @index: ECX
 * @reply: the answer
 *
 * Return: 0 or a negated errno; -ENOENT if there is no such leaf.
 */
int kvmi_vcpu_get_cpuid(struct kvmi_dom *dom, __u16 vcpu, __u32 function,
			__u32 index, struct kvmi_vcpu_get_cpuid_reply *reply)
{
	struct kvmi_vcpu_get_cpuid req = { .function = function, .index = index };
	int err;

	err = vcpu_command(dom, KVMI_VCPU_GET_CPUID, vcpu, &req, sizeof(req),
			   reply, sizeof(*reply));
	if (err)
		kvmi_fail_prefix(err, "function 0x%x, index 0x%x: ", function, index);
	return err;
}

/**
 * kvmi_vcpu_control_cr - report writes to a control register, or do not
 * @dom: the domain
 * @vcpu: the vCPU
 * @cr: 0, 3 or 4
 * @enable: which of the two
 *
 * KVMI_VCPU_EVENT_CR has to be enabled as well.
 *
 * Return: 0 or a negated errno.
 */
int kvmi_vcpu_control_cr(struct kvmi_dom *dom, __u16 vcpu, __u8 cr, bool enable)
{
	struct kvmi_vcpu_control_cr req = { .cr = cr, .enable = enable };
	int err;

	err = vcpu_command(dom, KVMI_VCPU_CONTROL_CR, vcpu, &req, sizeof(req),
			   NULL, 0);
	if (err)
		kvmi_fail_prefix(err, "CR%u: ", cr);
	return err;
}

/**
 * kvmi_vcpu_control_msr - report writes to an MSR, or do not
 * @dom: the domain
 * @vcpu: the vCPU
 * @msr: within 0..0x1fff or 0xc0000000..0xc0001fff
 * @enable: which of the two
 *
 * KVMI_VCPU_EVENT_MSR has to be enabled as well.
 *
 * Return: 0 or a negated errno.
 */
int kvmi_vcpu_control_msr(struct kvmi_dom *dom, __u16 vcpu, __u32 msr, bool enable)
{
	struct kvmi_vcpu_control_msr req = { .msr = msr, .enable = enable };
	int err;

	err = vcpu_command(dom, KVMI_VCPU_CONTROL_MSR, vcpu, &req, sizeof(req),
			   NULL, 0);
	if (err)
		kvmi_fail_prefix(err, "MSR 0x%x: ", msr);
	return err;
}

/**
 * kvmi_vcpu_control_singlestep - report each instruction, or do not
 * @dom: the domain
 * @vcpu: the vCPU
 * @enable: which of the two
 *
 * Return: 0 or a negated errno; -EOPNOTSUPP if the host cannot.
 */
int kvmi_vcpu_control_singlestep(struct kvmi_dom *dom, __u16 vcpu, bool enable)
{
	struct kvmi_vcpu_control_singlestep req = { .enable = enable };

	return vcpu_command(dom, KVMI_VCPU_CONTROL_SINGLESTEP, vcpu, &req,
			    sizeof(req), NULL, 0);
}

/**
 * kvmi_vcpu_inject_exception - have the guest take an exception
 * @dom: the domain
 * @vcpu: the vCPU
 * @nr: the vector
 * @error_code: for the vectors that have one
 * @address: of a page fault, as CR2 will have it
 *
 * KVMI_VCPU_EVENT_TRAP tells what was taken, which can be something else that
 * had to come first.
 *
 * Return: 0 or a negated errno; -EBUSY while another exception or a
 * single-step is under way.
 */
int kvmi_vcpu_inject_exception(struct kvmi_dom *dom, __u16 vcpu, __u8 nr,
			       __u32 error_code, __u64 address)
{
	struct kvmi_vcpu_inject_exception req = {
		.nr = nr,
		.error_code = error_code,
		.address = address,
	};
	int err;

	err = vcpu_command(dom, KVMI_VCPU_INJECT_EXCEPTION, vcpu, &req,
			   sizeof(req), NULL, 0);
	if (err)
		kvmi_fail_prefix(err, "vector %u: ", nr);
	return err;
}

/**
 * kvmi_vcpu_get_xcr - read an extended control register
 * @dom: the domain
 * @vcpu: the vCPU
 * @xcr: 0
 * @value: its value
 *
 * Return: 0 or a negated errno.
 */
int kvmi_vcpu_get_xcr(struct kvmi_dom *dom, __u16 vcpu, __u8 xcr, __u64 *value)
{
	struct kvmi_vcpu_get_xcr req = { .xcr = xcr };
	struct kvmi_vcpu_get_xcr_reply reply;
	int err;

	err = vcpu_command(dom, KVMI_VCPU_GET_XCR, vcpu, &req, sizeof(req),
			   &reply, sizeof(reply));
	if (err)
		return kvmi_fail_prefix(err, "XCR%u: ", xcr);
	*value = reply.value;
	return 0;
}

/**
 * kvmi_vcpu_get_xsave - read the state of the FPU and its extensions
 * @dom: the domain
 * @vcpu: the vCPU
 * @area: an XSAVE area in the standard format
 *
 * Return: 0 or a negated errno.
 */
int kvmi_vcpu_get_xsave(struct kvmi_dom *dom, __u16 vcpu,
			__u8 area[KVMI_XSAVE_SIZE])
{
	return vcpu_command(dom, KVMI_VCPU_GET_XSAVE, vcpu, NULL, 0, area,
			    KVMI_XSAVE_SIZE);
}

/**
 * kvmi_vcpu_set_xsave - change the state of the FPU and its extensions
 * @dom: the domain
 * @vcpu: the vCPU
 * @area: as kvmi_vcpu_get_xsave() gives it
 *
 * Return: 0 or a negated errno.
 */
int kvmi_vcpu_set_xsave(struct kvmi_dom *dom, __u16 vcpu,
			const __u8 area[KVMI_XSAVE_SIZE])
{
	return vcpu_command(dom, KVMI_VCPU_SET_XSAVE, vcpu, area,
			    KVMI_XSAVE_SIZE, NULL, 0);
}

/**
 * kvmi_vcpu_get_mtrr_type - the memory type that the guest's MTRRs give a page
 * @dom: the domain
 * @vcpu: the vCPU
 * @gpa: guest physical address
 * @type: as the MTRRs encode it: 0 uncachable, 6 write-back, ...
 *
 * Return: 0 or a negated errno.
 */
int kvmi_vcpu_get_mtrr_type(struct kvmi_dom *dom, __u16 vcpu, __u64 gpa, __u8 *type)
{
	struct kvmi_vcpu_get_mtrr_type req = { .gpa = gpa };
	struct kvmi_vcpu_get_mtrr_type_reply reply;
	int err;

	err = vcpu_command(dom, KVMI_VCPU_GET_MTRR_TYPE, vcpu, &req, sizeof(req),
			   &reply, sizeof(reply));
	if (err)
		return kvmi_fail_prefix(err, "gpa 0x%llx: ", (unsigned long long)gpa);
	*type = reply.type;
	return 0;
}

/**
 * kvmi_vcpu_translate_gva - where an address lies, as the vCPU sees it now
 * @dom: the domain
 * @vcpu: the vCPU
 * @gva: guest virtual address
 * @gpa: guest physical address, or KVMI_NO_ADDRESS if nothing is mapped there
 *
 * Return: 0 or a negated errno.
 */
int kvmi_vcpu_translate_gva(struct kvmi_dom *dom, __u16 vcpu, __u64 gva, __u64 *gpa)
{
	struct kvmi_vcpu_translate_gva req = { .gva = gva };
	struct kvmi_vcpu_translate_gva_reply reply;
	int err;

	err = vcpu_command(dom, KVMI_VCPU_TRANSLATE_GVA, vcpu, &req, sizeof(req),
			   &reply, sizeof(reply));
	if (err)
		return kvmi_fail_prefix(err, "gva 0x%llx: ", (unsigned long long)gva);
	*gpa = reply.gpa;
	return 0;
}
