#!/bin/bash
# SPDX-License-Identifier: MIT
# limit: 900
#
# Our own test programs, static, of both C libraries, on one and four CPUs, and on the
# kernel that checks itself.  Afterwards nothing may be left over in the kernel.
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

# run CPUS KERNEL COMPILER...: each program once
run() {
    for source in tests/user/*.c; do
        name=$(basename "$source" .c)
        log=$build/$name.$1.$2.log
        add=() command=true
        for compiler in "${@:3}"; do
            add+=(--add "$build/$name-$compiler")
            command="$command && ./$name-$compiler"
        done
        tools/quire-run --smp $1 --kernel build/$2/quire-kernel.elf --timeout 120 "${add[@]}" \
            -- "$command" >"$log" 2>"$log.kernel"
        status=$?
        if [ $status -eq 0 ] && grep -q '^leak check: every' "$log.kernel"; then
            echo "ok   $name, $1 CPUs, $2"
        else
            echo "FAIL $name, $1 CPUs, $2: status $status"
            tail -n 12 "$log" "$log.kernel" | sed 's/^/     | /'
            failures=$((failures + 1))
        fi
    done
}

run 1 x86_64 gcc
run 4 x86_64 gcc musl-gcc
# The kernel that checks itself, where the tests have built it.
if [ -e build/x86_64-debug/quire-kernel.elf ]; then
    run 4 x86_64-debug gcc
fi
# Five levels of page tables: QEMU's `max` has them.
if tools/quire-run --cpu max --smp 2 --timeout 120 --add $build/wide-gcc -- ./wide-gcc 2>&1 |
    grep '^wide: more than 48 bits, .* 0 failed'; then
    echo "ok   wide, 2 CPUs, max"
else
    echo "FAIL wide, 2 CPUs, max"
    failures=$((failures + 1))
fi
[ $failures -eq 0 ]
