/* SPDX-License-Identifier: MIT */
/*
 * Pages of files that can go: clean ones, without anybody's reference but the index's and those of
 * table entries.
 *
 * Objects are asked in turn: each is moved to the end of the registry's list when its turn comes, so
 * that one file does not pay for all.  First go pages that nobody maps; where that is too little,
 * mapped ones are taken out of every mapping and come back by faults.  Pages of groups below their `min`
 * stay, and so do those of groups below `low` unless nothing else is found; who drops caches by hand
 * protects nobody.
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

/* ---- What may go -------------------------------------------------------------------- */

/* What is asked for, and what was found out about the group of the last page. */
struct shrink {
    struct qr_group *target;                       /* its pages alone; NULL: any */
    enum { BY_HAND, ADVISED, BEHIND, DIRECT } why; /* the last two are reclaim */
    enum qr_group_limit heeded;                    /* LOW, MIN; HIGH: nobody is protected */
    bool mapped;
    struct qr_group *group;
    bool known, may_go; /* of that group */
    bool counted;       /* it was told that it is reclaimed although it is below `low` */
};

static bool
group_may_go(const struct shrink *shrink, const struct qr_group *group)
{
    if (shrink->target != NULL && (group == NULL || !qr_group_is_within(group, shrink->target)))
        return false;
    if (group == NULL || shrink->heeded > QR_GROUP_LOW)
        return true;
    return !qr_group_is_protected(group, QR_GROUP_MIN, shrink->target) &&
           (shrink->heeded != QR_GROUP_LOW ||
            !qr_group_is_protected(group, QR_GROUP_LOW, shrink->target));
}

/* May what @frame's group has go?  Pages that follow each other mostly belong together. */
static bool
charge_may_go(struct shrink *shrink, struct qr_groups *groups, const struct qr_frame *frame)
{
    struct qr_group *group = groups == NULL ? NULL : qr_group_of_frame(groups, frame);

    if (!shrink->known || group != shrink->group) {
        shrink->known = true;
        shrink->counted = false;
        shrink->group = group;
        shrink->may_go = group_may_go(shrink, group);
    }
    return shrink->may_go;
}

/* A page of the last group goes. */
static void
note_low(struct shrink *shrink)
{
    if (shrink->group == NULL || shrink->heeded != QR_GROUP_MIN || shrink->counted)
        return;
    shrink->counted = true;
    if (qr_group_is_protected(shrink->group, QR_GROUP_LOW, shrink->target))
        qr_group_count(shrink->group, QR_GROUP_EVENT_LOW);
}

/* Count something of a page of @group. */
static void
count_page(const struct shrink *shrink, struct qr_objects *objects, struct qr_group *group,
           enum qr_counter counter, enum qr_group_stat stat)
{
    if (shrink->why < BEHIND)
        return;
    qr_counter_add(qr_frames_counters(objects->frames), counter, 1);
    qr_group_add_stat(group, stat, 1);
}

static void
count_scan(const struct shrink *shrink, struct qr_objects *objects)
{
    bool behind = shrink->why == BEHIND;

    count_page(shrink, objects, shrink->group, behind ? QR_EVENT_SCAN_BEHIND : QR_EVENT_SCAN_DIRECT,
               behind ? QR_GROUP_STAT_SCAN_BEHIND : QR_GROUP_STAT_SCAN_DIRECT);
    if (shrink->why >= BEHIND)
        qr_counter_add(qr_frames_counters(objects->frames), QR_EVENT_SCAN_FILE, 1);
}

/* An active page is saved once.  (Who drops pages by hand saves nothing.) */
static bool
page_is_saved(const struct shrink *shrink, struct qr_object *object, struct qr_frame *frame)
{
    if (shrink->why < BEHIND || !qr_page_deactivate(object, frame))
        return false;
    atomic_fetch_or_explicit(&frame->flags, QR_FRAME_WORKINGSET, memory_order_relaxed);
    count_page(shrink, object->machine, shrink->group, QR_EVENT_REFILL, QR_GROUP_STAT_REFILL);
    return true;
}

/* Locked, and the caller has a reference. */
static bool
page_may_go(struct shrink *shrink, struct qr_object *object, struct qr_frame *frame)
{
    uint32_t maps = atomic_load_explicit(&frame->maps, memory_order_relaxed);
    uint32_t flags = page_flags(frame);

    if (!charge_may_go(shrink, object->machine->groups, frame))
        return false;
    count_scan(shrink, object->machine);
    return (flags & (QR_FRAME_DIRTY | QR_FRAME_WRITEBACK | QR_FRAME_PINNED | QR_FRAME_MLOCKED)) ==
               0 &&
           (shrink->mapped || maps == 0) &&
           atomic_load_explicit(&frame->refs, memory_order_relaxed) == 2 + maps &&
           ((flags & QR_FRAME_ACTIVE) == 0 || !page_is_saved(shrink, object, frame));
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
victims_find(struct victims *victims, struct shrink *shrink, struct qr_object *object,
             size_t *index, size_t pages)
{
    struct qr_frame *frame;

    victims->count = 0;
    victims->any_mapped = false;
    while (victims->count < SHRINK_RUN && victims->count < pages) {
        frame = qr_object_next_page(object, index);
        if (frame == NULL)
            return false;
        if (qr_page_try_lock(frame)) {
            if (page_may_go(shrink, object, frame)) {
                note_low(shrink);
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

/* @frame, with the caller's reference alone, was page @index. */
static void
note_gone(const struct shrink *shrink, struct qr_object *object, size_t index,
          const struct qr_frame *frame)
{
    struct qr_objects *objects = object->machine;
    bool behind = shrink->why == BEHIND;

    if (shrink->why == BY_HAND)
        return;
    if (shrink->why >= BEHIND && objects->groups != NULL)
        qr_group_add_stat(qr_group_of_frame(objects->groups, frame),
                          behind ? QR_GROUP_STAT_STEAL_BEHIND : QR_GROUP_STAT_STEAL_DIRECT, 1);
    qr_object_leave_shadow(object, index, (page_flags(frame) & QR_FRAME_WORKINGSET) != 0,
                           shrink->target);
}

/* Step 4.  @return how many were freed */
static size_t
victims_drop(const struct shrink *shrink, const struct victims *victims, struct qr_object *object)
{
    size_t dropped = 0;

    for (unsigned i = 0; i < victims->count; i++) {
        struct qr_frame *frame = victims->pages[i].frame;

        if (qr_object_drop_page(object, victims->pages[i].index, frame)) {
            note_gone(shrink, object, victims->pages[i].index, frame);
            dropped++;
        }
        qr_page_unlock(frame);
        qr_frame_put(object->machine->frames, frame);
    }
    return dropped;
}

/* @return frames freed, @pages at most */
static size_t
object_shrink(struct shrink *shrink, struct qr_object *object, size_t pages)
{
    struct victims victims;
    size_t index = 0;
    size_t dropped = 0;
    bool more = true;

    while (more && dropped < pages) {
        more = victims_find(&victims, shrink, object, &index, pages - dropped);
        victims_try_unmap(&victims, object);
        dropped += victims_drop(shrink, &victims, object);
    }
    return dropped;
}

/* ---- Objects in turn --------------------------------------------------------------- */

struct qr_object *
qr_objects_turn(struct qr_objects *objects)
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

size_t
qr_objects_count(struct qr_objects *objects)
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

/* Every object once. @return frames freed, @pages at most */
static size_t
objects_pass(struct shrink *shrink, struct qr_objects *objects, size_t pages)
{
    size_t count = qr_objects_count(objects);
    size_t dropped = 0;

    for (size_t i = 0; i < count && dropped < pages; i++) {
        struct qr_object *object = qr_objects_turn(objects);

        if (object == NULL)
            continue;
        if (has_backing(object) && qr_object_resident(object) > 0)
            dropped += object_shrink(shrink, object, pages - dropped);
        qr_object_put(object);
    }
    return dropped;
}

size_t
qr_objects_shrink(struct qr_objects *objects, size_t pages, enum qr_shrink_which which,
                  struct qr_group *group)
{
    struct shrink shrink = {.target = group, .heeded = QR_GROUP_HIGH};
    size_t dropped;

    qr_objects_bound_shadows(objects);
    shrink.why = which == QR_SHRINK_UNMAPPED ? BY_HAND
                 : which == QR_SHRINK_BEHIND ? BEHIND
                                             : DIRECT;
    if (which == QR_SHRINK_UNMAPPED)
        return objects_pass(&shrink, objects, pages);
    shrink.heeded = QR_GROUP_LOW;
    dropped = objects_pass(&shrink, objects, pages);
    shrink.mapped = true;
    if (dropped < pages)
        dropped += objects_pass(&shrink, objects, pages - dropped);
    if (dropped > 0)
        return dropped;
    /* There is nothing else. */
    shrink.heeded = QR_GROUP_MIN;
    shrink.known = false;
    return objects_pass(&shrink, objects, pages);
}

void
qr_object_page_out(struct qr_object *object, size_t index, struct qr_frame *frame)
{
    struct shrink shrink = {.heeded = QR_GROUP_HIGH, .mapped = true, .why = ADVISED};
    struct victims victims = {.count = 1, .any_mapped = true, .pages = {{index, frame}}};

    if (!has_backing(object) || atomic_load_explicit(&frame->maps, memory_order_relaxed) != 1 ||
        !qr_page_try_lock(frame))
        return;
    qr_frame_get(frame);
    (void)qr_page_deactivate(object, frame);
    if (qr_object_page_is_current(object, index, frame) && page_may_go(&shrink, object, frame)) {
        victims_try_unmap(&victims, object);
        (void)victims_drop(&shrink, &victims, object); /* which unlocks it and puts the reference */
        return;
    }
    qr_page_unlock(frame);
    qr_frame_put(object->machine->frames, frame);
}
