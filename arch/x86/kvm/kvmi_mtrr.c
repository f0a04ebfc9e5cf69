// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM introspection on x86: the memory type that the guest's MTRRs say
 *
 * KVM stores what the guest writes to its MTRRs and makes no use of it.  The
 * rules are those of SDM vol. 3, "Memory Type Range Registers", and APM vol.
 * 2, "MTRRs", which agree.
 *
 * On the thread of the vCPU.
 */

#include <linux/kvmi_arch.h>
#include <asm/mtrr.h>
#include <uapi/linux/kvm_para.h>
#include "cpuid.h"

#define KVMI_MTRR_ENABLED	BIT_ULL(11)	/* in IA32_MTRR_DEF_TYPE */
#define KVMI_MTRR_FIXED_ENABLED	BIT_ULL(10)
#define KVMI_MTRR_TYPE_MASK	0xffull
#define KVMI_MTRR_VALID		BIT_ULL(11)	/* in IA32_MTRR_PHYSMASKn */

#define KVMI_MTRR_FIXED_END	0x100000ull

static u8 kvmi_fixed_mtrr_type(const struct kvm_mtrr *mtrr, gpa_t gpa)
{
	unsigned int n;
	u64 reg;

	if (gpa < 0x80000) {
		reg = mtrr->fixed_64k;
		n = gpa / 0x10000;
	} else if (gpa < 0xc0000) {
		n = (gpa - 0x80000) / 0x4000;
		reg = mtrr->fixed_16k[n / 8];
	} else {
		n = (gpa - 0xc0000) / 0x1000;
		reg = mtrr->fixed_4k[n / 8];
	}

	return reg >> (n % 8 * 8);
}

/* Two ranges overlap: what is left undefined is taken for uncacheable. */
static u8 kvmi_combine_mtrr_types(u8 a, u8 b)
{
	if (a == b)
		return a;
	if ((a == MTRR_TYPE_WRTHROUGH && b == MTRR_TYPE_WRBACK) ||
	    (a == MTRR_TYPE_WRBACK && b == MTRR_TYPE_WRTHROUGH))
		return MTRR_TYPE_WRTHROUGH;

	return MTRR_TYPE_UNCACHABLE;
}

static u8 kvmi_variable_mtrr_type(const struct kvm_mtrr *mtrr, gpa_t gpa)
{
	bool found = false;
	u8 type = 0;
	int i;

	for (i = 0; i < KVM_NR_VAR_MTRR; i++) {
		u64 base = mtrr->var[2 * i], mask = mtrr->var[2 * i + 1];
		u8 this = base & KVMI_MTRR_TYPE_MASK;

		if (!(mask & KVMI_MTRR_VALID) ||
		    ((gpa ^ base) & mask & PAGE_MASK))
			continue;

		type = found ? kvmi_combine_mtrr_types(type, this) : this;
		found = true;
	}

	return found ? type : mtrr->deftype & KVMI_MTRR_TYPE_MASK;
}

static u8 kvmi_mtrr_type(const struct kvm_mtrr *mtrr, gpa_t gpa)
{
	if (!(mtrr->deftype & KVMI_MTRR_ENABLED))
		return MTRR_TYPE_UNCACHABLE;

	if ((mtrr->deftype & KVMI_MTRR_FIXED_ENABLED) &&
	    gpa < KVMI_MTRR_FIXED_END)
		return kvmi_fixed_mtrr_type(mtrr, gpa);

	return kvmi_variable_mtrr_type(mtrr, gpa);
}

/**
 * kvmi_arch_cmd_vcpu_get_mtrr_type - carry out KVMI_VCPU_GET_MTRR_TYPE
 * @req: the request
 *
 * Return: as kvmi_reply().
 */
int kvmi_arch_cmd_vcpu_get_mtrr_type(const struct kvmi_request *req)
{
	const struct kvmi_vcpu_get_mtrr_type *cmd = req->fixed;
	/* A guest that has no MTRRs has its memory cached. */
	struct kvmi_vcpu_get_mtrr_type_reply rpl = { .type = MTRR_TYPE_WRBACK };
	int err = 0;

	if (cmd->gpa & kvm_vcpu_reserved_gpa_bits_raw(req->vcpu))
		err = -KVM_EINVAL;
	else if (guest_cpuid_has(req->vcpu, X86_FEATURE_MTRR))
		rpl.type = kvmi_mtrr_type(&req->vcpu->arch.mtrr_state, cmd->gpa);

	return kvmi_reply(req, err, &rpl, sizeof(rpl));
}
