/* SPDX-License-Identifier: MIT */
/*
 * A fault on shared memory that has, or is to have, a huge page there (object/huge.c).
 *
 *   the object has one        its leaf, in the place of what small leaves stand there
 *   no page at all            the driver has it made, with nothing locked, if the policy wants one
 *   some small pages          a small leaf: collapse may join them later
 *
 * The block's references are taken before the cursor opens, since the object's lock comes first;
 * under the cursor each page is asked whether it still is the object's, like a small one
 * (object.c).  They become the leaf's.
 */
#include "fault.h"

#include <quire/arch.h>

static bool
block_may_come(const struct fault_ctx *ctx)
{
    return !ctx->no_huge && qr_huge_fits(ctx->region, ctx->va) &&
           qr_region_may_be_huge(ctx->region);
}

bool
qr_fault_wants_block(const struct fault_ctx *ctx)
{
    const struct qr_object *object = ctx->region->object;
    bool advised = (ctx->region->flags & QR_REGION_HUGE) != 0;

    return (qr_object_has_blocks(object) || qr_object_wants_huge(object, advised)) &&
           block_may_come(ctx);
}

/* Is every page of the block still where it was when we took it? */
struct block_look {
    struct qr_object *object;
    size_t first;
    bool current;
};

static void
block_look_at(void *context, struct qr_frame *frame, size_t index)
{
    struct block_look *look = context;

    look->current =
        look->current && qr_object_page_is_current(look->object, look->first + index, frame);
}

/* Whether only leaves stand in the block, all of them small: no mark may be lost. */
static bool
block_holds_leaves(struct fault_ctx *ctx, struct qr_va_range block)
{
    struct qr_entry entry;
    qr_va at = block.start;

    while (at.v < block.end.v && qr_cursor_find(&ctx->cursor, at, &entry)) {
        if (entry.kind != QR_ENTRY_LEAF || entry.level > 0)
            return false;
        at = qr_va_of(qr_entry_end(ctx->cursor.tables, &entry));
    }
    return true;
}

struct block_take {
    struct fault_ctx *ctx;
    struct qr_tally tally;
};

static void
block_take_entry(void *context, const struct qr_entry *entry)
{
    struct block_take *take = context;
    struct qr_frame *frame = qr_leaf_frame(take->ctx->region, &entry->leaf);

    if (frame == NULL)
        return;
    qr_tally_leaf(&take->tally, take->ctx->region, frame, -1);
    qr_tlb_batch_add_frame(&take->ctx->batch, frame);
}

/* Small leaves and their table go, flushed before the large one comes. */
static void
block_clear(struct fault_ctx *ctx, struct qr_va_range block)
{
    struct block_take take = {.ctx = ctx};

    qr_space_note_peak(ctx->space);
    qr_cursor_unmap_range(&ctx->cursor, block, block_take_entry, &take);
    qr_tally_apply(&take.tally, ctx->space);
    qr_tlb_batch_finish(&ctx->batch);
}

static void
block_map_frame(void *context, struct qr_frame *frame, size_t index)
{
    struct block_take *take = context;

    (void)index;
    qr_tally_leaf(&take->tally, take->ctx->region, frame, 1);
}

static void
block_map(struct fault_ctx *ctx, struct qr_va_range block, const struct qr_large *large)
{
    struct block_take take = {.ctx = ctx};
    bool write = fault_is_write(ctx);
    struct qr_leaf leaf = {
        .pa = qr_frame_pa(ctx->vm->config.frames, large->head),
        .prot = write ? qr_region_leaf_prot(ctx->region) : fault_read_prot(ctx->region),
        .flags = QR_LEAF_ACCESSED | (write ? (unsigned)QR_LEAF_WRITTEN : 0),
        .level = (uint8_t)ctx->vm->huge_level,
        .pkey = ctx->region->pkey,
    };
    size_t offset = ctx->va.v - block.start.v;

    if ((leaf.prot & QR_PROT_EXEC) != 0)
        (void)qr_arch_code_written(leaf.pa, ctx->vm->huge_bytes);
    qr_large_count(ctx->space, large, 1);
    qr_cursor_map(&ctx->cursor, block.start, &leaf);
    qr_large_each_frame(ctx->vm->config.frames, large, block_map_frame, &take);
    qr_tally_apply(&take.tally, ctx->space);
    fault_count(ctx, QR_EVENT_THP_SHARED_MAP);
    ctx->frame = qr_frame_of(ctx->vm->config.frames, qr_pa_to_pfn(qr_pa_of(leaf.pa.v + offset)));
}

/* The cursor is open on @block.  @return whether the leaf is set, and has the references */
static bool
block_install(struct fault_ctx *ctx, struct qr_va_range block, const struct qr_large *large)
{
    struct block_look look = {ctx->region->object, qr_region_object_page(ctx->region, block.start),
                              true};

    ctx->entry = qr_cursor_query(&ctx->cursor, ctx->va);
    if (!block_holds_leaves(ctx, block))
        return false;
    qr_large_each_frame(ctx->vm->config.frames, large, block_look_at, &look);
    if (!look.current)
        return false;
    if (ctx->entry.level < ctx->vm->huge_level)
        block_clear(ctx, block);
    if (qr_cursor_prepare(&ctx->cursor, block.start, ctx->vm->huge_level) != QR_OK)
        return false;
    block_map(ctx, block, large);
    return true;
}

enum fault_step
qr_fault_block(struct fault_ctx *ctx)
{
    struct qr_va_range block = qr_huge_range(ctx->vm, ctx->va);
    struct qr_large large = {.pages = qr_vm_huge_pages(ctx->vm)};
    size_t first = qr_region_object_page(ctx->region, block.start);
    bool advised = (ctx->region->flags & QR_REGION_HUGE) != 0;
    enum qr_status status =
        qr_object_get_block(ctx->region->object, first, large.pages, &large.head);

    if (status == QR_ERR_NOT_FOUND && qr_object_wants_huge(ctx->region->object, advised)) {
        ctx->huge_effort = qr_fault_huge_effort(ctx);
        return FAULT_WAIT_BLOCK;
    }
    if (status != QR_OK)
        return FAULT_NEXT;
    qr_cursor_open(&ctx->cursor, &ctx->space->tables, block, &ctx->batch);
    bool installed = block_install(ctx, block, &large);

    if (installed && ctx->want_frame)
        qr_frame_get(ctx->frame);
    qr_cursor_close(&ctx->cursor);
    qr_tlb_batch_finish(&ctx->batch);
    if (!installed)
        qr_frame_put_run(ctx->vm->config.frames, large.head, large.pages);
    return installed ? FAULT_DONE : FAULT_NEXT;
}

void
qr_fault_wait_block(struct fault_ctx *ctx, struct qr_object *object, size_t page)
{
    size_t pages = qr_vm_huge_pages(ctx->vm);
    unsigned care = ctx->huge_effort == QR_HUGE_COMPACT ? 0 : (unsigned)QR_ALLOC_OPPORTUNE;
    enum qr_status status = qr_object_make_block(object, page & ~(pages - 1), pages, care);

    qr_object_put(object);
    if (status == QR_OK)
        fault_count(ctx, QR_EVENT_THP_SHARED);
    if (status == QR_OK || status == QR_ERR_EXISTS)
        return;
    ctx->no_huge = true;
    if (status != QR_ERR_RANGE)
        fault_count(ctx, QR_EVENT_THP_NO_SHARED);
}
