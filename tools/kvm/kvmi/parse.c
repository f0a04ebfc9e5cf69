// SPDX-License-Identifier: GPL-2.0
/* What users write and read: numbers, ranges of memory, access rights, UUIDs. */

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <linux/kvmi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "failure.h"
#include "parse.h"

_Static_assert(ACCESS_ALL == (KVMI_PAGE_ACCESS_R | KVMI_PAGE_ACCESS_W |
			      KVMI_PAGE_ACCESS_X), "access bits");

/* strtoull() takes signs and spaces, which no number here has. */
static bool parse_number(const char *text, uint64_t *value, char **end)
{
	if (!isdigit((unsigned char)*text))
		return false;
	/* A leading zero is not meant to be octal. */
	errno = 0;
	*value = strtoull(text, end, text[0] == '0' && (text[1] | 32) == 'x' ? 16 : 10);
	return !errno && *end != text;
}

static bool parse_number_unit(const char *text, uint64_t *value, char **end)
{
	unsigned int shift;

	if (!parse_number(text, value, end))
		return false;
	switch (**end) {
	case 'k':
	case 'K':
		shift = 10;
		break;
	case 'm':
	case 'M':
		shift = 20;
		break;
	case 'g':
	case 'G':
		shift = 30;
		break;
	default:
		return true;
	}
	if (*value > UINT64_MAX >> shift)
		return false;
	*value <<= shift;
	++*end;
	return true;
}

bool parse_u64(const char *text, uint64_t *value)
{
	char *end;

	return parse_number_unit(text, value, &end) && !*end;
}

bool parse_int(const char *text, long min, long max, long *value)
{
	uint64_t v;
	char *end;

	if (!parse_number(text, &v, &end) || *end || v > INT64_MAX ||
	    (long)v < min || (long)v > max)
		return false;
	*value = v;
	return true;
}

int parse_range(const char *text, struct page_range *range)
{
	uint64_t gpa, len = 1, last;
	char *end;

	if (!parse_number_unit(text, &gpa, &end))
		return fail(KVMI_EXIT_USAGE, "\"%s\": GPA is not a number", text);
	if (*end == '+') {
		if (!parse_number_unit(end + 1, &len, &end))
			return fail(KVMI_EXIT_USAGE, "\"%s\": LEN is not a number", text);
		if (!len)
			return fail(KVMI_EXIT_USAGE, "\"%s\": LEN is 0", text);
	}
	if (*end)
		return fail(KVMI_EXIT_USAGE, "\"%s\": \"%s\" is too much for GPA[+LEN]",
			    text, end);
	last = gpa + (len - 1);
	if (last < gpa)
		return fail(KVMI_EXIT_USAGE, "\"%s\": GPA + LEN is beyond 64 bits", text);
	range->gfn = gpa >> PAGE_SHIFT;
	range->count = (last >> PAGE_SHIFT) - range->gfn + 1;
	return 0;
}

int parse_access(const char *text, uint8_t *access)
{
	static const char letters[] = "rwx";
	unsigned int i;

	*access = 0;
	for (i = 0; i < 3 && (text[i] == letters[i] || text[i] == '-'); i++)
		if (text[i] != '-')
			*access |= 1 << i;
	if (i < 3 || text[3])
		return fail(KVMI_EXIT_USAGE,
			    "access \"%s\" is not three characters of \"rwx\", with a - for what is not allowed",
			    text);
	return 0;
}

bool parse_uuid(const char *text, uint8_t uuid[16])
{
	unsigned int i, byte;

	if (strlen(text) != UUID_TEXT_SIZE - 1)
		return false;
	for (i = 0; i < 16; i++) {
		if (i == 4 || i == 6 || i == 8 || i == 10)
			if (*text++ != '-')
				return false;
		if (!isxdigit((unsigned char)text[0]) ||
		    !isxdigit((unsigned char)text[1]) ||
		    sscanf(text, "%2x", &byte) != 1)
			return false;
		uuid[i] = byte;
		text += 2;
	}
	return true;
}

const char *format_access(uint8_t access, char text[ACCESS_TEXT_SIZE])
{
	text[0] = access & KVMI_PAGE_ACCESS_R ? 'r' : '-';
	text[1] = access & KVMI_PAGE_ACCESS_W ? 'w' : '-';
	text[2] = access & KVMI_PAGE_ACCESS_X ? 'x' : '-';
	text[3] = '\0';
	return text;
}

const char *format_uuid(const uint8_t u[16], char text[UUID_TEXT_SIZE])
{
	snprintf(text, UUID_TEXT_SIZE,
		 "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x",
		 u[0], u[1], u[2], u[3], u[4], u[5], u[6], u[7], u[8], u[9],
		 u[10], u[11], u[12], u[13], u[14], u[15]);
	return text;
}

const char *format_size(uint64_t size, char *text, size_t text_size)
{
	static const char * const units[] = { "bytes", "KiB", "MiB", "GiB", "TiB" };
	unsigned int unit = 0;

	while (unit < 4 && size && size % 1024 == 0) {
		size /= 1024;
		unit++;
	}
	snprintf(text, text_size, "%" PRIu64 " %s", size, units[unit]);
	return text;
}

void make_printable(char *text)
{
	for (; *text; text++)
		if (*text < 0x20 || *text > 0x7e)
			*text = '?';
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

bool parse_hex(const char *text, uint8_t *buf, size_t size)
{
	int high, low;
	size_t i;

	for (i = 0; i < size; i++) {
		high = hex_digit(text[2 * i]);
		low = high < 0 ? -1 : hex_digit(text[2 * i + 1]);
		if (low < 0)
			return false;
		buf[i] = high << 4 | low;
	}
	return !text[2 * size];
}

void format_hex(const uint8_t *buf, size_t size, char *text)
{
	static const char digits[] = "0123456789abcdef";
	size_t i;

	for (i = 0; i < size; i++) {
		text[2 * i] = digits[buf[i] >> 4];
		text[2 * i + 1] = digits[buf[i] & 15];
	}
	text[2 * size] = '\0';
}
