/* SPDX-License-Identifier: MIT */
/*
 * One point of the curve:  frames_scale GIB CPUS NODES
 *
 * Metadata only: the memory itself is addresses that nobody touches.  Prints start-up in
 * microseconds and in pages of the host that it touched, then nanoseconds an operation with all
 * CPUs taking turns: one frame, bursts through the zones, 2 MiB blocks, and a request that must fail.
 */
#include "frames_machine.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "frames_port.h"

enum { HELD = 4096, ROUNDS = 20 };

static struct qr_frame *held[HELD];

static long
pages_touched(void)
{
    struct rusage usage;

    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_minflt;
}

/* Every CPU in turn does @count operations of each kind; the best of some rounds. */
static double
best_of(void (*body)(struct qr_frames *), struct qr_frames *frames, unsigned cpus,
        unsigned operations)
{
    double best = 1e30;

    for (unsigned round = 0; round < ROUNDS; round++) {
        uint64_t start = bench_now_ns();

        for (unsigned cpu = 0; cpu < cpus; cpu++) {
            bench_enter(cpu);
            body(frames);
        }
        double ns = (double)(bench_now_ns() - start) / cpus / operations;

        best = ns < best ? ns : best;
    }
    return best;
}

static void
body_lifo(struct qr_frames *frames)
{
    for (unsigned i = 0; i < 1000; i++)
        qr_frame_free(frames, qr_frame_alloc(frames, 0));
}

static void
body_burst(struct qr_frames *frames)
{
    for (unsigned i = 0; i < 1024; i++)
        held[i] = qr_frame_alloc(frames, 0);
    for (unsigned i = 0; i < 1024; i++)
        qr_frame_free(frames, held[i]);
}

static void
body_large(struct qr_frames *frames)
{
    for (unsigned i = 0; i < 16; i++)
        held[i] = qr_frame_alloc_block(frames, 9, 0);
    for (unsigned i = 0; i < 16; i++)
        qr_frame_free(frames, held[i]);
}

static void
body_fail(struct qr_frames *frames)
{
    for (unsigned i = 0; i < 100; i++)
        (void)qr_frame_alloc_block(frames, QR_ORDER_MAX, QR_ALLOC_DMA | QR_ALLOC_NO_REPORT);
}

int
main(int argc, char **argv)
{
    uint64_t gib = argc > 1 ? strtoull(argv[1], NULL, 0) : 1;
    unsigned cpus = argc > 2 ? (unsigned)atoi(argv[2]) : 1;
    unsigned nodes = argc > 3 ? (unsigned)atoi(argv[3]) : 1;
    long before;
    uint64_t start;
    struct qr_frames *frames = bench_boot_nodes(gib * BENCH_GIB, cpus, nodes, &before, &start);
    uint64_t boot_ns = bench_now_ns() - start;

    printf("%llu %u %u %.0f %ld %.1f %.1f %.1f %.1f\n", (unsigned long long)gib, cpus, nodes,
           (double)boot_ns / 1000, pages_touched() - before, best_of(body_lifo, frames, cpus, 2000),
           best_of(body_burst, frames, cpus, 2048), best_of(body_large, frames, cpus, 32),
           best_of(body_fail, frames, cpus, 100));
    return 0;
}
