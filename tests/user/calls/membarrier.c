/* SPDX-License-Identifier: MIT */
/*
 * membarrier(2).  That its barriers order memory is shown in tests/user/sharing/membarrier.c.
 */
#include "calls.h"

enum {
    QUERY = 0,
    GLOBAL = 1,
    GLOBAL_EXPEDITED = 2,
    REGISTER_GLOBAL_EXPEDITED = 4,
    PRIVATE = 8,
    REGISTER_PRIVATE = 16,
    SYNC_CORE = 32,
    REGISTER_SYNC_CORE = 64,
    RSEQ = 128,
    REGISTER_RSEQ = 256,
};

#define BARRIER(what, command, flags, want)             \
    {                                                   \
        what, SYS_membarrier, {command, flags}, want, 0 \
    }

static const struct documented documented[] = {
    {EINVAL, NULL},
    {ENOSYS, "of kernels without it"},
    {EPERM, NULL},
};

static void
registered(void)
{
    const struct row rows[] = {
        BARRIER("register", REGISTER_PRIVATE, 0, 0),
        BARRIER("among ourselves", PRIVATE, 0, 0),
        BARRIER("among ourselves, flags", PRIVATE, 1, -EINVAL),
        BARRIER("register for code", REGISTER_SYNC_CORE, 0, 0),
        BARRIER("of code", SYNC_CORE, 0, 0),
        BARRIER("register for sequences", REGISTER_RSEQ, 0, 0),
        BARRIER("of sequences", RSEQ, 0, 0),
        BARRIER("of sequences on one CPU", RSEQ, 1, 0),
        BARRIER("of sequences, flags", RSEQ, 2, -EINVAL),
    };
    RUN(rows);
}

CALL(membarrier, SYS_membarrier, documented)
{
    const struct row rows[] = {
        BARRIER("no such command", 3, 0, -EINVAL),
        BARRIER("a negative command", -1, 0, -EINVAL),
        BARRIER("a command to come", 1 << 20, 0, -EINVAL),
        BARRIER("asking, flags", QUERY, 1, -EINVAL),
        BARRIER("everywhere, flags", GLOBAL, 1, -EINVAL),
        BARRIER("not registered", PRIVATE, 0, -EPERM),
        BARRIER("not registered for code", SYNC_CORE, 0, -EPERM),
        BARRIER("not registered for sequences", RSEQ, 0, -EPERM),
        BARRIER("not registered, on one CPU", RSEQ, 1, -EPERM),
        BARRIER("asking", QUERY, 0, ANY_VALUE),
        BARRIER("everywhere", GLOBAL, 0, 0),
        BARRIER("everywhere, at once", GLOBAL_EXPEDITED, 0, 0),
        BARRIER("register for everywhere", REGISTER_GLOBAL_EXPEDITED, 0, 0),
    };

    RUN(rows);
    EXPECT(call(SYS_membarrier, QUERY, 0, 0, 0, 0, 0) & 511, 511);
    EXPECT(in_child(registered), 0);
    EXPECT(call(SYS_membarrier, PRIVATE, 0, 0, 0, 0, 0), -EPERM); /* the child's is its own */
}
