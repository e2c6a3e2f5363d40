/* SPDX-License-Identifier: MIT */
/*
 * move_pages(2) and migrate_pages(2).
 */
#include "calls.h"
#include "policy.h"

static unsigned long node0 = 1, none, far_away = 1ul << 31;
static long pages[4];
static int nodes[4], status[4];

#define MOVE(what, pid, count, pages, nodes, status, flags, want)                      \
    {                                                                                  \
        "move: " what, SYS_move_pages,                                                 \
            {pid, count, (long)(pages), (long)(nodes), (long)(status), flags}, want, 0 \
    }
#define MIGRATE(what, pid, bits, old, new, want)                                            \
    {                                                                                       \
        "migrate: " what, SYS_migrate_pages, {pid, bits, (long)(old), (long)(new)}, want, 0 \
    }

static void
unprivileged(void)
{
    EXPECT(syscall(SYS_setresuid, 65534, 65534, 65534), 0);
    EXPECT(call(SYS_move_pages, 0, 0, 0, 0, 0, MPOL_MF_MOVE_ALL), -EPERM);
    EXPECT(call(SYS_move_pages, 1, 0, 0, 0, 0, MPOL_MF_MOVE), -EPERM);
    EXPECT(call(SYS_migrate_pages, 1, NODES_BITS, (long)&node0, (long)&node0, 0, 0), -EPERM);
}

CALL(move_pages)
{
    for (int i = 0; i < 4; i++)
        pages[i] = AT(i);
    const struct row rows[] = {
        MOVE("flags that are none", 0, 1, pages, nodes, status, 1, -EINVAL),
        MOVE("no such process", 1 << 22, 1, pages, nodes, status, 0, -ESRCH),
        MOVE("no memory at the pages", 0, 1, 8, 0, status, 0, -EFAULT),
        MOVE("no memory at the nodes", 0, 1, pages, 8, status, 0, -EFAULT),
        MOVE("no memory at the status", 0, 1, pages, 0, 8, 0, -EFAULT),
        MOVE("nothing", 0, 0, 0, 0, 0, 0, 0),
        MOVE("ask", 0, 4, pages, 0, status, 0, 0),
        MOVE("to where they are", 0, 4, pages, nodes, status, MPOL_MF_MOVE, 0),
        MIGRATE("no such process", 1 << 22, NODES_BITS, &node0, &node0, -ESRCH),
        MIGRATE("no memory at the old", 0, NODES_BITS, 8, &node0, -EFAULT),
        MIGRATE("no memory at the new", 0, NODES_BITS, &node0, 8, -EFAULT),
        MIGRATE("far too many nodes", 0, page * 8 + 2, &node0, &node0, -EINVAL),
        MIGRATE("to none", 0, NODES_BITS, &node0, &none, -EINVAL),
        MIGRATE("to a node that is not", 0, NODES_BITS, &node0, &far_away, -EINVAL),
        MIGRATE("from none", 0, NODES_BITS, &none, &node0, 0),
        MIGRATE("to where they are", 0, NODES_BITS, &node0, &node0, 0),
    };
    int far[1] = {31}, negative[1] = {-1};

    RUN(rows);
    arena_make();
    pages[0] = AT(0) + 17; /* any byte of it */
    pages[1] = AT(HOLE_AT);
    pages[2] = AT(NONE_AT);
    pages[3] = AT(RO_AT);
    EXPECT(touch(AT(RO_AT), TOUCH_READ), 0); /* the page of zeroes is nobody's */
    EXPECT(call(SYS_move_pages, 0, 4, (long)pages, 0, (long)status, 0), 0);
    EXPECT(status[0], 0);
    EXPECT(status[1], -EFAULT);
    EXPECT(status[2], -ENOENT);
    EXPECT(status[3], -EFAULT);
    EXPECT(call(SYS_move_pages, 0, 1, (long)pages, (long)far, (long)status, 0), -ENODEV);
    EXPECT(call(SYS_move_pages, 0, 1, (long)pages, (long)negative, (long)status, 0), -ENODEV);
    EXPECT(in_child(unprivileged), 0);
}
