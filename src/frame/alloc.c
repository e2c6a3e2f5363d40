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

#define FAST_KEY(frame) (*(const uint16_t *)(const void *)&(frame)->order)

enum qr_zone_kind
qr_alloc_kind(unsigned alloc_flags)
{
    if (alloc_flags & QR_ALLOC_DMA)
        return QR_ZONE_DMA;
    return alloc_flags & QR_ALLOC_HIGH ? QR_ZONE_HIGH : QR_ZONE_NORMAL;
}

const uint8_t *
qr_alloc_fallback(struct qr_frames *frames, enum qr_zone_kind kind)
{
    unsigned node = qr_port_this_cpu()->node;

    return frames->fallback[node < CONFIG_MAX_NODES ? node : 0][kind];
}

static void
zone_pressed_update(struct frame_zone *zone)
{
    atomic_store_explicit(&zone->pressed, qr_zone_free(zone) < zone->watermark_high,
                          memory_order_relaxed);
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
    if (*attempt > ALLOC_ATTEMPTS || frames->reclaim == NULL ||
        (alloc_flags & (QR_ALLOC_ATOMIC | QR_ALLOC_RECLAIMER)))
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

void
qr_alloc_failed(struct qr_frames *frames, size_t wanted, unsigned alloc_flags)
{
    size_t failures;

    qr_counter_add(&frames->counters, QR_EVENT_ALLOC_FAIL, 1);
    if (alloc_flags & QR_ALLOC_NO_REPORT)
        return;
    failures = atomic_fetch_add_explicit(&frames->failures, 1, memory_order_relaxed) + 1;
    /* The 1st, 2nd, 4th, 8th ... failure: the log grows with its logarithm. */
    if ((failures & (failures - 1)) == 0)
        failure_report(frames, wanted, alloc_flags, failures);
}

/* ---- taking ------------------------------------------------------------- */

bool
qr_alloc_refused(struct qr_frames *frames)
{
    return frames->refuse != NULL && frames->refuse(frames->refuse_context);
}

/* Whether any zone has @wanted frames for the request; a hint, without locks. */
static bool
zones_may_give(struct qr_frames *frames, size_t wanted, unsigned alloc_flags)
{
    enum qr_zone_kind kind = qr_alloc_kind(alloc_flags);

    for (const uint8_t *at = qr_alloc_fallback(frames, kind); *at != 0xff; at++) {
        if (qr_zone_allowance(&frames->zones[*at], kind, alloc_flags) >= wanted)
            return true;
    }
    return false;
}

/* 2^order frames from the nearest zone that may give them. */
static QR_NOINLINE struct qr_frame *
zones_take(struct qr_frames *frames, unsigned order, unsigned alloc_flags)
{
    enum qr_zone_kind kind = qr_alloc_kind(alloc_flags);

    for (const uint8_t *at = qr_alloc_fallback(frames, kind); *at != 0xff; at++) {
        struct frame_zone *zone = &frames->zones[*at];
        struct qr_frame *frame = NULL;

        if (qr_zone_allowance(zone, kind, alloc_flags) < (size_t)1 << order)
            continue;
        qr_spin_lock(&zone->lock);
        if (qr_zone_allowance(zone, kind, alloc_flags) >= (size_t)1 << order)
            frame = qr_zone_take_run(frames, zone, order);
        if (frame != NULL)
            qr_frames_used_add(frames, zone, (size_t)1 << order);
        qr_spin_unlock(&zone->lock);
        if (frame != NULL)
            return frame;
    }
    return NULL;
}

static struct qr_frame *
take_retrying(struct qr_frames *frames, unsigned order, unsigned alloc_flags)
{
    size_t wanted = (size_t)1 << order;
    unsigned attempt = 0;

    do {
        struct qr_frame *frame = NULL;

        if (zones_may_give(frames, wanted, alloc_flags))
            frame = zones_take(frames, order, alloc_flags);
        if (frame != NULL) {
            qr_counter_add(&frames->counters, QR_EVENT_ALLOC, (long)wanted);
            return frame;
        }
    } while (qr_alloc_retry(frames, wanted, alloc_flags, &attempt));
    qr_alloc_failed(frames, wanted, alloc_flags);
    return NULL;
}

struct qr_frame *
qr_frame_hand_out(struct qr_frames *frames, struct qr_frame *frame, unsigned order,
                  unsigned alloc_flags)
{
    qr_poison_check(frames, frame, (size_t)1 << order);
    frame->order = (uint8_t)order;
    qr_frame_claim(frame);
    if (alloc_flags & QR_ALLOC_ZERO) {
        for (size_t i = 0; i < (size_t)1 << order; i++)
            qr_frame_clear(frames, frame + i);
    }
    return frame;
}

/* Whether to go by the lane: it is open, or there is enough memory to open it. */
static bool
lane_wanted(struct qr_frames *frames)
{
    const struct qr_cpu *cpu = qr_port_this_cpu();
    uint8_t home = *qr_alloc_fallback(frames, QR_ZONE_NORMAL);

    return !atomic_load_explicit(&frames->lanes[cpu->index].closed, memory_order_relaxed) ||
           (home != 0xff &&
            !atomic_load_explicit(&frames->zones[home].pressed, memory_order_relaxed));
}

/* Pop from this CPU's stack; NULL where that needs the slow path. */
static QR_ALWAYS_INLINE struct qr_frame *
lane_pop(struct qr_frames *frames)
{
    uintptr_t irq = qr_port_irq_save();
    struct frame_lane *lane = &frames->lanes[qr_port_this_cpu()->index];
    uint32_t top = atomic_exchange_explicit(&lane->top, 0, memory_order_acquire);

    if (qr_unlikely(top <= 1)) {
        if (top != 0)
            atomic_store_explicit(&lane->top, top, memory_order_release);
        qr_port_irq_restore(irq);
        return NULL;
    }
    struct qr_frame *frame = lane->stack[top - 2];

    qr_assume(frame != NULL);
    lane->allocs++;
    atomic_store_explicit(&lane->top, top - 1, memory_order_release);
    qr_port_irq_restore(irq);
    return frame;
}

/* What the stack does not serve at once: cleared frames, other zones, an empty stack. */
static QR_NOINLINE struct qr_frame *
alloc_slow(struct qr_frames *frames, unsigned alloc_flags)
{
    struct qr_frame *frame = NULL;

    if (qr_alloc_refused(frames))
        return NULL;
    if ((alloc_flags & frames->slow_flags & ~(unsigned)QR_ALLOC_ZERO) == 0) {
        frame = lane_pop(frames);
        if (frame == NULL && lane_wanted(frames))
            frame = qr_lane_refill(frames, alloc_flags);
    }
    if (frame == NULL)
        frame = take_retrying(frames, 0, alloc_flags);
    return frame == NULL ? NULL : qr_frame_hand_out(frames, frame, 0, alloc_flags);
}

struct qr_frame *
qr_frame_alloc(struct qr_frames *frames, unsigned alloc_flags)
{
    struct qr_frame *frame;

    if (qr_unlikely(alloc_flags & frames->slow_flags))
        return alloc_slow(frames, alloc_flags);
    frame = lane_pop(frames);
    if (qr_unlikely(frame == NULL))
        return alloc_slow(frames, alloc_flags);
    qr_poison_check(frames, frame, 1);
    qr_frame_claim(frame);
    return frame;
}

struct qr_frame *
qr_frame_alloc_block(struct qr_frames *frames, unsigned order, unsigned alloc_flags)
{
    struct qr_frame *frame;

    if (order == 0)
        return qr_frame_alloc(frames, alloc_flags);
    if (order > QR_ORDER_MAX || qr_alloc_refused(frames))
        return NULL;
    frame = NULL;
    if (order == BLOCK_ORDER && (alloc_flags & frames->slow_flags & ~(unsigned)QR_ALLOC_ZERO) == 0)
        frame = qr_lane_take_large(frames);
    if (frame == NULL)
        frame = take_retrying(frames, order, alloc_flags);
    return frame == NULL ? NULL : qr_frame_hand_out(frames, frame, order, alloc_flags);
}

/* As many as the zones allow, straight from them. */
static size_t
zones_take_many(struct qr_frames *frames, size_t count, struct qr_frame **out, unsigned alloc_flags)
{
    enum qr_zone_kind kind = qr_alloc_kind(alloc_flags);
    size_t got = 0;

    for (const uint8_t *at = qr_alloc_fallback(frames, kind); *at != 0xff && got < count; at++) {
        struct frame_zone *zone = &frames->zones[*at];
        size_t step;

        /* A row at a time, so that the lock is never held for long. */
        do {
            qr_spin_lock(&zone->lock);
            size_t allowed = qr_zone_allowance(zone, kind, alloc_flags);
            size_t want = count - got < 4 * ROW_FRAMES ? count - got : 4 * ROW_FRAMES;

            want = want < allowed ? want : allowed;
            step = qr_zone_take_singles(frames, zone, want, out + got);
            qr_frames_used_add(frames, zone, step);
            qr_spin_unlock(&zone->lock);
            got += step;
        } while (step != 0 && got < count);
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
    qr_counter_add(&frames->counters, QR_EVENT_ALLOC, (long)got);
    if (got < count)
        qr_alloc_failed(frames, count - got, alloc_flags);
    for (size_t i = 0; i < got; i++) {
        qr_poison_check(frames, out[i], 1);
        qr_frame_claim(out[i]);
        if (qr_unlikely(alloc_flags & QR_ALLOC_ZERO))
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

static QR_NOINLINE void
free_slow(struct qr_frames *frames, struct qr_frame *frame)
{
    unsigned order = frame->order;

    if (order == 0) {
        qr_lane_overflow(frames, frame);
        return;
    }
    if (order == BLOCK_ORDER && qr_lane_give_large(frames, frame))
        return;
    struct frame_zone *zone = &frames->zones[frame->zone];
    unsigned bit;
    uint32_t block = qr_frame_block(frames, frame, &bit);

    frame->order = 0;
    qr_spin_lock(&zone->lock);
    qr_zone_give_run(frames, zone, block, bit, order);
    qr_frames_used_sub(frames, zone, (size_t)1 << order);
    qr_spin_unlock(&zone->lock);
    qr_counter_add(&frames->counters, QR_EVENT_FREE, 1l << order);
}

/* A table entry that still names the frame would soon show somebody else's memory. */
static void
unmapped_check(const struct qr_frames *frames, const struct qr_frame *frame)
{
#ifdef CONFIG_MEMORY_DEBUGGING
    enum qr_frame_type type = qr_frame_type(frame);
    uint32_t maps = atomic_load_explicit(&frame->maps, memory_order_relaxed);

    if ((type == QR_FRAME_ANON || type == QR_FRAME_OBJECT) && maps != 0)
        qr_panic("frame 0x%zx is freed while %u table entries map it; unmap it everywhere, then "
                 "drop the last reference",
                 qr_frame_pfn(frames, frame).v, maps);
#else
    (void)frames, (void)frame;
#endif
}

/* A frame or block whose last reference is gone: onto this CPU's stack where it fits. */
static QR_ALWAYS_INLINE void
frame_release(struct qr_frames *frames, struct qr_frame *frame)
{
    unmapped_check(frames, frame);
    atomic_store_explicit(&frame->flags, QR_FRAME_FREE, memory_order_relaxed);
    qr_poison_set(frames, frame, (size_t)1 << frame->order);

    uintptr_t irq = qr_port_irq_save();
    struct frame_lane *lane = &frames->lanes[qr_port_this_cpu()->index];
    uint32_t top = atomic_exchange_explicit(&lane->top, 0, memory_order_acquire);

    if (qr_unlikely(top - 1 >= lane->cap || FAST_KEY(frame) != lane->key)) {
        if (top != 0)
            atomic_store_explicit(&lane->top, top, memory_order_release);
        qr_port_irq_restore(irq);
        free_slow(frames, frame);
        return;
    }
    lane->stack[top - 1] = frame;
    lane->frees++;
    atomic_store_explicit(&lane->top, top + 1, memory_order_release);
    qr_port_irq_restore(irq);
}

void
qr_frame_free(struct qr_frames *frames, struct qr_frame *frame)
{
    qr_frame_unclaim(frames, frame);
    frame_release(frames, frame);
}

void
qr_frame_free_many(struct qr_frames *frames, size_t count, struct qr_frame *const *list)
{
    size_t i = 0;

    while (i < count) {
        size_t first = i;

        for (; i < count && i - first < ROW_FRAMES && list[i]->order == 0; i++) {
            qr_frame_unclaim(frames, list[i]);
            unmapped_check(frames, list[i]);
            atomic_store_explicit(&list[i]->flags, QR_FRAME_FREE, memory_order_relaxed);
            qr_poison_set(frames, list[i], 1);
        }
        qr_frames_give(frames, i - first, list + first);
        qr_counter_add(&frames->counters, QR_EVENT_FREE, (long)(i - first));
        if (i < count && list[i]->order != 0)
            qr_frame_free(frames, list[i++]);
    }
}

void
qr_frame_split_block(struct qr_frames *frames, struct qr_frame *head)
{
    unsigned order = head->order;
    uint32_t flags = atomic_load_explicit(&head->flags, memory_order_relaxed);

    qr_assert(atomic_load_explicit(&head->refs, memory_order_relaxed) == 1);
    if (order >= BLOCK_ORDER) {
        struct frame_zone *zone = &frames->zones[head->zone];
        unsigned bit;

        qr_spin_lock(&zone->lock);
        qr_zone_split_taken(frames, zone, qr_frame_block(frames, head, &bit));
        qr_spin_unlock(&zone->lock);
    }
    head->order = 0;
    for (size_t i = 1; i < (size_t)1 << order; i++) {
        /* Descriptors of a block that crosses sections are not side by side. */
        struct qr_frame *frame = qr_frame_of(frames, qr_pfn_of(qr_frame_pfn(frames, head).v + i));

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
