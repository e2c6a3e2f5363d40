/* SPDX-License-Identifier: MIT */
/*
 * Figures, the validator, and the switches.
 *
 * Invariants, with nobody in the middle of a call:
 *  1. A slab stands in the list that its count says, and names its cache; so do the
 *     descriptors of all of its frames.
 *  2. Its bitmap has count - in_use bits, none beyond its objects.
 *  3. The cache's totals are the sums over its slabs; objects in magazines are among those
 *     in use.
 *  4. CONFIG_MEMORY_DEBUGGING: every object's red zone and record are unharmed, and free
 *     ones still hold their poison.
 */
#include "heap.h"

#include <quire/writer.h>

/*
 * The registry's lock is held around every walk over the caches: none of them is destroyed
 * meanwhile.  Its rank is lower than those of the locks taken inside.
 */
static struct qr_cache *
cache_at(struct qr_heap *heap, size_t index)
{
    qr_list_for_each(link, &heap->caches)
    {
        if (index-- == 0)
            return qr_list_entry(link, struct qr_cache, link);
    }
    return NULL;
}

#ifdef CONFIG_MEMORY_DEBUGGING
void
qr_heap_objects_visit(struct qr_cache *cache, object_fn visit, void *context)
{
    for (unsigned n = 0; n < cache->heap->node_count; n++) {
        struct cache_node *node = &cache->nodes[n];
        struct qr_list *lists[3] = {&node->partial, &node->full, &node->empty};

        qr_spin_lock(&node->lock);
        for (unsigned l = 0; l < 3; l++) {
            qr_list_for_each(link, lists[l])
            {
                struct slab *slab = qr_list_entry(link, struct slab, link);

                for (unsigned i = 0; i < slab->count; i++)
                    visit(context, cache, slab->base + (size_t)i * cache->stride,
                          slab->free[i / 64] >> i % 64 & 1);
            }
        }
        qr_spin_unlock(&node->lock);
    }
}

static void
add_requested(void *context, struct qr_cache *cache, void *object, bool in_bitmap)
{
    if (!in_bitmap && qr_heap_object_live(cache, object))
        *(size_t *)context += qr_heap_requested(cache, object);
}
#endif

/* What a cache has on all nodes. */
struct cache_sums {
    size_t slabs, empty, frames, total, in_use, active; /* active: with callers */
};

static struct cache_sums
cache_sum(struct qr_cache *cache)
{
    size_t idle = qr_heap_lanes_count(cache) + qr_quarantine_count(cache);
    struct cache_sums sums = {0};

    for (unsigned n = 0; n < cache->heap->node_count; n++) {
        struct cache_node *node = &cache->nodes[n];

        qr_spin_lock(&node->lock);
        sums.slabs += node->slab_count;
        sums.empty += node->empty_count;
        sums.frames += node->frame_count;
        sums.total += node->total_objects;
        sums.in_use += node->in_use;
        qr_spin_unlock(&node->lock);
    }
    sums.active = sums.in_use > idle ? sums.in_use - idle : 0;
    return sums;
}

/* The share of @frames that @bytes do not cover, in thousandths. */
static unsigned
fragmentation(size_t frames, size_t bytes)
{
    size_t held = frames << QR_PAGE_SHIFT;

    return held == 0 || bytes >= held ? 0 : (unsigned)(1000 - bytes / (held / 1000 + 1));
}

static void
cache_stats(struct qr_cache *cache, struct qr_cache_stats *stats)
{
    struct cache_sums sums = cache_sum(cache);

    *stats = (struct qr_cache_stats){
        .name = cache->name,
        .object_bytes = cache->object_bytes,
        .slab_frames = (size_t)1 << cache->slab_order,
        .objects_per_slab =
            sums.slabs == 0 ? qr_cache_slab_objects(cache) : sums.total / sums.slabs,
        .slabs = sums.slabs,
        .active_slabs = sums.slabs - sums.empty,
        .active_objects = sums.active,
        .total_objects = sums.total,
        .frames = sums.frames,
        .magazine_objects =
            cache->has_magazines
                ? magazine_capacity(atomic_load_explicit(&cache->kind, memory_order_relaxed))
                : 0,
        .fragmentation = fragmentation(sums.frames, sums.active * cache->object_bytes),
    };
#ifdef CONFIG_MEMORY_DEBUGGING
    qr_heap_objects_visit(cache, add_requested, &stats->requested_bytes);
#endif
}

bool
qr_heap_cache_stats(struct qr_heap *heap, size_t index, struct qr_cache_stats *out_stats)
{
    struct qr_cache *cache;

    qr_spin_lock(&heap->lock);
    cache = cache_at(heap, index);
    if (cache != NULL)
        cache_stats(cache, out_stats);
    qr_spin_unlock(&heap->lock);
    return cache != NULL;
}

void
qr_heap_stats(struct qr_heap *heap, struct qr_heap_stats *out_stats)
{
    struct qr_heap_stats stats = {0};

    stats.large_blocks = atomic_load_explicit(&heap->large_blocks, memory_order_relaxed);
    stats.large_bytes = atomic_load_explicit(&heap->large_bytes, memory_order_relaxed);
    stats.frames = atomic_load_explicit(&heap->large_frames, memory_order_relaxed) +
                   atomic_load_explicit(&heap->own_frames, memory_order_relaxed);
    stats.active_bytes = stats.large_bytes;
    qr_spin_lock(&heap->lock);
    qr_list_for_each(link, &heap->caches)
    {
        struct qr_cache *cache = qr_list_entry(link, struct qr_cache, link);
        struct cache_sums sums = cache_sum(cache);

        stats.frames += sums.frames;
        /* What the heap itself keeps its books in is nobody's. */
        if (!qr_cache_is_internal(heap, cache))
            stats.active_bytes += sums.active * cache->object_bytes;
    }
    qr_spin_unlock(&heap->lock);
    stats.fragmentation = fragmentation(stats.frames, stats.active_bytes);
    *out_stats = stats;
}

/* ---- the validator ------------------------------------------------------ */

struct check {
    struct qr_heap *heap;
    char *message;
    size_t bytes;
    bool ok;
    size_t slabs, empty, frames, total, in_use;
};

#define CHECK(check, condition, ...)                                        \
    do {                                                                    \
        if (!(condition) && (check)->ok) {                                  \
            (check)->ok = false;                                            \
            (void)qr_format((check)->message, (check)->bytes, __VA_ARGS__); \
        }                                                                   \
    } while (0)

static void
check_slab(struct check *check, struct qr_cache *cache, const struct slab *slab, unsigned list,
           unsigned node)
{
    unsigned expected = slab->in_use == 0 ? 2 : slab->in_use == slab->count ? 1 : 0;
    unsigned bits = 0;

    CHECK(check,
          slab->cache == cache && list == expected && slab->node == node && !slab->isolated &&
              slab->magic == cache_slab_mark(cache, slab),
          "cache %s: slab %p with %u of %u in use stands in list %u", cache->name,
          (const void *)slab, slab->in_use, slab->count, list);
    for (unsigned w = 0; w < slab->words; w++) {
        unsigned valid = slab->count - w * 64u;

        bits += qr_row_count(slab->free[w]);
        CHECK(check, valid >= 64 || (slab->free[w] >> valid) == 0,
              "cache %s: slab %p has free objects past its end", cache->name, (const void *)slab);
    }
    CHECK(check, bits == (unsigned)(slab->count - slab->in_use),
          "cache %s: slab %p counts %u in use, its bitmap says %u", cache->name, (const void *)slab,
          slab->in_use, slab->count - bits);
    for (size_t i = 0; i < (size_t)1 << slab->order; i++)
        CHECK(check,
              qr_frame_type(&slab->frame[i]) == QR_FRAME_SLAB && slab->frame[i].owner == slab &&
                  slab->frame[i].index == (uintptr_t)cache,
              "cache %s: frame %zu of slab %p does not name it", cache->name, i,
              (const void *)slab);
    check->slabs++;
    check->empty += slab->in_use == 0;
    check->frames += (size_t)1 << slab->order;
    check->total += slab->count;
    check->in_use += slab->in_use;
}

#ifdef CONFIG_MEMORY_DEBUGGING
static void
check_object(void *context, struct qr_cache *cache, void *object, bool in_bitmap)
{
    struct check *check = context;
    const char *wrong =
        qr_heap_object_check(cache, object, in_bitmap || !qr_heap_object_live(cache, object));

    CHECK(check, wrong == NULL, "cache %s: object %p: %s", cache->name, object, wrong);
}
#endif

static void
check_node(struct check *check, struct qr_cache *cache, unsigned n)
{
    struct cache_node *node = &cache->nodes[n];
    struct qr_list *lists[3] = {&node->partial, &node->full, &node->empty};
    size_t in_depot = 0;

    check->slabs = check->empty = check->frames = check->total = check->in_use = 0;
    qr_spin_lock(&node->lock);
    for (unsigned l = 0; l < 3; l++) {
        qr_list_for_each(link, lists[l])
            check_slab(check, cache, qr_list_entry(link, struct slab, link), l, n);
    }
    CHECK(check,
          check->slabs == node->slab_count && check->empty == node->empty_count &&
              check->frames == node->frame_count && check->total == node->total_objects &&
              check->in_use == node->in_use,
          "cache %s: counts %zu slabs, %zu empty, %zu objects, %zu in use; has %zu, %zu, %zu, %zu",
          cache->name, node->slab_count, node->empty_count, node->total_objects, node->in_use,
          check->slabs, check->empty, check->total, check->in_use);
    for (struct magazine *m = node->depot_full; m != NULL; m = m->next) {
        CHECK(check, m->count <= magazine_capacity(m->kind) && m->kind < MAGAZINE_KINDS,
              "cache %s: a magazine of kind %u with %u objects", cache->name, m->kind, m->count);
        in_depot += m->count;
    }
    CHECK(check, in_depot == node->depot_objects, "cache %s: %zu objects in the depot, %zu counted",
          cache->name, in_depot, node->depot_objects);
    qr_spin_unlock(&node->lock);
}

static void
check_cache(struct check *check, struct qr_cache *cache)
{
    for (unsigned n = 0; n < cache->heap->node_count; n++)
        check_node(check, cache, n);
    CHECK(check, qr_heap_lanes_count(cache) <= cache_sum(cache).in_use,
          "cache %s: more objects in magazines than out of slabs", cache->name);
#ifdef CONFIG_MEMORY_DEBUGGING
    qr_heap_objects_visit(cache, check_object, check);
#endif
}

bool
qr_heap_validate(struct qr_heap *heap, char *out_message, size_t bytes)
{
    struct check check = {.heap = heap, .message = out_message, .bytes = bytes, .ok = true};

    qr_spin_lock(&heap->lock);
    qr_list_for_each(link, &heap->caches)
        check_cache(&check, qr_list_entry(link, struct qr_cache, link));
    qr_spin_unlock(&heap->lock);
    return check.ok && qr_fit_validate(heap, out_message, bytes);
}

/* ---- switches, names --------------------------------------------------------- */

unsigned
qr_heap_debug(struct qr_heap *heap, unsigned switches)
{
    if (!RECORDS)
        switches &= QR_HEAP_RANDOM_ORDER | QR_HEAP_TRACK;
    if ((switches & QR_HEAP_TRACK) != 0 && !heap_switched(heap, QR_HEAP_TRACK) &&
        !qr_track_begin(heap))
        switches &= ~(unsigned)QR_HEAP_TRACK;
    atomic_store_explicit(&heap->switches, switches, memory_order_relaxed);
    if ((switches & QR_HEAP_QUARANTINE) == 0)
        qr_quarantine_flush(heap, NULL);
    return switches;
}

unsigned
qr_heap_debug_get(struct qr_heap *heap)
{
    return atomic_load_explicit(&heap->switches, memory_order_relaxed);
}
