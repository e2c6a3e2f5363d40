/* SPDX-License-Identifier: MIT */
/*
 * pkey_alloc(2).  What keys do is in pkey_mprotect.c.
 */
#include "calls.h"

static const struct documented documented[] = {
    {EINVAL, NULL},
    {ENOSPC, NULL},
};

CALL(pkey_alloc, SYS_pkey_alloc, documented)
{
    const struct row rows[] = {
        {"flags", SYS_pkey_alloc, {1, 0}, -EINVAL, 0},
        {"rights that are none", SYS_pkey_alloc, {0, 4}, -EINVAL, 0},
        {"flags and rights", SYS_pkey_alloc, {-1, -1}, -EINVAL, 0},
    };
    long key, taken = 0;

    RUN(rows);
    while ((key = call(SYS_pkey_alloc, 0, taken & 3, 0, 0, 0, 0)) > 0)
        EXPECT(key, ++taken); /* the lowest that is free */
    EXPECT(key == -ENOSPC || (!on_quire() && key == -EINVAL), true);
    EXPECT(taken == 0 || taken == 14 || taken == 15, true); /* a machine may have none */
    for (long i = 1; i <= taken; i++)
        EXPECT(call(SYS_pkey_free, i, 0, 0, 0, 0, 0), 0);
}
