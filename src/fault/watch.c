/* SPDX-License-Identifier: MIT */
/*
 * Faults that a listener is told of (src/space/listener.c has the protocol).
 *
 * A stage that meets such a fault queues a waiter with the cursor still open and returns
 * WAIT_LISTENER; the driver drops everything and sleeps.  After the wake-up all stages run
 * again: what the listener did, if anything, shows in the entry.
 */
#include "fault.h"
#include "space/hugetlb.h"

/* Will the listener have to do without this fault? */
static bool
tell_is_refused(const struct fault_ctx *ctx, const struct qr_listener *listener)
{
    unsigned options = atomic_load_explicit(&listener->options, memory_order_relaxed);

    return (options & QR_LISTENER_NO_WAIT) != 0 ||
           ((options & QR_LISTENER_USER_ONLY) != 0 && !ctx->user_mode);
}

static qr_va
page_start(const struct fault_ctx *ctx)
{
    const struct qr_hugetlb_pool *pool = qr_region_hugetlb_pool(ctx->region);

    return pool == NULL ? ctx->va : qr_hugetlb_page_range(pool, ctx->va).start;
}

bool
qr_fault_tell(struct fault_ctx *ctx, enum qr_watch kind, enum fault_step *out_step)
{
    struct qr_listener *listener = ctx->region->listener;

    if (atomic_load_explicit(&listener->closed, memory_order_relaxed))
        return false;
    if (tell_is_refused(ctx, listener)) {
        *out_step = fault_end(ctx, QR_FAULT_BEYOND_END);
        return true;
    }
    ctx->waiter.va = qr_va_of(ctx->va.v + ctx->offset);
    ctx->waiter.page = page_start(ctx);
    ctx->waiter.access = ctx->access;
    ctx->waiter.kind = kind;
    ctx->waiter.user_mode = ctx->user_mode;
    ctx->waiter.tag = 0;
    if (!qr_listener_queue(listener, &ctx->waiter))
        return false;
    qr_listener_get(listener);
    ctx->told = listener;
    *out_step = FAULT_WAIT_LISTENER;
    return true;
}

bool
qr_fault_wait_listener(struct fault_ctx *ctx)
{
    struct qr_listener *listener = ctx->told;
    bool woken = qr_listener_wait(listener, &ctx->waiter);

    ctx->told = NULL;
    qr_listener_put(listener);
    if (!woken)
        ctx->outcome = QR_FAULT_INTERRUPTED;
    return woken;
}
