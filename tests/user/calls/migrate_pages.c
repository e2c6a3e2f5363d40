/* SPDX-License-Identifier: MIT */
/*
 * migrate_pages(2).
 */
#include "calls.h"
#include "policy.h"

static unsigned long node0 = 1, none, far_away = 1ul << 31;

#define MIGRATE(what, pid, bits, old, new, want)                                \
    {                                                                           \
        what, SYS_migrate_pages, {pid, bits, (long)(old), (long)(new)}, want, 0 \
    }

static void
unprivileged(void)
{
    become_nobody();
    EXPECT(call(SYS_migrate_pages, 1, NODES_BITS, (long)&node0, (long)&node0, 0, 0), -EPERM);
}

static const struct documented documented[] = {
    {EFAULT, NULL},
    {EINVAL, NULL},
    {EPERM, NULL},
    {ESRCH, NULL},
};

CALL(migrate_pages, SYS_migrate_pages, documented)
{
    const struct row rows[] = {
        MIGRATE("no such process", 1 << 22, NODES_BITS, &node0, &node0, -ESRCH),
        MIGRATE("no memory at the old", 0, NODES_BITS, 8, &node0, -EFAULT),
        MIGRATE("no memory at the new", 0, NODES_BITS, &node0, 8, -EFAULT),
        MIGRATE("far too many nodes", 0, page * 8 + 2, &node0, &node0, -EINVAL),
        MIGRATE("to none", 0, NODES_BITS, &node0, &none, -EINVAL),
        MIGRATE("to a node that is not", 0, NODES_BITS, &node0, &far_away, -EINVAL),
        MIGRATE("from none", 0, NODES_BITS, &none, &node0, 0),
        MIGRATE("to where they are", 0, NODES_BITS, &node0, &node0, 0),
    };

    RUN(rows);
    EXPECT(in_child(unprivileged), 0);
}
