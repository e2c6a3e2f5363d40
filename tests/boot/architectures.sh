#!/bin/bash
# SPDX-License-Identifier: MIT
# limit: 900
#
# Programs on the other architectures that are built, each on one machine of four CPUs with a disk: every
# error of the memory calls (tests/user/calls), sockets (tests/user/net), core files, names on ext2, and what Debian has
# for that architecture, unmodified: sqlite3 with a mapped database on the disk, Lua, redis-server with its
# benchmark and persistence by fork.
# `--long`: a longer benchmark, and sqlite3 and Lua over mimalloc too.
set -u
cd "$(dirname "$0")/../.." || exit 1

build=build/user-tests
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p $build
PATH=$PATH:/sbin:/usr/sbin
requests=100 keys=300 long=
[ "${1:-}" != --long ] || requests=10000 keys=20000 long=yes
failures=0 done=0

sed -n '/^67108864$/,/^ok$/{p;/^ok$/q}' tests/programs/real_programs.out >"$work/sqlite"

# programs ARCH: what has to be brought along, and run; nothing where the archive is out of reach
programs() {
    local mimalloc=libmimalloc.so.2 file
    add=() run=true
    tools/fetch-package libc6 "$1" >/dev/null 2>&1 || { echo "no packages of Debian for $1 to be had here"; return; }
    local preload=LD_PRELOAD=/lib/$mimalloc
    # Version 3, which riscv64 has, was built for addresses of 39 bits, as its build machine had (Sv39): it has
    # to be told of ours, or writes behind the end of its own map (https://github.com/microsoft/mimalloc/pull/1299).
    [ "$1" != riscv64 ] || mimalloc=libmimalloc.so.3 preload="MIMALLOC_MAX_VABITS=48 LD_PRELOAD=/lib/libmimalloc.so.3"
    [ -n "$long" ] || mimalloc=
    for file in sqlite3 lua5.4 $mimalloc redis-server redis-cli redis-benchmark; do
        add+=(--add-bin $file)
    done
    for file in mapped.sql script.lua redis_session; do
        add+=(--add tests/programs/$file)
    done
    run="lua5.4 script.lua && mount -t ext2 /dev/vda /mnt && sqlite3 /mnt/base.db <mapped.sql >/tmp/out &&
        umount /mnt && diff /tmp/out sqlite && sh redis_session $requests $keys"
    [ -z "$mimalloc" ] || run="$run && export $preload && lua5.4 script.lua &&
        sqlite3 /tmp/base.db <mapped.sql >/tmp/out && unset LD_PRELOAD && diff /tmp/out sqlite"
}

# machine ARCH COMPILER...: everything, in one boot
machine() {
    local arch=$1 log=$build/architectures.$1 program=$build/net.$1 core=$build/core.$1
    shift
    if [ -n "$(find tests/user/net tests/user/calls/main.c -newer "$program" 2>/dev/null || echo new)" ]; then
        "$@" -static -pthread -O1 -Wall -Wextra -Werror -o "$program" tests/user/net/*.c \
            tests/user/calls/main.c || exit 1
    fi
    if [ tests/user/core.c -nt "$core" ] || [ tests/user/check.h -nt "$core" ]; then
        "$@" -static -O2 -Wall -Wextra -Werror -o "$core" tests/user/core.c || exit 1
    fi
    tests/user/calls/build $build/calls-"$arch" "$@" || exit 1
    rm -f "$work/image"
    truncate -s 24M "$work/image"
    mke2fs -q -t ext2 -b 1024 -d docs "$work/image"
    programs "$arch"
    tools/quire-run --arch "$arch" --smp 4 --mem 512M --timeout 280 --disk "$work/image" \
        --add $build/calls-"$arch:/bin/calls" --add "$program:/bin/net" --add "$core:/bin/core" \
        --add tests/programs/disk_names.sh --add "$work/sqlite" "${add[@]}" -- \
        "calls own && net && core && cd /root && sh disk_names.sh && $run" >"$log" 2>"$log.kernel"
    local status=$?
    debugfs -R "dump big $work/big" "$work/image" 2>/dev/null
    debugfs -R "dump big.sum $work/big.sum" "$work/image" 2>/dev/null
    if [ $status -eq 0 ] && grep -q '^leak check: every' "$log.kernel" &&
        e2fsck -fn "$work/image" >"$work/fsck" 2>&1 && (cd "$work" && md5sum -c --quiet big.sum); then
        echo "ok   $arch: $(grep -c '^ok  ' "$log") parts, $(grep -c 'all checks passed' "$log") times Lua"
        return
    fi
    echo "FAIL $arch: status $status"
    tail -n 15 "$log" "$log.kernel" "$work/fsck" 2>/dev/null | sed 's/^/     | /'
    failures=$((failures + 1))
}

command -v e2fsck >/dev/null || { echo "e2fsck is not installed (package e2fsprogs)"; exit 77; }
for other in "i386 gcc -m32 -idirafter /usr/include/x86_64-linux-gnu" "aarch64 aarch64-linux-gnu-gcc" \
    "riscv64 riscv64-linux-gnu-gcc"; do
    set -- $other
    if [ -e "build/$1/quire-kernel.elf" ] && command -v "$2" >/dev/null; then
        machine "$@"
        done=$((done + 1))
    fi
done
[ $done -ne 0 ] || { echo "no kernel of another architecture is built"; exit 77; }
[ $failures -eq 0 ]
