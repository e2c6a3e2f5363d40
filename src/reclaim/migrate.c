/* SPDX-License-Identifier: MIT */
/*
 * Migration: another frame in the place of one that is in use.
 *
 * A private frame says where it is mapped: owner is the space that installed it,
 * index the page.  Both are hints, which fork, exit and mremap leave behind: the space is
 * looked up among the living by its address, and the entry there must name this very frame.
 * Then the table lock is held, the frame has the one reference of that entry, and nobody can
 * get another (see cow.c): the entry is taken out, flushed everywhere, the contents are
 * copied, and the entry is set again with the new frame.  A fault on the page meanwhile
 * waits for the table lock, which is held no longer than a copy-on-write break holds it; so
 * nothing has to be marked as migrating.
 *
 * A frame that several spaces map, since a fork, is in the same page of each: its index says
 * which, and its count of entries how many there are to find.  Nobody writes it: each entry is
 * read-only, and stays so while there is a reference more than that entry's (cow.c).  So the
 * entries need not change at the same moment:
 *
 *   1 take a reference under the lock    from here on the contents stay what they are, but for
 *     of a table that maps it            CPUs that a fork has not told yet that they may not write
 *   2 find and flush every entry
 *   3 copy
 *   4 entry by entry, the new frame      until then its space reads the old one: the same bytes
 *
 * What is not found in step 2 (mremap moved it in one space) ends it.  An entry that appears behind
 * the walk of step 4 keeps the old frame, which goes when that entry does.
 *
 * Neighbours of one space that lie side by side in memory, as compaction meets them, are taken out
 * together, flushed once, copied and set, under the one lock of their table.
 *
 * A page of an object is the object's to move (qr_object_move_page()).
 *
 * A frame of the swap cache is read-only wherever it is mapped, so it is copied at once; the cache gets the copy
 * if nobody but entries has the frame, and then the entries do, as in step 4.
 *
 * A frame that was moved away from is given straight to its zone, past this CPU's stack: its
 * block is being emptied, and nobody is to get it again.
 */
#include "migrate.h"

#include <quire/assert.h>

#include "space/region.h"

/* The living space at that address, with a reference; or NULL. */
static struct qr_space *
space_find(struct qr_vm *vm, const void *address)
{
    struct qr_space *found = NULL;

    qr_spin_lock(&vm->lock);
    qr_list_for_each(link, &vm->all)
    {
        struct qr_space *space = qr_space_of_link(link);

        if (space != address)
            continue;
        found = qr_space_try_get(space) ? space : NULL;
        break;
    }
    qr_spin_unlock(&vm->lock);
    return found;
}

/* Is @frame what the entry maps, and is the entry its only user?  The table lock is held. */
static bool
entry_is_exclusive(struct qr_vm *vm, const struct qr_entry *entry, const struct qr_frame *frame)
{
    uint32_t busy = QR_FRAME_LOCKED | QR_FRAME_WRITEBACK | QR_FRAME_PINNED;

    return entry->kind == QR_ENTRY_LEAF && entry->level == 0 &&
           entry->leaf.pa.v == qr_frame_pa(vm->config.frames, frame).v &&
           qr_frame_type(frame) == QR_FRAME_ANON &&
           atomic_load_explicit(&frame->refs, memory_order_acquire) == 1 &&
           atomic_load_explicit(&frame->maps, memory_order_relaxed) == 1 &&
           (atomic_load_explicit(&frame->flags, memory_order_relaxed) & busy) == 0;
}

/*
 * The entry at @va; a large leaf over @frame is split first, since whoever wants the frame wants
 * all of its block.  (Compaction does not look at blocks without a free frame.)
 */
static struct qr_entry
entry_at(struct qr_space *space, struct qr_cursor *cursor, qr_va va, const struct qr_frame *frame)
{
    struct qr_entry entry = qr_cursor_query(cursor, va);

    if (entry.kind != QR_ENTRY_LEAF || entry.level == 0 ||
        entry.leaf.pa.v + (va.v - entry.start.v) != qr_frame_pa(space->vm->config.frames, frame).v)
        return entry;
    if (qr_large_split(cursor, space, &entry) != QR_OK)
        return entry; /* large still: it is not the frame's alone */
    return qr_cursor_query(cursor, va);
}

/* @entry named @frame, was taken out at @va and flushed: set it again with @target. */
static void
entry_set(struct qr_vm *vm, struct qr_cursor *cursor, qr_va va, struct qr_entry entry,
          struct qr_frame *frame, struct qr_frame *target)
{
    uint32_t mlocked = atomic_load_explicit(&frame->flags, memory_order_relaxed) & QR_FRAME_MLOCKED;

    qr_frame_copy(vm->config.frames, target, frame);
    qr_frame_set_type(target, QR_FRAME_ANON);
    atomic_fetch_or_explicit(&target->flags, mlocked, memory_order_relaxed);
    qr_group_move_frame(frame, target);
    atomic_store_explicit(&target->owner, atomic_load(&frame->owner), memory_order_relaxed);
    atomic_store_explicit(&target->index, va.v >> QR_PAGE_SHIFT, memory_order_relaxed);
    atomic_store_explicit(&target->maps, 1, memory_order_relaxed);
    entry.leaf.pa = qr_frame_pa(vm->config.frames, target);
    qr_cursor_map(cursor, va, &entry.leaf);
    atomic_store_explicit(&frame->maps, 0, memory_order_relaxed);
}

/* The entry at @va, which names @frame, gets @target.  The cursor is open. */
static void
entry_move(struct qr_vm *vm, struct qr_cursor *cursor, qr_va va, struct qr_frame *frame,
           struct qr_frame *target)
{
    struct qr_entry entry = qr_cursor_unmap(cursor, va);

    qr_tlb_batch_finish(cursor->batch); /* no CPU writes the old frame after the copy */
    entry_set(vm, cursor, va, entry, frame, target);
}

/* @frame may be mapped at @va of @space; the space stays. */
static enum qr_status
migrate_at(struct qr_space *space, qr_va va, struct qr_frame *frame, struct qr_frame *target)
{
    struct qr_tlb_batch batch;
    struct qr_cursor cursor;

    qr_tlb_batch_init(&batch, &space->tlb);
    qr_cursor_open(&cursor, &space->tables, qr_range_of(va.v, va.v + QR_PAGE_SIZE), &batch);
    struct qr_entry entry = entry_at(space, &cursor, va, frame);
    bool moved = entry_is_exclusive(space->vm, &entry, frame);

    if (moved)
        entry_move(space->vm, &cursor, va, frame, target);
    qr_cursor_close(&cursor);
    qr_tlb_batch_finish(&batch);
    return moved ? QR_OK : QR_ERR_BUSY;
}

/* ---- Neighbours ------------------------------------------------------------------------ */

/* All of @range is under the lock of one table. */
static unsigned
moves_run(struct qr_vm *vm, struct qr_cursor *cursor, struct qr_va_range range,
          struct qr_move *moves)
{
    struct qr_entry entries[QR_MOVE_RUN];
    unsigned count = (unsigned)qr_va_range_pages(range);
    unsigned moved = 0;

    for (unsigned i = 0; i < count; i++) {
        qr_va va = qr_va_of(range.start.v + ((uintptr_t)i << QR_PAGE_SHIFT));

        entries[i] = qr_cursor_query(cursor, va);
        moves[i].moved = entry_is_exclusive(vm, &entries[i], moves[i].frame);
        if (moves[i].moved)
            entries[i] = qr_cursor_unmap(cursor, va);
    }
    qr_tlb_batch_finish(cursor->batch); /* no CPU writes an old frame after its copy */
    for (unsigned i = 0; i < count; i++) {
        if (!moves[i].moved)
            continue;
        entry_set(vm, cursor, entries[i].start, entries[i], moves[i].frame, moves[i].target);
        moved++;
    }
    return moved;
}

unsigned
qr_pages_migrate(struct qr_vm *vm, struct qr_move *moves, unsigned count)
{
    struct qr_space *space = space_find(vm, atomic_load(&moves[0].frame->owner));
    uintptr_t page = atomic_load_explicit(&moves[0].frame->index, memory_order_relaxed);
    struct qr_tlb_batch batch;
    struct qr_cursor cursor;
    unsigned moved = 0;

    for (unsigned i = 0; i < count; i++)
        moves[i].moved = false;
    if (space == NULL)
        return 0;
    if (page % QR_MOVE_RUN + count <= QR_MOVE_RUN &&
        page + count <= space->tables.lower_end >> QR_PAGE_SHIFT) {
        struct qr_va_range range =
            qr_range_of(page << QR_PAGE_SHIFT, (page + count) << QR_PAGE_SHIFT);

        qr_tlb_batch_init(&batch, &space->tlb);
        qr_cursor_open(&cursor, &space->tables, range, &batch);
        moved = moves_run(vm, &cursor, range, moves);
        qr_cursor_close(&cursor);
        qr_tlb_batch_finish(&batch);
    }
    qr_space_put(space);
    qr_counter_add(vm->counters, QR_EVENT_MIGRATE, (long)moved);
    for (unsigned i = 0; i < count; i++) {
        if (moves[i].moved)
            qr_frame_free_many(vm->config.frames, 1, &moves[i].frame);
    }
    return moved;
}

/* ---- A frame that several spaces map ------------------------------------------------- */

struct shared {
    struct qr_vm *vm;
    qr_va va;
    struct qr_frame *frame, *target;
};

/* What is done to an entry that names the frame; its table is locked. */
typedef void (*shared_fn)(const struct shared *shared, struct qr_space *space,
                          struct qr_cursor *cursor);

/* Step 1. */
static void
shared_get(const struct shared *shared, struct qr_space *space, struct qr_cursor *cursor)
{
    (void)space;
    (void)cursor;
    qr_frame_get(shared->frame);
}

/* Take the entry out, everywhere, and set it again with @frame. */
static void
shared_set(const struct shared *shared, struct qr_cursor *cursor, const struct qr_frame *frame)
{
    struct qr_entry entry = qr_cursor_unmap(cursor, shared->va);

    qr_tlb_batch_finish(cursor->batch);
    qr_assert((entry.leaf.prot & QR_PROT_WRITE) == 0);
    entry.leaf.pa = qr_frame_pa(shared->vm->config.frames, frame);
    qr_cursor_map(cursor, shared->va, &entry.leaf);
}

/* Step 2. */
static void
shared_flush(const struct shared *shared, struct qr_space *space, struct qr_cursor *cursor)
{
    (void)space;
    shared_set(shared, cursor, shared->frame);
}

/* Step 4. */
static void
shared_move(const struct shared *shared, struct qr_space *space, struct qr_cursor *cursor)
{
    struct qr_tally tally = {.anon = 0};

    shared_set(shared, cursor, shared->target);
    qr_frame_get(shared->target);
    qr_tally_leaf(&tally, NULL, shared->target, 1);
    qr_tally_leaf(&tally, NULL, shared->frame, -1);
    qr_tally_apply(&tally, space);
    qr_frame_put(shared->vm->config.frames, shared->frame); /* the mover has one more */
}

static bool
shared_entry(const struct shared *shared, struct qr_space *space, shared_fn fn)
{
    struct qr_tlb_batch batch;
    struct qr_cursor cursor;
    qr_va va = shared->va;

    if (va.v >= space->tables.lower_end)
        return false;
    qr_tlb_batch_init(&batch, &space->tlb);
    qr_cursor_open(&cursor, &space->tables, qr_range_of(va.v, va.v + QR_PAGE_SIZE), &batch);
    struct qr_entry entry = entry_at(space, &cursor, va, shared->frame);
    bool found = entry.kind == QR_ENTRY_LEAF && entry.level == 0 &&
                 entry.leaf.pa.v == qr_frame_pa(shared->vm->config.frames, shared->frame).v &&
                 qr_frame_type(shared->frame) == QR_FRAME_ANON;

    if (found)
        fn(shared, space, &cursor);
    qr_cursor_close(&cursor);
    qr_tlb_batch_finish(&batch);
    return found;
}

/* In every space, until @count entries were found.  @return how many */
static uint32_t
shared_entries(const struct shared *shared, uint32_t count, shared_fn fn)
{
    struct qr_space *space = NULL;
    uint32_t found = 0;

    while (found < count && (space = qr_space_next(shared->vm, space)) != NULL)
        found += shared_entry(shared, space, fn);
    if (space != NULL)
        qr_space_put(space);
    return found;
}

/* Steps 2 and 3. */
static bool
shared_copy(const struct shared *shared)
{
    const uint32_t busy = QR_FRAME_LOCKED | QR_FRAME_WRITEBACK | QR_FRAME_PINNED;
    struct qr_frame *frame = shared->frame, *target = shared->target;
    uint32_t maps = atomic_load_explicit(&frame->maps, memory_order_acquire);
    uint32_t flags = atomic_load_explicit(&frame->flags, memory_order_relaxed);

    if (maps < 2 || (flags & busy) != 0 ||
        atomic_load_explicit(&frame->refs, memory_order_acquire) != maps + 1 ||
        shared_entries(shared, maps, shared_flush) != maps)
        return false;
    qr_frame_copy(shared->vm->config.frames, target, frame);
    qr_frame_set_type(target, QR_FRAME_ANON);
    atomic_fetch_or_explicit(&target->flags, flags & QR_FRAME_MLOCKED, memory_order_relaxed);
    atomic_store_explicit(&target->owner, atomic_load(&frame->owner), memory_order_relaxed);
    atomic_store_explicit(&target->index, shared->va.v >> QR_PAGE_SHIFT, memory_order_relaxed);
    atomic_store_explicit(&target->maps, 0, memory_order_relaxed);
    qr_group_move_frame(frame, target);
    return true;
}

static enum qr_status
migrate_shared(struct qr_vm *vm, qr_va va, struct qr_frame *frame, struct qr_frame *target)
{
    const struct shared shared = {vm, va, frame, target};
    struct qr_frames *frames = vm->config.frames;

    if (shared_entries(&shared, 1, shared_get) == 0)
        return QR_ERR_BUSY;
    if (!shared_copy(&shared)) {
        qr_frame_put(frames, frame);
        return QR_ERR_BUSY;
    }
    (void)shared_entries(&shared, UINT32_MAX, shared_move);
    qr_frame_put(frames, target); /* it is its entries' now */
    if (atomic_load_explicit(&frame->refs, memory_order_acquire) == 1)
        return QR_OK; /* ours; without an entry nobody gets another */
    qr_frame_put(frames, frame);
    return QR_ERR_AGAIN;
}

static void
shared_look(const struct shared *shared, struct qr_space *space, struct qr_cursor *cursor)
{
    (void)shared;
    (void)space;
    (void)cursor;
}

static void
shared_poison(const struct shared *shared, struct qr_space *space, struct qr_cursor *cursor)
{
    struct qr_tally tally = {.anon = 0};

    (void)qr_cursor_unmap(cursor, shared->va);
    qr_tlb_batch_finish(cursor->batch); /* no CPU reaches the frame from here any more */
    qr_space_note_peak(space);
    qr_tally_leaf(&tally, NULL, shared->frame, -1);
    qr_tally_apply(&tally, space);
    qr_cursor_mark(cursor, shared->va, 0, (struct qr_mark){.kind = QR_MARK_POISON});
    qr_frame_put(shared->vm->config.frames, shared->frame);
}

enum qr_status
qr_page_poison_shared(struct qr_vm *vm, qr_va va, struct qr_frame *frame)
{
    const struct shared shared = {.vm = vm, .va = va, .frame = frame};

    if (shared_entries(&shared, 1, shared_get) == 0)
        return QR_ERR_BUSY;
    uint32_t maps = atomic_load_explicit(&frame->maps, memory_order_acquire);
    bool all = atomic_load_explicit(&frame->refs, memory_order_acquire) == maps + 1 &&
               shared_entries(&shared, maps, shared_look) == maps;

    if (all)
        (void)shared_entries(&shared, UINT32_MAX, shared_poison);
    if (all && atomic_load_explicit(&frame->refs, memory_order_acquire) == 1)
        return QR_OK;
    qr_frame_put(vm->config.frames, frame); /* somebody reads it, or has moved it elsewhere */
    return QR_ERR_BUSY;
}

/* ---- Wherever it is mapped ----------------------------------------------------------- */

/* A frame with one entry, which is not where the frame's hint says: in whose page is it? */
static enum qr_status
migrate_anywhere(struct qr_vm *vm, qr_va va, struct qr_frame *frame, struct qr_frame *target)
{
    struct qr_space *space = NULL;

    while (atomic_load_explicit(&frame->refs, memory_order_relaxed) == 1 &&
           (space = qr_space_next(vm, space)) != NULL) {
        if (va.v < space->tables.lower_end && migrate_at(space, va, frame, target) == QR_OK) {
            qr_space_put(space);
            return QR_OK;
        }
    }
    if (space != NULL)
        qr_space_put(space);
    return QR_ERR_BUSY;
}

static enum qr_status
migrate_private(struct qr_vm *vm, struct qr_frame *frame, struct qr_frame *target)
{
    uintptr_t page = atomic_load_explicit(&frame->index, memory_order_relaxed);
    qr_va va = qr_va_of(page << QR_PAGE_SHIFT);

    if (page > UINTPTR_MAX >> QR_PAGE_SHIFT)
        return QR_ERR_BUSY;
    if (atomic_load_explicit(&frame->maps, memory_order_relaxed) > 1)
        return migrate_shared(vm, va, frame, target);
    struct qr_space *space = space_find(vm, atomic_load(&frame->owner));
    enum qr_status status = QR_ERR_BUSY;

    if (space != NULL) {
        if (va.v < space->tables.lower_end)
            status = migrate_at(space, va, frame, target);
        qr_space_put(space);
    }
    return status == QR_OK ? status : migrate_anywhere(vm, va, frame, target);
}

/* ---- In the swap cache ---------------------------------------------------------------- */

/* @frame is ours and, where it is mapped still, private memory; @target, of which we have a reference, is in the cache. */
static void
cached_move_entries(struct qr_vm *vm, struct qr_frame *frame, struct qr_frame *target)
{
    uintptr_t page = qr_swap_place(target);
    uint32_t maps = atomic_load_explicit(&frame->maps, memory_order_relaxed);
    struct shared shared = {vm, qr_va_of(page << QR_PAGE_SHIFT), frame, target};

    if (maps != 0 && page <= UINTPTR_MAX >> QR_PAGE_SHIFT)
        (void)shared_entries(&shared, maps, shared_move);
    if (atomic_load_explicit(&target->maps, memory_order_relaxed) == 0)
        qr_swap_unmapped(vm->config.swap, target);
}

static enum qr_status
migrate_cached(struct qr_vm *vm, struct qr_frame *frame, struct qr_frame *target)
{
    struct qr_frames *frames = vm->config.frames;
    struct qr_swap *swap = vm->config.swap;

    if (swap == NULL || !qr_swap_get_frame(swap, frame))
        return QR_ERR_BUSY;
    uint32_t mlocked = atomic_load_explicit(&frame->flags, memory_order_relaxed) & QR_FRAME_MLOCKED;

    qr_frame_copy(frames, target, frame);
    atomic_fetch_or_explicit(&target->flags, mlocked, memory_order_relaxed);
    qr_group_move_frame(frame, target);
    qr_frame_get(target);
    if (!qr_swap_replace(swap, frame, target)) {
        qr_group_move_frame(target, frame);
        atomic_fetch_and_explicit(&target->flags, ~mlocked, memory_order_relaxed);
        qr_frame_put(frames, target);
        qr_frame_put(frames, frame);
        return QR_ERR_BUSY;
    }
    cached_move_entries(vm, frame, target);
    qr_frame_put(frames, target);
    if (atomic_load_explicit(&frame->refs, memory_order_acquire) == 1)
        return QR_OK;
    qr_frame_put(frames, frame);
    return QR_ERR_AGAIN;
}

static enum qr_status
migrate_object_page(struct qr_vm *vm, struct qr_frame *frame, struct qr_frame *target)
{
    struct qr_object *object = qr_objects_find(vm->config.objects, atomic_load(&frame->owner));

    if (object == NULL)
        return QR_ERR_BUSY;
    enum qr_status status = qr_object_move_page(
        object, atomic_load_explicit(&frame->index, memory_order_relaxed), frame, target);

    qr_object_put(object);
    return status;
}

/* Wherever @frame is mapped; it is the caller's then. */
static enum qr_status
migrate(struct qr_vm *vm, struct qr_frame *frame, struct qr_frame *target)
{
    switch (qr_frame_type(frame)) {
    case QR_FRAME_ANON:
        return migrate_private(vm, frame, target);
    case QR_FRAME_OBJECT:
        return migrate_object_page(vm, frame, target);
    case QR_FRAME_SWAP:
        return migrate_cached(vm, frame, target);
    default:
        return QR_ERR_BUSY;
    }
}

static enum qr_status
migrate_counted(struct qr_vm *vm, enum qr_status status)
{
    qr_counter_add(vm->counters, status == QR_OK ? QR_EVENT_MIGRATE : QR_EVENT_MIGRATE_FAIL, 1);
    return status;
}

enum qr_status
qr_page_replace(struct qr_space *space, qr_va va, struct qr_frame *frame, struct qr_frame *target)
{
    struct qr_vm *vm = space->vm;

    if (qr_frame_type(frame) != QR_FRAME_ANON)
        return migrate_counted(vm, migrate(vm, frame, target));
    if (atomic_load_explicit(&frame->maps, memory_order_relaxed) > 1)
        return migrate_counted(vm, migrate_shared(vm, va, frame, target));
    return migrate_counted(vm, migrate_at(space, va, frame, target));
}

enum qr_status
qr_page_migrate(struct qr_space *space, qr_va va, struct qr_frame *frame, struct qr_frame *target)
{
    enum qr_status status = qr_page_replace(space, va, frame, target);

    if (status == QR_OK)
        qr_frame_free_many(space->vm->config.frames, 1, &frame);
    return status;
}

enum qr_status
qr_frame_migrate(struct qr_vm *vm, struct qr_frame *frame, struct qr_frame *target)
{
    enum qr_status status = migrate_counted(vm, migrate(vm, frame, target));

    if (status == QR_OK)
        qr_frame_free_many(vm->config.frames, 1, &frame);
    return status;
}

enum qr_status
qr_page_poison(const struct qr_region *region, qr_va va, struct qr_frame *frame)
{
    struct qr_space *space = region->space;
    struct qr_tally tally = {.anon = 0};
    struct qr_tlb_batch batch;
    struct qr_cursor cursor;

    qr_tlb_batch_init(&batch, &space->tlb);
    qr_cursor_open(&cursor, &space->tables, qr_range_of(va.v, va.v + QR_PAGE_SIZE), &batch);
    struct qr_entry entry = entry_at(space, &cursor, va, frame);
    bool alone = entry_is_exclusive(space->vm, &entry, frame);

    if (alone) {
        (void)qr_cursor_unmap(&cursor, va);
        qr_tlb_batch_finish(&batch); /* no CPU reaches the frame any more */
        qr_space_note_peak(space);
        qr_tally_leaf(&tally, region, frame, -1);
        qr_tally_apply(&tally, space);
        qr_cursor_mark(&cursor, va, 0, (struct qr_mark){.kind = QR_MARK_POISON});
    }
    qr_cursor_close(&cursor);
    qr_tlb_batch_finish(&batch);
    return alone ? QR_OK : QR_ERR_BUSY;
}

void
qr_page_mark_poison(struct qr_space *space, qr_va va)
{
    struct qr_tlb_batch batch;
    struct qr_cursor cursor;

    qr_tlb_batch_init(&batch, &space->tlb);
    qr_rw_read_lock(&space->lock);
    const struct qr_region *region = qr_space_find(space, va);

    if (region != NULL && region->start.v <= va.v) {
        qr_cursor_open(&cursor, &space->tables, qr_range_of(va.v, va.v + QR_PAGE_SIZE), &batch);
        if (qr_cursor_query(&cursor, va).kind == QR_ENTRY_NONE &&
            qr_cursor_prepare(&cursor, va, 0) == QR_OK)
            qr_cursor_mark(&cursor, va, 0, (struct qr_mark){.kind = QR_MARK_POISON});
        qr_cursor_close(&cursor);
    }
    qr_tlb_batch_finish(&batch);
    qr_rw_read_unlock(&space->lock);
}
