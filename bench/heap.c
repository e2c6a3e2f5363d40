/* SPDX-License-Identifier: MIT */
/*
 * Heaps side by side, one row a run:  heap ROW quire|libc REPEATS
 *
 * `libc` is glibc's malloc or whichever other is preloaded.  bench/heaps runs every row with
 * every allocator, by the clock or under callgrind, which counts what happens in functions
 * called measured_*.  Prints OPERATIONS (of one repeat) and NANOSECONDS (the best
 * repeat's), or RATIO for the row about memory.
 */
#include "frames_machine.h"

#include <quire/heap.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LIVE = 10000, BATCH = 1000, BULK = 64, CPUS = 2, STEPS = 100000 };

static struct qr_heap *heap;
static struct qr_cache *cache;
static void **held;
static uint32_t *slots, *sizes;

/* Each loop once for each side, so that neither pays for an indirect call. */
#define LOOPS(side, ALLOC, FREE)                                                          \
    MEASURED(side##_lifo)(struct qr_heap * h, size_t bytes, size_t count)                 \
    {                                                                                     \
        (void)h, (void)bytes;                                                             \
        _Pragma("GCC unroll 8") for (size_t i = 0; i < count; i++)                        \
        {                                                                                 \
            void *block = ALLOC(h, 64);                                                   \
            __asm__ volatile("" : : "r"(block) : "memory");                               \
            FREE(h, block);                                                               \
        }                                                                                 \
    }                                                                                     \
    MEASURED(side##_lifo_any)(struct qr_heap * h, size_t bytes, size_t count)             \
    {                                                                                     \
        (void)h;                                                                          \
        _Pragma("GCC unroll 8") for (size_t i = 0; i < count; i++)                        \
        {                                                                                 \
            void *block = ALLOC(h, bytes);                                                \
            __asm__ volatile("" : : "r"(block) : "memory");                               \
            FREE(h, block);                                                               \
        }                                                                                 \
    }                                                                                     \
    MEASURED(side##_take)(struct qr_heap * h, void **out, size_t count)                   \
    {                                                                                     \
        (void)h;                                                                          \
        _Pragma("GCC unroll 8") for (size_t i = 0; i < count; i++) out[i] = ALLOC(h, 64); \
    }                                                                                     \
    MEASURED(side##_give)(struct qr_heap * h, void **blocks, size_t count)                \
    {                                                                                     \
        (void)h;                                                                          \
        _Pragma("GCC unroll 8") for (size_t i = 0; i < count; i++) FREE(h, blocks[i]);    \
    }                                                                                     \
    MEASURED(side##_random)(struct qr_heap * h, void **live, size_t from, size_t to)      \
    {                                                                                     \
        (void)h;                                                                          \
        for (size_t i = from; i < to; i++) {                                              \
            FREE(h, live[slots[i]]);                                                      \
            live[slots[i]] = ALLOC(h, sizes[i]);                                          \
        }                                                                                 \
    }

#define QUIRE_ALLOC(h, bytes) qr_kmalloc((h), (bytes), 0)
#define QUIRE_FREE(h, block)  qr_kfree((h), (block))
#define LIBC_ALLOC(h, bytes)  malloc(bytes)
#define LIBC_FREE(h, block)   free(block)
LOOPS(quire, QUIRE_ALLOC, QUIRE_FREE)
LOOPS(libc, LIBC_ALLOC, LIBC_FREE)

MEASURED(quire_cache)(struct qr_cache *c, size_t count)
{
    _Pragma("GCC unroll 8") for (size_t i = 0; i < count; i++)
    {
        void *object = qr_cache_alloc(c, 0);
        __asm__ volatile("" : : "r"(object) : "memory");
        qr_cache_free(c, object);
    }
}

MEASURED(quire_bulk)(struct qr_heap *h, void **blocks, size_t rounds)
{
    for (size_t i = 0; i < rounds; i++) {
        (void)qr_kmalloc_bulk(h, 64, BULK, blocks, 0);
        qr_kfree_bulk(h, BULK, blocks);
    }
}

MEASURED(quire_cache_bulk)(struct qr_cache *c, void **objects, size_t rounds)
{
    for (size_t i = 0; i < rounds; i++) {
        (void)qr_cache_alloc_bulk(c, BULK, objects, 0);
        qr_cache_free_bulk(c, BULK, objects);
    }
}

/* ---- rows: one repeat each, @return operations ------------------------------- */

static uint64_t
row_lifo(int quire)
{
    quire ? measured_quire_lifo(heap, 64, STEPS) : measured_libc_lifo(heap, 64, STEPS);
    return 2 * STEPS;
}

static uint64_t
row_lifo_any(int quire)
{
    quire ? measured_quire_lifo_any(heap, sizes[0], STEPS)
          : measured_libc_lifo_any(heap, sizes[0], STEPS);
    return 2 * STEPS;
}

static uint64_t
row_cache(int quire)
{
    quire ? measured_quire_cache(cache, STEPS) : measured_libc_lifo(heap, 64, STEPS);
    return 2 * STEPS;
}

static void
take(int quire, size_t count)
{
    quire ? measured_quire_take(heap, held, count) : measured_libc_take(heap, held, count);
}

static void
give(int quire, size_t count)
{
    quire ? measured_quire_give(heap, held, count) : measured_libc_give(heap, held, count);
}

static uint64_t
row_batch(int quire)
{
    for (unsigned i = 0; i < STEPS / BATCH; i++) {
        take(quire, BATCH);
        give(quire, BATCH);
    }
    return 2 * STEPS;
}

/* The others have no such call: 64 allocated, 64 freed. */
static uint64_t
row_bulk(int quire)
{
    if (quire) {
        measured_quire_bulk(heap, held, STEPS / BULK);
        return STEPS / BULK * BULK * 2;
    }
    for (unsigned i = 0; i < STEPS / BULK; i++) {
        take(quire, BULK);
        give(quire, BULK);
    }
    return STEPS / BULK * BULK * 2;
}

static uint64_t
row_cache_bulk(int quire)
{
    if (!quire)
        return row_bulk(quire);
    measured_quire_cache_bulk(cache, held, STEPS / BULK);
    return STEPS / BULK * BULK * 2;
}

static uint64_t
row_random(int quire)
{
    quire ? measured_quire_random(heap, held, 0, STEPS)
          : measured_libc_random(heap, held, 0, STEPS);
    return 2 * STEPS;
}

/* ---- two threads: one allocates, the other frees ------------------------------- */

static pthread_barrier_t handed, taken;

static void *
consumer(void *argument)
{
    int quire = *(int *)argument;

    if (quire)
        bench_enter(1);
    for (unsigned i = 0; i < STEPS / BATCH; i++) {
        pthread_barrier_wait(&handed);
        give(quire, BATCH);
        pthread_barrier_wait(&taken);
    }
    return NULL;
}

static uint64_t pair_ns;

static uint64_t
row_pair(int quire)
{
    pthread_t thread;

    pair_ns = 0;
    pthread_barrier_init(&handed, NULL, 2);
    pthread_barrier_init(&taken, NULL, 2);
    pthread_create(&thread, NULL, consumer, &quire);
    for (unsigned i = 0; i < STEPS / BATCH; i++) {
        uint64_t start = bench_now_ns();

        take(quire, BATCH);
        pthread_barrier_wait(&handed);
        pthread_barrier_wait(&taken);
        pair_ns += bench_now_ns() - start;
    }
    pthread_join(thread, NULL);
    return 2 * STEPS;
}

/* ---- set-up --------------------------------------------------------------------- */

/* Every power of two equally often, as real programs ask. */
static void
fill_sizes(size_t smallest, size_t largest)
{
    for (size_t i = 0; i < STEPS; i++) {
        slots[i] = (uint32_t)(bench_random() % LIVE);
        sizes[i] = (uint32_t)smallest;
        while (smallest != largest) {
            unsigned bits = 3 + (unsigned)(bench_random() % 12);

            sizes[i] = (uint32_t)(((size_t)1 << bits) - bench_random() % ((size_t)1 << (bits - 1)));
            if (sizes[i] >= smallest && sizes[i] <= largest)
                break;
        }
    }
}

static void *
any_alloc(int quire, size_t bytes)
{
    return quire ? qr_kmalloc(heap, bytes, 0) : malloc(bytes);
}

static void
any_free(int quire, void *block)
{
    if (quire)
        qr_kfree(heap, block);
    else
        free(block);
}

static void
fill_live(int quire)
{
    for (size_t i = 0; i < LIVE; i++)
        held[i] = any_alloc(quire, sizes[i]);
    for (size_t i = 0; i < STEPS; i++) { /* once unseen: holes are where they will be */
        any_free(quire, held[slots[i]]);
        held[slots[i]] = any_alloc(quire, sizes[i]);
    }
}

/* Memory is there and magazines have grown. */
static void
warm_up(int quire)
{
    for (unsigned round = 0; round < 100; round++) {
        for (size_t i = 0; i < BATCH; i++)
            held[i] = any_alloc(quire, 64);
        for (size_t i = 0; i < BATCH; i++)
            any_free(quire, held[i]);
    }
}

static size_t
resident(void)
{
    unsigned long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");

    if (file == NULL || fscanf(file, "%*u %lu", &pages) != 1)
        exit(1);
    fclose(file);
    return pages * (size_t)sysconf(_SC_PAGESIZE);
}

/* What is resident for 10,000 live blocks after churn, over what was asked for. */
static void
row_memory(int quire)
{
    size_t before = resident();
    size_t asked = 0;
    static uint32_t live[LIVE];

    memset(live, 1, sizeof(live));
    for (size_t i = 0; i < STEPS; i++) {
        uint32_t slot = slots[i];

        any_free(quire, held[slot]);
        held[slot] = any_alloc(quire, sizes[i]);
        memset(held[slot], 1, sizes[i]);
        live[slot] = sizes[i];
    }
    for (size_t i = 0; i < LIVE; i++)
        asked += held[i] != NULL ? live[i] : 0;
    printf("RATIO %.3f\n", (double)(resident() - before) / (double)asked);
}

static void
boot(void)
{
    const struct qr_cache_config config = {.name = "bench", .object_bytes = 64};
    struct qr_frames *frames = bench_boot(BENCH_GIB, CPUS);

    heap = aligned_alloc(QR_CACHE_LINE, qr_heap_size(CPUS));
    memset(heap, 0, qr_heap_size(CPUS));
    if (qr_heap_init(heap, frames, CPUS) != QR_OK ||
        qr_cache_create(heap, &config, &cache) != QR_OK)
        exit(1);
}

static const struct row {
    const char *name;
    uint64_t (*run)(int quire);
    size_t smallest, largest; /* of random sizes */
} rows[] = {
    {"lifo", row_lifo, 64, 64},       {"lifo_any", row_lifo_any, 64, 64},
    {"cache", row_cache, 64, 64},     {"batch", row_batch, 64, 64},
    {"bulk", row_bulk, 64, 64},       {"cache_bulk", row_cache_bulk, 64, 64},
    {"random", row_random, 8, 16384}, {"random_small", row_random, 16, 512},
    {"pair", row_pair, 64, 64},
};

int
main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "";
    int quire = argc > 2 && strcmp(argv[2], "quire") == 0;
    unsigned repeats = argc > 3 ? (unsigned)atoi(argv[3]) : 1;
    uint64_t best = UINT64_MAX;
    uint64_t operations = 0;

    held = calloc(LIVE, sizeof(*held));
    slots = malloc(STEPS * sizeof(*slots));
    sizes = malloc(STEPS * sizeof(*sizes));
    memset(held, 0, LIVE * sizeof(*held));
    if (quire)
        boot();
    if (strcmp(name, "memory") == 0) {
        fill_sizes(8, 16384);
        row_memory(quire);
        return 0;
    }
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (strcmp(rows[i].name, name) != 0)
            continue;
        fill_sizes(rows[i].smallest, rows[i].largest);
        if (rows[i].run == row_random)
            fill_live(quire);
        else
            warm_up(quire);
        for (unsigned r = 0; r < repeats; r++) {
            uint64_t start = bench_now_ns();

            operations = rows[i].run(quire);
            uint64_t took = rows[i].run == row_pair ? pair_ns : bench_now_ns() - start;

            best = took < best ? took : best;
        }
    }
    if (operations == 0) {
        fprintf(stderr, "no such row: %s\n", name);
        return 1;
    }
    bench_operations(operations);
    printf("NANOSECONDS %llu\n", (unsigned long long)best);
    return 0;
}
