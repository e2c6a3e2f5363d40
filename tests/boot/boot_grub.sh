#!/bin/bash
# SPDX-License-Identifier: MIT
# limit: 120
#
# GRUB boots the kernel from a CD by Multiboot2: memory map, command line, module.
. "$(dirname "$0")/boot_common"

for tool in grub-mkrescue xorriso mformat; do
    if ! command -v $tool >/dev/null; then
        echo "$tool is not installed"
        exit 77
    fi
done

mkdir -p "$work/iso/boot/grub"
cp "$kernel" "$work/iso/boot/quire.elf"
head -c 10000 /dev/zero >"$work/iso/boot/initrd"
cat >"$work/iso/boot/grub/grub.cfg" <<'CFG'
set timeout=0
terminal_output console
multiboot2 /boot/quire.elf boot=check
module2 /boot/initrd
boot
CFG
if ! grub-mkrescue -o "$work/quire.iso" "$work/iso" >"$work/mkrescue" 2>&1; then
    cat "$work/mkrescue"
    exit 1
fi

for cpus in 1 4; do
    machine -M q35 -m 256M -smp "$cpus" -vga std -cdrom "$work/quire.iso"
    expect "GRUB, $cpus CPUs" 0 "booted by Multiboot2" "^boot: ok, $cpus CPUs" " 0 violations"
done

finish
