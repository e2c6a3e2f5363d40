/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_FS_DISK_FILE_H
#define KERNEL_FS_DISK_FILE_H

#include "block.h"
#include "fs.h"

/** An open of a block device node.  @return 0 or -ENXIO, -EROFS */
int64_t disk_open(struct inode *inode, struct file *file);

/** Write @p object's dirty pages in [first, last), then empty the disk's own cache. */
int64_t disk_object_sync(struct disk *disk, struct qr_object *object, size_t first, size_t last);

/**
 * fsync() of bytes [first, last) of @file, whose pages are @object's: writes and flushes; a write
 * that failed since this descriptor looked last is EIO, once.
 */
int64_t file_sync_object(struct file *file, struct disk *disk, struct qr_object *object,
                         uint64_t first, uint64_t last);

/* ---- Direct transfers (direct.c) ------------------------------------------------------------ */

/** Where bytes of a file lie: @p out_bytes from @p offset on are at @p out_sector, at least 1. */
struct direct_target {
    struct disk *disk;
    struct qr_object *object; /**< the page cache over the same bytes */
    /** @return 0 or -errno; out_sector UINT64_MAX: a hole, which reads as zero */
    int64_t (*find)(void *context, uint64_t offset, size_t bytes, bool writing,
                    uint64_t *out_sector, size_t *out_bytes);
    void *context;
};

/** Whether address, offset and length are multiples of SECTOR_BYTES. */
bool direct_is_aligned(const struct io *io, uint64_t offset, size_t bytes);

/**
 * Move all of @p io between user memory and the disk without the page cache, whose pages over
 * the same bytes are written before and dropped after.
 * @return bytes, -EINVAL where address, offset or length is no multiple of SECTOR_BYTES, -EFAULT, -EIO
 */
int64_t direct_transfer(const struct direct_target *target, enum block_op op, struct io *io,
                        uint64_t offset, size_t bytes);

#endif
