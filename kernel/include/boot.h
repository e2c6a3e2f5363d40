/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_BOOT_H
#define KERNEL_BOOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <quire/config.h>
#include <quire/types.h>

/**
 * @file
 * What the boot loader and the firmware told us, in one form for every
 * protocol, and the order of the boot.
 */

#define BOOT_REGIONS_MAX 128
#define BOOT_CMDLINE_MAX 2048
#define BOOT_NODES_MAX   8
#define BOOT_MEMORY_MAX  32

/** The types of the memory map: those of the E820 interface. */
enum boot_region_kind {
    BOOT_REGION_USABLE = 1,
    BOOT_REGION_RESERVED = 2,
    BOOT_REGION_ACPI = 3, /**< usable once the tables are read; kept reserved */
    BOOT_REGION_ACPI_NVS = 4,
    BOOT_REGION_BAD = 5,
    BOOT_REGION_PERSISTENT = 7,
    BOOT_REGION_NO_MAP = 16, /**< ours: not to be mapped at all, not even by the kernel */
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

/** Forget everything; memory at or above @p physical_limit will not be believed in. */
void boot_info_reset(uint64_t physical_limit);

/**
 * One entry of the map.  Empty ones go, what lies beyond reach is cut off, what
 * finds no room is counted.
 */
void boot_add_region(uint64_t start, uint64_t bytes, uint32_t kind);

/** At most @p limit bytes of @p text become the command line. */
void boot_set_cmdline(const char *text, size_t limit);

/** Only the first one counts. */
void boot_set_initrd(uint64_t start, uint64_t bytes);

/** After the last region: an initrd that is not in usable memory is forgotten, with a message. */
void boot_check_initrd(void);

/**
 * Usable memory that the command line calls persistent: `memmap=SIZE!START`, several with commas
 * between them, as Linux has it.
 */
void boot_add_persistent(void);

/**
 * The next stretch of [start, end), page-aligned, without anything that must not be
 * mapped (BOOT_REGION_NO_MAP); empty where there is none.
 */
struct qr_pa_range boot_mappable(uint64_t start, uint64_t end);

/** A range of memory and the proximity domain that it belongs to. */
struct boot_memory {
    uint64_t start;
    uint64_t bytes;
    uint32_t domain;
    bool hotplug;
    bool non_volatile;
};

/** What is known of how the CPUs of one domain reach the memory of another. */
enum boot_access {
    BOOT_READ_LATENCY, /**< nanoseconds */
    BOOT_WRITE_LATENCY,
    BOOT_READ_BANDWIDTH, /**< MiB/s */
    BOOT_WRITE_BANDWIDTH,
    BOOT_ACCESS_COUNT,
};

/** What ACPI or the device tree says of CPUs and memory nodes. */
struct boot_machine {
    uint64_t cpu_ids[CONFIG_MAX_CPUS];     /**< APIC identifiers, MPIDR affinities, hart numbers */
    uint32_t cpu_domains[CONFIG_MAX_CPUS]; /**< proximity domain of each; 0 where not given */
    unsigned cpu_count;
    unsigned cpus_dropped; /**< usable CPUs beyond CONFIG_MAX_CPUS */
    struct boot_memory memory[BOOT_MEMORY_MAX];
    unsigned memory_count;
    /** distances[i * BOOT_NODES_MAX + j] between domains, 10 = local; 0 where not given. */
    uint8_t distances[BOOT_NODES_MAX * BOOT_NODES_MAX];
    unsigned distance_count;
    /** By initiating domain, target domain; 0 where not given. */
    uint32_t access[BOOT_NODES_MAX][BOOT_NODES_MAX][BOOT_ACCESS_COUNT];
    /** The domain whose CPUs a target's memory belongs to, + 1; 0 where not given. */
    uint8_t initiators[BOOT_NODES_MAX];
};

extern struct boot_machine boot_machine;

/** A CPU that may be started.  @return false where it is known already or finds no room */
bool boot_add_cpu(uint64_t id, uint32_t domain);

/** A range and its domain; an empty or wrapping one, or one too many, goes. */
void boot_add_memory(struct boot_memory memory);

/** The distance from domain @p from to domain @p to; ignored beyond BOOT_NODES_MAX. */
void boot_set_distance(uint64_t from, uint64_t to, uint64_t distance);

/** How CPUs of domain @p from reach memory of @p to; ignored beyond BOOT_NODES_MAX and 32 bits. */
void boot_set_access(uint64_t from, uint64_t to, enum boot_access kind, uint64_t value);

/** Domain @p target's memory is that of domain @p initiator's CPUs. */
void boot_set_initiator(uint64_t target, uint64_t initiator);

/**
 * The domain whose CPUs reach domain @p target best: the one that was named, else by latency,
 * else by bandwidth.
 * @return false where nothing is known of @p target
 */
bool boot_nearest_initiator(uint32_t target, uint32_t *out_domain);

/**
 * Where no distances were given: derive them from latencies, else from bandwidths.  Own memory
 * is at 10, memory of twice the latency at 20.
 */
void boot_derive_distances(void);

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
