#!/bin/bash
# SPDX-License-Identifier: MIT
# limit: 120
#
# Accounting: /proc/sys/vm acts, faults and I/O are counted to whom they belong (tests/user/account), on
# one and four CPUs.  `tests/boot/accounting.sh linux IMAGE` runs what needs no disk on that Linux kernel
# instead: what the programs expect is what Linux does.
. "$(dirname "$0")/folder_common"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
PATH=$PATH:/sbin:/usr/sbin
if ! command -v mke2fs >/dev/null; then
    echo "mke2fs is not installed (package e2fsprogs)"
    exit 77
fi

folder account
if [ "${1:-}" = linux ]; then
    exec tools/quire-run -q --timeout 300 --linux "$2" "${add[@]}" -- './sysctl; ./faults; ./limits; ./advice; ./look; ./sockets'
fi
for cpus in 1 4; do
    rm -f "$work/image"
    truncate -s 48M "$work/image"
    mke2fs -q -t ext2 -b 4096 "$work/image"
    machine $cpus ${QUIRE_KERNEL:+--kernel "$QUIRE_KERNEL"} --timeout 100 --disk "$work/image" -- \
        "mkdir /mnt && mount -t ext2 /dev/vda /mnt && { $(all_programs /mnt); }"
done
[ $failures -eq 0 ]
