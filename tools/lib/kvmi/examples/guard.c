// SPDX-License-Identifier: GPL-2.0
/*
 * Guards the kernel of a Linux guest from its first instruction on: nothing may
 * write to its text and its read-only data without an event, nor, with "tables",
 * to its page tables.  All of it is let happen and counted, until the VM goes or
 * is unhooked.
 *
 *	guard SOCKET SYSTEM.MAP [tables|walks]
 *
 * With "walks", it is "tables", and the CPU's own accesses to the page tables are
 * counted, too.
 *
 * The guest has to be hooked before its kernel runs, and to be started with
 * "nokaslr nopti": its kernel is where SYSTEM.MAP has it, and no two of its page
 * tables differ in what they have of the kernel.  It has 64 bits and, for that
 * this remains simple, one vCPU.
 *
 * A page table is guarded from when CR3 is made to point to it, or a table that
 * is guarded: that takes a write, which is an event.  It is looked at with the
 * next event.  In the same way a page that is no table any more is let go, or else
 * the guest would use it for something else, and cause an event with each write.
 *
 * Data that are read-only after the start of the kernel are guarded when that is
 * over.  Before, they are anything but: it sorts tables of thousands there.
 *
 * On AMD with nested paging, each use of a page table is a write to it.  Then a
 * guest with all of its page tables guarded does not get on: each of its
 * instructions has to be carried out by KVM.
 */

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <kvmi/libkvmi.h>

#define PAGE_SHIFT	12
#define PAGE_SIZE	(1UL << PAGE_SHIFT)
#define KERNEL_BASE	0xffffffff80000000ULL	/* is mapped to gpa 0 */
#define MAX_ENTRIES	1024			/* of one command */
#define ENTRIES		(PAGE_SIZE / sizeof(__u64))	/* of a page table */
#define NO_GFN		(~0ULL)

#define PTE_PRESENT	(1ULL << 0)
#define PTE_LARGE	(1ULL << 7)
#define PTE_GFN(pte)	(((pte) & 0x000ffffffffff000ULL) >> PAGE_SHIFT)
#define SYSTEM_RUNNING	3			/* enum system_states */
#define CR4_LA57	(1ULL << 12)

#define NR(array)	(sizeof(array) / sizeof((array)[0]))

enum kind { NONE, TEXT, RODATA, TABLE, KINDS };

static const char * const kind_names[KINDS] = {
	"other pages", "text", "read-only data", "page tables"
};

struct page {
	__u8 kind;
	__u8 level;		/* of a page table; 1 maps pages of 4 KiB */
	__u8 root;		/* CR3 has pointed to it */
	__u8 process;		/* a page table that a process has had something in */
	__u8 dirty;		/* a page table that was written to since it was read */
	unsigned int refs;	/* that make it a page table */
	__u64 *entries;		/* of a page table, as they were when last read */
};

struct guard {
	struct kvmi_dom *dom;
	struct page *pages;
	__u64 npages;
	__u64 *dirty;					/* gfn of each page that is */
	__u64 ndirty;
	__u64 root;					/* gfn of what CR3 points to, or NO_GFN */
	__u64 stext, etext, start_rodata, end_rodata;	/* gpa */
	__u64 start_ro_after_init, end_ro_after_init, system_state;
	bool tables;
	bool running;
	bool started;					/* the kernel, completely */
	unsigned long guarded[KINDS];
	unsigned long events[KINDS];
	unsigned long walks;
	struct kvmi_page_access_entry entries[MAX_ENTRIES];
	size_t nentries;
};

static int die(const char *what)
{
	fprintf(stderr, "guard: %s: %s\n", what, kvmi_error());
	return 1;
}

/* --- where the kernel is ----------------------------------------------------- */

static int read_map(struct guard *guard, const char *path)
{
	const struct {
		const char *name;
		__u64 *gpa;
	} symbols[] = {
		{ "_stext", &guard->stext },
		{ "_etext", &guard->etext },
		{ "__start_rodata", &guard->start_rodata },
		{ "__end_rodata", &guard->end_rodata },
		{ "__start_ro_after_init", &guard->start_ro_after_init },
		{ "__end_ro_after_init", &guard->end_ro_after_init },
		{ "system_state", &guard->system_state },
	};
	FILE *file = fopen(path, "r");
	char line[512], name[256];
	uint64_t address;
	size_t i;

	if (!file) {
		fprintf(stderr, "guard: %s: %s\n", path, strerror(errno));
		return -1;
	}
	while (fgets(line, sizeof(line), file)) {
		if (sscanf(line, "%" SCNx64 " %*c %255s", &address, name) != 2)
			continue;
		for (i = 0; i < NR(symbols); i++) {
			if (!strcmp(name, symbols[i].name))
				*symbols[i].gpa = address - KERNEL_BASE;
		}
	}
	fclose(file);
	for (i = 0; i < NR(symbols); i++) {
		if (!*symbols[i].gpa) {
			fprintf(stderr, "guard: %s: no symbol %s\n", path, symbols[i].name);
			return -1;
		}
	}
	return 0;
}

/* --- restrictions -------------------------------------------------------------- */

static int flush(struct guard *guard)
{
	int err = 0;

	if (guard->nentries)
		err = kvmi_vm_set_page_access(guard->dom, guard->entries,
					      guard->nentries, NULL);
	guard->nentries = 0;
	return err;
}

/* From the next flush() on. */
static int restrict_page(struct guard *guard, __u64 gfn, __u8 access)
{
	if (guard->nentries == MAX_ENTRIES && flush(guard))
		return -1;
	guard->entries[guard->nentries++] = (struct kvmi_page_access_entry) {
		.gpa = gfn << PAGE_SHIFT,
		.access = access,
	};
	return 0;
}

static int guard_page(struct guard *guard, __u64 gfn, enum kind kind)
{
	if (gfn >= guard->npages || guard->pages[gfn].kind != NONE)
		return 0;
	guard->pages[gfn].kind = kind;
	guard->guarded[kind]++;
	return restrict_page(guard, gfn, KVMI_PAGE_ACCESS_R | KVMI_PAGE_ACCESS_X);
}

static int guard_range(struct guard *guard, __u64 start, __u64 end, enum kind kind)
{
	__u64 gpa;

	for (gpa = start & ~(PAGE_SIZE - 1); gpa < end; gpa += PAGE_SIZE) {
		if (guard_page(guard, gpa >> PAGE_SHIFT, kind))
			return -1;
	}
	return 0;
}

static bool is_table(__u64 entry, unsigned int level)
{
	return (entry & PTE_PRESENT) && !(level <= 3 && (entry & PTE_LARGE));
}

static int link_table(struct guard *guard, __u64 gfn, unsigned int level);

static int unlink_table(struct guard *guard, __u64 gfn)
{
	struct page *page = &guard->pages[gfn];
	size_t i;

	if (gfn >= guard->npages || page->kind != TABLE || --page->refs)
		return 0;
	page->kind = NONE;
	guard->guarded[TABLE]--;
	if (restrict_page(guard, gfn, KVMI_PAGE_ACCESS_R | KVMI_PAGE_ACCESS_W |
				      KVMI_PAGE_ACCESS_X))
		return -1;
	if (page->level == 1)
		return 0;
	for (i = 0; i < ENTRIES; i++) {
		if (is_table(page->entries[i], page->level) &&
		    unlink_table(guard, PTE_GFN(page->entries[i])))
			return -1;
	}
	free(page->entries);
	page->entries = NULL;
	return 0;
}

/* What the table at @gfn has come to point to is guarded, the rest let go. */
static int read_table(struct guard *guard, __u64 gfn)
{
	struct page *page = &guard->pages[gfn];
	__u64 entries[ENTRIES], old;
	size_t i;

	/* It is guarded before it is read: no later write is missed. */
	if (flush(guard) ||
	    kvmi_vm_read_physical(guard->dom, gfn << PAGE_SHIFT, entries, sizeof(entries)))
		return -1;
	for (i = 0; i < ENTRIES; i++) {
		old = page->entries[i];
		page->entries[i] = entries[i];
		if (i < ENTRIES / 2 && (entries[i] & PTE_PRESENT))
			page->process = 1;
		if (is_table(old, page->level) && is_table(entries[i], page->level) &&
		    PTE_GFN(old) == PTE_GFN(entries[i]))
			continue;
		if (is_table(entries[i], page->level) &&
		    link_table(guard, PTE_GFN(entries[i]), page->level - 1))
			return -1;
		if (is_table(old, page->level) && unlink_table(guard, PTE_GFN(old)))
			return -1;
	}
	return 0;
}

static int link_table(struct guard *guard, __u64 gfn, unsigned int level)
{
	struct page *page = &guard->pages[gfn];

	/* a table in the memory of a device, or none at all */
	if (gfn >= guard->npages || (page->kind != NONE && page->kind != TABLE))
		return 0;
	if (page->kind == TABLE) {
		page->refs++;
		return 0;
	}
	page->refs = 1;
	page->level = level;
	page->process = 0;
	if (guard_page(guard, gfn, TABLE))
		return -1;
	if (level == 1)
		return 0;
	page->entries = calloc(ENTRIES, sizeof(*page->entries));
	if (!page->entries)
		return -1;
	return read_table(guard, gfn);
}

/*
 * The top of a tree, or memory that is about to be something else?  Those of one
 * kernel have the last entry in common, and a process that ends has its half cleared.
 */
static bool is_root(struct guard *guard, __u64 gfn)
{
	const struct page *page = &guard->pages[gfn], *root = &guard->pages[guard->root];
	size_t i;

	if (PTE_GFN(page->entries[ENTRIES - 1]) != PTE_GFN(root->entries[ENTRIES - 1]))
		return false;
	for (i = 0; i < ENTRIES / 2; i++) {
		if (page->entries[i] & PTE_PRESENT)
			return true;
	}
	return !page->process;
}

/* If it is not in use, nor to be any more */
static int drop_root(struct guard *guard, __u64 gfn)
{
	struct page *page = &guard->pages[gfn];

	if (!page->root || gfn == guard->root || is_root(guard, gfn))
		return 0;
	page->root = 0;
	return unlink_table(guard, gfn);
}

static int read_dirty_tables(struct guard *guard)
{
	struct page *page;
	__u64 gfn;

	while (guard->ndirty) {
		gfn = guard->dirty[--guard->ndirty];
		page = &guard->pages[gfn];
		page->dirty = 0;
		if (page->kind == TABLE && page->level > 1 &&
		    (read_table(guard, gfn) || drop_root(guard, gfn)))
			return -1;
	}
	return flush(guard);
}

static int guard_address_space(struct guard *guard, const struct kvmi_event *event,
			       __u64 cr3)
{
	__u64 gfn = PTE_GFN(cr3), old = guard->root;

	if (gfn >= guard->npages || gfn == old)
		return 0;
	if (!guard->pages[gfn].root) {
		if (link_table(guard, gfn, event->arch.sregs.cr4 & CR4_LA57 ? 5 : 4))
			return -1;
		if (!guard->pages[gfn].entries)
			return flush(guard);
		guard->pages[gfn].root = 1;
	}
	guard->root = gfn;
	if (old != NO_GFN && drop_root(guard, old))
		return -1;
	return flush(guard);
}

static int guard_kernel(struct guard *guard, const struct kvmi_event *event)
{
	if (guard_range(guard, guard->stext, guard->etext, TEXT) ||
	    guard_range(guard, guard->start_rodata, guard->start_ro_after_init & -PAGE_SIZE,
			RODATA) ||
	    guard_range(guard, guard->end_ro_after_init + PAGE_SIZE - 1, guard->end_rodata, RODATA))
		return -1;
	if (!guard->tables)
		return flush(guard);
	return guard_address_space(guard, event, event->arch.sregs.cr3);
}

/* Is it time to guard what is read-only from now on? */
static int guard_ro_after_init(struct guard *guard)
{
	__u32 state;

	if (kvmi_vm_read_physical(guard->dom, guard->system_state, &state, sizeof(state)))
		return -1;
	if (state != SYSTEM_RUNNING)
		return 0;
	guard->started = true;
	if (guard_range(guard, guard->start_rodata, guard->end_rodata, RODATA))
		return -1;
	return flush(guard);
}

/* --- events ----------------------------------------------------------------------- */

static int on_cr3(struct guard *guard, const struct kvmi_event *event)
{
	if (guard->running && guard->tables &&
	    guard_address_space(guard, event, event->cr.new_value))
		return -1;
	if (guard->running && !guard->started && guard_ro_after_init(guard))
		return -1;
	return kvmi_event_reply_value(guard->dom, event, event->cr.new_value);
}

static int on_access(struct guard *guard, const struct kvmi_event *event)
{
	__u64 gfn = event->pf.gpa >> PAGE_SHIFT;
	struct page *page = gfn < guard->npages ? &guard->pages[gfn] : NULL;

	if (!guard->running) {
		/* The kernel's first instruction, of those that are its own. */
		guard->running = true;
		if (guard_kernel(guard, event))
			return -1;
	} else if (event->pf.flags & KVMI_PF_WALK) {
		guard->walks++;
	} else {
		guard->events[page ? page->kind : NONE]++;
		/* A walk sets no bit that matters here. */
		if (page && page->kind == TABLE && page->level > 1 && !page->dirty) {
			page->dirty = 1;
			guard->dirty[guard->ndirty++] = gfn;
		}
	}
	return kvmi_event_reply(guard->dom, event, KVMI_EVENT_ACTION_CONTINUE);
}

/* Has the VM gone, or let go, in the middle of it? */
static bool is_gone(struct guard *guard)
{
	struct kvmi_event event;

	return kvmi_event_next(guard->dom, &event, 0) == -ECONNRESET;
}

static int handle(struct guard *guard, const struct kvmi_event *event)
{
	if (read_dirty_tables(guard))
		return -1;
	switch (event->id) {
	case KVMI_VCPU_EVENT_CR:
		return on_cr3(guard, event);
	case KVMI_VCPU_EVENT_PF:
		return on_access(guard, event);
	}
	return kvmi_event_reply(guard->dom, event, KVMI_EVENT_ACTION_CONTINUE);
}

/* Returns when there is nothing to guard any more: 0, or -1 for an error. */
static int serve(struct guard *guard)
{
	struct kvmi_event event;
	int err;

	for (;;) {
		err = kvmi_event_next(guard->dom, &event, -1);
		if (err == -ECONNRESET)
			return 0;
		if (err != 1)
			return -1;
		if (handle(guard, &event))
			return is_gone(guard) ? 0 : -1;
	}
}

static int start(struct guard *guard, bool walks)
{
	struct kvmi_dom *dom = guard->dom;
	int err, tries = 0;
	__u64 max_gfn;

	/* The VMM hooks the VM first, and allows things then: be patient, for 10 s. */
	do {
		poll(NULL, 0, 10);
		err = kvmi_vm_check_event(dom, KVMI_VCPU_EVENT_PF);
	} while (err == -EPERM && ++tries < 1000);
	if (err || kvmi_vm_get_max_gfn(dom, &max_gfn))
		return die("looking at the VM");
	guard->npages = max_gfn + 1;
	guard->root = NO_GFN;
	guard->pages = calloc(guard->npages, sizeof(*guard->pages));
	guard->dirty = calloc(guard->npages, sizeof(*guard->dirty));
	if (!guard->pages || !guard->dirty) {
		fprintf(stderr, "guard: no memory\n");
		return 1;
	}
	/* Until then the memory is that of the kernel's loader. */
	if (restrict_page(guard, guard->stext >> PAGE_SHIFT,
			  KVMI_PAGE_ACCESS_R | KVMI_PAGE_ACCESS_W) || flush(guard))
		return die("the kernel's first page");
	printf("guarding %s\n", kvmi_dom_hello(dom)->name);
	fflush(stdout);

	/* Carried out before the first instruction, whenever the vCPU is started. */
	kvmi_dom_set_timeout(dom, 60000);
	if (kvmi_vcpu_control_cr(dom, 0, 3, true) ||
	    kvmi_vcpu_control_events(dom, 0, KVMI_VCPU_EVENT_CR, true) ||
	    kvmi_vcpu_control_pf(dom, 0, true, walks ? KVMI_PF_WALK : 0))
		return die("events");
	return 0;
}

static void print_counts(const struct guard *guard)
{
	int kind;

	for (kind = TEXT; kind < KINDS; kind++)
		printf("%s: %lu pages, %lu events\n", kind_names[kind],
		       guard->guarded[kind], guard->events[kind]);
	printf("walks: %lu events\n", guard->walks);
}

int main(int argc, char **argv)
{
	bool walks = argc > 3 && !strcmp(argv[3], "walks");
	bool tables = walks || (argc > 3 && !strcmp(argv[3], "tables"));
	struct pollfd pfd = { .events = POLLIN };
	static struct guard guard;
	struct kvmi_listener *listener;
	struct kvmi_hello hello;
	int fd, err;
	__u64 gfn;

	if (argc < 3 || argc > 4 || (argc == 4 && !tables)) {
		fprintf(stderr, "usage: guard SOCKET SYSTEM.MAP [tables|walks]\n");
		return 2;
	}
	guard.tables = tables;
	if (read_map(&guard, argv[2]))
		return 1;
	if (kvmi_listener_open(argv[1], &listener))
		return die("listening");
	printf("listening\n");
	fflush(stdout);
	pfd.fd = kvmi_listener_fd(listener);
	poll(&pfd, 1, -1);
	fd = kvmi_listener_accept(listener);
	if (fd < 0)
		return die("accepting");
	if (kvmi_handshake_tool_auth(fd, NULL, &hello, 10000))
		return die("handshake");
	if (kvmi_dom_open(fd, &hello, &guard.dom))
		return die("opening");
	if (start(&guard, walks))
		return 1;
	err = serve(&guard);
	if (err)
		die("serving");
	print_counts(&guard);
	kvmi_dom_close(guard.dom);
	kvmi_listener_close(listener);
	for (gfn = 0; gfn < guard.npages; gfn++)
		free(guard.pages[gfn].entries);
	free(guard.pages);
	free(guard.dirty);
	return err ? 1 : 0;
}
