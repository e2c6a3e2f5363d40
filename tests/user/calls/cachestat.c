/* SPDX-License-Identifier: MIT */
/*
 * cachestat(2), which Linux has since 6.5; and posix_fadvise(2), readahead(2).
 */
#include "calls.h"

#ifndef SYS_cachestat
#define SYS_cachestat 451
#endif

/* 64-bit arguments take two registers on 32-bit machines: through the C library there. */
#if __SIZEOF_LONG__ == 8
static void
advice(int pipe_end)
{
    const struct row rows[] = {
        {"fadvise: no file", SYS_fadvise64, {-1, 0, 0, POSIX_FADV_NORMAL}, -EBADF, 0},
        {"fadvise: a pipe", SYS_fadvise64, {pipe_end, 0, 0, POSIX_FADV_NORMAL}, -ESPIPE, 0},
        {"fadvise: a pipe, no such advice", SYS_fadvise64, {pipe_end, 0, 0, 9}, -ESPIPE, 0},
        {"fadvise: no such advice", SYS_fadvise64, {file_rw, 0, 0, 9}, -EINVAL, 0},
        {"fadvise: a negative length",
         SYS_fadvise64,
         {file_rw, 0, -1, POSIX_FADV_NORMAL},
         -EINVAL,
         0},
        {"fadvise: all", SYS_fadvise64, {file_rw, 0, 0, POSIX_FADV_WILLNEED}, 0, 0},
        {"fadvise: not needed", SYS_fadvise64, {file_rw, 0, page, POSIX_FADV_DONTNEED}, 0, 0},
        {"fadvise: past the end",
         SYS_fadvise64,
         {file_ro, 99 * page, page, POSIX_FADV_RANDOM},
         0,
         0},
        {"readahead: no file", SYS_readahead, {-1, 0, page}, -EBADF, 0},
        {"readahead: a pipe", SYS_readahead, {pipe_end, 0, page}, -EINVAL, 0},
        {"readahead: a file", SYS_readahead, {file_rw, 0, page}, 0, 0},
    };

    RUN(rows);
}
#else
static void
advice(int pipe_end)
{
    EXPECT(posix_fadvise(-1, 0, 0, POSIX_FADV_NORMAL), EBADF);
    EXPECT(posix_fadvise(pipe_end, 0, 0, POSIX_FADV_NORMAL), ESPIPE);
    EXPECT(posix_fadvise(file_rw, 0, 0, 9), EINVAL);
    EXPECT(posix_fadvise(file_rw, 0, 0, POSIX_FADV_WILLNEED), 0);
}
#endif

CALL(cachestat)
{
    static uint64_t range[2], got[5];
    long at = (long)range, out = (long)got;
    int ends[2];
#define CACHESTAT(what, fd, range, out, flags, want)                \
    {                                                               \
        what, SYS_cachestat, {fd, range, out, flags, 0, 0}, want, 0 \
    }
    const struct row rows[] = {
        CACHESTAT("no file", -1, at, out, 0, -EBADF),
        CACHESTAT("no file, flags", -1, at, out, 1, -EBADF),
        CACHESTAT("no memory at the range", file_rw, 8, out, 0, -EFAULT),
        CACHESTAT("flags", file_rw, at, out, 1, -EINVAL),
        CACHESTAT("no memory for the answer", file_rw, at, 8, 0, -EFAULT),
        CACHESTAT("all of it", file_rw, at, out, 0, 0),
    };

    EXPECT(pipe(ends), 0);
    advice(ends[0]);
    close(ends[0]);
    close(ends[1]);
    if (!on_quire() && call(SYS_cachestat, -1, at, out, 0, 0, 0) == -ENOSYS)
        return;
    RUN(rows);
    EXPECT(pwrite(file_rw, "x", 1, 0), 1);
    EXPECT(pwrite(file_rw, "x", 1, page), 1);
    EXPECT(call(SYS_cachestat, file_rw, at, out, 0, 0, 0), 0);
    EXPECT(got[0], 2);
    range[0] = (uint64_t)page;
    range[1] = 1;
    EXPECT(call(SYS_cachestat, file_rw, at, out, 0, 0, 0), 0);
    EXPECT(got[0], 1);
    range[0] = (uint64_t)(2 * page);
    EXPECT(call(SYS_cachestat, file_rw, at, out, 0, 0, 0), 0);
    EXPECT(got[0], 0);
    range[0] = range[1] = 0;
}
