/* SPDX-License-Identifier: MIT */
/*
 * ext2: mounting, and what is true of the whole.
 *
 *      names     dir.c     entries of directories <-> the tree in memory
 *      inodes    inode.c   the inode table <-> struct inode
 *      contents  file.c    pages <-> blocks of a file
 *      places    map.c     index of a block in a file -> block of the disk
 *      space     alloc.c   bitmaps
 *      blocks    meta.c    all of the above but contents: an object of its own
 *
 * The image is not trusted.  What the superblock and the descriptors of groups say is checked here once,
 * so that the other files can compute with it; everything else is checked where it is read.  What is
 * found wrong later ends changes to the file system (`failed`, as errors=remount-ro): calls that would
 * change it answer EROFS, calls that met the damage EUCLEAN or EIO, and the state on the disk says
 * "errors" from the unmount on.
 *
 * There is no journal: fsync, sync and an orderly unmount are what brings the disk in order, and
 * after a crash e2fsck is due, as with Linux's ext2.
 *
 * Locks, outermost first: T or L, I, page locks, B, A, page locks of metadata; H alone.
 */
#include <quire/assert.h>

#include "../disk_file.h"
#include "ext2.h"
#include "memory.h"

enum { SUPER_OFFSET = 1024, GROUPS_MAX = 1 << 20 };

void
ext2_damaged(struct ext2 *fs, const char *what, uint32_t number)
{
    if (!atomic_exchange(&fs->superblock->failed, true)) {
        printk("ext2: %s: %s (%u); it is read-only from now on\n", fs->disk->name, what, number);
    }
}

/* ---- the superblock ------------------------------------------------------------------------------ */

static size_t
copy_raw(void *context, void *window, size_t bytes)
{
    char **at = context;

    memcpy(*at, window, bytes);
    *at += bytes;
    return bytes;
}

static int64_t
raw_read(struct disk *disk, uint64_t offset, void *to, size_t bytes)
{
    char *at = to;
    size_t done;
    enum qr_status status = qr_object_read(disk->object, offset, bytes, copy_raw, &at, &done);

    return done == bytes ? 0 : status == QR_OK ? -EINVAL : errno_of(status);
}

static bool
numbers_are_sound(const struct ext2_super_disk *super, const struct disk *disk)
{
    if (super->magic != EXT2_MAGIC || super->log_block > 2 || super->revision > 1) {
        return false;
    }
    uint32_t block_bytes = 1024u << super->log_block;
    uint32_t inode_bytes = super->revision == 0 ? 128 : super->inode_bytes;

    return super->first_block == (block_bytes == 1024 ? 1u : 0u) &&
           super->blocks > super->first_block && super->blocks <= disk_bytes(disk) / block_bytes &&
           super->blocks_per_group > 0 && super->blocks_per_group <= 8 * block_bytes &&
           super->inodes_per_group > 0 && super->inodes_per_group <= 8 * block_bytes &&
           inode_bytes >= 128 && inode_bytes <= block_bytes &&
           (inode_bytes & (inode_bytes - 1)) == 0;
}

/* @return 0, -EINVAL, -EROFS: only to be read */
static int64_t
features_check(const struct ext2_super_disk *super, bool read_only)
{
    const uint32_t writable = EXT2_FEATURE_SPARSE | EXT2_FEATURE_LARGE_FILE;

    if (super->revision == 0) {
        return 0;
    }
    if (super->incompatible & ~(uint32_t)EXT2_FEATURE_FILETYPE) {
        return -EINVAL;
    }
    return !read_only && (super->read_only_compatible & ~writable) != 0 ? -EROFS : 0;
}

static void
numbers_take(struct ext2 *fs, const struct ext2_super_disk *super)
{
    fs->block_shift = 10 + super->log_block;
    fs->block_bytes = 1u << fs->block_shift;
    fs->pointers_per_block = fs->block_bytes / 4;
    fs->blocks = super->blocks;
    fs->first_block = super->first_block;
    fs->blocks_per_group = super->blocks_per_group;
    fs->inodes = super->inodes;
    fs->inodes_per_group = super->inodes_per_group;
    fs->inode_bytes = super->revision == 0 ? 128 : super->inode_bytes;
    fs->first_inode = super->revision == 0 ? EXT2_FIRST_FREE : super->first_inode;
    fs->reserved_blocks = super->reserved_blocks;
    fs->was_clean = (super->state & EXT2_STATE_CLEAN) != 0;
    fs->free_blocks = super->free_blocks;
    fs->free_inodes = super->free_inodes;
    fs->group_count =
        (uint32_t)(((uint64_t)super->blocks - super->first_block + super->blocks_per_group - 1) /
                   super->blocks_per_group);
}

/* A run of blocks that lies inside the file system. */
static bool
run_is_inside(const struct ext2 *fs, uint32_t first, uint64_t count)
{
    return first > fs->first_block && first < fs->blocks && count <= fs->blocks - first;
}

static bool
groups_are_sound(const struct ext2 *fs)
{
    uint64_t bytes = (uint64_t)fs->inodes_per_group * fs->inode_bytes;
    uint64_t table = (bytes + fs->block_bytes - 1) >> fs->block_shift;

    for (uint32_t i = 0; i < fs->group_count; i++) {
        const struct ext2_group_disk *group = &fs->groups[i];

        if (!run_is_inside(fs, group->block_bitmap, 1) ||
            !run_is_inside(fs, group->inode_bitmap, 1) ||
            !run_is_inside(fs, group->inode_table, table)) {
            return false;
        }
    }
    return true;
}

static int64_t
groups_read(struct ext2 *fs)
{
    uint64_t bytes = (uint64_t)fs->group_count * sizeof *fs->groups;

    if (fs->group_count > GROUPS_MAX ||
        (uint64_t)fs->group_count * fs->inodes_per_group != fs->inodes ||
        fs->inodes < EXT2_FIRST_FREE || fs->first_inode < EXT2_FIRST_FREE ||
        fs->first_inode > fs->inodes ||
        !run_is_inside(fs, fs->first_block + 1, (bytes + fs->block_bytes - 1) >> fs->block_shift)) {
        return -EINVAL;
    }
    fs->groups = kvmem_zalloc((size_t)bytes);
    fs->bitmap = kmem_alloc(fs->block_bytes);
    if (fs->groups == NULL || fs->bitmap == NULL) {
        return -ENOMEM;
    }
    uint32_t per_block = fs->block_bytes / sizeof *fs->groups;
    for (uint32_t i = 0; i < fs->group_count; i += per_block) {
        uint32_t count = fs->group_count - i < per_block ? fs->group_count - i : per_block;
        int64_t error = ext2_meta_read(fs, fs->first_block + 1 + i / per_block, 0, &fs->groups[i],
                                       count * sizeof *fs->groups);

        if (error != 0) {
            return error;
        }
    }
    return groups_are_sound(fs) ? 0 : -EUCLEAN;
}

/* ---- states -------------------------------------------------------------------------------------- */

/* Bytes of the superblock from @offset on. */
static int64_t
super_write(struct ext2 *fs, size_t offset, const void *from, size_t bytes)
{
    uint32_t block = SUPER_OFFSET >> fs->block_shift;
    uint32_t within = SUPER_OFFSET & (fs->block_bytes - 1);

    return ext2_meta_write(fs, block, within + (uint32_t)offset, from, bytes);
}

/* Say on the disk whether it is in order. */
static int64_t
state_write(struct ext2 *fs, bool in_use)
{
    bool failed = atomic_load(&fs->superblock->failed);
    uint16_t state = (uint16_t)((!in_use && fs->was_clean && !failed ? EXT2_STATE_CLEAN : 0) |
                                (failed ? EXT2_STATE_ERRORS : 0));
    uint32_t now = (uint32_t)time_now().seconds;
    int64_t error = super_write(fs, offsetof(struct ext2_super_disk, state), &state, sizeof state);

    if (error == 0) {
        error = super_write(fs, offsetof(struct ext2_super_disk, written), &now, sizeof now);
    }
    int64_t synced = disk_object_sync(fs->disk, fs->meta, 0, SIZE_MAX);
    return error != 0 ? error : synced;
}

static int64_t
inode_start_sync(struct inode *inode)
{
    if (S_ISTYPE(inode->mode, S_IFREG) && inode->object != NULL) {
        (void)qr_object_start_sync(inode->object, 0, SIZE_MAX, SIZE_MAX);
    }
    return 0;
}

static int64_t
ext2_sync(struct superblock *superblock)
{
    struct ext2 *fs = superblock->data;

    (void)ext2_each_inode(fs, inode_start_sync);
    int64_t error = ext2_each_inode(fs, ext2_contents_sync);
    int64_t counts = ext2_counts_store(fs);
    int64_t meta = disk_object_sync(fs->disk, fs->meta, 0, SIZE_MAX);

    return error != 0 ? error : counts != 0 ? counts : meta;
}

static int64_t
inode_is_idle(struct inode *inode)
{
    return S_ISTYPE(inode->mode, S_IFREG) && atomic_load(&inode->write_count) > 0 ? -EBUSY : 0;
}

static int64_t
ext2_remount(struct superblock *superblock, bool read_only)
{
    struct ext2 *fs = superblock->data;

    if (!read_only) {
        if (fs->disk->read_only || atomic_load(&superblock->failed)) {
            return -EROFS;
        }
        return state_write(fs, true);
    }
    int64_t error = ext2_each_inode(fs, inode_is_idle);
    if (error == 0) {
        error = ext2_sync(superblock);
    }
    return error != 0 ? error : state_write(fs, false);
}

static uint64_t
overhead_of(const struct ext2 *fs)
{
    uint64_t descriptors =
        ((uint64_t)fs->group_count * sizeof *fs->groups + fs->block_bytes - 1) >> fs->block_shift;
    uint64_t table =
        ((uint64_t)fs->inodes_per_group * fs->inode_bytes + fs->block_bytes - 1) >> fs->block_shift;

    return fs->first_block + (1 + descriptors) + fs->group_count * (2 + table);
}

static void
ext2_room(struct superblock *superblock, struct superblock_room *out)
{
    struct ext2 *fs = superblock->data;
    uint64_t overhead = overhead_of(fs);

    qr_mutex_lock(&fs->alloc_lock);
    *out = (struct superblock_room){
        .block_bytes = fs->block_bytes,
        .blocks = fs->blocks > overhead ? fs->blocks - overhead : 0,
        .free = fs->free_blocks,
        .available =
            fs->free_blocks > fs->reserved_blocks ? fs->free_blocks - fs->reserved_blocks : 0,
        .files = fs->inodes,
        .free_files = fs->free_inodes,
    };
    qr_mutex_unlock(&fs->alloc_lock);
}

/* ---- mounting ------------------------------------------------------------------------------------ */

static void
fs_free(struct ext2 *fs)
{
    if (fs->meta != NULL) {
        qr_object_put(fs->meta);
    }
    kvmem_free(fs->groups);
    kmem_free(fs->bitmap);
    atomic_store(&fs->disk->holders, 0);
    kmem_free(fs);
}

static void
ext2_destroy(struct superblock *superblock)
{
    struct ext2 *fs = superblock->data;

    if (!(superblock->mount_flags & MS_RDONLY)) {
        int64_t error = ext2_counts_store(fs);
        int64_t written = state_write(fs, false);

        if (error != 0 || written != 0) {
            printk("ext2: %s: not all of it could be written at the unmount\n", fs->disk->name);
        }
    }
    fs_free(fs);
}

/* The disk that a path names. */
static int64_t
disk_find(const char *source, struct disk **out)
{
    struct dentry *dentry;
    int64_t error = path_lookup(AT_FDCWD, source, LINKS_FOLLOW, &dentry);

    if (error != 0) {
        return error;
    }
    error = -ENOTBLK;
    if (S_ISTYPE(dentry->inode->mode, S_IFBLK)) {
        *out = disk_of_number(dentry->inode->rdev);
        error = *out == NULL ? -ENXIO : 0;
    }
    dentry_put(dentry);
    return error;
}

static int64_t
super_read(struct ext2 *fs, bool read_only)
{
    struct disk *disk = fs->disk;
    struct ext2_super_disk super;
    /* What was written through /dev/vda is on the disk before it is read past its pages. */
    int64_t error = disk->read_only ? 0 : disk_object_sync(disk, disk->object, 0, SIZE_MAX);

    if (error == 0) {
        error = raw_read(disk, SUPER_OFFSET, &super, sizeof super);
    }
    if (error == 0 && !numbers_are_sound(&super, disk)) {
        error = -EINVAL;
    }
    if (error == 0) {
        error = features_check(&super, read_only);
    }
    (void)qr_object_drop_clean(disk->object);
    if (error == 0) {
        numbers_take(fs, &super);
        error = ext2_meta_create(fs);
    }
    return error != 0 ? error : groups_read(fs);
}

static int64_t
root_make(struct ext2 *fs)
{
    struct superblock *superblock = fs->superblock;
    struct inode *inode;
    int64_t error = ext2_inode_get(fs, EXT2_ROOT, &inode);

    if (error != 0) {
        return error;
    }
    if (!S_ISTYPE(inode->mode, S_IFDIR)) {
        inode_put(inode);
        return -EUCLEAN;
    }
    ext2_of(inode)->has_name = true;
    superblock->root = dentry_create_root(superblock, inode);
    if (superblock->root == NULL) {
        return -ENOMEM;
    }
    superblock->root->unloaded = true;
    return 0;
}

static int64_t
fs_begin(struct ext2 *fs, bool read_only)
{
    int64_t error = super_read(fs, read_only);

    if (error == 0) {
        error = root_make(fs);
    }
    if (error == 0 && !read_only) {
        error = state_write(fs, true);
    }
    return error;
}

static int64_t
ext2_create(const struct superblock_type *type, const char *source, uint32_t flags,
            const char *options, struct superblock **out)
{
    bool read_only = (flags & MS_RDONLY) != 0;
    struct disk *disk;
    int64_t error = disk_find(source, &disk);

    if (error == 0 && options[0] != '\0' && strcmp(options, "errors=remount-ro") != 0) {
        error = -EINVAL;
    }
    if (error == 0 && !read_only && disk->read_only) {
        error = -EACCES;
    }
    if (error == 0 && atomic_exchange(&disk->holders, 1) != 0) {
        error = -EBUSY;
    }
    if (error != 0) {
        return error;
    }
    struct ext2 *fs = kmem_zalloc(sizeof *fs);
    struct superblock *superblock = fs == NULL ? NULL : superblock_create(type);
    if (superblock == NULL) {
        kmem_free(fs);
        atomic_store(&disk->holders, 0);
        return -ENOMEM;
    }
    fs->disk = disk;
    fs->superblock = superblock;
    qr_spin_init(&fs->table_lock, QR_RANK_NONE);
    for (unsigned i = 0; i < EXT2_BUCKETS; i++) {
        qr_list_init(&fs->table[i]);
    }
    superblock->data = fs;
    superblock->device = disk->rdev;
    superblock->mount_flags = MS_RDONLY; /* nothing is written by what fails below */
    error = fs_begin(fs, read_only);
    if (error != 0) {
        tree_lock_write();
        superblock_destroy(superblock);
        tree_unlock_write();
        return error;
    }
    superblock->mount_flags = flags & MS_RDONLY;
    *out = superblock;
    return 0;
}

const struct superblock_type ext2_type = {
    .name = "ext2",
    .magic = EXT2_MAGIC,
    .writable_tree = true,
    .needs_device = true,
    .create_on = ext2_create,
    .names = &ext2_name_ops,
    .sync = ext2_sync,
    .remount = ext2_remount,
    .room = ext2_room,
    .destroy = ext2_destroy,
};
