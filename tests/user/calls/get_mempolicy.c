/* SPDX-License-Identifier: MIT */
/*
 * get_mempolicy(2).
 */
#include "calls.h"
#include "policy.h"

#define GET(what, word, nodes, bits, address, flags, want)                                    \
    {                                                                                         \
        what, SYS_get_mempolicy, {(long)(word), (long)(nodes), bits, address, flags}, want, 0 \
    }

static const struct documented documented[] = {
    {EFAULT, NULL},
    {EINVAL, NULL},
};

CALL(get_mempolicy, SYS_get_mempolicy, documented)
{
    static unsigned long nodes[32];
    static int word;
    const struct row rows[] = {
        GET("flags that are none", &word, nodes, 1024, 0, 8, -EINVAL),
        GET("allowed and node", &word, nodes, 1024, 0, MPOL_F_MEMS_ALLOWED | MPOL_F_NODE, -EINVAL),
        GET("allowed and address", &word, nodes, 1024, AT(0), MPOL_F_MEMS_ALLOWED | MPOL_F_ADDR,
            -EINVAL),
        GET("an address without its flag", &word, nodes, 1024, AT(0), 0, -EINVAL),
        GET("too few nodes", &word, nodes, 0, 0, 0, -EINVAL),
        GET("a node without interleaving", &word, 0, 0, 0, MPOL_F_NODE, -EINVAL),
        GET("a hole", &word, nodes, 1024, AT(HOLE_AT), MPOL_F_ADDR, -EFAULT),
        GET("the node of a hole", &word, 0, 0, AT(HOLE_AT), MPOL_F_NODE | MPOL_F_ADDR, -EFAULT),
        GET("no memory at the mode", 8, nodes, 1024, 0, 0, -EFAULT),
        GET("no memory at the nodes", &word, 8, 1024, 0, 0, -EFAULT),
        GET("everything", &word, nodes, 1024, 0, 0, 0),
        GET("nothing", 0, 0, 0, 0, 0, 0),
        GET("allowed", 0, nodes, 1024, 0, MPOL_F_MEMS_ALLOWED, 0),
        GET("a page's policy", &word, nodes, 1024, AT(0), MPOL_F_ADDR, 0),
        GET("a page's node", &word, 0, 0, AT(0), MPOL_F_ADDR | MPOL_F_NODE, 0),
    };

    RUN(rows);

    word = -1;
    EXPECT(call(SYS_get_mempolicy, (long)&word, (long)nodes, 1024, 0, 0, 0), 0);
    EXPECT(word == MPOL_DEFAULT && nodes[0] == 0, true);
    EXPECT(call(SYS_get_mempolicy, 0, (long)nodes, 1024, 0, MPOL_F_MEMS_ALLOWED, 0), 0);
    EXPECT(nodes[0] & 1, 1);
    arena_make();
    EXPECT(call(SYS_mbind, AT(1), page, MPOL_INTERLEAVE, (long)nodes, NODES_BITS, 0), 0);
    EXPECT(call(SYS_get_mempolicy, (long)&word, (long)nodes, 1024, AT(1), MPOL_F_ADDR, 0), 0);
    EXPECT(word, MPOL_INTERLEAVE);
    EXPECT(call(SYS_get_mempolicy, (long)&word, (long)nodes, 1024, AT(2), MPOL_F_ADDR, 0), 0);
    EXPECT(word, MPOL_DEFAULT);
}
