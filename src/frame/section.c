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
 * Start-up takes the same time for any size of memory.  Sections that are all usable memory
 * of one zone lie in banks: a bank is one record and one carved range, and a section of it
 * is opened, its table entry and block records written, when its zone has nothing else to
 * give or somebody asks for a frame of it.  Descriptors are written a block at a time,
 * before the first of the block's frames is given out.  The sections at the ends of ranges,
 * a few for each entry of the memory map, are brought in at once.
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

/* ---- the map ------------------------------------------------------------- */

static void
map_insert(struct qr_frames *frames, size_t at, struct qr_memory_range entry)
{
    qr_assert(frames->map_count < frames->map_capacity);
    for (size_t i = frames->map_count; i > at; i--)
        frames->map[i] = frames->map[i - 1];
    frames->map[at] = entry;
    frames->map_count++;
}

/* The first entry that ends above @pa. */
static size_t
map_find(const struct qr_frames *frames, uint64_t pa)
{
    size_t low = 0;
    size_t high = frames->map_count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (frames->map[middle].range.end.v > pa)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

bool
qr_map_add(struct qr_frames *frames, const struct qr_memory_range *entry)
{
    if (frames->map_count == frames->map_capacity)
        return false;
    map_insert(frames, map_find(frames, entry->range.start.v), *entry);
    return true;
}

void
qr_map_remove(struct qr_frames *frames, struct qr_pa_range range)
{
    size_t kept = 0;

    for (size_t i = 0; i < frames->map_count; i++) {
        const struct qr_memory_range *entry = &frames->map[i];

        if (entry->range.start.v < range.start.v || entry->range.end.v > range.end.v)
            frames->map[kept++] = *entry;
    }
    frames->map_count = kept;
}

/* ---- placement ---------------------------------------------------------- */

size_t
qr_section_metadata_bytes(size_t frame_count)
{
    size_t blocks = (frame_count + BLOCK_FRAMES - 1) / BLOCK_FRAMES;
    size_t bytes = qr_line_up(frame_count * sizeof(struct qr_frame));

    bytes += blocks * (sizeof(struct frame_rows) + sizeof(struct frame_block) + sizeof(uint8_t));
    return qr_line_up(bytes);
}

/* How much of the top of usable @range no bank describes. */
static uint64_t
range_spare(const struct qr_frames *frames, const struct qr_memory_range *range)
{
    uint64_t start = range->range.start.v;

    for (uint32_t i = 0; i < frames->bank_count; i++) {
        const struct frame_bank *bank = &frames->banks[i];
        uint64_t first = (uint64_t)bank->first << (frames->section_shift + QR_PAGE_SHIFT);
        uint64_t end = (uint64_t)bank->end << (frames->section_shift + QR_PAGE_SHIFT);

        if (first >= range->range.start.v && first < range->range.end.v && end > start)
            start = end;
    }
    return range->range.end.v > start ? range->range.end.v - start : 0;
}

/* How good the top of @range is for metadata of a section of @node; 0: unfit. */
static unsigned
range_fitness(const struct qr_frames *frames, const struct qr_memory_range *range, unsigned node,
              size_t bytes)
{
    uint64_t limit = frames->direct_limit == 0 ? UINT64_MAX : frames->direct_limit;

    if (range->kind != QR_MEMORY_USABLE || range->range.end.v > limit ||
        range->range.end.v - range->range.start.v < bytes || range_spare(frames, range) < bytes)
        return 0;
    return 1 + (range->node == node ? 2u : 0) + (range->range.start.v >= DMA_LIMIT ? 1u : 0);
}

static const char descriptors_text[] = "frame descriptors";

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

/* @return the physical address of @bytes for sections of @node, 0 where nothing fits */
static uint64_t
metadata_carve(struct qr_frames *frames, unsigned node, size_t bytes)
{
    size_t best = SIZE_MAX;
    unsigned best_fitness = 0;
    uint64_t best_bytes = 0;

    bytes = (bytes + QR_PAGE_MASK) & ~(size_t)QR_PAGE_MASK;

    for (size_t i = 0; i < frames->map_count; i++) {
        const struct qr_memory_range *range = &frames->map[i];
        unsigned fitness = range_fitness(frames, range, node, bytes);
        uint64_t spare = fitness == 0 ? 0 : range_spare(frames, range);

        if (fitness > best_fitness ||
            (fitness != 0 && fitness == best_fitness && spare > best_bytes)) {
            best = i;
            best_fitness = fitness;
            best_bytes = spare;
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

/*
 * What was added while running is High wherever it lies: nothing that stays put is allocated
 * there, so that it can be taken out again.
 */
unsigned
qr_zone_kind_of_block(const struct qr_frames *frames, uint64_t block)
{
    uint64_t end = (block + 1) * BLOCK_FRAMES << QR_PAGE_SHIFT;

    for (unsigned i = 0; i < QR_ADDITIONS; i++) {
        if (end > frames->additions[i].range.start.v && end <= frames->additions[i].range.end.v)
            return QR_ZONE_HIGH;
    }
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
    size_t first = (size_t)block * BLOCK_FRAMES;
    unsigned node = 0;
    size_t from, to;

    for (size_t i = map_find(frames, (uint64_t)first << QR_PAGE_SHIFT);
         i < frames->map_count && range_meets(&frames->map[i], first, BLOCK_FRAMES, &from, &to);
         i++) {
        if (qr_map_is_ram(frames->map[i].kind)) {
            node = frames->map[i].node;
            break;
        }
    }
    return node * QR_ZONE_COUNT + qr_zone_kind_of_block(frames, block);
}

/* ---- descriptors -------------------------------------------------------- */

static void
frame_describe(struct qr_frame *frame, enum qr_frame_type type, uint8_t zone, uint16_t section)
{
    atomic_store_explicit(&frame->refs, 0, memory_order_relaxed);
    atomic_store_explicit(&frame->flags, (uint32_t)type, memory_order_relaxed);
    atomic_store_explicit(&frame->maps, 0, memory_order_relaxed);
    frame->kept = 0;
    frame->zone = zone;
    frame->section = section;
    atomic_store_explicit(&frame->owner, NULL, memory_order_relaxed);
    atomic_store_explicit(&frame->index, 0, memory_order_relaxed);
}

/*
 * A block that is all usable or all reserved, which an OPEN one without a free frame is while
 * nobody has described it.  Any other was described when it came.
 */
void
qr_section_describe(struct qr_frames *frames, uint32_t block)
{
    struct frame_section *section = qr_section_of_block(frames, block);
    uint32_t index = block - section->first_block;

    if (qr_section_is_described(section, index))
        return;
    struct qr_frame *frame = &section->frames[(size_t)index * BLOCK_FRAMES];
    uint16_t number = (uint16_t)(section - frames->sections);
    const struct frame_block *record = &section->blocks[index];
    enum qr_frame_type type =
        record->state == BLOCK_OPEN && record->free == 0 ? QR_FRAME_RESERVED : QR_FRAME_FREE;

    for (unsigned i = 0; i < BLOCK_FRAMES; i++)
        frame_describe(frame + i, type, record->zone, number);
    atomic_store_explicit(&section->described[index], 1, memory_order_release);
}

/* A block with holes or reserved memory, as the map has it. */
static void
block_describe(struct qr_frames *frames, struct frame_section *section, uint32_t index)
{
    size_t first = section->first_pfn + (size_t)index * BLOCK_FRAMES;
    size_t end = section->first_pfn + section->frame_count;
    size_t count = end - first < BLOCK_FRAMES ? end - first : BLOCK_FRAMES;
    struct qr_frame *frame = &section->frames[(size_t)index * BLOCK_FRAMES];
    uint16_t number = (uint16_t)(section - frames->sections);
    uint8_t zone = section->blocks[index].zone;
    size_t described = 0;
    size_t from, to;

    for (size_t i = map_find(frames, (uint64_t)first << QR_PAGE_SHIFT);
         i < frames->map_count && range_meets(&frames->map[i], first, count, &from, &to); i++) {
        for (; first + described < from; described++)
            frame_describe(frame + described, QR_FRAME_NONE, zone, number);
        for (; first + described < to; described++)
            frame_describe(frame + described,
                           frames->map[i].kind == QR_MEMORY_USABLE ? QR_FRAME_FREE
                                                                   : QR_FRAME_RESERVED,
                           zone, number);
    }
    for (; described < count; described++)
        frame_describe(frame + described, QR_FRAME_NONE, zone, number);
    atomic_store_explicit(&section->described[index], 1, memory_order_release);
}

/* ---- bringing a section in ---------------------------------------------- */

/* Where the parts of its metadata lie. */
static void
section_bind(struct frame_section *section, size_t first_pfn, size_t frame_count, uint64_t metadata)
{
    struct qr_frame *base = qr_port_window_open(qr_pa_of(metadata));

    section->first_pfn = first_pfn;
    section->frame_count = frame_count;
    section->first_block = (uint32_t)(first_pfn / BLOCK_FRAMES);
    section->block_count = (uint32_t)((frame_count + BLOCK_FRAMES - 1) / BLOCK_FRAMES);
    section->rows =
        (struct frame_rows *)((uintptr_t)base + qr_line_up(frame_count * sizeof(struct qr_frame)));
    section->blocks = (struct frame_block *)(section->rows + section->block_count);
    section->described = (_Atomic uint8_t *)(section->blocks + section->block_count);
    section->frames = base;
}

static void
section_prepare(struct frame_section *section, enum block_state state, unsigned zone)
{
    for (uint32_t b = 0; b < section->block_count; b++) {
        section->blocks[b] = (struct frame_block){
            .next = BLOCK_NONE,
            .prev = BLOCK_NONE,
            .state = (uint16_t)state & 7u,
            .zone = (uint8_t)zone,
        };
        atomic_store_explicit(&section->described[b], 0, memory_order_relaxed);
    }
    atomic_store_explicit(&section->state, SECTION_READY, memory_order_release);
}

/* The free frames of a block as the map has them.  @return how many */
static unsigned
rows_from_map(const struct qr_frames *frames, uint32_t block, struct frame_rows *rows)
{
    size_t first = (size_t)block * BLOCK_FRAMES;
    size_t from, to;

    for (unsigned r = 0; r < BLOCK_ROWS; r++)
        rows->row[r] = 0;
    for (size_t i = map_find(frames, (uint64_t)first << QR_PAGE_SHIFT);
         i < frames->map_count && range_meets(&frames->map[i], first, BLOCK_FRAMES, &from, &to);
         i++) {
        if (frames->map[i].kind != QR_MEMORY_USABLE)
            continue;
        for (unsigned r = 0; r < BLOCK_ROWS; r++)
            rows->row[r] |= qr_row_mask(r, (unsigned)(from - first), (unsigned)(to - from));
    }
    return qr_rows_count(rows);
}

/* Whether one entry of the map reserves all of a block, as those of metadata do. */
static bool
block_is_reserved(const struct qr_frames *frames, uint32_t block)
{
    size_t first = (size_t)block * BLOCK_FRAMES;
    size_t i = map_find(frames, (uint64_t)first << QR_PAGE_SHIFT);
    size_t from, to;

    return i < frames->map_count && frames->map[i].kind != QR_MEMORY_USABLE &&
           qr_map_is_ram(frames->map[i].kind) &&
           range_meets(&frames->map[i], first, BLOCK_FRAMES, &from, &to) &&
           to - from == BLOCK_FRAMES;
}

/* One block of a section with holes: OPEN with what is usable, or whole into the buddy. */
static void
block_bring_in(struct qr_frames *frames, struct frame_section *section, uint32_t index)
{
    struct frame_block *record = &section->blocks[index];
    uint32_t block = section->first_block + index;

    record->zone = (uint8_t)zone_of_block(frames, block);
    record->free = rows_from_map(frames, block, &section->rows[index]) & 0x3ffu;
    record->state = BLOCK_OPEN;
    if (record->free != BLOCK_FRAMES && !block_is_reserved(frames, block))
        block_describe(frames, section, index);

    struct frame_zone *zone = &frames->zones[record->zone];

    qr_spin_lock(&zone->lock);
    qr_zone_list_open(frames, zone, block);
    qr_spin_unlock(&zone->lock);
}

static void
section_fill(struct qr_frames *frames, struct frame_section *section)
{
    section_prepare(section, BLOCK_ABSENT, 0);
    for (uint32_t b = 0; b < section->block_count; b++)
        block_bring_in(frames, section, b);
}

void
qr_section_bring_in(struct qr_frames *frames, uint32_t index, size_t first_pfn, size_t frame_count,
                    uint64_t metadata)
{
    section_bind(&frames->sections[index], first_pfn, frame_count, metadata);
    section_fill(frames, &frames->sections[index]);
}

/* ---- banks --------------------------------------------------------------- */

struct frame_bank *
qr_bank_find(struct qr_frames *frames, size_t index)
{
    uint32_t count = atomic_load_explicit(&frames->bank_count, memory_order_acquire);

    for (uint32_t i = 0; i < count; i++) {
        if (index >= frames->banks[i].first && index < frames->banks[i].end)
            return &frames->banks[i];
    }
    return NULL;
}

/* All of the section is free: list it as the largest aligned runs.  Locks: zone->lock. */
static void
bank_open(struct qr_frames *frames, struct frame_bank *bank, uint32_t index)
{
    struct frame_section *section = &frames->sections[index];
    struct frame_zone *zone = &frames->zones[bank->zone];
    size_t frame_count = (size_t)1 << frames->section_shift;

    section_bind(section, (size_t)index << frames->section_shift, frame_count,
                 bank->metadata + (uint64_t)(index - bank->first) * bank->section_size);
    section_prepare(section, BLOCK_TAIL, bank->zone);
    bank->waiting--;
    zone->waiting--;

    unsigned order = frames->section_shift < QR_ORDER_MAX ? frames->section_shift : QR_ORDER_MAX;

    for (uint32_t b = 0; b < section->block_count; b += (uint32_t)1 << (order - BLOCK_ORDER))
        qr_zone_insert(frames, zone, section->first_block + b, order);
}

bool
qr_section_open_next(struct qr_frames *frames, struct frame_zone *zone)
{
    if (zone->waiting == 0)
        return false;
    uint32_t count = atomic_load_explicit(&frames->bank_count, memory_order_acquire);
    struct frame_bank *bank = frames->banks;

    while (bank < frames->banks + count && (bank->zone != zone->index || bank->waiting == 0))
        bank++;
    qr_assert(bank < frames->banks + count);
    while (atomic_load_explicit(&frames->sections[bank->next].state, memory_order_relaxed) !=
           SECTION_ABSENT)
        bank->next++;
    qr_assert(bank->next < bank->end);
    bank_open(frames, bank, bank->next++);
    return true;
}

struct frame_section *
qr_section_ready(struct qr_frames *frames, size_t index)
{
    if (index >= frames->section_count)
        return NULL;
    struct frame_section *section = &frames->sections[index];

    if (atomic_load_explicit(&section->state, memory_order_acquire) == SECTION_READY)
        return section;
    struct frame_bank *bank = qr_bank_find(frames, index);

    if (bank == NULL)
        return NULL;
    struct frame_zone *zone = &frames->zones[bank->zone];

    qr_spin_lock(&zone->lock);
    if (bank->waiting != 0 &&
        atomic_load_explicit(&section->state, memory_order_relaxed) == SECTION_ABSENT)
        bank_open(frames, bank, (uint32_t)index);
    qr_spin_unlock(&zone->lock);
    return atomic_load_explicit(&section->state, memory_order_acquire) == SECTION_READY ? section
                                                                                        : NULL;
}

/* Charging the frames to the zone is the caller's. */
uint32_t
qr_bank_add(struct qr_frames *frames, uint32_t first, uint32_t end, unsigned zone,
            uint64_t metadata)
{
    uint32_t count = frames->bank_count;
    uint32_t number = 0;

    while (number < count && frames->banks[number].first != frames->banks[number].end)
        number++;
    if (number == frames->bank_capacity)
        return BANK_NONE;
    struct frame_bank *bank = &frames->banks[number];

    qr_spin_lock(&frames->zones[zone].lock);
    bank->zone = (uint8_t)zone;
    bank->metadata = metadata;
    bank->section_size = (uint32_t)qr_section_metadata_bytes((size_t)1 << frames->section_shift);
    bank->next = first;
    bank->waiting = end - first;
    bank->first = first;
    bank->end = end;
    frames->zones[zone].waiting += end - first;
    if (number == count)
        atomic_store_explicit(&frames->bank_count, count + 1, memory_order_release);
    qr_spin_unlock(&frames->zones[zone].lock);
    return number;
}

/* ---- start -------------------------------------------------------------- */

/* Make the whole sections of usable @entry a bank, as many as leave room for metadata. */
static void
bank_place(struct qr_frames *frames, const struct qr_memory_range *entry)
{
    unsigned shift = frames->section_shift + QR_PAGE_SHIFT;
    uint64_t size = (uint64_t)1 << shift;
    uint64_t each = qr_section_metadata_bytes((size_t)1 << frames->section_shift);
    size_t first = (size_t)((entry->range.start.v + size - 1) >> shift);
    size_t end = (size_t)(entry->range.end.v >> shift);

    if (end <= first || qr_bank_find(frames, first) != NULL)
        return;
    /* Metadata for them, and for some sections beside them that are not whole. */
    uint64_t bytes = entry->range.end.v - ((uint64_t)first << shift);
    uint64_t count = bytes > 3 * each ? (bytes - 3 * each) / (size + each) : 0;

    if (count > end - first)
        count = end - first;
    uint64_t metadata =
        count == 0 ? 0 : metadata_carve(frames, entry->node, (size_t)(count * each));

    if (metadata == 0)
        return;
    unsigned zone = entry->node * QR_ZONE_COUNT +
                    qr_zone_kind_of_block(frames, first << (frames->section_shift - BLOCK_ORDER));

    if (qr_bank_add(frames, (uint32_t)first, (uint32_t)(first + count), zone, metadata) !=
        BANK_NONE)
        frames->metadata_bytes += (size_t)(count * each);
}

static void
banks_place(struct qr_frames *frames)
{
    for (size_t i = 0; i < frames->map_count; i++) {
        struct qr_memory_range entry = frames->map[i];

        if (entry.kind == QR_MEMORY_USABLE && frames->bank_count < frames->bank_capacity)
            bank_place(frames, &entry);
    }
}

/* The next section from *@at on that has usable memory and lies in no bank. */
static bool
next_odd_section(struct qr_frames *frames, uint32_t *at)
{
    unsigned shift = frames->section_shift + QR_PAGE_SHIFT;

    while (*at < frames->section_count) {
        size_t i = map_find(frames, (uint64_t)*at << shift);
        const struct frame_bank *bank = qr_bank_find(frames, *at);

        if (bank != NULL) {
            *at = bank->end;
            continue;
        }
        while (i < frames->map_count && frames->map[i].kind != QR_MEMORY_USABLE)
            i++;
        if (i == frames->map_count)
            return false;
        uint64_t first = frames->map[i].range.start.v >> shift;

        if (first <= *at)
            return true;
        *at = (uint32_t)first;
    }
    return false;
}

/* Span of RAM in section @index; its node is that of the first RAM. */
static void
section_span(const struct qr_frames *frames, uint32_t index, size_t *out_first, size_t *out_end,
             unsigned *out_node, size_t *out_usable)
{
    size_t count = (size_t)1 << frames->section_shift;
    size_t base = (size_t)index << frames->section_shift;
    size_t first = SIZE_MAX;
    size_t from, to;

    *out_usable = 0;
    *out_end = 0;
    for (size_t i = map_find(frames, (uint64_t)base << QR_PAGE_SHIFT);
         i < frames->map_count && range_meets(&frames->map[i], base, count, &from, &to); i++) {
        if (!qr_map_is_ram(frames->map[i].kind))
            continue;
        if (first == SIZE_MAX) {
            first = from;
            *out_node = frames->map[i].node;
        }
        *out_end = to;
        if (frames->map[i].kind == QR_MEMORY_USABLE)
            *out_usable += to - from;
    }
    *out_first = first & ~(size_t)(BLOCK_FRAMES - 1);
}

/* Size a section and place its metadata; false where it is not worth having. */
static bool
section_place(struct qr_frames *frames, uint32_t index)
{
    size_t first, end, usable;
    unsigned node = 0;

    section_span(frames, index, &first, &end, &node, &usable);
    size_t bytes = qr_section_metadata_bytes(end - first);
    uint64_t at = bytes / QR_PAGE_SIZE < usable ? metadata_carve(frames, node, bytes) : 0;

    if (at == 0)
        return false;
    section_bind(&frames->sections[index], first, end - first, at);
    frames->metadata_bytes += bytes;
    return true;
}

void
qr_zone_grow(struct qr_frames *frames, struct frame_zone *zone, size_t from, size_t to, bool usable)
{
    zone->start_pfn = zone->present == 0 || from < zone->start_pfn ? from : zone->start_pfn;
    zone->end_pfn = to > zone->end_pfn ? to : zone->end_pfn;
    zone->present += to - from;
    if (usable) {
        zone->managed += to - from;
        qr_zone_free_add(zone, to - from);
        frames->total += to - from;
    } else {
        frames->reserved += to - from;
    }
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
        size_t index = pfn >> frames->section_shift;
        const struct frame_bank *bank = qr_bank_find(frames, index);
        size_t to = (pfn / BLOCK_FRAMES + 1) * BLOCK_FRAMES;
        unsigned zone;

        if (bank != NULL) {
            to = (size_t)bank->end << frames->section_shift;
            zone = bank->zone;
        } else {
            zone = zone_of_block(frames, (uint32_t)(pfn / BLOCK_FRAMES));
            if (pfn % BLOCK_FRAMES == 0)
                to = kind_end(frames, pfn, (index + 1) << frames->section_shift);
        }
        to = to < end ? to : end;
        if (bank != NULL || frames->sections[index].frames != NULL)
            qr_zone_grow(frames, &frames->zones[zone], pfn, to, range->kind == QR_MEMORY_USABLE);
        pfn = to;
    }
}

/* The sections of @range that have metadata of their own, unless they are there already. */
static void
range_bring_in(struct qr_frames *frames, const struct qr_memory_range *range)
{
    unsigned shift = frames->section_shift + QR_PAGE_SHIFT;
    size_t end = (size_t)((range->range.end.v - 1) >> shift) + 1;

    for (size_t i = (size_t)(range->range.start.v >> shift); i < end; i++) {
        const struct frame_bank *bank = qr_bank_find(frames, i);
        struct frame_section *section = &frames->sections[i];

        if (bank != NULL) {
            i = bank->end - 1;
            continue;
        }
        if (section->frames == NULL || section->state == SECTION_READY)
            continue;
        section_fill(frames, section);
    }
}

enum qr_status
qr_sections_create(struct qr_frames *frames)
{
    bool all_placed = true;
    uint32_t i;

    map_split_at(frames, DMA_LIMIT);
    if (frames->direct_limit != 0)
        map_split_at(frames, frames->direct_limit);
    banks_place(frames);
    for (i = 0; next_odd_section(frames, &i); i++) {
        if (!section_place(frames, i)) {
            all_placed = false;
            frames->map_dropped++;
        }
    }
    for (size_t m = 0; m < frames->map_count; m++) {
        if (qr_map_is_ram(frames->map[m].kind))
            range_account(frames, &frames->map[m]);
    }
    if (frames->total == 0)
        return all_placed ? QR_ERR_INVALID : QR_ERR_NO_MEMORY;
    for (size_t m = 0; m < frames->map_count; m++) {
        if (qr_map_is_ram(frames->map[m].kind))
            range_bring_in(frames, &frames->map[m]);
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
