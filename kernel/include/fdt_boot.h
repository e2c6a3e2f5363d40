/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_FDT_BOOT_H
#define KERNEL_FDT_BOOT_H

/**
 * @file
 * boot_info and boot_machine out of a device tree.
 */

#include <boot.h>
#include <fdt.h>

/**
 * Memory, reservations, the command line, the initrd, CPUs, nodes and distances.
 *
 * @param blob_pa         where the blob lies: reserved in the map
 * @param physical_limit  memory at or above it cannot be reached and is left out
 * @return false where the tree names no memory
 */
bool fdt_boot_parse(const struct fdt *fdt, uint64_t blob_pa, uint64_t physical_limit);

#endif
