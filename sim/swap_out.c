/* SPDX-License-Identifier: MIT */
/*
 * Swapping out by hand: a file of its own, since it needs the reclaim layer.
 */
#include "machine.h"

#include <quire/shrink.h>

#include "space/vm.h"

size_t
sim_swap_out(struct sim *sim, size_t pages)
{
    const struct qr_reclaim_request request = {.pages = pages, .first_round = true};

    if (sim->vm->swap_shrinker.shrink == NULL)
        qr_swap_attach(sim->vm);
    return sim->vm->swap_shrinker.shrink(sim->vm, &request);
}
