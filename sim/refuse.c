/* SPDX-License-Identifier: MIT */
/*
 * Refusal of allocations: the n-th, the n-th and all after it, or by the seed.
 * Below everything stands the frame allocator's hook; where the heap can be
 * asked too (it serves most requests from its magazines) its hook is the same.
 */
#include "boot.h"

bool
sim_refuse_hook(void *context)
{
    struct sim *sim = context;
    struct sim_refusals *refusals = &sim->refusals;
    bool refuse;

    pthread_mutex_lock(&refusals->lock);
    refusals->asked++;
    if (refusals->one_in != 0)
        refuse = random_next(&refusals->random) % refusals->one_in == 0;
    else if (refusals->nth == 0)
        refuse = false;
    else if (refusals->mode == SIM_REFUSE_ONCE)
        refuse = refusals->asked == refusals->nth;
    else
        refuse = refusals->asked >= refusals->nth;
    refusals->refused += refuse;
    pthread_mutex_unlock(&refusals->lock);
    return refuse;
}

static void
refusals_arm(struct sim *sim, uint64_t nth, enum sim_refusal mode, unsigned one_in)
{
    pthread_mutex_lock(&sim->refusals.lock);
    sim->refusals.asked = 0;
    sim->refusals.refused = 0;
    sim->refusals.nth = nth;
    sim->refusals.mode = mode;
    sim->refusals.one_in = one_in;
    pthread_mutex_unlock(&sim->refusals.lock);
    /* Hooked only while it matters: the allocator's fast paths do not ask. */
    if (sim->hooks.arm_refusal != NULL)
        sim->hooks.arm_refusal(sim, nth != 0 || one_in != 0);
}

void
sim_refuse_nth(struct sim *sim, uint64_t n, enum sim_refusal mode)
{
    refusals_arm(sim, n, mode, 0);
}

void
sim_refuse_next(struct sim *sim, unsigned *refusal)
{
    refusals_arm(sim, ++*refusal, SIM_REFUSE_ONCE, 0);
}

void
sim_refuse_randomly(struct sim *sim, unsigned one_in)
{
    refusals_arm(sim, 0, SIM_REFUSE_ONCE, one_in);
}

uint64_t
sim_refused(struct sim *sim)
{
    return sim->refusals.refused;
}

uint64_t
sim_asked(struct sim *sim)
{
    return sim->refusals.asked;
}
