/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KVMI_SYMBOLS_H
#define KVMI_SYMBOLS_H

/* Names of a guest kernel's addresses, from its System.map or its vmlinux. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct symbols;

int symbols_open(const char *path, struct symbols **symbols);
void symbols_free(struct symbols *symbols);
bool symbols_find(const struct symbols *symbols, const char *name, uint64_t *address);
/*
 * By how much the guest's kernel was moved, as its system call entry is at
 * @lstar now.
 */
int symbols_relocate(struct symbols *symbols, uint64_t lstar);
/* "do_syslog+0x10"; false if nothing is near. */
bool symbols_name(const struct symbols *symbols, uint64_t address, char *text, size_t size);

#endif /* KVMI_SYMBOLS_H */
