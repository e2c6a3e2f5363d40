/* SPDX-License-Identifier: MIT */
/*
 * cachestat(2), which Linux has since 6.5.
 */
#include "calls.h"

#ifndef SYS_cachestat
#define SYS_cachestat 451
#endif

static const struct documented documented[] = {
    {EBADF, NULL},
    {EFAULT, NULL},
    {EINVAL, NULL},
    {EOPNOTSUPP, "for files whose pages are huge"},
};

CALL(cachestat, SYS_cachestat, documented)
{
    static uint64_t range[2], got[5];
    long at = (long)range, out = (long)got;
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
