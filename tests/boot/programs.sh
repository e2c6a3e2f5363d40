#!/bin/bash
# SPDX-License-Identifier: MIT
# limit: 240
#
# Programs that nobody here wrote, unmodified: Debian's static Lua and SQLite
# libraries, running real scripts whose results are known, on four CPUs.  Its own programs, with the dynamic
# linker and their libraries: real_programs.sh, redis.sh, selftests.sh.
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

tools/quire-run --quiet --smp 4 --timeout 100 --add $build/lua_run --add $build/sqlite_run \
    --add tests/programs/script.lua -- './lua_run script.lua && ./sqlite_run /tmp/database'
