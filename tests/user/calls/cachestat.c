/* SPDX-License-Identifier: MIT */
/*
 * cachestat(2), which Linux has since 6.5.
 */
#include "calls.h"

#include <sys/stat.h>

#ifndef SYS_cachestat
#define SYS_cachestat 451
#endif

static const struct documented documented[] = {
    {EBADF, NULL},
    {EFAULT, NULL},
    {EINVAL, NULL},
    {EOPNOTSUPP, NULL},
};

/* What is in memory of others' files is theirs to know, since Linux 6.15. */
static void
others_file(void)
{
    static uint64_t range[2], got[5];

    EXPECT(fchmod(file_ro, 0644), 0);
    become_nobody();
    EXPECT(call(SYS_cachestat, file_rw, (long)range, (long)got, 0, 0, 0), 0);
    EXPECT(call(SYS_cachestat, file_ro, (long)range, (long)got, 0, 0, 0), -EPERM);
    EXPECT(call(SYS_cachestat, file_ro, (long)range, (long)got, 1, 0, 0), -EPERM);
}

CALL(cachestat, SYS_cachestat, documented)
{
    static uint64_t range[2], got[5];
    long at = (long)range, out = (long)got;
    int name = open("/", O_PATH), ends[2];
    int huge = (int)call(SYS_memfd_create, (long)"huge", MFD_HUGETLB, 0, 0, 0, 0);

    EXPECT(pipe(ends), 0);
#define CACHESTAT(what, fd, range, out, flags, want)                \
    {                                                               \
        what, SYS_cachestat, {fd, range, out, flags, 0, 0}, want, 0 \
    }
    const struct row rows[] = {
        CACHESTAT("no file", -1, at, out, 0, -EBADF),
        CACHESTAT("no file, flags", -1, at, out, 1, -EBADF),
        CACHESTAT("no memory at the range", file_rw, 8, out, 0, -EFAULT),
        CACHESTAT("flags", file_rw, at, out, 1, -EINVAL),
        CACHESTAT("a name alone", name, at, out, 0, -EBADF),
        CACHESTAT("a file of huge pages", huge, at, out, 0, -EOPNOTSUPP),
        CACHESTAT("a file of huge pages, flags", huge, at, out, 1, -EOPNOTSUPP),
        CACHESTAT("a pipe", ends[0], at, out, 0, 0),
        CACHESTAT("no memory for the answer", file_rw, at, 8, 0, -EFAULT),
        CACHESTAT("all of it", file_rw, at, out, 0, 0),
    };

    if (!on_quire() && call(SYS_cachestat, -1, at, out, 0, 0, 0) == -ENOSYS)
        return;
    RUN(rows);
    if (is_since(6, 15))
        EXPECT(in_child(others_file), 0);
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
