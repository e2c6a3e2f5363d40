/* SPDX-License-Identifier: MIT */
/*
 * A fault on a large leaf.
 *
 *   read, or the right is there     flags of the whole leaf
 *   write to shared memory          the whole leaf becomes writable
 *   write, all frames exclusive     the whole leaf becomes writable: no copy
 *   write, somebody shares one      the leaf is split, and one page is copied
 *
 * After a fork most programs write little before they exec, and a copy of a huge page costs as
 * much as some hundred small ones; so only what is written is copied, as in Linux.  What
 * the pages could gain by being huge again, collapse gives back.
 */
#include "fault.h"

struct large_owner {
    struct qr_space *space;
    uintptr_t page;
};

static void
large_own_frame(void *context, struct qr_frame *frame, size_t index)
{
    const struct large_owner *owner = context;

    atomic_store_explicit(&frame->owner, owner->space, memory_order_relaxed);
    atomic_store_explicit(&frame->index, owner->page + index, memory_order_relaxed);
}

/* All of it is ours alone: write in place. */
static enum fault_step
large_reuse(struct fault_ctx *ctx, const struct qr_large *large)
{
    struct large_owner owner = {ctx->space, ctx->entry.start.v >> QR_PAGE_SHIFT};

    qr_large_each_frame(ctx->vm->config.frames, large, large_own_frame, &owner);
    fault_count(ctx, QR_EVENT_COW_REUSE);
    qr_cursor_update(&ctx->cursor, ctx->va, qr_region_leaf_prot(ctx->region),
                     QR_LEAF_ACCESSED | QR_LEAF_WRITTEN, 0);
    return FAULT_DONE;
}

/* What the one page says, once the leaf is a table. */
static enum fault_step
large_split(struct fault_ctx *ctx)
{
    if (qr_large_split(&ctx->cursor, ctx->space, &ctx->entry) != QR_OK)
        return FAULT_WAIT_MEMORY;
    ctx->entry = qr_cursor_query(&ctx->cursor, ctx->va);
    return ctx->entry.kind == QR_ENTRY_LEAF ? qr_fault_leaf(ctx) : qr_fault_anonymous(ctx);
}

/* The frame of the page that faults. */
static struct qr_frame *
large_frame(struct fault_ctx *ctx, const struct qr_large *large)
{
    uint64_t pa = ctx->entry.leaf.pa.v + (ctx->va.v - ctx->entry.start.v);

    if (large->head == NULL)
        return ctx->vm->zero;
    return qr_frame_of(ctx->vm->config.frames, qr_pa_to_pfn(qr_pa_of(pa)));
}

enum fault_step
qr_fault_large_leaf(struct fault_ctx *ctx)
{
    const struct qr_leaf *leaf = &ctx->entry.leaf;
    struct qr_large large = qr_large_of(ctx->space, &ctx->entry);
    bool write = fault_is_write(ctx);

    ctx->frame = large_frame(ctx, &large);
    if (write && (leaf->prot & QR_PROT_WRITE) == 0 && qr_region_is_shared(ctx->region)) {
        qr_cursor_update(&ctx->cursor, ctx->va, qr_region_leaf_prot(ctx->region),
                         QR_LEAF_ACCESSED | QR_LEAF_WRITTEN, 0);
        return FAULT_DONE;
    }
    if (write && (leaf->prot & QR_PROT_WRITE) == 0) {
        qr_assert(qr_region_is_anonymous(ctx->region));
        if (qr_large_is_exclusive(ctx->vm->config.frames, &large))
            return large_reuse(ctx, &large);
        return large_split(ctx);
    }
    ctx->spurious = true;
    qr_cursor_update(&ctx->cursor, ctx->va,
                     (qr_region_leaf_prot(ctx->region) & ~(unsigned)QR_PROT_WRITE) |
                         (leaf->prot & QR_PROT_WRITE),
                     QR_LEAF_ACCESSED | (write ? (unsigned)QR_LEAF_WRITTEN : 0), 0);
    /* A CPU that caches the lack of a right must forget it. */
    if (!ctx->probe)
        qr_tlb_batch_note(&ctx->batch, ctx->entry.start,
                          qr_format_shift(ctx->space->tables.format, ctx->entry.level));
    return FAULT_DONE;
}
