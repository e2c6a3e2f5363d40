/* SPDX-License-Identifier: MIT */
/*
 * Nodes, policies and their counters; classes of blocks; colours; the background hook.
 */
#include "harness.h"
#include "test_port.h"

#include "frame/frames.h"

#include <stdlib.h>
#include <string.h>

enum { NODES = 4 };

/* Node 3 has memory and no CPU, far from everything: as CXL memory is. */
static const struct qr_memory_range node_map[NODES] = {
    {.range = {{16 * MIB}, {48 * MIB}}, .node = 0},
    {.range = {{48 * MIB}, {80 * MIB}}, .node = 1},
    {.range = {{80 * MIB}, {112 * MIB}}, .node = 2},
    {.range = {{112 * MIB}, {144 * MIB}}, .node = 3},
};
static const uint8_t node_distance[NODES * NODES] = {
    10, 21, 16, 40, /**/
    21, 10, 16, 40, /**/
    16, 16, 10, 40, /**/
    40, 40, 40, 10, /**/
};

static struct machine *
four_nodes(void)
{
    struct machine *machine = machine_boot((struct machine_options){.map = node_map,
                                                                    .map_count = NODES,
                                                                    .cpus = 3,
                                                                    .distance = node_distance,
                                                                    .node_count = NODES});

    for (unsigned i = 0; i < 3; i++)
        machine->cpus[i].node = i;
    return machine;
}

static unsigned
node_of(struct machine *machine, const struct qr_frame *frame)
{
    return machine->frames->zones[frame->zone].node;
}

static size_t
event_of(struct machine *machine, unsigned node, enum qr_numa_event event)
{
    struct qr_node_stats stats;

    qr_frames_node_stats(machine->frames, node, &stats);
    return stats.event[event];
}

static struct qr_node_set
set_of(unsigned first, unsigned second)
{
    struct qr_node_set set = {{0}};

    qr_node_set_add(&set, first);
    qr_node_set_add(&set, second);
    return set;
}

struct spread {
    size_t count[NODES];
    size_t failed;
};

/* @count pages under @policy; they are given back. */
static struct spread
spread_of(struct machine *machine, struct qr_policy *policy, size_t count, bool indexed)
{
    struct qr_frame **frames = calloc(count, sizeof(*frames));
    struct spread spread = {.failed = 0};

    for (size_t i = 0; i < count; i++) {
        frames[i] = qr_frame_alloc_policy(machine->frames, policy, indexed ? i : QR_POLICY_NEXT, 0,
                                          QR_ALLOC_NO_REPORT);
        if (frames[i] == NULL)
            spread.failed++;
        else
            spread.count[node_of(machine, frames[i])]++;
    }
    for (size_t i = 0; i < count; i++) {
        if (frames[i] != NULL)
            qr_frame_free(machine->frames, frames[i]);
    }
    free(frames);
    VALIDATE(machine);
    return spread;
}

TEST(frame_node, policies_choose_nodes)
{
    struct machine *machine = four_nodes();
    struct qr_node_set none = {{0}};
    struct qr_node_set set = set_of(1, 2);
    uint8_t weights[CONFIG_MAX_NODES] = {0, 3, 1};
    struct qr_policy policy;
    struct spread spread;

    EXPECT_EQ(qr_policy_init(&policy, machine->frames, QR_POLICY_BIND, &none, NULL),
              QR_ERR_INVALID);
    EXPECT_EQ(qr_policy_init(&policy, machine->frames, QR_POLICY_COUNT, &set, NULL),
              QR_ERR_INVALID);
    machine_enter(machine, 1);
    EXPECT_EQ(spread_of(machine, NULL, 100, true).count[1], 100);
    ASSERT_EQ(qr_policy_init(&policy, machine->frames, QR_POLICY_LOCAL, NULL, NULL), QR_OK);
    EXPECT_EQ(spread_of(machine, &policy, 100, true).count[1], 100);
    set = set_of(2, 3);
    ASSERT_EQ(qr_policy_init(&policy, machine->frames, QR_POLICY_PREFERRED, &set, NULL), QR_OK);
    EXPECT_EQ(spread_of(machine, &policy, 100, true).count[2], 100);
    set = set_of(0, 3);
    ASSERT_EQ(qr_policy_init(&policy, machine->frames, QR_POLICY_PREFERRED_MANY, &set, NULL),
              QR_OK);
    EXPECT_EQ(spread_of(machine, &policy, 100, true).count[0], 100); /* 21 away, not 40 */
    set = set_of(1, 2);
    ASSERT_EQ(qr_policy_init(&policy, machine->frames, QR_POLICY_INTERLEAVE, &set, NULL), QR_OK);
    spread = spread_of(machine, &policy, 100, true);
    EXPECT_EQ(spread.count[1], 50);
    EXPECT_EQ(spread.count[2], 50);
    spread = spread_of(machine, &policy, 100, false);
    EXPECT_EQ(spread.count[1], 50);
    ASSERT_EQ(qr_policy_init(&policy, machine->frames, QR_POLICY_WEIGHTED, &set, weights), QR_OK);
    spread = spread_of(machine, &policy, 100, true);
    EXPECT_EQ(spread.count[1], 75);
    EXPECT_EQ(spread.count[2], 25);
    EXPECT_EQ(event_of(machine, 1, QR_NUMA_INTERLEAVE), 50 + 50 + 75);
    EXPECT_EQ(event_of(machine, 2, QR_NUMA_INTERLEAVE), 50 + 50 + 25);
    machine_shutdown(machine);
}

/* What each policy does when its nodes are full: only BIND fails. */
TEST(frame_node, policies_fall_back_by_distance_or_not)
{
    enum { MANY = 14000 }; /* more than a node, less than two */
    struct machine *machine = four_nodes();
    struct qr_node_set set = {{0}};
    struct qr_policy policy;
    struct spread spread;

    qr_node_set_add(&set, 1);
    machine_enter(machine, 0);
    ASSERT_EQ(qr_policy_init(&policy, machine->frames, QR_POLICY_BIND, &set, NULL), QR_OK);
    spread = spread_of(machine, &policy, MANY, true);
    EXPECT_GT(spread.failed, 0);
    EXPECT_EQ(spread.count[1] + spread.failed, MANY);
    ASSERT_EQ(qr_policy_init(&policy, machine->frames, QR_POLICY_PREFERRED, &set, NULL), QR_OK);
    spread = spread_of(machine, &policy, MANY, true);
    EXPECT_EQ(spread.failed, 0);
    EXPECT_GT(spread.count[2], 0); /* 16 from node 1 */
    EXPECT_EQ(spread.count[0], 0);
    ASSERT_EQ(qr_policy_init(&policy, machine->frames, QR_POLICY_PREFERRED_MANY, &set, NULL),
              QR_OK);
    spread = spread_of(machine, &policy, MANY, true);
    EXPECT_EQ(spread.failed, 0);
    EXPECT_GT(spread.count[1], 6000);
    /* Everybody's memory: the node without CPUs is the last. */
    spread = spread_of(machine, NULL, 22000, true);
    EXPECT_EQ(spread.failed, 0);
    EXPECT_EQ(spread.count[3], 0);
    EXPECT_GT(spread_of(machine, NULL, 27000, true).count[3], 1000);
    machine_shutdown(machine);
}

TEST(frame_node, every_allocation_is_counted_once)
{
    enum { MANY = 10000 };
    struct machine *machine = four_nodes();
    struct qr_frame **frames = calloc(MANY, sizeof(*frames));
    size_t sum = 0;
    size_t hits;

    machine_enter(machine, 2);
    for (size_t i = 0; i < MANY; i++)
        frames[i] = qr_frame_alloc(machine->frames, i % 2 != 0 ? QR_ALLOC_MOVABLE : 0);
    for (size_t i = 0; i < MANY; i++)
        qr_frame_free(machine->frames, frames[i]);
    hits = event_of(machine, 2, QR_NUMA_HIT);
    EXPECT_GT(hits, 5000);
    EXPECT_EQ(event_of(machine, 2, QR_NUMA_LOCAL), hits);
    EXPECT_EQ(event_of(machine, 2, QR_NUMA_FOREIGN), MANY - hits);
    for (unsigned node = 0; node < NODES; node++) {
        sum += event_of(machine, node, QR_NUMA_HIT) + event_of(machine, node, QR_NUMA_MISS);
        if (node != 2)
            EXPECT_EQ(event_of(machine, node, QR_NUMA_OTHER),
                      event_of(machine, node, QR_NUMA_MISS));
    }
    EXPECT_EQ(sum, MANY);
    EXPECT_EQ(qr_counter_read(qr_frames_counters(machine->frames), QR_EVENT_ALLOC), MANY);
    EXPECT_EQ(qr_counter_read(qr_frames_counters(machine->frames), QR_EVENT_FREE), MANY);
    free(frames);
    machine_shutdown(machine);
}

/* ---- counters, step by step ------------------------------------------------- */

enum { HELD_MAX = 40000 };

struct tally {
    struct machine *machine;
    uint64_t random;
    size_t event[NODES][QR_NUMA_EVENTS];
    struct qr_frame **held;
    size_t held_count;
};

/* Linux's zone_statistics(): @frame came for a CPU of node @here that wanted @wanted. */
static void
tally_note(struct tally *tally, const struct qr_frame *frame, unsigned here, unsigned wanted,
           size_t count)
{
    unsigned from = node_of(tally->machine, frame);

    tally->event[from][from == wanted ? QR_NUMA_HIT : QR_NUMA_MISS] += count;
    if (from != wanted)
        tally->event[wanted][QR_NUMA_FOREIGN] += count;
    tally->event[from][from == here ? QR_NUMA_LOCAL : QR_NUMA_OTHER] += count;
}

/* One request of a kind that chance chooses, for a CPU of node @here. */
static void
tally_alloc(struct tally *tally, unsigned here, struct qr_policy *policies)
{
    struct qr_frames *frames = tally->machine->frames;
    unsigned flags = QR_ALLOC_NO_REPORT | (test_random(&tally->random) & 1 ? QR_ALLOC_MOVABLE : 0);
    unsigned order = test_random(&tally->random) % 16 == 0 ? 3 : 0;
    unsigned wanted = here < NODES ? here : 0; /* the nearest with memory */
    uint64_t what = test_random(&tally->random) % 8;
    struct qr_frame *frame;

    if (what < 4) {
        struct qr_policy *policy = &policies[what];
        size_t index = test_random(&tally->random) % 100;
        bool turns = policy->mode == QR_POLICY_INTERLEAVE || policy->mode == QR_POLICY_WEIGHTED;

        wanted = qr_policy_node(frames, policy, here, index);
        frame = qr_frame_alloc_policy(frames, policy, index, order, flags);
        if (frame != NULL && turns && node_of(tally->machine, frame) == wanted)
            tally->event[wanted][QR_NUMA_INTERLEAVE] += (size_t)1 << order;
    } else if (what == 4) {
        wanted = (unsigned)(test_random(&tally->random) % NODES);
        frame = qr_frame_alloc_on(frames, wanted, order, flags);
    } else {
        frame = qr_frame_alloc_block(frames, order, flags);
    }
    if (frame == NULL)
        return;
    tally_note(tally, frame, here, wanted, (size_t)1 << order);
    tally->held[tally->held_count++] = frame;
}

static void
tally_compare(struct tally *tally)
{
    for (unsigned node = 0; node < NODES; node++) {
        struct qr_node_stats stats;

        qr_frames_node_stats(tally->machine->frames, node, &stats);
        for (unsigned event = 0; event < QR_NUMA_EVENTS; event++)
            EXPECT_EQ(stats.event[event], tally->event[node][event]);
    }
}

/*
 * CPUs of three nodes with memory and of one without, memory that fills up and empties
 * again, and every policy: the six counters of each node are what Linux's rules make of it, at
 * any time, with lanes open.
 */
TEST(frame_node, counters_are_exact)
{
    struct tally tally = {.random = test_seed()};
    struct qr_node_set set = set_of(1, 3);
    uint8_t weights[CONFIG_MAX_NODES] = {0, 3, 0, 2};
    static const enum qr_policy_mode modes[] = {QR_POLICY_INTERLEAVE, QR_POLICY_WEIGHTED,
                                                QR_POLICY_BIND, QR_POLICY_PREFERRED_MANY};
    struct qr_policy policies[4];

    tally.machine = machine_boot((struct machine_options){.map = node_map,
                                                          .map_count = NODES,
                                                          .cpus = 4,
                                                          .distance = node_distance,
                                                          .node_count = NODES});
    tally.held = calloc(HELD_MAX, sizeof(struct qr_frame *));
    for (unsigned i = 0; i < 4; i++) {
        tally.machine->cpus[i].node = i < 3 ? i : 5;
        ASSERT_EQ(qr_policy_init(&policies[i], tally.machine->frames, modes[i], &set, weights),
                  QR_OK);
    }
    for (unsigned step = 0; step < 60000; step++) {
        bool grow = test_random(&tally.random) % 100 < (step / 20000 == 1 ? 30u : 80u);
        unsigned cpu = (unsigned)(test_random(&tally.random) % 4);

        machine_enter(tally.machine, cpu);
        if (grow && tally.held_count < HELD_MAX) {
            tally_alloc(&tally, tally.machine->cpus[cpu].node, policies);
        } else if (tally.held_count > 0) {
            size_t at = test_random(&tally.random) % tally.held_count;

            qr_frame_free(tally.machine->frames, tally.held[at]);
            tally.held[at] = tally.held[--tally.held_count];
        }
        if (step % 5000 == 0)
            tally_compare(&tally);
    }
    tally_compare(&tally);
    for (unsigned event = 0; event < QR_NUMA_EVENTS; event++) /* nothing went unseen */
        EXPECT_GT(tally.event[0][event] + tally.event[1][event] + tally.event[2][event], 0);
    while (tally.held_count > 0)
        qr_frame_free(tally.machine->frames, tally.held[--tally.held_count]);
    free(tally.held);
    machine_shutdown(tally.machine);
}

TEST(frame_node, use_is_counted_where_it_is)
{
    struct machine *machine = four_nodes();
    struct qr_node_use use;
    struct qr_frame *frame;

    machine_enter(machine, 1);
    frame = qr_frame_alloc(machine->frames, QR_ALLOC_MOVABLE);
    qr_frame_set_type(frame, QR_FRAME_ANON);
    qr_frames_node_use(machine->frames, 1, &use);
    EXPECT_EQ(use.type[QR_FRAME_ANON], 1);
    qr_frames_node_use(machine->frames, 0, &use);
    EXPECT_EQ(use.type[QR_FRAME_ANON], 0);
    qr_frame_free(machine->frames, frame);
    machine_shutdown(machine);
}

/* ---- classes ----------------------------------------------------------------- */

/*
 * Fixed and movable frames by turns, all memory; then every movable one goes.  Apart, as they
 * are, nearly all of that memory is whole blocks again.
 */
TEST(frame_class, movable_frames_leave_whole_blocks_behind)
{
    enum { MANY = 15000 };
    struct machine *machine =
        machine_boot((struct machine_options){.start = 16 * MIB, .bytes = 64 * MIB, .cpus = 2});
    struct qr_frame **fixed = calloc(MANY, sizeof(*fixed));
    struct qr_frame **movable = calloc(MANY, sizeof(*movable));
    struct qr_zone_stats stats;
    size_t taken = 0;
    size_t whole = 0;

    while (taken < MANY / 2 &&
           (fixed[taken] = qr_frame_alloc(machine->frames, QR_ALLOC_NO_REPORT)) != NULL &&
           (movable[taken] =
                qr_frame_alloc(machine->frames, QR_ALLOC_NO_REPORT | QR_ALLOC_MOVABLE)) != NULL)
        taken++;
    VALIDATE(machine);
    for (size_t i = 0; i < taken; i++)
        qr_frame_free(machine->frames, movable[i]);
    qr_frames_drain(machine->frames);
    VALIDATE(machine);
    qr_frames_zone_stats(machine->frames, QR_ZONE_NORMAL, &stats);
    for (unsigned order = 9; order < 31; order++)
        whole += stats.free_blocks[order] << (order - 9);
    EXPECT_GE(whole + 2, taken / 512);
    EXPECT_LT(qr_zone_unusable(&stats, 9), 150);
    EXPECT_EQ(qr_zone_fragmentation(&stats, 9), -1000);
    EXPECT_GE(stats.blocks_fixed, taken / 512);
    for (size_t i = 0; i < taken; i++)
        qr_frame_free(machine->frames, fixed[i]);
    free(fixed);
    free(movable);
    machine_shutdown(machine);
}

TEST(frame_class, either_class_may_have_all_memory)
{
    for (unsigned flags = 0; flags <= QR_ALLOC_MOVABLE; flags += QR_ALLOC_MOVABLE) {
        struct machine *machine =
            machine_boot((struct machine_options){.start = 16 * MIB, .bytes = 16 * MIB});
        struct qr_frame *other = qr_frame_alloc(machine->frames, flags ^ QR_ALLOC_MOVABLE);
        struct qr_frame *list = NULL;
        struct qr_frame *frame;

        while ((frame = qr_frame_alloc(machine->frames,
                                       flags | QR_ALLOC_NO_REPORT | QR_ALLOC_RECLAIMER)) != NULL) {
            atomic_store(&frame->owner, list);
            list = frame;
        }
        EXPECT_EQ(machine_free_frames(machine), 0);
        VALIDATE(machine);
        qr_frame_free(machine->frames, other);
        while ((frame = list) != NULL) {
            list = atomic_load(&frame->owner);
            qr_frame_put(machine->frames, frame);
        }
        VALIDATE(machine);
        machine_shutdown(machine);
    }
}

/* ---- isolation ----------------------------------------------------------------- */

TEST(frame_class, an_isolated_block_gives_nothing_and_takes_everything)
{
    struct machine *machine =
        machine_boot((struct machine_options){.start = 16 * MIB, .bytes = 16 * MIB});
    size_t free_at_start = machine_free_frames(machine);
    struct qr_frame *first = qr_frame_alloc(machine->frames, QR_ALLOC_MOVABLE);
    struct qr_isolated isolated;
    struct qr_frame *other;
    size_t cursor = 0;

    qr_frames_drain(machine->frames);
    ASSERT_TRUE(qr_frames_isolate_next(machine->frames, QR_ZONE_NORMAL, &cursor, 1, &isolated));
    VALIDATE(machine);
    size_t pfn = qr_frame_pfn(machine->frames, first).v;

    EXPECT_TRUE(pfn >= isolated.first.v && pfn < isolated.first.v + isolated.count);
    EXPECT_FALSE(qr_frames_isolate_next(machine->frames, QR_ZONE_NORMAL, &cursor, 1, &isolated));
    other = qr_frame_alloc(machine->frames, QR_ALLOC_MOVABLE);
    EXPECT_TRUE(qr_frame_pfn(machine->frames, other).v / 512 != pfn / 512);
    qr_frame_free_many(machine->frames, 1, &first);
    VALIDATE(machine);
    EXPECT_TRUE(qr_frames_unisolate(machine->frames,
                                    &(struct qr_isolated){qr_pfn_of(pfn / 512 * 512), 512}));
    VALIDATE(machine);
    qr_frame_free(machine->frames, other);
    EXPECT_EQ(machine_free_frames(machine), free_at_start);
    machine_shutdown(machine);
}

/* ---- colours ------------------------------------------------------------------- */

TEST(frame_colour, frames_have_the_colour_asked_for)
{
    struct machine *machine =
        machine_boot((struct machine_options){.start = 16 * MIB, .bytes = 16 * MIB});
    struct qr_frame *frames[512];

    for (unsigned i = 0; i < 512; i++) {
        frames[i] = qr_frame_alloc_colour(machine->frames, (struct qr_colour){16, i / 3}, 0);
        ASSERT_TRUE(frames[i] != NULL);
        EXPECT_EQ(qr_frame_pfn(machine->frames, frames[i]).v % 16, i / 3 % 16);
    }
    VALIDATE(machine);
    for (unsigned i = 0; i < 512; i++)
        qr_frame_free(machine->frames, frames[i]);
    VALIDATE(machine);
    machine_shutdown(machine);
}

/* ---- the background hook --------------------------------------------------------- */

static void
count_wake(void *context, unsigned node)
{
    (void)node;
    ++*(unsigned *)context;
}

TEST(frame_node, the_background_is_woken_once_below_low)
{
    struct machine *machine =
        machine_boot((struct machine_options){.start = 16 * MIB, .bytes = 64 * MIB});
    struct qr_frame *list = NULL;
    struct qr_frame *frame;
    unsigned wakes = 0;

    qr_frames_set_background(machine->frames, count_wake, &wakes);
    for (unsigned round = 1; round <= 2; round++) {
        while ((frame = qr_frame_alloc(machine->frames, QR_ALLOC_NO_REPORT)) != NULL) {
            atomic_store(&frame->owner, list);
            list = frame;
        }
        EXPECT_EQ(wakes, round);
        while ((frame = list) != NULL) {
            list = atomic_load(&frame->owner);
            qr_frame_put(machine->frames, frame);
        }
        qr_frames_drain(machine->frames);
    }
    machine_shutdown(machine);
}
