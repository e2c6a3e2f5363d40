/* SPDX-License-Identifier: MIT */
/* The kernel's virtual range: blocks against a model, guards, refusals, misuse. */
#include <quire/vmalloc.h>

#include "harness.h"
#include "sim.h"

#define PAGE   QR_PAGE_SIZE
#define BYTES  (256 * PAGE)
#define BLOCKS 16

/* A machine whose kernel tables have an area of 256 pages. */
struct machine {
    struct sim *sim;
    struct qr_vmalloc *area;
};

static bool flush_at_once;

static void
boot_on(struct machine *machine, enum sim_mmu mmu)
{
    machine->sim = sim_boot(
        (struct sim_options){.frames = 1024, .cpus = 2, .mmu = mmu, .features = SIM_KERNEL_HALF});
    uintptr_t start = sim_kernel_start(machine->sim).v + (64u << 20);

    machine->area = qr_kcalloc(sim_heap(machine->sim), 1, qr_vmalloc_size(), 0);
    const struct qr_vmalloc_config config = {
        .name = "area",
        .frames = sim_frames(machine->sim),
        .heap = sim_heap(machine->sim),
        .kernel = sim_kernel_space(machine->sim),
        .range = {qr_va_of(start), qr_va_of(start + BYTES)},
        .groups = true,
        .flush_at_once = flush_at_once,
    };

    ASSERT_STATUS(qr_vmalloc_init(machine->area, &config), QR_OK);
}

static void
boot(struct machine *machine)
{
    boot_on(machine, SIM_MMU_DEFAULT);
}

static void
shutdown(struct machine *machine)
{
    EXPECT_EQ(qr_vmalloc_fini(machine->area), 0u);
    qr_kfree(sim_heap(machine->sim), machine->area);
    sim_shutdown(machine->sim);
}

static void
validate(struct machine *machine)
{
    char message[160] = "";

    EXPECT_TRUE(qr_vmalloc_validate(machine->area, message, sizeof(message)));
    EXPECT_STR(message, "");
}

/* How the kernel's tables map @address now. */
static struct sim_mapping
look(struct machine *machine, const void *address)
{
    return sim_walk(machine->sim, sim_kernel_tables(machine->sim)->root_pa,
                    qr_va_of((uintptr_t)address));
}

TEST(vmalloc, a_block_is_writable_data_between_guards)
{
    struct machine machine;

    boot(&machine);
    char *block = qr_vmalloc(machine.area, 2 * PAGE + 1, QR_ALLOC_ZERO, "test");

    ASSERT_NOT_NULL(block);
    for (unsigned page = 0; page < 3; page++) {
        struct sim_mapping mapping = look(&machine, block + page * PAGE);

        EXPECT_TRUE(mapping.present);
        EXPECT_EQ(mapping.prot & (QR_PROT_WRITE | QR_PROT_USER), QR_PROT_WRITE);
        EXPECT_EQ((mapping.prot & QR_PROT_EXEC) == 0, sim_can_forbid_exec(machine.sim));
        EXPECT_EQ(*(char *)sim_ram(machine.sim, mapping.pa), 0);
    }
    EXPECT_FALSE(look(&machine, block - 1).present);
    EXPECT_FALSE(look(&machine, block + 3 * PAGE).present);
    qr_vfree(machine.area, block);
    EXPECT_FALSE(look(&machine, block).present);
    validate(&machine);
    shutdown(&machine);
}

TEST(vmalloc, a_device_window_keeps_the_offset)
{
    struct machine machine;
    struct qr_vmalloc_block found;

    boot(&machine);
    char *window =
        qr_vmalloc_device(machine.area, qr_pa_of(0xfee00320), 8, QR_CACHE_UNCACHED, "apic");

    ASSERT_NOT_NULL(window);
    EXPECT_EQ((uintptr_t)window & (PAGE - 1), 0x320u);
    EXPECT_EQ(look(&machine, window).pa.v, 0xfee00320u);
    EXPECT_EQ(look(&machine, window).cache, sim_uncached(machine.sim));
    ASSERT_TRUE(qr_vmalloc_next(machine.area, qr_va_of(0), &found));
    EXPECT_STR(found.owner, "apic");
    EXPECT_EQ(found.pages, 0u);
    EXPECT_EQ(found.device.v, 0xfee00000u);
    EXPECT_FALSE(qr_vmalloc_next(machine.area, found.range.end, &found));
    qr_vfree(machine.area, window);
    shutdown(&machine);
}

TEST(vmalloc, random_blocks_never_overlap)
{
    struct machine machine;
    struct {
        char *at;
        size_t bytes;
    } blocks[BLOCKS] = {{NULL, 0}};
    uint64_t random = test_seed();
    size_t live = 0;

    boot(&machine);
    for (unsigned step = 0; step < 2000; step++) {
        unsigned i = (unsigned)(test_random(&random) % BLOCKS);

        if (blocks[i].at != NULL) {
            qr_vfree(machine.area, blocks[i].at);
            blocks[i].at = NULL;
            live--;
        } else {
            blocks[i].bytes = test_random(&random) % (20 * PAGE) + 1;
            blocks[i].at = qr_vmalloc(machine.area, blocks[i].bytes, 0, "random");
            live += blocks[i].at != NULL;
        }
        for (unsigned j = 0; j < BLOCKS; j++) {
            if (j == i || blocks[i].at == NULL || blocks[j].at == NULL)
                continue;
            ASSERT_TRUE(blocks[i].at + blocks[i].bytes <= blocks[j].at ||
                        blocks[j].at + blocks[j].bytes <= blocks[i].at);
        }
        struct qr_vmalloc_stats stats;

        qr_vmalloc_stats(machine.area, &stats);
        ASSERT_EQ(stats.blocks, live);
        validate(&machine);
    }
    for (unsigned i = 0; i < BLOCKS; i++)
        qr_vfree(machine.area, blocks[i].at);
    shutdown(&machine);
}

/* ---- Flushes put off --------------------------------------------------------------- */

enum { FEW = QR_BATCH_RUNS, SMALL = 3 * PAGE };

/* CPU 1's TLB gets the second page of @block. */
static void
touch_elsewhere(struct machine *machine, const char *block)
{
    struct sim_access access = {qr_va_of((uintptr_t)block + PAGE), QR_ACCESS_READ, SIM_KERNEL};
    unsigned code;
    qr_pa pa;

    sim_enter(machine->sim, 1);
    EXPECT_TRUE(sim_translate(access, &pa, &code));
    sim_enter(machine->sim, 0);
}

static bool
elsewhere_has(struct machine *machine, const char *block)
{
    sim_enter(machine->sim, 1);
    bool has = sim_tlb_has(qr_va_of((uintptr_t)block + PAGE));

    sim_enter(machine->sim, 0);
    return has;
}

static long
flushes(struct machine *machine)
{
    const struct qr_counters *counters = qr_frames_counters(sim_frames(machine->sim));

    return qr_counter_read(counters, QR_EVENT_FLUSH_PAGE) +
           qr_counter_read(counters, QR_EVENT_FLUSH_ALL);
}

struct freed {
    char *block;
    uint64_t pa; /* of its second page */
};

/* FEW blocks that CPU 1 has used are free. */
static void
free_few(struct machine *machine, struct freed *freed)
{
    for (unsigned i = 0; i < FEW; i++) {
        freed[i].block = qr_vmalloc(machine->area, SMALL, 0, "test");
        ASSERT_NOT_NULL(freed[i].block);
        freed[i].pa = look(machine, freed[i].block + PAGE).pa.v;
    }
    for (unsigned i = 0; i < FEW; i++)
        touch_elsewhere(machine, freed[i].block);
    for (unsigned i = 0; i < FEW; i++)
        qr_vfree(machine->area, freed[i].block);
}

/* Neither the addresses nor the frame of @block are those of any block in @freed. */
static void
expect_apart(struct machine *machine, const char *block, const struct freed *freed)
{
    for (unsigned i = 0; i < FEW; i++) {
        EXPECT_TRUE(block + SMALL <= freed[i].block || freed[i].block + SMALL <= block);
        for (size_t at = 0; at < SMALL; at += PAGE)
            EXPECT_NE(look(machine, block + at).pa.v, freed[i].pa);
    }
}

TEST(vmalloc, small_blocks_share_a_flush_and_are_nobodys_before_it)
{
    struct machine machine;
    struct freed freed[FEW];
    struct qr_vmalloc_stats stats;

    boot(&machine);
    long before = 0;

    free_few(&machine, freed);
    before = flushes(&machine);
    for (unsigned i = 0; i < FEW; i++) {
        EXPECT_FALSE(look(&machine, freed[i].block).present);
        EXPECT_TRUE(elsewhere_has(&machine, freed[i].block));
    }
    qr_vmalloc_stats(machine.area, &stats);
    EXPECT_EQ(stats.blocks, 0u);
    validate(&machine);

    char *block = qr_vmalloc(machine.area, SMALL, 0, "test");

    expect_apart(&machine, block, freed);
    before = flushes(&machine);
    qr_vfree(machine.area, block); /* one more than the batch remembers */
    EXPECT_LT(before, flushes(&machine));
    for (unsigned i = 0; i < FEW; i++)
        EXPECT_FALSE(elsewhere_has(&machine, freed[i].block));
    before = flushes(&machine);
    qr_vmalloc_flush(machine.area);
    EXPECT_LT(before, flushes(&machine));
    before = flushes(&machine);
    qr_vmalloc_flush(machine.area);
    EXPECT_EQ(before, flushes(&machine));
    validate(&machine);
    shutdown(&machine);
}

TEST(vmalloc, what_waits_for_a_flush_is_found_when_there_is_no_room)
{
    struct machine machine;
    struct freed freed[FEW];

    boot(&machine);
    free_few(&machine, freed);
    char *all = qr_vmalloc(machine.area, BYTES - 2 * PAGE, 0, "all");

    EXPECT_NOT_NULL(all);
    for (unsigned i = 0; i < FEW; i++)
        EXPECT_FALSE(elsewhere_has(&machine, freed[i].block));
    qr_vfree(machine.area, all);
    shutdown(&machine);
}

TEST(vmalloc, a_flush_can_be_had_at_once)
{
    struct machine machine;
    struct freed freed[FEW];

    flush_at_once = true;
    boot(&machine);
    free_few(&machine, freed);
    for (unsigned i = 0; i < FEW; i++)
        EXPECT_FALSE(elsewhere_has(&machine, freed[i].block));
    shutdown(&machine);
    flush_at_once = false;
}

TEST(vmalloc, a_full_range_and_hostile_sizes_are_refused)
{
    struct machine machine;

    boot(&machine);
    EXPECT_NULL(qr_vmalloc(machine.area, 0, 0, "none"));
    EXPECT_NULL(qr_vmalloc(machine.area, SIZE_MAX, 0, "huge"));
    EXPECT_NULL(qr_vmalloc(machine.area, BYTES - PAGE, 0, "no room for guards"));
    EXPECT_NULL(qr_vmalloc_device(machine.area, qr_pa_of(1), SIZE_MAX, QR_CACHE_UNCACHED, "huge"));
    char *all = qr_vmalloc(machine.area, BYTES - 2 * PAGE, 0, "all");

    EXPECT_NOT_NULL(all);
    EXPECT_NULL(qr_vmalloc(machine.area, 1, 0, "one more"));
    qr_vfree(machine.area, all);
    qr_vfree(machine.area, NULL);
    validate(&machine);
    shutdown(&machine);
}

TEST(vmalloc, every_refusal_leaves_nothing)
{
    unsigned refusal = 0;
    char *block;

    do {
        struct machine machine;

        boot(&machine);
        struct sim_usage before = sim_usage(machine.sim);

        sim_refuse_next(machine.sim, &refusal);
        block = qr_vmalloc(machine.area, 5 * PAGE, 0, "test");
        sim_refuse_nth(machine.sim, 0, SIM_REFUSE_ONCE);
        validate(&machine);
        if (block == NULL)
            EXPECT_EQ(sim_usage(machine.sim).heap_bytes, before.heap_bytes);
        qr_vfree(machine.area, block);
        shutdown(&machine);
    } while (block == NULL);
    EXPECT_GT(refusal, 5u);
}

/* How many of @pages pages at @block are mapped as members of groups. */
static size_t
grouped(struct machine *machine, const char *block, size_t pages)
{
    size_t count = 0;

    for (size_t i = 0; i < pages; i++) {
        qr_va va = qr_va_of((uintptr_t)block + i * PAGE);
        struct qr_va_range page = {va, qr_va_of(va.v + PAGE)};
        struct qr_cursor cursor;

        EXPECT_TRUE(look(machine, block + i * PAGE).present);
        qr_cursor_open(&cursor, sim_kernel_tables(machine->sim), page, NULL);
        count += qr_cursor_is_grouped(&cursor, va);
        qr_cursor_close(&cursor);
    }
    return count;
}

static const enum sim_mmu mmus_with_groups[] = {SIM_MMU_AARCH64_4K, SIM_MMU_RISCV64_SV39};

#define GROUP 16u /* pages, on both */

/*
 *  page     0 1       15 16      31 32  ...
 *           G[block.....][ group ][ group ]      G: the guard
 */
TEST(vmalloc, large_blocks_are_mapped_in_groups)
{
    for (size_t m = 0; m < QR_ARRAY_COUNT(mmus_with_groups); m++) {
        struct machine machine;
        struct qr_format_info format;

        boot_on(&machine, mmus_with_groups[m]);
        qr_format_info(sim_format(machine.sim), &format);
        ASSERT_EQ(1u << format.group_bits[0], GROUP);
        char *block = qr_vmalloc(machine.area, 3 * GROUP * PAGE, QR_ALLOC_ZERO, "groups");

        ASSERT_NOT_NULL(block);
        EXPECT_EQ(grouped(&machine, block, 3 * GROUP), 2 * GROUP);
        EXPECT_EQ(grouped(&machine, block, GROUP - 1), 0u);
        EXPECT_EQ(qr_counter_read(qr_frames_counters(sim_frames(machine.sim)), QR_PAGES_VMALLOC),
                  3 * GROUP);
        EXPECT_EQ(*(char *)sim_ram(machine.sim, look(&machine, block + 20 * PAGE).pa), 0);
        char *other = qr_vmalloc(machine.area, GROUP * PAGE, 0, "too short for one");
        EXPECT_EQ(grouped(&machine, other, GROUP), 0u);
        qr_vfree(machine.area, block);
        EXPECT_FALSE(look(&machine, block + 20 * PAGE).present);
        qr_vfree(machine.area, other);
        EXPECT_EQ(qr_counter_read(qr_frames_counters(sim_frames(machine.sim)), QR_PAGES_VMALLOC),
                  0u);
        shutdown(&machine);
    }
}

/* Refusing the block of a group costs the group; refusing a page costs the call. */
TEST(vmalloc, without_blocks_of_frames_single_ones_do)
{
    for (size_t m = 0; m < QR_ARRAY_COUNT(mmus_with_groups); m++) {
        unsigned refusal = 0, without = 0;
        char *block;
        uint64_t refused;

        do {
            struct machine machine;

            boot_on(&machine, mmus_with_groups[m]);
            sim_refuse_next(machine.sim, &refusal);
            block = qr_vmalloc(machine.area, 3 * GROUP * PAGE, 0, "test");
            refused = sim_refused(machine.sim);
            sim_refuse_nth(machine.sim, 0, SIM_REFUSE_ONCE);
            validate(&machine);
            if (block != NULL && refused > 0)
                without += grouped(&machine, block, 3 * GROUP) < 2 * GROUP;
            qr_vfree(machine.area, block);
            shutdown(&machine);
        } while (refused > 0);
        EXPECT_EQ(without, 2u);
        EXPECT_GT(refusal, GROUP);
    }
}

TEST(vmalloc, misuse_is_named)
{
    struct machine machine;

    boot(&machine);
    char *block = qr_vmalloc(machine.area, 3 * PAGE, 0, "test");

    EXPECT_PANIC(qr_vfree(machine.area, block + PAGE), "not the start of a block");
    qr_vfree(machine.area, block);
    EXPECT_PANIC(qr_vfree(machine.area, block), "not the start of a block");
    EXPECT_PANIC(qr_vfree(machine.area, (void *)PAGE), "not the start of a block");
    shutdown(&machine);
}
