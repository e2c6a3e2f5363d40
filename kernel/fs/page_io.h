/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_FS_PAGE_IO_H
#define KERNEL_FS_PAGE_IO_H

/**
 * @file
 * From pages of an object to requests of a disk: what the pagers of files and disks share.
 *
 *      page_io_begin()                       some pages of one object, locked, all read or all written
 *      page_io_add() page_io_add() ...       where their bytes lie on the disk; neighbours become one request
 *      page_io_end()                         the last request leaves; the pages end when all have
 */

#include <quire/object.h>

#include "block.h"

struct page_io;

/** What page_io_begin() fills where it finds no memory; page_io_end() then waits for the disk. */
struct page_io_storage {
    void *words[40];
};

/** @p storage stays alive until page_io_end().  Thread. */
struct page_io *page_io_begin(struct disk *disk, struct qr_object *object, enum block_op op,
                              struct qr_frame *const *frames, size_t count,
                              struct page_io_storage *storage);
/** @p bytes from @p offset on in page @p page of them are at @p sector.  May sleep. */
void page_io_add(struct page_io *io, size_t page, size_t offset, size_t bytes, uint64_t sector);
/** Bytes of a page that are nowhere on the disk: read as zero. */
void page_io_clear(struct page_io *io, size_t page, size_t offset, size_t bytes);
/** One of them cannot be read or written: all of them end as failed. */
void page_io_fail(struct page_io *io);
/** No more of them will be added. */
void page_io_end(struct page_io *io);

#endif
