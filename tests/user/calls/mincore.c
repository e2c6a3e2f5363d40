/* SPDX-License-Identifier: MIT */
/*
 * mincore(2).
 */
#include "calls.h"

#include <sys/stat.h>

static const struct documented documented[] = {
    {EAGAIN, "needs no memory of its own here"},
    {EFAULT, NULL},
    {EINVAL, NULL},
    {ENOMEM, NULL},
};

/* What is in memory of others' files is theirs to know: it is said to be all there. */
static void
others_file(void)
{
    EXPECT(resident(AT(FILE_RO_AT)), 1);
    EXPECT(call(NR_MMAP, AT(FREE_AT), page, PROT_READ, MAP_SHARED | MAP_FIXED, file_ro,
                OFFSET(64 * page)),
           AT(FREE_AT));
    EXPECT(resident(AT(FREE_AT)), 0);
    EXPECT(fchmod(file_ro, 0644), 0);
    become_nobody();
    EXPECT(resident(AT(FREE_AT)), 1);
    EXPECT(resident(AT(RO_AT)), 0); /* one's own memory */
}

CALL(mincore, SYS_mincore, documented)
{
    static unsigned char vector[32];
    long out = (long)vector;
#define MINCORE(what, address, length, vector, want, flags)                \
    {                                                                      \
        what, SYS_mincore, {address, length, vector, 0, 0, 0}, want, flags \
    }
    const struct row rows[] = {
        MINCORE("not a page's start", AT(0) + 1, page, out, -EINVAL, 0),
        MINCORE("past the end", USER_END, page, out, -ENOMEM, 0),
        MINCORE("longer than memory", AT(0), LONG_MAX, out, -ENOMEM, 0),
        MINCORE("a negative length", AT(0), -page, out, -ENOMEM, 0),
        MINCORE("a hole", AT(HOLE_AT), page, out, -ENOMEM, 0),
        MINCORE("runs into a hole", AT(3), 2 * page, out, -ENOMEM, 0),
        MINCORE("no vector", AT(0), page, 8, -EFAULT, 0),
        MINCORE("a vector of the kernel", AT(0), page, -page, -EFAULT, 0),
        MINCORE("a vector that is not writable", AT(0), page, AT(RO_AT), -EFAULT, 0),
        MINCORE("no vector, no length", AT(0), 0, 8, 0, 0),
        MINCORE("no length", AT(HOLE_AT), 0, out, 0, 0),
        MINCORE("a page", AT(0), page, out, 0, 0),
        MINCORE("part of a page", AT(0), 1, out, 0, 0),
        MINCORE("across kinds", AT(SHARED_AT), 17 * page, out, 0, 0),
    };
    RUN(rows);

    /* A vector of which a part is not writable. */
    arena_make();
    EXPECT(call(SYS_mincore, AT(SHARED_AT), 4 * page, AT(RO_AT) - 2, 0, 0, 0), -EFAULT);
    EXPECT(call(SYS_mincore, AT(SHARED_AT), 4 * page, AT(HOLE_AT) - 2, 0, 0, 0), -EFAULT);
    EXPECT(in_child(others_file), 0);

    arena_make();
    EXPECT(resident(AT(3)), 1);
    EXPECT(resident(AT(NONE_AT)), 0);
    EXPECT(resident(AT(SHARED_AT)), 1);
    EXPECT(madvise((void *)AT(SHARED_AT), (size_t)page, MADV_DONTNEED), 0);
    EXPECT(resident(AT(SHARED_AT)), 1); /* in memory, if not mapped */
    EXPECT(resident(AT(FILE_RO_AT)), 1);
    EXPECT(resident(AT(FILE_SHARED_AT + 2)), 0);
    memset(vector, 0xee, sizeof(vector));
    EXPECT(call(SYS_mincore, AT(2), 2 * page + 1, (long)vector, 0, 0, 0), -ENOMEM);
    EXPECT(call(SYS_mincore, AT(2), page + 1, (long)vector, 0, 0, 0), 0);
    EXPECT((vector[0] & vector[1] & 1) == 1 && vector[2] == 0xee, true);
}
