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
 * mover at a time.  A leaf of level 1 that is aligned at either place moves as one entry.
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

/* Is the piece one leaf of level 1, and nothing else? */
static QR_ALWAYS_INLINE bool
walk_move_is_leaf(walk_format f, const struct walk_move *move)
{
    uintptr_t mask = walk_entry_mask(f, 1);

    if (move->from.level != 1 || ((move->va | move->to_va) & mask) != 0 || move->bytes != mask + 1)
        return false;
    qr_pte pte = walk_load(f, &move->from, move->va);

    return f->kind(f, pte, 1) == PTE_LEAF && !walk_is_grouped(f, pte);
}

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
    return move->from.level == 0 || walk_move_is_leaf(f, move);
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
    enum qr_status status = walk_prepare(f, to, qr_va_of(move->to_va), move->from.level);

    /* An empty table in a leaf's way goes once there is a batch. */
    return status == QR_ERR_EXISTS && to->batch == NULL ? QR_OK : status;
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
    struct qr_frame *frame; /* that it maps; NULL: none of the machine's */
    uintptr_t note;         /* first of the pages whose flush is still to be noted */
    size_t note_count;
};

static QR_ALWAYS_INLINE void
walk_move_decode(walk_format f, struct qr_cursor *c, qr_pte pte, uintptr_t va,
                 struct walk_move_memory *memory)
{
    struct qr_leaf *leaf = &memory->entry.leaf;

    if (qr_likely(((pte ^ memory->last) & f->attribute_mask(f, 0)) == 0)) {
        uint64_t before = leaf->pa.v;

        leaf->pa.v ^= f->address_change(f, pte ^ memory->last, 0);
        memory->last = pte;
        /* Frames of one block have their descriptors side by side. */
        if (qr_likely((before ^ leaf->pa.v) >> (QR_PAGE_SHIFT + 9) == 0 && memory->frame != NULL))
            memory->frame +=
                (ptrdiff_t)(leaf->pa.v >> QR_PAGE_SHIFT) - (ptrdiff_t)(before >> QR_PAGE_SHIFT);
        else
            memory->frame = qr_frame_find(c->tables->frames, qr_pa_to_pfn(leaf->pa));
        return;
    }
    walk_decode(f, pte, 0, va, &memory->entry);
    bool is_leaf = memory->entry.kind == QR_ENTRY_LEAF;

    memory->last = is_leaf ? pte : 0;
    memory->present = is_leaf && f->present(f, pte, 0);
    memory->frame = is_leaf ? qr_frame_find(c->tables->frames, qr_pa_to_pfn(leaf->pa)) : NULL;
}

/* A private page is found by where it is mapped. */
static QR_ALWAYS_INLINE void
walk_move_frame(struct qr_frame *frame, uintptr_t to)
{
    if (frame != NULL && qr_frame_type(frame) == QR_FRAME_ANON)
        atomic_store_explicit(&frame->index, to >> QR_PAGE_SHIFT, memory_order_relaxed);
}

/* Note the run of pages that were taken out. */
static QR_ALWAYS_INLINE void
walk_move_note(walk_format f, struct qr_cursor *c, struct walk_move_memory *memory)
{
    if (memory->note_count == 0)
        return;
    c->noted = true;
    qr_tlb_batch_note_pages(c->batch, qr_va_of(memory->note), f->info.page_shift,
                            memory->note_count);
    memory->note_count = 0;
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

        if (qr_unlikely(pte == 0)) {
            walk_move_note(f, from, &memory);
            continue;
        }
        if (walk_is_grouped(f, pte))
            (void)qr_group_leave(from, move->va + offset, 0);
        pte = pte_exchange(f, source, index + i, 0);
        walk_move_decode(f, from, pte, move->va + offset, &memory);
        if (qr_likely(memory.present)) {
            if (memory.note_count++ == 0)
                memory.note = move->va + offset;
        } else {
            walk_move_note(f, from, &memory);
        }
        qr_debug_assert(pte_load(f, target, to_index + i) == 0);
        pte_store(f, target, to_index + i, pte);
        walk_move_frame(memory.frame, move->to_va + offset);
        moved++;
        if (fn == NULL)
            continue;
        memory.entry.start = qr_va_of(move->va + offset);
        fn(context, &memory.entry, qr_va_of(move->to_va + offset));
    }
    walk_move_note(f, from, &memory);
    table_live_add(from->path[0], -moved);
    table_live_add(move->to.path[0], moved);
    qr_port_window_close(target);
    qr_port_window_close(source);
}

/* ---- A large leaf that fits at the other place, too, moves whole */

static QR_ALWAYS_INLINE void
walk_move_leaf(walk_format f, struct walk_move *move)
{
    struct qr_cursor *from = &move->from;
    unsigned level = from->level;
    qr_pte pte = walk_exchange(f, from, move->va, 0);
    qr_pfn pfn = qr_pa_to_pfn(f->read_leaf(f, pte, level).pa);

    table_live_add(from->path[level], -1);
    if (f->present(f, pte, level))
        walk_note(f, from, move->va, level);
    walk_set_at(f, &move->to, move->to_va, level, pte);
    struct qr_frame *frame = qr_frame_find(from->tables->frames, pfn);

    for (uintptr_t at = 0; frame != NULL && at < move->bytes; at += QR_PAGE_SIZE)
        walk_move_frame(frame++, move->to_va + at);
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
            if (move.from.level == 0)
                walk_move_piece(f, &move, fn, context);
            else
                walk_move_leaf(f, &move);
        }
        walk_move_close(&move, there);
    }
}

#endif
