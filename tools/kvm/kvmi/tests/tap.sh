# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# The Test Anything Protocol for shell scripts: source it, and end with tap_done.
# Wants a directory for its files in $tmp.

tmp=${tmp:?}
tap_count=0
tap_failed=0

echo "TAP version 13"

tap_result()		# STATUS NAME
{
	tap_count=$((tap_count + 1))
	if [ "$1" -eq 0 ]; then
		echo "ok $tap_count - $2"
	else
		echo "not ok $tap_count - $2"
		tap_failed=1
	fi
}

tap_skip()		# REASON
{
	tap_count=$((tap_count + 1))
	echo "ok $tap_count # SKIP $1"
}

diag()
{
	sed 's/^/# /'
}

# run STATUS NAME COMMAND...: has it this exit status?  Leaves what it printed in
# $tmp/out and $tmp/err.
run()
{
	local want=$1 name=$2 got=0
	shift 2
	timeout 60 "$@" > "$tmp/out" 2> "$tmp/err" < /dev/null || got=$?
	if [ "$got" -eq "$want" ]; then
		tap_result 0 "$name"
	else
		tap_result 1 "$name"
		{
			echo "status $got, not $want, of: $*"
			cat "$tmp/out" "$tmp/err"
		} | diag
	fi
}

# has FILE TEXT NAME: is the (fixed) text in the file?
has()
{
	if grep -qF -- "$2" "$1"; then
		tap_result 0 "$3"
	else
		tap_result 1 "$3"
		{
			echo "\"$2\" is not in:"
			cat "$1"
		} | diag
	fi
}

has_not()
{
	if grep -qF -- "$2" "$1"; then
		tap_result 1 "$3"
		{
			echo "\"$2\" is in:"
			cat "$1"
		} | diag
	else
		tap_result 0 "$3"
	fi
}

# wait_for COMMAND...: until it succeeds, for 20 s
wait_for()
{
	local i
	for ((i = 0; i < 400; i++)); do
		"$@" > /dev/null 2>&1 && return 0
		sleep 0.05
	done
	return 1
}

tap_done()
{
	echo "1..$tap_count"
	exit "$tap_failed"
}

tap_can_check=
/usr/bin/python3 -c 'import jsonschema' 2> /dev/null && tap_can_check=1

# json DEFINITION NAME [FILE]: has what the last run printed, or the file, the form
# that the schema gives it?
json()
{
	local dir file=${3-$tmp/out}

	dir=$(dirname "${BASH_SOURCE[0]}")
	if [ -z "$tap_can_check" ]; then
		tap_skip "$2: needs python3-jsonschema"
	elif /usr/bin/python3 "$dir/check-json" "$dir/../Documentation/kvmi.schema.json" "$1" \
		< "$file" > "$tmp/why" 2>&1; then
		tap_result 0 "$2"
	else
		tap_result 1 "$2"
		cat "$tmp/why" "$file" | diag
	fi
}
