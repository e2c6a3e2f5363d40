/* SPDX-License-Identifier: MIT */
#ifndef QR_HEAP_HEAP_H
#define QR_HEAP_HEAP_H

/*
 * The heap's own structures.  docs/heap.md draws them.
 *
 *   cache ── lanes, one a CPU: two magazines of free objects, loaded and previous
 *     │        └ the fast path: pop or push on the loaded one
 *     └── nodes, one a memory node
 *           ├── depot: full and empty magazines that no CPU holds
 *           └── slabs: blocks of frames cut into objects, a bit each: partial, full, empty
 */
#include <quire/heap.h>
#include <quire/list.h>
#include <quire/tree.h>

#include "frame/frames.h"

enum {
    CLASS_COUNT = 40,     /* 8 B .. 16 KiB, four to each doubling */
    CLASS_LANES = 64,     /* room for so many, so that each node's begin on a page */
    CLASS_FINE = 1024,    /* up to here classes are told apart by steps of 8 bytes, then of 128 */
    DMA_CLASS_COUNT = 12, /* powers of two */
    MAGAZINE_KINDS = 6,   /* 6, 14, 30, 62, 126, 254 objects */
    OFF_SLAB_BYTES = 512, /* objects from here on have their slab's record elsewhere */
    SLAB_ORDER_MAX = 4,
    QUARANTINE_SLOTS = 256,
    CACHE_NO_CLASS = 0xffff,
};

#define WORD_BYTES sizeof(void *)

/*
 * 2^(kind + 3) words, aligned to its own size: two words of header, then objects.  So the
 * address of a slot says how many slots lie below it.
 */
struct magazine {
    struct magazine *next; /* in the depot */
    uint16_t kind, count;  /* count: while nobody pops or pushes on it */
    void *object[];
};
QR_STATIC_ASSERT(offsetof(struct magazine, object) == 2 * sizeof(void *), "two words of header");

static inline uint32_t
magazine_capacity(unsigned kind)
{
    return (8u << kind) - 2;
}

/*
 * One CPU's free objects of one cache.
 *
 * top is the lock and the count in one: the address of the slot of the topmost object of
 * the loaded magazine, or of the word before the first slot where that is empty.  A
 * value whose low bits are all zero says that somebody holds the lane, or that it is closed.
 */
struct heap_lane {
    _Atomic uintptr_t top;
    uint32_t mask; /* bits of top that are zero when nothing is there; 0 while closed */
    struct magazine *loaded, *previous;
    struct qr_spin lock; /* rank NONE: outside every cache lock; slow paths only */
    bool closed;         /* by lock */
    uint16_t visits;     /* to the depot, since the magazines last grew */
    uint8_t node;        /* whose objects it holds */
} QR_CACHE_ALIGNED;
QR_STATIC_ASSERT(sizeof(struct heap_lane) == QR_CACHE_LINE, "a lane is one cache line");

/*
 * A block of 2^order frames cut into objects.  Its record lies at its start or, for large
 * objects, in a cache of records.  Fields by the lock of its node.
 */
struct slab {
    size_t lane;     /* of a class: from a CPU's lanes to the one for these objects, in bytes */
    uintptr_t magic; /* slab_mark(); not the first word, which in a free object is its mark */
    char *base;      /* of object 0 */
    struct qr_cache *cache;
    struct qr_list link; /* in partial, full or empty */
    struct qr_frame *frame;
    uint32_t reciprocal; /* of the stride: 2^32 / stride, rounded up */
    uint32_t limit;      /* the same; see is_object_start() */
    uint16_t count;      /* objects */
    uint16_t in_use;     /* of these, not in the bitmap: with callers, in magazines */
    uint8_t order;
    uint8_t words;
    uint8_t node;
    bool isolated;   /* compaction empties it: it stands in no list */
    uint64_t free[]; /* 1: free; @words of them */
};

/* What a cache has on one memory node. */
struct cache_node {
    struct qr_spin lock; /* rank SLAB */
    struct qr_list partial, full, empty;
    struct magazine *depot_full, *depot_empty;
    size_t depot_objects; /* in the full ones */
    size_t depot_empty_count;
    size_t slab_count, empty_count, frame_count;
    size_t total_objects, in_use; /* in_use: out of the slabs */
    uint64_t random;
} QR_CACHE_ALIGNED;

struct qr_cache {
    struct heap_lane *lanes; /* [node][cpu]; a class has its lanes in heap->free_lanes */
    uint32_t cookie_offset;
    uint16_t class_index; /* CACHE_NO_CLASS */
    bool has_magazines;   /* false: every request goes to the slabs */
    bool many_nodes;      /* lanes of several nodes */
    uintptr_t key;        /* of the words that mark free objects */
    struct qr_heap *heap;
    const char *name;
    uint32_t object_bytes; /* what a caller may use */
    uint32_t stride;       /* from one object to the next */
    uint32_t align;
    uint32_t reciprocal;
    unsigned alloc_flags;
    void (*construct)(void *object);
    bool (*move)(void *context, void *from, void *to);
    void *move_context;
    uint8_t slab_order; /* preferred */
    uint8_t slab_order_min;
    uint8_t kind_start, kind_max; /* of magazines */
    _Atomic uint8_t kind;
    bool off_slab;
    bool in_heap;            /* lives in struct qr_heap, never destroyed alone */
    _Atomic bool reapable;   /* magazines or empty slabs since the last reap */
    _Atomic uint32_t colour; /* of the next slab, in steps */
    uint32_t colour_count;
    size_t empty_limit;  /* empty slabs that are kept, a node */
    size_t depot_limit;  /* objects, a node */
    struct qr_list link; /* in heap->caches, by heap->lock */
    struct cache_node *nodes;
    struct cache_node first_node;
};

struct qr_heap {
    struct qr_frames *frames;
    uintptr_t key; /* what slab records and free objects of the classes are marked with */
    unsigned cpu_count, node_count;
    /* Of each CPU the lanes of every class, [node][class]: from its own node on, from node 0 on. */
    struct heap_lane *alloc_lanes[CONFIG_MAX_CPUS];
    struct heap_lane *free_lanes[CONFIG_MAX_CPUS];
    /* From the start of a CPU's lanes to that of a size, in bytes: in steps of 8 bytes, of 128. */
    uint16_t lane_of[CLASS_FINE / 8 + 1], lane_of_coarse[QR_KMALLOC_MAX / 128 + 1];
    struct heap_lane *closed; /* what CPUs without their own have: lanes that never open */
    struct heap_lane closed_of_one_node[CLASS_LANES];

    struct qr_cache classes[CLASS_COUNT];
    struct qr_cache dma_classes[DMA_CLASS_COUNT]; /* without magazines */
    struct qr_cache slab_records;
    struct qr_cache extents; /* records of the large-object back ends */
    struct qr_cache magazines[MAGAZINE_KINDS];
    struct qr_spin lock; /* rank HEAP: the list of caches; CPUs' lanes coming to be */
    struct qr_list caches;
    struct cache_node *more_nodes;  /* of the caches above, where there are several; else NULL */
    _Atomic size_t own_frames;      /* lanes of CPUs, more_nodes */
    struct heap_lane *closed_lanes; /* of every cache without magazines */

    _Atomic size_t large_blocks, large_bytes; /* given out */
    _Atomic size_t large_frames;              /* behind them, free runs of chunks included */
    _Atomic int large_kind;
    struct heap_fit {
        struct qr_spin lock; /* rank SLAB */
        struct qr_tree free; /* runs, by address or by length */
        struct qr_list chunks;
        size_t chunk_count, free_pages;
    } fit[QR_LARGE_KINDS]; /* of QR_LARGE_FRAMES unused */

    _Atomic unsigned switches; /* enum qr_heap_switch */
    struct heap_guard *_Atomic guard;
    const struct qr_trace_ops *trace;
    struct trace_table *_Atomic traces;
    struct heap_tracker {
        struct qr_spin lock;          /* rank LEAF */
        struct tracked *_Atomic slot; /* NULL: tracking never began */
        size_t slots;                 /* fixed with it: a power of two */
        size_t used, missed;          /* missed: no room */
    } tracker;
#ifdef CONFIG_MEMORY_DEBUGGING
    struct heap_quarantine {
        struct qr_spin lock; /* rank LEAF */
        uint32_t next;
        struct quarantined {
            struct qr_cache *cache;
            void *object;
        } slot[QUARANTINE_SLOTS];
    } quarantine;
#endif
};

/* ---- slabs (slab.c) ----------------------------------------------------- */

/* Sizes and offsets of @cache from its configuration. */
void qr_cache_layout(struct qr_cache *cache);
/*
 * Up to @want objects from slabs of @node that exist.  Locks: takes its lock.
 * @return how many
 */
size_t qr_slabs_take(struct qr_cache *cache, unsigned node, size_t want, void **out);
/* Objects back into their slabs; empty slabs beyond a few are released. */
void qr_slabs_give(struct qr_cache *cache, size_t count, void *const *objects);
/* Another slab, of *out_node; false where there is no memory.  Called with no lock held. */
QR_MUST_USE bool qr_slabs_grow(struct qr_cache *cache, unsigned alloc_flags, unsigned *out_node);
/* Release empty slabs down to @keep a node.  @return frames */
size_t qr_slabs_release(struct qr_cache *cache, size_t keep);
/* The slab that holds @pointer, NULL where none does. */
struct slab *qr_slab_find(struct qr_heap *heap, const void *pointer);
/* Which object of @slab @pointer is; panics where it is none. */
unsigned qr_slab_index(const struct slab *slab, const void *pointer);
/* Make slabs that hold little hold nothing, by the cache's move callback.  @return frames */
size_t qr_slabs_compact(struct qr_cache *cache);
void qr_slab_relist(struct cache_node *node, struct slab *slab);
/* Give up a slab that is empty and in no list.  @return its frames */
size_t qr_slab_release(struct qr_cache *cache, struct slab *slab);

size_t qr_cache_slab_objects(const struct qr_cache *cache);

/* ---- lanes (lane.c) ----------------------------------------------------- */

void qr_lanes_setup(struct heap_lane *lanes, unsigned count, unsigned node);
/* An object when the loaded magazine is empty or the cache has none. */
void *qr_heap_lane_alloc(struct qr_cache *cache, unsigned alloc_flags);
/* An object when the loaded magazine is full or the cache has none. */
void qr_heap_lane_free(struct qr_cache *cache, void *object);
/* Every magazine's objects back into the slabs, lanes closed, magazines released. */
void qr_heap_lanes_drain(struct qr_cache *cache);
/* Free objects in magazines, of CPUs and of the depot. */
size_t qr_heap_lanes_count(struct qr_cache *cache);
/* From this CPU's magazines and existing slabs.  @return how many */
size_t qr_heap_lane_take_many(struct qr_cache *cache, size_t want, void **out);
/* Objects that are marked free, to where they belong. */
void qr_heap_lane_give_many(struct qr_cache *cache, size_t count, void *const *objects);

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define QR_THREAD_SANITIZER 1
#endif
#elif defined(__SANITIZE_THREAD__)
#define QR_THREAD_SANITIZER 1
#endif

/*
 * A lane's mask may change while somebody that does not hold the lane reads it; whatever
 * he reads, a top that is not his leads to the slow path.
 */
static QR_ALWAYS_INLINE uint32_t
lane_mask(const struct heap_lane *lane)
{
#ifdef QR_THREAD_SANITIZER
    return __atomic_load_n(&lane->mask, __ATOMIC_RELAXED);
#else
    return lane->mask;
#endif
}

/* Of the size of a lane, at the start of a line. */
static QR_ALWAYS_INLINE struct heap_lane *
lane_at(struct heap_lane *lanes, size_t bytes)
{
    return (struct heap_lane *)(void *)((char *)lanes + bytes);
}

/*
 * Pop from the loaded magazine; NULL where that needs the slow path.  Interrupts stay on: an
 * interrupt, or another thread of this CPU, in the middle of it finds the lane held and
 * goes to the slabs.  @held: any value whose low twelve bits are zero.
 */
static QR_ALWAYS_INLINE void *
lane_pop(struct heap_lane *lane, uintptr_t held)
{
    uintptr_t top = atomic_exchange_explicit(&lane->top, held, memory_order_acquire);

    if (qr_unlikely(((uint32_t)top & lane_mask(lane)) == 0)) {
        if (top & WORD_BYTES) /* ours, and empty */
            atomic_store_explicit(&lane->top, top, memory_order_release);
        return NULL;
    }
    uintptr_t below = top - WORD_BYTES;

    __asm__("" : "+r"(below)); /* in a register of its own: one move less */
    void *object = *(void **)top;

    qr_assume(object != NULL);
    atomic_store_explicit(&lane->top, below, memory_order_release);
    return object;
}

/* Push on it; false where that needs the slow path. */
static QR_ALWAYS_INLINE bool
lane_push(struct heap_lane *lane, void *object, uintptr_t held)
{
    uintptr_t top = atomic_exchange_explicit(&lane->top, held, memory_order_acquire);
    uintptr_t slot = top + WORD_BYTES;

    if (qr_unlikely(((uint32_t)slot & lane_mask(lane)) == 0)) {
        if (top & WORD_BYTES) /* ours, and full */
            atomic_store_explicit(&lane->top, top, memory_order_release);
        return false;
    }
    *(void **)slot = object;
    atomic_store_explicit(&lane->top, slot, memory_order_release);
    return true;
}

/*
 * A CPU's lanes of all classes, which appear once, complete.  What is read through the
 * pointer depends on it, so no barrier is needed.
 */
static QR_ALWAYS_INLINE struct heap_lane *
cpu_lanes(struct heap_lane *const *of_cpu)
{
#ifdef QR_THREAD_SANITIZER
    return __atomic_load_n(of_cpu, __ATOMIC_ACQUIRE);
#else
    return *of_cpu;
#endif
}

static inline unsigned
cpu_node(const struct qr_heap *heap, const struct qr_cpu *cpu)
{
    return cpu->node < heap->node_count ? cpu->node : 0;
}

/* The lane of @cache for objects of @node on CPU @index. */
static inline struct heap_lane *
cache_lane(struct qr_cache *cache, unsigned index, unsigned node)
{
    struct qr_heap *heap = cache->heap;

    if (cache->class_index != CACHE_NO_CLASS)
        return cpu_lanes(&heap->free_lanes[index]) + (size_t)node * CLASS_LANES +
               cache->class_index;
    return &cache->lanes[(size_t)node * heap->cpu_count + index];
}

/* Frames are short: objects go straight to their slabs, magazines keep nothing. */
static inline bool
heap_pressed(const struct qr_heap *heap, const struct qr_cpu *cpu)
{
    const struct qr_frames *frames = heap->frames;
    uint8_t home = atomic_load_explicit(
        &frames->fallback[cpu->node < CONFIG_MAX_NODES ? cpu->node : 0][QR_ZONE_NORMAL][0],
        memory_order_relaxed);

    return home == 0xff || atomic_load_explicit(&frames->zones[home].pressed, memory_order_relaxed);
}

/* ---- slab records ------------------------------------------------------- */

/*
 * Slabs of small objects are one page with the record at its start, marked with a word
 * that nothing else can hold: the way from such an object to its slab is one masked
 * address and one comparison.  Caches' slabs carry another mark than classes', so that
 * what belongs to a cache never looks like a kmalloc block.
 */
static QR_ALWAYS_INLINE uintptr_t
slab_mark(const struct qr_heap *heap, uintptr_t slab)
{
    return heap->key ^ slab;
}

static inline uintptr_t
cache_slab_mark(const struct qr_cache *cache, const struct slab *slab)
{
    return slab_mark(cache->heap, (uintptr_t)slab) ^ (cache->class_index == CACHE_NO_CLASS);
}

/*
 * Whether @offset from the first object is the start of one: its product with the
 * reciprocal of the stride wraps to less than the reciprocal for multiples alone (Lemire).
 * The limit is a field of its own so that both are used from memory.
 */
static QR_ALWAYS_INLINE bool
is_object_start(const struct slab *slab, const void *pointer)
{
    uint32_t offset = (uint32_t)(uintptr_t)pointer - (uint32_t)(uintptr_t)slab->base;

    return offset * slab->reciprocal < slab->limit;
}

/*
 * Whether qr_kfree() looks at the start of the page before it asks the descriptor.  For a
 * large object that start is its owner's data, which may change in this moment: harmless,
 * because the value is only compared, but a race to the thread sanitizer.  QUIRE_INTERLEAVED: built
 * for that sanitizer's calls, not for its verdicts (tests/campaign/hooks.c).
 */
#if defined(CONFIG_MEMORY_DEBUGGING) || \
    (defined(QR_THREAD_SANITIZER) && !defined(QUIRE_INTERLEAVED))
#define FREE_BY_PAGE 0
#else
#define FREE_BY_PAGE 1
#endif

/* ---- marks of free objects ---------------------------------------------- */

/*
 * A free object holds a word that nothing else holds: its cache's key and its own
 * place in its page.  Release builds find double frees by that; debug builds keep a record
 * behind each object and check much more (debug.c).
 */
QR_NORETURN QR_COLD void qr_heap_double_free(struct qr_cache *cache, void *object);
QR_NORETURN QR_COLD void qr_heap_inside_free(struct qr_cache *cache, const void *object);
QR_NORETURN QR_COLD void qr_heap_wrong_cache(struct qr_cache *cache, const void *object,
                                             const struct slab *slab);

static inline uintptr_t *
object_cookie(const struct qr_cache *cache, void *object)
{
    return (uintptr_t *)((char *)object + cache->cookie_offset);
}

/* Classes share the heap's key, so that kfree() has it at hand. */
static QR_ALWAYS_INLINE uintptr_t
object_mark(uintptr_t key, const void *object)
{
    return key ^ ((uintptr_t)object & QR_PAGE_MASK);
}

/* A place in the code that allocated or freed something. */
#define CALLER() ((uintptr_t)__builtin_return_address(0))

#ifdef CONFIG_MEMORY_DEBUGGING

/* Atomic because statistics read the records of objects that others allocate and free. */
struct object_record {
    _Atomic uint32_t state;
    _Atomic uint32_t requested;
    _Atomic uintptr_t site;     /* who allocated or freed it */
    _Atomic uint32_t trace;     /* his backtrace: 1 + an index into heap->traces, or 0 */
    _Atomic uint32_t filled;    /* which fills it carries: enum qr_heap_switch */
    _Atomic uintptr_t checksum; /* of all of these, the object's address and the cache's key */
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
/* Keep @object from use for a while.  @return what leaves in its place, or NULL */
void *qr_quarantine_swap(struct qr_cache *cache, void *object, struct qr_cache **out_cache);
/* All that waits, of @cache or (NULL) of every cache, back into the slabs. */
void qr_quarantine_flush(struct qr_heap *heap, struct qr_cache *cache);
size_t qr_quarantine_count(struct qr_cache *cache);
void qr_heap_debug_init(struct qr_heap *heap);

#else

static inline void
qr_heap_debug_init(struct qr_heap *heap)
{
    (void)heap;
}

static inline void
qr_heap_object_made(struct qr_cache *cache, void *object)
{
    *object_cookie(cache, object) = object_mark(cache->key, object);
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
    uintptr_t mark = object_mark(cache->key, object);

    (void)site;
    if (qr_unlikely(*cookie == mark))
        qr_heap_double_free(cache, object);
    *cookie = mark;
}

static inline void
qr_quarantine_flush(struct qr_heap *heap, struct qr_cache *cache)
{
    (void)heap, (void)cache;
}

static inline size_t
qr_quarantine_count(struct qr_cache *cache)
{
    (void)cache;
    return 0;
}

#endif

static inline bool
heap_switched(const struct qr_heap *heap, unsigned what)
{
    return (atomic_load_explicit(&heap->switches, memory_order_relaxed) & what) != 0;
}

/* ---- tracking (track.c) ------------------------------------------------------ */

/* Whether records behind the objects say who allocated them. */
#ifdef CONFIG_MEMORY_DEBUGGING
#define RECORDS true
#else
#define RECORDS false
#endif

/* Whether the tracker has to know of every object: lanes are closed then. */
static inline bool
heap_tracks_objects(const struct qr_heap *heap)
{
    return !RECORDS && heap_switched(heap, QR_HEAP_TRACK);
}

/* From now on what is allocated is entered.  @return false where there is no memory for the table */
QR_MUST_USE bool qr_track_begin(struct qr_heap *heap);
/* Enter a block, or enter it anew; nothing where tracking never began. */
void qr_track_add(struct qr_heap *heap, const void *block, size_t bytes, uintptr_t site);
void qr_track_remove(struct qr_heap *heap, const void *block);
/* What was @from is @to now. */
void qr_track_move(struct qr_heap *heap, const void *from, const void *to);
void qr_track_init(struct qr_heap *heap);
void qr_track_fini(struct qr_heap *heap);
/* Number of the backtrace of this moment, 0 where there is none; from the caller of @site on. */
uint32_t qr_trace_take(struct qr_heap *heap, uintptr_t site);

/* A place in the code, with its function's name where the host knows it. */
void qr_site_write(struct qr_heap *heap, struct qr_writer *writer, uintptr_t site);

struct site_text {
    char text[80];
};
const char *qr_site_text(struct qr_heap *heap, uintptr_t site, struct site_text *text);

/* ---- caches (cache.c) ---------------------------------------------------- */

void qr_cache_setup(struct qr_heap *heap, struct qr_cache *cache,
                    const struct qr_cache_config *config, struct heap_lane *lanes,
                    struct cache_node *more_nodes);
/* Whether it holds only the heap's own books. */
bool qr_cache_is_internal(const struct qr_heap *heap, const struct qr_cache *cache);
void *qr_cache_alloc_sized(struct qr_cache *cache, size_t requested, unsigned alloc_flags,
                           uintptr_t site);
void qr_cache_free_sited(struct qr_cache *cache, void *object, uintptr_t site);
void *qr_cache_alloc_slow(struct qr_cache *cache, unsigned alloc_flags);
size_t qr_cache_alloc_many(struct qr_cache *cache, size_t requested, size_t count, void **out,
                           unsigned alloc_flags, uintptr_t site);
/* Give @cpu lanes of its own for the classes, where it has none and memory allows. */
void qr_heap_cpu_lanes(struct qr_heap *heap, const struct qr_cpu *cpu);
/* Some whole frames for the heap's own use, cleared; counted in own_frames. */
void *qr_heap_own_alloc(struct qr_heap *heap, size_t bytes);
void qr_heap_own_free(struct qr_heap *heap, void *memory);

/* ---- large blocks (large.c, fit.c) ---------------------------------------- */

/*
 * Where large blocks come from.  A block's head frame has the type LARGE; its owner says
 * which back end it is of, its index how many frames it has.
 */
struct large_ops {
    /* @pages frames side by side; NULL: no memory.  No lock held. */
    void *(*alloc)(struct qr_heap *heap, size_t pages, size_t align_pages, unsigned alloc_flags);
    void (*free)(struct qr_heap *heap, void *block, struct qr_frame *head);
    /* Give the frames beyond @pages, of which there are some, back. */
    void (*shrink)(struct qr_heap *heap, struct qr_frame *head, size_t pages);
};

extern const struct large_ops qr_large_frames_ops;
extern const struct large_ops qr_large_first_ops;
extern const struct large_ops qr_large_best_ops;

void *qr_large_alloc(struct qr_heap *heap, size_t bytes, size_t align, unsigned alloc_flags,
                     uintptr_t site);
void qr_large_free(struct qr_heap *heap, void *block, struct qr_frame *head);
size_t qr_large_bytes(const struct qr_frame *head);
void qr_large_shrink(struct qr_heap *heap, struct qr_frame *head, size_t bytes);
/* Whether a large block of @heap starts at @block. */
bool qr_is_large(struct qr_heap *heap, const struct qr_frame *frame, const void *block);
/* Whether @owner is of a block of a chunk of @heap; *out_kind: of which back end. */
bool qr_fit_owns(struct qr_heap *heap, const void *owner, enum qr_large_kind *out_kind);
/* Chunks that nothing uses, to the frame layer.  @return frames */
size_t qr_fit_reap(struct qr_heap *heap);
size_t qr_extent_bytes(void);
void qr_fit_init(struct qr_heap *heap);
bool qr_fit_validate(struct qr_heap *heap, char *out_message, size_t bytes);

/* ---- figures (stats.c) ------------------------------------------------------ */

#ifdef CONFIG_MEMORY_DEBUGGING
typedef void (*object_fn)(void *context, struct qr_cache *cache, void *object, bool in_bitmap);

/* Visit every object of every slab.  Locks: takes the lock of each node. */
void qr_heap_objects_visit(struct qr_cache *cache, object_fn visit, void *context);
#endif

/* ---- sampled guard pages (guard.c) ----------------------------------------- */

/* A guarded block when one is due, or NULL.  Every kmalloc that leaves the fast path asks. */
void *qr_guard_alloc(struct qr_heap *heap, size_t bytes, unsigned alloc_flags, uintptr_t site);
/* Whether @block is or was guarded: it is freed then, or the machine stopped. */
bool qr_guard_free(struct qr_heap *heap, void *block, uintptr_t site);
/* Bytes of the guarded object at @block; 0: it is none. */
size_t qr_guard_bytes(struct qr_heap *heap, const void *block);
size_t qr_guard_live(struct qr_heap *heap);
void qr_guard_fini(struct qr_heap *heap);

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

#endif
