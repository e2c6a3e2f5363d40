/* SPDX-License-Identifier: MIT */
#ifndef QR_OBJECT_HUGETLB_H
#define QR_OBJECT_HUGETLB_H

/* Huge pages between the layers that use them; hugetlb_pool.c and hugetlb.c have the theory. */

#include <quire/hugetlb.h>
#include <quire/lock.h>

#define HUGETLB_FAULT_LOCKS 16

struct huge_node {
    size_t total, free, surplus; /* P */
    struct qr_frame *list;       /* P: free pages */
};

struct qr_hugetlb_pool {
    struct qr_frames *frames;                    /* fixed */
    unsigned shift, order;                       /* fixed */
    uint8_t level;                               /* fixed: of the leaves that map a page */
    bool grouped;                                /* fixed: a page is a group of such leaves */
    struct qr_mutex grow;                        /* G: one change of size or promise at a time */
    struct qr_mutex faults[HUGETLB_FAULT_LOCKS]; /* F: one fault of a page at a time */
    struct qr_spin lock;                         /* P */
    size_t total, free, reserved, surplus;       /* P */
    size_t overcommit;                           /* P */
    struct qr_frame *pinned;                     /* P: given up by all mappings, read by somebody */
    unsigned next_node;                          /* G: where the next page comes from */
    struct huge_node nodes[CONFIG_MAX_NODES];
};

struct qr_hugetlb {
    struct qr_frames *frames; /* fixed */
    unsigned count;           /* fixed after start-up */
    unsigned default_index;   /* fixed after start-up */
    struct qr_hugetlb_pool pools[QR_HUGETLB_SIZES_MAX];
};

static inline size_t
hugetlb_bytes(const struct qr_hugetlb_pool *pool)
{
    return (size_t)1 << pool->shift;
}

static inline size_t
hugetlb_frames(const struct qr_hugetlb_pool *pool)
{
    return (size_t)1 << pool->order;
}

/* ---- Pages (hugetlb_pool.c) ---------------------------------------------------- */

/* Promise @pages pages, with surplus ones if need be.  May sleep. */
QR_MUST_USE enum qr_status qr_hugetlb_reserve(struct qr_hugetlb_pool *pool, size_t pages);
void qr_hugetlb_unreserve(struct qr_hugetlb_pool *pool, size_t pages);

/* Where a page is wanted. */
struct hugetlb_place {
    struct qr_policy *policy; /* NULL: near this CPU */
    size_t index;             /* of the page, counted in huge ones, in what the policy is about */
};
/*
 * A page with one use, the caller's, its contents undefined.  *@reserved, guarded by the pool's
 * lock, counts pages promised to the caller: one of these if there are any, else (or with NULL)
 * one that nobody was promised, or a surplus one.  May sleep.  NULL: there is none.
 */
struct qr_frame *qr_hugetlb_page_alloc(struct qr_hugetlb_pool *pool, struct hugetlb_place place,
                                       size_t *reserved);
/* One use more; the caller has one, or a lock that keeps one alive. */
void qr_hugetlb_page_get(struct qr_frame *head);
/*
 * One use less.  After the last one the page goes back to the pool, and where @reserved is given
 * it is promised again and counted there.  No CPU can use a translation of the page any more.
 */
void qr_hugetlb_page_put(struct qr_hugetlb_pool *pool, struct qr_frame *head, size_t *reserved);
/* Is the caller's use the only one, and does nobody hold a reference to a part of it? */
bool qr_hugetlb_page_is_exclusive(const struct qr_hugetlb_pool *pool, const struct qr_frame *head);

/* Move promised pages from one count to another. */
void qr_hugetlb_move_reserve(struct qr_hugetlb_pool *pool, size_t *from, size_t *to, size_t pages);
/* Give up what @reserved counts beyond @pages. */
void qr_hugetlb_trim_reserve(struct qr_hugetlb_pool *pool, size_t *reserved, size_t pages);

/* The frame of the part at @offset pages. */
struct qr_frame *qr_hugetlb_part(const struct qr_hugetlb_pool *pool, const struct qr_frame *head,
                                 size_t offset);
void qr_hugetlb_page_clear(const struct qr_hugetlb_pool *pool, struct qr_frame *head);
void qr_hugetlb_page_copy(const struct qr_hugetlb_pool *pool, struct qr_frame *to,
                          struct qr_frame *from);
/* From @source; NULL: clear it.  @return false where a part of the source is not at hand */
bool qr_hugetlb_page_fill(const struct qr_hugetlb_pool *pool, struct qr_frame *head,
                          const struct qr_page_source *source);

/* Does the page belong to an object, or did it when it was mapped?  Else it is private. */
static inline bool
qr_hugetlb_is_shared(const struct qr_frame *head)
{
    return (atomic_load_explicit(&head->flags, memory_order_relaxed) & QR_FRAME_SHMEM) != 0;
}

/* ---- Budgets (hugetlb_budget.c); NULL: the whole pool ---------------------------- */

void qr_hugetlb_budget_get(struct qr_hugetlb_budget *budget);
/* Room for @places; of these *@out_promised are promised to the caller now.  false: no room. */
bool qr_hugetlb_budget_take(struct qr_hugetlb_budget *budget, size_t places, size_t *out_promised);
/* @places are empty again, and @promises of the pool are not needed any more.  May sleep. */
void qr_hugetlb_budget_give(struct qr_hugetlb_budget *budget, struct qr_hugetlb_pool *pool,
                            size_t places, size_t promises);

/* ---- Pages of objects (hugetlb.c); indexes count huge pages --------------------- */

/* The lock that a fault on page @index holds from its first look to its last store.  Sleeping. */
struct qr_mutex *qr_object_fault_lock(struct qr_object *object, size_t index);
/*
 * Page @index with one use more for the caller; the fault lock is held.
 * @return QR_OK; QR_ERR_NOT_FOUND (not @make); QR_ERR_RANGE past the end; QR_ERR_LIMIT the pool
 *         has none; QR_ERR_NO_MEMORY no memory for the index
 */
QR_MUST_USE enum qr_status qr_object_hugetlb_page(struct qr_object *object, size_t index, bool make,
                                                  struct qr_frame **out_head);
/*
 * Put a page with the contents of @source at @index, with one use more for the caller; the fault lock
 * is held.
 * @return as above; QR_ERR_EXISTS one is there; QR_ERR_AGAIN the source is not at hand
 */
QR_MUST_USE enum qr_status qr_object_hugetlb_add(struct qr_object *object, size_t index,
                                                 const struct qr_page_source *source,
                                                 struct qr_frame **out_head);
/* Make the object at least that long. */
void qr_object_hugetlb_grow(struct qr_object *object, uint64_t bytes);

#endif
