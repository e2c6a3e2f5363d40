/* SPDX-License-Identifier: MIT */
/*
 * What is in memory (mincore), what there is to be read at all (core files), and writing it back (msync).
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

/* ---- what there is to be read ------------------------------------------------- */

/* A page, wherever it is; other marks only say what is to become of an access. */
static bool
entry_is_page(const struct qr_entry *entry)
{
    return entry->kind == QR_ENTRY_LEAF ||
           (entry->kind == QR_ENTRY_MARK &&
            (entry->mark.kind == QR_MARK_SWAP || entry->mark.kind == QR_MARK_MIGRATING));
}

/* The first page of @range that has an entry; its end: none. */
static uintptr_t
data_in_tables(const struct qr_region *region, struct qr_va_range range)
{
    struct qr_tables *tables = &region->space->tables;
    struct qr_entry entry;
    qr_va at = range.start;

    while (at.v < range.end.v && qr_tables_next(tables, at, &entry) &&
           entry.start.v < range.end.v) {
        if (entry_is_page(&entry))
            return qr_max_size(at.v, entry.start.v);
        at = qr_va_of(qr_entry_end(tables, &entry));
    }
    return range.end.v;
}

/* The same of its object. */
static uintptr_t
data_in_object(const struct qr_region *region, struct qr_va_range range)
{
    const unsigned told = QR_REGION_WATCH_MISSING | QR_REGION_WATCH_MINOR;
    size_t first = qr_region_object_page(region, range.start), found;

    if (region->object == NULL || (region->flags & (told | QR_REGION_DEVICE)) != 0)
        return range.end.v;
    if (!qr_object_is_memory(region->object))
        return range.start.v;
    if (!qr_object_next_present(region->object, first, &found) ||
        found - first >= qr_va_range_pages(range))
        return range.end.v;
    return range.start.v + ((found - first) << QR_PAGE_SHIFT);
}

bool
qr_space_next_data(struct qr_space *space, struct qr_va_range range, qr_va *out_va)
{
    uintptr_t found = range.end.v;

    qr_rw_read_lock(&space->lock);
    for (const struct qr_region *region = qr_space_find(space, range.start);
         region != NULL && region->start.v < range.end.v && found == range.end.v;
         region = qr_region_next(region)) {
        struct qr_va_range piece = qr_region_clip(region, range);
        uintptr_t at = qr_min_size(data_in_tables(region, piece), data_in_object(region, piece));

        found = at < piece.end.v ? at : found;
    }
    qr_rw_read_unlock(&space->lock);
    if (found == range.end.v)
        return false;
    *out_va = qr_va_of(found);
    return true;
}

bool
qr_region_has_copies(const struct qr_region *region)
{
    struct qr_tables *tables = &region->space->tables;
    struct qr_entry entry;
    qr_va at = region->start;

    while (at.v < region->end.v && qr_tables_next(tables, at, &entry) &&
           entry.start.v < region->end.v) {
        const struct qr_frame *frame =
            entry.kind == QR_ENTRY_LEAF ? qr_frame_find(tables->frames, qr_pa_to_pfn(entry.leaf.pa))
                                        : NULL;

        if (frame != NULL ? qr_frame_is_private(frame)
                          : entry.kind == QR_ENTRY_MARK && entry_is_page(&entry))
            return true;
        at = qr_va_of(qr_entry_end(tables, &entry));
    }
    return false;
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
