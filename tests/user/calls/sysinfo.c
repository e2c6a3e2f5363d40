/* SPDX-License-Identifier: MIT */
/*
 * sysinfo(2).
 */
#include "calls.h"

#include <sys/sysinfo.h>

static const struct documented documented[] = {{EFAULT, NULL}};

CALL(sysinfo, SYS_sysinfo, documented)
{
    static struct sysinfo info;
    const struct row rows[] = {
        {"no memory", SYS_sysinfo, {8}, -EFAULT, 0},
        {"nothing", SYS_sysinfo, {0}, -EFAULT, 0},
        {"memory that is not writable", SYS_sysinfo, {AT(RO_AT)}, -EFAULT, 0},
        {"memory", SYS_sysinfo, {(long)&info}, 0, 0},
    };

    RUN(rows);
    EXPECT(info.mem_unit != 0 && info.totalram > info.freeram && info.freeram > 0, true);
    EXPECT(info.procs > 0 && info.freeswap <= info.totalswap, true);
}
