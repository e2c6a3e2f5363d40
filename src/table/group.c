/* SPDX-License-Identifier: MIT */
/*
 * Groups: aligned neighbours that differ in consecutive addresses alone and say so.
 *
 *   [ a b c d ] [ . . . . ]    mapped as a group
 *   [ . . . . ] [ . . . . ]    flush: no TLB knows the group any more
 *   [ a b c'd ] [ . . . . ]    plain leaves, one of them changed
 *
 *   [ a b c d ] [ . . . . ]    a group that goes as a whole
 *   [ . . . . ] [ . . . . ]    flushed whenever the batch is
 *
 *   [ a b c d ]                a group whose rights change as a whole: its owner takes it out,
 *   [ . . . . ]                flushes
 *   [ a'b'c'd']                and sets it again, under one cursor
 *
 * Hardware may keep a group in one TLB entry, so no member changes while the group stands, and a
 * bit that hardware sets for one member may be found in another.  Whatever changes an entry
 * calls qr_group_leave() first; whatever only reads one calls qr_group_member().  A format
 * without groups has none of this in its code; for the others it is rare, so one instance, which
 * calls the format's functions, serves them all.
 */
#include <quire/assert.h>

#include "table/walk.h"

static size_t
group_count(walk_format f, unsigned level)
{
    return (size_t)1 << f->info.group_bits[level];
}

qr_pte
qr_group_member(const struct qr_cursor *cursor, uintptr_t va, unsigned level)
{
    walk_format f = cursor->tables->format->traits;
    size_t count = group_count(f, level);
    size_t index = walk_index(f, va, level);
    size_t first = index & ~(count - 1);
    void *table = qr_port_window_open(cursor->pa[level]);
    qr_pte pte = f->ungroup(f, pte_load(f, table, index), index);
    unsigned flags = 0;

    for (size_t i = first; i < first + count; i++)
        flags |= f->read_leaf(f, f->ungroup(f, pte_load(f, table, i), i), level).flags;
    qr_port_window_close(table);
    return f->flag(f, pte, level, flags, 0);
}

qr_pte
qr_group_leave(struct qr_cursor *cursor, uintptr_t va, unsigned level)
{
    walk_format f = cursor->tables->format->traits;
    size_t count = group_count(f, level);
    size_t index = walk_index(f, va, level);
    size_t first = index & ~(count - 1);
    uintptr_t at = va & ~(((uintptr_t)count << f->shift(f, level)) - 1);
    void *table = qr_port_window_open(cursor->pa[level]);
    struct qr_leaf leaf = f->read_leaf(f, f->ungroup(f, pte_load(f, table, first), first), level);

    for (size_t i = first; i < first + count; i++) {
        qr_pte old = f->ungroup(f, pte_exchange(f, table, i, 0), i);

        leaf.flags |= f->read_leaf(f, old, level).flags;
        walk_note(f, cursor, at, level);
        at += (uintptr_t)1 << f->shift(f, level);
    }
    cursor->batch->flush(cursor->batch);
    for (size_t i = first; i < first + count; i++) {
        pte_store(f, table, i, f->make_leaf(f, &leaf, level));
        leaf.pa.v += (uint64_t)1 << f->shift(f, level);
    }
    qr_pte pte = pte_load(f, table, index);

    qr_port_window_close(table);
    return pte;
}

/* Nobody hears of a member before all are out: until then hardware may note something in any. */
unsigned
qr_group_take(struct qr_cursor *cursor, uintptr_t va, unsigned level, qr_unmap_fn fn, void *context)
{
    walk_format f = cursor->tables->format->traits;
    size_t count = group_count(f, level);
    size_t first = walk_index(f, va, level);
    uintptr_t size = (uintptr_t)1 << f->shift(f, level);
    void *table = qr_port_window_open(cursor->pa[level]);
    struct qr_entry entry;

    qr_assert((first & (count - 1)) == 0);
    walk_decode(f, f->ungroup(f, pte_load(f, table, first), first), level, va, &entry);
    for (size_t i = 0; i < count; i++) {
        qr_pte old = f->ungroup(f, pte_exchange(f, table, first + i, 0), first + i);

        entry.leaf.flags |= f->read_leaf(f, old, level).flags;
        walk_note(f, cursor, va + i * size, level);
    }
    qr_port_window_close(table);
    for (size_t i = 0; i < count; i++) {
        fn(context, &entry);
        entry.start.v += size;
        entry.leaf.pa.v += size;
    }
    return (unsigned)count;
}

/* The next entry of a run that is taken out; the first one speaks for all. */
static void
group_join(struct qr_entry *entry, const struct qr_entry *next, bool first)
{
    if (first)
        *entry = *next;
    else if (entry->kind == QR_ENTRY_LEAF && next->kind == QR_ENTRY_LEAF)
        entry->leaf.flags |= next->leaf.flags;
}

struct qr_entry
qr_cursor_unmap_group(struct qr_cursor *cursor, qr_va va, unsigned level)
{
    walk_format f = cursor->tables->format->traits;
    size_t count = group_count(f, level);
    uintptr_t size = (uintptr_t)1 << f->shift(f, level);
    struct qr_entry entry = {.kind = QR_ENTRY_NONE, .level = level, .start = va};
    int taken = 0;

    qr_assert((va.v & (count * size - 1)) == 0);
    qr_assert(qr_va_range_contains(cursor->range, qr_va_of(va.v + (count - 1) * size)));
    walk_go(f, cursor, va, level);
    if (cursor->level != level)
        return entry;
    size_t first = walk_index(f, va.v, level);
    void *table = qr_port_window_open(cursor->pa[level]);

    for (size_t i = 0; i < count; i++) {
        struct qr_entry next;
        qr_pte old = pte_load(f, table, first + i);

        if (old == 0 || f->kind(f, old, level) == PTE_TABLE)
            continue;
        old = pte_exchange(f, table, first + i, 0);
        if (walk_is_grouped(f, old))
            old = f->ungroup(f, old, first + i);
        walk_decode(f, old, level, va.v + i * size, &next);
        if (next.kind == QR_ENTRY_LEAF && f->present(f, old, level))
            walk_note(f, cursor, next.start.v, level);
        group_join(&entry, &next, i == 0);
        taken++;
    }
    qr_port_window_close(table);
    table_live_add(cursor->path[level], -taken);
    return entry;
}

bool
qr_cursor_is_grouped(struct qr_cursor *cursor, qr_va va)
{
    walk_format f = cursor->tables->format->traits;

    walk_go(f, cursor, va, 0);
    return walk_is_grouped(f, walk_load_at(f, cursor, va.v, cursor->level));
}

void
qr_cursor_map_group(struct qr_cursor *cursor, qr_va va, const struct qr_leaf *leaf)
{
    walk_format f = cursor->tables->format->traits;
    unsigned level = leaf->level;
    struct qr_leaf member = *leaf;
    uintptr_t size = (uintptr_t)1 << f->shift(f, level);
    uintptr_t last = va.v + (group_count(f, level) - 1) * size;

    qr_assert(f->grouped != NULL && f->info.group_bits[level] != 0);
    qr_assert(((va.v | leaf->pa.v) & (last - va.v + size - 1)) == 0);
    qr_assert(qr_va_range_contains(cursor->range, va));
    qr_assert(qr_va_range_contains(cursor->range, qr_va_of(last)));
    walk_go(f, cursor, va, level);
    qr_assert(cursor->level == level);
    walk_settle(f, cursor, va.v, level, group_count(f, level));
    for (uintptr_t at = va.v; at <= last; at += size) {
        qr_pte pte = f->make_leaf(f, &member, level);

        walk_set_at(f, cursor, at, level, f->present(f, pte, level) ? f->group(f, pte) : pte);
        member.pa.v += size;
    }
}

void
qr_cursor_change_group(struct qr_cursor *cursor, qr_va va, const struct qr_leaf *leaf)
{
    walk_format f = cursor->tables->format->traits;
    struct qr_entry entry = qr_cursor_query(cursor, va);
    struct qr_leaf new = entry.leaf;

    qr_assert(entry.kind == QR_ENTRY_LEAF && entry.level == leaf->level);
    new.prot = leaf->prot;
    new.pkey = leaf->pkey;
    new.flags |= leaf->flags;
    qr_pte pte = f->make_leaf(f, &new, leaf->level);

    /* Where it says so already nothing is taken away, or two CPUs might do so in turn for ever. */
    if (pte == f->make_leaf(f, &entry.leaf, leaf->level) &&
        (!f->present(f, pte, leaf->level) || qr_cursor_is_grouped(cursor, va)))
        return;
    new.flags |= qr_cursor_unmap_group(cursor, va, leaf->level).leaf.flags;
    cursor->batch->flush(cursor->batch);
    qr_cursor_map_group(cursor, va, &new);
}

/* ---- Validation ------------------------------------------------------------- */

/* Compare the member at @index with the first of its group. */
static const char *
check_member(walk_format f, void *table, size_t index, unsigned level)
{
    size_t first = index & ~(group_count(f, level) - 1);
    qr_pte head = pte_load(f, table, first);

    if (f->info.group_bits[level] == 0 || !f->grouped(f, head))
        return "a member without its group";
    struct qr_leaf wanted = f->read_leaf(f, f->ungroup(f, head, first), level);
    qr_pte pte = pte_load(f, table, index);

    wanted.pa.v += (uint64_t)(index - first) << f->shift(f, level);
    wanted.flags = f->read_leaf(f, f->ungroup(f, pte, index), level).flags;
    return f->group(f, f->make_leaf(f, &wanted, level)) == pte ? NULL : "a member unlike its group";
}

const char *
qr_group_check(const struct qr_tables *tables, qr_pa pa, uintptr_t va, unsigned level)
{
    walk_format f = tables->format->traits;
    size_t count = group_count(f, level);
    size_t first = walk_index(f, va, level) & ~(count - 1);
    void *table = qr_port_window_open(pa);
    const char *broken = NULL;

    for (size_t i = first; i < first + count && broken == NULL; i++)
        broken = check_member(f, table, i, level);
    qr_port_window_close(table);
    return broken;
}
