/* SPDX-License-Identifier: MIT */
/*
 * getrusage(2).
 */
#include "calls.h"

static const struct documented documented[] = {
    {EFAULT, NULL},
    {EINVAL, NULL},
};

static void
counts(void)
{
    const int count = 256;
    struct rusage before, after, children;
    char *at = mmap(NULL, (size_t)(count * page), PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    (void)madvise(at, (size_t)(count * page), MADV_NOHUGEPAGE);
    EXPECT(getrusage(RUSAGE_SELF, &before), 0);
    for (int i = 0; i < count; i++)
        ((volatile char *)at)[i * page] = 1;
    EXPECT(getrusage(RUSAGE_SELF, &after), 0);
    EXPECT(after.ru_minflt - before.ru_minflt >= count, true);
    EXPECT(after.ru_majflt, before.ru_majflt);
    munmap(at, (size_t)(count * page));
    EXPECT(getrusage(RUSAGE_SELF, &after), 0); /* the most there ever was */
    EXPECT(after.ru_maxrss >= count * page / 1024, true);
    EXPECT(getrusage(RUSAGE_CHILDREN, &children), 0);
    EXPECT(children.ru_maxrss > 0, true);
}

static void
ends_at_once(void)
{
}

CALL(getrusage, SYS_getrusage, documented)
{
    static long room[64];
    const struct row rows[] = {
        {"of nobody", SYS_getrusage, {7, (long)room}, -EINVAL, 0},
        {"of nobody, negative", SYS_getrusage, {-3, (long)room}, -EINVAL, 0},
        {"of nobody, no memory", SYS_getrusage, {7, 8}, -EINVAL, 0},
        {"no memory", SYS_getrusage, {RUSAGE_SELF, 8}, -EFAULT, 0},
        {"memory that is not writable", SYS_getrusage, {RUSAGE_SELF, AT(RO_AT)}, -EFAULT, 0},
        {"of oneself", SYS_getrusage, {RUSAGE_SELF, (long)room}, 0, 0},
        {"of children", SYS_getrusage, {RUSAGE_CHILDREN, (long)room}, 0, 0},
        {"of the thread", SYS_getrusage, {RUSAGE_THREAD, (long)room}, 0, 0},
    };

    RUN(rows);
    EXPECT(in_child(ends_at_once), 0);
    counts();
}
