/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_RISCV64_PAGING_H
#define KERNEL_RISCV64_PAGING_H

#include <stddef.h>
#include <stdint.h>

#include <quire/types.h>

#define PTE_VALID    ((uint64_t)1 << 0)
#define PTE_READ     ((uint64_t)1 << 1)
#define PTE_WRITE    ((uint64_t)1 << 2)
#define PTE_EXECUTE  ((uint64_t)1 << 3)
#define PTE_USER     ((uint64_t)1 << 4)
#define PTE_GLOBAL   ((uint64_t)1 << 5)
#define PTE_ACCESSED ((uint64_t)1 << 6)
#define PTE_DIRTY    ((uint64_t)1 << 7)

/** Build the kernel's own tables from boot_info and run on them: the boot window closes. */
void paging_init(void);

/** One past the highest physical address that the direct map can show. */
uint64_t paging_physical_limit(void);

/** The leaf that the tables in use now have for @p va; 0 where there is none.  Any context. */
uint64_t paging_entry(uintptr_t va);

/**
 * Walk the kernel's tables and log the result.
 * @return how many entries break a rule: writable and executable, user access in the
 *         kernel half, anything in the user half
 */
unsigned paging_audit(uint64_t audited_root);

#endif
