/* SPDX-License-Identifier: MIT */
/*
 * The kmalloc family: classes from 8 bytes to 16 KiB, four to each doubling, and large
 * blocks above.  A block's page descriptor says what it is: SLAB frames name their slab,
 * LARGE frames are the head of a block of frames, and nothing else can be freed.
 *
 * The fast paths, in instructions of x86-64: the class of the size from a table (4), this CPU's
 * lanes (3), the lane (1), the pop (6), the mark of a free object (1).  Freeing: the slab by
 * the start of the page (5, NULL included), whether the block is the start of an
 * object (5), the mark (4), the lane (4), the push (6).
 */
#include "heap.h"

/* Past the classes where @bytes is 0 or too large for them. */
static QR_ALWAYS_INLINE size_t
class_of(size_t bytes)
{
    if (bytes - 1 >= QR_KMALLOC_MAX)
        return CLASS_COUNT;
    return QR_KMALLOC_CLASS(bytes);
}

/* The caches of DMA memory are powers of two. */
static size_t
dma_class_of(size_t bytes)
{
    size_t class = 0;

    while ((size_t)8 << class < bytes)
        class ++;
    return class;
}

/* All but the common case. */
static QR_NOINLINE void *
kmalloc_slow(struct qr_heap *heap, size_t bytes, unsigned alloc_flags, uintptr_t site)
{
    size_t class = class_of(bytes);
    void *block;

    if (bytes == 0)
        return NULL;
    if (class == CLASS_COUNT)
        return qr_large_alloc(heap, bytes, 0, alloc_flags, site);
    if (alloc_flags & QR_ALLOC_DMA)
        return qr_cache_alloc_sized(&heap->dma_classes[dma_class_of(bytes)], bytes, alloc_flags,
                                    site);
    block = qr_guard_alloc(heap, bytes, alloc_flags, site);
    return block != NULL ? block
                         : qr_cache_alloc_sized(&heap->classes[class], bytes, alloc_flags, site);
}

/* Debug builds take no short cut past the tests' refusal (cache.c). */
#ifdef CONFIG_MEMORY_DEBUGGING
#define ALWAYS_SLOW true
#else
#define ALWAYS_SLOW false
#endif

/* From the lane @offset bytes into this CPU's lanes; NULL where that needs the slow path. */
static QR_ALWAYS_INLINE void *
lanes_pop(struct qr_heap *heap, size_t offset)
{
    struct heap_lane *lanes = cpu_lanes(&heap->alloc_lanes[qr_port_this_cpu()->index]);
    void *object = lane_pop(lane_at(lanes, offset), (uintptr_t)lanes);

    if (qr_likely(object != NULL))
        *(uintptr_t *)object = 0; /* no longer free: see object_mark() */
    return object;
}

void *
qr_kmalloc_plain(struct qr_heap *heap, size_t bytes)
{
    void *object = NULL;

    if (qr_likely(bytes <= CLASS_FINE) && !ALWAYS_SLOW)
        object = lanes_pop(heap, heap->lane_of[(bytes + 7) / 8]);
    else if (bytes <= QR_KMALLOC_MAX && !ALWAYS_SLOW)
        object = lanes_pop(heap, heap->lane_of_coarse[(bytes + 127) / 128]);
    if (qr_likely(object != NULL))
        return object;
    return kmalloc_slow(heap, bytes, 0, CALLER());
}

void *
qr_kmalloc_class(struct qr_heap *heap, size_t class_offset)
{
    void *object = NULL;

    if (!ALWAYS_SLOW)
        object = lanes_pop(heap, class_offset);
    if (qr_likely(object != NULL))
        return object;
    return kmalloc_slow(heap, heap->classes[class_offset / sizeof(struct heap_lane)].object_bytes,
                        0, CALLER());
}

void *
qr_kmalloc_flags(struct qr_heap *heap, size_t bytes, unsigned alloc_flags)
{
    return kmalloc_slow(heap, bytes, alloc_flags, CALLER());
}

void *
qr_kmalloc_sited(struct qr_heap *heap, size_t bytes, unsigned alloc_flags, uintptr_t site)
{
    return kmalloc_slow(heap, bytes, alloc_flags, site);
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
    size_t rounded = bytes;

    qr_assert((align & (align - 1)) == 0);
    if (bytes == 0)
        return NULL;
    /* A multiple of the alignment is of a class that is aligned to it, up to a page. */
    if (align > 1 && bytes <= QR_KMALLOC_MAX)
        rounded = (bytes + align - 1) & ~(align - 1);
    if (align > QR_PAGE_SIZE || rounded > QR_KMALLOC_MAX)
        return qr_large_alloc(heap, bytes, align, alloc_flags, CALLER());
    if (alloc_flags & QR_ALLOC_DMA)
        return qr_cache_alloc_sized(&heap->dma_classes[dma_class_of(rounded)], bytes, alloc_flags,
                                    CALLER());
    return qr_cache_alloc_sized(&heap->classes[class_of(rounded)], bytes, alloc_flags, CALLER());
}

size_t
qr_kmalloc_bulk(struct qr_heap *heap, size_t bytes, size_t count, void **out, unsigned alloc_flags)
{
    size_t class = class_of(bytes);
    size_t got = 0;

    if (class != CLASS_COUNT && (alloc_flags & QR_ALLOC_DMA) == 0 && !ALWAYS_SLOW)
        return qr_cache_alloc_many(&heap->classes[class], bytes, count, out, alloc_flags, CALLER());
    while (got < count && (out[got] = kmalloc_slow(heap, bytes, alloc_flags, CALLER())) != NULL)
        got++;
    return got;
}

/* ---- freeing ------------------------------------------------------------ */

static QR_NORETURN QR_COLD void
bad_pointer(const struct qr_frame *frame, const void *block, const char *what)
{
    qr_panic("heap: %s of %p, which is no block of this heap (page type %d); pass the pointer "
             "that kmalloc returned, once",
             what, block, frame == NULL ? -1 : (int)qr_frame_type(frame));
}

/* The slab of @block where its page is one of a class with its record at the start; else NULL. */
static QR_ALWAYS_INLINE struct slab *
slab_on_page(const struct qr_heap *heap, const void *block)
{
    uintptr_t page = (uintptr_t)block & ~(uintptr_t)QR_PAGE_MASK;
    struct slab *slab = (struct slab *)page;

    if (qr_unlikely(page == 0)) /* NULL */
        return NULL;
    return slab->magic == slab_mark(heap, page) ? slab : NULL;
}

/* The slab of a block of the kmalloc family, asked of its descriptor; NULL: it has none. */
static QR_ALWAYS_INLINE struct slab *
slab_by_frame(const struct qr_frame *frame, const void *block)
{
    struct slab *slab = NULL;

    if (frame != NULL && qr_frame_type(frame) == QR_FRAME_SLAB)
        slab = atomic_load_explicit(&frame->owner, memory_order_relaxed);
    if (slab != NULL && !is_object_start(slab, block))
        qr_heap_inside_free(slab->cache, block);
    return slab;
}

/* What is wrong with the free of @block.  It looks again, so that its callers need no frame. */
static QR_COLD void
bad_free(struct qr_heap *heap, void *block)
{
    struct slab *slab = (struct slab *)((uintptr_t)block & ~(uintptr_t)QR_PAGE_MASK);

    if (!is_object_start(slab, block))
        qr_heap_inside_free(slab->cache, block);
    if (*(uintptr_t *)block == object_mark(heap->key, block))
        qr_heap_double_free(slab->cache, block);
}

static QR_NOINLINE void
lane_full(void *block)
{
    struct slab *slab = (struct slab *)((uintptr_t)block & ~(uintptr_t)QR_PAGE_MASK);

    qr_heap_lane_free(slab->cache, block);
}

/*
 * A block of a class; @mark is its object_mark(), @held says "held" in the top of a lane.
 * @return whether its slab's lane took it
 */
static QR_ALWAYS_INLINE bool
class_free(struct qr_heap *heap, struct slab *slab, void *block, uintptr_t mark, uintptr_t held)
{
    struct heap_lane *lanes;

    *(uintptr_t *)block = mark;
    lanes = cpu_lanes(&heap->free_lanes[qr_port_this_cpu()->index]);
    return lane_push(lane_at(lanes, slab->lane), block, held);
}

/* A block of a class that lies on a page with a record. */
static QR_ALWAYS_INLINE void
slab_free(struct qr_heap *heap, struct slab *slab, void *block)
{
    /* object_mark(), from what the look at the page has computed already. */
    uintptr_t mark = slab_mark(heap, (uintptr_t)slab) ^ (uintptr_t)block;

    if (qr_unlikely(!is_object_start(slab, block)) || qr_unlikely(*(uintptr_t *)block == mark)) {
        bad_free(heap, block);
        return;
    }
    if (qr_unlikely(!class_free(heap, slab, block, mark, (uintptr_t)slab)))
        lane_full(block);
}

/* Large blocks, guarded ones, what is none, and NULL. */
static QR_NOINLINE void
kfree_rest(struct qr_heap *heap, struct qr_frame *frame, void *block, uintptr_t site)
{
    if (qr_guard_free(heap, block, site)) {
        if (heap_switched(heap, QR_HEAP_TRACK))
            qr_track_remove(heap, block);
        return;
    }
    if (!qr_is_large(heap, frame, block))
        bad_pointer(frame, block, "free");
    qr_large_free(heap, block, frame);
}

/* Blocks that are on no page with a record, and in debug builds all. */
static QR_NOINLINE void
kfree_slow(struct qr_heap *heap, void *block, uintptr_t site)
{
    if (block == NULL)
        return;
    struct qr_frame *frame = qr_heap_frame(heap, block);
    struct slab *slab = slab_by_frame(frame, block);
    uintptr_t mark = object_mark(heap->key, block);

    if (qr_unlikely(slab == NULL)) {
        kfree_rest(heap, frame, block, site);
        return;
    }
    /* Lane 0 is that of 8 bytes, which are never here, and of all caches. */
    if (ALWAYS_SLOW || slab->lane == 0) {
        (void)qr_slab_index(slab, block);
        qr_cache_free_sited(slab->cache, block, site);
        return;
    }
    if (qr_unlikely(*(uintptr_t *)block == mark))
        qr_heap_double_free(slab->cache, block);
    if (qr_unlikely(!class_free(heap, slab, block, mark, 0)))
        qr_heap_lane_free(slab->cache, block);
}

void
qr_kfree(struct qr_heap *heap, void *block)
{
    struct slab *slab = FREE_BY_PAGE ? slab_on_page(heap, block) : NULL;

    if (qr_likely(slab != NULL))
        slab_free(heap, slab, block);
    else
        kfree_slow(heap, block, CALLER());
}

/*
 * Blocks of one slab, as many as follow one another and the loaded magazine takes.
 * @return how many; 0: the first needs another way
 */
static QR_NOINLINE size_t /* with all registers to itself */
slab_free_run(struct qr_heap *heap, struct slab *slab, size_t count, void *const *blocks)
{
    struct heap_lane *lane =
        lane_at(cpu_lanes(&heap->free_lanes[qr_port_this_cpu()->index]), slab->lane);
    uintptr_t top = atomic_exchange_explicit(&lane->top, (uintptr_t)slab, memory_order_acquire);
    uint32_t low = lane_mask(lane) | (uint32_t)WORD_BYTES;
    uint32_t have = (uint32_t)top & low;
    void **slot = (void **)top + 1;
    uint32_t first = (uint32_t)(slab->base - (char *)slab), reciprocal = slab->reciprocal;
    uintptr_t key = heap->key;
    size_t i = 0;

    if (have == 0)
        return 0;
    if (count > (low - have) / WORD_BYTES)
        count = (low - have) / WORD_BYTES;
    /* As in slab_free(), with what stays the same in registers. */
    _Pragma("GCC unroll 4") for (; i < count; i++)
    {
        uintptr_t *block = blocks[i];
        uintptr_t at = (uintptr_t)block ^ (uintptr_t)slab;
        uintptr_t mark = key ^ at;

        if (at >= QR_PAGE_SIZE)
            break;
        if (qr_unlikely(((uint32_t)at - first) * reciprocal >= reciprocal) ||
            qr_unlikely(*block == mark))
            bad_free(heap, block);
        *block = mark;
        slot[i] = block;
    }
    atomic_store_explicit(&lane->top, (uintptr_t)(slot + i - 1), memory_order_release);
    return i;
}

void
qr_kfree_bulk(struct qr_heap *heap, size_t count, void *const *blocks)
{
    for (size_t i = 0; i < count;) {
        struct slab *slab = FREE_BY_PAGE ? slab_on_page(heap, blocks[i]) : NULL;
        size_t freed = slab == NULL ? 0 : slab_free_run(heap, slab, count - i, blocks + i);

        i += freed;
        if (freed == 0 && slab != NULL)
            slab_free(heap, slab, blocks[i++]);
        else if (freed == 0)
            kfree_slow(heap, blocks[i++], CALLER());
    }
}

static QR_NORETURN QR_COLD void
wrong_size(const void *block, size_t bytes, size_t is)
{
    qr_panic("heap: %p is freed as a block of %zu bytes, but is one of %zu; pass the size that "
             "was asked for last",
             block, bytes, is);
}

void
qr_kfree_sized(struct qr_heap *heap, void *block, size_t bytes)
{
    struct slab *slab = FREE_BY_PAGE ? slab_on_page(heap, block) : NULL;

    if (qr_likely(slab != NULL)) {
        if (qr_unlikely(bytes > slab->cache->object_bytes))
            wrong_size(block, bytes, slab->cache->object_bytes);
        slab_free(heap, slab, block);
        return;
    }
    if (block != NULL) {
        size_t is = qr_ksize(heap, block);
        bool exact = ALWAYS_SLOW && qr_slab_find(heap, block) != NULL;

        if (bytes > is || (exact && bytes != is))
            wrong_size(block, bytes, is);
    }
    kfree_slow(heap, block, CALLER());
}

/* ---- sizes -------------------------------------------------------------- */

/* What a block on @slab holds, as far as its caller may use it. */
static size_t
slab_block_bytes(struct slab *slab, const void *block)
{
#ifdef CONFIG_MEMORY_DEBUGGING
    return qr_heap_requested(slab->cache, block);
#else
    (void)block;
    return slab->cache->object_bytes;
#endif
}

size_t
qr_ksize(struct qr_heap *heap, const void *block)
{
    size_t guarded = qr_guard_bytes(heap, block);
    struct qr_frame *frame;
    struct slab *slab;

    if (guarded != 0)
        return guarded;
    frame = qr_heap_frame(heap, block);
    slab = slab_by_frame(frame, block);
    if (slab != NULL)
        return slab_block_bytes(slab, block);
    if (!qr_is_large(heap, frame, block))
        bad_pointer(frame, block, "size");
    return qr_large_bytes(frame);
}

/* Whether @block can hold @bytes where it stands. */
static bool
resize_in_place(struct qr_heap *heap, void *block, size_t bytes, uintptr_t site)
{
    struct qr_frame *frame = qr_heap_frame(heap, block);
    struct slab *slab;

    if (qr_guard_bytes(heap, block) != 0)
        return false;
    slab = slab_by_frame(frame, block);
    if (slab == NULL) {
        if (!qr_is_large(heap, frame, block))
            bad_pointer(frame, block, "resize");
        if (bytes > qr_large_bytes(frame))
            return false;
        qr_large_shrink(heap, frame, bytes);
        if (heap_switched(heap, QR_HEAP_TRACK))
            qr_track_add(heap, block, bytes, site);
        return true;
    }
    if (bytes > slab->cache->object_bytes)
        return false;
#ifdef CONFIG_MEMORY_DEBUGGING
    qr_heap_requested_set(slab->cache, block, bytes, site);
#endif
    if (heap_tracks_objects(heap))
        qr_track_add(heap, block, bytes, site);
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
