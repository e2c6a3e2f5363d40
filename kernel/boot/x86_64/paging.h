/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_X86_64_PAGING_H
#define KERNEL_X86_64_PAGING_H

#include <stddef.h>
#include <stdint.h>

#include <quire/types.h>

/** Build the kernel's own tables from boot_info and run on them: the window closes. */
void paging_init(void);

/** Zeroed pages for good, described by paging_boot_frames(); before memory_init(). */
void *paging_boot_alloc(size_t bytes);

/** What was taken for tables and paging_boot_alloc(). */
struct qr_pa_range paging_boot_frames(void);

/** One past the highest physical address that the direct map holds. */
uint64_t paging_direct_end(void);

/**
 * Walk the kernel's tables and log the result.
 * @return how many entries break a rule: writable and executable, user access in the
 *         kernel half, anything in the user half
 */
unsigned paging_audit(uint64_t audited_root);

#endif
