/* SPDX-License-Identifier: MIT */
/*
 * getcpu(2).
 */
#include "calls.h"

#include <sched.h>

static const struct documented documented[] = {
    {EFAULT, NULL},
};

CALL(getcpu, SYS_getcpu, documented)
{
    static unsigned cpu = 99, node = 99;
    const struct row rows[] = {
        {"neither", SYS_getcpu, {0}, 0, 0},
        {"the processor", SYS_getcpu, {(long)&cpu}, 0, 0},
        {"the node", SYS_getcpu, {0, (long)&node}, 0, 0},
        {"both, and what is not looked at", SYS_getcpu, {(long)&cpu, (long)&node, 8}, 0, 0},
        {"no memory for the processor", SYS_getcpu, {8}, -EFAULT, 0},
        {"no memory for the node", SYS_getcpu, {0, 8}, -EFAULT, 0},
    };
    cpu_set_t set, old;

    RUN(rows);
    EXPECT(cpu < 64 && node < 32, true);
    EXPECT(sched_getaffinity(0, sizeof(old), &old), 0);
    for (int i = 0; i < 8; i++) {
        if (!CPU_ISSET(i, &old))
            continue;
        CPU_ZERO(&set);
        CPU_SET(i, &set);
        EXPECT(sched_setaffinity(0, sizeof(set), &set), 0);
        EXPECT(call(SYS_getcpu, (long)&cpu, 0, 0, 0, 0, 0), 0);
        EXPECT(cpu, i);
    }
    EXPECT(sched_setaffinity(0, sizeof(old), &old), 0);
}
