#!/bin/bash
# SPDX-License-Identifier: MIT
# limit: 400
#
# Disks (docs/disk.md): a virtio disk as /dev/vda on one CPU and on four, one that fails; ext2 with
# blocks of each size, on every architecture that is built; sqlite; a machine that is killed.  After
# each, e2fsck finds nothing to mend.
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

# image BYTES-OF-A-BLOCK SIZE: $work/image, with the docs in it
image() {
    rm -f "$work/image"
    truncate -s "$2" "$work/image"
    mke2fs -q -t ext2 -b "$1" -d docs "$work/image"
}

mount='mkdir /mnt && mount -t ext2 /dev/vda /mnt && cd /mnt'
sum=$(cat docs/*.md | md5sum)

for blocks in 1024:1 2048:4 4096:4; do
    image ${blocks%:*} 24M
    run "ext2, blocks of ${blocks%:*}, ${blocks#*:} CPUs" --smp ${blocks#*:} --disk "$work/image" \
        --add $build/file -- "$mount && [ \"\$(cat *.md | md5sum)\" = '$sum' ] &&
            mkdir new && /root/file new && mv new formats/new && cd / && umount /mnt"
    check "blocks of ${blocks%:*}" "$work/image"
done

# Names and contents by a shell, seen again after the next mount and by debugfs.
script="$mount && cp -r . /tmp/copy && for i in \$(seq 200); do echo \$i >f_\$i; done &&
    for i in \$(seq 1 2 200); do rm f_\$i; done && mv decisions moved && rm -r formats &&
    ln disk.md moved/hard && ln -s disk.md soft && dd if=/dev/urandom of=big bs=1M count=2 2>/dev/null &&
    md5sum big >big.sum && cd / && umount /mnt && mount -t ext2 /dev/vda /mnt && cd /mnt &&
    md5sum -c big.sum && [ \$(ls f_* | wc -l) = 100 ] && cmp soft moved/hard &&
    cmp disk.md /tmp/copy/disk.md && [ ! -e formats ]"
for arch in x86_64 i386 aarch64 riscv64; do
    if [ ! -f build/$arch/quire-kernel.elf ]; then
        continue
    fi
    image 1024 16M
    kernel=${QUIRE_KERNEL:-}
    QUIRE_KERNEL='' # of x86_64
    run "names, $arch" --arch $arch --disk "$work/image" -- "$script"
    QUIRE_KERNEL=$kernel
    check "names, $arch" "$work/image"
    debugfs -R "dump big $work/big" "$work/image" 2>/dev/null
    debugfs -R "dump big.sum $work/big.sum" "$work/image" 2>/dev/null
    (cd "$work" && md5sum -c --quiet big.sum) || failures=$((failures + 1))
done

# A database that is mapped; this machine's sqlite3 reads it afterwards.
if command -v sqlite3 >/dev/null; then
    image 4096 24M
    run "sqlite3 on the disk" --disk "$work/image" --add-bin sqlite3 -- "$mount &&
        sqlite3 base.db 'pragma mmap_size=8000000; create table t(a integer primary key, b text);
            with recursive c(n) as (select 1 union all select n+1 from c where n<3000)
            insert into t select n, hex(randomblob(40)) from c;
            update t set b = b || a where a % 3 = 0; delete from t where a % 7 = 0;
            create index i on t(b); pragma integrity_check;' | tail -n 1 | grep -q '^ok'"
    check "sqlite3" "$work/image"
    debugfs -R "dump base.db $work/base.db" "$work/image" 2>/dev/null
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

# Writes that fail: fsync says so, the next write-back tries again.
cat >"$work/errors" <<END
[inject-error]
event = "none"
iotype = "write"
errno = "5"
once = "on"
sector = "30000"
END
image 1024 24M
run "writes that fail once" --disk \
    "driver=raw,file.driver=blkdebug,file.config=$work/errors,file.image.driver=file,file.image.filename=$work/image" \
    -- "$mount && ! dd if=/dev/zero of=fill bs=1M count=20 conv=fsync 2>/dev/null && sync &&
        dd if=fill of=/dev/null bs=1M 2>/dev/null && rm fill && cd / && umount /mnt"
check "writes that fail once" "$work/image"

[ $failures -eq 0 ]
