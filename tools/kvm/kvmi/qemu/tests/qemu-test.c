// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of QEMU's introspection object, with a Linux guest.
 *
 * usage: qemu-test QEMU BZIMAGE INITRD KVMI TEXT_GPA BUSY_GPA IDLE_GPA [TEST]...
 *
 * TEXT_GPA is where the guest kernel's code begins, which it does not write to,
 * BUSY_GPA is in a page that it writes to all the time, and IDLE_GPA is that of
 * code that it does not execute.
 *
 * usage: qemu-test --off QEMU
 *
 * The same on a kernel that has kvm.introspection off.
 */

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../../../../lib/kvmi/tests/tap.h"
#include "qmp.h"
#include "tool.h"

#define WORK		"/tmp/qemu-test"
#define TOOL_PATH	WORK "/tool"
#define WAIT_S		40
#define WAIT_MS		(WAIT_S * 1000)
#define MAX_ARGS	64
#define UUID		"11223344-5566-7788-99aa-bbccddeeff00"

static const char *qemu, *kernel, *initrd, *kvmi;
static __u64 text_gpa, busy_gpa, idle_gpa;
static const char *only_tests[16];

struct vm {
	const char *name;
	pid_t pid;
	int status;		/* as of waitpid(), once it has ended */
	struct qmp *qmp;
	char console[64];
	char log[64];
	int words;
	int asked;
	char sum[64];		/* of the guest's data */
};

static struct tool tool;
static __u64 tool_patch;	/* where the next one puts a breakpoint */

/* --- waiting ---------------------------------------------------------------- */

static long long now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000LL + ts.tv_nsec / 1000000;
}

static void pause_us(int us)
{
	const struct timespec ts = { .tv_sec = us / 1000000, .tv_nsec = us % 1000000 * 1000L };

	nanosleep(&ts, NULL);
}

static void pause_ms(int ms)
{
	pause_us(ms * 1000);
}

#define soon_within(cond, ms)						\
	({								\
		long long __end = now_ms() + (ms);			\
		bool __met;						\
		while (!(__met = (cond)) && now_ms() < __end)		\
			pause_ms(20);					\
		__met;							\
	})

#define soon(cond)	soon_within(cond, WAIT_MS)

/* --- the VM ------------------------------------------------------------------- */

/* The last line of a file that starts so, without its end. */
static bool find_line(const char *path, const char *start, char *line, size_t size)
{
	bool found = false;
	char buf[512];
	FILE *f = fopen(path, "re");

	while (f && fgets(buf, sizeof(buf), f)) {
		if (strncmp(buf, start, strlen(start)) || !strchr(buf, '\n'))
			continue;
		snprintf(line, size, "%.*s", (int)strcspn(buf, "\r\n"), buf);
		found = true;
	}
	if (f)
		fclose(f);
	return found;
}

/* In how many lines? */
static int count(const char *path, const char *text)
{
	char buf[1024];
	FILE *f = fopen(path, "re");
	int n = 0;

	while (f && fgets(buf, sizeof(buf), f))
		n += strstr(buf, text) != NULL;
	if (f)
		fclose(f);
	return n;
}

static bool says(const char *path, const char *text)
{
	return count(path, text);
}

static void show(const char *path)
{
	char buf[512];
	FILE *f = fopen(path, "re");

	while (f && fgets(buf, sizeof(buf), f))
		printf("#   %s: %.*s\n", path, (int)strcspn(buf, "\r\n"), buf);
	if (f)
		fclose(f);
}

static bool vm_ended(struct vm *vm)
{
	if (vm->pid && waitpid(vm->pid, &vm->status, WNOHANG) == vm->pid)
		vm->pid = 0;
	return !vm->pid;
}

/* @fmt has the arguments that differ, with single spaces in between. */
static bool __attribute__((format(printf, 3, 4)))
vm_start(struct vm *vm, const char *name, const char *fmt, ...)
{
	static const char *const common[] = {
		"-accel", "kvm", "-cpu", "host", "-smp", "1", "-m", "96",
		"-nodefaults", "-no-user-config", "-display", "none",
		/*
		 * On an emulated processor, a guest loses interrupts of its APIC
		 * now and then, and its TSC has leaps when it is stopped or moved.
		 */
		"-uuid", UUID, "-append",
		"console=ttyS0 quiet nokaslr nolapic noapic no-kvmclock tsc=unstable",
	};
	char words[64], path[72], serial[80], monitor[96], chardev[96], text[1024];
	char *argv[MAX_ARGS], *p;
	size_t i;
	int n = 0, fd;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);

	memset(vm, 0, sizeof(*vm));
	vm->name = name;
	snprintf(vm->console, sizeof(vm->console), WORK "/%s.console", name);
	snprintf(vm->log, sizeof(vm->log), WORK "/%s.log", name);
	snprintf(words, sizeof(words), WORK "/%s.words", name);
	unlink(vm->console);
	snprintf(path, sizeof(path), "%s.in", words);
	mkfifo(path, 0600);
	vm->words = open(path, O_RDWR | O_CLOEXEC);
	snprintf(path, sizeof(path), "%s.out", words);
	mkfifo(path, 0600);
	snprintf(serial, sizeof(serial), "file:%s", vm->console);
	snprintf(chardev, sizeof(chardev), "pipe,id=words,path=%s", words);
	snprintf(path, sizeof(path), WORK "/%s.qmp", name);
	unlink(path);
	snprintf(monitor, sizeof(monitor), "unix:%s,server=on,wait=off", path);

	argv[n++] = (char *)qemu;
	for (i = 0; i < sizeof(common) / sizeof(*common); i++)
		argv[n++] = (char *)common[i];
	argv[n++] = "-name";
	argv[n++] = (char *)name;
	argv[n++] = "-kernel";
	argv[n++] = (char *)kernel;
	argv[n++] = "-initrd";
	argv[n++] = (char *)initrd;
	argv[n++] = "-serial";
	argv[n++] = serial;
	argv[n++] = "-chardev";
	argv[n++] = chardev;
	argv[n++] = "-serial";
	argv[n++] = "chardev:words";
	argv[n++] = "-qmp";
	argv[n++] = monitor;
	for (p = strtok(text, " "); p && n < MAX_ARGS - 1; p = strtok(NULL, " "))
		argv[n++] = p;
	argv[n] = NULL;

	vm->pid = fork();
	if (!vm->pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		alarm(0);
		fd = open(vm->log, O_WRONLY | O_CREAT | O_TRUNC, 0600);
		dup2(fd, 1);
		dup2(fd, 2);
		fd = open("/dev/null", O_RDONLY);
		dup2(fd, 0);
		execv(qemu, argv);
		_exit(127);
	}
	vm->qmp = qmp_open(path, true, WAIT_MS);
	if (!vm->qmp)
		show(vm->log);
	return vm->qmp;
}

/* The object and its chardev; to be used as an argument of vm_start(). */
#define OBJECT(properties)						\
	"-chardev socket,id=c0,path=" TOOL_PATH ",reconnect=1 "		\
	"-object introspection,id=k0,chardev=c0" properties

static void vm_kill(struct vm *vm)
{
	qmp_close(vm->qmp);
	vm->qmp = NULL;
	if (vm->pid) {
		kill(vm->pid, SIGKILL);
		waitpid(vm->pid, &vm->status, 0);
		vm->pid = 0;
	}
	if (vm->words > 0)
		close(vm->words);
	vm->words = 0;
}

static bool vm_is(struct vm *vm, const char *state)
{
	return !strcmp(qmp_query(vm->qmp, "query-introspection", "state"), state);
}

static bool vm_is_running(struct vm *vm)
{
	return !strcmp(qmp_query(vm->qmp, "query-status", "status"), "running");
}

/* Runs a command of the human monitor's; what it prints. */
static const char *hmp(struct vm *vm, const char *command)
{
	static char text[512];
	struct json_object *answer, *value;
	int id;

	text[0] = '\0';
	id = qmp_send(vm->qmp, "'execute': 'human-monitor-command', "
		      "'arguments': {'command-line': '%s'}", command);
	answer = qmp_answer(vm->qmp, id, WAIT_MS);
	if (answer && json_object_object_get_ex(answer, "return", &value))
		snprintf(text, sizeof(text), "%s", json_object_get_string(value));
	json_object_put(answer);
	return text;
}

static void guest_tell(struct vm *vm, const char *text)
{
	if (write(vm->words, text, strlen(text)) < 0)
		printf("# write: %s\n", strerror(errno));
}

static bool guest_came_up(struct vm *vm)
{
	static const char up[] = "guest: up ";
	char line[128];

	if (!find_line(vm->console, up, line, sizeof(line)))
		return false;
	snprintf(vm->sum, sizeof(vm->sum), "%.60s", line + strlen(up));
	return true;
}

static bool guest_answered(struct vm *vm)
{
	char start[32], line[128];

	snprintf(start, sizeof(start), "guest: sum %d ", vm->asked);
	return find_line(vm->console, start, line, sizeof(line)) &&
	       !strcmp(line + strlen(start), vm->sum);
}

/* Does the guest run, and is its memory as it was? */
static bool guest_is_well(struct vm *vm)
{
	char text[32];

	snprintf(text, sizeof(text), "sum %d\n", ++vm->asked);
	guest_tell(vm, text);
	if (soon(guest_answered(vm)))
		return true;
	show(vm->console);
	show(vm->log);
	return false;
}

/* Is it up, or will it be soon? */
static bool guest_is_up(struct vm *vm)
{
	if (*vm->sum ? guest_is_well(vm) : soon_within(guest_came_up(vm), 2 * WAIT_MS))
		return true;
	show(vm->console);
	show(vm->log);
	return false;
}

/* --- the tool ------------------------------------------------------------------- */

/* A tool that restricts pages and does as it is told, at once. */
static void tool_reset(void)
{
	int i;

	tool.arms = true;
	tool.lets_go = true;
	tool.answers = true;
	tool.dawdles = 0;
	tool.cookie_hash = NULL;
	tool.odd_answer = 0;
	tool.patch = tool_patch;
	tool.vsock_port = 0;
	tool.nr_pages = 65;
	tool.pages[0] = busy_gpa & -4096ULL;
	for (i = 1; i < tool.nr_pages; i++)
		tool.pages[i] = text_gpa + (i - 1) * 4096ULL;
}

/* Do events come, from now on? */
static bool events_flow(struct vm *vm)
{
	int before = tool.events;

	if (soon(tool.events > before + 5))
		return true;
	show(vm->log);
	return false;
}

/* --- a guest to begin with ----------------------------------------------------- */

static char template_sum[64];

static bool migrate_status(struct vm *vm, const char *status)
{
	return !strcmp(qmp_query(vm->qmp, "query-migrate", "status"), status);
}

/*
 * To boot takes a guest longer than all else that is done to it here.  So that is
 * done once, and the others go on where it was then.
 */
static bool make_template(void)
{
	struct vm vm;
	bool good = false;
	int i;

	for (i = 0; i < 3 && !good; i++) {
		good = vm_start(&vm, "template", "-boot c") && guest_is_up(&vm) &&
		       qmp_do(vm.qmp, "'execute': 'migrate', 'arguments': {"
			      "'uri': 'exec:cat>" WORK "/template'}") &&
		       soon(migrate_status(&vm, "completed"));
		memcpy(template_sum, vm.sum, sizeof(template_sum));
		vm_kill(&vm);
	}
	return good;
}

/* As vm_start(), with @more as the arguments that differ. */
static bool wake(struct vm *vm, const char *more)
{
	bool good = vm_start(vm, "vm", "-incoming exec:cat<" WORK "/template %s", more);

	memcpy(vm->sum, template_sum, sizeof(template_sum));
	return good && soon(vm_is_running(vm));
}

/* A running guest with a tool that watches it. */
static bool start_watched(struct vm *vm, const char *more)
{
	char args[256];

	tool_reset();
	snprintf(args, sizeof(args), OBJECT("%s"), more);
	return ok(tool_start(&tool, TOOL_PATH) && wake(vm, args) &&
		  soon(tool.armed == 1) && events_flow(vm) && guest_is_well(vm) &&
		  vm_is(vm, "hooked"), "a tool watches a guest");
}

static void end(struct vm *vm)
{
	vm_kill(vm);
	tool_stop(&tool);
}

/* --- the tests ---------------------------------------------------------------------- */

static void test_boot(void)
{
	static const __u8 uuid[16] = {
		0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88,
		0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff, 0x00,
	};
	struct vm vm;

	tool_reset();
	tool.arms = false;
	must(tool_start(&tool, TOOL_PATH));
	must(vm_start(&vm, "vm", "-S " OBJECT("")));
	ok(soon(vm_is(&vm, "hooked")), "boot: hooked before the first instruction");
	/* It learns of that a little later than QEMU does. */
	ok(soon(tool.hooked == 1), "boot: by one connection");
	ok(!memcmp(tool.hello.uuid, uuid, 16), "boot: the hello has the uuid");
	ok(!strcmp(tool.hello.name, "vm"), "boot: the hello has the name");
	ok(tool.hello.max_gpa >= 96 * 1024 * 1024 - 1 && tool.hello.max_gpa < 1ULL << 32,
	   "boot: the hello has the highest gpa");
	ok(llabs(tool.hello.start_time - (long long)time(NULL)) < 3600,
	   "boot: the hello has the start time");
	ok(says(vm.log, "without a key any tool is accepted"), "boot: QEMU warns of no key");
	ok(qmp_do(vm.qmp, "'execute': 'cont'") && soon(vm_is_running(&vm)) &&
	   vm_is(&vm, "hooked"), "boot: and after it");
	has_text(qmp_query(vm.qmp, "query-introspection", NULL), "\"hooked\": 1",
		 "boot: query-introspection counts");
	has_text(hmp(&vm, "info introspection"), "introspection: hooked",
		 "boot: info introspection has the state");
	has_text(hmp(&vm, "info introspection"), "hooked: 1 times", "boot: and counts");
	ok(qmp_event(vm.qmp, "INTROSPECTION_STATE", 0), "boot: there was an event");
	end(&vm);
}

static void test_late(void)
{
	struct vm vm;

	tool_reset();
	unlink(TOOL_PATH);
	must(wake(&vm, OBJECT("")));
	ok(guest_is_up(&vm) && vm_is(&vm, "disconnected"), "late: a guest without its tool");
	must(tool_start(&tool, TOOL_PATH));
	ok(soon(tool.armed == 1) && events_flow(&vm), "late: the tool comes and gets it");
	ok(guest_is_well(&vm), "late: the guest is well");
	end(&vm);
}

static pid_t run_kvmi(const char *arg1, const char *arg2, const char *arg3, const char *arg4)
{
	pid_t pid = fork();

	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		execl(kvmi, "kvmi", arg1, arg2, arg3, arg4, NULL);
		_exit(127);
	}
	return pid;
}

static bool kvmi_does(const char *arg1, const char *arg2, const char *arg3, const char *arg4)
{
	int status = -1;

	waitpid(run_kvmi(arg1, arg2, arg3, arg4), &status, 0);
	return !status;
}

static void test_killed(void)
{
	char range[64];
	struct vm vm;
	pid_t pid;

	unlink(TOOL_PATH);
	setenv("KVMI_CONTROL", WORK "/control", 1);
	pid = run_kvmi("listen", "--socket", TOOL_PATH, NULL);
	must(wake(&vm, OBJECT("")));
	ok(soon(vm_is(&vm, "hooked")) && guest_is_up(&vm), "killed: hooked by kvmi listen");
	snprintf(range, sizeof(range), "0x%llx+0x40000", (unsigned long long)text_gpa);
	ok(kvmi_does("protect", range, "r-x", NULL), "killed: which restricts the guest");
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	ok(soon(vm_is(&vm, "disconnected")), "killed: QEMU notices its end");
	ok(guest_is_well(&vm), "killed: the guest is well");
	unlink(TOOL_PATH);
	unlink(WORK "/control");
	pid = run_kvmi("listen", "--socket", TOOL_PATH, NULL);
	ok(soon(vm_is(&vm, "hooked")), "killed: the next one hooks the guest again");
	snprintf(range, sizeof(range), "0x%llx+0x40000", (unsigned long long)text_gpa);
	ok(kvmi_does("protect", range, "r-x", NULL) && guest_is_well(&vm),
	   "killed: and restricts it");
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	vm_kill(&vm);
}

static void test_key(void)
{
	/* SHA-1 of "open sesame" */
	static const __u8 right[20] = {
		0x5b, 0xca, 0xff, 0x7f, 0x22, 0xff, 0x53, 0x3c, 0xa0, 0x99,
		0xb3, 0x40, 0x8e, 0xad, 0x87, 0x6c, 0x0e, 0xbb, 0xa9, 0xa7,
	};
	static __u8 wrong[20];
	struct vm vm;
	int before;

	memcpy(wrong, right, sizeof(wrong));
	wrong[19] ^= 1;
	tool_reset();
	tool.cookie_hash = wrong;
	must(tool_start(&tool, TOOL_PATH));
	must(vm_start(&vm, "vm", "-S -object secret,id=s0,file=" WORK "/secret "
		      OBJECT(",key=s0")));
	ok(soon(says(vm.log, "the tool does not know the key")), "key: a wrong one is refused");
	ok(soon(tool.greeted >= 2), "key: QEMU tries again");
	before = tool.greeted;
	pause_ms(3000);
	ok(tool.greeted > before && tool.greeted <= before + 4,
	   "key: at the pace of the chardev");
	is_num(count(vm.log, "does not know the key"), 1, "key: QEMU says so once");
	is_num(tool.hooked, 0, "key: the guest is not hooked");
	has_text(qmp_query(vm.qmp, "query-introspection", "error"), "does not know the key",
		 "key: query-introspection says why");
	tool.cookie_hash = right;
	ok(soon(vm_is(&vm, "hooked")), "key: the right one is accepted");
	ok(!*qmp_query(vm.qmp, "query-introspection", "error"), "key: the error is gone");
	ok(!says(vm.log, "without a key"), "key: no warning of no key");
	end(&vm);
}

static void test_silent(void)
{
	struct vm vm;

	tool_reset();
	tool.answers = false;
	must(tool_start(&tool, TOOL_PATH));
	must(wake(&vm, OBJECT(",handshake_timeout=1")));
	ok(soon(says(vm.log, "the tool has not answered within 1 s")),
	   "silent: QEMU does not wait for ever");
	ok(guest_is_up(&vm), "silent: the guest runs meanwhile");
	tool.answers = true;
	ok(soon(vm_is(&vm, "hooked")), "silent: the tool finds its voice");
	end(&vm);
}

/* The answer to the hello: too short, then longer than it has to be. */
static void test_answer(void)
{
	struct vm vm;

	tool_reset();
	tool.odd_answer = 23;
	must(tool_start(&tool, TOOL_PATH));
	must(wake(&vm, OBJECT("")));
	ok(soon(says(vm.log, "handshake: struct_size 23 of the tool's answer")),
	   "answer: a short one is refused");
	tool.odd_answer = 0x10000000;
	ok(soon(says(vm.log, "handshake: struct_size 268435456 of the tool's answer")),
	   "answer: and one that cannot be");
	is_num(tool.hooked, 0, "answer: the guest is not hooked");
	ok(guest_is_up(&vm), "answer: it runs");
	tool.odd_answer = 100;
	ok(soon(tool.armed == 1) && events_flow(&vm), "answer: a long one is accepted");
	end(&vm);
}

static bool plug(struct vm *vm, const char *more)
{
	return qmp_do(vm->qmp, "'execute': 'object-add', 'arguments': {"
		      "'qom-type': 'introspection', 'id': 'k0', 'chardev': 'c0'%s}", more);
}

static bool unplug(struct vm *vm)
{
	return qmp_do(vm->qmp, "'execute': 'object-del', 'arguments': {'id': 'k0'}") &&
	       soon(vm_is(vm, "none"));
}

/* Whatever KVM refuses is named, and tried again. */
static void test_refused(void)
{
	static const char *const wrong[][2] = {
		{ ", 'command': ['9999']", "KVM_INTROSPECTION_COMMAND: cannot allow '9999'" },
		{ ", 'event': ['9999']", "KVM_INTROSPECTION_EVENT: cannot allow '9999'" },
	};
	char pid[16];
	struct vm vm;
	size_t i;
	int before;

	tool_reset();
	tool.arms = false;
	must(tool_start(&tool, TOOL_PATH));
	must(wake(&vm, "-chardev socket,id=c0,path=" TOOL_PATH ",reconnect=1"));
	must(guest_is_up(&vm));
	for (i = 0; i < 2; i++) {
		ok(plug(&vm, wrong[i][0]) && soon(says(vm.log, wrong[i][1])), "refused: %s",
		   wrong[i][1]);
		has_text(qmp_query(vm.qmp, "query-introspection", "error"), wrong[i][1],
			 "refused: query-introspection says so");
		before = tool.greeted;
		ok(soon(tool.greeted > before), "refused: QEMU tries again");
		ok(unplug(&vm), "refused: object-del");
	}
	snprintf(pid, sizeof(pid), "--pid=%d", vm.pid);
	must(soon(tool.gone == tool.greeted));
	before = tool.hooked;
	ok(kvmi_does("hook", pid, "--socket=" TOOL_PATH, NULL) && soon(tool.hooked == before + 1),
	   "refused: another has hooked the guest");
	ok(plug(&vm, "") && soon(says(vm.log, "KVM_INTROSPECTION_HOOK: File exists")),
	   "refused: KVM_INTROSPECTION_HOOK");
	ok(says(vm.log, "kvmi unhook"), "refused: with the remedy");
	is_num(tool.hooked, before + 1, "refused: the other is not disturbed");
	ok(guest_is_well(&vm), "refused: the guest is well");
	ok(kvmi_does("unhook", pid, NULL, NULL) && soon(tool.hooked == before + 2) &&
	   soon(vm_is(&vm, "hooked")), "refused: QEMU's comes after it");
	end(&vm);
}

static void test_allow(void)
{
	struct vm vm;

	tool_reset();
	tool.arms = false;
	must(tool_start(&tool, TOOL_PATH));
	must(vm_start(&vm, "vm", "-S " OBJECT(",command=10,command=vm-read-physical,"
					"command=KVMI_VCPU_GET_REGISTERS,event=pf,event=0")));
	ok(soon(tool.hooked == 1), "allow: hooked");
	is_num(tool_check(&tool, false, KVMI_VM_CONTROL_EVENTS), 0, "allow: by number");
	is_num(tool_check(&tool, false, KVMI_VM_READ_PHYSICAL), 0, "allow: by name");
	is_num(tool_check(&tool, false, KVMI_VCPU_GET_REGISTERS), 0, "allow: by the header's name");
	is_num(tool_check(&tool, false, KVMI_VM_WRITE_PHYSICAL), -EPERM, "allow: no other");
	is_num(tool_check(&tool, true, KVMI_VCPU_EVENT_PF), 0, "allow: an event by name");
	is_num(tool_check(&tool, true, KVMI_VM_EVENT_UNHOOK), 0, "allow: an event by number");
	is_num(tool_check(&tool, true, KVMI_VCPU_EVENT_PAUSE), -EPERM, "allow: no other event");
	end(&vm);
}

/* Every name of QEMU's means the number that the header gives it. */
static void test_names(void)
{
	static const struct {
		const char *name;
		int id;
		bool event;
	} names[] = {
#define COMMAND(n, id)	{ n, id, false }
#define EVENT(n, id)	{ n, id, true }
		COMMAND("vm-get-info", KVMI_VM_GET_INFO),
		COMMAND("vm-write-physical", KVMI_VM_WRITE_PHYSICAL),
		COMMAND("vm-pause-vcpu", KVMI_VM_PAUSE_VCPU),
		COMMAND("vm-control-cleanup", KVMI_VM_CONTROL_CLEANUP),
		COMMAND("vm-set-page-access", KVMI_VM_SET_PAGE_ACCESS),
		COMMAND("vcpu-get-info", KVMI_VCPU_GET_INFO),
		COMMAND("vcpu-control-events", KVMI_VCPU_CONTROL_EVENTS),
		COMMAND("vcpu-set-registers", KVMI_VCPU_SET_REGISTERS),
		COMMAND("vcpu-get-cpuid", KVMI_VCPU_GET_CPUID),
		COMMAND("vcpu-control-cr", KVMI_VCPU_CONTROL_CR),
		COMMAND("vcpu-inject-exception", KVMI_VCPU_INJECT_EXCEPTION),
		COMMAND("vcpu-get-xcr", KVMI_VCPU_GET_XCR),
		COMMAND("vcpu-get-xsave", KVMI_VCPU_GET_XSAVE),
		COMMAND("vcpu-set-xsave", KVMI_VCPU_SET_XSAVE),
		COMMAND("vcpu-get-mtrr-type", KVMI_VCPU_GET_MTRR_TYPE),
		COMMAND("vcpu-control-msr", KVMI_VCPU_CONTROL_MSR),
		COMMAND("vcpu-control-singlestep", KVMI_VCPU_CONTROL_SINGLESTEP),
		COMMAND("vcpu-translate-gva", KVMI_VCPU_TRANSLATE_GVA),
		EVENT("pause", KVMI_VCPU_EVENT_PAUSE),
		EVENT("hypercall", KVMI_VCPU_EVENT_HYPERCALL),
		EVENT("breakpoint", KVMI_VCPU_EVENT_BREAKPOINT),
		EVENT("cr", KVMI_VCPU_EVENT_CR),
		EVENT("trap", KVMI_VCPU_EVENT_TRAP),
		EVENT("xsetbv", KVMI_VCPU_EVENT_XSETBV),
		EVENT("descriptor", KVMI_VCPU_EVENT_DESCRIPTOR),
		EVENT("msr", KVMI_VCPU_EVENT_MSR),
		EVENT("singlestep", KVMI_VCPU_EVENT_SINGLESTEP),
	};
	bool known[sizeof(names) / sizeof(*names)];
	char what[64];
	struct vm vm;
	size_t i, j;
	int hooked, err, n = 0;

	tool_reset();
	tool.arms = false;
	must(tool_start(&tool, TOOL_PATH));
	must(vm_start(&vm, "vm", "-S " OBJECT("")));
	must(soon(tool.hooked == 1));
	for (i = 0; i < sizeof(names) / sizeof(*names); i++) {
		known[i] = !tool_check(&tool, names[i].event, names[i].id);
		n += known[i];
		if (!known[i])
			diag("names: this kernel has no %s", names[i].name);
	}
	ok(n >= 10, "names: the kernel knows some");
	/* Half of them at a time: each is allowed while its neighbours are not. */
	for (j = 0; j < 2; j++) {
		char commands[1024] = "'vm-control-events'", events[512] = "'unhook'";

		must(qmp_do(vm.qmp, "'execute': 'object-del', 'arguments': {'id': 'k0'}"));
		must(soon(vm_is(&vm, "none")));
		for (i = j; i < sizeof(names) / sizeof(*names); i += 2) {
			if (!known[i])
				continue;
			snprintf(what, sizeof(what), ",'%s'", names[i].name);
			strcat(names[i].event ? events : commands, what);
		}
		hooked = tool.hooked;
		must(qmp_do(vm.qmp, "'execute': 'object-add', 'arguments': {"
			    "'qom-type': 'introspection', 'id': 'k0', 'chardev': 'c0', "
			    "'command': [%s], 'event': [%s]}", commands, events));
		must(soon(tool.hooked > hooked));
		for (i = 0; i < sizeof(names) / sizeof(*names); i++) {
			if (!known[i])
				continue;
			err = tool_check(&tool, names[i].event, names[i].id);
			is_num(err, i % 2 == j ? 0 : -EPERM, "names: %s, %sallowed",
			       names[i].name, i % 2 == j ? "" : "not ");
		}
	}
	end(&vm);
}

static void test_stop(void)
{
	struct vm vm;
	int told;

	if (!start_watched(&vm, ""))
		goto out;
	ok(qmp_do(vm.qmp, "'execute': 'stop'"), "stop: is answered");
	ok(!vm_is_running(&vm), "stop: when the guest has stopped");
	told = tool.told;
	is_num(told, 1, "stop: the tool was told before");
	ok(soon(tool.gone == 1), "stop: and has let go");
	ok(vm_is(&vm, "held"), "stop: the object holds still");
	pause_ms(2500);
	is_num(tool.hooked, 1, "stop: no tool while the guest is stopped");
	ok(qmp_do(vm.qmp, "'execute': 'cont'") && soon(tool.armed == 2) && events_flow(&vm),
	   "stop: the tool is back with cont");
	ok(guest_is_well(&vm), "stop: the guest is well");
out:
	end(&vm);
}

static bool answered_oob(struct vm *vm, const char *text)
{
	struct json_object *answer;
	bool good;
	int id;

	id = qmp_send(vm->qmp, "'exec-oob': 'query-introspection'");
	answer = qmp_answer(vm->qmp, id, 1000);
	good = answer && strstr(json_object_to_json_string(answer), text);
	if (!good)
		printf("# %s\n", answer ? json_object_to_json_string(answer) : "no answer");
	json_object_put(answer);
	return good;
}

static void test_ignored(void)
{
	struct json_object *answer;
	long long start;
	struct vm vm;
	int id;

	if (!start_watched(&vm, ",unhook_timeout=3"))
		goto out;
	tool.lets_go = false;
	start = now_ms();
	id = qmp_send(vm.qmp, "'execute': 'stop'");
	ok(soon(tool.told == 1) && answered_oob(&vm, "\"unhooking\""),
	   "ignored: QMP answers out of band while stop waits");
	ok(events_flow(&vm), "ignored: the guest runs meanwhile");
	answer = qmp_answer(vm.qmp, id, WAIT_MS);
	ok(answer && !vm_is_running(&vm), "ignored: the guest stops all the same");
	json_object_put(answer);
	ok(now_ms() - start >= 2900, "ignored: not before the tool's time is up");
	ok(says(vm.log, "has not let go of the VM within 3 s"), "ignored: QEMU says so");
	ok(soon(tool.gone == 1), "ignored: the tool is disconnected");
	ok(qmp_do(vm.qmp, "'execute': 'cont'") && soon(tool.armed == 2) && guest_is_well(&vm),
	   "ignored: the guest goes on, watched");
out:
	end(&vm);
}

static void test_async(void)
{
	struct vm vm;

	if (!start_watched(&vm, ",unhook_timeout=3,async_unhook=on"))
		goto out;
	tool.lets_go = false;
	qmp_forget(vm.qmp);
	ok(qmp_do(vm.qmp, "'execute': 'stop'") && vm_is_running(&vm) && vm_is(&vm, "unhooking"),
	   "async: stop is answered at once, and so are others");
	ok(qmp_event(vm.qmp, "STOP", WAIT_MS) && !vm_is_running(&vm),
	   "async: the guest stops when the tool's time is up");
	ok(qmp_do(vm.qmp, "'execute': 'cont'") && soon(tool.armed == 2), "async: cont");
	qmp_forget(vm.qmp);
	ok(qmp_do(vm.qmp, "'execute': 'stop'") && qmp_do(vm.qmp, "'execute': 'cont'") &&
	   vm_is_running(&vm), "async: cont while stop waits");
	ok(qmp_event(vm.qmp, "STOP", WAIT_MS) && qmp_event(vm.qmp, "RESUME", WAIT_MS) &&
	   soon(tool.armed == 3) && guest_is_well(&vm), "async: comes after it");
out:
	end(&vm);
}

static void test_reset(void)
{
	struct vm vm;

	if (!start_watched(&vm, ""))
		goto out;
	tool.arms = false;
	qmp_forget(vm.qmp);
	ok(qmp_do(vm.qmp, "'execute': 'system_reset'") && qmp_event(vm.qmp, "RESET", WAIT_MS),
	   "reset: by QMP");
	is_num(tool.told, 1, "reset: the tool was told before");
	ok(soon(tool.hooked == 2) && vm_is_running(&vm), "reset: and is back");
	end(&vm);

	if (!start_watched(&vm, ",unhook_timeout=3"))
		goto out;
	tool.arms = false;
	tool.lets_go = false;
	qmp_forget(vm.qmp);
	guest_tell(&vm, "reboot\n");
	ok(soon(tool.told == 1) && qmp_do(vm.qmp, "'execute': 'query-status'") &&
	   vm_is(&vm, "unhooking"), "reset: by the guest, which waits, and QMP answers");
	ok(qmp_event(vm.qmp, "RESET", WAIT_MS), "reset: until the tool's time is up");
	ok(soon(tool.hooked == 2) && vm_is_running(&vm), "reset: and it is back");
out:
	end(&vm);
}

static bool job_concludes(struct vm *vm, const char *id)
{
	bool good;

	if (!soon(strstr(qmp_query(vm->qmp, "query-jobs", NULL), "concluded")))
		return false;
	good = !strstr(qmp_query(vm->qmp, "query-jobs", NULL), "\"error\"");
	if (!good)
		printf("# %s\n", qmp_query(vm->qmp, "query-jobs", NULL));
	return qmp_do(vm->qmp, "'execute': 'job-dismiss', 'arguments': {'id': '%s'}", id) &&
	       good;
}

static bool add_disk(struct vm *vm)
{
	return qmp_do(vm->qmp, "'execute': 'blockdev-create', 'arguments': {'job-id': 'j', "
		      "'options': {'driver': 'file', 'filename': '" WORK "/disk', 'size': 0}}") &&
	       job_concludes(vm, "j") &&
	       qmp_do(vm->qmp, "'execute': 'blockdev-add', 'arguments': {'driver': 'file', "
		      "'node-name': 'f0', 'filename': '" WORK "/disk'}") &&
	       qmp_do(vm->qmp, "'execute': 'blockdev-create', 'arguments': {'job-id': 'j', "
		      "'options': {'driver': 'qcow2', 'file': 'f0', 'size': 1048576}}") &&
	       job_concludes(vm, "j") &&
	       qmp_do(vm->qmp, "'execute': 'blockdev-add', 'arguments': {'driver': 'qcow2', "
		      "'node-name': 'd0', 'file': 'f0'}");
}

static bool snapshot(struct vm *vm, const char *what)
{
	return qmp_do(vm->qmp, "'execute': 'snapshot-%s', 'arguments': {'job-id': 'j', "
		      "'tag': 't', 'vmstate': 'd0', 'devices': ['d0']}", what);
}

/*
 * As start_watched(), with a tool that has put a breakpoint as well, and takes
 * its time to take it out: what does not wait for that takes it along.
 */
static bool start_watched_patched(struct vm *vm)
{
	bool good;

	tool_patch = idle_gpa;
	good = start_watched(vm, ",unhook_timeout=3");
	tool_patch = 0;
	tool.dawdles = 500;
	return good && is_num(tool_peek(&tool, idle_gpa), TOOL_BREAKPOINT,
			      "with a breakpoint");
}

static void test_snapshot(void)
{
	struct json_object *answer;
	long long start;
	struct vm vm;
	int events, own, id;

	if (!start_watched_patched(&vm))
		goto out;
	own = tool.patched;
	ok(add_disk(&vm), "snapshot: there is a place for them");
	ok(snapshot(&vm, "save") && job_concludes(&vm, "j"), "snapshot: saved as a job");
	is_num(tool.told, 1, "snapshot: the tool was told before");
	ok(soon(tool.armed == 2) && events_flow(&vm) && guest_is_well(&vm),
	   "snapshot: and watches again");
	is_num(tool_peek(&tool, idle_gpa), TOOL_BREAKPOINT, "snapshot: with its breakpoint");
	tool.arms = false;
	ok(snapshot(&vm, "load") && job_concludes(&vm, "j"), "snapshot: loaded as a job");
	is_num(tool.told, 2, "snapshot: the tool was told before");
	ok(soon(tool.hooked == 3), "snapshot: and is back");
	events = tool.events;
	ok(guest_is_well(&vm), "snapshot: the guest is well");
	is_num(tool.events, events, "snapshot: nothing is restricted");
	is_num(tool_peek(&tool, idle_gpa), own, "snapshot: no breakpoint was saved");
	ok(tool_arm(&tool) && events_flow(&vm), "snapshot: until the tool restricts it");
	tool.arms = true;

	ok(!*hmp(&vm, "savevm m"), "snapshot: savevm");
	is_num(tool.told, 3, "snapshot: the tool was told before");
	ok(soon(tool.hooked == 4) && soon(tool.armed == 4) && events_flow(&vm),
	   "snapshot: and is back");
	tool.arms = false;
	tool.lets_go = false;
	start = now_ms();
	id = qmp_send(vm.qmp, "'execute': 'human-monitor-command', "
		      "'arguments': {'command-line': 'loadvm m'}");
	ok(soon(tool.told == 4) && answered_oob(&vm, "\"unhooking\""),
	   "snapshot: QMP answers out of band while loadvm waits for a tool that ignores it");
	answer = qmp_answer(vm.qmp, id, WAIT_MS);
	has_text(json_object_to_json_string(answer), "has not let go of the VM within 3 s",
		 "snapshot: loadvm is carried out and says so");
	ok(!strstr(json_object_to_json_string(answer), "Error"), "snapshot: well");
	json_object_put(answer);
	ok(now_ms() - start >= 2900, "snapshot: after the tool's time is up");
	ok(soon(tool.hooked == 5), "snapshot: it is back");
	is_num(tool_peek(&tool, idle_gpa), own, "snapshot: savevm has saved no breakpoint");
	events = tool.events;
	ok(guest_is_well(&vm), "snapshot: the guest is well");
	is_num(tool.events, events, "snapshot: nothing is restricted");
out:
	end(&vm);
}

/* Does the monitor carry it out, and do guest and tool go on then? */
static bool goes_on_after(struct vm *vm, const char *command)
{
	int armed = tool.armed;

	return !*hmp(vm, command) && soon(tool.armed == armed + 1) && events_flow(vm) &&
	       guest_is_well(vm);
}

/*
 * Wherever the guest is interrupted, in whatever the tool has it do, it goes on
 * there: after each snapshot, and after each return to it.
 */
static void test_snapshot_again(void)
{
	char tag[32];
	struct vm vm;
	int i;

	if (!start_watched(&vm, ""))
		goto out;
	must(add_disk(&vm));
	for (i = 0; i < 10; i++) {
		snprintf(tag, sizeof(tag), "savevm m%d", i % 3);
		pause_us(i * 7919 % 20000);
		if (!ok(goes_on_after(&vm, tag), "again: %s, round %d", tag, i))
			break;
		memcpy(tag, "load", 4);
		pause_us(i * 6101 % 20000);
		if (!ok(goes_on_after(&vm, tag), "again: %s, round %d", tag, i))
			break;
	}
out:
	end(&vm);
}

static void migrate(bool ignored)
{
	const char *kind = ignored ? "migration, tool ignores it" : "migration";
	struct vm vm, target;
	int events, own;

	memset(&target, 0, sizeof(target));
	if (!start_watched_patched(&vm))
		goto out;
	own = tool.patched;
	ok(vm_start(&target, "target", "-incoming defer " OBJECT("")), "%s: there is a target",
	   kind);
	pause_ms(1500);
	ok(vm_is(&target, "held"), "%s: which is not hooked yet", kind);
	is_num(tool.hooked, 1, "%s: nor has a tool seen it", kind);
	unlink(WORK "/migration");
	ok(qmp_do(target.qmp, "'execute': 'migrate-incoming', "
		  "'arguments': {'uri': 'unix:" WORK "/migration'}"), "%s: it waits", kind);
	tool.arms = false;
	tool.lets_go = !ignored;
	ok(qmp_do(vm.qmp, "'execute': 'migrate', 'arguments': {'uri': 'unix:" WORK "/migration'}"),
	   "%s: starts", kind);
	if (ignored)
		ok(migrate_status(&vm, "setup") && vm_is_running(&vm) && vm_is(&vm, "unhooking"),
		   "%s: waits, and QMP answers", kind);
	ok(soon(migrate_status(&vm, "completed")), "%s: completes", kind);
	is_num(tool.told, 1, "%s: the tool was told", kind);
	ok(vm_is(&vm, "held"), "%s: the source is left alone", kind);
	ok(soon(tool.hooked == 2) && vm_is(&target, "hooked"), "%s: the target is hooked", kind);
	strcpy(target.sum, vm.sum);
	events = tool.events;
	ok(guest_is_well(&target), "%s: the guest is well", kind);
	is_num(tool.events, events, "%s: no restriction has come with it", kind);
	/* A tool that ignores what it is told leaves its own things behind. */
	is_num(tool_peek(&tool, idle_gpa), ignored ? TOOL_BREAKPOINT : own,
	       "%s: the breakpoint has %scome with it", kind, ignored ? "" : "not ");
	tool.patch = 0;
	ok(tool_arm(&tool) && events_flow(&target), "%s: until the tool restricts it", kind);
	ok(guest_is_well(&target), "%s: and the guest is well then", kind);
out:
	vm_kill(&target);
	end(&vm);
}

static void test_migration(void)
{
	migrate(false);
}

static void test_migration_ignored(void)
{
	migrate(true);
}

static void test_migration_cancelled(void)
{
	struct vm vm, target;

	memset(&target, 0, sizeof(target));
	if (!start_watched(&vm, ",unhook_timeout=30"))
		goto out;
	tool.lets_go = false;
	must(vm_start(&target, "target", "-incoming unix:" WORK "/migration"));
	ok(qmp_do(vm.qmp, "'execute': 'migrate', 'arguments': {'uri': 'unix:" WORK "/migration'}") &&
	   soon(vm_is(&vm, "unhooking")), "cancelled: a migration waits for the tool");
	ok(qmp_do(vm.qmp, "'execute': 'migrate_cancel'") &&
	   soon_within(migrate_status(&vm, "cancelled"), 5000), "cancelled: at once");
	ok(vm_is_running(&vm) && guest_is_well(&vm), "cancelled: the guest runs on");
	is_num(tool.hooked, 1, "cancelled: here, and the tool has not gone yet");
	tool.lets_go = true;
	ok(soon(tool.gone == 1) && soon(tool.armed == 2) && events_flow(&vm) &&
	   guest_is_well(&vm), "cancelled: it goes and comes back");
out:
	vm_kill(&target);
	end(&vm);
}

static void test_migration_failed(void)
{
	struct vm vm;

	if (!start_watched(&vm, ""))
		goto out;
	ok(qmp_do(vm.qmp, "'execute': 'migrate', 'arguments': {'uri': 'exec:exit 1'}") &&
	   soon(migrate_status(&vm, "failed")), "failed: a migration");
	is_num(tool.told, 1, "failed: the tool was told");
	ok(soon(tool.armed == 2) && events_flow(&vm) && guest_is_well(&vm),
	   "failed: it is back");
out:
	end(&vm);
}

static void test_powerdown(void)
{
	struct vm vm;

	if (!start_watched(&vm, ",unhook_timeout=4"))
		goto out;
	qmp_forget(vm.qmp);
	ok(qmp_do(vm.qmp, "'execute': 'system_powerdown'") &&
	   qmp_event(vm.qmp, "POWERDOWN", WAIT_MS), "powerdown: the button is pressed");
	is_num(tool.told, 1, "powerdown: the tool was told before");
	ok(vm_is(&vm, "held"), "powerdown: the guest is left alone");
	is_num(tool.hooked, 1, "powerdown: for a while");
	ok(soon(tool.armed == 2) && guest_is_well(&vm),
	   "powerdown: but not for ever, if it runs on");
	guest_tell(&vm, "poweroff\n");
	ok(soon(vm_ended(&vm)) && !vm.status, "shutdown: the guest's ends QEMU well");
	is_num(tool.told, 2, "shutdown: the tool was told before");
out:
	end(&vm);
}

static void test_quit(void)
{
	struct vm vm;

	if (!start_watched(&vm, ",unhook_timeout=30"))
		goto out;
	tool.lets_go = false;
	ok(qmp_do(vm.qmp, "'execute': 'quit'") && soon_within(vm_ended(&vm), 10000) && !vm.status,
	   "quit: waits for no tool");
	ok(soon(tool.gone == 1), "quit: which sees the end");
out:
	end(&vm);
}

/* Does object-add fail, and name what is at fault? */
static bool refuses(struct vm *vm, const char *properties, const char *why)
{
	struct json_object *answer;
	bool good;
	int id;

	id = qmp_send(vm->qmp, "'execute': 'object-add', 'arguments': {"
		      "'qom-type': 'introspection', 'id': 'k0', %s}", properties);
	answer = qmp_answer(vm->qmp, id, WAIT_MS);
	good = answer && json_object_object_get_ex(answer, "error", NULL) &&
	       strstr(json_object_to_json_string(answer), why);
	if (!good)
		diag("%s", answer ? json_object_to_json_string(answer) : "no answer");
	json_object_put(answer);
	return good;
}

static void test_plug(void)
{
	static const char *const wrong[][2] = {
		{ "'chardev': 'c0', 'event': ['nonsense']", "no event called 'nonsense'" },
		{ "'chardev': 'c0', 'command': ['pf']", "no command called 'pf'" },
		{ "'chardev': 'c0', 'command': ['1x']", "command '1x' is not a number" },
		{ "'chardev': 'c1'", "there is no chardev 'c1'" },
		{ "'chardev': 'words'", "chardev 'words' is not a socket" },
		{ "'chardev': 'c0', 'key': 's1'", "key: " },
		{ "'handshake_timeout': 1", "'chardev' is missing" },
	};
	struct vm vm;
	size_t i;

	tool_reset();
	must(tool_start(&tool, TOOL_PATH));
	must(wake(&vm, "-chardev socket,id=c0,path=" TOOL_PATH ",reconnect=1"));
	ok(guest_is_up(&vm) && vm_is(&vm, "none"), "plug: a guest without the object");
	ok(plug(&vm, "") && soon(tool.armed == 1) && events_flow(&vm), "plug: object-add");
	ok(!qmp_do(vm.qmp, "'execute': 'object-add', 'arguments': {"
		   "'qom-type': 'introspection', 'id': 'k1', 'chardev': 'c0'}"),
	   "plug: one for each VM");
	ok(vm_is(&vm, "hooked") && events_flow(&vm), "plug: the other is not disturbed");
	ok(unplug(&vm), "plug: object-del");
	is_num(tool.told, 1, "plug: has told the tool");
	ok(guest_is_well(&vm), "plug: the guest is well");
	is_num(tool_peek(&tool, text_gpa), -ENOTCONN, "plug: which is gone");
	for (i = 0; i < sizeof(wrong) / sizeof(*wrong); i++)
		ok(refuses(&vm, wrong[i][0], wrong[i][1]) && vm_is(&vm, "none"),
		   "plug: %s", wrong[i][1]);
	ok(plug(&vm, "") && soon(tool.armed == 2) && events_flow(&vm), "plug: object-add again");
	is_num(count(vm.log, "without a key any tool is accepted"), 1,
	       "plug: QEMU has warned of no key once");
	end(&vm);
}

static void test_vsock(void)
{
	struct vm vm;

	tool_reset();
	tool.vsock_port = 4711;
	must(tool_start(&tool, NULL));
	must(wake(&vm, "-chardev socket,id=c0,cid=1,port=4711,reconnect=1 "
		      "-object introspection,id=k0,chardev=c0"));
	ok(soon(tool.armed == 1) && events_flow(&vm), "vsock: the tool watches");
	ok(qmp_do(vm.qmp, "'execute': 'stop'") && tool.told == 1 && soon(tool.gone == 1),
	   "vsock: it lets go");
	ok(qmp_do(vm.qmp, "'execute': 'cont'") && soon(tool.armed == 2) && guest_is_well(&vm),
	   "vsock: and comes back");
	end(&vm);
}

/* The object is not needed for all this. */
static void test_hook(void)
{
	char pid[16];
	struct vm vm;

	tool_reset();
	tool.arms = false;
	must(tool_start(&tool, TOOL_PATH));
	must(wake(&vm, "-boot c"));
	ok(guest_is_up(&vm), "hook: a guest of a QEMU that has no such object");
	snprintf(pid, sizeof(pid), "--pid=%d", vm.pid);
	ok(kvmi_does("hook", pid, "--socket=" TOOL_PATH, NULL) && soon(tool.hooked == 1),
	   "hook: kvmi hook");
	ok(tool_arm(&tool) && events_flow(&vm), "hook: events flow");
	ok(kvmi_does("unhook", pid, NULL, NULL) && tool.told == 1 && guest_is_well(&vm),
	   "hook: kvmi unhook");
	end(&vm);
}

static void test_off(void)
{
	struct vm vm;

	tool_reset();
	tool.arms = false;
	must(tool_start(&tool, TOOL_PATH));
	must(vm_start(&vm, "vm", "-S " OBJECT("")));
	ok(soon(says(vm.log, "the kernel offers none")), "off: QEMU names what is missing");
	ok(says(vm.log, "kvm.introspection=1"), "off: and the remedy");
	ok(strstr(qmp_query(vm.qmp, "query-introspection", "error"), "the kernel offers none"),
	   "off: query-introspection says so");
	is_num(tool.greeted, 0, "off: the tool is not bothered");
	ok(qmp_do(vm.qmp, "'execute': 'quit'") && soon(vm_ended(&vm)) && !vm.status,
	   "off: QEMU runs on");
	end(&vm);
}

/* Without KVM there is nothing to connect to a tool. */
static void test_no_kvm(void)
{
	static const char log[] = WORK "/no-kvm.log";
	int status = -1, fd;
	pid_t pid;

	pid = fork();
	if (!pid) {
		alarm(WAIT_S);
		fd = open(log, O_WRONLY | O_CREAT | O_TRUNC, 0600);
		dup2(fd, 2);
		execl(qemu, qemu, "-accel", "qtest", "-machine", "none", "-nodefaults", "-display",
		      "none", "-chardev", "socket,id=c0,path=" TOOL_PATH ",reconnect=1",
		      "-object", "introspection,id=k0,chardev=c0", NULL);
		_exit(127);
	}
	waitpid(pid, &status, 0);
	is_num(WIFEXITED(status) ? WEXITSTATUS(status) : -1, 1, "no KVM: QEMU ends");
	ok(says(log, "introspection needs KVM (-accel kvm)"), "no KVM: and says why");
}

static const struct {
	const char *name;
	void (*run)(void);
} tests[] = {
	{ "boot", test_boot },
	{ "late", test_late },
	{ "killed", test_killed },
	{ "key", test_key },
	{ "silent", test_silent },
	{ "answer", test_answer },
	{ "refused", test_refused },
	{ "allow", test_allow },
	{ "names", test_names },
	{ "stop", test_stop },
	{ "ignored", test_ignored },
	{ "async", test_async },
	{ "reset", test_reset },
	{ "snapshot", test_snapshot },
	{ "snapshot-again", test_snapshot_again },
	{ "migration", test_migration },
	{ "migration-ignored", test_migration_ignored },
	{ "migration-cancelled", test_migration_cancelled },
	{ "migration-failed", test_migration_failed },
	{ "powerdown", test_powerdown },
	{ "quit", test_quit },
	{ "plug", test_plug },
	{ "vsock", test_vsock },
	{ "hook", test_hook },
};

static bool is_wanted(const char *name)
{
	size_t i;

	for (i = 0; only_tests[i]; i++)
		if (!strcmp(only_tests[i], name))
			return true;
	return !i;
}

int main(int argc, char **argv)
{
	long long start;
	size_t i;
	int n;
	FILE *f;

	signal(SIGPIPE, SIG_IGN);
	mkdir(WORK, 0700);
	if (argc == 3 && !strcmp(argv[1], "--off")) {
		qemu = argv[2];
		kernel = "/lab/bzImage";
		initrd = "/lab/guest.cpio";
		tap_start(120);
		test_off();
		test_no_kvm();
		return tap_done();
	}
	if (argc < 8) {
		fprintf(stderr, "usage: qemu-test QEMU BZIMAGE INITRD KVMI "
			"TEXT_GPA BUSY_GPA IDLE_GPA [TEST]...\n");
		return 2;
	}
	qemu = argv[1];
	kernel = argv[2];
	initrd = argv[3];
	kvmi = argv[4];
	text_gpa = strtoull(argv[5], NULL, 16);
	busy_gpa = strtoull(argv[6], NULL, 16);
	idle_gpa = strtoull(argv[7], NULL, 16);
	for (n = 8; n < argc && n - 8 < 15; n++)
		only_tests[n - 8] = argv[n];
	f = fopen(WORK "/secret", "we");
	must(f);
	fputs("open sesame", f);
	fclose(f);

	tap_start(800);
	must(make_template());
	for (i = 0; i < sizeof(tests) / sizeof(*tests); i++) {
		if (!is_wanted(tests[i].name))
			continue;
		start = now_ms();
		tests[i].run();
		diag("%s took %lld ms", tests[i].name, now_ms() - start);
	}
	return tap_done();
}
