#!/bin/bash
# SPDX-License-Identifier: MIT
# limit: 400
#
# Swap to a disk (docs/swap.md): the calls, pages sent away by hand, a working set and a tree of forks that do not
# fit into memory, a group's memory.swap.max, and the end of it all.  Afterwards nothing may be left over.
set -u
cd "$(dirname "$0")/../.." || exit 1

build=build/user-tests/swap
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p $build
failures=0

if [ tests/user/swap/swap.c -nt $build/swap ] || [ tests/user/check.h -nt $build/swap ]; then
    gcc -static -O2 -Wall -Wextra -Werror -o $build/swap tests/user/swap/swap.c || exit 1
fi

# In a group of 16 MiB: 32 fit with swap, and not with 4 MiB of it.
group='
mkdir -p /tmp/g && mount -t cgroup2 none /tmp/g && echo +memory >/tmp/g/cgroup.subtree_control && mkdir /tmp/g/a &&
swapon /dev/vda && echo 16M >/tmp/g/a/memory.max &&
sh -c "echo \$\$ >/tmp/g/a/cgroup.procs; exec ./swap fill 8192" && [ $(cat /tmp/g/a/memory.swap.current) = 0 ] &&
echo 4M >/tmp/g/a/memory.swap.max &&
! sh -c "echo \$\$ >/tmp/g/a/cgroup.procs; exec ./swap fill 8192" &&
[ $(grep "^max " /tmp/g/a/memory.swap.events | cut -d" " -f2) -gt 0 ] && swapoff /dev/vda &&
rmdir /tmp/g/a && umount /tmp/g && echo group: done'

# run NAME PAGES COMMAND ARGUMENTS...
run() {
    local name=$1 pages=$2 then=$3
    shift 3
    truncate -s 160M "$work/disk"
    if tools/quire-run ${QUIRE_KERNEL:+--kernel "$QUIRE_KERNEL"} --timeout 150 --disk "$work/disk" "$@" \
        --add $build/swap -- "mkswap /dev/vda >/dev/null && ./swap /dev/vda $pages && { $then; }" \
        >"$work/out" 2>"$work/log" && grep -q '^leak check: every' "$work/log"; then
        echo "ok   $name"
    else
        echo "FAIL $name"
        tail -n 25 "$work/out" | sed 's/^/     | /'
        tail -n 8 "$work/log" | sed 's/^/     | /'
        failures=$((failures + 1))
    fi
    rm -f "$work/disk"
}

run "a working set that does not fit, 4 CPUs" 18000 "$group" --mem 64M --smp 4
run "the same, 1 CPU" 12000 true --mem 48M --smp 1

exit $((failures != 0))
