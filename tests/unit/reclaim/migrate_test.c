/* SPDX-License-Identifier: MIT */
/*
 * Frames in use move: contents, entries, counts and accounts stay what they were, under
 * every seed and beside threads that use the memory meanwhile.
 */
#include "harness.h"

#include <quire/fault.h>
#include <quire/reclaim.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "reclaim/migrate.h"
#include "sim.h"
#include "space/vm.h"

static struct qr_frame *
frame_at(struct sim *sim, struct qr_space *space, size_t page)
{
    struct qr_frame *frame = NULL;

    ASSERT_EQ(qr_space_get_frame(space, sim_page(page), QR_ACCESS_READ, false, &frame), QR_OK);
    qr_frame_put(sim_frames(sim), frame);
    return frame;
}

static struct qr_frame *
target_of(struct sim *sim)
{
    struct qr_frame *target = qr_frame_alloc(sim_frames(sim), QR_ALLOC_MOVABLE);

    ASSERT_TRUE(target != NULL);
    return target;
}

static uint64_t
load(size_t page)
{
    uint64_t value = 0;

    EXPECT_EQ(sim_load(sim_page(page), &value, sizeof(value)), SIM_OK);
    return value;
}

static void
store(size_t page, uint64_t value)
{
    EXPECT_EQ(sim_store(sim_page(page), &value, sizeof(value)), SIM_OK);
}

TEST(migrate, a_private_frame_keeps_its_contents_and_rights)
{
    sim_for_each_mmu(mmu)
    {
        struct sim *sim = sim_boot((struct sim_options){.mmu = mmu, .seed = test_seed()});
        struct qr_space *space = sim_space(sim);

        ASSERT_EQ(sim_map(sim, 0, 2, SIM_W), QR_OK);
        store(0, 0x1234);
        struct qr_frame *old = frame_at(sim, space, 0);
        struct qr_frame *target = target_of(sim);

        ASSERT_EQ(qr_frame_migrate(sim_vm(sim), old, target), QR_OK);
        EXPECT_TRUE(frame_at(sim, space, 0) == target);
        EXPECT_EQ(qr_frame_type(old), QR_FRAME_FREE);
        EXPECT_EQ(load(0), 0x1234); /* a stale TLB entry would fail the machine */
        store(0, 0x5678);
        EXPECT_EQ(load(0), 0x5678);
        EXPECT_EQ(qr_counter_read(qr_frames_counters(sim_frames(sim)), QR_EVENT_MIGRATE), 1);
        sim_validate(sim);
        sim_shutdown(sim);
    }
}

/* Pages 0 to QR_MOVE_RUN - 1, of which `pinned` has a reference more, in a space on two CPUs. */
static unsigned
move_neighbours(struct sim *sim, size_t pinned, uint64_t *out_interrupts)
{
    struct qr_space *space = sim_space(sim);
    struct qr_move moves[QR_MOVE_RUN];

    ASSERT_EQ(sim_map(sim, 0, QR_MOVE_RUN, SIM_W), QR_OK);
    for (size_t page = 0; page < QR_MOVE_RUN; page++) {
        store(page, page + 1);
        moves[page] = (struct qr_move){frame_at(sim, space, page), target_of(sim), false};
    }
    sim_enter(sim, 1);
    sim_use(sim, space);
    for (size_t page = 0; page < QR_MOVE_RUN; page++)
        EXPECT_EQ(load(page), page + 1);
    sim_enter(sim, 0);
    if (pinned < QR_MOVE_RUN)
        qr_frame_get(moves[pinned].frame);
    uint64_t before = sim_stats(sim).ipis_sent;
    unsigned moved = qr_pages_migrate(sim_vm(sim), moves, QR_MOVE_RUN);

    *out_interrupts = sim_stats(sim).ipis_sent - before;
    for (size_t page = 0; page < QR_MOVE_RUN; page++) {
        EXPECT_EQ(moves[page].moved, page != pinned);
        EXPECT_TRUE(frame_at(sim, space, page) ==
                    (page != pinned ? moves[page].target : moves[page].frame));
    }
    if (pinned < QR_MOVE_RUN) {
        qr_frame_put(sim_frames(sim), moves[pinned].frame);
        qr_frame_put(sim_frames(sim), moves[pinned].target);
    }
    for (unsigned cpu = 2; cpu-- > 0;) {
        sim_enter(sim, cpu);
        for (size_t page = 0; page < QR_MOVE_RUN; page++) {
            EXPECT_EQ(load(page), page + 1); /* a stale TLB entry would fail the machine */
            store(page, page + 1);
        }
    }
    sim_validate(sim);
    return moved;
}

TEST(migrate, neighbours_move_with_one_flush)
{
    sim_for_each_mmu(mmu)
    {
        const struct sim_options options = {.mmu = mmu, .seed = test_seed(), .cpus = 2};
        struct sim *sim = sim_boot(options);
        uint64_t interrupts;

        EXPECT_EQ(move_neighbours(sim, SIZE_MAX, &interrupts), QR_MOVE_RUN);
        EXPECT_LE(interrupts, 1u);
        sim_shutdown(sim);
        sim = sim_boot(options);
        EXPECT_EQ(move_neighbours(sim, 0, &interrupts), QR_MOVE_RUN - 1);
        sim_shutdown(sim);
    }
}

/* What a space that no CPU runs has in a page. */
static uint64_t
peek(struct sim *sim, struct qr_space *space, size_t page)
{
    struct qr_frame *frame;
    uint64_t value;

    ASSERT_EQ(qr_space_get_frame(space, sim_page(page), QR_ACCESS_READ, false, &frame), QR_OK);
    void *window = qr_port_window_open(qr_frame_pa(sim_frames(sim), frame));

    memcpy(&value, window, sizeof(value));
    qr_port_window_close(window);
    qr_frame_put(sim_frames(sim), frame);
    return value;
}

TEST(migrate, a_pinned_frame_stays)
{
    struct sim *sim = sim_boot((struct sim_options){.seed = test_seed()});
    struct qr_space *space = sim_space(sim);
    struct qr_space *child;
    struct qr_frame *pinned;

    ASSERT_EQ(sim_map(sim, 0, 1, SIM_W), QR_OK);
    store(0, 2);
    struct qr_frame *target = target_of(sim);

    ASSERT_EQ(qr_space_get_frame(space, sim_page(0), QR_ACCESS_READ, false, &pinned), QR_OK);
    EXPECT_EQ(qr_frame_migrate(sim_vm(sim), pinned, target), QR_ERR_BUSY);
    ASSERT_EQ(qr_space_fork(space, &child), QR_OK);
    EXPECT_EQ(qr_frame_migrate(sim_vm(sim), pinned, target), QR_ERR_BUSY); /* shared, too */
    qr_frame_put(sim_frames(sim), pinned);
    EXPECT_EQ(qr_frame_migrate(sim_vm(sim), pinned, target), QR_OK);
    qr_space_put(child);
    /* The parent's alone again: the entry is read-only until it writes. */
    EXPECT_EQ(qr_frame_migrate(sim_vm(sim), frame_at(sim, space, 0), target_of(sim)), QR_OK);
    EXPECT_EQ(load(0), 2);
    store(0, 3);
    EXPECT_EQ(load(0), 3);
    sim_validate(sim);
    sim_shutdown(sim);
}

/* One move takes the frame from all of its spaces, and each still has a page of its own. */
TEST(migrate, a_frame_that_forks_share_moves_in_every_space)
{
    sim_for_each_mmu(mmu)
    {
        struct sim *sim = sim_boot((struct sim_options){.mmu = mmu, .seed = test_seed()});
        struct qr_space *space[4] = {sim_space(sim)};
        struct qr_counters *counters = qr_frames_counters(sim_frames(sim));

        ASSERT_EQ(sim_map(sim, 0, 2, SIM_W), QR_OK);
        store(0, 0x1234);
        ASSERT_EQ(qr_space_fork(space[0], &space[1]), QR_OK);
        ASSERT_EQ(qr_space_fork(space[0], &space[2]), QR_OK);
        ASSERT_EQ(qr_space_fork(space[1], &space[3]), QR_OK);
        long anon = qr_counter_read(counters, QR_PAGES_ANON);
        struct qr_frame *old = frame_at(sim, space[3], 0);
        struct qr_frame *target = target_of(sim);

        ASSERT_EQ(qr_frame_migrate(sim_vm(sim), old, target), QR_OK);
        EXPECT_EQ(qr_frame_type(old), QR_FRAME_FREE);
        EXPECT_EQ(qr_counter_read(counters, QR_PAGES_ANON), anon);
        for (unsigned i = 0; i < 4; i++)
            EXPECT_TRUE(frame_at(sim, space[i], 0) == target);
        EXPECT_EQ(load(0), 0x1234); /* a stale TLB entry would fail the machine */
        store(0, 0x5678);
        EXPECT_EQ(peek(sim, space[1], 0), 0x1234);
        sim_validate(sim);
        for (unsigned i = 1; i < 4; i++)
            qr_space_put(space[i]);
        EXPECT_EQ(load(0), 0x5678);
        sim_validate(sim);
        sim_shutdown(sim);
    }
}

/* Then no index names every place, so nothing is changed. */
TEST(migrate, a_shared_frame_that_mremap_moved_in_one_space_stays)
{
    struct sim *sim = sim_boot((struct sim_options){.seed = test_seed()});
    struct qr_space *space = sim_space(sim);
    struct qr_space *child;
    const struct qr_remap_request request = {.old_start = sim_page(0),
                                             .old_bytes = QR_PAGE_SIZE,
                                             .new_bytes = QR_PAGE_SIZE,
                                             .flags = QR_REMAP_MAY_MOVE | QR_REMAP_FIXED,
                                             .new_start = sim_page(8)};
    qr_va va;

    ASSERT_EQ(sim_map(sim, 0, 1, SIM_W), QR_OK);
    store(0, 5);
    ASSERT_EQ(qr_space_fork(space, &child), QR_OK);
    ASSERT_EQ(qr_space_remap(space, &request, &va), QR_OK);
    struct qr_frame *frame = frame_at(sim, child, 0);
    struct qr_frame *target = target_of(sim);

    EXPECT_EQ(qr_frame_migrate(sim_vm(sim), frame, target), QR_ERR_BUSY);
    EXPECT_TRUE(frame_at(sim, child, 0) == frame && frame_at(sim, space, 8) == frame);
    qr_space_put(child);
    EXPECT_EQ(qr_frame_migrate(sim_vm(sim), frame, target), QR_OK);
    EXPECT_EQ(load(8), 5);
    sim_validate(sim);
    sim_shutdown(sim);
}

/* Memory that fails is lost to all who share it; not where somebody reads it, or has moved it. */
TEST(migrate, a_shared_frame_is_lost_in_every_space)
{
    struct sim *sim = sim_boot((struct sim_options){.seed = test_seed()});
    struct qr_counters *counters = qr_frames_counters(sim_frames(sim));
    struct qr_space *space = sim_space(sim), *child;
    struct qr_frame *pinned;
    uint64_t value;

    ASSERT_EQ(sim_map(sim, 0, 2, SIM_W), QR_OK);
    store(0, 5);
    store(1, 6);
    ASSERT_EQ(qr_space_fork(space, &child), QR_OK);
    ASSERT_EQ(qr_space_get_frame(child, sim_page(0), QR_ACCESS_READ, false, &pinned), QR_OK);
    EXPECT_EQ(qr_space_retire_page(space, sim_page(0), QR_RETIRE_LOSE), QR_ERR_BUSY);
    EXPECT_EQ(load(0), 5);
    qr_frame_put(sim_frames(sim), pinned);
    long anon = qr_counter_read(counters, QR_PAGES_ANON);
    ASSERT_EQ(qr_space_retire_page(child, sim_page(0), QR_RETIRE_LOSE), QR_OK);
    EXPECT_EQ(qr_counter_read(counters, QR_PAGES_ANON), anon - 1);
    EXPECT_EQ(qr_counter_read(counters, QR_PAGES_CORRUPTED), 1);
    EXPECT_EQ(sim_load(sim_page(0), &value, sizeof(value)), SIM_BUS_IO);
    sim_use(sim, child);
    EXPECT_EQ(sim_store(sim_page(0), &value, sizeof(value)), SIM_BUS_IO);
    EXPECT_EQ(load(1), 6);
    sim_use(sim, space);
    qr_space_put(child);
    EXPECT_EQ(load(1), 6);
    sim_validate(sim);
    qr_frame_put(sim_frames(sim), pinned); /* nobody else would give it back */
    sim_shutdown(sim);
}

/* The space that installed it is gone: whoever has it is looked for. */
TEST(migrate, the_hint_is_checked)
{
    struct sim *sim = sim_boot((struct sim_options){.seed = test_seed()});
    struct qr_space *first = sim_space(sim);
    struct qr_space *parent = sim_space_create(sim);
    struct qr_space *child;

    sim_use(sim, parent);
    ASSERT_EQ(sim_map(sim, 0, 1, SIM_W), QR_OK);
    store(0, 7);
    ASSERT_EQ(qr_space_fork(parent, &child), QR_OK);
    sim_use(sim, child);
    sim_space_destroy(sim, parent);
    struct qr_frame *frame = frame_at(sim, child, 0);
    struct qr_frame *target = target_of(sim);

    EXPECT_EQ(qr_frame_migrate(sim_vm(sim), frame, target), QR_OK);
    EXPECT_TRUE(frame_at(sim, child, 0) == target);
    EXPECT_EQ(load(0), 7);
    store(0, 8);
    EXPECT_TRUE(frame_at(sim, child, 0) == target);
    sim_use(sim, first);
    qr_space_put(child);
    sim_validate(sim);
    sim_shutdown(sim);
}

TEST(migrate, a_page_of_an_object_moves_under_its_mappings)
{
    struct sim *sim = sim_boot((struct sim_options){.seed = test_seed()});
    struct qr_object *object;
    struct qr_map_request request = {.hint = sim_page(0),
                                     .bytes = 2 << QR_PAGE_SHIFT,
                                     .prot = SIM_W,
                                     .flags = QR_MAP_FIXED,
                                     .region_flags = QR_REGION_SHARED};
    struct qr_frame *old, *now;
    qr_va va;

    ASSERT_EQ(
        qr_object_create(sim_objects(sim), &qr_pager_memory, NULL, 2 << QR_PAGE_SHIFT, &object),
        QR_OK);
    request.object = object;
    ASSERT_EQ(qr_space_map(sim_space(sim), &request, &va), QR_OK);
    store(0, 11);
    store(1, 12);
    ASSERT_EQ(qr_object_get_page(object, 1, QR_PAGE_CACHED, &old), QR_OK);
    struct qr_frame *target = target_of(sim);

    EXPECT_EQ(qr_frame_migrate(sim_vm(sim), old, target), QR_ERR_BUSY); /* our reference */
    qr_frame_put(sim_frames(sim), old);
    EXPECT_EQ(qr_frame_migrate(sim_vm(sim), old, target), QR_OK);
    ASSERT_EQ(qr_object_get_page(object, 1, QR_PAGE_CACHED, &now), QR_OK);
    EXPECT_TRUE(now == target);
    qr_frame_put(sim_frames(sim), now);
    EXPECT_EQ(load(1), 12);
    EXPECT_EQ(load(0), 11);
    store(1, 13);
    EXPECT_EQ(load(1), 13);
    sim_validate(sim);
    qr_object_put(object);
    sim_shutdown(sim);
}

/* ---- compaction -------------------------------------------------------------- */

static void
zone_figures(struct sim *sim, size_t *out_large, size_t *out_free, unsigned *out_unusable)
{
    struct qr_zone_stats stats;

    *out_large = 0;
    *out_free = 0;
    *out_unusable = 0;
    for (unsigned i = 0; i < qr_frames_zone_count(sim_frames(sim)); i++) {
        if (qr_frames_zone_managed(sim_frames(sim), i) == 0)
            continue;
        qr_frames_zone_stats(sim_frames(sim), i, &stats);
        for (unsigned o = 9; o < 31; o++)
            *out_large += stats.free_blocks[o] << (o - 9);
        *out_free += stats.free;
        if (qr_zone_unusable(&stats, 9) > *out_unusable)
            *out_unusable = qr_zone_unusable(&stats, 9);
    }
}

enum { LOADED_FRAMES = 16 * 512, LOADED_PAGES = 13 * 512 };

/* Compact, say what came of it, and expect nearly as many blocks as the free memory could be. */
static void
compact_measured(struct sim *sim)
{
    struct qr_compact_result result;
    size_t large, free_frames, large_after, free_after;
    unsigned unusable, unusable_after;

    qr_frames_drain(sim_frames(sim));
    zone_figures(sim, &large, &free_frames, &unusable);
    qr_compact(sim_vm(sim), &(struct qr_compact_request){.node = -1, .min_free = 1}, &result);
    zone_figures(sim, &large_after, &free_after, &unusable_after);
    printf("     large blocks %zu -> %zu of %zu possible, unusable %u -> %u per mille, "
           "%zu moved, %zu stuck\n",
           large, large_after, free_after / 512, unusable, unusable_after, result.moved,
           result.stuck);
    EXPECT_EQ(free_after, free_frames);
    EXPECT_GT(unusable, 500);
    EXPECT_LT(unusable_after, 150);
    EXPECT_GE(large_after + 1, free_after / 512);
}

/*
 * Nearly all memory is touched, then three pages of four are dropped at random: hardly a
 * block is whole.  Compaction makes as many blocks as the free memory has room for.
 */
TEST(compact, blocks_come_back_after_a_random_load)
{
    struct sim *sim = sim_boot((struct sim_options){
        .frames = LOADED_FRAMES, .seed = test_seed(), .features = SIM_NO_VALIDATE});
    unsigned char *kept = calloc(LOADED_PAGES, 1);
    uint64_t random = test_seed();

    ASSERT_EQ(sim_map(sim, 0, LOADED_PAGES, SIM_W), QR_OK);
    for (size_t i = 0; i < LOADED_PAGES; i++)
        store(i, i + 1);
    for (size_t i = 0; i < LOADED_PAGES; i++) {
        kept[i] = test_random(&random) % 4 == 0;
        if (!kept[i])
            ASSERT_EQ(
                qr_space_advise(sim_space(sim), sim_page(i), QR_PAGE_SIZE, QR_ADVICE_DONT_NEED),
                QR_OK);
    }
    compact_measured(sim);
    for (size_t i = 0; i < LOADED_PAGES; i++) {
        if (kept[i])
            ASSERT_EQ(load(i), i + 1);
    }
    free(kept);
    sim_validate(sim);
    sim_shutdown(sim);
}

/*
 * Pages and runs of pages come and go at random for COMPACT_STEPS steps, with kernel memory in
 * between; then two of three that are left are dropped, and a child shares the rest.
 */
TEST(compact, blocks_come_back_after_a_long_random_load)
{
    const char *setting = getenv("COMPACT_STEPS");
    size_t steps = setting != NULL ? strtoul(setting, NULL, 10) : 20000;
    struct sim *sim = sim_boot((struct sim_options){
        .frames = LOADED_FRAMES, .seed = test_seed(), .features = SIM_NO_VALIDATE});
    struct qr_space *child = NULL;
    uint64_t *value = calloc(LOADED_PAGES, sizeof(*value));
    void *block[64] = {NULL};
    uint64_t random = test_seed();

    ASSERT_EQ(sim_map(sim, 0, LOADED_PAGES, SIM_W), QR_OK);
    for (size_t i = 0; i < steps; i++) {
        uint64_t draw = test_random(&random);
        size_t page = (size_t)(draw >> 8) % LOADED_PAGES;
        size_t pages = draw % 8 == 0 ? 1 + (size_t)(draw >> 40) % 64 : 1;
        bool drop = (draw >> 32) % 3 == 0;

        pages = pages < LOADED_PAGES - page ? pages : LOADED_PAGES - page;
        if (drop)
            ASSERT_EQ(qr_space_advise(sim_space(sim), sim_page(page), pages << QR_PAGE_SHIFT,
                                      QR_ADVICE_DONT_NEED),
                      QR_OK);
        for (size_t at = page; at < page + pages; at++) {
            value[at] = drop ? 0 : i + 1;
            if (!drop)
                store(at, i + 1);
        }
        void **slot = &block[draw >> 50 & 63];

        qr_kfree(sim_heap(sim), *slot);
        *slot = qr_kmalloc(sim_heap(sim), 64u << (draw >> 45 & 7), 0);
    }
    for (size_t i = 0; i < LOADED_PAGES; i++) {
        if (test_random(&random) % 3 == 0)
            continue;
        ASSERT_EQ(qr_space_advise(sim_space(sim), sim_page(i), QR_PAGE_SIZE, QR_ADVICE_DONT_NEED),
                  QR_OK);
        value[i] = 0;
    }
    ASSERT_EQ(qr_space_fork(sim_space(sim), &child), QR_OK); /* everything is shared now */
    compact_measured(sim);
    for (size_t i = 0; i < LOADED_PAGES; i++)
        ASSERT_EQ(load(i), value[i]);
    sim_validate(sim);
    qr_space_put(child);
    for (size_t i = 0; i < QR_ARRAY_COUNT(block); i++)
        qr_kfree(sim_heap(sim), block[i]);
    free(value);
    sim_shutdown(sim);
}

/* ---- beside threads ------------------------------------------------------------ */

enum { SHARE = 40, OBJECT_PAGES = 8, WORKERS = 3 };

struct world {
    struct sim *sim;
    struct qr_space *space;
    struct qr_object *object;
    unsigned rounds;
    _Atomic unsigned wrong;
    _Atomic size_t moved;
    struct worker {
        struct world *world;
        uint64_t random;
        size_t first; /* of its own SHARE pages */
        uint64_t value[SHARE];
        struct qr_space *child; /* NULL, or forked when its pages held `then` */
        uint64_t then[SHARE];
    } workers[WORKERS];
    uint64_t random;
};

/* The last child's memory is what it was at the fork; a new one takes its place. */
static void
worker_fork(struct worker *w)
{
    for (size_t page = 0; w->child != NULL && page < SHARE; page += 5) {
        if (peek(w->world->sim, w->child, w->first + page) != w->then[page])
            atomic_fetch_add(&w->world->wrong, 1);
    }
    if (w->child != NULL)
        qr_space_put(w->child);
    w->child = NULL;
    if (w->first / SHARE == WORKERS - 1) /* shared memory: no child has its own */
        return;
    memcpy(w->then, w->value, sizeof(w->then));
    if (qr_space_fork(w->world->space, &w->child) != QR_OK)
        w->child = NULL;
}

static void
worker_body(void *context)
{
    struct worker *w = context;

    for (unsigned i = 0; i < w->world->rounds; i++) {
        size_t page = test_random(&w->random) % SHARE;
        uint64_t value = 0;

        switch (test_random(&w->random) % 8) {
        case 0:
            (void)!qr_space_advise(w->world->space, sim_page(w->first + page), QR_PAGE_SIZE,
                                   QR_ADVICE_DONT_NEED);
            if (w->first / SHARE != WORKERS - 1) /* shared memory stays */
                w->value[page] = 0;
            break;
        case 1:
            worker_fork(w);
            break;
        case 2:
        case 3:
        case 4:
            value = w->first << 32 | (i + 1);
            if (sim_store(sim_page(w->first + page), &value, sizeof(value)) == SIM_OK)
                w->value[page] = value;
            break;
        default:
            if (sim_load(sim_page(w->first + page), &value, sizeof(value)) == SIM_OK &&
                value != w->value[page])
                atomic_fetch_add(&w->world->wrong, 1);
        }
    }
}

/* Any frame of the machine, whatever it is at the moment; or one of the workers' pages. */
static struct qr_frame *
mover_pick(struct world *world)
{
    struct qr_frames *frames = sim_frames(world->sim);
    struct qr_frame *frame;
    uint64_t random = test_random(&world->random);
    size_t page = (size_t)(random >> 8) % (SHARE * (WORKERS - 1));

    if (random % 2 == 0)
        return qr_frame_find(frames,
                             qr_pfn_of((16u << (20 - QR_PAGE_SHIFT)) + (random >> 8) % 1024));
    if (qr_space_get_frame(world->space, sim_page(page), QR_ACCESS_READ, false, &frame) != QR_OK)
        return NULL;
    qr_frame_put(frames, frame);
    return frame;
}

static void
mover_body(void *context)
{
    struct world *world = context;
    struct qr_frames *frames = sim_frames(world->sim);
    struct qr_compact_result result;

    for (unsigned i = 0; i < world->rounds; i++) {
        struct qr_frame *frame = mover_pick(world);
        struct qr_frame *target = qr_frame_alloc(frames, QR_ALLOC_MOVABLE | QR_ALLOC_NO_REPORT);

        enum qr_status status = QR_ERR_BUSY;

        if (frame != NULL && target != NULL && frame != target)
            status = qr_frame_migrate(sim_vm(world->sim), frame, target);
        if (status == QR_OK)
            atomic_fetch_add(&world->moved, 1);
        else if (target != NULL && status == QR_ERR_BUSY)
            qr_frame_put(frames, target);
        if (i % 32 == 31)
            qr_compact(sim_vm(world->sim), &(struct qr_compact_request){.node = -1, .min_free = 1},
                       &result);
    }
}

static size_t
world_run(struct sim_options options, enum sim_run_mode mode, unsigned rounds)
{
    struct world world = {.rounds = rounds, .random = options.seed};

    if (mode == SIM_RUN_THREADS)
        options.features |= SIM_NO_BROADCAST;
    world.sim = sim_boot(options);
    world.space = sim_space(world.sim);
    ASSERT_EQ(sim_map(world.sim, 0, SHARE * (WORKERS - 1), SIM_W), QR_OK);
    ASSERT_EQ(qr_object_create(sim_objects(world.sim), &qr_pager_memory, NULL,
                               SHARE << QR_PAGE_SHIFT, &world.object),
              QR_OK);
    struct qr_map_request request = {.hint = sim_page(SHARE * (WORKERS - 1)),
                                     .bytes = SHARE << QR_PAGE_SHIFT,
                                     .prot = SIM_W,
                                     .flags = QR_MAP_FIXED,
                                     .region_flags = QR_REGION_SHARED,
                                     .object = world.object};
    qr_va va;

    ASSERT_EQ(qr_space_map(world.space, &request, &va), QR_OK);
    for (unsigned i = 0; i < WORKERS; i++) {
        struct worker *w = &world.workers[i];

        *w = (struct worker){.world = &world, .random = options.seed * 7 + i, .first = i * SHARE};
        sim_spawn(world.sim, mode == SIM_RUN_THREADS ? i : SIM_ANY_CPU, "worker", worker_body, w);
    }
    sim_spawn(world.sim, mode == SIM_RUN_THREADS ? WORKERS : SIM_ANY_CPU, "mover", mover_body,
              &world);
    sim_run(world.sim, mode);
    for (unsigned i = 0; i < WORKERS; i++) {
        if (world.workers[i].child != NULL)
            qr_space_put(world.workers[i].child);
    }
    EXPECT_EQ(atomic_load(&world.wrong), 0);
    sim_validate(world.sim);
    size_t moved = atomic_load(&world.moved);

    qr_object_put(world.object);
    sim_shutdown(world.sim);
    return moved;
}

TEST(migrate, threads_see_their_memory_under_every_seed)
{
    uint64_t seeds = sim_seeds(40);
    size_t moved = 0;

    for (uint64_t i = 0; i < seeds; i++) {
        uint64_t seed = test_seed() + i;

        moved += world_run(
            (struct sim_options){.seed = seed,
                                 .cpus = 2 + (unsigned)(seed % 3),
                                 .asids = seed % 2 != 0 ? 5 + 2 * (unsigned)(seed % 3) : 0,
                                 .features = SIM_NO_VALIDATE |
                                             (seed % 4 == 0 ? (unsigned)SIM_SPECULATE : 0)},
            SIM_RUN_SEEDED, 80);
    }
    EXPECT_GT(moved, seeds / 4);
}

TEST_THREADS(migrate, threads_see_their_memory_under_real_threads)
{
    size_t moved = 0;

    /* On a busy machine one thread may be through before the next begins. */
    for (uint64_t i = 0; i < 20 && moved == 0; i++)
        moved = world_run((struct sim_options){.seed = test_seed() + i,
                                               .cpus = WORKERS + 1,
                                               .features = SIM_NO_VALIDATE},
                          SIM_RUN_THREADS, 4000);
    EXPECT_GT(moved, 0);
}
