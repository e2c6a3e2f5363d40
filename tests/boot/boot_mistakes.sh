#!/bin/bash
# SPDX-License-Identifier: MIT
# limit: 300
#
# Mistakes of the kernel itself stop the machine with status 125 and a message that
# names them: nothing is overwritten first.
. "$(dirname "$0")/boot_common"

# mistake NAME PATTERN CPU [PATTERN...]
mistake() {
    local name=$1 pattern=$2 cpu=$3
    shift 3
    machine -M q35 -m 128M -smp 2 -cpu "$cpu" -kernel "$kernel" -append "boot=$name"
    expect "$name on $cpu" 125 "$pattern" "$@"
}

for cpu in qemu64 max; do
    mistake overflow "panic: kernel stack overflow" $cpu
    mistake write-text "panic: write to read-only memory" $cpu
    mistake exec-data "panic: execution of memory that is not executable" $cpu
    mistake read-user "panic: read of unmapped memory .* address 400000" $cpu
    mistake bad-mapping "panic: the kernel's page tables break their own rules" $cpu
    mistake null "panic: read of unmapped memory .* address 0" $cpu \
        "^  at [0-9a-f]* null+0x" "^  called from [0-9a-f]* kernel_main+0x"
done

mistake touch-user "panic: read of user memory .* address 400000" max # where SMAP sees it

for check in use-after-free out-of-bounds double-free; do
    words="use after free"
    [ $check = out-of-bounds ] && words="access out of bounds"
    mistake $check "panic: .* unmapped memory" qemu64 "^heap: $words at .* of 96 bytes" \
        "^  allocated at 0x[0-9a-f]* guarded_block+0x" "^  called from [0-9a-f]* kernel_main+0x"
done

machine -M q35 -m 128M -kernel "$kernel" -append boot=nonsense
expect "an unknown check" 125 "boot=nonsense: unknown"

finish
