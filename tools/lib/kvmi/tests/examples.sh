#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
#
# The examples as clients of a VM that a test program plays.
set -u -o pipefail

out=${KVMI_OUT:?}
src=${KVMI_SRC:?}
tmp=$(mktemp -d)
trap 'exec 8>&-; kill $(jobs -p) 2> /dev/null; wait 2> /dev/null; rm -rf "$tmp"' EXIT
# shellcheck source-path=SCRIPTDIR source=../../../kvm/kvmi/tests/tap.sh
. "$src/../../kvm/kvmi/tests/tap.sh"

# start EXAMPLE ARGUMENT...
start()
{
	local example=$1
	shift
	: > "$tmp/out"
	"$out/examples/$example" "$tmp/socket" "$@" > "$tmp/out" 2>&1 &
	example_pid=$!
	wait_for grep -q listening "$tmp/out"
	tap_result $? "$example listens"
}

vm()		# NAME
{
	rm -f "$tmp/words"
	mkfifo "$tmp/words"
	: > "$tmp/vm.out"
	"$out/tests/fake-vm" "$tmp/socket" "$1" < "$tmp/words" > "$tmp/vm.out" 2>&1 &
	exec 8> "$tmp/words"
	wait_for grep -q connected "$tmp/vm.out"
	tap_result $? "$1 connects"
}

start cr3 2
vm alpha
wait_for grep -q "cr3 vcpu 0 enable 1" "$tmp/vm.out"
tap_result $? "cr3 asks for CR3"
sleep 0.2
echo "cr 0 3 0x1000 0x2000" >&8
wait_for grep -q "event 7 value 0x2000" "$tmp/vm.out"
tap_result $? "lets a write happen"
echo "cr 0 3 0x2000 0x3000" >&8
wait $example_pid
tap_result $? "and ends after two"
has "$tmp/out" "CR3 0x3000, was 0x2000" "prints them"
exec 8>&-

start vms 2
vm alpha
wait_for grep -q "alpha has come" "$tmp/out"
tap_result $? "vms sees it"
echo "pf 0 0x1000 0x1000 2 0x1000" >&8
wait_for grep -q "alpha: KVMI_VCPU_EVENT_PF" "$tmp/out"
tap_result $? "and its event"
echo quit >&8
wait_for grep -q "alpha has gone" "$tmp/out"
tap_result $? "and its end"
vm beta
wait_for grep -q "beta has come" "$tmp/out"
echo unhook >&8
wait $example_pid
tap_result $? "vms ends when the second lets go"
has "$tmp/out" "beta: KVMI_VM_EVENT_UNHOOK" "because it was asked to"
tap_done
