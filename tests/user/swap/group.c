/* SPDX-License-Identifier: MIT */
/*
 * Swap and groups: vm.swappiness weighs files against private memory, memory.swap.high slows a group down.
 *
 *   group DIRECTORY AREA    DIRECTORY on a disk; AREA has mkswap's header and nobody uses it
 */
#define _GNU_SOURCE
#include <stdint.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/swap.h>

#include "../cgroup.h"

static long page;

static char *
private_memory(long bytes)
{
    char *at =
        mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    CHECK(at != MAP_FAILED);
    CHECK_EQ(madvise(at, (size_t)bytes, MADV_NOHUGEPAGE), 0);
    for (long i = 0; i < bytes; i += page)
        *(long *)(at + i) = i + 1;
    return at;
}

/* ---- swappiness --------------------------------------------------------------------------------- */

/* 2 MiB go, of these so many 200ths to swap; what is on its way as a whole batch may be more. */
static void
weigh(unsigned swappiness)
{
    char text[16];
    long out = line_of("/proc/vmstat", "pswpout"), file = line_in("g", "memory.stat", "file");
    long went = 2 * MIB * swappiness / 200, slack = 40 * page;

    snprintf(text, sizeof(text), "%u", swappiness);
    CHECK_EQ(put_text("/proc/sys/vm/swappiness", text), 0);
    CHECK_EQ(put_in("g", "memory.reclaim", "2M"), 0);
    out = (line_of("/proc/vmstat", "pswpout") - out) * page;
    file -= line_in("g", "memory.stat", "file");
    printf("swappiness %u: %ld kB to swap, %ld kB of files\n", swappiness, out >> 10, file >> 10);
    CHECK(labs(out - went) <= slack);
    CHECK(labs(file - (2 * MIB - went)) <= slack);
}

static void
kinds(const char *directory)
{
    static char block[65536];
    char path[256];

    snprintf(path, sizeof(path), "%s/kinds", directory);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);

    for (long at = 0; at < 9 * MIB; at += (long)sizeof(block))
        CHECK_EQ(write(fd, block, sizeof(block)), sizeof(block));
    CHECK_EQ(fsync(fd), 0);
    CHECK_EQ(unlink(path), 0);
    char *at = private_memory(8 * MIB);

    weigh(0);
    weigh(200);
    weigh(100);
    weigh(60);
    CHECK_EQ(put_text("/proc/sys/vm/swappiness", "60"), 0);
    for (long i = 0; i < 8 * MIB; i += page)
        CHECK_EQ(*(long *)(at + i), i + 1);
    munmap(at, (size_t)(8 * MIB));
    close(fd);
}

/* ---- memory.swap.high ----------------------------------------------------------------------------- */

/* Twice above the limit: memory still comes, but no faster than Linux's formula says. */
static void
slowed(const char *argument)
{
    char *out = private_memory(2 * MIB);

    (void)argument;
    CHECK_EQ(madvise(out, (size_t)(2 * MIB), MADV_PAGEOUT), 0);
    CHECK(line_of("/proc/self/status", "VmSwap") >= 1900);
    CHECK_EQ(line_in("g", "memory.swap.events", "high"), 0);
    CHECK_EQ(put_in("g", "memory.swap.high", "1M"), 0);
    double start = seconds();
    char *more = private_memory(64 * page);

    CHECK(seconds() - start >= 0.5);
    CHECK(line_in("g", "memory.swap.events", "high") >= 1);
    CHECK_EQ(line_in("g", "memory.events", "high"), 0);
    CHECK_EQ(put_in("g", "memory.swap.high", "max"), 0);
    long events = line_in("g", "memory.swap.events", "high");
    char *free = private_memory(MIB);

    CHECK_EQ(line_in("g", "memory.swap.events", "high"), events);
    for (long i = 0; i < 2 * MIB; i += page)
        CHECK_EQ(*(long *)(out + i), i + 1);
    munmap(out, (size_t)(2 * MIB));
    munmap(more, (size_t)(64 * page));
    munmap(free, (size_t)MIB);
}

int
main(int count, char **arguments)
{
    page = check_page();
    if (count != 3)
        return 2;
    mkdir(ROOT, 0755);
    CHECK(access(ROOT "/cgroup.procs", F_OK) == 0 || mount("none", ROOT, "cgroup2", 0, NULL) == 0);
    CHECK_EQ(put_in(".", "cgroup.subtree_control", "+memory"), 0);
    group_make("g");
    CHECK_EQ(swapon(arguments[2], 0), 0);
    run_in("g", kinds, arguments[1]);
    run_in("g", slowed, NULL);
    CHECK_EQ(swapoff(arguments[2]), 0);
    group_remove("g");
    return check_done("swap of groups");
}
