/* SPDX-License-Identifier: MIT */
/*
 * Latencies and bandwidths between memory nodes, and distances derived from them.
 *
 * A distance is a ratio: 10 is the initiator's nearest memory, 25 takes two and a half times
 * as long.  A domain without CPUs initiates nothing; as seen from there the others are as far
 * as it is from them.
 */
#include <boot.h>

#define DISTANCE_OWN  10u
#define DISTANCE_MOST 254u /* 255: not reachable */

void
boot_set_access(uint64_t from, uint64_t to, enum boot_access kind, uint64_t value)
{
    if (from < BOOT_NODES_MAX && to < BOOT_NODES_MAX && value <= UINT32_MAX)
        boot_machine.access[from][to][kind] = (uint32_t)value;
}

void
boot_set_initiator(uint64_t target, uint64_t initiator)
{
    if (target < BOOT_NODES_MAX && initiator < BOOT_NODES_MAX)
        boot_machine.initiators[target] = (uint8_t)(initiator + 1);
}

/**
 * What an access costs, in a unit of its own for each @p kind; reads count, writes where only
 * they are known.  @return 0 where nothing is
 */
static uint64_t
access_cost(uint32_t from, uint32_t to, enum boot_access kind)
{
    const uint32_t *access = boot_machine.access[from][to];
    uint64_t value = access[kind] != 0 ? access[kind] : access[kind + 1];

    if (kind == BOOT_READ_LATENCY || value == 0)
        return value;
    return ((uint64_t)1 << 40) / value;
}

static bool
nearest_by(uint32_t target, enum boot_access kind, uint32_t *out_domain)
{
    uint64_t least = UINT64_MAX;

    for (unsigned from = 0; from < BOOT_NODES_MAX; from++) {
        uint64_t cost = access_cost(from, target, kind);

        if (cost == 0 || cost >= least)
            continue;
        least = cost;
        *out_domain = from;
    }
    return least != UINT64_MAX;
}

bool
boot_nearest_initiator(uint32_t target, uint32_t *out_domain)
{
    if (target >= BOOT_NODES_MAX)
        return false;
    if (boot_machine.initiators[target] != 0) {
        *out_domain = boot_machine.initiators[target] - 1u;
        return true;
    }
    return nearest_by(target, BOOT_READ_LATENCY, out_domain) ||
           nearest_by(target, BOOT_READ_BANDWIDTH, out_domain);
}

/** What @p from's nearest memory costs; 0 where nothing is known. */
static uint64_t
least_cost(unsigned from, enum boot_access kind)
{
    uint64_t least = 0;

    for (unsigned to = 0; to < BOOT_NODES_MAX; to++) {
        uint64_t cost = access_cost(from, to, kind);

        if (cost != 0 && (least == 0 || cost < least))
            least = cost;
    }
    return least;
}

static bool
derive_by(enum boot_access kind)
{
    bool any = false;

    for (unsigned from = 0; from < BOOT_NODES_MAX; from++) {
        uint64_t least = least_cost(from, kind);

        for (unsigned to = 0; to < BOOT_NODES_MAX && least != 0; to++) {
            uint64_t distance = DISTANCE_OWN * access_cost(from, to, kind) / least;

            if (distance == 0 || from == to)
                continue;
            /* Another domain's memory is further than own, as the kernel's lists want it. */
            distance = distance <= DISTANCE_OWN ? DISTANCE_OWN + 1 : distance;
            boot_set_distance(from, to, distance < DISTANCE_MOST ? distance : DISTANCE_MOST);
            any = true;
        }
    }
    return any;
}

/** Where only one direction is known it holds for both. */
static void
mirror_distances(void)
{
    uint8_t *distances = boot_machine.distances;

    for (unsigned from = 0; from < BOOT_NODES_MAX; from++) {
        for (unsigned to = 0; to < BOOT_NODES_MAX; to++) {
            uint8_t known = distances[to * BOOT_NODES_MAX + from];

            if (distances[from * BOOT_NODES_MAX + to] == 0 && known != 0)
                boot_set_distance(from, to, known);
        }
    }
}

void
boot_derive_distances(void)
{
    if (boot_machine.distance_count > 0)
        return;
    if (derive_by(BOOT_READ_LATENCY) || derive_by(BOOT_READ_BANDWIDTH))
        mirror_distances();
}
