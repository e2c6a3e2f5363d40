/* SPDX-License-Identifier: MIT */
/*
 * A large random-access workload on pages of one kind, on Quire or on Linux:
 *
 *     hugepage small|thp|hugetlb MIB ACCESSES
 *
 * builds a hash table's worth of memory by writing each page once, and then adds to words
 * all over it.  Two lines: `ROW <phase> <ticks> <nanoseconds>`; under `-icount shift=0` a tick is an
 * instruction.  Exit status 3: there are no such pages here.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define MIB ((size_t)1 << 20)

static uint64_t
ticks(void)
{
#if defined(__x86_64__) || defined(__i386__)
    uint32_t low, high;

    __asm__ volatile("lfence; rdtsc" : "=a"(low), "=d"(high)::"memory");
    return (uint64_t)high << 32 | low;
#elif defined(__aarch64__)
    uint64_t count, frequency;

    __asm__ volatile("isb; mrs %0, cntvct_el0; mrs %1, cntfrq_el0"
                     : "=r"(count), "=r"(frequency)::"memory");
    return count * (1000000000 / frequency);
#else
    uint64_t count;

    __asm__ volatile("fence; rdinstret %0" : "=r"(count)::"memory");
    return count;
#endif
}

static uint64_t
nanoseconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static long
field(const char *path, const char *name)
{
    char line[256];
    FILE *file = fopen(path, "r");
    long value = 0;

    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        if (strncmp(line, name, strlen(name)) == 0)
            value += atol(line + strlen(name));
    }
    if (file != NULL)
        fclose(file);
    return value;
}

static void
put(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY);

    if (fd >= 0 && write(fd, text, strlen(text)) < 0)
        perror(path);
    if (fd >= 0)
        close(fd);
}

static char *
array_map(const char *kind, size_t bytes)
{
    int flags = MAP_PRIVATE | MAP_ANONYMOUS;
    char text[32];

    if (strcmp(kind, "hugetlb") == 0) {
        size_t page = (size_t)field("/proc/meminfo", "Hugepagesize:") << 10;

        if (page == 0)
            exit(3);
        snprintf(text, sizeof(text), "%zu", bytes / page);
        put("/proc/sys/vm/nr_hugepages", text);
        flags |= MAP_HUGETLB;
    } else {
        put("/sys/kernel/mm/transparent_hugepage/enabled",
            strcmp(kind, "thp") == 0 ? "madvise" : "never");
    }
    char *at = mmap(NULL, bytes + 64 * MIB, PROT_READ | PROT_WRITE, flags & ~MAP_HUGETLB, -1, 0);

    if (at == MAP_FAILED)
        exit(1);
    at = (char *)(((uintptr_t)at + 64 * MIB - 1) & ~(64 * MIB - 1));
    if ((flags & MAP_HUGETLB) &&
        mmap(at, bytes, PROT_READ | PROT_WRITE, flags | MAP_FIXED, -1, 0) == MAP_FAILED)
        exit(3);
    if (strcmp(kind, "thp") == 0)
        (void)madvise(at, bytes, MADV_HUGEPAGE);
    return at;
}

static void
row(const char *phase, uint64_t from_ticks, uint64_t from_ns)
{
    uint64_t t = ticks() - from_ticks, ns = nanoseconds() - from_ns;

    printf("ROW %s %llu %llu\n", phase, (unsigned long long)t, (unsigned long long)ns);
    fflush(stdout);
}

int
main(int argc, char **argv)
{
    const char *kind = argc > 1 ? argv[1] : "small";
    size_t bytes = (argc > 2 ? (size_t)atol(argv[2]) : 256) * MIB;
    unsigned long accesses = argc > 3 ? strtoul(argv[3], NULL, 0) : 1000000;
    char *at = array_map(kind, bytes);
    uint64_t state = 1, t = ticks(), ns = nanoseconds();

    for (size_t i = 0; i < bytes; i += 4096)
        at[i] = 1;
    row("build", t, ns);
    if (strcmp(kind, "thp") == 0 &&
        (size_t)field("/proc/self/smaps", "AnonHugePages:") < (bytes >> 10) / 2)
        return 3;
    t = ticks();
    ns = nanoseconds();
    for (unsigned long i = 0; i < accesses; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        *(volatile uint64_t *)(at + (state >> 20) % bytes / 8 * 8) += 1;
    }
    row("random", t, ns);
    return 0;
}
