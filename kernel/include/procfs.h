/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_PROCFS_H
#define KERNEL_PROCFS_H

/*
 * /proc and /sys have no interface for the rest of the kernel: they are mounted by fs_init() and
 * read what others offer.  To add a node, see kernel/fs/procfs.c and kernel/fs/sysfs.c.
 */

/** What uname() and /proc/version call this kernel: programs parse it as a Linux version. */
#define KERNEL_RELEASE "6.1.0-quire"

#endif
