#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
#
# The library's tests once more, with it and them built so that a wrong access,
# a leak or a data race ends the program.
set -u -o pipefail

src=${KVMI_SRC:?}
read -r -a hdr <<<"${KVMI_HDR_FLAGS:?}"
read -r -a cc <<<"${CC:-cc}"
read -r -a tests <<<"${KVMI_TESTS:?}"
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
# shellcheck source-path=SCRIPTDIR source=../../../kvm/kvmi/tests/tap.sh
. "$src/../../kvm/kvmi/tests/tap.sh"

# Or a sanitizer that finds nothing could be one that does nothing.
cat > "$tmp/leak.c" <<'END'
#include <stdlib.h>
void *volatile p;
int main(void)
{
	p = malloc(100);
	p = NULL;
	return 0;
}
END
cat > "$tmp/race.c" <<'END'
#include <pthread.h>
static int n;
static void *count(void *arg)
{
	for (int i = 0; i < 100000; i++)
		n++;
	return arg;
}
int main(void)
{
	pthread_t t;

	pthread_create(&t, NULL, count, NULL);
	count(NULL);
	pthread_join(t, NULL);
	return 0;
}
END

export ASAN_OPTIONS=detect_leaks=1:exitcode=99
export UBSAN_OPTIONS=print_stacktrace=1
export TSAN_OPTIONS=exitcode=99

# sanitize KIND BAD-PROGRAM TEST...: the library and its tests with -fsanitize=KIND
sanitize()
{
	local kind=$1 bad=$2 dir=$tmp/$2 test file status=0
	shift 2
	local tests=("$@")
	local flags=(-g -O1 -fno-omit-frame-pointer "-fsanitize=$kind" -fno-sanitize-recover=all
		     -std=gnu11 -D_GNU_SOURCE -pthread "${hdr[@]}" "-I$src/include")

	mkdir "$dir"
	if ! "${cc[@]}" "${flags[@]}" -o "$dir/bad" "$tmp/$bad.c" > "$tmp/out" 2>&1; then
		tap_skip "the compiler has no -fsanitize=$kind"
		return
	fi
	"$dir/bad" > "$tmp/out" 2>&1 || status=$?
	if [ $status -ne 99 ]; then
		tap_skip "-fsanitize=$kind finds nothing here, not even a $bad"
		return
	fi
	status=0
	for file in "$src"/*.c "$src/tests/peer.c"; do
		"${cc[@]}" "${flags[@]}" -c -o "$dir/$(basename "$file").o" "$file" || status=1
	done > "$tmp/out" 2>&1
	tap_result $status "$kind: the library is built"
	diag < "$tmp/out"
	# They wait most of the time, so all at once.
	for test in "${tests[@]}"; do
		{
			"${cc[@]}" "${flags[@]}" -o "$dir/$test" "$src/tests/$test.c" \
				"$dir"/*.o -lnettle && timeout 250 "$dir/$test"
			echo $? > "$dir/$test.status"
		} > "$dir/$test.out" 2>&1 < /dev/null &
	done
	wait
	for test in "${tests[@]}"; do
		status=$(cat "$dir/$test.status")
		tap_result "$status" "$kind: $test"
		[ "$status" -eq 0 ] || grep -v '^ok' "$dir/$test.out" | tail -n 60 | diag
	done
}

sanitize address,undefined leak "${tests[@]}"
# a race needs threads
sanitize thread race debug-test dom-test loop-test thread-test
tap_done
