/* SPDX-License-Identifier: MIT */
/*
 * The invariants of the layer, with no lane's owner in the middle of anything:
 *
 *  1. Every listed block stands in the list of its order, linked both ways, in its own
 *     zone; zone->listed has a bit exactly for the lists that are not empty.
 *  2. An OPEN block's count equals the bits of its rows, and those below its first row
 *     are empty; unless it is isolated it is listed exactly when that is neither 0 nor 512, under its class and the largest
 *     aligned run that the rows hold.
 *  3. A FREE run is aligned to its order, all else in it is TAIL, and its buddy of the
 *     same order and zone is not FREE, the zone's spare block excepted.
 *  4. zone->free is the sum over its lists and the sections that wait in its banks, of
 *     which each bank has as many as it says.
 *  5. A frame that the bitmap or the buddy calls free has refs 0 and type FREE.
 *  6. A frame on a lane's stack or in its reserved rows is free by its descriptor, and
 *     not free in the bitmap: no frame is free twice.
 *  7. managed - free - cached frames are in use: the machine-wide `used` says so too.
 *  8. A lane's stack holds frames of its zone with its class, and no slot twice.
 *  9. Under CONFIG_MEMORY_DEBUGGING: a free frame that was filled still holds the pattern.
 */
#include "frames.h"

#include <quire/writer.h>

struct check {
    struct qr_frames *frames;
    char *message;
    size_t bytes;
    bool ok;
};

#define CHECK(check, condition, ...)                                        \
    do {                                                                    \
        if (!(condition) && (check)->ok) {                                  \
            (check)->ok = false;                                            \
            (void)qr_format((check)->message, (check)->bytes, __VA_ARGS__); \
        }                                                                   \
    } while (0)

static void
check_free_frame(struct check *check, struct qr_frame *frame, const char *where)
{
    CHECK(check,
          atomic_load_explicit(&frame->refs, memory_order_relaxed) == 0 &&
              qr_frame_type(frame) == QR_FRAME_FREE,
          "frame 0x%zx: free in %s, but its descriptor has %u references and type %d",
          qr_frame_pfn(check->frames, frame).v, where, (unsigned)frame->refs,
          (int)qr_frame_type(frame));
#ifdef CONFIG_MEMORY_DEBUGGING
    CHECK(check, qr_poison_intact(check->frames, frame),
          "frame 0x%zx: written to while free (in %s)", qr_frame_pfn(check->frames, frame).v,
          where);
#endif
}

static void
check_open(struct check *check, uint32_t block, const struct frame_block *record)
{
    const struct frame_rows *rows = qr_rows_of(check->frames, block);

    CHECK(check, qr_rows_count(rows) == record->free, "block 0x%x: counts %u free, has %u",
          (unsigned)block, (unsigned)record->free, qr_rows_count(rows));
    for (unsigned r = 0; r < record->row; r++)
        CHECK(check, rows->row[r] == 0, "block 0x%x: row %u has free frames, but the first is %u",
              (unsigned)block, r, (unsigned)record->row);
    CHECK(check, record->isolated || record->free != BLOCK_FRAMES,
          "block 0x%x: all free but not in the buddy", (unsigned)block);
    if (record->free != 0 && !record->isolated)
        CHECK(check, qr_rows_order(rows) == record->order,
              "block 0x%x: listed under order %u, its largest run is %u", (unsigned)block,
              (unsigned)record->order, qr_rows_order(rows));
    for (unsigned bit = 0; bit < BLOCK_FRAMES; bit++) {
        if (rows->row[bit / ROW_FRAMES] >> bit % ROW_FRAMES & 1)
            check_free_frame(check, qr_block_frame(check->frames, block, bit), "a bitmap");
    }
}

static void
check_run(struct check *check, uint32_t head, const struct frame_block *record)
{
    uint32_t count = (uint32_t)1 << (record->order - BLOCK_ORDER);
    const struct frame_block *buddy =
        record->order < QR_ORDER_MAX ? qr_block_find(check->frames, head ^ count) : NULL;

    CHECK(check, (head & (count - 1)) == 0, "block 0x%x: run of order %u is not aligned",
          (unsigned)head, (unsigned)record->order);
    CHECK(check,
          record->state != BLOCK_FREE || buddy == NULL || buddy->state != BLOCK_FREE ||
              buddy->order != record->order || buddy->zone != record->zone ||
              head == check->frames->zones[record->zone].spare ||
              (head ^ count) == check->frames->zones[record->zone].spare,
          "block 0x%x: order %u is not merged with its buddy", (unsigned)head,
          (unsigned)record->order);
    for (uint32_t b = head + 1; b < head + count && check->ok; b++) {
        const struct frame_block *tail = qr_block_find(check->frames, b);

        CHECK(check, tail != NULL && tail->state == BLOCK_TAIL && tail->zone == record->zone,
              "block 0x%x: inside a run of order %u at 0x%x, but not its tail", (unsigned)b,
              (unsigned)record->order, (unsigned)head);
    }
}

/* The descriptors of a whole free block, where they exist. */
static void
check_whole(struct check *check, struct frame_section *section, uint32_t block)
{
    if (!qr_section_is_described(section, block - section->first_block))
        return;
    for (unsigned bit = 0; bit < BLOCK_FRAMES; bit++)
        check_free_frame(check, qr_block_frame(check->frames, block, bit), "the buddy");
}

static void
check_section(struct check *check, struct frame_section *section, size_t *free_by_zone)
{
    for (uint32_t b = 0; b < section->block_count && check->ok; b++) {
        const struct frame_block *record = &section->blocks[b];
        uint32_t block = section->first_block + b;

        if (record->state == BLOCK_OPEN) {
            check_open(check, block, record);
            free_by_zone[record->zone] += record->isolated ? 0 : record->free;
        } else if (record->state == BLOCK_FREE || record->state == BLOCK_TAKEN) {
            check_run(check, block, record);
        }
        if (record->state == BLOCK_FREE)
            free_by_zone[record->zone] += (size_t)1 << record->order;
        if (record->state == BLOCK_TAIL || record->state == BLOCK_FREE) {
            uint32_t head = qr_zone_head_of(check->frames, block);

            CHECK(check, head != BLOCK_NONE, "block 0x%x: a tail without a head", (unsigned)block);
            if (head != BLOCK_NONE && qr_block_of(check->frames, head)->state == BLOCK_FREE)
                check_whole(check, section, block);
        }
    }
}

static void
check_list(struct check *check, struct frame_zone *zone, unsigned list)
{
    unsigned order = list < LIST_RUNS ? list % BLOCK_ORDER : list - LIST_RUNS + BLOCK_ORDER;
    uint32_t block = zone->head[list];
    uint32_t previous = BLOCK_NONE;
    size_t steps = 0;

    CHECK(check, (block != BLOCK_NONE) == (zone->listed >> list & 1),
          "zone %u: list %u and its bit disagree", zone->index, list);
    for (; block != BLOCK_NONE && check->ok; steps++) {
        const struct frame_block *record = qr_block_of(check->frames, block);

        CHECK(
            check,
            record->prev == previous && record->order == order && record->zone == zone->index &&
                !record->isolated &&
                record->state == (list < LIST_RUNS ? BLOCK_OPEN : BLOCK_FREE) &&
                (list >= LIST_RUNS || (record->free != 0 && record->movable == list / BLOCK_ORDER)),
            "zone %u: block 0x%x does not belong in list %u", zone->index, (unsigned)block, list);
        CHECK(check, steps <= zone->present / BLOCK_FRAMES + 2, "zone %u: list %u is a circle",
              zone->index, list);
        previous = block;
        block = record->next;
    }
}

/* A frame that a lane has must not be free for the zone as well. */
static void
check_lane_frame(struct check *check, struct qr_frame *frame, unsigned cpu)
{
    unsigned bit;
    uint32_t block = qr_frame_block(check->frames, frame, &bit);
    const struct frame_block *record = qr_block_of(check->frames, block);

    check_free_frame(check, frame, "a lane");
    CHECK(check,
          record->state == BLOCK_OPEN &&
              (qr_rows_of(check->frames, block)->row[bit / ROW_FRAMES] >> bit % ROW_FRAMES & 1) ==
                  0,
          "frame 0x%zx: on the lane of CPU %u and free in its block too",
          qr_frame_pfn(check->frames, frame).v, cpu);
}

static void
check_lane_runs(struct check *check, struct frame_lane *lane)
{
    size_t frames = 0;

    for (unsigned order = 1; order <= BLOCK_ORDER && check->ok; order++) {
        struct qr_frame *head = lane->run[order];
        unsigned bit;

        if (head == NULL)
            continue;
        frames += (size_t)1 << order;
        CHECK(check, order <= lane->run_order && head->zone == lane->zone,
              "frame 0x%zx: a run of order %u that CPU %u may not keep",
              qr_frame_pfn(check->frames, head).v, order, lane->cpu);
        for (size_t f = 0; order < BLOCK_ORDER && f < (size_t)1 << order && check->ok; f++)
            check_lane_frame(check, head + f, lane->cpu);
        if (order < BLOCK_ORDER)
            continue;
        const struct frame_block *record =
            qr_block_of(check->frames, qr_frame_block(check->frames, head, &bit));

        check_free_frame(check, head, "a lane");
        CHECK(check, record->state == BLOCK_TAKEN && record->order == BLOCK_ORDER && bit == 0,
              "frame 0x%zx: kept as a block by CPU %u, but its block is not taken",
              qr_frame_pfn(check->frames, head).v, lane->cpu);
    }
    CHECK(check, frames == lane->run_frames, "CPU %u: counts %u frames in runs, has %zu", lane->cpu,
          lane->run_frames, frames);
}

static void
check_lane(struct check *check, struct frame_lane *lane)
{
    size_t top = atomic_load_explicit(&lane->head.top, memory_order_relaxed);
    size_t held = lane->closed || top == 0 ? 0 : lane->bottom - top;

    CHECK(check, qr_rows_count(&lane->rows) == lane->reserved,
          "CPU %u: reserved rows count %zu, have %u", lane->cpu, lane->reserved,
          qr_rows_count(&lane->rows));
    CHECK(check, !lane->closed || lane->reserved == 0, "CPU %u: closed, but reserves frames",
          lane->cpu);
    for (size_t i = top + 1; i <= top + held && check->ok; i++) {
        check_lane_frame(check, lane->stack[i], lane->cpu);
        CHECK(check,
              lane->stack[i]->zone == lane->zone && qr_frame_class(lane->stack[i]) == lane->class,
              "frame 0x%zx: does not belong on lane %u of CPU %u",
              qr_frame_pfn(check->frames, lane->stack[i]).v, lane->class, lane->cpu);
    }
    for (unsigned bit = 0; bit < BLOCK_FRAMES && lane->reserved != 0 && check->ok; bit++) {
        if (lane->rows.row[bit / ROW_FRAMES] >> bit % ROW_FRAMES & 1)
            check_lane_frame(check, qr_block_frame(check->frames, lane->block, bit), lane->cpu);
    }
    check_lane_runs(check, lane);
}

static void
check_bank(struct check *check, const struct frame_bank *bank, size_t *free_by_zone)
{
    struct qr_frames *frames = check->frames;
    size_t waiting = 0;

    for (uint32_t i = bank->first; i < bank->end; i++)
        waiting += frames->sections[i].state != SECTION_READY;
    CHECK(check, waiting == bank->waiting, "bank of section %u: %zu sections wait, counted %u",
          (unsigned)bank->first, waiting, (unsigned)bank->waiting);
    free_by_zone[bank->zone] += waiting << frames->section_shift;
}

bool
qr_frames_validate(struct qr_frames *frames, char *out_message, size_t bytes)
{
    struct check check = {.frames = frames, .message = out_message, .bytes = bytes, .ok = true};
    size_t free_by_zone[ZONE_MAX] = {0};
    size_t free = 0;

    for (uint32_t i = 0; i < frames->section_count && check.ok; i++) {
        struct frame_section *section = &frames->sections[i];
        uint8_t state = atomic_load_explicit(&section->state, memory_order_relaxed);

        if (state == SECTION_READY)
            check_section(&check, section, free_by_zone);
    }
    for (uint32_t i = 0; i < frames->bank_count && check.ok; i++)
        check_bank(&check, &frames->banks[i], free_by_zone);
    for (unsigned i = 0; i < frames->zone_count && check.ok; i++) {
        for (unsigned list = 0; list < LIST_COUNT; list++)
            check_list(&check, &frames->zones[i], list);
        CHECK(&check, free_by_zone[i] == qr_zone_free(&frames->zones[i]),
              "zone %u: counts %zu free, its blocks hold %zu", i, qr_zone_free(&frames->zones[i]),
              free_by_zone[i]);
        free += qr_zone_free(&frames->zones[i]);
    }
    for (unsigned i = 0; i < frames->cpu_count * frames->lane_classes && check.ok; i++)
        check_lane(&check, &frames->lanes[i]);
    size_t used = atomic_load_explicit(&frames->used, memory_order_relaxed);

    CHECK(&check, frames->total - free == used, "machine: %zu frames are out, but %zu are counted",
          frames->total - free, used);
    return check.ok;
}

/* Frames of one section that are charged to group @number. */
static size_t
section_group_use(const struct frame_section *section, unsigned number)
{
    size_t count = 0;

    for (uint32_t b = 0; b < section->block_count; b++) {
        size_t first = (size_t)b * BLOCK_FRAMES;
        size_t end = section->frame_count - first < BLOCK_FRAMES ? section->frame_count
                                                                 : first + BLOCK_FRAMES;

        if (!qr_section_is_described(section, b))
            continue;
        for (size_t at = first; at < end; at++) {
            const struct qr_frame *frame = &section->frames[at];

            if (qr_frame_group(frame) == number &&
                atomic_load_explicit(&frame->refs, memory_order_relaxed) != 0)
                count += (size_t)1 << qr_frame_order(frame);
        }
    }
    return count;
}

size_t
qr_frames_group_use(struct qr_frames *frames, unsigned number)
{
    size_t count = 0;

    for (uint32_t i = 0; i < frames->section_count; i++) {
        const struct frame_section *section = &frames->sections[i];

        if (atomic_load_explicit(&section->state, memory_order_acquire) == SECTION_READY)
            count += section_group_use(section, number);
    }
    return count;
}
