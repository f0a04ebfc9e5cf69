# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# A program that the lab builds from Debian's source of it and patches of the
# project's.  What takes this in sets
#
#	name	what it is, for messages
#	dir	where everything of it goes, in build/
#	patches	the folders of patches, each with its series, in their order
#	origin	the file that was fetched, once it is there
#
# and has a function unpack() that makes $dir/orig.tmp of $origin.  $dir/src is
# then the source as it is built.  It is patched with quilt, so that is the
# tool to change patches with: a patch's name there has its folder in front.
# Files that did not change are not written again.

# q DIR ARG...
q()
{
	(cd "$1" && shift && QUILT_PATCHES=$top QUILT_SERIES=$dir/series \
		quilt --quiltrc "$top/lab/quiltrc" "$@")
}

# all patches, one name a line
list_patches()
{
	local folder

	for folder in "${patches[@]}"; do
		sed -n "s|^[^#]*patch\$|$folder/&|p" "$top/$folder/series"
	done
}

update_source()
{
	local id

	id=$(sha256sum < "$origin")
	if [ "$id" != "$(cat "$dir/orig.id" 2> /dev/null)" ]; then
		rm -f "$dir/orig.id"
		echo "  TREE    unpacking $(basename "$origin") into ${dir#"$top"/}"
		rm -rf "$dir/orig" "$dir/orig.tmp"
		unpack > "$dir/unpack.log" 2>&1 ||
			{ tail -n 5 "$dir/unpack.log" >&2; die "cannot unpack $origin"; }
		mv "$dir/orig.tmp" "$dir/orig"
		echo "$id" > "$dir/orig.id"
	fi
	list_patches > "$dir/series"
	id=$(cd "$top" && xargs cat "$dir/orig.id" "$dir/series" < "$dir/series" | sha256sum)
	if [ "$id" != "$(cat "$dir/src.id" 2> /dev/null)" ]; then
		rm -f "$dir/src.id"
		echo "  TREE    applying $(wc -l < "$dir/series") patches to it"
		rm -rf "$dir/src.tmp"
		cp -a "$dir/orig" "$dir/src.tmp"
		# with no fuzz: some hunks fit in more than one function
		q "$dir/src.tmp" push -a -q --fuzz=0 > "$dir/patch.log" 2>&1 ||
			{ tail -n 20 "$dir/patch.log" >&2; die "the patches in ${patches[*]} do not apply to $name"; }
		mkdir -p "$dir/src"
		rsync -rlpc --delete "$dir/src.tmp/" "$dir/src/"
		rm -rf "$dir/src.tmp"
		echo "$id" > "$dir/src.id"
	fi
}

# Run configure if what it depends on is new: configure ARG...
configure()
{
	local id

	id=$(printf '%s\n' "$@" | sha256sum)
	[ "$id" != "$(cat "$dir/obj/.lab-config" 2> /dev/null)" ] || return 0
	echo "  CONFIG  $name"
	rm -rf "$dir/obj"
	mkdir -p "$dir/obj"
	(cd "$dir/obj" && "$dir/src/configure" "$@") > "$dir/config.log" 2>&1 ||
		{ tail -n 20 "$dir/config.log" >&2; die "cannot configure $name"; }
	echo "$id" > "$dir/obj/.lab-config"
}
