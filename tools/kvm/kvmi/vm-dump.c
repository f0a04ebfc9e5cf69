// SPDX-License-Identifier: GPL-2.0
/*
 * An ELF core of a guest: its memory at the guest's physical addresses, the
 * state of its vCPUs, and its kernel's mappings, so that a debugger can read by
 * virtual address.  The file is laid out beforehand, and has no data where the
 * guest has none or has zeros:
 *
 *	0		ELF header, program headers, notes
 *	DATA_OFFSET	gpa 0, and so on up to the highest gpa
 *
 * Program headers for virtual addresses name the same bytes once more.
 */

#include <elf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/procfs.h>
#include <sys/stat.h>
#include <unistd.h>

/* Ours are the guest's. */
#undef PAGE_SIZE
#undef PAGE_SHIFT
#undef PAGE_MASK

#include "common.h"
#include "guest-pt.h"
#include "vm-internal.h"

#define DATA_OFFSET		(1ULL << 20)
#define CHUNK_PAGES		64
#define CHUNK_SIZE		(CHUNK_PAGES * PAGE_SIZE)
#define MAX_MAPPINGS		4096
#define MAX_RANGES		8192
#define MIN_MAPPING		(64 << 10)	/* what is smaller is left out */
#define KERNEL_HALF		0xffff800000000000ULL

/* Where the guest has memory. */
struct range {
	uint64_t start;
	uint64_t end;
};

struct dump {
	struct vm *vm;
	int fd;
	struct range *ranges;
	size_t nr_ranges;
	struct guest_extent *maps;
	size_t nr_maps;
	uint8_t *notes;
	size_t notes_size;
	uint64_t written;
};

static int put(struct dump *d, uint64_t offset, const void *buf, size_t size)
{
	const uint8_t *p = buf;
	ssize_t n;

	while (size) {
		n = pwrite(d->fd, p, size, offset);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return fail(KVMI_EXIT_FAILED, "writing the dump: %s",
				    n ? strerror(errno) : "nothing was written");
		p += n;
		offset += n;
		size -= n;
	}
	return 0;
}

/* --- memory ---------------------------------------------------------------------- */

static int add_page(struct dump *d, uint64_t gpa)
{
	struct range *r = d->nr_ranges ? &d->ranges[d->nr_ranges - 1] : NULL;

	if (r && r->end == gpa) {
		r->end += PAGE_SIZE;
		return 0;
	}
	if (d->nr_ranges == MAX_RANGES)
		return fail(KVMI_EXIT_FAILED, "the guest's memory is in more than %d pieces",
			    MAX_RANGES);
	d->ranges[d->nr_ranges++] = (struct range) { gpa, gpa + PAGE_SIZE };
	return 0;
}

static bool is_zero(const uint8_t *page)
{
	return !page[0] && !memcmp(page, page + 1, PAGE_SIZE - 1);
}

static int dump_chunk(struct dump *d, struct kvmi_batch *batch, uint64_t gpa,
		      unsigned int pages, uint8_t *buf)
{
	unsigned int i, first;
	int err, ret;

	kvmi_batch_reset(batch);
	for (i = 0; i < pages; i++) {
		err = kvmi_batch_read_physical(batch, gpa + i * PAGE_SIZE,
					       buf + i * PAGE_SIZE, PAGE_SIZE);
		if (err < 0)
			return fail_kvmi(err);
	}
	err = kvmi_batch_run(batch);
	if (err && err != -ENOENT)
		return fail_vm(d->vm, err);
	for (i = 0; i < pages; i++) {
		ret = err ? kvmi_batch_result(batch, i) : 0;
		if (ret == -ENOENT) {
			memset(buf + i * PAGE_SIZE, 0, PAGE_SIZE);
			continue;
		}
		if (ret)
			return fail_vm(d->vm, ret);
		ret = add_page(d, gpa + i * PAGE_SIZE);
		if (ret)
			return ret;
	}
	/* What is zero stays a hole, and what is not goes out in few writes. */
	for (i = 0; i < pages; i++) {
		if (is_zero(buf + i * PAGE_SIZE))
			continue;
		for (first = i; i + 1 < pages && !is_zero(buf + (i + 1) * PAGE_SIZE); i++)
			;
		ret = put(d, DATA_OFFSET + gpa + first * PAGE_SIZE,
			  buf + first * PAGE_SIZE, (i + 1 - first) * PAGE_SIZE);
		if (ret)
			return ret;
		d->written += (i + 1 - first) * PAGE_SIZE;
	}
	return 0;
}

static int dump_memory(struct dump *d, uint64_t max_gpa, dump_progress progress, void *data)
{
	uint64_t end = (max_gpa | (PAGE_SIZE - 1)) + 1, gpa;
	struct kvmi_batch *batch;
	unsigned int pages;
	uint8_t *buf;
	int err;

	err = kvmi_batch_new(d->vm->dom, &batch);
	if (err)
		return fail_kvmi(err);
	buf = malloc(CHUNK_SIZE);
	if (!buf)
		err = fail(KVMI_EXIT_FAILED, "out of memory");
	for (gpa = 0; !err && gpa < end; gpa += CHUNK_SIZE) {
		pages = end - gpa < CHUNK_SIZE ? (end - gpa) / PAGE_SIZE : CHUNK_PAGES;
		err = dump_chunk(d, batch, gpa, pages, buf);
		if (!err)
			err = progress(data, gpa + pages * PAGE_SIZE, end, d->written);
	}
	if (!err && !d->nr_ranges)
		err = fail(KVMI_EXIT_FAILED, "VM %u (%s): no memory below gpa 0x%llx",
			   d->vm->number, d->vm->hello.name, (unsigned long long)end);
	free(buf);
	kvmi_batch_free(batch);
	return err;
}

/* --- mappings ---------------------------------------------------------------------- */

static bool is_dumped(const struct dump *d, uint64_t gpa, uint64_t size)
{
	size_t i;

	for (i = 0; i < d->nr_ranges; i++)
		if (gpa >= d->ranges[i].start && gpa + size <= d->ranges[i].end)
			return true;
	return false;
}

static void add_mapping(struct dump *d, const struct guest_extent *e)
{
	if (e->size >= MIN_MAPPING && d->nr_maps < MAX_MAPPINGS &&
	    is_dumped(d, e->gpa, e->size))
		d->maps[d->nr_maps++] = *e;
}

/* The kernel's half of the address space; a guest that has none is fine. */
static void find_mappings(struct dump *d, const struct kvmi_registers *r)
{
	struct guest_extent run = { 0 };
	struct guest_mapping m;
	uint64_t gva = KERNEL_HALF;
	struct guest_pt *pt;

	pt = malloc(sizeof(*pt));
	if (!pt || guest_pt_init(pt, read_guest, d->vm, r->sregs.cr0, r->sregs.cr3,
				 r->sregs.cr4, r->sregs.efer))
		goto out;
	if (pt->levels == 5)
		gva = 0xff00000000000000ULL;
	while (!guest_pt_walk(pt, gva, &m)) {
		if (m.present && run.size && m.gva == run.gva + run.size &&
		    m.gpa == run.gpa + run.size) {
			run.size += m.size;
		} else {
			add_mapping(d, &run);
			run = (struct guest_extent) {
				.gva = m.gva, .gpa = m.gpa, .size = m.present ? m.size : 0,
			};
		}
		gva = m.gva + m.size;
		if (gva < KERNEL_HALF)		/* around the end */
			break;
	}
	add_mapping(d, &run);
out:
	free(pt);
}

/* --- notes --------------------------------------------------------------------------- */

/* As QEMU puts it into its dumps, which crash and others read. */
struct qemu_segment {
	uint32_t selector;
	uint32_t limit;
	uint32_t flags;
	uint32_t pad;
	uint64_t base;
};

struct qemu_cpu {
	uint32_t version;
	uint32_t size;
	uint64_t rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp;
	uint64_t r[8];
	uint64_t rip, rflags;
	struct qemu_segment cs, ds, es, fs, gs, ss, ldt, tr, gdt, idt;
	uint64_t cr[5];
	uint64_t kernel_gs_base;
};

static int add_note(struct dump *d, const char *name, uint32_t type, const void *desc,
		    size_t size)
{
	Elf64_Nhdr nhdr = {
		.n_namesz = strlen(name) + 1,
		.n_descsz = size,
		.n_type = type,
	};
	size_t name_room = (nhdr.n_namesz + 3) & ~3UL, room = (size + 3) & ~3UL;
	uint8_t *p;

	p = realloc(d->notes, d->notes_size + sizeof(nhdr) + name_room + room);
	if (!p)
		return fail(KVMI_EXIT_FAILED, "out of memory");
	d->notes = p;
	p += d->notes_size;
	memset(p, 0, sizeof(nhdr) + name_room + room);
	memcpy(p, &nhdr, sizeof(nhdr));
	memcpy(p + sizeof(nhdr), name, nhdr.n_namesz);
	memcpy(p + sizeof(nhdr) + name_room, desc, size);
	d->notes_size += sizeof(nhdr) + name_room + room;
	return 0;
}

static int add_prstatus(struct dump *d, uint16_t vcpu, const struct kvmi_registers *r)
{
	const struct kvm_regs *g = &r->regs;
	const struct kvm_sregs *s = &r->sregs;
	/* As struct user_regs_struct has them. */
	const uint64_t regs[] = {
		g->r15, g->r14, g->r13, g->r12, g->rbp, g->rbx, g->r11, g->r10, g->r9,
		g->r8, g->rax, g->rcx, g->rdx, g->rsi, g->rdi, ~0ULL, g->rip,
		s->cs.selector, g->rflags, g->rsp, s->ss.selector, s->fs.base, s->gs.base,
		s->ds.selector, s->es.selector, s->fs.selector, s->gs.selector,
	};
	struct elf_prstatus status = { .pr_pid = vcpu + 1 };

	_Static_assert(sizeof(regs) == sizeof(status.pr_reg), "all of them");
	memcpy(&status.pr_reg, regs, sizeof(regs));
	return add_note(d, "CORE", NT_PRSTATUS, &status, sizeof(status));
}

static struct qemu_segment segment(const struct kvm_segment *s)
{
	return (struct qemu_segment) {
		.selector = s->selector,
		.limit = s->limit,
		.base = s->base,
		.flags = s->type << 8 | s->s << 12 | s->dpl << 13 | s->present << 15 |
			 s->avl << 20 | s->l << 21 | s->db << 22 | s->g << 23,
	};
}

static int add_qemu(struct dump *d, const struct kvmi_registers *r, uint64_t shadow_gs)
{
	const struct kvm_regs *g = &r->regs;
	const struct kvm_sregs *s = &r->sregs;
	struct qemu_cpu cpu = {
		.version = 1,
		.size = sizeof(cpu),
		.rax = g->rax, .rbx = g->rbx, .rcx = g->rcx, .rdx = g->rdx,
		.rsi = g->rsi, .rdi = g->rdi, .rsp = g->rsp, .rbp = g->rbp,
		.r = { g->r8, g->r9, g->r10, g->r11, g->r12, g->r13, g->r14, g->r15 },
		.rip = g->rip, .rflags = g->rflags,
		.cs = segment(&s->cs), .ds = segment(&s->ds), .es = segment(&s->es),
		.fs = segment(&s->fs), .gs = segment(&s->gs), .ss = segment(&s->ss),
		.ldt = segment(&s->ldt), .tr = segment(&s->tr),
		.gdt = { .limit = s->gdt.limit, .base = s->gdt.base },
		.idt = { .limit = s->idt.limit, .base = s->idt.base },
		.cr = { s->cr0, 0, s->cr2, s->cr3, s->cr4 },
		.kernel_gs_base = shadow_gs,
	};

	return add_note(d, "QEMU", 0, &cpu, sizeof(cpu));
}

/* First all of the one kind, then all of the other, as readers expect it. */
static int dump_vcpus(struct dump *d)
{
	struct kvm_msr_entry shadow_gs = { .index = 0xc0000102 };
	struct kvmi_vm_get_info_reply info;
	struct kvmi_registers r;
	uint32_t i, pass;
	bool mapped = false;
	int err;

	err = kvmi_vm_get_info(d->vm->dom, &info);
	if (err)
		return fail_vm(d->vm, err);
	for (pass = 0; pass < 2; pass++) {
		for (i = 0; i < info.vcpu_count; i++) {
			err = kvmi_vcpu_get_registers(d->vm->dom, i, &r, &shadow_gs, 1);
			if (err == -EAGAIN)
				continue;
			if (err)
				return fail_vm(d->vm, err);
			if (!mapped)
				find_mappings(d, &r);
			mapped = true;
			err = pass ? add_qemu(d, &r, shadow_gs.data) : add_prstatus(d, i, &r);
			if (err)
				return err;
		}
	}
	return 0;
}

/* --- the file ---------------------------------------------------------------------------- */

static int dump_headers(struct dump *d)
{
	size_t n = 1 + d->nr_maps + d->nr_ranges, i;
	Elf64_Ehdr ehdr = {
		.e_ident = { ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB,
			     EV_CURRENT },
		.e_type = ET_CORE,
		.e_machine = EM_X86_64,
		.e_version = EV_CURRENT,
		.e_phoff = sizeof(ehdr),
		.e_ehsize = sizeof(ehdr),
		.e_phentsize = sizeof(Elf64_Phdr),
		.e_phnum = n,
	};
	uint64_t notes = sizeof(ehdr) + n * sizeof(Elf64_Phdr);
	Elf64_Phdr *phdr = calloc(n, sizeof(*phdr)), *p = phdr;
	int err;

	if (!phdr)
		return fail(KVMI_EXIT_FAILED, "out of memory");
	*p++ = (Elf64_Phdr) {
		.p_type = PT_NOTE, .p_offset = notes, .p_filesz = d->notes_size, .p_align = 4,
	};
	for (i = 0; i < d->nr_maps; i++)
		*p++ = (Elf64_Phdr) {
			.p_type = PT_LOAD, .p_flags = PF_R | PF_W | PF_X,
			.p_offset = DATA_OFFSET + d->maps[i].gpa,
			.p_vaddr = d->maps[i].gva, .p_paddr = d->maps[i].gpa,
			.p_filesz = d->maps[i].size, .p_memsz = d->maps[i].size,
			.p_align = PAGE_SIZE,
		};
	for (i = 0; i < d->nr_ranges; i++)
		*p++ = (Elf64_Phdr) {
			.p_type = PT_LOAD, .p_flags = PF_R | PF_W | PF_X,
			.p_offset = DATA_OFFSET + d->ranges[i].start,
			.p_vaddr = d->ranges[i].start, .p_paddr = d->ranges[i].start,
			.p_filesz = d->ranges[i].end - d->ranges[i].start,
			.p_memsz = d->ranges[i].end - d->ranges[i].start,
			.p_align = PAGE_SIZE,
		};
	if (notes + d->notes_size > DATA_OFFSET)
		err = fail(KVMI_EXIT_FAILED, "the dump's headers need %llu bytes, more than %llu",
			   (unsigned long long)(notes + d->notes_size), DATA_OFFSET);
	else
		err = put(d, 0, &ehdr, sizeof(ehdr));
	if (!err)
		err = put(d, sizeof(ehdr), phdr, n * sizeof(*phdr));
	if (!err)
		err = put(d, notes, d->notes, d->notes_size);
	free(phdr);
	return err;
}

/* Holes are not to be seen by those who open a file as a whole. */
static int set_size(struct dump *d)
{
	uint64_t end = DATA_OFFSET + d->ranges[d->nr_ranges - 1].end;

	if (ftruncate(d->fd, end))
		return fail(KVMI_EXIT_FAILED, "the dump's size: %s", strerror(errno));
	return 0;
}

/* Where to end: KVM knows, and the VMM may have told what is possible at all. */
static int find_end(struct vm *vm, uint64_t *max_gpa)
{
	__u64 max_gfn;

	if (*max_gpa)
		return 0;
	if (vm->version.features.max_gfn && !kvmi_vm_get_max_gfn(vm->dom, &max_gfn) && max_gfn)
		*max_gpa = (max_gfn << PAGE_SHIFT) - 1;
	else
		*max_gpa = vm->hello.max_gpa;
	if (*max_gpa)
		return 0;
	return fail(KVMI_EXIT_USAGE,
		    "VM %u (%s): the VMM did not tell the highest address; give --max-gpa",
		    vm->number, vm->hello.name);
}

int vm_dump(struct vm *vm, int fd, uint64_t max_gpa, dump_progress progress, void *data,
	    struct json_object *out)
{
	struct dump d = { .vm = vm, .fd = fd };
	uint64_t memory = 0;
	struct stat st;
	size_t i;
	int err;

	err = check_allowed(vm, KVMI_VM_READ_PHYSICAL);
	if (!err)
		err = check_allowed(vm, KVMI_VCPU_GET_REGISTERS);
	if (!err && (fstat(fd, &st) || !S_ISREG(st.st_mode)))
		err = fail(KVMI_EXIT_USAGE, "a dump needs a file that it can write to at will");
	if (!err)
		err = find_end(vm, &max_gpa);
	if (err)
		return err;
	d.ranges = calloc(MAX_RANGES, sizeof(*d.ranges));
	d.maps = calloc(MAX_MAPPINGS, sizeof(*d.maps));
	if (!d.ranges || !d.maps)
		err = fail(KVMI_EXIT_FAILED, "out of memory");
	if (!err)
		err = dump_memory(&d, max_gpa, progress, data);
	if (!err)
		err = dump_vcpus(&d);
	if (!err)
		err = dump_headers(&d);
	if (!err)
		err = set_size(&d);
	if (!err) {
		for (i = 0; i < d.nr_ranges; i++)
			memory += d.ranges[i].end - d.ranges[i].start;
		json_add_int(out, "memory", memory);
		json_add_int(out, "written", d.written);
		json_add_int(out, "ranges", d.nr_ranges);
		json_add_int(out, "mappings", d.nr_maps);
	}
	free(d.ranges);
	free(d.maps);
	free(d.notes);
	return err;
}
