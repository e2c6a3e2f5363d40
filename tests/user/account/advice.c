/* SPDX-License-Identifier: MIT */
/*
 * Advice on anonymous memory, shared memory and files of a disk: what is in memory afterwards, what the
 * bytes are, and which calls are refused.
 *
 *     advice [DIRECTORY]    with a directory on a disk, the last column, too
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "../check.h"

#define RW (PROT_READ | PROT_WRITE)
#ifndef MADV_COLD
#define MADV_COLD    20
#define MADV_PAGEOUT 21
#endif
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ  22
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_SOFT_OFFLINE
#define MADV_SOFT_OFFLINE 101
#endif

enum { PAGES = 8 };
enum kind { ANON, SHARED_ANON, MEMFD, MEMFD_PRIVATE, DISK, DISK_PRIVATE, KINDS };

static const char *const kind_names[] = {"anonymous", "shared anonymous", "memfd", "memfd private",
                                         "disk",      "disk private"};

static long page;
static const char *directory;
static bool can_fail; /* the kernel knows of memory that does (Linux: CONFIG_MEMORY_FAILURE) */

static int
make_file(enum kind kind)
{
    static char block[65536];
    char path[256];
    int fd;

    if (kind == MEMFD || kind == MEMFD_PRIVATE) {
        fd = memfd_create("advice", 0);
    } else {
        snprintf(path, sizeof(path), "%s/advice.data", directory);
        fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
        unlink(path);
    }
    CHECK(fd >= 0);
    for (int i = 0; i < PAGES; i++) {
        memset(block, 'a' + i, (size_t)page);
        CHECK_EQ(write(fd, block, (size_t)page), page);
    }
    CHECK_EQ(fsync(fd), 0);
    return fd;
}

/* PAGES pages, all of them there and touched, with 'a', 'b', ... in them. */
static char *
make(enum kind kind, int *out_fd)
{
    bool shared = kind == SHARED_ANON || kind == MEMFD || kind == DISK;
    int flags = shared ? MAP_SHARED : MAP_PRIVATE;
    char *at;

    *out_fd = -1;
    if (kind >= MEMFD)
        *out_fd = make_file(kind);
    else
        flags |= MAP_ANONYMOUS;
    at = mmap(NULL, (size_t)(PAGES * page), RW, flags, *out_fd, 0);
    CHECK(at != MAP_FAILED);
    for (int i = 0; i < PAGES; i++) {
        if (kind < MEMFD)
            memset(at + i * page, 'a' + i, (size_t)page);
        CHECK_EQ(((volatile char *)at)[i * page], 'a' + i);
    }
    return at;
}

static void
unmake(char *at, int fd)
{
    munmap(at, (size_t)(PAGES * page));
    if (fd >= 0)
        close(fd);
}

static int
resident(char *at)
{
    unsigned char vec[PAGES];
    int count = 0;

    CHECK_EQ(mincore(at, (size_t)(PAGES * page), vec), 0);
    for (int i = 0; i < PAGES; i++)
        count += vec[i] & 1;
    return count;
}

static bool
has_letters(char *at)
{
    for (int i = 0; i < PAGES; i++) {
        if (((volatile char *)at)[i * page] != 'a' + i)
            return false;
    }
    return true;
}

/* What an advice does to a kind: its error; how many pages stay; whether the letters do. */
struct row {
    int advice, error;
    int stay;
    bool letters;
};

static const struct row rows[KINDS][16] = {
    [ANON] = {{MADV_COLD, 0, PAGES, true},
              {MADV_PAGEOUT, 0, PAGES, true},
              {MADV_WILLNEED, 0, PAGES, true},
              {MADV_FREE, 0, PAGES, true},
              {MADV_POPULATE_READ, 0, PAGES, true},
              {MADV_POPULATE_WRITE, 0, PAGES, true},
              {MADV_REMOVE, EINVAL, PAGES, true},
              {MADV_SOFT_OFFLINE, 0, PAGES, true},
              {MADV_DONTNEED, 0, 0, false}},
    [SHARED_ANON] = {{MADV_COLD, 0, PAGES, true},
                     {MADV_PAGEOUT, 0, PAGES, true},
                     {MADV_WILLNEED, 0, PAGES, true},
                     {MADV_FREE, EINVAL, PAGES, true},
                     {MADV_DONTNEED, 0, PAGES, true},
                     {MADV_POPULATE_WRITE, 0, PAGES, true},
                     {MADV_SOFT_OFFLINE, 0, PAGES, true},
                     {MADV_REMOVE, 0, 0, false}},
    [MEMFD] = {{MADV_COLD, 0, PAGES, true},
               {MADV_PAGEOUT, 0, PAGES, true},
               {MADV_WILLNEED, 0, PAGES, true},
               {MADV_FREE, EINVAL, PAGES, true},
               {MADV_DONTNEED, 0, PAGES, true},
               {MADV_POPULATE_WRITE, 0, PAGES, true},
               {MADV_SOFT_OFFLINE, 0, PAGES, true},
               {MADV_REMOVE, 0, 0, false}},
    [MEMFD_PRIVATE] = {{MADV_COLD, 0, PAGES, true},
                       {MADV_PAGEOUT, 0, PAGES, true},
                       {MADV_WILLNEED, 0, PAGES, true},
                       {MADV_FREE, EINVAL, PAGES, true},
                       {MADV_POPULATE_WRITE, 0, PAGES, true},
                       {MADV_SOFT_OFFLINE, 0, PAGES, true},
                       {MADV_DONTNEED, 0, PAGES, true},
                       {MADV_REMOVE, EACCES, PAGES, true}},
    [DISK] = {{MADV_COLD, 0, PAGES, true},
              {MADV_WILLNEED, 0, PAGES, true},
              {MADV_FREE, EINVAL, PAGES, true},
              {MADV_DONTNEED, 0, PAGES, true},
              {MADV_POPULATE_READ, 0, PAGES, true},
              {MADV_SOFT_OFFLINE, 0, PAGES, true},
              {MADV_PAGEOUT, 0, 0, true}},
    [DISK_PRIVATE] = {{MADV_COLD, 0, PAGES, true},
                      {MADV_WILLNEED, 0, PAGES, true},
                      {MADV_FREE, EINVAL, PAGES, true},
                      {MADV_DONTNEED, 0, PAGES, true},
                      {MADV_SOFT_OFFLINE, 0, PAGES, true},
                      {MADV_REMOVE, EACCES, PAGES, true},
                      {MADV_POPULATE_WRITE, 0, PAGES, true},
                      {MADV_PAGEOUT, 0, PAGES, true}}, /* its own copies now */
};

static void
table(enum kind kind)
{
    int fd;
    char *at = make(kind, &fd);

    CHECK_EQ(resident(at), PAGES);
    for (int i = 0; i < 16 && rows[kind][i].advice != 0; i++) {
        const struct row *row = &rows[kind][i];
        int failures = check_failures;

        if (row->advice == MADV_SOFT_OFFLINE && !can_fail)
            continue;
        int result = madvise(at, (size_t)(PAGES * page), row->advice) == 0 ? 0 : errno;

        CHECK_EQ(result, row->error);
        CHECK_EQ(resident(at), row->stay);
        CHECK_EQ(has_letters(at), row->letters);
        if (check_failures != failures)
            printf("     %s, advice %d\n", kind_names[kind], row->advice);
        if (row->advice == MADV_FREE && result == 0) /* they are wanted after all */
            for (int p = 0; p < PAGES; p++)
                at[p * page] = (char)('a' + p);
    }
    unmake(at, fd);
}

/* Shared memory whose pages nobody has is not there, and reading the map of it makes none. */
static void
holes(void)
{
    int fd = memfd_create("holes", 0);
    char *at;

    CHECK_EQ(ftruncate(fd, PAGES * page), 0);
    at = mmap(NULL, (size_t)(PAGES * page), RW, MAP_SHARED, fd, 0);
    CHECK_EQ(resident(at), 0);
    CHECK_EQ(madvise(at, (size_t)(PAGES * page), MADV_WILLNEED), 0);
    CHECK_EQ(resident(at), 0);
    CHECK_EQ(pwrite(fd, "x", 1, 3 * page), 1);
    CHECK_EQ(resident(at), 1); /* in the cache, not mapped */
    CHECK_EQ(pwrite(fd, "x", 1, 5 * page), 1);
    CHECK_EQ(resident(at), 2);
    CHECK_EQ(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 3 * page, page), 0);
    CHECK_EQ(resident(at), 1);
    unmake(at, fd);
}

/* A line of the mapping at @at in smaps, in pages. */
static long
smaps_pages(char *at, const char *name)
{
    FILE *file = fopen("/proc/self/smaps", "r");
    char line[256], start[32];
    long value = -1;
    bool found = false;

    snprintf(start, sizeof(start), "%lx-", (unsigned long)at);
    while (file != NULL && value < 0 && fgets(line, sizeof(line), file) != NULL) {
        if (strncmp(line, start, strlen(start)) == 0)
            found = true;
        else if (found && strncmp(line, name, strlen(name)) == 0)
            value = atol(line + strlen(name)) * 1024 / page;
    }
    if (file != NULL)
        fclose(file);
    return value;
}

/* What was written to shared memory is dirty for who only reads it; what was a hole is not. */
static void
dirty(void)
{
    int fd = make_file(MEMFD), i;
    char *at;

    CHECK_EQ(ftruncate(fd, 2 * PAGES * page), 0);
    at = mmap(NULL, (size_t)(2 * PAGES * page), PROT_READ, MAP_SHARED, fd, 0);
    for (i = 0; i < 2 * PAGES; i++)
        CHECK_EQ(((volatile char *)at)[i * page], i < PAGES ? 'a' + i : 0);
    CHECK_EQ(smaps_pages(at, "Rss:"), 2 * PAGES);
    CHECK_EQ(smaps_pages(at, "Private_Dirty:"), PAGES);
    CHECK_EQ(smaps_pages(at, "Private_Clean:"), PAGES);
    CHECK_EQ(smaps_pages(at, "Pss_Dirty:"), PAGES);
    CHECK_EQ(smaps_pages(at, "Anonymous:"), 0);
    CHECK_EQ(munmap(at, (size_t)(2 * PAGES * page)), 0);
    at = mmap(NULL, (size_t)(2 * PAGES * page), RW, MAP_SHARED, fd, 0);
    for (i = PAGES; i < 2 * PAGES; i++)
        at[i * page] = 1; /* a fault that writes */
    CHECK_EQ(smaps_pages(at, "Private_Dirty:"), PAGES);
    CHECK_EQ(munmap(at, (size_t)(2 * PAGES * page)), 0);
    at = mmap(NULL, (size_t)(2 * PAGES * page), PROT_READ, MAP_SHARED, fd, 0);
    CHECK_EQ(madvise(at, (size_t)(2 * PAGES * page), MADV_POPULATE_READ), 0);
    CHECK_EQ(smaps_pages(at, "Private_Dirty:"), 2 * PAGES);
    CHECK_EQ(munmap(at, (size_t)(2 * PAGES * page)), 0);
    close(fd);

    /* Read first and written to later: dirty for whoever maps it next. */
    fd = memfd_create("dirty", 0);
    CHECK_EQ(ftruncate(fd, PAGES * page), 0);
    at = mmap(NULL, (size_t)(PAGES * page), RW, MAP_SHARED, fd, 0);
    for (i = 0; i < PAGES; i++)
        CHECK_EQ(((volatile char *)at)[i * page], 0);
    CHECK_EQ(smaps_pages(at, "Private_Dirty:"), 0);
    for (i = 0; i < PAGES / 2; i++)
        at[i * page] = 1;
    CHECK_EQ(smaps_pages(at, "Private_Dirty:"), PAGES / 2);
    CHECK_EQ(munmap(at, (size_t)(PAGES * page)), 0);
    at = mmap(NULL, (size_t)(PAGES * page), PROT_READ, MAP_SHARED, fd, 0);
    for (i = 0; i < PAGES; i++)
        CHECK_EQ(((volatile char *)at)[i * page], i < PAGES / 2);
    CHECK_EQ(smaps_pages(at, "Private_Dirty:"), PAGES / 2);
    CHECK_EQ(smaps_pages(at, "Private_Clean:"), PAGES / 2);
    CHECK_EQ(munmap(at, (size_t)(PAGES * page)), 0);
    close(fd);
}

/* ---- memory that fails ------------------------------------------------------------------- */

static sigjmp_buf back;
static volatile int signal_code;
static void *volatile signal_address;

static void
on_bus(int number, siginfo_t *info, void *context)
{
    (void)number;
    (void)context;
    signal_code = info->si_code;
    signal_address = info->si_addr;
    siglongjmp(back, 1);
}

/* 0, or the code of the SIGBUS that a read of @at raises. */
static int
touch(char *at)
{
    signal_code = 0;
    if (sigsetjmp(back, 1) == 0)
        (void)*(volatile char *)at;
    if (signal_code != 0)
        CHECK(signal_address == at);
    return signal_code;
}

static long
corrupted(void)
{
    FILE *file = fopen("/proc/meminfo", "r");
    char line[128];
    long value = -1;

    while (file != NULL && fgets(line, sizeof(line), file) != NULL)
        (void)sscanf(line, "HardwareCorrupted: %ld kB", &value);
    if (file != NULL)
        fclose(file);
    return value;
}

static void
poison(enum kind kind)
{
    int fd, failures = check_failures;
    char *at = make(kind, &fd), byte;
    long before = corrupted();

    CHECK_EQ(madvise(at + page, (size_t)page, MADV_HWPOISON), 0);
    CHECK_EQ(corrupted() - before, before < 0 ? 0 : page / 1024);
    if (kind == DISK || kind == DISK_PRIVATE) {
        CHECK_EQ(touch(at + page), 0); /* it was clean: read again */
        CHECK(has_letters(at));
        CHECK_EQ(at[page], 'b');
        CHECK_EQ(pread(fd, &byte, 1, page), 1);
        CHECK_EQ(byte, 'b');
        CHECK_EQ(fsync(fd), 0);
    } else {
        CHECK_EQ(touch(at + page), BUS_MCEERR_AR);
        CHECK_EQ(touch(at), 0);
    }
    if (kind == ANON)
        CHECK_EQ(resident(at), PAGES);
    if (kind == DISK) { /* what was not written yet is lost, and that is told */
        at[6 * page] = 'G';
        CHECK_EQ(madvise(at + 6 * page, (size_t)page, MADV_HWPOISON), 0);
        CHECK_EQ(touch(at + 6 * page), BUS_MCEERR_AR);
        CHECK_ERRNO(fsync(fd), EIO);
        CHECK_EQ(pread(fd, &byte, 1, 6 * page), 1);
        CHECK_EQ(byte, 'g');
    }
    if (kind == MEMFD) {
        CHECK_ERRNO(pread(fd, &byte, 1, page), EIO);
        CHECK_EQ(pread(fd, &byte, 1, 2 * page), 1);
        /* A hole in its place is good. */
        CHECK_EQ(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, page, page), 0);
        CHECK_EQ(pread(fd, &byte, 1, page), 1);
        CHECK_EQ(byte, 0);
    }
    if (check_failures != failures)
        printf("     poison, %s\n", kind_names[kind]);
    unmake(at, fd);
}

int
main(int argc, char **argv)
{
    struct sigaction action = {.sa_sigaction = on_bus, .sa_flags = SA_SIGINFO};
    int kinds = argc > 1 ? KINDS : DISK;

    page = check_page();
    directory = argc > 1 ? argv[1] : NULL;
    can_fail = madvise(NULL, 0, MADV_HWPOISON) == 0;
    CHECK_EQ(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0), 0);
    for (enum kind kind = ANON; kind < (enum kind)kinds; kind++)
        table(kind);
    holes();
    dirty();
    sigaction(SIGBUS, &action, NULL);
    for (enum kind kind = ANON; kind < (enum kind)kinds && can_fail; kind++)
        poison(kind);
    return check_done("advice");
}
