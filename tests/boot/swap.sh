#!/bin/bash
# SPDX-License-Identifier: MIT
# limit: 600
#
# Swap to a disk and to a file (docs/swap.md): the calls, pages sent away by hand, a working set and a tree of forks
# that do not fit into memory, shared memory, a group's memory.swap.max, and the end of it all.  Afterwards nothing may be left over.
set -u
cd "$(dirname "$0")/../.." || exit 1

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0

# build FOLDER COMPILER...: our programs, there
build() {
    local to=$1 name source
    shift
    mkdir -p "$to"
    for name in swap shared file group; do
        for source in tests/user/swap/$name.c tests/user/swap/pages.h tests/user/check.h; do
            [ "$source" -nt "$to/$name" ] || continue
            "$@" -static -O2 -Wall -Wextra -Werror -o "$to/$name" tests/user/swap/$name.c || exit 1
        done
    done
}

# In a group of 16 MiB: 32 fit with swap, and not with 4 MiB of it.
group='
mkdir -p /tmp/g && mount -t cgroup2 none /tmp/g && echo +memory >/tmp/g/cgroup.subtree_control && mkdir /tmp/g/a &&
swapon /dev/vda && echo 16M >/tmp/g/a/memory.max &&
sh -c "echo \$\$ >/tmp/g/a/cgroup.procs; exec ./shared fill 8192" &&
sh -c "echo \$\$ >/tmp/g/a/cgroup.procs; exec ./swap fill 8192" && [ $(cat /tmp/g/a/memory.swap.current) = 0 ] &&
echo 4M >/tmp/g/a/memory.swap.max &&
! sh -c "echo \$\$ >/tmp/g/a/cgroup.procs; exec ./swap fill 8192" &&
[ $(grep "^max " /tmp/g/a/memory.swap.events | cut -d" " -f2) -gt 0 ] && swapoff /dev/vda &&
rmdir /tmp/g/a && umount /tmp/g && echo group: done'

# Shared memory, a tmpfs among it, in an area.
shared='mkdir -p /t && mount -t tmpfs none /t && ./shared $area /t 18000 && umount /t'

PATH=$PATH:/sbin:/usr/sbin
if ! command -v e2fsck >/dev/null; then
    echo "e2fsck is not installed (package e2fsprogs)"
    exit 77
fi

# On a file: what can and cannot be done with one, what groups have of it, then a working set.
file='area() { dd if=/dev/zero of=/mnt/swap bs=1M count=$1 2>/dev/null && mkswap /mnt/swap >/dev/null; }
mkdir -p /mnt && mount -t ext2 /dev/vda /mnt && ./file /mnt && area 20 && ./group /mnt /mnt/swap && rm /mnt/swap && area 100'

# run NAME FOLDER COMMANDS ARGUMENTS...: on a machine with $work/disk and the programs of FOLDER
run() {
    local name=$1 folder=$2 commands=$3
    shift 3
    if tools/quire-run ${QUIRE_KERNEL:+--kernel "$QUIRE_KERNEL"} --timeout 300 --disk "$work/disk" "$@" \
        --add "$folder/swap" --add "$folder/shared" --add "$folder/file" --add "$folder/group" -- "$commands" \
        >"$work/out" 2>"$work/log" &&
        grep -q '^leak check: every' "$work/log"; then
        echo "ok   $name"
    else
        echo "FAIL $name"
        tail -n 25 "$work/out" | sed 's/^/     | /'
        tail -n 8 "$work/log" | sed 's/^/     | /'
        failures=$((failures + 1))
    fi
}

# check NAME: the file system on $work/disk is in order
check() {
    if e2fsck -fn "$work/disk" >"$work/fsck" 2>&1; then
        echo "ok   $1: e2fsck"
    else
        echo "FAIL $1: e2fsck"
        sed 's/^/     | /' "$work/fsck" | tail -n 15
        failures=$((failures + 1))
    fi
}

build build/user-tests/swap gcc
truncate -s 160M "$work/disk"
run "a working set that does not fit, 4 CPUs" build/user-tests/swap \
    "mkswap /dev/vda >/dev/null && ./swap /dev/vda 18000 && area=/dev/vda && $shared && { $group; }" --mem 64M --smp 4
mke2fs -q -F -t ext2 -b 1024 "$work/disk"
run "a file, 1 CPU" build/user-tests/swap \
    "$file && ./swap /mnt/swap 12000 && rm /mnt/swap && umount /mnt" --mem 48M --smp 1
check "the file system that it was on"

if [ -e build/riscv64/quire-kernel.elf ] && command -v riscv64-linux-gnu-gcc >/dev/null; then
    build build/user-tests/swap-riscv64 riscv64-linux-gnu-gcc
    mke2fs -q -F -t ext2 -b 4096 "$work/disk"
    run "the same on RISC-V, 4 CPUs" build/user-tests/swap-riscv64 \
        "$file && ./swap /mnt/swap 18000 && area=/mnt/swap && $shared && rm /mnt/swap && umount /mnt" \
        --arch riscv64 --mem 64M --smp 4
    check "the file system that it was on"
fi

exit $((failures != 0))
