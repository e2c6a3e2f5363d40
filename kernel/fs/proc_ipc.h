/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_FS_PROC_IPC_H
#define KERNEL_FS_PROC_IPC_H

#include "fs.h"

/** /proc/sysvipc below @root, and the limits below @kernel. T held for writing. @return false
 *  without memory */
bool proc_ipc_add(struct dentry *root, struct dentry *kernel);

#endif
