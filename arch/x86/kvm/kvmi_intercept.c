// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM introspection on x86: what is intercepted for the tool
 *
 * vcpu->kvmi_intercepts holds what the tool wants of a vCPU.  The vendor's code
 * reads it whenever it computes what to intercept, and intercepts that in
 * addition to what KVM wants itself: neither steals from the other.  A change
 * is followed by update_exception_bitmap(), update_kvmi_intercepts() and
 * msr_filter_changed(), which compute all of it anew.  It concerns the state of
 * L1 only; while L2 runs, VMX puts the change off until the next nested exit.
 *
 * Intercepted is what the tool has both selected (CONTROL_CR, CONTROL_MSR) and
 * enabled the event of.  When its session ends the vCPU lifts all that before
 * it enters the guest again, unless VM_CONTROL_CLEANUP says otherwise; then
 * interceptions and selections stay, and are there for the next session.
 *
 * All of this runs on the thread of the vCPU, with the vCPU loaded, except
 * where it says otherwise; no lock needed.
 */

#include <linux/kvmi_arch.h>
#include <linux/nospec.h>
#include <asm/vmx.h>
#include <uapi/linux/kvm_para.h>
#include "kvmi.h"
#include "x86.h"

#define KVMI_HIGH_MSRS	0xc0000000u

/*
 * The thread that unhooks tells the vCPU to lift what it has; the vCPU may be
 * about to do so already, on behalf of an earlier session.
 */
static DEFINE_SPINLOCK(kvmi_drop_lock);

/* The bit of an MSR, or -1 if it has none. */
static int kvmi_msr_bit(u32 msr)
{
	if (msr < KVMI_NUM_MSRS)
		return msr;
	if (msr - KVMI_HIGH_MSRS < KVMI_NUM_MSRS)
		return msr - KVMI_HIGH_MSRS + KVMI_NUM_MSRS;

	return -1;
}

/**
 * __kvmi_intercepts_msr - has the tool selected an MSR?
 * @vcpu: the vCPU, one that has something intercepted
 * @msr: the MSR
 */
bool __kvmi_intercepts_msr(struct kvm_vcpu *vcpu, u32 msr)
{
	int bit = kvmi_msr_bit(msr);

	return bit >= 0 && test_bit(bit, vcpu->kvmi_intercepts->msrs);
}
EXPORT_SYMBOL_GPL(__kvmi_intercepts_msr);

/* Keeps the hooks alive for as long as there is anything to look at. */
static struct kvmi_intercepts *kvmi_get_intercepts(struct kvm_vcpu *vcpu)
{
	if (!vcpu->kvmi_intercepts) {
		vcpu->kvmi_intercepts = kzalloc(sizeof(*vcpu->kvmi_intercepts),
						GFP_KERNEL_ACCOUNT);
		if (vcpu->kvmi_intercepts)
			static_branch_inc(&kvmi_hooked_key);
	}

	return vcpu->kvmi_intercepts;
}

/**
 * kvmi_arch_free_intercepts - nothing is intercepted any more
 * @vcpu: the vCPU; or any thread, when the VM goes
 */
void kvmi_arch_free_intercepts(struct kvm_vcpu *vcpu)
{
	struct kvmi_intercepts *icpt = vcpu->kvmi_intercepts;

	if (!icpt)
		return;

	spin_lock(&kvmi_drop_lock);
	vcpu->kvmi_intercepts = NULL;
	spin_unlock(&kvmi_drop_lock);

	kfree(icpt);
	static_branch_dec(&kvmi_hooked_key);
}

/**
 * __kvmi_refresh_intercepts - compute anew what is intercepted, MSRs excepted
 * @vcpu: the vCPU, one that has or had something intercepted
 */
void __kvmi_refresh_intercepts(struct kvm_vcpu *vcpu)
{
	kvm_x86_call(update_exception_bitmap)(vcpu);
	kvm_x86_call(update_kvmi_intercepts)(vcpu);
}
EXPORT_SYMBOL_GPL(__kvmi_refresh_intercepts);

static void kvmi_update_crs(struct kvm_vcpu *vcpu)
{
	struct kvmi_intercepts *icpt = vcpu->kvmi_intercepts;
	u8 cr = icpt->cr_events ? icpt->cr_selected : 0;

	if (icpt->cr == cr)
		return;

	icpt->cr = cr;
	__kvmi_refresh_intercepts(vcpu);
}

static void kvmi_update_flag(struct kvm_vcpu *vcpu, bool *flag, bool value)
{
	if (*flag == value)
		return;

	*flag = value;
	__kvmi_refresh_intercepts(vcpu);
}

static void kvmi_update_msrs(struct kvm_vcpu *vcpu, bool value)
{
	if (vcpu->kvmi_intercepts->msr == value)
		return;

	vcpu->kvmi_intercepts->msr = value;
	kvm_x86_call(msr_filter_changed)(vcpu);
}

/**
 * kvmi_arch_lift_intercepts - nothing is to be intercepted any more
 * @vcpu: the vCPU
 */
void kvmi_arch_lift_intercepts(struct kvm_vcpu *vcpu)
{
	struct kvmi_intercepts *icpt = vcpu->kvmi_intercepts;

	if (!icpt)
		return;

	kvmi_update_msrs(vcpu, false);
	icpt->bp = false;
	icpt->desc = false;
	icpt->cr = 0;
	__kvmi_refresh_intercepts(vcpu);

	kvmi_arch_free_intercepts(vcpu);
}

/**
 * kvmi_arch_drop_intercepts - the session of a vCPU has ended
 * @vcpu: the vCPU, from the thread that unhooks
 * @restore: have it lift what is intercepted
 *
 * Return: true if the vCPU was requested to call kvmi_arch_end_intercepts().
 */
bool kvmi_arch_drop_intercepts(struct kvm_vcpu *vcpu, bool restore)
{
	struct kvmi_intercepts *icpt;
	bool drop = false;

	spin_lock(&kvmi_drop_lock);
	icpt = vcpu->kvmi_intercepts;
	if (icpt) {
		drop = icpt->drop || restore;
		WRITE_ONCE(icpt->drop, drop);
	}
	if (drop)
		kvm_make_request(KVM_REQ_INTROSPECTION, vcpu);
	spin_unlock(&kvmi_drop_lock);

	return drop;
}

/**
 * kvmi_arch_end_intercepts - lift what is left of a session that has ended
 * @vcpu: the vCPU
 *
 * Return: true if there was something; nobody can request more of it then.
 */
bool kvmi_arch_end_intercepts(struct kvm_vcpu *vcpu)
{
	if (!vcpu->kvmi_intercepts || !READ_ONCE(vcpu->kvmi_intercepts->drop))
		return false;

	kvmi_arch_lift_intercepts(vcpu);

	return true;
}

static bool kvmi_has_desc_exiting(void)
{
	u32 low, high;

	/* SVM always has it. */
	if (!boot_cpu_has(X86_FEATURE_VMX))
		return true;

	return !rdmsr_safe(MSR_IA32_VMX_PROCBASED_CTLS2, &low, &high) &&
	       (high & SECONDARY_EXEC_DESC);
}

/**
 * kvmi_arch_control_event - intercept what an event is about, or stop that
 * @vcpu: the vCPU
 * @id: any event
 * @enable: whether the tool wants it
 *
 * Return: 0 or a negated KVM_E* code.
 */
int kvmi_arch_control_event(struct kvm_vcpu *vcpu, u16 id, bool enable)
{
	struct kvmi_intercepts *icpt;

	switch (id) {
	case KVMI_VCPU_EVENT_BREAKPOINT:
	case KVMI_VCPU_EVENT_CR:
	case KVMI_VCPU_EVENT_MSR:
		break;
	case KVMI_VCPU_EVENT_DESCRIPTOR:
		if (!kvmi_has_desc_exiting())
			return enable ? -KVM_EOPNOTSUPP : 0;
		break;
	default:
		return 0;
	}

	if (!enable && !vcpu->kvmi_intercepts)
		return 0;

	icpt = kvmi_get_intercepts(vcpu);
	if (!icpt)
		return -KVM_ENOMEM;

	switch (id) {
	case KVMI_VCPU_EVENT_BREAKPOINT:
		kvmi_update_flag(vcpu, &icpt->bp, enable);
		break;
	case KVMI_VCPU_EVENT_DESCRIPTOR:
		kvmi_update_flag(vcpu, &icpt->desc, enable);
		break;
	case KVMI_VCPU_EVENT_CR:
		icpt->cr_events = enable;
		kvmi_update_crs(vcpu);
		break;
	case KVMI_VCPU_EVENT_MSR:
		kvmi_update_msrs(vcpu, enable);
		break;
	}

	return 0;
}

static int kvmi_select_cr(struct kvm_vcpu *vcpu, u8 cr, bool enable)
{
	struct kvmi_intercepts *icpt;

	if (!enable && !vcpu->kvmi_intercepts)
		return 0;

	icpt = kvmi_get_intercepts(vcpu);
	if (!icpt)
		return -KVM_ENOMEM;

	if (enable)
		icpt->cr_selected |= BIT(cr);
	else
		icpt->cr_selected &= ~BIT(cr);
	kvmi_update_crs(vcpu);

	return 0;
}

/**
 * kvmi_arch_cmd_vcpu_control_cr - carry out KVMI_VCPU_CONTROL_CR
 * @req: the request
 *
 * Return: as kvmi_reply().
 */
int kvmi_arch_cmd_vcpu_control_cr(const struct kvmi_request *req)
{
	const struct kvmi_vcpu_control_cr *cmd = req->fixed;
	int err;

	if (cmd->padding1 || cmd->padding2 || cmd->enable > 1)
		err = -KVM_EINVAL;
	else if (cmd->cr != 0 && cmd->cr != 3 && cmd->cr != 4)
		err = -KVM_EINVAL;
	else
		err = kvmi_select_cr(req->vcpu, cmd->cr, cmd->enable);

	return kvmi_reply(req, err, NULL, 0);
}

static int kvmi_select_msr(struct kvm_vcpu *vcpu, int bit, bool enable)
{
	struct kvmi_intercepts *icpt;

	if (!enable && !vcpu->kvmi_intercepts)
		return 0;

	icpt = kvmi_get_intercepts(vcpu);
	if (!icpt)
		return -KVM_ENOMEM;

	bit = array_index_nospec(bit, 2 * KVMI_NUM_MSRS);
	if (test_bit(bit, icpt->msrs) == enable)
		return 0;

	__assign_bit(bit, icpt->msrs, enable);
	if (icpt->msr)
		kvm_x86_call(msr_filter_changed)(vcpu);

	return 0;
}

/**
 * kvmi_arch_cmd_vcpu_control_msr - carry out KVMI_VCPU_CONTROL_MSR
 * @req: the request
 *
 * Return: as kvmi_reply().
 */
int kvmi_arch_cmd_vcpu_control_msr(const struct kvmi_request *req)
{
	const struct kvmi_vcpu_control_msr *cmd = req->fixed;
	int bit = kvmi_msr_bit(cmd->msr);
	int err;

	if (cmd->padding1 || cmd->padding2 || cmd->enable > 1 || bit < 0)
		err = -KVM_EINVAL;
	else if (cmd->enable &&
		 !kvm_msr_allowed(req->vcpu, cmd->msr, KVM_MSR_FILTER_WRITE))
		err = -KVM_EPERM;
	else
		err = kvmi_select_msr(req->vcpu, bit, cmd->enable);

	return kvmi_reply(req, err, NULL, 0);
}
