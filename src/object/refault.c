/* SPDX-License-Identifier: MIT */
/*
 * Pages of files that come back soon after reclaim has dropped them.
 *
 * Where reclaim drops a page it leaves a shadow in a second index of the object:
 *
 *     age of the clock | group | was active | 1        in one word
 *
 * The clock ticks once for each page that goes, for the machine and for each group whose memory was
 * short then.  When the page is read again, the ticks since then say how many others have gone in
 * between: its refault distance.  If that is no more than the pages of files that are in memory now, what is
 * in use does not fit, and the page is part of it: it becomes active, which saves it once when reclaim
 * meets it (shrink.c).  One that was active when it went has cost its readers time for want of
 * memory: whoever waits for it is stalled for memory (qr_objects_set_stall()).
 *
 * Linux compares with its list of active pages (mm/workingset.c); without such lists, all pages of files
 * stand for it.
 *
 * Shadows are dropped with their object, by truncation, and by who drops pages by hand.  Their indexes have
 * at most a node for each NODE_SHARE frames of the machine: once they have, the next reclaim first drops
 * all shadows of the objects whose turn it is.  A shadow is an observation, not a promise: without memory
 * for it there is none.
 *
 * Locks: P for the shadows of an object, as for its pages.
 */
#include "objects.h"

#include <quire/assert.h>

#define NODE_SHARE  32u
#define NODES_LEAST 64u

/* A shadow's fields, from the lowest bit on. */
#define SHADOW_IS      1u
#define SHADOW_ACTIVE  2u
#define SHADOW_GROUP   2u /* shift */
#define SHADOW_AGE     12u
#define SHADOW_COARSE  (sizeof(size_t) == 8 ? 0u : 4u) /* bits of the clock that are not kept */
#define SHADOW_NUMBERS ((1u << (SHADOW_AGE - SHADOW_GROUP)) - 1)
QR_STATIC_ASSERT(QR_GROUPS_MAX <= SHADOW_NUMBERS, "a shadow names any group");

static struct qr_counters *
counters_of(const struct qr_object *object)
{
    return qr_frames_counters(object->machine->frames);
}

/* ---- The clock ---------------------------------------------------------------------- */

static size_t
clock_now(const struct qr_objects *objects, const struct qr_group *group)
{
    return group == NULL ? atomic_load_explicit(&objects->clock, memory_order_relaxed)
                         : qr_group_clock(group);
}

static void
clock_tick(struct qr_objects *objects, struct qr_group *group)
{
    atomic_fetch_add_explicit(&objects->clock, 1, memory_order_relaxed);
    qr_group_tick(group);
}

static uintptr_t
shadow_make(const struct qr_objects *objects, const struct qr_group *target, bool active)
{
    unsigned number = target == NULL ? 0 : qr_group_number(target);

    return (uintptr_t)(clock_now(objects, target) >> SHADOW_COARSE) << SHADOW_AGE |
           (uintptr_t)number << SHADOW_GROUP | (active ? SHADOW_ACTIVE : 0u) | SHADOW_IS;
}

/* Would the page have stayed, had there been as much memory again for files? */
static bool
shadow_is_recent(const struct qr_objects *objects, uintptr_t shadow)
{
    unsigned number = (unsigned)(shadow >> SHADOW_GROUP) & SHADOW_NUMBERS;
    struct qr_group *group =
        number == 0 || objects->groups == NULL ? NULL : qr_group_of_number(objects->groups, number);
    size_t now = clock_now(objects, group) >> SHADOW_COARSE;
    size_t distance = (now - (shadow >> SHADOW_AGE)) & (SIZE_MAX >> SHADOW_AGE);
    struct qr_group_pages pages;

    if (group == NULL)
        pages.file = (size_t)qr_counter_read(qr_frames_counters(objects->frames), QR_PAGES_FILE);
    else
        qr_group_pages(group, &pages);
    return distance <= pages.file >> SHADOW_COARSE;
}

/* ---- Nodes -------------------------------------------------------------------------- */

static void
nodes_count(struct qr_object *object, long delta)
{
    atomic_fetch_add_explicit(&object->machine->shadow_nodes, (size_t)delta, memory_order_relaxed);
    qr_counter_add(counters_of(object), QR_SHADOW_NODES, delta);
}

/* The shadow at @index goes.  P.  @return it, or 0 */
static uintptr_t
shadow_take(struct qr_object *object, size_t index)
{
    unsigned nodes = qr_radix_nodes_alone(&object->shadows, index);
    void *shadow = qr_radix_remove(&object->shadows, index, object->machine->nodes);

    if (nodes != 0)
        nodes_count(object, -(long)nodes);
    return (uintptr_t)shadow;
}

/* How many are dropped under one lock. */
#define DROP_BATCH 64u

void
qr_object_drop_shadows_slowly(struct qr_object *object, size_t first, size_t last)
{
    size_t index = first;
    bool more = true;

    while (more) {
        qr_spin_lock(&object->lock);
        for (unsigned i = 0; more && i < DROP_BATCH; i++) {
            more = qr_radix_next(&object->shadows, &index) != NULL && index < last;
            if (more)
                (void)shadow_take(object, index);
        }
        qr_spin_unlock(&object->lock);
    }
}

void
qr_objects_bound_shadows(struct qr_objects *objects)
{
    struct qr_frames_stats stats;
    size_t before = atomic_load_explicit(&objects->shadow_nodes, memory_order_relaxed);
    size_t now = before, most;

    qr_frames_stats(objects->frames, &stats);
    most = stats.total / NODE_SHARE > NODES_LEAST ? stats.total / NODE_SHARE : NODES_LEAST;
    atomic_store_explicit(&objects->shadow_nodes_most, most, memory_order_relaxed);
    if (before < most)
        return;
    for (size_t left = qr_objects_count(objects); left > 0 && now >= most - most / 8; left--) {
        struct qr_object *object = qr_objects_turn(objects);

        if (object == NULL)
            continue;
        qr_object_drop_shadows(object, 0, SIZE_MAX);
        qr_object_put(object);
        now = atomic_load_explicit(&objects->shadow_nodes, memory_order_relaxed);
    }
    if (now < before)
        qr_counter_add(qr_frames_counters(objects->frames), QR_EVENT_NODE_RECLAIM,
                       (long)(before - now));
}

/* ---- Going and coming back ------------------------------------------------------------ */

/* @return false: it wants another node */
static bool
shadow_put(struct qr_object *object, size_t index, uintptr_t shadow, struct radix_spares *spares)
{
    unsigned had = spares->count;
    bool done = true;

    qr_spin_lock(&object->lock);
    /* It may be back already, or beyond an end that was cut just now. */
    if (qr_radix_get(&object->pages, index) == NULL &&
        index < object_pages(qr_object_bytes(object))) {
        if (qr_radix_get(&object->shadows, index) != NULL)
            qr_radix_replace(&object->shadows, index, (void *)shadow);
        else if (had < qr_radix_nodes_needed(&object->shadows, index))
            done = false;
        else
            qr_radix_insert(&object->shadows, index, (void *)shadow, spares);
        if (spares->count != had)
            nodes_count(object, (long)had - (long)spares->count);
    }
    qr_spin_unlock(&object->lock);
    return done;
}

void
qr_object_leave_shadow(struct qr_object *object, size_t index, bool active, struct qr_group *target)
{
    struct qr_objects *objects = object->machine;
    uintptr_t shadow = shadow_make(objects, target, active);
    struct radix_spares spares = {.count = 0};

    clock_tick(objects, target);
    while (!shadow_put(object, index, shadow, &spares)) {
        if (atomic_load_explicit(&objects->shadow_nodes, memory_order_relaxed) >=
                atomic_load_explicit(&objects->shadow_nodes_most, memory_order_relaxed) ||
            !qr_radix_spares_fill(&spares, spares.count + 1, objects->nodes,
                                  QR_ALLOC_ATOMIC | QR_ALLOC_NO_REPORT))
            break;
    }
    qr_radix_spares_release(&spares, objects->nodes);
}

void
qr_object_meet_shadow_slowly(struct qr_object *object, size_t index, struct qr_frame *frame)
{
    struct qr_objects *objects = object->machine;
    struct qr_group *group =
        objects->groups == NULL ? NULL : qr_group_of_frame(objects->groups, frame);
    uint32_t marks = QR_FRAME_ACTIVE;
    uintptr_t shadow;

    qr_spin_lock(&object->lock);
    shadow = shadow_take(object, index);
    qr_spin_unlock(&object->lock);
    if (shadow == 0)
        return;
    qr_counter_add(counters_of(object), QR_EVENT_REFAULT_FILE, 1);
    qr_group_add_stat(group, QR_GROUP_STAT_REFAULT, 1);
    if (!shadow_is_recent(objects, shadow))
        return;
    clock_tick(objects, group);
    qr_counter_add(counters_of(object), QR_EVENT_ACTIVATE_FILE, 1);
    qr_group_add_stat(group, QR_GROUP_STAT_ACTIVATE, 1);
    if ((shadow & SHADOW_ACTIVE) != 0) {
        marks |= QR_FRAME_WORKINGSET;
        qr_counter_add(counters_of(object), QR_EVENT_RESTORE_FILE, 1);
        qr_group_add_stat(group, QR_GROUP_STAT_RESTORE, 1);
    }
    qr_counter_add(counters_of(object), QR_PAGES_ACTIVE_FILE, 1);
    atomic_fetch_or_explicit(&frame->flags, marks, memory_order_relaxed);
}

bool
qr_page_deactivate(struct qr_object *object, struct qr_frame *frame)
{
    uint32_t before =
        atomic_fetch_and_explicit(&frame->flags, ~(uint32_t)QR_FRAME_ACTIVE, memory_order_relaxed);

    if ((before & QR_FRAME_ACTIVE) != 0)
        qr_counter_add(counters_of(object), QR_PAGES_ACTIVE_FILE, -1);
    return (before & QR_FRAME_ACTIVE) != 0;
}

/* ---- For calls and reports ------------------------------------------------------------ */

void
qr_object_count_evicted(struct qr_object *object, size_t first, size_t last,
                        struct qr_object_evicted *out_evicted)
{
    size_t index = first;
    bool more = true;

    *out_evicted =
        (struct qr_object_evicted){.pages = qr_object_count_swapped(object, first, last)};
    while (more) {
        qr_spin_lock(&object->lock);
        for (unsigned i = 0; more && i < DROP_BATCH; i++) {
            uintptr_t shadow = (uintptr_t)qr_radix_next(&object->shadows, &index);

            more = shadow != 0 && index < last;
            if (more && qr_radix_get(&object->pages, index) == NULL) {
                out_evicted->pages++;
                out_evicted->recently += shadow_is_recent(object->machine, shadow);
            }
            index++;
        }
        qr_spin_unlock(&object->lock);
    }
}

void
qr_objects_set_stall(struct qr_objects *objects, qr_stall_fn stall)
{
    atomic_store_explicit(&objects->stall, stall, memory_order_release);
}

/* Wait for @frame, whose contents may be on their way. */
void
qr_object_lock_page(struct qr_object *object, struct qr_frame *frame)
{
    const uint32_t looked_at = QR_FRAME_WORKINGSET | QR_FRAME_SHMEM | QR_FRAME_UPTODATE;
    qr_stall_fn stall = atomic_load_explicit(&object->machine->stall, memory_order_acquire);

    if (stall != NULL && (page_flags(frame) & looked_at) == QR_FRAME_WORKINGSET)
        stall(qr_page_lock, frame);
    else
        qr_page_lock(frame);
}
