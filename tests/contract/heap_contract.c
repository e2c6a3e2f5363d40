/* SPDX-License-Identifier: MIT */
/* The kernel heap: blocks are apart, big enough, aligned, and keep what is written. */
#include "contract.h"

static void
fill(unsigned char *block, size_t bytes, uint64_t seed)
{
    for (size_t i = 0; i < bytes; i++) {
        block[i] = (unsigned char)(seed + i * 7);
    }
}

static bool
holds(const unsigned char *block, size_t bytes, uint64_t seed)
{
    for (size_t i = 0; i < bytes; i++) {
        if (block[i] != (unsigned char)(seed + i * 7)) {
            return false;
        }
    }
    return true;
}

CONTRACT(heap, every_size_up_to_the_largest_class_and_above)
{
    static const size_t sizes[] = {1,    7,    8,    9,     16,    31,    32,    33,    48,   64,
                                   100,  128,  255,  256,   512,   1000,  1024,  2048,  4000, 4096,
                                   4097, 8192, 9000, 16384, 16385, 20000, 65536, 100000};
    enum { COUNT = sizeof(sizes) / sizeof(sizes[0]) };
    unsigned char *blocks[COUNT];

    for (size_t i = 0; i < COUNT; i++) {
        blocks[i] = qr_kmalloc(machine->heap, sizes[i], 0);
        ASSERT_NOT_NULL(blocks[i]);
        EXPECT_GE(qr_ksize(machine->heap, blocks[i]), sizes[i]);
        EXPECT_EQ((uintptr_t)blocks[i] % 8, 0);
        fill(blocks[i], sizes[i], i);
    }
    for (size_t i = 0; i < COUNT; i++) {
        EXPECT_TRUE(holds(blocks[i], sizes[i], i));
        qr_kfree(machine->heap, blocks[i]);
    }
    qr_kfree(machine->heap, NULL);
}

CONTRACT(heap, calloc_clears_and_refuses_to_overflow)
{
    unsigned char *block = qr_kmalloc(machine->heap, 300, 0);

    ASSERT_NOT_NULL(block);
    fill(block, 300, 1);
    qr_kfree(machine->heap, block);
    block = qr_kcalloc(machine->heap, 3, 100, 0);
    ASSERT_NOT_NULL(block);
    for (size_t i = 0; i < 300; i++) {
        ASSERT_EQ(block[i], 0);
    }
    qr_kfree(machine->heap, block);
    EXPECT_NULL(qr_kcalloc(machine->heap, SIZE_MAX / 2, 3, QR_ALLOC_NO_REPORT));
    EXPECT_NULL(qr_kmalloc(machine->heap, SIZE_MAX, QR_ALLOC_NO_REPORT));
}

CONTRACT(heap, realloc_keeps_the_contents)
{
    static const size_t sizes[] = {10, 100, 5000, 40000, 3000, 20, 1};
    size_t kept = 10;
    unsigned char *block = qr_krealloc(machine->heap, NULL, sizes[0], 0);

    ASSERT_NOT_NULL(block);
    fill(block, kept, 3);
    for (size_t i = 1; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        unsigned char *moved = qr_krealloc(machine->heap, block, sizes[i], 0);

        ASSERT_NOT_NULL(moved);
        block = moved;
        kept = kept < sizes[i] ? kept : sizes[i];
        EXPECT_TRUE(holds(block, kept, 3));
    }
    EXPECT_NULL(qr_krealloc(machine->heap, block, 0, 0));
}

CONTRACT(heap, aligned_blocks_are_aligned)
{
    for (size_t align = 8; align <= 65536; align *= 2) {
        void *block = qr_kmalloc_aligned(machine->heap, 24, align, 0);

        ASSERT_NOT_NULL(block);
        EXPECT_EQ((uintptr_t)block % align, 0);
        qr_kfree(machine->heap, block);
    }
}

struct thing {
    uint64_t number;
    char text[40];
};

CONTRACT(heap, a_cache_gives_distinct_objects_and_says_what_is_left)
{
    enum { COUNT = 200 };
    const struct qr_cache_config config = {.name = "contract",
                                           .object_bytes = sizeof(struct thing)};
    struct qr_cache *cache = NULL;
    struct thing *things[COUNT];

    ASSERT_STATUS(qr_cache_create(machine->heap, &config, &cache), QR_OK);
    for (size_t i = 0; i < COUNT; i++) {
        things[i] = qr_cache_alloc(cache, 0);
        ASSERT_NOT_NULL(things[i]);
        things[i]->number = i;
    }
    EXPECT_EQ(qr_cache_destroy(cache), COUNT);
    for (size_t i = 0; i < COUNT; i++) {
        EXPECT_EQ(things[i]->number, i);
        qr_cache_free(cache, things[i]);
    }
    EXPECT_EQ(qr_cache_destroy(cache), 0);
}
