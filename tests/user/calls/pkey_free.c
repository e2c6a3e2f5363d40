/* SPDX-License-Identifier: MIT */
/*
 * pkey_free(2).  What keys do is in pkey_mprotect.c.
 */
#include "calls.h"

static const struct documented documented[] = {{EINVAL, NULL}};

CALL(pkey_free, SYS_pkey_free, documented)
{
    const struct row rows[] = {
        {"a negative key", SYS_pkey_free, {-1}, -EINVAL, 0},
        {"no such key", SYS_pkey_free, {77}, -EINVAL, 0},
        {"a key that is free", SYS_pkey_free, {9}, -EINVAL, 0},
    };
    long key;

    RUN(rows);
    key = call(SYS_pkey_alloc, 0, 0, 0, 0, 0, 0);
    if (key < 0)
        return; /* the machine has none */
    EXPECT(call(SYS_pkey_free, key, 0, 0, 0, 0, 0), 0);
    EXPECT(call(SYS_pkey_free, key, 0, 0, 0, 0, 0), -EINVAL);
    EXPECT(call(SYS_pkey_alloc, 0, 0, 0, 0, 0, 0), key);
    EXPECT(call(SYS_pkey_free, key, 0, 0, 0, 0, 0), 0);
    EXPECT(call(SYS_pkey_free, 0, 0, 0, 0, 0, 0),
           0); /* what all pages have is one like any other */
    EXPECT(call(SYS_pkey_alloc, 0, 0, 0, 0, 0, 0), 0);
    EXPECT(call(SYS_pkey_alloc, 0, 0, 0, 0, 0, 0), key);
    EXPECT(call(SYS_pkey_free, key, 0, 0, 0, 0, 0), 0);
}
