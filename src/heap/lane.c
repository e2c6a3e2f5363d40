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
 * number of objects in full magazines; what is beyond goes back to the slabs.
 *
 * Magazines start small and grow: every visit to the depot counts, one that had to
 * wait for its lock counts sixteen times, and after so many a cache's new magazines are twice as
 * large.  A reap makes them small again.
 *
 * On a machine of several nodes a CPU has a lane of each cache for each node.  It allocates
 * from that of its own node alone; the others collect what it frees of theirs, and give it to
 * their node's depot a magazine at a time.
 *
 * Locking: top is taken by exchange (heap.h), interrupts on.  Slow paths and other CPUs hold
 * lane->lock first.  Who finds the lane held does not wait for it, because its holder may be
 * what he interrupted: allocations and frees go to the slabs, a drain tries for a
 * while and passes the lane over.  Frames are never allocated with reclaim while a lane is held.
 */
#include "heap.h"

enum {
    DRAIN_PATIENCE = 1000,
    VISITS_TO_GROW = 32,
    VISIT_CONTENDED = 16,
};

void
qr_lanes_setup(struct heap_lane *lanes, unsigned count, unsigned node)
{
    for (unsigned i = 0; i < count; i++) {
        lanes[i] = (struct heap_lane){.closed = true, .node = (uint8_t)node};
        qr_spin_init(&lanes[i].lock, QR_RANK_NONE);
    }
}

/* ---- holding a lane ------------------------------------------------------ */

static void
mask_set(struct heap_lane *lane, uint32_t mask)
{
#ifdef QR_THREAD_SANITIZER
    __atomic_store_n(&lane->mask, mask, __ATOMIC_RELAXED);
#else
    lane->mask = mask;
#endif
}

static uint32_t
magazine_mask(const struct magazine *magazine)
{
    return magazine == NULL ? 0 : magazine_capacity(magazine->kind) * (uint32_t)WORD_BYTES;
}

/*
 * Hold the lane whole; the magazines' counts are then right.
 * @return false where somebody is in the middle of popping or pushing, @patience looks long
 */
static bool
lane_hold(struct heap_lane *lane, struct qr_cpu *cpu, unsigned patience)
{
    qr_spin_lock(&lane->lock);
    if (lane->closed)
        return true;
    for (unsigned i = 0; i < patience; i++) {
        uintptr_t low = lane->mask | WORD_BYTES;
        uintptr_t top = atomic_exchange_explicit(&lane->top, 0, memory_order_acquire);

        if ((top & low) != 0) {
            lane->loaded->count = (uint16_t)((top & low) / WORD_BYTES - 1);
            return true;
        }
        qr_cpu_relax(cpu);
    }
    qr_spin_unlock(&lane->lock);
    return false;
}

static void
lane_release(struct qr_cache *cache, struct heap_lane *lane)
{
    struct magazine *loaded = lane->loaded;

    if (lane->closed && loaded != NULL)
        atomic_store_explicit(&cache->reapable, true, memory_order_relaxed);
    lane->closed = loaded == NULL;
    mask_set(lane, magazine_mask(loaded));
    if (loaded != NULL)
        atomic_store_explicit(&lane->top,
                              (uintptr_t)loaded + (loaded->count + (size_t)1) * WORD_BYTES,
                              memory_order_release);
    qr_spin_unlock(&lane->lock);
}

/* ---- the depot ---------------------------------------------------------- */

/* @return whether somebody else had it */
static bool
node_lock(struct cache_node *node)
{
    if (qr_spin_try_lock(&node->lock))
        return false;
    qr_spin_lock(&node->lock);
    return true;
}

/* Once so many visits, the cache's magazines become larger. */
static void
lane_visit(struct qr_cache *cache, struct heap_lane *lane, bool contended)
{
    uint8_t kind = atomic_load_explicit(&cache->kind, memory_order_relaxed);

    lane->visits = (uint16_t)(lane->visits + (contended ? VISIT_CONTENDED : 1));
    if (lane->visits < VISITS_TO_GROW)
        return;
    lane->visits = 0;
    if (kind < cache->kind_max)
        atomic_store_explicit(&cache->kind, (uint8_t)(kind + 1), memory_order_relaxed);
}

static struct magazine *
depot_take_full(struct cache_node *node, bool *out_contended)
{
    struct magazine *magazine;

    *out_contended = node_lock(node);
    magazine = node->depot_full;
    if (magazine != NULL) {
        node->depot_full = magazine->next;
        node->depot_objects -= magazine->count;
    }
    qr_spin_unlock(&node->lock);
    return magazine;
}

static void
magazine_release(struct qr_cache *cache, struct magazine *magazine)
{
    if (magazine != NULL)
        qr_cache_free_sited(&cache->heap->magazines[magazine->kind], magazine, 0);
}

/* An empty magazine of the present kind, from the depot or new; NULL where memory is short. */
static struct magazine *
depot_take_empty(struct qr_cache *cache, struct cache_node *node)
{
    uint8_t kind = atomic_load_explicit(&cache->kind, memory_order_relaxed);
    struct magazine *magazine;

    qr_spin_lock(&node->lock);
    magazine = node->depot_empty;
    if (magazine != NULL) {
        node->depot_empty = magazine->next;
        node->depot_empty_count--;
    }
    qr_spin_unlock(&node->lock);
    if (magazine != NULL && magazine->kind == kind)
        return magazine;
    magazine_release(cache, magazine);
    magazine = qr_cache_alloc_sized(&cache->heap->magazines[kind], 0,
                                    QR_ALLOC_ATOMIC | QR_ALLOC_NO_REPORT, 0);
    if (magazine != NULL)
        *magazine = (struct magazine){.kind = kind};
    return magazine;
}

static void
depot_give_empty(struct qr_cache *cache, struct cache_node *node, struct magazine *magazine)
{
    bool kept;

    qr_spin_lock(&node->lock);
    kept = node->depot_empty_count * magazine_capacity(magazine->kind) < cache->depot_limit &&
           magazine->kind == atomic_load_explicit(&cache->kind, memory_order_relaxed);
    if (kept) {
        magazine->next = node->depot_empty;
        node->depot_empty = magazine;
        node->depot_empty_count++;
    }
    qr_spin_unlock(&node->lock);
    if (!kept)
        magazine_release(cache, magazine);
}

/* A full magazine for others; false where the depot has enough. */
static bool
depot_give_full(struct qr_cache *cache, struct cache_node *node, struct magazine *magazine,
                bool *out_contended)
{
    bool kept;

    *out_contended = node_lock(node);
    kept = node->depot_objects < cache->depot_limit;
    if (kept) {
        magazine->next = node->depot_full;
        node->depot_full = magazine;
        node->depot_objects += magazine->count;
    }
    qr_spin_unlock(&node->lock);
    return kept;
}

/* ---- an empty lane -------------------------------------------------------- */

/* What @magazine holds goes back to the slabs. */
static void
magazine_flush(struct qr_cache *cache, struct magazine *magazine)
{
    qr_slabs_give(cache, magazine->count, magazine->object);
    magazine->count = 0;
}

/* Of a lane that is held: it is closed when it is released. */
static void
lane_empty(struct qr_cache *cache, struct heap_lane *lane)
{
    if (lane->loaded != NULL)
        magazine_flush(cache, lane->loaded);
    if (lane->previous != NULL)
        magazine_flush(cache, lane->previous);
    magazine_release(cache, lane->loaded);
    magazine_release(cache, lane->previous);
    lane->loaded = NULL;
    lane->previous = NULL;
    lane->visits = 0;
}

/* ---- allocating ----------------------------------------------------------- */

static void
lane_swap(struct heap_lane *lane)
{
    struct magazine *loaded = lane->loaded;

    lane->loaded = lane->previous;
    lane->previous = loaded;
}

/* Have something in the empty loaded magazine, where that goes without new memory. */
static void
lane_fill(struct qr_cache *cache, struct heap_lane *lane, const struct qr_cpu *cpu)
{
    struct cache_node *node = &cache->nodes[lane->node];
    struct magazine *magazine;
    bool contended;

    if (lane->previous != NULL && lane->previous->count > 0) {
        lane_swap(lane);
        return;
    }
    magazine = depot_take_full(node, &contended);
    lane_visit(cache, lane, contended);
    if (magazine != NULL) {
        if (lane->loaded != NULL)
            depot_give_empty(cache, node, lane->loaded);
        lane->loaded = magazine;
        return;
    }
    if (heap_pressed(cache->heap, cpu))
        return;
    if (lane->loaded == NULL || lane->loaded->kind < cache->kind) {
        magazine = depot_take_empty(cache, node);
        if (magazine == NULL)
            return;
        magazine_release(cache, lane->loaded);
        lane->loaded = magazine;
    }
    lane->loaded->count = (uint16_t)qr_slabs_take(
        cache, lane->node, (magazine_capacity(lane->loaded->kind) + 1) / 2, lane->loaded->object);
}

static size_t
lane_take(struct qr_cache *cache, struct heap_lane *lane, const struct qr_cpu *cpu, size_t want,
          void **out)
{
    size_t got = 0;

    /* A bulk that no magazine holds will come again. */
    if (lane->loaded != NULL && want > 1 && want > lane->loaded->count)
        lane_visit(cache, lane, true);
    do {
        struct magazine *loaded;

        if (lane->loaded == NULL || lane->loaded->count == 0)
            lane_fill(cache, lane, cpu);
        loaded = lane->loaded;
        if (loaded == NULL || loaded->count == 0)
            break;
        while (loaded->count > 0 && got < want)
            out[got++] = loaded->object[--loaded->count];
    } while (got < want);
    return got;
}

size_t
qr_heap_lane_take_many(struct qr_cache *cache, size_t want, void **out)
{
    struct qr_cpu *cpu = qr_cpu_enter();
    unsigned node = cpu_node(cache->heap, cpu);
    struct heap_lane *lane;
    size_t got = 0;

    if (cache->class_index != CACHE_NO_CLASS)
        qr_heap_cpu_lanes(cache->heap, cpu);
    lane = cache_lane(cache, cpu->index, node);
    if (lane->node == node && lane_hold(lane, cpu, 1)) {
        if (heap_tracks_objects(cache->heap))
            lane_empty(cache, lane);
        else
            got = lane_take(cache, lane, cpu, want, out);
        lane_release(cache, lane);
    }
    qr_cpu_leave(cpu);
    if (got < want)
        got += qr_slabs_take(cache, node, want - got, out + got);
    return got;
}

/* From slabs of any node. */
static void *
slabs_take_any(struct qr_cache *cache)
{
    void *object = NULL;

    for (unsigned n = 0; n < cache->heap->node_count && object == NULL; n++) {
        if (qr_slabs_take(cache, n, 1, &object) == 0)
            object = NULL;
    }
    return object;
}

void *
qr_heap_lane_alloc(struct qr_cache *cache, unsigned alloc_flags)
{
    unsigned home = cpu_node(cache->heap, qr_port_this_cpu());
    void *object = NULL;

    if (cache->has_magazines && qr_heap_lane_take_many(cache, 1, &object) != 0)
        return object;
    for (unsigned attempt = 0; attempt < 8; attempt++) {
        if (qr_slabs_take(cache, home, 1, &object) != 0)
            return object;
        if (qr_slabs_grow(cache, alloc_flags, &home))
            continue;
        object = slabs_take_any(cache);
        /* Other CPUs' magazines may hold what there is no memory for. */
        if (object != NULL || !cache->has_magazines || attempt > 0)
            return object;
        qr_heap_lanes_drain(cache);
    }
    return slabs_take_any(cache);
}

/* ---- freeing --------------------------------------------------------------- */

static bool
is_full(const struct magazine *magazine)
{
    return magazine->count == magazine_capacity(magazine->kind);
}

/*
 * The full loaded magazine steps back; the previous one, full too or missing, goes to the
 * depot, else to the slabs.  With no memory for magazines the loaded one is flushed.
 */
static void
lane_rotate(struct qr_cache *cache, struct heap_lane *lane, const struct qr_cpu *cpu)
{
    struct cache_node *node = &cache->nodes[lane->node];
    struct magazine *empty = heap_pressed(cache->heap, cpu) ? NULL : depot_take_empty(cache, node);
    bool contended = false;
    bool kept = empty != NULL && (lane->previous == NULL ||
                                  depot_give_full(cache, node, lane->previous, &contended));

    lane_visit(cache, lane, contended);
    if (kept) {
        lane->previous = lane->loaded;
        lane->loaded = empty;
        return;
    }
    if (lane->previous != NULL)
        lane_swap(lane); /* the one that was not used for longer */
    magazine_flush(cache, lane->loaded);
    if (empty != NULL && empty->kind > lane->loaded->kind) {
        magazine_release(cache, lane->loaded);
        lane->loaded = empty;
    } else if (empty != NULL) {
        depot_give_empty(cache, node, empty);
    }
}

/* Room in the loaded magazine, where that goes. */
static void
lane_make_room(struct qr_cache *cache, struct heap_lane *lane, const struct qr_cpu *cpu)
{
    if (lane->loaded == NULL) {
        if (!heap_pressed(cache->heap, cpu))
            lane->loaded = depot_take_empty(cache, &cache->nodes[lane->node]);
        return;
    }
    if (!is_full(lane->loaded))
        return;
    if (lane->previous != NULL && lane->previous->count == 0)
        lane_swap(lane);
    else
        lane_rotate(cache, lane, cpu);
}

static size_t
lane_put(struct qr_cache *cache, struct heap_lane *lane, const struct qr_cpu *cpu, size_t count,
         void *const *objects)
{
    size_t given = 0;

    while (given < count) {
        lane_make_room(cache, lane, cpu);
        if (lane->loaded == NULL || is_full(lane->loaded))
            break;
        while (given < count && !is_full(lane->loaded))
            lane->loaded->object[lane->loaded->count++] = objects[given++];
    }
    return given;
}

/* Into the lane of @node.  @return how many went in */
static size_t
lane_give(struct qr_cache *cache, unsigned node, size_t count, void *const *objects)
{
    struct qr_cpu *cpu = qr_cpu_enter();
    struct heap_lane *lane;
    size_t given = 0;

    if (cache->class_index != CACHE_NO_CLASS)
        qr_heap_cpu_lanes(cache->heap, cpu);
    lane = cache_lane(cache, cpu->index, node);
    if (lane->node == node && lane_hold(lane, cpu, 1)) {
        if (heap_tracks_objects(cache->heap))
            lane_empty(cache, lane);
        else
            given = lane_put(cache, lane, cpu, count, objects);
        lane_release(cache, lane);
    }
    qr_cpu_leave(cpu);
    return given;
}

/* The memory node of an object, which may be of another cache: then 0. */
static unsigned
object_node(struct qr_cache *cache, const void *object)
{
    struct slab *slab = cache->many_nodes ? qr_slab_find(cache->heap, object) : NULL;

    return slab == NULL ? 0 : slab->node;
}

void
qr_heap_lane_give_many(struct qr_cache *cache, size_t count, void *const *objects)
{
    for (size_t i = 0; i < count && heap_tracks_objects(cache->heap); i++)
        qr_track_remove(cache->heap, objects[i]);
    for (size_t i = 0; i < count;) {
        unsigned node = object_node(cache, objects[i]);
        size_t run = 1;
        size_t given;

        while (i + run < count &&
               (!cache->many_nodes || object_node(cache, objects[i + run]) == node))
            run++;
        given = cache->has_magazines ? lane_give(cache, node, run, objects + i) : 0;
        if (given < run)
            qr_slabs_give(cache, run - given, objects + i + given);
        i += run;
    }
}

void
qr_heap_lane_free(struct qr_cache *cache, void *object)
{
    qr_heap_lane_give_many(cache, 1, &object);
}

/* ---- drain and count ---------------------------------------------------- */

static void
magazines_release(struct qr_cache *cache, struct magazine *magazine)
{
    while (magazine != NULL) {
        struct magazine *next = magazine->next;

        magazine_release(cache, magazine);
        magazine = next;
    }
}

static void
depot_drain(struct qr_cache *cache, struct cache_node *node)
{
    struct magazine *magazine;
    bool contended;

    while ((magazine = depot_take_full(node, &contended)) != NULL) {
        magazine_flush(cache, magazine);
        magazine_release(cache, magazine);
    }
    qr_spin_lock(&node->lock);
    magazine = node->depot_empty;
    node->depot_empty = NULL;
    node->depot_empty_count = 0;
    qr_spin_unlock(&node->lock);
    magazines_release(cache, magazine);
}

static void
lane_drain(struct qr_cache *cache, struct heap_lane *lane, struct qr_cpu *cpu)
{
    if (!lane_hold(lane, cpu, DRAIN_PATIENCE))
        return;
    lane_empty(cache, lane);
    lane_release(cache, lane);
}

void
qr_heap_lanes_drain(struct qr_cache *cache)
{
    struct qr_heap *heap = cache->heap;
    struct qr_cpu *cpu = qr_cpu_enter();

    for (unsigned n = 0; n < heap->node_count && cache->has_magazines; n++) {
        for (unsigned i = 0; i < heap->cpu_count; i++)
            lane_drain(cache, cache_lane(cache, i, n), cpu);
        depot_drain(cache, &cache->nodes[n]);
    }
    atomic_store_explicit(&cache->kind, cache->kind_start, memory_order_relaxed);
    qr_cpu_leave(cpu);
}

size_t
qr_heap_lanes_count(struct qr_cache *cache)
{
    struct qr_heap *heap = cache->heap;
    struct qr_cpu *cpu = qr_cpu_enter();
    size_t count = 0;

    for (unsigned n = 0; n < heap->node_count && cache->has_magazines; n++) {
        struct cache_node *node = &cache->nodes[n];

        for (unsigned i = 0; i < heap->cpu_count; i++) {
            struct heap_lane *lane = cache_lane(cache, i, n);

            if (!lane_hold(lane, cpu, DRAIN_PATIENCE))
                continue;
            count += lane->loaded == NULL ? 0 : lane->loaded->count;
            count += lane->previous == NULL ? 0 : lane->previous->count;
            lane_release(cache, lane);
        }
        qr_spin_lock(&node->lock);
        count += node->depot_objects;
        qr_spin_unlock(&node->lock);
    }
    qr_cpu_leave(cpu);
    return count;
}
