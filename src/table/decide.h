/* SPDX-License-Identifier: MIT */
#ifndef QUIRE_TABLE_DECIDE_H
#define QUIRE_TABLE_DECIDE_H

/*
 * The case analysis of operations on entries, as pure functions: they see kinds,
 * levels and addresses, and say what to do.  the walker does it.
 */

#include "table/format.h"

/* What qr_cursor_prepare() does at the lowest table above or at the wanted level. */
enum prepare_step {
    PREPARE_DONE,       /* an entry of the wanted level can be set */
    PREPARE_BUILD,      /* nothing stands there: build the missing tables */
    PREPARE_DROP_TABLE, /* a table stands where a leaf is wanted: unlink it if it is empty */
    PREPARE_IN_THE_WAY, /* something is mapped or marked there at another level */
};

static inline enum prepare_step
decide_prepare(enum pte_kind kind, unsigned level, unsigned wanted)
{
    if (level > wanted)
        return kind == PTE_EMPTY ? PREPARE_BUILD : PREPARE_IN_THE_WAY;
    return kind == PTE_TABLE ? PREPARE_DROP_TABLE : PREPARE_DONE;
}

/* The part of [va, last] that one entry of 1 << shift bytes decides about. */
enum cover {
    COVER_WHOLE, /* the entry lies within the range */
    COVER_PART,  /* it sticks out at one end or both */
};

static inline enum cover
decide_cover(struct qr_va_range range, qr_va va, unsigned shift)
{
    uintptr_t size_mask = ((uintptr_t)1 << shift) - 1;
    uintptr_t first = va.v & ~size_mask;
    uintptr_t last = va.v | size_mask;

    return first >= range.start.v && last <= range.end.v - 1 ? COVER_WHOLE : COVER_PART;
}

/* The protection a leaf gets when a range is given @wanted. */
static inline unsigned
decide_protect(unsigned wanted, bool was_writable, bool may_gain_write)
{
    if ((wanted & QR_PROT_WRITE) != 0 && !was_writable && !may_gain_write)
        return wanted & ~(unsigned)QR_PROT_WRITE;
    return wanted;
}

/* The mark of the @index-th part of a mark that is split into parts of @pages pages. */
static inline struct qr_mark
decide_split_mark(struct qr_mark mark, size_t index, size_t pages)
{
    if (mark.kind == QR_MARK_SWAP || mark.kind == QR_MARK_MIGRATING)
        mark.value += index * pages;
    return mark;
}

#endif
