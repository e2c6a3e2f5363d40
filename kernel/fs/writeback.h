/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_FS_WRITEBACK_H
#define KERNEL_FS_WRITEBACK_H

#include <quire/object.h>

#include "text.h"

/** After a write to @p object: where too much of memory is dirty, write it back before returning. */
void writeback_throttle(struct qr_object *object);

/** Rows for /proc/sys/vm: dirty_ratio and its like. */
extern const struct text_node writeback_nodes[4];

#endif
