/* SPDX-License-Identifier: MIT */
/*
 * System calls about files and what is behind them: writing back, reading ahead, dropping.
 *
 * A file without a backing (tmpfs, /proc) is always in step with it: there they succeed at once.
 */

#include "block.h"
#include "disk_file.h"
#include "fs.h"
#include "syscall.h"

static int64_t
sync_call(const struct syscall_args *args, enum file_sync how)
{
    struct file *file = file_get((int32_t)args->arg[0]);

    if (file == NULL) {
        return -EBADF;
    }
    int64_t error = file_sync(file, 0, UINT64_MAX, how);
    file_put(file);
    return error;
}

int64_t
sys_fsync(const struct syscall_args *args)
{
    return sync_call(args, FILE_SYNC_ALL);
}

int64_t
sys_fdatasync(const struct syscall_args *args)
{
    return sync_call(args, FILE_SYNC_DATA);
}

int64_t
sys_sync(const struct syscall_args *args)
{
    (void)args;
    mounts_sync();
    for (size_t i = 0; disk_at(i) != NULL; i++) {
        (void)disk_object_sync(disk_at(i), disk_at(i)->object, 0, SIZE_MAX);
    }
    return 0;
}

int64_t
sys_syncfs(const struct syscall_args *args)
{
    struct file *file = file_get((int32_t)args->arg[0]);

    if (file == NULL) {
        return -EBADF;
    }
    struct superblock *superblock = file->inode->superblock;
    int64_t error = superblock->type->sync == NULL ? 0 : superblock->type->sync(superblock);
    file_put(file);
    return error;
}

/* ---- parts of files ----------------------------------------------------------------------- */

/* Pages of an object that hold bytes of a range. */
struct page_range {
    size_t first, last;
};

/* @bytes 0: up to the end. */
static struct page_range
pages_of(uint64_t offset, uint64_t bytes)
{
    uint64_t end;

    if (bytes == 0 || __builtin_add_overflow(offset, bytes, &end) || end > INT64_MAX) {
        end = INT64_MAX;
    }
    uint64_t last = (end + FS_PAGE_BYTES - 1) / FS_PAGE_BYTES;
    uint64_t first = offset / FS_PAGE_BYTES;

    return (struct page_range){first < SIZE_MAX ? (size_t)first : SIZE_MAX,
                               last < SIZE_MAX ? (size_t)last : SIZE_MAX};
}

static bool
has_pages(const struct file *file)
{
    uint32_t type = file->inode->mode & S_IFMT;

    return type == S_IFREG || type == S_IFBLK;
}

enum { SYNC_WAIT_BEFORE = 1, SYNC_WRITE = 2, SYNC_WAIT_AFTER = 4 };

/* Neither metadata nor the disk's own cache: as documented. */
static int64_t
sync_range(struct file *file, uint64_t offset, uint64_t bytes, uint32_t flags)
{
    struct page_range range = pages_of(offset, bytes);
    struct qr_object *object = file_cached_object(file);

    if (object == NULL) {
        return 0;
    }
    if (flags & SYNC_WAIT_BEFORE) {
        qr_object_wait_written(object, range.first, range.last);
    }
    if (flags & SYNC_WRITE) {
        (void)qr_object_start_sync(object, range.first, range.last, SIZE_MAX);
    }
    if (flags & SYNC_WAIT_AFTER) {
        qr_object_wait_written(object, range.first, range.last);
    }
    uint32_t errors = qr_object_write_errors(object);
    bool failed = (flags & (SYNC_WAIT_BEFORE | SYNC_WAIT_AFTER)) &&
                  atomic_exchange(&file->write_errors, errors) != errors;

    qr_object_put(object);
    return failed ? -EIO : 0;
}

int64_t
sys_sync_file_range(const struct syscall_args *args)
{
    int64_t offset = (int64_t)args->arg[1], bytes = (int64_t)args->arg[2], end;
    uint32_t flags = (uint32_t)args->arg[3];
    struct file *file = file_get((int32_t)args->arg[0]);
    int64_t error;

    if (file == NULL) {
        return -EBADF;
    }
    uint32_t type = file->inode->mode & S_IFMT;
    if (offset < 0 || bytes < 0 || (flags & ~7u) || __builtin_add_overflow(offset, bytes, &end)) {
        error = -EINVAL;
    } else if (type != S_IFREG && type != S_IFBLK && type != S_IFDIR && type != S_IFLNK) {
        error = -ESPIPE;
    } else {
        error = has_pages(file) ? sync_range(file, (uint64_t)offset, (uint64_t)bytes, flags) : 0;
    }
    file_put(file);
    return error;
}

enum { ADVICE_WILLNEED = 3, ADVICE_DONTNEED = 4, ADVICE_LAST = 5 };

static void
advise_pages(struct file *file, struct page_range range, uint32_t advice)
{
    struct qr_object *object = has_pages(file) ? file_cached_object(file) : NULL;

    if (object == NULL) {
        return;
    }
    if (advice == ADVICE_WILLNEED) {
        qr_object_read_ahead(object, range.first, range.last - range.first);
    } else if (advice == ADVICE_DONTNEED) {
        (void)qr_object_start_sync(object, range.first, range.last, SIZE_MAX);
        (void)qr_object_drop_clean_range(object, range.first, range.last);
    }
    qr_object_put(object);
}

int64_t
sys_fadvise64(const struct syscall_args *args)
{
    struct file *file = file_get((int32_t)args->arg[0]);
    uint64_t offset = args->arg[1], bytes = args->arg[2];
    uint32_t advice = (uint32_t)args->arg[3];
    int64_t error = 0;

    if (file == NULL) {
        return -EBADF;
    }
    if (S_ISTYPE(file->inode->mode, S_IFIFO)) {
        error = -ESPIPE;
    } else if ((int64_t)bytes < 0 || advice > ADVICE_LAST) {
        error = -EINVAL;
    } else {
        struct page_range range = pages_of(offset, bytes);

        /* Of a page that is not named whole the rest may still be wanted. */
        if (advice == ADVICE_DONTNEED) {
            range.first += offset % FS_PAGE_BYTES != 0;
            range.last -= bytes != 0 && (offset + bytes) % FS_PAGE_BYTES != 0 &&
                          offset + bytes < file_size(file);
        }
        if (range.first < range.last) {
            advise_pages(file, range, advice);
        }
    }
    file_put(file);
    return error;
}

int64_t
sys_readahead(const struct syscall_args *args)
{
    struct file *file = file_get((int32_t)args->arg[0]);
    int64_t error = 0;

    if (file == NULL) {
        return -EBADF;
    }
    if (!(file->mode & FILE_READ)) {
        error = -EBADF;
    } else if (!has_pages(file) || (int64_t)args->arg[2] < 0) {
        error = -EINVAL;
    } else if (args->arg[2] > 0) {
        advise_pages(file, pages_of(args->arg[1], args->arg[2]), ADVICE_WILLNEED);
    }
    file_put(file);
    return error;
}
