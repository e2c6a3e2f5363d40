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
QR_STATIC_ASSERT(ZONE_MAX < 0xff, "zone indices are bytes, and 0xff ends a list");

#define DMA_LIMIT ((uint64_t)16 << 20)

/* Whether the users of a block's frames can be given others: so that large runs survive. */
enum block_class { BLOCK_FIXED, BLOCK_MOVABLE, BLOCK_CLASSES };

/* Lists of a zone: OPEN blocks by class and largest free run, then free runs of blocks. */
#define LIST_RUNS  (BLOCK_CLASSES * BLOCK_ORDER)
#define LIST_COUNT (LIST_RUNS + ORDER_COUNT - BLOCK_ORDER)
QR_STATIC_ASSERT(LIST_COUNT <= 32, "one bit of a word for each list");

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
    uint16_t free : 10;    /* OPEN: bits set in the rows */
    uint16_t state : 3;    /* enum block_state */
    uint16_t movable : 1;  /* enum block_class; changes only while in no list */
    uint16_t isolated : 1; /* OPEN: being emptied; in no list, its free frames count as used */
    uint8_t order : 5;     /* FREE, TAKEN: of the run; OPEN with free > 0: largest free run */
    uint8_t row : 3;       /* OPEN: no row below it has a free frame */
    uint8_t zone;
};
QR_STATIC_ASSERT(sizeof(struct frame_block) == 12, "block records are 12 bytes");

/* One bit a frame, 1: free. */
struct frame_rows {
    uint64_t row[BLOCK_ROWS];
} QR_CACHE_ALIGNED;

enum section_state {
    SECTION_ABSENT, /* no memory; or in a bank that has not come to it yet */
    SECTION_READY,
};

struct frame_section {
    struct qr_frame *frames; /* of first_pfn on; NULL until the section is there */
    struct frame_rows *rows;
    struct frame_block *blocks;
    _Atomic uint8_t *described; /* a byte a block: descriptors initialised */
    size_t first_pfn;           /* block-aligned */
    size_t frame_count;
    uint32_t first_block;
    uint32_t block_count;
    _Atomic uint8_t state;
};

/*
 * A run of sections that are all usable memory of one zone: nothing is written for any
 * of them before it is needed.  Their metadata lies side by side, in their order.
 */
struct frame_bank {
    uint32_t first, end;   /* sections; empty: not in use */
    uint32_t next;         /* no section below it waits; by the lock of the zone */
    uint32_t waiting;      /* sections that are not open yet; by the lock of the zone */
    uint32_t section_size; /* bytes of metadata for each */
    uint8_t zone;
    uint64_t metadata; /* physical */
};

/* Memory that was added while running and may be removed again. */
struct frame_addition {
    struct qr_pa_range range; /* empty: not in use */
    size_t metadata_frames;
    unsigned node;
    unsigned bank; /* BANK_NONE */
};
#define BANK_NONE UINT32_MAX

/* How deep a request may reach: half the reserve in atomic context, all of it for reclaim. */
enum zone_floor { FLOOR_ORDINARY, FLOOR_ATOMIC, FLOOR_NONE, FLOOR_COUNT };

struct frame_zone {
    struct qr_spin lock;
    uint8_t kind, node, index;
    uint32_t listed;           /* bit l: head[l] is not empty */
    uint32_t head[LIST_COUNT]; /* see list_of() */
    uint32_t spare;            /* a block of order 9 that is listed unmerged, or BLOCK_NONE */
    uint32_t waiting;          /* sections of its banks that are not open yet */
    _Atomic size_t free;       /* frames in lists and waiting sections; read without the lock too */
    _Atomic size_t managed;
    size_t present;
    _Atomic size_t watermark_min, watermark_low, watermark_high;
    _Atomic size_t reserve[QR_ZONE_COUNT];            /* kept from requests for a higher kind */
    _Atomic size_t floor[FLOOR_COUNT][QR_ZONE_COUNT]; /* what requests must leave free */
    _Atomic size_t start_pfn, end_pfn;
    size_t peak_used;
    _Atomic uint32_t batch; /* frames that a lane moves at once */
    /* free < watermark_high, as of the last change; a hint without the lock */
    _Atomic bool pressed;
    _Atomic bool woken; /* the background hook was called and high not reached since */
} QR_CACHE_ALIGNED;

/* ---- lanes -------------------------------------------------------------- */

/* What a CPU keeps apart.  The first two are block classes of its home zone. */
enum lane_class { LANE_FIXED, LANE_MOVABLE, LANE_HIGH, LANE_CLASSES };

#define LANE_STACK 128u

#define KEPT_ORDER 0x1fu /* of qr_frame.kept; the lane class is above */
#define KEPT_CLASS 6u

/*
 * What the fast paths touch.  top is the lock and the place in one: 0 while somebody
 * holds the lane or it is closed, else the index of the stack's next free slot.  The
 * stack grows down from slot `bottom` to slot 2.  Above the bottom stands NULL, and in
 * slot 1, which a pop from slot 0 would read, too: so one comparison finds the stack
 * empty or held, and one (top <= 1) finds it full or held.
 *
 * key is what head of a frame must be, but for its section, to be pushed here.
 */
struct lane_head {
    _Atomic size_t top;
    uintptr_t key; /* read without the lane: a stale one will do, too */
    size_t allocs; /* from the stack, not yet counted */
};

struct frame_lane {
    struct lane_head head;
    struct qr_frame *stack[LANE_STACK + 3];
    uint32_t bottom;
    _Atomic bool closed; /* by lock */
    uint8_t zone;
    uint8_t class;
    struct qr_spin lock; /* rank NONE: outside every zone lock */
    size_t counted;      /* frames on the stack when allocs was last 0 */
    size_t frees;        /* beyond what counted and allocs tell */
    size_t reserved;     /* bits set in rows */
    uint32_t block;      /* what they are bits of */
    uint32_t cpu, node;  /* whose it is, and that CPU's node */

    struct frame_rows rows;
    struct qr_frame *run[BLOCK_ORDER + 1]; /* free runs of 2^1 to 2^run_order frames; by top */
    uint32_t run_order;                    /* 0: none */
    uint32_t run_frames;                   /* in all of them */
} QR_CACHE_ALIGNED;

/* As much of a lane as the fast paths look at before they find it held. */
struct lane_nowhere {
    struct lane_head head;
    struct qr_frame *stack[2];
} QR_CACHE_ALIGNED;
QR_STATIC_ASSERT(offsetof(struct lane_nowhere, stack) == offsetof(struct frame_lane, stack),
                 "the beginning of a lane");

/*
 * The head of a single frame with one reference that goes back to a lane of @class for
 * @zone, without its section; on 32-bit hosts without the references, too.
 */
static inline uintptr_t
qr_lane_key(unsigned class, unsigned zone)
{
    uintptr_t kept = (uintptr_t) class << KEPT_CLASS | (uintptr_t)zone << 8;

#if UINTPTR_MAX > UINT32_MAX
    return (kept << 32 | 1) << 16;
#else
    return kept;
#endif
}

static QR_ALWAYS_INLINE uintptr_t
qr_frame_key(const struct qr_frame *frame)
{
#if UINTPTR_MAX > UINT32_MAX
    return atomic_load_explicit(&frame->head, memory_order_relaxed) << 16;
#else
    return frame->kept | (uintptr_t)frame->zone << 8;
#endif
}

/* The same of a frame whose last reference has just gone. */
static QR_ALWAYS_INLINE uintptr_t
qr_frame_key_unreferenced(const struct qr_frame *frame)
{
#if UINTPTR_MAX > UINT32_MAX
    return qr_frame_key(frame) | (uintptr_t)1 << 16;
#else
    return qr_frame_key(frame);
#endif
}

/* ---- nodes -------------------------------------------------------------- */

struct frame_node {
    _Atomic size_t event[QR_NUMA_EVENTS];
} QR_CACHE_ALIGNED;

/* ---- the machine -------------------------------------------------------- */

#define MIN_FREE_RULE SIZE_MAX

struct qr_frames {
    /* Where a CPU that has not been here yet finds its lanes: held for ever. */
    struct lane_nowhere nowhere;

    unsigned section_shift; /* frames of a section, as a power of two */
    uint32_t section_count;
    unsigned cpu_count, zone_count;
    unsigned lane_classes; /* lanes of a CPU: LANE_CLASSES, or without LANE_HIGH */
    struct frame_section *sections;
    struct frame_lane *lanes; /* lane_classes for each CPU, LANES_OFFSET from here */
    bool lanes_off;           /* a refusal hook is set */
    bool any_high;
    uint32_t lane_run_order; /* the largest runs that lanes keep; 0: none */

    qr_refuse_fn refuse;
    void *refuse_context;
    qr_reclaim_fn reclaim;
    void *reclaim_context;
    qr_background_fn background;
    void *background_context;
    qr_uncharge_fn uncharge;
    void *uncharge_context;
#ifdef CONFIG_MERGE
    qr_merged_fn merged_gone;
    void *merged_context;
#endif
    qr_evacuate_fn evacuate;
    void *evacuate_context;

    struct qr_spin map_lock;     /* rank LEAF: the map */
    struct qr_memory_range *map; /* sanitised; disjoint, ascending */
    size_t map_count, map_capacity;
    size_t map_dropped;
    struct frame_bank *banks; /* bank_count grows only; by map_lock */
    _Atomic uint32_t bank_count;
    uint32_t bank_capacity;
    _Atomic bool changing; /* memory is being added or removed */
    struct frame_addition additions[QR_ADDITIONS];
    _Atomic size_t total; /* managed, all zones */
    _Atomic size_t reserved;
    _Atomic size_t metadata_bytes;
    uint64_t direct_limit;
    _Atomic unsigned node_count; /* one past the highest node that has had memory */
    _Atomic size_t min_free;     /* frames, of all zones, that requests leave; or MIN_FREE_RULE */

    _Atomic size_t failures;
    _Atomic unsigned open_lanes;
    _Atomic size_t used, peak_used; /* as far as zones know: lanes count as used */
    /* Nodes by distance, nearest first. */
    uint8_t near[CONFIG_MAX_NODES][CONFIG_MAX_NODES];
    /* Zones to try for a request, nearest first; ends with 0xff.  Grows only. */
    _Atomic uint8_t fallback[CONFIG_MAX_NODES][QR_ZONE_COUNT][ZONE_MAX + 1];
    struct frame_node nodes[CONFIG_MAX_NODES];
    struct frame_zone *zones; /* zone_count: of the nodes that the map names, or of all */
    struct qr_counters *counters;
};

static inline size_t
qr_line_up(size_t bytes)
{
    return (bytes + QR_CACHE_LINE - 1) & ~(size_t)(QR_CACHE_LINE - 1);
}

/* Lanes stand behind the instance: the same distance in every instance. */
#define LANES_OFFSET qr_line_up(sizeof(struct qr_frames))

static inline unsigned
qr_frame_order(const struct qr_frame *frame)
{
    return frame->kept & KEPT_ORDER;
}

static inline enum lane_class
qr_frame_class(const struct qr_frame *frame)
{
    return (enum lane_class)(frame->kept >> KEPT_CLASS);
}

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
/* Bring the next waiting section of @zone into its lists; false where none waits.
 * Locks: zone->lock. */
bool qr_section_open_next(struct qr_frames *frames, struct frame_zone *zone);
/* The section if it is, or can be made, READY; NULL where there is no memory. */
struct frame_section *qr_section_ready(struct qr_frames *frames, size_t index);
/* The bank that section @index waits or stands in, or NULL. */
struct frame_bank *qr_bank_find(struct qr_frames *frames, size_t index);
/* How many bytes of metadata @frame_count frames take. */
size_t qr_section_metadata_bytes(size_t frame_count);
/* Insert a piece of memory map; false where there is no room for it.  Locks: map_lock. */
bool qr_map_add(struct qr_frames *frames, const struct qr_memory_range *entry);
void qr_map_remove(struct qr_frames *frames, struct qr_pa_range range);
/* Make [first, end) sections of @zone a bank.  @return its number, or BANK_NONE */
uint32_t qr_bank_add(struct qr_frames *frames, uint32_t first, uint32_t end, unsigned zone,
                     uint64_t metadata);
/* A section with holes, or one whose metadata is elsewhere: all of it at once. */
void qr_section_bring_in(struct qr_frames *frames, uint32_t index, size_t first_pfn,
                         size_t frame_count, uint64_t metadata);
/* Charge memory to its zone. */
void qr_zone_grow(struct qr_frames *frames, struct frame_zone *zone, size_t from, size_t to,
                  bool usable);
unsigned qr_zone_kind_of_block(const struct qr_frames *frames, uint64_t block);
/* Initialise the descriptors of a block, once.  Locks: the lock of its zone. */
void qr_section_describe(struct qr_frames *frames, uint32_t block);

/* Whether the descriptors of block @index of a section have been initialised. */
static inline bool
qr_section_is_described(const struct frame_section *section, uint32_t index)
{
    return atomic_load_explicit(&section->described[index], memory_order_acquire) != 0;
}

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

/* ---- zones (zone.c, singles.c); all with zone->lock held ------------------ */

/* Up to @want single frames into @out.  @return how many */
size_t qr_zone_take_singles(struct qr_frames *frames, struct frame_zone *zone,
                            enum block_class class, size_t want, struct qr_frame **out);
/* Every free frame of a block into @out_rows.  BLOCK_NONE: the next block has less than a row. */
uint32_t qr_zone_take_rows(struct qr_frames *frames, struct frame_zone *zone,
                           enum block_class class, struct frame_rows *out_rows, size_t *out_count);
/* An aligned run of 2^order frames, or NULL. */
struct qr_frame *qr_zone_take_run(struct qr_frames *frames, struct frame_zone *zone,
                                  enum block_class class, unsigned order);
/* A single frame whose number is @index modulo @count, a power of two up to 64; or NULL. */
struct qr_frame *qr_zone_take_colour(struct qr_frames *frames, struct frame_zone *zone,
                                     enum block_class class, struct qr_colour colour);
/* Take an OPEN or FREE block out of all lists until it is given back. */
void qr_zone_isolate(struct qr_frames *frames, struct frame_zone *zone, uint32_t block);
void qr_zone_unisolate(struct qr_frames *frames, struct frame_zone *zone, uint32_t block);
/* Forget a block all of whose frames are free and isolated: its memory goes away. */
void qr_zone_forget(struct qr_frames *frames, struct frame_zone *zone, uint32_t block);
/* Give back single frames of @zone: those that follow each other in one row in one step. */
void qr_zone_give_singles(struct qr_frames *frames, struct frame_zone *zone, size_t count,
                          struct qr_frame *const *list);
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

/* The class of block that a request's frames come from. */
static inline enum block_class
qr_block_class(unsigned alloc_flags)
{
    return alloc_flags & QR_ALLOC_MOVABLE ? BLOCK_MOVABLE : BLOCK_FIXED;
}

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
 * Whether a request that allows High memory gets it.  Where all memory is directly
 * mapped, High is what was added and shall be removable: for movable frames alone.
 */
static inline bool
qr_high_serves(const struct qr_frames *frames, unsigned alloc_flags)
{
    return frames->any_high && (frames->direct_limit != 0 || (alloc_flags & QR_ALLOC_MOVABLE));
}

/* Two bits of the flags, looked up: these stand on paths that count instructions. */
static inline enum qr_zone_kind
qr_alloc_kind(const struct qr_frames *frames, unsigned alloc_flags)
{
    static const uint8_t kinds[4] = {QR_ZONE_NORMAL, QR_ZONE_DMA, QR_ZONE_HIGH, QR_ZONE_DMA};

    QR_STATIC_ASSERT(QR_ALLOC_DMA == 1 << 4 && QR_ALLOC_HIGH == 1 << 5, "the table's index");
    enum qr_zone_kind kind = (enum qr_zone_kind)kinds[alloc_flags >> 4 & 3];

    return qr_unlikely(kind == QR_ZONE_HIGH) && !qr_high_serves(frames, alloc_flags)
               ? QR_ZONE_NORMAL
               : kind;
}

static inline enum zone_floor
qr_alloc_floor(unsigned alloc_flags)
{
    static const uint8_t floors[4] = {FLOOR_ORDINARY, FLOOR_ATOMIC, FLOOR_NONE, FLOOR_NONE};

    QR_STATIC_ASSERT(QR_ALLOC_ATOMIC == 1 << 1 && QR_ALLOC_RECLAIMER == 1 << 2,
                     "the table's index");
    return (enum zone_floor)floors[alloc_flags >> 1 & 3];
}

/*
 * How many frames @zone may give to a request for @kind.  Without the lock it is a hint
 * that saves a failing request the lock.
 */
static inline size_t
qr_zone_allowance(const struct frame_zone *zone, enum qr_zone_kind kind, unsigned alloc_flags)
{
    size_t floor =
        atomic_load_explicit(&zone->floor[qr_alloc_floor(alloc_flags)][kind], memory_order_relaxed);
    size_t free = qr_zone_free(zone);

    return free > floor ? free - floor : 0;
}

static inline unsigned
qr_this_node(void)
{
    unsigned node = qr_port_this_cpu()->node;

    return qr_likely(node < CONFIG_MAX_NODES) ? node : 0;
}

/* ---- init.c ------------------------------------------------------------- */

/* The order of zones for every node and kind, from which zones have memory now. */
void qr_fallback_fill(struct qr_frames *frames);

/* ---- lanes (lane.c) ----------------------------------------------------- */

void qr_lanes_init(struct qr_frames *frames);
/* A frame by this CPU's lane, refilled where need be; NULL where the zone has none to give. */
struct qr_frame *qr_lane_alloc(struct qr_frames *frames, enum lane_class class,
                               unsigned alloc_flags);
/* Push a free frame on its stack, making room, or give it to its zone. */
void qr_lane_free(struct qr_frames *frames, struct qr_frame *frame);
/* Keep a free run of up to BLOCK_ORDER on this CPU; false: there is no room for it. */
bool qr_lane_give_run(struct qr_frames *frames, struct qr_frame *frame, unsigned order);
/* One of that order, or NULL. */
struct qr_frame *qr_lane_take_run(struct qr_frames *frames, enum lane_class class, unsigned order);
/* Empty and close every lane.  @return frames given back to zones */
size_t qr_lanes_drain(struct qr_frames *frames);
size_t qr_lanes_cached(struct qr_frames *frames, unsigned zone);
/* Give @count free single frames to their zones, grouped by row. */
void qr_frames_give(struct qr_frames *frames, size_t count, struct qr_frame *const *list);
/* Give a free run of 2^order frames to its zone. */
void qr_frames_give_run(struct qr_frames *frames, struct qr_frame *frame, unsigned order);

static inline bool
qr_lanes_any_open(const struct qr_frames *frames)
{
    return atomic_load_explicit(&frames->open_lanes, memory_order_relaxed) != 0;
}

/* Which lanes serve @alloc_flags. */
static inline enum lane_class
qr_lane_class(const struct qr_frames *frames, unsigned alloc_flags)
{
    if ((alloc_flags & (QR_ALLOC_HIGH | QR_ALLOC_DMA)) == QR_ALLOC_HIGH &&
        qr_high_serves(frames, alloc_flags))
        return LANE_HIGH;
    return alloc_flags & QR_ALLOC_MOVABLE ? LANE_MOVABLE : LANE_FIXED;
}

/* The home zone of a CPU: the nearest that serves such requests; NULL where there is none. */
static inline struct frame_zone *
qr_lane_home(struct qr_frames *frames, enum lane_class class)
{
    unsigned kind = class == LANE_HIGH ? QR_ZONE_HIGH : QR_ZONE_NORMAL;
    uint8_t first =
        atomic_load_explicit(&frames->fallback[qr_this_node()][kind][0], memory_order_relaxed);

    return first == 0xff ? NULL : &frames->zones[first];
}

/* This CPU's lanes as its last visit left them; perhaps `nowhere`. */
static QR_ALWAYS_INLINE struct frame_lane *
qr_lane_here(struct qr_frames *frames)
{
    return (struct frame_lane *)(void *)((char *)frames + qr_port_this_cpu()->frame_lanes);
}

/* Whether lanes may keep anything of @zone now: what reserves are for is left alone. */
static inline bool
qr_lane_allowed(const struct qr_frames *frames, const struct frame_zone *zone)
{
    return zone != NULL && !frames->lanes_off &&
           qr_zone_free(zone) >
               atomic_load_explicit(&zone->watermark_min, memory_order_relaxed) + ROW_FRAMES;
}

/*
 * Whether a request of @class should ask its lane: it is open, or there is enough memory
 * to open it.
 */
static inline bool
qr_lane_wanted(struct qr_frames *frames, enum lane_class class)
{
    return qr_lanes_any_open(frames) || qr_lane_allowed(frames, qr_lane_home(frames, class));
}

/* ---- nodes (policy.c) ---------------------------------------------------- */

static inline void
qr_numa_count(struct qr_frames *frames, unsigned node, enum qr_numa_event event, size_t count)
{
    atomic_fetch_add_explicit(&frames->nodes[node].event[event], count, memory_order_relaxed);
}

/* ---- alloc.c ------------------------------------------------------------ */

/* Where a request may look: zones of @nodes (NULL: all), from @node's nearest on. */
struct zone_choice {
    unsigned node;
    const struct qr_node_set *nodes;
};

/*
 * The next zone of @choice for @kind; @at starts at 0.  NULL at the end.
 */
static inline struct frame_zone *
qr_zone_next(struct qr_frames *frames, const struct zone_choice *choice, enum qr_zone_kind kind,
             unsigned *at)
{
    uint8_t index;

    while ((index = atomic_load_explicit(&frames->fallback[choice->node][kind][*at],
                                         memory_order_relaxed)) != 0xff) {
        struct frame_zone *zone = &frames->zones[index];

        (*at)++;
        if (choice->nodes == NULL || qr_node_set_has(choice->nodes, zone->node))
            return zone;
    }
    return NULL;
}

/* @count frames of @kind came from @zone for this CPU, which looked where @choice says (policy.c). */
void qr_numa_note(struct qr_frames *frames, const struct frame_zone *zone,
                  const struct zone_choice *choice, enum qr_zone_kind kind, size_t count);

/* 2^order frames from the nearest zone of @choice that may give them; no lane, no retry. */
struct qr_frame *qr_zones_take(struct qr_frames *frames, const struct zone_choice *choice,
                               unsigned order, unsigned alloc_flags);
/* The same with everything that can be done before it fails. */
struct qr_frame *qr_take_retrying(struct qr_frames *frames, unsigned node,
                                  const struct qr_node_set *nodes, unsigned order,
                                  unsigned alloc_flags);
/* Call the background hook if @zone has just fallen below its low watermark. */
void qr_background_wake(struct qr_frames *frames, struct frame_zone *zone);

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

/* The zeroing policy: CONFIG_ZERO_ON_ALLOC clears whatever is asked for. */
#ifdef CONFIG_ZERO_ON_ALLOC
#define ZERO_ALWAYS QR_ALLOC_ZERO
#else
#define ZERO_ALWAYS 0u
#endif

static inline bool
qr_alloc_zeroes(unsigned alloc_flags)
{
    return ((alloc_flags | ZERO_ALWAYS) & QR_ALLOC_ZERO) != 0;
}

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
