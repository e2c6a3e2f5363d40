/* SPDX-License-Identifier: MIT */
/*
 * setrlimit(2) and getrlimit, which not every machine has as calls of their own.  What limits do is in
 * prlimit.c and with the calls that meet them.
 */
#include "calls.h"

#ifdef SYS_setrlimit
static void
unprivileged(void)
{
    static struct {
        unsigned long soft, hard;
    } higher = {5, 5};

    EXPECT(call(SYS_setrlimit, RLIMIT_NPROC, (long)&higher, 0, 0, 0, 0), 0);
    become_nobody();
    higher.hard = 6;
    EXPECT(call(SYS_setrlimit, RLIMIT_NPROC, (long)&higher, 0, 0, 0, 0), -EPERM);
    higher.hard = higher.soft = 4;
    EXPECT(call(SYS_setrlimit, RLIMIT_NPROC, (long)&higher, 0, 0, 0, 0), 0);
}

static const struct documented documented[] = {
    {EFAULT, NULL},
    {EINVAL, NULL},
    {EPERM, NULL},
};

CALL(setrlimit, SYS_setrlimit, documented)
{
    static struct {
        unsigned long soft, hard;
    } good, crossed = {2, 1};

#ifdef SYS_ugetrlimit
    EXPECT(call(SYS_ugetrlimit, RLIMIT_DATA, (long)&good, 0, 0, 0, 0), 0);
#else
    EXPECT(call(SYS_getrlimit, RLIMIT_DATA, (long)&good, 0, 0, 0, 0), 0);
#endif
    const struct row rows[] = {
        {"no such limit", SYS_setrlimit, {99, (long)&good}, -EINVAL, 0},
        {"no such limit, negative", SYS_setrlimit, {-1, (long)&good}, -EINVAL, 0},
        {"no memory", SYS_setrlimit, {RLIMIT_DATA, 8}, -EFAULT, 0},
        {"no memory, no such limit", SYS_setrlimit, {99, 8}, -EFAULT, 0},
        {"soft above hard", SYS_setrlimit, {RLIMIT_DATA, (long)&crossed}, -EINVAL, 0},
        {"the same again", SYS_setrlimit, {RLIMIT_DATA, (long)&good}, 0, 0},
        {"asking: no such limit", SYS_getrlimit, {99, (long)&good}, -EINVAL, 0},
        {"asking: no memory", SYS_getrlimit, {RLIMIT_DATA, 8}, -EFAULT, 0},
    };

    RUN(rows);
    EXPECT(in_child(unprivileged), 0);
}
#endif
