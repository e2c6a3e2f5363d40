/* SPDX-License-Identifier: MIT */
/*
 * The bitmap of one block: 512 bits in eight rows, 1 is free.
 *
 * Pure functions.  A run of order k <= 5 lies inside a row: folding the row onto
 * itself k times leaves one bit at the start of each free aligned run.  A run of
 * order 6..8 is 1, 2 or 4 full rows side by side.
 */
#include "frames.h"

static const uint64_t run_starts[6] = {
    ~(uint64_t)0,          0x5555555555555555ull, 0x1111111111111111ull,
    0x0101010101010101ull, 0x0001000100010001ull, 0x0000000100000001ull,
};

/* Bits at the starts of free aligned runs of 2^order frames; order <= 5. */
static uint64_t
row_fold(uint64_t row, unsigned order)
{
    for (unsigned k = 0; k < order; k++)
        row &= row >> (1u << k) & run_starts[k + 1];
    return row;
}

unsigned
qr_row_order(uint64_t row)
{
    unsigned order = 0;

    if (row == ~(uint64_t)0)
        return 6;
    for (; order < 5; order++) {
        row &= row >> (1u << order) & run_starts[order + 1];
        if (row == 0)
            break;
    }
    return order;
}

/* Full rows as bits 0..7. */
static unsigned
rows_full(const struct frame_rows *rows)
{
    unsigned full = 0;

    for (unsigned r = 0; r < BLOCK_ROWS; r++)
        full |= (unsigned)(rows->row[r] == ~(uint64_t)0) << r;
    return full;
}

/* The starts of 2^(order - 6) full rows side by side; 6 <= order <= 9. */
static unsigned
full_fold(unsigned full, unsigned order)
{
    if (order >= 7)
        full &= full >> 1 & 0x55;
    if (order >= 8)
        full &= full >> 2 & 0x11;
    if (order >= 9)
        full &= full >> 4 & 0x01;
    return full;
}

unsigned
qr_rows_order(const struct frame_rows *rows)
{
    unsigned full = rows_full(rows);
    unsigned order = 0;

    if (full != 0) {
        for (order = 6; order < 9 && full_fold(full, order + 1) != 0; order++) {
        }
        return order;
    }
    for (unsigned r = 0; r < BLOCK_ROWS; r++) {
        if (row_fold(rows->row[r], order) == 0)
            continue;
        unsigned here = qr_row_order(rows->row[r]);

        if (here > order)
            order = here;
    }
    return order;
}

unsigned
qr_rows_find(const struct frame_rows *rows, unsigned order)
{
    if (order >= 6) {
        unsigned starts = full_fold(rows_full(rows), order);

        return starts == 0 ? BLOCK_FRAMES : (unsigned)__builtin_ctz(starts) * ROW_FRAMES;
    }
    for (unsigned r = 0; r < BLOCK_ROWS; r++) {
        uint64_t starts = row_fold(rows->row[r], order);

        if (starts != 0)
            return r * ROW_FRAMES + (unsigned)__builtin_ctzll(starts);
    }
    return BLOCK_FRAMES;
}

uint64_t
qr_row_mask(unsigned r, unsigned bit, unsigned count)
{
    unsigned low = r * ROW_FRAMES;
    unsigned from = bit > low ? bit - low : 0;
    unsigned end = bit + count;
    unsigned to = end >= low + ROW_FRAMES ? ROW_FRAMES : end <= low ? 0 : end - low;

    if (from >= to)
        return 0;
    return (to - from == ROW_FRAMES ? ~(uint64_t)0 : (((uint64_t)1 << (to - from)) - 1)) << from;
}

/* Bits set; in plain arithmetic, because not every target counts in one instruction. */
unsigned
qr_row_count(uint64_t row)
{
    row -= row >> 1 & 0x5555555555555555ull;
    row = (row & 0x3333333333333333ull) + (row >> 2 & 0x3333333333333333ull);
    row = (row + (row >> 4)) & 0x0f0f0f0f0f0f0f0full;
    return (unsigned)(row * 0x0101010101010101ull >> 56);
}

unsigned
qr_rows_count(const struct frame_rows *rows)
{
    unsigned count = 0;

    for (unsigned r = 0; r < BLOCK_ROWS; r++)
        count += qr_row_count(rows->row[r]);
    return count;
}
