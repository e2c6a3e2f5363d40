/* SPDX-License-Identifier: MIT */
/*
 * Equal pages become one, and nobody can tell: contents stay what programs wrote, whatever is
 * merged, forked, unmapped and refused meanwhile.
 */
#include "harness.h"

#include <quire/fault.h>
#include <quire/merge.h>

#include <stdio.h>
#include <string.h>

#include "sim.h"
#include "space/vm.h"

struct scene {
    struct sim *sim;
    struct qr_space *space;
    struct qr_merge *merge;
};

static void
scene_open(struct scene *scene, struct sim_options options)
{
    if (options.seed == 0)
        options.seed = test_seed();
    scene->sim = sim_boot(options);
    scene->space = sim_space(scene->sim);
    ASSERT_EQ(qr_merge_create(sim_vm(scene->sim), &scene->merge), QR_OK);
}

static void
scene_validate(struct scene *scene)
{
    char message[128];

    sim_validate(scene->sim);
    if (!qr_merge_validate(scene->merge, message, sizeof(message)))
        sim_fail("%s", message);
}

static void
scene_close(struct scene *scene)
{
    scene_validate(scene);
    qr_space_clear(scene->space);
    EXPECT_EQ(qr_merge_destroy(scene->merge), 0);
    sim_shutdown(scene->sim);
}

static enum qr_status
advise(struct scene *scene, size_t page, size_t count, enum qr_advice advice)
{
    return qr_space_advise(scene->space, sim_page(page), count << QR_PAGE_SHIFT, advice);
}

/* So many mergeable pages from page 0 on. */
static void
scene_map(struct scene *scene, size_t count)
{
    ASSERT_EQ(sim_map(scene->sim, 0, count, SIM_W), QR_OK);
    ASSERT_EQ(advise(scene, 0, count, QR_ADVICE_MERGEABLE), QR_OK);
}

static void
scan_rounds(struct scene *scene, unsigned rounds)
{
    while (rounds-- > 0)
        (void)qr_merge_scan(scene->merge, SIZE_MAX);
}

static struct qr_merge_stats
stats_of(struct scene *scene)
{
    struct qr_merge_stats stats;

    qr_merge_stats(scene->merge, &stats);
    return stats;
}

static struct qr_frame *
frame_at(struct scene *scene, struct qr_space *space, size_t page)
{
    struct qr_frame *frame = NULL;

    ASSERT_EQ(qr_space_get_frame(space, sim_page(page), QR_ACCESS_READ, false, &frame), QR_OK);
    qr_frame_put(sim_frames(scene->sim), frame);
    return frame;
}

/* What a space that no CPU runs has in a page. */
static uint64_t
peek(struct scene *scene, struct qr_space *space, size_t page)
{
    struct qr_frame *frame;
    uint64_t value;

    ASSERT_EQ(qr_space_get_frame(space, sim_page(page), QR_ACCESS_READ, false, &frame), QR_OK);
    void *window = qr_port_window_open(qr_frame_pa(sim_frames(scene->sim), frame));

    memcpy(&value, window, sizeof(value));
    qr_port_window_close(window);
    qr_frame_put(sim_frames(scene->sim), frame);
    return value;
}

static long
counter(struct scene *scene, enum qr_counter which)
{
    return qr_counter_read(qr_frames_counters(sim_frames(scene->sim)), which);
}

/* ---- Merging ----------------------------------------------------------------------- */

TEST(merge, equal_pages_show_one_frame)
{
    static const uint64_t values[] = {7, 7, 9, 7, 9, 11, 0};

    sim_for_each_mmu(mmu)
    {
        struct scene scene;

        scene_open(&scene, (struct sim_options){.mmu = mmu});
        scene_map(&scene, QR_ARRAY_COUNT(values));
        for (size_t i = 0; i < QR_ARRAY_COUNT(values); i++)
            sim_write(scene.sim, i, values[i]);
        struct sim_usage before = sim_usage(scene.sim);

        scan_rounds(&scene, 1);
        EXPECT_EQ(stats_of(&scene).shared, 0); /* they might change again */
        EXPECT_EQ(stats_of(&scene).changing, QR_ARRAY_COUNT(values));
        scan_rounds(&scene, 1);
        EXPECT_EQ(stats_of(&scene).shared, 2);
        EXPECT_EQ(stats_of(&scene).sharing, 3);
        EXPECT_EQ(stats_of(&scene).unshared, 2);
        EXPECT_EQ(stats_of(&scene).changing, 0);
        EXPECT_EQ(stats_of(&scene).full_scans, 2);
        EXPECT_EQ(qr_space_merged_pages(scene.space), 5);
        EXPECT_LE(sim_usage(scene.sim).frames, before.frames + 2 - 3); /* two slabs */
        EXPECT_TRUE(frame_at(&scene, scene.space, 0) == frame_at(&scene, scene.space, 3));
        EXPECT_TRUE(frame_at(&scene, scene.space, 2) == frame_at(&scene, scene.space, 4));
        EXPECT_EQ(qr_frame_type(frame_at(&scene, scene.space, 0)), QR_FRAME_MERGED);
        EXPECT_EQ(qr_frame_type(frame_at(&scene, scene.space, 5)), QR_FRAME_ANON);
        for (size_t i = 0; i < QR_ARRAY_COUNT(values); i++)
            EXPECT_EQ(sim_read(scene.sim, i), values[i]); /* a stale TLB entry would fail */
        scene_close(&scene);
    }
}

TEST(merge, a_store_copies_and_the_others_stay)
{
    struct scene scene;

    scene_open(&scene, (struct sim_options){.frames = 0});
    scene_map(&scene, 3);
    for (size_t i = 0; i < 3; i++)
        sim_write(scene.sim, i, 5);
    scan_rounds(&scene, 2);
    EXPECT_EQ(stats_of(&scene).sharing, 2);
    sim_write(scene.sim, 0, 6);
    EXPECT_EQ(counter(&scene, QR_EVENT_COW_MERGED), 1);
    EXPECT_EQ(stats_of(&scene).sharing, 1);
    EXPECT_EQ(sim_read(scene.sim, 1), 5);
    sim_write(scene.sim, 1, 7);
    EXPECT_EQ(stats_of(&scene).sharing, 0);
    EXPECT_EQ(stats_of(&scene).shared, 1);
    EXPECT_EQ(sim_read(scene.sim, 2), 5);
    sim_write(scene.sim, 2, 8); /* the last one copies too: others may be about to join it */
    EXPECT_EQ(counter(&scene, QR_EVENT_COW_MERGED), 3);
    EXPECT_EQ(stats_of(&scene).shared, 0);
    EXPECT_EQ(counter(&scene, QR_PAGES_MERGE_MAPS), 0);
    scene_close(&scene);
}

TEST(merge, who_comes_later_joins_at_once)
{
    struct scene scene;

    scene_open(&scene, (struct sim_options){.frames = 0});
    scene_map(&scene, 4);
    sim_write(scene.sim, 0, 5);
    sim_write(scene.sim, 1, 5);
    scan_rounds(&scene, 2);
    sim_write(scene.sim, 3, 5);
    scan_rounds(&scene, 1);
    EXPECT_TRUE(frame_at(&scene, scene.space, 0) == frame_at(&scene, scene.space, 3));
    EXPECT_EQ(stats_of(&scene).sharing, 2);
    scene_close(&scene);
}

TEST(merge, pages_that_change_are_left_alone)
{
    struct scene scene;

    scene_open(&scene, (struct sim_options){.frames = 0});
    scene_map(&scene, 4);
    for (uint64_t round = 1; round < 6; round++) {
        for (size_t i = 0; i < 4; i++)
            sim_write(scene.sim, i, round);
        scan_rounds(&scene, 1);
        EXPECT_EQ(stats_of(&scene).shared, 0);
        EXPECT_EQ(stats_of(&scene).changing, 4);
    }
    scene_close(&scene);
}

TEST(merge, only_what_was_advised_and_is_private)
{
    struct scene scene;

    scene_open(&scene, (struct sim_options){.frames = 0});
    ASSERT_EQ(sim_map(scene.sim, 0, 2, SIM_W), QR_OK);
    ASSERT_EQ(sim_map_shared(scene.sim, 2, 2, SIM_W), QR_OK);
    ASSERT_EQ(advise(&scene, 2, 2, QR_ADVICE_MERGEABLE), QR_OK); /* without effect */
    EXPECT_FALSE(qr_space_find(scene.space, sim_page(2))->flags & QR_REGION_MERGEABLE);
    for (size_t i = 0; i < 4; i++)
        sim_write(scene.sim, i, 5);
    scan_rounds(&scene, 3);
    EXPECT_EQ(stats_of(&scene).shared + stats_of(&scene).unshared, 0);
    scene_close(&scene);
}

TEST(merge, a_reference_more_keeps_the_page)
{
    struct scene scene;
    struct qr_frame *pinned;

    scene_open(&scene, (struct sim_options){.frames = 0});
    scene_map(&scene, 3);
    for (size_t i = 0; i < 3; i++)
        sim_write(scene.sim, i, 5);
    ASSERT_EQ(qr_space_get_frame(scene.space, sim_page(1), QR_ACCESS_WRITE, false, &pinned), QR_OK);
    scan_rounds(&scene, 3);
    EXPECT_EQ(stats_of(&scene).sharing, 1);
    EXPECT_TRUE(frame_at(&scene, scene.space, 1) == pinned);
    EXPECT_TRUE(frame_at(&scene, scene.space, 0) == frame_at(&scene, scene.space, 2));
    qr_frame_put(sim_frames(scene.sim), pinned);
    scan_rounds(&scene, 1);
    EXPECT_EQ(stats_of(&scene).sharing, 2);
    scene_close(&scene);
}

TEST(merge, a_merged_frame_has_so_many_entries_and_no_more)
{
    struct scene scene;

    scene_open(&scene, (struct sim_options){.frames = 0});
    ASSERT_EQ(qr_merge_configure(scene.merge, &(struct qr_merge_settings){.max_sharing = 1}),
              QR_ERR_INVALID);
    ASSERT_EQ(qr_merge_configure(
                  scene.merge, &(struct qr_merge_settings){.max_sharing = 3, .across_nodes = true}),
              QR_OK);
    scene_map(&scene, 9);
    for (size_t i = 0; i < 9; i++)
        sim_write(scene.sim, i, 5);
    scan_rounds(&scene, 4);
    EXPECT_EQ(stats_of(&scene).shared, 3);
    EXPECT_EQ(stats_of(&scene).sharing, 6);
    EXPECT_EQ(stats_of(&scene).copies, 3);
    EXPECT_EQ(stats_of(&scene).chains, 1);
    EXPECT_EQ(qr_merge_configure(
                  scene.merge, &(struct qr_merge_settings){.max_sharing = 4, .across_nodes = true}),
              QR_ERR_BUSY);
    EXPECT_EQ(qr_merge_configure(scene.merge, &(struct qr_merge_settings){.max_sharing = 3}),
              QR_ERR_BUSY);
    ASSERT_EQ(advise(&scene, 0, 9, QR_ADVICE_DONT_NEED), QR_OK);
    EXPECT_EQ(stats_of(&scene).copies, 0);
    EXPECT_EQ(stats_of(&scene).chains, 0);
    EXPECT_EQ(stats_of(&scene).shared, 0);
    scene_close(&scene);
}

TEST(merge, zero_pages_show_the_frame_of_zeroes_if_asked)
{
    struct scene scene;

    scene_open(&scene, (struct sim_options){.frames = 0});
    ASSERT_EQ(qr_merge_configure(scene.merge, &(struct qr_merge_settings){.max_sharing = 256,
                                                                          .across_nodes = true,
                                                                          .use_zero_pages = true}),
              QR_OK);
    scene_map(&scene, 4);
    for (size_t i = 0; i < 4; i++)
        sim_write(scene.sim, i, 0);
    EXPECT_EQ(atomic_load(&scene.space->resident[0]), 4);
    scan_rounds(&scene, 2);
    EXPECT_EQ(stats_of(&scene).shared, 0);
    EXPECT_EQ(atomic_load(&scene.space->resident[0]), 0);
    for (size_t i = 0; i < 4; i++)
        EXPECT_EQ(sim_read(scene.sim, i), 0);
    sim_write(scene.sim, 2, 1);
    EXPECT_EQ(sim_read(scene.sim, 2), 1);
    EXPECT_EQ(sim_read(scene.sim, 3), 0);
    scene_close(&scene);
}

TEST(merge, nodes_keep_their_own_if_asked)
{
    const struct sim_bank banks[] = {{.start = 16u << 20, .bytes = 512 << QR_PAGE_SHIFT},
                                     {.start = (16u << 20) + ((uint64_t)512 << QR_PAGE_SHIFT),
                                      .bytes = 512 << QR_PAGE_SHIFT,
                                      .node = 1}};
    const unsigned nodes[] = {0, 1};
    struct scene scene;

    if (CONFIG_MAX_NODES < 2)
        return;
    for (unsigned across = 0; across < 2; across++) {
        scene_open(&scene, (struct sim_options){
                               .banks = banks, .bank_count = 2, .cpus = 2, .cpu_nodes = nodes});
        ASSERT_EQ(qr_merge_configure(
                      scene.merge,
                      &(struct qr_merge_settings){.max_sharing = 256, .across_nodes = across != 0}),
                  QR_OK);
        scene_map(&scene, 4);
        for (size_t i = 0; i < 4; i++) {
            sim_enter(scene.sim, i % 2);
            sim_use(scene.sim, scene.space);
            sim_write(scene.sim, i, 5);
        }
        sim_enter(scene.sim, 0);
        scan_rounds(&scene, 3);
        EXPECT_EQ(stats_of(&scene).shared, across ? 1 : 2);
        EXPECT_EQ(stats_of(&scene).sharing, across ? 3 : 2);
        scene_close(&scene);
    }
}

TEST(merge, strangers_share_nothing)
{
    struct qr_space *other;
    struct scene scene;

    scene_open(&scene, (struct sim_options){0});
    other = sim_space_create(scene.sim);
    qr_space_set_merge_domain(other, 1);
    for (unsigned i = 0; i < 2; i++) {
        sim_use(scene.sim, i == 0 ? scene.space : other);
        ASSERT_EQ(sim_map(scene.sim, 0, 2, SIM_W), QR_OK);
        ASSERT_EQ(qr_space_advise(i == 0 ? scene.space : other, sim_page(0), 2u << QR_PAGE_SHIFT,
                                  QR_ADVICE_MERGEABLE),
                  QR_OK);
        sim_write(scene.sim, 0, 5);
        sim_write(scene.sim, 1, 5);
    }
    scan_rounds(&scene, 3);
    EXPECT_EQ(stats_of(&scene).shared, 2);
    EXPECT_EQ(stats_of(&scene).sharing, 2);
    EXPECT_NE(frame_at(&scene, scene.space, 0), frame_at(&scene, other, 0));
    scene_validate(&scene);

    /* What is merged stays so; pages that come later find those of the domain. */
    qr_space_set_merge_domain(other, 0);
    sim_write(scene.sim, 0, 6);
    sim_write(scene.sim, 0, 5);
    scan_rounds(&scene, 3);
    EXPECT_EQ(frame_at(&scene, scene.space, 0), frame_at(&scene, other, 0));
    EXPECT_NE(frame_at(&scene, scene.space, 0), frame_at(&scene, other, 1));
    sim_use(scene.sim, scene.space);
    sim_space_destroy(scene.sim, other);
    scene_close(&scene);
}

TEST(merge, huge_pages_are_split_where_a_page_merges)
{
    struct scene scene;

    scene_open(&scene, (struct sim_options){.frames = 4096});
    struct qr_vm *vm = sim_vm(scene.sim);
    size_t pages = qr_vm_huge_bytes(vm) >> QR_PAGE_SHIFT;

    if (pages != 0 && pages <= 512) {
        size_t first = pages - ((SIM_BASE >> QR_PAGE_SHIFT) & (pages - 1));

        qr_vm_set_huge_policy(vm, &(struct qr_huge_policy){.mode = QR_HUGE_ALWAYS});
        ASSERT_EQ(sim_map(scene.sim, first, pages, SIM_W), QR_OK);
        ASSERT_EQ(advise(&scene, first, pages, QR_ADVICE_MERGEABLE), QR_OK);
        for (size_t i = 0; i < pages; i++)
            sim_write(scene.sim, first + i, i == 9 ? 3 : i + 1);
        EXPECT_EQ(atomic_load(&scene.space->large_leaves), 1);
        scan_rounds(&scene, 2);
        EXPECT_EQ(atomic_load(&scene.space->large_leaves), 0);
        EXPECT_EQ(stats_of(&scene).sharing, 1); /* pages 2 and 9 */
        EXPECT_EQ(stats_of(&scene).unshared, pages - 2);
        for (size_t i = 0; i < pages; i++)
            EXPECT_EQ(sim_read(scene.sim, first + i), i == 9 ? 3 : i + 1);
    }
    scene_close(&scene);
}

/* ---- What programs do with merged pages ------------------------------------------------ */

TEST(merge, unmergeable_pages_are_their_own_again)
{
    struct scene scene;
    struct qr_frame *frame;

    scene_open(&scene, (struct sim_options){.frames = 0});
    scene_map(&scene, 6);
    for (size_t i = 0; i < 6; i++)
        sim_write(scene.sim, i, 5);
    scan_rounds(&scene, 2);
    EXPECT_EQ(stats_of(&scene).sharing, 5);
    ASSERT_EQ(sim_protect(scene.sim, 2, 4, SIM_R), QR_OK); /* even what may not be written */
    ASSERT_EQ(advise(&scene, 1, 4, QR_ADVICE_UNMERGEABLE), QR_OK);
    EXPECT_EQ(stats_of(&scene).sharing, 1);
    for (size_t i = 1; i < 5; i++) {
        frame = frame_at(&scene, scene.space, i);
        EXPECT_EQ(qr_frame_type(frame), QR_FRAME_ANON);
        EXPECT_EQ(sim_read(scene.sim, i), 5);
    }
    scan_rounds(&scene, 3);
    EXPECT_EQ(stats_of(&scene).sharing, 1);
    scene_close(&scene);
}

/* Without memory it ends half way, and everything is still there. */
TEST(merge, unmergeable_may_fail_half_way)
{
    unsigned refusal = 0;
    enum qr_status status;

    do {
        struct scene scene;

        scene_open(&scene, (struct sim_options){.frames = 0});
        scene_map(&scene, 6);
        for (size_t i = 0; i < 6; i++)
            sim_write(scene.sim, i, 5);
        scan_rounds(&scene, 2);
        sim_refuse_next(scene.sim, &refusal);
        status = advise(&scene, 0, 6, QR_ADVICE_UNMERGEABLE);
        sim_refuse_nth(scene.sim, 0, SIM_REFUSE_ONCE);
        EXPECT_TRUE(status == QR_OK || status == QR_ERR_AGAIN);
        EXPECT_EQ((qr_space_find(scene.space, sim_page(0))->flags & QR_REGION_MERGEABLE) != 0,
                  status != QR_OK);
        for (size_t i = 0; i < 6; i++)
            EXPECT_EQ(sim_read(scene.sim, i), 5);
        scene_close(&scene);
    } while (status != QR_OK);
    EXPECT_GT(refusal, 5u);
}

/* Every allocation of two rounds and of their undoing is refused once. */
TEST(merge, refused_allocations_only_leave_pages_as_they_are)
{
    unsigned refusal = 0;
    bool refused;

    do {
        struct scene scene;
        size_t before;

        scene_open(&scene, (struct sim_options){.frames = 0});
        scene_map(&scene, 6);
        for (size_t i = 0; i < 6; i++)
            sim_write(scene.sim, i, i / 2);
        before = (size_t)atomic_load(&scene.space->resident[0]);
        sim_refuse_next(scene.sim, &refusal);
        scan_rounds(&scene, 2);
        enum qr_status status = qr_merge_undo(scene.merge);

        refused = sim_refused(scene.sim) != 0;
        sim_refuse_nth(scene.sim, 0, SIM_REFUSE_ONCE);
        scene_validate(&scene);
        if (status != QR_OK) {
            EXPECT_EQ(status, QR_ERR_NO_MEMORY);
            EXPECT_EQ(qr_merge_undo(scene.merge), QR_OK);
        }
        EXPECT_EQ(stats_of(&scene).shared, 0);
        EXPECT_EQ(stats_of(&scene).unshared + stats_of(&scene).changing, 0);
        EXPECT_EQ(atomic_load(&scene.space->resident[0]), (long)before);
        for (size_t i = 0; i < 6; i++)
            EXPECT_EQ(sim_read(scene.sim, i), i / 2);
        scene_close(&scene);
    } while (refused);
    EXPECT_GT(refusal, 5u);
}

TEST(merge, a_fork_has_the_merged_pages_too)
{
    struct scene scene;

    scene_open(&scene, (struct sim_options){.frames = 0});
    scene_map(&scene, 4);
    for (size_t i = 0; i < 4; i++)
        sim_write(scene.sim, i, 5);
    scan_rounds(&scene, 2);
    struct qr_space *child = sim_fork(scene.sim);

    ASSERT_TRUE(child != NULL);
    EXPECT_EQ(qr_space_merged_pages(child), 4);
    EXPECT_EQ(stats_of(&scene).sharing, 7);
    sim_write(scene.sim, 0, 6);
    EXPECT_EQ(peek(&scene, child, 0), 5);
    EXPECT_TRUE(frame_at(&scene, child, 0) == frame_at(&scene, scene.space, 1));
    sim_write(scene.sim, 0, 5);
    scan_rounds(&scene, 1); /* the child's regions are mergeable, too */
    EXPECT_EQ(stats_of(&scene).sharing, 7);
    sim_use(scene.sim, child);
    sim_write(scene.sim, 2, 9);
    EXPECT_EQ(sim_read(scene.sim, 3), 5);
    sim_use(scene.sim, scene.space);
    EXPECT_EQ(sim_read(scene.sim, 2), 5);
    scene_validate(&scene);
    qr_space_clear(scene.space); /* the parent's end leaves the child's pages */
    EXPECT_EQ(peek(&scene, child, 0), 5);
    EXPECT_EQ(peek(&scene, child, 2), 9);
    qr_space_put(child);
    EXPECT_EQ(stats_of(&scene).shared, 0);
    scene_close(&scene);
}

TEST(merge, merged_pages_move_and_change_their_rights)
{
    struct scene scene;
    qr_va va;

    scene_open(&scene, (struct sim_options){.frames = 0});
    scene_map(&scene, 4);
    for (size_t i = 0; i < 4; i++)
        sim_write(scene.sim, i, 5);
    scan_rounds(&scene, 2);
    ASSERT_EQ(qr_space_remap(scene.space,
                             &(struct qr_remap_request){.old_start = sim_page(1),
                                                        .old_bytes = QR_PAGE_SIZE,
                                                        .new_bytes = QR_PAGE_SIZE,
                                                        .flags = QR_REMAP_MAY_MOVE | QR_REMAP_FIXED,
                                                        .new_start = sim_page(9)},
                             &va),
              QR_OK);
    EXPECT_EQ(sim_read(scene.sim, 9), 5);
    EXPECT_EQ(stats_of(&scene).sharing, 3);
    ASSERT_EQ(sim_protect(scene.sim, 2, 4, SIM_R), QR_OK);
    ASSERT_EQ(sim_protect(scene.sim, 2, 4, SIM_W), QR_OK);
    EXPECT_EQ(stats_of(&scene).sharing, 3);
    sim_write(scene.sim, 2, 6);
    sim_write(scene.sim, 9, 7);
    EXPECT_EQ(sim_read(scene.sim, 0), 5);
    EXPECT_EQ(sim_read(scene.sim, 3), 5);
    ASSERT_EQ(advise(&scene, 3, 1, QR_ADVICE_FREE), QR_OK); /* shared pages go at once */
    EXPECT_EQ(sim_read(scene.sim, 3), 0);
    ASSERT_EQ(qr_space_lock_pages(scene.space, sim_page(0), QR_PAGE_SIZE, QR_LOCK_NOW), QR_OK);
    EXPECT_EQ(stats_of(&scene).shared, 0); /* locking writes to what may be written, as in Linux */
    scan_rounds(&scene, 3);
    EXPECT_EQ(sim_read(scene.sim, 0), 5);
    scene_close(&scene);
}

/* A private page of a file is merged like any other, and never with what the file may change. */
TEST(merge, private_copies_of_objects_merge)
{
    struct scene scene;
    struct qr_object *object;

    scene_open(&scene, (struct sim_options){.frames = 0});
    ASSERT_EQ(
        qr_object_create(sim_objects(scene.sim), &qr_pager_memory, NULL, 4 * QR_PAGE_SIZE, &object),
        QR_OK);
    ASSERT_EQ(sim_map_private(scene.sim, 0, 4, SIM_W, object, 0), QR_OK);
    ASSERT_EQ(advise(&scene, 0, 4, QR_ADVICE_MERGEABLE), QR_OK);
    for (size_t i = 0; i < 3; i++)
        sim_write(scene.sim, i, 5);
    EXPECT_EQ(sim_read(scene.sim, 3), 0); /* the object's own */
    scan_rounds(&scene, 2);
    EXPECT_EQ(stats_of(&scene).sharing, 2);
    EXPECT_EQ(stats_of(&scene).unshared, 0);
    qr_object_punch(object, 0, 4); /* private pages stay */
    for (size_t i = 0; i < 3; i++)
        EXPECT_EQ(sim_read(scene.sim, i), 5);
    scene_validate(&scene);
    qr_space_clear(scene.space);
    qr_object_put(object);
    scene_close(&scene);
}

/* ---- Against a naive map ----------------------------------------------------------------- */

enum { MODEL_PAGES = 24, MODEL_SPACES = 3, MODEL_VALUES = 4 };

struct model {
    struct scene scene;
    uint64_t random;
    struct {
        struct qr_space *space; /* NULL: none */
        bool mapped[MODEL_PAGES];
        uint64_t value[MODEL_PAGES];
    } of[MODEL_SPACES];
    size_t merged; /* most at a time */
};

static void
model_check(struct model *model)
{
    for (size_t s = 0; s < MODEL_SPACES; s++) {
        for (size_t page = 0; model->of[s].space != NULL && page < MODEL_PAGES; page++) {
            if (model->of[s].mapped[page])
                EXPECT_EQ(peek(&model->scene, model->of[s].space, page), model->of[s].value[page]);
        }
    }
    scene_validate(&model->scene);
}

/* Map or unmap, advise, store, give up contents. */
static void
model_change(struct model *model, size_t s, size_t page, uint64_t draw)
{
    struct sim *sim = model->scene.sim;
    struct qr_space *space = model->of[s].space;
    uint64_t value = draw >> 8 & (MODEL_VALUES - 1);
    bool *mapped = &model->of[s].mapped[page];

    sim_use(sim, space);
    if (!*mapped) {
        if (sim_map(sim, page, 1, SIM_W) == QR_OK) {
            *mapped = true;
            model->of[s].value[page] = 0;
            (void)!qr_space_advise(space, sim_page(page), QR_PAGE_SIZE, QR_ADVICE_MERGEABLE);
        }
        return;
    }
    switch (draw % 8) {
    case 0:
        *mapped = sim_unmap(sim, page, page + 1) != QR_OK;
        break;
    case 1:
        if (qr_space_advise(space, sim_page(page), QR_PAGE_SIZE, QR_ADVICE_DONT_NEED) == QR_OK)
            model->of[s].value[page] = 0;
        break;
    case 2:
        (void)!qr_space_advise(space, sim_page(page), QR_PAGE_SIZE,
                               draw >> 20 & 1 ? QR_ADVICE_UNMERGEABLE : QR_ADVICE_MERGEABLE);
        break;
    default:
        if (sim_store(sim_page(page), &value, sizeof(value)) == SIM_OK)
            model->of[s].value[page] = value;
    }
}

/* A fork takes the place of space @to, or space @to ends. */
static void
model_fork(struct model *model, size_t from, size_t to)
{
    sim_use(model->scene.sim, model->of[0].space);
    if (to == 0 || from == to)
        return;
    if (model->of[to].space != NULL) {
        sim_unload(model->scene.sim, model->of[to].space);
        sim_use(model->scene.sim, model->of[0].space);
        qr_space_put(model->of[to].space);
        model->of[to].space = NULL;
        return;
    }
    struct qr_space *child;

    if (qr_space_fork(model->of[from].space, &child) != QR_OK)
        return;
    model->of[to] = model->of[from];
    model->of[to].space = child;
}

static void
model_step(struct model *model)
{
    uint64_t draw = test_random(&model->random);
    size_t s = (draw >> 32) % MODEL_SPACES, page = (draw >> 40) % MODEL_PAGES;
    struct qr_merge_stats stats;

    if (model->of[s].space == NULL)
        s = 0;
    switch (draw >> 56 & 15) {
    case 0:
        model_fork(model, s, (draw >> 24) % MODEL_SPACES);
        break;
    case 1:
    case 2:
    case 3:
    case 4:
        (void)qr_merge_scan(model->scene.merge, 1 + (draw & 31));
        break;
    case 5:
        if (draw % 16 == 0)
            (void)!qr_merge_undo(model->scene.merge);
        break;
    default:
        model_change(model, s, page, draw);
    }
    qr_merge_stats(model->scene.merge, &stats);
    if (stats.sharing > model->merged)
        model->merged = stats.sharing;
}

static size_t
model_run(uint64_t seed, unsigned refuse, unsigned steps)
{
    struct model model = {.random = seed};
    const struct qr_merge_settings settings = {.max_sharing = 2 + (unsigned)(seed % 5),
                                               .across_nodes = true,
                                               .use_zero_pages = seed % 2 != 0};

    scene_open(&model.scene, (struct sim_options){.seed = seed,
                                                  .mmu = sim_mmu_by_seed(seed),
                                                  .features = SIM_NO_VALIDATE});
    ASSERT_EQ(qr_merge_configure(model.scene.merge, &settings), QR_OK);
    model.of[0].space = model.scene.space;
    for (unsigned i = 0; i < steps; i++) {
        sim_refuse_randomly(model.scene.sim, refuse);
        model_step(&model);
        sim_refuse_randomly(model.scene.sim, 0);
        if (i % 64 == 63)
            model_check(&model);
    }
    sim_use(model.scene.sim, model.scene.space);
    for (size_t s = 1; s < MODEL_SPACES; s++) {
        if (model.of[s].space != NULL)
            qr_space_put(model.of[s].space);
    }
    scene_close(&model.scene);
    return model.merged;
}

TEST(merge, contents_are_those_of_a_naive_map)
{
    size_t merged = 0;

    for (uint64_t i = 0; i < sim_seeds(12); i++)
        merged += model_run(test_seed() + i, 0, 640);
    EXPECT_GT(merged, 12u);
}

TEST(merge, contents_stay_while_memory_is_refused)
{
    size_t merged = 0;

    for (uint64_t i = 0; i < sim_seeds(12); i++)
        merged += model_run(test_seed() + 1000 + i, 9, 640);
    EXPECT_GT(merged, 6u);
}

/* ---- Beside threads ------------------------------------------------------------------------ */

enum { SHARE = 12, WORKERS = 3 };

struct world {
    struct scene scene;
    unsigned rounds;
    unsigned pages; /* of each worker: SHARE; with fewer, they load and store only */
    _Atomic unsigned wrong;
    _Atomic unsigned done;
    struct worker {
        struct world *world;
        uint64_t random;
        size_t first; /* of its own SHARE pages */
        uint64_t value[SHARE];
    } workers[WORKERS];
};

/* Stores few different values, so that its pages are often merged while it stores. */
static void
worker_body(void *context)
{
    struct worker *w = context;
    struct scene *scene = &w->world->scene;

    for (unsigned i = 0; i < w->world->rounds; i++) {
        uint64_t draw = test_random(&w->random);
        size_t page = (draw >> 8) % w->world->pages;
        qr_va at = sim_page(w->first + page);
        uint64_t value = (draw >> 16) % 3;
        struct qr_space *child;

        switch (w->world->pages < SHARE ? 3 + draw % 13 : draw % 16) {
        case 0:
            if (qr_space_advise(scene->space, at, QR_PAGE_SIZE, QR_ADVICE_DONT_NEED) == QR_OK)
                w->value[page] = 0;
            break;
        case 1:
            (void)!qr_space_advise(scene->space, at, QR_PAGE_SIZE, QR_ADVICE_UNMERGEABLE);
            (void)!qr_space_advise(scene->space, at, QR_PAGE_SIZE, QR_ADVICE_MERGEABLE);
            break;
        case 2:
            if (qr_space_fork(scene->space, &child) == QR_OK) {
                if (peek(scene, child, w->first + page) != w->value[page])
                    atomic_fetch_add(&w->world->wrong, 1);
                qr_space_put(child);
            }
            break;
        case 3:
        case 4:
        case 5:
        case 6:
            if (sim_store(at, &value, sizeof(value)) == SIM_OK)
                w->value[page] = value;
            break;
        default:
            if (sim_load(at, &value, sizeof(value)) == SIM_OK && value != w->value[page])
                atomic_fetch_add(&w->world->wrong, 1);
        }
    }
    atomic_fetch_add(&w->world->done, 1);
}

static void
scanner_body(void *context)
{
    struct world *world = context;

    for (unsigned i = 0; i < world->rounds * 2 || atomic_load(&world->done) < WORKERS; i++) {
        (void)qr_merge_scan(world->scene.merge, 1 + i % 7);
        if (i % 512 == 511)
            (void)!qr_merge_undo(world->scene.merge);
        sim_preempt();
    }
}

static long
world_run(struct sim_options options, enum sim_run_mode mode, unsigned pages, unsigned rounds)
{
    struct world world = {.pages = pages, .rounds = rounds};

    if (mode == SIM_RUN_THREADS)
        options.features |= SIM_NO_BROADCAST;
    scene_open(&world.scene, options);
    sim_set_preemption(world.scene.sim, pages < SHARE ? 2 : 8);
    scene_map(&world.scene, pages * WORKERS);
    for (unsigned i = 0; i < WORKERS; i++) {
        struct worker *w = &world.workers[i];

        *w = (struct worker){.world = &world, .random = options.seed * 7 + i, .first = i * pages};
        sim_spawn(world.scene.sim, mode == SIM_RUN_THREADS ? i : SIM_ANY_CPU, "worker", worker_body,
                  w);
    }
    sim_spawn_kernel(world.scene.sim, mode == SIM_RUN_THREADS ? WORKERS : SIM_ANY_CPU, "scanner",
                     scanner_body, &world);
    sim_run(world.scene.sim, mode);
    EXPECT_EQ(atomic_load(&world.wrong), 0);
    long copied = counter(&world.scene, QR_EVENT_COW_MERGED);

    scene_close(&world.scene);
    return copied;
}

/* Through windows to memory that is not mapped, others run between a look at it and what follows. */
TEST(merge, no_store_is_lost_while_pages_are_compared)
{
    uint64_t seeds = sim_seeds(24);

    for (uint64_t i = 0; i < seeds; i++)
        (void)world_run((struct sim_options){.seed = test_seed() + i,
                                             .frames = 2048,
                                             .direct_limit = (uint64_t)(16u << 20) +
                                                             ((uint64_t)1024 << QR_PAGE_SHIFT),
                                             .cpus = 2 + (unsigned)(i % 3),
                                             .features = SIM_NO_VALIDATE},
                        SIM_RUN_SEEDED, 2, 600);
}

TEST(merge, no_store_is_lost_under_any_seed)
{
    uint64_t seeds = sim_seeds(40);
    long copied = 0;

    for (uint64_t i = 0; i < seeds; i++) {
        uint64_t seed = test_seed() + i;

        copied += world_run(
            (struct sim_options){.seed = seed,
                                 .cpus = 2 + (unsigned)(seed % 3),
                                 .asids = seed % 2 != 0 ? 5 + 2 * (unsigned)(seed % 3) : 0,
                                 .features = SIM_NO_VALIDATE |
                                             (seed % 4 == 0 ? (unsigned)SIM_SPECULATE : 0)},
            SIM_RUN_SEEDED, SHARE, 80);
    }
    EXPECT_GT(copied, (long)seeds);
}

TEST_THREADS(merge, no_store_is_lost_under_real_threads)
{
    long copied = 0;

    /* On a busy machine one thread may be through before the next begins. */
    for (uint64_t i = 0; i < 20 && copied == 0; i++)
        copied = world_run((struct sim_options){.seed = test_seed() + i,
                                                .cpus = WORKERS + 1,
                                                .features = SIM_NO_VALIDATE},
                           SIM_RUN_THREADS, SHARE, 4000);
    EXPECT_GT(copied, 0);
}
