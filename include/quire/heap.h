/* SPDX-License-Identifier: MIT */
#ifndef QUIRE_HEAP_H
#define QUIRE_HEAP_H

/**
 * @file
 * The kernel heap: object caches (slabs with per-CPU magazines), the kmalloc
 * family over them, and larger blocks straight from the frame allocator.
 */

#ifndef __cplusplus
#include <quire/frame.h>

struct qr_heap;  /* one machine's heap; src/heap/heap.h */
struct qr_cache; /* objects of one size and kind */

/** Bytes of an instance; the host or the frame allocator provides them, zeroed. */
size_t qr_heap_size(unsigned cpu_count);
QR_MUST_USE enum qr_status qr_heap_init(struct qr_heap *heap, struct qr_frames *frames,
                                        unsigned cpu_count);
/** Give every slab back.  @return objects that were still allocated (a leak) */
size_t qr_heap_fini(struct qr_heap *heap);

struct qr_cache_config {
    const char *name; /**< static text, for slabinfo */
    size_t object_bytes;
    size_t align; /**< power of two; 0: natural for the size */
    /** Runs once when an object's slab is made, not at each allocation; may be NULL. */
    void (*construct)(void *object);
    unsigned alloc_flags; /**< added to each slab's frame request, e.g. QR_ALLOC_DMA */
};

QR_MUST_USE enum qr_status qr_cache_create(struct qr_heap *heap,
                                           const struct qr_cache_config *config,
                                           struct qr_cache **out_cache);
/** @return objects that were still allocated; the cache is gone only where this is 0 */
size_t qr_cache_destroy(struct qr_cache *cache);

/** NULL when memory is exhausted.  Any context with QR_ALLOC_ATOMIC. */
void *qr_cache_alloc(struct qr_cache *cache, unsigned alloc_flags);
void qr_cache_free(struct qr_cache *cache, void *object);
/** Give empty slabs back, magazines included.  @return frames freed */
size_t qr_cache_reap(struct qr_cache *cache);

/** Smallest and largest kmalloc class; above: whole frames. */
#define QR_KMALLOC_MIN 8
#define QR_KMALLOC_MAX 16384

/**
 * At least @p bytes, aligned to 8 or to the class where it is a power of two; NULL when
 * memory is exhausted or bytes is 0.
 */
void *qr_kmalloc(struct qr_heap *heap, size_t bytes, unsigned alloc_flags);
/** Cleared, and count * bytes checked for overflow (NULL). */
void *qr_kcalloc(struct qr_heap *heap, size_t count, size_t bytes, unsigned alloc_flags);
/** As realloc: NULL leaves the old block as it was; bytes 0 frees and returns NULL. */
void *qr_krealloc(struct qr_heap *heap, void *block, size_t bytes, unsigned alloc_flags);
void *qr_kmalloc_aligned(struct qr_heap *heap, size_t bytes, size_t align, unsigned alloc_flags);
/** Physically contiguous, below 16 MiB. */
void *qr_kmalloc_dma(struct qr_heap *heap, size_t bytes, unsigned alloc_flags);
/** Any block of the kmalloc family; NULL is allowed. */
void qr_kfree(struct qr_heap *heap, void *block);
/** Bytes that the block can hold; under CONFIG_MEMORY_DEBUGGING what was asked for. */
size_t qr_ksize(struct qr_heap *heap, const void *block);

/** Reap every cache: what a reclaim hook calls first.  @return frames freed */
size_t qr_heap_reap(struct qr_heap *heap);

struct qr_cache_stats {
    const char *name;
    size_t object_bytes, slab_frames, objects_per_slab;
    size_t slabs, active_slabs;
    size_t active_objects, total_objects;
    size_t requested_bytes; /**< kmalloc only: what callers asked for, where tracked */
    unsigned magazine_objects;
};
/** Statistics of the index-th cache; false past the end. */
bool qr_heap_cache_stats(struct qr_heap *heap, size_t index, struct qr_cache_stats *out_stats);

struct qr_heap_stats {
    size_t frames;       /**< frames held by slabs and large blocks */
    size_t active_bytes; /**< bytes of allocated objects */
    size_t large_blocks, large_bytes;
};
void qr_heap_stats(struct qr_heap *heap, struct qr_heap_stats *out_stats);

bool qr_heap_validate(struct qr_heap *heap, char *out_message, size_t bytes);

/** Objects still allocated, by call site (CONFIG_MEMORY_DEBUGGING), into @p writer. */
void qr_heap_report_leaks(struct qr_heap *heap, struct qr_writer *writer);

#endif
#endif
