#!/bin/sh
# SPDX-License-Identifier: MIT
# Instructions of the table and tlb layers' operations, counted by callgrind.
# usage: bench/table.sh [build directory]
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
build=${1:-$root/build/bench-table}
mkdir -p "$build"
sources=$(sed -n '/CONFIG_MEMORY_DEBUGGING/d;/format\//{/x86_64/!d};s/^\(src\/\(base\|frame\|table\|tlb\)\/[^ ]*\.c\).*$/\1/p' "$root/src/sources.txt")
(cd "$root" && ${CC:-gcc} -std=gnu11 -O2 -g -mgeneral-regs-only -fno-strict-aliasing -Iinclude -Isrc -Ibench \
    -DQR_PORT_INLINE_HEADER='"table_port.h"' bench/table.c $sources -pthread -o "$build/table")
for row in open_close open_query_map_close unmap_one_page unmap_page_of_range protect_one_page \
    protect_page_of_range switch_and_back; do
    count=$(valgrind --tool=callgrind --callgrind-out-file="$build/$row.out" --toggle-collect='measure*' \
        "$build/table" "$row" 2>/dev/null)
    total=$(sed -n 's/^summary: //p;s/^totals: //p' "$build/$row.out" | head -1)
    echo "BENCH table_$row quire $(((total + count / 2) / count)) instructions"
done
