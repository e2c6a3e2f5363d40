/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_BOOT_PAGES_H
#define KERNEL_BOOT_PAGES_H

#include <stdint.h>

#include <quire/types.h>

/**
 * @file
 * Pages before memory_init(): for the first page tables and for what is as large
 * as the machine.  Boot CPU only.
 */

/** Take pages from usable memory of boot_info at or above @p start and below @p limit. */
void boot_pages_init(uint64_t start, uint64_t limit);

/** The physical address of @p pages free pages side by side, cleared, for good; panics else. */
uint64_t boot_pages_alloc(uint64_t pages);

/** A range that holds everything taken, and whatever was unusable in between. */
struct qr_pa_range boot_pages_taken(void);

#endif
