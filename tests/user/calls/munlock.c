/* SPDX-License-Identifier: MIT */
/*
 * munlock(2), and munlockall, which has no errors.
 */
#include "lock.h"

/* A split needs one mapping more than there may be. */
static void
full(void)
{
    EXPECT(mlock((void *)AT(0), (size_t)(4 * page)), 0);
    EXPECT(call(SYS_munlock, AT(1), page, 0, 0, 0, 0), -ENOMEM);
    EXPECT(LOCKED(), KIB(4));
    EXPECT(call(SYS_munlock, AT(0), 4 * page, 0, 0, 0, 0), 0);
}

static const struct documented documented[] = {
    {EAGAIN, "of locking: what is unlocked needs no page"},
    {EINVAL, NULL},
    {ENOMEM, NULL},
    {EPERM, "of locking: anybody may unlock"},
};

CALL(munlock, SYS_munlock, documented)
{
    const struct row rows[] = {
        LOCK_ROWS(SYS_munlock, 0),
        {"all", SYS_munlockall, {0}, 0, 0},
    };
    struct rlimit none;

    RUN(rows);
    arena_make();
    EXPECT(call(SYS_mlock, AT(0), 4 * page, 0, 0, 0, 0), 0);
    EXPECT(call(SYS_munlock, AT(1) + 5, 1, 0, 0, 0, 0), 0); /* all pages with a byte in the range */
    EXPECT(LOCKED(), KIB(3));
    EXPECT(has_flag(AT(1), "lo"), false);
    EXPECT(has_flag(AT(2), "lo"), true);
    EXPECT(resident(AT(1)), 1);
    EXPECT(call(SYS_munlock, AT(2), 4 * page, 0, 0, 0, 0), -ENOMEM); /* up to the hole it is done */
    EXPECT(LOCKED(), KIB(1));
    EXPECT(getrlimit(RLIMIT_MEMLOCK, &none), 0);
    none.rlim_cur = 0;
    EXPECT(setrlimit(RLIMIT_MEMLOCK, &none), 0);
    EXPECT(call(SYS_munlock, AT(0), page, 0, 0, 0, 0), 0);
    EXPECT(LOCKED(), 0);
    at_map_limit(full);
}
