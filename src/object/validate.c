/* SPDX-License-Identifier: MIT */
/*
 * The invariants of object.c, checked.  Under the registry lock, each object's
 * own lock in turn would break the lock order (OBJECT before REGISTRY), so an
 * object is pinned and the registry lock dropped while it is looked at.
 */
#include "objects.h"

#include <quire/assert.h>
#include <quire/writer.h>

static bool
object_is_sound(struct qr_object *object, char *out_message, size_t bytes)
{
    size_t pages = object_pages(qr_object_bytes(object));
    size_t index = 0;
    size_t count = 0;
    size_t marks = 0;
    const struct qr_frame *frame;
    const char *broken = NULL;

    if (object->hugetlb != NULL)
        return qr_hugetlb_object_is_sound(object, out_message, bytes);
    qr_spin_lock(&object->lock);
    for (; broken == NULL && (frame = qr_radix_next(&object->pages, &index)) != NULL; index++) {
        if (item_is_mark(frame)) {
            marks++;
            if (index >= pages || object->machine->swap == NULL)
                broken = "3: a page in swap stands past the end, or there is no swap";
            continue;
        }
        count++;
        if (qr_object_is_memory(object) && (frame->flags & QR_FRAME_ERROR) != 0)
            continue; /* lost, and nobody's */
        if (qr_frame_type(frame) != QR_FRAME_OBJECT)
            broken = "1: a frame in the index has another type";
        else if (frame->owner != object || frame->index != index)
            broken = "1: a frame in the index belongs elsewhere";
        else if (frame->refs == 0)
            broken = "1: a frame in the index has no reference";
        else if (index >= pages)
            broken = "3: a page stands past the end";
        else if (qr_object_is_memory(object) && (frame->flags & QR_FRAME_UPTODATE) == 0)
            broken = "4: a memory object's page is not up to date";
    }
    if (broken == NULL && count != object->resident)
        broken = "2: the resident count is wrong";
    else if (broken == NULL && marks != object->swapped)
        broken = "2: the count of pages in swap is wrong";
    qr_spin_unlock(&object->lock);
    if (broken != NULL)
        qr_format(out_message, bytes, "object %p (%s), page %zu: invariant %s", (void *)object,
                  object->pager->name, index, broken);
    return broken == NULL;
}

/* Take a reference unless the object is on its way out. */
static bool
object_try_get(struct qr_object *object)
{
    uint32_t refs = atomic_load(&object->refs);

    while (refs != 0) {
        if (atomic_compare_exchange_weak(&object->refs, &refs, refs + 1))
            return true;
    }
    return false;
}

/* The object after @previous in the registry (the first for NULL), with a reference. */
static struct qr_object *
objects_next(struct qr_objects *objects, struct qr_object *previous)
{
    struct qr_object *next = NULL;

    qr_spin_lock(&objects->lock);
    struct qr_list *node = previous == NULL ? &objects->all : &previous->link;

    while (next == NULL && (node = node->next) != &objects->all) { /* NOLINT: a full circle */
        struct qr_object *object = qr_list_entry(node, struct qr_object, link);

        if (object_try_get(object))
            next = object;
    }
    qr_spin_unlock(&objects->lock);
    return next;
}

bool
qr_objects_validate(struct qr_objects *objects, char *out_message, size_t bytes)
{
    struct qr_object *object = objects_next(objects, NULL);
    bool sound = true;

    while (object != NULL && sound) {
        sound = object_is_sound(object, out_message, bytes);
        struct qr_object *next = sound ? objects_next(objects, object) : NULL;

        qr_object_put(object);
        object = next;
    }
    return sound;
}

bool
qr_objects_recount(struct qr_objects *objects, int delta)
{
    struct qr_object *object = objects_next(objects, NULL);
    bool enough = true;

    while (object != NULL) {
        enough = qr_object_recount(object, delta) && enough;
        struct qr_object *next = objects_next(objects, object);

        qr_object_put(object);
        object = next;
    }
    return enough;
}
