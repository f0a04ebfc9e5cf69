#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
#
# The command as other compilers build it, and the tests of the listener once more
# with one that ends at a wrong access, a leak or a data race.
set -u -o pipefail

kvmi=${KVMI:?}
here=$(dirname "$0")
src=$here/..
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
# shellcheck source-path=SCRIPTDIR source=tap.sh
. "$here/tap.sh"

# build DIR COMPILER FLAG...
build()
{
	local dir=$1 cc=$2
	shift 2
	mkdir -p "$dir"
	env -u MAKEFLAGS make -s -C "$src" OUTPUT="$dir/" STATIC="" CC="$cc" CFLAGS="$*" all \
		> "$dir/log" 2>&1
}

works()		# COMPILER FLAG...
{
	echo 'int main(void) { return 0; }' > "$tmp/try.c"
	"$@" -o "$tmp/try" "$tmp/try.c" > "$tmp/out" 2>&1 && "$tmp/try" > "$tmp/out" 2>&1
}

for cc in "gcc -O3" "clang -O2"; do
	read -r -a words <<<"$cc"
	if ! works "${words[@]}"; then
		tap_skip "there is no $cc"
		continue
	fi
	dir=$tmp/${cc// /}
	build "$dir" "${words[@]}"
	tap_result $? "$cc builds it without a warning"
	grep -v '^  ' "$dir/log" | head -n 20 | diag
done

# Clients come and go; it is the listener that has threads, and lives on.
try()		# NAME
{
	local dir=$tmp/$1 test
	cat > "$dir/kvmi-listen" <<-END
		#!/bin/sh
		[ "\$1" != listen ] || exec "$dir/kvmi" "\$@"
		exec "$kvmi" "\$@"
	END
	chmod +x "$dir/kvmi-listen"
	for test in listen verbs; do
		KVMI=$dir/kvmi-listen bash "$here/$test.sh" > "$dir/$test.out" 2>&1 < /dev/null
		echo $? > "$dir/$test.status"
	done
}

names=()
for name in address,undefined thread; do
	dir=$tmp/${name%,*}
	flags=(-g -O1 -fno-omit-frame-pointer "-fsanitize=$name")
	if ! works gcc "${flags[@]}"; then
		tap_skip "gcc has no -fsanitize=$name"
		continue
	fi
	build "$dir" gcc "${flags[@]}"
	tap_result $? "$name: it is built"
	names+=("${name%,*}")
done
export ASAN_OPTIONS=log_path=$tmp/address/report UBSAN_OPTIONS=log_path=$tmp/address/report
export TSAN_OPTIONS=log_path=$tmp/thread/report
for name in "${names[@]}"; do
	try "$name" &
done
wait
for name in "${names[@]}"; do
	for test in listen verbs; do
		status=$(cat "$tmp/$name/$test.status")
		tap_result "$status" "$name: $test"
		[ "$status" -eq 0 ] || grep -A 8 '^not ok' "$tmp/$name/$test.out" | head -n 60 | diag
	done
	! ls "$tmp/$name"/report* > "$tmp/out" 2>&1
	tap_result $? "$name: nothing was found"
	cat "$tmp/$name"/report* 2> /dev/null | head -n 80 | diag
done
tap_done
