/* SPDX-License-Identifier: MIT */
/*
 * Objects without mappings: pages, copies, truncation, holes, write-back, refusals
 * and races.  What mappings add is tested with the space layer.
 */
#include <string.h>

#include <quire/object.h>

#include "harness.h"
#include "sim.h"

#define PAGES 8

static struct qr_objects *
objects_boot(struct sim *sim)
{
    struct qr_objects *objects = qr_kcalloc(sim_heap(sim), 1, qr_objects_size(), 0);

    EXPECT_STATUS(qr_objects_init(objects, sim_frames(sim), sim_heap(sim)), QR_OK);
    return objects;
}

static void
objects_shutdown(struct sim *sim, struct qr_objects *objects)
{
    EXPECT_EQ(qr_objects_fini(objects), 0u);
    qr_kfree(sim_heap(sim), objects);
    sim_shutdown(sim);
}

static void
validate(struct qr_objects *objects)
{
    char message[160] = "";

    EXPECT_TRUE(qr_objects_validate(objects, message, sizeof(message)));
    EXPECT_STR(message, "");
}

/* ---- A backing store that can fail ---------------------------------------- */

struct store {
    unsigned char bytes[PAGES][QR_PAGE_SIZE];
    unsigned reads, writes;
    bool broken;
    bool destroyed;
};

static enum qr_status
store_read(void *context, size_t index, struct qr_frame *frame)
{
    struct store *store = context;

    store->reads++;
    sim_preempt();
    if (store->broken || index >= PAGES)
        return QR_ERR_IO;
    char *window = qr_port_window_open(qr_frame_pa(sim_frames(sim_here()), frame));

    memcpy(window, store->bytes[index], QR_PAGE_SIZE);
    qr_port_window_close(window);
    return QR_OK;
}

static enum qr_status
store_write(void *context, size_t index, struct qr_frame *frame)
{
    struct store *store = context;

    store->writes++;
    sim_preempt();
    if (store->broken)
        return QR_ERR_IO;
    char *window = qr_port_window_open(qr_frame_pa(sim_frames(sim_here()), frame));

    memcpy(store->bytes[index], window, QR_PAGE_SIZE);
    qr_port_window_close(window);
    return QR_OK;
}

static void
store_destroy(void *context)
{
    ((struct store *)context)->destroyed = true;
}

static const struct qr_pager store_pager = {
    .name = "store", .read_page = store_read, .write_page = store_write, .destroy = store_destroy};

/* ---- A buffer to copy to and from ------------------------------------------ */

struct buffer {
    unsigned char *at;
    size_t stop_after; /* bytes before the "fault" */
};

static size_t
copy_in(void *context, void *window, size_t bytes)
{
    struct buffer *buffer = context;
    size_t moved = bytes < buffer->stop_after ? bytes : buffer->stop_after;

    memcpy(window, buffer->at, moved);
    buffer->at += moved;
    buffer->stop_after -= moved;
    return moved;
}

static size_t
copy_out(void *context, void *window, size_t bytes)
{
    struct buffer *buffer = context;
    size_t moved = bytes < buffer->stop_after ? bytes : buffer->stop_after;

    memcpy(buffer->at, window, moved);
    buffer->at += moved;
    buffer->stop_after -= moved;
    return moved;
}

static size_t
object_read(struct qr_object *object, uint64_t offset, void *to, size_t bytes)
{
    struct buffer buffer = {to, SIZE_MAX};
    size_t done;

    EXPECT_STATUS(qr_object_read(object, offset, bytes, copy_out, &buffer, &done), QR_OK);
    return done;
}

static size_t
object_write(struct qr_object *object, uint64_t offset, const void *from, size_t bytes)
{
    struct buffer buffer = {(unsigned char *)from, SIZE_MAX};
    size_t done;

    EXPECT_STATUS(qr_object_write(object, offset, bytes, copy_in, &buffer, &done), QR_OK);
    return done;
}

TEST(object, holes_read_as_zero_and_take_no_frame)
{
    struct sim *sim = sim_boot_heap((struct sim_options){.frames = 512});
    struct qr_objects *objects = objects_boot(sim);
    struct qr_object *object = NULL;
    unsigned char bytes[3 * QR_PAGE_SIZE];

    ASSERT_STATUS(qr_object_create(objects, &qr_pager_memory, NULL, sizeof(bytes), &object), QR_OK);
    memset(bytes, 0xff, sizeof(bytes));
    EXPECT_EQ(object_read(object, 0, bytes, sizeof(bytes)), sizeof(bytes));
    for (size_t i = 0; i < sizeof(bytes); i++)
        ASSERT_EQ(bytes[i], 0);
    EXPECT_EQ(qr_object_resident(object), 0u);
    qr_object_put(object);
    objects_shutdown(sim, objects);
}

TEST(object, copies_match_a_flat_file)
{
    struct sim *sim = sim_boot_heap((struct sim_options){.frames = 512});
    struct qr_objects *objects = objects_boot(sim);
    struct qr_object *object = NULL;
    static unsigned char model[PAGES * QR_PAGE_SIZE], piece[PAGES * QR_PAGE_SIZE];
    size_t size = 0;
    uint64_t random = test_seed();

    memset(model, 0, sizeof(model));
    ASSERT_STATUS(qr_object_create(objects, &qr_pager_memory, NULL, 0, &object), QR_OK);
    for (unsigned step = 0; step < 3000; step++) {
        size_t at = test_random(&random) % sizeof(model);
        size_t bytes = test_random(&random) % (sizeof(model) - at + 1);
        size_t inside = at >= size ? 0 : size - at < bytes ? size - at : bytes;

        switch (test_random(&random) % 4) {
        case 0: /* read */
            ASSERT_EQ(object_read(object, at, piece, bytes), inside);
            ASSERT_EQ(memcmp(piece, model + at, inside), 0);
            break;
        case 1: /* write */
            memset(piece, (int)step, bytes);
            ASSERT_EQ(object_write(object, at, piece, bytes), inside);
            memset(model + at, (int)step, inside);
            break;
        case 2: /* truncate: what lies behind the end is zero for ever */
            qr_object_set_bytes(object, at);
            if (at < size)
                memset(model + at, 0, size - at);
            size = at;
            break;
        default: /* punch */
            qr_object_punch(object, at / QR_PAGE_SIZE, (at + bytes) / QR_PAGE_SIZE);
            if (at / QR_PAGE_SIZE < (at + bytes) / QR_PAGE_SIZE)
                memset(model + at / QR_PAGE_SIZE * QR_PAGE_SIZE, 0,
                       ((at + bytes) / QR_PAGE_SIZE - at / QR_PAGE_SIZE) * QR_PAGE_SIZE);
            break;
        }
        validate(objects);
    }
    qr_object_put(object);
    objects_shutdown(sim, objects);
}

/* What a mapping stored behind the end shows when memory grows, and is gone once the end was set. */
TEST(object, bytes_behind_the_end_of_memory_stay_until_it_is_cut)
{
    struct sim *sim = sim_boot_heap((struct sim_options){.frames = 512});
    struct qr_objects *objects = objects_boot(sim);
    struct qr_object *object = NULL;
    struct qr_frame *frame = NULL;
    unsigned char byte = 1;

    ASSERT_STATUS(qr_object_create(objects, &qr_pager_memory, NULL, 100, &object), QR_OK);
    ASSERT_STATUS(qr_object_get_page(object, 0, QR_PAGE_FILL, &frame), QR_OK);
    memset(sim_ram(sim, qr_frame_pa(sim_frames(sim), frame)), 7, QR_PAGE_SIZE);
    qr_frame_put(sim_frames(sim), frame);

    qr_object_set_bytes(object, 300);
    EXPECT_EQ(object_read(object, 200, &byte, 1), 1u);
    EXPECT_EQ(byte, 7);
    qr_object_set_bytes(object, 300); /* the same size cuts, too */
    qr_object_set_bytes(object, QR_PAGE_SIZE);
    EXPECT_EQ(object_read(object, 300, &byte, 1), 1u);
    EXPECT_EQ(byte, 0);
    qr_object_put(object);
    objects_shutdown(sim, objects);
}

TEST(object, a_fault_in_the_copy_leaves_an_exact_prefix)
{
    struct sim *sim = sim_boot_heap((struct sim_options){.frames = 512});
    struct qr_objects *objects = objects_boot(sim);
    struct qr_object *object = NULL;
    unsigned char from[2 * QR_PAGE_SIZE], to[2 * QR_PAGE_SIZE];

    ASSERT_STATUS(qr_object_create(objects, &qr_pager_memory, NULL, sizeof(from), &object), QR_OK);
    memset(from, 7, sizeof(from));
    for (size_t stop = 4090; stop < 4100; stop++) {
        struct buffer buffer = {from, stop};
        size_t done;

        qr_object_punch(object, 0, 2);
        EXPECT_STATUS(qr_object_write(object, 0, sizeof(from), copy_in, &buffer, &done),
                      QR_ERR_FAULT);
        EXPECT_EQ(done, stop);
        EXPECT_EQ(object_read(object, 0, to, sizeof(to)), sizeof(to));
        EXPECT_EQ(to[stop - 1], 7);
        EXPECT_EQ(to[stop], 0);
    }
    qr_object_put(object);
    objects_shutdown(sim, objects);
}

TEST(object, a_page_is_read_once_and_written_back_when_dirty)
{
    struct sim *sim = sim_boot_heap((struct sim_options){.frames = 512});
    struct qr_objects *objects = objects_boot(sim);
    static struct store store;
    struct qr_object *object = NULL;
    unsigned char byte = 0;

    store = (struct store){.reads = 0};
    store.bytes[2][5] = 42;
    ASSERT_STATUS(qr_object_create(objects, &store_pager, &store, PAGES * QR_PAGE_SIZE, &object),
                  QR_OK);
    for (unsigned i = 0; i < 3; i++)
        EXPECT_EQ(object_read(object, 2 * QR_PAGE_SIZE + 5, &byte, 1), 1u);
    EXPECT_EQ(byte, 42);
    EXPECT_EQ(store.reads, 1u);

    byte = 43;
    EXPECT_EQ(object_write(object, 2 * QR_PAGE_SIZE + 5, &byte, 1), 1u);
    EXPECT_EQ(qr_object_drop_clean(object), 0u);
    store.broken = true;
    EXPECT_STATUS(qr_object_sync(object, 0, PAGES), QR_ERR_IO);
    store.broken = false;
    EXPECT_STATUS(qr_object_sync(object, 0, PAGES), QR_OK);
    EXPECT_EQ(store.bytes[2][5], 43);
    EXPECT_EQ(store.writes, 2u);
    EXPECT_STATUS(qr_object_sync(object, 0, PAGES), QR_OK);
    EXPECT_EQ(store.writes, 2u);
    EXPECT_EQ(qr_object_drop_clean(object), 1u);
    EXPECT_EQ(qr_object_resident(object), 0u);
    validate(objects);
    qr_object_put(object);
    EXPECT_TRUE(store.destroyed);
    objects_shutdown(sim, objects);
}

TEST(object, a_page_that_cannot_be_read_leaves_nothing_behind)
{
    struct sim *sim = sim_boot_heap((struct sim_options){.frames = 512});
    struct qr_objects *objects = objects_boot(sim);
    static struct store store;
    struct qr_object *object = NULL;
    struct qr_frame *frame = NULL;

    store = (struct store){.broken = true};
    ASSERT_STATUS(qr_object_create(objects, &store_pager, &store, PAGES * QR_PAGE_SIZE, &object),
                  QR_OK);
    EXPECT_STATUS(qr_object_get_page(object, 0, QR_PAGE_FILL, &frame), QR_ERR_IO);
    EXPECT_EQ(qr_object_resident(object), 0u);
    store.broken = false;
    EXPECT_STATUS(qr_object_get_page(object, 0, QR_PAGE_FILL, &frame), QR_OK);
    qr_frame_put(sim_frames(sim), frame);
    EXPECT_STATUS(qr_object_get_page(object, PAGES, QR_PAGE_FILL, &frame), QR_ERR_RANGE);
    EXPECT_STATUS(qr_object_get_page(object, 1, QR_PAGE_CACHED, &frame), QR_ERR_NOT_FOUND);
    EXPECT_STATUS(qr_object_get_page(object, 1, QR_PAGE_NOWAIT, &frame), QR_ERR_AGAIN);
    qr_object_put(object);
    objects_shutdown(sim, objects);
}

/* Refuse the 1st, 2nd, ... allocation of making a page far out, until it succeeds. */
TEST(object, making_a_page_is_all_or_nothing)
{
    unsigned refusal = 0;
    enum qr_status status;

    do {
        struct sim *sim = sim_boot_heap((struct sim_options){.frames = 512});
        struct qr_objects *objects = objects_boot(sim);
        struct qr_object *object = NULL;
        struct qr_frame *frame = NULL;

        ASSERT_STATUS(qr_object_create(objects, &qr_pager_memory, NULL, (uint64_t)1 << 50, &object),
                      QR_OK);
        sim_refuse_next(sim, &refusal);
        status =
            qr_object_get_page(object, (size_t)1 << (49 - QR_PAGE_SHIFT), QR_PAGE_FILL, &frame);
        sim_refuse_nth(sim, 0, SIM_REFUSE_ONCE);
        if (status == QR_OK)
            qr_frame_put(sim_frames(sim), frame);
        EXPECT_EQ(qr_object_resident(object), status == QR_OK ? 1u : 0u);
        validate(objects);
        qr_object_put(object);
        objects_shutdown(sim, objects);
    } while (status == QR_ERR_NO_MEMORY);
    EXPECT_STATUS(status, QR_OK);
    EXPECT_GT(refusal, 1u);
}

/* ---- Races ------------------------------------------------------------------ */

struct race {
    struct qr_object *object;
    struct store store;
};

/* A reader sees the old byte, or nothing at all: never a page half made. */
static void
race_reader(void *context)
{
    struct race *race = context;

    for (unsigned i = 0; i < 50; i++) {
        struct qr_frame *frame;
        enum qr_status status = qr_object_get_page(race->object, i % PAGES, QR_PAGE_FILL, &frame);

        if (status != QR_OK) {
            EXPECT_STATUS(status, QR_ERR_RANGE);
            continue;
        }
        unsigned char *window = qr_port_window_open(qr_frame_pa(sim_frames(sim_here()), frame));

        EXPECT_EQ(window[0], 9);
        qr_port_window_close(window);
        qr_frame_put(sim_frames(sim_here()), frame);
    }
}

static void
race_truncate(void *context)
{
    struct race *race = context;

    for (unsigned i = 0; i < 20; i++) {
        qr_object_set_bytes(race->object, i % 3 * QR_PAGE_SIZE);
        qr_object_set_bytes(race->object, PAGES * QR_PAGE_SIZE);
        (void)qr_object_drop_clean(race->object);
    }
}

static void
race_run(enum sim_run_mode mode, uint64_t seed)
{
    static struct race race;
    struct sim *sim = sim_boot_heap((struct sim_options){.frames = 1024, .cpus = 3, .seed = seed});
    struct qr_objects *objects = objects_boot(sim);

    memset(&race, 0, sizeof(race));
    for (unsigned page = 0; page < PAGES; page++)
        race.store.bytes[page][0] = 9;
    ASSERT_STATUS(
        qr_object_create(objects, &store_pager, &race.store, PAGES * QR_PAGE_SIZE, &race.object),
        QR_OK);
    sim_spawn(sim, 0, "reader", race_reader, &race);
    sim_spawn(sim, 1, "reader", race_reader, &race);
    sim_spawn(sim, 2, "truncate", race_truncate, &race);
    sim_run(sim, mode);
    validate(objects);
    qr_object_put(race.object);
    objects_shutdown(sim, objects);
}

TEST(object, readers_against_truncation_under_seeds)
{
    for (uint64_t seed = test_seed(); seed < test_seed() + 30; seed++)
        race_run(SIM_RUN_SEEDED, seed);
}

TEST(object, reference_misuse_is_named)
{
    struct sim *sim = sim_boot_heap((struct sim_options){.frames = 512});
    struct qr_objects *objects = objects_boot(sim);
    struct qr_object *object = NULL;

    EXPECT_STATUS(qr_object_create(objects, &qr_pager_memory, NULL, UINT64_MAX, &object),
                  QR_ERR_RANGE);
    EXPECT_STATUS(
        qr_object_create_device(objects, qr_pa_of(5), QR_PAGE_SIZE, QR_CACHE_UNCACHED, &object),
        QR_ERR_RANGE);
    ASSERT_STATUS(qr_object_create_device(objects, qr_pa_of(0xfee00000), 2 * QR_PAGE_SIZE,
                                          QR_CACHE_UNCACHED, &object),
                  QR_OK);
    EXPECT_TRUE(qr_object_is_device(object));
    EXPECT_EQ(qr_object_device_pa(object, 1).v, 0xfee00000u + QR_PAGE_SIZE);
    struct qr_frame *frame = NULL;

    EXPECT_PANIC((void)!qr_object_get_page(object, 0, QR_PAGE_FILL, &frame), "device");
    qr_object_put(object);
    objects_shutdown(sim, objects);
}
