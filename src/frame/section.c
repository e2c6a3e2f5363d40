/* SPDX-License-Identifier: MIT */
/*
 * Sections: the pieces of the physical address space that have descriptors.
 *
 *   pfn ── >> section_shift ──> section ── + (pfn - first_pfn) ──> struct qr_frame
 *
 * A section spans from its first to its last page of RAM, so holes at its ends cost
 * nothing and sections without memory nothing at all.  It is 128 MiB; larger on machines
 * so large that 65536 such would not cover them, because a descriptor names its
 * section in 16 bits.
 *
 * Metadata (descriptors, rows, block records) is carved from the tops of usable ranges
 * below direct_limit, on the same node and outside the DMA zone where possible, so
 * that it lies together and breaks up few large blocks.  A section that would eat more memory
 * than it describes is left out.
 *
 * Start-up writes none of it for a section that is all usable memory of one zone:
 * that one waits FRESH in its zone's chain until the lists run dry; and descriptors
 * are written a block at a time, before the first of the block's frames is given out.
 */
#include "frames.h"

struct frame_block *
qr_block_find(struct qr_frames *frames, uint64_t block)
{
    uint64_t index = block >> (frames->section_shift - BLOCK_ORDER);

    if (index >= frames->section_count)
        return NULL;
    struct frame_section *section = &frames->sections[index];

    if (atomic_load_explicit(&section->state, memory_order_acquire) != SECTION_READY ||
        block < section->first_block || block - section->first_block >= section->block_count)
        return NULL;
    return &section->blocks[block - section->first_block];
}

/* ---- placement ---------------------------------------------------------- */

static size_t
section_metadata_bytes(const struct frame_section *section)
{
    size_t descriptors = section->frame_count * sizeof(struct qr_frame);
    size_t bytes = (descriptors + QR_CACHE_LINE - 1) & ~(size_t)(QR_CACHE_LINE - 1);

    bytes += section->block_count *
             (sizeof(struct frame_rows) + sizeof(struct frame_block) + sizeof(uint8_t));
    return (bytes + QR_PAGE_MASK) & ~(size_t)QR_PAGE_MASK;
}

/* How good the top of @range is for metadata of a section of @node; 0: unfit. */
static unsigned
range_fitness(const struct qr_frames *frames, const struct qr_memory_range *range, unsigned node,
              size_t bytes)
{
    uint64_t limit = frames->direct_limit == 0 ? UINT64_MAX : frames->direct_limit;

    if (range->kind != QR_MEMORY_USABLE || range->range.end.v > limit ||
        range->range.end.v - range->range.start.v < bytes)
        return 0;
    return 1 + (range->node == node ? 2u : 0) + (range->range.start.v >= DMA_LIMIT ? 1u : 0);
}

static bool
range_better(const struct qr_memory_range *a, const struct qr_memory_range *b)
{
    return a->range.end.v - a->range.start.v > b->range.end.v - b->range.start.v;
}

static const char descriptors_text[] = "frame descriptors";

static void
map_insert(struct qr_frames *frames, size_t at, struct qr_memory_range entry)
{
    qr_assert(frames->map_count < frames->map_capacity);
    for (size_t i = frames->map_count; i > at; i--)
        frames->map[i] = frames->map[i - 1];
    frames->map[at] = entry;
    frames->map_count++;
}

/* Turn the top @bytes of usable entry @at into descriptors; @return where they start. */
static uint64_t
map_carve(struct qr_frames *frames, size_t at, size_t bytes)
{
    struct qr_memory_range *entry = &frames->map[at];
    uint64_t start = entry->range.end.v - bytes;
    struct qr_memory_range *above = at + 1 < frames->map_count ? entry + 1 : NULL;

    if (above != NULL && above->description == descriptors_text &&
        above->range.start.v == entry->range.end.v && above->node == entry->node) {
        above->range.start.v = start;
    } else {
        struct qr_memory_range piece = *entry;

        piece.range.start.v = start;
        piece.kind = QR_MEMORY_KERNEL;
        piece.description = descriptors_text;
        map_insert(frames, at + 1, piece);
    }
    entry = &frames->map[at];
    entry->range.end.v = start;
    return start;
}

/* @return the physical address of @bytes for a section of @node, 0 where nothing fits */
static uint64_t
metadata_carve(struct qr_frames *frames, unsigned node, size_t bytes)
{
    size_t best = SIZE_MAX;
    unsigned best_fitness = 0;

    for (size_t i = 0; i < frames->map_count; i++) {
        unsigned fitness = range_fitness(frames, &frames->map[i], node, bytes);

        if (fitness > best_fitness || (fitness != 0 && fitness == best_fitness &&
                                       range_better(&frames->map[i], &frames->map[best]))) {
            best = i;
            best_fitness = fitness;
        }
    }
    return best == SIZE_MAX ? 0 : map_carve(frames, best, bytes);
}

/* Split the map's usable entries at @address, so that none lies on both sides. */
static void
map_split_at(struct qr_frames *frames, uint64_t address)
{
    for (size_t i = 0; i < frames->map_count; i++) {
        struct qr_memory_range upper = frames->map[i];

        if (upper.range.start.v >= address || upper.range.end.v <= address)
            continue;
        frames->map[i].range.end.v = address;
        upper.range.start.v = address;
        map_insert(frames, i + 1, upper);
        return;
    }
}

/* ---- zones of blocks ---------------------------------------------------- */

static unsigned
kind_of_block(const struct qr_frames *frames, uint64_t block)
{
    uint64_t end = (block + 1) * BLOCK_FRAMES << QR_PAGE_SHIFT;

    if (end <= DMA_LIMIT)
        return QR_ZONE_DMA;
    return frames->direct_limit == 0 || end <= frames->direct_limit ? QR_ZONE_NORMAL : QR_ZONE_HIGH;
}

/* A range cut to [first, first + count) frames; false where they do not meet. */
static bool
range_meets(const struct qr_memory_range *range, size_t first, size_t count, size_t *out_from,
            size_t *out_to)
{
    uint64_t from = range->range.start.v >> QR_PAGE_SHIFT;
    uint64_t to = range->range.end.v >> QR_PAGE_SHIFT;

    from = from > first ? from : first;
    to = to < first + count ? to : first + count;
    *out_from = (size_t)from;
    *out_to = (size_t)to;
    return from < to;
}

/* The zone of a block: by its address, and by the node of the first RAM in it. */
static unsigned
zone_of_block(const struct qr_frames *frames, uint32_t block)
{
    unsigned node = 0;

    for (size_t i = 0; i < frames->map_count; i++) {
        size_t from, to;

        if (qr_map_is_ram(frames->map[i].kind) &&
            range_meets(&frames->map[i], (size_t)block * BLOCK_FRAMES, BLOCK_FRAMES, &from, &to)) {
            node = frames->map[i].node;
            break;
        }
    }
    return node * QR_ZONE_COUNT + kind_of_block(frames, block);
}

/* ---- descriptors -------------------------------------------------------- */

static void
frame_describe(struct qr_frame *frame, enum qr_frame_type type, uint8_t zone, uint16_t section)
{
    atomic_store_explicit(&frame->refs, 0, memory_order_relaxed);
    atomic_store_explicit(&frame->flags, (uint32_t)type, memory_order_relaxed);
    atomic_store_explicit(&frame->maps, 0, memory_order_relaxed);
    frame->order = 0;
    frame->zone = zone;
    frame->section = section;
    atomic_store_explicit(&frame->owner, NULL, memory_order_relaxed);
    atomic_store_explicit(&frame->index, 0, memory_order_relaxed);
}

void
qr_section_describe(struct qr_frames *frames, uint32_t block)
{
    struct frame_section *section = qr_section_of_block(frames, block);
    uint32_t index = block - section->first_block;

    if (atomic_load_explicit(&section->described[index], memory_order_relaxed))
        return;
    size_t first = (size_t)block * BLOCK_FRAMES;
    size_t end = section->first_pfn + section->frame_count;
    size_t count = end - first < BLOCK_FRAMES ? end - first : BLOCK_FRAMES;
    struct qr_frame *frame = qr_block_frame(frames, block, 0);
    uint16_t number = (uint16_t)(section - frames->sections);
    uint8_t zone = section->blocks[index].zone;
    size_t described = 0;

    for (size_t i = 0; i < frames->map_count && described < count; i++) {
        const struct qr_memory_range *range = &frames->map[i];
        size_t from, to;

        if (!range_meets(range, first, count, &from, &to))
            continue;
        for (; first + described < from; described++)
            frame_describe(frame + described, QR_FRAME_NONE, zone, number);
        for (; first + described < to; described++)
            frame_describe(frame + described,
                           range->kind == QR_MEMORY_USABLE ? QR_FRAME_FREE : QR_FRAME_RESERVED,
                           zone, number);
    }
    for (; described < count; described++)
        frame_describe(frame + described, QR_FRAME_NONE, zone, number);
    atomic_store_explicit(&section->described[index], 1, memory_order_release);
}

/* ---- bringing a section in ---------------------------------------------- */

/* The free frames of a block as the map has them.  @return how many */
static unsigned
rows_from_map(const struct qr_frames *frames, uint32_t block, struct frame_rows *rows)
{
    size_t first = (size_t)block * BLOCK_FRAMES;

    for (unsigned r = 0; r < BLOCK_ROWS; r++)
        rows->row[r] = 0;
    for (size_t i = 0; i < frames->map_count; i++) {
        size_t from, to;

        if (frames->map[i].kind != QR_MEMORY_USABLE ||
            !range_meets(&frames->map[i], first, BLOCK_FRAMES, &from, &to))
            continue;
        for (unsigned r = 0; r < BLOCK_ROWS; r++)
            rows->row[r] |= qr_row_mask(r, (unsigned)(from - first), (unsigned)(to - from));
    }
    return qr_rows_count(rows);
}

/* One block of a section with holes: OPEN with what is usable, or whole into the buddy. */
static void
block_bring_in(struct qr_frames *frames, uint32_t block)
{
    struct frame_block *record = qr_block_of(frames, block);

    record->zone = (uint8_t)zone_of_block(frames, block);
    record->free = rows_from_map(frames, block, qr_rows_of(frames, block)) & 0x3ffu;
    record->state = BLOCK_OPEN;
    record->order = 0;
    if (record->free != BLOCK_FRAMES)
        qr_section_describe(frames, block);

    struct frame_zone *zone = &frames->zones[record->zone];

    qr_spin_lock(&zone->lock);
    qr_zone_list_open(frames, zone, block);
    qr_spin_unlock(&zone->lock);
}

static void
section_prepare(struct frame_section *section)
{
    for (uint32_t b = 0; b < section->block_count; b++) {
        struct frame_block *record = &section->blocks[b];

        record->state = BLOCK_TAIL;
        record->free = 0;
        record->order = 0;
        record->zone = section->zone;
        atomic_store_explicit(&section->described[b], 0, memory_order_relaxed);
    }
    atomic_store_explicit(&section->state, SECTION_READY, memory_order_release);
}

void
qr_section_open(struct qr_frames *frames, struct frame_section *section)
{
    struct frame_zone *zone = &frames->zones[section->zone];
    uint32_t block = section->first_block;
    uint32_t end = block + section->block_count;

    qr_assert(zone->any_fresh && section == &frames->sections[zone->fresh]);
    zone->fresh = section->next_fresh;
    zone->any_fresh = zone->fresh != BLOCK_NONE;
    section_prepare(section);
    while (block < end) {
        unsigned order = BLOCK_ORDER;

        while (order < QR_ORDER_MAX && (block & ((uint32_t)1 << (order - BLOCK_ORDER))) == 0 &&
               end - block >= (uint32_t)2 << (order - BLOCK_ORDER))
            order++;
        qr_zone_insert(frames, zone, block, order);
        block += (uint32_t)1 << (order - BLOCK_ORDER);
    }
}

/* ---- start -------------------------------------------------------------- */

/* Span of RAM in section @index; its node is that of the first RAM. */
static bool
section_span(const struct qr_frames *frames, uint32_t index, size_t *out_first, size_t *out_end,
             unsigned *out_node, size_t *out_usable)
{
    size_t count = (size_t)1 << frames->section_shift;
    size_t base = (size_t)index << frames->section_shift;
    size_t first = SIZE_MAX;
    size_t end = 0;
    size_t usable = 0;

    for (size_t i = 0; i < frames->map_count; i++) {
        size_t from, to;

        if (!qr_map_is_ram(frames->map[i].kind) ||
            !range_meets(&frames->map[i], base, count, &from, &to))
            continue;
        if (first == SIZE_MAX) {
            first = from;
            *out_node = frames->map[i].node;
        }
        end = to;
        if (frames->map[i].kind == QR_MEMORY_USABLE)
            usable += to - from;
    }
    *out_first = first & ~(size_t)(BLOCK_FRAMES - 1);
    *out_end = end;
    *out_usable = usable;
    return usable != 0;
}

/* Size a section and place its metadata; false where it is not worth having. */
static bool
section_place(struct qr_frames *frames, uint32_t index)
{
    struct frame_section *section = &frames->sections[index];
    size_t first, end, usable;
    unsigned node = 0;

    if (!section_span(frames, index, &first, &end, &node, &usable))
        return true;
    section->first_pfn = first;
    section->frame_count = end - first;
    section->first_block = (uint32_t)(first / BLOCK_FRAMES);
    section->block_count = (uint32_t)((end - first + BLOCK_FRAMES - 1) / BLOCK_FRAMES);

    size_t bytes = section_metadata_bytes(section);
    uint64_t at = bytes / QR_PAGE_SIZE < usable ? metadata_carve(frames, node, bytes) : 0;

    if (at == 0)
        return false;
    section->frames = qr_port_window_open(qr_pa_of(at));
    size_t descriptors = section->frame_count * sizeof(struct qr_frame);
    uintptr_t after = (uintptr_t)section->frames + descriptors;

    after = (after + QR_CACHE_LINE - 1) & ~(uintptr_t)(QR_CACHE_LINE - 1);
    section->rows = (struct frame_rows *)after;
    section->blocks = (struct frame_block *)(section->rows + section->block_count);
    section->described = (_Atomic uint8_t *)(section->blocks + section->block_count);
    frames->metadata_bytes += bytes;
    return true;
}

/* One usable entry covers the whole section, whole blocks, one zone. */
static bool
section_is_uniform(const struct qr_frames *frames, const struct frame_section *section)
{
    size_t first = section->first_pfn;
    size_t last_block = section->first_block + section->block_count - 1;

    if (section->frame_count % BLOCK_FRAMES != 0 ||
        kind_of_block(frames, section->first_block) != kind_of_block(frames, last_block))
        return false;
    for (size_t i = 0; i < frames->map_count; i++) {
        size_t from, to;

        if (range_meets(&frames->map[i], first, section->frame_count, &from, &to))
            return frames->map[i].kind == QR_MEMORY_USABLE && to - from == section->frame_count;
    }
    return false;
}

static void
section_bring_in(struct qr_frames *frames, uint32_t index)
{
    struct frame_section *section = &frames->sections[index];

    section->zone = (uint8_t)zone_of_block(frames, section->first_block);
    if (section_is_uniform(frames, section)) {
        struct frame_zone *zone = &frames->zones[section->zone];

        section->next_fresh = zone->any_fresh ? zone->fresh : BLOCK_NONE;
        zone->fresh = index;
        zone->any_fresh = true;
        atomic_store_explicit(&section->state, SECTION_FRESH, memory_order_release);
        return;
    }
    section_prepare(section);
    for (uint32_t b = 0; b < section->block_count; b++)
        section->blocks[b].state = BLOCK_ABSENT;
    for (uint32_t b = 0; b < section->block_count; b++)
        block_bring_in(frames, section->first_block + b);
}

static void
zone_extend(struct frame_zone *zone, size_t from, size_t to)
{
    zone->start_pfn = zone->present == 0 || from < zone->start_pfn ? from : zone->start_pfn;
    zone->end_pfn = to > zone->end_pfn ? to : zone->end_pfn;
    zone->present += to - from;
}

/* Where the kind of zone that @pfn lies in ends, at most @limit. */
static size_t
kind_end(const struct qr_frames *frames, size_t pfn, size_t limit)
{
    uint64_t block_mask = ~(uint64_t)(BLOCK_FRAMES - 1);
    uint64_t dma = DMA_LIMIT >> QR_PAGE_SHIFT & block_mask;
    uint64_t direct = frames->direct_limit >> QR_PAGE_SHIFT & block_mask;

    if (pfn < dma)
        return dma < limit ? (size_t)dma : limit;
    if (pfn < direct)
        return direct < limit ? (size_t)direct : limit;
    return limit;
}

/*
 * Charge @range to its zones.  A block belongs to the node of its first RAM, so a block
 * that the range enters in the middle is charged by itself; the rest by kind.
 */
static void
range_account(struct qr_frames *frames, const struct qr_memory_range *range)
{
    size_t pfn = (size_t)(range->range.start.v >> QR_PAGE_SHIFT);
    size_t end = (size_t)(range->range.end.v >> QR_PAGE_SHIFT);

    while (pfn < end) {
        size_t to = (pfn / BLOCK_FRAMES + 1) * BLOCK_FRAMES;
        unsigned zone = zone_of_block(frames, (uint32_t)(pfn / BLOCK_FRAMES));
        struct frame_section *section = &frames->sections[(pfn >> frames->section_shift)];

        size_t section_end = ((pfn >> frames->section_shift) + 1) << frames->section_shift;

        if (pfn % BLOCK_FRAMES == 0)
            to = kind_end(frames, pfn, section_end);
        to = to < end ? to : end;
        if (section->frames != NULL) {
            zone_extend(&frames->zones[zone], pfn, to);
            if (range->kind == QR_MEMORY_USABLE) {
                frames->zones[zone].managed += to - pfn;
                qr_zone_free_add(&frames->zones[zone], to - pfn);
                frames->total += to - pfn;
            } else {
                frames->reserved += to - pfn;
            }
        }
        pfn = to;
    }
}

enum qr_status
qr_sections_create(struct qr_frames *frames)
{
    bool all_placed = true;

    map_split_at(frames, DMA_LIMIT);
    if (frames->direct_limit != 0)
        map_split_at(frames, frames->direct_limit);
    for (uint32_t i = 0; i < frames->section_count; i++) {
        if (!section_place(frames, i)) {
            all_placed = false;
            frames->map_dropped++;
        }
    }
    for (size_t i = 0; i < frames->map_count; i++) {
        if (qr_map_is_ram(frames->map[i].kind))
            range_account(frames, &frames->map[i]);
    }
    if (frames->total == 0)
        return all_placed ? QR_ERR_INVALID : QR_ERR_NO_MEMORY;
    for (uint32_t i = frames->section_count; i-- > 0;) {
        if (frames->sections[i].frames != NULL)
            section_bring_in(frames, i);
    }
    return QR_OK;
}

/* ---- memory that becomes free after start -------------------------------- */

/* Frames [first, first + count) of one block: the reserved ones become free. */
static size_t
block_release(struct qr_frames *frames, size_t first, size_t count)
{
    struct frame_section *section = &frames->sections[first >> frames->section_shift];
    uint32_t block = (uint32_t)(first / BLOCK_FRAMES);
    size_t gained = 0;

    if (section->frames == NULL || first < section->first_pfn ||
        first + count > section->first_pfn + section->frame_count ||
        atomic_load_explicit(&section->state, memory_order_acquire) != SECTION_READY)
        return 0;
    struct frame_zone *zone = &frames->zones[section->blocks[block - section->first_block].zone];

    qr_spin_lock(&zone->lock);
    qr_section_describe(frames, block);
    for (size_t i = 0; i < count; i++) {
        struct qr_frame *frame = &section->frames[first + i - section->first_pfn];
        unsigned bit = (unsigned)((first + i) % BLOCK_FRAMES);

        if (qr_frame_type(frame) != QR_FRAME_RESERVED)
            continue;
        qr_frame_set_type(frame, QR_FRAME_FREE);
        qr_zone_give_row(frames, zone, block, bit / ROW_FRAMES, (uint64_t)1 << bit % ROW_FRAMES);
        gained++;
    }
    zone->managed += gained;
    frames->total += gained;
    frames->reserved -= gained;
    qr_spin_unlock(&zone->lock);
    return gained;
}

size_t
qr_frames_release(struct qr_frames *frames, struct qr_pa_range range)
{
    size_t gained = 0;

    for (size_t i = 0; i < frames->map_count; i++) {
        struct qr_memory_range boot = frames->map[i];

        if (boot.kind != QR_MEMORY_BOOT)
            continue;
        /* Whole pages of the range only: what shares a page with it stays. */
        uint64_t start = (range.start.v + QR_PAGE_MASK) & ~(uint64_t)QR_PAGE_MASK;
        uint64_t end = range.end.v & ~(uint64_t)QR_PAGE_MASK;

        start = start > boot.range.start.v ? start : boot.range.start.v;
        end = end < boot.range.end.v ? end : boot.range.end.v;
        if (start == boot.range.start.v && end == boot.range.end.v)
            frames->map[i].kind = QR_MEMORY_USABLE;
        for (size_t pfn = (size_t)(start >> QR_PAGE_SHIFT);
             start < end && pfn < end >> QR_PAGE_SHIFT;) {
            size_t next = (pfn / BLOCK_FRAMES + 1) * BLOCK_FRAMES;

            next = next < end >> QR_PAGE_SHIFT ? next : (size_t)(end >> QR_PAGE_SHIFT);
            gained += block_release(frames, pfn, next - pfn);
            pfn = next;
        }
    }
    return gained;
}
