#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Break the tlb layer in one place at a time; every mutant must be found.

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
]

FLAGS = ("-std=gnu11 -O1 -g -w -fno-strict-aliasing -D_GNU_SOURCE -DQUIRE_CAMPAIGN=1 "
         "-DCONFIG_MEMORY_DEBUGGING=1").split()
INCLUDES = [f"-I{ROOT / d}" for d in ("include", "sim", "src", "tests/harness")]
TEST = ["tests/unit/sim/shootdown_test.c", "tests/campaign/hooks.c", "tests/harness/harness.c",
        "tests/harness/hosted.c"]


def compile_one(cc, source, target, instrument):
    extra = ["-fsanitize=thread"] if instrument else []
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
    compile_one(cc, source, broken[path], True)
    program = where / "mutant"
    subprocess.run([cc, *map(str, broken.values()), "-lpthread", "-o", str(program)], check=True)
    run = subprocess.run([str(program), "--limit", "0", "no_stale_hit"], capture_output=True,
                         text=True, env={"SIM_SEEDS": str(seeds)})
    lines = [line.strip() for line in run.stdout.splitlines() if "seed" in line]
    return run.returncode != 0, lines[0] if lines else ""


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
