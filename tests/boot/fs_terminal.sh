#!/bin/bash
# SPDX-License-Identifier: MIT
# limit: 120
#
# Somebody sits at the terminal: line editing, signals, job control, vi and top.
set -eu
cd "$(dirname "$0")/../.."
python3 tests/programs/fs_terminal.py ${QUIRE_KERNEL:+--kernel "$QUIRE_KERNEL"}
