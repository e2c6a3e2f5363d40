/* SPDX-License-Identifier: MIT */
/*
 * What programs may ask of malloc, and what they rely on without asking: every call of the
 * interface, alignment, errno, hundreds of threads that come and go, blocks that travel between
 * threads, and forks while other threads allocate.  Runs with any malloc.
 */
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define MUST(condition)                                                     \
    do {                                                                    \
        if (!(condition)) {                                                 \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
            _exit(1);                                                       \
        }                                                                   \
    } while (0)

static unsigned scale = 1;

static uint64_t
next(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* ---- one call at a time ----------------------------------------------------- */

static volatile size_t huge = SIZE_MAX;

static void
interface(void)
{
    void *block = malloc(0);
    void *other = malloc(0);
    char *text;

    MUST(block != NULL && other != NULL && block != other);
    free(block);
    free(other);
    free(NULL);
    for (size_t bytes = 1; bytes < 300000; bytes += bytes / 3 + 1) {
        unsigned char *clear = calloc(1, bytes);

        block = malloc(bytes);
        MUST(block != NULL && (uintptr_t)block % 16 == 0 && malloc_usable_size(block) >= bytes);
        memset(block, 0xff, malloc_usable_size(block));
        free(block);
        MUST(clear != NULL);
        for (size_t i = 0; i < bytes; i++)
            MUST(clear[i] == 0);
        memset(clear, 0xff, bytes);
        free(clear);
    }
    errno = 0;
    MUST(malloc(huge) == NULL && errno == ENOMEM);
    errno = 0;
    MUST(calloc(huge / 2, 4) == NULL && errno == ENOMEM);
    errno = 0;
    MUST(reallocarray(NULL, huge / 2, 4) == NULL && errno == ENOMEM);
    errno = 7;
    free(malloc(100));
    MUST(errno == 7);
    text = realloc(NULL, 6);
    strcpy(text, "quire");
    for (size_t bytes = 6; bytes < 4000000; bytes *= 3) {
        text = realloc(text, bytes);
        MUST(text != NULL && strcmp(text, "quire") == 0);
    }
    MUST(realloc(text, huge) == NULL && strcmp(text, "quire") == 0);
    for (size_t bytes = 4000000; bytes > 6; bytes /= 3) {
        text = reallocarray(text, bytes, 1);
        MUST(text != NULL && strcmp(text, "quire") == 0);
    }
    free(text);
    MUST(malloc_usable_size(NULL) == 0);
}

static void
alignment(void)
{
    for (size_t align = sizeof(void *); align <= 4 << 20; align *= 2) {
        for (size_t bytes = 1; bytes < 70000; bytes = bytes * 5 + 3) {
            void *block[3] = {NULL};

            MUST(posix_memalign(&block[0], align, bytes) == 0);
            block[1] = aligned_alloc(align, bytes);
            block[2] = memalign(align, bytes);
            for (int i = 0; i < 3; i++) {
                MUST(block[i] != NULL && (uintptr_t)block[i] % align == 0);
                memset(block[i], i, bytes);
                free(block[i]);
            }
        }
    }
    void *block = &alignment;

    MUST(posix_memalign(&block, 24, 8) == EINVAL && block == &alignment);
    MUST(posix_memalign(&block, 2, 8) == EINVAL);
    MUST(posix_memalign(&block, 64, huge) == ENOMEM);
}

/* ---- threads ------------------------------------------------------------------ */

enum { MAIL = 512, HELD = 200 };

static unsigned char *_Atomic mail[MAIL];

static void
check_free(unsigned char *block)
{
    uint32_t bytes;

    if (block == NULL)
        return;
    memcpy(&bytes, block, sizeof(bytes));
    MUST(bytes >= 8 && bytes < 200000 && block[bytes - 1] == (unsigned char)bytes);
    free(block);
}

static unsigned char *
filled(uint32_t bytes)
{
    unsigned char *block = malloc(bytes);

    MUST(block != NULL);
    memset(block, (int)(unsigned char)bytes, bytes);
    memcpy(block, &bytes, sizeof(bytes));
    return block;
}

static void *
trader(void *argument)
{
    uint64_t random = (uintptr_t)argument * 2654435761u + 1;
    unsigned char *held[HELD] = {NULL};

    for (unsigned i = 0; i < 3000; i++) {
        uint64_t r = next(&random);
        unsigned slot = (unsigned)(r % HELD);
        uint32_t bytes = 8 + (uint32_t)(r >> 20) % (r % 50 == 0 ? 100000 : 900);

        check_free(held[slot]);
        held[slot] = filled(bytes);
        if (r % 3 == 0)
            held[slot] = atomic_exchange(&mail[(r >> 40) % MAIL], held[slot]);
    }
    for (unsigned i = 0; i < HELD; i++)
        check_free(held[i]);
    return NULL;
}

/* More threads at once than the heap has CPUs, again and again. */
static void
many_threads(void)
{
    enum { THREADS = 150 };
    pthread_t thread[THREADS];

    for (unsigned round = 0; round < 2 + scale / 10; round++) {
        for (uintptr_t i = 0; i < THREADS; i++)
            MUST(pthread_create(&thread[i], NULL, trader, (void *)(i + round * THREADS)) == 0);
        for (unsigned i = 0; i < THREADS; i++)
            MUST(pthread_join(thread[i], NULL) == 0);
    }
    for (unsigned i = 0; i < MAIL; i++)
        check_free(atomic_exchange(&mail[i], NULL));
}

/* ---- fork ---------------------------------------------------------------------- */

static _Atomic int stop;

static void *
busy(void *argument)
{
    uint64_t random = (uintptr_t)argument + 99;
    unsigned char *held[64] = {NULL};

    while (!stop) {
        unsigned slot = (unsigned)(next(&random) % 64);

        check_free(held[slot]);
        held[slot] = filled(8 + (uint32_t)(next(&random) % 60000));
    }
    for (unsigned i = 0; i < 64; i++)
        check_free(held[i]);
    return NULL;
}

/* The child allocates of every size, starts threads, and forks again. */
static int
child(int depth)
{
    pthread_t thread;

    for (uint32_t bytes = 8; bytes < 100000; bytes += bytes / 4)
        check_free(filled(bytes));
    MUST(pthread_create(&thread, NULL, trader, (void *)7) == 0);
    MUST(pthread_join(thread, NULL) == 0);
    if (depth > 0) {
        int status;
        pid_t pid = fork();

        if (pid == 0)
            _exit(child(depth - 1));
        MUST(waitpid(pid, &status, 0) == pid && status == 0);
    }
    return 0;
}

static void
forks(void)
{
    pthread_t thread[6];

    for (uintptr_t i = 0; i < 6; i++)
        MUST(pthread_create(&thread[i], NULL, busy, (void *)i) == 0);
    for (unsigned i = 0; i < 30 * scale; i++) {
        int status;
        pid_t pid = fork();

        MUST(pid >= 0);
        if (pid == 0)
            _exit(child(i % 8 == 0));
        MUST(waitpid(pid, &status, 0) == pid && status == 0);
    }
    stop = 1;
    for (unsigned i = 0; i < 6; i++)
        MUST(pthread_join(thread[i], NULL) == 0);
}

int
main(int argc, char **argv)
{
    if (argc > 1)
        scale = (unsigned)atoi(argv[1]);
    interface();
    alignment();
    many_threads();
    forks();
    (void)malloc_trim(0);
    puts("every call, threads and forks: fine");
    return 0;
}
