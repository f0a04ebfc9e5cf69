// SPDX-License-Identifier: GPL-2.0
/* Page tables of all shapes, made by hand, and kernels to be found in them. */

#include <stdint.h>

#include "../failure.h"
#include "../guest-pt.h"
#include "tap.h"

#define PAGES	64

#define P	1ULL
#define W	2ULL
#define U	4ULL
#define LARGE	0x80ULL
#define NX	(1ULL << 63)

#define CR0	0x80000001ULL
#define CR4	0x20ULL
#define LA57	0x1000ULL
#define EFER	0xd00ULL	/* LMA, LME, NXE */

static uint64_t mem[PAGES][512];
static unsigned int reads;
static struct guest_pt pt;

static int read_mem(void *data, uint64_t gpa, void *buf, size_t size)
{
	(void)data;
	reads++;
	if (gpa >= sizeof(mem) || gpa + size > sizeof(mem))
		return fail(KVMI_EXIT_FAILED, "no memory at 0x%llx", (unsigned long long)gpa);
	memcpy(buf, (uint8_t *)mem + gpa, size);
	return 0;
}

static void start(uint64_t cr3, uint64_t cr4)
{
	must(!guest_pt_init(&pt, read_mem, NULL, CR0, cr3, cr4, EFER));
}

/* Page 1 is the top, 2 the PDPT of the last 512 GiB, 3 the PD of its last but one GiB. */
static void base_tables(void)
{
	memset(mem, 0, sizeof(mem));
	mem[1][511] = 0x2000 | P | W;
	mem[2][510] = 0x3000 | P | W;
}

#define KERNEL	0xffffffff80000000ULL

static void test_walk(void)
{
	struct guest_mapping m;

	base_tables();
	mem[3][8] = 0x1000000 | LARGE | P;		/* 2 MiB, r-x, kernel */
	mem[3][9] = 0x1200000 | LARGE | P | W | NX;	/* 2 MiB, rw-, kernel */
	mem[3][10] = 0x4000 | P | W | U;
	mem[4][5] = 0x7777000 | P | U;			/* 4 KiB, under a kernel-only PDPT */
	mem[2][511] = 0x40000000 | LARGE | P | W;	/* 1 GiB */
	mem[3][11] = 0x5000 | P | W | NX;		/* NX above */
	mem[5][0] = 0x8000 | P | W;
	start(0x1000 | 0xfff, CR4);			/* PCID bits do not matter */

	is_num(guest_pt_walk(&pt, KERNEL + 0x1012345, &m), 0, "2 MiB page");
	ok(m.present && m.executable && !m.writable && !m.user, "its rights");
	ok(m.gva == KERNEL + 0x1000000 && m.size == 0x200000 && m.gpa == 0x1000000,
	   "its place");
	must(!guest_pt_walk(&pt, KERNEL + 0x1212345, &m));
	ok(m.present && !m.executable && m.writable, "writable, not executable");
	must(!guest_pt_walk(&pt, KERNEL + 0x1405123, &m));
	ok(m.present && m.gpa == 0x7777000 && m.size == 4096, "4 KiB page");
	ok(!m.user && m.executable && !m.writable, "rights are those of all levels together");
	must(!guest_pt_walk(&pt, 0xffffffffc0123456ULL, &m));
	ok(m.present && m.gpa == 0x40000000 && m.size == 1ULL << 30 && m.writable,
	   "1 GiB page");
	must(!guest_pt_walk(&pt, KERNEL + 0x1600000, &m));
	ok(m.present && !m.executable, "NX of an upper level counts");
	must(!guest_pt_walk(&pt, KERNEL + 0x1601000, &m));
	ok(!m.present && m.size == 4096, "a hole of 4 KiB");
	must(!guest_pt_walk(&pt, KERNEL + 0x1800000, &m));
	ok(!m.present && m.size == 0x200000, "a hole of 2 MiB");
	must(!guest_pt_walk(&pt, 0xffff888000000000ULL, &m));
	ok(!m.present && m.size == 1ULL << 39, "a hole of 512 GiB");
	ok(guest_pt_walk(&pt, 0x0000900000000000ULL, &m) == KVMI_EXIT_FAILED,
	   "an address that is not canonical");
	has_text(failure(), "not a canonical address", "is named");

	/* Large pages have PAT where smaller ones have an address bit. */
	mem[3][8] |= 1 << 12;
	start(0x1000, CR4);
	must(!guest_pt_walk(&pt, KERNEL + 0x1000000, &m));
	ok(m.gpa == 0x1000000, "the PAT bit is not part of the address");

	/* Without NXE the bit says nothing. */
	must(!guest_pt_init(&pt, read_mem, NULL, CR0, 0x1000, CR4, EFER & ~0x800ULL));
	must(!guest_pt_walk(&pt, KERNEL + 0x1212345, &m));
	ok(m.executable, "no NX without EFER.NXE");

	mem[3][12] = 0x123456000 | P;
	start(0x1000, CR4);
	ok(guest_pt_walk(&pt, KERNEL + 0x1800000, &m) == KVMI_EXIT_FAILED,
	   "a table outside of memory");
	has_text(failure(), "page table of level 1 at 0x123456000: no memory", "is named");
}

static void test_five_levels(void)
{
	struct guest_mapping m;

	base_tables();
	mem[6][511] = 0x1000 | P | W;
	mem[6][256] = 0x1000 | P | W;	/* only with 57 bits is this another place */
	mem[3][8] = 0x1000000 | LARGE | P;
	start(0x6000, CR4 | LA57);
	must(!guest_pt_walk(&pt, KERNEL + 0x1000000, &m));
	ok(m.present && m.gpa == 0x1000000, "five levels");
	must(!guest_pt_walk(&pt, 0xff00ffff81000000ULL, &m));
	ok(m.present && m.gpa == 0x1000000, "an address of 57 bits");
}

static void test_modes(void)
{
	ok(guest_pt_init(&pt, read_mem, NULL, 1, 0x1000, CR4, EFER), "no paging");
	ok(guest_pt_init(&pt, read_mem, NULL, CR0, 0x1000, 0, EFER), "no PAE");
	ok(guest_pt_init(&pt, read_mem, NULL, CR0, 0x1000, CR4, 0), "no long mode");
	has_text(failure(), "not in 64-bit mode", "is named");
}

static void test_text(void)
{
	struct guest_text text;
	unsigned int i;

	/* 4 KiB pages, then 2 MiB pages, then 4 KiB pages: a kernel's usual shape. */
	base_tables();
	for (i = 256; i < 512; i++)
		mem[4][i] = (0x2100000 + (i - 256) * 4096) | P;
	mem[3][7] = 0x4000 | P | W;
	mem[3][8] = 0x2200000 | LARGE | P;
	mem[3][9] = 0x2400000 | LARGE | P | W;
	mem[3][10] = 0x5000 | P | W;
	for (i = 0; i < 10; i++)
		mem[5][i] = (0x9900000 + i * 4096) | P;
	mem[5][10] = 0x990a000 | P | NX;
	start(0x1000, CR4);
	reads = 0;
	is_num(guest_pt_find_text(&pt, KERNEL + 0x1012345, &text), 0, "text around an address");
	ok(text.start == KERNEL + 0xf00000, "its start");
	ok(text.end == KERNEL + 0x140a000, "its end");
	is_num(text.nr_extents, 2, "two extents");
	ok(text.extents[0].gva == KERNEL + 0xf00000 && text.extents[0].gpa == 0x2100000 &&
	   text.extents[0].size == 0x500000, "the first, over pages of both sizes");
	ok(text.extents[1].gva == KERNEL + 0x1400000 && text.extents[1].gpa == 0x9900000 &&
	   text.extents[1].size == 0xa000, "the second");
	ok(reads < 20, "tables are read once or twice, not once per page");
	diag("%u reads", reads);
	guest_text_free(&text);

	/* A page for user mode ends it. */
	mem[2][510] |= U;
	mem[1][511] |= U;
	mem[3][9] |= U;
	start(0x1000, CR4);
	must(!guest_pt_find_text(&pt, KERNEL + 0x1012345, &text));
	ok(text.end == KERNEL + 0x1200000, "a page for user mode ends it");
	guest_text_free(&text);

	is_num(guest_pt_find_text(&pt, KERNEL + 0x1800000, &text), KVMI_EXIT_FAILED,
	       "nothing there");
	has_text(failure(), "nothing executable at 0xffffffff81800000", "is named");
	is_num(guest_pt_find_text(&pt, 0x400000, &text), KVMI_EXIT_FAILED,
	       "an address of user mode");

	/* The very end of the address space. */
	base_tables();
	mem[2][511] = 0x3000 | P | W;
	mem[3][511] = 0x7e00000 | LARGE | P;
	start(0x1000, CR4);
	is_num(guest_pt_find_text(&pt, 0xfffffffffffffff0ULL, &text), 0, "the last page there is");
	ok(text.start == 0xffffffffffe00000ULL && text.end == 0 &&
	   text.nr_extents == 1 && text.extents[0].size == 0x200000, "ends there");
	guest_text_free(&text);
}

static void test_isolation(void)
{
	struct guest_text text;

	/* Page 8 is the kernel's top level and page 9 that of its user half. */
	base_tables();
	mem[8][511] = 0x2000 | P | W;
	mem[3][8] = 0x1000000 | LARGE | P;
	mem[3][9] = 0x1200000 | LARGE | P;
	mem[9][511] = 0xa000 | P | W;
	mem[10][510] = 0xb000 | P | W;
	mem[11][9] = 0x1200000 | LARGE | P;
	start(0x9000, CR4);
	is_num(guest_pt_find_text(&pt, KERNEL + 0x1200000, &text), 0,
	       "stopped in user mode with page-table isolation");
	ok(text.start == KERNEL + 0x1000000 && text.end == KERNEL + 0x1400000,
	   "all of the text is found");
	guest_text_free(&text);

	/* What lies beside is no page table of this kernel. */
	mem[3][9] = 0x5600000 | LARGE | P;
	start(0x9000, CR4);
	is_num(guest_pt_find_text(&pt, KERNEL + 0x1200000, &text), 0, "no isolation");
	ok(text.start == KERNEL + 0x1200000 && text.end == KERNEL + 0x1400000 &&
	   text.extents[0].gpa == 0x1200000, "what lies beside is not believed");
	guest_text_free(&text);
	memset(mem[8], 0xff, sizeof(mem[8]));
	start(0x9000, CR4);
	is_num(guest_pt_find_text(&pt, KERNEL + 0x1200000, &text), 0, "nor is noise");
	ok(text.end == KERNEL + 0x1400000, "and does no harm");
	guest_text_free(&text);
}

int main(void)
{
	tap_start(60);
	test_walk();
	test_five_levels();
	test_modes();
	test_text();
	test_isolation();
	return tap_done();
}
