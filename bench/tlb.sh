#!/bin/sh
# SPDX-License-Identifier: MIT
# What TLB management saves, in flushes, interrupts, root loads and TLB misses.
# usage: bench/tlb.sh [--qemu] [build directory]
# With --qemu also the instructions of bench/user/paths.c, with and without tlb=naive (x86-64, one CPU).
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
qemu=0
[ "${1:-}" = --qemu ] && qemu=1 && shift
build=${1:-$root/build/bench-tlb}
mkdir -p "$build"
sources=$(sed -n '/CONFIG_MEMORY_DEBUGGING/d;s/^\(src\/[^ ]*\.c\).*$/\1/p' "$root/src/sources.txt")
(cd "$root" && ${CC:-gcc} -std=gnu11 -O2 -g -fno-strict-aliasing -Iinclude -Isrc -Isim -D_GNU_SOURCE -DQUIRE_HOSTED=1 \
    -DCONFIG_PAGING=1 -DCONFIG_MERGE=1 \
    bench/tlb.c sim/*.c $sources -pthread -o "$build/tlb")
"$build/tlb"
[ $qemu = 1 ] || exit 0

# paths NAME [ARGUMENT...]: the rows of one run, sorted.
paths() {
    name=$1
    shift
    "$root/tools/quire-run" --icount --cpu qemu64 --mem 1024M --timeout 600 --quiet \
        --qemu=-rtc --qemu=base=2024-01-01T00:00:00,clock=vm --kernel "$root/build/x86_64/quire-kernel.elf" \
        --add "$build/paths" "$@" -- ./paths |
        sed -n 's/^ROW \([^ ]*\) \([0-9]*\).*/\1 \2/p' | sort >"$build/$name.rows"
}
(cd "$root" && cmake --preset x86_64 >/dev/null && cmake --build --preset x86_64 -j2 >/dev/null)
musl-gcc -static -O2 -o "$build/paths" "$root/bench/user/paths.c"
paths quire
paths naive --append tlb=naive
printf '\n%-28s %12s %12s %7s\n' "instructions, one CPU" naive quire saved
join "$build/naive.rows" "$build/quire.rows" | grep 'munmap\|mprotect\|fork\|dontneed\|mremap\|cow' |
    awk '{ printf "%-28s %12d %12d %5d %%\n", $1, $2, $3, 100 - 100 * $3 / $2
           lines = lines sprintf("BENCH tlb_instructions_%s quire %d instructions naive %d\n", $1, $3, $2) }
         END { printf "\n%s", lines }'
