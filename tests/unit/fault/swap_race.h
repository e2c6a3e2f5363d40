/* SPDX-License-Identifier: MIT */
#ifndef TESTS_UNIT_FAULT_SWAP_RACE_H
#define TESTS_UNIT_FAULT_SWAP_RACE_H

/* Threads that use pages while another one sends them out, has them back, and now and then ends the area. */

#include "harness.h"

#include <quire/fault.h>
#include <quire/shrink.h>

#include "sim.h"
#include "space/vm.h"

enum { WRITERS = 2, THREADS = WRITERS + 2, ROUNDS = 40, OWN = 3 };

struct race {
    struct sim *sim;
    struct qr_space *space;
    struct sim_disk *disk;
    size_t pages;                /* from page 0 on: what advice is about */
    size_t batch;                /* that is sent out at once */
    void (*also)(struct race *); /* what the swapper does besides, or NULL */
    void *scene;
    _Atomic unsigned lost, alive; /* alive: writers that have not ended */
};

struct thread {
    struct race *race;
    unsigned index;
    uint64_t random;
};

/* What every machine of a race is; the rest is the caller's. */
static inline struct sim_options
race_options(uint64_t seed, enum sim_run_mode mode)
{
    struct sim_options options = {
        .seed = seed, .cpus = THREADS, .features = SIM_NO_VALIDATE, .mmu = sim_mmu_by_seed(seed)};

    if (mode == SIM_RUN_THREADS) /* host threads own their TLBs */
        options.features |= SIM_NO_BROADCAST;
    return options;
}

static inline void
race_lose_unless(struct race *race, bool good)
{
    if (!good)
        atomic_fetch_add(&race->lost, 1);
}

static inline uint64_t
race_load(struct race *race, size_t page)
{
    uint64_t value = 0;

    race_lose_unless(race, sim_load(sim_page(page), &value, sizeof(value)) == SIM_OK);
    return value;
}

static inline void
race_advise(struct race *race, enum qr_advice advice)
{
    (void)!qr_space_advise(race->space, sim_page(0), race->pages << QR_PAGE_SHIFT, advice);
}

static inline void
race_swap(struct race *race, unsigned what)
{
    struct qr_swap *swap = sim_swap(race->sim);
    unsigned area = sim_disk_area(race->disk);

    if (what < 4)
        (void)sim_swap_out(race->sim, race->batch);
    else if (what == 4)
        race_advise(race, QR_ADVICE_PAGE_OUT);
    else if (what == 5)
        race_advise(race, QR_ADVICE_WILL_NEED);
    else if (what == 6)
        (void)qr_swap_trim(swap, SIZE_MAX, NULL);
    else if (qr_swap_is_active(swap) && qr_swap_off(sim_vm(race->sim), area, NULL) == QR_OK)
        sim_swap_again(race->disk);
}

/* Out, and in again by advice, by trimming, and now and then by the end of the area. */
static inline void
race_swapper(void *context)
{
    struct thread *thread = context;
    struct race *race = thread->race;

    while (atomic_load(&race->alive) != 0) {
        unsigned what = (unsigned)(test_random(&thread->random) % (race->also == NULL ? 8 : 10));

        if (what < 8)
            race_swap(race, what);
        else
            race->also(race);
        sim_preempt();
    }
}

/* Two of @writer, one of @other, and the swapper; every third seed has a disk that fails. */
static inline void
race_run(struct race *race, uint64_t seed, enum sim_run_mode mode, sim_body writer, sim_body other)
{
    const sim_body bodies[THREADS] = {writer, writer, other, race_swapper};
    struct thread threads[THREADS];

    atomic_store(&race->alive, WRITERS);
    sim_disk_set_failing(race->disk, 0, seed % 3 == 0 ? 9 : 0);
    qr_swap_attach(sim_vm(race->sim));
    for (unsigned i = 0; i < THREADS; i++) {
        threads[i] = (struct thread){.race = race, .index = i, .random = seed + i};
        sim_spawn(race->sim, i, "thread", bodies[i], &threads[i]);
    }
    sim_run(race->sim, mode);
    EXPECT_EQ(race->lost, 0u);
}

#endif
