/* SPDX-License-Identifier: MIT */
#ifndef QR_FRAME_LISTS_H
#define QR_FRAME_LISTS_H

/* The lists of a zone (zone.c draws them), for those who take blocks out and put them back. */
#include "frames.h"

static inline unsigned
qr_zone_list_of(const struct frame_block *record, unsigned order)
{
    return order < BLOCK_ORDER ? record->movable * BLOCK_ORDER + order
                               : LIST_RUNS + order - BLOCK_ORDER;
}

/* Put a block, whose record is @record, into the list of @order, first.  Locks: zone->lock. */
static inline void
qr_zone_link_record(struct qr_frames *frames, struct frame_zone *zone, uint32_t block,
                    struct frame_block *record, unsigned order)
{
    unsigned list = qr_zone_list_of(record, order);
    uint32_t head = zone->head[list];

    record->order = order & 0x1fu;
    record->prev = BLOCK_NONE;
    record->next = head;
    if (head != BLOCK_NONE)
        qr_block_of(frames, head)->prev = block;
    zone->head[list] = block;
    zone->listed |= 1u << list;
}

static inline void
qr_zone_link(struct qr_frames *frames, struct frame_zone *zone, uint32_t block, unsigned order)
{
    qr_zone_link_record(frames, zone, block, qr_block_of(frames, block), order);
}

/* Take a block out of the list that it stands in.  Locks: zone->lock. */
static inline void
qr_zone_unlink(struct qr_frames *frames, struct frame_zone *zone, uint32_t block)
{
    struct frame_block *record = qr_block_of(frames, block);
    unsigned list = qr_zone_list_of(record, record->order);

    if (block == zone->spare)
        zone->spare = BLOCK_NONE;
    if (record->next != BLOCK_NONE)
        qr_block_of(frames, record->next)->prev = record->prev;
    if (record->prev != BLOCK_NONE) {
        qr_block_of(frames, record->prev)->next = record->next;
        return;
    }
    zone->head[list] = record->next;
    if (record->next == BLOCK_NONE)
        zone->listed &= ~(1u << list);
}

/*
 * An OPEN block with a free run of 2^order, order < 9, taken out of its list; BLOCK_NONE
 * where the zone has none.
 */
uint32_t qr_zone_open_with_run(struct qr_frames *frames, struct frame_zone *zone,
                               enum block_class class, unsigned order);
/* Put an OPEN block back that frames were taken out of, where any are left. */
void qr_zone_list_after_take(struct qr_frames *frames, struct frame_zone *zone, uint32_t block);
/* @count frames, @mask of row @r, are in the bitmap: into the lists and the count with them. */
void qr_zone_give_listed(struct qr_frames *frames, struct frame_zone *zone,
                         struct frame_section *section, uint32_t index, unsigned r, uint64_t mask,
                         unsigned count);
QR_NORETURN QR_COLD void qr_zone_give_panic(uint32_t block, unsigned row);

#endif
