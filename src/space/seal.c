/* SPDX-License-Identifier: MIT */
/*
 * Sealing (mseal): a range whose mappings stay as they are until the space ends.
 *
 * Not unmapped, not replaced, not moved or resized, no other rights; and no advice that would drop
 * the contents of private memory that its owner may not write.  Whoever would, asks before it
 * changes anything.  Spaces without a sealed region pay for one look at a flag.
 */
#include "region.h"

bool
qr_space_is_sealed_slowly(const struct qr_space *space, struct qr_va_range range)
{
    for (const struct qr_region *region = qr_space_find(space, range.start);
         region != NULL && region->start.v < range.end.v; region = qr_region_next(region)) {
        if ((region->flags & QR_REGION_SEALED) != 0)
            return true;
    }
    return false;
}

static enum qr_status
seal_piece(struct qr_change *change, struct qr_region *region, struct qr_va_range piece,
           void *context)
{
    struct qr_attributes attributes = qr_region_attributes(region);

    (void)context;
    attributes.flags |= QR_REGION_SEALED;
    return qr_change_attributes(change, region, piece, attributes);
}

static enum qr_status
seal_locked(struct qr_change *change, struct qr_va_range range, void *context)
{
    struct qr_space *space = change->space;

    if (qr_space_mapped_pages(space, range, NULL) != qr_va_range_pages(range))
        return QR_ERR_NO_MEMORY;
    enum qr_status status = qr_change_reserve_cuts(change, range);

    if (status != QR_OK)
        return status;
    space->sealed = true;
    return qr_change_each(change, range, QR_HOLES_STOP, seal_piece, context);
}

enum qr_status
qr_space_seal(struct qr_space *space, qr_va start, size_t bytes)
{
    return qr_change_locked(space, start, bytes, seal_locked, NULL);
}
