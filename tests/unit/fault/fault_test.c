/* SPDX-License-Identifier: MIT */
/*
 * Faults, one property a test, on the hosted machine: its TLBs keep what they
 * may, and its oracle fails the test where an entry outlives its right.
 */
#include "harness.h"

#include <quire/fault.h>

#include <string.h>

#include "sim.h"
#include "space/vm.h"

static struct sim *
boot(void)
{
    return sim_boot((struct sim_options){.seed = test_seed()});
}

static long
counter(struct sim *sim, enum qr_counter which)
{
    return qr_counter_read(qr_frames_counters(sim_frames(sim)), which);
}

/* ---- Anonymous memory ----------------------------------------------------------- */

TEST(fault, untouched_memory_reads_as_zero_and_takes_no_frame)
{
    struct sim *sim = boot();

    ASSERT_EQ(sim_map(sim, 0, 4, SIM_W), QR_OK);
    EXPECT_EQ(sim_read(sim, 1), 0);
    EXPECT_EQ(counter(sim, QR_PAGES_ANON), 0);
    sim_write(sim, 1, 42);
    EXPECT_EQ(sim_read(sim, 1), 42);
    EXPECT_EQ(sim_read(sim, 2), 0);
    EXPECT_EQ(counter(sim, QR_PAGES_ANON), 1);
    EXPECT_EQ(counter(sim, QR_EVENT_ZERO_FILL), 1);
    sim_shutdown(sim);
}

TEST(fault, what_an_access_ends_with)
{
    struct sim *sim = boot();
    static const struct {
        unsigned prot;
        enum sim_signal read, write, exec;
    } rows[] = {
        {SIM_N, SIM_SEGV_ACCERR, SIM_SEGV_ACCERR, SIM_SEGV_ACCERR},
        {SIM_R, SIM_OK, SIM_SEGV_ACCERR, SIM_SEGV_ACCERR},
        {SIM_W, SIM_OK, SIM_OK, SIM_SEGV_ACCERR},
        {SIM_X, SIM_OK, SIM_SEGV_ACCERR, SIM_OK},
        {QR_PROT_WRITE, SIM_OK, SIM_OK, SIM_SEGV_ACCERR},
        {QR_PROT_EXEC, SIM_OK, SIM_SEGV_ACCERR, SIM_OK},
    };

    for (size_t i = 0; i < QR_ARRAY_COUNT(rows); i++) {
        ASSERT_EQ(sim_map(sim, 0, 1, rows[i].prot), QR_OK);
        EXPECT_EQ(sim_touch(sim, 0, QR_ACCESS_READ), rows[i].read);
        EXPECT_EQ(sim_touch(sim, 0, QR_ACCESS_WRITE), rows[i].write);
        /* Where hardware has no such right a page that is there is executed like read. */
        EXPECT_EQ(sim_touch(sim, 0, QR_ACCESS_EXEC),
                  sim_can_forbid_exec(sim) ? rows[i].exec : rows[i].read);
        EXPECT_EQ(sim_touch(sim, 1, QR_ACCESS_READ), SIM_SEGV_MAPERR);
    }
    sim_shutdown(sim);
}

/* ---- Copy-on-write ------------------------------------------------------------------ */

/*
 *            parent  child   frames
 * fork         A       A       1
 * child writes A       B       2
 * parent writes A      B       2    takes A over, copies nothing
 */
TEST(fault, the_last_user_of_a_frame_takes_it_over)
{
    struct sim *sim = boot();
    struct qr_space *parent = sim_space(sim);

    ASSERT_EQ(sim_map(sim, 0, 1, SIM_W), QR_OK);
    sim_write(sim, 0, 1);
    struct qr_space *child = sim_fork(sim);

    ASSERT_TRUE(child != NULL);
    sim_use(sim, child);
    EXPECT_EQ(sim_read(sim, 0), 1);
    sim_write(sim, 0, 2);
    EXPECT_EQ(counter(sim, QR_EVENT_COW), 1);
    sim_use(sim, parent);
    EXPECT_EQ(sim_read(sim, 0), 1);
    sim_write(sim, 0, 3);
    EXPECT_EQ(counter(sim, QR_EVENT_COW), 1);
    EXPECT_EQ(counter(sim, QR_EVENT_COW_REUSE), 1);
    sim_use(sim, child);
    EXPECT_EQ(sim_read(sim, 0), 2);
    sim_use(sim, parent);
    sim_space_destroy(sim, child);
    sim_shutdown(sim);
}

TEST(fault, a_deep_fork_tree_shares_and_separates)
{
    struct sim *sim = sim_boot((struct sim_options){.seed = test_seed()});
    struct qr_space *spaces[6] = {sim_space(sim)};

    ASSERT_EQ(sim_map(sim, 0, 6, SIM_W), QR_OK);
    for (size_t i = 0; i < 6; i++)
        sim_write(sim, i, 100);
    for (size_t i = 1; i < 6; i++) {
        sim_use(sim, spaces[i - 1]);
        spaces[i] = sim_fork(sim);
        ASSERT_TRUE(spaces[i] != NULL);
        sim_use(sim, spaces[i]);
        sim_write(sim, i, 100 + i);
    }
    for (size_t i = 0; i < 6; i++) {
        sim_use(sim, spaces[i]);
        for (size_t page = 0; page < 6; page++)
            EXPECT_EQ(sim_read(sim, page), page > 0 && page <= i ? 100 + page : 100);
    }
    sim_use(sim, spaces[0]);
    for (size_t i = 1; i < 6; i++)
        sim_space_destroy(sim, spaces[i]);
    sim_validate(sim);
    sim_shutdown(sim);
}

/* ---- Objects ------------------------------------------------------------------------- */

struct backing {
    struct sim *sim;
    unsigned reads, writes;
    bool fails;
};

/* Each page holds its number. */
static enum qr_status
backing_read(void *context, size_t index, struct qr_frame *frame)
{
    struct backing *backing = context;
    uint64_t *window = sim_ram(backing->sim, qr_frame_pa(sim_frames(backing->sim), frame));

    backing->reads++;
    if (backing->fails)
        return QR_ERR_IO;
    memset(window, 0, QR_PAGE_SIZE);
    window[0] = 1000 + index;
    return QR_OK;
}

static enum qr_status
backing_write(void *context, size_t index, struct qr_frame *frame)
{
    struct backing *backing = context;

    (void)index, (void)frame;
    backing->writes++;
    return QR_OK;
}

static const struct qr_pager pager = {
    .name = "test", .read_page = backing_read, .write_page = backing_write};

static struct qr_object *
file_create(struct backing *backing, size_t pages)
{
    struct qr_object *object = NULL;

    ASSERT_EQ(qr_object_create(sim_objects(backing->sim), &pager, backing, pages << QR_PAGE_SHIFT,
                               &object),
              QR_OK);
    return object;
}

TEST(fault, private_and_shared_views_of_a_file)
{
    struct sim *sim = boot();
    struct backing backing = {.sim = sim};
    struct qr_object *file = file_create(&backing, 4);

    ASSERT_EQ(sim_map_object(sim, 0, 4, SIM_W, file, 0), QR_OK);
    ASSERT_EQ(sim_map_private(sim, 8, 4, SIM_W, file, 0), QR_OK);
    EXPECT_EQ(sim_read(sim, 1), 1001);
    EXPECT_EQ(sim_read(sim, 9), 1001);
    sim_write(sim, 1, 7);
    EXPECT_EQ(sim_read(sim, 9), 7); /* not copied yet: sees the file */
    sim_write(sim, 9, 8);
    EXPECT_EQ(sim_read(sim, 1), 7);
    sim_write(sim, 1, 9);
    EXPECT_EQ(sim_read(sim, 9), 8);
    EXPECT_EQ(backing.reads, 1);
    sim_write(sim, 10, 5); /* copies a page that nobody read before */
    EXPECT_EQ(sim_read(sim, 2), 1002);
    sim_unmap(sim, 0, 12);
    qr_object_put(file);
    sim_shutdown(sim);
}

TEST(fault, a_store_is_noticed_again_after_write_back)
{
    struct sim *sim = boot();
    struct backing backing = {.sim = sim};
    struct qr_object *file = file_create(&backing, 2);

    ASSERT_EQ(sim_map_object(sim, 0, 2, SIM_W, file, 0), QR_OK);
    (void)sim_read(sim, 0);
    EXPECT_EQ(counter(sim, QR_PAGES_DIRTY), 0);
    sim_write(sim, 0, 1);
    EXPECT_EQ(counter(sim, QR_PAGES_DIRTY), 1);
    EXPECT_EQ(qr_space_sync(sim_space(sim), sim_page(0), QR_PAGE_SIZE, true, false), QR_OK);
    EXPECT_EQ(backing.writes, 1);
    EXPECT_EQ(counter(sim, QR_PAGES_DIRTY), 0);
    EXPECT_EQ(qr_object_sync(file, 0, 2), QR_OK);
    EXPECT_EQ(backing.writes, 1);
    sim_write(sim, 0, 2);
    EXPECT_EQ(counter(sim, QR_PAGES_DIRTY), 1);
    EXPECT_EQ(qr_object_sync(file, 0, 2), QR_OK);
    EXPECT_EQ(backing.writes, 2);
    sim_unmap(sim, 0, 2);
    qr_object_put(file);
    sim_shutdown(sim);
}

TEST(fault, cached_neighbours_are_mapped_with_a_read)
{
    struct sim *sim = boot();
    struct backing backing = {.sim = sim};
    struct qr_object *file = file_create(&backing, 32);
    struct qr_space_counts counts;

    ASSERT_EQ(sim_map_object(sim, 0, 32, SIM_R, file, 0), QR_OK);
    for (size_t i = 0; i < 20; i += 2)
        EXPECT_EQ(sim_read(sim, i), 1000 + i);
    ASSERT_EQ(sim_map_object(sim, 64, 32, SIM_R, file, 0), QR_OK);
    EXPECT_EQ(sim_read(sim, 64 + 4), 1004);
    EXPECT_EQ(counter(sim, QR_EVENT_FAULT_AROUND) >= 7, true);
    qr_space_counts(sim_space(sim), &counts);
    EXPECT_EQ(counts.resident_file, 10 + 8); /* pages 0, 2, .. 14 of the second mapping */
    ASSERT_EQ(sim_map_object(sim, 128, 8, SIM_R, file, 0), QR_OK);
    ASSERT_EQ(qr_space_advise(sim_space(sim), sim_page(128), 8 << QR_PAGE_SHIFT, QR_ADVICE_RANDOM),
              QR_OK);
    EXPECT_EQ(sim_read(sim, 130), 1002);
    qr_space_counts(sim_space(sim), &counts);
    EXPECT_EQ(counts.resident_file, 10 + 8 + 1);
    sim_unmap(sim, 0, 160);
    qr_object_put(file);
    sim_shutdown(sim);
}

TEST(fault, what_cannot_be_read_is_a_bus_error)
{
    struct sim *sim = boot();
    struct backing backing = {.sim = sim, .fails = true};
    struct qr_object *file = file_create(&backing, 2);

    ASSERT_EQ(sim_map_object(sim, 0, 4, SIM_W, file, 0), QR_OK);
    EXPECT_EQ(sim_touch(sim, 0, QR_ACCESS_READ), SIM_BUS_ADRERR);
    EXPECT_EQ(sim_touch(sim, 2, QR_ACCESS_WRITE), SIM_BUS_ADRERR);
    backing.fails = false;
    EXPECT_EQ(sim_read(sim, 0), 1000);
    sim_unmap(sim, 0, 4);
    qr_object_put(file);
    sim_shutdown(sim);
}

TEST(fault, a_device_is_mapped_as_it_is)
{
    struct sim *sim = boot();
    struct qr_frame *frame = qr_frame_alloc(sim_frames(sim), QR_ALLOC_ZERO);
    struct qr_object *device;
    uint32_t refs;

    ASSERT_TRUE(frame != NULL);
    refs = atomic_load(&frame->refs);
    ASSERT_EQ(qr_object_create_device(sim_objects(sim), qr_frame_pa(sim_frames(sim), frame),
                                      QR_PAGE_SIZE, QR_CACHE_UNCACHED, &device),
              QR_OK);
    ASSERT_EQ(sim_map_object(sim, 0, 2, SIM_W, device, 0), QR_OK);
    sim_write(sim, 0, 99);
    EXPECT_EQ(*(uint64_t *)sim_ram(sim, qr_frame_pa(sim_frames(sim), frame)), 99);
    EXPECT_EQ(sim_walk(sim, sim_space(sim)->tables.root_pa, sim_page(0)).cache, sim_uncached(sim));
    EXPECT_EQ(sim_touch(sim, 1, QR_ACCESS_READ), SIM_BUS_ADRERR);
    struct qr_space *child = sim_fork(sim);

    EXPECT_EQ(atomic_load(&frame->refs), refs);
    ASSERT_EQ(sim_protect(sim, 0, 1, SIM_R), QR_OK);
    EXPECT_EQ(sim_touch(sim, 0, QR_ACCESS_WRITE), SIM_SEGV_ACCERR);
    ASSERT_EQ(sim_protect(sim, 0, 1, SIM_W), QR_OK);
    sim_write(sim, 0, 100);
    sim_space_destroy(sim, child);
    ASSERT_EQ(sim_unmap(sim, 0, 2), QR_OK);
    qr_object_put(device);
    qr_frame_put(sim_frames(sim), frame);
    sim_shutdown(sim);
}

/* ---- Stacks ------------------------------------------------------------------------------ */

static qr_va
map_stack(struct sim *sim, size_t page, size_t pages)
{
    struct qr_map_request request = {.hint = sim_page(page),
                                     .bytes = pages << QR_PAGE_SHIFT,
                                     .prot = SIM_W,
                                     .flags = QR_MAP_FIXED,
                                     .region_flags = QR_REGION_GROWS_DOWN};
    qr_va va = qr_va_of(0);

    ASSERT_EQ(qr_space_map(sim_space(sim), &request, &va), QR_OK);
    return va;
}

TEST(fault, a_stack_grows_to_its_limit)
{
    struct sim *sim = boot();
    struct qr_space *space = sim_space(sim);

    (void)map_stack(sim, 1000, 2);
    space->limits.stack = 8 << QR_PAGE_SHIFT;
    EXPECT_EQ(sim_touch(sim, 997, QR_ACCESS_WRITE), SIM_OK);
    EXPECT_EQ(space->counts.stack_pages, 5);
    EXPECT_EQ(sim_touch(sim, 994, QR_ACCESS_READ), SIM_OK);
    EXPECT_EQ(sim_touch(sim, 993, QR_ACCESS_WRITE), SIM_SEGV_MAPERR);
    EXPECT_EQ(space->counts.stack_pages, 8);
    space->limits.stack = SIZE_MAX;
    space->limits.address_space = 9 << QR_PAGE_SHIFT;
    EXPECT_EQ(sim_touch(sim, 992, QR_ACCESS_WRITE), SIM_SEGV_MAPERR);
    EXPECT_EQ(sim_touch(sim, 993, QR_ACCESS_WRITE), SIM_OK);
    sim_shutdown(sim);
}

/* ---- Reaching a page from outside ------------------------------------------------------------ */

TEST(fault, a_debuggers_write_goes_to_a_copy)
{
    struct sim *sim = boot();
    struct backing backing = {.sim = sim};
    struct qr_object *file = file_create(&backing, 2);
    struct qr_frame *frame;
    struct qr_space *space = sim_space(sim);

    ASSERT_EQ(sim_map_private(sim, 0, 2, SIM_X, file, 0), QR_OK);
    EXPECT_EQ(sim_read(sim, 0), 1000);
    EXPECT_EQ(qr_space_get_frame(space, sim_page(0), QR_ACCESS_WRITE, false, &frame), QR_ERR_FAULT);
    ASSERT_EQ(qr_space_get_frame(space, sim_page(0), QR_ACCESS_WRITE, true, &frame), QR_OK);
    EXPECT_EQ(qr_frame_type(frame), QR_FRAME_ANON);
    *(uint64_t *)sim_ram(sim, qr_frame_pa(sim_frames(sim), frame)) = 0xcc;
    qr_frame_put(sim_frames(sim), frame);
    EXPECT_EQ(sim_read(sim, 0), 0xcc);
    EXPECT_EQ(sim_touch(sim, 0, QR_ACCESS_WRITE), SIM_SEGV_ACCERR);
    ASSERT_EQ(qr_object_get_page(file, 0, QR_PAGE_FILL, &frame), QR_OK);
    EXPECT_EQ(*(uint64_t *)sim_ram(sim, qr_frame_pa(sim_frames(sim), frame)), 1000);
    qr_frame_put(sim_frames(sim), frame);
    sim_unmap(sim, 0, 2);
    qr_object_put(file);
    sim_shutdown(sim);
}

/* ---- Memory ------------------------------------------------------------------------------------ */

/* Each allocation of each kind of fault refused once: the access works all the same. */
TEST(fault, one_refused_allocation_is_survived)
{
    for (unsigned kind = 0; kind < 4; kind++) {
        unsigned refusal = 0;
        bool refused = true;

        while (refused) {
            struct sim *sim = boot();

            ASSERT_EQ(kind == 3 ? sim_map_shared(sim, 0, 2, SIM_W) : sim_map(sim, 0, 2, SIM_W),
                      QR_OK);
            struct qr_space *child = NULL;

            if (kind == 2) {
                sim_write(sim, 0, 1);
                child = sim_fork(sim);
            }
            sim_refuse_next(sim, &refusal);
            EXPECT_EQ(sim_touch(sim, 0, kind == 0 ? QR_ACCESS_READ : QR_ACCESS_WRITE), SIM_OK);
            refused = sim_refused(sim) > 0;
            sim_refuse_nth(sim, 0, SIM_REFUSE_ONCE);
            sim_validate(sim);
            if (child != NULL)
                sim_space_destroy(sim, child);
            sim_shutdown(sim);
        }
        EXPECT_GE(refusal, 2);
    }
}

TEST(fault, no_memory_at_all_is_said_and_changes_nothing)
{
    struct sim *sim = boot();

    ASSERT_EQ(sim_map(sim, 0, 2, SIM_W), QR_OK);
    sim_write(sim, 0, 5);
    sim_refuse_nth(sim, 1, SIM_REFUSE_FROM_THEN_ON);
    EXPECT_EQ(sim_touch(sim, 1, QR_ACCESS_WRITE), SIM_OOM);
    EXPECT_EQ(sim_read(sim, 0), 5);
    sim_refuse_nth(sim, 0, SIM_REFUSE_ONCE);
    EXPECT_EQ(sim_touch(sim, 1, QR_ACCESS_WRITE), SIM_OK);
    sim_shutdown(sim);
}

/* ---- Races --------------------------------------------------------------------------------------- */

enum { RACE_PAGES = 8 };

static void
racer_touch(void *context)
{
    uint64_t *sum = context;

    for (size_t i = 0; i < RACE_PAGES; i++) {
        uint64_t value = 0;

        EXPECT_EQ(sim_load(sim_page(i), &value, sizeof(value)), SIM_OK);
        *sum += value;
        value = i + 1;
        EXPECT_EQ(sim_store(sim_page(i), &value, sizeof(value)), SIM_OK);
    }
}

/* Several threads touch the same untouched pages: one frame each, nothing lost. */
TEST(fault, threads_that_fault_on_one_page_agree)
{
    for (uint64_t seed = 0; seed < sim_seeds(30); seed++) {
        struct sim *sim = sim_boot((struct sim_options){
            .seed = test_seed() + seed, .cpus = 3, .features = SIM_NO_VALIDATE});
        uint64_t sums[3] = {0};

        ASSERT_EQ(seed % 2 != 0 ? sim_map_shared(sim, 0, RACE_PAGES, SIM_W)
                                : sim_map(sim, 0, RACE_PAGES, SIM_W),
                  QR_OK);
        for (size_t i = 0; i < 3; i++)
            sim_spawn(sim, SIM_ANY_CPU, "racer", racer_touch, &sums[i]);
        sim_run(sim, SIM_RUN_SEEDED);
        for (size_t i = 0; i < RACE_PAGES; i++)
            EXPECT_EQ(sim_read(sim, i), i + 1);
        EXPECT_EQ(counter(sim, seed % 2 != 0 ? QR_PAGES_SHMEM : QR_PAGES_ANON), RACE_PAGES);
        sim_validate(sim);
        sim_shutdown(sim);
    }
}
