/* SPDX-License-Identifier: MIT */
/*
 * Files of huge pages: of a mounted hugetlbfs (hugetlbfs_mount.c), of memfd_create(MFD_HUGETLB),
 * and what stands behind mmap(MAP_HUGETLB) and shmget(SHM_HUGETLB).
 *
 * As Linux's hugetlbfs, such a file is there to be mapped.  It can be read, cut and
 * grown in whole pages, punched and filled; it cannot be written.  Its size is its
 * object's, which a mapping for writing beyond the end moves.
 *
 * Lock: I for the size and seals.
 */
#include "hugetlb.h"

#include <quire/hugetlb.h>

#include "fs.h"
#include "memory.h"
#include "proc.h"
#include "tmpfs.h"

enum { FALLOC_KEEP_SIZE = 1, FALLOC_PUNCH_HOLE = 2 };

static const struct file_ops hugetlbfs_file_ops;

static uint64_t
page_mask(const struct inode *inode)
{
    return hugetlb_inode_page_bytes(inode) - 1;
}

static void
size_refresh(struct inode *inode)
{
    atomic_store(&inode->size, qr_object_bytes(inode->object));
}

/* ---- Reading --------------------------------------------------------------------- */

static size_t
copy_out(void *context, void *window, size_t bytes)
{
    return io_put(context, window, bytes);
}

static int64_t
hugetlbfs_read(struct file *file, struct io *io, uint64_t *position)
{
    uint64_t size = qr_object_bytes(file->inode->object);
    uint64_t at = *position;
    size_t done = 0;

    if (at >= size || io->left == 0) {
        return 0;
    }
    size_t want = io->left < size - at ? io->left : (size_t)(size - at);
    enum qr_status status = qr_object_read(file->inode->object, at, want, copy_out, io, &done);

    *position = at + done;
    return done > 0 ? (int64_t)done : errno_of(status);
}

static int64_t
hugetlbfs_seek(struct file *file, int64_t offset, int whence)
{
    return seek_plain(file, offset, whence, qr_object_bytes(file->inode->object));
}

/* ---- Size ---------------------------------------------------------------------------- */

static int64_t
truncate_locked(struct inode *inode, uint64_t bytes)
{
    if ((bytes & page_mask(inode)) != 0) {
        return -EINVAL;
    }
    if (!tmpfs_may_resize(inode, qr_object_bytes(inode->object), bytes)) {
        return -EPERM;
    }
    qr_object_set_bytes(inode->object, bytes);
    size_refresh(inode);
    inode_touch(inode, true);
    return 0;
}

static int64_t
hugetlbfs_truncate(struct inode *inode, uint64_t bytes)
{
    qr_mutex_lock(&inode->lock);
    int64_t result = truncate_locked(inode, bytes);
    qr_mutex_unlock(&inode->lock);
    return result;
}

static int64_t
hugetlbfs_file_truncate(struct file *file, uint64_t bytes)
{
    return hugetlbfs_truncate(file->inode, bytes);
}

/* Whole pages go, parts of others are cleared. I held. */
static int64_t
hole_punch(struct inode *inode, uint64_t start, uint64_t end)
{
    uint64_t size = qr_object_bytes(inode->object), mask = page_mask(inode);

    if (inode->seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)) {
        return -EPERM;
    }
    end = end < size ? end : size;
    if (start >= end) {
        return 0;
    }
    uint64_t first = (start + mask) & ~mask, last = end & ~mask;

    if (first > last) {
        return tmpfs_clear_bytes(inode, start, end);
    }
    int64_t error = tmpfs_clear_bytes(inode, start, first);
    if (error == 0) {
        error = tmpfs_clear_bytes(inode, last, end);
    }
    if (error == 0 && first < last) {
        qr_object_punch(inode->object, (size_t)(first >> QR_PAGE_SHIFT),
                        (size_t)(last >> QR_PAGE_SHIFT));
    }
    return error;
}

/* Have every page of [start, end), as far as there are pages. I held. */
static int64_t
pages_fill(struct inode *inode, uint64_t start, uint64_t end, bool keep_size)
{
    uint64_t bytes = page_mask(inode) + 1, size = qr_object_bytes(inode->object);
    uint64_t limit = (end + bytes - 1) & ~(bytes - 1);

    if (limit > INT64_MAX) {
        return -EFBIG;
    }
    if (end > size && (inode->seals & F_SEAL_GROW)) {
        return -EPERM;
    }
    if (limit > size) {
        qr_object_set_bytes(inode->object, limit);
    }
    int64_t error = 0;
    for (uint64_t at = start & ~(bytes - 1); error == 0 && at < limit; at += bytes) {
        struct qr_frame *frame;
        enum qr_status status =
            qr_object_get_page(inode->object, (size_t)(at >> QR_PAGE_SHIFT), QR_PAGE_FILL, &frame);

        error = status == QR_ERR_LIMIT ? -ENOSPC : errno_of(status);
        if (error == 0) {
            qr_frame_put(memory.frames, frame);
        }
        if (error == 0 && signal_is_pending()) {
            error = -EINTR;
        }
    }
    /* Beyond its end a file keeps nothing here; what failed leaves the size as it was. */
    if (limit > size && (error != 0 || keep_size)) {
        qr_object_set_bytes(inode->object, size);
    }
    return error;
}

static int64_t
hugetlbfs_allocate(struct file *file, uint32_t mode, uint64_t offset, uint64_t length)
{
    struct inode *inode = file->inode;
    int64_t result;

    if (mode & ~(uint32_t)(FALLOC_KEEP_SIZE | FALLOC_PUNCH_HOLE)) {
        return -EOPNOTSUPP;
    }
    qr_mutex_lock(&inode->lock);
    if (mode & FALLOC_PUNCH_HOLE) {
        result = hole_punch(inode, offset, offset + length);
    } else {
        result = pages_fill(inode, offset, offset + length, (mode & FALLOC_KEEP_SIZE) != 0);
    }
    size_refresh(inode);
    if (result == 0) {
        inode_touch(inode, true);
    }
    qr_mutex_unlock(&inode->lock);
    return result;
}

/* ---- Mapping ---------------------------------------------------------------------------- */

enum { PROT_WRITE = 2 };

static int64_t
hugetlbfs_mmap_object(struct file *file, uint32_t prot, bool shared, struct file_mapping *out)
{
    struct inode *inode = file->inode;
    bool sealed = (inode->seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)) != 0;

    if (shared && sealed && (prot & PROT_WRITE)) {
        return -EPERM;
    }
    qr_object_get(inode->object);
    out->kind = FILE_MAPPING_OBJECT;
    out->object = inode->object;
    out->read_only = shared && (sealed || !(file->mode & FILE_WRITE));
    return 0;
}

static const struct file_ops hugetlbfs_file_ops = {
    .name = "file",
    .read = hugetlbfs_read,
    .seek = hugetlbfs_seek,
    .truncate = hugetlbfs_file_truncate,
    .allocate = hugetlbfs_allocate,
    .mmap_object = hugetlbfs_mmap_object,
};

/* ---- Inodes -------------------------------------------------------------------------------- */

static void
hugetlbfs_evict(struct inode *inode)
{
    if (inode->object != NULL) {
        qr_object_put(inode->object);
    }
}

static uint64_t
hugetlbfs_blocks(struct inode *inode)
{
    return (uint64_t)qr_object_resident(inode->object) * (FS_PAGE_BYTES / 512);
}

static const struct inode_ops hugetlbfs_inode_ops = {
    .blocks = hugetlbfs_blocks,
    .truncate = hugetlbfs_truncate,
    .refresh = size_refresh,
    .evict = hugetlbfs_evict,
};

uint64_t
hugetlb_inode_page_bytes(const struct inode *inode)
{
    if (inode->ops != &hugetlbfs_inode_ops) {
        return 0;
    }
    return qr_hugetlb_pool_bytes(qr_object_hugetlb_pool(inode->object));
}

struct qr_hugetlb_pool *
hugetlb_pool_of_file(const struct file *file)
{
    if (file->inode->ops != &hugetlbfs_inode_ops || (file->mode & FILE_PATH_ONLY)) {
        return NULL;
    }
    return qr_object_hugetlb_pool(file->inode->object);
}

struct inode *
hugetlb_inode_create(struct superblock *superblock, struct qr_hugetlb_pool *pool, uint32_t mode,
                     uint64_t bytes)
{
    struct inode *inode = inode_create(superblock, &hugetlbfs_inode_ops, mode);

    if (inode == NULL) {
        return NULL;
    }
    inode->file_ops = &hugetlbfs_file_ops;
    inode->seals = F_SEAL_SEAL;
    atomic_store(&inode->size, bytes);
    if (qr_object_create_hugetlb(memory.objects, pool, bytes, &inode->object) != QR_OK) {
        inode_put(inode);
        return NULL;
    }
    return inode;
}

int64_t
hugetlb_file_create(const char *label, struct qr_hugetlb_pool *pool, uint64_t bytes,
                    struct file **out_file)
{
    struct inode *inode = hugetlb_inode_create(anonymous_superblock, pool, S_IFREG | 0777u, bytes);

    if (inode == NULL) {
        return -ENOMEM;
    }
    inode->links = 0;
    return nameless_open(inode, label, out_file);
}
