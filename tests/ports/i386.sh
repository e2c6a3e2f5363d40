#!/bin/bash
# SPDX-License-Identifier: MIT
# limit: 500
#
# 32-bit x86: the library as 32-bit code; on QEMU's PC, page tables with PAE and NX
# and of two levels, memory above the direct map, a high user space, GRUB.
. "$(dirname "$0")/common"
port i386 gcc -m32 -idirafter /usr/include/x86_64-linux-gnu

some_work='memtest 16 1 && for i in 1 2 3 4; do (seq 1 1000 | md5sum) & done; wait'

# Nearly all of six GiB are there, most of them high, and the two parts are the whole.
much_memory='set -- $(sed -n "/^MemTotal\|^HighTotal\|^LowTotal/s/.*: *\([0-9]*\) kB/\1/p" /proc/meminfo) &&
    test $1 -gt 6000000 && test $2 -gt 5000000 && test $3 -gt 500000 && test $1 -eq $(($2 + $3))'

# More high memory is in use than there is below 4 GiB.
high_in_use='set -- $(sed -n "/^HighTotal\|^HighFree\|^LowTotal/s/.*: *\([0-9]*\) kB/\1/p" /proc/meminfo) &&
    test $(($1 - $2)) -gt $((1048576 - $3))'

# Memory far above the direct map: of files, and of programs, behind 4 GiB, where five of the six are.
high_memory() {
    expect "6 GiB" 0 "$all_returned" --smp 4 --mem 6G --qemu=-M --qemu=max-ram-below-4g=1G -- "
        memtest 100 && $some_work
        dd if=/dev/zero of=/tmp/file bs=1M count=300 2>/dev/null && md5sum </tmp/file &&
        $high_in_use && memtest 100 &&
        $much_memory &&
        test \$(sed -n '/zone  HighMem/,/pages free/s/.*pages free *//p' /proc/zoneinfo) -gt 1000000"
}

# Without PAE or NX, on command or for want of it; a CPU with nothing but what is needed.
two_levels() {
    expect "nopae" 0 "two-level page tables" --append nopae --mem 1G --smp 4 -- "$some_work"
    expect "no NX" 0 "PAE without NX" --cpu qemu32 --smp 4 --mem 6G -- "$some_work && $much_memory"
    expect "Pentium II" 0 "PAE without NX" --cpu pentium2 -- "$some_work"
    expect "Pentium" 0 "boot: ok" --cpu pentium --append boot=check -- true
}

# Whose addresses are whose, in the usual configuration.
user_range() {
    "${compiler[@]}" -static -O2 -Wall -Wextra -Werror -o build/user-tests/range-i386 \
        tests/programs/user_range.c || exit 1
    expect "users below 3 GiB" 0 '^user_range: 10000 to c0000000, .*: yes$' \
        --add build/user-tests/range-i386 -- ./range-i386 0x10000 0xc0000000
}

# An image of its own: user space begins at 256 MiB, and so does the program.
high_user() {
    local program=build/user-tests/memtest-high-i386 range=build/user-tests/range-high-i386
    cmake --preset i386-high-user >/dev/null && cmake --build --preset i386-high-user \
        --target quire-kernel >"$work/build" 2>&1 || { tail -5 "$work/build"; exit 1; }
    "${compiler[@]}" -static -O2 -Wl,-Ttext-segment=0x10000000 -o "$program" kernel/user/memtest.c ||
        exit 1
    "${compiler[@]}" -static -O2 -Wl,-Ttext-segment=0x10000000 -o "$range" \
        tests/programs/user_range.c || exit 1
    expect "user space begins at 256 MiB" 0 '^user_range: 10000000 to c0000000, .*: yes' \
        --kernel build/i386-high-user/quire-kernel.elf --add "$range:/root/range" \
        --append 'init=/root/range -- 0x10000000 0xc0000000' -- true
    expect "user space from 256 MiB on" 0 '^memtest: .*passed' \
        --kernel build/i386-high-user/quire-kernel.elf --add "$program:/root/memtest" \
        --append 'init=/root/memtest -- 16 1' -- true
    expect "where no program of lower addresses runs" 125 'panic: init: cannot execute' \
        --kernel build/i386-high-user/quire-kernel.elf -- true
}

grub() {
    local tool
    for tool in grub-mkrescue xorriso mformat; do
        command -v $tool >/dev/null || { echo "skip i386: GRUB ($tool is not installed)"; return; }
    done
    mkdir -p "$work/iso/boot/grub"
    cp build/i386/quire-kernel.elf "$work/iso/boot/"
    printf 'set timeout=0\nmenuentry quire { multiboot2 /boot/quire-kernel.elf boot=check\nboot\n}\n' \
        >"$work/iso/boot/grub/grub.cfg"
    grub-mkrescue -o "$work/quire.iso" "$work/iso" >/dev/null 2>&1
    timeout 60 qemu-system-i386 -M q35 -m 512M -smp 2 -cpu max -display none -no-reboot -nodefaults \
        -device isa-debug-exit,iobase=0xf4,iosize=4 -serial "file:$work/console" \
        -serial "file:$work/log" -cdrom "$work/quire.iso" </dev/null >/dev/null 2>&1
    if grep -q 'booted by Multiboot2' "$work/log" && grep -q 'boot: ok, 2 CPUs' "$work/log"; then
        echo "ok   i386: GRUB"
    else
        failures=$((failures + 1))
        echo "FAIL i386: GRUB"
        tail -n 12 "$work/log" | sed 's/^/     | /'
    fi
}

# The library's lower layers as 32-bit code in a process of this machine.
hosted() {
    local tests
    cmake --preset hosted-32 >/dev/null && cmake --build --preset hosted-32 --target test_base test_heap test_frame >"$work/build" 2>&1 ||
        { tail -5 "$work/build"; exit 1; }
    for tests in base heap "frame frame." "frame frame_map" "frame frame_stress"; do
        # shellcheck disable=SC2086 # a program and the part of it to run
        if build/hosted-32/test_$tests >"$work/out" 2>&1; then
            echo "ok   i386: hosted tests of ${tests#* }"
        else
            failures=$((failures + 1))
            echo "FAIL i386: hosted tests of ${tests#* }"
            grep -v '^ok' "$work/out" | tail -n 12 | sed 's/^/     | /'
        fi
    done
}

# The structures of 32-bit programs, each call made raw.
abi() {
    local program=build/user-tests/abi-i386
    "${compiler[@]}" -static -O2 -Wall -Wextra -Werror -o "$program" tests/programs/i386_abi.c || exit 1
    expect "structures of 32 bits" 0 '^i386_abi: .* 0 failures' --smp 2 --mem 2G \
        --add "$program:/root/abi" -- /root/abi
}

all_of_it
abi
hosted
user_copies arch/i386/usercopy.S arch/x86/fixup.c
high_memory
two_levels
user_range
high_user
grub
expect "eight CPUs, two nodes" 0 '^8 10 31 31 10$' --smp 8 --mem 512M --numa 2 \
    --qemu=-numa --qemu=dist,src=0,dst=1,val=31 -- \
    'echo $(nproc) $(cat /sys/devices/system/node/node?/distance)'
finish
