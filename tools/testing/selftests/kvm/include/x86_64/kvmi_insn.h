/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Guest code for the tests of KVM introspection.
 *
 * In assembly, for the tests rely on what accesses an instruction makes, and
 * on its address.  Each function is about one instruction: the first, unless
 * there is a kvmi_insn_<name>_at.
 */
#ifndef SELFTEST_KVM_KVMI_INSN_H
#define SELFTEST_KVM_KVMI_INSN_H

#include <stdint.h>

typedef uint64_t (*kvmi_insn)(uint64_t gva, uint64_t val, uint64_t arg);

#define KVMI_INSN(name)	\
	uint64_t kvmi_insn_##name(uint64_t gva, uint64_t val, uint64_t arg)
#define KVMI_INSN_AT(name)	\
	KVMI_INSN(name);	\
	extern char kvmi_insn_##name##_at[]

KVMI_INSN(nop);

/* 8 bytes at @gva; what they return is the old value */
KVMI_INSN(read);
KVMI_INSN(xadd);
KVMI_INSN(write);
KVMI_INSN(add);

/* Jumps to @gva; the code there returns, the stack is not touched before. */
KVMI_INSN(exec);

/* Interrupts are off: only a signal ends the vCPU's stay in KVM_RUN. */
KVMI_INSN_AT(hlt);

/* Reads @gva until it holds @val; returns how often. */
KVMI_INSN(spin);

/* Counts at @gva until what is at @val is not 0. */
KVMI_INSN_AT(count);

/* @arg times 8 bytes: @val to @gva; from @gva to @val.  Return what is left. */
KVMI_INSN_AT(stos);
KVMI_INSN_AT(movs);

/* One byte from @gva to @val */
KVMI_INSN_AT(movsb);

/* @arg bytes between a port that has no device in KVM and @gva */
KVMI_INSN_AT(ins);
KVMI_INSN_AT(outs);

/* With a stack that ends at @gva; return the stack pointer after it. */
KVMI_INSN_AT(push);
/* calls the code at @val */
KVMI_INSN_AT(call);

/* Locked, @val for @arg; returns what was there. */
KVMI_INSN_AT(cmpxchg);

/* 16 bytes */
KVMI_INSN(sse_read);
KVMI_INSN_AT(sse_write);
/* returns the sum of what is at @gva and @val; KVM cannot emulate it */
KVMI_INSN_AT(sse_add);

/* 16 bytes, @val and zeroes, as a mask says that has all bits set */
KVMI_INSN_AT(maskmov);

/* The access rights of selector @val */
KVMI_INSN(lar);

/* INT 0x30; its handler, at kvmi_insn_int_n_at, sets the result. */
KVMI_INSN_AT(int_n);

/* Has 16 bytes from @gva in xmm0 until @val is not 0, then writes them back. */
KVMI_INSN(sse_hold);

/* An exception, the handler of which sets the result */
KVMI_INSN(ud);
/* delivered on a stack that ends at @gva */
KVMI_INSN(ud_stack);

/* Loads the segment register from the GDT. */
KVMI_INSN(ds);

/* #BP, the handler of which sets the result */
KVMI_INSN_AT(int3);

/* As add, with the prefix that makes KVM emulate it */
KVMI_INSN(fep_add);

#endif /* SELFTEST_KVM_KVMI_INSN_H */
