// SPDX-License-Identifier: GPL-2.0
/* Error codes and the texts that go with them; names of messages and events. */

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <linux/kvm_para.h>

#include "internal.h"

/* The values on the wire; headers before 6.12 lack some of the names. */
#ifndef KVM_ENOENT
#define KVM_ENOENT	2
#endif
#ifndef KVM_EAGAIN
#define KVM_EAGAIN	11
#endif
#ifndef KVM_ENOMEM
#define KVM_ENOMEM	12
#endif
#ifndef KVM_EBUSY
#define KVM_EBUSY	16
#endif

static __thread char error_text[512];

/**
 * kvmi_error - the text of the calling thread's last error
 *
 * Return: a text without a newline, valid until the thread's next call into
 * the library; empty if nothing has failed yet.
 */
const char *kvmi_error(void)
{
	return error_text;
}

/* Store the text of an error and return its code. */
int kvmi_fail(int err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(error_text, sizeof(error_text), fmt, ap);
	va_end(ap);
	return err;
}

/* Put something in front of the text of an error that was stored already. */
int kvmi_fail_prefix(int err, const char *fmt, ...)
{
	char old[sizeof(error_text)];
	va_list ap;
	size_t len;

	memcpy(old, error_text, sizeof(old));
	va_start(ap, fmt);
	vsnprintf(error_text, sizeof(error_text), fmt, ap);
	va_end(ap);
	len = strlen(error_text);
	snprintf(error_text + len, sizeof(error_text) - len, "%s", old);
	return err;
}

static const struct {
	int kvm;
	int err;
	const char *name;
	const char *reason;
} kvm_errors[] = {
	{ KVM_EPERM, EPERM, "KVM_EPERM", "not allowed by the VMM" },
	{ KVM_ENOENT, ENOENT, "KVM_ENOENT", "no such thing" },
	{ KVM_E2BIG, E2BIG, "KVM_E2BIG", "too big" },
	{ KVM_EAGAIN, EAGAIN, "KVM_EAGAIN", "the vCPU cannot be introspected yet" },
	{ KVM_ENOMEM, ENOMEM, "KVM_ENOMEM", "the kernel is out of memory" },
	{ KVM_EFAULT, EFAULT, "KVM_EFAULT", "bad address" },
	{ KVM_EBUSY, EBUSY, "KVM_EBUSY", "busy" },
	{ KVM_EINVAL, EINVAL, "KVM_EINVAL", "invalid argument" },
	{ KVM_EOPNOTSUPP, EOPNOTSUPP, "KVM_EOPNOTSUPP", "not supported here" },
	{ KVM_ENOSYS, ENOSYS, "KVM_ENOSYS", "unknown to the kernel" },
};

/* Translate kvmi_error_code.err, which is 0 or a negated KVM_E*. */
int kvmi_errno_of_kvm(__s32 err)
{
	unsigned int i;

	if (!err)
		return 0;
	for (i = 0; i < ARRAY_SIZE(kvm_errors); i++)
		if (err == -kvm_errors[i].kvm)
			return -kvm_errors[i].err;
	return -EPROTO;
}

/* The text for a negated errno that kvmi_errno_of_kvm() returned. */
const char *kvmi_reason_of_kvm(int err)
{
	static __thread char buf[96];
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(kvm_errors); i++) {
		if (err != -kvm_errors[i].err)
			continue;
		snprintf(buf, sizeof(buf), "%s (%s)", kvm_errors[i].reason,
			 kvm_errors[i].name);
		return buf;
	}
	return "an error code that is not part of the protocol";
}

#define NAME(id)	{ id, #id }

static const struct kvmi_name {
	unsigned int id;
	const char *name;
} message_names[] = {
	NAME(KVMI_VM_EVENT),
	NAME(KVMI_GET_VERSION),
	NAME(KVMI_VM_CHECK_COMMAND),
	NAME(KVMI_VM_CHECK_EVENT),
	NAME(KVMI_VM_GET_INFO),
	NAME(KVMI_VM_CONTROL_EVENTS),
	NAME(KVMI_VM_READ_PHYSICAL),
	NAME(KVMI_VM_WRITE_PHYSICAL),
	NAME(KVMI_VM_PAUSE_VCPU),
	NAME(KVMI_VM_CONTROL_CLEANUP),
	NAME(KVMI_VM_SET_PAGE_ACCESS),
	NAME(KVMI_VM_GET_MAX_GFN),
	NAME(KVMI_VCPU_EVENT),
	NAME(KVMI_VCPU_GET_INFO),
	NAME(KVMI_VCPU_CONTROL_EVENTS),
	NAME(KVMI_VCPU_GET_REGISTERS),
	NAME(KVMI_VCPU_SET_REGISTERS),
	NAME(KVMI_VCPU_GET_CPUID),
	NAME(KVMI_VCPU_CONTROL_CR),
	NAME(KVMI_VCPU_INJECT_EXCEPTION),
	NAME(KVMI_VCPU_GET_XCR),
	NAME(KVMI_VCPU_GET_XSAVE),
	NAME(KVMI_VCPU_SET_XSAVE),
	NAME(KVMI_VCPU_GET_MTRR_TYPE),
	NAME(KVMI_VCPU_CONTROL_MSR),
	NAME(KVMI_VCPU_CONTROL_SINGLESTEP),
	NAME(KVMI_VCPU_TRANSLATE_GVA),
}, event_names[] = {
	NAME(KVMI_VM_EVENT_UNHOOK),
	NAME(KVMI_VCPU_EVENT_PAUSE),
	NAME(KVMI_VCPU_EVENT_HYPERCALL),
	NAME(KVMI_VCPU_EVENT_BREAKPOINT),
	NAME(KVMI_VCPU_EVENT_CR),
	NAME(KVMI_VCPU_EVENT_TRAP),
	NAME(KVMI_VCPU_EVENT_XSETBV),
	NAME(KVMI_VCPU_EVENT_DESCRIPTOR),
	NAME(KVMI_VCPU_EVENT_MSR),
	NAME(KVMI_VCPU_EVENT_PF),
	NAME(KVMI_VCPU_EVENT_SINGLESTEP),
};

static const char *name_of(const struct kvmi_name *names, size_t n,
			   unsigned int id, const char *what)
{
	static __thread char buf[32];
	size_t i;

	for (i = 0; i < n; i++)
		if (names[i].id == id)
			return names[i].name;
	snprintf(buf, sizeof(buf), "%s %u", what, id);
	return buf;
}

/**
 * kvmi_message_name - the name of a message
 * @id: kvmi_msg_hdr.id
 */
const char *kvmi_message_name(unsigned int id)
{
	return name_of(message_names, ARRAY_SIZE(message_names), id, "message");
}

/**
 * kvmi_event_name - the name of an event
 * @id: kvmi_event_hdr.event
 */
const char *kvmi_event_name(unsigned int id)
{
	return name_of(event_names, ARRAY_SIZE(event_names), id, "event");
}
