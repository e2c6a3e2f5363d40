/* SPDX-License-Identifier: MIT */
/*
 * Pages of shared memory that are in swap.
 *
 *   index   511    512         513    514
 *   item     F     slot 9 |1    .      F         a frame, a mark, or nothing
 *                   |
 *                   +--> slot 9: users 1, and its frame while it has one (src/swap/cache.c)
 *
 * A page is in one place: in the index as a frame, or in the swap cache, its area, or both of these with a mark in the
 * index.  Both steps are under P:
 *
 *   out   nobody maps the page, and the index and who takes it out have the only references, so nobody
 *         reads or writes it: the frame goes to the cache, a mark takes its place (put_out)
 *   in    the cache has read it, or has it still; no I/O is under way: the frame takes the mark's place and
 *         the slot is free (get_swapped)
 *
 * Who finds a mark can do nothing at once but drop it: all that needs the page asks qr_object_get_page() to FILL, with
 * nothing locked.  A mark takes no memory that the frame's place did not have, so swapping out needs none; and since it
 * stands where the frame stood, holes, SEEK_DATA, block counts and promises know no difference.
 *
 *   fault against out         the fault's reference makes put_out fail, or the fault finds the mark
 *   fault against fault       both fetch one frame; the second to come finds it in the index
 *   fault against write-out   waits for the end of the I/O
 *   truncation against out    waits for the page lock, and then finds the mark (object_detach_range)
 *   truncation against in     whichever of the two it finds, it drops
 *
 * A page that could not be read stays in swap, and who asks again has it read again.  Where that cannot be, since
 * the area is going or a part of the page was to be cleared, its mark becomes MARK_LOST: an error for ever, until
 * the page is cut off or punched.
 *
 * Locks: P; under it those of the swap layer.
 */
#include "objects.h"

#include <quire/assert.h>

/* Marks that are looked at under one lock. */
#define LOOK_BATCH 64u

void
qr_objects_set_swap(struct qr_objects *objects, struct qr_swap *swap)
{
    objects->swap = swap;
}

void
qr_object_set_kept(struct qr_object *object, bool kept)
{
    atomic_store_explicit(&object->kept, kept, memory_order_relaxed);
}

static void *
item_of_slot(qr_slot slot)
{
    return (void *)(slot.v << 1 | 1);
}

static qr_slot
item_slot(const void *item)
{
    return qr_slot_of((uintptr_t)item >> 1);
}

static void
count_shmem(struct qr_object *object, struct qr_frame *frame, int delta)
{
    struct qr_objects *objects = object->machine;

    qr_counter_add(qr_frames_counters(objects->frames), QR_PAGES_SHMEM, delta);
    if (qr_frame_group(frame) == 0)
        return;
    if (delta > 0)
        qr_group_note_object(objects->groups, frame, true);
    else
        qr_group_forget_object(objects->groups, frame);
}

/* ---- Out ------------------------------------------------------------------------ */

/* Ours and the index's: nobody maps or copies it.  P. */
static bool
page_is_idle(const struct qr_frame *frame)
{
    return atomic_load_explicit(&frame->refs, memory_order_acquire) == 2 &&
           atomic_load_explicit(&frame->maps, memory_order_relaxed) == 0 &&
           (page_flags(frame) & (QR_FRAME_WRITEBACK | QR_FRAME_PINNED | QR_FRAME_ERROR)) == 0;
}

enum qr_status
qr_object_put_out(struct qr_object *object, size_t index, struct qr_frame *frame, qr_slot *out_slot)
{
    enum qr_status status = QR_ERR_BUSY;

    qr_spin_lock(&object->lock);
    if (qr_radix_get(&object->pages, index) == frame && page_is_idle(frame)) {
        atomic_store(&frame->owner, NULL);
        status = qr_swap_assign_object(object->machine->swap, frame, out_slot);
        if (status == QR_OK) {
            qr_object_break_block(object, index);
            qr_radix_replace(&object->pages, index, item_of_slot(*out_slot));
            object->resident--;
            object->swapped++;
        } else {
            atomic_store(&frame->owner, object);
        }
    }
    qr_spin_unlock(&object->lock);
    if (status == QR_OK)
        count_shmem(object, frame, -1);
    return status;
}

/* ---- In ------------------------------------------------------------------------- */

/* The page of the mark @item in the swap cache, with a reference.  QR_ERR_AGAIN: the slot is nobody's any more. */
static enum qr_status
mark_fetch(struct qr_object *object, size_t index, const void *item, unsigned alloc_flags,
           struct qr_frame **out_frame)
{
    struct qr_objects *objects = object->machine;
    struct qr_frame *fresh = NULL;
    enum qr_status status = qr_swap_fetch(objects->swap, item_slot(item), &fresh, out_frame);

    if (status == QR_ERR_AGAIN) {
        fresh =
            qr_object_alloc_frame(object, index, alloc_flags | QR_ALLOC_MOVABLE | QR_ALLOC_HIGH);
        if (fresh == NULL)
            return QR_ERR_NO_MEMORY;
        if ((alloc_flags & QR_ALLOC_RECLAIMER) == 0 &&
            !qr_swap_charge_owner(objects->swap, item_slot(item), fresh) &&
            qr_object_charge(objects, fresh, alloc_flags) != QR_OK)
            status = QR_ERR_NO_MEMORY;
        else
            status = qr_swap_fetch(objects->swap, item_slot(item), &fresh, out_frame);
        if (fresh != NULL)
            qr_frame_put(objects->frames, fresh);
    }
    return status == QR_ERR_NOT_FOUND ? QR_ERR_AGAIN : status;
}

/* @frame, which was fetched, takes the place of its mark.  QR_ERR_AGAIN: that is gone; QR_ERR_BUSY: wait */
static enum qr_status
mark_replace(struct qr_object *object, size_t index, const void *item, struct qr_frame *frame)
{
    enum qr_status status = QR_ERR_AGAIN;

    qr_spin_lock(&object->lock);
    if (qr_radix_get(&object->pages, index) == item)
        status = qr_swap_take_object(object->machine->swap, item_slot(item), frame);
    if (status == QR_OK) {
        /* As in Linux it counts as written to from now on. */
        atomic_fetch_or_explicit(&frame->flags,
                                 QR_FRAME_UPTODATE | QR_FRAME_SHMEM | QR_FRAME_STORED,
                                 memory_order_relaxed);
        atomic_store_explicit(&frame->index, index, memory_order_relaxed);
        atomic_store_explicit(&frame->owner, object, memory_order_release);
        qr_radix_replace(&object->pages, index, frame);
        object->swapped--;
        object->resident++;
    }
    qr_spin_unlock(&object->lock);
    if (status == QR_OK)
        count_shmem(object, frame, 1);
    return status;
}

static enum qr_status
mark_bring(struct qr_object *object, size_t index, const void *item, unsigned alloc_flags,
           struct qr_frame **out_frame)
{
    enum qr_status status = mark_fetch(object, index, item, alloc_flags, out_frame);

    if (status != QR_OK)
        return status;
    while ((status = mark_replace(object, index, item, *out_frame)) == QR_ERR_BUSY)
        qr_swap_wait(object->machine->swap, item_slot(item));
    if (status != QR_OK)
        qr_frame_put(object->machine->frames, *out_frame);
    return status;
}

enum qr_status
qr_object_get_swapped(struct qr_object *object, size_t index, void *item,
                      enum qr_object_get_page_mode mode, struct qr_frame **out_frame)
{
    if (mode != QR_PAGE_FILL)
        return QR_ERR_AGAIN;
    return item == MARK_LOST ? QR_ERR_IO : mark_bring(object, index, item, 0, out_frame);
}

/* ---- Gone ----------------------------------------------------------------------- */

/* Its page cannot be had any more. */
static void
mark_lose(struct qr_object *object, size_t index, void *item)
{
    qr_spin_lock(&object->lock);
    bool same = qr_radix_get(&object->pages, index) == item;

    if (same)
        qr_radix_replace(&object->pages, index, MARK_LOST);
    qr_spin_unlock(&object->lock);
    if (same)
        qr_swap_put(object->machine->swap, item_slot(item));
}

void
qr_object_need_swapped(struct qr_object *object, size_t index, void *item)
{
    struct qr_frame *frame;
    enum qr_status status = mark_bring(object, index, item, 0, &frame);

    if (status == QR_ERR_NO_MEMORY)
        status = mark_bring(object, index, item, QR_ALLOC_RECLAIMER | QR_ALLOC_NO_REPORT, &frame);
    if (status == QR_OK)
        qr_frame_put(object->machine->frames, frame);
    else if (status != QR_ERR_AGAIN)
        mark_lose(object, index, item);
}

bool
qr_object_drop_mark(struct qr_object *object, size_t index, void *item)
{
    struct qr_objects *objects = object->machine;

    qr_spin_lock(&object->lock);
    bool same = qr_radix_get(&object->pages, index) == item;

    if (same) {
        (void)qr_radix_remove(&object->pages, index, objects->nodes);
        object->swapped--;
    }
    qr_spin_unlock(&object->lock);
    if (!same)
        return false;
    if (object_promises_pages(object))
        qr_counter_add(qr_frames_counters(objects->frames), QR_PAGES_COMMITTED, -1);
    if (item != MARK_LOST)
        qr_swap_put(objects->swap, item_slot(item));
    return true;
}

/* ---- Marks of a range ------------------------------------------------------------- */

/* The first mark of [*index, last); NULL: there is none.  Sets *index to its place. */
static void *
next_mark(struct qr_object *object, size_t *index, size_t last)
{
    void *item = NULL;
    bool more = qr_object_swapped(object) != 0;

    while (more && !item_is_mark(item)) {
        qr_spin_lock(&object->lock);
        for (unsigned i = 0; more && i < LOOK_BATCH; i++) {
            item = qr_radix_next(&object->pages, index);
            more = item != NULL && *index < last;
            if (!more || item_is_mark(item))
                break;
            (*index)++;
        }
        qr_spin_unlock(&object->lock);
    }
    return more ? item : NULL;
}

size_t
qr_object_swapped(const struct qr_object *object)
{
    return atomic_load_explicit(&object->swapped, memory_order_relaxed);
}

size_t
qr_object_held(struct qr_object *object)
{
    if (object->hugetlb != NULL)
        return qr_object_resident(object);
    qr_spin_lock(&object->lock);
    size_t held = object->resident + object->swapped;

    qr_spin_unlock(&object->lock);
    return held;
}

size_t
qr_object_count_swapped(struct qr_object *object, size_t first, size_t last)
{
    size_t count = 0;

    for (size_t index = first; next_mark(object, &index, last) != NULL; index++)
        count++;
    return count;
}

/* The item at @index; *out_cached: a frame of it, with a reference, that is in memory. */
static void *
look(struct qr_object *object, size_t index, struct qr_frame **out_cached)
{
    *out_cached = NULL;
    qr_spin_lock(&object->lock);
    void *item = qr_radix_get(&object->pages, index);

    if (item_is_mark(item)) {
        if (item != MARK_LOST)
            *out_cached = qr_swap_lookup(object->machine->swap, item_slot(item));
    } else if (item != NULL && page_is_up_to_date(item)) {
        *out_cached = item;
        qr_frame_get(item);
    }
    qr_spin_unlock(&object->lock);
    return item;
}

enum qr_object_where
qr_object_where(struct qr_object *object, size_t index)
{
    struct qr_frame *frame;
    void *item = look(object, index, &frame);

    if (frame == NULL)
        return item_is_mark(item) ? QR_PAGE_IN_SWAP : QR_PAGE_ABSENT;
    qr_frame_put(object->machine->frames, frame);
    return QR_PAGE_IN_MEMORY;
}

void
qr_object_swap_ahead(struct qr_object *object, size_t first, size_t last)
{
    const unsigned flags = QR_ALLOC_OPPORTUNE | QR_ALLOC_NO_REPORT | QR_ALLOC_ATOMIC;
    enum qr_status status = QR_OK;
    size_t index = first;
    void *item;

    while (status != QR_ERR_NO_MEMORY && (item = next_mark(object, &index, last)) != NULL) {
        struct qr_frame *frame;

        if (item != MARK_LOST) {
            status = mark_fetch(object, index, item, flags, &frame);
            if (status == QR_OK)
                qr_frame_put(object->machine->frames, frame);
        }
        index++;
    }
}

enum qr_status
qr_object_bring_back(struct qr_object *object, size_t first, size_t last)
{
    enum qr_status status = QR_OK;
    size_t index = first;
    void *item;

    while (status == QR_OK && (item = next_mark(object, &index, last)) != NULL) {
        struct qr_frame *frame;

        status = qr_object_get_swapped(object, index, item, QR_PAGE_FILL, &frame);
        if (status == QR_OK)
            qr_frame_put(object->machine->frames, frame);
        else if (status == QR_ERR_AGAIN) /* another item stands there now */
            status = QR_OK;
    }
    return status;
}

/* ---- The end of an area ------------------------------------------------------------- */

static enum qr_status
object_swap_in(struct qr_object *object, unsigned area, bool (*stop)(void))
{
    size_t index = 0;
    void *item;

    while ((item = next_mark(object, &index, SIZE_MAX)) != NULL) {
        enum qr_status status = QR_OK;
        struct qr_frame *frame;

        if (stop != NULL && stop())
            return QR_ERR_INTERRUPTED;
        if (item != MARK_LOST && qr_slot_area(item_slot(item)) == area) {
            status = mark_bring(object, index, item, 0, &frame);
            if (status == QR_OK)
                qr_frame_put(object->machine->frames, frame);
            else if (status == QR_ERR_IO)
                mark_lose(object, index, item);
        }
        if (status == QR_ERR_NO_MEMORY)
            return status;
        index += status != QR_ERR_AGAIN;
    }
    return QR_OK;
}

enum qr_status
qr_objects_swap_in(struct qr_objects *objects, unsigned area, bool (*stop)(void))
{
    enum qr_status status = QR_OK;

    for (size_t left = qr_objects_count(objects); left > 0 && status == QR_OK; left--) {
        struct qr_object *object = qr_objects_turn(objects);

        if (object == NULL)
            continue;
        status = object_swap_in(object, area, stop);
        qr_object_put(object);
    }
    return status;
}

/* ---- Validation ------------------------------------------------------------------------ */

bool
qr_object_recount(struct qr_object *object, int delta)
{
    bool enough = true;
    size_t index = 0;
    void *item;

    for (; (item = next_mark(object, &index, SIZE_MAX)) != NULL; index++) {
        if (item != MARK_LOST &&
            qr_swap_recount(object->machine->swap, item_slot(item), delta) == 0 && delta < 0)
            enough = false;
    }
    return enough;
}
