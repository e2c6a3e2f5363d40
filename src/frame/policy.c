/* SPDX-License-Identifier: MIT */
/*
 * Nodes: where a frame is wanted, and what is counted when it comes from there or
 * from elsewhere.
 *
 * A policy is decided in two steps.  qr_policy_node() names the node that a page belongs
 * on, from the policy, the node of the CPU and the page's index alone; then the zones
 * are tried by distance from that node, those of the policy's set alone where it binds.
 * A page that belongs on the CPU's own node takes the common path through the lane.
 *
 * Interleaving goes by the page's index where it has one, so that a page that is
 * dropped and touched again comes back to the same node, and by turns where not.
 *
 * Counters are Linux's: hit and miss on the node that gave, foreign on the node that was
 * wanted, local and other by the node of the CPU.  Wanted is the nearest node of the request
 * that has memory of its kind: a CPU without memory does not miss.  A lane counts what it gave
 * when its slow path runs, or somebody reads.
 */
#include "frames.h"

void
qr_numa_note(struct qr_frames *frames, const struct frame_zone *zone,
             const struct zone_choice *choice, enum qr_zone_kind kind, size_t count)
{
    unsigned at = 0;
    const struct frame_zone *first = qr_zone_next(frames, choice, kind, &at);
    bool hit = first == NULL || first->node == zone->node;

    qr_numa_count(frames, zone->node, hit ? QR_NUMA_HIT : QR_NUMA_MISS, count);
    if (!hit)
        qr_numa_count(frames, first->node, QR_NUMA_FOREIGN, count);
    qr_numa_count(frames, zone->node, zone->node == qr_this_node() ? QR_NUMA_LOCAL : QR_NUMA_OTHER,
                  count);
}

/* ---- facts about nodes ---------------------------------------------------- */

/* How many zones it has, with or without memory: a node that nothing named has none. */
static unsigned
zones_of(const struct qr_frames *frames, unsigned node)
{
    return node < frames->zone_count / QR_ZONE_COUNT ? QR_ZONE_COUNT : 0;
}

bool
qr_frames_node_exists(struct qr_frames *frames, unsigned node)
{
    size_t managed = 0;

    for (unsigned kind = 0; kind < zones_of(frames, node); kind++)
        managed += frames->zones[node * QR_ZONE_COUNT + kind].managed;
    return managed != 0;
}

unsigned
qr_frames_node_near(const struct qr_frames *frames, unsigned node, unsigned rank)
{
    return frames->near[node][rank];
}

void
qr_frames_node_stats(struct qr_frames *frames, unsigned node, struct qr_node_stats *out_stats)
{
    *out_stats = (struct qr_node_stats){.managed = 0};
    for (unsigned kind = 0; kind < zones_of(frames, node); kind++) {
        struct frame_zone *zone = &frames->zones[node * QR_ZONE_COUNT + kind];

        if (zone->managed == 0)
            continue;
        out_stats->managed += zone->managed;
        out_stats->free += qr_zone_free(zone) + qr_lanes_cached(frames, zone->index);
    }
    for (unsigned event = 0; event < QR_NUMA_EVENTS; event++)
        out_stats->event[event] =
            atomic_load_explicit(&frames->nodes[node].event[event], memory_order_relaxed);
}

static void
use_add(struct qr_node_use *use, const struct qr_frame *frame)
{
    uint32_t flags = atomic_load_explicit(&frame->flags, memory_order_relaxed);
    enum qr_frame_type type = qr_frame_type(frame);

    if ((unsigned)type >= QR_FRAME_TYPE_COUNT)
        return;
    use->type[type]++;
    use->swap_mapped +=
        type == QR_FRAME_SWAP && atomic_load_explicit(&frame->maps, memory_order_relaxed) != 0;
    use->stacks += type == QR_FRAME_KERNEL && (flags & QR_FRAME_STACK) != 0;
    if (type != QR_FRAME_OBJECT)
        return;
    use->shmem += (flags & QR_FRAME_SHMEM) != 0;
    use->blocks += (flags & QR_FRAME_BLOCK) != 0;
    use->file += (flags & QR_FRAME_SHMEM) == 0;
    use->active += (flags & (QR_FRAME_SHMEM | QR_FRAME_ACTIVE)) == QR_FRAME_ACTIVE;
    use->mapped += atomic_load_explicit(&frame->maps, memory_order_relaxed) != 0;
    use->dirty += (flags & QR_FRAME_DIRTY) != 0;
    use->writeback += (flags & QR_FRAME_WRITEBACK) != 0;
}

static bool
is_charged_to(const struct qr_frame *frame, const uint32_t *numbers)
{
    unsigned number = qr_frame_group(frame);

    return number != 0 && (numbers[number / 32] >> number % 32 & 1) != 0;
}

/* The descriptors of one section that are written and belong to @node (-1: any) and, with @numbers, to a group. */
static void
use_of_section(const struct frame_section *section, int node, const uint32_t *numbers,
               struct qr_node_use *use)
{
    for (uint32_t b = 0; b < section->block_count; b++) {
        size_t first = (size_t)b * BLOCK_FRAMES;
        size_t count = section->frame_count - first;

        if (!qr_section_is_described(section, b) ||
            (node >= 0 && section->blocks[b].zone / QR_ZONE_COUNT != (unsigned)node))
            continue;
        for (size_t i = 0; i < count && i < BLOCK_FRAMES; i++) {
            if (numbers == NULL || is_charged_to(&section->frames[first + i], numbers))
                use_add(use, &section->frames[first + i]);
        }
    }
}

void
qr_frames_node_use(struct qr_frames *frames, unsigned node, struct qr_node_use *out_use)
{
    *out_use = (struct qr_node_use){.file = 0};
    for (unsigned kind = 0; kind < zones_of(frames, node); kind++) {
        const struct frame_zone *zone = &frames->zones[node * QR_ZONE_COUNT + kind];
        size_t end = zone->end_pfn;

        for (size_t pfn = zone->start_pfn; pfn < end;
             pfn = ((pfn >> frames->section_shift) + 1) << frames->section_shift) {
            const struct frame_section *section = &frames->sections[pfn >> frames->section_shift];

            /* Zones of one node may share a section: the first of them counts it. */
            if (atomic_load_explicit(&section->state, memory_order_acquire) == SECTION_READY &&
                section->blocks[0].zone % QR_ZONE_COUNT == kind)
                use_of_section(section, (int)node, NULL, out_use);
        }
    }
}

void
qr_frames_charged_use(struct qr_frames *frames, const uint32_t *numbers, int node,
                      struct qr_node_use *out_use)
{
    *out_use = (struct qr_node_use){.file = 0};
    for (uint32_t i = 0; i < frames->section_count; i++) {
        const struct frame_section *section = &frames->sections[i];

        if (atomic_load_explicit(&section->state, memory_order_acquire) == SECTION_READY)
            use_of_section(section, node, numbers, out_use);
    }
}

/* ---- policies -------------------------------------------------------------- */

static bool
mode_wants_nodes(unsigned mode)
{
    return mode != QR_POLICY_DEFAULT && mode != QR_POLICY_LOCAL;
}

enum qr_status
qr_policy_init(struct qr_policy *policy, struct qr_frames *frames, enum qr_policy_mode mode,
               const struct qr_node_set *nodes, const uint8_t *weights)
{
    bool any = false;

    if ((unsigned)mode >= QR_POLICY_COUNT)
        return QR_ERR_INVALID;
    *policy = (struct qr_policy){.mode = (uint8_t)mode};
    for (unsigned node = 0; nodes != NULL && node < CONFIG_MAX_NODES; node++) {
        if (!qr_node_set_has(nodes, node) || !qr_frames_node_exists(frames, node))
            continue;
        qr_node_set_add(&policy->nodes, node);
        policy->weight[node] = weights != NULL && weights[node] != 0 ? weights[node] : 1;
        any = true;
    }
    return any || !mode_wants_nodes(mode) ? QR_OK : QR_ERR_INVALID;
}

/* The node whose turn @index is. */
static unsigned
interleave_node(const struct qr_policy *policy, size_t index)
{
    bool weighted = policy->mode == QR_POLICY_WEIGHTED;
    size_t sum = 0;

    for (unsigned node = 0; node < CONFIG_MAX_NODES; node++) {
        if (qr_node_set_has(&policy->nodes, node))
            sum += weighted ? policy->weight[node] : 1;
    }
    index %= sum;
    for (unsigned node = 0; node < CONFIG_MAX_NODES; node++) {
        size_t turn = weighted ? policy->weight[node] : 1;

        if (!qr_node_set_has(&policy->nodes, node))
            continue;
        if (index < turn)
            return node;
        index -= turn;
    }
    return 0;
}

unsigned
qr_policy_node(struct qr_frames *frames, struct qr_policy *policy, unsigned here, size_t index)
{
    switch ((enum qr_policy_mode)policy->mode) {
    case QR_POLICY_INTERLEAVE:
    case QR_POLICY_WEIGHTED:
        if (index == QR_POLICY_NEXT)
            index = atomic_fetch_add_explicit(&policy->next, 1, memory_order_relaxed);
        return interleave_node(policy, index);
    case QR_POLICY_PREFERRED:
        for (unsigned node = 0; node < CONFIG_MAX_NODES; node++) {
            if (qr_node_set_has(&policy->nodes, node))
                return node;
        }
        return here;
    case QR_POLICY_PREFERRED_MANY:
    case QR_POLICY_BIND:
        if (policy->home != 0)
            here = policy->home - 1u;
        for (unsigned rank = 0; rank < CONFIG_MAX_NODES; rank++) {
            if (qr_node_set_has(&policy->nodes, frames->near[here][rank]))
                return frames->near[here][rank];
        }
        return here;
    case QR_POLICY_DEFAULT:
    case QR_POLICY_LOCAL:
    case QR_POLICY_COUNT:
        break;
    }
    return here;
}

/* From the set first without trying hard, then from anywhere. */
static struct qr_frame *
take_preferring(struct qr_frames *frames, const struct zone_choice *choice, unsigned order,
                unsigned alloc_flags)
{
    struct qr_frame *frame = qr_zones_take(frames, choice, order, alloc_flags);

    if (frame != NULL) {
        qr_counter_add(frames->counters, QR_EVENT_ALLOC, 1l << order);
        return frame;
    }
    return qr_take_retrying(frames, choice->node, NULL, order, alloc_flags);
}

struct qr_frame *
qr_frame_alloc_policy(struct qr_frames *frames, struct qr_policy *policy, size_t index,
                      unsigned order, unsigned alloc_flags)
{
    unsigned here = qr_this_node();
    unsigned mode = policy == NULL ? QR_POLICY_DEFAULT : policy->mode;

    if (!mode_wants_nodes(mode))
        return qr_frame_alloc_block(frames, order, alloc_flags);
    if (order > QR_ORDER_MAX || qr_alloc_refused(frames))
        return NULL;
    struct zone_choice choice = {.node = qr_policy_node(frames, policy, here, index)};
    struct qr_frame *frame;

    if (mode == QR_POLICY_BIND || mode == QR_POLICY_PREFERRED_MANY)
        choice.nodes = &policy->nodes;
    if (mode == QR_POLICY_PREFERRED_MANY)
        frame = take_preferring(frames, &choice, order, alloc_flags);
    else
        frame = qr_take_retrying(frames, choice.node, choice.nodes, order, alloc_flags);
    if (frame == NULL)
        return NULL;
    if ((mode == QR_POLICY_INTERLEAVE || mode == QR_POLICY_WEIGHTED) &&
        frames->zones[frame->zone].node == choice.node)
        qr_numa_count(frames, choice.node, QR_NUMA_INTERLEAVE, (size_t)1 << order);
    return qr_frame_hand_out(frames, frame, order, alloc_flags);
}

struct qr_frame *
qr_frame_alloc_on(struct qr_frames *frames, unsigned node, unsigned order, unsigned alloc_flags)
{
    node = node < CONFIG_MAX_NODES ? node : 0;
    if (node == qr_this_node())
        return qr_frame_alloc_block(frames, order, alloc_flags);
    if (order > QR_ORDER_MAX || qr_alloc_refused(frames))
        return NULL;
    struct qr_frame *frame = qr_take_retrying(frames, node, NULL, order, alloc_flags);

    return frame == NULL ? NULL : qr_frame_hand_out(frames, frame, order, alloc_flags);
}

/* ---- colours ---------------------------------------------------------------- */

struct qr_frame *
qr_frame_alloc_colour(struct qr_frames *frames, struct qr_colour colour, unsigned alloc_flags)
{
    const struct zone_choice choice = {.node = qr_this_node()};
    enum qr_zone_kind kind = qr_alloc_kind(frames, alloc_flags);
    struct frame_zone *zone;
    unsigned at = 0;

    qr_assert(colour.count != 0 && colour.count <= ROW_FRAMES &&
              (colour.count & (colour.count - 1)) == 0);
    if (qr_alloc_refused(frames))
        return NULL;
    while ((zone = qr_zone_next(frames, &choice, kind, &at)) != NULL) {
        struct qr_frame *frame = NULL;

        qr_spin_lock(&zone->lock);
        if (qr_zone_allowance(zone, kind, alloc_flags) >= 1)
            frame = qr_zone_take_colour(frames, zone, qr_block_class(alloc_flags), colour);
        if (frame != NULL)
            qr_frames_used_add(frames, zone, 1);
        qr_spin_unlock(&zone->lock);
        if (frame != NULL) {
            qr_numa_note(frames, zone, &choice, kind, 1);
            qr_counter_add(frames->counters, QR_EVENT_ALLOC, 1);
            return qr_frame_hand_out(frames, frame, 0, alloc_flags);
        }
    }
    return qr_frame_alloc(frames, alloc_flags);
}
