/* SPDX-License-Identifier: MIT */
/*
 * Dirty pages of files, and their way to the backing.
 *
 *      clean --store through a mapping, write()--> dirty --start_write--> under write-back
 *        ^                                           ^ |                     | |
 *        |                                           | +---store meanwhile---+ |
 *        +--------------written----------------------|-------------------------+
 *                                                    +---could not be written---
 *
 * A writable leaf of a file's page exists only while the page is marked dirty: shared file pages
 * are mapped read-only first, and the write fault marks them.  Write-back therefore clears the
 * mark, then makes the leaves read-only (ops->clean) and flushes that, then writes: a store before
 * the end of the flush is still part of what is written, one after it faults and marks the page
 * again.  A page says that it is under write-back before it no longer says that it is dirty: who
 * waits for it never finds neither.
 *
 * A page keeps its lock while it is written, so truncation, a second write-back and migration wait
 * for it; faults, read() and write() do not take the lock of a page that is up to date.  Pages
 * that lie side by side are written together: the first is waited for, those behind it are
 * taken as far as their locks are free, so that nobody waits while it holds a lock.  One flush makes
 * all of them read-only for everybody.  Waiting for write-back is taking the lock.
 *
 * A page that could not be written is dirty again, and the object counts the failure.  A descriptor
 * compares the count with the one that it saw last: so each reports a failure once, however many
 * there are, and also where another one's fsync, or nobody's, met it.  In Linux the page would be
 * clean; here the next write-back tries again, and a success means that the bytes are there.
 */
#include "objects.h"

#include <quire/assert.h>

/* ---- The mark ------------------------------------------------------------ */

bool
qr_object_clear_dirty(struct qr_object *object, struct qr_frame *frame)
{
    uint32_t before = atomic_fetch_and(&frame->flags, ~(uint32_t)QR_FRAME_DIRTY);

    if ((before & QR_FRAME_DIRTY) == 0)
        return false;
    atomic_fetch_sub_explicit(&object->dirty, 1, memory_order_relaxed);
    qr_counter_add(qr_frames_counters(object->machine->frames), QR_PAGES_DIRTY, -1);
    return true;
}

void
qr_objects_set_dirtied(struct qr_objects *objects, qr_dirtied_fn fn)
{
    objects->dirtied = fn;
}

void
qr_objects_set_cancelled(struct qr_objects *objects, qr_dirtied_fn fn)
{
    objects->cancelled = fn;
}

/*
 * A page that leaves the index meanwhile must not stay counted: detaching clears
 * the owner before the mark, so either it sees our mark or we see no owner.
 */
void
qr_object_mark_dirty(struct qr_object *object, struct qr_frame *frame)
{
    if (qr_object_is_memory(object)) { /* nowhere to write it to; smaps calls it dirty for ever */
        if ((page_flags(frame) & QR_FRAME_STORED) == 0)
            atomic_fetch_or_explicit(&frame->flags, QR_FRAME_STORED, memory_order_relaxed);
        return;
    }
    if ((page_flags(frame) & QR_FRAME_DIRTY) != 0)
        return;
    /* Counted first: whoever clears the mark finds it counted. */
    atomic_fetch_add_explicit(&object->dirty, 1, memory_order_relaxed);
    uint32_t before = atomic_fetch_or(&frame->flags, QR_FRAME_DIRTY);

    if ((before & QR_FRAME_DIRTY) == 0) {
        qr_counter_add(qr_frames_counters(object->machine->frames), QR_PAGES_DIRTY, 1);
        qr_counter_add(qr_frames_counters(object->machine->frames), QR_EVENT_DIRTIED, 1);
        if (object->machine->dirtied != NULL)
            object->machine->dirtied();
    } else
        atomic_fetch_sub_explicit(&object->dirty, 1, memory_order_relaxed);
    if (atomic_load(&frame->owner) != object)
        (void)qr_object_clear_dirty(object, frame);
}

size_t
qr_object_dirty(const struct qr_object *object)
{
    return atomic_load_explicit(&object->dirty, memory_order_relaxed);
}

uint32_t
qr_object_write_errors(const struct qr_object *object)
{
    return atomic_load_explicit(&object->write_errors, memory_order_acquire);
}

void
qr_object_count_cached(struct qr_object *object, size_t first, size_t last,
                       struct qr_object_cached *out_cached)
{
    size_t index = first;
    struct qr_frame *frame;

    *out_cached = (struct qr_object_cached){.pages = 0};
    while (qr_object_next_present(object, index, &index) && index < last) {
        enum qr_status status = qr_object_get_page(object, index, QR_PAGE_CACHED, &frame);

        out_cached->pages += !qr_object_is_memory(object) || status == QR_OK;
        if (status == QR_OK) {
            uint32_t flags = page_flags(frame);

            out_cached->dirty += (flags & QR_FRAME_DIRTY) != 0;
            out_cached->writeback += (flags & QR_FRAME_WRITEBACK) != 0;
            qr_frame_put(object->machine->frames, frame);
        }
        index++;
    }
}

/* ---- Writing ------------------------------------------------------------- */

/* Make every mapping's leaves of pages [first, last) read-only, so that the next store is noticed. */
static void
object_clean_mappings(struct qr_object *object, size_t first, size_t last)
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

        if (mapping->shared && mapping_overlap(mapping, &from, &to))
            ops->clean(mapping, from, to, &gather);
    }
    qr_tlb_gather_finish(&gather);
    qr_mutex_unlock(&object->mappings_lock);
}

/* The locked page @frame is no longer under write-back, nor locked. */
static void
page_end_write(struct qr_object *object, struct qr_frame *frame)
{
    qr_counter_add(qr_frames_counters(object->machine->frames), QR_PAGES_WRITEBACK, -1);
    atomic_fetch_and_explicit(&frame->flags, ~(uint32_t)QR_FRAME_WRITEBACK, memory_order_release);
    qr_page_unlock(frame); /* from here on the object may be gone */
}

void
qr_object_write_done(struct qr_object *object, struct qr_frame *frame, enum qr_status status)
{
    if (status != QR_OK) {
        atomic_fetch_add_explicit(&object->write_errors, 1, memory_order_release);
        qr_object_mark_dirty(object, frame);
    } else {
        qr_counter_add(qr_frames_counters(object->machine->frames), QR_EVENT_WRITTEN, 1);
    }
    page_end_write(object, frame);
}

/*
 * The locked page @frame goes under write-back; its leaves are still to be cleaned.
 * @return false: unlocked, there is no need
 */
static bool
page_begin_write(struct qr_object *object, size_t index, struct qr_frame *frame)
{
    atomic_fetch_or_explicit(&frame->flags, QR_FRAME_WRITEBACK, memory_order_relaxed);
    qr_counter_add(qr_frames_counters(object->machine->frames), QR_PAGES_WRITEBACK, 1);
    if (!qr_object_page_is_current(object, index, frame) || !qr_object_clear_dirty(object, frame)) {
        page_end_write(object, frame);
        return false;
    }
    return true;
}

/*
 * The page at @index, dirty, locked without waiting and under write-back; NULL where it is not
 * so.  The lock keeps it in the index, so the index's reference is enough.
 */
static struct qr_frame *
object_take_next(struct qr_object *object, size_t index)
{
    struct qr_frame *frame = NULL;

    if (qr_object_get_page(object, index, QR_PAGE_CACHED, &frame) != QR_OK)
        return NULL;
    bool taken = (page_flags(frame) & QR_FRAME_DIRTY) != 0 && qr_page_try_lock(frame) &&
                 page_begin_write(object, index, frame);

    qr_frame_put(object->machine->frames, frame);
    return taken ? frame : NULL;
}

/*
 * Start to write the dirty page @frame at @index and those behind it, all before @last.  The
 * caller has a reference to @frame.  @return how many
 */
static size_t
object_start_batch(struct qr_object *object, size_t index, size_t last, struct qr_frame *frame)
{
    const struct qr_pager *pager = object->pager;
    struct qr_frame *frames[QR_PAGER_BATCH];
    size_t count = 0;

    qr_page_lock(frame);
    if (!page_begin_write(object, index, frame))
        return 0;
    if (pager->start_write == NULL) {
        object_clean_mappings(object, index, index + 1);
        qr_object_write_done(object, frame, pager->write_page(object->context, index, frame));
        return 1;
    }
    do
        frames[count++] = frame;
    while (count < QR_PAGER_BATCH && index + count < last &&
           (frame = object_take_next(object, index + count)) != NULL);
    object_clean_mappings(object, index, index + count);
    pager->start_write(object->context, index, frames, count);
    return count;
}

static bool
object_is_written(const struct qr_object *object)
{
    return object->pager->write_page != NULL || object->pager->start_write != NULL;
}

size_t
qr_object_start_sync(struct qr_object *object, size_t first, size_t last, size_t pages)
{
    size_t index = first;
    size_t started = 0;
    struct qr_frame *frame;

    if (!object_is_written(object))
        return 0;
    while (started < pages && qr_object_dirty(object) != 0 && index < last &&
           (frame = qr_object_next_page(object, &index)) != NULL) {
        size_t count = 0;

        if (index < last && (page_flags(frame) & QR_FRAME_DIRTY) != 0)
            count = object_start_batch(object, index, last, frame);
        qr_frame_put(object->machine->frames, frame);
        started += count;
        index += count > 0 ? count : 1;
    }
    return started;
}

void
qr_object_wait_written(struct qr_object *object, size_t first, size_t last)
{
    size_t index = first;
    struct qr_frame *frame;

    while (index < last && (frame = qr_object_next_page(object, &index)) != NULL) {
        if (index < last && (page_flags(frame) & QR_FRAME_WRITEBACK) != 0) {
            qr_page_lock(frame);
            qr_page_unlock(frame);
        }
        qr_frame_put(object->machine->frames, frame);
        index++;
    }
}

enum qr_status
qr_object_sync(struct qr_object *object, size_t first, size_t last)
{
    uint32_t errors = qr_object_write_errors(object);

    if (!object_is_written(object))
        return QR_OK;
    (void)qr_object_start_sync(object, first, last, SIZE_MAX);
    qr_object_wait_written(object, first, last);
    return qr_object_write_errors(object) == errors ? QR_OK : QR_ERR_IO;
}
