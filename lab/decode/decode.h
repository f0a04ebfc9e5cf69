/* SPDX-License-Identifier: GPL-2.0 */
#ifndef __LAB_DECODE_H
#define __LAB_DECODE_H

/* The program that compares the kernel's decoder of instructions with objdump */

#include "stub.h"
#include "kvmi.h"

/* Every instruction is followed by something to have objdump find the next one. */
#define SLOT_SIZE	24

struct slot {
	u8 bytes[SLOT_SIZE];
};

/* encodings.c */
size_t list_encodings(int mode, struct slot **slots);

/* vcpu.c */
extern struct kvm_vcpu *const vcpu;
void set_vcpu(int mode);
void set_code(const u8 *bytes, size_t size);
u64 vec_element(unsigned int nr, unsigned int element, u8 size);
void randomize_vcpu(u64 (*next)(void));

/* compare.c */
int compare(int mode);

/* fuzz.c */
int fuzz(u64 seed, unsigned long count);

#endif /* __LAB_DECODE_H */
