/* SPDX-License-Identifier: MIT */
/*
 * What is in use: the same before and after whatever must not leak.  Frames that
 * the heap holds count as the bytes that it gave out, because it may keep empty
 * slabs for later.
 */
#include "machine.h"

#include <quire/heap.h>

#include <string.h>

struct sim_usage
sim_usage(struct sim *sim)
{
    struct sim_usage usage = {.frames = 0};
    struct qr_frames_stats frames;
    struct qr_heap_stats heap;

    memset(&heap, 0, sizeof(heap));
    if (sim->heap != NULL)
        qr_heap_stats(sim->heap, &heap);
    qr_frames_drain(sim->frames);
    qr_frames_stats(sim->frames, &frames);
    usage.frames = frames.total - frames.free - heap.frames;
    usage.heap_bytes = heap.active_bytes;
    return usage;
}
