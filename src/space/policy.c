/* SPDX-License-Identifier: MIT */
/*
 * Memory policies of ranges (mbind).
 *
 * A policy is an attribute of a region, like its rights: setting it splits and joins.  Of shared
 * memory all who map it are to see the same, so its object gets the policy too, page by page,
 * and is asked first (see object/policy.c); the region's is then what private copies follow.
 *
 * What stands in the way, holes and pages on other nodes, is looked for before anything
 * changes.
 */
#include "hugetlb.h"
#include "region.h"

/* ---- before ----------------------------------------------------------------- */

/* Is a page of @range on none of @allowed?  Objects' pages that are not mapped do not count. */
static bool
range_has_stray(struct qr_space *space, struct qr_va_range range, const struct qr_node_set *allowed)
{
    struct qr_frames *frames = space->vm->config.frames;
    struct qr_entry entry;
    qr_va at = range.start;

    while (at.v < range.end.v && qr_tables_next(&space->tables, at, &entry) &&
           entry.start.v < range.end.v) {
        const struct qr_frame *frame =
            entry.kind == QR_ENTRY_LEAF ? qr_frame_find(frames, qr_pa_to_pfn(entry.leaf.pa)) : NULL;

        if (frame != NULL && frame != space->vm->zero &&
            !qr_node_set_has(allowed, qr_frames_zone_node(frames, frame->zone)))
            return true;
        at = qr_va_of(entry.start.v +
                      ((uintptr_t)1 << qr_format_shift(space->tables.format, entry.level)));
    }
    return false;
}

/* What is first in the way, by address; the hole behind a region counts before its pages. */
static enum qr_status
range_check(struct qr_space *space, struct qr_va_range range, const struct qr_node_set *allowed,
            unsigned flags)
{
    const struct qr_region *region = qr_space_find(space, range.start), *next;
    bool whole = (flags & QR_POLICY_HOLES) == 0;

    if (region == NULL || region->start.v >= range.end.v ||
        (whole && region->start.v > range.start.v))
        return QR_ERR_FAULT;
    for (; region != NULL && region->start.v < range.end.v; region = next) {
        struct qr_va_range piece = {
            .start = region->start.v > range.start.v ? region->start : range.start,
            .end = region->end.v < range.end.v ? region->end : range.end,
        };

        next = qr_region_next(region);
        if (whole && piece.end.v < range.end.v && (next == NULL || next->start.v != piece.end.v))
            return QR_ERR_FAULT;
        if ((flags & QR_POLICY_STRICT) != 0 && range_has_stray(space, piece, allowed))
            return QR_ERR_IO;
    }
    return QR_OK;
}

/* ---- setting ------------------------------------------------------------------ */

static enum qr_status
policy_piece(struct qr_change *change, struct qr_region *region, struct qr_va_range piece,
             void *context)
{
    struct qr_attributes attributes = qr_region_attributes(region);

    attributes.policy = context;
    if (qr_region_is_hugetlb(region) && !qr_hugetlb_may_cut(region, piece))
        return QR_ERR_INVALID;
    /* Not NO_MEMORY, which says that there was a hole. */
    if (!qr_region_may_change(region, piece, attributes))
        return QR_ERR_LIMIT;
    if (region->object != NULL && qr_object_is_memory(region->object)) {
        size_t first = qr_region_object_page(region, piece.start);
        enum qr_status status = qr_object_set_policy(
            region->object, first, first + qr_va_range_pages(piece), attributes.policy);

        if (status != QR_OK)
            return QR_ERR_LIMIT;
    }
    (void)qr_region_change(change, region, piece, attributes);
    return QR_OK;
}

struct policy_set {
    struct qr_mempolicy *policy;
    const struct qr_node_set *allowed;
    unsigned flags;
};

static enum qr_status
policy_set_locked(struct qr_change *change, struct qr_va_range range, void *context)
{
    const struct policy_set *set = context;
    enum qr_status status = range_check(change->space, range, set->allowed, set->flags);

    if (status != QR_OK)
        return status;
    if (qr_change_reserve_cuts(change, range) != QR_OK)
        return QR_ERR_LIMIT;
    status = qr_change_each(change, range, QR_HOLES_SKIP, policy_piece, set->policy);

    return status == QR_ERR_NO_MEMORY ? QR_OK : status;
}

enum qr_status
qr_space_set_policy(struct qr_space *space, qr_va start, size_t bytes, struct qr_mempolicy *policy,
                    const struct qr_node_set *allowed, unsigned flags)
{
    struct policy_set set = {.policy = policy, .allowed = allowed, .flags = flags};

    return qr_change_locked(space, start, bytes, policy_set_locked, &set);
}

/* ---- home nodes ----------------------------------------------------------------- */

struct home {
    unsigned node;
    bool found;
};

static enum qr_status
home_piece(struct qr_change *change, struct qr_region *region, struct qr_va_range piece,
           void *context)
{
    struct home *home = context;
    const struct qr_mempolicy *old = region->policy;

    if (old == NULL)
        return QR_OK;
    if (old->policy.mode != QR_POLICY_BIND && old->policy.mode != QR_POLICY_PREFERRED_MANY)
        return QR_ERR_UNSUPPORTED;
    struct qr_mempolicy *policy =
        qr_mempolicy_create(change->space->vm->config.heap, &old->policy,
                            (enum qr_node_naming)old->naming, &old->named);

    if (policy == NULL)
        return QR_ERR_LIMIT;
    policy->policy.home = (uint16_t)(home->node + 1);
    enum qr_status status = policy_piece(change, region, piece, policy);

    qr_mempolicy_put(policy);
    home->found = true;
    return status;
}

static enum qr_status
home_locked(struct qr_change *change, struct qr_va_range range, void *context)
{
    if (qr_change_reserve_cuts(change, range) != QR_OK)
        return QR_ERR_LIMIT;
    enum qr_status status = qr_change_each(change, range, QR_HOLES_SKIP, home_piece, context);

    return status == QR_ERR_NO_MEMORY ? QR_OK : status; /* a hole */
}

enum qr_status
qr_space_set_home_node(struct qr_space *space, qr_va start, size_t bytes, unsigned node)
{
    struct home home = {.node = node};
    enum qr_status status = qr_change_locked(space, start, bytes, home_locked, &home);

    if (status == QR_OK && bytes != 0 && !home.found)
        return QR_ERR_NOT_FOUND;
    return status;
}

/* ---- asking ----------------------------------------------------------------------- */

enum qr_status
qr_space_get_policy(struct qr_space *space, qr_va va, struct qr_mempolicy **out_policy)
{
    enum qr_status status = QR_ERR_FAULT;

    qr_rw_read_lock(&space->lock);
    const struct qr_region *region = qr_space_find(space, va);

    if (region != NULL && region->start.v <= va.v) {
        status = QR_OK;
        if (region->object != NULL && qr_object_is_memory(region->object)) {
            *out_policy = qr_object_get_policy(region->object, qr_region_object_page(region, va));
        } else {
            *out_policy = region->policy;
            qr_mempolicy_get(region->policy);
        }
    }
    qr_rw_read_unlock(&space->lock);
    return status;
}
