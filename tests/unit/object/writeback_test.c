/* SPDX-License-Identifier: MIT */
/*
 * A disk that is slow and fails: pages in flight against write-back, truncation, reading ahead,
 * refused memory and threads.
 *
 * The disk keeps requests in a list; a thread of its own ends them in an order that the seed
 * chooses, so a page stays under way for any length of time.
 */
#include <string.h>

#include <quire/object.h>

#include "harness.h"
#include "sim.h"

#define PAGES    48
#define REQUESTS 256

struct request {
    struct qr_frame *frame;
    size_t index;
    bool write;
};

struct disk {
    unsigned char bytes[PAGES]; /* what the first byte of each page is */
    unsigned char last[PAGES];  /* and the last */
    struct request queue[REQUESTS];
    size_t queued;
    unsigned reads, writes, calls; /* pages, pages, calls of the pager */
    uint32_t random;
    unsigned fail_one_in; /* 0: never */
    bool immediate;       /* no thread: requests end within the call */
    bool stop;
    struct qr_spin lock; /* queue */
    struct qr_object *object;
};

static uint32_t
disk_random(struct disk *disk)
{
    disk->random = disk->random * 1664525u + 1013904223u;
    return disk->random >> 8;
}

static void
disk_end(struct disk *disk, const struct request *request)
{
    bool fail = disk->fail_one_in != 0 && disk_random(disk) % disk->fail_one_in == 0;
    unsigned char *window =
        qr_port_window_open(qr_frame_pa(sim_frames(sim_here()), request->frame));

    if (request->write && !fail) {
        disk->bytes[request->index] = __atomic_load_n(&window[0], __ATOMIC_RELAXED);
        disk->last[request->index] = __atomic_load_n(&window[QR_PAGE_SIZE - 1], __ATOMIC_RELAXED);
    } else if (!request->write && !fail) {
        memset(window, 0, QR_PAGE_SIZE);
        window[0] = disk->bytes[request->index];
        window[QR_PAGE_SIZE - 1] = disk->last[request->index];
    }
    qr_port_window_close(window);
    if (request->write)
        qr_object_write_done(disk->object, request->frame, fail ? QR_ERR_IO : QR_OK);
    else
        qr_object_read_done(disk->object, request->frame, fail ? QR_ERR_IO : QR_OK);
}

static void
disk_start(struct disk *disk, size_t index, struct qr_frame *const *frames, size_t count,
           bool write)
{
    EXPECT_GT(count, 0u);
    EXPECT_LE(count, QR_PAGER_BATCH);
    qr_spin_lock(&disk->lock);
    disk->calls++;
    *(write ? &disk->writes : &disk->reads) += (unsigned)count;
    qr_spin_unlock(&disk->lock);
    for (size_t i = 0; i < count; i++) {
        struct request request = {frames[i], index + i, write};

        if (disk->immediate) {
            disk_end(disk, &request);
            continue;
        }
        qr_spin_lock(&disk->lock);
        ASSERT_LT(disk->queued, REQUESTS);
        disk->queue[disk->queued++] = request;
        qr_spin_unlock(&disk->lock);
    }
}

static void
disk_start_read(void *context, size_t index, struct qr_frame *const *frames, size_t count)
{
    disk_start(context, index, frames, count, false);
}

static void
disk_start_write(void *context, size_t index, struct qr_frame *const *frames, size_t count)
{
    disk_start(context, index, frames, count, true);
}

static const struct qr_pager disk_pager = {
    .name = "disk", .start_read = disk_start_read, .start_write = disk_start_write};

/* The disk's thread: ends requests in any order until it is told to stop and none is left. */
static void
disk_main(void *context)
{
    struct disk *disk = context;

    for (;;) {
        struct request request = {.frame = NULL};
        bool stop;

        qr_spin_lock(&disk->lock);
        stop = disk->stop && disk->queued == 0;
        if (disk->queued > 0) {
            size_t i = disk_random(disk) % disk->queued;

            request = disk->queue[i];
            disk->queue[i] = disk->queue[--disk->queued];
        }
        qr_spin_unlock(&disk->lock);
        if (request.frame != NULL)
            disk_end(disk, &request);
        else if (stop)
            return;
        sim_preempt();
    }
}

/* ---- A machine with one such object ------------------------------------------- */

struct world {
    struct sim *sim;
    struct qr_objects *objects;
    struct disk disk;
    _Atomic unsigned running;
};

static struct world world;

static void
world_boot(struct sim_options options)
{
    memset(&world, 0, sizeof(world));
    world.sim = sim_boot_heap(options);
    world.objects = qr_kcalloc(sim_heap(world.sim), 1, qr_objects_size(), 0);
    ASSERT_STATUS(qr_objects_init(world.objects, sim_frames(world.sim), sim_heap(world.sim)),
                  QR_OK);
    qr_spin_init(&world.disk.lock, QR_RANK_LEAF);
    world.disk.random = (uint32_t)options.seed;
    world.disk.immediate = true;
    ASSERT_STATUS(qr_object_create(world.objects, &disk_pager, &world.disk, PAGES * QR_PAGE_SIZE,
                                   &world.disk.object),
                  QR_OK);
}

static void
world_shutdown(void)
{
    const struct qr_counters *counters = qr_frames_counters(sim_frames(world.sim));
    char message[160] = "";

    EXPECT_TRUE(qr_objects_validate(world.objects, message, sizeof(message)));
    EXPECT_STR(message, "");
    EXPECT_EQ(qr_counter_read(counters, QR_PAGES_WRITEBACK), 0u);
    qr_object_put(world.disk.object);
    EXPECT_EQ(qr_counter_read(counters, QR_PAGES_DIRTY), 0u);
    EXPECT_EQ(qr_counter_read(counters, QR_PAGES_FILE), 0u);
    EXPECT_EQ(qr_objects_fini(world.objects), 0u);
    qr_kfree(sim_heap(world.sim), world.objects);
    sim_shutdown(world.sim);
}

static size_t
copy_byte_in(void *context, void *window, size_t bytes)
{
    __atomic_store_n((unsigned char *)window, *(unsigned char *)context, __ATOMIC_RELAXED);
    return bytes;
}

static size_t
copy_byte_out(void *context, void *window, size_t bytes)
{
    *(unsigned char *)context = __atomic_load_n((unsigned char *)window, __ATOMIC_RELAXED);
    return bytes;
}

static enum qr_status
write_page_byte(size_t page, unsigned char byte)
{
    size_t done;

    return qr_object_write(world.disk.object, (uint64_t)page * QR_PAGE_SIZE, 1, copy_byte_in, &byte,
                           &done);
}

/* ---- One thread -------------------------------------------------------------------- */

TEST(writeback, neighbours_travel_together_and_a_reader_who_goes_forward_is_read_for)
{
    unsigned char byte = 0;
    size_t done;

    world_boot((struct sim_options){.frames = 512});
    for (size_t page = 0; page < PAGES; page++)
        world.disk.bytes[page] = (unsigned char)(page + 1);
    for (size_t page = 0; page < PAGES; page++) {
        ASSERT_STATUS(qr_object_read(world.disk.object, (uint64_t)page * QR_PAGE_SIZE, 1,
                                     copy_byte_out, &byte, &done),
                      QR_OK);
        EXPECT_EQ(byte, page + 1);
    }
    EXPECT_EQ(world.disk.reads, (unsigned)PAGES);
    EXPECT_LE(world.disk.calls, 8u);

    world.disk.calls = 0;
    for (size_t page = 0; page < PAGES; page++)
        EXPECT_STATUS(write_page_byte(page, 7), QR_OK);
    EXPECT_EQ(qr_object_dirty(world.disk.object), (size_t)PAGES);
    EXPECT_EQ(qr_object_start_sync(world.disk.object, 0, SIZE_MAX, 5) % QR_PAGER_BATCH, 0u);
    EXPECT_STATUS(qr_object_sync(world.disk.object, 0, SIZE_MAX), QR_OK);
    EXPECT_EQ(world.disk.writes, (unsigned)PAGES);
    EXPECT_EQ(world.disk.calls, PAGES / QR_PAGER_BATCH);
    EXPECT_EQ(qr_object_dirty(world.disk.object), 0u);
    EXPECT_EQ(qr_object_drop_clean_range(world.disk.object, 1, 3), 2u);
    EXPECT_EQ(qr_object_drop_clean(world.disk.object), (size_t)PAGES - 2);
    world_shutdown();
}

/* Pages far apart are read one at a time. */
TEST(writeback, a_reader_who_jumps_is_not_read_for)
{
    struct qr_frame *frame;

    world_boot((struct sim_options){.frames = 512});
    for (size_t page = 40; page > 0; page -= 5) {
        ASSERT_STATUS(qr_object_get_page(world.disk.object, page, QR_PAGE_FILL, &frame), QR_OK);
        qr_frame_put(sim_frames(world.sim), frame);
    }
    EXPECT_EQ(world.disk.reads, 8u);
    qr_object_read_ahead(world.disk.object, 0, SIZE_MAX);
    EXPECT_EQ(world.disk.reads, (unsigned)PAGES);
    EXPECT_EQ(qr_object_resident(world.disk.object), (size_t)PAGES);
    world_shutdown();
}

TEST(writeback, a_failure_is_counted_and_the_page_stays_dirty)
{
    uint32_t seen;

    world_boot((struct sim_options){.frames = 512});
    EXPECT_STATUS(write_page_byte(3, 9), QR_OK);
    seen = qr_object_write_errors(world.disk.object);
    world.disk.fail_one_in = 1;
    EXPECT_STATUS(qr_object_sync(world.disk.object, 0, SIZE_MAX), QR_ERR_IO);
    EXPECT_NE(qr_object_write_errors(world.disk.object), seen);
    EXPECT_EQ(qr_object_dirty(world.disk.object), 1u);
    EXPECT_EQ(qr_object_drop_clean(world.disk.object), 0u);
    world.disk.fail_one_in = 0;
    EXPECT_STATUS(qr_object_sync(world.disk.object, 0, SIZE_MAX), QR_OK);
    EXPECT_EQ(world.disk.bytes[3], 9);
    world_shutdown();
}

TEST(writeback, what_could_not_be_read_ahead_is_read_again_when_it_is_wanted)
{
    struct qr_frame *frame;

    world_boot((struct sim_options){.frames = 512});
    world.disk.bytes[5] = 5;
    world.disk.fail_one_in = 1;
    qr_object_read_ahead(world.disk.object, 4, 4);
    EXPECT_STATUS(qr_object_get_page(world.disk.object, 4, QR_PAGE_FILL, &frame), QR_ERR_IO);
    world.disk.fail_one_in = 0;
    ASSERT_STATUS(qr_object_get_page(world.disk.object, 5, QR_PAGE_FILL, &frame), QR_OK);
    unsigned char *window = qr_port_window_open(qr_frame_pa(sim_frames(world.sim), frame));

    EXPECT_EQ(window[0], 5);
    qr_port_window_close(window);
    qr_frame_put(sim_frames(world.sim), frame);
    world_shutdown();
}

TEST(writeback, reading_with_refused_memory_reads_or_says_so)
{
    unsigned refusal = 0;
    enum qr_status status;

    do {
        struct qr_frame *frame;

        world_boot((struct sim_options){.frames = 512});
        sim_refuse_next(world.sim, &refusal);
        status = qr_object_get_page(world.disk.object, 0, QR_PAGE_FILL, &frame);
        sim_refuse_nth(world.sim, 0, SIM_REFUSE_ONCE);
        if (status == QR_OK)
            qr_frame_put(sim_frames(world.sim), frame);
        qr_object_read_ahead(world.disk.object, 0, PAGES);
        EXPECT_EQ(qr_object_resident(world.disk.object), (size_t)PAGES);
        world_shutdown();
    } while (status == QR_ERR_NO_MEMORY);
    EXPECT_STATUS(status, QR_OK);
    EXPECT_GT(refusal, 1u);
}

/* ---- Threads ------------------------------------------------------------------------- */

static void
body_done(void)
{
    if (atomic_fetch_sub(&world.running, 1) == 1) {
        qr_spin_lock(&world.disk.lock);
        world.disk.stop = true;
        qr_spin_unlock(&world.disk.lock);
    }
}

/* Each page only ever grows: a value read never goes back, and what was synced is on the disk. */
static void
body_write(void *context)
{
    (void)context;
    for (unsigned round = 1; round <= 12; round++) {
        for (size_t page = 0; page < PAGES; page += 3) {
            enum qr_status status = write_page_byte(page, (unsigned char)round);

            EXPECT_TRUE(status == QR_OK || status == QR_ERR_IO);
        }
        if (round % 3 == 0 && qr_object_sync(world.disk.object, 0, SIZE_MAX) == QR_OK &&
            world.disk.fail_one_in == 0) {
            for (size_t page = 0; page < PAGES / 2; page += 3)
                EXPECT_EQ(world.disk.bytes[page], round);
        }
    }
    body_done();
}

static void
body_flush(void *context)
{
    (void)context;
    for (unsigned i = 0; i < 20; i++) {
        (void)qr_object_start_sync(world.disk.object, i, PAGES, 7);
        (void)qr_object_drop_clean(world.disk.object);
        sim_preempt();
    }
    body_done();
}

/* The upper half comes and goes. */
static void
body_truncate(void *context)
{
    (void)context;
    for (unsigned i = 0; i < 10; i++) {
        qr_object_set_bytes(world.disk.object, (PAGES / 2 + i) * QR_PAGE_SIZE + 100);
        qr_object_read_ahead(world.disk.object, PAGES / 2, PAGES);
        qr_object_set_bytes(world.disk.object, PAGES * QR_PAGE_SIZE);
    }
    body_done();
}

static void
race(enum sim_run_mode mode, uint64_t seed, unsigned fail_one_in)
{
    world_boot((struct sim_options){.frames = 1024, .cpus = 4, .seed = seed});
    world.disk.immediate = false;
    world.disk.fail_one_in = fail_one_in;
    atomic_init(&world.running, 3);
    sim_spawn(world.sim, 0, "disk", disk_main, &world.disk);
    sim_spawn(world.sim, 1, "write", body_write, NULL);
    sim_spawn(world.sim, 2, "flush", body_flush, NULL);
    sim_spawn(world.sim, 3, "truncate", body_truncate, NULL);
    sim_run(world.sim, mode);
    world.disk.fail_one_in = 0;
    world.disk.immediate = true;
    EXPECT_STATUS(qr_object_sync(world.disk.object, 0, SIZE_MAX), QR_OK);
    world_shutdown();
}

TEST(writeback, a_slow_disk_under_seeds)
{
    for (uint64_t seed = test_seed(); seed < test_seed() + 10; seed++)
        race(SIM_RUN_SEEDED, seed, 0);
}

TEST(writeback, a_slow_disk_that_fails_under_seeds)
{
    for (uint64_t seed = test_seed(); seed < test_seed() + 10; seed++)
        race(SIM_RUN_SEEDED, seed, 5);
}

TEST(writeback, a_slow_disk_that_fails_under_threads)
{
    race(SIM_RUN_THREADS, test_seed(), 7);
}
