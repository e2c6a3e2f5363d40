#!/bin/sh
# SPDX-License-Identifier: MIT
# limit: 240
# The contract tests inside the reference kernel, on one CPU and on four.
cd "$(dirname "$0")/../.." || exit 1
status=0
for cpus in 1 4; do
    echo "on $cpus CPUs:"
    tools/quire-run --kernel build/x86_64/quire-kernel-contract.elf --smp $cpus --timeout 100 -- true ||
        status=1
done
exit $status
