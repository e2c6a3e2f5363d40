/* SPDX-License-Identifier: MIT */
#ifndef QUIRE_TABLE_WALK_COPY_H
#define QUIRE_TABLE_WALK_COPY_H

/*
 * Work on two places at once.
 *
 * Copying a range of one tree into another is the walker's part of fork:
 *
 *   from   table [ W . r W ]          to   table [ . . . . ]
 *                  |     |      =>
 *   from   table [ r . r r ]          to   table [ r . r r ]
 *
 * The entries of one table are copied while both tables are locked.  A tree that
 * nobody else reaches yet is the target, so its locks are never waited for, and
 * no two copies wait for each other.  As everywhere in the walker, what was
 * worked out for an entry holds for the next ones that differ in their address
 * alone.
 *
 * Moving a range within one tree is the walker's part of mremap.  A piece, which
 * lies in one table of level 0 at either place, is moved under one cursor that
 * covers both:
 *
 *                 top        locked by open
 *                /   \
 *     source  table  table   destination: a second path, which shares the first
 *               |      |     one's tables down to where the two part
 *             table  table
 *
 * Both paths go down from tables that are locked already, so cursors with one
 * path cannot wait for us in a circle; the caller sees to it that a tree has one
 * mover at a time.
 */

#include "table/walk_range.h"

struct walk_copy_state {
    struct qr_cursor *to;
    const struct qr_copy_ops *ops;
    void *context;
    enum qr_status status;

    void *to_table;        /* window on the lowest table of @to; NULL: none is ready */
    const void *from;      /* the table that it belongs to */
    int copied;            /* entries set there, not yet counted */
    qr_pte last;           /* the last leaf; 0: none */
    qr_pte change;         /* its value and the one without WRITE, XORed */
    bool stricter;         /* hardware may have cached that right */
    struct qr_entry entry; /* what it said */
};

/* Leave the target's table. */
static QR_ALWAYS_INLINE void
walk_copy_leave(struct walk_copy_state *copy)
{
    if (copy->to_table == NULL)
        return;
    table_live_add(copy->to->path[copy->to->level], copy->copied);
    qr_port_window_close(copy->to_table);
    copy->to_table = NULL;
    copy->copied = 0;
}

/* Have the target's table for @place ready. */
static QR_ALWAYS_INLINE bool
walk_copy_enter(walk_format f, struct walk_place place, struct walk_copy_state *copy)
{
    struct qr_cursor *to = copy->to;

    walk_copy_leave(copy);
    copy->status = walk_prepare(f, to, qr_va_of(place.va), place.level);
    if (copy->status != QR_OK)
        return false;
    copy->to_table = qr_port_window_open(to->pa[place.level]);
    copy->from = place.table;
    return true;
}

static QR_ALWAYS_INLINE void
walk_copy_work_out(walk_format f, struct walk_place place, struct walk_copy_state *copy)
{
    walk_decode(f, place.pte, place.level, place.va, &copy->entry);
    copy->last = 0;
    copy->change = 0;
    copy->stricter = false;
    if (copy->entry.kind != QR_ENTRY_LEAF)
        return;
    qr_pte shared =
        f->protect(f, place.pte, place.level, copy->entry.leaf.prot & ~(unsigned)QR_PROT_WRITE,
                   copy->entry.leaf.pkey);

    copy->change = place.pte ^ shared;
    copy->stricter = f->stricter(f, place.pte, shared, place.level);
    if (place.level == 0)
        copy->last = place.pte;
}

static QR_ALWAYS_INLINE bool
walk_copy_visit(walk_format f, struct qr_cursor *from, struct walk_place place, void *state)
{
    struct walk_copy_state *copy = state;

    if (qr_likely(place.level == 0 && ((place.pte ^ copy->last) & f->attribute_mask(f, 0)) == 0)) {
        copy->entry.leaf.pa.v ^= f->address_change(f, place.pte ^ copy->last, 0);
        copy->entry.start = qr_va_of(place.va);
        copy->last = place.pte;
    } else {
        walk_copy_work_out(f, place, copy);
    }
    if (!copy->ops->wanted(copy->context, &copy->entry))
        return true;
    if (qr_unlikely(copy->to_table == NULL || copy->from != place.table) &&
        !walk_copy_enter(f, place, copy))
        return false;

    qr_pte old = place.pte;

    if (copy->change != 0) {
        /* Hardware may set the accessed or dirty bit meanwhile; both sides have it then. */
        while (!pte_swap(f, place.table, place.index, &old, old ^ copy->change)) {
            if (!f->dirty_is_a_right)
                continue;
            place.pte = old;
            walk_copy_work_out(f, place, copy);
        }
        if (copy->stricter)
            walk_note_in_batch(f, from, place.va, place.level);
    }
    qr_debug_assert(pte_load(f, copy->to_table, place.index) == 0);
    pte_store(f, copy->to_table, place.index, old ^ copy->change);
    copy->copied++;
    copy->ops->copied(copy->context, &copy->entry);
    return true;
}

static QR_ALWAYS_INLINE enum qr_status
walk_copy_range(walk_format f, struct qr_cursor *from, struct qr_cursor *to,
                struct qr_va_range range, const struct qr_copy_ops *ops, void *context)
{
    struct walk_copy_state state = {.to = to, .ops = ops, .context = context};

    qr_assert(from->batch != NULL && from->tables != to->tables);
    qr_assert(from->tables->format == to->tables->format);
    (void)walk_each(f, from, range, WALK_CHANGE, walk_copy_visit, &state);
    walk_copy_leave(&state);
    return state.status;
}

/* ---- Moving ---------------------------------------------------------------- */

struct walk_move {
    struct qr_cursor from, to; /* `to` borrows the tables from `to.top` up */
    uintptr_t va, to_va;       /* the rest of the range */
    size_t bytes;              /* of the piece */
};

/* Cut the next piece off and stand on its source's table; false where there is none. */
static QR_ALWAYS_INLINE bool
walk_move_open(walk_format f, struct walk_move *move, struct qr_tables *tables, uintptr_t end,
               struct qr_tlb_batch *batch)
{
    uintptr_t mask = walk_entry_mask(f, 1);
    uintptr_t low = move->va < move->to_va ? move->va : move->to_va;
    uintptr_t high = move->va ^ move->to_va ^ low;
    uintptr_t last = end - 1 - move->va; /* offset of the piece's last byte */

    if (last > mask - (move->va & mask))
        last = mask - (move->va & mask);
    if (last > mask - (move->to_va & mask))
        last = mask - (move->to_va & mask);
    move->bytes = last + 1;
    struct qr_va_range both = {qr_va_of(low), qr_va_of(high + move->bytes)};

    walk_open(f, &move->from, tables, both, batch);
    walk_sink(f, &move->from, move->va, 0);
    return move->from.level == 0;
}

/* The second path: down to the destination's table, which is built where it is missing. */
static QR_ALWAYS_INLINE enum qr_status
walk_move_reach(walk_format f, struct walk_move *move)
{
    struct qr_cursor *to = &move->to;

    *to = move->from;
    while (!walk_same_table(f, move->va, move->to_va, to->level))
        to->level++;
    to->top = to->level;
    return walk_prepare(f, to, qr_va_of(move->to_va), 0);
}

static QR_ALWAYS_INLINE void
walk_move_close(struct walk_move *move, bool reached)
{
    if (reached) {
        for (unsigned level = move->to.level; level < move->to.top; level++)
            table_unlock(move->to.path[level]);
    }
    qr_cursor_close(&move->from);
    move->va += move->bytes;
    move->to_va += move->bytes;
}

static QR_ALWAYS_INLINE enum qr_status
walk_move_prepare(walk_format f, struct qr_tables *tables, struct qr_va_range range, qr_va to)
{
    struct walk_move move = {.va = range.start.v, .to_va = to.v};
    enum qr_status status = QR_OK;

    while (move.va < range.end.v && status == QR_OK) {
        bool there = walk_move_open(f, &move, tables, range.end.v, NULL);

        if (there)
            status = walk_move_reach(f, &move);
        walk_move_close(&move, there);
    }
    return status;
}

/* What was worked out for the last leaf. */
struct walk_move_memory {
    qr_pte last; /* 0: none */
    bool present;
    struct qr_entry entry;
};

static QR_ALWAYS_INLINE void
walk_move_decode(walk_format f, qr_pte pte, uintptr_t va, struct walk_move_memory *memory)
{
    if (qr_likely(((pte ^ memory->last) & f->attribute_mask(f, 0)) == 0)) {
        memory->entry.leaf.pa.v ^= f->address_change(f, pte ^ memory->last, 0);
        memory->entry.start = qr_va_of(va);
        memory->last = pte;
        return;
    }
    walk_decode(f, pte, 0, va, &memory->entry);
    memory->last = memory->entry.kind == QR_ENTRY_LEAF ? pte : 0;
    memory->present = memory->entry.kind == QR_ENTRY_LEAF && f->present(f, pte, 0);
}

/* Move the entries of one piece. */
static QR_ALWAYS_INLINE void
walk_move_piece(walk_format f, struct walk_move *move, qr_move_fn fn, void *context)
{
    struct qr_cursor *from = &move->from;
    void *source = qr_port_window_open(from->pa[0]);
    void *target = qr_port_window_open(move->to.pa[0]);
    size_t index = walk_index(f, move->va, 0);
    size_t to_index = walk_index(f, move->to_va, 0);
    size_t count = move->bytes >> f->info.page_shift;
    struct walk_move_memory memory = {.last = 0};
    int moved = 0;

    for (size_t i = 0; i < count; i++) {
        uintptr_t offset = i << f->info.page_shift;

        qr_pte pte = pte_load(f, source, index + i);

        if (pte == 0)
            continue;
        if (walk_is_grouped(f, pte))
            (void)qr_group_leave(from, move->va + offset, 0);
        pte = pte_exchange(f, source, index + i, 0);

        walk_move_decode(f, pte, move->va + offset, &memory);
        if (memory.present)
            walk_note_in_batch(f, from, move->va + offset, 0);
        qr_assert(pte_load(f, target, to_index + i) == 0);
        pte_store(f, target, to_index + i, pte);
        fn(context, &memory.entry, qr_va_of(move->to_va + offset));
        moved++;
    }
    table_live_add(from->path[0], -moved);
    table_live_add(move->to.path[0], moved);
    qr_port_window_close(target);
    qr_port_window_close(source);
}

static QR_ALWAYS_INLINE void
walk_move_range(walk_format f, struct qr_tables *tables, struct qr_va_range range, qr_va to,
                struct qr_tlb_batch *batch, qr_move_fn fn, void *context)
{
    struct walk_move move = {.va = range.start.v, .to_va = to.v};

    qr_assert(batch != NULL);
    while (move.va < range.end.v) {
        bool there = walk_move_open(f, &move, tables, range.end.v, batch);

        if (there) {
            enum qr_status status = walk_move_reach(f, &move);

            qr_assert(status == QR_OK); /* prepared; see qr_tables_move() */
            walk_move_piece(f, &move, fn, context);
        }
        walk_move_close(&move, there);
    }
}

#endif
