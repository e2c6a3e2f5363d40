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
 * The copy of entries is qr_cursor_copy_range() alone: sharing page-table pages instead
 * (On-demand-fork) replaces that.
 */
#include "hugetlb.h"
#include "swap.h"

static enum qr_status
fork_region(struct qr_change *change, const struct qr_region *region)
{
    struct qr_region like;
    enum qr_status status = qr_change_reserve(change, 1);

    if (status != QR_OK)
        return status;
    if (!qr_count_may_commit(change->space, region->flags, qr_region_pages(region)))
        return QR_ERR_NO_MEMORY;
    qr_region_copy(&like, region);
    like.space = change->space;
    like.flags &= ~(QR_REGION_LOCK_FLAGS | QR_REGION_HUGETLB_OWNER);
    qr_region_unwatch_copy(&like);
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
    struct qr_frame *frame;         /* of the entry that is asked about; NULL: a mark */
    struct qr_tally tally;
};

/* Private frames, and what stands for a private page that is not there. */
static bool
fork_wants(void *context, const struct qr_entry *entry)
{
    struct fork_copy *copy = context;

    copy->frame = NULL;
    if (entry->kind == QR_ENTRY_MARK)
        return true;
    copy->frame = qr_unlikely(entry->level > 0) ? qr_large_of(copy->region->space, entry).head
                                                : qr_leaf_frame(copy->region, &entry->leaf);
    return copy->frame != NULL && qr_frame_type(copy->frame) != QR_FRAME_OBJECT;
}

static QR_NOINLINE void
fork_copied_large(struct fork_copy *copy, const struct qr_entry *entry)
{
    struct qr_large large = qr_large_of(copy->region->space, entry);

    qr_tally_large(&copy->tally, copy->region, &large, 1);
    qr_large_count(copy->child, &large, 1);
}

static void
fork_copied(void *context, const struct qr_entry *entry)
{
    struct fork_copy *copy = context;

    if (copy->frame == NULL) {
        qr_swap_copied_mark(copy->child, entry);
        return;
    }
    if (qr_unlikely(entry->level > 0)) {
        fork_copied_large(copy, entry);
        return;
    }
    qr_frame_get(copy->frame);
    qr_tally_leaf(&copy->tally, copy->region, copy->frame, 1);
}

/* Copy the private entries of @chunk, which the cursor @from covers, and close that. */
static enum qr_status
fork_chunk(struct fork_copy *copy, struct qr_cursor *from, struct qr_va_range chunk)
{
    static const struct qr_copy_ops ops = {.wanted = fork_wants, .copied = fork_copied};
    struct qr_cursor to;

    qr_cursor_open(&to, &copy->child->tables, chunk, NULL);
    enum qr_status status = qr_cursor_copy_range(from, &to, chunk, &ops, copy);

    qr_tally_apply(&copy->tally, copy->child);
    qr_cursor_close(&to);
    qr_cursor_close(from);
    return status;
}

static enum qr_status
fork_entries(struct qr_space *space, struct qr_space *child, struct qr_tlb_batch *batch)
{
    struct fork_copy copy = {.child = child};
    unsigned skip =
        QR_REGION_SHARED | QR_REGION_DEVICE | QR_REGION_DONT_FORK | QR_REGION_WIPE_ON_FORK;
    enum qr_status status = QR_OK;

    for (copy.region = qr_region_of(qr_tree_first(&space->regions));
         copy.region != NULL && status == QR_OK; copy.region = qr_region_next(copy.region)) {
        struct qr_va_range rest = qr_region_range(copy.region);
        struct qr_va_range chunk;
        struct qr_cursor from;

        if ((copy.region->flags & skip) != 0)
            continue;
        if (qr_region_is_hugetlb(copy.region)) {
            status = qr_hugetlb_fork(copy.region, child, batch);
            continue;
        }
        while (status == QR_OK && qr_chunk_open(&from, space, &rest, &chunk, batch))
            status = fork_chunk(&copy, &from, chunk);
    }
    return status;
}

static enum qr_status
fork_charge(struct qr_space *child)
{
    return qr_space_charge_own(child) == QR_OK ? QR_OK : QR_ERR_NO_MEMORY;
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
    child->code_pages = space->code_pages;
    child->brk_end = space->brk_end;
    child->limits = space->limits;
    child->sealed = space->sealed;
    child->execute_only_key = space->execute_only_key;
    qr_space_set_huge_disabled(child, qr_space_huge_disabled(space));
    child->maps_hugetlb = space->maps_hugetlb;
    qr_space_set_mergeable(child, qr_space_is_mergeable(space));
    qr_space_set_merge_domain(child,
                              atomic_load_explicit(&space->merge_domain, memory_order_relaxed));
    atomic_store_explicit(&child->lazy, atomic_load_explicit(&space->lazy, memory_order_relaxed),
                          memory_order_relaxed);
    struct qr_group *group = atomic_load_explicit(&space->group, memory_order_relaxed);

    if (group != NULL)
        qr_group_get(group);
    atomic_store_explicit(&child->group, group, memory_order_relaxed);

    enum qr_status status = group == NULL ? QR_OK : fork_charge(child);

    if (status == QR_OK)
        status = fork_regions(space, change);
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
    enum qr_status status = qr_space_make(space->vm, &child);

    if (status != QR_OK)
        return status;
    qr_change_begin(&change, child);
    qr_rw_write_lock(&space->lock);
    status = fork_locked(space, &change);
    qr_rw_write_unlock(&space->lock);
    qr_change_end(&change);
    if (status != QR_OK) {
        qr_space_pass_refusals(child, space);
        qr_space_put(child);
        return status;
    }
    qr_space_publish(child);
    qr_counter_add(space->vm->counters, QR_EVENT_FORK, 1);
    *out_child = child;
    return QR_OK;
}
