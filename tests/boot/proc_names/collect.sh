# SPDX-License-Identifier: MIT
# Runs in the guest, Quire or Linux: what stands in the files about memory, each behind a line `== FILE`.

show() {
    for file in "$@"; do
        echo "== $file"
        cat "$file"
    done
}

list() {
    for directory in "$@"; do
        echo "== $directory/"
        for entry in "$directory"/*; do
            echo "${entry##*/}"
        done
    done
}

cd /proc
show meminfo vmstat zoneinfo pagetypeinfo buddyinfo swaps slabinfo pressure/memory
cd self
show status statm stat io limits smaps smaps_rollup numa_maps oom_score oom_score_adj
cd /sys/devices/system/node/node0
show meminfo vmstat numastat distance
list /proc/sys/vm /sys/devices/system/node/node0 /sys/kernel/mm/transparent_hugepage
list /sys/kernel/mm/hugepages /sys/kernel/mm/hugepages/hugepages-2048kB
mkdir -p /sys/fs/cgroup
mount -t cgroup2 none /sys/fs/cgroup
echo +memory >/sys/fs/cgroup/cgroup.subtree_control
mkdir /sys/fs/cgroup/names
cd /sys/fs/cgroup/names
show memory.stat memory.events memory.swap.events memory.pressure
echo "== cgroup/"
ls memory.* | tr ' ' '\n'
cd /
rmdir /sys/fs/cgroup/names
umount /sys/fs/cgroup
echo "== end"
