#!/bin/bash
# SPDX-License-Identifier: MIT
# limit: 120
#
# Some 570 file system calls, good and bad, give what Linux gives: tests/programs/fs_calls.c on the
# reference kernel, on one and on four CPUs, against the output of Linux on a tmpfs.
#
# usage: fs_calls.sh [--linux]     --linux: run on this Linux, to make the expected output anew
set -eu
cd "$(dirname "$0")/../.."

build=build/programs
expected=tests/programs/fs_calls.expected
mkdir -p $build
gcc -static -O1 -Wall -Wextra -Wno-stringop-overflow -Wno-stringop-overread \
    -o $build/fs_calls tests/programs/fs_calls.c

if [ "${1:-}" = --linux ]; then
    directory=$(mktemp -d -p /dev/shm)
    $build/fs_calls "$directory" </dev/null >$expected
    rm -rf "$directory"
    exit 0
fi

for cpus in 1 4; do
    tools/quire-run --quiet --timeout 50 --smp $cpus ${QUIRE_KERNEL:+--kernel "$QUIRE_KERNEL"} \
        --add $build/fs_calls -- 'mkdir /tmp/w; ./fs_calls /tmp/w' >$build/fs_calls.out ||
        { echo "with $cpus CPUs: status $?"; exit 1; }
    diff -U2 $expected $build/fs_calls.out || { echo "with $cpus CPUs: not as on Linux"; exit 1; }
done
