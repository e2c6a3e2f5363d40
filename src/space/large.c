/* SPDX-License-Identifier: MIT */
/*
 * Leaves above level 0.
 *
 * A large leaf stands for each of its pages as that page's own leaf would: every frame
 * behind it is a single frame with one reference and one count in `maps` for it.
 *
 *   level 1   [       L        ]            [ table ]
 *                                  split       |
 *   level 0                          =>     [ l l l l l l l l ]
 *
 *   frames    f f f f f f f f               f f f f f f f f     nothing changed here
 *
 * So whatever is true of a frame does not depend on the size of its leaf: splitting one
 * takes a table and touches no frame, a pin keeps one page, a part that is unmapped is
 * free at once, a copy of one page is a copy of one frame, and two spaces may see the same
 * frames through leaves of different sizes.  What it costs is counting frames one by one where a
 * block with a single count would be counted once (decision 9 weighs it); frames that
 * lose their last reference together go back together, and are one block again.
 *
 * The huge frame of zeroes has, like the small one, neither references nor counts.  Its leaf is
 * not split but taken out: what is not there reads as zero as well.  So is a leaf of shared
 * memory, whose pages the object keeps: it never takes memory, where truncation could not wait
 * for any.
 *
 * Invariants
 *   1 a large leaf lies within one region: what cuts a region splits the leaf first, and
 *     that may fail, so it comes before anything changes
 *   2 space->large_leaves is the number of large leaves; it changes under the lock of the
 *     leaf's table, so who holds that lock and reads 0 need not look for one
 *
 * Under the space's lock for writing no large leaf can appear, so one look at a range's ends is
 * enough.  Under the lock for reading the look and the change share a cursor.
 */
#include "region.h"

size_t
qr_large_pages(const struct qr_tables *tables, unsigned level)
{
    return (size_t)1 << (qr_format_shift(tables->format, level) - QR_PAGE_SHIFT);
}

/* The descriptors of a block lie side by side only within 512 frames. */
static struct qr_frame *
large_next_frame(struct qr_frames *frames, struct qr_frame *frame, qr_pfn pfn)
{
    return (pfn.v & 511) == 0 ? qr_frame_of(frames, pfn) : frame + 1;
}

void
qr_large_each_frame(struct qr_frames *frames, const struct qr_large *large, qr_large_fn fn,
                    void *context)
{
    struct qr_frame *frame = large->head;
    qr_pfn pfn = qr_frame_pfn(frames, frame);

    for (size_t i = 0; i < large->pages; i++) {
        if (i > 0)
            frame = large_next_frame(frames, frame, qr_pfn_of(pfn.v + i));
        fn(context, frame, i);
    }
}

void
qr_large_count(struct qr_space *space, const struct qr_large *large, int delta)
{
    atomic_fetch_add_explicit(&space->large_leaves, delta, memory_order_relaxed);
    if (large->head != NULL)
        qr_counter_add(space->vm->counters,
                       qr_frame_is_private(large->head) ? QR_PAGES_HUGE_ANON : QR_PAGES_THP_MAPS,
                       delta * (long)large->pages);
}

struct large_tally {
    struct qr_tally *tally;
    const struct qr_region *region;
    int delta;
};

static void
large_tally_frame(void *context, struct qr_frame *frame, size_t index)
{
    struct large_tally *state = context;

    (void)index;
    if (state->delta > 0)
        qr_frame_get(frame);
    qr_tally_leaf(state->tally, state->region, frame, state->delta);
}

void
qr_tally_large(struct qr_tally *tally, const struct qr_region *region, const struct qr_large *large,
               int delta)
{
    struct large_tally state = {.tally = tally, .region = region, .delta = delta};

    qr_large_each_frame(region->space->vm->config.frames, large, large_tally_frame, &state);
}

struct qr_large
qr_large_of(const struct qr_space *space, const struct qr_entry *entry)
{
    struct qr_large large = {.pages = qr_large_pages(&space->tables, entry->level)};

    if (!qr_leaf_is_zero(space->vm, &entry->leaf))
        large.head = qr_frame_find(space->vm->config.frames, qr_pa_to_pfn(entry->leaf.pa));
    return large;
}

static void
large_look(void *context, struct qr_frame *frame, size_t index)
{
    bool *exclusive = context;

    (void)index;
    if (qr_frame_type(frame) != QR_FRAME_ANON ||
        atomic_load_explicit(&frame->refs, memory_order_acquire) != 1)
        *exclusive = false;
}

bool
qr_large_is_exclusive(struct qr_frames *frames, const struct qr_large *large)
{
    bool exclusive = large->head != NULL;

    if (exclusive)
        qr_large_each_frame(frames, large, large_look, &exclusive);
    return exclusive;
}

/* ---- Splitting -------------------------------------------------------------- */

static void
large_unmap_frame(void *context, struct qr_frame *frame, size_t index)
{
    struct qr_tally *tally = context;

    (void)index;
    tally->resident[QR_RESIDENT_SHMEM]--;
    tally->mapped -= atomic_fetch_sub_explicit(&frame->maps, 1, memory_order_relaxed) == 1;
}

/* The object has the pages: faults bring back what is still wanted, and no memory is. */
static void
large_drop_shared(struct qr_cursor *cursor, struct qr_space *space, qr_va at,
                  const struct qr_large *large)
{
    struct qr_tally tally = {.anon = 0};

    (void)qr_cursor_unmap(cursor, at);
    qr_space_note_peak(space);
    qr_large_each_frame(space->vm->config.frames, large, large_unmap_frame, &tally);
    qr_tally_apply(&tally, space);
    qr_tlb_batch_add_block(cursor->batch, large->head, large->pages);
}

enum qr_status
qr_large_split(struct qr_cursor *cursor, struct qr_space *space, const struct qr_entry *entry)
{
    struct qr_large large = qr_large_of(space, entry);
    struct qr_counters *counters = space->vm->counters;
    qr_va at = qr_va_of(qr_max_size(entry->start.v, cursor->range.start.v));

    if (large.head == NULL) {
        (void)qr_cursor_unmap(cursor, at);
    } else if (qr_frame_type(large.head) == QR_FRAME_OBJECT) {
        large_drop_shared(cursor, space, at, &large);
    } else {
        enum qr_status status = qr_cursor_split(cursor, at);

        if (status != QR_OK)
            return status;
        qr_counter_add(counters, QR_EVENT_THP_SPLIT_PAGE, 1);
    }
    qr_large_count(space, &large, -1);
    qr_counter_add(counters, QR_EVENT_THP_SPLIT_LEAF, 1);
    return QR_OK;
}

/* Let no leaf reach across @cut; @page, which the cursor covers, ends or begins there. */
static enum qr_status
large_cut_at(struct qr_cursor *cursor, struct qr_space *space, qr_va page, qr_va cut)
{
    enum qr_status status = QR_OK;

    while (status == QR_OK) {
        struct qr_entry entry = qr_cursor_query(cursor, page);

        if (entry.kind != QR_ENTRY_LEAF || entry.level == 0 || entry.start.v == cut.v ||
            qr_entry_end(cursor->tables, &entry) == cut.v)
            return QR_OK;
        status = qr_large_split(cursor, space, &entry);
    }
    return status;
}

enum qr_status
qr_large_cut_ends(struct qr_cursor *cursor, struct qr_space *space, struct qr_va_range range)
{
    enum qr_status status = large_cut_at(cursor, space, range.start, range.start);

    if (status == QR_OK)
        status = large_cut_at(cursor, space, qr_va_of(range.end.v - QR_PAGE_SIZE), range.end);
    return status;
}

/* The same at one place, with a cursor of its own. */
static enum qr_status
large_cut_space(struct qr_space *space, qr_va cut)
{
    const struct qr_region *region = qr_space_find(space, cut);
    struct qr_tlb_batch batch;
    struct qr_cursor cursor;

    if (region == NULL || region->start.v >= cut.v)
        return QR_OK; /* no region on both sides, so no leaf either */
    qr_tlb_batch_init(&batch, &space->tlb);
    qr_cursor_open(&cursor, &space->tables, qr_range_of(cut.v, cut.v + QR_PAGE_SIZE), &batch);
    enum qr_status status = large_cut_at(&cursor, space, cut, cut);

    qr_cursor_close(&cursor);
    qr_tlb_batch_finish(&batch);
    return status;
}

enum qr_status
qr_large_cut_slowly(struct qr_space *space, struct qr_va_range range)
{
    enum qr_status status = large_cut_space(space, range.start);

    return status == QR_OK ? large_cut_space(space, range.end) : status;
}

/* Split the large leaves of @chunk, which the cursor covers. */
static enum qr_status
large_split_chunk(struct qr_cursor *cursor, struct qr_space *space, struct qr_va_range chunk)
{
    struct qr_entry entry;
    qr_va at = chunk.start;
    enum qr_status status = QR_OK;

    while (status == QR_OK && at.v < chunk.end.v && qr_cursor_find(cursor, at, &entry)) {
        at = qr_va_of(qr_entry_end(cursor->tables, &entry));
        if (entry.level == 0)
            continue;
        if (entry.kind == QR_ENTRY_LEAF) {
            status = qr_large_split(cursor, space, &entry);
            at = entry.start.v > chunk.start.v ? entry.start : chunk.start;
        }
    }
    return status;
}

enum qr_status
qr_large_split_range(struct qr_space *space, struct qr_va_range range)
{
    struct qr_va_range chunk;
    struct qr_tlb_batch batch;
    struct qr_cursor cursor;
    enum qr_status status = QR_OK;

    if (!qr_space_has_large(space))
        return QR_OK;
    qr_tlb_batch_init(&batch, &space->tlb);
    while (status == QR_OK && qr_chunk_open(&cursor, space, &range, &chunk, &batch)) {
        status = large_split_chunk(&cursor, space, chunk);
        qr_cursor_close(&cursor);
    }
    qr_tlb_batch_finish(&batch);
    return status;
}
