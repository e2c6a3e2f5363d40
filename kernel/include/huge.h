/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_HUGE_H
#define KERNEL_HUGE_H

/**
 * @file
 * Transparent huge pages: their nodes in sysfs and the thread that collapses.
 */

#include <quire/object.h>

struct dentry;

/** Add /sys/kernel/mm/transparent_hugepage. T held for writing. @return false without memory */
bool huge_nodes_add(struct dentry *root);

/** What the word behind a tmpfs mount's `huge=` asks for. @return false where it is no such word */
bool huge_parse_mount(const char *word, size_t length, enum qr_shared_huge *out_mode);

/** Turn them on, as Linux does by default, and start khugepaged. Once the scheduler runs threads. */
void huge_start(void);

#endif
