/* SPDX-License-Identifier: MIT */
/*
 * Real threads, each a CPU: objects travel between them, magazines are drained by others,
 * and caches come and go.
 */
#include "harness.h"
#include "tests/unit/frame/test_port.h"

#include "heap/heap.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { THREADS = 4, MAILBOXES = 128, HELD = 400 };

struct stress {
    struct machine *machine;
    struct qr_heap *heap;
    unsigned char *_Atomic mail[MAILBOXES];
    _Atomic unsigned wrong;
    unsigned steps;
};

struct worker {
    struct stress *stress;
    unsigned cpu;
    uint64_t random;
    unsigned char *held[HELD];
    unsigned count;
};

/* The first four bytes of a block hold its size, the rest the low byte of it. */
static void
block_fill(unsigned char *block, uint32_t bytes)
{
    memset(block, (int)(bytes & 0xff), bytes);
    memcpy(block, &bytes, sizeof(bytes));
}

static void
block_free(struct worker *worker, unsigned char *block)
{
    uint32_t bytes;

    memcpy(&bytes, block, sizeof(bytes));
    if (bytes > 40000 || block[bytes - 1] != (bytes > 4 ? (bytes & 0xff) : block[bytes - 1]))
        atomic_fetch_add(&worker->stress->wrong, 1);
    qr_kfree(worker->stress->heap, block);
}

static void
worker_step(struct worker *worker)
{
    struct stress *stress = worker->stress;
    uint64_t random = test_random(&worker->random);

    if (worker->count < HELD && (worker->count == 0 || random % 100 < 52)) {
        uint32_t bytes = 4 + (uint32_t)(random >> 8) % (random % 64 == 0 ? 30000 : 600);
        unsigned char *block = qr_kmalloc(stress->heap, bytes, QR_ALLOC_NO_REPORT);

        if (block == NULL)
            return;
        block_fill(block, bytes);
        worker->held[worker->count++] = block;
        return;
    }
    unsigned at = (unsigned)(random >> 8) % worker->count;
    unsigned char *block = worker->held[at];

    worker->held[at] = worker->held[--worker->count];
    if (random % 3 == 0)
        block = atomic_exchange(&stress->mail[(random >> 40) % MAILBOXES], block);
    if (block != NULL)
        block_free(worker, block);
}

static void
cache_once(struct worker *worker)
{
    struct qr_cache *cache = NULL;
    struct qr_cache_config config = {.name = "short-lived", .object_bytes = 24 + worker->cpu * 8};
    void *objects[100];
    unsigned got = 0;

    if (qr_cache_create(worker->stress->heap, &config, &cache) != QR_OK)
        return;
    while (got < 100 && (objects[got] = qr_cache_alloc(cache, QR_ALLOC_NO_REPORT)) != NULL)
        got++;
    while (got > 0)
        qr_cache_free(cache, objects[--got]);
    if (qr_cache_destroy(cache) != 0)
        atomic_fetch_add(&worker->stress->wrong, 1);
}

static void *
worker_run(void *argument)
{
    struct worker *worker = argument;
    struct stress *stress = worker->stress;
    struct qr_cache_stats stats;

    machine_enter(stress->machine, worker->cpu);
    for (unsigned i = 0; i < stress->steps; i++) {
        worker_step(worker);
        if (i % 4000 == worker->cpu * 900)
            (void)qr_cache_reap(worker->cpu % 2 == 0 ? stress->heap->classes + 3
                                                     : stress->heap->classes + 5);
        if (i % 2000 == 0)
            cache_once(worker);
        if (i % 3000 == 0)
            (void)qr_heap_cache_stats(stress->heap, i % 12, &stats);
    }
    while (worker->count > 0)
        block_free(worker, worker->held[--worker->count]);
    return NULL;
}

static void
stress_run(uint64_t bytes, unsigned steps)
{
    struct stress stress = {.steps = steps};
    struct worker *workers = calloc(THREADS, sizeof(*workers));
    pthread_t threads[THREADS];
    char message[200] = "";

    stress.machine =
        machine_boot((struct machine_options){.start = 4 * MIB, .bytes = bytes, .cpus = THREADS});
    stress.heap = aligned_alloc(QR_CACHE_LINE, qr_heap_size(THREADS));
    memset(stress.heap, 0, qr_heap_size(THREADS));
    ASSERT_EQ(qr_heap_init(stress.heap, stress.machine->frames, THREADS), QR_OK);
    size_t free_at_start = machine_free_frames(stress.machine);

    for (unsigned i = 0; i < THREADS; i++) {
        workers[i] = (struct worker){.stress = &stress, .cpu = i, .random = test_seed() + i};
        ASSERT_EQ(pthread_create(&threads[i], NULL, worker_run, &workers[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++)
        ASSERT_EQ(pthread_join(threads[i], NULL), 0);
    for (unsigned i = 0; i < MAILBOXES; i++) {
        if (stress.mail[i] != NULL)
            block_free(&workers[0], stress.mail[i]);
    }
    EXPECT_EQ(atomic_load(&stress.wrong), 0);
    if (!qr_heap_validate(stress.heap, message, sizeof(message)))
        EXPECT_STR(message, "");
    EXPECT_EQ(qr_heap_fini(stress.heap), 0);
    EXPECT_EQ(machine_free_frames(stress.machine), free_at_start);
    VALIDATE(stress.machine);
    free(workers);
    free(stress.heap);
    machine_shutdown(stress.machine);
}

#if defined(CONFIG_MEMORY_DEBUGGING) || defined(__SANITIZE_THREAD__)
enum { STEPS = 15000 };
#else
enum { STEPS = 200000 };
#endif

TEST_THREADS(heap_stress, plenty_of_memory)
{
    stress_run(128 * MIB, STEPS);
}

TEST_THREADS(heap_stress, memory_is_short)
{
    stress_run(2 * MIB, STEPS);
}
