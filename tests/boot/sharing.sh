#!/bin/bash
# SPDX-License-Identifier: MIT
# limit: 400
#
# Memory between processes and between files, pipes and programs (tests/user/sharing): all
# programs in one boot, on one CPU and on four.  Afterwards nothing may be left in the kernel.
. "$(dirname "$0")/folder_common"

folder sharing -O2
for cpus in 1 4; do
    # "exact": nobody else changes the machine's counters here.
    machine $cpus --timeout 180 -- "$(all_programs exact)"
done
[ $failures -eq 0 ]
