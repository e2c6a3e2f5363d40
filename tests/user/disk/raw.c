/* SPDX-License-Identifier: MIT */
/*
 * A disk without a file system: raw DEVICE writes over all of it.
 *
 *      raw DEVICE          read, write, mappings, O_DIRECT and what keeps them in step
 *      raw DEVICE failing  every read from SECTOR on fails: EIO, and SIGBUS through a mapping
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/fs.h>

#include "../check.h"

#define MIB (1 << 20)

#ifndef SYS_cachestat
#define SYS_cachestat 451
#endif

static int disk;
static uint64_t size;
static long page;

static uint64_t
dirty_pages(uint64_t offset, uint64_t bytes)
{
    uint64_t range[2] = {offset, bytes}, out[5] = {0};

    CHECK(syscall(SYS_cachestat, disk, range, out, 0) == 0);
    return out[1];
}

static uint64_t
cached_pages(uint64_t offset, uint64_t bytes)
{
    uint64_t range[2] = {offset, bytes}, out[5] = {0};

    CHECK(syscall(SYS_cachestat, disk, range, out, 0) == 0);
    return out[0];
}

static void
test_size(void)
{
    int sector = 0, read_only = 7;
    char byte = 1;

    CHECK(ioctl(disk, BLKGETSIZE64, &size) == 0 && size >= 4 * MIB);
    CHECK(ioctl(disk, BLKSSZGET, &sector) == 0 && sector == 512);
    CHECK(ioctl(disk, BLKROGET, &read_only) == 0 && read_only == 0);
    CHECK(lseek(disk, 0, SEEK_END) == (off_t)size);
    CHECK(pread(disk, &byte, 1, (off_t)size) == 0);
    CHECK(pwrite(disk, &byte, 1, (off_t)size) == -1 && errno == ENOSPC);
    CHECK(pwrite(disk, "ab", 2, (off_t)size - 1) == 1);
}

static void
test_write_back(void)
{
    char buffer[100], back[100];

    memset(buffer, 'w', sizeof buffer);
    CHECK(fsync(disk) == 0);
    CHECK(dirty_pages(0, 0) == 0);
    CHECK(pwrite(disk, buffer, sizeof buffer, MIB - 50) == sizeof buffer);
    CHECK(dirty_pages(0, 0) == 2);
    CHECK(sync_file_range(disk, MIB - page, page, 7) == 0);
    CHECK(dirty_pages(0, 0) == 1);
    CHECK(fdatasync(disk) == 0);
    CHECK(dirty_pages(0, 0) == 0);
    CHECK(posix_fadvise(disk, 0, 0, POSIX_FADV_DONTNEED) == 0);
    CHECK(cached_pages(0, 0) == 0);
    CHECK(pread(disk, back, sizeof back, MIB - 50) == sizeof back);
    CHECK(memcmp(buffer, back, sizeof back) == 0);
    CHECK(posix_fadvise(disk, 0, 8 * page, POSIX_FADV_WILLNEED) == 0);
    CHECK(cached_pages(0, 8 * page) == 8);
}

/* A store through a mapping is seen by write-back each time, not only the first. */
static void
test_mapping(void)
{
    char *map = mmap(NULL, 4 * page, PROT_READ | PROT_WRITE, MAP_SHARED, disk, 0);
    char back[4];

    CHECK(map != MAP_FAILED);
    for (int round = 0; round < 3; round++) {
        map[page] = (char)('a' + round);
        CHECK(dirty_pages(0, 4 * page) == 1);
        CHECK(msync(map, 4 * page, MS_SYNC) == 0);
        CHECK(dirty_pages(0, 4 * page) == 0);
    }
    CHECK(pread(disk, back, 1, page) == 1 && back[0] == 'c');
    CHECK(pwrite(disk, "xyz", 3, page) == 3);
    CHECK(memcmp(map + page, "xyz", 3) == 0);
    CHECK(munmap(map, 4 * page) == 0);
}

static void
test_direct(const char *path)
{
    int direct = open(path, O_RDWR | O_DIRECT);
    char *buffer = NULL, back[8];
    char *map = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED, disk, 2 * MIB);

    CHECK(direct >= 0 && map != MAP_FAILED);
    CHECK(posix_memalign((void **)&buffer, page, MIB) == 0);
    CHECK(pread(direct, buffer + 1, 512, 0) == -1 && errno == EINVAL);
    CHECK(pread(direct, buffer, 511, 0) == -1 && errno == EINVAL);
    CHECK(pread(direct, buffer, 512, 100) == -1 && errno == EINVAL);
    CHECK(pread(direct, (void *)(intptr_t)page, 512, 0) == -1 && errno == EFAULT);

    /* What the page cache has is read past it, and what is written past it is seen there. */
    memcpy(map, "cached", 7);
    CHECK(pread(direct, buffer, 512, 2 * MIB) == 512 && strcmp(buffer, "cached") == 0);
    memset(buffer, 'd', MIB);
    CHECK(pwrite(direct, buffer, MIB, 2 * MIB) == MIB);
    CHECK(map[0] == 'd' && map[page - 1] == 'd');
    CHECK(pread(disk, back, 8, 3 * MIB - 8) == 8 && memcmp(back, "dddddddd", 8) == 0);
    CHECK(pwrite(disk, "later", 5, 2 * MIB + 600) == 5);
    CHECK(pread(direct, buffer, 1024, 2 * MIB) == 1024 && memcmp(buffer + 600, "later", 5) == 0);

    /* Into the middle of a page; the rest of it stays. */
    CHECK(pread(direct, buffer + 512, 512, 3 * MIB - 512) == 512);
    CHECK(buffer[512] == 'd' && buffer[0] == 'd' && memcmp(buffer + 600, "dddd", 4) == 0);
    CHECK(munmap(map, page) == 0);
    free(buffer);
    CHECK(close(direct) == 0);
}

static sigjmp_buf after;
static siginfo_t seen;

static void
on_bus(int number, siginfo_t *info, void *context)
{
    (void)number;
    (void)context;
    seen = *info;
    siglongjmp(after, 1);
}

static void
test_failing(const char *path)
{
    struct sigaction action = {.sa_sigaction = on_bus, .sa_flags = SA_SIGINFO};
    char buffer[512];
    volatile char *map = mmap(NULL, page, PROT_READ, MAP_SHARED, disk, MIB);

    CHECK(map != MAP_FAILED);
    CHECK(pread(disk, buffer, sizeof buffer, MIB) == -1 && errno == EIO);
    sigaction(SIGBUS, &action, NULL);
    if (sigsetjmp(after, 1) == 0)
        (void)map[5];
    CHECK(seen.si_signo == SIGBUS && seen.si_code == BUS_ADRERR && seen.si_addr == map + 5);

    /* A write that fails is said once by each who had it open. */
    int other = open(path, O_RDWR);

    CHECK(pwrite(disk, "lost", 4, 2 * MIB) == -1 || fsync(disk) == -1);
    CHECK(errno == EIO);
    CHECK(fsync(other) == -1 && errno == EIO);
    CHECK(close(other) == 0);
}

int
main(int argc, char **argv)
{
    page = sysconf(_SC_PAGESIZE);
    disk = open(argv[1], O_RDWR);
    CHECK(disk >= 0);
    if (argc > 2) {
        test_failing(argv[1]);
    } else {
        test_size();
        test_write_back();
        test_mapping();
        test_direct(argv[1]);
    }
    return check_done("raw");
}
