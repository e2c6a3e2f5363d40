/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_AARCH64_PAGING_H
#define KERNEL_AARCH64_PAGING_H

#include <stddef.h>
#include <stdint.h>

#include <quire/types.h>

/** Where the image was loaded; before everything else. */
void paging_set_image(uint64_t pa);

/** The physical address of something in the image. */
uint64_t image_pa(const void *pointer);

/** The frames of the image. */
struct qr_pa_range paging_image(void);

/**
 * Show memory at its place in the direct map, in blocks, while the boot
 * tables are in use.  @return false where they have no room for more
 */
bool paging_window(uint64_t pa, uint64_t bytes);

/** Map the page of device registers at @p pa for good, in these tables and the later ones. */
volatile void *paging_early_device(uint64_t pa);

/** Build the kernel's own tables from boot_info and run on them: the windows close. */
void paging_init(void);

/** The root that every CPU's TTBR1 holds. */
uint64_t paging_root(void);

/**
 * Walk the kernel's tables and log the result.
 * @return how many entries break a rule: writable and executable, user access in the
 *         kernel half, anything in the user half
 */
unsigned paging_audit(uint64_t audited_root);

#endif
