/* SPDX-License-Identifier: MIT */
/*
 * mlock2(2): mlock with a flag.
 */
#include "lock.h"

static void
limited(void)
{
    struct rlimit lock = {3 * (rlim_t)page, 3 * (rlim_t)page};

    arena_make();
    EXPECT(setrlimit(RLIMIT_MEMLOCK, &lock), 0);
    become_nobody();
    EXPECT(call(SYS_mlock2, AT(0), 4 * page, MLOCK_ONFAULT, 0, 0, 0), -ENOMEM);
    EXPECT(call(SYS_mlock2, AT(0), 3 * page, MLOCK_ONFAULT, 0, 0, 0), 0);
    EXPECT(call(SYS_mlock2, AT(3), page, 0, 0, 0, 0), -ENOMEM);
    lock.rlim_cur = 0;
    EXPECT(setrlimit(RLIMIT_MEMLOCK, &lock), 0);
    EXPECT(call(SYS_mlock2, AT(0), page, MLOCK_ONFAULT, 0, 0, 0), -EPERM);
    EXPECT(call(SYS_mlock2, AT(0), page, 2, 0, 0, 0), -EINVAL); /* first of all */
}

/* A split needs one mapping more than there may be. */
static void
full(void)
{
    EXPECT(call(SYS_mlock2, AT(1), page, MLOCK_ONFAULT, 0, 0, 0), -ENOMEM);
}

static const struct documented documented[] = {
    {EAGAIN, "for pages that are there on fault, none is made"},
    {EINVAL, NULL},
    {ENOMEM, NULL},
    {EPERM, NULL},
};

CALL(mlock2, SYS_mlock2, documented)
{
    const struct row rows[] = {
        LOCK_ROWS(SYS_mlock2, MLOCK_ONFAULT),
        LOCK("flags that are none", SYS_mlock2, AT(0), page, 2, -EINVAL, 0),
        LOCK("flags that are none, no length", SYS_mlock2, AT(0), 0, 4, -EINVAL, 0),
#if __SIZEOF_LONG__ == 8
        LOCK("flags are an int", SYS_mlock2, AT(0), page, 1l << 32, 0, PARTIAL),
#endif
        LOCK("no flags", SYS_mlock2, AT(0), page, 0, 0, PARTIAL),
        LOCK("past a file's end, on fault", SYS_mlock2, AT(FILE_SHARED_AT), 4 * page, MLOCK_ONFAULT,
             0, PARTIAL),
        LOCK("past a file's end", SYS_mlock2, AT(FILE_SHARED_AT), 4 * page, 0, -ENOMEM, PARTIAL),
    };

    RUN(rows);
    arena_make();
    EXPECT(call(SYS_mlock2, AT(RO_AT), page, MLOCK_ONFAULT, 0, 0, 0), 0);
    EXPECT(resident(AT(RO_AT)), 0);
    EXPECT(LOCKED(), KIB(1));
    if (is_since(6, 18)) /* before, it has no name */
        EXPECT(has_flag(AT(RO_AT), "lf"), true);
    EXPECT(touch(AT(RO_AT), TOUCH_READ), 0);
    EXPECT(resident(AT(RO_AT)), 1);
    EXPECT(call(SYS_mlock2, AT(RO_AT), page, 0, 0, 0, 0), 0);
    EXPECT(in_child(limited), 0);
    at_map_limit(full);
}
