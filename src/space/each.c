/* SPDX-License-Identifier: MIT */
/*
 * Calls that work on a range region by region: mprotect, madvise, mlock.
 *
 * Linux changes what lies before the place where such a call fails, and so does
 * this.  What can fail for want of memory is reserved for the whole range before
 * anything changes: only its two ends can cut a region.  A region may merge with its
 * neighbours behind our back, so the walk goes by address.
 */
#include "hugetlb.h"

/* Does a region start below @va and end above it? */
static unsigned
cuts_at(const struct qr_space *space, qr_va va)
{
    const struct qr_region *region = qr_space_find(space, va);

    return region != NULL && region->start.v < va.v;
}

enum qr_status
qr_change_reserve_cuts(struct qr_change *change, struct qr_va_range range)
{
    struct qr_space *space = change->space;
    enum qr_status status =
        qr_change_reserve(change, cuts_at(space, range.start) + cuts_at(space, range.end));

    return status == QR_OK ? qr_large_cut(space, range) : status;
}

enum qr_status
qr_change_each(struct qr_change *change, struct qr_va_range range, enum qr_holes holes,
               qr_region_fn fn, void *context)
{
    const struct qr_space *space = change->space;
    enum qr_status status = QR_OK;
    bool hole = false;

    while (status == QR_OK && range.start.v < range.end.v) {
        struct qr_region *region = qr_space_find(space, range.start);

        if (region == NULL || region->start.v > range.start.v) {
            if (holes == QR_HOLES_STOP || region == NULL || region->start.v >= range.end.v)
                return QR_ERR_NO_MEMORY;
            hole = true;
            range.start = region->start;
        }
        struct qr_va_range piece = qr_region_clip(region, range);

        status = fn(change, region, piece, context);
        range.start = piece.end;
    }
    return status == QR_OK && hole ? QR_ERR_NO_MEMORY : status;
}

enum qr_status
qr_change_attributes(struct qr_change *change, struct qr_region *region, struct qr_va_range piece,
                     struct qr_attributes attributes)
{
    if (qr_region_is_hugetlb(region) && !qr_hugetlb_may_cut(region, piece))
        return QR_ERR_INVALID;
    if (!qr_region_may_change(region, piece, attributes))
        return QR_ERR_NO_MEMORY;
    (void)qr_region_change(change, region, piece, attributes);
    return QR_OK;
}

enum qr_status
qr_change_range(qr_va start, size_t bytes, struct qr_va_range *out_range)
{
    if ((start.v & QR_PAGE_MASK) != 0)
        return QR_ERR_RANGE;
    if (bytes == 0) {
        *out_range = qr_range_of(start.v, start.v);
        return QR_OK;
    }
    return qr_va_range_make(start.v, bytes, UINTPTR_MAX, out_range) ? QR_OK : QR_ERR_NO_MEMORY;
}

enum qr_status
qr_change_locked(struct qr_space *space, qr_va start, size_t bytes, qr_range_fn fn, void *context)
{
    struct qr_change change;
    struct qr_va_range range;
    enum qr_status status = qr_change_range(start, bytes, &range);

    if (status != QR_OK || range.start.v == range.end.v)
        return status == QR_OK ? QR_OK : QR_ERR_RANGE;
    qr_change_begin(&change, space);
    qr_rw_write_lock(&space->lock);
    status = fn(&change, range, context);
    qr_rw_write_unlock(&space->lock);
    qr_change_end(&change);
    return status;
}
