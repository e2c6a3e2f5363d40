#!/bin/bash
# SPDX-License-Identifier: MIT
# limit: 200
#
# Control groups and their memory limits (tests/user/group), on one and four CPUs.  Afterwards
# nothing may be left in the kernel.
set -u
cd "$(dirname "$0")/../.." || exit 1

build=build/user-tests/group
mkdir -p $build
if ! command -v gcc >/dev/null; then
    echo "gcc is not installed"
    exit 77
fi
arguments=()
commands=
for source in tests/user/group/*.c; do
    name=$(basename "$source" .c)
    if [ "$source" -nt "$build/$name" ] || [ tests/user/check.h -nt "$build/$name" ]; then
        gcc -static -pthread -O1 -Wall -Wextra -Werror -o "$build/$name" "$source" || exit 1
    fi
    arguments+=(--add "$build/$name")
    commands+="./$name || failed=\"\$failed $name\"; "
done

failures=0
for cpus in 1 4; do
    log=$build/log.$cpus
    tools/quire-run --smp $cpus --timeout 90 "${arguments[@]}" \
        -- "failed=; ${commands} echo \"failed:\$failed\"; [ -z \"\$failed\" ]" >$log 2>$log.kernel
    status=$?
    if [ $status -eq 0 ] && grep -q '^leak check: every' $log.kernel; then
        echo "ok   $cpus CPUs: $(grep 'checks, 0 failures' $log | tr '\n' ' ')"
    else
        echo "FAIL $cpus CPUs: status $status"
        grep -v 'checks, 0 failures' $log | tail -n 25 | sed 's/^/     | /'
        tail -n 8 $log.kernel | sed 's/^/     | /'
        failures=$((failures + 1))
    fi
done
[ $failures -eq 0 ]
