/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_FS_VECTOR_H
#define KERNEL_FS_VECTOR_H

#include "io.h"
#include "mm.h"

/* Pieces of user memory as readv(), sendmsg() and their like name them. */

/** Bytes that one call moves at most. */
#define RW_LIMIT ((size_t)0x7ffff000)

enum { IOV_LIMIT = 1024, IOV_INLINE = 8 };

struct vector {
    struct io_piece *pieces; /* few, or from the heap */
    struct io_piece few[IOV_INLINE];
    size_t total;
};

/** As Linux's access_ok: also of a buffer that nothing will be copied to. */
static inline bool
is_user_range(uint64_t address, size_t bytes)
{
    uint64_t limit = mm_user_limit();

    return bytes <= limit && address <= limit - bytes;
}

/** Copy the user's @count pieces once and add their lengths up; vector_free() it.
 *  @return 0, -EINVAL, -EFAULT, -ENOMEM: nothing to free */
int64_t vector_read(struct vector *vector, uint64_t user, uint64_t count);
void vector_free(struct vector *vector);

#endif
