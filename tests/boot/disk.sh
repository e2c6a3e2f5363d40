#!/bin/bash
# SPDX-License-Identifier: MIT
# limit: 400
#
# Disks (docs/disk.md): a virtio disk as /dev/vda on one CPU and on four, and one that fails.
set -u
cd "$(dirname "$0")/../.." || exit 1

build=build/user-tests/disk
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p $build
failures=0

for source in tests/user/disk/*.c; do
    name=$(basename "$source" .c)
    if [ "$source" -nt "$build/$name" ] || [ tests/user/check.h -nt "$build/$name" ]; then
        gcc -static -pthread -O2 -Wall -Wextra -Werror -o "$build/$name" "$source" || exit 1
    fi
done

# run NAME ARGUMENTS...: quire-run with them; its output in $work/out, the kernel's log in $work/log
run() {
    local name=$1
    shift
    if tools/quire-run ${QUIRE_KERNEL:+--kernel "$QUIRE_KERNEL"} --timeout 100 "$@" \
        >"$work/out" 2>"$work/log" && grep -q '^leak check: every' "$work/log"; then
        echo "ok   $name"
        return 0
    fi
    echo "FAIL $name"
    tail -n 25 "$work/out" | sed 's/^/     | /'
    tail -n 8 "$work/log" | sed 's/^/     | /'
    failures=$((failures + 1))
    return 1
}

# same NAME FILE OFFSET TEXT: the image holds TEXT there
same() {
    if [ "$(dd if="$2" bs=1 skip="$3" count=${#4} 2>/dev/null)" = "$4" ]; then
        echo "ok   $1"
    else
        echo "FAIL $1"
        failures=$((failures + 1))
    fi
}

for cpus in 1 4; do
    truncate -s 5M "$work/raw"
    run "a raw disk, $cpus CPUs" --smp $cpus --disk "$work/raw" --add $build/raw -- \
        './raw /dev/vda && cat /proc/partitions && [ $(cat /sys/block/vda/size) = 10240 ]'
    same "what was written is in the image" "$work/raw" $((2 * 1048576 + 600)) later
done

# One sector that cannot be read, one that cannot be written.
cat >"$work/errors" <<END
[inject-error]
event = "none"
iotype = "read"
errno = "5"
sector = "2050"
[inject-error]
event = "none"
iotype = "write"
errno = "5"
sector = "4096"
END
truncate -s 5M "$work/raw"
run "a disk that fails" --add $build/raw --disk \
    "driver=raw,file.driver=blkdebug,file.config=$work/errors,file.image.driver=file,file.image.filename=$work/raw" \
    -- './raw /dev/vda failing'

# A disk that is read only.
run "a disk that is read only" --disk "format=raw,readonly=on,file=$work/raw" -- \
    'cat /dev/vda >/dev/null && ! (echo x >/dev/vda) 2>/dev/null && [ $(cat /sys/block/vda/ro) = 1 ]'

[ $failures -eq 0 ]
