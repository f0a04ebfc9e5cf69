// SPDX-License-Identifier: GPL-2.0
/* The cryptography of the handshake, which is nettle's. */

#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include <nettle/hmac.h>
#include <nettle/memops.h>
#include <nettle/sha1.h>

#include "internal.h"

_Static_assert(SHA1_DIGEST_SIZE == KVMI_COOKIE_HASH_SIZE, "the old form is SHA-1");
_Static_assert(SHA256_DIGEST_SIZE == KVMI_MAC_SIZE, "the new form is HMAC-SHA-256");

/* The old form: the hash of the key, the same every time. */
void kvmi_auth_cookie(const struct kvmi_auth *auth, __u8 hash[KVMI_COOKIE_HASH_SIZE])
{
	struct sha1_ctx ctx;

	sha1_init(&ctx);
	sha1_update(&ctx, auth->key_size, auth->key);
	sha1_digest(&ctx, KVMI_COOKIE_HASH_SIZE, hash);
}

/* What one side, @label, proves: that it has the key, and saw the same bytes. */
void kvmi_auth_mac(const struct kvmi_auth *auth, const char *label,
		   const void *hello, size_t hello_size,
		   const void *answer, size_t answer_size,
		   __u8 mac[KVMI_MAC_SIZE])
{
	struct hmac_sha256_ctx ctx;

	hmac_sha256_set_key(&ctx, auth->key_size, auth->key);
	hmac_sha256_update(&ctx, strlen(label) + 1, (const __u8 *)label);
	hmac_sha256_update(&ctx, hello_size, hello);
	hmac_sha256_update(&ctx, answer_size, answer);
	hmac_sha256_digest(&ctx, KVMI_MAC_SIZE, mac);
	explicit_bzero(&ctx, sizeof(ctx));
}

bool kvmi_auth_equal(const __u8 *a, const __u8 *b, size_t size)
{
	return memeql_sec(a, b, size);
}

int kvmi_auth_nonce(__u8 nonce[KVMI_NONCE_SIZE])
{
	ssize_t n;

	do {
		n = getrandom(nonce, KVMI_NONCE_SIZE, 0);
	} while (n < 0 && errno == EINTR);
	if (n != KVMI_NONCE_SIZE)
		return kvmi_fail(n < 0 ? -errno : -EIO, "handshake: no random numbers");
	return 0;
}

/* NULL, or an authentication that can be used; the key is not copied. */
int kvmi_auth_check(const struct kvmi_auth *auth)
{
	if (!auth)
		return 0;
	if (!auth->key || !auth->key_size)
		return kvmi_fail(-EINVAL, "handshake: the key is empty");
	if (auth->flags & ~KVMI_AUTH_MUTUAL)
		return kvmi_fail(-EINVAL, "handshake: auth.flags 0x%x has unknown bits",
				 auth->flags);
	return 0;
}
