/* SPDX-License-Identifier: MIT */
#ifndef QR_OBJECT_OBJECTS_H
#define QR_OBJECT_OBJECTS_H

/* The object layer's own structures; see object.c for the theory. */

#include "radix.h"

#include <quire/hugetlb.h>
#include <quire/policy.h>
#include <quire/tlb.h>
#include <quire/tree.h>

struct qr_objects {
    struct qr_frames *frames;                 /* fixed */
    struct qr_cache *cache;                   /* fixed: struct qr_object */
    struct qr_cache *nodes;                   /* fixed: struct radix_node */
    struct qr_frame *zero;                    /* fixed: what a hole reads as */
    const struct qr_mapping_ops *mapping_ops; /* fixed after start-up */
    qr_may_promise_fn may_promise;            /* fixed after start-up; NULL: always */
    void *promise_context;                    /* fixed after start-up */
    struct qr_heap *heap;                     /* fixed */
    _Atomic unsigned huge_mode;               /* enum qr_shared_huge: of those that have none */
    _Atomic(qr_thread_policy_fn) thread_policy;
    qr_dirtied_fn dirtied, cancelled;         /* fixed after start-up; may be NULL */
    _Atomic(qr_thread_group_fn) thread_group; /* NULL: pages are charged to nobody */
    struct qr_groups *groups;                 /* fixed before thread_group is set */
    _Atomic(qr_stall_fn) stall;               /* may be NULL */
    struct qr_swap *swap;                     /* fixed after start-up; NULL: nothing leaves */
    _Atomic size_t clock;                     /* refault.c, as are the next two */
    _Atomic size_t shadow_nodes, shadow_nodes_most;
    struct qr_spin lock; /* R: the registry */
    struct qr_list all;  /* R */
};

struct qr_object {
    struct qr_objects *machine;   /* fixed */
    const struct qr_pager *pager; /* fixed */
    void *context;                /* fixed: the pager's */
    _Atomic uint32_t refs;
    struct qr_list link;               /* R */
    _Atomic uint64_t bytes;            /* written under P; read anywhere */
    struct qr_spin lock;               /* P: pages, resident */
    struct radix pages;                /* P: index -> an item, see below */
    struct radix shadows;              /* P: index -> a word about a page that went; refault.c */
    _Atomic size_t resident;           /* written under P; read anywhere: frames */
    _Atomic size_t swapped;            /* the same of marks: swap.c */
    _Atomic size_t swap_at;            /* shrink.c: where swapping out goes on */
    _Atomic bool kept;                 /* its pages stay in memory */
    struct qr_mutex mappings_lock;     /* M, sleeping */
    struct qr_list mappings;           /* M: struct qr_mapping */
    struct qr_spin policy_lock;        /* L */
    struct qr_tree policies;           /* L: see policy.c */
    size_t promised_pages;             /* fixed once it can be mapped */
    struct qr_hugetlb_pool *hugetlb;   /* fixed; NULL: of ordinary pages */
    struct qr_hugetlb_budget *budget;  /* fixed; of hugetlb's pages; NULL: all that there are */
    struct qr_mutex reserve_lock;      /* hugetlb: one call at a time adds promises */
    _Atomic unsigned huge_mode;        /* enum qr_shared_huge */
    size_t block_pages;                /* P: of a huge page; 0: it never had one */
    _Atomic size_t block_count;        /* written under P; read anywhere: huge.c */
    _Atomic size_t dirty;              /* pages marked dirty */
    _Atomic uint32_t write_errors;     /* writes that failed, ever */
    _Atomic size_t ahead_next;         /* ahead.c: where a sequential reader misses next */
    _Atomic uint32_t ahead_pages;      /* ahead.c: how much was read at once last */
    qr_pa device_base;                 /* fixed */
    enum qr_cacheability device_cache; /* fixed */
};

/*
 * What stands at a place of the index: a frame, with one reference; or a mark, a number that is odd,
 * for a page that is in swap (swap.c).
 */
static inline bool
item_is_mark(const void *item)
{
    return ((uintptr_t)item & 1) != 0;
}

/* The mark of a page that could not be read: slot 0 is nobody's. */
#define MARK_LOST ((void *)1)

/* The frame at @index, or NULL.  P. */
static inline struct qr_frame *
qr_object_frame_at(const struct qr_object *object, size_t index)
{
    void *item = qr_radix_get(&object->pages, index);

    return item_is_mark(item) ? NULL : item;
}

static inline size_t
object_pages(uint64_t bytes)
{
    return (size_t)((bytes + QR_PAGE_MASK) >> QR_PAGE_SHIFT);
}

/* Are its pages promised one by one, as they come?  (Files in memory: nobody knows their size.) */
static inline bool
object_promises_pages(const struct qr_object *object)
{
    return qr_object_is_memory(object) && object->promised_pages == 0;
}

static inline enum qr_counter
object_gauge(const struct qr_object *object)
{
    return qr_object_is_memory(object) ? QR_PAGES_SHMEM : QR_PAGES_FILE;
}

static inline uint32_t
page_flags(const struct qr_frame *frame)
{
    return atomic_load_explicit(&frame->flags, memory_order_acquire);
}

static inline bool
page_is_up_to_date(const struct qr_frame *frame)
{
    return (page_flags(frame) & QR_FRAME_UPTODATE) != 0;
}

/* Where a mapping shows pages of [*first, *last), cut these to what it shows. */
static inline bool
mapping_overlap(const struct qr_mapping *mapping, size_t *first, size_t *last)
{
    size_t end = mapping->first_page + mapping->page_count;

    if (*first < mapping->first_page)
        *first = mapping->first_page;
    if (*last > end)
        *last = end;
    return *first < *last;
}

/* The first page at or after *@index, with a reference. */
struct qr_frame *qr_object_next_page(struct qr_object *object, size_t *index);
/*
 * Put @frame at @index, filling up on index nodes as often as the tree has grown meanwhile.
 * QR_ERR_EXISTS: *out_other is there, with a reference for the caller.
 */
QR_MUST_USE enum qr_status qr_object_insert_page(struct qr_object *object, size_t index,
                                                 struct qr_frame *frame, unsigned alloc_flags,
                                                 struct qr_frame **out_other);
/* Have @frame, locked and in the index at @index, read, and as many behind it as seem wanted. */
void qr_object_read_window(struct qr_object *object, size_t index, struct qr_frame *frame);
/* @return whether it was dirty */
bool qr_object_clear_dirty(struct qr_object *object, struct qr_frame *frame);

/* Whether there is a huge page anywhere in it; without a lock, an answer of just now. */
static inline bool
qr_object_has_blocks(const struct qr_object *object)
{
    return atomic_load_explicit(&object->block_count, memory_order_relaxed) != 0;
}

/* The page at @index leaves its place, or gets another frame: no huge page there any more.  P. */
void qr_object_break_block_slowly(struct qr_object *object, size_t index);

static inline void
qr_object_break_block(struct qr_object *object, size_t index)
{
    if (qr_unlikely(qr_object_has_blocks(object)))
        qr_object_break_block_slowly(object, index);
}

/* Whether a fault has to look for one: there is one somewhere, or somebody might want one. */
static inline bool
qr_object_shows_blocks(const struct qr_object *object)
{
    const unsigned none = QR_SHARED_HUGE_NEVER;

    return qr_object_has_blocks(object) ||
           atomic_load_explicit(&object->machine->huge_mode, memory_order_relaxed) > none ||
           atomic_load_explicit(&object->huge_mode, memory_order_relaxed) > none;
}

/*
 * The huge page at @first, all @pages of it with a reference.
 * @return QR_OK; QR_ERR_NOT_FOUND there is no page at all; QR_ERR_EXISTS some small ones are there;
 *         QR_ERR_RANGE it would reach past the end
 */
QR_MUST_USE enum qr_status qr_object_get_block(struct qr_object *object, size_t first, size_t pages,
                                               struct qr_frame **out_head);
/*
 * Make one where no page is.  Thread context.
 * @return QR_OK; QR_ERR_EXISTS somebody was faster; QR_ERR_RANGE; QR_ERR_NO_MEMORY; QR_ERR_LIMIT
 */
QR_MUST_USE enum qr_status qr_object_make_block(struct qr_object *object, size_t first,
                                                size_t pages, unsigned alloc_flags);

/* What calls on an object do where its pages are huge (hugetlb.c). */
extern const struct qr_pager qr_pager_hugetlb;
QR_MUST_USE enum qr_status qr_hugetlb_get_page(struct qr_object *object, size_t page,
                                               enum qr_object_get_page_mode mode,
                                               struct qr_frame **out_frame);
void qr_hugetlb_detach_all(struct qr_object *object);
void qr_hugetlb_set_bytes(struct qr_object *object, uint64_t bytes);
void qr_hugetlb_punch(struct qr_object *object, size_t first, size_t last);
bool qr_hugetlb_next_present(struct qr_object *object, size_t page, size_t *out_page);
bool qr_hugetlb_object_is_sound(struct qr_object *object, char *out_message, size_t bytes);

/* The policy of the running thread, borrowed; NULL: none. */
static inline struct qr_mempolicy *
qr_objects_thread_policy(struct qr_objects *objects)
{
    qr_thread_policy_fn fn = atomic_load_explicit(&objects->thread_policy, memory_order_acquire);

    return qr_likely(fn == NULL) ? NULL : fn();
}

QR_MUST_USE enum qr_status qr_object_charge_slowly(qr_thread_group_fn fn, struct qr_frame *frame,
                                                   unsigned alloc_flags);

/*
 * Charge whoever makes the running thread need @frame, which nobody else has.  Waits for room
 * unless @alloc_flags say ATOMIC.  @return QR_ERR_NO_MEMORY there is none
 */
static inline enum qr_status
qr_object_charge(struct qr_objects *objects, struct qr_frame *frame, unsigned alloc_flags)
{
    qr_thread_group_fn fn = atomic_load_explicit(&objects->thread_group, memory_order_acquire);

    return qr_likely(fn == NULL) ? QR_OK : qr_object_charge_slowly(fn, frame, alloc_flags);
}

/* ---- Pages that went (refault.c) ---- */

/* Reclaim has dropped page @index, since @target (NULL: the machine) was short of memory. */
void qr_object_leave_shadow(struct qr_object *object, size_t index, bool active,
                            struct qr_group *target);
/* Drop some where there are too many.  Thread context, nothing locked. */
void qr_objects_bound_shadows(struct qr_objects *objects);
void qr_object_meet_shadow_slowly(struct qr_object *object, size_t index, struct qr_frame *frame);
void qr_object_drop_shadows_slowly(struct qr_object *object, size_t first, size_t last);
/* @return whether it was active */
bool qr_page_deactivate(struct qr_object *object, struct qr_frame *frame);
/* qr_page_lock(), which counts as a stall where it is for want of memory that @frame is to be read. */
void qr_object_lock_page(struct qr_object *object, struct qr_frame *frame);

/* @frame is page @index from now on, and will be read. */
static inline void
qr_object_meet_shadow(struct qr_object *object, size_t index, struct qr_frame *frame)
{
    if (qr_unlikely(object->shadows.levels != 0))
        qr_object_meet_shadow_slowly(object, index, frame);
}

static inline void
qr_object_drop_shadows(struct qr_object *object, size_t first, size_t last)
{
    if (qr_unlikely(object->shadows.levels != 0))
        qr_object_drop_shadows_slowly(object, first, last);
}

/* The object whose turn it is, with a reference; NULL: this one is on its way out. */
struct qr_object *qr_objects_turn(struct qr_objects *objects);
size_t qr_objects_count(struct qr_objects *objects);

/* A frame for page @index, as the policies say; NULL without memory. */
struct qr_frame *qr_object_alloc_frame(struct qr_object *object, size_t index,
                                       unsigned alloc_flags);
void qr_object_drop_policies(struct qr_object *object);

/* ---- Pages in swap (swap.c) ---- */

/*
 * The page at @index, which is @frame, locked and with a reference, goes to the swap cache, and leaves a mark.
 * @return QR_OK: *out_slot is to be written; QR_ERR_BUSY somebody uses it; QR_ERR_NO_MEMORY no slot; QR_ERR_LIMIT
 */
QR_MUST_USE enum qr_status qr_object_put_out(struct qr_object *object, size_t index,
                                             struct qr_frame *frame, qr_slot *out_slot);
/*
 * The page whose mark @item was found at @index, as qr_object_get_page() has it.
 * QR_ERR_AGAIN: another item stands there now, or @mode is not FILL.
 */
QR_MUST_USE enum qr_status qr_object_get_swapped(struct qr_object *object, size_t index, void *item,
                                                 enum qr_object_get_page_mode mode,
                                                 struct qr_frame **out_frame);
/* The page with that mark goes; false where something else stands there now. */
bool qr_object_drop_mark(struct qr_object *object, size_t index, void *item);
/* A part of the page with that mark is to be cleared: have it in memory, or, if that cannot be, lose it.  Thread. */
void qr_object_need_swapped(struct qr_object *object, size_t index, void *item);
/* Add @delta to the uses of each slot that its marks name; false: one has none left.  At rest. */
bool qr_object_recount(struct qr_object *object, int delta);

/* Take pages [first, last) out of every mapping, and flush.  Takes the mapping lock. */
void qr_object_unmap(struct qr_object *object, size_t first, size_t last, bool private_copies);
/* Drop a page that is locked and referenced by the caller, if it is clean and nobody else's. */
bool qr_object_drop_page(struct qr_object *object, size_t index, struct qr_frame *frame);

/* The page lock: contents or identity in transition.  Sleeping; the holder has a reference. */
void qr_page_lock(struct qr_frame *frame);
bool qr_page_try_lock(struct qr_frame *frame);
void qr_page_unlock(struct qr_frame *frame);

#endif
