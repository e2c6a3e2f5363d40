#!/bin/bash
# SPDX-License-Identifier: MIT
# limit: 180
#
# Threads and processes that wait for each other through pipes, poll, select, epoll and eventfd: no
# byte and no wake-up is lost (tests/programs/fs_wakeups.c).
set -eu
cd "$(dirname "$0")/../.."

build=build/programs
mkdir -p $build
gcc -static -O1 -Wall -Wextra -Wno-unused-result -pthread -o $build/fs_wakeups \
    tests/programs/fs_wakeups.c

# CPUs and rounds: with more CPUs than the host has, each wait for a lock takes the host's time slices
for run in "1 2000" "2 300" "4 150"; do
    tools/quire-run --quiet --timeout 80 --smp "${run% *}" ${QUIRE_KERNEL:+--kernel "$QUIRE_KERNEL"} \
        --add $build/fs_wakeups:/bin/fs_wakeups -- "fs_wakeups ${run#* }" ||
        { echo "with ${run% *} CPUs: status $?"; exit 1; }
done
