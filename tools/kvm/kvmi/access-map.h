/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KVMI_ACCESS_MAP_H
#define KVMI_ACCESS_MAP_H

/*
 * Which pages we have restricted, and to what.  The kernel does not tell, and
 * lifting one right of a page takes knowing the others.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct access_map {
	uint64_t *slots;	/* gfn + 1 above the access bits; 0 is free */
	size_t size;		/* a power of two, or 0 */
	size_t count;
};

/* KVMI_PAGE_ACCESS_* bits; ACCESS_ALL for a page that is not restricted. */
uint8_t access_map_get(const struct access_map *map, uint64_t gfn);
/* Make room for @more pages, so that access_map_set() cannot fail for them. */
bool access_map_reserve(struct access_map *map, size_t more);
bool access_map_set(struct access_map *map, uint64_t gfn, uint8_t access);
void access_map_free(struct access_map *map);

#endif /* KVMI_ACCESS_MAP_H */
