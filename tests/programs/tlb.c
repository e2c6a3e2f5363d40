/* SPDX-License-Identifier: MIT */
/*
 * No CPU uses a translation that is gone: threads write without pause while the
 * main thread takes rights and pages away.  When the call has returned, not one
 * more write may land.  (QEMU keeps stale entries until they are flushed.)
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE    4096
#define WRITERS 3

static _Atomic(volatile uint64_t *) target;
static atomic_bool open_to_writers, stop;
static atomic_ulong faults, writes;

/* The page went away under a writer: wait until there is one again, and try once more. */
static void
on_segv(int number)
{
    (void)number;
    faults++;
    while (!open_to_writers && !stop)
        sched_yield();
    if (stop)
        pthread_exit(NULL);
}

static void *
writer(void *argument)
{
    unsigned index = (unsigned)(uintptr_t)argument;

    while (!stop) {
        volatile uint64_t *at = target;

        if (at != NULL) {
            at[index]++;
            writes++;
        }
    }
    return NULL;
}

static void
pause_a_little(unsigned long writes_to_wait_for)
{
    unsigned long start = writes;

    for (int i = 0; i < 1000 && writes - start < writes_to_wait_for; i++)
        sched_yield();
}

/* Whether the words of @page stay what they are for a while. */
static int
changes(const volatile uint64_t *page)
{
    uint64_t before[WRITERS];

    for (int i = 0; i < WRITERS; i++)
        before[i] = page[i];
    for (volatile int i = 0; i < 3000; i++)
        ;
    for (int i = 0; i < WRITERS; i++) {
        if (page[i] != before[i])
            return 1;
    }
    return 0;
}

static uint64_t *
fresh(void *at)
{
    uint64_t *page = mmap(at, PAGE, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | (at ? MAP_FIXED : 0), -1, 0);

    if (page == MAP_FAILED) {
        perror("mmap");
        exit(1);
    }
    return page;
}

static int
after_mprotect(uint64_t *page)
{
    int bad;

    open_to_writers = 0;
    mprotect(page, PAGE, PROT_READ);
    bad = changes(page);
    mprotect(page, PAGE, PROT_READ | PROT_WRITE);
    open_to_writers = 1;
    return bad;
}

/* The frame comes back to us soon as another page: it must stay zero. */
static int
after_munmap(uint64_t *page)
{
    static char *elsewhere;
    int bad = 0;

    if (elsewhere == NULL)
        elsewhere = mmap(NULL, 4 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    open_to_writers = 0;
    munmap(page, PAGE);
    for (int i = 0; i < 4; i++)
        fresh(elsewhere + i * PAGE)[PAGE / 8 - 1] = 1;
    for (volatile int i = 0; i < 3000; i++)
        ;
    for (int i = 0; i < 4; i++) {
        uint64_t *other = (uint64_t *)(elsewhere + i * PAGE);

        bad |= other[0] != 0 || other[1] != 0 || other[2] != 0;
        mprotect(other, PAGE, PROT_NONE);
    }
    fresh(page);
    open_to_writers = 1;
    return bad;
}

static int
after_mremap(uint64_t *page)
{
    uint64_t *elsewhere = fresh(NULL);
    int bad;

    open_to_writers = 0;
    if (mremap(page, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, elsewhere) != elsewhere)
        return 1;
    bad = changes(elsewhere);
    fresh(page);
    open_to_writers = 1;
    munmap(elsewhere, PAGE);
    return bad;
}

/* The child's copy is of one moment. */
static int
after_fork(uint64_t *page)
{
    int status;
    pid_t pid = fork();

    if (pid == 0)
        _exit(changes(page));
    waitpid(pid, &status, 0);
    return status != 0;
}

/* Writers go on throughout: what they write after the call is in the new page. */
static int
after_dontneed(uint64_t *page)
{
    madvise(page, PAGE, MADV_DONTNEED);
    return 0;
}

static const struct {
    const char *name;
    int (*run)(uint64_t *page);
    int rounds;
} rows[] = {
    {"mprotect", after_mprotect, 60}, {"munmap", after_munmap, 30},    {"mremap", after_mremap, 30},
    {"fork", after_fork, 15},         {"madvise", after_dontneed, 60},
};

int
main(void)
{
    pthread_t threads[WRITERS];
    uint64_t *page = fresh(NULL);
    int wrong = 0;

    signal(SIGSEGV, on_segv);
    target = page;
    open_to_writers = 1;
    for (uintptr_t i = 0; i < WRITERS; i++)
        pthread_create(&threads[i], NULL, writer, (void *)i);
    for (size_t row = 0; row < sizeof rows / sizeof rows[0]; row++) {
        int bad = 0;

        for (int round = 0; round < rows[row].rounds; round++) {
            pause_a_little(20);
            bad += rows[row].run(page);
        }
        if (bad)
            printf("%s: %d of %d times a write came late\n", rows[row].name, bad, rows[row].rounds);
        wrong += bad;
    }
    stop = 1;
    for (int i = 0; i < WRITERS; i++)
        pthread_join(threads[i], NULL);
    printf("tlb: %d late writes, writers faulted: %s\n", wrong, faults > 0 ? "yes" : "no");
    return wrong != 0;
}
