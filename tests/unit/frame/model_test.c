/* SPDX-License-Identifier: MIT */
/*
 * The allocator beside a naive model: one byte a frame says whether somebody has
 * it.  Random requests of every kind run on machines of several shapes, at every
 * occupancy, with refusals; every frame that comes out must be unowned, whole,
 * aligned and in range, and in the end every frame must be back.
 */
#include "harness.h"
#include "test_port.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { HELD_MAX = 1 << 15 };
#ifdef CONFIG_MEMORY_DEBUGGING
enum { STEPS = 40000, LARGEST = 11 };
#else
enum { STEPS = 800000, LARGEST = QR_ORDER_MAX };
#endif

struct held {
    struct qr_frame *frame;
    unsigned order;
};

struct model {
    struct machine *machine;
    unsigned char *owned; /* by frame number */
    size_t frame_limit;
    struct held *held;
    size_t held_count;
    size_t frames_held;
    uint64_t random;
    unsigned failures;
};

static uint64_t
draw(struct model *model, uint64_t below)
{
    return test_random(&model->random) % below;
}

static void
model_take(struct model *model, struct qr_frame *frame, unsigned order, size_t count)
{
    size_t pfn = qr_frame_pfn(model->machine->frames, frame).v;

    if (pfn + count > model->frame_limit) {
        EXPECT_LT(pfn + count, model->frame_limit);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        if (model->owned[pfn + i]) {
            EXPECT_EQ(pfn + i, 0); /* given out twice: shows which */
            return;
        }
        model->owned[pfn + i] = 1;
    }
    model->held[model->held_count++] = (struct held){frame, order};
    model->frames_held += count;
    if (qr_frame_type(frame) != QR_FRAME_KERNEL || atomic_load(&frame->refs) != 1)
        EXPECT_EQ(qr_frame_type(frame), QR_FRAME_KERNEL);
}

static void
model_alloc(struct model *model, unsigned order, unsigned flags)
{
    struct qr_frame *frame = qr_frame_alloc_block(model->machine->frames, order, flags);

    if (frame == NULL) {
        model->failures++;
        return;
    }
    size_t pfn = qr_frame_pfn(model->machine->frames, frame).v;

    if ((pfn & (((size_t)1 << order) - 1)) != 0)
        EXPECT_EQ(pfn & (((size_t)1 << order) - 1), 0);
    if ((flags & QR_ALLOC_DMA) && (pfn + ((size_t)1 << order)) * QR_PAGE_SIZE > 16 * MIB)
        EXPECT_LE(pfn * QR_PAGE_SIZE, 16 * MIB);
    model_take(model, frame, order, (size_t)1 << order);
}

static void
model_alloc_many(struct model *model)
{
    struct qr_frame *out[200];
    size_t count = 1 + draw(model, 200);
    size_t got = qr_frame_alloc_many(model->machine->frames, count, out, QR_ALLOC_NO_REPORT);

    EXPECT_LE(got, count);
    for (size_t i = 0; i < got; i++)
        model_take(model, out[i], 0, 1);
}

static void
model_alloc_contiguous(struct model *model)
{
    size_t limit = model->frame_limit * QR_PAGE_SIZE;
    uint64_t low = draw(model, limit);
    bool window = draw(model, 2) == 0;
    struct qr_contiguous_request request = {
        .count = draw(model, 8) == 0 ? 1 + draw(model, 1500) : 1 + draw(model, 40),
        .align_frames = (size_t)1 << draw(model, 8),
        .alloc_flags = QR_ALLOC_NO_REPORT,
    };

    if (window) {
        request.within.start = qr_pa_of(low);
        request.within.end = qr_pa_of(low + draw(model, limit - low));
    }
    struct qr_frame *head = qr_frame_alloc_contiguous(model->machine->frames, &request);

    if (head == NULL)
        return;
    size_t pfn = qr_frame_pfn(model->machine->frames, head).v;

    EXPECT_EQ(pfn & (request.align_frames - 1), 0);
    if (window && request.within.end.v != request.within.start.v) {
        EXPECT_GE(pfn * QR_PAGE_SIZE, request.within.start.v);
        EXPECT_LE((pfn + request.count) * QR_PAGE_SIZE, request.within.end.v);
    }
    for (size_t i = 0; i < request.count; i++)
        model_take(model, qr_frame_of(model->machine->frames, qr_pfn_of(pfn + i)), 0, 1);
}

static struct held
model_release(struct model *model, size_t at)
{
    struct held held = model->held[at];
    size_t pfn = qr_frame_pfn(model->machine->frames, held.frame).v;

    memset(&model->owned[pfn], 0, (size_t)1 << held.order);
    model->held[at] = model->held[--model->held_count];
    model->frames_held -= (size_t)1 << held.order;
    return held;
}

static void
model_free(struct model *model)
{
    if (model->held_count == 0)
        return;
    struct held held = model_release(model, draw(model, model->held_count));

    if (draw(model, 2) == 0) {
        qr_frame_free(model->machine->frames, held.frame);
    } else {
        qr_frame_get(held.frame);
        qr_frame_put(model->machine->frames, held.frame);
        qr_frame_put(model->machine->frames, held.frame);
    }
}

static void
model_free_many(struct model *model)
{
    struct qr_frame *list[200];
    size_t count = 0;

    while (count < 200 && model->held_count > 0)
        list[count++] = model_release(model, model->held_count - 1).frame;
    qr_frame_free_many(model->machine->frames, count, list);
}

static void
model_split(struct model *model)
{
    if (model->held_count == 0)
        return;
    struct held held = model->held[draw(model, model->held_count)];
    size_t pfn = qr_frame_pfn(model->machine->frames, held.frame).v;

    if (held.order == 0 || model->held_count + ((size_t)1 << held.order) >= HELD_MAX)
        return;
    for (size_t i = 0; i < model->held_count; i++) {
        if (model->held[i].frame == held.frame)
            model->held[i].order = 0;
    }
    qr_frame_split_block(model->machine->frames, held.frame);
    for (size_t i = 1; i < (size_t)1 << held.order; i++)
        model->held[model->held_count++] =
            (struct held){qr_frame_of(model->machine->frames, qr_pfn_of(pfn + i)), 0};
}

static void
model_step(struct model *model, size_t target)
{
    static const unsigned flags[] = {
        0, 0, 0, QR_ALLOC_ATOMIC, QR_ALLOC_DMA, QR_ALLOC_HIGH, QR_ALLOC_RECLAIMER, QR_ALLOC_ZERO};
    bool grow = model->held_count + 2048 < HELD_MAX &&
                draw(model, 100) < (model->frames_held < target ? 60u : 40u);
    unsigned flag = flags[draw(model, 8)] | QR_ALLOC_NO_REPORT;
    uint64_t what = draw(model, 1000);

    if (what == 0)
        qr_frames_drain(model->machine->frames);
    else if (what < 4)
        model_split(model);
    else if (what < 14)
        grow ? model_alloc_many(model) : model_free_many(model);
    else if (what < 24 && grow)
        model_alloc_contiguous(model);
    else if (what < 100 && grow)
        model_alloc(model, (unsigned)draw(model, 9), flag);
    else if (what < 104 && grow) /* where they are not touched, they need no memory here */
        model_alloc(model, 9 + (unsigned)draw(model, LARGEST - 8), flag & ~(unsigned)QR_ALLOC_ZERO);
    else if (what < 110)
        machine_enter(model->machine, (unsigned)draw(model, model->machine->cpu_count));
    else if (grow)
        model_alloc(model, 0, flag);
    else
        model_free(model);
}

static bool
refuse_some(void *context)
{
    return test_random(context) % 10 == 0;
}

static void
model_run(uint64_t seed, struct machine_options options, unsigned steps, bool refuse)
{
    struct model model = {.random = seed, .machine = machine_boot(options)};
    struct qr_frames_stats stats;
    size_t free_at_start = machine_free_frames(model.machine);
    uint64_t refusals = seed;

    qr_frames_stats(model.machine->frames, &stats);
    EXPECT_EQ(stats.free, stats.total);
    model.frame_limit = model.machine->ram_bytes / QR_PAGE_SIZE;
    model.owned = calloc(1, model.frame_limit);
    model.held = calloc(HELD_MAX, sizeof(*model.held));
    VALIDATE(model.machine);
    if (refuse)
        qr_frames_set_refusal(model.machine->frames, refuse_some, &refusals);

    for (unsigned phase = 0; phase < 8; phase++) {
        static const unsigned percent[] = {10, 50, 90, 99, 100, 120, 30, 0};
        size_t target = free_at_start * percent[phase] / 100;

        for (unsigned i = 0; i < steps / 8; i++) {
            model_step(&model, target);
            if (i % 4096 == 0) {
                VALIDATE(model.machine);
                EXPECT_EQ(machine_free_frames(model.machine) + model.frames_held, free_at_start);
            }
        }
    }
    qr_frames_set_refusal(model.machine->frames, NULL, NULL);
    while (model.held_count > 0)
        model_free(&model);
    EXPECT_EQ(machine_free_frames(model.machine), free_at_start);
    qr_frames_drain(model.machine->frames);
    VALIDATE(model.machine);
    EXPECT_EQ(machine_free_frames(model.machine), free_at_start);
    free(model.owned);
    free(model.held);
    machine_shutdown(model.machine);
}

TEST(frame_model, a_machine_of_64_mib)
{
    model_run(test_seed(),
              (struct machine_options){.start = 16 * MIB, .bytes = 64 * MIB, .cpus = 4}, STEPS,
              false);
}

TEST(frame_model, a_machine_of_64_frames)
{
    model_run(test_seed(),
              (struct machine_options){.start = 16 * MIB, .bytes = 64 * QR_PAGE_SIZE, .cpus = 2},
              STEPS / 4, false);
}

TEST(frame_model, memory_below_and_above_16_mib)
{
    model_run(test_seed(), (struct machine_options){.start = 1 * MIB, .bytes = 39 * MIB, .cpus = 2},
              STEPS, false);
}

TEST(frame_model, high_memory)
{
    model_run(test_seed(),
              (struct machine_options){
                  .start = 1 * MIB, .bytes = 95 * MIB, .direct_limit = 48 * MIB, .cpus = 3},
              STEPS / 2, false);
}

TEST(frame_model, holes_and_nodes)
{
    static const struct qr_memory_range map[] = {
        {.range = {{0}, {0x9fc00}}, .node = 0},
        {.range = {{1 * MIB}, {30 * MIB + 0x5000}}, .node = 0},
        {.range = {{20 * MIB}, {20 * MIB + 0x123456}}, .kind = QR_MEMORY_KERNEL, .node = 0},
        {.range = {{40 * MIB - 0x3000}, {60 * MIB}}, .node = 1},
        {.range = {{61 * MIB}, {61 * MIB + 0x7000}}, .kind = QR_MEMORY_ACPI, .node = 1},
        {.range = {{130 * MIB}, {150 * MIB}}, .node = 2},
    };

    model_run(test_seed(), (struct machine_options){.map = map, .map_count = 6, .cpus = 4},
              STEPS / 2, false);
}

/* Up to 1 GiB in one piece; filling that with a pattern would take too long. */
TEST(frame_model, every_order)
{
#ifdef CONFIG_MEMORY_DEBUGGING
    TEST_SKIP("free memory is filled");
#endif
    if (sizeof(void *) < 8)
        TEST_SKIP("too large for a 32-bit host");
    model_run(test_seed(),
              (struct machine_options){.start = 16 * MIB, .bytes = 3072 * MIB, .cpus = 4},
              STEPS / 4, false);
}

TEST(frame_model, with_refusals)
{
    model_run(test_seed(), (struct machine_options){.start = 8 * MIB, .bytes = 40 * MIB, .cpus = 4},
              STEPS / 4, true);
}

/* Nothing unless FRAME_SECONDS says for how long: machines of every shape, one after another. */
TEST(frame_model, soak)
{
    static const struct machine_options shapes[] = {
        {.start = 16 * MIB, .bytes = 64 * MIB, .cpus = 4},
        {.start = 16 * MIB, .bytes = 64 * QR_PAGE_SIZE, .cpus = 2},
        {.start = 1 * MIB, .bytes = 39 * MIB, .cpus = 2},
        {.start = 1 * MIB, .bytes = 95 * MIB, .direct_limit = 48 * MIB, .cpus = 3},
        {.start = 100 * MIB, .bytes = 512 * MIB, .cpus = 8},
    };
    const char *seconds = getenv("FRAME_SECONDS");
    time_t end = time(NULL) + (seconds == NULL ? 0 : atol(seconds));
    unsigned round = 0;

    if (seconds == NULL)
        TEST_SKIP("FRAME_SECONDS is not set");
    for (; time(NULL) < end; round++)
        model_run(test_seed() + round, shapes[round % QR_ARRAY_COUNT(shapes)], STEPS / 4,
                  round % 7 == 6);
    printf("  %u machines, %u steps each\n", round, (unsigned)STEPS / 4);
}
