#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
#
# The verbs that read and control a VM, which a test program plays; what they
# print with --json is checked with the schema.
set -u -o pipefail

kvmi=${KVMI:?}
fake_vm=${FAKE_VM:?}
here=$(dirname "$0")
tmp=$(mktemp -d)
trap 'exec 8>&-; kill $(jobs -p) 2> /dev/null; wait 2> /dev/null; rm -rf "$tmp"' EXIT
export KVMI_CONTROL=$tmp/control
# shellcheck source-path=SCRIPTDIR source=tap.sh
. "$here/tap.sh"

text=0xffffffff81000000

# say WORD...: to the VM; ask WORD... -- TEXT: and does it answer so?
say()
{
	: > "$tmp/vm.out"
	echo "$*" >&8
}

ask()
{
	local all="$*"
	say "${all%% -- *}"
	wait_for grep -qxF -- "${all##*-- }" "$tmp/vm.out"
	tap_result $? "$all"
}

vm_says()
{
	wait_for grep -qF -- "$1" "$tmp/vm.out"
	tap_result $? "the VM is told: $1"
}

# start FILE VERB...: in the background, until it is at work
start()
{
	local file=$1
	shift
	: > "$tmp/$file"
	: > "$tmp/$file.err"
	"$kvmi" "$@" > "$tmp/$file" 2> "$tmp/$file.err" &
	background=$!
	wait_for grep -q . "$tmp/$file" "$tmp/$file.err"
	tap_result $? "kvmi $*"
}

finish()		# STATUS NAME
{
	local status=0
	wait $background || status=$?
	[ $status -eq "$1" ]
	tap_result $? "$2 (status $status)"
}

"$kvmi" listen --socket "$tmp/tool" > "$tmp/listen.out" 2> "$tmp/listen.err" &
listener=$!
wait_for grep -q listening "$tmp/listen.out"
run 0 "list, and there is none" "$kvmi" list --json
json list "an empty list"
mkfifo "$tmp/words"
# As "kvmi hook" does: it tells what addresses there can be, not where memory ends.
"$fake_vm" "$tmp/tool" alpha --max-gpa 0xffffffffff < "$tmp/words" > "$tmp/vm.out" 2>&1 &
exec 8> "$tmp/words"
wait_for grep -q connected "$tmp/vm.out"
wait_for grep -q "VM 1 connected" "$tmp/listen.out"
tap_result $? "a VM"

# --- what there is -------------------------------------------------------------------

run 0 "list" "$kvmi" list
has "$tmp/out" "alpha" "has its name"
run 0 "list as JSON" "$kvmi" list --json
json list "is of its form"
has "$tmp/out" '"vm":1' "has the VM"
run 0 "list --vm" "$kvmi" list --vm nobody --json
has "$tmp/out" '"vms":[]' "has only those that are asked for"
run 0 "info" "$kvmi" info
has "$tmp/out" "end of RAM:         gpa 0x" "tells where the memory ends"
has "$tmp/out" "features:           singlestep, max_gfn, pf_walk" "and what the kernel can do"
run 0 "info as JSON" "$kvmi" info --kernel --json
json info "is of its form"
has "$tmp/out" '"KVMI_VM_GET_MAX_GFN"' "names a command beyond version 1"
run 0 "regs" "$kvmi" regs
has "$tmp/out" "vCPU 3: 64-bit mode" "shows all vCPUs"
has "$tmp/out" "rax 0x1234567890abcdef" "and their registers"
run 0 "regs of one vCPU, as JSON" "$kvmi" regs --vcpu 1 --msr 0x10 --msr 0xc0000082 --json
json regs "is of its form"
has "$tmp/out" '{"msr":"0xc0000082","value":"0xffffffff81003040"}' "has the MSRs"
has_not "$tmp/out" '"vcpu":0' "and no other vCPU"
run 3 "regs of a vCPU that is not there" "$kvmi" regs --vcpu 9
has "$tmp/err" "there is no vCPU 9, only 4 of them" "is named"
run 0 "cr" "$kvmi" cr --vcpu 0
has "$tmp/out" "cr3 0x1000" "shows CR3"
run 0 "cr as JSON" "$kvmi" cr --json
json cr "is of its form"
run 0 "msr" "$kvmi" msr 0xc0000082 --vcpu 2
has "$tmp/out" "MSR 0xc0000082 0xffffffff81003040" "shows the MSR"
run 0 "msr as JSON" "$kvmi" msr 0xc0000082 --json
json msr "is of its form"
run 2 "msr of nothing" "$kvmi" msr
run 2 "cr 2" "$kvmi" cr 2 --on

for verb in list info regs cr "msr 0x10" "read --phys 0 16" "translate $text" \
		"list --json" "regs --json"; do
	run 1 "$verb, and the disk is full" sh -c "exec '$kvmi' $verb > /dev/full"
	has "$tmp/err" "writing the output failed" "is said"
done

# --- memory ---------------------------------------------------------------------------

run 0 "write" "$kvmi" write --phys 0x10ffe 61626364
has "$tmp/out" "4 bytes written" "tells how much"
ask "byte 0x11001 -- byte 64"
run 0 "read, over the end of a page" "$kvmi" read --phys 0x10ffe 4
has "$tmp/out" "0000000000010ffe  61 62 63 64" "has what was written"
has "$tmp/out" "abcd" "and as text"
run 0 "read by virtual address" "$kvmi" read 0xffffffff81000ffe 4 --raw
[ "$(cat "$tmp/out")" = abcd ]
tap_result $? "has the same"
run 0 "the pages of virtual memory lie apart" "$kvmi" read 0xffffffff81007ff8 0x10 --json
json read "read as JSON is of its form"
run 3 "read what is not mapped" "$kvmi" read 0xffffffff8100fff8 16
has "$tmp/err" "gva 0xffffffff8100fff8 is not mapped on vCPU 0" "is named"
run 3 "read beyond the memory" "$kvmi" read --phys 0x3fff0 32
has "$tmp/err" "gpa 0x40000" "is named"
run 2 "write what is no bytes" "$kvmi" write --phys 0x1000 zz
run 2 "read nothing" "$kvmi" read 0x1000 0
head -c 100000 /dev/urandom > "$tmp/noise"
if "$kvmi" write --phys 0x18000 < "$tmp/noise" > "$tmp/out" 2> "$tmp/err"; then
	tap_result 0 "write what comes on standard input"
else
	tap_result 1 "write what comes on standard input"
	diag < "$tmp/err"
fi
"$kvmi" read --phys 0x18000 100000 --raw > "$tmp/back" && cmp "$tmp/noise" "$tmp/back"
tap_result $? "and read it back, in several requests"
"$kvmi" write --phys 0x20000 --json < /dev/null > "$tmp/out"
json write "write as JSON is of its form"
run 0 "translate" "$kvmi" translate 0xffffffff81008123
has "$tmp/out" "gva 0xffffffff81008123 is gpa 0x20123" "tells where it lies"
run 3 "translate what is not mapped" "$kvmi" translate 0x1234
has "$tmp/out" "gva 0x1234 is not mapped" "says so"
run 0 "translate as JSON" "$kvmi" translate --json 0xffffffff81008123
json translate "is of its form"
run 3 "translate what is not mapped, as JSON" "$kvmi" translate --json 0x1234
json translate "is of its form"

# --- symbols ----------------------------------------------------------------------------

# The guest's kernel was moved by 0x1000000: its entry is at ...81003040.
cat > "$tmp/System.map" <<END
ffffffff80000000 T _text
ffffffff80000100 T do_this
ffffffff80000200 t do_that
ffffffff80003040 T entry_SYSCALL_64
END
run 0 "translate a symbol" "$kvmi" translate --symbols "$tmp/System.map" do_that
has "$tmp/out" "gva 0xffffffff81000200 is gpa 0x10200" "moved as the kernel is"
run 0 "and an offset" "$kvmi" translate --symbols "$tmp/System.map" do_that+0x8
has "$tmp/out" "gva 0xffffffff81000208" "is added"
run 3 "an unknown one" "$kvmi" translate --symbols "$tmp/System.map" do_what
has "$tmp/err" '"do_what": there is no such symbol' "is named"
run 2 "a name without symbols" "$kvmi" translate do_that
has "$tmp/err" "a name needs --symbols" "is named"
sed 's/3040 T/3044 T/' "$tmp/System.map" > "$tmp/other.map"
run 2 "symbols of another kernel" "$kvmi" translate --symbols "$tmp/other.map" do_that
has "$tmp/err" "is not of the kernel that the guest runs" "are found out"
run 2 "no symbols at all" "$kvmi" translate --symbols "$tmp/noise" do_that
run 3 "a file that is not there" "$kvmi" translate --symbols "$tmp/none" do_that

# --- breakpoints --------------------------------------------------------------------------

"$kvmi" write 0xffffffff81000100 55 > /dev/null
"$kvmi" write 0xffffffff81000200 56 > /dev/null
say "exec 0 0xffffffff81000100"
vm_says "executed 55"
start hits break --symbols "$tmp/System.map" do_this do_that --count 3 --timeout 30
wait_for grep -q '2 breakpoints' "$tmp/hits.err"
tap_result $? "are set"
ask "byte 0x10100 -- byte cc"
say "exec 0 0xffffffff81000100"
vm_says "answer vcpu 0 seq"
wait_for grep -q 'hit vcpu 0 rip 0xffffffff81000100 gpa 0x10100 do_this$' "$tmp/hits"
tap_result $? "vCPU 0 hits the first"
wait_for grep -q "event 19" "$tmp/vm.out"
tap_result $? "and steps over it"
ask "byte 0x10100 -- byte cc"
say "exec 1 0xffffffff81000200"
wait_for grep -q 'hit vcpu 1 rip 0xffffffff81000200 gpa 0x10200 do_that$' "$tmp/hits"
tap_result $? "vCPU 1 hits the second"
wait_for grep -q "event 19" "$tmp/vm.out"
say "exec 1 0xffffffff81000100"
finish 0 "it ends after three hits"
has "$tmp/hits" "2 hits of do_this" "counts the first"
has "$tmp/hits" "1 hits of do_that" "and the second"
ask "byte 0x10100 -- byte 55"
ask "byte 0x10200 -- byte 56"

start hits break $text --json
say "exec 2 $text"
wait_for grep -q '"event":"breakpoint"' "$tmp/hits"
tap_result $? "a hit as JSON"
wait_for grep -q "event 19" "$tmp/vm.out"
kill -INT $background
finish 0 "interrupted"
cp "$tmp/hits" "$tmp/out"
json break "break as JSON is of its form"
has "$tmp/out" '"end":"interrupted","events":1' "with an end"
wait_for "$kvmi" pause --vcpu 3
ask "byte 0x10000 -- byte $("$kvmi" read --phys 0x10000 1 --raw | od -An -tx1 | tr -d ' ')"
"$kvmi" resume > /dev/null
run 3 "a breakpoint where nothing is mapped" "$kvmi" break 0x1000
has "$tmp/err" "gva 0x1000 is not mapped" "is named"
run 2 "a breakpoint nowhere" "$kvmi" break

# --- standing still -------------------------------------------------------------------------

run 0 "pause" "$kvmi" pause
has "$tmp/out" "paused vCPUs: 0 1 2 3" "stops all"
run 0 "pause as JSON" "$kvmi" pause --json
json pause "is of its form"
run 0 "step" "$kvmi" step --vcpu 1 --count 3 --symbols "$tmp/System.map"
[ "$(grep -c 'vcpu 1 rip' "$tmp/out")" = 3 ]
tap_result $? "makes three steps"
run 0 "step as JSON" "$kvmi" step --vcpu 1 --json
json step "is of its form"
start steps step --vcpu 1 --count 100000000
kill -INT $background
finish 0 "step, interrupted"
run 0 "resume one" "$kvmi" resume --vcpu 1
has "$tmp/out" "resumed vCPUs: 1" "lets it run"
run 0 "resume as JSON" "$kvmi" resume --json
json resume "is of its form"
has "$tmp/out" '"resumed":[0,2,3]' "lets the others run"
run 3 "resume once more" "$kvmi" resume
has "$tmp/err" "no vCPU is paused" "is named"
run 0 "step a vCPU that runs" "$kvmi" step --count 2
run 3 "it runs on afterwards" "$kvmi" resume

# --- events -----------------------------------------------------------------------------------

say ""
run 0 "cr --on" "$kvmi" cr --on 3 4
wait_for grep -q "cr4 vcpu 3 enable 1" "$tmp/vm.out"
tap_result $? "asks all vCPUs"
run 0 "msr --on" "$kvmi" msr --on 0x174 --json
json msr "is of its form"
start events watch --event cr,msr --count 2 --json
say "cr 1 3 0x1000 0x2000"
vm_says "event 7 value 0x2000"
say "msr 0 174 0x10 0x20"
vm_says "event 15 value 0x20"
finish 0 "two events"
cp "$tmp/events" "$tmp/out"
json watch "are of their form"
has "$tmp/out" '"cr":3,"old":"0x1000","new":"0x2000"' "CR3"
has "$tmp/out" '"msr":"0x174","old":"0x10","new":"0x20"' "the MSR"
start events watch --event cr --vcpu 2 --summary
say "cr 1 3 0x1000 0x2000"
vm_says "event 7"
say "cr 2 3 0x1000 0x3000"
vm_says "event 7"
sleep 0.2
kill -INT $background
finish 0 "a summary, interrupted"
has "$tmp/events" "1 events" "counts only those of vCPU 2"
has "$tmp/events" "cr          1" "by their kind"
start events watch --event cr --count 1
say "cr 2 3 0x1000 0x3000"
finish 0 "one event"
has "$tmp/events.err" "cr          1" "is counted at the end, too"
has_not "$tmp/events" "cr          1" "not among the events"
run 0 "cr --off" "$kvmi" cr --off 3 4
run 3 "cr --off once more" "$kvmi" cr --off 3
start events watch --gpa 0x10000+0x1000 --count 1
say "pf 0 0 0x11000 2 0x1234"
vm_says "event 17"
say "pf 0 0 0x10fff 2 0x1234"
finish 0 "an event in a range"
[ "$(grep -c "gpa 0x10fff access -w-" "$tmp/events")" = 1 ] && [ "$(wc -l < "$tmp/events")" = 1 ]
tap_result $? "and none outside of it"
run 2 "watch an unknown event" "$kvmi" watch --event nothing
has "$tmp/err" '"nothing" is no kind of event' "is named"

# --- a core --------------------------------------------------------------------------------------

run 0 "dump" "$kvmi" dump "$tmp/core"
has "$tmp/out" "256 KiB of guest memory in 1 pieces" "has all memory"
[ "$(stat -c %a "$tmp/core")" = 600 ]
tap_result $? "is for nobody else"
run 5 "dump once more" "$kvmi" dump "$tmp/core"
has "$tmp/err" "--force overwrites it" "leaves the file alone"
run 0 "dump --force, as JSON" "$kvmi" dump --force --json "$tmp/core"
json dump "is of its form"
"$kvmi" read --phys 0x18000 4096 --raw > "$tmp/page"
dd if="$tmp/core" bs=4096 skip=$(((0x100000 + 0x18000) / 4096)) count=1 of="$tmp/page2" status=none
cmp "$tmp/page" "$tmp/page2"
tap_result $? "has the memory at its place"
readelf -lW "$tmp/core" > "$tmp/out"
grep -q 'LOAD  *0x110000 0xffffffff81000000 0x0000000000010000 0x008000' "$tmp/out" ||
	grep -q 'NOTE' "$tmp/out"
tap_result $? "readelf reads it"
readelf -nW "$tmp/core" > "$tmp/out" 2>&1
[ "$(grep -c NT_PRSTATUS "$tmp/out")" = 4 ]
tap_result $? "a note for each vCPU"
if command -v gdb > /dev/null; then
	gdb -nx -batch -ex 'info threads' -ex 'info registers rax' \
		-ex 'x/4xb 0x18000' -c "$tmp/core" > "$tmp/out" 2>&1
	has "$tmp/out" "0x1234567890abcdef" "gdb reads its registers"
	want=$(od -An -tx1 -N4 "$tmp/noise" | sed 's/ \(..\)/\t0x\1/g')
	has "$tmp/out" "$want" "and its memory"
else
	tap_skip "opening the core needs gdb"
fi
cp "$tmp/core" "$tmp/core.before"
run 3 "dump --force, and there is no listener" "$kvmi" dump --force --control "$tmp/none" "$tmp/core"
cmp "$tmp/core" "$tmp/core.before"
tap_result $? "leaves the file as it was"
mkfifo "$tmp/fifo"
ln -s core "$tmp/link"
for file in fifo link; do
	run 5 "dump --force into a $file" "$kvmi" dump --force "$tmp/$file"
	has "$tmp/err" "$file: is there, and not a file" "is refused"
done
[ -p "$tmp/fifo" ] && [ -L "$tmp/link" ] && cmp "$tmp/core" "$tmp/core.before"
tap_result $? "and nothing is touched"
"$kvmi" pause --vcpu 2 > "$tmp/out"
start progress dump --json --force --max-gpa 0xfffffffffff "$tmp/core"
kill -INT $background
finish 1 "dump, interrupted"
has "$tmp/progress" "dump: interrupted" "says so"
cmp "$tmp/core" "$tmp/core.before"
tap_result $? "the old file is there"
run 0 "resume" "$kvmi" resume --json
has "$tmp/out" '"resumed":[2]' "what was paused before still was"
start progress dump --json --force --max-gpa 0xfffffffffff "$tmp/core"
kill -KILL $background
finish 137 "dump, killed"
rm -f "$tmp"/core.??????
not_paused()
{
	"$kvmi" resume 2> "$tmp/err"
	grep -q "no vCPU is paused" "$tmp/err"
}
wait_for not_paused
tap_result $? "the guest runs on"
if command -v script > /dev/null; then
	script -qec "'$kvmi' dump '$tmp/bar.core'" /dev/null < /dev/null > "$tmp/out" 2>&1
	tap_result $? "dump on a terminal"
	has "$tmp/out" "[########################################] 100%" "shows how far it is"
else
	tap_skip "the progress bar needs script(1)"
fi
ls "$tmp"/*core.?????? > "$tmp/out" 2>&1
[ $? -eq 2 ]
tap_result $? "no part of a dump is left"
run 3 "a file that cannot be made" "$kvmi" dump "$tmp/none/core"
run 2 "a dump into nothing" "$kvmi" dump

# --- the end --------------------------------------------------------------------------------------

# Breakpoints are out of the guest when the listener ends.
start hits break $text
ask "byte 0x10000 -- byte cc"
kill -TERM $listener
wait $listener
tap_result $? "the listener ends"
finish 7 "and the one who waited hears of it"
say "byte 0x10000"
wait_for grep -q byte "$tmp/vm.out"
has_not "$tmp/vm.out" "byte cc" "no breakpoint is left in the guest"
[ ! -s "$tmp/listen.err" ]
tap_result $? "nothing to complain about"
diag < "$tmp/listen.err"

tap_done
