/* SPDX-License-Identifier: MIT */
/*
 * Copy-on-write, seen from outside: a parent and its child share every frame
 * until one of them writes.
 *
 *     cmake --build build/hosted --target hosted_fork && build/hosted/hosted_fork
 */
#include "sim.h"

#include <quire/space.h>

#include <stdio.h>

static void
show(struct sim *sim, const char *what)
{
    printf("%-38s %s  %3zu frames in use\n", what, sim_layout(sim), sim_usage(sim).frames);
}

int
main(void)
{
    struct sim *sim = sim_boot((struct sim_options){.cpus = 2});
    struct qr_space *parent = sim_space(sim);
    struct qr_space *child;

    if (sim_map(sim, 0, 8, SIM_W) != QR_OK)
        return 1;
    show(sim, "eight pages mapped, none touched:");
    for (size_t page = 0; page < 8; page++)
        sim_write(sim, page, 100 + page);
    show(sim, "all written:");

    child = sim_fork(sim);
    if (child == NULL)
        return 1;
    show(sim, "forked: tables, but no memory:");

    sim_enter(sim, 1); /* the child runs on the other CPU */
    sim_use(sim, child);
    sim_write(sim, 3, 7);
    show(sim, "the child wrote page 3:");
    if (sim_protect(sim, 4, 6, SIM_R) != QR_OK)
        return 1;
    show(sim, "the child protected pages 4 and 5:");
    printf("a write to page 4 now ends with %s\n",
           sim_signal_name(sim_touch(sim, 4, QR_ACCESS_WRITE)));

    sim_enter(sim, 0);
    printf("the parent still reads %llu in page 3\n", (unsigned long long)sim_read(sim, 3));
    show(sim, "the parent's layout:");

    sim_space_destroy(sim, child);
    show(sim, "the child is gone:");
    if (sim_space(sim) != parent)
        return 1;
    sim_shutdown(sim); /* fails if anything leaked */
    return 0;
}
