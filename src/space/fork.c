/* SPDX-License-Identifier: MIT */
/*
 * Fork: a second space with the same regions, sharing private pages until one
 * side writes.
 *
 *   parent  [ W W . W ]        [ r r . r ]      r: read-only, the frame has
 *   child                 =>   [ r r . r ]         one reference more
 *
 * Only private frames need copying.  Pages of objects, the zero frame and what
 * was never touched come back by faults.  Parent and child entries change in one
 * pair of cursors, chunk by chunk, so no moment shows a frame that both could
 * write; the parent's lost rights are flushed before the call returns.  The
 * child is reachable by nobody until then.
 *
 * What fails leaves a half-filled child, which is put: its entries give their
 * references back, and the parent's write-protected pages are taken over again
 * by the next write fault, since their count is 1.
 *
 * The copy of entries is fork_chunk() alone: sharing page-table pages instead
 * (On-demand-fork) replaces that function.
 */
#include "region.h"

static enum qr_status
fork_region(struct qr_change *change, const struct qr_region *region)
{
    struct qr_region like;
    enum qr_status status = qr_change_reserve(change, 1);

    if (status != QR_OK)
        return status;
    qr_region_copy(&like, region);
    like.space = change->space;
    like.flags &= ~QR_REGION_LOCK_FLAGS;
    (void)qr_region_insert(change, &like);
    return QR_OK;
}

/* Regions that are equal but for their locks are equal now: join them. */
static void
fork_merge(struct qr_change *change)
{
    for (struct qr_region *region = qr_region_of(qr_tree_first(&change->space->regions));
         region != NULL; region = qr_region_next(region))
        region = qr_region_merge(change, region);
}

static enum qr_status
fork_regions(const struct qr_space *space, struct qr_change *change)
{
    enum qr_status status = QR_OK;

    for (const struct qr_region *region = qr_region_of(qr_tree_first(&space->regions));
         region != NULL && status == QR_OK; region = qr_region_next(region)) {
        if ((region->flags & QR_REGION_DONT_FORK) == 0)
            status = fork_region(change, region);
    }
    if (status == QR_OK)
        fork_merge(change);
    return status;
}

struct fork_copy {
    struct qr_space *child;
    const struct qr_region *region; /* of the parent */
    struct qr_cursor from, to;
    struct qr_tlb_batch *batch;
    struct qr_tally tally;
};

static void
fork_leaf(struct fork_copy *copy, const struct qr_entry *entry, struct qr_frame *frame)
{
    struct qr_leaf leaf = entry->leaf;

    if ((leaf.prot & QR_PROT_WRITE) != 0) {
        leaf.prot &= ~(unsigned)QR_PROT_WRITE;
        qr_cursor_update(&copy->from, entry->start, leaf.prot, 0, 0);
    }
    qr_frame_get(frame);
    qr_tally_leaf(&copy->tally, copy->region, frame, 1);
    qr_cursor_map(&copy->to, entry->start, &leaf);
}

static enum qr_status
fork_entry(struct fork_copy *copy, const struct qr_entry *entry)
{
    struct qr_frame *frame = NULL;

    if (entry->kind == QR_ENTRY_LEAF) {
        frame = qr_leaf_frame(copy->region, &entry->leaf);
        if (frame == NULL || qr_frame_type(frame) != QR_FRAME_ANON)
            return QR_OK;
    }
    enum qr_status status = qr_cursor_prepare(&copy->to, entry->start, entry->level);

    if (status != QR_OK)
        return status;
    if (frame != NULL)
        fork_leaf(copy, entry, frame);
    else
        qr_cursor_mark(&copy->to, entry->start, entry->level, entry->mark);
    return QR_OK;
}

/* Copy the private entries of @chunk. */
static enum qr_status
fork_chunk(struct fork_copy *copy, struct qr_va_range chunk)
{
    enum qr_status status = QR_OK;
    struct qr_entry entry;
    qr_va at = chunk.start;

    qr_cursor_open(&copy->from, &copy->region->space->tables, chunk, copy->batch);
    qr_cursor_open(&copy->to, &copy->child->tables, chunk, NULL);
    while (status == QR_OK && at.v < chunk.end.v && qr_cursor_find(&copy->from, at, &entry)) {
        status = fork_entry(copy, &entry);
        at = qr_va_of(entry.start.v + QR_PAGE_SIZE);
    }
    qr_tally_apply(&copy->tally, copy->child);
    qr_cursor_close(&copy->to);
    qr_cursor_close(&copy->from);
    return status;
}

static enum qr_status
fork_entries(struct qr_space *space, struct qr_space *child, struct qr_tlb_batch *batch)
{
    struct fork_copy copy = {.child = child, .batch = batch};
    unsigned skip =
        QR_REGION_SHARED | QR_REGION_DEVICE | QR_REGION_DONT_FORK | QR_REGION_WIPE_ON_FORK;
    enum qr_status status = QR_OK;

    for (copy.region = qr_region_of(qr_tree_first(&space->regions));
         copy.region != NULL && status == QR_OK; copy.region = qr_region_next(copy.region)) {
        struct qr_va_range rest = qr_region_range(copy.region);
        struct qr_va_range chunk;

        if ((copy.region->flags & skip) != 0)
            continue;
        while (status == QR_OK && qr_chunk_next(&space->tables, &rest, &chunk))
            status = fork_chunk(&copy, chunk);
    }
    return status;
}

static enum qr_status
fork_locked(struct qr_space *space, struct qr_change *change)
{
    struct qr_space *child = change->space;
    struct qr_tlb_batch batch;

    child->layout = space->layout;
    child->mmap_base = space->mmap_base;
    child->stack_top = space->stack_top;
    child->brk_start = space->brk_start;
    child->brk_end = space->brk_end;
    child->limits = space->limits;

    enum qr_status status = fork_regions(space, change);

    if (status != QR_OK)
        return status;
    qr_tlb_batch_init(&batch, &space->tlb);
    status = fork_entries(space, child, &batch);
    qr_tlb_batch_finish(&batch);
    return status;
}

enum qr_status
qr_space_fork(struct qr_space *space, struct qr_space **out_child)
{
    struct qr_change change;
    struct qr_space *child;
    enum qr_status status = qr_space_create(space->vm, &child);

    if (status != QR_OK)
        return status;
    qr_change_begin(&change, child);
    qr_rw_write_lock(&space->lock);
    status = fork_locked(space, &change);
    qr_rw_write_unlock(&space->lock);
    qr_change_end(&change);
    if (status != QR_OK) {
        qr_space_put(child);
        return status;
    }
    qr_counter_add(space->vm->counters, QR_EVENT_FORK, 1);
    *out_child = child;
    return QR_OK;
}
