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
#define SIZE 0x900

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
put_roots(void)
{
    physical_put_text(RSDP, "RSD PTR ");
    physical_put(RSDP + 15, 2, 1);
    physical_put(RSDP + 24, XSDT, 8);
    put_sum(RSDP, RSDP + 8, 20);
    physical_put(XSDT + 36, MADT, 8);
    physical_put(XSDT + 44, SRAT, 8);
    physical_put(XSDT + 52, SLIT, 8);
    put_table(XSDT, "XSDT", 60);
}

static void
put_all(void)
{
    physical_reset(SIZE);
    put_madt();
    put_srat();
    put_slit();
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
    static const uint64_t tables[] = {XSDT, MADT, SRAT, SLIT};

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
            put_sum(XSDT, XSDT + 9, 60);
            put_sum(RSDP, RSDP + 8, 20);
            acpi_init(RSDP);
            EXPECT_TRUE(boot_machine.cpu_count <= CONFIG_MAX_CPUS);
            EXPECT_TRUE(boot_machine.distance_count <= BOOT_NODES_MAX);
        }
    }
    physical_release();
}
