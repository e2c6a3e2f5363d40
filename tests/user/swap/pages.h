/* SPDX-License-Identifier: MIT */
#ifndef TESTS_USER_SWAP_PAGES_H
#define TESTS_USER_SWAP_PAGES_H

/* Pages whose every word says which one it is, and how often it was written. */

#include <stdbool.h>
#include <stdint.h>

#include "../check.h"

static size_t page;

/* What word @i of page @number holds after @round changes. */
static inline uint64_t
value(size_t number, size_t i, unsigned round)
{
    return (number * 0x9e3779b97f4a7c15ull) ^ (i << 20) ^ round;
}

static inline void
fill(char *memory, size_t number, unsigned round)
{
    uint64_t *words = (uint64_t *)(memory + number * page);

    for (size_t i = 0; i < page / sizeof(*words); i++)
        words[i] = value(number, i, round);
}

static inline bool
holds(const char *memory, size_t number, unsigned round)
{
    const uint64_t *words = (const uint64_t *)(memory + number * page);

    for (size_t i = 0; i < page / sizeof(*words); i++) {
        if (words[i] != value(number, i, round))
            return false;
    }
    return true;
}

static inline size_t
wrong(const char *memory, size_t pages, unsigned round)
{
    size_t count = 0;

    for (size_t number = 0; number < pages; number++)
        count += !holds(memory, number, round);
    return count;
}

/* Its word of /proc/self/pagemap. */
static inline uint64_t
pagemap_of(const void *address)
{
    int fd = open("/proc/self/pagemap", O_RDONLY);
    uint64_t word = 0;

    CHECK_EQ(pread(fd, &word, sizeof(word), (off_t)((uintptr_t)address / page * sizeof(word))),
             sizeof(word));
    close(fd);
    return word;
}

#endif
