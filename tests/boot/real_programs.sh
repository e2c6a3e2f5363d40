#!/bin/bash
# SPDX-License-Identifier: MIT
# limit: 600
#
# Large programs of Debian, as they are: python3 with its standard library, gcc compiling and
# linking a program that is then run, sqlite3 with a mapped database, each of them (but gcc) over
# mimalloc too; the tests of mimalloc and of Lua 5.1.  On four CPUs, with the leak check.
# `--long`: all of it, on one and four.
set -u
cd "$(dirname "$0")/../.." || exit 1

for file in /usr/bin/{python3,gcc,as,ld,sqlite3,lua5.1}; do
    [ -x $file ] || { echo "no $file"; exit 77; }
done
/usr/bin/python3 -c 'import ctypes, mmap, multiprocessing, sqlite3' || exit 77
mimalloc=$(ls /usr/lib/x86_64-linux-gnu/libmimalloc.so.[23] 2>/dev/null | head -1)
[ -n "$mimalloc" ] || { echo "no libmimalloc"; exit 77; }

work=build/programs/real
rm -rf $work
mkdir -p $work

# The files, under their own names: programs, libraries that the dynamic linker finds for them.
files=(/usr/bin/python3 /usr/bin/gcc /usr/bin/as /usr/bin/ld /usr/bin/sqlite3 /usr/bin/lua5.1 "$mimalloc"
    "$(gcc -print-prog-name=cc1)" "$(gcc -print-prog-name=collect2)"
    "$(gcc -print-file-name=liblto_plugin.so)" /usr/include/stdc-predef.h)
stdlib=$(/usr/bin/python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')
libraries=$(ldd "${files[@]}" "$stdlib"/lib-dynload/*.so 2>/dev/null | grep -oE '/[^ ]+ \(0x' | cut -d' ' -f1 | sort -u)
gccs=$(dirname "$(gcc -print-libgcc-file-name)")
for name in crtbegin.o crtbeginS.o crtend.o crtendS.o libgcc.a libgcc_s.so include; do
    files+=("$gccs/$name")
done
for name in Scrt1.o crt1.o crti.o crtn.o libc.so libc_nonshared.a libgcc_s.so.1; do
    files+=("$(gcc -print-file-name=$name)")
done
add=()
for file in "${files[@]}" $libraries; do
    path=$(realpath -s "$file")
    [ -e "$path" ] && add+=(--add "$path:$path")
done
# Without its own tests and what is compiled for other ways to run it.
mkdir $work/python
tar -C "$stdlib" --exclude=test --exclude='*.opt-?.pyc' --exclude='config-*' -cf - . | tar -C $work/python -xf -
add+=(--add "$work/python:$stdlib" --add tests/programs/compute.py --add tests/programs/compiled.c
    --add tests/programs/mapped.sql --add tests/programs/real_programs.sh)

# mimalloc's own tests, out of its source package, over mimalloc itself.
if source=$(tools/fetch-package mimalloc source 2>/dev/null); then
    for name in test-stress test-api; do
        gcc -O2 -w -static -I"$source/include" -o $work/$name "$source/test/$name.c" "$source/src/static.c" -lpthread || exit 1
        add+=(--add $work/$name)
    done
else
    echo "the source of mimalloc cannot be had here: its own tests are left out"
fi

# Lua's own tests, which Debian has beside another implementation of the language.
if source=$(tools/fetch-package golang-github-yuin-gopher-lua source 2>/dev/null); then
    add+=(--add "$source/_lua5.1-tests:/root/lua-tests")
else
    echo "the tests of Lua cannot be had here: they are left out"
fi

machines=4 more=''
cp tests/programs/real_programs.out $work/expected
if [ "${1:-}" = --long ]; then
    machines='1 4' more=more
else
    sed -i '$d' $work/expected # what python3 says over mimalloc
fi
failures=0
for cpus in $machines; do
    log=$work/$cpus.log
    tools/quire-run --smp $cpus --mem 1G --timeout 280 "${add[@]}" -- sh real_programs.sh "$mimalloc" $more >$log 2>$log.kernel
    status=$?
    if [ $status -eq 0 ] && cmp -s $log $work/expected && grep -q '^leak check: every' $log.kernel; then
        echo "ok   $cpus CPUs"
    else
        echo "FAIL $cpus CPUs: status $status"
        diff $log $work/expected | head -20 | sed 's/^/     | /'
        tail -n 5 $log.kernel | sed 's/^/     | /'
        failures=$((failures + 1))
    fi
done
[ $failures -eq 0 ]
