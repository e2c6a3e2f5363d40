/* SPDX-License-Identifier: MIT */
/*
 * A fault on a page that is in swap.
 *
 * Where the swap cache has it, it is mapped read-only, and a write goes on from there as after a fork: it takes the
 * frame over if nobody else has the page (cow.c).  Otherwise the driver has it read with nothing locked; the
 * next attempt looks at the entry anew, which may have gone or name another slot by then.  The reference that
 * the wait brought keeps the page from going out again before the attempt has found it.
 */
#include "fault.h"

#include "space/swap.h"

void
qr_fault_drop_swapped(struct fault_ctx *ctx)
{
    if (!ctx->has_swapped)
        return;
    ctx->has_swapped = false;
    qr_frame_put(ctx->vm->config.frames, ctx->swapped);
}

enum fault_step
qr_fault_swap(struct fault_ctx *ctx)
{
    qr_slot slot = qr_mark_slot(&ctx->entry.mark);

    if (qr_cursor_prepare(&ctx->cursor, ctx->va, 0) != QR_OK)
        return FAULT_WAIT_MEMORY;
    struct qr_frame *frame = qr_swap_lookup(ctx->vm->config.swap, slot);

    if (frame == NULL) {
        ctx->slot = slot;
        return FAULT_WAIT_SWAP;
    }
    qr_fault_drop_swapped(ctx); /* a reference more than the entry's is somebody else's */
    qr_swap_install(ctx->region, &ctx->cursor, &ctx->entry, frame);
    ctx->frame = frame;
    if (!fault_is_write(ctx))
        return FAULT_DONE;
    ctx->entry = qr_cursor_query(&ctx->cursor, ctx->va);
    return qr_fault_leaf(ctx);
}

/* May the group whose page it was, else the space's, have the frame that the page is going to be in?  (ctx->spare.) */
static bool
swap_charge(struct fault_ctx *ctx)
{
    if (qr_swap_charge_owner(ctx->vm->config.swap, ctx->slot, ctx->spare))
        return true;
    struct qr_group *group = qr_space_group_get(ctx->space);
    bool charged = group == NULL || qr_group_charge_frame(group, ctx->spare) == QR_OK;

    qr_group_put(group);
    return charged;
}

enum fault_step
qr_fault_wait_swap(struct fault_ctx *ctx)
{
    struct qr_swap *swap = ctx->vm->config.swap;
    struct qr_frame *none = NULL;

    qr_fault_drop_swapped(ctx);
    enum qr_status status = qr_swap_fetch(swap, ctx->slot, &none, &ctx->swapped);

    if (status == QR_ERR_AGAIN) {
        if (ctx->spare == NULL)
            return FAULT_WAIT_MEMORY;
        ctx->full = !swap_charge(ctx);
        if (ctx->full)
            return FAULT_WAIT_MEMORY;
        if (!ctx->major)
            fault_count(ctx, QR_EVENT_MAJOR_FAULT);
        ctx->major = true;
        status = qr_swap_fetch(swap, ctx->slot, &ctx->spare, &ctx->swapped);
    }
    ctx->has_swapped = status == QR_OK;
    if (status != QR_ERR_IO)
        return FAULT_RESTART;
    ctx->outcome = QR_FAULT_BEYOND_END;
    return FAULT_DONE;
}
