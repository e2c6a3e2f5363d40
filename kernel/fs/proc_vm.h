/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_FS_PROC_VM_H
#define KERNEL_FS_PROC_VM_H

#include <stdbool.h>

struct dentry;

/** Add the nodes of /proc/sys/vm that belong to no other file. T held for writing. */
bool proc_vm_add(struct dentry *vm);

#endif
