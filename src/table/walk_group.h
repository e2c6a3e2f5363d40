/* SPDX-License-Identifier: MIT */
#ifndef QUIRE_TABLE_WALK_GROUP_H
#define QUIRE_TABLE_WALK_GROUP_H

/*
 * Groups: aligned neighbours that differ in consecutive addresses alone and say so.
 *
 *   [ a b c d ] [ . . . . ]    mapped as a group
 *   [ . . . . ] [ . . . . ]    flush: no TLB knows the group any more
 *   [ a b c'd ] [ . . . . ]    plain leaves, one of them changed
 *
 * Hardware may keep a group in one TLB entry, so no member changes while the group stands, and a
 * bit that hardware sets for one member may be found in another.  Whatever changes an entry
 * calls walk_leave_group() first; whatever only reads one calls walk_member().  A format
 * without groups has none of this in its code.
 */

#include "table/tables.h"

static QR_ALWAYS_INLINE bool
walk_is_grouped(walk_format f, qr_pte pte)
{
    return f->grouped != NULL && qr_unlikely(f->grouped(f, pte));
}

static QR_ALWAYS_INLINE size_t
walk_group_count(walk_format f, unsigned level)
{
    return (size_t)1 << f->info.group_bits[level];
}

/* The plain leaf of a member, with the flags of all. */
static QR_ALWAYS_INLINE qr_pte
walk_member(walk_format f, void *table, size_t index, unsigned level)
{
    size_t count = walk_group_count(f, level);
    size_t first = index & ~(count - 1);
    qr_pte pte = f->ungroup(f, pte_load(f, table, index), index);
    unsigned flags = 0;

    for (size_t i = first; i < first + count; i++)
        flags |= f->read_leaf(f, f->ungroup(f, pte_load(f, table, i), i), level).flags;
    return f->flag(f, pte, level, flags, 0);
}

/* Make the group around the entry for @va in @table plain leaves: break, flush, make. */
static QR_ALWAYS_INLINE void
walk_leave_group(walk_format f, struct qr_cursor *c, void *table, uintptr_t va, unsigned level)
{
    size_t count = walk_group_count(f, level);
    size_t first = walk_index(f, va, level) & ~(count - 1);
    uintptr_t base = va & ~(((uintptr_t)count << f->shift(f, level)) - 1);
    struct qr_leaf leaf = f->read_leaf(f, f->ungroup(f, pte_load(f, table, first), first), level);

    for (size_t i = 0; i < count; i++) {
        qr_pte old = f->ungroup(f, pte_exchange(f, table, first + i, 0), first + i);

        leaf.flags |= f->read_leaf(f, old, level).flags;
        walk_note(f, c, base + ((uintptr_t)i << f->shift(f, level)), level);
    }
    c->batch->flush(c->batch);
    for (size_t i = 0; i < count; i++) {
        pte_store(f, table, first + i, f->make_leaf(f, &leaf, level));
        leaf.pa.v += (uint64_t)1 << f->shift(f, level);
    }
}

/* Before the entry for @va in the lowest locked table is changed. */
static QR_ALWAYS_INLINE void
walk_leave_group_at(walk_format f, struct qr_cursor *c, uintptr_t va)
{
    if (f->grouped == NULL || !walk_is_grouped(f, walk_load(f, c, va)))
        return;
    void *table = qr_port_window_open(c->pa[c->level]);

    walk_leave_group(f, c, table, va, c->level);
    qr_port_window_close(table);
}

/* The entry for @va in the locked table at @level, as a plain leaf where it belongs to a group. */
static QR_ALWAYS_INLINE qr_pte
walk_load_plain(walk_format f, const struct qr_cursor *c, uintptr_t va, unsigned level)
{
    void *table = qr_port_window_open(c->pa[level]);
    qr_pte pte = pte_load(f, table, walk_index(f, va, level));

    if (walk_is_grouped(f, pte))
        pte = walk_member(f, table, walk_index(f, va, level), level);
    qr_port_window_close(table);
    return pte;
}

#endif
