/* SPDX-License-Identifier: MIT */
/*
 * What boot loaders hand over: honest, broken and hostile.
 */
#include <string.h>

#include "harness.h"
#include "kernel/boot/x86/boot_magic.h"
#include "kernel/boot/x86/loader.h"
#include "physical.h"

#include <boot.h>

#define INFO    0x100
#define MAP     0x200
#define MODULES 0x800
#define CMDLINE 0x900
#define BYTES   0x2000
#define LIMIT   ((uint64_t)1 << 40)

static void
put_region(uint64_t at, uint64_t start, uint64_t bytes, uint32_t kind)
{
    physical_put(at, start, 8);
    physical_put(at + 8, bytes, 8);
    physical_put(at + 16, kind, 4);
}

/** A start-info block with @p count map entries, one module and a command line. */
static void
put_pvh(uint32_t count)
{
    physical_reset(BYTES);
    physical_put(INFO, 0x336ec578, 4);
    physical_put(INFO + 4, 1, 4);
    physical_put(INFO + 12, 1, 4);
    physical_put(INFO + 16, MODULES, 8);
    physical_put(INFO + 24, CMDLINE, 8);
    physical_put(INFO + 32, 0xabcd, 8);
    physical_put(INFO + 40, MAP, 8);
    physical_put(INFO + 48, count, 4);
    physical_put(MODULES, 0x100000, 8);
    physical_put(MODULES + 8, 0x1000, 8);
    physical_put_text(CMDLINE, "init=/bin/sh quiet -- a b");
}

TEST(loader, pvh_tells_map_module_command_line_and_acpi)
{
    put_pvh(2);
    put_region(MAP, 0, 0x9fc00, 1);
    put_region(MAP + 24, 0x100000, 0x7f00000, 1);
    EXPECT_TRUE(loader_parse(BOOT_MAGIC_PVH, INFO, LIMIT));
    EXPECT_EQ(boot_info.region_count, 2u);
    EXPECT_EQ(boot_info.regions[1].start, 0x100000u);
    EXPECT_EQ(boot_info.regions[1].bytes, 0x7f00000u);
    EXPECT_EQ(boot_info.initrd.start.v, 0x100000u);
    EXPECT_EQ(boot_info.initrd.end.v, 0x101000u);
    EXPECT_EQ(boot_info.rsdp, 0xabcdu);
    EXPECT_STR(boot_info.cmdline, "init=/bin/sh quiet -- a b");
    physical_release();
}

TEST(loader, regions_that_are_empty_wrap_or_lie_beyond_reach_go)
{
    put_pvh(5);
    put_region(MAP, 0x1000, 0, 1);
    put_region(MAP + 24, UINT64_MAX - 5, 100, 1);
    put_region(MAP + 48, LIMIT, 0x1000, 1);
    put_region(MAP + 72, LIMIT - 0x1000, UINT64_MAX, 1);
    put_region(MAP + 96, 0x2000, 0x1000, 1);
    EXPECT_TRUE(loader_parse(BOOT_MAGIC_PVH, INFO, LIMIT));
    EXPECT_EQ(boot_info.region_count, 2u);
    EXPECT_EQ(boot_info.regions[0].start, LIMIT - 0x1000);
    EXPECT_EQ(boot_info.regions[0].bytes, 0x1000u);
    EXPECT_EQ(boot_info.regions[1].start, 0x2000u);
    physical_release();
}

TEST(loader, more_regions_than_fit_are_counted)
{
    put_pvh(BOOT_REGIONS_MAX + 7);
    physical_put(INFO + 40, 0x1000, 8); /* enough room for them there */
    physical_put(MODULES + 8, 0, 8);
    EXPECT_TRUE(0x1000 + (BOOT_REGIONS_MAX + 7) * 24 < BYTES);
    for (unsigned i = 0; i < BOOT_REGIONS_MAX + 7; i++)
        put_region(0x1000 + i * 24, i * 0x2000, 0x1000, 1);
    EXPECT_TRUE(loader_parse(BOOT_MAGIC_PVH, INFO, LIMIT));
    EXPECT_EQ(boot_info.region_count, (unsigned)BOOT_REGIONS_MAX);
    EXPECT_EQ(boot_info.regions_dropped, 7u);
    physical_release();
}

TEST(loader, a_map_that_leaves_memory_is_no_map)
{
    put_pvh(1000);
    EXPECT_TRUE(!loader_parse(BOOT_MAGIC_PVH, INFO, LIMIT));
    put_pvh(UINT32_MAX);
    EXPECT_TRUE(!loader_parse(BOOT_MAGIC_PVH, INFO, LIMIT));
    EXPECT_TRUE(!loader_parse(BOOT_MAGIC_PVH, BYTES - 8, LIMIT));
    EXPECT_TRUE(!loader_parse(BOOT_MAGIC_PVH, 0, LIMIT));
    EXPECT_TRUE(!loader_parse(0x12345678, INFO, LIMIT));
    physical_release();
}

TEST(loader, an_initrd_outside_usable_memory_is_ignored)
{
    static const struct {
        uint64_t start, bytes;
    } cases[] = {
        {0x100000, 0x8000000}, {0x7fff000, 0x2000},        {0xf000000, 0x1000},
        {0xff000, 0x2000},     {UINT64_MAX - 100, 0x1000}, {0x100000, UINT64_MAX},
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        put_pvh(1);
        put_region(MAP, 0x100000, 0x7f00000, 1);
        physical_put(MODULES, cases[i].start, 8);
        physical_put(MODULES + 8, cases[i].bytes, 8);
        EXPECT_TRUE(loader_parse(BOOT_MAGIC_PVH, INFO, LIMIT));
        EXPECT_EQ(boot_info.initrd.start.v, 0u);
        EXPECT_EQ(boot_info.initrd.end.v, 0u);
    }
    physical_release();
}

TEST(loader, a_command_line_without_end_is_cut)
{
    put_pvh(1);
    put_region(MAP, 0x100000, 0x7f00000, 1);
    memset(physical_at(CMDLINE), 'x', BYTES - CMDLINE);
    EXPECT_TRUE(loader_parse(BOOT_MAGIC_PVH, INFO, LIMIT));
    EXPECT_EQ(strlen(boot_info.cmdline), (size_t)BOOT_CMDLINE_MAX - 1);
    physical_release();
}

/** One tag; returns where the next one goes. */
static uint64_t
put_tag(uint64_t at, uint32_t type, uint32_t bytes)
{
    physical_put(at, type, 4);
    physical_put(at + 4, bytes, 4);
    return (at + bytes + 7) & ~(uint64_t)7;
}

static uint64_t
put_multiboot_map(uint64_t at, uint32_t entry_bytes)
{
    physical_put(at + 8, entry_bytes, 4);
    put_region(at + 16, 0x100000, 0x7f00000, 1);
    return put_tag(at, 6, 16 + 24);
}

TEST(loader, multiboot2_tells_the_same)
{
    uint64_t at = INFO + 8;

    physical_reset(BYTES);
    physical_put_text(at + 8, "log=console");
    at = put_tag(at, 1, 8 + 12);
    at = put_multiboot_map(at, 24);
    physical_put(at + 8, 0x200000, 4);
    physical_put(at + 12, 0x204000, 4);
    at = put_tag(at, 3, 17);
    EXPECT_EQ(at % 8, 0u);
    uint64_t rsdp = at + 8;
    at = put_tag(at, 15, 44);
    at = put_tag(at, 0, 8);
    physical_put(INFO, at - INFO, 4);

    EXPECT_TRUE(loader_parse(BOOT_MAGIC_MULTIBOOT2, INFO, LIMIT));
    EXPECT_STR(boot_info.cmdline, "log=console");
    EXPECT_EQ(boot_info.region_count, 1u);
    EXPECT_EQ(boot_info.initrd.end.v, 0x204000u);
    EXPECT_EQ(boot_info.rsdp, rsdp);
    physical_release();
}

TEST(loader, multiboot2_tags_of_impossible_length_end_the_walk)
{
    static const uint32_t lengths[] = {0, 7, 0x7fffffff, UINT32_MAX, 0x1000};

    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        uint64_t at = INFO + 8;

        physical_reset(BYTES);
        at = put_multiboot_map(at, 24);
        put_tag(at, 1, lengths[i]);
        physical_put(INFO, 0x400, 4);
        EXPECT_TRUE(loader_parse(BOOT_MAGIC_MULTIBOOT2, INFO, LIMIT));
        EXPECT_EQ(boot_info.region_count, 1u);
        EXPECT_STR(boot_info.cmdline, "");
    }
    physical_release();
}

TEST(loader, multiboot2_map_entries_of_impossible_size_are_no_map)
{
    static const uint32_t sizes[] = {0, 1, 23, UINT32_MAX};

    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        physical_reset(BYTES);
        put_tag(put_multiboot_map(INFO + 8, sizes[i]), 0, 8);
        physical_put(INFO, 0x400, 4);
        EXPECT_TRUE(!loader_parse(BOOT_MAGIC_MULTIBOOT2, INFO, LIMIT));
    }
    physical_release();
}

/* Whatever stands there: no read outside, an end, and only regions within reach. */
TEST(loader, random_bytes_do_no_harm)
{
    uint64_t x = test_seed() | 1;

    for (unsigned round = 0; round < 20000; round++) {
        physical_reset(0x400 + round % 64);
        for (uint64_t i = INFO; i < physical_bytes(); i++) {
            x = x * 6364136223846793005u + 1442695040888963407u;
            *physical_at(i) = (uint8_t)(x >> 60 ? 0 : x >> 33);
        }
        if (round & 1)
            physical_put(INFO, 0x336ec578, 4);
        else
            physical_put(INFO, physical_bytes() - INFO, 4);
        (void)loader_parse(round & 1 ? BOOT_MAGIC_PVH : BOOT_MAGIC_MULTIBOOT2, INFO, LIMIT);
        EXPECT_TRUE(boot_info.region_count <= BOOT_REGIONS_MAX);
        for (unsigned i = 0; i < boot_info.region_count; i++) {
            EXPECT_TRUE(boot_info.regions[i].bytes != 0);
            EXPECT_TRUE(boot_info.regions[i].start + boot_info.regions[i].bytes <= LIMIT);
        }
    }
    physical_release();
}

/* ---- Command line ------------------------------------------------------------------ */

static void
expect_option(const char *line, const char *name, const char *value)
{
    char out[32] = "unset";

    strcpy(boot_info.cmdline, line);
    EXPECT_EQ(boot_option(name, out, sizeof out), value != NULL);
    EXPECT_STR(out, value ? value : "unset");
}

TEST(cmdline, options_are_whole_words)
{
    expect_option("log=console init=/x", "log", "console");
    expect_option("log=console init=/x", "init", "/x");
    expect_option("log=console init=/x", "in", NULL);
    expect_option("xlog=console", "log", NULL);
    expect_option("a  quiet ", "quiet", "");
    expect_option("quietly", "quiet", NULL);
    expect_option("quiet=", "quiet", "");
    expect_option("", "quiet", NULL);
    expect_option("a=1 a=2", "a", "1");
}

TEST(cmdline, quotes_keep_spaces)
{
    expect_option("run=\"ls -l /\" x", "run", "ls -l /");
    expect_option("\"run=ls -l /\" x", "run", "ls -l /");
    expect_option("run=\"no end", "run", "no end");
    expect_option("\"", "run", NULL);
}

TEST(cmdline, what_follows_two_dashes_is_for_init)
{
    expect_option("a=1 -- b=2", "b", NULL);
    EXPECT_STR(boot_arguments(), "b=2");
    strcpy(boot_info.cmdline, "a=1 --b");
    EXPECT_STR(boot_arguments(), "");
    strcpy(boot_info.cmdline, "--   x y");
    EXPECT_STR(boot_arguments(), "x y");
}

TEST(cmdline, a_long_value_is_cut)
{
    char out[4];

    strcpy(boot_info.cmdline, "name=abcdefgh");
    EXPECT_TRUE(boot_option("name", out, sizeof out));
    EXPECT_STR(out, "abc");
}
