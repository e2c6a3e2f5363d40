/* SPDX-License-Identifier: MIT */
#ifndef QUIRE_TABLE_WALK_GROUP_H
#define QUIRE_TABLE_WALK_GROUP_H

/*
 * What the walker does where it may meet a member of a group; group.c has the theory.
 */

#include "table/walk_base.h"

static QR_ALWAYS_INLINE bool
walk_is_grouped(walk_format f, qr_pte pte)
{
    return f->grouped != NULL && qr_unlikely(f->grouped(f, pte));
}

/* Before the entry for @va in the lowest locked table is changed. */
static QR_ALWAYS_INLINE void
walk_leave_group(walk_format f, struct qr_cursor *c, uintptr_t va)
{
    if (f->grouped != NULL && walk_is_grouped(f, walk_load(f, c, va)))
        qr_group_leave(c, va, c->level);
}

/* The entry for @va in the locked table at @level, as a plain leaf where it belongs to a group. */
static QR_ALWAYS_INLINE qr_pte
walk_load_plain(walk_format f, const struct qr_cursor *c, uintptr_t va, unsigned level)
{
    qr_pte pte = walk_load_at(f, c, va, level);

    return walk_is_grouped(f, pte) ? qr_group_member(c, va, level) : pte;
}

#endif
