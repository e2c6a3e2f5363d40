/* SPDX-License-Identifier: MIT */
/*
 * Files of a file system on a disk: file DIRECTORY.  What holds on any Linux with ext2 there.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../check.h"

#define KIB 1024
#define MIB (1 << 20)

#ifndef SYS_cachestat
#define SYS_cachestat 451
#endif

static long page;

struct cached {
    uint64_t pages, dirty, writeback, evicted, recently_evicted;
};

static struct cached
cached_of(int fd)
{
    uint64_t range[2] = {0, 0};
    struct cached cached = {0};

    CHECK(syscall(SYS_cachestat, fd, range, &cached, 0) == 0 || errno == ENOSYS);
    return cached;
}

static int
create(const char *name)
{
    int fd = open(name, O_RDWR | O_CREAT | O_TRUNC, 0644);

    CHECK(fd >= 0);
    return fd;
}

/* Drop what is in memory of a file, so that it comes from the disk again. */
static void
forget(int fd)
{
    CHECK(fsync(fd) == 0);
    CHECK(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) == 0);
}

static void
test_write_and_read_again(void)
{
    static char out[3 * MIB], in[3 * MIB];
    int fd = create("data");

    for (size_t i = 0; i < sizeof out; i++)
        out[i] = (char)(i * 2654435761u >> 13);
    CHECK(write(fd, out, sizeof out) == sizeof out);
    forget(fd);
    CHECK(cached_of(fd).pages == 0);
    CHECK(pread(fd, in, sizeof in, 0) == sizeof in && memcmp(out, in, sizeof in) == 0);
    CHECK(pwrite(fd, "middle", 6, MIB + 3) == 6);
    forget(fd);
    memcpy(out + MIB + 3, "middle", 6);
    CHECK(pread(fd, in, sizeof in, 0) == sizeof in && memcmp(out, in, sizeof in) == 0);
    CHECK(close(fd) == 0);
}

/* Nothing of the old contents comes back when a file grows again, from memory or from the disk. */
static void
test_truncation_clears(void)
{
    char buffer[8 * KIB], zeros[8 * KIB] = {0};
    int fd = create("cut");

    memset(buffer, 'o', sizeof buffer);
    CHECK(write(fd, buffer, sizeof buffer) == sizeof buffer);
    forget(fd);
    CHECK(ftruncate(fd, 100) == 0 && ftruncate(fd, sizeof buffer) == 0);
    CHECK(pread(fd, buffer, sizeof buffer, 0) == sizeof buffer);
    CHECK(buffer[99] == 'o' && memcmp(buffer + 100, zeros, sizeof buffer - 100) == 0);
    forget(fd);
    CHECK(pread(fd, buffer, sizeof buffer, 0) == sizeof buffer);
    CHECK(buffer[99] == 'o' && memcmp(buffer + 100, zeros, sizeof buffer - 100) == 0);

    /* Stores through a mapping behind the end neither. */
    CHECK(ftruncate(fd, 100) == 0);
    char *map = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    memset(map, 'm', 200);
    CHECK(msync(map, page, MS_SYNC) == 0);
    CHECK(munmap(map, page) == 0);
    CHECK(pwrite(fd, "z", 1, 4000) == 1);
    forget(fd);
    CHECK(pread(fd, buffer, 4001, 0) == 4001);
    CHECK(buffer[99] == 'm' && memcmp(buffer + 100, zeros, 3900) == 0 && buffer[4000] == 'z');
    CHECK(close(fd) == 0);
}

static void
test_holes(void)
{
    struct stat stat;
    char byte;
    int fd = create("holes");
    char *map;

    CHECK(pwrite(fd, "end", 3, 70 * MIB) == 3);
    CHECK(fsync(fd) == 0 && fstat(fd, &stat) == 0);
    CHECK(stat.st_size == 70 * MIB + 3 && stat.st_blocks < 200);
    CHECK(pread(fd, &byte, 1, 35 * MIB) == 1 && byte == 0);
    map = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 40 * MIB);
    CHECK(map != MAP_FAILED && map[page] == 0);
    map[page] = 'h';
    CHECK(msync(map, 2 * page, MS_SYNC) == 0);
    CHECK_ERRNO(madvise(map, page, MADV_REMOVE), EOPNOTSUPP);
    CHECK(munmap(map, 2 * page) == 0);
    forget(fd);
    CHECK(pread(fd, &byte, 1, 40 * MIB + page) == 1 && byte == 'h');
    CHECK_ERRNO(fallocate(fd, 0, 0, MIB), EOPNOTSUPP);
    CHECK_ERRNO(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, MIB), EOPNOTSUPP);
    CHECK(ftruncate(fd, 1) == 0 && fsync(fd) == 0 && fstat(fd, &stat) == 0);
    CHECK(stat.st_blocks == 0);
    CHECK(close(fd) == 0);
}

static sigjmp_buf after;
static volatile sig_atomic_t buses;

static void
on_bus(int number)
{
    (void)number;
    buses++;
    siglongjmp(after, 1);
}

static void
test_mapping(void)
{
    int fd = create("mapped");
    struct cached cached;
    char byte = 0;
    volatile char *map;

    CHECK(ftruncate(fd, 4 * page) == 0);
    map = mmap(NULL, 8 * page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(map != MAP_FAILED);
    for (int round = 0; round < 3; round++) {
        map[page] = (char)('0' + round);
        map[3 * page] = 'x';
        cached = cached_of(fd);
        CHECK(cached.dirty == 2);
        CHECK(msync((void *)map, 4 * page, MS_SYNC) == 0);
        CHECK(cached_of(fd).dirty == 0);
    }
    forget(fd); /* mapped pages stay */
    CHECK(pread(fd, &byte, 1, page) == 1 && byte == '2');
    signal(SIGBUS, on_bus);
    if (sigsetjmp(after, 1) == 0)
        map[5 * page] = 1;
    CHECK_EQ(buses, 1);
    CHECK(ftruncate(fd, page) == 0);
    if (sigsetjmp(after, 1) == 0)
        (void)map[page];
    CHECK_EQ(buses, 2);
    signal(SIGBUS, SIG_DFL);
    CHECK(munmap((void *)map, 8 * page) == 0);

    /* A private copy does not reach the file. */
    map = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    map[0] = 'p';
    CHECK(pread(fd, &byte, 1, 0) == 1 && byte == 0);
    CHECK(munmap((void *)map, page) == 0);
    CHECK(close(fd) == 0);
}

static void
test_direct(void)
{
    int fd = create("direct"), direct = open("direct", O_RDWR | O_DIRECT);
    char *buffer = NULL, byte;

    CHECK(direct >= 0);
    CHECK(posix_memalign((void **)&buffer, page, 256 * KIB) == 0);
    memset(buffer, 'd', 256 * KIB);
    CHECK_ERRNO(pwrite(direct, buffer + 1, 4096, 0), EINVAL);
    CHECK_ERRNO(pwrite(direct, buffer, 100, 0), EINVAL);
    CHECK(pwrite(direct, buffer, 256 * KIB, 0) == 256 * KIB);
    CHECK(cached_of(fd).dirty == 0);
    CHECK(pread(fd, &byte, 1, 255 * KIB) == 1 && byte == 'd');
    CHECK(pwrite(fd, "cached", 6, 8192) == 6);
    CHECK(pread(direct, buffer, 4096, 8192) == 4096 && memcmp(buffer, "cachedd", 7) == 0);
    memset(buffer, 'e', 8192);
    CHECK(pwrite(direct, buffer, 8192, 4096) == 8192);
    CHECK(pread(fd, &byte, 1, 8192) == 1 && byte == 'e');
    CHECK(ftruncate(fd, 5000) == 0);
    CHECK(pread(direct, buffer, 8192, 4096) == 5000 - 4096);
    CHECK(pread(direct, buffer, 8192, 8192) == 0);
    free(buffer);
    CHECK(close(fd) == 0 && close(direct) == 0);
}

static void
test_names(void)
{
    struct stat stat, other;
    char text[200];
    int fd;

    CHECK(mkdir("dir", 0755) == 0);
    CHECK_ERRNO(mkdir("dir", 0755), EEXIST);
    CHECK(mkdir("dir/sub", 0755) == 0 && lstat("dir", &stat) == 0 && stat.st_nlink == 3);
    CHECK_ERRNO(rmdir("dir"), ENOTEMPTY);
    fd = create("dir/a");
    CHECK(link("dir/a", "dir/b") == 0 && fstat(fd, &stat) == 0 && stat.st_nlink == 2);
    CHECK(rename("dir/b", "dir/sub/c") == 0 && lstat("dir/sub/c", &other) == 0);
    CHECK(stat.st_ino == other.st_ino);
    CHECK(rename("dir/sub", "moved") == 0 && lstat("dir", &stat) == 0 && stat.st_nlink == 2);
    CHECK(syscall(SYS_renameat2, AT_FDCWD, "dir", AT_FDCWD, "moved", 2) == 0);
    CHECK(access("moved/a", F_OK) == 0 && access("dir/c", F_OK) == 0);
    CHECK(symlink("dir/c", "short") == 0 && readlink("short", text, sizeof text) == 5);
    memset(text, 't', sizeof text);
    text[150] = '\0';
    CHECK(symlink(text, "long") == 0 && readlink("long", text, sizeof text) == 150);
    CHECK(unlink("short") == 0 && unlink("long") == 0);
    CHECK(chmod("moved/a", 0600) == 0 && chown("moved/a", 70000, 80000) == 0);
    CHECK(write(fd, "kept", 4) == 4);
    CHECK(unlink("moved/a") == 0 && unlink("dir/c") == 0);
    CHECK(fstat(fd, &stat) == 0 && stat.st_nlink == 0 && stat.st_uid == 70000);
    CHECK(pread(fd, text, 4, 0) == 4 && memcmp(text, "kept", 4) == 0);
    CHECK(close(fd) == 0);
    CHECK(rmdir("moved") == 0 && rmdir("dir") == 0);
    fd = open(".", O_TMPFILE | O_RDWR, 0600);
    CHECK(fd >= 0 && write(fd, "t", 1) == 1 && close(fd) == 0);
    fd = open(".", O_RDONLY | O_DIRECTORY);
    CHECK(fsync(fd) == 0 && syncfs(fd) == 0 && close(fd) == 0);
}

/* A full disk: an exact prefix, an error, and all of it back after. */
static void
test_full(void)
{
    struct statfs before, after_it;
    static char block[MIB];
    long done = 0, got;
    int fd;

    sync();
    CHECK(statfs(".", &before) == 0);
    fd = create("full");
    while ((got = write(fd, block, sizeof block)) == (long)sizeof block)
        done += got;
    done += got > 0 ? got : 0;
    CHECK_ERRNO(write(fd, block, sizeof block), ENOSPC);
    CHECK(lseek(fd, 0, SEEK_END) == done);
    CHECK(fsync(fd) == 0);
    CHECK(close(fd) == 0 && unlink("full") == 0);
    CHECK(statfs(".", &after_it) == 0);
    CHECK_EQ(after_it.f_bfree, before.f_bfree);
    CHECK_EQ(after_it.f_ffree, before.f_ffree);
}

/* Threads that write, cut, map and sync one file: each byte is zero or what was written there. */
static void *
trouble(void *argument)
{
    int fd = open("shared", O_RDWR), number = (int)(intptr_t)argument;
    char buffer[3000];

    for (int i = 0; i < 60; i++) {
        long at = (i * 7919L + number * 104729L) % 200000;

        memset(buffer, 'A' + number, sizeof buffer);
        if (number == 0 && i % 10 == 9)
            CHECK(ftruncate(fd, at) == 0);
        else if (number == 1 && i % 6 == 5)
            CHECK(fsync(fd) == 0);
        else if (number == 2 && i % 5 == 4)
            CHECK(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) == 0);
        else
            CHECK(pwrite(fd, buffer, sizeof buffer, at) == sizeof buffer);
        long got = pread(fd, buffer, sizeof buffer, at);

        for (long k = 0; k < got; k++) {
            if (buffer[k] != 0 && (buffer[k] < 'A' || buffer[k] > 'D')) {
                CHECK(buffer[k] == 0);
                break;
            }
        }
    }
    close(fd);
    return NULL;
}

static void
test_threads(void)
{
    pthread_t threads[4];
    int fd = create("shared");

    for (intptr_t i = 0; i < 4; i++)
        CHECK(pthread_create(&threads[i], NULL, trouble, (void *)i) == 0);
    for (int i = 0; i < 4; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    CHECK(fsync(fd) == 0 && close(fd) == 0);
}

int
main(int argc, char **argv)
{
    page = sysconf(_SC_PAGESIZE);
    CHECK(argc == 2 && chdir(argv[1]) == 0);
    test_write_and_read_again();
    test_truncation_clears();
    test_holes();
    test_mapping();
    test_direct();
    test_names();
    test_full();
    test_threads();
    return check_done("file");
}
