/* SPDX-License-Identifier: MIT */
/*
 * msync(2).  EIO needs a device that fails.
 */
#include "calls.h"

#define MSYNC(what, address, length, how, want)                   \
    {                                                             \
        what, SYS_msync, {address, length, how, 0, 0, 0}, want, 0 \
    }

static const struct documented documented[] = {
    {EBUSY, NULL},
    {EINVAL, NULL},
    {ENOMEM, NULL},
};

CALL(msync, SYS_msync, documented)
{
    const struct row rows[] = {
        MSYNC("flags that are none", AT(0), page, 8, -EINVAL),
        MSYNC("sync and async", AT(0), page, MS_SYNC | MS_ASYNC, -EINVAL),
        MSYNC("not a page's start", AT(0) + 1, page, MS_SYNC, -EINVAL),
        MSYNC("not a page's start, no length", AT(0) + 1, 0, MS_SYNC, -EINVAL),
        MSYNC("end wraps", AT(0), -page, MS_SYNC, -ENOMEM),
        MSYNC("length wraps", AT(0), -1, MS_SYNC, 0),
        MSYNC("a hole", AT(HOLE_AT), page, MS_SYNC, -ENOMEM),
        MSYNC("across a hole", AT(0), 10 * page, MS_SYNC, -ENOMEM),
        MSYNC("a hole at the end", AT(3), 2 * page, MS_ASYNC, -ENOMEM),
        MSYNC("past the end", USER_END, page, MS_SYNC, -ENOMEM),
        MSYNC("no length", AT(HOLE_AT), 0, MS_SYNC, 0),
        MSYNC("no flags", AT(FILE_SHARED_AT), page, 0, 0),
        MSYNC("async", AT(FILE_SHARED_AT), page, MS_ASYNC, 0),
        MSYNC("sync", AT(FILE_SHARED_AT), 2 * page, MS_SYNC, 0),
        MSYNC("sync past the file", AT(FILE_SHARED_AT), 4 * page, MS_SYNC, 0),
        MSYNC("sync and invalidate", AT(FILE_SHARED_AT), page, MS_SYNC | MS_INVALIDATE, 0),
        MSYNC("invalidate", AT(FILE_SHARED_AT), page, MS_INVALIDATE, 0),
        MSYNC("private", AT(0), 4 * page, MS_SYNC, 0),
        MSYNC("across kinds", AT(SHARED_AT), 17 * page, MS_SYNC, 0),
    };
    char byte = 0;

    RUN(rows);
    arena_make();
    EXPECT(mlock((void *)AT(FILE_SHARED_AT), (size_t)page), 0);
    EXPECT(call(SYS_msync, AT(FILE_SHARED_AT), page, MS_INVALIDATE, 0, 0, 0), -EBUSY);
    EXPECT(call(SYS_msync, AT(FILE_SHARED_AT), page, MS_SYNC, 0, 0, 0), 0);
    EXPECT(mlock((void *)AT(RW_AT), (size_t)page), 0);
    EXPECT(call(SYS_msync, AT(RW_AT), page, MS_SYNC | MS_INVALIDATE, 0, 0, 0), -EBUSY);
    /* What is locked is found before a hole is told of. */
    EXPECT(call(SYS_msync, AT(HOLE_AT), 16 * page, MS_INVALIDATE, 0, 0, 0), -EBUSY);
    EXPECT(call(SYS_msync, AT(HOLE_AT), 4 * page, MS_INVALIDATE, 0, 0, 0), -ENOMEM);
    PTR(FILE_SHARED_AT)[9] = 'q';
    EXPECT(call(SYS_msync, AT(FILE_SHARED_AT), page, MS_SYNC, 0, 0, 0), 0);
    EXPECT(pread(file_ro, &byte, 1, 9), 1);
    EXPECT(byte, 'q');
}
