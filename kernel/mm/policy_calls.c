/* SPDX-License-Identifier: MIT */
/*
 * Memory policies.
 */
#include "calls.h"

/* ---- memory policy: one node until NUMA arrives ---------------------------------------------------- */

int64_t
sys_mbind(const struct syscall_args *args)
{
    if (args->arg[0] & QR_PAGE_MASK)
        return -EINVAL;
    return 0;
}

int64_t
sys_get_mempolicy(const struct syscall_args *args)
{
    if (args->arg[0] != 0 && user_write_u32(args->arg[0], 0) != 0)
        return -EFAULT;
    return 0;
}

int64_t
sys_set_mempolicy(const struct syscall_args *args)
{
    return args->arg[0] > 5 ? -EINVAL : 0;
}
