/* SPDX-License-Identifier: MIT */
/*
 * Memory that a program has freed lazily (MADV_FREE): it stays until memory is short, and is then thrown
 * away unless the program has written to it since.
 *
 *   free      frame of its own:  mark the frame LAZY, clear the entry's accessed and dirty flags, flush
 *             anything else:     take the entry out, as DONT_NEED does: large leaves, frames that others
 *                                see too, marks
 *   write     sets the dirty flag: by hardware, or by the fault that a clean entry takes where a
 *             format needs one; the LAZY mark stays and means nothing on a dirty entry
 *   discard   frame LAZY, one reference: take the entry out, then look at the dirty flag that came
 *             out with it; set: put the entry back
 *
 * Reclaim may discard while the program runs, so the flush comes before the table's lock goes: a
 * fault there finds the empty entry, and puts a page in its place that another thread is to see.
 *
 * Until the flush that ends `free`, another CPU's TLB may hold the entry as dirty and write without a
 * trace; such a write is at the same time as the call, so losing it is right.  Afterwards a first
 * write has to find the entry in the table: before the exchange that takes it out, which then shows the dirty
 * flag, or after it, where it finds nothing and waits for the table's lock.
 *
 * Everything else that moves or copies an entry (fork, mremap, mprotect, migration, splitting) keeps
 * the dirty flag.  A frame that is copied or replaced loses the mark, which is safe: it stays.
 * Frames with two references, after a fork, stay too, as long as that is so.
 *
 * All pages of droppable regions (QR_REGION_DROPPABLE) are as if freed lazily, marked or not, and dirty or not.
 *
 * qr_space.lazy is at least 1 where there may be such frames: it counts them as they are marked, and
 * regions as they become droppable, and is set to 0 by who has gone through the whole space and found no
 * droppable region.  qr_space.lazy_at is where to go on.
 */
#include "region.h"

static bool
frame_is_alone(const struct qr_frame *frame)
{
    return qr_frame_type(frame) == QR_FRAME_ANON &&
           atomic_load_explicit(&frame->refs, memory_order_acquire) == 1;
}

/* ---- Freeing ---------------------------------------------------------------------- */

bool
qr_lazy_mark(struct qr_cursor *cursor, const struct qr_entry *entry, struct qr_frame *frame)
{
    if (!frame_is_alone(frame))
        return false;
    atomic_fetch_or_explicit(&frame->flags, QR_FRAME_LAZY, memory_order_relaxed);
    qr_cursor_update(cursor, entry->start, entry->leaf.prot, 0, QR_LEAF_ACCESSED | QR_LEAF_DIRTY);
    return true;
}

/* ---- Discarding --------------------------------------------------------------------- */

struct discard {
    struct qr_space *space;
    const struct qr_region *region;
    const struct qr_reclaim_request *request;
    struct qr_tlb_batch *batch;
    struct qr_tally tally;
    size_t freed;
    size_t left;    /* that cannot go now */
    bool droppable; /* there are regions where more may come */
};

static bool
is_droppable(const struct qr_region *region)
{
    return (region->flags & QR_REGION_DROPPABLE) != 0;
}

/* As freed: marked, and not written since. */
static bool
leaf_is_lazy(const struct qr_entry *entry, const struct qr_frame *frame)
{
    return (entry->leaf.flags & QR_LEAF_DIRTY) == 0 &&
           (atomic_load_explicit(&frame->flags, memory_order_relaxed) & QR_FRAME_LAZY) != 0;
}

/* Is it lazily freed and not written since, or droppable?  Then *out_now says whether it may go now. */
static bool
discard_finds(const struct discard *discard, const struct qr_entry *entry,
              const struct qr_frame *frame, bool *out_now)
{
    struct qr_group *group = discard->request->group;

    if (frame == NULL || (is_droppable(discard->region) ? qr_frame_type(frame) != QR_FRAME_ANON
                                                        : !leaf_is_lazy(entry, frame)))
        return false;
    *out_now =
        frame_is_alone(frame) &&
        (group == NULL ||
         qr_group_is_within(qr_group_of_frame(discard->space->vm->config.groups, frame), group));
    return true;
}

static void
discard_entry(struct discard *discard, struct qr_cursor *cursor, const struct qr_entry *entry)
{
    struct qr_frame *frame = qr_leaf_frame(discard->region, &entry->leaf);

    bool now;

    if (!discard_finds(discard, entry, frame, &now))
        return;
    if (!now) {
        discard->left++;
        return;
    }
    struct qr_entry out = qr_cursor_unmap(cursor, entry->start);

    /* Written in this very moment? */
    if ((out.leaf.flags & QR_LEAF_DIRTY) != 0 && !is_droppable(discard->region)) {
        qr_tlb_batch_finish(discard->batch);
        qr_cursor_map(cursor, entry->start, &out.leaf);
        return;
    }
    qr_tally_leaf(&discard->tally, discard->region, frame, -1);
    qr_tlb_batch_add_frame(discard->batch, frame);
    discard->freed++;
}

static void
discard_chunk(struct discard *discard, struct qr_cursor *cursor, struct qr_va_range chunk)
{
    struct qr_entry entry;
    qr_va at = chunk.start;

    while (at.v < chunk.end.v && discard->freed < discard->request->pages &&
           qr_cursor_find(cursor, at, &entry)) {
        if (entry.kind == QR_ENTRY_LEAF && entry.level == 0)
            discard_entry(discard, cursor, &entry);
        at = qr_va_of(qr_entry_end(cursor->tables, &entry));
    }
    /* A fault may put a new page here: nobody is to read the old one any more. */
    qr_tlb_batch_finish(discard->batch);
    if (discard->freed > 0)
        qr_space_note_peak(discard->space);
    qr_tally_apply(&discard->tally, discard->space);
}

/* In @range, within the region. */
static void
discard_range(struct discard *discard, struct qr_va_range range)
{
    struct qr_space *space = discard->space;
    struct qr_va_range chunk;
    struct qr_cursor cursor;

    while (discard->freed < discard->request->pages &&
           qr_chunk_open(&cursor, space, &range, &chunk, discard->batch)) {
        discard_chunk(discard, &cursor, chunk);
        qr_cursor_close(&cursor);
    }
}

static bool
region_may_discard(const struct qr_region *region)
{
    return qr_region_is_anonymous(region) && (region->flags & QR_REGION_LOCKED) == 0;
}

size_t
qr_lazy_discard_range(const struct qr_region *region, struct qr_va_range range)
{
    static const struct qr_reclaim_request all = {.pages = SIZE_MAX};
    struct qr_tlb_batch batch;
    struct discard discard = {
        .space = region->space, .region = region, .request = &all, .batch = &batch};

    if (!region_may_discard(region) ||
        atomic_load_explicit(&region->space->lazy, memory_order_relaxed) == 0)
        return 0;
    qr_tlb_batch_init(&batch, &region->space->tlb);
    discard_range(&discard, range);
    qr_tlb_batch_finish(&batch);
    qr_counter_add(region->space->vm->counters, QR_EVENT_LAZY_FREED, (long)discard.freed);
    return discard.freed;
}

/* Go on where the last call ended.  @return the address behind what was looked at; 0: the end */
static uintptr_t
discard_regions(struct discard *discard, uintptr_t from)
{
    for (const struct qr_region *region = qr_space_find(discard->space, qr_va_of(from));
         region != NULL; region = qr_region_next(region)) {
        discard->region = region;
        discard->droppable |= is_droppable(region);
        if (region_may_discard(region))
            discard_range(discard, qr_range_of(qr_max_size(region->start.v, from), region->end.v));
        if (discard->freed >= discard->request->pages)
            return region->start.v; /* its rest comes next time */
    }
    return 0;
}

/* What reclaim looked at and got. */
static void
count_reclaimed(const struct discard *discard)
{
    struct qr_counters *counters = discard->space->vm->counters;
    size_t scanned = discard->freed + discard->left;
    bool behind = discard->request->background;

    if (scanned == 0)
        return;
    qr_counter_add(counters, behind ? QR_EVENT_SCAN_BEHIND : QR_EVENT_SCAN_DIRECT, (long)scanned);
    qr_counter_add(counters, QR_EVENT_SCAN_ANON, (long)scanned);
    qr_counter_add(counters, QR_EVENT_LAZY_FREED, (long)discard->freed);
    qr_space_add_stat(discard->space,
                      behind ? QR_GROUP_STAT_SCAN_BEHIND : QR_GROUP_STAT_SCAN_DIRECT, scanned);
    qr_space_add_stat(discard->space,
                      behind ? QR_GROUP_STAT_STEAL_BEHIND : QR_GROUP_STAT_STEAL_DIRECT,
                      discard->freed);
    qr_space_add_stat(discard->space, QR_GROUP_STAT_LAZY_FREED, discard->freed);
}

size_t
qr_space_discard(struct qr_space *space, const struct qr_reclaim_request *request)
{
    struct qr_tlb_batch batch;
    struct discard discard = {.space = space, .request = request, .batch = &batch};

    if (atomic_load_explicit(&space->lazy, memory_order_relaxed) == 0 ||
        !qr_rw_try_read_lock(&space->lock))
        return 0;
    size_t marked = atomic_exchange_explicit(&space->lazy, 0, memory_order_relaxed);
    uintptr_t from = atomic_load_explicit(&space->lazy_at, memory_order_relaxed), to;

    qr_tlb_batch_init(&batch, &space->tlb);
    to = discard_regions(&discard, from);
    if (to == 0 && from != 0)
        to = discard_regions(&discard, 0);
    qr_tlb_batch_finish(&batch);
    if (to != 0 || discard.left != 0 ||
        discard.droppable) /* else nothing is lazy in all of the space */
        atomic_fetch_add_explicit(&space->lazy, marked > discard.freed ? marked - discard.freed : 1,
                                  memory_order_relaxed);
    atomic_store_explicit(&space->lazy_at, to, memory_order_relaxed);
    qr_rw_read_unlock(&space->lock);
    count_reclaimed(&discard);
    return discard.freed;
}
