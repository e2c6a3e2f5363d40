/* SPDX-License-Identifier: MIT */
/*
 * The instance: its size, its start, and the way from frame numbers to descriptors.
 *
 * The host's memory holds, in this order and each cache-line aligned:
 *   struct qr_frames | lanes, two or three a CPU | zones | counters | section table | banks |
 *   the sanitised map
 * All else (descriptors, rows, block records) comes out of the described memory.
 */
#include "frames.h"

struct layout {
    unsigned section_shift;
    uint32_t section_count;
    unsigned zone_count, lane_classes;
    size_t map_capacity, bank_capacity;
    size_t lanes, zones, counters, sections, banks, map; /* offsets */
    size_t bytes;
};

/* One past the highest frame that entries of RAM reach. */
static uint64_t
ram_end(const struct qr_frames_config *config)
{
    uint64_t limit = config->physical_limit == 0 ? UINT64_MAX : config->physical_limit;
    uint64_t end = 0;

    for (size_t i = 0; i < config->map_count; i++) {
        const struct qr_memory_range *entry = &config->map[i];

        if (!qr_map_is_ram(entry->kind) || entry->range.start.v >= entry->range.end.v ||
            entry->range.start.v >= limit)
            continue;
        if (entry->range.end.v > end)
            end = entry->range.end.v;
    }
    end = end > config->hotplug_end ? end : config->hotplug_end;
    end = end > limit ? limit : end;
    return (end >> QR_PAGE_SHIFT) + 1;
}

/* Nodes that may have memory: those of the map, or any where memory may be added. */
static unsigned
node_capacity(const struct qr_frames_config *config)
{
    unsigned capacity = config->hotplug_end == 0 ? 1 : CONFIG_MAX_NODES;

    for (size_t i = 0; i < config->map_count; i++) {
        if (config->map[i].node < CONFIG_MAX_NODES && config->map[i].node >= capacity)
            capacity = config->map[i].node + 1;
    }
    return capacity;
}

static struct layout
layout_of(const struct qr_frames_config *config)
{
    bool high = config->direct_limit != 0 || config->hotplug_end != 0;
    struct layout layout = {
        .section_shift = 27u - QR_PAGE_SHIFT,
        .zone_count = node_capacity(config) * QR_ZONE_COUNT,
        .lane_classes = high ? LANE_CLASSES : LANE_HIGH,
    };
    uint64_t end = ram_end(config);

    while ((end >> layout.section_shift) >= SECTION_LIMIT)
        layout.section_shift++;
    layout.section_count = (uint32_t)(end >> layout.section_shift) + 1;
    /* Pieces, splits at the two zone limits, and one range of descriptors for each piece. */
    layout.map_capacity = 2 * (2 * config->map_count + 3);
    layout.bank_capacity = 2 * config->map_count + 3;
    if (config->hotplug_end != 0) {
        layout.map_capacity += 2 * QR_ADDITIONS;
        layout.bank_capacity += QR_ADDITIONS;
    }
    layout.lanes = LANES_OFFSET;
    layout.zones =
        layout.lanes + (size_t)config->cpu_count * layout.lane_classes * sizeof(struct frame_lane);
    layout.counters = layout.zones + layout.zone_count * sizeof(struct frame_zone);
    layout.sections = qr_line_up(layout.counters + qr_counters_size(config->cpu_count));
    layout.banks =
        qr_line_up(layout.sections + layout.section_count * sizeof(struct frame_section));
    layout.map = qr_line_up(layout.banks + layout.bank_capacity * sizeof(struct frame_bank));
    layout.bytes = qr_line_up(layout.map + layout.map_capacity * sizeof(struct qr_memory_range));
    return layout;
}

size_t
qr_frames_size(const struct qr_frames_config *config)
{
    return layout_of(config).bytes;
}

/* ---- zones -------------------------------------------------------------- */

static unsigned
node_distance(const struct qr_frames_config *config, unsigned from, unsigned to)
{
    if (config->distance != NULL && from < config->node_count && to < config->node_count)
        return config->distance[from * config->node_count + to];
    return from == to ? 10 : 20;
}

/*
 * Nodes by distance from @node, itself first; ties by number.  Insertion keeps those
 * without a place behind: a machine of 64 nodes does this once.
 */
static void
nodes_by_distance(const struct qr_frames_config *config, unsigned node,
                  uint8_t order[CONFIG_MAX_NODES])
{
    for (unsigned n = 0; n < CONFIG_MAX_NODES; n++) {
        unsigned at = n;

        for (; at > 0; at--) {
            unsigned before = order[at - 1];

            if (before == node || (n != node && node_distance(config, node, before) <=
                                                    node_distance(config, node, n)))
                break;
            order[at] = order[at - 1];
        }
        order[at] = (uint8_t)n;
    }
}

/*
 * The zones for requests of @kind from @node.  NORMAL before DMA, however far: a far NORMAL
 * frame is better than the last near DMA frame, which nobody can replace.  HIGH and NORMAL
 * by distance: HIGH is what was added later, or what a 32-bit kernel cannot reach directly.
 * @return how many
 */
static unsigned
fallback_list(const struct qr_frames *frames, unsigned node, unsigned kind, uint8_t *list)
{
    unsigned used = 0;

    for (unsigned n = 0; n < CONFIG_MAX_NODES && kind != QR_ZONE_DMA; n++) {
        for (unsigned k = kind; k != QR_ZONE_DMA; k--) {
            unsigned zone = frames->near[node][n] * QR_ZONE_COUNT + k;

            if (zone < frames->zone_count && frames->zones[zone].managed != 0)
                list[used++] = (uint8_t)zone;
        }
    }
    for (unsigned n = 0; n < CONFIG_MAX_NODES; n++) {
        unsigned zone = frames->near[node][n] * QR_ZONE_COUNT + QR_ZONE_DMA;

        if (zone < frames->zone_count && frames->zones[zone].managed != 0)
            list[used++] = (uint8_t)zone;
    }
    list[used] = 0xff;
    return used;
}

/*
 * Written from the end, so that a reader meets a zone
 * twice perhaps, but always an end.
 */
void
qr_fallback_fill(struct qr_frames *frames)
{
    for (unsigned node = 0; node < CONFIG_MAX_NODES; node++) {
        for (unsigned kind = 0; kind < QR_ZONE_COUNT; kind++) {
            uint8_t list[ZONE_MAX + 1];
            unsigned used = fallback_list(frames, node, kind, list);

            for (unsigned i = used + 1; i-- > 0;)
                atomic_store_explicit(&frames->fallback[node][kind][i], list[i],
                                      memory_order_relaxed);
        }
    }
    for (unsigned node = 0; node < frames->zone_count / QR_ZONE_COUNT; node++) {
        frames->any_high |= frames->zones[node * QR_ZONE_COUNT + QR_ZONE_HIGH].managed != 0;
        if (node >= frames->node_count && qr_frames_node_exists(frames, node))
            frames->node_count = node + 1;
    }
}

static void
zones_init(struct qr_frames *frames)
{
    for (unsigned i = 0; i < frames->zone_count; i++) {
        struct frame_zone *zone = &frames->zones[i];

        qr_spin_init(&zone->lock, QR_RANK_ZONE);
        zone->index = (uint8_t)i;
        zone->node = (uint8_t)(i / QR_ZONE_COUNT);
        zone->kind = (uint8_t)(i % QR_ZONE_COUNT);
        zone->spare = BLOCK_NONE;
        for (unsigned list = 0; list < LIST_COUNT; list++)
            zone->head[list] = BLOCK_NONE;
    }
}

/* The largest runs that lanes may keep: two lanes a CPU with those shall hold a 16th of memory. */
static unsigned
run_order_for(const struct qr_frames *frames)
{
    size_t share = frames->total / ((size_t)frames->cpu_count * 16 * 4);
    unsigned order = 0;

    while (order < BLOCK_ORDER && (size_t)2 << order <= share)
        order++;
    return order;
}

enum qr_status
qr_frames_init(struct qr_frames *frames, const struct qr_frames_config *config)
{
    struct layout layout = layout_of(config);
    char *base = (char *)frames;

    qr_assert(config->cpu_count > 0 && config->cpu_count <= CONFIG_MAX_CPUS);
    qr_assert(((uintptr_t)frames & (QR_CACHE_LINE - 1)) == 0);
    frames->section_shift = layout.section_shift;
    frames->section_count = layout.section_count;
    frames->cpu_count = config->cpu_count;
    frames->zone_count = layout.zone_count;
    frames->lane_classes = layout.lane_classes;
    /* Down to a page; a limit within the first page leaves nothing direct. */
    frames->direct_limit = config->direct_limit & ~(uint64_t)QR_PAGE_MASK;
    if (config->direct_limit != 0 && frames->direct_limit == 0)
        return QR_ERR_INVALID;
    frames->lanes = (struct frame_lane *)(base + layout.lanes);
    frames->zones = (struct frame_zone *)(base + layout.zones);
    frames->counters = (struct qr_counters *)(base + layout.counters);
    qr_counters_init(frames->counters, config->cpu_count);
    frames->sections = (struct frame_section *)(base + layout.sections);
    frames->banks = (struct frame_bank *)(base + layout.banks);
    frames->bank_capacity = (uint32_t)layout.bank_capacity;
    frames->map = (struct qr_memory_range *)(base + layout.map);
    frames->map_capacity = layout.map_capacity;
    qr_spin_init(&frames->map_lock, QR_RANK_NONE);
    frames->nowhere.head.key = UINTPTR_MAX;
    frames->metadata_bytes = layout.bytes;
    zones_init(frames);
    frames->map_count = qr_map_sanitise(config->map, config->map_count, config->physical_limit,
                                        frames->map, frames->map_capacity, &frames->map_dropped);
    for (size_t i = 0; i < frames->map_count; i++) {
        if (frames->map[i].node >= CONFIG_MAX_NODES)
            frames->map[i].node = 0;
    }

    enum qr_status status = qr_sections_create(frames);

    if (status != QR_OK)
        return status;
    frames->min_free = MIN_FREE_RULE;
    qr_zone_watermarks(frames);
    for (unsigned node = 0; node < CONFIG_MAX_NODES; node++)
        nodes_by_distance(config, node, frames->near[node]);
    qr_fallback_fill(frames);
    frames->lane_run_order = run_order_for(frames);
    qr_lanes_init(frames);
    return QR_OK;
}

void
qr_frames_fini(struct qr_frames *frames)
{
    (void)qr_lanes_drain(frames);
    frames->lanes_off = true;
}

/* ---- frame numbers ------------------------------------------------------ */

/* Make sure that the descriptor of a frame that nobody has yet is readable. */
static void
block_ready(struct qr_frames *frames, struct frame_section *section, uint32_t block)
{
    if (qr_section_is_described(section, block - section->first_block))
        return;
    struct frame_zone *zone = &frames->zones[qr_block_of(frames, block)->zone];

    qr_spin_lock(&zone->lock);
    qr_section_describe(frames, block);
    qr_spin_unlock(&zone->lock);
}

struct qr_frame *
qr_frame_find(struct qr_frames *frames, qr_pfn pfn)
{
    struct frame_section *section = qr_section_ready(frames, pfn.v >> frames->section_shift);

    if (section == NULL || pfn.v < section->first_pfn ||
        pfn.v - section->first_pfn >= section->frame_count)
        return NULL;
    block_ready(frames, section, (uint32_t)(pfn.v / BLOCK_FRAMES));

    struct qr_frame *frame = &section->frames[pfn.v - section->first_pfn];

    return qr_frame_type(frame) == QR_FRAME_NONE ? NULL : frame;
}

struct qr_frame *
qr_frame_of(struct qr_frames *frames, qr_pfn pfn)
{
    struct frame_section *section = &frames->sections[pfn.v >> frames->section_shift];

    return &section->frames[pfn.v - section->first_pfn];
}

qr_pfn
qr_frame_pfn(const struct qr_frames *frames, const struct qr_frame *frame)
{
    const struct frame_section *section = &frames->sections[frame->section];

    return qr_pfn_of(section->first_pfn + (size_t)(frame - section->frames));
}

/* ---- hooks -------------------------------------------------------------- */

void
qr_frames_set_reclaim(struct qr_frames *frames, qr_reclaim_fn reclaim, void *context)
{
    frames->reclaim_context = context;
    frames->reclaim = reclaim;
}

void
qr_frames_set_background(struct qr_frames *frames, qr_background_fn wake, void *context)
{
    frames->background_context = context;
    frames->background = wake;
}

void
qr_frames_set_merged(struct qr_frames *frames, qr_merged_fn gone, void *context)
{
#ifdef CONFIG_MERGE
    frames->merged_context = context;
    frames->merged_gone = gone;
#else
    (void)frames, (void)gone, (void)context;
#endif
}

void
qr_frames_set_uncharge(struct qr_frames *frames, qr_uncharge_fn uncharge, void *context)
{
    frames->uncharge_context = context;
    frames->uncharge = uncharge;
}

void
qr_frames_set_evacuate(struct qr_frames *frames, qr_evacuate_fn evacuate, void *context)
{
    frames->evacuate_context = context;
    frames->evacuate = evacuate;
}

void
qr_frames_set_refusal(struct qr_frames *frames, qr_refuse_fn refuse, void *context)
{
    frames->refuse_context = context;
    frames->refuse = refuse;
    /* Every allocation must pass the hook: the lanes, which do not ask, stay closed. */
    frames->lanes_off = refuse != NULL;
    if (refuse != NULL)
        (void)qr_lanes_drain(frames);
}

struct qr_counters *
qr_frames_counters(struct qr_frames *frames)
{
    return frames->counters;
}
