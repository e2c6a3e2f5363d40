#!/bin/bash
# SPDX-License-Identifier: MIT
# limit: 600
#
# Unmodified programs on the library's heap: libquire-malloc.so preloaded.  Each must say the
# same as without it, or end well where it says something different each time.
#
#   tests/preload/programs.sh [--long]      --long: what `make soak-heap` runs
set -u
cd "$(dirname "$0")/../.." || exit 1

library=$(realpath "${QUIRE_MALLOC:-build/hosted/libquire-malloc.so}" 2>/dev/null)
long=0
[ "${1:-}" = --long ] && long=1
scale=$((long ? 50 : 1))
work=$(mktemp -d)
server=
trap '[ -n "$server" ] && kill "$server" 2>/dev/null; rm -rf "$work"' EXIT
passed=0
failed=0

if [ ! -f "$library" ]; then
    echo "libquire-malloc.so is missing: cmake --preset hosted && cmake --build --preset hosted"
    exit 1
fi

verdict() { # NAME STATUS
    if [ "$2" = 0 ]; then
        passed=$((passed + 1))
        echo "ok   $1"
    else
        failed=$((failed + 1))
        echo "FAIL $1"
        tail -5 "$work"/err 2>/dev/null
    fi
}

# same NAME COMMAND...: the same output with the library as without, and status 0
same() {
    local name=$1
    shift
    "$@" >"$work/expected" 2>/dev/null </dev/null
    LD_PRELOAD=$library "$@" >"$work/got" 2>"$work/err" </dev/null &&
        cmp -s "$work/expected" "$work/got" && [ -s "$work/got" ]
    verdict "$name" $?
}

need() {
    command -v "$1" >/dev/null && return 0
    echo "skip $1 is not installed"
    return 1
}

cat >"$work/uses.c" <<'END'
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
int main(void)
{
    Dl_info info;
    return !(dladdr(dlsym(RTLD_DEFAULT, "malloc"), &info) && puts(info.dli_fname) >= 0);
}
END
gcc -D_GNU_SOURCE -o "$work/uses" "$work/uses.c"
LD_PRELOAD=$library "$work/uses" >"$work/got" 2>"$work/err" && grep -q quire-malloc "$work/got"
verdict "the library is what programs get" $?

gcc -O1 -pthread -D_GNU_SOURCE -o "$work/client" tests/preload/client.c &&
    LD_PRELOAD=$library timeout $((long ? 3600 : 300)) "$work/client" "$scale" >"$work/err" 2>&1
verdict "every call, threads beyond the CPUs, forks amid allocation" $?

if need sqlite3; then
    cat >"$work/sql" <<END
CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT, blob BLOB);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $((20000 * scale)))
    INSERT INTO t SELECT i, 'name ' || (i * 7919 % 10007), zeroblob(i % 300) FROM n;
CREATE INDEX by_name ON t(name);
SELECT count(*), sum(length(blob)), min(name), max(name) FROM t;
SELECT name, count(*) FROM t GROUP BY name ORDER BY 2 DESC, 1 LIMIT 5;
DELETE FROM t WHERE id % 3 = 0;
SELECT group_concat(id) FROM (SELECT id FROM t ORDER BY name, id LIMIT 2000);
PRAGMA integrity_check;
END
    same sqlite3 sqlite3 :memory: ".read $work/sql"
fi

if need python3; then
    cat >"$work/py.py" <<END
import hashlib, json, re, threading
def work(seed, out):
    data = {str(i): [i * seed % 977] * (i % 60) for i in range(3000)}
    for _ in range($scale):
        text = json.dumps(data)
        data = json.loads(text)
    words = sorted(re.findall(r"\d+", text))
    out[seed] = hashlib.sha256(" ".join(words).encode()).hexdigest()
out = {}
threads = [threading.Thread(target=work, args=(n, out)) for n in range(1, 9)]
[t.start() for t in threads]
[t.join() for t in threads]
print(sorted(out.items()))
END
    same python3 python3 "$work/py.py"
fi

# The compiler proper is a child of gcc: both have it.
for optimise in -O0 -O2; do
    rm -f "$work/a.s"
    same "gcc $optimise" sh -c "gcc $optimise -S -Iinclude -Isrc -o $work/a.s src/base/tree.c && cat $work/a.s"
done

if need redis-server && need redis-benchmark; then
    LD_PRELOAD=$library redis-server --port 0 --unixsocket "$work/socket" --save "" \
        --appendonly no --dir "$work" >"$work/redis" 2>&1 &
    server=$!
    for _ in $(seq 100); do
        [ -S "$work/socket" ] && break
        sleep 0.1
    done
    timeout $((long ? 3600 : 400)) redis-benchmark -s "$work/socket" -q -n $((4000 * scale)) -c 20 -d 300 -r 5000 \
        -t set,get,incr,lpush,lpop,sadd,hset,spop,zadd,lrange_100,mset >"$work/err" 2>&1 &&
        ! grep -qi error "$work/err" && grep -q quire-malloc "/proc/$server/maps" &&
        [ "$(redis-cli -s "$work/socket" ping 2>>"$work/err")" = PONG ] &&
        redis-cli -s "$work/socket" debug reload >>"$work/err" 2>&1
    verdict "redis-server under redis-benchmark" $?
    redis-cli -s "$work/socket" shutdown nosave >/dev/null 2>&1
    wait "$server"
    verdict "redis-server ends well" $?
    server=
fi

if need stress-ng; then
    seconds=$((long ? 600 : 3))
    LD_PRELOAD=$library stress-ng --malloc 2 --malloc-bytes 64M --malloc-ops $((60000 * scale)) \
        --malloc-thresh 64k --verify --timeout "$seconds" --metrics-brief >"$work/err" 2>&1
    verdict "stress-ng --malloc --verify" $?
    LD_PRELOAD=$library stress-ng --malloc 1 --malloc-pthreads 8 --malloc-bytes 32M \
        --malloc-ops $((60000 * scale)) --verify --timeout "$seconds" >"$work/err" 2>&1
    verdict "stress-ng --malloc --malloc-pthreads 8" $?
fi

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
