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
import pathlib
import subprocess
import sys
import tempfile

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
     "if (every || tables_freed || request->evict)",
     "if (every || request->evict)"),
    ("never catch up after lazy mode", "src/tlb/space.c",
     "    if (slot->generation == generation)\n        return;",
     "    return;"),
    ("keep entries whatever the generation", "src/tlb/space.c",
     "bool current = tlb->tagged && me->slots[i].generation == generation;",
     "bool current = tlb->tagged;"),
    ("become active after reading the generation", "src/tlb/space.c",
     "        qr_cpu_set_add(&next->active, cpu->index);\n\n"
     "        bool keep = slot_take(tlb, me, next, atomic_load(&next->generation));",
     "        bool keep = slot_take(tlb, me, next, atomic_load(&next->generation));\n"
     "        qr_cpu_set_add(&next->active, cpu->index);"),
    ("keep walk caches although tables are freed", "src/tlb/batch.c",
     "batch->whole || batch->tables_freed ||", "batch->whole ||"),
    ("do not wait for what others took out", "src/tlb/batch.c",
     "(batch->gaps && others_pending)", "false"),
    ("take over a frame that two processes share", "src/fault/cow.c",
     "memory_order_acquire) == 1;", "memory_order_acquire) <= 2;"),
    ("leave the parent writable at fork", "src/space/fork.c",
     "        qr_cursor_update(&copy->from, entry->start, leaf.prot, 0, 0);\n", ""),
    ("copy an entry without a reference to its frame", "src/space/fork.c",
     "    qr_frame_get(frame);\n    qr_tally_leaf", "    qr_tally_leaf"),
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
    ("install the copy before the old page is flushed", "src/fault/cow.c",
     "    cow_retire(ctx, shared);\n    qr_fault_install_private(ctx, copy);",
     "    qr_tlb_batch_init(&ctx->batch, &ctx->space->tlb);\n"
     "    (void)qr_cursor_unmap(&ctx->cursor, ctx->va);\n"
     "    qr_fault_install_private(ctx, copy);"),
]

FLAGS = ("-std=gnu11 -O1 -g -w -fno-strict-aliasing -D_GNU_SOURCE -DQUIRE_CAMPAIGN=1 "
         "-DCONFIG_MEMORY_DEBUGGING=1").split()
INCLUDES = [f"-I{ROOT / d}" for d in ("include", "sim", "src", "tests/harness")]
TEST = ["tests/unit/sim/shootdown_test.c", "tests/unit/space/race_test.c",
        "tests/campaign/owner_test.c", "tests/campaign/truncate_test.c",
        "tests/campaign/hooks.c", "tests/harness/harness.c",
        "tests/harness/hosted.c"]


def compile_one(cc, source, target, instrument, beside=None):
    """@beside: the directory whose headers the source includes by bare name."""
    extra = ["-fsanitize=thread"] if instrument else []
    extra += ["-iquote", str(beside)] if beside else []
    subprocess.run([cc, *FLAGS, *INCLUDES, *extra, "-c", str(source), "-o", str(target)],
                   check=True)


def build_sound(cc, where):
    """Objects of everything that a mutant does not replace, by source path."""
    objects = {}
    core = [line.split()[0] for line in (ROOT / "src/sources.txt").read_text().splitlines()
            if line and not line.startswith("#")]
    machine = [str(p.relative_to(ROOT)) for p in sorted((ROOT / "sim").glob("*.c"))]
    for path in core + machine + TEST:
        target = where / (path.replace("/", "_") + ".o")
        compile_one(cc, ROOT / path, target, path.startswith("src/"))
        objects[path] = target
    return objects


def mutant_is_found(cc, where, objects, mutant, seeds):
    name, path, before, after = mutant
    text = (ROOT / path).read_text()
    if text.count(before) != 1:
        sys.exit(f"mutant '{name}': its text occurs {text.count(before)} times in {path}")
    source = where / "mutant.c"
    source.write_text(text.replace(before, after))
    broken = dict(objects)
    broken[path] = where / "mutant.o"
    compile_one(cc, source, broken[path], True, (ROOT / path).parent)
    program = where / "mutant"
    subprocess.run([cc, *map(str, broken.values()), "-lpthread", "-o", str(program)], check=True)
    run = subprocess.run([str(program), "--limit", "120", "--isolate", "every_seed" if "tlb" not in path
                          else "any_seed"], capture_output=True,
                         text=True, env={"SIM_SEEDS": str(seeds if "tlb" in path else seeds // 10)})
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
    with tempfile.TemporaryDirectory() as directory:
        where = pathlib.Path(directory)
        objects = build_sound(options.cc, where)
        for number, mutant in enumerate(MUTANTS):
            if options.numbers and number not in options.numbers:
                continue
            found, how = mutant_is_found(options.cc, where, objects, mutant, options.seeds)
            alive += not found
            print(f"{'found ' if found else 'ALIVE '} {number} {mutant[0]}: {how[:150]}",
                  flush=True)
    return 1 if alive else 0


if __name__ == "__main__":
    sys.exit(main())
