/* SPDX-License-Identifier: MIT */
/*
 * Truncation against faults (invariant 24): one thread cuts an object and lets
 * it grow again, over and over, while others read it and write to private copies
 * of it.  Once the cut has returned, its thread must get SIGBUS past the new
 * end, from every mapping; once the object has grown, what was cut must read as
 * zero.  A page that slips in by a fault which began before the cut shows as an
 * old value.
 */
#include "harness.h"
#include "seeds.h"
#include "sim.h"

#include <quire/space.h>

enum { PAGES = 8, SHARED = 0, PRIVATE = 20, ROUNDS = 8 };

struct world {
    struct sim *sim;
    struct qr_object *object;
    bool over;
    unsigned cuts, loads;
};

static size_t
pick(struct world *world, size_t below)
{
    return (size_t)(sim_random(world->sim) % below);
}

static void
fill(uint64_t value)
{
    for (size_t page = 0; page < PAGES; page++) {
        if (sim_store(sim_page(SHARED + page), &value, sizeof(value)) != SIM_OK)
            sim_fail("page %zu of the object cannot be written", page);
    }
}

static void
past_the_end(struct world *world, size_t end)
{
    for (size_t page = end; page < PAGES; page++) {
        uint64_t value = 0;

        if (sim_load(sim_page(SHARED + page), &value, sizeof(value)) != SIM_BUS_ADRERR ||
            sim_load(sim_page(PRIVATE + page), &value, sizeof(value)) != SIM_BUS_ADRERR)
            sim_fail("page %zu was cut off and still holds %#llx", page, (unsigned long long)value);
    }
    world->cuts++;
}

static void
grown(size_t end)
{
    for (size_t page = end; page < PAGES; page++) {
        uint64_t value = 0;

        if (sim_load(sim_page(SHARED + page), &value, sizeof(value)) != SIM_OK || value != 0)
            sim_fail("page %zu was cut off, and holds %#llx again", page,
                     (unsigned long long)value);
    }
}

static void
cutter(void *context)
{
    struct world *world = context;

    for (unsigned round = 0; round < ROUNDS; round++) {
        size_t end = pick(world, PAGES);

        fill(round + 1);
        qr_object_set_bytes(world->object, (uint64_t)end << QR_PAGE_SHIFT);
        past_the_end(world, end);
        qr_object_set_bytes(world->object, (uint64_t)PAGES << QR_PAGE_SHIFT);
        grown(end);
    }
    world->over = true;
}

static void
reader(void *context)
{
    struct world *world = context;

    for (unsigned i = 0; i < 400 && !world->over; i++) {
        size_t page = pick(world, PAGES) + (pick(world, 2) == 0 ? SHARED : PRIVATE);
        uint64_t value = 0;

        world->loads += sim_load(sim_page(page), &value, sizeof(value)) == SIM_OK;
    }
}

static void
copier(void *context)
{
    struct world *world = context;

    for (unsigned i = 0; i < 200 && !world->over; i++) {
        size_t page = pick(world, PAGES);
        uint64_t value = UINT64_MAX;

        (void)sim_store(sim_page(PRIVATE + page), &value, sizeof(value));
    }
}

static void
one_seed(void *context)
{
    uint64_t seed = *(uint64_t *)context;
    struct world world = {
        .sim = sim_boot((struct sim_options){
            .cpus = 2 + (unsigned)(seed % 3),
            .features = SIM_NO_VALIDATE | (seed % 2 == 0 ? (unsigned)SIM_SPECULATE : 0u),
            .seed = seed,
        }),
    };

    sim_set_preemption(world.sim, 2u << (seed / 3 % 5));
    if (qr_object_create(sim_objects(world.sim), &qr_pager_memory, NULL,
                         (uint64_t)PAGES << QR_PAGE_SHIFT, &world.object) != QR_OK)
        sim_fail("no object");
    if (sim_map_object(world.sim, SHARED, PAGES, SIM_W, world.object, 0) != QR_OK ||
        sim_map_private(world.sim, PRIVATE, PAGES, SIM_W, world.object, 0) != QR_OK)
        sim_fail("no mapping");
    sim_spawn(world.sim, SIM_ANY_CPU, "cutter", cutter, &world);
    sim_spawn(world.sim, SIM_ANY_CPU, "reader", reader, &world);
    sim_spawn(world.sim, SIM_ANY_CPU, "copier", copier, &world);
    sim_run(world.sim, SIM_RUN_SEEDED);
    EXPECT_EQ(world.cuts, ROUNDS);
    sim_validate(world.sim);
    qr_object_put(world.object);
    sim_shutdown(world.sim);
}

TEST(truncate, what_is_cut_is_gone_under_every_seed)
{
    uint64_t seed;

    (void)under_seeds(sim_seeds(400), one_seed, &seed, &seed);
}
