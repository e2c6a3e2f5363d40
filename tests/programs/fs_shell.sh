# SPDX-License-Identifier: MIT
# Run by tests/boot/fs_shell.sh on the reference kernel, with busybox.

failures=0
check() { # NAME EXPECTED ACTUAL
    [ "$2" = "$3" ] && return
    echo "FAIL $1: expected '$2', got '$3'"
    failures=$((failures + 1))
}

free_before=$(awk '/MemFree/ { print $2 }' /proc/meminfo)
mkdir /tmp/t && cd /tmp/t || exit 1

# trees
mkdir -p a/b/c a/d
for i in 1 2 3 4 5 6 7 8 9; do echo "line $i" >a/b/f$i; done
ln -s b a/link; ln a/b/f1 a/hard; mkfifo a/fifo
check find 16 "$(find a | wc -l)"
check link "line 3" "$(cat a/link/f3)"
check hard 2 "$(stat -c %h a/b/f1)"
cp -a a copy && check cp "" "$(diff -r a/b copy/b)"
tar cf t.tar a && mkdir x && tar xf t.tar -C x
check tar "" "$(diff -r a/b x/a/b)"
check tar-link b "$(readlink x/a/link)"
find a | cpio -o -H newc 2>/dev/null >t.cpio && mkdir y && (cd y && cpio -id <../t.cpio 2>/dev/null)
check cpio "" "$(diff -r a/b y/a/b)"
mv x z && check mv "line 1" "$(cat z/a/hard)"
rm -r a && check rm "" "$(ls -d a 2>/dev/null)"

# many names in one directory, removed while it is read
mkdir many && (cd many && seq 1 2000 | xargs touch)
check many 2000 "$(ls many | wc -l)"
rm -r many && check rm-many "" "$(ls -d many 2>/dev/null)"

# bytes
dd if=/dev/zero of=zeros bs=1M count=8 2>/dev/null
check sha1 "5fde1cce603e6566d20da811c9c8bcccb044d4ae  zeros" "$(sha1sum zeros)"
dd if=/dev/urandom of=random bs=64k count=20 2>/dev/null
gzip -c random | gunzip -c | cmp - random || check gzip 0 1
truncate -s 1G sparse
check sparse "1073741824 0" "$(stat -c '%s %b' sparse)"
echo x | dd of=sparse bs=1 seek=500M conv=notrunc 2>/dev/null
check hole 8 "$(stat -c %b sparse)"

# pipes
check sort "20000 19999 " "$(seq 1 20000 | sort -rn | head -2 | tr '\n' ' ')"
check awk 200010000 "$(seq 1 20000 | awk '{ s += $1 } END { print s }')"
check grep 40951 "$(seq 1 100000 | grep -c 7)"
check sed aXc "$(echo abc | sed s/b/X/)"
check yes 1000000 "$(yes | head -c 1000000 | wc -c)"
check fifo through "$(mkfifo p; cat p & echo through >p; wait)"
check read-loop "a b " "$( (echo a; echo b) | while read -r x; do printf '%s ' "$x"; done)"

# errors
check full 1 "$(echo x 2>/dev/null >/dev/full; echo $?)"
check loop 1 "$(ln -s loop loop; cat loop 2>/dev/null; echo $?)"
check rmdir 1 "$(mkdir -p e/f; rmdir e 2>/dev/null; echo $?)"
check too-many 1 "$( (ulimit -n 6; exec 3</dev/null 4</dev/null 5</dev/null 6</dev/null) 2>/dev/null; echo $?)"
check file-limit 10240 "$( (ulimit -f 20; dd if=/dev/zero of=lim bs=1k count=30) >/dev/null 2>&1; stat -c %s lim)"

# mounts
mkdir m && mount -t tmpfs -o size=1m t m
dd if=/dev/zero of=m/f bs=64k count=100 2>/dev/null && check mount-limit 1 0
check mount-size 1048576 "$(stat -c %s m/f)"
check mount-df "1024 1024 0" "$(df m | awk 'NR == 2 { print $2, $3, $4 }')"
check busy 1 "$(cd m; umount /tmp/t/m 2>/dev/null; echo $?)"
mv m/f f2 && rm f2
umount m && check umount "" "$(ls m)"
check mount-twice 255 "$(mount -t proc proc /proc 2>/dev/null; echo $?)"
check mount-unknown 255 "$(mount -t nothing x m 2>/dev/null; echo $?)"

# /proc and /sys
check self sh "$(cat /proc/$$/comm)"
check exe /bin/busybox "$(readlink /proc/$$/exe)"
check cwd /tmp/t "$(readlink /proc/$$/cwd)"
check fd /tmp/t/zeros "$(sh -c 'exec 7<zeros; readlink /proc/$$/fd/7')"
check deleted "/tmp/t/gone (deleted)" "$(sh -c 'exec 7>gone; rm gone; readlink /proc/$$/fd/7')"
check stdin through "$(echo through | cat /dev/stdin)"
check environ Y=1 "$(Y=1 sh -c 'tr "\0" "\n" </proc/$$/environ; :' | grep '^Y=')"
check maps 1 "$(grep -c '\[stack\]' /proc/self/maps)"
check statm 7 "$(wc -w </proc/self/statm)"
check stat 52 "$(wc -w </proc/self/stat)"
check node 1 "$(grep -c MemFree /sys/devices/system/node/node0/meminfo)"
check cpus "$(nproc)" "$(grep -c '^processor' /proc/cpuinfo)"
for node in meminfo vmstat buddyinfo zoneinfo pagetypeinfo slabinfo vmallocinfo iomem stat uptime \
    loadavg version mounts filesystems devices self/maps self/smaps self/smaps_rollup \
    self/status self/limits self/mountinfo self/auxv sys/vm/max_map_count sys/kernel/osrelease; do
    [ -n "$(cat "/proc/$node" | tr '\0' x)" ] || check "/proc/$node" text nothing
done
find /proc /sys >/dev/null 2>&1 || check find-proc 0 1
check write-proc 1 "$(echo x 2>/dev/null >/proc/version; echo $?)"
check validate "sound sound sound sound " \
    "$(echo validate >/sys/kernel/debug/memory; awk '{ printf "%s ", $2 }' /sys/kernel/debug/memory)" \
    >/tmp/validate
sed -n '/FAIL/p' /tmp/validate
check bad-command 1 "$(echo nonsense 2>/dev/null >/sys/kernel/debug/memory; echo $?)"

# everything comes back
cd / && rm -rf /tmp/t /tmp/validate
free_after=$(awk '/MemFree/ { print $2 }' /proc/meminfo)
[ $((free_before - free_after)) -lt 4096 ] || check memory "$free_before KiB" "$free_after KiB"
[ $failures -eq 0 ]
