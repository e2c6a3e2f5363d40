/* SPDX-License-Identifier: MIT */
/*
 * Regions of huge pages.
 *
 * Such a region maps an object of huge pages (object/hugetlb.c) and begins and ends
 * on their borders; every call that would cut it elsewhere is refused.  It is
 * worked on page by page: a page is one entry, so a cursor for each costs
 * little beside the page.  Where its size is that of a group of leaves (table/group.c), the
 * entry is the group: it comes, changes and goes at once, and stays one.  A mark for such a page
 * stands in the first member's place.
 *
 * A private region gets copies of its own: pages that belong to no object.  The
 * region that the program asked for is promised as many pages as it may copy
 * (hugetlb_reserved), so that its faults cannot fail:
 *
 *   promised == pages of the region without a private copy        unless NO_RESERVE
 *
 * A copy that goes away turns back into a promise where the pool gets the page back;
 * it does not while a child of fork still has it, so the equation may fall short.
 * A child is promised nothing (as in Linux): it lives on pages that are free, and where
 * its parent needs a page that both have, the parent keeps it (fault/hugetlb.c).
 *
 *   region   [ c . . c | . c ]       c: private copy
 *   promised   3                     split at |  ->  2 and 1
 *
 * The number is guarded by the pool's lock: faults change it under the space's
 * lock for reading, and truncation under none.
 */
#include "hugetlb.h"

#include <quire/arch.h>

static bool
aligned_to(uintptr_t value, size_t bytes)
{
    return (value & (bytes - 1)) == 0;
}

void
qr_hugetlb_count_entry(const struct qr_region *region, struct qr_frame *head, int delta)
{
    struct qr_space *space = region->space;
    long pages = (long)hugetlb_frames(qr_region_hugetlb_pool(region)) * delta;

    atomic_fetch_add_explicit(&head->maps, (uint32_t)delta, memory_order_relaxed);
    atomic_fetch_add_explicit(&space->hugetlb_pages, pages, memory_order_relaxed);
}

/* ---- One page's entry -------------------------------------------------------------- */

/* Whoever asks has decided already. */
static bool
may_write_always(void *context, const struct qr_entry *entry)
{
    (void)context, (void)entry;
    return true;
}

static size_t
page_leaves(const struct qr_cursor *cursor, const struct qr_hugetlb_pool *pool)
{
    return hugetlb_bytes(pool) >> qr_format_shift(cursor->tables->format, pool->level);
}

/* The members share one table; above level 0 an empty table may stand in the way of each. */
enum qr_status
qr_hugetlb_page_prepare(struct qr_cursor *cursor, const struct qr_hugetlb_pool *pool, qr_va start)
{
    unsigned shift = qr_format_shift(cursor->tables->format, pool->level);
    size_t count = pool->level == 0 ? 1 : page_leaves(cursor, pool);
    enum qr_status status = QR_OK;

    for (size_t i = 0; i < count && status == QR_OK; i++)
        status = qr_cursor_prepare(cursor, qr_va_of(start.v + (i << shift)), pool->level);
    return status;
}

void
qr_hugetlb_page_map(struct qr_cursor *cursor, const struct qr_hugetlb_pool *pool, qr_va start,
                    const struct qr_leaf *leaf)
{
    if (!pool->grouped)
        qr_cursor_map(cursor, start, leaf);
    else
        qr_cursor_map_group(cursor, start, leaf);
}

struct qr_entry
qr_hugetlb_page_unmap(struct qr_cursor *cursor, const struct qr_hugetlb_pool *pool, qr_va start)
{
    return pool->grouped ? qr_cursor_unmap_group(cursor, start, pool->level)
                         : qr_cursor_unmap(cursor, start);
}

void
qr_hugetlb_page_change(struct qr_cursor *cursor, const struct qr_hugetlb_pool *pool, qr_va start,
                       const struct qr_leaf *leaf)
{
    if (pool->grouped) {
        qr_cursor_change_group(cursor, start, leaf);
        return;
    }
    qr_cursor_protect_range(cursor, qr_hugetlb_page_range(pool, start), leaf->prot, leaf->pkey,
                            may_write_always, NULL);
    qr_cursor_update(cursor, start, leaf->prot, leaf->flags, 0);
}

/* ---- Cuts ----------------------------------------------------------------------- */

static bool
may_cut_at(const struct qr_region *region, qr_va va)
{
    const struct qr_hugetlb_pool *pool = qr_region_hugetlb_pool(region);

    return pool == NULL || va.v <= region->start.v || va.v >= region->end.v ||
           aligned_to(va.v, hugetlb_bytes(pool));
}

bool
qr_hugetlb_may_cut(const struct qr_region *region, struct qr_va_range piece)
{
    return may_cut_at(region, piece.start) && may_cut_at(region, piece.end);
}

bool
qr_hugetlb_may_unmap(const struct qr_space *space, struct qr_va_range range)
{
    const struct qr_region *first = qr_space_find(space, range.start);
    const struct qr_region *last = qr_space_find(space, range.end);

    return (first == NULL || may_cut_at(first, range.start)) &&
           (last == NULL || may_cut_at(last, range.end));
}

enum qr_status
qr_hugetlb_whole_pages(const struct qr_region *region, struct qr_va_range *piece)
{
    size_t mask = hugetlb_bytes(qr_region_hugetlb_pool(region)) - 1;

    if ((piece->start.v & mask) != 0)
        return QR_ERR_INVALID;
    piece->end = qr_va_of(piece->end.v & ~mask);
    return QR_OK;
}

/* ---- Mapping --------------------------------------------------------------------- */

enum qr_status
qr_hugetlb_check_map(const struct qr_map_request *request, size_t *out_bytes)
{
    size_t page = qr_hugetlb_pool_bytes(qr_object_hugetlb_pool(request->object));
    size_t bytes = (request->bytes + page - 1) & ~(page - 1);

    if (bytes < request->bytes)
        return QR_ERR_NO_MEMORY;
    if ((request->object_offset & (page - 1)) != 0 || request->align_bytes < page)
        return QR_ERR_INVALID;
    if ((request->flags & (QR_MAP_FIXED | QR_MAP_FIXED_NOREPLACE)) != 0 &&
        !aligned_to(request->hint.v, page))
        return QR_ERR_INVALID;
    *out_bytes = bytes;
    return QR_OK;
}

enum qr_status
qr_hugetlb_prepare_map(struct qr_region *like)
{
    struct qr_hugetlb_pool *pool = qr_region_hugetlb_pool(like);
    size_t first = qr_hugetlb_index(like, pool, like->start);
    size_t pages = qr_region_pages(like) >> pool->order;
    enum qr_status status = QR_OK;

    if (qr_region_is_shared(like)) {
        if ((like->flags & QR_REGION_NO_RESERVE) == 0)
            status = qr_object_hugetlb_reserve(like->object, first, first + pages);
    } else if ((like->flags & QR_REGION_HUGETLB_OWNER) != 0) {
        status = qr_hugetlb_reserve(pool, pages);
        if (status == QR_OK)
            like->hugetlb_reserved = pages;
    }
    /* As in Linux, who maps for writing beyond the end moves the end. */
    if (status == QR_OK && (like->prot & QR_PROT_WRITE) != 0)
        qr_object_hugetlb_grow(like->object, (uint64_t)(first + pages) << pool->shift);
    return status;
}

/* ---- Page by page ------------------------------------------------------------------ */

/* Ranges up to so many pages are looked at one by one; longer ones may hold great holes. */
#define SKIP_PAGES 16

/* The next page of *@rest that may have an entry, cut off it; false: nothing is left. */
static bool
huge_next(struct qr_tables *tables, const struct qr_hugetlb_pool *pool, struct qr_va_range *rest,
          struct qr_va_range *out_page)
{
    qr_va at = rest->start;

    if (rest->start.v >= rest->end.v)
        return false;
    if (qr_va_range_bytes(*rest) >> pool->shift > SKIP_PAGES) {
        struct qr_cursor cursor;
        struct qr_entry entry;

        qr_cursor_open(&cursor, tables, *rest, NULL);
        bool found = qr_cursor_find(&cursor, rest->start, &entry);
        qr_cursor_close(&cursor);
        if (!found)
            return false;
        if (entry.start.v > at.v)
            at = entry.start;
    }
    *out_page = qr_hugetlb_page_range(pool, at);
    rest->start = out_page->end;
    return true;
}

/* The next page of *@rest, whether it has an entry or not. */
static bool
every_next(const struct qr_hugetlb_pool *pool, struct qr_va_range *rest,
           struct qr_va_range *out_page)
{
    if (rest->start.v >= rest->end.v)
        return false;
    *out_page = qr_hugetlb_page_range(pool, rest->start);
    rest->start = out_page->end;
    return true;
}

/* The page that the leaf maps; NULL: no leaf. */
static struct qr_frame *
leaf_page(const struct qr_region *region, const struct qr_entry *entry)
{
    return entry->kind == QR_ENTRY_LEAF ? qr_leaf_frame(region, &entry->leaf) : NULL;
}

static struct qr_entry
look(struct qr_tables *tables, struct qr_va_range page)
{
    struct qr_cursor cursor;

    qr_cursor_open(&cursor, tables, page, NULL);
    struct qr_entry entry = qr_cursor_query(&cursor, page.start);

    qr_cursor_close(&cursor);
    return entry;
}

/* @return false without memory */
static bool
page_mark_protected(struct qr_cursor *cursor, const struct qr_hugetlb_pool *pool, qr_va start)
{
    if (qr_hugetlb_page_prepare(cursor, pool, start) != QR_OK)
        return false;
    qr_cursor_mark(cursor, start, pool->level, (struct qr_mark){.kind = QR_MARK_WRITE_PROTECT});
    return true;
}

/* ---- Taking out ---------------------------------------------------------------------- */

#define ZAP_PAGES 16

struct huge_zap {
    struct qr_region *region;
    struct qr_hugetlb_pool *pool;
    struct qr_tlb_batch *batch;
    struct qr_frame *heads[ZAP_PAGES]; /* taken out; a use of each is ours */
    unsigned count;
};

/* Once no CPU can use them, give the pages back. */
static void
zap_flush(struct huge_zap *zap)
{
    bool owner = (zap->region->flags & QR_REGION_HUGETLB_OWNER) != 0;

    qr_tlb_batch_finish(zap->batch);
    for (unsigned i = 0; i < zap->count; i++) {
        bool promise = owner && !qr_hugetlb_is_shared(zap->heads[i]);

        qr_hugetlb_page_put(zap->pool, zap->heads[i],
                            promise ? &zap->region->hugetlb_reserved : NULL);
    }
    zap->count = 0;
}

static void
zap_page(struct huge_zap *zap, struct qr_va_range page, enum qr_zap_what what)
{
    struct qr_cursor cursor;

    qr_cursor_open(&cursor, &zap->region->space->tables, page, zap->batch);
    struct qr_entry entry = qr_cursor_query(&cursor, page.start);
    struct qr_frame *head = leaf_page(zap->region, &entry);
    bool marked = entry.kind == QR_ENTRY_MARK && entry.mark.kind == QR_MARK_WRITE_PROTECT;
    bool wanted = what == QR_ZAP_ALL || (what == QR_ZAP_WATCHED && !marked) ||
                  (head != NULL && qr_hugetlb_is_shared(head));
    bool keep =
        what != QR_ZAP_ALL && head != NULL && qr_leaf_is_write_watched(zap->region, &entry.leaf);

    if (wanted && entry.kind != QR_ENTRY_NONE)
        (void)qr_hugetlb_page_unmap(&cursor, zap->pool, page.start);
    if (wanted && keep) /* the page may come back, and is protected then, too */
        (void)page_mark_protected(&cursor, zap->pool, page.start);
    if (wanted && head != NULL) {
        qr_hugetlb_count_entry(zap->region, head, -1);
        zap->heads[zap->count++] = head;
    }
    qr_cursor_close(&cursor);
}

void
qr_hugetlb_zap(struct qr_region *region, struct qr_va_range range, enum qr_zap_what what,
               struct qr_tlb_batch *batch)
{
    struct huge_zap zap = {
        .region = region, .pool = qr_region_hugetlb_pool(region), .batch = batch};
    struct qr_va_range page;

    while (huge_next(&region->space->tables, zap.pool, &range, &page)) {
        zap_page(&zap, page, what);
        if (zap.count == ZAP_PAGES)
            zap_flush(&zap);
    }
    qr_tlb_batch_cover(batch);
    if (zap.count > 0)
        zap_flush(&zap);
}

/* ---- Promises of private regions -------------------------------------------------------- */

/* Pages of @range without a private copy. */
static size_t
pages_without_copy(const struct qr_region *region, struct qr_va_range range)
{
    struct qr_hugetlb_pool *pool = qr_region_hugetlb_pool(region);
    size_t pages = qr_va_range_bytes(range) >> pool->shift;
    struct qr_va_range page;

    while (huge_next(&region->space->tables, pool, &range, &page)) {
        struct qr_entry entry = look(&region->space->tables, page);
        const struct qr_frame *head = leaf_page(region, &entry);

        pages -= head != NULL && !qr_hugetlb_is_shared(head);
    }
    return pages;
}

void
qr_hugetlb_split_promise(struct qr_region *region, struct qr_region *other,
                         struct qr_va_range range)
{
    if (region->hugetlb_reserved == 0)
        return;
    qr_hugetlb_move_reserve(qr_region_hugetlb_pool(region), &region->hugetlb_reserved,
                            &other->hugetlb_reserved, pages_without_copy(region, range));
}

void
qr_hugetlb_shrink_promise(struct qr_region *region)
{
    if (region->hugetlb_reserved == 0)
        return;
    qr_hugetlb_trim_reserve(qr_region_hugetlb_pool(region), &region->hugetlb_reserved,
                            pages_without_copy(region, qr_region_range(region)));
}

void
qr_hugetlb_join_promise(struct qr_region *to, const struct qr_region *from)
{
    size_t pages = from->hugetlb_reserved;

    qr_hugetlb_move_reserve(qr_region_hugetlb_pool(from), &pages, &to->hugetlb_reserved, SIZE_MAX);
}

void
qr_hugetlb_drop_promise(struct qr_region *region)
{
    qr_hugetlb_trim_reserve(qr_region_hugetlb_pool(region), &region->hugetlb_reserved, 0);
}

/* ---- Protection ------------------------------------------------------------------------- */

/* May a leaf of the region be writable without a fault? */
static bool
huge_leaf_may_write(const struct qr_region *region, const struct qr_entry *entry)
{
    const struct qr_frame *head = leaf_page(region, entry);

    if (qr_region_is_shared(region))
        return true;
    return head != NULL && !qr_hugetlb_is_shared(head) &&
           qr_hugetlb_page_is_exclusive(qr_region_hugetlb_pool(region), head);
}

static void
protect_page(const struct qr_region *region, struct qr_cursor *cursor, const struct qr_entry *entry,
             struct qr_attributes attributes)
{
    const struct qr_hugetlb_pool *pool = qr_region_hugetlb_pool(region);
    struct qr_leaf leaf = entry->leaf;

    leaf.prot = qr_leaf_prot(attributes.prot);
    leaf.pkey = attributes.pkey;
    if ((attributes.prot & ~region->prot & QR_PROT_EXEC) != 0)
        (void)qr_arch_code_written(leaf.pa, hugetlb_bytes(pool));
    if ((entry->leaf.prot & QR_PROT_WRITE) == 0 &&
        (qr_leaf_is_write_watched(region, &entry->leaf) || !huge_leaf_may_write(region, entry)))
        leaf.prot &= ~(unsigned)QR_PROT_WRITE;
    qr_hugetlb_page_change(cursor, pool, entry->start, &leaf);
}

void
qr_hugetlb_protect(struct qr_region *region, struct qr_va_range range,
                   struct qr_attributes attributes, struct qr_tlb_batch *batch)
{
    struct qr_hugetlb_pool *pool = qr_region_hugetlb_pool(region);
    struct qr_tables *tables = &region->space->tables;
    struct qr_va_range page;

    while (huge_next(tables, pool, &range, &page)) {
        struct qr_cursor cursor;

        qr_cursor_open(&cursor, tables, page, batch);
        struct qr_entry entry = qr_cursor_query(&cursor, page.start);

        if (entry.kind == QR_ENTRY_LEAF)
            protect_page(region, &cursor, &entry, attributes);
        qr_cursor_close(&cursor);
    }
    qr_tlb_batch_cover(batch);
}

/* ---- Pages that a listener is told of when they are written ------------------------------- */

/* No leaf of the page is marked any more; its rights stay, and a fault gives it the others. */
static void
unprotect_leaf(struct qr_cursor *cursor, const struct qr_hugetlb_pool *pool,
               const struct qr_entry *entry)
{
    if (!pool->grouped) {
        qr_cursor_update(cursor, entry->start, entry->leaf.prot, 0, QR_LEAF_SOFT_2);
        return;
    }
    struct qr_leaf leaf = qr_hugetlb_page_unmap(cursor, pool, entry->start).leaf;

    cursor->batch->flush(cursor->batch);
    leaf.flags &= ~(unsigned)QR_LEAF_SOFT_2;
    qr_hugetlb_page_map(cursor, pool, entry->start, &leaf);
}

/* @return false without memory for a mark */
static bool
write_protect_page(struct qr_cursor *cursor, const struct qr_hugetlb_pool *pool, qr_va start,
                   bool protect)
{
    struct qr_entry entry = qr_cursor_query(cursor, start);

    if (entry.kind == QR_ENTRY_LEAF && protect) {
        entry.leaf.prot &= ~(unsigned)QR_PROT_WRITE;
        entry.leaf.flags |= QR_LEAF_SOFT_2;
        qr_hugetlb_page_change(cursor, pool, start, &entry.leaf);
    } else if (entry.kind == QR_ENTRY_LEAF && (entry.leaf.flags & QR_LEAF_SOFT_2) != 0) {
        unprotect_leaf(cursor, pool, &entry);
    } else if (entry.kind == QR_ENTRY_NONE && protect) {
        return page_mark_protected(cursor, pool, start);
    } else if (entry.kind == QR_ENTRY_MARK && entry.mark.kind == QR_MARK_WRITE_PROTECT &&
               !protect) {
        (void)qr_hugetlb_page_unmap(cursor, pool, start);
    }
    return true;
}

bool
qr_hugetlb_write_protect(const struct qr_region *region, struct qr_va_range range, bool protect,
                         struct qr_tlb_batch *batch)
{
    struct qr_hugetlb_pool *pool = qr_region_hugetlb_pool(region);
    struct qr_tables *tables = &region->space->tables;
    struct qr_va_range page;
    bool done = true;

    while (done &&
           (protect ? every_next(pool, &range, &page) : huge_next(tables, pool, &range, &page))) {
        struct qr_cursor cursor;

        qr_cursor_open(&cursor, tables, page, batch);
        done = write_protect_page(&cursor, pool, page.start, protect);
        qr_cursor_close(&cursor);
    }
    qr_tlb_batch_cover(batch);
    return done;
}

/* ---- Fork ---------------------------------------------------------------------------------- */

struct huge_fork {
    const struct qr_region *region; /* the parent's */
    struct qr_region child;         /* of the child, for the counts */
};

/* The page at @start under both cursors: shared from now on, read-only, if it is private. */
static enum qr_status
fork_page(struct huge_fork *fork, struct qr_cursor *from, struct qr_cursor *to, qr_va start)
{
    const struct qr_hugetlb_pool *pool = qr_region_hugetlb_pool(fork->region);
    struct qr_entry entry = qr_cursor_query(from, start);
    struct qr_frame *head = leaf_page(fork->region, &entry);

    if (entry.kind == QR_ENTRY_NONE || (head != NULL && qr_hugetlb_is_shared(head)))
        return QR_OK;
    enum qr_status status = qr_hugetlb_page_prepare(to, pool, start);

    if (status != QR_OK)
        return status;
    if (head == NULL) {
        qr_cursor_mark(to, start, pool->level, entry.mark);
        return QR_OK;
    }
    entry.leaf.prot &= ~(unsigned)QR_PROT_WRITE;
    qr_hugetlb_page_change(from, pool, start, &entry.leaf);
    qr_hugetlb_page_map(to, pool, start, &entry.leaf);
    qr_hugetlb_page_get(head);
    qr_hugetlb_count_entry(&fork->child, head, 1);
    return QR_OK;
}

enum qr_status
qr_hugetlb_fork(const struct qr_region *region, struct qr_space *child, struct qr_tlb_batch *batch)
{
    struct huge_fork fork = {.region = region};
    struct qr_va_range rest = qr_region_range(region);
    enum qr_status status = QR_OK;
    struct qr_va_range page;

    qr_region_copy(&fork.child, region);
    fork.child.space = child;
    while (status == QR_OK &&
           huge_next(&region->space->tables, qr_region_hugetlb_pool(region), &rest, &page)) {
        struct qr_cursor from, to;

        qr_cursor_open(&from, &region->space->tables, page, batch);
        qr_cursor_open(&to, &child->tables, page, NULL);
        status = fork_page(&fork, &from, &to, page.start);
        qr_cursor_close(&to);
        qr_cursor_close(&from);
    }
    return status;
}

/* ---- Looking ------------------------------------------------------------------------------- */

void
qr_hugetlb_resident(const struct qr_region *region, struct qr_va_range range, uint8_t *out)
{
    struct qr_hugetlb_pool *pool = qr_region_hugetlb_pool(region);
    size_t count = qr_va_range_pages(range);
    uintptr_t end = 0;
    uint8_t here = 0;

    for (size_t i = 0; i < count; i++) {
        uintptr_t at = range.start.v + (i << QR_PAGE_SHIFT);

        if (at >= end) {
            struct qr_va_range page = qr_hugetlb_page_range(pool, qr_va_of(at));

            here = look(&region->space->tables, page).kind == QR_ENTRY_LEAF;
            end = page.end.v;
        }
        out[i] = here;
    }
}

/* ---- Moving -------------------------------------------------------------------------------- */

static struct qr_va_range
moved_page(const struct qr_hugetlb_pool *pool, struct qr_va_range page, qr_va from, qr_va to)
{
    return qr_hugetlb_page_range(pool, qr_va_of(page.start.v - from.v + to.v));
}

enum qr_status
qr_hugetlb_move_prepare(const struct qr_region *region, struct qr_va_range range, qr_va to)
{
    struct qr_hugetlb_pool *pool = qr_region_hugetlb_pool(region);
    struct qr_tables *tables = &region->space->tables;
    enum qr_status status = QR_OK;
    qr_va from = range.start;
    struct qr_va_range page;

    while (status == QR_OK && huge_next(tables, pool, &range, &page)) {
        struct qr_va_range target = moved_page(pool, page, from, to);
        struct qr_tlb_batch batch;
        struct qr_cursor cursor;

        qr_tlb_batch_init(&batch, &region->space->tlb);
        qr_cursor_open(&cursor, tables, target, &batch);
        status = qr_hugetlb_page_prepare(&cursor, pool, target.start);
        qr_cursor_close(&cursor);
        qr_tlb_batch_finish(&batch);
    }
    return status;
}

static void
move_page(struct qr_region *region, struct qr_va_range page, struct qr_va_range target,
          struct qr_tlb_batch *batch)
{
    struct qr_hugetlb_pool *pool = qr_region_hugetlb_pool(region);
    struct qr_tables *tables = &region->space->tables;
    struct qr_entry entry;
    struct qr_cursor cursor;

    qr_cursor_open(&cursor, tables, page, batch);
    entry = qr_cursor_query(&cursor, page.start);
    if (entry.kind != QR_ENTRY_NONE)
        entry = qr_hugetlb_page_unmap(&cursor, pool, page.start);
    qr_cursor_close(&cursor);
    if (entry.kind == QR_ENTRY_NONE)
        return;
    qr_cursor_open(&cursor, tables, target, batch);
    enum qr_status status = qr_hugetlb_page_prepare(&cursor, pool, target.start);

    qr_assert(status == QR_OK && "the tables were built before");
    if (entry.kind == QR_ENTRY_LEAF)
        qr_hugetlb_page_map(&cursor, pool, target.start, &entry.leaf);
    else
        qr_cursor_mark(&cursor, target.start, pool->level, entry.mark);
    qr_cursor_close(&cursor);
}

void
qr_hugetlb_move(struct qr_region *region, struct qr_va_range range, qr_va to,
                struct qr_tlb_batch *batch)
{
    struct qr_hugetlb_pool *pool = qr_region_hugetlb_pool(region);
    qr_va from = range.start;
    struct qr_va_range page;

    while (huge_next(&region->space->tables, pool, &range, &page))
        move_page(region, page, moved_page(pool, page, from, to), batch);
}
