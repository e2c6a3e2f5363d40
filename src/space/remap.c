/* SPDX-License-Identifier: MIT */
/*
 * Resizing and moving (mremap).
 *
 *   old   [ a a a | b b ]          the part named by the call lies in one region
 *   new               [ a a a . . ]  its pages, then room for more
 *
 * Moving does not copy: leaves are taken out of one place and set in the other.
 *
 *   1 check, reserve descriptors, place           nothing has changed
 *   2 build the tables at the destination         may fail; nobody sees them
 *   3 link the new region, so that its object knows both places
 *   4 under the object's mapping lock: move leaves, then flush the old place
 *   5 unmap the old region
 *
 * Truncation, which takes the mapping lock for its unmap, thus finds each leaf at
 * one of two linked places, and never frees a frame that a CPU still reaches
 * through the old one (invariants 7, 9).  Faults wait for the space's lock.
 *
 * With FIXED, what stands at the destination is unmapped first and stays so when
 * step 2 fails, as in Linux.
 */
#include "hugetlb.h"

struct remap {
    struct qr_change change;
    struct qr_va_range old;
    size_t new_bytes;
    unsigned flags;
    qr_va new_start;
};

/* ---- Moving entries -------------------------------------------------------------- */

static qr_va
moved_va(const struct remap *remap, qr_va va)
{
    return qr_va_of(va.v - remap->old.start.v + remap->new_start.v);
}

/* Bytes of a large leaf that fits at the new place, too; 0: such are split before. */
static size_t
move_leaf_bytes(const struct remap *remap)
{
    const struct qr_vm *vm = remap->change.space->vm;
    size_t bytes = qr_vm_huge_bytes(vm);
    uintptr_t skew = remap->old.start.v ^ remap->new_start.v;

    return bytes != 0 && vm->huge_level == 1 && (skew & (bytes - 1)) == 0 ? bytes : 0;
}

/* The next chunk with something in it, and no part of a large leaf that moves whole. */
static bool
move_next(const struct remap *remap, struct qr_va_range *rest, struct qr_va_range *chunk)
{
    size_t leaf = move_leaf_bytes(remap);

    if (!qr_chunk_next(&remap->change.space->tables, rest, chunk))
        return false;
    if (leaf <= QR_CHUNK_BYTES)
        return true;
    uintptr_t start = chunk->start.v & ~(leaf - 1), end = (chunk->end.v + leaf - 1) & ~(leaf - 1);

    *chunk =
        qr_range_of(qr_max_size(start, remap->old.start.v), qr_min_size(end, remap->old.end.v));
    rest->start = chunk->end;
    return true;
}

static enum qr_status
move_build(const struct remap *remap, const struct qr_region *region)
{
    struct qr_tables *tables = &remap->change.space->tables;
    struct qr_va_range rest = remap->old;
    struct qr_va_range chunk;
    enum qr_status status = QR_OK;

    if (qr_region_is_hugetlb(region))
        return qr_hugetlb_move_prepare(region, remap->old, remap->new_start);
    while (status == QR_OK && move_next(remap, &rest, &chunk))
        status = qr_tables_move_prepare(tables, chunk, moved_va(remap, chunk.start));
    return status;
}

static void
move_entries(const struct remap *remap, struct qr_region *region, struct qr_tlb_batch *batch)
{
    struct qr_tables *tables = &remap->change.space->tables;
    struct qr_va_range rest = remap->old;
    struct qr_va_range chunk;

    if (qr_region_is_hugetlb(region)) {
        qr_hugetlb_move(region, remap->old, remap->new_start, batch);
        return;
    }
    while (move_next(remap, &rest, &chunk))
        qr_tables_move(tables, chunk, moved_va(remap, chunk.start), batch, NULL, NULL);
    if (qr_unlikely((region->flags & QR_REGION_TRACKED) != 0))
        qr_space_mark_written(
            remap->change.space,
            qr_range_of(remap->new_start.v, remap->new_start.v + qr_va_range_bytes(remap->old)),
            batch);
}

/* Large leaves that fit at the new place move whole. */
static enum qr_status
move_split(const struct remap *remap)
{
    struct qr_space *space = remap->change.space;

    return move_leaf_bytes(remap) != 0 ? qr_large_cut(space, remap->old)
                                       : qr_large_split_range(space, remap->old);
}

/* Build the destination's tables.  What a failure leaves behind is empty, and dropped. */
static enum qr_status
move_prepare(struct remap *remap, const struct qr_region *region)
{
    struct qr_space *space = remap->change.space;
    enum qr_status status = QR_OK;
    struct qr_tlb_batch batch;

    if (!qr_region_is_hugetlb(region))
        status = move_split(remap);
    if (status == QR_OK)
        status = move_build(remap, region);
    if (status == QR_OK)
        return QR_OK;
    struct qr_region place;

    qr_region_copy(&place, region);
    place.start = remap->new_start;
    place.end = qr_va_of(remap->new_start.v + remap->new_bytes);
    qr_tlb_batch_init(&batch, &space->tlb);
    qr_zap_surely(&place, qr_region_range(&place), &batch);
    qr_tlb_batch_finish(&batch);
    return status;
}

static void
move_commit(struct remap *remap, struct qr_region *region)
{
    struct qr_object *object = region->object;
    struct qr_tlb_batch batch;

    qr_tlb_batch_init(&batch, &remap->change.space->tlb);
    if (object != NULL)
        qr_object_lock_mappings(object);
    move_entries(remap, region, &batch);
    qr_tlb_batch_cover(&batch);
    qr_tlb_batch_finish(&batch);
    if (object != NULL)
        qr_object_unlock_mappings(object);
}

/* ---- The cases --------------------------------------------------------------------- */

/* The region that holds the old range's start, or NULL. */
static struct qr_region *
remap_region(const struct remap *remap)
{
    struct qr_region *region = qr_space_find(remap->change.space, remap->old.start);

    return region != NULL && region->start.v <= remap->old.start.v ? region : NULL;
}

/* May the old range of @region become new_bytes long?  Decides only.  (Linux's vma_to_resize.) */
static enum qr_status
remap_check_resize(const struct remap *remap, const struct qr_region *region)
{
    const struct qr_space *space = remap->change.space;
    size_t old_bytes = qr_va_range_bytes(remap->old);
    size_t more = remap->new_bytes - old_bytes;
    size_t last_page;

    if (old_bytes == 0 && !qr_region_is_shared(region))
        return QR_ERR_INVALID;
    if ((remap->flags & QR_REMAP_DONT_UNMAP) != 0 && (region->flags & QR_REGION_DEVICE) != 0)
        return QR_ERR_INVALID;
    if (remap->old.end.v > region->end.v)
        return QR_ERR_FAULT;
    if (remap->new_bytes == old_bytes)
        return QR_OK;
    if (region->object != NULL &&
        __builtin_add_overflow(qr_region_object_page(region, remap->old.start),
                               remap->new_bytes >> QR_PAGE_SHIFT, &last_page))
        return QR_ERR_INVALID;
    if ((region->flags & QR_REGION_DEVICE) != 0)
        return QR_ERR_FAULT;
    if ((region->flags & QR_REGION_LOCKED) != 0 && !qr_count_may_lock(space, more >> QR_PAGE_SHIFT))
        return QR_ERR_AGAIN;
    if (!qr_count_may_grow(space, region->prot, region->flags, more >> QR_PAGE_SHIFT))
        return QR_ERR_LIMIT;
    if (!qr_count_may_commit(space, region->flags, more >> QR_PAGE_SHIFT))
        return QR_ERR_NO_MEMORY;
    return QR_OK;
}

/* The same for a move to another place: DONT_UNMAP has the old one on top of what is left. */
static enum qr_status
remap_check_move(const struct remap *remap, const struct qr_region *region)
{
    const struct qr_space *space = remap->change.space;
    size_t pages = qr_va_range_pages(remap->old), replaced = 0, data = 0;
    enum qr_status status = remap_check_resize(remap, region);

    if (status != QR_OK || (remap->flags & QR_REMAP_DONT_UNMAP) == 0)
        return status;
    if ((remap->flags & QR_REMAP_FIXED) != 0) {
        struct qr_va_range place =
            qr_range_of(remap->new_start.v, remap->new_start.v + remap->new_bytes);

        replaced = qr_space_mapped_pages(space, place, &data);
    }
    if (!qr_count_may_grow(space, QR_PROT_NONE, region->flags, pages - replaced) ||
        !qr_count_may_grow_data(space, region->prot, region->flags, pages - data))
        return QR_ERR_LIMIT;
    return qr_count_may_commit(space, region->flags, pages) ? QR_OK : QR_ERR_NO_MEMORY;
}

static bool
remap_can_grow_in_place(const struct remap *remap, const struct qr_region *region)
{
    const struct qr_region *above = qr_region_next(region);
    uintptr_t end;

    if (region->end.v != remap->old.end.v || remap->old.start.v == remap->old.end.v)
        return false;
    if (__builtin_add_overflow(remap->old.start.v, remap->new_bytes, &end) ||
        end > region->space->layout.user_end.v)
        return false;
    return above == NULL || end <= above->start.v; /* as Linux: into the gap below a stack, too */
}

/* A region of the source's kind at the destination. */
static void
remap_template(const struct remap *remap, const struct qr_region *region, struct qr_region *like)
{
    qr_region_copy(like, region);
    like->start = remap->new_start;
    like->end = qr_va_of(remap->new_start.v + remap->new_bytes);
    if (qr_region_has_offset(region))
        like->object_page = qr_region_object_page(region, remap->old.start);
    bool follows = like->listener != NULL &&
                   (atomic_load_explicit(&like->listener->options, memory_order_relaxed) &
                    QR_LISTENER_MOVES) != 0;

    if (!follows)
        qr_region_unwatch_copy(like); /* it was told of addresses here, not there */
}

/* The old place stays, empty and unlocked. */
static void
remap_leave_empty(struct remap *remap)
{
    struct qr_region *region = remap_region(remap);
    struct qr_attributes attributes = qr_region_attributes(region);

    attributes.flags &= ~QR_REGION_LOCK_FLAGS;
    (void)qr_region_change(&remap->change, region, remap->old, attributes);
}

/* The destination is free and decided; descriptors are reserved. */
static enum qr_status
remap_move(struct remap *remap)
{
    struct qr_region *region = remap_region(remap);

    if (region == NULL)
        return QR_ERR_FAULT; /* an empty old range at the target's start went with the target */
    enum qr_status status = move_prepare(remap, region);

    if (status != QR_OK)
        return status;
    struct qr_region like;

    remap_template(remap, region, &like);
    if (qr_region_is_hugetlb(region))
        qr_hugetlb_split_promise(region, &like, remap->old);
    (void)qr_map_commit(&remap->change, qr_space_neighbours(remap->change.space, like.start),
                        &like);
    if (remap->old.start.v == remap->old.end.v)
        return QR_OK; /* a second mapping of the same pages */
    move_commit(remap, remap_region(remap));
    if ((remap->flags & QR_REMAP_DONT_UNMAP) != 0)
        remap_leave_empty(remap);
    else
        qr_unmap_commit(&remap->change, remap->old);
    return QR_OK;
}

/* Descriptors for the worst case: destination, its hole, two cuts at the source. */
#define REMAP_SPARES 4

static enum qr_status
remap_reserve(struct remap *remap)
{
    struct qr_space *space = remap->change.space;

    if (space->counts.region_count + 3 > qr_vm_max_regions(space->vm))
        return QR_ERR_NO_MEMORY;
    return qr_change_reserve(&remap->change, REMAP_SPARES);
}

/* Somewhere else, wherever there is room. */
static enum qr_status
remap_anywhere(struct remap *remap, const struct qr_region *region)
{
    const struct qr_map_request place = {
        .hint = remap->new_start,
        .region_flags = region->flags,
    };
    enum qr_status status =
        qr_place_find(remap->change.space, &place, remap->new_bytes, &remap->new_start);

    if (status == QR_OK)
        status = remap_reserve(remap);
    return status == QR_OK ? remap_move(remap) : status;
}

static enum qr_status
remap_in_place(struct remap *remap, struct qr_region *region)
{
    uintptr_t end = remap->old.start.v + remap->new_bytes;

    qr_region_resize(region, qr_range_of(region->start.v, end));
    (void)qr_region_merge(&remap->change, region);
    remap->new_start = remap->old.start;
    return QR_OK;
}

static enum qr_status
remap_shrink(struct remap *remap)
{
    uintptr_t end = remap->old.start.v + remap->new_bytes;
    struct qr_va_range dropped = qr_range_of(end, remap->old.end.v);
    enum qr_status status = QR_OK;

    if (dropped.start.v < dropped.end.v) {
        status = qr_unmap_prepare(&remap->change, dropped);
        if (status == QR_OK)
            qr_unmap_commit(&remap->change, dropped);
    }
    remap->new_start = remap->old.start;
    return status;
}

/* To a given place. */
static enum qr_status
remap_fixed(struct remap *remap, const struct qr_region *region)
{
    const qr_va floor = qr_space_floor(remap->change.space);
    struct qr_va_range target;
    struct qr_va_range kept = remap->old;
    enum qr_status status = QR_OK;

    if (!qr_va_range_make(remap->new_start.v, remap->new_bytes, region->space->layout.user_end.v,
                          &target))
        return QR_ERR_RANGE;
    if (remap->old.end.v > target.start.v && target.end.v > remap->old.start.v)
        return QR_ERR_RANGE;
    if ((region->flags & QR_REGION_SEALED) != 0)
        return QR_ERR_SEALED;
    if (qr_va_range_bytes(kept) > remap->new_bytes)
        kept.end = qr_va_of(kept.start.v + remap->new_bytes);

    struct qr_va_range dropped = {kept.end, remap->old.end};

    remap->old = kept;
    status = remap_check_move(remap, region);
    if (status == QR_OK && (qr_space_is_sealed(remap->change.space, target) ||
                            qr_space_is_sealed(remap->change.space, dropped)))
        status = QR_ERR_SEALED;
    if (status == QR_OK)
        status = remap_reserve(remap);
    if (status == QR_OK && !qr_hugetlb_may_unmap(remap->change.space, target))
        status = QR_ERR_INVALID;
    if (status == QR_OK)
        status = qr_large_cut(remap->change.space, target);
    if (status == QR_OK)
        status = qr_large_cut(remap->change.space, dropped);
    if (status != QR_OK)
        return status;
    qr_unmap_commit(&remap->change, target);
    if (dropped.start.v < dropped.end.v)
        qr_unmap_commit(&remap->change, dropped);
    /* In Linux, too, this is found out so late. */
    return target.start.v < floor.v ? QR_ERR_RANGE : remap_move(remap);
}

/*
 * Pages of several regions, with holes between them: each region's part moves by itself and
 * keeps its distance from the first.  As in Linux since 6.17, what was moved stays moved where
 * a later part fails.
 */
static enum qr_status
remap_fixed_each(struct remap *remap)
{
    const struct qr_va_range whole = remap->old;
    const qr_va target = remap->new_start;
    const size_t bytes = remap->new_bytes;
    struct qr_region *region = remap_region(remap);
    enum qr_status status = QR_OK;

    if (target.v + bytes < bytes || (whole.end.v > target.v && target.v + bytes > whole.start.v))
        return QR_ERR_RANGE;
    for (struct qr_va_range rest = whole; status == QR_OK && rest.start.v < rest.end.v &&
                                          region != NULL && region->start.v < rest.end.v;) {
        struct qr_va_range piece = qr_region_clip(region, rest);

        if (region->listener != NULL) { /* who could be told of one move only */
            status = QR_ERR_FAULT;
            break;
        }
        remap->old = piece;
        remap->new_start = qr_va_of(target.v + (piece.start.v - whole.start.v));
        remap->new_bytes = qr_va_range_bytes(piece);
        status = remap_fixed(remap, region);
        rest.start = piece.end;
        region = qr_space_find(remap->change.space, rest.start);
    }
    remap->old = whole;
    remap->new_start = target;
    remap->new_bytes = bytes;
    return status;
}

static enum qr_status
remap_dont_unmap(struct remap *remap, const struct qr_region *region)
{
    enum qr_status status = remap_check_move(remap, region);

    return status == QR_OK ? remap_anywhere(remap, region) : status;
}

/* Huge pages move whole, and what they were promised does not grow.  Rounds the lengths up. */
static bool
remap_check_hugetlb(struct remap *remap, const struct qr_region *region)
{
    size_t mask = hugetlb_bytes(qr_region_hugetlb_pool(region)) - 1;
    uintptr_t old_end = (remap->old.end.v + mask) & ~mask;
    bool placed = (remap->flags & QR_REMAP_FIXED) != 0;

    remap->new_bytes = (remap->new_bytes + mask) & ~mask;
    if ((remap->old.start.v & mask) != 0 || (placed && (remap->new_start.v & mask) != 0) ||
        (remap->flags & QR_REMAP_DONT_UNMAP) != 0 || remap->new_bytes == 0 ||
        old_end < remap->old.end.v || remap->new_bytes > old_end - remap->old.start.v)
        return false;
    remap->old.end = qr_va_of(old_end);
    return true;
}

static enum qr_status
remap_locked(struct remap *remap)
{
    struct qr_region *region = remap_region(remap);
    enum qr_status status;

    if (region == NULL)
        return QR_ERR_FAULT;
    bool sealed = (region->flags & QR_REGION_SEALED) != 0;

    if (qr_region_is_hugetlb(region) && !sealed && !remap_check_hugetlb(remap, region))
        return QR_ERR_INVALID;
    bool several = (remap->flags & QR_REMAP_FIXED) != 0 && remap->old.end.v > region->end.v &&
                   qr_va_range_bytes(remap->old) == remap->new_bytes;

    if (sealed && !several)
        return QR_ERR_SEALED;
    if (several)
        return remap_fixed_each(remap);
    if ((remap->flags & QR_REMAP_FIXED) != 0)
        return remap_fixed(remap, region);
    if ((remap->flags & QR_REMAP_DONT_UNMAP) != 0)
        return remap_dont_unmap(remap, region);
    if (qr_va_range_bytes(remap->old) >= remap->new_bytes)
        return remap_shrink(remap);
    status = remap_check_resize(remap, region);
    if (status != QR_OK)
        return status;
    if (remap_can_grow_in_place(remap, region))
        return remap_in_place(remap, region);
    if ((remap->flags & QR_REMAP_MAY_MOVE) == 0)
        return QR_ERR_NO_MEMORY;
    remap->new_start = qr_va_of(0);
    return remap_anywhere(remap, region);
}

/* The checks that need no lock.  Lengths are rounded up to pages here. */
static enum qr_status
remap_check(const struct qr_remap_request *request, struct remap *remap)
{
    const unsigned known = QR_REMAP_MAY_MOVE | QR_REMAP_FIXED | QR_REMAP_DONT_UNMAP;
    size_t old_bytes = qr_va_page_up(request->old_bytes);
    uintptr_t old_end;

    remap->new_bytes = qr_va_page_up(request->new_bytes);
    remap->flags = request->flags;
    remap->new_start = request->new_start;
    if ((request->flags & ~known) != 0 || (request->old_start.v & QR_PAGE_MASK) != 0 ||
        remap->new_bytes == 0 || old_bytes < request->old_bytes)
        return QR_ERR_INVALID;
    if ((request->flags & (QR_REMAP_FIXED | QR_REMAP_DONT_UNMAP)) != 0 &&
        (request->flags & QR_REMAP_MAY_MOVE) == 0)
        return QR_ERR_INVALID;
    if ((request->flags & QR_REMAP_DONT_UNMAP) != 0 && old_bytes != remap->new_bytes)
        return QR_ERR_INVALID;
    if (__builtin_add_overflow(request->old_start.v, old_bytes, &old_end))
        return QR_ERR_INVALID;
    remap->old = qr_range_of(request->old_start.v, old_end);
    return QR_OK;
}

enum qr_status
qr_space_remap(struct qr_space *space, const struct qr_remap_request *request, qr_va *out_va)
{
    struct remap remap;
    bool populate = false;
    enum qr_status status = remap_check(request, &remap);

    if (status != QR_OK)
        return status;
    qr_change_begin(&remap.change, space);
    qr_rw_write_lock(&space->lock);
    status = remap_locked(&remap);
    if (status == QR_OK) {
        const struct qr_region *region = qr_space_find(space, remap.new_start);

        populate = qr_region_wants_pages(region->flags);
    }
    qr_rw_write_unlock(&space->lock);
    qr_change_end(&remap.change);
    if (status != QR_OK)
        return status;
    if (populate && remap.new_bytes > qr_va_range_bytes(remap.old))
        (void)!qr_space_populate_mapped(
            space,
            qr_range_of(remap.new_start.v + qr_va_range_bytes(remap.old),
                        remap.new_start.v + remap.new_bytes),
            QR_POPULATE_STOP);
    *out_va = remap.new_start;
    return QR_OK;
}
