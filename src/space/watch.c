/* SPDX-License-Identifier: MIT */
/*
 * Which regions have a listener, and which of their pages must not be written unseen.
 *
 * A region has one listener and the kinds of faults that it is told of; both count as attributes,
 * so regions split and join at their borders like at those of any other.  A copy made by fork
 * or at another address has none.
 *
 * A page is protected by its leaf: without WRITE, marked SOFT_2.  Whatever gives WRITE back asks
 * for that mark (qr_leaf_is_write_watched()).  An absent page of an object is protected by a mark of
 * its own, QR_MARK_WRITE_PROTECT, and so is one whose leaf is taken out while the object goes on; of
 * private memory only pages that are there are protected, but huge ones of a pool, as in Linux.  In a region that is
 * not watched for writes SOFT_2 means nothing: registering starts without any.
 */
#include "hugetlb.h"
#include "swap.h"

struct watch {
    struct qr_listener *listener;    /* NULL: unwatch */
    const struct qr_listener *owner; /* then: whose regions these may be */
    unsigned flags;                  /* of the region */
    struct qr_tlb_batch *batch;
};

static unsigned
watch_flags(unsigned kinds)
{
    return ((kinds & QR_WATCH_MISSING) != 0 ? (unsigned)QR_REGION_WATCH_MISSING : 0) |
           ((kinds & QR_WATCH_WRITE) != 0 ? (unsigned)QR_REGION_WATCH_WRITE : 0) |
           ((kinds & QR_WATCH_MINOR) != 0 ? (unsigned)QR_REGION_WATCH_MINOR : 0);
}

/* ---- Protecting pages ------------------------------------------------------------- */

/* Marks where nothing stands: absent pages of an object.  @return false without memory */
static bool
mark_absent(struct qr_cursor *cursor, struct qr_va_range range)
{
    const struct qr_mark mark = {.kind = QR_MARK_WRITE_PROTECT};

    for (uintptr_t at = range.start.v; at < range.end.v; at += QR_PAGE_SIZE) {
        if (qr_cursor_query(cursor, qr_va_of(at)).kind != QR_ENTRY_NONE)
            continue;
        if (qr_cursor_prepare(cursor, qr_va_of(at), 0) != QR_OK)
            return false;
        qr_cursor_mark(cursor, qr_va_of(at), 0, mark);
    }
    return true;
}

static void
watch_entries(struct qr_cursor *cursor, struct qr_va_range range, bool protect)
{
    struct qr_entry entry;
    qr_va at = range.start;

    while (at.v < range.end.v && qr_cursor_find(cursor, at, &entry) &&
           entry.start.v < range.end.v) {
        if (entry.kind == QR_ENTRY_LEAF && protect)
            qr_cursor_update(cursor, entry.start, entry.leaf.prot & ~(unsigned)QR_PROT_WRITE,
                             QR_LEAF_SOFT_2, 0);
        else if (entry.kind == QR_ENTRY_LEAF && (entry.leaf.flags & QR_LEAF_SOFT_2) != 0)
            qr_cursor_update(cursor, entry.start, entry.leaf.prot, 0, QR_LEAF_SOFT_2);
        else if (qr_entry_is_swap(&entry))
            qr_swap_change_mark(cursor, &entry, protect ? QR_LEAF_SOFT_2 : 0,
                                protect ? 0 : QR_LEAF_SOFT_2);
        else if (entry.kind == QR_ENTRY_MARK && entry.mark.kind == QR_MARK_WRITE_PROTECT &&
                 !protect)
            (void)qr_cursor_unmap(cursor, entry.start);
        at = qr_va_of(entry.start.v + QR_PAGE_SIZE);
    }
}

/* @return false without memory for marks */
static bool
protect_range(struct qr_region *region, struct qr_va_range rest, bool protect,
              struct qr_tlb_batch *batch)
{
    struct qr_tables *tables = &region->space->tables;
    bool mark = protect && region->object != NULL, done = true;
    struct qr_va_range chunk;

    if (qr_region_is_hugetlb(region))
        return qr_hugetlb_write_protect(region, rest, protect, batch);

    while (done && rest.start.v < rest.end.v) {
        struct qr_cursor cursor;

        if (mark) { /* holes count: no skipping */
            chunk =
                qr_range_of(rest.start.v,
                            qr_min_size(rest.end.v - rest.start.v, QR_CHUNK_BYTES) + rest.start.v);
            rest.start = chunk.end;
        } else if (!qr_chunk_next(tables, &rest, &chunk)) {
            break;
        }
        qr_cursor_open(&cursor, tables, chunk, batch);
        watch_entries(&cursor, chunk, protect);
        done = !mark || mark_absent(&cursor, chunk);
        qr_cursor_close(&cursor);
    }
    qr_tlb_batch_cover(batch);
    return done;
}

enum qr_status
qr_space_write_protect(struct qr_space *space, qr_va start, size_t bytes, bool protect)
{
    enum qr_status status = QR_ERR_NOT_FOUND;
    struct qr_tlb_batch batch;
    struct qr_va_range range;
    struct qr_region *region;

    if (!qr_va_range_make(start.v, bytes, space->layout.user_end.v, &range))
        return QR_ERR_RANGE;
    qr_tlb_batch_init(&batch, &space->tlb);
    qr_rw_read_lock(&space->lock);
    for (region = qr_space_find(space, range.start);
         region != NULL && region->start.v < range.end.v; region = qr_region_next(region)) {
        status = (region->flags & QR_REGION_WATCH_WRITE) == 0 ? QR_ERR_NOT_FOUND : QR_OK;
        if (status == QR_OK && !qr_hugetlb_may_cut(region, qr_region_clip(region, range)))
            status = QR_ERR_INVALID;
        if (status == QR_OK &&
            !protect_range(region, qr_region_clip(region, range), protect, &batch))
            status = QR_ERR_NO_MEMORY;
        if (status != QR_OK)
            break;
    }
    qr_tlb_batch_finish(&batch);
    qr_rw_read_unlock(&space->lock);
    return status;
}

/* ---- Listeners of regions ------------------------------------------------------------- */

/* May such a region have @watch's listener? */
static enum qr_status
watch_check(const struct qr_region *region, struct qr_va_range range, const struct watch *watch)
{
    bool anonymous = qr_region_is_anonymous(region);

    if (!anonymous && (region->object == NULL || !qr_object_is_memory(region->object)))
        return QR_ERR_INVALID;
    if (!qr_hugetlb_may_cut(region, qr_region_clip(region, range)))
        return QR_ERR_INVALID;
    if (watch->listener == NULL) /* as of Linux 6.17, by nobody but its own */
        return region->listener == NULL || region->listener == watch->owner ? QR_OK
                                                                            : QR_ERR_INVALID;
    if ((region->max_prot & QR_PROT_WRITE) == 0)
        return QR_ERR_ACCESS;
    if ((watch->flags & QR_REGION_WATCH_MINOR) != 0 && anonymous)
        return QR_ERR_INVALID;
    return region->listener == NULL || region->listener == watch->listener ? QR_OK : QR_ERR_BUSY;
}

static enum qr_status
watch_check_all(const struct qr_space *space, struct qr_va_range range, const struct watch *watch)
{
    const struct qr_region *region = qr_space_find(space, range.start);
    enum qr_status status = QR_OK;

    if (region == NULL)
        return QR_ERR_NOT_FOUND;
    if (region->start.v >= range.end.v)
        return QR_ERR_INVALID;
    for (; region != NULL && region->start.v < range.end.v && status == QR_OK;
         region = qr_region_next(region))
        status = watch_check(region, range, watch);
    return status;
}

/* The attributes of @region once it is watched so: as it is where the listener is told that much. */
static struct qr_attributes
watch_attributes(const struct qr_region *region, const struct watch *watch)
{
    struct qr_attributes attributes = qr_region_attributes(region);

    if (watch->listener != NULL && region->listener == watch->listener &&
        (region->flags & watch->flags) == watch->flags)
        return attributes;
    attributes.listener = watch->listener;
    attributes.flags = (attributes.flags & ~QR_REGION_WATCH_FLAGS) | watch->flags;
    return attributes;
}

static void
watch_piece(struct qr_change *change, struct qr_region *region, struct qr_va_range piece,
            const struct watch *watch)
{
    struct qr_attributes attributes = watch_attributes(region, watch);

    /* What was protected before is so no more; nor is what a fork or a move brought along. */
    if (((attributes.flags ^ region->flags) & QR_REGION_WATCH_WRITE) != 0)
        (void)protect_range(region, piece, false, watch->batch);
    if (region->listener != NULL && watch->listener == NULL)
        qr_listener_wake(region->listener, piece.start, piece.end);
    (void)qr_region_change(change, region, piece, attributes);
}

/* Pages are told of one by one; those of a pool stay what they are. */
static enum qr_status
watch_split(struct qr_space *space, struct qr_va_range range)
{
    enum qr_status status = QR_OK;

    for (const struct qr_region *region = qr_space_find(space, range.start);
         region != NULL && region->start.v < range.end.v && status == QR_OK;
         region = qr_region_next(region))
        if (!qr_region_is_hugetlb(region))
            status = qr_large_split_range(space, qr_region_clip(region, range));
    return status;
}

/* Checked first, reserved next: from then on only the limit of regions can end it. */
static enum qr_status
watch_locked(struct qr_change *change, struct qr_va_range range, const struct watch *watch)
{
    enum qr_status status = watch_check_all(change->space, range, watch);
    struct qr_region *region;

    if (status == QR_OK)
        status = qr_change_reserve_cuts(change, range);
    if (status == QR_OK && watch->listener != NULL)
        status = watch_split(change->space, range);
    while (status == QR_OK && range.start.v < range.end.v &&
           (region = qr_space_find(change->space, range.start)) != NULL &&
           region->start.v < range.end.v) {
        struct qr_va_range piece = qr_region_clip(region, range);

        if (qr_region_may_change(region, piece, watch_attributes(region, watch)))
            watch_piece(change, region, piece, watch);
        else
            status = QR_ERR_NO_MEMORY;
        range.start = piece.end;
    }
    return status;
}

static enum qr_status
watch_change(struct qr_space *space, qr_va start, size_t bytes, struct watch watch)
{
    struct qr_tlb_batch batch;
    struct qr_change change;
    struct qr_va_range range;

    if (!qr_va_range_make(start.v, bytes, space->layout.user_end.v, &range))
        return QR_ERR_RANGE;
    watch.batch = &batch;
    qr_change_begin(&change, space);
    qr_tlb_batch_init(&batch, &space->tlb);
    qr_rw_write_lock(&space->lock);
    enum qr_status status = watch_locked(&change, range, &watch);

    qr_tlb_batch_finish(&batch);
    qr_rw_write_unlock(&space->lock);
    qr_change_end(&change);
    return status;
}

enum qr_status
qr_space_watch(struct qr_space *space, qr_va start, size_t bytes, struct qr_listener *listener,
               unsigned kinds)
{
    qr_assert(listener != NULL);
    if (kinds == 0 || (kinds & ~(QR_WATCH_MISSING | QR_WATCH_WRITE | QR_WATCH_MINOR)) != 0)
        return QR_ERR_INVALID;
    return watch_change(space, start, bytes,
                        (struct watch){.listener = listener, .flags = watch_flags(kinds)});
}

enum qr_status
qr_space_unwatch(struct qr_space *space, qr_va start, size_t bytes, struct qr_listener *listener)
{
    return watch_change(space, start, bytes, (struct watch){.owner = listener});
}

void
qr_space_unwatch_all(struct qr_space *space, struct qr_listener *listener)
{
    struct qr_tlb_batch batch;
    const struct watch watch = {.listener = NULL, .batch = &batch};
    struct qr_change change;

    qr_change_begin(&change, space);
    qr_tlb_batch_init(&batch, &space->tlb);
    qr_rw_write_lock(&space->lock);
    for (struct qr_region *region = qr_region_of(qr_tree_first(&space->regions)); region != NULL;) {
        uintptr_t end = region->end.v;

        if (region->listener == listener) /* whole regions: no descriptor is needed */
            watch_piece(&change, region, qr_region_range(region), &watch);
        region = qr_space_find(space, qr_va_of(end)); /* it may have joined its neighbours */
    }
    qr_tlb_batch_finish(&batch);
    qr_rw_write_unlock(&space->lock);
    qr_change_end(&change);
}
