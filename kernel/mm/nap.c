/* SPDX-License-Identifier: MIT */
/*
 * Naps of background threads.
 */
#include "nap.h"

#include <quire/port.h>

#define NS_PER_MS 1000000u

static void
nap_over(struct timer *timer)
{
    nap_end(qr_container_of(timer, struct nap, timer));
}

void
nap_init(struct nap *nap)
{
    timer_init(&nap->timer, nap_over);
}

void
nap_end(struct nap *nap)
{
    atomic_fetch_add(&nap->wanted, 1);
    qr_port_wake(&nap->wanted, 1);
}

void
nap_begin(struct nap *nap, uint32_t seen, uint64_t ms)
{
    if (ms != 0)
        timer_arm(&nap->timer, qr_port_clock_ns() + ms * NS_PER_MS);
    while (atomic_load(&nap->wanted) == seen)
        qr_port_wait(&nap->wanted, seen);
    if (ms != 0)
        (void)timer_cancel(&nap->timer);
}
