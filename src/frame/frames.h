/* SPDX-License-Identifier: MIT */
#ifndef QR_FRAME_FRAMES_H
#define QR_FRAME_FRAMES_H

/*
 * The frame layer's own structures.  docs/frame.md draws them.
 *
 *   machine ── zones (node × kind) ── lists of blocks, by largest free run
 *      │                                    │ block numbers
 *      ├── sections ── descriptors (32 B a frame), rows (64 B a block), block records (12 B)
 *      └── lanes, one a CPU: a stack of hot frames over one reserved block's rows
 *
 * A block is 512 frames.  Its free frames are the ones of a 512-bit bitmap, one cache
 * line of eight rows, as long as the block is OPEN.  A block that is free or taken
 * as a whole is an element of the buddy and its bitmap means nothing.
 */
#include <quire/assert.h>
#include <quire/frame.h>

#define BLOCK_ORDER  9u
#define BLOCK_FRAMES 512u
#define BLOCK_ROWS   8u
#define ROW_FRAMES   64u
#define BLOCK_NONE   UINT32_MAX
#define ORDER_COUNT  (QR_ORDER_MAX + 1)

#define ZONE_MAX      (CONFIG_MAX_NODES * QR_ZONE_COUNT)
#define SECTION_LIMIT 65536u /* qr_frame.section has 16 bits */

#define DMA_LIMIT ((uint64_t)16 << 20)

enum block_state {
    BLOCK_ABSENT, /* no memory that the allocator manages */
    BLOCK_TAIL,   /* inside a free or taken run of the buddy */
    BLOCK_FREE,   /* head of a free run of 2^order frames, listed under its order */
    BLOCK_TAKEN,  /* head of an allocated run of 2^order frames */
    BLOCK_OPEN,   /* its rows say which frames are free; listed where any is */
};

/* Guarded by the lock of the block's zone; zone itself is fixed. */
struct frame_block {
    uint32_t next, prev;
    uint16_t free : 10; /* OPEN: bits set in the rows */
    uint16_t state : 3; /* enum block_state */
    uint8_t order;      /* FREE, TAKEN: of the run; OPEN with free > 0: largest free run */
    uint8_t zone;
};
QR_STATIC_ASSERT(sizeof(struct frame_block) == 12, "block records are 12 bytes");

/* One bit a frame, 1: free. */
struct frame_rows {
    uint64_t row[BLOCK_ROWS];
} QR_CACHE_ALIGNED;

enum section_state {
    SECTION_ABSENT,
    SECTION_FRESH, /* nothing written yet: all of it free and of one zone */
    SECTION_READY,
};

struct frame_section {
    struct qr_frame *frames; /* of first_pfn on */
    struct frame_rows *rows;
    struct frame_block *blocks;
    _Atomic uint8_t *described; /* a byte a block: descriptors initialised */
    size_t first_pfn;           /* block-aligned */
    size_t frame_count;
    uint32_t first_block;
    uint32_t block_count;
    uint32_t next_fresh; /* in the zone's chain; by zone->lock */
    uint8_t zone;        /* while FRESH */
    _Atomic uint8_t state;
};

struct frame_zone {
    struct qr_spin lock;
    uint8_t kind, node, index;
    bool any_fresh;
    uint32_t fresh;             /* chain of sections */
    uint32_t listed;            /* bit o: head[o] is not empty */
    uint32_t head[ORDER_COUNT]; /* o < 9: OPEN blocks whose largest free run is o; else FREE */
    uint32_t spare;             /* a block of order 9 that is listed unmerged, or BLOCK_NONE */
    _Atomic size_t free;        /* frames in lists and fresh sections; read without the lock too */
    size_t managed;
    size_t present;
    size_t watermark_min, watermark_low, watermark_high;
    size_t reserve[QR_ZONE_COUNT]; /* kept from requests for a higher kind */
    size_t start_pfn, end_pfn;
    size_t peak_used;
    uint32_t batch; /* frames that a lane moves at once */
    _Atomic bool
        pressed; /* free < watermark_high, as of the last change; a hint without the lock */
} QR_CACHE_ALIGNED;

/* ---- lanes -------------------------------------------------------------- */

#define LANE_STACK 108u
#define LANE_LARGE 2u

/*
 * top is the lock and the count in one: 0 while somebody holds the lane or it is
 * closed, else the number of frames on the stack plus one.  The owner takes it with one
 * exchange, interrupts off; everything else also holds the lock.
 */
struct frame_lane {
    _Atomic uint32_t top;
    uint32_t cap;        /* frames that the stack may hold */
    uint16_t key;        /* order 0 and the zone, as they stand in a descriptor */
    _Atomic bool closed; /* by lock; only the owner opens, so it may look without */
    uint8_t zone;
    struct qr_spin lock; /* rank NONE: outside every zone lock */
    size_t reserved;     /* bits set in rows */
    uint32_t block;      /* what they are bits of */
    uint32_t cpu;
    size_t allocs; /* from the stack, not yet counted */
    size_t frees;

    struct frame_rows rows;
    struct qr_frame *large[LANE_LARGE]; /* free blocks of BLOCK_ORDER, by top */
    uint32_t large_count, large_cap;
    struct qr_frame *stack[LANE_STACK];
} QR_CACHE_ALIGNED;

/* ---- the machine -------------------------------------------------------- */

struct qr_frames {
    unsigned slow_flags;    /* alloc flags that the lanes do not serve */
    unsigned section_shift; /* frames of a section, as a power of two */
    uint32_t section_count;
    unsigned cpu_count, zone_count;
    struct frame_section *sections;
    struct frame_lane *lanes;
    bool lanes_off;      /* a refusal hook is set */
    uint32_t lane_large; /* whole blocks that a lane keeps */

    qr_refuse_fn refuse;
    void *refuse_context;
    qr_reclaim_fn reclaim;
    void *reclaim_context;

    struct qr_memory_range *map; /* sanitised; disjoint, ascending */
    size_t map_count, map_capacity;
    size_t map_dropped;
    size_t total; /* managed, all zones */
    size_t reserved;
    size_t metadata_bytes;
    uint64_t direct_limit;
    unsigned node_count;

    _Atomic size_t failures;
    _Atomic size_t used, peak_used; /* as far as zones know: lanes count as used */
    struct qr_cpu_set open_lanes;
    /* Zones to try for a request, nearest first; ends with 0xff. */
    uint8_t fallback[CONFIG_MAX_NODES][QR_ZONE_COUNT][ZONE_MAX + 1];
    struct frame_zone zones[ZONE_MAX];
    struct qr_counters counters;
};

/* ---- rows (rows.c): pure ------------------------------------------------ */

/* The largest aligned free run of a row that has a free frame: 0..6. */
unsigned qr_row_order(uint64_t row);
/* Of a whole block that has a free frame: 0..9. */
unsigned qr_rows_order(const struct frame_rows *rows);
/* The first free aligned run of 2^order frames, order <= 8, or BLOCK_FRAMES. */
unsigned qr_rows_find(const struct frame_rows *rows, unsigned order);
/* The bits of [bit, bit + count) that lie in row @r. */
uint64_t qr_row_mask(unsigned r, unsigned bit, unsigned count);
unsigned qr_row_count(uint64_t row);
unsigned qr_rows_count(const struct frame_rows *rows);

/* ---- map (map.c) -------------------------------------------------------- */

/*
 * Sort, clip and disentangle @count ranges into @out, page-aligned and disjoint.
 * Usable memory shrinks to whole pages, everything else grows.  @return entries written
 */
size_t qr_map_sanitise(const struct qr_memory_range *in, size_t count, uint64_t limit,
                       struct qr_memory_range *out, size_t capacity, size_t *out_dropped);
/* Whether ranges of this kind are RAM with descriptors. */
bool qr_map_is_ram(enum qr_memory_kind kind);

/* ---- sections (section.c) ----------------------------------------------- */

static inline struct frame_section *
qr_section_of_block(struct qr_frames *frames, uint32_t block)
{
    return &frames->sections[block >> (frames->section_shift - BLOCK_ORDER)];
}

enum qr_status qr_sections_create(struct qr_frames *frames);
/* Bring a FRESH section into its zone's lists.  Locks: zone->lock. */
void qr_section_open(struct qr_frames *frames, struct frame_section *section);
/* Initialise the descriptors of a block, once.  Locks: the lock of its zone. */
void qr_section_describe(struct qr_frames *frames, uint32_t block);

static inline struct frame_block *
qr_block_of(struct qr_frames *frames, uint32_t block)
{
    struct frame_section *section = qr_section_of_block(frames, block);

    return &section->blocks[block - section->first_block];
}

static inline struct frame_rows *
qr_rows_of(struct qr_frames *frames, uint32_t block)
{
    struct frame_section *section = qr_section_of_block(frames, block);

    return &section->rows[block - section->first_block];
}

static inline struct qr_frame *
qr_block_frame(struct qr_frames *frames, uint32_t block, unsigned bit)
{
    struct frame_section *section = qr_section_of_block(frames, block);

    return &section->frames[(size_t)(block - section->first_block) * BLOCK_FRAMES + bit];
}

/* Where a frame stands: its block and its bit there. */
static inline uint32_t
qr_frame_block(const struct qr_frames *frames, const struct qr_frame *frame, unsigned *out_bit)
{
    const struct frame_section *section = &frames->sections[frame->section];
    size_t index = (size_t)(frame - section->frames);

    *out_bit = (unsigned)(index % BLOCK_FRAMES);
    return section->first_block + (uint32_t)(index / BLOCK_FRAMES);
}

/* The record of @block where the machine has it and its section is READY; else NULL. */
struct frame_block *qr_block_find(struct qr_frames *frames, uint64_t block);

/* ---- zones (zone.c); all with zone->lock held ---------------------------- */

/* Up to @want single frames into @out.  @return how many */
size_t qr_zone_take_singles(struct qr_frames *frames, struct frame_zone *zone, size_t want,
                            struct qr_frame **out);
/* Every free frame of the fullest open block into @out_rows.  BLOCK_NONE: nothing free. */
uint32_t qr_zone_take_rows(struct qr_frames *frames, struct frame_zone *zone,
                           struct frame_rows *out_rows, size_t *out_count);
/* An aligned run of 2^order frames, or NULL. */
struct qr_frame *qr_zone_take_run(struct qr_frames *frames, struct frame_zone *zone,
                                  unsigned order);
/* Give back the frames of @mask in row @row of an OPEN block. */
void qr_zone_give_row(struct qr_frames *frames, struct frame_zone *zone, uint32_t block,
                      unsigned row, uint64_t mask);
void qr_zone_give_run(struct qr_frames *frames, struct frame_zone *zone, uint32_t block,
                      unsigned bit, unsigned order);
/* Make a TAKEN run a set of OPEN blocks with no free frame. */
void qr_zone_split_taken(struct qr_frames *frames, struct frame_zone *zone, uint32_t block);
/* Take the free frames [first, first + count) whose blocks are all of @zone. */
void qr_zone_take_exact(struct qr_frames *frames, struct frame_zone *zone, size_t first_pfn,
                        size_t count);
/* The run of the buddy that @block lies in: its head, or BLOCK_NONE. */
uint32_t qr_zone_head_of(struct qr_frames *frames, uint32_t block);
/* Put a free run of blocks into the lists, merged with its buddies. */
void qr_zone_insert(struct qr_frames *frames, struct frame_zone *zone, uint32_t block,
                    unsigned order);
/* Merge the one block that is kept unmerged. */
void qr_zone_merge_spare(struct qr_frames *frames, struct frame_zone *zone);
/* Put an OPEN block with free frames under its largest run, or into the buddy when whole. */
void qr_zone_list_open(struct qr_frames *frames, struct frame_zone *zone, uint32_t block);
void qr_zone_watermarks(struct qr_frames *frames);

static inline size_t
qr_zone_free(const struct frame_zone *zone)
{
    return atomic_load_explicit(&zone->free, memory_order_relaxed);
}

/* Only the holder of zone->lock writes, so no atomic addition is needed. */
static inline void
qr_zone_free_add(struct frame_zone *zone, size_t delta)
{
    atomic_store_explicit(&zone->free, qr_zone_free(zone) + delta, memory_order_relaxed);
}

/*
 * How many frames @zone may give to a request for @kind.  Without the lock it is a hint
 * that saves a failing request the lock.
 */
static inline size_t
qr_zone_allowance(const struct frame_zone *zone, enum qr_zone_kind kind, unsigned alloc_flags)
{
    size_t floor = zone->watermark_min;
    size_t free = qr_zone_free(zone);

    if (alloc_flags & QR_ALLOC_RECLAIMER)
        return free;
    if (alloc_flags & QR_ALLOC_ATOMIC)
        floor /= 2;
    floor += zone->reserve[kind];
    return free > floor ? free - floor : 0;
}

/* ---- lanes (lane.c) ----------------------------------------------------- */

void qr_lanes_init(struct qr_frames *frames);
/* A frame for this CPU by the slow way: refill, then pop; NULL where the zone has none to give. */
struct qr_frame *qr_lane_refill(struct qr_frames *frames, unsigned alloc_flags);
/* Push a frame on a stack that had no room, or give it to its zone. */
void qr_lane_overflow(struct qr_frames *frames, struct qr_frame *frame);
/* Keep a free block of BLOCK_ORDER on this CPU; false: there is no room for it. */
bool qr_lane_give_large(struct qr_frames *frames, struct qr_frame *frame);
/* One of them, or NULL. */
struct qr_frame *qr_lane_take_large(struct qr_frames *frames);
/* Empty and close every lane.  @return frames given back to zones */
size_t qr_lanes_drain(struct qr_frames *frames);
static inline bool
qr_lanes_any_open(const struct qr_frames *frames)
{
    for (unsigned w = 0; w < QR_CPU_WORDS; w++) {
        if (atomic_load_explicit(&frames->open_lanes.bits[w], memory_order_relaxed) != 0)
            return true;
    }
    return false;
}
size_t qr_lanes_cached(struct qr_frames *frames, unsigned zone);
/* Give @count free single frames to their zones, grouped by row. */
void qr_frames_give(struct qr_frames *frames, size_t count, struct qr_frame *const *list);

/* ---- alloc.c ------------------------------------------------------------ */

enum qr_zone_kind qr_alloc_kind(unsigned alloc_flags);
/* Where the request may look, nearest first. */
const uint8_t *qr_alloc_fallback(struct qr_frames *frames, enum qr_zone_kind kind);

#define ALLOC_ATTEMPTS 16u

/*
 * One request that did not get what it wanted: drain the lanes, then reclaim.
 * @return whether to try again
 */
bool qr_alloc_retry(struct qr_frames *frames, size_t wanted, unsigned alloc_flags,
                    unsigned *attempt);
/* The last word on a request that failed: counters and the report. */
void qr_alloc_failed(struct qr_frames *frames, size_t wanted, unsigned alloc_flags);

bool qr_alloc_refused(struct qr_frames *frames);
/* Make taken frames their caller's: descriptor, poison check, zeroing. */
struct qr_frame *qr_frame_hand_out(struct qr_frames *frames, struct qr_frame *frame, unsigned order,
                                   unsigned alloc_flags);

/* Bookkeeping of frames that leave or enter zones. */
void qr_frames_used_add(struct qr_frames *frames, struct frame_zone *zone, size_t count);
void qr_frames_used_sub(struct qr_frames *frames, struct frame_zone *zone, size_t count);

/* Descriptor of a frame on its way out, and in. */
static inline void
qr_frame_claim(struct qr_frame *frame)
{
    atomic_store_explicit(&frame->flags, QR_FRAME_KERNEL, memory_order_relaxed);
    atomic_store_explicit(&frame->refs, 1, memory_order_release);
}

/* Stops with the reason when the frame is not one that its caller may free. */
QR_NORETURN QR_COLD void qr_frame_bad_free(struct qr_frames *frames, struct qr_frame *frame);

/* From the caller's only reference to none: the frame is out of reach of try_get. */
static inline void
qr_frame_unclaim(struct qr_frames *frames, struct qr_frame *frame)
{
    uint32_t one = 1;

    if (qr_unlikely(!atomic_compare_exchange_strong_explicit(
            &frame->refs, &one, 0, memory_order_acq_rel, memory_order_relaxed)))
        qr_frame_bad_free(frames, frame);
}

/* ---- poison (poison.c), CONFIG_MEMORY_DEBUGGING -------------------------- */

#ifdef CONFIG_MEMORY_DEBUGGING
#define FRAME_POISONED (1u << 31) /* in qr_frame.flags of a free frame */
void qr_poison_set(struct qr_frames *frames, struct qr_frame *frame, size_t count);
/* Panics where a free frame has been written to.  Before the descriptor is claimed. */
void qr_poison_check(struct qr_frames *frames, struct qr_frame *frame, size_t count);
bool qr_poison_intact(struct qr_frames *frames, struct qr_frame *frame);
#else
static inline void
qr_poison_set(struct qr_frames *frames, struct qr_frame *frame, size_t count)
{
    (void)frames, (void)frame, (void)count;
}
static inline void
qr_poison_check(struct qr_frames *frames, struct qr_frame *frame, size_t count)
{
    (void)frames, (void)frame, (void)count;
}
#endif

#endif
