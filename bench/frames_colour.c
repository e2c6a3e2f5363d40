/* SPDX-License-Identifier: MIT */
/*
 * What cache colouring gives: a program walks its pages again and again, through a model of a
 * physically indexed cache (1 MiB, 8 ways, 64-byte lines, least recently used goes).
 *
 *   frames_colour plain|coloured PAGES
 *
 * Memory is half full of random frames, so that the allocator cannot hand out neighbours.
 * Prints misses a thousand accesses, the first walk not counted.
 */
#include "frames_machine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    WAYS = 8,
    SETS = (1 << 20) / 64 / WAYS,
    PAGE_LINES = 4096 / 64,
    COLOURS = SETS / PAGE_LINES,
    PAGES_MAX = 4096,
    WALKS = 20,
};

static uint64_t cache[SETS][WAYS]; /* most recently used first; 0: empty */

/* @return whether the line had to be fetched */
static int
cache_access(uint64_t line)
{
    uint64_t *set = cache[line % SETS];
    unsigned way = 0;

    while (way < WAYS - 1 && set[way] != line)
        way++;
    int missed = set[way] != line;

    memmove(set + 1, set, way * sizeof(*set));
    set[0] = line;
    return missed;
}

static void
half_fill(struct qr_frames *frames, size_t total)
{
    struct qr_frame **held = calloc(total, sizeof(*held));
    size_t count = 0;

    while (count < total && (held[count] = qr_frame_alloc(frames, QR_ALLOC_NO_REPORT)) != NULL)
        count++;
    for (size_t i = count; i > 1; i--) {
        size_t j = bench_random() % i;
        struct qr_frame *frame = held[i - 1];

        held[i - 1] = held[j];
        held[j] = frame;
    }
    for (size_t i = 0; i < count / 2; i++)
        qr_frame_free(frames, held[i]);
    qr_frames_drain(frames);
}

int
main(int argc, char **argv)
{
    bool coloured = argc > 1 && strcmp(argv[1], "coloured") == 0;
    unsigned pages = argc > 2 ? (unsigned)atoi(argv[2]) : 200;
    struct qr_frames *frames = bench_boot(BENCH_GIB, 1);
    static uint64_t pfn[PAGES_MAX];
    unsigned long misses = 0;

    pages = pages < PAGES_MAX ? pages : PAGES_MAX;
    half_fill(frames, BENCH_GIB / QR_PAGE_SIZE);
    for (unsigned i = 0; i < pages; i++) {
        struct qr_frame *frame =
            coloured ? qr_frame_alloc_colour(frames, (struct qr_colour){COLOURS, i % COLOURS}, 0)
                     : qr_frame_alloc(frames, 0);

        pfn[i] = qr_frame_pfn(frames, frame).v;
    }
    for (unsigned walk = 0; walk < WALKS; walk++) {
        for (unsigned i = 0; i < pages; i++) {
            for (unsigned l = 0; l < PAGE_LINES; l++) {
                int missed = cache_access(pfn[i] * PAGE_LINES + l);

                misses += walk > 0 && missed;
            }
        }
    }
    printf("%lu\n", misses * 1000 / ((WALKS - 1ul) * pages * PAGE_LINES));
    return 0;
}
