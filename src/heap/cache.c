/* SPDX-License-Identifier: MIT */
/*
 * Object caches as callers see them, and the heap that holds them.
 *
 * struct qr_heap carries the caches that the heap itself needs: twelve kmalloc
 * classes, the same for DMA, records of off-slab slabs, and magazines of four sizes.
 * The last three have no magazines of their own, which ends the circle.  Caches that
 * others create are blocks of the kmalloc family.
 */
#include "heap.h"

static const uint32_t magazine_sizes[MAGAZINE_KINDS] = {63, 31, 15, 7};

static size_t
lanes_bytes(unsigned cpu_count)
{
    return cpu_count * sizeof(struct heap_lane);
}

/* The alignment that an object of @bytes has by itself: its lowest set bit, 8 to 64. */
static size_t
natural_align(size_t bytes)
{
    size_t align = bytes & -bytes;

    return align < 8 ? 8 : align > QR_CACHE_LINE ? QR_CACHE_LINE : align;
}

static void
lanes_init(struct heap_lane *lanes, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        qr_spin_init(&lanes[i].lock, QR_RANK_NONE);
        lanes[i].closed = true;
        lanes[i].loaded = NULL;
        lanes[i].previous = NULL;
        lanes[i].previous_count = 0;
        atomic_init(&lanes[i].top, 0);
    }
}

static void
cache_magazines(struct qr_cache *cache, struct heap_lane *lanes)
{
    cache->lanes = cache->heap->closed_lanes;
    cache->magazine_size = 0;
    if (lanes == NULL)
        return;
    cache->lanes = lanes;
    lanes_init(lanes, cache->heap->cpu_count);
    while (cache->magazine_kind < MAGAZINE_KINDS - 1 &&
           cache->stride > (size_t)256 << (2 * cache->magazine_kind))
        cache->magazine_kind++;
    cache->magazine_size = magazine_sizes[cache->magazine_kind];
}

/*
 * How much a cache keeps for later: up to 128 KiB in the depot and as much in empty slabs,
 * less where the machine is small.  All of it is given back when memory is short.
 */
static void
cache_limits(struct qr_cache *cache)
{
    size_t bytes = cache->heap->frames->total / 2048 << QR_PAGE_SHIFT;
    size_t magazine = (size_t)cache->stride * cache->magazine_size;

    bytes = bytes > 131072 ? 131072 : bytes;
    cache->depot_limit = magazine == 0 ? 0 : (uint32_t)(bytes / magazine) + 1;
    cache->empty_limit = (bytes >> QR_PAGE_SHIFT >> cache->slab_order) + 1;
}

void
qr_cache_setup(struct qr_heap *heap, struct qr_cache *cache, const struct qr_cache_config *config,
               struct heap_lane *lanes)
{
    size_t bytes =
        config->object_bytes < sizeof(uintptr_t) ? sizeof(uintptr_t) : config->object_bytes;
    size_t align = config->align == 0 ? natural_align(bytes) : config->align;
    size_t stride = (bytes + 7) & ~(size_t)7;

    *cache = (struct qr_cache){.heap = heap, .name = config->name};
    cache->object_bytes = (uint32_t)config->object_bytes;
    cache->construct = config->construct;
    cache->alloc_flags = config->alloc_flags;
    cache->align = (uint32_t)(align < 8 ? 8 : align);
    cache->cookie_offset = 0;
#ifdef CONFIG_MEMORY_DEBUGGING
    stride += RED_ZONE_BYTES;
    cache->cookie_offset = (uint32_t)stride; /* the record, behind the red zone */
    stride += sizeof(struct object_record);
#else
    /* What a constructor made must not be written over while the object is free. */
    if (config->construct != NULL) {
        cache->cookie_offset = (uint32_t)stride;
        stride += sizeof(uintptr_t);
    }
#endif
    cache->stride = (uint32_t)((stride + cache->align - 1) / cache->align * cache->align);
    qr_port_random(&cache->key, sizeof(cache->key));
    cache->key |= 1; /* no address equals its own mark */
    qr_spin_init(&cache->lock, QR_RANK_SLAB);
    qr_list_init(&cache->partial);
    qr_list_init(&cache->full);
    qr_list_init(&cache->empty);
    qr_cache_layout(cache);
    cache_magazines(cache, lanes);
    cache_limits(cache);
    cache->align_mask = cache->align - 1;

    qr_spin_lock(&heap->lock);
    qr_list_push_back(&heap->caches, &cache->link);
    qr_spin_unlock(&heap->lock);
}

/* ---- the heap ----------------------------------------------------------- */

/* One set of lanes for each class, and the set that is always closed. */
size_t
qr_heap_size(unsigned cpu_count)
{
    size_t heap = (sizeof(struct qr_heap) + QR_CACHE_LINE - 1) & ~(size_t)(QR_CACHE_LINE - 1);

    return heap + (CLASS_COUNT + 1) * lanes_bytes(cpu_count);
}

static void
setup_internal(struct qr_heap *heap, struct qr_cache *cache, const char *name, size_t bytes,
               unsigned alloc_flags, struct heap_lane *lanes)
{
    const struct qr_cache_config config = {
        .name = name,
        .object_bytes = bytes,
        .align = bytes < QR_PAGE_SIZE ? bytes : QR_PAGE_SIZE,
        .alloc_flags = alloc_flags,
    };

    qr_cache_setup(heap, cache, &config, lanes);
    cache->in_heap = true;
}

enum qr_status
qr_heap_init(struct qr_heap *heap, struct qr_frames *frames, unsigned cpu_count)
{
    static const char *const names[2][CLASS_COUNT] = {
        {"kmalloc-8", "kmalloc-16", "kmalloc-32", "kmalloc-64", "kmalloc-128", "kmalloc-256",
         "kmalloc-512", "kmalloc-1k", "kmalloc-2k", "kmalloc-4k", "kmalloc-8k", "kmalloc-16k"},
        {"dma-kmalloc-8", "dma-kmalloc-16", "dma-kmalloc-32", "dma-kmalloc-64", "dma-kmalloc-128",
         "dma-kmalloc-256", "dma-kmalloc-512", "dma-kmalloc-1k", "dma-kmalloc-2k", "dma-kmalloc-4k",
         "dma-kmalloc-8k", "dma-kmalloc-16k"},
    };
    static const char *const magazine_names[MAGAZINE_KINDS] = {"magazines-63", "magazines-31",
                                                               "magazines-15", "magazines-7"};
    size_t own = (sizeof(*heap) + QR_CACHE_LINE - 1) & ~(size_t)(QR_CACHE_LINE - 1);
    struct heap_lane *lanes = (struct heap_lane *)(void *)((char *)heap + own);

    if (cpu_count == 0 || cpu_count > CONFIG_MAX_CPUS)
        return QR_ERR_INVALID;
    heap->frames = frames;
    heap->cpu_count = cpu_count;
    qr_spin_init(&heap->lock, QR_RANK_HEAP);
    qr_list_init(&heap->caches);
    qr_port_random(&heap->key, sizeof(heap->key));
    heap->closed_lanes = lanes;
    lanes_init(lanes, cpu_count);

    setup_internal(heap, &heap->slab_records, "slab-records", QR_CACHE_LINE, 0, NULL);
    for (unsigned i = 0; i < MAGAZINE_KINDS; i++)
        setup_internal(heap, &heap->magazines[i], magazine_names[i],
                       sizeof(struct magazine) + magazine_sizes[i] * sizeof(void *), 0, NULL);
    for (unsigned i = 0; i < CLASS_COUNT; i++) {
        setup_internal(heap, &heap->classes[i], names[0][i], (size_t)8 << i, 0,
                       lanes + (size_t)(i + 1) * cpu_count);
        setup_internal(heap, &heap->dma_classes[i], names[1][i], (size_t)8 << i, QR_ALLOC_DMA,
                       NULL);
    }
    return QR_OK;
}

/* Empty and release; what is still in use stays.  @return objects */
static size_t
cache_empty(struct qr_cache *cache)
{
    qr_heap_lanes_drain(cache);
    (void)qr_slabs_release(cache, 0);
    return cache->in_use;
}

static bool
is_internal(const struct qr_heap *heap, const struct qr_cache *cache)
{
    return cache == &heap->slab_records ||
           (cache >= heap->magazines && cache < heap->magazines + MAGAZINE_KINDS);
}

size_t
qr_heap_fini(struct qr_heap *heap)
{
    size_t leaked = 0;

    /* Callers' objects first: emptying their caches frees records and magazines. */
    qr_list_for_each(link, &heap->caches)
    {
        struct qr_cache *cache = qr_list_entry(link, struct qr_cache, link);

        if (!is_internal(heap, cache))
            leaked += cache_empty(cache);
    }
    for (unsigned i = 0; i < MAGAZINE_KINDS; i++)
        (void)cache_empty(&heap->magazines[i]);
    (void)cache_empty(&heap->slab_records);
    return leaked + atomic_load_explicit(&heap->large_blocks, memory_order_relaxed);
}

/*
 * The registry stays locked, so that no cache goes away meanwhile; caches without
 * anything to give cost one load each, which makes a failing request cheap.
 */
size_t
qr_heap_reap(struct qr_heap *heap)
{
    size_t released = 0;

    qr_spin_lock(&heap->lock);
    qr_list_for_each(link, &heap->caches)
    {
        struct qr_cache *cache = qr_list_entry(link, struct qr_cache, link);

        if (atomic_load_explicit(&cache->reapable, memory_order_relaxed))
            released += qr_cache_reap(cache);
    }
    qr_spin_unlock(&heap->lock);
    return released;
}

/* ---- caches ------------------------------------------------------------- */

enum qr_status
qr_cache_create(struct qr_heap *heap, const struct qr_cache_config *config,
                struct qr_cache **out_cache)
{
    size_t own = (sizeof(struct qr_cache) + QR_CACHE_LINE - 1) & ~(size_t)(QR_CACHE_LINE - 1);
    struct qr_cache *cache;

    if (config->object_bytes == 0 || config->object_bytes > QR_KMALLOC_MAX ||
        (config->align & (config->align - 1)) != 0 || config->align > QR_PAGE_SIZE)
        return QR_ERR_INVALID;
    cache = qr_kmalloc_aligned(heap, own + lanes_bytes(heap->cpu_count), QR_CACHE_LINE, 0);
    if (cache == NULL)
        return QR_ERR_NO_MEMORY;
    qr_cache_setup(heap, cache, config, (struct heap_lane *)(void *)((char *)cache + own));
    *out_cache = cache;
    return QR_OK;
}

size_t
qr_cache_destroy(struct qr_cache *cache)
{
    struct qr_heap *heap = cache->heap;
    size_t leaked = cache_empty(cache);

    qr_assert(!cache->in_heap);
    if (leaked != 0)
        return leaked;
    qr_spin_lock(&heap->lock);
    qr_list_remove(&cache->link);
    qr_spin_unlock(&heap->lock);
    qr_kfree(heap, cache);
    return 0;
}

size_t
qr_cache_reap(struct qr_cache *cache)
{
    atomic_store_explicit(&cache->reapable, false, memory_order_relaxed);
    qr_heap_lanes_drain(cache);
    return qr_slabs_release(cache, 0);
}

/* An object by the slow way; in the end everything that the heap itself holds back. */
static QR_NOINLINE void *
cache_alloc_slow(struct qr_cache *cache, unsigned alloc_flags)
{
    void *object = qr_heap_lane_alloc(cache, alloc_flags);

    if (object == NULL && !is_internal(cache->heap, cache) && qr_heap_reap(cache->heap) != 0)
        object = qr_heap_lane_alloc(cache, alloc_flags);
    return object;
}

/* The tests' hook, asked for each object in debug builds; in others for frames alone. */
static inline bool
cache_refuses(struct qr_cache *cache)
{
#ifdef CONFIG_MEMORY_DEBUGGING
    return qr_alloc_refused(cache->heap->frames);
#else
    (void)cache;
    return false;
#endif
}

void *
qr_cache_alloc_sized(struct qr_cache *cache, size_t requested, unsigned alloc_flags, uintptr_t site)
{
    void *object;

    if (cache_refuses(cache))
        return NULL;
    object = cache_pop(cache);

    if (qr_unlikely(object == NULL)) {
        object = cache_alloc_slow(cache, alloc_flags);
        if (object == NULL)
            return NULL;
    }
    qr_heap_mark_used(cache, object, requested == 0 ? cache->object_bytes : requested, site);
    if (alloc_flags & QR_ALLOC_ZERO)
        __builtin_memset(object, 0, requested == 0 ? cache->object_bytes : requested);
    return object;
}

void
qr_cache_free_sited(struct qr_cache *cache, void *object, uintptr_t site)
{
    qr_heap_mark_free(cache, object, site);
    if (qr_unlikely(!cache_push(cache, object)))
        qr_heap_lane_free(cache, object);
}

void *
qr_cache_alloc(struct qr_cache *cache, unsigned alloc_flags)
{
    void *object;

    if (cache_refuses(cache))
        return NULL;
    object = cache_pop(cache);

    if (qr_unlikely(object == NULL)) {
        object = cache_alloc_slow(cache, alloc_flags);
        if (object == NULL)
            return NULL;
    }
    qr_heap_mark_used(cache, object, cache->object_bytes, CALLER());
    if (alloc_flags & QR_ALLOC_ZERO)
        __builtin_memset(object, 0, cache->object_bytes);
    return object;
}

void
qr_cache_free(struct qr_cache *cache, void *object)
{
#ifdef CONFIG_MEMORY_DEBUGGING
    struct slab *slab = qr_slab_find(cache->heap, object);

    if (slab == NULL || slab->cache != cache)
        qr_panic("heap: %p was freed to cache %s but belongs to %s; free an object to the cache "
                 "it came from",
                 object, cache->name, slab == NULL ? "no cache" : slab->cache->name);
    (void)qr_slab_index(slab, object);
#endif
    qr_heap_mark_free(cache, object, CALLER());
    if (qr_unlikely(!cache_push(cache, object)))
        qr_heap_lane_free(cache, object);
}

void
qr_heap_double_free(struct qr_cache *cache, void *object)
{
    qr_panic("heap: %p of cache %s is freed twice; the first free may be long ago "
             "(CONFIG_MEMORY_DEBUGGING remembers who did it)",
             object, cache->name);
}
