/* SPDX-License-Identifier: MIT */
#ifndef QUIRE_TABLE_TABLES_H
#define QUIRE_TABLE_TABLES_H

/*
 * Page tables as frames: what the descriptor of one says, and its life.
 *
 *   type TABLE   owner  the tree            index  first address | level (root: 0 | level)
 *   maps         entries that are not empty, kept by whoever holds the table's lock
 *   flags        TABLE_LOCK; TABLE_DEAD once it is unlinked; PINNED: boot code built it
 */

#include "table/format.h"

/* A cleared frame for a table; NULL where memory is exhausted.  Private until it is linked. */
struct qr_frame *qr_table_alloc(struct qr_tables *tables);
/* The same for a table without which memory could not be given back: where its group takes no more, nobody is
 * charged. */
struct qr_frame *qr_table_alloc_surely(struct qr_tables *tables);
/* Make @frame the table at @level whose first address is @base; it is not locked. */
void qr_table_init(struct qr_tables *tables, struct qr_frame *frame, uintptr_t base,
                   unsigned level);
/* Give back a table that no CPU and no walker can see. */
void qr_table_free(struct qr_tables *tables, struct qr_frame *frame);
/* Take back a table that was allocated and never linked. */
void qr_table_cancel(struct qr_tables *tables, struct qr_frame *frame);

/*
 * Tables that were unlinked, and that every CPU has flushed, are given back once
 * no walker reads them any more.  Never waits.
 */
void qr_tables_retire(struct qr_tables *tables, struct qr_frame *const *list, size_t count);

/* The member of a group at @va in the locked table at @level as a plain leaf, with the flags of all. */
qr_pte qr_group_member(const struct qr_cursor *cursor, uintptr_t va, unsigned level);
/* Make all of its group plain leaves: break, flush, make.  Returns what then stands at @va. */
qr_pte qr_group_leave(struct qr_cursor *cursor, uintptr_t va, unsigned level);
/*
 * Take all of the group that begins at @va out, and note the flush; @fn hears of each member.
 * Returns how many there were: the caller counts them.
 */
unsigned qr_group_take(struct qr_cursor *cursor, uintptr_t va, unsigned level, qr_unmap_fn fn,
                       void *context);
/* What is wrong with the group around @va in the table at @pa, or NULL. */
const char *qr_group_check(const struct qr_tables *tables, qr_pa pa, uintptr_t va, unsigned level);

static inline uint32_t
table_live(const struct qr_frame *frame)
{
    return atomic_load_explicit(&frame->maps, memory_order_relaxed);
}

static inline void
table_live_add(struct qr_frame *frame, int delta)
{
    atomic_store_explicit(&frame->maps, table_live(frame) + (uint32_t)delta, memory_order_relaxed);
}

static inline bool
table_has_flag(const struct qr_frame *frame, uint32_t flag)
{
    return (atomic_load_explicit(&frame->flags, memory_order_relaxed) & flag) != 0;
}

static inline void
table_lock(struct qr_frame *frame)
{
    qr_bit_lock(&frame->flags, QR_FRAME_TABLE_LOCK, QR_RANK_TABLE);
}

/* The same by a CPU that has entered already; the entering passes to the lock. */
static inline void
table_lock_entered(struct qr_frame *frame, struct qr_cpu *cpu)
{
    qr_bit_lock_entered(&frame->flags, QR_FRAME_TABLE_LOCK, QR_RANK_TABLE, cpu);
}

static inline void
table_unlock(struct qr_frame *frame)
{
    qr_bit_unlock(&frame->flags, QR_FRAME_TABLE_LOCK, QR_RANK_TABLE);
}

#endif
