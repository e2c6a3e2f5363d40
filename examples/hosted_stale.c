/* SPDX-License-Identifier: MIT */
/*
 * What the hosted machine is for: a TLB flush goes missing, and the test says so.
 *
 * Two CPUs read a page; it is unmapped; the n-th flush that matters is dropped,
 * for n = 1, 2, ... until there is none left to drop.  Each time the oracle names
 * the CPU that could still use the page.
 */
#include "sim.h"

#include <quire/space.h>

#include <stdio.h>

struct attempt {
    unsigned nth;
    bool dropped;
};

static void
unmap_while_both_look(void *context)
{
    struct attempt *attempt = context;
    struct sim *sim = sim_boot((struct sim_options){.cpus = 2});

    if (sim_map(sim, 0, 1, SIM_W) != QR_OK)
        sim_fail("no memory for one page");
    for (unsigned cpu = 0; cpu < 2; cpu++) {
        sim_enter(sim, cpu);
        sim_write(sim, 0, cpu);
    }
    sim_drop_flush(sim, attempt->nth);
    if (sim_unmap(sim, 0, 1) != QR_OK)
        sim_fail("no memory to unmap a page");
    attempt->dropped = sim_stats(sim).flushes_dropped != 0;
    for (unsigned cpu = 0; cpu < 2; cpu++) {
        sim_enter(sim, cpu);
        (void)sim_touch(sim, 0, QR_ACCESS_READ); /* SIGSEGV is what should happen */
    }
    sim_shutdown(sim);
}

int
main(void)
{
    for (unsigned nth = 1;; nth++) {
        struct attempt attempt = {.nth = nth};
        char message[300];
        bool caught = sim_catch(unmap_while_both_look, &attempt, message, sizeof(message));

        if (!attempt.dropped)
            return nth > 2 && !caught ? 0 : 1; /* each CPU had one flush to lose */
        printf("flush %u dropped: %s\n", nth, caught ? message : "nobody noticed!");
        if (!caught)
            return 1;
    }
}
