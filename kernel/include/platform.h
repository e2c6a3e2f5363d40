/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_PLATFORM_H
#define KERNEL_PLATFORM_H

/**
 * @file
 * The machine around the CPU, as main.c sees it; boot CPU only.
 */

#include <quire/table.h>

/** Interrupt controllers and clock; after memory_init(). */
void platform_init(void);

/** Check the kernel's own page tables and log the result; panics on a violation. */
void platform_audit(void);

/** Tick and terminal input begin; interrupts stay off until the scheduler runs. */
void platform_start(void);

/** Watch for memory that is plugged in or is to be taken out. */
void platform_start_hotplug(void);

/** Push onto the kernel stack without end: for boot_check(). */
QR_NORETURN void platform_overflow_stack(void);

/* What memory_init() needs to know of the boot tables. */

/** Physical address of the root that the kernel runs on. */
qr_pa platform_root(void);
/**
 * Zeroed memory, page-aligned, for good; before memory_init() has read the map.
 * Panics where there is none.
 */
void *platform_boot_alloc(size_t bytes);
/** Frames that hold the boot tables and what platform_boot_alloc() gave. */
struct qr_pa_range platform_table_frames(void);
/** Call @p add for each range that the platform or the kernel image occupies. */
void platform_describe_memory(void (*add)(struct qr_pa_range range, enum qr_memory_kind kind,
                                          const char *description));
/** One past the highest address a CPU can form. */
uint64_t platform_physical_limit(void);
/** Where the direct map ends, and memory is reached through windows only; 0: nowhere. */
uint64_t platform_direct_limit(void);
/** Where the kernel reaches all memory, if /proc/meminfo is to tell of it (as Linux's on x86); else empty. */
struct qr_va_range platform_direct_map(void);
/** How many address-space identifiers a CPU has; 1: none. */
unsigned platform_asid_count(void);

/**
 * Below it go stacks, and mappings that no hint asks to be above it; at most
 * qr_port_user_end().  Programs may use the bits of ordinary pointers beyond it.
 */
uintptr_t platform_user_window(void);

/** The format of the kernel's and of user tables. */
const struct qr_format *platform_format(void);

/** log2 of the largest leaf that the CPUs take, at most 30; a format may have larger ones. */
unsigned platform_leaf_shift_max(void);

/** Whether every CPU takes the format's groups of leaves (see qr_cursor_map_group()). */
bool platform_groups(void);

/** Parts of the kernel half that are mapped page by page. */
enum kernel_area {
    KERNEL_AREA_HEAP,    /**< large blocks of the kernel heap */
    KERNEL_AREA_STACKS,  /**< kernel stacks; pages of guarded heap blocks */
    KERNEL_AREA_DEVICES, /**< windows onto device registers */
    KERNEL_AREA_COUNT,
};

/** Where an area lies; areas do not overlap. */
struct qr_va_range platform_area(enum kernel_area area);

#endif
