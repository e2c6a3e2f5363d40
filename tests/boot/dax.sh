#!/bin/bash
# SPDX-License-Identifier: MIT
# limit: 400
#
# Persistent memory (docs/persistent.md): an NVDIMM that ACPI names and memory that the command line
# calls persistent, mapped with MAP_SYNC; what is written is in the NVDIMM's file, and there again
# after the next boot.  memmap= on every architecture that is built.
set -u
cd "$(dirname "$0")/../.." || exit 1

build=build/user-tests/dax
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p $build
failures=0

# compile ARCH: the program for it; false where there is no compiler
compile() {
    local compiler
    case $1 in
        x86_64) compiler="gcc" ;;
        i386) compiler="gcc -m32 -idirafter /usr/include/x86_64-linux-gnu" ;;
        *) compiler="$1-linux-gnu-gcc" ;;
    esac
    command -v ${compiler%% *} >/dev/null &&
        $compiler -static -O2 -Wall -Wextra -Werror -D_FILE_OFFSET_BITS=64 -o "$work/dax-$1" tests/user/dax/dax.c
}

# run NAME ARGUMENTS...: quire-run with them
run() {
    local name=$1
    shift
    if tools/quire-run --timeout 100 "$@" >"$work/out" 2>"$work/log" &&
        grep -q '^leak check: every' "$work/log"; then
        echo "ok   $name"
        return
    fi
    echo "FAIL $name"
    tail -n 20 "$work/out" | sed 's/^/     | /'
    tail -n 8 "$work/log" | sed 's/^/     | /'
    failures=$((failures + 1))
}

compile x86_64 || exit 1
truncate -s 8M "$work/nvdimm"
x86=(${QUIRE_KERNEL:+--kernel "$QUIRE_KERNEL"} --nvdimm "$work/nvdimm" --add "$work/dax-x86_64:/root/dax")
run "an NVDIMM and memmap=" --smp 4 "${x86[@]}" --append "memmap=4M!128M,1M!0xa000000" -- \
    'cd /sys/bus/dax/devices && cat dax0.0/size dax1.0/size dax2.0/size | tr "\n" " " | grep "^4194304 1048576 8388608 $" &&
     cd /root && ./dax /dev/dax0.0 4194304 fresh && ./dax /dev/dax1.0 1048576 fresh && ./dax /dev/dax2.0 8388608 fresh'
if [ "$(head -c 8 "$work/nvdimm" | od -An -tx8)" = " 9e3779b97f4a7c15" ]; then
    echo "ok   a store is in the NVDIMM's file"
else
    echo "FAIL a store is in the NVDIMM's file"
    failures=$((failures + 1))
fi
run "the next boot finds what was written; what is no memory is refused" "${x86[@]}" \
    --append "memmap=4M!256G" -- \
    'ls /dev/dax* | tr "\n" " " | grep "^/dev/dax0.0 $" && ./dax /dev/dax0.0 8388608 later'
if grep -q '^memmap: 4000000000-4000400000 is not usable memory: ignored' "$work/log"; then
    echo "ok   and said so"
else
    echo "FAIL and said so"
    failures=$((failures + 1))
fi

for row in i386:128M aarch64:0x4c000000 riscv64:0x8c000000; do
    arch=${row%%:*}
    if [ ! -e build/"$arch"/quire-kernel.elf ] || ! compile "$arch"; then
        echo "skip $arch: not built"
        continue
    fi
    run "memmap= on $arch" --arch "$arch" --append "memmap=4M!${row##*:}" --add "$work/dax-$arch:/root/dax" -- \
        ./dax /dev/dax0.0 4194304 fresh
done
exit $((failures != 0))
