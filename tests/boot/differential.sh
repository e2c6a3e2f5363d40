#!/bin/bash
# SPDX-License-Identifier: MIT
# limit: 900
#
# The differential fuzzer: what it once found, and 200,000 random memory calls on this
# machine's Linux and on the reference kernel.
set -u
cd "$(dirname "$0")/../.." || exit 1

status=0
tests/differential/run --replay || status=1
tests/differential/run --calls 200000 --seed 1 --shrink 2 || status=1
exit $status
