// SPDX-License-Identifier: GPL-2.0
/* The map from pages to access rights, beside a plain array. */

#include <stdint.h>

#include "../access-map.h"
#include "../parse.h"
#include "tap.h"

#define PAGES	5000

int main(void)
{
	static uint8_t plain[PAGES];
	struct access_map map = { 0 };
	unsigned int seed = 1, i, bad = 0, count = 0;
	uint64_t gfn, base[3] = { 0, 1ULL << 40, (UINT64_MAX >> 12) - PAGES };
	unsigned int b;

	tap_start(60);
	is_num(access_map_get(&map, 123), ACCESS_ALL, "an empty map restricts nothing");
	ok(access_map_set(&map, 123, ACCESS_ALL), "lifting what is not there");
	is_num(map.count, 0, "leaves it empty");

	for (b = 0; b < 3; b++) {
		memset(plain, ACCESS_ALL, sizeof(plain));
		for (i = 0; i < 200000; i++) {
			gfn = rand_r(&seed) % PAGES;
			/* Often the same few, so that removals matter. */
			if (rand_r(&seed) % 2)
				gfn %= 64;
			plain[gfn] = rand_r(&seed) % 3 ? rand_r(&seed) % 8 : ACCESS_ALL;
			if (!access_map_set(&map, base[b] + gfn, plain[gfn]))
				bad++;
			gfn = rand_r(&seed) % PAGES;
			bad += access_map_get(&map, base[b] + gfn) != plain[gfn];
		}
		for (gfn = 0; gfn < PAGES; gfn++)
			bad += access_map_get(&map, base[b] + gfn) != plain[gfn];
		is_num(bad, 0, "200000 changes from page 0x%llx on", (unsigned long long)base[b]);
		for (gfn = 0; gfn < PAGES; gfn++)
			count += plain[gfn] != ACCESS_ALL;
		is_num(map.count, count, "as many pages as there are");
	}
	ok(access_map_reserve(&map, 100000) && map.size >= 100000, "room in advance");
	for (b = 0; b < 3; b++)
		for (gfn = 0; gfn < PAGES; gfn++)
			access_map_set(&map, base[b] + gfn, ACCESS_ALL);
	is_num(map.count, 0, "all lifted");
	for (i = 0; i < map.size; i++)
		bad += !!map.slots[i];
	is_num(bad, 0, "nothing left behind");
	access_map_free(&map);
	return tap_done();
}
