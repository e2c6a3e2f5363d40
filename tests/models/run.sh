#!/bin/sh
# SPDX-License-Identifier: MIT
# Check the models with spin: each holds as it stands, and each seeded bug is found.
# limit: 900
# usage: tests/models/run.sh [work directory]
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=${1:-$(mktemp -d)}
command -v spin >/dev/null || {
    echo "skip models: spin is not installed (apt-get install spin)"
    exit 77
}
mkdir -p "$work"
failed=0

# build OPTIMISE MODEL [-DNAME...]: the verifier, $dir/pan
build() {
    optimise=$1 model=$2
    shift 2
    dir=$work/$model$(echo "$@" | tr -cd 'A-Za-z0-9_')
    rm -rf "$dir"
    mkdir -p "$dir"
    (
        cd "$dir"
        cp "$here/$model.pml" .
        spin -a "$@" "$model.pml" >spin.log &&
            cc "$optimise" -DSAFETY -DVECTORSZ=2048 -o pan pan.c 2>cc.log
    ) || echo "no verifier in $dir"
}

# search WANTED NAME...: what the verifier that was built last says; WANTED is "holds" or "fails"
search() {
    wanted=$1
    shift
    (cd "$dir" && ./pan -m100000 -w23 >pan.log) || echo "no verifier" >>"$dir/pan.log"
    if grep -q "no verifier\|max search depth too small\|out of memory" "$dir/pan.log"; then
        result=unfinished
    elif grep -q "errors: 0" "$dir/pan.log"; then
        result=holds
    else
        result=fails
    fi
    states=$(sed -n 's/^ *\([0-9.e+]*\) states, stored.*/\1/p' "$dir/pan.log")
    if [ "$result" = "$wanted" ]; then
        echo "ok   $* $result ($states states)"
    else
        echo "FAIL $* $result, wanted $wanted: see $dir/pan.log"
        failed=1
    fi
}

# check MODEL WANTED [-DNAME...]
check() {
    model=$1 wanted=$2
    shift 2
    # Nearly every search is over before a compiler would have made it fast.
    [ "$model $wanted" = "asid holds" ] && optimise=-O1 || optimise=-O0
    build "$optimise" "$model" "$@"
    search "$wanted" "$model" "$@"
}

# seed NAME...: the verifier that was built last finds these mistakes
seed() {
    for bug in "$@"; do
        BUG=$(sed -n "s/^#define BUG_$bug  *//p" "$dir/$model.pml")
        export BUG
        search fails "$model" "$bug"
    done
    unset BUG
}

check shootdown holds
for bug in LOOK_BEFORE_COUNTING COMPARE_BEFORE_ACTIVE COMPARE_BEFORE_AWAKE GENERATION_AFTER_FLUSH \
    PAGES_WHEN_FURTHER_BEHIND DO_NOT_WAIT SPIN_WITHOUT_SERVING TRUST_EMPTY_ENTRIES; do
    check shootdown fails -DBUG_$bug
done
check tables holds
for bug in NOT_MARKED_DEAD LAZY_IS_SKIPPED FREE_BEFORE_FLUSH ACKNOWLEDGE_FIRST \
    WALKERS_ARE_FORGOTTEN SECTION_AFTER_WALK SECTION_ENDS_BEFORE_LOCK; do
    check tables fails -DBUG_$bug
done
check gather holds
for bug in GIVEN_UP_FIRST COUNTED_LATE FIRST_SPACE_ONLY NOT_PENDING NOT_SETTLED; do
    check gather fails -DBUG_$bug
done
unset BUG
# Few states: a compiler that makes it fast takes longer than the search.
build -O0 swap -DROUNDS=1
search holds swap -DROUNDS=1
seed REMOVED_UNSEEN
build -O0 swap -DSTAYS_ON
search holds swap -DSTAYS_ON
seed MAPPED_WRITABLE FLUSHED_LATE TAKEN_WITH_NAMES TAKEN_IN_FLIGHT FREED_IN_FLIGHT FOUND_TOO_EARLY \
    READ_TWICE FORK_COUNTS_NO_USE WRITTEN_IS_KEPT COPY_OF_NOBODYS

# Identifiers: how often CPUs 0 and 1 switch, how often the numbers roll over, and what CPU 2 does
# bound what is looked at.
few="-DSWITCHES_0=1 -DSWITCHES_1=1 -DROUNDS=1" some="-DSWITCHES_0=1 -DSWITCHES_1=2 -DROUNDS=1"
many="-DSWITCHES_0=1 -DSWITCHES_1=3 -DROUNDS=1" twice="-DSWITCHES_0=1 -DSWITCHES_1=2 -DROUNDS=2"
first="-DSWITCHES_0=2 -DSWITCHES_1=1 -DROUNDS=1"
check asid holds $few -DUNMAPPER_RUNS
check asid holds $first -DLAZY
check asid holds $first -DENDS
check asid holds $some -DUNMAPPER_RUNS -DBROADCAST
check asid holds $many -DBROADCAST
check asid holds $twice -DBROADCAST
check asid fails $few -DUNMAPPER_RUNS -DBUG_KEPT_WHEN_BEHIND
check asid fails $first -DLAZY -DBUG_LAZY_WHEN_SEEN
check asid fails $first -DENDS -DBUG_END_WITHOUT_LOCK
for bug in COMING_IS_NOT_CARRIED LOADED_IS_NOT_CARRIED LOADED_READ_FIRST LOADED_TOO_EARLY \
    ROUND_READ_FIRST LOOK_BEFORE_ROUND OWN_ROUND_IS_NOT_ASKED NO_FLUSH_IN_A_NEW_ROUND \
    NUMBER_READ_FIRST HELD_READ_FIRST OLD_ROUND_IS_NOBODYS; do
    check asid fails $many -DBROADCAST -DBUG_$bug
done
exit $failed
