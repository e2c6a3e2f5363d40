/* SPDX-License-Identifier: MIT */
/*
 * First touch of a page that an object backs.
 *
 *   shared, or read     the object's own frame; read-only where a store must be noticed
 *   private and write   a copy of it
 *   device              its physical page, no frame
 *
 * The page is fetched before the cursor opens and asked for inside it: truncation
 * cuts the size and lets go of pages before it unmaps, so a page that is still
 * current under the table lock will be unmapped by whoever truncates next
 * (invariants 24).
 *
 * A read fault maps the cached pages around it as well: an aligned window of
 * fault_around_pages, cut to the region.  They are not marked accessed.
 */
#include "fault.h"

void
qr_fault_drop_pages(struct fault_ctx *ctx)
{
    struct qr_frames *frames = ctx->vm->config.frames;

    if (ctx->page != NULL)
        qr_frame_put(frames, ctx->page);
    ctx->page = NULL;
    ctx->page_absent = false;
    for (size_t i = 0; i < ctx->around_count; i++) {
        if (ctx->around[i] != NULL)
            qr_frame_put(frames, ctx->around[i]);
    }
    ctx->around_count = 0;
}

/* The window of pages around the fault that may be mapped with it. */
static struct qr_va_range
around_window(const struct fault_ctx *ctx)
{
    size_t pages = qr_min_size(ctx->vm->config.fault_around_pages, FAULT_AROUND_MAX);
    uintptr_t bytes = pages << QR_PAGE_SHIFT;
    uintptr_t start = ctx->va.v & ~(bytes - 1);

    return qr_region_clip(ctx->region, qr_range_of(start, start + bytes));
}

/* Get the cached pages of the window; the fault's own, if there, becomes ctx->page. */
static void
fetch_around(struct fault_ctx *ctx)
{
    struct qr_va_range window = around_window(ctx);
    size_t own = (ctx->va.v - window.start.v) >> QR_PAGE_SHIFT;

    ctx->around_va = window.start;
    ctx->around_count = qr_va_range_pages(window);
    (void)qr_object_get_cached(ctx->region->object,
                               qr_region_object_page(ctx->region, window.start), ctx->around_count,
                               ctx->around);
    ctx->page = ctx->around[own];
    ctx->around[own] = NULL;
}

static bool
fetch_wants_around(const struct fault_ctx *ctx)
{
    return !fault_is_write(ctx) && !ctx->probe && ctx->vm->config.fault_around_pages > 1 &&
           (ctx->region->flags &
            (QR_REGION_RANDOM | QR_REGION_WATCH_WRITE | QR_REGION_WATCH_MINOR)) == 0;
}

/*
 * Where a listener is told of missing pages or of those that are there, it matters which of the two
 * this is: look first.  @return whether the page is to be left missing
 */
static bool
fetch_for_listener(struct fault_ctx *ctx, size_t index)
{
    struct qr_listener *listener = ctx->region->listener;

    if (ctx->page != NULL || atomic_load_explicit(&listener->closed, memory_order_relaxed))
        return false;
    ctx->page_absent = qr_object_get_page(ctx->region->object, index, QR_PAGE_CACHED, &ctx->page) ==
                       QR_ERR_NOT_FOUND;
    return ctx->page_absent && (ctx->region->flags & QR_REGION_WATCH_MISSING) != 0;
}

enum fault_step
qr_fault_fetch_page(struct fault_ctx *ctx)
{
    size_t index = qr_region_object_page(ctx->region, ctx->va);

    qr_fault_drop_pages(ctx);
    if (fetch_wants_around(ctx))
        fetch_around(ctx);
    if (fault_is_watched(ctx, QR_REGION_WATCH_MISSING | QR_REGION_WATCH_MINOR) &&
        fetch_for_listener(ctx, index))
        return FAULT_NEXT;
    if (ctx->page != NULL)
        return FAULT_NEXT;
    switch (qr_object_get_page(ctx->region->object, index, QR_PAGE_NOWAIT, &ctx->page)) {
    case QR_OK:
        return FAULT_NEXT;
    case QR_ERR_RANGE:
        return fault_end(ctx, QR_FAULT_BEYOND_END);
    case QR_ERR_NO_MEMORY:
        return FAULT_WAIT_PAGE; /* making a page where sleeping is allowed may reclaim first */
    case QR_ERR_AGAIN:
    case QR_ERR_NOT_FOUND:
        return FAULT_WAIT_PAGE;
    case QR_ERR_IO: /* known without asking a disk */
        return fault_end(ctx, QR_FAULT_POISON);
    default:
        return fault_end(ctx, QR_FAULT_BEYOND_END);
    }
}

static enum fault_step
object_map_device(struct fault_ctx *ctx)
{
    struct qr_object *object = ctx->region->object;
    size_t index = qr_region_object_page(ctx->region, ctx->va);

    if (index >= (qr_object_bytes(object) + QR_PAGE_MASK) >> QR_PAGE_SHIFT)
        return fault_end(ctx, QR_FAULT_BEYOND_END);
    struct qr_leaf leaf = {
        .pa = qr_object_device_pa(object, index),
        .prot = qr_region_leaf_prot(ctx->region),
        .flags = QR_LEAF_ACCESSED | QR_LEAF_DIRTY,
        .cache = (uint8_t)qr_object_device_cache(object),
        .pkey = ctx->region->pkey,
    };

    qr_cursor_map(&ctx->cursor, ctx->va, &leaf);
    return FAULT_DONE;
}

/* Set a leaf for one of the object's frames; takes over the caller's reference. */
static void
object_install(struct fault_ctx *ctx, struct qr_tally *tally, qr_va va, struct qr_frame *frame,
               struct qr_leaf *leaf)
{
    leaf->pa = qr_frame_pa(ctx->vm->config.frames, frame);
    fault_publish_code(leaf);
    qr_cursor_map(&ctx->cursor, va, leaf);
    qr_tally_leaf(tally, ctx->region, frame, 1);
}

/* Map what of the window is cached and not mapped yet.  The table is there. */
static void
object_map_around(struct fault_ctx *ctx, struct qr_tally *tally)
{
    struct qr_leaf leaf = {.prot = fault_read_prot(ctx->region), .pkey = ctx->region->pkey};
    size_t first = qr_region_object_page(ctx->region, ctx->around_va);

    for (size_t i = 0; i < ctx->around_count; i++) {
        struct qr_frame *frame = ctx->around[i];
        qr_va va = qr_va_of(ctx->around_va.v + (i << QR_PAGE_SHIFT));

        if (frame == NULL || qr_cursor_query(&ctx->cursor, va).kind != QR_ENTRY_NONE ||
            !qr_object_page_is_current(ctx->region->object, first + i, frame) ||
            qr_cursor_prepare(&ctx->cursor, va, 0) != QR_OK)
            continue;
        object_install(ctx, tally, va, frame, &leaf);
        ctx->around[i] = NULL;
        fault_count(ctx, QR_EVENT_FAULT_AROUND);
    }
}

/* The object's own frame. */
static enum fault_step
object_map_page(struct fault_ctx *ctx)
{
    struct qr_tally tally = {.anon = 0};
    bool write = fault_is_write(ctx);
    struct qr_leaf leaf = {
        .prot = write ? qr_region_leaf_prot(ctx->region) : fault_read_prot(ctx->region),
        .flags = QR_LEAF_ACCESSED | (write ? (unsigned)QR_LEAF_WRITTEN : 0),
        .pkey = ctx->region->pkey,
    };

    if (qr_unlikely(ctx->protect)) {
        leaf.prot &= ~(unsigned)QR_PROT_WRITE;
        leaf.flags |= QR_LEAF_SOFT_2;
    }
    if (write)
        qr_object_mark_dirty(ctx->region->object, ctx->page);
    object_install(ctx, &tally, ctx->va, ctx->page, &leaf);
    ctx->frame = ctx->page;
    ctx->page = NULL;
    object_map_around(ctx, &tally);
    qr_tally_apply(&tally, ctx->space);
    /* A write meets a page that is protected: the next attempt tells the listener. */
    return qr_unlikely(ctx->protect) && write ? FAULT_RESTART : FAULT_DONE;
}

/* A private copy of the object's page. */
static enum fault_step
object_copy_page(struct fault_ctx *ctx)
{
    struct qr_frame *copy = qr_fault_take_frame(ctx, 0);

    if (copy == NULL)
        return FAULT_WAIT_MEMORY;
    qr_frame_copy(ctx->vm->config.frames, copy, ctx->page);
    fault_count(ctx, QR_EVENT_COW);
    fault_settle(ctx);
    qr_fault_install_private(ctx, copy);
    return FAULT_DONE;
}

enum fault_step
qr_fault_object(struct fault_ctx *ctx)
{
    size_t index = qr_region_object_page(ctx->region, ctx->va);
    bool device = (ctx->region->flags & QR_REGION_DEVICE) != 0;

    enum fault_step step;

    if (qr_unlikely(ctx->page_absent) && fault_is_watched(ctx, QR_REGION_WATCH_MISSING) &&
        qr_fault_tell(ctx, QR_WATCH_MISSING, &step))
        return step;
    if (!device &&
        (ctx->page == NULL || !qr_object_page_is_current(ctx->region->object, index, ctx->page)))
        return FAULT_NEED_PAGE;
    if (fault_is_watched(ctx, QR_REGION_WATCH_MINOR) && !ctx->page_absent &&
        qr_fault_tell(ctx, QR_WATCH_MINOR, &step))
        return step;
    if (qr_cursor_prepare(&ctx->cursor, ctx->va, 0) != QR_OK)
        return FAULT_WAIT_MEMORY;
    if (device)
        return object_map_device(ctx);
    if (fault_is_write(ctx) && !qr_region_is_shared(ctx->region) && !ctx->protect)
        return object_copy_page(ctx);
    return object_map_page(ctx);
}
