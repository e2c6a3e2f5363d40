/* SPDX-License-Identifier: MIT */
/*
 * Stage 3: look at the entry and make it grant the access.
 *
 * The entry decides, not what was believed before: another CPU may have handled
 * the same fault meanwhile.  An object's page is fetched with no cursor open,
 * since the object's lock comes before table locks: where an entry asks for it,
 * or beforehand where none is likely to stand; then the entry is looked at again.
 */
#include "fault.h"

/* How often the page may have to be fetched before a restart. */
#define RESOLVE_ROUNDS 3

static struct qr_va_range
resolve_range(const struct fault_ctx *ctx)
{
    if (qr_unlikely(ctx->want_huge))
        return qr_huge_range(ctx->vm, ctx->va);
    if (ctx->around_count > 0)
        return qr_range_of(ctx->around_va.v,
                           ctx->around_va.v + (ctx->around_count << QR_PAGE_SHIFT));
    return qr_range_of(ctx->va.v, ctx->va.v + QR_PAGE_SIZE);
}

static enum fault_step
resolve_entry(struct fault_ctx *ctx)
{
    ctx->protect = false;
    switch (ctx->entry.kind) {
    case QR_ENTRY_LEAF:
        return qr_fault_leaf(ctx);
    case QR_ENTRY_MARK:
        return qr_fault_mark(ctx);
    case QR_ENTRY_NONE:
        break;
    }
    return qr_region_is_anonymous(ctx->region) ? qr_fault_anonymous(ctx) : qr_fault_object(ctx);
}

static enum fault_step
resolve_once(struct fault_ctx *ctx)
{
    qr_cursor_open(&ctx->cursor, &ctx->space->tables, resolve_range(ctx), &ctx->batch);
    ctx->entry = qr_cursor_query(&ctx->cursor, ctx->va);
    enum fault_step step = resolve_entry(ctx);

    if (step == FAULT_DONE && ctx->want_frame && ctx->outcome == QR_FAULT_HANDLED &&
        ctx->frame != NULL)
        qr_frame_get(ctx->frame); /* while the cursor keeps the entry as it is */
    qr_cursor_close(&ctx->cursor);
    if (ctx->batch.registered || ctx->batch.frame_count > 0)
        qr_tlb_batch_finish(&ctx->batch);
    return step;
}

/* In a shared mapping the entry can hardly be anything but empty: fetch the page at once. */
static bool
resolve_wants_page(const struct fault_ctx *ctx)
{
    return qr_region_is_shared(ctx->region) && ctx->page == NULL &&
           (ctx->region->flags & QR_REGION_DEVICE) == 0;
}

enum fault_step
qr_fault_resolve(struct fault_ctx *ctx)
{
    if (qr_region_is_hugetlb(ctx->region))
        return qr_fault_hugetlb(ctx);
    if (resolve_wants_page(ctx)) {
        enum fault_step step = FAULT_NEXT;

        if (qr_unlikely(qr_object_shows_blocks(ctx->region->object)) && qr_fault_wants_block(ctx))
            step = qr_fault_block(ctx);
        if (step == FAULT_NEXT)
            step = qr_fault_fetch_page(ctx);

        if (step != FAULT_NEXT)
            return step;
    }
    for (unsigned round = 0; round < RESOLVE_ROUNDS; round++) {
        enum fault_step step = resolve_once(ctx);

        if (step != FAULT_NEED_PAGE)
            return step;
        step = qr_fault_fetch_page(ctx);
        if (step != FAULT_NEXT)
            return step;
    }
    return FAULT_RESTART;
}

/* A software entry: what it says, nothing else, is the answer. */
enum fault_step
qr_fault_mark(struct fault_ctx *ctx)
{
    switch (ctx->entry.mark.kind) {
    case QR_MARK_GUARD:
        return fault_end(ctx, QR_FAULT_NO_REGION); /* Linux: SEGV_MAPERR */
    case QR_MARK_POISON:
        return fault_end(ctx, QR_FAULT_POISON);
    case QR_MARK_WRITE_PROTECT: /* an absent page, to be protected when it comes */
        ctx->protect = (ctx->region->flags & QR_REGION_WATCH_WRITE) != 0;
        return qr_region_is_anonymous(ctx->region) ? qr_fault_anonymous(ctx) : qr_fault_object(ctx);
    case QR_MARK_SWAP:
        return qr_fault_swap(ctx);
    case QR_MARK_NONE:
    case QR_MARK_MIGRATING:
    case QR_MARK_KIND_COUNT:
        break;
    }
    qr_panic("mark %d at %p, which nothing in this configuration sets: a stray write to a table?",
             (int)ctx->entry.mark.kind, (void *)ctx->va.v);
}

/* ---- Leaves ---------------------------------------------------------------- */

/* The object has let go of the page; whoever truncates it will be here soon.  Help along. */
static enum fault_step
leaf_drop_stale(struct fault_ctx *ctx, struct qr_frame *frame)
{
    struct qr_tally tally = {.anon = 0};

    (void)qr_cursor_unmap(&ctx->cursor, ctx->va);
    qr_space_note_peak(ctx->space);
    qr_tally_leaf(&tally, ctx->region, frame, -1);
    qr_tally_apply(&tally, ctx->space);
    qr_tlb_batch_add_frame(&ctx->batch, frame);
    return FAULT_NEED_PAGE;
}

/* The first store to a shared page since it was clean: mark it, under the table lock. */
static enum fault_step
leaf_write_shared(struct fault_ctx *ctx, struct qr_frame *frame)
{
    struct qr_object *object = ctx->region->object;

    if (frame != NULL) {
        size_t index = qr_region_object_page(ctx->region, ctx->va);

        if (!qr_object_page_is_current(object, index, frame))
            return leaf_drop_stale(ctx, frame);
        qr_object_mark_dirty(object, frame);
    }
    qr_cursor_update(&ctx->cursor, ctx->va, qr_region_leaf_prot(ctx->region),
                     QR_LEAF_ACCESSED | QR_LEAF_WRITTEN, QR_LEAF_SOFT_2);
    return FAULT_DONE;
}

enum fault_step
qr_fault_leaf(struct fault_ctx *ctx)
{
    const struct qr_leaf *leaf = &ctx->entry.leaf;
    bool write = fault_is_write(ctx);

    if (qr_unlikely(ctx->entry.level > 0))
        return qr_fault_large_leaf(ctx);
    ctx->frame =
        leaf->pa.v == ctx->vm->zero_pa.v ? ctx->vm->zero : qr_leaf_frame(ctx->region, leaf);
    if (write && (leaf->prot & QR_PROT_WRITE) == 0) {
        enum fault_step step;

        if (qr_unlikely(qr_leaf_is_write_watched(ctx->region, leaf)) &&
            qr_fault_tell(ctx, QR_WATCH_WRITE, &step))
            return step;
        if (qr_region_is_shared(ctx->region) || (ctx->region->flags & QR_REGION_DEVICE) != 0)
            return leaf_write_shared(ctx, ctx->frame);
        return qr_fault_break_cow(ctx);
    }
    /* Somebody else was faster, or asks for what is there.  WRITE stays as it is. */
    ctx->spurious = true;
    qr_cursor_update(&ctx->cursor, ctx->va,
                     (qr_region_leaf_prot(ctx->region) & ~(unsigned)QR_PROT_WRITE) |
                         (leaf->prot & QR_PROT_WRITE),
                     QR_LEAF_ACCESSED | (write ? (unsigned)QR_LEAF_WRITTEN : 0), 0);
    /* A CPU that caches the lack of a right must forget it. */
    if (!ctx->probe)
        qr_tlb_batch_note(&ctx->batch, ctx->va, QR_PAGE_SHIFT);
    return FAULT_DONE;
}
