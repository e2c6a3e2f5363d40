/* SPDX-License-Identifier: MIT */
/*
 * Forgetting what was used: /proc/PID/clear_refs.
 *
 * The accessed flags of the entries are cleared and flushed, so that hardware (or, where it
 * cannot, the fault handler) sets them again for pages that are used from now on.  The working
 * set is what smaps then shows as Referenced.
 */
#include "region.h"

static bool
is_wanted(const struct qr_region *region, enum qr_references which)
{
    if (qr_region_is_hugetlb(region))
        return false; /* as in Linux: nothing of a pool is ever evicted */
    return which == QR_REFERENCES_ALL || (which == QR_REFERENCES_FILE) == (region->object != NULL);
}

static void
forget_chunk(struct qr_cursor *cursor, struct qr_va_range chunk)
{
    struct qr_entry entry;
    qr_va at = chunk.start;

    while (at.v < chunk.end.v && qr_cursor_find(cursor, at, &entry)) {
        if (entry.kind == QR_ENTRY_LEAF && (entry.leaf.flags & QR_LEAF_ACCESSED) != 0)
            qr_cursor_update(cursor, entry.start, entry.leaf.prot, 0, QR_LEAF_ACCESSED);
        at = qr_va_of(qr_entry_end(cursor->tables, &entry));
    }
}

void
qr_space_forget_references(struct qr_space *space, enum qr_references which)
{
    struct qr_tlb_batch batch;

    qr_tlb_batch_init(&batch, &space->tlb);
    qr_rw_read_lock(&space->lock);
    for (const struct qr_region *region = qr_space_find(space, qr_va_of(0)); region != NULL;
         region = qr_region_next(region)) {
        struct qr_va_range rest = qr_range_of(region->start.v, region->end.v);
        struct qr_va_range chunk;
        struct qr_cursor cursor;

        while (is_wanted(region, which) && qr_chunk_open(&cursor, space, &rest, &chunk, &batch)) {
            forget_chunk(&cursor, chunk);
            qr_cursor_close(&cursor);
        }
    }
    qr_tlb_batch_finish(&batch);
    qr_rw_read_unlock(&space->lock);
}
