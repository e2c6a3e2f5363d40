/* SPDX-License-Identifier: MIT */
/*
 * Regions with merged pages (reclaim/merge.c): counting them, and giving them frames of their own.
 *
 * A frame is found before the page is looked at under its table's lock, since finding one may reclaim;
 * the page may have been copied by a store meanwhile, and then the frame is for the next one.
 */
#include "region.h"

/* The frame behind a leaf of @region if it is a merged one, or NULL. */
static struct qr_frame *
merged_frame(const struct qr_region *region, const struct qr_entry *entry)
{
    if (entry->kind != QR_ENTRY_LEAF || entry->level > 0)
        return NULL;
    struct qr_frame *frame = qr_leaf_frame(region, &entry->leaf);

    return frame != NULL && qr_frame_is_merged(frame) ? frame : NULL;
}

/* The first merged page of *@io_rest, which then begins behind it. */
static bool
merged_find(const struct qr_region *region, struct qr_va_range *io_rest, qr_va *out_va)
{
    struct qr_va_range chunk;
    struct qr_cursor cursor;
    struct qr_entry entry;
    bool found = false;

    while (!found && qr_chunk_open(&cursor, region->space, io_rest, &chunk, NULL)) {
        qr_va at = chunk.start;

        while (!found && at.v < chunk.end.v && qr_cursor_find(&cursor, at, &entry)) {
            at = qr_va_of(qr_entry_end(cursor.tables, &entry));
            found = merged_frame(region, &entry) != NULL;
        }
        qr_cursor_close(&cursor);
        if (found) {
            io_rest->start = at;
            *out_va = entry.start;
        }
    }
    return found;
}

/* A frame for the page at @va of @region, or NULL.  S. */
static struct qr_frame *
copy_alloc(const struct qr_region *region, qr_va va)
{
    struct qr_space *space = region->space;
    struct qr_frames *frames = space->vm->config.frames;
    struct qr_group *group = atomic_load_explicit(&space->group, memory_order_relaxed);
    unsigned flags = QR_ALLOC_MOVABLE | QR_ALLOC_HIGH | QR_ALLOC_NO_REPORT;
    struct qr_frame *frame = region->policy == NULL
                                 ? qr_frame_alloc(frames, flags)
                                 : qr_frame_alloc_policy(frames, &region->policy->policy,
                                                         va.v >> QR_PAGE_SHIFT, 0, flags);

    if (frame != NULL && group != NULL && qr_group_charge_frame(group, frame) != QR_OK) {
        qr_frame_put(frames, frame);
        frame = NULL;
    }
    return frame;
}

/* The entry, which names @merged, gets @copy, read-only as it was: the next store takes it over. */
static void
copy_set(const struct qr_region *region, struct qr_cursor *cursor, qr_va va,
         struct qr_frame *merged, struct qr_frame *copy)
{
    struct qr_space *space = region->space;
    struct qr_frames *frames = space->vm->config.frames;
    struct qr_tally tally = {.anon = 0};
    struct qr_entry entry = qr_cursor_unmap(cursor, va);

    qr_tlb_batch_finish(cursor->batch);
    qr_frame_copy(frames, copy, merged);
    qr_frame_set_type(copy, QR_FRAME_ANON);
    atomic_store_explicit(&copy->owner, space, memory_order_relaxed);
    atomic_store_explicit(&copy->index, va.v >> QR_PAGE_SHIFT, memory_order_relaxed);
    atomic_store_explicit(&copy->maps, 0, memory_order_relaxed);
    qr_tally_leaf(&tally, region, merged, -1);
    qr_tally_leaf(&tally, region, copy, 1);
    qr_tally_apply(&tally, space);
    qr_tlb_batch_add_frame(cursor->batch, merged);
    entry.leaf.pa = qr_frame_pa(frames, copy);
    if ((entry.leaf.prot & QR_PROT_EXEC) != 0)
        (void)qr_arch_code_written(entry.leaf.pa, QR_PAGE_SIZE);
    qr_cursor_map(cursor, va, &entry.leaf);
}

/* @return whether @copy was used */
static bool
merged_copy(const struct qr_region *region, qr_va va, struct qr_frame *copy)
{
    struct qr_space *space = region->space;
    struct qr_tlb_batch batch;
    struct qr_cursor cursor;

    qr_tlb_batch_init(&batch, &space->tlb);
    qr_cursor_open(&cursor, &space->tables, qr_range_of(va.v, va.v + QR_PAGE_SIZE), &batch);
    struct qr_entry entry = qr_cursor_query(&cursor, va);
    struct qr_frame *merged = merged_frame(region, &entry);

    if (merged != NULL)
        copy_set(region, &cursor, va, merged, copy);
    qr_cursor_close(&cursor);
    qr_tlb_batch_finish(&batch);
    return merged != NULL;
}

enum qr_status
qr_unmerge_range(const struct qr_region *region, struct qr_va_range range)
{
    struct qr_frames *frames = region->space->vm->config.frames;
    struct qr_frame *copy = NULL;
    enum qr_status status = QR_OK;
    qr_va va;

    while (status == QR_OK && merged_find(region, &range, &va)) {
        if (copy == NULL)
            copy = copy_alloc(region, va);
        if (copy == NULL)
            status = QR_ERR_NO_MEMORY;
        else if (merged_copy(region, va, copy))
            copy = NULL;
    }
    if (copy != NULL)
        qr_frame_put(frames, copy);
    return status;
}

size_t
qr_space_merged_pages(struct qr_space *space)
{
    size_t count = 0;
    qr_va va;

    if (!qr_space_is_mergeable(space))
        return 0;
    qr_rw_read_lock(&space->lock);
    for (const struct qr_region *region = qr_space_find(space, qr_va_of(0)); region != NULL;
         region = qr_region_next(region)) {
        struct qr_va_range rest = qr_region_range(region);

        if ((region->flags & QR_REGION_MERGEABLE) == 0)
            continue;
        while (merged_find(region, &rest, &va))
            count++;
    }
    qr_rw_read_unlock(&space->lock);
    return count;
}
