#!/bin/bash
# SPDX-License-Identifier: MIT
# limit: 600
#
# Our own test programs, static, of both C libraries, on one and four CPUs: threads,
# signals, processes.  Afterwards nothing may be left over in the kernel.
set -u
cd "$(dirname "$0")/../.." || exit 1

build=build/user-tests
mkdir -p $build
failures=0
for compiler in gcc musl-gcc; do
    if ! command -v $compiler >/dev/null; then
        echo "$compiler is not installed"
        exit 77
    fi
    for source in tests/user/*.c; do
        out=$build/$(basename "$source" .c)-$compiler
        if [ "$source" -nt "$out" ] || [ tests/user/check.h -nt "$out" ]; then
            $compiler -static -O2 -Wall -Wextra -Werror -o "$out" "$source" || exit 1
        fi
    done
done

for cpus in 1 4; do
    for source in tests/user/*.c; do
        name=$(basename "$source" .c)
        log=$build/$name.$cpus.log
        tools/quire-run --smp $cpus --timeout 120 --add $build/$name-gcc --add $build/$name-musl-gcc \
            -- "./$name-gcc && ./$name-musl-gcc" >"$log" 2>"$log.kernel"
        status=$?
        if [ $status -eq 0 ] && grep -q '^leak check: every' "$log.kernel"; then
            echo "ok   $name, $cpus CPUs"
        else
            echo "FAIL $name, $cpus CPUs: status $status"
            tail -n 12 "$log" "$log.kernel" | sed 's/^/     | /'
            failures=$((failures + 1))
        fi
    done
done
[ $failures -eq 0 ]
