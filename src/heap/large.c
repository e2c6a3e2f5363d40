/* SPDX-License-Identifier: MIT */
/*
 * Blocks above the largest class.  Where they come from is one of three back ends
 * (struct large_ops); this file has the one that is the default, a run of frames for each
 * block: as many contiguous frames as it needs, no more.
 *
 * The head frame has the type LARGE, its owner names the heap (or, of the back ends
 * in fit.c, the extent), and its index is the number of frames; the others are of
 * another type, so a pointer into the middle is no block.  Here each frame carries a reference of
 * its own, which lets a shrinking block give its tail back.
 */
#include "heap.h"

static const struct large_ops *const back_ends[QR_LARGE_KINDS] = {
    &qr_large_frames_ops,
    &qr_large_first_ops,
    &qr_large_best_ops,
};

static size_t
large_count(const struct qr_frame *head)
{
    return atomic_load_explicit(&head->index, memory_order_relaxed);
}

size_t
qr_large_bytes(const struct qr_frame *head)
{
    return large_count(head) << QR_PAGE_SHIFT;
}

void
qr_heap_large_select(struct qr_heap *heap, enum qr_large_kind kind)
{
    qr_assert(kind >= 0 && kind < QR_LARGE_KINDS);
    atomic_store_explicit(&heap->large_kind, (int)kind, memory_order_relaxed);
}

/* The back end that the block with this head is of; NULL: it is no block of @heap. */
static const struct large_ops *
back_end_of(struct qr_heap *heap, const struct qr_frame *head)
{
    const void *owner = atomic_load_explicit(&head->owner, memory_order_relaxed);
    enum qr_large_kind kind;

    if (owner == heap)
        return &qr_large_frames_ops;
    return qr_fit_owns(heap, owner, &kind) ? back_ends[kind] : NULL;
}

bool
qr_is_large(struct qr_heap *heap, const struct qr_frame *frame, const void *block)
{
    return frame != NULL && qr_frame_type(frame) == QR_FRAME_LARGE &&
           ((uintptr_t)block & QR_PAGE_MASK) == 0 && back_end_of(heap, frame) != NULL;
}

void *
qr_large_alloc(struct qr_heap *heap, size_t bytes, size_t align, unsigned alloc_flags,
               uintptr_t site)
{
    int kind = atomic_load_explicit(&heap->large_kind, memory_order_relaxed);
    size_t pages = (bytes >> QR_PAGE_SHIFT) + ((bytes & QR_PAGE_MASK) != 0);
    size_t align_pages = align >> QR_PAGE_SHIFT;
    void *block = back_ends[kind]->alloc(heap, pages, align_pages, alloc_flags);

    if (block == NULL && qr_heap_reap(heap) != 0)
        block = back_ends[kind]->alloc(heap, pages, align_pages, alloc_flags);
    if (block == NULL)
        return NULL;
    atomic_fetch_add_explicit(&heap->large_blocks, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&heap->large_bytes, pages << QR_PAGE_SHIFT, memory_order_relaxed);
    if (heap_switched(heap, QR_HEAP_TRACK))
        qr_track_add(heap, block, bytes, site);
    return block;
}

void
qr_large_free(struct qr_heap *heap, void *block, struct qr_frame *head)
{
    if (heap_switched(heap, QR_HEAP_TRACK))
        qr_track_remove(heap, block);
    atomic_fetch_sub_explicit(&heap->large_blocks, 1, memory_order_relaxed);
    atomic_fetch_sub_explicit(&heap->large_bytes, qr_large_bytes(head), memory_order_relaxed);
    back_end_of(heap, head)->free(heap, block, head);
}

void
qr_large_shrink(struct qr_heap *heap, struct qr_frame *head, size_t bytes)
{
    size_t before = large_count(head);
    size_t keep = (bytes >> QR_PAGE_SHIFT) + ((bytes & QR_PAGE_MASK) != 0);

    keep = keep == 0 ? 1 : keep;
    if (keep >= before)
        return;
    back_end_of(heap, head)->shrink(heap, head, keep);
    atomic_fetch_sub_explicit(&heap->large_bytes, (before - large_count(head)) << QR_PAGE_SHIFT,
                              memory_order_relaxed);
}

/* ---- a run of frames for each block ---------------------------------------- */

static void *
frames_alloc(struct qr_heap *heap, size_t pages, size_t align_pages, unsigned alloc_flags)
{
    struct qr_contiguous_request request = {
        .count = pages,
        .align_frames = align_pages,
        .alloc_flags = alloc_flags & ~(unsigned)QR_ALLOC_HIGH,
    };
    struct qr_frame *head = qr_frame_alloc_contiguous(heap->frames, &request);

    if (head == NULL)
        return NULL;
    qr_frame_set_type(head, QR_FRAME_LARGE);
    atomic_store_explicit(&head->owner, heap, memory_order_relaxed);
    atomic_store_explicit(&head->index, pages, memory_order_relaxed);
    atomic_fetch_add_explicit(&heap->large_frames, pages, memory_order_relaxed);
    return qr_heap_address(heap, head);
}

/* Free frames [from, to) of the block. */
static void
tail_free(struct qr_heap *heap, struct qr_frame *head, size_t from, size_t to)
{
    size_t pfn = qr_frame_pfn(heap->frames, head).v;

    atomic_fetch_sub_explicit(&heap->large_frames, to - from, memory_order_relaxed);
    while (from < to) {
        struct qr_frame *list[64];
        size_t count = 0;

        for (; from < to && count < 64; from++)
            list[count++] = qr_frame_of(heap->frames, qr_pfn_of(pfn + from));
        qr_frame_free_many(heap->frames, count, list);
    }
}

static void
frames_free(struct qr_heap *heap, void *block, struct qr_frame *head)
{
    size_t count = large_count(head);

    (void)block;
    atomic_store_explicit(&head->owner, NULL, memory_order_relaxed);
    atomic_store_explicit(&head->index, 0, memory_order_relaxed);
    qr_frame_set_type(head, QR_FRAME_KERNEL);
    tail_free(heap, head, 0, count);
}

static void
frames_shrink(struct qr_heap *heap, struct qr_frame *head, size_t pages)
{
    size_t count = large_count(head);

    atomic_store_explicit(&head->index, pages, memory_order_relaxed);
    tail_free(heap, head, pages, count);
}

const struct large_ops qr_large_frames_ops = {
    .alloc = frames_alloc,
    .free = frames_free,
    .shrink = frames_shrink,
};
