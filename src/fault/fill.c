/* SPDX-License-Identifier: MIT */
/*
 * What a listener answers with: a page for an address where there is none.
 *
 *   private memory      the frame itself becomes the page
 *   an object's         the frame becomes the object's page, and is mapped here
 *   cached              the object has it already: it is only mapped, once it has been read where it is in swap
 *   a huge page         copied into a page of the pool under the locks of a fault (hugetlb.c); where
 *                       the source is not at hand, nothing happens and the caller makes it so
 *
 * The entry is set as a fault would set it, by the same functions, so the same rules hold; nothing
 * is ever replaced.  A frame that went into an object but could not be mapped, because there is no
 * memory for a table, is taken out again.
 */
#include "fault.h"
#include "space/hugetlb.h"

#define FILL_MEMORY_WAITS 4

enum fill_kind { FILL_FRAME, FILL_ZERO, FILL_CACHED, FILL_SOURCE };

struct fill {
    struct fault_ctx ctx;
    enum fill_kind kind;
    unsigned flags;                      /* enum qr_fill_flag */
    struct qr_frame *frame;              /* FRAME, ZERO: with one reference */
    const struct qr_page_source *source; /* SOURCE */
};

/* Is that a watched region that holds [start, end) and takes pages so? */
static enum qr_status
fill_check(const struct qr_region *region, uintptr_t start, uintptr_t end, unsigned flags)
{
    if (region == NULL || region->start.v > start || region->end.v < end ||
        region->listener == NULL)
        return QR_ERR_NOT_FOUND;
    if ((flags & QR_FILL_WRITE_PROTECT) != 0 && (region->flags & QR_REGION_WATCH_WRITE) == 0)
        return QR_ERR_INVALID;
    return QR_OK;
}

enum qr_status
qr_space_fill_check(struct qr_space *space, qr_va start, size_t bytes, unsigned flags,
                    size_t *out_page_bytes)
{
    struct qr_va_range range;

    if (!qr_va_range_make(start.v, bytes, space->layout.user_end.v, &range))
        return QR_ERR_NOT_FOUND;
    qr_rw_read_lock(&space->lock);
    const struct qr_region *region = qr_space_find(space, start);
    enum qr_status status = fill_check(region, range.start.v, range.end.v, flags);

    if (status == QR_OK && !qr_hugetlb_may_cut(region, range))
        status = QR_ERR_INVALID;
    if (status == QR_OK)
        *out_page_bytes = qr_region_is_hugetlb(region)
                              ? hugetlb_bytes(qr_region_hugetlb_pool(region))
                              : QR_PAGE_SIZE;
    qr_rw_read_unlock(&space->lock);
    return status;
}

/* The watched region at the address.  Lock held for reading. */
static enum qr_status
fill_find(struct fill *fill)
{
    struct qr_region *region = qr_space_find(fill->ctx.space, fill->ctx.va);
    enum qr_status status =
        fill_check(region, fill->ctx.va.v, fill->ctx.va.v + QR_PAGE_SIZE, fill->flags);

    if (status != QR_OK)
        return status;
    if (fill->kind == FILL_CACHED && region->object == NULL)
        return QR_ERR_INVALID;
    if (fill->kind != FILL_CACHED && qr_region_is_hugetlb(region) != (fill->kind == FILL_SOURCE))
        return QR_ERR_INVALID;
    fill->ctx.region = region;
    return QR_OK;
}

/* Does the page go into the object?  A private mapping gets a page of its own. */
static bool
fill_is_object(const struct fill *fill)
{
    return fill->ctx.region->object != NULL &&
           (fill->kind == FILL_CACHED || qr_region_is_shared(fill->ctx.region));
}

/* Behind a file's end there are no pages, not even a private mapping's own. */
static bool
fill_is_past_end(const struct fault_ctx *ctx)
{
    const struct qr_object *object = ctx->region->object;

    return object != NULL && (uint64_t)qr_region_object_page(ctx->region, ctx->va)
                                     << QR_PAGE_SHIFT >=
                                 qr_object_bytes(object);
}

/* Have the page in the object, and hold it as ctx->page. */
static enum qr_status
fill_object(struct fill *fill)
{
    struct fault_ctx *ctx = &fill->ctx;
    struct qr_object *object = ctx->region->object;
    size_t index = qr_region_object_page(ctx->region, ctx->va);
    enum qr_status status;

    if (fill->kind != FILL_CACHED) {
        status = qr_object_add_page(object, index, fill->frame);
        if (status != QR_OK)
            return status;
        qr_frame_get(fill->frame);
        ctx->page = fill->frame;
        return QR_OK;
    }
    if (fill_is_past_end(ctx))
        return QR_ERR_INVALID;
    status = qr_object_get_page(object, index, QR_PAGE_CACHED, &ctx->page);
    return status == QR_ERR_NOT_FOUND ? QR_ERR_FAULT : status;
}

static void
fill_set_object_leaf(struct fill *fill)
{
    struct fault_ctx *ctx = &fill->ctx;
    struct qr_tally tally = {.anon = 0};
    struct qr_leaf leaf = {
        .pa = qr_frame_pa(ctx->vm->config.frames, ctx->page),
        .prot = qr_region_leaf_prot(ctx->region),
        .flags = QR_LEAF_ACCESSED,
        .pkey = ctx->region->pkey,
    };

    if (!qr_region_is_shared(ctx->region) || (fill->flags & QR_FILL_WRITE_PROTECT) != 0 ||
        (ctx->region->flags & QR_REGION_TRACKED) != 0)
        leaf.prot &= ~(unsigned)QR_PROT_WRITE;
    if ((fill->flags & QR_FILL_WRITE_PROTECT) != 0)
        leaf.flags |= QR_LEAF_SOFT_2;
    fault_publish_code(&leaf);
    qr_cursor_map(&ctx->cursor, ctx->va, &leaf);
    qr_tally_leaf(&tally, ctx->region, ctx->page, 1);
    qr_tally_apply(&tally, ctx->space);
    ctx->page = NULL; /* the entry's reference now */
}

static void
fill_set_private_leaf(struct fill *fill)
{
    struct fault_ctx *ctx = &fill->ctx;

    fault_settle(ctx);
    if (fill->kind == FILL_ZERO) {
        qr_fault_install_zero(ctx);
        return;
    }
    qr_frame_get(fill->frame);
    if ((fill->flags & QR_FILL_WRITE_PROTECT) != 0)
        qr_fault_install_protected(ctx, fill->frame);
    else
        qr_fault_install_private(ctx, fill->frame);
}

/* The frame is going to be the space's. */
static bool
fill_charge(struct fill *fill)
{
    struct qr_group *group = atomic_load_explicit(&fill->ctx.space->group, memory_order_relaxed);

    fill->ctx.full = group != NULL && qr_group_charge_frame(group, fill->frame) != QR_OK;
    return !fill->ctx.full;
}

/*
 * Since the frame went into the object, a fault has mapped it, and may have written to it: that is
 * what was wanted.  It is protected now where that was asked for.
 */
static bool
fill_is_done(struct fill *fill, const struct qr_entry *entry)
{
    struct fault_ctx *ctx = &fill->ctx;

    if (fill->kind == FILL_CACHED || entry->kind != QR_ENTRY_LEAF || ctx->page == NULL ||
        qr_leaf_frame(ctx->region, &entry->leaf) != ctx->page)
        return false;
    if ((fill->flags & QR_FILL_WRITE_PROTECT) != 0)
        qr_cursor_update(&ctx->cursor, ctx->va, entry->leaf.prot & ~(unsigned)QR_PROT_WRITE,
                         QR_LEAF_SOFT_2, 0);
    return true;
}

/* The cursor is open. */
static enum qr_status
fill_entry(struct fill *fill)
{
    struct fault_ctx *ctx = &fill->ctx;
    bool object = fill_is_object(fill);
    struct qr_entry entry = qr_cursor_query(&ctx->cursor, ctx->va);

    if (!object && fill_is_past_end(ctx))
        return QR_ERR_FAULT;
    if (object && fill_is_done(fill, &entry))
        return QR_OK;
    if (entry.kind == QR_ENTRY_LEAF ||
        (entry.kind == QR_ENTRY_MARK && entry.mark.kind != QR_MARK_WRITE_PROTECT))
        return QR_ERR_EXISTS;
    if (object && !qr_object_page_is_current(
                      ctx->region->object, qr_region_object_page(ctx->region, ctx->va), ctx->page))
        return QR_ERR_RANGE; /* truncated meanwhile */
    if (qr_cursor_prepare(&ctx->cursor, ctx->va, 0) != QR_OK)
        return QR_ERR_NO_MEMORY;
    if (!object && fill->kind == FILL_FRAME && !fill_charge(fill))
        return QR_ERR_NO_MEMORY;
    if (object)
        fill_set_object_leaf(fill);
    else
        fill_set_private_leaf(fill);
    return QR_OK;
}

/* Once; on failure nothing changed.  Lock held for reading. */
static enum qr_status
fill_locked(struct fill *fill)
{
    struct fault_ctx *ctx = &fill->ctx;
    enum qr_status status = fill_find(fill);

    if (status == QR_OK && qr_region_is_hugetlb(ctx->region))
        return qr_fault_fill_hugetlb(ctx, fill->source, fill->flags);
    bool object = status == QR_OK && fill_is_object(fill);

    if (object)
        status = fill_object(fill);
    if (status != QR_OK)
        return status;
    qr_cursor_open(&ctx->cursor, &ctx->space->tables,
                   qr_range_of(ctx->va.v, ctx->va.v + QR_PAGE_SIZE), &ctx->batch);
    status = fill_entry(fill);
    qr_cursor_close(&ctx->cursor);
    qr_tlb_batch_finish(&ctx->batch);
    if (status != QR_OK && object && fill->kind != FILL_CACHED) {
        size_t index = qr_region_object_page(ctx->region, ctx->va);

        qr_object_punch(ctx->region->object, index, index + 1);
    }
    return status;
}

/* Let memory be made free where that may sleep. */
static bool
fill_wait_memory(struct qr_vm *vm, struct qr_space *space, bool full)
{
    if (full) {
        struct qr_group *group = qr_space_group_get(space);
        bool again = group == NULL || qr_group_make_room(group, 1);

        qr_group_put(group);
        return again;
    }
    struct qr_frame *frame = qr_frame_alloc(vm->config.frames, 0);

    if (frame != NULL)
        qr_frame_put(vm->config.frames, frame);
    return frame != NULL;
}

/* One attempt.  QR_ERR_AGAIN: *out_object has page *out_index in swap, and a reference. */
static enum qr_status
fill_once(struct fill *fill, struct qr_space *space, qr_va va, struct qr_object **out_object,
          size_t *out_index)
{
    qr_fault_begin(&fill->ctx, space, va, QR_ACCESS_WRITE);
    qr_rw_read_lock(&space->lock);
    enum qr_status status = fill_locked(fill);

    if (status == QR_ERR_AGAIN && fill->kind == FILL_CACHED) {
        *out_object = fill->ctx.region->object;
        *out_index = qr_region_object_page(fill->ctx.region, va);
        qr_object_get(*out_object);
    }
    qr_rw_read_unlock(&space->lock);
    qr_fault_drop_pages(&fill->ctx);
    return status;
}

/* Nothing is locked: have it in memory. */
static enum qr_status
fill_wait_page(struct fill *fill, struct qr_object *object, size_t index)
{
    enum qr_status status = qr_object_get_page(object, index, QR_PAGE_FILL, &fill->ctx.page);

    qr_fault_drop_pages(&fill->ctx);
    qr_object_put(object);
    return status == QR_OK ? QR_ERR_AGAIN : status;
}

static enum qr_status
fill_run(struct fill *fill, struct qr_space *space, qr_va va)
{
    enum qr_status status = QR_ERR_NO_MEMORY;
    bool again = true;

    for (unsigned i = 0; i < FILL_MEMORY_WAITS && again; i++) {
        struct qr_object *object = NULL;
        size_t index = 0;

        status = fill_once(fill, space, va, &object, &index);
        if (object != NULL)
            status = fill_wait_page(fill, object, index);
        again = status == QR_ERR_AGAIN || (status == QR_ERR_NO_MEMORY && object == NULL &&
                                           fill_wait_memory(space->vm, space, fill->ctx.full));
    }
    return status;
}

enum qr_status
qr_space_fill(struct qr_space *space, qr_va va, struct qr_frame *frame, unsigned flags)
{
    struct fill fill = {.kind = FILL_FRAME, .flags = flags, .frame = frame};
    enum qr_status status = fill_run(&fill, space, va);

    if (status == QR_OK)
        qr_frame_put(space->vm->config.frames, frame); /* the entry and the object have theirs */
    return status;
}

enum qr_status
qr_space_fill_zero(struct qr_space *space, qr_va va)
{
    struct fill fill = {.kind = FILL_ZERO};

    fill.frame =
        qr_frame_alloc(space->vm->config.frames, QR_ALLOC_ZERO | QR_ALLOC_MOVABLE | QR_ALLOC_HIGH);
    if (fill.frame == NULL)
        return QR_ERR_NO_MEMORY;
    enum qr_status status = fill_run(&fill, space, va);

    qr_frame_put(space->vm->config.frames, fill.frame);
    return status;
}

enum qr_status
qr_space_fill_cached(struct qr_space *space, qr_va va, unsigned flags)
{
    struct fill fill = {.kind = FILL_CACHED, .flags = flags};

    return fill_run(&fill, space, va);
}

enum qr_status
qr_space_fill_huge(struct qr_space *space, qr_va va, const struct qr_page_source *source,
                   unsigned flags)
{
    struct fill fill = {.kind = FILL_SOURCE, .flags = flags, .source = source};

    return fill_run(&fill, space, va);
}
