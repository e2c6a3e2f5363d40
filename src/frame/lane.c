/* SPDX-License-Identifier: MIT */
/*
 * Lanes: what makes the common allocation and the common free a handful of
 * instructions that touch nothing shared.
 *
 * A lane is one CPU's stack of free frames, last in first out, so that the next frame
 * given out is the one whose contents are likeliest in the cache.  Under the stack lie the
 * rows of a reserved block: every frame that was free in it when this CPU took it, as a
 * private copy of its bitmap.  A refill moves what one 64-bit row has to the stack; when
 * the rows are empty, the zone hands over those of another block, all of it or, where
 * memory is short, as much as keeps the watermarks.  An overflow gives the cold end of
 * the stack back, grouped by row.
 *
 *   alloc ─> stack ─> reserved rows ─> zone        free ─> stack ─> zone
 *
 * Mutual exclusion: `top` is taken by exchanging it for 0.  The owner does that with
 * interrupts off and is gone after a few instructions; who finds 0 takes the
 * slow path.  Slow paths, and other CPUs that drain the lane, hold lane->lock first, and
 * then wait for top to appear unless the lane is closed.  A closed lane keeps 0 in top, so
 * its owner always comes to the slow path, which opens it again when memory permits.
 *
 * Locks: lane->lock, then top, then zone->lock.  Never two lanes at once.
 */
#include "frames.h"

void
qr_lanes_init(struct qr_frames *frames)
{
    for (unsigned cpu = 0; cpu < frames->cpu_count; cpu++) {
        struct frame_lane *lane = &frames->lanes[cpu];

        qr_spin_init(&lane->lock, QR_RANK_NONE);
        atomic_store_explicit(&lane->closed, true, memory_order_relaxed);
        lane->cpu = cpu;
        lane->block = BLOCK_NONE;
        atomic_init(&lane->top, 0);
    }
}

static bool
lane_is_closed(const struct frame_lane *lane)
{
    return atomic_load_explicit(&lane->closed, memory_order_relaxed);
}

/* Hold the lane whole.  @return the number of frames on its stack */
static uint32_t
lane_hold(struct frame_lane *lane, struct qr_cpu *cpu)
{
    uint32_t top;

    qr_spin_lock(&lane->lock);
    if (lane_is_closed(lane))
        return 0;
    /* The owner holds top for a few instructions at most. */
    while ((top = atomic_exchange_explicit(&lane->top, 0, memory_order_acquire)) == 0)
        qr_cpu_relax(cpu);
    return top - 1;
}

static void
lane_count(struct qr_frames *frames, struct frame_lane *lane)
{
    qr_counter_add(&frames->counters, QR_EVENT_ALLOC, (long)lane->allocs);
    qr_counter_add(&frames->counters, QR_EVENT_FREE, (long)lane->frees);
    lane->allocs = 0;
    lane->frees = 0;
}

/* Open it for @zone with @count frames on the stack, and let go. */
static void
lane_release_open(struct qr_frames *frames, struct frame_lane *lane, struct frame_zone *zone,
                  uint32_t count)
{
    union {
        uint8_t bytes[2];
        uint16_t key;
    } key = {.bytes = {0, zone->index}};

    lane->zone = zone->index;
    lane->key = key.key;
    lane->cap = zone->batch * 2 < LANE_STACK ? zone->batch * 2 : LANE_STACK;
    lane->large_cap = frames->lane_large;
    if (lane_is_closed(lane))
        qr_cpu_set_add(&frames->open_lanes, lane->cpu);
    atomic_store_explicit(&lane->closed, false, memory_order_relaxed);
    atomic_store_explicit(&lane->top, count + 1, memory_order_release);
    qr_spin_unlock(&lane->lock);
}

static void
lane_release_closed(struct qr_frames *frames, struct frame_lane *lane)
{
    if (!lane_is_closed(lane))
        qr_cpu_set_remove(&frames->open_lanes, lane->cpu);
    atomic_store_explicit(&lane->closed, true, memory_order_relaxed);
    qr_spin_unlock(&lane->lock);
}

/* ---- giving back -------------------------------------------------------- */

void
qr_frames_give(struct qr_frames *frames, size_t count, struct qr_frame *const *list)
{
    size_t i = 0;

    while (i < count) {
        struct frame_zone *zone = &frames->zones[list[i]->zone];
        size_t first = i;

        qr_spin_lock(&zone->lock);
        while (i < count && list[i]->zone == zone->index) {
            unsigned bit;
            uint32_t block = qr_frame_block(frames, list[i], &bit);
            unsigned row = bit / ROW_FRAMES;
            struct qr_frame *row_start = list[i] - bit % ROW_FRAMES;
            uint64_t mask = 0;

            /* As many as follow in the same row, in one step. */
            for (; i < count; i++) {
                uintptr_t offset = (uintptr_t)list[i] - (uintptr_t)row_start;

                if (offset >= ROW_FRAMES * sizeof(struct qr_frame))
                    break;
                uint64_t one = (uint64_t)1 << (offset / sizeof(struct qr_frame));

                if (mask & one)
                    break; /* given back twice: the next round finds it */
                mask |= one;
            }
            qr_zone_give_row(frames, zone, block, row, mask);
        }
        qr_frames_used_sub(frames, zone, i - first);
        qr_spin_unlock(&zone->lock);
    }
}

/* Give the reserved rows back to their block. */
static size_t
lane_give_rows(struct qr_frames *frames, struct frame_lane *lane)
{
    size_t given = lane->reserved;

    if (given == 0)
        return 0;
    struct frame_zone *zone = &frames->zones[lane->zone];

    qr_spin_lock(&zone->lock);
    for (unsigned r = 0; r < BLOCK_ROWS; r++) {
        if (lane->rows.row[r] != 0)
            qr_zone_give_row(frames, zone, lane->block, r, lane->rows.row[r]);
        lane->rows.row[r] = 0;
    }
    qr_frames_used_sub(frames, zone, given);
    qr_spin_unlock(&zone->lock);
    lane->reserved = 0;
    return given;
}

/* Give the kept blocks back. */
static size_t
lane_give_large(struct qr_frames *frames, struct frame_lane *lane)
{
    size_t given = 0;

    for (; lane->large_count > 0; given += BLOCK_FRAMES) {
        struct qr_frame *frame = lane->large[--lane->large_count];
        struct frame_zone *zone = &frames->zones[frame->zone];
        unsigned bit;
        uint32_t block = qr_frame_block(frames, frame, &bit);

        frame->order = 0;
        qr_spin_lock(&zone->lock);
        qr_zone_give_run(frames, zone, block, bit, BLOCK_ORDER);
        qr_frames_used_sub(frames, zone, BLOCK_FRAMES);
        qr_spin_unlock(&zone->lock);
    }
    return given;
}

size_t
qr_lanes_drain(struct qr_frames *frames)
{
    size_t given = 0;
    struct qr_cpu *cpu = qr_cpu_enter();

    for (unsigned i = 0; i < frames->cpu_count; i++) {
        if (i % 64 == 0 && atomic_load(&frames->open_lanes.bits[i / 64]) == 0) {
            i += 63;
            continue;
        }
        if (!qr_cpu_set_has(&frames->open_lanes, i))
            continue;
        struct frame_lane *lane = &frames->lanes[i];
        uint32_t held = lane_hold(lane, cpu);

        qr_frames_give(frames, held, lane->stack);
        given += held + lane_give_rows(frames, lane) + lane_give_large(frames, lane);
        lane_count(frames, lane);
        lane_release_closed(frames, lane);
    }
    qr_cpu_leave(cpu);
    return given;
}

/* What @lane holds of @zone's frames.  Interrupts are off. */
static size_t
lane_cached(struct frame_lane *lane, unsigned zone, struct qr_cpu *cpu)
{
    size_t cached = 0;
    uint32_t held = lane_hold(lane, cpu);

    if (!lane_is_closed(lane)) {
        if (lane->zone == zone)
            cached = held + lane->reserved + (size_t)lane->large_count * BLOCK_FRAMES;
        atomic_store_explicit(&lane->top, held + 1, memory_order_release);
    }
    qr_spin_unlock(&lane->lock);
    return cached;
}

size_t
qr_lanes_cached(struct qr_frames *frames, unsigned zone)
{
    size_t cached = 0;
    struct qr_cpu *cpu = qr_cpu_enter();

    for (unsigned i = 0; i < frames->cpu_count; i++)
        cached += lane_cached(&frames->lanes[i], zone, cpu);
    qr_cpu_leave(cpu);
    return cached;
}

unsigned
qr_frames_cpu_count(const struct qr_frames *frames)
{
    return frames->cpu_count;
}

void
qr_frames_cpu_stats(struct qr_frames *frames, unsigned zone, unsigned index,
                    struct qr_cpu_frames_stats *out_stats)
{
    struct qr_cpu *cpu = qr_cpu_enter();

    qr_assert(index < frames->cpu_count);
    out_stats->cached = lane_cached(&frames->lanes[index], zone, cpu);
    out_stats->capacity = LANE_STACK;
    out_stats->refill = ROW_FRAMES;
    qr_cpu_leave(cpu);
}

/* ---- refill ------------------------------------------------------------- */

/* Move the frames of the first row that has any to the stack, lowest on top. */
static uint32_t
lane_pull_row(struct qr_frames *frames, struct frame_lane *lane, uint32_t held)
{
    unsigned r = 0;

    while (lane->rows.row[r] == 0)
        r++;
    struct qr_frame *first = qr_block_frame(frames, lane->block, r * ROW_FRAMES);
    uint64_t row = lane->rows.row[r];
    struct qr_frame **slot = &lane->stack[held];

    if (row == ~(uint64_t)0) {
        for (unsigned bit = ROW_FRAMES; bit-- > 0;)
            *slot++ = first + bit;
    } else {
        while (row != 0) {
            unsigned bit = 63u - (unsigned)__builtin_clzll(row);

            row &= ~((uint64_t)1 << bit);
            *slot++ = first + bit;
        }
    }
    lane->rows.row[r] = 0;

    uint32_t moved = (uint32_t)(slot - &lane->stack[held]);

    lane->reserved -= moved;
    return held + moved;
}

/*
 * From the zone: the free frames of a whole block where there is plenty, else a batch of
 * single frames.  @return frames now on the stack
 */
static uint32_t
lane_pull_zone(struct qr_frames *frames, struct frame_lane *lane, struct frame_zone *zone,
               unsigned alloc_flags, uint32_t held)
{
    size_t taken = 0;

    qr_spin_lock(&zone->lock);
    size_t allowed = qr_zone_allowance(zone, QR_ZONE_NORMAL, alloc_flags);

    if (zone->batch == ROW_FRAMES && allowed > zone->managed / 16 && held == 0) {
        lane->block = qr_zone_take_rows(frames, zone, &lane->rows, &taken);
        lane->reserved = taken;
    } else {
        size_t want = zone->batch < allowed ? zone->batch : allowed;

        taken = qr_zone_take_singles(frames, zone, want, &lane->stack[held]);
        held += (uint32_t)taken;
    }
    qr_frames_used_add(frames, zone, taken);
    qr_spin_unlock(&zone->lock);
    return held;
}

/* The home zone of a CPU: the nearest that serves an unmarked request. */
static struct frame_zone *
lane_home(struct qr_frames *frames)
{
    uint8_t first = *qr_alloc_fallback(frames, QR_ZONE_NORMAL);

    return first == 0xff ? NULL : &frames->zones[first];
}

struct qr_frame *
qr_lane_refill(struct qr_frames *frames, unsigned alloc_flags)
{
    struct qr_cpu *cpu = qr_cpu_enter();
    struct frame_lane *lane = &frames->lanes[cpu->index];
    struct frame_zone *zone = lane_home(frames);
    struct qr_frame *frame = NULL;

    qr_assert(cpu->index < frames->cpu_count);
    if (frames->lanes_off || zone == NULL) {
        qr_cpu_leave(cpu);
        return NULL;
    }
    uint32_t held = lane_hold(lane, cpu);

    if (held == 0 && lane->reserved == 0)
        held = lane_pull_zone(frames, lane, zone, alloc_flags, held);
    if (held == 0 && lane->reserved != 0)
        held = lane_pull_row(frames, lane, held);
    lane_count(frames, lane);
    if (held > 0) {
        frame = lane->stack[--held];
        lane->allocs++;
        lane_release_open(frames, lane, zone, held);
    } else {
        lane_release_closed(frames, lane);
    }
    qr_cpu_leave(cpu);
    return frame;
}

void
qr_lane_overflow(struct qr_frames *frames, struct qr_frame *frame)
{
    struct qr_cpu *cpu = qr_cpu_enter();
    struct frame_lane *lane = &frames->lanes[cpu->index];
    struct frame_zone *home = lane_home(frames);

    if (frames->lanes_off || home == NULL || frame->zone != home->index ||
        atomic_load_explicit(&home->pressed, memory_order_relaxed)) {
        qr_frames_give(frames, 1, &frame);
        qr_counter_add(&frames->counters, QR_EVENT_FREE, 1);
        qr_cpu_leave(cpu);
        return;
    }
    uint32_t held = lane_hold(lane, cpu);

    if (held >= home->batch) {
        uint32_t cold = held - held / 4; /* few are left to move down */

        qr_frames_give(frames, cold, lane->stack);
        for (uint32_t i = cold; i < held; i++)
            lane->stack[i - cold] = lane->stack[i];
        held -= cold;
    }
    lane->stack[held++] = frame;
    lane->frees++;
    lane_count(frames, lane);
    lane_release_open(frames, lane, home, held);
    qr_cpu_leave(cpu);
}

/* ---- whole blocks -------------------------------------------------------- */

static bool
lane_keep_large(struct qr_frames *frames, struct qr_frame *frame)
{
    struct qr_cpu *cpu = qr_cpu_enter();
    struct frame_lane *lane = &frames->lanes[cpu->index];
    struct frame_zone *home = lane_home(frames);
    bool kept = false;

    if (!frames->lanes_off && home != NULL && frame->zone == home->index &&
        !atomic_load_explicit(&home->pressed, memory_order_relaxed)) {
        uint32_t held = lane_hold(lane, cpu);

        kept = lane->large_count < frames->lane_large;
        if (kept) {
            lane->large[lane->large_count++] = frame;
            lane->frees += BLOCK_FRAMES;
        }
        lane_release_open(frames, lane, home, held);
    }
    qr_cpu_leave(cpu);
    return kept;
}

/* As the fast path of single frames: by top alone, and only where the lane is open. */
struct qr_frame *
qr_lane_take_large(struct qr_frames *frames)
{
    uintptr_t irq = qr_port_irq_save();
    struct frame_lane *lane = &frames->lanes[qr_port_this_cpu()->index];
    uint32_t top = atomic_exchange_explicit(&lane->top, 0, memory_order_acquire);
    struct qr_frame *frame = NULL;

    if (top != 0) {
        if (lane->large_count > 0) {
            frame = lane->large[--lane->large_count];
            lane->allocs += BLOCK_FRAMES;
        }
        atomic_store_explicit(&lane->top, top, memory_order_release);
    }
    qr_port_irq_restore(irq);
    return frame;
}

bool
qr_lane_give_large(struct qr_frames *frames, struct qr_frame *frame)
{
    uintptr_t irq = qr_port_irq_save();
    struct frame_lane *lane = &frames->lanes[qr_port_this_cpu()->index];
    uint32_t top = atomic_exchange_explicit(&lane->top, 0, memory_order_acquire);
    bool kept = false;

    if (top != 0) {
        kept = lane->large_count < lane->large_cap && lane->zone == frame->zone;
        if (kept) {
            lane->large[lane->large_count++] = frame;
            lane->frees += BLOCK_FRAMES;
        }
        atomic_store_explicit(&lane->top, top, memory_order_release);
    }
    qr_port_irq_restore(irq);
    return kept || (top == 0 && lane_keep_large(frames, frame));
}
