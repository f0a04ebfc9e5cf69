/* SPDX-License-Identifier: GPL-2.0 */
#ifndef QEMU_TEST_QMP_H
#define QEMU_TEST_QMP_H

/* A client of QEMU's machine protocol (QMP), for one thread. */

#include <stdbool.h>
#include <json-c/json.h>

struct qmp;

/* With @oob, commands may be sent out of band ("'exec-oob': ..."). */
struct qmp *qmp_open(const char *path, bool oob, int timeout_ms);
void qmp_close(struct qmp *qmp);

/*
 * Send the command with these members, "'execute': 'stop'" for one.  Returns its
 * id, or -1.
 */
int qmp_send(struct qmp *qmp, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/*
 * The answer to the command with this id, or NULL if there is none in time; the
 * object is the caller's.
 */
struct json_object *qmp_answer(struct qmp *qmp, int id, int timeout_ms);

/* Both in one; did it succeed? */
bool qmp_do(struct qmp *qmp, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* Has the event come since qmp_forget(), or does it in time? */
bool qmp_event(struct qmp *qmp, const char *name, int timeout_ms);
void qmp_forget(struct qmp *qmp);

/* A member of what a query returns, as text; "" if there is none.  Static. */
const char *qmp_query(struct qmp *qmp, const char *command, const char *member);

#endif /* QEMU_TEST_QMP_H */
