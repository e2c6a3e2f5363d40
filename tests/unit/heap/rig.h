/* SPDX-License-Identifier: MIT */
/* A machine with a heap on it, for the tests of this directory. */
#ifndef HEAP_RIG_H
#define HEAP_RIG_H

#include "harness.h"
#include "tests/unit/frame/test_port.h"

#include <quire/heap.h>

#include <stdlib.h>
#include <string.h>

struct bench {
    struct machine *machine;
    struct qr_heap *heap;
    size_t free_at_start;
};

static inline struct bench
heap_boot(uint64_t bytes, unsigned cpus)
{
    struct bench bench;

    bench.machine =
        machine_boot((struct machine_options){.start = 8 * MIB, .bytes = bytes, .cpus = cpus});
    bench.heap = aligned_alloc(QR_CACHE_LINE, qr_heap_size(cpus));
    memset(bench.heap, 0, qr_heap_size(cpus));
    ASSERT_EQ(qr_heap_init(bench.heap, bench.machine->frames, cpus), QR_OK);
    bench.free_at_start = machine_free_frames(bench.machine);
    return bench;
}

static inline void
heap_check(struct bench *bench)
{
    char message[200] = "";

    if (!qr_heap_validate(bench->heap, message, sizeof(message)))
        EXPECT_STR(message, "");
    VALIDATE(bench->machine);
}

/* Shut down; @leaked objects are expected to be left. */
static inline void
heap_shutdown(struct bench *bench, size_t leaked)
{
    heap_check(bench);
    EXPECT_EQ(qr_heap_fini(bench->heap), leaked);
    heap_check(bench);
    if (leaked == 0)
        EXPECT_EQ(machine_free_frames(bench->machine), bench->free_at_start);
    free(bench->heap);
    machine_shutdown(bench->machine);
}

/* By the misuse tests' child processes. */
extern struct bench death;
extern char *victim;

static inline void
death_setup(size_t bytes)
{
    death = heap_boot(16 * MIB, 2);
    victim = qr_kmalloc(death.heap, bytes, 0);
}

/* A test whose body, run on @victim of @bytes bytes, must stop with @words. */
#define MISUSE(test_name, bytes, words)            \
    static void misuse_##test_name(void);          \
    TEST(heap_misuse, test_name)                   \
    {                                              \
        death_setup(bytes);                        \
        EXPECT_PANIC(misuse_##test_name(), words); \
        free(death.heap);                          \
        machine_shutdown(death.machine);           \
    }                                              \
    static void misuse_##test_name(void)

#endif
