/* SPDX-License-Identifier: MIT */
/*
 * Locking memory: mlock and its family; and mappings: mseal, as of Linux 6.10.  RLIMIT_MEMLOCK is
 * the process's: mm_apply_limits().
 */
#include "calls.h"

#define MCL_CURRENT 1u
#define MCL_FUTURE  2u
#define MCL_ONFAULT 4u

/* ---- locking --------------------------------------------------------------------------------- */

/* Would so much more, none of it locked yet, be over RLIMIT_MEMLOCK? */
static bool
is_over_limit(uint64_t length)
{
    uint64_t pages = (length >> QR_PAGE_SHIFT) + current_space()->counts.locked_pages;

    return pages > process_limit(RLIMIT_MEMLOCK) >> QR_PAGE_SHIFT &&
           !process_has_capability(CAP_IPC_LOCK);
}

static int64_t
lock_range(uint64_t start, uint64_t length, enum qr_lock_mode mode)
{
    uint64_t offset = start & QR_PAGE_MASK;
    enum qr_status status;

    if (mode != QR_UNLOCK && !may_lock())
        return -EPERM;
    length += offset;
    start -= offset;
    (void)round_length(&length);
    /* The limit comes first, even where there is nothing to lock. */
    if (length == 0)
        return mode != QR_UNLOCK && is_over_limit(0) ? -ENOMEM : 0;
    if (range_wraps(start, length))
        return mode != QR_UNLOCK && is_over_limit(length) ? -ENOMEM : -EINVAL;
    status = MM_RETRY(current_space(),
                      qr_space_lock_pages(current_space(), qr_va_of(start), length, mode));
    return status == QR_ERR_RANGE || status == QR_ERR_FAULT ? -ENOMEM : error_of(status);
}

int64_t
sys_mlock(const struct syscall_args *args)
{
    return lock_range(args->arg[0], args->arg[1], QR_LOCK_NOW);
}

int64_t
sys_mlock2(const struct syscall_args *args)
{
    if ((uint32_t)args->arg[2] & ~1u)
        return -EINVAL;
    return lock_range(args->arg[0], args->arg[1],
                      args->arg[2] & 1 ? QR_LOCK_ON_FAULT : QR_LOCK_NOW);
}

int64_t
sys_munlock(const struct syscall_args *args)
{
    return lock_range(args->arg[0], args->arg[1], QR_UNLOCK);
}

int64_t
sys_mlockall(const struct syscall_args *args)
{
    uint32_t flags = (uint32_t)args->arg[0];
    enum qr_lock_mode mode = flags & MCL_ONFAULT ? QR_LOCK_ON_FAULT : QR_LOCK_NOW;

    if (flags == 0 || flags == MCL_ONFAULT || (flags & ~(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT)))
        return -EINVAL;
    if (!may_lock())
        return -EPERM;
    return error_of(qr_space_lock_all(current_space(), flags & MCL_CURRENT ? mode : QR_UNLOCK,
                                      flags & MCL_FUTURE ? mode : QR_UNLOCK));
}

int64_t
sys_munlockall(const struct syscall_args *args)
{
    (void)args;
    return error_of(qr_space_lock_all(current_space(), QR_UNLOCK, QR_UNLOCK));
}

/* ---- sealing --------------------------------------------------------------------------------- */

int64_t
sys_mseal(const struct syscall_args *args)
{
    uint64_t start = args->arg[0], length = args->arg[1];

    if (args->arg[2] != 0 || (start & QR_PAGE_MASK) != 0 || !round_length(&length) ||
        range_wraps(start, length))
        return -EINVAL;
    if (length == 0)
        return 0;
    return mapped_error_of(qr_space_seal(current_space(), qr_va_of(start), length));
}
