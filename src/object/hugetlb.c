/* SPDX-License-Identifier: MIT */
/*
 * Objects of huge pages.
 *
 * The index of such an object counts huge pages, and a place in it is empty, a
 * page, or a promise: the pool keeps a free page for it.
 *
 *   empty --reserve--> promise --fault--> page --truncate, punch--> empty
 *     |                   ^ truncation takes it back      ^
 *     +--------------------- fault -----------------------+
 *
 * Promises belong to the object, whoever maps it and for how long; they are for
 * shared mappings.  A private mapping is promised its copies itself (space layer).
 *
 * The page is asked for, cleared, put into the index and mapped under the fault
 * lock of its place.  So the last page of a pool is not taken for a fault that then
 * finds that another CPU has handled it while a third fails; and whoever empties
 * a place waits for the fault that fills it.  Truncation stays in the order of
 * object.c: cut the size, empty the places, unmap everywhere.
 *
 * The object has one use of each page in its index, and each table entry one more.
 */
#include "hugetlb.h"

#include "objects.h"

#include <quire/assert.h>
#include <quire/writer.h>

const struct qr_pager qr_pager_hugetlb = {.name = "huge"};

/* Stands in the index for a page that is promised, and for one that is being promised. */
static void *
promise_of(struct qr_object *object)
{
    return object;
}

static void *
new_promise_of(struct qr_object *object)
{
    return object->machine;
}

static bool
is_promise(struct qr_object *object, const void *item)
{
    return item == promise_of(object) || item == new_promise_of(object);
}

static size_t
huge_pages(const struct qr_object *object)
{
    return (size_t)(qr_object_bytes(object) >> object->hugetlb->shift);
}

enum qr_status
qr_object_create_hugetlb(struct qr_objects *objects, struct qr_hugetlb_pool *pool, uint64_t bytes,
                         struct qr_object **out_object)
{
    struct qr_object *object;

    if ((bytes & (hugetlb_bytes(pool) - 1)) != 0)
        return QR_ERR_RANGE;
    enum qr_status status = qr_object_create(objects, &qr_pager_hugetlb, NULL, bytes, &object);

    if (status != QR_OK)
        return status;
    object->hugetlb = pool;
    *out_object = object;
    return QR_OK;
}

void
qr_object_hugetlb_set_budget(struct qr_object *object, struct qr_hugetlb_budget *budget)
{
    qr_assert(object->budget == NULL && object->resident == 0);
    qr_hugetlb_budget_get(budget);
    object->budget = budget;
}

/* So many places are empty again, of which @promises held a promise. */
static void
huge_give(struct qr_object *object, size_t places, size_t promises)
{
    qr_hugetlb_budget_give(object->budget, object->hugetlb, places, promises);
}

struct qr_hugetlb_pool *
qr_object_hugetlb_pool(const struct qr_object *object)
{
    return object->hugetlb;
}

/* ---- Filling ------------------------------------------------------------------- */

struct qr_mutex *
qr_object_fault_lock(struct qr_object *object, size_t index)
{
    uintptr_t hash = ((uintptr_t)object >> 6) * 31 + index;

    return &object->hugetlb->faults[hash % HUGETLB_FAULT_LOCKS];
}

/* The object's lock is held; @spares suffice where the place is empty. */
static void
huge_insert(struct qr_object *object, size_t index, struct qr_frame *head,
            struct radix_spares *spares)
{
    atomic_store_explicit(&head->index, index << object->hugetlb->order, memory_order_relaxed);
    atomic_store_explicit(&head->owner, object, memory_order_relaxed);
    atomic_fetch_or_explicit(&head->flags, QR_FRAME_SHMEM, memory_order_relaxed);
    qr_hugetlb_page_get(head);
    if (qr_radix_get(&object->pages, index) != NULL)
        qr_radix_replace(&object->pages, index, head);
    else
        qr_radix_insert(&object->pages, index, head, spares);
    object->resident += hugetlb_frames(object->hugetlb);
}

/* Put @head at @index.  QR_ERR_AGAIN: more spares; QR_ERR_RANGE: the object has shrunk. */
static enum qr_status
huge_try_insert(struct qr_object *object, size_t index, struct qr_frame *head,
                struct radix_spares *spares, bool promised)
{
    enum qr_status status = QR_OK;
    bool promise = false;

    qr_spin_lock(&object->lock);
    const void *item = qr_radix_get(&object->pages, index);

    if (index >= huge_pages(object))
        status = QR_ERR_RANGE;
    else if (item == NULL && spares->count < qr_radix_nodes_needed(&object->pages, index))
        status = QR_ERR_AGAIN;
    if (status == QR_OK) {
        promise = item != NULL; /* the fault lock keeps pages away */
        huge_insert(object, index, head, spares);
    }
    qr_spin_unlock(&object->lock);
    if (promise && !promised)
        huge_give(object, 1, 1); /* it came meanwhile, and is not needed */
    return status;
}

/* A page under the object's policy, or the thread's. */
static struct qr_frame *
huge_take(struct qr_object *object, size_t index, size_t *reserved)
{
    struct qr_mempolicy *own = qr_object_get_policy(object, index << object->hugetlb->order);
    struct qr_mempolicy *policy = own != NULL ? own : qr_objects_thread_policy(object->machine);
    struct hugetlb_place place = {policy == NULL ? NULL : &policy->policy, index};
    struct qr_frame *head = qr_hugetlb_page_alloc(object->hugetlb, place, reserved);

    qr_mempolicy_put(own);
    return head;
}

/* How a page is made. */
struct huge_make {
    const struct qr_page_source *source; /* NULL: zeroes */
    bool promised;                       /* the place in the index is a promise */
};

/* Make and insert a page for @index; *@reserved, if not 0, is a promise for it. */
static enum qr_status
huge_add_page(struct qr_object *object, size_t index, struct huge_make make, size_t *reserved,
              struct qr_frame **out_head)
{
    struct radix_spares spares = {.count = 0};
    struct qr_hugetlb_pool *pool = object->hugetlb;
    bool keep = *reserved > 0;
    struct qr_frame *head = huge_take(object, index, reserved);
    enum qr_status status;

    if (head == NULL)
        return QR_ERR_LIMIT;
    if (!qr_hugetlb_page_fill(pool, head, make.source)) {
        qr_hugetlb_page_put(pool, head, keep ? reserved : NULL);
        return QR_ERR_AGAIN;
    }
    do {
        status = huge_try_insert(object, index, head, &spares, make.promised);
        if (status == QR_ERR_AGAIN &&
            !qr_radix_spares_fill(&spares, spares.count + 1, object->machine->nodes, 0))
            status = QR_ERR_NO_MEMORY;
    } while (status == QR_ERR_AGAIN);
    qr_radix_spares_release(&spares, object->machine->nodes);
    if (status == QR_OK)
        *out_head = head;
    else
        qr_hugetlb_page_put(pool, head, keep ? reserved : NULL);
    return status;
}

/*
 * A new page for @index, with the caller's use and the object's.  Where it was @promised and does
 * not come, the promise is still in the index, and true.
 */
static enum qr_status
huge_make_page(struct qr_object *object, size_t index, struct huge_make make,
               struct qr_frame **out_head)
{
    size_t reserved = 1;

    if (!make.promised && !qr_hugetlb_budget_take(object->budget, 1, &reserved))
        return QR_ERR_LIMIT;
    enum qr_status status = huge_add_page(object, index, make, &reserved, out_head);

    if (status != QR_OK && !make.promised)
        huge_give(object, 1, reserved);
    return status;
}

/* The page at @index with one use more; NOT_FOUND: *@out_promised says whether it is promised. */
static enum qr_status
huge_find(struct qr_object *object, size_t index, bool *out_promised, struct qr_frame **out_head)
{
    enum qr_status status = QR_OK;

    qr_spin_lock(&object->lock);
    struct qr_frame *item = qr_radix_get(&object->pages, index);
    bool promised = is_promise(object, item);

    *out_promised = promised;
    if (index >= huge_pages(object)) {
        status = QR_ERR_RANGE;
    } else if (item == NULL || promised) {
        status = QR_ERR_NOT_FOUND;
    } else {
        qr_hugetlb_page_get(item);
        *out_head = item;
    }
    qr_spin_unlock(&object->lock);
    return status;
}

enum qr_status
qr_object_hugetlb_page(struct qr_object *object, size_t index, bool make,
                       struct qr_frame **out_head)
{
    struct huge_make how = {.source = NULL};
    enum qr_status status = huge_find(object, index, &how.promised, out_head);

    if (status != QR_ERR_NOT_FOUND || !make)
        return status;
    return huge_make_page(object, index, how, out_head);
}

enum qr_status
qr_object_hugetlb_add(struct qr_object *object, size_t index, const struct qr_page_source *source,
                      struct qr_frame **out_head)
{
    struct huge_make how = {.source = source};
    enum qr_status status = huge_find(object, index, &how.promised, out_head);

    if (status == QR_OK) {
        qr_hugetlb_page_put(object->hugetlb, *out_head, NULL);
        return QR_ERR_EXISTS;
    }
    return status == QR_ERR_NOT_FOUND ? huge_make_page(object, index, how, out_head) : status;
}

/* The frame of a small page, with a reference, for who copies to and from objects. */
enum qr_status
qr_hugetlb_get_page(struct qr_object *object, size_t page, enum qr_object_get_page_mode mode,
                    struct qr_frame **out_frame)
{
    struct qr_hugetlb_pool *pool = object->hugetlb;
    size_t index = page >> pool->order;
    struct qr_mutex *lock = mode == QR_PAGE_FILL ? qr_object_fault_lock(object, index) : NULL;
    struct qr_frame *head;

    if (lock != NULL)
        qr_mutex_lock(lock);
    enum qr_status status = qr_object_hugetlb_page(object, index, lock != NULL, &head);

    if (lock != NULL)
        qr_mutex_unlock(lock);
    if (status == QR_ERR_NOT_FOUND && mode == QR_PAGE_NOWAIT)
        status = QR_ERR_AGAIN;
    if (status != QR_OK)
        return status;
    *out_frame = qr_hugetlb_part(pool, head, page & (hugetlb_frames(pool) - 1));
    qr_frame_get(*out_frame);
    qr_hugetlb_page_put(pool, head, NULL);
    return QR_OK;
}

void
qr_object_hugetlb_grow(struct qr_object *object, uint64_t bytes)
{
    qr_assert((bytes & (hugetlb_bytes(object->hugetlb) - 1)) == 0);
    qr_spin_lock(&object->lock);
    if (qr_object_bytes(object) < bytes)
        atomic_store_explicit(&object->bytes, bytes, memory_order_release);
    qr_spin_unlock(&object->lock);
}

/* ---- Emptying ------------------------------------------------------------------- */

/* The place of the first page or promise at or after *@index; false: there is none. */
static bool
huge_next(struct qr_object *object, size_t *index)
{
    qr_spin_lock(&object->lock);
    bool found = qr_radix_next(&object->pages, index) != NULL;
    qr_spin_unlock(&object->lock);
    return found;
}

/* Empty the place @index, or with @pages_only leave a promise there.  @return whether a page went,
 * which is to be given back once nobody maps it */
static bool
huge_empty_place(struct qr_object *object, size_t index, bool pages_only)
{
    struct qr_mutex *fault_lock = qr_object_fault_lock(object, index);

    qr_mutex_lock(fault_lock);
    qr_spin_lock(&object->lock);
    struct qr_frame *item = qr_radix_get(&object->pages, index);
    bool promise = is_promise(object, item);

    if (promise && pages_only)
        item = NULL;
    if (item != NULL)
        (void)qr_radix_remove(&object->pages, index, object->machine->nodes);
    if (item != NULL && !promise) {
        atomic_store(&item->owner, NULL);
        object->resident -= hugetlb_frames(object->hugetlb);
    }
    qr_spin_unlock(&object->lock);
    qr_mutex_unlock(fault_lock);
    if (item != NULL && promise)
        huge_give(object, 1, 1);
    else if (item != NULL)
        qr_hugetlb_page_put(object->hugetlb, item, NULL);
    return item != NULL && !promise;
}

/* @return how many pages went */
static size_t
huge_empty_range(struct qr_object *object, size_t first, size_t last, bool pages_only)
{
    size_t gone = 0;

    for (size_t index = first; huge_next(object, &index) && index < last; index++)
        gone += huge_empty_place(object, index, pages_only);
    return gone;
}

void
qr_hugetlb_detach_all(struct qr_object *object)
{
    huge_give(object, huge_empty_range(object, 0, SIZE_MAX, false), 0);
    qr_hugetlb_budget_put(object->budget);
}

void
qr_hugetlb_set_bytes(struct qr_object *object, uint64_t bytes)
{
    const struct qr_hugetlb_pool *pool = object->hugetlb;

    qr_assert((bytes & (hugetlb_bytes(pool) - 1)) == 0);
    qr_spin_lock(&object->lock);
    uint64_t before = atomic_exchange_explicit(&object->bytes, bytes, memory_order_acq_rel);
    qr_spin_unlock(&object->lock);
    /* As in Linux, what was promised to mappings behind the end goes, however the end moves. */
    size_t gone = huge_empty_range(object, (size_t)(bytes >> pool->shift), SIZE_MAX, false);

    if (bytes < before)
        qr_object_unmap(object, object_pages(bytes), SIZE_MAX, true);
    huge_give(object, gone, 0);
}

void
qr_hugetlb_punch(struct qr_object *object, size_t first, size_t last)
{
    unsigned order = object->hugetlb->order;

    first = (first + hugetlb_frames(object->hugetlb) - 1) >> order;
    last >>= order;
    if (first >= last)
        return;
    size_t gone = huge_empty_range(object, first, last, true);

    qr_object_unmap(object, first << order, last << order, false);
    huge_give(object, gone, 0);
}

/* First small page at or after @page that is there. */
bool
qr_hugetlb_next_present(struct qr_object *object, size_t page, size_t *out_page)
{
    unsigned order = object->hugetlb->order;
    size_t index = page >> order;
    const void *item;

    qr_spin_lock(&object->lock);
    while ((item = qr_radix_next(&object->pages, &index)) != NULL && is_promise(object, item))
        index++;
    qr_spin_unlock(&object->lock);
    if (item == NULL)
        return false;
    *out_page = index << order > page ? index << order : page;
    return true;
}

/* ---- Promises ------------------------------------------------------------------- */

/* How many places of [first, last) are empty; the lock is taken for each, for there may be many. */
static size_t
count_empty(struct qr_object *object, size_t first, size_t last)
{
    size_t empty = 0;

    for (size_t index = first; index < last; index++) {
        qr_spin_lock(&object->lock);
        empty += qr_radix_get(&object->pages, index) == NULL;
        qr_spin_unlock(&object->lock);
    }
    return empty;
}

/* Put a new promise into the place @index.  @return QR_OK; QR_ERR_EXISTS it is not empty */
static enum qr_status
place_promise(struct qr_object *object, size_t index, struct radix_spares *spares)
{
    enum qr_status status = QR_OK;

    qr_spin_lock(&object->lock);
    if (qr_radix_get(&object->pages, index) != NULL)
        status = QR_ERR_EXISTS;
    else if (spares->count < qr_radix_nodes_needed(&object->pages, index))
        status = QR_ERR_AGAIN;
    else
        qr_radix_insert(&object->pages, index, new_promise_of(object), spares);
    qr_spin_unlock(&object->lock);
    return status;
}

/* The new promises of [first, last) stay, or go again.  @return how many there were */
static size_t
settle_promises(struct qr_object *object, size_t first, size_t last, bool stay)
{
    size_t count = 0;

    for (size_t index = first; index < last; index++) {
        qr_spin_lock(&object->lock);
        bool is_new = qr_radix_get(&object->pages, index) == new_promise_of(object);

        count += is_new;
        if (is_new && stay)
            qr_radix_replace(&object->pages, index, promise_of(object));
        else if (is_new)
            (void)qr_radix_remove(&object->pages, index, object->machine->nodes);
        qr_spin_unlock(&object->lock);
    }
    return count;
}

/* Fill empty places with new promises, of which the pool holds @left back for us. */
static enum qr_status
place_promises(struct qr_object *object, size_t first, size_t last, size_t *left)
{
    struct radix_spares spares = {.count = 0};
    enum qr_status status = QR_OK;
    size_t index = first;

    while (status == QR_OK && index<last && * left> 0) {
        status = place_promise(object, index, &spares);
        if (status == QR_ERR_AGAIN) {
            status = qr_radix_spares_fill(&spares, spares.count + 1, object->machine->nodes, 0)
                         ? QR_OK
                         : QR_ERR_NO_MEMORY;
            continue;
        }
        *left -= status == QR_OK;
        status = QR_OK;
        index++;
    }
    qr_radix_spares_release(&spares, object->machine->nodes);
    return status;
}

/* Promises for @places empty places. */
static enum qr_status
huge_promise(struct qr_object *object, size_t places)
{
    size_t promised;

    if (!qr_hugetlb_budget_take(object->budget, places, &promised))
        return QR_ERR_NO_MEMORY;
    enum qr_status status = qr_hugetlb_reserve(object->hugetlb, places - promised);

    if (status != QR_OK)
        huge_give(object, places, promised);
    return status;
}

enum qr_status
qr_object_hugetlb_reserve(struct qr_object *object, size_t first, size_t last)
{
    enum qr_status status = QR_OK;

    struct qr_hugetlb_stats stats;

    qr_hugetlb_pool_stats(object->hugetlb, -1, &stats);
    if (last - first > stats.total && last - first - stats.total > stats.overcommit)
        return QR_ERR_NO_MEMORY; /* more than there will be: do not look at each place */
    qr_mutex_lock(&object->reserve_lock);
    size_t left = count_empty(object, first, last);

    if (left > 0)
        status = huge_promise(object, left);
    if (status == QR_OK) {
        status = place_promises(object, first, last, &left);
        if (status != QR_OK)
            left += settle_promises(object, first, last, false);
        else
            (void)settle_promises(object, first, last, true);
        /* Places that were filled meanwhile need none. */
        huge_give(object, left, left);
    }
    qr_mutex_unlock(&object->reserve_lock);
    return status;
}

/* ---- Validation ------------------------------------------------------------------ */

/* 1 a page belongs to its place, 2 the resident count is right, 3 nothing is past the end. */
bool
qr_hugetlb_object_is_sound(struct qr_object *object, char *out_message, size_t bytes)
{
    struct qr_hugetlb_pool *pool = object->hugetlb;
    const char *broken = NULL;
    struct qr_frame *item;
    size_t index = 0;
    size_t count = 0;

    qr_spin_lock(&object->lock);
    for (; broken == NULL && (item = qr_radix_next(&object->pages, &index)) != NULL; index++) {
        if (is_promise(object, item))
            continue;
        if (index >= huge_pages(object))
            broken = "3: a page stands past the end";
        count += hugetlb_frames(pool);
        if (qr_frame_type(item) != QR_FRAME_HUGE || !qr_hugetlb_is_shared(item))
            broken = "1: a page in the index is no huge page";
        else if (item->owner != object || item->index != index << pool->order)
            broken = "1: a page in the index belongs elsewhere";
    }
    if (broken == NULL && count != object->resident)
        broken = "2: the resident count is wrong";
    qr_spin_unlock(&object->lock);
    if (broken != NULL)
        qr_format(out_message, bytes, "huge object %p, page %zu: invariant %s", (void *)object,
                  index, broken);
    return broken == NULL;
}
