#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
#
# The library as a file: what it exports, that the public header stands on its
# own, and that a program can be linked with it either way.
set -eu -o pipefail

src=${KVMI_SRC:?}
out=${KVMI_OUT:?}
read -r -a hdr <<<"${KVMI_HDR_FLAGS:?}"
read -r -a cc <<<"${CC:-cc}"
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

n=0
failed=0
result() {		# STATUS NAME
	n=$((n + 1))
	if [ "$1" -eq 0 ]; then
		echo "ok $n - $2"
	else
		echo "not ok $n - $2"
		failed=1
	fi
}
try() {			# NAME COMMAND...
	local name=$1 status=0
	shift
	"$@" >"$tmp/out" 2>&1 || status=$?
	result "$status" "$name"
	[ "$status" -eq 0 ] || sed 's/^/# /' "$tmp/out"
}

declared() {
	tr '\n' ' ' <"$src/include/kvmi/libkvmi.h" |
		grep -oE '\bkvmi_[a-z_]+\([^;{]*\);' | sed 's/(.*//' | sort -u
}
exported() {
	nm -D --defined-only "$out/libkvmi.so" | sed -n 's/.* T \([^@]*\).*/\1/p' | sort -u
}
declared >"$tmp/declared"
exported >"$tmp/exported"
try "the header declares functions" test -s "$tmp/declared"
try "exports are what the header declares" diff "$tmp/declared" "$tmp/exported"

nm -g --defined-only "$out/libkvmi.a" | sed -n 's/.* [A-Z] //p' |
	{ grep -v '^kvmi_' || test $? -eq 1; } >"$tmp/foreign"
try "the archive defines nothing without the prefix" test ! -s "$tmp/foreign"

readelf -d "$out/libkvmi.so" >"$tmp/dyn"
try "soname is libkvmi.so.0" grep -qF '[libkvmi.so.0]' "$tmp/dyn"

cat >"$tmp/prog.c" <<'END'
#include <kvmi/libkvmi.h>
int main(void)
{
	return !kvmi_message_name(12) || !kvmi_error();
}
END
cp "$tmp/prog.c" "$tmp/prog.cc"
flags=(-Wall -Wextra -Werror "${hdr[@]}" "-I$src/include")
try "shared: link" "${cc[@]}" "${flags[@]}" -o "$tmp/shared" "$tmp/prog.c" -L"$out" -lkvmi
try "shared: run" env LD_LIBRARY_PATH="$out" "$tmp/shared"
try "static: link" "${cc[@]}" "${flags[@]}" -static -o "$tmp/static" "$tmp/prog.c" "$out/libkvmi.a" -lnettle
try "static: run" "$tmp/static"
try "the header alone, C99" "${cc[@]}" "${flags[@]}" -std=c99 -fsyntax-only "$tmp/prog.c"
if command -v c++ >/dev/null; then
	try "the header alone, C++" c++ "${flags[@]}" -fsyntax-only "$tmp/prog.cc"
else
	n=$((n + 1))
	echo "ok $n # SKIP no C++ compiler"
fi
cat "$out"/man/*.3 > "$tmp/man"
while read -r name; do
	grep -qF "$(sed 's/_/\\_/g' <<<"$name")" "$tmp/man" || grep -qF "$name" "$tmp/man" || echo "$name"
done <"$tmp/declared" >"$tmp/undocumented"
try "each function is in a man page" test ! -s "$tmp/undocumented"
sed 's/^/# /' "$tmp/undocumented"
try "the pkg-config file has no placeholder left" sh -c "! grep @ '$out/libkvmi.pc'"

echo "1..$n"
exit "$failed"
