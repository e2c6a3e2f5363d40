#!/bin/bash
# SPDX-License-Identifier: MIT
# limit: 60
#
# The names of lines in the files about memory, of /proc and /sys: those of Debian's Linux 6.1, but for what
# proc_names/allowed.txt lists.  `tests/boot/proc_names.sh linux IMAGE` records that kernel's names again.
set -u
cd "$(dirname "$0")/../.." || exit 1

folder=tests/boot/proc_names
build=build/user-tests/proc_names
mkdir -p $build
command='sh ./collect.sh 2>/dev/null'
if [ "${1:-}" = linux ]; then
    tools/quire-run -q --linux "$2" --timeout 60 --add $folder/collect.sh -- "$command" >$build/linux || exit 1
    { echo '## SPDX-License-Identifier: MIT' && $folder/compare --record $build/linux; } >$folder/linux-6.1.txt
    exit
fi
if ! tools/quire-run -q ${QUIRE_KERNEL:+--kernel "$QUIRE_KERNEL"} --timeout 50 --add $folder/collect.sh -- "$command" >$build/quire; then
    echo "FAIL the machine"
    tail -n 5 $build/quire | sed 's/^/     | /'
    exit 1
fi
if ! $folder/compare $folder/linux-6.1.txt $folder/allowed.txt $build/quire >$build/log; then
    echo "FAIL $folder/allowed.txt"
    sed 's/^/     | /' $build/log
    exit 1
fi
echo "ok   $(tail -n 1 $build/log)"
