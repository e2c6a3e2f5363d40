#!/bin/bash
# SPDX-License-Identifier: MIT
# limit: 240
#
# Random file system calls, sound and unsound, from four processes at once; then the library's
# validators look at everything.  Once with one CPU, once with four, once with hardly any memory.
#
# usage: fs_fuzz.sh [SEED...]
set -eu
cd "$(dirname "$0")/../.."

build=build/programs
mkdir -p $build
gcc -static -O1 -Wall -Wextra -Wno-unused-result -o $build/fs_fuzz tests/programs/fs_fuzz.c

# fuzz SEED CPUS MEMORY FILL: with FILL bytes of memory taken by a file
fuzz() {
    local out
    out=$(tools/quire-run --quiet --timeout 70 --smp "$2" --mem "$3" \
        ${QUIRE_KERNEL:+--kernel "$QUIRE_KERNEL"} --add $build/fs_fuzz:/bin/fs_fuzz -- "
            mkdir /tmp/fuzz
            dd if=/dev/zero of=/tmp/fill bs=64k 2>/dev/null count=$4
            fs_fuzz /tmp/fuzz $1 4 15000 || [ $4 != 0 ] || exit 1
            rm -rf /tmp/fill /tmp/fuzz
            echo validate >/sys/kernel/debug/memory
            ! grep -q BROKEN /sys/kernel/debug/memory") && return
    echo "seed $1, $2 CPUs, $3: status $?"
    echo "$out"
    exit 1
}

for seed in "${@:-1}"; do
    fuzz "$seed" 1 256M 0
    fuzz "$seed" 4 256M 0
    fuzz "$seed" 4 48M 570
done
