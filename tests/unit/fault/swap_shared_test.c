/* SPDX-License-Identifier: MIT */
/*
 * Shared memory in swap: whoever maps, reads, cuts or locks it finds what was written, whatever disk and memory
 * refuse.  swap_test.c has private memory; model_test.c both, among all other calls.
 */
#include "harness.h"

#include <quire/fault.h>
#include <quire/listener.h>
#include <quire/shrink.h>

#include <string.h>

#include "sim.h"
#include "space/vm.h"
#include "swap_race.h"

enum { PAGES = 40, DISK = 600, OTHER = 100, OTHER_SHIFT = 5 };

/* An object that one space maps at page 0, and another from its page OTHER_SHIFT on at page OTHER. */
struct shared {
    struct sim *sim;
    struct sim_disk *disk;
    struct qr_object *object;
    struct qr_space *space, *other;
};

static long
gauge(struct shared *shared, enum qr_counter counter)
{
    return qr_counter_read(qr_frames_counters(sim_frames(shared->sim)), counter);
}

static void
expect_held(struct shared *shared, size_t resident, size_t swapped)
{
    EXPECT_EQ(qr_object_resident(shared->object), resident);
    EXPECT_EQ(qr_object_swapped(shared->object), swapped);
    EXPECT_EQ(qr_object_held(shared->object), resident + swapped);
    EXPECT_EQ(gauge(shared, QR_PAGES_SHMEM), (long)resident);
}

static void
shared_begin(struct shared *shared, struct sim_options options)
{
    if (options.seed == 0)
        options.seed = test_seed();
    shared->sim = sim_boot(options);
    shared->disk = sim_swap_on(shared->sim, DISK, 0);
    shared->space = sim_space(shared->sim);
    ASSERT_EQ(qr_object_create(sim_objects(shared->sim), &qr_pager_memory, NULL,
                               (uint64_t)PAGES << QR_PAGE_SHIFT, &shared->object),
              QR_OK);
    ASSERT_EQ(sim_map_object(shared->sim, 0, PAGES, SIM_W, shared->object, 0), QR_OK);
    shared->other = sim_space_create(shared->sim);
    sim_use(shared->sim, shared->other);
    ASSERT_EQ(
        sim_map_object(shared->sim, OTHER, PAGES - OTHER_SHIFT, SIM_W, shared->object, OTHER_SHIFT),
        QR_OK);
    sim_use(shared->sim, shared->space);
    for (size_t page = 0; page < PAGES; page++)
        sim_write(shared->sim, page, page + 1);
}

static void
shared_end(struct shared *shared)
{
    sim_validate(shared->sim);
    sim_use(shared->sim, shared->space);
    sim_space_destroy(shared->sim, shared->other);
    qr_object_put(shared->object);
    sim_shutdown(shared->sim);
}

/* Everything that can: the first look forgets who used what. */
static void
swap_all(struct shared *shared)
{
    (void)sim_swap_out(shared->sim, SIZE_MAX);
    (void)sim_swap_out(shared->sim, SIZE_MAX);
    sim_validate(shared->sim);
}

static enum qr_status
advise(struct shared *shared, size_t first, size_t count, enum qr_advice advice)
{
    return qr_space_advise(shared->space, sim_page(first), count << QR_PAGE_SHIFT, advice);
}

static size_t
resident_count(struct shared *shared)
{
    uint8_t resident[PAGES];
    size_t count = 0;

    EXPECT_EQ(qr_space_resident(shared->space, sim_page(0), PAGES, resident), QR_OK);
    for (size_t i = 0; i < PAGES; i++)
        count += resident[i];
    return count;
}

TEST(swap_shared, pages_go_and_come_back_to_all_who_map_them)
{
    sim_for_each_mmu(mmu)
    {
        struct shared shared;

        shared_begin(&shared, (struct sim_options){.mmu = mmu});
        for (unsigned round = 1; round <= 3; round++) {
            swap_all(&shared);
            expect_held(&shared, 0, PAGES);
            EXPECT_EQ(qr_space_resident_pages(shared.space), 0u);
            sim_use(shared.sim, shared.other);
            for (size_t page = 0; page < PAGES - OTHER_SHIFT; page++) {
                EXPECT_EQ(sim_read(shared.sim, OTHER + page), page + OTHER_SHIFT + round);
                sim_write(shared.sim, OTHER + page, page + OTHER_SHIFT + round + 1);
            }
            sim_use(shared.sim, shared.space);
            for (size_t page = 0; page < OTHER_SHIFT; page++)
                sim_write(shared.sim, page, page + round + 1);
            for (size_t page = 0; page < PAGES; page++)
                EXPECT_EQ(sim_read(shared.sim, page), page + round + 1);
            expect_held(&shared, PAGES, 0);
        }
        EXPECT_EQ(sim_disk_stats(shared.disk).pages_written, 3u * PAGES);
        EXPECT_TRUE(sim_disk_stats(shared.disk).writes <= 3 * PAGES / 10);
        shared_end(&shared);
    }
}

/* Half of it is used, through one space, the other, and read(). */
TEST(swap_shared, what_was_used_since_the_last_look_stays)
{
    struct shared shared;
    bool full;

    shared_begin(&shared, (struct sim_options){.cpus = 1});
    qr_swap_attach(sim_vm(shared.sim));
    EXPECT_EQ(qr_objects_swap_out(sim_objects(shared.sim), SIZE_MAX, NULL, QR_GROUP_LOW, &full),
              0u);
    for (size_t page = 0; page < 10; page++)
        (void)sim_read(shared.sim, page);
    sim_use(shared.sim, shared.other);
    for (size_t page = 10; page < 20; page++)
        (void)sim_read(shared.sim, OTHER + page - OTHER_SHIFT);
    sim_use(shared.sim, shared.space);
    size_t freed =
        qr_objects_swap_out(sim_objects(shared.sim), SIZE_MAX, NULL, QR_GROUP_LOW, &full);

    /* A CPU that looks ahead uses pages that nobody asked for. */
    EXPECT_TRUE(freed > 0 && freed <= 20);
    EXPECT_EQ(qr_object_count_swapped(shared.object, 0, 20), 0u);
    uint64_t before = sim_disk_stats(shared.disk).reads;

    for (size_t page = 0; page < 20; page++)
        EXPECT_EQ(sim_read(shared.sim, page), page + 1);
    EXPECT_EQ(sim_disk_stats(shared.disk).reads, before);
    shared_end(&shared);
}

TEST(swap_shared, locked_kept_and_pinned_pages_stay)
{
    struct shared shared;
    struct qr_frame *frame;

    shared_begin(&shared, (struct sim_options){.cpus = 1});
    ASSERT_EQ(qr_space_get_frame(shared.space, sim_page(30), QR_ACCESS_WRITE, false, &frame),
              QR_OK);
    ASSERT_EQ(qr_space_lock_pages(shared.space, sim_page(8), 4 << QR_PAGE_SHIFT, QR_LOCK_NOW),
              QR_OK);
    swap_all(&shared);
    expect_held(&shared, 5, PAGES - 5);
    EXPECT_EQ(resident_count(&shared), 5u);
    qr_frame_put(sim_frames(shared.sim), frame);
    ASSERT_EQ(qr_space_lock_pages(shared.space, sim_page(8), 4 << QR_PAGE_SHIFT, QR_UNLOCK), QR_OK);
    qr_object_set_kept(shared.object, true);
    swap_all(&shared);
    expect_held(&shared, 5, PAGES - 5);
    qr_object_set_kept(shared.object, false);
    swap_all(&shared);
    expect_held(&shared, 0, PAGES);
    /* What is locked when it is in swap comes back. */
    ASSERT_EQ(qr_space_lock_pages(shared.space, sim_page(8), 4 << QR_PAGE_SHIFT, QR_LOCK_NOW),
              QR_OK);
    expect_held(&shared, 4, PAGES - 4);
    shared_end(&shared);
}

/* ---- Calls ------------------------------------------------------------------------------- */

static size_t
copy_word(void *context, void *window, size_t bytes)
{
    memcpy(context, window, bytes < sizeof(uint64_t) ? bytes : sizeof(uint64_t));
    return bytes;
}

static size_t
copy_zero(void *context, void *window, size_t bytes)
{
    (void)context;
    memset(window, 0, bytes);
    return bytes;
}

static uint64_t
word_at(struct shared *shared, uint64_t offset)
{
    uint64_t word = 0;
    size_t done;

    EXPECT_EQ(qr_object_read(shared->object, offset, sizeof(word), copy_word, &word, &done), QR_OK);
    return word;
}

TEST(swap_shared, calls_meet_pages_that_are_out)
{
    struct shared shared;
    size_t done, present;

    shared_begin(&shared, (struct sim_options){.cpus = 1});
    ASSERT_EQ(advise(&shared, 0, PAGES, QR_ADVICE_PAGE_OUT), QR_OK);
    expect_held(&shared, 0, PAGES); /* nobody else has mapped them so far */
    EXPECT_EQ(resident_count(&shared), 0u);
    ASSERT_EQ(advise(&shared, 20, 5, QR_ADVICE_WILL_NEED), QR_OK);
    EXPECT_TRUE(resident_count(&shared) >= 5); /* of the swap cache */
    expect_held(&shared, 0, PAGES);
    ASSERT_EQ(advise(&shared, 26, 2, QR_ADVICE_POPULATE_READ), QR_OK);
    EXPECT_TRUE(resident_count(&shared) >= 7);
    EXPECT_EQ(qr_object_count_swapped(shared.object, 26, 28), 0u);

    /* read(), write(), and what SEEK_DATA asks. */
    EXPECT_EQ(word_at(&shared, (uint64_t)3 << QR_PAGE_SHIFT), 4u);
    ASSERT_EQ(qr_object_write(shared.object, (4 << QR_PAGE_SHIFT) + 8, 8, copy_zero, NULL, &done),
              QR_OK);
    EXPECT_EQ(sim_read(shared.sim, 4), 5u);
    EXPECT_TRUE(qr_object_next_present(shared.object, 6, &present) && present == 6);

    /* A hole, a new end in the middle of a page, and growth. */
    qr_object_punch(shared.object, 10, 14);
    EXPECT_EQ(sim_read(shared.sim, 11), 0u);
    EXPECT_EQ(qr_object_held(shared.object), PAGES - 3);
    qr_object_set_bytes(shared.object, (38u << QR_PAGE_SHIFT) + 4);
    EXPECT_EQ(qr_object_held(shared.object), PAGES - 4);
    EXPECT_EQ(sim_touch(shared.sim, 39, QR_ACCESS_READ), SIM_BUS_ADRERR);
    qr_object_set_bytes(shared.object, (uint64_t)PAGES << QR_PAGE_SHIFT);
    EXPECT_EQ(sim_read(shared.sim, 38), 39u);
    EXPECT_EQ(sim_read(shared.sim, 39), 0u);
    swap_all(&shared);
    qr_object_set_bytes(shared.object, (uint64_t)30 << QR_PAGE_SHIFT);
    EXPECT_EQ(qr_object_count_swapped(shared.object, 30, SIZE_MAX), 0u);
    sim_validate(shared.sim);

    /* A private mapping copies what it writes to. */
    struct qr_space *third = sim_space_create(shared.sim);

    sim_use(shared.sim, third);
    ASSERT_EQ(sim_map_private(shared.sim, 0, 20, SIM_W, shared.object, 0), QR_OK);
    sim_write(shared.sim, 15, 99);
    EXPECT_EQ(sim_read(shared.sim, 16), 17u);
    swap_all(&shared);
    EXPECT_EQ(sim_read(shared.sim, 15), 99u);
    sim_use(shared.sim, shared.space);
    EXPECT_EQ(sim_read(shared.sim, 15), 16u);
    sim_space_destroy(shared.sim, third);
    shared_end(&shared);
}

TEST(swap_shared, pages_that_others_map_are_not_paged_out_by_advice)
{
    struct shared shared;

    shared_begin(&shared, (struct sim_options){.cpus = 1});
    sim_use(shared.sim, shared.other);
    for (size_t page = 10; page < 20; page++)
        EXPECT_EQ(sim_read(shared.sim, OTHER + page - OTHER_SHIFT), page + 1);
    sim_use(shared.sim, shared.space);
    ASSERT_EQ(advise(&shared, 0, PAGES, QR_ADVICE_PAGE_OUT), QR_OK);
    EXPECT_EQ(qr_object_count_swapped(shared.object, 10, 20), 0u);
    EXPECT_EQ(qr_object_count_swapped(shared.object, 0, OTHER_SHIFT), (size_t)OTHER_SHIFT);
    shared_end(&shared);
}

TEST(swap_shared, a_page_that_came_back_may_move)
{
    struct shared shared;
    struct qr_frame *frame, *target;

    shared_begin(&shared, (struct sim_options){.cpus = 1});
    swap_all(&shared);
    ASSERT_EQ(qr_object_get_page(shared.object, 3, QR_PAGE_FILL, &frame), QR_OK);
    target = qr_frame_alloc(sim_frames(shared.sim), QR_ALLOC_MOVABLE);
    qr_frame_put(sim_frames(shared.sim), frame);
    ASSERT_EQ(qr_object_move_page(shared.object, 3, frame, target), QR_OK);
    qr_frame_put(sim_frames(shared.sim), frame);
    EXPECT_EQ(sim_read(shared.sim, 3), 4u);
    swap_all(&shared);
    EXPECT_EQ(sim_read(shared.sim, 3), 4u);
    shared_end(&shared);
}

/* ---- userfaultfd ---------------------------------------------------------------------------- */

static void
listener_destroyed(struct qr_listener *listener)
{
    (void)listener;
}

/* A page that is in swap is there: it is not missing, and can be had without being filled. */
TEST(swap_shared, a_listener_finds_pages_that_are_out)
{
    static const struct qr_listener_ops ops = {.destroy = listener_destroyed};
    struct shared shared;
    struct qr_listener listener;

    shared_begin(&shared, (struct sim_options){.cpus = 1});
    qr_object_punch(shared.object, 4, 5);
    swap_all(&shared);
    qr_listener_init(&listener, &ops, 0);
    ASSERT_EQ(qr_space_watch(shared.space, sim_page(0), PAGES << QR_PAGE_SHIFT, &listener,
                             QR_WATCH_MISSING),
              QR_OK);
    EXPECT_EQ(sim_read(shared.sim, 3), 4u);
    EXPECT_EQ(qr_space_unwatch(shared.space, sim_page(0), PAGES << QR_PAGE_SHIFT, &listener),
              QR_OK);
    ASSERT_EQ(qr_space_watch(shared.space, sim_page(0), PAGES << QR_PAGE_SHIFT, &listener,
                             QR_WATCH_MINOR),
              QR_OK);
    EXPECT_EQ(qr_space_fill_cached(shared.space, sim_page(9), 0), QR_OK);
    EXPECT_EQ(sim_read(shared.sim, 9), 10u);
    EXPECT_EQ(qr_space_fill_cached(shared.space, sim_page(4), 0), QR_ERR_FAULT);
    sim_disk_set_failing(shared.disk, 1, 0);
    EXPECT_EQ(qr_space_fill_cached(shared.space, sim_page(30), 0), QR_ERR_IO);
    sim_disk_set_failing(shared.disk, 0, 0);
    qr_listener_close(&listener);
    qr_space_unwatch_all(shared.space, &listener);
    qr_listener_put(&listener);
    shared_end(&shared);
}

/* ---- Disks that fail ---------------------------------------------------------------------- */

TEST(swap_shared, what_cannot_be_written_stays)
{
    struct shared shared;

    shared_begin(&shared, (struct sim_options){.cpus = 1});
    sim_disk_set_failing(shared.disk, 0, 3);
    for (unsigned round = 0; round < 4; round++) {
        swap_all(&shared);
        EXPECT_TRUE(sim_disk_stats(shared.disk).failed != 0);
        for (size_t page = 0; page < PAGES; page++) {
            EXPECT_EQ(sim_read(shared.sim, page), page + 1 + round);
            sim_write(shared.sim, page, page + 2 + round);
        }
    }
    shared_end(&shared);
}

TEST(swap_shared, what_cannot_be_read_is_told_to_who_wants_it)
{
    struct shared shared;
    size_t failed = 0, done;
    uint64_t word;

    shared_begin(&shared, (struct sim_options){.cpus = 1});
    swap_all(&shared);
    sim_disk_set_failing(shared.disk, 1, 0);
    EXPECT_EQ(qr_object_read(shared.object, 0, 8, copy_word, &word, &done), QR_ERR_IO);
    EXPECT_EQ(sim_touch(shared.sim, 7, QR_ACCESS_WRITE), SIM_BUS_ADRERR);
    expect_held(&shared, 0, PAGES);
    sim_disk_set_failing(shared.disk, 3, 0);
    for (size_t page = 0; page < PAGES; page++)
        failed += sim_touch(shared.sim, page, QR_ACCESS_READ) != SIM_OK;
    EXPECT_TRUE(failed != 0 && failed < PAGES);
    sim_validate(shared.sim);
    sim_disk_set_failing(shared.disk, 0, 0);
    for (size_t page = 0; page < PAGES; page++)
        EXPECT_EQ(sim_read(shared.sim, page), page + 1);
    shared_end(&shared);
}

/* The end of the object lies in a page that cannot be read: nobody may see what lay behind it. */
TEST(swap_shared, a_cut_page_that_cannot_be_read_is_lost)
{
    struct shared shared;

    shared_begin(&shared, (struct sim_options){.cpus = 1});
    swap_all(&shared);
    sim_disk_set_failing(shared.disk, 1, 0);
    qr_object_set_bytes(shared.object, (9u << QR_PAGE_SHIFT) + 100);
    sim_disk_set_failing(shared.disk, 0, 0);
    EXPECT_EQ(sim_touch(shared.sim, 9, QR_ACCESS_READ), SIM_BUS_ADRERR);
    EXPECT_EQ(sim_read(shared.sim, 8), 9u);
    sim_validate(shared.sim);
    qr_object_punch(shared.object, 9, 10);
    EXPECT_EQ(sim_read(shared.sim, 9), 0u);
    shared_end(&shared);
}

TEST(swap_shared, a_full_disk_takes_no_more)
{
    struct shared shared;
    struct qr_swap_stats stats;

    shared_begin(&shared, (struct sim_options){.cpus = 1});
    ASSERT_EQ(qr_swap_off(sim_vm(shared.sim), sim_disk_area(shared.disk), NULL), QR_OK);
    (void)sim_swap_on(shared.sim, 17, 0);
    for (unsigned round = 0; round < 3; round++) {
        swap_all(&shared);
        expect_held(&shared, PAGES - 16, 16);
        for (size_t page = 0; page < PAGES; page++)
            EXPECT_EQ(sim_read(shared.sim, page), page + 1);
    }
    swap_all(&shared);
    qr_object_punch(shared.object, 0, PAGES);
    qr_swap_stats(sim_swap(shared.sim), &stats);
    EXPECT_EQ(stats.used, 0u);
    shared_end(&shared);
}

/* ---- The end of an area ---------------------------------------------------------------------- */

TEST(swap_shared, swapoff_brings_everything_back)
{
    struct shared shared;

    shared_begin(&shared, (struct sim_options){.cpus = 1});
    swap_all(&shared);
    ASSERT_EQ(sim_unmap(shared.sim, 0, PAGES), QR_OK); /* who maps it does not matter */
    ASSERT_EQ(qr_swap_off(sim_vm(shared.sim), sim_disk_area(shared.disk), NULL), QR_OK);
    expect_held(&shared, PAGES, 0);
    for (size_t page = 0; page < PAGES; page++)
        EXPECT_EQ(word_at(&shared, (uint64_t)page << QR_PAGE_SHIFT), page + 1);
    shared_end(&shared);
}

static bool
stop_now(void)
{
    return true;
}

TEST(swap_shared, swapoff_stops_loses_and_wants_memory)
{
    unsigned refusal = 0;
    enum qr_status status;

    do {
        struct shared shared;

        shared_begin(&shared, (struct sim_options){.cpus = 1});
        swap_all(&shared);
        EXPECT_EQ(qr_swap_off(sim_vm(shared.sim), sim_disk_area(shared.disk), stop_now),
                  QR_ERR_INTERRUPTED);
        expect_held(&shared, 0, PAGES);
        refusal += refusal < 5 ? 0 : 6;
        sim_refuse_next(shared.sim, &refusal);
        status = qr_swap_off(sim_vm(shared.sim), sim_disk_area(shared.disk), NULL);
        sim_refuse_nth(shared.sim, 0, SIM_REFUSE_ONCE);
        EXPECT_EQ(qr_swap_is_active(sim_swap(shared.sim)), status != QR_OK);
        for (size_t page = 0; page < PAGES; page++)
            EXPECT_EQ(sim_read(shared.sim, page), page + 1);
        shared_end(&shared);
    } while (status == QR_ERR_NO_MEMORY);
    EXPECT_EQ(status, QR_OK);

    struct shared shared;
    size_t lost = 0;

    shared_begin(&shared, (struct sim_options){.cpus = 1});
    swap_all(&shared);
    sim_disk_set_failing(shared.disk, 3, 0);
    ASSERT_EQ(qr_swap_off(sim_vm(shared.sim), sim_disk_area(shared.disk), NULL), QR_OK);
    for (size_t page = 0; page < PAGES; page++) {
        uint64_t value = 0;
        enum sim_signal signal = sim_load(sim_page(page), &value, sizeof(value));

        EXPECT_TRUE(signal == SIM_BUS_ADRERR || (signal == SIM_OK && value == page + 1));
        lost += signal != SIM_OK;
    }
    EXPECT_TRUE(lost != 0 && lost < PAGES);
    expect_held(&shared, PAGES - lost, lost);
    shared_end(&shared);
}

/* ---- Memory that is too small ---------------------------------------------------------------- */

TEST(swap_shared, refused_memory_leaves_everything_where_it_is)
{
    for (unsigned refusal = 1; refusal < 12; refusal++) {
        struct shared shared;
        uint64_t value = 0;

        shared_begin(&shared, (struct sim_options){.cpus = 1});
        swap_all(&shared);
        sim_refuse_nth(shared.sim, refusal, SIM_REFUSE_FROM_THEN_ON);
        enum sim_signal signal = sim_load(sim_page(9), &value, sizeof(value));

        EXPECT_TRUE(signal == SIM_OK ? value == 10 : signal == SIM_OOM);
        (void)advise(&shared, 20, 8, QR_ADVICE_WILL_NEED);
        (void)sim_swap_out(shared.sim, SIZE_MAX); /* which takes no memory */
        qr_object_set_bytes(shared.object, (30u << QR_PAGE_SHIFT) + 8);
        sim_refuse_nth(shared.sim, 0, SIM_REFUSE_ONCE);
        sim_validate(shared.sim);
        for (size_t page = 0; page < 30; page++)
            EXPECT_EQ(sim_read(shared.sim, page), page + 1);
        shared_end(&shared);
    }
}

static size_t
reclaim(void *context, size_t wanted, unsigned flags)
{
    const struct qr_reclaim_request request = {.pages = wanted};

    (void)flags;
    return qr_reclaim(context, &request);
}

TEST(swap_shared, twice_as_much_as_there_is_memory)
{
    const size_t pages = 800;
    struct sim *sim = sim_boot(
        (struct sim_options){.seed = test_seed(), .frames = 400, .features = SIM_NO_VALIDATE});
    uint64_t random = test_seed();

    (void)sim_swap_on(sim, 2000, 0);
    qr_swap_attach(sim_vm(sim));
    qr_frames_set_reclaim(sim_frames(sim), reclaim, sim_vm(sim));
    ASSERT_EQ(sim_map_shared(sim, 0, pages, SIM_W), QR_OK);
    for (size_t page = 0; page < pages; page++)
        sim_write(sim, page, page);
    for (unsigned i = 0; i < 400; i++) {
        size_t page = test_random(&random) % pages;

        EXPECT_EQ(sim_read(sim, page) % 1000, page);
        sim_write(sim, page, page + 1000 * (i % 7));
    }
    sim_validate(sim);
    qr_frames_set_reclaim(sim_frames(sim), NULL, NULL);
    sim_shutdown(sim);
}

/* ---- Threads ---------------------------------------------------------------------------------- */

enum { COMMON = 6, CUT = COMMON + WRITERS * OWN, ALL = CUT + 4 };

/* Its own pages hold what it wrote last, seen from the one space or the other, or by read(). */
static void
writer_main(void *context)
{
    struct thread *thread = context;
    struct race *race = thread->race;
    struct shared *shared = race->scene;

    for (uint64_t i = 1; i <= ROUNDS; i++) {
        size_t page = COMMON + thread->index * OWN + test_random(&thread->random) % OWN;
        size_t common = test_random(&thread->random) % COMMON;
        uint64_t word = 0;
        size_t done;

        sim_use(race->sim, shared->space);
        race_lose_unless(race, sim_store(sim_page(page), &i, sizeof(i)) == SIM_OK &&
                                   race_load(race, common) == common + 1);
        sim_use(race->sim, shared->other);
        race_lose_unless(race, race_load(race, OTHER + page - OTHER_SHIFT) == i &&
                                   qr_object_read(shared->object, (uint64_t)page << QR_PAGE_SHIFT,
                                                  sizeof(word), copy_word, &word, &done) == QR_OK &&
                                   word == i);
    }
    sim_use(race->sim, NULL);
    atomic_fetch_sub(&race->alive, 1);
}

/* Cuts off what lies behind the others' pages, writes there again, and finds that or nothing. */
static void
cutter_main(void *context)
{
    struct thread *thread = context;
    struct race *race = thread->race;
    struct shared *shared = race->scene;
    struct qr_object *object = shared->object;

    sim_use(race->sim, shared->space);
    while (atomic_load(&race->alive) != 0) {
        size_t page = CUT + test_random(&thread->random) % (ALL - CUT);
        uint64_t value = test_random(&thread->random) | 1;

        race_lose_unless(race, sim_store(sim_page(page), &value, sizeof(value)) == SIM_OK &&
                                   race_load(race, page) == value);
        if (test_random(&thread->random) % 2 != 0)
            qr_object_punch(object, CUT, ALL);
        else
            qr_object_set_bytes(object, ((uint64_t)CUT << QR_PAGE_SHIFT) + 8);
        if (page != CUT && qr_object_bytes(object) != (uint64_t)ALL << QR_PAGE_SHIFT)
            race_lose_unless(race, qr_object_held(object) <= CUT + 1);
        qr_object_set_bytes(object, (uint64_t)ALL << QR_PAGE_SHIFT);
        race_lose_unless(race, page == CUT || race_load(race, page) == 0);
    }
    sim_use(race->sim, NULL);
}

static void
race_under(uint64_t seed, enum sim_run_mode mode)
{
    struct shared shared;

    shared_begin(&shared, race_options(seed, mode));
    qr_object_set_bytes(shared.object, (uint64_t)ALL << QR_PAGE_SHIFT);
    struct race race = {.sim = shared.sim,
                        .space = shared.space,
                        .disk = shared.disk,
                        .pages = ALL,
                        .batch = 8,
                        .scene = &shared};

    race_run(&race, seed, mode, writer_main, cutter_main);
    shared_end(&shared);
}

TEST(swap_shared, nothing_is_lost_under_any_schedule)
{
    uint64_t seeds = sim_seeds(30);

    for (uint64_t seed = 0; seed < seeds; seed++)
        race_under(test_seed() + seed * 10, SIM_RUN_SEEDED);
}

TEST_THREADS(swap_shared, nothing_is_lost_on_real_threads)
{
    race_under(test_seed(), SIM_RUN_THREADS);
}
