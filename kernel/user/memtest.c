/* SPDX-License-Identifier: MIT */
/*
 * memtest [MEGABYTES [ROUNDS]]: use memory in every way a program can, and check
 * that every byte read is the byte written.
 *
 * Each live block is filled with a sequence that follows from its own seed, so a
 * page that shows up at two places, loses a write or is not cleared is noticed.
 * Blocks are made and resized by malloc, mmap and mremap; forked children check the
 * parent's blocks, overwrite them and check again, which the parent must not see.
 */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define BLOCKS 256

struct block {
    uint64_t *words;
    size_t bytes;
    uint64_t seed;
    int mapped; /* by mmap, else by malloc */
};

static struct block blocks[BLOCKS];
static size_t live_bytes;
static uint64_t random_state = 88172645463325252ull;
static unsigned long checked_pages;

static uint64_t
next_random(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static uint64_t
word_at(uint64_t seed, size_t index)
{
    return (seed + index) * 0x9e3779b97f4a7c15ull;
}

static void
fill(struct block *block)
{
    block->seed = next_random();
    for (size_t i = 0; i < block->bytes / 8; i++)
        block->words[i] = word_at(block->seed, i);
}

static int
check(const struct block *block, const char *when)
{
    for (size_t i = 0; i < block->bytes / 8; i++) {
        uint64_t expected = word_at(block->seed, i);

        if (block->words[i] != expected) {
            printf("memtest: %s: %p holds %016llx instead of %016llx\n", when,
                   (void *)&block->words[i], (unsigned long long)block->words[i],
                   (unsigned long long)expected);
            return 1;
        }
    }
    checked_pages += block->bytes / 4096 + 1;
    return 0;
}

static int
check_zero(const struct block *block)
{
    for (size_t i = 0; i < block->bytes / 8; i++) {
        if (block->words[i] != 0) {
            printf("memtest: fresh page at %p is not zero\n", (void *)&block->words[i]);
            return 1;
        }
    }
    return 0;
}

static void
release(struct block *block)
{
    if (block->mapped)
        munmap(block->words, block->bytes);
    else
        free(block->words);
    live_bytes -= block->bytes;
    block->words = NULL;
}

/* @return 0 fine or out of memory, 1 an error was found */
static int
make(struct block *block, size_t limit)
{
    size_t bytes = (size_t)(next_random() % (256 * 1024) + 8) & ~(size_t)7;

    if (live_bytes + bytes > limit)
        return 0;
    block->mapped = (int)(next_random() & 1);
    block->bytes = bytes;
    if (block->mapped) {
        block->words =
            mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (block->words == MAP_FAILED)
            block->words = NULL;
        else if (check_zero(block))
            return 1;
    } else {
        block->words = malloc(bytes);
    }
    if (block->words == NULL)
        return 0;
    live_bytes += bytes;
    fill(block);
    return 0;
}

static int
resize(struct block *block)
{
    size_t bytes = (block->bytes / 2 + (size_t)(next_random() % block->bytes) + 8) & ~(size_t)7;
    size_t kept = bytes < block->bytes ? bytes : block->bytes;
    uint64_t *words = block->mapped ? mremap(block->words, block->bytes, bytes, MREMAP_MAYMOVE)
                                    : realloc(block->words, bytes);

    if (words == NULL || words == MAP_FAILED)
        return 0;
    live_bytes = live_bytes - block->bytes + bytes;
    block->words = words;
    block->bytes = kept;
    if (check(block, "after a resize"))
        return 1;
    block->bytes = bytes;
    fill(block);
    return 0;
}

static int
step(size_t limit)
{
    struct block *block = &blocks[next_random() % BLOCKS];

    if (block->words == NULL)
        return make(block, limit);
    switch (next_random() % 3) {
    case 0:
        if (check(block, "before a free"))
            return 1;
        release(block);
        return 0;
    case 1:
        return resize(block);
    default:
        return check(block, "in place");
    }
}

static int
check_all(const char *when)
{
    int wrong = 0;

    for (int i = 0; i < BLOCKS; i++) {
        if (blocks[i].words != NULL)
            wrong |= check(&blocks[i], when);
    }
    return wrong;
}

static int
fork_round(void)
{
    int status;
    pid_t child = fork();

    if (child < 0)
        return 0;
    if (child == 0) {
        int wrong = check_all("in a child");

        for (int i = 0; i < BLOCKS; i++) {
            if (blocks[i].words != NULL)
                fill(&blocks[i]);
        }
        wrong |= check_all("in a child, rewritten");
        fflush(stdout);
        _exit(wrong);
    }
    if (waitpid(child, &status, 0) != child || status != 0) {
        printf("memtest: child ended with status %#x\n", (unsigned)status);
        return 1;
    }
    return check_all("after a child wrote");
}

int
main(int argc, char **argv)
{
    size_t megabytes = argc > 1 ? strtoul(argv[1], NULL, 0) : 16;
    unsigned long rounds = argc > 2 ? strtoul(argv[2], NULL, 0) : 4;
    int wrong = 0;

    if (megabytes == 0 || megabytes > 1u << 20) {
        fprintf(stderr, "usage: memtest [MEGABYTES [ROUNDS]]\n");
        return 2;
    }
    for (unsigned long round = 0; round < rounds && !wrong; round++) {
        for (int i = 0; i < 500 && !wrong; i++)
            wrong = step(megabytes << 20);
        if (!wrong)
            wrong = fork_round();
    }
    printf("memtest: %lu rounds, up to %zu MiB, %lu pages checked: %s\n", rounds, megabytes,
           checked_pages, wrong ? "FAILED" : "passed");
    return wrong;
}
