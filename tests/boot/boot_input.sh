#!/bin/bash
# SPDX-License-Identifier: MIT
# limit: 120
#
# What is typed while the kernel boots is not lost: it waits on the wire.
. "$(dirname "$0")/boot_common"

for line in x "typed before there was anybody to read it"; do
    log=$(echo "$line" | tools/quire-run --kernel "$kernel" --quiet --stdin --timeout 50 \
        -- 'read line </dev/console; echo "got $line."' 2>&1)
    status=$?
    expect "early input of ${#line} characters" 0 "got $line\."
done

finish
