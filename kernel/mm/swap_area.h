/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_MM_SWAP_AREA_H
#define KERNEL_MM_SWAP_AREA_H

#include <quire/swap.h>

#include "../fs/disk_file.h"

/* Pages of an area that lie side by side on the disk. */
struct swap_extent {
    size_t page, pages;
    uint64_t sector;
};

/* What swap is kept in: a disk, or a file on one.  Constant while it is in use. */
struct swap_area {
    struct file *file; /* open for writing; a reference */
    struct disk *disk;
    struct swap_extent *extents; /* by page, without gaps */
    size_t extent_count;
    size_t pages; /* in all of them */
};

/*
 * Find the first @pages pages of @file, which nobody may change any more, on its disk.  Takes no reference.
 * @return 0; -EINVAL: it has holes; -EINTR, -EIO, -ENOMEM
 */
int64_t swap_area_create(struct file *file, size_t pages, struct swap_area **out);
void swap_area_destroy(struct swap_area *area);

/* For the library; their context is a struct swap_area. */
extern const struct qr_swap_ops swap_area_ops;

#endif
