#!/bin/bash
# SPDX-License-Identifier: MIT
# limit: 300
#
# Debian's redis-server with its benchmark, over loopback TCP and a Unix socket, and its persistence
# by fork (tests/programs/redis_session), on four CPUs.  `--long`: a hundred times as much, and on one.
set -u
cd "$(dirname "$0")/../.." || exit 1

command -v redis-server >/dev/null && command -v redis-benchmark >/dev/null || {
    echo "redis-server or redis-tools is not installed"
    exit 77
}
requests=300 keys=1000 limit=140 machines=4
if [ "${1:-}" = --long ]; then
    requests=50000 keys=100000 limit=3000 machines='1 4'
fi
log=build/user-tests/redis
mkdir -p build/user-tests
failures=0
for cpus in $machines; do
    tools/quire-run --smp $cpus --mem 512M --timeout $limit --add tests/programs/redis_session:/bin/redis_session \
        --add-bin redis-server --add-bin redis-cli --add-bin redis-benchmark \
        -- "redis_session $requests $keys" >$log.$cpus 2>$log.$cpus.kernel
    status=$?
    if [ $status -eq 0 ] && grep -q '^leak check: every' $log.$cpus.kernel; then
        echo "ok   $cpus CPUs: $(grep -c '^ok' $log.$cpus) restarts, $(grep -c '^"' $log.$cpus) benchmarks"
    else
        echo "FAIL $cpus CPUs: status $status"
        tail -n 30 $log.$cpus $log.$cpus.kernel | sed 's/^/     | /'
        failures=$((failures + 1))
    fi
done
[ $failures -eq 0 ]
