// SPDX-License-Identifier: GPL-2.0
/* Names of a guest kernel's addresses; see symbols.h. */

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "failure.h"
#include "symbols.h"

#define MAX_OFFSET	(1 << 20)	/* from a symbol to an address that is its */

struct symbol {
	uint64_t address;
	const char *name;
};

struct symbols {
	const char *path;
	char *map;			/* the file */
	size_t size;
	char *text;			/* names of a System.map, each ended */
	struct symbol *list;		/* by address */
	size_t n;
	size_t room;
	uint64_t slide;
};

static int add(struct symbols *s, uint64_t address, const char *name)
{
	struct symbol *list;

	if (s->n == s->room) {
		s->room = s->room ? s->room * 2 : 4096;
		list = reallocarray(s->list, s->room, sizeof(*list));
		if (!list)
			return fail(KVMI_EXIT_FAILED, "out of memory");
		s->list = list;
	}
	s->list[s->n++] = (struct symbol) { address, name };
	return 0;
}

static int compare(const void *a, const void *b)
{
	const struct symbol *x = a, *y = b;

	return x->address < y->address ? -1 : x->address > y->address;
}

static int read_map(struct symbols *s)
{
	char *line, *next, *end, *name;
	unsigned long lineno = 0;
	uint64_t address;
	int err = 0;

	s->text = malloc(s->size + 1);
	if (!s->text)
		return fail(KVMI_EXIT_FAILED, "out of memory");
	memcpy(s->text, s->map, s->size);
	s->text[s->size] = '\0';
	for (line = s->text; !err && *line; line = next) {
		lineno++;
		next = strchrnul(line, '\n');
		if (*next)
			*next++ = '\0';
		errno = 0;
		address = strtoull(line, &end, 16);
		if (errno || end == line || *end != ' ' || !end[1] || end[2] != ' ')
			return fail(KVMI_EXIT_USAGE,
				    "--symbols: %s: line %lu is not \"ADDRESS TYPE NAME\"",
				    s->path, lineno);
		name = end + 3;
		name[strcspn(name, "\t ")] = '\0';
		err = add(s, address, name);
	}
	return err;
}

/* A part of the file; NULL if it is not all there. */
static const void *part(const struct symbols *s, uint64_t offset, uint64_t size)
{
	if (offset > s->size || size > s->size - offset)
		return NULL;
	return s->map + offset;
}

static int read_elf(struct symbols *s)
{
	const Elf64_Ehdr *ehdr = part(s, 0, sizeof(*ehdr));
	const Elf64_Shdr *shdrs, *symtab = NULL, *strtab;
	const char *names;
	size_t i, n;
	int err = 0;

	if (!ehdr || ehdr->e_ident[EI_CLASS] != ELFCLASS64 ||
	    ehdr->e_ident[EI_DATA] != ELFDATA2LSB || ehdr->e_shentsize != sizeof(*shdrs) ||
	    ehdr->e_shoff % 8)
		return fail(KVMI_EXIT_USAGE, "--symbols: %s: is not an ELF file of 64 bits",
			    s->path);
	shdrs = part(s, ehdr->e_shoff, (uint64_t)ehdr->e_shnum * sizeof(*shdrs));
	for (i = 0; shdrs && i < ehdr->e_shnum; i++)
		if (shdrs[i].sh_type == SHT_SYMTAB && shdrs[i].sh_link < ehdr->e_shnum)
			symtab = &shdrs[i];
	if (!symtab)
		return fail(KVMI_EXIT_USAGE, "--symbols: %s: has no symbol table", s->path);
	strtab = &shdrs[symtab->sh_link];
	names = part(s, strtab->sh_offset, strtab->sh_size);
	n = symtab->sh_size / sizeof(Elf64_Sym);
	if (!names || !strtab->sh_size || names[strtab->sh_size - 1] ||
	    symtab->sh_offset % 8 || !part(s, symtab->sh_offset, symtab->sh_size))
		return fail(KVMI_EXIT_USAGE, "--symbols: %s: its symbol table is damaged",
			    s->path);
	for (i = 0; !err && i < n; i++) {
		const Elf64_Sym *sym = part(s, symtab->sh_offset + i * sizeof(*sym), sizeof(*sym));

		if (sym->st_name && sym->st_name < strtab->sh_size &&
		    sym->st_shndx != SHN_UNDEF && ELF64_ST_TYPE(sym->st_info) <= STT_FUNC)
			err = add(s, sym->st_value, names + sym->st_name);
	}
	return err;
}

int symbols_open(const char *path, struct symbols **symbols)
{
	struct symbols *s = calloc(1, sizeof(*s));
	struct stat st;
	int fd, err = 0;

	if (!s)
		return fail(KVMI_EXIT_FAILED, "out of memory");
	s->path = path;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st)) {
		err = fail(status_of_errno(-errno), "--symbols: %s: %s", path, strerror(errno));
	} else if (!S_ISREG(st.st_mode) || !st.st_size) {
		err = fail(KVMI_EXIT_USAGE, "--symbols: %s: is empty, or not a file", path);
	} else {
		s->size = st.st_size;
		s->map = mmap(NULL, s->size, PROT_READ, MAP_PRIVATE, fd, 0);
		if (s->map == MAP_FAILED) {
			s->map = NULL;
			err = fail(KVMI_EXIT_FAILED, "--symbols: %s: %s", path, strerror(errno));
		}
	}
	if (fd >= 0)
		close(fd);
	if (!err)
		err = s->size > SELFMAG && !memcmp(s->map, ELFMAG, SELFMAG) ? read_elf(s) :
		      read_map(s);
	if (err) {
		symbols_free(s);
		return err;
	}
	qsort(s->list, s->n, sizeof(*s->list), compare);
	*symbols = s;
	return 0;
}

void symbols_free(struct symbols *symbols)
{
	if (!symbols)
		return;
	if (symbols->map)
		munmap(symbols->map, symbols->size);
	free(symbols->text);
	free(symbols->list);
	free(symbols);
}

bool symbols_find(const struct symbols *symbols, const char *name, uint64_t *address)
{
	size_t i;

	for (i = 0; i < symbols->n; i++) {
		if (strcmp(symbols->list[i].name, name))
			continue;
		*address = symbols->list[i].address + symbols->slide;
		return true;
	}
	return false;
}

int symbols_relocate(struct symbols *symbols, uint64_t lstar)
{
	uint64_t entry;

	symbols->slide = 0;
	if (!symbols_find(symbols, "entry_SYSCALL_64", &entry))
		return fail(KVMI_EXIT_USAGE, "--symbols: %s: has no entry_SYSCALL_64, so it is no Linux kernel's",
			    symbols->path);
	if (!lstar)
		return fail(KVMI_EXIT_FAILED,
			    "the guest has not set up system calls yet (MSR LSTAR is 0)");
	/* The kernel is moved by whole pages, and by no more than 2 GiB. */
	if ((lstar - entry) & 0xfff || lstar - entry + (2ULL << 30) > 4ULL << 30)
		return fail(KVMI_EXIT_USAGE,
			    "--symbols: %s: is not of the kernel that the guest runs (entry_SYSCALL_64 is 0x%llx there, and 0x%llx in the guest)",
			    symbols->path, (unsigned long long)entry, (unsigned long long)lstar);
	symbols->slide = lstar - entry;
	return 0;
}

bool symbols_name(const struct symbols *symbols, uint64_t address, char *text, size_t size)
{
	size_t low = 0, high = symbols->n, mid;
	const struct symbol *s;

	address -= symbols->slide;
	/* The last one that is not above it. */
	while (low < high) {
		mid = low + (high - low) / 2;
		if (symbols->list[mid].address <= address)
			low = mid + 1;
		else
			high = mid;
	}
	if (!low)
		return false;
	s = &symbols->list[low - 1];
	if (address - s->address > MAX_OFFSET)
		return false;
	if (address == s->address)
		snprintf(text, size, "%s", s->name);
	else
		snprintf(text, size, "%s+0x%llx", s->name,
			 (unsigned long long)(address - s->address));
	return true;
}
