#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
#
# A listener with VMs that a test program plays: connecting, permissions that
# come late, info, protect, watch, several VMs, and ends of all kinds.
set -u -o pipefail

kvmi=${KVMI:?}
fake_vm=${FAKE_VM:?}
tmp=$(mktemp -d)
trap 'exec 7>&- 8>&-; kill $(jobs -p) 2> /dev/null; wait 2> /dev/null; rm -rf "$tmp"' EXIT
export KVMI_CONTROL=$tmp/control
# shellcheck source-path=SCRIPTDIR source=tap.sh
. "$(dirname "$0")/tap.sh"

start_listener()	# OPTION...
{
	: > "$tmp/listen.out"
	"$kvmi" listen --socket "$tmp/tool" "$@" > "$tmp/listen.out" 2> "$tmp/listen.err" &
	listener=$!
	wait_for grep -q listening "$tmp/listen.out"
	tap_result $? "the listener is up"
}

stop_listener()
{
	local status=0
	kill -TERM $listener
	wait $listener || status=$?
	[ $status -eq 0 ]
	tap_result $? "the listener ends in order"
	[ ! -e "$tmp/tool" ] && [ ! -e "$tmp/control" ]
	tap_result $? "and leaves no socket behind"
	[ ! -s "$tmp/listen.err" ]
	tap_result $? "and had nothing to complain about"
}

# start_vm NAME OPTION...: its words go to descriptor 8
start_vm()
{
	local name=$1
	shift
	rm -f "$tmp/words"
	mkfifo "$tmp/words"
	: > "$tmp/vm.out"
	"$fake_vm" "$tmp/tool" "$name" "$@" < "$tmp/words" > "$tmp/vm.out" 2>&1 &
	vm=$!
	exec 8> "$tmp/words"
	wait_for grep -q connected "$tmp/vm.out"
	tap_result $? "VM $(printf %q "$name") connects"
}

stop_vm()
{
	echo quit >&8
	exec 8>&-
	wait $vm
}

# ask WORD... -- TEXT: does the VM answer with the text?
ask()
{
	local all="$*" text words
	text=${all##*-- }
	words=${all%% -- *}
	: > "$tmp/vm.out"
	echo "$words" >&8
	if wait_for grep -q . "$tmp/vm.out" && grep -qxF -- "$text" "$tmp/vm.out"; then
		tap_result 0 "$words: $text"
	else
		tap_result 1 "$words: $text"
		diag < "$tmp/vm.out"
	fi
}

start_watch()		# OPTION...
{
	: > "$tmp/watch.out"
	: > "$tmp/watch.err"
	"$kvmi" watch "$@" > "$tmp/watch.out" 2> "$tmp/watch.err" &
	watch=$!
	wait_for grep -q watching "$tmp/watch.err" "$tmp/watch.out"
	tap_result $? "kvmi watch $*"
}

end_of_watch()		# STATUS NAME
{
	local status=0
	wait_for_end $watch
	wait $watch || status=$?
	[ $status -eq "$1" ]
	tap_result $? "$2 (status $status)"
}

wait_for_end()
{
	local i
	for ((i = 0; i < 400; i++)); do
		kill -0 "$1" 2> /dev/null || return 0
		sleep 0.05
	done
	kill "$1"
}

# --- one VM ---------------------------------------------------------------------------

start_listener
run 3 "no VM yet" "$kvmi" info
has "$tmp/err" "no VM is connected" "is named"
stat -c %a "$tmp/tool" "$tmp/control" > "$tmp/out"
has_not "$tmp/out" "7" "sockets are not for others"
[ "$(sort -u "$tmp/out")" = 600 ]
tap_result $? "but for their user alone"
run 5 "a second listener in the same place" "$kvmi" listen --socket "$tmp/tool" --control "$tmp/c2"
has "$tmp/err" "somebody listens there already" "is refused"
run 5 "a second listener with the same control socket" "$kvmi" listen --socket "$tmp/t2"
has "$tmp/err" "$tmp/control: somebody listens there already" "is refused"
[ ! -e "$tmp/t2" ]
tap_result $? "and leaves nothing behind"

start_vm alpha
run 0 "kvmi info" "$kvmi" info
has "$tmp/out" "name:               alpha" "the name of the handshake"
has "$tmp/out" "UUID:               616c7068-6161-6c70-6861-616c70686161" "its UUID"
has "$tmp/out" "highest gpa:        0x3ffff" "its highest gpa"
has "$tmp/out" "vCPUs:              4" "vCPUs"
has "$tmp/out" "protocol version:   1, messages up to 8184 bytes" "version"
has "$tmp/out" "rip 0xffffffff81000123" "registers"
has "$tmp/out" "  KVMI_VM_SET_PAGE_ACCESS" "allowed commands"
has_not "$tmp/out" "KVMI_VM_CONTROL_CLEANUP" "but not those unknown to the kernel"
has_not "$tmp/out" "kernel text" "no kernel text without --kernel"
has "$tmp/listen.out" "VM 1 connected: alpha" "the listener tells of it"
run 0 "kvmi info --kernel" "$kvmi" info --kernel
has "$tmp/out" "kernel text:        0xffffffff81000000..0xffffffff8100c000, 48 KiB" "the text"
has "$tmp/out" "gva 0xffffffff81000000 is gpa 0x10000+0x8000" "its first extent"
has "$tmp/out" "gva 0xffffffff81008000 is gpa 0x20000+0x4000" "its second extent"
has "$tmp/out" "system call entry:  gva 0xffffffff81003040 gpa 0x13040" "the entry"
run 0 "kvmi info --kernel --json" "$kvmi" info --kernel --json
[ "$(wc -l < "$tmp/out")" = 1 ]
tap_result $? "is one line"
has "$tmp/out" '"start":"0xffffffff81000000","end":"0xffffffff8100c000","size":"0xc000"' "the text"

# --- protect -----------------------------------------------------------------------------

ask enabled 0 -- enabled 0
run 0 "kvmi protect" "$kvmi" protect 0x10000+0x8000 r-x 0x20000+0x4000 r-x
has "$tmp/out" "12 pages set, 12 pages of VM 1 (alpha) are restricted" "says what it did"
ask access 0x10000 -- access 5
ask access 0x17fff -- access 5
ask access 0x18000 -- access 7
ask access 0x23fff -- access 5
for n in 0 1 2 3; do
	ask enabled $n -- enabled 1
done
run 0 "kvmi protect, a page with an access of its own" "$kvmi" protect 0x11800 r-- --json
has "$tmp/out" '"pages":1,"restricted_pages":12' "as JSON"
ask access 0x11000 -- access 1
run 1 "a page that is not guest memory" "$kvmi" protect 0x12000 rw- 0x3f000+0x2000 r--
has "$tmp/err" "VM 1 (alpha): gpa 0x40000 is not guest memory" "is named"
ask access 0x12000 -- access 5
ask access 0x3f000 -- access 7
run 1 "the same, after some messages have taken effect" \
	"$kvmi" protect 0x0+0x40000 r-- 0x0+0x40000 r-x 0x0+0x40000 --- 0x0+0x40000 -w- \
	0x0+0x40000 r-- 0x0+0x40000 r-x 0x0+0x40000 --- 0x0+0x40000 -w- 0x40000 ---
ask access 0x12000 -- access 5
ask access 0x11000 -- access 1
ask access 0x3f000 -- access 7
run 1 "too many pages" "$kvmi" protect 0+0xffffffffffffffff r--
has "$tmp/err" "are too many" "are refused"
run 0 "kvmi info" "$kvmi" info
has "$tmp/out" "restricted pages:   12" "counts the pages"

# --- watch -----------------------------------------------------------------------------------

: > "$tmp/vm.out"
ask pf 0 ffffffff81001000 11000 2 ffffffff81000200 -- answer vcpu 0 seq 1 action 0 event 17
start_watch --count 2
ask pf 1 ffffffff81001000 11008 2 ffffffff81000200 -- answer vcpu 1 seq 2 action 0 event 17
ask pf 3 ffffffffffffffff 12010 4 ffffffff81002010 -- answer vcpu 3 seq 3 action 0 event 17
end_of_watch 0 "ends after two events"
has "$tmp/watch.out" "vcpu 1 rip 0xffffffff81000200 gva 0xffffffff81001000 gpa 0x11008 access -w- action continue" "the first"
has "$tmp/watch.out" "vcpu 3 rip 0xffffffff81002010 gva - gpa 0x12010 access --x action continue" "the second, its gva not known"
[ "$(wc -l < "$tmp/watch.out")" = 2 ]
tap_result $? "one line each"
grep -qE '^[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6} vcpu' "$tmp/watch.out"
tap_result $? "with the time"
run 0 "kvmi info" "$kvmi" info
has "$tmp/out" "page-fault events:  3 (1 unwatched)" "counts the events"

start_watch --action retry --count 1 --json
ask pf 0 ffffffff81001000 11000 1 ffffffff81000200 -- answer vcpu 0 seq 4 action 1 event 17
end_of_watch 0 "answers retry"
has "$tmp/watch.out" '"vcpu":0,"rip":"0xffffffff81000200","gva":"0xffffffff81001000","gpa":"0x11000","access":"r--","action":"retry"' "as JSON"
has "$tmp/watch.out" '{"end":"count","events":1,"lost":0,"gone":false,"counts":{"pf":1}}' "with an end"
ask pf 0 ffffffff81001000 11000 1 ffffffff81000200 -- answer vcpu 0 seq 5 action 0 event 17

start_watch --action crash --count 1
run 5 "a second one that decides" "$kvmi" watch --once
has "$tmp/err" "another watcher decides" "is refused"
: > "$tmp/second.err"
"$kvmi" watch --count 1 > "$tmp/second.out" 2> "$tmp/second.err" &
second=$!
wait_for grep -q watching "$tmp/second.err"
tap_result $? "but one may look on"
ask pf 2 0 11000 1 0 -- answer vcpu 2 seq 6 action 2 event 17
end_of_watch 0 "answers crash"
wait $second
has "$tmp/second.out" "action crash" "and the other one sees it"

start_watch --once --count 3
ask pf 0 0 13000 2 0 -- answer vcpu 0 seq 7 action 1 event 17
ask access 0x13000 -- access 7
ask pf 1 0 13000 2 0 -- answer vcpu 1 seq 8 action 1 event 17
ask pf 1 0 11000 4 0 -- answer vcpu 1 seq 9 action 1 event 17
ask access 0x11000 -- access 5
ask access 0x14000 -- access 5
end_of_watch 0 "--once lifts what was violated"
has "$tmp/watch.out" "gpa 0x13000 access -w- action retry lifted" "and says so"

start_watch --timeout 1
end_of_watch 6 "--timeout ends it without events"
has "$tmp/watch.err" "no event came for 1 s" "and says so"

start_watch
kill -STOP $watch
for ((i = 0; i < 3000; i++)); do
	echo "pf 0 0 11000 1 0" >&8
done
wait_for grep -q "seq 3009 " "$tmp/vm.out"
tap_result $? "a stopped watcher does not stop the guest"
kill -CONT $watch
stop_vm
end_of_watch 0 "and ends with the VM"
grep -qE 'the VM has gone|connection has ended' "$tmp/watch.err"
tap_result $? "and says so"
wait_for grep -q "VM 1 gone" "$tmp/listen.out"
tap_result $? "as does the listener"

# --- permissions -----------------------------------------------------------------------------

start_vm late --allow-after 700
run 0 "permissions that come late are waited for" "$kvmi" protect 0x10000 r--
ask access 0x10000 -- access 1
stop_vm

start_vm never --allow-after 100000000
run 4 "permissions that never come" "$kvmi" protect 0x10000 r--
has "$tmp/err" "(never): the VMM does not allow KVMI_VM_SET_PAGE_ACCESS" "are named"
run 0 "but info tells what there is" "$kvmi" info
has "$tmp/out" "vCPU 0:             vCPU 0: KVMI_VCPU_GET_REGISTERS: not allowed by the VMM" "without registers"
run 4 "info --kernel needs them" "$kvmi" info --kernel
stop_vm

start_vm noread --deny 12
run 4 "no permission to read memory" "$kvmi" info --kernel
has "$tmp/err" "KVMI_VM_READ_PHYSICAL: not allowed by the VMM" "is named"
run 0 "protect works without" "$kvmi" protect 0x10000 r--
stop_vm

start_vm ap --late-vcpu 2
run 0 "a vCPU that has not started" "$kvmi" protect 0x10000 r--
has "$tmp/out" "vCPUs that report only when they start: 2" "is named"
ask enabled 1 -- enabled 1
ask enabled 2 -- enabled 0
echo "start-vcpu 2" >&8
is_enabled()
{
	: > "$tmp/vm.out"
	echo "enabled 2" >&8
	sleep 0.1
	grep -qx "enabled 1" "$tmp/vm.out"
}
wait_for is_enabled
tap_result $? "and reports once it has"
stop_vm

# --- other VMs ----------------------------------------------------------------------------------

start_vm old --old-hello
run 0 "a VMM that does not tell max_gpa" "$kvmi" info
has "$tmp/out" "highest gpa:        0x0" "is taken"
stop_vm

evil=$'e\033[31mvil\n"x'
start_vm "$evil"
run 0 "a name with control characters" "$kvmi" info
has "$tmp/out" 'e?[31mvil?"x' "is made harmless"
stop_vm

start_vm mute --silent
sleep 0.2
start_vm_pid=$vm
exec 7>&8
start_vm good
run 0 "a VM that says nothing does not disturb others" "$kvmi" info --vm good
run 2 "several VMs" "$kvmi" info
has "$tmp/err" "several VMs are connected, choose one with --vm" "are listed"
has "$tmp/err" "(mute," "by name"
run 3 "a VM that is not there" "$kvmi" info --vm nobody
has "$tmp/err" "--vm nobody: there is no such VM" "is named"
run 0 "by UUID" "$kvmi" info --vm 676f6f64-676f-6f64-676f-6f64676f6f64
number=$(sed -n 's/^VM \([0-9]*\) connected: good.*/\1/p' "$tmp/listen.out")
run 0 "by number" "$kvmi" info --vm "$number"
has "$tmp/out" "name:               good" "is the right one"
echo quit >&7
exec 7>&-
wait $start_vm_pid
mute_is_gone()
{
	! "$kvmi" list | grep -q mute
}
wait_for mute_is_gone

start_watch --count 5
echo unhook >&8
end_of_watch 7 "the VMM asks to let go"
has "$tmp/watch.err" "the VMM asked to let it go" "and the watcher is told"
wait_for grep -q "(good)\|VM $number gone: the VMM asked" "$tmp/listen.out"
tap_result $? "and the listener tells"
stop_vm

# --- ends of the listener -------------------------------------------------------------------------

start_vm last
run 0 "protect" "$kvmi" protect 0x10000 r--
start_watch --count 5
stop_listener
end_of_watch 7 "the watcher is told"
stop_vm

# A listener that was killed leaves its sockets; the next one replaces them.
start_listener --json
has "$tmp/listen.out" '{"event":"listening","socket":"' "as JSON"
kill -KILL $listener
wait $listener 2> /dev/null
[ -e "$tmp/tool" ]
tap_result $? "a killed listener leaves its socket"
start_listener --json
start_vm json
run 0 "info" "$kvmi" info
wait_for grep -q '"event":"connected"' "$tmp/listen.out"
has "$tmp/listen.out" '"name":"json"' "the VM as JSON"
stop_vm
wait_for grep -q '"event":"gone"' "$tmp/listen.out"
tap_result $? "and its end"
python3 - "$tmp/tool" <<'END' > "$tmp/out" 2>&1
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
s.connect(sys.argv[1])
s.sendall(bytes(104))
s.close()
END
wait_for grep -q '"event":"refused"' "$tmp/listen.out"
tap_result $? "and what is no VM"
json listen "all of it is of its form" "$tmp/listen.out"

# --- rubbish ------------------------------------------------------------------------------------------

if command -v python3 > /dev/null; then
	python3 - "$tmp/tool" "$tmp/control" <<'END' > "$tmp/out" 2>&1
import json, socket, sys
def conn(path):
    s = socket.socket(socket.AF_UNIX); s.settimeout(20); s.connect(path); return s
# What is not a hello is refused, and the connection closed.
for junk in (b"\0" * 200, b"\xff" * 200, b"GET / HTTP/1.0\r\n\r\n"):
    s = conn(sys.argv[1]); s.sendall(junk)
    try:
        assert s.recv(100) == b"", junk
    except ConnectionResetError:
        pass
# The control socket answers rubbish with an error.
for line, part in ((b"hello\n", "not JSON"), (b"[]\n", "not one JSON object"),
                   (b"{}\n", "cmd is missing"), (b'{"cmd":"x"}\n', "not known"),
                   (b'{"cmd":5}\n', "cmd is missing"),
                   (b'{"cmd":"protect"}\n', "ranges are missing"),
                   (b'{"cmd":"protect","ranges":[]}\n', "ranges are missing"),
                   (b'{"cmd":"protect","ranges":[5]}\n', "gfn is missing"),
                   (b'{"cmd":"protect","ranges":[{"gfn":"0x1","count":"0","access":"r--"}]}\n', "count is missing"),
                   (b'{"cmd":"protect","ranges":[{"gfn":"0xffffffffffff","count":"0xffffffffffffffff","access":"r--"}]}\n', "beyond 64 bits"),
                   (b'{"cmd":"protect","ranges":[{"gfn":"0x1","count":"1","access":"r"}]}\n', "three characters"),
                   (b'{"cmd":"watch","action":"explode"}\n', "not continue"),
                   (b'{"a":' * 200 + b"\n", "not JSON")):
    s = conn(sys.argv[2]); s.sendall(line)
    reply = json.loads(s.makefile().readline())
    assert part in reply["error"], (line[:60], reply)
s = conn(sys.argv[2]); s.sendall(b"x" * 300000)
assert "a line of more than" in json.loads(s.makefile().readline())["error"]
# Byte by byte is fine.
s = conn(sys.argv[2])
for b in b'{"cmd":"info"}\n':
    s.sendall(bytes([b]))
assert "no VM" in json.loads(s.makefile().readline())["error"]
print("all refused")
END
	has "$tmp/out" "all refused" "rubbish is refused on both sockets"
	has "$tmp/listen.out" '"event":"refused","why":"handshake: struct_size' "and told of"
else
	tap_skip "rubbish: needs python3"
fi
start_vm after
run 0 "and the listener still works" "$kvmi" info
stop_listener
stop_vm

# --- a key ----------------------------------------------------------------------------

(umask 077; echo secret > "$tmp/key")
start_listener --key-file "$tmp/key" --mutual
"$fake_vm" "$tmp/tool" stranger < /dev/null > "$tmp/vm.out" 2>&1
[ $? -ne 0 ]
tap_result $? "a VM that proves nothing does not get in"
wait_for grep -q "connection refused: handshake: the VMM does not offer to prove" "$tmp/listen.out"
tap_result $? "and the listener says so"
stop_listener

tap_done
