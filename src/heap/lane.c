/* SPDX-License-Identifier: MIT */
/*
 * Magazines (Bonwick and Adams, "Magazines and vmem", 2001).
 *
 * A CPU has two magazines of a cache's free objects.  It pops and pushes on the loaded
 * one; when that is empty (or full) it exchanges the two, and only when that does not help
 * goes to the depot for a full (or an empty) magazine in one step.  A working set
 * that wanders around a magazine's edge therefore never reaches the depot, and objects that
 * one CPU frees and another allocates travel a magazine at a time.
 *
 * The previous magazine is full, or empty, or missing.  The depot keeps a bounded
 * number of full magazines; what is beyond goes back to the slabs.
 *
 * Locking as in frame/lane.c: top is taken by exchange; slow paths and other CPUs hold
 * lane->lock first.  Frames are never allocated with reclaim while a lane is held.
 */
#include "heap.h"

/* Hold the lane whole.  @return the objects in the loaded magazine */
static uint32_t
lane_hold(struct heap_lane *lane, struct qr_cpu *cpu)
{
    uint32_t top;

    qr_spin_lock(&lane->lock);
    if (lane->closed)
        return 0;
    while ((top = atomic_exchange_explicit(&lane->top, 0, memory_order_acquire)) == 0)
        qr_cpu_relax(cpu);
    return top - 1;
}

static void
lane_release(struct qr_cache *cache, struct heap_lane *lane, uint32_t loaded)
{
    if (lane->closed && lane->loaded != NULL)
        atomic_store_explicit(&cache->reapable, true, memory_order_relaxed);
    lane->closed = lane->loaded == NULL;
    if (!lane->closed)
        atomic_store_explicit(&lane->top, loaded + 1, memory_order_release);
    qr_spin_unlock(&lane->lock);
}

/* ---- the depot ---------------------------------------------------------- */

static struct magazine *
depot_take_full(struct qr_cache *cache)
{
    struct magazine *magazine;

    qr_spin_lock(&cache->lock);
    magazine = cache->depot_full;
    if (magazine != NULL) {
        cache->depot_full = magazine->next;
        cache->depot_full_count--;
    }
    qr_spin_unlock(&cache->lock);
    return magazine;
}

/* An empty magazine from the depot, or a new one; NULL where memory is short. */
static struct magazine *
depot_take_empty(struct qr_cache *cache)
{
    struct magazine *magazine;

    qr_spin_lock(&cache->lock);
    magazine = cache->depot_empty;
    if (magazine != NULL) {
        cache->depot_empty = magazine->next;
        cache->depot_empty_count--;
    }
    qr_spin_unlock(&cache->lock);
    if (magazine == NULL)
        magazine = qr_cache_alloc_sized(&cache->heap->magazines[cache->magazine_kind], 0,
                                        QR_ALLOC_ATOMIC | QR_ALLOC_NO_REPORT, 0);
    return magazine;
}

static void
magazine_release(struct qr_cache *cache, struct magazine *magazine)
{
    if (magazine != NULL)
        qr_cache_free_sited(&cache->heap->magazines[cache->magazine_kind], magazine, 0);
}

static void
depot_give_empty(struct qr_cache *cache, struct magazine *magazine)
{
    bool kept;

    qr_spin_lock(&cache->lock);
    kept = cache->depot_empty_count < cache->depot_limit;
    if (kept) {
        magazine->next = cache->depot_empty;
        cache->depot_empty = magazine;
        cache->depot_empty_count++;
    }
    qr_spin_unlock(&cache->lock);
    if (!kept)
        magazine_release(cache, magazine);
}

/* A full magazine for others; false where the depot has enough. */
static bool
depot_give_full(struct qr_cache *cache, struct magazine *magazine)
{
    bool kept;

    qr_spin_lock(&cache->lock);
    kept = cache->depot_full_count < cache->depot_limit;
    if (kept) {
        magazine->next = cache->depot_full;
        cache->depot_full = magazine;
        cache->depot_full_count++;
    }
    qr_spin_unlock(&cache->lock);
    return kept;
}

/* ---- slow paths --------------------------------------------------------- */

static void
lane_swap(struct heap_lane *lane)
{
    struct magazine *loaded = lane->loaded;

    lane->loaded = lane->previous;
    lane->previous = loaded;
}

/* Fill the empty loaded magazine.  @return objects in it now */
static uint32_t
lane_fill(struct qr_cache *cache, struct heap_lane *lane, const struct qr_cpu *cpu)
{
    struct magazine *full;

    if (lane->previous != NULL && lane->previous_count > 0) {
        uint32_t count = lane->previous_count;

        lane_swap(lane);
        lane->previous_count = 0;
        return count;
    }
    full = depot_take_full(cache);
    if (full != NULL) {
        if (lane->loaded != NULL)
            depot_give_empty(cache, lane->loaded);
        lane->loaded = full;
        return cache->magazine_size;
    }
    if (heap_pressed(cache->heap, cpu))
        return 0;
    if (lane->loaded == NULL)
        lane->loaded = depot_take_empty(cache);
    if (lane->loaded == NULL)
        return 0;
    return (uint32_t)qr_slabs_take(cache, (cache->magazine_size + 1) / 2, lane->loaded->object);
}

/* An object from this CPU's magazines or existing slabs. */
static void *
lane_alloc(struct qr_cache *cache)
{
    struct qr_cpu *cpu = qr_cpu_enter();
    struct heap_lane *lane = &cache->lanes[cpu->index];
    uint32_t loaded = lane_hold(lane, cpu);
    void *object = NULL;

    if (loaded == 0)
        loaded = lane_fill(cache, lane, cpu);
    if (loaded > 0)
        object = lane->loaded->object[--loaded];
    lane_release(cache, lane, loaded);
    qr_cpu_leave(cpu);
    return object;
}

void *
qr_heap_lane_alloc(struct qr_cache *cache, unsigned alloc_flags)
{
    void *object = NULL;

    if (cache->magazine_size != 0)
        object = lane_alloc(cache);
    for (unsigned attempt = 0; object == NULL && attempt < 8; attempt++) {
        if (qr_slabs_take(cache, 1, &object) != 0)
            break;
        object = NULL;
        if (qr_slabs_grow(cache, alloc_flags))
            continue;
        /* Other CPUs' magazines may hold what there is no memory for. */
        if (cache->magazine_size == 0 || attempt > 0)
            return NULL;
        qr_heap_lanes_drain(cache);
    }
    return object;
}

/* What the full magazine @magazine holds goes back to the slabs; it is empty then. */
static struct magazine *
magazine_flush(struct qr_cache *cache, struct magazine *magazine)
{
    qr_slabs_give(cache, cache->magazine_size, magazine->object);
    return magazine;
}

/*
 * Room in the magazines of a lane whose loaded one is full or missing.
 * @return objects in the loaded one now
 */
static uint32_t
lane_make_room(struct qr_cache *cache, struct heap_lane *lane, uint32_t loaded,
               const struct qr_cpu *cpu)
{
    struct magazine *empty = NULL;

    if (lane->loaded == NULL) {
        if (!heap_pressed(cache->heap, cpu))
            lane->loaded = depot_take_empty(cache);
        return 0;
    }
    if (loaded < cache->magazine_size)
        return loaded;
    if (lane->previous != NULL && lane->previous_count == 0) {
        lane_swap(lane);
        lane->previous_count = loaded;
        return 0;
    }
    if (!heap_pressed(cache->heap, cpu))
        empty = depot_take_empty(cache);
    if (lane->previous == NULL && empty == NULL) {
        (void)magazine_flush(cache, lane->loaded);
        return 0;
    }
    if (lane->previous != NULL && (empty == NULL || !depot_give_full(cache, lane->previous))) {
        if (empty != NULL)
            depot_give_empty(cache, empty);
        empty = magazine_flush(cache, lane->previous);
    }
    lane->previous = lane->loaded;
    lane->previous_count = loaded;
    lane->loaded = empty;
    return 0;
}

void
qr_heap_lane_free(struct qr_cache *cache, void *object)
{
    struct qr_cpu *cpu;
    struct heap_lane *lane;
    uint32_t loaded;
    bool kept;

    if (cache->magazine_size == 0) {
        qr_slabs_give(cache, 1, &object);
        return;
    }
    cpu = qr_cpu_enter();
    lane = &cache->lanes[cpu->index];
    loaded = lane_make_room(cache, lane, lane_hold(lane, cpu), cpu);
    kept = lane->loaded != NULL;
    if (kept)
        lane->loaded->object[loaded++] = object;
    lane_release(cache, lane, loaded);
    qr_cpu_leave(cpu);
    if (!kept)
        qr_slabs_give(cache, 1, &object);
}

/* ---- drain and count ---------------------------------------------------- */

static void
depot_drain(struct qr_cache *cache)
{
    struct magazine *magazine;

    while ((magazine = depot_take_full(cache)) != NULL) {
        qr_slabs_give(cache, cache->magazine_size, magazine->object);
        magazine_release(cache, magazine);
    }
    qr_spin_lock(&cache->lock);
    magazine = cache->depot_empty;
    cache->depot_empty = NULL;
    cache->depot_empty_count = 0;
    qr_spin_unlock(&cache->lock);
    while (magazine != NULL) {
        struct magazine *next = magazine->next;

        magazine_release(cache, magazine);
        magazine = next;
    }
}

void
qr_heap_lanes_drain(struct qr_cache *cache)
{
    struct qr_cpu *cpu = qr_cpu_enter();

    for (unsigned i = 0; i < cache->heap->cpu_count && cache->magazine_size != 0; i++) {
        struct heap_lane *lane = &cache->lanes[i];
        uint32_t loaded = lane_hold(lane, cpu);

        if (lane->loaded != NULL)
            qr_slabs_give(cache, loaded, lane->loaded->object);
        if (lane->previous != NULL)
            qr_slabs_give(cache, lane->previous_count, lane->previous->object);
        magazine_release(cache, lane->loaded);
        magazine_release(cache, lane->previous);
        lane->loaded = NULL;
        lane->previous = NULL;
        lane->previous_count = 0;
        lane_release(cache, lane, 0);
    }
    depot_drain(cache);
    qr_cpu_leave(cpu);
}

size_t
qr_heap_lanes_count(struct qr_cache *cache)
{
    struct qr_cpu *cpu = qr_cpu_enter();
    size_t count = 0;

    for (unsigned i = 0; i < cache->heap->cpu_count && cache->magazine_size != 0; i++) {
        struct heap_lane *lane = &cache->lanes[i];
        uint32_t loaded = lane_hold(lane, cpu);

        count += loaded + lane->previous_count;
        lane_release(cache, lane, loaded);
    }
    qr_spin_lock(&cache->lock);
    count += (size_t)cache->depot_full_count * cache->magazine_size;
    qr_spin_unlock(&cache->lock);
    qr_cpu_leave(cpu);
    return count;
}
