// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM introspection: stepping with TF, unseen by the guest
 *
 * SVM can stop a vCPU after one instruction only by means of the guest's TF
 * and the #DB it causes.  TF is set from the moment before VMRUN until the one
 * after #VMEXIT, so the guest must not get hold of it, nor lose its own,
 * between the two:
 *
 *   PUSHF		is intercepted and emulated.
 *   INT n, INT3, INTO	are intercepted and injected: the frame is pushed by a
 *			vCPU without our TF.
 *   ICEBP		is intercepted and its #DB injected.
 *   SYSCALL		traps if TF is set after it, and stores flags.  EFER.SCE
 *			is off, so it raises #UD, and is emulated.
 *   SYSRET		raises #UD, too.  It is executed with TF set in R11.
 *   POPF, IRET		are intercepted to be known.  They trap because of the
 *			TF they begin with; the TF they load is the guest's.
 *   exceptions		are all intercepted and injected.
 *   interrupts		are held back.  What must be injected is, with TF off and
 *			an immediate exit.
 *   MOV DR		is emulated (svm.c): the CPU must not hold the guest's
 *			DR6 when it traps.
 *
 * The #DB of a step is not the guest's, unless TF was.  If a breakpoint of the
 * guest's was hit as well, it gets that.
 *
 * An instruction that loads SS does not trap, the one after it does.  The two
 * are one step.
 *
 * Neither L2 nor SMM is stepped, so svm->vmcb is vmcb01 throughout.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kvm_host.h>
#include <asm/debugreg.h>
#include <asm/insn.h>
#include "kvm_cache_regs.h"
#include "kvmi.h"
#include "svm.h"
#include "x86.h"

/* Between svm_step_enter() and svm_step_leave() only */
static enum svm_step_native svm_step_is_native(struct kvm_vcpu *vcpu)
{
	struct svm_kvmi_step *step = &to_svm(vcpu)->kvmi_step;

	if (!kvm_is_linear_rip(vcpu, step->native_rip))
		step->native = SVM_STEP_NONE;

	return step->native;
}

/**
 * svm_step_enter - prepare VMRUN for a step
 * @vcpu: the vCPU, interrupts off, what is to be injected is in the VMCB
 *
 * Return: true if the guest is to be left as soon as that is delivered.
 */
bool svm_step_enter(struct kvm_vcpu *vcpu)
{
	struct vcpu_svm *svm = to_svm(vcpu);
	struct svm_kvmi_step *step = &svm->kvmi_step;
	struct vmcb_control_area *control = &svm->vmcb->control;
	struct vmcb_save_area *save = &svm->vmcb->save;
	enum svm_step_native native;

	/* It is of use to NMIs only, which are held back. */
	if (svm->nmi_singlestep)
		disable_nmi_singlestep(svm);

	/* The guest was to have DR6 to itself until the next exit. */
	if (vcpu->arch.switch_db_regs & KVM_DEBUGREG_WONT_EXIT) {
		vcpu->arch.switch_db_regs &= ~KVM_DEBUGREG_WONT_EXIT;
		set_dr_intercepts(svm);
	}

	memcpy(step->intercepts, control->intercepts, sizeof(step->intercepts));
	step->rip = kvm_rip_read(vcpu);
	step->efer = save->efer;
	step->r11 = kvm_r11_read(vcpu);
	step->tf = save->rflags & X86_EFLAGS_TF;
	step->vnmi_pending = control->int_ctl & V_NMI_PENDING_MASK;
	step->injects = control->event_inj & SVM_EVTINJ_VALID;

	control->int_ctl &= ~V_NMI_PENDING_MASK;
	control->intercepts[INTERCEPT_EXCEPTION] |= ~BIT(NMI_VECTOR);
	vmcb_mark_dirty(svm->vmcb, VMCB_INTERCEPTS);
	vmcb_mark_dirty(svm->vmcb, VMCB_INTR);
	if (step->injects)
		return true;

	vmcb_set_intercept(control, INTERCEPT_PUSHF);
	vmcb_set_intercept(control, INTERCEPT_INTn);
	vmcb_set_intercept(control, INTERCEPT_ICEBP);

	native = svm_step_is_native(vcpu);
	if (native != SVM_STEP_LOADS_FLAGS) {
		vmcb_set_intercept(control, INTERCEPT_POPF);
		vmcb_set_intercept(control, INTERCEPT_IRET);
	}
	if (native == SVM_STEP_SYSRET)
		kvm_r11_write(vcpu, step->r11 | X86_EFLAGS_TF);
	else
		save->efer &= ~EFER_SCE;
	save->rflags |= X86_EFLAGS_TF;
	vmcb_mark_dirty(svm->vmcb, VMCB_CR);

	return false;
}

/* The CPU takes DR6 from its cache, unless it is told not to. */
static void svm_step_set_dr6(struct vcpu_svm *svm, u64 dr6)
{
	svm->vmcb->save.dr6 = dr6;
	vmcb_mark_dirty(svm->vmcb, VMCB_DR);
}

/*
 * Leave in DR6 the breakpoints that are set and that the last instruction has
 * hit.  One for the next instruction is not among them: it is a fault, to come.
 */
static bool svm_step_hit_breakpoint(struct vcpu_svm *svm)
{
	u64 dr6 = svm->vmcb->save.dr6 & ~(u64)DR_STEP;
	u64 dr7 = svm->vmcb->save.dr7;
	int i;

	for (i = 0; i < KVM_NR_DB_REGS; i++)
		if (!kvmi_is_data_breakpoint(dr7, i))
			dr6 &= ~(u64)BIT(i);
	svm_step_set_dr6(svm, dr6);

	return dr6 & DR_TRAP_BITS;
}

/* The CPU has trapped after the instruction. */
static void svm_step_trapped(struct vcpu_svm *svm)
{
	struct svm_kvmi_step *step = &svm->kvmi_step;
	struct vmcb_save_area *save = &svm->vmcb->save;
	bool own_tf = step->tf;

	switch (step->native) {
	case SVM_STEP_NONE:
		if (!own_tf)
			save->rflags &= ~X86_EFLAGS_TF;
		break;
	case SVM_STEP_LOADS_FLAGS:
		break;
	case SVM_STEP_SYSRET:
		own_tf = step->r11 & X86_EFLAGS_TF;
		if (!own_tf)
			save->rflags &= ~X86_EFLAGS_TF;
		break;
	}
	step->native = SVM_STEP_NONE;

	if (!own_tf)
		step->hides_db = !svm_step_hit_breakpoint(svm);
}

/*
 * The trap of an instruction that has an interrupt shadow comes after the next
 * one, unless there is an exit between them.
 */
static bool svm_step_is_in_shadow(struct vcpu_svm *svm)
{
	return (svm->vmcb->control.int_state & SVM_INTERRUPT_SHADOW_MASK) &&
	       svm->vmcb->save.rip != svm->kvmi_step.rip;
}

/**
 * svm_step_leave - take back what svm_step_enter() has prepared
 * @vcpu: the vCPU, interrupts off
 *
 * Return: true if an instruction was executed or an event delivered.
 */
bool svm_step_leave(struct kvm_vcpu *vcpu)
{
	struct vcpu_svm *svm = to_svm(vcpu);
	struct svm_kvmi_step *step = &svm->kvmi_step;
	struct vmcb_control_area *control = &svm->vmcb->control;
	struct vmcb_save_area *save = &svm->vmcb->save;
	bool trapped;

	memcpy(control->intercepts, step->intercepts, sizeof(step->intercepts));
	control->int_ctl |= step->vnmi_pending;
	vmcb_mark_dirty(svm->vmcb, VMCB_INTERCEPTS);
	vmcb_mark_dirty(svm->vmcb, VMCB_INTR);
	/* Never 0, which no exit has: there may have been no step yet. */
	step->exits = vcpu->arch.kvmi_step.exits + 1;
	step->hides_db = false;

	if (step->injects)
		return control->exit_code != SVM_EXIT_ERR &&
		       !(control->exit_int_info & SVM_EXITINTINFO_VALID);

	save->efer = step->efer;
	vmcb_mark_dirty(svm->vmcb, VMCB_CR);
	if (step->native == SVM_STEP_SYSRET)
		kvm_r11_write(vcpu, step->r11);

	/* What else causes a #DB, says so. */
	trapped = control->exit_code == SVM_EXIT_EXCP_BASE + DB_VECTOR &&
		  ((save->dr6 & DR_STEP) || save->dr6 == DR6_ACTIVE_LOW);
	if (trapped)
		svm_step_trapped(svm);
	else if (!step->tf)
		save->rflags &= ~X86_EFLAGS_TF;

	return trapped || svm_step_is_in_shadow(svm);
}

/* Reads the instruction at RIP, returns the index of its opcode or -1. */
static int svm_step_fetch(struct kvm_vcpu *vcpu, u8 *insn)
{
	int i;

	memset(insn, 0, MAX_INSN_SIZE);
	/* It may end where memory does. */
	if (!kvmi_fetch_insn(vcpu, insn))
		return -1;

	for (i = 0; i < MAX_INSN_SIZE - 1; i++) {
		switch (insn[i]) {
		case 0x26:
		case 0x2e:
		case 0x36:
		case 0x3e:
		case 0x64 ... 0x67:
		case 0xf0:
		case 0xf2:
		case 0xf3:
			continue;
		case 0x40 ... 0x4f:
			if (is_64_bit_mode(vcpu))
				continue;
			return i;
		default:
			return i;
		}
	}

	return -1;
}

static bool svm_step_is_intercepted(struct vcpu_svm *svm, u32 vector)
{
	return svm->kvmi_step.intercepts[INTERCEPT_EXCEPTION] & BIT(vector);
}

/* INT n, and with some CPUs the other instructions alike */
static int svm_step_int(struct kvm_vcpu *vcpu)
{
	u8 insn[MAX_INSN_SIZE];
	int op = svm_step_fetch(vcpu, insn);

	if (op < 0)
		return 1;

	switch (insn[op]) {
	case 0xcc:
		if (svm_step_is_intercepted(to_svm(vcpu), BP_VECTOR))
			return svm_invoke_exit_handler(vcpu, SVM_EXIT_EXCP_BASE +
							     BP_VECTOR);
		kvm_queue_exception(vcpu, BP_VECTOR);
		break;
	case 0xcd:
		kvm_queue_interrupt(vcpu, insn[op + 1], true);
		kvm_make_request(KVM_REQ_EVENT, vcpu);
		break;
	case 0xce:
		kvm_queue_exception(vcpu, OF_VECTOR);
		break;
	}

	return 1;
}

static int svm_step_icebp(struct kvm_vcpu *vcpu)
{
	u8 insn[MAX_INSN_SIZE];
	int op = svm_step_fetch(vcpu, insn);

	if (op < 0 || insn[op] != 0xf1)
		return 1;

	/* Its #DB is a trap, and says nothing in DR6. */
	kvm_rip_write(vcpu, kvm_rip_read(vcpu) + op + 1);
	vcpu->arch.kvmi_step.rip = kvm_get_linear_rip(vcpu);
	svm_step_set_dr6(to_svm(vcpu), DR6_ACTIVE_LOW);

	return svm_invoke_exit_handler(vcpu, SVM_EXIT_EXCP_BASE + DB_VECTOR);
}

/* SYSCALL and SYSRET, which the guest may use, unless it may not. */
static bool svm_step_ud(struct kvm_vcpu *vcpu, int *r)
{
	struct svm_kvmi_step *step = &to_svm(vcpu)->kvmi_step;
	u8 insn[MAX_INSN_SIZE];
	int op;

	if (step->injects || step->native == SVM_STEP_SYSRET ||
	    !(vcpu->arch.efer & EFER_SCE))
		return false;

	op = svm_step_fetch(vcpu, insn);
	if (op < 0 || insn[op] != 0x0f)
		return false;

	switch (insn[op + 1]) {
	case 0x05:
		*r = kvm_emulate_instruction(vcpu, 0);
		return true;
	case 0x07:
		step->native = SVM_STEP_SYSRET;
		step->native_rip = kvm_get_linear_rip(vcpu);
		return true;
	}

	return false;
}

static void svm_step_exception(struct kvm_vcpu *vcpu, u32 vector)
{
	struct vmcb_control_area *control = &to_svm(vcpu)->vmcb->control;

	/* The intercepted one has left it as it was. */
	if (vector == PF_VECTOR)
		vcpu->arch.cr2 = control->exit_info_2;

	if (x86_exception_has_error_code(vector))
		kvm_queue_exception_e(vcpu, vector, control->exit_info_1);
	else
		kvm_queue_exception(vcpu, vector);
}

/**
 * svm_step_handle_exit - handle an exit that only a step causes
 * @vcpu: the vCPU
 * @exit_code: the exit
 * @r: what the exit handler is to return
 *
 * Return: true if it was one.
 */
bool svm_step_handle_exit(struct kvm_vcpu *vcpu, u64 exit_code, int *r)
{
	struct vcpu_svm *svm = to_svm(vcpu);
	struct svm_kvmi_step *step = &svm->kvmi_step;
	u32 vector = exit_code - SVM_EXIT_EXCP_BASE;

	if (step->exits != vcpu->arch.kvmi_step.exits)
		return false;
	/* Once, for the handlers that are called from here. */
	step->exits = 0;
	*r = 1;

	switch (exit_code) {
	case SVM_EXIT_PUSHF:
		*r = kvm_emulate_instruction(vcpu, 0);
		return true;
	case SVM_EXIT_IRET:
		/* Or does KVM want to know when NMIs are unmasked? */
		if (step->intercepts[INTERCEPT_IRET / 32] &
		    BIT(INTERCEPT_IRET % 32))
			return false;
		fallthrough;
	case SVM_EXIT_POPF:
		step->native = SVM_STEP_LOADS_FLAGS;
		step->native_rip = kvm_get_linear_rip(vcpu);
		return true;
	case SVM_EXIT_SWINT:
		*r = svm_step_int(vcpu);
		return true;
	case SVM_EXIT_ICEBP:
		*r = svm_step_icebp(vcpu);
		return true;
	case SVM_EXIT_EXCP_BASE ... SVM_EXIT_EXCP_BASE + 31:
		break;
	default:
		return false;
	}

	if (vector == DB_VECTOR)
		return step->hides_db;
	if (vector == UD_VECTOR && svm_step_ud(vcpu, r))
		return true;
	if (svm_step_is_intercepted(svm, vector))
		return false;

	svm_step_exception(vcpu, vector);

	return true;
}
