/* SPDX-License-Identifier: MIT */
/*
 * Advice, as Linux's madvise takes it.
 *
 *   a flag of the region    fork, dump, access pattern, huge pages, merging
 *   pages go                DONT_NEED, FREE (when memory is short: lazy.c), REMOVE (a hole in the
 *                           object)
 *   pages come              POPULATE_READ, POPULATE_WRITE
 *   pages look unused       COLD, PAGE_OUT, which also throws away what was freed lazily and clean pages
 *                           of files that nobody else maps, and swaps out what nobody else maps, shared
 *                           memory too
 *   pages are read ahead    WILL_NEED of files, and from swap
 *
 * Holes are passed over and reported in the end; any other error ends the call.
 */
#include "hugetlb.h"
#include "swap.h"

struct advise {
    enum qr_advice advice;
    struct qr_tlb_batch *batch;
};

/* Advice that is a flag: which bits it sets and clears. */
struct advice_flags {
    unsigned set, clear;
};

static bool
advice_is_flag(enum qr_advice advice, struct advice_flags *out_flags)
{
    static const struct advice_flags table[] = {
        [QR_ADVICE_NORMAL] = {0, QR_REGION_RANDOM | QR_REGION_SEQUENTIAL},
        [QR_ADVICE_RANDOM] = {QR_REGION_RANDOM, QR_REGION_SEQUENTIAL},
        [QR_ADVICE_SEQUENTIAL] = {QR_REGION_SEQUENTIAL, QR_REGION_RANDOM},
        [QR_ADVICE_DONT_FORK] = {QR_REGION_DONT_FORK, 0},
        [QR_ADVICE_DO_FORK] = {0, QR_REGION_DONT_FORK},
        [QR_ADVICE_WIPE_ON_FORK] = {QR_REGION_WIPE_ON_FORK, 0},
        [QR_ADVICE_KEEP_ON_FORK] = {0, QR_REGION_WIPE_ON_FORK},
        [QR_ADVICE_DONT_DUMP] = {QR_REGION_DONT_DUMP, 0},
        [QR_ADVICE_DO_DUMP] = {0, QR_REGION_DONT_DUMP},
        [QR_ADVICE_HUGE] = {QR_REGION_HUGE, QR_REGION_NO_HUGE},
        [QR_ADVICE_NO_HUGE] = {QR_REGION_NO_HUGE, QR_REGION_HUGE},
        [QR_ADVICE_MERGEABLE] = {QR_REGION_MERGEABLE, 0},
        [QR_ADVICE_UNMERGEABLE] = {0, QR_REGION_MERGEABLE},
    };

    if ((unsigned)advice >= QR_ARRAY_COUNT(table))
        return false;
    *out_flags = table[advice];
    return (out_flags->set | out_flags->clear) != 0;
}

/* May the advice be given for such a region?  Decides only. */
static enum qr_status
advice_check(const struct qr_region *region, enum qr_advice advice)
{
    bool device = (region->flags & QR_REGION_DEVICE) != 0;
    bool droppable = (region->flags & QR_REGION_DROPPABLE) != 0;
    bool fixed = device || (region->flags & QR_REGION_LOCKED) != 0;
    bool anonymous = qr_region_is_anonymous(region);

    switch (advice) {
    case QR_ADVICE_DONT_NEED:
        return fixed ? QR_ERR_INVALID : QR_OK;
    case QR_ADVICE_COLD:
    case QR_ADVICE_PAGE_OUT:
        return fixed || qr_region_is_hugetlb(region) ? QR_ERR_INVALID : QR_OK;
    case QR_ADVICE_DONT_NEED_LOCKED:
        return device ? QR_ERR_INVALID : QR_OK;
    case QR_ADVICE_FREE:
        return fixed || !anonymous ? QR_ERR_INVALID : QR_OK;
    case QR_ADVICE_REMOVE:
        if (fixed || (region->object == NULL && region->file == NULL))
            return QR_ERR_INVALID;
        if (!qr_region_is_shared(region) || (region->max_prot & QR_PROT_WRITE) == 0)
            return QR_ERR_ACCESS;
        return qr_object_is_memory(region->object) ? QR_OK : QR_ERR_UNSUPPORTED;
    case QR_ADVICE_WIPE_ON_FORK:
        return anonymous && region->file == NULL ? QR_OK : QR_ERR_INVALID;
    case QR_ADVICE_MERGEABLE:
    case QR_ADVICE_UNMERGEABLE:
        return QR_HAS_MERGE ? QR_OK : QR_ERR_INVALID;
    case QR_ADVICE_DO_DUMP:
        return device || droppable ? QR_ERR_INVALID : QR_OK;
    case QR_ADVICE_KEEP_ON_FORK:
        return droppable ? QR_ERR_INVALID : QR_OK;
    case QR_ADVICE_DO_FORK:
        return device ? QR_ERR_INVALID : QR_OK;
    default:
        return QR_OK;
    }
}

static bool
advice_drops(enum qr_advice advice)
{
    return advice == QR_ADVICE_DONT_NEED || advice == QR_ADVICE_DONT_NEED_LOCKED;
}

static enum qr_status
advise_flags(struct qr_change *change, struct qr_region *region, struct qr_va_range piece,
             struct advice_flags flags)
{
    struct qr_attributes attributes = qr_region_attributes(region);

    attributes.flags = (attributes.flags & ~flags.clear) | flags.set;
    enum qr_status status = qr_change_attributes(change, region, piece, attributes);

    /* No memory is what holes are: that a region cannot be split is another thing. */
    return status == QR_ERR_NO_MEMORY ? QR_ERR_AGAIN : status;
}

/* What comes before the flag changes.  @return QR_ERR_EXISTS: nothing is to change */
static enum qr_status
advise_merge(const struct qr_region *region, struct qr_va_range piece, enum qr_advice advice)
{
    bool merged = (region->flags & QR_REGION_MERGEABLE) != 0;

    if (advice == QR_ADVICE_UNMERGEABLE) {
        if (!merged)
            return QR_ERR_EXISTS;
        return qr_unmerge_range(region, piece) == QR_OK ? QR_OK : QR_ERR_AGAIN;
    }
    /* Only private memory is ever merged; elsewhere the advice means nothing. */
    if (merged || !qr_region_may_merge(region))
        return QR_ERR_EXISTS;
    qr_space_set_mergeable(region->space, true);
    return QR_OK;
}

/* Would it drop sealed private memory that may not be written? */
static bool
advice_breaks_seal(const struct qr_region *region, enum qr_advice advice)
{
    if ((region->flags & QR_REGION_SEALED) == 0 || !qr_region_is_anonymous(region) ||
        (region->prot & QR_PROT_WRITE) != 0)
        return false;
    switch (advice) {
    case QR_ADVICE_DONT_NEED:
    case QR_ADVICE_DONT_NEED_LOCKED:
    case QR_ADVICE_FREE:
    case QR_ADVICE_REMOVE:
    case QR_ADVICE_DONT_FORK:
    case QR_ADVICE_WIPE_ON_FORK:
        return true;
    default:
        return false;
    }
}

/* The first run of the object's pages in @range that are mapped here; @range becomes what lies behind it. */
static bool
mapped_run(const struct qr_region *region, struct qr_va_range *range, struct qr_va_range *out_run)
{
    struct qr_tables *tables = &region->space->tables;
    struct qr_entry entry;

    *out_run = qr_range_of(range->start.v, range->start.v);
    while (range->start.v < range->end.v && qr_tables_next(tables, range->start, &entry) &&
           entry.start.v < range->end.v) {
        qr_va start = qr_va_of(qr_max_size(entry.start.v, range->start.v));
        const struct qr_frame *frame =
            entry.kind == QR_ENTRY_LEAF ? qr_leaf_frame(region, &entry.leaf) : NULL;
        bool wanted = frame != NULL && qr_frame_type(frame) == QR_FRAME_OBJECT;
        bool begun = out_run->start.v < out_run->end.v;

        if (begun && (!wanted || start.v != out_run->end.v))
            return true;
        range->start = qr_va_of(qr_min_size(qr_entry_end(tables, &entry), range->end.v));
        if (wanted)
            *out_run = qr_range_of(begun ? out_run->start.v : start.v, range->start.v);
    }
    return out_run->start.v < out_run->end.v;
}

/* Pages of an object that are mapped here and nowhere else. */
static void
page_out_object(const struct qr_region *region, struct qr_va_range piece)
{
    struct qr_va_range run;

    while (mapped_run(region, &piece, &run)) {
        size_t first = qr_region_object_page(region, run.start);

        qr_object_page_out(region->object, first, first + qr_va_range_pages(run));
    }
}

static bool
region_has_pages(const struct qr_region *region)
{
    return region->object != NULL && (region->flags & (QR_REGION_DEVICE | QR_REGION_HUGETLB)) == 0;
}

/* Pages of objects that are protected for a listener are so when they come back, too. */
static enum qr_zap_what
zap_of(const struct qr_region *region)
{
    return region->object != NULL && (region->flags & QR_REGION_WATCH_WRITE) != 0 ? QR_ZAP_WATCHED
                                                                                  : QR_ZAP_ALL;
}

static enum qr_status
advise_piece(struct qr_change *change, struct qr_region *region, struct qr_va_range piece,
             void *context)
{
    struct advise *advise = context;
    enum qr_status status = advice_breaks_seal(region, advise->advice)
                                ? QR_ERR_SEALED
                                : advice_check(region, advise->advice);
    struct advice_flags flags;

    if (status == QR_OK && qr_region_is_hugetlb(region) && advice_drops(advise->advice))
        status = qr_hugetlb_whole_pages(region, &piece);
    if (status != QR_OK)
        return status;
    if (advise->advice == QR_ADVICE_MERGEABLE || advise->advice == QR_ADVICE_UNMERGEABLE)
        status = advise_merge(region, piece, advise->advice);
    if (status != QR_OK)
        return status == QR_ERR_EXISTS ? QR_OK : status;
    if (advice_is_flag(advise->advice, &flags))
        return advise_flags(change, region, piece, flags);
    switch (advise->advice) {
    case QR_ADVICE_DONT_NEED:
    case QR_ADVICE_DONT_NEED_LOCKED:
        return qr_zap_range(region, piece, zap_of(region), advise->batch);
    case QR_ADVICE_FREE:
        return qr_zap_range(region, piece, QR_ZAP_LAZILY, advise->batch);
    case QR_ADVICE_COLD:
        qr_region_forget(region, piece, advise->batch);
        break;
    case QR_ADVICE_PAGE_OUT:
        qr_region_forget(region, piece, advise->batch);
        (void)qr_lazy_discard_range(region, piece);
        qr_swap_out_range(region, piece);
        if (region_has_pages(region))
            page_out_object(region, piece);
        break;
    case QR_ADVICE_REMOVE:
        qr_object_punch(region->object, qr_region_object_page(region, piece.start),
                        qr_region_object_page(region, piece.start) + qr_va_range_pages(piece));
        break;
    default:
        break;
    }
    return QR_OK;
}

static bool
advice_takes_out(enum qr_advice advice)
{
    return advice == QR_ADVICE_DONT_NEED || advice == QR_ADVICE_DONT_NEED_LOCKED ||
           advice == QR_ADVICE_FREE;
}

/* Only a change of regions needs the lock for writing. */
static enum qr_status
advise_locked(struct qr_change *change, struct qr_va_range range, struct advise *advise)
{
    struct qr_space *space = change->space;
    struct advice_flags flags;
    bool write = advice_is_flag(advise->advice, &flags);
    enum qr_status status = QR_OK;

    if (write)
        qr_rw_write_lock(&space->lock);
    else
        qr_rw_read_lock(&space->lock);
    if (write && qr_change_reserve_cuts(change, range) != QR_OK)
        status = QR_ERR_AGAIN;
    else if (advice_takes_out(advise->advice))
        status = qr_large_cut(space, range); /* before the first page goes */
    if (status == QR_OK)
        status = qr_change_each(change, range, QR_HOLES_SKIP, advise_piece, advise);

    /* Before the lock goes: what was said to be gone is gone for every CPU (invariants 10). */
    qr_tlb_batch_finish(advise->batch);
    if (write)
        qr_rw_write_unlock(&space->lock);
    else
        qr_rw_read_unlock(&space->lock);
    return status;
}

/* The pages of @range that belong to an object, of its first region that has one; a reference. */
static struct qr_object *
next_object(struct qr_space *space, struct qr_va_range *range, size_t *out_first, size_t *out_count)
{
    struct qr_object *object = NULL;

    qr_rw_read_lock(&space->lock);
    for (const struct qr_region *region = qr_space_find(space, range->start);
         object == NULL && region != NULL &&
         qr_max_size(region->start.v, range->start.v) < range->end.v;
         region = qr_region_next(region)) {
        struct qr_va_range piece = qr_region_clip(region, *range);

        range->start = piece.end;
        if (!region_has_pages(region))
            continue;
        object = region->object;
        qr_object_get(object);
        *out_first = qr_region_object_page(region, piece.start);
        *out_count = qr_va_range_pages(piece);
    }
    qr_rw_read_unlock(&space->lock);
    return object;
}

/* Nothing is locked while files and swap are read. */
static void
advise_read_ahead(struct qr_space *space, struct qr_va_range range)
{
    struct qr_object *object;
    size_t first, count;

    while ((object = next_object(space, &range, &first, &count)) != NULL) {
        if (qr_object_is_memory(object))
            qr_object_swap_ahead(object, first, first + count);
        else
            qr_object_read_ahead(object, first, count);
        qr_object_put(object);
    }
}

enum qr_status
qr_space_advise(struct qr_space *space, qr_va start, size_t bytes, enum qr_advice advice)
{
    struct qr_tlb_batch batch;
    struct advise advise = {.advice = advice, .batch = &batch};
    struct qr_change change;
    struct qr_va_range range;
    enum qr_status status = qr_change_range(start, bytes, &range);

    if (status != QR_OK)
        return QR_ERR_RANGE;
    if (advice == QR_ADVICE_POPULATE_READ || advice == QR_ADVICE_POPULATE_WRITE)
        return qr_space_populate(space, start, bytes, advice == QR_ADVICE_POPULATE_WRITE);
    if (advice == QR_ADVICE_WILL_NEED) {
        advise_read_ahead(space, range);
        qr_swap_read_range(space, range);
    }
    qr_change_begin(&change, space);
    qr_tlb_batch_init(&batch, &space->tlb);
    status = advise_locked(&change, range, &advise);
    qr_change_end(&change);
    return status;
}

void
qr_space_set_merge_domain(struct qr_space *space, uint32_t domain)
{
    atomic_store_explicit(&space->merge_domain, domain, memory_order_relaxed);
}
