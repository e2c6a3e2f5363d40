/* SPDX-License-Identifier: MIT */
/*
 * Pages on their way out and in.  cache.c says what makes that safe.
 *
 * Out: of the slots asked for, those whose frames the cache alone has; neighbours in one request.  In: the page
 * asked for, and where the last one that was missed lay near, what lies around it in an aligned window of 8 and is neither in
 * memory nor anybody else's: reading them costs little more than the one.  They are charged to whom their slots are,
 * and a window for which there is no memory at hand is read as far as there is.  So is the page asked for, but where that
 * group is gone or full, who needs it is charged: in swap as in memory a page is whose it was at first.
 *
 * A request that fails as a whole is made again page by page, so that one bad page costs no other.
 */
#include "transfer.h"

#define WINDOW_LOG 3u
#define WINDOW     ((size_t)1 << WINDOW_LOG)

/* Pages of one area that lie side by side. */
struct run {
    struct qr_swap *swap;
    struct area *area;
    size_t page;
    size_t count;
    struct qr_frame *frames[QR_SWAP_BATCH];
    bool failed[QR_SWAP_BATCH];
};

enum way { WAY_OUT, WAY_IN };

static enum qr_status
run_request(const struct run *run, enum way way, size_t first, size_t count)
{
    const struct qr_swap_ops *ops = run->area->ops;

    return (way == WAY_OUT ? ops->write : ops->read)(run->area->context, run->page + first,
                                                     run->frames + first, count);
}

/* Says of each page whether it failed. */
static void
run_transfer(struct run *run, enum way way)
{
    bool whole = run_request(run, way, 0, run->count) == QR_OK;
    size_t failed = 0;

    for (size_t i = 0; i < run->count; i++) {
        run->failed[i] = !whole && (run->count == 1 || run_request(run, way, i, 1) != QR_OK);
        failed += run->failed[i];
    }
    qr_counter_add(run->swap->counters, way == WAY_OUT ? QR_EVENT_SWAP_OUT : QR_EVENT_SWAP_IN,
                   (long)(run->count - failed));
}

/* Some I/O of @area has ended. */
static void
area_arrived(struct area *area)
{
    atomic_fetch_add_explicit(&area->arrivals, 1, memory_order_release);
    qr_port_wake(&area->arrivals, UINT32_MAX);
}

static void
frames_drop(struct qr_swap *swap, struct qr_frame *const *frames, size_t count)
{
    for (size_t i = 0; i < count; i++)
        qr_frame_put(swap->config.frames, frames[i]);
}

static bool
frame_is_alone(const struct qr_frame *frame)
{
    return atomic_load_explicit(&frame->refs, memory_order_acquire) == 1;
}

static bool
slot_is_busy(const struct slot *slot)
{
    return (slot->state & (SLOT_READING | SLOT_WRITING)) != 0;
}

/* ---- Out ---------------------------------------------------------------------------- */

/* Does the cache alone have this page?  A. */
static bool
slot_may_go(const struct slot *slot)
{
    return slot->frame != NULL && !slot_is_busy(slot) && frame_is_alone(slot->frame) &&
           (slot->state & (SLOT_WRITTEN | SLOT_BAD)) != SLOT_BAD;
}

/* The frame of a page that nobody maps and the area has.  A. */
static struct qr_frame *
slot_let_go(struct qr_swap *swap, struct area *area, size_t page)
{
    struct slot *slot = slot_at(area, page);

    return slot->users == 0 ? qr_slot_drop_unused(swap, area, page)
                            : qr_slot_uncache(swap, area, slot);
}

enum begun { BEGUN_NOT, BEGUN_GONE, BEGUN_WRITING };

/* A.  @return GONE: *out_frame is the caller's; WRITING: it is to be written */
static enum begun
write_begin(struct qr_swap *swap, struct area *area, size_t page, struct qr_frame **out_frame)
{
    struct slot *slot = slot_at(area, page);

    if (!slot_may_go(slot))
        return BEGUN_NOT;
    if ((slot->state & SLOT_WRITTEN) != 0 || slot->users == 0) {
        *out_frame = slot_let_go(swap, area, page);
        return BEGUN_GONE;
    }
    slot->state |= SLOT_WRITING;
    *out_frame = slot->frame;
    return BEGUN_WRITING;
}

/* A.  @return the frame, which is the caller's now; NULL: it stays */
static struct qr_frame *
write_end(struct qr_swap *swap, struct area *area, size_t page, bool failed)
{
    struct slot *slot = slot_at(area, page);

    slot->state &= (uint8_t)~SLOT_WRITING;
    slot->state |= failed ? SLOT_BAD : SLOT_WRITTEN;
    if (slot->users == 0)
        return qr_slot_drop_unused(swap, area, page);
    return !failed && frame_is_alone(slot->frame) ? slot_let_go(swap, area, page) : NULL;
}

/* @return frames that are free now */
static size_t
run_write(struct run *run)
{
    struct qr_frame *gone[QR_SWAP_BATCH];
    size_t count = 0;

    if (run->count == 0)
        return 0;
    run_transfer(run, WAY_OUT);
    qr_spin_lock(&run->area->lock);
    for (size_t i = 0; i < run->count; i++) {
        gone[count] = write_end(run->swap, run->area, run->page + i, run->failed[i]);
        count += gone[count] != NULL;
    }
    qr_spin_unlock(&run->area->lock);
    area_arrived(run->area);
    frames_drop(run->swap, gone, count);
    run->count = 0;
    return count;
}

static bool
run_takes(const struct run *run, const struct area *area, size_t page)
{
    return run->count == 0 ||
           (run->count < QR_SWAP_BATCH && run->area == area && run->page + run->count == page);
}

size_t
qr_swap_write(struct qr_swap *swap, const qr_slot *slots, size_t count)
{
    struct run run = {.swap = swap};
    size_t freed = 0;

    for (size_t i = 0; i < count; i++) {
        size_t page = qr_slot_page(slots[i]);
        enum begun begun = BEGUN_NOT;
        struct qr_frame *frame = NULL;
        struct slot *slot;

        if (!run_takes(&run, &swap->areas[qr_slot_area(slots[i])], page))
            freed += run_write(&run);
        struct area *area = area_lock(swap, slots[i], &slot);

        if (slot != NULL)
            begun = write_begin(swap, area, page, &frame);
        qr_spin_unlock(&area->lock);
        if (begun == BEGUN_GONE) {
            qr_frame_put(swap->config.frames, frame);
            freed++;
        } else if (begun == BEGUN_WRITING) {
            if (run.count == 0) {
                run.area = area;
                run.page = page;
            }
            run.frames[run.count++] = frame;
        }
    }
    return freed + run_write(&run);
}

/* ---- Trimming ------------------------------------------------------------------------- */

/* Slots of an area that one call looks at, at most. */
#define TRIM_LOOK (16 * (size_t)CLUSTER)

struct trim {
    struct qr_swap *swap;
    const struct qr_group *group;
    size_t count;
    qr_slot slots[QR_SWAP_BATCH];
};

static bool
trim_wants(const struct trim *trim, const struct slot *slot)
{
    return slot_may_go(slot) &&
           (trim->group == NULL ||
            qr_group_is_within(qr_group_of_frame(trim->swap->config.groups, slot->frame),
                               trim->group));
}

/* What may go of the next pages of @area, a cluster at most. @return how many were looked at */
static size_t
trim_collect(struct trim *trim, struct area *area, size_t wanted)
{
    size_t looked = 0;

    trim->count = 0;
    qr_spin_lock(&area->lock);
    while (area->in_use && area->cached != 0 && looked < CLUSTER && trim->count < QR_SWAP_BATCH &&
           trim->count < wanted) {
        size_t page = area->hand < area->pages ? area->hand : 0;

        area->hand = page + 1;
        looked++;
        if (trim_wants(trim, slot_at(area, page)))
            trim->slots[trim->count++] = slot_number(trim->swap, area, page);
    }
    qr_spin_unlock(&area->lock);
    return looked;
}

size_t
qr_swap_trim(struct qr_swap *swap, size_t pages, const struct qr_group *group)
{
    struct trim trim = {.swap = swap, .group = group};
    size_t freed = 0;

    for (unsigned i = 0; i < QR_SWAP_AREAS && freed < pages && qr_swap_is_active(swap); i++) {
        struct area *area = &swap->areas[i];
        size_t looked = 1, total = 0;

        while (freed < pages && looked != 0 && total < area->pages && total < TRIM_LOOK) {
            looked = trim_collect(&trim, area, pages - freed);
            total += looked;
            freed += qr_swap_write(swap, trim.slots, trim.count);
        }
    }
    return freed;
}

void
qr_swap_settle(struct qr_swap *swap, unsigned number)
{
    struct area *area = &swap->areas[number];

    for (size_t page = 0; page < area->pages;) {
        struct qr_frame *frame = NULL;

        qr_spin_lock(&area->lock);
        const struct slot *slot = slot_at(area, page);
        uint32_t arrivals = atomic_load_explicit(&area->arrivals, memory_order_relaxed);
        bool busy = slot_is_busy(slot);

        if (!busy && slot->frame != NULL && slot->users == 0)
            frame = qr_slot_drop_unused(swap, area, page);
        qr_spin_unlock(&area->lock);
        if (frame != NULL)
            qr_frame_put(swap->config.frames, frame);
        if (busy)
            qr_port_wait(&area->arrivals, arrivals);
        else
            page++;
    }
}

/* ---- In ----------------------------------------------------------------------------------- */

/* Somebody's, not in memory, and worth reading along.  A. */
static bool
slot_is_wanted(const struct slot *slot, unsigned group)
{
    return slot->users != 0 && slot->frame == NULL && slot->group == group;
}

/* @frame, fresh, is where @page comes.  One more reference: the run's. A. */
static void
read_begin(struct run *run, size_t page, struct qr_frame *frame)
{
    slot_at(run->area, page)->state |= SLOT_READING;
    qr_frame_set_type(frame, QR_FRAME_SWAP);
    atomic_store_explicit(&frame->maps, 0, memory_order_relaxed);
    qr_frame_get(frame);
    qr_slot_cache(run->swap, run->area, page, frame);
}

/* The pages around @page that are wanted with it.  A. */
static void
window_of(const struct area *area, size_t page, size_t *out_first, size_t *out_end)
{
    unsigned group = slot_at(area, page)->group;
    size_t low = page & ~(WINDOW - 1), high = low + WINDOW;
    size_t first = page, end = page + 1;

    while (first > low && slot_is_wanted(slot_at(area, first - 1), group))
        first--;
    while (end < high && end < area->pages && slot_is_wanted(slot_at(area, end), group))
        end++;
    *out_first = first;
    *out_end = end;
}

static size_t
window_pages(const struct area *area, size_t page)
{
    size_t first, end;

    window_of(area, page, &first, &end);
    return end - first;
}

/* Was the last page that was missed one of these, or just before or behind them?  A. */
static bool
area_is_read_in_order(struct area *area, size_t page)
{
    size_t last = area->missed;

    area->missed = page;
    return (page > last ? page - last : last - page) <= WINDOW;
}

/* Charge @frame, where the slot's page comes, to the group whose slot it is, unless that is gone or full.  A. */
static bool
slot_charge(struct qr_swap *swap, const struct slot *slot, struct qr_frame *frame)
{
    if (slot->group == 0)
        return true;
    struct qr_group *group = qr_group_of_number(swap->config.groups, slot->group);

    if (!qr_group_try_get(group))
        return false;
    bool charged = qr_group_charge_frame(group, frame) == QR_OK;

    qr_group_put(group);
    return charged;
}

bool
qr_swap_charge_owner(struct qr_swap *swap, qr_slot number, struct qr_frame *frame)
{
    struct slot *slot;
    struct area *area = area_lock(swap, number, &slot);
    bool charged = slot != NULL && slot->users != 0 && slot_charge(swap, slot, frame);

    qr_spin_unlock(&area->lock);
    return charged;
}

/*
 * Have the neighbours of @page, which is on its way, read along, as far as there are @spare frames.  @return
 * how many of these were used, first ones first.  A.
 */
static size_t
read_along(struct run *run, size_t page, struct qr_frame *const *spare, size_t count)
{
    size_t first, end, used = 0;
    size_t low = page, high = page + 1;

    window_of(run->area, page, &first, &end);
    while (used < count && (high < end || low > first)) {
        size_t next = high < end ? high : low - 1;

        if (!slot_charge(run->swap, slot_at(run->area, next), spare[used]))
            break;
        read_begin(run, next, spare[used++]);
        if (next == high)
            high++;
        else
            low--;
    }
    run->page = low;
    run->count = high - low;
    for (size_t i = 0; i < run->count; i++)
        run->frames[i] = slot_at(run->area, low + i)->frame;
    return used;
}

/* @return the reference that the cache had; NULL: it keeps it */
static struct qr_frame *
read_end(struct run *run, size_t index)
{
    size_t page = run->page + index;
    struct slot *slot = slot_at(run->area, page);

    slot->state &= (uint8_t)~SLOT_READING;
    if (slot->users == 0)
        return qr_slot_drop_unused(run->swap, run->area, page);
    return run->failed[index] ? qr_slot_uncache(run->swap, run->area, slot) : NULL;
}

static void
run_read(struct run *run)
{
    struct qr_frame *gone[QR_SWAP_BATCH];
    size_t count = 0;

    run_transfer(run, WAY_IN);
    qr_spin_lock(&run->area->lock);
    for (size_t i = 0; i < run->count; i++) {
        gone[count] = read_end(run, i);
        count += gone[count] != NULL;
    }
    qr_spin_unlock(&run->area->lock);
    area_arrived(run->area);
    frames_drop(run->swap, gone, count);
}

/* @page of @area, which has been begun in @fresh: read it. */
static enum qr_status
fetch_read(struct run *run, size_t page, struct qr_frame *fresh, size_t ahead)
{
    const unsigned flags =
        QR_ALLOC_OPPORTUNE | QR_ALLOC_NO_REPORT | QR_ALLOC_MOVABLE | QR_ALLOC_HIGH;
    struct qr_frames *frames = run->swap->config.frames;
    struct qr_frame *spare[WINDOW];
    size_t count = ahead == 0 ? 0 : qr_frame_alloc_many(frames, ahead, spare, flags);

    qr_spin_lock(&run->area->lock);
    size_t used = read_along(run, page, spare, count);
    qr_spin_unlock(&run->area->lock);
    frames_drop(run->swap, spare + used, count - used);
    run_read(run);

    bool failed = run->failed[page - run->page];

    for (size_t i = 0; i < run->count; i++) {
        if (run->frames[i] != fresh || failed)
            qr_frame_put(frames, run->frames[i]);
    }
    return failed ? QR_ERR_IO : QR_OK;
}

/* What to do about a slot.  A. */
enum fetch { FETCH_GONE, FETCH_THERE, FETCH_WAIT, FETCH_READ };

static enum fetch
fetch_decide(const struct slot *slot)
{
    if (slot == NULL || slot->users == 0)
        return FETCH_GONE;
    if (slot->frame == NULL)
        return FETCH_READ;
    return (slot->state & SLOT_READING) != 0 ? FETCH_WAIT : FETCH_THERE;
}

enum qr_status
qr_swap_fetch(struct qr_swap *swap, qr_slot number, struct qr_frame **io_fresh,
              struct qr_frame **out_frame)
{
    struct run run = {.swap = swap};
    size_t ahead = 0, page = qr_slot_page(number);
    struct qr_frame *fresh = *io_fresh;

    for (;;) {
        struct slot *slot;
        struct area *area = area_lock(swap, number, &slot);
        uint32_t arrivals = atomic_load_explicit(&area->arrivals, memory_order_relaxed);
        enum fetch what = fetch_decide(slot);

        if (what == FETCH_THERE) {
            *out_frame = slot->frame;
            qr_frame_get(slot->frame);
        } else if (what == FETCH_READ && fresh != NULL) {
            run.area = area;
            if (area_is_read_in_order(area, page))
                ahead = window_pages(area, page) - 1;
            read_begin(&run, page, fresh);
        }
        qr_spin_unlock(&area->lock);
        if (what == FETCH_WAIT) {
            qr_port_wait(&area->arrivals, arrivals);
            continue;
        }
        if (what == FETCH_GONE)
            return QR_ERR_NOT_FOUND;
        if (what == FETCH_THERE)
            return QR_OK;
        break;
    }
    if (fresh == NULL)
        return QR_ERR_AGAIN;
    *io_fresh = NULL;
    enum qr_status status = fetch_read(&run, page, fresh, ahead);

    if (status == QR_OK)
        *out_frame = fresh;
    return status;
}

void
qr_swap_wait(struct qr_swap *swap, qr_slot number)
{
    bool busy;

    do {
        struct slot *slot;
        struct area *area = area_lock(swap, number, &slot);
        uint32_t arrivals = atomic_load_explicit(&area->arrivals, memory_order_relaxed);

        busy = slot != NULL && slot_is_busy(slot);
        qr_spin_unlock(&area->lock);
        if (busy)
            qr_port_wait(&area->arrivals, arrivals);
    } while (busy);
}
