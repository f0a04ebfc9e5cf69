// SPDX-License-Identifier: GPL-2.0
/* Numbers, ranges, access rights and UUIDs, good and bad. */

#include <stdint.h>

#include "../failure.h"
#include "../parse.h"
#include "tap.h"

static void test_numbers(void)
{
	static const struct {
		const char *text;
		bool good;
		uint64_t value;
	} cases[] = {
		{ "0", true, 0 }, { "10", true, 10 }, { "010", true, 10 },
		{ "0x10", true, 16 }, { "0XfF", true, 255 },
		{ "0xffffffffffffffff", true, UINT64_MAX },
		{ "18446744073709551615", true, UINT64_MAX },
		{ "18446744073709551616", false, 0 }, { "0x10000000000000000", false, 0 },
		{ "4k", true, 4096 }, { "2M", true, 2 << 20 }, { "1G", true, 1 << 30 },
		{ "0x10k", true, 16384 }, { "17179869184G", false, 0 },
		{ "", false, 0 }, { "-1", false, 0 }, { "+1", false, 0 }, { " 1", false, 0 },
		{ "1 ", false, 0 }, { "x", false, 0 }, { "0x", false, 0 }, { "1kk", false, 0 },
		{ "1T", false, 0 },
	};
	uint64_t value;
	unsigned int i;
	long n;

	for (i = 0; i < ARRAY_SIZE(cases); i++)
		ok(parse_u64(cases[i].text, &value) == cases[i].good &&
		   (!cases[i].good || value == cases[i].value), "\"%s\"", cases[i].text);
	ok(parse_int("5", 1, 10, &n) && n == 5, "5 is within 1..10");
	ok(!parse_int("0", 1, 10, &n) && !parse_int("11", 1, 10, &n) &&
	   !parse_int("5k", 1, 100000, &n) && !parse_int("-5", -10, 10, &n) &&
	   !parse_int("18446744073709551615", -10, 10, &n), "other things are not");
}

static void test_ranges(void)
{
	static const struct {
		const char *text;
		const char *error;
		uint64_t gfn, count;
	} cases[] = {
		{ "0", NULL, 0, 1 }, { "0x1000", NULL, 1, 1 }, { "0x1fff", NULL, 1, 1 },
		{ "0x1000+0x1000", NULL, 1, 1 }, { "0x1000+0x1001", NULL, 1, 2 },
		{ "0x1fff+2", NULL, 1, 2 }, { "0x1000+2M", NULL, 1, 512 },
		{ "16M+4k", NULL, 4096, 1 },
		{ "0xffffffffffffffff", NULL, UINT64_MAX >> 12, 1 },
		{ "0+0xffffffffffffffff", NULL, 0, 1ULL << 52 },
		{ "0xfffffffffffff000+0x1000", NULL, UINT64_MAX >> 12, 1 },
		{ "0xfffffffffffff000+0x1001", "beyond 64 bits", 0, 0 },
		{ "0x1000+0", "LEN is 0", 0, 0 }, { "0x1000+", "LEN is not a number", 0, 0 },
		{ "0x1000-0x2000", "\"-0x2000\" is too much", 0, 0 },
		{ "+1", "GPA is not a number", 0, 0 }, { "", "GPA is not a number", 0, 0 },
		{ "r-x", "GPA is not a number", 0, 0 },
	};
	struct page_range range;
	unsigned int i;
	int err;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		err = parse_range(cases[i].text, &range);
		if (cases[i].error) {
			ok(err == KVMI_EXIT_USAGE, "\"%s\" is refused", cases[i].text);
			has_text(failure(), cases[i].error, "and why");
		} else {
			ok(!err && range.gfn == cases[i].gfn && range.count == cases[i].count,
			   "\"%s\"", cases[i].text);
		}
	}
}

static void test_access(void)
{
	static const char * const good[] = {
		"---", "r--", "-w-", "rw-", "--x", "r-x", "-wx", "rwx",
	};
	static const char * const bad[] = {
		"", "r", "rw", "rwxr", "xwr", "wr-", "RWX", "r-w", "   ", "---x",
	};
	char text[ACCESS_TEXT_SIZE];
	uint8_t access;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(good); i++) {
		ok(!parse_access(good[i], &access) && access == i, "access %s", good[i]);
		ok(!strcmp(format_access(i, text), good[i]), "and back");
	}
	for (i = 0; i < ARRAY_SIZE(bad); i++)
		is_num(parse_access(bad[i], &access), KVMI_EXIT_USAGE,
		       "access \"%s\" is refused", bad[i]);
}

static void test_uuids(void)
{
	static const char * const bad[] = {
		"", "00112233-4455-6677-8899-aabbccddeef", "00112233-4455-6677-8899-aabbccddeefff",
		"001122334-455-6677-8899-aabbccddeeff", "g0112233-4455-6677-8899-aabbccddeeff",
		"0x112233-4455-6677-8899-aabbccddeeff", "00112233 4455-6677-8899-aabbccddeeff",
	};
	static const uint8_t want[16] = { 0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77,
					  0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff };
	char text[UUID_TEXT_SIZE];
	uint8_t uuid[16];
	unsigned int i;

	ok(parse_uuid("00112233-4455-6677-8899-AABBccddeeff", uuid) &&
	   !memcmp(uuid, want, 16), "a UUID");
	ok(!strcmp(format_uuid(want, text), "00112233-4455-6677-8899-aabbccddeeff"), "and back");
	for (i = 0; i < ARRAY_SIZE(bad); i++)
		ok(!parse_uuid(bad[i], uuid), "UUID \"%s\" is refused", bad[i]);
}

static void test_texts(void)
{
	char text[64] = "a\033[31mb\nc\xff";

	make_printable(text);
	ok(!strcmp(text, "a?[31mb?c?"), "control characters are replaced");
	ok(!strcmp(format_size(12 << 20, text, sizeof(text)), "12 MiB"), "12 MiB");
	ok(!strcmp(format_size(4096 * 3, text, sizeof(text)), "12 KiB"), "12 KiB");
	ok(!strcmp(format_size(1025, text, sizeof(text)), "1025 bytes"), "1025 bytes");
}

int main(void)
{
	tap_start(30);
	test_numbers();
	test_ranges();
	test_access();
	test_uuids();
	test_texts();
	return tap_done();
}
