/* SPDX-License-Identifier: MIT */
#ifndef QUIRE_FRAME_H
#define QUIRE_FRAME_H

/**
 * @file
 * Physical memory: the memory map, frame descriptors, zones, and the frame
 * allocator.  Usable alone, at port level 2.
 */

#ifndef __cplusplus
#include <quire/counter.h>
#include <quire/lock.h>
#include <quire/status.h>

struct qr_writer;

/* ---- Memory map --------------------------------------------------------- */

enum qr_memory_kind {
    QR_MEMORY_USABLE,
    QR_MEMORY_RESERVED, /**< firmware, holes: never touched */
    QR_MEMORY_ACPI,     /**< ACPI tables; usable once read, kept */
    QR_MEMORY_MMIO,
    QR_MEMORY_KERNEL,     /**< the kernel image */
    QR_MEMORY_BOOT,       /**< boot-time allocations: initrd, tables; may be freed later */
    QR_MEMORY_PERSISTENT, /**< NVDIMM */
    QR_MEMORY_BAD,
};

/** One entry as the boot loader or the host gives it: any order, overlaps allowed. */
struct qr_memory_range {
    struct qr_pa_range range; /**< bytes; need not be page-aligned */
    enum qr_memory_kind kind;
    unsigned node;
    const char *description; /**< static text for reports; may be NULL */
};

/* ---- Frame descriptors -------------------------------------------------- */

enum qr_frame_type {
    QR_FRAME_NONE = 0, /**< no memory, or never given to the allocator */
    QR_FRAME_RESERVED,
    QR_FRAME_FREE,
    QR_FRAME_KERNEL, /**< allocated, no further meaning */
    QR_FRAME_SLAB,
    QR_FRAME_LARGE,  /**< head of a kmalloc block above the largest class */
    QR_FRAME_TABLE,  /**< a page table */
    QR_FRAME_ANON,   /**< private anonymous memory of user spaces */
    QR_FRAME_OBJECT, /**< belongs to an object (file, shared memory) */
    QR_FRAME_SWAP,   /**< as ANON, and the swap cache has it too: index is its slot; quire/swap.h */
    QR_FRAME_HUGE,   /**< of a page of a huge page pool, free or in use; see hugetlb.h */
    QR_FRAME_MERGED, /**< private memory that is merged with equal pages: nobody writes it; merge.h */
    QR_FRAME_TYPE_COUNT,
};

/** Bits of qr_frame.flags above the fields that the frame layer keeps there. */
enum qr_frame_flag {
    QR_FRAME_LOCKED = 1u << 8,    /**< page lock: contents or identity in transition */
    QR_FRAME_WAITED = 1u << 9,    /**< somebody sleeps on the page lock */
    QR_FRAME_UPTODATE = 1u << 10, /**< contents valid */
    QR_FRAME_DIRTY = 1u << 11,    /**< differs from its backing */
    QR_FRAME_WRITEBACK = 1u << 12,
    QR_FRAME_REFERENCED = 1u << 13,
    QR_FRAME_ERROR = 1u << 14, /**< its memory failed: see qr_object_lose_page() */
    QR_FRAME_MLOCKED = 1u << 15,
    QR_FRAME_TABLE_LOCK = 1u << 16, /**< bit lock of a page table */
    QR_FRAME_TABLE_DEAD = 1u << 17, /**< unlinked from its parent */
    QR_FRAME_ACTIVE = 1u << 16,     /**< OBJECT: of a file, and reclaim saves it once */
    QR_FRAME_BLOCK = 1u << 17,      /**< OBJECT, HUGE: the first of a huge page */
    QR_FRAME_PINNED = 1u << 18,     /**< never moved or evicted */
    QR_FRAME_SHMEM = 1u << 19,      /**< OBJECT: of shared memory, not of a file */
    QR_FRAME_STACK = 1u << 20,      /**< KERNEL: of a kernel stack; set by the host */
    QR_FRAME_STORED = 1u << 20,     /**< OBJECT: of shared memory, and somebody has written to it */
    QR_FRAME_WORKINGSET = 1u << 20, /**< OBJECT: of a file, and was ACTIVE once */
    QR_FRAME_LAZY = 1u << 21,       /**< ANON: freed by its program, unless its entry is dirty */
    QR_FRAME_ACCOUNTED = 1u << 21,  /**< KERNEL, TABLE: charged to a group as the kernel's */
};

/** The bits of qr_frame.flags from here on: the group that is charged for it (quire/group.h); 0: none. */
#define QR_FRAME_GROUP_SHIFT 22
/** Of qr_frame.kept: there is such a number, or the frame is MERGED, which its free has to settle. */
#define QR_FRAME_CHARGED 0x20u

/**
 * The descriptor of one page frame: 32 bytes on 64-bit hosts.
 *
 * Type-stable: a descriptor exists as long as its memory section does, whatever
 * the frame is used for; so a lock-free reader may touch one at any time and
 * then revalidate.
 */
struct qr_frame {
    union {
        struct {
            /** References: table entries + object's own + pins.  0 while free. */
            _Atomic uint32_t refs;
            /** Order of the block that starts here, while allocated as one (5 bits),
             *  QR_FRAME_CHARGED, and which of a CPU's stacks it goes back to; the frame layer's. */
            uint8_t kept;
            uint8_t zone;     /**< zone index within the machine; fixed */
            uint16_t section; /**< index of the memory section; fixed */
        };
        _Atomic uint64_t head; /**< all of them in one word: the frame layer's */
    };
    /** Low byte: enum qr_frame_type (owner sets it while it holds the only reference);
     *  above: enum qr_frame_flag, changed atomically. */
    _Atomic uint32_t flags;
    /** Table entries that map it (ANON, MERGED, OBJECT); live entries (TABLE); else the owner's. */
    _Atomic uint32_t maps;
    /** ANON: owner tag for the reverse map.  OBJECT: struct qr_object *.  TABLE: struct
     *  qr_tables *.  SLAB: the slab.  MERGED: its place in the index of merged frames.  Guarded as
     *  the owner's layer says. */
    void *_Atomic owner;
    /** ANON, OBJECT: page index (va or offset, in pages).  TABLE: base va | level. */
    _Atomic uintptr_t index;
};
QR_STATIC_ASSERT(sizeof(struct qr_frame) <= 32, "a frame descriptor is 32 bytes or less");

static inline enum qr_frame_type
qr_frame_type(const struct qr_frame *frame)
{
    return (enum qr_frame_type)(atomic_load_explicit(&frame->flags, memory_order_relaxed) & 0xff);
}

/** Whether it is private memory of user spaces: a page's own, in the swap cache, or merged. */
static inline bool
qr_frame_is_private(const struct qr_frame *frame)
{
    enum qr_frame_type type = qr_frame_type(frame);

    return type == QR_FRAME_ANON || type == QR_FRAME_SWAP || type == QR_FRAME_MERGED;
}

/* ---- The allocator ------------------------------------------------------ */

enum qr_zone_kind {
    QR_ZONE_DMA,    /**< below 16 MiB */
    QR_ZONE_NORMAL, /**< reachable through the direct map */
    QR_ZONE_HIGH,   /**< 32-bit only: through windows */
    QR_ZONE_COUNT,
};

/** Flags of an allocation; 0 is the common case: one unzeroed frame, may reclaim. */
enum qr_alloc_flag {
    QR_ALLOC_ZERO = 1 << 0,      /**< cleared */
    QR_ALLOC_ATOMIC = 1 << 1,    /**< never calls the reclaim hook; may use half the reserve */
    QR_ALLOC_RECLAIMER = 1 << 2, /**< reclaim itself: may use all of the reserve */
    QR_ALLOC_MOVABLE = 1 << 3,   /**< its user can be given another frame later */
    QR_ALLOC_DMA = 1 << 4,       /**< below 16 MiB */
    QR_ALLOC_HIGH = 1 << 5,      /**< high memory will do */
    QR_ALLOC_NO_REPORT = 1 << 6, /**< failure is expected: no log */
    QR_ALLOC_OPPORTUNE = 1 << 7, /**< never calls the reclaim hook and leaves the reserve alone */
};

/** The largest order of one block: 1 GiB of 4 KiB frames. */
#define QR_ORDER_MAX (30u - QR_PAGE_SHIFT)

/** How many ranges can be added while running, at a time. */
#define QR_ADDITIONS 32u

/** A set of memory nodes. */
struct qr_node_set {
    uint64_t bits[(CONFIG_MAX_NODES + 63) / 64];
};

static inline bool
qr_node_set_has(const struct qr_node_set *set, unsigned node)
{
    return node < CONFIG_MAX_NODES && (set->bits[node / 64] >> (node % 64) & 1) != 0;
}

static inline void
qr_node_set_add(struct qr_node_set *set, unsigned node)
{
    if (node < CONFIG_MAX_NODES)
        set->bits[node / 64] |= (uint64_t)1 << (node % 64);
}

struct qr_frames; /* one machine's physical memory; src/frame/frames.h */

/** What qr_frames_init() is told. */
struct qr_frames_config {
    const struct qr_memory_range *map; /**< copied; hostile input is expected */
    size_t map_count;
    uint64_t physical_limit; /**< one past the highest address the CPU can form; 0: none */
    uint64_t direct_limit;   /**< memory at or above is HIGH; 0: all is directly mapped */
    unsigned cpu_count;
    /** Distances between nodes as in ACPI's SLIT, node_count rows of node_count, read
     *  during init; NULL: every other node is equally far. */
    const uint8_t *distance;
    unsigned node_count;
    /** One past the highest address at which memory may be added later; 0: none will be. */
    uint64_t hotplug_end;
};

/**
 * How many bytes an instance needs, for @p config; the host provides them,
 * zeroed and cache-line aligned.  Frame descriptors come out of the described
 * memory itself and are reported as a reserved range.
 */
size_t qr_frames_size(const struct qr_frames_config *config);

/**
 * Take over the memory that the map calls usable.
 * Overlaps resolve towards the more restrictive kind; empty, wrapping or unreachable
 * entries are dropped and counted in the boot report.
 *
 * @return QR_OK; QR_ERR_INVALID where no usable memory remains;
 *         QR_ERR_NO_MEMORY where the descriptors do not fit
 */
QR_MUST_USE enum qr_status qr_frames_init(struct qr_frames *frames,
                                          const struct qr_frames_config *config);

/** Release everything; the memory itself is the host's.  For hosted machines. */
void qr_frames_fini(struct qr_frames *frames);

/**
 * One frame with one reference, type KERNEL; NULL when memory is exhausted.
 * Any context with QR_ALLOC_ATOMIC; without it the reclaim hook may run (thread context,
 * no lock of rank > HOST held beyond what the hook tolerates).
 */
struct qr_frame *qr_frame_alloc(struct qr_frames *frames, unsigned alloc_flags);

/** 2^order frames, naturally aligned; one reference on the head. */
struct qr_frame *qr_frame_alloc_block(struct qr_frames *frames, unsigned order,
                                      unsigned alloc_flags);

/** Up to @p count single frames into @p out; returns how many. */
size_t qr_frame_alloc_many(struct qr_frames *frames, size_t count, struct qr_frame **out,
                           unsigned alloc_flags);

/** A contiguous run of @p count frames, any count. */
struct qr_contiguous_request {
    size_t count;
    size_t align_frames;       /**< power of two; 0 or 1: none */
    struct qr_pa_range within; /**< empty: anywhere */
    unsigned alloc_flags;
};
/** @p count separate single frames that lie side by side, each with one reference. */
struct qr_frame *qr_frame_alloc_contiguous(struct qr_frames *frames,
                                           const struct qr_contiguous_request *request);

/**
 * Give back one frame or block whose last reference the caller holds.  Never fails; panics
 * where the frame is free already, reserved, or has other references.  A frame that a
 * lock-free look-up may still find is given back with qr_frame_put() instead.
 */
void qr_frame_free(struct qr_frames *frames, struct qr_frame *frame);
void qr_frame_free_many(struct qr_frames *frames, size_t count, struct qr_frame *const *list);

/** Split an allocated block into single frames, each with one reference and the block's type. */
void qr_frame_split_block(struct qr_frames *frames, struct qr_frame *head);

/** Take a reference; the caller already has one, or a lock that keeps one alive. */
static inline void
qr_frame_get(struct qr_frame *frame)
{
    atomic_fetch_add_explicit(&frame->refs, 1, memory_order_relaxed);
}

/** Take a reference unless the frame is free already (lock-free look-ups). */
QR_MUST_USE bool qr_frame_try_get(struct qr_frame *frame);

/** Drop a reference; the last one frees the frame or block. */
void qr_frame_put(struct qr_frames *frames, struct qr_frame *frame);

/**
 * Drop a reference of each of @p count single frames that lie side by side: frames that lose
 * their last one go back together, so a block of them is whole again at once.
 */
void qr_frame_put_run(struct qr_frames *frames, struct qr_frame *first, size_t count);

/** The descriptor of @p pfn, or NULL where the machine has no memory there. */
struct qr_frame *qr_frame_find(struct qr_frames *frames, qr_pfn pfn);
/** The same where the caller knows that it exists (a frame number read from a table). */
struct qr_frame *qr_frame_of(struct qr_frames *frames, qr_pfn pfn);
qr_pfn qr_frame_pfn(const struct qr_frames *frames, const struct qr_frame *frame);

/**
 * Frame @p i of a run or block whose first is @p head.  The descriptors of a run that crosses sections of
 * memory are not side by side, so `head + i` may be none.
 */
static inline struct qr_frame *
qr_frame_nth(struct qr_frames *frames, struct qr_frame *head, size_t i)
{
    return i == 0 ? head : qr_frame_of(frames, qr_pfn_of(qr_frame_pfn(frames, head).v + i));
}

static inline qr_pa
qr_frame_pa(const struct qr_frames *frames, const struct qr_frame *frame)
{
    return qr_pfn_to_pa(qr_frame_pfn(frames, frame));
}

/** Set the type of a frame that the caller alone holds. */
static inline void
qr_frame_set_type(struct qr_frame *frame, enum qr_frame_type type)
{
    uint32_t flags = atomic_load_explicit(&frame->flags, memory_order_relaxed);

    atomic_store_explicit(&frame->flags, (flags & ~0xffu) | (uint32_t)type, memory_order_relaxed);
}

/** The number of the group that is charged for @p frame; 0: none. */
static inline unsigned
qr_frame_group(const struct qr_frame *frame)
{
    return atomic_load_explicit(&frame->flags, memory_order_relaxed) >> QR_FRAME_GROUP_SHIFT;
}

/** Set it, of a frame that the caller alone holds. */
static inline void
qr_frame_set_group(struct qr_frame *frame, unsigned number)
{
    const uint32_t others = ((uint32_t)1 << QR_FRAME_GROUP_SHIFT) - 1;
    uint32_t flags = atomic_load_explicit(&frame->flags, memory_order_relaxed);

    atomic_store_explicit(&frame->flags,
                          (flags & others) | (uint32_t)number << QR_FRAME_GROUP_SHIFT,
                          memory_order_relaxed);
    frame->kept =
        (uint8_t)((frame->kept & ~QR_FRAME_CHARGED) | (number != 0 ? QR_FRAME_CHARGED : 0));
}

/** Clear or copy the contents of single frames, through windows where needed. */
void qr_frame_clear(struct qr_frames *frames, struct qr_frame *frame);
void qr_frame_copy(struct qr_frames *frames, struct qr_frame *to, struct qr_frame *from);
/** A number that equal contents share; others hardly ever.  The contents may change meanwhile. */
uint64_t qr_frame_hash(struct qr_frames *frames, const struct qr_frame *frame);
/** Whether two frames, which nobody writes, hold the same. */
bool qr_frame_equal(struct qr_frames *frames, const struct qr_frame *a, const struct qr_frame *b);
/** Whether the frame lies outside the direct map, so that its holder must close its window before
 *  it sleeps. */
bool qr_frame_is_high(const struct qr_frames *frames, const struct qr_frame *frame);

/** Machine-wide counters hang off the frames instance, the lowest that all share. */
struct qr_counters *qr_frames_counters(struct qr_frames *frames);

/**
 * The upward hook for memory pressure: called when an allocation would fail, in the
 * allocating thread, with no lock of this layer held.
 * @return how many frames it freed; 0 ends the attempts
 */
typedef size_t (*qr_reclaim_fn)(void *context, size_t frames_wanted, unsigned alloc_flags);
void qr_frames_set_reclaim(struct qr_frames *frames, qr_reclaim_fn reclaim, void *context);

/**
 * The other upward hook: a zone has fallen below its low watermark.  Called once, in the
 * allocating context with no lock of this layer held, until the zone has been above its high
 * watermark again.  It wakes a background thread and returns.
 */
typedef void (*qr_background_fn)(void *context, unsigned node);
void qr_frames_set_background(struct qr_frames *frames, qr_background_fn wake, void *context);

/**
 * How many frames ordinary requests leave free, over all zones; the low and the high watermark follow
 * (Linux's vm.min_free_kbytes).  At first that is a rule of the size of each zone.  Every zone keeps its
 * share, but not more than half of itself.  Context: thread.
 */
void qr_frames_set_min_free(struct qr_frames *frames, size_t pages);
/** What was set, or what the rule gave. */
size_t qr_frames_min_free(const struct qr_frames *frames);

/**
 * The third: @p count frames that were charged to group @p number become free; @p flags are what
 * their flags were.  Any context, with locks held.  NULL: none is charged any more.
 */
typedef void (*qr_uncharge_fn)(void *context, unsigned number, uint32_t flags, size_t count);
void qr_frames_set_uncharge(struct qr_frames *frames, qr_uncharge_fn uncharge, void *context);
/** Take the charge of @p frame back, which the caller alone holds and keeps for good. */
void qr_frame_uncharge(struct qr_frames *frames, struct qr_frame *frame);
/** Frames charged to group @p number.  Looks at every descriptor; for validators. */
size_t qr_frames_group_use(struct qr_frames *frames, unsigned number);

/**
 * The fourth: a MERGED frame whose QR_FRAME_CHARGED is set has lost its last reference and is about to be
 * free: qr_frame_try_get() refuses it.  Any context, with locks held.  At start-up; NULL: none.
 */
typedef void (*qr_merged_fn)(void *context, struct qr_frame *frame);
void qr_frames_set_merged(struct qr_frames *frames, qr_merged_fn gone, void *context);

/**
 * Refusal for tests: called before each allocation of this layer; true refuses it.
 * Part of the interface because every adopter can then test its own out-of-memory paths.
 */
typedef bool (*qr_refuse_fn)(void *context);
void qr_frames_set_refusal(struct qr_frames *frames, qr_refuse_fn refuse, void *context);

/**
 * Hand memory that the map called BOOT (an initrd once unpacked) to the allocator.  Frames
 * of @p range that are not reserved BOOT memory are left alone.  @return frames gained
 */
size_t qr_frames_release(struct qr_frames *frames, struct qr_pa_range range);

struct qr_zone_stats;

/* ---- Nodes and policies -------------------------------------------------- */

/** One frame or block from @p node, from others by distance where it has none. */
struct qr_frame *qr_frame_alloc_on(struct qr_frames *frames, unsigned node, unsigned order,
                                   unsigned alloc_flags);

/** Linux's memory policies. */
enum qr_policy_mode {
    QR_POLICY_DEFAULT,        /**< the node of the CPU that asks, then by distance */
    QR_POLICY_LOCAL,          /**< the same, said explicitly */
    QR_POLICY_PREFERRED,      /**< the lowest node of the set first, then by distance */
    QR_POLICY_PREFERRED_MANY, /**< the nearest node of the set, then any other by distance */
    QR_POLICY_BIND,           /**< nodes of the set alone, nearest first */
    QR_POLICY_INTERLEAVE,     /**< nodes of the set in turn, page by page */
    QR_POLICY_WEIGHTED,       /**< the same, weight[node] pages at a time */
    QR_POLICY_COUNT,
};

/**
 * Where a caller wants its frames: a value that callers own, copy and pass; NULL
 * is the default everywhere.  @p next is the only field that an allocation changes.
 */
struct qr_policy {
    uint8_t mode;  /**< enum qr_policy_mode */
    uint16_t home; /**< BIND, PREFERRED_MANY: 1 + the node to start from; 0: the CPU's own */
    struct qr_node_set nodes;
    uint8_t weight[CONFIG_MAX_NODES]; /**< WEIGHTED; 0 counts as 1 */
    _Atomic uint32_t next;            /**< the turn of a page without an index of its own */
};

/** For the pages that have no place of their own: the policy's turn decides. */
#define QR_POLICY_NEXT SIZE_MAX

/**
 * Make @p policy from what a user says.
 * @return QR_OK; QR_ERR_INVALID where the mode needs nodes and @p nodes has none with memory,
 *         or is none of the modes
 */
QR_MUST_USE enum qr_status qr_policy_init(struct qr_policy *policy, struct qr_frames *frames,
                                          enum qr_policy_mode mode, const struct qr_node_set *nodes,
                                          const uint8_t *weights);

/** The node that page @p index (or QR_POLICY_NEXT) of @p policy belongs on, for a CPU of @p here. */
unsigned qr_policy_node(struct qr_frames *frames, struct qr_policy *policy, unsigned here,
                        size_t index);

/** As qr_frame_alloc_block() under @p policy; @p index is the page's place in its mapping. */
struct qr_frame *qr_frame_alloc_policy(struct qr_frames *frames, struct qr_policy *policy,
                                       size_t index, unsigned order, unsigned alloc_flags);

enum qr_numa_event {
    QR_NUMA_HIT,        /**< wanted from this node and found there */
    QR_NUMA_MISS,       /**< found here, but wanted from another */
    QR_NUMA_FOREIGN,    /**< wanted from here, but found elsewhere */
    QR_NUMA_INTERLEAVE, /**< a page in turn, found where its turn was */
    QR_NUMA_LOCAL,      /**< found here by a CPU of this node */
    QR_NUMA_OTHER,      /**< found here by a CPU of another */
    QR_NUMA_EVENTS,
};

struct qr_node_stats {
    size_t managed, free;
    size_t event[QR_NUMA_EVENTS];
};
void qr_frames_node_stats(struct qr_frames *frames, unsigned node, struct qr_node_stats *out_stats);
/** Whether @p node has memory. */
bool qr_frames_node_exists(struct qr_frames *frames, unsigned node);
/** @p node itself for @p rank 0, then the others by distance. */
unsigned qr_frames_node_near(const struct qr_frames *frames, unsigned node, unsigned rank);

/** What the frames of one node are used for. */
struct qr_node_use {
    size_t type[QR_FRAME_TYPE_COUNT];
    size_t file, shmem, mapped, dirty, writeback; /**< of OBJECT frames */
    size_t blocks;                                /**< of these, marked QR_FRAME_BLOCK */
    size_t active;                                /**< of these, marked QR_FRAME_ACTIVE */
    size_t stacks;                                /**< of KERNEL frames */
    size_t swap_mapped;                           /**< of SWAP frames */
};
/** Counts descriptors, so it takes time in proportion to the node's memory; holds no lock. */
void qr_frames_node_use(struct qr_frames *frames, unsigned node, struct qr_node_use *out_use);
/** The same of the frames, on @p node or (-1) on any, that are charged to one of the groups whose bits are
 *  set in @p numbers. */
void qr_frames_charged_use(struct qr_frames *frames, const uint32_t *numbers, int node,
                           struct qr_node_use *out_use);

/* ---- Cache colours -------------------------------------------------------- */

/** Frames whose number is @p index modulo @p count: those share sets of a cache. */
struct qr_colour {
    unsigned count; /**< power of two, up to 64 */
    unsigned index;
};
/** A single frame of that colour where there is one, else any. */
struct qr_frame *qr_frame_alloc_colour(struct qr_frames *frames, struct qr_colour colour,
                                       unsigned alloc_flags);

/* ---- Compaction: large runs from movable frames -------------------------- */

/** A block of frames that nothing is allocated from while it is emptied. */
struct qr_isolated {
    qr_pfn first;
    size_t count;
};
/**
 * Take the next block of @p zone from *@p cursor (a frame number; 0 at first) on of which at
 * least @p min_free frames are free and not all, and whose users are movable.
 * @return false at the end of the zone
 */
bool qr_frames_isolate_next(struct qr_frames *frames, unsigned zone, size_t *cursor,
                            size_t min_free, struct qr_isolated *out_isolated);
/** Undo it; @return whether the block is whole and free now. */
bool qr_frames_unisolate(struct qr_frames *frames, const struct qr_isolated *isolated);

/** Of free memory that cannot serve a request for 2^order frames: parts in 1000. */
unsigned qr_zone_unusable(const struct qr_zone_stats *stats, unsigned order);
/** Linux's index: towards 0 a request fails for lack of memory, towards 1000 for fragmentation;
 *  -1000 where it would not fail. */
int qr_zone_fragmentation(const struct qr_zone_stats *stats, unsigned order);

/* ---- Memory that comes and goes ------------------------------------------- */

/** How many bytes the ends of an added range must be a multiple of. */
uint64_t qr_frames_add_granule(const struct qr_frames *frames);

/**
 * Add memory while running.  Its descriptors lie at its start.  The direct map shows it already.
 * QR_MEMORY_PERSISTENT is noted in the map and never allocated from.
 * Context: thread.
 * @return QR_OK; QR_ERR_RANGE misaligned, empty, beyond hotplug_end or not directly mapped;
 *         QR_ERR_EXISTS there is memory already; QR_ERR_NO_MEMORY too many ranges;
 *         QR_ERR_BUSY another change is under way; QR_ERR_INVALID no such node or kind
 */
QR_MUST_USE enum qr_status qr_frames_add(struct qr_frames *frames,
                                         const struct qr_memory_range *range);

/**
 * Take a range that was added out again: its movable frames move elsewhere.
 * Context: thread.  Nobody holds pointers to descriptors of it that are not theirs.
 * @return QR_OK: nothing of it is used any more; QR_ERR_NOT_FOUND it was not added as it stands;
 *         QR_ERR_BUSY frames in use stayed, everything is as before
 */
QR_MUST_USE enum qr_status qr_frames_remove(struct qr_frames *frames, struct qr_pa_range range);

/** Called by removal: move what can be moved off these frames. */
typedef void (*qr_evacuate_fn)(void *context, const struct qr_isolated *isolated);
void qr_frames_set_evacuate(struct qr_frames *frames, qr_evacuate_fn evacuate, void *context);

/* ---- Figures ---------------------------------------------------------------- */

struct qr_zone_stats {
    enum qr_zone_kind kind;
    unsigned node;
    size_t start_pfn, spanned, present, managed;
    size_t free;   /**< exact at rest: blocks, bitmaps and per-CPU stacks */
    size_t cached; /**< of these, in per-CPU stacks and reserved blocks */
    size_t watermark_min, watermark_low, watermark_high;
    size_t protection[QR_ZONE_COUNT];    /**< kept from requests that could use a higher zone */
    size_t free_blocks[31];              /**< free blocks per order, as in buddyinfo */
    size_t free_movable[31];             /**< of these, in blocks whose users are movable */
    size_t blocks_fixed, blocks_movable; /**< 2 MiB blocks by the class of their users */
    size_t peak_used;
};
unsigned qr_frames_zone_count(const struct qr_frames *frames);

unsigned qr_frames_zone_node(const struct qr_frames *frames, unsigned index);
/** Frames of it that the allocator manages; 0: no such zone now. */
size_t qr_frames_zone_managed(const struct qr_frames *frames, unsigned index);

/** What one CPU holds back of one zone: its stack of hot frames and its reserved block. */
struct qr_cpu_frames_stats {
    size_t cached;   /**< frames */
    size_t capacity; /**< of the stack */
    size_t refill;   /**< frames that one refill takes at most */
};
unsigned qr_frames_cpu_count(const struct qr_frames *frames);
void qr_frames_cpu_stats(struct qr_frames *frames, unsigned zone, unsigned index,
                         struct qr_cpu_frames_stats *out_stats);

void qr_frames_zone_stats(struct qr_frames *frames, unsigned index,
                          struct qr_zone_stats *out_stats);

struct qr_frames_stats {
    size_t total; /**< usable frames that were given to the allocator */
    size_t free;
    size_t reserved; /**< described reserved frames, descriptors included */
    size_t peak_used;
    size_t metadata_bytes;
    size_t map_dropped; /**< entries of the map (or sections) that were of no use */
};
void qr_frames_stats(struct qr_frames *frames, struct qr_frames_stats *out_stats);

/**
 * Of these, the frames beyond qr_frames_config.direct_limit, which the kernel reaches through
 * windows.  @return false, and zeroes, where it reaches all of memory directly
 */
bool qr_frames_high_stats(struct qr_frames *frames, size_t *out_total, size_t *out_free);

/** One screen: the map, zones with watermarks and free blocks, totals. */
void qr_frames_report(struct qr_frames *frames, struct qr_writer *writer);

/** The sanitised map, with descriptions: entry @p index, false past the end. */
bool qr_frames_map_entry(struct qr_frames *frames, size_t index, struct qr_memory_range *out_entry);

/** Return every per-CPU stack and reserved block to its zone; for exact reports and tests. */
void qr_frames_drain(struct qr_frames *frames);

/**
 * Check every invariant of the layer (listed in src/frame/validate.c).
 * @return true where all hold; else the first violation is in @p out_message
 */
bool qr_frames_validate(struct qr_frames *frames, char *out_message, size_t bytes);

#endif
#endif
