#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
#
# The command line: help, usage errors, errors that name what is at fault, and
# man pages that tell of every option.  Needs neither KVM nor a listener.
set -u -o pipefail

kvmi=${KVMI:?}
man_dir=${MAN_DIR-}
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"; kill $(jobs -p) 2> /dev/null' EXIT
unset KVMI_CONTROL XDG_RUNTIME_DIR
# shellcheck source-path=SCRIPTDIR source=tap.sh
. "$(dirname "$0")/tap.sh"

verbs=(break cr dump hook info list listen msr pause protect read regs resume step
	translate unhook watch write)

# --- help ----------------------------------------------------------------------

run 0 "kvmi --help" "$kvmi" --help
for verb in "${verbs[@]}"; do
	has "$tmp/out" "  $verb " "lists $verb"
done
has "$tmp/out" "7 the VM or the VMM went away" "and the exit statuses"
run 0 "kvmi --version" "$kvmi" --version
has "$tmp/out" "kvmi 0.1" "is a version"
run 2 "no verb" "$kvmi"
has "$tmp/err" "usage: kvmi VERB" "shows the usage"
run 2 "an unknown verb" "$kvmi" frobnicate
has "$tmp/err" '"frobnicate" is not a verb' "is named"

for verb in "${verbs[@]}"; do
	run 0 "kvmi $verb --help" "$kvmi" "$verb" --help
	has "$tmp/out" "Usage: kvmi $verb" "says how it is called"
	has "$tmp/out" "--json" "has --json"
	[ -z "$man_dir" ] && continue
	# Every option is in the man page, and the other way round.
	grep -oE -- '--[a-z][a-z-]+' "$tmp/out" | sort -u |
		grep -vxE -- '--(help|usage)' > "$tmp/help-options"
	sed 's/\\-/-/g; s/\\fB//g; s/\\f[PRI]//g' "$man_dir/kvmi-$verb.8" |
		grep -oE -- '--[a-z][a-z-]+' | sort -u |
		grep -vxE -- '--(help|usage)' > "$tmp/man-options"
	missing=$(comm -3 "$tmp/help-options" "$tmp/man-options" | tr -d '\t')
	[ -z "$missing" ]
	tap_result $? "kvmi-$verb(8) has the same options${missing:+, but not $missing}"
	run 2 "kvmi $verb --nonsense" "$kvmi" "$verb" --nonsense
done
if [ -n "$man_dir" ]; then
	for verb in "${verbs[@]}"; do
		has "$man_dir/kvmi.8" "kvmi\\-$verb" "kvmi(8) refers to kvmi-$verb(8)"
	done
fi

# --- usage errors -----------------------------------------------------------------

usage_error()		# TEXT ARGUMENT...
{
	local text=$1
	shift
	run 2 "usage: kvmi $*" "$kvmi" "$@"
	has "$tmp/err" "$text" "$text"
}

usage_error "--socket is missing" listen
usage_error '"x" is too much' listen --socket "$tmp/s" x
usage_error "--control is missing" listen --socket "$tmp/s" --control ""
usage_error "--pid is missing" hook --socket "$tmp/s"
usage_error "--socket is missing" hook --pid 1
usage_error '--pid: "abc" is not a process id' hook --pid abc --socket "$tmp/s"
usage_error '--pid: "-5" is not a process id' hook --pid=-5 --socket "$tmp/s"
usage_error '--pid: "0" is not a process id' hook --pid 0 --socket "$tmp/s"
usage_error '--pid: "99999999999" is not a process id' hook --pid 99999999999 --socket "$tmp/s"
usage_error '--vm: "0" is not a number from 1 on' hook --pid 1 --socket "$tmp/s" --vm 0
usage_error '--uuid: "xyz" is not a UUID' hook --pid 1 --socket "$tmp/s" --uuid xyz
usage_error '--name: more than 63 characters' hook --pid 1 --socket "$tmp/s" \
	--name "$(printf 'x%.0s' {1..64})"
usage_error '--max-gpa: "1T" is not a number' hook --pid 1 --socket "$tmp/s" --max-gpa 1T
usage_error '--timeout: "0" is not within 1..3600' hook --pid 1 --socket "$tmp/s" --timeout 0
usage_error "--pid is missing" unhook
usage_error '--grace: "1s" is not within 0..600000' unhook --pid 1 --grace 1s
usage_error "GPA and ACCESS are missing" protect
usage_error "the last GPA has no ACCESS" protect 0x1000
usage_error "the last GPA has no ACCESS" protect 0x1000 r-- 0x2000
usage_error '"zzz": GPA is not a number' protect zzz r--
usage_error '"0x1000+0": LEN is 0' protect 0x1000+0 r--
usage_error 'access "rwz" is not' protect 0x1000 rwz
usage_error 'access "5" is not' protect 0x1000 5
usage_error '--action: "die" is not continue, retry or crash' watch --action die
usage_error "--once answers retry" watch --once --action crash
usage_error '--count: "0" is not' watch --count 0
usage_error '--count: "-1" is not' watch --count=-1
usage_error '"x" is too much' info x
usage_error "WHERE is missing" break
usage_error "--mutual needs --key-file" listen --socket "$tmp/s" --mutual
usage_error "--mutual needs --key-file" hook --pid 1 --socket "$tmp/s" --mutual
(umask 077; : > "$tmp/empty.key"; echo key > "$tmp/good.key")
echo key > "$tmp/open.key"
chmod 644 "$tmp/open.key"
usage_error "does not have 1..4096 bytes" listen --socket "$tmp/s" --control "$tmp/c" \
	--key-file "$tmp/empty.key"
run 4 "a key that others can read" "$kvmi" listen --socket "$tmp/s" --control "$tmp/c" \
	--key-file "$tmp/open.key"
has "$tmp/err" "is not a file that only its user can read" "is named"
run 3 "a key that is not there" "$kvmi" hook --pid 1 --socket "$tmp/s" --key-file "$tmp/no.key"
usage_error "FILE is missing" dump
usage_error "ADDRESS is missing" read
usage_error "MSR is missing" msr
usage_error "CR is missing" cr --on
usage_error '"8" is not 0, 3 or 4' cr 8
usage_error '--vcpu: "-1" is not within' regs --vcpu=-1
usage_error '--count: "0" is not' step --count 0
usage_error 'BYTES: "abc" is not' write 0x1000 abc
usage_error 'LENGTH: "x" is not' read 0x1000 x

# --- nobody there -------------------------------------------------------------------

for verb in "info" "watch" "protect 0x1000 r--" "list" "regs" "cr" "msr 0x10" "pause" \
	"resume" "step" "break 0x1000" "read 0x1000" "write 0x1000 00" "translate 0x1000"; do
	# shellcheck disable=SC2086 # several words
	run 3 "kvmi $verb without a listener" "$kvmi" $verb --control "$tmp/none"
	has "$tmp/err" "$tmp/none: no listener is there" "is named"
	# shellcheck disable=SC2086
	run 3 "the same as JSON" "$kvmi" $verb --json --control "$tmp/none"
	has "$tmp/out" '"status":3' "has the status"
	has "$tmp/out" '{"error":"' "and the error"
	[ ! -s "$tmp/err" ]
	tap_result $? "and nothing beside it"
done
run 3 "the environment names the control socket" env "KVMI_CONTROL=$tmp/other" "$kvmi" info
has "$tmp/err" "$tmp/other: no listener" "is used"
run 2 "a path that is too long" "$kvmi" info --control "/$(printf 'x%.0s' {1..120})"
has "$tmp/err" "at most 107 characters" "is refused"

# --- completion ------------------------------------------------------------------------

# complete WORD...: what bash offers for the last one
complete_words()
{
	bash -c '. "$0" && COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) && _kvmi && printf "%s\n" "${COMPREPLY[@]}"' \
		"$(dirname "$0")/../bash-completion/kvmi" "$@" > "$tmp/out" 2> "$tmp/err"
}
complete_words "$kvmi" ''
for verb in "${verbs[@]}"; do
	grep -qx "$verb" "$tmp/out"
	tap_result $? "completion offers $verb"
done
complete_words "$kvmi" tr
[ "$(cat "$tmp/out")" = translate ]
tap_result $? "completes tr to translate"
complete_words "$kvmi" break --sy
[ "$(cat "$tmp/out")" = --symbols ]
tap_result $? "completes options of a verb"
complete_words "$kvmi" watch --event x
[ "$(cat "$tmp/out")" = xsetbv ]
tap_result $? "completes values of an option"

# --- processes ------------------------------------------------------------------------

sleep 300 &
sleeper=$!
wait_for grep -q sleep "/proc/$sleeper/comm"

run 3 "hook: no such process" "$kvmi" hook --pid 2147483647 --socket "$tmp/s"
has "$tmp/err" "there is no process 2147483647" "is named"
run 3 "unhook: no such process" "$kvmi" unhook --pid 2147483647
has "$tmp/err" "there is no process 2147483647" "is named"
run 3 "hook: not a VMM" "$kvmi" hook --pid $sleeper --socket "$tmp/s"
has "$tmp/err" "process $sleeper (sleep) is not a VMM" "is named"
run 3 "hook: not a VMM, as JSON" "$kvmi" hook --json --pid $sleeper --socket "$tmp/s"
has "$tmp/out" '"status":3' "has the status"
run 3 "unhook: not a VMM" "$kvmi" unhook --pid $sleeper
has "$tmp/err" "is not a VMM" "is named"
if [ "$(id -u)" -eq 0 ] && command -v setpriv > /dev/null && cp "$kvmi" "$tmp/kvmi" &&
   chmod 755 "$tmp" "$tmp/kvmi"; then
	run 4 "hook: a process of another user" setpriv --reuid 65534 --regid 65534 \
		--clear-groups "$tmp/kvmi" hook --pid $sleeper --socket "$tmp/s"
	has "$tmp/err" "it takes the VMM's own user, or root" "is named"
else
	tap_skip "a process of another user: needs root and setpriv"
fi
kill $sleeper

tap_done
