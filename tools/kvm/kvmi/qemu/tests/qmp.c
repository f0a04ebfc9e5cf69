// SPDX-License-Identifier: GPL-2.0
/* A client of QEMU's machine protocol. */

#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "qmp.h"

#define ANSWER_TIMEOUT_MS	60000

struct qmp {
	int fd;
	int next_id;
	size_t size;			/* of what is in @buf */
	char buf[1 << 16];
	struct json_object *answers;	/* that nobody has asked for yet */
	struct json_object *events;	/* their names */
};

static long long now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000LL + ts.tv_nsec / 1000000;
}

/* The next message, or NULL. */
static struct json_object *read_message(struct qmp *qmp, long long deadline)
{
	struct pollfd pfd = { .fd = qmp->fd, .events = POLLIN };
	struct json_object *message;
	long long left;
	char *end;
	ssize_t n;

	for (;;) {
		end = memchr(qmp->buf, '\n', qmp->size);
		if (end) {
			*end = '\0';
			message = json_tokener_parse(qmp->buf);
			n = end + 1 - qmp->buf;
			qmp->size -= n;
			memmove(qmp->buf, end + 1, qmp->size);
			return message;
		}
		left = deadline - now_ms();
		if (poll(&pfd, 1, left > 0 ? left : 0) <= 0 ||
		    qmp->size == sizeof(qmp->buf))
			return NULL;
		n = read(qmp->fd, qmp->buf + qmp->size, sizeof(qmp->buf) - qmp->size);
		if (n <= 0)
			return NULL;
		qmp->size += n;
	}
}

/* Take one message in; false if none comes. */
static bool take_message(struct qmp *qmp, long long deadline)
{
	struct json_object *message = read_message(qmp, deadline), *name;

	if (!message)
		return false;
	if (json_object_object_get_ex(message, "event", &name)) {
		json_object_array_add(qmp->events, json_object_get(name));
		json_object_put(message);
	} else {
		json_object_array_add(qmp->answers, message);
	}
	return true;
}

static int connect_to(const char *path, long long deadline)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	const struct timespec pause = { .tv_nsec = 20 * 1000 * 1000 };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -1;
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
	while (connect(fd, (struct sockaddr *)&addr, sizeof(addr))) {
		if (now_ms() >= deadline) {
			close(fd);
			return -1;
		}
		nanosleep(&pause, NULL);
	}
	return fd;
}

struct qmp *qmp_open(const char *path, bool oob, int timeout_ms)
{
	long long deadline = now_ms() + timeout_ms;
	struct qmp *qmp = calloc(1, sizeof(*qmp));
	struct json_object *greeting;

	if (!qmp)
		return NULL;
	qmp->answers = json_object_new_array();
	qmp->events = json_object_new_array();
	qmp->fd = connect_to(path, deadline);
	greeting = qmp->fd < 0 ? NULL : read_message(qmp, deadline);
	if (!greeting ||
	    !qmp_do(qmp, "'execute': 'qmp_capabilities', 'arguments': {'enable': [%s]}",
		    oob ? "'oob'" : "")) {
		json_object_put(greeting);
		qmp_close(qmp);
		return NULL;
	}
	json_object_put(greeting);
	return qmp;
}

void qmp_close(struct qmp *qmp)
{
	if (!qmp)
		return;
	if (qmp->fd >= 0)
		close(qmp->fd);
	json_object_put(qmp->answers);
	json_object_put(qmp->events);
	free(qmp);
}

static int send_command(struct qmp *qmp, const char *fmt, va_list ap)
{
	char members[4096], message[4160];
	int n;

	vsnprintf(members, sizeof(members), fmt, ap);
	n = snprintf(message, sizeof(message), "{'id': %d, %s}\n", ++qmp->next_id, members);
	return send(qmp->fd, message, n, MSG_NOSIGNAL) == n ? qmp->next_id : -1;
}

int qmp_send(struct qmp *qmp, const char *fmt, ...)
{
	va_list ap;
	int id;

	va_start(ap, fmt);
	id = send_command(qmp, fmt, ap);
	va_end(ap);
	return id;
}

struct json_object *qmp_answer(struct qmp *qmp, int id, int timeout_ms)
{
	long long deadline = now_ms() + timeout_ms;
	struct json_object *answer, *member;
	size_t i;

	do {
		for (i = 0; i < json_object_array_length(qmp->answers); i++) {
			answer = json_object_array_get_idx(qmp->answers, i);
			if (!json_object_object_get_ex(answer, "id", &member) ||
			    json_object_get_int(member) != id)
				continue;
			json_object_get(answer);
			json_object_array_del_idx(qmp->answers, i, 1);
			return answer;
		}
	} while (take_message(qmp, deadline));
	return NULL;
}

bool qmp_do(struct qmp *qmp, const char *fmt, ...)
{
	struct json_object *answer, *error;
	bool good;
	va_list ap;
	int id;

	va_start(ap, fmt);
	id = send_command(qmp, fmt, ap);
	va_end(ap);
	answer = qmp_answer(qmp, id, ANSWER_TIMEOUT_MS);
	good = answer && !json_object_object_get_ex(answer, "error", &error);
	if (!good)
		printf("# QMP: %s\n", answer ? json_object_to_json_string(answer) : "no answer");
	json_object_put(answer);
	return good;
}

bool qmp_event(struct qmp *qmp, const char *name, int timeout_ms)
{
	long long deadline = now_ms() + timeout_ms;
	struct json_object *seen;
	size_t i;

	do {
		for (i = 0; i < json_object_array_length(qmp->events); i++) {
			seen = json_object_array_get_idx(qmp->events, i);
			if (!strcmp(json_object_get_string(seen), name))
				return true;
		}
	} while (take_message(qmp, deadline));
	return false;
}

void qmp_forget(struct qmp *qmp)
{
	while (take_message(qmp, 0))
		;
	json_object_put(qmp->events);
	qmp->events = json_object_new_array();
}

const char *qmp_query(struct qmp *qmp, const char *command, const char *member)
{
	static char text[1024];
	struct json_object *answer, *value;
	int id;

	text[0] = '\0';
	id = qmp_send(qmp, "'execute': '%s'", command);
	answer = qmp_answer(qmp, id, ANSWER_TIMEOUT_MS);
	if (answer && json_object_object_get_ex(answer, "return", &value)) {
		if (!member)
			snprintf(text, sizeof(text), "%s", json_object_get_string(value));
		else if (json_object_object_get_ex(value, member, &value))
			snprintf(text, sizeof(text), "%s", json_object_get_string(value));
	}
	json_object_put(answer);
	return text;
}
