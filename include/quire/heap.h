/* SPDX-License-Identifier: MIT */
#ifndef QUIRE_HEAP_H
#define QUIRE_HEAP_H

/**
 * @file
 * The kernel heap: object caches (slabs with per-CPU magazines), the kmalloc
 * family over them, pools with a guaranteed reserve, and larger blocks.
 *
 * Any call may be made in any context with QR_ALLOC_ATOMIC; without it an allocation may run
 * the frame layer's reclaim hook.  Frees never fail and never sleep.
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

/* ---- Caches --------------------------------------------------------------- */

struct qr_cache_config {
    const char *name; /**< static text, for slabinfo */
    size_t object_bytes;
    size_t align; /**< power of two; 0: natural for the size */
    /** Runs once when an object's slab is made, not at each allocation; may be NULL. */
    void (*construct)(void *object);
    unsigned alloc_flags; /**< added to each slab's frame request, e.g. QR_ALLOC_DMA */
    /**
     * For qr_cache_compact(): make @p to what @p from is, and point all that points to
     * @p from at @p to; false where that cannot be now.  Runs with no lock of the heap
     * held.  @p from may be free, or become so at this moment: the callback looks it up
     * under its owner's own lock and says false where the owner does not know it.
     */
    bool (*move)(void *context, void *from, void *to);
    void *move_context;
};

QR_MUST_USE enum qr_status qr_cache_create(struct qr_heap *heap,
                                           const struct qr_cache_config *config,
                                           struct qr_cache **out_cache);
/** @return objects that were still allocated; the cache is gone only where this is 0 */
size_t qr_cache_destroy(struct qr_cache *cache);

/** NULL when memory is exhausted.  Any context with QR_ALLOC_ATOMIC. */
void *qr_cache_alloc(struct qr_cache *cache, unsigned alloc_flags);
void qr_cache_free(struct qr_cache *cache, void *object);
/** Up to @p count objects into @p out.  @return how many: fewer when memory is exhausted */
size_t qr_cache_alloc_bulk(struct qr_cache *cache, size_t count, void **out, unsigned alloc_flags);
void qr_cache_free_bulk(struct qr_cache *cache, size_t count, void *const *objects);
/** Give empty slabs back, magazines included.  @return frames freed */
size_t qr_cache_reap(struct qr_cache *cache);
/**
 * Empty sparse slabs by moving their objects (qr_cache_config.move) into fuller ones.
 * Context: thread; no lock that the callback takes.  @return frames freed
 */
size_t qr_cache_compact(struct qr_cache *cache);

/* ---- kmalloc -------------------------------------------------------------- */

/** Smallest and largest kmalloc class; above: whole frames. */
#define QR_KMALLOC_MIN 8
#define QR_KMALLOC_MAX 16384

/** The class of a size from 1 to QR_KMALLOC_MAX: four to each doubling, every 8 bytes below 64. */
#define QR_KMALLOC_CLASS(bytes)                            \
    ((bytes) <= 64 ? ((size_t)(bytes) + 7) / 8 - 1         \
                   : 8 + (QR_KMALLOC_LOG(bytes) - 6) * 4 + \
                         ((((size_t)(bytes)-1) >> (QR_KMALLOC_LOG(bytes) - 2)) & 3))
#define QR_KMALLOC_LOG(bytes) \
    ((size_t)(8 * sizeof(unsigned long) - 1) - (size_t)__builtin_clzl((unsigned long)(bytes)-1))

/**
 * At least @p bytes, aligned to 8 or to the size where that is a power of two (up to a
 * page); NULL when memory is exhausted or bytes is 0.
 *
 * qr_kmalloc_plain() is the same without flags, qr_kmalloc_class() for a class that
 * the compiler knows (its number times QR_CACHE_LINE): qr_kmalloc() picks among the three.
 */
void *qr_kmalloc_flags(struct qr_heap *heap, size_t bytes, unsigned alloc_flags);
void *qr_kmalloc_plain(struct qr_heap *heap, size_t bytes);
void *qr_kmalloc_class(struct qr_heap *heap, size_t class_offset);

static QR_ALWAYS_INLINE void *
qr_kmalloc(struct qr_heap *heap, size_t bytes, unsigned alloc_flags)
{
#ifndef CONFIG_MEMORY_DEBUGGING /* else the exact size is recorded */
    if (__builtin_constant_p(alloc_flags) && alloc_flags == 0) {
        if (__builtin_constant_p(bytes) && bytes != 0 && bytes <= QR_KMALLOC_MAX)
            return qr_kmalloc_class(heap, QR_KMALLOC_CLASS(bytes) * QR_CACHE_LINE);
        return qr_kmalloc_plain(heap, bytes);
    }
#endif
    return qr_kmalloc_flags(heap, bytes, alloc_flags);
}

/** As qr_kmalloc() for a caller that allocates on behalf of somebody else, whose call site it names. */
void *qr_kmalloc_sited(struct qr_heap *heap, size_t bytes, unsigned alloc_flags, uintptr_t site);

/** Cleared, and count * bytes checked for overflow (NULL). */
void *qr_kcalloc(struct qr_heap *heap, size_t count, size_t bytes, unsigned alloc_flags);
/** As realloc: NULL leaves the old block as it was; bytes 0 frees and returns NULL. */
void *qr_krealloc(struct qr_heap *heap, void *block, size_t bytes, unsigned alloc_flags);
void *qr_kmalloc_aligned(struct qr_heap *heap, size_t bytes, size_t align, unsigned alloc_flags);
/** Physically contiguous, below 16 MiB. */
void *qr_kmalloc_dma(struct qr_heap *heap, size_t bytes, unsigned alloc_flags);
/** Up to @p count blocks of @p bytes into @p out.  @return how many */
size_t qr_kmalloc_bulk(struct qr_heap *heap, size_t bytes, size_t count, void **out,
                       unsigned alloc_flags);
/** Any block of the kmalloc family; NULL is allowed. */
void qr_kfree(struct qr_heap *heap, void *block);
/**
 * The same by a caller that knows the size it asked for last.  Stops where the block cannot be
 * of that size: always where it is too small, in debug builds where it is any other.
 */
void qr_kfree_sized(struct qr_heap *heap, void *block, size_t bytes);
void qr_kfree_bulk(struct qr_heap *heap, size_t count, void *const *blocks);
/** Bytes that the block can hold; under CONFIG_MEMORY_DEBUGGING what was asked for. */
size_t qr_ksize(struct qr_heap *heap, const void *block);

/* ---- Large blocks --------------------------------------------------------- */

/** Where blocks above QR_KMALLOC_MAX come from; each block is freed to where it came from. */
enum qr_large_kind {
    QR_LARGE_FRAMES,    /**< each a run of frames of its own (the default) */
    QR_LARGE_FIRST_FIT, /**< pages of shared chunks: the lowest free run that is long enough */
    QR_LARGE_BEST_FIT,  /**< the shortest free run that is long enough */
    QR_LARGE_KINDS,
};
/** From now on; any time. */
void qr_heap_large_select(struct qr_heap *heap, enum qr_large_kind kind);

/* ---- Pools ---------------------------------------------------------------- */

/**
 * A reserve in front of a cache: as long as no more than @p reserve objects of the pool
 * are out, an allocation does not fail, whatever the state of memory.
 */
struct qr_pool;
QR_MUST_USE enum qr_status qr_pool_create(struct qr_cache *cache, size_t reserve,
                                          struct qr_pool **out_pool);
/** Every object has come back.  */
void qr_pool_destroy(struct qr_pool *pool);
/** NULL only where memory is exhausted and the reserve is out too. */
void *qr_pool_alloc(struct qr_pool *pool, unsigned alloc_flags);
void qr_pool_free(struct qr_pool *pool, void *object);
/** Objects that the reserve holds now. */
size_t qr_pool_reserve(struct qr_pool *pool);

/* ---- Figures -------------------------------------------------------------- */

/** Reap every cache: what a reclaim hook calls first.  @return frames freed */
size_t qr_heap_reap(struct qr_heap *heap);

struct qr_cache_stats {
    const char *name;
    size_t object_bytes, slab_frames, objects_per_slab;
    size_t slabs, active_slabs;
    size_t active_objects, total_objects;
    size_t frames;
    size_t requested_bytes;    /**< kmalloc only: what callers asked for, where tracked */
    unsigned magazine_objects; /**< of a magazine, as they are made now */
    /** Share of the frames' bytes that no allocated object covers, in thousandths. */
    unsigned fragmentation;
};
/** Statistics of the index-th cache; false past the end. */
bool qr_heap_cache_stats(struct qr_heap *heap, size_t index, struct qr_cache_stats *out_stats);

struct qr_heap_stats {
    size_t frames;       /**< frames held by slabs, large blocks and the heap itself */
    size_t active_bytes; /**< bytes of allocated objects */
    size_t large_blocks, large_bytes;
    unsigned fragmentation; /**< as in qr_cache_stats, of all frames */
};
void qr_heap_stats(struct qr_heap *heap, struct qr_heap_stats *out_stats);

bool qr_heap_validate(struct qr_heap *heap, char *out_message, size_t bytes);

/**
 * What is allocated, by call site and backtrace, the most bytes first: since QR_HEAP_TRACK was
 * switched on; under CONFIG_MEMORY_DEBUGGING all objects.  In other builds a block whose size the
 * compiler knew counts with that of its class.
 */
void qr_heap_report_leaks(struct qr_heap *heap, struct qr_writer *writer);

/* ---- Debugging ------------------------------------------------------------ */

/** Switches at run time.  All but the first and the last need CONFIG_MEMORY_DEBUGGING. */
enum qr_heap_switch {
    QR_HEAP_RANDOM_ORDER = 1 << 0, /**< objects leave a slab in random order */
    QR_HEAP_POISON = 1 << 1,       /**< fill freed objects, check them when they go out again */
    QR_HEAP_RED_ZONES = 1 << 2,    /**< fill and check what follows an object */
    QR_HEAP_QUARANTINE = 1 << 3,   /**< freed objects wait before they are used again */
    /**
     * Remember who allocates, with a backtrace, from now on: see qr_heap_report_leaks().
     * Costs nothing while it is off; while it is on every call takes the slow path.
     */
    QR_HEAP_TRACK = 1 << 4,
};
/**
 * Turn on what is in @p switches and everything else off.  Context: thread, one at a time.
 * @return what is on now: without QR_HEAP_TRACK where there was no memory for its table
 */
unsigned qr_heap_debug(struct qr_heap *heap, unsigned switches);
unsigned qr_heap_debug_get(struct qr_heap *heap);

/** What the host knows about code; for QR_HEAP_TRACK and the leak report. */
struct qr_trace_ops {
    /** Return addresses of the callers, innermost first.  @return how many */
    unsigned (*backtrace)(void *context, uintptr_t *out, unsigned count);
    /** Write the name of the function that the return address @p pc lies in, where known; or NULL. */
    void (*symbol)(void *context, uintptr_t pc, struct qr_writer *writer);
    void *context;
    unsigned
        depth; /**< of backtraces, up to QR_TRACE_DEPTH_MAX; 0: CONFIG_HEAP_TRACE_DEPTH; the first time counts */
};
#define QR_TRACE_DEPTH_MAX 32
/** @p ops stays valid as long as the heap.  Before QR_HEAP_TRACK is switched on. */
void qr_heap_trace(struct qr_heap *heap, const struct qr_trace_ops *ops);

/**
 * Sampled guard pages (the idea is KFENCE's): now and then an object gets a page of its
 * own between pages that cannot be touched, and after its free the page cannot be
 * touched either.  The sample is taken where a CPU's magazine ran out anyway, so the fast paths
 * know nothing of it; it is meant to stay on.
 */
struct qr_guard_config {
    size_t slots; /**< objects that may be guarded at once */
    unsigned
        interval; /**< every how many refills of a magazine one is taken; 0: qr_guard_due() says */
    /**
     * Let nobody touch @p page, or everybody again.  Any context, a spin lock is held.  Another
     * CPU may go on touching a page for a while: then it misses a mistake.
     */
    void (*protect)(void *context, void *page, bool accessible);
    void *context;
    /**
     * 2 * slots + 1 pages side by side that the host lends until qr_heap_fini(); NULL: frames of the
     * direct map, where the host can protect these one by one.
     */
    void *pool;
};
QR_MUST_USE enum qr_status qr_guard_start(struct qr_heap *heap,
                                          const struct qr_guard_config *config);
/** Take no more samples. */
void qr_guard_stop(struct qr_heap *heap);
/** Take the next kmalloc that leaves the fast path: for hosts that sample by the clock.  Any context. */
void qr_guard_due(struct qr_heap *heap);
/** A fault at @p address: true, and a report, where a guarded object explains it. */
bool qr_guard_fault(struct qr_heap *heap, uintptr_t address, struct qr_writer *writer);
size_t qr_guard_samples(struct qr_heap *heap);

#endif
#endif
