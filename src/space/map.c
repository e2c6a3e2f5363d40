/* SPDX-License-Identifier: MIT */
/*
 * Mapping and unmapping.
 *
 * map:    check the request; find the place; check the limits; reserve what the
 *         change needs; then, where FIXED meets something, unmap it; insert the
 *         region or let a neighbour grow.  Nothing visible happens before the
 *         last thing that may fail.
 * unmap:  take the entries out, flush, and only then change the regions, so that
 *         a truncation that no longer finds the mapping finds no translation
 *         either (invariants 10).
 *
 * Populating comes last, without the lock: it is a run of faults, and as with
 * Linux's mmap its failure is not the call's.
 */
#include "hugetlb.h"

/* Without demand paging a mapping gets its memory when it is made. */
#ifdef CONFIG_DEMAND_PAGING
#define MAP_AT_ONCE false
#else
#define MAP_AT_ONCE true
#endif

/* ---- Unmapping ----------------------------------------------------------------- */

/* Does @range cut a piece out of the middle of one region? */
static bool
unmap_makes_hole(const struct qr_space *space, struct qr_va_range range)
{
    const struct qr_region *region = qr_space_find(space, range.start);

    return region != NULL && region->start.v < range.start.v && region->end.v > range.end.v;
}

enum qr_status
qr_unmap_prepare(struct qr_change *change, struct qr_va_range range)
{
    struct qr_space *space = change->space;

    if (qr_space_is_sealed(space, range))
        return QR_ERR_SEALED;
    if (qr_unlikely(space->maps_hugetlb) && !qr_hugetlb_may_unmap(space, range))
        return QR_ERR_INVALID;
    if (unmap_makes_hole(space, range)) {
        if (space->counts.region_count >= qr_vm_max_regions(space->vm))
            return QR_ERR_NO_MEMORY;
        enum qr_status status = qr_change_reserve(change, 1);

        if (status != QR_OK)
            return status;
    }
    return qr_large_cut(space, range);
}

static void
unmap_entries(struct qr_space *space, struct qr_va_range range)
{
    struct qr_tlb_batch batch;

    qr_tlb_batch_init(&batch, &space->tlb);
    for (struct qr_region *region = qr_space_find(space, range.start);
         region != NULL && region->start.v < range.end.v; region = qr_region_next(region))
        qr_zap_surely(region, qr_region_clip(region, range), &batch);
    qr_tlb_batch_finish(&batch);
}

/*
 *   range          |-------|
 *   [ drop ]         [ d ]
 *   [ keep low ][ l   ]
 *   [ keep high ]        [ h   ]
 *   [ keep both ]  [ l       h ]   one more descriptor
 */
static void
unmap_region(struct qr_change *change, struct qr_region *region, struct qr_va_range range)
{
    bool keep_low = region->start.v < range.start.v;
    bool keep_high = region->end.v > range.end.v;

    if (region->listener != NULL) /* who waits for a page finds that there is no region */
        qr_listener_wake(region->listener, range.start, range.end);

    if (keep_low && keep_high) {
        (void)qr_region_split(change, region, range.end);
        keep_high = false;
    }
    if (keep_low)
        qr_region_resize(region, qr_range_of(region->start.v, range.start.v));
    else if (keep_high)
        qr_region_resize(region, qr_range_of(range.end.v, region->end.v));
    else
        qr_region_drop(change, region);
}

void
qr_unmap_commit(struct qr_change *change, struct qr_va_range range)
{
    struct qr_region *region = qr_space_find(change->space, range.start);

    if (region == NULL || region->start.v >= range.end.v)
        return;
    unmap_entries(change->space, range);
    while (region != NULL && region->start.v < range.end.v) {
        struct qr_region *next = qr_region_next(region);

        unmap_region(change, region, range);
        region = next;
    }
    qr_tables_sweep(change->space, range);
}

enum qr_status
qr_space_unmap(struct qr_space *space, qr_va start, size_t bytes)
{
    struct qr_change change;
    struct qr_va_range range;

    if (!qr_va_range_make(start.v, bytes, space->layout.user_end.v, &range))
        return QR_ERR_RANGE;
    qr_change_begin(&change, space);
    qr_rw_write_lock(&space->lock);
    enum qr_status status = qr_unmap_prepare(&change, range);

    if (status == QR_OK)
        qr_unmap_commit(&change, range);
    qr_rw_write_unlock(&space->lock);
    qr_change_end(&change);
    return status;
}

/* ---- Mapping --------------------------------------------------------------------- */

size_t
qr_space_mapped_pages(const struct qr_space *space, struct qr_va_range range, size_t *out_data)
{
    size_t pages = 0, data = 0;

    for (const struct qr_region *region = qr_space_find(space, range.start);
         region != NULL && region->start.v < range.end.v; region = qr_region_next(region)) {
        size_t inside = qr_va_range_pages(qr_region_clip(region, range));

        pages += inside;
        if (qr_region_is_data(region->prot, region->flags))
            data += inside;
    }
    if (out_data != NULL)
        *out_data = data;
    return pages;
}

unsigned
qr_lock_flags(enum qr_lock_mode mode)
{
    if (mode == QR_UNLOCK)
        return 0;
    return mode == QR_LOCK_NOW ? (unsigned)QR_REGION_LOCKED : QR_REGION_LOCK_FLAGS;
}

/* The checks that need no lock. */
static enum qr_status
map_check(const struct qr_map_request *request, size_t *out_bytes)
{
    size_t bytes = qr_va_page_up(request->bytes);
    uint64_t end;

    if (request->bytes == 0)
        return QR_ERR_RANGE;
    if (bytes == 0)
        return QR_ERR_NO_MEMORY; /* rounding up wrapped */
    if ((request->prot & ~QR_PROT_RWX) != 0 ||
        (request->align_bytes & (request->align_bytes - 1)) != 0)
        return QR_ERR_INVALID;
    if ((request->object_offset & QR_PAGE_MASK) != 0 ||
        __builtin_add_overflow(request->object_offset, (uint64_t)bytes, &end))
        return QR_ERR_RANGE;
    if (request->max_prot != 0 && (request->prot & ~request->max_prot) != 0)
        return QR_ERR_ACCESS;
    if (request->object != NULL && qr_object_hugetlb_pool(request->object) != NULL)
        return qr_hugetlb_check_map(request, out_bytes);
    *out_bytes = bytes;
    return QR_OK;
}

/* Huge pages need no locking, and copies of private ones are promised. */
static void
map_hugetlb_template(struct qr_region *like)
{
    like->flags |= QR_REGION_HUGETLB;
    like->flags &= ~QR_REGION_LOCK_FLAGS;
    if ((like->flags & (QR_REGION_SHARED | QR_REGION_NO_RESERVE)) == 0)
        like->flags |= QR_REGION_HUGETLB_OWNER;
}

/* The region that @request asks for, at no place yet. */
static void
map_template(struct qr_space *space, const struct qr_map_request *request, struct qr_object *object,
             struct qr_region *like)
{
    like->space = space;
    like->prot = request->prot;
    like->max_prot = request->max_prot == 0 ? QR_PROT_RWX : request->max_prot;
    like->flags = request->region_flags;
    like->pkey = request->pkey;
    like->object = object;
    like->object_page = (size_t)(request->object_offset >> QR_PAGE_SHIFT);
    like->file = request->file;
    like->hugetlb_reserved = 0;
    like->policy = NULL;
    like->listener = NULL;
    if (object != NULL) {
        if (qr_object_is_device(object))
            like->flags |= QR_REGION_DEVICE;
        if (qr_object_hugetlb_pool(object) != NULL)
            map_hugetlb_template(like);
    }
    if ((like->flags & QR_REGION_LOCKED_ON_FAULT) != 0)
        like->flags |= QR_REGION_LOCKED;
    if (qr_region_is_accountable(space->vm, like->prot, like->flags))
        like->flags |= QR_REGION_ACCOUNTED;
}

static enum qr_status
map_check_lock(const struct qr_space *space, const struct qr_region *like)
{
    bool locked = (like->flags & QR_REGION_LOCKED) != 0;

    return locked && !qr_count_may_lock(space, qr_region_pages(like)) ? QR_ERR_AGAIN : QR_OK;
}

/* @replaced: pages of the place that are mapped already. */
static enum qr_status
map_check_limits(const struct qr_space *space, const struct qr_region *like, size_t replaced)
{
    size_t pages = qr_region_pages(like);

    if (space->counts.region_count > qr_vm_max_regions(space->vm))
        return QR_ERR_NO_MEMORY;
    if (!qr_count_may_grow(space, like->prot, like->flags, pages - replaced))
        return QR_ERR_LIMIT;
    if (!qr_count_may_commit(space, like->flags, pages))
        return QR_ERR_NO_MEMORY;
    return map_check_lock(space, like);
}

/* Where nothing stands. */
static enum qr_status
map_free_place(struct qr_change *change, struct qr_neighbours neighbours, struct qr_region *like)
{
    enum qr_status status = map_check_limits(change->space, like, 0);

    if (status == QR_OK)
        status = qr_change_reserve(change, qr_map_needs(neighbours, like));
    if (status == QR_OK && qr_region_is_hugetlb(like))
        status = qr_hugetlb_prepare_map(like);
    if (status == QR_OK)
        (void)qr_map_commit(change, neighbours, like);
    return status;
}

/* In the place of something.  What is left of it may or may not join: reserve for the worst. */
static enum qr_status
map_replace(struct qr_change *change, struct qr_region *like)
{
    struct qr_va_range range = qr_region_range(like);
    size_t replaced = qr_space_mapped_pages(change->space, range, NULL);
    enum qr_status status = map_check_lock(change->space, like);

    if (status == QR_OK && qr_space_is_sealed(change->space, range))
        status = QR_ERR_SEALED;
    if (status == QR_OK)
        status = map_check_limits(change->space, like, replaced);
    if (status == QR_OK)
        status = qr_change_reserve(change, 1);
    if (status == QR_OK)
        status = qr_unmap_prepare(change, range);
    if (status == QR_OK && qr_region_is_hugetlb(like))
        status = qr_hugetlb_prepare_map(like);
    if (status != QR_OK)
        return status;
    qr_unmap_commit(change, range);
    (void)qr_map_commit(change, qr_space_neighbours(change->space, like->start), like);
    return QR_OK;
}

/* A new shared object promises its whole size, whatever is mapped of it. */
static bool
map_promise(const struct qr_space *space, const struct qr_map_request *request,
            const struct qr_region *like, size_t bytes)
{
    if (request->object != NULL || like->object == NULL ||
        (like->flags & qr_commit_exemption(space->vm)) != 0)
        return true;
    if (!qr_commit_allows(space, bytes >> QR_PAGE_SHIFT))
        return false;
    qr_object_promise(like->object, bytes >> QR_PAGE_SHIFT);
    return true;
}

/* Whether nobody said where @like goes, and huge pages of its shared memory want a border. */
static bool
map_wants_alignment(const struct qr_map_request *request, const struct qr_region *like,
                    size_t bytes)
{
    const struct qr_vm *vm = like->space->vm;

    return request->hint.v == 0 && request->align_bytes == 0 && vm->huge_bytes != 0 &&
           bytes >= vm->huge_bytes && (like->object_page & (qr_vm_huge_pages(vm) - 1)) == 0 &&
           qr_object_wants_huge(like->object, true);
}

static enum qr_status
map_find_place(const struct qr_space *space, const struct qr_map_request *request,
               struct qr_region *like, size_t bytes)
{
    if (qr_region_is_shared(like) && map_wants_alignment(request, like, bytes)) {
        struct qr_map_request aligned = *request;

        aligned.align_bytes = space->vm->huge_bytes;
        if (qr_place_find(space, &aligned, bytes, &like->start) == QR_OK)
            return QR_OK;
    }
    return qr_place_find(space, request, bytes, &like->start);
}

/* Under the lock: place, check, reserve, commit. */
static enum qr_status
map_locked(struct qr_change *change, const struct qr_map_request *request, struct qr_region *like,
           size_t bytes)
{
    struct qr_space *space = change->space;
    enum qr_status status = map_find_place(space, request, like, bytes);

    if (status != QR_OK)
        return status;
    if (!map_promise(space, request, like, bytes))
        return QR_ERR_NO_MEMORY;
    like->end = qr_va_of(like->start.v + bytes);
    if ((like->flags & QR_REGION_NEVER_LOCKED) == 0)
        like->flags |= space->default_lock_flags;
    if ((like->flags & QR_REGION_DROPPABLE) != 0) /* there may be pages to discard from now on */
        atomic_fetch_add_explicit(&space->lazy, 1, memory_order_relaxed);
    space->maps_hugetlb |= qr_region_is_hugetlb(like);

    struct qr_neighbours neighbours = qr_space_neighbours(space, like->start);

    if (neighbours.high != NULL && neighbours.high->start.v < like->end.v)
        return map_replace(change, like);
    return map_free_place(change, neighbours, like);
}

/*
 * Are pages to come at once?  They are where all that comes is locked, as in Linux, even if this
 * is one of those that are not.  S.
 */
static bool
map_wants_pages(const struct qr_space *space, const struct qr_map_request *request,
                const struct qr_region *like)
{
    unsigned unlocked = (unsigned)QR_REGION_HUGETLB | QR_REGION_DROPPABLE;

    return MAP_AT_ONCE || (request->flags & QR_MAP_POPULATE) != 0 ||
           qr_region_wants_pages(like->flags) ||
           ((like->flags & unlocked) != 0 && (space->default_lock_flags & QR_REGION_LOCKED) != 0);
}

/* The backing of @request with a reference: its own, or a new shared anonymous one; or NULL. */
static enum qr_status
map_get_object(const struct qr_space *space, const struct qr_map_request *request, size_t bytes,
               struct qr_object **out_object)
{
    *out_object = request->object;
    if (request->object != NULL) {
        qr_object_get(request->object);
        return QR_OK;
    }
    if ((request->region_flags & QR_REGION_SHARED) == 0)
        return QR_OK;
    return qr_object_create(space->vm->config.objects, &qr_pager_memory, NULL, bytes, out_object);
}

enum qr_status
qr_space_map(struct qr_space *space, const struct qr_map_request *request, qr_va *out_va)
{
    struct qr_change change;
    struct qr_object *object = NULL;
    size_t bytes;
    enum qr_status status = map_check(request, &bytes);

    if (status == QR_OK)
        status = map_get_object(space, request, bytes, &object);
    if (status != QR_OK)
        return status;
    struct qr_region like;

    map_template(space, request, object, &like);
    qr_change_begin(&change, space);
    qr_rw_write_lock(&space->lock);
    status = map_locked(&change, request, &like, bytes);
    bool wants_pages = map_wants_pages(space, request, &like);
    qr_rw_write_unlock(&space->lock);
    qr_change_end(&change);
    if (object != NULL)
        qr_object_put(object);
    if (status != QR_OK)
        return status;
    if (wants_pages)
        (void)!qr_space_populate_mapped(space, qr_region_range(&like), QR_POPULATE_STOP);
    *out_va = like.start;
    return QR_OK;
}
