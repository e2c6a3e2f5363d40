/* SPDX-License-Identifier: MIT */
/*
 * Lanes: what makes the common allocation and the common free a handful of
 * instructions that touch nothing shared.
 *
 * A CPU has a lane for frames that stay where they are, one for movable frames, and one for
 * High memory.  A lane is a stack of free frames, last in first out, so that the next frame
 * given out is the one whose contents are likeliest in the cache.  Under the stack lie the
 * rows of a reserved block: every frame that was free in it when this CPU took it, as a
 * private copy of its bitmap.  A refill moves what one 64-bit row has to the stack; when
 * the rows are empty, the zone hands over those of another block, all of it or, where
 * memory is short, as much as keeps the watermarks.  An overflow gives the cold end of
 * the stack back, grouped by row.
 *
 *   alloc ─> stack ─> reserved rows ─> zone        free ─> stack ─> zone, grouped by row
 *
 * Beside the stack a lane keeps one free run of each order up to 9, so that what comes and goes
 * (kernel stacks, slabs, large pages) does not merge and split each time.
 *
 *   slot   0    1    2  ...  top | top+1 ...  bottom | bottom+1
 *          -   NULL              | hot   ...   cold  |  NULL
 *
 * Mutual exclusion: `top` is taken by exchanging it for 0.  The fast path does that with
 * interrupts on: nobody waits for it.  Who finds 0 takes the slow path, which holds
 * lane->lock, tries for a moment to get top, and does without the lane when it cannot: the
 * thread that has it may have been interrupted.  A closed lane keeps 0 in top, so its
 * owner always comes to the slow path, which opens it again when memory permits.
 *
 * Frames freed by the fast path are not counted there: they are what was allocated plus
 * what the stack has grown by.
 *
 * Locks: lane->lock, then top, then zone->lock.  Never two lanes at once.
 */
#include "frames.h"

/* Rounds of waiting for a fast path on another CPU, which takes some ten instructions. */
#define HOLD_ROUNDS 256u

static struct frame_lane *
lane_of(struct qr_frames *frames, unsigned cpu, enum lane_class class)
{
    return &frames->lanes[cpu * frames->lane_classes + class];
}

void
qr_lanes_init(struct qr_frames *frames)
{
    for (unsigned i = 0; i < frames->cpu_count * frames->lane_classes; i++) {
        struct frame_lane *lane = &frames->lanes[i];

        qr_spin_init(&lane->lock, QR_RANK_NONE);
        atomic_store_explicit(&lane->closed, true, memory_order_relaxed);
        lane->cpu = i / frames->lane_classes;
        lane->class = (uint8_t)(i % frames->lane_classes);
        lane->block = BLOCK_NONE;
        lane->bottom = LANE_STACK + 1;
        atomic_init(&lane->head.top, 0);
    }
}

static bool
lane_is_closed(const struct frame_lane *lane)
{
    return atomic_load_explicit(&lane->closed, memory_order_relaxed);
}

/* The free frames' users, as blocks know them. */
static enum block_class
lane_block_class(const struct frame_lane *lane)
{
    return lane->class == LANE_FIXED ? BLOCK_FIXED : BLOCK_MOVABLE;
}

/*
 * Hold the lane whole.  A closed one counts as empty.
 * @return whether it is held; then *out_held is the number of frames on its stack
 */
static bool
lane_hold(struct frame_lane *lane, struct qr_cpu *cpu, size_t *out_held)
{
    size_t top = 0;

    qr_spin_lock(&lane->lock);
    *out_held = 0;
    if (lane_is_closed(lane))
        return true;
    for (unsigned i = 0; i < HOLD_ROUNDS; i++) {
        top = atomic_exchange_explicit(&lane->head.top, 0, memory_order_acquire);
        if (top != 0) {
            *out_held = lane->bottom - top;
            lane->frees += lane->head.allocs + *out_held - lane->counted;
            return true;
        }
        qr_cpu_relax(cpu);
    }
    qr_spin_unlock(&lane->lock);
    return false;
}

static void
lane_count(struct qr_frames *frames, struct frame_lane *lane)
{
    const struct frame_zone *zone = &frames->zones[lane->zone];

    if (lane->head.allocs != 0) {
        qr_counter_add(frames->counters, QR_EVENT_ALLOC, (long)lane->head.allocs);
        /* Its zone is the first that the CPU's requests look at. */
        qr_numa_count(frames, zone->node, QR_NUMA_HIT, lane->head.allocs);
        qr_numa_count(frames, zone->node, zone->node == lane->node ? QR_NUMA_LOCAL : QR_NUMA_OTHER,
                      lane->head.allocs);
    }
    if (lane->frees != 0)
        qr_counter_add(frames->counters, QR_EVENT_FREE, (long)lane->frees);
    lane->head.allocs = 0;
    lane->frees = 0;
}

/* Let go of it with @held frames on the stack. */
static void
lane_release(struct frame_lane *lane, size_t held)
{
    lane->counted = held + lane->head.allocs;
    if (!lane_is_closed(lane))
        atomic_store_explicit(&lane->head.top, lane->bottom - held, memory_order_release);
    qr_spin_unlock(&lane->lock);
}

/* From closed to open, for @zone, by its own CPU; the lane is held and empty. */
static void
lane_open(struct frame_lane *lane, const struct frame_zone *zone, uint32_t run_order)
{
    uint32_t cap = zone->batch * 2 < LANE_STACK ? zone->batch * 2 : LANE_STACK;

    lane->zone = zone->index;
    lane->node = qr_this_node();
    lane->bottom = cap + 1;
    lane->stack[lane->bottom + 1] = NULL;
    lane->head.key = qr_lane_key(lane->class, lane->zone);
    lane->run_order = run_order;
    atomic_store_explicit(&lane->closed, false, memory_order_relaxed);
}

/* The coldest @count frames, of @held. */
static struct qr_frame **
lane_cold(struct frame_lane *lane, size_t count)
{
    return &lane->stack[lane->bottom + 1 - count];
}

/* ---- giving back -------------------------------------------------------- */

/* Single frames, all of @zone. */
static void
zone_give(struct qr_frames *frames, struct frame_zone *zone, size_t count,
          struct qr_frame *const *list)
{
    qr_spin_lock(&zone->lock);
    qr_zone_give_singles(frames, zone, count, list);
    qr_frames_used_sub(frames, zone, count);
    qr_spin_unlock(&zone->lock);
}

void
qr_frames_give(struct qr_frames *frames, size_t count, struct qr_frame *const *list)
{
    for (size_t i = 0; i < count;) {
        struct frame_zone *zone = &frames->zones[list[i]->zone];
        size_t first = i;

        while (i < count && list[i]->zone == zone->index)
            i++;
        zone_give(frames, zone, i - first, list + first);
    }
}

/* Give a free run to its zone. */
void
qr_frames_give_run(struct qr_frames *frames, struct qr_frame *frame, unsigned order)
{
    struct frame_zone *zone = &frames->zones[frame->zone];
    unsigned bit;
    uint32_t block = qr_frame_block(frames, frame, &bit);

    frame->kept = 0;
    qr_spin_lock(&zone->lock);
    qr_zone_give_run(frames, zone, block, bit, order);
    qr_frames_used_sub(frames, zone, (size_t)1 << order);
    qr_spin_unlock(&zone->lock);
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

/* Give the kept runs back. */
static size_t
lane_give_runs(struct qr_frames *frames, struct frame_lane *lane)
{
    size_t given = lane->run_frames;

    for (unsigned order = 1; order <= BLOCK_ORDER; order++) {
        if (lane->run[order] != NULL)
            qr_frames_give_run(frames, lane->run[order], order);
        lane->run[order] = NULL;
    }
    lane->run_frames = 0;
    return given;
}

size_t
qr_lanes_drain(struct qr_frames *frames)
{
    size_t given = 0;
    struct qr_cpu *cpu = qr_cpu_enter();

    for (unsigned i = 0; i < frames->cpu_count * frames->lane_classes; i++) {
        struct frame_lane *lane = &frames->lanes[i];
        size_t held;

        if (lane_is_closed(lane) || !lane_hold(lane, cpu, &held))
            continue;
        qr_frames_give(frames, held, lane_cold(lane, held));
        given += held + lane_give_rows(frames, lane) + lane_give_runs(frames, lane);
        lane_count(frames, lane);
        atomic_store_explicit(&lane->closed, true, memory_order_relaxed);
        atomic_fetch_sub_explicit(&frames->open_lanes, 1, memory_order_relaxed);
        lane_release(lane, 0);
    }
    qr_cpu_leave(cpu);
    return given;
}

/* What @lane holds of @zone's frames; what it gave is counted now.  Interrupts are off. */
static size_t
lane_cached(struct qr_frames *frames, struct frame_lane *lane, unsigned zone, struct qr_cpu *cpu)
{
    size_t cached = 0;
    size_t held;

    if (lane_is_closed(lane) || !lane_hold(lane, cpu, &held))
        return 0;
    if (!lane_is_closed(lane) && lane->zone == zone)
        cached = held + lane->reserved + lane->run_frames;
    lane_count(frames, lane);
    lane_release(lane, held);
    return cached;
}

/* What the lanes of one CPU hold. */
static size_t
cpu_cached(struct qr_frames *frames, unsigned zone, unsigned index, struct qr_cpu *cpu)
{
    size_t cached = 0;

    for (unsigned class = 0; class < frames->lane_classes; class ++)
        cached += lane_cached(frames, lane_of(frames, index, class), zone, cpu);
    return cached;
}

size_t
qr_lanes_cached(struct qr_frames *frames, unsigned zone)
{
    size_t cached = 0;
    struct qr_cpu *cpu = qr_cpu_enter();

    for (unsigned i = 0; i < frames->cpu_count; i++)
        cached += cpu_cached(frames, zone, i, cpu);
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
    out_stats->cached = cpu_cached(frames, zone, index, cpu);
    out_stats->capacity = (size_t)frames->lane_classes * LANE_STACK;
    out_stats->refill = ROW_FRAMES;
    qr_cpu_leave(cpu);
}

/* ---- refill ------------------------------------------------------------- */

static inline void
four_frames(struct qr_frame **slot, struct qr_frame *first, uint8_t kept)
{
    first[0].kept = first[1].kept = first[2].kept = first[3].kept = kept;
    slot[0] = first;
    slot[1] = first + 1;
    slot[2] = first + 2;
    slot[3] = first + 3;
}

/* Move the frames of the first row that has any on top of @held, lowest on top. */
static size_t
lane_pull_row(struct qr_frames *frames, struct frame_lane *lane, size_t held)
{
    size_t room = lane->bottom - 1 - held;
    unsigned r = 0;

    while (lane->rows.row[r] == 0)
        r++;
    struct qr_frame *first = qr_block_frame(frames, lane->block, r * ROW_FRAMES);
    uint8_t kept = (uint8_t)(lane->class << KEPT_CLASS);
    uint64_t row = lane->rows.row[r];
    size_t count = row == ~(uint64_t)0 ? ROW_FRAMES : qr_row_count(row);

    /* A lane for a zone of small batches holds fewer than a row has. */
    if (count > room)
        count = room;
    struct qr_frame **slot = lane_cold(lane, held + count);

    if (count == ROW_FRAMES) {
        row = 0;
        for (unsigned bit = 0; bit < ROW_FRAMES; bit += 4)
            four_frames(slot + bit, first + bit, kept);
    } else {
        for (size_t i = 0; i < count; i++) {
            struct qr_frame *frame = first + (unsigned)__builtin_ctzll(row);

            row &= row - 1;
            frame->kept = kept;
            slot[i] = frame;
        }
    }
    lane->rows.row[r] = row;
    lane->reserved -= count;
    return held + count;
}

/*
 * From the zone: the free frames of a whole block where there is plenty, else a batch of
 * single frames.  @return frames now on the stack, which was empty
 */
static size_t
lane_pull_zone(struct qr_frames *frames, struct frame_lane *lane, struct frame_zone *zone,
               unsigned alloc_flags)
{
    enum qr_zone_kind kind = lane->class == LANE_HIGH ? QR_ZONE_HIGH : QR_ZONE_NORMAL;
    enum block_class class = lane_block_class(lane);
    size_t taken = 0;
    size_t held = 0;

    qr_spin_lock(&zone->lock);
    size_t allowed = qr_zone_allowance(zone, kind, alloc_flags);
    size_t want = zone->batch < lane->bottom - 1 ? zone->batch : lane->bottom - 1;

    /* Close to the reserve, a CPU keeps less. */
    want = want < allowed / 4 + 1 ? want : allowed / 4 + 1;
    want = want < allowed ? want : allowed;
    uint32_t block = BLOCK_NONE;

    if (zone->batch == ROW_FRAMES && allowed > zone->managed / 16)
        block = qr_zone_take_rows(frames, zone, class, &lane->rows, &taken);
    if (block != BLOCK_NONE) {
        lane->block = block;
        lane->reserved = taken;
    } else {
        taken = qr_zone_take_singles(frames, zone, class, want, lane_cold(lane, want));
        held = taken;
    }
    qr_frames_used_add(frames, zone, taken);
    qr_spin_unlock(&zone->lock);
    /* Fewer than hoped for: down to the bottom. */
    for (size_t i = held; held != want && i-- > 0;)
        lane_cold(lane, held)[i] = lane_cold(lane, want)[i];
    for (size_t i = 0; i < held; i++)
        lane_cold(lane, held)[i]->kept = (uint8_t)(lane->class << KEPT_CLASS);
    return held;
}

/*
 * This CPU's lane, held, opened where memory permits; NULL where it cannot be used.
 * Interrupts are off.
 */
static struct frame_lane *
lane_enter(struct qr_frames *frames, struct qr_cpu *cpu, enum lane_class class, size_t *out_held)
{
    struct frame_zone *home = qr_lane_home(frames, class);
    struct frame_lane *lane = lane_of(frames, cpu->index, class);

    qr_assert(cpu->index < frames->cpu_count);
    cpu->frame_lanes = (size_t)((char *)lane_of(frames, cpu->index, LANE_FIXED) - (char *)frames);
    if (lane_is_closed(lane) && !qr_lane_allowed(frames, home))
        return NULL;
    if (!lane_hold(lane, cpu, out_held))
        return NULL;
    if (!lane_is_closed(lane))
        return lane;
    if (!qr_lane_allowed(frames, home)) {
        lane_release(lane, 0);
        return NULL;
    }
    lane_open(lane, home, frames->lane_run_order);
    atomic_fetch_add_explicit(&frames->open_lanes, 1, memory_order_relaxed);
    return lane;
}

static struct qr_frame *
lane_refill(struct qr_frames *frames, enum lane_class class, unsigned alloc_flags)
{
    struct qr_cpu *cpu = qr_cpu_enter();
    struct qr_frame *frame = NULL;
    struct frame_zone *pulled = NULL;
    size_t held;
    struct frame_lane *lane = lane_enter(frames, cpu, class, &held);

    if (lane != NULL) {
        if (held == 0 && lane->reserved == 0) {
            pulled = &frames->zones[lane->zone];
            held = lane_pull_zone(frames, lane, pulled, alloc_flags);
            lane_count(frames, lane);
        }
        while (lane->reserved != 0 && held + ROW_FRAMES < lane->bottom)
            held = lane_pull_row(frames, lane, held);
        if (held == 0 && lane->reserved != 0) /* a small lane */
            held = lane_pull_row(frames, lane, held);
        if (held > 0) {
            frame = *lane_cold(lane, held);
            held--;
            lane->head.allocs++;
        }
        lane_release(lane, held);
    }
    qr_cpu_leave(cpu);
    if (pulled != NULL)
        qr_background_wake(frames, pulled);
    return frame;
}

struct qr_frame *
qr_lane_alloc(struct qr_frames *frames, enum lane_class class, unsigned alloc_flags)
{
    struct frame_lane *lane = qr_lane_here(frames) + class;
    struct qr_frame *frame = NULL;

    if (qr_port_this_cpu()->frame_lanes != 0) {
        size_t top = atomic_exchange_explicit(&lane->head.top, 0, memory_order_acquire);

        frame = lane->stack[top + 1];
        if (frame != NULL && top != 0) {
            lane->head.allocs++;
            top++;
        }
        if (top != 0)
            atomic_store_explicit(&lane->head.top, top, memory_order_release);
        else
            frame = NULL;
    }
    return frame != NULL ? frame : lane_refill(frames, class, alloc_flags);
}

/* Make room for one more: the cold three quarters go. */
static size_t
lane_spill(struct qr_frames *frames, struct frame_lane *lane, size_t held)
{
    size_t cold = held - held / 4; /* few are left to move */
    size_t hot = held - cold;

    zone_give(frames, &frames->zones[lane->zone], cold, lane_cold(lane, cold));
    for (size_t i = hot; i-- > 0;)
        lane_cold(lane, hot)[i] = lane_cold(lane, held)[i];
    return hot;
}

void
qr_lane_free(struct qr_frames *frames, struct qr_frame *frame)
{
    struct qr_cpu *cpu = qr_cpu_enter();
    const struct frame_zone *zone = &frames->zones[frame->zone];
    enum lane_class class = zone->kind == QR_ZONE_HIGH ? LANE_HIGH : qr_frame_class(frame);
    struct frame_zone *home = qr_lane_home(frames, class);
    struct frame_lane *lane = NULL;
    size_t held;

    if (home == zone && qr_lane_allowed(frames, home))
        lane = lane_enter(frames, cpu, class, &held);
    if (lane == NULL || lane->zone != frame->zone) {
        if (lane != NULL)
            lane_release(lane, held);
        qr_frames_give(frames, 1, &frame);
        qr_counter_add(frames->counters, QR_EVENT_FREE, 1);
        qr_cpu_leave(cpu);
        return;
    }
    if (held == lane->bottom - 1)
        held = lane_spill(frames, lane, held);
    frame->kept = (uint8_t)(class << KEPT_CLASS);
    held++;
    *lane_cold(lane, held) = frame;
    lane->frees++;
    lane_count(frames, lane);
    lane_release(lane, held);
    qr_cpu_leave(cpu);
}

/* ---- runs ---------------------------------------------------------------- */

/* @count frames leave that did not come from the stack.  The lane's top is held. */
static inline void
lane_count_run(struct frame_lane *lane, size_t count)
{
    lane->head.allocs += count;
    lane->counted += count;
}

/*
 * A run out of the reserved rows, whose block the zone counts as full: without this it would
 * break another one up for a slab of two frames.
 */
static QR_NOINLINE struct qr_frame *
lane_cut_run(struct qr_frames *frames, struct frame_lane *lane, unsigned order)
{
    size_t top = atomic_exchange_explicit(&lane->head.top, 0, memory_order_acquire);
    unsigned count = 1u << order;
    unsigned bit = BLOCK_FRAMES;

    if (top == 0)
        return NULL;
    if (order < BLOCK_ORDER && lane->reserved >= count)
        bit = qr_rows_find(&lane->rows, order);
    if (bit != BLOCK_FRAMES) {
        for (unsigned r = 0; r < BLOCK_ROWS; r++)
            lane->rows.row[r] &= ~qr_row_mask(r, bit, count);
        lane->reserved -= count;
        lane_count_run(lane, count);
    }
    uint32_t block = lane->block;

    atomic_store_explicit(&lane->head.top, top, memory_order_release);
    return bit == BLOCK_FRAMES ? NULL : qr_block_frame(frames, block, bit);
}

/* As the fast path of single frames: by top alone, and only where the lane is open. */
struct qr_frame *
qr_lane_take_run(struct qr_frames *frames, enum lane_class class, unsigned order)
{
    struct frame_lane *lane = qr_lane_here(frames) + class;

    if (qr_port_this_cpu()->frame_lanes == 0)
        return NULL;
    size_t top = atomic_exchange_explicit(&lane->head.top, 0, memory_order_acquire);

    if (qr_unlikely(top == 0))
        return NULL;
    struct qr_frame *frame = lane->run[order];

    if (frame != NULL) {
        lane->run[order] = NULL;
        lane->run_frames -= 1u << order;
        lane_count_run(lane, (size_t)1 << order);
    }
    atomic_store_explicit(&lane->head.top, top, memory_order_release);
    return qr_likely(frame != NULL) ? frame : lane_cut_run(frames, lane, order);
}

/* The lane is held, or its top is. */
static bool
lane_keep_run(struct frame_lane *lane, struct qr_frame *frame, unsigned order)
{
    if (order > lane->run_order || lane->run[order] != NULL || lane->zone != frame->zone)
        return false;
    lane->run[order] = frame;
    lane->run_frames += 1u << order;
    lane->frees += (size_t)1 << order;
    return true;
}

/* Where the lane is not open, or somebody has it. */
static QR_NOINLINE bool
lane_enter_and_keep(struct qr_frames *frames, enum lane_class class, struct qr_frame *frame,
                    unsigned order)
{
    struct qr_cpu *cpu = qr_cpu_enter();
    bool kept = false;
    size_t held;
    struct frame_lane *lane = lane_enter(frames, cpu, class, &held);

    if (lane != NULL) {
        kept = lane_keep_run(lane, frame, order);
        lane_release(lane, held);
    }
    qr_cpu_leave(cpu);
    return kept;
}

bool
qr_lane_give_run(struct qr_frames *frames, struct qr_frame *frame, unsigned order)
{
    enum lane_class class = qr_frame_class(frame);
    struct frame_lane *lane = qr_lane_here(frames) + class;

    if (qr_port_this_cpu()->frame_lanes == 0)
        return lane_enter_and_keep(frames, class, frame, order);
    size_t top = atomic_exchange_explicit(&lane->head.top, 0, memory_order_acquire);

    if (top == 0)
        return lane_enter_and_keep(frames, class, frame, order);
    bool kept = lane_keep_run(lane, frame, order);

    atomic_store_explicit(&lane->head.top, top, memory_order_release);
    return kept;
}
