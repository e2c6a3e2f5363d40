#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Long runs, for a release: tests/campaign/run.sh WHAT [HOW MANY]
#
#   copies            every user copy at every boundary, on every MMU (target T3)
#   accesses  [1e8]   memory accesses through TLBs that lose nothing (target T6)
#   granules          the library built for pages of 16 and 64 KiB, on AArch64's formats
#   seeds     [1e6]   seeded schedules over the core, each atomic operation a
#                     point of pre-emption (target T8)
#
# Needs the hosted preset built (make build).  BUILD names another directory.
set -eu
cd "$(dirname "$0")/../.."
build=${BUILD:-build/hosted}
mmus="x86_64 x86_64_la57 x86_32 x86_pae aarch64_4k aarch64_4k_39 aarch64_4k_52
      riscv64_sv39 riscv64_sv48 riscv64_sv57 scrambled"

case ${1:-} in
copies)
    for mmu in $mmus; do
        for features in "" no_ad; do
            echo "$mmu $features"
            SIM_MMU=$mmu SIM_FEATURES=$features "$build/test_sim" --limit 0 usercopy. | tail -1
        done
    done
    ;;
accesses)
    SIM_ACCESSES=${2:-100000000} "$build/test_campaign" --limit 0 accesses.
    ;;
granules)
    for granule in 16k 64k; do
        case $granule in
        16k) mmus="aarch64_16k aarch64_16k_48 aarch64_16k_52" ;;
        64k) mmus="aarch64_64k aarch64_64k_42 aarch64_64k_52" ;;
        esac
        cmake -B build/hosted_$granule -G Ninja -DQUIRE_CONFIG=hosted_$granule >/dev/null
        ninja -C build/hosted_$granule test_contract test_fault test_space test_refusal test_object
        for mmu in $mmus; do
            for test in contract fault space refusal object; do
                echo "$mmu: $test: $(SIM_MMU=$mmu build/hosted_$granule/test_$test | tail -1)"
            done
        done
    done
    ;;
seeds)
    SIM_SEEDS=${2:-1000000} "$build/test_campaign" --limit 0
    ;;
*)
    sed -n '4,13s/^# \{0,1\}//p' "$0"
    exit 2
    ;;
esac
