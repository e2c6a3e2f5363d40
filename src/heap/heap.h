/* SPDX-License-Identifier: MIT */
#ifndef QR_HEAP_HEAP_H
#define QR_HEAP_HEAP_H

/*
 * The heap's own structures.  docs/heap.md draws them.
 *
 *   cache ── lanes, one a CPU: two magazines of free objects, loaded and previous
 *     │        └ the fast path: pop or push on the loaded one, interrupts off
 *     ├── depot: full and empty magazines that no CPU holds
 *     └── slabs: blocks of frames cut into objects, a bit each: partial, full, empty
 */
#include <quire/heap.h>
#include <quire/list.h>

#include "frame/frames.h"

enum {
    CLASS_COUNT = 12,     /* 8 B .. 16 KiB */
    MAGAZINE_KINDS = 4,   /* 63, 31, 15, 7 objects: 512, 256, 128, 64 bytes */
    OFF_SLAB_BYTES = 512, /* objects from here on have their slab's record elsewhere */
    SLAB_ORDER_MAX = 5,
};

struct magazine {
    struct magazine *next; /* in the depot */
    void *object[];
};

/*
 * As a frame lane: top is the lock and the count in one, 0 while somebody holds the lane
 * or it is closed, else the objects in the loaded magazine plus one.
 */
struct heap_lane {
    _Atomic uint32_t top;
    uint32_t previous_count;
    struct magazine *loaded;
    struct magazine *previous;
    struct qr_spin lock; /* rank NONE: outside every cache lock; slow paths only */
    bool closed;         /* by lock */
} QR_CACHE_ALIGNED;

/*
 * A block of 2^order frames cut into objects.  Its record lies at its start or, for large
 * objects, in a cache of records.  Fields by cache->lock.
 */
struct slab {
    uintptr_t magic;     /* heap->key ^ the record's address */
    struct qr_list link; /* in partial, full or empty */
    struct qr_cache *cache;
    char *base; /* of object 0 */
    struct qr_frame *frame;
    uint16_t count;  /* objects */
    uint16_t in_use; /* of these, not in the bitmap: with callers, in magazines */
    uint8_t order;
    uint8_t words;
    uint64_t free[]; /* 1: free; @words of them */
};

struct qr_cache {
    struct heap_lane *lanes;
    uint32_t magazine_size; /* 0: no magazines, every request goes to the slabs */
    uint32_t cookie_offset;
    uintptr_t key; /* of the words that mark free objects */
    uintptr_t align_mask;
    struct qr_heap *heap;
    const char *name;
    uint32_t object_bytes; /* what a caller may use */
    uint32_t stride;       /* from one object to the next */
    uint32_t align;
    unsigned alloc_flags;
    void (*construct)(void *object);
    uint8_t slab_order; /* preferred */
    uint8_t slab_order_min;
    uint8_t magazine_kind;
    bool off_slab;
    bool in_heap;        /* lives in struct qr_heap, never destroyed alone */
    struct qr_list link; /* in heap->caches, by heap->lock */

    struct qr_spin lock QR_CACHE_ALIGNED; /* rank SLAB */
    struct qr_list partial, full, empty;
    struct magazine *depot_full, *depot_empty;
    uint32_t depot_full_count, depot_empty_count, depot_limit;
    _Atomic uint32_t colour; /* of the next slab, in steps */
    uint32_t colour_count;
    _Atomic bool reapable; /* magazines or empty slabs since the last reap */
    size_t slab_count, empty_count, frame_count;
    size_t empty_limit;           /* empty slabs that are kept */
    size_t total_objects, in_use; /* in_use: out of the slabs */
};

struct qr_heap {
    struct qr_frames *frames;
    uintptr_t key; /* what slab records are marked with */
    unsigned cpu_count;
    struct qr_cache classes[CLASS_COUNT];
    struct qr_cache dma_classes[CLASS_COUNT]; /* without magazines */
    struct qr_cache slab_records;
    struct qr_cache magazines[MAGAZINE_KINDS];
    struct qr_spin lock; /* rank HEAP: the list of caches */
    struct qr_list caches;
    _Atomic size_t large_blocks, large_frames;
    struct heap_lane *closed_lanes; /* of every cache without magazines */
};

/* ---- slabs (slab.c) ----------------------------------------------------- */

/* Sizes and offsets of @cache from its configuration. */
void qr_cache_layout(struct qr_cache *cache);
/*
 * Up to @want objects from slabs that exist.  Locks: takes cache->lock.
 * @return how many
 */
size_t qr_slabs_take(struct qr_cache *cache, size_t want, void **out);
/* Objects back into their slabs; empty slabs beyond a few are released. */
void qr_slabs_give(struct qr_cache *cache, size_t count, void *const *objects);
/* Another slab; false where there is no memory.  Called with no lock held. */
QR_MUST_USE bool qr_slabs_grow(struct qr_cache *cache, unsigned alloc_flags);
/* Release empty slabs down to @keep.  @return frames */
size_t qr_slabs_release(struct qr_cache *cache, size_t keep);
/* The slab that holds @pointer, NULL where none does. */
struct slab *qr_slab_find(struct qr_heap *heap, const void *pointer);
/* Which object of @slab @pointer is; panics where it is none. */
unsigned qr_slab_index(const struct slab *slab, const void *pointer);

size_t qr_cache_slab_objects(const struct qr_cache *cache);

/* ---- lanes (lane.c) ----------------------------------------------------- */

/* An object when the loaded magazine is empty or the cache has none. */
void *qr_heap_lane_alloc(struct qr_cache *cache, unsigned alloc_flags);
/* An object when the loaded magazine is full or the cache has none. */
void qr_heap_lane_free(struct qr_cache *cache, void *object);
/* Every magazine's objects back into the slabs, lanes closed, magazines released. */
void qr_heap_lanes_drain(struct qr_cache *cache);
/* Free objects in magazines, of CPUs and of the depot. */
size_t qr_heap_lanes_count(struct qr_cache *cache);

/* Pop from this CPU's loaded magazine; NULL where that needs the slow path. */
static QR_ALWAYS_INLINE void *
cache_pop(struct qr_cache *cache)
{
    uintptr_t irq = qr_port_irq_save();
    struct heap_lane *lane = &cache->lanes[qr_port_this_cpu()->index];
    uint32_t top = atomic_exchange_explicit(&lane->top, 0, memory_order_acquire);

    if (qr_unlikely(top <= 1)) {
        if (top != 0)
            atomic_store_explicit(&lane->top, top, memory_order_release);
        qr_port_irq_restore(irq);
        return NULL;
    }
    void *object = lane->loaded->object[top - 2];

    qr_assume(object != NULL);
    atomic_store_explicit(&lane->top, top - 1, memory_order_release);
    qr_port_irq_restore(irq);
    return object;
}

/* Push on it; false where that needs the slow path. */
static QR_ALWAYS_INLINE bool
cache_push(struct qr_cache *cache, void *object)
{
    uintptr_t irq = qr_port_irq_save();
    struct heap_lane *lane = &cache->lanes[qr_port_this_cpu()->index];
    uint32_t top = atomic_exchange_explicit(&lane->top, 0, memory_order_acquire);
    bool done = top - 1 < cache->magazine_size;

    if (qr_likely(done)) {
        lane->loaded->object[top - 1] = object;
        atomic_store_explicit(&lane->top, top + 1, memory_order_release);
    } else if (top != 0) {
        atomic_store_explicit(&lane->top, top, memory_order_release);
    }
    qr_port_irq_restore(irq);
    return done;
}

/* Frames are short: objects go straight to their slabs, magazines keep nothing. */
static inline bool
heap_pressed(const struct qr_heap *heap, const struct qr_cpu *cpu)
{
    const struct qr_frames *frames = heap->frames;
    uint8_t home =
        frames->fallback[cpu->node < CONFIG_MAX_NODES ? cpu->node : 0][QR_ZONE_NORMAL][0];

    return home == 0xff || atomic_load_explicit(&frames->zones[home].pressed, memory_order_relaxed);
}

/* ---- marks of free objects ---------------------------------------------- */

/*
 * A free object holds a word that only it can hold: its cache's key and its own
 * address.  Release builds find double frees by that; debug builds keep a record
 * behind each object and check much more (debug.c).
 */
QR_NORETURN QR_COLD void qr_heap_double_free(struct qr_cache *cache, void *object);

static inline uintptr_t *
object_cookie(const struct qr_cache *cache, void *object)
{
    return (uintptr_t *)((char *)object + cache->cookie_offset);
}

#ifdef CONFIG_MEMORY_DEBUGGING

/* Atomic because statistics read the records of objects that others allocate and free. */
struct object_record {
    _Atomic uint32_t state;
    _Atomic uint32_t requested;
    _Atomic uintptr_t site; /* who allocated or freed it */
    uintptr_t guard;        /* the tail of the red zone */
};

enum { RED_ZONE_BYTES = 16 };

void qr_heap_object_made(struct qr_cache *cache, void *object);
void qr_heap_mark_used(struct qr_cache *cache, void *object, size_t requested, uintptr_t site);
void qr_heap_mark_free(struct qr_cache *cache, void *object, uintptr_t site);
size_t qr_heap_requested(struct qr_cache *cache, const void *object);
/* Change what the caller may use of a live object. */
void qr_heap_requested_set(struct qr_cache *cache, void *object, size_t requested, uintptr_t site);
/* The first thing wrong with an object that is allocated or free; NULL: nothing. */
const char *qr_heap_object_check(struct qr_cache *cache, void *object, bool is_free);
struct object_record *qr_heap_record(const struct qr_cache *cache, const void *object);
bool qr_heap_object_live(const struct qr_cache *cache, const void *object);

#else

static inline void
qr_heap_object_made(struct qr_cache *cache, void *object)
{
    *object_cookie(cache, object) = cache->key ^ (uintptr_t)object;
}

static QR_ALWAYS_INLINE void
qr_heap_mark_used(struct qr_cache *cache, void *object, size_t requested, uintptr_t site)
{
    (void)requested, (void)site;
    *object_cookie(cache, object) = 0;
}

static QR_ALWAYS_INLINE void
qr_heap_mark_free(struct qr_cache *cache, void *object, uintptr_t site)
{
    uintptr_t *cookie = object_cookie(cache, object);
    uintptr_t mark = cache->key ^ (uintptr_t)object;

    (void)site;
    if (qr_unlikely(*cookie == mark))
        qr_heap_double_free(cache, object);
    *cookie = mark;
}

#endif

/*
 * Whether qr_kfree() looks at the start of the page before it asks the descriptor.  For a
 * large object that start is its owner's data, which may change in this moment: harmless,
 * because the value is only compared, but a race to the thread sanitizer.
 */
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define QR_THREAD_SANITIZER 1
#endif
#endif
#if defined(CONFIG_MEMORY_DEBUGGING) || defined(__SANITIZE_THREAD__) || defined(QR_THREAD_SANITIZER)
#define FREE_BY_PAGE 0
#else
#define FREE_BY_PAGE 1
#endif

/*
 * Slabs of small objects are one page with the record at its start, marked with a word
 * that nothing else can hold: the way from such an object to its slab is one masked
 * address and one comparison.  NULL: ask the descriptor of the page.
 */
static QR_ALWAYS_INLINE struct slab *
slab_on_page(const struct qr_heap *heap, const void *object)
{
    struct slab *slab = (struct slab *)((uintptr_t)object & ~(uintptr_t)QR_PAGE_MASK);

    return slab->magic == (heap->key ^ (uintptr_t)slab) ? slab : NULL;
}

/* ---- caches (cache.c), large blocks (large.c) ---------------------------- */

void qr_cache_setup(struct qr_heap *heap, struct qr_cache *cache,
                    const struct qr_cache_config *config, struct heap_lane *lanes);
void *qr_cache_alloc_sized(struct qr_cache *cache, size_t requested, unsigned alloc_flags,
                           uintptr_t site);
void qr_cache_free_sited(struct qr_cache *cache, void *object, uintptr_t site);

void *qr_large_alloc(struct qr_heap *heap, size_t bytes, size_t align, unsigned alloc_flags);
void qr_large_free(struct qr_heap *heap, void *block, struct qr_frame *head);
size_t qr_large_bytes(const struct qr_frame *head);
/* Give the frames beyond @bytes back. */
void qr_large_shrink(struct qr_heap *heap, struct qr_frame *head, size_t bytes);

static inline void *
qr_heap_address(struct qr_heap *heap, struct qr_frame *frame)
{
    return qr_port_window_open(qr_frame_pa(heap->frames, frame));
}

/* The descriptor of the page that @pointer lies in; NULL where there is no memory. */
static QR_ALWAYS_INLINE struct qr_frame *
qr_heap_frame(const struct qr_heap *heap, const void *pointer)
{
    const struct qr_frames *frames = heap->frames;
    size_t pfn = qr_pa_to_pfn(qr_port_direct_pa(pointer)).v;
    size_t index = pfn >> frames->section_shift;

    if (qr_unlikely(index >= frames->section_count))
        return NULL;
    const struct frame_section *section = &frames->sections[index];

    if (qr_unlikely(pfn - section->first_pfn >= section->frame_count))
        return NULL;
    return &section->frames[pfn - section->first_pfn];
}

#define CALLER() ((uintptr_t)__builtin_return_address(0))

#endif
