/* SPDX-License-Identifier: MIT */
/*
 * The heap as callers use it: sizes, alignment, contents, resizing, caches, exhaustion,
 * and every misuse that has to be caught.
 */
#include "rig.h"

#include <quire/writer.h>

#include <stdlib.h>
#include <string.h>

TEST(heap, every_size_is_held_and_aligned)
{
    struct bench bench = heap_boot(64 * MIB, 1);

    for (size_t bytes = 1; bytes < 40000; bytes += bytes < 600 ? 1 : 97) {
        unsigned char *block = qr_kmalloc(bench.heap, bytes, 0);
        size_t align = 8;

        ASSERT_TRUE(block != NULL);
        EXPECT_GE(qr_ksize(bench.heap, block), bytes);
        while (align < bytes && align < QR_PAGE_SIZE)
            align *= 2;
        if (align == bytes)
            EXPECT_EQ((uintptr_t)block & (align - 1), 0);
        memset(block, 0xa5, bytes);
        EXPECT_EQ(block[bytes - 1], 0xa5);
        qr_kfree(bench.heap, block);
    }
    heap_shutdown(&bench, 0);
}

TEST(heap, aligned_blocks_are_aligned)
{
    struct bench bench = heap_boot(64 * MIB, 1);

    for (size_t align = 1; align <= MIB; align *= 2) {
        for (size_t bytes = 1; bytes <= 100000; bytes = bytes * 3 + 1) {
            void *block = qr_kmalloc_aligned(bench.heap, bytes, align, 0);

            ASSERT_TRUE(block != NULL);
            uint64_t pa = qr_port_direct_pa(block).v;
            EXPECT_EQ(pa & (align - 1), 0);
            memset(block, 1, bytes);
            qr_kfree(bench.heap, block);
        }
    }
    heap_shutdown(&bench, 0);
}

TEST(heap, zero_bytes_and_overflow_give_nothing)
{
    struct bench bench = heap_boot(16 * MIB, 1);

    EXPECT_NULL(qr_kmalloc(bench.heap, 0, 0));
    EXPECT_NULL(qr_kcalloc(bench.heap, SIZE_MAX / 2, 3, 0));
    EXPECT_NULL(qr_kcalloc(bench.heap, 0, 3, 0));
    EXPECT_NULL(qr_kmalloc_aligned(bench.heap, 0, 64, 0));
    EXPECT_NULL(qr_kmalloc(bench.heap, SIZE_MAX, QR_ALLOC_NO_REPORT));
    EXPECT_NULL(qr_kmalloc(bench.heap, SIZE_MAX - 4094, QR_ALLOC_NO_REPORT));
    EXPECT_NULL(qr_kmalloc(bench.heap, 64 * MIB, QR_ALLOC_NO_REPORT));
    qr_kfree(bench.heap, NULL);
    heap_shutdown(&bench, 0);
}

TEST(heap, cleared_memory_is_clear_after_use)
{
    struct bench bench = heap_boot(16 * MIB, 1);

    for (unsigned round = 0; round < 3; round++) {
        for (size_t bytes = 8; bytes < 30000; bytes = bytes * 2 + 3) {
            unsigned char *block = qr_kcalloc(bench.heap, 1, bytes, 0);

            ASSERT_TRUE(block != NULL);
            for (size_t i = 0; i < bytes; i++) {
                if (block[i] != 0)
                    EXPECT_EQ(i, SIZE_MAX);
            }
            memset(block, 0xff, bytes);
            qr_kfree(bench.heap, block);
        }
    }
    heap_shutdown(&bench, 0);
}

TEST(heap, dma_blocks_lie_below_16_mib)
{
    struct bench bench = heap_boot(64 * MIB, 1);

    for (size_t bytes = 1; bytes < 200000; bytes = bytes * 3 + 1) {
        void *block = qr_kmalloc_dma(bench.heap, bytes, 0);

        ASSERT_TRUE(block != NULL);
        EXPECT_LE(qr_port_direct_pa(block).v + bytes, 16 * MIB);
        qr_kfree(bench.heap, block);
    }
    heap_shutdown(&bench, 0);
}

TEST(heap, realloc_keeps_contents)
{
    struct bench bench = heap_boot(64 * MIB, 1);
    uint64_t random = test_seed();
    unsigned char *block = NULL;
    size_t bytes = 0;

    for (unsigned i = 0; i < 3000; i++) {
        size_t next = 1 + test_random(&random) % (i % 7 == 0 ? 60000 : 700);
        unsigned char *moved = qr_krealloc(bench.heap, block, next, 0);

        ASSERT_TRUE(moved != NULL);
        for (size_t b = 0; b < bytes && b < next; b++) {
            if (moved[b] != (unsigned char)(b * 7 + bytes))
                EXPECT_EQ(b, SIZE_MAX);
        }
        block = moved;
        bytes = next;
        for (size_t b = 0; b < bytes; b++)
            block[b] = (unsigned char)(b * 7 + bytes);
    }
    EXPECT_NULL(qr_krealloc(bench.heap, block, 0, 0));
    heap_shutdown(&bench, 0);
}

TEST(heap, a_large_block_shrinks_in_place)
{
    struct bench bench = heap_boot(16 * MIB, 1);
    void *block = qr_kmalloc(bench.heap, 40 * QR_PAGE_SIZE, 0);
    size_t before = machine_free_frames(bench.machine);

    EXPECT_TRUE(qr_krealloc(bench.heap, block, 30 * QR_PAGE_SIZE - 5, 0) == block);
    EXPECT_EQ(machine_free_frames(bench.machine), before + 10);
    EXPECT_EQ(qr_ksize(bench.heap, block), 30 * QR_PAGE_SIZE);
    qr_kfree(bench.heap, block);
    heap_shutdown(&bench, 0);
}

/* ---- beside a model ------------------------------------------------------ */

enum { LIVE = 4000 };

struct live {
    unsigned char *block;
    size_t bytes;
    unsigned char fill;
};

static void
live_free(struct bench *bench, struct live *live)
{
    for (size_t i = 0; i < live->bytes; i++) {
        if (live->block[i] != live->fill) {
            EXPECT_EQ(i, SIZE_MAX); /* somebody else wrote into this block */
            break;
        }
    }
    qr_kfree(bench->heap, live->block);
    live->block = NULL;
}

static void
heap_churn(uint64_t memory, size_t largest, unsigned steps)
{
    struct bench bench = heap_boot(memory, 3);
    struct live *live = calloc(LIVE, sizeof(*live));
    uint64_t random = test_seed();

    for (unsigned i = 0; i < steps; i++) {
        struct live *at = &live[test_random(&random) % LIVE];

        if (i % 64 == 0)
            machine_enter(bench.machine, (unsigned)(test_random(&random) % 3));
        if (i % 20000 == 0)
            heap_check(&bench);
        if (i % 50000 == 49999)
            (void)qr_heap_reap(bench.heap);
        if (at->block != NULL) {
            live_free(&bench, at);
            continue;
        }
        at->bytes = 1 + test_random(&random) % (1 + test_random(&random) % largest);
        at->fill = (unsigned char)i;
        at->block = qr_kmalloc(bench.heap, at->bytes, QR_ALLOC_NO_REPORT);
        if (at->block != NULL)
            memset(at->block, at->fill, at->bytes);
    }
    for (unsigned i = 0; i < LIVE; i++) {
        if (live[i].block != NULL)
            live_free(&bench, &live[i]);
    }
    free(live);
    heap_shutdown(&bench, 0);
}

TEST(heap, churn_of_small_blocks)
{
    heap_churn(64 * MIB, 300, 300000);
}

TEST(heap, churn_of_all_sizes)
{
    heap_churn(256 * MIB, 30000, 100000);
}

TEST(heap, churn_with_memory_short)
{
    heap_churn(4 * MIB, 8000, 200000);
}

/* ---- caches -------------------------------------------------------------- */

struct widget {
    unsigned magic;
    char padding[68];
};

static unsigned constructed;

static void
widget_construct(void *object)
{
    ((struct widget *)object)->magic = 0xfeed;
    constructed++;
}

TEST(heap, constructed_state_survives_a_free)
{
    struct bench bench = heap_boot(16 * MIB, 1);
    struct qr_cache *cache = NULL;
    struct widget *widgets[300];

    constructed = 0;
    ASSERT_EQ(qr_cache_create(bench.heap,
                              &(struct qr_cache_config){.name = "widget",
                                                        .object_bytes = sizeof(struct widget),
                                                        .construct = widget_construct},
                              &cache),
              QR_OK);
    for (unsigned round = 0; round < 4; round++) {
        for (unsigned i = 0; i < 300; i++) {
            widgets[i] = qr_cache_alloc(cache, 0);
            ASSERT_TRUE(widgets[i] != NULL);
            EXPECT_EQ(widgets[i]->magic, 0xfeed);
            memset(widgets[i]->padding, (int)i, sizeof(widgets[i]->padding));
        }
        EXPECT_GE(constructed, 300);
        for (unsigned i = 0; i < 300; i++)
            qr_cache_free(cache, widgets[i]);
    }
    EXPECT_LT(constructed, 900); /* not once an allocation: 1200 */
    EXPECT_EQ(qr_cache_destroy(cache), 0);
    heap_shutdown(&bench, 0);
}

TEST(heap, destroy_counts_what_is_left)
{
    struct bench bench = heap_boot(16 * MIB, 2);
    struct qr_cache *cache = NULL;
    void *objects[10];

    ASSERT_EQ(qr_cache_create(
                  bench.heap,
                  &(struct qr_cache_config){.name = "left", .object_bytes = 200, .align = 128},
                  &cache),
              QR_OK);
    for (unsigned i = 0; i < 10; i++) {
        objects[i] = qr_cache_alloc(cache, 0);
        EXPECT_EQ((uintptr_t)objects[i] & 127, 0);
    }
    for (unsigned i = 0; i < 7; i++)
        qr_cache_free(cache, objects[i]);
    EXPECT_EQ(qr_cache_destroy(cache), 3);
    for (unsigned i = 7; i < 10; i++)
        qr_cache_free(cache, objects[i]);
    EXPECT_EQ(qr_cache_destroy(cache), 0);
    heap_shutdown(&bench, 0);
}

TEST(heap, a_cache_of_impossible_objects_is_refused)
{
    struct bench bench = heap_boot(16 * MIB, 1);
    struct qr_cache *cache = NULL;
    struct qr_cache_config config = {.name = "odd", .object_bytes = 0};

    EXPECT_EQ(qr_cache_create(bench.heap, &config, &cache), QR_ERR_INVALID);
    config.object_bytes = QR_KMALLOC_MAX + 1;
    EXPECT_EQ(qr_cache_create(bench.heap, &config, &cache), QR_ERR_INVALID);
    config.object_bytes = 32;
    config.align = 24;
    EXPECT_EQ(qr_cache_create(bench.heap, &config, &cache), QR_ERR_INVALID);
    EXPECT_NULL(cache);
    heap_shutdown(&bench, 0);
}

static const struct qr_cache_stats *
stats_named(struct bench *bench, const char *name, struct qr_cache_stats *stats)
{
    for (size_t i = 0; qr_heap_cache_stats(bench->heap, i, stats); i++) {
        if (strcmp(stats->name, name) == 0)
            return stats;
    }
    return NULL;
}

TEST(heap, statistics_are_exact_at_rest)
{
    struct bench bench = heap_boot(16 * MIB, 2);
    void *blocks[500];
    struct qr_cache_stats stats;
    struct qr_heap_stats heap;

    for (unsigned i = 0; i < 500; i++)
        blocks[i] = qr_kmalloc(bench.heap, 128, 0);
    ASSERT_TRUE(stats_named(&bench, "kmalloc-128", &stats) != NULL);
    EXPECT_EQ(stats.active_objects, 500);
    EXPECT_GE(stats.total_objects, 500);
    EXPECT_EQ(stats.object_bytes, 128);
    qr_heap_stats(bench.heap, &heap);
    EXPECT_GE(heap.active_bytes, 500 * 128);
    for (unsigned i = 0; i < 500; i++)
        qr_kfree(bench.heap, blocks[i]);
    ASSERT_TRUE(stats_named(&bench, "kmalloc-128", &stats) != NULL);
    EXPECT_EQ(stats.active_objects, 0);
    EXPECT_GT(qr_heap_reap(bench.heap), 0);
    ASSERT_TRUE(stats_named(&bench, "kmalloc-128", &stats) != NULL);
    EXPECT_EQ(stats.slabs, 0);
    void *large = qr_kmalloc(bench.heap, 100000, 0);

    qr_heap_stats(bench.heap, &heap);
    EXPECT_EQ(heap.large_blocks, 1);
    EXPECT_EQ(heap.large_bytes, 25 * QR_PAGE_SIZE);
    qr_kfree(bench.heap, large);
    heap_shutdown(&bench, 0);
}

/* ---- memory runs out ----------------------------------------------------- */

TEST(heap, exhaustion_is_survived_and_all_comes_back)
{
    static const size_t sizes[] = {8, 64, 500, 2048, 4096, 16384, 50000};

    for (unsigned s = 0; s < 7; s++) {
        struct bench bench = heap_boot(4 * MIB, 2);
        void **chain = NULL;
        void **block;
        size_t count = 0;

        while ((block = qr_kmalloc(bench.heap, sizes[s], QR_ALLOC_NO_REPORT)) != NULL) {
            *block = chain;
            chain = block;
            count++;
        }
        EXPECT_GT(count * sizes[s], 512 * 1024);
        heap_check(&bench);
        machine_enter(bench.machine, 1);
        while (chain != NULL) {
            block = chain;
            chain = *block;
            qr_kfree(bench.heap, block);
        }
        heap_shutdown(&bench, 0);
    }
}

/* Refuse the @countdown-th frame request, and all after it where @forever. */
struct refusal {
    unsigned countdown;
    bool forever;
    unsigned refused;
};

static bool
refuse_nth(void *context)
{
    struct refusal *refusal = context;

    if (refusal->countdown > 0)
        refusal->countdown--;
    bool refuse = refusal->countdown == 0 && (refusal->forever || refusal->refused == 0);

    refusal->refused += refuse;
    return refuse;
}

/* Everything that allocates, undone again; true where nothing was refused to it. */
static bool
scenario(struct bench *bench)
{
    struct qr_cache *cache = NULL;
    bool complete = true;
    void *blocks[40];
    size_t count = 0;

    for (unsigned i = 0; i < 40; i++) {
        blocks[count] = qr_kmalloc(bench->heap, (size_t)700 << (i % 7), QR_ALLOC_NO_REPORT);
        if (blocks[count] != NULL)
            count++;
        else
            complete = false;
    }
    const struct qr_cache_config config = {.name = "scenario", .object_bytes = 1000};

    if (qr_cache_create(bench->heap, &config, &cache) == QR_OK) {
        void *object = qr_cache_alloc(cache, QR_ALLOC_NO_REPORT);

        if (object != NULL)
            qr_cache_free(cache, object);
        complete = complete && object != NULL;
        EXPECT_EQ(qr_cache_destroy(cache), 0);
    } else {
        complete = false;
    }
    if (count > 0) {
        void *moved = qr_krealloc(bench->heap, blocks[0], 90000, QR_ALLOC_NO_REPORT);

        complete = complete && moved != NULL;
        blocks[0] = moved != NULL ? moved : blocks[0];
    }
    for (size_t i = 0; i < count; i++)
        qr_kfree(bench->heap, blocks[i]);
    return complete;
}

TEST(heap, each_refused_frame_is_survived)
{
    for (unsigned mode = 0; mode < 2; mode++) {
        bool complete = false;

        for (unsigned nth = 1; !complete && nth < 400; nth++) {
            struct bench bench = heap_boot(32 * MIB, 1);
            struct refusal refusal = {.countdown = nth, .forever = mode == 1};

            qr_frames_set_refusal(bench.machine->frames, refuse_nth, &refusal);
            complete = scenario(&bench) && refusal.refused == 0;
            heap_check(&bench);
            qr_frames_set_refusal(bench.machine->frames, NULL, NULL);
            heap_shutdown(&bench, 0);
        }
        EXPECT_TRUE(complete);
    }
}

#ifdef CONFIG_MEMORY_DEBUGGING
TEST(heap, a_leak_is_reported_with_its_site)
{
    struct bench bench = heap_boot(16 * MIB, 1);
    char text[400];
    struct qr_buffer_writer writer;
    void *leak[3];

    for (unsigned i = 0; i < 3; i++)
        leak[i] = qr_kmalloc(bench.heap, 40, 0);
    qr_buffer_writer_init(&writer, text, sizeof(text));
    qr_heap_report_leaks(bench.heap, &writer.writer);
    EXPECT_CONTAINS(text, "3 objects, 120 bytes, allocated at 0x");
    for (unsigned i = 0; i < 3; i++)
        qr_kfree(bench.heap, leak[i]);
    heap_shutdown(&bench, 0);
}
#endif
