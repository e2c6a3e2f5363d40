#!/bin/bash
# SPDX-License-Identifier: MIT
# limit: 400
# alone
#
# Shootdown on the real machine: writers on other CPUs, and not one write lands after
# mprotect, munmap, mremap, fork or madvise has returned.
. "$(dirname "$0")/boot_common"

program=build/programs/tlb
mkdir -p build/programs
gcc -O1 -Wall -Wextra -static -pthread -o $program tests/programs/tlb.c || exit 1

for cpus in 2 4; do
    log=$(tools/quire-run --kernel "$kernel" --quiet --smp $cpus --timeout 180 --add $program -- ./tlb 2>&1)
    status=$?
    expect "shootdown, $cpus CPUs" 0 "^tlb: 0 late writes, writers faulted: yes"
done

finish
