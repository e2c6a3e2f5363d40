#!/bin/bash
# SPDX-License-Identifier: MIT
# limit: 400
#
# Swap to a disk and to a file (docs/swap.md): the calls, pages sent away by hand, a working set and a tree of forks
# that do not fit into memory, shared memory, a group's memory.swap.max, and the end of it all.  Afterwards nothing may be left over.
set -u
cd "$(dirname "$0")/../.." || exit 1

build=build/user-tests/swap
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p $build
failures=0

for name in swap shared file group; do
    if [ tests/user/swap/$name.c -nt $build/$name ] || [ tests/user/swap/pages.h -nt $build/$name ] ||
        [ tests/user/check.h -nt $build/$name ]; then
        gcc -static -O2 -Wall -Wextra -Werror -o $build/$name tests/user/swap/$name.c || exit 1
    fi
done

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

# Shared memory, a tmpfs among it.
shared='mkdir -p /mnt && mount -t tmpfs none /mnt && ./shared /dev/vda /mnt 18000 && umount /mnt'

PATH=$PATH:/sbin:/usr/sbin
if ! command -v e2fsck >/dev/null; then
    echo "e2fsck is not installed (package e2fsprogs)"
    exit 77
fi

# On a file: what can and cannot be done with one, what groups have of it, then a working set.
file='area() { dd if=/dev/zero of=/mnt/swap bs=1M count=$1 2>/dev/null && mkswap /mnt/swap >/dev/null; }
mkdir -p /mnt && mount -t ext2 /dev/vda /mnt && ./file /mnt && area 20 && ./group /mnt /mnt/swap && rm /mnt/swap && area 100'

# run NAME COMMANDS ARGUMENTS...: on a machine with $work/disk
run() {
    local name=$1 commands=$2
    shift 2
    if tools/quire-run ${QUIRE_KERNEL:+--kernel "$QUIRE_KERNEL"} --timeout 150 --disk "$work/disk" "$@" \
        --add $build/swap --add $build/shared --add $build/file --add $build/group -- "$commands" \
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

truncate -s 160M "$work/disk"
run "a working set that does not fit, 4 CPUs" \
    "mkswap /dev/vda >/dev/null && ./swap /dev/vda 18000 && $shared && { $group; }" --mem 64M --smp 4
mke2fs -q -F -t ext2 -b 1024 "$work/disk"
run "a file, 1 CPU" "$file && ./swap /mnt/swap 12000 && rm /mnt/swap && umount /mnt" --mem 48M --smp 1
if e2fsck -fn "$work/disk" >"$work/fsck" 2>&1; then
    echo "ok   the file system that it was on: e2fsck"
else
    echo "FAIL the file system that it was on: e2fsck"
    sed 's/^/     | /' "$work/fsck" | tail -n 15
    failures=$((failures + 1))
fi

exit $((failures != 0))
