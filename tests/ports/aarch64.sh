#!/bin/bash
# SPDX-License-Identifier: MIT
# limit: 600
#
# AArch64 on QEMU's `virt`: a CPU of the first generation (no PAN, no hardware dirty
# state, no flushes by range) and one with everything; entry at EL1 and EL2; GICv2 and GICv3.
. "$(dirname "$0")/common"
port aarch64 aarch64-linux-gnu-gcc

all_of_it img
user_copies arch/aarch64/usercopy.S arch/aarch64/fixup.c

strings=build/user-tests/strings-aarch64
"${compiler[@]}" -static -O2 -Wall -Wextra -Dmemcpy=kernel_memcpy -Dmemset=kernel_memset -c \
    -o $strings.o kernel/arch/aarch64/string.S &&
    "${compiler[@]}" -static -O2 -Wall -Wextra -o $strings tests/programs/strings.c $strings.o || exit 1
expect "string functions" 0 '^strings: 0 wrong' --add $strings -- ./strings-aarch64

session='memtest 16 1; for i in 1 2 3 4; do (seq 1 1000 | md5sum) & done; wait'
first="cpu: 44-bit addresses, 16-bit identifiers$"
everything="cpu: 48-bit addresses, 16-bit identifiers, PAN, accessed and dirty by hardware, flushes by"
everything="$everything range, leaves split live, indirect branches tracked"
expect "cortex-a57" 0 "$first" --cpu cortex-a57 --smp 4 -- "$session"
expect "max" 0 "$everything" --cpu max --smp 4 -- "$session"
leaf_groups "contiguous leaves" ffff8 ffffc --cpu cortex-a57
expect "PAN" 125 'panic: read of user memory .* address 400000$' --append boot=touch-user -- true
expect "a stray branch" 125 'panic: branch to where none may arrive' --cpu max \
    --append boot=stray-branch -- true
expect "entry at EL2" 0 "$all_returned" --qemu=-M --qemu=virt,virtualization=on --smp 2 -- "$session"
expect "GICv3, entry at EL2, cortex-a72" 0 "$all_returned" --cpu cortex-a72 \
    --qemu=-M --qemu=virt,virtualization=on,gic-version=3 --smp 2 -- "$session"
expect "GICv3, eight CPUs, two nodes" 0 '^8 10 31 31 10$' --smp 8 --mem 512M --numa 2 \
    --qemu=-numa --qemu=dist,src=0,dst=1,val=31 --qemu=-M --qemu=virt,gic-version=3 -- \
    'echo $(nproc) $(cat /sys/devices/system/node/node?/distance)'

# The other granules: builds of their own.
for pages in 16k 64k; do
    expect "$pages pages, contract tests" 0 ' passed, 0 failed' --smp 4 \
        --kernel build/aarch64-$pages/quire-kernel-contract.img -- true
    # Huge pages of 16 KiB ones are of 32 MiB: room for a few of them.
    user_programs "$pages pages, user programs" --mem 1G --kernel build/aarch64-$pages/quire-kernel.img
    expect "$pages pages" 0 "$all_returned" --smp 4 --kernel build/aarch64-$pages/quire-kernel.img -- \
        "$session"
    memory_calls --kernel build/aarch64-$pages/quire-kernel.img
done
# Huge pages of half a gibibyte.
expect "64k pages, transparent huge pages" 0 "$all_returned" --mem 6G --timeout 300 \
    --kernel build/aarch64-64k/quire-kernel.img --add build/user-tests/huge-aarch64 -- \
    './huge-aarch64 && grep "^thp_fault_alloc [1-9]" /proc/vmstat'
expect "more than 4 GiB" 0 '^MemTotal: *62' --mem 6G -- 'cat /proc/meminfo'
finish
