/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_FS_PIPEFS_H
#define KERNEL_FS_PIPEFS_H

#include "file.h"

/** F_GETPIPE_SZ. -EBADF for what is no pipe */
int64_t pipe_get_size(struct file *file);
/** F_SETPIPE_SZ. @return the new size; -EINVAL, -EPERM (too large), -EBUSY (holds more), -ENOMEM */
int64_t pipe_set_size(struct file *file, uint64_t bytes);

#endif
