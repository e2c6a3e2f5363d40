/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_FS_DAX_H
#define KERNEL_FS_DAX_H

/* Persistent memory as files: dax.c. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "file.h"

struct dentry;

/** Devices there are; their numbers are (DAX_MAJOR, 0) and on, their names dax0.0, dax1.0 … */
enum { DAX_MAJOR = 250, DAX_NAME_BYTES = 16 };
size_t dax_count(void);
void dax_name(size_t index, char out[DAX_NAME_BYTES]);

extern const struct file_ops dax_ops;

/** /sys/bus/dax/devices and /sys/dev/char, below @p root. T held for writing. @return false without memory */
bool dax_nodes_add(struct dentry *root);

#endif
