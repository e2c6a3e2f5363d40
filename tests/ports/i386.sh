#!/bin/bash
# SPDX-License-Identifier: MIT
# limit: 400
#
# 32-bit x86 on QEMU's PC: page tables with PAE and NX and of two levels, memory above
# the direct map.
. "$(dirname "$0")/common"
port i386 gcc -m32 -idirafter /usr/include/x86_64-linux-gnu

all_of_it
finish
