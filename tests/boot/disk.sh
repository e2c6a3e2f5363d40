#!/bin/bash
# SPDX-License-Identifier: MIT
# limit: 400
#
# Disks (docs/disk.md): virtio disks that are written, read only, failing; ext2 with blocks of each
# size; sqlite3 on a mapped database; a machine that is killed; files larger than memory.  After each,
# e2fsck finds nothing to mend.  The other architectures' disks: tests/boot/architectures.sh.
set -u
cd "$(dirname "$0")/../.." || exit 1

build=build/user-tests/disk
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p $build
failures=0

PATH=$PATH:/sbin:/usr/sbin
if ! command -v e2fsck >/dev/null; then
    echo "e2fsck is not installed (package e2fsprogs)"
    exit 77
fi

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

# A disk that is written, and one that is read only.
truncate -s 5M "$work/raw" "$work/fixed"
run "raw disks" --smp 4 --disk "$work/raw" --disk "format=raw,readonly=on,file=$work/fixed" \
    --add $build/raw -- './raw /dev/vda && cat /proc/partitions && [ $(cat /sys/block/vda/size) = 10240 ] &&
        cat /dev/vdb >/dev/null && ! (echo x >/dev/vdb) 2>/dev/null && [ $(cat /sys/block/vdb/ro) = 1 ]'
same "what was written is in the image" "$work/raw" $((2 * 1048576 + 600)) later

# check NAME IMAGE: e2fsck has nothing to say
check() {
    if e2fsck -fn "$2" >"$work/fsck" 2>&1; then
        echo "ok   $1: e2fsck"
    else
        echo "FAIL $1: e2fsck"
        sed 's/^/     | /' "$work/fsck" | tail -n 15
        failures=$((failures + 1))
    fi
}

# image BYTES-OF-A-BLOCK SIZE [NAME]: an ext2 with the docs in it, $work/image
image() {
    local file=$work/${3:-image}
    rm -f "$file"
    truncate -s "$2" "$file"
    mke2fs -q -t ext2 -b "$1" -d docs "$file"
}

mount='mkdir -p /mnt && mount -t ext2 /dev/vda /mnt && cd /mnt'
sum=$(cat docs/*.md | md5sum)

# Blocks of each size, each on a disk of its own.  Then the first by a shell; on the last, Debian's
# sqlite3 with a mapped database, which this machine's reads afterwards.
image 1024 16M first
image 2048 24M second
image 4096 24M third
sqlite=()
database=true
if command -v sqlite3 >/dev/null; then
    sqlite=(--add-bin sqlite3)
    database="sqlite3 /mnt/base.db 'pragma mmap_size=8000000; create table t(a integer primary key, b text);
        with recursive c(n) as (select 1 union all select n+1 from c where n<3000)
        insert into t select n, hex(randomblob(40)) from c;
        update t set b = b || a where a % 3 = 0; delete from t where a % 7 = 0;
        create index i on t(b); pragma integrity_check;' | tail -n 1 | grep -q '^ok'"
fi
run "ext2, blocks of each size" --smp 4 --disk "$work/first" --disk "$work/second" --disk "$work/third" \
    "${sqlite[@]}" --add $build/file --add tests/programs/disk_names.sh -- "mkdir /mnt; for disk in a b c; do
            mount -t ext2 /dev/vd\$disk /mnt && cd /mnt && [ \"\$(cat *.md | md5sum)\" = '$sum' ] &&
                mkdir new && /root/file new && mv new formats/new || exit 1
            [ \$disk != c ] || { $database; } || exit 1
            cd / && umount /mnt || exit 1
        done; sh /root/disk_names.sh"
for disk in first second third; do
    check "the $disk disk" "$work/$disk"
done
debugfs -R "dump big $work/big" "$work/first" 2>/dev/null
debugfs -R "dump big.sum $work/big.sum" "$work/first" 2>/dev/null
(cd "$work" && md5sum -c --quiet big.sum) || failures=$((failures + 1))
if [ "$database" != true ]; then
    debugfs -R "dump base.db $work/base.db" "$work/third" 2>/dev/null
    if [ "$(sqlite3 "$work/base.db" 'pragma integrity_check; select count(*) from t')" = "ok
2572" ]; then
        echo "ok   sqlite3 here reads the database"
    else
        echo "FAIL sqlite3 here does not read the database"
        failures=$((failures + 1))
    fi
fi

# Killed while it writes: what was synced is there.
image 4096 24M
tools/quire-run ${QUIRE_KERNEL:+--kernel "$QUIRE_KERNEL"} --timeout 60 --disk "$work/image" -- \
    "$mount && cat *.md >kept && sync && echo synced &&
        while :; do cp kept other; rm other; done" >"$work/out" 2>/dev/null &
machine=$!
for _ in $(seq 600); do
    grep -q synced "$work/out" && break
    sleep 0.1
done
sleep 0.3
kill $machine
wait $machine 2>/dev/null
e2fsck -fy "$work/image" >"$work/fsck" 2>&1
debugfs -R "dump kept $work/kept" "$work/image" 2>/dev/null
if [ "$(md5sum <"$work/kept")" = "$sum" ] && e2fsck -fn "$work/image" >/dev/null 2>&1; then
    echo "ok   a machine killed while it writes keeps what was synced"
else
    echo "FAIL a machine killed while it writes lost what was synced"
    failures=$((failures + 1))
fi

# A file larger than memory; what is dirty goes out by itself.
image 4096 100M
run "a file larger than memory" --mem 64M --disk "$work/image" -- "$mount &&
    dd if=/dev/zero of=big bs=1M count=70 2>/dev/null && [ \$(wc -c <big) = 73400320 ] &&
    echo 50 >/proc/sys/vm/dirty_writeback_centisecs && echo 100 >/proc/sys/vm/dirty_expire_centisecs &&
    cat *.md >small && i=0 && while ! grep -q '^nr_dirty 0' /proc/vmstat && [ \$i -lt 300 ]; do
        sleep 0.1; i=\$((i + 1)); done && [ \$i -lt 300 ] && echo 3 >/proc/sys/vm/drop_caches &&
    [ \"\$(cat small | md5sum)\" = '$sum' ]"
check "a file larger than memory" "$work/image"

# Two disks that fail.  Writes on the first do once: fsync says so, the next write-back tries again.  Of the
# second, one sector cannot be read and one not be written, ever.
cat >"$work/once" <<END
[inject-error]
event = "none"
iotype = "write"
errno = "5"
once = "on"
sector = "30000"
END
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

# failing IMAGE ERRORS: QEMU's words for that disk
failing() {
    echo "driver=raw,file.driver=blkdebug,file.config=$2,file.image.driver=file,file.image.filename=$1"
}

image 1024 24M
truncate -s 5M "$work/bad"
run "disks that fail" --disk "$(failing "$work/image" "$work/once")" --disk "$(failing "$work/bad" "$work/errors")" \
    --add $build/raw -- "$mount && ! dd if=/dev/zero of=fill bs=1M count=20 conv=fsync 2>/dev/null && sync &&
        dd if=fill of=/dev/null bs=1M 2>/dev/null && rm fill && cd / && umount /mnt && /root/raw /dev/vdb failing"
check "writes that fail once" "$work/image"

[ $failures -eq 0 ]
