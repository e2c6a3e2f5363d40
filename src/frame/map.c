/* SPDX-License-Identifier: MIT */
/*
 * The memory map: from what a boot loader says to something to build on.
 *
 * Loaders hand over ranges in any order, overlapping, empty, wrapping, and beyond
 * what the CPU can address.  The sweep below needs no memory and no sorting: from
 * a cursor it finds the entry with the last word on that address and the next
 * address where anything changes, emits the piece, and goes on from there.  That
 * is quadratic in the number of entries, which is at most some hundreds, once.
 *
 * Where entries overlap, the more restrictive kind wins: better to lose a page than to
 * hand out a device.  Usable memory shrinks to whole pages and all else grows,
 * for the same reason.
 */
#include "frames.h"

/* By kind: the higher one wins. */
static const uint8_t kind_rank[] = {
    [QR_MEMORY_USABLE] = 0, [QR_MEMORY_PERSISTENT] = 1, [QR_MEMORY_BOOT] = 2,
    [QR_MEMORY_KERNEL] = 3, [QR_MEMORY_ACPI] = 4,       [QR_MEMORY_RESERVED] = 5,
    [QR_MEMORY_MMIO] = 6,   [QR_MEMORY_BAD] = 7,
};

bool
qr_map_is_ram(enum qr_memory_kind kind)
{
    return kind == QR_MEMORY_USABLE || kind == QR_MEMORY_BOOT || kind == QR_MEMORY_KERNEL ||
           kind == QR_MEMORY_ACPI;
}

/* An entry as whole pages below @limit; false where nothing of it remains. */
static bool
entry_clip(const struct qr_memory_range *entry, uint64_t limit, uint64_t *out_start,
           uint64_t *out_end)
{
    uint64_t mask = QR_PAGE_MASK;
    uint64_t start = entry->range.start.v;
    uint64_t end = entry->range.end.v;

    if (start >= end || (size_t)entry->kind >= QR_ARRAY_COUNT(kind_rank))
        return false;
    if (end > limit)
        end = limit;
    if (entry->kind == QR_MEMORY_USABLE) {
        start = start + mask < start ? UINT64_MAX : (start + mask) & ~mask;
        end &= ~mask;
    } else {
        start &= ~mask;
        end = end + mask < end ? ~mask : (end + mask) & ~mask;
    }
    *out_start = start;
    *out_end = end;
    return start < end;
}

/* Append [start, end) of @entry to @out, merged with the piece before it where alike. */
static size_t
piece_append(struct qr_memory_range *out, size_t used, size_t capacity,
             const struct qr_memory_range *entry, uint64_t start, uint64_t end)
{
    struct qr_memory_range *last = used > 0 ? &out[used - 1] : NULL;

    if (last != NULL && last->range.end.v == start && last->kind == entry->kind &&
        last->node == entry->node && last->description == entry->description) {
        last->range.end.v = end;
        return used;
    }
    qr_assert(out != NULL && used < capacity);
    out[used] = *entry;
    out[used].range.start.v = start;
    out[used].range.end.v = end;
    return used + 1;
}

size_t
qr_map_sanitise(const struct qr_memory_range *in, size_t count, uint64_t limit,
                struct qr_memory_range *out, size_t capacity, size_t *out_dropped)
{
    uint64_t cursor = 0;
    size_t used = 0;
    size_t dropped = 0;

    limit = limit == 0 ? ~(uint64_t)QR_PAGE_MASK : limit & ~(uint64_t)QR_PAGE_MASK;
    for (size_t i = 0; i < count; i++) {
        uint64_t start, end;

        dropped += !entry_clip(&in[i], limit, &start, &end);
    }
    *out_dropped = dropped;

    /* Every step ends at a start or an end of an entry: at most 2 × count of them. */
    for (size_t step = 0; step <= 2 * count; step++) {
        const struct qr_memory_range *best = NULL;
        uint64_t next = UINT64_MAX;

        for (size_t i = 0; i < count; i++) {
            uint64_t start, end;

            if (!entry_clip(&in[i], limit, &start, &end) || end <= cursor)
                continue;
            if (start > cursor) {
                next = start < next ? start : next;
                continue;
            }
            next = end < next ? end : next;
            if (best == NULL || kind_rank[in[i].kind] > kind_rank[best->kind])
                best = &in[i];
        }
        if (next == UINT64_MAX)
            break;
        if (best != NULL)
            used = piece_append(out, used, capacity, best, cursor, next);
        cursor = next;
    }
    return used;
}
