/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_PROC_NET_H
#define KERNEL_PROC_NET_H

#include <stdbool.h>

struct dentry;

/** /proc/net below @root. T held for writing. @return false without memory */
bool proc_net_add(struct dentry *root);

#endif
