/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KVMI_LINE_H
#define KVMI_LINE_H

/* JSON objects, one per line, over a socket. */

#include <json-c/json.h>
#include <stddef.h>

struct line_reader {
	int fd;
	char *buf;
	size_t size;
	size_t len;		/* received */
	size_t done;		/* handed out */
	int passed_fd;		/* a file that came along, or -1 */
};

/* The next object: 0, -1 at the end of the stream, or a failure's status. */
int line_read(struct line_reader *reader, size_t max, struct json_object **object);
void line_reader_free(struct line_reader *reader);
/* Send an object and free it: 0, or -1 if nobody is there to hear it. */
int line_send(int fd, struct json_object *object);
/* The same with a file to go along, or -1. */
int line_send_fd(int fd, struct json_object *object, int passed_fd);

#endif /* KVMI_LINE_H */
