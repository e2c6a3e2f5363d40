/* SPDX-License-Identifier: MIT */
/*
 * Huge pages: large leaves in the tables, single frames behind them.  Run on every
 * MMU; what the oracle of the hosted machine finds stale fails the test.
 */
#include "huge_scene.h"

#include <stdlib.h>
#include <string.h>

/* A region of @count huge pages; each page written with its number plus 1. */
static void
scene_fill(struct scene *scene, size_t count)
{
    ASSERT_EQ(sim_map(scene->sim, 0, count * scene->pages, SIM_W), QR_OK);
    for (size_t page = 0; page < count * scene->pages; page++)
        sim_write(scene->sim, page, page + 1);
    EXPECT_EQ(counter(scene, QR_EVENT_THP_FAULT), (long)count);
    EXPECT_EQ(level_of(scene->space, 0), 1);
}

static void
expect_filled(struct scene *scene, size_t first, size_t last)
{
    for (size_t page = first; page < last; page++)
        EXPECT_EQ(sim_read(scene->sim, page), page + 1);
}

TEST(huge, a_write_maps_a_whole_block)
{
    sim_for_each_mmu(mmu)
    {
        struct scene scene;
        struct qr_space_counts counts;

        if (!scene_boot(&scene, mmu))
            continue;
        scene_fill(&scene, 2);
        qr_space_counts(scene.space, &counts);
        EXPECT_EQ(counts.resident_anon, 2 * scene.pages);
        EXPECT_EQ(counter(&scene, QR_PAGES_ANON), (long)(2 * scene.pages));
        EXPECT_EQ(counter(&scene, QR_PAGES_HUGE_ANON), (long)(2 * scene.pages));
        expect_filled(&scene, 0, 2 * scene.pages);
        sim_validate(scene.sim);
        ASSERT_EQ(sim_unmap(scene.sim, 0, 2 * scene.pages), QR_OK);
        EXPECT_EQ(counter(&scene, QR_PAGES_HUGE_ANON), 0);
        /* What was freed together is whole again: the next one needs no luck. */
        scene_end(&scene);
    }
}

TEST(huge, only_whole_aligned_blocks_of_those_who_may)
{
    struct scene scene;
    struct qr_huge_policy policy = always;

    ASSERT_TRUE(scene_boot(&scene, SIM_MMU_DEFAULT));
    /* Neither end of the region is aligned: one block in the middle. */
    ASSERT_EQ(sim_map(scene.sim, 1, 2 * scene.pages, SIM_W), QR_OK);
    sim_write(scene.sim, 1, 1);
    sim_write(scene.sim, scene.pages + 3, 1);
    sim_write(scene.sim, 2 * scene.pages, 1);
    EXPECT_EQ(level_of(scene.space, 1), 0);
    EXPECT_EQ(level_of(scene.space, scene.pages), 1);
    EXPECT_EQ(level_of(scene.space, 2 * scene.pages), 0);
    ASSERT_EQ(sim_unmap(scene.sim, 1, 1 + 2 * scene.pages), QR_OK);

    policy.mode = QR_HUGE_ADVISED;
    qr_vm_set_huge_policy(sim_vm(scene.sim), &policy);
    ASSERT_EQ(sim_map(scene.sim, 0, 2 * scene.pages, SIM_W), QR_OK);
    ASSERT_EQ(advise(&scene, scene.pages, 2 * scene.pages, QR_ADVICE_HUGE), QR_OK);
    sim_write(scene.sim, 0, 1);
    sim_write(scene.sim, scene.pages, 1);
    EXPECT_EQ(level_of(scene.space, 0), 0);
    EXPECT_EQ(level_of(scene.space, scene.pages), 1);

    qr_vm_set_huge_policy(sim_vm(scene.sim), &always);
    ASSERT_EQ(advise(&scene, 0, 2 * scene.pages, QR_ADVICE_DONT_NEED), QR_OK);
    ASSERT_EQ(advise(&scene, 0, scene.pages, QR_ADVICE_NO_HUGE), QR_OK);
    sim_write(scene.sim, 0, 1);
    EXPECT_EQ(level_of(scene.space, 0), 0);
    qr_space_set_huge_disabled(scene.space, true);
    sim_write(scene.sim, scene.pages, 1);
    EXPECT_EQ(level_of(scene.space, scene.pages), 0);
    scene_end(&scene);
}

TEST(huge, a_read_shows_the_huge_frame_of_zeroes)
{
    sim_for_each_mmu(mmu)
    {
        struct scene scene;
        struct qr_frame *frame;

        if (!scene_boot(&scene, mmu))
            continue;
        ASSERT_EQ(sim_map(scene.sim, 0, 2 * scene.pages, SIM_W), QR_OK);
        EXPECT_EQ(sim_read(scene.sim, 3), 0);
        EXPECT_EQ(sim_read(scene.sim, scene.pages + 3), 0);
        EXPECT_EQ(level_of(scene.space, 0), 1);
        EXPECT_EQ(counter(&scene, QR_EVENT_THP_ZERO), 1);
        EXPECT_EQ(counter(&scene, QR_PAGES_ANON), 0);
        EXPECT_EQ(counter(&scene, QR_PAGES_HUGE_ANON), 0);
        ASSERT_EQ(qr_space_get_frame(scene.space, sim_page(5), QR_ACCESS_READ, false, &frame),
                  QR_OK);
        qr_frame_put(sim_frames(scene.sim), frame);
        sim_validate(scene.sim);
        /* A write gets a block of its own; the neighbour still shows zeroes. */
        sim_write(scene.sim, 3, 7);
        EXPECT_EQ(level_of(scene.space, 3), 1);
        EXPECT_EQ(sim_read(scene.sim, 3), 7);
        EXPECT_EQ(sim_read(scene.sim, 4), 0);
        /* Cutting a leaf of zeroes takes it out. */
        ASSERT_EQ(sim_protect(scene.sim, scene.pages, scene.pages + 2, SIM_R), QR_OK);
        EXPECT_EQ(level_of(scene.space, scene.pages + 3), -1);
        EXPECT_EQ(sim_read(scene.sim, scene.pages), 0);
        scene_end(&scene);
    }
}

/* Each call that reaches into a huge page splits it in place and leaves the rest as it was. */
TEST(huge, what_reaches_into_one_splits_it)
{
    sim_for_each_mmu(mmu)
    {
        struct scene scene;
        struct qr_frame *pinned;
        uint8_t resident[4] = {0};

        if (!scene_boot(&scene, mmu))
            continue;
        const size_t n = scene.pages;

        scene_fill(&scene, 3);
        ASSERT_EQ(qr_space_resident(scene.space, sim_page(n - 2), 4, resident), QR_OK);
        EXPECT_EQ(resident[0] + resident[1] + resident[2] + resident[3], 4);
        /* A pin keeps one page, whatever becomes of the others. */
        ASSERT_EQ(qr_space_get_frame(scene.space, sim_page(10), QR_ACCESS_READ, false, &pinned),
                  QR_OK);
        ASSERT_EQ(sim_unmap(scene.sim, 5, 20), QR_OK);
        EXPECT_EQ(counter(&scene, QR_EVENT_THP_SPLIT_LEAF), 1);
        EXPECT_EQ(*(uint64_t *)sim_ram(scene.sim, qr_frame_pa(sim_frames(scene.sim), pinned)), 11);
        qr_frame_put(sim_frames(scene.sim), pinned);
        EXPECT_EQ(level_of(scene.space, 4), 0);
        EXPECT_EQ(level_of(scene.space, 5), -1);
        expect_filled(&scene, 0, 5);
        expect_filled(&scene, 20, 3 * n);
        sim_validate(scene.sim);

        ASSERT_EQ(sim_protect(scene.sim, n + 1, n + 2, SIM_R), QR_OK);
        EXPECT_EQ(sim_touch(scene.sim, n + 1, QR_ACCESS_WRITE), SIM_SEGV_ACCERR);
        EXPECT_EQ(sim_touch(scene.sim, n + 2, QR_ACCESS_WRITE), SIM_OK);
        sim_validate(scene.sim);

        /* The third is used whole by a call on all of it, and split by one on its end. */
        ASSERT_EQ(sim_protect(scene.sim, 2 * n, 3 * n, SIM_R), QR_OK);
        EXPECT_EQ(level_of(scene.space, 2 * n), 1);
        EXPECT_EQ(sim_touch(scene.sim, 2 * n, QR_ACCESS_WRITE), SIM_SEGV_ACCERR);
        ASSERT_EQ(sim_protect(scene.sim, 2 * n, 3 * n, SIM_W), QR_OK);
        sim_write(scene.sim, 3 * n - 1, 3 * n);
        EXPECT_EQ(level_of(scene.space, 2 * n), 1);
        ASSERT_EQ(advise(&scene, 3 * n - 3, 3 * n, QR_ADVICE_DONT_NEED), QR_OK);
        EXPECT_EQ(level_of(scene.space, 2 * n), 0);
        expect_filled(&scene, 2 * n, 3 * n - 3);
        EXPECT_EQ(sim_read(scene.sim, 3 * n - 1), 0);
        scene_end(&scene);
    }
}

/*
 * A CPU that has the whole in its TLB, under a large entry, loses every part that goes, and nothing of
 * what stays.
 */
TEST(huge, a_part_that_goes_is_gone_for_who_had_the_whole)
{
    sim_for_each_mmu(mmu)
    {
        struct sim_options options = {.mmu = mmu, .seed = test_seed(), .cpus = 2};
        struct scene scene;

        if (!scene_boot_with(&scene, options))
            continue;
        scene_fill(&scene, 1);
        sim_enter(scene.sim, 1);
        sim_use(scene.sim, scene.space);
        expect_filled(&scene, 0, scene.pages);
        sim_enter(scene.sim, 0);
        ASSERT_EQ(qr_space_unmap(scene.space, sim_page(3), QR_PAGE_SIZE), QR_OK);
        ASSERT_EQ(sim_protect(scene.sim, 5, 6, SIM_R), QR_OK);
        ASSERT_EQ(advise(&scene, 7, 8, QR_ADVICE_DONT_NEED), QR_OK);
        sim_enter(scene.sim, 1);
        EXPECT_EQ(sim_touch(scene.sim, 3, QR_ACCESS_READ), SIM_SEGV_MAPERR);
        EXPECT_EQ(sim_touch(scene.sim, 5, QR_ACCESS_WRITE), SIM_SEGV_ACCERR);
        EXPECT_EQ(sim_read(scene.sim, 7), 0);
        expect_filled(&scene, 0, 3);
        expect_filled(&scene, 8, scene.pages);
        sim_enter(scene.sim, 0);
        scene_end(&scene);
    }
}

TEST(huge, a_whole_one_goes_by_dont_need)
{
    struct scene scene;

    ASSERT_TRUE(scene_boot(&scene, SIM_MMU_DEFAULT));
    scene_fill(&scene, 2);
    ASSERT_EQ(advise(&scene, 0, scene.pages, QR_ADVICE_DONT_NEED), QR_OK);
    EXPECT_EQ(counter(&scene, QR_EVENT_THP_SPLIT_LEAF), 0);
    EXPECT_EQ(counter(&scene, QR_PAGES_ANON), (long)scene.pages);
    EXPECT_EQ(sim_read(scene.sim, 0), 0);
    expect_filled(&scene, scene.pages, 2 * scene.pages);
    scene_end(&scene);
}

/*
 *            parent   child    frames
 * fork         [A]     [A]     n, shared
 * child writes [A]     a b a   n + 1; the child's leaf is a table now
 * child exits  [A]             n; the parent's next write takes all of it over
 */
TEST(huge, a_fork_shares_and_a_write_copies_one_page)
{
    sim_for_each_mmu(mmu)
    {
        struct scene scene;

        if (!scene_boot(&scene, mmu))
            continue;
        scene_fill(&scene, 2);
        struct qr_space *child = sim_fork(scene.sim);

        ASSERT_NOT_NULL(child);
        EXPECT_EQ(level_of(child, 0), 1);
        EXPECT_EQ(counter(&scene, QR_PAGES_ANON), (long)(2 * scene.pages));
        sim_use(scene.sim, child);
        expect_filled(&scene, 0, 2 * scene.pages);
        sim_write(scene.sim, 7, 777);
        EXPECT_EQ(counter(&scene, QR_EVENT_COW), 1);
        EXPECT_EQ(level_of(child, 7), 0);
        EXPECT_EQ(level_of(child, scene.pages), 1);
        EXPECT_EQ(level_of(scene.space, 7), 1);
        EXPECT_EQ(counter(&scene, QR_PAGES_ANON), (long)(2 * scene.pages) + 1);
        sim_validate(scene.sim);
        sim_use(scene.sim, scene.space);
        expect_filled(&scene, 0, 2 * scene.pages);
        sim_space_destroy(scene.sim, child);
        sim_write(scene.sim, 7, 8);
        EXPECT_EQ(counter(&scene, QR_EVENT_COW), 1);
        EXPECT_EQ(counter(&scene, QR_EVENT_COW_REUSE), 1);
        EXPECT_EQ(level_of(scene.space, 7), 1);
        expect_filled(&scene, 0, 2 * scene.pages);
        scene_end(&scene);
    }
}

TEST(huge, a_move_takes_the_pages_along)
{
    sim_for_each_mmu(mmu)
    {
        struct scene scene;
        qr_va va;

        if (!scene_boot(&scene, mmu))
            continue;
        const size_t n = scene.pages;

        scene_fill(&scene, 2);
        struct qr_remap_request request = {.old_start = sim_page(0),
                                           .old_bytes = 2 * n << QR_PAGE_SHIFT,
                                           .new_bytes = 2 * n << QR_PAGE_SHIFT,
                                           .flags = QR_REMAP_MAY_MOVE | QR_REMAP_FIXED,
                                           .new_start = sim_page(4 * n + 1)};

        ASSERT_EQ(qr_space_remap(scene.space, &request, &va), QR_OK);
        sim_validate(scene.sim);
        for (size_t page = 0; page < 2 * n; page++)
            EXPECT_EQ(sim_read(scene.sim, 4 * n + 1 + page), page + 1);
        scene_end(&scene);
    }
}

/* Where both places are aligned alike a huge page stays one, also behind tables left empty. */
TEST(huge, a_move_to_a_like_place_splits_nothing)
{
    sim_for_each_mmu(mmu)
    {
        struct scene scene;
        qr_va va;

        if (!scene_boot(&scene, mmu))
            continue;
        const size_t n = scene.pages;
        size_t at = 0;

        scene_fill(&scene, 3);
        long large = atomic_load(&scene.space->large_leaves);

        EXPECT_EQ(large, 3);
        for (unsigned turn = 0; turn < 4; turn++) {
            size_t to = at == 0 ? 5 * n : 0;
            struct qr_remap_request request = {.old_start = sim_page(at),
                                               .old_bytes = 3 * n << QR_PAGE_SHIFT,
                                               .new_bytes = 3 * n << QR_PAGE_SHIFT,
                                               .flags = QR_REMAP_MAY_MOVE | QR_REMAP_FIXED,
                                               .new_start = sim_page(to)};

            ASSERT_EQ(qr_space_remap(scene.space, &request, &va), QR_OK);
            sim_validate(scene.sim);
            EXPECT_EQ(atomic_load(&scene.space->large_leaves), large);
            EXPECT_EQ(sim_touch(scene.sim, at, QR_ACCESS_READ), SIM_SEGV_MAPERR);
            for (size_t page = 0; page < 3 * n; page += 7)
                EXPECT_EQ(sim_read(scene.sim, to + page), page + 1);
            at = to;
        }

        /* A part of one is cut off; the whole ones between the cuts stay whole. */
        struct qr_remap_request part = {.old_start = sim_page(n / 2),
                                        .old_bytes = 2 * n << QR_PAGE_SHIFT,
                                        .new_bytes = 2 * n << QR_PAGE_SHIFT,
                                        .flags = QR_REMAP_MAY_MOVE | QR_REMAP_FIXED,
                                        .new_start = sim_page(6 * n + n / 2)};

        ASSERT_EQ(qr_space_remap(scene.space, &part, &va), QR_OK);
        sim_validate(scene.sim);
        EXPECT_EQ(atomic_load(&scene.space->large_leaves), 1);
        for (size_t page = 0; page < 2 * n; page++)
            EXPECT_EQ(sim_read(scene.sim, 6 * n + n / 2 + page), n / 2 + page + 1);
        EXPECT_EQ(sim_read(scene.sim, 0), 1u);
        EXPECT_EQ(sim_read(scene.sim, 3 * n - 1), 3 * n);
        scene_end(&scene);
    }
}

/* A frame of a huge page moves alone, for whoever must have its memory. */
TEST(huge, migration_splits)
{
    struct scene scene;
    struct qr_frame *frame;

    ASSERT_TRUE(scene_boot(&scene, SIM_MMU_DEFAULT));
    scene_fill(&scene, 1);
    struct qr_frame *target = qr_frame_alloc(sim_frames(scene.sim), QR_ALLOC_MOVABLE);

    ASSERT_NOT_NULL(target);
    ASSERT_EQ(qr_space_get_frame(scene.space, sim_page(9), QR_ACCESS_READ, false, &frame), QR_OK);
    EXPECT_EQ(qr_frame_migrate(sim_vm(scene.sim), frame, target), QR_ERR_BUSY);
    qr_frame_put(sim_frames(scene.sim), frame);
    EXPECT_EQ(qr_frame_migrate(sim_vm(scene.sim), frame, target), QR_OK);
    EXPECT_EQ(level_of(scene.space, 9), 0);
    expect_filled(&scene, 0, scene.pages);
    scene_end(&scene);
}

/* Without a block of frames small pages do, and the counter tells. */
TEST(huge, small_pages_where_memory_is_in_pieces)
{
    struct scene scene;
    static struct qr_frame *held[1024];
    size_t count = 0;

    ASSERT_TRUE(scene_boot(&scene, SIM_MMU_DEFAULT));
    size_t pages = scene.pages < 512 ? scene.pages : 512;
    unsigned order = (unsigned)__builtin_ctzl(pages);
    size_t opened = 2048 / pages;

    /* Every whole block is taken, the reserve's too; of some all frames but one come back. */
    while (count < 1024 && (held[count] = qr_frame_alloc_block(sim_frames(scene.sim), order,
                                                               QR_ALLOC_RECLAIMER | QR_ALLOC_HIGH |
                                                                   QR_ALLOC_NO_REPORT)) != NULL)
        count++;
    ASSERT_TRUE(count > opened && count < 1024);
    for (size_t block = count - opened; block < count; block++) {
        qr_frame_split_block(sim_frames(scene.sim), held[block]);
        for (size_t i = 1; i < pages; i++)
            qr_frame_put(sim_frames(scene.sim), held[block] + i);
    }
    ASSERT_EQ(sim_map(scene.sim, 0, scene.pages, SIM_W), QR_OK);
    sim_write(scene.sim, 0, 1);
    sim_write(scene.sim, 1, 2);
    EXPECT_EQ(level_of(scene.space, 0), 0);
    EXPECT_EQ(counter(&scene, QR_EVENT_THP_FALLBACK), 1);
    EXPECT_EQ(counter(&scene, QR_PAGES_ANON), 2);
    while (count > 0)
        qr_frame_put(sim_frames(scene.sim), held[--count]);
    scene_end(&scene);
}

/* ---- Collapse --------------------------------------------------------------------------- */

static const struct qr_huge_policy never = {QR_HUGE_NEVER, QR_DEFRAG_NEVER, true};

/* One huge page of small ones, every third of them there. */
static void
scene_fill_small(struct scene *scene)
{
    qr_vm_set_huge_policy(sim_vm(scene->sim), &never);
    ASSERT_EQ(sim_map(scene->sim, 0, scene->pages, SIM_W), QR_OK);
    for (size_t page = 0; page < scene->pages; page += 3)
        sim_write(scene->sim, page, page + 1);
    EXPECT_EQ(sim_read(scene->sim, 1), 0);
    EXPECT_EQ(level_of(scene->space, 0), 0);
}

static void
expect_filled_small(struct scene *scene)
{
    for (size_t page = 0; page < scene->pages; page++)
        EXPECT_EQ(sim_read(scene->sim, page), page % 3 == 0 ? page + 1 : 0);
}

TEST(huge, collapse_makes_one_of_small_pages)
{
    sim_for_each_mmu(mmu)
    {
        struct scene scene;
        struct qr_space_counts counts;

        if (!scene_boot(&scene, mmu))
            continue;
        scene_fill_small(&scene);
        ASSERT_EQ(collapse(&scene, 0, scene.pages), QR_OK);
        EXPECT_EQ(level_of(scene.space, 0), 1);
        EXPECT_EQ(counter(&scene, QR_EVENT_THP_COLLAPSE), 1);
        EXPECT_EQ(counter(&scene, QR_PAGES_ANON), (long)scene.pages);
        qr_space_counts(scene.space, &counts);
        EXPECT_EQ(counts.resident_anon, scene.pages);
        expect_filled_small(&scene);
        sim_write(scene.sim, 2, 5);
        sim_validate(scene.sim);
        /* Once more: it is one already. */
        ASSERT_EQ(collapse(&scene, 0, scene.pages), QR_OK);
        EXPECT_EQ(counter(&scene, QR_EVENT_THP_COLLAPSE), 1);
        scene_end(&scene);
    }
}

TEST(huge, what_collapse_leaves_alone)
{
    struct scene scene;
    struct qr_frame *pinned;

    ASSERT_TRUE(scene_boot(&scene, SIM_MMU_DEFAULT));
    scene_fill_small(&scene);
    ASSERT_EQ(qr_space_get_frame(scene.space, sim_page(3), QR_ACCESS_WRITE, false, &pinned), QR_OK);
    EXPECT_EQ(collapse(&scene, 0, scene.pages), QR_ERR_AGAIN);
    EXPECT_EQ(level_of(scene.space, 0), 0);
    qr_frame_put(sim_frames(scene.sim), pinned);

    ASSERT_EQ(advise(&scene, 0, scene.pages, QR_ADVICE_NO_HUGE), QR_OK);
    EXPECT_EQ(collapse(&scene, 0, scene.pages), QR_ERR_INVALID);
    ASSERT_EQ(advise(&scene, 0, scene.pages, QR_ADVICE_HUGE), QR_OK);
    qr_space_set_huge_disabled(scene.space, true);
    EXPECT_EQ(collapse(&scene, 0, scene.pages), QR_ERR_INVALID);
    qr_space_set_huge_disabled(scene.space, false);
    EXPECT_EQ(collapse(&scene, 0, scene.pages / 2), QR_OK);            /* no whole block */
    EXPECT_EQ(collapse(&scene, 0, scene.pages + 1), QR_ERR_NO_MEMORY); /* a hole, in the end */
    EXPECT_EQ(level_of(scene.space, 0), 1);

    /* No page at all, and a region through the middle of a block. */
    ASSERT_EQ(advise(&scene, 0, scene.pages, QR_ADVICE_DONT_NEED), QR_OK);
    EXPECT_EQ(collapse(&scene, 0, scene.pages), QR_ERR_INVALID);
    sim_write(scene.sim, 0, 1);
    ASSERT_EQ(sim_protect(scene.sim, 0, 1, SIM_R), QR_OK);
    EXPECT_EQ(collapse(&scene, 0, scene.pages), QR_ERR_INVALID); /* no region has a whole block */
    EXPECT_EQ(level_of(scene.space, 1), -1);
    scene_end(&scene);
}

/* Frames that a child maps too are copied; the child keeps its own. */
TEST(huge, collapse_parts_from_a_fork)
{
    struct scene scene;

    ASSERT_TRUE(scene_boot(&scene, SIM_MMU_DEFAULT));
    scene_fill_small(&scene);
    struct qr_space *child = sim_fork(scene.sim);

    ASSERT_NOT_NULL(child);
    ASSERT_EQ(collapse(&scene, 0, scene.pages), QR_OK);
    sim_write(scene.sim, 0, 99);
    sim_validate(scene.sim);
    sim_use(scene.sim, child);
    expect_filled_small(&scene);
    sim_use(scene.sim, scene.space);
    sim_space_destroy(scene.sim, child);
    EXPECT_EQ(sim_read(scene.sim, 0), 99);
    scene_end(&scene);
}

TEST(huge, collapse_is_refused_whole)
{
    struct scene scene;
    enum qr_status status;
    unsigned refusal = 0;

    ASSERT_TRUE(scene_boot(&scene, SIM_MMU_DEFAULT));
    scene_fill_small(&scene);
    do {
        sim_refuse_next(scene.sim, &refusal);
        status = collapse(&scene, 0, scene.pages);
        sim_refuse_nth(scene.sim, 0, SIM_REFUSE_ONCE);
        EXPECT_EQ(level_of(scene.space, 0), status == QR_OK);
        expect_filled_small(&scene);
        sim_validate(scene.sim);
    } while (status == QR_ERR_NO_MEMORY);
    EXPECT_EQ(status, QR_OK);
    EXPECT_TRUE(refusal > 1);
    scene_end(&scene);
}

TEST(huge, the_background_scan_goes_through_all_spaces)
{
    struct scene scene;
    struct qr_collapse_scan scan = {.limits = {.max_shared = 256}};

    ASSERT_TRUE(scene_boot(&scene, SIM_MMU_DEFAULT));
    scan.limits.max_none = scene.pages - 1;
    scene_fill_small(&scene);
    struct qr_space *other = sim_space_create(scene.sim);

    sim_use(scene.sim, other);
    ASSERT_EQ(sim_map(scene.sim, scene.pages - 1, 2 * scene.pages + 1, SIM_W), QR_OK);
    for (size_t page = scene.pages - 1; page < 3 * scene.pages; page++)
        sim_write(scene.sim, page, page);
    qr_collapse_scan(sim_vm(scene.sim), &scan, SIZE_MAX);
    EXPECT_EQ(scan.collapsed, 0); /* the policy is NEVER */
    qr_vm_set_huge_policy(sim_vm(scene.sim), &always);
    scan.limits.max_none = scene.pages / 5; /* two thirds of the first space's block are none */
    for (int i = 0; i < 4; i++)
        qr_collapse_scan(sim_vm(scene.sim), &scan, 1); /* a block at a time */
    EXPECT_EQ(scan.collapsed, 2);
    EXPECT_EQ(scan.full_scans, 1);
    EXPECT_EQ(level_of(other, scene.pages), 1);
    EXPECT_EQ(level_of(other, 2 * scene.pages), 1);
    EXPECT_EQ(level_of(other, scene.pages - 1), 0);
    EXPECT_EQ(level_of(scene.space, 0), 0);
    scan.limits.max_none = scene.pages - 1;
    qr_collapse_scan(sim_vm(scene.sim), &scan, SIZE_MAX);
    EXPECT_EQ(scan.collapsed, 3);
    EXPECT_EQ(level_of(scene.space, 0), 1);
    sim_validate(scene.sim);
    sim_use(scene.sim, scene.space);
    expect_filled_small(&scene);
    sim_space_destroy(scene.sim, other);
    scene_end(&scene);
}

/* ---- Refusal ------------------------------------------------------------------------------ */

struct refused {
    const char *name;
    enum qr_status (*call)(struct scene *scene);
    size_t first, last; /* pages that may differ afterwards, of two huge ones */
};

static enum qr_status
call_unmap(struct scene *scene)
{
    return sim_unmap(scene->sim, 3, 5);
}

static enum qr_status
call_protect(struct scene *scene)
{
    return sim_protect(scene->sim, 3, 5, SIM_R);
}

static enum qr_status
call_map(struct scene *scene)
{
    return sim_map(scene->sim, 3, 2, SIM_W);
}

static enum qr_status
call_dont_need(struct scene *scene)
{
    return advise(scene, 3, 5, QR_ADVICE_DONT_NEED);
}

static enum qr_status
call_dont_fork(struct scene *scene)
{
    return advise(scene, 3, 5, QR_ADVICE_DONT_FORK);
}

static enum qr_status
call_lock(struct scene *scene)
{
    return qr_space_lock_pages(scene->space, sim_page(3), 2 << QR_PAGE_SHIFT, QR_LOCK_NOW);
}

static enum qr_status
call_move(struct scene *scene)
{
    struct qr_remap_request request = {.old_start = sim_page(3),
                                       .old_bytes = 2 << QR_PAGE_SHIFT,
                                       .new_bytes = 2 << QR_PAGE_SHIFT,
                                       .flags = QR_REMAP_MAY_MOVE | QR_REMAP_FIXED,
                                       .new_start = sim_page(4 * scene->pages)};
    qr_va va;

    return qr_space_remap(scene->space, &request, &va);
}

static enum qr_status
call_fork(struct scene *scene)
{
    struct qr_space *child;
    enum qr_status status = qr_space_fork(scene->space, &child);

    if (status == QR_OK)
        qr_space_put(child);
    return status;
}

/* A write to a page that a child shares. */
static enum qr_status
call_copy(struct scene *scene)
{
    struct qr_fault fault = {.va = sim_page(3), .access = QR_ACCESS_WRITE};
    enum qr_fault_outcome outcome = qr_fault_handle(scene->space, &fault);

    return outcome == QR_FAULT_NO_MEMORY ? QR_ERR_NO_MEMORY : QR_OK;
}

/* Two huge pages; a child shares them. */
static void
refused_once(const struct refused *row, struct scene *scene, unsigned *refusal,
             enum qr_status *out_status)
{
    scene_fill(scene, 2);
    struct qr_space *child = sim_fork(scene->sim);

    ASSERT_NOT_NULL(child);
    sim_refuse_next(scene->sim, refusal);
    *out_status = row->call(scene);
    uint64_t refused = sim_refused(scene->sim);

    sim_refuse_nth(scene->sim, 0, SIM_REFUSE_ONCE);
    if (*out_status != QR_OK) {
        EXPECT_TRUE(refused > 0);
        expect_filled(scene, row->first, row->last);
    }
    sim_validate(scene->sim);
    expect_filled(scene, 0, row->first);
    expect_filled(scene, row->last, 2 * scene->pages);
    sim_use(scene->sim, child);
    expect_filled(scene, 0, 2 * scene->pages);
    sim_use(scene->sim, scene->space);
    sim_space_destroy(scene->sim, child);
}

/* Each allocation of each call refused in turn: it fails whole, or is done. */
TEST(huge, a_call_that_cannot_split_changes_nothing)
{
    static const struct refused rows[] = {
        {"unmap", call_unmap, 3, 5},
        {"protect", call_protect, 3, 5},
        {"map", call_map, 3, 5},
        {"dont_need", call_dont_need, 3, 5},
        {"dont_fork", call_dont_fork, 3, 5},
        {"lock", call_lock, 3, 5},
        {"move", call_move, 3, 5},
        {"fork", call_fork, 0, 0},
        {"copy", call_copy, 0, 0},
    };

    for (size_t i = 0; i < QR_ARRAY_COUNT(rows); i++) {
        enum qr_status status = QR_ERR_NO_MEMORY;
        unsigned refusal = 0, refusals = 0;

        for (; refusal < 20; refusals += status != QR_OK) {
            struct scene scene;

            ASSERT_TRUE(scene_boot(&scene, SIM_MMU_DEFAULT));
            refused_once(&rows[i], &scene, &refusal, &status);
            scene_end(&scene);
        }
        EXPECT_EQ(status, QR_OK);
        if (strcmp(rows[i].name, "copy") != 0) /* which waits for memory and tries again */
            EXPECT_TRUE(refusals > 0);
    }
}

/* ---- Races --------------------------------------------------------------------------------- */

struct race {
    struct scene scene;
    bool over;
};

static void
body_write(void *context)
{
    struct race *race = context;
    uint64_t random = 7;

    for (uint64_t i = 0; i < 60; i++) {
        size_t page = 2 + (size_t)(test_random(&random) % (race->scene.pages - 2));

        sim_write(race->scene.sim, page, i);
        EXPECT_EQ(sim_read(race->scene.sim, page), i);
    }
    race->over = true;
}

static void
body_collapse(void *context)
{
    struct race *race = context;

    while (!race->over) {
        (void)!collapse(&race->scene, 0, race->scene.pages);
        sim_preempt();
    }
}

/* Changes pages that the writer does not use: one of its block, and some behind it. */
static void
body_split(void *context)
{
    struct race *race = context;

    while (!race->over) {
        size_t n = race->scene.pages;

        EXPECT_EQ(advise(&race->scene, n, n + 1, QR_ADVICE_DONT_NEED), QR_OK);
        EXPECT_EQ(sim_touch(race->scene.sim, n + 2, QR_ACCESS_WRITE), SIM_OK);
        EXPECT_EQ(sim_protect(race->scene.sim, 1, 2, SIM_R), QR_OK);
        EXPECT_EQ(sim_protect(race->scene.sim, 1, 2, SIM_W), QR_OK);
        sim_preempt();
    }
}

static void
body_fork(void *context)
{
    struct race *race = context;

    while (!race->over) {
        struct qr_space *child;

        if (qr_space_fork(race->scene.space, &child) == QR_OK)
            qr_space_put(child);
        sim_preempt();
    }
}

/* A writer sees its own stores while others collapse, split and fork what it writes. */
TEST(huge, threads_that_change_the_size_of_a_page)
{
    for (uint64_t seed = 0; seed < sim_seeds(6); seed++) {
        struct race race = {.over = false};
        struct sim_options options = {.seed = test_seed() + seed,
                                      .cpus = 4,
                                      .mmu = sim_mmu_by_seed(test_seed() + seed),
                                      .features = SIM_SPECULATE | SIM_EVICT};

        if (!scene_boot_with(&race.scene, options))
            continue;
        ASSERT_EQ(sim_map(race.scene.sim, 0, 2 * race.scene.pages, SIM_W), QR_OK);
        sim_spawn(race.scene.sim, 0, "write", body_write, &race);
        sim_spawn(race.scene.sim, 1, "collapse", body_collapse, &race);
        sim_spawn(race.scene.sim, 2, "split", body_split, &race);
        sim_spawn(race.scene.sim, 3, "fork", body_fork, &race);
        sim_run(race.scene.sim, SIM_RUN_SEEDED);
        scene_end(&race.scene);
    }
}

/* ---- Against a model ------------------------------------------------------------------- */

enum { BLOCKS = 3, SPACES = 3 };

struct model {
    struct scene scene;
    size_t pages; /* of the region */
    struct qr_space *space[SPACES];
    uint64_t *value[SPACES]; /* by page */
    uint8_t *prot[SPACES];   /* 0: not mapped */
    uint64_t random;
    uint64_t next;
};

static size_t
draw(struct model *model, size_t below)
{
    return (size_t)(test_random(&model->random) % below);
}

static void
model_range(struct model *model, size_t *first, size_t *last)
{
    size_t n = model->scene.pages;

    *first = draw(model, model->pages);
    if (draw(model, 3) == 0)
        *first -= *first % n;
    *last = *first + 1 + draw(model, draw(model, 2) ? 8 : 2 * n);
    if (draw(model, 3) == 0)
        *last = (*last + n - 1) / n * n;
    if (*last > model->pages)
        *last = model->pages;
}

static void
model_set(struct model *model, size_t who, size_t first, size_t last, uint8_t prot, bool clear)
{
    for (size_t page = first; page < last; page++) {
        model->prot[who][page] = prot;
        if (clear)
            model->value[who][page] = 0;
    }
}

static void
model_access(struct model *model, size_t who)
{
    size_t page = draw(model, model->pages);
    bool write = draw(model, 3) != 0;

    if (model->prot[who][page] == 0) {
        EXPECT_EQ(sim_touch(model->scene.sim, page, QR_ACCESS_READ), SIM_SEGV_MAPERR);
    } else if (!write) {
        EXPECT_EQ(sim_read(model->scene.sim, page), model->value[who][page]);
    } else if (model->prot[who][page] == SIM_R) {
        EXPECT_EQ(sim_touch(model->scene.sim, page, QR_ACCESS_WRITE), SIM_SEGV_ACCERR);
    } else {
        model->value[who][page] = ++model->next;
        sim_write(model->scene.sim, page, model->value[who][page]);
    }
}

static void
model_map(struct model *model, size_t who, size_t first, size_t last)
{
    if (sim_map(model->scene.sim, first, last - first, SIM_W) == QR_OK)
        model_set(model, who, first, last, SIM_W, true);
}

static void
model_protect(struct model *model, size_t who, size_t first, size_t last)
{
    uint8_t prot = draw(model, 2) ? SIM_R : SIM_W;

    for (size_t page = first; page < last; page++) {
        if (model->prot[who][page] == 0)
            return; /* what lies before a hole changes: not what is tested here */
    }
    if (sim_protect(model->scene.sim, first, last, prot) == QR_OK)
        model_set(model, who, first, last, prot, false);
}

static void
model_dont_need(struct model *model, size_t who, size_t first, size_t last)
{
    model->scene.space = model->space[who];
    enum qr_status status = advise(&model->scene, first, last, QR_ADVICE_DONT_NEED);
    bool hole = false;

    for (size_t page = first; page < last; page++)
        hole = hole || model->prot[who][page] == 0;
    if (status == QR_ERR_NO_MEMORY && sim_refused(model->scene.sim) > 0)
        return; /* nothing has changed, then */
    EXPECT_EQ(status, hole ? QR_ERR_NO_MEMORY : QR_OK);
    for (size_t page = first; page < last; page++)
        model->value[who][page] = 0;
}

/* Move a range to the same offset behind all pages and back: twice by remap. */
static void
model_move(struct model *model, size_t who, size_t first, size_t last)
{
    size_t away = 2 * model->pages + draw(model, 2);
    qr_va va;
    struct qr_remap_request request = {.old_start = sim_page(first),
                                       .old_bytes = (last - first) << QR_PAGE_SHIFT,
                                       .new_bytes = (last - first) << QR_PAGE_SHIFT,
                                       .flags = QR_REMAP_MAY_MOVE | QR_REMAP_FIXED,
                                       .new_start = sim_page(away + first)};

    const struct qr_region *region = qr_space_find(model->space[who], sim_page(first));

    if (region == NULL || region->end.v < sim_page(last).v)
        sim_refuse_randomly(model->scene.sim, 0); /* of several regions some would stay moved */
    if (qr_space_remap(model->space[who], &request, &va) != QR_OK)
        return; /* nothing at its start, or refused */
    sim_refuse_randomly(model->scene.sim, 0);
    request.new_start = request.old_start;
    request.old_start = va;
    ASSERT_EQ(qr_space_remap(model->space[who], &request, &va), QR_OK);
}

static void
model_fork(struct model *model, size_t who)
{
    size_t to = 1 + draw(model, SPACES - 1); /* the first stays */

    if (to == who)
        return;
    if (model->space[to] != NULL) {
        sim_space_destroy(model->scene.sim, model->space[to]);
        model->space[to] = NULL;
    }
    if (qr_space_fork(model->space[who], &model->space[to]) != QR_OK) {
        model->space[to] = NULL;
        return;
    }
    memcpy(model->value[to], model->value[who], model->pages * sizeof(uint64_t));
    memcpy(model->prot[to], model->prot[who], model->pages);
}

static void
model_step(struct model *model, size_t who, bool refuse)
{
    size_t first, last;

    model_range(model, &first, &last);
    sim_use(model->scene.sim, model->space[who]);
    sim_refuse_randomly(model->scene.sim, refuse ? 3 : 0);
    switch (draw(model, 16)) {
    case 0:
        model_map(model, who, first, last);
        break;
    case 1:
        if (sim_unmap(model->scene.sim, first, last) == QR_OK)
            model_set(model, who, first, last, 0, true);
        break;
    case 2:
        model_protect(model, who, first, last);
        break;
    case 3:
        model_dont_need(model, who, first, last);
        break;
    case 4:
        model_move(model, who, first, last);
        break;
    case 5:
        model_fork(model, who);
        break;
    case 6:
        (void)!qr_space_collapse(model->space[who], sim_page(first),
                                 (last - first) << QR_PAGE_SHIFT);
        break;
    default:
        sim_refuse_randomly(model->scene.sim, 0);
        for (int i = 0; i < 8; i++)
            model_access(model, who);
        break;
    }
}

static void
model_compare(struct model *model)
{
    sim_refuse_randomly(model->scene.sim, 0);
    for (size_t who = 0; who < SPACES; who++) {
        if (model->space[who] == NULL)
            continue;
        sim_use(model->scene.sim, model->space[who]);
        for (size_t page = 0; page < model->pages; page++) {
            if (model->prot[who][page] != 0)
                ASSERT_EQ(sim_read(model->scene.sim, page), model->value[who][page]);
        }
    }
    sim_validate(model->scene.sim);
}

static void
model_run(struct model *model, unsigned steps, bool refuse)
{
    for (size_t who = 0; who < SPACES; who++) {
        model->value[who] = calloc(model->pages, sizeof(uint64_t));
        model->prot[who] = calloc(model->pages, 1);
    }
    model->space[0] = model->scene.space;
    ASSERT_EQ(sim_map(model->scene.sim, 0, model->pages, SIM_W), QR_OK);
    model_set(model, 0, 0, model->pages, SIM_W, true);
    for (unsigned i = 0; i < steps; i++) {
        size_t who = draw(model, SPACES);

        model_step(model, model->space[who] != NULL ? who : 0, refuse);
        if (i % 64 == 63)
            model_compare(model);
    }
    model_compare(model);
}

static void
model_end(struct model *model)
{
    sim_use(model->scene.sim, model->space[0]);
    for (size_t who = 0; who < SPACES; who++) {
        free(model->value[who]);
        free(model->prot[who]);
    }
    for (size_t who = 1; who < SPACES; who++) {
        if (model->space[who] != NULL)
            sim_space_destroy(model->scene.sim, model->space[who]);
    }
    model->scene.space = model->space[0];
    scene_end(&model->scene);
}

TEST(huge, random_calls_agree_with_a_model)
{
    sim_for_each_mmu(mmu)
    {
        for (uint64_t seed = 0; seed < sim_seeds(2); seed++) {
            struct model model = {.random = test_seed() + seed * 31 + mmu};
            struct sim_options options = {.mmu = mmu, .seed = test_seed() + seed};

            options.features = seed % 2 ? SIM_SPECULATE | SIM_EVICT : 0;
            if (!scene_boot_with(&model.scene, options))
                continue;
            model.pages = BLOCKS * model.scene.pages;
            model_run(&model, 256, seed % 2 == 0);
            model_end(&model);
        }
    }
}
