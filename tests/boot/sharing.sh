#!/bin/bash
# SPDX-License-Identifier: MIT
# limit: 400
#
# Memory between processes and between files, pipes and programs (tests/user/sharing): all
# programs in one boot, on one CPU and on four.  Afterwards nothing may be left in the kernel.
set -u
cd "$(dirname "$0")/../.." || exit 1

build=build/user-tests/sharing
mkdir -p $build
if ! command -v gcc >/dev/null; then
    echo "gcc is not installed"
    exit 77
fi
failures=0
arguments=()
commands=
for source in tests/user/sharing/*.c; do
    name=$(basename "$source" .c)
    if [ "$source" -nt "$build/$name" ] || [ tests/user/check.h -nt "$build/$name" ]; then
        gcc -static -pthread -O2 -Wall -Wextra -Werror -o "$build/$name" "$source" || exit 1
    fi
    arguments+=(--add "$build/$name")
    # "exact": nobody else changes the machine's counters here.
    commands+="./$name exact || failed=\"\$failed $name\"; "
done

for cpus in 1 4; do
    log=$build/log.$cpus
    tools/quire-run --smp $cpus --timeout 180 "${arguments[@]}" \
        -- "failed=; ${commands} echo \"failed:\$failed\"; [ -z \"\$failed\" ]" >"$log" 2>"$log.kernel"
    status=$?
    if [ $status -eq 0 ] && grep -q '^leak check: every' "$log.kernel"; then
        echo "ok   $cpus CPUs: $(grep -c 'checks, 0 failures' "$log") programs"
    else
        echo "FAIL $cpus CPUs: status $status"
        grep -v 'checks, 0 failures' "$log" | tail -n 25 | sed 's/^/     | /'
        tail -n 8 "$log.kernel" | sed 's/^/     | /'
        failures=$((failures + 1))
    fi
done
[ $failures -eq 0 ]
