/* SPDX-License-Identifier: MIT */
/*
 * Blocks that are not file contents: an object whose page i begins with block i.
 *
 * Why not the pages of /dev/vda: one of those holds several blocks, of which one may be a bitmap and the
 * next the contents of a file, which go to the disk on another way.  Writing the page back would
 * overwrite them with what they were.  So a page holds one block and what is left of it is unused;
 * dirty marks, write-back, reclaim and read-ahead are the library's.
 */
#include "../page_io.h"
#include "ext2.h"
#include "memory.h"

static void
meta_start(struct ext2 *fs, enum block_op op, size_t index, struct qr_frame *const *frames,
           size_t count)
{
    struct page_io_storage storage;
    struct page_io *io = page_io_begin(fs->disk, fs->meta, op, frames, count, &storage);

    for (size_t i = 0; i < count; i++) {
        page_io_add(io, i, 0, fs->block_bytes, ext2_sector(fs, (uint32_t)(index + i)));
    }
    page_io_end(io);
}

static void
meta_start_read(void *context, size_t index, struct qr_frame *const *frames, size_t count)
{
    meta_start(context, BLOCK_READ, index, frames, count);
}

static void
meta_start_write(void *context, size_t index, struct qr_frame *const *frames, size_t count)
{
    meta_start(context, BLOCK_WRITE, index, frames, count);
}

static const struct qr_pager meta_pager = {
    .name = "ext2", .start_read = meta_start_read, .start_write = meta_start_write};

int64_t
ext2_meta_create(struct ext2 *fs)
{
    return errno_of(qr_object_create(memory.objects, &meta_pager, fs,
                                     (uint64_t)fs->blocks << QR_PAGE_SHIFT, &fs->meta));
}

/* Where a copy stands. */
struct meta_copy {
    char *at; /* NULL: zeros */
};

static size_t
copy_from_window(void *context, void *window, size_t bytes)
{
    struct meta_copy *copy = context;

    memcpy(copy->at, window, bytes);
    copy->at += bytes;
    return bytes;
}

static size_t
copy_to_window(void *context, void *window, size_t bytes)
{
    struct meta_copy *copy = context;

    if (copy->at == NULL) {
        memset(window, 0, bytes);
    } else {
        memcpy(window, copy->at, bytes);
        copy->at += bytes;
    }
    return bytes;
}

static uint64_t
meta_offset(uint32_t block, uint32_t offset)
{
    return ((uint64_t)block << QR_PAGE_SHIFT) + offset;
}

int64_t
ext2_meta_read(struct ext2 *fs, uint32_t block, uint32_t offset, void *to, size_t bytes)
{
    struct meta_copy copy = {.at = to};
    size_t done;
    enum qr_status status =
        qr_object_read(fs->meta, meta_offset(block, offset), bytes, copy_from_window, &copy, &done);

    return done == bytes ? 0 : status == QR_OK ? -EUCLEAN : errno_of(status);
}

int64_t
ext2_meta_write(struct ext2 *fs, uint32_t block, uint32_t offset, const void *from, size_t bytes)
{
    struct meta_copy copy = {.at = (char *)(uintptr_t)from};
    size_t done;
    enum qr_status status =
        qr_object_write(fs->meta, meta_offset(block, offset), bytes, copy_to_window, &copy, &done);

    return done == bytes ? 0 : status == QR_OK ? -EUCLEAN : errno_of(status);
}

int64_t
ext2_meta_clear(struct ext2 *fs, uint32_t block)
{
    return ext2_meta_write(fs, block, 0, NULL, fs->block_bytes);
}

void
ext2_meta_forget(struct ext2 *fs, uint32_t block)
{
    qr_object_punch(fs->meta, block, (size_t)block + 1);
}
