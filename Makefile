# SPDX-License-Identifier: GPL-2.0
#
# What a person types. The work is done by the scripts in lab/; each of them
# explains itself with --help.

SHELL := /bin/bash
MAKEFLAGS += --no-print-directory --no-builtin-rules

# vendor of the demo's processor (amd or intel)
V ?= amd
# what runs the demo's guest: qemu, which knows nothing of introspection, or
# qemu-object, which connects to the tool by itself
VMM ?= qemu

.DEFAULT_GOAL := kernel

.PHONY: kernel
kernel: bzimage selftests tools

.PHONY: help
help:
	@echo "make            everything that runs: kernel, selftests, tools (in build/)"
	@echo "make demo       a tool catches a guest in the act   (V=intel: on an Intel machine)"
	@echo "                (VMM=qemu-object: with a QEMU that connects by itself)"
	@echo "make first-hour README's section of that name, typed into an Intel machine"
	@echo "make test       all tests and checks; ends with 'N passed, N failed, N skipped'"
	@echo "make bench      what an event costs, in instructions"
	@echo
	@echo "make refresh    carry edits in build/linux back into the project"
	@echo "                (PATCH=name.patch: into that patch, for files no patch holds)"
	@echo "make selftests  the kernel's own tests of KVM, static"
	@echo "make tools      libkvmi and the kvmi command"
	@echo "make qemu       the QEMU of lab/run, which also connects to a tool by itself"
	@echo "make bochs      the Bochs of lab/run, which is later than Debian 12's"
	@echo "make debug      a kernel with lockdep and KASAN, for lab/run -k"
	@echo "make vanilla    the kernel without this project, for comparisons"
	@echo "make packages   install what all of this needs"
	@echo "make clean      remove build/"
	@echo
	@echo "lab/run -- COMMAND   run a command on the built kernel (lab/run --help)"

# make all of them by hand, or let each target take what it needs
.PHONY: packages
packages:
	@lab/packages all

.PHONY: needs
needs:
	@lab/packages

.PHONY: tree
tree: needs
	@lab/tree update

.PHONY: bzimage
bzimage: tree
	@lab/kbuild base

.PHONY: selftests
selftests: tree
	@lab/selftests

.PHONY: tools
tools: needs
	@lab/tools

.PHONY: qemu
qemu:
	@lab/packages qemu
	@lab/qemu

.PHONY: bochs
bochs: needs
	@lab/bochs

.PHONY: debug
debug: tree
	@lab/kbuild debug
	@echo "  try     lab/run -k build/obj-debug/arch/x86/boot/bzImage -- COMMAND"

.PHONY: vanilla
vanilla: needs
	@lab/tree vanilla
	@lab/kbuild vanilla

.PHONY: refresh
refresh:
	@lab/tree refresh $(PATCH)

.PHONY: first-hour
first-hour: kernel bochs
	@lab/first-hour

.PHONY: demo
demo: kernel $(if $(filter intel,$(V)),bochs) $(if $(filter amd/% %/qemu-object,$(V)/$(VMM)),qemu)
	@lab/demo -v $(V) -w $(VMM)

.PHONY: bench
bench: kernel bochs
	@lab/bench

.PHONY: test
test: packages
	@lab/test

.PHONY: clean
clean:
	rm -rf build
