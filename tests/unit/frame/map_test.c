/* SPDX-License-Identifier: MIT */
/*
 * Memory maps as loaders hand them over: what the sweep makes of them, and that no map
 * whatever stops the allocator from starting or makes it give out what it may not.
 */
#include "frame/frames.h"
#include "harness.h"
#include "test_port.h"

#include <quire/writer.h>

#include <stdlib.h>
#include <string.h>

enum { MAP_MAX = 64 };

/* "start-end kind" in pages, one piece after the other. */
static const char *
map_text(const struct qr_memory_range *in, size_t count, uint64_t limit, char text[512])
{
    static const char *const kinds[] = {"usable", "reserved", "acpi",       "mmio",
                                        "kernel", "boot",     "persistent", "bad"};
    struct qr_memory_range out[MAP_MAX];
    size_t dropped;
    size_t pieces = qr_map_sanitise(in, count, limit, out, MAP_MAX, &dropped);
    size_t used = 0;

    text[0] = '\0';
    for (size_t i = 0; i < pieces; i++)
        used += qr_format(text + used, 512 - used, "%s%lx-%lx %s", i == 0 ? "" : ", ",
                          (unsigned long)(out[i].range.start.v >> QR_PAGE_SHIFT),
                          (unsigned long)(out[i].range.end.v >> QR_PAGE_SHIFT), kinds[out[i].kind]);
    return text;
}

#define P(pages) ((uint64_t)(pages) << QR_PAGE_SHIFT)

TEST(frame_map, tables)
{
    static const struct {
        const char *what;
        struct qr_memory_range in[6];
        size_t count;
        uint64_t limit;
        const char *out;
    } rows[] = {
        {"nothing", {{.kind = QR_MEMORY_USABLE}}, 0, 0, ""},
        {"empty entry", {RANGE(P(4), P(4), QR_MEMORY_USABLE, 0)}, 1, 0, ""},
        {"wrapping entry", {RANGE(P(9), P(4), QR_MEMORY_USABLE, 0)}, 1, 0, ""},
        {"unsorted",
         {RANGE(P(20), P(30), QR_MEMORY_USABLE, 0), RANGE(P(1), P(2), QR_MEMORY_ACPI, 0)},
         2,
         0,
         "1-2 acpi, 14-1e usable"},
        {"reserved in the middle",
         {RANGE(P(0), P(16), QR_MEMORY_USABLE, 0), RANGE(P(4), P(6), QR_MEMORY_RESERVED, 0)},
         2,
         0,
         "0-4 usable, 4-6 reserved, 6-10 usable"},
        {"usable shrinks, reserved grows",
         {RANGE(0x800, P(3) + 0x10, QR_MEMORY_USABLE, 0),
          RANGE(P(1) + 0xff0, P(2) + 1, QR_MEMORY_RESERVED, 0)},
         2,
         0,
         "1-3 reserved"},
        {"less than a page", {RANGE(0x10, 0xff0, QR_MEMORY_USABLE, 0)}, 1, 0, ""},
        {"the more restrictive wins, in any order",
         {RANGE(P(0), P(4), QR_MEMORY_MMIO, 0), RANGE(P(2), P(6), QR_MEMORY_USABLE, 0),
          RANGE(P(3), P(8), QR_MEMORY_KERNEL, 0), RANGE(P(7), P(9), QR_MEMORY_BAD, 0)},
         4,
         0,
         "0-4 mmio, 4-7 kernel, 7-9 bad"},
        {"duplicates",
         {RANGE(P(1), P(5), QR_MEMORY_USABLE, 0), RANGE(P(1), P(5), QR_MEMORY_USABLE, 0),
          RANGE(P(5), P(6), QR_MEMORY_USABLE, 0)},
         3,
         0,
         "1-6 usable"},
        {"beyond the limit is cut",
         {RANGE(P(1), P(50), QR_MEMORY_USABLE, 0), RANGE(P(60), P(70), QR_MEMORY_USABLE, 0)},
         2,
         P(10),
         "1-a usable"},
        {"up to the end of the address space",
         {RANGE(P(1), UINT64_MAX, QR_MEMORY_USABLE, 0)},
         1,
         P(16),
         "1-10 usable"},
        {"an unknown kind is dropped",
         {{.range = {{0}, {P(4)}}, .kind = (enum qr_memory_kind)77},
          RANGE(P(2), P(8), QR_MEMORY_USABLE, 0)},
         2,
         0,
         "2-8 usable"},
    };
    char text[512];

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        EXPECT_STR(map_text(rows[i].in, rows[i].count, rows[i].limit, text), rows[i].out);
}

/* What a page is by the definition, entry by entry. */
static int
kind_by_definition(const struct qr_memory_range *in, size_t count, uint64_t page)
{
    static const int rank[] = {0, 5, 4, 6, 3, 2, 1, 7};
    int best = -1;

    for (size_t i = 0; i < count; i++) {
        uint64_t start = in[i].range.start.v;
        uint64_t end = in[i].range.end.v;
        bool whole = start <= P(page) && end >= P(page + 1);
        bool part = start < P(page + 1) && end > P(page);

        if (start >= end || !(in[i].kind == QR_MEMORY_USABLE ? whole : part))
            continue;
        if (best < 0 || rank[in[i].kind] > rank[best])
            best = (int)in[i].kind;
    }
    return best;
}

TEST(frame_map, random_maps_match_the_definition)
{
    uint64_t random = test_seed();

    for (unsigned round = 0; round < 3000; round++) {
        enum { ENTRIES = 30, PAGES = 64 };
        struct qr_memory_range in[ENTRIES];
        struct qr_memory_range out[2 * ENTRIES + 1];
        size_t count = test_random(&random) % (ENTRIES + 1);
        size_t dropped;

        for (size_t i = 0; i < count; i++) {
            uint64_t start = test_random(&random) % P(PAGES);
            uint64_t length = test_random(&random) % P(PAGES / 4);

            if (test_random(&random) % 2 == 0) {
                start &= ~(uint64_t)QR_PAGE_MASK;
                length &= ~(uint64_t)QR_PAGE_MASK;
            }
            in[i] = (struct qr_memory_range)RANGE(
                start, test_random(&random) % 20 == 0 ? start - length : start + length,
                (enum qr_memory_kind)(test_random(&random) % 8), NULL);
        }
        size_t pieces = qr_map_sanitise(in, count, P(PAGES), out, 2 * ENTRIES + 1, &dropped);
        size_t at = 0;

        for (uint64_t page = 0; page < PAGES; page++) {
            int kind = -1;

            while (at < pieces && out[at].range.end.v <= P(page))
                at++;
            if (at < pieces && out[at].range.start.v <= P(page))
                kind = (int)out[at].kind;
            if (kind != kind_by_definition(in, count, page))
                EXPECT_EQ(kind, kind_by_definition(in, count, page));
        }
        for (size_t i = 0; i < pieces; i++) {
            EXPECT_LT(out[i].range.start.v, out[i].range.end.v);
            if (i > 0)
                EXPECT_LE(out[i - 1].range.end.v, out[i].range.start.v);
        }
    }
}

/* Whatever the map, start, use every frame, and see that none lies outside usable memory. */
static void
use_all(struct machine *machine, const struct qr_memory_range *in, size_t count)
{
    struct qr_frames_stats stats;
    struct qr_frame *frame;
    struct qr_frame *list = NULL;
    size_t taken = 0;

    VALIDATE(machine);
    qr_frames_stats(machine->frames, &stats);
    while ((frame = qr_frame_alloc(machine->frames, QR_ALLOC_RECLAIMER | QR_ALLOC_HIGH |
                                                        QR_ALLOC_NO_REPORT)) != NULL) {
        size_t pfn = qr_frame_pfn(machine->frames, frame).v;

        if (kind_by_definition(in, count, pfn) != QR_MEMORY_USABLE)
            EXPECT_EQ(pfn, SIZE_MAX);
        atomic_store(&frame->owner, list);
        list = frame;
        taken++;
    }
    EXPECT_EQ(taken, stats.total);
    while (list != NULL) {
        frame = list;
        list = atomic_load(&frame->owner);
        atomic_store(&frame->owner, NULL);
        qr_frame_free(machine->frames, frame);
    }
    qr_frames_drain(machine->frames);
    VALIDATE(machine);
    EXPECT_EQ(machine_free_frames(machine), stats.total);
}

#ifdef CONFIG_MEMORY_DEBUGGING
enum { ROUNDS = 40 }; /* every free frame is filled and checked */
#else
enum { ROUNDS = 300 };
#endif

TEST(frame_map, hostile_maps_boot_or_are_refused)
{
    uint64_t random = test_seed();
    unsigned booted = 0;

    for (unsigned round = 0; round < ROUNDS; round++) {
        struct qr_memory_range in[300];
        size_t count = 1 + test_random(&random) % (round % 10 == 0 ? 300 : 12);
        uint64_t span = 1 + test_random(&random) % (round % 3 == 0 ? 300 * MIB : 20 * MIB);
        struct machine *machine = NULL;

        for (size_t i = 0; i < count; i++) {
            uint64_t start = test_random(&random) % span;
            uint64_t length = test_random(&random) % (span / (1 + test_random(&random) % 20) + 1);
            unsigned odd = (unsigned)(test_random(&random) % 40);

            in[i] = (struct qr_memory_range)RANGE(
                start, start + length,
                test_random(&random) % 3 == 0 ? (enum qr_memory_kind)(test_random(&random) % 8)
                                              : QR_MEMORY_USABLE,
                "fuzz");
            in[i].node = odd < 3 ? odd : odd == 5 ? 4000000u : 0;
            if (odd == 0)
                in[i].range.end.v = start;
            if (odd == 1)
                in[i].range.end.v = UINT64_MAX;
            if (odd == 2)
                in[i].range.start.v = UINT64_MAX - 5;
        }
        struct machine_options options = {
            .map = in,
            .map_count = count,
            .physical_limit = 400 * MIB,
            .direct_limit = round % 4 == 0 ? 1 + test_random(&random) % span : 0,
            .cpus = 1 + round % 3,
        };
        enum qr_status status = machine_try_boot(options, &machine);

        EXPECT_TRUE(status == QR_OK || status == QR_ERR_INVALID || status == QR_ERR_NO_MEMORY);
        if (status != QR_OK)
            continue;
        booted++;
        /* What lies beyond the limit is no memory for the comparison either. */
        for (size_t i = 0; i < count; i++) {
            if (in[i].range.end.v > 400 * MIB)
                in[i].range.end.v = 400 * MIB;
        }
        if (round % 5 == 0 || span < 20 * MIB)
            use_all(machine, in, count);
        machine_shutdown(machine);
    }
    EXPECT_GT(booted, ROUNDS / 3);
}

TEST(frame_map, no_memory_is_refused)
{
    struct machine *machine = NULL;
    static const struct qr_memory_range reserved[] = {
        RANGE(0, 64 * MIB, QR_MEMORY_RESERVED, "all")};

    EXPECT_EQ(machine_try_boot((struct machine_options){.map = reserved, .map_count = 1}, &machine),
              QR_ERR_INVALID);
    EXPECT_EQ(machine_try_boot((struct machine_options){.start = MIB, .bytes = 0}, &machine),
              QR_ERR_INVALID);
    /* One page cannot hold its own descriptor and be of use. */
    EXPECT_EQ(machine_try_boot((struct machine_options){.start = MIB, .bytes = P(1)}, &machine),
              QR_ERR_NO_MEMORY);
    EXPECT_NULL(machine);
}

TEST(frame_map, descriptions_and_descriptors_are_in_the_map)
{
    static const struct qr_memory_range map[] = {
        RANGE(0, 0x9f000, QR_MEMORY_USABLE, "low memory"),
        RANGE(0xf0000, 0x100000, QR_MEMORY_RESERVED, "BIOS"),
        RANGE(MIB, 256 * MIB, QR_MEMORY_USABLE, "memory"),
        RANGE(2 * MIB, 6 * MIB, QR_MEMORY_KERNEL, "kernel image"),
        RANGE(32 * MIB, 40 * MIB, QR_MEMORY_BOOT, "initrd"),
        RANGE(255 * MIB, 256 * MIB, QR_MEMORY_ACPI, "ACPI tables"),
    };
    struct machine *machine = machine_boot((struct machine_options){.map = map, .map_count = 6});
    struct qr_memory_range entry;
    bool kernel = false, initrd = false, descriptors = false;
    uint64_t before = 0;

    for (size_t i = 0; qr_frames_map_entry(machine->frames, i, &entry); i++) {
        EXPECT_GE(entry.range.start.v, before);
        before = entry.range.end.v;
        kernel = kernel || (strcmp(entry.description, "kernel image") == 0 &&
                            entry.range.start.v == 2 * MIB && entry.range.end.v == 6 * MIB);
        initrd = initrd || strcmp(entry.description, "initrd") == 0;
        descriptors = descriptors || strcmp(entry.description, "frame descriptors") == 0;
    }
    EXPECT_TRUE(kernel && initrd && descriptors);

    EXPECT_EQ(qr_frame_type(qr_frame_find(machine->frames, qr_pfn_of(3 * MIB >> QR_PAGE_SHIFT))),
              QR_FRAME_RESERVED);
    EXPECT_EQ(qr_frame_type(qr_frame_find(machine->frames, qr_pfn_of(0xf0))), QR_FRAME_RESERVED);
    EXPECT_NULL(qr_frame_find(machine->frames, qr_pfn_of(0xa5)));
    EXPECT_NULL(qr_frame_find(machine->frames, qr_pfn_of(300 * MIB >> QR_PAGE_SHIFT)));
    EXPECT_NULL(qr_frame_find(machine->frames, qr_pfn_of(SIZE_MAX)));
    machine_shutdown(machine);
}

TEST(frame_map, boot_memory_is_released)
{
    static const struct qr_memory_range map[] = {
        RANGE(16 * MIB, 64 * MIB, QR_MEMORY_USABLE, "memory"),
        RANGE(21 * MIB + 0x123, 30 * MIB + 0x456, QR_MEMORY_BOOT, "initrd"),
        RANGE(40 * MIB, 41 * MIB, QR_MEMORY_KERNEL, "kernel"),
    };
    struct machine *machine = machine_boot((struct machine_options){.map = map, .map_count = 3});
    struct qr_pa_range all = {{0}, {64 * MIB}};
    size_t before = machine_free_frames(machine);

    EXPECT_EQ(qr_frames_release(machine->frames, all), (9 * MIB >> QR_PAGE_SHIFT) + 1);
    EXPECT_EQ(machine_free_frames(machine), before + (9 * MIB >> QR_PAGE_SHIFT) + 1);
    VALIDATE(machine);
    EXPECT_EQ(qr_frames_release(machine->frames, all), 0);
    qr_frames_drain(machine->frames);
    VALIDATE(machine);
    machine_shutdown(machine);
}

TEST(frame_map, large_machines_start_at_once)
{
    if (sizeof(void *) < 8)
        TEST_SKIP("a machine larger than 32 bits of addresses");

        /* Sanitizers leave fewer addresses. */
#if defined(__SANITIZE_THREAD__)
    static const uint64_t sizes[] = {1, 64, 1024};
#elif defined(__SANITIZE_ADDRESS__)
    static const uint64_t sizes[] = {1, 64, 1024, 16384};
#else
    static const uint64_t sizes[] = {1, 64, 1024, 16384, 65536};
#endif

    for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct machine *machine = machine_boot(
            (struct machine_options){.start = 16 * MIB, .bytes = sizes[i] * GIB, .cpus = 4});
        struct qr_frames_stats stats;
        struct qr_frame *frame = qr_frame_alloc(machine->frames, 0);
        struct qr_frame *block = qr_frame_alloc_block(machine->frames, 9, 0);

        ASSERT_TRUE(frame != NULL && block != NULL);
        qr_frames_stats(machine->frames, &stats);
        EXPECT_GT(stats.total, (sizes[i] * GIB >> QR_PAGE_SHIFT) / 100 * 98);
        /* Descriptors aside, 0.16 bytes a frame. */
        EXPECT_LT((double)stats.metadata_bytes / (double)stats.total,
                  32.3 + 0.16 + 1024.0 * 1024 / (double)stats.total);
        qr_frame_free(machine->frames, block);
        qr_frame_free(machine->frames, frame);
        machine_shutdown(machine);
    }
}
