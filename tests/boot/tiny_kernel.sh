#!/bin/bash
# SPDX-License-Identifier: MIT
#
# The example kernel builds against the library through quire.mk and boots.
set -eu
cd "$(dirname "$0")/../../examples/tiny-kernel"
make --no-print-directory all >build.log 2>&1 || { tail -20 build.log; exit 1; }
rm -f build.log
timeout 60 make --no-print-directory run | tee /dev/stderr | grep -q 'all is well'
