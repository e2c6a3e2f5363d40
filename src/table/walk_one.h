/* SPDX-License-Identifier: MIT */
#ifndef QUIRE_TABLE_WALK_ONE_H
#define QUIRE_TABLE_WALK_ONE_H

/*
 * Operations on one entry.
 */

#include "table/decide.h"
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
 * Before something live is put where nothing stands, in @count entries from @va on: who took out
 * what stood there may not have flushed it yet.  Formats that want it forgotten before the next
 * one comes flush it here.  We saw the empty entry under its table's lock, so we see the other's batch counted, or
 * its flush is over.  That is rare: a page is given up and touched at the same time.
 */
static QR_ALWAYS_INLINE void
walk_settle(walk_format f, struct qr_cursor *c, uintptr_t va, unsigned level, size_t count)
{
    struct qr_tlb_batch *batch = c->batch;

    if (!f->break_before_make || batch == NULL)
        return;
    if (qr_likely(atomic_load_explicit(&batch->space->pending, memory_order_acquire) == 0))
        return;
    va &= ~walk_entry_mask(f, level);
    for (size_t i = 0; i < count; i++)
        qr_tlb_batch_note(batch, qr_va_of(va + (i << f->shift(f, level))), f->shift(f, level));
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
            walk_settle(f, c, va, c->level, 1);
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
    walk_settle(f, c, va.v, 0, 1);
    walk_set_at(f, c, va.v, 0, f->make_leaf(f, leaf, 0));
}

static QR_ALWAYS_INLINE void
walk_map_far(walk_format f, struct qr_cursor *c, qr_va va, const struct qr_leaf *leaf)
{
    unsigned level = leaf->level;

    qr_assert(((va.v | leaf->pa.v) & walk_entry_mask(f, level)) == 0);
    walk_go(f, c, va, level);
    qr_assert(c->level == level);
    walk_settle(f, c, va.v, level, 1);
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

    struct qr_frame *child = qr_table_alloc_surely(c->tables);

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

#endif
