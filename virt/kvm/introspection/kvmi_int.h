/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef __KVMI_INT_H
#define __KVMI_INT_H

/*
 * KVM introspection: what its own files share.
 *
 * Objects and their lifetimes
 *
 *   struct kvmi_vm		part of struct kvm
 *   struct kvm_introspection	"session": from KVM_INTROSPECTION_HOOK until
 *				UNHOOK, the next HOOK or the end of the VM.
 *				It is dead (kvmi_is_dead()) from the moment
 *				the connection is lost; a dead session sends
 *				nothing and restricts nothing.
 *   struct kvm_vcpu_introspection
 *				per vCPU, as long as the session; vCPUs that
 *				are created later get theirs on creation
 *
 * vCPU threads find the session in a kvm->srcu section, which they leave when
 * they block on the tool; kvm_introspection.srcu keeps the session meanwhile.
 * vcpu->kvmi is valid for whoever has the session, by one or the other or by
 * being its thread, and for nobody else: see kvmi_vcpu().
 *
 * Locks, outermost first
 *
 *   kvm->kvmi.lock		ioctls
 *   kvm->lock			vCPU creation against HOOK
 *   kvmi->rx_lock		reading from the socket, VM commands
 *   kvm->slots_lock		page access against memslot updates
 *   kvm->mmu_lock		page access against faults
 *   kvmi->tx_lock		writing to the socket
 *   vcpui->lock		jobs and the event reply of one vCPU
 */

#include <linux/kvmi_arch.h>
#include <linux/net.h>
#include <linux/poll.h>
#include <linux/rcuwait.h>
#include <linux/semaphore.h>
#include <linux/skbuff.h>
#include <linux/srcu.h>
#include <linux/uuid.h>
#include <linux/workqueue.h>

#undef pr_fmt
#define pr_fmt(fmt) "kvmi: " fmt

/* Ids below these have an allow bit; events are counted as messages are. */
#define KVMI_NUM_COMMANDS						\
	((int)KVMI_NEXT_VM_MESSAGE > (int)KVMI_NEXT_VCPU_MESSAGE ?	\
	 (int)KVMI_NEXT_VM_MESSAGE : (int)KVMI_NEXT_VCPU_MESSAGE)
/* The same for those beyond version 1, which are far from the others. */
#define KVMI_FIRST_EXT_COMMAND	KVMI_VM_MESSAGE_ID(KVMI_EXT_MESSAGE_BASE)
#define KVMI_NUM_EXT_COMMANDS	(KVMI_NEXT_VM_EXT_MESSAGE - KVMI_FIRST_EXT_COMMAND)
#define KVMI_NUM_EVENTS							\
	((int)KVMI_NEXT_VM_EVENT > (int)KVMI_NEXT_VCPU_EVENT ?		\
	 (int)KVMI_NEXT_VM_EVENT : (int)KVMI_NEXT_VCPU_EVENT)

#define KVMI_PAGE_ACCESS_ALL \
	(KVMI_PAGE_ACCESS_R | KVMI_PAGE_ACCESS_W | KVMI_PAGE_ACCESS_X)

/* Commands that may wait for one vCPU, a bound on the memory they take. */
#define KVMI_MAX_JOBS		1024

/* Ids are even for the VM, odd for a vCPU. */
static inline bool kvmi_is_vcpu_id(u16 id)
{
	return id & 1;
}

struct kvm_introspection {
	struct kvm *kvm;
	struct srcu_struct srcu;
	uuid_t uuid;

	/* sock.c */
	struct socket *sock;
	wait_queue_head_t *sock_wqh;
	wait_queue_entry_t sock_wait;
	poll_table sock_poll;
	struct work_struct hangup_work;
	struct sk_buff *rx_spent;	/* read, but to be freed later */
	struct semaphore tx_lock;	/* one message at a time, if they can be cut */
	unsigned long flags;
#define KVMI_DEAD		0

	/* recv.c */
	struct task_struct *thread;
	struct rcuwait thread_wait;
	bool thread_kicked;
	bool thread_done;
	DECLARE_BITMAP(waiting, KVM_MAX_VCPUS);
	struct mutex rx_lock;		/* rx_buf, rx_have, the order of messages */
	u32 rx_have;
	u8 *rx_buf;

	/* What the VMM allows: written under kvm->kvmi.lock */
	DECLARE_BITMAP(cmd_allowed, KVMI_NUM_COMMANDS + KVMI_NUM_EXT_COMMANDS);
	DECLARE_BITMAP(event_allowed, KVMI_NUM_EVENTS);
	/* What the tool asked for */
	DECLARE_BITMAP(vm_events, KVMI_NUM_EVENTS);
	/* Give back what was intercepted for the tool when it goes? */
	bool restore_on_unhook;

	atomic_t ev_seq;
};

enum kvmi_event_state {
	KVMI_EV_NONE,
	KVMI_EV_SENT,
	KVMI_EV_REPLIED,
};

/*
 * What may be done to a page: the accesses that the tool has let go on, and these
 * with those that are none of its business.
 */
struct kvmi_pf_page {
	gfn_t gfn;
	u8 reported;
	u8 relaxed;
};

/* More than what one instruction or delivery uses, all page tables for that included */
struct kvmi_pf_pages {
	u8 nr;
	u8 next;
	struct kvmi_pf_page page[64];
};

/* An access that breaks a restriction, until it is reported and resolved. */
struct kvmi_pf {
	bool pending;
	/* It was made while an interrupt or exception was being delivered. */
	bool delivering;
	/* Its kind (one bit), and whose it is. */
	u8 access;
	enum kvmi_pf_cause cause;
	gva_t gva;
	gpa_t gpa;

	/* What one instruction may do to which pages, and no other one */
	struct kvmi_arch_insn insn;
	struct kvmi_pf_pages insn_may;
	/* The CPU is carrying out that instruction. */
	bool native;

	/* The same until what is being delivered is */
	struct kvmi_pf_pages delivery_may;
};

enum kvmi_inject_state {
	KVMI_INJECT_NONE,
	KVMI_INJECT_QUEUED,
	KVMI_INJECT_DELIVERED,
};

/* An exception of the tool's, until it is delivered and reported. */
struct kvmi_inject {
	enum kvmi_inject_state state;
	/* The guest is being entered with what @trap says. */
	bool entering;
	/* What @trap says was broken off, and will be delivered once more. */
	bool unfinished;
	u64 stamp;
	struct kvmi_vcpu_inject_exception exception;
	struct kvmi_vcpu_event_trap trap;
};

/* An instruction that the tool is asked about, until it is completed. */
struct kvmi_insn {
	bool pending;
	bool answered;
	struct kvmi_insn_event event;
	struct kvmi_arch_insn at;
};

struct kvm_vcpu_introspection {
	struct kvm_introspection *kvmi;
	struct rcuwait wait;
	bool kicked;

	spinlock_t lock;		/* jobs and ev */
	struct list_head jobs;
	unsigned int nr_jobs;
	struct {
		enum kvmi_event_state state;
		u16 id;
		u32 seq;
		u8 action;
		bool replied;
		/* Of @jobs, those that came before the reply */
		unsigned int nr_jobs;
		u8 reply_size;
		u8 reply[8];
	} ev;

	DECLARE_BITMAP(events, KVMI_NUM_EVENTS);
	atomic_t pause_requests;
	/* To be set when the event under way is replied to. */
	bool set_regs;
	struct kvm_regs regs;
	struct kvmi_pf pf;
	/* Events for page walks, too; the vCPU's thread only. */
	bool pf_walks;
	struct kvmi_inject inject;
	struct kvmi_insn insn;
	bool events_disallowed;
};

struct kvmi_job {
	struct list_head link;
	bool interrupted;	/* served before, but not answered */
	struct kvmi_msg_hdr hdr;
	u8 payload[];
};

/*
 * A command: @fn checks the request and sends one reply.  It returns 0, or
 * a negative errno when the reply could not be sent.
 */
struct kvmi_command {
	int (*fn)(const struct kvmi_request *req);
	u16 fixed_size;
};

#define KVMI_MAX_FIXED_SIZE	16

/* In a kvm->srcu section; NULL unless the VM is hooked. */
static inline struct kvm_vcpu_introspection *kvmi_vcpu(struct kvm_vcpu *vcpu)
{
	struct kvm *kvm = vcpu->kvm;

	return srcu_dereference(kvm->kvmi.session, &kvm->srcu) ? vcpu->kvmi :
								 NULL;
}

static inline bool kvmi_is_event_under_way(struct kvm_vcpu_introspection *vcpui,
					   u16 id)
{
	return vcpui->ev.state != KVMI_EV_NONE && vcpui->ev.id == id;
}

/* Is the vCPU, on whose thread this is, still at the instruction noted? */
static inline bool kvmi_is_at_insn(struct kvm_vcpu *vcpu,
				   const struct kvmi_arch_insn *insn)
{
	struct kvmi_arch_insn now;

	kvmi_arch_get_insn(vcpu, &now);

	return insn->stamp == now.stamp && insn->ip == now.ip;
}

/* Before the send; events are numbered in the order of that. */
static inline u32 kvmi_get_seq(struct kvm_introspection *kvmi)
{
	return atomic_inc_return(&kvmi->ev_seq);
}

/* The event was not sent: unless there was another one, the next is @seq. */
static inline void kvmi_put_seq(struct kvm_introspection *kvmi, u32 seq)
{
	atomic_cmpxchg(&kvmi->ev_seq, seq, seq - 1);
}

static inline bool kvmi_is_dead(struct kvm_introspection *kvmi)
{
	return test_bit(KVMI_DEAD, &kvmi->flags);
}

/* sock.c */
int kvmi_sock_open(struct kvm_introspection *kvmi, int fd);
void kvmi_sock_watch(struct kvm_introspection *kvmi);
void kvmi_sock_unwatch(struct kvm_introspection *kvmi);
void kvmi_sock_close(struct kvm_introspection *kvmi);
bool kvmi_sock_readable(struct kvm_introspection *kvmi);
bool kvmi_sock_is_hung_up(struct kvm_introspection *kvmi);
int kvmi_sock_recv(struct kvm_introspection *kvmi, void *buf, size_t size);
void kvmi_sock_free_spent(struct kvm_introspection *kvmi);
int kvmi_sock_send(struct kvm_introspection *kvmi, struct kvec *vec,
		   size_t n, size_t size);
bool kvmi_sock_try_send(struct kvm_introspection *kvmi, struct kvec *vec,
			size_t n, size_t size);
void kvmi_kill(struct kvm_introspection *kvmi, const char *why);

/* recv.c */
int kvmi_recv_create(struct kvm_introspection *kvmi);
void kvmi_recv_start(struct kvm_introspection *kvmi);
void kvmi_recv_cancel(struct kvm_introspection *kvmi);
void kvmi_recv_stop(struct kvm_introspection *kvmi);
void kvmi_recv(struct kvm_introspection *kvmi, struct kvm_vcpu *self);
bool kvmi_recv_has_more(struct kvm_introspection *kvmi);
void kvmi_recv_leave(struct kvm_introspection *kvmi, struct kvm_vcpu *vcpu);
void kvmi_recv_kick(struct kvm_introspection *kvmi);
void kvmi_recv_kick_thread(struct kvm_introspection *kvmi);

/* dispatch.c */
bool kvmi_is_known_command(u16 id);
int kvmi_command_bit(u16 id);
bool kvmi_is_known_event(u16 id);
bool kvmi_is_command_allowed(struct kvm_introspection *kvmi, u16 id);
bool kvmi_is_event_allowed(struct kvm_introspection *kvmi, u16 id);
void kvmi_enable_event(struct kvm_introspection *kvmi, unsigned long *enabled,
		       u16 id, bool enable);
void kvmi_dispatch_vm(struct kvm_introspection *kvmi,
		      const struct kvmi_msg_hdr *hdr, const void *payload);
int kvmi_dispatch_vcpu(struct kvm_introspection *kvmi,
		       const struct kvmi_msg_hdr *hdr, const void *payload);
int kvmi_dispatch_job(struct kvm_introspection *kvmi, struct kvm_vcpu *vcpu,
		      const struct kvmi_job *job);

/* vm_cmd.c */
int kvmi_cmd_get_version(const struct kvmi_request *req);
int kvmi_cmd_vm_check_command(const struct kvmi_request *req);
int kvmi_cmd_vm_check_event(const struct kvmi_request *req);
int kvmi_cmd_vm_get_info(const struct kvmi_request *req);
int kvmi_cmd_vm_control_events(const struct kvmi_request *req);
int kvmi_cmd_vm_pause_vcpu(const struct kvmi_request *req);
int kvmi_cmd_vm_control_cleanup(const struct kvmi_request *req);
int kvmi_cmd_vm_get_max_gfn(const struct kvmi_request *req);
int kvmi_vm_event_unhook(struct kvm_introspection *kvmi);

/* physmem.c */
int kvmi_cmd_vm_read_physical(const struct kvmi_request *req);
int kvmi_cmd_vm_write_physical(const struct kvmi_request *req);

/* access.c */
int kvmi_cmd_vm_set_page_access(const struct kvmi_request *req);
void kvmi_access_lift_all(struct kvm *kvm);

/* vcpu.c */
struct kvm_vcpu_introspection *kvmi_vcpu_alloc(struct kvm_introspection *kvmi);
void kvmi_vcpu_free(struct kvm_vcpu_introspection *vcpui);
void kvmi_vcpu_kick(struct kvm_vcpu *vcpu);
int kvmi_vcpu_add_job(struct kvm_vcpu *vcpu, const struct kvmi_msg_hdr *hdr,
		      const void *payload);
const char *kvmi_vcpu_take_reply(struct kvm_vcpu *vcpu,
				 const struct kvmi_msg_hdr *hdr,
				 const void *payload);
bool kvmi_vcpu_awaits_reply(struct kvm_vcpu_introspection *vcpui);
bool kvmi_vcpu_has_reply(struct kvm_vcpu_introspection *vcpui);
int kvmi_vcpu_event(struct kvm_vcpu *vcpu, u16 id, unsigned long actions,
		    const void *data, size_t size);
int kvmi_vcpu_event_value(struct kvm_vcpu *vcpu, u16 id, unsigned long actions,
			  const void *data, size_t size, u8 reply_size,
			  u64 *value);
int kvmi_vcpu_crash(struct kvm_vcpu *vcpu);

/* vcpu_cmd.c */
int kvmi_cmd_vcpu_control_events(const struct kvmi_request *req);
int kvmi_cmd_vcpu_set_registers(const struct kvmi_request *req);
int kvmi_cmd_vcpu_translate_gva(const struct kvmi_request *req);

/* inject.c */
int kvmi_cmd_vcpu_inject_exception(const struct kvmi_request *req);
void kvmi_inject_enter(struct kvm_vcpu *vcpu,
		       struct kvm_vcpu_introspection *vcpui);
void kvmi_inject_left(struct kvm_vcpu *vcpu,
		      struct kvm_vcpu_introspection *vcpui);
bool kvmi_inject_has_work(struct kvm_vcpu_introspection *vcpui);
int kvmi_trap_resolve(struct kvm_vcpu *vcpu,
		      struct kvm_vcpu_introspection *vcpui);

/* singlestep.c */
bool kvmi_is_singlestepping(struct kvm_vcpu_introspection *vcpui);
int kvmi_cmd_vcpu_control_singlestep(const struct kvmi_request *req);
int kvmi_singlestep_resolve(struct kvm_vcpu *vcpu,
			    struct kvm_vcpu_introspection *vcpui);

/* pf.c */
int kvmi_pf_resolve(struct kvm_vcpu *vcpu,
		    struct kvm_vcpu_introspection *vcpui);
void kvmi_pf_enter(struct kvm_vcpu *vcpu,
		   struct kvm_vcpu_introspection *vcpui);
bool kvmi_pf_native_faulted(struct kvm_vcpu *vcpu, const struct kvmi_pf *pf);
void kvmi_pf_left(struct kvm_vcpu *vcpu,
		  struct kvm_vcpu_introspection *vcpui);

/* insn.c */
int kvmi_insn_resolve(struct kvm_vcpu *vcpu,
		      struct kvm_vcpu_introspection *vcpui);

#endif /* __KVMI_INT_H */
