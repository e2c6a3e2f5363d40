/* SPDX-License-Identifier: MIT */
/*
 * Huge pages of shared memory.
 *
 *   index   . | 512  513  514 ...  1023 | .        one frame a place, as ever
 *   frame       f    f+1  f+2 ...  f+511           f on a border of so many
 *
 * What makes them one huge page is only where the frames lie: each place has a frame with a
 * reference of its own, so reads, writes, holes, truncation and moves know nothing of blocks.
 * A block whose places all have their frames is marked in its first frame (QR_FRAME_BLOCK), and may
 * then be mapped by large leaves.  The first page that leaves takes the mark away.
 *
 * A block comes whole by a fault where none of its pages is there, or by collapse: frames for all
 * of it are taken, and each page moves into its own.  A collapse that stops half way has moved some
 * pages, which harms nobody.
 *
 * Locks: P guards the mark and block_count.  The policy is atomic.
 */
#include "objects.h"

#include <quire/assert.h>

/* How often a place that fills or empties under a collapse is looked at again. */
#define COLLAPSE_TRIES 4

/* ---- Policy --------------------------------------------------------------------- */

void
qr_objects_set_huge(struct qr_objects *objects, enum qr_shared_huge mode)
{
    qr_assert(mode != QR_SHARED_HUGE_DEFAULT);
    atomic_store_explicit(&objects->huge_mode, (unsigned)mode, memory_order_relaxed);
}

enum qr_shared_huge
qr_objects_huge(const struct qr_objects *objects)
{
    return (enum qr_shared_huge)atomic_load_explicit(&objects->huge_mode, memory_order_relaxed);
}

void
qr_object_set_huge(struct qr_object *object, enum qr_shared_huge mode)
{
    qr_assert(mode <= QR_SHARED_HUGE_ALWAYS);
    atomic_store_explicit(&object->huge_mode, (unsigned)mode, memory_order_relaxed);
}

bool
qr_object_may_be_huge(const struct qr_object *object)
{
    return object->pager == &qr_pager_memory &&
           qr_objects_huge(object->machine) != QR_SHARED_HUGE_DENY;
}

bool
qr_object_wants_huge(const struct qr_object *object, bool advised)
{
    enum qr_shared_huge all = qr_objects_huge(object->machine);
    enum qr_shared_huge own =
        (enum qr_shared_huge)atomic_load_explicit(&object->huge_mode, memory_order_relaxed);

    if (!qr_object_may_be_huge(object))
        return false;
    if (own == QR_SHARED_HUGE_DEFAULT || all == QR_SHARED_HUGE_FORCE)
        own = all;
    return own == QR_SHARED_HUGE_FORCE || own == QR_SHARED_HUGE_ALWAYS ||
           (own == QR_SHARED_HUGE_ADVISED && advised);
}

/* ---- The mark ------------------------------------------------------------------- */

static struct qr_frame *
block_frame(struct qr_object *object, struct qr_frame *head, size_t i)
{
    return qr_frame_nth(object->machine->frames, head, i);
}

/* P. */
static void
block_count(struct qr_object *object, int delta)
{
    atomic_fetch_add_explicit(&object->block_count, (size_t)delta, memory_order_relaxed);
    qr_counter_add(qr_frames_counters(object->machine->frames), QR_PAGES_THP_SHMEM,
                   delta * (long)object->block_pages);
}

/* Every place of the block at @first has its frame.  P. */
static void
block_mark(struct qr_object *object, struct qr_frame *head, size_t pages)
{
    qr_assert(object->block_pages == 0 || object->block_pages == pages);
    object->block_pages = pages;
    atomic_fetch_or_explicit(&head->flags, QR_FRAME_BLOCK, memory_order_relaxed);
    block_count(object, 1);
}

void
qr_object_break_block_slowly(struct qr_object *object, size_t index)
{
    struct qr_frame *head = qr_object_frame_at(object, index & ~(object->block_pages - 1));

    if (head == NULL || (page_flags(head) & QR_FRAME_BLOCK) == 0)
        return;
    atomic_fetch_and_explicit(&head->flags, ~(uint32_t)QR_FRAME_BLOCK, memory_order_relaxed);
    block_count(object, -1);
}

/* What of [first, first + pages) is there: pages, in memory or in swap, at most @most.  P. */
static size_t
block_present(struct qr_object *object, size_t first, size_t pages, size_t most)
{
    size_t present = 0;

    for (size_t index = first; present < most; index++, present++) {
        if (qr_radix_next(&object->pages, &index) == NULL || index >= first + pages)
            break;
    }
    return present;
}

/* QR_OK: some pages are there, or none, and no block.  P. */
static enum qr_status
block_look(struct qr_object *object, size_t first, size_t pages, struct qr_frame **out_head)
{
    *out_head = qr_object_frame_at(object, first);
    if (object_pages(qr_object_bytes(object)) < first + pages)
        return QR_ERR_RANGE;
    if (*out_head != NULL && (page_flags(*out_head) & QR_FRAME_BLOCK) != 0)
        return QR_ERR_EXISTS;
    return QR_OK;
}

enum qr_status
qr_object_get_block(struct qr_object *object, size_t first, size_t pages,
                    struct qr_frame **out_head)
{
    struct qr_frame *head;

    qr_assert((first & (pages - 1)) == 0);
    qr_spin_lock(&object->lock);
    enum qr_status status = block_look(object, first, pages, &head);

    if (status == QR_ERR_EXISTS) {
        for (size_t i = 0; i < pages; i++)
            qr_frame_get(block_frame(object, head, i));
        *out_head = head;
        status = QR_OK;
    } else if (status == QR_OK) {
        status = block_present(object, first, pages, 1) == 0 ? QR_ERR_NOT_FOUND : QR_ERR_EXISTS;
    }
    qr_spin_unlock(&object->lock);
    return status;
}

/* ---- Frames for one --------------------------------------------------------------- */

/* Single frames, or NULL. */
static struct qr_frame *
block_alloc(struct qr_object *object, size_t first, size_t pages, unsigned alloc_flags)
{
    struct qr_mempolicy *shared = qr_object_get_policy(object, first);
    struct qr_mempolicy *policy =
        shared != NULL ? shared : qr_objects_thread_policy(object->machine);
    unsigned order = (unsigned)__builtin_ctzl(pages);
    struct qr_frame *head = qr_frame_alloc_policy(
        object->machine->frames, policy == NULL ? NULL : &policy->policy, first >> order, order,
        alloc_flags | QR_ALLOC_NO_REPORT | QR_ALLOC_MOVABLE | QR_ALLOC_HIGH);

    qr_mempolicy_put(shared);
    if (head != NULL)
        qr_frame_split_block(object->machine->frames, head);
    return head;
}

static bool
block_charge(struct qr_object *object, struct qr_frame *head, size_t pages)
{
    struct qr_objects *objects = object->machine;
    qr_thread_group_fn fn = atomic_load_explicit(&objects->thread_group, memory_order_acquire);
    struct qr_group *group = fn == NULL ? NULL : fn();
    bool charged =
        group == NULL || qr_group_charge_run(group, objects->frames, head, pages) == QR_OK;

    if (group != NULL)
        qr_group_put(group);
    return charged;
}

static bool
block_may_promise(const struct qr_object *object, size_t pages)
{
    const struct qr_objects *objects = object->machine;

    return !object_promises_pages(object) || objects->may_promise == NULL ||
           objects->may_promise(objects->promise_context, pages);
}

/* ---- A new one ---------------------------------------------------------------------- */

/* @spares suffice.  P. */
static void
block_insert(struct qr_object *object, size_t first, size_t pages, struct qr_frame *head,
             struct radix_spares *spares)
{
    for (size_t i = 0; i < pages; i++) {
        struct qr_frame *frame = block_frame(object, head, i);

        qr_frame_set_type(frame, QR_FRAME_OBJECT);
        atomic_fetch_or_explicit(&frame->flags, QR_FRAME_UPTODATE | QR_FRAME_SHMEM,
                                 memory_order_relaxed);
        atomic_store_explicit(&frame->index, first + i, memory_order_relaxed);
        atomic_store_explicit(&frame->owner, object, memory_order_release);
        qr_radix_insert(&object->pages, first + i, frame, spares);
    }
    object->resident += pages;
    block_mark(object, head, pages);
}

/* Count what came: now, before anybody can take it away.  P. */
static void
block_came(struct qr_object *object, struct qr_frame *head, size_t pages)
{
    struct qr_counters *counters = qr_frames_counters(object->machine->frames);

    qr_counter_add(counters, QR_PAGES_SHMEM, (long)pages);
    if (object_promises_pages(object))
        qr_counter_add(counters, QR_PAGES_COMMITTED, (long)pages);
    if (qr_likely(qr_frame_group(head) == 0))
        return;
    for (size_t i = 0; i < pages; i++)
        qr_group_note_object(object->machine->groups, block_frame(object, head, i), true);
}

/* The frames, each with one reference, which becomes the index's. */
static enum qr_status
block_try_insert(struct qr_object *object, size_t first, size_t pages, struct qr_frame *head,
                 struct radix_spares *spares)
{
    struct qr_frame *there;

    qr_spin_lock(&object->lock);
    enum qr_status status = block_look(object, first, pages, &there);

    if (status == QR_OK && block_present(object, first, pages, 1) != 0)
        status = QR_ERR_EXISTS;
    if (status == QR_OK) {
        block_insert(object, first, pages, head, spares);
        block_came(object, head, pages);
    }
    qr_spin_unlock(&object->lock);
    return status;
}

enum qr_status
qr_object_make_block(struct qr_object *object, size_t first, size_t pages, unsigned alloc_flags)
{
    struct qr_objects *objects = object->machine;
    struct radix_spares spares = {.count = 0};
    enum qr_status status = QR_ERR_NO_MEMORY;

    if (!block_may_promise(object, pages))
        return QR_ERR_LIMIT;
    struct qr_frame *head = block_alloc(object, first, pages, alloc_flags | QR_ALLOC_ZERO);

    if (head == NULL)
        return QR_ERR_NO_MEMORY;
    if (block_charge(object, head, pages) &&
        qr_radix_spares_fill(&spares, qr_radix_nodes_of_run(pages), objects->nodes, 0))
        status = block_try_insert(object, first, pages, head, &spares);
    qr_radix_spares_release(&spares, objects->nodes);
    if (status != QR_OK)
        qr_frame_put_run(objects->frames, head, pages);
    return status;
}

/* ---- Collapse ----------------------------------------------------------------------- */

/* Would it be collapsed?  Looks only. */
static enum qr_status
collapse_look(struct qr_object *object, size_t first, size_t pages, size_t max_none)
{
    struct qr_frame *head;

    qr_spin_lock(&object->lock);
    enum qr_status status = block_look(object, first, pages, &head);
    size_t present = status == QR_OK ? block_present(object, first, pages, pages) : 0;

    qr_spin_unlock(&object->lock);
    if (status == QR_OK && (present == 0 || pages - present > max_none))
        status = QR_ERR_RANGE;
    return status;
}

/* The page at @index, or that there is none, goes into @target, which becomes the object's. */
static enum qr_status
collapse_page(struct qr_object *object, size_t index, struct qr_frame *target)
{
    struct qr_frames *frames = object->machine->frames;
    enum qr_status status = QR_ERR_EXISTS;

    for (unsigned i = 0; i < COLLAPSE_TRIES && status == QR_ERR_EXISTS; i++) {
        qr_spin_lock(&object->lock);
        struct qr_frame *frame = qr_object_frame_at(object, index);
        qr_spin_unlock(&object->lock);
        if (frame != NULL) {
            status = qr_object_move_page(object, index, frame, target);
            if (status == QR_OK)
                qr_frame_put(frames, frame); /* the reference that was the object's */
            continue;
        }
        qr_frame_clear(frames, target);
        status = qr_object_add_page(object, index, target);
        if (status == QR_OK)
            qr_frame_put(frames, target); /* it took one of its own */
    }
    return status == QR_ERR_EXISTS ? QR_ERR_BUSY : status;
}

/* Every page moved: is each still there? */
static bool
collapse_mark(struct qr_object *object, size_t first, size_t pages, struct qr_frame *head)
{
    bool whole = true;

    qr_spin_lock(&object->lock);
    for (size_t i = 0; i < pages && whole; i++)
        whole = qr_radix_get(&object->pages, first + i) == block_frame(object, head, i);
    if (whole && (page_flags(head) & QR_FRAME_BLOCK) == 0)
        block_mark(object, head, pages);
    qr_spin_unlock(&object->lock);
    return whole;
}

enum qr_status
qr_object_collapse(struct qr_object *object, size_t first, size_t pages, size_t max_none,
                   unsigned alloc_flags)
{
    enum qr_status status = collapse_look(object, first, pages, max_none);
    size_t done = 0;

    if (status == QR_OK)
        status = qr_object_bring_back(object, first, first + pages);
    if (status != QR_OK)
        return status == QR_ERR_IO ? QR_ERR_BUSY : status;
    struct qr_frame *head = block_alloc(object, first, pages, alloc_flags);

    if (head == NULL)
        return QR_ERR_NO_MEMORY;
    qr_object_unmap(object, first, first + pages, false);
    while (done < pages && status == QR_OK) {
        status = collapse_page(object, first + done, block_frame(object, head, done));
        done += status == QR_OK;
    }
    if (status == QR_OK && !collapse_mark(object, first, pages, head))
        status = QR_ERR_BUSY;
    for (size_t i = done; i < pages; i++)
        qr_frame_put(object->machine->frames, block_frame(object, head, i));
    return status == QR_OK || status == QR_ERR_NO_MEMORY ? status : QR_ERR_BUSY;
}
