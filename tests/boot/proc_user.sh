#!/bin/bash
# SPDX-License-Identifier: MIT
# limit: 900
#
# Our own test programs, static: with glibc on one and four CPUs, with musl on four of the
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

# run CPUS KERNEL COMPILER: every program, one after the other on one machine
run() {
    local log=$build/all.$1.$2.$3.log add=() command='failed=; ' source name status
    for source in tests/user/*.c; do
        name=$(basename "$source" .c)-$3
        add+=(--add "$build/$name")
        command+="./$name || failed=\"\$failed $name\"; "
    done
    tools/quire-run --smp $1 --kernel build/$2/quire-kernel.elf --timeout 400 "${add[@]}" \
        -- "$command echo \"failed:\$failed.\"" >"$log" 2>"$log.kernel"
    status=$?
    if [ $status -eq 0 ] && grep -q '^failed:\.$' "$log" &&
        grep -q '^leak check: every' "$log.kernel"; then
        echo "ok   every program, $1 CPUs, $2, $3"
    else
        echo "FAIL $1 CPUs, $2, $3: status $status, $(grep '^failed:' "$log")"
        grep -i 'fail' "$log" | head -n 20 | sed 's/^/     | /'
        tail -n 12 "$log" "$log.kernel" | sed 's/^/     | /'
        failures=$((failures + 1))
    fi
}

run 1 x86_64 gcc
run 4 x86_64 gcc
# The kernel that checks itself, where the tests have built it.
debug=x86_64-debug
[ -e build/$debug/quire-kernel.elf ] || debug=x86_64
run 4 $debug musl-gcc
# Five levels of page tables: QEMU's `max` has them.
tools/quire-run --cpu max --smp 2 --timeout 120 --add $build/wide-gcc -- ./wide-gcc \
    >$build/wide.log 2>&1
if grep '^wide: more than 48 bits, .* 0 failed' $build/wide.log; then
    echo "ok   wide, 2 CPUs, max"
else
    echo "FAIL wide, 2 CPUs, max"
    tail -n 20 $build/wide.log | sed 's/^/     | /'
    failures=$((failures + 1))
fi
[ $failures -eq 0 ]
