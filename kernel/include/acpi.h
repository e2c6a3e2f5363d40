/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_ACPI_H
#define KERNEL_ACPI_H

#include <stdbool.h>
#include <stdint.h>

#include <quire/config.h>

#include <boot.h>

/**
 * @file
 * What the static ACPI tables say about CPUs, interrupt controllers and memory
 * nodes.  No AML.  Everything is copied out and bounded; a broken table is
 * skipped with a line in the log.
 */

#define ACPI_OVERRIDES_MAX 16
#define ACPI_MEMORY_MAX    32

struct acpi_override {
    uint8_t irq;
    uint32_t line; /**< global system interrupt */
    uint16_t flags;
};

/** SRAT: one range of memory and the proximity domain that it belongs to. */
struct acpi_memory {
    uint64_t start;
    uint64_t bytes;
    uint32_t domain;
    bool hotplug;
    bool non_volatile;
};

struct acpi_info {
    bool found;
    uint64_t lapic_pa; /**< 0 where no MADT named it */
    uint64_t ioapic_pa;
    uint32_t ioapic_base; /**< its first global system interrupt */
    uint32_t apic_ids[CONFIG_MAX_CPUS];
    uint32_t apic_domains[CONFIG_MAX_CPUS]; /**< proximity domain of each; 0 without SRAT */
    unsigned cpu_count;
    unsigned cpus_dropped; /**< usable CPUs beyond CONFIG_MAX_CPUS */
    struct acpi_override overrides[ACPI_OVERRIDES_MAX];
    unsigned override_count;

    struct acpi_memory memory[ACPI_MEMORY_MAX];
    unsigned memory_count;
    /** SLIT: distances[i * BOOT_NODES_MAX + j], 10 = local; 0 where not given. */
    uint8_t distances[BOOT_NODES_MAX * BOOT_NODES_MAX];
    unsigned distance_count;
};

extern struct acpi_info acpi_info;

/**
 * Read the tables.  @p rsdp is the physical address that the loader named; 0
 * searches the BIOS area.  Runs while the boot identity window is open.
 */
void acpi_init(uint64_t rsdp);

#endif
