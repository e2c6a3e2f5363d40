/* SPDX-License-Identifier: MIT */
/*
 * Static ACPI tables: MADT for CPUs and interrupt controllers, SRAT for memory nodes,
 * SLIT and HMAT (hmat.c) for how far they are from each other, NFIT for persistent memory.
 *
 * Every table is reached through boot_window(), has its length checked before
 * and its checksum before anything else is believed, and its entries are walked
 * with a bound, so that a zero or overlong length ends the walk.
 */
#include <acpi.h>
#include <kstring.h>
#include <printk.h>

#include "../boot/x86/loader.h"
#include "hmat.h"

struct acpi_info acpi_info;

struct __attribute__((packed)) acpi_rsdp {
    char signature[8];
    uint8_t checksum;
    char oem[6];
    uint8_t revision;
    uint32_t rsdt;
    uint32_t bytes;
    uint64_t xsdt;
};

struct __attribute__((packed)) acpi_header {
    char signature[4];
    uint32_t bytes;
    uint8_t revision, checksum;
    char oem[22]; /* OEM and creator identifiers */
    uint32_t creator_revision;
};

#define RSDP_BYTES_1    20u
#define TABLE_BYTES_MAX 0x100000u
#define TABLES_MAX      256u
#define CPU_ENABLED     1u
#define MEMORY_ENABLED  1u
#define MEMORY_HOTPLUG  2u
#define MEMORY_NV       4u

static uint64_t
field(const uint8_t *at, unsigned bytes)
{
    uint64_t value = 0;

    memcpy(&value, at, bytes);
    return value;
}

static bool
sum_is_zero(const void *bytes, size_t count)
{
    uint8_t sum = 0;

    for (size_t i = 0; i < count; i++)
        sum = (uint8_t)(sum + ((const uint8_t *)bytes)[i]);
    return sum == 0;
}

static const struct acpi_header *
table_find(uint64_t pa)
{
    const struct acpi_header *table = boot_window(pa, sizeof *table);

    if (table == NULL || table->bytes < sizeof *table || table->bytes > TABLE_BYTES_MAX ||
        boot_window(pa, table->bytes) == NULL) {
        printk("acpi: table at %llx is out of reach or of impossible length: skipped\n",
               (unsigned long long)pa);
        return NULL;
    }
    if (!sum_is_zero(table, table->bytes)) {
        printk("acpi: table %.4s at %llx has a wrong checksum: skipped\n", table->signature,
               (unsigned long long)pa);
        return NULL;
    }
    return table;
}

/* ---- Entries of MADT and SRAT ------------------------------------------------------ */

typedef void (*entry_fn)(const uint8_t *entry, unsigned bytes);

/** Both tables are a header and then entries of (type, length, ...). */
static void
entries_walk(const struct acpi_header *table, size_t header_bytes, entry_fn fn)
{
    const uint8_t *at = (const uint8_t *)table + header_bytes;
    const uint8_t *end = (const uint8_t *)table + table->bytes;

    while (at < end && end - at >= 2) {
        unsigned bytes = at[1];

        if (bytes < 2 || bytes > (size_t)(end - at))
            return;
        fn(at, bytes);
        at += bytes;
    }
}

static void
add_cpu(uint32_t apic_id, uint32_t flags)
{
    if (flags & CPU_ENABLED)
        (void)boot_add_cpu(apic_id, 0);
}

static void
add_override(const uint8_t *e)
{
    if (acpi_info.override_count == ACPI_OVERRIDES_MAX)
        return;
    acpi_info.overrides[acpi_info.override_count++] = (struct acpi_override){
        .irq = e[3],
        .line = (uint32_t)field(e + 4, 4),
        .flags = (uint16_t)field(e + 8, 2),
    };
}

static void
madt_entry(const uint8_t *e, unsigned bytes)
{
    if (e[0] == 0 && bytes >= 8) {
        add_cpu(e[3], (uint32_t)field(e + 4, 4));
    } else if (e[0] == 1 && bytes >= 12 && acpi_info.ioapic_pa == 0) {
        acpi_info.ioapic_pa = field(e + 4, 4);
        acpi_info.ioapic_base = (uint32_t)field(e + 8, 4);
    } else if (e[0] == 2 && bytes >= 10) {
        add_override(e);
    } else if (e[0] == 5 && bytes >= 12) {
        acpi_info.lapic_pa = field(e + 4, 8);
    } else if (e[0] == 9 && bytes >= 16) {
        add_cpu((uint32_t)field(e + 4, 4), (uint32_t)field(e + 8, 4));
    }
}

static void
srat_cpu(uint32_t apic_id, uint32_t domain)
{
    for (unsigned i = 0; i < boot_machine.cpu_count; i++) {
        if (boot_machine.cpu_ids[i] == apic_id)
            boot_machine.cpu_domains[i] = domain;
    }
}

static void
srat_memory(const uint8_t *e)
{
    uint32_t flags = (uint32_t)field(e + 28, 4);

    if (!(flags & MEMORY_ENABLED))
        return;
    boot_add_memory((struct boot_memory){
        .start = field(e + 8, 8),
        .bytes = field(e + 16, 8),
        .domain = (uint32_t)field(e + 2, 4),
        .hotplug = flags & MEMORY_HOTPLUG,
        .non_volatile = flags & MEMORY_NV,
    });
}

static void
srat_entry(const uint8_t *e, unsigned bytes)
{
    if (e[0] == 0 && bytes >= 16 && (field(e + 4, 4) & CPU_ENABLED))
        srat_cpu(e[3], e[2] | (uint32_t)field(e + 9, 3) << 8);
    else if (e[0] == 1 && bytes >= 40)
        srat_memory(e);
    else if (e[0] == 2 && bytes >= 24 && (field(e + 12, 4) & CPU_ENABLED))
        srat_cpu((uint32_t)field(e + 8, 4), (uint32_t)field(e + 4, 4));
}

static void
slit_parse(const struct acpi_header *table)
{
    const uint8_t *distances = (const uint8_t *)table + 44;
    uint64_t count;

    if (table->bytes < 44)
        return;
    count = field((const uint8_t *)table + 36, 8);
    if (count > 255 || 44 + count * count > table->bytes)
        return;
    for (uint64_t i = 0; i < count; i++) {
        for (uint64_t j = 0; j < count; j++)
            boot_set_distance(i, j, distances[i * count + j]);
    }
}

/* {66F0D379-B4F3-4074-AC43-0D3318B78CDB}, as it stands in memory. */
static const uint8_t persistent_guid[16] = {0x79, 0xd3, 0xf0, 0x66, 0xf3, 0xb4, 0x74, 0x40,
                                            0xac, 0x43, 0x0d, 0x33, 0x18, 0xb7, 0x8c, 0xdb};

/** One range of persistent memory; what the loader calls usable stays so, whatever NFIT says. */
static void
nfit_range(const uint8_t *e)
{
    uint64_t start = field(e + 32, 8);
    uint64_t bytes = field(e + 40, 8);

    if (memcmp(e + 16, persistent_guid, sizeof persistent_guid) != 0 || bytes == 0 ||
        start + bytes < start)
        return;
    for (unsigned i = 0; i < boot_info.region_count; i++) {
        const struct boot_region *region = &boot_info.regions[i];

        if (region->kind == BOOT_REGION_USABLE && region->start < start + bytes &&
            start < region->start + region->bytes) {
            printk("acpi: NFIT calls memory at %llx persistent, the loader does not: skipped\n",
                   (unsigned long long)start);
            return;
        }
    }
    boot_add_region(start, bytes, BOOT_REGION_PERSISTENT);
}

/** A header of 40 bytes, then structures of (type, length, ...) in 16 bits each. */
static void
nfit_parse(const struct acpi_header *table)
{
    const uint8_t *at = (const uint8_t *)table + 40;
    const uint8_t *end = (const uint8_t *)table + table->bytes;

    while (at < end && end - at >= 4) {
        size_t bytes = (size_t)field(at + 2, 2);

        if (bytes < 4 || bytes > (size_t)(end - at))
            return;
        if (field(at, 2) == 0 && bytes >= 56)
            nfit_range(at);
        at += bytes;
    }
}

static void
madt_parse(const struct acpi_header *table)
{
    if (table->bytes < 44)
        return;
    acpi_info.lapic_pa = field((const uint8_t *)table + 36, 4);
    entries_walk(table, 44, madt_entry);
}

/* ---- Roots --------------------------------------------------------------------------- */

static bool
rsdp_is_valid(const struct acpi_rsdp *rsdp)
{
    return rsdp != NULL && memcmp(rsdp->signature, "RSD PTR ", 8) == 0 &&
           sum_is_zero(rsdp, RSDP_BYTES_1);
}

static const struct acpi_rsdp *
rsdp_find(uint64_t pa)
{
    const struct acpi_rsdp *rsdp = boot_window(pa, sizeof *rsdp);

    if (rsdp_is_valid(rsdp))
        return rsdp;
    for (pa = 0xe0000; pa < 0x100000; pa += 16) {
        rsdp = boot_window(pa, sizeof *rsdp);
        if (rsdp_is_valid(rsdp))
            return rsdp;
    }
    return NULL;
}

/** SRAT needs the CPUs of the MADT, so each pass over the root takes one kind of table. */
static void
root_walk(const struct acpi_header *root, unsigned entry_bytes, const char *signature,
          void (*parse)(const struct acpi_header *))
{
    const uint8_t *entries = (const uint8_t *)(root + 1);
    size_t count = (root->bytes - sizeof *root) / entry_bytes;

    for (size_t i = 0; i < count && i < TABLES_MAX; i++) {
        uint64_t pa = field(entries + i * entry_bytes, entry_bytes);
        const struct acpi_header *table = boot_window(pa, sizeof *table);

        if (table == NULL || memcmp(table->signature, signature, 4) != 0)
            continue;
        table = table_find(pa);
        if (table != NULL) {
            parse(table);
            return;
        }
    }
}

static void
srat_parse(const struct acpi_header *table)
{
    entries_walk(table, 48, srat_entry);
}

static void
hmat_table_parse(const struct acpi_header *table)
{
    hmat_parse(table, table->bytes);
}

void
acpi_init(uint64_t rsdp_pa)
{
    const struct acpi_rsdp *rsdp = rsdp_find(rsdp_pa);
    const struct acpi_header *root = NULL;
    unsigned entry_bytes = 8;

    if (rsdp == NULL) {
        printk("acpi: no RSDP: one CPU, one node\n");
        return;
    }
    if (rsdp->revision >= 2 && rsdp->xsdt != 0)
        root = table_find(rsdp->xsdt);
    if (root == NULL) {
        root = table_find(rsdp->rsdt);
        entry_bytes = 4;
    }
    if (root == NULL)
        return;
    acpi_info.found = true;
    root_walk(root, entry_bytes, "APIC", madt_parse);
    root_walk(root, entry_bytes, "SRAT", srat_parse);
    root_walk(root, entry_bytes, "SLIT", slit_parse);
    root_walk(root, entry_bytes, "HMAT", hmat_table_parse);
    root_walk(root, entry_bytes, "NFIT", nfit_parse);
    boot_derive_distances();
    if (boot_machine.cpus_dropped)
        printk("acpi: %u CPUs beyond CONFIG_MAX_CPUS are left out\n", boot_machine.cpus_dropped);
}
