/* SPDX-License-Identifier: MIT */
/*
 * set_mempolicy_home_node(2).
 */
#include "calls.h"
#include "policy.h"

#ifndef SYS_set_mempolicy_home_node
#define SYS_set_mempolicy_home_node 450
#endif

static unsigned long node0 = 1;

#define HOME(what, address, length, node, flags, want)                             \
    {                                                                              \
        what, SYS_set_mempolicy_home_node, {address, length, node, flags}, want, 0 \
    }

static const struct documented documented[] = {
    {EINVAL, NULL},
    {ENOENT, NULL},
    {EOPNOTSUPP, NULL},
};

CALL(set_mempolicy_home_node, SYS_set_mempolicy_home_node, documented)
{
    const struct row rows[] = {
        HOME("not a page's start", AT(0) + 1, page, 0, 0, -EINVAL),
        HOME("flags", AT(0), page, 0, 1, -EINVAL),
        HOME("a node that is not", AT(0), page, 31, 0, -EINVAL),
        HOME("a node that cannot be", AT(0), page, 1 << 20, 0, -EINVAL),
        HOME("end wraps", AT(0), -page, 0, 0, -EINVAL),
        HOME("no length", AT(0), 0, 0, 0, 0),
        HOME("no policy there", AT(0), page, 0, 0, -ENOENT),
        HOME("a hole", AT(HOLE_AT), page, 0, 0, -ENOENT),
    };

    RUN(rows);
    arena_make();
    EXPECT(call(SYS_mbind, AT(0), page, MPOL_INTERLEAVE, (long)&node0, NODES_BITS, 0), 0);
    EXPECT(call(SYS_set_mempolicy_home_node, AT(0), page, 0, 0, 0, 0), -EOPNOTSUPP);
    EXPECT(call(SYS_mbind, AT(1), page, MPOL_BIND, (long)&node0, NODES_BITS, 0), 0);
    EXPECT(call(SYS_set_mempolicy_home_node, AT(1), page, 0, 0, 0, 0), 0);
    EXPECT(call(SYS_mbind, AT(2), page, MPOL_PREFERRED_MANY, (long)&node0, NODES_BITS, 0), 0);
    EXPECT(call(SYS_set_mempolicy_home_node, AT(2), page, 0, 0, 0, 0), 0);
}
