/* SPDX-License-Identifier: MIT */
/*
 * Swap: what goes comes back, byte by byte, whoever shares it, and whatever disk and memory refuse.
 * model_test.c has it among all other calls.
 */
#include "harness.h"

#include <quire/fault.h>
#include <quire/shrink.h>

#include <string.h>

#include "reclaim/migrate.h"
#include "sim.h"
#include "space/vm.h"
#include "swap_race.h"

enum { PAGES = 40, DISK = 600 };

static size_t
swapped(struct sim *sim)
{
    return (size_t)atomic_load(&sim_space(sim)->swapped);
}

/* Everything that can: the first look forgets who used what. */
static void
swap_all(struct sim *sim)
{
    (void)sim_swap_out(sim, SIZE_MAX);
    (void)sim_swap_out(sim, SIZE_MAX);
    sim_validate(sim);
}

static struct sim *
boot_with_pages(struct sim_options options, struct sim_disk **out_disk)
{
    struct sim *sim = sim_boot(options);

    *out_disk = sim_swap_on(sim, DISK, 0);
    EXPECT_EQ(sim_map(sim, 0, PAGES, SIM_W), QR_OK);
    for (size_t page = 0; page < PAGES; page++)
        sim_write(sim, page, page + 1);
    return sim;
}

static struct sim *
boot(struct sim_disk **out_disk)
{
    return boot_with_pages((struct sim_options){.seed = test_seed()}, out_disk);
}

static struct qr_swap_stats
stats(struct sim *sim)
{
    struct qr_swap_stats all;

    qr_swap_stats(sim_swap(sim), &all);
    return all;
}

static enum qr_status
advise(struct sim *sim, size_t first, size_t count, enum qr_advice advice)
{
    return qr_space_advise(sim_space(sim), sim_page(first), count << QR_PAGE_SHIFT, advice);
}

TEST(swap, pages_go_and_come_back)
{
    sim_for_each_mmu(mmu)
    {
        struct sim_disk *disk;
        struct sim *sim =
            boot_with_pages((struct sim_options){.seed = test_seed(), .mmu = mmu}, &disk);

        for (unsigned round = 1; round <= 3; round++) {
            swap_all(sim);
            EXPECT_EQ(swapped(sim), (size_t)PAGES);
            EXPECT_EQ(qr_space_resident_pages(sim_space(sim)), 0u);
            EXPECT_EQ(stats(sim).used, (size_t)PAGES);
            EXPECT_EQ(stats(sim).cached, 0u);
            for (size_t page = 0; page < PAGES; page++)
                EXPECT_EQ(sim_read(sim, page), page + round);
            for (size_t page = 0; page < PAGES; page++)
                sim_write(sim, page, page + round + 1);
            sim_validate(sim);
            EXPECT_EQ(swapped(sim), 0u);
            EXPECT_EQ(stats(sim).used, 0u); /* who writes has the page alone */
            EXPECT_EQ(sim_disk_stats(disk).pages_written, (uint64_t)PAGES * round);
        }
        sim_shutdown(sim);
    }
}

TEST(swap, neighbours_are_written_and_read_together)
{
    struct sim_disk *disk;
    struct sim *sim = boot(&disk);

    swap_all(sim);
    EXPECT_TRUE(sim_disk_stats(disk).writes <= PAGES / 16);
    for (size_t page = 0; page < PAGES; page++)
        EXPECT_EQ(sim_read(sim, page), page + 1);
    EXPECT_EQ(sim_disk_stats(disk).pages_read, (uint64_t)PAGES);
    EXPECT_TRUE(sim_disk_stats(disk).reads <= PAGES / 4);
    sim_shutdown(sim);
}

TEST(swap, a_copy_that_was_only_read_is_not_written_again)
{
    struct sim_disk *disk;
    struct sim *sim = boot(&disk);

    swap_all(sim);
    for (size_t page = 0; page < PAGES; page++)
        EXPECT_EQ(sim_read(sim, page), page + 1);
    EXPECT_EQ(stats(sim).cached, (size_t)PAGES);
    sim_write(sim, 3, 77); /* this one differs now */
    swap_all(sim);
    EXPECT_EQ(swapped(sim), (size_t)PAGES);
    EXPECT_EQ(sim_disk_stats(disk).pages_written, (uint64_t)PAGES + 1);
    EXPECT_EQ(sim_read(sim, 3), 77u);
    EXPECT_EQ(sim_read(sim, 4), 5u);
    sim_shutdown(sim);
}

TEST(swap, what_was_used_since_the_last_look_stays)
{
    struct sim_disk *disk;
    struct sim *sim = boot(&disk);

    (void)sim_swap_out(sim, SIZE_MAX); /* two looks: all go */
    for (size_t page = 0; page < PAGES; page++)
        sim_write(sim, page, page);
    const struct qr_reclaim_request request = {.pages = SIZE_MAX};
    struct qr_swap_scan scan = {.request = &request};

    do /* one look */
        qr_space_swap_scan(sim_space(sim), &scan);
    while (!scan.ended);
    EXPECT_EQ(swapped(sim), 0u);
    for (size_t page = 0; page < PAGES; page += 2)
        EXPECT_EQ(sim_read(sim, page), page);
    do {
        qr_space_swap_scan(sim_space(sim), &scan);
        (void)qr_swap_write(sim_swap(sim), scan.slots, scan.count);
    } while (!scan.ended);
    /* A CPU that looks ahead uses pages that nobody asked for. */
    EXPECT_TRUE(swapped(sim) > 0 && swapped(sim) <= (size_t)PAGES / 2);
    uint64_t before = sim_disk_stats(disk).pages_read;

    for (size_t page = 0; page < PAGES; page += 2)
        EXPECT_EQ(sim_read(sim, page), page);
    EXPECT_EQ(sim_disk_stats(disk).pages_read, before);
    sim_validate(sim);
    sim_shutdown(sim);
}

TEST(swap, a_page_on_its_way_out_is_had_back_without_a_read)
{
    struct sim_disk *disk;
    struct sim *sim = boot(&disk);
    const struct qr_reclaim_request request = {.pages = 8};
    struct qr_swap_scan scan = {.request = &request};

    do
        qr_space_swap_scan(sim_space(sim), &scan);
    while (scan.count == 0);
    EXPECT_EQ(swapped(sim), 8u);
    EXPECT_EQ(stats(sim).cached, 8u);
    sim_write(sim, 0, 100);
    EXPECT_EQ(sim_read(sim, 1), 2u);
    EXPECT_EQ(qr_swap_write(sim_swap(sim), scan.slots, scan.count), 6u);
    EXPECT_EQ(sim_disk_stats(disk).reads, 0u);
    sim_validate(sim);
    for (size_t page = 0; page < PAGES; page++)
        EXPECT_EQ(sim_read(sim, page), page == 0 ? 100 : page + 1);
    sim_shutdown(sim);
}

TEST(swap, forks_share_what_is_out_and_what_comes_in)
{
    struct sim_disk *disk;
    struct sim *sim = boot(&disk);
    struct qr_space *parent = sim_space(sim);

    (void)advise(sim, 0, PAGES / 2, QR_ADVICE_PAGE_OUT);
    struct qr_space *child = sim_fork(sim), *third;

    sim_validate(sim);
    sim_write(sim, 0, 100); /* the child still has the old one */
    sim_use(sim, child);
    EXPECT_EQ(sim_read(sim, 0), 1u);
    sim_write(sim, 1, 200);
    third = sim_fork(sim);
    swap_all(sim);
    EXPECT_EQ(sim_read(sim, 1), 200u);
    EXPECT_EQ(sim_read(sim, 30), 31u);
    sim_use(sim, third);
    EXPECT_EQ(sim_read(sim, 1), 200u);
    sim_write(sim, 30, 300);
    EXPECT_EQ(sim_read(sim, 30), 300u);
    sim_use(sim, parent);
    for (size_t page = 0; page < PAGES; page++)
        EXPECT_EQ(sim_read(sim, page), page == 0 ? 100 : page + 1);
    sim_validate(sim);
    sim_space_destroy(sim, child);
    sim_validate(sim);
    swap_all(sim);
    sim_use(sim, third);
    for (size_t page = 0; page < PAGES; page++)
        EXPECT_EQ(sim_read(sim, page), page == 1 ? 200 : page == 30 ? 300 : page + 1);
    sim_use(sim, parent);
    sim_space_destroy(sim, third);
    sim_validate(sim);
    sim_shutdown(sim);
}

TEST(swap, a_pinned_page_stays)
{
    struct sim_disk *disk;
    struct sim *sim = boot(&disk);
    struct qr_frame *frame;

    ASSERT_EQ(qr_space_get_frame(sim_space(sim), sim_page(5), QR_ACCESS_WRITE, false, &frame),
              QR_OK);
    swap_all(sim);
    EXPECT_EQ(swapped(sim), (size_t)PAGES - 1);
    *(uint64_t *)sim_ram(sim, qr_frame_pa(sim_frames(sim), frame)) = 55;
    EXPECT_EQ(sim_read(sim, 5), 55u);
    qr_frame_put(sim_frames(sim), frame);
    swap_all(sim);
    EXPECT_EQ(swapped(sim), (size_t)PAGES);
    EXPECT_EQ(sim_read(sim, 5), 55u);
    sim_shutdown(sim);
}

TEST(swap, calls_meet_pages_that_are_out)
{
    struct sim_disk *disk;
    struct sim *sim = boot(&disk);
    struct qr_space *space = sim_space(sim);
    struct qr_remap_request move = {.old_start = sim_page(0),
                                    .old_bytes = 4 << QR_PAGE_SHIFT,
                                    .new_bytes = 4 << QR_PAGE_SHIFT,
                                    .flags = QR_REMAP_FIXED | QR_REMAP_MAY_MOVE,
                                    .new_start = sim_page(100)};
    uint8_t resident[PAGES];
    qr_va va;

    ASSERT_EQ(advise(sim, 0, PAGES, QR_ADVICE_PAGE_OUT), QR_OK);
    EXPECT_EQ(swapped(sim), (size_t)PAGES);
    ASSERT_EQ(qr_space_resident(space, sim_page(0), PAGES, resident), QR_OK);
    EXPECT_EQ(resident[0] + resident[20], 0);
    ASSERT_EQ(advise(sim, 20, 5, QR_ADVICE_WILL_NEED), QR_OK);
    ASSERT_EQ(qr_space_resident(space, sim_page(0), PAGES, resident), QR_OK);
    EXPECT_EQ(resident[20] + resident[24], 2);
    ASSERT_EQ(qr_space_remap(space, &move, &va), QR_OK);
    EXPECT_EQ(sim_read(sim, 102), 3u);
    ASSERT_EQ(advise(sim, 8, 4, QR_ADVICE_DONT_NEED), QR_OK);
    EXPECT_EQ(sim_read(sim, 9), 0u);
    ASSERT_EQ(advise(sim, 12, 4, QR_ADVICE_FREE), QR_OK);
    EXPECT_EQ(sim_read(sim, 13), 0u);
    ASSERT_EQ(sim_protect(sim, 16, 20, SIM_R), QR_OK);
    EXPECT_EQ(sim_read(sim, 17), 18u);
    EXPECT_EQ(sim_touch(sim, 17, QR_ACCESS_WRITE), SIM_SEGV_ACCERR);
    EXPECT_EQ(sim_touch(sim, 18, QR_ACCESS_WRITE), SIM_SEGV_ACCERR);
    ASSERT_EQ(sim_unmap(sim, 24, 28), QR_OK);
    ASSERT_EQ(qr_space_lock_pages(space, sim_page(28), 4 << QR_PAGE_SHIFT, QR_LOCK_NOW), QR_OK);
    swap_all(sim);
    ASSERT_EQ(qr_space_resident(space, sim_page(28), 4, resident), QR_OK);
    EXPECT_EQ(resident[0] + resident[3], 2);
    EXPECT_EQ(sim_read(sim, 29), 30u);
    sim_shutdown(sim);
}

/* Where the first page is that reading would find, from @first on; @last: none. */
static size_t
next_data(struct sim *sim, size_t first, size_t last)
{
    struct qr_va_range range = {sim_page(first), sim_page(last)};
    qr_va va = range.end;

    EXPECT_EQ(qr_space_next_data(sim_space(sim), range, &va), va.v != range.end.v);
    return first + ((va.v - range.start.v) >> QR_PAGE_SHIFT);
}

static bool
has_copies(struct sim *sim, size_t page)
{
    struct qr_space *space = sim_space(sim);

    qr_rw_read_lock(&space->lock);
    bool has = qr_region_has_copies(qr_space_find(space, sim_page(page)));
    qr_rw_read_unlock(&space->lock);
    return has;
}

/*
 * page     0 .. 39     60 61 62 63 64 65 66 67     80 81 82 83
 *          all written  .  .  W  .  .  Z  .  .     shared: 81 written
 */
TEST(swap, what_can_be_read_is_found_in_memory_and_out_of_it)
{
    struct sim_disk *disk;
    struct sim *sim = boot(&disk);

    ASSERT_EQ(sim_map(sim, 60, 8, SIM_W), QR_OK);
    ASSERT_EQ(sim_map_shared(sim, 80, 4, SIM_W), QR_OK);
    EXPECT_FALSE(has_copies(sim, 60));
    EXPECT_EQ(sim_read(sim, 65), 0u); /* the zero frame is nobody's copy */
    EXPECT_FALSE(has_copies(sim, 60));
    EXPECT_EQ(next_data(sim, 60, 68), 65u);
    sim_write(sim, 62, 62);
    sim_write(sim, 81, 81);
    for (unsigned out = 0; out < 2; out++) {
        EXPECT_TRUE(has_copies(sim, 0) && has_copies(sim, 60) && !has_copies(sim, 80));
        EXPECT_EQ(next_data(sim, 0, 100), 0u);
        EXPECT_EQ(next_data(sim, PAGES - 1, 100), PAGES - 1u);
        EXPECT_EQ(next_data(sim, PAGES, 100), 62u);
        EXPECT_EQ(next_data(sim, 62, 63), 62u);
        EXPECT_EQ(next_data(sim, 66, 100), 81u);
        EXPECT_EQ(next_data(sim, 66, 81), 81u);
        EXPECT_EQ(next_data(sim, 82, 100), 100u);
        swap_all(sim);
    }
    EXPECT_EQ(qr_space_resident_pages(sim_space(sim)), 0u);
    sim_shutdown(sim);
}

/* ---- Disks that fail and fill ---------------------------------------------------------- */

TEST(swap, what_cannot_be_written_stays)
{
    struct sim_disk *disk;
    struct sim *sim = boot(&disk);

    sim_disk_set_failing(disk, 0, 3);
    for (unsigned round = 0; round < 4; round++) {
        swap_all(sim);
        EXPECT_TRUE(sim_disk_stats(disk).failed != 0);
        for (size_t page = 0; page < PAGES; page++) {
            EXPECT_EQ(sim_read(sim, page), page + 1 + round);
            sim_write(sim, page, page + 2 + round);
        }
        sim_validate(sim);
    }
    EXPECT_TRUE(stats(sim).pages < DISK - 1); /* bad ones are not tried again */
    sim_shutdown(sim);
}

TEST(swap, what_cannot_be_read_is_told_to_who_wants_it)
{
    struct sim_disk *disk;
    struct sim *sim = boot(&disk);
    size_t failed = 0;

    swap_all(sim);
    sim_disk_set_failing(disk, 3, 0);
    for (size_t page = 0; page < PAGES; page++) {
        enum sim_signal signal = sim_touch(sim, page, QR_ACCESS_READ);

        EXPECT_TRUE(signal == SIM_OK || signal == SIM_BUS_ADRERR);
        failed += signal != SIM_OK;
    }
    EXPECT_TRUE(failed != 0 && failed < PAGES);
    sim_validate(sim);
    sim_disk_set_failing(disk, 0, 0);
    for (size_t page = 0; page < PAGES; page++)
        EXPECT_EQ(sim_read(sim, page), page + 1);
    sim_shutdown(sim);
}

TEST(swap, areas_are_filled_by_priority_and_in_turn)
{
    struct sim *sim = sim_boot(
        (struct sim_options){.seed = test_seed(), .frames = 4096, .features = SIM_NO_VALIDATE});
    struct sim_disk *low = sim_swap_on(sim, 3000, 1), *first = sim_swap_on(sim, 513, 5),
                    *second = sim_swap_on(sim, 513, 5);
    struct qr_swap_area_stats of_low, of_first, of_second;

    ASSERT_EQ(sim_map(sim, 0, 1500, SIM_W), QR_OK);
    for (size_t page = 0; page < 1500; page++)
        sim_write(sim, page, page);
    ASSERT_EQ(advise(sim, 0, 600, QR_ADVICE_PAGE_OUT), QR_OK);
    qr_swap_area_stats(sim_swap(sim), sim_disk_area(first), &of_first);
    qr_swap_area_stats(sim_swap(sim), sim_disk_area(second), &of_second);
    EXPECT_EQ(of_first.used + of_second.used, 600u);
    EXPECT_TRUE(of_first.used >= 250 && of_second.used >= 250);
    ASSERT_EQ(advise(sim, 0, 1500, QR_ADVICE_PAGE_OUT), QR_OK);
    qr_swap_area_stats(sim_swap(sim), sim_disk_area(first), &of_first);
    qr_swap_area_stats(sim_swap(sim), sim_disk_area(second), &of_second);
    qr_swap_area_stats(sim_swap(sim), sim_disk_area(low), &of_low);
    EXPECT_EQ(of_first.used, 512u);
    EXPECT_EQ(of_second.used, 512u);
    EXPECT_EQ(of_low.used, 1500u - 1024);
    for (size_t page = 0; page < 1500; page++)
        EXPECT_EQ(sim_read(sim, page), page);
    sim_validate(sim);
    sim_shutdown(sim);
}

TEST(swap, a_full_disk_takes_no_more)
{
    struct sim *sim = sim_boot((struct sim_options){.seed = test_seed()});

    (void)sim_swap_on(sim, 17, 0);
    ASSERT_EQ(sim_map(sim, 0, PAGES, SIM_W), QR_OK);
    for (unsigned round = 0; round < 3; round++) {
        for (size_t page = 0; page < PAGES; page++)
            sim_write(sim, page, page + round);
        swap_all(sim);
        EXPECT_EQ(swapped(sim), 16u);
        for (size_t page = 0; page < PAGES; page++)
            EXPECT_EQ(sim_read(sim, page), page + round);
        EXPECT_EQ(stats(sim).used + 0u, stats(sim).cached);
    }
    sim_shutdown(sim);
}

TEST(swap, bad_pages_are_never_used)
{
    struct sim *sim = sim_boot((struct sim_options){.seed = test_seed()});
    static const size_t bad[] = {0, 1, 5, 5, 300, SIZE_MAX};
    const struct qr_swap_ops none = {.read = NULL};
    struct qr_swap_area_config config = {
        .pages = 8, .bad = bad, .bad_count = QR_ARRAY_COUNT(bad), .ops = &none};
    struct qr_swap_area_stats area;
    unsigned number;

    ASSERT_EQ(qr_swap_add(sim_swap(sim), &config, &number), QR_OK);
    qr_swap_area_stats(sim_swap(sim), number, &area);
    EXPECT_EQ(area.pages, 5u);
    sim_validate(sim);
    config.pages = 2; /* all of it is bad */
    EXPECT_EQ(qr_swap_add(sim_swap(sim), &config, &number), QR_ERR_INVALID);
    config.pages = 1;
    EXPECT_EQ(qr_swap_add(sim_swap(sim), &config, &number), QR_ERR_INVALID);
    sim_shutdown(sim);
}

/* ---- The end of an area ------------------------------------------------------------------ */

TEST(swap, swapoff_brings_everything_back)
{
    struct sim_disk *disk;
    struct sim *sim = boot(&disk);
    struct qr_space *parent = sim_space(sim), *child = sim_fork(sim);

    swap_all(sim);
    EXPECT_EQ(sim_read(sim, 7), 8u);
    ASSERT_EQ(sim_protect(sim, 20, 22, SIM_N), QR_OK); /* no fault would */
    ASSERT_EQ(qr_swap_off(sim_vm(sim), sim_disk_area(disk), NULL), QR_OK);
    sim_validate(sim);
    EXPECT_EQ(swapped(sim), 0u);
    EXPECT_FALSE(qr_swap_is_active(sim_swap(sim)));
    EXPECT_EQ(sim_swap_out(sim, SIZE_MAX), 0u);
    ASSERT_EQ(sim_protect(sim, 20, 22, SIM_W), QR_OK);
    for (size_t page = 0; page < PAGES; page++)
        EXPECT_EQ(sim_read(sim, page), page + 1);
    sim_use(sim, child);
    for (size_t page = 0; page < PAGES; page++)
        EXPECT_EQ(sim_read(sim, page), page + 1);
    sim_use(sim, parent);
    sim_space_destroy(sim, child);
    sim_shutdown(sim);
}

TEST(swap, swapoff_without_memory_changes_nothing)
{
    unsigned refusal = 0;
    enum qr_status status;

    do {
        struct sim_disk *disk;
        struct sim *sim = boot(&disk);

        swap_all(sim);
        refusal += refusal < 5 ? 0 : 6;
        sim_refuse_next(sim, &refusal);
        status = qr_swap_off(sim_vm(sim), sim_disk_area(disk), NULL);
        sim_refuse_nth(sim, 0, SIM_REFUSE_ONCE);
        EXPECT_EQ(qr_swap_is_active(sim_swap(sim)), status != QR_OK);
        sim_validate(sim);
        for (size_t page = 0; page < PAGES; page++)
            EXPECT_EQ(sim_read(sim, page), page + 1);
        sim_shutdown(sim);
    } while (status == QR_ERR_NO_MEMORY);
    EXPECT_EQ(status, QR_OK);
}

TEST(swap, swapoff_poisons_what_it_cannot_read)
{
    struct sim_disk *disk;
    struct sim *sim = boot(&disk);
    size_t lost = 0;

    swap_all(sim);
    sim_disk_set_failing(disk, 3, 0);
    ASSERT_EQ(qr_swap_off(sim_vm(sim), sim_disk_area(disk), NULL), QR_OK);
    for (size_t page = 0; page < PAGES; page++) {
        uint64_t value = 0;
        enum sim_signal signal = sim_load(sim_page(page), &value, sizeof(value));

        EXPECT_TRUE(signal == SIM_BUS_IO || (signal == SIM_OK && value == page + 1));
        lost += signal != SIM_OK;
    }
    EXPECT_TRUE(lost != 0 && lost < PAGES);
    sim_shutdown(sim);
}

/* ---- Memory that is too small ---------------------------------------------------------------- */

static size_t
reclaim(void *context, size_t wanted, unsigned flags)
{
    const struct qr_reclaim_request request = {.pages = wanted};

    (void)flags;
    return qr_reclaim(context, &request);
}

/* Tables are wanted with locks held: nothing is reclaimed for them but between attempts. */
static struct qr_space *
patient_fork(struct sim *sim, unsigned *out_refused)
{
    struct qr_space *child = NULL;
    unsigned attempt = 0;

    while (qr_space_fork(sim_space(sim), &child) != QR_OK) {
        if (!qr_space_make_room(sim_space(sim), attempt++))
            sim_fail("no room for a fork after %u attempts", attempt);
    }
    if (out_refused != NULL)
        *out_refused = attempt;
    return child;
}

/* All frames but @left. @return how many are in @out_taken */
static size_t
take_frames(struct sim *sim, size_t left, struct qr_frame **out_taken)
{
    size_t taken = 0;

    while ((out_taken[taken] = qr_frame_alloc(sim_frames(sim), QR_ALLOC_NO_REPORT)) != NULL)
        taken++;
    for (; left > 0 && taken > 0; left--)
        qr_frame_put(sim_frames(sim), out_taken[--taken]);
    return taken;
}

TEST(swap, a_fork_waits_for_its_tables)
{
    enum { FRAMES = 1200, APART_PAGES = 150 };
    static struct qr_frame *taken[FRAMES];
    struct sim *sim = sim_boot(
        (struct sim_options){.seed = test_seed(), .frames = FRAMES, .features = SIM_NO_VALIDATE});
    struct qr_space *parent = sim_space(sim), *child;
    size_t apart = (size_t)1 << (qr_format_shift(parent->tables.format, 1) - QR_PAGE_SHIFT), count;
    size_t high, high_free;
    unsigned refused;

    if (qr_frames_high_stats(sim_frames(sim), &high, &high_free)) {
        sim_shutdown(sim); /* the pages would lie where no table can be */
        return;
    }
    (void)sim_swap_on(sim, 1000, 0);
    qr_swap_attach(sim_vm(sim));
    for (size_t i = 0; i < APART_PAGES; i++) { /* a table each */
        ASSERT_EQ(sim_map(sim, i * apart, 1, SIM_W), QR_OK);
        sim_write(sim, i * apart, i);
    }
    count = take_frames(sim, atomic_load(&parent->tables.table_count) - 60, taken);
    EXPECT_EQ(qr_space_fork(parent, &child), QR_ERR_NO_MEMORY);
    EXPECT_FALSE(qr_space_make_room(parent, 10)); /* so many there are not, and nobody reclaims */
    EXPECT_FALSE(qr_space_make_room(parent, 0));  /* nor has anything failed since */
    qr_frames_set_reclaim(sim_frames(sim), reclaim, sim_vm(sim));
    child = patient_fork(sim, &refused);
    EXPECT_TRUE(refused > 0);
    while (count > 0)
        qr_frame_put(sim_frames(sim), taken[--count]);
    sim_validate(sim);
    sim_use(sim, child);
    for (size_t i = 0; i < APART_PAGES; i++)
        EXPECT_EQ(sim_read(sim, i * apart), i);
    qr_frames_set_reclaim(sim_frames(sim), NULL, NULL);
    sim_use(sim, parent);
    sim_space_destroy(sim, child);
    sim_shutdown(sim);
}

TEST(swap, twice_as_much_as_there_is_memory)
{
    const size_t pages = 400;
    struct sim *sim = sim_boot(
        (struct sim_options){.seed = test_seed(), .frames = 350, .features = SIM_NO_VALIDATE});
    uint64_t random = test_seed();
    struct qr_space *parent = sim_space(sim), *child;

    (void)sim_swap_on(sim, 6000, 0);
    qr_swap_attach(sim_vm(sim));
    qr_frames_set_reclaim(sim_frames(sim), reclaim, sim_vm(sim));
    ASSERT_EQ(sim_map(sim, 0, pages, SIM_W), QR_OK);
    for (size_t page = 0; page < pages; page++)
        sim_write(sim, page, page);
    child = patient_fork(sim, NULL);
    for (unsigned i = 0; i < 300; i++) {
        size_t page = test_random(&random) % pages;

        EXPECT_EQ(sim_read(sim, page) % 1000, page);
        sim_write(sim, page, page + 1000 * (i % 7));
    }
    sim_validate(sim);
    sim_use(sim, child);
    for (size_t page = 0; page < pages; page++)
        EXPECT_EQ(sim_read(sim, page), page);
    sim_validate(sim);
    qr_frames_set_reclaim(sim_frames(sim), NULL, NULL);
    sim_use(sim, parent);
    sim_space_destroy(sim, child);
    sim_shutdown(sim);
}

/* ---- Threads ---------------------------------------------------------------------------------- */

enum { SHARED = 6, AREA = 100 };

/* Its own pages hold what it wrote last, and what all read is what it was, here and in children. */
static void
writer_main(void *context)
{
    struct thread *thread = context;
    struct race *race = thread->race;

    sim_use(race->sim, race->space);
    for (uint64_t i = 1; i <= ROUNDS; i++) {
        size_t page = SHARED + thread->index * OWN + test_random(&thread->random) % OWN;
        size_t common = test_random(&thread->random) % SHARED;

        race_lose_unless(race, sim_store(sim_page(page), &i, sizeof(i)) == SIM_OK &&
                                   race_load(race, page) == i &&
                                   race_load(race, common) == common + 1);
    }
    sim_use(race->sim, NULL);
    atomic_fetch_sub(&race->alive, 1);
}

/* What a child inherits stays as it was, whatever the writers do. */
static void
forker_main(void *context)
{
    struct thread *thread = context;
    struct race *race = thread->race;

    while (atomic_load(&race->alive) != 0) {
        struct qr_space *child;

        sim_use(race->sim, race->space);
        if (qr_space_fork(race->space, &child) != QR_OK)
            continue;
        sim_use(race->sim, child);
        size_t own = SHARED + test_random(&thread->random) % (WRITERS * OWN);
        uint64_t before = race_load(race, own), other = 9;

        for (size_t page = 0; page < SHARED; page++)
            race_lose_unless(race, race_load(race, page) == page + 1);
        race_lose_unless(race, race_load(race, own) == before);
        (void)sim_store(sim_page(1), &other, sizeof(other)); /* its own by now */
        sim_use(race->sim, NULL);
        qr_space_put(child);
    }
}

/* Another frame for whatever the cache has, as compaction does. */
static void
move_cached(struct race *race)
{
    struct qr_frames *frames = sim_frames(race->sim);
    struct qr_swap *swap = sim_swap(race->sim);
    uintptr_t area = sim_disk_area(race->disk);

    for (uintptr_t page = 1; page < AREA; page++) {
        struct qr_frame *frame = qr_swap_lookup(swap, qr_slot_of(page << QR_SWAP_AREAS_LOG | area));
        struct qr_frame *target = frame == NULL ? NULL : qr_frame_alloc(frames, QR_ALLOC_MOVABLE);

        if (frame != NULL)
            qr_frame_put(frames, frame);
        if (target != NULL && qr_frame_migrate(sim_vm(race->sim), frame, target) == QR_ERR_BUSY)
            qr_frame_put(frames, target);
    }
}

static void
race_under(uint64_t seed, enum sim_run_mode mode)
{
    struct race race = {.pages = SHARED, .batch = 4, .also = move_cached};

    race.sim = sim_boot(race_options(seed, mode));
    race.space = sim_space(race.sim);
    race.disk = sim_swap_on(race.sim, AREA, 0);
    ASSERT_EQ(sim_map(race.sim, 0, SHARED + WRITERS * OWN, SIM_W), QR_OK);
    for (size_t page = 0; page < SHARED; page++)
        sim_write(race.sim, page, page + 1);
    race_run(&race, seed, mode, writer_main, forker_main);
    sim_validate(race.sim);
    sim_shutdown(race.sim);
}

TEST(swap, nothing_is_lost_under_any_schedule)
{
    uint64_t seeds = sim_seeds(40);

    for (uint64_t seed = 0; seed < seeds; seed++)
        race_under(test_seed() + seed * 10, SIM_RUN_SEEDED);
}

TEST_THREADS(swap, nothing_is_lost_on_real_threads)
{
    race_under(test_seed(), SIM_RUN_THREADS);
}
