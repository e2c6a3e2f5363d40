/* SPDX-License-Identifier: MIT */
/* Collapse of blocks that have pages out on a disk: they come back, if they are few enough. */
#include <quire/shrink.h>

#include "huge_scene.h"

enum { DISK = 4096, OUT = 4 };

static const struct qr_huge_policy never = {QR_HUGE_NEVER, QR_DEFRAG_NEVER, true};

/* A block of small pages that say who they are, of which the first OUT are swapped out. */
static bool
boot(struct scene *scene, enum sim_mmu mmu, struct sim_disk **out_disk)
{
    if (!scene_boot(scene, mmu))
        return false;
    *out_disk = sim_swap_on(scene->sim, DISK, 0);
    qr_vm_set_huge_policy(sim_vm(scene->sim), &never);
    EXPECT_EQ(sim_map(scene->sim, 0, scene->pages, SIM_W), QR_OK);
    for (size_t page = 0; page < scene->pages; page++)
        sim_write(scene->sim, page, page + 1);
    EXPECT_EQ(advise(scene, 0, OUT, QR_ADVICE_PAGE_OUT), QR_OK);
    EXPECT_EQ(atomic_load(&scene->space->swapped), OUT);
    EXPECT_EQ(level_of(scene->space, 0), -1);
    return true;
}

static void
expect_all(struct scene *scene)
{
    for (size_t page = 0; page < scene->pages; page++)
        EXPECT_EQ(sim_read(scene->sim, page), page + 1);
}

static size_t
slots_used(struct scene *scene)
{
    struct qr_swap_stats stats;

    qr_swap_stats(sim_swap(scene->sim), &stats);
    return stats.used;
}

static size_t
scan_with(struct scene *scene, size_t max_swapped)
{
    struct qr_collapse_scan scan = {.limits = {.max_none = 0, .max_swapped = max_swapped}};

    qr_vm_set_huge_policy(sim_vm(scene->sim), &always);
    qr_collapse_scan(sim_vm(scene->sim), &scan, SIZE_MAX);
    qr_vm_set_huge_policy(sim_vm(scene->sim), &never);
    return scan.collapsed;
}

TEST(huge_swap, who_asks_gets_them_all_back)
{
    sim_for_each_mmu(mmu)
    {
        struct sim_disk *disk;
        struct scene scene;

        if (!boot(&scene, mmu, &disk))
            continue;
        ASSERT_EQ(collapse(&scene, 0, scene.pages), QR_OK);
        EXPECT_EQ(level_of(scene.space, 0), 1);
        EXPECT_EQ(sim_disk_stats(disk).pages_read, (uint64_t)OUT);
        EXPECT_EQ(slots_used(&scene), 0u);
        EXPECT_EQ(atomic_load(&scene.space->swapped), 0);
        expect_all(&scene);
        scene_end(&scene);
    }
}

TEST(huge_swap, even_where_nothing_is_in_memory)
{
    struct sim_disk *disk;
    struct scene scene;

    ASSERT_TRUE(boot(&scene, SIM_MMU_DEFAULT, &disk));
    ASSERT_EQ(advise(&scene, 0, scene.pages, QR_ADVICE_PAGE_OUT), QR_OK);
    EXPECT_EQ(qr_space_resident_pages(scene.space), 0u);
    ASSERT_EQ(collapse(&scene, 0, scene.pages), QR_OK);
    EXPECT_EQ(level_of(scene.space, 0), 1);
    expect_all(&scene);
    scene_end(&scene);
}

TEST(huge_swap, in_the_background_not_too_many)
{
    struct sim_disk *disk;
    struct scene scene;

    ASSERT_TRUE(boot(&scene, SIM_MMU_DEFAULT, &disk));
    EXPECT_EQ(scan_with(&scene, OUT - 1), 0u);
    EXPECT_EQ(sim_disk_stats(disk).pages_read, 0u);
    EXPECT_EQ(scan_with(&scene, OUT), 1u);
    EXPECT_EQ(level_of(scene.space, 0), 1);
    expect_all(&scene);
    scene_end(&scene);
}

TEST(huge_swap, in_the_background_only_for_what_is_used)
{
    const struct qr_reclaim_request request = {.pages = SIZE_MAX};
    struct qr_swap_scan scan = {.request = &request};
    struct sim_disk *disk;
    struct scene scene;

    ASSERT_TRUE(boot(&scene, SIM_MMU_DEFAULT, &disk));
    do /* one look: nothing was used since */
        qr_space_swap_scan(scene.space, &scan);
    while (!scan.ended);
    EXPECT_EQ(atomic_load(&scene.space->swapped), OUT);
    EXPECT_EQ(scan_with(&scene, OUT), 0u);
    for (size_t page = OUT; page < scene.pages; page++)
        EXPECT_EQ(sim_read(scene.sim, page), page + 1);
    EXPECT_EQ(scan_with(&scene, OUT), 1u);
    expect_all(&scene);
    scene_end(&scene);
}

TEST(huge_swap, what_cannot_be_read_stays_out)
{
    struct sim_disk *disk;
    struct scene scene;

    ASSERT_TRUE(boot(&scene, SIM_MMU_DEFAULT, &disk));
    sim_disk_set_failing(disk, 1, 0);
    EXPECT_EQ(collapse(&scene, 0, scene.pages), QR_ERR_INVALID);
    EXPECT_EQ(scan_with(&scene, OUT), 0u);
    EXPECT_EQ(level_of(scene.space, OUT), 0);
    sim_disk_set_failing(disk, 0, 0);
    sim_validate(scene.sim);
    expect_all(&scene);
    scene_end(&scene);
}

TEST(huge_swap, it_is_refused_whole)
{
    struct sim_disk *disk;
    struct scene scene;
    enum qr_status status;
    unsigned refusal = 0;

    ASSERT_TRUE(boot(&scene, SIM_MMU_DEFAULT, &disk));
    do {
        sim_refuse_next(scene.sim, &refusal);
        status = collapse(&scene, 0, scene.pages);
        sim_refuse_nth(scene.sim, 0, SIM_REFUSE_ONCE);
        EXPECT_EQ(level_of(scene.space, 0) == 1, status == QR_OK);
        sim_validate(scene.sim);
        if (status != QR_OK) {
            expect_all(&scene);
            ASSERT_EQ(advise(&scene, 0, OUT, QR_ADVICE_PAGE_OUT), QR_OK);
        }
    } while (status == QR_ERR_NO_MEMORY);
    EXPECT_EQ(status, QR_OK);
    expect_all(&scene);
    scene_end(&scene);
}

TEST(huge_swap, a_fork_keeps_its_own)
{
    struct sim_disk *disk;
    struct scene scene;

    ASSERT_TRUE(boot(&scene, SIM_MMU_DEFAULT, &disk));
    struct qr_space *child = sim_fork(scene.sim);

    ASSERT_NOT_NULL(child);
    ASSERT_EQ(collapse(&scene, 0, scene.pages), QR_OK);
    EXPECT_EQ(slots_used(&scene), (size_t)OUT); /* the child names them still */
    for (size_t page = 0; page < scene.pages; page++)
        sim_write(scene.sim, page, 7);
    sim_validate(scene.sim);
    sim_use(scene.sim, child);
    expect_all(&scene);
    sim_use(scene.sim, scene.space);
    sim_space_destroy(scene.sim, child);
    EXPECT_EQ(slots_used(&scene), 0u);
    scene_end(&scene);
}
