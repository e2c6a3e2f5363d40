/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_X86_LOADER_H
#define KERNEL_X86_LOADER_H

#include <stdbool.h>
#include <stdint.h>

/** Bytes [pa, pa+bytes) through the boot window, or NULL where they lie outside it. */
const void *boot_window(uint64_t pa, uint64_t bytes);

/**
 * Fill boot_info from what a loader left.
 *
 * @param magic           BOOT_MAGIC_*: which protocol
 * @param information     physical address of the protocol's structure
 * @param physical_limit  memory at or above it cannot be reached and is left out
 * @return false where the structure is not understood or names no memory
 */
bool loader_parse(uint32_t magic, uint64_t information, uint64_t physical_limit);

#endif
