/* SPDX-License-Identifier: MIT */
/*
 * The cursor as callers see it: checks that hold for every format, then one
 * indirect call into the format's instance of the walker (walk_base.h has the theory).
 */
#include <quire/assert.h>

#include "table/tables.h"

void
qr_cursor_open(struct qr_cursor *cursor, struct qr_tables *tables, struct qr_va_range range,
               struct qr_tlb_batch *batch)
{
    tables->format->open(cursor, tables, range, batch);
}

void
qr_cursor_close(struct qr_cursor *cursor)
{
    struct qr_tlb_batch *batch = cursor->batch;

    /* Nothing noted: the batch may rely on what somebody else took out. */
    if (batch != NULL && !cursor->noted)
        batch->gaps = true;
    for (unsigned level = cursor->level; level <= cursor->top; level++)
        table_unlock(cursor->path[level]);
}

struct qr_entry
qr_cursor_query(struct qr_cursor *cursor, qr_va va)
{
    qr_debug_assert(qr_va_range_contains(cursor->range, va));
    return cursor->tables->format->query(cursor, va);
}

bool
qr_cursor_find(struct qr_cursor *cursor, qr_va from, struct qr_entry *out_entry)
{
    qr_assert(from.v >= cursor->range.start.v);
    return cursor->tables->format->find(cursor, from, out_entry);
}

enum qr_status
qr_cursor_prepare(struct qr_cursor *cursor, qr_va va, unsigned level)
{
    qr_debug_assert(qr_va_range_contains(cursor->range, va));
    return cursor->tables->format->prepare(cursor, va, level);
}

void
qr_cursor_map(struct qr_cursor *cursor, qr_va va, const struct qr_leaf *leaf)
{
    qr_debug_assert(qr_va_range_contains(cursor->range, va));
    cursor->tables->format->map(cursor, va, leaf);
}

void
qr_cursor_mark(struct qr_cursor *cursor, qr_va va, unsigned level, struct qr_mark mark)
{
    qr_debug_assert(qr_va_range_contains(cursor->range, va));
    cursor->tables->format->mark(cursor, va, level, mark);
}

struct qr_entry
qr_cursor_unmap(struct qr_cursor *cursor, qr_va va)
{
    qr_debug_assert(qr_va_range_contains(cursor->range, va));
    return cursor->tables->format->unmap(cursor, va);
}

struct qr_entry
qr_cursor_replace(struct qr_cursor *cursor, qr_va va, const struct qr_leaf *leaf)
{
    qr_debug_assert(qr_va_range_contains(cursor->range, va));
    return cursor->tables->format->replace(cursor, va, leaf);
}

void
qr_cursor_update(struct qr_cursor *cursor, qr_va va, unsigned prot, unsigned set_flags,
                 unsigned clear_flags)
{
    qr_debug_assert(qr_va_range_contains(cursor->range, va));
    cursor->tables->format->update(cursor, va, prot, set_flags, clear_flags);
}

enum qr_status
qr_cursor_split(struct qr_cursor *cursor, qr_va va)
{
    qr_debug_assert(qr_va_range_contains(cursor->range, va));
    return cursor->tables->format->split(cursor, va);
}

void
qr_cursor_unmap_range(struct qr_cursor *cursor, struct qr_va_range range, qr_unmap_fn fn,
                      void *context)
{
    cursor->tables->format->unmap_range(cursor, range, fn, context);
}

void
qr_cursor_protect_range(struct qr_cursor *cursor, struct qr_va_range range, unsigned prot,
                        uint8_t pkey, qr_may_write_fn may_write, void *context)
{
    cursor->tables->format->protect_range(cursor, range, prot, pkey, may_write, context);
}

enum qr_status
qr_cursor_copy_range(struct qr_cursor *from, struct qr_cursor *to, struct qr_va_range range,
                     const struct qr_copy_ops *ops, void *context)
{
    return from->tables->format->copy_range(from, to, range, ops, context);
}

enum qr_status
qr_tables_move_prepare(struct qr_tables *tables, struct qr_va_range range, qr_va to)
{
    return tables->format->move_prepare(tables, range, to);
}

void
qr_tables_move(struct qr_tables *tables, struct qr_va_range range, qr_va to,
               struct qr_tlb_batch *batch, qr_move_fn fn, void *context)
{
    tables->format->move(tables, range, to, batch, fn, context);
}

void
qr_format_info(const struct qr_format *format, struct qr_format_info *out_info)
{
    *out_info = format->traits->info;
}

unsigned
qr_format_shift(const struct qr_format *format, unsigned level)
{
    qr_assert(level < format->traits->info.levels);
    return format->traits->shift(format->traits, level);
}
