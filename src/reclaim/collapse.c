/* SPDX-License-Identifier: MIT */
/*
 * Collapse: a block of small pages becomes a huge page.
 *
 *   level 1   [ table ]                   [    L    ]
 *                 |                 =>
 *   level 0   [ l l . l . . l l ]
 *   frames      a c   b     e d             A A A A A A A A    copies, side by side
 *
 *   1 find and prepare frames; bring swapped pages  nothing locked
 *     back
 *   2 look at the block                            the space's lock for writing, from here on
 *   3 take its entries out, leave a mark, flush    one cursor: nobody reads or writes a page now
 *   4 copy, or clear what was not there            interrupts on
 *   5 set the large leaf in the mark's place
 *
 * The lock for writing keeps faults, pins and forks away, so nothing looks at the mark, and
 * nothing after step 2 can fail: the table of the mark's level stands.  An object's mappings
 * are not private memory, and migration takes an entry that names its frame or none.
 *
 * What a page must be: absent, zero, or a private frame all of whose references are entries, or the swap
 * cache's.  A reference more is a pin, or a flush under way that will be over soon: such a block stays.
 * Frames that other spaces map too are copied, as a write would copy them.  Pages that are swapped out are
 * brought back by step 1, if they are few enough, and in the background only where at least half of the block
 * was used of late; what is swapped out again meanwhile is found by step 2.
 *
 * Shared memory is collapsed in its object (object/huge.c), for all that map it.
 */
#include <quire/assert.h>
#include <quire/reclaim.h>

#include "space/swap.h"

/* What a block is like, and what may be done with it. */
struct survey {
    struct qr_vm *vm;
    size_t present, shared, used;
    size_t swapped;
    bool large; /* it is one already */
    bool stuck; /* something in it cannot be copied */
};

static void
survey_frame(struct survey *survey, const struct qr_frame *frame)
{
    uint32_t busy = QR_FRAME_LOCKED | QR_FRAME_WRITEBACK | QR_FRAME_PINNED;
    uint32_t refs = atomic_load_explicit(&frame->refs, memory_order_acquire);
    uint32_t maps = atomic_load_explicit(&frame->maps, memory_order_relaxed);

    enum qr_frame_type type = qr_frame_type(frame);

    survey->present++;
    survey->shared += maps > 1;
    if ((type != QR_FRAME_ANON && type != QR_FRAME_SWAP) ||
        refs != maps + (type == QR_FRAME_SWAP) ||
        (atomic_load_explicit(&frame->flags, memory_order_relaxed) & busy) != 0)
        survey->stuck = true;
}

static void
survey_entry(struct survey *survey, const struct qr_region *region, const struct qr_entry *entry)
{
    if (qr_entry_is_swap(entry)) {
        survey->swapped++;
        return;
    }
    if (entry->kind != QR_ENTRY_LEAF) {
        survey->stuck = true;
        return;
    }
    survey->used += (entry->leaf.flags & QR_LEAF_ACCESSED) != 0;
    if (entry->level > 0) {
        survey->large = true;
        return;
    }
    const struct qr_frame *frame = qr_leaf_frame(region, &entry->leaf);

    if (frame != NULL)
        survey_frame(survey, frame);
}

/* Look at all of @block under the cursor, which covers it. */
static struct survey
survey_block(struct qr_cursor *cursor, const struct qr_region *region, struct qr_va_range block)
{
    struct survey survey = {.vm = region->space->vm};
    struct qr_entry entry;
    qr_va at = block.start;

    while (at.v < block.end.v && !survey.stuck && qr_cursor_find(cursor, at, &entry)) {
        survey_entry(&survey, region, &entry);
        at = qr_va_of(qr_entry_end(cursor->tables, &entry));
    }
    return survey;
}

static enum qr_status
survey_verdict(const struct survey *survey, const struct qr_collapse_limits *limits)
{
    size_t pages = qr_vm_huge_pages(survey->vm), there = survey->present + survey->swapped;

    if (survey->large)
        return QR_ERR_EXISTS;
    if (survey->stuck)
        return QR_ERR_BUSY;
    if (there == 0 || pages - there > limits->max_none || survey->shared > limits->max_shared ||
        survey->swapped > limits->max_swapped)
        return QR_ERR_INVALID;
    if (survey->swapped != 0 && limits->reason == QR_HUGE_POLICY && survey->used < pages / 2)
        return QR_ERR_INVALID;
    return QR_OK;
}

/* The region that all of @block lies in, if its pages may become a huge one.  S. */
static struct qr_region *
collapse_region(struct qr_space *space, struct qr_va_range block, enum qr_huge_reason reason)
{
    struct qr_region *region = qr_space_find(space, block.start);

    if (region == NULL || !qr_huge_fits(region, block.start))
        return NULL;
    bool may = reason == QR_HUGE_ASKED ? qr_region_may_be_huge(region)
                                       : qr_region_is_huge_eligible(region);

    return may ? region : NULL;
}

/* The same, if it is private memory. */
static struct qr_region *
private_region(struct qr_space *space, struct qr_va_range block, enum qr_huge_reason reason)
{
    struct qr_region *region = collapse_region(space, block, reason);

    return region != NULL && qr_region_is_anonymous(region) ? region : NULL;
}

/* ---- One block --------------------------------------------------------------------- */

struct collapse {
    const struct qr_region *region;
    struct qr_va_range block;
    struct qr_frame *head; /* the new frames; owner: the frame to copy from, or NULL */
    struct qr_tally tally;
};

static struct qr_frame *
collapse_frame(const struct collapse *collapse, size_t index)
{
    return qr_frame_nth(collapse->region->space->vm->config.frames, collapse->head, index);
}

static void
collapse_take(void *context, const struct qr_entry *entry)
{
    struct collapse *collapse = context;
    struct qr_frame *old = qr_leaf_frame(collapse->region, &entry->leaf);
    size_t index = (entry->start.v - collapse->block.start.v) >> QR_PAGE_SHIFT;

    if (old == NULL)
        return;
    atomic_store_explicit(&collapse_frame(collapse, index)->owner, old, memory_order_relaxed);
    qr_tally_leaf(&collapse->tally, collapse->region, old, -1);
}

/* Step 3.  The cursor covers the block. */
static void
collapse_take_out(struct collapse *collapse, struct qr_cursor *cursor)
{
    struct qr_space *space = collapse->region->space;
    unsigned level = space->vm->huge_level;

    qr_space_note_peak(space);
    qr_cursor_unmap_range(cursor, collapse->block, collapse_take, collapse);
    qr_tally_apply(&collapse->tally, space);
    enum qr_status status = qr_cursor_prepare(cursor, collapse->block.start, level);

    qr_assert(status == QR_OK); /* the cursor holds the table that the mark goes into */
    qr_cursor_mark(cursor, collapse->block.start, level, (struct qr_mark){QR_MARK_MIGRATING, 0});
    qr_tlb_batch_finish(cursor->batch);
}

/* Step 4: contents, and the new frames as private memory. */
static void
collapse_fill(struct collapse *collapse)
{
    struct qr_vm *vm = collapse->region->space->vm;
    uintptr_t page = collapse->block.start.v >> QR_PAGE_SHIFT;

    for (size_t i = 0; i < qr_vm_huge_pages(vm); i++) {
        struct qr_frame *frame = collapse_frame(collapse, i);
        struct qr_frame *old = atomic_load_explicit(&frame->owner, memory_order_relaxed);

        if (old != NULL) {
            qr_frame_copy(vm->config.frames, frame, old);
            qr_frame_put(vm->config.frames, old);
        } else {
            qr_frame_clear(vm->config.frames, frame);
        }
        qr_frame_set_type(frame, QR_FRAME_ANON);
        atomic_store_explicit(&frame->owner, collapse->region->space, memory_order_relaxed);
        atomic_store_explicit(&frame->index, page + i, memory_order_relaxed);
        atomic_store_explicit(&frame->maps, 1, memory_order_relaxed);
    }
}

/* Step 5. */
static void
collapse_set(struct collapse *collapse, struct qr_cursor *cursor)
{
    struct qr_space *space = collapse->region->space;
    struct qr_vm *vm = space->vm;
    struct qr_large large = {.head = collapse->head, .pages = qr_vm_huge_pages(vm)};
    struct qr_leaf leaf = {
        .pa = qr_frame_pa(vm->config.frames, large.head),
        .prot = qr_region_leaf_prot(collapse->region),
        .flags = QR_LEAF_ACCESSED | QR_LEAF_WRITTEN,
        .level = (uint8_t)vm->huge_level,
        .pkey = collapse->region->pkey,
    };

    if ((leaf.prot & QR_PROT_EXEC) != 0)
        (void)qr_arch_code_written(leaf.pa, vm->huge_bytes);
    qr_large_count(space, &large, 1);
    qr_cursor_map(cursor, collapse->block.start, &leaf);
    atomic_fetch_add_explicit(&space->resident[QR_RESIDENT_ANON], (long)large.pages,
                              memory_order_relaxed);
    qr_counter_add(vm->counters, QR_PAGES_ANON, (long)large.pages);
}

/* Steps 2 to 5; *io_head becomes NULL where the frames were used.  S, for writing. */
static enum qr_status
collapse_locked(struct qr_space *space, struct qr_va_range block,
                const struct qr_collapse_limits *limits, struct qr_frame **io_head)
{
    struct collapse collapse = {.block = block, .head = *io_head};
    struct qr_tlb_batch batch;
    struct qr_cursor cursor;

    collapse.region = private_region(space, block, limits->reason);
    if (collapse.region == NULL)
        return QR_ERR_INVALID;
    qr_tlb_batch_init(&batch, &space->tlb);
    qr_cursor_open(&cursor, &space->tables, block, &batch);
    struct survey survey = survey_block(&cursor, collapse.region, block);
    enum qr_status status = survey.swapped != 0 ? QR_ERR_BUSY : survey_verdict(&survey, limits);

    if (status == QR_OK)
        collapse_take_out(&collapse, &cursor);
    qr_cursor_close(&cursor);
    qr_tlb_batch_finish(&batch);
    if (status != QR_OK)
        return status;
    collapse_fill(&collapse);
    qr_cursor_open(&cursor, &space->tables, block, &batch);
    collapse_set(&collapse, &cursor);
    qr_cursor_close(&cursor);
    qr_tlb_batch_finish(&batch);
    *io_head = NULL;
    return QR_OK;
}

/* Would @block be collapsed?  Looks only; its policy with a reference.  QR_ERR_NOT_FOUND: it
 * lies in no region that may. */
static enum qr_status
collapse_look(struct qr_space *space, struct qr_va_range block,
              const struct qr_collapse_limits *limits, struct qr_mempolicy **out_policy,
              size_t *out_swapped)
{
    enum qr_status status = QR_ERR_NOT_FOUND;

    qr_rw_read_lock(&space->lock);
    const struct qr_region *region = private_region(space, block, limits->reason);

    if (region != NULL) {
        struct qr_cursor cursor;

        qr_cursor_open(&cursor, &space->tables, block, NULL);
        struct survey survey = survey_block(&cursor, region, block);

        qr_cursor_close(&cursor);
        status = survey_verdict(&survey, limits);
        *out_swapped = survey.swapped;
        *out_policy = region->policy;
        qr_mempolicy_get(region->policy);
    }
    qr_rw_read_unlock(&space->lock);
    return status;
}

static void
fill_forget(void *context, struct qr_frame *frame, size_t index)
{
    (void)context;
    (void)index;
    atomic_store_explicit(&frame->owner, NULL, memory_order_relaxed);
}

/* The new frames are charged before the old ones are given up.  S. */
static bool
collapse_charge(struct qr_space *space, const struct qr_large *large)
{
    struct qr_group *group = atomic_load_explicit(&space->group, memory_order_relaxed);

    return group == NULL ||
           qr_group_charge_run(group, space->vm->config.frames, large->head, large->pages) == QR_OK;
}

static void
collapse_count(struct qr_space *space)
{
    qr_counter_add(space->vm->counters, QR_EVENT_THP_COLLAPSE, 1);
    qr_space_add_stat(space, QR_GROUP_STAT_THP_COLLAPSE, 1);
}

static enum qr_status
collapse_block(struct qr_space *space, struct qr_va_range block,
               const struct qr_collapse_limits *limits)
{
    struct qr_vm *vm = space->vm;
    struct qr_huge_request request = {.place = block.start.v >> QR_PAGE_SHIFT,
                                      .effort = limits->effort};
    size_t swapped = 0;
    enum qr_status status = collapse_look(space, block, limits, &request.policy, &swapped);
    struct qr_frame *head = status == QR_OK ? qr_huge_alloc(vm, &request) : NULL;

    qr_mempolicy_put(request.policy);
    if (status != QR_OK)
        return status;
    if (head == NULL) {
        qr_counter_add(vm->counters, QR_EVENT_THP_NO_COLLAPSE, 1);
        return QR_ERR_NO_MEMORY;
    }
    struct qr_large large = {.head = head, .pages = qr_vm_huge_pages(vm)};

    qr_large_each_frame(vm->config.frames, &large, fill_forget, NULL);
    if (swapped != 0)
        status = qr_swap_in_range(space, block);
    qr_rw_write_lock(&space->lock);
    if (status == QR_OK && !collapse_charge(space, &large))
        status = QR_ERR_NO_MEMORY;
    if (status == QR_OK)
        status = collapse_locked(space, block, limits, &head);
    qr_rw_write_unlock(&space->lock);
    if (head != NULL)
        qr_frame_put_run(vm->config.frames, head, large.pages);
    else
        collapse_count(space);
    return status;
}

/* ---- Shared memory ------------------------------------------------------------------- */

/* The object behind @block with a reference, if it is shared memory that may become huge, or NULL. */
static struct qr_object *
shared_object(struct qr_space *space, struct qr_va_range block, enum qr_huge_reason reason,
              size_t *out_page)
{
    struct qr_object *object = NULL;

    qr_rw_read_lock(&space->lock);
    const struct qr_region *region = collapse_region(space, block, reason);

    if (region != NULL && !qr_region_is_anonymous(region)) {
        object = region->object;
        qr_object_get(object);
        *out_page = qr_region_object_page(region, block.start);
    }
    qr_rw_read_unlock(&space->lock);
    return object;
}

/* Who asked for a huge page gets it mapped; others by their next fault. */
static void
shared_map(struct qr_space *space, struct qr_va_range block)
{
    struct qr_va_range page = qr_range_of(block.start.v, block.start.v + QR_PAGE_SIZE);
    struct qr_tlb_batch batch;

    qr_tlb_batch_init(&batch, &space->tlb);
    qr_rw_read_lock(&space->lock);
    struct qr_region *region = collapse_region(space, block, QR_HUGE_ASKED);

    /* Small leaves in its place; none of a page that is not the object's. */
    if (region != NULL && !qr_region_is_anonymous(region))
        (void)!qr_zap_range(region, block, QR_ZAP_OBJECT, &batch);
    qr_rw_read_unlock(&space->lock);
    qr_tlb_batch_finish(&batch);
    (void)!qr_space_populate_mapped(space, page, QR_POPULATE_STOP);
}

static enum qr_status
collapse_shared(struct qr_space *space, struct qr_va_range block, struct qr_object *object,
                size_t page, const struct qr_collapse_limits *limits)
{
    struct qr_vm *vm = space->vm;
    unsigned care = limits->effort == QR_HUGE_COMPACT ? 0 : (unsigned)QR_ALLOC_OPPORTUNE;

    if (qr_object_count_swapped(object, page, page + qr_vm_huge_pages(vm)) > limits->max_swapped)
        return QR_ERR_INVALID;
    enum qr_status status =
        qr_object_collapse(object, page, qr_vm_huge_pages(vm), limits->max_none, care);

    if (status == QR_OK)
        collapse_count(space);
    if (status == QR_ERR_NO_MEMORY)
        qr_counter_add(vm->counters, QR_EVENT_THP_NO_COLLAPSE, 1);
    if ((status == QR_OK || status == QR_ERR_EXISTS) && limits->reason == QR_HUGE_ASKED)
        shared_map(space, block);
    return status == QR_ERR_RANGE ? QR_ERR_INVALID : status;
}

static enum qr_status
collapse_any(struct qr_space *space, struct qr_va_range block,
             const struct qr_collapse_limits *limits)
{
    size_t page = 0;
    struct qr_object *object = shared_object(space, block, limits->reason, &page);

    if (object == NULL)
        return collapse_block(space, block, limits);
    enum qr_status status = collapse_shared(space, block, object, page, limits);

    qr_object_put(object);
    return status;
}

/* ---- On request ---------------------------------------------------------------------- */

/* The first block at or after @at that lies in @region. */
static bool
region_block(const struct qr_region *region, qr_va at, struct qr_va_range *out_block)
{
    uintptr_t bytes = region->space->vm->huge_bytes;
    uintptr_t start = (qr_max_size(region->start.v, at.v) + bytes - 1) & ~(bytes - 1);

    if (start < region->start.v || start >= region->end.v || region->end.v - start < bytes)
        return false;
    *out_block = qr_range_of(start, start + bytes);
    return true;
}

/* Whether all regions of @range may and can have huge pages, and whether there are holes. */
static enum qr_status
request_check(struct qr_space *space, struct qr_va_range range, bool *out_hole)
{
    enum qr_status status = QR_OK;
    uintptr_t at = range.start.v;
    struct qr_va_range block;

    *out_hole = false;
    qr_rw_read_lock(&space->lock);
    for (const struct qr_region *region = qr_space_find(space, range.start);
         region != NULL && region->start.v < range.end.v; region = qr_region_next(region)) {
        *out_hole = *out_hole || region->start.v > at;
        at = region->end.v;
        if (!qr_region_may_be_huge(region) || !region_block(region, region->start, &block))
            status = QR_ERR_INVALID;
    }
    *out_hole = *out_hole || at < range.end.v;
    qr_rw_read_unlock(&space->lock);
    return status;
}

static enum qr_status
request_blocks(struct qr_space *space, struct qr_va_range range)
{
    const struct qr_collapse_limits limits = {.max_none = SIZE_MAX,
                                              .max_shared = SIZE_MAX,
                                              .max_swapped = SIZE_MAX,
                                              .effort = QR_HUGE_COMPACT,
                                              .reason = QR_HUGE_ASKED};
    uintptr_t bytes = space->vm->huge_bytes;
    uintptr_t at = (range.start.v + bytes - 1) & ~(bytes - 1);
    enum qr_status result = QR_OK;

    for (; at >= range.start.v && at < range.end.v && range.end.v - at >= bytes; at += bytes) {
        enum qr_status status =
            collapse_any(space, qr_huge_range(space->vm, qr_va_of(at)), &limits);

        if (status == QR_ERR_NO_MEMORY)
            return status; /* nor would the next have any */
        if (status == QR_ERR_BUSY)
            result = QR_ERR_AGAIN;
        else if (status == QR_ERR_INVALID || status == QR_ERR_IO)
            result = QR_ERR_INVALID;
    }
    return result;
}

enum qr_status
qr_space_collapse(struct qr_space *space, qr_va start, size_t bytes)
{
    struct qr_va_range range;
    enum qr_status status = qr_change_range(start, bytes, &range);
    bool hole;

    if (status != QR_OK)
        return QR_ERR_RANGE;
    if (space->vm->huge_bytes == 0)
        return QR_ERR_INVALID;
    if (range.start.v == range.end.v)
        return QR_OK;
    status = request_check(space, range, &hole);
    if (status == QR_OK)
        status = request_blocks(space, range);
    return status == QR_OK && hole ? QR_ERR_NO_MEMORY : status;
}

/* ---- In the background ------------------------------------------------------------------ */

/* The first block at or after @at that lies in one region that may have huge pages. */
static bool
next_block(struct qr_space *space, qr_va at, struct qr_va_range *out_block)
{
    bool found = false;

    qr_rw_read_lock(&space->lock);
    for (const struct qr_region *region = qr_space_find(space, at); region != NULL && !found;
         region = qr_region_next(region))
        found = qr_region_is_huge_eligible(region) && region_block(region, at, out_block);
    qr_rw_read_unlock(&space->lock);
    return found;
}

/* Go on in @space from where @scan stands; false: it is done. */
static bool
scan_space(struct qr_collapse_scan *scan, struct qr_space *space, size_t *io_pages)
{
    size_t pages = qr_vm_huge_pages(space->vm);
    struct qr_va_range block;

    while (*io_pages > 0 && next_block(space, scan->at, &block)) {
        scan->at = block.end;
        *io_pages -= qr_min_size(*io_pages, pages);
        enum qr_status status = collapse_any(space, block, &scan->limits);

        if (status == QR_OK)
            scan->collapsed++;
        if (status == QR_ERR_NO_MEMORY)
            *io_pages = 0; /* nor would the next have any */
    }
    return *io_pages == 0;
}

void
qr_collapse_scan(struct qr_vm *vm, struct qr_collapse_scan *scan, size_t pages)
{
    struct qr_space *space;

    if (vm->huge_bytes == 0 ||
        atomic_load_explicit(&vm->huge_mode, memory_order_relaxed) == (unsigned)QR_HUGE_NEVER)
        return;
    while (pages > 0 && (space = qr_space_scan(vm, &scan->space_id, &scan->at)) != NULL) {
        bool more = scan_space(scan, space, &pages);

        if (!more)
            scan->at = qr_va_of(0);
        qr_space_put(space);
    }
    if (pages > 0) {
        scan->space_id = 0;
        scan->at = qr_va_of(0);
        scan->full_scans++;
    }
}
