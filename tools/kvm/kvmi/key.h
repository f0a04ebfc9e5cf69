/* SPDX-License-Identifier: GPL-2.0 */
#ifndef KVMI_KEY_H
#define KVMI_KEY_H

/* The key that VMM and tool share, from a file. */

#include <kvmi/libkvmi.h>

/* Its bytes stay where they are for the rest of the process. */
int key_load(const char *path, bool mutual, struct kvmi_auth *auth);

#endif /* KVMI_KEY_H */
