#!/bin/bash
# SPDX-License-Identifier: MIT
# limit: 600
#
# The kernel boots by QEMU's -kernel on every shape of machine: CPUs, memory sizes,
# CPU models with and without the features it likes, both chipsets, NUMA.  Each time
# its own structures are valid and no mapping breaks a rule (`audit`).
. "$(dirname "$0")/boot_common"

for cpus in 1 2 4 8; do
    machine -M q35 -m 256M -smp "$cpus" -kernel "$kernel" -append boot=check
    expect "$cpus CPUs" 0 "^smp: $cpus CPU" "^boot: ok, $cpus CPUs" " 0 violations"
done

for memory in 6M 32M 64M 512M 4G; do
    machine -M q35 -m "$memory" -smp 2 -kernel "$kernel" -append boot=check
    expect "$memory of memory" 0 "booted by PVH" "^boot: ok"
done

machine -M q35 -m 2560K -kernel "$kernel" -append boot=check
expect "2560K of memory are refused" 125 "panic: memory"

machine -M q35 -m 64M -kernel "$kernel"
expect "no initial file system" 125 "panic: init: cannot execute /init"

for cpu in qemu64 max Opteron_G1 Nehalem Haswell max,-xsave max,-smap,-smep max,-fsgsbase \
    max,-x2apic max,phys-bits=36; do
    machine -M q35 -m 256M -smp 2 -cpu "$cpu" -kernel "$kernel" -append boot=check
    expect "cpu $cpu" 0 "^boot: ok, 2 CPUs" " 0 violations"
done

machine -M q35 -m 256M -cpu qemu64,-nx -kernel "$kernel" -append boot=check
expect "no NX is refused" 125 "panic: this CPU cannot forbid execution"

machine -M pc -m 256M -smp 2 -kernel "$kernel" -append boot=check
expect "machine pc" 0 "^boot: ok, 2 CPUs"

machine -M q35,acpi=off -m 256M -kernel "$kernel" -append boot=check
expect "no ACPI" 0 "^boot: ok, 1 CPUs"

machine -M q35 -m 256M -smp 4 -kernel "$kernel" -append boot=check \
    -object memory-backend-ram,size=128M,id=a -object memory-backend-ram,size=128M,id=b \
    -numa node,cpus=0-1,memdev=a -numa node,cpus=2-3,memdev=b -numa dist,src=0,dst=1,val=31
expect "two nodes" 0 "^boot: ok, 4 CPUs"

machine -M q35 -m 256M -icount shift=0,sleep=off -kernel "$kernel" -append boot=check
expect "counted instructions" 0 "^boot: ok"

# The direct map has the largest leaves that the CPU and the place allow.
dump='echo dump_pt kernel >/sys/kernel/debug/memory'
log=$(tools/quire-run --mem 4G --cpu max -- "$dump" 2>&1)
status=$?
expect "leaves of 1 GiB and 2 MiB" 0 "^ffff800100000000-ffff8001........ L2 " "^ffff8000........-ffff8000........ L1 "
log=$(tools/quire-run --mem 4G --cpu qemu64 -- "$dump" 2>&1 | grep -v ' L0 ')
expect "leaves of 2 MiB" 0 "^ffff800100000000-ffff8001........ L1 "

finish
