#!/bin/bash
# SPDX-License-Identifier: MIT
# limit: 60
#
# Every allocation that a file system call, fork or exec makes in the kernel, refused once: the call
# works or says so, and leaves no name, descriptor or memory behind (tests/programs/fs_refuse.c).
set -eu
cd "$(dirname "$0")/../.."

build=build/programs
mkdir -p $build
gcc -static -O1 -Wall -Wextra -Wno-unused-result -o $build/fs_refuse tests/programs/fs_refuse.c
tools/quire-run --quiet --timeout 50 ${QUIRE_KERNEL:+--kernel "$QUIRE_KERNEL"} \
    --add $build/fs_refuse:/bin/fs_refuse -- 'mkdir /tmp/w; fs_refuse /tmp/w' >$build/fs_refuse.out ||
    { grep -a 'FAIL\|failures' $build/fs_refuse.out; exit 1; }
grep -a ' failures$' $build/fs_refuse.out
