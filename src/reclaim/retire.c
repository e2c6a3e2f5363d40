/* SPDX-License-Identifier: MIT */
/*
 * Frames that are not to be used any more: memory that failed, or is about to.
 *
 *   keep   what is in it moves to another frame, as in any migration
 *   lose   the entry becomes a mark; who touches the page is told that it is poisoned
 *
 * Either way the old frame is given to nobody again: it stays allocated, without an owner, and is
 * counted (HardwareCorrupted).  Contents that several processes share since a fork are kept or lost in
 * all of them, unless one has moved its page elsewhere or somebody reads it.  A page of an object is lost
 * to all: one of a file is read again, but who had it mapped and had written to it is told; one of
 * shared memory stays lost (qr_object_lose_page()).
 */
#include "migrate.h"

#include <quire/assert.h>

#include "space/region.h"

/* The caller holds the frame's only reference. */
static void
retire_frame(struct qr_vm *vm, struct qr_frame *frame)
{
    qr_frame_uncharge(vm->config.frames, frame);
    qr_frame_set_type(frame, QR_FRAME_KERNEL);
    atomic_store_explicit(&frame->owner, NULL, memory_order_relaxed);
    qr_counter_add(vm->counters, QR_PAGES_CORRUPTED, 1);
}

static enum qr_status
retire_keep(struct qr_space *space, qr_va va, struct qr_frame *frame)
{
    struct qr_frames *frames = space->vm->config.frames;
    struct qr_frame *target =
        qr_frame_alloc(frames, QR_ALLOC_MOVABLE | QR_ALLOC_HIGH | QR_ALLOC_NO_REPORT);
    enum qr_status status;

    if (target == NULL)
        return QR_ERR_NO_MEMORY;
    status = qr_page_replace(space, va, frame, target);
    if (status == QR_OK)
        retire_frame(space->vm, frame);
    else if (status == QR_ERR_BUSY)
        qr_frame_put(frames, target);
    return status == QR_OK ? QR_OK : QR_ERR_BUSY;
}

static enum qr_status
retire_lose(struct qr_space *space, qr_va va, struct qr_frame *frame)
{
    enum qr_status status = QR_ERR_BUSY;

    qr_rw_read_lock(&space->lock);
    const struct qr_region *region = qr_space_find(space, va);

    if (region != NULL && region->start.v <= va.v)
        status = qr_page_poison(region, va, frame);
    qr_rw_read_unlock(&space->lock);
    if (status == QR_ERR_BUSY)
        status = qr_page_poison_shared(space->vm, va, frame);
    if (status == QR_OK)
        retire_frame(space->vm, frame);
    return status;
}

/* The object that @frame is a page of at @va, with a reference; NULL: it is none any more. */
static struct qr_object *
object_at(struct qr_space *space, qr_va va, size_t *out_index)
{
    struct qr_object *object = NULL;

    qr_rw_read_lock(&space->lock);
    const struct qr_region *region = qr_space_find(space, va);

    if (region != NULL && region->start.v <= va.v && region->object != NULL &&
        !qr_region_is_hugetlb(region)) {
        object = region->object;
        qr_object_get(object);
        *out_index = qr_region_object_page(region, va);
    }
    qr_rw_read_unlock(&space->lock);
    return object;
}

/* @frame has a reference, which goes with success. */
static enum qr_status
retire_object_page(struct qr_space *space, qr_va va, struct qr_frame *frame)
{
    enum qr_status status = QR_ERR_BUSY;
    bool dirty = false;
    size_t index;
    struct qr_object *object = object_at(space, va, &index);

    if (object == NULL)
        return status;
    status = qr_object_lose_page(object, index, frame, &dirty);
    if (status == QR_OK) {
        qr_frame_uncharge(space->vm->config.frames, frame);
        qr_counter_add(space->vm->counters, QR_PAGES_CORRUPTED, 1);
        if (dirty)
            qr_page_mark_poison(space, va);
    }
    qr_object_put(object);
    return status;
}

enum qr_status
qr_space_retire_page(struct qr_space *space, qr_va va, enum qr_retire how)
{
    struct qr_frame *frame;
    enum qr_status status = qr_space_get_frame(space, va, QR_ACCESS_READ, false, &frame);

    if (status != QR_OK)
        return status;
    if (how == QR_RETIRE_LOSE && qr_frame_type(frame) == QR_FRAME_OBJECT) {
        status = retire_object_page(space, va, frame);
        if (status != QR_OK)
            qr_frame_put(space->vm->config.frames, frame);
        return status;
    }
    /* A reference would stand in the way.  Without one it is a hint, which is looked at again. */
    qr_frame_put(space->vm->config.frames, frame);
    return how == QR_RETIRE_KEEP ? retire_keep(space, va, frame) : retire_lose(space, va, frame);
}
