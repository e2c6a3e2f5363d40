#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Break the core in one place at a time; every mutant must be found.

Each mutant replaces one piece of text in one file of src/.  The campaign is
linked with the broken file in the place of the sound one and run over seeds
until it fails.  A mutant whose text no longer occurs is an error: the list
follows the code.

    tests/campaign/mutants.py [--seeds N] [--cc CC] [NUMBER...]
"""
import argparse
import concurrent.futures
import os
import pathlib
import subprocess
import sys
import tempfile
import typing

ROOT = pathlib.Path(__file__).resolve().parents[2]

MUTANTS = [
    ("acknowledge before flushing", "src/tlb/shoot.c",
     "            serve(tlb, me, request);\n"
     "            qr_cpu_set_remove(&request->waiting, cpu->index);",
     "            qr_cpu_set_remove(&request->waiting, cpu->index);\n"
     "            serve(tlb, me, request);"),
    ("flush pages although another request was missed", "src/tlb/shoot.c",
     "slot->generation + 1 == request->generation",
     "slot->generation < request->generation"),
    ("leave lazy CPUs alone although tables are freed", "src/tlb/shoot.c",
     "if (every || change->tables_freed || change->evict)",
     "if (every || change->evict)"),
    ("never catch up after lazy mode", "src/tlb/space.c",
     "    if (slot->generation == generation)\n        return;",
     "    return;"),
    ("keep entries whatever the generation", "src/tlb/space.c",
     "if (qr_likely(slot->space_id == space->id && slot->generation == generation))",
     "if (qr_likely(slot->space_id == space->id))"),
    ("become active after reading the generation", "src/tlb/space.c",
     "        qr_cpu_set_add(&next->active, cpu->index);\n\n"
     "        unsigned asid = tlb->tagged ? qr_asid_get(tlb, next) : 0;\n"
     "        bool keep = slot_enter(tlb, me, next, asid);\n",
     "        unsigned asid = tlb->tagged ? qr_asid_get(tlb, next) : 0;\n"
     "        bool keep = slot_enter(tlb, me, next, asid);\n\n"
     "        qr_cpu_set_add(&next->active, cpu->index);\n"),
    ("keep walk caches although tables are freed", "src/tlb/shoot.c",
     ".tables = change->tables_freed,", ".tables = false,"),
    ("do not wait for what others took out", "src/tlb/batch.c",
     "(batch->gaps && others_pending)", "false"),
    ("take over a frame that two processes share", "src/fault/cow.c",
     "memory_order_acquire) == 1;", "memory_order_acquire) <= 2;"),
    ("leave the parent writable at fork", "src/table/walk_copy.h",
     "&old, old ^ copy->change)) {", "&old, old)) {"),
    ("copy an entry without a reference to its frame", "src/space/fork.c",
     "    qr_frame_get(copy->frame);\n    qr_tally_leaf", "    qr_tally_leaf"),
    ("do not flush what fork made read-only", "src/space/fork.c",
     "    qr_tlb_batch_finish(&batch);\n    return status;",
     "    if (batch.registered)\n"
     "        atomic_fetch_sub(&space->tlb.pending, 1);\n    return status;"),
    ("do not flush what mprotect forbids", "src/space/protect.c",
     "    qr_tlb_batch_finish(&batch);\n    qr_rw_write_unlock(&space->lock);",
     "    if (batch.registered)\n        atomic_fetch_sub(&space->tlb.pending, 1);\n"
     "    qr_rw_write_unlock(&space->lock);"),
    ("do not flush what mremap moved away", "src/space/remap.c",
     "    qr_tlb_batch_cover(&batch);\n    qr_tlb_batch_finish(&batch);",
     "    if (batch.registered)\n"
     "        atomic_fetch_sub(&remap->change.space->tlb.pending, 1);"),
    ("map a page that was truncated meanwhile", "src/fault/object.c",
     "        (ctx->page == NULL || "
     "!qr_object_page_is_current(ctx->region->object, index, ctx->page)))",
     "        ctx->page == NULL)"),
    ("map neighbours that were truncated meanwhile", "src/fault/object.c",
     "            !qr_object_page_is_current(ctx->region->object, first + i, frame) ||\n", ""),
    ("move a shared frame without a reference for each entry", "src/reclaim/migrate.c",
     "    qr_frame_get(shared->target);\n", ""),
    ("install the copy before the old page is flushed", "src/fault/cow.c",
     "    cow_retire(ctx, shared);\n    qr_fault_install_private(ctx, copy);",
     "    qr_tlb_batch_init(&ctx->batch, &ctx->space->tlb);\n"
     "    (void)qr_cursor_unmap(&ctx->cursor, ctx->va);\n"
     "    qr_fault_install_private(ctx, copy);"),
]

# The lock-free steps of the heap: the exchange of a lane's top, who may go on after it, and what is
# published in which order.  docs/heap.md lists them.
HEAP_MUTANTS = [
    ("pop without an exchange", "src/heap/heap.h",
     "lane_pop(struct heap_lane *lane, uintptr_t held)\n{\n"
     "    uintptr_t top = atomic_exchange_explicit(&lane->top, held, memory_order_acquire);",
     "lane_pop(struct heap_lane *lane, uintptr_t held)\n{\n    (void)held;\n"
     "    uintptr_t top = atomic_load_explicit(&lane->top, memory_order_acquire);"),
    ("push without an exchange", "src/heap/heap.h",
     "lane_push(struct heap_lane *lane, void *object, uintptr_t held)\n{\n"
     "    uintptr_t top = atomic_exchange_explicit(&lane->top, held, memory_order_acquire);",
     "lane_push(struct heap_lane *lane, void *object, uintptr_t held)\n{\n    (void)held;\n"
     "    uintptr_t top = atomic_load_explicit(&lane->top, memory_order_acquire);"),
    ("pop leaves the object", "src/heap/heap.h",
     "    atomic_store_explicit(&lane->top, below, memory_order_release);",
     "    atomic_store_explicit(&lane->top, top, memory_order_release);"),
    ("push publishes before it writes", "src/heap/heap.h",
     "    *(void **)slot = object;\n"
     "    atomic_store_explicit(&lane->top, slot, memory_order_release);",
     "    atomic_store_explicit(&lane->top, slot, memory_order_release);\n"
     "    (void)atomic_load(&lane->top);\n"
     "    *(void **)slot = object;"),
    ("a pop that finds the lane held lets it go", "src/heap/heap.h",
     "        if (top & WORD_BYTES) /* ours, and empty */\n",
     "        if (true)\n"),
    ("a push that finds the lane held lets it go", "src/heap/heap.h",
     "        if (top & WORD_BYTES) /* ours, and full */\n",
     "        if (true)\n"),
    ("a pop that finds nothing keeps the lane", "src/heap/heap.h",
     "        if (top & WORD_BYTES) /* ours, and empty */\n"
     "            atomic_store_explicit(&lane->top, top, memory_order_release);\n", ""),
    ("a push that finds no room keeps the lane", "src/heap/heap.h",
     "        if (top & WORD_BYTES) /* ours, and full */\n"
     "            atomic_store_explicit(&lane->top, top, memory_order_release);\n", ""),
    ("hold a lane without an exchange", "src/heap/lane.c",
     "atomic_exchange_explicit(&lane->top, 0, memory_order_acquire);",
     "atomic_load_explicit(&lane->top, memory_order_acquire);"),
    ("hold a lane that somebody holds", "src/heap/lane.c",
     "        if ((top & low) != 0) {\n"
     "            lane->loaded->count = (uint16_t)((top & low) / WORD_BYTES - 1);\n",
     "        {\n            if ((top & low) != 0)\n"
     "                lane->loaded->count = (uint16_t)((top & low) / WORD_BYTES - 1);\n"),
    ("release a lane with one object more", "src/heap/lane.c",
     "(loaded->count + (size_t)1) * WORD_BYTES", "(loaded->count + (size_t)2) * WORD_BYTES"),
    ("release a lane before its mask is set", "src/heap/lane.c",
     "    lane->closed = loaded == NULL;\n    mask_set(lane, magazine_mask(loaded));\n",
     "    lane->closed = loaded == NULL;\n"),
    ("drain a lane and leave its magazine", "src/heap/lane.c",
     "    lane->loaded = NULL;\n    lane->previous = NULL;\n    lane->visits = 0;",
     "    lane->previous = NULL;\n    lane->visits = 0;"),
    ("take a full magazine without the depot's lock", "src/heap/lane.c",
     "    *out_contended = node_lock(node);\n    magazine = node->depot_full;\n",
     "    *out_contended = false;\n    magazine = node->depot_full;\n"
     "    (void)atomic_load(&node->lock.held);\n    qr_spin_lock(&node->lock);\n"),
    ("a bulk pops one object more than it says", "src/heap/cache.c",
     "(uintptr_t)(slot - want), memory_order_release);",
     "(uintptr_t)(slot - want + 1), memory_order_release);"),
    ("a bulk of objects is published before it is there", "src/heap/cache.c",
     "    _Pragma(\"GCC unroll 4\") for (size_t i = 0; i < count; i++) slot[i] = objects[i];\n"
     "    atomic_store_explicit(&lane->top, (uintptr_t)(slot + count - 1), memory_order_release);\n",
     "    atomic_store_explicit(&lane->top, (uintptr_t)(slot + count - 1), memory_order_release);\n"
     "    (void)atomic_load(&lane->top);\n"
     "    for (size_t i = 0; i < count; i++) slot[i] = objects[i];\n"),
    ("a bulk of objects goes beyond the magazine", "src/heap/cache.c",
     "    count = count < room ? count : room;\n", "    (void)room;\n"),
    ("a run of blocks is freed without an exchange", "src/heap/kmalloc.c",
     "    uintptr_t top = atomic_exchange_explicit(&lane->top, (uintptr_t)slab, memory_order_acquire);",
     "    uintptr_t top = atomic_load_explicit(&lane->top, memory_order_acquire);"),
    ("a run of blocks goes beyond the magazine", "src/heap/kmalloc.c",
     "    if (count > (low - have) / WORD_BYTES)\n        count = (low - have) / WORD_BYTES;\n", ""),
    ("a lane that tracking closes loses its magazine", "src/heap/lane.c",
     "        if (heap_tracks_objects(cache->heap))\n            lane_empty(cache, lane);\n"
     "        else\n            got = lane_take(cache, lane, cpu, want, out);\n",
     "        got = lane_take(cache, lane, cpu, want, out);\n"
     "        if (heap_tracks_objects(cache->heap))\n            lane->loaded = NULL;\n"),
]

# The lock-free steps of the frame allocator, which tests/campaign/frame_test.c lists, and the
# locks beside them.
FRAME_MUTANTS = [
    ("pop a frame without taking the lane", "src/frame/alloc.c",
     "size_t next = 1 + atomic_exchange_explicit(&lane->head.top, 0, memory_order_acquire);",
     "size_t next = 1 + atomic_load_explicit(&lane->head.top, memory_order_acquire);"),
    ("pop a movable frame without taking the lane", "src/frame/alloc.c",
     "size_t top = atomic_exchange_explicit(&lane->head.top, 0, memory_order_acquire);\n"
     "    struct qr_frame *frame = lane->stack[top + 1];",
     "size_t top = atomic_load_explicit(&lane->head.top, memory_order_acquire);\n"
     "    struct qr_frame *frame = lane->stack[top + 1];"),
    ("push a frame without taking the lane", "src/frame/alloc.c",
     "size_t top = atomic_exchange_explicit(&lane->head.top, 0, memory_order_acquire);\n\n"
     "    if (qr_unlikely(top <= 1)) {",
     "size_t top = atomic_load_explicit(&lane->head.top, memory_order_acquire);\n\n"
     "    if (qr_unlikely(top <= 1)) {"),
    ("put back that the lane is held, although it is free again", "src/frame/alloc.c",
     "    if (qr_likely(top != 0))\n        atomic_store_explicit(&lane->head.top, top, "
     "memory_order_release);\n    return frame;",
     "    atomic_store_explicit(&lane->head.top, top, memory_order_release);\n    return frame;"),
    ("hold a lane that a fast path is in", "src/frame/lane.c",
     "        top = atomic_exchange_explicit(&lane->head.top, 0, memory_order_acquire);\n"
     "        if (top != 0) {",
     "        top = atomic_load_explicit(&lane->head.top, memory_order_acquire);\n"
     "        if (top != 0) {"),
    ("let the fast path into a closed lane", "src/frame/lane.c",
     "    if (!lane_is_closed(lane))\n        atomic_store_explicit(&lane->head.top, "
     "lane->bottom - held",
     "    if (true)\n        atomic_store_explicit(&lane->head.top, lane->bottom - held"),
    ("take a kept run and leave it there", "src/frame/lane.c",
     "        lane->run[order] = NULL;\n        lane->run_frames",
     "        lane->run_frames"),
    ("take a kept run without taking the lane", "src/frame/lane.c",
     "    size_t top = atomic_exchange_explicit(&lane->head.top, 0, memory_order_acquire);\n\n"
     "    if (qr_unlikely(top == 0))\n        return NULL;\n"
     "    struct qr_frame *frame = lane->run[order];\n",
     "    size_t top = atomic_load_explicit(&lane->head.top, memory_order_acquire);\n\n"
     "    if (qr_unlikely(top == 0))\n        return NULL;\n"
     "    struct qr_frame *frame = lane->run[order];\n\n"
     "    (void)atomic_load(&frames->used);"),
    ("cut a run out of the reserved rows and leave it there", "src/frame/lane.c",
     "            lane->rows.row[r] &= ~qr_row_mask(r, bit, count);",
     "            (void)qr_row_mask(r, bit, count);"),
    ("cut a run out of the reserved rows without taking the lane", "src/frame/lane.c",
     "    size_t top = atomic_exchange_explicit(&lane->head.top, 0, memory_order_acquire);\n"
     "    unsigned count = 1u << order;",
     "    size_t top = atomic_load_explicit(&lane->head.top, memory_order_acquire);\n"
     "    unsigned count = 1u << order;"),
    ("keep a second run of an order in the place of the first", "src/frame/lane.c",
     "lane->run[order] != NULL || lane->zone != frame->zone)", "lane->zone != frame->zone)"),
    ("give frames to a zone without its lock", "src/frame/lane.c",
     "    qr_spin_lock(&zone->lock);\n    qr_zone_give_singles(frames, zone, count, list);\n"
     "    qr_frames_used_sub(frames, zone, count);\n    qr_spin_unlock(&zone->lock);",
     "    qr_zone_give_singles(frames, zone, count, list);\n"
     "    qr_frames_used_sub(frames, zone, count);"),
    ("take a reference to a frame that nobody has", "src/frame/alloc.c",
     "    while (refs != 0) {\n        if (atomic_compare", "    for (;;) {\n        if (atomic_compare"),
    ("take a reference without comparing", "src/frame/alloc.c",
     "        if (atomic_compare_exchange_weak_explicit(&frame->refs, &refs, refs + 1,\n"
     "                                                  memory_order_acquire, memory_order_relaxed))\n"
     "            return true;",
     "        atomic_store(&frame->refs, refs + 1);\n        return true;"),
    ("open a section that somebody has just opened", "src/frame/section.c",
     "    if (bank->waiting != 0 &&\n"
     "        atomic_load_explicit(&section->state, memory_order_relaxed) == SECTION_ABSENT)\n",
     "    if (bank->waiting != 0)\n"),
    ("describe a block that somebody has just described", "src/frame/section.c",
     "    if (qr_section_is_described(section, index))\n        return;\n"
     "    struct qr_frame *frame", "    struct qr_frame *frame"),
    ("list an isolated block", "src/frame/zone.c",
     "    if (qr_unlikely(record->isolated)) {", "    if (false) {"),
]

FLAGS = ("-std=gnu11 -O1 -g -w -fno-strict-aliasing -D_GNU_SOURCE -DQUIRE_CAMPAIGN=1 "
         "-DQUIRE_INTERLEAVED=1").split()
INCLUDES = [f"-I{ROOT / d}" for d in ("include", "sim", "src", "tests/harness")]
HARNESS = ["tests/campaign/hooks.c", "tests/harness/harness.c", "tests/harness/hosted.c"]


class Group(typing.NamedTuple):
    """Mutants that are looked for by the same program."""
    config: str  # a name from configs/
    tests: list
    mutants: list

    def run_of(self, path, seeds):
        """Which tests, over how many seeds."""
        if "frame" in path:
            return "frames.have_one_owner", seeds // 10
        if "heap" in path:
            return "whatever_the_order", seeds // 10
        return ("any_seed", seeds) if "tlb" in path else ("every_seed", seeds // 10)


GROUPS = [
    Group("debug",
          ["tests/unit/sim/shootdown_test.c", "tests/unit/space/race_test.c",
           "tests/campaign/owner_test.c", "tests/campaign/truncate_test.c"] + HARNESS, MUTANTS),
    # As released: debug builds have other fast paths.
    Group("hosted", ["tests/campaign/heap_test.c"] + HARNESS,
          HEAP_MUTANTS),
    Group("hosted", ["tests/campaign/frame_test.c"] + HARNESS, FRAME_MUTANTS),
]


def configure(where, config):
    """Write the configuration's header.  @return the names of what is on"""
    (where / "include/quire").mkdir(parents=True)
    result = where / "config"
    subprocess.run(["/usr/bin/python3", "-m", "genconfig", "--header-path",
                    str(where / "include/quire/autoconf.h"), "--config-out", str(result),
                    str(ROOT / "Kconfig")], check=True,
                   env={**os.environ, "srctree": str(ROOT),
                        "KCONFIG_CONFIG": str(ROOT / f"configs/{config}_defconfig")})
    return {line.split("=")[0] for line in result.read_text().splitlines()
            if line.startswith("CONFIG_")}


def compile_one(cc, where, source, target, instrument, first=()):
    """@first: directories where headers are looked for before all others."""
    extra = ["-fsanitize=thread"] if instrument else []
    extra += [f"-iquote{directory}" for directory in first]
    subprocess.run([cc, *FLAGS, f"-I{where / 'include'}", *INCLUDES, *extra, "-c", str(source),
                    "-o", str(target)], check=True)


def core_sources(switched_on):
    for line in (ROOT / "src/sources.txt").read_text().splitlines():
        words = line.split()
        if words and not line.startswith("#") and set(words[1:]) <= switched_on:
            yield words[0]


def build_sound(cc, where, group):
    """Objects of everything that a mutant does not replace, by source path."""
    objects = {}
    machine = [str(p.relative_to(ROOT)) for p in sorted((ROOT / "sim").glob("*.c"))]
    switched_on = configure(where, group.config)
    jobs = []
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for path in [*core_sources(switched_on), *machine, *group.tests]:
            objects[path] = where / (path.replace("/", "_") + ".o")
            jobs.append(pool.submit(compile_one, cc, where, ROOT / path, objects[path],
                                    path.startswith("src/")))
        for job in jobs:
            job.result()
    return objects


def build_broken(cc, where, objects, mutant):
    """The objects with those of the mutant; of a header, all sources below its directory."""
    name, path, before, after = mutant
    text = (ROOT / path).read_text()
    if text.count(before) != 1:
        sys.exit(f"mutant '{name}': its text occurs {text.count(before)} times in {path}")
    broken = dict(objects)
    folder = (ROOT / path).parent
    affected = [path]
    if path.endswith(".h"):
        affected = [p for p in objects if folder in (ROOT / p).parents]
    with tempfile.TemporaryDirectory() as directory:
        # As it is included: beside what includes it, or below src/.
        tree = pathlib.Path(directory)
        named = tree / path.removeprefix("src/")
        named.parent.mkdir(parents=True, exist_ok=True)
        for copy in (named, tree / named.name):
            copy.write_text(text.replace(before, after))
        for p in affected:
            source = tree / pathlib.Path(p).name
            if p != path:
                source.write_text((ROOT / p).read_text())
            broken[p] = where / (p.replace("/", "_") + ".broken.o")
            compile_one(cc, where, source, broken[p], True, (tree, (ROOT / p).parent))
    return broken


def mutant_is_found(cc, where, group, objects, mutant, seeds):
    broken = build_broken(cc, where, objects, mutant)
    program = where / "mutant"
    subprocess.run([cc, *map(str, broken.values()), "-lpthread", "-o", str(program)], check=True)
    pattern, seeds = group.run_of(mutant[1], seeds)
    run = subprocess.run([str(program), "--limit", "120", "--isolate", pattern],
                         capture_output=True, text=True, env={"SIM_SEEDS": str(seeds)})
    lines = [line.strip() for line in (run.stdout + run.stderr).splitlines()
             if "seed " in line or "sim:" in line or "wanted" in line]
    return run.returncode != 0, lines[0] if lines else run.stdout.strip()[:200]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=30000)
    parser.add_argument("--cc", default="gcc")
    parser.add_argument("numbers", nargs="*", type=int)
    options = parser.parse_args()
    alive = 0
    first = 0
    for group in GROUPS:
        numbers = [number for number in range(first, first + len(group.mutants))
                   if not options.numbers or number in options.numbers]
        with tempfile.TemporaryDirectory() as directory:
            where = pathlib.Path(directory)
            objects = build_sound(options.cc, where, group) if numbers else None
            for number in numbers:
                mutant = group.mutants[number - first]
                found, how = mutant_is_found(options.cc, where, group, objects, mutant,
                                             options.seeds)
                alive += not found
                print(f"{'found ' if found else 'ALIVE '} {number} {mutant[0]}: {how[:150]}",
                      flush=True)
        first += len(group.mutants)
    return 1 if alive else 0


if __name__ == "__main__":
    sys.exit(main())
