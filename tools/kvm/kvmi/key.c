// SPDX-License-Identifier: GPL-2.0
/* The key that VMM and tool share; see key.h. */

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "failure.h"
#include "key.h"

#define KEY_MAX		4096

int key_load(const char *path, bool mutual, struct kvmi_auth *auth)
{
	static unsigned char key[KEY_MAX + 1];
	struct stat st;
	ssize_t n;
	int fd;

	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st)) {
		int err = fail(status_of_errno(-errno), "--key-file: %s: %s", path,
			       strerror(errno));

		if (fd >= 0)
			close(fd);
		return err;
	}
	n = read(fd, key, sizeof(key));
	close(fd);
	if (n < 0)
		return fail(KVMI_EXIT_FAILED, "--key-file: %s: %s", path, strerror(errno));
	if (!S_ISREG(st.st_mode) || st.st_mode & 077)
		return fail(KVMI_EXIT_DENIED,
			    "--key-file: %s: is not a file that only its user can read", path);
	if (!n || n > KEY_MAX)
		return fail(KVMI_EXIT_USAGE, "--key-file: %s: does not have 1..%d bytes", path,
			    KEY_MAX);
	*auth = (struct kvmi_auth) {
		.key = key,
		.key_size = n,
		.flags = mutual ? KVMI_AUTH_MUTUAL : 0,
	};
	return 0;
}
