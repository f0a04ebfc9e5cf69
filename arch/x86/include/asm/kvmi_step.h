/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _ASM_X86_KVMI_STEP_H
#define _ASM_X86_KVMI_STEP_H

#include <linux/types.h>

#define KVMI_NR_RELAXED	8

/**
 * struct kvmi_step - stepping a vCPU, see arch/x86/kvm/kvmi_step.c
 * @on: each instruction is a step
 * @let_in: what the guest waits for, halted, is not held back
 * @armed: the vCPU is in the guest, or on its way, for the step
 * @done: the step is
 * @native: the step is for an instruction that the tool let go on
 * @delivered: with its own root, the vCPU has come out with nothing on its way
 * @own_root: number of the vCPU's own root, see kvmi_root.c; 0 if it has none
 * @nr_relaxed: how many of @relaxed there are; more than fit, if they do not
 * @relaxed: pages, with a mapping in the own root that has to go with it
 * @rip: the linear address where it began
 * @exits: how often the vCPU has left the guest while there was introspection;
 *	vcpu->stat.exits can be cleared by root
 * @stamp: what @native began with, see struct kvmi_arch_insn
 */
struct kvmi_step {
	bool on;
	bool let_in;
	bool armed;
	bool done;
	bool native;
	bool delivered;
	u8 own_root;
	u8 nr_relaxed;
	u64 relaxed[KVMI_NR_RELAXED];
	unsigned long rip;
	u64 exits;
	u64 stamp;
};

#endif /* _ASM_X86_KVMI_STEP_H */
