/* SPDX-License-Identifier: GPL-2.0 */
#ifndef LIBKVMI_INTERNAL_H
#define LIBKVMI_INTERNAL_H

#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <sys/queue.h>
#include <kvmi/libkvmi.h>

#define KVMI_PAGE_SIZE		4096
#define KVMI_PAGE_SHIFT		12
#define KVMI_PAGE_MASK		(~(__u64)(KVMI_PAGE_SIZE - 1))

/* What the kernel takes as one message, the header not counted. */
#define KVMI_MAX_PAYLOAD	8184

#define ARRAY_SIZE(a)		(sizeof(a) / sizeof((a)[0]))
#define MIN(a, b)		((a) < (b) ? (a) : (b))

/*
 * A vCPU waits for the answer to its event, so no honest kernel has more of
 * them under way than a VM may have vCPUs, plus one that concerns the VM.
 */
#define KVMI_MAX_QUEUED_EVENTS	(4096 + 1)

/* Commands under way, or given up on whose reply may still come. */
#define KVMI_MAX_LATE_REPLIES	1024

/* How many commands of a batch are under way at once. */
#define KVMI_BATCH_WINDOW	256

/* One event as it came, to be handed to kvmi_event_next(). */
struct kvmi_raw_event {
	STAILQ_ENTRY(kvmi_raw_event) entry;
	struct kvmi_msg_hdr hdr;
	__u8 payload[];
};

/*
 * One command whose reply somebody waits for; lives on that thread's stack, or
 * in its batch.
 */
struct kvmi_command {
	TAILQ_ENTRY(kvmi_command) entry;
	__u16 id;
	__u32 seq;
	void *reply;
	size_t reply_size;		/* of the room at @reply, then of the data */
	int err;			/* what KVM answered, as a negated errno */
	bool done;
};

#define KVMI_NO_PAGE		(~0ULL)

struct kvmi_late_reply {
	__u16 id;
	__u32 seq;
};

struct kvmi_dom {
	int fd;
	struct kvmi_hello hello;
	int timeout_ms;

	/* Not to be executed, whatever else is said.  Taken without @lock. */
	pthread_mutex_t access_lock;
	__u64 no_exec;			/* the page's gpa, or KVMI_NO_PAGE */

	/*
	 * One mutex for all below.  Of the threads that wait for something
	 * from the socket one, the reader, sleeps in poll() without the mutex;
	 * the others sleep on @wake, which is broadcast at every change.
	 */
	pthread_mutex_t lock;
	pthread_cond_t wake;
	bool reading;
	bool sending;

	TAILQ_HEAD(kvmi_commands, kvmi_command) commands;	/* the oldest first */
	__u32 seq;
	unsigned int nr_commands;
	struct kvmi_late_reply late[KVMI_MAX_LATE_REPLIES];
	unsigned int nr_late;

	STAILQ_HEAD(, kvmi_raw_event) events;
	unsigned int nr_events;

	/* What kvmi_dom_poll_fd() gives out: the socket and @queue_fd together. */
	int poll_fd;
	int queue_fd;			/* an eventfd: events are queued, or the end is */
	bool queue_set;

	int broken;			/* negated errno once the connection ended */
	char why[200];			/* what kvmi_error() says from then on */

	size_t rx_len;
	__u8 rx[sizeof(struct kvmi_msg_hdr) + UINT16_MAX];
};

/* error.c */
int kvmi_fail(int err, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
int kvmi_fail_prefix(int err, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
int kvmi_errno_of_kvm(__s32 err);
const char *kvmi_reason_of_kvm(int err);

/* auth.c */
#define KVMI_NONCE_SIZE		32
#define KVMI_MAC_SIZE		32

int kvmi_auth_check(const struct kvmi_auth *auth);
void kvmi_auth_cookie(const struct kvmi_auth *auth, __u8 hash[KVMI_COOKIE_HASH_SIZE]);
void kvmi_auth_mac(const struct kvmi_auth *auth, const char *label,
		   const void *hello, size_t hello_size,
		   const void *answer, size_t answer_size,
		   __u8 mac[KVMI_MAC_SIZE]);
bool kvmi_auth_equal(const __u8 *a, const __u8 *b, size_t size);
int kvmi_auth_nonce(__u8 nonce[KVMI_NONCE_SIZE]);

/* time.c */
__u64 kvmi_deadline(int timeout_ms);
int kvmi_time_left(__u64 deadline);

/* domain.c */
int kvmi_command(struct kvmi_dom *dom, __u16 id, const void *req,
		 size_t req_size, void *reply, size_t reply_min,
		 size_t reply_max);
int kvmi_command2(struct kvmi_dom *dom, __u16 id, const void *req,
		  size_t req_size, const void *data, size_t data_size,
		  void *reply, size_t reply_min, size_t reply_max);
int kvmi_command_any(struct kvmi_dom *dom, __u16 id, const void *req,
		     size_t req_size, const void *data, size_t data_size,
		     void *reply, size_t room, size_t *size);
int kvmi_run_commands(struct kvmi_dom *dom, struct kvmi_command *cmds,
		      unsigned int n, __u8 *msgs, size_t size);
int kvmi_check_reply(const struct kvmi_command *cmd, size_t reply_min);
int kvmi_send(struct kvmi_dom *dom, const void *msg, size_t size,
	      __u64 deadline);
int kvmi_wait_event(struct kvmi_dom *dom, __u64 deadline,
		    struct kvmi_raw_event **raw);

/* vm.c */
int kvmi_start_no_exec(struct kvmi_dom *dom, __u64 gpa);
void kvmi_end_no_exec(struct kvmi_dom *dom);

/* event.c */
int kvmi_event_check(const struct kvmi_msg_hdr *hdr, const __u8 *payload,
		     char *why, size_t why_size);

#endif /* LIBKVMI_INTERNAL_H */
