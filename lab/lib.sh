# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# What the scripts of the lab share.

# Instructions per emulated second. The guest's timers run on this clock and
# the emulator reaches about as many in a real second, so that a timeout in
# the guest means there what it means elsewhere.
# shellcheck disable=SC2034
bochs_ips=60000000

# The same for QEMU where time is counted (lab/run -i): an instruction takes 2^N ns. At
# less, a kernel that waits for a timer waits for millions of instructions; at more,
# the timer of a guest whose every tick is an event for a tool comes too often for
# it to get on.
# shellcheck disable=SC2034
icount_shift=2

# need_program NAME
need_program()
{
	command -v "$1" > /dev/null ||
		die "$1 is not installed: 'make packages' installs all that is needed"
}

# ensure_init TOP: build the machine's first process if it is not there or old
ensure_init()
{
	local dir=$1/build/lab new

	[ "$dir/init" -nt "$1/lab/init.c" ] && return 0
	mkdir -p "$dir" || return 1
	# side by side runs may find it missing at the same time
	new=$(mktemp "$dir/init.XXXXXX") || return 1
	"${CC:-gcc}" -Wall -Wextra -O2 -static -o "$new" "$1/lab/init.c" &&
		chmod 755 "$new" && mv "$new" "$dir/init" ||
		{ rm -f "$new"; return 1; }
}

# read_more FD SECONDS VAR: add to VAR what comes on FD within that time. True
# once VAR is a whole line; a serial port brings one in pieces.
read_more()
{
	local whole=0 more=

	IFS= read -r -t "$2" -u "$1" more || whole=1
	printf -v "$3" %s "${!3}$more"
	return $whole
}

# add_libraries ROOT PATH: for every dynamic program, and every module of one, at
# or below PATH, put the shared libraries and the loader that this machine gives
# it into ROOT
add_libraries()
{
	local root=$1 path=$2 file lib out

	while read -r -d '' file; do
		[ "$(head -c 4 "$file" | tr -d '\0')" = $'\x7fELF' ] || continue
		out=$(ldd "$file" 2> /dev/null) || continue	# static
		if grep -q 'not found' <<< "$out"; then
			echo "$file needs libraries that are not installed:" >&2
			grep 'not found' <<< "$out" >&2
			return 1
		fi
		while read -r lib; do
			[ -e "$root$lib" ] && continue
			mkdir -p "$root$(dirname "$lib")"
			cp -L --preserve=mode,timestamps "$lib" "$root$lib" || return 1
		done < <(grep -o '/[^ ]*' <<< "$out")
	done < <(find "$path" -type f \( -perm /111 -o -name '*.so' \) -print0)
	return 0
}

# The files of this machine's QEMU that a PC without display, disk and network
# needs; the shared libraries follow from the program.
qemu_files()
{
	command -v qemu-system-x86_64
	for f in /usr/share/seabios/bios-256k.bin \
		 /usr/share/qemu/bios-256k.bin \
		 /usr/share/qemu/kvmvapic.bin \
		 /usr/share/qemu/linuxboot_dma.bin; do
		if [ -e "$f" ]; then
			echo "$f"
		fi
	done
}

# make_guest FILE: the whole system of a small Linux guest, busybox and what it is
# to do; for lab/demo-guest-init
make_guest()
{
	local root applet rc

	root=$(mktemp -d "${TMPDIR:-/tmp}/kvmi-guest.XXXXXX") || return 1
	mkdir -p "$root"/{bin,dev,proc} &&
		cp -L "$(command -v busybox)" "$root/bin/busybox" &&
		for applet in cat cut grep mount poweroff sh sleep stty taskset uname; do
			ln -s busybox "$root/bin/$applet" || break
		done &&
		install -m 755 "$top/lab/demo-guest-init" "$root/init" &&
		(cd "$root" && find . | LC_ALL=C sort |
			cpio -o -H newc -R 0:0 --quiet --reproducible) > "$1"
	rc=$?
	rm -rf "$root"
	return $rc
}

# What the kernel says when something is wrong with it, as opposed to with
# the machine or with a program.
console_trouble='Kernel panic - not syncing|BUG: |WARNING: |Oops: |Oops\[|'\
'general protection fault|unable to handle|KASAN: |UBSAN: |'\
'possible circular locking|possible recursive locking|'\
'inconsistent lock state|suspicious RCU usage|held lock freed|'\
'DEBUG_LOCKS_WARN_ON|bad unlock balance|lock held when returning|'\
'list_(add|del) corruption|refcount_t: |ODEBUG: |'\
'INFO: task .* blocked for more than|unchecked MSR access error|'\
'Kernel stack is corrupted|Call Trace:|lab: init failed'

# Warnings that Bochs alone earns, in code that runs long before KVM does: its
# processors report no topology that fits several of them, and a wrong size of
# the compacted XSAVE area.
emulator_trouble='WARNING: .*arch/x86/kernel/cpu/topology_common.c:.* parse_legacy'\
'|WARNING: .*arch/x86/kernel/fpu/xstate.c:.* fpu__init_system_xstate'

# console_report LOG: the first report in LOG, or nothing
console_report()
{
	tr -d '\r' < "$1" | awk -v trouble="$console_trouble" -v known="$emulator_trouble" '
		# a warning is a block of its own and is judged as a whole
		/cut here \]/ { block = ""; inside = 1 }
		inside {
			block = block $0 "\n"
			if (/---\[ end/) {
				inside = 0
				if (block !~ known) {
					printf "%s", block
					found = 1
					exit
				}
			}
			next
		}
		# kvmi_nomem_test has allocations fail: vmalloc() is not silent about it
		/kvmi_nomem_test: vmalloc error/ { told = 1 }
		told {
			if (/<\/TASK>/)
				told = 0
			next
		}
		!printing && $0 ~ trouble { printing = 1; left = 80 }
		printing {
			print
			if (/---\[ end/ || --left == 0)
				exit
		}
		END {
			if (inside && !found && block !~ known)
				printf "%s", block
		}'
}

# kbuild_env DIR: the compiler and its cache. Every tree and every variant is
# built from DIR/linux in DIR/obj*, and what the compiler sees is relative to
# there: other folders take from the cache what was compiled in this one.
kbuild_env()
{
	kcc=gcc khostcc=gcc
	if command -v ccache > /dev/null; then
		kcc="ccache gcc" khostcc="ccache gcc"
		export CCACHE_BASEDIR=$1
		export CCACHE_SLOPPINESS=time_macros,include_file_mtime,include_file_ctime,locale
		export CCACHE_COMPRESSLEVEL=1
		# what a file includes says the compiler, with no preprocessor before it
		export CCACHE_DEPEND=1
	fi
	export KBUILD_BUILD_TIMESTAMP="1970-01-01" KBUILD_BUILD_USER=lab KBUILD_BUILD_HOST=lab
	export LC_ALL=C
	kargs=()
}

# progress NAME LOG COMMAND...: run COMMAND with its output in LOG, showing
# how far it is; what the compiler complains about is shown as well
progress()
{
	local name=$1 log=$2 tty=
	shift 2

	[ -t 1 ] && tty=1
	: > "$log"
	"$@" 2>&1 | tee "$log" | awk -v name="$name" -v tty="$tty" -v start="$(date +%s)" '
		function show(end) {
			"date +%s" | getline now
			close("date +%s")
			printf "%s  BUILD   %s: %d objects, %d:%02d%s", (tty ? "\r" : ""), name,
				n, (now - start) / 60, (now - start) % 60, (tty && !end ? "" : "\n")
			fflush()
		}
		/^  (CC|AS|HOSTCC|LD|AR) / {
			if (++n % (tty ? 20 : 200) == 0)
				show(0)
			next
		}
		/(warning|error|Error|undefined reference|\*\*\*)[: ]/ {
			if (tty)
				printf "\r\033[K"
			print
			fflush()
			next
		}
		/^  (BUILD|OBJCOPY|MKPIGGY|DEPMOD) / { next }
		END { if (n) show(1) }'
}
