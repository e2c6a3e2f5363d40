#!/bin/bash
# SPDX-License-Identifier: MIT
# limit: 120
#
# Accounting: /proc/sys/vm acts, faults and I/O are counted to whom they belong (tests/user/account), on
# one and four CPUs.  `tests/boot/accounting.sh linux IMAGE` runs what needs no disk on that Linux kernel
# instead: what the programs expect is what Linux does.
set -u
cd "$(dirname "$0")/../.." || exit 1

build=build/user-tests/account
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p $build
PATH=$PATH:/sbin:/usr/sbin
if ! command -v mke2fs >/dev/null; then
    echo "mke2fs is not installed (package e2fsprogs)"
    exit 77
fi
add=()
for source in tests/user/account/*.c; do
    name=$(basename "$source" .c)
    if [ "$source" -nt "$build/$name" ] || [ tests/user/check.h -nt "$build/$name" ]; then
        gcc -static -pthread -O1 -Wall -Wextra -Werror -o "$build/$name" "$source" || exit 1
    fi
    add+=(--add "$build/$name")
done
if [ "${1:-}" = linux ]; then
    exec tools/quire-run -q --timeout 300 --linux "$2" "${add[@]}" -- './sysctl; ./faults; ./limits; ./advice'
fi

failures=0
for cpus in 1 4; do
    log=$build/log.$cpus
    rm -f "$work/image"
    truncate -s 48M "$work/image"
    mke2fs -q -t ext2 -b 4096 "$work/image"
    tools/quire-run ${QUIRE_KERNEL:+--kernel "$QUIRE_KERNEL"} --smp $cpus --timeout 100 \
        --disk "$work/image" "${add[@]}" -- 'mkdir /mnt && mount -t ext2 /dev/vda /mnt &&
            failed=; ./limits || failed=1; ./sysctl || failed=1; ./faults /mnt || failed=1;
            ./reclaim /mnt || failed=1; ./advice /mnt || failed=1; [ -z "$failed" ]' \
        >$log 2>$log.kernel
    status=$?
    if [ $status -eq 0 ] && grep -q '^leak check: every' $log.kernel; then
        echo "ok   $cpus CPUs: $(grep 'checks, 0 failures' $log | tr '\n' ' ')"
    else
        echo "FAIL $cpus CPUs: status $status"
        grep -v 'checks, 0 failures' $log | tail -n 25 | sed 's/^/     | /'
        tail -n 8 $log.kernel | sed 's/^/     | /'
        failures=$((failures + 1))
    fi
done
[ $failures -eq 0 ]
