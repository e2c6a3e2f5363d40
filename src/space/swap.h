/* SPDX-License-Identifier: MIT */
#ifndef QR_SPACE_SWAP_H
#define QR_SPACE_SWAP_H

/* Entries that name a slot of swap (swap.c). */

#include "region.h"

/* What such a mark's value holds below the slot: flags that the leaf had, and gets back. */
#define SWAP_MARK_WRITTEN   1u /* QR_LEAF_SOFT_1 */
#define SWAP_MARK_PROTECTED 2u /* QR_LEAF_SOFT_2 */

static inline bool
qr_entry_is_swap(const struct qr_entry *entry)
{
    return entry->kind == QR_ENTRY_MARK && entry->mark.kind == QR_MARK_SWAP;
}

static inline qr_slot
qr_mark_slot(const struct qr_mark *mark)
{
    return qr_slot_of((uintptr_t)(mark->value >> QR_SWAP_MARK_FLAGS));
}

/* Those of enum qr_leaf_flag that a mark of swap keeps. */
static inline unsigned
qr_mark_leaf_flags(const struct qr_mark *mark)
{
    return ((mark->value & SWAP_MARK_WRITTEN) != 0 ? (unsigned)QR_LEAF_SOFT_1 : 0) |
           ((mark->value & SWAP_MARK_PROTECTED) != 0 ? (unsigned)QR_LEAF_SOFT_2 : 0);
}

/* The cursor has its place in the mark's table: change its flags. */
void qr_swap_change_mark(struct qr_cursor *cursor, const struct qr_entry *entry, unsigned set_flags,
                         unsigned clear_flags);

void qr_swap_forget_slot(struct qr_space *space, const struct qr_mark *mark);
void qr_swap_copied_slot(struct qr_space *space, const struct qr_mark *mark);

/* The mark @entry was taken out of @space. */
static inline void
qr_swap_forget_mark(struct qr_space *space, const struct qr_entry *entry)
{
    if (qr_unlikely(entry->mark.kind == QR_MARK_SWAP))
        qr_swap_forget_slot(space, &entry->mark);
}

/* It was copied to @space. */
static inline void
qr_swap_copied_mark(struct qr_space *space, const struct qr_entry *entry)
{
    if (qr_unlikely(entry->mark.kind == QR_MARK_SWAP))
        qr_swap_copied_slot(space, &entry->mark);
}

/* Is the page of such an entry in memory? */
bool qr_swap_has(struct qr_space *space, const struct qr_entry *entry);

/* How many entries, this one among them, name its slot; at least 1. */
uint32_t qr_swap_sharers(struct qr_space *space, const struct qr_entry *entry);

/*
 * In the place of the mark @entry, a read-only leaf for @frame, its page, whose reference the entry takes.
 * The cursor covers it, and prepare succeeded.
 */
void qr_swap_install(const struct qr_region *region, struct qr_cursor *cursor,
                     const struct qr_entry *entry, struct qr_frame *frame);

/* Swap out what of @range, within @region, nobody else maps.  S. */
void qr_swap_out_range(const struct qr_region *region, struct qr_va_range range);
/* Map again what of @range is swapped out.  Nothing is locked.  @return QR_OK; QR_ERR_IO, QR_ERR_NO_MEMORY: not all */
QR_MUST_USE enum qr_status qr_swap_in_range(struct qr_space *space, struct qr_va_range range);
/* Have what of @range is swapped out in memory, as far as there is room.  Nothing is locked. */
void qr_swap_read_range(struct qr_space *space, struct qr_va_range range);

#endif
