/* SPDX-License-Identifier: MIT */
/*
 * fragtest: how well memory holds together under stress.
 *
 * Frames: processes map and unmap pieces of many sizes in random order, then
 * half of what lives is freed.  The number is the share of free memory that
 * lies in blocks smaller than 2 MiB (from /proc/buddyinfo) while the other half is
 * still held, and again when everything is free.
 *
 * Kernel heap: files and memory objects are opened and closed at random, so that
 * kernel objects come and go all over the slabs.  The number is the share of slab
 * memory that holds no live object (from /proc/slabinfo) while about half are open.
 *
 * Exits 1 where the heap's number passes 10 %.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#define PIECES     2000
#define FILES      32000
#define HEAP_LIMIT 10.0

static uint64_t random_state = 0x2545f4914f6cdd1dull;

static uint64_t
next_random(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

/* Percent of free memory in blocks below order 9; -1 where buddyinfo cannot be read. */
static double
frame_fragmentation(void)
{
    char line[512];
    unsigned long small = 0, all = 0;
    FILE *file = fopen("/proc/buddyinfo", "r");

    if (file == NULL)
        return -1;
    while (fgets(line, sizeof(line), file) != NULL) {
        char *at = strstr(line, "zone");
        char name[32];
        int used;

        if (at == NULL || sscanf(at, "zone %31s%n", name, &used) != 1)
            continue;
        at += used;
        for (unsigned order = 0; order < 11; order++) {
            unsigned long pages = strtoul(at, &at, 10) << order;

            all += pages;
            small += order < 9 ? pages : 0;
        }
    }
    fclose(file);
    return all == 0 ? -1 : 100.0 * (double)small / (double)all;
}

/* Percent of slab memory without a live object; -1 where slabinfo cannot be read. */
static double
heap_fragmentation(double *out_megabytes)
{
    char line[512];
    double live = 0, held = 0;
    FILE *file = fopen("/proc/slabinfo", "r");

    if (file == NULL)
        return -1;
    while (fgets(line, sizeof(line), file) != NULL) {
        char name[64];
        unsigned long active, total, bytes;

        if (sscanf(line, "%63s %lu %lu %lu", name, &active, &total, &bytes) != 4)
            continue;
        live += (double)active * (double)bytes;
        held += (double)total * (double)bytes;
    }
    fclose(file);
    *out_megabytes = held / (1024 * 1024);
    return held == 0 ? -1 : 100.0 * (held - live) / held;
}

static char *pieces[PIECES];
static size_t piece_bytes[PIECES];

static void
free_piece(size_t i)
{
    if (pieces[i] != NULL)
        munmap(pieces[i], piece_bytes[i]);
    pieces[i] = NULL;
}

static void
stress_frames(void)
{
    for (int i = 0; i < 20000; i++) {
        size_t at = next_random() % PIECES;

        free_piece(at);
        piece_bytes[at] = (next_random() % 8 + 1) * 4096;
        char *piece = mmap(NULL, piece_bytes[at], PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

        pieces[at] = piece == MAP_FAILED ? NULL : piece;
    }
    for (size_t i = 0; i < PIECES; i++) {
        if (next_random() & 1)
            free_piece(i);
    }
}

/* Have the kernel return slabs that hold nothing at all: those are not fragmentation. */
static void
give_back_idle(void)
{
    int file = open("/proc/sys/vm/drop_caches", O_WRONLY);

    if (file < 0)
        return;
    if (write(file, "2\n", 2) != 2)
        perror("drop_caches");
    close(file);
}

static int descriptors[FILES];

/* Open what is closed and close what is open, at random: about half are open at any time. */
static void
stress_heap(void)
{
    struct rlimit limit = {FILES + 64, FILES + 64};

    (void)setrlimit(RLIMIT_NOFILE, &limit);
    for (size_t i = 0; i < FILES; i++)
        descriptors[i] = -1;
    for (int i = 0; i < 5 * FILES; i++) {
        size_t at = next_random() % FILES;

        if (descriptors[at] < 0) {
            descriptors[at] = i & 1 ? open("/dev/null", O_RDWR) : memfd_create("fragtest", 0);
        } else {
            close(descriptors[at]);
            descriptors[at] = -1;
        }
    }
}

int
main(void)
{
    double megabytes;
    double before = frame_fragmentation();

    stress_frames();
    double held = frame_fragmentation();

    for (size_t i = 0; i < PIECES; i++)
        free_piece(i);
    printf("fragtest: frames: %.1f %% of free memory in blocks below 2 MiB before, %.1f %% with "
           "half of the stress held, %.1f %% after\n",
           before, held, frame_fragmentation());

    give_back_idle();
    stress_heap();
    give_back_idle();
    double heap = heap_fragmentation(&megabytes);

    for (size_t i = 0; i < FILES; i++) {
        if (descriptors[i] >= 0)
            close(descriptors[i]);
    }
    printf("fragtest: heap: %.1f %% of %.2f MiB of slabs without a live object after the stress "
           "(limit %.0f %%)\n",
           heap, megabytes, HEAP_LIMIT);
    return heap < 0 || heap > HEAP_LIMIT;
}
