/* SPDX-License-Identifier: MIT */
/*
 * Groups of leaves that the library builds (contiguous hint, NAPOT), as the hosted
 * MMU reads them: one entry or sixteen in the TLB, and none too many when a member goes.
 */
#include "harness.h"
#include "sim.h"

#include <quire/tlb.h>

struct place {
    struct sim *sim;
    struct qr_tables tables;
    struct qr_tlb_space space;
    struct qr_frame *block;
    size_t pages; /* of a group */
    bool whole;   /* it is one entry of the TLB */
};

/* False where the format has no groups of the smallest pages. */
static bool
place_make(struct place *place, enum sim_mmu mmu)
{
    struct qr_format_info info;
    struct qr_tlb_batch batch;
    struct qr_cursor cursor;

    place->sim = sim_boot_tables((struct sim_options){.mmu = mmu, .cpus = 2});
    qr_format_info(sim_format(place->sim), &info);
    if (info.group_bits[0] == 0) {
        sim_shutdown(place->sim);
        return false;
    }
    place->pages = (size_t)1 << info.group_bits[0];
    place->whole = info.roots == QR_ROOTS_TWO;
    struct qr_contiguous_request request = {.count = place->pages, .align_frames = place->pages};

    place->block = qr_frame_alloc_contiguous(sim_frames(place->sim), &request);
    ASSERT_NOT_NULL(place->block);
    ASSERT_STATUS(qr_tables_init(&place->tables, sim_format(place->sim), sim_frames(place->sim),
                                 sim_epoch(place->sim), NULL),
                  QR_OK);
    qr_tlb_space_init(&place->space, sim_tlb(place->sim), &place->tables);
    struct qr_leaf leaf = {.pa = qr_frame_pa(sim_frames(place->sim), place->block),
                           .prot = QR_PROT_READ | QR_PROT_WRITE | QR_PROT_USER};

    qr_tlb_batch_init(&batch, &place->space);
    qr_cursor_open(&cursor, &place->tables,
                   (struct qr_va_range){sim_page(0), sim_page(place->pages)}, &batch);
    ASSERT_STATUS(qr_cursor_prepare(&cursor, sim_page(0), 0), QR_OK);
    qr_cursor_map_group(&cursor, sim_page(0), &leaf);
    qr_cursor_close(&cursor);
    qr_tlb_batch_finish(&batch);
    sim_use_tables(place->sim, &place->space);
    return true;
}

static void
forget(void *context, const struct qr_entry *entry)
{
    (void)context;
    (void)entry;
}

static void
place_unmap(struct place *place, size_t first, size_t last)
{
    struct qr_va_range range = {sim_page(first), sim_page(last)};
    struct qr_tlb_batch batch;
    struct qr_cursor cursor;

    qr_tlb_batch_init(&batch, &place->space);
    qr_cursor_open(&cursor, &place->tables, range, &batch);
    qr_cursor_unmap_range(&cursor, range, forget, NULL);
    qr_cursor_close(&cursor);
    qr_tlb_batch_finish(&batch);
}

static void
place_protect(struct place *place, size_t first, size_t last, unsigned prot)
{
    struct qr_va_range range = {sim_page(first), sim_page(last)};
    struct qr_tlb_batch batch;
    struct qr_cursor cursor;

    qr_tlb_batch_init(&batch, &place->space);
    qr_cursor_open(&cursor, &place->tables, range, &batch);
    qr_cursor_protect_range(&cursor, range, prot, 0, NULL, NULL);
    qr_cursor_close(&cursor);
    qr_tlb_batch_finish(&batch);
}

static bool
place_try(struct place *place, size_t page, unsigned access)
{
    struct sim_access wanted = {.va = sim_page(page), .access = access, .mode = SIM_USER};
    uint64_t start = qr_frame_pa(sim_frames(place->sim), place->block).v;
    unsigned code;
    qr_pa pa;

    if (!sim_translate(wanted, &pa, &code))
        return false;
    EXPECT_EQ(pa.v, start + (page << QR_PAGE_SHIFT));
    return true;
}

static void
place_end(struct place *place)
{
    place_unmap(place, 0, place->pages);
    sim_unload(place->sim, &place->space);
    qr_tlb_space_fini(&place->space);
    qr_tables_fini(&place->tables);
    size_t first = qr_frame_pfn(sim_frames(place->sim), place->block).v;

    for (size_t page = 0; page < place->pages; page++)
        qr_frame_put(sim_frames(place->sim),
                     qr_frame_of(sim_frames(place->sim), qr_pfn_of(first + page)));
    sim_shutdown(place->sim);
}

TEST(groups, the_mmu_reads_them_as_one)
{
    unsigned formats = 0;

    sim_for_each_mmu(mmu)
    {
        struct place place;

        if (!place_make(&place, mmu))
            continue;
        formats++;
        EXPECT_TRUE(place_try(&place, place.pages / 2, QR_ACCESS_READ));
        EXPECT_EQ(sim_tlb_count(place.sim, 0), place.whole ? 1 : place.pages);
        for (size_t page = 0; page < place.pages; page++)
            EXPECT_TRUE(place_try(&place, page, QR_ACCESS_WRITE));
        place_end(&place);
    }
    EXPECT_GE(formats, 3);
}

/* The whole group is in the TLB; one member loses its right, one goes: the oracle watches. */
TEST(groups, one_member_changes_and_the_others_stay)
{
    sim_for_each_mmu(mmu)
    {
        struct place place;

        if (!place_make(&place, mmu))
            continue;
        for (size_t page = 0; page < place.pages; page++)
            EXPECT_TRUE(place_try(&place, page, QR_ACCESS_WRITE));
        place_protect(&place, 3, 4, QR_PROT_READ | QR_PROT_USER);
        for (size_t page = 0; page < place.pages; page++)
            EXPECT_EQ(place_try(&place, page, QR_ACCESS_WRITE), page != 3);
        EXPECT_TRUE(place_try(&place, 3, QR_ACCESS_READ));
        place_unmap(&place, 5, 6);
        for (size_t page = 0; page < place.pages; page++)
            EXPECT_EQ(place_try(&place, page, QR_ACCESS_READ), page != 5);
        place_end(&place);
    }
}

TEST(groups, all_of_one_goes_at_once)
{
    sim_for_each_mmu(mmu)
    {
        struct place place;

        if (!place_make(&place, mmu))
            continue;
        EXPECT_TRUE(place_try(&place, 1, QR_ACCESS_WRITE));
        place_unmap(&place, 0, place.pages);
        for (size_t page = 0; page < place.pages; page++)
            EXPECT_FALSE(place_try(&place, page, QR_ACCESS_READ));
        place_end(&place);
    }
}
