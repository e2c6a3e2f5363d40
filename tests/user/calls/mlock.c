/* SPDX-License-Identifier: MIT */
/*
 * mlock(2); what it has in common with mlock2 and munlock is in lock.h.
 */
#include "lock.h"

static void
effects(void)
{
    arena_make();
    EXPECT(call(SYS_mlock, AT(RO_AT), page, 0, 0, 0, 0), 0);
    EXPECT(resident(AT(RO_AT)), 1);
    EXPECT(LOCKED(), KIB(1));
    EXPECT(has_flag(AT(RO_AT), "lo"), true);
    EXPECT(call(SYS_mlock, AT(RO_AT), page, 0, 0, 0, 0), 0); /* once or twice */
    EXPECT(LOCKED(), KIB(1));
    EXPECT(call(SYS_munlock, AT(RO_AT), page, 0, 0, 0, 0), 0);
    EXPECT(LOCKED(), 0);

    /* On fault: the flag, not the pages. */
    arena_make();
    EXPECT(call(SYS_mlock2, AT(RO_AT), page, MLOCK_ONFAULT, 0, 0, 0), 0);
    EXPECT(resident(AT(RO_AT)), 0);
    EXPECT(LOCKED(), KIB(1));
    EXPECT(call(SYS_mlock2, AT(RO_AT), page, 0, 0, 0, 0), 0);
    EXPECT(resident(AT(RO_AT)), 1);

    /* All pages with a byte in the range. */
    arena_make();
    EXPECT(call(SYS_mlock, AT(0) + page - 1, 2, 0, 0, 0, 0), 0);
    EXPECT(LOCKED(), KIB(2));
    /* What lies before a hole stays locked. */
    EXPECT(call(SYS_mlock, AT(2), 4 * page, 0, 0, 0, 0), -ENOMEM);
    EXPECT(LOCKED(), KIB(4));
    EXPECT(call(SYS_munlock, AT(0), 4 * page, 0, 0, 0, 0), 0);
    /* No rights, no page: but locked. */
    EXPECT(call(SYS_mlock, AT(NONE_AT), page, 0, 0, 0, 0), -ENOMEM);
    EXPECT(LOCKED(), KIB(1));
    EXPECT(call(SYS_munlock, AT(NONE_AT), page, 0, 0, 0, 0), 0);
}

static void
child_has_none(void)
{
    EXPECT(LOCKED(), 0);
}

static void
limited(void)
{
    struct rlimit lock = {3 * (rlim_t)page, 3 * (rlim_t)page};

    arena_make();
    EXPECT(setrlimit(RLIMIT_MEMLOCK, &lock), 0);
    EXPECT(call(SYS_mlock, AT(0), 4 * page, 0, 0, 0, 0), 0); /* the privileged may */
    EXPECT(call(SYS_munlock, AT(0), 4 * page, 0, 0, 0, 0), 0);
    become_nobody();
    EXPECT(call(SYS_mlock, AT(0), 4 * page, 0, 0, 0, 0), -ENOMEM);
    EXPECT(LOCKED(), 0);
    EXPECT(call(SYS_mlock, AT(0), 3 * page, 0, 0, 0, 0), 0);
    EXPECT(call(SYS_mlock, AT(0), 3 * page, 0, 0, 0, 0), 0); /* no page more */
    EXPECT(call(SYS_mlock, AT(3), page, 0, 0, 0, 0), -ENOMEM);
    EXPECT(call(SYS_mlock2, AT(3), page, MLOCK_ONFAULT, 0, 0, 0), -ENOMEM);
    lock.rlim_cur = 0;
    EXPECT(setrlimit(RLIMIT_MEMLOCK, &lock), 0);
    EXPECT(call(SYS_mlock, AT(0), page, 0, 0, 0, 0), -EPERM);
    EXPECT(call(SYS_mlock2, AT(0), page, 0, 0, 0, 0), -EPERM);
    EXPECT(call(SYS_mlock, AT(0), 0, 0, 0, 0, 0), -EPERM);
    EXPECT(call(SYS_munlock, AT(0), 4 * page, 0, 0, 0, 0), 0); /* unlocking needs nothing */
}

/* A split needs one mapping more than there may be. */
static void
full(void)
{
    EXPECT(call(SYS_mlock, AT(1), page, 0, 0, 0, 0), -ENOMEM);
    EXPECT(call(SYS_mlock, AT(0), 4 * page, 0, 0, 0, 0), 0);
}

static const struct documented documented[] = {
    {EAGAIN, "a page that cannot be had is waited for, or the process killed"},
    {EINVAL, NULL},
    {ENOMEM, NULL},
    {EPERM, NULL},
};

CALL(mlock, SYS_mlock, documented)
{
    const struct row rows[] = {
        LOCK_ROWS(SYS_mlock, 0),
        LOCK("past a file's end", SYS_mlock, AT(FILE_SHARED_AT), 4 * page, 0, -ENOMEM, PARTIAL),
    };

    RUN(rows);
    effects();
    EXPECT(call(SYS_mlock, AT(0), page, 0, 0, 0, 0), 0);
    EXPECT(in_child(child_has_none), 0);
    EXPECT(in_child(limited), 0);
    at_map_limit(full);
}
