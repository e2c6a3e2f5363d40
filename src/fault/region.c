/* SPDX-License-Identifier: MIT */
/*
 * Stages 1 and 2: the region, its growth where it is a stack, and whether the
 * access is allowed.
 *
 *   [ below ]        guard gap        [v v v stack ]
 *            |<- stack_guard_pages ->|  grows to here at most
 *
 * A stack grows by changing the tree, so under the lock for writing alone
 * (invariants 6); the gap below is kept by growth here as by placement
 * (invariants 17), and the floor of the user half holds for growth too
 * (invariants 18).  A region without rights may lie in the gap: it is somebody's
 * own guard; and so may one that grows down, as in Linux: the lower half of a stack.
 */
#include "fault.h"

static bool
grow_gap_is_free(const struct qr_region *stack, uintptr_t start)
{
    const struct qr_region *below = qr_region_previous(stack);
    size_t guard = qr_vm_guard_bytes(stack->space->vm);

    if (below == NULL || (below->prot & QR_PROT_RWX) == 0 ||
        (below->flags & QR_REGION_GROWS_DOWN) != 0)
        return true;
    return start - below->end.v >= guard;
}

/* May @stack start at @start?  Decides only. */
static bool
grow_is_allowed(const struct qr_region *stack, uintptr_t start)
{
    const struct qr_space *space = stack->space;
    size_t pages = (stack->start.v - start) >> QR_PAGE_SHIFT;

    if (start < qr_vm_floor(space->vm).v || !grow_gap_is_free(stack, start))
        return false;
    if (stack->object != NULL && stack->object_page < pages)
        return false;
    if (stack->end.v - start > qr_space_limits(space)->stack)
        return false;
    if ((stack->flags & QR_REGION_LOCKED) != 0 && !qr_count_may_lock(space, pages))
        return false;
    return qr_count_may_grow(space, stack->prot, stack->flags, pages) &&
           qr_count_may_commit(space, stack->flags, pages);
}

static enum fault_step
fault_grow_stack(struct fault_ctx *ctx, struct qr_region *stack)
{
    if (!grow_is_allowed(stack, ctx->va.v))
        return fault_end(ctx, QR_FAULT_NO_REGION);
    if (!ctx->lock_for_write) {
        ctx->want_write = true;
        return FAULT_RESTART;
    }
    qr_region_resize(stack, qr_range_of(ctx->va.v, stack->end.v));
    qr_rw_downgrade(&ctx->space->lock);
    ctx->lock_for_write = false;
    ctx->region = stack;
    return FAULT_NEXT;
}

enum fault_step
qr_fault_find_region(struct fault_ctx *ctx)
{
    struct qr_region *region = qr_space_find(ctx->space, ctx->va);

    if (region == NULL)
        return fault_end(ctx, QR_FAULT_NO_REGION);
    if (region->start.v <= ctx->va.v) {
        ctx->region = region;
        return FAULT_NEXT;
    }
    /* A stack grows for its user and for a debugger; nobody else's look below it means growth. */
    if ((region->flags & QR_REGION_GROWS_DOWN) == 0 || (ctx->probe && !ctx->force))
        return fault_end(ctx, QR_FAULT_NO_REGION);
    return fault_grow_stack(ctx, region);
}

/* As a debugger: reads what may ever be read; writes to private memory, by copying. */
static bool
access_may_be_forced(const struct qr_region *region, unsigned access)
{
    if ((access & QR_ACCESS_EXEC) != 0)
        return false;
    if ((access & QR_ACCESS_WRITE) != 0)
        return !qr_region_is_shared(region) && (region->flags & QR_REGION_DEVICE) == 0;
    return (region->max_prot & QR_PROT_READ) != 0;
}

enum fault_step
qr_fault_check_access(struct fault_ctx *ctx)
{
    const struct qr_region *region = ctx->region;
    unsigned missing = ctx->access & ~region->prot;

    if (ctx->key_violation)
        return fault_end(ctx, QR_FAULT_KEY);
    /* What may be written or executed may be read: no hardware here can refuse it. */
    if ((region->prot & QR_PROT_RWX) != 0)
        missing &= ~(unsigned)QR_ACCESS_READ;
    if (missing == 0 || (ctx->force && access_may_be_forced(region, ctx->access)))
        return FAULT_NEXT;
    return fault_end(ctx, QR_FAULT_PROTECTION);
}
