/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_FS_PROC_PID_H
#define KERNEL_FS_PROC_PID_H

#include "fs.h"

/** The directory of process @id, generated below @directory. @return 0, -ENOENT, -ENOMEM */
int64_t proc_pid_lookup(struct dentry *directory, const char *name, size_t length, int32_t id,
                        struct dentry **out);

/** Inode number of the @which-th thing of a process; 0 is its directory. */
uint64_t proc_pid_inode_number(int32_t id, uint32_t which);

#endif
