#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
#
# The fuzzers for some seconds each, from recorded sessions on.  For longer runs:
# FUZZ_SECONDS=3600 make fuzz. FUZZ_CORPUS names the folder where
# tests/record left what a real kernel said.
set -u -o pipefail

src=${KVMI_SRC:?}
out=${KVMI_OUT:?}
read -r -a hdr <<<"${KVMI_HDR_FLAGS:?}"
seconds=${FUZZ_SECONDS:-5}
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
# shellcheck source-path=SCRIPTDIR source=../../../kvm/kvmi/tests/tap.sh
. "$src/../../kvm/kvmi/tests/tap.sh"

if ! command -v clang > /dev/null ||
   ! echo 'int LLVMFuzzerTestOneInput(void); int LLVMFuzzerTestOneInput(void) { return 0; }' |
   clang -fsanitize=fuzzer,address -x c -o "$tmp/try" - > /dev/null 2>&1; then
	tap_skip "fuzzing needs clang and its libFuzzer"
	tap_done
fi

mkdir "$tmp/corpus"
targets="dom handshake"
if [ -n "${FUZZ_CORPUS-}" ]; then
	# what a kernel said; a VMM's part is not in it
	targets=dom
	cp "$FUZZ_CORPUS/session" "$tmp/corpus"
else
	"$out/tests/record" "$tmp/corpus" && [ -s "$tmp/corpus/hello" ]
fi && [ -s "$tmp/corpus/session" ]
tap_result $? "sessions are recorded for a corpus"
for target in $targets; do
	clang -g -O1 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined \
		-Wno-gnu-variable-sized-type-not-at-end -std=gnu11 -D_GNU_SOURCE -pthread "${hdr[@]}" "-I$src/include" "-I$src" \
		-o "$tmp/$target" "$src/fuzz/fuzz-$target.c" "$src"/*.c -lnettle > "$tmp/out" 2>&1
	tap_result $? "fuzz-$target is built"
	diag < "$tmp/out"
	cp -r "$tmp/corpus" "$tmp/corpus-$target"
	if (cd "$tmp" && "./$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 \
			-max_len=20000 -print_final_stats=1 "corpus-$target") > "$tmp/out" 2>&1; then
		runs=$(sed -n 's/^stat::number_of_executed_units: //p' "$tmp/out")
		[ "${runs:-0}" -gt 100 ]
		tap_result $? "fuzz-$target finds nothing"
		echo "# $runs inputs"
	else
		tap_result 1 "fuzz-$target finds nothing"
		tail -n 40 "$tmp/out" | diag
	fi
done
tap_done
