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
    QR_FRAME_ERROR = 1u << 14, /**< the pager failed to fill it */
    QR_FRAME_MLOCKED = 1u << 15,
    QR_FRAME_TABLE_LOCK = 1u << 16, /**< bit lock of a page table */
    QR_FRAME_TABLE_DEAD = 1u << 17, /**< unlinked from its parent */
    QR_FRAME_PINNED = 1u << 18,     /**< never moved or evicted */
};

/**
 * The descriptor of one page frame: 32 bytes on 64-bit hosts.
 *
 * Type-stable: a descriptor exists as long as its memory section does, whatever
 * the frame is used for; so a lock-free reader may touch one at any time and
 * then revalidate.
 */
struct qr_frame {
    /** References: table entries + object's own + pins.  0 while free. */
    _Atomic uint32_t refs;
    /** Low byte: enum qr_frame_type (owner sets it while it holds the only reference);
     *  above: enum qr_frame_flag, changed atomically. */
    _Atomic uint32_t flags;
    /** Table entries that map it (ANON, OBJECT); live entries (TABLE); else the owner's. */
    _Atomic uint32_t maps;
    uint8_t order;    /**< of the block that starts here, while allocated as a block */
    uint8_t zone;     /**< zone index within the machine; fixed */
    uint16_t section; /**< index of the memory section; fixed */
    /** ANON: owner tag for the reverse map.  OBJECT: struct qr_object *.  TABLE: struct
     *  qr_tables *.  SLAB: the slab.  Guarded as the owner's layer says. */
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
};

/** The largest order of one block: 1 GiB of 4 KiB frames. */
#define QR_ORDER_MAX (30u - QR_PAGE_SHIFT)

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

/** The descriptor of @p pfn, or NULL where the machine has no memory there. */
struct qr_frame *qr_frame_find(struct qr_frames *frames, qr_pfn pfn);
/** The same where the caller knows that it exists (a frame number read from a table). */
struct qr_frame *qr_frame_of(struct qr_frames *frames, qr_pfn pfn);
qr_pfn qr_frame_pfn(const struct qr_frames *frames, const struct qr_frame *frame);

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

/** Clear or copy the contents of single frames, through windows where needed. */
void qr_frame_clear(struct qr_frames *frames, struct qr_frame *frame);
void qr_frame_copy(struct qr_frames *frames, struct qr_frame *to, struct qr_frame *from);

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

struct qr_zone_stats {
    enum qr_zone_kind kind;
    unsigned node;
    size_t start_pfn, spanned, present, managed;
    size_t free;   /**< exact at rest: blocks, bitmaps and per-CPU stacks */
    size_t cached; /**< of these, in per-CPU stacks and reserved blocks */
    size_t watermark_min, watermark_low, watermark_high;
    size_t protection[QR_ZONE_COUNT]; /**< kept from requests that could use a higher zone */
    size_t free_blocks[31];           /**< free blocks per order, as in buddyinfo */
    size_t peak_used;
};
unsigned qr_frames_zone_count(const struct qr_frames *frames);

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

/** One screen: the map, zones with watermarks and free blocks, totals. */
void qr_frames_report(struct qr_frames *frames, struct qr_writer *writer);

/** The sanitised map, with descriptions: entry @p index, false past the end. */
bool qr_frames_map_entry(const struct qr_frames *frames, size_t index,
                         struct qr_memory_range *out_entry);

/** Return every per-CPU stack and reserved block to its zone; for exact reports and tests. */
void qr_frames_drain(struct qr_frames *frames);

/**
 * Check every invariant of the layer (listed in src/frame/validate.c).
 * @return true where all hold; else the first violation is in @p out_message
 */
bool qr_frames_validate(struct qr_frames *frames, char *out_message, size_t bytes);

#endif
#endif
