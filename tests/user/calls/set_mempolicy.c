/* SPDX-License-Identifier: MIT */
/*
 * set_mempolicy(2) and get_mempolicy(2): the errors, on a machine of one node or more, and
 * that each tells what the other was told.
 */
#include "calls.h"
#include "policy.h"

static unsigned long node0 = 1, none, far_away = 1ul << 31, fifth = 1ul << 5;

#define SET(what, mode, nodes, bits, want)                                    \
    {                                                                         \
        "set: " what, SYS_set_mempolicy, {mode, (long)(nodes), bits}, want, 0 \
    }
#define GET(what, word, nodes, bits, address, flags, want)                                    \
    {                                                                                         \
        "get: " what, SYS_get_mempolicy, {(long)(word), (long)(nodes), bits, address, flags}, \
            want, 0                                                                           \
    }

static void
sets(void)
{
    const struct row rows[] = {
        SET("no such mode", 99, &node0, NODES_BITS, -EINVAL),
        SET("a negative mode", -1, &node0, NODES_BITS, -EINVAL),
        SET("static and relative", MPOL_BIND | MPOL_F_STATIC_NODES | MPOL_F_RELATIVE_NODES, &node0,
            NODES_BITS, -EINVAL),
        SET("balancing of another mode", MPOL_INTERLEAVE | MPOL_F_NUMA_BALANCING, &node0,
            NODES_BITS, -EINVAL),
        SET("default with nodes", MPOL_DEFAULT, &node0, NODES_BITS, -EINVAL),
        SET("local with nodes", MPOL_LOCAL, &node0, NODES_BITS, -EINVAL),
        SET("local, static", MPOL_LOCAL | MPOL_F_STATIC_NODES, 0, 0, -EINVAL),
        SET("bind without nodes", MPOL_BIND, 0, 0, -EINVAL),
        SET("bind to none", MPOL_BIND, &none, NODES_BITS, -EINVAL),
        SET("interleave without nodes", MPOL_INTERLEAVE, &none, NODES_BITS, -EINVAL),
        SET("prefer several, none", MPOL_PREFERRED_MANY, &none, NODES_BITS, -EINVAL),
        SET("prefer none, static", MPOL_PREFERRED | MPOL_F_STATIC_NODES, &none, NODES_BITS,
            -EINVAL),
        SET("bind to a node that is not", MPOL_BIND, &far_away, NODES_BITS, -EINVAL),
        SET("no memory at the nodes", MPOL_BIND, 8, NODES_BITS, -EFAULT),
        SET("far too many nodes", MPOL_BIND, &node0, page * 8 + 2, -EINVAL),
        SET("length of nothing", MPOL_BIND, &node0, 0, -EINVAL),
        SET("length of one bit less", MPOL_BIND, &node0, 1, -EINVAL),
        SET("bind", MPOL_BIND, &node0, NODES_BITS, 0),
        SET("bind, balancing", MPOL_BIND | MPOL_F_NUMA_BALANCING, &node0, NODES_BITS, 0),
        SET("bind, static", MPOL_BIND | MPOL_F_STATIC_NODES, &node0, NODES_BITS, 0),
        SET("bind, relative", MPOL_BIND | MPOL_F_RELATIVE_NODES, &fifth, NODES_BITS, 0),
        SET("interleave", MPOL_INTERLEAVE, &node0, 2, 0),
        SET("prefer", MPOL_PREFERRED, &node0, NODES_BITS, 0),
        SET("prefer none", MPOL_PREFERRED, 0, 0, 0),
        SET("prefer several", MPOL_PREFERRED_MANY, &node0, NODES_BITS, 0),
        SET("local", MPOL_LOCAL, 0, 0, 0),
        SET("default", MPOL_DEFAULT, 0, 0, 0),
        SET("default, no nodes in the set", MPOL_DEFAULT, &none, NODES_BITS, 0),
    };

    RUN(rows);
}

static void
gets(void)
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
}

static long
policy_now(unsigned long *nodes)
{
    int word = -1;

    memset(nodes, 0xff, 16 * sizeof(long));
    EXPECT(
        call(SYS_get_mempolicy, (long)&word, (long)nodes, 16 * 8 * (long)sizeof(long) + 1, 0, 0, 0),
        0);
    return word;
}

static void
child_has_it(void)
{
    unsigned long nodes[16];

    EXPECT(policy_now(nodes), MPOL_INTERLEAVE);
}

CALL(set_mempolicy)
{
    static const int modes[] = {MPOL_BIND,
                                MPOL_INTERLEAVE,
                                MPOL_PREFERRED,
                                MPOL_PREFERRED_MANY,
                                MPOL_BIND | MPOL_F_STATIC_NODES,
                                MPOL_BIND | MPOL_F_NUMA_BALANCING};
    unsigned long nodes[16];
    int word = -1;

    sets();
    gets();
    EXPECT(policy_now(nodes), MPOL_DEFAULT);
    EXPECT(nodes[0] | nodes[15], 0);
    for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
        EXPECT(call(SYS_set_mempolicy, modes[i], (long)&node0, NODES_BITS, 0, 0, 0), 0);
        EXPECT(policy_now(nodes), modes[i]);
        EXPECT(nodes[0] == 1 && nodes[15] == 0, true);
    }
    EXPECT(call(SYS_set_mempolicy, MPOL_PREFERRED, 0, 0, 0, 0, 0), 0);
    EXPECT(policy_now(nodes), MPOL_LOCAL);
    EXPECT(nodes[0], 0);

    /* Children and exec keep it; a mapping's own is another. */
    EXPECT(call(SYS_set_mempolicy, MPOL_INTERLEAVE, (long)&node0, NODES_BITS, 0, 0, 0), 0);
    EXPECT(call(SYS_get_mempolicy, (long)&word, 0, 0, 0, MPOL_F_NODE, 0), 0);
    EXPECT(word, 0);
    EXPECT(in_child(child_has_it), 0);
    EXPECT(touch(AT(1), TOUCH_WRITE), 0);
    EXPECT(call(SYS_set_mempolicy, MPOL_DEFAULT, 0, 0, 0, 0, 0), 0);
}
