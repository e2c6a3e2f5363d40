/* SPDX-License-Identifier: MIT */
#ifndef QUIRE_HUGETLB_H
#define QUIRE_HUGETLB_H

/**
 * @file
 * Pools of huge pages: memory that somebody set aside for mappings which ask for
 * large pages by name (Linux's hugetlb).
 *
 * A machine has one pool for each size that its page-table format can map.  A
 * pool holds whole pages, on nodes; promises them to mappings when these are made,
 * so that no later fault can fail; and may grow beyond its size for a while where
 * the administrator lets it (surplus pages).  An object made by
 * qr_object_create_hugetlb() takes its pages from one pool; qr_space_map() maps such
 * an object as any other, at that page size.
 */

#ifndef __cplusplus
#include <quire/heap.h>
#include <quire/object.h>
#include <quire/table.h>

struct qr_hugetlb;      /* a machine's pools; src/object/hugetlb.h */
struct qr_hugetlb_pool; /* one page size */

/** Sizes that a machine can have. */
#define QR_HUGETLB_SIZES_MAX 6

size_t qr_hugetlb_size(void);
/** No pools yet.  @p huge is zeroed memory of qr_hugetlb_size() bytes; @p frames outlives it. */
void qr_hugetlb_init(struct qr_hugetlb *huge, struct qr_frames *frames);
/** Give every page back.  @return pages that are still in use or promised (a leak) */
size_t qr_hugetlb_fini(struct qr_hugetlb *huge);

/**
 * Add a pool, empty, of pages of 1 << @p shift bytes; the first one added is the default.
 * Before anybody maps anything.
 * @return QR_OK; QR_ERR_UNSUPPORTED where @p format has no such leaf, or the frame
 *         allocator no such block; QR_ERR_EXISTS; QR_ERR_LIMIT too many sizes
 */
QR_MUST_USE enum qr_status qr_hugetlb_add(struct qr_hugetlb *huge, const struct qr_format *format,
                                          unsigned shift);
/**
 * Add a pool for every size of @p format up to 1 << @p max_shift bytes; the smallest of them
 * becomes the default.
 */
void qr_hugetlb_add_all(struct qr_hugetlb *huge, const struct qr_format *format,
                        unsigned max_shift);

/**
 * Add a pool for every size up to 1 << @p max_shift bytes that is a group of @p format's leaves
 * (see qr_cursor_map_group()), which every CPU must take as one.
 */
void qr_hugetlb_add_groups(struct qr_hugetlb *huge, const struct qr_format *format,
                           unsigned max_shift);

unsigned qr_hugetlb_count(const struct qr_hugetlb *huge);
/** Pool @p index, in the order in which they were added. */
struct qr_hugetlb_pool *qr_hugetlb_at(struct qr_hugetlb *huge, unsigned index);
/** The pool of that size, or NULL; 0 names the default. */
struct qr_hugetlb_pool *qr_hugetlb_find(struct qr_hugetlb *huge, unsigned shift);
/** Make that size the default.  @return false where there is no such pool */
bool qr_hugetlb_set_default(struct qr_hugetlb *huge, unsigned shift);

/** log2 of the bytes of one page. */
unsigned qr_hugetlb_pool_shift(const struct qr_hugetlb_pool *pool);

static inline size_t
qr_hugetlb_pool_bytes(const struct qr_hugetlb_pool *pool)
{
    return (size_t)1 << qr_hugetlb_pool_shift(pool);
}

/** Pages of one pool, on one node or all. */
struct qr_hugetlb_stats {
    size_t total;      /**< surplus included */
    size_t free;       /**< promised ones included */
    size_t reserved;   /**< of the free ones: promised to mappings; not counted by node */
    size_t surplus;    /**< beyond the pool's size; they go when they are no longer used */
    size_t overcommit; /**< surplus pages that there may be; not counted by node */
};
/** @param node  -1: the whole pool.  Context: any. */
void qr_hugetlb_pool_stats(struct qr_hugetlb_pool *pool, int node,
                           struct qr_hugetlb_stats *out_stats);

/**
 * Let the pool have @p pages pages (Linux's nr_hugepages), surplus ones not counted.  It grows
 * as far as the frame allocator has whole blocks, after compaction, evenly over the nodes or on
 * @p node alone (-1: all); and shrinks by free pages that nobody was promised: pages in use
 * become surplus.  With a node, @p pages is that node's part.
 * Context: thread, may sleep.
 */
void qr_hugetlb_pool_resize(struct qr_hugetlb_pool *pool, int node, size_t pages);
/** How many surplus pages there may be from now on (nr_overcommit_hugepages).  Context: any. */
void qr_hugetlb_pool_set_overcommit(struct qr_hugetlb_pool *pool, size_t pages);

/**
 * A part of a pool for several objects, as a mounted hugetlbfs is one: they have at most @p limit
 * pages together, promised ones included, and @p minimum (at most @p limit) are promised to them
 * whether they exist or not.  Private copies of their pages do not count.
 * Owns: one reference, the caller's; each object has one more.  Context: thread, may sleep.
 * @return QR_OK; QR_ERR_NO_MEMORY, also where the pool has no @p minimum pages to promise
 */
struct qr_hugetlb_budget;
QR_MUST_USE enum qr_status qr_hugetlb_budget_create(struct qr_heap *heap,
                                                    struct qr_hugetlb_pool *pool, size_t limit,
                                                    size_t minimum,
                                                    struct qr_hugetlb_budget **out_budget);
/** Drop a reference; NULL is none. */
void qr_hugetlb_budget_put(struct qr_hugetlb_budget *budget);
/** Pages that its objects have or were promised.  Context: any. */
size_t qr_hugetlb_budget_used(struct qr_hugetlb_budget *budget);
/** From now on @p object, which is new and empty, takes its pages from @p budget's part. */
void qr_object_hugetlb_set_budget(struct qr_object *object, struct qr_hugetlb_budget *budget);

/**
 * A memory object whose pages are huge: absent pages are zero, and come from @p pool.  @p bytes
 * and every later size are multiples of the page size; what maps it is, too.
 * @return QR_OK; QR_ERR_RANGE misaligned or too long; QR_ERR_NO_MEMORY
 */
QR_MUST_USE enum qr_status qr_object_create_hugetlb(struct qr_objects *objects,
                                                    struct qr_hugetlb_pool *pool, uint64_t bytes,
                                                    struct qr_object **out_object);
/**
 * Promise pages [@p first, @p last) of @p object, counted in huge ones, to whoever shares it, as
 * every shared mapping does for its part.  A promise stays until the page goes with truncation
 * or the object.  Context: thread, may sleep.
 * @return QR_OK; QR_ERR_NO_MEMORY the pool or the budget has not so many: none is promised
 */
QR_MUST_USE enum qr_status qr_object_hugetlb_reserve(struct qr_object *object, size_t first,
                                                     size_t last);
/** The pool behind @p object; NULL for an object of ordinary pages. */
struct qr_hugetlb_pool *qr_object_hugetlb_pool(const struct qr_object *object);

/** Where the contents of a new huge page come from, a small page's worth at a time. */
struct qr_page_source {
    /**
     * Copy what belongs at @p offset of the page to the whole of @p frame.
     * Locks: a space's, for reading, and a fault's: it may neither fault nor sleep.
     * @return false where that part is not at hand now
     */
    bool (*copy)(const struct qr_page_source *source, size_t offset, struct qr_frame *frame);
};

#endif
#endif
