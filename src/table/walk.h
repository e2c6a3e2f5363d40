/* SPDX-License-Identifier: MIT */
#ifndef QUIRE_TABLE_WALK_H
#define QUIRE_TABLE_WALK_H

/*
 * The walker: the cursor's operations over any format.
 *
 * Everything here is inlined into one instance per format (WALK_INSTANTIATE),
 * where the traits are a constant and vanish.
 *
 * Opening.  The walk from the root down reads entries without locks, inside an
 * epoch section, and stops at the lowest table that covers more than the range.
 * It locks that table while still in the section, so the frame cannot have been given
 * to anybody else, and then asks whether the table is dead.  A table dies under
 * its own lock and its parent's, after its entry in the parent was cleared; so
 * a live table that is locked stays linked, and nobody but us changes it.
 *
 *             root        not locked, only read
 *              |
 *             top         locked by open: covers the range
 *            /   \
 *        table   table    locked one at a time as the cursor goes there,
 *          |              unlocked as it leaves: path[level .. top]
 *        table
 *
 * Locks are taken downwards only, so no two cursors wait for each other.  Under
 * `top` other cursors may be at work on other tables: they locked those before
 * we came and do not touch their parents.  Entries of a locked table are changed
 * by the holder and, for accessed and dirty bits, by hardware.
 *
 * A table that unmap_range leaves empty is unlinked when the cursor leaves it
 * (its parent is locked then), marked dead, and handed to the batch.  `top`
 * itself has no locked parent and stays.
 *
 * Who may still see an unlinked table?  Hardware with its address in a walk
 * cache, until the batch has flushed; and walkers in an epoch section that began
 * before it was unlinked.  The batch waits for the first, qr_tables_retire() for
 * the second; the two do not depend on each other.
 */

#include <quire/assert.h>

#include "table/decide.h"
#include "table/tables.h"

/* ---- Entries ------------------------------------------------------------- */

static QR_ALWAYS_INLINE qr_pte
pte_load_4(void *table, size_t index)
{
    return atomic_load_explicit((_Atomic uint32_t *)table + index, memory_order_acquire);
}

static QR_ALWAYS_INLINE qr_pte
pte_load_8(void *table, size_t index)
{
    return atomic_load_explicit((_Atomic uint64_t *)table + index, memory_order_acquire);
}

static QR_ALWAYS_INLINE qr_pte
pte_load(walk_format f, void *table, size_t index)
{
    return f->entry_bytes == 4 ? pte_load_4(table, index) : pte_load_8(table, index);
}

static QR_ALWAYS_INLINE void
pte_store(walk_format f, void *table, size_t index, qr_pte pte)
{
    if (f->entry_bytes == 4)
        atomic_store_explicit((_Atomic uint32_t *)table + index, (uint32_t)pte,
                              memory_order_release);
    else
        atomic_store_explicit((_Atomic uint64_t *)table + index, pte, memory_order_release);
}

static QR_ALWAYS_INLINE qr_pte
pte_exchange(walk_format f, void *table, size_t index, qr_pte pte)
{
    if (f->entry_bytes == 4)
        return atomic_exchange_explicit((_Atomic uint32_t *)table + index, (uint32_t)pte,
                                        memory_order_acq_rel);
    return atomic_exchange_explicit((_Atomic uint64_t *)table + index, pte, memory_order_acq_rel);
}

/* Put @new where @old still stands; else fetch what stands there. */
static QR_ALWAYS_INLINE bool
pte_swap(walk_format f, void *table, size_t index, qr_pte *old, qr_pte new)
{
    if (f->entry_bytes == 4) {
        uint32_t narrow = (uint32_t)*old;
        bool done = atomic_compare_exchange_strong_explicit(
            (_Atomic uint32_t *)table + index, &narrow, (uint32_t) new, memory_order_acq_rel,
            memory_order_acquire);

        *old = narrow;
        return done;
    }
    return atomic_compare_exchange_strong_explicit((_Atomic uint64_t *)table + index, old, new,
                                                   memory_order_acq_rel, memory_order_acquire);
}

static QR_ALWAYS_INLINE size_t
walk_index(walk_format f, uintptr_t va, unsigned level)
{
    return (va >> f->shift(f, level)) & (((size_t)1 << f->index_bits(f, level)) - 1);
}

static QR_ALWAYS_INLINE uintptr_t
walk_entry_mask(walk_format f, unsigned level)
{
    return ((uintptr_t)1 << f->shift(f, level)) - 1;
}

/* Whether one table at @level covers both addresses (which lie in one half). */
static QR_ALWAYS_INLINE bool
walk_same_table(walk_format f, uintptr_t a, uintptr_t b, unsigned level)
{
    return level + 1 >= f->info.levels || (a ^ b) >> f->shift(f, level + 1) == 0;
}

static QR_ALWAYS_INLINE uintptr_t
walk_table_base(walk_format f, uintptr_t va, unsigned level)
{
    return level + 1 >= f->info.levels ? 0 : va & ~walk_entry_mask(f, level + 1);
}

static QR_ALWAYS_INLINE void
walk_decode(walk_format f, qr_pte pte, unsigned level, uintptr_t va, struct qr_entry *out_entry)
{
    out_entry->level = level;
    out_entry->start = qr_va_of(va & ~walk_entry_mask(f, level));
    switch (f->kind(f, pte, level)) {
    case PTE_LEAF:
        out_entry->kind = QR_ENTRY_LEAF;
        out_entry->leaf = f->read_leaf(f, pte, level);
        break;
    case PTE_MARK:
        out_entry->kind = QR_ENTRY_MARK;
        out_entry->mark = f->read_mark(f, pte, level);
        break;
    default:
        out_entry->kind = QR_ENTRY_NONE;
        break;
    }
}

/* ---- Moving -------------------------------------------------------------- */

/* Read the entry for @va in the locked table at @level. */
static QR_ALWAYS_INLINE qr_pte
walk_load_at(walk_format f, const struct qr_cursor *c, uintptr_t va, unsigned level)
{
    void *table = qr_port_window_open(c->pa[level]);
    qr_pte pte = pte_load(f, table, walk_index(f, va, level));

    qr_port_window_close(table);
    return pte;
}

/* The same in the lowest locked table. */
static QR_ALWAYS_INLINE qr_pte
walk_load(walk_format f, const struct qr_cursor *c, uintptr_t va)
{
    return walk_load_at(f, c, va, c->level);
}

static QR_ALWAYS_INLINE void
walk_store(walk_format f, const struct qr_cursor *c, uintptr_t va, qr_pte pte)
{
    void *table = qr_port_window_open(c->pa[c->level]);

    pte_store(f, table, walk_index(f, va, c->level), pte);
    qr_port_window_close(table);
}

static QR_ALWAYS_INLINE qr_pte
walk_exchange(walk_format f, const struct qr_cursor *c, uintptr_t va, qr_pte pte)
{
    void *table = qr_port_window_open(c->pa[c->level]);
    qr_pte old = pte_exchange(f, table, walk_index(f, va, c->level), pte);

    qr_port_window_close(table);
    return old;
}

/* Take the table below the lowest one, already locked, onto the path. */
static QR_ALWAYS_INLINE void
walk_push(struct qr_cursor *c, struct qr_frame *frame, qr_pa pa, uintptr_t va)
{
    c->level--;
    c->path[c->level] = frame;
    c->pa[c->level] = pa;
    c->at = qr_va_of(va);
}

/* Unlink the lowest table, which is empty, and go up.  The batch takes it. */
static QR_ALWAYS_INLINE void
walk_unlink(walk_format f, struct qr_cursor *c)
{
    struct qr_frame *child = c->path[c->level];

    qr_assert(c->batch != NULL && c->level < c->top && table_live(child) == 0);
    c->level++;
    walk_store(f, c, c->at.v, 0);
    table_live_add(c->path[c->level], -1);
    atomic_fetch_or_explicit(&child->flags, QR_FRAME_TABLE_DEAD, memory_order_relaxed);
    table_unlock(child);
    atomic_fetch_sub_explicit(&c->tables->table_count, 1, memory_order_relaxed);
    qr_tlb_batch_add_table(c->batch, child);
}

static QR_ALWAYS_INLINE bool
walk_can_unlink(const struct qr_cursor *c)
{
    const struct qr_frame *frame = c->path[c->level];

    return c->level < c->top && table_live(frame) == 0 && !table_has_flag(frame, QR_FRAME_PINNED);
}

/* Go up to a table that covers @va; with @prune, drop tables that were left empty. */
static QR_ALWAYS_INLINE void
walk_rise(walk_format f, struct qr_cursor *c, uintptr_t va, bool prune)
{
    while (c->level < c->top && !walk_same_table(f, c->at.v, va, c->level)) {
        if (prune && walk_can_unlink(c)) {
            walk_unlink(f, c);
        } else {
            table_unlock(c->path[c->level]);
            c->level++;
        }
    }
}

/* Go down towards @va while tables stand there and the level is above @wanted. */
static QR_ALWAYS_INLINE void
walk_sink(walk_format f, struct qr_cursor *c, uintptr_t va, unsigned wanted)
{
    while (c->level > wanted) {
        qr_pte pte = walk_load(f, c, va);

        if (f->kind(f, pte, c->level) != PTE_TABLE)
            return;
        qr_pa pa = f->read_table(f, pte, c->level);
        struct qr_frame *frame = qr_frame_of(c->tables->frames, qr_pa_to_pfn(pa));

        table_lock(frame);
        qr_debug_assert(!table_has_flag(frame, QR_FRAME_TABLE_DEAD));
        walk_push(c, frame, pa, va);
    }
}

static QR_ALWAYS_INLINE void
walk_go(walk_format f, struct qr_cursor *c, qr_va va, unsigned wanted)
{
    qr_debug_assert(qr_va_range_contains(c->range, va));
    walk_rise(f, c, va.v, false);
    walk_sink(f, c, va.v, wanted);
}

/* ---- Open ----------------------------------------------------------------- */

/* What the kernel's addresses have above those that are translated. */
static QR_ALWAYS_INLINE uintptr_t
walk_upper_bits(walk_format f)
{
    return f->info.roots == QR_ROOTS_FLAT ? 0 : ~(uintptr_t)0 << f->info.va_bits;
}

/* Whether [first, last] lies in one half, and in one that belongs to this tree. */
static QR_ALWAYS_INLINE bool
walk_is_canonical(walk_format f, const struct qr_tables *tables, uintptr_t first, uintptr_t last)
{
    uint64_t all = (uint64_t)walk_upper_bits(f) | (((uint64_t)1 << f->info.va_bits) - 1);

    if (tables->lower_end != 0 && last < tables->lower_end)
        return true;
    return tables->upper_start != 0 && first >= tables->upper_start && last <= all;
}

/*
 * The level of the table to lock: the lowest that covers the range and more than it.  A range
 * that takes all of a table can do without it, which only its parent's holder can arrange.
 */
static QR_ALWAYS_INLINE unsigned
walk_top_level(walk_format f, uintptr_t first, uintptr_t last)
{
    uintptr_t difference = first ^ last;
    unsigned level = 0;

    if (qr_likely(difference <= walk_entry_mask(f, 0)))
        return 0;
    while (level + 1 < f->info.levels) {
        uintptr_t mask = walk_entry_mask(f, level + 1);

        if (difference < mask || (difference == mask && (first & mask) != 0))
            return level;
        level++;
    }
    return level;
}

/* The lowest table that stands there, down to level @top, without locks; in an epoch section. */
static QR_ALWAYS_INLINE struct qr_frame *
walk_covering(walk_format f, struct qr_cursor *c, unsigned top)
{
    struct qr_tables *tables = c->tables;
    uintptr_t first = c->range.start.v;
    qr_pa pa = tables->root_pa;
    unsigned level;

    _Pragma("GCC unroll 5") for (level = f->info.levels - 1; level > 0; level--)
    {
        if (level == top)
            break;
        void *table = qr_port_window_open(pa);
        qr_pte pte = pte_load(f, table, walk_index(f, first, level));

        qr_port_window_close(table);
        if (qr_unlikely(f->kind(f, pte, level) != PTE_TABLE))
            break;
        pa = f->read_table(f, pte, level);
    }
    c->level = level;
    c->top = level;
    c->pa[level] = pa;
    return qr_frame_of(tables->frames, qr_pa_to_pfn(pa));
}

/* Find and lock the covering table; false where it turned out to be dead. */
static QR_ALWAYS_INLINE bool
walk_lock_covering(walk_format f, struct qr_cursor *c, unsigned top, struct qr_cpu *cpu)
{
    struct qr_epoch *epoch = c->tables->epoch;
    bool outermost = qr_epoch_begin(epoch, cpu);
    struct qr_frame *frame = walk_covering(f, c, top);

    table_lock_entered(frame, cpu);
    c->path[c->top] = frame;
    bool dead = table_has_flag(frame, QR_FRAME_TABLE_DEAD);

    if (qr_unlikely(dead)) {
        /* Unlocked before the section ends, for then it may be freed; interrupts stay off. */
        (void)qr_cpu_enter();
        table_unlock(frame);
        qr_epoch_end(epoch, cpu, outermost);
        qr_cpu_leave(cpu);
        return false;
    }
    qr_epoch_end(epoch, cpu, outermost);
    return true;
}

static QR_ALWAYS_INLINE void
walk_open(walk_format f, struct qr_cursor *c, struct qr_tables *tables, struct qr_va_range range,
          struct qr_tlb_batch *batch)
{
    uintptr_t first = range.start.v;
    uintptr_t last = range.end.v - 1;
    unsigned top = walk_top_level(f, first, last);
    struct qr_cpu *cpu = qr_cpu_enter();

    qr_assert(first <= last && ((first | (last + 1)) & walk_entry_mask(f, 0)) == 0);
    qr_debug_assert(walk_is_canonical(f, tables, first, last));
    c->tables = tables;
    c->batch = batch;
    c->range.start.v = first;
    c->range.end.v = last + 1;
    c->at.v = first;
    c->noted = false;
    /* More than one page: its holder may call addresses unmapped that it did not note. */
    if (batch != NULL && last - first > walk_entry_mask(f, 0))
        batch->gaps = true;
    /* Each retry follows an unlinking, which is visible to the next walk. */
    while (qr_unlikely(!walk_lock_covering(f, c, top, cpu)))
        cpu = qr_cpu_enter();
    qr_debug_assert(atomic_load_explicit(&c->path[c->top]->owner, memory_order_relaxed) ==
                    c->tables);
    qr_debug_assert(atomic_load_explicit(&c->path[c->top]->index, memory_order_relaxed) ==
                    (walk_table_base(f, c->at.v, c->top) | c->top));
}

/* ---- One entry ------------------------------------------------------------ */

/* Note the change of an entry; the caller knows that there is a batch. */
static QR_ALWAYS_INLINE void
walk_note_in_batch(walk_format f, struct qr_cursor *c, uintptr_t va, unsigned level)
{
    c->noted = true;
    qr_tlb_batch_note(c->batch, qr_va_of(va & ~walk_entry_mask(f, level)), f->shift(f, level));
}

static QR_ALWAYS_INLINE void
walk_note(walk_format f, struct qr_cursor *c, uintptr_t va, unsigned level)
{
    qr_assert(c->batch != NULL);
    walk_note_in_batch(f, c, va, level);
}

#include "table/walk_group.h"

/*
 * The operations that a fault needs come in two: near, where the cursor stands on one table of
 * level 0 (a page whose table exists), and far, which is anything else and not inlined twice.
 */
static QR_ALWAYS_INLINE bool
walk_is_near(const struct qr_cursor *c, unsigned level)
{
    return qr_likely((c->top | level) == 0);
}

static QR_ALWAYS_INLINE struct qr_entry
walk_query_near(walk_format f, struct qr_cursor *c, qr_va va)
{
    struct qr_entry entry;

    walk_decode(f, walk_load_plain(f, c, va.v, 0), 0, va.v, &entry);
    return entry;
}

static QR_ALWAYS_INLINE struct qr_entry
walk_query_far(walk_format f, struct qr_cursor *c, qr_va va)
{
    struct qr_entry entry;

    walk_go(f, c, va, 0);
    walk_decode(f, walk_load_plain(f, c, va.v, c->level), c->level, va.v, &entry);
    return entry;
}

/*
 * Before something live is put where nothing stands: who took out what stood there may not
 * have flushed it yet.  Formats that want it forgotten before the next one comes flush it here.
 * We saw the empty entry under its table's lock, so we see the other's batch counted, or
 * its flush is over.  That is rare: a page is given up and touched at the same time.
 */
static QR_ALWAYS_INLINE void
walk_settle(walk_format f, struct qr_cursor *c, uintptr_t va, unsigned level)
{
    struct qr_tlb_batch *batch = c->batch;

    if (!f->break_before_make || batch == NULL)
        return;
    if (qr_likely(atomic_load_explicit(&batch->space->pending, memory_order_acquire) == 0))
        return;
    qr_tlb_batch_note(batch, qr_va_of(va & ~walk_entry_mask(f, level)), f->shift(f, level));
    if (level > 0)
        batch->tables_freed = true;
    batch->flush(batch);
}

/* Build the tables from the cursor's place down to @level. */
static QR_ALWAYS_INLINE enum qr_status
walk_build(walk_format f, struct qr_cursor *c, uintptr_t va, unsigned level)
{
    struct qr_frame *fresh[QR_LEVELS_MAX];
    unsigned count = c->level - level;

    qr_assert(!f->root_is_loaded || c->level + 1 < f->info.levels);
    for (unsigned i = 0; i < count; i++) {
        fresh[i] = qr_table_alloc(c->tables);
        if (fresh[i] == NULL) {
            while (i > 0)
                qr_table_cancel(c->tables, fresh[--i]);
            return QR_ERR_NO_MEMORY;
        }
    }
    for (unsigned i = 0; i < count; i++) {
        qr_pa pa = qr_frame_pa(c->tables->frames, fresh[i]);
        unsigned child_level = c->level - 1;

        qr_table_init(c->tables, fresh[i], walk_table_base(f, va, child_level), child_level);
        table_lock(fresh[i]);
        if (i == 0)
            walk_settle(f, c, va, c->level);
        walk_store(f, c, va, f->make_table(f, pa, c->level));
        table_live_add(c->path[c->level], 1);
        walk_push(c, fresh[i], pa, va);
    }
    return QR_OK;
}

/* An entry of the cursor's level holds a table: unlink that if it is empty. */
static QR_ALWAYS_INLINE enum qr_status
walk_drop_empty(walk_format f, struct qr_cursor *c, uintptr_t va)
{
    unsigned level = c->level;

    walk_sink(f, c, va, level - 1);
    if (c->batch != NULL && walk_can_unlink(c)) {
        walk_unlink(f, c);
        if (f->break_before_make)
            c->batch->flush(c->batch);
        return QR_OK;
    }
    table_unlock(c->path[c->level]);
    c->level = level;
    return QR_ERR_EXISTS;
}

static QR_ALWAYS_INLINE enum qr_status
walk_prepare(walk_format f, struct qr_cursor *c, qr_va va, unsigned level)
{
    qr_assert(level < f->info.levels && (f->info.leaf_levels >> level & 1) != 0);
    if (level > c->top)
        return QR_ERR_EXISTS;
    walk_rise(f, c, va.v, false);
    while (c->level < level) {
        table_unlock(c->path[c->level]);
        c->level++;
    }
    walk_sink(f, c, va.v, level);

    enum pte_kind kind = f->kind(f, walk_load(f, c, va.v), c->level);

    switch (decide_prepare(kind, c->level, level)) {
    case PREPARE_DONE:
        return QR_OK;
    case PREPARE_BUILD:
        return walk_build(f, c, va.v, level);
    case PREPARE_DROP_TABLE:
        return walk_drop_empty(f, c, va.v);
    default:
        return QR_ERR_EXISTS;
    }
}

/* Set an entry of the locked table at @level where nothing or a mark stands. */
static QR_ALWAYS_INLINE void
walk_set_at(walk_format f, struct qr_cursor *c, uintptr_t va, unsigned level, qr_pte pte)
{
    void *table = qr_port_window_open(c->pa[level]);
    size_t index = walk_index(f, va, level);
    qr_pte old = pte_load(f, table, index);

    if (qr_likely(old == 0))
        table_live_add(c->path[level], 1);
    else
        qr_assert(f->kind(f, old, level) == PTE_MARK);
    pte_store(f, table, index, pte);
    qr_port_window_close(table);
}

static QR_ALWAYS_INLINE void
walk_map_near(walk_format f, struct qr_cursor *c, qr_va va, const struct qr_leaf *leaf)
{
    qr_assert(((va.v | leaf->pa.v) & walk_entry_mask(f, 0)) == 0);
    walk_settle(f, c, va.v, 0);
    walk_set_at(f, c, va.v, 0, f->make_leaf(f, leaf, 0));
}

static QR_ALWAYS_INLINE void
walk_map_far(walk_format f, struct qr_cursor *c, qr_va va, const struct qr_leaf *leaf)
{
    unsigned level = leaf->level;

    qr_assert(((va.v | leaf->pa.v) & walk_entry_mask(f, level)) == 0);
    walk_go(f, c, va, level);
    qr_assert(c->level == level);
    walk_settle(f, c, va.v, level);
    walk_set_at(f, c, va.v, level, f->make_leaf(f, leaf, level));
}

static QR_ALWAYS_INLINE void
walk_mark(walk_format f, struct qr_cursor *c, qr_va va, unsigned level, struct qr_mark mark)
{
    qr_assert((va.v & walk_entry_mask(f, level)) == 0);
    qr_assert(mark.kind != QR_MARK_NONE && mark.value >> f->info.mark_bits == 0);
    walk_go(f, c, va, level);
    qr_assert(c->level == level);
    walk_set_at(f, c, va.v, level, f->make_mark(f, mark, level));
}

static QR_ALWAYS_INLINE struct qr_entry
walk_unmap(walk_format f, struct qr_cursor *c, qr_va va)
{
    struct qr_entry entry;

    walk_go(f, c, va, 0);
    walk_leave_group(f, c, va.v);

    qr_pte old = walk_exchange(f, c, va.v, 0);

    walk_decode(f, old, c->level, va.v, &entry);
    qr_assert(entry.kind != QR_ENTRY_NONE);
    table_live_add(c->path[c->level], -1);
    if (entry.kind == QR_ENTRY_LEAF && f->present(f, old, c->level))
        walk_note(f, c, va.v, c->level);
    return entry;
}

static QR_ALWAYS_INLINE struct qr_entry
walk_replace(walk_format f, struct qr_cursor *c, qr_va va, const struct qr_leaf *leaf)
{
    unsigned level = leaf->level;
    qr_pte new = f->make_leaf(f, leaf, level);
    struct qr_entry entry;

    qr_assert((leaf->pa.v & walk_entry_mask(f, level)) == 0);
    walk_go(f, c, va, level);
    qr_assert(c->level == level);
    walk_leave_group(f, c, va.v);

    qr_pte old = walk_exchange(f, c, va.v, f->break_before_make ? 0 : new);

    walk_decode(f, old, level, va.v, &entry);
    qr_assert(entry.kind == QR_ENTRY_LEAF);
    if (f->present(f, old, level)) {
        walk_note(f, c, va.v, level);
        if (f->break_before_make)
            c->batch->flush(c->batch);
    }
    if (f->break_before_make)
        walk_store(f, c, va.v, new);
    return entry;
}

static QR_ALWAYS_INLINE void
walk_update(walk_format f, struct qr_cursor *c, qr_va va, unsigned prot, unsigned set_flags,
            unsigned clear_flags)
{
    walk_go(f, c, va, 0);
    walk_leave_group(f, c, va.v);

    unsigned level = c->level;
    void *table = qr_port_window_open(c->pa[level]);
    size_t index = walk_index(f, va.v, level);
    qr_pte old = pte_load(f, table, index);
    qr_pte new;

    qr_assert(f->kind(f, old, level) == PTE_LEAF);
    do {
        new = f->flag(f, old, level, set_flags, clear_flags);
        new = f->protect(f, new, level, prot, f->read_leaf(f, old, level).pkey);
    } while (!pte_swap(f, table, index, &old, new));
    qr_port_window_close(table);
    if (f->stricter(f, old, new, level))
        walk_note(f, c, va.v, level);
}

/* ---- Split ----------------------------------------------------------------- */

/* Write what the entry @pte at @level means into the table below. */
static QR_ALWAYS_INLINE void
walk_split_fill(walk_format f, void *table, qr_pte pte, unsigned level)
{
    unsigned below = level - 1;
    size_t count = (size_t)1 << f->index_bits(f, below);

    if (f->kind(f, pte, level) == PTE_LEAF) {
        struct qr_leaf leaf = f->read_leaf(f, pte, level);

        leaf.level = (uint8_t)below;
        for (size_t i = 0; i < count; i++) {
            pte_store(f, table, i, f->make_leaf(f, &leaf, below));
            leaf.pa.v += (uint64_t)1 << f->shift(f, below);
        }
    } else {
        struct qr_mark mark = f->read_mark(f, pte, level);
        size_t pages = (size_t)1 << (f->shift(f, below) - f->info.page_shift);

        for (size_t i = 0; i < count; i++)
            pte_store(f, table, i, f->make_mark(f, decide_split_mark(mark, i, pages), below));
    }
}

static QR_ALWAYS_INLINE enum qr_status
walk_split(walk_format f, struct qr_cursor *c, qr_va va)
{
    walk_go(f, c, va, 0);
    walk_leave_group(f, c, va.v);

    unsigned level = c->level;
    qr_pte old = walk_load(f, c, va.v);

    qr_assert(level > 0 && old != 0);
    qr_assert((f->info.leaf_levels >> (level - 1) & 1) != 0);

    struct qr_frame *child = qr_table_alloc(c->tables);

    if (child == NULL)
        return QR_ERR_NO_MEMORY;
    qr_table_init(c->tables, child, walk_table_base(f, va.v, level - 1), level - 1);
    table_live_add(child, 1 << f->index_bits(f, level - 1));
    table_lock(child);

    qr_pa pa = qr_frame_pa(c->tables->frames, child);
    qr_pte new = f->make_table(f, pa, level);
    void *below = qr_port_window_open(pa);
    void *table = qr_port_window_open(c->pa[level]);
    size_t index = walk_index(f, va.v, level);
    bool noted = f->kind(f, old, level) == PTE_LEAF && f->present(f, old, level);

    if (noted && f->break_before_make && !c->tables->format->traits->split_live) {
        old = pte_exchange(f, table, index, 0);
        walk_note(f, c, va.v, level);
        c->batch->flush(c->batch);
        walk_split_fill(f, below, old, level);
        pte_store(f, table, index, new);
    } else {
        /* Hardware may set the accessed or dirty bit meanwhile: the parts must have it too. */
        do
            walk_split_fill(f, below, old, level);
        while (!pte_swap(f, table, index, &old, new));
        if (noted)
            walk_note(f, c, va.v, level);
    }
    qr_port_window_close(table);
    qr_port_window_close(below);
    walk_push(c, child, pa, va.v);
    return QR_OK;
}

/* ---- Ranges ---------------------------------------------------------------- */

/*
 * Neighbours mostly differ in their address alone.  So visitors remember what
 * they worked out for the last entry and use it again as long as the other bits
 * (f->attribute_mask) are the same.
 */

/* One entry, not empty and not a table. */
struct walk_place {
    void *table;
    size_t index;
    uintptr_t va; /* first address of the entry, or the range's start within it */
    qr_pte pte;
    unsigned level;
};

/* Called for each leaf and mark; false ends the walk.  Inlined: the place stays in registers. */
typedef bool (*walk_visit)(walk_format f, struct qr_cursor *c, struct walk_place place,
                           void *state);

enum walk_end { WALK_STOPPED, WALK_TABLE, WALK_LAST };

/* What a visitor does to the tables. */
enum walk_purpose {
    WALK_LOOK,
    WALK_CHANGE,
    WALK_TAKE, /* every entry that it visits is gone afterwards; drop tables left empty */
};

/* The plain leaf of a member of a group, which stands alone if it is to be changed. */
static QR_ALWAYS_INLINE qr_pte
walk_take_member(struct qr_cursor *c, struct walk_place place, enum walk_purpose purpose)
{
    if (purpose == WALK_LOOK)
        return qr_group_member(c, place.va, place.level);
    return qr_group_leave(c, place.va, place.level);
}

/* Visit the entries of the lowest table from *io_va to @last, up to the first table. */
static QR_ALWAYS_INLINE enum walk_end
walk_segment(walk_format f, struct qr_cursor *c, uintptr_t *io_va, uintptr_t last, unsigned level,
             enum walk_purpose purpose, walk_visit visit, void *state)
{
    uintptr_t mask = walk_entry_mask(f, level);
    size_t index = walk_index(f, *io_va, level);
    size_t end = walk_index(f, last, level) + 1;
    uintptr_t va = *io_va;
    void *table = qr_port_window_open(c->pa[level]);
    enum walk_end result = WALK_LAST;
    int visited = 0;

    for (; index < end; index++, va = (va | mask) + 1) {
        struct walk_place place = {table, index, va, pte_load(f, table, index), level};

        if (place.pte == 0)
            continue;
        if (level > 0 && f->kind(f, place.pte, level) == PTE_TABLE) {
            result = WALK_TABLE;
            break;
        }
        visited++;
        if (walk_is_grouped(f, place.pte))
            place.pte = walk_take_member(c, place, purpose);
        if (!visit(f, c, place, state)) {
            result = WALK_STOPPED;
            break;
        }
    }
    qr_port_window_close(table);
    if (purpose == WALK_TAKE)
        table_live_add(c->path[level], -visited);
    *io_va = va;
    return result;
}

/* Visit every leaf and mark in @range; false where the visitor ended it. */
static QR_ALWAYS_INLINE bool
walk_each(walk_format f, struct qr_cursor *c, struct qr_va_range range, enum walk_purpose purpose,
          walk_visit visit, void *state)
{
    uintptr_t va = range.start.v;
    uintptr_t range_last = range.end.v - 1;

    qr_assert(range.start.v < range.end.v);
    qr_assert(range.start.v >= c->range.start.v && range.end.v <= c->range.end.v);
    for (;;) {
        uintptr_t last = range_last;
        enum walk_end end;

        walk_rise(f, c, va, purpose == WALK_TAKE);
        walk_sink(f, c, va, 0);
        if (!walk_same_table(f, va, last, c->level))
            last = va | walk_entry_mask(f, c->level + 1);
        end = c->level == 0 ? walk_segment(f, c, &va, last, 0, purpose, visit, state)
                            : walk_segment(f, c, &va, last, c->level, purpose, visit, state);
        if (end == WALK_STOPPED)
            return false;
        if (end == WALK_LAST && last == range_last)
            return true;
    }
}

static QR_ALWAYS_INLINE bool
walk_find_visit(walk_format f, struct qr_cursor *c, struct walk_place place, void *state)
{
    (void)c;
    walk_decode(f, place.pte, place.level, place.va, state);
    return false;
}

static QR_ALWAYS_INLINE bool
walk_find(walk_format f, struct qr_cursor *c, qr_va from, struct qr_entry *out_entry)
{
    struct qr_va_range range = {from, c->range.end};

    if (from.v >= c->range.end.v)
        return false;
    return !walk_each(f, c, range, WALK_LOOK, walk_find_visit, out_entry);
}

struct walk_unmap_state {
    struct qr_va_range range;
    qr_unmap_fn fn;
    void *context;
    qr_pte last;           /* the last leaf; 0: none */
    bool present;          /* it could be cached */
    struct qr_entry entry; /* what it said */
};

static QR_ALWAYS_INLINE bool
walk_unmap_visit(walk_format f, struct qr_cursor *c, struct walk_place place, void *state)
{
    struct walk_unmap_state *unmap = state;
    unsigned level = place.level;

    qr_assert(level == 0 ||
              decide_cover(unmap->range, qr_va_of(place.va), f->shift(f, level)) == COVER_WHOLE);

    qr_pte old = pte_exchange(f, place.table, place.index, 0);

    if (qr_likely(level == 0 && ((old ^ unmap->last) & f->attribute_mask(f, 0)) == 0)) {
        unmap->entry.leaf.pa.v ^= f->address_change(f, old ^ unmap->last, 0);
        unmap->entry.start = qr_va_of(place.va);
        unmap->last = old;
    } else {
        walk_decode(f, old, level, place.va, &unmap->entry);
        unmap->present = unmap->entry.kind == QR_ENTRY_LEAF && f->present(f, old, level);
        unmap->last = level == 0 && unmap->entry.kind == QR_ENTRY_LEAF ? old : 0;
    }
    if (unmap->present)
        walk_note_in_batch(f, c, place.va, level);
    unmap->fn(unmap->context, &unmap->entry);
    return true;
}

static QR_ALWAYS_INLINE void
walk_unmap_range(walk_format f, struct qr_cursor *c, struct qr_va_range range, qr_unmap_fn fn,
                 void *context)
{
    struct walk_unmap_state state = {.range = range, .fn = fn, .context = context};

    qr_assert(c->batch != NULL && fn != NULL);
    (void)walk_each(f, c, range, WALK_TAKE, walk_unmap_visit, &state);
    while (walk_can_unlink(c))
        walk_unlink(f, c);
}

struct walk_protect_state {
    struct qr_va_range range;
    unsigned prot;
    uint8_t pkey;
    qr_may_write_fn may_write;
    void *context;
    qr_pte last;   /* the last leaf for which nobody had to be asked; 0: none */
    qr_pte change; /* its old and new value, XORed */
    bool stricter;
};

/* Whether a leaf that lacks WRITE may have it. */
static QR_ALWAYS_INLINE bool
walk_may_write(walk_format f, struct walk_place place, const struct walk_protect_state *protect)
{
    struct qr_entry entry;

    if (protect->may_write == NULL)
        return false;
    walk_decode(f, place.pte, place.level, place.va, &entry);
    return protect->may_write(protect->context, &entry);
}

/* Work out how @place's leaf changes, and remember it where it holds for its like. */
static QR_ALWAYS_INLINE void
walk_protect_work_out(walk_format f, struct walk_place place, struct walk_protect_state *protect)
{
    unsigned level = place.level;
    bool writable = f->writable(f, place.pte, level);
    bool ask = (protect->prot & QR_PROT_WRITE) != 0 && !writable;
    unsigned prot =
        decide_protect(protect->prot, writable, ask && walk_may_write(f, place, protect));
    qr_pte new = f->protect(f, place.pte, level, prot, protect->pkey);

    protect->change = place.pte ^ new;
    protect->stricter = f->stricter(f, place.pte, new, level);
    protect->last = ask && protect->may_write != NULL ? 0 : place.pte;
    if (level > 0)
        protect->last = 0;
}

static QR_ALWAYS_INLINE bool
walk_protect_visit(walk_format f, struct qr_cursor *c, struct walk_place place, void *state)
{
    struct walk_protect_state *protect = state;
    unsigned level = place.level;

    if (qr_unlikely(level > 0 || ((place.pte ^ protect->last) & f->attribute_mask(f, 0)) != 0)) {
        if (f->kind(f, place.pte, level) != PTE_LEAF)
            return true;
        qr_assert(level == 0 || decide_cover(protect->range, qr_va_of(place.va),
                                             f->shift(f, level)) == COVER_WHOLE);
        walk_protect_work_out(f, place, protect);
    }
    if (protect->change == 0)
        return true;
    /* Hardware may set the accessed or dirty bit meanwhile; mostly they change neither of the two. */
    qr_pte old = place.pte;

    while (!pte_swap(f, place.table, place.index, &old, old ^ protect->change)) {
        if (!f->dirty_is_a_right)
            continue;
        place.pte = old;
        walk_protect_work_out(f, place, protect);
    }
    if (protect->stricter)
        walk_note_in_batch(f, c, place.va, level);
    return true;
}

static QR_ALWAYS_INLINE void
walk_protect_range(walk_format f, struct qr_cursor *c, struct qr_va_range range, unsigned prot,
                   uint8_t pkey, qr_may_write_fn may_write, void *context)
{
    qr_assert(c->batch != NULL);

    struct walk_protect_state state = {
        .range = range, .prot = prot, .pkey = pkey, .may_write = may_write, .context = context};

    (void)walk_each(f, c, range, WALK_CHANGE, walk_protect_visit, &state);
}

#include "table/walk_copy.h"

/* ---- Instances -------------------------------------------------------------- */

/* Defines qr_format_<name> from its traits, a constant of this file. */
#define WALK_INSTANTIATE(name, traits_)                                                            \
    static void name##_open(struct qr_cursor *c, struct qr_tables *tables,                         \
                            struct qr_va_range range, struct qr_tlb_batch *batch)                  \
    {                                                                                              \
        walk_open(&traits_, c, tables, range, batch);                                              \
    }                                                                                              \
    static QR_NOINLINE struct qr_entry name##_query_far(struct qr_cursor *c, qr_va va)             \
    {                                                                                              \
        return walk_query_far(&traits_, c, va);                                                    \
    }                                                                                              \
    static struct qr_entry name##_query(struct qr_cursor *c, qr_va va)                             \
    {                                                                                              \
        return walk_is_near(c, 0) ? walk_query_near(&traits_, c, va) : name##_query_far(c, va);    \
    }                                                                                              \
    static bool name##_find(struct qr_cursor *c, qr_va from, struct qr_entry *out_entry)           \
    {                                                                                              \
        return walk_find(&traits_, c, from, out_entry);                                            \
    }                                                                                              \
    static QR_NOINLINE enum qr_status name##_prepare_far(struct qr_cursor *c, qr_va va,            \
                                                         unsigned level)                           \
    {                                                                                              \
        return walk_prepare(&traits_, c, va, level);                                               \
    }                                                                                              \
    static enum qr_status name##_prepare(struct qr_cursor *c, qr_va va, unsigned level)            \
    {                                                                                              \
        return walk_is_near(c, level) ? QR_OK : name##_prepare_far(c, va, level);                  \
    }                                                                                              \
    static QR_NOINLINE void name##_map_far(struct qr_cursor *c, qr_va va,                          \
                                           const struct qr_leaf *leaf)                             \
    {                                                                                              \
        walk_map_far(&traits_, c, va, leaf);                                                       \
    }                                                                                              \
    static void name##_map(struct qr_cursor *c, qr_va va, const struct qr_leaf *leaf)              \
    {                                                                                              \
        if (walk_is_near(c, leaf->level))                                                          \
            walk_map_near(&traits_, c, va, leaf);                                                  \
        else                                                                                       \
            name##_map_far(c, va, leaf);                                                           \
    }                                                                                              \
    static void name##_mark(struct qr_cursor *c, qr_va va, unsigned level, struct qr_mark mark)    \
    {                                                                                              \
        walk_mark(&traits_, c, va, level, mark);                                                   \
    }                                                                                              \
    static struct qr_entry name##_unmap(struct qr_cursor *c, qr_va va)                             \
    {                                                                                              \
        return walk_unmap(&traits_, c, va);                                                        \
    }                                                                                              \
    static struct qr_entry name##_replace(struct qr_cursor *c, qr_va va,                           \
                                          const struct qr_leaf *leaf)                              \
    {                                                                                              \
        return walk_replace(&traits_, c, va, leaf);                                                \
    }                                                                                              \
    static void name##_update(struct qr_cursor *c, qr_va va, unsigned prot, unsigned set_flags,    \
                              unsigned clear_flags)                                                \
    {                                                                                              \
        walk_update(&traits_, c, va, prot, set_flags, clear_flags);                                \
    }                                                                                              \
    static enum qr_status name##_split(struct qr_cursor *c, qr_va va)                              \
    {                                                                                              \
        return walk_split(&traits_, c, va);                                                        \
    }                                                                                              \
    static void name##_unmap_range(struct qr_cursor *c, struct qr_va_range range, qr_unmap_fn fn,  \
                                   void *context)                                                  \
    {                                                                                              \
        walk_unmap_range(&traits_, c, range, fn, context);                                         \
    }                                                                                              \
    static void name##_protect_range(struct qr_cursor *c, struct qr_va_range range, unsigned prot, \
                                     uint8_t pkey, qr_may_write_fn may_write, void *context)       \
    {                                                                                              \
        walk_protect_range(&traits_, c, range, prot, pkey, may_write, context);                    \
    }                                                                                              \
    static enum qr_status name##_copy_range(struct qr_cursor *from, struct qr_cursor *to,          \
                                            struct qr_va_range range,                              \
                                            const struct qr_copy_ops *ops, void *context)          \
    {                                                                                              \
        return walk_copy_range(&traits_, from, to, range, ops, context);                           \
    }                                                                                              \
    static enum qr_status name##_move_prepare(struct qr_tables *tables, struct qr_va_range range,  \
                                              qr_va to)                                            \
    {                                                                                              \
        return walk_move_prepare(&traits_, tables, range, to);                                     \
    }                                                                                              \
    static void name##_move(struct qr_tables *tables, struct qr_va_range range, qr_va to,          \
                            struct qr_tlb_batch *batch, qr_move_fn fn, void *context)              \
    {                                                                                              \
        walk_move_range(&traits_, tables, range, to, batch, fn, context);                          \
    }                                                                                              \
    WALK_VARIANT(name, name, traits_)

/* Defines qr_format_<name> with the code of <base>, whose traits differ in nothing that it folds. */
#define WALK_VARIANT(name, base, traits_)       \
    const struct qr_format qr_format_##name = { \
        .traits = &traits_,                     \
        .open = base##_open,                    \
        .query = base##_query,                  \
        .find = base##_find,                    \
        .prepare = base##_prepare,              \
        .map = base##_map,                      \
        .mark = base##_mark,                    \
        .unmap = base##_unmap,                  \
        .replace = base##_replace,              \
        .update = base##_update,                \
        .split = base##_split,                  \
        .unmap_range = base##_unmap_range,      \
        .protect_range = base##_protect_range,  \
        .copy_range = base##_copy_range,        \
        .move_prepare = base##_move_prepare,    \
        .move = base##_move,                    \
    };

#endif
