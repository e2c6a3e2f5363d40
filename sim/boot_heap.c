/* SPDX-License-Identifier: MIT */
/*
 * Booting as far as the heap.  What was in use before the heap started must be
 * in use, no more and no less, after it stopped.
 */
#include "boot.h"

#include <quire/heap.h>

static void
heap_stop(struct sim *sim)
{
    char message[256];
    size_t leaked;

    if (!qr_heap_validate(sim->heap, message, sizeof(message)))
        sim_fail("heap, at shutdown: %s", message);
    leaked = qr_heap_fini(sim->heap);
    if (leaked != 0)
        sim_fail("%zu heap objects leaked", leaked);
    sim_host_free(sim->heap);
    sim->heap = NULL;
    if (sim_frames_used(sim) != sim->frames_before_heap)
        sim_fail("%zu frames were in use before the heap started, %zu after it stopped",
                 sim->frames_before_heap, sim_frames_used(sim));
}

struct sim *
sim_boot_heap(struct sim_options options)
{
    struct sim *sim = sim_boot_frames(options);
    enum qr_status status;

    sim->frames_before_heap = sim_frames_used(sim);
    sim->heap = sim_host_alloc(qr_heap_size(sim->cpu_count));
    status = qr_heap_init(sim->heap, sim->frames, sim->cpu_count);
    if (status != QR_OK)
        sim_fail("the heap does not start: %s", qr_status_name(status));
    sim_on_stop(sim, heap_stop);
    return sim;
}
