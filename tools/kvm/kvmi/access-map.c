// SPDX-License-Identifier: GPL-2.0
/* A hash table from pages to access rights: open addressing, linear probing. */

#include <stdlib.h>

#include "access-map.h"
#include "parse.h"

#define ACCESS_BITS	3
#define MIN_SIZE	64

static uint64_t entry_of(uint64_t gfn, uint8_t access)
{
	return (gfn + 1) << ACCESS_BITS | access;
}

static uint64_t gfn_of(uint64_t entry)
{
	return (entry >> ACCESS_BITS) - 1;
}

static size_t home_of(const struct access_map *map, uint64_t gfn)
{
	return (gfn * 0x9e3779b97f4a7c15ULL >> 20) & (map->size - 1);
}

/* The slot of @gfn, or the free one where it would go. */
static size_t find(const struct access_map *map, uint64_t gfn)
{
	size_t i = home_of(map, gfn);

	while (map->slots[i] && gfn_of(map->slots[i]) != gfn)
		i = (i + 1) & (map->size - 1);
	return i;
}

uint8_t access_map_get(const struct access_map *map, uint64_t gfn)
{
	uint64_t entry;

	if (!map->size)
		return ACCESS_ALL;
	entry = map->slots[find(map, gfn)];
	return entry ? entry & ACCESS_ALL : ACCESS_ALL;
}

/* At most three quarters full, so that searches stay short. */
bool access_map_reserve(struct access_map *map, size_t more)
{
	struct access_map old = *map;
	size_t size = map->size ? map->size : MIN_SIZE;
	size_t i;

	while ((map->count + more) > size / 4 * 3)
		size *= 2;
	if (size == map->size)
		return true;
	map->slots = calloc(size, sizeof(*map->slots));
	if (!map->slots) {
		*map = old;
		return false;
	}
	map->size = size;
	for (i = 0; i < old.size; i++)
		if (old.slots[i])
			map->slots[find(map, gfn_of(old.slots[i]))] = old.slots[i];
	free(old.slots);
	return true;
}

/* Close the gap at @i, so that what was put behind it is still found. */
static void remove_slot(struct access_map *map, size_t i)
{
	size_t mask = map->size - 1, j = i;

	for (;;) {
		map->slots[i] = 0;
		do {
			j = (j + 1) & mask;
			if (!map->slots[j])
				return;
			/* Leave it if it is no farther from home than the gap. */
		} while (((j - home_of(map, gfn_of(map->slots[j]))) & mask) <
			 ((j - i) & mask));
		map->slots[i] = map->slots[j];
		i = j;
	}
}

bool access_map_set(struct access_map *map, uint64_t gfn, uint8_t access)
{
	size_t i;

	if (access == ACCESS_ALL) {
		if (!map->size)
			return true;
		i = find(map, gfn);
		if (map->slots[i]) {
			remove_slot(map, i);
			map->count--;
		}
		return true;
	}
	if (!access_map_reserve(map, 1))
		return false;
	i = find(map, gfn);
	if (!map->slots[i])
		map->count++;
	map->slots[i] = entry_of(gfn, access);
	return true;
}

void access_map_free(struct access_map *map)
{
	free(map->slots);
	map->slots = NULL;
	map->size = 0;
	map->count = 0;
}
