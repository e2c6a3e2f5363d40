/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_FS_CGROUPFS_H
#define KERNEL_FS_CGROUPFS_H

#include "cgroup.h"
#include "text.h"

/** Where a node of a group's directory is to be seen. */
enum cgroup_node_place {
    NODE_EVERYWHERE,
    NODE_BELOW,  /**< not in the root */
    NODE_MEMORY, /**< where the group has limits of its own */
    NODE_USE,    /**< there and in the root */
};

struct cgroup_node {
    struct text_node text;
    enum cgroup_node_place place;
};

/** The memory controller's nodes: cgroup_memory.c. */
extern const struct cgroup_node cgroup_memory_nodes[];
extern const size_t cgroup_memory_node_count;

/** The group that a node is about, with a reference; NULL: removed. */
struct cgroup *cgroup_of_inode(const struct inode *inode);

/** A file with a text that changes now and then, for which one can poll (cgroup.events). */
extern const struct inode_ops cgroup_events_inode_ops;
/** A pressure file; inode->key_more 0 is the machine's. */
extern const struct inode_ops pressure_inode_ops;

#endif
