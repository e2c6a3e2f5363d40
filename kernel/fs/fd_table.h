/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_FS_FD_TABLE_H
#define KERNEL_FS_FD_TABLE_H

#include "file.h"

/*
 * Descriptor tables as the system calls of kernel/fs use them, beyond file.h.
 * All work on the current process's table, but those that are given one.
 */

/** Set the lowest free descriptor >= @minimum aside. @return it, -EMFILE, -EINVAL, -ENOMEM */
int fd_reserve(int minimum);
/** Put @file, whose reference is adopted, into a reserved descriptor. */
void fd_fill(int fd, struct file *file, bool close_on_exec);
/** Give a reserved descriptor back. */
void fd_unreserve(int fd);
/** dup2(): @fd names @file from now on; what it named is closed. @return @fd or -errno */
int fd_replace(int fd, struct file *file, bool close_on_exec);
/** @return 0 or 1, -EBADF */
int fd_get_cloexec(int fd);
int fd_table_get_cloexec(struct fd_table *table, int fd);
int fd_set_cloexec(int fd, bool close_on_exec);
/** Slots of @table: for FDSize in /proc. */
uint32_t fd_table_capacity(struct fd_table *table);

#endif
