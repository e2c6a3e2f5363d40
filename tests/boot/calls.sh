#!/bin/bash
# SPDX-License-Identifier: MIT
# limit: 120
#
# The memory calls, every documented error of each: tests/user/calls/, one program, on one and
# four CPUs.  What it expects is what Linux does: `tests/boot/calls.sh linux` runs it on this machine's
# Linux instead (as root), `tests/boot/calls.sh linux IMAGE` on that kernel in QEMU.
set -u
cd "$(dirname "$0")/../.." || exit 1

program=build/user-tests/calls
tests/user/calls/build $program gcc || exit 1
if [ $# -eq 2 ]; then
    exec tools/quire-run --quiet --linux "$2" --smp 4 --timeout 200 --add $program -- './calls own'
elif [ "${1:-}" = linux ]; then
    exec $program
fi
failures=0
for cpus in 1 4; do
    log=build/user-tests/calls.$cpus.log
    tools/quire-run --smp $cpus --timeout 100 --add $program -- './calls own' >$log 2>$log.kernel
    status=$?
    if [ $status -eq 0 ] && grep -q '^leak check: every' $log.kernel; then
        echo "ok   $(grep -c '^ok' $log) calls, $cpus CPUs"
    else
        echo "FAIL $cpus CPUs: status $status"
        grep -v '^ok' $log | head -20 | sed 's/^/     | /'
        tail -n 5 $log.kernel | sed 's/^/     | /'
        failures=$((failures + 1))
    fi
done
[ $failures -eq 0 ]
