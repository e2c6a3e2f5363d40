/* SPDX-License-Identifier: MIT */
/*
 * Faults and I/O as they are accounted: getrusage(2), /proc/PID/stat, /proc/PID/io and /proc/vmstat.
 *
 *     faults [DIRECTORY]    with a directory on a disk, what has to be read from it, too
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "../check.h"

#define RW   (PROT_READ | PROT_WRITE)
#define ANON (MAP_PRIVATE | MAP_ANONYMOUS)

enum { PAGES = 64 };

static long page;

static struct rusage
usage(int who)
{
    struct rusage now;

    CHECK_EQ(getrusage(who, &now), 0);
    return now;
}

static long
minor(void)
{
    return usage(RUSAGE_SELF).ru_minflt;
}

static char *
fresh(int flags)
{
    return mmap(NULL, (size_t)(PAGES * page), RW, ANON | flags, -1, 0);
}

/* Field @number, from 1 on, of /proc/self/stat. */
static long
stat_field(int number)
{
    char text[1024] = "", *at;
    int fd = open("/proc/self/stat", O_RDONLY);

    CHECK(read(fd, text, sizeof(text) - 1) > 0);
    close(fd);
    at = strrchr(text, ')') + 2;
    for (int i = 3; i < number; i++)
        at = strchr(at, ' ') + 1;
    return atol(at);
}

/* What @statement adds to the minor faults; a few more come of the measuring itself. */
#define COUNTS(statement, wanted)                                           \
    do {                                                                    \
        long before_ = minor(), after_;                                     \
                                                                            \
        statement;                                                          \
        after_ = minor();                                                   \
        CHECK(after_ - before_ >= (wanted));                                \
        CHECK(after_ - before_ <= (wanted) + 4);                            \
        if (after_ - before_ > (wanted) + 4 || after_ - before_ < (wanted)) \
            printf("line %d: %ld faults\n", __LINE__, after_ - before_);    \
    } while (0)

static void
touch_all(char *at)
{
    for (int i = 0; i < PAGES; i++)
        ((volatile char *)at)[i * page] = 1;
}

static void
minors(void)
{
    char *at = fresh(0), *other;
    struct iovec local = {NULL, 1}, remote = {NULL, 1};
    int zero = open("/dev/zero", O_RDONLY), mem = open("/proc/self/mem", O_RDWR);
    char byte;

    CHECK_EQ(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0), 0);
    COUNTS(touch_all(at), PAGES);
    COUNTS(touch_all(at), 0);
    COUNTS(madvise(at, (size_t)(PAGES * page), MADV_DONTNEED), 0);
    COUNTS(touch_all(at), PAGES);
    COUNTS(madvise(at, (size_t)(PAGES * page), MADV_POPULATE_WRITE), 0);

    /* Faults that nobody took. */
    COUNTS(other = fresh(MAP_POPULATE), PAGES);
    COUNTS(touch_all(other), 0);
    munmap(other, (size_t)(PAGES * page));
    other = fresh(0);
    COUNTS(mlock(other, (size_t)(PAGES * page)), PAGES);
    COUNTS(munlock(other, (size_t)(PAGES * page)), 0);
    munmap(other, (size_t)(PAGES * page));
    other = fresh(0);
    COUNTS(madvise(other, (size_t)(PAGES * page), MADV_POPULATE_READ), PAGES);
    munmap(other, (size_t)(PAGES * page));

    /* The kernel's, and those in another's memory. */
    other = fresh(0);
    COUNTS(CHECK_EQ(read(zero, other, (size_t)(PAGES * page)), PAGES * page), PAGES);
    munmap(other, (size_t)(PAGES * page));
    other = fresh(0);
    local.iov_base = &byte;
    remote.iov_base = other;
    COUNTS(CHECK_EQ(process_vm_readv(getpid(), &local, 1, &remote, 1, 0), 1), 1);
    COUNTS(CHECK_EQ(pread(mem, &byte, 1, (long)other + page), 1), 1);
    COUNTS(CHECK_EQ(pread(mem, &byte, 1, (long)other + page), 1), 0);
    COUNTS(CHECK_EQ(pwrite(mem, &byte, 1, (long)other + 2 * page), 1), 1);
    munmap(other, (size_t)(PAGES * page));
    munmap(at, (size_t)(PAGES * page));
    close(zero);
    close(mem);
}

static void *
thread_main(void *argument)
{
    struct rusage *out = argument;
    char *at = fresh(0);

    touch_all(at);
    munmap(at, (size_t)(PAGES * page));
    CHECK_EQ(getrusage(RUSAGE_THREAD, out), 0);
    return NULL;
}

/* Of threads, of children, and in /proc. */
static void
whose(void)
{
    struct rusage mine = usage(RUSAGE_THREAD), all = usage(RUSAGE_SELF),
                  children = usage(RUSAGE_CHILDREN), other;
    pthread_t thread;
    int status;
    pid_t child;

    CHECK_EQ(pthread_create(&thread, NULL, thread_main, &other), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK(other.ru_minflt >= PAGES && other.ru_minflt < PAGES + 32);
    CHECK(usage(RUSAGE_THREAD).ru_minflt - mine.ru_minflt < 48);
    CHECK(usage(RUSAGE_SELF).ru_minflt - all.ru_minflt >= PAGES);

    child = fork();
    if (child == 0) {
        char *at = fresh(0);

        touch_all(at);
        _exit(0);
    }
    CHECK_EQ(usage(RUSAGE_CHILDREN).ru_minflt,
             children.ru_minflt); /* not before it is waited for */
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK(usage(RUSAGE_CHILDREN).ru_minflt - children.ru_minflt >= PAGES);
    CHECK_EQ(stat_field(11), usage(RUSAGE_CHILDREN).ru_minflt);
    CHECK_EQ(stat_field(13), usage(RUSAGE_CHILDREN).ru_majflt);
    long before = stat_field(10), now = usage(RUSAGE_SELF).ru_minflt;
    CHECK(now - before >= 0 && now - before < 8);
    CHECK_EQ(stat_field(12), usage(RUSAGE_SELF).ru_majflt);
}

/* What the calls moved, as /proc/self/io has it. */
static void
calls(void)
{
    char text[1000];
    int ends[2];
    long chars, count;

    CHECK_EQ(pipe(ends), 0);
    chars = line_of("/proc/self/io", "wchar");
    count = line_of("/proc/self/io", "syscw");
    CHECK(chars >= 0 && count >= 0);
    memset(text, 'x', sizeof(text));
    CHECK_EQ(write(ends[1], text, 700), 700);
    CHECK_EQ(write(ends[1], text, 300), 300);
    CHECK_EQ(write(-1, text, 300), -1); /* no file: no call of one */
    CHECK_EQ(line_of("/proc/self/io", "wchar") - chars, 1000);
    CHECK_EQ(line_of("/proc/self/io", "syscw") - count, 2);
    chars = line_of("/proc/self/io", "rchar");
    count = line_of("/proc/self/io", "syscr");
    CHECK_EQ(read(ends[0], text, sizeof(text)), 1000);
    CHECK(line_of("/proc/self/io", "rchar") - chars >= 1000);
    CHECK(line_of("/proc/self/io", "syscr") - count >= 1);
    CHECK_EQ(line_of("/proc/self/io", "cancelled_write_bytes"), 0);
    close(ends[0]);
    close(ends[1]);
}

/* ---- a disk -------------------------------------------------------------------------------- */

static long
majors(void)
{
    return usage(RUSAGE_SELF).ru_majflt;
}

static void
drop(void)
{
    int fd = open("/proc/sys/vm/drop_caches", O_WRONLY);

    sync();
    CHECK_EQ(write(fd, "1", 1), 1);
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

/* Waits for at most ten seconds until @at has @wanted pages. */
static bool
resident_soon(char *at, int wanted)
{
    for (int i = 0; i < 1000 && resident(at) != wanted; i++)
        usleep(10000);
    return resident(at) == wanted;
}

static int
file_of_pages(const char *directory)
{
    static char text[65536];
    char path[256];

    snprintf(path, sizeof(path), "%s/faults.data", directory);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);

    CHECK(fd >= 0);
    memset(text, 'x', sizeof(text));
    for (int i = 0; i < PAGES; i++)
        CHECK_EQ(write(fd, text, (size_t)page), page);
    CHECK_EQ(fsync(fd), 0);
    CHECK_EQ(unlink(path), 0);
    return fd;
}

/* What is cut off before the disk gets it. */
static void
cancelled(int fd)
{
    long before = line_of("/proc/self/io", "cancelled_write_bytes"), now;

    CHECK_EQ(pwrite(fd, "12345", 5, PAGES * page), 5);
    CHECK_EQ(pwrite(fd, "12345", 5, (PAGES + 1) * page), 5);
    CHECK_EQ(ftruncate(fd, PAGES * page), 0);
    now = line_of("/proc/self/io", "cancelled_write_bytes");
    CHECK(now == before + 2 * page || now == before ||
          now == before + page); /* it may be written */
    for (int tries = 0; tries < 100 && now == before; tries++) {
        CHECK_EQ(pwrite(fd, "12345", 5, PAGES * page), 5);
        CHECK_EQ(ftruncate(fd, PAGES * page), 0);
        now = line_of("/proc/self/io", "cancelled_write_bytes");
    }
    CHECK(now > before);
}

static void
disk(const char *directory)
{
    long written = usage(RUSAGE_SELF).ru_oublock;
    int fd = file_of_pages(directory);
    char *at = mmap(NULL, (size_t)(PAGES * page), RW, MAP_SHARED, fd, 0);
    volatile char *bytes = at;
    long before, machine, blocks = usage(RUSAGE_SELF).ru_inblock;

    CHECK(usage(RUSAGE_SELF).ru_oublock - written >= PAGES * page / 512);
    CHECK(line_of("/proc/self/io", "write_bytes") >= PAGES * page);
    cancelled(fd);
    CHECK_EQ(resident(at), PAGES);
    drop();
    CHECK_EQ(resident(at), 0);
    CHECK_EQ(madvise(at, (size_t)(PAGES * page), MADV_RANDOM), 0);
    before = majors();
    machine = line_of("/proc/vmstat", "pgmajfault");
    CHECK_EQ(bytes[0], 'x');
    CHECK_EQ(majors() - before, 1);
    CHECK_EQ(bytes[5 * page], 'x');
    CHECK_EQ(bytes[9 * page], 'x');
    CHECK_EQ(majors() - before, 3);
    CHECK_EQ(resident(at), 3); /* nothing ahead */
    CHECK_EQ(bytes[5 * page + 1], 'x');
    bytes[5 * page] = 'y'; /* there already: minor */
    CHECK_EQ(majors() - before, 3);
    CHECK(line_of("/proc/vmstat", "pgmajfault") - machine >= 3);
    CHECK_EQ(stat_field(12), majors());
    CHECK(usage(RUSAGE_SELF).ru_inblock - blocks >= 3 * page / 512);

    /* Read into the cache by somebody else: minor. */
    char byte;
    CHECK_EQ(pread(fd, &byte, 1, 20 * page), 1);
    before = majors();
    CHECK_EQ(bytes[20 * page], 'x');
    CHECK_EQ(majors(), before);

    /* Advice: all of it comes, without a fault. */
    CHECK_EQ(madvise(at, (size_t)(PAGES * page), MADV_NORMAL), 0);
    CHECK_EQ(msync(at, (size_t)(PAGES * page), MS_SYNC), 0);
    munmap(at, (size_t)(PAGES * page));
    drop();
    at = mmap(NULL, (size_t)(PAGES * page), RW, MAP_SHARED, fd, 0);
    bytes = at;
    CHECK_EQ(resident(at), 0);
    before = majors();
    CHECK_EQ(madvise(at, (size_t)(PAGES * page), MADV_WILLNEED), 0);
    CHECK(resident_soon(at, PAGES));
    for (int i = 0; i < PAGES; i++)
        CHECK(bytes[i * page] == (i == 5 ? 'y' : 'x'));
    CHECK_EQ(majors(), before);

    /* DONTNEED lets go of entries, not of the file's pages; PAGEOUT looks at entries. */
    CHECK_EQ(madvise(at, (size_t)(PAGES * page), MADV_DONTNEED), 0);
    CHECK_EQ(resident(at), PAGES);
    CHECK_EQ(madvise(at, (size_t)(PAGES * page), MADV_PAGEOUT), 0);
    CHECK_EQ(resident(at), PAGES);
    for (int i = 0; i < PAGES; i++)
        CHECK(bytes[i * page] == (i == 5 ? 'y' : 'x'));
    CHECK_EQ(majors(), before);

    /* It gives clean pages up, and dirty ones once they are written. */
    bytes[7 * page] = 'z';
    CHECK_EQ(madvise(at, (size_t)(PAGES * page), MADV_COLD), 0);
    CHECK_EQ(resident(at), PAGES);
    CHECK_EQ(madvise(at, (size_t)(PAGES * page), MADV_PAGEOUT), 0);
    CHECK(resident(at) <= 1);
    CHECK_EQ(bytes[7 * page], 'z');
    CHECK_EQ(bytes[5 * page], 'y');
    CHECK(majors() > before);
    for (int i = 0; i < PAGES; i++)
        CHECK(bytes[i * page] != 0);
    CHECK_EQ(msync(at, (size_t)(PAGES * page), MS_SYNC), 0);
    CHECK_EQ(madvise(at, (size_t)(PAGES * page), MADV_PAGEOUT), 0);
    CHECK_EQ(resident(at), 0);

    /* Populating reads, and that is major, too. */
    before = majors();
    CHECK_EQ(madvise(at, (size_t)(PAGES * page), MADV_POPULATE_READ), 0);
    CHECK(majors() > before);
    CHECK_EQ(resident(at), PAGES);
    munmap(at, (size_t)(PAGES * page));

    /* fadvise: not needed, and needed again; a locked page stays. */
    at = mmap(NULL, (size_t)(PAGES * page), RW, MAP_SHARED, fd, 0);
    CHECK_EQ(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
    CHECK_EQ(resident(at), 0);
    CHECK_EQ(posix_fadvise(fd, 0, PAGES * page, POSIX_FADV_WILLNEED), 0);
    CHECK(resident_soon(at, PAGES));
    CHECK_EQ(mlock(at, (size_t)(2 * page)), 0);
    CHECK_EQ(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
    drop();
    CHECK_EQ(resident(at), 2);
    CHECK_EQ(readahead(fd, 0, (size_t)(PAGES * page)), 0);
    CHECK(resident_soon(at, PAGES));
    munmap(at, (size_t)(PAGES * page));
    close(fd);
}

int
main(int argc, char **argv)
{
    page = check_page();
    minors();
    whose();
    calls();
    if (argc > 1)
        disk(argv[1]);
    return check_done("faults");
}
