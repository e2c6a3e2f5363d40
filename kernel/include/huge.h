/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_HUGE_H
#define KERNEL_HUGE_H

/**
 * @file
 * Transparent huge pages: their nodes in sysfs and the thread that collapses.
 */

#include <stdbool.h>

struct dentry;

/** Add /sys/kernel/mm/transparent_hugepage. T held for writing. @return false without memory */
bool huge_nodes_add(struct dentry *root);

/** Turn them on, as Linux does by default, and start khugepaged. Once the scheduler runs threads. */
void huge_start(void);

#endif
