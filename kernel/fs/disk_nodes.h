/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_FS_DISK_NODES_H
#define KERNEL_FS_DISK_NODES_H

#include "text.h"

void show_partitions(const struct text_target *target, struct qr_writer *writer);
void show_diskstats(const struct text_target *target, struct qr_writer *writer);

/** A directory for each disk below /sys/block. T held for writing. @return false without memory */
bool disk_nodes_add(struct dentry *block);

#endif
