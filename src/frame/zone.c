/* SPDX-License-Identifier: MIT */
/*
 * A zone: which of its frames are free, and how to find some in constant time.
 *
 * Every block with a free frame stands in exactly one list, named by the largest
 * aligned run it can give: orders 0..8 hold OPEN blocks, orders 9 and up hold free runs
 * of whole blocks, which split and merge as a buddy.  OPEN blocks stand apart by class:
 * those whose users can be given other frames later, and those whose users cannot, so that
 * the latter gather in few blocks and the rest can be made whole again.  A bit for each
 * list that is not empty makes the search for 2^k frames a few shifts and one count of
 * trailing zeros, at any size and any occupancy.
 *
 *   order   0   1   2  ...  8    |  9   10  ...  18
 *   fixed   [OPEN blocks]        |  [free runs]
 *   movable [OPEN blocks]        |
 *
 * A request looks at the blocks of its class, then at whole runs, then at the other class,
 * where it takes from the block with the largest run; a fixed request makes that block
 * fixed, so that the next one goes there too.
 *
 * A block moves between lists: a run is opened when single frames are wanted and
 * nothing open has any; an open block whose last frame comes back closes into the
 * buddy.  Sections that wait in a bank count as free and stand outside the lists until
 * those are empty.  An isolated block is in no list, and its free frames count as used.
 *
 * Everything here runs with zone->lock held and is bounded by the number of orders
 * or of rows.
 */
#include "lists.h"

/* ---- the buddy ---------------------------------------------------------- */

/* The free run beside @block that it may merge with into order + 1, or BLOCK_NONE. */
static uint32_t
buddy_of(struct qr_frames *frames, const struct frame_zone *zone, uint32_t block, unsigned order)
{
    uint32_t other = block ^ ((uint32_t)1 << (order - BLOCK_ORDER));
    const struct frame_block *record = qr_block_find(frames, other);

    if (record == NULL || record->state != BLOCK_FREE || record->order != order ||
        record->zone != zone->index)
        return BLOCK_NONE;
    return other;
}

/* List a free run, merged with its buddies as far as they are free. */
static void
run_merge(struct qr_frames *frames, struct frame_zone *zone, uint32_t block, unsigned order)
{
    while (order < QR_ORDER_MAX) {
        uint32_t other = buddy_of(frames, zone, block, order);

        if (other == BLOCK_NONE)
            break;
        qr_zone_unlink(frames, zone, other);
        qr_block_of(frames, block > other ? block : other)->state = BLOCK_TAIL;
        block = block < other ? block : other;
        order++;
    }
    qr_block_of(frames, block)->state = BLOCK_FREE;
    qr_zone_link(frames, zone, block, order);
}

/*
 * One block in each zone is not merged when it becomes free: the next request that needs a
 * whole or a fresh block takes it as it is, where it would otherwise split what had
 * just been merged, nine orders up and down again.
 */
void
qr_zone_insert(struct qr_frames *frames, struct frame_zone *zone, uint32_t block, unsigned order)
{
    if (order != BLOCK_ORDER || zone->spare != BLOCK_NONE) {
        run_merge(frames, zone, block, order);
        return;
    }
    qr_block_of(frames, block)->state = BLOCK_FREE;
    qr_zone_link(frames, zone, block, order);
    zone->spare = block;
}

void
qr_zone_merge_spare(struct qr_frames *frames, struct frame_zone *zone)
{
    uint32_t block = zone->spare;

    if (block == BLOCK_NONE)
        return;
    qr_zone_unlink(frames, zone, block);
    run_merge(frames, zone, block, BLOCK_ORDER);
}

/* Cut a run of 2^order, already out of its list, down to @want; the rest goes back. */
static void
run_cut(struct qr_frames *frames, struct frame_zone *zone, uint32_t block, unsigned order,
        unsigned want)
{
    while (order > want) {
        order--;
        uint32_t upper = block + ((uint32_t)1 << (order - BLOCK_ORDER));

        qr_block_of(frames, upper)->state = BLOCK_FREE;
        qr_zone_link(frames, zone, upper, order);
    }
    qr_block_of(frames, block)->order = want & 0x1fu;
}

/* Orders at or above @order, as bits from 0 on, of which lists that @class uses have something. */
static inline uint32_t
orders_listed(const struct frame_zone *zone, enum block_class class, unsigned order)
{
    uint32_t open = zone->listed >> (class * BLOCK_ORDER) & ((1u << BLOCK_ORDER) - 1);

    return (open | zone->listed >> LIST_RUNS << BLOCK_ORDER) >> order;
}

/* The lowest order at or above @order that @class finds, with waiting sections brought in. */
static unsigned
order_find(struct qr_frames *frames, struct frame_zone *zone, enum block_class class,
           unsigned order)
{
    uint32_t orders;

    while ((orders = orders_listed(zone, class, order)) == 0) {
        if (!qr_section_open_next(frames, zone))
            break;
    }
    if (orders == 0 && order > BLOCK_ORDER) {
        qr_zone_merge_spare(frames, zone);
        orders = orders_listed(zone, class, order);
    }
    return orders == 0 ? ORDER_COUNT : order + (unsigned)__builtin_ctz(orders);
}

/* An open block of the other class with a run of 2^order: the one with the largest run. */
static uint32_t
open_of_other(struct frame_zone *zone, enum block_class class, unsigned order)
{
    unsigned first = (class == BLOCK_FIXED ? BLOCK_MOVABLE : BLOCK_FIXED) * BLOCK_ORDER;
    uint32_t open = zone->listed >> first & ((1u << BLOCK_ORDER) - 1);

    if (open >> order == 0)
        return BLOCK_NONE;
    return zone->head[first + 31u - (unsigned)__builtin_clz(open)];
}

static void
block_open(struct qr_frames *frames, uint32_t block, uint64_t row)
{
    struct frame_block *record = qr_block_of(frames, block);
    struct frame_rows *rows = qr_rows_of(frames, block);

    for (unsigned r = 0; r < BLOCK_ROWS; r++)
        rows->row[r] = row;
    record->state = BLOCK_OPEN;
    record->row = 0;
    record->order = row == 0 ? 0 : BLOCK_ORDER;
    record->free = row == 0 ? 0 : BLOCK_FRAMES;
}

/*
 * An OPEN block with a free run of 2^order, order < 9, taken out of its list; BLOCK_NONE
 * where the zone has none.
 */
uint32_t
qr_zone_open_with_run(struct qr_frames *frames, struct frame_zone *zone, enum block_class class,
                      unsigned order)
{
    unsigned found = order_find(frames, zone, class, order);
    uint32_t block;

    if (found == ORDER_COUNT) {
        block = open_of_other(zone, class, order);
        if (block == BLOCK_NONE)
            return BLOCK_NONE;
        qr_zone_unlink(frames, zone, block);
        if (class == BLOCK_FIXED)
            qr_block_of(frames, block)->movable = BLOCK_FIXED;
        return block;
    }
    block = zone->head[found < BLOCK_ORDER ? class * BLOCK_ORDER + found
                                           : LIST_RUNS + found - BLOCK_ORDER];
    qr_zone_unlink(frames, zone, block);
    if (found >= BLOCK_ORDER) {
        run_cut(frames, zone, block, found, BLOCK_ORDER);
        qr_section_describe(frames, block);
        block_open(frames, block, ~(uint64_t)0);
        qr_block_of(frames, block)->movable = (uint16_t) class & 1u;
    }
    return block;
}

void
qr_zone_list_open(struct qr_frames *frames, struct frame_zone *zone, uint32_t block)
{
    struct frame_block *record = qr_block_of(frames, block);

    if (record->free == BLOCK_FRAMES)
        qr_zone_insert(frames, zone, block, BLOCK_ORDER);
    else if (record->free != 0)
        qr_zone_link(frames, zone, block, qr_rows_order(qr_rows_of(frames, block)));
}

/*
 * The same after frames were taken out of it: what was its largest run before bounds
 * what is now, and the scan for it is short where that was small.
 */
void
qr_zone_list_after_take(struct qr_frames *frames, struct frame_zone *zone, uint32_t block)
{
    struct frame_block *record = qr_block_of(frames, block);

    if (record->free == 0)
        return;
    /* A largest run of one frame stays one. */
    qr_zone_link(frames, zone, block,
                 record->order == 0 ? 0 : qr_rows_order(qr_rows_of(frames, block)));
}

/* ---- taking ------------------------------------------------------------- */

uint32_t
qr_zone_take_rows(struct qr_frames *frames, struct frame_zone *zone, enum block_class class,
                  struct frame_rows *out_rows, size_t *out_count)
{
    unsigned found = order_find(frames, zone, class, 0);

    if (found == ORDER_COUNT ||
        (found < BLOCK_ORDER &&
         qr_block_of(frames, zone->head[class * BLOCK_ORDER + found])->free < ROW_FRAMES))
        return BLOCK_NONE;
    uint32_t block = qr_zone_open_with_run(frames, zone, class, 0);
    struct frame_rows *rows = qr_rows_of(frames, block);
    struct frame_block *record = qr_block_of(frames, block);

    for (unsigned r = 0; r < BLOCK_ROWS; r++) {
        out_rows->row[r] = rows->row[r];
        rows->row[r] = 0;
    }
    *out_count = record->free;
    qr_zone_free_add(zone, -(size_t)record->free);
    record->free = 0;
    return block;
}

static struct qr_frame *
take_whole(struct qr_frames *frames, struct frame_zone *zone, enum block_class class,
           unsigned order)
{
    unsigned found = order_find(frames, zone, class, order);

    if (found == ORDER_COUNT)
        return NULL;
    uint32_t block = zone->head[LIST_RUNS + found - BLOCK_ORDER];
    uint32_t end = block + ((uint32_t)1 << (order - BLOCK_ORDER));

    qr_zone_unlink(frames, zone, block);
    run_cut(frames, zone, block, found, order);
    qr_block_of(frames, block)->state = BLOCK_TAKEN;
    qr_block_of(frames, block)->movable = (uint16_t) class & 1u;
    for (uint32_t b = block; b < end; b++)
        qr_section_describe(frames, b);
    qr_zone_free_add(zone, -((size_t)1 << order));
    return qr_block_frame(frames, block, 0);
}

struct qr_frame *
qr_zone_take_run(struct qr_frames *frames, struct frame_zone *zone, enum block_class class,
                 unsigned order)
{
    if (order >= BLOCK_ORDER)
        return take_whole(frames, zone, class, order);
    uint32_t block = qr_zone_open_with_run(frames, zone, class, order);

    if (block == BLOCK_NONE)
        return NULL;
    struct frame_rows *rows = qr_rows_of(frames, block);
    unsigned bit = qr_rows_find(rows, order);

    unsigned last = (bit + (1u << order) - 1) / ROW_FRAMES;

    qr_assert(bit < BLOCK_FRAMES);
    for (unsigned r = bit / ROW_FRAMES; r <= last; r++)
        rows->row[r] &= ~qr_row_mask(r, bit, 1u << order);
    qr_block_of(frames, block)->free =
        (uint16_t)(qr_block_of(frames, block)->free - (1u << order)) & 0x3ffu;
    qr_zone_list_after_take(frames, zone, block);
    qr_zone_free_add(zone, -((size_t)1 << order));
    return qr_block_frame(frames, block, bit);
}

/* Blocks that are looked at for a colour before one with a long run, which has all, is opened. */
#define COLOUR_TRIES 16u

/* The first frame of the bits @wanted, the same in every row; or BLOCK_FRAMES. */
static unsigned
rows_find_any(const struct frame_rows *rows, uint64_t wanted)
{
    for (unsigned r = 0; r < BLOCK_ROWS; r++) {
        if ((rows->row[r] & wanted) != 0)
            return r * ROW_FRAMES + (unsigned)__builtin_ctzll(rows->row[r] & wanted);
    }
    return BLOCK_FRAMES;
}

/* An open block with a frame of @wanted, out of its list; else any block with a free frame. */
static uint32_t
open_with_colour(struct qr_frames *frames, struct frame_zone *zone, enum block_class class,
                 uint64_t wanted)
{
    unsigned found = order_find(frames, zone, class, 0);
    uint32_t block =
        found < BLOCK_ORDER ? zone->head[class * BLOCK_ORDER + found] : (uint32_t)BLOCK_NONE;

    for (unsigned i = 0; i < COLOUR_TRIES && block != BLOCK_NONE; i++) {
        if (rows_find_any(qr_rows_of(frames, block), wanted) != BLOCK_FRAMES) {
            qr_zone_unlink(frames, zone, block);
            return block;
        }
        block = qr_block_of(frames, block)->next;
    }
    block = qr_zone_open_with_run(frames, zone, class, 6); /* a whole row */
    return block != BLOCK_NONE ? block : qr_zone_open_with_run(frames, zone, class, 0);
}

struct qr_frame *
qr_zone_take_colour(struct qr_frames *frames, struct frame_zone *zone, enum block_class class,
                    struct qr_colour colour)
{
    uint64_t wanted = (uint64_t)1 << (colour.index & (colour.count - 1));

    for (unsigned step = colour.count; step < ROW_FRAMES; step *= 2)
        wanted |= wanted << step;
    uint32_t block = open_with_colour(frames, zone, class, wanted);

    if (block == BLOCK_NONE)
        return NULL;
    struct frame_rows *rows = qr_rows_of(frames, block);
    unsigned bit = rows_find_any(rows, wanted);

    if (bit == BLOCK_FRAMES)
        bit = qr_rows_find(rows, 0);
    rows->row[bit / ROW_FRAMES] &= ~((uint64_t)1 << bit % ROW_FRAMES);
    qr_block_of(frames, block)->free = (uint16_t)(qr_block_of(frames, block)->free - 1) & 0x3ffu;
    qr_zone_list_after_take(frames, zone, block);
    qr_zone_free_add(zone, -(size_t)1);
    return qr_block_frame(frames, block, bit);
}

/* ---- giving back -------------------------------------------------------- */

/* The slow half of order_after_give(): @bit has completed a run of @order + 1 at least. */
static QR_NOINLINE unsigned
order_grown(const struct frame_rows *rows, unsigned r, unsigned bit, unsigned order)
{
    uint64_t row = rows->row[r];

    for (; order < 6; order++) {
        unsigned size = 2u << order;
        uint64_t run = size == ROW_FRAMES ? ~(uint64_t)0 : ((uint64_t)1 << size) - 1;

        run <<= bit & ~(size - 1) & (ROW_FRAMES - 1);
        if ((row & run) != run)
            return order;
    }
    return row == ~(uint64_t)0 ? qr_rows_order(rows) : order;
}

/*
 * The largest run of a block whose largest was @order before the bits @mask of row @r
 * came back.  A single bit can only complete the runs that it lies in: those are tried
 * upward from the next order, and nearly always the first is not free.
 */
static inline unsigned
order_after_give(const struct frame_rows *rows, unsigned r, uint64_t mask, unsigned order)
{
    uint64_t row = rows->row[r];
    unsigned bit = (unsigned)__builtin_ctzll(mask);

    if ((mask & (mask - 1)) != 0) {
        unsigned row_order = qr_row_order(row);

        order = row_order > order ? row_order : order;
    } else if (qr_likely(order < 5)) {
        uint64_t run = ((uint64_t)1 << (2u << order)) - 1;

        run <<= bit & ~((2u << order) - 1);
        if (qr_likely((row & run) != run))
            return order;
    }
    return order_grown(rows, r, bit, order);
}

QR_NORETURN QR_COLD void
qr_zone_give_panic(uint32_t block, unsigned row)
{
    qr_panic("frames: a frame of block 0x%lx, row %u is given back twice; the descriptor said "
             "it was in use: look for a write through a stale struct qr_frame pointer",
             (unsigned long)block, row);
}

/* @count frames, @mask of row @r, are in the bitmap: into the lists with them. */
QR_NOINLINE void
qr_zone_give_listed(struct qr_frames *frames, struct frame_zone *zone,
                    struct frame_section *section, uint32_t index, unsigned r, uint64_t mask,
                    unsigned count)
{
    struct frame_block *record = &section->blocks[index];
    unsigned before = record->free;
    uint32_t block = section->first_block + index;

    record->free = (before + count) & 0x3ffu;
    record->row = (r < record->row ? r : record->row) & 7u;
    if (qr_unlikely(record->isolated)) {
        /* Still used, by whoever empties the block: the caller counts it as given back. */
        atomic_fetch_add_explicit(&frames->used, count, memory_order_relaxed);
        return;
    }
    if (qr_unlikely(before + count == BLOCK_FRAMES)) {
        if (before != 0)
            qr_zone_unlink(frames, zone, block);
        qr_zone_insert(frames, zone, block, BLOCK_ORDER);
    } else if (before == 0) {
        qr_zone_link(frames, zone, block, order_after_give(&section->rows[index], r, mask, 0));
    } else {
        unsigned order = order_after_give(&section->rows[index], r, mask, record->order);

        if (order != record->order) {
            qr_zone_unlink(frames, zone, block);
            qr_zone_link(frames, zone, block, order);
        }
    }
    qr_zone_free_add(zone, count);
}

void
qr_zone_give_row(struct qr_frames *frames, struct frame_zone *zone, uint32_t block, unsigned r,
                 uint64_t mask)
{
    struct frame_section *section = qr_section_of_block(frames, block);
    uint32_t index = block - section->first_block;
    struct frame_rows *rows = &section->rows[index];

    if (section->blocks[index].state != BLOCK_OPEN || (rows->row[r] & mask) != 0)
        qr_zone_give_panic(block, r);
    rows->row[r] |= mask;
    qr_zone_give_listed(frames, zone, section, index, r, mask, qr_row_count(mask));
}

void
qr_zone_give_run(struct qr_frames *frames, struct frame_zone *zone, uint32_t block, unsigned bit,
                 unsigned order)
{
    if (order >= BLOCK_ORDER) {
        struct frame_block *record = qr_block_of(frames, block);

        if (record->state != BLOCK_TAKEN || record->order != order || bit != 0)
            qr_panic("frames: block 0x%lx is given back as order %u, but is not an allocated block "
                     "of that order; free what was allocated, or split it first",
                     (unsigned long)block, order);
        qr_zone_free_add(zone, (size_t)1 << order);
        qr_zone_insert(frames, zone, block, order);
        return;
    }
    unsigned last = (bit + (1u << order) - 1) / ROW_FRAMES;

    for (unsigned r = bit / ROW_FRAMES; r <= last; r++)
        qr_zone_give_row(frames, zone, block, r, qr_row_mask(r, bit, 1u << order));
}

void
qr_zone_split_taken(struct qr_frames *frames, struct frame_zone *zone, uint32_t block)
{
    struct frame_block *record = qr_block_of(frames, block);
    uint32_t count = (uint32_t)1 << (record->order - BLOCK_ORDER);

    qr_assert(record->state == BLOCK_TAKEN && record->zone == zone->index);
    for (uint32_t i = 0; i < count; i++) {
        block_open(frames, block + i, 0);
        qr_block_of(frames, block + i)->movable = record->movable;
    }
}

/* ---- exact runs --------------------------------------------------------- */

uint32_t
qr_zone_head_of(struct qr_frames *frames, uint32_t block)
{
    for (unsigned order = BLOCK_ORDER; order <= QR_ORDER_MAX; order++) {
        uint32_t head = block & ~(((uint32_t)1 << (order - BLOCK_ORDER)) - 1);
        const struct frame_block *record = qr_block_find(frames, head);

        if (record == NULL)
            return BLOCK_NONE;
        if (record->state == BLOCK_FREE || record->state == BLOCK_TAKEN)
            return record->order >= order ? head : BLOCK_NONE;
        if (record->state != BLOCK_TAIL)
            return BLOCK_NONE;
    }
    return BLOCK_NONE;
}

/* Take the one block @block out of the free run it lies in; the rest stays free. */
static void
block_cut_out(struct qr_frames *frames, struct frame_zone *zone, uint32_t block)
{
    uint32_t head = qr_zone_head_of(frames, block);

    qr_assert(head != BLOCK_NONE && qr_block_of(frames, head)->state == BLOCK_FREE);
    unsigned order = qr_block_of(frames, head)->order;

    qr_zone_unlink(frames, zone, head);
    while (order > BLOCK_ORDER) {
        order--;
        uint32_t half = (uint32_t)1 << (order - BLOCK_ORDER);
        uint32_t other = block >= head + half ? head : head + half;

        if (other == head)
            head += half;
        qr_block_of(frames, other)->state = BLOCK_FREE;
        qr_zone_link(frames, zone, other, order);
    }
    qr_block_of(frames, block)->state = BLOCK_TAIL;
}

void
qr_zone_take_exact(struct qr_frames *frames, struct frame_zone *zone, size_t first_pfn,
                   size_t count)
{
    size_t pfn = first_pfn;

    while (pfn < first_pfn + count) {
        uint32_t block = (uint32_t)(pfn / BLOCK_FRAMES);
        unsigned bit = (unsigned)(pfn % BLOCK_FRAMES);
        size_t left = first_pfn + count - pfn;
        unsigned here = left < BLOCK_FRAMES - bit ? (unsigned)left : BLOCK_FRAMES - bit;
        struct frame_block *record = qr_block_of(frames, block);
        struct frame_rows *rows = qr_rows_of(frames, block);

        if (record->state == BLOCK_OPEN) {
            qr_zone_unlink(frames, zone, block);
        } else {
            block_cut_out(frames, zone, block);
            qr_section_describe(frames, block);
            block_open(frames, block, ~(uint64_t)0);
        }
        for (unsigned r = 0; r < BLOCK_ROWS; r++) {
            uint64_t mask = qr_row_mask(r, bit, here);

            qr_assert((rows->row[r] & mask) == mask);
            rows->row[r] &= ~mask;
        }
        record->free = (uint16_t)(record->free - here) & 0x3ffu;
        qr_zone_list_open(frames, zone, block);
        pfn += here;
    }
    qr_zone_free_add(zone, -count);
}

/* ---- isolation ---------------------------------------------------------- */

void
qr_zone_isolate(struct qr_frames *frames, struct frame_zone *zone, uint32_t block)
{
    struct frame_block *record = qr_block_of(frames, block);

    if (record->state == BLOCK_OPEN) {
        if (record->free != 0)
            qr_zone_unlink(frames, zone, block);
    } else {
        block_cut_out(frames, zone, block);
        qr_section_describe(frames, block);
        block_open(frames, block, ~(uint64_t)0);
    }
    record->isolated = 1;
    qr_zone_free_add(zone, -(size_t)record->free);
    qr_frames_used_add(frames, zone, record->free);
}

void
qr_zone_unisolate(struct qr_frames *frames, struct frame_zone *zone, uint32_t block)
{
    struct frame_block *record = qr_block_of(frames, block);

    qr_assert(record->state == BLOCK_OPEN && record->isolated);
    record->isolated = 0;
    qr_zone_free_add(zone, record->free);
    qr_frames_used_sub(frames, zone, record->free);
    qr_zone_list_open(frames, zone, block);
}

void
qr_zone_forget(struct qr_frames *frames, struct frame_zone *zone, uint32_t block)
{
    struct frame_block *record = qr_block_of(frames, block);

    qr_assert(record->isolated);
    qr_frames_used_sub(frames, zone, record->free);
    record->isolated = 0;
    record->free = 0;
    record->state = BLOCK_ABSENT;
}

/* ---- watermarks --------------------------------------------------------- */

static size_t
square_root(size_t value)
{
    size_t root = 0;

    for (size_t bit = (size_t)1 << (sizeof(size_t) * 4 - 1); bit != 0; bit >>= 1) {
        if ((root + bit) <= value / (root + bit))
            root += bit;
    }
    return root;
}

/*
 * Linux's rule: four times the square root of the memory, in KiB, but never more than
 * a 64th of the zone, so that a tiny machine keeps its memory.
 */
static size_t
watermark_by_rule(const struct frame_zone *zone)
{
    size_t managed = zone->managed;
    size_t min = 4 * square_root(managed << (QR_PAGE_SHIFT - 10)) >> (QR_PAGE_SHIFT - 10);

    return min < managed / 64 ? min : managed / 64;
}

/* The zone's share of what was asked for, in 256ths; half of a zone can be used whatever that is. */
static size_t
watermark_by_wish(const struct frame_zone *zone, size_t wish, size_t total)
{
    size_t share = total == 0 ? 0 : zone->managed * 256 / total;
    size_t most = zone->managed / 2;

    if (wish > total)
        return most;
    size_t min = wish / 256 * share + wish % 256 * share / 256;

    return min < most ? min : most;
}

/*
 * DMA is kept from requests that could live elsewhere in proportion to how much there is
 * elsewhere.
 */
void
qr_zone_watermarks(struct qr_frames *frames)
{
    static const size_t reserve_ratio[QR_ZONE_COUNT] = {256, 32, 32};

    for (unsigned i = 0; i < frames->zone_count; i++) {
        struct frame_zone *zone = &frames->zones[i];
        size_t managed = zone->managed;
        size_t wish = frames->min_free;
        size_t min = wish == MIN_FREE_RULE ? watermark_by_rule(zone)
                                           : watermark_by_wish(zone, wish, frames->total);
        size_t above = 0;
        size_t batch = managed / ((size_t)frames->cpu_count * 64);

        zone->watermark_min = min;
        zone->watermark_low = min + min / 4;
        zone->watermark_high = min + min / 2;
        for (unsigned kind = zone->kind; kind < QR_ZONE_COUNT; kind++) {
            if (kind > zone->kind)
                above += frames->zones[zone->node * QR_ZONE_COUNT + kind].managed;
            zone->reserve[kind] = above / reserve_ratio[zone->kind];
            zone->floor[FLOOR_ORDINARY][kind] = min + zone->reserve[kind];
            zone->floor[FLOOR_ATOMIC][kind] = min / 2 + zone->reserve[kind];
        }
        zone->batch = (uint32_t)(batch > 64 ? 64 : batch < 1 ? 1 : batch);
    }
}

void
qr_frames_set_min_free(struct qr_frames *frames, size_t pages)
{
    frames->min_free = pages < MIN_FREE_RULE ? pages : MIN_FREE_RULE - 1;
    qr_zone_watermarks(frames);
}

size_t
qr_frames_min_free(const struct qr_frames *frames)
{
    size_t pages = frames->min_free;

    if (pages != MIN_FREE_RULE)
        return pages;
    pages = 0;
    for (unsigned i = 0; i < frames->zone_count; i++)
        pages += frames->zones[i].watermark_min;
    return pages;
}
