#!/bin/bash
# SPDX-License-Identifier: MIT
# alone
#
# From the start of QEMU to the first user instruction and out again: less than one second
# of CPU time (a busy machine does not count), firmware included.
. "$(dirname "$0")/boot_common"

mkdir -p "$work/root"
printf 'int main(void) { return 7; }' | gcc -static -O1 -x c -o "$work/root/init" - || exit 1
(cd "$work/root" && echo init | cpio -o -H newc 2>/dev/null) >"$work/initrd"

for cpus in 1 4; do
    TIMEFORMAT='%U %S'
    # the group's own times: what QEMU used
    seconds=$({ time machine -M q35 -m 256M -smp $cpus -kernel "$kernel" -initrd "$work/initrd" \
        >/dev/null; } 2>&1 | awk 'END { print $1 + $2 }')
    machine -M q35 -m 256M -smp $cpus -kernel "$kernel" -initrd "$work/initrd"
    expect "$cpus CPUs: first program ran" 7
    if awk "BEGIN { exit !($seconds < 1.0) }"; then
        echo "ok   $cpus CPUs: $seconds s"
    else
        echo "FAIL $cpus CPUs: $seconds s of CPU time, expected less than 1"
        failures=$((failures + 1))
    fi
done

finish
