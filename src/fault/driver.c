/* SPDX-License-Identifier: MIT */
/*
 * Page faults: a driver and stages.
 *
 *   find_region -> check_access -> resolve -+-> anonymous
 *        |                                  +-> object
 *     stack growth                          +-> leaf -> break_cow
 *                                           +-> mark
 *
 * A stage never unlocks and never waits.  It says what it needs (a page, memory,
 * the other lock mode) and the driver drops everything, gets it, and starts from
 * the first stage again: region, rights and entry are all looked at anew after
 * every wait (invariants 1, 4, 23, 24, 33).  What a wait brought along is only an
 * offer: a spare frame belongs to nobody, and an object's page is asked under the
 * table lock whether it still is that page.
 *
 * The number of attempts is bounded.  Whoever runs out of them returns to the
 * user, whose instruction faults again: progress is then the scheduler's.
 *
 * Memory is first tried for without sleeping, inside the cursor: the common fault
 * takes its frame, clears it and installs it in one transaction.
 *
 * Locks: the space's for reading; for writing while a stack grows.
 */
#include "fault.h"

/* Attempts before the fault is left to the next try of the instruction. */
#define FAULT_ATTEMPTS 32
/* Waits for memory before the machine is out of it. */
#define FAULT_MEMORY_WAITS 4
/* The same for room in the space's group. */
#define FAULT_GROUP_WAITS 16

static enum fault_step
fault_stages(struct fault_ctx *ctx)
{
    enum fault_step step = qr_fault_find_region(ctx);

    if (step == FAULT_NEXT)
        step = qr_fault_check_access(ctx);
    if (step == FAULT_NEXT)
        step = qr_fault_resolve(ctx);
    return step;
}

static void
fault_lock(struct fault_ctx *ctx)
{
    if (ctx->lock_for_write)
        qr_rw_write_lock(&ctx->space->lock);
    else
        qr_rw_read_lock(&ctx->space->lock);
}

static void
fault_unlock(struct fault_ctx *ctx)
{
    if (ctx->lock_for_write)
        qr_rw_write_unlock(&ctx->space->lock);
    else
        qr_rw_read_unlock(&ctx->space->lock);
    ctx->lock_for_write = false;
}

/* Nothing is locked.  @return whether to try again */
static bool
fault_wait_memory(struct fault_ctx *ctx, struct qr_mempolicy *policy, size_t place, unsigned waits)
{
    struct qr_frame *frame = NULL;
    unsigned flags = QR_ALLOC_MOVABLE;

    /* After the first try it may be a table that is missing: these are not in high memory. */
    if (waits == 0)
        flags |= QR_ALLOC_HIGH;
    if (waits < FAULT_MEMORY_WAITS)
        frame = qr_frame_alloc_policy(ctx->vm->config.frames,
                                      policy == NULL ? NULL : &policy->policy, place, 0, flags);
    if (frame == NULL) {
        ctx->outcome = QR_FAULT_NO_MEMORY;
        return false;
    }
    if (ctx->spare == NULL)
        ctx->spare = frame;
    else
        qr_frame_put(ctx->vm->config.frames, frame); /* a table was wanted: there is room now */
    return true;
}

/* The same where it is the space's group that may not have more. */
static bool
fault_wait_group(struct fault_ctx *ctx, unsigned waits)
{
    struct qr_group *group = qr_space_group_get(ctx->space);
    /* A page, and after the first try perhaps tables, which the attempt had to give back. */
    size_t pages = waits == 0 ? 1 : 1 + QR_LEVELS_MAX;
    bool again = group == NULL || (waits < FAULT_GROUP_WAITS && qr_group_make_room(group, pages));

    ctx->full = false;
    qr_group_put(group);
    if (!again)
        ctx->outcome = QR_FAULT_NO_MEMORY;
    return again;
}

/* Has shared memory's page to be read from swap? */
static bool
page_is_away(struct qr_object *object, size_t index)
{
    return qr_object_swapped(object) != 0 && qr_object_where(object, index) == QR_PAGE_IN_SWAP;
}

/* Nothing is locked; @object has a reference of ours.  @return whether to try again */
static bool
fault_wait_page(struct fault_ctx *ctx, struct qr_object *object, size_t index, bool alone)
{
    if (alone) /* once it is on its way, nothing is read with it */
        qr_object_read_ahead(object, index, 1);
    bool read = !qr_object_is_memory(object) || page_is_away(object, index);
    enum qr_status status = qr_object_get_page(object, index, QR_PAGE_FILL, &ctx->page);

    if (read && !ctx->major) {
        ctx->major = true;
        fault_count(ctx, QR_EVENT_MAJOR_FAULT);
    }
    qr_object_put(object);
    if (status == QR_OK || status == QR_ERR_RANGE)
        return true; /* past the end: the next attempt finds that by itself */
    ctx->outcome = status == QR_ERR_NO_MEMORY ? QR_FAULT_NO_MEMORY : QR_FAULT_BEYOND_END;
    return false;
}

/*
 * Drop everything that an attempt which ended with @step holds, and get what it
 * needs.  @return whether to try again
 */
static bool
fault_end_attempt(struct fault_ctx *ctx, enum fault_step step, unsigned *memory_waits)
{
    struct qr_mempolicy *policy = NULL;
    struct qr_object *object = NULL;
    size_t index = 0;
    bool again = true;
    bool grow = step == FAULT_RESTART && ctx->want_write;
    bool alone = false;

    if (step == FAULT_WAIT_PAGE || step == FAULT_WAIT_BLOCK) {
        alone = (ctx->region->flags & QR_REGION_RANDOM) != 0;
        object = ctx->region->object;
        index = qr_region_object_page(ctx->region, ctx->va);
        qr_object_get(object);
    } else if (step == FAULT_WAIT_MEMORY || step == FAULT_WAIT_HUGE || step == FAULT_WAIT_SWAP) {
        policy = fault_policy(ctx);
        index = fault_place(ctx);
        qr_mempolicy_get(policy);
    }
    fault_unlock(ctx);
    ctx->lock_for_write = grow;
    ctx->want_write = false;
    if (step != FAULT_RESTART)
        qr_fault_drop_pages(ctx);
    if (step == FAULT_DONE)
        return false;
    ctx->region = NULL;
    ctx->frame = NULL; /* what an attempt saw means nothing once it is over */
    if (step == FAULT_WAIT_SWAP) {
        step = qr_fault_wait_swap(ctx);
        again = step != FAULT_DONE;
    }
    if (step == FAULT_WAIT_MEMORY && (ctx->full || qr_space_was_refused(ctx->space)))
        again = fault_wait_group(ctx, (*memory_waits)++);
    else if (step == FAULT_WAIT_MEMORY)
        again = fault_wait_memory(ctx, policy, index, (*memory_waits)++);
    else if (step == FAULT_WAIT_PAGE)
        again = fault_wait_page(ctx, object, index, alone);
    else if (step == FAULT_WAIT_HUGE)
        qr_fault_wait_huge(ctx, policy, index);
    else if (step == FAULT_WAIT_BLOCK)
        qr_fault_wait_block(ctx, object, index);
    else if (step == FAULT_WAIT_LISTENER)
        again = qr_fault_wait_listener(ctx);
    qr_mempolicy_put(policy);
    return again;
}

/* The first attempt ended with @step and something to give back or to wait for. */
static QR_NOINLINE enum qr_fault_outcome
fault_run_slowly(struct fault_ctx *ctx, enum fault_step step)
{
    unsigned memory_waits = 0;

    for (unsigned i = 1; fault_end_attempt(ctx, step, &memory_waits) && i < FAULT_ATTEMPTS; i++) {
        fault_lock(ctx);
        step = fault_stages(ctx);
    }
    qr_fault_drop_pages(ctx);
    qr_fault_drop_swapped(ctx);
    if (ctx->spare != NULL)
        qr_frame_put(ctx->vm->config.frames, ctx->spare);
    if (ctx->huge != NULL)
        qr_frame_put_run(ctx->vm->config.frames, ctx->huge, qr_vm_huge_pages(ctx->vm));
    return ctx->outcome;
}

void
qr_fault_begin(struct fault_ctx *ctx, struct qr_space *space, qr_va va, unsigned access)
{
    ctx->space = space;
    ctx->vm = space->vm;
    ctx->va = qr_va_of(qr_va_page_down(va.v));
    ctx->access = access & (QR_ACCESS_READ | QR_ACCESS_WRITE | QR_ACCESS_EXEC);
    ctx->key_violation = false;
    ctx->probe = false;
    ctx->user_mode = false;
    ctx->offset = va.v & QR_PAGE_MASK;
    ctx->page_absent = false;
    ctx->protect = false;
    ctx->force = false;
    ctx->want_frame = false;
    ctx->lock_for_write = false;
    ctx->want_write = false;
    ctx->want_huge = false;
    ctx->no_huge = false;
    ctx->full = false;
    ctx->major = false;
    ctx->spurious = false;
    ctx->has_swapped = false;
    ctx->region = NULL;
    ctx->spare = NULL;
    ctx->huge = NULL;
    ctx->page = NULL;
    ctx->around_count = 0;
    ctx->outcome = QR_FAULT_HANDLED;
    ctx->frame = NULL;
    qr_tlb_batch_init(&ctx->batch, &space->tlb);
}

enum qr_fault_outcome
qr_fault_run(struct fault_ctx *ctx)
{
    qr_rw_read_lock(&ctx->space->lock);
    enum fault_step step = fault_stages(ctx);

    if (qr_unlikely(step != FAULT_DONE || ctx->page != NULL || ctx->around_count > 0))
        return fault_run_slowly(ctx, step);
    qr_rw_read_unlock(&ctx->space->lock);
    return ctx->outcome;
}

enum qr_fault_outcome
qr_fault_handle(struct qr_space *space, const struct qr_fault *fault)
{
    struct fault_ctx ctx;

    qr_fault_begin(&ctx, space, fault->va, fault->access);
    ctx.key_violation = fault->key_violation;
    ctx.user_mode = fault->user_mode;
    fault_count(&ctx, QR_EVENT_FAULT);
    enum qr_fault_outcome outcome = qr_fault_run(&ctx);

    if (qr_unlikely(ctx.major) && fault->out_major != NULL)
        *fault->out_major = true;
    return outcome;
}
