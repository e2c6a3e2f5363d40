/* SPDX-License-Identifier: MIT */
/*
 * Allocation and freeing as callers see them.
 *
 * The common case (one frame, from this CPU's stack) stands at the top of this file and
 * is all there is to it.  Everything else goes the same way: ask the refusal
 * hook, try the zones in order, then give the request another chance by emptying the lanes
 * and by reclaim, and report when that did not help.
 *
 * A frame's descriptor says whether it may be freed: refs is 1 while the caller holds the
 * only reference and 0 while it is free, reserved, or the inside of a block.  That
 * one comparison, which a free has to make anyway, finds double frees.
 */
#include "frames.h"

#include <quire/writer.h>

/* Who may not ask for memory to be reclaimed. */
#define ALLOC_NO_HOOK (QR_ALLOC_ATOMIC | QR_ALLOC_RECLAIMER | QR_ALLOC_OPPORTUNE)

static void
zone_pressed_update(struct frame_zone *zone)
{
    bool pressed =
        qr_zone_free(zone) < atomic_load_explicit(&zone->watermark_high, memory_order_relaxed);

    atomic_store_explicit(&zone->pressed, pressed, memory_order_relaxed);
    if (!pressed && atomic_load_explicit(&zone->woken, memory_order_relaxed))
        atomic_store_explicit(&zone->woken, false, memory_order_relaxed);
}

void
qr_background_wake(struct qr_frames *frames, struct frame_zone *zone)
{
    if (qr_likely(qr_zone_free(zone) >=
                  atomic_load_explicit(&zone->watermark_low, memory_order_relaxed)) ||
        frames->background == NULL ||
        atomic_exchange_explicit(&zone->woken, true, memory_order_relaxed))
        return;
    frames->background(frames->background_context, zone->node);
}

void
qr_frames_used_add(struct qr_frames *frames, struct frame_zone *zone, size_t count)
{
    size_t used = atomic_fetch_add_explicit(&frames->used, count, memory_order_relaxed) + count;
    size_t peak = atomic_load_explicit(&frames->peak_used, memory_order_relaxed);

    while (used > peak &&
           !atomic_compare_exchange_weak_explicit(&frames->peak_used, &peak, used,
                                                  memory_order_relaxed, memory_order_relaxed)) {
    }
    if (zone->managed - qr_zone_free(zone) > zone->peak_used)
        zone->peak_used = zone->managed - qr_zone_free(zone);
    zone_pressed_update(zone);
}

void
qr_frames_used_sub(struct qr_frames *frames, struct frame_zone *zone, size_t count)
{
    zone_pressed_update(zone);
    atomic_fetch_sub_explicit(&frames->used, count, memory_order_relaxed);
}

/* ---- failing ------------------------------------------------------------ */

bool
qr_alloc_retry(struct qr_frames *frames, size_t wanted, unsigned alloc_flags, unsigned *attempt)
{
    if ((*attempt)++ == 0 && qr_lanes_any_open(frames) && qr_lanes_drain(frames) != 0)
        return true;
    if (*attempt > ALLOC_ATTEMPTS || frames->reclaim == NULL || (alloc_flags & ALLOC_NO_HOOK))
        return false;
    return frames->reclaim(frames->reclaim_context, wanted, alloc_flags) != 0;
}

/* A line each into the log. */
struct log_writer {
    struct qr_writer writer;
    size_t length;
    char line[120];
};

static void
log_emit(struct qr_writer *writer, const char *text, size_t bytes)
{
    struct log_writer *log = qr_container_of(writer, struct log_writer, writer);

    for (size_t i = 0; i < bytes; i++) {
        if (text[i] != '\n' && log->length + 1 < sizeof(log->line)) {
            log->line[log->length++] = text[i];
            continue;
        }
        log->line[log->length] = '\0';
        qr_port_log(log->line);
        log->length = 0;
    }
}

static QR_COLD void
failure_report(struct qr_frames *frames, size_t wanted, unsigned alloc_flags, size_t failures)
{
    struct log_writer log = {.writer = {.emit = log_emit}};

    qr_writer_printf(&log.writer,
                     "out of memory: no %zu frame(s) for flags 0x%x (failure %zu since boot)\n",
                     wanted, alloc_flags, failures);
    qr_frames_report(frames, &log.writer);
}

static QR_NOINLINE void
failure_note(struct qr_frames *frames, size_t wanted, unsigned alloc_flags)
{
    size_t failures = atomic_fetch_add_explicit(&frames->failures, 1, memory_order_relaxed) + 1;
    /* The 1st, 2nd, 4th, 8th ... failure: the log grows with its logarithm. */
    if ((failures & (failures - 1)) == 0)
        failure_report(frames, wanted, alloc_flags, failures);
}

void
qr_alloc_failed(struct qr_frames *frames, size_t wanted, unsigned alloc_flags)
{
    qr_counter_add(frames->counters, QR_EVENT_ALLOC_FAIL, 1);
    if ((alloc_flags & QR_ALLOC_NO_REPORT) == 0)
        failure_note(frames, wanted, alloc_flags);
}

/* ---- taking ------------------------------------------------------------- */

bool
qr_alloc_refused(struct qr_frames *frames)
{
    return frames->refuse != NULL && frames->refuse(frames->refuse_context);
}

/*
 * Whether nothing can come of a request: no zone has @wanted frames to give (a hint, without
 * locks) and nobody may be asked to find some.  No lane is open.
 */
static inline bool
request_is_hopeless(struct qr_frames *frames, unsigned node, size_t wanted, unsigned alloc_flags)
{
    enum qr_zone_kind kind = qr_alloc_kind(frames, alloc_flags);
    enum zone_floor depth = qr_alloc_floor(alloc_flags);
    const _Atomic uint8_t *at = frames->fallback[node][kind];
    uint8_t index;

    for (; (index = atomic_load_explicit(at, memory_order_relaxed)) != 0xff; at++) {
        const struct frame_zone *zone = &frames->zones[index];

        if (qr_zone_free(zone) >=
            wanted + atomic_load_explicit(&zone->floor[depth][kind], memory_order_relaxed))
            return false;
    }
    return frames->reclaim == NULL || (alloc_flags & ALLOC_NO_HOOK);
}

struct qr_frame *
qr_zones_take(struct qr_frames *frames, const struct zone_choice *choice, unsigned order,
              unsigned alloc_flags)
{
    enum qr_zone_kind kind = qr_alloc_kind(frames, alloc_flags);
    size_t wanted = (size_t)1 << order;
    struct frame_zone *zone;
    unsigned at = 0;

    while ((zone = qr_zone_next(frames, choice, kind, &at)) != NULL) {
        struct qr_frame *frame = NULL;

        /* A hint, without the lock: a request that must fail takes none. */
        if (qr_zone_allowance(zone, kind, alloc_flags) < wanted)
            continue;
        qr_spin_lock(&zone->lock);
        if (qr_zone_allowance(zone, kind, alloc_flags) >= wanted)
            frame = qr_zone_take_run(frames, zone, qr_block_class(alloc_flags), order);
        if (frame != NULL)
            qr_frames_used_add(frames, zone, wanted);
        qr_spin_unlock(&zone->lock);
        if (frame != NULL) {
            qr_numa_note(frames, zone, choice, kind, wanted);
            qr_background_wake(frames, zone);
            return frame;
        }
    }
    return NULL;
}

static QR_NOINLINE struct qr_frame *
take_or_wait(struct qr_frames *frames, unsigned node, const struct qr_node_set *nodes,
             unsigned order, unsigned alloc_flags)
{
    const struct zone_choice choice = {node, nodes};
    unsigned attempt = 0;

    do {
        struct qr_frame *frame = qr_zones_take(frames, &choice, order, alloc_flags);

        if (qr_likely(frame != NULL)) {
            qr_counter_add(frames->counters, QR_EVENT_ALLOC, 1l << order);
            return frame;
        }
    } while (qr_alloc_retry(frames, (size_t)1 << order, alloc_flags, &attempt));
    qr_alloc_failed(frames, (size_t)1 << order, alloc_flags);
    return NULL;
}

static QR_NOINLINE struct qr_frame *
take_nothing(struct qr_frames *frames, unsigned order, unsigned alloc_flags)
{
    if (qr_likely(alloc_flags & QR_ALLOC_NO_REPORT))
        qr_counter_add(frames->counters, QR_EVENT_ALLOC_FAIL, 1);
    else
        qr_alloc_failed(frames, (size_t)1 << order, alloc_flags);
    return NULL;
}

struct qr_frame *
qr_take_retrying(struct qr_frames *frames, unsigned node, const struct qr_node_set *nodes,
                 unsigned order, unsigned alloc_flags)
{
    if (qr_unlikely(!qr_lanes_any_open(frames) &&
                    request_is_hopeless(frames, node, (size_t)1 << order, alloc_flags)))
        return take_nothing(frames, order, alloc_flags);
    return take_or_wait(frames, node, nodes, order, alloc_flags);
}

struct qr_frame *
qr_frame_hand_out(struct qr_frames *frames, struct qr_frame *frame, unsigned order,
                  unsigned alloc_flags)
{
    qr_poison_check(frames, frame, (size_t)1 << order);
    frame->kept = (uint8_t)(order | (unsigned)qr_lane_class(frames, alloc_flags) << KEPT_CLASS);
    qr_frame_claim(frame);
    if (qr_alloc_zeroes(alloc_flags)) {
        for (size_t i = 0; i < (size_t)1 << order; i++)
            qr_frame_clear(frames, qr_frame_nth(frames, frame, i));
    }
    return frame;
}

/* From the stack of @lane; NULL: it is empty or held. */
static QR_ALWAYS_INLINE struct qr_frame *
lane_pop(struct frame_lane *lane)
{
    size_t top = atomic_exchange_explicit(&lane->head.top, 0, memory_order_acquire);
    struct qr_frame *frame = lane->stack[top + 1];

    if (qr_likely(frame != NULL)) {
        lane->head.allocs++;
        top++;
    }
    if (qr_likely(top != 0))
        atomic_store_explicit(&lane->head.top, top, memory_order_release);
    return frame;
}

/* By a lane where that may be, then from the zones. */
static QR_NOINLINE struct qr_frame *
alloc_somehow(struct qr_frames *frames, unsigned alloc_flags)
{
    enum lane_class class = qr_lane_class(frames, alloc_flags);
    struct qr_frame *frame = NULL;

    if (qr_alloc_refused(frames))
        return NULL;
    if (qr_likely((alloc_flags & QR_ALLOC_DMA) == 0) && qr_lane_wanted(frames, class))
        frame = qr_lane_alloc(frames, class, alloc_flags);
    if (qr_likely(frame != NULL)) {
        /* As the stack has it: its class and order 0. */
        qr_poison_check(frames, frame, 1);
        qr_frame_claim(frame);
        if (qr_alloc_zeroes(alloc_flags))
            qr_frame_clear(frames, frame);
        return frame;
    }
    frame = qr_take_retrying(frames, qr_this_node(), NULL, 0, alloc_flags);
    return frame == NULL ? NULL : qr_frame_hand_out(frames, frame, 0, alloc_flags);
}

/* What the first stack does not serve at once: any flag, or an empty stack. */
static QR_NOINLINE struct qr_frame *
alloc_slow(struct qr_frames *frames, unsigned alloc_flags)
{
    if (qr_unlikely(!qr_lanes_any_open(frames)) && frames->refuse == NULL &&
        request_is_hopeless(frames, qr_this_node(), 1, alloc_flags))
        return take_nothing(frames, 0, alloc_flags);
    if (alloc_flags == QR_ALLOC_MOVABLE && qr_port_this_cpu()->frame_lanes != 0) {
        struct qr_frame *frame = lane_pop(qr_lane_here(frames) + LANE_MOVABLE);

        if (qr_likely(frame != NULL)) {
            qr_poison_check(frames, frame, 1);
            qr_frame_claim(frame);
            return frame;
        }
    }
    return alloc_somehow(frames, alloc_flags);
}

/* The stack was empty, or somebody else holds the lane. */
static QR_NOINLINE struct qr_frame *
alloc_empty(struct qr_frames *frames, unsigned alloc_flags, size_t next, struct frame_lane *lane)
{
    if (next != 1)
        atomic_store_explicit(&lane->head.top, next - 1, memory_order_release);
    return alloc_slow(frames, alloc_flags);
}

struct qr_frame *
qr_frame_alloc(struct qr_frames *frames, unsigned alloc_flags)
{
    if (qr_unlikely((alloc_flags | ZERO_ALWAYS) != 0))
        return alloc_slow(frames, alloc_flags | ZERO_ALWAYS);
    struct frame_lane *lane = qr_lane_here(frames);
    size_t next = 1 + atomic_exchange_explicit(&lane->head.top, 0, memory_order_acquire);
    struct qr_frame *frame = lane->stack[next];

    /* Empty, or held by somebody else: see struct lane_head. */
    if (qr_unlikely(frame == NULL))
        return alloc_empty(frames, 0, next, lane);
    lane->head.allocs++;
    atomic_store_explicit(&lane->head.top, next, memory_order_release);
    qr_poison_check(frames, frame, 1);
    qr_frame_claim(frame);
    return frame;
}

static QR_NOINLINE struct qr_frame *
alloc_block_somehow(struct qr_frames *frames, unsigned order, unsigned alloc_flags)
{
    struct qr_frame *frame = NULL;

    if (qr_alloc_refused(frames))
        return NULL;
    if (order <= BLOCK_ORDER && (alloc_flags & QR_ALLOC_DMA) == 0 && qr_lanes_any_open(frames))
        frame = qr_lane_take_run(frames, qr_lane_class(frames, alloc_flags), order);
    if (frame == NULL)
        frame = qr_take_retrying(frames, qr_this_node(), NULL, order, alloc_flags);
    return frame == NULL ? NULL : qr_frame_hand_out(frames, frame, order, alloc_flags);
}

struct qr_frame *
qr_frame_alloc_block(struct qr_frames *frames, unsigned order, unsigned alloc_flags)
{
    if (order == 0)
        return qr_frame_alloc(frames, alloc_flags);
    if (order > QR_ORDER_MAX)
        return NULL;
    if (qr_unlikely(!qr_lanes_any_open(frames)) && frames->refuse == NULL &&
        request_is_hopeless(frames, qr_this_node(), (size_t)1 << order, alloc_flags))
        return take_nothing(frames, order, alloc_flags);
    return alloc_block_somehow(frames, order, alloc_flags);
}

/* As many as the zones allow, straight from them. */
static size_t
zones_take_many(struct qr_frames *frames, size_t count, struct qr_frame **out, unsigned alloc_flags)
{
    const struct zone_choice choice = {.node = qr_this_node()};
    enum qr_zone_kind kind = qr_alloc_kind(frames, alloc_flags);
    struct frame_zone *zone;
    unsigned at = 0;
    size_t got = 0;

    while (got < count && (zone = qr_zone_next(frames, &choice, kind, &at)) != NULL) {
        size_t step;

        /* Some rows at a time, so that the lock is never held for long. */
        do {
            qr_spin_lock(&zone->lock);
            size_t allowed = qr_zone_allowance(zone, kind, alloc_flags);
            size_t want = count - got < 4 * ROW_FRAMES ? count - got : 4 * ROW_FRAMES;

            want = want < allowed ? want : allowed;
            step = qr_zone_take_singles(frames, zone, qr_block_class(alloc_flags), want, out + got);
            qr_frames_used_add(frames, zone, step);
            qr_spin_unlock(&zone->lock);
            got += step;
            if (step != 0)
                qr_numa_note(frames, zone, &choice, kind, step);
        } while (step != 0 && got < count);
        qr_background_wake(frames, zone);
    }
    return got;
}

size_t
qr_frame_alloc_many(struct qr_frames *frames, size_t count, struct qr_frame **out,
                    unsigned alloc_flags)
{
    size_t got = 0;
    unsigned attempt = 0;

    if (count == 0 || qr_alloc_refused(frames))
        return 0;
    do {
        got += zones_take_many(frames, count - got, out + got, alloc_flags);
    } while (got < count && qr_alloc_retry(frames, count - got, alloc_flags, &attempt));
    qr_counter_add(frames->counters, QR_EVENT_ALLOC, (long)got);
    if (got < count)
        qr_alloc_failed(frames, count - got, alloc_flags);
    uint8_t kept = (uint8_t)((unsigned)qr_lane_class(frames, alloc_flags) << KEPT_CLASS);

    for (size_t i = 0; i < got; i++) {
        qr_poison_check(frames, out[i], 1);
        out[i]->kept = kept;
        qr_frame_claim(out[i]);
        if (qr_unlikely(qr_alloc_zeroes(alloc_flags)))
            qr_frame_clear(frames, out[i]);
    }
    return got;
}

/* ---- freeing ------------------------------------------------------------ */

void
qr_frame_bad_free(struct qr_frames *frames, struct qr_frame *frame)
{
    size_t pfn = qr_frame_pfn(frames, frame).v;
    uint32_t refs = atomic_load_explicit(&frame->refs, memory_order_relaxed);

    if (refs > 1)
        qr_panic("frame 0x%zx is freed while %u references to it exist; each holder drops its own "
                 "with qr_frame_put()",
                 pfn, refs);
    switch (qr_frame_type(frame)) {
    case QR_FRAME_FREE:
        qr_panic("frame 0x%zx is freed twice, or is the inside of a block; free what was "
                 "allocated, once",
                 pfn);
    case QR_FRAME_RESERVED:
    case QR_FRAME_NONE:
        qr_panic("frame 0x%zx is freed but was reserved by the memory map; only allocated frames "
                 "may be freed",
                 pfn);
    default:
        qr_panic("frame 0x%zx is freed but has no reference and type %d; somebody dropped a "
                 "reference that was not theirs",
                 pfn, (int)qr_frame_type(frame));
    }
}

static QR_NORETURN QR_COLD void
frame_bad_put(struct qr_frames *frames, struct qr_frame *frame)
{
    atomic_store_explicit(&frame->refs, 0, memory_order_relaxed);
    qr_frame_bad_free(frames, frame);
}

/* A free frame or block that did not fit on this CPU's first stack. */
static QR_NOINLINE void
free_slow(struct qr_frames *frames, struct qr_frame *frame)
{
    unsigned order = qr_frame_order(frame);

    if (order == 0) {
        qr_lane_free(frames, frame);
        return;
    }
    if (order <= BLOCK_ORDER && qr_lane_give_run(frames, frame, order))
        return;
    qr_frames_give_run(frames, frame, order);
    qr_counter_add(frames->counters, QR_EVENT_FREE, 1l << order);
}

/* A table entry that still names the frame would soon show somebody else's memory. */
static void
unmapped_check(const struct qr_frames *frames, const struct qr_frame *frame)
{
#ifdef CONFIG_MEMORY_DEBUGGING
    enum qr_frame_type type = qr_frame_type(frame);
    uint32_t maps = atomic_load_explicit(&frame->maps, memory_order_relaxed);

    if ((qr_frame_is_private(frame) || type == QR_FRAME_OBJECT) && maps != 0)
        qr_panic("frame 0x%zx is freed while %u table entries map it; unmap it everywhere, then "
                 "drop the last reference",
                 qr_frame_pfn(frames, frame).v, maps);
#else
    (void)frames, (void)frame;
#endif
}

/* Whoever was charged for it is so no more. */
QR_NOINLINE void
qr_frame_uncharge(struct qr_frames *frames, struct qr_frame *frame)
{
    uint32_t flags = atomic_load_explicit(&frame->flags, memory_order_relaxed);

    if (flags >> QR_FRAME_GROUP_SHIFT == 0)
        return;
    frames->uncharge(frames->uncharge_context, flags >> QR_FRAME_GROUP_SHIFT, flags,
                     (size_t)1 << qr_frame_order(frame));
    qr_frame_set_group(frame, 0);
}

/* Nobody has a reference any more: what every free does before the frame goes anywhere. */
static QR_ALWAYS_INLINE void
frame_retire(struct qr_frames *frames, struct qr_frame *frame)
{
    unmapped_check(frames, frame);
#ifdef CONFIG_ZERO_ON_FREE
    for (size_t i = 0; i < (size_t)1 << qr_frame_order(frame); i++)
        qr_frame_clear(frames, qr_frame_nth(frames, frame, i));
#endif
    atomic_store_explicit(&frame->flags, QR_FRAME_FREE, memory_order_relaxed);
    qr_poison_set(frames, frame, (size_t)1 << qr_frame_order(frame));
}

/* Whoever is to know that it goes is told. */
static QR_NOINLINE void
frame_tell(struct qr_frames *frames, struct qr_frame *frame)
{
#ifdef CONFIG_MERGE
    if (qr_frame_type(frame) == QR_FRAME_MERGED) {
        if (frames->merged_gone != NULL)
            frames->merged_gone(frames->merged_context, frame);
        frame->kept &= (uint8_t)~QR_FRAME_CHARGED;
    }
#endif
    qr_frame_uncharge(frames, frame);
}

/* The same of one that may be charged for, or merged. */
static QR_ALWAYS_INLINE void
frame_settle(struct qr_frames *frames, struct qr_frame *frame)
{
    if (qr_unlikely(frame->kept & QR_FRAME_CHARGED))
        frame_tell(frames, frame);
    frame_retire(frames, frame);
}

/* Onto the stack of @lane; false: it is full or held. */
static QR_ALWAYS_INLINE bool
lane_push(struct frame_lane *lane, struct qr_frame *frame)
{
    size_t top = atomic_exchange_explicit(&lane->head.top, 0, memory_order_acquire);

    if (qr_unlikely(top <= 1)) {
        if (top != 0)
            atomic_store_explicit(&lane->head.top, top, memory_order_release);
        return false;
    }
    lane->stack[top] = frame;
    atomic_store_explicit(&lane->head.top, top - 1, memory_order_release);
    return true;
}

/* A frame without references: onto the stack of its class where it fits. */
static QR_ALWAYS_INLINE void
frame_release(struct qr_frames *frames, struct qr_frame *frame)
{
    bool here = qr_port_this_cpu()->frame_lanes != 0;
    struct frame_lane *lane = qr_lane_here(frames) + (here ? qr_frame_class(frame) : 0);

    frame_settle(frames, frame);
    bool fits = qr_frame_key_unreferenced(frame) == lane->head.key;

    if (qr_unlikely(!fits || !lane_push(lane, frame)))
        free_slow(frames, frame);
}

/* Of another class than the first lane's, or a block, or charged, or not the caller's to free. */
static QR_NOINLINE void
free_other(struct qr_frames *frames, struct qr_frame *frame)
{
    qr_frame_unclaim(frames, frame);
    frame_release(frames, frame);
}

#if UINTPTR_MAX > UINT32_MAX
/*
 * Drop the only reference, of a frame that look-ups do not meet.  Two CPUs that free a frame
 * in the same instant are told apart in debug builds alone.
 */
static QR_ALWAYS_INLINE void
frame_drop_only(struct qr_frames *frames, struct qr_frame *frame)
{
#ifdef CONFIG_MEMORY_DEBUGGING
    qr_frame_unclaim(frames, frame);
#else
    (void)frames;
    atomic_store_explicit(&frame->refs, 0, memory_order_relaxed);
#endif
}
#endif

void
qr_frame_free(struct qr_frames *frames, struct qr_frame *frame)
{
    struct frame_lane *lane = qr_lane_here(frames);

#if UINTPTR_MAX > UINT32_MAX
    if (qr_unlikely(qr_frame_key(frame) != lane->head.key)) {
        free_other(frames, frame);
        return;
    }
    frame_drop_only(frames, frame);
    frame_retire(frames, frame);
    if (qr_unlikely(!lane_push(lane, frame)))
        free_slow(frames, frame);
#else
    (void)lane;
    free_other(frames, frame);
#endif
}

void
qr_frame_free_many(struct qr_frames *frames, size_t count, struct qr_frame *const *list)
{
    size_t i = 0;

    while (i < count) {
        size_t first = i;

        for (; i < count && i - first < ROW_FRAMES && qr_frame_order(list[i]) == 0; i++) {
            qr_frame_unclaim(frames, list[i]);
            frame_settle(frames, list[i]);
        }
        qr_frames_give(frames, i - first, list + first);
        qr_counter_add(frames->counters, QR_EVENT_FREE, (long)(i - first));
        if (i < count && qr_frame_order(list[i]) != 0)
            qr_frame_free(frames, list[i++]);
    }
}

void
qr_frame_split_block(struct qr_frames *frames, struct qr_frame *head)
{
    unsigned order = qr_frame_order(head);
    uint8_t kept = (uint8_t)(head->kept & ~KEPT_ORDER);
    uint32_t flags = atomic_load_explicit(&head->flags, memory_order_relaxed);

    qr_assert(atomic_load_explicit(&head->refs, memory_order_relaxed) == 1);
    qr_assert(qr_frame_group(head) == 0); /* single frames are charged, not blocks */
    if (order >= BLOCK_ORDER) {
        struct frame_zone *zone = &frames->zones[head->zone];
        unsigned bit;

        qr_spin_lock(&zone->lock);
        qr_zone_split_taken(frames, zone, qr_frame_block(frames, head, &bit));
        qr_spin_unlock(&zone->lock);
    }
    head->kept = kept;
    for (size_t i = 1; i < (size_t)1 << order; i++) {
        struct qr_frame *frame = qr_frame_nth(frames, head, i);

        frame->kept = kept;
        atomic_store_explicit(&frame->flags, flags & 0xff, memory_order_relaxed);
        atomic_store_explicit(&frame->refs, 1, memory_order_relaxed);
    }
}

/* ---- references --------------------------------------------------------- */

bool
qr_frame_try_get(struct qr_frame *frame)
{
    uint32_t refs = atomic_load_explicit(&frame->refs, memory_order_relaxed);

    while (refs != 0) {
        if (atomic_compare_exchange_weak_explicit(&frame->refs, &refs, refs + 1,
                                                  memory_order_acquire, memory_order_relaxed))
            return true;
    }
    return false;
}

void
qr_frame_put(struct qr_frames *frames, struct qr_frame *frame)
{
    uint32_t refs = atomic_fetch_sub_explicit(&frame->refs, 1, memory_order_acq_rel);

    if (refs == 1)
        frame_release(frames, frame);
    else if (qr_unlikely(refs == 0))
        frame_bad_put(frames, frame);
}

void
qr_frame_put_run(struct qr_frames *frames, struct qr_frame *first, size_t count)
{
    qr_pfn pfn = qr_frame_pfn(frames, first);
    struct qr_frame *frame = first;
    struct qr_frame *free[ROW_FRAMES];
    size_t freed = 0;

    for (size_t i = 0; i < count; i++) {
        if ((pfn.v + i) % BLOCK_FRAMES == 0)
            frame = qr_frame_of(frames, qr_pfn_of(pfn.v + i));
        uint32_t refs = atomic_fetch_sub_explicit(&frame->refs, 1, memory_order_acq_rel);

        if (qr_unlikely(refs == 0))
            frame_bad_put(frames, frame);
        if (refs == 1) {
            frame_settle(frames, frame);
            free[freed++] = frame;
        }
        frame++;
        if (freed == ROW_FRAMES || (freed > 0 && i + 1 == count)) {
            qr_frames_give(frames, freed, free);
            qr_counter_add(frames->counters, QR_EVENT_FREE, (long)freed);
            freed = 0;
        }
    }
}
