/* SPDX-License-Identifier: MIT */
/*
 * Memory that comes and goes; machines of many sizes.
 */
#include "harness.h"
#include "test_port.h"

#include "frame/frames.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

static struct machine *
small_machine(void)
{
    if (sizeof(void *) < 8)
        TEST_SKIP("a machine larger than 32 bits of addresses");
    return machine_boot((struct machine_options){
        .start = 16 * MIB, .bytes = 48 * MIB, .cpus = 2, .hotplug_end = 4 * GIB});
}

static struct qr_memory_range
module(uint64_t start, uint64_t bytes, unsigned node)
{
    return (struct qr_memory_range){.range = {qr_pa_of(start), qr_pa_of(start + bytes)},
                                    .kind = QR_MEMORY_USABLE,
                                    .node = node};
}

enum { USER = QR_ALLOC_MOVABLE | QR_ALLOC_HIGH | QR_ALLOC_NO_REPORT };

TEST(frame_hotplug, added_memory_is_used_and_goes_again)
{
    struct machine *machine = small_machine();
    struct qr_memory_range range = module(GIB, 512 * MIB, 1);
    size_t free_before = machine_free_frames(machine);
    struct qr_frames_stats before, stats;
    struct qr_frame *list = NULL;
    struct qr_frame *frame;
    size_t count = 0;

    qr_frames_stats(machine->frames, &before);
    for (unsigned round = 0; round < 3; round++) {
        ASSERT_EQ(qr_frames_add(machine->frames, &range), QR_OK);
        VALIDATE(machine);
        EXPECT_GT(machine_free_frames(machine), free_before + 128000);
        EXPECT_TRUE(qr_frames_node_exists(machine->frames, 1));
        /* Ordinary requests stay out of it; users' fill it. */
        for (unsigned i = 0; i < 1000; i++) {
            frame = qr_frame_alloc(machine->frames, 0);
            EXPECT_LT(qr_frame_pfn(machine->frames, frame).v << QR_PAGE_SHIFT, GIB);
            atomic_store(&frame->owner, list);
            list = frame;
        }
        for (count = 0; (frame = qr_frame_alloc(machine->frames, USER)) != NULL; count++) {
            atomic_store(&frame->owner, list);
            list = frame;
        }
        EXPECT_GT(count, 120000);
        VALIDATE(machine);
        EXPECT_EQ(qr_frames_remove(machine->frames, range.range), QR_ERR_BUSY);
        VALIDATE(machine);
        while ((frame = list) != NULL) {
            list = atomic_load(&frame->owner);
            qr_frame_put(machine->frames, frame);
        }
        ASSERT_EQ(qr_frames_remove(machine->frames, range.range), QR_OK);
        VALIDATE(machine);
        EXPECT_EQ(machine_free_frames(machine), free_before);
        EXPECT_NULL(qr_frame_find(machine->frames, qr_pa_to_pfn(qr_pa_of(GIB + 256 * MIB))));
        qr_frames_stats(machine->frames, &stats);
        EXPECT_EQ(stats.total, before.total);
        EXPECT_EQ(stats.reserved, before.reserved);
        EXPECT_EQ(stats.metadata_bytes, before.metadata_bytes);
    }
    machine_shutdown(machine);
}

TEST(frame_hotplug, what_makes_no_sense_is_refused)
{
    struct machine *machine = small_machine();
    struct qr_memory_range range = module(GIB, 128 * MIB, 0);
    struct qr_memory_range odd = module(GIB + MIB, 128 * MIB, 0);
    struct qr_memory_range far = module(8 * GIB, 128 * MIB, 0);
    struct qr_memory_range low = module(0, 128 * MIB, 0);
    struct qr_memory_range strange = module(GIB, 128 * MIB, CONFIG_MAX_NODES);
    struct qr_memory_range empty = module(GIB, 0, 0);

    EXPECT_EQ(qr_frames_add(machine->frames, &odd), QR_ERR_RANGE);
    EXPECT_EQ(qr_frames_add(machine->frames, &far), QR_ERR_RANGE);
    EXPECT_EQ(qr_frames_add(machine->frames, &empty), QR_ERR_RANGE);
    EXPECT_TRUE(qr_frames_add(machine->frames, &low) != QR_OK);
    EXPECT_EQ(qr_frames_add(machine->frames, &strange), QR_ERR_INVALID);
    EXPECT_EQ(qr_frames_remove(machine->frames, range.range), QR_ERR_NOT_FOUND);
    ASSERT_EQ(qr_frames_add(machine->frames, &range), QR_OK);
    EXPECT_EQ(qr_frames_add(machine->frames, &range), QR_ERR_EXISTS);
    EXPECT_EQ(qr_frames_remove(machine->frames,
                               (struct qr_pa_range){qr_pa_of(GIB), qr_pa_of(GIB + 64 * MIB)}),
              QR_ERR_NOT_FOUND);
    VALIDATE(machine);
    EXPECT_EQ(qr_frames_remove(machine->frames, range.range), QR_OK);
    VALIDATE(machine);
    machine_shutdown(machine);
}

/* As many ranges as there may be, and one more; all of them go again in another order. */
TEST(frame_hotplug, many_modules)
{
    struct machine *machine = small_machine();
    size_t free_before = machine_free_frames(machine);
    unsigned added = 0;

    for (unsigned i = 0; i < QR_ADDITIONS; i++) {
        struct qr_memory_range range = module((8 + i) * 128 * MIB, 128 * MIB, i % 3);

        if (range.range.end.v <= 4 * GIB && qr_frames_add(machine->frames, &range) == QR_OK)
            added++;
    }
    EXPECT_EQ(added, 24);
    VALIDATE(machine);
    for (unsigned i = 0; i < added; i++) {
        unsigned k = i * 7 % added;
        struct qr_memory_range range = module((8 + k) * 128 * MIB, 128 * MIB, 0);

        EXPECT_EQ(qr_frames_remove(machine->frames, range.range), QR_OK);
    }
    VALIDATE(machine);
    EXPECT_EQ(machine_free_frames(machine), free_before);
    machine_shutdown(machine);
}

/* Persistent memory is in the map, at start or later, and nowhere else. */
TEST(frame_hotplug, persistent_memory_is_noted_and_never_given_out)
{
    static const struct qr_memory_range map[] = {
        RANGE(16 * MIB, 64 * MIB, QR_MEMORY_USABLE, "System RAM"),
        RANGE(64 * MIB, 96 * MIB, QR_MEMORY_PERSISTENT, "Persistent Memory"),
    };

    if (sizeof(void *) < 8)
        TEST_SKIP("a machine larger than 32 bits of addresses");
    struct machine *machine =
        machine_boot((struct machine_options){.map = map, .map_count = 2, .hotplug_end = 4 * GIB});
    struct qr_memory_range range = module(GIB, 128 * MIB, 0);
    struct qr_memory_range entry;
    struct qr_frame *frame;
    size_t free_before = machine_free_frames(machine);
    unsigned noted = 0;

    range.kind = QR_MEMORY_PERSISTENT;
    ASSERT_EQ(qr_frames_add(machine->frames, &range), QR_OK);
    EXPECT_EQ(machine_free_frames(machine), free_before);
    EXPECT_NULL(qr_frame_find(machine->frames, qr_pa_to_pfn(qr_pa_of(80 * MIB))));
    EXPECT_NULL(qr_frame_find(machine->frames, qr_pa_to_pfn(qr_pa_of(GIB + MIB))));
    for (size_t i = 0; qr_frames_map_entry(machine->frames, i, &entry); i++)
        noted += entry.kind == QR_MEMORY_PERSISTENT;
    EXPECT_EQ(noted, 2);
    while ((frame = qr_frame_alloc(machine->frames, USER)) != NULL)
        EXPECT_LT(qr_frame_pfn(machine->frames, frame).v << QR_PAGE_SHIFT, 64 * MIB);
    EXPECT_EQ(qr_frames_remove(machine->frames, range.range), QR_OK);
    machine_shutdown(machine);
}

/* ---- size -------------------------------------------------------------------------- */

/*
 * Start-up writes the same whatever the size: of the instance and the metadata, only so many
 * pages of the host are touched.  Sections are there when somebody asks for them.
 */
TEST(frame_scale, start_up_does_not_depend_on_size)
{
#ifdef __SANITIZE_THREAD__ /* which leaves a process fewer addresses */
    static const uint64_t sizes[] = {GIB, 64 * GIB};
#else
    static const uint64_t sizes[] = {GIB, 64 * GIB, 1024 * GIB, 16384 * GIB, 65536 * GIB};
#endif

    if (sizeof(void *) < 8)
        TEST_SKIP("a machine larger than 32 bits of addresses");

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct machine *machine =
            machine_boot((struct machine_options){.start = GIB, .bytes = sizes[i], .cpus = 2});
        struct qr_frames *frames = machine->frames;
        size_t opened = 0;

        for (uint32_t s = 0; s < frames->section_count; s++)
            opened += frames->sections[s].state == SECTION_READY;
        EXPECT_LT(opened, 4);
        struct qr_frame *last =
            qr_frame_find(frames, qr_pfn_of((GIB + sizes[i] / 2) >> QR_PAGE_SHIFT));

        ASSERT_TRUE(last != NULL);
        EXPECT_EQ(qr_frame_type(last), QR_FRAME_FREE);
        struct qr_frame *huge = qr_frame_alloc_block(frames, 18, 0);

        EXPECT_TRUE(sizes[i] == GIB || huge != NULL);
        if (huge != NULL)
            qr_frame_free(frames, huge);
        qr_frame_free(frames, qr_frame_alloc(frames, 0));
        VALIDATE(machine);
        machine_shutdown(machine);
    }
}
