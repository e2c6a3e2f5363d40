/* SPDX-License-Identifier: MIT */
/*
 * A write met a private page that must not be written in place.  Take the frame
 * over when nobody else has it, else make a copy.
 *
 * Exclusive means one reference: this entry's own.  Other entries, pins of
 * get_frame() and frames on their way through a flush batch all hold references,
 * and new ones need the table lock, which the cursor holds: a count of 1 is final
 * (invariants 3).  A page of an object and the frame of zeroes are never taken
 * over, whatever their counts and whatever bits a debugger's write left behind
 * (invariants 1, 2, 4): only the type ANON counts.  So a merged frame is always copied, even for its
 * last user: it may gain another at any moment.
 *
 * The copy is put in place by clearing the entry, flushing it everywhere, and
 * only then setting the new one: no CPU reads the old frame once another has
 * written the new one.
 */
#include "fault.h"

static bool
frame_is_exclusive(const struct qr_frame *frame)
{
    return qr_frame_type(frame) == QR_FRAME_ANON &&
           atomic_load_explicit(&frame->refs, memory_order_acquire) == 1;
}

/* The same of a page in the swap cache, which lets go of it where this entry is all it is for. */
static bool
frame_can_leave_swap(const struct fault_ctx *ctx, struct qr_frame *frame)
{
    return qr_unlikely(qr_frame_type(frame) == QR_FRAME_SWAP) &&
           qr_swap_take(ctx->vm->config.swap, frame);
}

/* Take the shared frame's entry out, everywhere, and give up its reference. */
static void
cow_retire(struct fault_ctx *ctx, struct qr_frame *shared)
{
    (void)qr_cursor_unmap(&ctx->cursor, ctx->va);
    if (shared != ctx->vm->zero) {
        struct qr_tally tally = {.anon = 0};

        qr_tally_leaf(&tally, ctx->region, shared, -1);
        qr_tally_apply(&tally, ctx->space);
        qr_tlb_batch_add_frame(&ctx->batch, shared);
    }
    qr_tlb_batch_finish(&ctx->batch);
}

enum fault_step
qr_fault_break_cow(struct fault_ctx *ctx)
{
    struct qr_frame *shared = ctx->frame;
    bool zero = shared == ctx->vm->zero;

    qr_assert(shared != NULL && fault_is_write(ctx) && !qr_region_is_shared(ctx->region));
    if (!zero && (frame_is_exclusive(shared) || frame_can_leave_swap(ctx, shared))) {
        fault_count(ctx, QR_EVENT_COW_REUSE);
        atomic_store_explicit(&shared->owner, ctx->space, memory_order_relaxed);
        atomic_store_explicit(&shared->index, ctx->va.v >> QR_PAGE_SHIFT, memory_order_relaxed);
        qr_cursor_update(&ctx->cursor, ctx->va, qr_region_leaf_prot(ctx->region),
                         QR_LEAF_ACCESSED | QR_LEAF_WRITTEN, QR_LEAF_SOFT_2);
        return FAULT_DONE;
    }
    struct qr_frame *copy = qr_fault_take_frame(ctx, zero ? QR_ALLOC_ZERO : 0);

    if (copy == NULL)
        return FAULT_WAIT_MEMORY;
    if (zero) {
        fault_count(ctx, QR_EVENT_ZERO_FILL);
    } else {
        qr_frame_copy(ctx->vm->config.frames, copy, shared);
        fault_count(ctx, QR_EVENT_COW);
        if (qr_unlikely(qr_frame_is_merged(shared)))
            fault_count(ctx, QR_EVENT_COW_MERGED);
    }
    cow_retire(ctx, shared);
    qr_fault_install_private(ctx, copy);
    return FAULT_DONE;
}
