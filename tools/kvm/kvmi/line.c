// SPDX-License-Identifier: GPL-2.0
/* JSON objects, one per line, over a socket. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "failure.h"
#include "line.h"

#define FIRST_SIZE	4096

static int parse_line(const char *line, size_t len, struct json_object **object)
{
	struct json_tokener *tok = json_tokener_new();
	int err = 0;

	if (!tok)
		return fail(KVMI_EXIT_FAILED, "out of memory");
	*object = json_tokener_parse_ex(tok, line, len);
	if (!*object)
		err = fail(KVMI_EXIT_FAILED, "not JSON: %s",
			   json_tokener_error_desc(json_tokener_get_error(tok)));
	else if (!json_object_is_type(*object, json_type_object) ||
		 json_tokener_get_parse_end(tok) != len)
		err = fail(KVMI_EXIT_FAILED, "not one JSON object");
	if (err && *object) {
		json_object_put(*object);
		*object = NULL;
	}
	json_tokener_free(tok);
	return err;
}

static int make_room(struct line_reader *r, size_t max)
{
	size_t size;
	char *buf;

	if (r->done) {
		r->len -= r->done;
		memmove(r->buf, r->buf + r->done, r->len);
		r->done = 0;
	}
	if (r->len < r->size)
		return 0;
	if (r->size >= max)
		return fail(KVMI_EXIT_FAILED, "a line of more than %zu bytes", max);
	size = r->size ? r->size * 2 : FIRST_SIZE;
	buf = realloc(r->buf, size);
	if (!buf)
		return fail(KVMI_EXIT_FAILED, "out of memory");
	r->buf = buf;
	r->size = size;
	return 0;
}

/* The last file that comes is kept, and no other. */
static void take_fd(struct line_reader *r, struct msghdr *msg)
{
	struct cmsghdr *c;
	size_t i, n;
	int fd;

	for (c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(fd);
		for (i = 0; i < n; i++) {
			memcpy(&fd, CMSG_DATA(c) + i * sizeof(fd), sizeof(fd));
			if (r->passed_fd >= 0)
				close(r->passed_fd);
			r->passed_fd = fd;
		}
	}
}

static ssize_t receive(struct line_reader *r)
{
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec iov = { .iov_base = r->buf + r->len, .iov_len = r->size - r->len };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.buf,
		.msg_controllen = sizeof(control.buf),
	};
	ssize_t n = recvmsg(r->fd, &msg, MSG_CMSG_CLOEXEC);

	if (n >= 0)
		take_fd(r, &msg);
	return n;
}

int line_read(struct line_reader *r, size_t max, struct json_object **object)
{
	size_t start, len;
	char *end;
	ssize_t n;
	int err;

	for (;;) {
		end = r->len > r->done ?
		      memchr(r->buf + r->done, '\n', r->len - r->done) : NULL;
		if (end) {
			start = r->done;
			len = end - (r->buf + start);
			r->done = start + len + 1;
			return parse_line(r->buf + start, len, object);
		}
		err = make_room(r, max);
		if (err)
			return err;
		n = receive(r);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return fail(KVMI_EXIT_TIMEOUT, "no answer in time");
		if (n <= 0)
			return -1;
		r->len += n;
	}
}

void line_reader_free(struct line_reader *r)
{
	free(r->buf);
	r->buf = NULL;
	if (r->passed_fd >= 0)
		close(r->passed_fd);
	r->passed_fd = -1;
}

static ssize_t send_some(int fd, char *buf, size_t size, int passed_fd)
{
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = { 0 };
	struct iovec iov = { .iov_base = buf, .iov_len = size };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct cmsghdr *c;

	if (passed_fd >= 0) {
		msg.msg_control = control.buf;
		msg.msg_controllen = sizeof(control.buf);
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &passed_fd, sizeof(int));
	}
	return sendmsg(fd, &msg, MSG_NOSIGNAL);
}

int line_send(int fd, struct json_object *object)
{
	return line_send_fd(fd, object, -1);
}

int line_send_fd(int fd, struct json_object *object, int passed_fd)
{
	size_t len, off = 0;
	const char *text;
	ssize_t n = 0;
	char *line;

	text = json_object_to_json_string_length(object, JSON_C_TO_STRING_PLAIN |
						 JSON_C_TO_STRING_NOSLASHESCAPE, &len);
	line = malloc(len + 1);
	if (line) {
		memcpy(line, text, len);
		line[len++] = '\n';
	}
	json_object_put(object);
	while (line && off < len) {
		n = send_some(fd, line + off, len - off, off ? -1 : passed_fd);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		off += n;
	}
	free(line);
	return line && off == len ? 0 : -1;
}
