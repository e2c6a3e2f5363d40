#!/bin/bash
# SPDX-License-Identifier: MIT
# limit: 240
#
# Floating-point registers stay a thread's own: pre-emption, signals, fork, exec; with
# FXSAVE alone, with XSAVE and AVX, on one CPU and four.
. "$(dirname "$0")/boot_common"

program=build/programs/fpu
mkdir -p build/programs
gcc -O2 -Wall -Wextra -static -pthread -o $program tests/programs/fpu.c || exit 1

for cpu in qemu64 max; do
    for cpus in 1 4; do
        log=$(tools/quire-run --kernel "$kernel" --quiet --cpu $cpu --smp $cpus --timeout 50 \
            --add $program -- ./fpu 2>&1)
        status=$?
        expect "floating point on $cpu, $cpus CPUs" 0 "^fpu: ok, avx $([ $cpu = max ] && echo yes || echo no)"
    done
done

finish
