/* SPDX-License-Identifier: MIT */
#ifndef QR_SPACE_REGION_H
#define QR_SPACE_REGION_H

/* Regions in their tree, and changes of them as transactions; see region.c. */

#include "vm.h"

#include <quire/hugetlb.h>
#include <quire/listener.h>

static inline struct qr_region *
qr_region_of(struct qr_tree_node *node)
{
    return node == NULL ? NULL : qr_container_of(node, struct qr_region, node);
}

static inline size_t
qr_region_pages(const struct qr_region *region)
{
    return (region->end.v - region->start.v) >> QR_PAGE_SHIFT;
}

static inline struct qr_va_range
qr_region_range(const struct qr_region *region)
{
    return (struct qr_va_range){region->start, region->end};
}

/* Its start, less the gap that must stay free below a stack. */
static inline uintptr_t
qr_region_floor(const struct qr_region *region)
{
    if ((region->flags & QR_REGION_GROWS_DOWN) == 0)
        return region->start.v;
    size_t guard = qr_vm_guard_bytes(region->space->vm);

    return region->start.v > guard ? region->start.v - guard : 0;
}

/* The rights of a leaf in a region with @prot: what may be written or run may be read, too. */
static inline unsigned
qr_leaf_prot(unsigned prot)
{
    prot &= QR_PROT_RWX;
    return prot == 0 ? 0 : prot | QR_PROT_READ | QR_PROT_USER;
}

/* The rights of a leaf that may do all that the region allows. */
static inline unsigned
qr_region_leaf_prot(const struct qr_region *region)
{
    return qr_leaf_prot(region->prot);
}

static inline bool
qr_region_is_shared(const struct qr_region *region)
{
    return (region->flags & QR_REGION_SHARED) != 0;
}

/* Private memory without a backing: absent pages are zero. */
static inline bool
qr_region_is_anonymous(const struct qr_region *region)
{
    return region->object == NULL;
}

/* Of huge pages from a pool (huge.h).  Read without the space's lock too. */
static inline bool
qr_region_is_hugetlb(const struct qr_region *region)
{
    return region->object != NULL && qr_object_hugetlb_pool(region->object) != NULL;
}

/* Read without the space's lock too: by what truncates. */
static inline bool
qr_region_is_device(const struct qr_region *region)
{
    return region->object != NULL && qr_object_is_device(region->object);
}

/*
 * Copy what @region is, without its places in tree and object: for making others
 * like it.  These change under the object's lock, so the structure is not copied whole.
 */
static inline void
qr_region_copy(struct qr_region *copy, const struct qr_region *region)
{
    copy->start = region->start;
    copy->end = region->end;
    copy->space = region->space;
    copy->prot = region->prot;
    copy->max_prot = region->max_prot;
    copy->flags = region->flags;
    copy->pkey = region->pkey;
    copy->object = region->object;
    copy->object_page = region->object_page;
    copy->file = region->file;
    copy->hugetlb_reserved = 0;
    copy->policy = region->policy;
    copy->listener = region->listener;
}

/* Does it begin somewhere?  In an object, or in a file of which it has nothing (as /dev/zero). */
static inline bool
qr_region_has_offset(const struct qr_region *region)
{
    return region->object != NULL || region->file != NULL;
}

/* The page of its object at @va. */
static inline size_t
qr_region_object_page(const struct qr_region *region, qr_va va)
{
    return region->object_page + ((va.v - region->start.v) >> QR_PAGE_SHIFT);
}

/* What of @range lies in @region; empty (start >= end) where nothing does. */
static inline struct qr_va_range
qr_region_clip(const struct qr_region *region, struct qr_va_range range)
{
    return qr_range_of(qr_max_size(region->start.v, range.start.v),
                       qr_min_size(region->end.v, range.end.v));
}

static inline struct qr_region *
qr_region_previous(const struct qr_region *region)
{
    return qr_region_of(qr_tree_previous(&region->node));
}

/* The last region that ends at or below @va; NULL where none does.  S. */
struct qr_region *qr_space_find_below(const struct qr_space *space, qr_va va);

void qr_regions_init(struct qr_tree *tree);

/* Of what is mapped so, mlock() and its family leave the flags as they are. */
#define QR_REGION_NEVER_LOCKED \
    ((unsigned)QR_REGION_DEVICE | QR_REGION_HUGETLB | QR_REGION_DROPPABLE)

/* ---- Gaps (gap.c) -------------------------------------------------------- */

struct qr_gap_request {
    size_t bytes;
    size_t align;  /* power of two */
    uintptr_t low; /* result within [low, high) */
    uintptr_t high;
    bool bottom_up; /* the lowest that fits rather than the highest */
};
QR_MUST_USE bool qr_gap_find(const struct qr_tree *regions, const struct qr_gap_request *request,
                             qr_va *out_start);

/* ---- Placement (place.c) ------------------------------------------------- */

/* Where a request goes.  @range gets the address for the checked length @bytes. */
QR_MUST_USE enum qr_status qr_place_find(const struct qr_space *space,
                                         const struct qr_map_request *request, size_t bytes,
                                         qr_va *out_start);
void qr_place_init(struct qr_space *space);

/* ---- Changes (region.c) -------------------------------------------------- */

/*
 * One transaction on a space's regions: descriptors are reserved first (may
 * fail), then regions change (cannot fail), then, with the space's lock
 * released, what was dropped is given back.
 */
struct qr_change {
    struct qr_space *space;
    struct qr_region *spares; /* chained through node.parent */
    struct qr_region *dead;   /* chained through node.parent */
};

void qr_change_begin(struct qr_change *change, struct qr_space *space);
QR_MUST_USE enum qr_status qr_change_reserve(struct qr_change *change, unsigned count);
/* After the space's lock is released. */
void qr_change_end(struct qr_change *change);

/* A new region with the properties of @like, which holds no references itself. */
struct qr_region *qr_region_insert(struct qr_change *change, const struct qr_region *like);
/* Take it out; its references are dropped at the change's end. */
void qr_region_drop(struct qr_change *change, struct qr_region *region);
/* Move its ends; neighbours do not overlap and no entry sticks out. */
void qr_region_resize(struct qr_region *region, struct qr_va_range range);
/* Cut in two at @va, inside; returns the upper part.  Uses one spare. */
struct qr_region *qr_region_split(struct qr_change *change, struct qr_region *region, qr_va va);
/* Could @low and @high, which touch, be one region? */
bool qr_region_can_merge(const struct qr_region *low, const struct qr_region *high);
/* Join with equal neighbours; returns the region that holds it now. */
struct qr_region *qr_region_merge(struct qr_change *change, struct qr_region *region);

/* What calls such as mprotect, madvise and mlock change. */
struct qr_attributes {
    unsigned prot;
    unsigned flags;
    uint8_t pkey;
    struct qr_mempolicy *policy;
    struct qr_listener *listener;
};

static inline struct qr_attributes
qr_region_attributes(const struct qr_region *region)
{
    return (struct qr_attributes){region->prot, region->flags, region->pkey, region->policy,
                                  region->listener};
}

/* How many descriptors setting attributes of @range, within @region, takes: 0, 1 or 2. */
unsigned qr_region_cuts(const struct qr_region *region, struct qr_va_range range);
/*
 * May @range of @region be given @attributes without passing the region limit?
 * Decides only; counts the merges that would follow.
 */
bool qr_region_may_change(const struct qr_region *region, struct qr_va_range range,
                          struct qr_attributes attributes);
/* Give @range of @region other attributes: splits and merges.  Uses qr_region_cuts() spares. */
struct qr_region *qr_region_change(struct qr_change *change, struct qr_region *region,
                                   struct qr_va_range range, struct qr_attributes attributes);

/* ---- Region by region (each.c) -------------------------------------------- */

enum qr_holes {
    QR_HOLES_STOP, /* end at the first hole */
    QR_HOLES_SKIP, /* go on behind it, and say so in the end */
};
/* What is done to @piece, which lies in @region. */
typedef enum qr_status (*qr_region_fn)(struct qr_change *change, struct qr_region *region,
                                       struct qr_va_range piece, void *context);
/* What is done to all of @range, which is not empty.  S for writing. */
typedef enum qr_status (*qr_range_fn)(struct qr_change *change, struct qr_va_range range,
                                      void *context);
/*
 * Call @fn with the range, under the space's lock for writing; for an empty range, do nothing.
 * @return what @fn does; QR_ERR_RANGE misaligned or wrapping
 */
QR_MUST_USE enum qr_status qr_change_locked(struct qr_space *space, qr_va start, size_t bytes,
                                            qr_range_fn fn, void *context);
/* Descriptors for the cuts that changing all of @range can need: at its two ends.  S. */
QR_MUST_USE enum qr_status qr_change_reserve_cuts(struct qr_change *change,
                                                  struct qr_va_range range);
/* Call @fn for all of @range.  QR_ERR_NO_MEMORY at a hole.  S. */
QR_MUST_USE enum qr_status qr_change_each(struct qr_change *change, struct qr_va_range range,
                                          enum qr_holes holes, qr_region_fn fn, void *context);
/* Decide, then apply; QR_ERR_NO_MEMORY past the region limit. */
QR_MUST_USE enum qr_status qr_change_attributes(struct qr_change *change, struct qr_region *region,
                                                struct qr_va_range piece,
                                                struct qr_attributes attributes);
/* The range of such a call: empty is fine; QR_ERR_RANGE misaligned, QR_ERR_NO_MEMORY wrapping. */
QR_MUST_USE enum qr_status qr_change_range(qr_va start, size_t bytes,
                                           struct qr_va_range *out_range);

/* ---- Accounts (count.c) --------------------------------------------------- */

/* Add @pages (may be negative) of a region like @region to the space's counts.  S. */
void qr_count_region(struct qr_space *space, const struct qr_region *region, long pages);

static inline bool
qr_region_is_stack(unsigned flags)
{
    return (flags & QR_REGION_GROWS_DOWN) != 0;
}

static inline bool
qr_region_is_data(unsigned prot, unsigned flags)
{
    return (prot & QR_PROT_WRITE) != 0 && (flags & (QR_REGION_SHARED | QR_REGION_GROWS_DOWN)) == 0;
}

/* Would @pages more of such a region pass the address-space or data limit?  S. */
bool qr_count_may_grow(const struct qr_space *space, unsigned prot, unsigned flags, size_t pages);
/* The data limit alone. */
bool qr_count_may_grow_data(const struct qr_space *space, unsigned prot, unsigned flags,
                            size_t pages);
bool qr_count_may_lock(const struct qr_space *space, size_t pages);

static inline enum qr_overcommit
qr_vm_overcommit(const struct qr_vm *vm)
{
    return (enum qr_overcommit)atomic_load_explicit(&vm->overcommit, memory_order_relaxed);
}

/* The flag that lets a mapping promise nothing. */
static inline unsigned
qr_commit_exemption(const struct qr_vm *vm)
{
    return qr_vm_overcommit(vm) == QR_OVERCOMMIT_NEVER ? 0 : QR_REGION_NO_RESERVE;
}

/* Does such a private mapping promise memory?  (Linux's accountable_mapping.) */
static inline bool
qr_region_is_accountable(const struct qr_vm *vm, unsigned prot, unsigned flags)
{
    return (prot & QR_PROT_WRITE) != 0 &&
           (flags & (QR_REGION_SHARED | QR_REGION_HUGETLB | QR_REGION_DROPPABLE |
                     qr_commit_exemption(vm))) == 0;
}

/* May @pages more be promised?  commit.c */
bool qr_commit_allows(const struct qr_space *space, size_t pages);

/* For qr_objects_set_promise_check(); @vm is a struct qr_vm. */
bool qr_commit_allows_page(void *vm, size_t pages);

/* The same for pages of a region with @flags. */
static inline bool
qr_count_may_commit(const struct qr_space *space, unsigned flags, size_t pages)
{
    return (flags & QR_REGION_ACCOUNTED) == 0 || qr_commit_allows(space, pages);
}

/* ---- Entries (zap.c) ------------------------------------------------------ */

/* How much of a table a cursor covers at a time: interrupts are off meanwhile. */
#define QR_CHUNK_BYTES ((size_t)1024 << QR_PAGE_SHIFT)

/* Asked under a table's lock, or under the space's: is there a large leaf there at all? */
static inline bool
qr_space_has_large(const struct qr_space *space)
{
    return atomic_load_explicit(&space->large_leaves, memory_order_relaxed) != 0;
}

/* The slow way of qr_chunk_next(): @rest is longer than a chunk. */
bool qr_chunk_cut(struct qr_tables *tables, struct qr_va_range *rest,
                  struct qr_va_range *out_chunk);

/*
 * Cut the next piece that may hold entries off *@rest: at most a chunk.  Skips
 * what is empty.  @return false where nothing is left
 */
static inline bool
qr_chunk_next(struct qr_tables *tables, struct qr_va_range *rest, struct qr_va_range *out_chunk)
{
    if (rest->start.v >= rest->end.v)
        return false;
    if (rest->end.v - rest->start.v > QR_CHUNK_BYTES)
        return qr_chunk_cut(tables, rest, out_chunk);
    *out_chunk = *rest;
    rest->start = rest->end;
    return true;
}

/* The slow way of qr_chunk_open(): let the chunk take in all of a leaf that reaches across its end. */
void qr_chunk_widen(struct qr_cursor *cursor, struct qr_va_range *rest,
                    struct qr_va_range *io_chunk);

/* The same with a cursor opened on the piece, which cuts no large leaf but at @rest's own ends. */
static inline bool
qr_chunk_open(struct qr_cursor *cursor, struct qr_space *space, struct qr_va_range *rest,
              struct qr_va_range *out_chunk, struct qr_tlb_batch *batch)
{
    if (!qr_chunk_next(&space->tables, rest, out_chunk))
        return false;
    qr_cursor_open(cursor, &space->tables, *out_chunk, batch);
    if (qr_unlikely(qr_space_has_large(space)) && rest->start.v < rest->end.v)
        qr_chunk_widen(cursor, rest, out_chunk);
    return true;
}

/*
 * The frame that a leaf at level 0 of @region holds a reference to; NULL: the zero frame or a
 * device.  qr_large_of() is for the others.
 */
static inline struct qr_frame *
qr_leaf_frame(const struct qr_region *region, const struct qr_leaf *leaf)
{
    struct qr_vm *vm = region->space->vm;

    if (leaf->pa.v == vm->zero_pa.v || qr_region_is_device(region))
        return NULL;
    return qr_frame_of(vm->config.frames, qr_pa_to_pfn(leaf->pa));
}

/* What taking out or adding leaves changes in the counts; applied at once. */
struct qr_tally {
    long resident[3];
    long anon, mapped; /* machine gauges */
};
/* One entry of @region for @frame came (+1) or went (-1): maps and tally, not references. */
void qr_tally_leaf(struct qr_tally *tally, const struct qr_region *region, struct qr_frame *frame,
                   int delta);
void qr_tally_apply(struct qr_tally *tally, struct qr_space *space);

/* Clear the accessed flags of @range, within @region (references.c).  S. */
void qr_region_forget(const struct qr_region *region, struct qr_va_range range,
                      struct qr_tlb_batch *batch);

/* ---- Merged frames (merged.c) ------------------------------------------------ */

static inline bool
qr_frame_is_merged(const struct qr_frame *frame)
{
    return QR_HAS_MERGE && qr_frame_type(frame) == QR_FRAME_MERGED;
}

/* May equal pages of @space be looked for? */
static inline bool
qr_space_is_mergeable(const struct qr_space *space)
{
    return QR_HAS_MERGE && atomic_load_explicit(&space->mergeable, memory_order_relaxed);
}

static inline void
qr_space_set_mergeable(struct qr_space *space, bool mergeable)
{
    if (QR_HAS_MERGE)
        atomic_store_explicit(&space->mergeable, mergeable, memory_order_relaxed);
}

/* Does QR_ADVICE_MERGEABLE mean anything for it? */
static inline bool
qr_region_may_merge(const struct qr_region *region)
{
    return QR_HAS_MERGE && !qr_region_is_shared(region) && !qr_region_is_hugetlb(region) &&
           (region->flags & (QR_REGION_DEVICE | QR_REGION_VDSO | QR_REGION_DROPPABLE)) == 0 &&
           (region->prot & QR_PROT_TAGGED) == 0; /* equal pages may have other tags */
}

#ifdef CONFIG_MERGE
/*
 * Give each page of @range, within @region, a frame of its own again.  S.
 * @return QR_ERR_NO_MEMORY some of them have one
 */
QR_MUST_USE enum qr_status qr_unmerge_range(const struct qr_region *region,
                                            struct qr_va_range range);
#else
static inline enum qr_status
qr_unmerge_range(const struct qr_region *region, struct qr_va_range range)
{
    (void)region, (void)range;
    return QR_OK;
}
#endif

/* ---- Lazily freed frames (lazy.c) ------------------------------------------- */

/* Let the level-0 leaf's @frame go when memory is short; false: it is not this entry's alone. */
bool qr_lazy_mark(struct qr_cursor *cursor, const struct qr_entry *entry, struct qr_frame *frame);
/* Throw such frames of @range, within @region, away now.  S. @return how many */
size_t qr_lazy_discard_range(const struct qr_region *region, struct qr_va_range range);

/* Which leaves to take out. */
enum qr_zap_what {
    QR_ZAP_ALL,
    QR_ZAP_OBJECT, /* leaves of the object's own frames; private copies stay */
    QR_ZAP_WATCHED, /* all, of a region with an object; what was protected by its listener stays so */
    QR_ZAP_LAZILY, /* private memory: frames of one's own stay until memory is short */
};
/*
 * Take entries of @range, within @region, out; the batch owns the frames.
 * @return QR_ERR_NO_MEMORY a large leaf at one of the ends could not be split: never where
 *         qr_large_cut() came before, under the same lock for writing
 */
QR_MUST_USE enum qr_status qr_zap_range(struct qr_region *region, struct qr_va_range range,
                                        enum qr_zap_what what, struct qr_tlb_batch *batch);

/* All entries of @range, at whose ends no large leaf sticks out. */
static inline void
qr_zap_surely(struct qr_region *region, struct qr_va_range range, struct qr_tlb_batch *batch)
{
    enum qr_status status = qr_zap_range(region, range, QR_ZAP_ALL, batch);

    qr_assert(status == QR_OK);
}

/* @range has been unmapped: give empty tables around it back if the space has too many.  S. */
void qr_tables_sweep(struct qr_space *space, struct qr_va_range range);

/* ---- Large leaves (large.c) ------------------------------------------------ */

/* What is behind one. */
struct qr_large {
    struct qr_frame *head; /* the first frame; NULL: the huge frame of zeroes */
    size_t pages;
};
struct qr_large qr_large_of(const struct qr_space *space, const struct qr_entry *entry);
/* Pages that a leaf at @level maps. */
size_t qr_large_pages(const struct qr_tables *tables, unsigned level);

typedef void (*qr_large_fn)(void *context, struct qr_frame *frame, size_t index);
void qr_large_each_frame(struct qr_frames *frames, const struct qr_large *large, qr_large_fn fn,
                         void *context);
/* Whether each of its frames is private memory with this one reference. */
bool qr_large_is_exclusive(struct qr_frames *frames, const struct qr_large *large);

/* A large leaf came (+1) or went (-1) in @space; under its table's lock. */
void qr_large_count(struct qr_space *space, const struct qr_large *large, int delta);
/* As qr_tally_leaf() for each frame of one; what comes takes its references here, too. */
void qr_tally_large(struct qr_tally *tally, const struct qr_region *region,
                    const struct qr_large *large, int delta);

/*
 * The large leaf @entry, in which the cursor (with a batch) has its place, becomes a table, or goes
 * where it shows zeroes.  @return QR_ERR_NO_MEMORY nothing changed
 */
QR_MUST_USE enum qr_status qr_large_split(struct qr_cursor *cursor, struct qr_space *space,
                                          const struct qr_entry *entry);
/* Let no large leaf reach across the ends of @range, which are the cursor's. */
QR_MUST_USE enum qr_status qr_large_cut_ends(struct qr_cursor *cursor, struct qr_space *space,
                                             struct qr_va_range range);
QR_MUST_USE enum qr_status qr_large_cut_slowly(struct qr_space *space, struct qr_va_range range);
/* Split every large leaf of @range. */
QR_MUST_USE enum qr_status qr_large_split_range(struct qr_space *space, struct qr_va_range range);

/* Let no large leaf reach across the ends of @range.  QR_ERR_NO_MEMORY: no page sees a change. */
QR_MUST_USE static inline enum qr_status
qr_large_cut(struct qr_space *space, struct qr_va_range range)
{
    return qr_likely(!qr_space_has_large(space)) ? QR_OK : qr_large_cut_slowly(space, range);
}

/* ---- Huge pages (huge.c) -------------------------------------------------- */

void qr_huge_init(struct qr_vm *vm);
void qr_huge_fini(struct qr_vm *vm);

/* The aligned block around @va; meaningless where the machine has no huge pages. */
static inline struct qr_va_range
qr_huge_range(const struct qr_vm *vm, qr_va va)
{
    uintptr_t start = va.v & ~(vm->huge_bytes - 1);

    return qr_range_of(start, start + vm->huge_bytes);
}

/* Whether all of the aligned block around @va lies in @region. */
static inline bool
qr_huge_fits(const struct qr_region *region, qr_va va)
{
    struct qr_va_range block = qr_huge_range(region->space->vm, va);

    return block.start.v >= region->start.v && block.end.v <= region->end.v &&
           block.start.v < block.end.v;
}

/* May it have huge pages, whatever the policy says? */
bool qr_region_may_be_huge(const struct qr_region *region);

/* What frames for a huge page are wanted. */
struct qr_huge_request {
    struct qr_mempolicy *policy; /* NULL: none */
    size_t place;                /* of the page, for it */
    enum qr_huge_effort effort;  /* COMPACT: no lock is held */
    unsigned alloc_flags;        /* QR_ALLOC_ZERO or 0 */
};
/* Frames for a huge page, each single; NULL where none are to be had. */
struct qr_frame *qr_huge_alloc(struct qr_vm *vm, const struct qr_huge_request *request);
/* Have the huge frame of zeroes.  @return false: no memory */
bool qr_huge_zero_ready(struct qr_vm *vm);

/* ---- Listeners (listener.c, watch.c) --------------------------------------- */

#define QR_REGION_WATCH_FLAGS \
    ((unsigned)QR_REGION_WATCH_MISSING | QR_REGION_WATCH_WRITE | QR_REGION_WATCH_MINOR)

/* A copy of a region without its listener. */
static inline void
qr_region_unwatch_copy(struct qr_region *copy)
{
    copy->flags &= ~QR_REGION_WATCH_FLAGS;
    copy->listener = NULL;
}

/* Is the listener to be told of writes to the page of @leaf?  Then it never has WRITE. */
static inline bool
qr_leaf_is_write_watched(const struct qr_region *region, const struct qr_leaf *leaf)
{
    return (leaf->flags & QR_LEAF_SOFT_2) != 0 && (region->flags & QR_REGION_WATCH_WRITE) != 0;
}

/* Is the next write to the page of @leaf to be noticed (references.c)?  Then it never has WRITE. */
static inline bool
qr_leaf_is_unwritten(const struct qr_region *region, const struct qr_leaf *leaf)
{
    return (region->flags & QR_REGION_TRACKED) != 0 && (leaf->flags & QR_LEAF_SOFT_1) == 0;
}

/* Pages that came to @range by a move count as written (references.c). */
void qr_space_mark_written(struct qr_space *space, struct qr_va_range range,
                           struct qr_tlb_batch *batch);

/* Queue @waiter, whose va, access, kind and user_mode are set; table locks are held.
 * @return false where the listener is closed */
QR_MUST_USE bool qr_listener_queue(struct qr_listener *listener, struct qr_waiter *waiter);
/* Sleep until woken.  Nothing is locked.  @return false where the host said to leave */
QR_MUST_USE bool qr_listener_wait(struct qr_listener *listener, struct qr_waiter *waiter);

/* ---- Sealed regions (seal.c) ------------------------------------------------ */

bool qr_space_is_sealed_slowly(const struct qr_space *space, struct qr_va_range range);

/* Must some mapping in @range stay as it is?  S. */
static inline bool
qr_space_is_sealed(const struct qr_space *space, struct qr_va_range range)
{
    return qr_unlikely(space->sealed) && qr_space_is_sealed_slowly(space, range);
}

/* ---- Pieces of the calls -------------------------------------------------- */

/* May [start, end) be unmapped?  0..1 descriptors; QR_ERR_NO_MEMORY past the region limit.  S. */
QR_MUST_USE enum qr_status qr_unmap_prepare(struct qr_change *change, struct qr_va_range range);
void qr_unmap_commit(struct qr_change *change, struct qr_va_range range);

/* Pages of @range that are mapped; and, where asked for, how many of those are data.  S. */
size_t qr_space_mapped_pages(const struct qr_space *space, struct qr_va_range range,
                             size_t *out_data);

/* The regions on either side of a free place; NULL where there is none. */
struct qr_neighbours {
    struct qr_region *low, *high;
};
struct qr_neighbours qr_space_neighbours(const struct qr_space *space, qr_va va);
/* Descriptors that qr_map_commit() takes between these: 0 or 1.  Decides only. */
unsigned qr_map_needs(struct qr_neighbours neighbours, const struct qr_region *like);
/* Map @like (start, end, properties; no references) between them, joining equals.  S. */
struct qr_region *qr_map_commit(struct qr_change *change, struct qr_neighbours neighbours,
                                const struct qr_region *like);

/* Locked on fault is LOCKED and LOCKED_ON_FAULT together, as in Linux. */
#define QR_REGION_LOCK_FLAGS ((unsigned)QR_REGION_LOCKED | QR_REGION_LOCKED_ON_FAULT)

/* Locked, and not only on fault: every page is to be there. */
static inline bool
qr_region_wants_pages(unsigned flags)
{
    return (flags & QR_REGION_LOCK_FLAGS) == QR_REGION_LOCKED;
}

/* Flags that mlockall(MCL_FUTURE) adds to new regions. */
unsigned qr_lock_flags(enum qr_lock_mode mode);

/* ---- Supplied by the fault layer ------------------------------------------ */

/* What a page that cannot be there ends: everything, or only the populating of its region. */
enum qr_populate_failure { QR_POPULATE_STOP, QR_POPULATE_NEXT_REGION };

/*
 * Fault in what a locked or populated mapping wants: writable private pages as
 * by a write, all others as by a read.  Takes the space's lock for reading.
 */
QR_MUST_USE enum qr_status qr_space_populate_mapped(struct qr_space *space,
                                                    struct qr_va_range range,
                                                    enum qr_populate_failure failure);

extern const struct qr_mapping_ops qr_region_mapping_ops;

#endif
