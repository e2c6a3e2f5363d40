/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_FS_NODE_ACCESS_H
#define KERNEL_FS_NODE_ACCESS_H

#include "fs.h"

/**
 * What is known of how nodes reach each other's memory, below the directories nodeN of
 * @parent: accessC/initiators and accessC/targets.
 * T held for writing. @return false without memory
 */
bool node_access_add(struct dentry *parent, unsigned nodes);

#endif
