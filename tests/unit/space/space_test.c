/* SPDX-License-Identifier: MIT */
/*
 * The calls, one property a test.  Pages are counted from SIM_BASE; layouts are
 * strings: one letter a page, brackets around a region, small letters shared.
 */
#include "harness.h"

#include <quire/fault.h>
#include <quire/user.h>

#include <string.h>

#include "drain.h"
#include "space/region.h"

static struct sim *
boot(void)
{
    return sim_boot((struct sim_options){.seed = test_seed()});
}

/* ---- Splitting and merging ---------------------------------------------------- */

/*
 * page     0    1    2    3
 * before [ W    W    W    W ]
 * after  [ W ][ R    R ][ W ]
 *
 * A middle split needs two descriptors.  With fewer the call must fail whole,
 * leaving the one region it found.
 */
TEST(space, protect_in_the_middle_is_all_or_nothing)
{
    for (size_t left = 0; left <= 2; left++) {
        struct sim *sim = boot();
        struct drain drain;

        ASSERT_EQ(sim_map(sim, 0, 4, SIM_W), QR_OK);
        drain_begin(&drain, sim, left);
        EXPECT_EQ(sim_protect(sim, 1, 3, SIM_R), left == 2 ? QR_OK : QR_ERR_NO_MEMORY);
        EXPECT_STR(sim_layout(sim), left == 2 ? "[W][RR][W]" : "[WWWW]");
        drain_end(&drain, sim);
        sim_shutdown(sim);
    }
}

/* Fork, with each allocation refused in turn: nothing remains and nothing changed. */
TEST(space, fork_is_all_or_nothing)
{
    enum qr_status status = QR_ERR_NO_MEMORY;
    struct drain drain;

    for (unsigned n = 1; status != QR_OK; n++) {
        struct sim *sim = boot();
        struct qr_space *child = NULL;

        ASSERT_EQ(sim_map(sim, 0, 2, SIM_W), QR_OK);
        ASSERT_EQ(sim_map(sim, 600, 2, SIM_W), QR_OK);
        sim_write(sim, 0, 1);
        sim_write(sim, 600, 2);

        if (n <= 2)
            drain_begin(&drain, sim, n - 1);
        else
            sim_refuse_nth(sim, n - 2, SIM_REFUSE_FROM_THEN_ON);
        status = qr_space_fork(sim_space(sim), &child);
        if (n <= 2)
            drain_end(&drain, sim);
        sim_refuse_nth(sim, 0, SIM_REFUSE_ONCE);
        sim_validate(sim);
        EXPECT_EQ(sim_read(sim, 0), 1);
        EXPECT_EQ(sim_read(sim, 600), 2);
        if (status == QR_OK)
            sim_space_destroy(sim, child);
        else
            EXPECT_EQ(status, QR_ERR_NO_MEMORY);
        sim_write(sim, 0, 3);
        sim_shutdown(sim);
    }
}

TEST(space, equal_neighbours_are_one_region)
{
    struct sim *sim = boot();

    ASSERT_EQ(sim_map(sim, 0, 1, SIM_W), QR_OK);
    ASSERT_EQ(sim_map(sim, 2, 1, SIM_W), QR_OK);
    EXPECT_STR(sim_layout(sim), "[W].[W]");
    ASSERT_EQ(sim_map(sim, 1, 1, SIM_W), QR_OK);
    EXPECT_STR(sim_layout(sim), "[WWW]");
    ASSERT_EQ(sim_protect(sim, 1, 2, SIM_R), QR_OK);
    EXPECT_STR(sim_layout(sim), "[W][R][W]");
    ASSERT_EQ(sim_protect(sim, 1, 2, SIM_W), QR_OK);
    EXPECT_STR(sim_layout(sim), "[WWW]");
    sim_shutdown(sim);
}

TEST(space, neighbours_of_an_object_merge_only_where_its_pages_continue)
{
    struct sim *sim = boot();
    struct qr_object *object;

    ASSERT_EQ(
        qr_object_create(sim_objects(sim), &qr_pager_memory, NULL, 8 << QR_PAGE_SHIFT, &object),
        QR_OK);
    ASSERT_EQ(sim_map_object(sim, 0, 2, SIM_R, object, 0), QR_OK);
    ASSERT_EQ(sim_map_object(sim, 2, 1, SIM_R, object, 2), QR_OK);
    EXPECT_STR(sim_layout(sim), "[rrr]");
    ASSERT_EQ(sim_map_object(sim, 3, 1, SIM_R, object, 5), QR_OK);
    EXPECT_STR(sim_layout(sim), "[rrr][r]");
    ASSERT_EQ(sim_map_object(sim, 3, 2, SIM_R, object, 3), QR_OK);
    EXPECT_STR(sim_layout(sim), "[rrrrr]");
    qr_object_put(object);
    sim_shutdown(sim);
}

TEST(space, unmapping_needs_memory_only_for_a_hole)
{
    struct sim *sim = boot();

    struct drain drain;

    ASSERT_EQ(sim_map(sim, 0, 6, SIM_W), QR_OK);
    drain_begin(&drain, sim, 0);
    EXPECT_EQ(sim_unmap(sim, 2, 4), QR_ERR_NO_MEMORY);
    EXPECT_STR(sim_layout(sim), "[WWWWWW]");
    EXPECT_EQ(sim_unmap(sim, 0, 1), QR_OK);
    EXPECT_EQ(sim_unmap(sim, 5, 6), QR_OK);
    EXPECT_STR(sim_layout(sim), ".[WWWW]");
    EXPECT_EQ(sim_unmap(sim, 0, 9), QR_OK);
    EXPECT_STR(sim_layout(sim), "");
    drain_end(&drain, sim);
    sim_shutdown(sim);
}

TEST(space, protect_changes_what_lies_before_a_hole)
{
    struct sim *sim = boot();

    ASSERT_EQ(sim_map(sim, 0, 2, SIM_W), QR_OK);
    ASSERT_EQ(sim_map(sim, 3, 1, SIM_W), QR_OK);
    EXPECT_EQ(sim_protect(sim, 1, 4, SIM_R), QR_ERR_NO_MEMORY);
    EXPECT_STR(sim_layout(sim), "[W][R].[W]");
    sim_shutdown(sim);
}

TEST(space, no_right_beyond_max_prot)
{
    struct sim *sim = boot();
    struct qr_map_request request = {.hint = sim_page(0),
                                     .bytes = 2 << QR_PAGE_SHIFT,
                                     .prot = SIM_R,
                                     .max_prot = SIM_R,
                                     .flags = QR_MAP_FIXED};
    qr_va va;

    ASSERT_EQ(qr_space_map(sim_space(sim), &request, &va), QR_OK);
    EXPECT_EQ(sim_protect(sim, 0, 1, SIM_W), QR_ERR_ACCESS);
    request.prot = SIM_W;
    EXPECT_EQ(qr_space_map(sim_space(sim), &request, &va), QR_ERR_ACCESS);
    EXPECT_STR(sim_layout(sim), "[RR]");
    sim_shutdown(sim);
}

/* Contents survive having no rights for a while. */
TEST(space, pages_without_rights_keep_their_contents)
{
    struct sim *sim = boot();

    ASSERT_EQ(sim_map(sim, 0, 1, SIM_W), QR_OK);
    sim_write(sim, 0, 77);
    ASSERT_EQ(sim_protect(sim, 0, 1, SIM_N), QR_OK);
    EXPECT_EQ(sim_touch(sim, 0, QR_ACCESS_READ), SIM_SEGV_ACCERR);
    ASSERT_EQ(sim_protect(sim, 0, 1, SIM_R), QR_OK);
    EXPECT_EQ(sim_read(sim, 0), 77);
    EXPECT_EQ(sim_touch(sim, 0, QR_ACCESS_WRITE), SIM_SEGV_ACCERR);
    sim_shutdown(sim);
}

static uintptr_t
placed_near(struct qr_space *space, uintptr_t hint, size_t pages)
{
    struct qr_map_request request = {
        .hint = qr_va_of(hint), .bytes = pages * QR_PAGE_SIZE, .prot = SIM_W};
    qr_va va = qr_va_of(0);

    EXPECT_EQ(qr_space_map(space, &request, &va), QR_OK);
    return va.v;
}

/* Programs may keep something in the pointer bits that are above the stack's. */
TEST(space, only_a_hint_leads_above_the_stack)
{
    struct sim *sim = boot();
    struct qr_space *space = sim_space(sim);
    uintptr_t window = qr_va_page_down(space->layout.user_end.v / 2);
    uintptr_t high = window + 64 * QR_PAGE_SIZE;

    space->layout.stack_top = qr_va_of(window);
    space->mmap_base = qr_va_of(window - 16 * QR_PAGE_SIZE);
    EXPECT_LT(placed_near(space, 0, 1), window);
    EXPECT_EQ(placed_near(space, high, 2), high);
    EXPECT_GE(placed_near(space, high, 1), window);
    EXPECT_GE(placed_near(space, ~QR_PAGE_MASK, 1), window);
    EXPECT_LT(placed_near(space, window - QR_PAGE_SIZE, 2), window - QR_PAGE_SIZE);
    sim_shutdown(sim);
}

/* ---- Arguments ------------------------------------------------------------------ */

TEST(space, hostile_ranges_are_refused)
{
    struct sim *sim = boot();
    struct qr_space *space = sim_space(sim);
    uintptr_t end = space->layout.user_end.v;
    const struct {
        uintptr_t start;
        size_t bytes;
    } bad[] = {
        {SIM_BASE + 1, QR_PAGE_SIZE},
        {SIM_BASE, 0},
        {SIM_BASE, SIZE_MAX},
        {end, QR_PAGE_SIZE},
        {end - QR_PAGE_SIZE, 2 * QR_PAGE_SIZE},
        {~QR_PAGE_MASK, QR_PAGE_SIZE},
        {~QR_PAGE_MASK, SIZE_MAX},
    };

    for (size_t i = 0; i < QR_ARRAY_COUNT(bad); i++) {
        struct qr_map_request request = {.hint = qr_va_of(bad[i].start),
                                         .bytes = bad[i].bytes,
                                         .prot = SIM_W,
                                         .flags = QR_MAP_FIXED};
        qr_va va = qr_va_of(1);

        EXPECT_EQ(qr_space_unmap(space, qr_va_of(bad[i].start), bad[i].bytes), QR_ERR_RANGE);
        EXPECT_NE(qr_space_map(space, &request, &va), QR_OK);
        EXPECT_EQ(va.v, 1);
        if (bad[i].bytes != 0) {
            EXPECT_NE(qr_space_protect(space, qr_va_of(bad[i].start), bad[i].bytes, SIM_R, -1),
                      QR_OK);
            EXPECT_NE(qr_space_lock_pages(space, qr_va_of(bad[i].start), bad[i].bytes, QR_LOCK_NOW),
                      QR_OK);
            EXPECT_NE(
                qr_space_advise(space, qr_va_of(bad[i].start), bad[i].bytes, QR_ADVICE_DONT_NEED),
                QR_OK);
            EXPECT_NE(qr_space_populate(space, qr_va_of(bad[i].start), bad[i].bytes, true), QR_OK);
            EXPECT_NE(qr_space_sync(space, qr_va_of(bad[i].start), bad[i].bytes, true, false),
                      QR_OK);
        }
    }
    sim_validate(sim);
    EXPECT_EQ(space->counts.region_count, 0);
    sim_shutdown(sim);
}

TEST(space, the_region_limit_holds_for_maps_and_splits)
{
    struct sim *sim = boot();

    qr_vm_set_max_regions(sim_vm(sim), 4);
    ASSERT_EQ(sim_map(sim, 0, 8, SIM_W), QR_OK);
    EXPECT_EQ(sim_protect(sim, 1, 2, SIM_R), QR_OK);
    EXPECT_STR(sim_layout(sim), "[W][R][WWWWWW]");
    EXPECT_EQ(sim_protect(sim, 4, 5, SIM_R), QR_ERR_NO_MEMORY);
    EXPECT_STR(sim_layout(sim), "[W][R][WWWWWW]");
    EXPECT_EQ(sim_protect(sim, 7, 8, SIM_R), QR_OK);
    EXPECT_EQ(sim_unmap(sim, 3, 4), QR_ERR_NO_MEMORY);
    EXPECT_STR(sim_layout(sim), "[W][R][WWWWW][R]");
    EXPECT_EQ(sim_protect(sim, 0, 8, SIM_W), QR_OK);
    EXPECT_STR(sim_layout(sim), "[WWWWWWWW]");
    sim_shutdown(sim);
}

/* ---- Limits --------------------------------------------------------------------- */

TEST(space, limits_count_pages_exactly)
{
    struct sim *sim = boot();
    struct qr_space *space = sim_space(sim);

    space->limits.address_space = 4 << QR_PAGE_SHIFT;
    EXPECT_EQ(sim_map(sim, 0, 4, SIM_R), QR_OK);
    EXPECT_EQ(sim_map(sim, 8, 1, SIM_R), QR_ERR_LIMIT);
    EXPECT_EQ(sim_map(sim, 0, 4, SIM_R), QR_OK); /* in its own place */
    space->limits.address_space = SIZE_MAX;
    space->limits.data = 2 << QR_PAGE_SHIFT;
    EXPECT_EQ(sim_protect(sim, 0, 3, SIM_W), QR_ERR_NO_MEMORY);
    EXPECT_EQ(sim_protect(sim, 0, 2, SIM_W), QR_OK);
    EXPECT_EQ(sim_map(sim, 8, 1, SIM_W), QR_ERR_LIMIT);
    space->limits.data = SIZE_MAX;
    space->limits.locked = 2 << QR_PAGE_SHIFT;
    EXPECT_EQ(qr_space_lock_pages(space, sim_page(0), 3 << QR_PAGE_SHIFT, QR_LOCK_NOW),
              QR_ERR_LIMIT);
    EXPECT_EQ(qr_space_lock_pages(space, sim_page(0), 2 << QR_PAGE_SHIFT, QR_LOCK_NOW), QR_OK);
    EXPECT_EQ(qr_space_lock_pages(space, sim_page(1), 1 << QR_PAGE_SHIFT, QR_LOCK_NOW), QR_OK);
    EXPECT_EQ(space->counts.locked_pages, 2);
    sim_shutdown(sim);
}

TEST(space, mlockall_for_the_future_locks_what_comes)
{
    struct sim *sim = boot();
    struct qr_space *space = sim_space(sim);
    struct qr_space_counts counts;

    ASSERT_EQ(sim_map(sim, 0, 2, SIM_W), QR_OK);
    EXPECT_EQ(qr_space_lock_all(space, QR_UNLOCK, QR_LOCK_NOW), QR_OK);
    EXPECT_EQ(space->counts.locked_pages, 0);
    ASSERT_EQ(sim_map(sim, 4, 3, SIM_W), QR_OK);
    qr_space_counts(space, &counts);
    EXPECT_EQ(counts.locked_pages, 3);
    EXPECT_EQ(counts.resident_anon, 3);
    EXPECT_EQ(qr_space_lock_all(space, QR_LOCK_NOW, QR_UNLOCK), QR_OK);
    qr_space_counts(space, &counts);
    EXPECT_EQ(counts.locked_pages, 5);
    EXPECT_EQ(counts.resident_anon, 5);
    EXPECT_EQ(qr_space_lock_all(space, QR_UNLOCK, QR_UNLOCK), QR_OK);
    EXPECT_EQ(space->counts.locked_pages, 0);
    sim_validate(sim);
    sim_shutdown(sim);
}

/* ---- The break -------------------------------------------------------------------- */

TEST(space, the_break_moves_or_stays_and_says_where_it_is)
{
    struct sim *sim = boot();
    struct qr_space *space = sim_space(sim);
    uintptr_t origin = sim_page(4).v;

    qr_space_set_brk(space, sim_page(4));
    EXPECT_EQ(qr_space_brk(space, qr_va_of(0)).v, origin);
    EXPECT_EQ(qr_space_brk(space, qr_va_of(origin + 10)).v, origin + 10);
    EXPECT_EQ(sim_touch(sim, 4, QR_ACCESS_WRITE), SIM_OK);
    EXPECT_EQ(qr_space_brk(space, qr_va_of(origin - 1)).v, origin + 10);
    /* A page must stay free above. */
    ASSERT_EQ(sim_map(sim, 8, 1, SIM_R), QR_OK);
    EXPECT_EQ(qr_space_brk(space, sim_page(8)).v, origin + 10);
    EXPECT_EQ(qr_space_brk(space, sim_page(7)).v, sim_page(7).v);
    EXPECT_STR(sim_layout(sim), "....[WWW].[R]");
    space->limits.data = QR_PAGE_SIZE;
    EXPECT_EQ(qr_space_brk(space, qr_va_of(sim_page(7).v + 1)).v, sim_page(7).v);
    EXPECT_EQ(qr_space_brk(space, qr_va_of(SIZE_MAX)).v, sim_page(7).v);
    EXPECT_EQ(qr_space_brk(space, sim_page(4)).v, origin);
    EXPECT_STR(sim_layout(sim), "........[R]");
    sim_shutdown(sim);
}

/* ---- Counting ---------------------------------------------------------------------- */

TEST(space, counts_follow_regions_and_entries)
{
    struct sim *sim = boot();
    struct qr_space *space = sim_space(sim);
    struct qr_space_counts counts;

    ASSERT_EQ(sim_map(sim, 0, 4, SIM_W), QR_OK);
    ASSERT_EQ(sim_map(sim, 4, 2, SIM_X), QR_OK);
    ASSERT_EQ(sim_map_shared(sim, 6, 3, SIM_W), QR_OK);
    sim_write(sim, 0, 1);
    (void)sim_read(sim, 1); /* the zero frame is nobody's memory */
    sim_write(sim, 6, 1);
    sim_write(sim, 7, 1);
    qr_space_counts(space, &counts);
    EXPECT_EQ(counts.virtual_pages, 9);
    EXPECT_EQ(counts.data_pages, 4);
    EXPECT_EQ(counts.exec_pages, 2);
    EXPECT_EQ(counts.shared_pages, 3);
    EXPECT_EQ(counts.resident_anon, 1);
    EXPECT_EQ(counts.resident_shmem, 2);
    EXPECT_EQ(counts.resident_file, 0);
    ASSERT_EQ(sim_unmap(sim, 0, 9), QR_OK);
    qr_space_counts(space, &counts);
    EXPECT_EQ(counts.virtual_pages, 0);
    EXPECT_EQ(counts.peak_virtual_pages, 9);
    EXPECT_EQ(counts.peak_resident, 3);
    EXPECT_EQ(counts.resident_anon + counts.resident_shmem, 0);
    sim_shutdown(sim);
}

TEST(space, machine_gauges_count_a_shared_frame_once)
{
    struct sim *sim = boot();
    struct qr_counters *counters = qr_frames_counters(sim_frames(sim));

    ASSERT_EQ(sim_map(sim, 0, 4, SIM_W), QR_OK);
    EXPECT_EQ(qr_counter_read(counters, QR_PAGES_COMMITTED), 4);
    sim_write(sim, 0, 1);
    EXPECT_EQ(qr_counter_read(counters, QR_PAGES_ANON), 1);
    struct qr_space *child = sim_fork(sim);

    EXPECT_EQ(qr_counter_read(counters, QR_PAGES_ANON), 1);
    EXPECT_EQ(qr_counter_read(counters, QR_PAGES_COMMITTED), 8);
    sim_write(sim, 0, 2);
    EXPECT_EQ(qr_counter_read(counters, QR_PAGES_ANON), 2);
    sim_space_destroy(sim, child);
    EXPECT_EQ(qr_counter_read(counters, QR_PAGES_ANON), 1);
    EXPECT_EQ(qr_counter_read(counters, QR_PAGES_COMMITTED), 4);
    sim_shutdown(sim);
}

/* ---- Residency, advice, sync ------------------------------------------------------- */

TEST(space, residency_is_what_was_touched_or_is_cached)
{
    struct sim *sim = boot();
    struct qr_space *space = sim_space(sim);
    uint8_t map[4] = {9, 9, 9, 9};

    ASSERT_EQ(sim_map(sim, 0, 2, SIM_W), QR_OK);
    ASSERT_EQ(sim_map_shared(sim, 2, 2, SIM_W), QR_OK);
    sim_write(sim, 1, 1);
    sim_write(sim, 2, 1);
    ASSERT_EQ(qr_space_resident(space, sim_page(0), 4, map), QR_OK);
    EXPECT_MEM(map, ((uint8_t[]){0, 1, 1, 0}), 4);
    EXPECT_EQ(qr_space_resident(space, sim_page(2), 3, map), QR_ERR_NO_MEMORY);
    EXPECT_EQ(qr_space_resident(space, qr_va_of(SIM_BASE + 1), 1, map), QR_ERR_RANGE);
    /* Unmapped here, still in the object. */
    ASSERT_EQ(qr_space_advise(space, sim_page(2), QR_PAGE_SIZE, QR_ADVICE_DONT_NEED), QR_OK);
    ASSERT_EQ(qr_space_resident(space, sim_page(2), 1, map), QR_OK);
    EXPECT_EQ(map[0], 1);
    EXPECT_EQ(sim_read(sim, 2), 1);
    sim_shutdown(sim);
}

TEST(space, advice_that_does_not_suit_a_region_is_refused)
{
    struct sim *sim = boot();
    struct qr_space *space = sim_space(sim);
    size_t page = QR_PAGE_SIZE;

    ASSERT_EQ(sim_map(sim, 0, 1, SIM_W), QR_OK);
    ASSERT_EQ(sim_map_shared(sim, 1, 1, SIM_W), QR_OK);
    ASSERT_EQ(sim_map(sim, 2, 1, SIM_W), QR_OK);
    ASSERT_EQ(qr_space_lock_pages(space, sim_page(2), page, QR_LOCK_NOW), QR_OK);
    EXPECT_EQ(qr_space_advise(space, sim_page(1), page, QR_ADVICE_FREE), QR_ERR_INVALID);
    EXPECT_EQ(qr_space_advise(space, sim_page(1), page, QR_ADVICE_WIPE_ON_FORK), QR_ERR_INVALID);
    EXPECT_EQ(qr_space_advise(space, sim_page(0), page, QR_ADVICE_REMOVE), QR_ERR_INVALID);
    EXPECT_EQ(qr_space_advise(space, sim_page(2), page, QR_ADVICE_DONT_NEED), QR_ERR_INVALID);
    EXPECT_EQ(qr_space_advise(space, sim_page(2), page, QR_ADVICE_PAGE_OUT), QR_ERR_INVALID);
    EXPECT_EQ(qr_space_advise(space, sim_page(0), 4 * page, QR_ADVICE_RANDOM), QR_ERR_NO_MEMORY);
    EXPECT_EQ(qr_space_advise(space, qr_va_of(SIM_BASE + 1), page, QR_ADVICE_NORMAL), QR_ERR_RANGE);
    sim_write(sim, 1, 5);
    EXPECT_EQ(qr_space_advise(space, sim_page(1), page, QR_ADVICE_REMOVE), QR_OK);
    EXPECT_EQ(sim_read(sim, 1), 0);
    EXPECT_EQ(qr_space_sync(space, sim_page(2), page, true, true), QR_ERR_BUSY);
    EXPECT_EQ(qr_space_sync(space, sim_page(0), 4 * page, true, false), QR_ERR_NO_MEMORY);
    EXPECT_EQ(qr_space_sync(space, sim_page(0), 3 * page, true, false), QR_OK);
    sim_shutdown(sim);
}

/* ---- Moving ---------------------------------------------------------------------------- */

static enum qr_status
remap(struct sim *sim, struct qr_remap_request request, qr_va *out_va)
{
    enum qr_status status = qr_space_remap(sim_space(sim), &request, out_va);

    sim_validate(sim);
    return status;
}

TEST(space, remap_moves_where_there_is_no_room)
{
    struct sim *sim = boot();
    qr_va va;

    ASSERT_EQ(sim_map(sim, 0, 2, SIM_W), QR_OK);
    ASSERT_EQ(sim_map(sim, 2, 1, SIM_R), QR_OK);
    sim_write(sim, 0, 10);
    sim_write(sim, 1, 11);
    struct qr_remap_request request = {
        .old_start = sim_page(0), .old_bytes = 2 << QR_PAGE_SHIFT, .new_bytes = 4 << QR_PAGE_SHIFT};

    EXPECT_EQ(remap(sim, request, &va), QR_ERR_NO_MEMORY);
    request.flags = QR_REMAP_MAY_MOVE;
    ASSERT_EQ(remap(sim, request, &va), QR_OK);
    EXPECT_STR(sim_layout(sim), "..[R]");
    uint64_t value[3] = {0};

    for (size_t i = 0; i < 3; i++)
        EXPECT_EQ(sim_load(qr_va_of(va.v + (i << QR_PAGE_SHIFT)), &value[i], 8), SIM_OK);
    EXPECT_EQ(value[0], 10);
    EXPECT_EQ(value[1], 11);
    EXPECT_EQ(value[2], 0);
    EXPECT_EQ(sim_touch(sim, 0, QR_ACCESS_READ), SIM_SEGV_MAPERR);
    sim_shutdown(sim);
}

TEST(space, remap_refuses_what_linux_refuses)
{
    struct sim *sim = boot();
    const size_t page = QR_PAGE_SIZE;
    const struct {
        struct qr_remap_request request;
        enum qr_status want;
    } cases[] = {
        {{sim_page(0), page, 0, QR_REMAP_MAY_MOVE, {0}}, QR_ERR_INVALID},
        {{qr_va_of(SIM_BASE + 1), page, page, 0, {0}}, QR_ERR_INVALID},
        {{sim_page(0), page, page, 1 << 7, {0}}, QR_ERR_INVALID},
        {{sim_page(0), page, page, QR_REMAP_FIXED, {0}}, QR_ERR_INVALID},
        {{sim_page(0), page, 2 * page, QR_REMAP_MAY_MOVE | QR_REMAP_DONT_UNMAP, {0}},
         QR_ERR_INVALID},
        {{sim_page(0), 0, page, QR_REMAP_MAY_MOVE, {0}}, QR_ERR_INVALID},
        {{sim_page(9), page, page, QR_REMAP_MAY_MOVE, {0}}, QR_ERR_FAULT},
        {{sim_page(1), 2 * page, 3 * page, QR_REMAP_MAY_MOVE, {0}}, QR_ERR_FAULT},
        {{sim_page(0), page, page, QR_REMAP_MAY_MOVE | QR_REMAP_FIXED, sim_page(0)}, QR_ERR_RANGE},
        {{sim_page(0), page, page, QR_REMAP_MAY_MOVE | QR_REMAP_FIXED, qr_va_of(SIM_BASE + 5)},
         QR_ERR_RANGE},
        {{sim_page(0), page, SIZE_MAX - 3 * page, QR_REMAP_MAY_MOVE, {0}}, QR_ERR_NO_MEMORY},
    };

    ASSERT_EQ(sim_map(sim, 0, 2, SIM_W), QR_OK);
    for (size_t i = 0; i < QR_ARRAY_COUNT(cases); i++) {
        qr_va va = qr_va_of(3);
        enum qr_status status = remap(sim, cases[i].request, &va);

        if (status != cases[i].want || va.v != 3)
            TEST_FAIL("case %zu: %s", i, qr_status_name(status));
        EXPECT_STR(sim_layout(sim), "[WW]");
    }
    sim_shutdown(sim);
}

/* ---- Tables ------------------------------------------------------------------------------- */

/* One page in each 2 MiB, mapped, touched and unmapped, must not collect tables (invariants 32). */
TEST(space, empty_tables_do_not_collect)
{
    struct sim *sim = sim_boot((struct sim_options){.features = SIM_NO_VALIDATE});
    struct qr_space *space = sim_space(sim);
    size_t most = 0;

    for (size_t i = 0; i < 2000 && SIM_BASE + (i << 21) < qr_port_user_end(); i++) {
        struct qr_map_request request = {.hint = qr_va_of(SIM_BASE + (i << 21)),
                                         .bytes = QR_PAGE_SIZE,
                                         .prot = SIM_W,
                                         .flags = QR_MAP_FIXED};
        qr_va va;
        char byte = 1;

        ASSERT_EQ(qr_space_map(space, &request, &va), QR_OK);
        ASSERT_EQ(sim_store(va, &byte, 1), SIM_OK);
        ASSERT_EQ(qr_space_unmap(space, va, QR_PAGE_SIZE), QR_OK);
        most = qr_max_size(most, space->tables.table_count);
    }
    EXPECT_LT(most, 64);
    sim_shutdown(sim);
}

/* A hint is a wish, FIXED an order, NOREPLACE an order that hurts nobody. */
TEST(space, placement_takes_hints_and_orders)
{
    struct sim *sim = boot();
    struct qr_space *space = sim_space(sim);
    struct qr_map_request request = {.hint = sim_page(4), .bytes = QR_PAGE_SIZE, .prot = SIM_R};
    qr_va va;

    ASSERT_EQ(qr_space_map(space, &request, &va), QR_OK);
    EXPECT_EQ(va.v, sim_page(4).v);
    ASSERT_EQ(qr_space_map(space, &request, &va), QR_OK);
    EXPECT_NE(va.v, sim_page(4).v);
    request.flags = QR_MAP_FIXED_NOREPLACE;
    EXPECT_EQ(qr_space_map(space, &request, &va), QR_ERR_EXISTS);
    request.hint = sim_page(5);
    ASSERT_EQ(qr_space_map(space, &request, &va), QR_OK);
    EXPECT_EQ(va.v, sim_page(5).v);
    request.flags = QR_MAP_LOW;
    request.hint = qr_va_of(0);
    ASSERT_EQ(qr_space_map(space, &request, &va), QR_OK);
    EXPECT_LT(va.v, (uintptr_t)1 << 31);
    request.flags = 0;
    request.align_bytes = (size_t)1 << 21;
    ASSERT_EQ(qr_space_map(space, &request, &va), QR_OK);
    EXPECT_EQ(va.v & (((uintptr_t)1 << 21) - 1), 0);
    sim_validate(sim);
    sim_shutdown(sim);
}

/* Below the floor only who may, and nobody by a hint. */
TEST(space, the_floor_of_new_mappings)
{
    struct sim *sim = sim_boot((struct sim_options){.seed = test_seed()});
    struct qr_space *space = sim_space(sim);
    uintptr_t lowest = space->layout.user_start.v, floor = lowest + 16 * QR_PAGE_SIZE;
    struct qr_map_request request = {.hint = qr_va_of(floor - QR_PAGE_SIZE),
                                     .bytes = QR_PAGE_SIZE,
                                     .prot = QR_PROT_READ,
                                     .flags = QR_MAP_FIXED};
    qr_va va;

    EXPECT_EQ(qr_vm_floor(space->vm).v, lowest);
    qr_vm_set_floor(space->vm, qr_va_of(0));
    EXPECT_EQ(qr_vm_floor(space->vm).v, lowest);
    qr_vm_set_floor(space->vm, qr_va_of(floor - 1));
    EXPECT_EQ(qr_vm_floor(space->vm).v, floor);
    EXPECT_EQ(qr_space_map(space, &request, &va), QR_ERR_RANGE);
    space->limits.low_addresses = true;
    ASSERT_EQ(qr_space_map(space, &request, &va), QR_OK);
    EXPECT_EQ(va.v, floor - QR_PAGE_SIZE);
    request.hint = qr_va_of(lowest - QR_PAGE_SIZE);
    EXPECT_EQ(qr_space_map(space, &request, &va), QR_ERR_RANGE);
    request.flags = 0;
    request.hint = qr_va_of(lowest + QR_PAGE_SIZE);
    ASSERT_EQ(qr_space_map(space, &request, &va), QR_OK);
    EXPECT_EQ(va.v, floor);
    sim_validate(sim);
    sim_shutdown(sim);
}
