/* SPDX-License-Identifier: MIT */
/*
 * The allocator's promises, one by one: zones and their order, reserves, reclaim, refusal,
 * references, statistics, contiguous memory, and what misuse says.
 */
#include "frame/frames.h"
#include "harness.h"
#include "test_port.h"

#include <quire/writer.h>

#include <stdlib.h>
#include <string.h>

static size_t
pfn_of(struct machine *machine, struct qr_frame *frame)
{
    return qr_frame_pfn(machine->frames, frame).v;
}

static enum qr_zone_kind
kind_of(struct machine *machine, struct qr_frame *frame)
{
    return (enum qr_zone_kind)machine->frames->zones[frame->zone].kind;
}

/* Allocate until NULL, chained through owner. */
static size_t
take_all(struct machine *machine, unsigned flags, struct qr_frame **list)
{
    struct qr_frame *frame;
    size_t count = 0;

    while ((frame = qr_frame_alloc(machine->frames, flags | QR_ALLOC_NO_REPORT)) != NULL) {
        atomic_store(&frame->owner, *list);
        *list = frame;
        count++;
    }
    return count;
}

static void
give_all(struct machine *machine, struct qr_frame **list)
{
    while (*list != NULL) {
        struct qr_frame *frame = *list;

        *list = atomic_load(&frame->owner);
        qr_frame_put(machine->frames, frame);
    }
}

/* ---- rows ---------------------------------------------------------------- */

/* The largest aligned free run, by trying all. */
static unsigned
order_by_definition(const struct frame_rows *rows)
{
    for (unsigned order = 9; order > 0; order--) {
        for (unsigned start = 0; start < BLOCK_FRAMES; start += 1u << order) {
            unsigned bit = start;

            while (bit < start + (1u << order) && (rows->row[bit / 64] >> bit % 64 & 1))
                bit++;
            if (bit == start + (1u << order))
                return order;
        }
    }
    return 0;
}

TEST(frame_rows, orders_and_runs_match_the_definition)
{
    uint64_t random = test_seed();

    for (unsigned round = 0; round < 4000; round++) {
        struct frame_rows rows;
        unsigned holes = (unsigned)(test_random(&random) % (round % 2 == 0 ? 8 : 600));

        memset(&rows, 0xff, sizeof(rows));
        for (unsigned i = 0; i < holes; i++) {
            unsigned bit = (unsigned)(test_random(&random) % BLOCK_FRAMES);

            rows.row[bit / 64] &= ~((uint64_t)1 << bit % 64);
        }
        if (qr_rows_count(&rows) == 0)
            continue;
        unsigned order = order_by_definition(&rows);

        ASSERT_EQ(qr_rows_order(&rows), order);
        for (unsigned k = 0; k <= 8; k++) {
            unsigned bit = qr_rows_find(&rows, k);

            ASSERT_EQ(bit != BLOCK_FRAMES, k <= order);
            if (bit == BLOCK_FRAMES)
                continue;
            ASSERT_EQ(bit % (1u << k), 0);
            for (unsigned r = 0; r < BLOCK_ROWS; r++) {
                uint64_t mask = qr_row_mask(r, bit, 1u << k);

                ASSERT_EQ(rows.row[r] & mask, mask);
            }
        }
    }
}

/* ---- zones ---------------------------------------------------------------- */

TEST(frame, zones_are_used_in_order_and_dma_is_kept)
{
    struct machine *machine = machine_boot((struct machine_options){
        .start = MIB, .bytes = 95 * MIB, .direct_limit = 64 * MIB, .cpus = 2});
    struct qr_frame *list = NULL;
    struct qr_frame *frame;

    frame = qr_frame_alloc(machine->frames, 0);
    EXPECT_EQ(kind_of(machine, frame), QR_ZONE_NORMAL);
    qr_frame_free(machine->frames, frame);
    size_t high, high_free, high_before;

    EXPECT_TRUE(qr_frames_high_stats(machine->frames, &high, &high_before));
    EXPECT_EQ(high, 32 * MIB >> QR_PAGE_SHIFT); /* from the limit to the end */
    EXPECT_EQ(high_before, high);
    frame = qr_frame_alloc(machine->frames, QR_ALLOC_HIGH);
    EXPECT_EQ(kind_of(machine, frame), QR_ZONE_HIGH);
    EXPECT_GE(pfn_of(machine, frame) << QR_PAGE_SHIFT, 64 * MIB);
    EXPECT_TRUE(qr_frames_high_stats(machine->frames, &high, &high_free));
    EXPECT_EQ(high_free, high_before - 1);
    qr_frame_free(machine->frames, frame);
    frame = qr_frame_alloc(machine->frames, QR_ALLOC_DMA);
    EXPECT_EQ(kind_of(machine, frame), QR_ZONE_DMA);
    qr_frame_free(machine->frames, frame);

    /* Ordinary requests take NORMAL, then DMA down to its reserve, never HIGH. */
    (void)take_all(machine, 0, &list);
    frame = qr_frame_alloc(machine->frames, QR_ALLOC_DMA | QR_ALLOC_NO_REPORT);
    EXPECT_TRUE(frame != NULL);
    if (frame != NULL)
        qr_frame_free(machine->frames, frame);
    EXPECT_NULL(qr_frame_alloc(machine->frames, QR_ALLOC_NO_REPORT));
    frame = qr_frame_alloc(machine->frames, QR_ALLOC_HIGH);
    ASSERT_TRUE(frame != NULL);
    EXPECT_EQ(kind_of(machine, frame), QR_ZONE_HIGH);
    qr_frame_free(machine->frames, frame);
    give_all(machine, &list);
    qr_frames_drain(machine->frames);
    VALIDATE(machine);
    machine_shutdown(machine);
}

TEST(frame, the_reserve_is_what_was_asked_for)
{
    struct machine *machine =
        machine_boot((struct machine_options){.start = 16 * MIB, .bytes = 64 * MIB, .cpus = 2});
    size_t by_rule = qr_frames_min_free(machine->frames);
    size_t total = machine_free_frames(machine);
    struct qr_frame *list = NULL;
    struct qr_zone_stats stats;

    EXPECT_GT(by_rule, 0);
    qr_frames_set_min_free(machine->frames, 2048);
    EXPECT_EQ(qr_frames_min_free(machine->frames), 2048);
    qr_frames_zone_stats(machine->frames, QR_ZONE_NORMAL, &stats);
    EXPECT_EQ(stats.watermark_min, 2048);
    EXPECT_LT(stats.watermark_min, stats.watermark_low);
    EXPECT_LT(stats.watermark_low, stats.watermark_high);
    (void)take_all(machine, 0, &list);
    EXPECT_EQ(machine_free_frames(machine), 2048);
    /* Whoever asks for more than half of a zone gets half. */
    qr_frames_set_min_free(machine->frames, SIZE_MAX);
    qr_frames_zone_stats(machine->frames, QR_ZONE_NORMAL, &stats);
    EXPECT_EQ(stats.watermark_min, stats.managed / 2);
    EXPECT_NULL(qr_frame_alloc(machine->frames, QR_ALLOC_NO_REPORT));
    qr_frames_set_min_free(machine->frames, 0);
    (void)take_all(machine, 0, &list);
    EXPECT_EQ(machine_free_frames(machine), 0);
    give_all(machine, &list);
    EXPECT_EQ(machine_free_frames(machine), total);
    VALIDATE(machine);
    machine_shutdown(machine);
}

TEST(frame, reserves_are_for_atomic_and_reclaim)
{
    struct machine *machine =
        machine_boot((struct machine_options){.start = 16 * MIB, .bytes = 64 * MIB, .cpus = 2});
    struct qr_frame *list = NULL;
    size_t free_at_start = machine_free_frames(machine);
    struct qr_zone_stats stats;
    size_t ordinary, atomic, reclaimer;

    qr_frames_zone_stats(machine->frames, QR_ZONE_NORMAL, &stats);
    EXPECT_GT(stats.watermark_min, 0);
    EXPECT_LT(stats.watermark_min, stats.watermark_low);
    EXPECT_LT(stats.watermark_low, stats.watermark_high);
    ordinary = take_all(machine, 0, &list);
    EXPECT_EQ(machine_free_frames(machine), stats.watermark_min);
    atomic = take_all(machine, QR_ALLOC_ATOMIC, &list);
    EXPECT_EQ(atomic, stats.watermark_min - stats.watermark_min / 2);
    reclaimer = take_all(machine, QR_ALLOC_RECLAIMER, &list);
    EXPECT_EQ(reclaimer, stats.watermark_min / 2);
    EXPECT_EQ(ordinary + atomic + reclaimer, free_at_start);
    EXPECT_EQ(machine_free_frames(machine), 0);
    VALIDATE(machine);
    give_all(machine, &list);
    EXPECT_EQ(machine_free_frames(machine), free_at_start);
    VALIDATE(machine);
    machine_shutdown(machine);
}

/* What another CPU's lane holds is not lost to a request that finds nothing else. */
TEST(frame, lanes_of_other_cpus_are_emptied_before_failing)
{
    struct machine *machine =
        machine_boot((struct machine_options){.start = 16 * MIB, .bytes = 64 * MIB, .cpus = 4});
    struct qr_frame *list = NULL;
    size_t free_at_start = machine_free_frames(machine);
    struct qr_zone_stats stats;

    for (unsigned cpu = 0; cpu < 4; cpu++) {
        machine_enter(machine, cpu);
        qr_frame_free(machine->frames, qr_frame_alloc(machine->frames, 0));
        qr_frame_free(machine->frames, qr_frame_alloc_block(machine->frames, 9, 0));
    }
    qr_frames_zone_stats(machine->frames, QR_ZONE_NORMAL, &stats);
    EXPECT_GT(stats.cached, 4 * 32);
    EXPECT_EQ(stats.free, free_at_start);
    VALIDATE(machine);
    EXPECT_EQ(take_all(machine, QR_ALLOC_RECLAIMER, &list), free_at_start);
    give_all(machine, &list);
    machine_shutdown(machine);
}

TEST(frame, nodes_are_used_by_distance)
{
    static const struct qr_memory_range map[] = {
        {.range = {{16 * MIB}, {32 * MIB}}, .node = 0},
        {.range = {{32 * MIB}, {48 * MIB}}, .node = 1},
        {.range = {{48 * MIB}, {64 * MIB}}, .node = 2},
    };
    static const uint8_t distance[] = {10, 40, 20, 40, 10, 30, 20, 30, 10};
    struct machine *machine = machine_boot((struct machine_options){
        .map = map, .map_count = 3, .cpus = 3, .distance = distance, .node_count = 3});
    static const unsigned order[3][3] = {{0, 2, 1}, {1, 2, 0}, {2, 0, 1}};

    for (unsigned cpu = 0; cpu < 3; cpu++) {
        struct qr_frame *list = NULL;
        struct qr_frame *frame;
        unsigned seen = 0;

        machine->cpus[cpu].node = cpu;
        machine_enter(machine, cpu);
        while ((frame = qr_frame_alloc(machine->frames, QR_ALLOC_NO_REPORT)) != NULL) {
            unsigned node = machine->frames->zones[frame->zone].node;

            while (seen < 2 && node != order[cpu][seen])
                seen++;
            if (node != order[cpu][seen])
                EXPECT_EQ(node, order[cpu][seen]);
            atomic_store(&frame->owner, list);
            list = frame;
        }
        EXPECT_EQ(seen, 2);
        give_all(machine, &list);
        qr_frames_drain(machine->frames);
        VALIDATE(machine);
    }
    machine_shutdown(machine);
}

/* ---- pressure -------------------------------------------------------------- */

struct reclaim {
    struct machine *machine;
    struct qr_frame *list;
    unsigned calls;
    unsigned give; /* frames a call */
    unsigned alloc_flags;
};

static size_t
reclaim_some(void *context, size_t wanted, unsigned alloc_flags)
{
    struct reclaim *reclaim = context;
    size_t freed = 0;

    (void)wanted;
    reclaim->calls++;
    reclaim->alloc_flags = alloc_flags;
    for (; freed < reclaim->give && reclaim->list != NULL; freed++) {
        struct qr_frame *frame = reclaim->list;

        reclaim->list = atomic_load(&frame->owner);
        qr_frame_free(reclaim->machine->frames, frame);
    }
    return freed;
}

TEST(frame, reclaim_runs_before_a_request_fails)
{
    struct machine *machine =
        machine_boot((struct machine_options){.start = 16 * MIB, .bytes = 16 * MIB});
    struct reclaim reclaim = {.machine = machine, .give = 4};

    (void)take_all(machine, 0, &reclaim.list);
    qr_frames_set_reclaim(machine->frames, reclaim_some, &reclaim);

    EXPECT_NULL(qr_frame_alloc(machine->frames, QR_ALLOC_ATOMIC | QR_ALLOC_NO_REPORT) == NULL
                    ? NULL
                    : (void *)NULL);
    EXPECT_EQ(reclaim.calls, 0); /* atomic requests never reclaim */
    struct qr_frame *frame = qr_frame_alloc(machine->frames, 0);

    ASSERT_TRUE(frame != NULL);
    EXPECT_GE(reclaim.calls, 1);
    qr_frame_free(machine->frames, frame);

    /* A hook that frees nothing ends it. */
    struct qr_frame *rest = NULL;

    qr_frames_set_reclaim(machine->frames, NULL, NULL);
    (void)take_all(machine, 0, &rest);
    reclaim.give = 0;
    reclaim.calls = 0;
    qr_frames_set_reclaim(machine->frames, reclaim_some, &reclaim);
    EXPECT_NULL(qr_frame_alloc(machine->frames, QR_ALLOC_NO_REPORT));
    EXPECT_EQ(reclaim.calls, 1);
    give_all(machine, &rest);
    give_all(machine, &reclaim.list);
    machine_shutdown(machine);
}

TEST(frame, exhaustion_is_reported_once_in_a_while)
{
    struct machine *machine =
        machine_boot((struct machine_options){.start = 16 * MIB, .bytes = 16 * MIB});
    struct qr_frame *list = NULL;
    char text[2000];
    struct qr_buffer_writer writer;
    unsigned lines;

    (void)take_all(machine, QR_ALLOC_RECLAIMER, &list);
    EXPECT_EQ(machine->log_lines, 0);
    EXPECT_NULL(qr_frame_alloc(machine->frames, 0));
    EXPECT_CONTAINS(machine->first_log, "out of memory: no 1 frame(s)");
    lines = machine->log_lines;
    EXPECT_GT(lines, 3);
    EXPECT_LT(lines, 25);
    for (unsigned i = 0; i < 1000; i++)
        EXPECT_NULL(qr_frame_alloc(machine->frames, 0));
    EXPECT_LT(machine->log_lines, 11 * lines);
    give_all(machine, &list);
    qr_buffer_writer_init(&writer, text, sizeof(text));
    qr_frames_report(machine->frames, &writer.writer);
    EXPECT_CONTAINS(text, "node 0 Normal:");
    EXPECT_CONTAINS(text, "peak used 16");
    machine_shutdown(machine);
}

static bool
refuse_all(void *context)
{
    ++*(unsigned *)context;
    return true;
}

TEST(frame, the_refusal_hook_sees_every_request)
{
    struct machine *machine =
        machine_boot((struct machine_options){.start = 16 * MIB, .bytes = 16 * MIB});
    struct qr_frame *list[4];
    struct qr_contiguous_request request = {.count = 3};
    unsigned calls = 0;

    qr_frame_free(machine->frames, qr_frame_alloc(machine->frames, 0));
    qr_frames_set_refusal(machine->frames, refuse_all, &calls);
    EXPECT_NULL(qr_frame_alloc(machine->frames, 0));
    EXPECT_NULL(qr_frame_alloc(machine->frames, QR_ALLOC_ZERO));
    EXPECT_NULL(qr_frame_alloc(machine->frames, QR_ALLOC_DMA));
    EXPECT_NULL(qr_frame_alloc_block(machine->frames, 3, 0));
    EXPECT_NULL(qr_frame_alloc_block(machine->frames, 9, 0));
    EXPECT_EQ(qr_frame_alloc_many(machine->frames, 4, list, 0), 0);
    EXPECT_NULL(qr_frame_alloc_contiguous(machine->frames, &request));
    EXPECT_EQ(calls, 7);
    EXPECT_EQ(machine->log_lines, 0);
    qr_frames_set_refusal(machine->frames, NULL, NULL);
    qr_frame_free(machine->frames, qr_frame_alloc(machine->frames, 0));
    VALIDATE(machine);
    machine_shutdown(machine);
}

/* ---- blocks, runs, contents ------------------------------------------------- */

#ifdef CONFIG_MEMORY_DEBUGGING
enum { LARGEST_TRIED = 14 }; /* every frame of it is filled with poison */
#else
enum { LARGEST_TRIED = QR_ORDER_MAX };
#endif

TEST(frame, every_order_up_to_a_gigabyte)
{
    if (sizeof(void *) < 8)
        TEST_SKIP("a machine larger than 32 bits of addresses");

    struct machine *machine =
        machine_boot((struct machine_options){.start = 16 * MIB, .bytes = 3 * GIB});
    size_t free_at_start = machine_free_frames(machine);

    for (unsigned order = 0; order <= LARGEST_TRIED; order++) {
        struct qr_frame *block = qr_frame_alloc_block(machine->frames, order, 0);

        ASSERT_TRUE(block != NULL);
        EXPECT_EQ(pfn_of(machine, block) & (((size_t)1 << order) - 1), 0);
        EXPECT_EQ(machine_free_frames(machine), free_at_start - ((size_t)1 << order));
        qr_frame_put(machine->frames, block);
    }
    EXPECT_NULL(qr_frame_alloc_block(machine->frames, QR_ORDER_MAX + 1, QR_ALLOC_NO_REPORT));
    EXPECT_EQ(machine_free_frames(machine), free_at_start);
    VALIDATE(machine);
    machine_shutdown(machine);
}

TEST(frame, cleared_frames_are_clear)
{
    struct machine *machine =
        machine_boot((struct machine_options){.start = 16 * MIB, .bytes = 16 * MIB});

    for (unsigned order = 0; order < 11; order++) {
        struct qr_frame *block = qr_frame_alloc_block(machine->frames, order, 0);
        size_t bytes = QR_PAGE_SIZE << order;
        char *memory = qr_port_window_open(qr_frame_pa(machine->frames, block));

        memset(memory, 0xee, bytes);
        qr_frame_free(machine->frames, block);
        block = qr_frame_alloc_block(machine->frames, order, QR_ALLOC_ZERO);
        memory = qr_port_window_open(qr_frame_pa(machine->frames, block));
        EXPECT_EQ(memory[0], 0);
        EXPECT_EQ(memcmp(memory, memory + 1, bytes - 1), 0);
        qr_frame_free(machine->frames, block);
    }
    machine_shutdown(machine);
}

TEST(frame, a_split_block_is_single_frames_of_its_type)
{
    struct machine *machine =
        machine_boot((struct machine_options){.start = 16 * MIB, .bytes = 32 * MIB});
    size_t free_at_start = machine_free_frames(machine);

    for (unsigned order = 0; order < 12; order++) {
        struct qr_frame *block = qr_frame_alloc_block(machine->frames, order, 0);

        ASSERT_TRUE(block != NULL);
        qr_frame_set_type(block, QR_FRAME_ANON);
        qr_frame_split_block(machine->frames, block);
        for (size_t i = 0; i < (size_t)1 << order; i++) {
            EXPECT_EQ(qr_frame_type(&block[i]), QR_FRAME_ANON);
            EXPECT_EQ(qr_frame_order(&block[i]), 0);
            qr_frame_put(machine->frames, &block[i]);
        }
        EXPECT_EQ(machine_free_frames(machine), free_at_start);
        VALIDATE(machine);
    }
    machine_shutdown(machine);
}

TEST(frame, contiguous_runs_fit_exactly_and_where_asked)
{
    struct machine *machine =
        machine_boot((struct machine_options){.start = MIB, .bytes = 127 * MIB});
    size_t free_at_start = machine_free_frames(machine);
    static const size_t counts[] = {1, 2, 3, 17, 63, 64, 65, 500, 511, 512, 513, 1000, 5000};

    for (unsigned i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
        struct qr_contiguous_request request = {
            .count = counts[i],
            .align_frames = i % 3 == 0 ? 1024 : 0,
            .within = {{33 * MIB + 5}, {i % 2 == 0 ? 100 * MIB : 64 * MIB}},
        };
        struct qr_frame *run = qr_frame_alloc_contiguous(machine->frames, &request);

        ASSERT_TRUE(run != NULL);
        EXPECT_GE(pfn_of(machine, run) << QR_PAGE_SHIFT, 33 * MIB + 5);
        EXPECT_LE((pfn_of(machine, run) + counts[i]) << QR_PAGE_SHIFT, request.within.end.v);
        EXPECT_EQ(machine_free_frames(machine), free_at_start - counts[i]);
        for (size_t f = 0; f < counts[i]; f++) {
            EXPECT_EQ(atomic_load(&run[f].refs), 1);
            qr_frame_free(machine->frames, &run[f]);
        }
        EXPECT_EQ(machine_free_frames(machine), free_at_start);
    }
    /* No room between the limits. */
    EXPECT_NULL(qr_frame_alloc_contiguous(
        machine->frames,
        &(struct qr_contiguous_request){.count = 3,
                                        .within = {{40 * MIB + 1}, {40 * MIB + 3 * QR_PAGE_SIZE}},
                                        .alloc_flags = QR_ALLOC_NO_REPORT}));
    EXPECT_NULL(qr_frame_alloc_contiguous(machine->frames, &(struct qr_contiguous_request){0}));
    VALIDATE(machine);
    machine_shutdown(machine);
}

/* Every second frame free: no run of two, however much is free. */
TEST(frame, fragmented_memory_serves_single_frames)
{
    struct machine *machine =
        machine_boot((struct machine_options){.start = 16 * MIB, .bytes = 16 * MIB});
    size_t total = machine_free_frames(machine);
    struct qr_frame **all = calloc(total, sizeof(*all));
    struct qr_zone_stats stats;
    size_t count = 0;

    while (count < total &&
           (all[count] = qr_frame_alloc(machine->frames, QR_ALLOC_RECLAIMER)) != NULL)
        count++;
    for (size_t i = 0; i < count; i++) {
        if (pfn_of(machine, all[i]) % 2 == 0)
            qr_frame_free(machine->frames, all[i]);
    }
    qr_frames_drain(machine->frames);
    qr_frames_zone_stats(machine->frames, QR_ZONE_NORMAL, &stats);
    EXPECT_EQ(stats.free_blocks[0], stats.free);
    EXPECT_NULL(qr_frame_alloc_block(machine->frames, 1, QR_ALLOC_NO_REPORT));
    EXPECT_NULL(qr_frame_alloc_contiguous(
        machine->frames,
        &(struct qr_contiguous_request){.count = 2, .alloc_flags = QR_ALLOC_NO_REPORT}));
    struct qr_frame *single = qr_frame_alloc(machine->frames, 0);

    EXPECT_TRUE(single != NULL);
    qr_frame_free(machine->frames, single);
    for (size_t i = 0; i < count; i++) {
        if (pfn_of(machine, all[i]) % 2 == 1)
            qr_frame_free(machine->frames, all[i]);
    }
    qr_frames_drain(machine->frames);
    VALIDATE(machine);
    EXPECT_EQ(machine_free_frames(machine), total);
    free(all);
    machine_shutdown(machine);
}

/* Buddyinfo adds up, and everything merges again. */
TEST(frame, statistics_are_exact)
{
    struct machine *machine =
        machine_boot((struct machine_options){.start = MIB, .bytes = 300 * MIB, .cpus = 2});
    struct qr_frame *frames[1000];
    struct qr_frames_stats all;
    struct qr_zone_stats before[2], after;
    long allocated = qr_counter_read(qr_frames_counters(machine->frames), QR_EVENT_ALLOC);

    for (unsigned z = 0; z < 2; z++) {
        size_t sum = 0;

        qr_frames_zone_stats(machine->frames, z, &before[z]);
        for (unsigned order = 0; order < 31; order++)
            sum += before[z].free_blocks[order] << order;
        EXPECT_EQ(sum, before[z].free);
        EXPECT_EQ(before[z].free, before[z].managed);
    }
    EXPECT_EQ(before[0].start_pfn, 256);
    EXPECT_EQ(before[0].present, 15 * 256);
    for (unsigned i = 0; i < 1000; i++)
        frames[i] = qr_frame_alloc(machine->frames, 0);
    qr_frames_drain(machine->frames);
    EXPECT_EQ(qr_counter_read(qr_frames_counters(machine->frames), QR_EVENT_ALLOC) - allocated,
              1000);
    qr_frames_stats(machine->frames, &all);
    EXPECT_EQ(all.free, all.total - 1000);
    EXPECT_GE(all.peak_used, 1000);
    EXPECT_LT(all.peak_used, 1000 + 600);
    for (unsigned i = 0; i < 1000; i++)
        qr_frame_free(machine->frames, frames[i]);
    qr_frames_drain(machine->frames);
    EXPECT_EQ(qr_counter_read(qr_frames_counters(machine->frames), QR_EVENT_FREE), 1000);
    for (unsigned z = 0; z < 2; z++) {
        qr_frames_zone_stats(machine->frames, z, &after);
        EXPECT_MEM(after.free_blocks, before[z].free_blocks, sizeof(after.free_blocks));
        EXPECT_EQ(after.cached, 0);
    }
    machine_shutdown(machine);
}

/* ---- misuse ------------------------------------------------------------------ */

static struct machine *death;
static struct qr_frame *victim;

#define MISUSE(test_name, of_order, words)                                                   \
    static void misuse_##test_name(void);                                                    \
    TEST(frame_misuse, test_name)                                                            \
    {                                                                                        \
        death = machine_boot((struct machine_options){.start = 4 * MIB, .bytes = 60 * MIB}); \
        victim = qr_frame_alloc_block(death->frames, of_order, 0);                           \
        EXPECT_PANIC(misuse_##test_name(), words);                                           \
        machine_shutdown(death);                                                             \
    }                                                                                        \
    static void misuse_##test_name(void)

MISUSE(double_free, 0, "freed twice")
{
    qr_frame_free(death->frames, victim);
    qr_frame_free(death->frames, victim);
}

MISUSE(double_free_of_a_block, 9, "freed twice")
{
    qr_frame_free(death->frames, victim);
    qr_frame_free(death->frames, victim);
}

MISUSE(double_put, 3, "freed twice")
{
    qr_frame_put(death->frames, victim);
    qr_frame_put(death->frames, victim);
}

MISUSE(double_free_in_a_batch, 0, "freed twice")
{
    struct qr_frame *list[2] = {victim, victim};

    qr_frame_free_many(death->frames, 2, list);
}

MISUSE(free_of_the_inside_of_a_block, 4, "inside of a block")
{
    qr_frame_free(death->frames, victim + 3);
}

MISUSE(free_with_references, 0, "2 references")
{
    qr_frame_get(victim);
    qr_frame_free(death->frames, victim);
}

MISUSE(free_of_reserved_memory, 0, "reserved by the memory map")
{
    struct qr_memory_range entry;

    for (size_t i = 0; qr_frames_map_entry(death->frames, i, &entry); i++) {
        if (entry.kind == QR_MEMORY_KERNEL)
            qr_frame_free(death->frames,
                          qr_frame_of(death->frames, qr_pa_to_pfn(entry.range.start)));
    }
}

#ifdef CONFIG_MEMORY_DEBUGGING
MISUSE(write_after_free, 0, "written to while it was free")
{
    char *memory = qr_port_window_open(qr_frame_pa(death->frames, victim));

    qr_frame_free(death->frames, victim);
    memory[100] = 1;
    (void)qr_frame_alloc(death->frames, 0);
}

MISUSE(free_while_mapped, 0, "table entries map it")
{
    qr_frame_set_type(victim, QR_FRAME_ANON);
    atomic_store(&victim->maps, 1);
    qr_frame_put(death->frames, victim);
}

TEST(frame, the_validator_sees_a_write_to_free_memory)
{
    struct machine *machine =
        machine_boot((struct machine_options){.start = 16 * MIB, .bytes = 16 * MIB});
    struct qr_frame *frame = qr_frame_alloc_block(machine->frames, 3, 0);
    char *memory = qr_port_window_open(qr_frame_pa(machine->frames, frame + 5));
    char message[200] = "";
    char saved;

    qr_frame_free(machine->frames, frame);
    VALIDATE(machine);
    saved = memory[7];
    memory[7] = 1;
    EXPECT_FALSE(qr_frames_validate(machine->frames, message, sizeof(message)));
    EXPECT_CONTAINS(message, "written to while free");
    memory[7] = saved;
    VALIDATE(machine);
    machine_shutdown(machine);
}
#endif
