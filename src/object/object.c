/* SPDX-License-Identifier: MIT */
/*
 * Memory objects and their pages.
 *
 * A page of an object goes through these states:
 *
 *   absent --get_page--> filling --pager--> up to date --truncate, punch, drop--> detached
 *
 * Filling: the frame is in the index, locked, not up to date; whoever wants the
 * page waits for the lock and looks again, so a page is read once however many
 * ask for it.  Detached: out of the index, its owner cleared; it lives on while
 * table entries or copies in flight hold references, and is freed by the last.
 *
 * Truncation (and a hole) happens in this order, against a fault that maps:
 *
 *   1 cut the size            fault:  a get_page
 *   2 detach the pages                b lock the table
 *   3 unmap everywhere                c page_is_current?  no: start again
 *                                     d set the leaf
 *
 * If c comes before 2, then d comes before 3 takes the same table lock, and 3
 * finds the leaf.  If it comes after, the fault starts again and meets the new
 * size.  So no page beyond the end stays mapped (invariants 24).
 *
 * Reading ahead is in ahead.c, write-back in writeback.c, what reclaim leaves behind in refault.c, shared
 * memory that is in swap in swap.c: there a mark stands for the frame.
 *
 * Locks: P the object's spin lock: index, resident count, the step between
 * "in the index" and "has a reference".  M the mapping lock, sleeping, taken
 * before page and table locks, never together with P.  The page lock, sleeping,
 * is taken before P.  Nothing sleeps under P.
 *
 * Invariants: 1 a frame in the index has type OBJECT, owner == the object,
 * index == its place and at least one reference; 2 resident == number of frames
 * in the index, swapped of marks; 3 none of either at or past the size, rounded up, once
 * set_bytes has returned; 4 memory objects' frames are up to date.
 */
#include "objects.h"

#include <quire/assert.h>
#include <quire/writer.h>

const struct qr_pager qr_pager_memory = {.name = "memory"};
static const struct qr_pager pager_device = {.name = "device"};

/* ---- Instance ------------------------------------------------------------ */

size_t
qr_objects_size(void)
{
    return sizeof(struct qr_objects);
}

enum qr_status
qr_objects_init(struct qr_objects *objects, struct qr_frames *frames, struct qr_heap *heap)
{
    const struct qr_cache_config object_config = {
        .name = "object",
        .object_bytes = sizeof(struct qr_object),
    };
    const struct qr_cache_config node_config = {
        .name = "radix_node",
        .object_bytes = sizeof(struct radix_node),
    };
    enum qr_status status;

    status = qr_cache_create(heap, &object_config, &objects->cache);
    if (status != QR_OK)
        return status;
    status = qr_cache_create(heap, &node_config, &objects->nodes);
    if (status != QR_OK)
        goto destroy_cache;
    objects->zero = qr_frame_alloc(frames, QR_ALLOC_ZERO);
    if (objects->zero == NULL) {
        status = QR_ERR_NO_MEMORY;
        goto destroy_nodes;
    }
    objects->frames = frames;
    objects->heap = heap;
    atomic_init(&objects->huge_mode, (unsigned)QR_SHARED_HUGE_NEVER);
    atomic_init(&objects->thread_policy, NULL);
    atomic_init(&objects->thread_group, NULL);
    atomic_init(&objects->stall, NULL);
    atomic_init(&objects->clock, 0);
    atomic_init(&objects->shadow_nodes, 0);
    atomic_init(&objects->shadow_nodes_most, 0);
    objects->swap = NULL;
    objects->mapping_ops = NULL;
    objects->may_promise = NULL;
    qr_spin_init(&objects->lock, QR_RANK_REGISTRY);
    qr_list_init(&objects->all);
    return QR_OK;

destroy_nodes:
    (void)qr_cache_destroy(objects->nodes);
destroy_cache:
    (void)qr_cache_destroy(objects->cache);
    return status;
}

size_t
qr_objects_fini(struct qr_objects *objects)
{
    size_t leaked = qr_cache_destroy(objects->cache);

    (void)qr_cache_destroy(objects->nodes);
    qr_frame_put(objects->frames, objects->zero);
    return leaked;
}

void
qr_objects_set_mapping_ops(struct qr_objects *objects, const struct qr_mapping_ops *ops)
{
    objects->mapping_ops = ops;
}

void
qr_objects_set_promise_check(struct qr_objects *objects, qr_may_promise_fn fn, void *context)
{
    objects->may_promise = fn;
    objects->promise_context = context;
}

/* ---- Life ---------------------------------------------------------------- */

enum qr_status
qr_object_create(struct qr_objects *objects, const struct qr_pager *pager, void *context,
                 uint64_t bytes, struct qr_object **out_object)
{
    if (bytes > INT64_MAX)
        return QR_ERR_RANGE;
    struct qr_object *object = qr_cache_alloc(objects->cache, 0);

    if (object == NULL)
        return QR_ERR_NO_MEMORY;
    *object = (struct qr_object){
        .machine = objects,
        .pager = pager,
        .context = context,
    };
    atomic_init(&object->refs, 1);
    atomic_init(&object->bytes, bytes);
    qr_spin_init(&object->lock, QR_RANK_OBJECT);
    qr_spin_init(&object->policy_lock, QR_RANK_OBJECT);
    qr_list_init(&object->mappings);

    qr_spin_lock(&objects->lock);
    qr_list_push_back(&objects->all, &object->link);
    qr_spin_unlock(&objects->lock);
    *out_object = object;
    return QR_OK;
}

void
qr_object_promise(struct qr_object *object, size_t pages)
{
    qr_assert(object->promised_pages == 0);
    object->promised_pages = pages;
    qr_counter_add(qr_frames_counters(object->machine->frames), QR_PAGES_COMMITTED, (long)pages);
}

enum qr_status
qr_object_create_device(struct qr_objects *objects, qr_pa base, uint64_t bytes,
                        enum qr_cacheability cache, struct qr_object **out_object)
{
    struct qr_object *object;

    if ((base.v & QR_PAGE_MASK) != 0 || base.v + bytes < base.v)
        return QR_ERR_RANGE;
    enum qr_status status = qr_object_create(objects, &pager_device, NULL, bytes, &object);

    if (status != QR_OK)
        return status;
    object->device_base = base;
    object->device_cache = cache;
    *out_object = object;
    return QR_OK;
}

void
qr_object_get(struct qr_object *object)
{
    uint32_t before = atomic_fetch_add_explicit(&object->refs, 1, memory_order_relaxed);

    qr_assert(before != 0 && before != UINT32_MAX);
}

static void object_detach_range(struct qr_object *object, size_t first, size_t last);

void
qr_object_put(struct qr_object *object)
{
    struct qr_objects *objects = object->machine;
    uint32_t before = atomic_fetch_sub_explicit(&object->refs, 1, memory_order_acq_rel);

    qr_assert(before != 0);
    if (before != 1)
        return;
    qr_assert(qr_list_is_empty(&object->mappings) && "an object's mapping outlives its reference");
    if (object->hugetlb != NULL)
        qr_hugetlb_detach_all(object);
    else
        object_detach_range(object, 0, SIZE_MAX);
    qr_assert(object->resident == 0 && object->swapped == 0);
    qr_object_drop_shadows(object, 0, SIZE_MAX);
    qr_object_drop_policies(object);
    if (object->promised_pages != 0)
        qr_counter_add(qr_frames_counters(objects->frames), QR_PAGES_COMMITTED,
                       -(long)object->promised_pages);

    qr_spin_lock(&objects->lock);
    qr_list_remove(&object->link);
    qr_spin_unlock(&objects->lock);
    if (object->pager->destroy != NULL)
        object->pager->destroy(object->context);
    qr_cache_free(objects->cache, object);
}

/* ---- Facts --------------------------------------------------------------- */

uint64_t
qr_object_bytes(const struct qr_object *object)
{
    return atomic_load_explicit(&object->bytes, memory_order_acquire);
}

size_t
qr_object_resident(const struct qr_object *object)
{
    return object->resident;
}

bool
qr_object_is_memory(const struct qr_object *object)
{
    return object->pager == &qr_pager_memory || object->pager == &qr_pager_hugetlb;
}

bool
qr_object_is_device(const struct qr_object *object)
{
    return object->pager == &pager_device;
}

qr_pa
qr_object_device_pa(const struct qr_object *object, size_t index)
{
    return qr_pa_of(object->device_base.v + ((uint64_t)index << QR_PAGE_SHIFT));
}

enum qr_cacheability
qr_object_device_cache(const struct qr_object *object)
{
    return object->device_cache;
}

void *
qr_object_context(const struct qr_object *object)
{
    return object->context;
}

struct qr_frames *
qr_object_frames(const struct qr_object *object)
{
    return object->machine->frames;
}

bool
qr_object_page_is_current(struct qr_object *object, size_t index, const struct qr_frame *frame)
{
    return index < object_pages(qr_object_bytes(object)) &&
           atomic_load_explicit(&frame->owner, memory_order_acquire) == object &&
           atomic_load_explicit(&frame->index, memory_order_relaxed) == index;
}

/* ---- Getting a page ------------------------------------------------------ */

/* What stands at @index: a frame with a reference, a mark, or NULL. */
static void *
object_look_up(struct qr_object *object, size_t index)
{
    qr_spin_lock(&object->lock);
    void *item = qr_radix_get(&object->pages, index);

    if (item != NULL && qr_likely(!item_is_mark(item)))
        qr_frame_get(item);
    qr_spin_unlock(&object->lock);
    return item;
}

/* A page came (+1) or went (-1). */
static void
object_count_page(struct qr_object *object, long delta)
{
    struct qr_counters *counters = qr_frames_counters(object->machine->frames);

    qr_counter_add(counters, object_gauge(object), delta);
    if (object_promises_pages(object))
        qr_counter_add(counters, QR_PAGES_COMMITTED, delta);
}

static bool
object_may_promise_page(const struct qr_object *object)
{
    const struct qr_objects *objects = object->machine;

    return !object_promises_pages(object) || objects->may_promise == NULL ||
           objects->may_promise(objects->promise_context, 1);
}

/*
 * Put @frame at @index, or find that somebody else was faster.
 *
 * @return QR_OK: @frame is in the index (which took a reference of its own);
 *         QR_ERR_EXISTS: *out_other is there, with a reference for the caller; QR_ERR_BUSY: a mark is;
 *         QR_ERR_RANGE: the object has shrunk; QR_ERR_AGAIN: too few spares
 */
static enum qr_status
object_insert(struct qr_object *object, size_t index, struct qr_frame *frame,
              struct radix_spares *spares, struct qr_frame **out_other)
{
    enum qr_status status = QR_OK;

    qr_spin_lock(&object->lock);
    struct qr_frame *other = qr_radix_get(&object->pages, index);

    if (index >= object_pages(qr_object_bytes(object))) {
        status = QR_ERR_RANGE;
    } else if (qr_unlikely(item_is_mark(other))) {
        status = QR_ERR_BUSY;
    } else if (other != NULL) {
        qr_frame_get(other);
        *out_other = other;
        status = QR_ERR_EXISTS;
    } else if (spares->count < qr_radix_nodes_needed(&object->pages, index)) {
        status = QR_ERR_AGAIN;
    } else {
        qr_frame_get(frame);
        qr_frame_set_type(frame, QR_FRAME_OBJECT);
        atomic_store_explicit(&frame->index, index, memory_order_relaxed);
        atomic_store_explicit(&frame->owner, object, memory_order_release);
        qr_radix_insert(&object->pages, index, frame, spares);
        object->resident++;
    }
    qr_spin_unlock(&object->lock);
    if (status == QR_OK)
        object_count_page(object, 1);
    if (status == QR_OK && qr_unlikely(qr_frame_group(frame) != 0))
        qr_group_note_object(object->machine->groups, frame, qr_object_is_memory(object));
    return status;
}

enum qr_status
qr_object_insert_page(struct qr_object *object, size_t index, struct qr_frame *frame,
                      unsigned alloc_flags, struct qr_frame **out_other)
{
    struct radix_spares spares = {.count = 0};
    enum qr_status status;

    do {
        status = object_insert(object, index, frame, &spares, out_other);
        if (status == QR_ERR_AGAIN &&
            !qr_radix_spares_fill(&spares, spares.count + 1, object->machine->nodes, alloc_flags))
            status = QR_ERR_NO_MEMORY;
    } while (status == QR_ERR_AGAIN);
    qr_radix_spares_release(&spares, object->machine->nodes);
    return status;
}

static enum qr_status
object_make_page(struct qr_object *object, size_t index, unsigned alloc_flags,
                 struct qr_frame **out_frame, bool *out_made)
{
    bool memory = qr_object_is_memory(object);

    if (!object_may_promise_page(object))
        return QR_ERR_LIMIT;
    struct qr_frame *frame = qr_object_alloc_frame(object, index,
                                                   alloc_flags | (memory ? QR_ALLOC_ZERO : 0) |
                                                       QR_ALLOC_MOVABLE | QR_ALLOC_HIGH);

    if (frame == NULL)
        return QR_ERR_NO_MEMORY;
    enum qr_status status = qr_object_charge(object->machine, frame, alloc_flags);

    if (status != QR_OK) {
        qr_frame_put(object->machine->frames, frame);
        return status;
    }
    /* Nobody else sees the frame yet: plain stores of its first flags will do. */
    atomic_fetch_or_explicit(&frame->flags,
                             memory ? QR_FRAME_UPTODATE | QR_FRAME_SHMEM : QR_FRAME_LOCKED,
                             memory_order_relaxed);
    status = qr_object_insert_page(object, index, frame, alloc_flags, out_frame);

    if (status == QR_OK) {
        if (!memory)
            qr_object_meet_shadow(object, index, frame);
        *out_frame = frame;
        *out_made = true;
        return QR_OK;
    }
    atomic_fetch_and_explicit(&frame->flags,
                              ~(uint32_t)(QR_FRAME_UPTODATE | QR_FRAME_SHMEM | QR_FRAME_LOCKED),
                              memory_order_relaxed);
    qr_frame_put(object->machine->frames, frame);
    *out_made = false;
    if (status == QR_ERR_BUSY)
        return QR_ERR_AGAIN;
    return status == QR_ERR_EXISTS ? QR_OK : status;
}

enum qr_status
qr_object_add_page(struct qr_object *object, size_t index, struct qr_frame *frame)
{
    const uint32_t flags = QR_FRAME_UPTODATE | QR_FRAME_SHMEM;
    struct qr_frame *other = NULL;

    qr_assert(qr_object_is_memory(object));
    if (!object_may_promise_page(object))
        return QR_ERR_LIMIT;
    enum qr_status status =
        qr_object_charge(object->machine, frame, QR_ALLOC_ATOMIC | QR_ALLOC_NO_REPORT);

    if (status != QR_OK)
        return status;
    atomic_fetch_or_explicit(&frame->flags, flags, memory_order_relaxed);
    status =
        qr_object_insert_page(object, index, frame, QR_ALLOC_ATOMIC | QR_ALLOC_NO_REPORT, &other);

    if (status != QR_OK)
        atomic_fetch_and_explicit(&frame->flags, ~flags, memory_order_relaxed);
    if (other != NULL)
        qr_frame_put(object->machine->frames, other);
    return status == QR_ERR_BUSY ? QR_ERR_EXISTS : status;
}

static bool object_detach(struct qr_object *object, size_t index, struct qr_frame *frame);

/*
 * A page that is being filled: wait, then say whether it can be used.  One that could not be read
 * leaves the index by the hand of whoever meets it first: QR_ERR_IO for the one who had it read.
 */
static enum qr_status
object_wait_page(struct qr_object *object, size_t index, struct qr_frame *frame, bool asked)
{
    qr_object_lock_page(object, frame);
    bool filled = page_is_up_to_date(frame);
    bool usable = filled && qr_object_page_is_current(object, index, frame);

    if (!filled)
        (void)object_detach(object, index, frame);
    qr_page_unlock(frame);
    return usable ? QR_OK : asked && !filled ? QR_ERR_IO : QR_ERR_AGAIN;
}

/* Have the pager fill @frame, which is locked; unlock it.  A failed page leaves the index. */
static enum qr_status
object_fill_page(struct qr_object *object, size_t index, struct qr_frame *frame)
{
    enum qr_status status = QR_OK;

    if (object->pager->start_read != NULL) {
        qr_object_read_window(object, index, frame);
        return object_wait_page(object, index, frame, true);
    }
    if (object->pager->read_page != NULL)
        status = object->pager->read_page(object->context, index, frame);
    else
        qr_frame_clear(object->machine->frames, frame);
    if (status == QR_OK)
        atomic_fetch_or_explicit(&frame->flags, QR_FRAME_UPTODATE, memory_order_release);
    else
        (void)object_detach(object, index, frame);
    qr_page_unlock(frame);
    return status;
}

static enum qr_status
object_get_page_once(struct qr_object *object, size_t index, enum qr_object_get_page_mode mode,
                     struct qr_frame **out_frame)
{
    void *item = object_look_up(object, index);
    struct qr_frame *frame = item;
    bool made = false;
    enum qr_status status;

    if (qr_unlikely(item_is_mark(item)))
        return qr_object_get_swapped(object, index, item, mode, out_frame);
    if (frame != NULL && page_is_up_to_date(frame)) {
        *out_frame = frame;
        return QR_OK;
    }
    if (frame != NULL && (page_flags(frame) & QR_FRAME_ERROR) != 0) {
        qr_frame_put(object->machine->frames, frame);
        return QR_ERR_IO;
    }
    if (mode != QR_PAGE_FILL) {
        if (frame != NULL) {
            qr_frame_put(object->machine->frames, frame);
            return mode == QR_PAGE_CACHED ? QR_ERR_NOT_FOUND : QR_ERR_AGAIN;
        }
        if (mode == QR_PAGE_CACHED)
            return QR_ERR_NOT_FOUND;
        if (!qr_object_is_memory(object))
            return QR_ERR_AGAIN;
        return object_make_page(object, index, QR_ALLOC_ATOMIC | QR_ALLOC_NO_REPORT, out_frame,
                                &made);
    }
    if (frame == NULL) {
        status = object_make_page(object, index, 0, &frame, &made);
        if (status != QR_OK)
            return status;
    }
    if (page_is_up_to_date(frame))
        status = QR_OK;
    else if (made)
        status = object_fill_page(object, index, frame);
    else
        status = object_wait_page(object, index, frame, false);
    if (status == QR_OK)
        *out_frame = frame;
    else
        qr_frame_put(object->machine->frames, frame);
    return status;
}

/* How often a page may vanish between being found and being used before we give up. */
#define GET_PAGE_TRIES 64

enum qr_status
qr_object_get_page(struct qr_object *object, size_t index, enum qr_object_get_page_mode mode,
                   struct qr_frame **out_frame)
{
    enum qr_status status = QR_ERR_AGAIN;

    qr_assert(!qr_object_is_device(object));
    if (object->hugetlb != NULL)
        return qr_hugetlb_get_page(object, index, mode, out_frame);
    for (unsigned i = 0; i < GET_PAGE_TRIES && status == QR_ERR_AGAIN; i++) {
        if (index >= object_pages(qr_object_bytes(object)))
            return QR_ERR_RANGE;
        status = object_get_page_once(object, index, mode, out_frame);
        if (mode != QR_PAGE_FILL)
            break;
    }
    return status == QR_ERR_AGAIN && mode == QR_PAGE_FILL ? QR_ERR_IO : status;
}

size_t
qr_object_get_cached(struct qr_object *object, size_t first, size_t count,
                     struct qr_frame **out_frames)
{
    size_t pages = object_pages(qr_object_bytes(object));
    size_t found = 0;

    for (size_t i = 0; i < count; i++)
        out_frames[i] = NULL;
    if (object->hugetlb != NULL)
        return 0;
    if (first >= pages)
        return 0;
    if (count > pages - first)
        count = pages - first;
    qr_spin_lock(&object->lock);
    for (size_t i = 0; i < count;) {
        size_t run;
        void *const *items = qr_radix_run(&object->pages, first + i, &run);

        if (run > count - i)
            run = count - i;
        for (size_t k = 0; items != NULL && k < run; k++) {
            struct qr_frame *frame = items[k];

            if (frame == NULL || item_is_mark(frame) || !page_is_up_to_date(frame))
                continue;
            qr_frame_get(frame);
            out_frames[i + k] = frame;
            found++;
        }
        i += run;
    }
    qr_spin_unlock(&object->lock);
    return found;
}

/* ---- Losing pages -------------------------------------------------------- */

/* @frame at @index leaves the index, whose reference becomes the caller's.  P. */
static void
object_unlink(struct qr_object *object, size_t index, struct qr_frame *frame)
{
    qr_object_break_block(object, index);
    (void)qr_radix_remove(&object->pages, index, object->machine->nodes);
    atomic_store(&frame->owner, NULL); /* before the mark is cleared: see mark_dirty */
    object->resident--;
}

static void
object_forget_slowly(struct qr_object *object, struct qr_frame *frame)
{
    (void)qr_page_deactivate(object, frame);
    if ((page_flags(frame) & QR_FRAME_ERROR) != 0)
        qr_frame_set_type(frame, QR_FRAME_KERNEL); /* somebody keeps it for ever */
}

/* What is left to do for a frame that has left the index. */
static void
object_forget(struct qr_object *object, struct qr_frame *frame)
{
    if (qr_unlikely(qr_object_clear_dirty(object, frame)) && object->machine->cancelled != NULL)
        object->machine->cancelled();
    object_count_page(object, -1);
    if (qr_unlikely((page_flags(frame) & (QR_FRAME_ERROR | QR_FRAME_ACTIVE)) != 0))
        object_forget_slowly(object, frame);
    qr_frame_put(object->machine->frames, frame);
}

/*
 * Take @frame out of the index if it is still at @index, and drop the index's
 * reference; the caller has one of its own.
 */
static bool
object_detach(struct qr_object *object, size_t index, struct qr_frame *frame)
{
    qr_spin_lock(&object->lock);
    bool found = qr_radix_get(&object->pages, index) == frame;

    if (found)
        object_unlink(object, index, frame);
    qr_spin_unlock(&object->lock);
    if (found)
        object_forget(object, frame);
    return found;
}

enum qr_status
qr_object_lose_page(struct qr_object *object, size_t index, struct qr_frame *frame, bool *out_dirty)
{
    enum qr_status status = QR_ERR_BUSY;
    bool memory = qr_object_is_memory(object);

    qr_page_lock(frame); /* nor is it under I/O */
    if (qr_object_page_is_current(object, index, frame) && page_is_up_to_date(frame)) {
        *out_dirty = qr_object_clear_dirty(object, frame);
        if (*out_dirty)
            atomic_fetch_add_explicit(&object->write_errors, 1, memory_order_release);
        if (memory)
            atomic_fetch_or(&frame->flags, QR_FRAME_ERROR);
        atomic_fetch_and(&frame->flags, ~(uint32_t)QR_FRAME_UPTODATE);
        /* Not current any more: a fault that has it already maps it no more (invariants 24). */
        if (memory)
            atomic_store(&frame->owner, NULL);
        else
            (void)object_detach(object, index, frame);
        qr_object_unmap(object, index, index + 1, false);
        if (!memory)
            qr_frame_set_type(frame, QR_FRAME_KERNEL);
        status = QR_OK;
    }
    qr_page_unlock(frame);
    return status;
}

/* The item at or after *@index; a frame with a reference. */
static void *
object_next_item(struct qr_object *object, size_t *index)
{
    qr_spin_lock(&object->lock);
    void *item = qr_radix_next(&object->pages, index);

    if (item != NULL && !item_is_mark(item))
        qr_frame_get(item);
    qr_spin_unlock(&object->lock);
    return item;
}

struct qr_frame *
qr_object_next_page(struct qr_object *object, size_t *index)
{
    void *item;

    while (item_is_mark(item = object_next_item(object, index)))
        (*index)++;
    return item;
}

/* @frame, of which the caller has a reference, goes.  @return false: something else stands there now */
static bool
object_detach_page(struct qr_object *object, size_t index, struct qr_frame *frame)
{
    /* A page under I/O is waited for: its pager still uses the frame. */
    qr_page_lock(frame);
    bool gone = object_detach(object, index, frame);

    qr_page_unlock(frame);
    return gone;
}

/* What was moved or swapped out, or came back, while we waited for it is looked at again. */
static void
object_detach_range(struct qr_object *object, size_t first, size_t last)
{
    size_t index = first;
    void *item;

    while (index < last && (item = object_next_item(object, &index)) != NULL) {
        bool gone = true;

        if (item_is_mark(item)) {
            gone = index >= last || qr_object_drop_mark(object, index, item);
        } else {
            if (index < last)
                gone = object_detach_page(object, index, item);
            qr_frame_put(object->machine->frames, item);
        }
        index += gone;
    }
    qr_object_drop_shadows(object, first, last);
}

void
qr_object_unmap(struct qr_object *object, size_t first, size_t last, bool private_copies)
{
    const struct qr_mapping_ops *ops = object->machine->mapping_ops;
    struct qr_tlb_gather gather;

    qr_tlb_gather_init(&gather);
    qr_mutex_lock(&object->mappings_lock);
    qr_list_for_each(node, &object->mappings)
    {
        struct qr_mapping *mapping = qr_list_entry(node, struct qr_mapping, link);
        size_t from = first;
        size_t to = last;

        if (mapping_overlap(mapping, &from, &to))
            ops->unmap(mapping, from, to, private_copies, &gather);
    }
    qr_tlb_gather_finish(&gather);
    qr_mutex_unlock(&object->mappings_lock);
}

/* The page at @index in memory with a reference; NULL: there is none, or it is lost. */
static struct qr_frame *
object_tail_page(struct qr_object *object, size_t index)
{
    void *item;

    while (item_is_mark(item = object_look_up(object, index)) && item != MARK_LOST)
        qr_object_need_swapped(object, index, item);
    return item == MARK_LOST ? NULL : item;
}

/* Clear the bytes of the page that holds @from which lie at or behind it. */
static void
object_clear_tail(struct qr_object *object, uint64_t from)
{
    size_t offset = (size_t)(from & QR_PAGE_MASK);
    struct qr_frame *frame =
        offset == 0 ? NULL : object_tail_page(object, (size_t)(from >> QR_PAGE_SHIFT));

    if (frame == NULL)
        return;
    qr_page_lock(frame);
    char *window = qr_port_window_open(qr_frame_pa(object->machine->frames, frame));

    __builtin_memset(window + offset, 0, QR_PAGE_SIZE - offset);
    qr_port_window_close(window);
    qr_page_unlock(frame);
    qr_frame_put(object->machine->frames, frame);
}

void
qr_object_set_bytes(struct qr_object *object, uint64_t bytes)
{
    qr_assert(bytes <= INT64_MAX);
    if (object->hugetlb != NULL) {
        qr_hugetlb_set_bytes(object, bytes);
        return;
    }
    qr_spin_lock(&object->lock);
    uint64_t before = atomic_exchange_explicit(&object->bytes, bytes, memory_order_acq_rel);
    qr_spin_unlock(&object->lock);

    /*
     * Stores through a mapping may have left bytes behind the old end.  What reads a grown file
     * from its disk finds zeroes there; of memory, those who share it keep what they stored.
     */
    if (bytes <= before || !qr_object_is_memory(object))
        object_clear_tail(object, bytes < before ? bytes : before);
    if (object_pages(bytes) >= object_pages(before))
        return;
    object_detach_range(object, object_pages(bytes), SIZE_MAX);
    qr_object_unmap(object, object_pages(bytes), SIZE_MAX, true);
}

void
qr_object_punch(struct qr_object *object, size_t first, size_t last)
{
    if (first >= last)
        return;
    if (object->hugetlb != NULL) {
        qr_hugetlb_punch(object, first, last);
        return;
    }
    object_detach_range(object, first, last);
    qr_object_unmap(object, first, last, false);
}

/*
 * Whoever reads or writes the page takes its reference under P, where a last look is taken: so a
 * page that is about to be written to is not dropped.
 */
bool
qr_object_drop_page(struct qr_object *object, size_t index, struct qr_frame *frame)
{
    const uint32_t busy = QR_FRAME_DIRTY | QR_FRAME_WRITEBACK;
    bool idle = false;

    qr_spin_lock(&object->lock);
    /* Ours and the index's: nobody maps or copies it. */
    if (qr_radix_get(&object->pages, index) == frame && atomic_load(&frame->refs) == 2 &&
        (page_flags(frame) & busy) == 0) {
        object_unlink(object, index, frame);
        idle = true;
    }
    qr_spin_unlock(&object->lock);
    if (idle)
        object_forget(object, frame);
    return idle;
}

size_t
qr_object_drop_clean(struct qr_object *object)
{
    return qr_object_drop_clean_range(object, 0, SIZE_MAX);
}

size_t
qr_object_drop_clean_range(struct qr_object *object, size_t first, size_t last)
{
    size_t index = first;
    size_t dropped = 0;
    struct qr_frame *frame;

    if (qr_object_is_memory(object))
        return 0;
    while (index < last && (frame = qr_object_next_page(object, &index)) != NULL) {
        bool idle = index < last && qr_page_try_lock(frame);

        if (idle) {
            dropped += qr_object_drop_page(object, index, frame);
            qr_page_unlock(frame);
        }
        qr_frame_put(object->machine->frames, frame);
        index++;
    }
    qr_object_drop_shadows(object, first, last);
    return dropped;
}

void
qr_object_invalidate(struct qr_object *object, size_t first, size_t last)
{
    qr_object_unmap(object, first, last, false);
    (void)qr_object_drop_clean_range(object, first, last);
}

bool
qr_object_next_present(struct qr_object *object, size_t index, size_t *out_index)
{
    if (object->hugetlb != NULL)
        return qr_hugetlb_next_present(object, index, out_index);
    qr_spin_lock(&object->lock);
    bool found = qr_radix_next(&object->pages, &index) != NULL;
    qr_spin_unlock(&object->lock);
    if (found)
        *out_index = index;
    return found;
}

/* ---- Copying ------------------------------------------------------------- */

/*
 * The frame to copy from or to.  A hole of a memory object reads as the shared
 * zero frame, so that reading never allocates.
 */
static enum qr_status
object_copy_page(struct qr_object *object, size_t index, bool writing, struct qr_frame **out_frame)
{
    bool hole_is_zero = !writing && qr_object_is_memory(object);
    enum qr_status status =
        qr_object_get_page(object, index, hole_is_zero ? QR_PAGE_CACHED : QR_PAGE_FILL, out_frame);

    if (status == QR_ERR_AGAIN) /* it is in swap */
        status = qr_object_get_page(object, index, QR_PAGE_FILL, out_frame);
    if (status == QR_ERR_NOT_FOUND) {
        *out_frame = object->machine->zero;
        qr_frame_get(*out_frame);
        return QR_OK;
    }
    return status;
}

/* Bytes that go through the stack at once, between a high frame and a caller who may sleep. */
#define BOUNCE_BYTES 256

/*
 * Move @bytes at @within of a frame by the caller's @copy, which may touch user memory and
 * sleep.  A window to high memory must be closed before that: there the bytes take a second step.
 */
static size_t
object_copy_frame(struct qr_object *object, struct qr_frame *frame, size_t within, size_t bytes,
                  bool writing, qr_object_copy_fn copy, void *context)
{
    struct qr_frames *frames = object->machine->frames;
    qr_pa pa = qr_frame_pa(frames, frame);
    size_t done = 0;

    if (!qr_frame_is_high(frames, frame)) {
        char *window = qr_port_window_open(pa);

        done = copy(context, window + within, bytes);
        qr_port_window_close(window);
        return done;
    }
    while (done < bytes) {
        char bounce[BOUNCE_BYTES];
        size_t piece = bytes - done < sizeof(bounce) ? bytes - done : sizeof(bounce);
        size_t moved = writing ? copy(context, bounce, piece) : piece;
        char *window = qr_port_window_open(pa);

        if (writing)
            __builtin_memcpy(window + within + done, bounce, moved);
        else
            __builtin_memcpy(bounce, window + within + done, moved);
        qr_port_window_close(window);
        if (!writing)
            moved = copy(context, bounce, piece);
        done += moved;
        if (moved < piece)
            break;
    }
    return done;
}

/* Of shared memory, for who looks for what may go to swap. */
static void
page_note_use(const struct qr_object *object, struct qr_frame *frame)
{
    if (object->pager == &qr_pager_memory && frame != object->machine->zero &&
        (page_flags(frame) & QR_FRAME_REFERENCED) == 0)
        atomic_fetch_or_explicit(&frame->flags, QR_FRAME_REFERENCED, memory_order_relaxed);
}

static enum qr_status
object_copy(struct qr_object *object, uint64_t offset, size_t bytes, bool writing,
            qr_object_copy_fn copy, void *context, size_t *out_done)
{
    struct qr_frames *frames = object->machine->frames;

    *out_done = 0;
    while (*out_done < bytes) {
        uint64_t at = offset + *out_done;
        uint64_t end = qr_object_bytes(object);

        if (at >= end)
            return QR_OK;
        size_t within = (size_t)(at & QR_PAGE_MASK);
        size_t piece = QR_PAGE_SIZE - within;

        if (piece > bytes - *out_done)
            piece = bytes - *out_done;
        if (piece > end - at)
            piece = (size_t)(end - at);

        struct qr_frame *frame;
        enum qr_status status =
            object_copy_page(object, (size_t)(at >> QR_PAGE_SHIFT), writing, &frame);

        if (status == QR_ERR_RANGE)
            return QR_OK; /* truncated meanwhile */
        if (status != QR_OK)
            return status;
        size_t moved = object_copy_frame(object, frame, within, piece, writing, copy, context);

        if (writing && moved > 0)
            qr_object_mark_dirty(object, frame);
        page_note_use(object, frame);
        qr_frame_put(frames, frame);
        *out_done += moved;
        if (moved < piece)
            return QR_ERR_FAULT;
    }
    return QR_OK;
}

enum qr_status
qr_object_read(struct qr_object *object, uint64_t offset, size_t bytes, qr_object_copy_fn copy,
               void *context, size_t *out_done)
{
    return object_copy(object, offset, bytes, false, copy, context, out_done);
}

enum qr_status
qr_object_write(struct qr_object *object, uint64_t offset, size_t bytes, qr_object_copy_fn copy,
                void *context, size_t *out_done)
{
    return object_copy(object, offset, bytes, true, copy, context, out_done);
}
