/* SPDX-License-Identifier: MIT */
/*
 * First touch of private anonymous memory.
 *
 * Read: the machine's frame of zeroes, read-only, neither counted nor referenced.
 * Write: a cleared frame of one's own.
 *
 * Where the first page of a whole block is touched, huge.c is asked first.
 */
#include "fault.h"

static inline struct qr_frame *
take_frame(struct fault_ctx *ctx, unsigned alloc_flags)
{
    struct qr_frame *frame = ctx->spare;

    if (frame == NULL) {
        struct qr_mempolicy *policy = fault_policy(ctx);

        alloc_flags |= QR_ALLOC_ATOMIC | QR_ALLOC_NO_REPORT | QR_ALLOC_MOVABLE | QR_ALLOC_HIGH;
        if (qr_likely(policy == NULL))
            return qr_frame_alloc(ctx->vm->config.frames, alloc_flags);
        return qr_frame_alloc_policy(ctx->vm->config.frames, &policy->policy, fault_place(ctx), 0,
                                     alloc_flags);
    }
    ctx->spare = NULL;
    if ((alloc_flags & QR_ALLOC_ZERO) != 0)
        qr_frame_clear(ctx->vm->config.frames, frame);
    return frame;
}

/* A frame that its group may not have is kept for the next attempt.  S. */
static QR_NOINLINE struct qr_frame *
charge_frame(struct fault_ctx *ctx, struct qr_group *group, struct qr_frame *frame)
{
    if (frame == NULL || qr_group_charge_frame(group, frame) == QR_OK)
        return frame;
    ctx->spare = frame;
    ctx->full = true;
    return NULL;
}

struct qr_frame *
qr_fault_take_frame(struct fault_ctx *ctx, unsigned alloc_flags)
{
    struct qr_frame *frame = take_frame(ctx, alloc_flags);
    struct qr_group *group = atomic_load_explicit(&ctx->space->group, memory_order_relaxed);

    return qr_likely(group == NULL) ? frame : charge_frame(ctx, group, frame);
}

static QR_ALWAYS_INLINE void
install_private(struct fault_ctx *ctx, struct qr_frame *frame, unsigned prot, unsigned flags)
{
    struct qr_leaf leaf = {
        .pa = qr_frame_pa(ctx->vm->config.frames, frame),
        .prot = prot,
        .flags = QR_LEAF_ACCESSED | QR_LEAF_WRITTEN | flags,
        .pkey = ctx->region->pkey,
    };

    qr_frame_set_type(frame, QR_FRAME_ANON);
    /* A hint for whoever wants to move the frame: where to look, to be checked there. */
    atomic_store_explicit(&frame->owner, ctx->space, memory_order_relaxed);
    atomic_store_explicit(&frame->index, ctx->va.v >> QR_PAGE_SHIFT, memory_order_relaxed);
    atomic_store_explicit(&frame->maps, 1, memory_order_relaxed);
    fault_publish_code(&leaf);
    qr_cursor_map(&ctx->cursor, ctx->va, &leaf);
    atomic_fetch_add_explicit(&ctx->space->resident[QR_RESIDENT_ANON], 1, memory_order_relaxed);
    qr_counter_add(ctx->vm->counters, QR_PAGES_ANON, 1);
    ctx->frame = frame;
}

void
qr_fault_install_private(struct fault_ctx *ctx, struct qr_frame *frame)
{
    install_private(ctx, frame, qr_region_leaf_prot(ctx->region), 0);
}

void
qr_fault_install_protected(struct fault_ctx *ctx, struct qr_frame *frame)
{
    install_private(ctx, frame, qr_region_leaf_prot(ctx->region) & ~(unsigned)QR_PROT_WRITE,
                    QR_LEAF_SOFT_2);
}

void
qr_fault_install_zero(struct fault_ctx *ctx)
{
    struct qr_leaf leaf = {
        .pa = ctx->vm->zero_pa,
        .prot = qr_region_leaf_prot(ctx->region) & ~(unsigned)QR_PROT_WRITE,
        .flags = QR_LEAF_ACCESSED,
        .pkey = ctx->region->pkey,
    };

    qr_cursor_map(&ctx->cursor, ctx->va, &leaf);
    ctx->frame = ctx->vm->zero;
}

/* Whether nothing at all stands under the entry that would hold a huge page. */
static inline bool
fault_table_is_empty(const struct fault_ctx *ctx)
{
    return ctx->entry.level > 0 || qr_cursor_table_entries(&ctx->cursor) == 0;
}

enum fault_step
qr_fault_anonymous(struct fault_ctx *ctx)
{
    enum fault_step step;

    if (fault_is_watched(ctx, QR_REGION_WATCH_MISSING) &&
        qr_fault_tell(ctx, QR_WATCH_MISSING, &step))
        return step;
    if (qr_unlikely(fault_table_is_empty(ctx)) && qr_fault_wants_huge(ctx)) {
        step = qr_fault_huge(ctx);
        if (step != FAULT_NEXT)
            return step;
    }
    if (qr_cursor_prepare(&ctx->cursor, ctx->va, 0) != QR_OK)
        return FAULT_WAIT_MEMORY;
    if (!fault_is_write(ctx)) {
        qr_fault_install_zero(ctx);
        return FAULT_DONE;
    }
    struct qr_frame *frame = qr_fault_take_frame(ctx, QR_ALLOC_ZERO);

    if (frame == NULL)
        return FAULT_WAIT_MEMORY;
    fault_count(ctx, QR_EVENT_ZERO_FILL);
    qr_fault_install_private(ctx, frame);
    return FAULT_DONE;
}
