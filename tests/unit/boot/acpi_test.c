/* SPDX-License-Identifier: MIT */
/*
 * ACPI tables: honest ones, and ones that lie about every length.
 */
#include <string.h>

#include "harness.h"
#include "physical.h"

#include <acpi.h>

#define RSDP 0x100
#define XSDT 0x200
#define MADT 0x300
#define SRAT 0x500
#define SLIT 0x700
#define HMAT 0x900
#define NFIT 0xa80
#define SIZE 0xc00

#define HMAT_BYTES 228u

static void
put_sum(uint64_t pa, uint64_t checksum_at, uint32_t bytes)
{
    uint8_t sum = 0;

    physical_put(checksum_at, 0, 1);
    for (uint32_t i = 0; i < bytes; i++)
        sum = (uint8_t)(sum + *physical_at(pa + i));
    physical_put(checksum_at, (uint8_t)-sum, 1);
}

static void
put_table(uint64_t pa, const char *signature, uint32_t bytes)
{
    physical_put_text(pa, signature);
    physical_put(pa + 4, bytes, 4);
    put_sum(pa, pa + 9, bytes);
}

static void
put_madt_cpu(uint64_t at, uint8_t apic_id, uint32_t flags)
{
    physical_put(at, 0, 1);
    physical_put(at + 1, 8, 1);
    physical_put(at + 3, apic_id, 1);
    physical_put(at + 4, flags, 4);
}

/** Two CPUs, one switched off, an x2APIC one, an I/O APIC and an override. */
static uint32_t
put_madt(void)
{
    uint64_t at = MADT + 44;

    physical_put(MADT + 36, 0xfee00000, 4);
    put_madt_cpu(at, 0, 1);
    put_madt_cpu(at + 8, 1, 1);
    put_madt_cpu(at + 16, 2, 0);
    at += 24;
    physical_put(at, 1, 1);
    physical_put(at + 1, 12, 1);
    physical_put(at + 4, 0xfec00000, 4);
    at += 12;
    physical_put(at, 2, 1);
    physical_put(at + 1, 10, 1);
    physical_put(at + 3, 0, 1);
    physical_put(at + 4, 2, 4);
    at += 10;
    physical_put(at, 9, 1);
    physical_put(at + 1, 16, 1);
    physical_put(at + 4, 300, 4);
    physical_put(at + 8, 1, 4);
    at += 16;
    put_table(MADT, "APIC", (uint32_t)(at - MADT));
    return (uint32_t)(at - MADT);
}

static void
put_srat(void)
{
    uint64_t at = SRAT + 48;

    physical_put(at, 0, 1);
    physical_put(at + 1, 16, 1);
    physical_put(at + 2, 1, 1);
    physical_put(at + 3, 1, 1);
    physical_put(at + 4, 1, 4);
    at += 16;
    physical_put(at, 1, 1);
    physical_put(at + 1, 40, 1);
    physical_put(at + 2, 1, 4);
    physical_put(at + 8, 0x8000000, 8);
    physical_put(at + 16, 0x4000000, 8);
    physical_put(at + 28, 1, 4);
    put_table(SRAT, "SRAT", (uint32_t)(at + 40 - SRAT));
}

static void
put_slit(void)
{
    physical_put(SLIT + 36, 2, 8);
    physical_put(SLIT + 44, 10 | 20 << 8 | 21 << 16 | 10u << 24, 4);
    put_table(SLIT, "SLIT", 48);
}

static void
put_structure(uint64_t at, unsigned type, unsigned bytes)
{
    physical_put(at, type, 2);
    physical_put(at + 4, bytes, 4);
}

/** @p entries: initiator 0 to targets 0 and 1. */
static uint64_t
put_matrix(uint64_t at, unsigned type, uint64_t unit, const uint16_t entries[2])
{
    put_structure(at, 1, 48);
    physical_put(at + 9, type, 1);
    physical_put(at + 12, 1, 4);
    physical_put(at + 16, 2, 4);
    physical_put(at + 24, unit, 8);
    physical_put(at + 32, 0, 4);
    physical_put(at + 36, 0, 4);
    physical_put(at + 40, 1, 4);
    physical_put(at + 44, entries[0], 2);
    physical_put(at + 46, entries[1], 2);
    return at + 48;
}

/** Domain 1 is memory of domain 0's CPUs, two and a half times as far and a quarter as wide. */
static void
put_hmat(unsigned revision)
{
    uint64_t at = HMAT + 40;

    physical_put(HMAT + 8, revision, 1);
    put_structure(at, 0, 40);
    physical_put(at + 8, 1, 2);
    physical_put(at + 12, 0, 4);
    physical_put(at + 16, 1, 4);
    at = put_matrix(at + 40, 0, 1000, (const uint16_t[]){100, 250});
    at = put_matrix(at, 4, 1, (const uint16_t[]){8000, 2000});
    at = put_matrix(at, 5, 1, (const uint16_t[]){0xffff, 0});
    put_structure(at, 2, 4); /* too short for itself: the end */
    put_table(HMAT, "HMAT", (uint32_t)(at + 4 - HMAT));
}

static void
put_roots(void)
{
    physical_put_text(RSDP, "RSD PTR ");
    physical_put(RSDP + 15, 2, 1);
    physical_put(RSDP + 24, XSDT, 8);
    put_sum(RSDP, RSDP + 8, 20);
    physical_put(XSDT + 36, MADT, 8);
    physical_put(XSDT + 44, SRAT, 8);
    physical_put(XSDT + 52, SLIT, 8);
    physical_put(XSDT + 60, HMAT, 8);
    physical_put(XSDT + 68, NFIT, 8);
    put_table(XSDT, "XSDT", 76);
}

/* A range of 16 bytes of GUID. */
static void
put_range(uint64_t at, uint64_t guid_low, uint64_t start, uint64_t bytes)
{
    physical_put(at, 0, 2);
    physical_put(at + 2, 56, 2);
    physical_put(at + 16, guid_low, 8);
    physical_put(at + 24, 0xdb8cb718330d43acull, 8);
    physical_put(at + 32, start, 8);
    physical_put(at + 40, bytes, 8);
}

#define PERSISTENT 0x4074b4f366f0d379ull
#define NFIT_BYTES (40u + 4 + 3 * 56)

/* A structure of a kind that nobody knows, then persistent memory, another kind of it, and RAM. */
static void
put_nfit(void)
{
    physical_put(NFIT + 40, 9, 2);
    physical_put(NFIT + 42, 4, 2);
    put_range(NFIT + 44, PERSISTENT, 0x40000000, 0x4000000);
    put_range(NFIT + 100, PERSISTENT + 1, 0x50000000, 0x4000000);
    put_range(NFIT + 156, PERSISTENT, 0x7000000, 0x2000000);
    put_table(NFIT, "NFIT", NFIT_BYTES);
}

static void
put_all(void)
{
    physical_reset(SIZE);
    put_madt();
    put_srat();
    put_slit();
    put_hmat(2);
    put_nfit();
    put_roots();
}

TEST(acpi, tells_cpus_controllers_and_nodes)
{
    put_all();
    acpi_init(RSDP);
    EXPECT_TRUE(acpi_info.found);
    ASSERT_TRUE(boot_machine.cpu_count == 3);
    EXPECT_EQ(boot_machine.cpu_ids[1], 1u);
    EXPECT_EQ(boot_machine.cpu_ids[2], 300u);
    EXPECT_EQ(acpi_info.lapic_pa, 0xfee00000u);
    EXPECT_EQ(acpi_info.ioapic_pa, 0xfec00000u);
    EXPECT_EQ(acpi_info.override_count, 1u);
    EXPECT_EQ(acpi_info.overrides[0].line, 2u);
    EXPECT_EQ(boot_machine.cpu_domains[0], 0u);
    EXPECT_EQ(boot_machine.cpu_domains[1], 1u);
    ASSERT_TRUE(boot_machine.memory_count == 1);
    EXPECT_EQ(boot_machine.memory[0].start, 0x8000000u);
    EXPECT_EQ(boot_machine.memory[0].domain, 1u);
    EXPECT_EQ(boot_machine.distance_count, 2u);
    EXPECT_EQ(boot_machine.distances[1], 20u);
    EXPECT_EQ(boot_machine.distances[BOOT_NODES_MAX], 21u);
    physical_release();
}

TEST(acpi, tells_latencies_and_bandwidths)
{
    uint32_t initiator = 9;

    put_all();
    acpi_init(RSDP);
    EXPECT_EQ(boot_machine.access[0][0][BOOT_READ_LATENCY], 100u);
    EXPECT_EQ(boot_machine.access[0][1][BOOT_READ_LATENCY], 250u);
    EXPECT_EQ(boot_machine.access[0][1][BOOT_WRITE_LATENCY], 250u);
    EXPECT_EQ(boot_machine.access[0][0][BOOT_READ_BANDWIDTH], 8000u);
    EXPECT_EQ(boot_machine.access[0][1][BOOT_READ_BANDWIDTH], 2000u);
    EXPECT_EQ(boot_machine.access[0][0][BOOT_WRITE_BANDWIDTH], 0u);
    EXPECT_EQ(boot_machine.access[0][1][BOOT_WRITE_BANDWIDTH], 0u);
    EXPECT_EQ(boot_machine.access[1][0][BOOT_READ_LATENCY], 0u);
    EXPECT_TRUE(boot_nearest_initiator(1, &initiator));
    EXPECT_EQ(initiator, 0u);
    EXPECT_TRUE(boot_nearest_initiator(0, &initiator)); /* nobody said: by latency */
    EXPECT_EQ(initiator, 0u);
    EXPECT_TRUE(!boot_nearest_initiator(2, &initiator));
    EXPECT_TRUE(!boot_nearest_initiator(UINT32_MAX, &initiator));
    EXPECT_EQ(boot_machine.distances[1], 20u); /* SLIT knows better */

    put_all();
    put_hmat(1);
    acpi_init(RSDP);
    EXPECT_EQ(boot_machine.access[0][1][BOOT_READ_LATENCY], 25000u);
    EXPECT_EQ(boot_machine.access[0][1][BOOT_READ_BANDWIDTH], 200u);
    physical_release();
}

TEST(acpi, distances_come_from_latencies_or_bandwidths_where_no_table_has_them)
{
    put_all();
    *physical_at(SLIT) = 'X';
    acpi_init(RSDP);
    EXPECT_EQ(boot_machine.distance_count, 2u);
    EXPECT_EQ(boot_machine.distances[1], 25u);
    EXPECT_EQ(boot_machine.distances[BOOT_NODES_MAX], 25u); /* nobody initiates there */

    put_all();
    *physical_at(SLIT) = 'X';
    *physical_at(HMAT + 80 + 9) = 99; /* no kind of matrix */
    put_sum(HMAT, HMAT + 9, HMAT_BYTES);
    acpi_init(RSDP);
    EXPECT_EQ(boot_machine.access[0][1][BOOT_READ_LATENCY], 0u);
    EXPECT_EQ(boot_machine.distances[1], 40u);

    boot_info_reset(UINT64_MAX);
    boot_set_access(0, 0, BOOT_WRITE_LATENCY, 10);
    boot_set_access(0, 1, BOOT_WRITE_LATENCY, 10);
    boot_set_access(0, 2, BOOT_WRITE_LATENCY, UINT32_MAX);
    boot_set_access(0, BOOT_NODES_MAX, BOOT_WRITE_LATENCY, 1);
    boot_set_access(0, 3, BOOT_WRITE_LATENCY, (uint64_t)UINT32_MAX + 1);
    boot_derive_distances();
    EXPECT_EQ(boot_machine.distance_count, 3u);
    EXPECT_EQ(boot_machine.distances[1], 11u);
    EXPECT_EQ(boot_machine.distances[2], 254u);
    physical_release();
}

/* Counts, lengths and units as large as they come, alone and together. */
TEST(acpi, matrices_that_lie_about_their_size_are_left_out)
{
    static const uint64_t values[] = {0, 1, 3, 47, 0x7fffffff, 0x80000000, UINT32_MAX};
    const uint64_t matrix = HMAT + 80;

    for (size_t rows = 0; rows < sizeof values / sizeof values[0]; rows++) {
        for (size_t columns = 0; columns < sizeof values / sizeof values[0]; columns++) {
            for (size_t length = 0; length < sizeof values / sizeof values[0]; length++) {
                put_all();
                physical_put(matrix + 4, length == 0 ? 48 : values[length], 4);
                physical_put(matrix + 12, values[rows], 4);
                physical_put(matrix + 16, values[columns], 4);
                physical_put(matrix + 24, UINT64_MAX, 8);
                put_sum(HMAT, HMAT + 9, HMAT_BYTES);
                acpi_init(RSDP);
                EXPECT_EQ(boot_machine.access[0][1][BOOT_READ_LATENCY], 0u);
            }
        }
    }
    physical_release();
}

TEST(acpi, tells_persistent_memory_that_is_not_ram)
{
    put_all();
    boot_add_region(0x8000000, 0x4000000, BOOT_REGION_USABLE);
    acpi_init(RSDP);
    ASSERT_TRUE(boot_info.region_count == 2);
    EXPECT_EQ(boot_info.regions[1].start, 0x40000000u);
    EXPECT_EQ(boot_info.regions[1].bytes, 0x4000000u);
    EXPECT_EQ(boot_info.regions[1].kind, BOOT_REGION_PERSISTENT);
    physical_release();
}

/* Each byte of the table as large and as small as it comes. */
TEST(acpi, a_lying_nfit_adds_nothing_that_wraps)
{
    static const uint8_t values[] = {0, 1, 0x7f, 0xff};

    for (uint64_t at = 36; at < NFIT_BYTES; at++) {
        for (size_t i = 0; i < sizeof values; i++) {
            put_all();
            boot_add_region(0x8000000, 0x4000000, BOOT_REGION_USABLE);
            *physical_at(NFIT + at) = values[i];
            put_sum(NFIT, NFIT + 9, NFIT_BYTES);
            acpi_init(RSDP);
            EXPECT_LE(boot_info.region_count, 4u);
            for (unsigned r = 1; r < boot_info.region_count; r++) {
                const struct boot_region *region = &boot_info.regions[r];

                EXPECT_LT(region->start, region->start + region->bytes);
                EXPECT_TRUE(region->start >= 0xc000000 ||
                            region->start + region->bytes <= 0x8000000);
            }
        }
    }
    physical_release();
}

TEST(acpi, a_table_with_a_wrong_checksum_is_skipped)
{
    put_all();
    *physical_at(MADT + 50) ^= 1;
    acpi_init(RSDP);
    EXPECT_TRUE(acpi_info.found);
    EXPECT_EQ(boot_machine.cpu_count, 0u);
    EXPECT_EQ(boot_machine.memory_count, 1u);
    physical_release();
}

TEST(acpi, no_rsdp_is_no_acpi)
{
    put_all();
    *physical_at(RSDP) = 'X';
    acpi_init(RSDP);
    EXPECT_TRUE(!acpi_info.found);
    acpi_init(0);
    EXPECT_TRUE(!acpi_info.found);
    acpi_init(UINT64_MAX - 3);
    EXPECT_TRUE(!acpi_info.found);
    physical_release();
}

TEST(acpi, lengths_that_leave_memory_are_refused)
{
    static const uint32_t lengths[] = {0, 35, 36, 43, SIZE, 0x100001, UINT32_MAX};
    static const uint64_t tables[] = {XSDT, MADT, SRAT, SLIT, HMAT};

    for (size_t t = 0; t < sizeof tables / sizeof tables[0]; t++) {
        for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
            put_all();
            physical_put(tables[t] + 4, lengths[i], 4);
            if (tables[t] + lengths[i] <= SIZE)
                put_sum(tables[t], tables[t] + 9, lengths[i]);
            acpi_init(RSDP);
            EXPECT_TRUE(boot_machine.cpu_count <= 3);
        }
    }
    physical_release();
}

/* Every byte of every table takes every value of a few, with the sums put right again. */
TEST(acpi, any_wrong_byte_is_survived)
{
    static const uint8_t values[] = {0, 1, 2, 8, 0x7f, 0x80, 0xff};
    uint32_t madt_bytes;

    put_all();
    madt_bytes = put_madt();
    for (uint64_t at = RSDP; at < SIZE; at++) {
        for (size_t v = 0; v < sizeof values; v++) {
            put_all();
            *physical_at(at) = values[v];
            put_sum(MADT, MADT + 9, madt_bytes);
            put_sum(SRAT, SRAT + 9, 104);
            put_sum(SLIT, SLIT + 9, 48);
            put_sum(HMAT, HMAT + 9, HMAT_BYTES);
            put_sum(XSDT, XSDT + 9, 76);
            put_sum(RSDP, RSDP + 8, 20);
            acpi_init(RSDP);
            EXPECT_TRUE(boot_machine.cpu_count <= CONFIG_MAX_CPUS);
            EXPECT_TRUE(boot_machine.distance_count <= BOOT_NODES_MAX);
        }
    }
    physical_release();
}
