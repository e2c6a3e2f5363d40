/* SPDX-License-Identifier: MIT */
/* Frames of the swap cache are moved to others, mapped or not, and nobody sees it. */
#include "harness.h"

#include <quire/fault.h>
#include <quire/reclaim.h>
#include <quire/shrink.h>

#include "reclaim/migrate.h"
#include "sim.h"
#include "space/swap.h"

enum { PAGES = 24, DISK = 200 };

/* Pages that say who they are; sent out, and those below @read read again. */
static struct sim *
boot(enum sim_mmu mmu, size_t read)
{
    struct sim *sim = sim_boot((struct sim_options){.seed = test_seed(), .mmu = mmu});

    (void)sim_swap_on(sim, DISK, 0);
    EXPECT_EQ(sim_map(sim, 0, PAGES, SIM_W), QR_OK);
    for (size_t page = 0; page < PAGES; page++)
        sim_write(sim, page, page + 1);
    EXPECT_EQ(
        qr_space_advise(sim_space(sim), sim_page(0), PAGES << QR_PAGE_SHIFT, QR_ADVICE_PAGE_OUT),
        QR_OK);
    for (size_t page = 0; page < read; page++)
        EXPECT_EQ(sim_read(sim, page), page + 1);
    return sim;
}

/* The frame mapped at @page, or NULL. */
static struct qr_frame *
frame_at(struct sim *sim, size_t page)
{
    struct qr_va_range range = {sim_page(page), sim_page(page + 1)};
    struct qr_cursor cursor;

    qr_cursor_open(&cursor, &sim_space(sim)->tables, range, NULL);
    struct qr_entry entry = qr_cursor_query(&cursor, range.start);

    qr_cursor_close(&cursor);
    if (entry.kind == QR_ENTRY_LEAF)
        return qr_frame_of(sim_frames(sim), qr_pfn_of(entry.leaf.pa.v >> QR_PAGE_SHIFT));
    if (!qr_entry_is_swap(&entry))
        return NULL;
    struct qr_frame *frame = qr_swap_lookup(sim_swap(sim), qr_mark_slot(&entry.mark));

    if (frame != NULL)
        qr_frame_put(sim_frames(sim), frame);
    return frame;
}

static enum qr_status
move(struct sim *sim, size_t page)
{
    struct qr_frame *frame = frame_at(sim, page);
    struct qr_frame *target = qr_frame_alloc(sim_frames(sim), QR_ALLOC_MOVABLE);

    EXPECT_EQ(qr_frame_type(frame), QR_FRAME_SWAP);
    enum qr_status status = qr_frame_migrate(sim_vm(sim), frame, target);

    if (status == QR_OK)
        EXPECT_TRUE(frame_at(sim, page) == target);
    if (status == QR_ERR_BUSY)
        qr_frame_put(sim_frames(sim), target);
    return status;
}

static size_t
cached(struct sim *sim)
{
    struct qr_swap_stats stats;

    qr_swap_stats(sim_swap(sim), &stats);
    return stats.cached;
}

TEST(swap_move, mapped_ones_are_read_and_written_as_before)
{
    sim_for_each_mmu(mmu)
    {
        struct sim *sim = boot(mmu, PAGES);

        EXPECT_EQ(cached(sim), (size_t)PAGES);
        for (size_t page = 0; page < PAGES; page++)
            EXPECT_EQ(move(sim, page), QR_OK);
        EXPECT_EQ(cached(sim), (size_t)PAGES);
        sim_validate(sim);
        for (size_t page = 0; page < PAGES; page++) {
            EXPECT_EQ(sim_read(sim, page), page + 1);
            sim_write(sim, page, page + 100);
        }
        EXPECT_EQ(cached(sim), 0u);
        sim_validate(sim);
        sim_shutdown(sim);
    }
}

TEST(swap_move, those_on_their_way_out_are_written_from_their_new_place)
{
    const struct qr_reclaim_request request = {.pages = 8};
    struct qr_swap_scan scan = {.request = &request};
    struct sim *sim = boot(SIM_MMU_DEFAULT, 0);

    for (size_t page = 0; page < PAGES; page++)
        sim_write(sim, page, page + 50);
    do
        qr_space_swap_scan(sim_space(sim), &scan);
    while (scan.count == 0);
    EXPECT_EQ(cached(sim), scan.count);
    for (size_t page = 0; page < scan.count; page++)
        EXPECT_EQ(move(sim, page), QR_OK);
    EXPECT_EQ(qr_swap_write(sim_swap(sim), scan.slots, scan.count), scan.count);
    EXPECT_EQ(cached(sim), 0u);
    for (size_t page = 0; page < PAGES; page++)
        EXPECT_EQ(sim_read(sim, page), page + 50);
    sim_validate(sim);
    sim_shutdown(sim);
}

TEST(swap_move, all_who_share_one_get_the_new_one)
{
    struct sim *sim = boot(SIM_MMU_DEFAULT, PAGES / 2);
    struct qr_space *parent = sim_space(sim), *child = sim_fork(sim);

    for (size_t page = 0; page < PAGES / 2; page++)
        EXPECT_EQ(move(sim, page), QR_OK);
    sim_validate(sim);
    sim_use(sim, child);
    for (size_t page = 0; page < PAGES; page++)
        EXPECT_EQ(sim_read(sim, page), page + 1);
    sim_write(sim, 0, 1000);
    sim_use(sim, parent);
    EXPECT_EQ(sim_read(sim, 0), 1u);
    sim_write(sim, 1, 2000);
    sim_use(sim, child);
    EXPECT_EQ(sim_read(sim, 1), 2u);
    sim_use(sim, parent);
    sim_space_destroy(sim, child);
    sim_validate(sim);
    sim_shutdown(sim);
}

TEST(swap_move, what_somebody_holds_stays)
{
    struct sim *sim = boot(SIM_MMU_DEFAULT, PAGES);
    struct qr_frame *frame;

    ASSERT_EQ(qr_space_get_frame(sim_space(sim), sim_page(3), QR_ACCESS_READ, false, &frame),
              QR_OK);
    EXPECT_EQ(move(sim, 3), QR_ERR_BUSY);
    qr_frame_put(sim_frames(sim), frame);
    EXPECT_EQ(move(sim, 3), QR_OK);
    EXPECT_EQ(sim_read(sim, 3), 4u);
    sim_validate(sim);
    sim_shutdown(sim);
}

/* An entry that mremap moved keeps its frame; what then is of no use to anybody is given up. */
TEST(swap_move, an_entry_elsewhere_keeps_the_old_one)
{
    struct sim *sim = boot(SIM_MMU_DEFAULT, PAGES);
    struct qr_remap_request request = {.old_start = sim_page(0),
                                       .old_bytes = 4 << QR_PAGE_SHIFT,
                                       .new_bytes = 4 << QR_PAGE_SHIFT,
                                       .flags = QR_REMAP_FIXED | QR_REMAP_MAY_MOVE,
                                       .new_start = sim_page(100)};
    struct qr_frame *target = qr_frame_alloc(sim_frames(sim), QR_ALLOC_MOVABLE), *frame;
    qr_va va;

    ASSERT_EQ(qr_space_remap(sim_space(sim), &request, &va), QR_OK);
    frame = frame_at(sim, 101);
    EXPECT_EQ(qr_frame_migrate(sim_vm(sim), frame, target), QR_ERR_AGAIN);
    EXPECT_TRUE(frame_at(sim, 101) == frame);
    sim_validate(sim);
    for (size_t page = 0; page < 4; page++)
        EXPECT_EQ(sim_read(sim, 100 + page), page + 1);
    sim_write(sim, 101, 7);
    sim_validate(sim);
    sim_shutdown(sim);
}
