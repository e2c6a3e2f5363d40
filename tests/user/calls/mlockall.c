/* SPDX-License-Identifier: MIT */
/*
 * mlockall(2), munlockall.
 */
#include "calls.h"

#ifndef MCL_ONFAULT
#define MCL_ONFAULT 4
#endif
#define LOCKED() status_kib("VmLck:")

/* Neither locks nor their future are inherited. */
static void
child_has_none(void)
{
    EXPECT(LOCKED(), 0);
    EXPECT(call(NR_MMAP, AT(FREE_AT + 4), page, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
           AT(FREE_AT + 4));
    EXPECT(LOCKED(), 0);
}

static void
effects(void)
{
    long at = AT(FREE_AT);

    arena_make();
    EXPECT(call(SYS_mlockall, MCL_FUTURE, 0, 0, 0, 0, 0), 0);
    EXPECT(LOCKED(), 0); /* what is there stays as it is */
    EXPECT(call(NR_MMAP, at, 2 * page, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
           at);
    EXPECT(resident(at), 1);
    EXPECT(LOCKED(), 2 * page / 1024);
    EXPECT(call(SYS_mlockall, MCL_CURRENT, 0, 0, 0, 0, 0), 0); /* and no future */
    EXPECT(LOCKED() > 16 * page / 1024, true);
    EXPECT(has_flag(AT(NONE_AT), "lo"), true);
    EXPECT(call(NR_MMAP, at, 2 * page, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
           at);
    EXPECT(resident(at), 0);
    EXPECT(call(SYS_munlockall, 0, 0, 0, 0, 0, 0), 0);
    EXPECT(LOCKED(), 0);
    /* On fault: what is there is locked, and nothing comes before it is touched. */
    EXPECT(call(SYS_mlockall, MCL_CURRENT | MCL_ONFAULT, 0, 0, 0, 0, 0), 0);
    EXPECT(has_flag(AT(RO_AT), "lo"), true);
    EXPECT(call(NR_MMAP, at, 2 * page, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
           at);
    EXPECT(has_flag(at, "lo"), false);
    EXPECT(call(SYS_mlockall, MCL_CURRENT | MCL_ONFAULT, 0, 0, 0, 0, 0), 0);
    EXPECT(resident(at), 0);
    EXPECT(touch(at, TOUCH_WRITE), 0);
    EXPECT(resident(at), 1);
    EXPECT(call(SYS_mlockall, MCL_CURRENT, 0, 0, 0, 0, 0), 0);
    EXPECT(resident(at + page), 1);
    /* The future alone does not unlock. */
    EXPECT(call(SYS_mlockall, MCL_FUTURE | MCL_ONFAULT, 0, 0, 0, 0, 0), 0);
    EXPECT(has_flag(at, "lo"), true);
    EXPECT(in_child(child_has_none), 0);
    EXPECT(call(SYS_munlockall, 0, 0, 0, 0, 0, 0), 0);
    EXPECT(call(SYS_mlockall, MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT, 0, 0, 0, 0, 0), 0);
    EXPECT(call(NR_MMAP, at, 2 * page, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
           at);
    EXPECT(resident(at), 0);
    EXPECT(has_flag(at, "lo"), true);
    EXPECT(call(SYS_munlockall, 0, 0, 0, 0, 0, 0), 0);
}

static void
limited(void)
{
    struct rlimit lock = {(rlim_t)page, (rlim_t)page};

    EXPECT(setrlimit(RLIMIT_MEMLOCK, &lock), 0);
    become_nobody();
    EXPECT(call(SYS_mlockall, MCL_CURRENT, 0, 0, 0, 0, 0), -ENOMEM);
    EXPECT(LOCKED(), 0);
    EXPECT(call(SYS_mlockall, MCL_FUTURE, 0, 0, 0, 0, 0), 0);
    EXPECT(call(NR_MMAP, 0, 2 * page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), -EAGAIN);
    EXPECT(call(SYS_munlockall, 0, 0, 0, 0, 0, 0), 0);
    lock.rlim_cur = 0;
    EXPECT(setrlimit(RLIMIT_MEMLOCK, &lock), 0);
    EXPECT(call(SYS_mlockall, MCL_FUTURE, 0, 0, 0, 0, 0), -EPERM);
    EXPECT(call(SYS_munlockall, 0, 0, 0, 0, 0, 0), 0);
}

static const struct documented documented[] = {
    {EINVAL, NULL},
    {ENOMEM, NULL},
    {EPERM, NULL},
};

CALL(mlockall, SYS_mlockall, documented)
{
    const struct row rows[] = {
        {"nothing", SYS_mlockall, {0}, -EINVAL, 0},
        {"flags that are none", SYS_mlockall, {8}, -EINVAL, 0},
        {"on fault of nothing", SYS_mlockall, {MCL_ONFAULT}, -EINVAL, 0},
#if __SIZEOF_LONG__ == 8
        {"nothing in the int", SYS_mlockall, {1l << 32}, -EINVAL, 0},
#endif
        {"unlock", SYS_munlockall, {0}, 0, 0},
    };
    RUN(rows);
    EXPECT(in_child(effects), 0);
    EXPECT(in_child(limited), 0);
}
