/* SPDX-License-Identifier: MIT */
/*
 * Blocks above the largest class: as many contiguous frames as they need, no more.
 *
 * The head frame has the type LARGE, names its heap, and its index is the number of
 * frames; the others are plain KERNEL frames, so a pointer into the middle is no
 * block.  Each frame carries a reference of its own, which lets a shrinking block give
 * its tail back.
 */
#include "heap.h"

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

void *
qr_large_alloc(struct qr_heap *heap, size_t bytes, size_t align, unsigned alloc_flags)
{
    struct qr_contiguous_request request = {
        .count = (bytes >> QR_PAGE_SHIFT) + ((bytes & QR_PAGE_MASK) != 0),
        .align_frames = align >> QR_PAGE_SHIFT,
        .alloc_flags = alloc_flags & ~(unsigned)QR_ALLOC_HIGH,
    };
    struct qr_frame *head = qr_frame_alloc_contiguous(heap->frames, &request);

    if (head == NULL && qr_heap_reap(heap) != 0)
        head = qr_frame_alloc_contiguous(heap->frames, &request);
    if (head == NULL)
        return NULL;
    qr_frame_set_type(head, QR_FRAME_LARGE);
    atomic_store_explicit(&head->owner, heap, memory_order_relaxed);
    atomic_store_explicit(&head->index, request.count, memory_order_relaxed);
    atomic_fetch_add_explicit(&heap->large_blocks, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&heap->large_frames, request.count, memory_order_relaxed);
    return qr_heap_address(heap, head);
}

/* Free frames [from, to) of the block. */
static void
tail_free(struct qr_heap *heap, struct qr_frame *head, size_t from, size_t to)
{
    size_t pfn = qr_frame_pfn(heap->frames, head).v;

    while (from < to) {
        struct qr_frame *list[64];
        size_t count = 0;

        for (; from < to && count < 64; from++)
            list[count++] = qr_frame_of(heap->frames, qr_pfn_of(pfn + from));
        qr_frame_free_many(heap->frames, count, list);
    }
}

void
qr_large_free(struct qr_heap *heap, void *block, struct qr_frame *head)
{
    size_t count = large_count(head);

    (void)block;
    atomic_fetch_sub_explicit(&heap->large_blocks, 1, memory_order_relaxed);
    atomic_fetch_sub_explicit(&heap->large_frames, count, memory_order_relaxed);
    atomic_store_explicit(&head->owner, NULL, memory_order_relaxed);
    atomic_store_explicit(&head->index, 0, memory_order_relaxed);
    qr_frame_set_type(head, QR_FRAME_KERNEL);
    tail_free(heap, head, 0, count);
}

void
qr_large_shrink(struct qr_heap *heap, struct qr_frame *head, size_t bytes)
{
    size_t count = large_count(head);
    size_t keep = (bytes + QR_PAGE_MASK) >> QR_PAGE_SHIFT;

    keep = keep == 0 ? 1 : keep;
    if (keep >= count)
        return;
    atomic_store_explicit(&head->index, keep, memory_order_relaxed);
    atomic_fetch_sub_explicit(&heap->large_frames, count - keep, memory_order_relaxed);
    tail_free(heap, head, keep, count);
}
