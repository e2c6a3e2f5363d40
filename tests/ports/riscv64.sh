#!/bin/bash
# SPDX-License-Identifier: MIT
# limit: 500
#
# RISC-V 64 on QEMU's `virt` under OpenSBI, whose choice of the boot hart varies.
. "$(dirname "$0")/common"
port riscv64 riscv64-linux-gnu-gcc

all_of_it
user_copies arch/riscv64/usercopy.S arch/riscv64/fixup.c
for mode in sv39 sv48 sv57; do
    expect "$mode" 0 "RISC-V, Sv${mode#sv}," --append satp=$mode --smp 2 -- \
        'memtest 16 1; for i in 1 2 3 4; do (seq 1 1000 | md5sum) & done; wait'
done
leaf_groups "Svnapot" ff00 ffffffe --smp 4
expect "a CPU without Svinval, Svpbmt, Svnapot" 0 ' mappings, 0 of them in groups' --cpu rv64 -- \
    'memtest 16 1'
expect "eight CPUs, two nodes" 0 '^8 10 31 31 10$' --smp 8 --mem 512M --numa 2 \
    --qemu=-numa --qemu=dist,src=0,dst=1,val=31 -- \
    'echo $(nproc) $(cat /sys/devices/system/node/node?/distance)'
finish
