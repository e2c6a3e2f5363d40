/* SPDX-License-Identifier: MIT */
#ifndef QUIRE_TABLE_WALK_RANGE_H
#define QUIRE_TABLE_WALK_RANGE_H

/*
 * Neighbours mostly differ in their address alone.  So visitors remember what
 * they worked out for the last entry and use it again as long as the other bits
 * (f->attribute_mask) are the same.
 */

#include "table/walk_one.h"

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

struct walk_unmap_state {
    struct qr_va_range range;
    qr_unmap_fn fn;
    void *context;
    qr_pte last;           /* the last leaf; 0: none */
    bool present;          /* it could be cached */
    struct qr_entry entry; /* what it said */
};

/* Whether @place begins a group that ends at or before @last. */
static QR_ALWAYS_INLINE bool
walk_begins_group(walk_format f, struct walk_place place, uintptr_t last)
{
    size_t members_mask = ((size_t)1 << f->info.group_bits[place.level]) - 1;
    uintptr_t bytes = (members_mask + 1) << f->shift(f, place.level);

    return (place.index & members_mask) == 0 && last - place.va >= bytes - 1;
}

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
        if (walk_is_grouped(f, place.pte)) {
            if (purpose == WALK_TAKE && walk_begins_group(f, place, last)) {
                struct walk_unmap_state *unmap = state;

                visited += (int)qr_group_take(c, va, level, unmap->fn, unmap->context) - 1;
                continue;
            }
            place.pte = walk_take_member(c, place, purpose);
        }
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

#endif
