#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Damaged ext2 images: mounted, walked, read, written to and unmounted on the reference kernel, two
# disks a boot.  Whatever they say, the kernel goes on, ends in time and has nothing left.
#
# usage: disk_fuzz.sh [BOOTS [SEED]]
set -u
cd "$(dirname "$0")/../.." || exit 1

boots=${1:-25}
seed=${2:-1}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
PATH=$PATH:/sbin:/usr/sbin

# Bytes of the first 80 KiB (superblock, descriptors, bitmaps, inodes, directories) and some anywhere.
damage='
import random, sys
path, seed = sys.argv[1], int(sys.argv[2])
pick = random.Random(seed)
with open(path, "r+b") as image:
    size = image.seek(0, 2)
    for _ in range(pick.choice((1, 4, 16, 64, 300))):
        at = pick.randrange(1024, 80 * 1024 if pick.random() < 0.8 else size)
        image.seek(at)
        image.write(bytes(pick.choice((0, 1, 0xff, pick.randrange(256))) for _ in range(pick.choice((1, 1, 2, 4)))))
'
script='mkdir /mnt; for d in a b; do if mount -t ext2 /dev/vd$d /mnt 2>/dev/null; then cd /mnt;
    find . >/tmp/names 2>/dev/null; cat *.md decisions/* >/dev/null 2>&1; cp -r formats copy 2>/dev/null;
    for f in *.md; do echo more >>$f; done 2>/dev/null; mv decisions moved 2>/dev/null; rm -rf formats *.md 2>/dev/null;
    dd if=/dev/zero of=fill bs=64k count=40 2>/dev/null; sync; cd /; umount /mnt; echo mounted; fi; done'

failures=0
for ((boot = 0; boot < boots; boot++)); do
    disks=()
    for k in 0 1; do
        number=$((seed + boot * 2 + k))
        rm -f "$work/$k"
        truncate -s 4M "$work/$k"
        mke2fs -q -t ext2 -b $((1024 << number % 3)) -N 200 -d docs "$work/$k"
        python3 -c "$damage" "$work/$k" $number
        disks+=(--disk "$work/$k")
    done
    if ! tools/quire-run ${QUIRE_KERNEL:+--kernel "$QUIRE_KERNEL"} --timeout 100 "${disks[@]}" -- "$script" \
        >"$work/out" 2>"$work/log" || ! grep -q '^leak check: every' "$work/log" ||
        grep -q 'panic\|assert\|violation of' "$work/log"; then
        echo "FAIL seeds $((seed + boot * 2)) and $((seed + boot * 2 + 1))"
        tail -n 15 "$work/log" | sed 's/^/     | /'
        failures=$((failures + 1))
    fi
    mounted=$((${mounted:-0} + $(grep -c mounted "$work/out")))
done
echo "$((boots * 2)) images, $mounted mounted, $failures boots failed"
[ $failures -eq 0 ]
