/* SPDX-License-Identifier: MIT */
/*
 * Locking pages: a property of regions, exact under the space's lock, followed by
 * faulting the pages in.  Locked pages are never evicted because their regions
 * say so; nothing is counted page by page.
 *
 * Locked on fault is LOCKED and LOCKED_ON_FAULT together, as in Linux.
 */
#include "region.h"

static enum qr_status
lock_piece(struct qr_change *change, struct qr_region *region, struct qr_va_range piece,
           void *context)
{
    const enum qr_lock_mode *mode = context;
    struct qr_attributes attributes = qr_region_attributes(region);

    /* Device and huge pages are always there, or come from elsewhere than reclaim's memory. */
    if ((region->flags & QR_REGION_NEVER_LOCKED) != 0)
        return QR_OK;
    attributes.flags = (attributes.flags & ~QR_REGION_LOCK_FLAGS) | qr_lock_flags(*mode);
    return qr_change_attributes(change, region, piece, attributes);
}

/* Pages of @range that are not locked yet; as in Linux, holes count.  S. */
static size_t
lock_new_pages(const struct qr_space *space, struct qr_va_range range)
{
    size_t pages = qr_va_range_pages(range);

    for (const struct qr_region *region = qr_space_find(space, range.start);
         region != NULL && region->start.v < range.end.v; region = qr_region_next(region)) {
        if ((region->flags & QR_REGION_LOCKED) != 0)
            pages -= qr_va_range_pages(qr_region_clip(region, range));
    }
    return pages;
}

enum qr_status
qr_space_lock_pages(struct qr_space *space, qr_va start, size_t bytes, enum qr_lock_mode mode)
{
    struct qr_change change;
    struct qr_va_range range;
    size_t offset = start.v & QR_PAGE_MASK;
    enum qr_status status;

    /* As mlock: the pages that hold any byte of the range. */
    if (bytes + offset < bytes)
        return QR_ERR_RANGE;
    status = qr_change_range(qr_va_of(start.v - offset), bytes == 0 ? 0 : bytes + offset, &range);
    if (status != QR_OK)
        return QR_ERR_RANGE;
    qr_change_begin(&change, space);
    qr_rw_write_lock(&space->lock);
    if (mode != QR_UNLOCK && !qr_count_may_lock(space, lock_new_pages(space, range)))
        status = QR_ERR_LIMIT;
    else
        status = qr_change_reserve_cuts(&change, range);
    if (status == QR_OK)
        status = qr_change_each(&change, range, QR_HOLES_STOP, lock_piece, &mode);
    qr_rw_write_unlock(&space->lock);
    qr_change_end(&change);
    if (status == QR_OK && mode == QR_LOCK_NOW)
        status = qr_space_populate_mapped(space, range, QR_POPULATE_STOP);
    return status;
}

enum qr_status
qr_space_lock_all(struct qr_space *space, enum qr_lock_mode current, enum qr_lock_mode future)
{
    /* mlockall(MCL_FUTURE) alone leaves what exists as it is; munlockall() does not. */
    bool change_existing = current != QR_UNLOCK || future == QR_UNLOCK;
    struct qr_va_range all = {space->layout.user_start, space->layout.user_end};
    struct qr_change change;
    enum qr_status status = QR_OK;

    qr_change_begin(&change, space);
    qr_rw_write_lock(&space->lock);
    if (current != QR_UNLOCK &&
        !qr_count_may_lock(space, space->counts.virtual_pages - space->counts.locked_pages)) {
        status = QR_ERR_LIMIT;
    } else {
        space->default_lock_flags = qr_lock_flags(future);
        if (change_existing)
            (void)!qr_change_each(&change, all, QR_HOLES_SKIP, lock_piece, &current);
    }
    qr_rw_write_unlock(&space->lock);
    qr_change_end(&change);
    if (status == QR_OK && current == QR_LOCK_NOW)
        (void)!qr_space_populate_mapped(space, all, QR_POPULATE_NEXT_REGION);
    return status;
}
