#!/bin/bash
# SPDX-License-Identifier: MIT
# limit: 200
#
# Sockets: every call with every documented error, and what several processes do with them
# (tests/user/net), one program, on four CPUs; on the other architectures by
# tests/boot/architectures.sh.
# `tests/boot/sockets.sh linux` runs it on this machine's Linux instead (as root): what it
# expects is what Linux does.
set -u
cd "$(dirname "$0")/../.." || exit 1

build=build/user-tests
mkdir -p $build

program=$build/net.x86_64
if [ -n "$(find tests/user/net tests/user/calls -newer $program 2>/dev/null || echo new)" ]; then
    gcc -static -pthread -O1 -Wall -Wextra -Werror -o $program tests/user/net/*.c tests/user/calls/main.c || exit 1
fi
if [ "${1:-}" = linux ]; then
    exec $program
fi
log=$build/net.x86_64.log
tools/quire-run --smp 4 --timeout 100 --add $program:/bin/net -- net >$log 2>$log.kernel
status=$?
if [ $status -eq 0 ] && grep -q '^leak check: every' $log.kernel; then
    echo "ok   $(grep -c '^ok' $log) files"
    exit 0
fi
echo "FAIL status $status"
grep -v '^ok' $log | head -20 | sed 's/^/     | /'
tail -n 5 $log.kernel | sed 's/^/     | /'
exit 1
