/* SPDX-License-Identifier: MIT */
/*
 * What merging does to one page.
 *
 *   space's lock, for reading            the region stays mergeable
 *   table's lock (a cursor)              faults on the page wait; nobody gets a reference
 *     the frame has one reference?       this entry's: no fork, no pin, no I/O
 *     take the entry out, flush          from here on nobody writes the frame, nor reads it
 *     look at its contents               all of them: a hash only says where to look
 *     set an entry without WRITE         for the merged frame; or the old one, as it was
 *
 * The entry is out no longer than a copy-on-write break has it out, and it comes back with what
 * hardware noted in it until then; so no store is lost: it came before, and is part of the contents
 * that were compared, or it faults and waits for the table.
 */
#include "merge.h"

#include <quire/arch.h>
#include <quire/assert.h>

/* Could the page that @leaf shows be merged now?  Its table is locked. */
static bool
frame_may_merge(const struct qr_region *region, const struct qr_leaf *leaf,
                const struct qr_frame *frame)
{
    const uint32_t busy = QR_FRAME_LOCKED | QR_FRAME_WRITEBACK | QR_FRAME_PINNED | QR_FRAME_ERROR;
    uint32_t flags = atomic_load_explicit(&frame->flags, memory_order_relaxed);

    return qr_frame_type(frame) == QR_FRAME_ANON &&
           atomic_load_explicit(&frame->refs, memory_order_acquire) == 1 &&
           atomic_load_explicit(&frame->maps, memory_order_relaxed) == 1 && (flags & busy) == 0 &&
           ((flags & QR_FRAME_LAZY) == 0 || (leaf->flags & QR_LEAF_DIRTY) != 0) &&
           !qr_leaf_is_write_watched(region, leaf);
}

static bool
region_is_mergeable(const struct qr_region *region)
{
    return (region->flags & QR_REGION_MERGEABLE) != 0 && qr_region_may_merge(region);
}

/* The frame that the leaf @entry shows at @va; NULL: zeroes. */
static struct qr_frame *
mapped_frame(const struct qr_region *region, const struct qr_entry *entry, qr_va va)
{
    struct qr_vm *vm = region->space->vm;

    if (qr_leaf_is_zero(vm, &entry->leaf))
        return NULL;
    return qr_frame_of(vm->config.frames,
                       qr_pa_to_pfn(qr_pa_of(entry->leaf.pa.v + (va.v - entry->start.v))));
}

/* ---- Looking --------------------------------------------------------------------- */

/* The first page of @chunk, which the cursor covers, that is in memory. */
static bool
look_chunk(const struct qr_merge *merge, const struct qr_region *region, struct qr_cursor *cursor,
           struct qr_va_range chunk, struct merge_seen *seen)
{
    struct qr_entry entry;

    while (chunk.start.v < chunk.end.v && qr_cursor_find(cursor, chunk.start, &entry)) {
        qr_va va = qr_va_of(qr_max_size(chunk.start.v, entry.start.v));
        struct qr_frame *frame =
            entry.kind == QR_ENTRY_LEAF ? mapped_frame(region, &entry, va) : NULL;

        chunk.start = qr_va_of(qr_entry_end(cursor->tables, &entry));
        if (frame == NULL)
            continue;
        seen->va = va;
        seen->candidate = frame_may_merge(region, &entry.leaf, frame);
        if (seen->candidate) {
            uint64_t hash = qr_frame_hash(merge->vm->config.frames, frame);

            seen->key = hash + qr_merge_bias(merge, region->space, frame);
            seen->zero = hash == merge->zero_hash;
        }
        return true;
    }
    return false;
}

static bool
look_region(const struct qr_merge *merge, const struct qr_region *region, qr_va at,
            struct merge_seen *seen)
{
    struct qr_va_range rest = qr_range_of(qr_max_size(region->start.v, at.v), region->end.v);
    struct qr_va_range chunk;
    struct qr_cursor cursor;
    bool found = false;

    while (!found && qr_chunk_open(&cursor, region->space, &rest, &chunk, NULL)) {
        found = look_chunk(merge, region, &cursor, chunk, seen);
        qr_cursor_close(&cursor);
    }
    return found;
}

bool
qr_merge_look(const struct qr_merge *merge, struct qr_space *space, qr_va at,
              struct merge_seen *out_seen)
{
    bool found = false;

    qr_rw_read_lock(&space->lock);
    for (const struct qr_region *region = qr_space_find(space, at); region != NULL && !found;
         region = qr_region_next(region))
        found = region_is_mergeable(region) && look_region(merge, region, at, out_seen);
    qr_rw_read_unlock(&space->lock);
    return found;
}

/* ---- Taking a page and giving it back --------------------------------------------- */

struct page {
    const struct qr_region *region;
    qr_va va;
    struct qr_cursor cursor;
    struct qr_tlb_batch batch;
    struct qr_frame *frame;
    struct qr_entry entry; /* as it was taken out */
};

/* The page as a leaf of its own, if it may be merged.  The cursor is open. */
static bool
page_is_candidate(struct page *page)
{
    struct qr_space *space = page->region->space;
    struct qr_entry *entry = &page->entry;

    *entry = qr_cursor_query(&page->cursor, page->va);
    while (entry->kind == QR_ENTRY_LEAF) {
        page->frame = mapped_frame(page->region, entry, page->va);
        if (page->frame == NULL || !frame_may_merge(page->region, &entry->leaf, page->frame))
            return false;
        if (entry->level == 0)
            return true;
        if (qr_large_split(&page->cursor, space, entry) != QR_OK)
            return false;
        *entry = qr_cursor_query(&page->cursor, page->va);
    }
    return false;
}

static void
page_close(struct page *page)
{
    qr_cursor_close(&page->cursor);
    qr_tlb_batch_finish(&page->batch);
    qr_rw_read_unlock(&page->region->space->lock);
}

/* Take the entry at @va out: until page_give() nobody has the frame but we.  S and a cursor are held. */
static bool
page_take(struct page *page, struct qr_space *space, qr_va va)
{
    qr_rw_read_lock(&space->lock);
    page->region = qr_space_find(space, va);
    page->va = va;
    if (page->region == NULL || page->region->start.v > va.v ||
        !region_is_mergeable(page->region)) {
        qr_rw_read_unlock(&space->lock);
        return false;
    }
    qr_tlb_batch_init(&page->batch, &space->tlb);
    qr_cursor_open(&page->cursor, &space->tables, qr_range_of(va.v, va.v + QR_PAGE_SIZE),
                   &page->batch);
    if (!page_is_candidate(page)) {
        page_close(page);
        return false;
    }
    page->entry = qr_cursor_unmap(&page->cursor, va);
    qr_tlb_batch_finish(&page->batch);
    return true;
}

/* Set the entry again as page->entry.leaf says now. */
static void
page_give(struct page *page)
{
    qr_cursor_map(&page->cursor, page->va, &page->entry.leaf);
    page_close(page);
}

/* ---- Merging ------------------------------------------------------------------------ */

enum qr_status
qr_merge_found(struct qr_merge *merge, struct qr_space *space, qr_va va, uint64_t key)
{
    struct qr_tally tally = {.anon = 0};
    struct page page;
    struct merge_node *node = qr_cache_alloc(merge->nodes, QR_ALLOC_NO_REPORT);

    if (node == NULL)
        return QR_ERR_NO_MEMORY;
    bool taken = page_take(&page, space, va);

    if (taken)
        node->bias = qr_merge_bias(merge, space, page.frame);
    if (!taken || qr_frame_hash(merge->vm->config.frames, page.frame) + node->bias != key) {
        if (taken)
            page_give(&page);
        qr_cache_free(merge->nodes, node);
        return QR_ERR_BUSY;
    }
    qr_tally_leaf(&tally, page.region, page.frame, -1);
    qr_merge_index_add(merge, node, page.frame, key);
    qr_tally_leaf(&tally, page.region, page.frame, 1);
    qr_tally_apply(&tally, space);
    page.entry.leaf.prot &= ~(unsigned)QR_PROT_WRITE;
    page_give(&page);
    return QR_OK;
}

/* @page, which was taken, shows another frame, or zeroes. */
static void
page_join(struct page *page, struct qr_frame *merged)
{
    struct qr_space *space = page->region->space;
    struct qr_leaf *leaf = &page->entry.leaf;
    struct qr_tally tally = {.anon = 0};

    qr_space_note_peak(space);
    qr_tally_leaf(&tally, page->region, page->frame, -1);
    if (merged != NULL)
        qr_tally_leaf(&tally, page->region, merged, 1);
    qr_tally_apply(&tally, space);
    qr_tlb_batch_add_frame(&page->batch, page->frame);
    leaf->pa = merged != NULL ? qr_frame_pa(space->vm->config.frames, merged) : space->vm->zero_pa;
    leaf->prot &= ~(unsigned)QR_PROT_WRITE;
    if ((leaf->prot & QR_PROT_EXEC) != 0)
        (void)qr_arch_code_written(leaf->pa, QR_PAGE_SIZE);
}

enum qr_status
qr_merge_join(struct qr_merge *merge, struct qr_space *space, qr_va va, struct qr_frame *merged)
{
    struct qr_vm *vm = merge->vm;
    struct page page;

    if (!page_take(&page, space, va))
        return QR_ERR_BUSY;
    /* A file's private mapping may show the file where there are zeroes. */
    bool fits = merged != NULL || qr_region_is_anonymous(page.region);
    bool equal =
        fits && qr_frame_equal(vm->config.frames, page.frame, merged != NULL ? merged : vm->zero);

    if (equal)
        page_join(&page, merged);
    page_give(&page);
    return equal ? QR_OK : QR_ERR_NOT_FOUND;
}
