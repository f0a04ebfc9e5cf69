#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
#
# The library as it is installed: a program elsewhere finds it with pkg-config,
# and nothing but it.
set -u -o pipefail

src=${KVMI_SRC:?}
read -r -a cc <<<"${CC:-cc}"
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
# shellcheck source-path=SCRIPTDIR source=../../../kvm/kvmi/tests/tap.sh
. "$src/../../kvm/kvmi/tests/tap.sh"

# Into $1, as if it were to lie in $2.
install_to()
{
	env -u MAKEFLAGS make -s -C "$src" OUTPUT="$tmp/build/" DESTDIR="$1" prefix="$2" install
}

install_to "" "$tmp/usr" > "$tmp/out" 2>&1
tap_result $? "make install"
diag < "$tmp/out"
install_to "$tmp/stage" /opt/kvmi > "$tmp/out" 2>&1
tap_result $? "make install with DESTDIR"
diag < "$tmp/out"
(cd "$tmp/usr" && find . | sort) > "$tmp/direct"
(cd "$tmp/stage/opt/kvmi" && find . | sort) > "$tmp/staged"
diff "$tmp/direct" "$tmp/staged" | diag
cmp -s "$tmp/direct" "$tmp/staged"
tap_result $? "puts the same there"
has "$tmp/stage/opt/kvmi/lib/pkgconfig/libkvmi.pc" "prefix=/opt/kvmi" "and does not tell of DESTDIR"
has "$tmp/direct" "./share/man/man3/kvmi_debug.3" "man pages are among it"

# One of the examples, away from the tree that it was written in.
cp "$src/examples/vms.c" "$tmp/program.c"
if ! command -v pkg-config > /dev/null; then
	tap_skip "the rest needs pkg-config"
	tap_done
fi
export PKG_CONFIG_PATH=$tmp/usr/lib/pkgconfig
pkg-config --exists --print-errors libkvmi > "$tmp/out" 2>&1
tap_result $? "pkg-config knows it"
diag < "$tmp/out"
read -r -a cflags < <(pkg-config --cflags libkvmi)
read -r -a libs < <(pkg-config --libs libkvmi)
read -r -a static_libs < <(pkg-config --libs --static libkvmi)
flags=(-D_GNU_SOURCE -Wall -Wextra -Werror -pthread "${cflags[@]}")
run 0 "a program with the shared library" "${cc[@]}" "${flags[@]}" -o "$tmp/shared" \
	"$tmp/program.c" "${libs[@]}"
run 0 "a program with the static one" "${cc[@]}" "${flags[@]}" -static -o "$tmp/static" \
	"$tmp/program.c" "${static_libs[@]}"
readelf -d "$tmp/shared" > "$tmp/dynamic"
has "$tmp/dynamic" "Shared library: [libkvmi.so.0]" "wants the library by its soname"
has_not "$tmp/dynamic" "nettle" "and by itself nothing that only that needs"
readelf -V "$tmp/shared" > "$tmp/versions"
has "$tmp/versions" "$(sed -n 's/^\(LIBKVMI_[0-9.]*\) *{.*/\1/p' "$src/libkvmi.map" | tail -n 1)" \
	"and of the version that it was built with"
for program in shared static; do
	# a socket path that cannot be
	LD_LIBRARY_PATH=$tmp/usr/lib "$tmp/$program" "$tmp/none/socket" 1 > "$tmp/out" 2>&1
	[ $? -eq 1 ]
	tap_result $? "$program: runs, and fails as it has to"
	has "$tmp/out" "$tmp/none/socket" "$program: for the reason that the library gives"
done
tap_done
