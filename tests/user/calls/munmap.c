/* SPDX-License-Identifier: MIT */
/*
 * munmap(2).
 */
#include "calls.h"

#define MUNMAP(what, address, length, want)                      \
    {                                                            \
        what, SYS_munmap, {address, length, 0, 0, 0, 0}, want, 0 \
    }

/* A hole in a mapping needs one mapping more than there may be. */
static void
full(void)
{
    EXPECT(call(SYS_munmap, AT(1), page, 0, 0, 0, 0), -ENOMEM);
    EXPECT(PTR(1)[0], 'B');
    EXPECT(call(SYS_munmap, AT(3), page, 0, 0, 0, 0), 0); /* an end can always go */
    EXPECT(call(SYS_munmap, AT(0), page, 0, 0, 0, 0), 0);
}

static const struct documented documented[] = {
    {EINVAL, NULL},
    {ENOMEM, NULL},
};

CALL(munmap, SYS_munmap, documented)
{
    const struct row rows[] = {
        MUNMAP("no length", AT(RW_AT), 0, -EINVAL),
        MUNMAP("not a page's start", AT(RW_AT) + 1, page, -EINVAL),
        MUNMAP("length wraps", AT(RW_AT), -1, -EINVAL),
        MUNMAP("length wraps to nothing", AT(RW_AT), -page + 1, -EINVAL),
        MUNMAP("past the end", USER_END, page, -EINVAL),
        MUNMAP("across the end", USER_END - page, 2 * page, -EINVAL),
        MUNMAP("longer than memory", AT(RW_AT), USER_END, -EINVAL),
        MUNMAP("a page", AT(RW_AT), page, 0),
        MUNMAP("part of a page", AT(RW_AT), 1, 0),
        MUNMAP("a hole", AT(HOLE_AT), page, 0),
        MUNMAP("across holes and all kinds", AT(1), 30 * page, 0),
    };
    RUN(rows);

    arena_make();
    EXPECT(call(SYS_munmap, AT(1), page + 1, 0, 0, 0, 0), 0);
    EXPECT(touch(AT(0), TOUCH_WRITE), 0);
    EXPECT(touch(AT(1), TOUCH_READ), RAISED(SIGSEGV, SEGV_MAPERR));
    EXPECT(touch(AT(2), TOUCH_READ), RAISED(SIGSEGV, SEGV_MAPERR));
    EXPECT(PTR(3)[0], 'D');
    /* Locked pages go like all others. */
    EXPECT(mlock((void *)AT(3), (size_t)page), 0);
    EXPECT(call(SYS_munmap, AT(3), page, 0, 0, 0, 0), 0);
    EXPECT(status_kib("VmLck:"), 0);
    at_map_limit(full);
}
