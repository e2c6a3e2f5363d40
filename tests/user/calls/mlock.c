/* SPDX-License-Identifier: MIT */
/*
 * mlock(2), mlock2, munlock.
 */
#include "calls.h"

#ifndef MLOCK_ONFAULT
#define MLOCK_ONFAULT 1
#endif
#define LOCKED()   status_kib("VmLck:")
#define KIB(pages) ((pages)*page / 1024)
#define ALL_THREE(what, address, length, want, flags)                                          \
    {"mlock: " what, SYS_mlock, {address, length, 0, 0, 0, 0}, want, flags},                   \
        {"mlock2: " what, SYS_mlock2, {address, length, MLOCK_ONFAULT, 0, 0, 0}, want, flags}, \
    {                                                                                          \
        "munlock: " what, SYS_munlock, {address, length, 0, 0, 0, 0}, want, flags              \
    }

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
    EXPECT(syscall(SYS_setresuid, 65534, 65534, 65534), 0);
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

CALL(mlock)
{
    const struct row rows[] = {
        ALL_THREE("no length", AT(0), 0, 0, 0),
        ALL_THREE("no length, nothing there", AT(HOLE_AT), 0, 0, 0),
        ALL_THREE("length wraps", AT(0), -page, -EINVAL, 0),
        ALL_THREE("a hole", AT(HOLE_AT), page, -ENOMEM, 0),
        ALL_THREE("starts in a hole", AT(HOLE_AT), 4 * page, -ENOMEM, 0),
        ALL_THREE("runs into a hole", AT(3), 2 * page, -ENOMEM, PARTIAL),
        ALL_THREE("past the end", USER_END, page, -ENOMEM, 0),
        ALL_THREE("a byte", AT(0) + 5, 1, 0, 0),
        ALL_THREE("four pages", AT(0), 4 * page, 0, 0),
        ALL_THREE("shared", AT(SHARED_AT), 4 * page, 0, 0),
        ALL_THREE("a file", AT(FILE_SHARED_AT), 2 * page, 0, 0),
        {"mlock: past a file's end",
         SYS_mlock,
         {AT(FILE_SHARED_AT), 4 * page, 0, 0, 0, 0},
         -ENOMEM,
         PARTIAL},
        {"mlock2: past a file's end",
         SYS_mlock2,
         {AT(FILE_SHARED_AT), 4 * page, MLOCK_ONFAULT, 0, 0, 0},
         0,
         0},
        {"mlock2: flags that are none", SYS_mlock2, {AT(0), page, 2, 0, 0, 0}, -EINVAL, 0},
        {"mlock2: no flags", SYS_mlock2, {AT(0), page, 0, 0, 0, 0}, 0, 0},
    };
    RUN(rows);
    effects();
    EXPECT(call(SYS_mlock, AT(0), page, 0, 0, 0, 0), 0);
    EXPECT(in_child(child_has_none), 0);
    EXPECT(in_child(limited), 0);
}
