#!/bin/bash
# SPDX-License-Identifier: MIT
# limit: 240
#
# Programs that nobody here wrote, unmodified: Debian's static Lua and SQLite
# libraries, running real scripts whose results are known, on one and four CPUs.
set -eu
cd "$(dirname "$0")/../.."

build=build/programs
mkdir -p $build
for program in lua_run:lua5.4 sqlite_run:sqlite3; do
    name=${program%:*}
    if [ tests/programs/$name.c -nt $build/$name ]; then
        # glibc warns that a static program which used dlopen() would need shared libraries
        gcc -static -O2 -Wall -Wextra -o $build/$name tests/programs/$name.c -l${program#*:} -lm 2>$build/log ||
            { cat $build/log; echo "cannot build $name (packages liblua5.4-dev, libsqlite3-dev)"; exit 1; }
    fi
done

for cpus in 1 4; do
    tools/quire-run --quiet --smp $cpus --timeout 100 --add $build/lua_run --add $build/sqlite_run \
        --add tests/programs/script.lua -- './lua_run script.lua && ./sqlite_run /tmp/database' ||
        { echo "with $cpus CPUs: status $?"; exit 1; }
done

# Debian's own programs, with the dynamic linker and their libraries.
says=$(tools/quire-run --quiet --timeout 100 --mem 512M --add-bin sqlite3 --add-bin stress-ng -- \
    "sqlite3 /tmp/db 'pragma mmap_size=1000000; create table t(a); insert into t values(21); select a*2 from t;' &&
     stress-ng --vm 1 --vm-bytes 8M --vm-ops 20 --verify --timeout 20" 2>&1) ||
    { echo "dynamic programs: status $?"; echo "$says"; exit 1; }
grep -qx 42 <<<"$says" || { echo "sqlite3 said: $says"; exit 1; }
