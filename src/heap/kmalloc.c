/* SPDX-License-Identifier: MIT */
/*
 * The kmalloc family: a class for each power of two from 8 bytes to 16 KiB, whole
 * frames above.  A block's page descriptor says what it is: SLAB frames name their cache,
 * LARGE frames are the head of a block of frames, and nothing else can be freed.
 */
#include "heap.h"

#include <limits.h>

/* bytes 1..16384 to 0..11; 0 and more wrap to a number past the last class. */
static QR_ALWAYS_INLINE size_t
class_of(size_t bytes)
{
    size_t top = (bytes - 1) | 7;

    if (qr_unlikely(top >= QR_KMALLOC_MAX))
        return CLASS_COUNT;
    return sizeof(unsigned long) * CHAR_BIT - 3 - (size_t)__builtin_clzl(top);
}

static QR_NOINLINE void *
kmalloc_slow(struct qr_heap *heap, size_t bytes, unsigned alloc_flags, uintptr_t site)
{
    size_t class = class_of(bytes);
    struct qr_cache *cache;

    if (bytes == 0)
        return NULL;
    if (class == CLASS_COUNT)
        return qr_large_alloc(heap, bytes, 0, alloc_flags);
    cache = alloc_flags & QR_ALLOC_DMA ? &heap->dma_classes[class] : &heap->classes[class];
    return qr_cache_alloc_sized(cache, bytes, alloc_flags, site);
}

/* Debug builds take no short cut past the tests' refusal (cache.c). */
#ifdef CONFIG_MEMORY_DEBUGGING
#define ALWAYS_SLOW true
#else
#define ALWAYS_SLOW false
#endif

void *
qr_kmalloc(struct qr_heap *heap, size_t bytes, unsigned alloc_flags)
{
    size_t class = class_of(bytes);

    if (!ALWAYS_SLOW &&
        qr_likely(class != CLASS_COUNT && (alloc_flags & (QR_ALLOC_DMA | QR_ALLOC_ZERO)) == 0)) {
        struct qr_cache *cache = &heap->classes[class];
        void *object = cache_pop(cache);

        if (qr_likely(object != NULL)) {
            qr_heap_mark_used(cache, object, bytes, CALLER());
            return object;
        }
    }
    return kmalloc_slow(heap, bytes, alloc_flags, CALLER());
}

void *
qr_kcalloc(struct qr_heap *heap, size_t count, size_t bytes, unsigned alloc_flags)
{
    size_t total;

    if (__builtin_mul_overflow(count, bytes, &total))
        return NULL;
    return kmalloc_slow(heap, total, alloc_flags | QR_ALLOC_ZERO, CALLER());
}

void *
qr_kmalloc_dma(struct qr_heap *heap, size_t bytes, unsigned alloc_flags)
{
    return kmalloc_slow(heap, bytes, alloc_flags | QR_ALLOC_DMA, CALLER());
}

void *
qr_kmalloc_aligned(struct qr_heap *heap, size_t bytes, size_t align, unsigned alloc_flags)
{
    qr_assert((align & (align - 1)) == 0);
    if (bytes == 0)
        return NULL;
    /* A class no smaller than the alignment is aligned to it, up to a page. */
    if (align <= QR_PAGE_SIZE && bytes <= QR_KMALLOC_MAX)
        return kmalloc_slow(heap, bytes < align ? align : bytes, alloc_flags, CALLER());
    return qr_large_alloc(heap, bytes, align, alloc_flags);
}

/* ---- freeing ------------------------------------------------------------ */

static QR_NORETURN QR_COLD void
bad_pointer(const struct qr_frame *frame, const void *block, const char *what)
{
    qr_panic("heap: %s of %p, which is no block of this heap (page type %d); pass the pointer "
             "that kmalloc returned, once",
             what, block, frame == NULL ? -1 : (int)qr_frame_type(frame));
}

/* Whether a large block starts at @block. */
static bool
is_large(struct qr_heap *heap, const struct qr_frame *frame, const void *block)
{
    return frame != NULL && qr_frame_type(frame) == QR_FRAME_LARGE &&
           ((uintptr_t)block & QR_PAGE_MASK) == 0 &&
           atomic_load_explicit(&frame->owner, memory_order_relaxed) == heap;
}

static QR_NOINLINE void
kfree_slow(struct qr_heap *heap, struct qr_frame *frame, void *block)
{
    if (block == NULL)
        return;
    if (!is_large(heap, frame, block))
        bad_pointer(frame, block, "free");
    qr_large_free(heap, block, frame);
}

/* The cache that @block belongs to; NULL where it is not on a slab. */
static QR_ALWAYS_INLINE struct qr_cache *
cache_of(struct qr_heap *heap, void *block)
{
    if (FREE_BY_PAGE && qr_likely(block != NULL)) {
        struct slab *slab = slab_on_page(heap, block);

        if (qr_likely(slab != NULL))
            return slab->cache;
    }
    struct qr_frame *frame = block == NULL ? NULL : qr_heap_frame(heap, block);

    if (frame == NULL || qr_frame_type(frame) != QR_FRAME_SLAB) {
        kfree_slow(heap, frame, block);
        return NULL;
    }
    return (struct qr_cache *)atomic_load_explicit(&frame->index, memory_order_relaxed);
}

void
qr_kfree(struct qr_heap *heap, void *block)
{
    struct qr_cache *cache = cache_of(heap, block);

    if (qr_unlikely(cache == NULL))
        return;
#ifdef CONFIG_MEMORY_DEBUGGING
    (void)qr_slab_index(qr_slab_find(heap, block), block);
#else
    /* Classes are powers of two, aligned by nature: the inside of a block shows. */
    if (qr_unlikely(((uintptr_t)block & cache->align_mask) != 0))
        bad_pointer(NULL, block, "free of the inside");
#endif
    qr_heap_mark_free(cache, block, CALLER());
    if (qr_unlikely(!cache_push(cache, block)))
        qr_heap_lane_free(cache, block);
}

/* ---- sizes -------------------------------------------------------------- */

size_t
qr_ksize(struct qr_heap *heap, const void *block)
{
    struct qr_frame *frame = qr_heap_frame(heap, block);
    struct qr_cache *cache;

    if (frame == NULL || qr_frame_type(frame) != QR_FRAME_SLAB) {
        if (!is_large(heap, frame, block))
            bad_pointer(frame, block, "size");
        return qr_large_bytes(frame);
    }
    cache = (struct qr_cache *)atomic_load_explicit(&frame->index, memory_order_relaxed);
#ifdef CONFIG_MEMORY_DEBUGGING
    return qr_heap_requested(cache, block);
#else
    return cache->object_bytes;
#endif
}

/* Whether @block can hold @bytes where it stands. */
static bool
resize_in_place(struct qr_heap *heap, void *block, size_t bytes, uintptr_t site)
{
    struct qr_frame *frame = qr_heap_frame(heap, block);
    struct qr_cache *cache;

    if (frame == NULL || qr_frame_type(frame) != QR_FRAME_SLAB) {
        if (!is_large(heap, frame, block))
            bad_pointer(frame, block, "resize");
        if (bytes > qr_large_bytes(frame))
            return false;
        qr_large_shrink(heap, frame, bytes);
        return true;
    }
    cache = (struct qr_cache *)atomic_load_explicit(&frame->index, memory_order_relaxed);
    if (bytes > cache->object_bytes)
        return false;
#ifdef CONFIG_MEMORY_DEBUGGING
    qr_heap_requested_set(cache, block, bytes, site);
#else
    (void)site;
#endif
    return true;
}

void *
qr_krealloc(struct qr_heap *heap, void *block, size_t bytes, unsigned alloc_flags)
{
    void *larger;
    size_t old;

    if (block == NULL)
        return kmalloc_slow(heap, bytes, alloc_flags, CALLER());
    if (bytes == 0) {
        qr_kfree(heap, block);
        return NULL;
    }
    old = qr_ksize(heap, block);
    if (resize_in_place(heap, block, bytes, CALLER()))
        return block;
    larger = kmalloc_slow(heap, bytes, alloc_flags, CALLER());
    if (larger == NULL)
        return NULL;
    __builtin_memcpy(larger, block, old < bytes ? old : bytes);
    qr_kfree(heap, block);
    return larger;
}
