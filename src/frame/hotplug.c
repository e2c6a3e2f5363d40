/* SPDX-License-Identifier: MIT */
/*
 * Memory that comes and goes while the machine runs, and blocks that are emptied.
 *
 * An added range carries its own metadata at its start, so that it can go again whole:
 *
 *   [ metadata |  rest of its sections: brought in at once | whole sections: a bank ]
 *
 * Isolation is what compaction and removal have in common: a block is taken out of all
 * lists, so that nothing new is allocated from it, and its free frames count as used.
 * Frames that are given back meanwhile join the bitmap and go nowhere.  When the users of the
 * rest have been moved elsewhere, the block is given back whole, or forgotten.
 *
 * Removal isolates every block of the range, has the evacuation hook move what can move,
 * and looks whether all frames have come back.  Then the sections disappear from the
 * table; else everything is given back as it was.  One change is under way at a time.
 *
 * Locks: map_lock for the map; the lock of a zone for its blocks and figures.
 */
#include "frames.h"

/* ---- isolating ----------------------------------------------------------- */

static bool
block_is_source(const struct frame_block *record, const struct frame_zone *zone, size_t min_free)
{
    return record->zone == zone->index && record->state == BLOCK_OPEN && record->movable &&
           !record->isolated && record->free >= min_free && record->free != 0;
}

bool
qr_frames_isolate_next(struct qr_frames *frames, unsigned index, size_t *cursor, size_t min_free,
                       struct qr_isolated *out_isolated)
{
    struct frame_zone *zone = &frames->zones[index];
    size_t end = zone->end_pfn;
    size_t pfn = *cursor > zone->start_pfn ? *cursor : zone->start_pfn;
    bool found = false;

    pfn &= ~(size_t)(BLOCK_FRAMES - 1);
    while (pfn < end && !found) {
        const struct frame_section *section = &frames->sections[pfn >> frames->section_shift];
        size_t stop = ((pfn >> frames->section_shift) + 1) << frames->section_shift;

        if (atomic_load_explicit(&section->state, memory_order_acquire) != SECTION_READY) {
            pfn = stop;
            continue;
        }
        qr_spin_lock(&zone->lock);
        for (; pfn < stop && pfn < end && !found; pfn += BLOCK_FRAMES) {
            const struct frame_block *record = qr_block_find(frames, pfn / BLOCK_FRAMES);

            found = record != NULL && block_is_source(record, zone, min_free);
            if (found) {
                qr_zone_isolate(frames, zone, (uint32_t)(pfn / BLOCK_FRAMES));
                *out_isolated = (struct qr_isolated){qr_pfn_of(pfn), BLOCK_FRAMES};
            }
        }
        qr_spin_unlock(&zone->lock);
    }
    *cursor = pfn;
    return found;
}

bool
qr_frames_unisolate(struct qr_frames *frames, const struct qr_isolated *isolated)
{
    uint32_t block = (uint32_t)(isolated->first.v / BLOCK_FRAMES);
    struct frame_zone *zone = &frames->zones[qr_block_of(frames, block)->zone];

    qr_spin_lock(&zone->lock);
    qr_zone_unisolate(frames, zone, block);
    bool whole = qr_block_of(frames, block)->state == BLOCK_FREE;

    qr_spin_unlock(&zone->lock);
    return whole;
}

/* ---- adding --------------------------------------------------------------- */

uint64_t
qr_frames_add_granule(const struct qr_frames *frames)
{
    return (uint64_t)1 << (frames->section_shift + QR_PAGE_SHIFT);
}

static bool
change_begin(struct qr_frames *frames)
{
    return !atomic_exchange_explicit(&frames->changing, true, memory_order_acquire);
}

static void
change_end(struct qr_frames *frames)
{
    atomic_store_explicit(&frames->changing, false, memory_order_release);
}

static enum qr_status
add_check(struct qr_frames *frames, const struct qr_memory_range *range)
{
    uint64_t start = range->range.start.v;
    uint64_t end = range->range.end.v;
    uint64_t mask = qr_frames_add_granule(frames) - 1;

    if (range->node >= CONFIG_MAX_NODES ||
        (range->kind != QR_MEMORY_USABLE && range->kind != QR_MEMORY_PERSISTENT))
        return QR_ERR_INVALID;
    if (start >= end || ((start | end) & mask) != 0 ||
        end >> (frames->section_shift + QR_PAGE_SHIFT) > frames->section_count ||
        (frames->direct_limit != 0 && end > frames->direct_limit) || start < DMA_LIMIT)
        return QR_ERR_RANGE;
    for (size_t i = 0; i < frames->map_count; i++) {
        if (frames->map[i].range.start.v < end && frames->map[i].range.end.v > start)
            return QR_ERR_EXISTS;
    }
    for (uint64_t i = start / (mask + 1); i < end / (mask + 1); i++) {
        if (frames->sections[i].frames != NULL)
            return QR_ERR_EXISTS;
    }
    return frames->map_count + 2 <= frames->map_capacity ? QR_OK : QR_ERR_NO_MEMORY;
}

static struct frame_addition *
addition_find(struct qr_frames *frames, struct qr_pa_range range)
{
    for (unsigned i = 0; i < QR_ADDITIONS; i++) {
        if (frames->additions[i].range.start.v == range.start.v &&
            frames->additions[i].range.end.v == range.end.v)
            return &frames->additions[i];
    }
    return NULL;
}

/* The map's two entries for it: descriptors, then memory. */
static void
add_to_map(struct qr_frames *frames, const struct qr_memory_range *range, uint64_t metadata)
{
    struct qr_memory_range piece = *range;
    bool added = true;

    qr_spin_lock(&frames->map_lock);
    if (metadata != 0) {
        piece.range.end.v = range->range.start.v + metadata;
        piece.kind = QR_MEMORY_KERNEL;
        piece.description = "frame descriptors";
        added = qr_map_add(frames, &piece);
        piece = *range;
        piece.range.start.v += metadata;
    }
    added = added && qr_map_add(frames, &piece);
    qr_spin_unlock(&frames->map_lock);
    qr_assert(added);
}

/* Sections that metadata reaches into come one by one, the others as a bank. */
static void
add_sections(struct qr_frames *frames, struct frame_addition *addition, struct frame_zone *zone)
{
    size_t each = qr_section_metadata_bytes((size_t)1 << frames->section_shift);
    size_t start = (size_t)(addition->range.start.v >> QR_PAGE_SHIFT);
    uint32_t first = (uint32_t)(start >> frames->section_shift);
    uint32_t end = (uint32_t)(addition->range.end.v >> (frames->section_shift + QR_PAGE_SHIFT));
    uint32_t odd = (uint32_t)((start + addition->metadata_frames - 1) >> frames->section_shift) + 1;
    uint64_t metadata = addition->range.start.v;

    /* Counted before it is listed: a request may find less than it hoped for a moment. */
    qr_spin_lock(&zone->lock);
    qr_zone_grow(frames, zone, start, start + addition->metadata_frames, false);
    qr_zone_grow(frames, zone, start + addition->metadata_frames,
                 (size_t)end << frames->section_shift, true);
    qr_spin_unlock(&zone->lock);
    addition->bank = BANK_NONE;
    if (odd < end)
        addition->bank =
            qr_bank_add(frames, odd, end, zone->index, metadata + (uint64_t)(odd - first) * each);
    for (uint32_t i = first; i < end && (i < odd || addition->bank == BANK_NONE); i++)
        qr_section_bring_in(frames, i, (size_t)i << frames->section_shift,
                            (size_t)1 << frames->section_shift,
                            metadata + (uint64_t)(i - first) * each);
}

static enum qr_status
add_locked(struct qr_frames *frames, const struct qr_memory_range *range)
{
    enum qr_status status = add_check(frames, range);
    struct frame_addition *addition = addition_find(frames, (struct qr_pa_range){{0}, {0}});

    if (status != QR_OK)
        return status;
    if (addition == NULL)
        return QR_ERR_NO_MEMORY;
    bool usable = range->kind == QR_MEMORY_USABLE;
    uint64_t sections =
        (range->range.end.v - range->range.start.v) >> (frames->section_shift + QR_PAGE_SHIFT);
    uint64_t metadata =
        usable ? sections * qr_section_metadata_bytes((size_t)1 << frames->section_shift) : 0;

    metadata = (metadata + QR_PAGE_MASK) & ~(uint64_t)QR_PAGE_MASK;

    *addition = (struct frame_addition){
        .range = range->range,
        .metadata_frames = (size_t)(metadata >> QR_PAGE_SHIFT),
        .node = range->node,
        .bank = BANK_NONE,
    };
    add_to_map(frames, range, metadata);
    if (!usable)
        return QR_OK;
    /* Asked after the addition is noted: that decides the kind. */
    add_sections(frames, addition,
                 &frames->zones[range->node * QR_ZONE_COUNT +
                                qr_zone_kind_of_block(frames, range->range.start.v >>
                                                                  QR_PAGE_SHIFT >> BLOCK_ORDER)]);
    frames->metadata_bytes += (size_t)metadata;
    qr_zone_watermarks(frames);
    qr_fallback_fill(frames);
    return QR_OK;
}

enum qr_status
qr_frames_add(struct qr_frames *frames, const struct qr_memory_range *range)
{
    if (!change_begin(frames))
        return QR_ERR_BUSY;
    enum qr_status status = add_locked(frames, range);

    change_end(frames);
    return status;
}

/* ---- removing ------------------------------------------------------------- */

struct removal {
    struct frame_addition *addition;
    struct frame_zone *zone;
    struct frame_bank *bank; /* NULL: none */
    uint32_t withheld;       /* sections of the bank that were never opened */
    size_t first, end;       /* sections */
    bool complete;
};

/* Frames of block @index of @section that the allocator can have: all but metadata. */
static unsigned
usable_in_block(const struct removal *removal, const struct frame_section *section, uint32_t index)
{
    size_t first = section->first_pfn + (size_t)index * BLOCK_FRAMES;
    size_t start = (size_t)(removal->addition->range.start.v >> QR_PAGE_SHIFT) +
                   removal->addition->metadata_frames;

    if (first >= start)
        return BLOCK_FRAMES;
    return first + BLOCK_FRAMES <= start ? 0 : (unsigned)(first + BLOCK_FRAMES - start);
}

typedef void (*removal_fn)(struct qr_frames *frames, struct removal *removal,
                           struct frame_section *section, uint32_t index);

/* Call @fn for every block that is there, with the zone's lock held for one section. */
static void
removal_each(struct qr_frames *frames, struct removal *removal, removal_fn fn)
{
    for (size_t i = removal->first; i < removal->end; i++) {
        struct frame_section *section = &frames->sections[i];

        qr_spin_lock(&removal->zone->lock);
        if (section->state == SECTION_READY) {
            for (uint32_t b = 0; b < section->block_count; b++)
                fn(frames, removal, section, b);
        }
        qr_spin_unlock(&removal->zone->lock);
    }
}

static void
removal_isolate(struct qr_frames *frames, struct removal *removal, struct frame_section *section,
                uint32_t index)
{
    struct frame_block *record = &section->blocks[index];
    uint32_t head = qr_zone_head_of(frames, section->first_block + index);
    bool free = head != BLOCK_NONE && qr_block_of(frames, head)->state == BLOCK_FREE;

    if (free || (record->state == BLOCK_OPEN && !record->isolated))
        qr_zone_isolate(frames, removal->zone, section->first_block + index);
}

static void
removal_check(struct qr_frames *frames, struct removal *removal, struct frame_section *section,
              uint32_t index)
{
    const struct frame_block *record = &section->blocks[index];

    (void)frames;
    if (record->state != BLOCK_OPEN || !record->isolated ||
        record->free != usable_in_block(removal, section, index))
        removal->complete = false;
}

static void
removal_undo(struct qr_frames *frames, struct removal *removal, struct frame_section *section,
             uint32_t index)
{
    if (section->blocks[index].state == BLOCK_OPEN && section->blocks[index].isolated)
        qr_zone_unisolate(frames, removal->zone, section->first_block + index);
}

static void
removal_forget(struct qr_frames *frames, struct removal *removal, struct frame_section *section,
               uint32_t index)
{
    qr_zone_forget(frames, removal->zone, section->first_block + index);
}

/* Sections that nobody has asked for yet: from now on nobody can, or can again. */
static void
removal_withhold(struct qr_frames *frames, struct removal *removal, bool withhold)
{
    struct frame_bank *bank = removal->bank;

    if (bank == NULL)
        return;
    qr_spin_lock(&removal->zone->lock);
    if (withhold) {
        removal->withheld = bank->waiting;
        bank->waiting = 0;
        removal->zone->waiting -= removal->withheld;
    } else {
        bank->waiting = removal->withheld;
        removal->zone->waiting += removal->withheld;
    }
    size_t count = (size_t)removal->withheld << frames->section_shift;

    qr_zone_free_add(removal->zone, withhold ? -count : count);
    if (withhold)
        qr_frames_used_add(frames, removal->zone, count);
    else
        qr_frames_used_sub(frames, removal->zone, count);
    qr_spin_unlock(&removal->zone->lock);
}

/* Have the frames that are still used moved away. */
static void
removal_evacuate(struct qr_frames *frames, struct removal *removal)
{
    if (frames->evacuate == NULL)
        return;
    for (size_t i = removal->first; i < removal->end; i++) {
        struct frame_section *section = &frames->sections[i];

        for (uint32_t b = 0; section->state == SECTION_READY && b < section->block_count; b++) {
            struct qr_isolated isolated = {qr_pfn_of(section->first_pfn + (size_t)b * BLOCK_FRAMES),
                                           BLOCK_FRAMES};
            bool used;

            qr_spin_lock(&removal->zone->lock);
            used = section->blocks[b].isolated &&
                   section->blocks[b].free < usable_in_block(removal, section, b);
            qr_spin_unlock(&removal->zone->lock);
            if (used)
                frames->evacuate(frames->evacuate_context, &isolated);
        }
    }
}

/* Everything has come back: the range is no memory any more. */
static void
removal_commit(struct qr_frames *frames, struct removal *removal)
{
    struct frame_addition *addition = removal->addition;
    struct frame_zone *zone = removal->zone;
    size_t frame_count = (removal->end - removal->first) << frames->section_shift;
    size_t usable = frame_count - addition->metadata_frames;

    removal_each(frames, removal, removal_forget);
    qr_spin_lock(&zone->lock);
    qr_frames_used_sub(frames, zone, (size_t)removal->withheld << frames->section_shift);
    zone->managed -= usable;
    zone->present -= frame_count;
    frames->total -= usable;
    frames->reserved -= addition->metadata_frames;
    frames->metadata_bytes -= addition->metadata_frames << QR_PAGE_SHIFT;
    for (size_t i = removal->first; i < removal->end; i++) {
        struct frame_section *section = &frames->sections[i];

        atomic_store_explicit(&section->state, SECTION_ABSENT, memory_order_release);
        section->frame_count = 0;
        section->block_count = 0;
        section->frames = NULL;
    }
    if (removal->bank != NULL)
        removal->bank->first = removal->bank->end = 0;
    qr_spin_unlock(&zone->lock);
    qr_zone_watermarks(frames);
}

#define REMOVE_ATTEMPTS 4

static enum qr_status
remove_usable(struct qr_frames *frames, struct frame_addition *addition)
{
    unsigned shift = frames->section_shift + QR_PAGE_SHIFT;
    unsigned kind =
        qr_zone_kind_of_block(frames, addition->range.start.v >> QR_PAGE_SHIFT >> BLOCK_ORDER);
    struct removal removal = {
        .addition = addition,
        .zone = &frames->zones[addition->node * QR_ZONE_COUNT + kind],
        .bank = addition->bank == BANK_NONE ? NULL : &frames->banks[addition->bank],
        .first = (size_t)(addition->range.start.v >> shift),
        .end = (size_t)(addition->range.end.v >> shift),
    };

    removal_withhold(frames, &removal, true);
    for (unsigned i = 0; i < REMOVE_ATTEMPTS && !removal.complete; i++) {
        removal_each(frames, &removal, removal_isolate);
        (void)qr_lanes_drain(frames);
        removal_evacuate(frames, &removal);
        (void)qr_lanes_drain(frames);
        removal.complete = true;
        removal_each(frames, &removal, removal_check);
    }
    if (!removal.complete) {
        removal_each(frames, &removal, removal_undo);
        removal_withhold(frames, &removal, false);
        return QR_ERR_BUSY;
    }
    removal_commit(frames, &removal);
    return QR_OK;
}

enum qr_status
qr_frames_remove(struct qr_frames *frames, struct qr_pa_range range)
{
    enum qr_status status = QR_OK;

    if (!change_begin(frames))
        return QR_ERR_BUSY;
    struct frame_addition *addition =
        range.start.v < range.end.v ? addition_find(frames, range) : NULL;

    if (addition == NULL)
        status = QR_ERR_NOT_FOUND;
    else if (addition->metadata_frames != 0)
        status = remove_usable(frames, addition);
    if (status == QR_OK) {
        qr_spin_lock(&frames->map_lock);
        qr_map_remove(frames, range);
        qr_spin_unlock(&frames->map_lock);
        *addition = (struct frame_addition){.bank = BANK_NONE};
    }
    change_end(frames);
    return status;
}
