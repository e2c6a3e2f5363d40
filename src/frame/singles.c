/* SPDX-License-Identifier: MIT */
/*
 * Single frames in and out of a zone, a batch at a time.
 *
 * This is what a lane asks for when its stack is empty or full, and all that memory costs
 * once it is nearly full and its free frames lie scattered: then most blocks have none, and
 * the others one or two.  Both directions have a short way for that:
 *
 *   taking   blocks whose largest run is one frame stand in a list of their own, the first that a
 *            request looks at: they are emptied from its head on, and the list is mended
 *            once, at the end;
 *   giving   a frame that comes back to a block with none is its largest run, and one that completes
 *            no larger run leaves its block where it stands.
 *
 * Frames that follow each other and lie in one row go back in one step.
 *
 * Everything here runs with zone->lock held.
 */
#include "lists.h"

/* ---- taking ------------------------------------------------------------- */

/* Up to @want frames of row @r into @out. */
static size_t
row_take(struct frame_rows *rows, unsigned r, struct qr_frame *first, size_t want,
         struct qr_frame **out)
{
    size_t got = 0;

    if (rows->row[r] == ~(uint64_t)0 && want >= ROW_FRAMES) {
        for (; got < ROW_FRAMES; got++)
            out[got] = first + got;
        rows->row[r] = 0;
        return got;
    }
    uint64_t row = rows->row[r];

    for (; row != 0 && got < want; row &= row - 1)
        out[got++] = first + (unsigned)__builtin_ctzll(row);
    rows->row[r] = row;
    return got;
}

/* Up to @want frames of a block, from its first on; its count follows. */
static size_t
block_take(struct frame_section *section, uint32_t index, size_t want, struct qr_frame **out)
{
    struct frame_rows *rows = &section->rows[index];
    struct frame_block *record = &section->blocks[index];
    struct qr_frame *first = &section->frames[(size_t)index * BLOCK_FRAMES];
    size_t most = record->free < want ? record->free : want;
    size_t got = 0;

    record->free = (uint16_t)(record->free - most) & 0x3ffu;
    for (unsigned r = record->row; got < most; r++) {
        record->row = r & 7u;
        if (rows->row[r] != 0)
            got += row_take(rows, r, first + r * ROW_FRAMES, most - got, out + got);
    }
    return most;
}

/* The same of a block that has few. */
static inline size_t
block_take_few(struct frame_section *section, uint32_t index, size_t want, struct qr_frame **out)
{
    struct frame_block *record = &section->blocks[index];
    unsigned free = record->free;
    unsigned r = record->row;
    size_t most = free < want ? free : want;
    struct qr_frame *first = &section->frames[(size_t)index * BLOCK_FRAMES + r * ROW_FRAMES];
    uint64_t *at = &section->rows[index].row[r];
    uint64_t row = *at;
    size_t got = 0;

    for (;;) {
        while (row == 0) {
            first += ROW_FRAMES;
            row = *++at;
        }
        out[got] = first + (unsigned)__builtin_ctzll(row);
        row &= row - 1;
        *at = row;
        if (++got == most)
            break;
    }
    record->free = (free - (unsigned)most) & 0x3ffu;
    if (free != most)
        record->row = (unsigned)(at - section->rows[index].row) & 7u;
    return most;
}

/* From the blocks that have no two free frames side by side. */
static size_t
take_scattered(struct qr_frames *frames, struct frame_zone *zone, enum block_class class,
               size_t want, struct qr_frame **out)
{
    unsigned list = class * BLOCK_ORDER;
    uint32_t block = zone->head[list];
    size_t got = 0;

    if (block == BLOCK_NONE)
        return 0;
    while (block != BLOCK_NONE && got < want) {
        struct frame_section *section = qr_section_of_block(frames, block);
        uint32_t index = block - section->first_block;
        const struct frame_block *record = &section->blocks[index];

        got += block_take_few(section, index, want - got, out + got);
        if (record->free != 0)
            break;
        block = record->next;
    }
    zone->head[list] = block;
    if (block == BLOCK_NONE)
        zone->listed &= ~(1u << list);
    else
        qr_block_of(frames, block)->prev = BLOCK_NONE;
    return got;
}

size_t
qr_zone_take_singles(struct qr_frames *frames, struct frame_zone *zone, enum block_class class,
                     size_t want, struct qr_frame **out)
{
    size_t got = take_scattered(frames, zone, class, want, out);

    while (got < want) {
        uint32_t block = qr_zone_open_with_run(frames, zone, class, 0);

        if (block == BLOCK_NONE)
            break;
        struct frame_section *section = qr_section_of_block(frames, block);

        got += block_take(section, block - section->first_block, want - got, out + got);
        qr_zone_list_after_take(frames, zone, block);
    }
    qr_zone_free_add(zone, -got);
    return got;
}

/* ---- giving back -------------------------------------------------------- */

/* The frames of @list that lie in one row with the first, at @place.  @return how many */
static QR_NOINLINE size_t
give_row_mates(struct qr_frames *frames, struct frame_zone *zone, size_t place, size_t count,
               struct qr_frame *const *list)
{
    const struct frame_section *section = &frames->sections[list[0]->section];
    struct qr_frame *row_start = list[0] - place % ROW_FRAMES;
    uint64_t mask = 0;
    size_t i = 0;

    for (; i < count; i++) {
        uintptr_t offset = (uintptr_t)list[i] - (uintptr_t)row_start;

        if (offset >= ROW_FRAMES * sizeof(struct qr_frame))
            break;
        uint64_t one = (uint64_t)1 << (offset / sizeof(struct qr_frame));

        if (mask & one)
            break; /* given back twice: the next round finds it */
        mask |= one;
    }
    qr_zone_give_row(frames, zone, section->first_block + (uint32_t)(place / BLOCK_FRAMES),
                     (unsigned)(place / ROW_FRAMES % BLOCK_ROWS), mask);
    return i;
}

/*
 * The frame at @place of @section.
 * @return how many the zone's count of free frames is short of: 1, or 0 where it was told
 */
static inline size_t
give_one(struct qr_frames *frames, struct frame_zone *zone, struct frame_section *section,
         size_t place)
{
    uint32_t index = (uint32_t)(place / BLOCK_FRAMES);
    unsigned r = (unsigned)(place / ROW_FRAMES % BLOCK_ROWS);
    struct frame_block *record = &section->blocks[index];
    uint64_t *row = &section->rows[index].row[r];
    uint64_t mask = (uint64_t)1 << (place % ROW_FRAMES);
    unsigned free = record->free;
    uint64_t now = *row | mask;

    if (qr_unlikely(record->state != BLOCK_OPEN || now == *row))
        qr_zone_give_panic(section->first_block + index, r);
    *row = now;
    if (free == 0 && !record->isolated) {
        record->free = 1;
        record->row = r & 7u;
        qr_zone_link_record(frames, zone, section->first_block + index, record, 0);
        return 1;
    }
    /* Nearly always: it completes no larger run, and the block stays in its list. */
    if (qr_likely(record->order < 5 && free < BLOCK_FRAMES - 1 && !record->isolated)) {
        unsigned size = 2u << record->order;
        uint64_t run = (((uint64_t)1 << size) - 1) << (place % ROW_FRAMES & ~(size - 1));

        if (qr_likely((now & run) != run)) {
            record->free = (free + 1u) & 0x3ffu;
            if (r < record->row)
                record->row = r & 7u;
            return 1;
        }
    }
    qr_zone_give_listed(frames, zone, section, index, r, mask, 1);
    return 0;
}

void
qr_zone_give_singles(struct qr_frames *frames, struct frame_zone *zone, size_t count,
                     struct qr_frame *const *list)
{
    size_t given = 0;

    for (size_t i = 0; i < count;) {
        struct frame_section *section = &frames->sections[list[i]->section];
        size_t place = (size_t)(list[i] - section->frames);
        struct qr_frame *row_start = list[i] - place % ROW_FRAMES;

        if (i + 1 != count &&
            (uintptr_t)list[i + 1] - (uintptr_t)row_start < ROW_FRAMES * sizeof(struct qr_frame)) {
            i += give_row_mates(frames, zone, place, count - i, list + i);
        } else {
            given += give_one(frames, zone, section, place);
            i++;
        }
    }
    qr_zone_free_add(zone, given);
}
