/* SPDX-License-Identifier: MIT */
#ifndef QUIRE_TABLE_WALK_COPY_H
#define QUIRE_TABLE_WALK_COPY_H

/*
 * Copying a range of one tree into another: the walker's part of fork.
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
 */

#include "table/walk.h"

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
    (void)walk_each(f, from, range, WALK_LOOK, walk_copy_visit, &state);
    walk_copy_leave(&state);
    return state.status;
}

#endif
