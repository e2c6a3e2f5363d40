/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_PIPE_H
#define KERNEL_PIPE_H

#include <stdint.h>

#include <quire/types.h>

struct file;

enum {
    PIPE_BUF = 4096,                             /**< writes up to this are atomic */
    PIPE_DEFAULT_BYTES = 16 * (int)QR_PAGE_SIZE, /**< as Linux, whatever a page is */
    PIPE_MAX_BYTES = 1048576                     /**< F_SETPIPE_SZ limit */
};

/**
 * A new pipe.
 * @param flags  O_NONBLOCK, O_DIRECT is refused
 * @param out_ends  [0] the reading, [1] the writing file, one reference each
 * @return 0, -ENOMEM, -EINVAL
 */
int64_t pipe_create(uint32_t flags, struct file *out_ends[2]);

#endif
