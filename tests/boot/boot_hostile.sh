#!/bin/bash
# SPDX-License-Identifier: MIT
# limit: 240
#
# No instruction, register, flag, selector or return address that user code can come up
# with harms the kernel: each attempt ends with the signal that its row names.
. "$(dirname "$0")/boot_common"

program=build/programs/cpu
mkdir -p build/programs
gcc -O1 -Wall -Wextra -Wno-array-bounds -static -o $program tests/programs/cpu.c || exit 1

for cpu in qemu64 max max,la57=off; do
    for cpus in 1 4; do
        log=$(tools/quire-run --kernel "$kernel" --quiet --cpu $cpu --smp $cpus --timeout 50 \
            --add $program -- ./cpu 2>&1)
        status=$?
        expect "hostile instructions on $cpu, $cpus CPUs" 0 "^cpu: .* 0 wrong"
    done
done

finish
