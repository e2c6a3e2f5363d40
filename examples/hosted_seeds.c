/* SPDX-License-Identifier: MIT */
/*
 * Threads under a seed: two processes increment a shared counter, one of them
 * with a lock and one without, and the seeds that lose an increment are counted.
 * The same seed always gives the same run.
 */
#include "sim.h"

#include <quire/lock.h>

#include <stdio.h>

struct counters {
    struct qr_mutex mutex;
    bool use_mutex;
};

/* The counter lives in the user's memory: page 0 of the space. */
static void
increment(void *context)
{
    struct counters *counters = context;

    for (unsigned i = 0; i < 5; i++) {
        uint64_t value = 0;

        if (counters->use_mutex)
            qr_mutex_lock(&counters->mutex);
        if (sim_load(sim_page(0), &value, sizeof(value)) == SIM_OK) {
            value++;
            (void)sim_store(sim_page(0), &value, sizeof(value));
        }
        if (counters->use_mutex)
            qr_mutex_unlock(&counters->mutex);
    }
}

static unsigned
seeds_that_lose(bool use_mutex)
{
    unsigned lost = 0;

    for (uint64_t seed = 0; seed < 100; seed++) {
        struct counters counters = {.use_mutex = use_mutex};
        struct sim *sim = sim_boot((struct sim_options){.cpus = 3, .seed = seed});

        if (sim_map(sim, 0, 1, SIM_W) != QR_OK)
            return 100;
        sim_spawn(sim, SIM_ANY_CPU, "first", increment, &counters);
        sim_spawn(sim, SIM_ANY_CPU, "second", increment, &counters);
        sim_run(sim, SIM_RUN_SEEDED);
        lost += sim_read(sim, 0) != 10;
        sim_shutdown(sim);
    }
    return lost;
}

int
main(void)
{
    unsigned without = seeds_that_lose(false);
    unsigned with = seeds_that_lose(true);

    printf("of 100 interleavings %u lose increments without a lock, %u with one\n", without, with);
    return without > 0 && with == 0 ? 0 : 1;
}
