/* SPDX-License-Identifier: MIT */
/*
 * ftruncate(2), of files in memory.
 */
#include "calls.h"

#include <sys/stat.h>

#if __SIZEOF_LONG__ == 4
#define NR_FTRUNCATE SYS_ftruncate64
#else
#define NR_FTRUNCATE SYS_ftruncate
#endif
enum { FILE_AT = 20, NO_GROWTH, NO_SHRINKING }; /* descriptors */
#define FTRUNCATE(what, fd, length, want)               \
    {                                                   \
        what, NR_FTRUNCATE, {fd, WIDE(length)}, want, 0 \
    }

static const struct documented documented[] = {
    {EBADF, NULL},
    {EFBIG, NULL},
    {EINTR, "nothing here waits for a signal"},
    {EINVAL, NULL},
    {EIO, "memory has no errors of that kind"},
    {EPERM, NULL},
    {ETXTBSY, "of truncate: what is executed is not open for writing"},
};

static void
files(void)
{
    static const int seals[] = {0, F_SEAL_GROW, F_SEAL_SHRINK};

    for (int i = 0; i < 3; i++) {
        int fd = memfd_create("x", MFD_ALLOW_SEALING);

        EXPECT(dup2(fd, FILE_AT + i), FILE_AT + i);
        close(fd);
        EXPECT(ftruncate(FILE_AT + i, 4 * page), 0);
        EXPECT(fcntl(FILE_AT + i, F_ADD_SEALS, seals[i]), 0);
    }
}

static void
gone(const struct row *row, long got)
{
    (void)row;
    (void)got;
    for (int i = 0; i < 3; i++)
        close(FILE_AT + i);
}

static void
limited(void)
{
    struct rlimit size = {(rlim_t)(6 * page), RLIM_INFINITY};

    files();
    signal(SIGXFSZ, SIG_IGN);
    EXPECT(setrlimit(RLIMIT_FSIZE, &size), 0);
    const struct row rows[] = {
        FTRUNCATE("past the limit", FILE_AT, 6 * page + 1, -EFBIG),
        FTRUNCATE("up to the limit", FILE_AT, 6 * page, 0),
    };
    RUN(rows);
}

/* Pages that were mapped are gone, and the rest of the last one is cleared. */
static void
effects(void)
{
    files();
    char *at = mmap(NULL, (size_t)(4 * page), PROT_READ | PROT_WRITE, MAP_SHARED, FILE_AT, 0);

    memset(at, 's', (size_t)(4 * page));
    EXPECT(ftruncate(FILE_AT, page + 10), 0);
    EXPECT(touch((long)at + 2 * page, TOUCH_READ), RAISED(SIGBUS, BUS_ADRERR));
    EXPECT(at[page + 9] == 's' && at[page + 10] == 0, true);
    EXPECT(ftruncate(FILE_AT, 4 * page), 0);
    EXPECT(at[2 * page], 0);
    munmap(at, (size_t)(4 * page));
    gone(NULL, 0);
}

CALL(ftruncate, NR_FTRUNCATE, documented)
{
    static const struct around anew = {files, gone};
    int ends[2], null = open("/dev/null", O_RDWR), directory = open("/tmp", O_RDONLY);

    EXPECT(pipe(ends), 0);
    const struct row rows[] = {
        FTRUNCATE("no file", -1, 0, -EBADF),
        FTRUNCATE("no file, a negative length", 1000, -1ll, -EINVAL),
        FTRUNCATE("open for reading", file_ro, 0, -EINVAL),
        FTRUNCATE("a pipe", ends[1], 0, -EINVAL),
        FTRUNCATE("a device", null, 0, -EINVAL),
        FTRUNCATE("a directory", directory, 0, -EINVAL),
        FTRUNCATE("a negative length", FILE_AT, -1ll, -EINVAL),
        FTRUNCATE("sealed against growing", NO_GROWTH, 5 * page, -EPERM),
        FTRUNCATE("sealed against shrinking", NO_SHRINKING, 3 * page, -EPERM),
        FTRUNCATE("shorter", NO_GROWTH, page, 0),
        FTRUNCATE("longer", NO_SHRINKING, 5 * page, 0),
        FTRUNCATE("as it is", NO_GROWTH, 4 * page, 0),
        FTRUNCATE("to nothing", FILE_AT, 0, 0),
        FTRUNCATE("far away", FILE_AT, 1ll << 40, 0),
    };

    RUN_AROUND(rows, &anew);
    effects();
    EXPECT(in_child(limited), 0);
    close(null);
    close(directory);
    close(ends[0]);
    close(ends[1]);
}
