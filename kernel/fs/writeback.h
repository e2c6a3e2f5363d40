/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_FS_WRITEBACK_H
#define KERNEL_FS_WRITEBACK_H

#include <quire/object.h>

/** After a write to @p object: where too much of memory is dirty, write it back before returning. */
void writeback_throttle(struct qr_object *object);

#endif
