/* SPDX-License-Identifier: MIT */
/*
 * Advice about memory, what of it is there, and writing it back: madvise, mincore, msync.
 */
#include "calls.h"

#define MS_ASYNC      1u
#define MS_INVALIDATE 2u
#define MS_SYNC       4u

/* ---- advice ------------------------------------------------------------------------------- */

struct advice_row {
    int number;
    enum qr_advice advice;
};

static const struct advice_row advice_rows[] = {
    {0, QR_ADVICE_NORMAL},          {1, QR_ADVICE_RANDOM},
    {2, QR_ADVICE_SEQUENTIAL},      {3, QR_ADVICE_WILL_NEED},
    {4, QR_ADVICE_DONT_NEED},       {8, QR_ADVICE_FREE},
    {9, QR_ADVICE_REMOVE},          {10, QR_ADVICE_DONT_FORK},
    {11, QR_ADVICE_DO_FORK},        {12, QR_ADVICE_MERGEABLE},
    {13, QR_ADVICE_UNMERGEABLE},    {14, QR_ADVICE_HUGE},
    {15, QR_ADVICE_NO_HUGE},        {16, QR_ADVICE_DONT_DUMP},
    {17, QR_ADVICE_DO_DUMP},        {18, QR_ADVICE_WIPE_ON_FORK},
    {19, QR_ADVICE_KEEP_ON_FORK},   {20, QR_ADVICE_COLD},
    {21, QR_ADVICE_PAGE_OUT},       {22, QR_ADVICE_POPULATE_READ},
    {23, QR_ADVICE_POPULATE_WRITE}, {24, QR_ADVICE_DONT_NEED_LOCKED},
};

static const struct advice_row *
find_advice(int number)
{
    for (size_t i = 0; i < QR_ARRAY_COUNT(advice_rows); i++) {
        if (advice_rows[i].number == number)
            return &advice_rows[i];
    }
    return NULL;
}

static int64_t
advise(struct qr_space *space, uint64_t start, uint64_t length, int number)
{
    const struct advice_row *row = find_advice(number);
    uint64_t rounded = length;

    if (row == NULL || (start & QR_PAGE_MASK))
        return -EINVAL;
    if (!round_length(&rounded) || range_wraps(start, rounded))
        return -EINVAL;
    if (rounded == 0)
        return 0;
    enum qr_status status = qr_space_advise(space, qr_va_of(start), rounded, row->advice);

    return mapped_error_of(status);
}

int64_t
sys_madvise(const struct syscall_args *args)
{
    return advise(current_space(), args->arg[0], args->arg[1], (int)args->arg[2]);
}

int64_t
sys_process_madvise(const struct syscall_args *args)
{
    (void)args;
    return -ENOSYS; /* needs process file descriptors */
}

/* ---- looking and syncing ------------------------------------------------------------------------ */

int64_t
sys_mincore(const struct syscall_args *args)
{
    uint64_t start = args->arg[0], length = args->arg[1], out = args->arg[2];
    uint8_t present[256];

    if (start & QR_PAGE_MASK)
        return -EINVAL;
    if (!is_in_user_half(start, length))
        return -ENOMEM;
    if (!round_length(&length))
        return -ENOMEM;
    for (uint64_t pages = length >> QR_PAGE_SHIFT; pages > 0;) {
        size_t now = pages < sizeof(present) ? (size_t)pages : sizeof(present);
        enum qr_status status = qr_space_resident(current_space(), qr_va_of(start), now, present);

        if (status != QR_OK)
            return mapped_error_of(status);
        if (user_write(out, present, now) != 0)
            return -EFAULT;
        pages -= now;
        start += now << QR_PAGE_SHIFT;
        out += now;
    }
    return 0;
}

int64_t
sys_msync(const struct syscall_args *args)
{
    uint64_t start = args->arg[0], length = args->arg[1], flags = args->arg[2];
    enum qr_status status;

    if (flags & ~(uint64_t)(MS_ASYNC | MS_INVALIDATE | MS_SYNC))
        return -EINVAL;
    if (start & QR_PAGE_MASK)
        return -EINVAL;
    if ((flags & MS_ASYNC) && (flags & MS_SYNC))
        return -EINVAL;
    (void)round_length(&length);
    if (range_wraps(start, length))
        return -ENOMEM;
    if (length == 0)
        return 0;
    status = qr_space_sync(current_space(), qr_va_of(start), length, (flags & MS_SYNC) != 0,
                           (flags & MS_INVALIDATE) != 0);
    return mapped_error_of(status);
}
