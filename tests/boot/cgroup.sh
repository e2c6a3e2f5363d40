#!/bin/bash
# SPDX-License-Identifier: MIT
# limit: 200
#
# Control groups and their memory limits (tests/user/group), on one and four CPUs.  Afterwards
# nothing may be left in the kernel.
. "$(dirname "$0")/folder_common"

folder group
for cpus in 1 4; do
    machine $cpus --timeout 90 -- "$(all_programs)"
done
[ $failures -eq 0 ]
