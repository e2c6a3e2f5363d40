#!/bin/bash
# SPDX-License-Identifier: MIT
# limit: 1800
#
# Linux's own tests of its memory calls and stress-ng's stressors, as docs/selftests.md has them: the
# quick rows, on two CPUs and on four.
set -u
cd "$(dirname "$0")/../.." || exit 1

failures=0
tests/selftests/linux || {
    status=$?
    [ $status -eq 77 ] || failures=1
}
tests/selftests/stress --smp 4 --seconds 1 || failures=1
[ $failures -eq 0 ]
