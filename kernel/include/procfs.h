/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_PROCFS_H
#define KERNEL_PROCFS_H

/*
 * /proc and /sys: trees of generated texts.  See kernel/fs/procfs.c for how to
 * add a node: one row in a table.
 */

struct superblock;

/** A new procfs instance. @return 0 or -ENOMEM; out untouched on failure */
int procfs_create(struct superblock **out);

/** A new sysfs instance, kernel/debug included. */
int sysfs_create(struct superblock **out);

#endif
