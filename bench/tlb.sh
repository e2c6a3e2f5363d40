#!/bin/sh
# SPDX-License-Identifier: MIT
# What TLB management saves, in flushes, interrupts, root loads and TLB misses.
# usage: bench/tlb.sh [build directory]
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
build=${1:-$root/build/bench-tlb}
mkdir -p "$build"
sources=$(sed -n '/CONFIG_MEMORY_DEBUGGING/d;s/^\(src\/[^ ]*\.c\).*$/\1/p' "$root/src/sources.txt")
(cd "$root" && ${CC:-gcc} -std=gnu11 -O2 -g -fno-strict-aliasing -Iinclude -Isrc -Isim -D_GNU_SOURCE -DQUIRE_HOSTED=1 \
    bench/tlb.c sim/*.c $sources -pthread -o "$build/tlb")
"$build/tlb"
