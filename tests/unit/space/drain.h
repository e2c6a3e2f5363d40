/* SPDX-License-Identifier: MIT */
#ifndef TEST_SPACE_DRAIN_H
#define TEST_SPACE_DRAIN_H

/*
 * Give a call exactly so many region descriptors and no frame.  Debug builds ask
 * the refusal hook for every object, so refusing from then on does it; in others
 * the descriptors that the heap still has in its slabs are taken away first.
 */
#include <quire/heap.h>

#include "sim.h"
#include "space/vm.h"

struct drain {
    void *objects[512];
    size_t count;
};

/* No frame from now on, and @left descriptors. */
static inline void
drain_begin(struct drain *drain, struct sim *sim, size_t left)
{
    drain->count = 0;
#ifdef CONFIG_MEMORY_DEBUGGING
    sim_refuse_nth(sim, left + 1, SIM_REFUSE_FROM_THEN_ON);
#else
    struct qr_cache *cache = sim_vm(sim)->regions;

    sim_refuse_nth(sim, 1, SIM_REFUSE_FROM_THEN_ON);
    while (drain->count < 512) {
        void *object = qr_cache_alloc(cache, QR_ALLOC_NO_REPORT);

        if (object == NULL)
            break;
        drain->objects[drain->count++] = object;
    }
    for (; left > 0 && drain->count > 0; left--)
        qr_cache_free(cache, drain->objects[--drain->count]);
    sim_refuse_nth(sim, 1, SIM_REFUSE_FROM_THEN_ON);
#endif
}

static inline void
drain_end(struct drain *drain, struct sim *sim)
{
    while (drain->count > 0)
        qr_cache_free(sim_vm(sim)->regions, drain->objects[--drain->count]);
    sim_refuse_nth(sim, 0, SIM_REFUSE_ONCE);
}

#endif
