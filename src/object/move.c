/* SPDX-License-Identifier: MIT */
/*
 * A page of an object moves to another frame.
 *
 * Nobody may look at the old frame while its contents are copied:
 *
 *   1 the page lock keeps pagers, write-back and truncation away
 *   2 every mapping is taken out and flushed: user programs fault, get_page waits
 *   3 under P the frame has the index's reference and ours, no other: reads, writes
 *     and faults in flight hold one, and new ones need P
 *   4 contents, marks, place; then the index names the new frame
 *
 * A fault that got the old frame before 3 makes 3 fail; one that comes after 4 gets the
 * new one.  In step 2 entries may have been lost for nothing: they come back by faults.
 */
#include "objects.h"

/* Marks that describe the contents, not the frame. */
#define MOVED_MARKS                                                                               \
    (QR_FRAME_UPTODATE | QR_FRAME_DIRTY | QR_FRAME_REFERENCED | QR_FRAME_ERROR | QR_FRAME_SHMEM | \
     QR_FRAME_STORED | QR_FRAME_WORKINGSET | QR_FRAME_ACTIVE)

/* Step 3 and 4.  P. */
static bool
page_replace(struct qr_object *object, size_t index, struct qr_frame *frame,
             struct qr_frame *target)
{
    struct qr_frames *frames = object->machine->frames;
    uint32_t flags = atomic_load_explicit(&frame->flags, memory_order_acquire);

    if (qr_radix_get(&object->pages, index) != frame ||
        atomic_load_explicit(&frame->refs, memory_order_acquire) != 2 ||
        atomic_load_explicit(&frame->maps, memory_order_relaxed) != 0)
        return false;
    qr_object_break_block(object, index);
    qr_frame_copy(frames, target, frame);
    qr_frame_set_type(target, QR_FRAME_OBJECT);
    atomic_fetch_or_explicit(&target->flags, flags & MOVED_MARKS, memory_order_relaxed);
    qr_group_move_frame(frame, target);
    atomic_store_explicit(&target->index, index, memory_order_relaxed);
    atomic_store_explicit(&target->owner, object, memory_order_release);
    qr_radix_replace(&object->pages, index, target);
    atomic_store(&frame->owner, NULL);
    return true;
}

enum qr_status
qr_object_move_page(struct qr_object *object, size_t index, struct qr_frame *frame,
                    struct qr_frame *target)
{
    struct qr_frames *frames = object->machine->frames;
    bool moved = false;

    qr_spin_lock(&object->lock);
    bool ours = qr_radix_get(&object->pages, index) == frame;

    if (ours)
        qr_frame_get(frame);
    qr_spin_unlock(&object->lock);
    if (!ours)
        return QR_ERR_BUSY;
    if (qr_page_try_lock(frame)) {
        uint32_t flags = atomic_load_explicit(&frame->flags, memory_order_acquire);

        if ((flags & QR_FRAME_UPTODATE) && !(flags & (QR_FRAME_WRITEBACK | QR_FRAME_PINNED)) &&
            atomic_load_explicit(&frame->refs, memory_order_relaxed) ==
                2 + atomic_load_explicit(&frame->maps, memory_order_relaxed)) {
            qr_object_unmap(object, index, index + 1, false);
            qr_spin_lock(&object->lock);
            moved = page_replace(object, index, frame, target);
            qr_spin_unlock(&object->lock);
        }
        qr_page_unlock(frame);
    }
    qr_frame_put(frames, frame);
    return moved ? QR_OK : QR_ERR_BUSY;
}

/* The index has one reference, each mapping one; what is in swap is held by nobody else. */
static bool
page_is_held(struct qr_object *object, size_t index)
{
    qr_spin_lock(&object->lock);
    const struct qr_frame *frame = qr_object_frame_at(object, index);
    bool held = frame != NULL && atomic_load_explicit(&frame->refs, memory_order_acquire) >
                                     1 + atomic_load_explicit(&frame->maps, memory_order_relaxed);

    qr_spin_unlock(&object->lock);
    return held;
}

bool
qr_object_is_held(struct qr_object *object)
{
    for (size_t index = 0; qr_object_next_present(object, index, &index); index++) {
        if (page_is_held(object, index))
            return true;
    }
    return false;
}

struct qr_object *
qr_objects_find(struct qr_objects *objects, const void *address)
{
    struct qr_object *found = NULL;

    qr_spin_lock(&objects->lock);
    qr_list_for_each(node, &objects->all)
    {
        struct qr_object *object = qr_list_entry(node, struct qr_object, link);
        uint32_t refs = atomic_load_explicit(&object->refs, memory_order_relaxed);

        if (object != address)
            continue;
        /* One without references is on its way out. */
        while (refs != 0 &&
               !atomic_compare_exchange_weak_explicit(&object->refs, &refs, refs + 1,
                                                      memory_order_relaxed, memory_order_relaxed)) {
        }
        found = refs != 0 ? object : NULL;
        break;
    }
    qr_spin_unlock(&objects->lock);
    return found;
}
