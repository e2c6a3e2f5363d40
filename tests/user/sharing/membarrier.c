/* SPDX-License-Identifier: MIT */
/*
 * membarrier: what must be registered for, what is refused, and that a barrier here orders the
 * memory accesses of a thread that has none (Dekker's algorithm, with one side's barrier only).
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "../check.h"

enum {
    QUERY = 0,
    GLOBAL = 1,
    GLOBAL_EXPEDITED = 2,
    REGISTER_GLOBAL_EXPEDITED = 4,
    PRIVATE = 8,
    REGISTER_PRIVATE = 16,
    SYNC_CORE = 32,
    REGISTER_SYNC_CORE = 64,
    RSEQ = 128,
    REGISTER_RSEQ = 256,
};

static long
membarrier(int command, unsigned flags, int cpu)
{
    return syscall(SYS_membarrier, command, flags, cpu);
}

static void
test_errors(void)
{
    CHECK_ERRNO(membarrier(PRIVATE, 0, 0), EPERM);
    CHECK_ERRNO(membarrier(SYNC_CORE, 0, 0), EPERM);
    CHECK_ERRNO(membarrier(RSEQ, 0, 0), EPERM);
    CHECK_ERRNO(membarrier(RSEQ, 1, 0), EPERM);
    CHECK_ERRNO(membarrier(QUERY, 1, 0), EINVAL);
    CHECK_ERRNO(membarrier(PRIVATE, 1, 0), EINVAL);
    CHECK_ERRNO(membarrier(RSEQ, 2, 0), EINVAL);
    CHECK_ERRNO(membarrier(3, 0, 0), EINVAL);
    CHECK_ERRNO(membarrier(1 << 20, 0, 0), EINVAL);
    CHECK_ERRNO(membarrier(-1, 0, 0), EINVAL);
}

static void
test_commands(void)
{
    long known = membarrier(QUERY, 0, 0);

    CHECK_EQ(known & 511, 511);
    CHECK_EQ(membarrier(GLOBAL, 0, 0), 0);
    CHECK_EQ(membarrier(GLOBAL_EXPEDITED, 0, 0), 0); /* the sender needs no registration */
    CHECK_EQ(membarrier(REGISTER_GLOBAL_EXPEDITED, 0, 0), 0);
    CHECK_EQ(membarrier(REGISTER_PRIVATE, 0, 0), 0);
    CHECK_EQ(membarrier(PRIVATE, 0, 0), 0);
    CHECK_ERRNO(membarrier(SYNC_CORE, 0, 0), EPERM);
    CHECK_EQ(membarrier(REGISTER_SYNC_CORE, 0, 0), 0);
    CHECK_EQ(membarrier(SYNC_CORE, 0, 0), 0);
    CHECK_EQ(membarrier(REGISTER_RSEQ, 0, 0), 0);
    CHECK_EQ(membarrier(RSEQ, 0, 0), 0);
    CHECK_EQ(membarrier(RSEQ, 1, 0), 0);
    CHECK_EQ(membarrier(RSEQ, 1, 100000), 0); /* no such CPU */
    if (known & 512)                          /* Linux 6.3 */
        CHECK_EQ(membarrier(512, 0, 0),
                 REGISTER_GLOBAL_EXPEDITED | REGISTER_PRIVATE | REGISTER_SYNC_CORE | REGISTER_RSEQ);
    pid_t child = fork();
    int status = -1;
    if (child == 0)
        _exit(membarrier(PRIVATE, 0, 0) == 0 ? 0 : 1); /* a copy keeps what was registered */
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
}

enum { ROUNDS = 3000 };

static atomic_int slow_wants, fast_wants, inside, broken;
static atomic_int done;

/* Only the compiler is kept from reordering here. */
static void *
fast_side(void *unused)
{
    (void)unused;
    while (!atomic_load_explicit(&done, memory_order_relaxed)) {
        atomic_store_explicit(&fast_wants, 1, memory_order_relaxed);
        atomic_signal_fence(memory_order_seq_cst);
        if (!atomic_load_explicit(&slow_wants, memory_order_relaxed)) {
            if (atomic_fetch_add(&inside, 1) != 0)
                atomic_store(&broken, 1);
            atomic_fetch_sub(&inside, 1);
        }
        atomic_store_explicit(&fast_wants, 0, memory_order_release);
    }
    return NULL;
}

static void
test_order(void)
{
    pthread_t thread;

    CHECK_EQ(pthread_create(&thread, NULL, fast_side, NULL), 0);
    for (int i = 0; i < ROUNDS; i++) {
        atomic_store_explicit(&slow_wants, 1, memory_order_relaxed);
        if (membarrier(PRIVATE, 0, 0) != 0)
            atomic_store(&broken, 2);
        if (!atomic_load_explicit(&fast_wants, memory_order_relaxed)) {
            if (atomic_fetch_add(&inside, 1) != 0)
                atomic_store(&broken, 1);
            atomic_fetch_sub(&inside, 1);
        }
        atomic_store_explicit(&slow_wants, 0, memory_order_release);
    }
    atomic_store(&done, 1);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(atomic_load(&broken), 0);
}

int
main(void)
{
    test_errors();
    test_commands();
    test_order();
    return check_done("membarrier");
}
