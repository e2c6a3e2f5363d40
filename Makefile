# SPDX-License-Identifier: MIT
#
# The short names.  The build itself is CMake's: see CMakePresets.json.

ARCH ?= x86_64
PRESET ?= debug

.DEFAULT_GOAL := all
.PHONY: all help setup run iso test check bench format lint clean hosted kernel

all: setup-run kernel

help:
	@echo 'make            build the reference kernel; ARCH=x86_64, i386, aarch64 or riscv64'
	@echo 'make run        boot it in QEMU to a shell; without a terminal, a scripted tour'
	@echo 'make test       build and run every test and check'
	@echo 'make check      the checks alone (formatting, lint, layers, headers, docs)'
	@echo 'make bench      measure, beside the peers'
	@echo "make selftests  Linux's own tests of its memory calls, on the kernel"
	@echo "make stress     stress-ng's stressors of memory on the kernel, SECONDS=N each"
	@echo 'make programs   redis, python3, gcc, sqlite3, Lua at length, on every architecture'
	@echo 'make hosted     build the hosted machine and its tests (PRESET=$(PRESET))'
	@echo 'make format     format the C sources in place'
	@echo 'make lint       clang-tidy over every source'
	@echo 'make setup      install the packages that all of this needs'
	@echo 'make clean      remove build/'

.PHONY: setup-run
setup-run:
	@tools/setup run $(ARCH)

setup:
	@tools/setup test

kernel:
	@cmake --preset $(ARCH) >/dev/null
	@cmake --build --preset $(ARCH)

hosted: setup-run
	@cmake --preset $(PRESET) >/dev/null
	@cmake --build --preset $(PRESET)

run: setup-run kernel
	@if [ -t 0 ]; then exec tools/quire-run --arch $(ARCH); else exec tools/tour --arch $(ARCH); fi

test: setup
	@tools/run-tests

check: setup
	@tools/run-tests checks

bench: setup kernel
	@bench/run
	@bench/hugepage

format:
	@tools/format

lint: setup
	@tests/checks/lint --all

clean:
	rm -rf build

# ---- the heap ---------------------------------------------------------------

.PHONY: bench-heap soak soak-heap

bench-heap: setup
	@bench/heaps --instructions

soak-heap: setup
	@cmake --preset hosted >/dev/null
	@cmake --build --preset hosted --target quire-malloc test_heap
	@tests/preload/programs.sh --long

# Frames and heap beside the best, and what they were meant to reach: one table.
.PHONY: bench-goals

bench-goals: setup
	@bench/goals

# The frame allocator beside a free list and a textbook buddy, at 16 GiB alone, how it scales, and
# what colours give.
.PHONY: bench-frames

bench-frames: setup
	@bench/frames-heap --instructions
	@bench/frames-heap
	@bench/frames-heap --instructions --gib 16 --alone churn_10 churn_500 churn_900 churn_990 churn_999 fail_0
	@bench/frames-scale
	@bench/frames-colour

# What compaction makes of memory after a long random load: whole blocks, and how much of the free
# memory is too scattered for one.
.PHONY: bench-compact

STEPS ?= 300000

bench-compact: setup-run
	@cmake --preset hosted >/dev/null
	@cmake --build --preset hosted --target test_reclaim
	@COMPACT_STEPS=$(STEPS) build/hosted/test_reclaim --limit 0 compact.

# Random memory calls on this machine's Linux and on the reference kernel.
.PHONY: differential

CALLS ?= 1000000
SEED ?= 1

differential: setup-run kernel
	@tests/differential/run --arch $(ARCH) --calls $(CALLS) --seed $(SEED)

SECONDS ?= 3600

# Linux's own tests of its memory calls, and stress-ng's stressors for a minute each; on other architectures
# the quick ones.
.PHONY: selftests stress programs

WHICH = $(if $(filter x86_64,$(ARCH)),--all,--arch $(ARCH))

selftests: setup kernel
	@tests/selftests/linux $(WHICH)

stress: SECONDS = 60
stress: setup kernel
	@tests/selftests/stress $(WHICH) --seconds $(SECONDS)

# Large programs of Debian at length, on every architecture.
programs: setup kernel
	@for arch in i386 aarch64 riscv64; do \
	    cmake --preset $$arch >/dev/null && cmake --build --preset $$arch || exit 1; done
	@tests/boot/real_programs.sh --long && tests/boot/redis.sh --long && tests/boot/architectures.sh --long && \
	    tests/boot/swap.sh --long && tests/programs/large_programs

soak: setup-run
	@cmake --preset hosted >/dev/null
	@cmake --build --preset hosted --target test_heap test_frame
	@FRAME_SECONDS=$(SECONDS) build/hosted/test_frame --limit 0 frame_model.soak & frames=$$!; \
	    HEAP_SECONDS=$(SECONDS) build/hosted/test_heap --limit 0 heap_model.soak && wait $$frames
