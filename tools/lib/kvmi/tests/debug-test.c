// SPDX-License-Identifier: GPL-2.0
/*
 * Breakpoints and steps, on a model of a VM: vCPUs that are threads and execute
 * bytes of a memory that they share, and a kernel that stops them as KVM does.
 * What the model executes is compared with what the debugger has seen.
 */

#include <errno.h>
#include <pthread.h>
#include <kvmi/libkvmi.h>

#include "peer.h"
#include "tap.h"

#define VCPUS	3
#define CODE	0x3000			/* a loop of LENGTH instructions of one byte */
#define LENGTH	8
#define INT3	0xcc
#define IF	0x200
#define FLAGS	(IF | 2)

struct vcpu {
	unsigned int nr;
	pthread_t thread;
	pthread_mutex_t lock;		/* held for the length of an instruction */
	pthread_cond_t wake;
	unsigned int pauses;
	bool step;
	bool waiting;			/* for an answer */
	uint8_t action;
	uint32_t seq;
	uint64_t ip;
	uint64_t flags, new_flags;	/* the latter are set with the answer */
	bool pf;			/* page faults are reported */
	unsigned int open_windows;	/* an interrupt could have come between */
	unsigned int wrong_flags;	/* emulated with others than the guest's */
	unsigned int emulated_int3;
	unsigned int fail_steps;	/* so many steps end before they are made */
	uint64_t executed[LENGTH];
	uint64_t foreign;		/* INT3 that was given to the guest */
	bool stop;
};

static struct vcpu vcpus[VCPUS];
static struct peer peer;
static pthread_mutex_t send_lock = PTHREAD_MUTEX_INITIALIZER;
static uint32_t next_seq;
static bool gone;
static bool cannot_step;		/* a CPU without single-stepping */
static uint8_t code_access;		/* what is allowed on the page of CODE */

static void reply(const struct peer_msg *msg, int err, const void *data, size_t size)
{
	pthread_mutex_lock(&send_lock);
	peer_reply(peer.fd, msg, err, data, size);
	pthread_mutex_unlock(&send_lock);
}

/* Called with v->lock held: report, and wait for the answer. */
static uint8_t report(struct vcpu *v, uint16_t id, uint64_t gpa, bool failed)
{
	uint16_t own = id == 5 ? 16 : id == 17 ? 24 : id == 19 ? 8 : 0;
	uint8_t buf[8 + 576] = { 0 };

	put16(buf, 1);
	put16(buf + 2, 552 + own);
	put16(buf + 8, id);
	put16(buf + 16, 544);
	put16(buf + 18, v->nr);
	buf[24] = 8;
	put64(buf + 32 + 16 * 8, v->ip);
	put64(buf + 32 + 17 * 8, v->flags);
	if (id == 5) {
		put64(buf + 560, gpa);
		buf[568] = 1;
	} else if (id == 17) {
		put64(buf + 560, ~0ULL);
		put64(buf + 568, gpa);
		buf[576] = KVMI_PAGE_ACCESS_X;
	} else if (id == 19) {
		buf[560] = failed;
	}
	v->new_flags = 0;
	pthread_mutex_lock(&send_lock);
	v->seq = ++next_seq;
	put32(buf + 4, v->seq);
	v->waiting = true;
	peer_send_raw(peer.fd, buf, 8 + 552 + own);
	pthread_mutex_unlock(&send_lock);
	while (v->waiting && !__atomic_load_n(&gone, __ATOMIC_RELAXED))
		pthread_cond_wait(&v->wake, &v->lock);
	if (v->new_flags)
		v->flags = v->new_flags;
	return v->action;
}

static void execute(struct vcpu *v)
{
	v->executed[v->ip - CODE]++;
	if (++v->ip == CODE + LENGTH)
		v->ip = CODE;
}

static bool may_execute(void)
{
	return __atomic_load_n(&code_access, __ATOMIC_SEQ_CST) & KVMI_PAGE_ACCESS_X;
}

/* Without the right to execute its page, an instruction is KVM's to execute. */
static void emulate(struct vcpu *v)
{
	if (v->pf) {
		v->open_windows += !!(v->flags & IF);
		if (report(v, 17, v->ip, false) || gone)
			return;
	}
	v->wrong_flags += !(v->flags & IF);
	if (v->fail_steps)
		v->fail_steps--;
	else if (__atomic_load_n(&peer.memory[v->ip], __ATOMIC_SEQ_CST) == INT3)
		v->emulated_int3++;
	else
		execute(v);
}

static void *run_vcpu(void *arg)
{
	struct vcpu *v = arg;
	uint8_t byte;

	pthread_mutex_lock(&v->lock);
	/* A step that has begun is made, as the others wait for it. */
	while ((!v->stop || v->step || (cannot_step && (v->pf || v->pauses))) &&
	       !__atomic_load_n(&gone, __ATOMIC_RELAXED)) {
		if (v->pauses) {
			v->pauses--;
			report(v, 1, 0, false);
			continue;
		}
		if (v->step && v->fail_steps) {
			v->fail_steps--;
			report(v, 19, 0, true);
			continue;
		}
		if (!may_execute()) {
			emulate(v);
			continue;
		}
		byte = __atomic_load_n(&peer.memory[v->ip], __ATOMIC_SEQ_CST);
		if (byte == INT3) {
			if (report(v, 5, v->ip, false) == 0 && !gone) {
				v->foreign++;
				v->ip++;
			}
			continue;
		}
		execute(v);
		if (v->step)
			report(v, 19, 0, false);
		/* Let others have the lock. */
		pthread_mutex_unlock(&v->lock);
		usleep(20);
		pthread_mutex_lock(&v->lock);
	}
	pthread_mutex_unlock(&v->lock);
	return NULL;
}

static void take_answer(const struct peer_msg *msg)
{
	struct vcpu *v = &vcpus[get16(msg->data)];

	pthread_mutex_lock(&v->lock);
	must(v->waiting && v->seq == msg->seq);
	v->action = msg->data[8];
	v->waiting = false;
	pthread_cond_signal(&v->wake);
	pthread_mutex_unlock(&v->lock);
}

static bool kernel(struct peer *p, const struct peer_msg *msg)
{
	uint64_t gpa = get64(msg->data);
	uint16_t nr = get16(msg->data);
	uint8_t buf[16] = { 0 };
	struct vcpu *v;
	bool started;

	switch (msg->id) {
	case 1:
		take_answer(msg);
		return true;
	case 8:
		put32(buf, VCPUS);
		reply(msg, 0, buf, sizeof(buf));
		return true;
	case 12:
		if (gpa >= sizeof(p->memory))
			reply(msg, -2, NULL, 0);
		else
			reply(msg, 0, p->memory + gpa, get16(msg->data + 8));
		return true;
	case 14:
		must(get16(msg->data + 8) == 1);
		__atomic_store_n(&p->memory[gpa], msg->data[16], __ATOMIC_SEQ_CST);
		reply(msg, 0, NULL, 0);
		return true;
	case 16:
		/* The last one has not been started by the guest. */
		v = &vcpus[nr];
		pthread_mutex_lock(&v->lock);
		started = !v->stop || (cannot_step && v->waiting);
		v->pauses += started;
		pthread_mutex_unlock(&v->lock);
		reply(msg, started ? 0 : -11, NULL, 0);
		return true;
	case 20:
		must(get16(msg->data) == 1 && get64(msg->data + 8) == CODE);
		__atomic_store_n(&code_access, msg->data[16], __ATOMIC_SEQ_CST);
		reply(msg, 0, NULL, 0);
		return true;
	case 5:
		must(get16(msg->data + 8) == 17);
		v = &vcpus[nr];
		pthread_mutex_lock(&v->lock);
		v->pf = msg->data[10];
		pthread_mutex_unlock(&v->lock);
		reply(msg, 0, NULL, 0);
		return true;
	case 9:
		v = &vcpus[nr];
		pthread_mutex_lock(&v->lock);
		must(get64(msg->data + 8 + 16 * 8) == v->ip);
		v->new_flags = get64(msg->data + 8 + 17 * 8);
		reply(msg, v->waiting ? 0 : -95, NULL, 0);
		pthread_mutex_unlock(&v->lock);
		return true;
	case 27:
		if (cannot_step) {
			reply(msg, -95, NULL, 0);
			return true;
		}
		v = &vcpus[nr];
		pthread_mutex_lock(&v->lock);
		v->step = msg->data[8];
		pthread_mutex_unlock(&v->lock);
		reply(msg, 0, NULL, 0);
		return true;
	}
	reply(msg, -1000, NULL, 0);
	return true;
}

/* --- the tool ------------------------------------------------------------------- */

static struct kvmi_dom *dom;
static struct kvmi_debug *debug;
static pthread_t events_thread;
static unsigned int hits[VCPUS], stepped, paused, foreign, failures;
static uint64_t last_rip;
static bool auto_continue = true, finishing;

static void *take_events(void *arg)
{
	struct kvmi_event ev;
	int ret;

	(void)arg;
	while (kvmi_event_next(dom, &ev, -1) == 1) {
		ret = kvmi_debug_event(debug, &ev);
		last_rip = ev.arch.regs.rip;
		switch (ret) {
		case KVMI_DEBUG_FOREIGN:
			foreign++;
			kvmi_event_reply(dom, &ev, 0);
			break;
		case KVMI_DEBUG_HIT:
			__atomic_add_fetch(&hits[ev.vcpu], 1, __ATOMIC_RELEASE);
			ret = auto_continue ? kvmi_debug_continue(debug, ev.vcpu) : 0;
			/* kvmi_debug_finish() may have been faster. */
			if (ret && !(__atomic_load_n(&finishing, __ATOMIC_RELAXED) && ret == -ENOENT))
				failures++;
			break;
		case KVMI_DEBUG_STEPPED:
			__atomic_add_fetch(&stepped, 1, __ATOMIC_RELEASE);
			break;
		case KVMI_DEBUG_PAUSED:
			__atomic_add_fetch(&paused, 1, __ATOMIC_RELEASE);
			break;
		case KVMI_DEBUG_HANDLED:
			break;
		default:
			diag("%s", kvmi_error());
			failures++;
		}
	}
	return NULL;
}

#define wait_until(cond)						\
	({								\
		unsigned int __i;					\
									\
		for (__i = 0; !(cond) && __i < 60000; __i++)		\
			usleep(1000);					\
		ok(cond, "%s", #cond);					\
	})

static uint64_t executed(unsigned int vcpu, unsigned int offset)
{
	uint64_t n;

	pthread_mutex_lock(&vcpus[vcpu].lock);
	n = vcpus[vcpu].executed[offset];
	pthread_mutex_unlock(&vcpus[vcpu].lock);
	return n;
}

static void start(void)
{
	unsigned int i;

	memset(vcpus, 0, sizeof(vcpus));
	memset(hits, 0, sizeof(hits));
	stepped = paused = foreign = failures = next_seq = 0;
	gone = false;
	auto_continue = true;
	finishing = false;
	code_access = 7;
	must(!kvmi_dom_open(peer_start(&peer, kernel, NULL), NULL, &dom));
	must(!kvmi_debug_new(dom, &debug));
	memset(peer.memory + CODE, 0x90, LENGTH);
	for (i = 0; i < VCPUS; i++) {
		vcpus[i].nr = i;
		vcpus[i].ip = CODE;
		vcpus[i].flags = FLAGS;
		pthread_mutex_init(&vcpus[i].lock, NULL);
		pthread_cond_init(&vcpus[i].wake, NULL);
	}
	must(!pthread_create(&events_thread, NULL, take_events, NULL));
}

static void run(unsigned int vcpu)
{
	pthread_mutex_lock(&vcpus[vcpu].lock);
	vcpus[vcpu].stop = false;
	pthread_mutex_unlock(&vcpus[vcpu].lock);
	must(!pthread_create(&vcpus[vcpu].thread, NULL, run_vcpu, &vcpus[vcpu]));
}

static void join(unsigned int vcpu)
{
	pthread_mutex_lock(&vcpus[vcpu].lock);
	vcpus[vcpu].stop = true;
	pthread_mutex_unlock(&vcpus[vcpu].lock);
	must(!pthread_join(vcpus[vcpu].thread, NULL));
}

static void stop(void)
{
	unsigned int i;

	kvmi_dom_shutdown(dom);
	must(!pthread_join(events_thread, NULL));
	__atomic_store_n(&gone, true, __ATOMIC_RELAXED);
	for (i = 0; i < VCPUS; i++)
		pthread_cond_signal(&vcpus[i].wake);
	kvmi_debug_free(debug);
	kvmi_dom_close(dom);
	peer_stop(&peer);
}

/* All vCPUs run through the same breakpoints all the time. */
static void test_no_hit_lost(void)
{
	uint64_t want = 0;
	unsigned int i;

	start();
	is_num(kvmi_debug_insert(debug, CODE + 3), 0, "a breakpoint");
	is_num(peer.memory[CODE + 3], INT3, "is in place");
	is_num(kvmi_debug_insert(debug, CODE + 4), 0, "another one right behind it");
	is_num(kvmi_debug_insert(debug, 0x900000), -ENOENT, "one where no memory is");
	is_num(kvmi_debug_remove(debug, CODE + 5), -ENOENT, "removing what is not there");
	has_text(kvmi_error(), "gpa 0x3005: there is no breakpoint", "is named");
	for (i = 0; i < VCPUS; i++) {
		vcpus[i].fail_steps = i * 3;
		run(i);
	}
	for (i = 0; i < VCPUS; i++)
		wait_until(executed(i, 7) >= 100);
	for (i = 0; i < VCPUS; i++)
		join(i);
	for (i = 0; i < VCPUS; i++) {
		want = vcpus[i].executed[3] + vcpus[i].executed[4];
		/* One that was about to be executed has been seen as well. */
		ok(hits[i] == want || hits[i] == want + 1,
		   "vCPU %u: %u hits for %llu executions", i, hits[i],
		   (unsigned long long)want);
		is_num(vcpus[i].foreign, 0, "none of them was given to the guest");
	}
	is_num(peer.memory[CODE + 3], INT3, "the breakpoint is in place again");
	is_num(foreign, 0, "no event was foreign");
	is_num(failures, 0, "nothing failed");
	stop();
}

static void test_finish(void)
{
	unsigned int i, round;
	uint64_t before;

	start();
	__atomic_store_n(&finishing, true, __ATOMIC_RELAXED);
	for (i = 0; i < VCPUS; i++)
		run(i);
	/* In the middle of whatever goes on. */
	for (round = 0; round < 30; round++) {
		must(!kvmi_debug_insert(debug, CODE + 1));
		usleep(round * 137);
		if (round % 2)
			must(!kvmi_debug_remove(debug, CODE + 1));
		else
			must(!kvmi_debug_finish(debug, 5000));
		must(peer.memory[CODE + 1] == 0x90);
	}
	must(!kvmi_debug_finish(debug, 5000));
	ok(true, "30 times in and out");
	before = executed(0, 1);
	wait_until(executed(0, 1) > before + 10);
	for (i = 0; i < VCPUS; i++) {
		join(i);
		is_num(vcpus[i].foreign, 0, "vCPU %u: no INT3 reached the guest", i);
	}
	is_num(failures, 0, "nothing failed");
	stop();
}

static void test_stepping(void)
{
	struct kvmi_event ev;
	unsigned int i;

	start();
	run(0);
	is_num(kvmi_debug_step(debug, 0), -ENOENT, "a vCPU that runs makes no step");
	has_text(kvmi_error(), "vCPU 0: is not stopped", "is named");
	is_num(kvmi_debug_pause(debug, 0), 0, "pause");
	wait_until(__atomic_load_n(&paused, __ATOMIC_ACQUIRE) == 1);
	is_num(kvmi_debug_pause(debug, 0), -EBUSY, "a second time");
	is_num(kvmi_debug_waiting(debug, 0, &ev), 1, "it waits");
	is_num(ev.id, 1, "with its event");
	is_num(kvmi_debug_waiting(debug, 1, NULL), 0, "the other one does not");
	for (i = 0; i < 20; i++) {
		uint64_t rip = ev.arch.regs.rip;

		must(!kvmi_debug_step(debug, 0));
		while (__atomic_load_n(&stepped, __ATOMIC_ACQUIRE) != i + 1)
			usleep(100);
		must(kvmi_debug_waiting(debug, 0, &ev) == 1);
		must(ev.arch.regs.rip == (rip + 1 == CODE + LENGTH ? CODE : rip + 1));
	}
	ok(true, "20 steps, one instruction each");
	/* A step onto a breakpoint, and off it. */
	must(!kvmi_debug_insert(debug, ev.arch.regs.rip));
	auto_continue = false;
	must(!kvmi_debug_step(debug, 0));
	wait_until(__atomic_load_n(&hits[0], __ATOMIC_ACQUIRE) == 1);
	is_num(kvmi_debug_waiting(debug, 0, &ev), 1, "the step ended on the breakpoint");
	is_num(ev.id, 5, "as a hit");
	must(!kvmi_debug_step(debug, 0));
	wait_until(__atomic_load_n(&stepped, __ATOMIC_ACQUIRE) == 21);
	must(!kvmi_debug_continue(debug, 0));
	is_num(kvmi_debug_continue(debug, 0), -ENOENT, "it goes on only once");
	wait_until(__atomic_load_n(&hits[0], __ATOMIC_ACQUIRE) == 2);
	is_num(kvmi_debug_finish(debug, 200), -ETIMEDOUT,
	       "finished while it waits, and others never run");
	wait_until(executed(0, 7) > 10);
	usleep(2000);
	join(0);
	is_num(vcpus[0].foreign, 0, "no INT3 reached the guest");
	is_num(failures, 0, "nothing failed");
	stop();
}

static unsigned int restored;

static int restore(void *data, __u16 vcpu, __u64 gpa)
{
	const struct kvmi_page_access_entry entry = { .gpa = gpa, .access = 7 };

	must(data == &restored && gpa == CODE);
	restored++;
	return kvmi_vcpu_control_events(dom, vcpu, KVMI_VCPU_EVENT_PF, false) |
	       kvmi_vm_set_page_access(dom, &entry, 1, NULL);
}

static bool meddling;

/* Somebody else who sets the access of that page. */
static void *meddle(void *arg)
{
	const struct kvmi_page_access_entry entry = { .gpa = CODE, .access = 7 };

	(void)arg;
	while (__atomic_load_n(&meddling, __ATOMIC_RELAXED)) {
		must(!kvmi_vm_set_page_access(dom, &entry, 1, NULL));
		usleep(50);
	}
	return NULL;
}

/* The same where the CPU cannot single-step. */
static void test_emulated(bool with_restore)
{
	uint64_t want, steps = 0;
	pthread_t meddler;
	unsigned int i;

	cannot_step = true;
	restored = 0;
	start();
	if (with_restore)
		kvmi_debug_on_restore(debug, restore, &restored);
	must(!kvmi_debug_insert(debug, CODE + 3));
	must(!kvmi_debug_insert(debug, CODE + 4));
	meddling = true;
	must(!pthread_create(&meddler, NULL, meddle, NULL));
	/* An instruction that raises an exception is executed later, and hit again. */
	for (i = 0; i < VCPUS; i++) {
		vcpus[i].fail_steps = i;
		run(i);
	}
	for (i = 0; i < VCPUS; i++)
		wait_until(executed(i, 7) >= 100);
	for (i = 0; i < VCPUS; i++)
		join(i);
	__atomic_store_n(&meddling, false, __ATOMIC_RELAXED);
	must(!pthread_join(meddler, NULL));
	for (i = 0; i < VCPUS; i++) {
		want = vcpus[i].executed[3] + vcpus[i].executed[4];
		steps += want;
		ok(hits[i] == want + i || hits[i] == want + i + 1,
		   "vCPU %u: %u hits for %llu executions and %u exceptions", i, hits[i],
		   (unsigned long long)want, i);
		is_num(vcpus[i].foreign, 0, "no INT3 was given to the guest");
		is_num(vcpus[i].emulated_int3, 0, "nor emulated");
		is_num(vcpus[i].open_windows, 0, "no interrupt could come in between");
		is_num(vcpus[i].wrong_flags, 0, "nor does the guest see that");
		is_num(vcpus[i].pf, 0, "page faults are not reported any more");
	}
	ok(!with_restore || restored >= steps, "the tool was asked what it wants %u times",
	   restored);
	is_num(code_access, 7, "the page can be executed again");
	is_num(foreign, 0, "no event was foreign");
	is_num(failures, 0, "nothing failed");
	stop();
	cannot_step = false;
}

/* A step that is asked for is refused there, and the vCPU stays where it is. */
static void test_cannot_step(void)
{
	cannot_step = true;
	start();
	auto_continue = false;
	must(!kvmi_debug_insert(debug, CODE + 3));
	run(0);
	wait_until(__atomic_load_n(&hits[0], __ATOMIC_ACQUIRE) == 1);
	is_num(kvmi_debug_step(debug, 0), -EOPNOTSUPP, "no single step");
	has_text(kvmi_error(), "vCPU 0: getting past rip 0x3003: ", "is named");
	is_num(kvmi_debug_waiting(debug, 0, NULL), 1, "it waits as before");
	is_num(peer.memory[CODE + 3], INT3, "the breakpoint is in place");
	is_num(kvmi_debug_continue(debug, 0), 0, "it can go on");
	wait_until(__atomic_load_n(&hits[0], __ATOMIC_ACQUIRE) == 2);
	/* The others never run. */
	must(kvmi_debug_finish(debug, 100) == -ETIMEDOUT);
	wait_until(executed(0, 7) > 10);
	join(0);
	is_num(vcpus[0].foreign, 0, "no INT3 reached the guest");
	is_num(failures, 0, "nothing failed");
	stop();
	cannot_step = false;
}

/* An INT3 of the guest's own is the guest's. */
static void test_foreign(void)
{
	start();
	peer.memory[CODE + 2] = INT3;
	must(!kvmi_debug_insert(debug, CODE + 5));
	run(0);
	wait_until(executed(0, 7) >= 20);
	join(0);
	ok(vcpus[0].foreign >= 20, "the guest's own INT3 reach it");
	ok(hits[0] >= 20, "and ours do not");
	is_num(failures, 0, "nothing failed");
	stop();
}

int main(void)
{
	tap_start(120);
	test_no_hit_lost();
	test_finish();
	test_stepping();
	test_emulated(false);
	test_emulated(true);
	test_cannot_step();
	test_foreign();
	return tap_done();
}
