/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_MERGE_H
#define KERNEL_MERGE_H

/**
 * @file
 * Merging of equal pages: its nodes in sysfs and in /proc/PID, and ksmd. With CONFIG_MERGE.
 */

#include "fs/text.h"

/** Add /sys/kernel/mm/ksm. T held for writing. @return false without memory */
bool merge_nodes_add(struct dentry *root);

/** Be ready. Once the scheduler runs threads. */
void merge_start(void);

/** Memory was advised to be merged: let ksmd look, if it runs at all. */
void merge_advised(void);

/** /proc/PID/ksm_merging_pages and ksm_stat. */
void proc_show_ksm_merging_pages(const struct text_target *target, struct qr_writer *writer);
void proc_show_ksm_stat(const struct text_target *target, struct qr_writer *writer);

#endif
