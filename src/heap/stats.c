/* SPDX-License-Identifier: MIT */
/*
 * Figures, the validator, and the leak report.
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
typedef void (*object_fn)(void *context, struct qr_cache *cache, void *object, bool in_bitmap);

/* Visit every object of every slab.  Locks: takes cache->lock around all of it. */
static void
objects_visit(struct qr_cache *cache, object_fn visit, void *context)
{
    struct qr_list *lists[3] = {&cache->partial, &cache->full, &cache->empty};

    qr_spin_lock(&cache->lock);
    for (unsigned l = 0; l < 3; l++) {
        qr_list_for_each(link, lists[l])
        {
            struct slab *slab = qr_list_entry(link, struct slab, link);

            for (unsigned i = 0; i < slab->count; i++)
                visit(context, cache, slab->base + (size_t)i * cache->stride,
                      slab->free[i / 64] >> i % 64 & 1);
        }
    }
    qr_spin_unlock(&cache->lock);
}

static void
add_requested(void *context, struct qr_cache *cache, void *object, bool in_bitmap)
{
    if (!in_bitmap && qr_heap_object_live(cache, object))
        *(size_t *)context += qr_heap_requested(cache, object);
}
#endif

static void
cache_stats(struct qr_cache *cache, struct qr_cache_stats *stats)
{
    size_t in_magazines = qr_heap_lanes_count(cache);

    qr_spin_lock(&cache->lock);
    *stats = (struct qr_cache_stats){
        .name = cache->name,
        .object_bytes = cache->object_bytes,
        .slab_frames = (size_t)1 << cache->slab_order,
        .objects_per_slab = cache->slab_count == 0 ? qr_cache_slab_objects(cache)
                                                   : cache->total_objects / cache->slab_count,
        .slabs = cache->slab_count,
        .active_slabs = cache->slab_count - cache->empty_count,
        .active_objects = cache->in_use > in_magazines ? cache->in_use - in_magazines : 0,
        .total_objects = cache->total_objects,
        .magazine_objects = cache->magazine_size,
    };
    qr_spin_unlock(&cache->lock);
#ifdef CONFIG_MEMORY_DEBUGGING
    objects_visit(cache, add_requested, &stats->requested_bytes);
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
    stats.frames = atomic_load_explicit(&heap->large_frames, memory_order_relaxed);
    stats.large_bytes = stats.frames << QR_PAGE_SHIFT;
    stats.active_bytes = stats.large_bytes;
    qr_spin_lock(&heap->lock);
    qr_list_for_each(link, &heap->caches)
    {
        struct qr_cache *cache = qr_list_entry(link, struct qr_cache, link);
        size_t in_magazines = qr_heap_lanes_count(cache);

        qr_spin_lock(&cache->lock);
        if (cache->in_use > in_magazines)
            stats.active_bytes += (cache->in_use - in_magazines) * cache->object_bytes;
        stats.frames += cache->frame_count;
        qr_spin_unlock(&cache->lock);
    }
    qr_spin_unlock(&heap->lock);
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
check_slab(struct check *check, struct qr_cache *cache, const struct slab *slab, unsigned list)
{
    unsigned expected = slab->in_use == 0 ? 2 : slab->in_use == slab->count ? 1 : 0;
    unsigned bits = 0;

    CHECK(check, slab->cache == cache && list == expected,
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
check_cache(struct check *check, struct qr_cache *cache)
{
    struct qr_list *lists[3] = {&cache->partial, &cache->full, &cache->empty};

    check->slabs = check->empty = check->frames = check->total = check->in_use = 0;
    qr_spin_lock(&cache->lock);
    for (unsigned l = 0; l < 3; l++) {
        qr_list_for_each(link, lists[l])
            check_slab(check, cache, qr_list_entry(link, struct slab, link), l);
    }
    CHECK(check,
          check->slabs == cache->slab_count && check->empty == cache->empty_count &&
              check->frames == cache->frame_count && check->total == cache->total_objects &&
              check->in_use == cache->in_use,
          "cache %s: counts %zu slabs, %zu empty, %zu objects, %zu in use; has %zu, %zu, %zu, %zu",
          cache->name, cache->slab_count, cache->empty_count, cache->total_objects, cache->in_use,
          check->slabs, check->empty, check->total, check->in_use);
    qr_spin_unlock(&cache->lock);
    CHECK(check, qr_heap_lanes_count(cache) <= cache->in_use,
          "cache %s: more objects in magazines than out of slabs", cache->name);
#ifdef CONFIG_MEMORY_DEBUGGING
    objects_visit(cache, check_object, check);
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
    return check.ok;
}

/* ---- leaks -------------------------------------------------------------- */

#ifdef CONFIG_MEMORY_DEBUGGING

enum { LEAK_SITES = 64 };

struct leak_table {
    struct leak_site {
        uintptr_t site;
        size_t objects, bytes;
    } sites[LEAK_SITES];
    size_t used;
    size_t other_objects, other_bytes; /* more sites than the table holds */
};

static void
add_leak(void *context, struct qr_cache *cache, void *object, bool in_bitmap)
{
    struct leak_table *table = context;
    uintptr_t site = qr_heap_record(cache, object)->site;
    size_t bytes = qr_heap_requested(cache, object);
    size_t i = 0;

    /* Site 0 is the heap itself: magazines, records. */
    if (in_bitmap || !qr_heap_object_live(cache, object) || site == 0)
        return;
    while (i < table->used && table->sites[i].site != site)
        i++;
    if (i == LEAK_SITES) {
        table->other_objects++;
        table->other_bytes += bytes;
        return;
    }
    if (i == table->used)
        table->sites[table->used++].site = site;
    table->sites[i].objects++;
    table->sites[i].bytes += bytes;
}

void
qr_heap_report_leaks(struct qr_heap *heap, struct qr_writer *writer)
{
    struct leak_table table = {0};

    qr_spin_lock(&heap->lock);
    qr_list_for_each(link, &heap->caches)
        objects_visit(qr_list_entry(link, struct qr_cache, link), add_leak, &table);
    qr_spin_unlock(&heap->lock);
    for (size_t i = 0; i < table.used; i++)
        qr_writer_printf(writer, "%zu objects, %zu bytes, allocated at 0x%lx\n",
                         table.sites[i].objects, table.sites[i].bytes,
                         (unsigned long)table.sites[i].site);
    if (table.other_objects != 0)
        qr_writer_printf(writer, "%zu objects, %zu bytes at other sites\n", table.other_objects,
                         table.other_bytes);
    size_t large = atomic_load_explicit(&heap->large_blocks, memory_order_relaxed);

    if (large != 0)
        qr_writer_printf(writer, "%zu large blocks, %zu bytes\n", large,
                         (size_t)heap->large_frames << QR_PAGE_SHIFT);
}

#else

void
qr_heap_report_leaks(struct qr_heap *heap, struct qr_writer *writer)
{
    struct qr_heap_stats stats;

    qr_heap_stats(heap, &stats);
    qr_writer_printf(writer,
                     "%zu bytes in use; call sites are recorded under "
                     "CONFIG_MEMORY_DEBUGGING\n",
                     stats.active_bytes);
}

#endif
