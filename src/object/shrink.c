/* SPDX-License-Identifier: MIT */
/*
 * Pages of objects that can go, without anybody's reference but the index's and those of table
 * entries: clean ones of files, and of shared memory all, if there is swap.
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
 * What a locked mapping shows stays where it is: its entry is not taken out, so its reference remains.
 *
 * Pages of shared memory go to the swap cache in step 4 (swap.c), and are written when nothing is locked any more.  Before
 * step 2 the entries are asked whether they were used since the last look, as src/space/swap.c has it for private
 * memory; what read() and write() use is marked.  Each object is a clock with a hand of its own.
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
    bool known, may_go;   /* of that group */
    bool counted;         /* it was told that it is reclaimed although it is below `low` */
    struct qr_swap *swap; /* shared memory is looked for, which goes there; NULL: files */
    bool full;            /* it has no room any more */
    bool lone;            /* only what just one entry maps, whether it was used or not */
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

/* Pages of shared memory that read() or write() used since the last look stay once. */
static bool
page_may_swap(const struct shrink *shrink, struct qr_frame *frame)
{
    if ((page_flags(frame) & (QR_FRAME_UPTODATE | QR_FRAME_ERROR)) != QR_FRAME_UPTODATE)
        return false;
    return shrink->lone || (atomic_fetch_and_explicit(&frame->flags, ~(uint32_t)QR_FRAME_REFERENCED,
                                                      memory_order_relaxed) &
                            QR_FRAME_REFERENCED) == 0;
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
           (shrink->lone ? maps == 1 : shrink->mapped || maps == 0) &&
           atomic_load_explicit(&frame->refs, memory_order_relaxed) == 2 + maps &&
           (shrink->swap == NULL || page_may_swap(shrink, frame)) &&
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

/* Step 1: look from *@index on, for @pages at most.  @return whether the object goes on, before @last */
static bool
victims_find(struct victims *victims, struct shrink *shrink, struct qr_object *object,
             size_t *index, size_t last, size_t pages)
{
    struct qr_frame *frame;

    victims->count = 0;
    victims->any_mapped = false;
    while (victims->count < SHRINK_RUN && victims->count < pages) {
        frame = *index < last ? qr_object_next_page(object, index) : NULL;
        if (frame == NULL)
            return false;
        if (*index < last && qr_page_try_lock(frame)) {
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

/* The mapping lock is held: which of them are used, bit by bit? */
static uint32_t
victims_age(const struct victims *victims, struct qr_object *object, struct qr_tlb_gather *gather)
{
    const struct qr_mapping_ops *ops = object->machine->mapping_ops;
    uint32_t used = 0;
    unsigned run;

    QR_STATIC_ASSERT(SHRINK_RUN <= 32, "bits of a word");
    qr_list_for_each(node, &object->mappings)
    {
        struct qr_mapping *mapping = qr_list_entry(node, struct qr_mapping, link);

        for (unsigned i = 0; i < victims->count; i += run) {
            size_t first = victims->pages[i].index;
            size_t from = first, to;

            run = victims_run(victims, i);
            to = from + run;
            if (mapping_overlap(mapping, &from, &to))
                used |= ops->age(mapping, from, to, gather) << (i + (from - first));
        }
    }
    return used;
}

/* These stay. */
static void
victims_spare(struct victims *victims, struct qr_object *object, uint32_t used)
{
    unsigned left = 0;

    for (unsigned i = 0; i < victims->count; i++) {
        if ((used >> i & 1) == 0) {
            victims->pages[left++] = victims->pages[i];
            continue;
        }
        qr_page_unlock(victims->pages[i].frame);
        qr_frame_put(object->machine->frames, victims->pages[i].frame);
    }
    victims->count = left;
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
victims_try_unmap(const struct shrink *shrink, struct victims *victims, struct qr_object *object)
{
    struct qr_tlb_gather gather;

    if (!victims->any_mapped || !qr_mutex_try_lock(&object->mappings_lock))
        return;
    qr_tlb_gather_init(&gather);
    if (shrink->swap != NULL && !shrink->lone)
        victims_spare(victims, object, victims_age(victims, object, &gather));
    qr_list_for_each(node, &object->mappings)
    {
        struct qr_mapping *mapping = qr_list_entry(node, struct qr_mapping, link);

        if (!mapping->locked)
            victims_unmap_from(victims, object->machine->mapping_ops, mapping, &gather);
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

/* The same to swap.  @return how many were freed */
static size_t
victims_swap(struct shrink *shrink, const struct victims *victims, struct qr_object *object)
{
    qr_slot slots[SHRINK_RUN];
    size_t count = 0;

    for (unsigned i = 0; i < victims->count; i++) {
        struct qr_frame *frame = victims->pages[i].frame;
        enum qr_status status =
            shrink->full ? QR_ERR_BUSY
                         : qr_object_put_out(object, victims->pages[i].index, frame, &slots[count]);

        count += status == QR_OK;
        shrink->full = shrink->full || status == QR_ERR_NO_MEMORY;
        qr_page_unlock(frame);
        qr_frame_put(object->machine->frames, frame);
    }
    return qr_swap_write(shrink->swap, slots, count);
}

/* Pages of [*index, last) go, @pages at most.  Sets *index to where it ended.  @return how many */
static size_t
object_shrink(struct shrink *shrink, struct qr_object *object, size_t *index, size_t last,
              size_t pages)
{
    struct victims victims;
    size_t dropped = 0;
    bool more = true;

    while (more && dropped < pages && !shrink->full) {
        more = victims_find(&victims, shrink, object, index, last, pages - dropped);
        victims_try_unmap(shrink, &victims, object);
        dropped += shrink->swap == NULL ? victims_drop(shrink, &victims, object)
                                        : victims_swap(shrink, &victims, object);
    }
    return dropped;
}

/* From where the hand is, and round to it again at most. */
static size_t
object_swap(struct shrink *shrink, struct qr_object *object, size_t pages)
{
    size_t hand = atomic_load_explicit(&object->swap_at, memory_order_relaxed), index = hand;
    size_t freed = object_shrink(shrink, object, &index, SIZE_MAX, pages);

    if (freed < pages && !shrink->full && hand != 0) {
        index = 0;
        freed += object_shrink(shrink, object, &index, hand, pages - freed);
    }
    atomic_store_explicit(&object->swap_at, index, memory_order_relaxed);
    return freed;
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

static bool
may_swap(const struct qr_object *object)
{
    return qr_object_is_memory(object) && object->hugetlb == NULL &&
           !atomic_load_explicit(&object->kept, memory_order_relaxed);
}

/* Every object once. @return frames freed, @pages at most */
static size_t
objects_pass(struct shrink *shrink, struct qr_objects *objects, size_t pages)
{
    size_t count = qr_objects_count(objects);
    size_t dropped = 0;

    for (size_t i = 0; i < count && dropped < pages && !shrink->full; i++) {
        struct qr_object *object = qr_objects_turn(objects);
        size_t index = 0;

        if (object == NULL)
            continue;
        if (has_backing(object) && shrink->swap == NULL && qr_object_resident(object) > 0)
            dropped += object_shrink(shrink, object, &index, SIZE_MAX, pages - dropped);
        else if (shrink->swap != NULL && may_swap(object) && qr_object_resident(object) > 0)
            dropped += object_swap(shrink, object, pages - dropped);
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

size_t
qr_objects_swap_out(struct qr_objects *objects, size_t pages, struct qr_group *group,
                    enum qr_group_limit heeded, bool *out_full)
{
    struct shrink shrink = {
        .target = group, .heeded = heeded, .swap = objects->swap, .mapped = true, .why = ADVISED};
    size_t freed = objects->swap == NULL ? 0 : objects_pass(&shrink, objects, pages);

    *out_full = shrink.full;
    return freed;
}

void
qr_object_page_out(struct qr_object *object, size_t first, size_t last)
{
    struct shrink shrink = {.heeded = QR_GROUP_HIGH, .mapped = true, .lone = true, .why = ADVISED};
    size_t index = first;

    if (has_backing(object)) {
        (void)object_shrink(&shrink, object, &index, last, SIZE_MAX);
    } else if (may_swap(object) && object->machine->swap != NULL &&
               qr_swap_is_active(object->machine->swap)) {
        shrink.swap = object->machine->swap;
        (void)object_shrink(&shrink, object, &index, last, SIZE_MAX);
    }
}
