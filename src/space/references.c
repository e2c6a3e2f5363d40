/* SPDX-License-Identifier: MIT */
/*
 * Forgetting what was used and what was written: /proc/PID/clear_refs.
 *
 * The accessed flags of the entries are cleared and flushed, so that hardware (or, where it
 * cannot, the fault handler) sets them again for pages that are used from now on.  The working
 * set is what smaps then shows as Referenced.
 *
 * What was written since the last call ("soft-dirty") is QR_LEAF_SOFT_1, which every write fault
 * sets along with DIRTY, at no cost.  Clearing takes WRITE too, so that the next store faults.  Until
 * the first call nobody asks for the flag: a region that is not TRACKED counts as written, whole.
 * That holds for whatever is mapped later, so that a place used anew is not taken for the old
 * one.  Whoever gives WRITE without a fault asks qr_leaf_is_unwritten().  Nothing is lost where
 * regions join: they are TRACKED only if both were.
 */
#include "swap.h"

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
qr_region_forget(const struct qr_region *region, struct qr_va_range range,
                 struct qr_tlb_batch *batch)
{
    struct qr_va_range chunk;
    struct qr_cursor cursor;

    while (qr_chunk_open(&cursor, region->space, &range, &chunk, batch)) {
        forget_chunk(&cursor, chunk);
        qr_cursor_close(&cursor);
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
        if (is_wanted(region, which))
            qr_region_forget(region, qr_region_range(region), &batch);
    }
    qr_tlb_batch_finish(&batch);
    qr_rw_read_unlock(&space->lock);
}

/* ---- What was written ------------------------------------------------------------- */

static void
track_chunk(struct qr_cursor *cursor, struct qr_va_range chunk)
{
    struct qr_entry entry;
    qr_va at = chunk.start;

    while (at.v < chunk.end.v && qr_cursor_find(cursor, at, &entry)) {
        if (entry.kind == QR_ENTRY_LEAF &&
            ((entry.leaf.flags & QR_LEAF_SOFT_1) != 0 || (entry.leaf.prot & QR_PROT_WRITE) != 0))
            qr_cursor_update(cursor, entry.start, entry.leaf.prot & ~(unsigned)QR_PROT_WRITE, 0,
                             QR_LEAF_SOFT_1);
        else if (qr_entry_is_swap(&entry))
            qr_swap_change_mark(cursor, &entry, 0, QR_LEAF_SOFT_1);
        at = qr_va_of(qr_entry_end(cursor->tables, &entry));
    }
}

void
qr_space_track_writes(struct qr_space *space)
{
    struct qr_tlb_batch batch;

    qr_tlb_batch_init(&batch, &space->tlb);
    qr_rw_write_lock(&space->lock);
    for (struct qr_region *region = qr_space_find(space, qr_va_of(0)); region != NULL;
         region = qr_region_next(region)) {
        struct qr_va_range rest = qr_region_range(region);
        struct qr_va_range chunk;
        struct qr_cursor cursor;

        region->flags |= QR_REGION_TRACKED;
        if ((region->flags & (QR_REGION_HUGETLB | QR_REGION_DEVICE)) != 0)
            continue;
        while (qr_chunk_open(&cursor, space, &rest, &chunk, &batch)) {
            track_chunk(&cursor, chunk);
            qr_cursor_close(&cursor);
        }
    }
    qr_tlb_batch_finish(&batch);
    qr_rw_write_unlock(&space->lock);
}

void
qr_space_mark_written(struct qr_space *space, struct qr_va_range range, struct qr_tlb_batch *batch)
{
    struct qr_va_range chunk;
    struct qr_cursor cursor;
    struct qr_entry entry;

    while (qr_chunk_open(&cursor, space, &range, &chunk, batch)) {
        for (qr_va at = chunk.start; at.v < chunk.end.v && qr_cursor_find(&cursor, at, &entry);
             at = qr_va_of(qr_entry_end(cursor.tables, &entry))) {
            if (entry.kind == QR_ENTRY_LEAF)
                qr_cursor_update(&cursor, entry.start, entry.leaf.prot, QR_LEAF_SOFT_1, 0);
            else if (qr_entry_is_swap(&entry))
                qr_swap_change_mark(&cursor, &entry, QR_LEAF_SOFT_1, 0);
        }
        qr_cursor_close(&cursor);
    }
}
