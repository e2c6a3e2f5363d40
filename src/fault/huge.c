/* SPDX-License-Identifier: MIT */
/*
 * First touch of a block that can be a huge page.
 *
 * The first attempt finds that nothing stands in the block, and asks the driver for frames: these
 * are taken and cleared (bounded by HUGE_PAGES_MAX) with nothing locked and interrupts on.  The next
 * attempt opens its cursor on all of the block and maps it, if still nothing is there.
 * Where there are no frames, a small page is mapped, and the block stays one of small pages until
 * it is collapsed.
 *
 *   read     the huge frame of zeroes, read-only, if the policy has it
 *   write    a block of one's own
 */
#include "fault.h"

bool
qr_fault_wants_huge(const struct fault_ctx *ctx)
{
    return !ctx->no_huge && qr_huge_fits(ctx->region, ctx->va) &&
           qr_region_is_huge_eligible(ctx->region);
}

static bool
huge_shows_zero(const struct fault_ctx *ctx)
{
    return !fault_is_write(ctx) &&
           atomic_load_explicit(&ctx->vm->huge_zero_page, memory_order_relaxed);
}

enum qr_huge_effort
qr_fault_huge_effort(const struct fault_ctx *ctx)
{
    bool advised = (ctx->region->flags & QR_REGION_HUGE) != 0;

    switch (
        (enum qr_huge_defrag)atomic_load_explicit(&ctx->vm->huge_defrag, memory_order_relaxed)) {
    case QR_DEFRAG_ALWAYS:
        return QR_HUGE_COMPACT;
    case QR_DEFRAG_ADVISED:
    case QR_DEFRAG_DEFER_ADVISED:
        return advised ? QR_HUGE_COMPACT : QR_HUGE_OPPORTUNE;
    case QR_DEFRAG_NEVER:
    case QR_DEFRAG_DEFER:
        break;
    }
    return QR_HUGE_OPPORTUNE;
}

/* Frames that are charged as a page of the space, or NULL. */
static struct qr_frame *
huge_alloc_charged(struct fault_ctx *ctx, const struct qr_huge_request *request)
{
    struct qr_frame *huge = qr_huge_alloc(ctx->vm, request);
    struct qr_group *group = qr_space_group_get(ctx->space);

    if (group != NULL && huge != NULL &&
        qr_group_charge_run(group, ctx->vm->config.frames, huge, qr_vm_huge_pages(ctx->vm)) !=
            QR_OK) {
        qr_frame_put_run(ctx->vm->config.frames, huge, qr_vm_huge_pages(ctx->vm));
        huge = NULL;
    }
    qr_group_put(group);
    return huge;
}

void
qr_fault_wait_huge(struct fault_ctx *ctx, struct qr_mempolicy *policy, size_t place)
{
    const struct qr_huge_request request = {
        .policy = policy, .place = place, .effort = ctx->huge_effort, .alloc_flags = QR_ALLOC_ZERO};
    bool ready;

    ctx->want_huge = true;
    if (huge_shows_zero(ctx)) {
        ready = qr_huge_zero_ready(ctx->vm);
    } else {
        if (ctx->huge == NULL)
            ctx->huge = huge_alloc_charged(ctx, &request);
        ready = ctx->huge != NULL;
    }
    if (ready)
        return;
    ctx->no_huge = true;
    ctx->want_huge = false;
    fault_count(ctx, QR_EVENT_THP_FALLBACK);
}

static void
huge_install_zero(struct fault_ctx *ctx, qr_va start)
{
    struct qr_large large = {.head = NULL, .pages = qr_vm_huge_pages(ctx->vm)};
    struct qr_leaf leaf = {
        .pa = qr_pa_of(atomic_load_explicit(&ctx->vm->huge_zero_pa, memory_order_relaxed)),
        .prot = qr_region_leaf_prot(ctx->region) & ~(unsigned)QR_PROT_WRITE,
        .flags = QR_LEAF_ACCESSED,
        .level = (uint8_t)ctx->vm->huge_level,
        .pkey = ctx->region->pkey,
    };

    qr_large_count(ctx->space, &large, 1);
    qr_cursor_map(&ctx->cursor, start, &leaf);
    ctx->frame = ctx->vm->zero;
}

static void
huge_own_frame(void *context, struct qr_frame *frame, size_t index)
{
    const struct fault_ctx *ctx = context;
    uintptr_t page = qr_huge_range(ctx->vm, ctx->va).start.v >> QR_PAGE_SHIFT;

    qr_frame_set_type(frame, QR_FRAME_ANON);
    atomic_store_explicit(&frame->owner, ctx->space, memory_order_relaxed);
    atomic_store_explicit(&frame->index, page + index, memory_order_relaxed);
    atomic_store_explicit(&frame->maps, 1, memory_order_relaxed);
}

static void
huge_install(struct fault_ctx *ctx, qr_va start)
{
    struct qr_frames *frames = ctx->vm->config.frames;
    struct qr_large large = {.head = ctx->huge, .pages = qr_vm_huge_pages(ctx->vm)};
    struct qr_leaf leaf = {
        .pa = qr_frame_pa(frames, large.head),
        .prot = qr_region_leaf_prot(ctx->region),
        .flags = QR_LEAF_ACCESSED | QR_LEAF_WRITTEN,
        .level = (uint8_t)ctx->vm->huge_level,
        .pkey = ctx->region->pkey,
    };

    qr_large_each_frame(frames, &large, huge_own_frame, ctx);
    if ((leaf.prot & QR_PROT_EXEC) != 0)
        (void)qr_arch_code_written(leaf.pa, ctx->vm->huge_bytes);
    qr_large_count(ctx->space, &large, 1);
    qr_cursor_map(&ctx->cursor, start, &leaf);
    atomic_fetch_add_explicit(&ctx->space->resident[QR_RESIDENT_ANON], (long)large.pages,
                              memory_order_relaxed);
    qr_counter_add(ctx->vm->counters, QR_PAGES_ANON, (long)large.pages);
    fault_count(ctx, QR_EVENT_THP_FAULT);
    qr_space_add_stat(ctx->space, QR_GROUP_STAT_THP_FAULT, 1);
    ctx->huge = NULL;
    ctx->frame = qr_frame_of(frames, qr_pa_to_pfn(qr_pa_of(leaf.pa.v + (ctx->va.v - start.v))));
}

enum fault_step
qr_fault_huge(struct fault_ctx *ctx)
{
    qr_va start = qr_huge_range(ctx->vm, ctx->va).start;
    bool zero = huge_shows_zero(ctx);

    if (!ctx->want_huge || (!zero && ctx->huge == NULL)) {
        ctx->huge_effort = qr_fault_huge_effort(ctx);
        return FAULT_WAIT_HUGE;
    }
    if (qr_cursor_prepare(&ctx->cursor, start, ctx->vm->huge_level) != QR_OK) {
        ctx->no_huge = true;
        return FAULT_NEXT;
    }
    if (zero)
        huge_install_zero(ctx, start);
    else
        huge_install(ctx, start);
    return FAULT_DONE;
}
