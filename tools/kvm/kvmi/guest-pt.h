/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KVMI_GUEST_PT_H
#define KVMI_GUEST_PT_H

/* A guest's page tables, read from its memory. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Reads guest physical memory; returns 0 or an exit status as fail() does. */
typedef int (*guest_read)(void *data, uint64_t gpa, void *buf, size_t size);

#define GUEST_PT_LEVELS	5

struct guest_pt {
	guest_read read;
	void *data;
	uint64_t root;			/* where the top level is */
	unsigned int levels;		/* 4 or 5 */
	bool nx;			/* EFER.NXE */
	/* The table of each level that was read last. */
	struct {
		bool valid;
		uint64_t gpa;
		uint64_t entries[512];
	} cache[GUEST_PT_LEVELS];
};

/* What is at an address: a mapping, or a hole of that size. */
struct guest_mapping {
	uint64_t gva;			/* where it starts */
	uint64_t size;
	uint64_t gpa;
	bool present;
	bool writable;
	bool user;
	bool executable;
};

struct guest_extent {
	uint64_t gva;
	uint64_t gpa;
	uint64_t size;
};

/* Memory that is executable for the kernel, contiguous in its address space. */
struct guest_text {
	uint64_t start;
	uint64_t end;			/* the first address behind it */
	struct guest_extent *extents;	/* contiguous in guest physical memory */
	size_t nr_extents;
};

int guest_pt_init(struct guest_pt *pt, guest_read read, void *data,
		  uint64_t cr0, uint64_t cr3, uint64_t cr4, uint64_t efer);
int guest_pt_walk(struct guest_pt *pt, uint64_t gva, struct guest_mapping *m);
int guest_pt_find_text(struct guest_pt *pt, uint64_t addr, struct guest_text *text);
void guest_text_free(struct guest_text *text);

#endif /* KVMI_GUEST_PT_H */
