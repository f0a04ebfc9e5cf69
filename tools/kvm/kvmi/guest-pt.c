// SPDX-License-Identifier: GPL-2.0
/* Walking a 64-bit x86 guest's page tables. */

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "failure.h"
#include "guest-pt.h"
#include "parse.h"

#define CR0_PG		(1ULL << 31)
#define CR4_PAE		(1ULL << 5)
#define CR4_LA57	(1ULL << 12)
#define EFER_LMA	(1ULL << 10)
#define EFER_NXE	(1ULL << 11)

#define PTE_PRESENT	(1ULL << 0)
#define PTE_WRITE	(1ULL << 1)
#define PTE_USER	(1ULL << 2)
#define PTE_LARGE	(1ULL << 7)
#define PTE_NX		(1ULL << 63)
#define PTE_ADDR	0x000ffffffffff000ULL

/* The halves of a page that page-table isolation uses as top levels. */
#define PTI_USER_ROOT	PAGE_SIZE

/* No kernel's text is as long as that: something else was found. */
#define TEXT_MAX	(1ULL << 30)

static unsigned int level_shift(unsigned int level)
{
	return PAGE_SHIFT + 9 * (level - 1);
}

/**
 * guest_pt_init - get ready to walk
 * @pt: the walker
 * @read: how to read guest memory
 * @data: passed to @read
 * @cr0: CR0 of the vCPU
 * @cr3: its CR3
 * @cr4: its CR4
 * @efer: its EFER
 */
int guest_pt_init(struct guest_pt *pt, guest_read read, void *data,
		  uint64_t cr0, uint64_t cr3, uint64_t cr4, uint64_t efer)
{
	memset(pt, 0, sizeof(*pt));
	if (!(cr0 & CR0_PG) || !(cr4 & CR4_PAE) || !(efer & EFER_LMA))
		return fail(KVMI_EXIT_FAILED,
			    "the guest is not in 64-bit mode (cr0 0x%" PRIx64 ", cr4 0x%" PRIx64 ", efer 0x%" PRIx64 ")",
			    cr0, cr4, efer);
	pt->read = read;
	pt->data = data;
	pt->root = cr3 & PTE_ADDR;
	pt->levels = cr4 & CR4_LA57 ? 5 : 4;
	pt->nx = efer & EFER_NXE;
	return 0;
}

static int read_entry(struct guest_pt *pt, unsigned int level, uint64_t table,
		      uint64_t gva, uint64_t *entry)
{
	unsigned int i = level - 1;
	int err;

	if (!pt->cache[i].valid || pt->cache[i].gpa != table) {
		pt->cache[i].valid = false;
		err = pt->read(pt->data, table, pt->cache[i].entries,
			       sizeof(pt->cache[i].entries));
		if (err)
			return fail(err, "page table of level %u at 0x%" PRIx64 ": %s",
				    level, table, failure());
		pt->cache[i].gpa = table;
		pt->cache[i].valid = true;
	}
	*entry = pt->cache[i].entries[gva >> level_shift(level) & 511];
	return 0;
}

static bool canonical(const struct guest_pt *pt, uint64_t gva)
{
	unsigned int bits = level_shift(pt->levels + 1);
	uint64_t top = gva >> (bits - 1);

	return !top || top == UINT64_MAX >> (bits - 1);
}

/**
 * guest_pt_walk - what does the guest have at an address?
 * @pt: the walker
 * @gva: the address
 * @m: the answer
 *
 * Rights are those that all levels grant together.
 *
 * Return: 0, also if nothing is there, or a failure to read.
 */
int guest_pt_walk(struct guest_pt *pt, uint64_t gva, struct guest_mapping *m)
{
	uint64_t table = pt->root, entry = 0, mask = 0;
	unsigned int level;
	int err;

	if (!canonical(pt, gva))
		return fail(KVMI_EXIT_FAILED, "0x%" PRIx64 " is not a canonical address",
			    gva);
	memset(m, 0, sizeof(*m));
	m->writable = true;
	m->user = true;
	m->executable = true;
	for (level = pt->levels; level; level--) {
		err = read_entry(pt, level, table, gva, &entry);
		if (err)
			return err;
		mask = (1ULL << level_shift(level)) - 1;
		m->gva = gva & ~mask;
		m->size = mask + 1;
		if (!(entry & PTE_PRESENT))
			return 0;
		m->writable &= !!(entry & PTE_WRITE);
		m->user &= !!(entry & PTE_USER);
		m->executable &= !(pt->nx && entry & PTE_NX);
		if (level == 1 || (entry & PTE_LARGE && level <= 3))
			break;
		table = entry & PTE_ADDR;
	}
	m->present = true;
	m->gpa = entry & PTE_ADDR & ~mask;
	return 0;
}

static bool is_text(const struct guest_mapping *m)
{
	return m->present && m->executable && !m->user;
}

/* Put @m behind the last extent, or into it if it goes on there. */
static int append(struct guest_text *text, const struct guest_mapping *m)
{
	struct guest_extent *e = text->extents;

	if (text->nr_extents) {
		e += text->nr_extents - 1;
		if (e->gva + e->size == m->gva && e->gpa + e->size == m->gpa) {
			e->size += m->size;
			return 0;
		}
	}
	e = realloc(text->extents, (text->nr_extents + 1) * sizeof(*e));
	if (!e)
		return fail(KVMI_EXIT_FAILED, "out of memory");
	text->extents = e;
	e[text->nr_extents].gva = m->gva;
	e[text->nr_extents].gpa = m->gpa;
	e[text->nr_extents++].size = m->size;
	return 0;
}

static int find_text(struct guest_pt *pt, uint64_t addr, struct guest_text *text)
{
	struct guest_mapping m;
	int err;

	memset(text, 0, sizeof(*text));
	err = guest_pt_walk(pt, addr, &m);
	if (err || !is_text(&m))
		return err;

	/* Down to where it starts ... */
	text->start = m.gva;
	while (addr - text->start < TEXT_MAX && canonical(pt, text->start - 1)) {
		err = guest_pt_walk(pt, text->start - 1, &m);
		if (err)
			return err;
		if (!is_text(&m))
			break;
		text->start = m.gva;
	}

	/* ... and up to where it ends, taking down what is there. */
	for (text->end = text->start; text->end - text->start < TEXT_MAX;
	     text->end = m.gva + m.size) {
		/* Behind the last address there is the first one. */
		if (text->end < text->start)
			break;
		err = guest_pt_walk(pt, text->end, &m);
		if (!err && is_text(&m))
			err = append(text, &m);
		if (err) {
			guest_text_free(text);
			return err;
		}
		if (!is_text(&m))
			break;
	}
	return 0;
}

static bool same_place(const struct guest_mapping *a, const struct guest_mapping *b,
		       uint64_t addr)
{
	return is_text(a) && is_text(b) &&
	       a->gpa + (addr - a->gva) == b->gpa + (addr - b->gva);
}

/*
 * A vCPU that was stopped in user mode may have page tables that hide most of
 * the kernel (page-table isolation); then the kernel's own are beside them.
 * Without isolation anything can be there, so they have to agree on @addr.
 */
static void try_kernel_root(struct guest_pt *pt, uint64_t addr, struct guest_text *text)
{
	uint64_t root = pt->root;
	struct guest_mapping user, kernel;
	struct guest_text other;

	if (!(root & PTI_USER_ROOT) || guest_pt_walk(pt, addr, &user))
		return;
	pt->root = root & ~PTI_USER_ROOT;
	if (guest_pt_walk(pt, addr, &kernel) || !same_place(&user, &kernel, addr) ||
	    find_text(pt, addr, &other)) {
		pt->root = root;
		return;
	}
	if (other.end - other.start > text->end - text->start) {
		guest_text_free(text);
		*text = other;
	} else {
		guest_text_free(&other);
		pt->root = root;
	}
}

/**
 * guest_pt_find_text - the executable memory around an address
 * @pt: the walker
 * @addr: an address in a kernel's text, such as where system calls enter it
 * @text: what was found; free it with guest_text_free()
 */
int guest_pt_find_text(struct guest_pt *pt, uint64_t addr, struct guest_text *text)
{
	int err;

	if (!(addr >> 63))
		return fail(KVMI_EXIT_FAILED,
			    "0x%" PRIx64 " is not in the kernel's half of the address space",
			    addr);
	err = find_text(pt, addr, text);
	if (err)
		return err;
	if (!text->nr_extents)
		return fail(KVMI_EXIT_FAILED, "nothing executable at 0x%" PRIx64, addr);
	try_kernel_root(pt, addr, text);
	return 0;
}

void guest_text_free(struct guest_text *text)
{
	free(text->extents);
	text->extents = NULL;
	text->nr_extents = 0;
}
