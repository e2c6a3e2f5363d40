/* SPDX-License-Identifier: MIT */
/*
 * Reading, and reading ahead, from a backing that has requests in flight.
 *
 * A page that is being read is in the index, locked and not up to date.  Who asked for it waits for
 * the lock; pages behind it that are read with it are waited for by nobody until somebody wants
 * them.  One that could not be read stays in the index, unlocked and not up to date, until
 * the next who wants it takes it out and has it read again.
 *
 * How far to read is told by the misses alone.  A reader who goes forward misses just behind what
 * was read last: then the window doubles, up to WINDOW_MAX pages.  Any other miss reads a page,
 * the first page of an object WINDOW_START.  Two readers of one object disturb each other's window
 * and nothing else.
 */
#include "objects.h"

#define WINDOW_START 4u
#define WINDOW_MAX   64u

void
qr_object_read_done(struct qr_object *object, struct qr_frame *frame, enum qr_status status)
{
    (void)object;
    if (status == QR_OK)
        atomic_fetch_or_explicit(&frame->flags, QR_FRAME_UPTODATE, memory_order_release);
    qr_page_unlock(frame); /* from here on the object may be gone */
}

/*
 * A frame for page @index, locked, in the index; NULL where there is a page already, or no memory
 * to spare.  The lock keeps it in the index, so the index's reference is enough.
 */
static struct qr_frame *
object_add_locked(struct qr_object *object, size_t index)
{
    const unsigned flags = QR_ALLOC_OPPORTUNE | QR_ALLOC_NO_REPORT;
    struct qr_frame *other = NULL;
    size_t present;

    if (qr_object_next_present(object, index, &present) && present == index)
        return NULL;
    struct qr_frame *frame =
        qr_object_alloc_frame(object, index, flags | QR_ALLOC_MOVABLE | QR_ALLOC_HIGH);

    if (frame == NULL)
        return NULL;
    if (qr_object_charge(object->machine, frame, QR_ALLOC_ATOMIC) != QR_OK) {
        qr_frame_put(object->machine->frames, frame);
        return NULL;
    }
    atomic_fetch_or_explicit(&frame->flags, QR_FRAME_LOCKED, memory_order_relaxed);
    enum qr_status status =
        qr_object_insert_page(object, index, frame, QR_ALLOC_ATOMIC | QR_ALLOC_NO_REPORT, &other);

    if (status == QR_OK)
        qr_object_meet_shadow(object, index, frame);
    else
        atomic_fetch_and_explicit(&frame->flags, ~(uint32_t)QR_FRAME_LOCKED, memory_order_relaxed);
    if (other != NULL)
        qr_frame_put(object->machine->frames, other);
    qr_frame_put(object->machine->frames, frame);
    return status == QR_OK ? frame : NULL;
}

/* Read @frame (NULL: make one) at @index and absent pages behind it, @count at most. */
static size_t
object_start_run(struct qr_object *object, size_t index, size_t count, struct qr_frame *frame)
{
    struct qr_frame *frames[QR_PAGER_BATCH];
    size_t found = 0;

    if (frame == NULL)
        frame = object_add_locked(object, index);
    while (frame != NULL) {
        frames[found++] = frame;
        if (found == QR_PAGER_BATCH || found == count)
            break;
        frame = object_add_locked(object, index + found);
    }
    if (found > 0)
        object->pager->start_read(object->context, index, frames, found);
    return found;
}

/* @return the page behind the last one of the object, or of [first, first + count) */
static size_t
window_end(const struct qr_object *object, size_t first, size_t count)
{
    size_t end = object_pages(qr_object_bytes(object));

    return first < end && count < end - first ? first + count : end;
}

void
qr_object_read_ahead(struct qr_object *object, size_t first, size_t count)
{
    size_t end = window_end(object, first, count);

    if (object->pager->start_read == NULL)
        return;
    while (first < end) {
        size_t found = object_start_run(object, first, end - first, NULL);

        first += found > 0 ? found : 1;
    }
}

/* How many pages to read where page @index is missed. */
static size_t
window_pages(struct qr_object *object, size_t index)
{
    uint32_t pages = 1;

    if (index == 0)
        pages = WINDOW_START;
    else if (index == atomic_load_explicit(&object->ahead_next, memory_order_relaxed))
        pages = 2 * atomic_load_explicit(&object->ahead_pages, memory_order_relaxed);
    if (pages > WINDOW_MAX)
        pages = WINDOW_MAX;
    atomic_store_explicit(&object->ahead_pages, pages, memory_order_relaxed);
    atomic_store_explicit(&object->ahead_next, index + pages, memory_order_relaxed);
    return pages;
}

void
qr_object_read_window(struct qr_object *object, size_t index, struct qr_frame *frame)
{
    size_t end = window_end(object, index, window_pages(object, index));

    /* The page itself may lie behind an end that was cut just now: it is read all the same. */
    index += object_start_run(object, index, end > index ? end - index : 1, frame);
    if (index < end)
        qr_object_read_ahead(object, index, end - index);
}
