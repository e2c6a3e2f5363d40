/* SPDX-License-Identifier: MIT */
#ifndef TEST_SPACE_DRAIN_H
#define TEST_SPACE_DRAIN_H

/*
 * Take all region descriptors that the heap still has in its slabs, and refuse
 * it more memory: then a call gets exactly as many as are given back.
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
    struct qr_cache *cache = sim_vm(sim)->regions;

    drain->count = 0;
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
}

static inline void
drain_end(struct drain *drain, struct sim *sim)
{
    while (drain->count > 0)
        qr_cache_free(sim_vm(sim)->regions, drain->objects[--drain->count]);
    sim_refuse_nth(sim, 0, SIM_REFUSE_ONCE);
}

#endif
