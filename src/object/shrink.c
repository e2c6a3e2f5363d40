/* SPDX-License-Identifier: MIT */
/*
 * Pages of files that can go: clean ones, without anybody's reference but the index's and those of
 * table entries.
 *
 * Objects are asked in turn: each is moved to the end of the registry's list when its turn comes, so
 * that one file does not pay for all.  First go pages that nobody maps; where that is too little,
 * mapped ones are taken out of every mapping and come back by faults.
 *
 * Pages go in runs of up to SHRINK_RUN, so that one shootdown does for all of a run and for
 * everybody who maps it:
 *
 *   1 lock pages that may go               they stay in the index, for faults in between, too
 *   2 take them out of every mapping       the gathering has the references of the entries
 *   3 flush, once
 *   4 drop those that nobody uses          under P, as ever: the index's reference and ours
 *
 * Nothing here waits: a page or a list of mappings that is locked is left alone, since whoever asks for
 * memory may hold the lock.
 */
#include "objects.h"

static bool
group_is_below(const struct qr_group *group, const struct qr_group *top)
{
    while (group != NULL && group != top)
        group = qr_group_parent(group);
    return group != NULL;
}

/* Locked, and the caller has a reference. */
static bool
page_may_go(struct qr_object *object, const struct qr_frame *frame, const struct qr_group *group,
            bool mapped)
{
    uint32_t maps = atomic_load_explicit(&frame->maps, memory_order_relaxed);

    return (page_flags(frame) &
            (QR_FRAME_DIRTY | QR_FRAME_WRITEBACK | QR_FRAME_PINNED | QR_FRAME_MLOCKED)) == 0 &&
           (mapped || maps == 0) &&
           atomic_load_explicit(&frame->refs, memory_order_relaxed) == 2 + maps &&
           (group == NULL ||
            group_is_below(qr_group_of_frame(object->machine->groups, frame), group));
}

/* ---- A run of pages --------------------------------------------------------------- */

#define SHRINK_RUN QR_GATHER_FRAMES

/* Pages on their way out, each locked and with a reference, in the order of their places. */
struct victims {
    unsigned count;
    bool any_mapped;
    struct {
        size_t index;
        struct qr_frame *frame;
    } pages[SHRINK_RUN];
};

/* Step 1: look from *@index on, for @pages at most.  @return whether the object goes on behind */
static bool
victims_find(struct victims *victims, struct qr_object *object, size_t *index, size_t pages,
             const struct qr_group *group, bool mapped)
{
    struct qr_frame *frame;

    victims->count = 0;
    victims->any_mapped = false;
    while (victims->count < SHRINK_RUN && victims->count < pages) {
        frame = qr_object_next_page(object, index);
        if (frame == NULL)
            return false;
        if (qr_page_try_lock(frame)) {
            if (page_may_go(object, frame, group, mapped)) {
                victims->any_mapped |= atomic_load_explicit(&frame->maps, memory_order_relaxed) > 0;
                victims->pages[victims->count].index = (*index)++;
                victims->pages[victims->count++].frame = frame;
                continue;
            }
            qr_page_unlock(frame);
        }
        qr_frame_put(object->machine->frames, frame);
        (*index)++;
    }
    return true;
}

/* How many of them lie side by side from @first on. */
static unsigned
victims_run(const struct victims *victims, unsigned first)
{
    unsigned count = 1;

    while (first + count < victims->count &&
           victims->pages[first + count].index == victims->pages[first].index + count)
        count++;
    return count;
}

/* Step 2, of one mapping. */
static void
victims_unmap_from(const struct victims *victims, const struct qr_mapping_ops *ops,
                   struct qr_mapping *mapping, struct qr_tlb_gather *gather)
{
    unsigned run;

    for (unsigned i = 0; i < victims->count; i += run) {
        size_t from = victims->pages[i].index;
        size_t to;

        run = victims_run(victims, i);
        to = from + run;
        if (mapping_overlap(mapping, &from, &to))
            ops->unmap(mapping, from, to, false, gather);
    }
}

/* Steps 2 and 3.  Where the lock is taken, pages that are mapped stay: their entries have references. */
static void
victims_try_unmap(const struct victims *victims, struct qr_object *object)
{
    struct qr_tlb_gather gather;

    if (!victims->any_mapped || !qr_mutex_try_lock(&object->mappings_lock))
        return;
    qr_tlb_gather_init(&gather);
    qr_list_for_each(node, &object->mappings)
    {
        victims_unmap_from(victims, object->machine->mapping_ops,
                           qr_list_entry(node, struct qr_mapping, link), &gather);
    }
    qr_tlb_gather_finish(&gather);
    qr_mutex_unlock(&object->mappings_lock);
}

/* Step 4.  @return how many were freed */
static size_t
victims_drop(const struct victims *victims, struct qr_object *object)
{
    size_t dropped = 0;

    for (unsigned i = 0; i < victims->count; i++) {
        struct qr_frame *frame = victims->pages[i].frame;

        dropped += qr_object_drop_page(object, victims->pages[i].index, frame);
        qr_page_unlock(frame);
        qr_frame_put(object->machine->frames, frame);
    }
    return dropped;
}

/* @return frames freed, @pages at most */
static size_t
object_shrink(struct qr_object *object, size_t pages, const struct qr_group *group, bool mapped)
{
    struct victims victims;
    size_t index = 0;
    size_t dropped = 0;
    bool more = true;

    while (more && dropped < pages) {
        more = victims_find(&victims, object, &index, pages - dropped, group, mapped);
        victims_try_unmap(&victims, object);
        dropped += victims_drop(&victims, object);
    }
    return dropped;
}

/* ---- Objects in turn --------------------------------------------------------------- */

/* The object whose turn it is, with a reference; NULL: this one is on its way out. */
static struct qr_object *
objects_turn(struct qr_objects *objects)
{
    struct qr_object *found = NULL;

    qr_spin_lock(&objects->lock);
    if (!qr_list_is_empty(&objects->all)) {
        struct qr_object *object = qr_list_entry(objects->all.next, struct qr_object, link);
        uint32_t refs = atomic_load_explicit(&object->refs, memory_order_relaxed);

        qr_list_remove(&object->link);
        qr_list_push_back(&objects->all, &object->link);
        while (refs != 0 &&
               !atomic_compare_exchange_weak_explicit(&object->refs, &refs, refs + 1,
                                                      memory_order_relaxed, memory_order_relaxed)) {
        }
        found = refs != 0 ? object : NULL;
    }
    qr_spin_unlock(&objects->lock);
    return found;
}

static size_t
objects_count(struct qr_objects *objects)
{
    size_t count = 0;

    qr_spin_lock(&objects->lock);
    qr_list_for_each(link, &objects->all) count++;
    qr_spin_unlock(&objects->lock);
    return count;
}

static bool
has_backing(const struct qr_object *object)
{
    return object->pager->start_write != NULL || object->pager->read_page != NULL;
}

size_t
qr_objects_shrink(struct qr_objects *objects, size_t pages, enum qr_shrink_which which,
                  const struct qr_group *group)
{
    size_t count = objects_count(objects);
    size_t dropped = 0;

    for (unsigned mapped = 0; mapped <= (which == QR_SHRINK_ALL) && dropped < pages; mapped++) {
        for (size_t i = 0; i < count && dropped < pages; i++) {
            struct qr_object *object = objects_turn(objects);

            if (object == NULL)
                continue;
            if (has_backing(object) && qr_object_resident(object) > 0)
                dropped += object_shrink(object, pages - dropped, group, mapped != 0);
            qr_object_put(object);
        }
    }
    return dropped;
}
