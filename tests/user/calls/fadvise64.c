/* SPDX-License-Identifier: MIT */
/*
 * posix_fadvise(2), whose call is fadvise64.
 */
#include "calls.h"

#if __SIZEOF_LONG__ == 4
#define NR_FADVISE SYS_fadvise64_64
#else
#define NR_FADVISE SYS_fadvise64
#endif
#define FADVISE(what, fd, offset, length, advice, want)                     \
    {                                                                       \
        what, NR_FADVISE, {fd, WIDE(offset), WIDE(length), advice}, want, 0 \
    }

static const struct documented documented[] = {
    {EBADF, NULL},
    {EINVAL, NULL},
    {ESPIPE, NULL},
};

CALL(fadvise64, NR_FADVISE, documented)
{
    int ends[2], name = open("/", O_PATH), directory = open("/", O_RDONLY);
    int device = open("/dev/null", O_RDWR);

    EXPECT(pipe(ends), 0);
    const struct row rows[] = {
        FADVISE("no file", -1, 0, 0, POSIX_FADV_NORMAL, -EBADF),
        FADVISE("no file, no such advice", -1, 0, 0, 9, -EBADF),
        FADVISE("a closed descriptor", 1000, 0, 0, POSIX_FADV_NORMAL, -EBADF),
        FADVISE("a pipe", ends[0], 0, 0, POSIX_FADV_NORMAL, -ESPIPE),
        FADVISE("a pipe, no such advice", ends[0], 0, 0, 9, -ESPIPE),
        FADVISE("no such advice", file_rw, 0, 0, 9, -EINVAL),
        FADVISE("a negative advice", file_rw, 0, 0, -1, -EINVAL),
        FADVISE("a negative length", file_rw, 0, -1ll, POSIX_FADV_NORMAL, -EINVAL),
        FADVISE("a name alone", name, 0, 0, POSIX_FADV_NORMAL, -EBADF),
        FADVISE("a directory", directory, 0, 0, POSIX_FADV_WILLNEED, 0),
        FADVISE("a directory, no such advice", directory, 0, 0, 9, -EINVAL),
        FADVISE("a device", device, 0, 0, POSIX_FADV_DONTNEED, 0),
        FADVISE("a negative offset", file_rw, -page, page, POSIX_FADV_DONTNEED, 0),
        FADVISE("normal", file_rw, 0, 0, POSIX_FADV_NORMAL, 0),
        FADVISE("random", file_rw, 0, 0, POSIX_FADV_RANDOM, 0),
        FADVISE("sequential", file_rw, 0, 0, POSIX_FADV_SEQUENTIAL, 0),
        FADVISE("all of it", file_rw, 0, 0, POSIX_FADV_WILLNEED, 0),
        FADVISE("not needed", file_rw, 0, page, POSIX_FADV_DONTNEED, 0),
        FADVISE("once", file_rw, 0, page, POSIX_FADV_NOREUSE, 0),
        FADVISE("past the end", file_ro, 99 * page, page, POSIX_FADV_RANDOM, 0),
        FADVISE("past everything", file_ro, 1ll << 62, 1ll << 62, POSIX_FADV_WILLNEED, 0),
    };
    RUN(rows);
    close(ends[0]);
    close(ends[1]);
    close(name);
    close(directory);
    close(device);

    /* A file in memory keeps what is not needed. */
    arena_make();
    EXPECT(posix_fadvise(file_rw, 0, 2 * page, POSIX_FADV_DONTNEED), 0);
    EXPECT(PTR(FILE_SHARED_AT)[0], 'f');
}
