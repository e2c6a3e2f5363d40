/* SPDX-License-Identifier: MIT */
/*
 * Figures and the report.  Free frames per order are counted when asked for: the buddy's
 * lists are walked, and the rows of open blocks are split into the largest aligned
 * runs they hold, a section at a time so that no lock is held for long.
 */
#include "frames.h"

#include <quire/writer.h>

unsigned
qr_frames_zone_count(const struct qr_frames *frames)
{
    return frames->zone_count;
}

unsigned
qr_frames_zone_node(const struct qr_frames *frames, unsigned index)
{
    return frames->zones[index].node;
}

size_t
qr_frames_zone_managed(const struct qr_frames *frames, unsigned index)
{
    return frames->zones[index].managed;
}

/* Free runs of an open block, by order: largest first, each frame counted once. */
static void
rows_split(const struct frame_rows *from, size_t *blocks)
{
    struct frame_rows rows = *from;

    for (unsigned order = BLOCK_ORDER; order-- > 0;) {
        unsigned bit;

        while ((bit = qr_rows_find(&rows, order)) != BLOCK_FRAMES) {
            for (unsigned r = bit / ROW_FRAMES; r < BLOCK_ROWS; r++)
                rows.row[r] &= ~qr_row_mask(r, bit, 1u << order);
            blocks[order]++;
        }
    }
}

static void
section_count(struct qr_frames *frames, struct frame_zone *zone, struct frame_section *section,
              struct qr_zone_stats *stats)
{
    for (uint32_t b = 0; b < section->block_count; b++) {
        const struct frame_block *record = &section->blocks[b];
        size_t blocks[ORDER_COUNT] = {0};

        if (record->zone != zone->index)
            continue;
        if (record->state == BLOCK_FREE)
            stats->free_blocks[record->order]++;
        if (record->state == BLOCK_TAKEN)
            *(record->movable ? &stats->blocks_movable : &stats->blocks_fixed) +=
                (size_t)1 << (record->order - BLOCK_ORDER);
        if (record->state != BLOCK_OPEN)
            continue;
        *(record->movable ? &stats->blocks_movable : &stats->blocks_fixed) += 1;
        if (record->free == 0 || record->isolated)
            continue;
        rows_split(qr_rows_of(frames, section->first_block + b), blocks);
        for (unsigned order = 0; order < BLOCK_ORDER; order++) {
            stats->free_blocks[order] += blocks[order];
            stats->free_movable[order] += record->movable ? blocks[order] : 0;
        }
    }
}

/* The runs that opening the waiting sections of @bank would make. */
static void
waiting_count(const struct qr_frames *frames, const struct frame_bank *bank, size_t *blocks)
{
    unsigned order = frames->section_shift < QR_ORDER_MAX ? frames->section_shift : QR_ORDER_MAX;

    blocks[order] += (size_t)bank->waiting << (frames->section_shift - order);
}

void
qr_frames_zone_stats(struct qr_frames *frames, unsigned index, struct qr_zone_stats *out_stats)
{
    struct frame_zone *zone = &frames->zones[index];
    struct qr_zone_stats stats = {
        .kind = (enum qr_zone_kind)zone->kind,
        .node = zone->node,
        .start_pfn = zone->start_pfn,
        .spanned = zone->end_pfn - zone->start_pfn,
        .watermark_min = zone->watermark_min,
        .watermark_low = zone->watermark_low,
        .watermark_high = zone->watermark_high,
    };

    for (unsigned kind = 0; kind < QR_ZONE_COUNT; kind++)
        stats.protection[kind] = zone->reserve[kind];
    stats.cached = qr_lanes_cached(frames, index);
    for (size_t pfn = zone->start_pfn; pfn < stats.start_pfn + stats.spanned;
         pfn = ((pfn >> frames->section_shift) + 1) << frames->section_shift) {
        struct frame_section *section = &frames->sections[pfn >> frames->section_shift];

        if (atomic_load_explicit(&section->state, memory_order_acquire) != SECTION_READY)
            continue;
        qr_spin_lock(&zone->lock);
        section_count(frames, zone, section, &stats);
        qr_spin_unlock(&zone->lock);
    }
    qr_spin_lock(&zone->lock);
    for (uint32_t i = 0; i < frames->bank_count; i++) {
        if (frames->banks[i].zone == index)
            waiting_count(frames, &frames->banks[i], stats.free_blocks);
    }
    qr_spin_unlock(&zone->lock);
    qr_spin_lock(&zone->lock);
    stats.present = zone->present;
    stats.managed = zone->managed;
    stats.free = qr_zone_free(zone) + stats.cached;
    stats.peak_used = zone->peak_used;
    qr_spin_unlock(&zone->lock);
    *out_stats = stats;
}

static size_t
zone_free_exact(struct qr_frames *frames, unsigned index)
{
    struct frame_zone *zone = &frames->zones[index];
    size_t cached = qr_lanes_cached(frames, index);

    qr_spin_lock(&zone->lock);
    size_t free = qr_zone_free(zone) + cached;
    qr_spin_unlock(&zone->lock);
    return free;
}

void
qr_frames_stats(struct qr_frames *frames, struct qr_frames_stats *out_stats)
{
    struct qr_frames_stats stats = {
        .total = frames->total,
        .reserved = frames->reserved,
        .metadata_bytes = frames->metadata_bytes,
        .map_dropped = frames->map_dropped,
        .peak_used = atomic_load_explicit(&frames->peak_used, memory_order_relaxed),
    };

    for (unsigned i = 0; i < frames->zone_count; i++) {
        if (frames->zones[i].managed > 0)
            stats.free += zone_free_exact(frames, i);
    }
    *out_stats = stats;
}

bool
qr_frames_high_stats(struct qr_frames *frames, size_t *out_total, size_t *out_free)
{
    size_t total = 0, free = 0;

    for (unsigned i = 0; i < frames->zone_count && frames->direct_limit != 0; i++) {
        const struct frame_zone *zone = &frames->zones[i];

        if (zone->kind != QR_ZONE_HIGH || zone->managed == 0)
            continue;
        total += zone->managed;
        free += zone_free_exact(frames, i);
    }
    *out_total = total;
    *out_free = free;
    return frames->direct_limit != 0;
}

bool
qr_frames_map_entry(struct qr_frames *frames, size_t index, struct qr_memory_range *out_entry)
{
    qr_spin_lock(&frames->map_lock);
    bool found = index < frames->map_count;

    if (found)
        *out_entry = frames->map[index];
    qr_spin_unlock(&frames->map_lock);
    return found;
}

/* ---- fragmentation -------------------------------------------------------- */

unsigned
qr_zone_unusable(const struct qr_zone_stats *stats, unsigned order)
{
    size_t free = 0;
    size_t usable = 0;

    for (unsigned o = 0; o < ORDER_COUNT; o++) {
        free += stats->free_blocks[o] << o;
        usable += o >= order ? stats->free_blocks[o] << o : 0;
    }
    return free == 0 ? 0 : (unsigned)((free - usable) * 1000 / free);
}

int
qr_zone_fragmentation(const struct qr_zone_stats *stats, unsigned order)
{
    size_t free = 0;
    size_t blocks = 0;
    size_t suitable = 0;

    for (unsigned o = 0; o < ORDER_COUNT; o++) {
        free += stats->free_blocks[o] << o;
        blocks += stats->free_blocks[o];
        suitable += o >= order ? stats->free_blocks[o] : 0;
    }
    if (blocks == 0)
        return 0;
    if (suitable != 0)
        return -1000;
    return 1000 - (int)((1000 + (free * 1000 >> order)) / blocks);
}

void
qr_frames_drain(struct qr_frames *frames)
{
    (void)qr_lanes_drain(frames);
    for (unsigned i = 0; i < frames->zone_count; i++) {
        struct frame_zone *zone = &frames->zones[i];

        if (zone->managed == 0)
            continue;
        qr_spin_lock(&zone->lock);
        qr_zone_merge_spare(frames, zone);
        qr_spin_unlock(&zone->lock);
    }
}

static const char *const zone_names[QR_ZONE_COUNT] = {"DMA", "Normal", "High"};

static void
zone_report(struct qr_frames *frames, unsigned index, struct qr_writer *writer)
{
    struct qr_zone_stats stats;

    qr_frames_zone_stats(frames, index, &stats);
    qr_writer_printf(
        writer, "node %u %s: %zu KiB free (%zu cached) of %zu, min %zu low %zu high %zu\n",
        stats.node, zone_names[stats.kind], stats.free * (QR_PAGE_SIZE / 1024),
        stats.cached * (QR_PAGE_SIZE / 1024), stats.managed * (QR_PAGE_SIZE / 1024),
        stats.watermark_min * (QR_PAGE_SIZE / 1024), stats.watermark_low * (QR_PAGE_SIZE / 1024),
        stats.watermark_high * (QR_PAGE_SIZE / 1024));
    qr_writer_printf(writer, "  blocks:");
    for (unsigned order = 0; order < ORDER_COUNT; order++) {
        if (stats.free_blocks[order] != 0)
            qr_writer_printf(writer, " %zux%zuK", stats.free_blocks[order],
                             (QR_PAGE_SIZE / 1024) << order);
    }
    qr_writer_printf(writer, "\n");
}

/* What the frames are used for, as far as the counters know. */
static void
use_report(struct qr_frames *frames, struct qr_writer *writer)
{
    static const struct {
        enum qr_counter counter;
        const char *name;
    } uses[] = {
        {QR_PAGES_ANON, "anon"},    {QR_PAGES_FILE, "file"},     {QR_PAGES_SHMEM, "shmem"},
        {QR_PAGES_TABLE, "tables"}, {QR_PAGES_SLAB, "slab"},     {QR_PAGES_STACK, "stacks"},
        {QR_PAGES_DIRTY, "dirty"},  {QR_PAGES_LOCKED, "locked"},
    };

    qr_writer_printf(writer, "used for (pages):");
    for (size_t i = 0; i < QR_ARRAY_COUNT(uses); i++)
        qr_writer_printf(writer, " %s %ld", uses[i].name,
                         qr_counter_read(frames->counters, uses[i].counter));
    qr_writer_printf(writer, "\n");
}

void
qr_frames_report(struct qr_frames *frames, struct qr_writer *writer)
{
    struct qr_frames_stats stats;

    qr_frames_stats(frames, &stats);
    qr_writer_printf(writer,
                     "memory: %zu KiB free of %zu, peak used %zu, reserved %zu, metadata %zu; "
                     "%zu map entries dropped\n",
                     stats.free * (QR_PAGE_SIZE / 1024), stats.total * (QR_PAGE_SIZE / 1024),
                     stats.peak_used * (QR_PAGE_SIZE / 1024),
                     stats.reserved * (QR_PAGE_SIZE / 1024), stats.metadata_bytes / 1024,
                     stats.map_dropped);
    for (unsigned i = 0; i < frames->zone_count; i++) {
        if (frames->zones[i].managed != 0)
            zone_report(frames, i, writer);
    }
    use_report(frames, writer);
}
