// SPDX-License-Identifier: GPL-2.0
/* A running VMM, seen from outside: its VMs, and ioctls on them. */

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <linux/kcmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "failure.h"
#include "kvm-ioctls.h"
#include "parse.h"
#include "vmm.h"

#define VM_LINK		"anon_inode:kvm-vm"
#define PARAMETER	"/sys/module/kvm/parameters/introspection"

/* --- what /proc says ---------------------------------------------------------- */

static bool read_first_line(const char *path, char *line, size_t size)
{
	FILE *f = fopen(path, "re");
	bool good;

	if (!f)
		return false;
	good = fgets(line, size, f) != NULL;
	fclose(f);
	if (good)
		line[strcspn(line, "\n")] = '\0';
	return good;
}

/* The start of the process: field 22 of its stat, in clock ticks since boot. */
static void read_start_time(struct vmm *vmm)
{
	char path[64], line[1024], *p;
	unsigned long long ticks = 0;
	long long btime = 0;
	unsigned int field;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", vmm->pid);
	if (!read_first_line(path, line, sizeof(line)))
		return;
	/* The name may have anything in it, but ends at the last bracket. */
	p = strrchr(line, ')');
	for (field = 2; p && field < 22; field++)
		p = strchr(p + 1, ' ');
	if (!p)
		return;
	ticks = strtoull(p, NULL, 10);
	vmm->start_ticks = ticks;

	f = fopen("/proc/stat", "re");
	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "btime %lld", &btime) == 1)
			break;
	if (f)
		fclose(f);
	vmm->start_time = btime + ticks / sysconf(_SC_CLK_TCK);
}

static void read_name(struct vmm *vmm)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/comm", vmm->pid);
	if (!read_first_line(path, vmm->comm, sizeof(vmm->comm)))
		strcpy(vmm->comm, "?");
	make_printable(vmm->comm);
}

static bool is_vm(pid_t pid, int fd)
{
	char path[64], link[64];
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/fd/%d", pid, fd);
	n = readlink(path, link, sizeof(link) - 1);
	if (n < 0)
		return false;
	link[n] = '\0';
	return !strcmp(link, VM_LINK);
}

/* Do two descriptors of the process mean the same VM? */
static bool same_vm(pid_t pid, int a, int b)
{
	return syscall(SYS_kcmp, pid, pid, KCMP_FILE, a, b) == 0;
}

static int by_fd(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

static int list_vms(struct vmm *vmm)
{
	char path[64];
	struct dirent *e;
	int *fds, fd;
	size_t i, j, n = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", vmm->pid);
	dir = opendir(path);
	if (!dir) {
		if (errno == ENOENT)
			return fail(KVMI_EXIT_NOT_FOUND, "there is no process %d",
				    vmm->pid);
		return fail(errno == EACCES || errno == EPERM ?
			    KVMI_EXIT_DENIED : KVMI_EXIT_FAILED,
			    "%s: %s: it takes the VMM's own user, or root", path,
			    strerror(errno));
	}
	while ((e = readdir(dir))) {
		if (e->d_name[0] == '.')
			continue;
		fd = atoi(e->d_name);
		if (!is_vm(vmm->pid, fd))
			continue;
		fds = realloc(vmm->vm_fds, (n + 1) * sizeof(*fds));
		if (!fds)
			break;
		vmm->vm_fds = fds;
		fds[n++] = fd;
	}
	closedir(dir);

	if (n)
		qsort(vmm->vm_fds, n, sizeof(*vmm->vm_fds), by_fd);
	/* Of several descriptors of one VM keep the first. */
	for (i = 0; i < n; i++)
		for (j = i + 1; j < n; j++)
			if (same_vm(vmm->pid, vmm->vm_fds[i], vmm->vm_fds[j])) {
				memmove(&vmm->vm_fds[j], &vmm->vm_fds[j + 1],
					(n - j - 1) * sizeof(*vmm->vm_fds));
				n--;
				j--;
			}
	vmm->nr_vms = n;
	return 0;
}

static int choose_vm(struct vmm *vmm, unsigned int number)
{
	char list[256] = "";
	size_t i, len;

	if (!vmm->nr_vms)
		return fail(KVMI_EXIT_NOT_FOUND,
			    "process %d (%s) is not a VMM: none of its files is a KVM VM",
			    vmm->pid, vmm->comm);
	if (number > vmm->nr_vms)
		return fail(KVMI_EXIT_NOT_FOUND,
			    "--vm %u: process %d (%s) has %zu VM%s", number,
			    vmm->pid, vmm->comm, vmm->nr_vms,
			    vmm->nr_vms == 1 ? "" : "s");
	if (!number && vmm->nr_vms > 1) {
		for (i = 0; i < vmm->nr_vms; i++) {
			len = strlen(list);
			snprintf(list + len, sizeof(list) - len, "%s%zu (file %d)",
				 i ? ", " : "", i + 1, vmm->vm_fds[i]);
		}
		return fail(KVMI_EXIT_USAGE,
			    "process %d (%s) has %zu VMs, choose one with --vm: %s",
			    vmm->pid, vmm->comm, vmm->nr_vms, list);
	}
	vmm->fd = vmm->vm_fds[number ? number - 1 : 0];
	return 0;
}

int vmm_open(struct vmm *vmm, pid_t pid, unsigned int number)
{
	char path[64];
	int err;

	memset(vmm, 0, sizeof(*vmm));
	vmm->pid = pid;
	vmm->fd = -1;
	snprintf(path, sizeof(path), "/proc/%d", pid);
	if (access(path, F_OK))
		return fail(KVMI_EXIT_NOT_FOUND, "there is no process %d", pid);
	read_name(vmm);
	read_start_time(vmm);
	err = list_vms(vmm);
	if (!err)
		err = choose_vm(vmm, number);
	if (!err)
		err = inject_open(pid, NULL, &vmm->inj);
	if (err)
		vmm_close(vmm);
	return err;
}

void vmm_close(struct vmm *vmm)
{
	inject_close(vmm->inj);
	free(vmm->vm_fds);
	vmm->inj = NULL;
	vmm->vm_fds = NULL;
}

/* --- calls on the VM ------------------------------------------------------------ */

int vmm_stop(struct vmm *vmm)
{
	int err;

	err = inject_stop(vmm->inj);
	if (!err && !is_vm(vmm->pid, vmm->fd)) {
		inject_resume(vmm->inj);
		err = fail(KVMI_EXIT_GONE, "process %d has closed the VM meanwhile",
			   vmm->pid);
	}
	return err;
}

/* The text of an earlier failure stays, unless this fails too. */
int vmm_resume(struct vmm *vmm)
{
	return inject_resume(vmm->inj);
}

int vmm_ioctl(struct vmm *vmm, long *ret, unsigned long request, uint64_t arg)
{
	return inject_call(vmm->inj, ret, SYS_ioctl, vmm->fd, request, arg, 0, 0, 0);
}

int vmm_ioctl_struct(struct vmm *vmm, long *ret, unsigned long request,
		     const void *arg, size_t size)
{
	int err;

	err = inject_write(vmm->inj, 0, arg, size);
	if (!err)
		err = vmm_ioctl(vmm, ret, request, inject_data(vmm->inj, 0));
	return err;
}

int fail_introspection_off(void)
{
	if (access(PARAMETER, F_OK))
		return fail(KVMI_EXIT_DENIED,
			    "this kernel's KVM has no introspection (CONFIG_KVM_INTROSPECTION)");
	return fail(KVMI_EXIT_DENIED,
		    "introspection is disabled: boot with kvm.introspection=1, or load the kvm module with introspection=1");
}

int vmm_check_introspection(struct vmm *vmm)
{
	long ret;
	int err;

	err = vmm_ioctl(vmm, &ret, KVM_CHECK_EXTENSION, KVM_CAP_INTROSPECTION);
	if (!err && ret <= 0)
		err = fail_introspection_off();
	return err;
}

/*
 * A UUID that is this VM's for as long as the process lives, and no other's: the
 * boot, the process and the file, in the layout that is free for such (8).
 */
void vmm_default_uuid(const struct vmm *vmm, uint8_t uuid[16])
{
	char line[64];
	uint8_t boot[16] = { 0 };
	uint32_t pid = vmm->pid;
	uint16_t fd = vmm->fd;
	uint64_t start = vmm->start_ticks;
	unsigned int i;

	if (read_first_line("/proc/sys/kernel/random/boot_id", line, sizeof(line)))
		parse_uuid(line, boot);
	memcpy(uuid, boot, 16);
	for (i = 0; i < 4; i++)
		uuid[i] ^= pid >> (8 * i);
	for (i = 0; i < 2; i++)
		uuid[4 + i] ^= fd >> (8 * i);
	for (i = 0; i < 6; i++)
		uuid[10 + i] ^= start >> (8 * i);
	uuid[6] = (uuid[6] & 0x0f) | 0x80;
	uuid[8] = (uuid[8] & 0x3f) | 0x80;
}
