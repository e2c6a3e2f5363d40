#!/bin/bash
# SPDX-License-Identifier: MIT
# limit: 900
#
# Another emulator, another opinion: Bochs models what QEMU's TCG does not, such as PCID
# and INVPCID, and faults of SYSRET and IRETQ in kernel mode.  Skipped where Bochs is not
# installed.
. "$(dirname "$0")/boot_common"

for tool in bochs grub-mkrescue xorriso mformat cpio; do
    if ! command -v $tool >/dev/null; then
        echo "$tool is not installed"
        exit 77
    fi
done

mkdir -p "$work/iso/boot/grub" "$work/root"
gcc -O1 -Wall -Wextra -Wno-array-bounds -static -o "$work/root/init" tests/programs/cpu.c || exit 1
(cd "$work/root" && echo init | cpio -o -H newc 2>/dev/null) >"$work/iso/boot/initrd"
echo c >"$work/debugger"

# bochs_disc KERNEL [OPTION...]: what the machine boots from now on
bochs_disc() {
    cp "$1" "$work/iso/boot/quire.elf"
    cat >"$work/iso/boot/grub/grub.cfg" <<CFG
set timeout=0
terminal_output console
multiboot2 /boot/quire.elf ${*:2}
module2 /boot/initrd
boot
CFG
    if ! grub-mkrescue -o "$work/quire.iso" "$work/iso" >"$work/mkrescue" 2>&1; then
        cat "$work/mkrescue"
        exit 1
    fi
}

# bochs_machine MODEL CPUS: as machine() in boot_common
bochs_machine() {
    cat >"$work/bochsrc" <<RC
plugin_ctrl: unmapped=1, biosdev=1, speaker=0, extfpuirq=1, parallel=0, serial=1
megs: 128
cpu: model=$1, count=$2:1:1, ips=200000000
romimage: file=/usr/share/bochs/BIOS-bochs-latest
vgaromimage: file=/usr/share/bochs/VGABIOS-lgpl-latest
ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14
ata0-master: type=cdrom, path=$work/quire.iso, status=inserted
boot: cdrom
com1: enabled=1, mode=file, dev=$work/console
com2: enabled=1, mode=file, dev=$work/log
display_library: rfb, options="timeout=0"
log: $work/bochs.log
panic: action=fatal
clock: sync=none
RC
    rm -f "$work/console" "$work/log"
    timeout 120 bochs -q -f "$work/bochsrc" -rc "$work/debugger" >"$work/bochs.out" 2>&1 </dev/null
    local code=$?
    log=$(cat "$work/log" "$work/console" 2>/dev/null)
    status=$(sed -n 's/^quire: exit \(-\{0,1\}[0-9]*\)$/\1/p' "$work/log" | tail -1)
    [ -n "$status" ] || status="none (Bochs ended with $code)"
}

bochs_disc "$kernel"
bochs_machine ryzen 1
expect "Bochs, ryzen" 0 "^cpu: .* 0 wrong" " 0 violations"

# PCID; and CET: the kernel that checks itself has landing pads, and tracks indirect branches where it can.
tracking=build/x86_64-debug/quire-kernel.elf
[ -e $tracking ] && bochs_disc $tracking
bochs_machine tigerlake 2
expect "Bochs, tigerlake" 0 "^cpu: .* 0 wrong" "^cpu: 4096 address-space identifiers, INVPCID" \
    "^smp: 2 CPUs" " 0 violations"
if [ -e $tracking ]; then
    expect "Bochs, tigerlake, branches tracked" 0 "^cpu: indirect branches tracked"
    bochs_disc $tracking boot=stray-branch
    bochs_machine tigerlake 1
    expect "Bochs, tigerlake, a stray branch" 125 "panic: branch to where none may arrive"
fi

finish
