/* SPDX-License-Identifier: MIT */
/*
 * times(2).
 */
#include "calls.h"

#include <sys/times.h>

static const struct documented documented[] = {{EFAULT, NULL}};

CALL(times, SYS_times, documented)
{
    static struct tms spent;
    const struct row rows[] = {
        {"no memory", SYS_times, {8}, -EFAULT, 0},
        {"memory that is not writable", SYS_times, {AT(RO_AT)}, -EFAULT, 0},
        {"nothing", SYS_times, {0}, ANY_VALUE, 0},
        {"memory", SYS_times, {(long)&spent}, ANY_VALUE, 0},
    };
    clock_t start = times(NULL);

    RUN(rows);
    EXPECT(times(&spent) >= start, true);
    EXPECT(spent.tms_utime >= 0 && spent.tms_stime >= 0 && spent.tms_cstime >= 0, true);
}
