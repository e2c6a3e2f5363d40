/* SPDX-License-Identifier: MIT */
/*
 * Pages of files are taken out of every space that maps them, many at a time: one shootdown for a run
 * of pages, nothing given back before it, and nobody sees an old page once somebody has written
 * the new one.
 */
#include "harness.h"

#include <quire/fault.h>
#include <quire/reclaim.h>
#include <quire/shrink.h>

#include <string.h>

#include "sim.h"
#include "space/vm.h"

enum { FILE_PAGES = 32, SPACES = 3 };

/* ---- A file on a disk without a delay ------------------------------------------------ */

struct disk {
    uint64_t value[FILE_PAGES]; /* the first bytes of each page */
    _Atomic unsigned reads, writes;
    struct qr_object *object;
};

static void
disk_start_read(void *context, size_t index, struct qr_frame *const *frames, size_t count)
{
    struct disk *disk = context;

    for (size_t i = 0; i < count; i++) {
        uint64_t *window = qr_port_window_open(qr_frame_pa(sim_frames(sim_here()), frames[i]));

        memset(window, 0, QR_PAGE_SIZE);
        __atomic_store_n(&window[0], disk->value[index + i], __ATOMIC_RELAXED);
        qr_port_window_close(window);
        disk->reads++;
        qr_object_read_done(disk->object, frames[i], QR_OK);
    }
}

static void
disk_start_write(void *context, size_t index, struct qr_frame *const *frames, size_t count)
{
    struct disk *disk = context;

    for (size_t i = 0; i < count; i++) {
        uint64_t *window = qr_port_window_open(qr_frame_pa(sim_frames(sim_here()), frames[i]));

        disk->value[index + i] = __atomic_load_n(&window[0], __ATOMIC_RELAXED);
        qr_port_window_close(window);
        disk->writes++;
        qr_object_write_done(disk->object, frames[i], QR_OK);
    }
}

static const struct qr_pager disk_pager = {
    .name = "disk", .start_read = disk_start_read, .start_write = disk_start_write};

static void
disk_open(struct disk *disk, struct sim *sim)
{
    memset(disk, 0, sizeof(*disk));
    for (size_t page = 0; page < FILE_PAGES; page++)
        disk->value[page] = page + 1;
    ASSERT_EQ(qr_object_create(sim_objects(sim), &disk_pager, disk, FILE_PAGES << QR_PAGE_SHIFT,
                               &disk->object),
              QR_OK);
}

static size_t
shrink(struct sim *sim, size_t pages)
{
    return qr_objects_shrink(sim_objects(sim), pages, QR_SHRINK_ALL, NULL);
}

/* ---- One shootdown ----------------------------------------------------------------- */

struct world {
    struct sim *sim;
    struct disk disk;
    struct qr_space *spaces[SPACES]; /* space i runs on CPU i + 1 */
    uint64_t drop;                   /* the flush that is lost; 0: none */
    bool happened;
};

/* Every space's program reads all of the file, on its own CPU. */
static void
world_read(struct world *world)
{
    for (unsigned i = 0; i < SPACES; i++) {
        sim_enter(world->sim, i + 1);
        for (size_t page = 0; page < FILE_PAGES; page++)
            EXPECT_EQ(sim_read(world->sim, page), page + 1);
    }
    sim_enter(world->sim, 0);
}

static void
world_boot(struct world *world, enum sim_mmu mmu)
{
    world->sim = sim_boot((struct sim_options){
        .seed = test_seed(), .mmu = mmu, .cpus = SPACES + 1, .features = SIM_NO_VALIDATE});
    disk_open(&world->disk, world->sim);
    for (unsigned i = 0; i < SPACES; i++) {
        world->spaces[i] = sim_space_create(world->sim);
        sim_enter(world->sim, i + 1);
        sim_use(world->sim, world->spaces[i]);
        ASSERT_EQ(i == 0 ? sim_map_private(world->sim, 0, FILE_PAGES, SIM_W, world->disk.object, 0)
                         : sim_map_object(world->sim, 0, FILE_PAGES, SIM_W, world->disk.object, 0),
                  QR_OK);
    }
    world_read(world);
}

static void
world_stop(struct world *world)
{
    sim_validate(world->sim);
    for (unsigned i = 0; i < SPACES; i++) {
        sim_unload(world->sim, world->spaces[i]);
        sim_space_destroy(world->sim, world->spaces[i]);
    }
    qr_object_put(world->disk.object);
    sim_shutdown(world->sim);
}

TEST(shrink, one_interrupt_a_cpu_for_all_pages_of_all_spaces)
{
    sim_for_each_mmu(mmu)
    {
        struct world world = {0};

        world_boot(&world, mmu);
        uint64_t before = sim_stats(world.sim).ipis_sent;
        bool asks = !qr_arch_flush_broadcasts();

        EXPECT_EQ(shrink(world.sim, FILE_PAGES), (size_t)FILE_PAGES);
        EXPECT_EQ(sim_stats(world.sim).ipis_sent - before, asks ? (uint64_t)SPACES : 0u);
        EXPECT_EQ(qr_object_resident(world.disk.object), 0u);
        world_read(&world);
        EXPECT_EQ(world.disk.reads, 2u * FILE_PAGES);
        world_stop(&world);
    }
}

TEST(shrink, write_back_interrupts_once_a_request)
{
    struct world world = {0};

    world_boot(&world, SIM_MMU_DEFAULT);
    sim_enter(world.sim, 2);
    for (size_t page = 0; page < QR_PAGER_BATCH; page++)
        sim_write(world.sim, page, 100 + page);
    sim_enter(world.sim, 0);
    uint64_t before = sim_stats(world.sim).ipis_sent;
    bool asks = !qr_arch_flush_broadcasts();

    EXPECT_EQ(qr_object_sync(world.disk.object, 0, FILE_PAGES), QR_OK);
    EXPECT_EQ(sim_stats(world.sim).ipis_sent - before, asks ? 1u : 0u);
    EXPECT_EQ(world.disk.writes, QR_PAGER_BATCH);
    sim_enter(world.sim, 2);
    sim_write(world.sim, 0, 7); /* faults, and marks the page again */
    EXPECT_EQ(qr_object_dirty(world.disk.object), 1u);
    EXPECT_EQ(qr_object_sync(world.disk.object, 0, FILE_PAGES), QR_OK);
    EXPECT_EQ(world.disk.value[0], 7u);
    EXPECT_EQ(world.disk.value[QR_PAGER_BATCH - 1], 99u + QR_PAGER_BATCH);
    for (size_t page = 0; page < QR_PAGER_BATCH; page++)
        sim_write(world.sim, page, page + 1);
    world_stop(&world);
}

/* A page that somebody holds, and one that is dirty, stay; those around them go. */
TEST(shrink, pages_in_use_stay)
{
    struct world world = {0};
    struct qr_frame *held;

    world_boot(&world, SIM_MMU_DEFAULT);
    ASSERT_EQ(qr_object_get_page(world.disk.object, 5, QR_PAGE_CACHED, &held), QR_OK);
    sim_enter(world.sim, 3);
    sim_write(world.sim, 9, 10);
    sim_enter(world.sim, 0);
    EXPECT_EQ(shrink(world.sim, SIZE_MAX), (size_t)FILE_PAGES - 2);
    EXPECT_EQ(qr_object_resident(world.disk.object), 2u);
    qr_frame_put(sim_frames(world.sim), held);
    EXPECT_EQ(shrink(world.sim, SIZE_MAX), 1u);
    world_read(&world);
    world_stop(&world);
}

/* ---- While the flush is still to come ------------------------------------------------------ */

struct meanwhile {
    struct sim *sim;
    bool done;
    uint64_t seen;
};

/* The pages are out of the tables, and in TLBs: CPU 1 writes one, CPU 2 reads it. */
static void
meanwhile_begin(void *context, const struct qr_tlb_flush *flush)
{
    struct meanwhile *meanwhile = context;

    (void)flush;
    if (meanwhile->done)
        return;
    meanwhile->done = true;
    sim_enter(meanwhile->sim, 1);
    sim_write(meanwhile->sim, 3, 77);
    sim_enter(meanwhile->sim, 2);
    meanwhile->seen = sim_read(meanwhile->sim, 3);
    sim_enter(meanwhile->sim, 0);
}

TEST(shrink, a_private_copy_made_before_the_flush_is_seen_by_all)
{
    sim_for_each_mmu(mmu)
    {
        struct world world = {0};

        world_boot(&world, mmu);
        struct meanwhile meanwhile = {.sim = world.sim};
        const struct qr_tlb_observer observer = {.context = &meanwhile, .begin = meanwhile_begin};

        sim_enter(world.sim, 2);
        sim_use(world.sim, world.spaces[0]); /* it runs on CPUs 1 and 2 */
        for (size_t page = 0; page < FILE_PAGES; page++)
            EXPECT_EQ(sim_read(world.sim, page), page + 1);
        sim_enter(world.sim, 0);
        qr_tlb_set_observer(sim_tlb(world.sim), &observer);
        EXPECT_EQ(shrink(world.sim, FILE_PAGES), (size_t)FILE_PAGES);
        qr_tlb_set_observer(sim_tlb(world.sim), NULL);
        EXPECT_TRUE(meanwhile.done);
        EXPECT_EQ(meanwhile.seen, 77u);
        sim_enter(world.sim, 1);
        EXPECT_EQ(sim_read(world.sim, 3), 77u);
        sim_enter(world.sim, 2);
        EXPECT_EQ(sim_read(world.sim, 4), 5u);
        sim_enter(world.sim, 0);
        world_stop(&world);
    }
}

/* ---- Mutations -------------------------------------------------------------------------- */

static void
one_mutant(void *context)
{
    struct world *world = context;

    world_boot(world, SIM_MMU_DEFAULT);
    sim_drop_flush(world->sim, world->drop);
    (void)shrink(world->sim, FILE_PAGES);
    world->happened = sim_stats(world->sim).flushes_dropped != 0;
    world_read(world);
    world_stop(world);
}

TEST(shrink, every_flush_that_is_dropped_is_missed)
{
    unsigned dropped = 0;

    for (uint64_t nth = 1; nth < 1000; nth++) {
        struct world world = {.drop = nth};
        char message[400] = "";
        bool caught = sim_catch(one_mutant, &world, message, sizeof(message));

        if (!caught && !world.happened)
            break; /* there are no more flushes to drop */
        dropped++;
        ASSERT_TRUE(caught);
    }
    EXPECT_GT(dropped, 0);
}

/* ---- Threads ---------------------------------------------------------------------------- */

/*
 * A writer stores growing numbers and announces each afterwards; whoever reads an announcement, and
 * finds it unchanged after reading the page, must have found that number or a later one.
 *
 *   page 0 ...     private, of the file: now and then given up (DONTNEED), the file's again
 *   page 32 ...    shared: write-back must lose nothing
 *   page 64 ...    anonymous: now and then freed lazily
 */
enum { KINDS = 3, EACH = 2, PRIVATE = 0, SHARED = 1, LAZY = 2 };

struct race {
    struct sim *sim;
    struct qr_space *space;
    struct qr_space *other; /* maps the file in the same places, and reads */
    struct disk disk;
    unsigned rounds;
    unsigned focus; /* the only kind of which one page is used; KINDS: all */
    _Atomic uint64_t announced[KINDS][EACH];
    _Atomic unsigned old;
    _Atomic size_t freed;
};

struct racer {
    struct race *race;
    uint64_t random;
};

static qr_va
race_page(unsigned kind, size_t page)
{
    return sim_page(kind * FILE_PAGES + page);
}

struct choice {
    unsigned kind;
    size_t page;
    bool other; /* of two ways */
};

static struct choice
racer_choose(struct racer *racer)
{
    unsigned focus = racer->race->focus;
    uint64_t random = test_random(&racer->random);
    bool all = focus == KINDS;

    return (struct choice){.kind = all ? (unsigned)(random % KINDS) : focus,
                           .page = all ? (size_t)(random >> 8) % EACH : 0,
                           .other = (random >> 16 & 1) != 0};
}

static void
writer_body(void *context)
{
    struct racer *racer = context;
    struct race *race = racer->race;

    for (uint64_t i = 1; i <= race->rounds; i++) {
        struct choice choice = racer_choose(racer);
        unsigned kind = choice.kind;
        size_t page = choice.page;
        uint64_t value = 1000 + i;

        if (choice.other && kind != SHARED) {
            atomic_store(&race->announced[kind][page], 0);
            (void)!qr_space_advise(race->space, race_page(kind, page), QR_PAGE_SIZE,
                                   kind == LAZY ? QR_ADVICE_FREE : QR_ADVICE_DONT_NEED);
        } else if (sim_store(race_page(kind, page), &value, sizeof(value)) == SIM_OK) {
            atomic_store(&race->announced[kind][page], value);
        }
    }
}

static void
reader_body(void *context)
{
    struct racer *racer = context;
    struct race *race = racer->race;

    for (unsigned i = 0; i < 2 * race->rounds; i++) {
        struct choice choice = racer_choose(racer);
        unsigned kind = choice.kind;
        size_t page = choice.page;
        uint64_t announced = atomic_load(&race->announced[kind][page]);
        uint64_t value = 0;

        if (sim_load(race_page(kind, page), &value, sizeof(value)) == SIM_OK && announced != 0 &&
            value < announced && atomic_load(&race->announced[kind][page]) == announced)
            atomic_fetch_add(&race->old, 1);
    }
}

/* In the other space only what is shared is announced. */
static void
other_body(void *context)
{
    struct racer *racer = context;
    struct race *race = racer->race;

    for (unsigned i = 0; i < 2 * race->rounds; i++) {
        size_t page = racer_choose(racer).page;
        uint64_t announced = atomic_load(&race->announced[SHARED][page]);
        uint64_t value = 0;

        if (sim_load(race_page(SHARED, page), &value, sizeof(value)) == SIM_OK && value < announced)
            atomic_fetch_add(&race->old, 1);
    }
}

static void
reclaimer_body(void *context)
{
    struct racer *racer = context;
    struct race *race = racer->race;
    const struct qr_reclaim_request all = {.pages = SIZE_MAX};

    for (unsigned i = 0; i < race->rounds; i++) {
        struct choice choice = racer_choose(racer);

        if (choice.kind == LAZY)
            (void)qr_space_discard(race->space, &all);
        else if (choice.kind == SHARED && choice.other)
            (void)!qr_object_sync(race->disk.object, 0, FILE_PAGES);
        else
            atomic_fetch_add(&race->freed, shrink(race->sim, SIZE_MAX));
    }
}

static void
race_map(struct race *race)
{
    ASSERT_EQ(sim_map_private(race->sim, 0, FILE_PAGES, SIM_W, race->disk.object, 0), QR_OK);
    ASSERT_EQ(sim_map_object(race->sim, FILE_PAGES, FILE_PAGES, SIM_W, race->disk.object, 0),
              QR_OK);
    ASSERT_EQ(sim_map(race->sim, (size_t)2 * FILE_PAGES, FILE_PAGES, SIM_W), QR_OK);
}

/* Nothing that was stored in shared memory is lost, wherever it is now. */
static void
race_check(struct race *race)
{
    unsigned old = atomic_load(&race->old);

    EXPECT_EQ(old, 0u);
    (void)shrink(race->sim, SIZE_MAX);
    EXPECT_EQ(qr_object_sync(race->disk.object, 0, FILE_PAGES), QR_OK);
    for (size_t page = 0; page < EACH; page++) {
        uint64_t value = atomic_load(&race->announced[SHARED][page]);

        EXPECT_EQ(race->disk.value[page], value != 0 ? value : page + 1);
    }
}

static size_t
race_run(struct sim_options options, enum sim_run_mode mode, unsigned rounds)
{
    static const sim_body bodies[] = {writer_body, reader_body, reclaimer_body, other_body};
    struct racer racers[QR_ARRAY_COUNT(bodies)];
    struct race race = {.rounds = rounds};
    uint64_t random = options.seed;

    race.sim = sim_boot(options);
    sim_set_preemption(race.sim, 2u << test_random(&random) % 4);
    race.focus = mode == SIM_RUN_THREADS ? KINDS : (unsigned)(test_random(&random) % (KINDS + 1));
    race.space = sim_space(race.sim);
    disk_open(&race.disk, race.sim);
    race_map(&race);
    race.other = sim_space_create(race.sim);
    sim_use(race.sim, race.other);
    race_map(&race);
    for (unsigned i = 0; i < QR_ARRAY_COUNT(bodies); i++) {
        racers[i] = (struct racer){.race = &race, .random = options.seed * 7 + i};
        sim_use(race.sim, bodies[i] == other_body ? race.other : race.space);
        sim_spawn(race.sim, i, "racer", bodies[i], &racers[i]);
    }
    sim_use(race.sim, race.space);
    sim_run(race.sim, mode);
    race_check(&race);
    sim_validate(race.sim);
    sim_unload(race.sim, race.other);
    sim_space_destroy(race.sim, race.other);
    ASSERT_EQ(sim_unmap(race.sim, 0, (size_t)3 * FILE_PAGES), QR_OK);
    qr_object_put(race.disk.object);
    sim_shutdown(race.sim);
    return atomic_load(&race.freed);
}

TEST(shrink, what_was_announced_is_seen_under_every_seed)
{
    uint64_t seeds = sim_seeds(120);
    size_t freed = 0;

    for (uint64_t i = 0; i < seeds; i++) {
        uint64_t seed = test_seed() + i;

        freed += race_run(
            (struct sim_options){
                .seed = seed, .cpus = 4, .mmu = sim_mmu_by_seed(seed), .features = SIM_NO_VALIDATE},
            SIM_RUN_SEEDED, 60);
    }
    EXPECT_GT(freed, 0);
}

TEST_THREADS(shrink, what_was_announced_is_seen_by_real_threads)
{
    (void)race_run((struct sim_options){.seed = test_seed(),
                                        .cpus = 4,
                                        .features = SIM_NO_VALIDATE | SIM_NO_BROADCAST},
                   SIM_RUN_THREADS, 3000);
}

/* ---- What reclaim leaves behind ------------------------------------------------------ */

static size_t
evicted(struct qr_object *object, size_t *out_recently)
{
    struct qr_object_evicted count;

    qr_object_count_evicted(object, 0, SIZE_MAX, &count);
    *out_recently = count.recently;
    return count.pages;
}

static long
count_of(struct sim *sim, enum qr_counter which)
{
    return qr_counter_read(qr_frames_counters(sim_frames(sim)), which);
}

static void
read_all(struct sim *sim, struct qr_object *object)
{
    struct qr_frame *frame;

    for (size_t page = 0; page < FILE_PAGES; page++) {
        ASSERT_EQ(qr_object_get_page(object, page, QR_PAGE_FILL, &frame), QR_OK);
        qr_frame_put(sim_frames(sim), frame);
    }
}

/*
 *             evict 8     read       evict 8        read           evict 8       read
 *   0 .. 7    shadows     active     saved once     no more        shadows       restored
 *   8 .. 15                          shadows        active
 */
TEST(shrink, pages_that_come_back_soon_are_saved_once_and_known_the_next_time)
{
    struct sim *sim = sim_boot((struct sim_options){.seed = test_seed(), .cpus = 1});
    struct disk disk;
    size_t recently;

    disk_open(&disk, sim);
    read_all(sim, disk.object);
    EXPECT_EQ(shrink(sim, 8), 8u);
    EXPECT_EQ(evicted(disk.object, &recently), 8u);
    EXPECT_EQ(recently, 8u);
    read_all(sim, disk.object);
    EXPECT_EQ(evicted(disk.object, &recently), 0u);
    EXPECT_EQ(count_of(sim, QR_EVENT_REFAULT_FILE), 8);
    EXPECT_EQ(count_of(sim, QR_EVENT_ACTIVATE_FILE), 8);
    EXPECT_EQ(count_of(sim, QR_PAGES_ACTIVE_FILE), 8);
    EXPECT_EQ(shrink(sim, 8), 8u);
    EXPECT_EQ(count_of(sim, QR_EVENT_REFILL), 8);
    EXPECT_EQ(count_of(sim, QR_PAGES_ACTIVE_FILE), 0);
    EXPECT_EQ(count_of(sim, QR_EVENT_SCAN_FILE), 8 + 16);
    EXPECT_EQ(disk.reads, FILE_PAGES + 8u);
    read_all(sim, disk.object);
    EXPECT_EQ(count_of(sim, QR_EVENT_RESTORE_FILE), 0);
    EXPECT_EQ(shrink(sim, 8), 8u);
    read_all(sim, disk.object);
    EXPECT_EQ(count_of(sim, QR_EVENT_RESTORE_FILE), 8);

    /* All go, by pressure that takes active ones, too; all are forgotten with the file's end. */
    while (shrink(sim, FILE_PAGES) != 0) {
    }
    EXPECT_EQ(evicted(disk.object, &recently), (size_t)FILE_PAGES);
    qr_object_set_bytes(disk.object, 4 << QR_PAGE_SHIFT);
    EXPECT_EQ(evicted(disk.object, &recently), 4u);
    (void)qr_object_drop_clean(disk.object);
    EXPECT_EQ(evicted(disk.object, &recently), 0u);
    EXPECT_EQ(count_of(sim, QR_SHADOW_NODES), 0);
    qr_object_put(disk.object);
    sim_shutdown(sim);
}

/* Those of a file as large as can be, a page in each node: their number is bounded, and none is lost. */
static void
zero_start_read(void *context, size_t index, struct qr_frame *const *frames, size_t count)
{
    struct disk *disk = context;

    (void)index;
    for (size_t i = 0; i < count; i++)
        qr_object_read_done(disk->object, frames[i], QR_OK);
}

TEST(shrink, shadows_of_pages_far_apart_are_bounded)
{
    static const struct qr_pager pager = {
        .name = "far", .start_read = zero_start_read, .start_write = disk_start_write};
    struct sim *sim = sim_boot((struct sim_options){.seed = test_seed(), .cpus = 1});
    struct qr_frames_stats stats;
    struct disk disk;
    struct qr_frame *frame;
    size_t recently;

    qr_frames_stats(sim_frames(sim), &stats);
    size_t most = stats.total / 32 > 64 ? stats.total / 32 : 64;

    ASSERT_EQ(qr_object_create(sim_objects(sim), &pager, &disk, (uint64_t)1 << 40, &disk.object),
              QR_OK);
    for (size_t i = 0; i < 3 * most; i++) {
        ASSERT_EQ(qr_object_get_page(disk.object, i << 7, QR_PAGE_FILL, &frame), QR_OK);
        qr_frame_put(sim_frames(sim), frame);
        EXPECT_EQ(shrink(sim, 1), 1u);
        EXPECT_TRUE((size_t)count_of(sim, QR_SHADOW_NODES) <= most + 9);
    }
    EXPECT_TRUE(evicted(disk.object, &recently) > 0);
    EXPECT_TRUE((size_t)count_of(sim, QR_EVENT_NODE_RECLAIM) >= most);
    qr_object_put(disk.object);
    EXPECT_EQ(count_of(sim, QR_SHADOW_NODES), 0);
    sim_shutdown(sim);
}
