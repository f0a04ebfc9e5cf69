/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KVMI_PARSE_H
#define KVMI_PARSE_H

/* What users write and read: numbers, ranges of memory, access rights, UUIDs. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))

#define PAGE_SHIFT	12
#define PAGE_SIZE	4096ULL

#define UUID_TEXT_SIZE	37
#define ACCESS_TEXT_SIZE 4
#define ACCESS_ALL	7	/* KVMI_PAGE_ACCESS_R | W | X */

/* Pages, from @gfn on. */
struct page_range {
	uint64_t gfn;
	uint64_t count;
};

/* Decimal, 0x..., with an optional k, M or G at the end. */
bool parse_u64(const char *text, uint64_t *value);
/* A number from @min to @max, nothing behind it. */
bool parse_int(const char *text, long min, long max, long *value);
/* GPA[+LEN]: all pages that this touches. */
int parse_range(const char *text, struct page_range *range);
/* "rwx", "r--", ... as KVMI_PAGE_ACCESS_* bits. */
int parse_access(const char *text, uint8_t *access);
bool parse_uuid(const char *text, uint8_t uuid[16]);

/* "00ff": @size bytes, all of the text. */
bool parse_hex(const char *text, uint8_t *buf, size_t size);
/* The other way round; @text has room for 2 * @size + 1 characters. */
void format_hex(const uint8_t *buf, size_t size, char *text);

const char *format_access(uint8_t access, char text[ACCESS_TEXT_SIZE]);
const char *format_uuid(const uint8_t uuid[16], char text[UUID_TEXT_SIZE]);
/* "12 MiB", "4 KiB". */
const char *format_size(uint64_t size, char *text, size_t text_size);
/* Replace what could disturb a terminal or be taken for something else. */
void make_printable(char *text);

#endif /* KVMI_PARSE_H */
