# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# What the checks share. A check prints what it found and ends with status 0,
# 1 (something is wrong) or 4 (cannot be done on this machine: the last line
# says why), or it prints TAP.

set -u -o pipefail
export LC_ALL=C

top=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../.." && pwd)
. "$top/lab/lib.sh"
cd "$top" || exit 1

# scratch space of this check
scratch=$(mktemp -d "${TMPDIR:-/tmp}/kvmi-check.XXXXXX") || exit 1
trap 'rm -rf "$scratch"' EXIT
trap 'exit 143' TERM
trap 'exit 130' INT

die()
{
	echo "$*"
	exit 1
}

# the project's files, all of them or those that match patterns
project_files()
{
	local args=() p

	for p in "$@"; do
		[ ${#args[@]} -eq 0 ] || args+=(-o)
		args+=(-name "$p")
	done
	[ ${#args[@]} -eq 0 ] || args=(\( "${args[@]}" \))
	find . \( -path ./build -o -path ./.git \) -prune -o -type f ${args[@]+"${args[@]}"} \
		! -name '*~' ! -name '*.o' -printf '%P\n' | sort
}

# those of them that lie in the kernel tree, as the kernel's tree names them
kernel_files()
{
	project_files "$@" | grep -E '^(arch|virt|include|Documentation|tools)/'
	[ ! -f Kconfig ] || case " $* " in
	"  "|*" Kconfig "*) echo virt/kvm/introspection/Kconfig ;;
	esac
}

series()
{
	[ ! -f patches/series ] || sed -e 's/#.*//' -e '/^[[:space:]]*$/d' -e 's/[[:space:]].*//' patches/series
}

# the kernel's own files that a patch changes, one a line
files_of_patch()
{
	# whatever the first part is called that patch -p1 takes off
	sed -n 's|^+++ [^/[:space:]]*/\([^[:space:]]*\).*|\1|p' "$1"
}

files_of_patches()
{
	local p

	for p in $(series); do
		files_of_patch "patches/$p"
	done | sort -u
}

# ---------------------------------------------------------------- TAP

tap_count=0 tap_failed=0

plan()
{
	echo "1..$1"
}

# expect WHAT COMMAND...: one result, from the command's status
expect()
{
	local what=$1 out
	shift

	tap_count=$((tap_count + 1))
	if out=$("$@" 2>&1); then
		echo "ok $tap_count $what"
	else
		[ -z "$out" ] || sed 's/^/# /' <<< "$out"
		echo "not ok $tap_count $what"
		tap_failed=1
	fi
}

# skip WHAT WHY: one result, of what cannot be done here
skip()
{
	tap_count=$((tap_count + 1))
	echo "ok $tap_count $1 # SKIP $2"
}
