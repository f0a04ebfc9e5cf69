// SPDX-License-Identifier: GPL-2.0
/*
 * A VMM that connects to a tool, and KVM behind it, for tests of the command
 * without either.  The guest has 256 KiB of memory with page tables in it, and
 * a kernel text of 12 pages in two extents.
 *
 *	fake-vm SOCKET NAME [OPTION]...
 *
 *	--allow-after MS	allow commands and events only then
 *	--deny ID		never allow this command
 *	--old-hello		96 bytes, without max_gpa
 *	--max-gpa GPA		what it tells of the highest address
 *	--silent		say nothing after the hello
 *	--late-vcpu N		vCPU N cannot be introspected at first
 *
 * Reads words from its standard input, a line each:
 *
 *	pf VCPU GVA GPA ACCESS RIP	the guest faults; prints the answer
 *	access GPA			prints the page's access bits
 *	enabled VCPU			prints whether it reports page faults
 *	start-vcpu N			vCPU N can be introspected from now on
 *	exec VCPU GVA			the vCPU executes what is there, which may be INT3
 *	cr VCPU CR OLD NEW		it writes a control register; prints the answer
 *	msr VCPU MSR OLD NEW		it writes an MSR; prints the answer
 *	byte GPA			prints what is in memory there
 *	unhook				asks the tool to let go
 *	quit
 */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <kvmi/libkvmi.h>

#include "peer.h"

#define TEXT_GVA	0xffffffff81000000ULL
#define LSTAR		(TEXT_GVA + 0x3040)
#define ROOT		0x1000

static struct peer peer;
static uint64_t allow_at;
static int denied = -1;
static int late_vcpu = -1;
static uint64_t max_gpa = 0x3ffff;
static uint32_t event_seq;
static bool stepping[PEER_VCPUS];
static uint64_t rips[PEER_VCPUS];

static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000ULL + ts.tv_nsec / 1000000;
}

static void set_entry(uint64_t table, unsigned int index, uint64_t value)
{
	put64(peer.memory + table + 8 * index, value);
}

/* 8 pages at 0x10000, then 4 pages at 0x20000, then one that is not executable. */
static void make_guest(void)
{
	unsigned int i;

	memset(peer.memory + ROOT, 0, 0x4000);
	set_entry(ROOT, 511, 0x2003);
	set_entry(0x2000, 510, 0x3003);
	set_entry(0x3000, 8, 0x4003);
	for (i = 0; i < 8; i++)
		set_entry(0x4000, i, (0x10000 + i * 4096) | 1);
	for (i = 8; i < 12; i++)
		set_entry(0x4000, i, (0x20000 + (i - 8) * 4096) | 1);
	set_entry(0x4000, 12, 0x30001 | 1ULL << 63);
}

/* An event, behind the header, with up to 24 bytes of its own. */
static void event(uint16_t id, uint16_t vcpu, const uint8_t *own, uint16_t own_size)
{
	uint8_t buf[8 + 576] = { 0 };

	put16(buf, 1);
	put16(buf + 2, 552 + own_size);
	put32(buf + 4, ++event_seq);
	put16(buf + 8, id);
	put16(buf + 16, 544);
	put16(buf + 18, vcpu);
	buf[24] = 8;
	put64(buf + 32 + 16 * 8, rips[vcpu]);
	if (own_size)
		memcpy(buf + 560, own, own_size);
	peer_send_raw(peer.fd, buf, 8 + 552 + own_size);
}

static uint64_t translate(uint64_t gva)
{
	uint64_t offset = gva - TEXT_GVA;

	if (offset < 0x8000)
		return 0x10000 + offset;
	if (offset < 0xc000)
		return 0x20000 + (offset - 0x8000);
	return ~0ULL;
}

/* What is answered is carried out: a step, if one was asked for. */
static void answered(const struct peer_msg *msg)
{
	uint16_t vcpu = get16(msg->data);
	uint8_t own[8] = { 0 };

	printf("answer vcpu %u seq %u action %u event %u", vcpu, msg->seq, msg->data[8],
	       msg->data[9]);
	if (msg->size > 16)
		printf(" value 0x%" PRIx64, get64(msg->data + 16));
	printf("\n");
	if (vcpu < PEER_VCPUS && stepping[vcpu]) {
		rips[vcpu]++;
		event(19, vcpu, own, sizeof(own));
	}
}

static void registers(const struct peer_msg *msg)
{
	uint16_t i, n = get16(msg->data + 8);
	uint8_t buf[472 + 16 * 481] = { 0 };

	put32(buf, 8);
	put64(buf + 8, 0x1234567890abcdef);		/* rax */
	put64(buf + 8 + 16 * 8, TEXT_GVA + 0x123);	/* rip */
	put64(buf + 152 + 224, 0x80000001);		/* cr0 */
	put64(buf + 152 + 240, ROOT);			/* cr3 */
	put64(buf + 152 + 248, 0x20);			/* cr4 */
	put64(buf + 152 + 264, 0xd01);			/* efer */
	put32(buf + 464, n);
	for (i = 0; i < n; i++) {
		uint32_t index = get32(msg->data + 16 + 4 * i);

		put32(buf + 472 + 16 * i, index);
		put64(buf + 480 + 16 * i, index == 0xc0000082 ? LSTAR : 0xab);
	}
	peer_reply(peer.fd, msg, 0, buf, 472 + 16 * n);
}

static bool filter(struct peer *p, const struct peer_msg *msg)
{
	bool allowed = now_ms() >= allow_at;
	uint8_t buf[8];
	uint16_t id = get16(msg->data);

	switch (msg->id) {
	case 4:
		/* What this peer knows; KVM_ENOENT for the rest. */
		if (id > 29 || id == 22 || id == 24 || id == 26 || id == 28 || id == 18 || id < 2)
			peer_reply(p->fd, msg, -2, NULL, 0);
		else if ((id > 6 && !allowed) || id == denied)
			peer_reply(p->fd, msg, -1, NULL, 0);
		else
			peer_reply(p->fd, msg, 0, NULL, 0);
		return true;
	case 6:
		peer_reply(p->fd, msg, id == 0 || (id & 1 && id < 20) ?
			   (allowed ? 0 : -1) : -2, NULL, 0);
		return true;
	case 1:
		answered(msg);
		return true;
	case 2:
		return false;
	}
	if (!allowed || msg->id == denied) {
		peer_reply(p->fd, msg, -1, NULL, 0);
		return true;
	}
	switch (msg->id) {
	case 5:
		if (get16(msg->data) != late_vcpu)
			return false;
		peer_reply(p->fd, msg, -11, NULL, 0);
		return true;
	case 7:
		registers(msg);
		return true;
	case 13:
		printf("cr%u vcpu %u enable %u\n", msg->data[8], id, msg->data[9]);
		peer_reply(p->fd, msg, 0, NULL, 0);
		return true;
	case 16:
		peer_reply(p->fd, msg, 0, NULL, 0);
		event(1, id, NULL, 0);
		return true;
	case 25:
		printf("msr 0x%x vcpu %u enable %u\n", get32(msg->data + 12), id, msg->data[8]);
		peer_reply(p->fd, msg, 0, NULL, 0);
		return true;
	case 27:
		stepping[id % PEER_VCPUS] = msg->data[8];
		peer_reply(p->fd, msg, 0, NULL, 0);
		return true;
	case 29:
		put64(buf, translate(get64(msg->data + 8)));
		peer_reply(p->fd, msg, 0, buf, sizeof(buf));
		return true;
	}
	return false;
}

static int connect_to(const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	if (strlen(path) >= sizeof(addr.sun_path))
		exit(2);
	strcpy(addr.sun_path, path);
	if (fd < 0 || connect(fd, (struct sockaddr *)&addr, sizeof(addr))) {
		perror(path);
		exit(1);
	}
	return fd;
}

static void say_hello(int fd, const char *name, bool old)
{
	struct kvmi_hello hello = { .start_time = 1700000000, .max_gpa = max_gpa };
	uint8_t bytes[KVMI_HELLO_SIZE], answer[24];
	unsigned int i;

	snprintf(hello.name, sizeof(hello.name), "%s", name);
	for (i = 0; i < 16; i++)
		hello.uuid[i] = name[i % strlen(name)];
	kvmi_hello_pack(&hello, bytes);
	if (old)
		put32(bytes, 96);
	peer_send_raw(fd, bytes, old ? 96 : 104);
	if (recv(fd, answer, sizeof(answer), MSG_WAITALL) != sizeof(answer) ||
	    get32(answer) != 24) {
		fprintf(stderr, "fake-vm: the handshake failed\n");
		exit(1);
	}
}

static void page_fault(const char *line)
{
	unsigned int vcpu, access;
	uint64_t gva, gpa, rip;
	uint8_t buf[8 + 576];

	if (sscanf(line, "pf %u %" SCNx64 " %" SCNx64 " %u %" SCNx64, &vcpu, &gva,
		   &gpa, &access, &rip) != 5) {
		printf("what?\n");
		return;
	}
	peer_send_raw(peer.fd, buf, peer_pf_event(buf, ++event_seq, vcpu, gva, gpa,
						  access, rip));
}

static void execute(unsigned int vcpu, uint64_t gva)
{
	uint64_t gpa = translate(gva);
	uint8_t own[16] = { 0 };

	if (vcpu >= PEER_VCPUS || gpa >= sizeof(peer.memory)) {
		printf("what?\n");
		return;
	}
	rips[vcpu] = gva;
	if (peer.memory[gpa] != 0xcc) {
		printf("executed %02x\n", peer.memory[gpa]);
		return;
	}
	put64(own, gpa);
	own[8] = 1;
	event(5, vcpu, own, sizeof(own));
}

/* A control register's event and an MSR's have the same layout, but for the number. */
static void write_register(uint16_t id, unsigned int vcpu, uint32_t number, uint64_t old,
			   uint64_t new)
{
	uint8_t own[24] = { 0 };

	put32(own, number);
	put64(own + 8, old);
	put64(own + 16, new);
	event(id, vcpu % PEER_VCPUS, own, sizeof(own));
}

static void obey(void)
{
	static const uint8_t unhook[8];
	char line[256];
	uint64_t gpa, old, new;
	unsigned int n, number;

	while (fgets(line, sizeof(line), stdin) && strcmp(line, "quit\n")) {
		if (!strncmp(line, "pf ", 3))
			page_fault(line);
		else if (sscanf(line, "access %" SCNx64, &gpa) == 1 &&
			 gpa < sizeof(peer.memory))
			printf("access %u\n", peer.access[gpa / 4096]);
		else if (sscanf(line, "enabled %u", &n) == 1 && n < PEER_VCPUS)
			printf("enabled %u\n", peer.enabled[n][17]);
		else if (sscanf(line, "start-vcpu %d", &late_vcpu) == 1)
			late_vcpu = -1;
		else if (sscanf(line, "exec %u %" SCNx64, &n, &gpa) == 2)
			execute(n, gpa);
		else if (sscanf(line, "cr %u %u %" SCNx64 " %" SCNx64, &n, &number, &old, &new) == 4)
			write_register(7, n, number, old, new);
		else if (sscanf(line, "msr %u %x %" SCNx64 " %" SCNx64, &n, &number, &old, &new) == 4)
			write_register(15, n, number, old, new);
		else if (sscanf(line, "byte %" SCNx64, &gpa) == 1 && gpa < sizeof(peer.memory))
			printf("byte %02x\n", peer.memory[gpa]);
		else if (!strcmp(line, "unhook\n"))
			peer_send(peer.fd, 0, ++event_seq, unhook, sizeof(unhook));
		else
			printf("what?\n");
	}
}

int main(int argc, char **argv)
{
	bool old = false, silent = false;
	int i, fd;

	setvbuf(stdout, NULL, _IOLBF, 0);
	alarm(120);
	if (argc < 3)
		return 2;
	for (i = 3; i < argc; i++) {
		if (!strcmp(argv[i], "--old-hello"))
			old = true;
		else if (!strcmp(argv[i], "--silent"))
			silent = true;
		else if (!strcmp(argv[i], "--allow-after") && argv[i + 1])
			allow_at = now_ms() + atoi(argv[++i]);
		else if (!strcmp(argv[i], "--max-gpa") && argv[i + 1])
			max_gpa = strtoull(argv[++i], NULL, 0);
		else if (!strcmp(argv[i], "--deny") && argv[i + 1])
			denied = atoi(argv[++i]);
		else if (!strcmp(argv[i], "--late-vcpu") && argv[i + 1])
			late_vcpu = atoi(argv[++i]);
		else
			return 2;
	}
	fd = connect_to(argv[1]);
	say_hello(fd, argv[2], old);
	printf("connected\n");
	if (!silent) {
		peer_init(&peer, fd, filter, NULL);
		make_guest();
		peer_run(&peer);
	}
	obey();
	if (!silent)
		peer_stop(&peer);
	return 0;
}
