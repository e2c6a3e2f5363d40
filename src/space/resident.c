/* SPDX-License-Identifier: MIT */
/*
 * What is in memory (mincore), and writing it back (msync).
 */
#include "hugetlb.h"
#include "swap.h"

/* The entries of @chunk, one byte a page. */
static void
resident_entries(struct qr_space *space, struct qr_va_range chunk, uint8_t *out)
{
    struct qr_tables *tables = &space->tables;
    struct qr_cursor cursor;
    struct qr_entry entry;
    qr_va at = chunk.start;

    qr_cursor_open(&cursor, tables, chunk, NULL);
    while (at.v < chunk.end.v && qr_cursor_find(&cursor, at, &entry)) {
        uintptr_t va = qr_max_size(at.v, entry.start.v);
        /* Poison is a page that is there, as in Linux. */
        bool there = entry.kind == QR_ENTRY_LEAF ||
                     (entry.kind == QR_ENTRY_MARK && entry.mark.kind == QR_MARK_POISON) ||
                     (qr_entry_is_swap(&entry) && qr_swap_has(space, &entry));

        at = qr_va_of(qr_min_size(qr_entry_end(tables, &entry), chunk.end.v));
        for (; there && va < at.v; va += QR_PAGE_SIZE)
            out[(va - chunk.start.v) >> QR_PAGE_SHIFT] = 1;
    }
    qr_cursor_close(&cursor);
}

static void
resident_piece(const struct qr_region *region, struct qr_va_range piece, uint8_t *out)
{
    struct qr_tables *tables = &region->space->tables;
    struct qr_va_range rest = piece;
    struct qr_va_range chunk;
    size_t pages = qr_va_range_pages(piece);

    if (qr_region_is_hugetlb(region)) {
        qr_hugetlb_resident(region, piece, out);
        return;
    }
    for (size_t i = 0; i < pages; i++)
        out[i] = 0;
    while (qr_chunk_next(tables, &rest, &chunk))
        resident_entries(region->space, chunk,
                         out + ((chunk.start.v - piece.start.v) >> QR_PAGE_SHIFT));
    if (region->object == NULL || (region->flags & QR_REGION_DEVICE) != 0)
        return;
    for (size_t i = 0; i < pages; i++) {
        if (out[i] == 0)
            out[i] = qr_object_where(region->object, qr_region_object_page(region, piece.start) +
                                                         i) == QR_PAGE_IN_MEMORY;
    }
}

enum qr_status
qr_space_resident(struct qr_space *space, qr_va start, size_t pages, uint8_t *out)
{
    enum qr_status status = QR_OK;
    struct qr_va_range range;

    if ((start.v & QR_PAGE_MASK) != 0)
        return QR_ERR_RANGE;
    if (pages == 0)
        return QR_OK;
    if (pages > SIZE_MAX >> QR_PAGE_SHIFT ||
        !qr_va_range_make(start.v, pages << QR_PAGE_SHIFT, UINTPTR_MAX, &range))
        return QR_ERR_NO_MEMORY;
    qr_rw_read_lock(&space->lock);
    while (status == QR_OK && range.start.v < range.end.v) {
        const struct qr_region *region = qr_space_find(space, range.start);

        if (region == NULL || region->start.v > range.start.v) {
            status = QR_ERR_NO_MEMORY;
            break;
        }
        struct qr_va_range piece = qr_region_clip(region, range);

        resident_piece(region, piece, out);
        out += qr_va_range_pages(piece);
        range.start = piece.end;
    }
    qr_rw_read_unlock(&space->lock);
    return status;
}

/* ---- msync ------------------------------------------------------------------- */

/* What the first region of a range means for msync. */
struct sync_piece {
    struct qr_object *object; /* to write back, with a reference; NULL: nothing */
    size_t first, last;       /* its pages */
    qr_va end;                /* of the piece */
    bool hole;                /* before the piece */
};

/* @return false where nothing is mapped in @range; QR_ERR_BUSY is left to the caller */
static bool
sync_next(struct qr_space *space, struct qr_va_range range, struct sync_piece *out_piece,
          bool *out_locked)
{
    qr_rw_read_lock(&space->lock);
    struct qr_region *region = qr_space_find(space, range.start);
    bool found = region != NULL && region->start.v < range.end.v;

    if (found) {
        struct qr_va_range piece = qr_region_clip(region, range);

        *out_locked = (region->flags & QR_REGION_LOCKED) != 0;
        *out_piece = (struct sync_piece){.end = piece.end, .hole = piece.start.v > range.start.v};
        if (qr_region_is_shared(region) && (region->flags & QR_REGION_DEVICE) == 0) {
            out_piece->object = region->object;
            out_piece->first = qr_region_object_page(region, piece.start);
            out_piece->last = out_piece->first + qr_va_range_pages(piece);
            qr_object_get(region->object);
        }
    }
    qr_rw_read_unlock(&space->lock);
    return found;
}

enum qr_status
qr_space_sync(struct qr_space *space, qr_va start, size_t bytes, bool write, bool invalidate)
{
    struct qr_va_range range;
    struct sync_piece piece;
    bool locked;
    bool hole = false;
    enum qr_status status = qr_change_range(start, bytes, &range);

    while (status == QR_OK && range.start.v < range.end.v) {
        if (!sync_next(space, range, &piece, &locked))
            return QR_ERR_NO_MEMORY;
        hole = hole || piece.hole;
        if (invalidate && locked)
            status = QR_ERR_BUSY;
        else if (write && piece.object != NULL)
            status = qr_object_sync(piece.object, piece.first, piece.last);
        if (piece.object != NULL)
            qr_object_put(piece.object);
        range.start = piece.end;
    }
    return status == QR_OK && hole ? QR_ERR_NO_MEMORY : status;
}
