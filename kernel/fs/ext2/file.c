/* SPDX-License-Identifier: MIT */
/*
 * Regular files: an object of the library over the blocks of the file.
 *
 * Every block of a dirty page that lies inside the size has a place on the disk: write() finds one for
 * each before it copies, so that a full disk is told to the writer (ENOSPC).  A store through a mapping
 * into a hole gets its place at write-back; there a full disk is an error of fsync.
 *
 * The page is in memory before a new block is given to it: a hole reads as zeros, and what
 * the disk holds in a block that was somebody else's is never seen.  Bytes behind the size are zero
 * in memory when the size changes, and on the disk.
 *
 * Truncation: first the size and the pages (the library's order against faults; it waits for
 * pages that are being written), then the blocks.  So no block is given back while its page is on its
 * way to it.
 *
 * Locks: I over read-modify of size and contents; page locks; B; A.
 */
#include <quire/assert.h>

#include "../disk_file.h"
#include "../page_io.h"
#include "../writeback.h"
#include "ext2.h"
#include "memory.h"
#include "proc.h"

enum { CHUNK_BYTES = 1 << 20 }; /* between looks at signals */

uint64_t
ext2_size_limit(const struct ext2 *fs)
{
    uint64_t by_map = ext2_map_limit(fs) << fs->block_shift;
    uint64_t by_count = (uint64_t)UINT32_MAX << SECTOR_SHIFT;

    return by_map < by_count ? by_map : by_count;
}

/* ---- the pager -------------------------------------------------------------------------------- */

/* Blocks of a page that lie inside the size. */
static unsigned
blocks_in_page(const struct ext2_inode *node, size_t index)
{
    uint64_t start = (uint64_t)index << QR_PAGE_SHIFT;
    uint64_t size = atomic_load(&node->inode->size);
    uint64_t left = size > start ? size - start : 0;
    uint64_t blocks = (left + node->fs->block_bytes - 1) >> node->fs->block_shift;
    unsigned most = (unsigned)(QR_PAGE_SIZE >> node->fs->block_shift);

    return blocks < most ? (unsigned)blocks : most;
}

static uint64_t
first_block_of(const struct ext2_inode *node, size_t index)
{
    return (uint64_t)index << (QR_PAGE_SHIFT - node->fs->block_shift);
}

static void
page_read(struct ext2_inode *node, struct page_io *io, size_t i, size_t index)
{
    struct ext2 *fs = node->fs;
    unsigned blocks = blocks_in_page(node, index);
    size_t end = (size_t)blocks << fs->block_shift;

    for (unsigned b = 0; b < blocks; b++) {
        struct ext2_place place;

        if (ext2_map(node, first_block_of(node, index) + b, EXT2_LOOK, &place) != 0) {
            page_io_fail(io);
        } else if (place.block == 0) {
            page_io_clear(io, i, (size_t)b << fs->block_shift, fs->block_bytes);
        } else {
            page_io_add(io, i, (size_t)b << fs->block_shift, fs->block_bytes,
                        ext2_sector(fs, place.block));
        }
    }
    page_io_clear(io, i, end, QR_PAGE_SIZE - end);
}

static void
page_write(struct ext2_inode *node, struct page_io *io, size_t i, size_t index)
{
    struct ext2 *fs = node->fs;
    unsigned blocks = blocks_in_page(node, index);
    uint64_t size = atomic_load(&node->inode->size);
    size_t inside = size >> QR_PAGE_SHIFT == index ? (size_t)(size & QR_PAGE_MASK) : QR_PAGE_SIZE;

    if (inside < QR_PAGE_SIZE) {
        page_io_clear(io, i, inside, QR_PAGE_SIZE - inside);
    }
    for (unsigned b = 0; b < blocks; b++) {
        struct ext2_place place;

        if (ext2_map(node, first_block_of(node, index) + b, EXT2_MAKE, &place) != 0) {
            page_io_fail(io);
        } else {
            page_io_add(io, i, (size_t)b << fs->block_shift, fs->block_bytes,
                        ext2_sector(fs, place.block));
        }
    }
}

static void
file_start(struct ext2_inode *node, enum block_op op, size_t index, struct qr_frame *const *frames,
           size_t count)
{
    struct page_io_storage storage;
    struct page_io *io =
        page_io_begin(node->fs->disk, node->inode->object, op, frames, count, &storage);

    for (size_t i = 0; i < count; i++) {
        if (op == BLOCK_READ) {
            page_read(node, io, i, index + i);
        } else {
            page_write(node, io, i, index + i);
        }
    }
    page_io_end(io);
}

static void
file_start_read(void *context, size_t index, struct qr_frame *const *frames, size_t count)
{
    file_start(context, BLOCK_READ, index, frames, count);
}

static void
file_start_write(void *context, size_t index, struct qr_frame *const *frames, size_t count)
{
    file_start(context, BLOCK_WRITE, index, frames, count);
}

static const struct qr_pager file_pager = {
    .name = "ext2 file", .start_read = file_start_read, .start_write = file_start_write};

/* I held. */
static struct qr_object *
object_get(struct inode *inode)
{
    if (inode->object == NULL) {
        struct qr_object *object;

        if (qr_object_create(memory.objects, &file_pager, ext2_of(inode), atomic_load(&inode->size),
                             &object) != QR_OK) {
            return NULL;
        }
        atomic_store((_Atomic(struct qr_object *) *)&inode->object, object);
    }
    return inode->object;
}

struct qr_object *
ext2_object(struct inode *inode)
{
    qr_mutex_lock(&inode->lock);
    struct qr_object *object = object_get(inode);
    qr_mutex_unlock(&inode->lock);
    return object;
}

int64_t
ext2_file_open(struct inode *inode, struct file *file)
{
    struct qr_object *object = ext2_object(inode);

    if (object == NULL) {
        return -ENOMEM;
    }
    file->write_errors = qr_object_write_errors(object);
    return 0;
}

/* ---- size ------------------------------------------------------------------------------------- */

static void
size_set(struct inode *inode, uint64_t bytes)
{
    atomic_store(&inode->size, bytes);
    qr_object_set_bytes(inode->object, bytes);
    atomic_store(&inode->dirty, true);
}

/*
 * Have the page that holds byte @at in memory, if it lies inside the size: set_bytes() clears what is
 * behind the end of it, and here it is marked to be written so. I held.
 */
static int64_t
edge_prepare(struct inode *inode, uint64_t at, struct qr_frame **out_frame)
{
    *out_frame = NULL;
    if ((at & QR_PAGE_MASK) == 0 || at > atomic_load(&inode->size)) {
        return 0;
    }
    return errno_of(
        qr_object_get_page(inode->object, (size_t)(at >> QR_PAGE_SHIFT), QR_PAGE_FILL, out_frame));
}

/* A hole is zero by itself. */
static void
edge_finish(struct inode *inode, uint64_t at, struct qr_frame *frame)
{
    struct ext2_place place;

    if (frame != NULL) {
        if (ext2_map(ext2_of(inode), at >> ext2_fs_of(inode)->block_shift, EXT2_LOOK, &place) !=
                0 ||
            place.block != 0) {
            qr_object_mark_dirty(inode->object, frame);
        }
        qr_frame_put(memory.frames, frame);
    }
}

/* Change the size, blocks untouched. I held. @return 0, -EIO, -ENOMEM: nothing has changed */
static int64_t
size_change(struct inode *inode, uint64_t bytes)
{
    uint64_t before = atomic_load(&inode->size);
    uint64_t at = bytes < before ? bytes : before;
    struct qr_frame *edge;
    int64_t error = edge_prepare(inode, at, &edge);

    if (error == 0) {
        size_set(inode, bytes);
        edge_finish(inode, at, edge);
    }
    return error;
}

static int64_t
truncate_locked(struct inode *inode, uint64_t bytes)
{
    struct ext2 *fs = ext2_fs_of(inode);
    uint64_t before = atomic_load(&inode->size);

    if (bytes > ext2_size_limit(fs)) {
        return -EFBIG;
    }
    if (bytes <= before && atomic_load(&inode->swapped_to)) {
        return -ETXTBSY;
    }
    if (object_get(inode) == NULL) {
        return -ENOMEM;
    }
    int64_t error = bytes == before ? 0 : size_change(inode, bytes);
    if (error == 0 && bytes <= before) {
        ext2_map_cut(ext2_of(inode), (bytes + fs->block_bytes - 1) >> fs->block_shift);
    }
    if (error == 0) {
        inode_touch(inode, true);
    }
    return error;
}

int64_t
ext2_truncate(struct inode *inode, uint64_t bytes)
{
    if (!S_ISTYPE(inode->mode, S_IFREG)) {
        return S_ISTYPE(inode->mode, S_IFDIR) ? -EISDIR : -EINVAL;
    }
    if (superblock_is_read_only(inode->superblock)) {
        return -EROFS;
    }
    qr_mutex_lock(&inode->lock);
    int64_t result = truncate_locked(inode, bytes);
    qr_mutex_unlock(&inode->lock);
    return result;
}

static int64_t
file_truncate(struct file *file, uint64_t bytes)
{
    return ext2_truncate(file->inode, bytes);
}

/* Linux's ext2 has no fallocate. */
static int64_t
file_allocate(struct file *file, uint32_t mode, uint64_t offset, uint64_t length)
{
    (void)file;
    (void)mode;
    (void)offset;
    (void)length;
    return -EOPNOTSUPP;
}

/* ---- past the page cache ------------------------------------------------------------------------ */

/* As far as blocks follow each other on the disk, or holes in the file. */
static int64_t
file_find(void *context, uint64_t offset, size_t bytes, bool writing, uint64_t *out_sector,
          size_t *out_bytes)
{
    struct ext2_inode *node = context;
    struct ext2 *fs = node->fs;
    uint64_t index = offset >> fs->block_shift;
    uint32_t within = (uint32_t)offset & (fs->block_bytes - 1);
    struct ext2_place place, next;
    int64_t error = ext2_map(node, index, EXT2_LOOK, &place);

    if (error != 0) {
        return error;
    }
    uint64_t covered = fs->block_bytes - within;
    if (place.block == 0) {
        *out_sector = UINT64_MAX;
        *out_bytes = covered < bytes ? (size_t)covered : bytes;
        return writing ? -EIO : 0;
    }
    *out_sector = ext2_sector(fs, place.block) + (within >> SECTOR_SHIFT);
    for (uint32_t i = 1; covered < bytes; i++, covered += fs->block_bytes) {
        if (ext2_map(node, index + i, EXT2_LOOK, &next) != 0 || next.block != place.block + i) {
            break;
        }
    }
    *out_bytes = covered < bytes ? (size_t)covered : bytes;
    return 0;
}

static void
file_place(struct file *file, struct direct_target *out)
{
    struct inode *inode = file->inode;

    *out = (struct direct_target){.disk = ext2_fs_of(inode)->disk,
                                  .object = inode->object,
                                  .find = file_find,
                                  .context = ext2_of(inode)};
}

static int64_t
file_direct(struct file *file, enum block_op op, struct io *io, uint64_t at, size_t bytes)
{
    struct direct_target target;

    file_place(file, &target);
    return direct_transfer(&target, op, io, at, bytes);
}

/* Whether all of a range has blocks: what is new goes through the page cache. */
static bool
is_all_there(struct inode *inode, uint64_t at, size_t bytes)
{
    struct ext2 *fs = ext2_fs_of(inode);
    struct ext2_place place;

    if (at + bytes > atomic_load(&inode->size)) {
        return false;
    }
    for (uint64_t i = at >> fs->block_shift; i << fs->block_shift < at + bytes; i++) {
        if (ext2_map(ext2_of(inode), i, EXT2_LOOK, &place) != 0 || place.block == 0) {
            return false;
        }
    }
    return true;
}

/* ---- reading ------------------------------------------------------------------------------------ */

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

/* relatime: once a day, or where nothing else tells that it was read since it changed. */
static void
touch_accessed(struct file *file)
{
    enum { DAY = 24 * 60 * 60 };
    struct inode *inode = file->inode;
    struct timespec now = time_now();

    if ((atomic_load(&file->flags) & O_NOATIME) || superblock_is_read_only(inode->superblock) ||
        (inode->superblock->mount_flags & MS_NOATIME)) {
        return;
    }
    if (inode->accessed.seconds <= inode->modified.seconds ||
        inode->accessed.seconds <= inode->changed.seconds ||
        now.seconds - inode->accessed.seconds >= DAY) {
        inode->accessed = now;
        atomic_store(&inode->dirty, true);
    }
}

static int64_t
read_direct(struct file *file, struct io *io, uint64_t at, uint64_t size)
{
    struct inode *inode = file->inode;
    uint64_t rounded = (size - at + SECTOR_BYTES - 1) & ~(uint64_t)(SECTOR_BYTES - 1);
    size_t want = io->left < rounded ? io->left : (size_t)rounded;

    qr_mutex_lock(&inode->lock);
    int64_t done = file_direct(file, BLOCK_READ, io, at, want);
    qr_mutex_unlock(&inode->lock);
    return done > 0 && (uint64_t)done > size - at ? (int64_t)(size - at) : done;
}

static int64_t
file_read(struct file *file, struct io *io, uint64_t *position)
{
    struct inode *inode = file->inode;
    uint64_t size = atomic_load(&inode->size), at = *position;
    int64_t result;
    size_t done = 0;

    if (at >= size || io->left == 0) {
        return 0;
    }
    if (atomic_load(&file->flags) & O_DIRECT) {
        result = read_direct(file, io, at, size);
    } else {
        size_t want = io->left < size - at ? io->left : (size_t)(size - at);
        enum qr_status status = qr_object_read(inode->object, at, want, copy_out, io, &done);

        result = done > 0 ? (int64_t)done : errno_of(status);
    }
    if (result > 0) {
        *position = at + (uint64_t)result;
    }
    touch_accessed(file);
    return result;
}

/* ---- writing ------------------------------------------------------------------------------------ */

/* Have page @index in memory and its blocks on the disk. I held. @return 0; the page is held */
static int64_t
page_prepare(struct inode *inode, size_t index, struct qr_frame **out_frame)
{
    struct ext2_inode *node = ext2_of(inode);
    unsigned blocks = blocks_in_page(node, index);
    struct ext2_place place = {.made = false};
    int64_t error = errno_of(qr_object_get_page(inode->object, index, QR_PAGE_FILL, out_frame));

    if (error != 0) {
        return error;
    }
    for (unsigned b = 0; b < blocks && error == 0; b++) {
        error = ext2_map(node, first_block_of(node, index) + b, EXT2_MAKE, &place);
        if (error == 0 && place.made) {
            qr_object_mark_dirty(inode->object, *out_frame); /* whatever else happens */
        }
    }
    if (error != 0) {
        qr_frame_put(memory.frames, *out_frame);
    }
    return error;
}

/* Within one page, inside the size. I held. @return bytes or -errno */
static int64_t
write_page(struct inode *inode, struct io *io, uint64_t at, size_t want)
{
    struct qr_frame *frame;
    size_t done = 0;
    int64_t error = page_prepare(inode, (size_t)(at >> QR_PAGE_SHIFT), &frame);

    if (error != 0) {
        return error;
    }
    enum qr_status status = qr_object_write(inode->object, at, want, copy_in, io, &done);
    qr_frame_put(memory.frames, frame);
    return done > 0 ? (int64_t)done : status == QR_OK ? -EFAULT : errno_of(status);
}

/* Grow to hold the chunk, write it page by page, take back what was left unwritten. I held. */
static int64_t
write_chunk(struct inode *inode, struct io *io, uint64_t at, size_t want)
{
    uint64_t before = atomic_load(&inode->size);
    size_t total = 0;
    int64_t result = at + want > before ? size_change(inode, at + want) : 0;

    while (result >= 0 && total < want) {
        uint64_t here = at + total;
        size_t piece = QR_PAGE_SIZE - (size_t)(here & QR_PAGE_MASK);

        piece = piece < want - total ? piece : want - total;
        result = write_page(inode, io, here, piece);
        total += result > 0 ? (size_t)result : 0;
    }
    if (total < want && at + want > before) {
        uint64_t size = total > 0 && at + total > before ? at + total : before;

        if (atomic_load(&inode->size) != size && size_change(inode, size) == 0) {
            struct ext2 *fs = ext2_fs_of(inode);

            ext2_map_cut(ext2_of(inode), (size + fs->block_bytes - 1) >> fs->block_shift);
        }
    }
    return total > 0 ? (int64_t)total : result;
}

static int64_t
write_some(struct file *file, struct io *io, uint64_t at, size_t bytes)
{
    struct inode *inode = file->inode;
    size_t total = 0;
    int64_t result = 0;

    while (result >= 0 && total < bytes) {
        size_t want = bytes - total < CHUNK_BYTES ? bytes - total : CHUNK_BYTES;

        if (total > 0 && signal_is_fatal_pending()) {
            break;
        }
        result = write_chunk(inode, io, at + total, want);
        total += result > 0 ? (size_t)result : 0;
    }
    return total > 0 ? (int64_t)total : result;
}

/* Past the page cache where it can be; what has no blocks yet goes through it and to the disk at once. */
static int64_t
write_direct(struct file *file, struct io *io, uint64_t at, size_t bytes)
{
    struct inode *inode = file->inode;

    if (is_all_there(inode, at, bytes)) {
        return file_direct(file, BLOCK_WRITE, io, at, bytes);
    }
    if (!direct_is_aligned(io, at, bytes)) {
        return -EINVAL;
    }
    int64_t result = write_some(file, io, at, bytes);
    if (result > 0) {
        enum qr_status status =
            qr_object_sync(inode->object, (size_t)(at >> QR_PAGE_SHIFT),
                           (size_t)((at + (uint64_t)result + QR_PAGE_MASK) >> QR_PAGE_SHIFT));

        result = status == QR_OK ? result : errno_of(status);
    }
    return result;
}

static int64_t
write_locked(struct file *file, struct io *io, uint64_t *position)
{
    struct inode *inode = file->inode;
    uint32_t flags = atomic_load(&file->flags);
    uint64_t at = flags & O_APPEND ? atomic_load(&inode->size) : *position;
    uint64_t limit = ext2_size_limit(ext2_fs_of(inode));
    if (atomic_load(&inode->swapped_to)) {
        return -ETXTBSY;
    }
    int64_t allowed = write_clip(at, io->left);

    if (superblock_is_read_only(inode->superblock)) {
        return -EROFS;
    }
    if (allowed <= 0) {
        return allowed;
    }
    if (at >= limit) {
        return -EFBIG;
    }
    size_t bytes = (uint64_t)allowed < limit - at ? (size_t)allowed : (size_t)(limit - at);
    int64_t result =
        flags & O_DIRECT ? write_direct(file, io, at, bytes) : write_some(file, io, at, bytes);
    if (result > 0) {
        inode->mode &= process_fsuid_or_boot() == 0 ? ~0u : ~(S_ISUID | S_ISGID);
        inode_touch(inode, true);
        *position = at + (uint64_t)result;
    }
    return result;
}

static int64_t file_sync_range(struct file *file, uint64_t first, uint64_t last,
                               enum file_sync how);

static int64_t
file_write(struct file *file, struct io *io, uint64_t *position)
{
    struct inode *inode = file->inode;
    uint32_t flags = atomic_load(&file->flags);

    qr_mutex_lock(&inode->lock);
    int64_t result = write_locked(file, io, position);
    qr_mutex_unlock(&inode->lock);
    if (result > 0 && (flags & O_DSYNC)) {
        int64_t error =
            file_sync_range(file, *position - (uint64_t)result, *position,
                            (flags & O_SYNC) == O_SYNC ? FILE_SYNC_ALL : FILE_SYNC_DATA);

        return error != 0 ? error : result;
    }
    if (result > 0) {
        writeback_throttle(inode->object);
    }
    return result;
}

/* ---- to the disk -------------------------------------------------------------------------------- */

int64_t
ext2_contents_sync(struct inode *inode)
{
    struct qr_object *object = S_ISTYPE(inode->mode, S_IFREG) ? inode->object : NULL;
    int64_t error = object == NULL ? 0 : errno_of(qr_object_sync(object, 0, SIZE_MAX));
    int64_t stored = ext2_inode_store(inode);

    return error != 0 ? error : stored;
}

/*
 * The contents, then what leads to them: the inode, blocks of pointers, bitmaps.  All metadata goes,
 * also that of others: what one file needs is not told apart.
 */
static int64_t
file_sync_range(struct file *file, uint64_t first, uint64_t last, enum file_sync how)
{
    struct inode *inode = file->inode;
    struct qr_object *object = inode->object;
    struct ext2 *fs = ext2_fs_of(inode);
    size_t end = last > INT64_MAX ? SIZE_MAX : (size_t)((last + QR_PAGE_MASK) >> QR_PAGE_SHIFT);

    (void)how; /* times go with the rest */
    if (qr_object_dirty(object) > 0 && qr_object_writable_mappings(object) > 0) {
        inode_touch(inode, true); /* stores through mappings */
    }
    int64_t error = errno_of(qr_object_sync(object, (size_t)(first >> QR_PAGE_SHIFT), end));
    int64_t stored = ext2_inode_store(inode);
    int64_t meta = disk_object_sync(fs->disk, fs->meta, 0, SIZE_MAX);
    uint32_t errors = qr_object_write_errors(object);

    if (atomic_exchange(&file->write_errors, errors) != errors) {
        return -EIO;
    }
    return error != 0 ? error : stored != 0 ? stored : meta;
}

static int64_t
file_seek(struct file *file, int64_t offset, int whence)
{
    return seek_plain(file, offset, whence, atomic_load(&file->inode->size));
}

static int64_t
file_mmap(struct file *file, uint32_t prot, bool shared, struct file_mapping *out)
{
    struct qr_object *object = ext2_object(file->inode);

    (void)prot;
    if (object == NULL) {
        return -ENOMEM;
    }
    qr_object_get(object);
    touch_accessed(file);
    *out = (struct file_mapping){
        .kind = FILE_MAPPING_OBJECT,
        .object = object,
        .read_only = shared && !(file->mode & FILE_WRITE),
    };
    return 0;
}

static uint32_t
file_poll(struct file *file, struct poll_table *table)
{
    (void)file;
    (void)table;
    return POLLIN | POLLRDNORM | POLLOUT | POLLWRNORM;
}

const struct file_ops ext2_file_ops = {
    .name = "ext2",
    .read = file_read,
    .write = file_write,
    .seek = file_seek,
    .poll = file_poll,
    .truncate = file_truncate,
    .allocate = file_allocate,
    .mmap_object = file_mmap,
    .sync = file_sync_range,
    .place = file_place,
};
