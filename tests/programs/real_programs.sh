# SPDX-License-Identifier: MIT
# Runs on the reference kernel: tests/boot/real_programs.sh.
set -e
mimalloc=$1
export PATH=/usr/bin:/bin

if [ -x test-stress ]; then
    ./test-stress 4 ${2:+2}5 ${2:+1}1 >/dev/null 2>&1
    [ -z "$2" ] || { ./test-api >/tmp/api 2>&1 && grep -q '^failed *: 0' /tmp/api; }
fi
# Not those that want what its author's machine has, or were changed for the other implementation.
if [ -d lua-tests ]; then
    for name in api attrib calls checktable closure code db events files gc literals locals nextvar \
        sort strings vararg ${2:+constructs errors verybig}; do
        (cd lua-tests && lua5.1 $name.lua) >/tmp/lua 2>&1 || { echo "Lua's $name:"; tail -n 3 /tmp/lua; }
    done
fi
gcc -O2 -o /tmp/compiled compiled.c
/tmp/compiled
sqlite3 /tmp/plain.db <mapped.sql
LD_PRELOAD=$mimalloc sqlite3 /tmp/mimalloc.db <mapped.sql
LD_PRELOAD=$mimalloc /tmp/compiled
python3 compute.py
[ -z "$2" ] || LD_PRELOAD=$mimalloc python3 compute.py
