/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_BOOT_H
#define KERNEL_BOOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <quire/types.h>

/**
 * @file
 * What the boot loader and the firmware told us, in one form for every
 * protocol, and the order of the boot.
 */

#define BOOT_REGIONS_MAX 128
#define BOOT_CMDLINE_MAX 2048
#define BOOT_NODES_MAX   8

/** The types of the memory map: those of the E820 interface. */
enum boot_region_kind {
    BOOT_REGION_USABLE = 1,
    BOOT_REGION_RESERVED = 2,
    BOOT_REGION_ACPI = 3, /**< usable once the tables are read; kept reserved */
    BOOT_REGION_ACPI_NVS = 4,
    BOOT_REGION_BAD = 5,
    BOOT_REGION_PERSISTENT = 7,
};

/** One entry of the loader's map as it came: unsorted, perhaps overlapping or empty. */
struct boot_region {
    uint64_t start;
    uint64_t bytes;
    uint32_t kind;
};

struct boot_info {
    const char *protocol;
    struct boot_region regions[BOOT_REGIONS_MAX];
    unsigned region_count;
    unsigned regions_dropped; /**< entries beyond BOOT_REGIONS_MAX */
    char cmdline[BOOT_CMDLINE_MAX];
    struct qr_pa_range initrd; /**< empty where there is none */
    uint64_t rsdp;             /**< physical; 0 where the loader named none */
};

extern struct boot_info boot_info;

/**
 * The value of `name=` on the kernel command line, copied to @p out.
 * Double quotes may enclose a value with spaces; they are removed.
 * @return false where the word is absent; a word without `=` gives ""
 */
bool boot_option(const char *name, char *out, size_t size);

/** Everything after ` -- ` on the command line: the arguments of init; "" where absent. */
const char *boot_arguments(void);

/** `boot=NAME`: check or provoke one thing and leave the machine; else nothing. */
void boot_check(void);

/* ---- Hooks of the other parts of the kernel ------------------------------- */

/** Make the file system; unpack the cpio archive at @p archive (NULL: none). */
void fs_init(const void *archive, size_t bytes);

/** Set up processes and the scheduler of the boot CPU; the caller becomes a thread. */
void proc_init(void);

/** Start process 1 from the command line's `init=` (default /init); returns. */
void process_start_init(void);

/** Enter the scheduler on the boot CPU; becomes its idle thread. */
QR_NORETURN void sched_run(void);

#endif
