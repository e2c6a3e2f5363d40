/* SPDX-License-Identifier: MIT */
/*
 * Object caches as callers see them, and the heap that holds them.
 *
 * struct qr_heap carries the caches that the heap itself needs: the kmalloc classes, those for
 * DMA, records of off-slab slabs and of chunks, and magazines of six sizes.
 * All but the classes have no magazines of their own, which ends the circle.  Caches that
 * others create are blocks of the kmalloc family.
 *
 * Caches are isolated: no two share a slab, so what a stale pointer into one can reach
 * is never an object of another as long as the slab lives.
 *
 * A CPU's lanes of all classes are one block of memory, from the CPU's own node, made when the CPU
 * first misses; until then, and where there is no memory for it, the CPU uses a block of
 * lanes that never open.  The block starts on a page, so its address can stand in a
 * lane's top to say "held".
 */
#include "heap.h"

#ifdef CONFIG_HEAP_RANDOM_ORDER
#define ORDER_SWITCH QR_HEAP_RANDOM_ORDER
#else
#define ORDER_SWITCH 0
#endif
#define HEAP_SWITCHES (ORDER_SWITCH | QR_HEAP_POISON | QR_HEAP_RED_ZONES) /* as the heap starts */

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

/* What a cache keeps for later at most: less where the machine is small. */
static size_t
keep_bytes(const struct qr_heap *heap)
{
    size_t total = atomic_load_explicit(&heap->frames->total, memory_order_relaxed);
    size_t bytes = total / 2048 << QR_PAGE_SHIFT;

    return bytes > 131072 ? 131072 : bytes;
}

/*
 * Magazines of up to 16 KiB of objects, and no more than an eighth of what the cache keeps;
 * they start at a quarter of that.
 */
static void
cache_magazines(struct qr_cache *cache)
{
    size_t budget = keep_bytes(cache->heap) / 8;

    while (cache->kind_max + 1 < MAGAZINE_KINDS &&
           (size_t)magazine_capacity(cache->kind_max + 1u) * cache->stride <= budget)
        cache->kind_max++;
    cache->kind_start = cache->kind_max < 2 ? 0 : (uint8_t)(cache->kind_max - 2);
    atomic_init(&cache->kind, cache->kind_start);
}

/*
 * How much a cache keeps for later on each node: up to 128 KiB in the depot and as much in
 * empty slabs.  All of it is given back when memory is short.
 */
static void
cache_limits(struct qr_cache *cache)
{
    size_t bytes = keep_bytes(cache->heap);

    cache->depot_limit = cache->has_magazines ? bytes / cache->stride + 1 : 0;
    cache->empty_limit = (bytes >> QR_PAGE_SHIFT >> cache->slab_order) + 1;
}

static void
node_init(struct cache_node *node)
{
    qr_spin_init(&node->lock, QR_RANK_SLAB);
    qr_list_init(&node->partial);
    qr_list_init(&node->full);
    qr_list_init(&node->empty);
    qr_port_random(&node->random, sizeof(node->random));
    node->random |= 1;
}

/* What stands behind an object, and from one to the next. */
static void
cache_stride(struct qr_cache *cache, const struct qr_cache_config *config)
{
    size_t bytes =
        config->object_bytes < sizeof(uintptr_t) ? sizeof(uintptr_t) : config->object_bytes;
    size_t align = config->align == 0 ? natural_align(bytes) : config->align;
    size_t stride = (bytes + 7) & ~(size_t)7;

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
}

void
qr_cache_setup(struct qr_heap *heap, struct qr_cache *cache, const struct qr_cache_config *config,
               struct heap_lane *lanes, struct cache_node *more_nodes)
{
    bool is_class = cache >= heap->classes && cache < heap->classes + CLASS_COUNT;

    *cache = (struct qr_cache){.heap = heap, .name = config->name};
    cache->class_index = is_class ? (uint16_t)(cache - heap->classes) : CACHE_NO_CLASS;
    cache->has_magazines = is_class || lanes != NULL;
    cache->many_nodes = cache->has_magazines && heap->node_count > 1;
    cache->object_bytes = (uint32_t)config->object_bytes;
    cache->construct = config->construct;
    cache->move = config->move;
    cache->move_context = config->move_context;
    cache->alloc_flags = config->alloc_flags;
    cache->lanes = lanes == NULL ? heap->closed_lanes : lanes;
    if (is_class) {
        cache->key = heap->key;
    } else {
        qr_port_random(&cache->key, sizeof(cache->key));
        cache->key |= 1; /* no address equals its own mark */
    }
    cache_stride(cache, config);
    qr_cache_layout(cache);
    cache_magazines(cache);
    cache_limits(cache);
    cache->nodes = more_nodes == NULL ? &cache->first_node : more_nodes;
    for (unsigned n = 0; n < heap->node_count; n++) {
        node_init(&cache->nodes[n]);
        if (lanes != NULL)
            qr_lanes_setup(lanes + (size_t)n * heap->cpu_count, heap->cpu_count, n);
    }
    qr_spin_lock(&heap->lock);
    qr_list_push_back(&heap->caches, &cache->link);
    qr_spin_unlock(&heap->lock);
}

/* ---- the heap ----------------------------------------------------------- */

/* The instance, and the lanes that are always closed. */
size_t
qr_heap_size(unsigned cpu_count)
{
    size_t heap = (sizeof(struct qr_heap) + QR_CACHE_LINE - 1) & ~(size_t)(QR_CACHE_LINE - 1);

    return heap + lanes_bytes(cpu_count);
}

void *
qr_heap_own_alloc(struct qr_heap *heap, size_t bytes)
{
    unsigned order = 0;
    struct qr_frame *frame;

    while ((QR_PAGE_SIZE << order) < bytes)
        order++;
    frame = qr_frame_alloc_block(heap->frames, order,
                                 QR_ALLOC_ZERO | QR_ALLOC_ATOMIC | QR_ALLOC_NO_REPORT);
    if (frame == NULL)
        return NULL;
    atomic_store_explicit(&frame->index, order, memory_order_relaxed);
    atomic_fetch_add_explicit(&heap->own_frames, (size_t)1 << order, memory_order_relaxed);
    return qr_heap_address(heap, frame);
}

void
qr_heap_own_free(struct qr_heap *heap, void *memory)
{
    struct qr_frame *frame = memory == NULL ? NULL : qr_heap_frame(heap, memory);

    if (frame == NULL)
        return;
    atomic_fetch_sub_explicit(
        &heap->own_frames, (size_t)1 << atomic_load_explicit(&frame->index, memory_order_relaxed),
        memory_order_relaxed);
    atomic_store_explicit(&frame->index, 0, memory_order_relaxed);
    qr_frame_free(heap->frames, frame);
}

void
qr_heap_cpu_lanes(struct qr_heap *heap, const struct qr_cpu *cpu)
{
    struct heap_lane *lanes;
    bool mine = false;

    if (cpu_lanes(&heap->free_lanes[cpu->index]) != heap->closed || heap_pressed(heap, cpu))
        return;
    lanes = qr_heap_own_alloc(heap, (size_t)heap->node_count * lanes_bytes(CLASS_LANES));
    if (lanes == NULL)
        return;
    for (unsigned n = 0; n < heap->node_count; n++)
        qr_lanes_setup(lanes + (size_t)n * CLASS_LANES, CLASS_LANES, n);
    qr_spin_lock(&heap->lock);
    if (heap->free_lanes[cpu->index] == heap->closed) {
        mine = true;
        __atomic_store_n(&heap->free_lanes[cpu->index], lanes, __ATOMIC_RELEASE);
        __atomic_store_n(&heap->alloc_lanes[cpu->index],
                         lanes + (size_t)cpu_node(heap, cpu) * CLASS_LANES, __ATOMIC_RELEASE);
    }
    qr_spin_unlock(&heap->lock);
    if (!mine)
        qr_heap_own_free(heap, lanes);
}

/* The next of the nodes that were set aside for the heap's own caches; NULL: it has its own. */
static struct cache_node *
next_nodes(struct qr_heap *heap, size_t *used)
{
    if (heap->more_nodes == NULL)
        return NULL;
    return heap->more_nodes + heap->node_count * (*used)++;
}

static void
setup_internal(struct qr_heap *heap, struct qr_cache *cache, const char *name, size_t bytes,
               size_t align, unsigned alloc_flags, size_t *nodes_used)
{
    const struct qr_cache_config config = {
        .name = name, .object_bytes = bytes, .align = align, .alloc_flags = alloc_flags};

    qr_cache_setup(heap, cache, &config, NULL, next_nodes(heap, nodes_used));
    cache->in_heap = true;
}

static size_t
lowest_bit(size_t bytes)
{
    size_t bit = bytes & -bytes;

    return bit < QR_PAGE_SIZE ? bit : QR_PAGE_SIZE;
}

static size_t
class_bytes(unsigned index)
{
    return index < 8 ? (index + 1) * (size_t)8 : (size_t)(5 + (index & 3)) << ((index - 8) / 4 + 4);
}

static void
setup_classes(struct qr_heap *heap, size_t *nodes_used)
{
    static const char *const names[CLASS_COUNT] = {
        "kmalloc-8",    "kmalloc-16",   "kmalloc-24",  "kmalloc-32",   "kmalloc-40",
        "kmalloc-48",   "kmalloc-56",   "kmalloc-64",  "kmalloc-80",   "kmalloc-96",
        "kmalloc-112",  "kmalloc-128",  "kmalloc-160", "kmalloc-192",  "kmalloc-224",
        "kmalloc-256",  "kmalloc-320",  "kmalloc-384", "kmalloc-448",  "kmalloc-512",
        "kmalloc-640",  "kmalloc-768",  "kmalloc-896", "kmalloc-1k",   "kmalloc-1280",
        "kmalloc-1536", "kmalloc-1792", "kmalloc-2k",  "kmalloc-2560", "kmalloc-3k",
        "kmalloc-3584", "kmalloc-4k",   "kmalloc-5k",  "kmalloc-6k",   "kmalloc-7k",
        "kmalloc-8k",   "kmalloc-10k",  "kmalloc-12k", "kmalloc-14k",  "kmalloc-16k"};
    static const char *const dma_names[DMA_CLASS_COUNT] = {
        "dma-kmalloc-8",   "dma-kmalloc-16",  "dma-kmalloc-32",  "dma-kmalloc-64",
        "dma-kmalloc-128", "dma-kmalloc-256", "dma-kmalloc-512", "dma-kmalloc-1k",
        "dma-kmalloc-2k",  "dma-kmalloc-4k",  "dma-kmalloc-8k",  "dma-kmalloc-16k"};

    for (unsigned i = 0; i < CLASS_COUNT; i++)
        setup_internal(heap, &heap->classes[i], names[i], class_bytes(i),
                       lowest_bit(class_bytes(i)), 0, nodes_used);
    for (unsigned i = 0; i < DMA_CLASS_COUNT; i++)
        setup_internal(heap, &heap->dma_classes[i], dma_names[i], (size_t)8 << i,
                       lowest_bit((size_t)8 << i), QR_ALLOC_DMA, nodes_used);
}

/* Entry 0, of size 0, leads past the classes to a lane that never opens. */
static void
setup_lane_tables(struct qr_heap *heap)
{
    heap->lane_of[0] = CLASS_COUNT * sizeof(struct heap_lane);
    for (size_t i = 1; i < QR_ARRAY_COUNT(heap->lane_of); i++)
        heap->lane_of[i] = (uint16_t)(QR_KMALLOC_CLASS(8 * i) * sizeof(struct heap_lane));
    for (size_t i = 1; i < QR_ARRAY_COUNT(heap->lane_of_coarse); i++)
        heap->lane_of_coarse[i] = (uint16_t)(QR_KMALLOC_CLASS(128 * i) * sizeof(struct heap_lane));
}

/* What depends on the number of nodes: the lists of sixty caches on each, closed lanes for each. */
static bool
setup_nodes(struct qr_heap *heap)
{
    size_t caches = CLASS_COUNT + DMA_CLASS_COUNT + MAGAZINE_KINDS + 2;

    heap->closed = heap->closed_of_one_node;
    if (heap->node_count > 1) {
        heap->closed = qr_heap_own_alloc(heap, heap->node_count * lanes_bytes(CLASS_LANES));
        heap->more_nodes =
            qr_heap_own_alloc(heap, caches * heap->node_count * sizeof(struct cache_node));
        if (heap->closed == NULL || heap->more_nodes == NULL)
            return false;
    }
    qr_lanes_setup(heap->closed, heap->node_count * CLASS_LANES, UINT8_MAX);
    return true;
}

/* One past the highest node that has memory now; what is added to others later counts as node 0's. */
static unsigned
nodes_with_memory(const struct qr_frames *frames)
{
    unsigned count = 1;

    for (unsigned i = 0; i < frames->zone_count; i++) {
        if (frames->zones[i].managed != 0 && frames->zones[i].node >= count)
            count = frames->zones[i].node + 1u;
    }
    return count;
}

static void
nodes_release(struct qr_heap *heap)
{
    if (heap->node_count > 1)
        qr_heap_own_free(heap, heap->closed);
    qr_heap_own_free(heap, heap->more_nodes);
}

enum qr_status
qr_heap_init(struct qr_heap *heap, struct qr_frames *frames, unsigned cpu_count)
{
    static const char *const magazine_names[MAGAZINE_KINDS] = {"magazines-6",   "magazines-14",
                                                               "magazines-30",  "magazines-62",
                                                               "magazines-126", "magazines-254"};
    size_t own = (sizeof(*heap) + QR_CACHE_LINE - 1) & ~(size_t)(QR_CACHE_LINE - 1);
    size_t nodes_used = 0;

    if (cpu_count == 0 || cpu_count > CONFIG_MAX_CPUS)
        return QR_ERR_INVALID;
    heap->frames = frames;
    heap->cpu_count = cpu_count;
    heap->node_count = nodes_with_memory(frames);
    qr_spin_init(&heap->lock, QR_RANK_HEAP);
    qr_list_init(&heap->caches);
    qr_port_random(&heap->key, sizeof(heap->key));
    heap->key |= 1; /* no address equals its own mark */
    if (!setup_nodes(heap)) {
        nodes_release(heap);
        return QR_ERR_NO_MEMORY;
    }
    heap->closed_lanes = (struct heap_lane *)(void *)((char *)heap + own);
    qr_lanes_setup(heap->closed_lanes, cpu_count, UINT8_MAX);
    for (unsigned i = 0; i < CONFIG_MAX_CPUS; i++) {
        heap->alloc_lanes[i] = heap->closed;
        heap->free_lanes[i] = heap->closed;
    }
    setup_internal(heap, &heap->slab_records, "slab-records",
                   sizeof(struct slab) + sizeof(uint64_t), 8, 0, &nodes_used);
    setup_internal(heap, &heap->extents, "extents", qr_extent_bytes(), 8, 0, &nodes_used);
    for (unsigned i = 0; i < MAGAZINE_KINDS; i++)
        setup_internal(heap, &heap->magazines[i], magazine_names[i], (WORD_BYTES * 8) << i,
                       (WORD_BYTES * 8) << i, 0, &nodes_used);
    setup_classes(heap, &nodes_used);
    setup_lane_tables(heap);
    qr_fit_init(heap);
    qr_track_init(heap);
    qr_heap_debug_init(heap);
    (void)qr_heap_debug(heap, HEAP_SWITCHES);
    return QR_OK;
}

/* Empty and release; what is still in use stays.  @return objects */
static size_t
cache_empty(struct qr_cache *cache)
{
    size_t left = 0;

    qr_quarantine_flush(cache->heap, cache);
    qr_heap_lanes_drain(cache);
    (void)qr_slabs_release(cache, 0);
    for (unsigned n = 0; n < cache->heap->node_count; n++)
        left += cache->nodes[n].in_use;
    return left;
}

bool
qr_cache_is_internal(const struct qr_heap *heap, const struct qr_cache *cache)
{
    return cache == &heap->slab_records || cache == &heap->extents ||
           (cache >= heap->magazines && cache < heap->magazines + MAGAZINE_KINDS);
}

static void
heap_own_release(struct qr_heap *heap)
{
    for (unsigned i = 0; i < heap->cpu_count; i++) {
        struct heap_lane *lanes = heap->free_lanes[i];

        heap->alloc_lanes[i] = heap->closed;
        heap->free_lanes[i] = heap->closed;
        if (lanes != heap->closed)
            qr_heap_own_free(heap, lanes);
    }
    qr_track_fini(heap);
    nodes_release(heap);
}

size_t
qr_heap_fini(struct qr_heap *heap)
{
    size_t leaked = qr_guard_live(heap);

    qr_guard_fini(heap);
    /* Callers' objects first: emptying their caches frees records and magazines. */
    qr_list_for_each(link, &heap->caches)
    {
        struct qr_cache *cache = qr_list_entry(link, struct qr_cache, link);

        if (!qr_cache_is_internal(heap, cache))
            leaked += cache_empty(cache);
    }
    (void)qr_fit_reap(heap);
    (void)cache_empty(&heap->extents);
    for (unsigned i = 0; i < MAGAZINE_KINDS; i++)
        (void)cache_empty(&heap->magazines[i]);
    (void)cache_empty(&heap->slab_records);
    heap_own_release(heap);
    return leaked + atomic_load_explicit(&heap->large_blocks, memory_order_relaxed);
}

/*
 * The registry stays locked, so that no cache goes away meanwhile; caches without
 * anything to give cost one load each, which makes a failing request cheap.
 */
size_t
qr_heap_reap(struct qr_heap *heap)
{
    size_t released = qr_fit_reap(heap);

    qr_quarantine_flush(heap, NULL);
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
    size_t lanes = heap->node_count * lanes_bytes(heap->cpu_count);
    size_t nodes = heap->node_count == 1 ? 0 : heap->node_count * sizeof(struct cache_node);
    struct qr_cache *cache;
    char *memory;

    if (config->object_bytes == 0 || config->object_bytes > QR_KMALLOC_MAX ||
        (config->align & (config->align - 1)) != 0 || config->align > QR_PAGE_SIZE)
        return QR_ERR_INVALID;
    memory = qr_kmalloc_aligned(heap, own + lanes + nodes, QR_CACHE_LINE, 0);
    if (memory == NULL)
        return QR_ERR_NO_MEMORY;
    cache = (struct qr_cache *)(void *)memory;
    if (nodes != 0)
        __builtin_memset(memory + own + lanes, 0, nodes);
    qr_cache_setup(heap, cache, config, (struct heap_lane *)(void *)(memory + own),
                   nodes == 0 ? NULL : (struct cache_node *)(void *)(memory + own + lanes));
    *out_cache = cache;
    return QR_OK;
}

size_t
qr_cache_destroy(struct qr_cache *cache)
{
    struct qr_heap *heap = cache->heap;
    size_t leaked;

    qr_assert(!cache->in_heap);
    leaked = cache_empty(cache);
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

size_t
qr_cache_compact(struct qr_cache *cache)
{
    if (cache->move == NULL)
        return 0;
    qr_quarantine_flush(cache->heap, cache);
    qr_heap_lanes_drain(cache);
    return qr_slabs_compact(cache) + qr_slabs_release(cache, 0);
}

/* An object by the slow way; in the end everything that the heap itself holds back. */
QR_NOINLINE void *
qr_cache_alloc_slow(struct qr_cache *cache, unsigned alloc_flags)
{
    void *object = qr_heap_lane_alloc(cache, alloc_flags);

    if (object == NULL && !qr_cache_is_internal(cache->heap, cache) &&
        qr_heap_reap(cache->heap) != 0)
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

/* The lane that this CPU allocates from. */
static QR_ALWAYS_INLINE struct heap_lane *
cache_home_lane(struct qr_cache *cache)
{
    struct qr_cpu *cpu = qr_port_this_cpu();

    /* A class has closed lanes here, and the slow path knows its true ones. */
    if (qr_unlikely(cache->many_nodes))
        return cache_lane(cache, cpu->index, cpu_node(cache->heap, cpu));
    return &cache->lanes[cpu->index];
}

/* Into the caller's hands. */
static QR_ALWAYS_INLINE void *
object_hand_out(struct qr_cache *cache, void *object, size_t requested, unsigned alloc_flags,
                uintptr_t site)
{
    qr_heap_mark_used(cache, object, requested, site);
    if (alloc_flags & QR_ALLOC_ZERO)
        __builtin_memset(object, 0, requested);
    return object;
}

void *
qr_cache_alloc_sized(struct qr_cache *cache, size_t requested, unsigned alloc_flags, uintptr_t site)
{
    void *object;

    if (cache_refuses(cache))
        return NULL;
    object = lane_pop(cache_home_lane(cache), 0);
    if (requested == 0)
        requested = cache->object_bytes;
    if (qr_unlikely(object == NULL)) {
        object = qr_cache_alloc_slow(cache, alloc_flags);
        if (object == NULL)
            return NULL;
        if (heap_tracks_objects(cache->heap))
            qr_track_add(cache->heap, object, requested, site);
    }
    return object_hand_out(cache, object, requested, alloc_flags, site);
}

/* Whatever is not the common case of qr_cache_alloc(). */
static QR_NOINLINE void *
cache_alloc_rest(struct qr_cache *cache, unsigned alloc_flags, uintptr_t site)
{
    return qr_cache_alloc_sized(cache, 0, alloc_flags, site);
}

void *
qr_cache_alloc(struct qr_cache *cache, unsigned alloc_flags)
{
#ifndef CONFIG_MEMORY_DEBUGGING
    if (qr_likely((alloc_flags & QR_ALLOC_ZERO) == 0)) {
        void *object = lane_pop(cache_home_lane(cache), 0);

        if (qr_likely(object != NULL)) {
            *object_cookie(cache, object) = 0;
            return object;
        }
    }
#endif
    return cache_alloc_rest(cache, alloc_flags, CALLER());
}

/* A free object on its way to this CPU's magazines. */
static QR_ALWAYS_INLINE void
object_put(struct qr_cache *cache, void *object)
{
#ifdef CONFIG_MEMORY_DEBUGGING
    if (cache->has_magazines && heap_switched(cache->heap, QR_HEAP_QUARANTINE))
        object = qr_quarantine_swap(cache, object, &cache);
    if (object == NULL)
        return;
#endif
    if (qr_unlikely(cache->many_nodes) ||
        qr_unlikely(!lane_push(cache_home_lane(cache), object, 0)))
        qr_heap_lane_free(cache, object);
}

void
qr_cache_free_sited(struct qr_cache *cache, void *object, uintptr_t site)
{
    qr_heap_mark_free(cache, object, site);
    object_put(cache, object);
}

#ifdef CONFIG_MEMORY_DEBUGGING

/* Debug builds look at the slab at once, others when the magazine is flushed. */
static void
cache_owns(struct qr_cache *cache, void *object)
{
    struct slab *slab = qr_slab_find(cache->heap, object);

    if (slab == NULL || slab->cache != cache)
        qr_heap_wrong_cache(cache, object, slab);
    (void)qr_slab_index(slab, object);
}

void
qr_cache_free(struct qr_cache *cache, void *object)
{
    cache_owns(cache, object);
    qr_heap_mark_free(cache, object, CALLER());
    object_put(cache, object);
}

#else

/* Looks again, so that its caller needs no frame. */
static QR_COLD void
bad_cache_free(struct qr_cache *cache, void *object)
{
    if (*object_cookie(cache, object) == object_mark(cache->key, object))
        qr_heap_double_free(cache, object);
}

void
qr_cache_free(struct qr_cache *cache, void *object)
{
    uintptr_t *cookie = object_cookie(cache, object);
    uintptr_t mark = object_mark(cache->key, object);

    if (qr_unlikely(*cookie == mark)) {
        bad_cache_free(cache, object);
        return;
    }
    *cookie = mark;
    if (qr_unlikely(cache->many_nodes) ||
        qr_unlikely(!lane_push(cache_home_lane(cache), object, 0)))
        qr_heap_lane_free(cache, object);
}

#endif

/* ---- many at once --------------------------------------------------------- */

/* As cache_home_lane(), for classes too. */
static struct heap_lane *
cache_true_lane(struct qr_cache *cache)
{
    struct qr_cpu *cpu = qr_port_this_cpu();

    if (!cache->has_magazines)
        return cache->lanes;
    return cache_lane(cache, cpu->index, cpu_node(cache->heap, cpu));
}

/* @count objects up to @slot into @out; outside debug builds marked as used too. */
static QR_ALWAYS_INLINE void
lane_copy(const struct qr_cache *cache, void *const *slot, size_t count, void **out)
{
    size_t cookie = cache->cookie_offset;
    void *const *from = slot - count + 1;

    _Pragma("GCC unroll 4") for (size_t i = 0; i < count; i++)
    {
        char *object = from[i];

        out[i] = object;
#ifndef CONFIG_MEMORY_DEBUGGING
        *(uintptr_t *)(void *)(object + cookie) = 0;
#else
        (void)cookie;
#endif
    }
}

/* From the loaded magazine as many as it has, for one exchange of its top. */
static size_t
lane_pop_many(struct qr_cache *cache, struct heap_lane *lane, size_t want, void **out)
{
    uintptr_t top = atomic_exchange_explicit(&lane->top, 0, memory_order_acquire);
    size_t have = ((uint32_t)top & (lane_mask(lane) | WORD_BYTES)) / WORD_BYTES;
    void **slot = (void **)top;

    if (have <= 1) {
        if (have == 1)
            atomic_store_explicit(&lane->top, top, memory_order_release);
        return 0;
    }
    want = want < have - 1 ? want : have - 1;
    lane_copy(cache, slot, want, out);
    atomic_store_explicit(&lane->top, (uintptr_t)(slot - want), memory_order_release);
    return want;
}

size_t
qr_cache_alloc_many(struct qr_cache *cache, size_t requested, size_t count, void **out,
                    unsigned alloc_flags, uintptr_t site)
{
    size_t got = 0;

    while (got < count) {
        size_t now = lane_pop_many(cache, cache_true_lane(cache), count - got, out + got);
#ifndef CONFIG_MEMORY_DEBUGGING
        if (now != 0) {
            got += now;
            continue;
        }
#endif
        if (now == 0 && cache->has_magazines)
            now = qr_heap_lane_take_many(cache, count - got, out + got);
        if (now == 0) {
            out[got] = qr_cache_alloc_slow(cache, alloc_flags);
            if (out[got] == NULL)
                break;
            now = 1;
        }
        for (size_t i = got; i < got + now; i++)
            qr_heap_mark_used(cache, out[i], requested, site);
        got += now;
    }
    for (size_t i = 0; i < got && heap_tracks_objects(cache->heap); i++)
        qr_track_add(cache->heap, out[i], requested, site);
    for (size_t i = 0; i < got && (alloc_flags & QR_ALLOC_ZERO) != 0; i++)
        __builtin_memset(out[i], 0, requested);
    return got;
}

size_t
qr_cache_alloc_bulk(struct qr_cache *cache, size_t count, void **out, unsigned alloc_flags)
{
    if (cache_refuses(cache))
        return 0;
    return qr_cache_alloc_many(cache, cache->object_bytes, count, out, alloc_flags, CALLER());
}

#ifndef CONFIG_MEMORY_DEBUGGING
/* Marked objects of one cache: as many as the loaded magazine takes, for one exchange. */
static size_t
lane_push_many(struct heap_lane *lane, size_t count, void *const *objects)
{
    uintptr_t top = atomic_exchange_explicit(&lane->top, 0, memory_order_acquire);
    uint32_t low = lane_mask(lane) | (uint32_t)WORD_BYTES;
    size_t room = (low - ((uint32_t)top & low)) / WORD_BYTES;
    void **slot = (void **)top + 1;

    if (((uint32_t)top & low) == 0)
        return 0;
    count = count < room ? count : room;
    _Pragma("GCC unroll 4") for (size_t i = 0; i < count; i++) slot[i] = objects[i];
    atomic_store_explicit(&lane->top, (uintptr_t)(slot + count - 1), memory_order_release);
    return count;
}
#endif

void
qr_cache_free_bulk(struct qr_cache *cache, size_t count, void *const *objects)
{
#ifdef CONFIG_MEMORY_DEBUGGING
    for (size_t i = 0; i < count; i++) {
        cache_owns(cache, objects[i]);
        qr_cache_free_sited(cache, objects[i], CALLER());
    }
#else
    size_t given = 0;

    for (size_t i = 0; i < count; i++)
        qr_heap_mark_free(cache, objects[i], 0);
    if (!cache->many_nodes)
        given = lane_push_many(cache_true_lane(cache), count, objects);
    if (given < count)
        qr_heap_lane_give_many(cache, count - given, objects + given);
#endif
}

/* ---- what is wrong ---------------------------------------------------------- */

void
qr_heap_double_free(struct qr_cache *cache, void *object)
{
    qr_panic("heap: %p of cache %s is freed twice; the first free may be long ago "
             "(CONFIG_MEMORY_DEBUGGING remembers who did it)",
             object, cache->name);
}

void
qr_heap_inside_free(struct qr_cache *cache, const void *object)
{
    qr_panic("heap: %p is inside an object of cache %s, not its start; free the pointer that "
             "the allocation returned",
             object, cache->name);
}

void
qr_heap_wrong_cache(struct qr_cache *cache, const void *object, const struct slab *slab)
{
    qr_panic("heap: %p was freed to cache %s but belongs to %s; free an object to the cache "
             "it came from",
             object, cache->name, slab == NULL ? "no cache" : slab->cache->name);
}
