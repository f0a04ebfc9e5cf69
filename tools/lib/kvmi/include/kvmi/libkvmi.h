/* SPDX-License-Identifier: GPL-2.0 */
#ifndef LIBKVMI_H
#define LIBKVMI_H

/*
 * libkvmi: the tool's side of KVM introspection.
 *
 * A virtual machine monitor (VMM) connects to the tool's socket, says hello,
 * and then gives the socket to KVM, which from there on speaks the protocol of
 * linux/kvmi.h.  So a tool does, in this order:
 *
 *	l = kvmi_listener_open(path);
 *	fd = kvmi_listener_accept(l);
 *	kvmi_handshake_tool(fd, NULL, &hello, timeout);
 *	dom = kvmi_dom_open(fd, &hello);
 *	... commands, kvmi_event_next(), kvmi_event_reply() ...
 *	kvmi_dom_close(dom);
 *
 * Functions that can fail return a negated errno; kvmi_error() then has a text
 * that names the message and the field at fault.  What KVM itself answered is
 * translated: -EPERM is KVM_EPERM (the VMM did not allow it), -ENOSYS is
 * KVM_ENOSYS (the kernel does not know the message) and so on.  The library's
 * own errors are distinct from KVM's:
 *
 *	-ETIMEDOUT	no answer in time; the command may still be carried out
 *	-ECONNRESET	the connection has ended: VM gone, or unhooked
 *	-ESHUTDOWN	kvmi_dom_shutdown() was called
 *	-EPROTO		the other side broke the protocol; the connection is closed
 *
 * All functions that take a struct kvmi_dom may be called from several threads
 * at once, kvmi_dom_close() excepted.
 */

#include <stdbool.h>
#include <stddef.h>
#include <linux/kvmi.h>

#ifdef __cplusplus
extern "C" {
#endif

/* --- errors ------------------------------------------------------------- */

/* The text of the calling thread's last error; never NULL. */
const char *kvmi_error(void);

/* "KVMI_VM_READ_PHYSICAL" for 12, "message 4711" for what is not known. */
const char *kvmi_message_name(unsigned int id);

/* "KVMI_VCPU_EVENT_PF" for 17, "event 4711" for what is not known. */
const char *kvmi_event_name(unsigned int id);

/* --- the socket on which the tool waits for VMMs ------------------------- */

struct kvmi_listener;

int kvmi_listener_open(const char *path, struct kvmi_listener **listener);
int kvmi_listener_open_vsock(unsigned int cid, unsigned int port,
			     struct kvmi_listener **listener);
int kvmi_listener_fd(const struct kvmi_listener *listener);
int kvmi_listener_accept(struct kvmi_listener *listener);
void kvmi_listener_close(struct kvmi_listener *listener);

/* --- the handshake -------------------------------------------------------- */

#define KVMI_HELLO_SIZE		104	/* what a VMM sends */
#define KVMI_HELLO_MIN_SIZE	96	/* older ones, without max_gpa */
#define KVMI_HELLO_ANSWER_SIZE	24	/* what the tool answers */
#define KVMI_HELLO_MAX_SIZE	4096	/* more is refused, in both directions */
#define KVMI_HELLO_NAME_SIZE	64
#define KVMI_COOKIE_HASH_SIZE	20

/* What a VMM says about the VM that it connects. */
struct kvmi_hello {
	__u8 uuid[16];
	__s64 start_time;			/* seconds since the epoch */
	char name[KVMI_HELLO_NAME_SIZE];	/* always terminated */
	__u64 max_gpa;				/* 0 if the VMM did not tell */
};

/* A key that VMM and tool share. */
struct kvmi_auth {
	const void *key;
	size_t key_size;
	unsigned int flags;			/* KVMI_AUTH_* */
};

/* Both sides must prove that they have the key; the hash of it does not do. */
#define KVMI_AUTH_MUTUAL	(1U << 0)

int kvmi_handshake_tool(int fd, const __u8 *cookie_hash,
			struct kvmi_hello *hello, int timeout_ms);
int kvmi_handshake_tool_auth(int fd, const struct kvmi_auth *auth,
			     struct kvmi_hello *hello, int timeout_ms);

/* The same in steps that do not wait. */
struct kvmi_handshake;

int kvmi_handshake_new(int fd, const struct kvmi_auth *auth,
		       struct kvmi_handshake **handshake);
int kvmi_handshake_step(struct kvmi_handshake *handshake);
short kvmi_handshake_events(const struct kvmi_handshake *handshake);
const struct kvmi_hello *kvmi_handshake_hello(const struct kvmi_handshake *handshake);
bool kvmi_handshake_is_mutual(const struct kvmi_handshake *handshake);
void kvmi_handshake_free(struct kvmi_handshake *handshake);

/* The other side of it, for what acts in a VMM's place. */
struct kvmi_greeting;

void kvmi_hello_pack(const struct kvmi_hello *hello, __u8 buf[KVMI_HELLO_SIZE]);
int kvmi_hello_check_answer_size(__u32 size);
int kvmi_greeting_new(const struct kvmi_hello *hello, const struct kvmi_auth *auth,
		      struct kvmi_greeting **greeting);
const void *kvmi_greeting_hello(const struct kvmi_greeting *greeting, size_t *size);
int kvmi_greeting_answer(struct kvmi_greeting *greeting, const void *answer,
			 size_t size, const void **proof, size_t *proof_size);
void kvmi_greeting_free(struct kvmi_greeting *greeting);

/* --- a connected VM ------------------------------------------------------- */

struct kvmi_dom;

#define KVMI_DEFAULT_TIMEOUT	10000	/* ms */

int kvmi_dom_open(int fd, const struct kvmi_hello *hello, struct kvmi_dom **dom);
void kvmi_dom_shutdown(struct kvmi_dom *dom);
void kvmi_dom_close(struct kvmi_dom *dom);
void kvmi_dom_set_timeout(struct kvmi_dom *dom, int timeout_ms);
const struct kvmi_hello *kvmi_dom_hello(const struct kvmi_dom *dom);
int kvmi_dom_fd(const struct kvmi_dom *dom);
int kvmi_dom_poll_fd(struct kvmi_dom *dom);

/* --- commands that concern the VM ----------------------------------------- */

int kvmi_get_version(struct kvmi_dom *dom, struct kvmi_get_version_reply *reply);
int kvmi_vm_check_command(struct kvmi_dom *dom, __u16 id);
int kvmi_vm_check_event(struct kvmi_dom *dom, __u16 id);
int kvmi_vm_get_info(struct kvmi_dom *dom, struct kvmi_vm_get_info_reply *reply);
int kvmi_vm_get_max_gfn(struct kvmi_dom *dom, __u64 *gfn);
int kvmi_vm_control_events(struct kvmi_dom *dom, __u16 event_id, bool enable);
int kvmi_vm_control_cleanup(struct kvmi_dom *dom, bool enable);
int kvmi_vm_read_physical(struct kvmi_dom *dom, __u64 gpa, void *buf, size_t size);
int kvmi_vm_write_physical(struct kvmi_dom *dom, __u64 gpa, const void *buf,
			   size_t size);
int kvmi_vm_pause_vcpu(struct kvmi_dom *dom, __u16 vcpu, bool wait);
int kvmi_vm_set_page_access(struct kvmi_dom *dom,
			    const struct kvmi_page_access_entry *entries,
			    size_t count, size_t *done);

/* --- commands that concern one vCPU --------------------------------------- */

#define KVMI_XSAVE_SIZE		4096
#define KVMI_NO_ADDRESS		(~0ULL)	/* a gva or gpa that is not known */

struct kvmi_registers {
	__u32 mode;			/* bytes per address: 2, 4 or 8 */
	struct kvm_regs regs;
	struct kvm_sregs sregs;
};

int kvmi_vcpu_control_events(struct kvmi_dom *dom, __u16 vcpu, __u16 event_id,
			     bool enable);
int kvmi_vcpu_control_pf(struct kvmi_dom *dom, __u16 vcpu, bool enable,
			 __u8 flags);
int kvmi_vcpu_get_registers(struct kvmi_dom *dom, __u16 vcpu,
			    struct kvmi_registers *registers,
			    struct kvm_msr_entry *msrs, unsigned int nmsrs);
int kvmi_vcpu_set_registers(struct kvmi_dom *dom, __u16 vcpu,
			    const struct kvm_regs *regs);
int kvmi_vcpu_get_info(struct kvmi_dom *dom, __u16 vcpu,
		       struct kvmi_vcpu_get_info_reply *reply);
int kvmi_vcpu_get_cpuid(struct kvmi_dom *dom, __u16 vcpu, __u32 function,
			__u32 index, struct kvmi_vcpu_get_cpuid_reply *reply);
int kvmi_vcpu_control_cr(struct kvmi_dom *dom, __u16 vcpu, __u8 cr, bool enable);
int kvmi_vcpu_control_msr(struct kvmi_dom *dom, __u16 vcpu, __u32 msr,
			  bool enable);
int kvmi_vcpu_control_singlestep(struct kvmi_dom *dom, __u16 vcpu, bool enable);
int kvmi_vcpu_inject_exception(struct kvmi_dom *dom, __u16 vcpu, __u8 nr,
			       __u32 error_code, __u64 address);
int kvmi_vcpu_get_xcr(struct kvmi_dom *dom, __u16 vcpu, __u8 xcr, __u64 *value);
int kvmi_vcpu_get_xsave(struct kvmi_dom *dom, __u16 vcpu,
			__u8 area[KVMI_XSAVE_SIZE]);
int kvmi_vcpu_set_xsave(struct kvmi_dom *dom, __u16 vcpu,
			const __u8 area[KVMI_XSAVE_SIZE]);
int kvmi_vcpu_get_mtrr_type(struct kvmi_dom *dom, __u16 vcpu, __u64 gpa,
			    __u8 *type);
int kvmi_vcpu_translate_gva(struct kvmi_dom *dom, __u16 vcpu, __u64 gva,
			    __u64 *gpa);

/* --- many commands at once --------------------------------------------------- */

struct kvmi_batch;

int kvmi_batch_new(struct kvmi_dom *dom, struct kvmi_batch **batch);
void kvmi_batch_free(struct kvmi_batch *batch);
void kvmi_batch_reset(struct kvmi_batch *batch);
int kvmi_batch_add(struct kvmi_batch *batch, __u16 id, const void *req,
		   size_t req_size, void *reply, size_t reply_min,
		   size_t reply_max);
int kvmi_batch_read_physical(struct kvmi_batch *batch, __u64 gpa, void *buf,
			     __u16 size);
int kvmi_batch_write_physical(struct kvmi_batch *batch, __u64 gpa,
			      const void *buf, __u16 size);
int kvmi_batch_pause_vcpu(struct kvmi_batch *batch, __u16 vcpu, bool wait);
int kvmi_batch_control_events(struct kvmi_batch *batch, __u16 vcpu,
			      __u16 event_id, bool enable);
int kvmi_batch_control_cr(struct kvmi_batch *batch, __u16 vcpu, __u8 cr,
			  bool enable);
int kvmi_batch_control_msr(struct kvmi_batch *batch, __u16 vcpu, __u32 msr,
			   bool enable);
int kvmi_batch_control_singlestep(struct kvmi_batch *batch, __u16 vcpu,
				  bool enable);
int kvmi_batch_run(struct kvmi_batch *batch);
int kvmi_batch_result(const struct kvmi_batch *batch, unsigned int i);
size_t kvmi_batch_reply_size(const struct kvmi_batch *batch, unsigned int i);

/* --- any command --------------------------------------------------------------- */

int kvmi_dom_command(struct kvmi_dom *dom, __u16 id, const void *req,
		     size_t req_size, void *reply, size_t room, size_t *size);

/* --- events ---------------------------------------------------------------- */

struct kvmi_event {
	__u16 id;			/* KVMI_VM_EVENT_* or KVMI_VCPU_EVENT_* */
	__u16 vcpu;			/* vCPU events only, like all that follows */
	__u32 seq;
	struct kvmi_vcpu_event_arch arch;
	union {
		struct kvmi_vcpu_event_breakpoint breakpoint;
		struct kvmi_vcpu_event_cr cr;
		struct kvmi_vcpu_event_trap trap;
		struct kvmi_vcpu_event_xsetbv xsetbv;
		struct kvmi_vcpu_event_descriptor descriptor;
		struct kvmi_vcpu_event_msr msr;
		struct kvmi_vcpu_event_pf pf;
		struct kvmi_vcpu_event_singlestep singlestep;
	};
};

int kvmi_event_next(struct kvmi_dom *dom, struct kvmi_event *event,
		    int timeout_ms);
#define KVMI_EVENT_MAX_SIZE	(8 + 65535)

int kvmi_event_next_raw(struct kvmi_dom *dom, void *buf, size_t room,
			size_t *size, int timeout_ms);
int kvmi_event_parse(const void *buf, size_t size, struct kvmi_event *event);
int kvmi_event_reply(struct kvmi_dom *dom, const struct kvmi_event *event,
		     __u8 action);
int kvmi_event_reply_data(struct kvmi_dom *dom, const struct kvmi_event *event,
			  __u8 action, const void *data, size_t size);
int kvmi_event_reply_value(struct kvmi_dom *dom, const struct kvmi_event *event,
			   __u64 value);

/* --- stopping, stepping, breakpoints ------------------------------------------- */

struct kvmi_debug;

/* What kvmi_debug_event() found an event to be. */
enum kvmi_debug_result {
	KVMI_DEBUG_FOREIGN,		/* none of its business: answer it */
	KVMI_DEBUG_HANDLED,		/* answered, now or later */
	KVMI_DEBUG_HIT,			/* a breakpoint; the vCPU waits */
	KVMI_DEBUG_STEPPED,		/* kvmi_debug_step() is done; it waits */
	KVMI_DEBUG_PAUSED,		/* kvmi_debug_pause() is done; it waits */
};

int kvmi_debug_new(struct kvmi_dom *dom, struct kvmi_debug **debug);
void kvmi_debug_free(struct kvmi_debug *debug);
void kvmi_debug_on_restore(struct kvmi_debug *debug,
			   int (*restore)(void *data, __u16 vcpu, __u64 gpa),
			   void *data);
int kvmi_debug_insert(struct kvmi_debug *debug, __u64 gpa);
int kvmi_debug_remove(struct kvmi_debug *debug, __u64 gpa);
int kvmi_debug_event(struct kvmi_debug *debug, const struct kvmi_event *event);
int kvmi_debug_pause(struct kvmi_debug *debug, __u16 vcpu);
int kvmi_debug_step(struct kvmi_debug *debug, __u16 vcpu);
int kvmi_debug_continue(struct kvmi_debug *debug, __u16 vcpu);
int kvmi_debug_waiting(struct kvmi_debug *debug, __u16 vcpu,
		       struct kvmi_event *event);
int kvmi_debug_finish(struct kvmi_debug *debug, int timeout_ms);

/* --- an event loop, for those who have none --------------------------------- */

struct kvmi_loop;

/* All but @event can be NULL. */
struct kvmi_loop_handlers {
	/* A VM has connected; the loop closes @dom after gone(). */
	void (*connected)(struct kvmi_dom *dom, void *data);
	/* Answer it now or later, from any thread. */
	void (*event)(struct kvmi_dom *dom, const struct kvmi_event *event,
		      void *data);
	/* The connection has ended; @err as kvmi_event_next() gives it. */
	void (*gone)(struct kvmi_dom *dom, int err, void *data);
	/* Somebody connected, and the handshake failed. */
	void (*refused)(int err, void *data);
};

int kvmi_loop_new(struct kvmi_loop **loop);
void kvmi_loop_free(struct kvmi_loop *loop);
int kvmi_loop_add_listener(struct kvmi_loop *loop, struct kvmi_listener *listener,
			   const struct kvmi_auth *auth,
			   const struct kvmi_loop_handlers *handlers, void *data);
int kvmi_loop_add_dom(struct kvmi_loop *loop, struct kvmi_dom *dom,
		      const struct kvmi_loop_handlers *handlers, void *data);
int kvmi_loop_remove_dom(struct kvmi_loop *loop, struct kvmi_dom *dom);
int kvmi_loop_dispatch(struct kvmi_loop *loop, int timeout_ms);
int kvmi_loop_run(struct kvmi_loop *loop);
void kvmi_loop_stop(struct kvmi_loop *loop);
int kvmi_loop_fd(const struct kvmi_loop *loop);

#ifdef __cplusplus
}
#endif

#endif /* LIBKVMI_H */
