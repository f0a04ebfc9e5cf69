/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KVMI_TESTS_TAP_H
#define KVMI_TESTS_TAP_H

/* The Test Anything Protocol: ok() per test, tap_done() at the end of main(). */

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int tap_count;
static int tap_failed;

__attribute__((format(printf, 2, 3), unused))
static bool tap_result(bool good, const char *fmt, ...)
{
	va_list ap;

	printf("%sok %d - ", good ? "" : "not ", ++tap_count);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\n");
	fflush(stdout);
	if (!good)
		tap_failed++;
	return good;
}

__attribute__((format(printf, 1, 2), unused))
static void tap_skip(const char *fmt, ...)
{
	va_list ap;

	printf("ok %d # SKIP ", ++tap_count);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\n");
	fflush(stdout);
}

__attribute__((format(printf, 1, 2), unused))
static void diag(const char *fmt, ...)
{
	va_list ap;

	printf("# ");
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\n");
	fflush(stdout);
}

#define ok(cond, ...)							\
	({								\
		bool __good = (cond);					\
		tap_result(__good, __VA_ARGS__);			\
		if (!__good)						\
			diag("%s:%d: %s", __FILE__, __LINE__, #cond);	\
		__good;							\
	})

#define is_num(got, want, ...)						\
	({								\
		long long __got = (long long)(got);			\
		long long __want = (long long)(want);			\
		if (!tap_result(__got == __want, __VA_ARGS__))		\
			diag("%s:%d: got %lld, want %lld", __FILE__,	\
			     __LINE__, __got, __want);			\
		__got == __want;					\
	})

#define has_text(text, part, ...)					\
	({								\
		const char *__text = (text), *__part = (part);		\
		bool __good = strstr(__text, __part) != NULL;		\
		if (!tap_result(__good, __VA_ARGS__))			\
			diag("%s:%d: \"%s\" lacks \"%s\"", __FILE__,	\
			     __LINE__, __text, __part);			\
		__good;							\
	})

/* A test cannot go on: say so in a way that no reader can miss. */
#define must(cond)							\
	do {								\
		if (!(cond)) {						\
			printf("Bail out! %s:%d: %s\n", __FILE__,	\
			       __LINE__, #cond);			\
			exit(1);					\
		}							\
	} while (0)

/* Nothing here may take for ever; SIGALRM ends the program, which is a failure. */
static inline void tap_start(unsigned int seconds)
{
	printf("TAP version 13\n");
	fflush(stdout);
	alarm(seconds);
}

static inline int tap_done(void)
{
	printf("1..%d\n", tap_count);
	return tap_failed || !tap_count;
}

#endif /* KVMI_TESTS_TAP_H */
