/* SPDX-License-Identifier: MIT */
/*
 * Taking table entries out, and the tally of frames that entries stand for.
 *
 * Every entry for a frame of private memory (ANON) or of an object (OBJECT)
 * holds one reference and one count in frame->maps.  The zero frame and device
 * pages are entries without either.  When an entry goes, its reference goes to
 * the flush batch, which drops it once no CPU can use the translation; `maps`
 * and the resident counts change at once.
 *
 * Dirty bits of files need not be looked at here: a leaf for a file's page is
 * writable only while the page is marked dirty (see object.c), and private
 * memory is always dirty.  Shared memory can be written through a leaf that a
 * read has set: there the dirty bit says whether it was, and the frame
 * remembers it (zap_stored).
 *
 * Ranges are worked on in chunks, because a cursor keeps interrupts off.
 *
 * Tables that become empty go with the entries where the range takes all of
 * them.  A small range leaves its tables behind, and that is good: most programs
 * map there again.  So that a program cannot collect empty tables without end
 * (invariants 32), a space that has many more than it needs gives those around
 * each unmapped range back.
 */
#include "hugetlb.h"
#include "swap.h"

/* Ranges up to this length are walked chunk by chunk; longer ones may hold great holes. */
#define SKIP_BYTES (16 * QR_CHUNK_BYTES)

bool
qr_chunk_cut(struct qr_tables *tables, struct qr_va_range *rest, struct qr_va_range *out_chunk)
{
    uintptr_t start = rest->start.v;
    uintptr_t end = rest->end.v;

    if (end - start > SKIP_BYTES) {
        struct qr_cursor cursor;
        struct qr_entry entry;

        qr_cursor_open(&cursor, tables, *rest, NULL);
        bool found = qr_cursor_find(&cursor, rest->start, &entry);
        qr_cursor_close(&cursor);
        if (!found)
            return false;
        start = qr_max_size(start, entry.start.v & ~(QR_CHUNK_BYTES - 1));
    }
    uintptr_t stop = (start & ~(QR_CHUNK_BYTES - 1)) + QR_CHUNK_BYTES;

    if (stop > end || stop < start)
        stop = end;
    *out_chunk = qr_range_of(start, stop);
    rest->start = qr_va_of(stop);
    return true;
}

void
qr_chunk_widen(struct qr_cursor *cursor, struct qr_va_range *rest, struct qr_va_range *io_chunk)
{
    struct qr_entry entry = qr_cursor_query(cursor, qr_va_of(io_chunk->end.v - QR_PAGE_SIZE));
    uintptr_t end = qr_min_size(qr_entry_end(cursor->tables, &entry), rest->end.v);

    if (entry.kind != QR_ENTRY_LEAF || end <= io_chunk->end.v)
        return;
    struct qr_tables *tables = cursor->tables;
    struct qr_tlb_batch *batch = cursor->batch;

    qr_cursor_close(cursor);
    io_chunk->end = qr_va_of(end);
    rest->start = qr_va_of(end);
    qr_cursor_open(cursor, tables, *io_chunk, batch);
}

/* A merged frame is private memory, and counted beside. */
static QR_NOINLINE void
tally_merged(struct qr_tally *tally, struct qr_counters *machine, bool edge, int delta)
{
    tally->resident[QR_RESIDENT_ANON] += delta;
    tally->anon += edge ? delta : 0;
    qr_counter_add(machine, QR_PAGES_MERGE_MAPS, delta);
    if (edge)
        qr_counter_add(machine, QR_PAGES_MERGED, delta);
}

void
qr_tally_leaf(struct qr_tally *tally, const struct qr_region *region, struct qr_frame *frame,
              int delta)
{
    uint32_t before =
        atomic_fetch_add_explicit(&frame->maps, (uint32_t)delta, memory_order_relaxed);
    enum qr_frame_type type = qr_frame_type(frame);
    bool edge = before == (delta > 0 ? 0u : 1u);

    if (type == QR_FRAME_ANON) {
        tally->resident[QR_RESIDENT_ANON] += delta;
        tally->anon += edge ? delta : 0;
        return;
    }
    if (QR_HAS_MERGE && type == QR_FRAME_MERGED) {
        tally_merged(tally, region->space->vm->counters, edge, delta);
        return;
    }
    if (qr_unlikely(type == QR_FRAME_SWAP)) {
        tally->resident[QR_RESIDENT_ANON] += delta;
        tally->anon += edge ? delta : 0;
        if (edge && delta < 0 && region != NULL)
            qr_swap_unmapped(region->space->vm->config.swap, frame);
        return;
    }
    qr_debug_assert(type == QR_FRAME_OBJECT && region->object != NULL);
    tally->resident[qr_object_is_memory(region->object) ? QR_RESIDENT_SHMEM : QR_RESIDENT_FILE] +=
        delta;
    tally->mapped += edge ? delta : 0;
}

void
qr_tally_apply(struct qr_tally *tally, struct qr_space *space)
{
    struct qr_counters *machine = space->vm->counters;

    for (int kind = 0; kind < 3; kind++) {
        if (tally->resident[kind] != 0)
            atomic_fetch_add_explicit(&space->resident[kind], tally->resident[kind],
                                      memory_order_relaxed);
    }
    if (tally->anon != 0)
        qr_counter_add(machine, QR_PAGES_ANON, tally->anon);
    if (tally->mapped != 0)
        qr_counter_add(machine, QR_PAGES_MAPPED, tally->mapped);
    *tally = (struct qr_tally){.anon = 0};
}

struct zap {
    const struct qr_region *region;
    struct qr_tlb_batch *batch;
    struct qr_tally tally;
    bool any;
    void (*one)(void *zap, const struct qr_entry *entry);
};

static QR_NOINLINE void
zap_large(struct zap *zap, const struct qr_entry *entry)
{
    struct qr_space *space = zap->region->space;
    struct qr_large large = qr_large_of(space, entry);

    qr_large_count(space, &large, -1);
    if (large.head == NULL)
        return;
    zap->any = true;
    qr_tally_large(&zap->tally, zap->region, &large, -1);
    qr_tlb_batch_add_block(zap->batch, large.head, large.pages);
}

static void
zap_entry(void *context, const struct qr_entry *entry)
{
    struct zap *zap = context;

    if (entry->kind != QR_ENTRY_LEAF) {
        qr_swap_forget_mark(zap->region->space, entry);
        return;
    }
    if (qr_unlikely(entry->level > 0)) {
        zap_large(zap, entry);
        return;
    }
    struct qr_frame *frame = qr_leaf_frame(zap->region, &entry->leaf);

    if (frame == NULL)
        return;
    zap->any = true;
    qr_tally_leaf(&zap->tally, zap->region, frame, -1);
    qr_tlb_batch_add_frame(zap->batch, frame);
}

/* The same of shared memory, whose frames remember that somebody has written to them. */
static void
zap_stored(void *context, const struct qr_entry *entry)
{
    struct zap *zap = context;
    struct qr_space *space = zap->region->space;
    struct qr_frame *frame =
        entry->kind == QR_ENTRY_LEAF && (entry->leaf.flags & QR_LEAF_DIRTY) != 0
            ? qr_leaf_frame(zap->region, &entry->leaf)
            : NULL;

    if (frame != NULL && qr_frame_type(frame) == QR_FRAME_OBJECT) {
        size_t pages = (qr_entry_end(&space->tables, entry) - entry->start.v) >> QR_PAGE_SHIFT;
        qr_pfn pfn = qr_pa_to_pfn(entry->leaf.pa);

        for (size_t i = 0; i < pages; i++)
            qr_object_mark_dirty(zap->region->object,
                                 qr_frame_of(space->vm->config.frames, qr_pfn_of(pfn.v + i)));
    }
    zap_entry(zap, entry);
}

static bool
zap_has_stores(const struct qr_region *region)
{
    return region->object != NULL && qr_object_is_memory(region->object);
}

/*
 * The entry was just taken out and its table is locked: preparing finds it there.  In the place of a large leaf,
 * where memory may be short, each of its pages gets a mark of its own, as on Linux, which splits what is protected.
 */
static void
zap_mark_protected(struct qr_cursor *cursor, const struct qr_entry *entry)
{
    const struct qr_mark mark = {.kind = QR_MARK_WRITE_PROTECT};
    uintptr_t end = qr_entry_end(cursor->tables, entry);

    for (uintptr_t at = entry->start.v; at < end; at += QR_PAGE_SIZE) {
        if (qr_cursor_prepare(cursor, qr_va_of(at), 0) == QR_OK)
            qr_cursor_mark(cursor, qr_va_of(at), 0, mark);
    }
}

/* Does the region's listener want to know when the page of @entry is written? */
static bool
entry_is_protected(const struct qr_region *region, const struct qr_entry *entry)
{
    if (entry->kind == QR_ENTRY_LEAF)
        return qr_leaf_is_write_watched(region, &entry->leaf);
    return qr_entry_is_swap(entry) && (qr_mark_leaf_flags(&entry->mark) & QR_LEAF_SOFT_2) != 0;
}

/* As qr_cursor_unmap_range(), but protection stays. */
static void
zap_watched(struct zap *zap, struct qr_cursor *cursor, struct qr_va_range range)
{
    struct qr_entry entry;
    qr_va at = range.start;

    while (at.v < range.end.v && qr_cursor_find(cursor, at, &entry)) {
        if (entry.kind != QR_ENTRY_MARK || entry.mark.kind != QR_MARK_WRITE_PROTECT) {
            bool keep = entry_is_protected(zap->region, &entry);

            entry = qr_cursor_unmap(cursor, entry.start);
            zap->one(zap, &entry);
            if (keep)
                zap_mark_protected(cursor, &entry);
        }
        at = qr_va_of(qr_entry_end(cursor->tables, &entry));
    }
}

/* As qr_cursor_unmap_range(), but only leaves of the object's own frames. */
static void
zap_object_leaves(struct zap *zap, struct qr_cursor *cursor, struct qr_va_range range)
{
    struct qr_entry entry;
    qr_va at = range.start;

    while (at.v < range.end.v && qr_cursor_find(cursor, at, &entry)) {
        if (entry.kind == QR_ENTRY_LEAF) {
            const struct qr_frame *frame = qr_leaf_frame(zap->region, &entry.leaf);

            if (frame == NULL || qr_frame_type(frame) == QR_FRAME_OBJECT) {
                bool keep = qr_leaf_is_write_watched(zap->region, &entry.leaf);

                entry = qr_cursor_unmap(cursor, entry.start);
                zap->one(zap, &entry);
                if (keep) /* the page may come back, and is protected then, too */
                    zap_mark_protected(cursor, &entry);
            }
        }
        at = qr_va_of(qr_entry_end(cursor->tables, &entry));
    }
}

/* As qr_cursor_unmap_range(), but frames of the region's own stay until memory is short. */
static void
zap_lazily(struct zap *zap, struct qr_cursor *cursor, struct qr_va_range range)
{
    struct qr_space *space = zap->region->space;
    struct qr_entry entry;
    qr_va at = range.start;
    size_t marked = 0;

    while (at.v < range.end.v && qr_cursor_find(cursor, at, &entry)) {
        struct qr_frame *frame = entry.kind == QR_ENTRY_LEAF && entry.level == 0
                                     ? qr_leaf_frame(zap->region, &entry.leaf)
                                     : NULL;

        if (frame != NULL && qr_lazy_mark(cursor, &entry, frame)) {
            marked++;
        } else {
            entry = qr_cursor_unmap(cursor, entry.start);
            zap_entry(zap, &entry);
        }
        at = qr_va_of(qr_entry_end(cursor->tables, &entry));
    }
    if (marked == 0)
        return;
    qr_counter_add(space->vm->counters, QR_EVENT_LAZY_FREE, (long)marked);
    qr_space_add_stat(space, QR_GROUP_STAT_LAZY_FREE, marked);
    atomic_fetch_add_explicit(&space->lazy, marked, memory_order_relaxed);
}

static inline void
zap_chunk(struct zap *zap, struct qr_cursor *cursor, struct qr_va_range chunk,
          enum qr_zap_what what)
{
    if (what == QR_ZAP_ALL)
        qr_cursor_unmap_range(cursor, chunk, zap->one, zap);
    else if (what == QR_ZAP_LAZILY)
        zap_lazily(zap, cursor, chunk);
    else if (what == QR_ZAP_WATCHED)
        zap_watched(zap, cursor, chunk);
    else
        zap_object_leaves(zap, cursor, chunk);
}

enum qr_status
qr_zap_range(struct qr_region *region, struct qr_va_range range, enum qr_zap_what what,
             struct qr_tlb_batch *batch)
{
    struct qr_space *space = region->space;
    struct zap zap = {
        .region = region, .batch = batch, .one = zap_has_stores(region) ? zap_stored : zap_entry};
    struct qr_cursor cursor;
    struct qr_va_range chunk;
    enum qr_status status = QR_OK;

    if (qr_region_is_hugetlb(region)) {
        qr_hugetlb_zap(region, range, what, batch);
        return QR_OK;
    }
    while (status == QR_OK && qr_chunk_open(&cursor, space, &range, &chunk, batch)) {
        if (qr_unlikely(qr_space_has_large(space)))
            status = qr_large_cut_ends(&cursor, space, chunk);
        if (status == QR_OK)
            zap_chunk(&zap, &cursor, chunk, what);
        if (zap.any) {
            qr_space_note_peak(space);
            qr_tally_apply(&zap.tally, space);
        }
        qr_cursor_close(&cursor);
    }
    qr_tlb_batch_cover(batch);
    return status;
}

/* ---- Empty tables ------------------------------------------------------------ */

/* More tables than this are not due to what is mapped. */
static size_t
tables_expected(const struct qr_space *space)
{
    return 32 + 4 * space->counts.region_count + (space->counts.virtual_pages >> 8);
}

/* @range, widened to whole tables of the highest level that no region reaches into. */
static struct qr_va_range
sweep_range(const struct qr_space *space, struct qr_va_range range)
{
    const struct qr_region *above = qr_space_find(space, range.start);
    const struct qr_region *below = qr_space_find_below(space, range.start);
    uintptr_t low = below == NULL ? 0 : below->end.v;
    uintptr_t high = above == NULL ? space->layout.user_end.v : above->start.v;
    struct qr_format_info info;

    qr_format_info(space->tables.format, &info);
    for (unsigned level = 1; level < info.levels; level++) {
        uintptr_t mask = ((uintptr_t)1 << qr_format_shift(space->tables.format, level)) - 1;
        uintptr_t start = range.start.v & ~mask;
        uintptr_t end = (range.end.v + mask) & ~mask;

        if (start < low || end > high || end < range.end.v)
            break;
        range = qr_range_of(start, end);
    }
    return range;
}

static void
sweep_entry(void *context, const struct qr_entry *entry)
{
    (void)context;
    qr_panic("an entry at %p, where no region is", (void *)entry->start.v);
}

void
qr_tables_sweep(struct qr_space *space, struct qr_va_range range)
{
    struct qr_tlb_batch batch;
    struct qr_cursor cursor;

    if (qr_likely(atomic_load_explicit(&space->tables.table_count, memory_order_relaxed) <=
                  tables_expected(space)))
        return;
    range = sweep_range(space, range);
    qr_tlb_batch_init(&batch, &space->tlb);
    qr_cursor_open(&cursor, &space->tables, range, &batch);
    qr_cursor_unmap_range(&cursor, range, sweep_entry, NULL);
    qr_cursor_close(&cursor);
    qr_tlb_batch_finish(&batch);
}
