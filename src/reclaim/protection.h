/* SPDX-License-Identifier: MIT */
#ifndef QR_RECLAIM_PROTECTION_H
#define QR_RECLAIM_PROTECTION_H

/* Spaces whose group's `low` or `min` keeps shrinkers away. */

#include "space/vm.h"

#include <quire/reclaim.h>

/* May @request not have the space's memory while @which is heeded? */
static inline bool
space_is_protected(struct qr_space *space, const struct qr_reclaim_request *request,
                   enum qr_group_limit which)
{
    struct qr_group *group = qr_space_group_get(space);
    bool is_protected = qr_group_is_protected(group, which, request->group);

    qr_group_put(group);
    return is_protected;
}

/* The space's group is told that it is reclaimed although it is below its `low`. */
static inline void
space_note_low(struct qr_space *space, const struct qr_reclaim_request *request)
{
    struct qr_group *group = qr_space_group_get(space);

    if (qr_group_is_protected(group, QR_GROUP_LOW, request->group))
        qr_group_count(group, QR_GROUP_EVENT_LOW);
    qr_group_put(group);
}

#endif
