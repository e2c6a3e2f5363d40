/* SPDX-License-Identifier: MIT */
/*
 * mbind(2).
 */
#include "calls.h"
#include "policy.h"

#ifndef SYS_set_mempolicy_home_node
#define SYS_set_mempolicy_home_node 450
#endif

static unsigned long node0 = 1, none, far_away = 1ul << 31;

#define MBIND(what, address, length, mode, nodes, flags, want)                                     \
    {                                                                                              \
        what, SYS_mbind,                                                                           \
            {address, length, mode, (long)(nodes), (nodes) == NULL ? 0 : NODES_BITS, flags}, want, \
            0                                                                                      \
    }

static void
rows(void)
{
    const struct row rows[] = {
        MBIND("no such mode", AT(0), page, 99, &node0, 0, -EINVAL),
        MBIND("static and relative", AT(0), page,
              MPOL_BIND | MPOL_F_STATIC_NODES | MPOL_F_RELATIVE_NODES, &node0, 0, -EINVAL),
        MBIND("flags that are none", AT(0), page, MPOL_BIND, &node0, 16, -EINVAL),
        MBIND("not a page's start", AT(0) + 1, page, MPOL_BIND, &node0, 0, -EINVAL),
        MBIND("end wraps", AT(0), -page, MPOL_BIND, &node0, 0, -EINVAL),
        MBIND("bind to none", AT(0), page, MPOL_BIND, &none, 0, -EINVAL),
        MBIND("bind to a node that is not", AT(0), page, MPOL_BIND, &far_away, 0, -EINVAL),
        MBIND("default with nodes", AT(0), page, MPOL_DEFAULT, &node0, 0, -EINVAL),
        MBIND("no memory at the nodes", AT(0), page, MPOL_BIND, (void *)8, 0, -EFAULT),
        MBIND("a hole", AT(HOLE_AT), page, MPOL_BIND, &node0, 0, -EFAULT),
        MBIND("starts in a hole", AT(HOLE_AT), 4 * page, MPOL_BIND, &node0, 0, -EFAULT),
        MBIND("runs into a hole", AT(0), 5 * page, MPOL_BIND, &node0, 0, -EFAULT),
        MBIND("across a hole", AT(0), 8 * page, MPOL_BIND, &node0, 0, -EFAULT),
        MBIND("no length", AT(0), 0, MPOL_BIND, &node0, 0, 0),
        MBIND("no length, nodes that go with nothing", AT(0), 0, MPOL_BIND, &none, 0, 0),
        MBIND("default across a hole", AT(0), 8 * page, MPOL_DEFAULT, NULL, 0, 0),
        MBIND("bind", AT(0), 2 * page, MPOL_BIND, &node0, 0, 0),
        MBIND("bind, pages follow", AT(0), 4 * page, MPOL_BIND, &node0, MPOL_MF_MOVE, 0),
        MBIND("bind, pages must follow", AT(0), 4 * page, MPOL_BIND, &node0,
              MPOL_MF_MOVE | MPOL_MF_STRICT, 0),
        MBIND("bind, all pages", AT(0), 4 * page, MPOL_BIND, &node0, MPOL_MF_MOVE_ALL, 0),
        MBIND("shared", AT(SHARED_AT), 2 * page, MPOL_INTERLEAVE, &node0, 0, 0),
        MBIND("a file", AT(FILE_SHARED_AT), page, MPOL_PREFERRED, &node0, 0, 0),
        MBIND("local", AT(0), page, MPOL_LOCAL, NULL, 0, 0),
    };

    RUN(rows);
}

static long
policy_at(long address, unsigned long *node)
{
    unsigned long nodes[16];
    int word = -1;

    EXPECT(call(SYS_get_mempolicy, (long)&word, (long)nodes, 16 * 8 * (long)sizeof(long) + 1,
                address, MPOL_F_ADDR, 0),
           0);
    *node = nodes[0];
    return word;
}

static void
child_has_it(void)
{
    unsigned long nodes;

    EXPECT(policy_at(AT(1), &nodes), MPOL_BIND);
}

static void
unprivileged(void)
{
    become_nobody();
    EXPECT(call(SYS_mbind, AT(0), page, MPOL_BIND, (long)&node0, NODES_BITS, MPOL_MF_MOVE_ALL),
           -EPERM);
}

/* One line of numa_maps starts with @address and has @policy; it starts a region of its own. */
static bool
numa_maps_has(long address, const char *policy)
{
    char wanted[64], line[512];
    bool found = false;
    FILE *file = fopen("/proc/self/numa_maps", "r");

    snprintf(wanted, sizeof(wanted), "%08lx %s ", address, policy);
    while (file != NULL && fgets(line, sizeof(line), file) != NULL)
        found = found || strncmp(line, wanted, strlen(wanted)) == 0;
    if (file != NULL)
        fclose(file);
    return found;
}

/* A split needs one mapping more than there may be. */
static void
full(void)
{
    EXPECT(call(SYS_mbind, AT(1), page, MPOL_BIND, (long)&node0, NODES_BITS, 0), -ENOMEM);
    EXPECT(call(SYS_mbind, AT(0), 4 * page, MPOL_BIND, (long)&node0, NODES_BITS, 0), 0);
}

static const struct documented documented[] = {
    {EFAULT, NULL}, {EINVAL, NULL}, {EIO, "needs pages on a second node: tests/boot/numa.sh"},
    {ENOMEM, NULL}, {EPERM, NULL},
};

CALL(mbind, SYS_mbind, documented)
{
    unsigned long nodes;

    rows();
    arena_make();
    EXPECT(call(SYS_mbind, AT(1), 2 * page, MPOL_BIND, (long)&node0, NODES_BITS, 0), 0);
    EXPECT(policy_at(AT(0), &nodes), MPOL_DEFAULT);
    EXPECT(policy_at(AT(1), &nodes), MPOL_BIND);
    EXPECT(nodes, 1);
    EXPECT(policy_at(AT(2), &nodes), MPOL_BIND);
    EXPECT(policy_at(AT(3), &nodes), MPOL_DEFAULT);
    EXPECT(numa_maps_has(AT(0), "default"), true);
    EXPECT(numa_maps_has(AT(1), "bind:0"), true);
    EXPECT(numa_maps_has(AT(3), "default"), true);
    EXPECT(in_child(child_has_it), 0);
    /* The same again makes one region of two. */
    EXPECT(call(SYS_mbind, AT(0), page, MPOL_BIND, (long)&node0, NODES_BITS, 0), 0);
    EXPECT(numa_maps_has(AT(0), "bind:0"), true);
    EXPECT(numa_maps_has(AT(1), "bind:0"), false);
    EXPECT(call(SYS_set_mempolicy_home_node, AT(0), page, 0, 0, 0, 0), 0);
    EXPECT(call(SYS_mbind, AT(0), 4 * page, MPOL_INTERLEAVE, (long)&node0, NODES_BITS, 0), 0);
    EXPECT(call(SYS_set_mempolicy_home_node, AT(0), page, 0, 0, 0, 0), -EOPNOTSUPP);
    EXPECT(numa_maps_has(AT(0), "interleave:0"), true);
    EXPECT(call(SYS_mbind, AT(0), 4 * page, MPOL_INTERLEAVE | MPOL_F_STATIC_NODES, (long)&node0,
                NODES_BITS, 0),
           0);
    EXPECT(numa_maps_has(AT(0), "interleave=static:0"), true);
    EXPECT(call(SYS_mbind, AT(0), 4 * page, MPOL_BIND | MPOL_F_RELATIVE_NODES, (long)&node0,
                NODES_BITS, 0),
           0);
    EXPECT(numa_maps_has(AT(0), "bind=relative:0"), true);
    if (on_own_machine()) { /* Linux before 6.12 does not name it */
        EXPECT(call(SYS_mbind, AT(0), 4 * page, MPOL_BIND | MPOL_F_NUMA_BALANCING, (long)&node0,
                    NODES_BITS, 0),
               0);
        EXPECT(numa_maps_has(AT(0), "bind=balancing:0"), true);
        EXPECT(call(SYS_mbind, AT(0), 4 * page,
                    MPOL_BIND | MPOL_F_STATIC_NODES | MPOL_F_NUMA_BALANCING, (long)&node0,
                    NODES_BITS, 0),
               0);
        EXPECT(numa_maps_has(AT(0), "bind=static|balancing:0"), true);
    }
    EXPECT(call(SYS_mbind, AT(0), 4 * page, MPOL_DEFAULT, 0, 0, 0), 0);
    EXPECT(numa_maps_has(AT(0), "default"), true);
    EXPECT(numa_maps_has(AT(1), "default"), false);
    EXPECT(PTR(1)[0], 'B');

    /* Of shared memory it is the object's: another mapping of it has it, too. */
    EXPECT(call(SYS_mbind, AT(SHARED_AT + 1), page, MPOL_PREFERRED, (long)&node0, NODES_BITS, 0),
           0);
    EXPECT(
        call(SYS_mremap, AT(SHARED_AT), 0, 4 * page, MREMAP_MAYMOVE | MREMAP_FIXED, AT(FREE_AT), 0),
        AT(FREE_AT));
    EXPECT(policy_at(AT(FREE_AT), &nodes), MPOL_DEFAULT);
    EXPECT(policy_at(AT(FREE_AT + 1), &nodes), MPOL_PREFERRED);
    EXPECT(policy_at(AT(FREE_AT + 2), &nodes), MPOL_DEFAULT);
    EXPECT(in_child(unprivileged), 0);
    at_map_limit(full);
}
