/* SPDX-License-Identifier: MIT */
/*
 * The swap cache: which slots have their page in memory too.
 *
 *   entry of a table          slot                          frame
 *   [ swap 17 ] ---users----> 17: users 2, frame F -------> F: type SWAP, index 17, one reference more
 *   [ swap 17 ]                                             ^
 *   [ leaf, read-only ] -----reference----------------------+
 *
 * A page is the same page whether an entry names its slot or maps its frame, so spaces that share it since a fork go
 * on sharing it, whichever of them have lost their entry meanwhile.  Two rules carry that:
 *
 *   1 While a frame is in the cache nobody may write it.  The cache's reference makes two of any entry's
 *     one, so a write fault copies (cow.c), or asks qr_swap_take() for the last use of the page.  Writable entries
 *     are taken out and flushed before their table's lock goes, hence before anybody finds the frame here.
 *   2 A frame is written out, and may then go, only when the cache has the only reference to it.  So no entry maps it,
 *     no CPU's TLB does (the flush batch holds a reference until it has flushed), and nobody has it pinned.
 *     New references come from here alone, under the area's lock.
 *
 * From 1 follows: once written, what stands in the slot is what the frame holds, for as long as it stays in the
 * cache.  From 2: what is written is never a page in the middle of a change.
 *
 * A slot is free when nobody names it and it has no frame.  Each of these steps is under the area's lock:
 *
 *   assign   an entry becomes a name            users + 1; the frame comes into the cache
 *   write    frame alone: WRITING, I/O, WRITTEN; alone still: the frame goes
 *   fetch    no frame: a fresh one comes in, READING, I/O, up to date
 *   lookup   up to date: one reference more
 *   put      a name is gone                     users - 1; the last one frees the slot, or leaves a clean copy
 *   take     no names, one entry: out of the cache, slot free, the frame is the entry's alone
 *   replace  idle, and no reference but the entries', the cache's and the mover's: a copy is in the cache from
 *            now on.  Entries keep the old frame, which is private memory now and nobody writes while two
 *            have it, until the mover gets to them
 *
 * and while READING or WRITING is set the slot keeps its frame whatever else happens; who ends the I/O does
 * what others left undone.  A frame that is being written may be mapped again meanwhile: to be read, by rule 1.
 *
 *   fault against write-out   finds the frame, or, after it went, reads what was written: the same bytes
 *   fault against fault       the second finds READING and sleeps; both then find one frame
 *   fork against either       copies names with users + 1 and entries with a reference; both locks of the parent's
 *                             table are held, so it copies the one or the other
 *   exit against either       the I/O ends, sees no users, and frees
 *   swapoff                   closes the area (assign), brings names back like a fault, and waits for I/O;
 *                             forks only copy names that are there, so it comes to an end
 *   two write-outs of a page  the second finds it WRITING
 *   two assigns of a frame    that two spaces map: one changes the frame's type, the other finds it changed
 *
 * A page of an object has one use for the object's index, which names the slot where the frame stood; no entry
 * maps it while it is here, and who needs it takes it back out (take_object), once no I/O is under way: it is
 * a page of the object like any other then.
 *
 * A write that fails leaves the page in memory and the slot bad: never written again, and never given out again
 * once its users are gone.  A read that fails takes the fresh frame out again; who needs the page is told, and
 * may try again.
 *
 * A clean copy without users (after a read fault) saves the next write, and is given up when the slots run short, when its
 * last entry goes, and by trimming.
 *
 * tests/models/swap.pml goes through the interleavings.
 *
 * Locks: A, below the tables'.
 */
#include "transfer.h"

/* ---- In and out of the cache ----------------------------------------------------- */

/* Make @frame, of type @type, one of the cache, without those marks; false where it is no such frame any more. */
static bool
frame_claim(struct qr_frame *frame, enum qr_frame_type type, uint32_t marks)
{
    uint32_t flags = atomic_load_explicit(&frame->flags, memory_order_relaxed);
    uint32_t next;

    do {
        if ((flags & 0xff) != (uint32_t)type)
            return false;
        next = (flags & ~(0xff | marks)) | QR_FRAME_SWAP;
    } while (!atomic_compare_exchange_weak_explicit(&frame->flags, &flags, next,
                                                    memory_order_relaxed, memory_order_relaxed));
    return true;
}

void
qr_slot_cache(struct qr_swap *swap, struct area *area, size_t page, struct qr_frame *frame)
{
    uintptr_t number = slot_number(swap, area, page).v;
    uintptr_t place = atomic_load_explicit(&frame->index, memory_order_relaxed);

    qr_swap_set_place(frame, place);
    atomic_store_explicit(&frame->index, number, memory_order_relaxed);
    slot_at(area, page)->frame = frame;
    area->cached++;
    qr_counter_add(swap->counters, QR_PAGES_SWAP_CACHED, 1);
}

struct qr_frame *
qr_slot_uncache(struct qr_swap *swap, struct area *area, struct slot *slot)
{
    struct qr_frame *frame = slot->frame;

    qr_assert(frame != NULL && (slot->state & (SLOT_READING | SLOT_WRITING)) == 0);
    slot->frame = NULL;
    area->cached--;
    qr_counter_add(swap->counters, QR_PAGES_SWAP_CACHED, -1);
    atomic_store_explicit(&frame->index, qr_swap_place(frame), memory_order_relaxed);
    atomic_store_explicit(&frame->owner, NULL, memory_order_relaxed);
    atomic_fetch_sub_explicit(&frame->flags, QR_FRAME_SWAP - QR_FRAME_ANON, memory_order_relaxed);
    return frame;
}

static bool
slot_is_idle(const struct slot *slot)
{
    return slot != NULL && (slot->state & (SLOT_READING | SLOT_WRITING)) == 0;
}

struct qr_frame *
qr_slot_drop_unused(struct qr_swap *swap, struct area *area, size_t page)
{
    struct slot *slot = slot_at(area, page);
    struct qr_frame *frame = NULL;

    qr_assert(slot->users == 0);
    if (!slot_is_idle(slot))
        return NULL;
    if (slot->frame != NULL)
        frame = qr_slot_uncache(swap, area, slot);
    qr_slot_free(swap, area, page);
    return frame;
}

static void
frame_drop(struct qr_swap *swap, struct qr_frame *frame)
{
    if (frame != NULL)
        qr_frame_put(swap->config.frames, frame);
}

/* ---- Names of slots ----------------------------------------------------------------- */

/* @frame has a slot, or had one a moment ago. */
static enum qr_status
assign_again(struct qr_swap *swap, struct qr_frame *frame, qr_slot *out_slot)
{
    qr_slot number = qr_slot_of(atomic_load_explicit(&frame->index, memory_order_relaxed));
    struct slot *slot;
    struct area *area = area_lock(swap, number, &slot);
    bool same = slot != NULL && slot->frame == frame &&
                atomic_load_explicit(&area->open, memory_order_relaxed);

    if (same)
        slot->users++;
    qr_spin_unlock(&area->lock);
    if (!same)
        return QR_ERR_BUSY;
    *out_slot = number;
    return QR_OK;
}

/* A new slot; the cache has a reference that the caller gives it. */
static enum qr_status
assign_new(struct qr_swap *swap, struct qr_frame *frame, enum qr_frame_type type, uint32_t marks,
           qr_slot *out_slot)
{
    struct area *area;
    size_t page;
    enum qr_status status = qr_slot_alloc(swap, frame, &area, &page);

    if (status != QR_OK)
        return status;
    if (frame_claim(frame, type, marks)) {
        qr_slot_cache(swap, area, page, frame);
        *out_slot = slot_number(swap, area, page);
    } else {
        slot_at(area, page)->users = 0;
        qr_slot_free(swap, area, page);
        status = QR_ERR_BUSY;
    }
    qr_spin_unlock(&area->lock);
    return status;
}

enum qr_status
qr_swap_assign(struct qr_swap *swap, struct qr_frame *frame, qr_slot *out_slot)
{
    if (qr_frame_type(frame) == QR_FRAME_SWAP)
        return assign_again(swap, frame, out_slot);
    qr_frame_get(frame);
    enum qr_status status = assign_new(swap, frame, QR_FRAME_ANON, QR_FRAME_LAZY, out_slot);

    if (status != QR_OK)
        qr_frame_put(swap->config.frames, frame);
    return status;
}

enum qr_status
qr_swap_assign_object(struct qr_swap *swap, struct qr_frame *frame, qr_slot *out_slot)
{
    const uint32_t marks =
        QR_FRAME_UPTODATE | QR_FRAME_DIRTY | QR_FRAME_REFERENCED | QR_FRAME_SHMEM | QR_FRAME_STORED;

    return assign_new(swap, frame, QR_FRAME_OBJECT, marks, out_slot);
}

enum qr_status
qr_swap_take_object(struct qr_swap *swap, qr_slot number, struct qr_frame *frame)
{
    enum qr_status status = QR_ERR_AGAIN;
    struct slot *slot;
    struct area *area = area_lock(swap, number, &slot);

    if (slot != NULL && slot->frame == frame) {
        qr_assert(slot->users == 1);
        status = slot_is_idle(slot) ? QR_OK : QR_ERR_BUSY;
    }
    if (status == QR_OK) {
        slot->users = 0;
        (void)qr_slot_drop_unused(swap, area, qr_slot_page(number));
        atomic_fetch_add_explicit(&frame->flags, QR_FRAME_OBJECT - QR_FRAME_ANON,
                                  memory_order_relaxed);
    }
    qr_spin_unlock(&area->lock);
    return status;
}

void
qr_swap_get(struct qr_swap *swap, qr_slot number)
{
    struct slot *slot;
    struct area *area = area_lock(swap, number, &slot);

    qr_assert(slot != NULL && slot->users != 0);
    slot->users++;
    qr_spin_unlock(&area->lock);
}

/* May a clean copy stay that nobody names?  Somebody maps it, and slots are plenty.  A. */
static bool
copy_may_stay(const struct area *area, const struct slot *slot)
{
    return slot->frame != NULL && (slot->state & SLOT_WRITTEN) != 0 &&
           atomic_load_explicit(&slot->frame->maps, memory_order_relaxed) != 0 &&
           atomic_load_explicit(&area->open, memory_order_relaxed) &&
           area->used <= area->usable / 2;
}

void
qr_swap_put(struct qr_swap *swap, qr_slot number)
{
    struct qr_frame *frame = NULL;
    struct slot *slot;
    struct area *area = area_lock(swap, number, &slot);

    qr_assert(slot != NULL && slot->users != 0);
    if (--slot->users == 0 && !copy_may_stay(area, slot))
        frame = qr_slot_drop_unused(swap, area, qr_slot_page(number));
    qr_spin_unlock(&area->lock);
    frame_drop(swap, frame);
}

/* ---- Frames of slots ------------------------------------------------------------------ */

struct qr_frame *
qr_swap_lookup(struct qr_swap *swap, qr_slot number)
{
    struct qr_frame *frame = NULL;
    struct slot *slot;
    struct area *area = area_lock(swap, number, &slot);

    if (slot != NULL && slot->frame != NULL && (slot->state & SLOT_READING) == 0) {
        frame = slot->frame;
        qr_frame_get(frame);
    }
    qr_spin_unlock(&area->lock);
    return frame;
}

/* The slot of @frame, of which the caller has a reference, with its area locked; NULL: it has none. */
static struct area *
frame_area_lock(struct qr_swap *swap, const struct qr_frame *frame, size_t *out_page)
{
    qr_slot number = qr_slot_of(atomic_load_explicit(&frame->index, memory_order_relaxed));
    struct slot *slot;
    struct area *area = area_lock(swap, number, &slot);

    if (slot == NULL || slot->frame != frame) {
        qr_spin_unlock(&area->lock);
        return NULL;
    }
    *out_page = qr_slot_page(number);
    return area;
}

bool
qr_swap_get_frame(struct qr_swap *swap, struct qr_frame *frame)
{
    size_t page;
    struct area *area = frame_area_lock(swap, frame, &page);

    if (area == NULL)
        return false;
    bool idle = slot_is_idle(slot_at(area, page));

    if (idle)
        qr_frame_get(frame);
    qr_spin_unlock(&area->lock);
    return idle;
}

bool
qr_swap_replace(struct qr_swap *swap, struct qr_frame *frame, struct qr_frame *target)
{
    size_t page;
    struct area *area = frame_area_lock(swap, frame, &page);

    if (area == NULL)
        return false;
    struct slot *slot = slot_at(area, page);
    uint32_t others = atomic_load_explicit(&frame->maps, memory_order_relaxed) + 1;
    bool replaced = slot_is_idle(slot) &&
                    atomic_load_explicit(&frame->refs, memory_order_acquire) == others + 1;

    if (replaced) {
        atomic_store_explicit(&target->index, qr_swap_place(frame), memory_order_relaxed);
        atomic_store_explicit(&target->maps, 0, memory_order_relaxed);
        (void)qr_slot_uncache(swap, area, slot);
        qr_frame_set_type(target, QR_FRAME_SWAP);
        qr_slot_cache(swap, area, page, target);
    }
    qr_spin_unlock(&area->lock);
    if (replaced)
        qr_frame_put(swap->config.frames, frame);
    return replaced;
}

bool
qr_swap_take(struct qr_swap *swap, struct qr_frame *frame)
{
    size_t page;
    struct area *area = frame_area_lock(swap, frame, &page);

    if (area == NULL)
        return atomic_load_explicit(&frame->refs, memory_order_acquire) == 1;
    const struct slot *slot = slot_at(area, page);
    bool taken = slot->users == 0 && slot_is_idle(slot) &&
                 atomic_load_explicit(&frame->refs, memory_order_acquire) == 2;

    if (taken)
        (void)qr_slot_drop_unused(swap, area, page);
    qr_spin_unlock(&area->lock);
    if (taken)
        qr_frame_put(swap->config.frames, frame);
    return taken;
}

void
qr_swap_unmapped(struct qr_swap *swap, struct qr_frame *frame)
{
    struct qr_frame *dropped = NULL;
    size_t page;
    struct area *area = frame_area_lock(swap, frame, &page);

    if (area == NULL)
        return;
    if (slot_at(area, page)->users == 0)
        dropped = qr_slot_drop_unused(swap, area, page);
    qr_spin_unlock(&area->lock);
    frame_drop(swap, dropped);
}
