/* SPDX-License-Identifier: MIT */
#ifndef QUIRE_TABLE_WALK_BASE_H
#define QUIRE_TABLE_WALK_BASE_H

/*
 * The walker: the cursor's operations over any format.
 *
 * Everything in these headers is inlined into one instance per format
 * (WALK_INSTANTIATE in walk.h), where the traits are a constant and vanish:
 *
 *   walk_base.h    entries, moving, opening        walk_range.h   many entries of one tree
 *   walk_group.h   groups                          walk_copy.h    two places at once
 *   walk_one.h     one entry, and its split        walk.h         the instances
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

#endif
