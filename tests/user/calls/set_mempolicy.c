/* SPDX-License-Identifier: MIT */
/*
 * set_mempolicy(2): the errors, on a machine of one node or more, and that get_mempolicy tells what
 * it was told.
 */
#include "calls.h"
#include "policy.h"

static unsigned long node0 = 1, none, far_away = 1ul << 31, fifth = 1ul << 5;

#define SET(what, mode, nodes, bits, want)                            \
    {                                                                 \
        what, SYS_set_mempolicy, {mode, (long)(nodes), bits}, want, 0 \
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

static const struct documented documented[] = {
    {EFAULT, NULL},
    {EINVAL, NULL},
    {ENOMEM, "needs no memory of its own here"},
};

CALL(set_mempolicy, SYS_set_mempolicy, documented)
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
