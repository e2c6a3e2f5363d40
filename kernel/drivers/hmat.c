/* SPDX-License-Identifier: MIT */
/*
 * HMAT: how fast each initiator (CPUs of a proximity domain) reaches each target
 * (memory of one).
 *
 * The table is a header and then structures of (type, reserved, length, ...):
 *
 *      0  attributes of a target: which initiator's memory it is
 *      1  a matrix of latencies or bandwidths: I initiators, T targets, I x T entries
 *      2  caches in front of a target: not used
 *
 * A structure whose length is too small for its type or leads out of the table ends
 * the walk; a matrix that is larger than its structure is left out.  Numbers go to
 * boot_machine in nanoseconds and MiB/s.
 */
#include <boot.h>

#include "hmat.h"

#define HEADER_BYTES     40u
#define STRUCTURE_BYTES  8u
#define ATTRIBUTES_BYTES 20u
#define MATRIX_BYTES     32u
#define INITIATOR_VALID  1u
#define OF_MEMORY        0u /* of a matrix: about memory itself, not about a cache in front */
#define ENTRY_MAX        0xffffu

struct matrix {
    const uint8_t *initiators, *targets, *entries;
    uint32_t initiator_count, target_count;
    uint64_t unit;
    uint8_t type;
    uint8_t revision;
};

static uint64_t
field(const uint8_t *at, unsigned bytes)
{
    uint64_t value = 0;

    for (unsigned i = 0; i < bytes; i++)
        value |= (uint64_t)at[i] << 8 * i;
    return value;
}

/**
 * Revision 1 counts in tenths of the unit, revision 2 counts latencies in picoseconds.
 * @return nanoseconds or MiB/s; 0 where the entry says nothing
 */
static uint64_t
matrix_value(const struct matrix *matrix, uint64_t entry)
{
    bool latency = matrix->type < 3;
    unsigned divisor = matrix->revision == 1 ? 10 : latency ? 1000 : 1;

    if (entry == 0 || entry == ENTRY_MAX || matrix->unit > UINT64_MAX / ENTRY_MAX)
        return 0;
    return (entry * matrix->unit + divisor - 1) / divisor;
}

static void
matrix_take(const struct matrix *matrix, uint32_t row, uint32_t column)
{
    uint64_t from = field(matrix->initiators + 4 * (size_t)row, 4);
    uint64_t to = field(matrix->targets + 4 * (size_t)column, 4);
    size_t index = (size_t)row * matrix->target_count + column;
    uint64_t value = matrix_value(matrix, field(matrix->entries + 2 * index, 2));
    bool both = matrix->type == 0 || matrix->type == 3;
    bool read = both || matrix->type == 1 || matrix->type == 4;
    bool write = both || !read;

    if (read)
        boot_set_access(from, to, matrix->type < 3 ? BOOT_READ_LATENCY : BOOT_READ_BANDWIDTH,
                        value);
    if (write)
        boot_set_access(from, to, matrix->type < 3 ? BOOT_WRITE_LATENCY : BOOT_WRITE_BANDWIDTH,
                        value);
}

static void
matrix_parse(const uint8_t *at, uint64_t bytes, uint8_t revision)
{
    struct matrix matrix = {
        .initiators = at + MATRIX_BYTES,
        .initiator_count = (uint32_t)field(at + 12, 4),
        .target_count = (uint32_t)field(at + 16, 4),
        .unit = field(at + 24, 8),
        .type = at[9],
        .revision = revision,
    };
    uint64_t rows = matrix.initiator_count;
    uint64_t columns = matrix.target_count;

    /* Each number by itself first: so no product wraps. */
    if (rows > bytes || columns > bytes ||
        MATRIX_BYTES + 4 * (rows + columns) + 2 * rows * columns > bytes)
        return;
    if ((at[8] & 15) != OF_MEMORY || matrix.type > 5)
        return;
    matrix.targets = matrix.initiators + 4 * rows;
    matrix.entries = matrix.targets + 4 * columns;
    for (uint32_t row = 0; row < rows; row++) {
        for (uint32_t column = 0; column < columns; column++)
            matrix_take(&matrix, row, column);
    }
}

static void
attributes_parse(const uint8_t *at)
{
    if (field(at + 8, 2) & INITIATOR_VALID)
        boot_set_initiator(field(at + 16, 4), field(at + 12, 4));
}

void
hmat_parse(const void *table, size_t bytes)
{
    const uint8_t *first = table;
    uint8_t revision = first[8];

    for (size_t at = HEADER_BYTES; at < bytes && bytes - at >= STRUCTURE_BYTES;) {
        uint64_t type = field(first + at, 2);
        uint64_t length = field(first + at + 4, 4);

        if (length < STRUCTURE_BYTES || length > bytes - at)
            return;
        if (type == 0 && length >= ATTRIBUTES_BYTES)
            attributes_parse(first + at);
        else if (type == 1 && length >= MATRIX_BYTES)
            matrix_parse(first + at, length, revision);
        at += (size_t)length;
    }
}
