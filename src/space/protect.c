/* SPDX-License-Identifier: MIT */
/*
 * Changing protection.
 *
 * Entries that are there get the new rights at once, region by region.  WRITE is
 * given back only where a write fault would do nothing else: to private frames
 * that nobody shares, and to shared memory without write-back.  All others wait
 * for the fault, which copies or marks dirty.
 *
 * Rights that shrink are flushed before the call returns, those that somebody
 * else took and has not flushed yet included (invariants 11).
 */
#include <quire/arch.h>

#include "hugetlb.h"

struct protect {
    unsigned prot;
    int pkey;                     /* negative: each region keeps its own */
    struct qr_va_range wanted[4]; /* what was locked becomes writable */
    unsigned count;
    struct qr_tlb_batch *batch;
};

/* May a leaf of the region be writable without a fault? */
static bool
leaf_may_write(void *context, const struct qr_entry *entry)
{
    const struct qr_region *region = context;
    const struct qr_frame *frame;
    struct qr_large large;

    if ((region->flags & QR_REGION_DEVICE) != 0)
        return true;
    if (qr_leaf_is_write_watched(region, &entry->leaf) ||
        qr_leaf_is_unwritten(region, &entry->leaf))
        return false;
    if (qr_region_is_shared(region))
        return qr_object_is_memory(region->object);
    if (entry->level > 0) {
        large = qr_large_of(region->space, entry);
        return qr_large_is_exclusive(region->space->vm->config.frames, &large);
    }
    frame = qr_leaf_frame(region, &entry->leaf);
    /* New users of the frame need the table lock, which the cursor holds. */
    return frame != NULL && qr_frame_type(frame) == QR_FRAME_ANON &&
           atomic_load_explicit(&frame->refs, memory_order_acquire) == 1;
}

/* What becomes executable may have been read in by the kernel. */
static void
protect_publish_code(struct qr_cursor *cursor, const struct qr_region *region,
                     struct qr_va_range range)
{
    struct qr_entry entry;
    qr_va at = range.start;

    while (at.v < range.end.v && qr_cursor_find(cursor, at, &entry)) {
        if (entry.kind == QR_ENTRY_LEAF && qr_leaf_frame(region, &entry.leaf) != NULL &&
            !qr_arch_code_written(entry.leaf.pa,
                                  qr_entry_end(cursor->tables, &entry) - entry.start.v))
            return;
        at = qr_va_of(qr_entry_end(cursor->tables, &entry));
    }
}

static void
protect_entries(struct qr_region *region, struct qr_va_range range, struct qr_attributes attributes,
                struct qr_tlb_batch *batch)
{
    unsigned prot = qr_leaf_prot(attributes.prot);
    struct qr_va_range chunk;
    struct qr_cursor cursor;

    while (qr_chunk_open(&cursor, region->space, &range, &chunk, batch)) {
        if ((attributes.prot & ~region->prot & QR_PROT_EXEC) != 0)
            protect_publish_code(&cursor, region, chunk);
        qr_cursor_protect_range(&cursor, chunk, prot, attributes.pkey, leaf_may_write, region);
        qr_cursor_close(&cursor);
    }
    qr_tlb_batch_cover(batch);
}

/* The attributes of @region once it has the new protection. */
static struct qr_attributes
protect_attributes(const struct qr_region *region, const struct protect *protect)
{
    struct qr_attributes attributes = qr_region_attributes(region);

    attributes.prot = protect->prot;
    if (protect->pkey >= 0)
        attributes.pkey = (uint8_t)protect->pkey;
    else if (region->pkey != 0 && region->pkey == region->space->execute_only_key)
        attributes.pkey = 0; /* the key of its old rights */
    /* Once promised, memory stays promised, as in Linux. */
    if (qr_region_is_accountable(region->space->vm, attributes.prot, attributes.flags))
        attributes.flags |= QR_REGION_ACCOUNTED;
    return attributes;
}

/* Pages of @piece are to come at once; of what could be written before, as in Linux, not. */
static void
protect_wants(struct protect *protect, struct qr_va_range piece)
{
    struct qr_va_range *last = &protect->wanted[protect->count == 0 ? 0 : protect->count - 1];

    if (protect->count != 0 &&
        (last->end.v == piece.start.v || protect->count == QR_ARRAY_COUNT(protect->wanted)))
        last->end = piece.end;
    else
        protect->wanted[protect->count++] = piece;
}

static enum qr_status
protect_piece(struct qr_change *change, struct qr_region *region, struct qr_va_range piece,
              void *context)
{
    struct protect *protect = context;
    struct qr_attributes attributes = protect_attributes(region, protect);
    bool entries = attributes.prot != region->prot || attributes.pkey != region->pkey;

    if ((protect->prot & ~region->max_prot) != 0)
        return QR_ERR_ACCESS;
    if ((region->flags & QR_REGION_SEALED) != 0)
        return QR_ERR_SEALED;
    if (qr_region_is_hugetlb(region) && !qr_hugetlb_may_cut(region, piece))
        return QR_ERR_INVALID;
    if (!qr_region_is_data(region->prot, region->flags) &&
        !qr_count_may_grow_data(change->space, attributes.prot, attributes.flags,
                                qr_va_range_pages(piece)))
        return QR_ERR_NO_MEMORY;
    if (!qr_count_may_commit(change->space, attributes.flags & ~region->flags,
                             qr_va_range_pages(piece)))
        return QR_ERR_NO_MEMORY;
    if (!qr_region_may_change(region, piece, attributes))
        return QR_ERR_NO_MEMORY;
    if (entries && qr_region_is_hugetlb(region))
        qr_hugetlb_protect(region, piece, attributes, protect->batch);
    else if (entries)
        protect_entries(region, piece, attributes, protect->batch);
    if ((attributes.prot & ~region->prot & QR_PROT_WRITE) != 0 &&
        qr_region_wants_pages(region->flags) && !qr_region_is_shared(region))
        protect_wants(protect, piece);
    (void)qr_region_change(change, region, piece, attributes);
    return QR_OK;
}

/*
 * Locked private pages that may be written now become copies at once, as in Linux: a page of
 * zeroes, or a file's, is not what was locked.
 */
static void
protect_populate(struct qr_space *space, struct qr_va_range range)
{
    while (range.start.v < range.end.v) {
        struct qr_va_range piece = {range.end, range.end};

        qr_rw_read_lock(&space->lock);
        const struct qr_region *region = qr_space_find(space, range.start);
        bool found = region != NULL && region->start.v < range.end.v;
        bool wanted = found && qr_region_wants_pages(region->flags) &&
                      !qr_region_is_shared(region) && (region->prot & QR_PROT_WRITE) != 0;

        if (found)
            piece = qr_region_clip(region, range);
        qr_rw_read_unlock(&space->lock);
        if (wanted)
            (void)!qr_space_populate_mapped(space, piece, QR_POPULATE_STOP);
        range.start = piece.end;
    }
}

enum qr_status
qr_space_protect(struct qr_space *space, qr_va start, size_t bytes, unsigned prot, int pkey)
{
    struct qr_tlb_batch batch;
    struct protect protect = {.prot = prot, .pkey = pkey, .batch = &batch};
    struct qr_change change;
    struct qr_va_range range;
    enum qr_status status = qr_change_range(start, bytes, &range);

    if (status != QR_OK)
        return status;
    if ((prot & ~QR_PROT_RWX) != 0 || pkey > (int)UINT8_MAX)
        return QR_ERR_INVALID;
    qr_change_begin(&change, space);
    qr_tlb_batch_init(&batch, &space->tlb);
    qr_rw_write_lock(&space->lock);
    status = qr_change_reserve_cuts(&change, range);
    if (status == QR_OK)
        status = qr_change_each(&change, range, QR_HOLES_STOP, protect_piece, &protect);
    qr_tlb_batch_finish(&batch);
    qr_rw_write_unlock(&space->lock);
    qr_change_end(&change);
    for (unsigned i = 0; i < protect.count; i++)
        protect_populate(space, protect.wanted[i]);
    return status;
}
