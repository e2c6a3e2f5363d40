#!/bin/bash
# SPDX-License-Identifier: MIT
# limit: 200
#
# Two memory nodes: their distances come from SLIT, memory is counted where it is, an
# allocation that does not fit on the near node is a miss there, and compaction runs
# on request.  Then a node without CPUs and without SLIT: latencies and bandwidths come from
# HMAT, distances from the latencies.  KERNEL in the environment names another build.
set -u
cd "$(dirname "$0")/../.." || exit 1

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat >"$work/session" <<'END'
./numa_policy || exit 1
cd /sys/devices/system/node
cat online
cat node0/distance node1/distance
set -- $(grep MemTotal node0/meminfo) ; echo total0 $4
set -- $(grep MemTotal node1/meminfo) ; echo total1 $4
grep -c . node1/numastat
before=$(grep local_node node0/numastat | cut -d' ' -f2)
dd if=/dev/zero of=/tmp/big bs=1M count=150 2>/dev/null
set -- $(grep Shmem: node0/meminfo) ; echo shmem0 $4
set -- $(grep Shmem: node1/meminfo) ; echo shmem1 $4
set -- $(grep numa_miss node1/numastat) ; echo miss1 $2
set -- $(grep numa_foreign node0/numastat) ; echo foreign0 $2
after=$(grep local_node node0/numastat | cut -d' ' -f2)
[ "$after" -gt "$before" ] && echo local counted
rm /tmp/big
echo 1 >/proc/sys/vm/compact_memory && echo compacted
grep -c compact_stall /proc/vmstat
# One process reads all three: more of them would have more stacks.
set -- $(grep -h KernelStack node0/meminfo node1/meminfo /proc/meminfo)
echo stacks $(($4 + $9)) ; echo allstacks ${12}
grep -c 'Node 1, zone *Normal' /sys/kernel/debug/extfrag/extfrag_index /sys/kernel/debug/extfrag/unusable_index
set -- $(grep compact_stall /proc/vmstat) ; echo stalls $2
echo validate >/sys/kernel/debug/memory
END
gcc -static -O1 -Wall -Wextra -Werror -o "$work/numa_policy" tests/programs/numa_policy.c || exit 1
timeout 180 tools/quire-run ${KERNEL:+--kernel "$KERNEL"} --mem 256M --numa 128M,128M \
    --qemu=-numa --qemu=dist,src=0,dst=1,val=31 --timeout 150 -q --add "$work/session" --add "$work/numa_policy" -- \
    sh session >"$work/out" 2>"$work/err" || { cat "$work/out" "$work/err"; exit 1; }

fail=0
check() {
    if ! eval "$2"; then
        echo "numa: $1"
        fail=1
    fi
}
value() { sed -n "s/^$1 //p" "$work/out" | tr -d '\r'; }
check "policies" 'grep -q "^numa_policy: .* 0 failures" "$work/out"'
check "two nodes" 'grep -q "^0-1" "$work/out"'
check "distances of node 0" 'grep -q "^10 31" "$work/out"'
check "distances of node 1" 'grep -q "^31 10" "$work/out"'
check "memory on node 0" '[ "$(value total0)" -gt 60000 ]'
check "memory on node 1" '[ "$(value total1)" -gt 100000 ]'
check "150 MiB of files on both" '[ "$(value shmem0)" -gt 20000 ] && [ "$(value shmem1)" -gt 20000 ]'
check "misses" '[ "$(value miss1)" -gt 5000 ] && [ "$(value foreign0)" -gt 5000 ]'
check "local allocations" 'grep -q "^local counted" "$work/out"'
check "compaction on request" 'grep -q "^compacted" "$work/out" && [ "$(value stalls)" -gt 0 ]'
check "kernel stacks by node" '[ "$(value stacks)" -gt 0 ] && [ "$(value stacks)" = "$(value allstacks)" ]'
check "fragmentation by zone" '[ "$(grep -c "extfrag/.*:1" "$work/out")" = 2 ]'
check "sound structures" 'grep -q "^frames *sound" "$work/out" && ! grep -q BROKEN "$work/out"'

cat >"$work/far" <<'END'
cd /sys/devices/system/node
cat node0/distance node1/distance
echo cpus0 $(cat node0/cpulist)
echo cpus1 $(cat node1/cpulist)
cd node1/access0/initiators
echo link $(readlink node0) $(cat node0/distance)
for name in read_latency write_latency read_bandwidth write_bandwidth; do
    echo far_$name $(cat $name)
    echo near_$name $(cat ../../../node0/access1/initiators/$name)
done
ls -d /sys/devices/system/node/node0/access0/targets/node1/distance
END
hmat() {
    echo "--qemu=-numa --qemu=hmat-lb,hierarchy=memory,initiator=0,target=$1,data-type=access-$2"
}
# shellcheck disable=SC2046
timeout 90 tools/quire-run ${KERNEL:+--kernel "$KERNEL"} --smp 2 --mem 256M --timeout 60 -q \
    --qemu=-machine --qemu=hmat=on \
    --qemu=-object --qemu=memory-backend-ram,id=near,size=128M \
    --qemu=-object --qemu=memory-backend-ram,id=far,size=128M \
    --qemu=-numa --qemu=node,nodeid=0,memdev=near,cpus=0-1 \
    --qemu=-numa --qemu=node,nodeid=1,memdev=far,initiator=0 \
    $(hmat 0 latency,latency=10) $(hmat 1 latency,latency=35) \
    $(hmat 0 bandwidth,bandwidth=200M) $(hmat 1 bandwidth,bandwidth=100M) \
    --add "$work/far" -- sh far >>"$work/out" 2>>"$work/err" || fail=1
check "distances from latencies" 'grep -q "^10 35" "$work/out" && grep -q "^35 10" "$work/out"'
check "whose CPUs" '[ "$(value cpus0)" = 0-1 ] && [ -z "$(value cpus1)" ]'
check "the initiator" '[ "$(value link)" = "../../../node0 10 35" ]'
check "latencies" '[ "$(value near_read_latency) $(value far_write_latency)" = "10 35" ]'
check "bandwidths" '[ "$(value near_write_bandwidth) $(value far_read_bandwidth)" = "200 100" ]'
check "the target" 'grep -q "^/sys/.*targets/node1/distance" "$work/out"'
[ "$fail" -eq 0 ] || cat "$work/out" "$work/err"
exit "$fail"
