// SPDX-License-Identifier: GPL-2.0
/* Failures: an exit status and a text. */

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "failure.h"

static __thread char text[FAILURE_SIZE];

int fail(int status, const char *fmt, ...)
{
	/* The old text may be among the arguments. */
	char new[sizeof(text)];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(new, sizeof(new), fmt, ap);
	va_end(ap);
	snprintf(text, sizeof(text), "%s", new);
	return status;
}

const char *failure(void)
{
	return text;
}

void save_failure(char why[FAILURE_SIZE])
{
	snprintf(why, FAILURE_SIZE, "%s", text);
}

int restore_failure(int status, const char why[FAILURE_SIZE])
{
	snprintf(text, sizeof(text), "%s", why);
	return status;
}

int status_of_errno(int err)
{
	switch (-err) {
	case 0:
		return KVMI_EXIT_OK;
	case ENOENT:
	case ECONNREFUSED:
	case ESRCH:
		return KVMI_EXIT_NOT_FOUND;
	case EPERM:
	case EACCES:
		return KVMI_EXIT_DENIED;
	case EBUSY:
	case EEXIST:
	case EADDRINUSE:
		return KVMI_EXIT_BUSY;
	case ETIMEDOUT:
		return KVMI_EXIT_TIMEOUT;
	case ECONNRESET:
	case ESHUTDOWN:
	case EPIPE:
		return KVMI_EXIT_GONE;
	default:
		return KVMI_EXIT_FAILED;
	}
}
