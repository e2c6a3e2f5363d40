#!/bin/sh
# SPDX-License-Identifier: MIT
# Instructions of the space and fault layers' operations, counted by callgrind.
# usage: bench/space.sh [build directory [row...]]
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
build=${1:-$root/build/bench-space}
[ $# -gt 0 ] && shift
mkdir -p "$build"
sources=$(sed -n '/CONFIG_MEMORY_DEBUGGING/d;s/^\(src\/\(base\|frame\|heap\|group\|table\|tlb\|swap\|object\|space\|fault\)\/[^ ]*\.c\).*$/\1/p' \
    "$root/src/sources.txt")
(cd "$root" && ${CC:-gcc} -std=gnu11 -O2 -g -mgeneral-regs-only -fno-strict-aliasing -Iinclude -Isrc -Ibench -DCONFIG_MERGE=1 \
    -DQR_PORT_INLINE_HEADER='"table_port.h"' bench/space.c $sources -pthread -o "$build/space")
for row in ${*:-$("$build/space")}; do
    count=$(valgrind --tool=callgrind --callgrind-out-file="$build/$row.out" --toggle-collect=measure \
        "$build/space" "$row" 2>/dev/null)
    total=$(sed -n 's/^summary: //p;s/^totals: //p' "$build/$row.out" | head -1)
    echo "BENCH space_$row quire $(((total + count / 2) / count)) instructions"
done
