#!/bin/bash
# SPDX-License-Identifier: MIT
# limit: 200
#
# Sockets: every call with every documented error, and what several processes do with them
# (tests/user/net), one program, on one and four CPUs of each architecture there are tools for.
# `tests/boot/sockets.sh linux` runs it on this machine's Linux instead (as root): what it
# expects is what Linux does.
set -u
cd "$(dirname "$0")/../.." || exit 1

build=build/user-tests
mkdir -p $build
failures=0

# program ARCH COMPILER...: builds it
program() {
    local out=$build/net.$1
    shift
    if [ -n "$(find tests/user/net tests/user/calls -newer "$out" 2>/dev/null || echo new)" ]; then
        "$@" -static -pthread -O1 -Wall -Wextra -Werror -o "$out" tests/user/net/*.c \
            tests/user/calls/main.c || exit 1
    fi
}

# run ARCH CPUS: on that architecture's kernel; nothing may be left afterwards
run() {
    local log=$build/net.$1.$2.log
    tools/quire-run --arch "$1" --smp "$2" --timeout 60 --add "$build/net.$1:/bin/net" -- net \
        >"$log" 2>"$log.kernel"
    local status=$?
    if [ $status -eq 0 ] && grep -q '^leak check: every' "$log.kernel"; then
        echo "ok   $1, $2 CPUs: $(grep -c '^ok' "$log") files"
    else
        echo "FAIL $1, $2 CPUs: status $status"
        grep -v '^ok' "$log" | head -20 | sed 's/^/     | /'
        tail -n 5 "$log.kernel" | sed 's/^/     | /'
        failures=$((failures + 1))
    fi
}

program x86_64 gcc
if [ "${1:-}" = linux ]; then
    exec $build/net.x86_64
fi
run x86_64 1
run x86_64 4
# The others where the tests have built their kernels.
for other in "i386 gcc -m32 -idirafter /usr/include/x86_64-linux-gnu" "aarch64 aarch64-linux-gnu-gcc" \
    "riscv64 riscv64-linux-gnu-gcc"; do
    set -- $other
    if [ -e "build/$1/quire-kernel.elf" ] && command -v "$2" >/dev/null; then
        program "$@"
        run "$1" 4
    fi
done
[ $failures -eq 0 ]
