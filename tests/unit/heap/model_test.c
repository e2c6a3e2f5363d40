/* SPDX-License-Identifier: MIT */
/*
 * The heap beside a model that is too simple to be wrong: a byte for every eight of the
 * machine's memory says whether a block lies there.  Random calls of every kind, on random
 * CPUs, with frames refused at random; after each the model must agree, and now and then the
 * heap's own validator.
 *
 *      HEAP_STEPS=5000000 test_heap heap_model      so many steps
 *      HEAP_SECONDS=3600 test_heap heap_model       machine after machine for so long
 */
#include "rig.h"

#include <stdio.h>
#include <time.h>

enum { LIVE = 3000, CPUS = 3, CACHES = 3, BULK = 40 };

struct live {
    unsigned char *block;
    size_t bytes;
    struct qr_cache *cache; /* NULL: of the kmalloc family */
    unsigned char fill;
};

struct model {
    struct bench bench;
    uint64_t random;
    unsigned char *taken; /* of each 8 bytes of memory */
    struct qr_cache *cache[CACHES];
    struct live live[LIVE];
    size_t count, refused, steps;
    unsigned refusals; /* one in so many; 0: none */
};

static uint64_t
draw(struct model *model, uint64_t below)
{
    return test_random(&model->random) % below;
}

static bool
refuse_some(void *context)
{
    struct model *model = context;
    bool refuse = model->refusals != 0 && draw(model, model->refusals) == 0;

    model->refused += refuse;
    return refuse;
}

/* Nothing of [block, block + bytes) is taken; from now on all of it is.  Or the reverse. */
static void
model_mark(struct model *model, const void *block, size_t bytes, unsigned char taken)
{
    size_t first = (size_t)qr_port_direct_pa(block).v / 8;

    for (size_t i = 0; i < (bytes + 7) / 8; i++) {
        ASSERT_EQ(model->taken[first + i], 1 - taken);
        model->taken[first + i] = taken;
    }
}

static void
model_add(struct model *model, void *block, size_t bytes, size_t align, struct qr_cache *cache)
{
    struct live *live = &model->live[model->count];

    ASSERT_EQ(qr_port_direct_pa(block).v & (align - 1), 0);
    model_mark(model, block, bytes, 1);
    *live = (struct live){block, bytes, cache, (unsigned char)model->steps};
    memset(block, live->fill, bytes);
    model->count++;
}

static void
expect_filled(const struct live *live, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        if (live->block[i] != live->fill)
            ASSERT_EQ(i, bytes); /* somebody else wrote here */
    }
}

/* Out of the model: @return what it was. */
static struct live
model_remove(struct model *model, size_t index)
{
    struct live live = model->live[index];

    expect_filled(&live, live.bytes);
    model_mark(model, live.block, live.bytes, 0);
    model->live[index] = model->live[--model->count];
    return live;
}

static size_t
some_size(struct model *model)
{
    switch (draw(model, 12)) {
    case 0:
        return 1 + draw(model, 200000);
    case 1:
    case 2:
        return 1 + draw(model, 17000);
    default:
        return 1 + draw(model, 700);
    }
}

/* ---- steps ------------------------------------------------------------------------ */

static void
step_alloc(struct model *model)
{
    struct qr_heap *heap = model->bench.heap;
    size_t bytes = some_size(model);
    size_t align = 8;
    unsigned char *block;

    switch (draw(model, 6)) {
    case 0:
        block = qr_kcalloc(heap, 1, bytes, QR_ALLOC_NO_REPORT);
        for (size_t i = 0; block != NULL && i < bytes; i++)
            ASSERT_EQ(block[i], 0);
        break;
    case 1:
        align = (size_t)1 << draw(model, 15);
        block = qr_kmalloc_aligned(heap, bytes, align, QR_ALLOC_NO_REPORT);
        break;
    case 2:
        bytes = (size_t)1 << draw(model, 15);
        align = bytes < QR_PAGE_SIZE ? bytes : QR_PAGE_SIZE;
        block = qr_kmalloc(heap, bytes, QR_ALLOC_NO_REPORT | QR_ALLOC_ATOMIC);
        break;
    default:
        block = qr_kmalloc(heap, bytes, QR_ALLOC_NO_REPORT);
    }
    if (block == NULL)
        return;
    ASSERT_GE(qr_ksize(heap, block), bytes);
    model_add(model, block, bytes, align, NULL);
}

static void
step_cache(struct model *model)
{
    unsigned which = (unsigned)draw(model, CACHES);
    static const size_t bytes[CACHES] = {24, 200, 3000};
    void *object = qr_cache_alloc(model->cache[which], QR_ALLOC_NO_REPORT);

    if (object != NULL)
        model_add(model, object, bytes[which], 8, model->cache[which]);
}

static void
step_bulk(struct model *model)
{
    size_t bytes = some_size(model) / 8 + 1;
    void *blocks[BULK];
    size_t got = qr_kmalloc_bulk(model->bench.heap, bytes, BULK, blocks, QR_ALLOC_NO_REPORT);

    for (size_t i = 0; i < got; i++)
        model_add(model, blocks[i], bytes, 8, NULL);
}

static void
step_free(struct model *model)
{
    struct live live = model_remove(model, draw(model, model->count));

    if (live.cache != NULL)
        qr_cache_free(live.cache, live.block);
    else if (draw(model, 2) == 0)
        qr_kfree_sized(model->bench.heap, live.block, live.bytes);
    else
        qr_kfree(model->bench.heap, live.block);
}

static void
step_free_bulk(struct model *model)
{
    void *blocks[BULK];
    size_t count = 0;

    while (count < BULK && model->count > 0) {
        struct live live = model_remove(model, draw(model, model->count));

        if (live.cache != NULL)
            qr_cache_free(live.cache, live.block);
        else
            blocks[count++] = live.block;
    }
    qr_kfree_bulk(model->bench.heap, count, blocks);
}

static void
step_resize(struct model *model)
{
    size_t index = draw(model, model->count);
    struct live live = model->live[index];
    size_t bytes = some_size(model);
    unsigned char *moved;

    if (live.cache != NULL)
        return;
    expect_filled(&live, live.bytes);
    moved = qr_krealloc(model->bench.heap, live.block, bytes, QR_ALLOC_NO_REPORT);
    if (moved == NULL)
        return; /* as it was: its free will look */
    model_mark(model, live.block, live.bytes, 0);
    model->live[index] = model->live[--model->count];
    live.block = moved;
    expect_filled(&live, live.bytes < bytes ? live.bytes : bytes);
    model_add(model, moved, bytes, 8, NULL);
}

static void
model_step(struct model *model)
{
    uint64_t what = draw(model, 1000);

    model->steps++;
    if (what < 20)
        machine_enter(model->bench.machine, (unsigned)draw(model, CPUS));
    else if (what < 22)
        (void)qr_heap_reap(model->bench.heap);
    else if (what < 24)
        (void)qr_cache_reap(model->cache[draw(model, CACHES)]);
    else if (what < 28)
        qr_heap_large_select(model->bench.heap, (enum qr_large_kind)draw(model, QR_LARGE_KINDS));
    else if (what < 30)
        (void)qr_heap_debug(model->bench.heap, (unsigned)draw(model, 32));
    else if (what < 40 && model->count + BULK < LIVE)
        step_bulk(model);
    else if (what < 50)
        step_free_bulk(model);
    else if (what < 110 && model->count > 0)
        step_resize(model);
    else if (what < 500 + draw(model, 60) && model->count < LIVE)
        draw(model, 4) == 0 ? step_cache(model) : step_alloc(model);
    else if (model->count > 0)
        step_free(model);
}

/* ---- a machine's life ---------------------------------------------------------------- */

static void
model_run(uint64_t seed, uint64_t memory, unsigned refusals, size_t steps)
{
    struct model *model = calloc(1, sizeof(*model));
    static const struct qr_cache_config configs[CACHES] = {
        {.name = "small", .object_bytes = 24},
        {.name = "middling", .object_bytes = 200, .align = 64},
        {.name = "large", .object_bytes = 3000}};

    model->bench = heap_boot(memory, CPUS);
    model->random = seed;
    model->taken = calloc(1, model->bench.machine->ram_bytes / 8);
    for (unsigned i = 0; i < CACHES; i++)
        ASSERT_EQ(qr_cache_create(model->bench.heap, &configs[i], &model->cache[i]), QR_OK);
    model->refusals = refusals;
    qr_frames_set_refusal(model->bench.machine->frames, refusals == 0 ? NULL : refuse_some, model);
    for (size_t i = 0; i < steps; i++) {
        model_step(model);
        if (i % 10000 == 0)
            heap_check(&model->bench);
    }
    if (refusals != 0)
        EXPECT_GT(model->refused, 0);
    qr_frames_set_refusal(model->bench.machine->frames, NULL, NULL);
    while (model->count > 0)
        step_free(model);
    for (unsigned i = 0; i < CACHES; i++)
        EXPECT_EQ(qr_cache_destroy(model->cache[i]), 0);
    heap_shutdown(&model->bench, 0);
    free(model->taken);
    free(model);
}

static size_t
setting(const char *name, size_t otherwise)
{
    const char *text = getenv(name);

    return text == NULL ? otherwise : (size_t)strtoull(text, NULL, 10);
}

#ifdef CONFIG_MEMORY_DEBUGGING
enum { STEPS = 20000 };
#else
enum { STEPS = 100000 };
#endif

TEST(heap_model, plenty_of_memory)
{
    model_run(test_seed(), 256 * MIB, 0, setting("HEAP_STEPS", STEPS));
}

TEST(heap_model, frames_are_refused)
{
    model_run(test_seed() + 1, 256 * MIB, 20, setting("HEAP_STEPS", STEPS));
}

TEST(heap_model, memory_is_short)
{
    model_run(test_seed() + 2, 8 * MIB, 0, setting("HEAP_STEPS", STEPS));
}

/* Nothing unless HEAP_SECONDS says for how long. */
TEST(heap_model, soak)
{
    size_t seconds = setting("HEAP_SECONDS", 0);
    time_t end = time(NULL) + (time_t)seconds;
    uint64_t seed = test_seed();

    if (seconds == 0)
        TEST_SKIP("HEAP_SECONDS is not set");
    for (unsigned round = 0; time(NULL) < end; round++)
        model_run(seed + round, (uint64_t)(round % 3 == 2 ? 8 : 256) * MIB, round % 3 == 1 ? 20 : 0,
                  200000);
}
