/* SPDX-License-Identifier: MIT */
/*
 * Lazily freed memory: it stays until somebody asks for it, and what was written since is never lost.
 * model_test.c has it among all other calls.
 */
#include "harness.h"

#include <quire/fault.h>
#include <quire/shrink.h>

#include "sim.h"
#include "space/vm.h"

enum { PAGES = 8 };

static size_t
discard(struct sim *sim, size_t pages)
{
    const struct qr_reclaim_request request = {.pages = pages};
    size_t freed = qr_space_discard(sim_space(sim), &request);

    sim_validate(sim);
    return freed;
}

static enum qr_status
free_lazily(struct sim *sim, size_t first, size_t count)
{
    return qr_space_advise(sim_space(sim), sim_page(first), count << QR_PAGE_SHIFT, QR_ADVICE_FREE);
}

/* PAGES pages with values 1 ..., all of them freed lazily. */
static void
freed_pages(struct sim *sim)
{
    ASSERT_EQ(sim_map(sim, 0, PAGES, SIM_W), QR_OK);
    for (size_t page = 0; page < PAGES; page++)
        sim_write(sim, page, page + 1);
    ASSERT_EQ(free_lazily(sim, 0, PAGES), QR_OK);
}

static void
map_droppable(struct sim *sim)
{
    const struct qr_map_request request = {
        .hint = sim_page(0),
        .bytes = PAGES << QR_PAGE_SHIFT,
        .prot = QR_PROT_READ | QR_PROT_WRITE,
        .flags = QR_MAP_FIXED,
        .region_flags = QR_REGION_DROPPABLE,
    };
    qr_va va;

    ASSERT_EQ(qr_space_map(sim_space(sim), &request, &va), QR_OK);
}

TEST(lazy, droppable_pages_go_written_or_not)
{
    sim_for_each_mmu(mmu)
    {
        struct sim *sim = sim_boot((struct sim_options){.seed = test_seed(), .mmu = mmu});

        map_droppable(sim);
        EXPECT_EQ(qr_space_lock_all(sim_space(sim), QR_LOCK_NOW, QR_UNLOCK), QR_OK);
        for (size_t round = 0; round < 3; round++) { /* nobody has to say that there are more */
            for (size_t page = 0; page < PAGES; page++)
                sim_write(sim, page, page + 1);
            EXPECT_EQ(discard(sim, 3), 3u);
            EXPECT_EQ(discard(sim, SIZE_MAX), (size_t)PAGES - 3);
            for (size_t page = 0; page < PAGES; page++)
                EXPECT_EQ(sim_read(sim, page), 0u);
            EXPECT_EQ(discard(sim, SIZE_MAX), 0u); /* the page of zeroes stays */
        }
        sim_shutdown(sim);
    }
}

TEST(lazy, pages_stay_until_they_are_asked_for)
{
    sim_for_each_mmu(mmu)
    {
        struct sim *sim = sim_boot((struct sim_options){.seed = test_seed(), .mmu = mmu});

        freed_pages(sim);
        for (size_t page = 0; page < PAGES; page++)
            EXPECT_EQ(sim_read(sim, page), page + 1);
        EXPECT_EQ(qr_space_resident_pages(sim_space(sim)), (size_t)PAGES);
        EXPECT_EQ(discard(sim, 3), 3u);
        EXPECT_EQ(discard(sim, SIZE_MAX), (size_t)PAGES - 3);
        EXPECT_EQ(qr_space_resident_pages(sim_space(sim)), 0u);
        for (size_t page = 0; page < PAGES; page++)
            EXPECT_EQ(sim_read(sim, page), 0u);
        EXPECT_EQ(discard(sim, SIZE_MAX), 0u);
        sim_shutdown(sim);
    }
}

TEST(lazy, what_is_written_since_stays)
{
    sim_for_each_mmu(mmu)
    {
        struct sim *sim = sim_boot((struct sim_options){.seed = test_seed(), .mmu = mmu});

        freed_pages(sim);
        for (size_t page = 1; page < PAGES; page += 2)
            sim_write(sim, page, 100 + page);
        ASSERT_EQ(sim_protect(sim, 0, 4, SIM_R), QR_OK); /* rights go, the flag does not */
        EXPECT_EQ(discard(sim, SIZE_MAX), (size_t)PAGES / 2);
        for (size_t page = 0; page < PAGES; page++)
            EXPECT_EQ(sim_read(sim, page), page % 2 != 0 ? 100 + page : 0);
        ASSERT_EQ(sim_protect(sim, 0, 4, SIM_W), QR_OK);
        ASSERT_EQ(free_lazily(sim, 0, PAGES), QR_OK); /* freed a second time */
        EXPECT_EQ(discard(sim, SIZE_MAX), (size_t)PAGES / 2);
        sim_shutdown(sim);
    }
}

TEST(lazy, what_a_fork_shares_goes_to_nobodys_harm)
{
    struct sim *sim = sim_boot((struct sim_options){.seed = test_seed()});

    freed_pages(sim);
    sim_write(sim, 0, 77);
    struct qr_space *parent = sim_space(sim), *child = sim_fork(sim);

    EXPECT_EQ(discard(sim, SIZE_MAX), 0u); /* two have each page */
    sim_write(sim, 1, 88);                 /* a copy, and its own */
    sim_use(sim, child);
    EXPECT_EQ(sim_read(sim, 0), 77u);
    EXPECT_EQ(sim_read(sim, 1), 2u);
    ASSERT_EQ(free_lazily(sim, 2, 2), QR_OK); /* of shared pages it lets go at once */
    EXPECT_EQ(sim_read(sim, 2), 0u);
    sim_use(sim, parent);
    EXPECT_EQ(sim_read(sim, 2), 3u);
    sim_space_destroy(sim, child);
    EXPECT_EQ(discard(sim, SIZE_MAX), (size_t)PAGES - 2);
    EXPECT_EQ(sim_read(sim, 0), 77u);
    EXPECT_EQ(sim_read(sim, 1), 88u);
    EXPECT_EQ(sim_read(sim, 5), 0u);
    sim_shutdown(sim);
}

TEST(lazy, locked_pages_stay)
{
    struct sim *sim = sim_boot((struct sim_options){.seed = test_seed()});

    freed_pages(sim);
    ASSERT_EQ(
        qr_space_lock_pages(sim_space(sim), sim_page(0), 2 << QR_PAGE_SHIFT, QR_LOCK_ON_FAULT),
        QR_OK);
    EXPECT_EQ(discard(sim, SIZE_MAX), (size_t)PAGES - 2);
    EXPECT_EQ(sim_read(sim, 1), 2u);
    EXPECT_EQ(sim_read(sim, 2), 0u);
    sim_shutdown(sim);
}

/* ---- Threads ------------------------------------------------------------------------ */

enum { THREADS = 3, ROUNDS = 60 };

struct world {
    struct sim *sim;
    struct qr_space *space;
    _Atomic unsigned lost;
};

struct thread {
    struct world *world;
    unsigned index;
    uint64_t random;
};

/* Frees its own page, writes it, and expects what it wrote whatever the others discard. */
static void
thread_main(void *context)
{
    struct thread *thread = context;
    struct world *world = thread->world;
    const struct qr_reclaim_request all = {.pages = SIZE_MAX};

    sim_use(world->sim, world->space);
    for (uint64_t i = 1; i <= ROUNDS; i++) {
        qr_va va = sim_page(thread->index);
        uint64_t value = i, seen = 0;

        (void)!qr_space_advise(world->space, va, QR_PAGE_SIZE, QR_ADVICE_FREE);
        if (test_random(&thread->random) % 2 != 0)
            (void)qr_space_discard(world->space, &all);
        (void)sim_store(va, &value, sizeof(value));
        if (test_random(&thread->random) % 2 != 0)
            (void)qr_space_discard(world->space, &all);
        (void)sim_load(va, &seen, sizeof(seen));
        if (seen != value)
            atomic_fetch_add(&world->lost, 1);
    }
    sim_use(world->sim, NULL);
}

static void
race(uint64_t seed, enum sim_run_mode mode)
{
    struct sim_options options = {.seed = seed, .cpus = THREADS};
    struct world world = {0};
    struct thread threads[THREADS];

    if (mode == SIM_RUN_THREADS) /* host threads own their TLBs */
        options.features |= SIM_NO_BROADCAST;
    world.sim = sim_boot(options);

    world.space = sim_space(world.sim);
    ASSERT_EQ(sim_map(world.sim, 0, PAGES, SIM_W), QR_OK);
    for (unsigned i = 0; i < THREADS; i++) {
        threads[i] = (struct thread){.world = &world, .index = i, .random = seed + i};
        sim_spawn(world.sim, i, "writer", thread_main, &threads[i]);
    }
    sim_run(world.sim, mode);
    EXPECT_EQ(world.lost, 0u);
    sim_validate(world.sim);
    sim_shutdown(world.sim);
}

TEST(lazy, no_write_is_lost_under_any_schedule)
{
    uint64_t seeds = sim_seeds(20);

    for (uint64_t seed = 0; seed < seeds; seed++)
        race(test_seed() + seed * 10, SIM_RUN_SEEDED);
}

TEST_THREADS(lazy, no_write_is_lost_on_real_threads)
{
    race(test_seed(), SIM_RUN_THREADS);
}
