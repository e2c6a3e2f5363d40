#!/bin/bash
# SPDX-License-Identifier: MIT
# limit: 200
#
# Control groups and their memory limits (tests/user/group), on one and four CPUs; what programs make the
# kernel pile up (kernel_memory) on RISC-V, too, where its kernel is built.  Afterwards nothing may be left in the kernel.
. "$(dirname "$0")/folder_common"

folder group
for cpus in 1 4; do
    machine $cpus --timeout 90 -- "$(all_programs)"
done

if [ -e build/riscv64/quire-kernel.elf ] && command -v riscv64-linux-gnu-gcc >/dev/null; then
    mkdir -p build/user-tests/group-riscv64
    add=(--add build/user-tests/group-riscv64/kernel_memory)
    riscv64-linux-gnu-gcc -static -pthread -O1 -Wall -Wextra -Werror \
        -o build/user-tests/group-riscv64/kernel_memory tests/user/group/kernel_memory.c || exit 1
    machine 4 --arch riscv64 --timeout 90 -- ./kernel_memory
fi
[ $failures -eq 0 ]
