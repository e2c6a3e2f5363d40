/* SPDX-License-Identifier: MIT */
/*
 * Device trees: honest ones, cut ones, bent ones, and what QEMU makes.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fdt_blob.h"
#include "harness.h"

#include <fdt_boot.h>

#define LIMIT ((uint64_t)1 << 44)

/** A small machine with every feature that the reader knows. */
static uint8_t *
make_machine(size_t *out_bytes)
{
    blob_begin();
    blob_reserve(0x1000, 0x2000);
    blob_reserve(0x80000000, 0x100);
    blob_node("");
    blob_cells("#address-cells", 1, 2);
    blob_cells("#size-cells", 1, 2);
    blob_cells("interrupt-parent", 1, 7);
    blob_text("compatible", "test,machine");

    blob_node("memory@80000000");
    blob_text("device_type", "memory");
    blob_cells("reg", 8, 0, 0x80000000, 0, 0x10000000, 1, 0, 0, 0x20000000);
    blob_cells("numa-node-id", 1, 1);
    blob_end_node();

    blob_node("memory@200000000");
    blob_text("device_type", "memory");
    blob_text("status", "disabled");
    blob_cells("reg", 4, 2, 0, 0, 0x1000);
    blob_end_node();

    blob_node("reserved-memory");
    blob_cells("#address-cells", 1, 2);
    blob_cells("#size-cells", 1, 2);
    blob_bytes("ranges", "", 0);
    blob_node("firmware@80000000");
    blob_cells("reg", 4, 0, 0x80000000, 0, 0x40000);
    blob_bytes("no-map", "", 0);
    blob_end_node();
    blob_node("pool");
    blob_cells("size", 2, 0, 0x1000);
    blob_end_node();
    blob_end_node();

    blob_node("chosen");
    blob_text("bootargs", "log=semihosting -- a");
    blob_cells("linux,initrd-start", 2, 0, 0x84000000);
    blob_cells("linux,initrd-end", 1, 0x84100000);
    blob_end_node();

    blob_node("cpus");
    blob_cells("#address-cells", 1, 1);
    blob_cells("#size-cells", 1, 0);
    blob_node("cpu@0");
    blob_text("device_type", "cpu");
    blob_cells("reg", 1, 0);
    blob_text("enable-method", "psci");
    blob_end_node();
    blob_node("cpu@101");
    blob_text("device_type", "cpu");
    blob_cells("reg", 1, 0x101);
    blob_cells("numa-node-id", 1, 1);
    blob_node("interrupt-controller");
    blob_cells("#interrupt-cells", 1, 1);
    blob_cells("phandle", 1, 8);
    blob_end_node();
    blob_end_node();
    blob_node("cpu@102");
    blob_text("device_type", "cpu");
    blob_text("status", "fail");
    blob_cells("reg", 1, 0x102);
    blob_end_node();
    blob_end_node();

    blob_node("distance-map");
    blob_text("compatible", "numa-distance-map-v1");
    blob_cells("distance-matrix", 6, 0, 0, 10, 0, 1, 21);
    blob_end_node();

    blob_node("intc@8000000");
    blob_bytes("compatible", "arm,cortex-a15-gic\0arm,gic-400", 31);
    blob_cells("#interrupt-cells", 1, 3);
    blob_cells("phandle", 1, 7);
    blob_cells("reg", 8, 0, 0x8000000, 0, 0x10000, 0, 0x8010000, 0, 0x10000);
    blob_end_node();

    blob_node("soc");
    blob_cells("#address-cells", 1, 1);
    blob_cells("#size-cells", 1, 1);
    blob_cells("ranges", 4, 0x1000, 0, 0x9000000, 0x1000);
    blob_token(4);
    blob_node("uart@1100");
    blob_text("compatible", "arm,pl011");
    blob_cells("reg", 4, 0x1100, 0x100, 0x3000, 0x100);
    blob_cells("interrupts", 6, 0, 1, 4, 0, 2, 4);
    blob_end_node();
    blob_node("clint@1200");
    blob_text("compatible", "test,extended");
    blob_cells("reg", 2, 0x1f00, 0x200);
    blob_cells("interrupts-extended", 6, 8, 3, 7, 9, 10, 11);
    blob_end_node();
    blob_end_node();

    blob_end_node();
    return blob_end(out_bytes);
}

TEST(fdt, header_and_reservations)
{
    size_t bytes;
    uint8_t *blob = make_machine(&bytes);
    struct fdt_range range;
    struct fdt fdt;

    EXPECT_EQ(fdt_blob_bytes(blob), bytes);
    ASSERT_TRUE(fdt_open(&fdt, blob, bytes) == FDT_OK);
    EXPECT_TRUE(fdt_reservation(&fdt, 0, &range));
    EXPECT_EQ(range.start, 0x1000u);
    EXPECT_TRUE(fdt_reservation(&fdt, 1, &range));
    EXPECT_EQ(range.bytes, 0x100u);
    EXPECT_TRUE(!fdt_reservation(&fdt, 2, &range));
    free(blob);
}

TEST(fdt, nodes_are_found_by_path_by_compatible_and_by_phandle)
{
    size_t bytes;
    uint8_t *blob = make_machine(&bytes);
    struct fdt_walk at;
    struct fdt fdt;

    ASSERT_TRUE(fdt_open(&fdt, blob, bytes) == FDT_OK);
    EXPECT_TRUE(fdt_find_path(&fdt, "/", &at));
    EXPECT_STR(fdt_name(&at), "");
    EXPECT_TRUE(fdt_find_path(&fdt, "/cpus/cpu@101", &at));
    EXPECT_EQ(fdt_number(&at, "numa-node-id", 9), 1u);
    EXPECT_EQ(fdt_number(&at, "nothing", 9), 9u);
    EXPECT_TRUE(fdt_find_path(&fdt, "/soc/uart", &at));
    EXPECT_TRUE(!fdt_find_path(&fdt, "/soc/uart@1101", &at));
    EXPECT_TRUE(!fdt_find_path(&fdt, "/cpus/uart", &at));
    EXPECT_TRUE(!fdt_find_path(&fdt, "/cpu", &at));
    EXPECT_TRUE(fdt_find_compatible(&fdt, "arm,gic-400", &at));
    EXPECT_STR(fdt_name(&at), "intc@8000000");
    EXPECT_TRUE(!fdt_next_compatible(&at, "arm,gic-400"));
    EXPECT_TRUE(!fdt_find_compatible(&fdt, "arm,gic", &at));
    EXPECT_TRUE(fdt_find_phandle(&fdt, 8, &at));
    EXPECT_STR(fdt_name(&at), "interrupt-controller");
    free(blob);
}

TEST(fdt, addresses_go_through_the_ranges_of_their_buses)
{
    size_t bytes;
    uint8_t *blob = make_machine(&bytes);
    struct fdt_range range;
    struct fdt_walk at;
    struct fdt fdt;

    ASSERT_TRUE(fdt_open(&fdt, blob, bytes) == FDT_OK);
    ASSERT_TRUE(fdt_find_compatible(&fdt, "arm,pl011", &at));
    EXPECT_TRUE(fdt_reg(&at, 0, &range));
    EXPECT_EQ(range.start, 0x9000100u);
    EXPECT_EQ(range.bytes, 0x100u);
    EXPECT_TRUE(!fdt_reg(&at, 1, &range)); /* outside the bus's window */
    EXPECT_TRUE(fdt_reg_raw(&at, 1, &range));
    EXPECT_TRUE(!fdt_reg_raw(&at, 2, &range));
    ASSERT_TRUE(fdt_find_compatible(&fdt, "test,extended", &at));
    EXPECT_TRUE(!fdt_reg(&at, 0, &range)); /* half of it outside */
    ASSERT_TRUE(fdt_find_compatible(&fdt, "arm,gic-400", &at));
    EXPECT_TRUE(fdt_reg(&at, 1, &range));
    EXPECT_EQ(range.start, 0x8010000u);
    ASSERT_TRUE(fdt_find_path(&fdt, "/cpus/cpu@101", &at));
    EXPECT_TRUE(fdt_reg_raw(&at, 0, &range));
    EXPECT_EQ(range.start, 0x101u);
    EXPECT_TRUE(!fdt_reg(&at, 0, &range)); /* a number, no address */
    free(blob);
}

TEST(fdt, interrupts_in_both_spellings)
{
    size_t bytes;
    uint8_t *blob = make_machine(&bytes);
    struct fdt_interrupt interrupt;
    struct fdt_walk at;
    struct fdt fdt;

    ASSERT_TRUE(fdt_open(&fdt, blob, bytes) == FDT_OK);
    ASSERT_TRUE(fdt_find_compatible(&fdt, "arm,pl011", &at));
    EXPECT_TRUE(fdt_interrupt(&at, 1, &interrupt));
    EXPECT_EQ(interrupt.controller, 7u);
    EXPECT_EQ(interrupt.count, 3u);
    EXPECT_EQ(interrupt.cells[1], 2u);
    EXPECT_TRUE(!fdt_interrupt(&at, 2, &interrupt));
    ASSERT_TRUE(fdt_find_compatible(&fdt, "test,extended", &at));
    EXPECT_TRUE(fdt_interrupt(&at, 0, &interrupt));
    EXPECT_EQ(interrupt.controller, 8u);
    EXPECT_EQ(interrupt.cells[0], 3u);
    EXPECT_TRUE(fdt_interrupt(&at, 1, &interrupt));
    EXPECT_EQ(interrupt.controller, 7u);
    EXPECT_EQ(interrupt.cells[2], 11u);
    EXPECT_TRUE(!fdt_interrupt(&at, 2, &interrupt));
    free(blob);
}

TEST(fdt, the_boot_information_is_complete)
{
    size_t bytes;
    uint8_t *blob = make_machine(&bytes);
    struct fdt fdt;

    ASSERT_TRUE(fdt_open(&fdt, blob, bytes) == FDT_OK);
    EXPECT_TRUE(fdt_boot_parse(&fdt, 0x83000000, LIMIT));
    ASSERT_TRUE(boot_info.region_count == 6);
    EXPECT_EQ(boot_info.regions[0].start, 0x80000000u);
    EXPECT_EQ(boot_info.regions[1].start, 0x100000000u);
    EXPECT_EQ(boot_info.regions[1].bytes, 0x20000000u);
    EXPECT_EQ(boot_info.regions[2].kind, (uint32_t)BOOT_REGION_RESERVED);
    EXPECT_EQ(boot_info.regions[4].kind, (uint32_t)BOOT_REGION_NO_MAP);
    EXPECT_EQ(boot_info.regions[4].bytes, 0x40000u);
    EXPECT_EQ(boot_info.regions[5].start, 0x83000000u);
    EXPECT_EQ(boot_info.regions[5].bytes, (uint64_t)bytes);
    EXPECT_STR(boot_info.cmdline, "log=semihosting -- a");
    EXPECT_EQ(boot_info.initrd.start.v, 0x84000000u);
    EXPECT_EQ(boot_info.initrd.end.v, 0x84100000u);
    EXPECT_EQ(boot_machine.cpu_count, 2u);
    EXPECT_EQ(boot_machine.cpu_ids[1], 0x101u);
    EXPECT_EQ(boot_machine.cpu_domains[1], 1u);
    EXPECT_EQ(boot_machine.memory_count, 2u);
    EXPECT_EQ(boot_machine.memory[0].domain, 1u);
    EXPECT_EQ(boot_machine.distance_count, 2u);
    EXPECT_EQ(boot_machine.distances[1], 21u);
    EXPECT_EQ(boot_machine.distances[BOOT_NODES_MAX], 21u);
    free(blob);
}

TEST(fdt, a_tree_without_memory_is_no_machine)
{
    size_t bytes;
    struct fdt fdt;
    uint8_t *blob;

    blob_begin();
    blob_node("");
    blob_end_node();
    blob = blob_end(&bytes);
    ASSERT_TRUE(fdt_open(&fdt, blob, bytes) == FDT_OK);
    EXPECT_TRUE(!fdt_boot_parse(&fdt, 0, LIMIT));
    free(blob);
}

TEST(fdt, sixteen_levels_and_no_more)
{
    for (unsigned depth = FDT_DEPTH_MAX; depth <= FDT_DEPTH_MAX + 1; depth++) {
        struct fdt_walk at;
        struct fdt fdt;
        size_t bytes;
        uint8_t *blob;
        unsigned nodes = 0;

        blob_begin();
        for (unsigned i = 0; i < depth; i++)
            blob_node(i ? "n" : "");
        for (unsigned i = 0; i < depth; i++)
            blob_end_node();
        blob = blob_end(&bytes);
        if (depth > FDT_DEPTH_MAX) {
            EXPECT_EQ(fdt_open(&fdt, blob, bytes), FDT_ERR_DEPTH);
        } else {
            ASSERT_TRUE(fdt_open(&fdt, blob, bytes) == FDT_OK);
            fdt_walk_begin(&at, &fdt);
            while (fdt_walk_next(&at))
                nodes++;
            EXPECT_EQ(nodes, depth);
        }
        free(blob);
    }
}

TEST(fdt, a_tree_out_of_order_is_refused)
{
    static const uint32_t orders[][8] = {
        {9},                            /* no root */
        {2, 9},                         /* an end before the beginning */
        {1, 0, 9},                      /* no end of the root */
        {1, 0, 2, 1, 0, 2, 9},          /* two roots */
        {1, 0, 1, 0, 2, 3, 0, 0},       /* a property after a child */
        {3, 0, 0, 9},                   /* a property outside */
        {1, 0, 5, 2, 9},                /* an unknown token */
        {1, 0, 3, 0xffffffff, 0, 2, 9}, /* a property that is too long */
        {1, 0, 3, 0, 0xffffffff, 2, 9}, /* a name that is elsewhere */
        {1, 0, 3, 0x7ffffffd, 0, 2, 9},
        {1, 0x41414141, 0x41414141, 0x41414141, 0x41414141, 0x41414141, 0x41414141, 0x41414141},
    };

    for (size_t i = 0; i < sizeof orders / sizeof orders[0]; i++) {
        struct fdt fdt;
        size_t bytes;
        uint8_t *blob;

        blob_begin();
        for (size_t j = 0; j < 8; j++)
            blob_token(orders[i][j]);
        blob = blob_end(&bytes);
        EXPECT_EQ(fdt_open(&fdt, blob, bytes), FDT_ERR_TREE);
        free(blob);
    }
}

/* ---- Hostile blobs ------------------------------------------------------------------ */

/** Ask everything that can be asked; the sanitizers watch. */
static void
read_all(const struct fdt *fdt)
{
    struct fdt_walk at;
    unsigned nodes = 0;

    fdt_walk_begin(&at, fdt);
    while (fdt_walk_next(&at)) {
        struct fdt_interrupt interrupt;
        struct fdt_range range;

        EXPECT_TRUE(at.depth >= 1 && at.depth <= FDT_DEPTH_MAX);
        EXPECT_TRUE(strlen(fdt_name(&at)) < fdt->bytes);
        (void)fdt_string(&at, "compatible");
        (void)fdt_string_is(&at, "compatible", "x");
        for (unsigned i = 0; i < 4; i++) {
            if (fdt_reg(&at, i, &range))
                EXPECT_TRUE(range.bytes == 0 || range.start + (range.bytes - 1) >= range.start);
            (void)fdt_interrupt(&at, i, &interrupt);
        }
        nodes++;
    }
    EXPECT_TRUE(nodes > 0 && nodes <= fdt->bytes / 8);
    (void)fdt_boot_parse(fdt, 0x1000, LIMIT);
    EXPECT_TRUE(boot_info.region_count <= BOOT_REGIONS_MAX);
    EXPECT_TRUE(boot_machine.cpu_count <= CONFIG_MAX_CPUS);
    for (unsigned i = 0; i < boot_info.region_count; i++)
        EXPECT_TRUE(boot_info.regions[i].start + boot_info.regions[i].bytes <= LIMIT);
}

static void
try_blob(const uint8_t *blob, size_t bytes)
{
    struct fdt fdt;

    if (fdt_open(&fdt, blob, bytes) == FDT_OK)
        read_all(&fdt);
}

/** Every length of @p blob, in a block of just that size, in steps of @p step. */
static void
truncate_all(const uint8_t *blob, size_t bytes, size_t step)
{
    for (size_t length = 0; length < bytes; length += step) {
        uint8_t *cut = malloc(length ? length : 1);
        struct fdt fdt;

        memcpy(cut, blob, length);
        EXPECT_TRUE(fdt_open(&fdt, cut, length) != FDT_OK);
        if (length >= 40) {
            blob_put32(cut + 4, (uint32_t)length); /* and a header that agrees */
            try_blob(cut, length);
        }
        free(cut);
    }
}

TEST(fdt, every_truncation_is_harmless)
{
    size_t bytes;
    uint8_t *blob = make_machine(&bytes);

    truncate_all(blob, bytes, 1);
    free(blob);
}

TEST(fdt, every_flipped_byte_is_harmless)
{
    static const uint8_t masks[] = {0x01, 0x80, 0xff};
    size_t bytes;
    uint8_t *blob = make_machine(&bytes);

    for (size_t i = 0; i < bytes; i++) {
        for (size_t m = 0; m < sizeof masks; m++) {
            blob[i] ^= masks[m];
            try_blob(blob, bytes);
            blob[i] ^= masks[m];
        }
    }
    free(blob);
}

TEST(fdt, random_words_are_harmless)
{
    static const uint32_t words[] = {0, 1, 2, 3, 4, 9, 0x7fffffff, 0x80000000, 0xfffffffc, ~0u};
    uint64_t x = test_seed() | 1;
    size_t bytes;
    uint8_t *blob = make_machine(&bytes);
    uint8_t *bent = malloc(bytes);

    for (unsigned round = 0; round < 20000; round++) {
        memcpy(bent, blob, bytes);
        for (unsigned i = 0; i <= round % 3; i++) {
            x = x * 6364136223846793005u + 1442695040888963407u;
            blob_put32(bent + ((x >> 33) % (bytes / 4)) * 4,
                       words[(x >> 20) % (sizeof words / sizeof words[0])]);
        }
        try_blob(bent, bytes);
    }
    free(bent);
    free(blob);
}

/* ---- What QEMU makes ------------------------------------------------------------------ */

static uint8_t *
qemu_blob(const char *qemu, const char *machine, const char *arguments, size_t *out_bytes)
{
    char path[64];
    char command[512];
    uint8_t *blob = NULL;
    FILE *file;
    long size;

    snprintf(path, sizeof path, "/tmp/quire-fdt-%d.dtb", (int)getpid());
    snprintf(command, sizeof command,
             "timeout 20 %s -M %s,dumpdtb=%s %s -display none >/dev/null 2>&1", qemu, machine, path,
             arguments);
    if (system(command) != 0 || (file = fopen(path, "rb")) == NULL)
        return NULL;
    fseek(file, 0, SEEK_END);
    size = ftell(file);
    rewind(file);
    if (size > 0) {
        blob = malloc((size_t)size);
        *out_bytes = fread(blob, 1, (size_t)size, file);
    }
    fclose(file);
    unlink(path);
    return blob;
}

#define NUMA                                                                             \
    "-smp 4 -m 512M -object memory-backend-ram,id=m0,size=256M "                         \
    "-object memory-backend-ram,id=m1,size=256M -numa node,nodeid=0,memdev=m0,cpus=0-1 " \
    "-numa node,nodeid=1,memdev=m1,cpus=2-3 -numa dist,src=0,dst=1,val=17"

static void
check_qemu(const char *qemu, const char *machine, const char *arguments, uint64_t ram,
           const char *uart)
{
    struct fdt_range range;
    struct fdt_walk at;
    struct fdt fdt;
    size_t bytes;
    uint8_t *blob = qemu_blob(qemu, machine, arguments, &bytes);

    if (blob == NULL)
        return; /* not installed */
    ASSERT_TRUE(fdt_open(&fdt, blob, bytes) == FDT_OK);
    EXPECT_TRUE(fdt_boot_parse(&fdt, 0, LIMIT));
    EXPECT_EQ(boot_machine.cpu_count, 4u);
    EXPECT_EQ(boot_machine.cpu_domains[3], 1u);
    EXPECT_EQ(boot_machine.memory_count, 2u);
    for (unsigned i = 0; i < boot_machine.memory_count; i++) {
        bool second = boot_machine.memory[i].domain == 1; /* the order is QEMU's affair */

        EXPECT_EQ(boot_machine.memory[i].start, ram + (second ? 256u << 20 : 0));
        EXPECT_EQ(boot_machine.memory[i].bytes, 256u << 20);
    }
    EXPECT_EQ(boot_machine.distances[1], 17u);
    ASSERT_TRUE(fdt_find_compatible(&fdt, uart, &at));
    EXPECT_TRUE(fdt_reg(&at, 0, &range) && range.bytes > 0);
    EXPECT_TRUE(fdt_interrupt(&at, 0, &(struct fdt_interrupt){0}));
    truncate_all(blob, fdt.tree_end < bytes ? fdt.tree_end : bytes, 61);
    for (size_t i = 0; i < fdt.tree_end; i += 7) {
        blob[i] ^= 0xff;
        try_blob(blob, bytes);
        blob[i] ^= 0xff;
    }
    free(blob);
}

TEST(fdt, the_trees_of_qemu)
{
    check_qemu("qemu-system-aarch64", "virt", "-cpu cortex-a57 " NUMA, 0x40000000, "arm,pl011");
    check_qemu("qemu-system-riscv64", "virt", NUMA, 0x80000000, "ns16550a");
}
