/* SPDX-License-Identifier: MIT */
/*
 * Disks as files: /dev/vda.
 *
 * A disk has one object, its page cache: what is read and written through the node, mapped from it,
 * and used by a mounted file system for its metadata.  Its pager is the plainest there is: page i
 * is at byte i * page size of the disk.
 *
 * Errors of writes reach each descriptor once, by fsync (file->write_errors).
 */
#include "disk_file.h"

#include <quire/assert.h>

#include "memory.h"
#include "page_io.h"
#include "proc.h"
#include "tmpfs.h"

enum {
    BLKROGET = 0x125e,
    BLKGETSIZE = 0x1260,
    BLKFLSBUF = 0x1261,
    BLKSSZGET = 0x1268,
};

/* _IOR(0x12, n, size_t): the size of a size_t is part of the number. */
#define BLKBSZGET    (0x80001270u | (uint32_t)sizeof(size_t) << 16)
#define BLKGETSIZE64 (0x80001272u | (uint32_t)sizeof(size_t) << 16)

/* ---- The pager --------------------------------------------------------------------------- */

/* Bytes of page @index that the disk has. */
static size_t
page_bytes(const struct disk *disk, size_t index)
{
    uint64_t start = (uint64_t)index << QR_PAGE_SHIFT;
    uint64_t left = disk_bytes(disk) > start ? disk_bytes(disk) - start : 0;

    return left < QR_PAGE_SIZE ? (size_t)left : QR_PAGE_SIZE;
}

static void
cache_start(struct disk *disk, enum block_op op, size_t index, struct qr_frame *const *frames,
            size_t count)
{
    struct page_io_storage storage;
    struct page_io *io = page_io_begin(disk, disk->object, op, frames, count, &storage);

    for (size_t i = 0; i < count; i++) {
        size_t bytes = page_bytes(disk, index + i);

        if (bytes > 0)
            page_io_add(io, i, 0, bytes, (uint64_t)(index + i) << (QR_PAGE_SHIFT - SECTOR_SHIFT));
        if (op == BLOCK_READ && bytes < QR_PAGE_SIZE)
            page_io_clear(io, i, bytes, QR_PAGE_SIZE - bytes);
    }
    page_io_end(io);
}

static void
cache_start_read(void *context, size_t index, struct qr_frame *const *frames, size_t count)
{
    cache_start(context, BLOCK_READ, index, frames, count);
}

static void
cache_start_write(void *context, size_t index, struct qr_frame *const *frames, size_t count)
{
    cache_start(context, BLOCK_WRITE, index, frames, count);
}

static const struct qr_pager disk_pager = {
    .name = "disk",
    .start_read = cache_start_read,
    .start_write = cache_start_write,
};

enum qr_status
disk_cache_create(struct disk *disk)
{
    return qr_object_create(memory.objects, &disk_pager, disk, disk_bytes(disk), &disk->object);
}

int64_t
disk_object_sync(struct disk *disk, struct qr_object *object, size_t first, size_t last)
{
    int64_t error = errno_of(qr_object_sync(object, first, last));
    int64_t flushed = disk_flush(disk);

    return error != 0 ? error : flushed;
}

int64_t
file_sync_object(struct file *file, struct disk *disk, struct qr_object *object, uint64_t first,
                 uint64_t last)
{
    size_t end = last > INT64_MAX ? SIZE_MAX : (size_t)((last + QR_PAGE_MASK) >> QR_PAGE_SHIFT);

    int64_t error = disk_object_sync(disk, object, (size_t)(first >> QR_PAGE_SHIFT), end);
    uint32_t errors = qr_object_write_errors(object);

    return atomic_exchange(&file->write_errors, errors) != errors ? -EIO : error;
}

/* ---- The file ------------------------------------------------------------------------------ */

static struct disk *
disk_of(const struct file *file)
{
    return file->context;
}

static size_t
copy_out(void *context, void *window, size_t bytes)
{
    return io_put(context, window, bytes);
}

static size_t
copy_in(void *context, void *window, size_t bytes)
{
    return io_take(context, window, bytes);
}

static int64_t
disk_find(void *context, uint64_t offset, size_t bytes, bool writing, uint64_t *out_sector,
          size_t *out_bytes)
{
    (void)context;
    (void)writing;
    *out_sector = offset >> SECTOR_SHIFT;
    *out_bytes = bytes;
    return 0;
}

static void
disk_place(struct file *file, struct direct_target *out)
{
    struct disk *disk = disk_of(file);

    *out = (struct direct_target){
        .disk = disk, .object = disk->object, .find = disk_find, .context = disk};
}

static int64_t
disk_direct(struct file *file, enum block_op op, struct io *io, uint64_t at, size_t bytes)
{
    struct direct_target target;

    disk_place(file, &target);
    return direct_transfer(&target, op, io, at, bytes);
}

static int64_t
disk_read(struct file *file, struct io *io, uint64_t *position)
{
    struct disk *disk = disk_of(file);
    uint64_t size = disk_bytes(disk);
    size_t done = 0;

    if (*position >= size || io->left == 0)
        return 0;
    size_t want = io->left < size - *position ? io->left : (size_t)(size - *position);

    if (atomic_load(&file->flags) & O_DIRECT) {
        int64_t result = disk_direct(file, BLOCK_READ, io, *position, want);

        *position += result > 0 ? (uint64_t)result : 0;
        return result;
    }
    enum qr_status status = qr_object_read(disk->object, *position, want, copy_out, io, &done);

    *position += done;
    return done > 0 ? (int64_t)done : errno_of(status);
}

static int64_t
disk_write(struct file *file, struct io *io, uint64_t *position)
{
    struct disk *disk = disk_of(file);
    uint64_t size = disk_bytes(disk), at = *position;
    uint32_t flags = atomic_load(&file->flags);
    size_t done = 0;
    int64_t result;

    if (io->left == 0)
        return 0;
    if (at >= size)
        return -ENOSPC;
    size_t want = io->left < size - at ? io->left : (size_t)(size - at);

    if (flags & O_DIRECT) {
        result = disk_direct(file, BLOCK_WRITE, io, at, want);
    } else {
        enum qr_status status = qr_object_write(disk->object, at, want, copy_in, io, &done);

        result = done > 0 ? (int64_t)done : errno_of(status);
    }
    if (result <= 0)
        return result;
    *position = at + (uint64_t)result;
    if (flags & O_DSYNC) {
        int64_t error = disk_object_sync(disk, disk->object, (size_t)(at >> QR_PAGE_SHIFT),
                                         (size_t)((*position + QR_PAGE_MASK) >> QR_PAGE_SHIFT));

        return error != 0 ? error : result;
    }
    return result;
}

static int64_t
disk_seek(struct file *file, int64_t offset, int whence)
{
    return seek_plain(file, offset, whence, disk_bytes(disk_of(file)));
}

static int64_t
disk_sync(struct file *file, uint64_t first_byte, uint64_t last_byte, enum file_sync how)
{
    struct disk *disk = disk_of(file);
    (void)how;

    return file_sync_object(file, disk, disk->object, first_byte, last_byte);
}

static int64_t
put_number(uint64_t argument, uint64_t value, size_t bytes)
{
    return user_write(argument, &value, bytes); /* little-endian, all of them */
}

static int64_t
disk_ioctl(struct file *file, uint32_t command, uint64_t argument)
{
    struct disk *disk = disk_of(file);

    switch (command) {
    case BLKGETSIZE64:
        return put_number(argument, disk_bytes(disk), 8);
    case BLKGETSIZE:
        return put_number(argument, disk->sectors, sizeof(size_t));
    case BLKSSZGET:
        return put_number(argument, SECTOR_BYTES, 4);
    case BLKBSZGET:
        return put_number(argument, QR_PAGE_SIZE, 4);
    case BLKROGET:
        return put_number(argument, disk->read_only, 4);
    case BLKFLSBUF: {
        int64_t error = disk_object_sync(disk, disk->object, 0, SIZE_MAX);

        qr_object_drop_clean(disk->object);
        return error;
    }
    default:
        return -ENOTTY;
    }
}

static int64_t
disk_mmap_object(struct file *file, uint32_t prot, bool shared, struct file_mapping *out)
{
    struct disk *disk = disk_of(file);

    (void)prot;
    qr_object_get(disk->object);
    *out = (struct file_mapping){
        .kind = FILE_MAPPING_OBJECT,
        .object = disk->object,
        .read_only = shared && !(file->mode & FILE_WRITE),
    };
    return 0;
}

static struct qr_object *
disk_cached(struct file *file)
{
    return disk_of(file)->object;
}

static uint32_t
disk_poll(struct file *file, struct poll_table *table)
{
    (void)file;
    (void)table;
    return POLLIN | POLLRDNORM | POLLOUT | POLLWRNORM;
}

static const struct file_ops disk_file_ops = {
    .name = "disk",
    .read = disk_read,
    .write = disk_write,
    .seek = disk_seek,
    .ioctl = disk_ioctl,
    .poll = disk_poll,
    .sync = disk_sync,
    .cached = disk_cached,
    .mmap_object = disk_mmap_object,
    .place = disk_place,
};

int64_t
disk_open(struct inode *inode, struct file *file)
{
    struct disk *disk = disk_of_number(inode->rdev);

    if (disk == NULL)
        return -ENXIO;
    if (disk->read_only && (file->mode & FILE_WRITE))
        return -EROFS;
    file->ops = &disk_file_ops;
    file->context = disk;
    file->write_errors = qr_object_write_errors(disk->object);
    return 0;
}
