/* SPDX-License-Identifier: MIT */
/*
 * The heap's hot paths, one row a run:  heap ROW ALLOCATOR
 *
 * ALLOCATOR is `quire` or `libc`; the latter is glibc's malloc or whichever other is
 * preloaded.  bench/frames-heap runs every row under callgrind and prints the table.
 */
#include "frames_machine.h"

#include <quire/heap.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct qr_heap *heap;
static void **held;

enum { LIVE = 10000, BATCH = 1000 };

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

/* Each loop once for each side, so that neither pays for an indirect call. */
#define LOOPS(prefix, ALLOC, FREE)                                                          \
    MEASURED(prefix##_lifo)(size_t count)                                                   \
    {                                                                                       \
        _Pragma("GCC unroll 8") for (size_t i = 0; i < count; i++)                          \
        {                                                                                   \
            void *block = ALLOC(64);                                                        \
            __asm__ volatile("" : : "r"(block) : "memory");                                 \
            FREE(block);                                                                    \
        }                                                                                   \
    }                                                                                       \
    MEASURED(prefix##_batch)(size_t rounds)                                                 \
    {                                                                                       \
        for (size_t r = 0; r < rounds; r++) {                                               \
            _Pragma("GCC unroll 8") for (size_t i = 0; i < BATCH; i++) held[i] = ALLOC(64); \
            _Pragma("GCC unroll 8") for (size_t i = 0; i < BATCH; i++) FREE(held[i]);       \
        }                                                                                   \
    }                                                                                       \
    MEASURED(prefix##_random)(size_t count, const uint32_t *slots, const uint32_t *sizes)   \
    {                                                                                       \
        for (size_t i = 0; i < count; i++) {                                                \
            FREE(held[slots[i]]);                                                           \
            held[slots[i]] = ALLOC(sizes[i]);                                               \
        }                                                                                   \
    }

#define QUIRE_ALLOC(bytes) qr_kmalloc(heap, (bytes), 0)
#define QUIRE_FREE(block)  qr_kfree(heap, (block))
LOOPS(quire, QUIRE_ALLOC, QUIRE_FREE)
LOOPS(libc, malloc, free)

MEASURED(remote_alloc)(size_t count)
{
    for (size_t i = 0; i < count; i++)
        held[i] = qr_kmalloc(heap, 64, 0);
}

MEASURED(remote_free)(size_t count)
{
    for (size_t i = 0; i < count; i++)
        qr_kfree(heap, held[i]);
}

static void
row_random(int quire, size_t smallest, size_t largest)
{
    enum { STEPS = 200000 };
    uint32_t *slots = malloc(STEPS * sizeof(*slots));
    uint32_t *sizes = malloc(STEPS * sizeof(*sizes));

    for (size_t i = 0; i < STEPS; i++) {
        slots[i] = (uint32_t)(bench_random() % LIVE);
        /* Every power of two equally often, as real programs ask. */
        do {
            unsigned bits = 3 + (unsigned)(bench_random() % 12);

            sizes[i] = (uint32_t)(((size_t)1 << bits) - bench_random() % ((size_t)1 << (bits - 1)));
        } while (sizes[i] < smallest || sizes[i] > largest);
    }
    for (size_t i = 0; i < LIVE; i++)
        held[i] = any_alloc(quire, sizes[i]);
    for (size_t i = 0; i < STEPS / 2; i++) {
        any_free(quire, held[slots[i]]);
        held[slots[i]] = any_alloc(quire, sizes[i]);
    }
    if (quire)
        measured_quire_random(STEPS / 2, slots + STEPS / 2, sizes + STEPS / 2);
    else
        measured_libc_random(STEPS / 2, slots + STEPS / 2, sizes + STEPS / 2);
    bench_operations(STEPS);
}

/* One CPU allocates, another frees. */
static void
row_remote(void)
{
    enum { COUNT = 1000, ROUNDS = 200 };

    for (unsigned r = 0; r < ROUNDS; r++) {
        bench_enter(0);
        measured_remote_alloc(COUNT);
        bench_enter(1);
        measured_remote_free(COUNT);
    }
    bench_operations((uint64_t)2 * COUNT * ROUNDS);
}

int
main(int argc, char **argv)
{
    const char *row = argc > 1 ? argv[1] : "";
    int quire = argc > 2 && strcmp(argv[2], "quire") == 0;

    held = calloc(1 << 20, sizeof(*held));
    if (quire) {
        struct qr_frames *frames = bench_boot(BENCH_GIB, 2);

        heap = aligned_alloc(QR_CACHE_LINE, qr_heap_size(2));
        memset(heap, 0, qr_heap_size(2));
        if (qr_heap_init(heap, frames, 2) != QR_OK)
            return 1;
    }
    if (strcmp(row, "lifo") == 0) {
        any_free(quire, any_alloc(quire, 64));
        quire ? measured_quire_lifo(100000) : measured_libc_lifo(100000);
        bench_operations(200000);
    } else if (strcmp(row, "batch") == 0) {
        for (unsigned i = 0; i < BATCH; i++)
            held[i] = any_alloc(quire, 64);
        for (unsigned i = 0; i < BATCH; i++)
            any_free(quire, held[i]);
        quire ? measured_quire_batch(100) : measured_libc_batch(100);
        bench_operations(100 * BATCH * 2);
    } else if (strcmp(row, "random") == 0) {
        row_random(quire, 8, 16384);
    } else if (strcmp(row, "random_small") == 0) {
        row_random(quire, 16, 512);
    } else if (strcmp(row, "remote") == 0 && quire) {
        row_remote();
    } else {
        fprintf(stderr, "no such row: %s\n", row);
        return 1;
    }
    return 0;
}
