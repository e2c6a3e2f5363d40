/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_X86_PAGING_H
#define KERNEL_X86_PAGING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <quire/types.h>

/** The shape of the tables. */
struct paging_geometry {
    unsigned levels;
    unsigned index_bits;  /**< 9: entries of eight bytes, 10: of four */
    bool nx;              /**< entries can forbid execution */
    bool root_is_bare;    /**< the root's entries have no rights (PAE) */
    uint64_t boot_window; /**< bytes of memory that the boot tables show in the direct map */
};

/** Build the kernel's own tables from boot_info.  @return the root's physical address */
uint64_t paging_init(const struct paging_geometry *geometry);

/**
 * Tables for [va, va + bytes), which lies under one entry of the root, side by
 * side and without entries.  @return the physical address of the first
 */
uint64_t paging_reserve_tables(uintptr_t va, size_t bytes);

/** The physical address of the table that the root's entry for @p va names. */
uint64_t paging_top_table(uintptr_t va);

/** Zeroed pages for good, described by paging_boot_frames(); before memory_init(). */
void *paging_boot_alloc(size_t bytes);

/** What was taken for tables and paging_boot_alloc(). */
struct qr_pa_range paging_boot_frames(void);

/**
 * Walk the kernel's tables and log the result.
 * @return how many entries break a rule: writable and executable, user access in the
 *         kernel half, anything in the user half
 */
unsigned paging_audit(uint64_t audited_root);

#endif
