/* SPDX-License-Identifier: MIT */
/*
 * Private memory that leaves for swap, and what stands for it meanwhile.
 *
 *   [ leaf F ]  --out-->  [ mark: slot, what the leaf said of writes ]  --in-->  [ leaf F', read-only ]
 *
 * There is no map from a frame to its entries, and none is needed: whoever looks for memory goes through the
 * entries of the spaces, as a clock.  An entry that was used since the last look loses its accessed flag; one
 * that was not is taken out, and names its page's slot from then on.  A frame that several spaces map since a fork is on its
 * way out with the first entry that goes and gone with the last: the swap cache has it in between
 * (src/swap/cache.c), so a space that lost its entry finds the page there.
 *
 *   1 under the table's lock: slot, mark in the leaf's place, for up to 32 pages
 *   2 one flush, before the lock goes: from here on nobody writes these frames
 *   3 with no table locked: what nobody maps any more is written, neighbours together
 *
 * Left alone are pages that are pinned, under I/O, or freed lazily (lazy.c has those); regions that are locked,
 * shared, of devices or of huge page pools; and what has references that are not its entries', whatever they are.  A
 * huge page is split first.
 *
 * A mark survives whatever is done to its region: rights and keys are the region's when the page comes back.
 * Fork copies it, mremap moves it, and who takes it out gives the slot back.
 *
 * Locks: the space's for reading, tried for, so this runs with another space's lock held; then a cursor.
 */
#include "swap.h"

/* Pages looked at, at most, before the space's lock goes. */
#define LOOK_PAGES 4096u

/* ---- Marks ------------------------------------------------------------------------ */

static struct qr_mark
mark_of(qr_slot slot, unsigned leaf_flags)
{
    uint64_t flags = ((leaf_flags & QR_LEAF_SOFT_1) != 0 ? SWAP_MARK_WRITTEN : 0) |
                     ((leaf_flags & QR_LEAF_SOFT_2) != 0 ? SWAP_MARK_PROTECTED : 0);

    return (struct qr_mark){QR_MARK_SWAP, (uint64_t)slot.v << QR_SWAP_MARK_FLAGS | flags};
}

static struct qr_swap *
swap_of(const struct qr_space *space)
{
    return space->vm->config.swap;
}

/* The table of @va is there and locked. */
static void
mark_set(struct qr_cursor *cursor, qr_va va, struct qr_mark mark)
{
    enum qr_status status = qr_cursor_prepare(cursor, va, 0);

    qr_assert(status == QR_OK);
    qr_cursor_mark(cursor, va, 0, mark);
}

void
qr_swap_change_mark(struct qr_cursor *cursor, const struct qr_entry *entry, unsigned set_flags,
                    unsigned clear_flags)
{
    unsigned flags = (qr_mark_leaf_flags(&entry->mark) | set_flags) & ~clear_flags;

    if (flags != qr_mark_leaf_flags(&entry->mark))
        mark_set(cursor, entry->start, mark_of(qr_mark_slot(&entry->mark), flags));
}

void
qr_swap_forget_slot(struct qr_space *space, const struct qr_mark *mark)
{
    atomic_fetch_sub_explicit(&space->swapped, 1, memory_order_relaxed);
    qr_swap_put(swap_of(space), qr_mark_slot(mark));
}

void
qr_swap_copied_slot(struct qr_space *space, const struct qr_mark *mark)
{
    atomic_fetch_add_explicit(&space->swapped, 1, memory_order_relaxed);
    qr_swap_get(swap_of(space), qr_mark_slot(mark));
}

bool
qr_swap_has(struct qr_space *space, const struct qr_entry *entry)
{
    struct qr_frame *frame = qr_swap_lookup(swap_of(space), qr_mark_slot(&entry->mark));

    if (frame != NULL)
        qr_frame_put(space->vm->config.frames, frame);
    return frame != NULL;
}

/* The entry may be gone by now, and its slot with it. */
uint32_t
qr_swap_sharers(struct qr_space *space, const struct qr_entry *entry)
{
    uint32_t users = qr_swap_recount(swap_of(space), qr_mark_slot(&entry->mark), 0);

    return users > 0 ? users : 1;
}

/* ---- In ------------------------------------------------------------------------------ */

void
qr_swap_install(const struct qr_region *region, struct qr_cursor *cursor,
                const struct qr_entry *entry, struct qr_frame *frame)
{
    struct qr_space *space = region->space;
    struct qr_tally tally = {.anon = 0};
    struct qr_leaf leaf = {
        .pa = qr_frame_pa(space->vm->config.frames, frame),
        .prot = qr_region_leaf_prot(region) & ~(unsigned)QR_PROT_WRITE,
        .flags = QR_LEAF_ACCESSED | QR_LEAF_DIRTY | qr_mark_leaf_flags(&entry->mark),
        .pkey = region->pkey,
    };

    if ((leaf.prot & QR_PROT_EXEC) != 0)
        (void)qr_arch_code_written(leaf.pa, QR_PAGE_SIZE);
    qr_swap_set_place(frame, entry->start.v >> QR_PAGE_SHIFT);
    qr_cursor_map(cursor, entry->start, &leaf);
    qr_tally_leaf(&tally, region, frame, 1);
    qr_tally_apply(&tally, space);
    qr_swap_forget_slot(space, &entry->mark);
}

/* ---- Out ------------------------------------------------------------------------------ */

struct swap_out {
    struct qr_space *space;
    const struct qr_region *region;
    struct qr_tlb_batch *batch;
    struct qr_swap_scan *scan;
    struct qr_tally tally;
    bool now; /* used or not; but only what nobody else maps */
};

/* Has @frame no references but its entries', and may it go? */
static bool
out_wants(const struct swap_out *out, const struct qr_entry *entry, const struct qr_frame *frame)
{
    const uint32_t busy = QR_FRAME_LOCKED | QR_FRAME_WRITEBACK | QR_FRAME_PINNED;
    struct qr_group *group = out->scan->request->group;

    if (frame == NULL ||
        (qr_frame_type(frame) != QR_FRAME_ANON && qr_frame_type(frame) != QR_FRAME_SWAP))
        return false; /* merged ones stay: many use them */
    uint32_t flags = atomic_load_explicit(&frame->flags, memory_order_relaxed);
    uint32_t maps = atomic_load_explicit(&frame->maps, memory_order_relaxed);
    uint32_t own = qr_frame_type(frame) == QR_FRAME_SWAP;

    if ((flags & busy) != 0 || (out->now && maps != 1) ||
        atomic_load_explicit(&frame->refs, memory_order_acquire) != maps + own)
        return false;
    if ((flags & QR_FRAME_LAZY) != 0 && (entry->leaf.flags & QR_LEAF_DIRTY) == 0)
        return false;
    return group == NULL ||
           qr_group_is_within(qr_group_of_frame(out->space->vm->config.groups, frame), group);
}

/* Was it used since the last look?  Then it is not any more, and stays. */
static bool
out_was_used(const struct swap_out *out, struct qr_cursor *cursor, const struct qr_entry *entry)
{
    if (out->now || (entry->leaf.flags & QR_LEAF_ACCESSED) == 0)
        return false;
    qr_cursor_update(cursor, entry->start, entry->leaf.prot, 0, QR_LEAF_ACCESSED);
    return true;
}

/* Step 1. */
static void
out_entry(struct swap_out *out, struct qr_cursor *cursor, const struct qr_entry *entry)
{
    struct qr_frame *frame = qr_leaf_frame(out->region, &entry->leaf);
    qr_slot slot;

    if (!out_wants(out, entry, frame) || out_was_used(out, cursor, entry))
        return;
    enum qr_status status = qr_swap_assign(swap_of(out->space), frame, &slot);

    if (status != QR_OK) {
        out->scan->full = out->scan->full || status == QR_ERR_NO_MEMORY;
        return;
    }
    struct qr_entry old = qr_cursor_unmap(cursor, entry->start);

    mark_set(cursor, entry->start, mark_of(slot, old.leaf.flags));
    qr_tally_leaf(&out->tally, out->region, frame, -1);
    atomic_fetch_add_explicit(&out->space->swapped, 1, memory_order_relaxed);
    qr_tlb_batch_add_frame(out->batch, frame);
    out->scan->slots[out->scan->count++] = slot;
}

/* A huge page that was not used becomes small ones.  @return whether to look at its place again */
static bool
out_split(const struct swap_out *out, struct qr_cursor *cursor, const struct qr_entry *entry)
{
    struct qr_large large = qr_large_of(out->space, entry);

    return large.head != NULL && qr_frame_is_private(large.head) &&
           !out_was_used(out, cursor, entry) && qr_large_split(cursor, out->space, entry) == QR_OK;
}

static bool
out_is_done(const struct swap_out *out)
{
    return out->scan->count == QR_SWAP_BATCH || out->scan->count >= out->scan->request->pages ||
           out->scan->full;
}

/* Steps 1 and 2.  @return where it ended */
static qr_va
out_chunk(struct swap_out *out, struct qr_cursor *cursor, struct qr_va_range chunk)
{
    struct qr_entry entry;
    qr_va at = chunk.start;

    while (at.v < chunk.end.v && !out_is_done(out)) {
        if (!qr_cursor_find(cursor, at, &entry)) {
            at = chunk.end;
            break;
        }
        out->scan->looked++;
        if (entry.kind == QR_ENTRY_LEAF && entry.level > 0 && out_split(out, cursor, &entry))
            continue;
        if (entry.kind == QR_ENTRY_LEAF && entry.level == 0)
            out_entry(out, cursor, &entry);
        at = qr_va_of(qr_entry_end(cursor->tables, &entry));
    }
    qr_tlb_batch_finish(out->batch);
    if (out->scan->count != 0)
        qr_space_note_peak(out->space);
    qr_tally_apply(&out->tally, out->space);
    return at;
}

/* In @range, within the region.  @return where it ended */
static qr_va
out_range(struct swap_out *out, struct qr_va_range range)
{
    struct qr_va_range chunk;
    struct qr_cursor cursor;
    qr_va at = range.start;

    while (!out_is_done(out) && out->scan->looked < LOOK_PAGES) {
        if (!qr_chunk_open(&cursor, out->space, &range, &chunk, out->batch))
            return range.end;
        at = out_chunk(out, &cursor, chunk);
        qr_cursor_close(&cursor);
    }
    return at;
}

static bool
region_may_swap(const struct qr_region *region)
{
    const unsigned never =
        QR_REGION_SHARED | QR_REGION_LOCKED | QR_REGION_DEVICE | QR_REGION_DROPPABLE;

    return (region->flags & never) == 0 && !qr_region_is_hugetlb(region);
}

/* @return the address to go on at; 0: the end was reached */
static uintptr_t
out_regions(struct swap_out *out, uintptr_t from)
{
    for (const struct qr_region *region = qr_space_find(out->space, qr_va_of(from)); region != NULL;
         region = qr_region_next(region)) {
        struct qr_va_range range = qr_range_of(qr_max_size(region->start.v, from), region->end.v);

        if (!region_may_swap(region))
            continue;
        out->region = region;
        qr_va at = out_range(out, range);

        if (at.v < range.end.v || out_is_done(out) || out->scan->looked >= LOOK_PAGES)
            return at.v;
    }
    return 0;
}

void
qr_space_swap_scan(struct qr_space *space, struct qr_swap_scan *scan)
{
    struct qr_tlb_batch batch;
    struct swap_out out = {.space = space, .batch = &batch, .scan = scan};

    scan->count = 0;
    scan->looked = 0;
    scan->full = false;
    scan->ended = true;
    if (!qr_rw_try_read_lock(&space->lock))
        return;
    qr_tlb_batch_init(&batch, &space->tlb);
    uintptr_t to = out_regions(&out, atomic_load_explicit(&space->swap_at, memory_order_relaxed));

    qr_tlb_batch_finish(&batch);
    atomic_store_explicit(&space->swap_at, to, memory_order_relaxed);
    qr_rw_read_unlock(&space->lock);
    scan->ended = to == 0;
}

void
qr_swap_out_range(const struct qr_region *region, struct qr_va_range range)
{
    static const struct qr_reclaim_request all = {.pages = SIZE_MAX};
    struct qr_space *space = region->space;
    struct qr_swap_scan scan = {.request = &all};
    struct qr_tlb_batch batch;
    struct swap_out out = {
        .space = space, .region = region, .batch = &batch, .scan = &scan, .now = true};

    if (swap_of(space) == NULL || !qr_swap_is_active(swap_of(space)) || !region_may_swap(region))
        return;
    qr_tlb_batch_init(&batch, &space->tlb);
    while (range.start.v < range.end.v && !scan.full) {
        scan.count = scan.looked = 0;
        range.start = out_range(&out, range);
        (void)qr_swap_write(swap_of(space), scan.slots, scan.count);
    }
    qr_tlb_batch_finish(&batch);
}

/* ---- Brought back without a fault ------------------------------------------------------- */

/* The next mark of swap in @range, which becomes what lies behind it. */
static bool
mark_next(struct qr_space *space, struct qr_va_range *range, struct qr_entry *out_entry)
{
    bool found = false;

    qr_rw_read_lock(&space->lock);
    while (!found && range->start.v < range->end.v &&
           qr_tables_next(&space->tables, range->start, out_entry) &&
           out_entry->start.v < range->end.v) {
        found = qr_entry_is_swap(out_entry);
        range->start = qr_va_of(qr_entry_end(&space->tables, out_entry));
    }
    qr_rw_read_unlock(&space->lock);
    return found;
}

/* The page of @slot in memory, charged as it was, else to @space's group, with a reference.  Nothing is locked. */
static enum qr_status
slot_bring(struct qr_space *space, qr_slot slot, unsigned alloc_flags, struct qr_frame **out_frame)
{
    struct qr_frames *frames = space->vm->config.frames;
    struct qr_frame *fresh = NULL;
    enum qr_status status = qr_swap_fetch(swap_of(space), slot, &fresh, out_frame);

    if (status != QR_ERR_AGAIN)
        return status;
    struct qr_group *group = qr_space_group_get(space);

    fresh = qr_frame_alloc(frames, QR_ALLOC_MOVABLE | QR_ALLOC_HIGH | alloc_flags);
    if (fresh == NULL || (!qr_swap_charge_owner(swap_of(space), slot, fresh) && group != NULL &&
                          qr_group_charge_frame(group, fresh) != QR_OK))
        status = QR_ERR_NO_MEMORY;
    else
        status = qr_swap_fetch(swap_of(space), slot, &fresh, out_frame);
    qr_group_put(group);
    if (fresh != NULL)
        qr_frame_put(frames, fresh);
    return status;
}

void
qr_swap_read_range(struct qr_space *space, struct qr_va_range range)
{
    struct qr_entry entry;
    struct qr_frame *frame;

    if (atomic_load_explicit(&space->swapped, memory_order_relaxed) == 0)
        return;
    while (mark_next(space, &range, &entry)) {
        enum qr_status status = slot_bring(space, qr_mark_slot(&entry.mark),
                                           QR_ALLOC_OPPORTUNE | QR_ALLOC_NO_REPORT, &frame);

        if (status == QR_OK)
            qr_frame_put(space->vm->config.frames, frame);
        else if (status == QR_ERR_NO_MEMORY)
            break;
    }
}

/* The mark at @va, if it is still @mark, becomes a leaf for @frame (a reference), or poison for NULL. */
static void
mark_resolve(struct qr_space *space, qr_va va, const struct qr_mark *mark, struct qr_frame *frame)
{
    struct qr_tlb_batch batch;
    struct qr_cursor cursor;

    qr_tlb_batch_init(&batch, &space->tlb);
    qr_rw_read_lock(&space->lock);
    const struct qr_region *region = qr_space_find(space, va);

    qr_cursor_open(&cursor, &space->tables, qr_range_of(va.v, va.v + QR_PAGE_SIZE), &batch);
    struct qr_entry entry = qr_cursor_query(&cursor, va);

    if (qr_entry_is_swap(&entry) && qr_mark_slot(&entry.mark).v == qr_mark_slot(mark).v &&
        qr_cursor_prepare(&cursor, va, 0) == QR_OK) {
        if (frame != NULL) {
            qr_frame_get(frame);
            qr_swap_install(region, &cursor, &entry, frame);
        } else {
            qr_cursor_mark(&cursor, va, 0, (struct qr_mark){.kind = QR_MARK_POISON});
            qr_swap_forget_slot(space, &entry.mark);
        }
    }
    qr_cursor_close(&cursor);
    qr_tlb_batch_finish(&batch);
    qr_rw_read_unlock(&space->lock);
}

enum qr_status
qr_space_swap_in(struct qr_space *space, unsigned area)
{
    struct qr_va_range range = qr_range_of(0, space->layout.user_end.v);
    struct qr_entry entry;

    if (atomic_load_explicit(&space->swapped, memory_order_relaxed) == 0)
        return QR_OK;
    while (mark_next(space, &range, &entry)) {
        struct qr_frame *frame = NULL;

        if (qr_slot_area(qr_mark_slot(&entry.mark)) != area)
            continue;
        enum qr_status status = slot_bring(space, qr_mark_slot(&entry.mark), 0, &frame);

        if (status == QR_ERR_NO_MEMORY)
            return status;
        if (status != QR_ERR_NOT_FOUND)
            mark_resolve(space, entry.start, &entry.mark, frame);
        if (status == QR_OK)
            qr_frame_put(space->vm->config.frames, frame);
    }
    return QR_OK;
}

enum qr_status
qr_swap_in_range(struct qr_space *space, struct qr_va_range range)
{
    struct qr_entry entry;

    while (mark_next(space, &range, &entry)) {
        struct qr_frame *frame;
        enum qr_status status = slot_bring(space, qr_mark_slot(&entry.mark), 0, &frame);

        if (status == QR_OK) {
            mark_resolve(space, entry.start, &entry.mark, frame);
            qr_frame_put(space->vm->config.frames, frame);
        } else if (status != QR_ERR_NOT_FOUND) {
            return status;
        }
    }
    return QR_OK;
}
