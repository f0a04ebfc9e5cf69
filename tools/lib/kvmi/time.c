// SPDX-License-Identifier: GPL-2.0
/* Deadlines, so that a wait made of many steps is bounded as a whole. */

#include <limits.h>
#include <time.h>

#include "internal.h"

#define NSEC_PER_MSEC	1000000ULL
#define NSEC_PER_SEC	1000000000ULL

static __u64 now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * NSEC_PER_SEC + ts.tv_nsec;
}

/* @timeout_ms from now, in CLOCK_MONOTONIC's ns; UINT64_MAX if it is negative. */
__u64 kvmi_deadline(int timeout_ms)
{
	if (timeout_ms < 0)
		return UINT64_MAX;
	return now_ns() + timeout_ms * NSEC_PER_MSEC;
}

/* What poll() takes: ms left, rounded up, 0 if none are, -1 for no limit. */
int kvmi_time_left(__u64 deadline)
{
	__u64 now, ms;

	if (deadline == UINT64_MAX)
		return -1;
	now = now_ns();
	if (now >= deadline)
		return 0;
	ms = (deadline - now + NSEC_PER_MSEC - 1) / NSEC_PER_MSEC;
	return MIN(ms, (__u64)INT_MAX);
}
