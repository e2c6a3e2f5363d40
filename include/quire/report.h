/* SPDX-License-Identifier: MIT */
#ifndef QUIRE_REPORT_H
#define QUIRE_REPORT_H

/**
 * @file
 * What people read: the texts of /proc and /sys as Linux 6.1 writes them, and
 * dumps for debugging.  They go into a writer, so no file system is needed.
 *
 * A report of a space takes the space's lock for reading; the machine-wide ones
 * take short locks only.  Context: thread.
 */

#ifndef __cplusplus
#include <quire/hugetlb.h>
#include <quire/space.h>
#include <quire/vmalloc.h>
#include <quire/writer.h>

/** What a mapped file is called; the host fills it from its own file pointer. */
struct qr_report_file {
    unsigned device_major, device_minor;
    uint64_t inode;
};

#define QR_REPORT_VMALLOC_MAX 3

/** What the reports are about.  Filled by the host; parts it does not run stay NULL. */
struct qr_report {
    struct qr_frames *frames;
    struct qr_heap *heap;
    struct qr_objects *objects;
    struct qr_vm *vm;
    struct qr_hugetlb *hugetlb;
    struct qr_groups *groups;
    struct qr_tables *kernel_tables;
    struct qr_va_range direct_map; /**< of kernel_tables; empty: meminfo says nothing of it */
    struct qr_swap *swap;
    struct qr_vmalloc *vmalloc[QR_REPORT_VMALLOC_MAX]; /**< by address */
    bool protection_keys; /**< the machine has them: smaps says which */
    /** Describe @p file and write its path into @p name. */
    void (*describe_file)(void *file, struct qr_report_file *out_file, struct qr_writer *name);
    /** Is @p file open for writing?  What is sealed may be, and its mappings still be read-only. */
    bool (*file_is_writable)(const void *file);
};

/* ---- The machine --------------------------------------------------------- */

void qr_report_meminfo(const struct qr_report *report, struct qr_writer *writer);
void qr_report_node_meminfo(const struct qr_report *report, unsigned node,
                            struct qr_writer *writer);
/** A node's vmstat: of /proc/vmstat, what is counted by zones and nodes. */
void qr_report_node_vmstat(const struct qr_report *report, unsigned node, struct qr_writer *writer);
/** A node's numastat: where its frames were wanted and by whom. */
void qr_report_numastat(const struct qr_report *report, unsigned node, struct qr_writer *writer);
/** Each zone's fragmentation by order: Linux's extfrag_index, and what of free memory is too small. */
void qr_report_extfrag_index(const struct qr_report *report, struct qr_writer *writer);
void qr_report_unusable_index(const struct qr_report *report, struct qr_writer *writer);
void qr_report_vmstat(const struct qr_report *report, struct qr_writer *writer);
void qr_report_buddyinfo(const struct qr_report *report, struct qr_writer *writer);
void qr_report_pagetypeinfo(const struct qr_report *report, struct qr_writer *writer);
void qr_report_zoneinfo(const struct qr_report *report, struct qr_writer *writer);
void qr_report_slabinfo(const struct qr_report *report, struct qr_writer *writer);
void qr_report_vmallocinfo(const struct qr_report *report, struct qr_writer *writer);
/** The sanitised boot memory map with its descriptions, as /proc/iomem shows it. */
void qr_report_iomem(const struct qr_report *report, struct qr_writer *writer);
/**
 * Frame by frame, a word each from frame number @p first on: how many table entries map it
 * (/proc/kpagecount), and what it is, in Linux's KPF_* bits (/proc/kpageflags).
 */
void qr_report_frame_counts(const struct qr_report *report, uint64_t first, size_t count,
                            uint64_t *out);
void qr_report_frame_flags(const struct qr_report *report, uint64_t first, size_t count,
                           uint64_t *out);
/** One more than the highest frame number of usable memory. */
uint64_t qr_report_frame_end(const struct qr_report *report);
/** One screen for a person: zones, who uses what, heap, counters (`echo mem > .../memory`). */
void qr_report_overview(const struct qr_report *report, struct qr_writer *writer);

/** Pages that are locked, or in huge pages of private memory. */
struct qr_report_group_use {
    size_t locked, huge;
};
/** Of what the spaces map, where there are any: on @p node (-1: on any), and charged to @p group or those
 *  below it (NULL: to whomever). */
void qr_report_group_use(const struct qr_report *report, const struct qr_group *group, int node,
                         struct qr_report_group_use *out_use);

/* ---- One space ----------------------------------------------------------- */

/**
 * /proc/PID/maps, smaps, numa_maps: region by region.  Adds those that end above @p from to @p out, whole
 * ones and as many as fit, and moves @p from behind the last.
 * @return whether there are more; where nothing was added then, the next one alone wants a larger buffer.
 * The space's lock is held for reading meanwhile, so that what one call adds is consistent; smaps looks at
 * every page of a region.
 */
bool qr_report_maps(const struct qr_report *report, struct qr_space *space, qr_va *from,
                    struct qr_buffer_writer *out);
bool qr_report_smaps(const struct qr_report *report, struct qr_space *space, qr_va *from,
                     struct qr_buffer_writer *out);
/** @param thread  the policy of the space's thread, for regions without one; may be NULL */
bool qr_report_numa_maps(const struct qr_report *report, struct qr_space *space,
                         struct qr_mempolicy *thread, qr_va *from, struct qr_buffer_writer *out);
void qr_report_smaps_rollup(const struct qr_report *report, struct qr_space *space,
                            struct qr_writer *writer);
void qr_report_statm(struct qr_space *space, struct qr_writer *writer);
/** The Vm*, Rss* lines of /proc/PID/status. */
void qr_report_status(struct qr_space *space, struct qr_writer *writer);

/**
 * /proc/PID/pagemap: one 64-bit word a page from @p first_page on.
 * Bits 0-54 frame number, 55 soft-dirty, 56 exclusively mapped, 61 file or shared, 62 swapped,
 * 63 present (Linux: Documentation/admin-guide/mm/pagemap.rst).
 */
void qr_report_pagemap(struct qr_space *space, size_t first_page, size_t count, uint64_t *out);

/** The entries that decide about @p va, level by level, as text (`dump_pt 0x1000`). */
void qr_report_table_walk(struct qr_space *space, qr_va va, struct qr_writer *writer);
/** All leaves and marks of a tree, equal neighbours joined: one line a run. */
void qr_report_tables(struct qr_tables *tables, struct qr_writer *writer);

#endif
#endif
