#!/bin/bash
# SPDX-License-Identifier: MIT
# limit: 120
#
# busybox at work on files: trees, archives, pipes, links, mounts, limits.  The script checks itself
# and prints one line for each thing that is not as it should be.
set -eu
cd "$(dirname "$0")/../.."

for cpus in 1 4; do
    tools/quire-run --quiet --timeout 50 --smp $cpus ${QUIRE_KERNEL:+--kernel "$QUIRE_KERNEL"} \
        --add tests/programs/fs_shell.sh -- 'sh fs_shell.sh' ||
        { echo "with $cpus CPUs: status $?"; exit 1; }
done
