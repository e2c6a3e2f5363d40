#!/bin/bash
# SPDX-License-Identifier: MIT
# limit: 900
#
# The differential fuzzer: what it once found, and random memory calls on this machine's Linux,
# on the hosted machine (174,000, and 12,000 among swapping) and on the reference kernel (30,000).  Where the two differ only
# because this Linux is older than 6.17 (mremap of several regions), it is no reference: skipped.
set -u
cd "$(dirname "$0")/../.." || exit 1

oldest=6.17
if [ "$(printf '%s\n' $oldest "$(uname -r)" | sort -V | head -1)" != $oldest ]; then
    echo "the host's Linux is $(uname -r); the reference is $oldest or later"
    exit 77
fi

status=0
tests/differential/run --replay --preset hosted || status=1
tests/differential/run --on hosted --preset hosted --calls 174000 --seed 100001 --shrink 2 || status=1
tests/differential/run --on hosted --preset hosted --swap --calls 12000 --seed 200001 --shrink 2 || status=1
tests/differential/run --on kernel --calls 30000 --seed 1 --shrink 2 || status=1
exit $status
