#!/bin/bash
# SPDX-License-Identifier: MIT
# limit: 600
#
# Swap to a disk and to a file (docs/swap.md): the calls, pages sent away by hand, a working set and a tree of forks
# that do not fit into memory, shared memory, a group's memory.swap.max, and the end of it all.  Afterwards nothing may be left over.
# `--long`: on larger machines, and every program on RISC-V.
set -u
cd "$(dirname "$0")/../.." || exit 1

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0
programs=(swap shared file group)

# Memory in MiB and pages of a working set for which it is too small: of the machine with a disk, and of those with a file.
memory=48 pages=11000 small=40 few=7500 room=48 long=
[ "${1:-}" != --long ] || memory=64 pages=18000 small=64 few=18000 room=100 long=yes

# build FOLDER COMPILER...: our programs, there
build() {
    local to=$1 name source
    shift
    mkdir -p "$to"
    for name in "${programs[@]}"; do
        for source in tests/user/swap/$name.c tests/user/swap/pages.h tests/user/c*.h; do
            [ "$source" -nt "$to/$name" ] || continue
            "$@" -static -O2 -Wall -Wextra -Werror -o "$to/$name" tests/user/swap/$name.c || exit 1
        done
    done
}

# In a group of 8 MiB: 16 fit with swap, and not with 2 MiB of it.  Who is gone has nothing in swap, once what others were
# writing of it then is written.
group='
settled() { for i in $(seq 100); do [ $(cat /tmp/g/a/memory.swap.current) != 0 ] || return 0; sleep 0.1; done; return 1; }
mkdir -p /tmp/g && mount -t cgroup2 none /tmp/g && echo +memory >/tmp/g/cgroup.subtree_control && mkdir /tmp/g/a &&
swapon /dev/vda && echo 8M >/tmp/g/a/memory.max &&
sh -c "echo \$\$ >/tmp/g/a/cgroup.procs; exec ./shared fill 4096" &&
sh -c "echo \$\$ >/tmp/g/a/cgroup.procs; exec ./swap fill 4096" && settled &&
echo 2M >/tmp/g/a/memory.swap.max &&
! sh -c "echo \$\$ >/tmp/g/a/cgroup.procs; exec ./swap fill 4096" &&
[ $(grep "^max " /tmp/g/a/memory.swap.events | cut -d" " -f2) -gt 0 ] && swapoff /dev/vda &&
rmdir /tmp/g/a && umount /tmp/g && echo group: done'

# Shared memory, a tmpfs among it, in an area.
shared="mkdir -p /t && mount -t tmpfs none /t && ./shared \$area /t \$pages && umount /t"

PATH=$PATH:/sbin:/usr/sbin
if ! command -v e2fsck >/dev/null; then
    echo "e2fsck is not installed (package e2fsprogs)"
    exit 77
fi

# On a file, which lies in pieces or in one: what can and cannot be done with one, what groups have of it.
mount='area() { dd if=/dev/zero of=/mnt/swap bs=1M count=$1 2>/dev/null && mkswap /mnt/swap >/dev/null; }
mkdir -p /mnt && mount -t ext2 /dev/vda /mnt'
file='./file /mnt && area 16 && ./group /mnt /mnt/swap && rm /mnt/swap'

# run NAME FOLDER COMMANDS ARGUMENTS...: on a machine with $work/disk and the programs of FOLDER
run() {
    local name=$1 folder=$2 commands=$3 add=() program
    shift 3
    for program in "${programs[@]}"; do
        add+=(--add "$folder/$program")
    done
    if tools/quire-run ${QUIRE_KERNEL:+--kernel "$QUIRE_KERNEL"} --timeout 300 --disk "$work/disk" "$@" \
        "${add[@]}" -- "$commands" \
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
    "mkswap /dev/vda >/dev/null && pages=$pages && ./swap /dev/vda $pages && area=/dev/vda && $shared && { $group; }" --mem ${memory}M --smp 4
mke2fs -q -F -t ext2 -b 1024 "$work/disk"
run "a file, 1 CPU" build/user-tests/swap \
    "$mount && $file && area $room && ./swap /mnt/swap $few && rm /mnt/swap && umount /mnt" \
    --mem ${small}M --smp 1
check "the file system that it was on"

if [ -e build/riscv64/quire-kernel.elf ] && command -v riscv64-linux-gnu-gcc >/dev/null; then
    [ -n "$long" ] || programs=(swap shared) file=true
    build build/user-tests/swap-riscv64 riscv64-linux-gnu-gcc
    mke2fs -q -F -t ext2 -b 4096 "$work/disk"
    run "a file on RISC-V, 4 CPUs" build/user-tests/swap-riscv64 \
        "$mount && $file && area $room && pages=$few && ./swap /mnt/swap $few && area=/mnt/swap && $shared && rm /mnt/swap && umount /mnt" \
        --arch riscv64 --mem ${small}M --smp 4
    check "the file system that it was on"
fi

exit $((failures != 0))
