/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_ACPI_H
#define KERNEL_ACPI_H

#include <stdbool.h>
#include <stdint.h>

#include <boot.h>

/**
 * @file
 * What the static ACPI tables say.  CPUs and memory nodes go to boot_machine,
 * interrupt controllers stand here.  No AML.  Everything is copied out and bounded;
 * a broken table is skipped with a line in the log.
 */

#define ACPI_OVERRIDES_MAX 16

struct acpi_override {
    uint8_t irq;
    uint32_t line; /**< global system interrupt */
    uint16_t flags;
};

struct acpi_info {
    bool found;
    uint64_t lapic_pa; /**< 0 where no MADT named it */
    uint64_t ioapic_pa;
    uint32_t ioapic_base; /**< its first global system interrupt */
    struct acpi_override overrides[ACPI_OVERRIDES_MAX];
    unsigned override_count;
};

extern struct acpi_info acpi_info;

/**
 * Read the tables.  @p rsdp is the physical address that the loader named; 0
 * searches the BIOS area.  Runs while the boot identity window is open.
 */
void acpi_init(uint64_t rsdp);

#endif
